"""What a stranger's input makes PostgreSQL say is no error of this server.

The one idea: a query that PostgreSQL refuses is logged by Odoo as an ERROR, and so are some
domains that the ORM refuses.  Where they were made from what a program outside has sent, the line
becomes an INFO for the thread that serves it: who reads the log of errors is not woken up by a
stranger's typing mistake.

What may go wrong: a fault of the server shows up in such a query.  The line is there, one level
lower, and the caller is told.
"""

from __future__ import annotations

import contextlib
import logging
import threading

_LOGGERS = ('odoo.sql_db', 'odoo.domains', 'odoo.fields', 'odoo.models', 'py.warnings')
"""Of Odoo, for what it makes of a call; the last one for operators that are deprecated."""

_local = threading.local()


class _Lower(logging.Filter):
    def filter(self, record) -> bool:
        if getattr(_local, 'quiet', False) and record.levelno > logging.INFO:
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        return True


_lower = _Lower()


@contextlib.contextmanager
def quiet():
    """Within it, what this thread's queries and domains log is no error."""
    for logger in map(logging.getLogger, _LOGGERS):
        if _lower not in logger.filters:
            logger.addFilter(_lower)  # stays: adding and removing would not be thread-safe
    before, _local.quiet = getattr(_local, 'quiet', False), True
    try:
        yield
    finally:
        _local.quiet = before
