"""What a connection has sent, whoever sent it: how many statements, and whether settings changed.

The one idea: psycopg2 lets a connection choose the class of its cursors.  Those of Odoo's
connections get one that counts, so that SQL is noticed which passes by ``Cursor.execute`` and by
Odoo's query hooks: ``COPY``, ``executemany``, a second or a named cursor, ``cr._obj``.  Who has
counted what the hooks told compares it with :func:`sent`.

Settings of a session or transaction can change what PostgreSQL answers (``TimeZone``,
``search_path``, ``ROLE``, the isolation level), and no key holds them.  So whoever has changed one
is not served until the pool lends the connection to the next, which resets it (:func:`has_set`).
Temporary tables stay until the connection is closed, and hide real ones of the same name
(:func:`temporary`).

What may go wrong: a cursor of a class that code has chosen itself, or one that was open before the
patch, is not counted; from then on the count of its connection is :data:`UNKNOWN`, which equals
nothing, itself included: the server is asked each time, and nothing is kept, until the pool lends
the connection to the next.  Settings that a function of the server changes are not seen.
"""

from __future__ import annotations

import functools
import math
import re

from psycopg2.extensions import cursor as _Cursor
from psycopg2.sql import Composable

from odoo.sql_db import PsycoConnection

UNKNOWN = math.nan

_SLOT = '_tiered_cache_sent'
_SET_SLOT = '_tiered_cache_set'
_TEMPORARY_SLOT = '_tiered_cache_temporary'

_HARMLESS = r"""(?: lock_timeout | statement_timeout | application_name | synchronous_commit
    | work_mem | jit | enable_\w+ | transaction \s+ (?: read \s+ only | snapshot ) ) \b"""

_SETTING = re.compile(
    rf"""(?: ^ | ; ) \s* (?: set | reset | discard ) \s+
        (?! (?: (?: local | session ) \s+ )? {_HARMLESS} )
      | \b set_config \b (?! \s* \( \s* ' {_HARMLESS} )
      | \b update \b .* \b pg_settings \b""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""A statement that may change what others answer."""

_BEGINNINGS = ('set', 'reset', 'discard', '/*', '--')
_ANYWHERE = (';', 'set_config', 'pg_settings', 'temp')

_TEMPORARY = re.compile(
    r"""\b (?: create \s [\s\w]*? temp (?:orary)? \s [\s\w]*? \b (?: table | view )
             (?: \s+ if \s+ not \s+ exists )?
          | into \s+ temp (?:orary)? (?: \s+ table )?
          | create \s [\s\w]*? (?: table | view ) (?: \s+ if \s+ not \s+ exists )?
            (?= \s+ "? pg_temp ) )
        \s+ (?: "? pg_temp "? \s* \. \s* )? "? ( [^\W\d] [\w$]* )""",
    re.IGNORECASE | re.VERBOSE,
)
"""A statement that makes a temporary table or view; its name."""


def _may_set(query) -> bool:
    """Whether a statement is worth a closer look, which takes 100 µs where this takes 1 or 2."""
    if type(query) is not str:
        return True
    if query.lstrip()[:8].lower().startswith(_BEGINNINGS):
        return True
    lowered = query.lower()
    return any(text in lowered for text in _ANYWHERE)


def _text(cursor, query) -> str:
    if isinstance(query, bytes):
        return query.decode(errors='replace')
    return query.as_string(cursor) if isinstance(query, Composable) else str(query)


class CountingCursor(_Cursor):
    """:ivar began: what its connection had sent when it was made"""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.began = getattr(self.connection, _SLOT, 0)


def _look_closer(values: dict, text: str) -> None:
    """:param values: of a connection"""
    if _SETTING.search(text):
        values[_SET_SLOT] = True
    if made := _TEMPORARY.findall(text):
        values[_TEMPORARY_SLOT] = values.get(_TEMPORARY_SLOT, frozenset()).union(
            name.lower() for name in made
        )


def _counting(name: str):
    plain = getattr(_Cursor, name)

    @functools.wraps(plain)
    def method(self, query, *args, **kwargs):
        values = self.connection.__dict__
        values[_SLOT] = values.get(_SLOT, 0) + 1
        if _may_set(query):
            _look_closer(values, _text(self, query))
        return plain(self, query, *args, **kwargs)

    return method


for _name in ('execute', 'executemany', 'callproc', 'copy_from', 'copy_to', 'copy_expert'):
    setattr(CountingCursor, _name, _counting(_name))


def sent(cr) -> float:
    """Statements on the connection of an Odoo cursor since that cursor was made, or UNKNOWN."""
    inner = cr._obj
    if type(inner) is not CountingCursor:
        return UNKNOWN
    return getattr(inner.connection, _SLOT, 0) - inner.began


def has_set(cr) -> bool:
    """Whether the connection of an Odoo cursor has settings of its own."""
    return _SET_SLOT in cr._cnx.__dict__


def temporary(cr) -> frozenset[str]:
    """Names of temporary tables and views that were made on the connection of an Odoo cursor."""
    return cr._cnx.__dict__.get(_TEMPORARY_SLOT, frozenset())


def post_load() -> None:
    if hasattr(PsycoConnection.cursor, '_tiered_cache'):
        return
    make, plain_reset = PsycoConnection.cursor, PsycoConnection.reset

    @functools.wraps(make)
    def cursor(self, name=None, cursor_factory=None, *args, **kwargs):
        if cursor_factory is None and self.cursor_factory is None:
            cursor_factory = CountingCursor
        else:
            setattr(self, _SLOT, UNKNOWN)
        return make(self, name, cursor_factory, *args, **kwargs)

    @functools.wraps(PsycoConnection.reset)
    def reset(self):
        plain_reset(self)
        self.__dict__.pop(_SLOT, None)
        self.__dict__.pop(_SET_SLOT, None)

    cursor._tiered_cache = True
    PsycoConnection.cursor, PsycoConnection.reset = cursor, reset
