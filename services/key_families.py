"""Families of keys: ``v1:supplier:detail:42`` instead of a text that somebody put together.

The one idea: a *family* is a template, ``supplier:detail:{supplier}``, and a key is that
template with its parts filled in.  Whatever a part holds, the key keeps its shape: a part is
percent-encoded so far that it holds no separator (``:``), no wildcard (``* ? [ ]``) and no
variant separator (``@``), and it can be read back.  So two different parts never give one key,
and a pattern removes what it seems to remove.

=================  ==========================  ==========================================
part               in the key                  why
=================  ==========================  ==========================================
``42``             ``42``                      what people type when they remove it
``'42'``           ``%342``                    a text that looks like a number is none
``'a b:c'``        ``a%20b%3Ac``               UTF-8, everything but ``A-Z a-z 0-9 . _ - ~``
``''``             ``%``                       nothing else gives a single ``%``
``True``, ``1.0``  :class:`~.keys.Unkeyable`   as ``True == 1 == 1.0`` the reader would guess
=================  ==========================  ==========================================

What may be anything (filters, a search text) is not spelt out but *hashed*: a BLAKE2b of 128
bits over the typed canonical form of :mod:`.keys`, in which the order of dictionary keys does
not count, at any depth, and ``True`` is not ``1``.

Templates of two families must not overlap: where one has a placeholder the other could have
the word, a key would belong to both.  :meth:`Families.register` refuses that, as it refuses a
name that is taken.

What may go wrong: a text part that makes the key too long.  It raises
:class:`~.keys.InvalidKey`; hash it instead.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from . import keys

VERSION: typing.Final = 'v1'
SEPARATOR: typing.Final = ':'

MAX_NAME_CHARACTERS: typing.Final = keys.MAX_KEY_CHARACTERS - len(keys.VARIANT) - 32
"""Room for ``@`` and the digest of a variant."""

RESERVED_NAMESPACES: typing.Final = frozenset({'orm', 'probe'})
"""Of reads that are cached by themselves, and of the tiers."""

_EMPTY = '%'
_WORD = re.compile(r'[a-z][a-z0-9_.-]*')
_PLACEHOLDER = re.compile(r'\{([a-z][a-z0-9_]*)\}')
_INTEGER = re.compile(r'0|-?[1-9][0-9]*')


# -- parts -------------------------------------------------------------------------------------


def write_part(value: int | str) -> str:
    """A part as it stands in a key; see the table above.

    :raise keys.Unkeyable: for anything but an ``int`` or a ``str``
    """
    if type(value) is int:
        return str(value)
    if type(value) is not str:
        raise keys.Unkeyable(
            f'A part of a key is an int or a text, not {type(value).__qualname__}; '
            'anything else belongs into filters, which are hashed.'
        )
    if not value:
        return _EMPTY
    if _INTEGER.fullmatch(value):
        return f'%{ord(value[0]):02X}{value[1:]}'
    return quote(value.encode('utf-8', 'surrogatepass'), safe='~')


def read_part(text: str) -> int | str:
    """What :func:`write_part` was given.

    :raise keys.InvalidKey: for a text that it never writes
    """
    if text == _EMPTY:
        return ''
    value: int | str | None
    try:
        if _INTEGER.fullmatch(text):
            value = int(text)
        else:
            value = unquote_to_bytes(text).decode('utf-8', 'surrogatepass')
    except ValueError:
        value = None
    if value is None or write_part(value) != text:
        raise keys.InvalidKey(f'{text!r} is not a part of a key as this addon writes it.')
    return value


def digest(*values) -> str:
    """32 hexadecimal digits for values of any kind that has a canonical form.

    :raise keys.Unkeyable: for records, functions, and whatever else has none
    """
    try:
        return keys.digest([_in_order(value) for value in values])
    except RecursionError as error:
        raise keys.Unkeyable('A value that contains itself cannot be part of a key.') from error


def _in_order(value):
    """The same value, whatever the order of the keys of its dictionaries was."""
    if isinstance(value, Mapping):
        pairs = ((key, _in_order(item)) for key, item in value.items())
        return dict(sorted(pairs, key=lambda pair: keys.digest(pair[0])))
    if type(value) in (list, tuple):
        return [_in_order(item) for item in value]
    return value


# -- families ----------------------------------------------------------------------------------


class Family(typing.NamedTuple):
    """:param name: e.g. 'supplier:detail'
    :param template: e.g. 'supplier:detail:{supplier}'
    :param parts: names of the placeholders, in order
    :param documentation: one sentence, what is kept under these keys
    """

    name: str
    template: str
    parts: tuple[str, ...]
    documentation: str

    @property
    def segments(self) -> list[str]:
        return self.template.split(SEPARATOR)


class Families:
    """The families that are known; modules add theirs when they are imported."""

    def __init__(self):
        self._families: dict[str, Family] = {}

    def register(self, name: str, parts=(), *, documentation: str, template: str = '') -> Family:
        """Add a family.

        :param name: words in lower case with colons between, e.g. 'supplier:detail'; the first
            is the namespace
        :param parts: names of what is filled in, in the order of the key
        :param documentation: one sentence, what is kept under these keys
        :param template: where the parts do not simply follow the name,
            e.g. 'user:{user}:session'
        :raise ValueError: a name that is taken or reserved, a template that overlaps another
            one's or does not hold just the parts
        """
        parts = tuple(parts)
        template = template or SEPARATOR.join([name, *(f'{{{part}}}' for part in parts)])
        family = Family(name, template, parts, documentation)
        self._check(family)
        self._families[name] = family
        return family

    def _check(self, family: Family) -> None:
        name = family.name
        if name in self._families:
            raise ValueError(f'There is a family of keys {name!r} already.')
        if not all(map(_WORD.fullmatch, name.split(SEPARATOR))):
            raise ValueError(f'The name {name!r} must be words in lower case with colons between.')
        if not family.documentation.strip():
            raise ValueError(f'Say in one sentence what is kept under the keys of {name!r}.')
        found = _placeholders(family)
        if found != family.parts or len(set(found)) != len(found):
            raise ValueError(
                f'{family.template!r} must hold each of {family.parts} once, in order.'
            )
        namespace = family.segments[0]
        if namespace in RESERVED_NAMESPACES or not _WORD.fullmatch(namespace):
            raise ValueError(f'A family cannot be in the namespace {namespace!r}.')
        for other in self._families.values():
            if _overlap(family.segments, other.segments):
                raise ValueError(
                    f'A key of {family.template!r} may also be one of {other.template!r}.'
                )

    def __getitem__(self, name: str) -> Family:
        """:raise KeyError: with the names there are"""
        try:
            return self._families[name]
        except KeyError:
            known = ', '.join(self._families)
            raise KeyError(f'There is no family of keys {name!r}; there are: {known}') from None

    def __iter__(self):
        return iter(self._families.values())


def _placeholders(family: Family) -> tuple[str, ...]:
    found = []
    for segment in family.segments:
        if match := _PLACEHOLDER.fullmatch(segment):
            found.append(match[1])
        elif not _WORD.fullmatch(segment):
            raise ValueError(f'{segment!r} in {family.template!r} is no word and no {{part}}.')
    return tuple(found)


def _overlap(left: list[str], right: list[str]) -> bool:
    """Whether one key may come from two templates."""
    return len(left) == len(right) and all(
        one == other or '{' in (one[0], other[0]) for one, other in zip(left, right, strict=True)
    )


FAMILIES: typing.Final = Families()
"""Those of this addon, and of the modules that have registered theirs."""

for _name, _parts, _template, _documentation in (
    ('supplier:list', ('filters',), '', "A list of suppliers, by its filters (hashed)."),
    ('supplier:detail', ('supplier',), '', "One supplier."),
    ('supplier:products', ('supplier', 'page'), '', "One page of the products of a supplier."),
    ('order:sync', ('order',), '', "How far an order is synchronized."),
    ('order:mapping', ('order',), '', "What an order is called in another system."),
    ('order:status', ('order',), '', "The status of an order."),
    ('product:catalog', ('category',), '', "The catalog of a category."),
    ('product:detail', ('product',), '', "One product."),
    ('search:results', ('search',), '', "Results of a search, by text and filters (hashed)."),
    ('user:session', ('user',), 'user:{user}:session', "What the session of a user needs."),
    ('user:permissions', ('user',), 'user:{user}:permissions', "What a user may do."),
    ('system:config', ('name',), '', "A part of the configuration."),
    ('integration:health', ('name',), '', "Whether another system answers."),
):
    FAMILIES.register(_name, _parts, documentation=_documentation, template=_template)


class CacheKeyBuilder:
    """Keys and patterns of the families; has no state.

    :param families: by default all that are registered

    >>> CacheKeyBuilder().supplier_detail(42)
    'v1:supplier:detail:42'
    """

    def __init__(self, families: Families = FAMILIES):
        self._families = families

    def key(self, family: str, **parts: int | str) -> str:
        """The key of a family, of this addon or of another module.

        :raise KeyError: there is no such family
        :raise TypeError: other parts than the family has
        :raise keys.Unkeyable: a part that is neither an int nor a text
        :raise keys.InvalidKey: too long
        """
        return self._fill(self._families[family], parts, None)

    def pattern(self, family: str, **parts: int | str) -> str:
        """What all keys of a family match that have these parts; parts not given may be
        anything."""
        return self._fill(self._families[family], parts, '*')

    def parse(self, key: str) -> tuple[str, dict[str, int | str]]:
        """Family and parts of a key, with or without a variant.

        :raise keys.InvalidKey: it is of no family
        """
        version, *segments = keys.name_of(key).split(SEPARATOR)
        for family in self._families:
            expected = family.segments
            if version == VERSION and len(expected) == len(segments):
                pairs = list(zip(expected, segments, strict=True))
                if all(have == want for want, have in pairs if want[0] != '{'):
                    return family.name, {
                        want[1:-1]: read_part(have) for want, have in pairs if want[0] == '{'
                    }
        raise keys.InvalidKey(f'{key!r} is of no family.')

    @staticmethod
    def _fill(family: Family, parts: Mapping, default: str | None) -> str:
        unknown = parts.keys() - set(family.parts)
        missing = set(family.parts) - parts.keys()
        if unknown or (missing and default is None):
            raise TypeError(f'The parts of {family.name!r} are: {", ".join(family.parts)}.')
        texts = {name: write_part(value) for name, value in parts.items()}
        segments = [
            texts.get(segment[1:-1], default) if segment[0] == '{' else segment
            for segment in family.segments
        ]
        return _checked(SEPARATOR.join([VERSION, *segments]))

    # -- keys ----------------------------------------------------------------------------------

    def supplier_list(self, filters=None) -> str:
        """:param filters: a dictionary, or a domain; None is none"""
        return self.key('supplier:list', filters=digest(filters or {}))

    def supplier_detail(self, supplier: int | str) -> str:
        return self.key('supplier:detail', supplier=supplier)

    def supplier_products(self, supplier: int | str, page: int = 1) -> str:
        return self.key('supplier:products', supplier=supplier, page=page)

    def order_sync(self, order: int | str) -> str:
        return self.key('order:sync', order=order)

    def order_mapping(self, order: int | str) -> str:
        return self.key('order:mapping', order=order)

    def order_status(self, order: int | str) -> str:
        return self.key('order:status', order=order)

    def product_catalog(self, category: int | str) -> str:
        return self.key('product:catalog', category=category)

    def product_detail(self, product: int | str) -> str:
        return self.key('product:detail', product=product)

    def search_results(self, query: str, filters=None) -> str:
        """:param query: what was searched for, of any length"""
        return self.key('search:results', search=digest(query, filters or {}))

    def user_session(self, user: int) -> str:
        return self.key('user:session', user=user)

    def user_permissions(self, user: int) -> str:
        return self.key('user:permissions', user=user)

    def system_config(self, name: str) -> str:
        return self.key('system:config', name=name)

    def integration_health(self, name: str) -> str:
        return self.key('integration:health', name=name)

    # -- patterns ------------------------------------------------------------------------------

    def suppliers(self) -> str:
        """Everything about suppliers."""
        return self.namespace('supplier')

    def orders(self) -> str:
        """Everything about orders."""
        return self.namespace('order')

    def user(self, user: int) -> str:
        """Everything that is kept *about* one user.  What was computed *for* a user, whatever
        it is about, goes by ``invalidate_user``."""
        return _checked(SEPARATOR.join([VERSION, 'user', write_part(user), '*']))

    def namespace(self, name: str) -> str:
        """Everything whose first word is ``name``.

        :raise keys.InvalidKey: not a word in lower case
        """
        if not _WORD.fullmatch(name):
            raise keys.InvalidKey(f'{name!r} is no namespace: give one word in lower case.')
        return SEPARATOR.join([VERSION, name, '*'])


def _checked(key: str) -> str:
    if len(key) > MAX_NAME_CHARACTERS:
        raise keys.InvalidKey(
            f'The key would have {len(key)} characters, and at most {MAX_NAME_CHARACTERS} are '
            'possible: hash the long part, with digest().'
        )
    return key
