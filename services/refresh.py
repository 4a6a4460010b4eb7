"""New values in the background, before the old ones are needed.

The one idea: a refresh is a computation like any other, in a thread, a transaction and a snapshot
of its own.  What it finds is kept with the versions of that snapshot, so it can be late, never
wrong.

What may go wrong: more is asked for than can be done.  A key waits once however often it is asked
for, and beyond :data:`MAX_WAITING` keys requests are dropped: a value that was not refreshed is
computed when its time is over.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
import weakref

_logger = logging.getLogger(__name__)

MAX_WAITING = 1000
IDLE_S = 10.0
"""A thread that had nothing to do for so long ends."""

PAUSE_S = 0.05
"""The request that has asked for it should have been answered first."""


class Refresher:
    """One thread, while there is something to do; of one process and database."""

    def __init__(self):
        self._jobs: collections.OrderedDict = collections.OrderedDict()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.dropped = 0
        self.failed = 0

    def ask(self, key: str, job) -> bool:
        """Have a job run once for a key.

        :param job: without arguments
        :return: whether it will be
        """
        with self._wake:
            if self._closed or key in self._jobs:
                return False
            if len(self._jobs) >= MAX_WAITING:
                self.dropped += 1
                return False
            self._jobs[key] = job
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_run, args=(weakref.ref(self),), name='tiered_cache.refresh', daemon=True
                )
                self._thread.start()
            self._wake.notify()
        return True

    def work(self) -> bool:
        """Do one job, or wait for one.

        :return: whether the thread goes on
        """
        with self._wake:
            if not self._jobs and not self._closed:
                self._wake.wait(IDLE_S)
            if not self._jobs or self._closed:
                self._thread = None
                return False
            _key, job = self._jobs.popitem(last=False)
        time.sleep(PAUSE_S)
        self.run(job)
        return True

    def flush(self) -> None:
        """Do all jobs in the calling thread; for tests."""
        while self._jobs:
            self.run(self._jobs.popitem(last=False)[1])

    def run(self, job) -> None:
        try:
            job()
        except Exception:  # noqa: BLE001 nobody waits for it
            self.failed += 1
            _logger.info("Tiered Cache: a value could not be refreshed", exc_info=True)

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._jobs.clear()
            self._wake.notify_all()


def _run(ref) -> None:
    while True:
        refresher = ref()
        if refresher is None or not refresher.work():
            return
        del refresher
