"""SQL that passes by Odoo's cursor: what it reads is not kept, what it writes is seen."""

import io
import math

from psycopg2 import sql
from psycopg2.extras import DictCursor

from odoo.sql_db import db_connect
from odoo.tests import tagged

from ..services import statements
from ..services.recorder import Recording
from .common import CacheCase

COUNT = "SELECT count(*) FROM res_bank"


def _second_cursor(cr):
    with cr._cnx.cursor() as cursor:
        cursor.execute(COUNT)


def _named_cursor(cr):
    with cr._cnx.cursor('tc_named') as cursor:
        cursor.execute(COUNT)
        cursor.fetchone()


def _cursor_of_another_class(cr):
    with cr._cnx.cursor(cursor_factory=DictCursor) as cursor:
        cursor.execute(COUNT)


WAYS = {
    'COPY TO': lambda cr: cr.copy_expert(f"COPY ({COUNT}) TO STDOUT", io.StringIO()),
    'copy_to': lambda cr: cr.copy_to(io.StringIO(), 'res_bank'),
    'callproc': lambda cr: cr.callproc('pg_backend_pid'),
    'executemany': lambda cr: cr.executemany("SELECT %s FROM res_bank", [(1,)]),
    'below the cursor': lambda cr: cr._obj.execute(COUNT),
    'second cursor': _second_cursor,
    'named cursor': _named_cursor,
    'cursor of another class': _cursor_of_another_class,
}


@tagged('post_install', '-at_install')
class TestUnseenStatements(CacheCase):
    def setUp(self):
        super().setUp()
        self.cr = db_connect(self.registry.db_name).cursor()
        self.addCleanup(self.cr.close)
        self.addCleanup(self.cr._cnx.__dict__.pop, statements._SLOT, None)

    def test_what_odoo_sends_is_seen(self):
        with Recording(self.cr, self.engine.read_text) as recording:
            self.cr.execute(COUNT)
            with self.cr.savepoint(flush=False):
                self.cr.execute(COUNT)
            list(self.cr.execute_values("SELECT * FROM (VALUES %s) v", [(1,), (2,)], fetch=True))
        self.assertTrue(recording.has_seen_all())

    def test_what_passes_by_is_noticed_also_when_a_query_follows(self):
        for way, send in WAYS.items():
            with self.subTest(way), Recording(self.cr, self.engine.read_text) as recording:
                send(self.cr)
                self.cr.execute(COUNT)
                self.assertFalse(recording.has_seen_all())

    def test_a_new_cursor_has_sent_nothing(self):
        for _again in range(2):
            with db_connect(self.registry.db_name).cursor() as cr:
                self.assertEqual(statements.sent(cr), 0)
                cr.execute(COUNT)
                self.assertEqual(statements.sent(cr), 1)

    def test_a_cursor_that_does_not_count_makes_the_count_unknown(self):
        _cursor_of_another_class(self.cr)
        self.assertTrue(math.isnan(statements.sent(self.cr)))

    def test_the_next_who_borrows_the_connection_is_counted_again(self):
        _cursor_of_another_class(self.cr)
        self.cr.rollback()
        self.cr._cnx.reset()  # as the pool does
        self.assertFalse(math.isnan(statements.sent(self.cr)))

    def test_writes_of_a_second_cursor_are_seen(self):
        bank = self.make('res.bank', {'name': 'Old'})

        def call(env):
            return env['res.bank'].search_read([('id', '=', bank)], ['name'])

        self.warm(call)
        with self.request(commit=False) as env:
            with self.assertHit():
                call(env)
            with env.cr._cnx.cursor() as cursor:
                cursor.execute("UPDATE res_bank SET name = 'New' WHERE id = %s", [bank])
            with self.assertMiss('dirty'):
                self.assertEqual(call(env)[0]['name'], 'New')


SETTINGS = (
    "SET LOCAL TimeZone = 'Asia/Tokyo'",
    "set search_path = public",
    " RESET ALL",
    "SELECT 1; SET LOCAL DateStyle = 'SQL'",
    "SELECT set_config('TimeZone', 'Asia/Tokyo', true)",
    b"SET LOCAL TimeZone = 'Asia/Tokyo'",
    sql.SQL("SET LOCAL TimeZone = {}").format(sql.Literal('Asia/Tokyo')),
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
)
HARMLESS = (
    "SET LOCAL lock_timeout = '1s'",
    "SET LOCAL statement_timeout TO DEFAULT; SET LOCAL enable_seqscan TO off",
    "SELECT set_config('lock_timeout', '1s', true)",
    "SET TRANSACTION READ ONLY",
    "SELECT 'reset'",
    "UPDATE res_bank SET name = name;",
)


@tagged('post_install', '-at_install')
class TestSettings(CacheCase):
    """What changes the answers of PostgreSQL without changing data."""

    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': 'Old'})
        self.warm(self.ask)

    def ask(self, env):
        return env['res.bank'].search_read([('id', '=', self.bank)], ['name'])

    def test_who_has_changed_settings_is_not_served(self):
        for statement in SETTINGS:
            with self.subTest(statement), self.request(commit=False) as env:
                self.send(env.cr, statement)
                with self.assertMiss('uncacheable'):
                    self.ask(env)

    def test_nor_who_has_looked_before(self):
        with self.request(commit=False) as env:
            with self.assertHit():
                self.ask(env)
            env.cr.execute(SETTINGS[0])
            with self.assertMiss('uncacheable'):
                self.ask(env)

    def test_time_limits_change_no_answer(self):
        with self.request(commit=False) as env:
            for statement in HARMLESS[:-1]:
                env.cr.execute(statement)
            with self.assertHit():
                self.ask(env)

    def test_the_next_who_borrows_the_connection_is_served(self):
        with self.request(commit=False) as env:
            env.cr.execute(SETTINGS[0])
            env.cr.rollback()
            env.cr._cnx.reset()  # as the pool does
            self.assertFalse(statements.has_set(env.cr))

    def test_a_computation_that_changes_settings_is_not_kept(self):
        for statement in SETTINGS[:5]:
            self.assertTrue(self.engine.read_text(statement).refusal, statement)

    def test_writes_are_no_settings(self):
        with self.request(commit=False) as env:
            env.cr.execute(HARMLESS[-1])
            self.assertFalse(statements.has_set(env.cr))

    @staticmethod
    def send(cr, statement):
        cr.rollback()  # some may only be sent at the beginning
        if isinstance(statement, str):
            cr.execute(statement)
        else:
            cr._obj.execute(statement)
