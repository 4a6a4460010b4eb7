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
from .jitter import end_of
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
    :param before: the payload that was stale, b'' for none
    """

    entry: Entry | None
    tier: str = ''
    reason: str = 'cold'
    relation: str = ''
    before: bytes = b''


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
    :param jitter_percent: by how much lives are shortened at most, see :mod:`.jitter`
    """

    def __init__(self, tiers: dict, post, writers: dict | None = None, jitter_percent: float = 0.0):
        self.tiers = tiers
        self.writers = writers or {}
        self.jitter_percent = jitter_percent
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
        reason, relation, before = 'cold', '', b''
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
                before = entry.payload if why == 'stale' else b''
        if reason == 'cold':
            reason, relation = self._gone.pop(key, (reason, ''))
        return Found(None, '', reason, relation, before)

    def get_many(self, questions) -> dict[str, Found]:
        """Find several answers; each tier is asked once for all that is left.

        :param questions: a key, a plan and a ``judge`` each, as :meth:`get` takes them; no key
            twice
        """
        left, found = {key: (plan, judge) for key, plan, judge in questions}, {}
        worst = dict.fromkeys(left, ('cold', ''))
        for name in TIERS:
            tier = self.tiers.get(name)
            asked = [
                key
                for key, (plan, _judge) in left.items()
                if tier is not None and self._may_answer(name, tier, key, plan, None)
            ]
            for key, entry in (tier.get_many(asked) if asked else {}).items():
                plan, judge = left[key]
                why, what = judge(entry)
                if not why:
                    del left[key]
                    self._promote(name, entry, plan)
                    found[key] = Found(entry, name)
                elif worst[key][0] != 'stale':
                    worst[key] = why, what
        for key in left:
            reason, relation = worst[key]
            if reason == 'cold':
                reason, relation = self._gone.pop(key, (reason, ''))
            found[key] = Found(None, '', reason, relation)
        return found

    def put(
        self, entry: Entry, plan: Plan, ttl_cap_s: float | None = None, at_once: bool = False
    ) -> list[str]:
        """As :meth:`put_many`, for one."""
        return self.put_many([(entry, plan, ttl_cap_s)], at_once)

    def put_many(self, items, at_once: bool = False) -> list[str]:
        """Keep entries in every tier that admits them.

        :param items: an entry, its plan, and an upper limit to its life in every tier, seconds or
            None, each
        :param at_once: write them to the nearest shared tier before returning
        :return: names of the tiers
        """
        admitted, waiting = [], set(range(len(items))) if at_once else set()
        for name in TIERS:
            kept = {
                number: self._limited(name, *item)
                for number, item in enumerate(items)
                if self._admits(name, *item[:2])
            }
            if kept:
                admitted.append(name)
            due = kept.keys() & waiting if name != 'l1' else ()
            if due and self._write(name, [kept[number] for number in sorted(due)]):
                waiting -= due
            else:
                due = ()
            for number in sorted(kept.keys() - due):
                self._keep(name, kept[number])
        return admitted

    def _admits(self, name: str, entry: Entry, plan: Plan) -> bool:
        floor = plan.min_cost_ms.get(name)
        return name in self.tiers and floor is not None and entry.cost_ms >= floor

    def _limited(self, name: str, entry: Entry, plan: Plan, ttl_cap_s: float | None) -> Entry:
        ttl_s = plan.ttl_s[name]
        if ttl_cap_s is not None:
            ttl_s = min(ttl_s, ttl_cap_s)
        return dataclasses.replace(entry, expires=self._end_of(entry, ttl_s, plan))

    def _promote(self, found_in: str, entry: Entry, plan: Plan) -> None:
        self._copy(TIERS[: TIERS.index(found_in)], entry, plan)

    def spread(self, entry: Entry, found_in: str, plan: Plan) -> None:
        """Bring a good entry to the tiers below the one that had it, too."""
        self._copy(TIERS[TIERS.index(found_in) + 1 :], entry, plan)

    def _copy(self, names, entry: Entry, plan: Plan) -> None:
        for name in names:
            if self._admits(name, entry, plan):
                # never longer than where it was found: what looked at the clock lives briefly
                expires = min(entry.expires, self._end_of(entry, plan.ttl_s[name], plan))
                if expires > time.time():
                    self._keep(name, dataclasses.replace(entry, expires=expires))

    def _end_of(self, entry: Entry, ttl_s: float, plan: Plan) -> float:
        return end_of(entry.key, entry.created, ttl_s, plan.keep_s, self.jitter_percent)

    def _write(self, name: str, entries: list[Entry]) -> bool:
        """Write to a shared tier; it bounds the time by itself.

        :return: whether all of them were written
        """
        tier = self.writers.get(name) or self.tiers[name]
        up = all(tier.is_up_for(entry.key) for entry in entries)
        return up and tier.set_many(entries) == len(entries)

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
