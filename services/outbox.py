"""Work that no request waits for: guards, writes to shared tiers, figures, compaction.

The one idea: an engine queues, and the one background thread of the process (:mod:`.keeper`)
runs what the engines of this process have queued.  Everything in the queue may be lost without
harm: entries are worth a recomputation, guards are asked for again by the next miss.

What may go wrong: a fork takes the queue but not the thread; the engine of the child is a
new one, with a queue of its own.  A job that raises is logged once per kind and dropped.  A job
that does not come back keeps the queue of its database closed, and no other.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable

from .keeper import keeper

_logger = logging.getLogger(__name__)

MAX_WAITING_BYTES = 16 * 2**20
"""Of entries that wait for a shared tier; beyond that new ones are dropped and counted, so that
a slow tier costs bounded memory."""


class Outbox:
    """The queue of one engine.

    :param tiers: ``tiers()`` returns the tiers by name, when the entries are written
    :param idle_s: seconds after which ``tick`` runs although nothing was posted
    :param tick: periodic work of the engine, called without arguments
    :param glance: periodic work that waits for nobody, called about every second
    :param last: what is left to do when the process ends, called without arguments
    """

    def __init__(
        self,
        tiers: Callable[[], dict],
        tick: Callable[[], None],
        idle_s: float = 5.0,
        last: Callable[[], None] = lambda: None,
        glance: Callable[[], None] = lambda: None,
    ):
        self.idle_s = idle_s
        self.is_closed = False
        self._tiers = tiers
        self._tick = tick
        self._last = last
        self._glance = glance
        self._entries: collections.deque = collections.deque()
        self._jobs: dict[str, Callable[[], object]] = {}
        self._run_lock = threading.Lock()
        self._working = threading.Lock()
        self._keeper = None
        self._waiting_bytes = 0  # a race between threads makes it inexact, not unbounded
        self._ticked_at = time.monotonic()
        self._logged: set[str] = set()
        self.dropped = 0
        self.job_faults: collections.Counter = collections.Counter()

    def post_entry(self, tier: str, entry) -> None:
        """Write an entry to a shared tier, soon."""
        if self._waiting_bytes >= MAX_WAITING_BYTES:
            self.dropped += 1
            return
        self._waiting_bytes += entry.size_bytes
        self._entries.append((tier, entry))
        self.start()

    def post_job(self, name: str, job: Callable[[], object]) -> None:
        """Run a job soon; posted twice before it ran, it runs once."""
        self._jobs[name] = job
        self.start()

    def flush(self) -> None:
        """Run everything that is queued in the calling thread; for tests and shutdown."""
        with self._run_lock:
            self._write_entries()
            for name in list(self._jobs):
                self._run_job(name, self._jobs.pop(name))

    def close(self) -> None:
        """No work any more after what is being done; what is queued is dropped."""
        self.is_closed = True

    def start(self) -> None:
        """Have the background thread do what is due, now and from time to time."""
        if self.is_closed:
            return
        if self._keeper is None:
            self._keeper = keeper()
            self._keeper.add(self)
        else:
            self._keeper.wake()

    def is_due(self) -> bool:
        """Whether there is something to do, and nobody at it."""
        waits = self._entries or self._jobs or self._is_tick_due()
        return bool(waits) and not (self.is_closed or self._working.locked())

    def _is_tick_due(self) -> bool:
        return time.monotonic() - self._ticked_at >= self.idle_s

    def glance(self) -> None:
        """What needs no database, and does not wait for any."""
        if not self.is_closed:
            self._run_job('glance', self._glance)

    def work(self) -> None:
        """One round of the background thread."""
        if self.is_closed or not self._working.acquire(blocking=False):
            return
        try:
            self.flush()
            if self._is_tick_due():
                self._ticked_at = time.monotonic()
                self._run_job('tick', self._tick)
        finally:
            self._working.release()

    def leave(self) -> None:
        """The last round: what is queued, and what the engine has left."""
        if not self.is_closed and self._working.acquire(timeout=self.idle_s):
            try:
                self.flush()
                self._run_job('last', self._last)
            finally:
                self._working.release()

    def _write_entries(self) -> None:
        batches: dict[str, list] = collections.defaultdict(list)
        while self._entries:
            tier, entry = self._entries.popleft()
            self._waiting_bytes -= entry.size_bytes
            batches[tier].append(entry)
        tiers = self._tiers()
        for name, entries in batches.items():
            if name in tiers:
                self._run_job(f'write {name}', lambda t=tiers[name], e=entries: t.set_many(e))

    def _run_job(self, name: str, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception:
            self.job_faults[name] += 1
            level = logging.DEBUG if name in self._logged else logging.WARNING
            self._logged.add(name)
            _logger.log(
                level,
                "Background work %r failed; it is tried again when it is needed. "
                "Later failures of this kind are only counted.",
                name,
                exc_info=True,
            )
