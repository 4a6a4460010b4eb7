"""Replays traces through the real L1; runs inside ``odoo shell``, without a database.

The one idea: a read is a hit if L1 still has the entry and its data has not changed since; any
other read is computed, at the cost that was recorded, and stored.
"""

import dataclasses
import itertools
import random
import time

from odoo.addons.tiered_cache.services.tiers.memory import POLICIES, MemoryTier

from .traces_file import Line, read

SHARES = (0.10, 0.25, 0.50, 1.00)
SEED = 19
ZIPF_KEYS, ZIPF_READS, ZIPF = 5000, 60_000, 0.9
SCAN_KEYS = 20_000


@dataclasses.dataclass(slots=True)
class Item:
    """What L1 looks at in an entry, without a payload."""

    key: str
    state: int
    size_bytes: int
    cost_ms: float
    expires: float


def replay(lines, policy, max_bytes):
    """:return tuple: share of reads that hit, share of computing time that they saved"""
    now = [0.0]
    tier = MemoryTier(10**9, max_bytes, policy, clock=lambda: now[0])
    hits, saved_ms, all_ms = 0, 0.0, 0.0
    for line in lines:
        now[0] = line.at_ms / 1000
        key = str(line.key)
        found = tier.get(key)
        all_ms += line.cost_ms
        if getattr(found, "state", None) == line.state:
            hits += 1
            saved_ms += line.cost_ms
        else:
            expires = now[0] + line.ttl_s
            tier.set(Item(key, line.state, line.size_bytes, line.cost_ms, expires))
    return hits / len(lines), saved_ms / all_ms


def working_set_bytes(lines):
    """What all keys take at their largest."""
    sizes = {}
    for line in lines:
        sizes[line.key] = max(sizes.get(line.key, 0), line.size_bytes)
    return sum(sizes.values())


def zipf(scan=False):
    """A made-up trace: keys by popularity, sizes and costs at random and independent of it.

    :param bool scan: half way, four times as many other keys are read once
    """
    chance = random.Random(SEED)
    weights = list(itertools.accumulate(1 / rank**ZIPF for rank in range(1, ZIPF_KEYS + 1)))
    properties = [_properties(chance) for _ in range(ZIPF_KEYS + SCAN_KEYS)]
    keys = chance.choices(range(ZIPF_KEYS), cum_weights=weights, k=ZIPF_READS)
    if scan:
        scanned = range(ZIPF_KEYS, ZIPF_KEYS + SCAN_KEYS)
        keys[ZIPF_READS // 2 : ZIPF_READS // 2] = scanned
    return [Line(number, key, 0, *properties[key], 3600) for number, key in enumerate(keys)]


def _properties(chance):
    return round(chance.lognormvariate(9, 1)), round(chance.lognormvariate(3, 1), 2)


def report(paths):
    """The tables as Markdown.

    :param dict paths: of recorded traces, by name
    """
    traces = {name: read(path) for name, path in paths.items()}
    traces["Zipf"] = zipf()
    traces["Zipf, scan"] = zipf(scan=True)
    parts = [_table(name, lines) for name, lines in traces.items()]
    return "\n\n".join([*parts, _speed()])


def _table(name, lines):
    full_bytes = working_set_bytes(lines)
    if name == "Zipf, scan":  # shares of what is read more than once
        full_bytes = working_set_bytes([line for line in lines if line.key < ZIPF_KEYS])
    rows = [
        f"**{name}**: {len(lines):,} reads of {len({line.key for line in lines}):,} keys, "
        f"{full_bytes / 2**20:.1f} MB",
        "",
        "| hits / time saved | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |",
        "|---|" + "---|" * len(SHARES),
    ]
    for policy in POLICIES:
        results = [replay(lines, policy, int(full_bytes * share)) for share in SHARES]
        cells = [f"{hits:.1%} / {saved:.1%}" for hits, saved in results]
        rows.append(f"| `{policy}` | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _speed():
    """What the policies cost: a get that hits, and a set into a full tier that evicts one."""
    chance = random.Random(SEED)
    count = 10_000
    items = [
        Item(f"v1:orm:model:method:{n:032x}", 0, *_properties(chance), 10**12)
        for n in range(4 * count)
    ]
    order = [chance.randrange(count) for _ in range(10 * count)]
    rows = ["| policy | get, ns | set and evict, ns |", "|---|---|---|"]
    for policy in POLICIES:
        gets, sets = [], []
        for _repeat in range(5):
            tier = MemoryTier(count, 10**12, policy)
            for item in items[:count]:
                tier.set(item)
            keys = [items[number].key for number in order]
            start = time.perf_counter_ns()
            for key in keys:
                tier.get(key)
            middle = time.perf_counter_ns()
            for item in items[count:]:
                tier.set(item)
            sets.append((time.perf_counter_ns() - middle) / (3 * count))
            gets.append((middle - start) / len(keys))
        rows.append(f"| `{policy}` | {min(gets):.0f} | {min(sets):.0f} |")
    return "\n".join(rows)
