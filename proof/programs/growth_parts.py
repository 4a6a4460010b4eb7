"""What is grown, and what is measured at each step; the parts of ``proof/growth``.

The one idea: a part returns its steps as rows of numbers.  ``flat`` holds what the design says
is flat, as ratios to the reference; ``linear`` holds, in milliseconds, what grows by its nature
(reading the whole journal, summing it up) and happens outside of requests or once per process.
"""

import contextlib
import importlib.util
import time

import redis

from bench.common import ROOT

from .growth_measure import HELD, compare, connect, two_sides, typical

# by its path: the package of the tests can only be imported inside of Odoo
_spec = importlib.util.spec_from_file_location("redis_server", ROOT / "tests" / "redis_server.py")
redis_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(redis_server)

HIT = {"hit": lambda side: side.hit()}
WRITE = {"write": lambda side: side.write()}
HIT_AND_WRITE = {
    "hit": lambda side: side.hit(),
    "hit after a write": lambda side: side.hit_after_write(),
    "write": lambda side: side.write(),
}
COMPACTED_EVERY = 10_000  # the default of compaction_rows


def steps(options, *all_steps):
    """:return list: fewer of them for a quick run."""
    return [step for step in all_steps if step <= options.largest]


def part(quantity, rows, **more):
    return {"quantity": quantity, "steps": rows, **more}


def measure_journal(options, dice, say):
    """Rows of the journal that both processes have counted already."""
    rows = []
    with two_sides(HELD) as sides:
        reference, grown = sides
        for step in steps(options, 10, 100, 1_000, 10_000, 100_000, 1_000_000):
            for side in sides:
                side.ask("compact")
                side.sql("VACUUM cache_change")
            reference.sql.grow_journal(10)
            grown.ask("remember")
            grown.sql.grow_journal(step)
            late = grown.ask("late_look")
            for side in sides:
                side.ask("ready")
            row = {
                "x": step,
                # hits first, then what adds rows, some hundred
                "flat": {
                    **compare(sides, HIT, options.rounds, dice),
                    **compare(sides, AFTER_WRITE, options.rounds, dice),
                },
                "linear": {
                    "first look of a process": typical(lambda: grown.ask("first_look")),
                    "look after being idle meanwhile": round(late, 3),
                    "is it time to compact?": typical(lambda: grown.ask("is_long")),
                    "compaction": typical(lambda: grown.ask("compact", False)["ms"], 3),
                },
            }
            rows.append(row)
            say_row(say, row)
    return part("rows in the journal", rows)


AFTER_WRITE = {name: HIT_AND_WRITE[name] for name in ("hit after a write", "write")}


def measure_long_writer(options, dice, say):
    """Writes that were committed and compacted while one transaction that has written stays open,
    so that PostgreSQL may remove none of their rows."""
    rows = []
    with two_sides(HELD) as sides, contextlib.ExitStack() as stack:
        reference, grown = sides
        for side in sides:
            side.ask("compact")
            side.sql("VACUUM cache_change")
            long_writer = stack.enter_context(contextlib.closing(connect(side.database)))
            long_writer.autocommit = False
            with long_writer.cursor() as cursor:
                cursor.execute("UPDATE growth_guarded SET value = 0 WHERE id = 1000")
        written = 0
        for step in steps(options, 10, 100, 1_000, 10_000, 100_000, 1_000_000):
            while written < step:
                count = min(COMPACTED_EVERY - written % COMPACTED_EVERY, step - written)
                grown.sql.grow_journal(count)
                written += count
                if written % COMPACTED_EVERY == 0:
                    grown.ask("compact")
            for side in sides:
                side.ask("ready")
            row = {
                "x": step,
                "flat": compare(sides, HIT_AND_WRITE, options.rounds, dice),
                "linear": {
                    "first look of a process": typical(lambda: grown.ask("first_look")),
                    "is it time to compact?": typical(lambda: grown.ask("is_long")),
                    "compaction": typical(lambda: grown.ask("compact", False)["ms"], 3),
                },
                "live_rows": grown.sql.rows(),
                "table_mb": table_mb(grown),
            }
            rows.append(row)
            say_row(say, row)
        stack.close()
        for side in sides:
            side.ask("compact")
        grown.sql("VACUUM cache_change")
        after = {"table_mb": table_mb(grown), "hit_ms": grown.hit()}
    say(f"  after the writer has ended, one compaction and one VACUUM: {after}")
    return part("writes during one open transaction", rows, after=after)


def table_mb(side):
    """:return float: the journal with indexes and dead rows."""
    size = side.sql("SELECT pg_total_relation_size('cache_change')")[0][0]
    return round(size / 2**20, 2)


def measure_relations(options, dice, say):
    """Guarded relations; the fewest are those that a hit depends on anyhow."""
    rows, made = [], 0
    guarded = "SELECT count(*) FROM cache_version WHERE relation NOT LIKE '#%'"
    with two_sides(HELD) as sides:
        reference, grown = sides
        fewest = grown.sql(guarded)[0][0]
        for step in (fewest, *steps(options, 100, 300, 1_000)):
            guard_ms = None
            if step > fewest:
                names = [f"growth_{number}" for number in range(made + 1, step - fewest + 1)]
                for name in names:
                    grown.sql(f"CREATE TABLE {name} AS SELECT 1 AS id, 0 AS value")
                guard_ms = round(grown.ask("guard_tables", names), 3)
                made = step - fewest
            for side in sides:
                side.ask("compact")
                side.ask("ready")
            row = {
                "x": grown.sql(guarded)[0][0],
                "flat": compare(sides, HIT_AND_WRITE, options.rounds, dice),
                "linear": {
                    "first look of a process": typical(lambda: grown.ask("first_look")),
                    "search for broken guards": typical(lambda: grown.ask("broken")),
                    "reading the catalogue": typical(lambda: grown.ask("catalogue")),
                },
            }
            if made:
                row["linear"]["guarding, per relation"] = guard_ms
                row["linear"]["one transaction that writes all, per relation"] = typical(
                    lambda made=made: grown.sql.many("growth_", made)
                )
            rows.append(row)
            say_row(say, row)
    return part("guarded relations", rows)


def measure_entries(options, dice, say):
    """Entries in each tier; a hit comes from the tier that is measured."""
    return part(
        "entries in the tier",
        [],
        l1=entries_l1(options, dice, say),
        l2=entries_l2(options, dice, say),
        l3=entries_l3(options, dice, say),
    )


def tier_compare(sides, tier, options, dice):
    """Compare hits, and make sure that they came from the tier; then writes, which know no tier."""
    before = [side.ask("tier_hits").get(tier, 0) for side in sides]
    found = compare(sides, HIT, options.rounds, dice)
    for side, count in zip(sides, before, strict=True):
        hits = side.ask("tier_hits").get(tier, 0) - count
        if hits < options.rounds:
            raise RuntimeError(f"only {hits} hits of {options.rounds} came from {tier}")
    found["hit"]["missed"] = sum(side.missed for side in sides)
    return found | compare(sides, WRITE, options.rounds, dice)


def entries_l1(options, dice, say):
    rows = []
    large = {"TIERED_CACHE_L1_MAX_ENTRIES": "10000000", "TIERED_CACHE_L1_MAX_MB": "1000000"}
    with two_sides({**HELD, **large}) as sides:
        reference, grown = sides
        for step in steps(options, 100, 1_000, 10_000, 100_000, 1_000_000):
            reference.ask("fill_l1", 100)
            filled = grown.ask("fill_l1", step)
            row = {
                "x": step,
                "flat": tier_compare(sides, "l1", options, dice),
                "linear": {},
                "rss_mb": round(filled["rss_mb"], 1),
                "added_us": round(filled["us"], 2),
            }
            if step <= 100_000:
                row["stored_into_full_us"] = {
                    policy: round(reference.ask("put_full", policy, step), 2)
                    for policy in ("lru", "lfu", "fifo", "ttl")
                }
            rows.append(row)
            say_row(say, row)
    return rows


def entries_l2(options, dice, say):
    rows = []
    with redis_server.RedisServer() as small, redis_server.RedisServer() as large:
        base = {**HELD, "TIERED_CACHE_L1_MAX_ENTRIES": "0"}
        with two_sides(
            {**base, "TIERED_CACHE_REDIS_URL": small.url},
            {**base, "TIERED_CACHE_REDIS_URL": large.url},
        ) as sides:
            client = redis.Redis(port=large.port)
            for step in steps(options, 100, 1_000, 10_000, 100_000, 1_000_000):
                fill_redis(client, step)
                row = {
                    "x": step,
                    "flat": tier_compare(sides, "l2", options, dice),
                    "linear": {},
                    "redis_mb": round(client.info("memory")["used_memory"] / 2**20, 1),
                    "keys": client.dbsize(),
                }
                rows.append(row)
                say_row(say, row)
    return rows


def fill_redis(client, count):
    """Bring Redis to so many keys, all of them like the one that is there already."""
    have = client.dbsize()
    name = next(client.scan_iter("tc:*:v1:orm:res.partner:*"))
    body = client.get(name)[:600]
    prefix = name.rpartition(b":")[0]
    for start in range(have, count, 1000):
        pipeline = client.pipeline(transaction=False)
        for number in range(start, min(start + 1000, count)):
            pipeline.set(prefix + b":%032x" % number, body, px=3_600_000)
        pipeline.execute()


def entries_l3(options, dice, say):
    rows = []
    settings = {
        **HELD,
        "TIERED_CACHE_L1_MAX_ENTRIES": "0",
        "TIERED_CACHE_L3_ENABLED": "1",
        "TIERED_CACHE_L3_MAX_ENTRIES": "100000000",
        "TIERED_CACHE_L3_MAX_MB": "1000000",
    }
    with two_sides(settings) as sides:
        reference, grown = sides
        for step in steps(options, 100, 1_000, 10_000, 100_000, 1_000_000):
            fill_l3(grown.sql, step)
            flat = tier_compare(sides, "l3", options, dice)
            linear = {
                "purge that finds nothing": round(grown.ask("purge")["ms"], 2),
                "figures for administrators": round(grown.ask("l3_stats")["ms"], 2),
            }
            grown.sql(
                "UPDATE cache_entry SET expires = created - interval '1 day'"
                " WHERE key LIKE 'v1:orm:growth%' AND id % 10 = 0"
            )
            expired = grown.ask("purge")
            linear["purge of a tenth that has expired"] = round(expired["ms"], 2)
            fill_l3(grown.sql, step)
            keep = max(step // 2, 60)
            over = grown.ask("purge", keep)
            linear["purge of a half that is over the limit"] = round(over["ms"], 2)
            left, size = grown.sql(
                "SELECT count(*), pg_total_relation_size('cache_entry') FROM cache_entry"
            )[0]
            row = {
                "x": step,
                "flat": flat,
                "linear": linear,
                "expired": expired,
                "over": {**over, "limit": keep, "left": left},
                "table_mb": round(size / 2**20, 1),
            }
            rows.append(row)
            say_row(say, row)
            grown.sql("VACUUM cache_entry")
    return rows


def fill_l3(sql, count):
    """Bring the table to so many entries like the newest one, created over the last hour; that
    one, which is read, is the youngest."""
    have = sql("SELECT count(*) FROM cache_entry")[0][0]
    sql(
        """
        WITH real AS (SELECT * FROM cache_entry WHERE key NOT LIKE 'v1:orm:growth%%'
                       ORDER BY created DESC LIMIT 1)
        INSERT INTO cache_entry (key, model, method, uid, created, expires, cost_ms, size_bytes,
                                 hits, body)
        SELECT 'v1:orm:growth:read:' || md5(random()::text || g), model, method, uid,
               created - random() * interval '1 hour', expires + interval '1 hour', cost_ms,
               600, 0, substr(body, 1, 600)
          FROM real, generate_series(%s + 1, %s) g
        """,
        [have, count],
    )
    sql("UPDATE cache_entry SET created = now() AT TIME ZONE 'utc', expires = now() AT TIME ZONE"
        " 'utc' + interval '1 day' WHERE key NOT LIKE 'v1:orm:growth%'")  # fmt: skip
    sql("ANALYZE cache_entry")


def measure_workers(options, dice, say):
    """Processes that hold the same database, forked as Odoo's prefork server forks them."""
    rows = []
    with two_sides({"TIERED_CACHE_L3_ENABLED": "1"}) as sides:
        reference, grown = sides
        for step in steps(options, 1, 2, 4, 8, 16):
            grown.ask("fork", step)
            for side in sides:
                side.ask("ready")
            time.sleep(6)  # each has ticked once: nothing of its start is left
            row = {
                "x": step,
                "flat": compare(sides, HIT_AND_WRITE, options.rounds, dice),
                "linear": {},
                "looks_per_write": looks_per_write(grown),
                "connections": connections(grown),
                "idle_transactions_per_s": idle_transactions(grown),
            }
            rows.append(row)
            say_row(say, row)
    return part("worker processes", rows)


def looks_per_write(side, writes=20):
    """Looks at the journal by all processes when each of them reads once after each write."""
    before = side.ask("all_looks")
    for _ in range(writes):
        side.hit_after_write()
        side.ask("all_hit")
    return round((side.ask("all_looks") - before) / writes, 2)


def connections(side):
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name <> %s"
    return side.sql(query, [side.database, "growth"])[0][0]


def idle_transactions(side, seconds=15):
    """Transactions per second that the processes begin although nobody asks anything."""

    def committed():
        side.sql("SELECT pg_stat_clear_snapshot()")
        query = "SELECT xact_commit FROM pg_stat_database WHERE datname = %s"
        return side.sql(query, [side.database])[0][0]

    before, start = committed(), time.monotonic()
    time.sleep(seconds)
    return round((committed() - before) / (time.monotonic() - start), 1)


def say_row(say, row):
    flat = ", ".join(
        f"{name} {one['ms']:.3f} ms = {one['ratio']:.2f} ({one['low']:.2f}-{one['high']:.2f})"
        for name, one in row["flat"].items()
    )
    linear = ", ".join(f"{name} {ms} ms" for name, ms in row["linear"].items())
    others = {k: v for k, v in row.items() if k not in ("x", "flat", "linear")}
    say(f"  {row['x']:>9,}: {flat}" + (f"; {linear}" if linear else "") + f"; {others or ''}")
