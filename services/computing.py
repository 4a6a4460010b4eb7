"""Calling the function that computes a named entry.

The one idea: a function gets what it names.  ``compute()`` uses what it has closed over;
``compute(env)`` can be called in another transaction, which a refresh in the background and a
time limit need; ``compute(env, previous)`` may look at the value whose time is over, and answer
:data:`NOT_CHANGED`.

What may go wrong: a function that takes longer than it may.  Python cannot end it: it goes on in
a thread of its own, whose value is kept when it comes; so many of them that they would pile up
are not started.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import typing

from odoo import api
from odoo.sql_db import db_connect

MAX_DETACHED = 8
"""Threads of one process that compute within a time limit; beyond it, computations are not
limited."""


class Tagged(typing.NamedTuple):
    """A value with a name for its state, such as the ETag of a supplier's answer."""

    value: object
    tag: str


class _NotChanged:
    def __repr__(self):
        return 'NOT_CHANGED'


NOT_CHANGED = _NotChanged()
"""What a computation returns for: the previous value is still good."""


class Computation:
    """A function, and what of :data:`env` and :data:`previous` it wants.

    :param function: the caller's
    """

    def __init__(self, function):
        self._function = function
        names = _parameters(function)
        self.takes_env = 'env' in names
        self.takes_previous = 'previous' in names

    def __call__(self, env, previous: Tagged | None):
        arguments = {}
        if self.takes_env:
            arguments['env'] = env
        if self.takes_previous:
            arguments['previous'] = previous
        return self._function(**arguments)


def _parameters(function) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a built-in function
        return frozenset()


@contextlib.contextmanager
def own_environment(database: str, uid: int, context, su: bool, snapshot: str | None = None):
    """A user and context in a transaction of its own, which is rolled back.

    :param snapshot: of ``pg_export_snapshot()``, to see what another transaction sees
    """
    with contextlib.closing(db_connect(database).cursor()) as cr:
        try:
            if snapshot:
                cr.execute('SET TRANSACTION SNAPSHOT %s', [snapshot])
            yield api.Environment(cr, uid, context, su)
        finally:
            cr.rollback()


class Detached:
    """A computation in a thread of its own, with an environment of its own.

    :param work: ``work(env)``
    """

    def __init__(self, work, env, snapshot: str):
        self._work = work
        self._own = (env.cr.dbname, env.uid, env.context, env.su, snapshot)
        self._done = threading.Event()
        self.value = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name='tiered_cache.compute', daemon=True)

    def start(self) -> bool:
        """:return: False where too many are at it already"""
        if not _room.acquire(blocking=False):
            return False
        self._thread.start()
        return True

    def wait(self, timeout_s: float) -> bool:
        """:return: whether it has ended in time"""
        return self._done.wait(timeout_s)

    def _run(self) -> None:
        try:
            with own_environment(*self._own) as own:
                self.value = self._work(own)
        except BaseException as error:  # noqa: BLE001 whoever waits gets it
            self.error = error
        finally:
            _room.release()
            self._done.set()


_room = threading.BoundedSemaphore(MAX_DETACHED)
