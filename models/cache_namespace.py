"""Namespaces: what an administrator wants different for named entries that begin alike.

The one idea: ``supplier`` is about ``supplier:list``, ``supplier:detail:42`` and whatever else
begins so; of several the longest counts.  What a record says wins over what the code says, and what
it leaves empty is as the code says.  Sharing can only be made narrower: only the code knows whose
values are the same.

What may go wrong: a namespace that no entry begins with has no effect; its name is checked for
what it can be, not for what there is.
"""

from odoo import api, fields, models
from odoo.exceptions import ValidationError
from odoo.tools import SQL

from ..services import keys, named, named_plan, options, policy
from . import plain_words

MAX_KB = 65536
NUMBERS = {
    'max_staleness_s': (0, 3600),
    'l1_ttl_s': (0, options.MAX_TTL_S),
    'l2_ttl_s': (0, options.MAX_TTL_S),
    'l3_ttl_s': (0, options.MAX_TTL_S),
    'min_cost_ms': (-1, 1e6),
    'max_kb': (0, MAX_KB),
    'single_flight_s': (0, named_plan.MAX_WAIT_S),
    'eager_refresh_percent': (0, 95),
    'fail_safe_s': (0, options.MAX_TTL_S),
    'fail_safe_pause_s': (0, 3600),
    'revalidate_s': (0, options.MAX_TTL_S),
}
"""Least and greatest value of every number."""


class CacheNamespace(models.Model):
    _name = 'cache.namespace'
    _description = "Cache Namespace"
    _order = 'name'

    active = fields.Boolean(default=True)
    name = fields.Char(
        required=True,
        help="What the names of entries begin with: supplier, or supplier:detail.",
    )
    consistency = fields.Selection(
        [
            ('strong', "Always exact"),
            ('eventual', "Exact up to a few moments"),
            ('weak', "As old as the time to live"),
        ],
        help="Empty: as the code says; if it says nothing, always exact.",
    )
    max_staleness_s = fields.Float(
        string="May Lag Behind (s)", digits=(16, 2), help="In seconds. 0 is as the code says."
    )
    sharing = fields.Selection(
        [
            ('user', "Each user their own"),
            ('company', "Users of the same companies and language"),
            ('all', "Everybody the same"),
        ],
        help="Who gets one and the same value. What the code says can only be made narrower. "
        "Empty: as the code says; if it says nothing, each user their own.",
    )
    use_l1 = fields.Boolean(string="L1: Memory", default=True)
    use_l2 = fields.Boolean(string="L2: Redis", default=True)
    use_l3 = fields.Boolean(string="L3: Database", default=True)
    l1_ttl_s = fields.Integer(
        string="Time to Live in L1 (s)", help="In seconds. 0 is as the code says, else 60."
    )
    l2_ttl_s = fields.Integer(
        string="Time to Live in L2 (s)", help="In seconds. 0 is as the code says, else 300."
    )
    l3_ttl_s = fields.Integer(
        string="Time to Live in L3 (s)", help="In seconds. 0 is as the code says, else 3,600."
    )
    min_cost_ms = fields.Float(
        string="Minimum Cost (ms)",
        default=-1,
        digits=(16, 1),
        help="A value that took less time to compute is not kept, in milliseconds. "
        "-1 is as the code says, else 0.",
    )
    max_kb = fields.Integer(
        string="Largest Value (kB)",
        help="In kilobytes, packed. 0 is as the code says, else the value of Settings.",
    )
    single_flight_s = fields.Float(
        string="Wait for Others (s)",
        digits=(16, 1),
        help="How long one waits for somebody who computes the same value, in seconds. "
        "0 is as the code says, else 2.",
    )
    eager_refresh_percent = fields.Integer(
        string="Refresh Early (%)",
        help="A hit that finds less than this part of the time to live left has the value computed "
        "again in the background. 0 is as the code says, else never. Only for values that can "
        "be computed in a transaction of their own.",
    )
    fail_safe_s = fields.Integer(
        string="Stand In for (s)",
        help="How long after its time to live a value may stand in for one that cannot be "
        "computed, in seconds. 0 is as the code says, else never.",
    )
    fail_safe_pause_s = fields.Integer(
        string="Pause after a Failure (s)",
        help="How long nobody tries to compute the value again, in seconds. "
        "0 is as the code says, else 10.",
    )
    revalidate_s = fields.Integer(
        string="Keep for Renewal (s)",
        help="How long after its time to live a value is kept for code that can say that it has "
        "not changed, in seconds. 0 is as the code says, else not at all.",
    )
    note = fields.Text(string="Reason", help="Why this record exists, for the next administrator.")

    state = fields.Selection(
        [
            ('default', "As the code says"),
            ('strong', "Always exact"),
            ('eventual', "A few moments behind"),
            ('weak', "As old as its time to live"),
        ],
        string="How Fresh",
        compute='_compute_state',
        store=True,
        group_expand=True,
    )
    effect = fields.Html(
        compute='_compute_effect', sanitize=False, help="What the record means, in words."
    )
    entries_l3 = fields.Integer(
        string="Entries in L3",
        compute='_compute_entries_l3',
        groups='tiered_cache.group_cache_admin',
        help="Entries in the database whose names begin so.",
    )

    _name_unique = models.UniqueIndex("(name)", "There is a record for this namespace already.")

    @api.model_create_multi
    def create(self, vals_list):
        namespaces = super().create(vals_list)
        for namespace, vals in zip(namespaces, vals_list, strict=True):
            self.env['cache.log']._note_changes('create', namespace, vals)
        return namespaces

    def write(self, vals):
        with self.env['cache.log']._changing(self, vals):
            return super().write(vals)

    def unlink(self):
        self.env['cache.log']._note_changes('delete', self)
        return super().unlink()

    @api.depends('consistency')
    def _compute_state(self):
        for namespace in self:
            namespace.state = namespace.consistency or 'default'

    @api.depends('name', 'consistency', 'sharing', 'use_l1', 'use_l2', 'use_l3', *NUMBERS)
    def _compute_effect(self):
        for namespace in self:
            namespace.effect = namespace.name and plain_words.of_namespace(namespace)

    @api.depends('name')
    def _compute_entries_l3(self):
        for namespace in self:
            like = keys.sql_like(f'v1:{namespace.name}:*') if namespace.name else ''
            self.env.cr.execute(SQL("SELECT count(*) FROM cache_entry WHERE key LIKE %s", like))
            namespace.entries_l3 = self.env.cr.fetchone()[0]

    def copy_data(self, default=None):
        copies = super().copy_data(default)
        for namespace, vals in zip(self, copies, strict=True):
            if 'name' not in (default or {}):
                vals['name'] = f'{namespace.name}:copy'
        return copies

    @api.constrains('name')
    def _check_name(self):
        for namespace in self:
            name = namespace.name
            try:
                named.base_key(name)
            except keys.InvalidKey as error:
                raise ValidationError(plain_words.error(self.env, error)) from None
            if name != name.strip(':') or set(name) & set('*?[]') or name.startswith('v1:'):
                raise ValidationError(
                    self.env._(
                        "%s is no namespace. Write the first parts of the names of entries, with "
                        "colons between them and without wildcards: supplier, or supplier:detail.",
                        name,
                    )
                )

    @api.constrains(*NUMBERS)
    def _check_numbers(self):
        for namespace in self:
            for name, (least, greatest) in NUMBERS.items():
                if not least <= namespace[name] <= greatest:
                    raise ValidationError(
                        self.env._(
                            "%(field)s must be a number between %(least)s and %(greatest)s.",
                            field=self._fields[name]._description_string(self.env),
                            least=least,
                            greatest=options.to_text(greatest),
                        )
                    )

    @api.constrains('use_l1', 'use_l2', 'use_l3')
    def _check_tiers(self):
        for namespace in self:
            if not any(namespace[f'use_{tier}'] for tier in policy.TIERS):
                raise ValidationError(
                    self.env._("%s uses no tier. Choose at least one.", namespace.name)
                )
