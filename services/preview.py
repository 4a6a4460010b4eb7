"""How many entries a removal would take away, counted before it is done.

The one idea: each tier is asked as it would be for the removal, page by page, and only counted,
until the time is over.  A tier that a removal does not empty at once says nothing, as there.

What may go wrong: entries come and go meanwhile, and other workers' memory is not asked.  The
figures are for people who wonder whether they have hit the right pattern.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Iterable

from . import entry as entry_format
from . import journal, keys, walking

LIMIT_S = 0.5
"""How long a tier may be counted: a person waits, and Redis shows 100,000 keys in 0.2 s."""

MAX_BODIES = 20_000
"""Rows of L3 that are unpacked to see what they depend on: 20,000 take about a second."""

_ENTRIES_OF_TEXT = """
SELECT id, body FROM cache_entry WHERE position(%s::bytea IN body) > 0 ORDER BY id DESC LIMIT %s
"""


class Count(typing.NamedTuple):
    """:param entries: how many there are
    :param is_complete: False where there are at least so many
    """

    entries: int
    is_complete: bool = True


def of_keys(engine, target: keys.Target) -> dict[str, Count]:
    """By tier, entries whose keys are meant."""
    counts = {}
    for name, tier in engine.hierarchy.tiers.items():
        until, found, complete = time.monotonic() + LIMIT_S, 0, True
        if name == 'l2' and not tier.is_up:
            continue
        for keys_found in walking.keys_of(tier, target):
            found += len(keys_found)
            if time.monotonic() > until:
                complete = False
                break
        counts[name] = Count(found, complete)
    return counts


def of_user(engine, cr, uid: int) -> dict[str, Count]:
    """By tier, entries that were computed for a user; L2 does not know."""
    counts = _in_memory(engine, lambda entry: entry.uid == uid)
    if 'l3' in engine.hierarchy.tiers:
        cr.execute("SELECT count(*) FROM cache_entry WHERE uid = %s", [uid])
        counts['l3'] = Count(cr.fetchone()[0])
    return counts


def of_dependencies(engine, cr, names: Iterable[str]) -> dict[str, Count]:
    """By tier, entries that depend on one of these relations or tags; L2 does not know."""
    names = frozenset(names)
    counts = _in_memory(engine, lambda entry: any(dep[0] in names for dep in entry.dependencies))
    if 'l3' in engine.hierarchy.tiers:
        found: set[int] = set()
        for name in names:
            found.update(rows_depending_on(cr, name))
        counts['l3'] = Count(len(found), len(found) < MAX_BODIES)
    return counts


def rows_depending_on(cr, name: str) -> list[int]:
    """Ids of the rows of ``cache_entry`` that depend on a relation or a tag, latest first, at most
    :data:`MAX_BODIES`.

    PostgreSQL finds the rows whose bytes hold the name, which is quick; of these only those
    count where it is the name of a dependency.
    """
    cr.execute(_ENTRIES_OF_TEXT, [name.encode('utf-8', 'surrogatepass'), MAX_BODIES])
    return [id_ for id_, body in cr.fetchall() if _depends_on(bytes(body), name)]


def _depends_on(body: bytes, name: str) -> bool:
    try:
        entry = entry_format.from_bytes(body)
    except entry_format.CorruptEntry:
        return False
    return any(dependency[0] == name for dependency in entry.dependencies)


def _in_memory(engine, wants) -> dict[str, Count]:
    l1 = engine.hierarchy.tiers.get('l1')
    return {} if l1 is None else {'l1': Count(sum(map(bool, map(wants, l1.entries()))))}


def of_removal(engine, cr, kind: str, target) -> dict[str, Count]:
    """By tier of this process, what a removal would take away.

    :param kind: 'key', 'pattern', 'tag', 'model', 'relation', 'user' or 'all'
    :param target: a text; a recordset for 'model', an id for 'user'
    :return: a tier is missing that cannot tell without reading every value
    :raise keys.InvalidKey: the target is no key or pattern
    """
    if kind == 'all':
        return of_keys(engine, keys.EVERYTHING)
    if kind == 'key':
        return of_keys(engine, keys.names_target([target]))
    if kind == 'pattern':
        return of_keys(engine, keys.pattern_target(target))
    if kind == 'model':
        return of_keys(engine, keys.pattern_target(f'v1:orm:{target._name}:*'))
    if kind == 'user':
        return of_user(engine, cr, target)
    if kind == 'tag':
        return of_dependencies(engine, cr, [journal.TAG + target])
    return of_dependencies(engine, cr, engine.catalogue.tree(target))
