"""Break something under load and look for wrong answers, failed requests and lost time.

The one idea: sessions with a known invariant work on a real server with four workers while
one thing is broken and healed; the same happens to plain Odoo where it fails, too, so that
only what the cache adds counts.
"""

import argparse
import contextlib
import json
import sys
import time
from collections import Counter

from bench.common import ROOT
from proof.lab import faults_postgres, faults_redis, faults_workers, latency  # noqa: F401 they register
from proof.lab.faults import FAULTS
from proof.lab.scene import TICK_S, Scene
from proof.programs import faults_table

RESULTS = ROOT / "proof" / "results" / "faults.json"
RECOVERY_LIMIT_S = 60
RECOVERED = 0.9
"""Share of the hit rate from before the fault that counts as full again: under load it varies
by some percent."""


def strike(fault, *, addon, seed, seconds):
    """Let one fault happen once.

    :return dict: what the sessions saw
    """
    scene = Scene(addon=addon, seed=seed, **fault.options)
    with scene, _prepared(fault, scene), scene.serving(recent=fault.recent) as load:
        since = scene.figures()
        time.sleep(2 * TICK_S)
        normal = scene.hit_share(since)
        failed_before = len(load.failures)
        with fault.strike(scene):
            time.sleep(seconds or fault.seconds)
        recovery_s = _recovery_s(scene, normal) if addon else None
        time.sleep(2)
        failures = load.failures[failed_before:]
    checked = Counter()
    anomalies = []
    for one in (load, *scene.others):
        checked.update(one.checked())
        anomalies += one.anomalies()
    return {
        "failures": len(failures),
        "kinds": dict(Counter(what.partition("(")[0][:90] for _at, _who, what in failures)),
        "failures_before": failed_before,
        "killed": scene.killed,
        "hit_share": normal,
        "recovery_s": recovery_s,
        "checked": dict(checked),
        "wrong": len(anomalies),
        "anomalies": anomalies[:10],
    }


def quiet(fault, seed):
    """What a fault adds to a read, see ``lab.latency``."""
    scene = Scene(seed=seed, **fault.options)
    with scene, _prepared(fault, scene):
        return latency.measure(fault, scene)


def _prepared(fault, scene):
    return fault.prepare(scene) if fault.prepare else contextlib.nullcontext()


def _recovery_s(scene, normal):
    """Seconds until the hit rate is what it was; None if that took too long."""
    began = time.monotonic()
    while time.monotonic() - began < RECOVERY_LIMIT_S:
        since = scene.figures()
        at = time.monotonic()
        time.sleep(TICK_S)
        if scene.hit_share(since) >= RECOVERED * normal:
            return round(at - began)
    return None


def show(name, with_addon, plain):
    """Print one line of the table."""
    allowed = plain["failures"] if plain else 0
    recovery = with_addon["recovery_s"]
    print(
        f"{name:28} wrong {with_addon['wrong']}  failed {with_addon['failures']} (plain {allowed})"
        f"  hits {with_addon['hit_share']:.0%}, again after {recovery} s"
        f"  checked {with_addon['checked']['reads']}",
        flush=True,
    )
    if with_addon["failures"] or plain and plain["failures"]:
        print(f"    with {with_addon['kinds']}\n    plain {plain and plain['kinds']}", flush=True)
    for anomaly in with_addon["anomalies"] + (plain or {}).get("anomalies", []):
        print(f"    {anomaly}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="proof/faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults; all by default")
    parser.add_argument("--list", action="store_true", help="print the faults and end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="how long each fault lasts")
    parser.add_argument(
        "--parts", default="load,latency", help="load (over HTTP), latency (one quiet process)"
    )
    parser.add_argument("--results", default=str(RESULTS), help="JSON file to add to")
    parser.add_argument("--docs", action="store_true", help="write the table of the results")
    options = parser.parse_args()
    if options.list:
        for one in FAULTS.values():
            print(f"{one.name:28} {one.layer:9} {one.title}")
        return 0
    unknown = set(options.names) - set(FAULTS)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    print(f"seed {options.seed}")
    return judge(options)


def judge(options):
    """:return int: the exit code."""
    results, bad = _known(options.results), []
    for name in options.names or FAULTS:
        fault = FAULTS[name]
        how = {"seed": options.seed, "seconds": options.seconds}
        result = results.setdefault(name, {"title": fault.title, "layer": fault.layer})
        if "load" in options.parts:
            result["with"] = strike(fault, addon=True, **how)
            result["plain"] = strike(fault, addon=False, **how) if fault.plain else None
            show(name, result["with"], result["plain"])
            if result["with"]["wrong"] or not fault.plain and result["with"]["failures"]:
                bad.append(name)
        if "latency" in options.parts and fault.quiet:
            result["latency"] = quiet(fault, options.seed)
            print(f"{name:28} {result['latency']}", flush=True)
            if result["latency"]["wrong"]:
                bad.append(name)
        with open(options.results, "w") as file:
            json.dump(results, file, indent=1)
    if options.docs:
        faults_table.write(results)
    if bad:
        print(f"verdict: WRONG: {', '.join(bad)}")
        return 1
    print(f"verdict: nothing wrong in {len(options.names or FAULTS)} faults")
    return 0


def _known(path):
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


if __name__ == "__main__":
    sys.exit(main())
