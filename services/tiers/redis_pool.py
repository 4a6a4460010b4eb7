"""redis-py's pool of connections, counted.

The one idea: connections tell when they are opened and closed, the pool how long getting one took:
the same figures as of the pools for other Odoos (:mod:`..pool_figures`).  Nobody queues here: who
finds no place gets an error at once, which is counted as a timeout.

What may go wrong: names of redis-py change; then the figures are 0, and nothing else is affected.
"""

from __future__ import annotations

import time

import redis

from ..pool_figures import PoolFigures


class CountedPool(redis.ConnectionPool):
    def __init__(self, **options):
        self.figures = PoolFigures()
        super().__init__(figures=self.figures, **options)

    def get_connection(self, *args, **options):
        started = time.perf_counter()
        try:
            connection = super().get_connection(*args, **options)
        except redis.ConnectionError as error:
            self.figures.timeouts += str(error).startswith('Too many connections')
            raise
        self.figures.acquired_in(time.perf_counter() - started)
        return connection

    def stats(self) -> dict:
        """See :meth:`..pool_figures.PoolFigures.as_dict`."""
        busy = list(getattr(self, '_in_use_connections', ()))
        idle = list(getattr(self, '_available_connections', ()))
        busy_open = [one for one in busy if getattr(one, '_sock', None) is not None]
        idle_open = [one for one in idle if getattr(one, '_sock', None) is not None]
        now = time.monotonic()
        return self.figures.as_dict(
            [now - one.opened_at for one in (*busy_open, *idle_open)],
            active=len(busy_open),
            idle=len(idle_open),
            healthy=len(busy_open) + len(idle_open),  # after a fault they are closed
            queued=0,
        )
