"""The figures of one period, as a dashboard shows them.

The one idea: two kinds of queries.  One reads ``cache_total``, a dozen rows for each minute or
hour, and gives the curves; the other reads ``cache_metric`` at the coarsest level that fits into
the period (:func:`segments`) and gives the tables.

A period ends now and begins at a full minute, a full hour, or at midnight of whoever asks.  Hours
are the finest that is kept for long, so in a time zone that is half an hour off, a day begins at
the full hour before.

What may go wrong: the clock of a server is ahead of the database's; then the last moments of what
its processes did are in the future, and are shown when it has come.
"""

from __future__ import annotations

import dataclasses
import datetime
import math

import pytz

from .latency import BINS, add, new_bins, percentile
from .metrics import CALLS, HITS
from .sums import Part, SumBook, is_over

HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)

PERIODS = ('hour', 'day', 'week', 'month')

NOW_MINUTES = 5
"""What "now" is: long enough for a rate, short enough for a change."""

MAX_METHODS = 50
MAX_RELATIONS = 5
MAX_MODELS = 10

CLOSED_AFTER = datetime.timedelta(minutes=2)
"""How long an hour or a day that is over is still read row by row: meanwhile the last processes
write what they did in it, and :mod:`.sums` prepares the sum without it and, then, with it."""

_SUMS = ('count', 'calls', 'hits', 'duration_ms', 'saved_ms', 'saved_queries', 'audited')


@dataclasses.dataclass(frozen=True, slots=True)
class Period:
    """:param starts: when the columns of a chart begin, UTC without time zone, in order
    :param granularity: of the rows that the columns are made of
    """

    name: str
    now: datetime.datetime
    granularity: str
    starts: list[datetime.datetime]

    @property
    def start(self) -> datetime.datetime:
        return self.starts[0]

    @property
    def hours(self) -> float:
        return max((self.now - self.start) / HOUR, 1 / 60)


def period(name: str, now: datetime.datetime, zone: str = 'UTC') -> Period:
    """:param name: one of PERIODS
    :param now: UTC, without a time zone
    :param zone: in which days begin
    :raise KeyError: there is no such period
    """
    granularity, starts = {
        'hour': lambda: ('minute', _steps(_floor(now, minutes=1), 60, minutes=1)),
        'day': lambda: ('hour', _steps(_floor(now, hours=1), 24, hours=1)),
        'week': lambda: ('hour', _parts_of_days(now, zone, 7, 6)),
        'month': lambda: ('hour', _parts_of_days(now, zone, 30, 1)),
    }[name]()
    return Period(name, now, granularity, starts)


def _floor(moment: datetime.datetime, **step) -> datetime.datetime:
    return moment - (moment - datetime.datetime.min) % datetime.timedelta(**step)


def _steps(last: datetime.datetime, count: int, **step) -> list[datetime.datetime]:
    return [last - datetime.timedelta(**step) * back for back in reversed(range(count))]


def _parts_of_days(now, zone: str, days: int, parts: int) -> list[datetime.datetime]:
    """Beginnings of equal parts of the last days of somebody, as full hours in UTC."""
    try:
        tz = pytz.timezone(zone)
    except pytz.UnknownTimeZoneError:
        tz = pytz.utc
    today = pytz.utc.localize(now).astimezone(tz).date()
    starts = []
    for back in reversed(range(days)):
        day = datetime.datetime.combine(today - DAY * back, datetime.time())
        for part in range(parts):
            local = tz.localize(day + DAY / parts * part)
            start = _floor(local.astimezone(pytz.utc).replace(tzinfo=None), hours=1)
            if start <= now:
                starts.append(start)
    return sorted(set(starts))


def segments(period: Period) -> list[tuple[str, datetime.datetime, datetime.datetime]]:
    """Granularity, first and end of the rows of ``cache_metric`` that make up a period, each
    moment once."""
    if period.name == 'hour':
        return [('minute', period.start, datetime.datetime.max)]
    if period.name == 'day':
        return [('hour', period.start, datetime.datetime.max)]
    first_day = _floor(period.start + DAY - datetime.timedelta.resolution, days=1)
    found = [('day', first_day, datetime.datetime.max)]
    if first_day > period.start:
        found.insert(0, ('hour', period.start, first_day))
    return found


def curves(cr, period: Period) -> dict:
    """What is not per model.

    :return: ``outcomes`` and ``reasons`` (a list of counts, one for each column, by name),
        ``totals`` (sums by outcome), ``recent`` (calls and hits of the last minutes),
        ``latency`` (histograms by outcome)
    """
    columns = len(period.starts)
    outcomes = {name: [0] * columns for name in CALLS}
    reasons: dict[str, list[int]] = {}
    totals = {name: dict.fromkeys((*_SUMS, 'differences'), 0) for name in (*CALLS, 'audit')}
    cr.execute(
        "SELECT width_bucket(bucket, %s::timestamp[]) - 1 AS at, outcome, reason,"
        f" {', '.join(f'sum({name})::float8 AS {name}' for name in (*_SUMS, 'differences'))}"
        " FROM cache_total WHERE granularity = %s AND bucket >= %s GROUP BY 1, 2, 3",
        [period.starts, period.granularity, period.start],
    )
    for row in cr.dictfetchall():
        outcome, at = row['outcome'], row['at']
        if outcome not in totals:
            continue
        for name, value in totals[outcome].items():
            totals[outcome][name] = value + row[name]
        if outcome in outcomes:
            outcomes[outcome][at] += int(row['calls'])
        if outcome == 'computed' and row['reason'] and row['calls']:
            reasons.setdefault(row['reason'], [0] * columns)[at] += int(row['calls'])
    return {
        'outcomes': outcomes,
        'reasons': reasons,
        'totals': totals,
        'recent': _recent(cr, period.now),
        'latency': _latency(cr, period),
    }


def _recent(cr, now) -> dict:
    cr.execute(
        "SELECT coalesce(sum(calls), 0)::float8, coalesce(sum(hits), 0)::float8 FROM cache_total"
        " WHERE granularity = 'minute' AND bucket > %s",
        [now - datetime.timedelta(minutes=NOW_MINUTES)],
    )
    calls, hits = cr.fetchone()
    return {'calls': int(calls), 'hits': int(hits)}


def _latency(cr, period: Period) -> dict[str, list[int]]:
    sums = ', '.join(f'sum(latency[{index}])::bigint' for index in range(1, BINS + 1))
    found = {}
    for granularity, first, end in segments(period):
        cr.execute(
            f"SELECT outcome, {sums} FROM cache_total WHERE granularity = %s AND bucket >= %s"
            " AND bucket < %s AND reason = '' AND latency IS NOT NULL GROUP BY outcome",
            [granularity, first, end],
        )
        for outcome, *bins in cr.fetchall():
            add(found.setdefault(outcome, new_bins()), bins)
    return found


def percentiles(bins: list[int]) -> dict:
    """:return: ``median_ms`` and ``p95_ms`` of a histogram"""
    return {'median_ms': percentile(bins, 0.5), 'p95_ms': percentile(bins, 0.95)}


@dataclasses.dataclass(slots=True)
class Method:
    """What became of the calls of one method of one model.

    :ivar reasons: calls that were computed, by reason
    :ivar cost_ms: time that these took, by reason
    :ivar details: calls by reason and detail, e.g. ('stale', 'res_partner')
    :ivar same: answers that came out as before after a table had changed, by table and the only
        column that reads it, e.g. ('res_country', 'country_id'); '' where there are several
    """

    model: str
    method: str
    calls: int = 0
    hits: int = 0
    duration_ms: float = 0.0
    saved_ms: float = 0.0
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)
    cost_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    details: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    same: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)

    @property
    def misses(self) -> int:
        return self.calls - self.hits

    def add(self, outcome, reason, relation, calls, duration_ms, saved_ms) -> None:
        if outcome == 'same':
            if relation:
                table, _, column = relation.partition(': ')
                self.same[table, column] = self.same.get((table, column), 0) + calls
            return
        self.calls += calls
        self.duration_ms += duration_ms
        self.saved_ms += saved_ms
        if outcome in HITS:
            self.hits += calls
            return
        self.reasons[reason] = self.reasons.get(reason, 0) + calls
        self.cost_ms[reason] = self.cost_ms.get(reason, 0.0) + duration_ms
        if relation:
            key = (reason, relation)
            self.details[key] = self.details.get(key, 0) + calls


def methods(
    cr, period: Period, models: list[str] | None = None, book: SumBook | None = None
) -> list[Method]:
    """What is per model and method, those with most misses first.

    :param models: names of those to look at, None for all; without details then
    :param book: remembers sums of past hours and days from one call to the next
    """
    found: dict[tuple[str, str], Method] = {}
    book = book or SumBook()
    shown = None if models is None else frozenset(models)
    for part in parts(period):
        for model, method, outcome, reason, detail, *figures in book.rows(cr, part):
            if shown is None:
                told = detail
            elif model in shown:
                told = ''
            else:
                continue
            key = (model, method)
            if key not in found:
                found[key] = Method(*key)
            found[key].add(outcome, reason, told, *figures)
    return sorted(found.values(), key=lambda m: (-m.misses, m.model, m.method))


def parts(period: Period) -> list[Part]:
    """Segments, with the hours or days that are over apart from the present one."""
    *before, (level, first, end) = segments(period)
    present = _floor(period.now - CLOSED_AFTER, **{f'{level}s': 1})
    if level == 'minute' or first >= present:
        return [*before, (level, first, end)]
    return [*before, (level, first, present), (level, present, end)]


def parts_that_are_over(now: datetime.datetime, zones: list[str]) -> set[Part]:
    """What the dashboards of people in these time zones ask for, of the past."""
    periods = [period(name, now, zone) for name in PERIODS for zone in zones]
    return {part for found in periods for part in parts(found) if is_over(part)}


def stale_relations(found: list[Method]) -> dict[str, int]:
    """Calls that were computed since a relation had changed, by relation, most first."""
    sums: dict[str, int] = {}
    for method in found:
        for (reason, relation), calls in method.details.items():
            if reason == 'stale':
                sums[relation] = sums.get(relation, 0) + calls
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def saved_by_model(found: list[Method]) -> list[tuple[str, float]]:
    """Models by time saved, milliseconds, the MAX_MODELS with most."""
    sums: dict[str, float] = {}
    for method in found:
        name = method.model or method.method
        sums[name] = sums.get(name, 0.0) + method.saved_ms
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    return [(name, math.floor(saved)) for name, saved in ranked[:MAX_MODELS] if saved >= 1]
