"""One thread per process for the background work of all its databases.

The one idea: the thread goes round the outboxes and does what is due, and no database can keep
the others waiting: where a process serves several, each piece of work is lent to a second
thread (:class:`_Hands`), which is left behind if it does not come back within STALL_S.  So there
is one thread for one database, two for many, and one more for each database that hangs, until
it answers or its connection breaks.

At a clean end of the process (``atexit``: SIGTERM or SIGINT to a server, a prefork worker that is
recycled) each outbox gets a last round, all together no longer than LEAVE_S.

What may go wrong: a fork takes the object but not its thread; the child has a keeper of its own
and leaves the parent's alone.  A process that is killed (SIGKILL; also SIGTERM sent to a prefork
*worker*, for which Odoo restores the default) loses what its queues held: results are computed
again, figures of ``metrics_flush_s`` are missing.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable

_logger = logging.getLogger(__name__)

STALL_S = 5.0
"""So long may work for one database keep that of the others waiting, and once: it is not asked
again before it has come back.  A statement of ours is ended by PostgreSQL after 60 s
(``Engine.cursor``); a server that does not even do that is only noticed by TCP."""

LEAVE_S = 5.0
"""Longest delay of the end of a process.  Writing figures and 16 MB of entries takes about a
second; Odoo itself gives requests one second, systemd a service 90."""

GLANCE_S = 0.25
"""How often memory is measured, which takes 50 µs.  A worker that does nothing but fill L1 with
large answers does so at 10 to 20 MB a second, and a tenth of Odoo's default limit is 200 MB."""

BREATH_S = 0.02
"""So that the entries of one request travel together, and the request itself has the interpreter
for itself until it has answered."""


class Keeper:
    """The keeper of one process; see :func:`keeper`.

    :ivar stalls: how often work took longer than it may; the first time is logged
    :ivar faults: of the thread itself, by name of the exception; the first one is logged
    """

    def __init__(self):
        self.stalls = 0
        self.faults: collections.Counter = collections.Counter()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._left = threading.Event()
        self._outboxes: weakref.WeakSet = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._hands: _Hands | None = None
        self._busy_alone = False
        self._glanced_at = -GLANCE_S
        self._leaving = False

    def add(self, outbox) -> None:
        """Look after an outbox from now on, until it is closed or nobody else holds it."""
        with self._lock:
            self._outboxes.add(outbox)
            if self._leaving:
                return
            if self._thread is None or self._busy_alone:
                # who works for the only database has lent the work to nobody, and may hang
                self._busy_alone = False
                self._thread = threading.Thread(
                    target=self._run, name='tiered_cache.keeper', daemon=True
                )
                self._thread.start()
        self._wake.set()

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    def leave(self, timeout_s: float = LEAVE_S) -> bool:
        """Do what is left to do, and end.

        :return: whether everybody had a last round in time
        """
        with self._lock:
            self._leaving = True
            thread = self._thread
        self._wake.set()
        return thread is None or self._left.wait(timeout_s)

    def _run(self) -> None:
        idle_s: float | None = 0.0
        while idle_s is not None and self._is_in_charge():
            try:
                idle_s = self._turn(idle_s)
            except Exception as error:  # noqa: BLE001 whatever it is, others wait for this thread
                if not self.faults:
                    _logger.exception("Tiered Cache: the background thread goes on after a fault.")
                self.faults[type(error).__name__] += 1
                idle_s = GLANCE_S

    def _turn(self, idle_s: float) -> float | None:
        """Wait for something to do, and do it.

        :return: how long to wait next time, seconds; None: the thread ends
        """
        self._wake.wait(idle_s)
        self._wake.clear()
        if self._leaving:
            self._last_round()
            return None
        _breathe()
        outboxes = self._next_round()
        idle_s = min((outbox.idle_s for outbox in outboxes), default=GLANCE_S)
        self._glance(outboxes)
        while outboxes and self._is_in_charge():
            outbox = outboxes.pop()
            if outbox.is_due():
                self._do(outbox.work, STALL_S)
            del outbox  # its owner may have gone, and then it is to go too
        return min(idle_s, GLANCE_S)

    def _glance(self, outboxes: list) -> None:
        now = time.monotonic()
        if now - self._glanced_at >= GLANCE_S:
            self._glanced_at = now
            for outbox in outboxes:
                outbox.glance()

    def _is_in_charge(self) -> bool:
        """Whether nobody has taken over from this thread."""
        return self._thread is threading.current_thread()

    def _next_round(self) -> list:
        """The outboxes; if there are none, this thread ends."""
        with self._lock:
            for outbox in list(self._outboxes):
                if outbox.is_closed:
                    self._outboxes.discard(outbox)
            if not self._outboxes and self._is_in_charge():
                self._thread = None
                self._release_hands()
                if self._leaving:
                    self._left.set()  # nobody is left who could need a last round
            return list(self._outboxes)

    def _last_round(self) -> None:
        until, done = time.monotonic() + LEAVE_S, True
        outboxes = self._next_round()
        while outboxes:
            # what one does not need is for those that follow
            share_s = max(0.0, until - time.monotonic()) / len(outboxes)
            done = self._do(outboxes.pop().leave, share_s) and done
        if done:
            self._left.set()

    def _do(self, work: Callable[[], object], timeout_s: float) -> bool:
        """:return: whether it was done, in time"""
        with self._lock:
            alone = len(self._outboxes) <= 1
            self._busy_alone = alone and self._is_in_charge()
            if not alone and self._hands is None:
                self._hands = _Hands()
            hands = self._hands
        if alone:
            self._release_hands()
            _try(work)
            with self._lock:
                if self._is_in_charge():
                    self._busy_alone = False
            return True
        if hands.do(work, timeout_s):
            return True
        self._release_hands()
        _logger.log(
            logging.DEBUG if self.stalls else logging.WARNING,
            "Tiered Cache: background work for one database takes longer than %.1f s; the other "
            "databases of this process go on without it.",
            timeout_s,
        )
        self.stalls += 1
        return False

    def _release_hands(self) -> None:
        hands, self._hands = self._hands, None
        if hands is not None:
            hands.release()


class _Hands:
    """A thread to which work is lent that may not come back."""

    def __init__(self):
        self._work: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._run, name='tiered_cache.hands', daemon=True).start()

    def do(self, work: Callable[[], object], timeout_s: float) -> bool:
        """:return: whether it was done in time"""
        done = threading.Event()
        self._work.put((work, done))
        return done.wait(timeout_s)

    def release(self) -> None:
        """End after what is being done."""
        self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, done = item
            _try(work)
            done.set()
            del item, work


def _breathe() -> None:
    # not time.sleep, which fails in a process whose clock is changed (libfaketime)
    threading.Event().wait(BREATH_S)


def _try(work: Callable[[], object]) -> None:
    """Whatever is wrong with one piece of work, the thread goes on."""
    try:
        work()
    except Exception:
        _logger.exception("Tiered Cache: background work failed.")


_keepers: dict[int, Keeper] = {}
"""By process: after a fork there may be that of the parent."""


def keeper() -> Keeper:
    """The keeper of this process."""
    pid = os.getpid()
    found = _keepers.get(pid)
    if found is None:
        # no lock, which another thread might hold while it forks: setdefault is atomic
        new = Keeper()
        found = _keepers.setdefault(pid, new)
        if found is new:
            atexit.register(_leave, pid)
            for other in set(_keepers) - {pid}:
                _keepers.pop(other, None)
    return found


def _leave(pid: int) -> None:
    if pid == os.getpid() and pid in _keepers and not _keepers[pid].leave():
        with contextlib.suppress(Exception):  # the log may be closed already
            _logger.info("Tiered Cache: the process ends before everything was written.")
