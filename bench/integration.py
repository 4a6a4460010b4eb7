#!/usr/bin/env python3
"""Programs that read a catalogue of 10,000 products from another Odoo, in one interleaved run.

Headquarters is a copy of the database of bench/rpc.py with the addon, served by two real prefork
servers (4 workers each), one of them with TIERED_CACHE_ENABLED=0.  The shop is another Odoo with a
database of its own; 20 of its threads read single products by Zipf's law (seeded), in turns:

  plain    JSON-RPC (execute_kw with an API key), one product per call, of plain Odoo
  addon    the same calls, of the server with the addon
  batch    50 of them by POST /cache/1/batch
  etag     GET /cache/1/products/<id> with the ETag that the shop has of it
  remote   cache.remote of the shop's own addon, followed by /cache/1/changes

first while nothing changes, then while a price changes each second.  Then one thread alone, in
turns, which is what the ratio of a warm read is judged by.  At last the outage: the same 20 threads
read by cache.remote, with values that live for 10 seconds only; headquarters is killed (SIGKILL to
all of its processes), is away for 30 seconds, and started again.  No read may fail.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

if not __package__:  # started as a file: make the package known, as PEP 366 has it
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = "bench"

from . import databases, rpc  # noqa: E402
from .children import ChildProcess  # noqa: E402
from .common import Server, free_port, median  # noqa: E402

HEADQUARTERS = "tiered_cache_bench_headquarters"
SHOP = "tiered_cache_bench_shop"
RESULTS = Path(__file__).resolve().parent / "results" / "integration.json"
FIELDS = "name,default_code,barcode,list_price,categ_id,uom_id"
WORKERS = 4
THREADS = 20
WAYS = ("plain", "addon", "batch", "etag", "remote")
WRITES_PER_S = {"quiet": 0, "busy": 1}
OUTAGE_TTL_S = 10
BEFORE_S, AWAY_S, AFTER_S = 15, 30, 60
FOLLOWED_S = 90


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each way (5)")
    parser.add_argument("--seconds", type=float, default=4, help="of each way in a round (4)")
    parser.add_argument("--alone", type=int, default=200, help="reads of each way by one thread")
    parser.add_argument("--seed", type=int, default=19, help="of what is read (19)")
    parser.add_argument("--keep", action="store_true", help="keep the databases, or use kept ones")
    parser.add_argument("--output", type=Path, default=RESULTS, help=f"JSON file ({RESULTS})")
    return parser.parse_args()


def main():
    """Measure, write and print the results."""
    options = parse_arguments()
    os.environ.setdefault("ODOO_RC", os.devnull)
    with rpc.alone():
        prepare(options.keep)
        try:
            results = measure(options)
        finally:
            if not options.keep:
                databases.drop(HEADQUARTERS, SHOP)
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(as_markdown(results))


def prepare(keep):
    """Build the databases, unless they are kept."""
    there = databases.in_odoo("dbadmin", "databases") if keep else {}
    if HEADQUARTERS not in there:
        rpc.say(f"preparing {HEADQUARTERS}")
        databases.copy(databases.PLAIN, HEADQUARTERS)
        databases.install(HEADQUARTERS, "tiered_cache")
        databases.in_odoo("dbadmin", "analyze", database=HEADQUARTERS)
    if SHOP not in there:
        rpc.say(f"preparing {SHOP}")
        databases.drop(SHOP)
        databases.install(SHOP, "tiered_cache", "--without-demo=all")


def make_key(env):
    """An API key of the administrator, and all products; called in Odoo."""
    keys = env["res.users.apikeys"].with_user(env.ref("base.user_admin")).sudo()
    key = keys._generate(None, "bench", None)
    ids = env["product.template"].search([], order="id").ids
    env.cr.commit()
    return {"key": key, "ids": ids}


def headquarters(port, enabled="1"):
    """:return Server: a context manager"""
    env = {"TIERED_CACHE_ENABLED": enabled, "TIERED_CACHE_API_PRODUCT_FIELDS": FIELDS}
    return Server(HEADQUARTERS, port=port, workers=WORKERS, env=env)


def measure(options):
    """:return dict: all that was measured."""
    known = databases.in_odoo("integration", "make_key", database=HEADQUARTERS)
    ports = {"plain": free_port(), "addon": free_port()}
    known |= {"ports": ports, "database": HEADQUARTERS}
    results = {"machine": rpc.describe_machine(), "products": len(known["ids"])}
    results |= {"threads": THREADS, "workers": WORKERS, "seed": options.seed}
    away = headquarters(ports["addon"])
    try:
        with (
            headquarters(ports["plain"], "0"),
            ChildProcess(SHOP, module="bench.integration_child") as shop,
        ):
            away.wait()
            follow(shop, known)
            results["catalogue_read_s"] = round(shop.ask("warm"), 2)
            results["ways"] = ways(shop, options)
            rpc.say("one thread alone")
            results["alone_ms"] = {
                name: round(median(values), 4)
                for name, values in shop.ask("alone", options.alone, options.seed).items()
            }
            away, results["outage"] = outage(shop, away, options.seed)
            results["faults"] = shop.ask("faults")
    finally:
        away.stop()
    return results


def follow(shop, known):
    """Make the shop follow headquarters; what it read before its first question is removed."""
    shop.ask("open", known)
    ends = time.monotonic() + FOLLOWED_S
    while not shop.ask("is_followed"):
        if time.monotonic() > ends:
            raise SystemExit("the shop does not follow headquarters")
        time.sleep(0.5)
    time.sleep(12)  # headquarters makes its triggers, and is asked twice more
    shop.ask("compare", random.Random(known["ids"][0]).sample(known["ids"], 10))  # noqa: S311


def ways(shop, options):
    """Everything in turns.

    :return dict: by state of the catalogue and way: reads per second, p50 and p95
    """
    found = {state: {way: [] for way in WAYS} for state in WRITES_PER_S}
    for state, per_s in WRITES_PER_S.items():
        for number in range(options.rounds + 1):
            # the first round makes the caches, the triggers and the ETags, and does not count
            rpc.say(f"{state}, round {number}")
            for way in random.sample(WAYS, len(WAYS)):
                seed = options.seed * 100 + number
                row = shop.ask("run", way, options.seconds, THREADS, seed, per_s)
                if row["failed"]:
                    raise SystemExit(f"{way}: {row['failed']}")
                if number:
                    found[state][way].append(row)
    return {
        state: {way: summary(rows) for way, rows in by_way.items()}
        for state, by_way in found.items()
    }


def summary(rows):
    """:return dict: medians of rounds."""
    origins = {name for row in rows for name in row["origins"]}
    reads = sum(row["reads"] for row in rows)
    return {
        "reads_per_s": round(median(row["reads"] / row["seconds"] for row in rows)),
        "p50_ms": median(row["p50_ms"] for row in rows),
        "p95_ms": median(row["p95_ms"] for row in rows),
        "origins_percent": {
            name: round(100 * sum(row["origins"].get(name, 0) for row in rows) / reads, 1)
            for name in sorted(origins)
        },
    }


def outage(shop, server, seed):
    """Kill headquarters under load, and bring it back.

    :return tuple: the new server, and a dict
    """
    port, total_s = server.port, BEFORE_S + AWAY_S + AFTER_S
    rpc.say(f"outage: reading the catalogue, {shop.ask('warm_briefly', OUTAGE_TTL_S):.1f} s")
    shop.send("timeline", total_s, THREADS, seed, OUTAGE_TTL_S)
    started = time.monotonic()
    time.sleep(BEFORE_S)
    killed = kill(server.process.pid)
    killed_s = time.monotonic() - started
    server.stop()
    rpc.say(f"outage: {killed} processes killed")
    time.sleep(max(0.0, killed_s + AWAY_S - (time.monotonic() - started)))
    server = headquarters(port)
    server.wait()
    answers_s = time.monotonic() - started
    rows = shop.receive()
    failed = {}
    for row in rows:
        for name, count in row["failed"].items():
            failed[name] = failed.get(name, 0) + count
    return server, {
        "killed_s": round(killed_s, 1),
        "started_again_s": round(killed_s + AWAY_S, 1),
        "answers_again_s": round(answers_s, 1),
        "reads": sum(row["reads"] for row in rows),
        "failed": failed,
        "phases": {
            "before": phase(rows[: int(killed_s)]),
            "away": phase(rows[int(killed_s) + 1 : int(answers_s)]),
            "after": phase(rows[int(answers_s) + 1 :]),
        },
        "computed_again_s": next(
            (
                second
                for second, row in enumerate(rows)
                if second > answers_s and row["origins"].get("computed")
            ),
            None,
        ),
        "seconds": rows,
    }


def phase(rows):
    """:return dict: of some seconds of the timeline."""
    origins = {}
    for row in rows:
        for name, count in row["origins"].items():
            origins[name] = origins.get(name, 0) + count
    return {
        "seconds": len(rows),
        "reads": sum(row["reads"] for row in rows),
        "failed": sum(sum(row["failed"].values()) for row in rows),
        "origins": origins,
        "p50_ms": median(row["p50_ms"] for row in rows if row["reads"]),
        "max_ms": max((row["max_ms"] for row in rows if row["reads"]), default=None),
    }


def kill(pid):
    """SIGKILL to a process and all that it has started, so that nobody says good-bye.

    :return int: how many they were
    """
    tree = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid, signal.SIGKILL)
    for child in tree:
        os.kill(int(child), signal.SIGKILL)
    return 1 + len(tree)


def as_markdown(results):
    """:return str: tables for docs/remote.md"""
    lines = []
    for state, by_way in results["ways"].items():
        lines += ["", f"{state}:", "", "| | reads/s | p50 ms | p95 ms | answered |"]
        lines += ["|---|--:|--:|--:|---|"]
        for way, row in by_way.items():
            origins = ", ".join(f"{name} {part} %" for name, part in row["origins_percent"].items())
            lines.append(
                f"| {way} | {row['reads_per_s']:,} | {row['p50_ms']:.3g} | {row['p95_ms']:.3g} "
                f"| {origins} |"
            )
    alone = results["alone_ms"]
    lines += ["", "one thread alone:", "", "| | median ms |", "|---|--:|"]
    lines += [f"| {name} | {ms:.3g} |" for name, ms in alone.items()]
    ratio = alone["network"] / alone["remote"]
    verdict = "reached" if ratio >= 100 else "MISSED"
    lines += ["", f"network call / warm read of cache.remote: {ratio:.0f} (>= 100): {verdict}"]
    out = results["outage"]
    lines += ["", "| outage | s | reads | failed | p50 ms | max ms | answered |"]
    lines += ["|---|--:|--:|--:|--:|--:|---|"]
    for name, row in out["phases"].items():
        origins = ", ".join(f"{origin} {count:,}" for origin, count in row["origins"].items())
        lines.append(
            f"| {name} | {row['seconds']} | {row['reads']:,} | {row['failed']} "
            f"| {row['p50_ms']:.3g} | {row['max_ms']:.3g} | {origins} |"
        )
    lines += ["", f"failed reads: {sum(out['failed'].values())} of {out['reads']:,} (0)"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
