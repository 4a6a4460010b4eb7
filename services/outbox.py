"""Work that no request waits for: guards, writes to shared tiers, figures, compaction.

The one idea: one daemon thread per process, started by the first post, runs what the
engines of this process have queued.  Everything in the queue may be lost without harm:
entries are worth a recomputation, guards are asked for again by the next miss.

What may go wrong: a fork takes the queue but not the thread; the engine of the child is a
new one and starts its own.  A job that raises is logged once per kind and dropped.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
import weakref
from collections.abc import Callable

_logger = logging.getLogger(__name__)

MAX_WAITING_BYTES = 16 * 2**20
"""Of entries that wait for a shared tier; beyond that new ones are dropped and counted, so that
a slow tier costs bounded memory."""


class Outbox:
    """The queue of one engine.

    :param tiers: ``tiers()`` returns the tiers by name, when the entries are written
    :param idle_s: seconds after which ``tick`` runs although nothing was posted
    :param tick: periodic work of the engine, called without arguments
    """

    def __init__(self, tiers: Callable[[], dict], tick: Callable[[], None], idle_s: float = 5.0):
        self._tiers = tiers
        self._tick = tick
        self._idle_s = idle_s
        self._entries: collections.deque = collections.deque()
        self._jobs: dict[str, Callable[[], object]] = {}
        self._wake = threading.Event()
        self._start_lock = threading.Lock()
        self._run_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
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
        self._wake.set()
        self.start()

    def post_job(self, name: str, job: Callable[[], object]) -> None:
        """Run a job soon; posted twice before it ran, it runs once."""
        self._jobs[name] = job
        self._wake.set()
        self.start()

    def flush(self) -> None:
        """Run everything that is queued in the calling thread; for tests and shutdown."""
        with self._run_lock:
            self._write_entries()
            for name in list(self._jobs):
                self._run_job(name, self._jobs.pop(name))

    def close(self) -> None:
        """Stop the thread after what it is doing; what is queued is dropped."""
        self._closed = True
        self._wake.set()

    def start(self) -> None:
        """Start the thread, if it does not run."""
        if self._thread is not None or self._closed:
            return
        with self._start_lock:
            if self._thread is None:
                # a weak reference: an engine that its registry has dropped may be collected,
                # and then its thread ends
                self._thread = threading.Thread(
                    target=_run,
                    args=(weakref.ref(self), self._wake, self._idle_s),
                    name='tiered_cache.outbox',
                    daemon=True,
                )
                self._thread.start()

    def work(self) -> bool:
        """One round of the thread.

        :return: whether there will be another one
        """
        if self._closed:
            return False
        self.flush()
        if time.monotonic() - self._ticked_at >= self._idle_s:
            self._ticked_at = time.monotonic()
            self._run_job('tick', self._tick)
        return not self._closed

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


def _run(ref: weakref.ref, wake: threading.Event, idle_s: float) -> None:
    while True:
        wake.wait(idle_s)
        wake.clear()
        # a breath, so that one request's entries travel together, and the request itself has
        # the interpreter for itself until it has answered
        time.sleep(0.02)
        outbox = ref()
        if outbox is None or not outbox.work():
            return
        del outbox
