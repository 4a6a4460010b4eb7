"""Removing entries by key, pattern, tag, model, relation, user, or all of them.

The one idea: a removal is a change like any other.  It is a row of the journal in the
caller's transaction, so it reaches every worker with the next snapshot, and an entry whose
computation began before it can never be valid after it.  Deleting from the tiers besides
only frees the space; :mod:`.emptying` does it in slices.

==========  ===============================  ===============================================
what        row of the journal               met by
==========  ===============================  ===============================================
key         ``key:v1:supplier:detail:42``    the entry of this key, and all its variants
                                             (``v1:supplier:detail:42@…``)
pattern     ``pattern:v1:supplier:*``        entries whose key, or whose key without the
                                             variant, matches
user        ``user:7``                       entries computed for this user
tag         ``tag:prices``                   entries that depend on the tag
model       ``pattern:v1:orm:<model>:*``     calls of the model, and what was read from its
            and its tables                   table
relation    the tables                       what was read from them
everything  ``#all``                         every entry
==========  ===============================  ===============================================

Keys, patterns and users have no version of their own; the *removal version* of an entry is
the sum of the tokens of all removals that meet it, and stands in the entry.  A tag is a
dependency, ``('tag:prices', version, None)``: its version is the sum of its tokens, 0 while
nobody has removed it.

Each pattern costs every hit a match, and each other name some memory, so when they become
many (:data:`.journal.MAX_REMOVALS`, :data:`.journal.MAX_NAMED`), compaction makes one of them,
which meets every entry that one of them may have met: all named entries (``key:``), all reads of
the ORM (``pattern:v1:orm:*``), all that have a tag (``tag:``), or all of any user (``user:``).

What may go wrong: a removal in a transaction that is rolled back has no effect, as it should
be, although the tiers were emptied: that costs misses, not truth.
"""

from __future__ import annotations

from . import journal, keys

WAIT_MS = 100.0
"""How long a removal keeps its caller waiting while the tiers are emptied: about 5,000 entries
in L3, or 100,000 looked at in Redis.  What is left goes on in the background; it is invalid in
any case."""


ANY = journal.PATTERN
"""Dependency of an entry that was computed with more inner entries than are told apart: it goes
with any removal of whatever key, pattern, tag or user.  No pattern is empty: the name is free."""

MAX_INNER = 50
"""Inner entries that are told apart; each costs a hit 0.3 µs, and the entry 200 bytes."""

MAX_KNOWN = 10_000
"""Versions of inner entries that are remembered until something is removed."""


class Removals:
    """The removals that a snapshot shows; never modified.

    :param tokens: sum of the tokens by relation of the journal
    """

    def __init__(self, tokens: dict[str, int]):
        self.tokens = tokens
        self._known: dict[tuple, int] = {}  # versions of inner entries, which cost a match each
        self._patterns = [
            (keys.compile_pattern(name[len(journal.PATTERN) :]).fullmatch, token)
            for name, token in tokens.items()
            if name.startswith(journal.PATTERN)
        ]

    def plus(self, tokens: dict[str, int]) -> Removals:
        """These and some more.

        :param tokens: to be added, by relation of the journal
        """
        total = dict(self.tokens)
        for name, token in tokens.items():
            total[name] = (total.get(name, 0) + token) % journal.MODULUS
        return Removals(total)

    def version(self, key: str, uid: int | None = None) -> int:
        """Sum of the tokens of the removals that meet an entry, modulo 2^62.

        :param uid: of the user for whom it was computed
        """
        tokens = self.tokens
        if not tokens:
            return 0
        name = keys.name_of(key)
        total = tokens.get(journal.KEY + key, 0)
        if uid:
            total += tokens.get(f'{journal.USER}{uid}', 0) + tokens.get(journal.ALL_USERS, 0)
        if not key.startswith(journal.CALLS):
            total += tokens.get(journal.ALL_NAMED, 0)
        if name != key:
            total += tokens.get(journal.KEY + name, 0)
        for matches, token in self._patterns:
            if matches(key) or (name != key and matches(name)):
                total += token
        return total % journal.MODULUS

    def tag_version(self, tag: str) -> int:
        """Sum of the tokens of the removals of a tag; 0 where none is known."""
        return self.dependency_version(journal.TAG + tag)

    def dependency_version(self, name: str, uid: int | None = None) -> int:
        """The version of what is no relation, and which an entry depends on all the same.

        :param name: a tag, ``tag:prices``; an inner entry, ``key:v1:supplier:detail:42@…``; or
            :data:`ANY`
        :param uid: of the user for whom the inner entry was computed
        """
        tokens = self.tokens
        if not tokens:
            return 0
        if name.startswith(journal.TAG):
            return (tokens.get(name, 0) + tokens.get(journal.ALL_TAGS, 0)) % journal.MODULUS
        version = self._known.get((name, uid))
        if version is None:
            if name == ANY:
                version = sum(tokens.values()) % journal.MODULUS
            else:
                version = self.version(name.removeprefix(journal.KEY), uid)
            if len(self._known) < MAX_KNOWN:
                self._known[name, uid] = version
        return version

    def is_current(self, dependency: str, version: int, uid: int | None = None) -> bool:
        """Whether a dependency is a tag or an inner entry, and nobody has removed it since."""
        return is_removal(dependency) and version == self.dependency_version(dependency, uid)

    def met_dependency(self, entry) -> str:
        """A tag or an inner entry that an entry depends on and that was removed since, or ''."""
        for name, version, uid in entry.dependencies:
            if is_removal(name) and version != self.dependency_version(name, uid):
                return name
        return ''


def is_removal(relation: str) -> bool:
    """Whether a name in the journal stands for removals, and not for a relation."""
    return relation.startswith(journal.REMOVALS)


def remove_keys(engine, cr, names, wait_ms: float | None = None) -> dict[str, int]:
    """Remove entries by their keys; a key without a variant means all its variants.

    :param wait_ms: how long to wait for the tiers to be emptied, by default
        :data:`WAIT_MS`; 0 leaves all of it to the background
    :return: how many entries went at once, by tier of this process
    :raise keys.InvalidKey: with a sentence; nothing has been removed then
    """
    names = list(dict.fromkeys(names))
    for name in names:
        keys.validate_key(name)
    _note(engine, cr, [journal.KEY + name for name in names])
    return engine.emptying.names(names, _wait_s(wait_ms))


def remove_key(engine, cr, key: str, wait_ms: float | None = None) -> dict[str, int]:
    """As :func:`remove_keys`, for one."""
    return remove_keys(engine, cr, [key], wait_ms)


def remove_pattern(engine, cr, pattern: str, wait_ms: float | None = None) -> dict[str, int]:
    """As :func:`remove_keys`, for every key that a pattern matches, with or without its
    variant."""
    keys.validate_pattern(pattern)
    _note(engine, cr, [journal.PATTERN + pattern])
    return engine.emptying.pattern(pattern, _wait_s(wait_ms))


def remove_tag(engine, cr, tag: str) -> dict[str, int]:
    """As :func:`remove_keys`, for every entry that depends on a tag.

    L2 and L3 would have to read each value to find them: there they stay, invalid, until they
    are replaced or expire, and are not counted.
    """
    validate_tag(tag)
    name = journal.TAG + tag
    _note(engine, cr, [name])
    return engine.emptying.matching(
        f'tag {tag}', lambda entry: any(dep[0] == name for dep in entry.dependencies)
    )


def remove_user(engine, cr, uid: int, wait_ms: float | None = None) -> dict[str, int]:
    """As :func:`remove_keys`, for every entry that was computed for a user, in whatever
    model, with their own rights or in superuser mode.

    In L2 they stay, invalid, until they are replaced or expire, and are not counted.
    """
    _note(engine, cr, [f'{journal.USER}{uid:d}'])
    return engine.emptying.user(uid, _wait_s(wait_ms))


def remove_model(engine, cr, model, wait_ms: float | None = None) -> dict[str, int]:
    """As :func:`remove_keys`, for everything that was computed by calling a model, and
    everything that was read from its table; the latter is counted only where it is the former.

    :param model: a recordset of the model
    """
    pattern = f'v1:orm:{model._name}:*'
    _note(engine, cr, [journal.PATTERN + pattern, *engine.catalogue.tree(model._table)])
    return engine.emptying.pattern(pattern, _wait_s(wait_ms))


def remove_relation(engine, cr, relation: str) -> dict[str, int]:
    """As :func:`remove_keys`, for everything that was read from a table.

    Only L1 is emptied: the others would have to read each value.

    :raise keys.InvalidKey: when there is no such table
    """
    validate_relation(engine, relation)
    tree = engine.catalogue.tree(relation)
    _note(engine, cr, tree)
    return engine.emptying.matching(
        f'relation {relation}', lambda entry: any(dep[0] in tree for dep in entry.dependencies)
    )


def remove_all(engine, cr, wait_ms: float | None = None) -> dict[str, int]:
    """As :func:`remove_keys`, for everything of this database."""
    _note(engine, cr, [journal.ALL])
    return engine.emptying.everything(_wait_s(wait_ms))


def validate_tag(tag: str) -> None:
    """:raise keys.InvalidKey: unless ``tag`` is a text of 1 to 512 printable characters"""
    keys.validate_key(tag)


def validate_relation(engine, relation: str) -> None:
    """:raise keys.InvalidKey: unless there is such a table"""
    if not engine.catalogue.knows(relation):
        raise keys.InvalidKey(
            f'{relation!r} is no table of this database. Give its name, for example res_partner.'
        )


def _note(engine, cr, relations) -> None:
    journal.note(cr, relations)
    # after the commit: until then this process, too, shows what was committed before
    cr.postcommit.add(engine.removed)


def _wait_s(wait_ms: float | None) -> float:
    return (WAIT_MS if wait_ms is None else wait_ms) / 1000
