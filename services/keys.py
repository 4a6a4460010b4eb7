"""Names of cached values, and patterns of names.

What is it? :func:`call_key` gives every call of a read method its key; the rest checks the keys
and patterns that people write (``v1:supplier:42``, ``v1:supplier:*``) and translates patterns for
the stores.

The one idea: a call is written down in one canonical form, everything that its result may depend
on included, and the key is the digest of that. The form is msgpack, whose encoding is typed
(``True``, ``1``, ``1.0``, ``'1'`` and ``b'1'`` all differ) and free of ambiguity (lengths stand
before contents), so different calls have different forms, and 128 bits of BLAKE2b have no
accidental collisions.

What may go wrong: two calls with one key would show one user the result of another. So what has
no obvious canonical form (records, queries, functions, values of unknown classes) has no key at
all:
:class:`Unkeyable`, and the call is computed. Where only equality is doubtful, the forms differ: the
worst outcome is a miss. ``bytearray`` and ``memoryview`` count as the bytes that they hold.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgpack
from markupsafe import Markup

from .codec import FORMAT_VERSION
from .sentences import _lt

MAX_KEY_CHARACTERS: Final = 512

VARIANT: Final = '@'
"""Stands between the name of an entry and the digest that tells its variants apart: user,
language, companies, arguments, code."""

# Redis tries every position for every asterisk; a few are enough to find the candidates.
_REDIS_MAX_ASTERISKS: Final = 8

# Tags of what msgpack has no type for. Their numbers are part of every key.
_BIG_INTEGER, _DATETIME, _DATE, _DECIMAL, _MARKUP, _SET, _ORDERED_SET, _DOMAIN = range(1, 9)


class Unkeyable(ValueError):
    """A call without a canonical form; the message says which type is to blame."""


class InvalidKey(ValueError):
    """A key or a pattern that cannot be one; the message is a sentence for people."""


class Call(NamedTuple):
    """Everything that the result of a read method may depend on, apart from the data.

    :ivar registry_sequence: changes with every module update
    :ivar code_fingerprint: digest of the code that is running
    :ivar model: model name
    :ivar method: method name
    :ivar ids: ids of the records that the method is called on; ``None`` for a model method
    :ivar args: positional arguments
    :ivar kwargs: keyword arguments; their order does not matter, that of dictionaries in them does
    :ivar uid: id of the user
    :ivar su: whether access rights are bypassed
    :ivar rule_context: what ``ir.rule._compute_domain_context_values()`` yields
    :ivar context: ``env.context``
    :ivar request: ``(host, forced website, debug, language)`` inside a web request, else ``None``
    :ivar dates: the current date where it matters (in UTC, in the user's time zone)
    """

    registry_sequence: int
    code_fingerprint: str
    model: str
    method: str
    ids: tuple[int, ...] | None
    args: tuple
    kwargs: Mapping[str, Any]
    uid: int
    su: bool
    rule_context: tuple
    context: Mapping[str, Any]
    request: tuple | None
    dates: tuple[str, ...]


# -- keys of calls -----------------------------------------------------------------------------


def call_key(call: Call) -> str:
    """Return the key of a call.

    Equal calls have equal keys. Tuples equal lists, sets equal frozensets, keyword arguments and
    context have no order. The allowed companies have one: Odoo's ``fiscal_country_codes`` names
    countries in the order of the companies.

    :return: ``v1:orm:<model>:<method>:<32 hexadecimal digits>``
    :raise Unkeyable: for a call with an argument or a context value that has no canonical form
    """
    return f'v1:orm:{call.model}:{call.method}:{digest(_canonical(call))}'


def digest(value: Any) -> str:
    """A name for a value, typed and free of ambiguity; the order of dictionaries counts.

    :return: 32 hexadecimal digits, a BLAKE2b of 128 bits
    :raise Unkeyable: for a value without a canonical form
    """
    return hashlib.blake2b(canonical_bytes(value), digest_size=16).hexdigest()


def canonical_bytes(value: Any) -> bytes:
    """What :func:`digest` is the digest of: equal for equal values only.

    :raise Unkeyable: see there
    """
    return _pack(value)


def _canonical(call: Call) -> list:
    try:
        context = dict(sorted(call.context.items()))
        kwargs = dict(sorted(call.kwargs.items()))
    except TypeError:
        raise Unkeyable('The names in a context or of keyword arguments must be strings.') from None
    return [FORMAT_VERSION, *call._replace(kwargs=kwargs, context=context)]


def _pack(value: Any) -> bytes:
    try:
        try:
            # A packer per call: instances are not thread-safe, and making one costs 0.4 µs.
            return msgpack.packb(value, default=_pack_other, strict_types=True)
        except UnicodeEncodeError:
            return msgpack.packb(
                value, default=_pack_other, strict_types=True, unicode_errors='surrogatepass'
            )
    except Unkeyable:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError, BufferError) as error:
        raise Unkeyable(f'An argument has no canonical form: {error}') from error


def _pack_other(value: Any) -> Any:
    """msgpack's ``default``: what C does not know by its exact type."""
    kind = type(value)
    if kind is tuple:
        return list(value)
    writer = _WRITERS.get(kind)
    if writer:
        return writer(value)
    if isinstance(value, dict):
        # a frozendict is a dictionary to whoever reads it
        return dict(value)
    writer = _ODOO_WRITERS.get((kind.__module__, kind.__name__))
    if writer:
        return writer(value)
    raise Unkeyable(f'A value of type {kind.__qualname__} cannot be part of a key.')


def _tag(tag: int, text: str = '') -> msgpack.ExtType:
    return msgpack.ExtType(tag, text.encode('utf-8', 'surrogatepass'))


def _pack_datetime(value: datetime) -> msgpack.ExtType:
    if value.tzinfo is not None:
        raise Unkeyable('A datetime with a time zone cannot be part of a key.')
    return _tag(_DATETIME, f'{value.isoformat()}/{value.fold}')


def _pack_set(value: set | frozenset) -> list:
    return [_tag(_SET), *sorted(map(_pack, value))]


def _pack_domain(domain: Any) -> list:
    """Write down a domain as it is, not as the list that it iterates to.

    A list may not hold the operator ``any!``, which bypasses access rights, and a domain may: the
    two must not share a key. Nor may a domain that counts as optimized for one user equal one
    that is still to be optimized.
    """
    parts = [getattr(domain, slot) for slot in _DOMAIN_SLOTS[type(domain).__name__]]
    return [_tag(_DOMAIN, type(domain).__name__), int(domain._opt_level), *parts]


_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    int: lambda value: _tag(_BIG_INTEGER, f'{value:x}'),
    datetime: _pack_datetime,
    date: lambda value: _tag(_DATE, value.isoformat()),
    Decimal: lambda value: _tag(_DECIMAL, str(value)),
    Markup: lambda value: _tag(_MARKUP, str(value)),
    set: _pack_set,
    frozenset: _pack_set,
}
# The classes of odoo/orm/domains.py in Odoo 19. DomainCustom is missing: it holds functions.
_DOMAIN_SLOTS: Final[dict[str, tuple[str, ...]]] = {
    'DomainBool': ('value',),
    'DomainNot': ('child',),
    'DomainAnd': ('children',),
    'DomainOr': ('children',),
    'DomainCondition': ('field_expr', 'operator', 'value'),
}
# By name, as this module must not need Odoo to be imported.
_ODOO_WRITERS: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    ('odoo.tools.misc', 'OrderedSet'): lambda value: [_tag(_ORDERED_SET), *value],
    **{('odoo.orm.domains', name): _pack_domain for name in _DOMAIN_SLOTS},
}


# -- keys of people ----------------------------------------------------------------------------


def name_of(key: str) -> str:
    """What people remove an entry by: its key without the variant."""
    return key.partition(VARIANT)[0]


def may_have_variants(key: str) -> bool:
    """Whether a key is the name of an entry, and not an entry of a read or one variant."""
    return VARIANT not in key and not key.startswith('v1:orm:')


def validate_key(key: str) -> None:
    """:raise InvalidKey: unless ``key`` is a name of 1 to 512 printable characters"""
    _validate(_lt("key"), key)


def validate_pattern(pattern: str) -> None:
    """Check a pattern of keys.

    ``*`` stands for any characters, also none, ``?`` for one character, ``[abc]`` for one of
    these and ``[0-9]`` for one of a range. Everything else stands for itself.

    :raise InvalidKey: unless ``pattern`` is one
    """
    _validate(_lt("pattern"), pattern)
    for _token in _tokens(pattern):
        pass


def _validate(what: str, text: str) -> None:
    if not isinstance(text, str):
        kind = type(text).__name__
        raise InvalidKey(
            _lt("A cache %(what)s must be a text, not %(kind)s.", what=what, kind=kind)
        )
    if not text.strip():
        raise InvalidKey(_lt("A cache %(what)s must not be empty.", what=what))
    if len(text) > MAX_KEY_CHARACTERS:
        raise InvalidKey(
            _lt(
                "A cache %(what)s has at most %(most)s characters; this one has %(count)s.",
                what=what,
                most=MAX_KEY_CHARACTERS,
                count=len(text),
            )
        )
    if not text.isprintable():
        raise InvalidKey(
            _lt(
                "A cache %(what)s must not contain control characters or line breaks: %(text)s.",
                what=what,
                text=ascii(text),
            )
        )


_ANY, _ONE, _SOME, _TEXT = 'any', 'one', 'some', 'text'
_TOKEN: Final = re.compile(
    r'(?P<any>\*+)|(?P<one>\?)|\[(?P<some>[^][]*)\]|(?P<text>[^][*?]+)|(?P<bracket>[][])'
)


def _tokens(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield kind and content of the parts of a pattern.

    :raise InvalidKey: for brackets that are not balanced, nested, empty or negated
    """
    for match in _TOKEN.finditer(pattern):
        kind, content = match.lastgroup, match[match.lastgroup]
        if kind == 'bracket':
            raise InvalidKey(
                _lt(
                    "The brackets in the pattern %(pattern)s are not balanced: close every \"[\" "
                    "with a \"]\" and do not nest them.",
                    pattern=repr(pattern),
                )
            )
        if kind == _SOME:
            _ranges(content)
        yield kind, content


def _ranges(members: str) -> list[tuple[str, str]]:
    """Return what stands between brackets as pairs of first and last character."""
    if not members or members[0] in '^!':
        raise InvalidKey(
            _lt(
                "\"[%(members)s]\" must name the characters that it stands for; \"everything but\" "
                "is not supported.",
                members=members,
            )
        )
    pairs = [
        (match['first'], match['last'] or match['first'])
        for match in re.finditer('(?P<first>.)(?:-(?P<last>.))?', members)
    ]
    for first, last in pairs:
        if first > last:
            raise InvalidKey(
                _lt(
                    "The range \"%(first)s-%(last)s\" is empty; write \"%(last)s-%(first)s\".",
                    first=first,
                    last=last,
                )
            )
    return pairs


@lru_cache(maxsize=2048)  # more than MAX_REMOVALS of the journal, which are compiled again
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a regular expression that matches whole keys, in linear time for each asterisk.

    :raise InvalidKey: see :func:`validate_pattern`
    """
    validate_pattern(pattern)
    runs = ['']
    for kind, content in _tokens(pattern):
        if kind == _ANY:
            runs.append('')
        else:
            runs[-1] += _REGEX_WRITERS[kind](content)
    first, *others = runs
    if not others:
        return re.compile(rf'\A(?s:{first})\Z')
    # What follows an asterisk is looked for once, at its first place: the lookahead is atomic, so
    # that a failure later on does not try all the other places (fnmatch does the same).
    *middle, last = others
    found = ''.join(
        f'(?=(?P<run{index}>.*?{run}))(?P=run{index})' for index, run in enumerate(middle)
    )
    return re.compile(rf'\A(?s:{first}{found}.*{last})\Z')


_REGEX_WRITERS: Final[dict[str, Callable[[str], str]]] = {
    _ONE: lambda _content: '.',
    _TEXT: re.escape,
    _SOME: lambda members: '[{}]'.format(
        ''.join(f'{re.escape(first)}-{re.escape(last)}' for first, last in _ranges(members))
    ),
}


class Target(NamedTuple):
    """Keys that shall be removed: where a store looks for them, and which of the found it means.

    :ivar candidates: a pattern that matches at least all of them
    :ivar wants: called with a key that matches it
    """

    candidates: str
    wants: Callable[[str], object]


def pattern_target(pattern: str) -> Target:
    """The keys that match a pattern, and those whose name does: all variants of an entry.

    :raise InvalidKey: see :func:`validate_pattern`
    """
    matches = compile_pattern(pattern).fullmatch
    candidates = pattern if pattern.endswith('*') else pattern + '*'
    return Target(candidates, lambda key: matches(key) or matches(name_of(key)))


def names_target(names: Iterable[str]) -> Target:
    """The keys that are one of these names, or a variant of one."""
    wanted = frozenset(names)
    common = os.path.commonprefix(sorted(wanted))
    # a wildcard in a name stands for itself, so what is looked for ends in front of it
    prefix = re.match(r'[^][*?]*', common)[0]
    return Target(prefix + '*', lambda key: key in wanted or name_of(key) in wanted)


EVERYTHING: Final = Target('*', lambda _key: True)


def pattern_prefix(pattern: str) -> str:
    """Return what every key that ``pattern`` matches begins with; may be empty."""
    kind, content = next(_tokens(pattern), (_ANY, ''))
    return content if kind == _TEXT else ''


# The stores narrow down the candidates, compile_pattern() decides: no translation may miss a key.


def redis_glob(pattern: str, prefix: str = '') -> str:
    """Return a pattern for ``SCAN … MATCH`` that matches at least what ``pattern`` matches.

    Redis compares bytes, so one character may be several: ``?`` becomes ``*``, and so do brackets
    with other than ASCII characters or with a backslash, which Redis reads as an escape.

    :param prefix: literal text in front of the keys
    """
    parts = [_redis_escape(prefix)]
    asterisks = 0
    for kind, content in _tokens(pattern):
        if kind == _TEXT:
            parts.append(_redis_escape(content))
        elif kind == _SOME and content.isascii() and '\\' not in content:
            parts.append('[{}]'.format(''.join(map(_redis_range, _ranges(content)))))
        elif parts[-1] != '*':
            parts.append('*')
            asterisks += 1
            if asterisks == _REDIS_MAX_ASTERISKS:
                break
    return ''.join(parts)


def _redis_escape(text: str) -> str:
    return re.sub(r'[][*?\\^-]', r'\\\g<0>', text)


def _redis_range(pair: tuple[str, str]) -> str:
    first, last = pair
    # Redis reads the ends of a range as they are, without escapes
    return _redis_escape(first) if first == last else f'{first}-{last}'


def sql_like(pattern: str) -> str:
    r"""Return a pattern for ``LIKE`` that matches at least what ``pattern`` matches.

    It begins with the literal prefix, so an index with ``text_pattern_ops`` serves it. The escape
    character is PostgreSQL's default, the backslash.
    """
    return ''.join(_LIKE_WRITERS[kind](content) for kind, content in _tokens(pattern))


_LIKE_WRITERS: Final[dict[str, Callable[[str], str]]] = {
    _ANY: lambda _content: '%',
    _ONE: lambda _content: '_',
    _SOME: lambda _content: '_',
    _TEXT: lambda text: re.sub(r'[%_\\]', r'\\\g<0>', text),
}
