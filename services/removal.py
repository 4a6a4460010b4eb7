"""Removing entries by key, by pattern, by model, or all of them.

The one idea: a removal is a change like any other.  It is a row of the journal in the
caller's transaction, so it reaches every worker with the next snapshot, and an entry whose
computation began before it can never be valid after it.  Deleting from the tiers besides
only frees the space.

Keys and patterns have no version of their own; the *removal version* of a key is the sum of
the tokens of all removals that match it, and stands in the entry.

What may go wrong: a removal in a transaction that is rolled back has no effect, as it should
be, although the tiers were emptied: that costs misses, not truth.
"""
from __future__ import annotations

from . import journal, keys


def removal_version(key: str, removals: dict[str, int]) -> int:
    """Sum of the tokens of the removals that match a key, modulo 2^62."""
    if not removals:
        return 0
    total = 0
    for name, token in removals.items():
        if name.startswith(journal.KEY):
            matches = name[len(journal.KEY):] == key
        else:
            matches = keys.compile_pattern(name[len(journal.PATTERN):]).fullmatch(key)
        if matches:
            total += token
    return total % journal.MODULUS


def remove_key(engine, cr, key: str) -> dict[str, int]:
    """:return: how many entries went, by tier of this process
    :raise keys.InvalidKey: with a sentence
    """
    keys.validate_key(key)
    journal.note(cr, [journal.KEY + key])
    return engine.hierarchy.each('delete', [key])


def remove_pattern(engine, cr, pattern: str) -> dict[str, int]:
    """Like :func:`remove_key`, for every key that a pattern matches."""
    keys.validate_pattern(pattern)
    journal.note(cr, [journal.PATTERN + pattern])
    return engine.hierarchy.each('delete_pattern', pattern)


def remove_model(engine, cr, model) -> dict[str, int]:
    """Everything that was computed by calling a model, and everything that was read from
    its table.

    :param model: a recordset of the model
    """
    pattern = f'v1:orm:{model._name}:*'
    journal.note(cr, [journal.PATTERN + pattern, *engine.catalogue.tree(model._table)])
    return engine.hierarchy.each('delete_pattern', pattern)


def remove_all(engine, cr) -> dict[str, int]:
    """Everything of this database."""
    journal.note(cr, [journal.ALL])
    return engine.hierarchy.each('clear')
