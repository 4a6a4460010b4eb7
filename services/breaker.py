"""A circuit breaker: after a failure, stop asking for a while.

The one idea: a dead server costs one timeout, not one per request.  The breaker is
*closed* while calls succeed.  ``threshold`` failures in a row open it; while it is *open*
:meth:`CircuitBreaker.allow` says no in well under a microsecond.  When the cooldown is over
it is *half-open*: exactly one caller, the probe, is let through.  Its success closes the
breaker, its failure doubles the cooldown, up to ``max_cooldown_s``.

What may go wrong: the probe never reports, because its thread was killed in between.  So a
probe is a lease: after another cooldown the next caller probes.
"""

from __future__ import annotations

import threading
import time

CLOSED = 'closed'
OPEN = 'open'
HALF_OPEN = 'half-open'

MAX_COOLDOWN_S = 5.0
"""Only the background tries what has failed, so trying often costs no request anything, and
everybody is warm again soon."""


class CircuitBreaker:
    """Thread-safe; one per thing that can fail.

    :param threshold: failures in a row that open it; 1 where a failure costs a timeout
    :param cooldown_s: how long it stays open the first time, seconds
    :param max_cooldown_s: upper limit of the doubling, seconds
    :param clock: monotonic seconds
    :param wall_clock: epoch seconds, for :attr:`opened_at` only
    """

    def __init__(
        self,
        threshold: int = 1,
        cooldown_s: float = 1.0,
        *,
        max_cooldown_s: float = MAX_COOLDOWN_S,
        clock=time.monotonic,
        wall_clock=time.time,
    ):
        self._threshold = max(1, threshold)
        self._first_cooldown_s = cooldown_s
        self._max_cooldown_s = max(cooldown_s, max_cooldown_s)
        self._clock = clock
        self._wall_clock = wall_clock
        self.reset()

    def another(self) -> CircuitBreaker:
        """A closed one for another thing, with the same limits and clocks."""
        return CircuitBreaker(
            self._threshold,
            self._first_cooldown_s,
            max_cooldown_s=self._max_cooldown_s,
            clock=self._clock,
            wall_clock=self._wall_clock,
        )

    def reset(self) -> None:
        """Close it and forget everything.

        Also for the child of a fork, which may have inherited the lock while another thread
        of the parent held it; hence a new lock.
        """
        self._lock = threading.Lock()
        self._failures = 0
        self._cooldown_s = self._first_cooldown_s
        self._retry_at: float | None = None  # None is closed
        self._probing = False
        self._opened_at: float | None = None

    def allow(self) -> bool:
        """Whether to make the call; who is allowed must report with :meth:`success` or
        :meth:`failure`."""
        retry_at = self._retry_at
        if retry_at is None:
            return True
        now = self._clock()
        if now < retry_at:
            return False
        with self._lock:
            if self._retry_at is None:
                return True
            if now < self._retry_at:
                return False  # another thread became the probe meanwhile
            self._probing = True
            self._retry_at = now + self._cooldown_s
            return True

    def success(self) -> bool:
        """Report that a call worked.

        :return: whether this closed an open breaker
        """
        if not self._failures:
            return False
        with self._lock:
            was_open = self._retry_at is not None
            self._failures = 0
            self._cooldown_s = self._first_cooldown_s
            self._retry_at = None
            self._probing = False
            self._opened_at = None
        return was_open

    def failure(self) -> bool:
        """Report that a call failed.

        :return: whether this opened a closed breaker; a failed probe only prolongs it
        """
        with self._lock:
            self._failures += 1
            if self._retry_at is None:
                if self._failures < self._threshold:
                    return False
                self._retry_at = self._clock() + self._cooldown_s
                self._opened_at = self._wall_clock()
                return True
            # Calls that were under way when it opened fail too; they say nothing new.
            if self._probing:
                self._probing = False
                self._cooldown_s = min(2 * self._cooldown_s, self._max_cooldown_s)
                self._retry_at = self._clock() + self._cooldown_s
            return False

    @property
    def state(self) -> str:
        """'closed', 'open', or 'half-open' while a probe is under way."""
        if self._retry_at is None:
            return CLOSED
        return HALF_OPEN if self._probing else OPEN

    @property
    def opened_at(self) -> float | None:
        """Epoch seconds of the failure that opened it, None while it is closed."""
        return self._opened_at
