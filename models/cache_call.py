"""Recorded calls: reads that the cache has answered, and how much time that saved.

The one idea: rows are written by :mod:`..services.calls` in batches and only read here; a warm-up
repeats them.

What may go wrong: arguments are data, such as a name that somebody searched for.  So only Cache
Administrators see the rows, ``record_calls`` switches the recording off, rows go
``calls_keep_days`` after the last hit, and with the user.
"""

from odoo import api, fields, models
from odoo.tools import SQL

from ..services import calls, codec, pretty

MAX_SHOWN_CHARS = 10_000


class CacheCall(models.Model):
    _name = 'cache.call'
    _description = "Recorded Call"
    _order = 'value_ms desc, id desc'
    _log_access = False

    digest = fields.Char(required=True, readonly=True, groups=fields.NO_ACCESS)
    key = fields.Char(readonly=True, help="Under which its answer was kept last.")
    kind = fields.Selection(
        [(calls.ORM, "Read"), (calls.NAMED, "Named entry")], required=True, readonly=True
    )
    model = fields.Char(readonly=True)
    method = fields.Char(readonly=True)
    name = fields.Char(readonly=True, help="Of the named entry.")
    user_id = fields.Many2one(
        'res.users', required=True, readonly=True, ondelete='cascade', index=True
    )
    superuser = fields.Boolean(
        readonly=True, help="Made past access rights and record rules, by code of Odoo."
    )
    lang = fields.Char(string="Language", readonly=True)
    hits = fields.Integer(readonly=True, help="How often the cache answered it.")
    saved_ms = fields.Float(
        string="Saved (ms)", readonly=True, digits=(16, 1),
        help="What the answers would have cost to compute, less what the hits took, in "
        "milliseconds, since it was first recorded.",
    )  # fmt: skip
    value_ms = fields.Float(
        string="Value (ms)", readonly=True, digits=(16, 1),
        help="Saved time, of which what was saved a week before the last hit counts half.",
    )  # fmt: skip
    first_at = fields.Datetime(string="First Hit", readonly=True)
    last_at = fields.Datetime(string="Last Hit", readonly=True)
    body = fields.Binary(readonly=True, attachment=False, groups=fields.NO_ACCESS)
    arguments = fields.Text(compute='_compute_arguments')

    _digest_uniq = models.UniqueIndex('(digest)')
    _key_idx = models.Index('(key)')
    _last_at_idx = models.Index('(last_at)')

    @api.depends('model', 'method', 'name')
    def _compute_display_name(self):
        for record in self:
            record.display_name = record.name or f'{record.model}.{record.method}'

    def _compute_arguments(self):
        self.check_access('read')
        self.env.cr.execute(
            SQL("SELECT id, body FROM cache_call WHERE id IN %s", tuple(self.ids) or (0,))
        )
        bodies = dict(self.env.cr.fetchall())
        for record in self:
            record.arguments = record._shown(bodies.get(record.id))

    @api.model
    def _shown(self, body):
        try:
            call = calls.unpack(bytes(body or b''))
        except codec.CorruptPayload:
            return self.env._("Another version of the addon wrote this down.")
        shown = {
            'records': call.ids,
            'arguments': call.args,
            **({'keywords': call.kwargs} if call.kwargs else {}),
            'context': call.context,
            **({'request': call.origin} if call.origin else {}),
        }
        text, cut = pretty.render(shown, MAX_SHOWN_CHARS)
        return text + ('\n…' if cut else '')

    @api.model
    def _most_valuable(self, limit, days, domain=()):
        """The calls that save most time now.

        :param int limit: how many
        :param int days: only those with a hit since so many days
        :param domain: further conditions
        :return: recordset, the most valuable first
        """
        since = fields.Datetime.subtract(fields.Datetime.now(), days=days)
        query = self._search([('last_at', '>=', since), *domain])
        query.order = SQL(f'{calls.CURRENT_VALUE_SQL} DESC, cache_call.id')
        query.limit = limit
        return self.browse(query.get_result_ids())

    @api.model
    def _remove_older_than(self, days):
        """Forget calls; part of the maintenance.

        :return: how many rows went
        """
        removed = calls.purge(self.env.cr, days)
        self.invalidate_model()
        return removed
