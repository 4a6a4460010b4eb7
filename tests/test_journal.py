"""The journal: what is noted, compacted, guarded, released, and by whom."""

import contextlib
import random
import threading
import uuid
from unittest.mock import patch

import psycopg2

from odoo.addons.tiered_cache import hooks
from odoo.addons.tiered_cache.services import engine as engines
from odoo.addons.tiered_cache.services import journal
from odoo.addons.tiered_cache.services.catalogue import Catalogue
from odoo.addons.tiered_cache.services.engine import Engine
from odoo.addons.tiered_cache.services.guards import LOOK_AGAIN_S, Guards
from odoo.exceptions import UserError
from odoo.tests import tagged
from odoo.tools import SQL, mute_logger

from .common import CacheCase
from .redis_server import wait_until


class JournalCase(CacheCase):
    """A table of its own, guarded, and a cursor that sees the journal."""

    def setUp(self):
        super().setUp()
        # the background would notice what happens to tables here, and mend it
        self.patch(self.engine, '_follow_catalogue', lambda: None)
        self.table = f'tc_test_{uuid.uuid4().hex[:10]}'
        self.sql(f"CREATE TABLE {self.table} (id int PRIMARY KEY, value text)")
        self.addCleanup(self.sql, "DELETE FROM cache_version WHERE relation = %s", [self.table])
        self.addCleanup(self.sql, "DELETE FROM cache_change WHERE relation = %s", [self.table])
        for name in self.removals:
            self.addCleanup(self.sql, "DELETE FROM cache_version WHERE relation = %s", [name])
            self.addCleanup(self.sql, "DELETE FROM cache_change WHERE relation = %s", [name])
        self.addCleanup(self.sql, f"DROP TABLE IF EXISTS {self.table} CASCADE")
        self.guard(self.table)

    def guard(self, table, capture='triggers'):
        with self.engine.cursor() as cr:
            self.assertTrue(journal.guard(cr, table, capture))

    def rows(self, table=None):
        return self.sql(
            "SELECT count(*) FROM cache_change WHERE relation = %s", [table or self.table]
        )[0][0]

    @contextlib.contextmanager
    def snapshot(self):
        """A transaction whose snapshot is fixed at entry; yields its cursor."""
        connection = self.engine.connect()
        connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_REPEATABLE_READ)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                yield cursor
        finally:
            connection.close()

    def version(self, cursor=None):
        """The version of the table as a snapshot shows it."""
        query = """
            SELECT mod(sum(token), %s)::bigint FROM (
                SELECT token FROM cache_version WHERE relation = %s
                UNION ALL SELECT token FROM cache_change WHERE relation = %s) AS tokens"""
        params = [journal.MODULUS, self.table, self.table]
        if cursor is None:
            return self.sql(query, params)[0][0]
        cursor.execute(query, params)
        return cursor.fetchone()[0]

    @property
    def removals(self):
        """A removal of each kind that names something."""
        return [kind + self.table for kind in journal.REMOVALS]

    def removal(self, name):
        """The sum of the tokens of a removal, None where none is known."""
        return self.sql(
            "SELECT mod(sum(token), %s)::bigint FROM ("
            "SELECT token FROM cache_version WHERE relation = %s"
            " UNION ALL SELECT token FROM cache_change WHERE relation = %s) AS tokens",
            [journal.MODULUS, name, name],
        )[0][0]

    def settle_removals(self):
        """Compact when nobody is left who does not see what was removed."""
        with patch.object(journal, '_seen_by_all', lambda cr: 2**62):
            self.compact()

    def compact(self, ttl_s=3600.0):
        with self.engine.cursor() as cr:
            return journal.compact(cr, ttl_s)


@tagged('post_install', '-at_install')
class TestNotes(JournalCase):
    def test_a_change_is_one_row(self):
        self.sql(f"INSERT INTO {self.table} VALUES (1), (2), (3)")
        self.assertEqual(self.rows(), 1)

    def test_a_transaction_writes_one_row_whatever_it_does(self):
        self.sql(
            f"INSERT INTO {self.table} VALUES (1), (2); UPDATE {self.table} SET value = 'x';"
            f"DELETE FROM {self.table} WHERE id = 1; TRUNCATE {self.table}"
        )
        self.assertEqual(self.rows(), 1)

    def test_two_transactions_write_two_rows(self):
        self.sql(f"INSERT INTO {self.table} VALUES (1)")
        self.sql(f"INSERT INTO {self.table} VALUES (2)")
        self.assertEqual(self.rows(), 2)

    def test_two_transactions_of_one_session_write_two_rows(self):
        with contextlib.closing(self.engine.connect()) as connection:
            for number in range(2):
                with connection, connection.cursor() as cursor:
                    cursor.execute(f"INSERT INTO {self.table} VALUES (%s)", [number])
        self.assertEqual(self.rows(), 2)

    def test_a_statement_that_touches_no_row_writes_nothing(self):
        self.sql(
            f"UPDATE {self.table} SET value = 'x'; DELETE FROM {self.table};"
            f"INSERT INTO {self.table} SELECT 1 WHERE false"
        )
        self.assertEqual(self.rows(), 0)

    def test_truncate_of_an_empty_table_is_a_change_to_be_safe(self):
        self.sql(f"TRUNCATE {self.table}")
        self.assertEqual(self.rows(), 1)

    def test_rollback_writes_nothing(self):
        with contextlib.closing(self.engine.connect()) as connection:
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {self.table} VALUES (1)")
            connection.rollback()
        self.assertEqual(self.rows(), 0)

    def test_rollback_to_a_savepoint_takes_the_note_and_the_memory_of_it(self):
        self.sql(
            f"SAVEPOINT s; INSERT INTO {self.table} VALUES (1); ROLLBACK TO s;"
            f"INSERT INTO {self.table} VALUES (2)"
        )
        self.assertEqual(self.rows(), 1)

    def test_a_note_before_a_savepoint_survives_its_rollback(self):
        self.sql(
            f"INSERT INTO {self.table} VALUES (1); SAVEPOINT s;"
            f"INSERT INTO {self.table} VALUES (2); ROLLBACK TO s"
        )
        self.assertEqual(self.rows(), 1)

    def test_a_setting_left_over_from_elsewhere_is_ignored(self):
        oid = self.sql("SELECT to_regclass(%s)::oid", [self.table])[0][0]
        self.sql(f"SET tiered_cache.noted = '1:,{oid},'; INSERT INTO {self.table} VALUES (1)")
        self.assertEqual(self.rows(), 1)

    def test_a_table_whose_number_is_part_of_another_s_is_noted(self):
        with contextlib.closing(self.engine.connect()) as connection:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('tiered_cache.noted',"
                    " pg_current_xact_id()::text || ':,1' || %s::regclass::oid || '2,', true)",
                    [self.table],
                )
                cursor.execute(f"INSERT INTO {self.table} VALUES (1)")
            connection.commit()
        self.assertEqual(self.rows(), 1)

    def test_the_token_is_random(self):
        for number in range(3):
            self.sql(f"INSERT INTO {self.table} VALUES (%s)", [number])
        tokens = {
            token
            for (token,) in self.sql(
                "SELECT token FROM cache_change WHERE relation = %s", [self.table]
            )
        }
        self.assertEqual(len(tokens), 3)
        self.assertTrue(all(0 <= token < journal.MODULUS for token in tokens))

    def test_the_row_belongs_to_the_transaction_of_the_data(self):
        self.sql(f"INSERT INTO {self.table} VALUES (1)")
        self.assertEqual(
            self.sql(
                f"SELECT count(*) FROM {self.table} t JOIN cache_change c ON c.relation = %s"
                " AND c.xid::text::bigint %% 4294967296 = t.xmin::text::bigint",
                [self.table],
            ),
            [(1,)],
        )

    def test_a_partition_notes_itself(self):
        self.sql(
            f"CREATE TABLE {self.table}_p (id int) PARTITION BY RANGE (id);"
            f"CREATE TABLE {self.table}_1 PARTITION OF {self.table}_p"
            " FOR VALUES FROM (0) TO (10)"
        )
        self.addCleanup(self.sql, f"DROP TABLE {self.table}_p CASCADE")
        self.addCleanup(
            self.sql, "DELETE FROM cache_version WHERE relation LIKE %s", [f'{self.table}_%']
        )
        self.guard(f'{self.table}_1')
        self.sql(f"INSERT INTO {self.table}_1 VALUES (1)")
        self.assertEqual(self.rows(f'{self.table}_1'), 1)

    def test_a_name_that_needs_quotes(self):
        name = f'{self.table}-Odd'
        self.sql(f'CREATE TABLE "{name}" (id int)')
        self.addCleanup(self.sql, f'DROP TABLE "{name}"')
        self.addCleanup(self.sql, "DELETE FROM cache_version WHERE relation = %s", [name])
        self.guard(name)
        self.sql(f'INSERT INTO "{name}" VALUES (1)')
        self.assertEqual(self.rows(name), 1)

    def test_a_role_that_may_not_touch_the_journal_may_write_the_table(self):
        role = f'{self.table}_role'
        try:
            self.sql(f"CREATE ROLE {role}; GRANT {role} TO CURRENT_USER")
        except psycopg2.errors.InsufficientPrivilege:
            self.skipTest("this database role may not create roles")
        self.addCleanup(self.sql, f"DROP OWNED BY {role}; DROP ROLE {role}")
        self.sql(f"GRANT INSERT ON {self.table} TO {role}")
        with self.assertRaises(psycopg2.errors.InsufficientPrivilege):
            self.sql(f"SET ROLE {role}; INSERT INTO cache_change (relation) VALUES ('x')")
        self.sql(f"SET ROLE {role}; INSERT INTO {self.table} VALUES (1)")
        self.assertEqual(self.rows(), 1)

    def test_the_function_has_the_rights_of_its_owner(self):
        # what the test above tries, where the database role may not create others
        definer = self.sql(
            "SELECT DISTINCT proc.prosecdef FROM pg_trigger AS trg"
            " JOIN pg_proc AS proc ON proc.oid = trg.tgfoid"
            " WHERE trg.tgrelid = %s::regclass AND NOT trg.tgisinternal",
            [self.table],
        )
        self.assertEqual(definer, [(True,)])

    def test_a_function_of_the_name_of_a_built_in_cannot_mislead_the_function(self):
        schema = f'{self.table}_schema'
        self.sql(f"CREATE SCHEMA {schema}")
        self.addCleanup(self.sql, f"DROP SCHEMA {schema} CASCADE")
        for name, arguments in (
            ('set_config', 'text, text, boolean'),
            ('current_setting', 'text, boolean'),
            ('pg_current_xact_id', ''),
        ):
            self.sql(
                f"CREATE FUNCTION {schema}.{name}({arguments}) RETURNS text LANGUAGE sql"
                " AS 'SELECT (1 / 0)::text'"
            )
        self.sql(
            f"SET search_path = {schema}, pg_catalog, public; INSERT INTO {self.table} VALUES (1)"
        )
        self.assertEqual(self.rows(), 1)

    def test_tokens_are_random(self):
        tokens = set()
        for number in range(8):
            self.sql(f"INSERT INTO {self.table} VALUES ({number})")
            tokens |= {token for (token,) in self.sql("SELECT token FROM cache_change")}
        self.assertGreaterEqual(len(tokens), 8)
        self.assertGreater(max(tokens), 2**40)

    def test_a_table_of_the_name_of_a_built_in_cannot_mislead_the_function(self):
        self.sql(
            "CREATE TEMP TABLE cache_change (relation text, id int);"
            f"INSERT INTO {self.table} VALUES (1)"
        )
        self.assertEqual(self.rows(), 1)


@tagged('post_install', '-at_install')
class TestLook(JournalCase):
    """The version query must not get dearer with the journal that was counted before."""

    def looked_at(self, connection, running):
        """Journal rows that three looks of one transaction have read one after the other."""
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
            since = cursor.fetchone()[0]
            for _look in range(3):
                cursor.execute("SELECT cache_look(%s::xid8, %s::xid8[])", [since, running])
            cursor.execute("SELECT pg_stat_get_xact_tuples_returned('cache_change'::regclass)")
            return cursor.fetchone()[0]

    def test_a_look_reads_no_row_that_was_counted_before(self):
        for running in ([], ['1']):
            with self.subTest(running=running), contextlib.closing(self.engine.connect()) as conn:
                self.compact()
                # PostgreSQL settles on one plan for the session after five executions
                for _transaction in range(4):
                    self.looked_at(conn, running)
                self.sql(
                    "INSERT INTO cache_change (relation) SELECT %s FROM generate_series(1, 3000)",
                    [self.table],
                )
                self.assertEqual(self.looked_at(conn, running), 0)


@tagged('post_install', '-at_install')
class TestCompaction(JournalCase):
    def setUp(self):
        super().setUp()
        for number in range(5):
            self.sql(f"INSERT INTO {self.table} VALUES (%s)", [number])

    def test_compaction_removes_rows_and_keeps_the_version(self):
        before = self.version()
        self.assertGreaterEqual(self.compact(), 5)
        self.assertEqual((self.rows(), self.version()), (0, before))

    def test_compaction_is_seen_as_a_whole_by_old_snapshots(self):
        with self.snapshot() as old:
            before = self.version(old)
            self.compact()
            self.assertEqual(self.version(old), before)

    def test_compaction_leaves_rows_that_are_not_committed(self):
        with contextlib.closing(self.engine.connect()) as connection:
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {self.table} VALUES (100)")
                before = self.version()
                self.compact()
            connection.commit()
        self.assertEqual(self.rows(), 1)
        self.assertNotEqual(self.version(), before)

    def test_compaction_that_is_rolled_back_changes_nothing(self):
        before, rows = self.version(), self.rows()
        with contextlib.closing(self.engine.cursor()) as cr:
            journal.compact(cr, 3600)
            cr.rollback()
        self.assertEqual((self.version(), self.rows()), (before, rows))

    def test_compaction_moves_the_generation(self):
        before = self.generation()
        self.compact()
        self.assertNotEqual(self.generation(), before)

    def test_compaction_of_nothing_leaves_the_generation(self):
        self.compact()
        before = self.generation()
        self.assertEqual(self.compact(), 0)
        self.assertEqual(self.generation(), before)

    def generation(self):
        return self.sql("SELECT token FROM cache_version WHERE relation = '#generation'")

    def test_only_one_process_compacts(self):
        with contextlib.closing(self.engine.cursor()) as cr:
            self.assertIsNotNone(journal.compact(cr, 3600))
            self.assertIsNone(self.compact())

    def test_removals_stay_until_no_entry_can_be_older(self):
        for name in self.removals:
            with self.subTest(name):
                with self.engine.cursor() as cr:
                    journal.note(cr, [name, name])
                before = self.removal(name)
                self.settle_removals()
                self.assertEqual((self.rows(name), self.removal(name)), (0, before))
                self.sql(
                    "UPDATE cache_version SET guarded_at = now() - interval '2 hours'"
                    " WHERE relation = %s",
                    [name],
                )
                generation = self.generation()
                self.compact()
                self.assertIsNone(self.removal(name))
                self.assertNotEqual(self.generation(), generation)

    def test_removals_wait_for_the_last_transaction_that_does_not_see_them(self):
        """It may keep at any time what it has computed without them."""
        name = 'tag:' + self.table
        with self.snapshot():
            with self.engine.cursor() as cr:
                journal.note(cr, [name])
            for _twice in range(2):
                self.compact()
                self.assertEqual(self.rows(name), 1)

    def test_removals_that_wait_do_so_in_one_row_each(self):
        name = 'key:' + self.table
        with self.snapshot():
            for _some in range(3):
                with self.engine.cursor() as cr:
                    journal.note(cr, [name])
            last = "SELECT max(xid::text::bigint) FROM cache_change WHERE relation = %s"
            before, xid = self.removal(name), self.sql(last, [name])
            generation = self.generation()
            self.compact()
            self.assertEqual((self.rows(name), self.removal(name)), (1, before))
            self.assertEqual(self.sql(last, [name]), xid)
            self.assertNotEqual(self.generation(), generation)
            generation = self.generation()
            self.assertEqual(self.compact(), 0)
            self.assertEqual(self.generation(), generation)

    def test_what_every_snapshot_shows_is_below_the_oldest_one(self):
        xmin = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        with self.snapshot() as old:
            old.execute(xmin)
            (oldest,) = old.fetchone()
            for _some in range(3):
                self.sql("SELECT pg_current_xact_id()")
            with self.engine.cursor() as cr:
                self.assertLessEqual(journal._seen_by_all(cr), oldest)
        # transactions of other databases may hold this one back as well, so no more can be said
        ((least,),) = self.sql(xmin)

        def is_seen():
            with self.engine.cursor() as cr:
                return journal._seen_by_all(cr) >= least

        wait_until(is_seen, "nobody has an older snapshot any more")

    def test_removals_are_no_broken_guards_and_count_as_no_tables(self):
        with self.engine.cursor() as cr:
            journal.note(cr, self.removals)
        self.settle_removals()
        with self.engine.cursor() as cr:
            self.assertEqual(journal.broken_guards(cr), [])

    def test_the_engine_keeps_removals_that_entries_may_outlive(self):
        name = 'key:' + self.table
        self.addCleanup(self.sql, "DELETE FROM cache_change WHERE relation = %s", [name])
        with self.engine.cursor() as cr:
            journal.note(cr, [name])
        self.settle_removals()
        self.sql(
            "UPDATE cache_version SET guarded_at = now() - interval '1 hour' WHERE relation = %s",
            [name],
        )
        self.engine.compact()
        self.assertIsNotNone(self.removal(name))

    def test_very_many_removals_become_one_and_every_process_reads_again(self):
        names = [f'key:{self.table}:{number}' for number in range(4)]
        self.addCleanup(self.sql, "DELETE FROM cache_change WHERE relation = 'key:'")
        with self.engine.cursor() as cr:
            journal.note(cr, names)
        self.compact()
        generation = self.generation()
        self.patch(journal, 'MAX_NAMED', 3)
        self.compact()
        self.assertEqual([self.rows(name) for name in names], [0, 0, 0, 0])
        self.assertEqual(self.rows('key:'), 1)
        self.assertNotEqual(self.generation(), generation)

    def test_rows_of_another_cluster_are_compacted_at_the_start(self):
        """After a restore their transaction ids lie in the future."""
        self.sql(
            "INSERT INTO cache_change (xid, relation) VALUES ('999999999999', %s)", [self.table]
        )
        Engine(self.registry).close()
        self.assertEqual(self.rows(), 0)

    def test_rows_of_relations_that_are_not_guarded_any_more_go_too(self):
        with self.engine.cursor() as cr:
            journal.release(cr, self.table)
        self.compact()
        self.assertEqual(self.rows(), 0)


@tagged('post_install', '-at_install')
class TestGuards(JournalCase):
    def triggers(self, table=None):
        return sorted(
            name
            for (name,) in self.sql(
                "SELECT tgname FROM pg_trigger"
                " WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal",
                [table or self.table],
            )
        )

    def test_a_guard_is_four_triggers(self):
        self.assertEqual(len(self.triggers()), 4)

    def test_guarding_twice_is_harmless_and_makes_a_new_version(self):
        before = self.version()
        self.guard(self.table)
        self.assertEqual(len(self.triggers()), 4)
        self.assertNotEqual(self.version(), before)

    def test_no_version_and_no_generation_ever_comes_back(self):
        seen = set()
        for _time in range(3):
            self.guard(self.table)
            seen |= {
                token
                for (token,) in self.sql(
                    "SELECT token FROM cache_version WHERE relation IN (%s, %s)",
                    [self.table, journal.GENERATION],
                )
            }
        self.assertEqual(len(seen), 6)

    def test_a_guard_waits_for_a_writer_no_longer_than_told(self):
        other = f'{self.table}_2'
        self.sql(f"CREATE TABLE {other} (id int)")
        self.addCleanup(self.sql, f"DROP TABLE {other}")
        with contextlib.closing(self.engine.connect()) as connection:
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {other} VALUES (1)")
            with (
                self.assertRaises(psycopg2.errors.LockNotAvailable) as caught,
                self.engine.cursor() as cr,
            ):
                cr.execute("SET LOCAL lock_timeout = '50ms'")
                journal.guard(cr, other)
        self.assertTrue(journal.is_lock_timeout(caught.exception))
        self.assertEqual(self.triggers(other), [])

    def test_background_work_waits_for_a_writer_no_longer_than_the_option_says(self):
        other = f'{self.table}_2'
        self.sql(f"CREATE TABLE {other} (id int)")
        self.addCleanup(self.sql, f"DROP TABLE {other}")
        self.configure(guard_lock_timeout_ms='50')
        with self.engine.cursor() as cr:
            knowing = patch.object(self.engine, 'catalogue', Catalogue(cr))
        guards = Guards(self.engine)
        with contextlib.closing(self.engine.connect()) as connection, knowing:
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {other} VALUES (1)")
            worker = threading.Thread(target=guards._guard, args=(other,), daemon=True)
            worker.start()
            worker.join(4)
            waiting = worker.is_alive()
        worker.join()
        self.assertFalse(waiting)
        self.assertIn('lock timeout', guards.errors[other])

    def test_a_table_that_took_the_name_of_a_guarded_one_is_not_trusted(self):
        """As tools do that rewrite a table into a new one; the old one keeps its triggers."""
        self.addCleanup(self.sql, f"DROP TABLE {self.table}_old")
        self.sql(
            f"ALTER TABLE {self.table} RENAME TO {self.table}_old;"
            f"CREATE TABLE {self.table} (id int)"
        )
        with self.engine.cursor() as cr:
            self.assertIn(self.table, journal.broken_guards(cr))

    def test_what_is_no_table_is_not_guarded(self):
        self.engine.guards.want(['tiered_cache_nothing'])
        with self.assertNoLogs('odoo.addons.tiered_cache'):
            self.engine.guards.work()
        error = self.engine.guards.errors.pop('tiered_cache_nothing')
        self.assertEqual(error, 'not a table of the current schema')

    def test_a_table_that_is_gone_is_no_error_any_more(self):
        guards = self.failing('is locked')
        self.sql(f"DROP TABLE {self.table}_2")
        guards._looked_at -= LOOK_AGAIN_S
        guards.work()
        self.assertEqual(guards.stats()['errors'], {})
        self.assertEqual(guards.stats()['names'], [])
        self.assertEqual(self.failures(), [])

    def test_a_table_that_another_process_guarded_is_no_error_any_more(self):
        guards = self.failing('is locked')
        with self.engine.cursor() as cr:
            self.assertTrue(journal.guard(cr, f'{self.table}_2'))
        guards.forget_solved()
        self.assertEqual(guards.stats()['errors'], {})
        self.assertEqual(self.failures(), [])

    def test_a_table_that_cannot_be_guarded_stays_an_error(self):
        guards = self.failing('is locked')
        guards.forget_solved()
        self.assertEqual(guards.stats()['errors'], {f'{self.table}_2': 'is locked'})
        self.assertEqual(self.failures(), [(f'{self.table}_2',)])

    def failing(self, error):
        """Guards of a process that could not guard a table."""
        other = f'{self.table}_2'
        self.sql(f"CREATE TABLE {other} (id int)")
        self.addCleanup(self.sql, f"DROP TABLE IF EXISTS {other}")
        self.addCleanup(self.sql, "DELETE FROM cache_version WHERE relation = %s", [other])
        self.addCleanup(self.sql, "DELETE FROM cache_guard_failure")
        guards = Guards(self.engine)
        guards._later(other, error)
        self.assertEqual(self.failures(), [(other,)])
        return guards

    def failures(self):
        return self.sql(
            "SELECT relation FROM cache_guard_failure WHERE relation LIKE %s", [f'{self.table}%']
        )

    def test_a_guard_lets_readers_pass(self):
        with self.snapshot() as reader:
            reader.execute(f"SELECT * FROM {self.table}")
            with self.engine.cursor() as cr:
                cr.execute("SET LOCAL lock_timeout = '50ms'")
                self.assertTrue(journal.guard(cr, self.table))

    def test_a_snapshot_older_than_the_guard_does_not_see_it(self):
        other = f'{self.table}_2'
        self.sql(f"CREATE TABLE {other} (id int)")
        self.addCleanup(self.sql, f"DROP TABLE {other}")
        self.addCleanup(self.sql, "DELETE FROM cache_version WHERE relation = %s", [other])
        with self.snapshot() as old:
            self.guard(other)
            old.execute("SELECT count(*) FROM cache_version WHERE relation = %s", [other])
            self.assertEqual(old.fetchone(), (0,))

    def test_release_makes_the_version_disappear(self):
        with self.engine.cursor() as cr:
            journal.release(cr, self.table)
        self.assertEqual(
            self.sql("SELECT count(*) FROM cache_version WHERE relation = %s", [self.table]), [(0,)]
        )

    def test_a_relation_guarded_again_never_has_an_earlier_version(self):
        before = self.version()
        with self.engine.cursor() as cr:
            journal.release(cr, self.table)
        self.guard(self.table)
        self.assertNotEqual(self.version(), before)

    def test_triggers_can_be_dropped_after_a_release(self):
        with self.engine.cursor() as cr:
            journal.release(cr, self.table)
        with self.engine.cursor() as cr:
            journal.drop_triggers(cr, self.table)
        self.assertEqual(self.triggers(), [])

    def broken(self):
        with self.engine.cursor() as cr:
            return self.table in journal.broken_guards(cr)

    def test_a_guarded_table_that_has_taken_the_name_of_another_is_broken(self):
        """Its triggers write the other name."""
        other = f'{self.table}_4'
        self.sql(f"CREATE TABLE {other} (id int)")
        self.addCleanup(self.sql, "DELETE FROM cache_version WHERE relation = %s", [other])
        self.guard(other)
        self.sql(f"DROP TABLE {self.table}; ALTER TABLE {other} RENAME TO {self.table}")
        self.assertTrue(self.broken())

    def test_a_whole_guard_is_not_broken(self):
        self.assertFalse(self.broken())

    def test_a_disabled_trigger_is_found_and_enabled_again(self):
        self.sql(f"ALTER TABLE {self.table} DISABLE TRIGGER cache_change_update")
        self.assertTrue(self.broken())
        self.guard(self.table)
        self.assertFalse(self.broken())

    def test_a_dropped_trigger_is_found_and_made_again(self):
        self.sql(f"DROP TRIGGER cache_change_delete ON {self.table}")
        self.assertTrue(self.broken())
        self.guard(self.table)
        self.assertFalse(self.broken())

    def test_a_table_that_was_dropped_and_made_again_is_found(self):
        self.sql(f"DROP TABLE {self.table}; CREATE TABLE {self.table} (id int)")
        self.assertTrue(self.broken())

    def test_the_check_of_the_engine_releases_broken_guards(self):
        self.sql(f"DROP TRIGGER cache_change_delete ON {self.table}")
        with self.assertLogs('odoo.addons.tiered_cache.services.guards', 'WARNING') as log:
            self.engine.guards.check()
        self.assertIn(self.table, log.output[0])
        self.assertFalse(self.broken())

    def test_the_scheduled_action_looks_for_broken_guards(self):
        self.sql(f"DROP TRIGGER cache_change_delete ON {self.table}")
        with mute_logger('odoo.addons.tiered_cache.services.guards'):
            self.assertEqual(self.engine.maintain()['broken'], 1)
        self.assertFalse(self.broken())

    def test_the_scheduled_action_goes_on_where_figures_are_being_written(self):
        connection = self.engine.connect()
        self.addCleanup(connection.close)
        connection.cursor().execute("LOCK TABLE cache_metric IN ROW EXCLUSIVE MODE")
        self.assertEqual(self.engine.maintain()['figures'], 0)

    def test_a_name_that_cannot_be_quoted_keeps_no_other_from_its_guard(self):
        name = f'{self.table} "0"'
        table = '"{}"'.format(name.replace('"', '""'))
        self.sql(f'CREATE TABLE {table} (id int); CREATE TABLE {self.table}_z (id int)')
        self.addCleanup(self.sql, f'DROP TABLE {table}, {self.table}_z')
        self.addCleanup(
            self.sql, "DELETE FROM cache_version WHERE relation = %s", [f'{self.table}_z']
        )
        with self.engine.cursor() as cr:
            self.patch(self.engine, 'catalogue', Catalogue(cr))
        self.addCleanup(self.engine.guards._wanted.pop, name, None)
        with self.assertLogs('odoo.addons.tiered_cache', 'WARNING'):
            self.engine.guards.want([name, f'{self.table}_z'])
            self.settle()
        self.assertEqual(len(self.triggers(f'{self.table}_z')), 4)

    def test_the_engine_does_not_guard_what_is_not_a_table(self):
        self.engine.guards.want(['no_such_table'])
        self.settle()
        self.assertIn('no_such_table', self.engine.guards.stats()['errors'])
        self.engine.guards._wanted.pop('no_such_table', None)


@tagged('post_install', '-at_install')
class TestUninstall(JournalCase):
    def test_uninstalling_leaves_no_trigger_function_or_table(self):
        """In a transaction that is rolled back; every object is looked for by what it is."""
        with contextlib.closing(self.engine.cursor()) as cr:
            cr.execute("SET LOCAL lock_timeout = '10s'")
            self.assertTrue(self._traces(cr))
            journal.uninstall(cr)
            self.assertEqual(self._traces(cr), [])
            cr.rollback()

    def test_uninstalling_stops_the_engine_and_waits_for_nobody_for_long(self):
        reader = self.engine.connect()
        self.addCleanup(reader.close)
        reader.cursor().execute(f"SELECT count(*) FROM {self.table}")
        timer = threading.Timer(5, reader.rollback)  # or a test that fails would hang
        timer.start()
        self.addCleanup(timer.cancel)
        self.patch(hooks, 'LOCK_TIMEOUT_S', 0.2)
        self.addCleanup(self.registry.__dict__.pop, engines._OFF, None)
        self.addCleanup(self.registry.__dict__.__setitem__, engines._SLOT, self.engine)
        with (
            patch.object(self.engine, 'available', True),
            patch.object(self.engine, 'close') as close,
            mute_logger('odoo.sql_db'),
            self.request(commit=False) as env,
        ):
            with self.assertRaises(UserError):
                hooks.uninstall_hook(env)
            close.assert_called_once()
            self.assertIsNone(engines.engine_for(self.registry))

    def test_installing_twice_changes_nothing(self):
        with contextlib.closing(self.engine.cursor()) as cr:
            before = self._traces(cr)
            journal.install(cr)
            self.assertEqual(self._traces(cr), before)
            cr.rollback()

    @staticmethod
    def _traces(cr):
        cr.execute(
            SQL(
                """
            SELECT 'trigger', tgname::text, tgrelid::regclass::text FROM pg_trigger
             WHERE tgname LIKE %(like)s AND NOT tgisinternal
            UNION ALL
            SELECT 'function', proname::text, '' FROM pg_proc
             WHERE proname LIKE 'cache\\_%%'
            UNION ALL
            SELECT 'relation', relname::text, '' FROM pg_class
             WHERE relname LIKE %(like)s OR relname LIKE 'cache\\_version%%'
            ORDER BY 1, 2, 3
        """,
                like='cache\\_change%',
            )
        )
        return cr.fetchall()


@tagged('post_install', '-at_install')
class TestSums(JournalCase):
    """Whatever the order of events, a version names one set of commits."""

    def test_every_snapshot_keeps_its_version_through_writes_and_compactions(self):
        dice = random.Random(20)
        with contextlib.ExitStack() as stack:
            held = []
            for number in range(40):
                event = dice.choice(('write', 'write', 'compact', 'snapshot'))
                if event == 'write':
                    self.sql(f"INSERT INTO {self.table} VALUES (%s)", [number])
                elif event == 'compact':
                    self.compact()
                elif len(held) < 8:
                    cursor = stack.enter_context(self.snapshot())
                    cursor.execute(f"SELECT count(*) FROM {self.table}")
                    count = cursor.fetchone()
                    held.append((cursor, self.version(cursor), count))
                for cursor, version, _count in held:
                    self.assertEqual(self.version(cursor), version)
            versions = {version for _cursor, version, _count in held}
            counts = {count for _cursor, _version, count in held}
        self.assertEqual(len(versions), len(counts))
