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

_logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0


class Guards:
    """:param engine: for its cursor, settings, outbox and catalogue"""

    def __init__(self, engine):
        self._engine = engine
        self._lock = threading.Lock()
        self._wanted: dict[str, float] = {}
        self._pause_s: dict[str, float] = {}
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
        with self._lock:
            due = sorted(relation for relation, at in self._wanted.items() if at <= now)
        if not due:
            return
        for relation in due:
            self._guard(relation)

    def _guard(self, relation: str) -> None:
        engine = self._engine
        if not engine.catalogue.knows(relation):
            self._later(relation, 'not a table of the current schema')
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

    def _limit_wait(self, cr) -> None:
        """Wait for a busy table no longer than told."""
        limit = f'{self._engine.settings.guard_lock_timeout_ms}ms'
        cr.execute("SELECT set_config('lock_timeout', %s, true)", [limit])

    def _done(self, relation: str) -> None:
        with self._lock:
            self._wanted.pop(relation, None)
        self._pause_s.pop(relation, None)
        self.errors.pop(relation, None)
        self.created += 1

    def _later(self, relation: str, error: str) -> None:
        pause_s = self._pause_s.get(relation, FIRST_PAUSE_S)
        self._pause_s[relation] = min(pause_s * 2, LONGEST_PAUSE_S)
        with self._lock:
            self._wanted[relation] = time.monotonic() + pause_s
        if error:
            self.errors[relation] = error

    def check(self) -> int:
        """Release guards that are broken, so that nothing trusts them; they are asked for
        again when they are needed.

        :return: how many were broken
        """
        if self._engine.settings.capture != 'triggers':
            return 0
        with self._engine.cursor() as cr:
            cr.execute("SET LOCAL lock_timeout = '1s'")
            broken = journal.broken_guards(cr)
            for relation in broken:
                journal.release(cr, relation)
        if broken:
            _logger.warning(
                "Triggers of these relations were missing or disabled; what was "
                "cached from them is dropped, and they are guarded again when they "
                "are needed: %s",
                ', '.join(broken),
            )
        return len(broken)

    # -- by hand, see cli/cache.py ---------------------------------------------------------

    def guard_now(self, relation: str) -> str:
        """Guard a relation at once.

        :return: '' or why it could not be done
        """
        if not self._engine.catalogue.knows(relation):
            return 'it is not a table of the current schema'
        self._guard(relation)
        with self._lock:
            is_waiting = self._wanted.pop(relation, None) is not None
        busy = 'another process is guarding or compacting, try again'
        return self.errors.get(relation, busy) if is_waiting else ''

    def release_now(self, relation: str) -> str:
        """Take the guard off a relation: what was read from it is invalid for good.

        :return: '' or why its triggers are still there
        """
        with self._engine.cursor() as cr:
            journal.release(cr, relation)
        try:
            with self._engine.cursor() as cr:
                self._limit_wait(cr)
                journal.drop_triggers(cr, relation)
        except psycopg2.Error as error:
            if not journal.is_lock_timeout(error):
                raise
            return 'its triggers are in use and stay, without effect'
        return ''

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
