"""Two equal databases of which one grows, and what a call costs in the one and in the other.

The one idea: the grown database and the reference are asked in turn, in an order that changes at
random, so that whatever else the machine does hits both; what counts is the ratio.  Its interval
comes from the bootstrap over the rounds.

What may go wrong: two processes of the same program are not equally fast, by some per cent; the
first point of each curve, where both databases are equal, shows how much.
"""

import contextlib
import random
import statistics
import time

import psycopg2

from bench import databases
from bench.children import ChildProcess
from bench.common import ServerFailed
from bench.dropping import drop_database

TEMPLATE = "tiered_cache_proof_growth"
REFERENCE, GROWN = f"{TEMPLATE}_reference", f"{TEMPLATE}_grown"
RESAMPLES = 1000
FLAT = 1.25
"""The dearest that a flat cost may be at the last step, as a ratio.  Half a millisecond that grew
with a decade of anything would be far above it after the four or five decades measured here."""

OPTIONS = {
    "TIERED_CACHE_ENABLED": "1",
    "TIERED_CACHE_L1_MIN_COST_MS": "0",
    "TIERED_CACHE_L2_MIN_COST_MS": "0",
    "TIERED_CACHE_L3_MIN_COST_MS": "0",
    "TIERED_CACHE_L3_ENABLED": "0",
    "TIERED_CACHE_REDIS_URL": None,
    "TIERED_CACHE_AUDIT_RATE": "0",
    # whatever it looks at, the read that is measured is not to expire meanwhile
    "TIERED_CACHE_TIME_DEPENDENT_TTL_S": "3600",
    # dictionaries laid out alike in both processes
    "PYTHONHASHSEED": "0",
}
HELD = {"TIERED_CACHE_COMPACTION_ROWS": "10000000"}
"""Holds compaction off; nothing but ``compact`` of a child runs it."""


def connect(database):
    """A connection in autocommit, whose commits do not wait for the disk: that wait is the same
    with and without a journal row, and would hide the rest."""
    connection = psycopg2.connect(dbname=database, application_name="growth")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    return connection


class Sql:
    """Statements past Odoo, as another program would send them.

    :param str database: its database
    """

    def __init__(self, database):
        self.connection = connect(database)

    def __call__(self, statement, params=None):
        """:return list | None: rows"""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else None

    def write(self, table="growth_guarded"):
        """:return float: milliseconds of a single-row UPDATE with its commit."""
        with self.connection.cursor() as cursor:
            start = time.perf_counter()
            cursor.execute(f"UPDATE {table} SET value = value + 1 WHERE id = 1")
            return (time.perf_counter() - start) * 1000

    def many(self, prefix, count):
        """:return float: milliseconds per relation of one transaction that writes ``count``."""
        start = time.perf_counter()
        self(
            "DO $$ BEGIN FOR i IN 1..%s LOOP"
            f" EXECUTE 'UPDATE {prefix}' || i || ' SET value = value + 1'; END LOOP; END $$",
            [count],
        )
        return (time.perf_counter() - start) * 1000 / count

    def grow_journal(self, rows):
        """That many transactions, each of which writes its row into the journal."""
        if rows > 0:
            self("CALL growth_transactions(%s)", [rows])

    def rows(self):
        return self("SELECT count(*) FROM cache_change")[0][0]

    def close(self):
        self.connection.close()


def build(say):
    """The template: Odoo with demo data, the addon, and two small tables of our own."""
    say(f"installing Odoo and the addon in {TEMPLATE}")
    drop_all()
    databases.install(TEMPLATE, "tiered_cache", "--with-demo")
    sql = Sql(TEMPLATE)
    try:
        sql("""
            CREATE TABLE growth_guarded (id int PRIMARY KEY, value int NOT NULL);
            INSERT INTO growth_guarded SELECT g, 0 FROM generate_series(1, 1000) g;
            CREATE PROCEDURE growth_transactions(rows int) LANGUAGE plpgsql AS $$
            BEGIN
                FOR i IN 1..rows LOOP
                    INSERT INTO cache_change (relation) VALUES ('growth_guarded');
                    COMMIT;
                END LOOP;
            END $$;
        """)
        sql("VACUUM ANALYZE")
    finally:
        sql.close()


def drop_all():
    """Remove every database of this program."""
    databases.drop(REFERENCE, GROWN, TEMPLATE)


def drop_sides():
    """Remove the copies, keep the template."""
    admin = Sql("postgres")
    for name in (REFERENCE, GROWN):
        drop_database(admin, name)
    admin.close()


def exists():
    """:return bool: whether the template is there."""
    admin = Sql("postgres")
    try:
        return bool(admin("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]))
    finally:
        admin.close()


def server_version():
    admin = Sql("postgres")
    try:
        return admin("SHOW server_version")[0][0]
    finally:
        admin.close()


def copy(name):
    """A fresh copy of the template."""
    admin = Sql("postgres")
    try:
        drop_database(admin, name)
        admin(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    finally:
        admin.close()


class Side:
    """One database with the process that is measured in it; a context manager.

    :ivar child: the process, see ``growth_child``
    :ivar sql: connection of another program
    :ivar missed: reads that were to be hits and were none
    """

    def __init__(self, database, options):
        copy(database)
        self.database = database
        self.child = ChildProcess(database, {**OPTIONS, **options}, "proof.programs.growth_child")
        self.sql = None
        self.missed = 0

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.child)
            self.sql = Sql(self.database)
            stack.callback(self.sql.close)
            self.ask("guard_tables", ["growth_guarded"])
            self.ask("ready")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info):
        self._stack.close()

    def ask(self, operation, *arguments):
        return self.child.ask(operation, *arguments)

    def hit(self):
        """:return float: milliseconds of a hit, which takes one query, or two after a compaction

        What was no hit, since a tier was too slow for its timeout, is counted and asked again.

        :raise ServerFailed: that happens again and again
        """
        for _attempt in range(3):
            answer = self.ask("hit")
            if answer["queries"] <= 2:
                return answer["ms"]
            self.missed += 1
            self.ask("ready")
        raise ServerFailed(f"no hit, but {answer['queries']} queries: {self.ask('stats')}")

    def hit_after_write(self):
        """A hit of a transaction that finds one new row in the journal."""
        self.sql.write()
        return self.hit()

    def write(self):
        return self.sql.write()


@contextlib.contextmanager
def two_sides(reference_options=None, grown_options=None):
    """:return: (reference, grown), both ready and equal but for the options."""
    reference_options = reference_options or {}
    with (
        Side(REFERENCE, reference_options) as reference,
        Side(GROWN, reference_options if grown_options is None else grown_options) as grown,
    ):
        yield reference, grown


def compare(sides, kinds, rounds, dice):
    """Ask both sides in turn.

    :param sides: (reference, grown)
    :param kinds: by name, ``function(side) -> ms``; the order of names is that of each round
    :return dict: by name: medians and 95th percentiles in ms, ratio of the medians, its interval
    """
    times = {name: ([], []) for name in kinds}
    for round_ in range(rounds + 5):
        for name, function in kinds.items():
            for index in dice.sample((0, 1), 2):
                ms = function(sides[index])
                if round_ >= 5:  # what the step before has left behind is gone
                    times[name][index].append(ms)
    return {name: summary(*pair, dice) for name, pair in times.items()}


def summary(reference, grown, dice):
    """:return dict: see :func:`compare`"""
    ratios = []
    for _ in range(RESAMPLES):
        chosen = dice.choices(range(len(grown)), k=len(grown))
        ratios.append(
            statistics.median(grown[i] for i in chosen)
            / statistics.median(reference[i] for i in chosen)
        )
    ratios.sort()
    ratio = statistics.median(grown) / statistics.median(reference)
    return {
        "reference_ms": round(statistics.median(reference), 4),
        "ms": round(statistics.median(grown), 4),
        "reference_p95_ms": round(percentile(reference, 0.95), 4),
        "p95_ms": round(percentile(grown, 0.95), 4),
        "ratio": round(ratio, 3),
        "low": round(ratios[int(RESAMPLES * 0.025)], 3),
        "high": round(ratios[int(RESAMPLES * 0.975)], 3),
        "rounds": len(grown),
    }


def percentile(values, share):
    """:return float: the value below which that share of the values lies."""
    values = sorted(values)
    return values[min(int(share * len(values)), len(values) - 1)]


def typical(function, times=5):
    """:return float: median of what a function returns."""
    return round(statistics.median(function() for _ in range(times)), 4)


def new_dice(seed):
    return random.Random(seed)
