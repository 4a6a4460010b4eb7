"""Does a hit, or a write, get dearer as something grows?

    proof/growth                        everything, about 20 minutes; results, plots, table
    proof/growth --part journal         one part, or several
    proof/growth --quick                every part, small: finds what is broken, proves nothing
    proof/growth --plots                plots and table of the last results again

The one idea: two equal databases, one of which grows; see ``growth_measure``.  The parts are in
``growth_parts`` and ``growth_compaction``.

What may go wrong: a machine with busy neighbours.  A ratio counts as flat if its interval ends
below FLAT, as rising if it begins above it; between these the verdict says that the run was too
noisy to tell.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import time

from bench.common import ROOT
from proof.lab import ending

from . import growth_measure, growth_plots, growth_table
from .growth_compaction import measure_compaction
from .growth_measure import FLAT
from .growth_parts import (
    measure_entries,
    measure_journal,
    measure_long_writer,
    measure_relations,
    measure_workers,
)

PARTS = {
    "journal": measure_journal,
    "relations": measure_relations,
    "entries": measure_entries,
    "workers": measure_workers,
    "long-writer": measure_long_writer,
    "compaction": measure_compaction,
}
RESULTS = ROOT / "proof" / "results" / "growth.json"
PLOTS = ROOT / "docs" / "images"
PAGE = ROOT / "docs" / "reliability.md"


def arguments():
    parser = argparse.ArgumentParser(
        prog="proof/growth", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--part", action="append", choices=[*PARTS], help="only this part; may be repeated")
    add("--seed", type=int, default=19, help="of the order of calls and of what is written")
    add("--rounds", type=int, default=150, help="pairs of calls per step (150)")
    add("--largest", type=int, default=1_000_000, help="leave out larger steps")
    add("--minutes", type=float, default=10, help="of the part compaction (10)")
    add("--rate", type=int, default=1000, help="writes per second of the part compaction (1,000)")
    add("--quick", action="store_true", help="20 rounds, up to 1,000, 15 seconds; nothing is kept")
    add("--plots", action="store_true", help="only draw what was measured before")
    add("--keep", action="store_true", help="keep the databases, and use them if they are there")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.largest, options.minutes = 20, 1_000, 0.25
    return options


def say(text):
    print(text, flush=True)


def machine():
    """:return dict: what the numbers were measured on."""
    return {
        "date": datetime.date.today().isoformat(),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "postgresql": growth_measure.server_version(),
    }


def known():
    """:return dict: what was measured before, by part"""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"parts": {}}


def keep(name, result):
    """Put one part into the results, in place of an earlier run of it."""
    parts = {**known()["parts"], name: result}
    RESULTS.parent.mkdir(exist_ok=True)
    ordered = {part: parts[part] for part in PARTS if part in parts}
    RESULTS.write_text(as_text({"parts": ordered}) + "\n")


def as_text(value, depth=0):
    """:return str: JSON with a line for each step or second, so that two runs can be compared"""
    if not value or not isinstance(value, dict | list) or depth > 3:
        return json.dumps(value)
    pad = "\n" + " " * (depth + 1)
    if isinstance(value, list):
        lines = [json.dumps(one) for one in value]
        return f"[{pad}{(',' + pad).join(lines)}{pad[:-1]}]"
    lines = [f"{json.dumps(key)}: {as_text(one, depth + 1)}" for key, one in value.items()]
    return f"{{{pad}{(',' + pad).join(lines)}{pad[:-1]}}}"


def publish():
    """Plots and table of all that is known, into the documentation."""
    results = known()
    say(f"drawn: {', '.join(growth_plots.draw(results, PLOTS))}")
    if growth_table.write_into(PAGE, results):
        say(f"table: {PAGE.relative_to(ROOT)}")


def main():
    options = arguments()
    if options.plots:
        publish()
        return 0
    say(f"seed {options.seed}, {os.cpu_count()} cores")
    names = options.part or [*PARTS]
    measured = {}
    if not (options.keep and growth_measure.exists()):
        growth_measure.build(say)
    try:
        for name in names:
            start = time.monotonic()
            say(f"{name}:")
            dice = growth_measure.new_dice(options.seed)
            measured[name] = PARTS[name](options, dice, say)
            measured[name].update(machine=machine(), took_s=round(time.monotonic() - start))
            if not options.quick:
                # part by part: what was measured stays, whatever happens to the next one
                keep(name, measured[name])
    finally:
        growth_measure.drop_sides() if options.keep else growth_measure.drop_all()
    if not options.quick:
        publish()
    return report(measured)


def report(measured):
    """Print the verdict; :return int: exit code"""
    rising, unclear = [], []
    curves = list(last_steps(measured))
    if not curves and "compaction" not in measured:
        rising.append("nothing was measured")
    for what, one in curves:
        if one["low"] > FLAT:
            rising.append(f"{what} costs {one['ratio']:.2f} times as much")
        elif one["high"] > FLAT:
            unclear.append(what)
    rising += faults(measured)
    if unclear:
        say(f"too noisy to tell: {'; '.join(unclear)}")
    if rising:
        say(f"verdict: WRONG: {'; '.join(rising)}")
        return 1
    say("verdict: nothing wrong" + (f", {len(unclear)} not decided" if unclear else ""))
    return 0


def last_steps(measured):
    """Each flat curve's last point, with what it is."""
    for name, result in measured.items():
        groups = {"": result.get("steps", ())}
        groups.update({f" {tier}": result[tier] for tier in ("l1", "l2", "l3") if tier in result})
        for group, rows in groups.items():
            for kind, one in rows[-1]["flat"].items() if rows else ():
                yield f"{name}{group}: {kind} at {rows[-1]['x']:,}", one


def faults(measured):
    """What was not as promised, flatness aside."""
    found = []
    for row in measured.get("entries", {}).get("l3", ()):
        for purge in (row["expired"], row["over"]):
            if purge["faults"]:
                found.append(f"purge of L3 failed with {row['x']:,} entries")
        if row["over"]["left"] > row["over"]["limit"]:
            found.append(f"L3 is over its limit after a purge of {row['x']:,} entries")
    result = measured.get("compaction")
    if result:
        for key in ("rows", "mb"):
            if result[f"max_{key}"] > result["bound"][key]:
                found.append(f"the journal had {result[f'max_{key}']} {key}")
        found += result["errors"]
        if result["rate"] < 0.9 * result["asked_rate"]:
            found.append(f"only {result['rate']} writes per second: the bound was not tried")
    return found


if __name__ == "__main__":
    sys.exit(ending.run(main))
