"""Sums of hours and days that are over, added up before somebody asks.

The one idea: what is over does not change any more, except for what a late process adds.  That
changes the totals too, which are few rows.  So a sum is kept with a stamp of the totals of its
time, in ``cache_sum`` for all processes and in the memory of those that need it, and is right for
as long as the stamp is.  :class:`Preparer` writes it in the background of one process a minute
before it is needed, so no request of a dashboard adds up a month of rows, not even the first one of
a process.

What may go wrong: nobody has prepared a sum (a time zone of nobody else, a process that added to an
hour long over, an Odoo that has just started after a night).  The request adds it up itself,
and what it got is kept in the background.
"""

from __future__ import annotations

import contextlib
import datetime
import json

import psycopg2

MAX_REMEMBERED = 6
"""Sums that a process keeps in its memory: those of three periods; up to 1 MB each."""

KEPT_H = 26
"""Longer than any sum is asked for: that of the days until midnight, for a day."""

MAX_ZONES = 8
"""Time zones for which sums are prepared: days begin at other hours in each."""

LEAD = datetime.timedelta(minutes=1)
"""How long before it is needed a sum is prepared; less than :data:`.dashboard.CLOSED_AFTER`."""

_LOCK = 7211966048923351  # as journal.LOCK: one arbitrary number, for whoever prepares

_BUSY = (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected)
"""Another process writes the same."""

_TABLE = """
CREATE TABLE IF NOT EXISTS cache_sum (
    granularity varchar NOT NULL,
    first timestamp NOT NULL,
    until timestamp NOT NULL,
    stamp varchar NOT NULL,
    sums text NOT NULL,
    created_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    PRIMARY KEY (granularity, first, until)
)
"""

_STAMP = """
SELECT concat_ws(' ', sum(count), sum(calls), sum(hits), sum(bytes), count(*)) FROM cache_total
 WHERE granularity = %s AND bucket >= %s AND bucket < %s
"""
# whole numbers only: those with fractions differ in their last digits with the order of rows

_ADD_UP = """
SELECT model, method, outcome, coalesce(reason, ''), relation, sum(count)::bigint,
       sum(duration_ms)::float8, sum(saved_ms)::float8
  FROM cache_metric
 WHERE granularity = %s AND bucket >= %s AND bucket < %s AND (calls > 0 OR outcome = 'same')
 GROUP BY 1, 2, 3, 4, 5
"""

_READ = """
SELECT sums FROM cache_sum WHERE granularity = %s AND first = %s AND until = %s AND stamp = %s
"""
_WRITE = """
INSERT INTO cache_sum (granularity, first, until, stamp, sums) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (granularity, first, until) DO UPDATE
SET stamp = EXCLUDED.stamp, sums = EXCLUDED.sums, created_at = EXCLUDED.created_at
"""

_ZONES = """
SELECT partner.tz FROM res_users AS someone JOIN res_partner AS partner
    ON partner.id = someone.partner_id
 WHERE someone.active AND partner.tz IS NOT NULL AND someone.id IN (
       SELECT uid FROM res_groups_users_rel JOIN ir_model_data
           ON res_id = gid AND module = 'tiered_cache'
          AND name IN ('group_cache_user', 'group_cache_admin'))
 GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT %s
"""

Part = tuple[str, datetime.datetime, datetime.datetime]
"""Granularity of the rows, when the first begins, when the last ends (``datetime.max``: now)."""


def install(cr) -> None:
    cr.execute(_TABLE)


def uninstall(cr) -> None:
    cr.execute("DROP TABLE IF EXISTS cache_sum")


def is_over(part: Part) -> bool:
    return part[2] != datetime.datetime.max


def stamp_of(cr, part: Part) -> str:
    """What a sum of that time depends on."""
    cr.execute(_STAMP, part)
    return cr.fetchone()[0]


def add_up(cr, part: Part) -> list[tuple]:
    """Rows of model, method, outcome, reason, detail, calls, duration and saved time in ms."""
    # PostgreSQL takes granularity and time for independent, expects half of the table and would
    # read all of it: 120 ms instead of 8 with a million rows
    cr.execute("SET LOCAL enable_seqscan TO off")
    cr.execute(_ADD_UP, part)
    rows = cr.fetchall()
    cr.execute("SET LOCAL enable_seqscan TO DEFAULT")
    return rows


def read(cr, part: Part, stamp: str) -> list[tuple] | None:
    """A sum that was kept, None if there is none or figures have come since."""
    cr.execute(_READ, [*part, stamp])
    found = cr.fetchone()
    return found and [tuple(row) for row in json.loads(found[0])]


def write(cr, part: Part, stamp: str, rows: list[tuple]) -> None:
    """Keep a sum for all processes, and forget those of yesterday; commits nothing."""
    cr.execute(_WRITE, [*part, stamp, json.dumps(rows)])
    cr.execute(
        "DELETE FROM cache_sum"
        " WHERE created_at < now() AT TIME ZONE 'utc' - make_interval(hours => %s)",
        [KEPT_H],
    )


def zones(cr) -> list[str]:
    """Time zones of people who may look at the dashboard, those of most of them first."""
    cr.execute(_ZONES, [MAX_ZONES])
    return [zone for (zone,) in cr.fetchall()]


class SumBook:
    """The sums that one process remembers.

    :param keep: called with part, stamp and rows of a sum that nobody had prepared
    """

    def __init__(self, keep=lambda part, stamp, rows: None):
        self._keep = keep
        self._memory: dict[tuple, list[tuple]] = {}

    def rows(self, cr, part: Part) -> list[tuple]:
        """As :func:`add_up`."""
        if not is_over(part):
            return add_up(cr, part)
        stamp = stamp_of(cr, part)
        key = (*part, stamp)
        rows = self._memory.pop(key, None)
        if rows is None:
            rows = read(cr, part, stamp)
        if rows is None:
            rows = add_up(cr, part)
            self._keep(part, stamp, rows)
        self._memory[key] = rows
        while len(self._memory) > MAX_REMEMBERED:
            self._memory.pop(next(iter(self._memory)), None)
        return rows


class Preparer:
    """Adds up what dashboards will ask for, once in the installation.

    :param engine: for its cursor and outbox
    :param parts: ``parts(now, zones)`` returns what is asked for at a time
    """

    def __init__(self, engine, parts):
        self._engine = engine
        self._parts = parts
        self._prepared: set[Part] = set()
        self._asked: dict[Part, tuple[str, list[tuple]]] = {}

    def work(self) -> None:
        """Add up what will be asked for in a minute, unless it is there."""
        with contextlib.suppress(*_BUSY), self._engine.cursor() as cr:
            soon = cr.now().replace(microsecond=0) + LEAD
            # in whatever time zone, days begin with an hour, and the last 24 hours then end
            if self._parts(soon, ['UTC']) <= self._prepared:
                return
            cr.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
            if not cr.fetchone()[0]:
                return  # another process is at it; look again soon
            wanted = self._parts(soon, ['UTC', *zones(cr)])
            for part in sorted(wanted - self._prepared):
                stamp = stamp_of(cr, part)
                if read(cr, part, stamp) is None:
                    write(cr, part, stamp, add_up(cr, part))
            self._prepared = wanted

    def keep(self, part: Part, stamp: str, rows: list[tuple]) -> None:
        """Write down soon what a request had to add up."""
        self._asked[part] = stamp, rows
        self._engine.outbox.post_job('sums asked for', self._write)

    def _write(self) -> None:
        with contextlib.suppress(*_BUSY), self._engine.cursor() as cr:
            while self._asked:
                part, (stamp, rows) = self._asked.popitem()
                write(cr, part, stamp, rows)
