"""Telling the log of events which work was rolled back to a savepoint.

The one idea: ``odoo.sql_db.Savepoint`` is the one class by which Odoo makes savepoints and
rolls back to them.  It has no hook: ``cr.precommit`` is cleared by those that flush, not by
the others, and what ran before is not undone.  So its two methods are wrapped: each savepoint
remembers where the log ended when it was made.

Without SQL, and without work where nobody listens: one look into a dictionary.

What may go wrong: see :mod:`.event_log` about savepoints in raw SQL.
"""

from __future__ import annotations

import functools

from odoo.sql_db import Savepoint

from .event_log import START
from .transaction import log_of


def post_load() -> None:
    if hasattr(Savepoint.rollback, '_tiered_cache'):
        return
    make, roll_back = Savepoint.__init__, Savepoint.rollback

    @functools.wraps(make)
    def __init__(self, cr):
        make(self, cr)
        log = log_of(cr)
        self._tiered_cache_mark = START if log is None else log.mark()

    @functools.wraps(roll_back)
    def rollback(self):
        roll_back(self)
        log = log_of(self._cr)
        if log is not None:
            # PostgreSQL knew the savepoint, so it belongs to the transaction that is open now
            log.rolled_back(self._cr, getattr(self, '_tiered_cache_mark', START))

    rollback._tiered_cache = True
    Savepoint.__init__, Savepoint.rollback = __init__, rollback
