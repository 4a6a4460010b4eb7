"""What a program outside may ask: the calls of a batch, checked before anything is computed.

The one idea: a call that comes out of :func:`parse` is one of five read methods with arguments of
the right types and a bounded size, so that what computes it need not fear it.  Whatever is wrong is
a :class:`BadCall` with a status of HTTP and a sentence for who wrote the program.

What may go wrong: something wrong that only the ORM can tell (no such field, no access).  It says
so, and the error becomes the call's own answer.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping

MAX_CALLS = 100
"""Calls in one request: as many as what is read in one go to show a page, or to follow a list."""

MAX_IDS = 10_000
"""Ids or values in one list; also rows of one answer.  More is an export: page through it."""

MAX_LEAVES = 500
"""Conditions in one domain, sub-domains included; a person's filter has ten."""

MAX_DEPTH = 20
"""How deep a domain is nested; a chain of the same operator counts once, a dot in a path too."""

LINK_LEAVES = 5
"""A step into another model (a dot in a path, ``any``) counts as so many conditions, so that a
domain has at most a hundred.  PostgreSQL makes a join of each; planning 2,000 of them took 20 GB,
and no time limit of a statement stopped it."""

MAX_FIELDS = 500
"""Names in one list; ``res.partner`` with every app has some 400 fields."""

MAX_TEXT = 10_000
"""Characters of one text."""

MAX_ID = 2**31 - 1
"""Of the type ``int4``, which PostgreSQL keeps ids in."""

MAX_NUMBER = 2**63 - 1

MAX_JSON_DEPTH = 60
"""How deep values may be nested; two more than a domain of :data:`MAX_DEPTH` needs in JSON."""

_OPERATORS = ('&', '|', '!')


class BadCall(ValueError):
    """:param status: of HTTP
    :param message: a sentence
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status
        self.message = message


class Call(typing.NamedTuple):
    """:param ids: of ``read``, else None
    :param arguments: named, only those that were given
    :param context: as it was given
    """

    model: str
    method: str
    ids: tuple[int, ...] | None
    arguments: dict
    context: dict

    @property
    def form(self) -> list:
        """In types that have a canonical form, for keys."""
        arguments = dict(sorted(self.arguments.items()))
        context = dict(sorted(self.context.items()))
        return [self.model, self.method, self.ids, arguments, context]


def parse_batch(body) -> list:
    """The raw calls in the body of a request.

    :param body: what JSON gave
    :raise BadCall: it is no batch at all
    """
    if not isinstance(body, dict):
        raise BadCall('The body must be an object such as {"calls": [...]}.')
    unknown = body.keys() - {'calls'}
    if unknown:
        raise BadCall(f'There is no {_show(min(unknown))} in a batch, only "calls".')
    raw = body.get('calls')
    if not isinstance(raw, list) or not raw:
        raise BadCall('"calls" must be a list of at least one call.')
    if len(raw) > MAX_CALLS:
        raise BadCall(f'A batch has at most {MAX_CALLS} calls, and this one {len(raw)}.')
    return raw


def parse(raw) -> Call:
    """One call.

    :raise BadCall: with a sentence
    """
    if not isinstance(raw, dict):
        raise BadCall('A call must be an object such as {"model": …, "method": …}.')
    _check_depth(raw)
    unknown = raw.keys() - {'model', 'method', 'ids', 'arguments', 'context'}
    if unknown:
        raise BadCall(
            f'There is no {_show(min(unknown))} in a call, only "model", "method", "ids", '
            '"arguments" and "context".'
        )
    model, method = raw.get('model'), raw.get('method')
    if not isinstance(model, str) or not 0 < len(model) <= 200 or not model.isprintable():
        raise BadCall('"model" must be the technical name of a model, such as "res.partner".')
    if not isinstance(method, str) or method not in METHODS:
        raise BadCall(
            f'The method {_show(method)} cannot be called in a batch. These can: '
            f'{", ".join(METHODS)}.'
        )
    arguments, context = raw.get('arguments', {}), raw.get('context', {})
    if not isinstance(arguments, dict):
        raise BadCall('"arguments" must be an object with the arguments by their names.')
    if not isinstance(context, dict):
        raise BadCall('"context" must be an object.')
    _check_context(context)
    return Call(model, method, _ids(raw, method), _arguments(method, arguments), context)


def _check_context(context: dict) -> None:
    _check_value(context, 'the context')
    for name in ('lang', 'tz'):
        value = context.get(name)
        if value is not None and value is not False and not isinstance(value, str):
            raise BadCall(f'"{name}" in the context must be a text.')
    companies = context.get('allowed_company_ids', [])
    if not isinstance(companies, list) or not all(
        type(id_) is int and 0 < id_ <= MAX_ID for id_ in companies
    ):
        raise BadCall('"allowed_company_ids" in the context must be a list of ids.')


def _ids(raw: dict, method: str) -> tuple[int, ...] | None:
    if method != 'read':
        if 'ids' in raw:
            raise BadCall(f'"ids" are for read, and not for {method}.')
        return None
    ids = raw.get('ids')
    if not isinstance(ids, list) or not all(type(id_) is int and 0 < id_ <= MAX_ID for id_ in ids):
        raise BadCall(f'"ids" must be a list of whole numbers between 1 and {MAX_ID}.')
    if len(ids) > MAX_IDS:
        raise BadCall(f'At most {MAX_IDS} ids can be read in one call, and these are {len(ids)}.')
    return tuple(ids)


def _arguments(method: str, arguments: dict) -> dict:
    checks = METHODS[method]
    unknown = arguments.keys() - checks.keys()
    if unknown:
        raise BadCall(
            f'The method {method} has no argument {_show(min(unknown))}; it has: '
            f'{", ".join(checks)}.'
        )
    # null says as much as nothing, as it does where Odoo's own default is None
    return {
        name: checks[name](name, value) for name, value in arguments.items() if value is not None
    }


# -- arguments -------------------------------------------------------------------------


def _domain(name: str, value):
    check_domain(name, value)
    return value


def check_domain(name: str, value) -> None:
    """:raise BadCall: unless ``value`` is a domain of a bounded size"""
    if not isinstance(value, list):
        raise BadCall(f'"{name}" must be a domain, which is a list.')
    leaves, _depth, _operator = _measure(name, value, 0)
    if leaves > MAX_LEAVES:
        raise BadCall(
            f'A domain has at most {MAX_LEAVES} conditions, a step into another model counting as '
            f'{LINK_LEAVES}; this {name} has {leaves}.'
        )


def _measure(name: str, domain: list, level: int) -> tuple[int, int, str]:
    """Conditions, depth, and operator at the top of a domain."""
    if level > MAX_DEPTH:
        raise BadCall(f'A domain is at most {MAX_DEPTH} levels deep; this {name} is deeper.')
    if len(domain) > 2 * MAX_LEAVES:
        raise BadCall(
            f'A domain has at most {MAX_LEAVES} conditions; this {name} has {len(domain)} items.'
        )
    stack: list[tuple[int, int, str]] = []
    for item in reversed(domain):
        if item in _OPERATORS:
            stack.append(_combine(name, item, stack))
        else:
            stack.append(_leaf(name, item, level))
        if stack[-1][1] + level > MAX_DEPTH:
            raise BadCall(f'A domain is at most {MAX_DEPTH} levels deep; this {name} is deeper.')
    return sum(part[0] for part in stack), max((part[1] for part in stack), default=0), '&'


def _combine(name: str, operator: str, stack: list) -> tuple[int, int, str]:
    count = 1 if operator == '!' else 2
    if len(stack) < count:
        raise BadCall(f'In this {name} the operator {operator!r} lacks a condition.')
    parts = [stack.pop() for _ in range(count)]
    depth = max(part[1] + (part[2] != operator or operator == '!') for part in parts)
    return sum(part[0] for part in parts), depth, operator


def _leaf(name: str, item, level: int) -> tuple[int, int, str]:
    if not isinstance(item, list) or len(item) != 3:
        raise BadCall(
            f'A condition of this {name} must be a list of field, operator and value, such as '
            f'["name", "=", "Azure"], and not {_show(item)}.'
        )
    field, operator, value = item
    if type(field) is int and type(value) is int and operator == '=':
        return 1, 0, ''  # (1, '=', 1) and (0, '=', 1): true and false
    if not isinstance(field, str) or not isinstance(operator, str):
        raise BadCall(f'Field and operator of a condition must be texts: {_show(item)}.')
    if operator in ('any!', 'not any!'):
        raise BadCall(f'The operator {operator!r} is not for programs outside.')
    _check_value(field, name)
    steps = field.count('.')
    if operator in ('any', 'not any'):
        if not isinstance(value, list):
            raise BadCall(f'The operator {operator!r} takes a domain.')
        steps += 1
        leaves, depth, _operator = _measure(name, value, level + steps)
        return leaves + LINK_LEAVES * steps, depth + steps, ''
    _check_value(value, name)
    return 1 + LINK_LEAVES * steps, steps, ''


def _names(name: str, value):
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadCall(f'"{name}" must be a list of texts.')
    if len(value) > MAX_FIELDS:
        raise BadCall(f'"{name}" has at most {MAX_FIELDS} names, and these are {len(value)}.')
    steps = [item.count('.') for item in value]
    if max(steps, default=0) > MAX_DEPTH or LINK_LEAVES * sum(steps) > MAX_LEAVES:
        raise BadCall(
            f'A path in "{name}" has at most {MAX_DEPTH} steps, and all of them '
            f'{MAX_LEAVES // LINK_LEAVES}.'
        )
    _check_value(value, name)
    return value


def _text(name: str, value):
    if not isinstance(value, str):
        raise BadCall(f'"{name}" must be a text.')
    _check_value(value, name)
    return value


def _limit(name: str, value):
    if type(value) is not int or not 0 < value <= MAX_IDS:
        raise BadCall(f'"{name}" must be a whole number between 1 and {MAX_IDS}.')
    return value


def _offset(name: str, value):
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise BadCall(f'"{name}" must be a whole number between 0 and {MAX_ID}.')
    return value


def _load(name: str, value):
    if value not in ('', '_classic_read', False):
        raise BadCall(f'"{name}" must be "_classic_read", or "" for ids without names.')
    return value


def _check_value(value, name: str) -> None:
    """A value that neither PostgreSQL nor the ORM stumbles over."""
    if isinstance(value, str):
        _check_text(value, name)
    elif isinstance(value, list):
        if len(value) > MAX_IDS:
            raise BadCall(f'A list in {name} has {len(value)} items; {MAX_IDS} are possible.')
        for item in value:
            _check_value(item, name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_value(key, name)
            _check_value(item, name)
    elif isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
        raise BadCall(f'A number in {name} has too many digits.')


def _check_text(value: str, name: str) -> None:
    if len(value) > MAX_TEXT:
        raise BadCall(f'A text in {name} has {len(value)} characters; {MAX_TEXT} are possible.')
    if '\0' in value:
        raise BadCall(f'A text in {name} holds the character 0, which no record can hold.')
    if not value.isascii() and any('\ud800' <= char <= '\udfff' for char in value):
        raise BadCall(f'A text in {name} holds half of a character, and cannot be looked for.')


def _check_depth(value) -> None:
    """Without recursion, since the depth is what is doubtful."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_JSON_DEPTH:
            raise BadCall(f'Values are nested deeper than {MAX_JSON_DEPTH} levels.')
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, list | dict)
        ]


def _show(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:60]}…'


METHODS: typing.Final = {
    'search_read': {
        'domain': _domain,
        'fields': _names,
        'offset': _offset,
        'limit': _limit,
        'order': _text,
        'load': _load,
    },
    'read': {'fields': _names, 'load': _load},
    'search_count': {'domain': _domain, 'limit': _limit},
    'name_search': {'name': _text, 'domain': _domain, 'operator': _text, 'limit': _limit},
    'formatted_read_group': {
        'domain': _domain,
        'groupby': _names,
        'aggregates': _names,
        'having': _domain,
        'offset': _offset,
        'limit': _limit,
        'order': _text,
    },
}
"""What may be called, with what checks each argument."""
