"""What is cached, where, for how long, and how strictly.

The one idea: a (model, method) has one :class:`Plan`, worked out once from the settings
and the first ``cache.rule`` that names it; the hot path only looks the plan up.

:class:`Suspender` is the part that learns: a (model, method) whose results are never
worth keeping (always too cheap, or invalidated before they are ever hit) is left alone
for a while, so that reads which cannot gain do not pay.
"""

from __future__ import annotations

import dataclasses
import threading
import time

METHODS = (
    'search_read',
    'web_search_read',
    'read',
    'web_read',
    'search_count',
    'name_search',
    'web_name_search',
    'read_group',
    'formatted_read_group',
    'formatted_read_grouping_sets',
    'web_read_group',
    'read_progress_bar',
    'search_panel_select_range',
    'search_panel_select_multi_range',
    'get_views',
    'fields_get',
)
"""The read methods that are cached."""

TIERS = ('l1', 'l2', 'l3')

OWN_MODELS = (
    'cache.call',
    'cache.dashboard',
    'cache.change',
    'cache.entry',
    'cache.event',
    'cache.event.rule',
    'cache.guard.failure',
    'cache.log',
    'cache.manager',
    'cache.metric',
    'cache.namespace',
    'cache.operation',
    'cache.relation',
    'cache.remote',
    'cache.remote.follow',
    'cache.rule',
    'cache.schedule',
    'cache.warmup',
    'cache.warmup.line',
    'cache.worker',
)
"""Never cached: they show the cache itself."""

LEFT_ALONE = ('res.device', 'res.device.log')
"""Not cached: their order and values depend on which session asks."""

RULE_COLUMNS = (
    'model',
    'methods',
    'enabled',
    'consistency',
    'max_staleness_s',
    'l1_ttl_s',
    'l2_ttl_s',
    'l3_ttl_s',
    'use_l1',
    'use_l2',
    'use_l3',
    'min_cost_ms',
)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How one (model, method) is cached.

    :param consistency: ``'strong'``, ``'eventual'`` or ``'weak'``
    :param ttl_s: longest life by tier, seconds
    :param min_cost_ms: what a result must have cost to be kept, by tier, milliseconds; a
        tier that is not to be used is missing
    :param keep_s: how long after its life a value is kept, to stand in for a new one or to be
        renewed, seconds; contained in ``ttl_s``
    """

    consistency: str
    max_staleness_s: float
    ttl_s: dict[str, float]
    min_cost_ms: dict[str, float]
    keep_s: float = 0.0

    @property
    def least_cost_ms(self) -> float:
        return min(self.min_cost_ms.values())


class Policy:
    """Plans by (model, method).

    :param settings: the options, see :mod:`options`
    :param rules: rows of ``cache.rule``, as dictionaries of RULE_COLUMNS, in order
    """

    def __init__(self, settings, rules=()):
        self._settings = settings
        self._rules = list(rules)
        self._plans: dict[tuple[str, str], Plan | None] = {}

    @property
    def longest_ttl_s(self) -> float:
        """The longest life that a rule gives, seconds."""
        return max((rule.get(f'{t}_ttl_s') or 0 for rule in self._rules for t in TIERS), default=0)

    def plan(self, model, method: str) -> Plan | None:
        """The plan for a method of a model, None where it is not cached.

        :param model: the Odoo model class or a recordset
        """
        try:
            return self._plans[model._name, method]
        except KeyError:
            plan = self._plans[model._name, method] = self._make(model, method)
            return plan

    def is_switched_off(self, model, method: str) -> bool:
        """Whether a rule is the reason why a method has no plan."""
        return any(
            _applies(rule, model._name, method) and not rule.get('enabled', True)
            for rule in self._rules
        )

    def _make(self, model, method: str) -> Plan | None:
        if model._transient or model._abstract or model._name in OWN_MODELS + LEFT_ALONE:
            return None
        rule = next((r for r in self._rules if _applies(r, model._name, method)), {})
        if not rule.get('enabled', True):
            return None
        settings = self._settings
        tiers = [tier for tier in TIERS if rule.get(f'use_{tier}', True)]
        floor = rule.get('min_cost_ms')
        own_floor = floor is not None and floor >= 0
        costs = {
            tier: floor if own_floor else getattr(settings, f'{tier}_min_cost_ms') for tier in tiers
        }
        if not costs:
            return None
        return Plan(
            consistency=rule.get('consistency') or settings.consistency,
            max_staleness_s=rule.get('max_staleness_s') or settings.max_staleness_s,
            ttl_s={t: rule.get(f'{t}_ttl_s') or getattr(settings, f'{t}_ttl_s') for t in TIERS},
            min_cost_ms=costs,
        )


def _applies(rule: dict, model: str, method: str) -> bool:
    methods = [name.strip() for name in (rule.get('methods') or '').split(',') if name.strip()]
    return rule['model'] == model and (not methods or method in methods)


@dataclasses.dataclass(slots=True)
class _Record:
    cheap: int = 0
    unhit: int = 0
    cost_ms: float | None = None
    until: float = 0.0
    pause_s: float = 0.0
    vain: bool = False


class Suspender:
    """Leaves a (model, method) alone that does not pay.

    :param clock: monotonic seconds

    After :attr:`PATIENCE` results in a row that were too cheap or were never hit, the
    method is suspended for :attr:`PAUSE_S`, doubled each time up to :attr:`LONGEST_S`; one
    hit forgives everything.  A difference found by the auditor suspends until
    :meth:`resume`.
    """

    PATIENCE = 32
    PAUSE_S = 30.0
    LONGEST_S = 1800.0

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[tuple[str, str], _Record] = {}

    def suspended(self, name: tuple[str, str]) -> bool:
        record = self._records.get(name)
        return record is not None and record.until > self._clock()

    def expected_cost_ms(self, name: tuple[str, str]) -> float | None:
        """Moving average of what computing took; None before the first time."""
        record = self._records.get(name)
        return record and record.cost_ms

    def computed(self, name: tuple[str, str], cost_ms: float, least_cost_ms: float) -> None:
        record = self._record(name)
        # weight 1/8: follows a change of load within a dozen calls, ignores one outlier
        record.cost_ms = (
            cost_ms if record.cost_ms is None else (record.cost_ms + (cost_ms - record.cost_ms) / 8)
        )
        if cost_ms < least_cost_ms:
            record.cheap += 1
            self._judge(record, record.cheap)
        else:
            record.cheap = 0

    def kept(self, name: tuple[str, str], stored: bool) -> None:
        """What was computed last was stored, or was not."""
        self._record(name).vain = not stored

    def is_vain(self, name: tuple[str, str]) -> bool:
        """Whether what was computed last could not be stored."""
        record = self._records.get(name)
        return record is not None and record.vain

    def hit(self, name: tuple[str, str]) -> None:
        record = self._record(name)
        record.unhit = record.cheap = 0
        record.pause_s = 0.0

    def stale(self, name: tuple[str, str]) -> None:
        """An entry was found invalid; resets at the next hit."""
        record = self._record(name)
        record.unhit += 1
        self._judge(record, record.unhit)

    def suspend(self, name: tuple[str, str]) -> None:
        """Until it is resumed."""
        self._record(name).until = float('inf')

    def resume(self, name: tuple[str, str] | None = None) -> None:
        """Forget what was learned, of one (model, method) or of all."""
        with self._lock:
            if name is None:
                self._records = {}
            else:
                self._records.pop(name, None)

    def names(self) -> list[tuple[str, str]]:
        """What is suspended now."""
        now = self._clock()
        return sorted(name for name, r in list(self._records.items()) if r.until > now)

    def _record(self, name: tuple[str, str]) -> _Record:
        record = self._records.get(name)
        if record is None:
            with self._lock:
                record = self._records.setdefault(name, _Record())
        return record

    def _judge(self, record: _Record, count: int) -> None:
        if count >= self.PATIENCE and record.until < self._clock():
            record.pause_s = min(record.pause_s * 2 or self.PAUSE_S, self.LONGEST_S)
            record.until = self._clock() + record.pause_s
            # after the pause a few more tries decide
            record.cheap = record.unhit = self.PATIENCE - 4
