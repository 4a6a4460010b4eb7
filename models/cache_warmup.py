"""Warm-up: what shall be in the cache before somebody asks for it.

The one idea: a record says what, for whom and when; a scheduled action does it, call by call as
:mod:`.replay` makes them, a few seconds at a time, and notes in the list how far it is
(:mod:`..services.warming`).

*When* is never guessed.  A server has been restarted if its first process is younger than the last
run; code was changed if the digest of all that is running, or Odoo's own sequence of installations,
differs from the one that was noted when the last run began.

What may go wrong: nothing runs scheduled actions (``--max-cron-threads=0``): the record then stays
*Waiting*.  What is to be warmed takes longer than the budget: the run ends as *Out of Time*, with
the most valuable calls done.
"""

import logging
import os
import time
from datetime import timedelta

import psutil
import psycopg2

from odoo import api, fields, models
from odoo.exceptions import UserError, ValidationError
from odoo.service import server
from odoo.tools import SQL, config

from ..services import calls, named, warming
from ..services.engine import engine_for
from ..services.keys import InvalidKey
from . import plain_words, replay

_logger = logging.getLogger(__name__)

MAX_CALLS = 10_000

EDITABLE = frozenset(
    (
        'name', 'active', 'sequence', 'kind', 'max_calls', 'days', 'namespace', 'method',
        'user_ids', 'lang_ids', 'after_restart', 'after_upgrade', 'every_minutes', 'next_at',
        'budget_s', 'note', 'line_ids', 'stop',
    )
)  # fmt: skip
"""What people write; the rest is what happened."""

NOT_BEGUN = ('idle', 'done', 'partial', 'stopped')

_EMPTY = {
    **dict.fromkeys(warming.STATES, 0), 'saved_ms': 0.0, 'worked_s': 0.0, 'finished_at': False,
    'stop': False,
}  # fmt: skip

_DUE = """
SELECT id FROM cache_warmup WHERE active AND state IN ('waiting', 'running')
 ORDER BY state = 'waiting', sequence, id
"""


class CacheWarmup(models.Model):
    _name = 'cache.warmup'
    _description = "Cache Warm-up"
    _order = 'sequence, id'

    name = fields.Char(required=True, default=lambda self: self.env._("What people use most"))
    active = fields.Boolean(default=True)
    sequence = fields.Integer(default=10)
    kind = fields.Selection(
        [
            ('hot', "What saves most time"),
            ('list', "A list to look through"),
            ('namespace', "Named entries of a namespace"),
            ('method', "A method of a module"),
        ],
        string="What",
        required=True,
        default='hot',
    )
    max_calls = fields.Integer(
        string="Number of Calls",
        default=500,
        help=f"At most {MAX_CALLS:,}. A page makes about four.",
    )
    days = fields.Integer(
        string="Asked For In", default=7, help="Days since the cache last answered a call."
    )
    namespace = fields.Char(
        help="What the names of entries begin with: supplier, or supplier:detail."
    )
    method = fields.Selection(
        selection='_methods', help="Modules offer methods with the decorator @warmup."
    )
    user_ids = fields.Many2many(
        'res.users', string="Users", help="Only what was recorded for them. Empty: for everybody."
    )
    lang_ids = fields.Many2many(
        'res.lang', string="Languages", help="Only what was recorded in these. Empty: in all."
    )
    after_restart = fields.Boolean(
        default=True, help="When the server was started again: its memory (L1) is empty then."
    )
    after_upgrade = fields.Boolean(
        string="After an Upgrade",
        default=True,
        help="When apps were installed or upgraded, or the code has changed: nothing that was kept "
        "before is used then.",
    )
    every_minutes = fields.Integer(
        string="Every",
        help="In minutes. 0: not at regular times. What is still there is left alone.",
    )
    next_at = fields.Datetime(string="Next Time", default=fields.Datetime.now, copy=False)
    budget_s = fields.Integer(
        string="Time Budget",
        default=300,
        help="A run ends after that many seconds of work. It pauses between calls and takes half "
        "of one processor at most.",
    )
    note = fields.Char(string="Reason", help="For the next administrator.")
    line_ids = fields.One2many('cache.warmup.line', 'warmup_id', string="Calls", copy=False)

    state = fields.Selection(
        [
            ('idle', "Not Run Yet"),
            ('waiting', "Waiting"),
            ('running', "Running"),
            ('done', "Done"),
            ('partial', "Out of Time"),
            ('stopped', "Stopped"),
        ],
        required=True,
        readonly=True,
        default='idle',
        copy=False,
    )
    stop = fields.Boolean(copy=False)
    trigger = fields.Selection(
        [
            ('button', "Button"),
            ('restart', "Restart"),
            ('upgrade', "Upgrade"),
            ('time', "Regular time"),
            ('code', "Code of a module"),
        ],
        string="Started By",
        readonly=True,
        copy=False,
    )
    fingerprint = fields.Char(readonly=True, copy=False, groups=fields.NO_ACCESS)
    started_at = fields.Datetime(string="Last Run", readonly=True, copy=False)
    finished_at = fields.Datetime(string="Finished", readonly=True, copy=False)
    warmed_at = fields.Datetime(readonly=True, copy=False, groups=fields.NO_ACCESS)
    total = fields.Integer(string="To Do", readonly=True, copy=False)
    warmed = fields.Integer(readonly=True, copy=False, help="Computed and kept.")
    present = fields.Integer(string="Was There", readonly=True, copy=False, help="A tier had them.")
    skipped = fields.Integer(readonly=True, copy=False)
    failed = fields.Integer(readonly=True, copy=False)
    saved_ms = fields.Float(
        string="Spared (ms)", readonly=True, copy=False, digits=(16, 0),
        help="What the first person who asks does not have to wait for, in milliseconds.",
    )  # fmt: skip
    worked_s = fields.Float(string="Took (s)", readonly=True, copy=False, digits=(16, 1))
    progress = fields.Float(compute='_compute_progress', digits=(16, 0), help="In per cent.")

    @api.model
    def _methods(self):
        found = warming.methods_of(self.env.registry)
        return [(f'{model}.{method}',) * 2 for model, method in found]

    @api.depends('total', 'state', *warming.STATES)
    def _compute_progress(self):
        for record in self:
            made = sum(record[state] for state in warming.STATES)
            share = 100 * made / record.total if record.total else 0
            record.progress = 100 if record.state == 'done' else min(share, 100)

    # -- what may be written -----------------------------------------------------------

    @api.model_create_multi
    def create(self, vals_list):
        for vals in vals_list:
            self._check_editable(vals)
        records = super().create(vals_list)
        engine = engine_for(self.env.registry)
        records.sudo().write({'fingerprint': _fingerprint(engine)})
        records._wake_at_the_time()
        return records

    def write(self, vals):
        self._check_editable(vals)
        result = super().write(vals)
        if {'next_at', 'every_minutes'} & vals.keys():
            self._wake_at_the_time()
        return result

    @api.model
    def _check_editable(self, vals):
        if not self.env.su and (others := vals.keys() - EDITABLE):
            raise UserError(
                self.env._("%s cannot be set: it tells what happened.", ", ".join(sorted(others)))
            )

    @api.constrains('max_calls', 'days', 'every_minutes', 'budget_s')
    def _check_numbers(self):
        limits = {
            'max_calls': (1, MAX_CALLS), 'days': (1, 3650), 'every_minutes': (0, 525_600),
            'budget_s': (1, 86_400),
        }  # fmt: skip
        for record in self:
            for name, (least, greatest) in limits.items():
                if not least <= record[name] <= greatest:
                    raise ValidationError(
                        self.env._(
                            "%(field)s must be a number between %(least)s and %(greatest)s.",
                            field=self._fields[name]._description_string(self.env),
                            least=least,
                            greatest=greatest,
                        )
                    )

    @api.constrains('kind', 'namespace', 'method', 'user_ids')
    def _check_what(self):
        for record in self:
            if record.kind == 'namespace':
                try:
                    named.base_key(record.namespace or '')
                except InvalidKey as error:
                    raise ValidationError(plain_words.error(self.env, error)) from None
            offered = dict(self._methods())
            if record.kind == 'method' and not (record.method in offered and record.user_ids):
                raise ValidationError(
                    self.env._("Choose a method, and the users for whom it is called.")
                )

    # -- buttons -----------------------------------------------------------------------

    def action_start(self):
        """Begin a new run soon (button; cache administrators)."""
        self.check_access('write')
        self._start('button')

    def action_continue(self):
        """Go on with a run that was stopped or ran out of time (button)."""
        self.check_access('write')
        for record in self:
            if record.state not in ('stopped', 'partial'):
                raise UserError(self.env._("There is nothing to go on with. Start it anew."))
        self.sudo().write({'state': 'running', 'stop': False, 'worked_s': 0.0})
        self._wake()

    def action_stop(self):
        """Stop a run within a second, or do not begin it (button)."""
        self.check_access('write')
        waiting = self.filtered(lambda record: record.state == 'waiting')
        waiting.sudo().write({'state': 'stopped'})
        (self - waiting).filtered(lambda record: record.state == 'running').write({'stop': True})

    def action_learn(self):
        """Replace the list by the most valuable calls of the last days (button)."""
        self.check_access('write')
        for record in self:
            if record.state in ('waiting', 'running'):
                raise UserError(self.env._("Stop the run first: it works on this list."))
        count = sum(record._learn() for record in self)
        if count:
            message = self.env._("The list now holds the %s most valuable calls.", count)
        else:
            message = self.env._(
                "Nothing has been recorded yet. Work with Odoo for a while, then learn again."
            )
        return {
            'type': 'ir.actions.client',
            'tag': 'display_notification',
            'params': {
                'type': 'success' if count else 'warning',
                'message': message,
                'next': {'type': 'ir.actions.client', 'tag': 'soft_reload'},
            },
        }

    # -- for the code of modules -------------------------------------------------------

    def _start(self, trigger='code'):
        """Have runs begun soon by the scheduled action; what was running begins anew."""
        self.sudo().write({'state': 'waiting', 'trigger': trigger, 'stop': False})
        self._wake()

    def _run(self, budget_s=None):
        """Run in this process, until it is done or out of time; for scripts and the command line.

        Commits, and returns when it has ended.  Where another process is at it already, nothing
        happens.

        :param budget_s: how long this run may take, seconds; by default as long as any
        :return: state and counters, or None where another process is at it
        """
        self.ensure_one()
        engine = self._engine()
        self.env.cr.commit()  # pylint: disable=invalid-commit  # the run has other connections
        state = self._work(engine, float('inf'), anew=True, budget_s=budget_s)
        self.env.cr.commit()  # pylint: disable=invalid-commit  # to see what these have written
        self.invalidate_recordset()
        return state and {'state': self.state, **{n: self[n] for n in ('total', *warming.STATES)}}

    def _learn(self):
        """Fill the list with the most valuable calls.

        :return: how many there are
        """
        self.ensure_one()
        found = (
            self.env['cache.call'].sudo()._most_valuable(self.max_calls, self.days, self._domain())
        )
        lines = self.line_ids.sudo()
        lines.unlink()
        lines.create(
            [
                {
                    'warmup_id': self.id,
                    'sequence': number,
                    'call_id': call.id,
                    'name': call.display_name,
                    'user_id': call.user_id.id,
                    'lang': call.lang,
                }
                for number, call in enumerate(found, 1)
            ]
        )
        return len(found)

    def _domain(self):
        domain = []
        if self.user_ids:
            domain.append(('user_id', 'in', self.user_ids.ids))
        if self.lang_ids:
            domain.append(('lang', 'in', self.lang_ids.mapped('code')))
        if self.kind == 'namespace':
            escaped = self.namespace.replace('\\', '\\\\').replace('_', '\\_').replace('%', '\\%')
            domain += [('kind', '=', calls.NAMED)]
            domain += ['|', ('name', '=', self.namespace), ('name', '=like', f'{escaped}:%')]
        return domain

    # -- the scheduled action ----------------------------------------------------------

    @api.model
    def _cron_run(self):
        """Do what is due, a few seconds at a time."""
        engine = engine_for(self.env.registry)
        if engine is None or not engine.available:
            return  # apps are being installed; the next run does it
        cron = self.env['ir.cron']
        until = self.env.context.get('cron_end_time', time.monotonic() + 10)
        self._wake_what_is_due(engine)
        cron._commit_progress()
        made = 0
        for record in self._due():
            if time.monotonic() >= until:
                break
            try:
                made += bool(record._work(engine, until))
            except psycopg2.errors.SerializationFailure:
                continue  # somebody changes the record just now; it is looked at again
        # what others have written meanwhile is not in this transaction's snapshot
        self.env.cr.commit()  # pylint: disable=invalid-commit  # nothing but progress is in it
        left = len(self._due())
        if left:
            self._wake()  # Odoo would look again after a minute
        cron._commit_progress(made, remaining=left)

    @api.model
    def _due(self):
        self.env.cr.execute(SQL(_DUE))
        return self.browse([id_ for (id_,) in self.env.cr.fetchall()])

    def _work(self, engine, until, anew=False, budget_s=None):
        """Go on with a run.

        :param until: see :meth:`services.warming.Run.work`
        :param anew: whether to begin one
        :param budget_s: instead of the record's
        :return: the state that it is in, or None where somebody else is at it
        """
        self.ensure_one()
        with warming.alone(engine, self.id) as connection:
            if connection is None:
                return None
            with self.env.registry.cursor() as cr:
                own = self.with_env(self.env(cr=cr, su=True))
                if anew:
                    own.write({'state': 'waiting', 'trigger': 'code', 'stop': False})
                if own.state == 'waiting':
                    own._begin(engine)
                if own.state != 'running':
                    return own.state
                all_s = own.budget_s if budget_s is None else budget_s
                left_s = max(all_s - own.worked_s, 0.0)
                method, kind = own.method, own.kind
            replayer = replay.Replayer(engine, self.env)

            def perform(line):
                if kind == 'method':
                    model, _dot, name = (method or '').rpartition('.')
                    if (model, name) not in warming.methods_of(engine.registry):
                        text = self.env._("No module offers the method %s any more.", method)
                        return replay.Outcome(replay.FAILED, text)
                    return replayer.method(model, name, line.uid, line.lang)
                return replayer.call(line.body or b'')

            run = warming.Run(engine, connection, self.id, perform, left_s)
            try:
                return run.work(until)
            except replay.Stale:
                return 'running'  # goes on with the new registry

    def _begin(self, engine):
        """Make the list of a run that is waiting."""
        if self.kind in ('hot', 'namespace'):
            self._learn()
        elif self.kind == 'method':
            self._list_users()
        self.line_ids.write({'outcome': False, 'message': False, 'duration_ms': 0})
        self.write(
            {
                **_EMPTY,
                'state': 'running',
                'total': len(self.line_ids),
                'started_at': fields.Datetime.now(),
                'fingerprint': _fingerprint(engine),
            }
        )

    def _list_users(self):
        self.line_ids.unlink()
        for user in self.with_context(active_test=False).user_ids:
            for lang in self.lang_ids.mapped('code') or [user.lang]:
                values = {'name': self.method, 'user_id': user.id, 'lang': lang}
                self.line_ids.create({'warmup_id': self.id, **values})

    # -- when --------------------------------------------------------------------------

    @api.model
    def _wake_what_is_due(self, engine):
        now, fingerprint = fields.Datetime.now(), _fingerprint(engine)
        booted_at = now - timedelta(seconds=age_s) if (age_s := server_age_s()) else None
        for record in self.search([('active', '=', True)]):
            reason = record._reason(now, booted_at, fingerprint)
            if not record.fingerprint:
                record.fingerprint = fingerprint
            if record.every_minutes and record.next_at and record.next_at <= now:
                steps = (now - record.next_at) // timedelta(minutes=record.every_minutes) + 1
                record.next_at += steps * timedelta(minutes=record.every_minutes)
            if reason:
                record._start(reason)

    def _reason(self, now, booted_at, fingerprint):
        """Why it is to begin now, or ''."""
        if self.state == 'waiting':
            return ''
        # a run that was under way has warmed what is gone now
        if self.after_upgrade and self.fingerprint and self.fingerprint != fingerprint:
            return 'upgrade'
        last = max(filter(None, (self.started_at, self.create_date)))
        if self.after_restart and booted_at and last < booted_at:
            return 'restart'
        is_time = self.every_minutes and self.next_at and self.next_at <= now
        return 'time' if is_time and self.state != 'running' else ''

    def _wake(self):
        cron = self.env.ref('tiered_cache.ir_cron_warmup', raise_if_not_found=False)
        if cron:
            cron.sudo()._trigger()

    def _wake_at_the_time(self):
        cron = self.env.ref('tiered_cache.ir_cron_warmup', raise_if_not_found=False)
        times = {record.next_at for record in self if record.every_minutes and record.next_at}
        if cron and times:
            cron.sudo()._trigger(at=times)

    def _register_hook(self):
        """A process has loaded its registry: look soon whether the server was restarted."""
        super()._register_hook()
        if server_age_s() is None or self.env.cr.readonly:
            return
        try:
            with self.env.cr.savepoint(flush=False):
                self.env.cr.execute(
                    SQL(
                        "SELECT 1 FROM cache_warmup WHERE active"
                        " AND (after_restart OR after_upgrade) LIMIT 1"
                    ),
                    log_exceptions=False,
                )
                if self.env.cr.fetchone():
                    self._wake()
        except psycopg2.errors.UndefinedTable:
            return  # the code is newer than the database: the module is to be upgraded
        except psycopg2.Error:
            # no reason to keep Odoo from starting; the scheduled action looks by itself later
            _logger.info("Tiered Cache: the warm-up could not be woken up.", exc_info=True)

    @api.model
    def _engine(self):
        return self.env['cache.manager']._engine()


def server_age_s():
    """How long the server that this process belongs to has been running, seconds.

    :return: None in a process that belongs to none, such as a shell or an upgrade
    """
    running = server.server
    if running is None or config['stop_after_init']:
        return None
    pid = running.pid if isinstance(running, server.PreforkServer) else os.getpid()
    try:
        return max(time.time() - psutil.Process(pid).create_time(), 0.001)
    except psutil.Error:
        return None


def _fingerprint(engine):
    """What is running: the keys of everything that is kept change with it."""
    if engine is None or not engine.code:
        return False
    return f'{engine.code}:{engine.registry.registry_sequence}'
