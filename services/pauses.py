"""Keys that are left alone for a while, after what they stand for could not be computed."""

from __future__ import annotations

import collections
import threading
import time

MAX_KEYS = 10_000
"""The oldest are forgotten beyond that: they are tried again a little early."""


class Pauses:
    """:param clock: monotonic seconds"""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._until: collections.OrderedDict[str, float] = collections.OrderedDict()

    def pause(self, key: str, seconds: float) -> None:
        with self._lock:
            self._until.pop(key, None)
            self._until[key] = self._clock() + seconds
            if len(self._until) > MAX_KEYS:
                self._until.popitem(last=False)

    def is_paused(self, key: str) -> bool:
        until = self._until.get(key)
        return until is not None and until > self._clock()
