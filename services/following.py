"""What has changed since: so that a cache outside can follow this database.

The one idea: a *cursor* holds what the asker's snapshot showed, as keyed digests of the versions of
the tables behind each model.  The next question compares them with what its own snapshot shows.
Nothing is remembered here, no change is missed between two questions, and none is told that was
rolled back.

For single ids the cursor also holds digests of PostgreSQL's ``xmin`` of their rows, which is
another one after each change, however it was made.  For whole models it holds a mark, by which the
rows are found that were written since (:mod:`.changed_rows`), where that can be proven.

==========================  ================================================================
what counts as a change     of a model: a row of its table, of a model that it inherits from
                            by delegation, or of a table that holds its many2many fields.
what does not               what its computed fields read elsewhere: ETags of answers tell that
what is told too much       for ids: a change to a many2many table names all of them; VACUUM FULL
                            and a restored database name all of them once
==========================  ================================================================

What may go wrong: a table has no triggers yet.  Until it has, its model counts as changed.
"""

from __future__ import annotations

import base64
import typing

import msgpack

from odoo.tools import SQL

from . import changed_rows, keys, reading, serving
from .batch import check_model
from .batch_calls import MAX_ID, BadCall
from .journal import ALL
from .transaction import state_of

MAX_MODELS = 50
"""In one question: its cursor stands in an address, which many proxies limit to 8 kB."""

MAX_IDS = 200
"""In one question, all models together, for the same reason."""

_FORMAT = 1

_DIGEST_BYTES = 6


class Asked(typing.NamedTuple):
    """:param ids: which of the model's records, or None: all of them"""

    model: str
    ids: tuple[int, ...] | None


def parse_models(env, text: str) -> list[Asked]:
    """What ``models=res.country,res.partner:7:8`` asks for.

    :raise BadCall: with a sentence
    """
    asked = [_parse_one(part) for part in text.split(',') if part.strip()]
    if not asked:
        raise BadCall('Say which models: models=res.country,res.partner:7:8')
    if len(asked) > MAX_MODELS or len({one.model for one in asked}) < len(asked):
        raise BadCall(f'"models" names at most {MAX_MODELS} models, each of them once.')
    if sum(len(one.ids or ()) for one in asked) > MAX_IDS:
        raise BadCall(f'"models" names at most {MAX_IDS} ids.')
    for one in asked:
        check_model(env, one.model)
        if not env[one.model]._auto and one.ids is not None:
            raise BadCall(f'{one.model} has no table of its own: ask for it without ids.')
    return asked


def _parse_one(text: str) -> Asked:
    model, *ids = text.strip().split(':')
    if not ids:
        return Asked(model, None)
    if not all(
        id_.isascii() and id_.isdecimal() and len(id_) <= 10 and 0 < int(id_) <= MAX_ID
        for id_ in ids
    ):
        raise BadCall(f'Ids follow the model with colons, such as res.partner:7:8, not {text!r}.')
    return Asked(model, tuple(dict.fromkeys(map(int, ids))))


def answer(engine, env, asked: list[Asked], since: str) -> dict:
    """What has changed since a cursor was given.

    :param since: the cursor of an earlier answer, or ''
    :return: ``cursor`` for the next question; ``changed``: by model ``{"ids": […], "gone": […]}``,
        those that changed and those that are not there any more (or may not be seen), or ``true``:
        any of them, which is never said to a question with ids; ``all``: true where everything
        counts as changed, since nothing is known of before
    :raise BadCall: a cursor that is none
    :raise AccessError: the user may not read a model
    """
    before = _decode(since)
    for one in asked:
        env[one.model].check_access('read')
    versions = None
    if engine is not None:
        versions, _why = reading.look(engine, env.cr, state_of(env.cr))
    if versions is None:
        return {'cursor': '', 'all': True, 'changed': {one.model: True for one in asked}}
    after, changed = {}, {}
    for one in asked:
        state = _State(engine, env, one, versions)
        known = before.get(one.model)
        found = state.changes(known)
        if found:
            changed[one.model] = found
        after[one.model] = state.as_list(known)
    return {'cursor': _encode(after), 'all': not before, 'changed': changed}


class _State:
    """What a snapshot shows of a model.

    :ivar rows: a digest of the versions of the tables that hold its rows, or None: unknown
    :ivar links: likewise of those that hold its many2many fields
    """

    def __init__(self, engine, env, asked: Asked, versions):
        self._engine, self._env, self._asked = engine, env, asked
        self._model = env[asked.model]
        self._tables = [self._model._table, *(env[name]._table for name in self._model._inherits)]
        links = {
            field.relation
            for field in self._model._fields.values()
            if field.type == 'many2many' and field.store and getattr(field, 'relation', None)
        }
        self._versions = versions
        self.rows = self._digest(versions, self._tables)
        self.links = self._digest(versions, sorted(links))
        self._ids: dict[int, bytes] | None = None

    def _digest(self, versions, relations) -> bytes | None:
        tree = self._engine.catalogue.tree
        relations = sorted(set().union(*map(tree, relations)))
        missing = {name for name in relations if name not in versions.versions}
        if missing:
            self._engine.guards.want(missing)
            return None
        known = [(name, versions.versions[name]) for name in (ALL, *relations)]
        return self._keyed([self._asked.model, self._env.registry.registry_sequence, known])

    def _keyed(self, value) -> bytes:
        data = keys.canonical_bytes(value)
        return bytes.fromhex(serving.keyed(self._engine, data, _DIGEST_BYTES))

    def changes(self, before: list | None):
        """What is to be told, given what the cursor holds of the model."""
        prior = set(before[3] or ()) if before else set()
        same = bool(before) and None not in (self.rows, self.links) and before[1] == self.links
        if same and before[0] == self.rows and prior.issuperset(self._asked.ids or ()):
            return None
        if self._asked.ids is None:
            return self._written_since(before) if same else True
        known, now = (before and before[2]) or {}, self.ids
        changed, gone = [], []
        for id_ in self._asked.ids:
            if id_ not in now:
                if id_ in known or id_ not in prior:
                    gone.append(id_)
            elif not same or id_ not in prior or known.get(id_) != now[id_]:
                changed.append(id_)
        return {'ids': changed, 'gone': gone} if changed or gone else None

    # -- whole models ------------------------------------------------------------------

    def _written_since(self, before: list):
        """What is to be told of a model of which nothing but rows has changed."""
        ids = None
        if before[2] and self._model._auto:
            ids = changed_rows.since(*self._looked_at, before[2], MAX_IDS)
        if ids is None:
            return True
        everybody = self._model.with_context(active_test=False)
        seen = everybody.search([('id', 'in', ids)], order='id')._ids if ids else ()
        gone = sorted(set(ids).difference(seen))
        return {'ids': list(seen), 'gone': gone} if ids else None

    @property
    def _looked_at(self) -> tuple:
        """For :mod:`.changed_rows`."""
        tree, versions = self._engine.catalogue.tree, self._versions.versions
        relations = sorted(set().union(*map(tree, self._tables)))
        sequence = self._env.registry.registry_sequence
        return (
            self._env.cr,
            changed_rows.Tables.of(self._model),
            {name: versions[name] for name in (ALL, *relations)},
            lambda value: self._keyed([self._asked.model, sequence, value]),
        )

    def _mark(self, before: list | None) -> dict | None:
        if self.rows is None or not self._model._auto:
            return None
        if before is not None and before[0] == self.rows and before[2]:
            return before[2]
        return changed_rows.mark(*self._looked_at)

    # -- single ids --------------------------------------------------------------------

    @property
    def ids(self) -> dict[int, bytes]:
        """By id that is there and may be seen, a digest of its rows."""
        if self._ids is None:
            self._ids = self._read_ids()
        return self._ids

    def _read_ids(self) -> dict[int, bytes]:
        model = self._model.with_context(active_test=False)
        seen = model.search([('id', 'in', self._asked.ids)], order='id')._ids
        if not seen:
            return {}
        own = SQL.identifier(self._model._table)
        columns, joins = [SQL("%s.xmin::text", own)], []
        for number, (name, field) in enumerate(self._model._inherits.items()):
            alias = SQL.identifier(f'parent_{number}')
            table, key = SQL.identifier(self._env[name]._table), SQL.identifier(field)
            joins.append(SQL("LEFT JOIN %s %s ON %s.id = %s.%s", table, alias, alias, own, key))
            columns.append(SQL("%s.xmin::text", alias))
        self._env.cr.execute(
            SQL(
                "SELECT %s.id, %s FROM %s %s WHERE %s.id IN %s",
                own, SQL(', ').join(columns), own, SQL(' ').join(joins), own, seen,
            )
        )  # fmt: skip
        return {
            id_: self._keyed([self._asked.model, id_, *parts])
            for id_, *parts in self._env.cr.fetchall()
        }

    def as_list(self, before: list | None) -> list:
        """For the cursor."""
        if self._asked.ids is None:
            return [self.rows, self.links, self._mark(before), None]
        same = before is not None and before[:2] == [self.rows, self.links] and self._ids is None
        ids = before[2] if same and before[2] is not None else self.ids
        ids = {id_: ids[id_] for id_ in self._asked.ids if id_ in ids}
        return [self.rows, self.links, ids, list(self._asked.ids)]


def _encode(states: dict) -> str:
    packed = msgpack.packb([_FORMAT, states])
    return base64.urlsafe_b64encode(packed).rstrip(b'=').decode()


def _decode(text: str) -> dict:
    """:raise BadCall: this module has never written that"""
    if not text:
        return {}
    try:
        data = base64.urlsafe_b64decode(text.encode('ascii') + b'=' * (-len(text) % 4))
        number, states = msgpack.unpackb(data, strict_map_key=False)
        good = number == _FORMAT and all(_is_state(state) for state in states.values())
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException):
        good = False
    if not good:
        raise BadCall('"since" must be the cursor of an earlier answer; leave it out to begin.')
    return states


def _is_state(state) -> bool:
    return (
        isinstance(state, list)
        and len(state) == 4
        and all(part is None or isinstance(part, bytes) for part in state[:2])
        and (state[2] is None or isinstance(state[2], dict))
        and (state[3] is None or isinstance(state[3], list))
        and all(isinstance(id_, int) for id_ in state[3] or ())
    )
