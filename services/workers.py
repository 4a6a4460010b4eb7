"""Who is alive: one row of ``cache_worker`` per process and database.

The one idea: what only a process itself knows (its L1, its memory, its way to Redis, the guards
that it waits for) is written down by its background thread together with its figures, so that
whoever looks asks one table and disturbs nobody: not the other processes, not Redis, not the
entries.  What all processes share (how full Redis and L3 are) is measured by one of them at a
time, for all.

What may go wrong: a process is killed and cannot take its row back.  A row says itself until when
it is to be believed (``gone_at``), and the others remove it afterwards.  A process that hangs
looks dead until it writes again.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import socket
import threading
import time

from odoo.service import server

MISSED = 3
"""Reports that a process may miss before it counts as gone."""

GRACE_S = 30.0

MEASURE_EVERY_S = 30.0
"""To count the entries of L3 and to sample Redis takes milliseconds, so not at every report."""

MAX_NAMES = 200
"""Tables and methods that a row lists."""

_COLUMNS = {
    'token': 'varchar',
    'host': 'varchar',
    'pid': 'int',
    'kind': 'varchar',
    'started_at': 'timestamp',
    'calls': 'int',
    'hits': 'int',
    'l1_entries': 'int',
    'l1_bytes': 'numeric',
    'l1_max_entries': 'int',
    'l1_max_bytes': 'numeric',
    'memory_bytes': 'numeric',
    'memory_limit_bytes': 'numeric',
    'sheds': 'int',
    'details': 'jsonb',
}
_WRITE = f"""
INSERT INTO cache_worker ({', '.join(_COLUMNS)}, seen_at, gone_at)
VALUES ({', '.join(f'%({name})s::{kind}' for name, kind in _COLUMNS.items())},
        now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC' + make_interval(secs => %(believed_s)s))
ON CONFLICT (token) DO UPDATE
SET {', '.join(f'{name} = EXCLUDED.{name}' for name in (*_COLUMNS, 'seen_at', 'gone_at'))}
"""
_CLAIM = """
UPDATE cache_worker SET measured_at = now() AT TIME ZONE 'UTC'
 WHERE token = %s AND NOT EXISTS (
       SELECT FROM cache_worker
        WHERE measured_at > now() AT TIME ZONE 'UTC' - make_interval(secs => %s))
"""


def new_token() -> str:
    """A name for a process that no other has, on whatever host, in whatever container."""
    return secrets.token_hex(8)


def kind_of_process() -> str:
    """'http', 'cron', 'gevent', 'threaded' or 'other', as ``cache.worker`` names them."""
    import odoo  # noqa: PLC0415

    names = ' '.join(thread.name for thread in threading.enumerate())
    if odoo.evented:
        return 'gevent'
    if 'WorkerHTTP' in names:
        return 'http'
    if 'WorkerCron' in names:
        return 'cron'
    return 'threaded' if isinstance(server.server, server.ThreadedServer) else 'other'


class Reporter:
    """Writes the row of one engine.

    :param engine: for its cursor, tiers, figures and guards
    """

    def __init__(self, engine):
        self._engine = engine
        self.token = new_token()
        self._started_at = _utc(engine.started_at)

    def report(self) -> None:
        """Write the row, and measure the shared tiers if nobody has lately."""
        engine = self._engine
        with engine.cursor() as cr:
            cr.execute("SET LOCAL synchronous_commit TO off")
            cr.execute(_WRITE, self._row())
            cr.execute(
                "DELETE FROM cache_worker WHERE gone_at < now() AT TIME ZONE 'UTC' AND token <> %s",
                [self.token],
            )
            cr.execute(_CLAIM, [self.token, MEASURE_EVERY_S])
            mine = bool(cr.rowcount)
        if mine:
            # Redis may take its time: no row is locked meanwhile
            measured = {
                name: tier.stats() for name, tier in engine.hierarchy.tiers.items() if name != 'l1'
            }
            with engine.cursor() as cr:
                cr.execute(
                    "UPDATE cache_worker SET measured = %s::jsonb WHERE token = %s",
                    [json.dumps(measured), self.token],
                )

    def leave(self) -> None:
        """The process ends, or does not serve this database any more."""
        with self._engine.cursor() as cr:
            cr.execute("DELETE FROM cache_worker WHERE token = %s", [self.token])

    def _row(self) -> dict:
        engine = self._engine
        l1 = engine.hierarchy.tiers.get('l1')
        l1 = l1.stats() if l1 is not None else {}
        memory = engine.pressure.stats()
        return {
            'token': self.token,
            'host': socket.gethostname(),
            'pid': os.getpid(),
            'kind': kind_of_process(),
            'started_at': self._started_at,
            'calls': engine.metrics.calls,
            'hits': engine.metrics.hits,
            'l1_entries': l1.get('entries', 0),
            'l1_bytes': l1.get('bytes', 0),
            'l1_max_entries': l1.get('max_entries', 0),
            'l1_max_bytes': l1.get('max_bytes', 0),
            'memory_bytes': memory['used_bytes'] or 0,
            'memory_limit_bytes': memory['limit_bytes'] or 0,
            'sheds': memory['sheds'],
            'details': json.dumps(self._details()),
            'believed_s': MISSED * engine.settings.metrics_flush_s + GRACE_S,
        }

    def _details(self) -> dict:
        engine = self._engine
        guards = engine.guards.stats()
        l2 = engine.hierarchy.tiers.get('l2')
        return {
            'waiting': guards['names'][:MAX_NAMES],
            'failed': dict(sorted(guards['errors'].items())[:MAX_NAMES]),
            'suspended': [list(name) for name in engine.suspender.names()[:MAX_NAMES]],
            'redis': l2.health() if l2 is not None else None,
            'remotes': engine.follower.clients.stats(),
        }


def _utc(epoch_s: float | None = None) -> datetime.datetime:
    moment = datetime.datetime.fromtimestamp(
        time.time() if epoch_s is None else epoch_s, datetime.timezone.utc
    )
    return moment.replace(tzinfo=None, microsecond=0)
