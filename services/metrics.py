"""What the cache did, counted: per minute, model, method, outcome and reason.

The one idea: an event adds to a row in memory, under a lock, in well under a microsecond;
now and then :meth:`Metrics.drain` hands the rows over and :func:`write` adds them to the
table ``cache_metric``, where the rows of all processes meet.  Each is added to the row of its
minute, of its hour and of its day (:data:`GRANULARITIES`), in one statement: whoever asks for a
day reads day rows, and no sum is ever behind.  :mod:`.rollup` adds what is not per model, and
removes what is old.

Several kinds of rows.  ``l1``, ``l2``, ``l3`` (hits) and ``computed`` (misses, with a reason)
are calls.  ``fault`` (a tier failed), ``event`` (anything else worth counting), ``audit`` (a
hit was computed again), ``change`` (transactions that changed a table) and ``same`` (an answer
that was out of date came out as before) are not calls and say nothing about the hit rate.

What may go wrong: a process dies before it drains and up to ``metrics_flush_s`` of figures
are lost; they are figures, not data.  Someone reads a million different models: beyond
:data:`MAX_ROWS` rows between two drains, further ones are counted together as
``model = '(other)'``.  An object must not be shared across a fork, or both processes would
write the same figures.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
import typing
from collections.abc import Iterable

from .latency import bin_of, new_bins

HITS = ('l1', 'l2', 'l3')
CALLS = (*HITS, 'computed')
OUTCOMES = (*CALLS, 'fault', 'event', 'audit', 'change', 'same')

REASONS = (
    'cold',
    'stale',
    'expired',
    'evicted',
    'dirty',
    'cheap',
    'large',
    'unserializable',
    'uncacheable',
    'suspended',
    'fault',
    'unguarded',
    'disabled',
    'orm_cache',
    'old_snapshot',
)
"""Why a call was computed; the labels are in ``models/cache_metric.py``."""

MAX_ROWS = 20_000
"""Rows between two drains.  Odoo with every app has about 1,200 models and 16 cached methods;
20,000 rows take some 10 MB."""

MAX_TEXT = 200
"""Characters of a name.  Six of them stay below the 2,704 bytes of a PostgreSQL index row."""

GRANULARITIES = ('minute', 'hour', 'day')
"""What a row may be about.  Names that PostgreSQL's ``date_trunc`` knows."""

KEY = ('bucket', 'model', 'method', 'outcome', 'reason', 'relation')
SUMS = (
    'count',
    'calls',
    'hits',
    'duration_ms',
    'saved_ms',
    'saved_queries',
    'bytes',
    'audited',
    'differences',
)

_COUNT, _DURATION, _SAVED, _QUERIES, _BYTES, _AUDITED, _DIFFERENCES = range(7)

_TYPES = {
    'bucket': 'timestamp',
    'duration_ms': 'float8',
    'saved_ms': 'float8',
    'bytes': 'numeric',
    **dict.fromkeys(KEY[1:], 'varchar'),
}
_COLUMNS = KEY + SUMS

_NAMES = KEY[1:]

# Rows are added in the order of the unique index by every process, so that two of them that
# write the same rows wait for each other instead of forming a deadlock.
_WRITE = f"""
INSERT INTO cache_metric (granularity, active, {', '.join(_COLUMNS)})
SELECT level, level = 'minute', date_trunc(level, bucket), {', '.join(_NAMES)},
       {', '.join(f'sum({name})' for name in SUMS)}
  FROM unnest({', '.join(f"%s::{_TYPES.get(name, 'int')}[]" for name in _COLUMNS)})
       AS fresh({', '.join(_COLUMNS)}), unnest(%s::varchar[]) AS level
 GROUP BY level, date_trunc(level, bucket), {', '.join(_NAMES)}
 ORDER BY level, date_trunc(level, bucket), {', '.join(_NAMES)}
ON CONFLICT (granularity, {', '.join(KEY)}) DO UPDATE
SET {', '.join(f'{name} = cache_metric.{name} + EXCLUDED.{name}' for name in SUMS)}
"""


class Seen(typing.NamedTuple):
    """A call that was set aside.

    :param what: 'hit' or 'miss'
    :param why: the tier of a hit, the reason of a miss
    :param ms: what the hit has saved, what computing took
    """

    what: str
    why: str
    detail: str
    ms: float


class _Aside(threading.local):
    calls: list[Seen] | None = None


_aside = _Aside()


@contextlib.contextmanager
def set_aside():
    """Within it, calls of this thread are not counted: nobody was waiting for them.

    Yields a list of :class:`Seen`, in the order in which they ended.
    """
    before, _aside.calls = _aside.calls, []
    try:
        yield _aside.calls
    finally:
        _aside.calls = before


class Drained(list):
    """Rows for :func:`write`.

    :ivar latencies: histograms, by minute (a datetime) and outcome; see :mod:`.latency`
    """

    def __init__(self, rows=(), latencies=None):
        super().__init__(rows)
        self.latencies: dict[tuple, list[int]] = latencies or {}


class Metrics:
    """The counters of one process and database.

    :param clock: epoch seconds
    :ivar calls: read calls since this object was made
    :ivar hits: those of them that a tier answered
    """

    def __init__(self, clock=time.time):
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[tuple, list] = {}
        self._latencies: dict[tuple[int, str], list[int]] = {}
        self._totals: dict[tuple, list] = {}
        self.calls = self.hits = 0
        self._since = clock()

    def hit(
        self,
        tier: str,
        model: str,
        method: str,
        duration_ms: float = 0.0,
        saved_ms: float = 0.0,
        saved_queries: int = 0,
        bytes: int = 0,
    ) -> None:
        """A call was answered by ``tier`` ('l1', 'l2' or 'l3')."""
        aside = _aside.calls
        if aside is not None:
            aside.append(Seen('hit', tier, '', saved_ms))
            return
        minute = int(self._clock() // 60)
        with self._lock:
            row = self._rows.get((minute, model, method, tier, '', ''))
            if row is None:
                row = self._new_row((minute, model, method, tier, '', ''))
            row[0] += 1
            row[1] += duration_ms
            row[2] += saved_ms
            row[3] += saved_queries
            row[4] += bytes
            self.hits += 1
            self._took(minute, tier, duration_ms)

    def miss(
        self,
        reason: str,
        model: str,
        method: str,
        duration_ms: float = 0.0,
        relation: str | None = None,
    ) -> None:
        """A call was computed.

        :param reason: one of REASONS
        :param relation: for 'stale' the relation that changed, for 'uncacheable' why
        """
        aside = _aside.calls
        if aside is not None:
            aside.append(Seen('miss', reason, relation or '', duration_ms))
            return
        minute = int(self._clock() // 60)
        with self._lock:
            row = self._row((minute, model, method, 'computed', reason, relation or ''))
            row[_COUNT] += 1
            row[_DURATION] += duration_ms
            self._took(minute, 'computed', duration_ms)

    def fault(self, tier: str, kind: str) -> None:
        """A tier failed, e.g. ``fault('l2', 'timeout')``; counted as relation 'l2: timeout'."""
        self._count('fault', 'fault', f'{tier}: {kind}')

    def event(self, name: str) -> None:
        """Anything else, e.g. ``event('guard_failed')``; counted by its name as relation."""
        self._count('event', '', name)

    def audit(self, model: str, method: str, ok: bool) -> None:
        """A hit was computed again and was the same (``ok``) or not."""
        minute = int(self._clock() // 60)
        with self._lock:
            row = self._row((minute, model, method, 'audit', '', ''))
            row[_COUNT] += 1
            row[_AUDITED] += 1
            row[_DIFFERENCES] += not ok

    def changed(self, relation: str, count: int) -> None:
        """So many transactions have changed a relation; noted when the journal is summed up."""
        minute = int(self._clock() // 60)
        with self._lock:
            self._row((minute, '', '', 'change', '', relation))[_COUNT] += count

    def same(self, model: str, method: str, relation: str, column: str) -> None:
        """An answer that was out of date came out as before; the call itself is a miss.

        :param relation: which had changed; :param column: the only one that reads it, or ''
        """
        if _aside.calls is not None:
            return
        minute = int(self._clock() // 60)
        detail = f'{relation}: {column}' if column else relation
        with self._lock:
            self._row((minute, model, method, 'same', '', detail))[_COUNT] += 1

    def drain(self) -> Drained:
        """The rows since the last drain, for :func:`write`; they are forgotten here."""
        with self._lock:
            rows, self._rows = self._rows, {}
            latencies, self._latencies = self._latencies, {}
            self._fold(rows, self._totals)
        return Drained(
            (_as_dict(key, row) for key, row in rows.items()),
            {(_moment(minute), outcome): bins for (minute, outcome), bins in latencies.items()},
        )

    def snapshot(self) -> dict:
        """Totals since this object was made.

        :return: ``since`` (epoch seconds), ``calls``, ``hits`` (by tier), ``misses`` (by
            reason), ``hit_rate`` (0 to 1, None without calls), ``duration_ms``, ``saved_ms``,
            ``saved_queries``, ``bytes``, ``audited``, ``differences``, ``faults`` (by
            'tier: kind'), ``events`` (by name), ``models`` (a list of model, method, calls,
            hits, saved_ms; most called first, at most 50)
        """
        with self._lock:
            totals = {key: list(row) for key, row in self._totals.items()}
            self._fold(self._rows, totals)
        return {'since': self._since, **_summary(totals)}

    def _count(self, outcome: str, reason: str, relation: str) -> None:
        minute = int(self._clock() // 60)
        with self._lock:
            self._row((minute, '', '', outcome, reason, relation))[_COUNT] += 1

    def _took(self, minute: int, outcome: str, duration_ms: float) -> None:
        """Count a call, and how long it took where that is known; within the lock."""
        self.calls += 1
        if duration_ms:
            bins = self._latencies.get((minute, outcome))
            if bins is None:
                bins = self._latencies[minute, outcome] = new_bins()
            bins[bin_of(duration_ms)] += 1

    def _row(self, key: tuple) -> list:
        row = self._rows.get(key)
        return self._new_row(key) if row is None else row

    def _new_row(self, key: tuple) -> list:
        if len(self._rows) >= MAX_ROWS:
            minute, _model, _method, outcome, reason, _relation = key
            key = (minute, '(other)', '', outcome, reason, '')
        return self._rows.setdefault(key, [0, 0.0, 0.0, 0, 0, 0, 0])

    @staticmethod
    def _fold(rows: dict[tuple, list], totals: dict[tuple, list]) -> None:
        """Add rows to totals, which know no minutes, nor which relation made a call stale."""
        for (_minute, model, method, outcome, reason, relation), row in rows.items():
            if outcome in CALLS:
                relation = ''
            key = (model, method, outcome, reason, relation)
            if key not in totals and len(totals) >= MAX_ROWS:
                key = ('(other)', '', outcome, reason, '')
            total = totals.setdefault(key, [0] * len(row))
            for index, value in enumerate(row):
                total[index] += value


def write(cr, rows: Iterable[dict], granularities=GRANULARITIES) -> int:
    """Add rows to the table ``cache_metric``; commits nothing.

    :param cr: a cursor in READ COMMITTED: under REPEATABLE READ two processes that add to
        the same row fail with 40001
    :param rows: from :meth:`Metrics.drain`, several drains may be put together
    :param granularities: of the rows to add to
    :return: rows handed over
    """
    rows = list(rows)
    if rows:
        columns = [[row[name] for row in rows] for name in _COLUMNS]
        cr.execute(_WRITE, [*columns, list(granularities)])
    return len(rows)


def _as_dict(key: tuple, row: list) -> dict:
    minute, *names = key
    outcome = key[3]
    return {
        'bucket': _moment(minute),
        **dict(zip(KEY[1:], (_clean(name) for name in names), strict=True)),
        'count': row[_COUNT],
        'calls': row[_COUNT] if outcome in CALLS else 0,
        'hits': row[_COUNT] if outcome in HITS else 0,
        'duration_ms': row[_DURATION],
        'saved_ms': row[_SAVED],
        'saved_queries': row[_QUERIES],
        'bytes': row[_BYTES],
        'audited': row[_AUDITED],
        'differences': row[_DIFFERENCES],
    }


def _moment(minute: int) -> datetime.datetime:
    """A minute since the epoch as PostgreSQL takes it: UTC, without a time zone."""
    moment = datetime.datetime.fromtimestamp(minute * 60, datetime.timezone.utc)
    return moment.replace(tzinfo=None)


def _clean(name: str) -> str:
    """A name that PostgreSQL takes: no NUL, and short enough for the unique index."""
    return name[:MAX_TEXT].replace('\x00', '')


def _summary(totals: dict[tuple, list]) -> dict:
    hits, misses, faults, events = dict.fromkeys(HITS, 0), {}, {}, {}
    models: dict[tuple, dict] = {}
    sums = [0] * 7
    for (model, method, outcome, reason, relation), row in totals.items():
        if outcome in HITS:
            hits[outcome] += row[_COUNT]
        elif outcome == 'computed':
            misses[reason] = misses.get(reason, 0) + row[_COUNT]
        elif outcome == 'fault':
            faults[relation] = faults.get(relation, 0) + row[_COUNT]
        elif outcome == 'event':
            events[relation] = events.get(relation, 0) + row[_COUNT]
        if outcome in CALLS:
            _add_model(models, model, method, outcome, row)
        sums = [total + value for total, value in zip(sums, row, strict=True)]
    calls = sum(hits.values()) + sum(misses.values())
    return {
        'calls': calls,
        'hits': hits,
        'misses': misses,
        'hit_rate': sum(hits.values()) / calls if calls else None,
        'duration_ms': sums[_DURATION],
        'saved_ms': sums[_SAVED],
        'saved_queries': sums[_QUERIES],
        'bytes': sums[_BYTES],
        'audited': sums[_AUDITED],
        'differences': sums[_DIFFERENCES],
        'faults': faults,
        'events': events,
        'models': sorted(models.values(), key=lambda row: -row['calls'])[:50],
    }


def _add_model(models: dict, model: str, method: str, outcome: str, row: list) -> None:
    entry = models.setdefault(
        (model, method), {'model': model, 'method': method, 'calls': 0, 'hits': 0, 'saved_ms': 0.0}
    )
    entry['calls'] += row[_COUNT]
    entry['hits'] += row[_COUNT] if outcome in HITS else 0
    entry['saved_ms'] += row[_SAVED]
