"""Going through all entries of the shared tiers, outside of requests.

The one idea: a removal that wants nothing.  Tiers go through their keys in steps that hold
nobody up (:meth:`.tiers.base.Tier.removing`); asked to remove what is never wanted, they only
show what they have.

What may go wrong: a tier that fails ends early, and counts the fault.  A value that is damaged
or forged is removed by the tier and counted, as in a read.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import configuration, journal, keys
from .entry import Entry
from .tiers.base import Tier, slices
from .tiers.database import DatabaseTier

PATIENCE_MS = 2000
"""For one call; nobody waits for an answer here but a person."""

_PAGE = 20
"""Entries that are read at once: each may have a megabyte."""


def readable(engine) -> dict[str, Tier]:
    """The shared tiers of an engine, for whoever goes through much of them.

    By objects of their own, which may take longer than a request, and whose reads do not count
    as hits.  They are to be closed.
    """
    tiers: dict[str, Tier] = {}
    if 'l2' in engine.hierarchy.tiers:
        tiers['l2'] = configuration.redis_tier(engine.config, PATIENCE_MS)
    if 'l3' in engine.hierarchy.tiers:
        tiers['l3'] = DatabaseTier(engine.connect, None, PATIENCE_MS, PATIENCE_MS)
    return tiers


def be_patient(engine) -> None:
    """Have an engine that answers no requests wait longer for its shared tiers."""
    engine.hierarchy.tiers.update(readable(engine))
    engine.hierarchy.writers.clear()


def keys_of(tier: Tier, target: keys.Target) -> Iterator[list[str]]:
    """The keys that a target means, in steps."""
    found: list[str] = []

    def note(key: str) -> bool:
        if target.wants(key):
            found.append(key)
        return False

    for _step in tier.removing(keys.Target(target.candidates, note)):
        yield found.copy()
        found.clear()


def entries_of(tier: Tier, target: keys.Target = keys.EVERYTHING) -> Iterator[Entry]:
    """The entries whose keys a target means."""
    for found in keys_of(tier, target):
        for part in slices(found, _PAGE):
            yield from tier.get_many(part).values()


# -- what a removal would do -----------------------------------------------------------


def preview(engine, records, kind: str, target) -> dict[str, dict[str, int]]:
    """How many entries of the shared tiers a removal would meet; nothing is removed.

    :param records: a recordset of the model, for kind 'model'
    :param target: a key, a list of keys, a pattern, a tag, a table or the id of a user
    :return: by tier: ``removed`` at once, ``invalid`` from the commit on, those included, and
        ``faults`` by kind, with which the numbers are too small
    """
    counts = {}
    for name, tier in readable(engine).items():
        met, removed = _met(engine, records, tier, kind, target)
        counts[name] = {'removed': removed, 'invalid': met, 'faults': dict(tier.faults)}
        tier.close()
    return counts


def _met(engine, records, tier: Tier, kind: str, target) -> tuple[int, int]:
    """How many entries a removal meets, and how many of them it takes out."""
    wanted = _target(kind, target)
    if wanted is not None:
        number = sum(map(len, keys_of(tier, wanted)))
        return number, number
    is_met = _test(engine, records, kind, target)
    met = [entry.key for entry in entries_of(tier) if is_met(entry)]
    return len(met), _at_once(tier.name, kind, target, met)


def _target(kind: str, target) -> keys.Target | None:
    """The keys that a removal by name means, None for other kinds."""
    if kind == 'all':
        return keys.EVERYTHING
    if kind == 'pattern':
        return keys.pattern_target(target)
    if kind == 'key':
        names = [target] if isinstance(target, str) else target
        return keys.names_target(names)
    return None


def _test(engine, records, kind: str, target):
    """Whether an entry is met by a removal that looks into entries."""
    if kind == 'user':
        return lambda entry: entry.uid == target
    if kind == 'tag':
        names = {journal.TAG + target}
    else:
        names = set(engine.catalogue.tree(records._table if kind == 'model' else target))
    prefix = _prefix(target) if kind == 'model' else None
    return lambda entry: (
        (prefix is not None and entry.key.startswith(prefix))
        or any(dependency[0] in names for dependency in entry.dependencies)
    )


def _at_once(tier: str, kind: str, target, met: list[str]) -> int:
    """How many of those that are met are taken out; see :mod:`.removal`."""
    if kind == 'model':
        return sum(key.startswith(_prefix(target)) for key in met)
    return len(met) if (kind, tier) == ('user', 'l3') else 0


def _prefix(model: str) -> str:
    return f'v1:orm:{model}:'


def finish(engine) -> dict[str, int]:
    """Wait until the removals that wait for the background are through.

    :return: by tier, how many entries the last of them has removed; empty if none was waiting
    """
    while engine.emptying.is_working:
        engine.outbox.flush()
    done = engine.emptying.stats()['finished']
    return {name: tier['removed'] for name, tier in done[-1]['tiers'].items()} if done else {}
