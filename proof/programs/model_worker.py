"""A worker of the model-based test: does what it is told, and compares; runs inside Odoo.

The one idea: the process holds a few *slots*.  A slot is a request thread of a threaded server
with its own cursor, whose transaction stays open between operations.  A read is answered by the
cache first, then computed with the cache off in the same transaction, and both are compared by
value and by type.

A worker is forked from an ``odoo shell`` that has loaded the registry and done nothing else, as
the prefork server does it: so killing it and starting another takes a moment.

What may go wrong: a change waits for another slot's lock.  Every transaction has a short
``lock_timeout``; a change that fails rolls its transaction back.
"""

import collections
import contextlib
import logging
import os
import signal
import zlib
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.errors

from odoo import SUPERUSER_ID, api, sql_db
from odoo.addons.tiered_cache.services import engine as engines
from odoo.addons.tiered_cache.services import guards, journal, keeper, outbox, reading
from odoo.addons.tiered_cache.services.metrics import Metrics
from odoo.addons.tiered_cache.services.miss import MISS
from odoo.addons.tiered_cache.services.policy import Suspender
from odoo.addons.tiered_cache.services.shapes import comparable
from odoo.exceptions import UserError
from odoo.modules.registry import Registry
from odoo.tools import reset_cached_properties

from bench import child
from proof.lab.comparing import same

from . import model_data, model_named
from .model_changes import CHANGES, World, run_statement
from .model_reads import PAGES, SEATS

LOCK_TIMEOUT_MS = 100
STATEMENT_TIMEOUT_S = 30
LOOK_AT_ONE_IN = 4
REMEMBERED = 'after others'
PLAIN_ORIGINS = ('miss orm_cache', 'miss dirty', 'miss old_snapshot', 'no answer')
"""The plain call answered and nothing of it was kept, so there is nothing to compare: Odoo alone
may answer differently a moment later, since ``tools.ormcache`` knows no snapshots."""

WAITED = (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled)
"""What a read may raise that is the first of its transaction: it waited for a lock, for DDL takes
one.  Anything else is a fault: nothing was written that could conflict."""

SHOWN = 600
"""Characters of a value in the report of a difference."""


def serve(env, path):
    """Answer as a nursery; see ``bench/child.py``."""
    child.serve(env, path, Nursery)


class Nursery:
    """Forks workers; its public methods are operations, see ``bench/child.py``.

    :param env: the environment of ``odoo shell``
    """

    def __init__(self, env):
        self.database = env.cr.dbname
        env.cr.close()  # a worker must not share its connection
        engine = env.registry.__dict__.pop(engines._SLOT, None)
        if engine is not None:
            thread = keeper.keeper()._thread
            engine.close()
            if thread is not None:
                thread.join()  # a fork would inherit the locks that it holds
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driving process
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a killed worker

    def fork(self, path, background):
        """Start a worker that answers at a UNIX socket.

        :param bool background: whether its background thread runs by itself; otherwise it
            works when it is told to ``settle``
        :return int: process id
        """
        sql_db.close_all()
        pid = os.fork()
        if pid == 0:
            try:
                child.serve(None, path, lambda _env: Worker(self.database, background))
            finally:
                os._exit(0)
        return pid


class Slot:
    """One request thread."""

    def __init__(self, database):
        self.database = database
        self.cr = None
        self.registry = None
        self.savepoints = []
        self.thread = ThreadPoolExecutor(1)

    def do(self, function, *args):
        """Run a function in the thread of the slot."""
        return self.thread.submit(function, *args).result()

    def begin(self, readonly=False):
        """Begin a request, as ``odoo/http.py`` does; one that is open ends."""
        self.end()
        self.registry = Registry(self.database)
        self.cr = sql_db.db_connect(self.database, readonly=readonly).cursor()
        registry = self.registry.check_signaling(self.cr)
        if registry is not self.registry:
            self.cr.close()
            self.registry = registry
            self.cr = sql_db.db_connect(self.database, readonly=readonly).cursor()
            registry.check_signaling(self.cr)
        self._limit_waiting()

    def _limit_waiting(self):
        self.cr.execute(
            f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_MS}ms';"
            f" SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_S}s'"
        )

    def open(self):
        """Begin a request if there is none."""
        if self.cr is None:
            self.begin()

    def end(self, commit=False):
        """End the request; on failure everything is rolled back."""
        if self.cr is None:
            return
        cr, self.cr, self.savepoints = self.cr, None, []
        with contextlib.closing(cr):
            try:
                if commit:
                    cr.commit()
                    self.registry.signal_changes()
            finally:
                cr.rollback()
                if cr.transaction is not None:
                    cr.transaction.reset()
                self.registry.reset_changes()

    def commit_and_stay(self):
        """Commit as a long job does, and go on with the same cursor."""
        try:
            self.cr.commit()
        except BaseException:
            self.end()
            raise
        self.savepoints = []
        self.registry.signal_changes()
        self._limit_waiting()

    def env(self, uid, context, su=False):
        return api.Environment(self.cr, uid, context, su)


class Worker:
    """The operations; a public method is one."""

    def __init__(self, database, background):
        self.database = database
        outbox_work = outbox.Outbox.work
        outbox.Outbox.work = outbox_work if background else lambda box: None
        # what does not pay is not left alone, and a table that was busy is tried again soon
        Suspender.PATIENCE = 10**9
        guards.FIRST_PAUSE_S = guards.LONGEST_PAUSE_S = 0.0
        logging.getLogger('odoo.sql_db').setLevel(logging.CRITICAL)
        self.slots = collections.defaultdict(lambda: Slot(database))
        self.events = []
        self.seen = []
        self.computed = 0
        self._ids = None

    @property
    def ids(self):
        if self._ids is None:
            with contextlib.closing(sql_db.db_connect(self.database).cursor()) as cr:
                self._ids = model_data.ids_of(api.Environment(cr, SUPERUSER_ID, {}))
        return self._ids

    @property
    def engine(self):
        engine = engines.engine_for(Registry(self.database))
        if not isinstance(engine.metrics, Watched):
            engine.metrics = Watched(self.events)
        return engine

    def step(self, name, *arguments):
        """Do an operation of a script.

        :return dict: what it counted, by kind; ``differences`` if there are any; ``seen``: read and
            digest of each answer of plain Odoo
        """
        counts, self.seen = collections.Counter(), []
        differences = getattr(self, f'do_{name}')(counts, *arguments)
        return {'counts': counts, 'differences': differences or [], 'seen': self.seen}

    # -- transactions ------------------------------------------------------------------

    def do_begin(self, counts, slot, readonly=False):
        self.slots[slot].do(self.slots[slot].begin, readonly)

    def do_commit(self, counts, slot, stay=False):
        slot = self.slots[slot]
        if slot.cr is not None:
            self._try(counts, slot, slot.commit_and_stay if stay else lambda: slot.end(True))

    def do_commit_untold(self, counts, slot):
        """Commit without Odoo's signals; the worker is killed next."""
        slot = self.slots[slot]
        if slot.cr is not None:
            self._try(counts, slot, slot.cr.commit)

    def do_rollback(self, counts, slot):
        self.slots[slot].do(self.slots[slot].end)

    def do_savepoint(self, counts, slot):
        slot = self.slots[slot]

        def savepoint():
            slot.open()
            slot.savepoints.append(slot.cr.savepoint())

        self._try(counts, slot, savepoint)

    def do_release_savepoint(self, counts, slot, rollback=False):
        slot = self.slots[slot]
        if slot.savepoints:
            self._try(counts, slot, lambda: slot.savepoints.pop().close(rollback=rollback))

    def do_change(self, counts, slot, name, n, v):
        slot = self.slots[slot]

        def change():
            slot.open()
            env = slot.env(SUPERUSER_ID, {'lang': 'en_US', 'allowed_company_ids': [1]})
            CHANGES[name](World(env, self.ids), n, v)

        self._try(counts, slot, change)

    def do_write(self, counts, name, n, v):
        """A request that changes something, from begin to commit."""
        slot = self.slots['own']

        def request():
            slot.begin()
            env = slot.env(SUPERUSER_ID, {'lang': 'en_US', 'allowed_company_ids': [1]})
            CHANGES[name](World(env, self.ids), n, v)
            slot.end(commit=True)

        self._try(counts, slot, request)

    def do_statement(self, counts, slot, name, n, v):
        """Raw SQL inside the transaction."""
        slot = self.slots[slot]

        def change():
            slot.open()
            env = slot.env(SUPERUSER_ID, {})
            env.flush_all()
            run_statement(slot.cr, self.ids, name, n, v)
            env.invalidate_all()

        self._try(counts, slot, change)

    def _try(self, counts, slot, work):
        """Run a change; one that fails rolls back."""
        try:
            slot.do(work)
        except (psycopg2.Error, UserError) as error:
            counts[f'refused {type(error).__name__}'] += 1
            slot.do(slot.end)

    # -- reads -------------------------------------------------------------------------

    def do_read(self, counts, slot, seat, page, mode='go on', keep=False, tiers=False):
        """Read a page and compare.

        :param str mode: ``new`` begins a request and reads each as if it were the first thing
            in it, ``go on`` uses the one that is open, and what its ORM cache holds
        :param bool keep: leave in the ORM cache what the comparison has read
        :param bool tiers: ask again without L1, and again without L1 and L2
        """
        slot = self.slots[slot]
        return slot.do(self._read, counts, slot, seat, page, mode, keep, tiers)

    def _read(self, counts, slot, seat, page, mode, keep, tiers):
        if mode == 'new':
            slot.begin()
        slot.open()
        who, context = SEATS[seat]
        user, _blank, sudo = who.partition(' ')
        context = model_data.resolve(self.ids, context)
        uid = SUPERUSER_ID if user == 'root' else self.ids[user]
        env = slot.env(uid, context, bool(sudo))
        self.engine  # noqa: B018 its events are watched
        try:
            answers = self._answers(env, PAGES[page], mode == 'new')
            for blind in (('l1',), ('l1', 'l2')) if tiers else ():
                hit = [read for read, _outcome, origin in answers if origin.startswith('hit')]
                with self._without(blind):
                    answers += self._answers(env, [r for r in PAGES[page] if r in hit], True)
            answers.sort(key=lambda answer: PAGES[page].index(answer[0]))
            return self._compare(counts, env, answers, keep)
        except psycopg2.Error as error:
            counts[f'refused {type(error).__name__}'] += 1
            slot.end()
            if mode == 'new' and not isinstance(error, WAITED):
                return [
                    {'read': page, 'uid': uid, 'origin': self.events[-1:], 'raised': repr(error)}
                ]

    @contextlib.contextmanager
    def _without(self, names):
        """Some tiers find nothing."""
        tiers = self.engine.hierarchy.tiers
        hidden = {name: tiers[name] for name in names}
        tiers.update((name, Blind(tier)) for name, tier in hidden.items())
        try:
            yield
        finally:
            tiers.update(hidden)

    def _answers(self, env, reads, alone):
        """Answers with the cache on, and where they came from.

        :param bool alone: each as if nothing had been read before
        """
        answers = []
        for read in reads:
            if alone:
                env.invalidate_all()
            remembers = any(env.transaction.field_data.values())
            self.events.clear()
            outcome = self._call(env, read)
            origin = self.events[-1] if self.events else 'no answer'
            if any(event.startswith('hit') for event in self.events[:-1]):
                origin = f'{origin}, a hit inside'
            if remembers and not origin.startswith('hit'):
                origin = f'{origin}, {REMEMBERED}'
            answers.append((read, outcome, origin))
        return answers

    def _compare(self, counts, env, answers, keep):
        env.invalidate_all()
        differences, asked, plain = [], None, None
        with reading.plain_reads():
            for read, outcome, origin in answers:
                counts[origin] += 1
                if not self._is_worth_a_look(origin):
                    continue
                if read is not asked:
                    asked, plain = read, self._call(env, read)
                    self.seen.append([_name(read), zlib.crc32(repr(plain).encode())])
                if not same(_comparable(read, outcome), _comparable(read, plain)):
                    difference = self._explain(env, read, outcome, plain, origin)
                    counts['old memory' if difference is None else 'difference'] += 1
                    if difference:
                        differences.append(difference)
                if origin.startswith('hit'):
                    _spoil(outcome[1])
        if not keep:
            env.invalidate_all()
        return differences

    def _is_worth_a_look(self, origin):
        """Whatever the cache had a hand in; of what was computed a part, for the recording might
        have disturbed it.  Not what plain Odoo may have taken from the ORM cache: that holds what
        another user of the transaction may see, too."""
        if origin.startswith(PLAIN_ORIGINS) or origin.endswith(REMEMBERED):
            return False
        self.computed += 'hit' not in origin
        return 'hit' in origin or self.computed % LOOK_AT_ONE_IN == 0

    def _call(self, env, read):
        model, method, names, args, kwargs, *context = read
        args, kwargs = model_data.resolve(self.ids, args), model_data.resolve(self.ids, kwargs)
        records = env[model].with_context(**context[0]) if context else env[model]
        records = records.browse(self.ids[name[1:]] for name in names or ())
        try:
            if method == 'named':
                return ['value', model_named.answer(records.env, *args)]
            return ['value', getattr(records, method)(*args, **kwargs)]
        except psycopg2.Error:
            raise
        except Exception as error:
            return [type(error).__name__, str(error)]

    def _explain(self, env, read, outcome, plain, origin):
        """A difference in words; None where the cache was right and ``tools.ormcache`` is old.

        Odoo computes the domain of a record rule once and does not notice that what it was
        computed from has changed.  So a third answer is asked for, with that memory empty.
        """
        with empty_memory(env):
            env.invalidate_all()
            clean = self._call(env, read)
        if same(_comparable(read, outcome), _comparable(read, clean)):
            return None
        return {
            'read': f'{read[0]}.{read[1]}',
            'arguments': repr(read[2:])[:SHOWN],
            'uid': env.uid,
            'context': repr(env.context),
            'origin': origin,
            'cached': repr(outcome)[:SHOWN],
            'computed': repr(plain)[:SHOWN],
            'computed with empty tools.ormcache': repr(clean)[:SHOWN],
        }

    # -- the cache ---------------------------------------------------------------------

    def do_settle(self, counts):
        """Let background work finish: guards, writes to L2 and L3."""
        self.engine.flush()

    def do_tick(self, counts):
        self.engine.tick()

    def do_compact(self, counts):
        self.engine.compact()

    def do_guard(self, counts, relation):
        self.engine.guards.want([relation])
        self.engine.guards.work()

    def do_release(self, counts, relation, drop=False):
        """Release a guard; its triggers go too, where nobody uses the table."""
        with self._unless_locked(counts), self.engine.cursor() as cr:
            journal.release(cr, relation)
        if drop:
            with self._unless_locked(counts), self.engine.cursor() as cr:
                journal.drop_triggers(cr, relation)

    @contextlib.contextmanager
    def _unless_locked(self, counts):
        try:
            yield
        except psycopg2.Error as error:
            counts[f'refused {type(error).__name__}'] += 1

    def do_evict(self, counts, part):
        """L1 loses one of three parts of its entries."""
        pattern = ('v1:*[0-4]', 'v1:*[5-9]', 'v1:*[abcdef]')[part]
        self.engine.hierarchy.tiers['l1'].delete_pattern(pattern)

    def do_clear(self, counts, tier):
        self.engine.hierarchy.tiers[tier].clear()

    def do_sql(self, counts, name, n, v):
        """What another program commits."""
        with (
            contextlib.closing(self.engine.connect()) as connection,
            self._unless_locked(counts),
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_MS}ms'")
            run_statement(cursor, self.ids, name, n, v)

    def do_reload(self, counts):
        """As after an app was installed by another worker: the registry is loaded again."""
        with self.engine.cursor() as cr:
            cr.execute("INSERT INTO orm_signaling_registry DEFAULT VALUES")

    # -- beginning and end -------------------------------------------------------------

    def prepare(self):
        """Make the records."""
        self._commit(model_data.prepare)

    def idle(self):
        """Roll everything back."""
        for slot in self.slots.values():
            slot.do(slot.end)

    def reset(self, relations):
        """Records, tiers and guards as at the beginning; nothing may be open."""
        self._commit(model_data.reset)
        for tier in self.engine.hierarchy.tiers.values():
            tier.clear()
        self._guard_all(relations)

    def _guard_all(self, relations):
        missing = set(relations) - set(self.guarded())
        if missing:
            self.engine.guards.want(missing)
            self.engine.flush()

    def forget(self):
        """Empty this worker's own memory."""
        with contextlib.closing(Registry(self.database).cursor()) as cr:
            Registry(self.database).check_signaling(cr)
        for cache in Registry(self.database)._Registry__caches.values():
            cache.clear()
        self.engine.outbox.flush()
        self.engine.hierarchy.tiers['l1'].clear()

    def remove(self):
        """Delete the records."""
        self._commit(model_data.remove)

    def guarded(self):
        """:return list: guarded relations."""
        with self.engine.cursor() as cr:
            cr.execute("SELECT relation FROM cache_version WHERE relation NOT LIKE '#%%'")
            return [relation for (relation,) in cr.fetchall()]

    def backends(self, pid):
        """:return int: connections of a process that PostgreSQL still knows."""
        with self.engine.cursor() as cr:
            cr.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s",
                [f'odoo-{pid}'],
            )
            return cr.fetchone()[0]

    def stats(self):
        """:return dict: faults of the engine and of its tiers."""
        stats = self.engine.stats()
        return {
            'faults': {name: tier['faults'] for name, tier in stats['tiers'].items()},
            'guards': stats['guards'],
            'outbox': stats['outbox'],
        }

    def _commit(self, work):
        slot = self.slots['own']

        def transaction():
            slot.begin()
            context = {'lang': 'en_US', 'allowed_company_ids': [1]}
            with reading.plain_reads():
                work(slot.env(SUPERUSER_ID, context))
                slot.end(commit=True)

        slot.do(transaction)
        self._ids = None


@contextlib.contextmanager
def empty_memory(env):
    """``tools.ormcache`` is empty, environments remember nothing, and afterwards all is what it
    was: the answers that are still to be compared were computed with it."""
    caches = env.registry._Registry__caches.values()
    held = [(cache, list(cache.items())) for cache in caches]
    remembered = [(other, dict(vars(other))) for other in env.transaction.envs]
    for cache in caches:
        cache.clear()
    for other, _values in remembered:
        reset_cached_properties(other)
    try:
        yield
    finally:
        for other, values in remembered:
            vars(other).update(values)
        for cache, items in held:
            cache.clear()
            for key, value in items:
                cache[key] = value


class Blind:
    """A tier that finds nothing and otherwise does what it does."""

    def __init__(self, tier):
        self._tier = tier

    def get(self, key):
        return MISS

    def __getattr__(self, name):
        return getattr(self._tier, name)


class Watched(Metrics):
    """Figures that tell what became of each call.

    :param list events: gets the tier of a hit, or the reason of a miss
    """

    def __init__(self, events):
        super().__init__()
        self.events = events

    def hit(self, tier, model, method, *args, **kwargs):
        self.events.append(f'hit {tier}')
        return super().hit(tier, model, method, *args, **kwargs)

    def miss(self, reason, *args, **kwargs):
        self.events.append(f'miss {reason}')
        return super().miss(reason, *args, **kwargs)


# -- comparing -------------------------------------------------------------------------


def _name(read) -> str:
    """Of a read of ``model_reads``, for people."""
    model, method, ids, arguments, *_more = read
    return f'{model}.{method} {ids or ""} {arguments}'


def _comparable(read, outcome):
    kind, value = outcome
    return [kind, comparable(read[1], value) if kind == 'value' else value]


def _spoil(value):
    """Change everything that can be changed in an answer, as a careless caller might."""
    if isinstance(value, dict):
        for part in value.values():
            _spoil(part)
        value['spoilt'] = True
    elif isinstance(value, list):
        for part in value:
            _spoil(part)
        value.append('spoilt')
