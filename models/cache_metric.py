"""Figures: what the cache did per minute, model, method, outcome and reason.

The one idea: rows are written by :mod:`services.metrics` in batches and only read here.  Active
rows count each event once: minutes of the last days, hours of the last weeks, days of the time
before; the others are sums of these for the dashboard (:mod:`services.rollup`).  Numbers that do
not add up (rates and averages) are no columns: they are worked out from sums in every group that
a view asks for.

What may go wrong: nothing that matters to business data; rows are figures and are removed
after some time.  Figures speak: bytes and times grow with the records behind
them, and a changed table tells that somebody wrote.  So a Cache User sees how many calls
were made of models that they may read, and Cache Administrators see the rest; see "What a
Cache User can learn" in ``docs/security.md``.
"""

from datetime import timedelta

from odoo import api, fields, models
from odoo.tools import SQL

from ..services import rollup, sums

ADMIN = 'tiered_cache.group_cache_admin'

RATIOS = {
    'hit_rate:avg': ('hits', 'calls', 100),
    'avg_duration_ms:avg': ('duration_ms', 'calls', 1),
}
"""Aggregate: sum of the first column divided by sum of the second, times a factor."""


class CacheMetric(models.Model):
    _name = 'cache.metric'
    _description = "Cache Figures"
    _order = 'bucket desc, id desc'
    _rec_name = 'model'
    _log_access = False

    bucket = fields.Datetime(
        string="Time",
        required=True,
        readonly=True,
        help="The beginning of the minute, the hour or the day it happened in.",
    )
    granularity = fields.Selection(
        [
            ('minute', "Minute"),
            ('hour', "Hour"),
            ('day', "Day"),
            ('ever', "Since the Beginning"),
        ],
        string="Per",
        required=True,
        readonly=True,
        default='minute',
        help="What the row is about. Figures become coarser as they grow older.",
    )
    active = fields.Boolean(
        string="Counts",
        readonly=True,
        default=True,
        help="Off for sums of other rows, which would count twice.",
    )
    model = fields.Char(required=True, readonly=True, default='')
    method = fields.Char(required=True, readonly=True, default='')
    outcome = fields.Selection(
        [
            ('l1', "L1 (memory)"),
            ('l2', "L2 (Redis)"),
            ('l3', "L3 (database)"),
            ('computed', "Computed"),
            ('fault', "Fault"),
            ('event', "Event"),
            ('audit', "Audit"),
            ('change', "Change"),
            ('same', "Same Again"),
        ],
        required=True,
        readonly=True,
        help="Which tier answered, or that the call was computed. Faults, events, audits, "
        "changes of tables and answers that came out the same again are not calls.",
    )
    reason = fields.Selection(
        [
            ('cold', "Never asked before"),
            ('stale', "Data changed"),
            ('expired', "Time to live over"),
            ('evicted', "Pushed out of memory"),
            ('dirty', "Transaction had written"),
            ('cheap', "Too cheap to keep"),
            ('large', "Too large to keep"),
            ('unserializable', "Value cannot be packed"),
            ('uncacheable', "Cannot be cached"),
            ('suspended', "Suspended"),
            ('fault', "A tier failed"),
            ('unguarded', "Table not guarded yet"),
            ('disabled', "Caching is off"),
            ('orm_cache', "Already in the ORM cache"),
            ('old_snapshot', "Old snapshot"),
        ],
        readonly=True,
        help="Why the call was computed.",
    )
    relation = fields.Char(
        string="Detail",
        required=True,
        readonly=True,
        default='',
        groups=ADMIN,
        help="The table whose change made an entry stale (and the only column that reads it, where "
        "the answer came out the same again), why SQL cannot be cached, which tier failed and how, "
        "or the name of an event.",
    )
    count = fields.Integer(readonly=True, help="How often it happened.")
    calls = fields.Integer(readonly=True, help="Read calls: hits and computed ones.")
    hits = fields.Integer(readonly=True, help="Read calls that a tier answered.")
    duration_ms = fields.Float(
        string="Duration (ms)",
        readonly=True,
        digits=(16, 1),
        groups=ADMIN,
        help="Time that the calls took, in milliseconds.",
    )
    saved_ms = fields.Float(
        string="Saved (ms)",
        readonly=True,
        digits=(16, 1),
        groups=ADMIN,
        help="What the answers had cost to compute, less what the hits took, in milliseconds.",
    )
    saved_queries = fields.Integer(
        readonly=True, groups=ADMIN, help="SQL queries that were not needed."
    )
    bytes = fields.Float(
        string="Served Bytes",
        readonly=True,
        digits=(16, 0),
        groups=ADMIN,
        help="Size of the entries served.",
    )
    audited = fields.Integer(readonly=True, help="Hits that were computed again and compared.")
    differences = fields.Integer(
        readonly=True, help="Audited hits that were not what computing gave. Should be 0."
    )
    hit_rate = fields.Float(
        string="Hit Rate (%)",
        compute='_compute_hit_rate',
        aggregator='avg',
        digits=(16, 1),
        help="Hits per hundred calls.",
    )
    avg_duration_ms = fields.Float(
        string="Average (ms)",
        compute='_compute_avg_duration_ms',
        aggregator='avg',
        digits=(16, 2),
        groups=ADMIN,
        help="Duration per call, in milliseconds.",
    )

    _row_uniq = models.UniqueIndex(
        '(granularity, bucket, model, method, outcome, reason, relation)'
    )
    _shown_idx = models.Index('(bucket DESC, id DESC) WHERE active IS TRUE')

    def init(self):
        rollup.install(self.env.cr)
        sums.install(self.env.cr)

    def _compute_hit_rate(self):
        for row in self:
            row.hit_rate = 100 * row.hits / row.calls if row.calls else 0

    def _compute_avg_duration_ms(self):
        for row in self:
            row.avg_duration_ms = row.duration_ms / row.calls if row.calls else 0

    @api.model
    def _shown_models(self):
        """Models whose figures a Cache User sees, for the record rule: those that they may
        read, and what concerns no model ('') or too many of them ('(other)')."""
        return ['', '(other)', *self.env['ir.model.access']._get_allowed_models('read')]

    def _read_group_select(self, aggregate_spec, query):
        if aggregate_spec not in RATIOS:
            return super()._read_group_select(aggregate_spec, query)
        above, below, factor = RATIOS[aggregate_spec]
        return SQL(
            "%(factor)s * SUM(%(above)s) FILTER (WHERE %(below)s > 0)"
            " / NULLIF(SUM(%(below)s), 0)::float8",
            factor=factor,
            above=self._field_to_sql(self._table, above, query),
            below=self._field_to_sql(self._table, below, query),
        )

    def _remove_older_than(self, days):
        """Remove figures, at all levels.

        :return: how many rows went that count
        """
        return rollup.remove_before(self.env.cr, fields.Datetime.now() - timedelta(days=days))
