"""Other Odoo servers that this one reads from.

The one idea: a record says where and how, :mod:`services.remote` does it.  The API key goes one
way: it is written to a column that no call of any client reads, and what the form shows says only
that there is one.

What may go wrong: somebody who may change the URL, but does not know the key, has it sent to a
server of their own.  So the key goes when the URL, the database or the login is changed without
it.
"""

import re

from odoo import api, fields, models
from odoo.exceptions import UserError, ValidationError
from odoo.tools import ormcache

from ..services import pool_figures
from ..services.engine import engine_for
from ..services.remote import address, clients
from ..services.remote.client import Client
from ..services.remote.errors import RemoteError
from ..services.remote.names import remote_tag
from ..services.remote.reader import Remote
from . import plain_words

MASK = '********'
NOBODY = '.'
"""Odoo's group that has no members and no superuser: fields that no client may read or write."""

MAX_FAIL_SAFE_S = 12 * 3600
"""Removals are remembered for a day, half of which is for what stands in."""

_WHOSE_KEY = ('url', 'database', 'login')


class CacheRemote(models.Model):
    _name = 'cache.remote'
    _description = "Remote Odoo"
    _order = 'name, id'

    name = fields.Char(
        required=True,
        help="By which code asks for it, and the names of what is kept begin: small letters, "
        "digits, dots, dashes and underscores.",
    )
    active = fields.Boolean(default=True)
    url = fields.Char(string="URL", help="Such as https://erp.example.com.")
    database = fields.Char(help="Empty: the only one of that server.")
    login = fields.Char(help="Of the user whose key it is. Odoo 19 does not need it.")
    api_key = fields.Char(
        string="API Key",
        compute='_compute_api_key',
        inverse='_inverse_api_key',
        groups='base.group_system',
        copy=False,
        help="It can be written and replaced, never read.",
    )
    secret = fields.Char(groups=NOBODY, copy=False, prefetch=False)
    has_key = fields.Boolean(string="Has a Key", compute='_compute_api_key')
    allowed_hosts = fields.Char(
        groups='base.group_system',
        help="Private addresses that this server may connect to for this remote: addresses, "
        "networks such as 10.1.0.0/16, or the name of the server. Public addresses need no "
        "mention.",
    )

    protocol = fields.Selection(
        [('json2', "JSON-2 (Odoo 19)"), ('jsonrpc', "JSON-RPC"), ('xmlrpc', "XML-RPC")],
        help="Empty: it is found out with the first call.",
    )
    version = fields.Char(readonly=True, copy=False, help="Of Odoo, as the last test found.")
    state = fields.Selection(
        [('new', "Not tested"), ('good', "Works"), ('bad', "Does not work")],
        default='new',
        readonly=True,
        copy=False,
        required=True,
    )
    tested_at = fields.Datetime(string="Last Test", readonly=True, copy=False)
    problem = fields.Char(readonly=True, copy=False)

    timeout_s = fields.Float(
        string="Timeout", default=30.0, help="Seconds for a call, repetitions included."
    )
    connect_timeout_s = fields.Float(
        string="Timeout for Connecting", default=5.0, help="Seconds for name, address and TLS."
    )
    retries = fields.Integer(
        default=2, help="How often a read is tried again within its time. Changes never are."
    )
    min_connections = fields.Integer(
        string="Connections, at Least", default=0, help="Kept open by each process that reads."
    )
    max_connections = fields.Integer(
        string="Connections, at Most", default=10, help="Of each process."
    )
    acquire_timeout_s = fields.Float(
        string="Wait for a Connection", default=5.0, help="Seconds; first come, first served."
    )
    idle_timeout_s = fields.Float(
        string="Idle Time-out", default=60.0, help="Seconds after which one not used is closed."
    )
    max_age_s = fields.Float(
        string="Maximum Age", default=600.0, help="Seconds after which a connection is replaced."
    )
    batch_delay_ms = fields.Float(
        string="Batch Delay",
        default=50.0,
        help="Milliseconds that calls wait for others like them while one is under way; a call "
        "that is alone does not wait. 0: never.",
    )

    ttl_s = fields.Float(
        string="Time to Live", default=300.0, help="Seconds; code may say another one."
    )
    fail_safe_s = fields.Float(
        string="Fail-Safe",
        default=3600.0,
        help="Seconds after its life for which an answer stands in while the server is down; at "
        "most 12 hours.",
    )
    follow = fields.Selection(
        [
            ('changes', "If the other server has Tiered Cache"),
            ('write_date', "By the date of the last change otherwise"),
            ('ttl', "Never"),
        ],
        string="Follow Changes",
        default='changes',
        required=True,
        help="What changes over there is removed here; otherwise values end with their life.",
    )
    interval_s = fields.Float(
        string="Ask Every", default=10.0, help="Seconds; one worker asks for all, at least 5."
    )
    follow_ids = fields.One2many('cache.remote.follow', 'remote_id', readonly=True)
    followed_ids = fields.One2many(
        'cache.remote.follow', 'remote_id', readonly=True, domain=[('model', '!=', '')]
    )
    polled_at = fields.Datetime(string="Last Asked", compute='_compute_follow_problem')
    follow_problem = fields.Char(compute='_compute_follow_problem')
    statistics = fields.Json(compute='_compute_statistics')
    statistics_text = fields.Text(compute='_compute_statistics', string="In Words")
    connections = fields.Integer(string="Open Connections", compute='_compute_statistics')

    _name_uniq = models.UniqueIndex('(name)', "There is a remote with this name already.")

    @api.depends('url', 'database', 'login')
    def _compute_api_key(self):
        with_key = self._with_key()
        for remote in self:
            remote.has_key = remote._origin.id in with_key
            remote.api_key = MASK if remote.has_key else False

    def _with_key(self):
        """Ids of those that have one; by SQL, since the key is in no ORM cache."""
        self.env['cache.remote'].flush_model(['name'])
        self.env.cr.execute(
            "SELECT id FROM cache_remote WHERE id = ANY(%s) AND secret <> ''", [self._origin.ids]
        )
        return {id_ for (id_,) in self.env.cr.fetchall()}

    def _inverse_api_key(self):
        for remote in self:
            if remote.api_key != MASK:
                remote._set_secret(remote.api_key or '')
                remote._forget()  # it may be another user's

    def _set_secret(self, key):
        self.flush_recordset()
        self.env.cr.execute(
            "UPDATE cache_remote SET secret = %s WHERE id = ANY(%s)", [key.strip(), self.ids]
        )
        self.invalidate_recordset(['api_key', 'has_key'], flush=False)

    @api.depends('follow_ids.error', 'follow_ids.polled_at')
    def _compute_follow_problem(self):
        """From the row without a model, which is that of the remote."""
        for remote in self:
            rows = remote.sudo().follow_ids
            errors = rows.filtered('error').mapped('error')
            remote.follow_problem = errors[0] if errors else False
            remote.polled_at = rows.filtered(lambda row: not row.model)[:1].polled_at

    def _compute_statistics(self):
        """Of all processes, as they have reported it last."""
        found = self._reported()
        for remote in self:
            total = found.get(remote.name)
            remote.statistics = total or False
            remote.statistics_text = self._statistics_text(total) if total else False
            remote.connections = total['pool']['open'] if total else 0

    @api.model
    def _reported(self):
        """Figures by name, summed over processes; of times the largest."""
        engine = engine_for(self.env.registry)
        reports = [engine.follower.clients.stats()] if engine is not None else []
        own = engine.reporter.token if engine is not None else ''
        for row in self.env['cache.worker'].sudo()._alive():
            if row['token'] != own:
                reports.append(row['details'].get('remotes') or {})
        totals = {}
        for report in reports:
            for name, stats in report.items():
                totals[name] = _sum(totals.get(name), stats)
        return totals

    @api.model
    def _statistics_text(self, stats):
        pool = stats['pool']
        lines = [
            self.env._(
                "Connections: %(open)s open (%(active)s in use, %(idle)s idle, %(healthy)s "
                "healthy), %(queued)s waiting",
                **{name: pool[name] for name in ('open', 'active', 'idle', 'healthy', 'queued')},
            ),
            self.env._(
                "So far: %(created)s opened, %(closed)s closed, %(timeouts)s waits that were too "
                "long; waiting %(mean)s ms in the mean, %(p95)s ms at most in 95 %%; mean age "
                "%(age)s s",
                created=pool['created'],
                closed=pool['closed'],
                timeouts=pool['timeouts'],
                mean=pool['mean_acquire_ms'],
                p95=pool['p95_acquire_ms'],
                age=pool['mean_age_s'],
            ),
            self.env._(
                "Requests: %(requests)s, of which %(retried)s were repetitions; %(shared)s calls "
                "shared an answer, %(batched)s went out in %(batches)s batches",
                **{n: stats[n] for n in ('requests', 'retried', 'shared', 'batched', 'batches')},
            ),
        ]
        if stats['errors']:
            errors = ", ".join(f"{kind} {count}" for kind, count in sorted(stats['errors'].items()))
            lines.append(self.env._("Errors: %s", errors))
        return "\n".join(lines)

    # -- checks ------------------------------------------------------------------------

    @api.constrains('name')
    def _check_name(self):
        for remote in self:
            if not re.fullmatch(r'[a-z][a-z0-9_.-]{0,39}', remote.name or ''):
                raise ValidationError(
                    self.env._(
                        "%s cannot be the name: at most 40 small letters, digits, dots, dashes and "
                        "underscores, a letter first.",
                        remote.name,
                    )
                )

    @api.constrains('name', 'url', 'allowed_hosts')
    def _check_address(self):
        for remote in self.sudo():
            try:
                address.parse_url(remote.url)
                address.parse_allowed(remote.allowed_hosts)
            except ValueError as error:
                raise ValidationError(plain_words.error(self.env, error)) from None

    @api.constrains(
        'timeout_s', 'connect_timeout_s', 'acquire_timeout_s', 'idle_timeout_s', 'max_age_s',
        'min_connections', 'max_connections', 'batch_delay_ms', 'retries', 'ttl_s', 'fail_safe_s',
        'interval_s',
    )  # fmt: skip
    def _check_numbers(self):
        for remote in self:
            for name, (least, most) in LIMITS.items():
                if not least <= remote[name] <= most:
                    raise ValidationError(
                        self.env._(
                            "%(field)s must be between %(least)s and %(most)s.",
                            field=remote._fields[name].string,
                            least=least,
                            most=most,
                        )
                    )
            if remote.min_connections > remote.max_connections:
                raise ValidationError(
                    self.env._("There cannot be more connections at least than at most.")
                )

    # -- changes -----------------------------------------------------------------------

    @api.model_create_multi
    def create(self, vals_list):
        remotes = super().create(vals_list)
        self.env.registry.clear_cache()
        return remotes

    def copy_data(self, default=None):
        found = super().copy_data(default)
        for remote, vals in zip(self, found, strict=True):
            if 'name' not in (default or {}):
                vals['name'] = f'{remote.name[:35]}_copy'
        return found

    def write(self, vals):
        self.check_access('write')
        moved = self._moved(vals)
        if 'name' in vals:
            self._forget()
        result = super().write(vals)
        if moved and vals.get('api_key', MASK) == MASK:  # what everybody sees is no key
            moved._set_secret('')
        if moved:
            moved._forget()
            super(CacheRemote, moved).write({'state': 'new', 'version': False, 'problem': False})
        self.env.registry.clear_cache()
        return result

    def unlink(self):
        self.check_access('unlink')
        self._forget()
        self.env.registry.clear_cache()
        return super().unlink()

    def _moved(self, vals):
        """Those of which it is another server or user from now on."""
        return self.filtered(
            lambda remote: any(
                name in vals and (vals[name] or '') != (remote[name] or '') for name in _WHOSE_KEY
            )
        )

    def _forget(self):
        """Remove what was read from them, and begin to follow anew."""
        manager = self.env['cache.manager'].sudo()
        engine = engine_for(self.env.registry)
        if engine is not None and engine.available:
            for remote in self:
                manager.invalidate_tag(remote_tag(remote.name))
        self.sudo().follow_ids.unlink()

    # -- reading -----------------------------------------------------------------------

    @api.model
    def _get(self, name):
        """The remote of a name, for the code of modules.

        :param str name: e.g. 'headquarters'
        :rtype: services.remote.reader.Remote
        :raise UserError: there is none
        """
        settings = self._settings(name)
        if settings is None:
            raise UserError(
                self.env._(
                    "There is no remote called %s. An administrator can create it in Tiered Cache, "
                    "Remotes.",
                    name,
                )
            )
        engine = engine_for(self.env.registry)
        client = engine.follower.clients.get(settings) if engine else Client(settings)
        return Remote(self.env, engine if engine and engine.available else None, settings, client)

    @api.model
    @ormcache('name')
    def _settings(self, name):
        self.env['cache.remote'].flush_model()
        found = clients.read_settings(self.env.cr, name)
        return found[0] if found else None

    def action_test(self):
        """Connect, find out version and protocol, and say what is wrong."""
        self.ensure_one()
        self.env['cache.manager']._check_group('tiered_cache.group_cache_admin')
        self.check_access('read')
        self.flush_recordset()
        found = clients.read_settings(self.env.cr, self.name)
        if not found:
            raise UserError(self.env._("This remote is archived."))
        try:
            client = Client(found[0])
            try:
                protocol, version = client.test()
            finally:
                client.close()
        except (RemoteError, ValueError) as error:
            problem = f"{type(error).__name__}: {str(error).rstrip('.')}. {self._advice(error)}"
            return self._tested('bad', problem.strip(), {})
        return self._tested('good', '', {'protocol': protocol, 'version': version})

    def _advice(self, error):
        """What to look at."""
        reach = self.env._(
            "Are URL and database right, does the server run, and may this one reach it?"
        )
        return {
            'unreachable': reach,
            'timeout': reach,
            'refused': self.env._("If that is meant, name it in Allowed Hosts."),
            'authentication': self.env._(
                "Give the API key of a user of that server; before Odoo 19 the login as well."
            ),
            'protocol': self.env._(
                "Is it the URL of an Odoo, and is the name of the database right?"
            ),
        }.get(getattr(error, 'kind', ''), '')

    def _tested(self, state, problem, found):
        values = {'state': state, 'problem': problem or False, **found}
        self.sudo().write({**values, 'tested_at': fields.Datetime.now()})
        self.env.registry.clear_cache()
        message = problem or self.env._("Odoo %s answers.", found['version'])
        return {
            'type': 'ir.actions.client',
            'tag': 'display_notification',
            'params': {
                'title': self.env._("Test Connection"),
                'message': message,
                'type': 'danger' if problem else 'success',
                'next': {'type': 'ir.actions.client', 'tag': 'soft_reload'},
            },
        }


LIMITS = {
    'timeout_s': (0.1, 600),
    'connect_timeout_s': (0.1, 60),
    'acquire_timeout_s': (0.01, 60),
    'idle_timeout_s': (1, 3600),
    'max_age_s': (1, 86_400),
    'min_connections': (0, 100),
    'max_connections': (1, 100),
    'batch_delay_ms': (0, 1000),
    'retries': (0, 10),
    'ttl_s': (1, 86_400),
    'fail_safe_s': (0, MAX_FAIL_SAFE_S),
    'interval_s': (5, 86_400),
}
"""Seconds, milliseconds and numbers as the names say."""


def _sum(total, stats):
    """Figures of two processes as of one, see :func:`services.pool_figures.total`."""
    if total is None:
        return stats
    numbers = [
        {n: value for n, value in one.items() if isinstance(value, int)} for one in (total, stats)
    ]
    return {
        **pool_figures.total(numbers),
        'pool': pool_figures.total([total['pool'], stats['pool']]),
        'errors': pool_figures.total([total['errors'], stats['errors']]),
        # one that is not closed is worth knowing
        'breaker': total['breaker'] if total['breaker'] != 'closed' else stats['breaker'],
    }
