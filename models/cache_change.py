"""Changes: the rows of the journal that have not been summed up yet, to look at.

The one idea: a view of ``cache_change``, made with each query; nothing is locked, nothing written.

What may go wrong: it is mistaken for a history.  Rows are summed up every ten minutes or so; how
often a table changes in an hour or a day stands with the table (``cache.relation``).
"""

from odoo import fields, models
from odoo.tools import SQL


class CacheChange(models.Model):
    _name = 'cache.change'
    _description = "Recent Change"
    _order = 'id desc'
    _rec_name = 'relation'
    _auto = False
    _log_access = False

    changed_at = fields.Datetime(string="When", readonly=True)
    kind = fields.Selection(
        [
            ('table', "Table changed"),
            ('key', "Key removed"),
            ('pattern', "Pattern removed"),
            ('tag', "Tag removed"),
            ('user', "User removed"),
            ('all', "Everything removed"),
        ],
        readonly=True,
    )
    relation = fields.Char(string="What", readonly=True)
    transaction = fields.Char(
        readonly=True, help="Number of the transaction of PostgreSQL that made the change."
    )

    @property
    def _table_query(self):
        return SQL(
            """
            SELECT id, changed_at AT TIME ZONE 'utc' AS changed_at, xid::text AS transaction,
                   CASE WHEN relation LIKE '#%%' THEN 'all'
                        WHEN strpos(relation, ':') > 0 THEN split_part(relation, ':', 1)
                        ELSE 'table' END AS kind,
                   CASE WHEN relation LIKE '#%%' THEN ''
                        WHEN strpos(relation, ':') > 0
                        THEN substr(relation, strpos(relation, ':') + 1)
                        ELSE relation END AS relation
              FROM cache_change
            """
        )
