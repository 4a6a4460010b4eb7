"""How far removals in the background have come, written where people look: ``cache.log``.

The one idea: the process that empties the tiers writes its progress into the row of the log, at
most once a second and at the end, so that every worker can show it.

What may go wrong: the row is not there yet, since whoever asked for the removal has not committed;
then the next round writes it, and what was said last is said again until it was heard, or
:data:`PATIENCE_S` are over (the transaction was rolled back).  The process dies: the row says
*running* for ever; whoever shows it looks how old that is.
"""

from __future__ import annotations

import json
import threading
import time

EVERY_S = 1.0

PATIENCE_S = 60.0

_WRITE = """
UPDATE cache_log SET progress = %s, state = %s, write_date = now() AT TIME ZONE 'utc',
       finished_at = to_timestamp(%s) AT TIME ZONE 'utc'
 WHERE id = %s
"""


class Reports:
    """What one engine has to write into the log.

    :param engine: for its cursor and its figures
    """

    def __init__(self, engine):
        self._engine = engine
        self._lock = threading.Lock()
        self._unheard: dict[int, tuple[dict, float]] = {}
        self._told_at: dict[int, float] = {}

    def on(self, log_id: int):
        """What to call with the progress of a removal; see :meth:`.emptying.Emptying.telling`."""
        return lambda progress: self._note(log_id, progress)

    def _note(self, log_id: int, progress: dict) -> None:
        now = time.monotonic()
        if not progress['finished_at'] and now - self._told_at.get(log_id, -EVERY_S) < EVERY_S:
            return
        with self._lock:
            self._told_at[log_id] = now
            self._unheard[log_id] = (progress, now)
        self.deliver()

    def deliver(self) -> None:
        """Write what nobody has heard yet; called now and then."""
        with self._lock:
            waiting, self._unheard = self._unheard, {}
        if not waiting:
            return
        now, missed = time.monotonic(), {}
        with self._engine.cursor() as cr:
            for log_id, (progress, since) in waiting.items():
                finished_at = progress['finished_at']
                state = 'done' if finished_at else 'running'
                cr.execute(_WRITE, [json.dumps(progress['tiers']), state, finished_at, log_id])
                if not cr.rowcount and now - since < PATIENCE_S:
                    missed[log_id] = (progress, since)
                elif finished_at:
                    self._told_at.pop(log_id, None)
        with self._lock:
            self._unheard = {**missed, **self._unheard}
