"""How much a fault adds to a read: one process, no other load, so that milliseconds mean something.

The one idea: the same read with the cache and without it, in turns, with L1 emptied before
each, so that every read goes to Redis and, if that has nothing, to L3.  What is added is the
time of a read with the cache less the median of those without.

What may go wrong: while PostgreSQL itself is away neither can be read; such a pair has no time.
Who reads first then has to connect anew, so who is first changes from pair to pair.
"""

import contextlib
import json
import os
import statistics
import tempfile
import time

from bench.common import Process, ServerFailed

PAUSE_S = 0.01
NOISE_FREE_S = 3
AFTERWARDS_S = 3
"""Healing is part of the fault: what comes back may be slow at first."""

PROGRAM = """
import itertools, json, logging, os, select, time
import psycopg2
from odoo import api
from odoo.addons.tiered_cache.services.engine import engine_for
from odoo.addons.tiered_cache.services.reading import plain_reads

env.cr.rollback()
registry = env.registry
engine = engine_for(registry)

FIELDS = itertools.cycle([['x_name', 'x_balance'], ['x_name'], ['x_balance']])

def read():
    start = time.perf_counter()
    with registry.cursor(readonly=READONLY) as cr:
        rows = api.Environment(cr, 2, {})['x_account'].search_read([], fields)
    return (time.perf_counter() - start) * 1000, rows

def pause(seconds):
    select.select([], [], [], seconds)  # libfaketime makes time.sleep() fail

def plain_read():
    with plain_reads():
        return read()

for _round in range(9):
    fields = next(FIELDS)
    read()
    engine.flush()
    pause(0.1)
logging.disable(logging.ERROR)  # of what is broken
turns = [(read, plain_read), (plain_read, read)]
with open(PATH, 'w') as out:
    while not os.path.exists(PATH + '.stop'):
        engine.hierarchy.tiers['l1'].clear()
        turns.reverse()
        fields = next(FIELDS)  # several keys, so that there is something to mix up
        at = time.monotonic()  # not the clock of faults
        try:
            found = {one: one() for one in turns[0]}
        except (psycopg2.Error, OSError):
            pause(PAUSE_S)
            continue
        (with_ms, rows), (plain_ms, expected) = found[read], found[plain_read]
        sample = [at, with_ms, plain_ms, rows == expected, time.time()]
        out.write(json.dumps(sample) + '\\n')
        out.flush()
        pause(PAUSE_S)
"""


@contextlib.contextmanager
def prober(scene):
    """Within it a process reads; the value is a function that returns its samples so far: monotonic
    seconds, milliseconds with and without the cache, whether both agreed, epoch seconds as the
    process has them."""
    with tempfile.TemporaryDirectory(prefix="tiered-cache-") as folder:
        path = os.path.join(folder, "samples")
        names = {"PATH": path, "PAUSE_S": PAUSE_S, "READONLY": scene.replica is not None}
        program = "".join(f"{name} = {value!r}\n" for name, value in names.items()) + PROGRAM
        args = ["shell", "-d", scene.stage.database, "--no-http", "--log-level=error"]
        with Process(args, env={**scene.stage.environment, **scene.env}, stdin=program) as process:

            def samples():
                process.check_alive()
                with open(path) as file:
                    return [json.loads(line) for line in file if line.endswith("\n")]

            _wait_for(path, process)
            scene.odoo_time = lambda: samples()[-1][-1]
            yield samples
            with open(f"{path}.stop", "w"):
                pass


def _wait_for(path, process):
    for _ in range(600):
        process.check_alive()
        if os.path.exists(path):
            return
        time.sleep(0.2)
    raise ServerFailed(f"the prober does not start:\n{process.log()}")


def measure(fault, scene, seconds=10):
    """Let a fault happen to the prober.

    :return dict: milliseconds: ``once`` (the worst read), ``then`` (99th percentile of the
        others), ``noise`` and ``noise_then`` (the same of reads without the cache), all less the
        median without; ``samples``; ``wrong``
    :raise ServerFailed: nothing was read
    """
    with prober(scene) as samples:
        time.sleep(NOISE_FREE_S)
        began = time.monotonic()
        with fault.strike(scene):
            time.sleep(seconds)
        time.sleep(AFTERWARDS_S)
        found = [sample for sample in samples() if sample[0] >= began]
    if not found:
        raise ServerFailed("the prober read nothing while something was broken")
    base = statistics.median(plain for _at, _with, plain, *_rest in found)
    once, then = _worst([with_ms - base for _at, with_ms, *_rest in found])
    noise, noise_then = _worst([plain - base for _at, _with, plain, *_rest in found])
    return {
        "once": once,
        "then": then,
        "noise": noise,
        "noise_then": noise_then,
        "samples": len(found),
        "wrong": sum(not same for _at, _with, _plain, same, *_rest in found),
    }


def _worst(values):
    """:return tuple: the largest, and the 99th percentile of the others."""
    values = sorted(values)
    return round(values[-1], 1), round(
        values[max(0, len(values) - 1 - max(1, len(values) // 100))], 1
    )
