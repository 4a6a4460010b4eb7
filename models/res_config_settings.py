"""Settings: the options that are kept in the database.

The one idea: a field ``tiered_cache_<option>`` per option of :mod:`services.options`, which
knows default, unit and range.  Numbers are texts here, because an empty field means "the
default" and 0 means 0; Odoo's ``config_parameter`` cannot tell these apart, nor "off" from
"not set".

What may go wrong: a value that the table refuses is a ValidationError with the table's
sentence, and nothing is saved.  A value that was bad before, or that odoo.conf or the
environment sets, is shown as what it is and left alone.
"""

import re

from lxml import etree

from odoo import api, fields, models
from odoo.exceptions import AccessError, UserError, ValidationError
from odoo.tools import formatLang

from ..services import options, redis_url
from ..services.engine import engine_for
from . import plain_words

PREFIX = 'tiered_cache_'


class ResConfigSettings(models.TransientModel):
    _inherit = 'res.config.settings'

    tiered_cache_enabled = fields.Boolean(string="Answer Reads from the Cache")
    tiered_cache_consistency = fields.Selection(
        [
            ('strong', "Always exact"),
            ('eventual', "Exact up to a few moments"),
            ('weak', "As old as the time to live"),
        ],
        string="How Fresh",
    )
    tiered_cache_max_staleness_s = fields.Char(string="May Lag Behind")
    tiered_cache_time_dependent_ttl_s = fields.Char(string="Results That Look at the Clock")
    tiered_cache_ttl_jitter_percent = fields.Char(string="Spread of Lives")
    tiered_cache_max_entry_kb = fields.Char(string="Largest Result")

    tiered_cache_l1_max_entries = fields.Char(string="Entries in L1")
    tiered_cache_l1_max_mb = fields.Char(string="Memory for L1")
    tiered_cache_l1_policy = fields.Selection(
        [
            ('lru', "Least recently used"),
            ('lfu', "Least frequently used"),
            ('fifo', "First in, first out"),
            ('ttl', "First to expire"),
            ('cost', "What saves least time per byte"),
        ],
        string="What Leaves First",
    )
    tiered_cache_memory_limit_mb = fields.Char(string="Memory of a Process")
    tiered_cache_l1_ttl_s = fields.Char(string="Time to Live in L1")
    tiered_cache_l1_min_cost_ms = fields.Char(string="Minimum Cost for L1")

    tiered_cache_redis_url = fields.Char(string="Redis URL")
    tiered_cache_redis_timeout_ms = fields.Char(string="Longest Wait for Redis")
    tiered_cache_l2_ttl_s = fields.Char(string="Time to Live in L2")
    tiered_cache_l2_min_cost_ms = fields.Char(string="Minimum Cost for L2")
    tiered_cache_l2_max_entries = fields.Char(string="Entries in L2")
    tiered_cache_l2_max_mb = fields.Char(string="Size of L2")

    tiered_cache_l3_enabled = fields.Boolean(string="Keep Entries in the Database")
    tiered_cache_l3_max_entries = fields.Char(string="Entries in L3")
    tiered_cache_l3_max_mb = fields.Char(string="Size of L3")
    tiered_cache_l3_ttl_s = fields.Char(string="Time to Live in L3")
    tiered_cache_l3_min_cost_ms = fields.Char(string="Minimum Cost for L3")

    tiered_cache_audit_rate = fields.Char(string="Share of Audited Hits")
    tiered_cache_capture = fields.Selection(
        [('triggers', "Database triggers"), ('orm', "Odoo only")], string="How Changes Are Seen"
    )
    tiered_cache_guard_lock_timeout_ms = fields.Char(string="Longest Wait for a Table Lock")
    tiered_cache_compaction_rows = fields.Char(string="Journal Rows before Compaction")
    tiered_cache_metrics_flush_s = fields.Char(string="Written Every")
    tiered_cache_metrics_minutes_days = fields.Char(string="By the Minute For")
    tiered_cache_metrics_hours_days = fields.Char(string="By the Hour For")
    tiered_cache_metrics_keep_days = fields.Char(string="By the Day For")
    tiered_cache_schedule_keep_days = fields.Char(string="Listed For")
    tiered_cache_log_keep_days = fields.Char(string="Kept in the Log For")
    tiered_cache_api_max_body_kb = fields.Char(string="Largest Request")
    tiered_cache_api_time_budget_s = fields.Char(string="Time of a Request")
    tiered_cache_api_page_size = fields.Char(string="Rows on a Page")
    tiered_cache_api_supplier_list_fields = fields.Char(string="List of Suppliers")
    tiered_cache_api_supplier_fields = fields.Char(string="One Supplier")
    tiered_cache_api_product_list_fields = fields.Char(string="Pages of Products")
    tiered_cache_api_product_fields = fields.Char(string="One Product")
    tiered_cache_api_order_fields = fields.Char(string="Status of an Order")
    tiered_cache_metrics_addresses = fields.Char(string="Metrics without a Key")
    tiered_cache_indicator = fields.Boolean(string="Show Where Views Come From")
    tiered_cache_record_calls = fields.Boolean(string="Record Calls for Warm-up")
    tiered_cache_calls_keep_days = fields.Char(string="Remembered For")

    tiered_cache_places = fields.Json(
        compute='_compute_tiered_cache_places',
        help="By option that odoo.conf or the environment sets: which of them, in words.",
    )
    tiered_cache_problems = fields.Text(compute='_compute_tiered_cache_places')
    tiered_cache_capture_state = fields.Char(compute='_compute_tiered_cache_state')
    tiered_cache_redis_state = fields.Char(compute='_compute_tiered_cache_state')

    def _compute_tiered_cache_places(self):
        settings = self._tiered_cache_settings()
        places = {
            name: plain_words.error(self.env, options.describe_source(name, settings.source(name)))
            for name in options.OPTIONS
            if settings.is_overridden(name)
        }
        for record in self:
            record.tiered_cache_places = places
            record.tiered_cache_problems = "\n".join(
                plain_words.error(self.env, problem) for problem in settings.problems
            )

    def _compute_tiered_cache_state(self):
        engine = engine_for(self.env.registry)
        stats = engine.stats() if engine is not None and engine.available else None
        capture, redis = (
            self._tiered_cache_state(stats)
            if stats
            else (
                self.env._("The cache is not running in this process; see the server's log."),
                False,
            )
        )
        for record in self:
            record.tiered_cache_capture_state = capture
            record.tiered_cache_redis_state = redis

    @api.model
    def _tiered_cache_state(self, stats):
        """What the process that answers says about guards and about Redis."""
        self.env.cr.execute(
            "SELECT count(*) FROM cache_version"
            " WHERE relation NOT LIKE '#%' AND capture <> 'removal'"
        )
        capture = self.env._(
            "%(guarded)s tables are watched, %(waiting)s are waiting.",
            guarded=self.env.cr.fetchone()[0],
            waiting=stats['guards']['waiting'],
        )
        if errors := stats['guards']['errors']:
            capture += " " + self.env._(
                "Not possible: %s",
                "; ".join(f"{relation}: {error}" for relation, error in sorted(errors.items())),
            )
        redis = 'l2' in stats['tiers'] and self.env._(
            "In this worker: %s",
            plain_words.redis_state(self.env, stats['tiers']['l2']['state']),
        )
        return capture, redis

    @api.model
    def _get_view(self, view_id=None, view_type='form', **options_):
        """Every option shows its default; where odoo.conf or the environment sets it, it is
        read-only and says so.  Done here for all of them, so that none is forgotten."""
        arch, view = super()._get_view(view_id, view_type, **options_)
        for node in arch.xpath(f"//field[starts-with(@name, '{PREFIX}')]"):
            name = node.get('name').removeprefix(PREFIX)
            if option := options.OPTIONS.get(name):
                node.set('readonly', f"{name!r} in (tiered_cache_places or {{}})")
                if option.default_text and option.kind not in ('bool', 'choice'):
                    node.set('placeholder', self._tiered_cache_shown(option.default_text))
                etree.SubElement(node.getparent(), 'widget', name='tiered_cache_place', option=name)
        return arch, view

    @api.model
    def _tiered_cache_may(self):
        """Whether the user may see and change the settings of the cache."""
        return self.env.su or self.env.user.has_group('base.group_system')

    @api.model
    def _tiered_cache_params(self):
        """Texts in the database, by option."""
        found = (
            self.env['ir.config_parameter']
            .sudo()
            .search_fetch(
                [('key', 'in', [option.parameter for option in options.OPTIONS.values()])],
                ['key', 'value'],
            )
        )
        return {p.key.removeprefix(options.PARAMETER_PREFIX): p.value for p in found}

    @api.model
    def _tiered_cache_settings(self):
        return options.load(self._tiered_cache_params())

    @api.model
    def get_values(self):
        values = super().get_values()
        if not self._tiered_cache_may():
            return values  # may be called by anybody over RPC, and the URL holds a password
        params = self._tiered_cache_params()
        settings = options.load(params)
        for name, option in options.OPTIONS.items():
            if option.kind in ('bool', 'choice'):
                value = getattr(settings, name)
            elif settings.is_overridden(name):
                value = redis_url.mask(options.to_text(getattr(settings, name)))
            else:
                value = params.get(name, False)
            if option.kind in ('int', 'float'):
                value = self._tiered_cache_shown(value)
            values[PREFIX + name] = value
        return values

    def set_values(self):
        if not self._tiered_cache_may():
            return super().set_values()  # as above: by anybody, even on no record at all
        settings = self._tiered_cache_settings()
        shown = self.get_values()
        problems, changes = [], []
        for name, option in options.OPTIONS.items():
            value = self[PREFIX + name]
            if settings.is_overridden(name) or value == shown[PREFIX + name]:
                continue
            try:
                text = self._tiered_cache_text(option, value)
            except ValueError as error:
                problems.append(
                    f"{self._fields[PREFIX + name]._description_string(self.env)}: "
                    f"{plain_words.error(self.env, error)}"
                )
            else:
                self.env['ir.config_parameter'].sudo().set_param(option.parameter, text)
                changes.append(self._tiered_cache_change(name, shown[PREFIX + name], value))
        if problems:
            raise ValidationError("\n".join(problems))
        if changes:
            self.env['cache.log']._note('change', self.env._("Settings"), "\n".join(changes))
        return super().set_values()

    @api.model
    def _tiered_cache_change(self, name, before, after):
        """A line for the log; no password."""
        field = self._fields[PREFIX + name]
        words = dict(field._description_selection(self.env)) if field.type == 'selection' else {}

        def text(value):
            if field.type == 'boolean':
                return self.env._("on") if value else self.env._("off")
            return redis_url.mask(words.get(value, value) or self.env._("default"))

        return f"{field._description_string(self.env)}: {text(before)} → {text(after)}"

    @api.model
    def _tiered_cache_text(self, option, value):
        """What to store; False is nothing, so that the default counts.

        :raise ValueError: with a sentence
        """
        if option.kind in ('bool', 'choice'):
            text = options.to_text(value) if option.kind == 'bool' else value
            return text != option.default_text and text
        text = (value or '').strip()
        if text and option.kind in ('int', 'float'):
            text = self._tiered_cache_plain(text)
        if text:
            options.check(option.name, text)
        return text or False

    @api.model
    def _tiered_cache_shown(self, text):
        """A number as people write it in their language; other texts as they are."""
        if not text or not re.fullmatch(r'-?\d+(\.\d+)?', text):
            return text
        return formatLang(self.env, float(text), digits=len(text.partition('.')[2]))

    @api.model
    def _tiered_cache_plain(self, text):
        """The reverse, where it can be nothing else: 0.001 is never a thousandth of anything but
        one, whatever separates thousands."""
        lang = self.env['res.lang']._get_data(code=self.env.lang or 'en_US')
        comma, point = re.escape(lang.thousands_sep or ''), re.escape(lang.decimal_point or '.')
        fraction = rf'({point}\d+)?'
        if comma and re.fullmatch(rf'[1-9]\d{{0,2}}({comma}\d{{3}})+{fraction}', text):
            text = text.replace(lang.thousands_sep, '')
        if re.fullmatch(rf'\d+{fraction}', text):
            text = text.replace(lang.decimal_point or '.', '.')
        return text

    def action_tiered_cache_invalidate_all(self):
        """Button: remove every entry, in every tier, of every worker."""
        self.env['cache.manager'].invalidate_all()
        return {
            'type': 'ir.actions.client',
            'tag': 'display_notification',
            'params': {
                'type': 'success',
                'message': self.env._("Everything that was cached is computed again."),
            },
        }

    def action_tiered_cache_test_redis(self):
        """Button: try the Redis URL that is in the form, before it is saved."""
        self.ensure_one()
        if not self._tiered_cache_may():
            raise AccessError(self.env._("Only system administrators can change the settings."))
        url = self.tiered_cache_redis_url
        if self._tiered_cache_settings().is_overridden('redis_url'):
            url = False  # the form shows it without its password
        elif not url:
            raise UserError(
                self.env._("Enter a Redis URL first, for example redis://localhost:6379/0.")
            )
        found = self.env['cache.manager'].sudo().test_redis(url)
        answer = self.env._(
            "%(server)s %(version)s answers in %(ms)s ms.",
            server=found['server'],
            version=found['version'] or "",
            ms=formatLang(self.env, found['round_trip_ms'], digits=2),
        )
        advice = found.get('advice', ())
        return {
            'type': 'ir.actions.client',
            'tag': 'display_notification',
            'params': {
                'type': 'warning' if advice else 'success',
                'sticky': bool(advice),
                'title': self.env._("Connected"),
                'message': " ".join((answer, *self._tiered_cache_memory(found), *advice)),
            },
        }

    @api.model
    def _tiered_cache_memory(self, found):
        """What a Redis says about its memory, as sentences."""
        used, limit = found.get('used_memory_bytes'), found.get('max_memory_bytes')
        if used is not None and limit is not None:
            used_mb = formatLang(self.env, used / 2**20, digits=1)
            yield (
                self.env._(
                    "It uses %(used)s MB of %(limit)s MB.",
                    used=used_mb,
                    limit=formatLang(self.env, limit / 2**20, digits=0),
                )
                if limit
                else self.env._("It uses %s MB.", used_mb)
            )
        policy = found.get('max_memory_policy')
        if policy and limit != 0:  # without a limit it is never full; the advice says so
            yield self.env._("When it is full: %s.", policy)
