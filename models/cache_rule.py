"""Rules: what an administrator wants cached differently for one model.

The one idea: nothing needs a rule.  A record overrides the settings for one model, or for
some read methods of it; what is left empty stays as in Settings.  Workers follow a change
with their next transaction, because :mod:`services.configuration` reads the table whenever
its version changes.

What may go wrong: a rule that cannot work (unknown method, no tier left) would be ignored
in silence by the engine, so it is refused here, with the reason.
"""

import re

from odoo import api, fields, models
from odoo.exceptions import ValidationError

from ..services import dashboard, options, policy
from . import plain_words
from .cache_manager import GROUP_ADMIN

NUMBERS = {
    'sequence': (int, -(2**31), 2**31 - 1),
    'max_staleness_s': (float, 0, options.OPTIONS['max_staleness_s'].maximum),
    'l1_ttl_s': (int, 0, options.MAX_TTL_S),
    'l2_ttl_s': (int, 0, options.MAX_TTL_S),
    'l3_ttl_s': (int, 0, options.MAX_TTL_S),
    'min_cost_ms': (float, -1, options.OPTIONS['l1_min_cost_ms'].maximum),
}
"""Type, least and greatest value of every number of a rule."""


class CacheRule(models.Model):
    _name = 'cache.rule'
    _description = "Cache Rule"
    _order = 'sequence, model, id'

    sequence = fields.Integer(default=10)
    active = fields.Boolean(default=True)
    model_id = fields.Many2one(
        'ir.model',
        required=True,
        ondelete='cascade',
        index=True,
        domain=[
            ('transient', '=', False),
            ('abstract', '=', False),
            ('model', 'not in', policy.OWN_MODELS),
        ],
        help="The rule is about reads of this model.",
    )
    model = fields.Char(
        string="Technical Name", related='model_id.model', store=True, index=True, readonly=True
    )
    methods = fields.Char(
        help="The read methods the rule is about, separated by commas. Empty means all: "
        + ", ".join(policy.METHODS)
    )
    shown_methods = fields.Char(
        string="Reads", compute='_compute_shown_methods', help="The read methods, in words."
    )
    enabled = fields.Boolean(
        string="Cached", default=True, help="When off, these reads are always computed."
    )
    consistency = fields.Selection(
        [
            ('strong', "Always exact"),
            ('eventual', "Exact up to a few moments"),
            ('weak', "As old as the time to live"),
        ],
        help="Always exact: every hit is checked in the reader's own transaction.\n"
        "Exact up to a few moments: a hit may miss changes of the last moments, and "
        "needs no query.\n"
        "As old as the time to live: a hit is not checked at all; only for data that "
        "may be outdated.\n"
        "Empty: as in Settings.",
    )
    max_staleness_s = fields.Float(
        string="May Lag Behind (s)",
        digits=(16, 2),
        help="Seconds that a hit may lag behind. 0 is the value of Settings.",
    )
    l1_ttl_s = fields.Integer(
        string="Time to Live in L1 (s)", help="In seconds. 0 is the value of Settings."
    )
    l2_ttl_s = fields.Integer(
        string="Time to Live in L2 (s)", help="In seconds. 0 is the value of Settings."
    )
    l3_ttl_s = fields.Integer(
        string="Time to Live in L3 (s)", help="In seconds. 0 is the value of Settings."
    )
    use_l1 = fields.Boolean(
        string="L1: Memory", default=True, help="Keep these results in the worker's memory."
    )
    use_l2 = fields.Boolean(
        string="L2: Redis", default=True, help="Keep these results in Redis, if there is one."
    )
    use_l3 = fields.Boolean(
        string="L3: Database", default=True, help="Keep these results in the database."
    )
    min_cost_ms = fields.Float(
        string="Minimum Cost (ms)",
        default=-1,
        digits=(16, 1),
        help="A result that took less time to compute is not kept, in milliseconds. "
        "-1 is the value of Settings.",
    )
    note = fields.Text(string="Reason", help="Why this rule exists, for the next administrator.")
    state = fields.Selection(
        [
            ('off', "Never cached"),
            ('default', "As in Settings"),
            ('strong', "Always exact"),
            ('eventual', "A few moments behind"),
            ('weak', "As old as its time to live"),
        ],
        string="What It Does",
        compute='_compute_state',
        store=True,
        group_expand=True,
    )
    effect = fields.Html(
        compute='_compute_effect', sanitize=False, help="What the rule means, in words."
    )
    figures_shown = fields.Boolean(
        compute='_compute_figures_shown', help="Whether the user may see figures of this model."
    )
    calls_day = fields.Integer(string="Calls in 24 Hours", compute='_compute_figures')
    hit_rate_day = fields.Float(
        string="Hit Rate in 24 Hours (%)",
        compute='_compute_figures',
        digits=(16, 1),
        help="Hits per hundred calls of what the rule is about.",
    )
    saved_s_day = fields.Float(
        string="Saved in 24 Hours (s)",
        compute='_compute_saved_s_day',
        digits=(16, 1),
        groups='tiered_cache.group_cache_admin',
        help="Time that people did not wait, in seconds.",
    )

    @api.depends('enabled', 'consistency')
    def _compute_state(self):
        for rule in self:
            rule.state = (rule.consistency or 'default') if rule.enabled else 'off'

    def _figures(self, aggregate):
        """Sums of the last 24 hours, those of the dashboard, that the user may see, by model and
        method."""
        names = self.sudo().model_id.mapped('model')
        since = dashboard.period('day', fields.Datetime.now()).start
        groups = self.env['cache.metric']._read_group(
            [('model', 'in', names), ('bucket', '>=', since)], ['model', 'method'], aggregate
        )
        return {(model, method): values for model, method, *values in groups}

    @api.depends_context('uid')
    @api.depends('model_id')
    def _compute_figures_shown(self):
        everything = self.env['cache.manager']._may(GROUP_ADMIN)
        shown = None if everything else set(self.env['cache.metric']._shown_models())
        for rule in self:
            rule.figures_shown = everything or rule.sudo().model_id.model in shown

    @api.depends('model_id', 'methods')
    def _compute_figures(self):
        figures = self._figures(['calls:sum', 'hits:sum'])
        for rule in self:
            mine = [
                figures.get((rule.sudo().model_id.model, method), (0, 0))
                for method in rule._about()
            ]
            rule.calls_day = calls = sum(row[0] for row in mine)
            rule.hit_rate_day = 100 * sum(row[1] for row in mine) / calls if calls else 0

    @api.depends('model_id', 'methods')
    def _compute_saved_s_day(self):
        figures = self._figures(['saved_ms:sum'])
        for rule in self:
            rows = (
                figures.get((rule.sudo().model_id.model, method), (0,)) for method in rule._about()
            )
            rule.saved_s_day = sum(row[0] for row in rows) / 1000

    def _about(self):
        """The read methods that the rule is about."""
        return split_methods(self.methods) or list(policy.METHODS)

    @api.depends(
        'model_id', 'methods', 'enabled', 'consistency', 'max_staleness_s', 'min_cost_ms',
        'l1_ttl_s', 'l2_ttl_s', 'l3_ttl_s', 'use_l1', 'use_l2', 'use_l3',
    )  # fmt: skip
    def _compute_effect(self):
        settings = self.env['res.config.settings']._tiered_cache_settings()
        for rule in self:
            rule.effect = plain_words.of_rule(rule.sudo(), settings) if rule.model_id else False

    @api.depends('methods')
    @api.depends_context('lang')
    def _compute_shown_methods(self):
        for rule in self:
            rule.shown_methods = ", ".join(split_methods(rule.methods)) or self.env._("All reads")

    @api.depends('model', 'methods', 'enabled')
    def _compute_display_name(self):
        for rule in self:
            what = ", ".join(split_methods(rule.methods)) or self.env._("all reads")
            name = rule.model and f"{rule.model}: {what}"
            rule.display_name = (
                name if rule.enabled or not name else self.env._("%(rule)s, off", rule=name)
            )

    @api.model_create_multi
    def create(self, vals_list):
        rules = super().create([self._checked_vals(vals) for vals in vals_list])
        for rule, vals in zip(rules, vals_list, strict=True):
            self.env['cache.log']._note_changes('create', rule, vals)
        return rules

    def write(self, vals):
        vals = self._checked_vals(vals)
        with self.env['cache.log']._changing(self, vals):
            return super().write(vals)

    def unlink(self):
        self.env['cache.log']._note_changes('delete', self)
        return super().unlink()

    @api.model
    def _checked_vals(self, vals):
        """Values that the database takes: a model that exists, tidy methods, real numbers.

        Runs before the ORM sees the values, which meets a text for a number, or a number
        that its column cannot hold, with a traceback.
        """
        vals = dict(vals)
        if 'model' in vals and 'model_id' not in vals:
            vals['model_id'] = self._model_id_of(vals['model'])
        vals.pop('model', None)
        if 'model_id' in vals:
            self._check_model_id(vals['model_id'])
        if 'methods' in vals:
            vals['methods'] = ','.join(self._checked_methods(vals['methods']))
        for name in NUMBERS.keys() & vals.keys():
            vals[name] = self._number(name, vals[name])
        return vals

    @api.model
    def _model_id_of(self, model):
        return self.env['ir.model']._get_id(model) if isinstance(model, str) else False

    @api.model
    def _check_model_id(self, model_id):
        known = isinstance(model_id, int) and self.env['ir.model'].sudo().browse(model_id).exists()
        if not known or known.model not in self.env:
            raise ValidationError(
                self.env._(
                    "The rule names a model that does not exist in this database. Choose one of "
                    "the list, by its technical name such as res.partner, and check that its app "
                    "is installed."
                )
            )

    @api.model
    def _number(self, name, value):
        kind, least, greatest = NUMBERS[name]
        try:
            number = kind(value or 0)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or not least <= number <= greatest:
            raise ValidationError(
                self.env._(
                    "%(field)s must be a number between %(least)s and %(greatest)s.",
                    field=self._fields[name]._description_string(self.env),
                    least=least,
                    greatest=options.to_text(greatest),
                )
            )
        return number

    @api.constrains('model_id')
    def _check_model(self):
        for rule in self:
            if reason := rule._why_not_cached():
                raise ValidationError(
                    self.env._(
                        "A rule for %(model)s would have no effect: %(reason)s",
                        model=rule.model,
                        reason=reason,
                    )
                )

    def _why_not_cached(self):
        """Why the engine never caches the rule's model, or False."""
        model = self.env[self.model]
        if self.model in policy.OWN_MODELS:
            return self.env._("the models of the cache itself are never cached.")
        if model._transient:
            return self.env._("wizards and other transient models are never cached.")
        if model._abstract:
            return self.env._(
                "it is an abstract model without records; choose a model that inherits from it."
            )
        return False

    @api.model
    def _checked_methods(self, text):
        names = split_methods(text) if isinstance(text, str) or not text else [str(text)]
        unknown = [name for name in names if name not in policy.METHODS]
        if unknown:
            raise ValidationError(
                self.env._(
                    "%(unknown)s cannot be cached. The read methods are: %(methods)s. Leave "
                    "the field empty for all of them.",
                    unknown=", ".join(unknown),
                    methods=", ".join(policy.METHODS),
                )
            )
        return names

    @api.constrains('enabled', 'use_l1', 'use_l2', 'use_l3')
    def _check_tiers(self):
        for rule in self:
            if rule.enabled and not rule._used_tiers():
                raise ValidationError(
                    self.env._(
                        "The rule for %s uses no tier. Choose at least one, or switch \"Cached\" "
                        "off.",
                        rule.model,
                    )
                )

    @api.constrains('consistency', 'max_staleness_s')
    def _check_staleness(self):
        for rule in self:
            if rule.max_staleness_s and rule.consistency != 'eventual':
                raise ValidationError(
                    self.env._(
                        "\"May lag behind\" only means something with the consistency \"Exact up "
                        "to a few moments\". Choose that one for %s, or set the seconds to 0.",
                        rule.model,
                    )
                )

    @api.constrains(
        'consistency', 'enabled', 'use_l1', 'use_l2', 'use_l3', 'l1_ttl_s', 'l2_ttl_s', 'l3_ttl_s'
    )
    def _check_weak_ttl(self):
        for rule in self.filtered(lambda r: r.enabled and r.consistency == 'weak'):
            missing = [tier.upper() for tier in rule._used_tiers() if not rule[f'{tier}_ttl_s']]
            if missing:
                raise ValidationError(
                    self.env._(
                        "With \"As old as the time to live\" nothing else limits how old the data "
                        "for %(model)s gets: give a time to live for %(tiers)s, or do not use "
                        "these tiers.",
                        model=rule.model,
                        tiers=", ".join(missing),
                    )
                )

    @api.constrains('active', 'model_id', 'methods')
    def _check_overlap(self):
        for rule in self.filtered('active'):
            mine = set(split_methods(rule.methods) or policy.METHODS)
            others = self.search([('model_id', '=', rule.model_id.id), ('id', '!=', rule.id)])
            for other in others:
                common = mine.intersection(split_methods(other.methods) or policy.METHODS)
                if common:
                    raise ValidationError(
                        self.env._(
                            "Two active rules for %(model)s name the same methods (%(methods)s), "
                            "so one of them would never count: change or archive the rule "
                            "\"%(rule)s\".",
                            model=rule.model,
                            rule=other.display_name,
                            methods=", ".join(m for m in policy.METHODS if m in common),
                        )
                    )

    def _used_tiers(self):
        self.ensure_one()
        return [tier for tier in policy.TIERS if self[f'use_{tier}']]


def split_methods(text):
    """The method names in a text, in the order of policy.METHODS, each once, unknown ones last."""
    names = dict.fromkeys(re.findall(r'[^\s,;]+', text or ''))
    known = [name for name in policy.METHODS if name in names]
    return known + [name for name in names if name not in policy.METHODS]
