"""The log: what people, schedules and rules of people did with the cache.

The one idea: a plain record for each deed, written in the transaction of the deed, so that it says
what has happened and nothing else.  Nobody creates, changes or deletes one by hand.

What may go wrong: a removal goes on in the background, and its process dies.  What it has not
reached stays in the tiers, invalid, until it expires; the record says so when it has heard nothing
for :data:`SILENCE_S`.
"""

import contextlib
from datetime import timedelta

from odoo import api, fields, models

from ..services.engine import engine_for
from .retention import remove_older_than

SILENCE_S = 120

TIERS = ('l1', 'l2', 'l3')


class CacheLog(models.Model):
    _name = 'cache.log'
    _description = "Cache Log"
    _order = 'create_date desc, id desc'
    _rec_name = 'summary'

    create_date = fields.Datetime(string="When", readonly=True)
    create_uid = fields.Many2one('res.users', string="Who", readonly=True)
    action = fields.Selection(
        [
            ('remove', "Removed"),
            ('schedule', "Scheduled"),
            ('cancel', "Cancelled"),
            ('create', "Created"),
            ('change', "Changed"),
            ('delete', "Deleted"),
            ('guard', "Guarded"),
            ('release', "Released"),
        ],
        required=True,
        readonly=True,
    )
    summary = fields.Char(string="What", required=True, readonly=True)
    details = fields.Text(readonly=True, help="What was changed, or why.")
    kind = fields.Char(readonly=True)
    target = fields.Char(readonly=True)
    state = fields.Selection(
        [('running', "Running"), ('done', "Done")], default='done', required=True, readonly=True
    )
    status = fields.Selection(
        [('running', "Running"), ('done', "Done"), ('left', "Left to Expiry")],
        compute='_compute_status',
        help="Running: the tiers are being emptied in the background; what was removed is invalid "
        "already. Left to Expiry: the process has ended meanwhile, and the rest goes when its time "
        "is over.",
    )
    removed_l1 = fields.Integer(string="Removed from L1", readonly=True, aggregator=None)
    removed_l2 = fields.Integer(string="Removed from L2", readonly=True, aggregator=None)
    removed_l3 = fields.Integer(string="Removed from L3", readonly=True, aggregator=None)
    removed = fields.Integer(
        string="Entries",
        compute='_compute_removed',
        help="Taken out of the tiers: L1 of the worker that did it, L2 and L3. In all other "
        "workers they are invalid from the same moment on.",
    )
    progress = fields.Json(readonly=True, help="By tier, written by the process that empties them.")
    percent = fields.Float(string="Percent Done", compute='_compute_percent')
    finished_at = fields.Datetime(string="Finished", readonly=True)

    _create_date_idx = models.Index('(create_date)')

    @api.depends('state', 'write_date')
    def _compute_status(self):
        heard = fields.Datetime.now() - timedelta(seconds=SILENCE_S)
        for log in self:
            silent = log.write_date and log.write_date < heard
            log.status = 'left' if log.state == 'running' and silent else log.state

    @api.depends('removed_l1', 'removed_l2', 'removed_l3', 'progress')
    def _compute_removed(self):
        for log in self:
            told = log.progress or {}
            log.removed = sum(
                told[tier]['removed'] if tier in told else log[f'removed_{tier}'] for tier in TIERS
            )

    @api.depends('state', 'progress')
    def _compute_percent(self):
        for log in self:
            told = (log.progress or {}).values()
            pairs = [
                (tier['looked_at'], tier['estimated_total'] or tier['looked_at']) for tier in told
            ]
            total = sum(total for _looked_at, total in pairs)
            looked_at = sum(min(pair) for pair in pairs)
            # of what is not done yet nobody knows how much is left, so it is never all
            share = min(99, 100 * looked_at / total if total else 0)
            log.percent = share if log.state == 'running' else 100

    # -- writing it ----------------------------------------------------------------------

    @api.model
    def _note(self, action, summary, details=False, **values):
        """Write down what the current user does.

        :param summary: one line, with names as they are in the backend
        """
        return self.sudo().create(
            {'action': action, 'summary': summary, 'details': details, **values}
        )

    @api.model
    def _note_changes(self, action, records, values=None, before=None):
        """Write down what was done to records, unless it was only their order.

        :param values: what was written
        :param before: texts of these fields before, by record
        """
        names = [name for name in values or () if name in records._fields and name != 'sequence']
        if action == 'change' and not names:
            return
        for record in records:
            after = self._texts(record, names)
            old = (before or {}).get(record, {})
            changed = [name for name in names if old.get(name, "") != after[name]]
            if action == 'change' and not changed:
                continue
            lines = [
                f"{record._fields[name]._description_string(self.env)}: "
                + (f"{old.get(name) or '–'} → " if action == 'change' else '')
                + (after[name] or '–')
                for name in changed
            ]
            self._note(
                action,
                f"{record._description}: {record.display_name}",
                "\n".join(lines) if action != 'delete' else False,
            )

    @contextlib.contextmanager
    def _changing(self, records, vals):
        """Write down what is changed in records by writing values within it."""
        names = [name for name in vals if name in records._fields]
        before = {record: self._texts(record, names) for record in records}
        yield
        self._note_changes('change', records, vals, before)

    @api.model
    def _texts(self, record, names):
        """Values of fields as people read them."""
        return {
            name: record[name].display_name or ""
            if record._fields[name].relational
            else str(record._fields[name].convert_to_export(record[name], record) or "")
            for name in names
        }

    @api.model
    def _removing(self, kind, target, summary, remove):
        """Do a removal, and write it down with what becomes of it in the background.

        :param remove: ``remove(engine)`` returns how many entries went at once, by tier
        """
        engine = engine_for(self.env.registry)
        log = self._note('remove', summary, kind=kind, target=target)
        with engine.emptying.telling(engine.reports.on(log.id)) as left:
            counts = remove(engine)
        values = {f'removed_{tier}': counts.get(tier, 0) for tier in TIERS}
        if left:
            values['state'] = 'running'
        else:
            values['finished_at'] = fields.Datetime.now()
        log.write(values)
        return counts

    @api.model
    def _remove_older_than(self, days):
        """Forget what is old; part of the maintenance.

        :return: how many rows went
        """
        return remove_older_than(self, days, 'create_date')
