"""What an administrator could do about what the figures say.

The one idea: an advice is a conclusion from figures of the period that is looked at, with the
figures in it (:attr:`Advice.evidence`) and what would be done (:attr:`Advice.action`).  Where the
figures are too few or the gain too small, there is none.  All functions here are pure; words are
found by ``models/cache_dashboard.py``.

What may go wrong: the figures are of a time before a setting was changed, and ask for the same
change again.  So an option that was changed within the period is left alone
(:attr:`Scene.changed`), and a method that has a rule of its own is left to that rule.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from .dashboard import Method
from .hierarchy import CLOCK
from .pressure import SHED_AT

FEW_CALLS = 100
"""Below it, a rate says nothing."""

LOW_HIT_RATE = 0.10
"""A hit saves the computation, a miss costs looking, recording and packing: 10 to 20 % of a
computation of some milliseconds."""

NOT_ASKED = ('dirty', 'disabled', 'orm_cache', 'unguarded', 'old_snapshot', 'cheap', 'fault')
"""Reasons that say nothing about whether keeping results pays."""

FEW_EVICTED = 50
EVICTED_SHARE = 0.01
FEW_LARGE = 10
FEW_STALE = 100
STALE_SHARE = 0.30
FEW_L2_HITS = 50
SLOW_SHARE = 0.20
"""Redis pays if what it saves is more than this share of what it takes."""

FEW_CLOCK = 50
CLOCK_SHARE = 0.20
FEW_SAME = 50
SAME_SHARE = 0.80
"""Of the answers that a table has made out of date, how many must have come out as before."""
CLOCK_TTL_S = 300

MAX_ADVICE = 8
MOST_OF_A_KIND = 3
LEAST_L1_MB = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Advice:
    """:param kind: which function below
    :param lost_ms: what it is about, milliseconds of computing in the period; for the order
    :param evidence: the figures
    :param action: None, or ``{'do': 'option', 'name', 'value'}``, ``{'do': 'rule_off', 'model',
        'method'}`` or ``{'do': 'rule_form', 'model', 'method'}``
    """

    kind: str
    lost_ms: float
    evidence: Mapping
    action: Mapping | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """All that advice is drawn from.

    :param methods: of the period
    :param totals: sums by outcome, see :func:`.dashboard.curves`
    :param settings: the options in force
    :param workers: rows of ``cache_worker``
    :param rules: active rules as dictionaries of model, methods (a list, empty for all), enabled
    :param tables: by model, the names of the tables that are its own
    :param changed: names of options that were changed within the period
    """

    methods: Sequence[Method]
    totals: Mapping[str, Mapping]
    settings: object
    workers: Sequence[Mapping] = ()
    rules: Sequence[Mapping] = ()
    tables: Mapping[str, frozenset] = dataclasses.field(default_factory=dict)
    changed: frozenset = frozenset()

    def rule_for(self, method: Method) -> Mapping | None:
        for rule in self.rules:
            if rule['model'] == method.model and (
                not rule['methods'] or method.method in rule['methods']
            ):
                return rule
        return None


def advise(scene: Scene) -> list[Advice]:
    """The advice with most to gain, at most MAX_ADVICE, of each kind at most MOST_OF_A_KIND."""
    found = []
    for function in ALL:
        ranked = sorted(function(scene), key=lambda advice: -advice.lost_ms)
        found += ranked[:MOST_OF_A_KIND]
    closer = {_about(advice) for advice in found if advice.kind == 'needless_column'}
    found = [
        advice for advice in found if advice.kind != 'busy_relation' or _about(advice) not in closer
    ]
    return sorted(found, key=lambda advice: -advice.lost_ms)[:MAX_ADVICE]


def does_not_pay(scene: Scene):
    """A method that is suspended, or hardly ever hit."""
    for method in scene.methods:
        asked = method.calls - sum(method.reasons.get(reason, 0) for reason in NOT_ASKED)
        if asked < FEW_CALLS or not method.model or method.model == '(other)':
            continue
        suspended = method.reasons.get('suspended', 0)
        if method.hits >= LOW_HIT_RATE * asked or scene.rule_for(method):
            continue
        reason = max(
            (r for r in method.reasons if r not in NOT_ASKED), key=method.reasons.__getitem__
        )
        yield Advice(
            'does_not_pay',
            sum(cost for r, cost in method.cost_ms.items() if r not in NOT_ASKED),
            {
                'model': method.model,
                'method': method.method,
                'calls': asked,
                'hit_rate': method.hits / asked,
                'suspended': suspended / asked,
                'reason': reason,
                'reason_share': method.reasons[reason] / asked,
            },
            {'do': 'rule_off', 'model': method.model, 'method': method.method},
        )


def l1_too_small(scene: Scene):
    """Entries that were pushed out of L1 and asked for again."""
    evicted = sum(method.reasons.get('evicted', 0) for method in scene.methods)
    calls = sum(method.calls for method in scene.methods)
    if evicted < FEW_EVICTED or evicted < EVICTED_SHARE * calls:
        return
    by_entries = any(
        worker['l1_entries'] >= 0.95 * worker['l1_max_entries'] > 0 for worker in scene.workers
    )
    name = 'l1_max_entries' if by_entries else 'l1_max_mb'
    if name in scene.changed:
        return
    value = 2 * getattr(scene.settings, name)
    extra_bytes = 0 if by_entries else getattr(scene.settings, name) * 2**20
    fits = all(
        not worker['memory_limit_bytes']
        or float(worker['memory_bytes']) + extra_bytes
        < SHED_AT * float(worker['memory_limit_bytes'])
        for worker in scene.workers
    )
    yield Advice(
        'l1_too_small',
        sum(method.cost_ms.get('evicted', 0.0) for method in scene.methods),
        {'evicted': evicted, 'share': evicted / calls, 'limit': name, 'fits': fits},
        {'do': 'option', 'name': name, 'value': _whole(value)} if fits else None,
    )


def just_too_large(scene: Scene):
    """Results that were at most twice as large as what is kept."""
    limit_kb = scene.settings.max_entry_kb
    if not limit_kb or 'max_entry_kb' in scene.changed:
        return
    count, lost_ms, need_kb, worst = 0, 0.0, 0, ('', '', 0)
    for method in scene.methods:
        large = method.reasons.get('large', 0)
        near = {
            kb: calls
            for (reason, detail), calls in method.details.items()
            if reason == 'large' and limit_kb < (kb := _kilobytes(detail)) <= 2 * limit_kb
        }
        if near:
            here = sum(near.values())
            count += here
            lost_ms += method.cost_ms.get('large', 0.0) * here / large
            need_kb = max(need_kb, *near)
            worst = max(worst, (method.model, method.method, here), key=lambda item: item[2])
    if count >= FEW_LARGE:
        yield Advice(
            'just_too_large',
            lost_ms,
            {'count': count, 'model': worst[0], 'method': worst[1], 'limit_kb': limit_kb},
            {'do': 'option', 'name': 'max_entry_kb', 'value': need_kb},
        )


def busy_relation(scene: Scene):
    """A relation whose changes make many answers stale, and who reads it most."""
    all_stale = sum(method.reasons.get('stale', 0) for method in scene.methods)
    readers: dict[str, dict[tuple[str, str], float]] = {}
    counts: dict[str, int] = {}
    for method in scene.methods:
        stale = method.reasons.get('stale', 0)
        for (reason, relation), calls in method.details.items():
            if reason == 'stale' and relation[:1] != '#' and relation != 'removal':
                lost_ms = method.cost_ms.get('stale', 0.0) * calls / stale
                readers.setdefault(relation, {})[method.model, method.method] = lost_ms
                counts[relation] = counts.get(relation, 0) + calls
    for relation, count in counts.items():
        if count < FEW_STALE or count < STALE_SHARE * all_stale:
            continue
        by_cost = readers[relation]
        model, name = max(by_cost, key=by_cost.__getitem__)
        if scene.rule_for(Method(model, name)):
            continue
        yield Advice(
            'busy_relation',
            sum(by_cost.values()),
            {
                'relation': relation,
                'count': count,
                'share': count / all_stale,
                'model': model,
                'method': name,
                'own': relation in scene.tables.get(model, ()),
            },
            {'do': 'rule_form', 'model': model, 'method': name},
        )


def needless_column(scene: Scene):
    """A table makes answers out of date that come out as before, and one column alone reads it."""
    for method in scene.methods:
        if scene.rule_for(method):
            continue
        for (relation, column), same in method.same.items():
            count = method.details.get(('stale', relation), 0)
            if not column or same < FEW_SAME or same < SAME_SHARE * count:
                continue
            if count < STALE_SHARE * method.misses or relation in scene.tables.get(
                method.model, ()
            ):
                continue
            yield Advice(
                'needless_column',
                method.cost_ms.get('stale', 0.0) * same / method.reasons['stale'],
                {
                    'model': method.model,
                    'method': method.method,
                    'relation': relation,
                    'column': column,
                    'same': same,
                    'count': count,
                    'share': same / count,
                    'of_misses': count / method.misses,
                },
                {'do': 'rule_form', 'model': method.model, 'method': method.method},
            )


def memory_is_scarce(scene: Scene):
    """A worker that comes near the limit at which Odoo recycles it."""
    near = [
        worker
        for worker in scene.workers
        if float(worker['memory_bytes']) >= SHED_AT * float(worker['memory_limit_bytes']) > 0
    ]
    if not near:
        return
    worst = max(near, key=lambda w: float(w['memory_bytes']) / float(w['memory_limit_bytes']))
    used, limit = float(worst['memory_bytes']), float(worst['memory_limit_bytes'])
    l1 = float(worst['l1_bytes'])
    value = max(LEAST_L1_MB, _whole(scene.settings.l1_max_mb / 2))
    helps = (
        l1 >= 0.1 * limit and value < scene.settings.l1_max_mb and 'l1_max_mb' not in scene.changed
    )
    yield Advice(
        'memory_is_scarce',
        math.inf,  # before everything else: a recycled worker is slow for everybody
        {
            'host': worst['host'],
            'pid': worst['pid'],
            'workers': len(near),
            'share': used / limit,
            'used_bytes': used,
            'limit_bytes': limit,
            'l1_bytes': l1,
            'sheds': sum(worker['sheds'] for worker in near),
        },
        {'do': 'option', 'name': 'l1_max_mb', 'value': value} if helps else None,
    )


def redis_is_slow(scene: Scene):
    """Redis takes about as long as computing does."""
    l2 = scene.totals.get('l2') or {}
    hits = l2.get('hits', 0)
    if hits < FEW_L2_HITS or l2['saved_ms'] >= SLOW_SHARE * l2['duration_ms']:
        return
    if 'l2_min_cost_ms' in scene.changed:
        return
    value = math.ceil(2 * l2['duration_ms'] / hits)
    if value <= scene.settings.l2_min_cost_ms:
        return
    yield Advice(
        'redis_is_slow',
        l2['duration_ms'],
        {
            'hits': int(hits),
            'duration_ms': l2['duration_ms'] / hits,
            'saved_ms': l2['saved_ms'] / hits,
        },
        {'do': 'option', 'name': 'l2_min_cost_ms', 'value': value},
    )


def clock_shortens(scene: Scene):
    """A popular list is computed again and again since one of its fields looks at the clock."""
    ttl_s = scene.settings.time_dependent_ttl_s
    if ttl_s >= CLOCK_TTL_S or 'time_dependent_ttl_s' in scene.changed:
        return
    for method in scene.methods:
        count = method.details.get(('expired', CLOCK), 0)
        if count >= FEW_CLOCK and count >= CLOCK_SHARE * method.calls:
            share = count / method.reasons['expired']
            yield Advice(
                'clock_shortens',
                method.cost_ms.get('expired', 0.0) * share,
                {
                    'model': method.model,
                    'method': method.method,
                    'count': count,
                    'share': count / method.calls,
                    'ttl_s': ttl_s,
                },
                {'do': 'option', 'name': 'time_dependent_ttl_s', 'value': CLOCK_TTL_S},
            )


ALL = (
    does_not_pay,
    l1_too_small,
    just_too_large,
    busy_relation,
    needless_column,
    memory_is_scarce,
    redis_is_slow,
    clock_shortens,
)

OPTIONS = ('l1_max_entries', 'l1_max_mb', 'max_entry_kb', 'l2_min_cost_ms', 'time_dependent_ttl_s')
"""Those that advice may change."""


def _about(advice: Advice) -> tuple:
    return tuple(advice.evidence.get(name) for name in ('relation', 'model', 'method'))


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else number


def _kilobytes(detail: str) -> int:
    """The number in '2048 kB', see :func:`.reading.size_class`; 0 for anything else."""
    number = detail.removesuffix(' kB')
    return int(number) if number.isdecimal() else 0
