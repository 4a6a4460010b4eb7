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
from proof.lab import (
    ending,
    faults_postgres,  # noqa: F401 they register
    faults_redis,  # noqa: F401
    faults_servers,  # noqa: F401
    faults_workers,  # noqa: F401
    judging,
    latency,
)
from proof.lab.faults import FAULTS
from proof.lab.scene import TICK_S, Scene
from proof.programs import faults_table

RESULTS = ROOT / "proof" / "results" / "faults.json"
PARTS = ("load", "latency")
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
        failed_before, counted = len(load.failures), Counter(scene.faults())
        with fault.strike(scene):
            time.sleep(seconds or fault.seconds)
        recovery_s = _recovery_s(scene, normal) if addon else None
        time.sleep(2)
        failures = load.failures[failed_before:]
        for other in scene.others:
            failures = failures + other.failures
        counted = Counter(scene.faults()) - counted
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
        "faults": dict(counted),
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


def show(name, with_addon, plain, complaints):
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
    print(f"    counted {with_addon['faults']}", flush=True)
    for anomaly in with_addon["anomalies"] + (plain or {}).get("anomalies", []):
        print(f"    {anomaly}", flush=True)
    for complaint in complaints:
        print(f"    WRONG: {complaint}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="proof/faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults; all by default")
    parser.add_argument("--list", action="store_true", help="print the faults and end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="how long each fault lasts")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="load (over HTTP), latency (one quiet process)"
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
    options.parts = options.parts.split(",")
    if set(options.parts) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    print(f"seed {options.seed}")
    return judge(options)


def judge(options):
    """:return int: the exit code."""
    bad = {}
    names = options.names or list(FAULTS)
    for name in names:
        try:
            complaints, result = one_fault(FAULTS[name], options)
        except KeyboardInterrupt:
            bad[name] = ["interrupted"]
            break
        except Exception as error:  # a tool that is missing: the other faults can still be tried
            complaints = [f"could not be tried: {type(error).__name__}: {error}"]
            print(f"{name:28} {complaints[0]}", flush=True)
        else:
            _keep(options.results, name, result)
        if complaints:
            bad[name] = complaints
    if options.docs:
        faults_table.write(_known(options.results))
    for name, complaints in bad.items():
        print(f"{name}: {'; '.join(complaints)}")
    if bad:
        print(f"verdict: WRONG: {', '.join(bad)}")
        return 1
    print(f"verdict: nothing wrong in {len(names)} faults")
    return 0


def one_fault(fault, options):
    """Try one fault.

    :return tuple: what is wrong with it, see ``lab.judging``; what it showed
    """
    how = {"seed": options.seed, "seconds": options.seconds}
    result = {"title": fault.title, "layer": fault.layer}
    complaints = []
    if "load" in options.parts:
        result["seconds"] = options.seconds or fault.seconds
        result["with"] = strike(fault, addon=True, **how)
        result["plain"] = strike(fault, addon=False, **how) if fault.plain else None
        complaints += judging.of_load(
            result["with"], result["plain"], compared=fault.plain, shows=fault.shows
        )
        show(fault.name, result["with"], result["plain"], complaints)
    if "latency" in options.parts and fault.quiet:
        result["latency"] = quiet(fault, options.seed)
        said = judging.of_latency(result["latency"])
        noisy = " (a busy machine)" if judging.is_noisy(result["latency"]) and not said else ""
        print(f"{fault.name:28} {result['latency']}{noisy} {'; '.join(said)}", flush=True)
        complaints += said
    elif "load" not in options.parts:
        complaints.append("nothing was tried: it has no part latency")
    return complaints, result


def _keep(path, name, result):
    """Add to the file; another run may have added to it meanwhile."""
    known = _known(path)
    known[name] = {**known.get(name, {}), **result}
    with open(path, "w") as file:
        json.dump(known, file, indent=1)


def _known(path):
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


if __name__ == "__main__":
    sys.exit(ending.run(main))
