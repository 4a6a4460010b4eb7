"""Why a table cannot be watched, as the process says that tried it last.

The one idea: :mod:`services.guards` writes a row where a guard fails and removes it where one
succeeds; ``cache.relation`` shows it.

What may go wrong: it is not written, or outlives the table.  It is for people to read only.
"""

from odoo import fields, models


class CacheGuardFailure(models.Model):
    _name = 'cache.guard.failure'
    _description = "Guard That Failed"
    _rec_name = 'relation'
    _log_access = False

    relation = fields.Char(required=True, readonly=True)
    error = fields.Char(readonly=True)
    failed_at = fields.Datetime(readonly=True)
    count = fields.Integer(readonly=True)

    _relation_uniq = models.UniqueIndex('(relation)')
