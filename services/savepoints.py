"""Knowing which savepoints are open, and which work was rolled back to one.

The one idea: ``odoo.sql_db.Savepoint`` is the one class by which Odoo makes savepoints and
rolls back to them.  It has no hook: ``cr.precommit`` is cleared by those that flush, not by
the others, and what ran before is not undone.  So its two methods are wrapped: each savepoint
remembers where the log ended when it was made.

Without SQL, and with little work where nobody listens.  What is open stands in a queue that ends
with the transaction.

What may go wrong: see :mod:`.event_log` about savepoints in raw SQL.
"""

from __future__ import annotations

import functools
import weakref

from odoo.sql_db import Cursor, Savepoint

from .event_log import START
from .transaction import log_of, rolled_back_to_savepoint

_SLOT = 'tiered_cache.savepoints'


class _Made(weakref.WeakSet):
    """The savepoints of a transaction."""

    def __deepcopy__(self, memo):
        """Itself, as :class:`.transaction.TransactionState` and for the same reason."""
        return self


def in_savepoint(cr) -> bool:
    """Whether a savepoint is open, as far as Odoo has made it.  A cursor of Odoo's tests always has
    one."""
    if not isinstance(cr, Cursor):
        return True
    return any(not savepoint.closed for savepoint in cr.postcommit.data.get(_SLOT, ()))


def post_load() -> None:
    if hasattr(Savepoint.rollback, '_tiered_cache'):
        return
    make, roll_back = Savepoint.__init__, Savepoint.rollback

    @functools.wraps(make)
    def __init__(self, cr):
        make(self, cr)
        log = log_of(cr)
        self._tiered_cache_mark = START if log is None else log.mark()
        if isinstance(cr, Cursor):
            cr.postcommit.data.setdefault(_SLOT, _Made()).add(self)

    @functools.wraps(roll_back)
    def rollback(self):
        roll_back(self)
        rolled_back_to_savepoint(self._cr)
        log = log_of(self._cr)
        if log is not None:
            # PostgreSQL knew the savepoint, so it belongs to the transaction that is open now
            log.rolled_back(self._cr, getattr(self, '_tiered_cache_mark', START))

    rollback._tiered_cache = True
    Savepoint.__init__, Savepoint.rollback = __init__, rollback
