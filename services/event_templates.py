"""Names of what an event removes: ``supplier:detail:{id}``.

The one idea: a template is filled in with values of the records that changed, and a part that
is not known becomes ``*``: rather too much is removed than too little.

===============  =======================================================================
placeholder      stands for
===============  =======================================================================
``{id}``         the record
``{uid}``        the user who changed it
``{<field>}``    a stored many2one (its id), integer, text or selection; of a one2many
                 or many2many each record in turn.  Empty is ``*``: a record without
                 company belongs to all of them.
===============  =======================================================================

What is filled in is escaped, so that no value can hold a separator or a wildcard.  Templates
are written without ``v1:``, and remove all variants of an entry (``v1:supplier:detail:42@…``).

What may go wrong: very many records change at once.  Their names would fill the journal, so
above :data:`MAX_NAMES` the template with ``*`` for every placeholder takes their place.
"""

from __future__ import annotations

import itertools
import re
import typing

from . import journal, key_families, keys
from .sentences import _lt

PREFIX = 'v1:'
ANY = '*'

MAX_NAMES = 100
"""Names that one template may give in one transaction: a tenth of what the journal keeps apart,
:data:`.journal.MAX_REMOVALS`."""

MAX_CHARACTERS = key_families.MAX_NAME_CHARACTERS
"""Of a name: there is room for the digest of a variant."""

_PLACEHOLDER = re.compile(r'\{([a-z_][a-z0-9_]*)\}')
_IN_BRACKETS = re.compile(r'\[[^]]*\{')
_WILDCARD = re.compile(r'[][*?]')

COLUMN_TYPES = ('many2one', 'integer', 'char', 'selection', 'many2one_reference')
RELATION_TYPES = ('one2many', 'many2many')


class Template(typing.NamedTuple):
    """:param text: without ``v1:``
    :param placeholders: in order
    """

    text: str
    placeholders: tuple[str, ...]

    @property
    def widest(self) -> str:
        """What matches everything that the template may stand for."""
        return PREFIX + _PLACEHOLDER.sub(ANY, self.text)

    def fill(self, values: dict[str, list]) -> set[str]:
        """Names for every combination of the values of the placeholders; None is not known."""
        names = set()
        for parts in itertools.product(*(values[name] for name in self.placeholders)):
            found = iter(parts)
            name = PREFIX + _PLACEHOLDER.sub(
                lambda _match, f=found: escape_part(next(f)), self.text
            )
            names.add(name if len(name) <= MAX_CHARACTERS else self.widest)
        return names


def parse(text: str) -> Template:
    """:raise keys.InvalidKey: with a sentence"""
    text = text.strip().removeprefix(PREFIX)
    rest = _PLACEHOLDER.sub('1', text)
    if '{' in rest or '}' in rest:
        raise keys.InvalidKey(
            _lt(
                "%(text)s: a placeholder is the name of a field in braces, such as {id}.",
                text=repr(text),
            )
        )
    if keys.VARIANT in rest:
        raise keys.InvalidKey(
            _lt("%(text)s: what follows \"@\" differs per reader; leave it out.", text=repr(text))
        )
    if _IN_BRACKETS.search(text):
        raise keys.InvalidKey(
            _lt("%(text)s: a placeholder cannot stand in square brackets.", text=repr(text))
        )
    if len(PREFIX + text) > MAX_CHARACTERS:
        raise keys.InvalidKey(
            _lt(
                "%(text)s… has more than %(most)s characters.",
                text=repr(text[:40]),
                most=MAX_CHARACTERS,
            )
        )
    keys.validate_pattern(PREFIX + rest)
    if not _WILDCARD.split(rest)[0]:
        raise keys.InvalidKey(
            _lt(
                "%(text)s would remove everything; begin with a word, such as supplier:*.",
                text=repr(text),
            )
        )
    return Template(text, tuple(dict.fromkeys(_PLACEHOLDER.findall(text))))


def parse_all(text: str | None) -> list[Template]:
    """One template a line.

    :raise keys.InvalidKey: with a sentence
    """
    return [parse(line) for line in (text or '').splitlines() if line.strip()]


def rows_of(name: str) -> list[str]:
    """The rows of the journal that remove a name with all its variants.

    :raise keys.InvalidKey: never write such a row: every worker reads it
    """
    keys.validate_pattern(name)
    return [(journal.PATTERN if _WILDCARD.search(name) else journal.KEY) + name]


def escape_part(value: int | str | None) -> str:
    """A value as a part of a key; None is any."""
    return ANY if value is None else key_families.write_part(value)
