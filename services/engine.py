"""The engine: what one process holds for one database, dropped with the registry.

The one idea: the engine owns the parts (settings, policy, tiers, versions, catalogue,
guards, figures, outbox) and keeps them current; how a single read goes through them is
:mod:`reading`.

What may go wrong: a fault of our own.  :meth:`Engine.fault` logs each kind once and counts,
and the plain call answers.  The journal missing (the module is being uninstalled) or the
database out of reach when the engine starts: ``available`` is False and every call
computes.
"""

from __future__ import annotations

import datetime
import logging
import os
import threading
import time
import weakref

import psycopg2

from odoo.modules.registry import Registry
from odoo.service import server
from odoo.sql_db import connection_info_for, db_connect

from . import calls, configuration, dashboard, journal, metrics, preload, removal, rollup
from .catalogue import Catalogue, Reading
from .catalogue import fingerprint as catalogue_fingerprint
from .emptying import Emptying
from .fingerprint import running_code
from .flight import Flights, Leases
from .guards import Guards
from .hierarchy import Hierarchy
from .memory import BEHIND, Memory
from .outbox import Outbox
from .pauses import Pauses
from .policy import Policy, Suspender
from .pressure import Pressure
from .progress import Reports
from .recorder import OrmCacheReader
from .refresh import Refresher
from .remote.following import Follower
from .rules import RuleBook
from .sums import Preparer, SumBook
from .tiers import redis_limits
from .versions import SIGNAL_RELATIONS, SIGNALS, State, VersionBook
from .workers import Reporter

_logger = logging.getLogger(__name__)

_SLOT = "_tiered_cache_engine"
_OFF = "_tiered_cache_off"

ALWAYS_MODELS = (
    "res.users",
    "res.groups",
    "res.company",
    "res.lang",
    "ir.model.access",
    "ir.rule",
    "ir.model",
)
"""Any result may depend on these without asking them again: who the user is, what they may
do, in which company and language."""

RETRY_S = 60.0
"""An engine that could not start is made anew after this time."""

ROLLBACK_PAUSE_S = 0.5
"""Longer than Odoo takes from a rollback to ``registry.reset_changes()``."""

LEASE_S = 2.0
"""How long a lease of Redis lasts if its owner dies: nobody waits longer by default."""

SWEEP_EVERY_S = 60.0
"""L1 is searched for expired entries so often: 10,000 entries take about 2 ms."""

_PRESSURE = {
    "shed": "Memory is getting scarce (%d of %d bytes): L1 has dropped a quarter of what it held. "
    "Lower l1_max_mb or raise the limit if this lasts; it is logged once, and counted.",
    "halved": "Memory is scarce (%d of %d bytes): L1 takes half of its limit until that is over. "
    "Lower l1_max_mb or raise the limit if this lasts; it is logged once, and counted.",
}

_YOUNGEST_TABLES = "SELECT FROM cache_call, cache_warmup LIMIT 0"
"""Fails where the code is newer than the database: the module is to be upgraded."""

START_AFTER_S = 0.2
"""A worker that was just forked is let into its loop first."""

CATALOGUE_PAUSE_S = 5.0
"""The catalogue is not read more often than this for the sake of an unknown name."""


def engine_for(registry) -> Engine | None:
    """The engine of a registry in this process; None while modules are being loaded."""
    engine = registry.__dict__.get(_SLOT)
    if engine is not None and engine.is_usable():
        return engine
    if not registry.ready or _OFF in registry.__dict__ or _is_master():
        return None
    with _creating:
        engine = registry.__dict__.get(_SLOT)
        if engine is None or not engine.is_usable():
            if engine is not None and engine.pid == os.getpid():
                engine.close()  # after a fork what belongs to the parent is left alone
            engine = registry.__dict__[_SLOT] = engine_class(registry)
    return engine


_creating = threading.Lock()


def _is_master() -> bool:
    """Whether this process does nothing but fork workers.  It answers no requests, and a thread
    of ours, while it forks, would leave its locks and connections to the workers."""
    running = server.server
    return isinstance(running, server.PreforkServer) and running.pid == os.getpid()


def log_fault(engine: Engine | None, error: Exception, name: tuple[str, str]) -> None:
    """A fault of our own on a read path, with or without an engine that counts it."""
    if engine is not None:
        engine.fault(error, name)
    else:
        _logger.warning("Tiered Cache cannot start; the plain call answered.", exc_info=True)


def forget_engine(registry) -> None:
    """No engine for this registry any more: the module is being uninstalled."""
    registry.__dict__[_OFF] = True
    engine = registry.__dict__.pop(_SLOT, None)
    if engine is not None and engine.pid == os.getpid():
        engine.available = False
        engine.close()


class Engine:
    """:param registry: a registry that is ready"""

    def __init__(self, registry):
        self.pid = os.getpid()
        self.registry = registry
        self.db_name = registry.db_name
        self.started_at = time.time()
        self.metrics = metrics.Metrics()
        self.calls = calls.Calls()
        self.preloader = preload.Preloader(self)
        self.suspender = Suspender()
        self.guards = Guards(self)
        self.orm_cache = OrmCacheReader(registry)
        self.rule_book = RuleBook(self.orm_cache)
        self.always = always_relations(registry)
        self.memory = Memory(registry, self.always)
        self.catalogue: Catalogue | None = None
        self.code = ""
        self.config = configuration.Configuration({}, ())
        self.hierarchy = Hierarchy({}, self.post_entry)
        self.flights = Flights(Leases(self, LEASE_S))
        self.refresher = Refresher()
        self.pauses = Pauses()
        self.pressure = Pressure()
        self.reporter = Reporter(self)
        self.follower = Follower(self)
        self.preparer = Preparer(self, dashboard.parts_that_are_over)
        self.sums = SumBook(self.preparer.keep)
        self.outbox = Outbox(
            lambda: self.hierarchy.tiers | self.hierarchy.writers,
            self.tick,
            last=self.leave,
            glance=self.glance,
        )
        self.emptying = Emptying(
            lambda: self.hierarchy.tiers | self.hierarchy.writers,
            lambda job: self.outbox.post_job("removals", job),
        )
        self.reports = Reports(self)
        self._books = {False: VersionBook(), True: VersionBook()}
        self._config_stamp: tuple | None = None
        self._local_writes: dict[str, float] = {}
        self._last_local_write = 0.0
        self._last_local_removal = 0.0
        self._logged: set[str] = set()
        self._catalogue_at = self._flushed_at = self._swept_at = time.monotonic()
        self._catalogue_print: tuple = ()
        self._writers: weakref.WeakSet = weakref.WeakSet()
        self._writer_epoch = 0
        self._rolled_back = (0.0, 0)
        self.available = self._prepare()
        self._retry_at = time.monotonic() + RETRY_S

    def is_usable(self) -> bool:
        """Whether this process may go on using the engine."""
        return self.pid == os.getpid() and (self.available or time.monotonic() < self._retry_at)

    @property
    def settings(self):
        return self.config.settings

    @property
    def policy(self) -> Policy:
        return self.config.policy

    def _prepare(self) -> bool:
        """Read what does not change while the registry lives, on a connection of our own."""
        try:
            with self.cursor() as cr:
                code = self._read_database(cr)
            self.code = running_code(self.db_name, *code)
        except Exception as error:  # noqa: BLE001 whatever it is, Odoo goes on without us
            _logger.warning(
                "Tiered Cache is off in this process for database %s; it tries again in %d s. "
                "If this lasts, upgrade the module tiered_cache. %s: %s",
                self.db_name,
                RETRY_S,
                type(error).__name__,
                error,
            )
            return False
        self.outbox.post_job('preload', self.preloader.work)
        self.outbox.post_job('sums', self.preparer.work)
        return True

    def _read_database(self, cr) -> tuple[frozenset[str], frozenset[str]]:
        cr.execute(_YOUNGEST_TABLES, log_exceptions=False)
        self.catalogue = Catalogue(cr)
        self._catalogue_print = catalogue_fingerprint(cr)
        self.configure(cr)
        # an error here, and not in somebody's transaction, switches the cache off
        VersionBook().check(cr)
        if journal.has_foreign_rows(cr):
            journal.compact(cr, configuration.REMOVAL_TTL_S)
        return _code(cr)

    # -- connections of our own ------------------------------------------------------

    def cursor(self):
        """A cursor of our own, in READ COMMITTED and never a test cursor; as a context
        manager it commits.  It gives up where it would wait for others."""
        cr = db_connect(self.db_name).cursor()
        cr.connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_READ_COMMITTED)
        cr.execute("SET LOCAL lock_timeout = '200ms'; SET LOCAL statement_timeout = '60s'")
        return cr

    def connect(self):
        """A psycopg2 connection of our own, outside of Odoo's pool."""
        return psycopg2.connect(**connection_info_for(self.db_name)[1])

    # -- versions --------------------------------------------------------------------

    def book(self, cr) -> VersionBook:
        """Versions as seen on the server behind a cursor: a replica has a book of its own."""
        return self._books[bool(cr.readonly) and self.registry._db_readonly is not None]

    def latest_versions(self, max_age_s: float | None) -> State | None:
        """Versions as the primary server shows them now, whatever any caller's snapshot shows.

        :param max_age_s: how old they may be, None: as old as the last removal of this process
        """
        known = self._books[False].state
        if known is not None and known.read_at > self._last_local_removal:
            age_s = time.monotonic() - known.read_at
            if max_age_s is None or age_s < max_age_s:
                return known
        with db_connect(self.db_name).cursor() as cr:
            versions = self._books[False].look(cr)
            if versions is not None and not self.config_is_current(versions):
                self.configure(cr, versions)
        return versions

    def signals_fit(self, versions: State) -> bool:
        """Whether this process has acted on just the ``orm_signaling_*`` rows that the
        snapshot shows; otherwise its ``tools.ormcache`` values belong to another state."""
        registry = self.registry
        known = (registry.registry_sequence, *(registry.cache_sequences[n] for n in SIGNALS[1:]))
        return known == versions.signals

    def guard_signals(self, versions: State) -> None:
        """Ask for guards of ``orm_signaling_*``: without, a state does not learn of signals that
        were sent after it was read, and where nothing is computed nothing else asks for them."""
        if missing := SIGNAL_RELATIONS - versions.versions.keys():
            self.guards.want(missing)

    def settle(self, records, transaction) -> bool:
        """Whether a read may be answered by what the database shows: the transaction has not
        written, and memory holds nothing that the database has not seen."""
        return not (transaction.dirty or transaction.drafts) and self.is_settled(records)

    def is_settled(self, records) -> bool:
        """Whether memory holds nothing that the database has not seen."""
        transaction, registry = records.env.transaction, records.env.registry
        return not (
            transaction.field_dirty
            or (transaction.tocompute and any(any(ids) for ids in transaction.tocompute.values()))
            or registry.cache_invalidated
            or registry.registry_invalidated
        )

    def fresh_enough(self, versions: State | None, plan) -> bool:
        """Whether versions read earlier do for a plan that is not STRONG."""
        if versions is None or versions.read_at <= self._last_local_removal:
            return False
        if plan.consistency == "weak":
            return True
        age_s = time.monotonic() - versions.read_at
        return age_s <= plan.max_staleness_s and versions.read_at > self._last_local_write

    def wrote(self, relations) -> None:
        """A transaction of this process has committed changes to relations."""
        self._last_local_write = time.monotonic()
        self._local_writes.update(dict.fromkeys(relations, time.time()))

    def removed(self) -> None:
        """A transaction of this process has committed a removal: what was known before does
        not do for any reader here."""
        self._last_local_removal = time.monotonic()

    def writes(self, transaction) -> None:
        """A transaction of this process writes what ``tools.ormcache`` values are made of; see
        :meth:`disturbed_since`."""
        self._writers.add(transaction)
        self._writer_epoch += 1
        transaction.memory = self.memory

    def rolled_back(self) -> None:
        """Such a transaction was rolled back."""
        self.memory.doubt()
        self._rolled_back = (time.monotonic(), threading.get_ident())

    def writer_epoch(self) -> int:
        """What :meth:`disturbed_since` compares."""
        return self._writer_epoch

    def disturbed_since(self, epoch: int, own) -> bool:
        """Whether another transaction of this process has been writing such things.

        :param own: the transaction that asks

        ``tools.ormcache`` is shared by all threads, and Odoo fills it with what a transaction
        has not committed yet, so what is computed meanwhile is not kept.  After a
        rollback Odoo clears those values a moment later.
        """
        if self._writer_epoch != epoch:
            return True
        me = threading.get_ident()
        rolled_back_at, by = self._rolled_back
        if by != me and time.monotonic() - rolled_back_at < ROLLBACK_PAUSE_S:
            return True
        return any(other is not own and other.is_open() for other in list(self._writers))

    def written_since(self, entry) -> str:
        """A relation that this process has written since an entry was made, or ''."""
        written = self._local_writes
        for relation, *_ in entry.dependencies if written else ():
            if written.get(relation, 0.0) >= entry.created:
                return relation
        return ""

    # -- configuration ---------------------------------------------------------------

    def config_is_current(self, versions: State | None) -> bool:
        """Whether parameters and rules are those that a snapshot shows.

        While the cache is switched off no snapshot is looked at; then Odoo's own signal
        for changed parameters tells.
        """
        if versions is None:
            return self._config_stamp[0] == tuple(self.registry.cache_sequences.values())
        return self._config_stamp == self._stamp(versions)

    def _stamp(self, versions: State | None) -> tuple:
        known = versions.versions if versions else {}
        return (
            tuple(self.registry.cache_sequences.values()),
            known.get("ir_config_parameter"),
            known.get("cache_rule"),
            known.get("cache_namespace"),
            known.get("#all"),
        )

    def configure(self, cr, versions: State | None = None) -> None:
        """Read parameters and rules, and rebuild what they change."""
        self._config_stamp = self._stamp(versions)
        config = configuration.read(cr)
        if config == self.config and self.hierarchy.tiers:
            return
        old, self.config = self.config, config
        for book in self._books.values():
            if book.capture != config.settings.capture:
                book.capture = config.settings.capture
                book.forget()
        for problem in config.settings.problems:
            self.log_once(problem, "Tiered Cache: %s", problem)
        old_hierarchy = self.hierarchy
        self.hierarchy = configuration.build_hierarchy(self, old, config)
        old_hierarchy.close_except(self.hierarchy)

    # -- reading texts ---------------------------------------------------------------

    def read_text(self, text: str) -> Reading:
        """What an SQL text reads; for :class:`.recorder.Recording`."""
        reading = self.catalogue.reading(text)
        if reading is None:
            # the outbox looks the name up; a request must not wait for the catalogue
            if time.monotonic() - self._catalogue_at > CATALOGUE_PAUSE_S:
                self.outbox.post_job("catalogue", self.read_catalogue)
            return Reading(None, "unknown name")
        return reading

    def read_catalogue(self) -> None:
        """Read the catalogue again, and drop what was stored under a wrong idea of it."""
        self._catalogue_at = time.monotonic()
        with self.cursor() as cr:
            now, before = catalogue_fingerprint(cr), self._catalogue_print
            catalogue = Catalogue(cr)
            # what stands under a view or a table is another set of tables, or a text named what
            # nobody knew: entries made before do not depend on it
            if now.beneath != before.beneath or catalogue.contradicts(self.catalogue):
                journal.note(cr, [journal.ALL])
                _logger.info("Tiered Cache: the schema has changed; what was kept is dropped.")
        self._catalogue_print, self.catalogue = now, catalogue
        # a table that has taken the name of another one has no triggers, or notes another name
        self.guards.check()

    def _follow_catalogue(self) -> None:
        """Notice what was made, replaced or renamed at run time: tables, views, partitions,
        functions."""
        with self.cursor() as cr:
            if catalogue_fingerprint(cr) == self._catalogue_print:
                return
        self.read_catalogue()

    # -- background ------------------------------------------------------------------

    def post_entry(self, tier: str, entry) -> None:
        self.outbox.post_entry(tier, entry)

    def tick(self) -> None:
        """Periodic work of the background thread."""
        # snapshot: to ask the LRU itself would keep idle registries from being dropped
        registry = Registry.registries.snapshot.get(self.db_name)
        if registry is not self.registry:
            if registry is not None:  # loaded again; else the database may be about to go
                self.leave()
            self.close()
            return
        self.hierarchy.probe()
        if time.monotonic() - self._flushed_at >= self.settings.metrics_flush_s:
            self.flush_metrics()
            self.outbox.post_job("report", self.reporter.report)
        if l3 := self.hierarchy.tiers.get("l3"):
            l3.write_hits(every_s=60)
        if l2 := self.hierarchy.tiers.get("l2"):
            l2.trim(every_s=redis_limits.EVERY_S)
        self._follow_catalogue()
        if self._journal_is_long():
            self.compact()
        self.guards.work()
        self.reports.deliver()
        self._look_around()
        self.preloader.follow()
        self.follower.tick()
        self.preparer.work()

    def glance(self) -> None:
        """L1 loses what has expired, and gives way when the process becomes too large."""
        l1, limit_mb = self.hierarchy.tiers.get("l1"), self.settings.memory_limit_mb
        change = self.pressure.look(l1, limit_mb * 2**20)
        if change:
            self.metrics.event(f"memory pressure: {change}")
        if change in _PRESSURE:
            used_bytes, limit_bytes, _step = self.pressure.size
            self.log_once(f"memory {change}", _PRESSURE[change], used_bytes, limit_bytes)
        if l1 is not None and time.monotonic() - self._swept_at >= SWEEP_EVERY_S:
            self._swept_at = time.monotonic()
            l1.sweep()

    def _journal_is_long(self) -> bool:
        limit = self.settings.compaction_rows
        with self.cursor() as cr:
            # without removals, which may have to wait for a long transaction
            cr.execute(
                "SELECT count(*) FROM (SELECT FROM cache_change WHERE strpos(relation, ':') = 0"
                " LIMIT %s) AS rows",
                [limit],
            )
            return cr.fetchone()[0] >= limit

    def _look_around(self) -> None:
        """Learn of new rules, settings and removals within seconds, also where no read looks:
        those that are switched off, and those that need no query."""
        with db_connect(self.db_name).cursor() as cr:
            versions = self.book(cr).look(cr)
            if versions is not None and not self.config_is_current(versions):
                self.configure(cr, versions)

    def flush_metrics(self) -> None:
        """Write the figures that have piled up."""
        self._flushed_at = time.monotonic()
        rows, hit_calls = self.metrics.drain(), self.calls.drain()
        if rows:
            with self.cursor() as cr:
                rollup.write(cr, rows)
        if hit_calls and self.settings.record_calls:
            with self.cursor() as cr:
                calls.write(cr, hit_calls)

    def compact(self) -> int | None:
        """Compact the journal; see :func:`.journal.compact`."""
        with self.cursor() as cr:
            changes = journal.count_changes(cr)
            done = journal.compact(cr, removal_ttl_s=self.config.longest_ttl_s + 3600)
        if done is not None:
            for relation, count in changes.items():
                self.metrics.changed(relation, count)
        return done

    def maintain(self) -> dict:
        """What the cron does: figures, compaction, broken guards, limits of L3."""
        self.flush_metrics()
        done = {"compacted": self.compact(), "broken": self.guards.check(), "purged": 0}
        if l3 := self.hierarchy.writers.get("l3"):
            done["purged"] = l3.purge()
        done["figures"] = self.retire_metrics()
        return done

    def retire_metrics(self) -> int:
        """Remove old figures; see :func:`.rollup.retire`.

        :return: how many rows went; 0 also where others are writing figures: next time
        """
        settings = self.settings
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        days = (
            settings.metrics_minutes_days,
            settings.metrics_hours_days,
            settings.metrics_keep_days,
        )
        try:
            with self.cursor() as cr:
                return rollup.retire(cr, now, *days)
        except psycopg2.errors.LockNotAvailable:
            return 0

    def flush(self) -> None:
        """Run everything that is queued, in this thread."""
        self.outbox.flush()
        self.guards.work()
        self.flush_metrics()

    def leave(self) -> None:
        """The process ends: write the figures.  What was queued has been written by now."""
        if l3 := self.hierarchy.tiers.get("l3"):
            l3.write_hits()
        self.flush_metrics()
        self.reporter.leave()

    def close(self) -> None:
        """No background work any more, no connections; the engine is not used any more."""
        self.outbox.close()
        self.refresher.close()
        self.flights.close()
        self.follower.close()
        self.hierarchy.close()

    # -- faults ----------------------------------------------------------------------

    def suspend(self, name: tuple[str, str]) -> None:
        """The auditor found a difference: here at once, everywhere by a rule that an
        administrator sees, and removes when the cause is found."""
        self.suspender.suspend(name)
        self.outbox.post_job(f'suspend {name}', lambda: self._write_rule(name))

    def _write_rule(self, name: tuple[str, str]) -> None:
        with self.cursor() as cr:
            configuration.write_suspension(cr, *name)
            # whatever was kept of it is not to come back when the rule is deleted
            removal.remove_pattern(self, cr, 'v1:orm:{}:{}:*'.format(*name))
        self.suspender.resume(name)

    def lost_journal(self, error: psycopg2.Error) -> bool:
        """Whether the version query failed because the journal is gone or another one, which
        is no reason to fail the request: Odoo tries it again, and then the cache is off."""
        lost = isinstance(
            error,
            (
                psycopg2.errors.UndefinedFunction,
                psycopg2.errors.UndefinedTable,
                psycopg2.errors.UndefinedColumn,
            ),
        )
        if lost:
            self.available = False
            self._retry_at = time.monotonic() + RETRY_S
            self.outbox.close()
        return lost

    def fault(self, error: BaseException, name: tuple[str, str]) -> None:
        """A bug of our own on a read path: count it, log its kind once."""
        kind = type(error).__name__
        self.metrics.fault("engine", kind)
        self.log_once(
            f"{kind} {error}"[:200],
            "Tiered Cache could not handle %s.%s; the plain call "
            "answered. Further faults of this kind are only counted.",
            *name,
            exc_info=True,
        )

    def log_once(self, kind: str, message: str, *args, exc_info=False) -> None:
        if kind not in self._logged and len(self._logged) < 1000:
            self._logged.add(kind)
            _logger.warning(message, *args, exc_info=exc_info)

    def _pool_stats(self) -> dict[str, dict]:
        """Connections of this process, by what they lead to; see :mod:`.pool_figures`."""
        l2 = self.hierarchy.tiers.get("l2")
        pools = {"redis": l2.health()["pool"]} if l2 is not None else {}
        for name, stats in self.follower.clients.stats().items():
            pools[f"remote:{name}"] = stats["pool"]
        return pools

    def stats(self) -> dict:
        """Figures of this process, for administrators; no query, no value."""
        books = self._books.values()
        return {
            "database": self.db_name,
            "pid": self.pid,
            "started_at": self.started_at,
            "enabled": self.settings.enabled and self.available,
            "available": self.available,
            "capture": self.settings.capture,
            "tiers": {name: tier.stats() for name, tier in self.hierarchy.tiers.items()},
            "memory": self.pressure.stats(),
            "guards": self.guards.stats(),
            "suspended": [".".join(name) for name in self.suspender.names()],
            "versions": {
                "deltas": sum(b.deltas for b in books),
                "reloads": sum(b.reloads for b in books),
            },
            "outbox": {"dropped": self.outbox.dropped, "faults": dict(self.outbox.job_faults)},
            "removals": self.emptying.stats(),
            "remotes": self.follower.clients.stats(),
            "pools": self._pool_stats(),
            "problems": list(self.settings.problems),
            **self.metrics.snapshot(),
        }


def prepare_fork(cr, then) -> None:
    """A registry was loaded: find out what its workers would find out one by one.

    :param cr: of the loading
    :param then: ``then(registry)`` is called in each worker that is forked, in the background
    """
    global _watches_forks  # pylint: disable=global-statement  # noqa: PLW0603
    if _is_master():
        running_code(cr.dbname, *_code(cr))
        if not _watches_forks:
            _watches_forks = True
            os.register_at_fork(after_in_child=lambda: _start_soon(then))


_watches_forks = False


def _start_soon(then) -> None:
    """A worker was forked: its engine, and L1, shall be there before its first user."""
    timer = threading.Timer(START_AFTER_S, _start, [then])
    timer.name, timer.daemon = 'tiered_cache.start', True
    timer.start()


def _start(then) -> None:
    for registry in list(Registry.registries.snapshot.values()):
        try:
            threading.current_thread().dbname = registry.db_name  # as in a request
            if engine_for(registry) is not None:
                then(registry)
        except Exception:  # noqa: BLE001 the first read tries again
            _logger.info("Tiered Cache: it starts with the first read.", exc_info=True)


def _code(cr) -> tuple[frozenset[str], frozenset[str]]:
    """:return: names of the installed modules, codes of the languages in use"""
    cr.execute(
        "SELECT name FROM ir_module_module WHERE state IN ('installed', 'to upgrade', 'to remove')"
    )
    modules = frozenset(name for (name,) in cr.fetchall())
    cr.execute("SELECT code FROM res_lang WHERE active")
    return modules, frozenset(code for (code,) in cr.fetchall())


engine_class = Engine
"""What :func:`engine_for` makes; :mod:`.test_snapshot` alone puts another one here."""


def always_relations(registry) -> frozenset[str]:
    """The relations that every entry depends on."""
    relations = set(SIGNAL_RELATIONS) | {"ir_config_parameter", "cache_namespace", "cache_rule"}
    relations.update(registry[name]._table for name in BEHIND if name in registry)
    for name in ALWAYS_MODELS:
        model = registry[name]
        relations.add(model._table)
        relations.update(
            field.relation
            for field in model._fields.values()
            if field.type == "many2many" and field.store and field.comodel_name in ALWAYS_MODELS
        )
    return frozenset(relations)
