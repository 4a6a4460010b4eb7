"""Ten minutes of a thousand writes per second, and how long the journal gets.

The one idea: writers, processes of Odoo and compaction run as in production, with default
options; once a second the size of the journal is looked at.  The bound is what the design
promises: ``compaction_rows``, plus what is written until the next tick has noticed (5 s, and as
much again for a tick that was busy); on disk besides what PostgreSQL's autovacuum has not
removed yet, twice its ``autovacuum_naptime``.

What may go wrong: a machine that cannot write so fast.  The rate that was reached is part of the
result, and the bound is that of the asked rate.
"""

import random
import statistics
import threading
import time

from .growth_measure import GROWN, Side, Sql, percentile

TICK_S = 5.0
ROW_BYTES = 200  # with both indexes; 130 measured, and pages are never quite full
COMPACTION_ROWS = 10_000  # the default
WRITERS = 4


class Writers:
    """Threads that together commit so many single-row updates per second."""

    def __init__(self, database, rate, seed):
        self.interval_s = WRITERS / rate
        self.stopped = threading.Event()
        self.counts = [0] * WRITERS
        self.errors = []
        self.threads = [
            threading.Thread(target=self._run, args=(database, number, seed), daemon=True)
            for number in range(WRITERS)
        ]

    def __enter__(self):
        self.started = time.monotonic()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_exc):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def rate(self):
        """:return float: writes per second since the start."""
        return sum(self.counts) / (time.monotonic() - self.started)

    def _run(self, database, number, seed):
        dice = random.Random(seed + number)
        try:
            sql = Sql(database)
            due = time.monotonic()
            while not self.stopped.is_set():
                sql(
                    "UPDATE growth_guarded SET value = value + 1 WHERE id = %s",
                    [dice.randint(1, 1000)],
                )
                self.counts[number] += 1
                # what was missed is caught up on, a second's worth at the most
                due = max(due + self.interval_s, time.monotonic() - 1.0)
                if (pause_s := due - time.monotonic()) > 0:
                    time.sleep(pause_s)
            sql.close()
        except Exception as error:  # noqa: BLE001 whatever it was, it belongs into the verdict
            self.errors.append(repr(error))


def bounds(sql, rate):
    """:return dict: the most rows and megabytes that the journal may have."""
    rows = COMPACTION_ROWS + rate * 2 * TICK_S
    naptime_s = float(
        sql("SELECT setting FROM pg_settings WHERE name = 'autovacuum_naptime'")[0][0]
    )
    dead = rate * 2 * naptime_s
    return {"rows": int(rows), "mb": round((rows + dead) * ROW_BYTES / 2**20, 1)}


def measure_compaction(options, dice, say):
    """:return dict: the series by second, its extremes and the bounds."""
    series, hits = [], []
    with Side(GROWN, {"TIERED_CACHE_L3_ENABLED": "1"}) as side:
        side.ask("fork", 2)
        side.ask("ready")
        limit = bounds(side.sql, options.rate)
        seconds = options.minutes * 60
        say(f"  {options.rate} writes per second for {seconds:.0f} s; bound {limit}")
        before = side.ask("stats")["versions"]
        with Writers(side.database, options.rate, options.seed) as writers:
            while (elapsed := time.monotonic() - writers.started) < seconds:
                series.append(sample(side, elapsed, writers))
                hits += [side.ask("hit") for _ in range(5)]
                if int(elapsed) % 60 == 0 and len(series) > 1:
                    say(f"  {series[-1]}")
                time.sleep(max(0.0, 1.0 - (time.monotonic() - writers.started - elapsed)))
            rate = writers.rate()
        after = side.ask("stats")["versions"]
    return {
        "quantity": "seconds",
        "asked_rate": options.rate,
        "rate": round(rate, 1),
        "seconds": round(seconds),
        "writes": sum(writers.counts),
        "errors": writers.errors,
        "bound": limit,
        "max_rows": max(one["rows"] for one in series),
        "max_mb": max(one["mb"] for one in series),
        "compactions": drops(series),
        "hits": {
            "asked": len(hits),
            "hit": sum(hit["queries"] <= 2 for hit in hits),
            "reloaded": after["reloads"] - before["reloads"],
            "median_ms": round(statistics.median(hit["ms"] for hit in hits), 3),
            "p95_ms": round(percentile([hit["ms"] for hit in hits], 0.95), 3),
        },
        "series": series,
    }


def sample(side, elapsed, writers):
    """:return dict: the journal at one moment."""
    rows, size = side.sql(
        "SELECT count(*), pg_total_relation_size('cache_change') FROM cache_change"
    )[0]
    return {
        "s": round(elapsed, 1),
        "rows": rows,
        "mb": round(size / 2**20, 2),
        "rate": round(writers.rate()),
    }


def drops(series):
    """:return int: how often the journal got shorter from one second to the next."""
    return sum(
        later["rows"] < earlier["rows"] for earlier, later in zip(series, series[1:], strict=False)
    )
