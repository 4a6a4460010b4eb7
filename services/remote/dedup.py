"""Equal calls at the same time share one answer.

The one idea: who asks for what somebody is just asking waits for that answer.  A read that begins
after a call that may have changed something does not wait for one that began before it.

What may go wrong: the one who asks fails; then all who waited get the same error, as they would
have by asking themselves.  One that takes longer than a waiter's own time is left behind.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable

from .errors import RemoteError, RemoteTimeout, RemoteUnreachable


class _Flight:
    def __init__(self):
        self.done = threading.Event()
        self.waiters = 0
        self.value = None
        self.error: RemoteError | None = None


class Dedup:
    """Thread-safe; nothing is remembered once it is answered.

    :ivar shared: calls that got somebody else's answer
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight] = {}
        self._generation = 0
        self.shared = 0

    def changed(self) -> None:
        """Something may have changed: reads from now on do not share older ones' answers."""
        with self._lock:
            self._generation += 1

    def run(self, key: Hashable, work: Callable[[], object], left_s: Callable[[], float]):
        """What ``work()`` returns, or what somebody else's does who is at it; never the same
        object twice.

        :param left_s: seconds that the caller has left; may raise
        """
        with self._lock:
            key = self._generation, key
            flight = self._flights.get(key)
            mine = flight is None
            if mine:
                flight = self._flights[key] = _Flight()
            else:
                flight.waiters += 1
                self.shared += 1
        return self._work(key, flight, work) if mine else self._wait(flight, left_s)

    def _wait(self, flight: _Flight, left_s):
        if not flight.done.wait(left_s()):
            raise RemoteTimeout('The server has not answered in time.')
        if flight.error is not None:
            raise type(flight.error)(*flight.error.args)
        return copy.deepcopy(flight.value)

    def _work(self, key: Hashable, flight: _Flight, work):
        try:
            flight.value = work()
        except RemoteError as error:
            flight.error = error
            raise
        except BaseException:
            flight.error = RemoteUnreachable('Who asked for the same has been interrupted.')
            raise
        finally:
            with self._lock:
                del self._flights[key]
                shared = flight.waiters
            # those who waited copy it while the caller may change it
            mine = copy.deepcopy(flight.value) if shared else flight.value
            flight.done.set()
        return mine
