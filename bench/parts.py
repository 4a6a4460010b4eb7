"""The parts of the benchmark: who is started, who is asked in which order.

The one idea: all sides take one turn in every round, in an order that changes at random, so that
what else the machine does meanwhile, and what the predecessor left in PostgreSQL's buffers, hits
all of them alike.
"""

import contextlib
import itertools
import random
import secrets

from . import databases, scenarios
from .children import ChildProcess
from .common import Rpc, Server, ServerFailed, median

PLAIN_ENV = {"TIERED_CACHE_ENABLED": "0"}
ADDON_ENV = {"TIERED_CACHE_ENABLED": "1"}
WARM_UP = 12  # calls before the clock counts: each of two workers has answered some
SEED = 19
COPIES = ("tiered_cache_bench_write", "tiered_cache_bench_write_plain")
# What guards a relation is a read that is worth storing: here, every read is.
WRITE_ENV = {**ADDON_ENV, "TIERED_CACHE_L1_MIN_COST_MS": "0"}
MEMORY_ENV = {
    "TIERED_CACHE_L1_MAX_MB": "64",
    "TIERED_CACHE_L1_MAX_ENTRIES": "1000000",  # the bytes shall be what limits it
    # Everything goes to L1, however cheap; and only there, since L1 is what is measured.
    "TIERED_CACHE_L1_MIN_COST_MS": "0",
    "TIERED_CACHE_L3_ENABLED": "0",
    "TIERED_CACHE_REDIS_URL": None,
}
MEMORY_STEP = 2_000  # reads between two looks at the memory
MEGABYTE = 1 << 20


def check_available(stats):
    """Refuse to call plain Odoo the addon.

    :raise ServerFailed: the addon is off in this process, as after a change of its tables
    """
    if not stats.get("available"):
        raise ServerFailed(f"the addon does not cache here (try --fresh): {stats}")


class Nonces:
    """Context keys that no earlier call and no earlier run had."""

    def __init__(self):
        self.run = secrets.token_hex(4)
        self.numbers = itertools.count()

    def context(self):
        return {"bench_nonce": f"{self.run}-{next(self.numbers)}"}


class Rounds:
    """Runs jobs in turns, in a random order that is the same in every run."""

    def __init__(self):
        self.chance = random.Random(SEED)
        self.rows = []

    def run(self, jobs):
        """:param dict jobs: functions that return milliseconds (or None), by name"""
        names = list(jobs)
        self.chance.shuffle(names)
        self.rows.append({name: jobs[name]() for name in names})

    def median(self, name):
        """:return float | None: of one job, over the rounds."""
        return median(row[name] for row in self.rows if row[name] is not None)

    def ratio(self, over, under):
        """:return float: median over the rounds of what one job took against another."""
        return round(median(row[over] / row[under] for row in self.rows), 3)

    def columns(self):
        """Medians and ratios of plain, hit, plain_miss, miss and floor, in milliseconds."""
        names = [name for name in self.rows[0] if self.median(name) is not None]
        row = {f"{name}_ms": round(self.median(name), 3) for name in sorted(names)}
        row["plain/hit"] = round(row["plain_ms"] / row["hit_ms"], 2)
        row["miss/plain"] = self.ratio("miss", "plain_miss")
        if "floor" in names:
            row["hit/floor"] = round(row["hit_ms"] / row["floor_ms"], 2)
        return row


def chosen_scenarios(rpc, only):
    """:return list: the scenarios whose name contains ``only``."""
    return [scenario for scenario in scenarios.build(rpc) if only in scenario.name]


def measure_http(options, say):
    """Part ``http``: rows by scenario name."""
    database = databases.ADDON
    with Server(database, env=PLAIN_ENV) as one, Server(database, env=ADDON_ENV) as other:
        plain, addon = (Rpc(server.port, database).login() for server in (one, other))
        check_available(addon.call("cache.manager", "get_stats"))
        nonces = Nonces()
        rows = {}
        for scenario in chosen_scenarios(plain, options.only):
            rows[scenario.name] = http_row(plain, addon, scenario, nonces, options.repeats)
            say(f"  {scenario.name}: {rows[scenario.name]}")
        return rows


def http_row(plain, addon, scenario, nonces, repeats):
    """Alternate both servers on one call, and the emptiest RPC of the plain one."""
    call = scenario.model, scenario.method, scenario.args, scenario.kwargs
    fixed = plain.encode(*call)
    floor = plain.encode(*scenarios.floor_call(plain))
    for _ in range(WARM_UP):
        for side in (plain, addon):
            side.call(*call)  # raises if the answer is an error, which would be quick
    rounds = Rounds()
    for _ in range(repeats):
        unique = plain.encode(*call, context=nonces.context())
        rounds.run(
            {
                "plain": lambda: plain.send(fixed)[1],
                "hit": lambda: addon.send(fixed)[1],
                "plain_miss": lambda unique=unique: plain.send(unique)[1],
                "miss": lambda unique=unique: addon.send(unique)[1],
                "floor": lambda: plain.send(floor)[1],
            }
        )
    return rounds.columns()


def measure_inprocess(options, say):
    """Part ``inprocess``: rows by scenario name."""
    database = databases.ADDON
    with Server(database, workers=0, env=PLAIN_ENV) as server:
        rpc = Rpc(server.port, database).login()
        calls = [
            (scenario.name, inprocess_call(rpc, scenario))
            for scenario in chosen_scenarios(rpc, options.only)
        ]
    nonces = Nonces()
    rows = {}
    with ChildProcess(database, PLAIN_ENV) as plain, ChildProcess(database, ADDON_ENV) as addon:
        check_available(addon.ask("stats"))
        for name, call in calls:
            rows[name] = inprocess_row(plain, addon, call, nonces, options.repeats)
            say(f"  {name}: {rows[name]}")
        rows["addon"] = addon.ask("stats")
    return rows


def inprocess_call(rpc, scenario):
    """The same call with the context that the HTTP session would add."""
    kwargs = dict(scenario.kwargs)
    kwargs["context"] = {**rpc.context, **kwargs.get("context", {})}
    return scenario.model, scenario.method, scenario.args, kwargs


def inprocess_row(plain, addon, call, nonces, repeats):
    """Alternate both processes on one call."""
    model, method, args, kwargs = call
    for _ in range(3):
        plain.ask("call", *call)
        addon.ask("call", *call)
        addon.ask("flush")
    queries = {"plain": [], "hit": [], "plain_miss": [], "miss": []}

    def ask(kind, side, arguments):
        answer = side.ask("call", *arguments)
        queries[kind].append(answer["queries"])
        return answer["ms"]

    rounds = Rounds()
    for _ in range(repeats):
        context = {**kwargs["context"], **nonces.context()}
        unique = model, method, args, {**kwargs, "context": context}
        rounds.run(
            {
                "plain": lambda: ask("plain", plain, call),
                "hit": lambda: ask("hit", addon, call),
                "plain_miss": lambda unique=unique: ask("plain_miss", plain, unique),
                "miss": lambda unique=unique: ask("miss", addon, unique),
                "floor": lambda: addon.ask("floor", *call),
            }
        )
    row = rounds.columns()
    row["queries"] = {kind: median(counts) for kind, counts in queries.items()}
    return row


def measure_writes(options, say):
    """Part ``writes``: rows by kind of write."""
    say("  copying both databases")
    databases.copy(databases.ADDON, COPIES[0])
    databases.copy(databases.PLAIN, COPIES[1])
    counts = {"price": max(options.repeats, 50), "partners": options.heavy, "order": options.heavy}
    try:
        with (
            ChildProcess(COPIES[0], WRITE_ENV) as addon,
            ChildProcess(COPIES[1], {}) as plain,
        ):
            check_available(addon.ask("stats"))
            for side in (addon, plain):
                side.ask("prepare_writes", options.heavy + 2)
            return {
                name: write_row(addon, plain, name, count, say) for name, count in counts.items()
            }
    finally:
        databases.drop(*COPIES)


def write_row(addon, plain, name, count, say):
    """Guard what the write touches, then alternate both processes."""
    relations = addon.ask("touched", name, 0)
    plain.ask("touched", name, 0)
    unguarded = addon.ask("guard", relations)
    for side in (addon, plain):
        side.ask("write", name, 1)
    rounds = Rounds()
    for index in range(2, count + 2):
        rounds.run(
            {
                "addon": lambda index=index: addon.ask("write", name, index),
                "plain": lambda index=index: plain.ask("write", name, index),
            }
        )
    row = {
        "plain_ms": round(rounds.median("plain"), 3),
        "addon_ms": round(rounds.median("addon"), 3),
        "ratio": rounds.ratio("addon", "plain"),
        "pairs": count,
        "relations": len(relations),
        "unguarded": unguarded,
    }
    say(f"  {name}: {row}")
    return row


def measure_memory(options, say):
    """Part ``memory``: megabytes of a process before and after the reads, for both sides."""
    database = databases.ADDON
    with contextlib.ExitStack() as stack:
        sides = {
            "plain": stack.enter_context(ChildProcess(database, PLAIN_ENV)),
            "addon": stack.enter_context(ChildProcess(database, {**ADDON_ENV, **MEMORY_ENV})),
        }
        check_available(sides["addon"].ask("stats"))
        row = {f"{name}_start_mb": megabytes(side.ask("resident")) for name, side in sides.items()}
        for start in range(0, options.reads, MEMORY_STEP):
            for side in sides.values():
                side.send("read_many", start, min(MEMORY_STEP, options.reads - start))
            sizes = {name: megabytes(side.receive()) for name, side in sides.items()}
            if start % (10 * MEMORY_STEP) == 0:
                say(f"  after {start + MEMORY_STEP} reads: {sizes} MB")
        row.update({f"{name}_mb": size for name, size in sizes.items()})
        row["reads"] = options.reads
        row["addon"] = sides["addon"].ask("stats")
        return row


def megabytes(size_bytes):
    """:return float: rounded to a tenth."""
    return round(size_bytes / MEGABYTE, 1)


PARTS = {
    "http": measure_http,
    "inprocess": measure_inprocess,
    "writes": measure_writes,
    "memory": measure_memory,
}
