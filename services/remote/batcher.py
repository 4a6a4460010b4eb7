"""Calls that belong together and come together go out together.

The one idea: nobody waits for company that is not there.  A call that finds nothing under way in
its group goes out at once; while one is under way, those that come meanwhile gather, and the first
of them sends for all.  It sends ``delay_s`` after the last has joined, ``max_wait_s`` after itself
at the latest, with ``max_calls`` at once, and at once also if it is alone when what was under way
is back.  Whoever sends is a caller: there is no thread of its own, so it works alike in threads,
in workers that were forked and in scheduled actions.

What may go wrong: the call for all is refused; then everybody makes their own.  If it fails by an
outage, all fail as each would have.
"""

from __future__ import annotations

import threading
import time
import typing
from collections.abc import Callable, Hashable

from .errors import RemoteError, RemoteTimeout, RemoteUnreachable

DELAY_S = 0.05
MAX_WAIT_S = 1.0
MAX_CALLS = 100

ALONE = object()
"""Instead of a result: it could not be made together."""


class _Batch:
    def __init__(self, now: float):
        self.items: list = []
        self.results: list = []
        self.done = threading.Event()
        self.first_at = self.last_at = now
        self.is_full = False


class _Group:
    def __init__(self):
        self.under_way = 0
        self.batch: _Batch | None = None


class Work(typing.NamedTuple):
    """How to make the calls of a group.

    :param single: ``single(item)``
    :param merged: ``merged(items)`` returns a result for each, or :data:`ALONE`
    """

    single: Callable
    merged: Callable


class Batcher:
    """Thread-safe; for one remote in one process.

    :ivar calls: that came here
    :ivar batched: of them that went out with others
    :ivar batches: requests that went out for several
    """

    def __init__(
        self,
        delay_s: float = DELAY_S,
        max_wait_s: float = MAX_WAIT_S,
        max_calls: int = MAX_CALLS,
        clock=time.monotonic,
    ):
        self._delay_s = delay_s
        self._max_wait_s = max(delay_s, max_wait_s)
        self._max_calls = max_calls
        self._clock = clock
        self._changed = threading.Condition()
        self._groups: dict[Hashable, _Group] = {}
        self.calls = self.batched = self.batches = 0

    def run(self, key: Hashable, item, work: Work, left_s: Callable[[], float]):
        """The result of one call.

        :param key: of the group: calls with equal keys may go out together
        :param left_s: without arguments; seconds that the caller has left; may raise
        """
        with self._changed:
            self.calls += 1
            group = self._groups.setdefault(key, _Group())
            batch, place = None, 0
            if group.under_way or group.batch is not None:
                batch, place = self._join(group, item)
            else:
                group.under_way += 1
        if batch is None:
            return self._send_alone(key, group, item, work)
        if place == 0:
            self._lead(key, group, batch, work, left_s)
        elif not batch.done.wait(left_s()):
            raise RemoteTimeout('The server has not answered in time.')
        result = batch.results[place]
        if result is ALONE:
            return work.single(item)
        if isinstance(result, RemoteError):
            raise type(result)(*result.args)
        return result

    def _join(self, group: _Group, item) -> tuple[_Batch, int]:
        now = self._clock()
        batch = group.batch
        if batch is None:
            batch = group.batch = _Batch(now)
        batch.items.append(item)
        batch.last_at = now
        if len(batch.items) >= self._max_calls:
            batch.is_full = True
            group.batch = None  # who comes now begins another
            self._changed.notify_all()
        return batch, len(batch.items) - 1

    def _send_alone(self, key, group: _Group, item, work: Work):
        try:
            return work.single(item)
        finally:
            self._came_back(key, group)

    def _lead(self, key, group: _Group, batch: _Batch, work: Work, left_s) -> None:
        failed = ALONE  # whoever gathers in vain: the others make their own
        try:
            try:
                self._gather(group, batch, left_s)
            finally:
                with self._changed:
                    if group.batch is batch:
                        group.batch = None
                    group.under_way += 1
                    count = len(batch.items)
                    if count > 1:
                        self.batches += 1
                        self.batched += count
            failed = RemoteUnreachable('Who asked for all has been interrupted.')
            batch.results = self._results(batch.items, work)
        finally:
            if not batch.results:
                batch.results = [failed] * count
            batch.done.set()
            self._came_back(key, group)

    def _gather(self, group: _Group, batch: _Batch, left_s) -> None:
        """Wait until it is time to send."""
        with self._changed:
            # a caller with little time left does not spend it on waiting
            limit_s = min(self._max_wait_s, left_s() / 2)
            while not batch.is_full:
                if len(batch.items) == 1 and not group.under_way:
                    return
                until = min(batch.last_at + self._delay_s, batch.first_at + limit_s)
                wait_s = until - self._clock()
                if wait_s <= 0:
                    return
                self._changed.wait(wait_s)

    @staticmethod
    def _results(items: list, work: Work) -> list:
        if len(items) == 1:
            return [ALONE]
        try:
            return work.merged(items)
        except RemoteError as error:
            return [error if error.outage else ALONE] * len(items)
        except Exception:  # noqa: BLE001 what cannot be merged or taken apart is asked one by one
            return [ALONE] * len(items)

    def _came_back(self, key, group: _Group) -> None:
        with self._changed:
            group.under_way -= 1
            if not group.under_way and group.batch is None:
                self._groups.pop(key, None)
            self._changed.notify_all()
