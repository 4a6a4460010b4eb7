"""L1, L2, L3, compute: where an answer is looked for and where it is kept.

The one idea: a tier is asked in order of nearness, what it returns is *judged* against
the versions of the caller's snapshot before it is used, and a good answer is promoted to
the tiers above the one that had it.

What may go wrong: nothing that reaches the caller.  A tier that fails answers "miss"; an
entry that fails the judgement is passed over, and another tier may have a newer one,
stored by another worker.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
import typing

from .entry import FLAG_CLOCK, Entry
from .miss import MISS
from .policy import TIERS, Plan
from .tiers.base import PROBE_KEY

_PACE_OF = 3
"""Answers in a row that tell how fast a tier is."""

_SLOW_MS = 2.0
"""A tier that takes longer is looked after by the background: no read may ask it any more.  Redis
on the same machine takes 0.1 ms, in the next data centre 1 ms."""


CLOCK = 'clock'


class Found(typing.NamedTuple):
    """:param tier: where the answer came from, '' for none
    :param reason: why there is none: cold, stale, expired, evicted
    :param relation: which relation's change made an entry stale; :data:`CLOCK` for one that
        expired and whose life was short because it had looked at the time of day
    """

    entry: Entry | None
    tier: str = ''
    reason: str = 'cold'
    relation: str = ''


def detail_of_expiry(entry: Entry | None) -> str:
    """:data:`CLOCK` for an entry that lived briefly because it had looked at the time of day."""
    return CLOCK if entry is not None and entry.flags & FLAG_CLOCK else ''


class Hierarchy:
    """The tiers of one process and database.

    :param tiers: by name, in any combination of l1, l2, l3
    :param post: ``post(tier_name, entry)`` writes to a shared tier later, outside the
        request
    :param writers: tiers by which the outbox writes, where these are others: a request must
        not wait for a connection on which a batch is being written
    """

    def __init__(self, tiers: dict, post, writers: dict | None = None):
        self.tiers = tiers
        self.writers = writers or {}
        self._post = post
        self._gone: collections.OrderedDict[str, tuple[str, str]] = collections.OrderedDict()
        self._gone_lock = threading.Lock()
        self._last_ms = {name: collections.deque(maxlen=_PACE_OF) for name in TIERS}

    def evicted(self, key: str, _entry=None) -> None:
        """L1 had no room for an entry."""
        self._remember(key, 'evicted', '')

    def expired(self, key: str, entry=None) -> None:
        """L1 has dropped an entry whose time was over."""
        self._remember(key, 'expired', detail_of_expiry(entry))

    def _remember(self, key: str, reason: str, detail: str) -> None:
        """So that the next miss on the key can say why; bounded to 10,000 keys."""
        with self._gone_lock:
            self._gone[key] = reason, detail
            if len(self._gone) > 10_000:
                self._gone.popitem(last=False)

    def get(self, key: str, plan: Plan, judge, expected_ms: float | None, only_l1=False) -> Found:
        """Find a valid answer.

        :param judge: ``judge(entry) -> (reason, relation)``, reason '' for valid
        :param expected_ms: what computing will probably cost; a tier is not asked if its
            minimum cost is above that, since it would not have admitted the answer, nor if
            it has lately taken longer than that to say anything
        """
        reason, relation = 'cold', ''
        for name in TIERS:
            tier = self.tiers.get(name)
            if tier is None or (only_l1 and name != 'l1'):
                continue
            if not self._may_answer(name, tier, key, plan, expected_ms):
                continue
            entry = self._ask(name, tier, key)
            if entry is MISS:
                continue
            why, what = judge(entry)
            if not why:
                self._promote(name, entry, plan)
                return Found(entry, name)
            if reason != 'stale':
                reason, relation = why, what
        if reason == 'cold':
            reason, relation = self._gone.pop(key, (reason, ''))
        return Found(None, '', reason, relation)

    def put(
        self, entry: Entry, plan: Plan, ttl_cap_s: float | None = None, at_once: bool = False
    ) -> list[str]:
        """Keep an entry in every tier that admits it.

        :param ttl_cap_s: an upper limit to its life, seconds, in every tier
        :param at_once: write it to the nearest shared tier before returning
        :return: names of the tiers
        """
        admitted = []
        for name in TIERS:
            tier = self.tiers.get(name)
            floor = plan.min_cost_ms.get(name)
            if tier is None or floor is None or entry.cost_ms < floor:
                continue
            ttl_s = plan.ttl_s[name]
            if ttl_cap_s is not None:
                ttl_s = min(ttl_s, ttl_cap_s)
            kept = dataclasses.replace(entry, expires=entry.created + ttl_s)
            if at_once and name != 'l1' and self._write(name, kept):
                at_once = False
            else:
                self._keep(name, kept)
            admitted.append(name)
        return admitted

    def _promote(self, found_in: str, entry: Entry, plan: Plan) -> None:
        for name in TIERS[: TIERS.index(found_in)]:
            if name in self.tiers and entry.cost_ms >= plan.min_cost_ms.get(name, float('inf')):
                expires = min(entry.expires, entry.created + plan.ttl_s[name])
                if expires > time.time():
                    self._keep(name, dataclasses.replace(entry, expires=expires))

    def _write(self, name: str, entry: Entry) -> bool:
        """Write to a shared tier; it bounds the time by itself."""
        tier = self.writers.get(name) or self.tiers[name]
        return tier.is_up_for(entry.key) and tier.set(entry)

    def _keep(self, name: str, entry: Entry) -> None:
        if name == 'l1':
            self.tiers['l1'].set(entry)
        else:
            self._post(name, entry)

    def _may_answer(self, name: str, tier, key: str, plan: Plan, expected_ms: float | None) -> bool:
        if name not in plan.min_cost_ms or not tier.is_up_for(key):
            return False
        if name == 'l1' or expected_ms is None:
            return True
        return expected_ms >= max(plan.min_cost_ms[name], self._pace_ms(name))

    def _ask(self, name: str, tier, key: str):
        if name == 'l1':
            return tier.get(key)
        start = time.perf_counter()
        entry = tier.get(key)
        self._last_ms[name].append((time.perf_counter() - start) * 1000)
        return entry

    def _pace_ms(self, name: str) -> float:
        """How long a tier takes at the least, of late; one slow answer says nothing."""
        last = self._last_ms[name]
        return min(last) if len(last) == _PACE_OF else 0.0

    def probe(self) -> None:
        """Try the tiers that have failed or are slow; not in a request, which would wait."""
        for name, tier in self.tiers.items():
            tier.probe()
            if tier.is_up and self._pace_ms(name) > _SLOW_MS:
                for _ in range(_PACE_OF):
                    self._ask(name, tier, PROBE_KEY)

    def each(self, action: str, *args) -> dict[str, int]:
        """Call a removal on every tier; returns what went, by tier."""
        return {name: getattr(tier, action)(*args) for name, tier in self.tiers.items()}

    def close_except(self, successor: Hierarchy) -> None:
        """Close the tiers that another hierarchy does not go on using."""
        kept = set(map(id, successor.all()))
        for tier in self.all():
            if id(tier) not in kept:
                tier.close()

    def all(self) -> list:
        return [*self.tiers.values(), *self.writers.values()]

    def close(self) -> None:
        for tier in self.all():
            tier.close()
