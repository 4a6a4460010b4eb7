"""Removing entries by key, by pattern, by model, or all of them.

The one idea: a removal is a change like any other.  It is a row of the journal in the
caller's transaction, so it reaches every worker with the next snapshot, and an entry whose
computation began before it can never be valid after it.  Deleting from the tiers besides
only frees the space.

Keys and patterns have no version of their own; the *removal version* of a key is the sum of
the tokens of all removals that match it, and stands in the entry.

Each pattern costs every hit a match, so when they become many, compaction removes everything
instead (:data:`.journal.MAX_REMOVALS`).

What may go wrong: a removal in a transaction that is rolled back has no effect, as it should
be, although the tiers were emptied: that costs misses, not truth.
"""

from __future__ import annotations

from . import journal, keys


class Removals:
    """The removals that a snapshot shows; never modified.

    :param tokens: sum of the tokens by relation of the journal
    """

    def __init__(self, tokens: dict[str, int]):
        self.tokens = tokens
        self._keys: dict[str, int] = {}
        self._patterns = []
        for name, token in tokens.items():
            if name.startswith(journal.KEY):
                self._keys[name[len(journal.KEY) :]] = token
            else:
                pattern = keys.compile_pattern(name[len(journal.PATTERN) :])
                self._patterns.append((pattern, token))

    def version(self, key: str) -> int:
        """Sum of the tokens of the removals that match a key, modulo 2^62."""
        total = self._keys.get(key, 0)
        base, _at, variant = key.partition('@')
        if variant:
            total += self._keys.get(base, 0)
        for pattern, token in self._patterns:
            if pattern.fullmatch(key) or (variant and pattern.fullmatch(base)):
                total += token
        return total % journal.MODULUS


def remove_key(engine, cr, key: str) -> dict[str, int]:
    """:return: how many entries went, by tier of this process
    :raise keys.InvalidKey: with a sentence
    """
    keys.validate_key(key)
    journal.note(cr, [journal.KEY + key])
    return engine.hierarchy.each('delete', [key])


def remove_name(engine, cr, base: str) -> dict[str, int]:
    """Like :func:`remove_key`, for all variants of a named entry.

    :param base: its key without a variant; holds no wildcards
    """
    keys.validate_key(base)
    journal.note(cr, [journal.KEY + base])
    return engine.hierarchy.each('delete_pattern', f'{base}@*')


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
