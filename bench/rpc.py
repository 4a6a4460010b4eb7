#!/usr/bin/env python3
"""Measure the addon against plain Odoo, on the same data, call by call in turns.

Four parts, all of them unless some are named:

  --http       reads over /web/dataset/call_kw, two prefork servers with 2 workers each on the
               same database, one of them with TIERED_CACHE_ENABLED=0
  --inprocess  the same reads inside two processes, with the SQL queries they send
  --writes     a price, 100 partners, a confirmed sales order, on two copies: one guarded by the
               addon, one that has never seen it
  --memory     resident memory after 100,000 different reads with L1 limited to 64 MB (slow:
               about twenty minutes)

A *miss* is a call that nobody made before: both sides get a context key of its own for it, so
that they compute the same.  *Plain* and *hit* are the same call over and over.  The *floor* is
the emptiest RPC over HTTP (res.users.has_group on the plain server), and in process SELECT 1 in a
transaction of its own with one decode of the answer's payload.

The databases (tiered_cache_bench, tiered_cache_bench_plain) are built on first use and kept.
"""

import argparse
import contextlib
import datetime
import fcntl
import json
import os
import platform
import sys
from pathlib import Path

if not __package__:  # started as a file: make the package known, as PEP 366 has it
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = "bench"

from . import databases, parts, report  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in parts.PARTS:
        parser.add_argument(f"--{name}", action="store_true", help=f"measure part {name}")
    parser.add_argument("--repeats", type=int, default=60, help="calls per number (60)")
    parser.add_argument("--heavy", type=int, default=30, help="of the heavy writes (30)")
    parser.add_argument("--reads", type=int, default=100_000, help="of part memory (100000)")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--output", type=Path, default=RESULTS, help=f"JSON file ({RESULTS})")
    parser.add_argument("--template", help="database with demo data and without the addon")
    parser.add_argument("--fresh", action="store_true", help="build the databases anew")
    parser.add_argument("--drop", action="store_true", help="drop the databases and stop")
    return parser.parse_args()


def describe_machine():
    """:return dict: what a reader needs to judge the numbers."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "redis": bool(os.environ.get("TIERED_CACHE_REDIS_URL")),
    }


def say(text):
    """Progress goes to standard error: standard output holds the table only."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def alone():
    """Wait until no other run on this machine uses the databases, and the processor."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tiered-cache")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "bench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is measuring; waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main():
    """Measure what was asked for; exit code 0 also when a target is missed."""
    options = parse_arguments()
    # A benchmark must not depend on somebody's ~/.odoorc.
    os.environ.setdefault("ODOO_RC", os.devnull)
    with alone():
        run(options)


def run(options):
    """Build the databases, run the parts, write and print the results."""
    if options.drop:
        databases.drop(databases.ADDON, databases.PLAIN, databases.MAKING, *parts.COPIES)
        return
    databases.prepare(options.fresh, options.template, say)
    chosen = [name for name in parts.PARTS if getattr(options, name)] or list(parts.PARTS)
    results = {"machine": describe_machine()}
    for name in chosen:
        say(f"part {name}")
        results[name] = parts.PARTS[name](options, say)
    results["targets"] = report.judge(results)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(report.as_markdown(results))


if __name__ == "__main__":
    main()
