"""Single flight: of those who want the same value at the same time, one computes it.

The one idea: a lock saves work and decides nothing.  Who does not get it waits a while for the
one who did, looks again, and else computes; what may be served is decided by versions alone.

Within a process a :class:`Flight` is waited for, between processes a *lease*: a key of Redis
(``SET NX PX`` with a random owner, removed only by its owner), or, where there is no Redis, an
advisory lock of PostgreSQL on a connection of our own, which ends with the process that holds it.
Reads of the ORM are only waited for within a process: threads share one interpreter, so each that
computes the same slows down all, while processes lose nothing but the work.

What may go wrong: an owner that dies or takes long delays each of the others by the time that they
are willing to wait, once; a Redis or a connection that fails leases nothing and everybody computes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import threading
import time

import psycopg2

_logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.01
"""Pause between two looks at somebody else's lease; a look takes 0.1 ms."""

STATEMENT_TIMEOUT_MS = 1000

# Odoo takes advisory locks of its own by one number; the first of two keeps ours apart.
_LOCK_CLASS = 0x7469


class Flight:
    """A computation of this process that others may wait for."""

    __slots__ = ('_done',)

    def __init__(self):
        self._done = threading.Event()

    def wait(self, timeout_s: float) -> bool:
        """:return: whether it has ended in time"""
        return self._done.wait(timeout_s)

    def end(self) -> None:
        self._done.set()


class Flights:
    """The computations of one process and database.

    :param leases: what keeps processes apart: has ``take(key, ttl_s)``, which returns a token, or
        None if somebody else holds it, and ``release(key, token)``
    """

    def __init__(self, leases):
        self._leases = leases
        self._lock = threading.Lock()
        self._open: dict[str, Flight] = {}

    @contextlib.contextmanager
    def alone(self, key: str, wait_s: float, look):
        """Compute alone, or wait for who does.

        :param wait_s: longest time to wait, seconds
        :param look: without arguments; what the cache has for the key by now, or None
        :return: yields what ``look`` found after waiting, or None: compute
        """
        deadline = time.monotonic() + wait_s
        flight, is_mine = self._join(key)
        if not is_mine:
            yield look() if flight.wait(wait_s) else None
            return
        token = None
        try:
            token, found = self._lease(key, deadline, look)
            yield found
        finally:
            if token is not None:
                self._leases.release(key, token)
            self._end(key, flight)

    @contextlib.contextmanager
    def among_threads(self, key: str, wait_s: float):
        """Compute while other threads wait, or wait for the thread that does; no lease is taken.

        :return: yields whether another thread has finished: look again
        """
        flight, is_mine = self._join(key)
        try:
            yield not is_mine and flight.wait(wait_s)
        finally:
            if is_mine:
                self._end(key, flight)

    @contextlib.contextmanager
    def if_nobody_does(self, key: str):
        """Compute unless somebody is at it already.

        :return: yields whether to compute
        """
        flight, is_mine = self._join(key)
        token = None
        try:
            if is_mine:
                token = self._leases.take(key)
            yield token is not None
        finally:
            if token is not None:
                self._leases.release(key, token)
            if is_mine:
                self._end(key, flight)

    def close(self) -> None:
        self._leases.close()

    def _join(self, key: str) -> tuple[Flight, bool]:
        """The flight for a key, and whether it has just begun."""
        with self._lock:
            flight = self._open.get(key)
            if flight is not None:
                return flight, False
            flight = self._open[key] = Flight()
            return flight, True

    def _end(self, key: str, flight: Flight) -> None:
        with self._lock:
            self._open.pop(key, None)
        flight.end()

    def _lease(self, key: str, deadline: float, look):
        """A token, and what somebody else has computed while we waited for one."""
        token = self._leases.take(key)
        while token is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None, None
            time.sleep(min(LOOK_EVERY_S, left_s))
            if not self._leases.is_taken(key):
                return None, look()
        return token, None


UNLEASED = object()
"""Token where nothing can be leased: compute."""


class Leases:
    """Leases of Redis, or else of PostgreSQL.

    :param engine: for its tiers and connections
    :param ttl_s: how long a lease of Redis lasts if its owner dies, seconds
    """

    def __init__(self, engine, ttl_s: float):
        self._engine = engine
        self._ttl_ms = int(ttl_s * 1000)
        self._database = DatabaseLocks(engine.connect)

    def take(self, key: str):
        """:return: a token for :meth:`release`, None if somebody else has it"""
        tiers = self._engine.hierarchy.tiers
        redis = tiers.get('l2')
        if redis is not None and redis.is_up_for(key):
            owner = secrets.token_hex(8)
            taken = redis.lease(key, owner, self._ttl_ms)
            if taken is not None:
                return (redis, owner) if taken else None
        if 'l3' in tiers:
            taken = self._database.take(key)
            if taken is not None:
                return (self._database, '') if taken else None
        return UNLEASED

    def is_taken(self, key: str) -> bool:
        """Whether somebody holds a lease, as far as can be seen."""
        redis = self._engine.hierarchy.tiers.get('l2')
        if redis is not None and redis.is_up_for(key):
            return redis.is_leased(key)
        return self._database.is_taken(key)

    def release(self, key: str, token) -> None:
        if token is not UNLEASED:
            holder, owner = token
            holder.release(key, owner)

    def close(self) -> None:
        self._database.close()


class DatabaseLocks:
    """Advisory locks of one session; thread-safe.

    :param connect: makes a psycopg2 connection
    """

    def __init__(self, connect):
        self._connect = connect
        self._lock = threading.Lock()
        self._connection = None

    def take(self, key: str) -> bool | None:
        """:return: None if PostgreSQL could not be asked"""
        return self._ask("SELECT pg_try_advisory_lock(%s, %s)", key)

    def is_taken(self, key: str) -> bool:
        """Whether another session holds it."""
        taken = self.take(key)
        if taken:
            self.release(key, '')
        return taken is False

    def release(self, key: str, _owner: str) -> None:
        self._ask("SELECT pg_advisory_unlock(%s, %s)", key)

    def _ask(self, statement: str, key: str) -> bool | None:
        digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
        number = int.from_bytes(digest, 'big', signed=True)
        with self._lock:
            try:
                with self._session().cursor() as cursor:
                    cursor.execute(statement, [_LOCK_CLASS, number])
                    return cursor.fetchone()[0]
            except psycopg2.Error as error:
                _logger.debug("Tiered Cache: no advisory lock: %s", error)
                self._drop()
                return None

    def _session(self):
        if self._connection is None:
            self._connection = self._connect()
            self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                limit = str(STATEMENT_TIMEOUT_MS)
                cursor.execute("SELECT set_config('statement_timeout', %s, false)", [limit])
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    def close(self) -> None:
        with self._lock:
            self._drop()
