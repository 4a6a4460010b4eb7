"""Judging records of another Odoo by a domain, here, where that gives what it gives there.

The one idea: not all domains.  A leaf counts only if its field is stored as it is read (a number, a
yes or no, a link, a choice, a plain text, the id) and its operator compares for equality; then what
PostgreSQL does with it, NULL included, can be written down in a line.  Anything else is not judged
here.

What may go wrong: nothing is guessed; :func:`compile_domain` returns None for what it does not
know.
"""

from __future__ import annotations

import typing
from collections.abc import Callable

ATTRIBUTES = ('type', 'store', 'translate', 'company_dependent', 'relation')
"""Of fields, as ``fields_get`` tells them."""

MAX_LEAVES = 100


class Judge(typing.NamedTuple):
    """:param fields: names that ``matches`` looks at
    :param matches: ``matches(row)``, of a row as ``read`` returns it
    """

    fields: frozenset[str]
    matches: Callable[[dict], bool]


def compile_domain(domain, fields: dict[str, dict]) -> Judge | None:
    """:param fields: of the model, as ``fields_get`` tells them with :data:`ATTRIBUTES`"""
    if not isinstance(domain, list | tuple) or len(domain) > 3 * MAX_LEAVES:
        return None
    names: set[str] = set()
    stack: list[Callable] = []
    for item in reversed(domain):  # Polish notation, from its end
        if item in ('&', '|') and len(stack) >= 2:
            first, second = stack.pop(), stack.pop()
            stack.append(_all(first, second) if item == '&' else _any(first, second))
        elif item == '!' and stack:
            stack.append(_not(stack.pop()))
        else:
            leaf = _leaf(item, fields)
            if leaf is None:
                return None
            names.add(item[0])
            stack.append(leaf)
    tests = tuple(stack)
    return Judge(frozenset(names), lambda row: all(test(row) for test in tests))


def _all(first, second):
    return lambda row: first(row) and second(row)


def _any(first, second):
    return lambda row: first(row) or second(row)


def _not(test):
    return lambda row: not test(row)


def _leaf(item, fields) -> Callable[[dict], bool] | None:
    if not isinstance(item, list | tuple) or len(item) != 3:
        return None
    name, operator, value = item
    if not isinstance(name, str) or operator not in ('=', '!=', 'in', 'not in'):
        return None
    kind = _kind(name, fields)
    wanted = value if operator in ('in', 'not in') else [value]
    if not kind or not isinstance(wanted, list | tuple) or not wanted:
        return None
    empty_too = operator in ('=', '!=') and kind == 'many2one'
    if not all(_is_value(kind, one, empty_too) for one in wanted):
        return None
    known = frozenset(wanted)
    if operator in ('=', 'in'):
        return lambda row: _value(row[name]) in known
    return lambda row: _value(row[name]) not in known


def _kind(name: str, fields) -> str:
    if name == 'id':
        return 'integer'
    field = fields.get(name)
    if not field or not field.get('store', True):
        return ''
    if field.get('translate') or field.get('company_dependent'):
        return ''
    kind = field.get('type')
    return kind if kind in ('integer', 'boolean', 'many2one', 'selection', 'char') else ''


def _is_value(kind: str, value, empty_too: bool) -> bool:
    """Whether it is compared alike here and there; 0, '' and None are not: versions differ."""
    if kind == 'boolean':
        return value is True or value is False
    if kind in ('integer', 'many2one'):
        return (type(value) is int and value != 0) or (empty_too and value is False)
    return type(value) is str and value != ''


def _value(value):
    """Of a many2one its id."""
    return value[0] if isinstance(value, list | tuple) and value else value
