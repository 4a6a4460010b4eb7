"""A sample of what is kept, compared with the database.  For ``odoo-bin cache check``.

The one idea: an entry that a reader would be served *now* is held against what the database
shows in the same snapshot.  The call itself cannot be rebuilt, since a key is a digest; but what
``read`` and its relatives have returned are rows, and the stored columns of a row are the same
whatever the call was.  So these are read again, as the user of the entry, and compared by value
and type.  Of other entries all is verified that can be: seal, checksum, format, key, dependencies
and versions, the packed value.

What may go wrong: a model that changes its own values in ``read``, by the context: what a plain
read as the superuser gives counts too, and translated, company-dependent and computed fields are
left out.  An entry that is not valid now is no fault, whatever is in it.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator

from odoo.exceptions import AccessError, MissingError

from . import codec, reading, versions, walking
from .auditor import same
from .entry import FLAG_SUPERUSER, FLAG_TAGGED, Entry
from .inspection import ERROR, OK, WARNING, Finding
from .keys import EVERYTHING

ROW_METHODS = ('read', 'web_read', 'search_read', 'web_search_read')
"""Methods that return rows of fields by name."""

_TYPES = frozenset(
    ['boolean', 'integer', 'float', 'monetary', 'char', 'text', 'date', 'datetime', 'selection']
    + ['many2one']
)

_MAX_STEPS = 50
"""Steps through the keys of a tier, of 1,000 each, from which the sample is taken."""

_MAX_ROWS = 200
"""Rows of one entry that are compared."""

_CLOCK_SLACK_S = 60.0

_DAMAGE = ('forged', 'corrupt', 'oversized', 'wrongtype')


class Wrong(ValueError):
    """What is wrong with an entry; a sentence without values, which may be private."""


@dataclasses.dataclass
class Report:
    """:ivar compared: entries whose rows were read again
    :ivar verified: valid entries of which only the form could be looked at
    :ivar outdated: entries that nobody would be served
    """

    compared: int = 0
    verified: int = 0
    outdated: int = 0


def check(engine, env, size: int) -> Iterator[Finding]:
    """Look at up to ``size`` entries of each shared tier.

    :param env: of the superuser, in a transaction that has not written
    """
    state = versions.VersionBook().look(env.cr)
    if state is None or size <= 0:
        return
    for name, tier in walking.readable(engine).items():
        report = Report()
        for key, entry in _sample(tier, size):
            try:
                _examine(engine, env, state, key, entry, report)
            except Wrong as wrong:
                yield Finding(
                    'entries',
                    ERROR,
                    f"{name.upper()}: {key} (user {entry.uid}): {wrong}. Remove it with \"cache"
                    " invalidate\", and tell the authors of Tiered Cache.",
                )
        tier.close()
        for kind, count in sorted(tier.faults.items()):
            yield Finding(
                'entries',
                ERROR if kind in _DAMAGE else WARNING,
                f"{name.upper()}: {count} × {kind}"
                + (": somebody else writes there; these values were removed."
                   if kind in _DAMAGE else "; not all could be looked at."),
            )  # fmt: skip
        yield Finding(
            'entries',
            OK,
            f"{name.upper()}: {report.compared} entries compared with the database,"
            f" {report.verified} verified in form and version, {report.outdated} outdated (nobody"
            " is served them).",
        )


def _sample(tier, size: int) -> Iterator[tuple[str, Entry]]:
    found = []
    for step, names in enumerate(walking.keys_of(tier, EVERYTHING)):
        found += (name for name in names if name.startswith('v1:'))
        if step >= _MAX_STEPS:
            break
    for key in random.sample(found, min(size, len(found))):
        yield from tier.get_many([key]).items()


def _examine(engine, env, state, key: str, entry: Entry, report: Report) -> None:
    _check_form(engine, entry, key)
    value = _value(entry)
    if reading.judge(engine, entry, state, False)[0]:
        report.outdated += 1
        return
    _check_dependencies(engine, entry)
    rows = _rows(env, entry, value)
    if rows is None:
        report.verified += 1
        return
    with reading.plain_reads():
        _compare(env, entry, rows)
    report.compared += 1


def _check_form(engine, entry: Entry, key: str) -> None:
    if entry.created > time.time() + _CLOCK_SLACK_S:
        raise Wrong("it was made in the future: the clocks of the servers differ")
    if entry.expires - entry.created > engine.config.longest_ttl_s + 1:
        raise Wrong("it lives longer than any option allows")
    if key.startswith('v1:orm:') and not key.startswith(f'v1:orm:{entry.model}:{entry.method}:'):
        raise Wrong(f"its key does not fit {entry.model}.{entry.method}")


def _value(entry: Entry):
    try:
        value = codec.unpack(entry.payload)
    except codec.CorruptPayload:
        raise Wrong("its value cannot be unpacked") from None
    return value[0] if entry.flags & FLAG_TAGGED and type(value) is tuple else value


def _check_dependencies(engine, entry: Entry) -> None:
    always = set().union(*map(engine.catalogue.tree, engine.always))
    missing = always - {name for name, _version, _condition in entry.dependencies}
    if missing:
        raise Wrong(f"it does not depend on {min(missing)}, as every entry must")


# -- rows ------------------------------------------------------------------------------


def _rows(env, entry: Entry, value) -> list[dict] | None:
    """The rows of an entry, None where it has none that can be read again."""
    if not entry.key.startswith('v1:orm:') or entry.method not in ROW_METHODS:
        return None
    if isinstance(value, dict):
        value = value.get('records')
    model = env.get(entry.model)
    if model is None or model._abstract or not isinstance(value, list):
        return None
    rows = [row for row in value[:_MAX_ROWS] if isinstance(row, dict)]
    return rows if all(type(row.get('id')) is int for row in rows) else None


def _compare(env, entry: Entry, rows: list[dict]) -> None:
    names = _comparable(env[entry.model], rows)
    ids = [row['id'] for row in rows]
    here = _records(env, entry).browse(ids)
    gone = set(ids) - set(here.sudo().exists().ids)
    if gone:
        raise Wrong(f"it holds {entry.model} {min(gone)}, which is not in the database")
    current = _read(here, names)
    for row in rows:
        for name in names & row.keys():
            expected = current[row['id']][name]
            if not same(_plain(row[name]), expected) and not same(
                _plain(row[name]), _read(here.sudo().browse(row['id']), {name})[row['id']][name]
            ):
                raise Wrong(f"{name} of {entry.model} {row['id']} is not what the database says")


def _records(env, entry: Entry):
    """The model as the user of the entry sees it, in all of their companies."""
    user = env['res.users'].browse(entry.uid).exists()
    if not user or entry.flags & FLAG_SUPERUSER:
        return env[entry.model]
    context = {'active_test': False, 'allowed_company_ids': user.company_ids.ids}
    return env(user=user.id, su=False, context=context)[entry.model]


def _comparable(model, rows: list[dict]) -> set[str]:
    """Names of fields whose value depends on nothing but the row."""
    names = set().union(*(row.keys() for row in rows)) if rows else set()
    return {
        name
        for name in names
        if (field := model._fields.get(name))
        and field.store
        and field.column_type
        and field.type in _TYPES
        and not field.translate
        and not field.company_dependent
    }


def _read(records, names: set[str]) -> dict[int, dict]:
    records.env.invalidate_all(flush=False)
    try:
        rows = records.read(sorted(names), load='')
    except (AccessError, MissingError):
        # other companies than those of now, or the rights of a group that the call had
        rows = records.sudo().read(sorted(names), load='')
    return {row['id']: row for row in rows}


def _plain(value):
    """A many2one as its id, however the call wanted it."""
    if isinstance(value, dict):
        return value.get('id', False)
    if isinstance(value, list | tuple) and value:
        return value[0]
    return value
