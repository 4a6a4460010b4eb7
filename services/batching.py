"""Merging reads: one query for what several callers ask, taken apart again.

The one idea: a *merge* is made only where each caller's answer can be cut out of the common one
exactly.

* Equal calls are made once.
* ``read`` calls of one model, field set and context become one ``read`` of all their ids; each
  caller gets the rows of its ids, in its order.
* ``search_read`` calls of one model, field set and context, without limit and offset and in one and
  the same complete order, become one whose domain is the OR of theirs.  Where all domains are
  ``id in …`` the rows are dealt out by id, otherwise by what each caller's domain says of each row
  (:class:`Domains`).  Rows of a complete order keep it when some are left out.
* ``search_count`` calls of one model and context that ask for one value each of one and the same
  many2one field become one ``formatted_read_group`` by that field; a value without a group counts
  nothing.

This module knows no Odoo: ``make(call)`` computes a call, ``domains`` says which domains may be
merged and evaluates them.  The same planning serves calls to another server, where nothing can be
evaluated here.

What may go wrong: the common call fails, for one caller has asked for what it may not read, or
taking it apart does.  Then each is made by itself, and only that one fails.
"""

from __future__ import annotations

import typing

from . import keys
from .batch_calls import MAX_IDS, Call

ROWS = MAX_IDS + 1
"""What a merged search asks for: one more than a caller may get."""

GROUPED_FROM = 3
"""Counts.  Grouping 10,000 products by their category takes as long as counting two of them."""


class Domains:
    """What can be said of calls and domains here; this one can evaluate nothing, as for another
    server, so it merges by ids only, and searches only where they name their order."""

    def may_merge(self, call: Call) -> bool:
        """Whether the model reads and searches as models do, with no code of its own that might
        look at which records or which domain it was asked for."""
        return True

    def normal(self, call: Call) -> list | None:
        """A domain with what the search would add to it by itself, such as the condition on
        ``active``; None where rows found by it cannot be told from other rows exactly."""
        return None

    def select(self, call: Call, domain: list, ids: list[int]) -> set[int]:
        """Which of these records a domain of :meth:`normal` holds for, or a :class:`Failure`."""
        raise NotImplementedError

    def counted_by(self, call: Call) -> str | None:
        """The many2one field whose value is all that a count asks for, if grouping by the field
        counts the same records."""
        return None

    def order(self, call: Call) -> str | None:
        """The order of a search if it is complete, so that no two rows are equal in it, else
        None."""
        order = call.arguments.get('order', '')
        return order if is_complete(order) else None


class Failure(typing.NamedTuple):
    """A call that raised.

    :param error: what it raised
    """

    error: Exception


class Group(typing.NamedTuple):
    """Calls that become one.

    :param kind: 'one', 'read', 'ids', 'or' or 'count'
    :param calls: with their numbers in the list of different calls
    """

    kind: str
    calls: list[tuple[int, Call]]


def run(calls: list[Call], make, domains: Domains) -> list:
    """Answer calls, merged where that is exact.

    :param make: ``make(call)`` returns a value or a :class:`Failure`
    :return: one value or :class:`Failure` each, in order.  Answers of equal calls are one object.
    """
    different: dict[str, int] = {}
    numbers = [different.setdefault(keys.digest(call.form), len(different)) for call in calls]
    firsts: dict[int, Call] = {}
    for number, call in zip(numbers, calls, strict=True):
        firsts.setdefault(number, call)
    answers: dict[int, typing.Any] = {}
    for group in plan(list(firsts.items()), domains):
        answers.update(_answer(group, make, domains))
    return [answers[number] for number in numbers]


def plan(calls: list[tuple[int, Call]], domains: Domains) -> list[Group]:
    """Put together what can be merged, in the order of the first of each group."""
    groups: dict[typing.Any, Group] = {}
    for number, call in calls:
        kind, like = _kind(call, domains)
        key = (kind, number) if kind == 'one' else (kind, keys.digest(like))
        groups.setdefault(key, Group(kind, [])).calls.append((number, call))
    return [
        group if len(group.calls) >= _LEAST.get(group.kind, 2) else group._replace(kind='one')
        for group in groups.values()
    ]


_LEAST = {'count': GROUPED_FROM}


def _kind(call: Call, domains: Domains) -> tuple[str, list]:
    """How a call may be merged, and what merged calls have in common then."""
    arguments = {
        name: value for name, value in call.arguments.items() if name in ('fields', 'load')
    }
    like = [call.model, dict(sorted(arguments.items())), dict(sorted(call.context.items()))]
    if not domains.may_merge(call):
        return 'one', []
    if call.method == 'read':
        return 'read', like
    if call.method == 'search_count':
        field = None if 'limit' in call.arguments else domains.counted_by(call)
        return ('count', [*like, field]) if field else ('one', [])
    if call.method != 'search_read' or {'limit', 'offset'} & call.arguments.keys():
        return 'one', []
    order = domains.order(call)
    if order is None:
        return 'one', []
    if ids_of(call.arguments.get('domain', [])) is not None:
        return 'ids', [*like, order]
    return ('one', []) if domains.normal(call) is None else ('or', [*like, order])


def _answer(group: Group, make, domains: Domains) -> dict[int, typing.Any]:
    if group.kind == 'one':
        return {number: make(call) for number, call in group.calls}
    if group.kind == 'read':
        merged = _read_all(group, make)
    elif group.kind == 'count':
        merged = _count(group, make)
    else:
        merged = _search(group, make, domains)
    if merged is None:
        return {number: make(call) for number, call in group.calls}
    return merged


# -- by id -----------------------------------------------------------------------------


def _read_all(group: Group, make) -> dict[int, list] | None:
    ids = tuple(dict.fromkeys(id_ for _number, call in group.calls for id_ in call.ids))
    if len(ids) > MAX_IDS:
        return None
    rows = make(group.calls[0][1]._replace(ids=ids))
    if isinstance(rows, Failure):
        return None
    by_id = {row['id']: row for row in rows}
    return {
        number: [by_id[id_] for id_ in call.ids if id_ in by_id] for number, call in group.calls
    }


# -- by value --------------------------------------------------------------------------


def _count(group: Group, make) -> dict[int, int] | None:
    wanted = {number: call.arguments['domain'][0] for number, call in group.calls}
    field = wanted[group.calls[0][0]][0]
    values = sorted({value for _field, _operator, value in wanted.values()})
    arguments = {
        'domain': [[field, 'in', values]],
        'groupby': [field],
        'aggregates': ['__count'],
    }
    first = group.calls[0][1]
    rows = make(first._replace(method='formatted_read_group', arguments=arguments))
    if isinstance(rows, Failure):
        return None
    counts = {row[field][0]: row['__count'] for row in rows if row[field]}
    return {number: counts.get(value, 0) for number, (_f, _o, value) in wanted.items()}


# -- by domain -------------------------------------------------------------------------


def _search(group: Group, make, domains: Domains) -> dict[int, list] | None:
    normal = [(number, call, _domain(group, call, domains)) for number, call in group.calls]
    different = list({keys.digest(domain): domain for *_call, domain in normal}.values())
    union = any_of(different)
    first = group.calls[0][1]  # its domain is replaced
    rows = make(first._replace(arguments={**first.arguments, 'domain': union, 'limit': ROWS}))
    if isinstance(rows, Failure) or len(rows) >= ROWS:
        return None
    ids = [row['id'] for row in rows]
    answers = {}
    for number, call, domain in normal:
        wanted = ids_of(domain) if group.kind == 'ids' else domains.select(call, domain, ids)
        if isinstance(wanted, Failure):
            return None
        answers[number] = [row for row in rows if row['id'] in wanted]
    return answers


def _domain(group: Group, call: Call, domains: Domains) -> list:
    """What a row must fulfil.  Domains that only name ids stay as they are: what the search adds by
    itself is the same for all of them."""
    return call.arguments['domain'] if group.kind == 'ids' else domains.normal(call)


def is_complete(order: str) -> bool:
    """Whether an order has the id among its terms, so that no two rows are equal in it."""
    return any(term.split()[:1] == ['id'] for term in order.lower().split(','))


def ids_of(domain: list) -> set[int] | None:
    """The ids that a domain names, if it says nothing else."""
    if len(domain) != 1 or not isinstance(domain[0], list) or domain[0][0] != 'id':
        return None
    _field, operator, value = domain[0]
    if operator == '=' and type(value) is int:
        return {value}
    if operator == 'in' and isinstance(value, list) and all(type(id_) is int for id_ in value):
        return set(value)
    return None


def any_of(domains: list[list]) -> list:
    """The OR of domains in prefix notation; one ``in`` for all that only name ids."""
    ids: set[int] = set()
    rest = []
    for domain in domains:
        wanted = ids_of(domain)
        if wanted is None:
            rest.append(all_of(domain))
        else:
            ids |= wanted
    if ids or not rest:
        rest.append([['id', 'in', sorted(ids)]])
    return ['|'] * (len(rest) - 1) + [item for domain in rest for item in domain]


def all_of(domain: list) -> list:
    """A domain whose implicit ANDs are written out, so that it is one expression."""
    if not domain:
        return [[1, '=', 1]]
    missing = 1
    ands = 0
    for item in domain:
        if missing == 0:
            ands += 1
            missing = 1
        if item in ('&', '|'):
            missing += 1
        elif item != '!':
            missing -= 1
    return ['&'] * ands + list(domain)
