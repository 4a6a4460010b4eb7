#!/usr/bin/env python3
"""Which entry should leave a full L1?  Five policies on recorded and on made-up traces.

    bench/traces.py               replay; the table on standard output
    bench/traces.py --record      record anew first (eight minutes with the benchmark databases)

The one idea: what a policy is worth depends on which reads come again, how long they took and how
large their answers are, so it is recorded from a real engine with an L1 without limits, on the
benchmark database (see ``bench/rpc.py``), and replayed through the real ``MemoryTier`` at
10, 25, 50 and 100 % of the bytes that all of it takes.

A trace holds a line per read: time, a number for the key, a number for the state of the data, and
once per state the size, the cost and the time to live.  No key, no value, no name of anybody.

What may go wrong: costs are those of the machine that recorded.  Only their relation matters.
"""

import argparse
import os
import sys
from pathlib import Path

if not __package__:  # started as a file: make the package known, as PEP 366 has it
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = "bench"

from . import databases  # noqa: E402
from .common import ROOT, run_odoo  # noqa: E402
from .rpc import alone, say  # noqa: E402

FOLDER = Path(__file__).resolve().parent / "traces"
COPY = "tiered_cache_bench_traces"
RECORDED = {
    "office": {"reads": 4000, "reads_per_write": 150, "export": False},
    "office, export": {"reads": 4000, "reads_per_write": 150, "export": True},
    "quiet office, export": {"reads": 4000, "reads_per_write": 2000, "export": True},
}
# Nothing is evicted, nothing comes from elsewhere; what is too cheap for L1 stays out as usual.
RECORD_ENV = {
    "TIERED_CACHE_L1_MAX_ENTRIES": "10000000",
    "TIERED_CACHE_L1_MAX_MB": "1000000",
    "TIERED_CACHE_L3_ENABLED": "0",
    "TIERED_CACHE_REDIS_URL": "",
    "TIERED_CACHE_AUDIT_RATE": "0",
}


def path_of(name):
    """Where a recorded trace lies."""
    return FOLDER / f"{name.replace(',', '').replace(' ', '-')}.trace.xz"


def record():
    """Record both workloads, each on a fresh copy of the benchmark database."""
    FOLDER.mkdir(exist_ok=True)
    known = databases.in_odoo("dbadmin", "databases")
    if known.get(databases.PLAIN) != databases.DATA_VERSION:
        databases.build_plain(known, None, say)
    for name, options in RECORDED.items():
        say(f"recording: {name}")
        databases.copy(databases.PLAIN, COPY)
        databases.install(COPY, "tiered_cache")
        program = (
            f"import sys; sys.path.append({str(ROOT)!r})\n"
            f"from bench import traces_record\n"
            f"traces_record.record(env, {str(path_of(name))!r}, **{options!r})\n"
        )
        arguments = ["shell", "-d", COPY, "--no-http", "--log-level=error"]
        run_odoo(arguments, env=RECORD_ENV, stdin=program)
        databases.drop(COPY)


def main():
    """Record if asked to, then replay."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="record the traces anew")
    options = parser.parse_args()
    os.environ.setdefault("ODOO_RC", os.devnull)
    with alone():
        if options.record:
            record()
        paths = {name: str(path_of(name)) for name in RECORDED}
        print(databases.in_odoo("traces_replay", "report", paths))


if __name__ == "__main__":
    main()
