"""Rows that nobody needs any more.

The one idea: one statement by age, in the transaction of the maintenance.
"""

from odoo.tools import SQL


def remove_older_than(model, days, column, condition=None):
    """Delete the rows of a model that are older than so many days.

    :param column: which says how old a row is, in UTC
    :param SQL condition: that they fulfil besides
    :return: how many rows went
    """
    model.env.flush_all()
    model.env.cr.execute(
        SQL(
            "DELETE FROM %s WHERE %s < (now() AT TIME ZONE 'UTC') - make_interval(days => %s)"
            " AND %s",
            SQL.identifier(model._table),
            SQL.identifier(column),
            days,
            condition or SQL("TRUE"),
        )
    )
    count = model.env.cr.rowcount
    model.invalidate_model()
    return count
