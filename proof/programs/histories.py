"""Sessions read and write over HTTP, and what they saw is checked for anomalies.

The one idea: nothing is broken here; many workers, three ways to write and a shared Redis are
enough for a cache to answer something that no database would have answered.
"""

import argparse
import sys
import time

from proof.lab import ending, judging
from proof.lab.scene import Scene


def main():
    parser = argparse.ArgumentParser(prog="proof/histories", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--readers", type=int, default=6)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--plain", action="store_true", help="without the addon, to compare")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:.0f} s", flush=True)
    scene = Scene(addon=not options.plain, seed=options.seed)
    sessions = {"readers": options.readers, "writers": options.writers}
    with scene, scene.serving(**sessions) as load:
        since = scene.figures()
        time.sleep(options.seconds)
        share = scene.hit_share(since)
    found, checked = load.anomalies(), load.checked()
    print(f"hits {share:.0%} of the calls")
    for name, many in checked.items():
        print(f"{name:14} {many:8}")
    for _at, kind, what in load.failures[:10]:
        print(f"failed {kind}: {what}")
    for anomaly in found[:20]:
        print(anomaly)
    if checked["reads"] < judging.MIN_READS or share < judging.MIN_HIT_SHARE and not options.plain:
        print("verdict: WRONG: next to nothing was read, or answered by the cache")
        return 1
    wrong = len(found) + len(load.failures)
    print(f"verdict: {f'WRONG: {wrong} anomalies or failures' if wrong else 'nothing wrong'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(ending.run(main))
