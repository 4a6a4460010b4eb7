"""FOR TESTS ONLY: the cache answers inside a transaction that has written and never commits.

Tests of Odoo modules run in one transaction that writes first, so the cache steps aside (its
promise P2) and they prove nothing about hits.  With ``TIERED_CACHE_TEST_SNAPSHOT=1`` in the
environment *and* ``--test-enable`` or ``--test-tags`` on the command line, and never otherwise,
:class:`TestEngine` takes the place of the engine.

The one idea: what a transaction has written so far is a snapshot of its own.  The triggers
write the journal in the same transaction, which sees its own rows, so the same sum of tokens
is the version.  A savepoint rollback removes rows, and the sum is again what it was.  For this

* every read asks for the versions anew;
* the trigger writes one row per statement, not one per transaction and relation;
* every table is guarded before the first test;
* entries live in L1 only, under keys that name this process, this transaction and how often
  values of ``tools.ormcache`` were dropped, so no other transaction can ever see one;
* nothing is suspended: a difference that the auditor finds is counted, and the next read is
  compared as well.

What may go wrong: the transaction holds changes that are not flushed, or records that are not
saved.  Then the read is computed, as ever.  Values of ``tools.ormcache`` that a savepoint
rollback leaves behind are Odoo's own: the plain call uses them too.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from odoo.orm.identifiers import NewId
from odoo.tools import config

from . import engine as engines
from . import journal
from .memory import Memory
from .policy import Suspender
from .removal import Removals, is_removal
from .snapshot import Snapshot
from .versions import State

_logger = logging.getLogger(__name__)

VARIABLE = 'TIERED_CACHE_TEST_SNAPSHOT'

_NOTE_EVERY_STATEMENT = """
CREATE OR REPLACE FUNCTION cache_change_note() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $body$
BEGIN
    IF TG_OP <> 'TRUNCATE' THEN
        IF NOT EXISTS (SELECT FROM changed_rows) THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO cache_change (relation) VALUES (TG_TABLE_NAME);
    RETURN NULL;
END
$body$
"""

_UNGUARDED = """
SELECT c.relname FROM pg_class c
 WHERE c.relkind = 'r' AND c.relpersistence = 'p'
   AND c.relnamespace = current_schema()::regnamespace AND c.relname <> ALL(%s)
   AND NOT EXISTS (SELECT FROM cache_version v
                    WHERE v.relation = c.relname AND v.relid = c.oid AND v.capture = 'triggers')
"""

_LOOK = f"""
SELECT pg_current_snapshot()::text, pg_backend_pid(), transaction_timestamp()::text,
       (SELECT json_object_agg(relation, token::text) FROM (
            SELECT relation, mod(sum(token), {journal.MODULUS}) AS token FROM (
                SELECT relation, token FROM cache_version
                UNION ALL
                SELECT relation, token FROM cache_change
            ) AS every_token GROUP BY relation) AS sums),
       (SELECT json_agg(relation) FROM cache_version WHERE capture = 'triggers')
"""


def is_on() -> bool:
    """Whether tests asked for it; outside of Odoo's test mode it is refused, loudly."""
    if os.environ.get(VARIABLE, '') in ('', '0'):
        return False
    if not config['test_enable']:
        _logger.error(
            "%s is for tests only; it is ignored, since Odoo runs without --test-enable.", VARIABLE
        )
        return False
    return True


def post_load() -> None:
    """Choose the engine, once, when the addon is loaded."""
    if is_on():
        _logger.warning("%s: the cache answers inside the transactions of tests.", VARIABLE)
        engines.engine_class = TestEngine


class TestEngine(engines.Engine):
    """An engine for which a transaction's own writes are a snapshot of their own."""

    __test__ = False  # not a test, whatever its name begins with

    def __init__(self, registry):
        if not config['test_enable']:
            raise RuntimeError(f"{VARIABLE} is for tests only")
        self._code = ''
        self._local = threading.local()
        self._cleared = _count_clearing(registry)
        self.guarded_now: list[str] = []
        super().__init__(registry)
        self.suspender = _NeverSuspender()
        self.memory = _OwnMemory(registry, self.always)
        self._book = _OwnBook(self)

    def _read_database(self, cr) -> list[str]:
        self.guarded_now = prepare(cr)
        return super()._read_database(cr)

    # -- keys and places ---------------------------------------------------------------

    @property
    def code(self) -> str:
        """The digest of the code, which stands in every key, and the transaction besides."""
        transaction = getattr(self._local, 'transaction', None)
        return f'{self._code} {os.getpid()} {transaction} {self._cleared[0]}'

    @code.setter
    def code(self, code: str) -> None:
        self._code = code

    def configure(self, cr, versions=None) -> None:  # pylint: disable=missing-return
        super().configure(cr, versions)
        tiers, writers = self.hierarchy.tiers, self.hierarchy.writers
        for name in ('l2', 'l3'):
            for tier in filter(None, (tiers.pop(name, None), writers.pop(name, None))):
                tier.close()

    def post_entry(self, tier: str, entry) -> None:
        """Nothing goes to a shared tier."""

    def suspend(self, name) -> None:
        """A difference is counted, and nothing is switched off, so that others are found."""

    # -- what a transaction may use ----------------------------------------------------

    def book(self, cr):
        return self._book

    def entered(self, transaction) -> None:
        """A look was made: keys name this transaction from now on, in this thread."""
        if getattr(self._local, 'transaction', None) != transaction:
            self._local.transaction = transaction
            self.hierarchy.each('clear')

    def settle(self, records, transaction) -> bool:
        if not self.is_settled(records) or _holds_unsaved(records.env.transaction):
            return False
        transaction.dirty = transaction.drafts = transaction.looked = False
        transaction.versions, transaction.objection = None, ''
        return True

    def is_settled(self, records) -> bool:
        orm = records.env.transaction
        return not (
            any(orm.field_dirty.values())
            or any(any(ids) for ids in orm.tocompute.values())
            or records.env.registry.registry_invalidated
        )

    def close(self) -> None:
        self.registry.__dict__.pop('clear_cache', None)
        return super().close()

    def disturbed_since(self, epoch: int, own) -> bool:
        return False  # the only writer is the test itself, and clearing is part of the key


class _NeverSuspender(Suspender):
    def suspended(self, name) -> bool:
        return False


class _OwnMemory(Memory):
    """All cursors of a test share one transaction, so none can have other rights."""

    def _has_others(self, transaction) -> bool:
        return False


class _OwnBook:
    """Versions with what the transaction itself has written."""

    capture = 'triggers'
    state = None

    def __init__(self, engine):
        self._engine = engine

    def look(self, cr) -> State:
        read_at = time.monotonic()
        # below Odoo's cursor, which counts queries for the tests
        cr._obj.execute(_LOOK)
        snapshot, backend, began, sums, guarded = cr._obj.fetchone()
        self._engine.entered((backend, began))
        guarded = set(guarded or ())
        registry = self._engine.registry
        return State(
            Snapshot.parse(snapshot),
            '',
            {name: int(token) for name, token in sums.items() if name in guarded},
            Removals({n: int(token) for n, token in sums.items() if is_removal(n)}),
            (
                registry.registry_sequence,
                *(registry.cache_sequences[name] for name in engines.SIGNALS[1:]),
            ),
            frozenset(),
            False,
            read_at,
        )

    def forget(self) -> None:
        """There is nothing to forget: every look reads all."""


def prepare(cr) -> list[str]:
    """Guard every table, and let the triggers write a row for each statement.

    :return: the tables that were not guarded before
    """
    cr.execute(_UNGUARDED, [['cache_change', 'cache_version', 'cache_entry']])
    relations = [relation for (relation,) in cr.fetchall()]
    for relation in relations:
        journal.guard(cr, relation)
    cr.execute(_NOTE_EVERY_STATEMENT)
    return relations


def restore(cr) -> None:
    """The trigger as it is in production; the guards may stay."""
    journal.install(cr)


def _holds_unsaved(orm) -> bool:
    """Whether the ORM holds values of records without a row."""
    return bool(orm.field_data_patches) or any(map(_unsaved, orm.field_data.values()))


def _unsaved(values: dict) -> bool:
    for key, value in values.items():
        if isinstance(key, NewId) or isinstance(value, NewId):
            return True
        if isinstance(value, tuple) and any(isinstance(id_, NewId) for id_ in value):
            return True
        if isinstance(key, tuple) and isinstance(value, dict) and _unsaved(value):
            return True  # the values of one context
    return False


def _count_clearing(registry) -> list[int]:
    """Count how often code dropped ``tools.ormcache`` values, since it has changed what they
    are made of.  ``clear_all_caches``, which drops them after each test, tells of no change."""
    count = [0]

    def clear_cache(*names):
        count[0] += 1
        return type(registry).clear_cache(registry, *names)

    registry.clear_cache = clear_cache
    return count
