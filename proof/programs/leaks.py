"""Looks for data that reaches somebody who may not see it.

Users of many groups, companies and languages read the same things, in random order, in two
processes that share Redis and the database tier, with databases that are copies of each other;
privileges are taken and given in between.  Every answer is compared with what plain Odoo says in
the same transaction, exceptions included.

    proof/leaks                       every model once, a change after every group of models
    proof/leaks --minutes 60 --rounds 9
    proof/leaks --plant all           plants flaws: each of them must be found

The first run installs Odoo's apps with demo data (some minutes, kept as tiered_cache_leaks_plain).
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import databases
from bench.children import ChildProcess
from bench.common import HOST, ServerFailed, free_port
from proof.lab import ending

from . import leaks_world
from .leaks_hunt import CHILD, Hunt
from .leaks_plants import PLANTS

MODULES = "sale_management,purchase,stock,account,crm,project,hr,website_sale"
PLAIN = "tiered_cache_leaks_plain"
PEOPLED = "tiered_cache_leaks_people"
READY = "tiered_cache_leaks_ready"
MAKING = "tiered_cache_leaks_making"
DEMO_VERSION = "demo 1"
SEED = 19
PLANT_READS = 2000


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"of all choices ({SEED})")
    parser.add_argument("--reads", type=int, help="no further group of models after so many")
    parser.add_argument("--minutes", type=float, help="no further group of models later")
    parser.add_argument("--rounds", type=int, default=1, help="times through all models (1)")
    parser.add_argument("--models", default="", help="only these, separated by commas")
    parser.add_argument("--plant", choices=(*PLANTS, "all"), help="plant a flaw, and find it")
    parser.add_argument("--copies", type=int, default=3, choices=(1, 2, 3),
                        help="databases that share Redis (3)")  # fmt: skip
    parser.add_argument("--without-redis", action="store_true", help="share L3 only")
    parser.add_argument("--database", help="a database to copy in place of the prepared one; "
                        "without the addon, with any apps")  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep the databases of this run")
    return parser.parse_args()


def prepare(options):
    """Make the databases that are kept, unless they are there: Odoo's demo data; with people; with
    the addon as well.

    :return str: name of the last
    """
    known = databases.in_odoo("dbadmin", "databases")
    source = options.database or PLAIN
    if source == PLAIN and known.get(PLAIN) != DEMO_VERSION:
        print(f"installing {MODULES} with demo data (some minutes)", flush=True)
        databases.in_odoo("dbadmin", "drop", MAKING)
        databases.install(MAKING, MODULES, "--with-demo")
        databases.in_odoo("dbadmin", "drop", PLAIN)
        databases.in_odoo("dbadmin", "rename", MAKING, PLAIN)
        databases.in_odoo("dbadmin", "describe", PLAIN, DEMO_VERSION)
    world = hashlib.blake2b(Path(leaks_world.__file__).read_bytes(), digest_size=8).hexdigest()
    version = f"{source}, world {world}"
    if known.get(PEOPLED) != version:
        print("making people", flush=True)
        databases.in_odoo("dbadmin", "clone", source, PEOPLED, "unfinished")
        databases.in_odoo("dbadmin", "renew_identity", database=PEOPLED)
        with ChildProcess(PEOPLED, module=CHILD) as child:
            child.ask("build", PEOPLED, True)
        databases.in_odoo("dbadmin", "describe", PEOPLED, version)
        known.pop(READY, None)
    version += f", code {databases.code_digest()}"
    if known.get(READY) != version:
        print("installing the addon", flush=True)
        databases.in_odoo("dbadmin", "clone", PEOPLED, READY, "unfinished")
        databases.install(READY, "tiered_cache")
        databases.in_odoo("dbadmin", "describe", READY, version)
    return READY


def copy(source, names):
    """Up to three databases: the second has an identity of its own, the third that of the first,
    as ``createdb -T`` leaves it."""
    for name in names:
        databases.in_odoo("dbadmin", "clone", source, name, "temporary")
    databases.in_odoo("dbadmin", "renew_identity", database=names[0])
    for name in names[2:]:
        databases.in_odoo("dbadmin", "clone", names[0], name, "temporary")
    with ChildProcess(names[0], {"TIERED_CACHE_ENABLED": "0"}, module=CHILD) as child:
        for name in names[1:]:
            child.ask("diverge", name, name[-1])
        return child.ask("seats", names[0])


@contextlib.contextmanager
def redis_server():
    """A Redis of our own; yields its URL, '' where there is none to start."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if not program:
        print("no redis-server here: L3 is the only shared tier")
        yield ""
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tiered-cache-leaks-") as folder:
        args = ["--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
        server = subprocess.Popen(
            [program, *args, "--dir", folder], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            yield f"redis://{HOST}:{port}/0"
        finally:
            server.terminate()
            server.wait()


def run(options):
    """Prepare, hunt, report.

    :return Hunt: after the hunt
    """
    ready = prepare(options)
    prefix = f"tiered_cache_leaks_{os.getpid()}"
    names = [f"{prefix}_{letter}" for letter in "abc"[: options.copies]]
    try:
        seats = copy(ready, names)
        redis = contextlib.nullcontext("") if options.without_redis else redis_server()
        with redis as url:
            hunt = Hunt(names, seats, options.seed, redis_url=url)
            deadline = time.monotonic() + options.minutes * 60 if options.minutes else None
            only = [name for name in options.models.split(",") if name]
            with hunt.running():
                if options.plant:
                    chosen = list(PLANTS) if options.plant == "all" else [options.plant]
                    hunt.missed = hunt.find_plants(chosen, options.reads or PLANT_READS)
                    return hunt
                try:
                    for _round in range(options.rounds):
                        left = deadline and max(0.1, deadline - time.monotonic())
                        hunt.hunt(reads=options.reads, seconds=left, only=only)
                except KeyboardInterrupt:
                    hunt.say("interrupted; what was seen so far:")
                hunt.report()
            return hunt
    finally:
        if not options.keep:
            databases.drop(*names)


def main():
    """The command line; exit code 1 when something was found or nothing was looked at."""
    os.environ.setdefault("ODOO_RC", os.devnull)
    options = parse_arguments()
    print(f"seed {options.seed}", flush=True)
    try:
        hunt = run(options)
    except ServerFailed as error:
        print(error)
        print("verdict: WRONG: the hunt could not be run")
        return 1
    if options.plant:
        if hunt.missed:
            print(f"verdict: WRONG: not found: {', '.join(hunt.missed)}")
            return 1
        print("verdict: nothing wrong: what was planted was found")
        return 0
    if hunt.differences:
        print(f"verdict: WRONG: {len(hunt.differences)} answers differ from plain Odoo's")
        return 1
    if not hunt.hits:
        print("verdict: WRONG: the cache answered nothing, so nothing was looked at")
        return 1
    unread = set(hunt.ruled) - set(hunt.asked_by_model)
    missing = f"; {len(unread)} models with record rules were not read" if unread else ""
    print(f"verdict: nothing wrong in {hunt.line()}{missing}")
    return 0


if __name__ == "__main__":
    sys.exit(ending.run(main))
