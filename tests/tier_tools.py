"""What the tests of the tiers share: a clock to turn, entries, a table for them, a forked child."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
import warnings

import psycopg2
from psycopg2 import sql

from odoo.sql_db import connection_info_for
from odoo.tests.common import get_db_name

from ..services.entry import Entry

SECRET = b'a secret of 32 bytes for tests 1'


class Clock:
    """Seconds that pass when a test says so.  Starts at the real time, because Redis and
    PostgreSQL have clocks of their own."""

    def __init__(self, now: float | None = None):
        self.now = time.time() if now is None else now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def make_entry(
    key: str = 'v1:orm:res.partner:search_read:00',
    payload: bytes = b'payload',
    ttl_s: float = 3600,
    now: float | None = None,
    **values,
) -> Entry:
    """An entry as the engine makes them, created ``now`` (epoch seconds)."""
    created = time.time() if now is None else now
    return Entry(
        **{
            'key': key,
            'model': 'res.partner',
            'method': 'search_read',
            'uid': 2,
            'dependencies': (('res_partner', 4611686018427387903, None), ('res_users', 7, None)),
            'removal_version': 11,
            'created': created,
            'expires': created + ttl_s,
            'cost_ms': 53.25,
            'queries': 17,
            'flags': 0,
            'payload': payload,
            **values,
        }
    )


def in_child(function) -> str:
    """Run a function in a forked child; returns what it returned, as text."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # fork of a process with threads
        pid = os.fork()
    if not pid:
        try:
            os.write(writer, str(function()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)  # no destructors, no exit handlers: they belong to the parent
    os.close(writer)
    with open(reader, 'rb') as pipe:
        answer = pipe.read().decode()
    os.waitpid(pid, 0)
    return answer


class EntryTable:
    """A table ``cache_entry`` like the addon's, in a schema that nothing else uses.

    Real commits cannot disturb what other tests see, and nothing has to be cleaned up row
    by row.  Use as a context manager.
    """

    def __init__(self):
        self.schema = f'tc_test_{uuid.uuid4().hex[:12]}'

    def connect(self, **options: str):
        """A new connection on which ``cache_entry`` is this table.

        :param options: settings of the session, e.g. ``default_transaction_read_only='on'``
        """
        options['search_path'] = f'{self.schema},public'
        _name, info = connection_info_for(get_db_name())
        return psycopg2.connect(
            **{**info, 'options': ' '.join(f'-c {name}={value}' for name, value in options.items())}
        )

    def call(self, statement, params=None, **options: str):
        """Run a statement past the tier; returns its rows, None if it has none."""
        with contextlib.closing(self.connect(**options)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, params)
                return cursor.fetchall() if cursor.description else None

    def __enter__(self) -> EntryTable:
        schema = sql.Identifier(self.schema)
        self.call(
            sql.SQL(
                "CREATE SCHEMA {0};"
                "CREATE UNLOGGED TABLE {0}.cache_entry (LIKE public.cache_entry INCLUDING ALL)"
            ).format(schema)
        )
        return self

    def __exit__(self, *exc_info) -> None:
        self.call(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(self.schema)))
