"""Events: what has happened to records, told once it is committed.

The one idea: an event is plain values, and what a subscriber does with it is a transaction of
its own.  After the commit the request's cursor is in a new transaction that nobody will commit,
so a subscriber is called on an empty recordset of its model with another cursor, committed when
it returns:

    from odoo.addons.tiered_cache.services.events import on_event

    class Partner(models.Model):
        _inherit = 'res.partner'

        @on_event('res.partner.updated', fields=['email'])
        def _push_new_address(self, event):
            self.env['my.queue'].create({'partner_ids': event.ids})

Each transaction gives one event per name and model, see :mod:`.event_log`; nothing is kept of
models that nobody listens to.

What may go wrong: a subscriber raises.  Its transaction is rolled back, the log says so, and the
others are called all the same; the change itself was committed long ago.  A worker that is
killed after the commit calls nobody: what must not be missed belongs into a rule
(:mod:`.event_rules`), or into the transaction itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
import typing

import psycopg2

from odoo import api

from . import journal
from .engine import _OFF, engine_for
from .event_log import LOG_COLUMNS, EventLog
from .event_names import CREATED, DELETED, UPDATED, can_be_emitted, is_event_name, sources_of
from .event_rules import (
    Gone,
    Listener,
    emitted_listener,
    listener_of,
    look_before_deletion,
    note_before,
    note_deletion,
    read_rules,
    read_rules_if_any,
    settle,
)
from .transaction import state_of

_logger = logging.getLogger(__name__)

_SLOT = '_tiered_cache_events'
_MARK = '_tiered_cache_on_event'

MAX_DEPTH = 5
"""Subscribers may write, and so cause events, whose subscribers may write …"""

RULES_MAX_AGE_S = 60.0
"""Rules are read again after this time also where no signal came: a worker may have been killed
between its commit and the signal."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """What has happened in one transaction to records of one model.

    :param name: 'res.partner.updated', 'SUPPLIER_UPDATED'
    :param model: of the records
    :param ids: sorted; after a deletion there are no such records any more
    :param fields: names of the fields that were changed of records that existed before
    :param uid: of the user who did it, the first one if there were several
    :param database: its name
    """

    name: str
    model: str
    ids: tuple[int, ...]
    fields: frozenset[str]
    uid: int
    database: str


# -- subscribing -------------------------------------------------------------------------------


def on_event(*names: str, fields=()):
    """Decorate a method of a model to be called with an :class:`Event` after the commit.

    :param names: of events; see :mod:`.event_names`
    :param fields: only for updates of one of these fields
    :raise ValueError: a name that is none, or fields of an event that is no update

    An override of the method in another module is called in its place, decorated or not.
    """
    for name in names:
        if not is_event_name(name):
            raise ValueError(f'{name!r} is no event: res.partner.updated, or a name in capitals.')
        if fields and not name.endswith(f'.{UPDATED}'):
            raise ValueError(f'{name!r} does not always tell fields; look at event.fields.')

    def decorate(method):
        setattr(method, _MARK, (*getattr(method, _MARK, ()), (names, frozenset(fields))))
        _decorated_names.add(method.__name__)
        return method

    return decorate


_decorated_names: set[str] = set()
"""Of all methods of this process, so that the models of a registry are looked through for these
only."""


class Subscription(typing.NamedTuple):
    model: str
    method: str
    fields: frozenset[str]


def _subscriptions(registry) -> dict[str, list[Subscription]]:
    found: dict[str, dict[tuple, Subscription]] = {}
    for model, cls in registry.models.items() if _decorated_names else ():
        for method in sorted(_decorated_names):
            for definition in reversed(cls.mro()):
                # models that inherit from this one under another name have no part in it
                if getattr(definition, '_name', None) != model:
                    continue
                for names, fields in getattr(vars(definition).get(method), _MARK, ()):
                    for name in names:
                        # once, also where an override is decorated again
                        calls = found.setdefault(name, {})
                        calls[model, method] = Subscription(model, method, fields)
    return {name: list(calls.values()) for name, calls in found.items()}


# -- who listens to what -----------------------------------------------------------------------


class Book:
    """Rules and subscriptions of one database, and what they want of each model."""

    def __init__(self, registry, rules, sequence):
        self.rules = rules
        self.subscriptions = _subscriptions(registry)
        self.sequence = sequence
        self.read_at = time.monotonic()
        self._listeners: dict[str, Listener | None] = {}

    def listener(self, model) -> Listener | None:
        name = model._name
        if name not in self._listeners:
            self._listeners[name] = listener_of(model, self.rules, self.subscriptions)
        return self._listeners[name]


def book_for(env) -> Book | None:
    """Who listens in a database; None while modules are loaded or this one is uninstalled."""
    registry = env.registry
    if not registry.ready or _OFF in registry.__dict__:
        return None
    book = registry.__dict__.get(_SLOT)
    if book is not None and book.sequence == registry.cache_sequences.get('default'):
        if time.monotonic() - book.read_at > RULES_MAX_AGE_S:
            _read_again_later(registry, book)
        return book
    return _read_book(env)


def _read_book(env) -> Book | None:
    registry = env.registry
    engine = engine_for(registry)
    if engine is None:
        return None
    sequence = registry.cache_sequences.get('default')
    try:
        with contextlib.closing(engine.cursor()) as cr:
            rules = read_rules(cr)
    except psycopg2.errors.UndefinedTable:
        rules = []  # the code is newer than the database: the module is to be upgraded
    except Exception:  # noqa: BLE001 no connection: then the caller's must do
        engine.log_once(
            'event rules',
            "Tiered Cache has no connection to read its event rules, and reads them in the "
            "transactions that it serves.",
            exc_info=True,
        )
        return Book(registry, read_rules_if_any(env.cr), None)
    book = registry.__dict__[_SLOT] = Book(registry, rules, sequence)
    return book


def _read_again_later(registry, book: Book) -> None:
    engine = engine_for(registry)
    if engine is None:
        return
    book.read_at = time.monotonic()

    def read():
        with engine.cursor() as cr:
            rules = read_rules(cr)
        if rules != book.rules and registry.__dict__.get(_SLOT) is book:
            registry.__dict__[_SLOT] = Book(registry, rules, book.sequence)

    engine.outbox.post_job('event rules', read)


# -- noting what happens -----------------------------------------------------------------------


class Watch:
    """What the ORM hooks tell of a model that somebody listens to, in one transaction."""

    __slots__ = ('_listener', '_log')

    def __init__(self, log: EventLog, listener: Listener):
        self._log = log
        self._listener = listener

    def _change(self, records):
        change = self._log.change(records.env.cr, records._name, self._listener)
        change.uids.setdefault(records.env.uid)
        return change

    def created(self, records, data_list) -> None:
        """Rows were inserted; also called when ``_create`` has raised, since the caller may go
        on without a rollback."""
        ids = [data['record'].id for data in data_list if 'record' in data]
        if ids:
            self._change(records).created.update(ids)

    def writing(self, records, vals_list) -> None:
        """Rows are about to be updated, by ``write`` or by recomputation."""
        change = self._log.change(records.env.cr, records._name, self._listener)
        if not change.uids:
            change.uids[records.env.uid] = None
        wanted = self._listener.columns
        ids = []
        for id_, vals in zip(records._ids, vals_list, strict=True):
            names = vals.keys() - LOG_COLUMNS
            change.update(id_, names)
            if not wanted.isdisjoint(names) and id_ not in change.created:
                ids.append(id_)
        if ids:
            note_before(change, records, ids, wanted)

    def wrote(self, records, vals) -> None:
        """``write`` has returned; columns are told by :meth:`writing`, when they differ."""
        fields = records._fields
        names = [
            name
            for name in vals
            if (field := fields.get(name)) and not (field.store and field.column_type)
        ]
        ids = [id_ for id_ in records._ids if isinstance(id_, int)]
        if ids:
            change = self._change(records)
            for id_ in ids if names else ():
                change.update(id_, names)

    def deleting(self, records) -> Gone:
        """:return: for :meth:`deleted`, what will not be known then"""
        return look_before_deletion(records, self._listener)

    def deleted(self, records, gone: Gone) -> None:
        note_deletion(self._change(records), records._ids, gone)


def watch(env, model: str) -> Watch | None:
    """To be told of changes of a model in the current transaction; None when nobody listens."""
    book = book_for(env)
    if book is None or not (book.rules or book.subscriptions):
        return None
    listener = book.listener(env[model])
    return None if listener is None else Watch(_log(env, book), listener)


def _log(env, book: Book) -> EventLog:
    state = state_of(env.cr)
    if state.events is None:
        registry = env.registry
        log = state.events = EventLog(lambda cr, log: settle(cr, log, registry))
        env.cr.postcommit.add(lambda: committed(registry, book, log))
    return state.events


def emit(name: str, records) -> None:
    """A module says that something has happened; told after the commit, like all others.

    :param name: in capitals
    :raise ValueError: a name that is none, or of an event that the ORM alone emits
    """
    if not can_be_emitted(name):
        raise ValueError(f'{name!r} cannot be emitted: give a name in capitals.')
    ids = [id_ for id_ in records._ids if isinstance(id_, int)]
    book = book_for(records.env)
    if book is None or not ids:
        return
    listener = emitted_listener(records, book.rules, name)
    if not listener.rules and name not in book.subscriptions:
        return
    log = _log(records.env, book)
    change = log.change(records.env.cr, records._name, listener, emitted=name)
    change.emitted.setdefault(name, set()).update(ids)
    change.uids.setdefault(records.env.uid)


# -- after the commit --------------------------------------------------------------------------


def events_of(book: Book, log: EventLog, database: str, since: int = 0) -> list[Event]:
    """What a transaction tells, of what somebody has subscribed to.

    :param since: number of segments of the log to leave out
    """
    events = []
    for model, total in log.totals(since).items():
        for name in book.subscriptions:
            ids = _ids_of(name, model, total)
            if ids:
                fields = total.fields(ids)
                events.append(Event(name, model, tuple(sorted(ids)), fields, total.uid, database))
    return sorted(events, key=lambda event: _ORDER.get(event.name.rpartition('.')[2], 3))


_ORDER = {CREATED: 0, UPDATED: 1, DELETED: 2}


def _ids_of(name: str, model: str, total) -> set[int]:
    ids = set(total.emitted.get(name, ()))
    for source in sources_of(name):
        if source.model != model:
            continue
        if source.domain:
            ids |= total.matched(name)
        else:
            ids = ids.union(*map(total.ids, source.changes))
    return ids


def committed(registry, book: Book, log: EventLog) -> None:
    """Empty the tiers of what was removed, then tell the subscribers."""
    empty_tiers(registry, list(log.rows))
    if not book.subscriptions:
        return
    calls = calls_of(book, events_of(book, log, registry.db_name))
    if calls:
        deliver(registry, calls)


def calls_of(book: Book, events) -> list[tuple[Event, Subscription]]:
    """Who is to be called with what."""
    return [
        (event, subscription)
        for event in events
        for subscription in book.subscriptions[event.name]
        if not subscription.fields or subscription.fields & event.fields
    ]


def deliver(registry, calls) -> None:
    """Call subscribers, each in a transaction of its own."""
    depth = getattr(_thread, 'depth', 0)
    if depth >= MAX_DEPTH:
        _failed(registry, calls[0][1], RecursionError('subscribers cause events without end'))
        return
    _thread.depth = depth + 1
    try:
        with _own_signals(registry), contextlib.closing(registry.cursor()) as cr:
            for event, subscription in calls:
                _call(registry, cr, event, subscription)
    except Exception as error:  # noqa: BLE001 no connection: nobody can be called
        _failed(registry, calls[0][1], error)
    finally:
        _thread.depth = depth


_thread = threading.local()


def _call(registry, cr, event: Event, subscription: Subscription) -> None:
    try:
        env = api.Environment(cr, event.uid or api.SUPERUSER_ID, {})
        getattr(env[subscription.model], subscription.method)(event)
        cr.commit()  # pylint: disable=invalid-commit  # a cursor of our own
        registry.signal_changes()
    except Exception as error:  # noqa: BLE001 see the docstring of the module
        cr.rollback()
        registry.reset_changes()
        _failed(registry, subscription, error)


@contextlib.contextmanager
def _own_signals(registry):
    """Within it, this thread has changed nothing that others must be told of: what the request
    has changed is signalled, or reset, by whoever runs the request."""
    flags = registry._invalidation_flags
    before = dict(flags.__dict__)
    flags.__dict__.clear()
    try:
        yield
    finally:
        flags.__dict__.clear()
        flags.__dict__.update(before)


def _failed(registry, subscription: Subscription, error: Exception) -> None:
    engine = engine_for(registry)
    name = f'{subscription.model}.{subscription.method}'
    if engine is None:
        _logger.warning("Subscriber %s failed", name, exc_info=error)
        return
    engine.metrics.event('subscriber_failed')
    engine.log_once(
        f'{name} {type(error).__name__}',
        "Subscriber %s failed; the change that it was told of is committed. Further failures of "
        "this kind are only counted.",
        name,
        exc_info=error,
    )


def empty_tiers(registry, rows) -> None:
    """Free the space of what rows of the journal have removed, soon.  No entry could be used again
    anyway."""
    engine = engine_for(registry) if rows else None
    if engine is None or not engine.available:
        return
    names = [row.removeprefix(journal.KEY) for row in rows if row.startswith(journal.KEY)]
    if names:
        engine.emptying.names(names, 0)
    for row in rows:
        if row.startswith(journal.PATTERN):
            engine.emptying.pattern(row.removeprefix(journal.PATTERN), 0)
