"""How a named entry is cached: what its caller says, what its namespace says, what all get.

The one idea: the administrator's namespace (``cache.namespace``, the longest that the name begins
with) wins over the options of the call, those over :data:`DEFAULTS`; but no administrator can make
more people share a value than the code allows.  The result is a :class:`NamedPlan`, worked out once
for each combination.

What may go wrong: a misspelt option, a number out of range.  :class:`BadOption` says which, when
the decorator is applied or the call is made, not when the entry is first stored.
"""

from __future__ import annotations

import dataclasses
import math

from .keys import InvalidKey
from .options import MAX_TTL_S
from .policy import TIERS, Plan
from .removal import validate_tag

_NAMESPACE_NUMBERS = (
    'max_staleness_s',
    'max_kb',
    'single_flight_s',
    'fail_safe_s',
    'fail_safe_pause_s',
    'revalidate_s',
)

NAMESPACE_COLUMNS = (
    'name',
    'consistency',
    'sharing',
    *_NAMESPACE_NUMBERS,
    *(f'use_{tier}' for tier in TIERS),
    *(f'{tier}_ttl_s' for tier in TIERS),
    'min_cost_ms',
    'eager_refresh_percent',
)
"""Columns of ``cache_namespace`` that the engine reads."""

SHARING = ('user', 'company', 'all')
CONSISTENCY = ('strong', 'eventual', 'weak')

MAX_WAIT_S = 60.0
"""Longest wait for somebody else's computation that may be asked for."""


class BadOption(ValueError):
    """An option that does not exist or has a value that it cannot have; a sentence."""


DEFAULTS = {
    'ttl_s': {'l1': 60.0, 'l2': 300.0, 'l3': 3600.0},
    'consistency': 'strong',
    'max_staleness_s': 1.0,
    'tiers': TIERS,
    'min_cost_ms': 0.0,
    'sharing': 'user',
    'max_kb': 0.0,
    'tags': (),
    'single_flight_s': 2.0,
    'eager_refresh': 0.0,
    'fail_safe_s': 0.0,
    'fail_safe_pause_s': 10.0,
    'revalidate_s': 0.0,
    'soft_timeout_s': 0.0,
    'hard_timeout_s': 0.0,
}
"""Values for who says nothing.  See docs/named-entries.md for what they mean."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NamedPlan(Plan):
    """A plan for named entries.

    :param sharing: who gets one and the same value: 'user' (with language, time zone and
        companies), 'company' (those who work in the same companies and language) or 'all'
    :param max_bytes: largest value, packed; 0: what Settings say
    :param tags: names by which entries are removed together
    :param single_flight_s: how long to wait for somebody who computes the same, seconds
    :param eager_refresh: part of the life, at whose end a hit asks for a new value; 0: never
    :param fail_safe_s: how long after its life a value may stand in for one that cannot be
        computed, seconds; 0: never
    :param fail_safe_pause_s: how long after a failure nobody tries again, seconds
    :param soft_timeout_s: a computation that takes longer lets an expired value stand in and goes
        on in the background; 0: no limit
    :param hard_timeout_s: a computation that takes longer is given up; 0: no limit
    """

    sharing: str
    max_bytes: int
    tags: tuple[str, ...]
    single_flight_s: float
    eager_refresh: float
    fail_safe_s: float
    fail_safe_pause_s: float
    soft_timeout_s: float
    hard_timeout_s: float

    @property
    def longest_life_s(self) -> float:
        """How long an entry lives, without what comes after it."""
        return max(self.ttl_s.values(), default=0.0) - self.keep_s

    def end_of(self, entry) -> float:
        """When the life of an entry is over, without what comes after it, seconds since 1970.

        It may have been kept under another plan, which had it kept for longer after its life.
        """
        return min(entry.expires - self.keep_s, entry.created + self.longest_life_s)


def longest_of(namespace: dict) -> float:
    """How long an entry of a namespace may be kept in all, as its record says, seconds."""
    keep_s = max(namespace['fail_safe_s'] or 0, namespace['revalidate_s'] or 0)
    return max(namespace[f'{tier}_ttl_s'] or 0 for tier in TIERS) + keep_s


def plan_for(
    options: dict, namespace: dict | None = None, longest_s: float = math.inf
) -> NamedPlan:
    """The plan that follows from the options of a call and of its namespace.

    :param namespace: a row of ``cache_namespace``, see :data:`NAMESPACE_COLUMNS`
    :param longest_s: an upper limit to what an entry is kept in all, seconds
    :raise BadOption: with a sentence
    """
    unknown = options.keys() - DEFAULTS.keys()
    if unknown:
        raise BadOption(
            f'There is no option {min(unknown)!r}. The options are: {", ".join(DEFAULTS)}.'
        )
    given = {name: value for name, value in options.items() if value is not None}
    values = {**DEFAULTS, **given}
    sharing = _choice('sharing', values['sharing'], SHARING)
    ttl_s = _ttl(values['ttl_s'])
    if namespace:
        values.update(_said(namespace))
        sharing = min(sharing, values['sharing'], key=SHARING.index)
        ttl_s.update({t: float(s) for t in TIERS if (s := namespace[f'{t}_ttl_s'])})
    tiers = _subset('tiers', values['tiers'], TIERS)
    fail_safe_s = _number('fail_safe_s', values['fail_safe_s'], MAX_TTL_S)
    # an entry that may stand in for a new one, or be renewed, lives on after its time
    keep_s = max(fail_safe_s, _number('revalidate_s', values['revalidate_s'], MAX_TTL_S))
    keep_s = min(keep_s, longest_s / 2)
    floor = _number('min_cost_ms', values['min_cost_ms'], 1e6)
    return NamedPlan(
        consistency=_choice('consistency', values['consistency'], CONSISTENCY),
        max_staleness_s=_number('max_staleness_s', values['max_staleness_s'], 3600),
        ttl_s={tier: min(ttl_s[tier] + keep_s, longest_s) for tier in TIERS},
        min_cost_ms=dict.fromkeys(tiers, floor),
        sharing=sharing,
        max_bytes=int(_number('max_kb', values['max_kb'], 65536) * 1024),
        tags=_tags(values['tags']),
        single_flight_s=_number('single_flight_s', values['single_flight_s'], MAX_WAIT_S),
        eager_refresh=_number('eager_refresh', values['eager_refresh'], 0.95),
        fail_safe_s=fail_safe_s,
        fail_safe_pause_s=_number('fail_safe_pause_s', values['fail_safe_pause_s'], 3600),
        keep_s=keep_s,
        soft_timeout_s=_number('soft_timeout_s', values['soft_timeout_s'], 3600),
        hard_timeout_s=_number('hard_timeout_s', values['hard_timeout_s'], 3600),
    )


def _said(namespace: dict) -> dict:
    """What a row of ``cache_namespace`` says; 0, -1 and empty leave it to the code."""
    said = {
        name: namespace[name]
        for name in ('consistency', 'sharing', *_NAMESPACE_NUMBERS)
        if namespace[name]
    }
    tiers = tuple(tier for tier in TIERS if namespace[f'use_{tier}'])
    if tiers != TIERS:
        said['tiers'] = tiers
    if namespace['min_cost_ms'] is not None and namespace['min_cost_ms'] >= 0:
        said['min_cost_ms'] = namespace['min_cost_ms']
    if namespace['eager_refresh_percent']:
        said['eager_refresh'] = namespace['eager_refresh_percent'] / 100
    return said


def _ttl(value) -> dict[str, float]:
    """Seconds by tier, from a number for all or from numbers by tier."""
    if not isinstance(value, dict):
        value = dict.fromkeys(TIERS, value)
    _subset('ttl_s', value, TIERS)
    return {
        tier: _number('ttl_s', value.get(tier, DEFAULTS['ttl_s'][tier]), MAX_TTL_S)
        for tier in TIERS
    }


def _number(name: str, value, maximum: float) -> float:
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if not number or not math.isfinite(value) or not 0 <= value <= maximum:
        raise BadOption(f'{name} must be a number between 0 and {maximum:g}, not {value!r}.')
    return float(value)


def _choice(name: str, value, choices) -> str:
    if value not in choices:
        raise BadOption(f'{name} must be one of {", ".join(choices)}, not {value!r}.')
    return value


def _subset(name: str, values, choices) -> tuple:
    if isinstance(values, str) or not all(value in choices for value in values) or not values:
        raise BadOption(f'{name} must name some of {", ".join(choices)}, not {values!r}.')
    return tuple(value for value in choices if value in values)


def _tags(values) -> tuple[str, ...]:
    if isinstance(values, str):
        raise BadOption(f'tags must be a list of texts, not {values!r}.')
    for tag in values:
        try:
            validate_tag(tag)
        except InvalidKey as error:
            raise BadOption(str(error)) from None
    return tuple(sorted(set(values)))
