"""Scheduled removals: what shall be removed from the cache later, and what became of it.

The one idea: a row is the promise.  It is written in the caller's transaction, a scheduled
action is triggered for just that time, and the removal and the note that it is done are one
commit: a removal is not lost with a restart, and none happens twice.

What may go wrong: nothing runs scheduled actions (``--max-cron-threads=0``); the rows then stay
pending.  A removal that cannot be done, as its model was uninstalled meanwhile, is marked as
failed with the reason, and the others go on.
"""

import logging

import psycopg2

from odoo import api, fields, models
from odoo.exceptions import UserError, ValidationError
from odoo.tools import SQL

from ..services.engine import engine_for
from .retention import remove_older_than

_logger = logging.getLogger(__name__)

EDITABLE = frozenset({'kind', 'target', 'at', 'note'})
"""What people write; the rest is what happened."""

_DUE = """
SELECT id FROM cache_schedule WHERE state = 'pending' AND at <= now() AT TIME ZONE 'utc'
 ORDER BY at, id LIMIT 1 FOR UPDATE SKIP LOCKED
"""


class CacheSchedule(models.Model):
    _name = 'cache.schedule'
    _description = "Scheduled Removal"
    _order = 'at desc, id desc'
    _rec_name = 'target'

    kind = fields.Selection(
        [
            ('key', "Key"),
            ('pattern', "Pattern"),
            ('tag', "Tag"),
            ('model', "Model"),
            ('relation', "Table"),
            ('user', "User"),
            ('all', "Everything"),
        ],
        required=True,
        default='pattern',
        help="What is meant by the target.",
    )
    target = fields.Char(
        help="What to remove: a key such as v1:supplier:detail:42 with all its variants, a pattern "
        "such as v1:supplier:*, a tag, the technical name of a model, the name of a table, the id "
        "of a user.",
    )
    at = fields.Datetime(
        string="When", required=True, index=True, default=fields.Datetime.now, copy=False
    )
    state = fields.Selection(
        [
            ('pending', "Pending"),
            ('done', "Done"),
            ('cancelled', "Cancelled"),
            ('failed', "Failed"),
        ],
        required=True,
        readonly=True,
        default='pending',
        index=True,
        copy=False,
    )
    create_uid = fields.Many2one('res.users', string="Scheduled By", readonly=True)
    finished_at = fields.Datetime(
        string="Finished", readonly=True, copy=False, help="When it was done, failed or cancelled."
    )
    reason = fields.Char(string="Why It Failed", readonly=True, copy=False)
    removed_l1 = fields.Integer(
        string="Removed from L1", readonly=True, copy=False, aggregator=None,
        help="Entries that went at once, in the worker that did it. In all other workers they are "
        "invalid from the same moment on.",
    )  # fmt: skip
    removed_l2 = fields.Integer(
        string="Removed from L2", readonly=True, copy=False, aggregator=None,
        help="Entries that went at once; many go on in the background.",
    )  # fmt: skip
    removed_l3 = fields.Integer(
        string="Removed from L3", readonly=True, copy=False, aggregator=None,
        help="Entries that went at once; many go on in the background.",
    )  # fmt: skip
    note = fields.Char(string="Reason", help="For the next administrator.")

    @api.model_create_multi
    def create(self, vals_list):
        for vals in vals_list:
            self._check_editable(vals)
        records = super().create(vals_list)
        records._wake_at_the_time()
        for record in records:
            record._log('schedule')
        return records

    def write(self, vals):
        self._check_editable(vals)
        if not self.env.su and any(record.state != 'pending' for record in self):
            raise UserError(
                self.env._("Only what is pending can be changed. Duplicate it to do it again.")
            )
        result = super().write(vals)
        if 'at' in vals:
            self._wake_at_the_time()
        return result

    @api.model
    def _check_editable(self, vals):
        if not self.env.su and (others := vals.keys() - EDITABLE):
            raise UserError(
                self.env._("%s cannot be set: it tells what happened.", ", ".join(sorted(others)))
            )

    def _wake_at_the_time(self):
        cron = self.env.ref('tiered_cache.ir_cron_schedule', raise_if_not_found=False)
        times = {record.at for record in self if record.state == 'pending'}
        if cron and times:
            cron.sudo()._trigger(at=times)

    @api.constrains('kind', 'target')
    def _check_target(self):
        for record in self.filtered(lambda schedule: schedule.state == 'pending'):
            try:
                self.env['cache.manager']._check_removal(record.kind, record.target)
            except ValidationError:
                raise
            except UserError as error:
                raise ValidationError(str(error)) from None

    def action_cancel(self):
        """Do not do it (button; cache administrators)."""
        self.check_access('write')
        if any(record.state != 'pending' for record in self):
            raise UserError(self.env._("Only what is pending can be cancelled."))
        self._finish('cancelled')
        for record in self:
            record._log('cancel')

    def _log(self, action):
        self.env['cache.log']._note(
            action,
            self.env['cache.manager']._removal_summary(self.kind, self.target),
            self.env._("For %s (UTC)", fields.Datetime.to_string(self.at)),
            kind=self.kind,
            target=self.target,
        )

    # -- the scheduled action ----------------------------------------------------------

    @api.model
    def _cron_run(self):
        """Do what is due, each in a transaction of its own."""
        engine = engine_for(self.env.registry)
        if engine is None or not engine.available:
            return  # apps are being installed; the next run does it
        while (record := self._next_due()) is not None:
            if record:
                record._run()
                due = [('state', '=', 'pending'), ('at', '<=', fields.Datetime.now())]
                left_s = self.env['ir.cron']._commit_progress(1, remaining=self.search_count(due))
                if left_s <= 0:
                    return  # Odoo starts the next run at once

    @api.model
    def _next_due(self):
        """The first that is due, locked so that nobody else does it; an empty record where
        somebody else was quicker; None where there is nothing to do."""
        cr = self.env.cr
        try:
            with cr.savepoint(flush=False):
                cr.execute(SQL(_DUE), log_exceptions=False)
                row = cr.fetchone()
        except psycopg2.errors.SerializationFailure:
            # done by another worker since this transaction began; look again in a new one
            cr.rollback()
            self.env.invalidate_all(flush=False)
            return self.browse()
        if row is None:
            return None
        record = self.browse(row[0])
        record.invalidate_recordset(flush=False)
        return record

    def _run(self):
        """Remove, and say so; an error is noted and undoes the removal only."""
        self.ensure_one()
        try:
            with self.env.cr.savepoint():
                manager = self.with_user(self.create_uid).env['cache.manager']
                counts = (
                    manager.sudo()
                    .with_context(tiered_cache_log=True)
                    ._remove(self.kind, self.target)
                )
        except psycopg2.errors.SerializationFailure:
            raise
        except Exception as error:
            _logger.warning(
                "Tiered Cache: the scheduled removal %s (%s %s) failed: %s",
                self.id,
                self.kind,
                self.target,
                error,
                exc_info=not isinstance(error, UserError),
            )
            self._finish('failed', reason=str(error)[:1000] or type(error).__name__)
        else:
            self._finish(
                'done', **{f'removed_{tier}': counts.get(tier, 0) for tier in ('l1', 'l2', 'l3')}
            )

    def _finish(self, state, **vals):
        self.sudo().write({'state': state, 'finished_at': fields.Datetime.now(), **vals})

    @api.model
    def _remove_older_than(self, days):
        """Forget what was done, cancelled or failed; part of the maintenance.

        :return: how many rows went
        """
        return remove_older_than(self, days, 'finished_at', SQL("state <> 'pending'"))
