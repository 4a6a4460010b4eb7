"""What is counted of a pool of connections, alike for other Odoos and for Redis.

The one idea: one shape, so that one page and one reader of metrics do for all pools.

What may go wrong: counts are of one process, and begin anew with it; a race may lose one.
"""

from __future__ import annotations

import threading

from . import latency


class PoolFigures:
    """:ivar bins: of acquisition times, see :mod:`.latency`"""

    def __init__(self):
        self.created = self.closed = self.timeouts = self.acquired = 0
        self.bins = latency.new_bins()
        self.total_ms = 0.0
        self.lock = threading.Lock()

    def acquired_in(self, seconds: float) -> None:
        with self.lock:
            self.acquired += 1
            self.total_ms += seconds * 1000
            self.bins[latency.bin_of(seconds * 1000)] += 1

    def as_dict(self, ages_s, *, active: int, idle: int, healthy: int, queued: int) -> dict:
        """:param ages_s: of the connections that are open, seconds"""
        ages_s = list(ages_s)
        return {
            'open': active + idle,
            'active': active,
            'idle': idle,
            'healthy': healthy,
            'queued': queued,
            'created': self.created,
            'closed': self.closed,
            'timeouts': self.timeouts,
            'acquired': self.acquired,
            'mean_acquire_ms': round(self.total_ms / self.acquired, 3) if self.acquired else 0.0,
            'p95_acquire_ms': round(latency.percentile(self.bins, 0.95) or 0.0, 3),
            'mean_age_s': round(sum(ages_s) / len(ages_s), 1) if ages_s else 0.0,
        }


def total(stats: list[dict]) -> dict:
    """Figures of several pools as of one: counts are added, of times the largest counts."""
    found: dict = {}
    for one in stats:
        for name, value in one.items():
            known = found.get(name, 0)
            found[name] = max(known, value) if name.endswith(('_ms', '_s')) else known + value
    return found
