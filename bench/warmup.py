#!/usr/bin/env python3
"""The first page loads after a restart, with and without a warm-up.

A real prefork server (2 workers, 1 cron worker) and a Redis of its own.  Somebody opens 100 pages
several times (lists, forms, searches, groups of products, partners and orders, with the calls that
the web client makes for each); a warm-up learns what saves most time.  Then, again and again, in
turns:

  cold      restart, Redis and cache.entry emptied, no warm-up
  at once   restart, Redis emptied, cache.entry left; nobody waits for the warm-up
  warmed    restart, Redis and cache.entry emptied; the pages are opened when the warm-up is done
  plain     restart with TIERED_CACHE_ENABLED=0

Each time the 100 pages are opened once (*first*), and after further rounds some more times (*warm*:
the median round).  The result is first / warm.  By RPC over HTTP, one page after the other.

The database (tiered_cache_bench_warmup) is a copy of that of bench/rpc.py; it is dropped at the end
unless --keep says otherwise.
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import socket
import sys
from pathlib import Path

if not __package__:  # started as a file: make the package known, as PEP 366 has it
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = "bench"

from . import databases, rpc, scenarios  # noqa: E402
from .common import ROOT, Rpc, Server, free_port, median  # noqa: E402

DATABASE = "tiered_cache_bench_warmup"
RESULTS = Path(__file__).resolve().parent / "results" / "warmup.json"
PAGES = 100
LEARNING_ROUNDS = 6
SETTLING_ROUNDS = 4
WARM_ROUNDS = 5
WAIT_S = 400
WORDS = ("desk", "chair", "lamp", "cabinet", "drawer", "screen", "table", "shelf", "bin", "sofa")
START = {"cold": False, "at once": True, "warmed": True, "plain": False}
"""By variant: whether the warm-up runs."""


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="restarts of each kind (3)")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--keep", action="store_true", help="keep the database, or use a kept one")
    parser.add_argument("--output", type=Path, default=RESULTS, help=f"JSON file ({RESULTS})")
    return parser.parse_args()


def main():
    """Measure, write and print the results."""
    options = parse_arguments()
    os.environ.setdefault("ODOO_RC", os.devnull)
    with rpc.alone():
        run(options)


def run(options):
    """Prepare the database, measure all kinds in turns."""
    if not (options.keep and DATABASE in databases.in_odoo("dbadmin", "databases")):
        rpc.say(f"preparing {DATABASE}")
        databases.copy(databases.PLAIN, DATABASE)
        databases.install(DATABASE, "tiered_cache")
        databases.in_odoo("dbadmin", "analyze", database=DATABASE)
    try:
        with redis_server() as redis:
            results = measure(options, redis)
    finally:
        if not options.keep:
            databases.drop(DATABASE)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(as_markdown(results))


def redis_server():
    """:return: a Redis of our own, see tests/redis_server.py; a context manager"""
    spec = importlib.util.spec_from_file_location("own_redis", ROOT / "tests" / "redis_server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RedisServer()


def measure(options, redis):
    """:return dict: first and warm milliseconds by kind, the pages, the machine."""
    pages = learn(redis)
    rows = {name: [] for name in START if options.only in name}
    for number in range(options.rounds):
        for name in rows:
            rows[name].append(restart(redis, name, pages))
            rpc.say(f"  {number + 1} {name}: {rows[name][-1]}")
    return {
        "machine": rpc.describe_machine(),
        "pages": len(pages),
        "calls": sum(map(len, pages)),
        "kinds": {name: summary(found) for name, found in rows.items()},
        "rounds": rows,
    }


def server(redis, kind="warmed"):
    """:return Server: two workers and a cron worker."""
    env = {
        "TIERED_CACHE_ENABLED": "0" if kind == "plain" else "1",
        "TIERED_CACHE_REDIS_URL": redis.url,
        "TIERED_CACHE_METRICS_FLUSH_S": "1",
    }
    return Server(DATABASE, port=port(), env=env, crons=1)


@functools.cache
def port():
    """The same for all servers: who is asked under which host is part of every key."""
    return free_port()


def sql(statement):
    return databases.in_odoo("dbadmin", "execute", DATABASE, statement)


def learn(redis):
    """Work with Odoo, and have a warm-up learn from it.

    :return list: the pages
    """
    sql("DELETE FROM cache_warmup; DELETE FROM cache_call; DELETE FROM cache_entry")
    with server(redis) as running:
        session = Rpc(running.port, DATABASE).login()
        pages = build_pages(session)
        for number in range(LEARNING_ROUNDS):
            rpc.say(f"learning, round {number + 1}: {sum(open_pages(session, pages)):.0f} ms")
        databases.in_odoo(
            "dbadmin", "wait_for", DATABASE, "SELECT pg_sleep(12) IS NOT NULL", 60
        )  # until every process has written what it has recorded
        values = {"name": "bench", "kind": "list", "max_calls": 1000}
        (id_,) = session.call("cache.warmup", "create", [[values]])
        session.call("cache.warmup", "action_learn", [[id_]])
        rpc.say(f"learned: {sql('SELECT count(*) FROM cache_warmup_line')}")
    return pages


def build_pages(session):
    """:return list: 100 pages, each a list of (model, method, args, kwargs)."""
    model = "product.template"
    screens = {
        name: scenarios.Screens(session, name) for name in (model, "res.partner", "sale.order")
    }
    pages = []
    for name, screen in screens.items():
        pages.append([views(screen), (name, "web_search_read", [], screen.search_read("list"))])
    # not products: with stock, their form reads a sequence, so it is computed each time
    partners = screens["res.partner"]
    pages += forms(session, partners, 55)
    products = screens[model]
    for word in WORDS:
        for screen, kind in ((products, "list"), (products, "kanban"), (partners, "list")):
            domain = [["name", "ilike", word]]
            call = (screen.model, "web_search_read", [], screen.search_read(kind, domain))
            pages.append([views(screen), call])
    for word in WORDS:
        search = {"name": word, "domain": [], "operator": "ilike", "limit": 8}
        pages.append([views(screens["sale.order"]), ("product.product", "name_search", [], search)])
    named = {scenario.name: scenario for scenario in scenarios.build(session)}
    for name in ("products grouped by category", "sales report by month"):
        one = named[name]
        pages.append([(one.model, one.method, one.args, one.kwargs)])
    return pages[:PAGES]


def views(screen):
    return screen.model, "get_views", [], screen.get_views


def forms(session, screen, count):
    """Forms as one opens them from a list: the views, the record."""
    ids = session.call(screen.model, "search", [[]], {"limit": count, "order": "id desc"})
    specification = screen.arch("form").specification()
    for id_ in ids:
        kwargs = {"specification": specification, "context": {"bin_size": True}}
        yield [views(screen), (screen.model, "web_read", [[id_]], kwargs)]


def open_pages(session, pages):
    """:return list: milliseconds that each call of all pages takes, one after the other."""
    times = []
    for call in [session.encode(*call) for page in pages for call in page]:
        body, ms = session.send(call)
        if b'"error"' in body[:200]:
            raise RuntimeError(body[:2000])
        times.append(ms)
    return times


def restart(redis, kind, pages):
    """Restart as ``kind`` says, and open the pages.

    :return dict: milliseconds
    """
    flush(redis)
    if kind != "at once":
        sql("DELETE FROM cache_entry")
    sql(f"UPDATE cache_warmup SET active = {START[kind]}, state = 'idle'")
    waited_s = None
    with server(redis, kind) as running:
        if kind == "warmed":
            done = "SELECT bool_and(state IN ('done', 'partial')) FROM cache_warmup"
            waited_s = databases.in_odoo("dbadmin", "wait_for", DATABASE, done, WAIT_S)
            counts = "warmed, present, skipped, failed, worked_s"
            rpc.say(f"    {counts}: {sql(f'SELECT {counts} FROM cache_warmup')}")
        session = Rpc(running.port, DATABASE).login()
        first = open_pages(session, pages)
        for _ in range(SETTLING_ROUNDS):
            open_pages(session, pages)
        warm = [open_pages(session, pages) for _ in range(WARM_ROUNDS)]
    calls = [f"{model}.{method}" for page in pages for model, method, *_rest in page]
    extra = [one - median(other) for one, *other in zip(first, *warm, strict=True)]
    slowest = sorted(zip(extra, range(len(calls)), calls, strict=True), reverse=True)[:8]
    return {
        "first_ms": round(sum(first)),
        "warm_ms": round(median(map(sum, warm))),
        "waited_s": waited_s,
        "slower": [f"call {number} {call}: +{ms:.0f} ms" for ms, number, call in slowest],
    }


def flush(redis):
    """Empty our own Redis."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", redis.port))) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        if connection.recv(16)[:3] != b"+OK":
            raise RuntimeError("Redis was not emptied")


def summary(rows):
    """:return dict: medians over the restarts."""
    first, warm = (median(row[name] for row in rows) for name in ("first_ms", "warm_ms"))
    ratios = [round(row["first_ms"] / row["warm_ms"], 2) for row in rows]
    return {"first_ms": first, "warm_ms": warm, "ratio": median(ratios), "ratios": ratios}


def as_markdown(results):
    """:return str: a table."""
    lines = [
        f"{results['pages']} pages, {results['calls']} calls",
        "",
        "| after a restart | first 100 pages | warm | first / warm |",
        "|---|---|---|---|",
    ]
    for name, row in results["kinds"].items():
        ratios = ", ".join(map(str, row["ratios"]))
        lines.append(
            f"| {name} | {row['first_ms']:.0f} ms | {row['warm_ms']:.0f} ms | "
            f"{row['ratio']:.2f} ({ratios}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
