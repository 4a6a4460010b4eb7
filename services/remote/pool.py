"""A pool of connections: few of them, each used by one caller at a time, none for ever.

The one idea: a released connection is handed to whoever has waited longest, under the lock, so
that nobody who comes later can take it first.  What takes time (connecting, checking, closing)
happens outside the lock, on a place that was taken under it.

What may go wrong: no place is free in time (:class:`PoolTimeout`); the pool is closed, then or
while waiting (:class:`PoolClosed`); connecting fails, and the place goes to the next who waits.
After a fork the child must make a pool of its own.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable

from ..pool_figures import PoolFigures


class PoolTimeout(Exception):
    """No connection became free in time."""


class PoolClosed(Exception):
    """The pool was closed."""


class Slot:
    """A connection and what is known of it.

    :ivar good: whether its last use or check went well
    """

    __slots__ = ('connection', 'created_at', 'used_at', 'checked_at', 'good', 'busy')

    def __init__(self, connection, now: float):
        self.connection = connection
        self.created_at = self.used_at = self.checked_at = now
        self.good = True
        self.busy = True


class _Waiter:
    __slots__ = ('event', 'slot', 'may_connect', 'closed')

    def __init__(self):
        self.event = threading.Event()
        self.slot: Slot | None = None
        self.may_connect = self.closed = False


class Pool:
    """Thread-safe.

    :param connect: ``connect(timeout_s)`` returns a connection with a method ``close()``
    :param check: ``check(connection)`` is a cheap call; false or an exception: it is broken
    :param min_size: kept open by :meth:`tend`
    :param max_size: never more, those that are being opened included
    :param acquire_timeout_s: longest wait for a place
    :param idle_timeout_s: unused for so long, it is closed, beyond ``min_size``
    :param max_age_s: older ones are closed, however good
    :param check_after_s: unused for so long, it is checked before it is used
    :param clock: monotonic seconds
    """

    def __init__(
        self,
        connect: Callable,
        *,
        check: Callable | None = None,
        min_size: int = 0,
        max_size: int = 10,
        acquire_timeout_s: float = 5.0,
        idle_timeout_s: float = 60.0,
        max_age_s: float = 600.0,
        check_after_s: float = 30.0,
        clock=time.monotonic,
    ):
        self._connect = connect
        self._check = check
        self._min_size = min_size
        self._max_size = max(1, max_size)
        self._acquire_timeout_s = acquire_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._max_age_s = max_age_s
        self._check_after_s = check_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: collections.deque[Slot] = collections.deque()
        self._busy: set[Slot] = set()
        self._waiters: collections.deque[_Waiter] = collections.deque()
        self._places = 0  # taken by connections, or by those that are being opened
        self._figures = PoolFigures()
        self.is_closed = False

    @contextlib.contextmanager
    def connection(self, timeout_s: float | None = None):
        """A connection for one use; an exception within means that it is not used again.

        :param timeout_s: longest wait, if shorter than that of the pool
        :raise PoolTimeout:
        :raise PoolClosed:
        """
        slot = self.acquire(timeout_s)
        try:
            yield slot.connection
        except BaseException:
            self.release(slot, good=False)
            raise
        self.release(slot)

    def acquire(self, timeout_s: float | None = None) -> Slot:
        """See :meth:`connection`; to be given back with :meth:`release`."""
        started = self._clock()
        wait_s = self._acquire_timeout_s
        if timeout_s is not None:
            wait_s = min(wait_s, timeout_s)
        until = started + wait_s
        while True:
            slot = self._take(until)
            if slot is None:
                slot = self._open(until - self._clock())
            elif not self._is_usable(slot):
                self._discard(slot)
                continue
            self._figures.acquired_in(self._clock() - started)
            return slot

    def release(self, slot: Slot, good: bool = True) -> None:
        """Give a connection back; ``good`` is whether it may be used again."""
        slot.good = good
        if not good or self.is_closed or self._is_old(slot):
            self._discard(slot)
            return
        with self._lock:
            slot.busy, slot.used_at = False, self._clock()
            slot.checked_at = slot.used_at
            self._busy.discard(slot)
            if not self.is_closed:
                self._hand_over(slot)
                return
        self._discard(slot)

    def tend(self) -> None:
        """Close what is old or idle for long, check the rest, open what is missing."""
        for slot in self._take_all_idle():
            unused_s = self._clock() - slot.used_at
            spare = self._places > self._min_size
            over = self._is_old(slot) or (spare and unused_s >= self._idle_timeout_s)
            if over or not self._is_checked(slot):
                self._discard(slot)
            else:
                with self._lock:
                    slot.busy = False
                    self._busy.discard(slot)
                    self._hand_over(slot)
        while self._places < self._min_size and not self.is_closed:
            with self._lock:
                if self._places >= self._max_size:
                    return
                self._places += 1
            self.release(self._open(self._acquire_timeout_s))

    def close(self) -> None:
        """Reject who waits, close what is idle; what is in use is closed when it comes back."""
        with self._lock:
            self.is_closed = True
            waiters, self._waiters = self._waiters, collections.deque()
            idle, self._idle = self._idle, collections.deque()
            for waiter in waiters:
                waiter.closed = True
                waiter.event.set()
        for slot in idle:
            self._discard(slot)

    def stats(self) -> dict:
        """Figures; times in milliseconds and seconds as named."""
        with self._lock:
            slots = [*self._busy, *self._idle]
            now = self._clock()
            return self._figures.as_dict(
                (now - slot.created_at for slot in slots),
                active=len(self._busy),
                idle=len(self._idle),
                healthy=sum(slot.good for slot in slots),
                queued=len(self._waiters),
            )

    # -- places ------------------------------------------------------------------------

    def _take(self, until: float) -> Slot | None:
        """An idle connection, or None: a place to open one."""
        with self._lock:
            if self.is_closed:
                raise PoolClosed('The pool is closed.')
            if not self._waiters:
                if self._idle:
                    slot = self._idle.pop()  # the last used, so that those not needed grow idle
                    slot.busy = True
                    self._busy.add(slot)
                    return slot
                if self._places < self._max_size:
                    self._places += 1
                    return None
            waiter = _Waiter()
            self._waiters.append(waiter)
        waiter.event.wait(max(0.0, until - self._clock()))
        with self._lock:
            if waiter.closed:
                raise PoolClosed('The pool was closed.')
            if waiter.slot is not None or waiter.may_connect:
                return waiter.slot
            self._waiters.remove(waiter)
            self._figures.timeouts += 1
        raise PoolTimeout('No connection became free in time.')

    def _hand_over(self, slot: Slot) -> None:
        """To who has waited longest, or to nobody; under the lock."""
        if self._waiters:
            waiter = self._waiters.popleft()
            slot.busy = True
            self._busy.add(slot)
            waiter.slot = slot
            waiter.event.set()
        else:
            self._idle.append(slot)

    def _free_place(self) -> None:
        """A place is free: for who has waited longest."""
        with self._lock:
            if self._waiters:
                waiter = self._waiters.popleft()
                waiter.may_connect = True
                waiter.event.set()
            else:
                self._places -= 1

    def _open(self, timeout_s: float) -> Slot:
        """A connection for a place that was taken."""
        try:
            connection = self._connect(max(timeout_s, 0.001))
        except BaseException:
            self._free_place()
            raise
        slot = Slot(connection, self._clock())
        with self._lock:
            self._figures.created += 1
            self._busy.add(slot)
        return slot

    def _discard(self, slot: Slot) -> None:
        with self._lock:
            self._busy.discard(slot)
            self._figures.closed += 1
        with contextlib.suppress(Exception):
            slot.connection.close()
        self._free_place()

    def _take_all_idle(self) -> list[Slot]:
        with self._lock:
            slots, self._idle = list(self._idle), collections.deque()
            for slot in slots:
                slot.busy = True
            self._busy.update(slots)
            return slots

    # -- judging -----------------------------------------------------------------------

    def _is_old(self, slot: Slot) -> bool:
        return self._clock() - slot.created_at >= self._max_age_s

    def _is_usable(self, slot: Slot) -> bool:
        if self._is_old(slot) or self._clock() - slot.used_at >= self._idle_timeout_s:
            return False
        return self._is_checked(slot)

    def _is_checked(self, slot: Slot) -> bool:
        if self._check is None or self._clock() - slot.checked_at < self._check_after_s:
            return True
        try:
            slot.good = bool(self._check(slot.connection))
        except Exception:  # noqa: BLE001 whatever is wrong, it is not used
            slot.good = False
        if slot.good:
            slot.checked_at = self._clock()
        return slot.good
