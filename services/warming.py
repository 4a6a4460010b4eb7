"""One run of a warm-up: which calls, how far it is, who is at it.

The one idea: the list of a run is rows (``cache_warmup_line``), and what became of a call stands in
its row.  So a run that is killed goes on where it was, by reading which rows have no outcome yet.
Who runs it holds an advisory lock on a connection of its own, and by that connection, in autocommit
mode, writes how far it is: nobody waits for a long transaction, and a button that stops the run is
seen within a second.

*Low priority.*  Odoo starts cron workers with ``nice 10``; where crons are threads of the server,
nothing can be niced.  So after each call a run pauses as long as the call took, and takes at most
half of one core and of one database connection, wherever it is.

What may go wrong: the process is killed between a call and the next note of progress
(NOTE_EVERY_S): these calls are made again, and found to be there already.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import time
import typing

import psycopg2

_logger = logging.getLogger(__name__)

BATCH = 100
"""Calls that are read at once."""

NOTE_EVERY_S = 1.0
MAX_PAUSE_S = 1.0
MAX_MESSAGE = 500

# The first of two numbers keeps our advisory locks apart from those of others; see flight.py.
_LOCK_CLASS = 0x7477

STATES = ('warmed', 'present', 'skipped', 'failed')
"""What may become of a call, see ``models/replay.py``; the names of the columns that count them."""

_NEXT = """
SELECT l.id, c.body, l.user_id, l.lang, l.name
  FROM cache_warmup_line l LEFT JOIN cache_call c ON c.id = l.call_id
 WHERE l.warmup_id = %s AND l.outcome IS NULL
 ORDER BY l.sequence, l.id LIMIT %s
"""

_NOTE_LINES = """
UPDATE cache_warmup_line l
   SET outcome = fresh.outcome, message = fresh.message, duration_ms = fresh.ms
  FROM unnest(%s::int[], %s::text[], %s::text[], %s::float8[]) AS fresh(id, outcome, message, ms)
 WHERE l.id = fresh.id
"""

_NOTE_KEYS = """
UPDATE cache_call c SET key = fresh.key
  FROM unnest(%s::int[], %s::text[]) AS fresh(line, key)
  JOIN cache_warmup_line l ON l.id = fresh.line
 WHERE c.id = l.call_id
"""

_NOTE = f"""
UPDATE cache_warmup
   SET {', '.join(f'{state} = {state} + %s' for state in STATES)},
       saved_ms = saved_ms + %s, worked_s = worked_s + %s,
       warmed_at = clock_timestamp() AT TIME ZONE 'utc'
 WHERE id = %s
RETURNING stop, state
"""

_FINISH = """
UPDATE cache_warmup SET state = %s, finished_at = clock_timestamp() AT TIME ZONE 'utc'
 WHERE id = %s AND state = 'running'
"""

# of all slices, whichever process has made them
_FAILED = """
SELECT count(*) OVER (), warmup_id, coalesce(name, ''), coalesce(message, '')
  FROM cache_warmup_line WHERE warmup_id = %s AND outcome = 'failed' ORDER BY sequence, id LIMIT 1
"""


class Line(typing.NamedTuple):
    """:param body: of a recorded call, or None
    :param uid: and the others: for a warm-up method
    """

    id: int
    body: bytes | None
    uid: int | None
    lang: str | None
    name: str | None


@contextlib.contextmanager
def alone(engine, warmup_id: int):
    """Be the only one who runs a warm-up.

    Yields a connection in autocommit mode, or None where somebody else is at it.
    """
    connection = engine.connect()
    try:
        # a role may have REPEATABLE READ as its default, which fails where others write, too
        connection.set_session(isolation_level='READ COMMITTED', autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute('SELECT pg_try_advisory_lock(%s, %s)', [_LOCK_CLASS, warmup_id])
            mine = cursor.fetchone()[0]
        yield connection if mine else None
    finally:
        connection.close()  # and with it goes the lock


class Run:
    """A run that has been begun.

    :param engine: of this process
    :param connection: of :func:`alone`
    :param warmup_id: id of the ``cache.warmup``
    :param perform: ``perform(line)`` returns a ``models.replay.Outcome``
    :param budget_s: how long it may still take
    :param sleep: takes seconds
    """

    def __init__(self, engine, connection, warmup_id, perform, budget_s, sleep=time.sleep):
        self._engine = engine
        self._connection = connection
        self._id = warmup_id
        self._perform = perform
        self._budget_s = budget_s
        self._sleep = sleep
        self._clear()
        self._noted_at = time.monotonic()
        self.count = 0

    def work(self, until: float) -> str:
        """Make calls.

        :param until: when to pause, by ``time.monotonic()``
        :return: 'running' where there is more to do; else the state in which it has ended: 'done',
            'partial' (its time was over), 'stopped'
        """
        deadline = time.monotonic() + self._budget_s
        state = 'running'
        while state == 'running':
            lines = self._next()
            if not lines:
                state = 'done'
            for line in lines:
                now = time.monotonic()
                if now >= deadline:
                    state = 'partial'
                elif now >= until and self.count:
                    self._note()
                    return 'running'
                if state != 'running':
                    break
                self._do(line)
                if time.monotonic() - self._noted_at >= NOTE_EVERY_S and self._note():
                    state = 'stopped'
            if self._note() and state == 'running':
                state = 'stopped'
        self._finish(state)
        return state

    def _next(self) -> list[Line]:
        with self._connection.cursor() as cursor:
            cursor.execute(_NEXT, [self._id, BATCH])
            return [
                Line(id_, None if body is None else bytes(body), *rest)
                for id_, body, *rest in cursor.fetchall()
            ]

    def _do(self, line: Line) -> None:
        started = time.monotonic()
        outcome = self._perform(line)
        self.count += 1
        self._lines.append((line.id, outcome.state, _clean(outcome.message) or None, outcome.ms))
        if outcome.key:
            self._keys.append((line.id, outcome.key))
        self._counts[outcome.state] += 1
        self._saved_ms += outcome.saved_ms
        took_s = time.monotonic() - started
        self._sleep(min(took_s, MAX_PAUSE_S))

    def _clear(self) -> None:
        self._lines: list[tuple] = []
        self._keys: list[tuple] = []
        self._counts: collections.Counter = collections.Counter()
        self._saved_ms = 0.0

    def _note(self) -> bool:
        """Write how far it is.

        :return: whether somebody wants it to stop
        """
        self._engine.outbox.flush()  # what others fetch must be there when they are told
        now = time.monotonic()
        worked_s, self._noted_at = now - self._noted_at, now
        with self._connection.cursor() as cursor:
            if self._lines:
                cursor.execute(_NOTE_LINES, [list(c) for c in zip(*self._lines, strict=True)])
            if self._keys:
                # a process that writes what it has recorded; it brings its keys itself
                with contextlib.suppress(psycopg2.errors.DeadlockDetected):
                    cursor.execute(_NOTE_KEYS, [list(c) for c in zip(*self._keys, strict=True)])
            counts = [self._counts[state] for state in STATES]
            cursor.execute(_NOTE, [*counts, self._saved_ms, worked_s, self._id])
            row = cursor.fetchone()
        self._clear()
        return row is None or row[0] or row[1] != 'running'

    def _finish(self, state: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(_FINISH, [state, self._id])
            cursor.execute(_FAILED, [self._id])
            failed = cursor.fetchone()
        if failed:
            _logger.warning(
                "Tiered Cache: %d calls of warm-up %s failed; the first: %s: %s. The others are "
                "listed in its form.",
                *failed,
            )


def _clean(message: str) -> str:
    return message[:MAX_MESSAGE].replace('\x00', '')


# -- methods that may be called ----------------------------------------------------------------

_MARK = '_tiered_cache_warmup'


def warmup(method):
    """Decorate a method of a model: a warm-up may call it, for the users that it names.

    It is called on an empty recordset, in a READ ONLY transaction, and what it returns is ignored.
    """
    setattr(method, _MARK, True)
    _decorated_names.add(method.__name__)
    return method


_decorated_names: set[str] = set()
"""Of all methods of this process, so that the models of a registry are looked through for these
only."""


def methods_of(registry) -> list[tuple[str, str]]:
    """(model, method) of everything that is decorated; an override counts as decorated."""
    found = []
    for model, cls in registry.models.items() if _decorated_names else ():
        for method in sorted(_decorated_names):
            definitions = [c for c in cls.mro() if getattr(c, '_name', None) == model]
            if any(getattr(vars(c).get(method), _MARK, False) for c in definitions):
                found.append((model, method))
    return sorted(found)
