"""What is asked for most, from L3 into the memory of a process that has just started.

The one idea: L1 goes with its process, the table ``cache_entry`` stays.  One query joins it with
the calls that save most time (:mod:`.calls`) and brings the best of them, in the background thread.
They are put into L1 as they are; each is judged by the reader's snapshot when it is used, like any
other.  When a warm-up has stored more, in whatever process, all processes fetch that too.

What may go wrong: nothing that a reader notices.  Entries that have become stale cost their place
until L1 needs it; named entries are left out, since only their code knows how long L1 may keep
them.
"""

from __future__ import annotations

import dataclasses
import time

from . import calls
from .entry import CorruptEntry, from_bytes

MAX_ENTRIES = 2_000
MAX_SHARE = 0.5
"""Of the bytes that L1 may take: the other half is for what is asked for now."""

# The best calls first, and the sizes before the bodies: most of a large table is not read.
_BEST = f"""
SELECT e.key, e.body
  FROM (SELECT id, sum(size_bytes) OVER (ORDER BY value DESC, id) AS total_bytes
          FROM (SELECT e.id, e.size_bytes, {calls.CURRENT_VALUE_SQL} AS value
                  FROM cache_call JOIN cache_entry e ON e.key = cache_call.key
                 WHERE e.expires > now() AT TIME ZONE 'utc'
                   AND e.created > to_timestamp(%s) AT TIME ZONE 'utc'
                 ORDER BY value DESC LIMIT %s) AS valuable) AS best
  JOIN cache_entry e ON e.id = best.id
 WHERE total_bytes <= %s
"""

_PROGRESS = "SELECT extract(epoch FROM max(warmed_at)) FROM cache_warmup"


class Preloader:
    """:param engine: of this process and database"""

    def __init__(self, engine):
        self._engine = engine
        self._progress: float | None = None
        self._newest = 0.0
        self.loaded = 0

    def work(self) -> int:
        """Bring the best entries that are newer than those which were brought before.

        :return: how many
        """
        engine = self._engine
        tiers = engine.hierarchy.tiers
        l1 = tiers.get('l1')
        if l1 is None or 'l3' not in tiers or not engine.settings.enabled:
            return 0
        with engine.cursor() as cr:
            self._progress = _progress(cr)
            max_bytes = int(engine.settings.l1_max_mb * 2**20 * MAX_SHARE)
            cr.execute(_BEST, [self._newest, MAX_ENTRIES, max_bytes])
            rows = cr.fetchall()
        # from the least valuable on, so that a policy by age keeps the best
        loaded = sum(self._keep(l1, key, bytes(body)) for key, body in reversed(rows))
        self.loaded += loaded
        return loaded

    def follow(self) -> None:
        """See whether a warm-up has stored more."""
        with self._engine.cursor() as cr:
            progress = _progress(cr)
        if progress != self._progress:
            self.work()

    def _keep(self, l1, key: str, body: bytes) -> bool:
        try:
            entry = from_bytes(body)
        except CorruptEntry:
            return False  # who reads it from L3 removes it
        self._newest = max(self._newest, entry.created)
        engine = self._engine
        model = engine.registry.models.get(entry.model)
        plan = None if model is None else engine.policy.plan(model, entry.method)
        if entry.key != key or not key.startswith('v1:orm:') or plan is None:
            return False
        expires = min(entry.expires, entry.created + plan.ttl_s['l1'])
        if 'l1' not in plan.min_cost_ms or expires <= time.time() or l1.has_newer(entry):
            return False
        return l1.set(dataclasses.replace(entry, expires=expires))


def _progress(cr) -> float | None:
    cr.execute(_PROGRESS)
    return cr.fetchone()[0]
