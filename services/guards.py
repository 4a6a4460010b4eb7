"""Guarding relations, lazily and outside of requests.

The one idea: the first result that needs an unguarded relation is not stored, but asks for
the guard; the outbox creates it a moment later, one relation per transaction and with a
short ``lock_timeout``, so that no writer waits for us longer than that.

What may go wrong: a table that is always locked, a role that may not create triggers.  The
relation stays unguarded, results that need it are computed, the next try comes later and
later, and administrators see the error.
"""

from __future__ import annotations

import logging
import threading
import time

import psycopg2

from . import journal
from .sentences import _lt

_logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0

_REMEMBER = """
INSERT INTO cache_guard_failure (relation, error, failed_at, count)
VALUES (%(relation)s, left(%(error)s, 1000), now() AT TIME ZONE 'utc', 1)
ON CONFLICT (relation) DO UPDATE
SET error = excluded.error, failed_at = excluded.failed_at, count = cache_guard_failure.count + 1
"""
_FORGET = "DELETE FROM cache_guard_failure WHERE relation = %(relation)s"
_FORGET_GONE = "DELETE FROM cache_guard_failure WHERE to_regclass(quote_ident(relation)) IS NULL"

_SOLVED = """
SELECT name FROM unnest(%s::text[]) AS name
 WHERE to_regclass(quote_ident(name)) IS NULL
    OR EXISTS (SELECT FROM cache_version WHERE relation = name AND capture <> 'removal')
"""

LOOK_AGAIN_S = 30.0
"""How often a process asks whether what it could not guard is gone, or guarded by another."""


class Guards:
    """:param engine: for its cursor, settings, outbox and catalogue"""

    def __init__(self, engine):
        self._engine = engine
        self._lock = threading.Lock()
        self._wanted: dict[str, float] = {}
        self._pause_s: dict[str, float] = {}
        self._looked_at = time.monotonic()
        self.errors: dict[str, str] = {}
        self.created = 0

    def want(self, relations) -> None:
        """Ask for guards; they come after the request."""
        with self._lock:
            for relation in relations:
                self._wanted.setdefault(relation, 0.0)
        self._engine.outbox.post_job('guards', self.work)

    def work(self) -> None:
        """Create the guards whose time has come."""
        now = time.monotonic()
        if self.errors and now - self._looked_at >= LOOK_AGAIN_S:
            self.forget_solved()
        with self._lock:
            due = sorted(relation for relation, at in self._wanted.items() if at <= now)
        if not due:
            return
        for relation in due:
            self._guard(relation)

    def _guard(self, relation: str) -> None:
        engine = self._engine
        if not engine.catalogue.knows(relation):
            self._later(relation, _lt("not a table of the current schema"))
            return
        try:
            with engine.cursor() as cr:
                self._limit_wait(cr)
                created = journal.guard(cr, relation, engine.settings.capture)
        except (psycopg2.Error, AssertionError) as error:  # the second: Odoo cannot quote the name
            self._later(relation, str(error).strip())
            if not journal.is_lock_timeout(error):
                engine.log_once(
                    f'guard {relation} {type(error).__name__}',
                    "Relation %s cannot be guarded, so results that read it are not cached: %s",
                    relation,
                    error,
                )
            return
        if created:
            self._done(relation)
        else:
            self._later(relation, '')

    def forget_solved(self) -> None:
        """Nothing is wrong any more with tables that are gone, nor with those that another
        process has guarded meanwhile."""
        self._looked_at = time.monotonic()
        with self._engine.cursor() as cr:
            cr.execute(_FORGET_GONE)
            cr.execute(_SOLVED, [list(self.errors)])
            solved = [name for (name,) in cr.fetchall()]
        for relation in solved:
            self._forget(relation)

    def _forget(self, relation: str) -> None:
        """It need not be guarded any more; the next answer that needs it asks again."""
        with self._lock:
            self._wanted.pop(relation, None)
        self._pause_s.pop(relation, None)
        if self.errors.pop(relation, None):
            self._remember(relation, '')

    def _limit_wait(self, cr) -> None:
        """Wait for a busy table no longer than told."""
        limit = f'{self._engine.settings.guard_lock_timeout_ms}ms'
        cr.execute("SELECT set_config('lock_timeout', %s, true)", [limit])

    def _done(self, relation: str) -> None:
        self._forget(relation)
        self.created += 1

    def _later(self, relation: str, error: str) -> None:
        pause_s = self._pause_s.get(relation, FIRST_PAUSE_S)
        self._pause_s[relation] = min(pause_s * 2, LONGEST_PAUSE_S)
        with self._lock:
            self._wanted[relation] = time.monotonic() + pause_s
        if error:
            self.errors[relation] = error
            self._remember(relation, error)

    def _remember(self, relation: str, error: str) -> None:
        """For the administrators, who may be talking to another process."""
        try:
            with self._engine.cursor() as cr:
                cr.execute(_REMEMBER if error else _FORGET, {'relation': relation, 'error': error})
        except psycopg2.Error:
            _logger.debug("The state of the guard of %s was not written", relation, exc_info=True)

    def check(self) -> int:
        """Release guards that are broken, so that nothing trusts them; they are asked for
        again when they are needed.

        :return: how many were broken
        """
        if self._engine.settings.capture != 'triggers':
            return 0
        self.forget_solved()
        with self._engine.cursor() as cr:
            cr.execute("SET LOCAL lock_timeout = '1s'")
            broken = journal.broken_guards(cr)
            for relation in broken:
                journal.release(cr, relation)
            there = journal.existing(cr, broken)
        if there:
            _logger.warning(
                "Triggers of these relations were missing or disabled; what was "
                "cached from them is dropped, and they are guarded again when they "
                "are needed: %s",
                ', '.join(there),
            )
        return len(broken)

    # -- by hand: buttons, and cli/cache.py -------------------------------------------------

    def guard_now(self, relation: str) -> str:
        """Guard a relation at once.

        :return: '' or why it could not be done yet; it is tried again in the background then
        """
        if not self._engine.catalogue.knows(relation):
            return _lt("it is not a table of the current schema")
        with self._lock:
            self._wanted.setdefault(relation, 0.0)
        self._guard(relation)
        with self._lock:
            waits = relation in self._wanted
        busy = _lt("another process is guarding or compacting, try again")
        return self.errors.get(relation, busy) if waits else ''

    def release_now(self, relation: str) -> str:
        """Take the guard off a relation: what was read from it is invalid for good.

        Its triggers go in the same transaction, or not at all: between two, another process could
        guard it again, and would trust triggers that are gone a moment later.

        :return: '' or why its triggers are still there
        :raise psycopg2.Error: it could not be released
        """
        engine, gone = self._engine, False
        try:
            with engine.cursor() as own:
                self._limit_wait(own)
                gone = journal.unguard(own, relation)
        except psycopg2.Error as error:
            if not journal.is_lock_timeout(error):
                raise
        if not gone:
            with engine.cursor() as own:
                journal.release(own, relation)
        with self._lock:
            self._wanted.pop(relation, None)
        self._pause_s.pop(relation, None)
        self.errors.pop(relation, None)
        self._remember(relation, '')
        return '' if gone else _lt("its triggers are in use and stay, without effect")

    def repair(self) -> dict[str, str]:
        """Make guards anew that are not as they were made.

        :return: by relation '' or why it could not be done
        """
        with self._engine.cursor() as cr:
            problems = journal.guard_problems(cr)
        done = {}
        for relation, problem in problems.items():
            reason = self.release_now(relation)
            if problem != journal.GONE:
                reason = reason or self.guard_now(relation)
            done[relation] = reason
        return done

    def stats(self) -> dict:
        with self._lock:
            return {
                'created': self.created,
                'waiting': len(self._wanted),
                'names': sorted(self._wanted),
                'errors': dict(self.errors),
            }
