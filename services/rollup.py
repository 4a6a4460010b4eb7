"""Figures by minute, hour and day, and what goes when.

The one idea: nothing is added up later.  A process that writes its figures adds them to the rows
of their minute, hour and day in one transaction (:func:`.metrics.write`), so each level is
complete at any moment, whoever dies when, and a dashboard that shows a month reads thirty rows
where there were 43,200 minutes.  What a scheduled action does (:func:`retire`) only removes.

``cache_metric``
    per model, method, outcome, reason and relation.  ``active`` rows are disjoint: they hold each
    event once, whatever is added up.  Minutes are active while they are kept; when the minutes of
    an hour go, the row of the hour becomes active, and so on.
``cache_total``
    per outcome and reason only, hence a dozen rows a minute, with a histogram of durations
    (:mod:`.latency`) in the row of each outcome whose reason is ''.

What may go wrong: a process that could not write for longer than minutes are kept adds to a minute
and to an hour that is active already; these events count twice in sums over both until the
scheduled action has run.  A crash of PostgreSQL loses the last moments: they are figures, so the
commit does not wait for the disk, and other processes do not wait for the commit.
"""

from __future__ import annotations

import collections
import datetime

from odoo.tools import SQL

from . import metrics
from .latency import BINS, add, new_bins
from .metrics import GRANULARITIES, SUMS

TOTAL_KEY = ('granularity', 'bucket', 'outcome', 'reason')

_TOTAL_TABLE = f"""
CREATE TABLE IF NOT EXISTS cache_total (
    granularity varchar NOT NULL,
    bucket timestamp NOT NULL,
    outcome varchar NOT NULL,
    reason varchar NOT NULL,
    count bigint NOT NULL DEFAULT 0,
    calls bigint NOT NULL DEFAULT 0,
    hits bigint NOT NULL DEFAULT 0,
    duration_ms float8 NOT NULL DEFAULT 0,
    saved_ms float8 NOT NULL DEFAULT 0,
    saved_queries bigint NOT NULL DEFAULT 0,
    bytes numeric NOT NULL DEFAULT 0,
    audited bigint NOT NULL DEFAULT 0,
    differences bigint NOT NULL DEFAULT 0,
    latency bigint[],
    PRIMARY KEY ({', '.join(TOTAL_KEY)})
)
"""

_ADD_SUMS = ', '.join(f'{name} = cache_total.{name} + EXCLUDED.{name}' for name in SUMS)
_TOTAL_COLUMNS = ('bucket', 'outcome', 'reason', *SUMS)
_TYPES = {'bucket': 'timestamp', 'outcome': 'varchar', 'reason': 'varchar', 'bytes': 'numeric'}
_TYPES |= dict.fromkeys(('duration_ms', 'saved_ms'), 'float8')

# In the order of the primary key, as metrics.write does and for the same reason.
_WRITE_SUMS = f"""
INSERT INTO cache_total ({', '.join((*TOTAL_KEY, *SUMS))})
SELECT level, date_trunc(level, bucket), outcome, reason,
       {', '.join(f'sum({name})' for name in SUMS)}
  FROM unnest({', '.join(f"%s::{_TYPES.get(name, 'bigint')}[]" for name in _TOTAL_COLUMNS)})
       AS fresh({', '.join(_TOTAL_COLUMNS)}), unnest(%s::varchar[]) AS level
 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT ({', '.join(TOTAL_KEY)}) DO UPDATE SET {_ADD_SUMS}
"""

_SUM_OF_BINS = ', '.join(
    f'cache_total.latency[{index}] + EXCLUDED.latency[{index}]' for index in range(1, BINS + 1)
)
_WRITE_BINS = f"""
INSERT INTO cache_total ({', '.join(TOTAL_KEY)}, latency) VALUES %s
ON CONFLICT ({', '.join(TOTAL_KEY)}) DO UPDATE SET latency = CASE
    WHEN cache_total.latency IS NULL THEN EXCLUDED.latency ELSE ARRAY[{_SUM_OF_BINS}] END
"""

_REBUILD = f"""
INSERT INTO cache_metric (granularity, active, {', '.join(metrics.KEY)}, {', '.join(SUMS)})
SELECT level, FALSE, date_trunc(level, bucket), {', '.join(metrics.KEY[1:])},
       {', '.join(f'sum({name})' for name in SUMS)}
  FROM cache_metric, unnest(ARRAY['hour', 'day']::varchar[]) AS level
 WHERE granularity = 'minute'
 GROUP BY 1, 3, {', '.join(metrics.KEY[1:])}
"""
_REBUILD_TOTALS = f"""
INSERT INTO cache_total ({', '.join((*TOTAL_KEY, *SUMS))})
SELECT granularity, bucket, outcome, coalesce(reason, ''),
       {', '.join(f'sum({name})' for name in SUMS)}
  FROM cache_metric GROUP BY 1, 2, 3, 4
"""


EVER = 'ever'
"""Granularity of the rows that hold what went with old days, so that sums since the beginning do
not fall; see :mod:`.published`."""

_BEGINNING = datetime.datetime(1970, 1, 1)

_KEEP_METRICS = f"""
INSERT INTO cache_metric (granularity, active, {', '.join(metrics.KEY)}, {', '.join(SUMS)})
SELECT %(ever)s, FALSE, %(beginning)s, model, '', outcome, reason,
       CASE WHEN outcome = 'fault' THEN relation ELSE '' END,
       {', '.join(f'sum({name})' for name in SUMS)}
  FROM cache_metric WHERE granularity = 'day' AND bucket < %(before)s
 GROUP BY 4, 6, 7, 8
ON CONFLICT (granularity, {', '.join(metrics.KEY)}) DO UPDATE
SET {', '.join(f'{name} = cache_metric.{name} + EXCLUDED.{name}' for name in SUMS)}
"""
_KEEP_TOTALS = f"""
INSERT INTO cache_total ({', '.join((*TOTAL_KEY, *SUMS))})
SELECT %(ever)s, %(beginning)s, outcome, reason, {', '.join(f'sum({name})' for name in SUMS)}
  FROM cache_total WHERE granularity = 'day' AND bucket < %(before)s GROUP BY 3, 4
ON CONFLICT ({', '.join(TOTAL_KEY)}) DO UPDATE SET {_ADD_SUMS}
"""
_OLD_BINS = """
SELECT outcome, latency FROM cache_total
 WHERE granularity = 'day' AND bucket < %s AND latency IS NOT NULL
"""


def _keep_for_ever(cr, before: datetime.datetime) -> None:
    """Add days that are about to go to the rows that stay."""
    values = {'ever': EVER, 'beginning': _BEGINNING, 'before': before}
    cr.execute(_KEEP_METRICS, values)
    cr.execute(_KEEP_TOTALS, values)
    cr.execute(_OLD_BINS, [before])
    sums: dict[str, list[int]] = collections.defaultdict(new_bins)
    for outcome, bins in cr.fetchall():
        add(sums[outcome], bins)
    rows = [(EVER, _BEGINNING, outcome, '', bins) for outcome, bins in sorted(sums.items())]
    if rows:
        values = SQL(', ').join(SQL("(%s, %s, %s, %s, %s::bigint[])", *row) for row in rows)
        cr.execute(SQL(_WRITE_BINS, values))


def install(cr) -> None:
    """Create the table of totals; add up what an older version of the addon has counted."""
    cr.execute(_TOTAL_TABLE)
    cr.execute(
        "SELECT EXISTS (SELECT FROM cache_metric WHERE granularity = 'minute'),"
        " EXISTS (SELECT FROM cache_metric WHERE granularity = 'day')"
    )
    if cr.fetchone() == (True, False):
        cr.execute(_REBUILD)
        cr.execute("TRUNCATE cache_total")
        cr.execute(_REBUILD_TOTALS)


def uninstall(cr) -> None:
    cr.execute("DROP TABLE IF EXISTS cache_total")


def write(cr, drained) -> int:
    """Add figures to both tables, at all levels; commits nothing.

    :param cr: as in :func:`.metrics.write`
    :param drained: from :meth:`.metrics.Metrics.drain`
    :return: rows handed over
    """
    if not drained:
        return 0
    # the commit need not wait for the disk, and nobody who adds to the same rows for the commit
    cr.execute("SET LOCAL synchronous_commit TO off")
    count = metrics.write(cr, drained)
    columns = [[row[name] for row in drained] for name in _TOTAL_COLUMNS]
    cr.execute(_WRITE_SUMS, [*columns, list(GRANULARITIES)])
    _write_bins(cr, getattr(drained, 'latencies', {}))
    return count


def _write_bins(cr, latencies) -> None:
    levels: dict[tuple, list[int]] = collections.defaultdict(new_bins)
    for (minute, outcome), bins in latencies.items():
        for level in GRANULARITIES:
            add(levels[level, start_of(level, minute), outcome], bins)
    rows = [(*key, '', bins) for key, bins in sorted(levels.items())]
    if rows:
        values = SQL(', ').join(SQL("(%s, %s, %s, %s, %s::bigint[])", *row) for row in rows)
        cr.execute(SQL(_WRITE_BINS, values))


def start_of(granularity: str, moment: datetime.datetime) -> datetime.datetime:
    """The beginning of the minute, hour or day that a moment lies in."""
    moment = moment.replace(second=0, microsecond=0)
    if granularity == 'minute':
        return moment
    return moment.replace(minute=0) if granularity == 'hour' else moment.replace(minute=0, hour=0)


def retire(cr, now: datetime.datetime, minutes_days: int, hours_days: int, days: int) -> int:
    """Remove minutes, hours and days that are old; what is left of them is the next level.

    Does nothing when done again, and may run in several processes at once: each statement
    says what must not be there any more.

    :param cr: a cursor in READ COMMITTED
    :param now: UTC, without a time zone
    :param minutes_days: how long minutes are kept
    :param hours_days: likewise hours; not less than minutes
    :param days: likewise days, and anything at all
    :return: how many rows of ``cache_metric`` went
    """
    hours_days = max(hours_days, minutes_days)
    # writers take rows of three levels in the order of their key, this one level by level
    lock = "LOCK TABLE cache_metric, cache_total IN SHARE ROW EXCLUSIVE MODE"
    cr.execute(lock, log_exceptions=False)
    removed = 0
    for finer, coarser, kept_days in (
        ('minute', 'hour', minutes_days),
        ('hour', 'day', hours_days),
    ):
        before = start_of(coarser, now - datetime.timedelta(days=kept_days))
        cr.execute(
            "DELETE FROM cache_metric WHERE granularity = %s AND bucket < %s", [finer, before]
        )
        removed += cr.rowcount
        cr.execute(
            "UPDATE cache_metric SET active = TRUE"
            " WHERE granularity = %s AND bucket < %s AND NOT active",
            [coarser, before],
        )
        cr.execute(
            "DELETE FROM cache_total WHERE granularity = %s AND bucket < %s", [finer, before]
        )
    oldest = start_of('day', now - datetime.timedelta(days=days))
    _keep_for_ever(cr, oldest)
    return removed + remove_before(cr, oldest)


def remove_before(cr, moment: datetime.datetime) -> int:
    """Remove what began before a moment, at all levels.

    :return: how many active rows of ``cache_metric`` went
    """
    removed = 0
    for level in GRANULARITIES:
        cr.execute(
            "WITH gone AS (DELETE FROM cache_metric WHERE granularity = %s AND bucket < %s"
            " RETURNING active) SELECT count(*) FILTER (WHERE active) FROM gone",
            [level, moment],
        )
        removed += cr.fetchone()[0]
        cr.execute(
            "DELETE FROM cache_total WHERE granularity = %s AND bucket < %s", [level, moment]
        )
    return removed
