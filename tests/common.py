"""Tests of cached reads with real connections and real commits; for other modules as well.

The one idea: :meth:`CacheCase.request` is one request of a web client: a cursor of its own,
Odoo's signals, commit or rollback at the end.  What the cache did in it is logged call by
call, so that ``with self.assertHit():`` and ``with self.assertMiss('stale'):`` can tell.

    class TestBanks(CacheCase):
        def test_a_renamed_bank_is_seen(self):
            bank = self.make('res.bank', {'name': 'Old'})
            def read(env):
                return env['res.bank'].search_read([('id', '=', bank)], ['name'])
            self.warm(read)
            with self.request() as env:
                env['res.bank'].browse(bank).name = 'New'
            with self.assertMiss('stale'), self.request() as env:
                self.assertEqual(read(env)[0]['name'], 'New')

In these tests every read is worth keeping, however cheap, L1 is the only tier, and the
auditor is off; ``options`` of a class and :meth:`CacheCase.configure` change that.

:func:`delivered_events` tests subscribers and rules in an ordinary ``TransactionCase``.

What may go wrong: a test commits and does not clean up.  :meth:`CacheCase.make` deletes what
it made, and archives what other records hold on to; everything else is for ``addCleanup``.
"""

from __future__ import annotations

import contextlib
import os
import typing
from unittest.mock import patch

from odoo import api
from odoo.addons.tiered_cache.services import engine as engines
from odoo.addons.tiered_cache.services import event_rules, events, reading
from odoo.addons.tiered_cache.services.auditor import same
from odoo.addons.tiered_cache.services.hierarchy import Hierarchy
from odoo.addons.tiered_cache.services.metrics import Metrics
from odoo.addons.tiered_cache.services.pressure import Pressure
from odoo.addons.tiered_cache.services.removal import Removals
from odoo.addons.tiered_cache.services.transaction import state_of
from odoo.modules.registry import Registry
from odoo.sql_db import db_connect
from odoo.tests.common import BaseCase, get_db_name
from odoo.tools import mute_logger

ADMIN = 2
"""Id of ``base.user_admin``."""


class Event(typing.NamedTuple):
    """What the cache did with one call.

    :param what: 'hit' or 'miss'
    :param why: the tier of a hit, the reason of a miss
    :param detail: the relation that made an entry stale, what was uncacheable, …
    """

    what: str
    why: str
    model: str
    method: str
    detail: str = ''


class LoggedMetrics(Metrics):
    """Figures that remember every call, in order."""

    def __init__(self):
        super().__init__()
        self.events: list[Event] = []

    def hit(self, tier, model, method, *args, **kwargs):
        self.events.append(Event('hit', tier, model, method))
        return super().hit(tier, model, method, *args, **kwargs)

    def miss(self, reason, model, method, duration_ms=0.0, relation=None):
        self.events.append(Event('miss', reason, model, method, relation or ''))
        return super().miss(reason, model, method, duration_ms, relation)


class CacheCase(BaseCase):
    """A base for tests that commit.

    :cvar options: options of Tiered Cache for the whole class, as texts
    """

    options: typing.ClassVar[dict[str, str]] = {}

    _OPTIONS: typing.ClassVar[dict[str, str]] = {
        'enabled': '1',
        'l1_min_cost_ms': '0',
        'l2_min_cost_ms': '0',
        'l3_min_cost_ms': '0',
        'l3_enabled': '0',
        'redis_url': '',
        'audit_rate': '0',
        'consistency': 'strong',
        'capture': 'triggers',
        'ttl_jitter_percent': '0',  # so that tests can foretell when a life ends
        'guard_lock_timeout_ms': '5000',
        'metrics_flush_s': '3600',
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # a module that was just installed may have left a signal to reload
        cls.registry = Registry(get_db_name()).check_signaling()
        cls.engine = engines.engine_for(cls.registry)
        cls.addClassCleanup(reconfigure, cls.engine)
        variables = patch.dict(os.environ, _variables({**cls._OPTIONS, **cls.options}))
        variables.start()
        cls.addClassCleanup(variables.stop)
        reconfigure(cls.engine)

    def setUp(self):
        super().setUp()
        self.assertTrue(self.engine.available)
        self.log = LoggedMetrics()
        self.patch(self.engine, 'metrics', self.log)
        # a process that runs tests may be as large as it likes
        self.patch(self.engine, 'pressure', Pressure(lambda _own_limit: []))
        # on a busy machine Redis may take longer than it takes to compute what tests read
        self.patch(Hierarchy, '_pace_ms', lambda _hierarchy, _name: 0.0)
        self.forget()

    # -- requests ----------------------------------------------------------------------

    @classmethod
    @contextlib.contextmanager
    def request(cls, uid=ADMIN, commit=True, readonly=False, **context):
        """One request; yields its environment.

        :param commit: False rolls back at the end, as an exception does
        :param context: added to language, time zone and companies of the web client
        """
        registry = cls.registry
        context = {'lang': 'en_US', 'tz': 'Europe/Brussels', 'allowed_company_ids': [1], **context}
        with contextlib.closing(db_connect(registry.db_name, readonly=readonly).cursor()) as cr:
            registry.check_signaling(cr)
            try:
                yield api.Environment(cr, uid, context)
                if commit:
                    cr.commit()  # pylint: disable=invalid-commit  # a cursor of our own
                    registry.signal_changes()
            finally:
                cr.rollback()  # does nothing after a commit
                registry.reset_changes()

    @classmethod
    def commit(cls, work, uid=api.SUPERUSER_ID, **context):
        """``work(env)`` in a request of its own; returns what it returns, which must not be
        records: their cursor is closed."""
        with cls.request(uid, **context) as env:
            return work(env)

    @classmethod
    def sql(cls, statement: str, params=None, then=None):
        """Run a statement as another program would: another connection, nothing of Odoo.

        :param then: called with the psycopg2 cursor before the commit, e.g. to COPY
        :return: the rows, or None
        """
        connection = cls.engine.connect()
        try:
            with connection, connection.cursor() as cursor:
                if statement:
                    cursor.execute(statement, params)
                if then:
                    then(cursor)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def make(self, model: str, values: dict, **context) -> int:
        """Create a record and commit; it is removed after the test.  Returns its id."""
        return self._make(self.addCleanup, model, values, context)

    @classmethod
    def make_for_class(cls, model: str, values: dict, **context) -> int:
        """Like :meth:`make`, removed after the last test of the class."""
        return cls._make(cls.addClassCleanup, model, values, context)

    @classmethod
    def _make(cls, add_cleanup, model, values, context) -> int:
        id_ = cls.commit(lambda env: env[model].create(values).id, **context)
        add_cleanup(cls.remove, model, id_)
        return id_

    @classmethod
    def remove(cls, model: str, *ids: int) -> None:
        """Delete records and commit; archive those which others hold on to."""
        try:
            with mute_logger('odoo.sql_db'):
                cls.commit(lambda env: env[model].browse(ids).exists().unlink())
        except Exception:
            cls.commit(lambda env: env[model].browse(ids).action_archive())

    # -- the cache ---------------------------------------------------------------------

    def configure(self, **options: str) -> None:
        """Change options, as texts, until the end of the test."""
        self.addCleanup(reconfigure, self.engine)
        variables = patch.dict(os.environ, _variables(options))
        variables.start()
        self.addCleanup(variables.stop)
        reconfigure(self.engine)

    def settle(self) -> None:
        """Do what is due after requests: guards, writes to shared tiers."""
        self.engine.outbox.flush()
        for _removal in range(100):  # one in each round; earlier tests may have left some
            if not self.engine.emptying.is_working:
                break
            self.engine.outbox.flush()
        self.engine.guards.work()

    @contextlib.contextmanager
    def unavailable(self):
        """Within it, the engine could not start, and it is not time yet to make another one."""
        with (
            patch.object(self.engine, 'available', False),
            patch.object(self.engine, '_retry_at', float('inf')),
        ):
            yield

    def forget(self) -> None:
        """Empty all tiers, and forget what did not pay."""
        self.engine.hierarchy.each('clear')
        self.engine.suspender.resume()

    def warm(self, call, **request):
        """Repeat ``call(env)``, each time in a new request, until the cache answers it.

        What is kept was computed while ``tools.ormcache`` was warm, as in a server that has
        been running for a while: such values send no SQL that could be recorded.

        :return: the cached answer
        """
        with self.request(**request) as env:
            self.plain(call, env)
        for _attempt in range(8):
            start = len(self.log.events)
            with self.request(**request) as env:
                value = call(env)
            calls = self.log.events[start:]
            if calls and calls[-1].what == 'hit':
                return value
            self.settle()
        self.fail(
            f"the cache never answers; the last call: {calls}, guards that fail: "
            f"{self.engine.guards.errors}"
        )

    @staticmethod
    def plain(call, env):
        """``call(env)`` without the cache, in the same transaction."""
        with reading.plain_reads():
            return call(env)

    @contextlib.contextmanager
    def other_worker(self, other=None):
        """Within it, requests go to another worker: another L1, versions of its own.

        :param other: the one of an earlier time, with what it has kept; default a new one
        """
        if other is None:
            other = engines.Engine(self.registry)
            other.metrics = self.log
            self.addCleanup(other.close)
        with (
            patch.object(type(self), 'engine', other),
            patch.dict(self.registry.__dict__, {engines._SLOT: other}),
        ):
            yield other

    def use_language(self, code: str) -> None:
        """A language is in use until the end of the test, if it was not before."""
        domain = [('code', '=', code)]
        if not self.commit(lambda env: env['res.lang'].search(domain).ids):
            self.commit(lambda env: env['res.lang']._activate_lang(code).id)
            self.addCleanup(
                self.commit,
                lambda env: env['res.lang'].search(domain).write({'active': False}),
            )

    # -- events ------------------------------------------------------------------------

    def subscribe(self, model: str, *names: str, fields=(), then=None) -> list[events.Event]:
        """Subscribe a method of a model to events until the end of the test.

        :param then: called with the method's ``self`` and the event
        :return: the events that were delivered, so far
        """
        delivered: list[events.Event] = []

        @events.on_event(*names, fields=fields)
        def _on_test_event(records, event):
            delivered.append(event)
            if then is not None:
                then(records, event)

        name = f'_on_test_event_{len(events._decorated_names)}'
        events._decorated_names.add(name)
        self.addCleanup(self.forget_listeners)
        self.addCleanup(events._decorated_names.discard, name)
        method = patch.object(self.registry[model], name, _on_test_event, create=True)
        method.start()
        self.addCleanup(method.stop)
        self.forget_listeners()
        return delivered

    @classmethod
    def forget_listeners(cls) -> None:
        """Read rules and look for subscribers again with the next change."""
        cls.registry.__dict__.pop(events._SLOT, None)

    # -- assertions --------------------------------------------------------------------

    @contextlib.contextmanager
    def assertHit(self, tier: str | None = None):
        """Every call within it is answered by the cache, by this tier if one is given."""
        start = len(self.log.events)
        yield
        calls = self.log.events[start:]
        self.assertTrue(calls, "the cache was not asked")
        for call in calls:
            self.assertEqual(call.what, 'hit', call)
            if tier:
                self.assertEqual(call.why, tier, call)

    @contextlib.contextmanager
    def assertMiss(self, reason: str | None = None, detail: str | None = None):
        """The last call within it is computed, for this reason if one is given.

        Yields a list that holds the calls afterwards.
        """
        start = len(self.log.events)
        calls: list[Event] = []
        yield calls
        calls += self.log.events[start:]
        self.assertTrue(calls, "the cache was not asked")
        self.assertEqual(calls[-1].what, 'miss', calls)
        if reason is not None:
            self.assertEqual(calls[-1].why, reason, calls)
        if detail is not None:
            self.assertIn(detail, calls[-1].detail, calls)

    @contextlib.contextmanager
    def assertComputed(self):
        """No call within it is answered by the cache, asked or not."""
        start = len(self.log.events)
        yield
        self.assertFalse([call for call in self.log.events[start:] if call.what == 'hit'])

    def assertSame(self, cached, computed):
        """Equal in value and in type, at every depth."""
        self.assertTrue(same(cached, computed), f"\ncached   {cached}\ncomputed {computed}")

    def assertExact(self, call, **request):
        """In a new request ``call(env)`` gives what it gives without the cache; returns it."""
        with self.request(**request) as env:
            value = call(env)
            self.assertSame(value, self.plain(call, env))
        return value

    def assertCaptured(self, call, change, **request):
        """After ``change()``, a cached read is found stale, and what it gives is new.

        :param change: without arguments; commits
        """
        before = self.warm(call, **request)
        change()
        with self.assertMiss() as calls, self.request(**request) as env:
            after = call(env)
        # unguarded: stale as well, and what it reads now includes another relation
        self.assertIn(calls[-1].why, ('stale', 'unguarded'), calls)
        self.assertFalse(same(before, after), f"nothing has changed: {after}")
        self.assertSame(self.assertExact(call, **request), after)


class Delivered:
    """What :func:`delivered_events` has found.

    :ivar events: one per name and model, as after a commit
    :ivar rows: of the journal, written by event rules
    """

    def __init__(self):
        self.events: list[events.Event] = []
        self.rows: list[str] = []

    def removes(self, key: str) -> bool:
        """Whether a rule has removed what is kept under a key, e.g. 'v1:supplier:detail:42'."""
        return Removals(dict.fromkeys(self.rows, 1)).version(key) != 0


@contextlib.contextmanager
def delivered_events(env):
    """Tests never commit, so nothing is emitted.  At the end of this block subscribers are
    called as after a commit, but in the test's own transaction, and what they raise fails the
    test; rules count that the test has made, too.

        with delivered_events(self.env) as delivered:
            self.partner.email = 'new@example.com'
        self.assertEqual(delivered.events[0].fields, {'email'})
        self.assertTrue(self.env['my.queue'].search([]))

    Yields a :class:`Delivered`, filled at the end of the block.
    """
    delivered, state, slots = Delivered(), state_of(env.cr), env.registry.__dict__
    env.cr.flush()
    before = slots.get(events._SLOT), state.events
    sequence = env.registry.cache_sequences['default']
    book = slots[events._SLOT] = events.Book(env.registry, event_rules.read_rules(env.cr), sequence)
    state.events = None
    watches = {name: change.watch for name, change in state.changes.items()}
    for name, change in state.changes.items():
        change.watch = events.watch(env, name)
    try:
        yield delivered
        env.cr.flush()
        if state.events is not None:
            delivered.events = events.events_of(book, state.events, env.cr.dbname)
            delivered.rows = list(state.events.rows)
    finally:
        slots[events._SLOT], state.events = before
        if slots[events._SLOT] is None:
            del slots[events._SLOT]
        for name, change in state.changes.items():
            change.watch = watches.get(name)
    for event, subscription in events.calls_of(book, delivered.events):
        records = env(user=event.uid or env.uid, context={})[subscription.model]
        getattr(records, subscription.method)(event)


def reconfigure(engine) -> None:
    """Make an engine read its options again, environment included."""
    with engine.cursor() as cr:
        engine.configure(cr)


def _variables(options: dict[str, str]) -> dict[str, str]:
    return {f'TIERED_CACHE_{name.upper()}': value for name, value in options.items()}
