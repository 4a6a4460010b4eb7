"""L3: entries in the UNLOGGED table ``cache_entry`` of the database itself.

The one idea: a cache must never touch the transaction that it serves.  A write to it inside
the request fails with 40001 under REPEATABLE READ, even with ON CONFLICT, and takes the
request down with it.  So the tier has one connection of its own in autocommit mode, and each
statement brings its limits along with ``SET LOCAL``: nothing outlives the statement, which
also suits a PgBouncer that hands connections round after each transaction (4 µs dearer than
``SET`` once per connection).

What may go wrong: PostgreSQL restarts after a crash (UNLOGGED tables are then empty, the
connection is broken), the server is a replica (unlogged tables cannot be read there), a lock
is held, the table is missing.  All of it is a fault, a miss, and a circuit breaker that leaves
the table alone for 1 to 5 s.  Kinds in ``faults``: replica, timeout, locked, busy, missing,
denied, connection, full, error; corrupt (the row is removed).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import psycopg2
from psycopg2 import errorcodes

from ..breaker import CLOSED, CircuitBreaker
from ..entry import FLAG_SUPERUSER, CorruptEntry, Entry, from_bytes
from ..keys import Target, pattern_prefix, sql_like
from ..miss import MISS, Miss
from .base import EVER, Step, Tier, slices

_logger = logging.getLogger(__name__)

BATCH_ENTRIES = 200
BATCH_BYTES = 4_000_000
"""Of one INSERT: it takes about 50 ms, during which a read of this process waits.  An entry of
this tier is worth at least 20 ms (``l3_min_cost_ms``)."""

DELETE_ROWS = 1000

PATIENCE = 10
"""Statements outside requests (batches, removals, figures) may take so many times longer."""

PURGE_MS = 60_000
"""A purge has to end, or the table grows for ever, and it sorts all entries: a million take a
second or two, and five to ten on a busy machine."""

HITS_EVERY_S = 60.0
MAX_HITS = 10_000
"""Hits are counted in memory and added to the table so often, of so many entries."""

_UNLIMITED = 2**62

LAST_CHARACTER = '\U0010ffff'
"""No key begins with it: it is not printable."""

_CONNECTION_CODES = ('08', '57P')  # connection exceptions; shutdown of the server
_KIND_BY_CODE = {
    errorcodes.FEATURE_NOT_SUPPORTED: 'replica',  # unlogged relations during recovery
    errorcodes.READ_ONLY_SQL_TRANSACTION: 'replica',
    errorcodes.QUERY_CANCELED: 'timeout',
    errorcodes.LOCK_NOT_AVAILABLE: 'locked',
    errorcodes.DEADLOCK_DETECTED: 'locked',
    errorcodes.UNDEFINED_TABLE: 'missing',
    errorcodes.UNDEFINED_COLUMN: 'missing',
    errorcodes.INSUFFICIENT_PRIVILEGE: 'denied',
    errorcodes.DISK_FULL: 'full',
}

_LIMITS = "SET LOCAL statement_timeout = %s; SET LOCAL lock_timeout = %s;"

# A role may have REPEATABLE READ as its default: two workers that store the same key would
# then fail with 40001.
_WRITE_LIMITS = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; " + _LIMITS

_GET = (
    _LIMITS
    + """
SELECT key, body FROM cache_entry
 WHERE key = ANY(%s) AND expires > now() AT TIME ZONE 'utc'
"""
)

# The arrays are in the order of their keys, here and in _DELETE: workers that write the same
# rows wait for each other instead of forming a deadlock.
_PUT = (
    _WRITE_LIMITS
    + """
INSERT INTO cache_entry (
       key, model, method, uid, superuser, created, expires, cost_ms, size_bytes, hits, body)
SELECT key, model, method, uid, superuser, to_timestamp(created) AT TIME ZONE 'utc',
       to_timestamp(expires) AT TIME ZONE 'utc', cost_ms, octet_length(body), 0, body
  FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::bool[], %s::float8[],
              %s::float8[], %s::float8[], %s::bytea[])
       AS fresh(key, model, method, uid, superuser, created, expires, cost_ms, body)
ON CONFLICT (key) DO UPDATE
SET model = EXCLUDED.model, method = EXCLUDED.method, uid = EXCLUDED.uid,
    superuser = EXCLUDED.superuser,
    created = EXCLUDED.created, expires = EXCLUDED.expires, cost_ms = EXCLUDED.cost_ms,
    size_bytes = EXCLUDED.size_bytes, hits = EXCLUDED.hits, body = EXCLUDED.body
"""
)

_HITS = (
    _WRITE_LIMITS
    + """
WITH fresh AS (SELECT * FROM unnest(%s::text[], %s::int[]) AS fresh(key, hits)),
     present AS (SELECT key, hits FROM cache_entry WHERE key IN (SELECT key FROM fresh)
                  ORDER BY key FOR UPDATE)
UPDATE cache_entry SET hits = present.hits + fresh.hits
  FROM fresh JOIN present USING (key)
 WHERE cache_entry.key = fresh.key
"""
)

_DELETE = (
    _WRITE_LIMITS
    + """
DELETE FROM cache_entry WHERE key IN (
       SELECT key FROM cache_entry
        WHERE key = ANY(%s) AND created <= to_timestamp(%s) AT TIME ZONE 'utc'
        ORDER BY key FOR UPDATE)
"""
)

_DELETE_USER = (
    _WRITE_LIMITS
    + """
DELETE FROM cache_entry WHERE key IN (
       SELECT key FROM cache_entry
        WHERE uid = %s AND created <= to_timestamp(%s) AT TIME ZONE 'utc'
        LIMIT %s FOR UPDATE SKIP LOCKED)
"""
)

_COUNT = _LIMITS + "SELECT count(*) FROM cache_entry WHERE key ~>=~ %s AND key ~<~ %s"

# The operators of text_pattern_ops compare bytes, and only its index has them: with LIKE in the
# inner query the planner may take the unique index, and sort all that is left for each page.
_KEYS = (
    _LIMITS
    + """
SELECT count(*), max(key COLLATE "C"), array_agg(key) FILTER (WHERE key LIKE %s)
  FROM (SELECT key FROM cache_entry WHERE key ~>=~ %s AND key ~<~ %s AND key ~>~ %s
         ORDER BY key USING ~<~ LIMIT %s) AS page
"""
)

_PURGE_EXPIRED = (
    _WRITE_LIMITS
    + """
DELETE FROM cache_entry WHERE key IN (
       SELECT key FROM cache_entry WHERE expires <= now() AT TIME ZONE 'utc'
        LIMIT %s FOR UPDATE SKIP LOCKED)
"""
)

# The newest entry that is beyond a limit; it and all older ones are to go.
_CUTOFF = (
    _LIMITS
    + """
SELECT created, key
  FROM (SELECT created, key, row_number() OVER newest AS entries,
               sum(size_bytes) OVER newest AS bytes
          FROM cache_entry
        WINDOW newest AS (ORDER BY created DESC, key DESC ROWS UNBOUNDED PRECEDING)) AS ranked
 WHERE entries > %s OR bytes > %s
 ORDER BY created DESC, key DESC LIMIT 1
"""
)

_PURGE_OLD = (
    _WRITE_LIMITS
    + """
DELETE FROM cache_entry WHERE key IN (
       SELECT key FROM cache_entry WHERE (created, key) <= (%s, %s)
        LIMIT %s FOR UPDATE SKIP LOCKED)
"""
)

_STATS = (
    _LIMITS
    + """
SELECT count(*), coalesce(sum(size_bytes), 0)::bigint, pg_total_relation_size('cache_entry')
  FROM cache_entry
"""
)


class DatabaseTier(Tier):
    """The table ``cache_entry`` of one database.

    :param connect: returns a new psycopg2 connection, which then belongs to the tier
    :param breaker: opened by any error; by default for 1 s, doubling up to 5 s
    :param statement_timeout_ms: for one read; PATIENCE times as much for what is not part of a
        request: batches, removals, figures; PURGE_MS for :meth:`purge`
    :param lock_timeout_ms: how long a read waits for a lock; likewise
    :param max_entries: limit that :meth:`purge` restores, None for none
    :param max_mb: limit that :meth:`purge` restores, of the packed entries without what
        PostgreSQL adds (about 250 bytes of row and indexes each)
    :param clock: epoch seconds, compared with ``entry.expires``
    """

    name = 'l3'

    def __init__(
        self,
        connect: Callable[[], object],
        breaker: CircuitBreaker | None = None,
        statement_timeout_ms: int = 100,
        lock_timeout_ms: int = 50,
        max_entries: int | None = None,
        max_mb: float | None = None,
        clock=time.time,
    ):
        super().__init__()
        self._connect = connect
        self._breaker = breaker or CircuitBreaker()
        self._limits_ms = (statement_timeout_ms, lock_timeout_ms)
        self._max_entries = max_entries
        self._max_mb = max_mb
        self._clock = clock
        self._last_fault = ''
        self._start_process()

    def _start_process(self) -> None:
        """Forget what another process has opened: the parent of a fork goes on using its
        connection, so it is neither closed nor told anything (psycopg2 knows by itself that
        it must not close it either); its locks may have been held while it forked."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._faults_lock = threading.Lock()
        self._connection = None
        self._hits: Counter[str] = Counter()
        self._hits_written_at = time.monotonic()
        self._breaker.reset()

    # ---- entries

    def get(self, key: str) -> Entry | Miss:
        return self.get_many([key]).get(key, MISS)

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        rows = self._run(_GET, (list(keys),), self._limits_ms) or ()
        found = {}
        for key, body in rows:
            entry = self._entry(key, body)
            if entry is not MISS:
                found[key] = entry
        if len(self._hits) < MAX_HITS:
            self._hits.update(found.keys())
        return found

    def _entry(self, key: str, body) -> Entry | Miss:
        try:
            entry = from_bytes(bytes(body or b''))
        except CorruptEntry:
            entry = None
        if entry is None or entry.key != key:
            self._note('corrupt')
            self._run(_DELETE, ([key], EVER), self._limits_ms)
            return MISS
        return entry if entry.expires > self._clock() else MISS

    def set(self, entry: Entry) -> bool:
        return self.set_many([entry]) == 1

    def set_many(self, entries: Sequence[Entry]) -> int:
        now = self._clock()
        fresh = {entry.key: entry for entry in entries if entry.expires > now}
        stored = 0
        for rows in self._batches(fresh):
            columns = [list(column) for column in zip(*rows, strict=True)]
            written = self._run_patiently(_PUT, columns)
            if written is None:
                break
            stored += written
        self.write_hits(every_s=HITS_EVERY_S)
        return stored

    def _batches(self, entries: dict[str, Entry]) -> Iterator[list[tuple]]:
        """Rows for _PUT in the order of keys, at most BATCH_ENTRIES and about BATCH_BYTES."""
        rows, size_bytes = [], 0
        for key in sorted(entries):
            entry = entries[key]
            body = self._pack(entry)
            if body is None:
                continue
            rows.append(
                (
                    key,
                    entry.model,
                    entry.method,
                    entry.uid,
                    bool(entry.flags & FLAG_SUPERUSER),
                    entry.created,
                    entry.expires,
                    entry.cost_ms,
                    psycopg2.Binary(body),
                )
            )
            size_bytes += len(body)
            if len(rows) >= BATCH_ENTRIES or size_bytes >= BATCH_BYTES:
                yield rows
                rows, size_bytes = [], 0
        if rows:
            yield rows

    def delete(self, keys: Iterable[str], before: float = EVER) -> int:
        removed = 0
        for part in slices(sorted(set(keys)), DELETE_ROWS):
            count = self._run_patiently(_DELETE, (part, before))
            if count is None:
                break
            removed += count
        return removed

    def removing(self, target: Target, before: float = EVER) -> Iterator[Step]:
        # Not TRUNCATE, which waits for every reader and makes every reader wait.
        like, bounds, last = sql_like(target.candidates), _bounds(target.candidates), ''
        while rows := self._run_patiently(_KEYS, (like, *bounds, last, DELETE_ROWS)):
            ((count, last, keys),) = rows
            if not count:
                return
            yield count, self.delete(filter(target.wants, keys or ()), before)
            if count < DELETE_ROWS:
                return

    def removing_user(self, uid: int, before: float = EVER) -> Iterator[Step]:
        count = DELETE_ROWS
        while count == DELETE_ROWS:
            count = self._run_patiently(_DELETE_USER, (uid, before, DELETE_ROWS)) or 0
            yield count, count

    def count(self, pattern: str) -> int | None:
        rows = self._run_patiently(_COUNT, _bounds(pattern))
        return rows[0][0] if rows else None

    def purge(self, max_entries: int | None = None, max_mb: float | None = None) -> int:
        """Remove what has expired, then the oldest beyond the limits; not in a request.

        :param max_entries: in place of what the constructor got
        :param max_mb: likewise
        :return: how many entries were removed
        """
        self.write_hits()
        removed = self._repeat(_PURGE_EXPIRED, ())
        entries = self._max_entries if max_entries is None else max_entries
        megabytes = self._max_mb if max_mb is None else max_mb
        if entries is None and megabytes is None:
            return removed
        cutoff = self._run(
            _CUTOFF,
            (
                _UNLIMITED if entries is None else entries,
                _UNLIMITED if megabytes is None else int(megabytes * 2**20),
            ),
            self._purge_limits_ms(),
        )
        if cutoff:
            removed += self._repeat(_PURGE_OLD, cutoff[0])
        return removed

    def _repeat(self, statement: str, params: tuple) -> int:
        """Run a DELETE of at most DELETE_ROWS until it finds no more."""
        removed = 0
        while True:
            count = self._run(statement, (*params, DELETE_ROWS), self._purge_limits_ms())
            removed += count or 0
            if not count or count < DELETE_ROWS:
                return removed

    def _purge_limits_ms(self) -> tuple[int, int]:
        statement_ms, lock_ms = self._limits_ms
        return max(PURGE_MS, PATIENCE * statement_ms), PATIENCE * lock_ms

    def write_hits(self, every_s: float = 0.0) -> None:
        """Add up in the table how often this object was answered by which entry; not in a
        request.  Of two objects for one table, the one that is read must be told.

        :param every_s: do nothing if that was done less than so many seconds ago
        """
        now = time.monotonic()
        if self._hits and now - self._hits_written_at >= every_s:
            hits, self._hits, self._hits_written_at = self._hits, Counter(), now
            keys = sorted(hits)
            self._run_patiently(_HITS, (keys, [hits[key] for key in keys]))

    # ---- calls

    def _run_patiently(self, statement: str, params: Sequence):
        """A statement that no request waits for."""
        statement_ms, lock_ms = self._limits_ms
        return self._run(statement, params, (PATIENCE * statement_ms, PATIENCE * lock_ms))

    def _run(self, statement: str, params: Sequence, limits_ms: tuple[int, int]):
        """One statement in a transaction of its own.

        :param limits_ms: for the statement, and as much for another thread to be done with the
            connection; for a lock
        :return: rows; the number of rows if it returns none; None if it failed
        """
        if self._pid != os.getpid():
            self._start_process()
        if not self._breaker.allow():
            return None
        if not self._lock.acquire(timeout=limits_ms[0] / 1000):
            self._note('busy')
            return None
        try:
            return self._answer(statement, (*limits_ms, *params))
        except ValueError:
            self._note('error')  # a key with a NUL or half a surrogate pair
        except Exception as error:
            self._failed(error, waited_for=limits_ms == self._limits_ms)
        except BaseException:
            self._drop()  # killed in the middle; nobody knows what it is about to answer
            raise
        finally:
            self._lock.release()
        return None

    def _answer(self, statement: str, params: tuple):
        if self._connection is None:
            self._connection = self._connect()
            self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute(statement, params)
            answer = cursor.fetchall() if cursor.description else cursor.rowcount
        if self._breaker.success():
            _logger.info("Tiered Cache L3: cache_entry answers again")
        return answer

    def _failed(self, error: Exception, waited_for: bool) -> None:
        code = getattr(error, 'pgcode', None)
        kind = _KIND_BY_CODE.get(code, 'error')
        if not code or code.startswith(_CONNECTION_CODES):
            kind = 'connection'
            self._drop()
        # A slow or blocked statement that no request waited for says little about reads.
        charged = waited_for or kind not in ('timeout', 'locked')
        self._note(kind, loud=self._breaker.failure() if charged else None)

    def _note(self, kind: str, loud: bool | None = None) -> None:
        self._last_fault = kind
        self._fault(kind, 'cache_entry', loud)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    def close(self) -> None:
        if self._pid == os.getpid():
            with self._lock:
                self._drop()

    @property
    def is_up(self) -> bool:
        return self._breaker.state == CLOSED

    # ---- for administrators

    def stats(self) -> dict:
        """See :meth:`Tier.stats`.

        :return: also ``since`` (epoch seconds, when it went down), ``last_fault`` (a kind),
            ``table_bytes`` (with indexes and dead rows).  ``state`` is 'up', 'down' or
            'replica'; ``bytes`` are of the packed entries.
        """
        rows = self._run_patiently(_STATS, ())
        entries, size_bytes, table_bytes = rows[0] if rows else (None, None, None)
        return {
            'state': self._state(),
            'entries': entries,
            'bytes': size_bytes,
            'max_entries': self._max_entries,
            'max_bytes': None if self._max_mb is None else int(self._max_mb * 2**20),
            'faults': dict(self.faults),
            'table_bytes': table_bytes,
            'since': self._breaker.opened_at,
            'last_fault': self._last_fault,
        }

    def _state(self) -> str:
        if self._breaker.state == CLOSED:
            return 'up'
        return 'replica' if self._last_fault == 'replica' else 'down'


def _bounds(pattern: str) -> tuple[str, str]:
    """The first key, in order of bytes, that may match a pattern, and the first after it that may
    not."""
    prefix = pattern_prefix(pattern)
    *head, last = prefix or '\x00'
    if not prefix or ord(last) >= 0xD7FF:  # half a surrogate pair comes next, or nothing
        return prefix, LAST_CHARACTER
    return prefix, ''.join(head) + chr(ord(last) + 1)
