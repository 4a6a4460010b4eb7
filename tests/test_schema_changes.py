"""What is cached, and somebody changes the schema while the server runs: noticed within seconds."""

import contextlib
from unittest.mock import patch

from odoo.tests import tagged
from odoo.tools import SQL, mute_logger

from .common import CacheCase


@tagged('post_install', '-at_install')
class TestSchemaChanges(CacheCase):
    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': "Schema"})
        self.addCleanup(self.engine.read_catalogue)
        self.make_objects(
            "CREATE TABLE tc_data (id int); INSERT INTO tc_data VALUES (1)",
            "DROP TABLE IF EXISTS tc_data CASCADE",
        )
        self.addCleanup(self.engine.guards.release_now, 'tc_data')
        self.engine.read_catalogue()

    def make_objects(self, make: str, drop: str) -> None:
        self.addCleanup(self.sql, drop)
        self.sql(make)

    @contextlib.contextmanager
    def shown(self, statement: str):
        """Within it, the names of banks are what a statement gives; yields the read."""

        def _compute_display_name(records):
            for record in records:
                record.env.cr.execute(SQL(statement))
                record.display_name = str(record.env.cr.fetchone()[0])

        def read(env):
            return env['res.bank'].search_read([('id', '=', self.bank)], ['display_name'])

        bank = self.registry['res.bank']
        with patch.object(bank, '_compute_display_name', _compute_display_name):
            yield read

    @mute_logger('odoo.addons.tiered_cache.services.guards')
    def assertNoticed(self, statement: str, change: str):
        """A read that is kept is right again when the background thread has had its turn."""
        with self.shown(statement) as read:
            before = self.warm(read)
            self.sql(change)
            self.engine.tick()
            self.assertNotEqual(self.assertExact(read), before)

    def test_a_table_that_is_made_anew(self):
        self.assertNoticed(
            "SELECT count(*) FROM tc_data", "DROP TABLE tc_data; CREATE TABLE tc_data (id int)"
        )

    def test_tables_that_change_places(self):
        self.make_objects("CREATE TABLE tc_fresh (id int)", "DROP TABLE IF EXISTS tc_fresh CASCADE")
        self.engine.read_catalogue()
        self.assertNoticed(
            "SELECT count(*) FROM tc_data",
            "ALTER TABLE tc_data RENAME TO tc_away; ALTER TABLE tc_fresh RENAME TO tc_data;"
            " ALTER TABLE tc_away RENAME TO tc_fresh",
        )

    def test_row_security_that_is_switched_on(self):
        self.assertNoticed(
            "SELECT count(*) FROM tc_data",
            "ALTER TABLE tc_data ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        )

    def test_a_function_that_is_replaced(self):
        rate = (
            "CREATE OR REPLACE FUNCTION tc_rate() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT %d'"
        )
        self.make_objects(rate % 20, "DROP FUNCTION tc_rate()")
        self.engine.read_catalogue()
        self.assertNoticed("SELECT tc_rate()", rate % 21)

    def test_a_function_that_was_made_a_moment_ago(self):
        """Nobody knows yet that it reads a table."""
        self.make_objects(
            "CREATE FUNCTION tc_count() RETURNS bigint LANGUAGE sql STABLE"
            " AS 'SELECT count(*) FROM tc_data'",
            "DROP FUNCTION tc_count()",
        )
        self.assertNoticed("SELECT tc_count()", "INSERT INTO tc_data VALUES (2)")

    def test_a_view_that_is_replaced_and_a_name_that_nobody_knows(self):
        """The unknown name makes the catalogue be read again, by another way than the tick."""
        view = "CREATE OR REPLACE VIEW tc_view AS SELECT count(*) AS n FROM %s"
        self.make_objects(view % 'res_bank', "DROP VIEW IF EXISTS tc_view")
        self.engine.read_catalogue()
        with self.shown("SELECT n FROM tc_view") as read:
            before = self.warm(read)
            self.sql(view % 'tc_data')
            self.sql("INSERT INTO tc_data SELECT generate_series(1, 1000)")
            self.engine.read_catalogue()
            self.assertNotEqual(self.assertExact(read), before)
