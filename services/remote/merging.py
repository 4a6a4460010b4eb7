"""Several calls as one, and its answer taken apart again: exactly, or not at all.

The one idea: an answer is what the call alone would have given.

``read``         of the same model, fields and context: one read of all ids, by id
``search_read``  likewise, without limit, offset and order: the domains joined by OR, each record
                 given to those whose domain it fulfils (:mod:`.domains`), never to the others
anything else    if the other Odoo has this addon: one request to its batch API, which takes apart
                 there what it merges (:mod:`.addon`); otherwise each by itself

What may go wrong: one that cannot be judged here is made by itself (:data:`~.batcher.ALONE`).
"""

from __future__ import annotations

import copy
import typing

from .. import key_families
from . import addon
from .batcher import ALONE
from .domains import Judge, compile_domain
from .protocols import Call

MAX_IDS = 100
"""Of one ``read``, as a caller makes it; several of these are merged."""

READS = frozenset(
    (
        'read',
        'search',
        'search_read',
        'search_count',
        'name_search',
        'fields_get',
        'read_group',
        'formatted_read_group',
        'default_get',
        'has_access',
        'check_access_rights',
        'context_get',
        'search_fetch',
    )
)
"""Methods that change nothing, so that they may be tried again, shared, and kept."""

OF_RECORDS = READS - {
    'fields_get', 'default_get', 'has_access', 'check_access_rights', 'context_get'
}  # fmt: skip
"""Those that only who may read the model may call."""


class Parts(typing.NamedTuple):
    """Of a read or search_read that can be merged.

    :param ids: of a read
    :param domain: of a search_read
    """

    fields: tuple[str, ...] | None
    ids: tuple[int, ...] | None
    domain: list | None


def group_of(call: Call, has_batch_api: bool):
    """A key for what may go out together, or None."""
    parts = parts_of(call)
    if parts is not None:
        what = (call.method, call.model, parts.fields, call.context)
        return call.method, key_families.digest(what)
    return ('batch', '') if has_batch_api and call.method in addon.METHODS else None


def parts_of(call: Call) -> Parts | None:
    """What merging must know of a call; None: it is not merged."""
    if call.method == 'read' and not call.kwargs and len(call.args) == 2:
        ids, fields = call.args
        whole = all(type(id_) is int and id_ > 0 for id_ in ids)
        if whole and len(set(ids)) == len(ids) and _are_names(fields):
            return Parts(tuple(fields), tuple(ids), None)
    if call.method == 'search_read' and not call.kwargs and len(call.args) == 2:
        domain, fields = call.args
        if isinstance(domain, list) and _are_names(fields):
            return Parts(tuple(fields), None, domain)
    return None


def _are_names(fields) -> bool:
    return bool(fields) and all(isinstance(name, str) for name in fields)


def merge_reads(calls: list[Call], single) -> list:
    """:param single: ``single(call)``"""
    parts = [parts_of(call) for call in calls]
    ids = list(dict.fromkeys(id_ for part in parts for id_ in part.ids))
    rows = single(calls[0]._replace(args=(ids, list(parts[0].fields))))
    by_id = {row['id']: row for row in rows}
    return [[_own(by_id[id_]) for id_ in part.ids if id_ in by_id] for part in parts]


def merge_searches(calls: list[Call], single, describe) -> list:
    """:param describe: ``describe(model)`` returns its fields, see :mod:`.domains`"""
    described = describe(calls[0].model)
    parts = [parts_of(call) for call in calls]
    judges = [_judge(part.domain, described, calls[0].context) for part in parts]
    able = [index for index, judge in enumerate(judges) if judge is not None]
    results: list = [ALONE] * len(calls)
    if len(able) < 2:
        return results
    asked = list(parts[0].fields)
    fields = list(dict.fromkeys([*asked, *(n for i in able for n in sorted(judges[i].fields))]))
    domain = _any_of([parts[index].domain for index in able])
    rows = single(calls[0]._replace(args=(domain, fields)))
    added = set(fields).difference(asked, {'id'})
    for index in able:
        matches = judges[index].matches
        results[index] = [_own(row, added) for row in rows if matches(row)]
    return results


def _judge(domain: list, described: dict, context) -> Judge | None:
    judge = compile_domain(domain, described)
    if judge is None:
        return None
    # one that names it is asked without the condition that Odoo adds to all others
    mentioned = judge.fields.intersection(('active', 'x_active'))
    return None if mentioned and (context or {}).get('active_test', True) else judge


def _any_of(domains: list[list]) -> list:
    """The domains joined by OR."""
    if not all(domains):
        return []
    joined = ['|'] * (len(domains) - 1)
    for domain in domains:
        joined += ['&'] * (_terms(domain) - 1)
        joined += domain
    return joined


def _terms(domain: list) -> int:
    """How many terms a domain has that are joined by an AND which is not written."""
    count = 0
    for item in reversed(domain):
        if item in ('&', '|'):
            count -= 1
        elif item != '!':
            count += 1
    return count


def _own(row: dict, without=frozenset()) -> dict:
    """A copy for one caller."""
    return {name: copy.deepcopy(value) for name, value in row.items() if name not in without}
