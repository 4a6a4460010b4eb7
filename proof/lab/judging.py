"""What is wrong with what a fault has shown, in sentences; an empty list is a good result.

The one idea: a run that looked at nothing, or in which nothing was broken, is no better than one
with a wrong answer, for it would always say that nothing is wrong.

What may go wrong: chance.  How many requests are in flight when a worker is killed differs from
run to run, so plain Odoo's number counts with :data:`CHANCE` times the spread that such numbers
have by themselves.  And a busy machine: what reads without the cache vary by is taken off the
latency.
"""

import math

CHANCE = 3.0
MIN_READS = 100
MIN_HIT_SHARE = 0.1
MIN_SAMPLES = 50
ONCE_MS, THEN_MS = 100.0, 5.0
"""The most that a fault may add to one read, and to the others (their 99th percentile)."""


def of_load(result, plain, *, compared, shows=()):
    """
    :param dict result: of ``faults.strike`` with the addon
    :param dict plain: without it, None if that was not run
    :param bool compared: whether plain Odoo fails as well, so that its failures are allowed
    :param shows: kinds of faults of which the addon must have counted one at least
    """
    found = []
    if result["wrong"]:
        found.append(f"{result['wrong']} wrong answers")
    if result["checked"]["reads"] < MIN_READS:
        found.append(f"only {result['checked']['reads']} answers were checked")
    if result["hit_share"] < MIN_HIT_SHARE:
        found.append(f"the cache answered {result['hit_share']:.0%} only, so nothing is shown")
    if result["recovery_s"] is None:
        found.append("the hit rate did not come back")
    seen = [kind for kind, count in result.get("faults", {}).items() if count > 0]
    if shows and not any(kind.startswith(tuple(shows)) for kind in seen):
        found.append(f"the addon counted none of {', '.join(shows)}, but {seen}: was it there?")
    if compared and plain is None:
        found.append("plain Odoo was not asked for comparison")
    failed, allowed = result["failures"], plain["failures"] if plain else 0
    if failed > allowed + (CHANCE * math.sqrt(failed + allowed) if compared else 0):
        found.append(f"{failed} requests failed, {allowed} in plain Odoo")
    return found


def of_latency(result):
    """:param dict result: of ``latency.measure``"""
    found = []
    if result["wrong"]:
        found.append(f"{result['wrong']} wrong answers of the prober")
    if result["samples"] < MIN_SAMPLES:
        found.append(f"only {result['samples']} reads were timed")
    for name, limit_ms, noise in (("once", ONCE_MS, "noise"), ("then", THEN_MS, "noise_then")):
        if result[name] - result.get(noise, 0.0) > limit_ms:
            found.append(f"{result[name]} ms were added {name}, {limit_ms:g} are allowed")
    return found


def is_noisy(result):
    """Whether a bound was kept only if what reads without the cache varied by is taken off."""
    return result["once"] > ONCE_MS or result["then"] > THEN_MS
