"""How far the changes of another Odoo are known here.

The one idea: a row for each model that was read from a remote, and one without a model, whose
cursor is that of the other server.  :mod:`services.remote.following` writes them by SQL; nobody
else does.

What may go wrong: a row is deleted: everything of the remote is removed with the next answer.
"""

from odoo import fields, models


class CacheRemoteFollow(models.Model):
    _name = 'cache.remote.follow'
    _description = "Followed Model of a Remote"
    _order = 'remote_id, model'
    _rec_name = 'model'
    _log_access = False

    remote_id = fields.Many2one('cache.remote', required=True, ondelete='cascade', readonly=True)
    model = fields.Char(readonly=True, help="Empty: the remote itself.")
    cursor = fields.Char(readonly=True)
    polled_at = fields.Datetime(string="Last Asked", readonly=True)
    error = fields.Char(readonly=True)

    _remote_model_uniq = models.UniqueIndex('(remote_id, model)')
