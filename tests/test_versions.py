"""What a process knows of versions, carried from snapshot to snapshot or read again."""

# "read" and "write" are what these tests do, not overrides of a model's methods
# pylint: disable=method-required-super

import contextlib
import random
from unittest.mock import patch

from odoo.addons.tiered_cache.services import journal
from odoo.addons.tiered_cache.services.removal import Removals
from odoo.addons.tiered_cache.services.snapshot import Snapshot
from odoo.addons.tiered_cache.services.versions import SIGNALS, State, VersionBook, _Row
from odoo.sql_db import db_connect
from odoo.tests import BaseCase, tagged

from .test_journal import JournalCase


@tagged('post_install', '-at_install')
class TestSnapshot(BaseCase):
    def test_the_text_of_postgresql_is_read(self):
        self.assertEqual(Snapshot.parse('10:20:12,15'), (10, 20, frozenset((12, 15))))
        self.assertEqual(Snapshot.parse('10:10:'), (10, 10, frozenset()))

    def test_another_text_is_refused(self):
        for text in ('', '10', '10:20', 'a:b:', '10:20:x'):
            with self.subTest(text=text), self.assertRaises(ValueError):
                Snapshot.parse(text)

    def test_a_snapshot_sees_what_had_ended_below_its_bound(self):
        snapshot = Snapshot.parse('10:20:12,15')
        self.assertEqual([xid for xid in range(8, 22) if not snapshot.sees(xid)], [12, 15, 20, 21])

    def test_a_later_snapshot_covers_an_earlier_one(self):
        self.assertTrue(Snapshot.parse('16:22:').covers(Snapshot.parse('10:20:12,15')))

    def test_an_earlier_snapshot_does_not_cover_a_later_one(self):
        self.assertFalse(Snapshot.parse('10:20:12,15').covers(Snapshot.parse('16:22:')))

    def test_an_earlier_snapshot_with_the_same_bound_does_not_cover(self):
        """12 has committed since, although it is older than the bound."""
        self.assertFalse(Snapshot.parse('12:20:12').covers(Snapshot.parse('20:20:')))

    def test_a_snapshot_covers_another_only_if_it_sees_all_that_the_other_sees(self):
        dice = random.Random(5)

        def some():
            xmax = dice.randint(5, 12)
            running = {x for x in range(4, xmax) if dice.random() < 0.3}
            return Snapshot(min(running, default=xmax), xmax, frozenset(running))

        for _case in range(500):
            one, two = some(), some()
            sees_all = all(one.sees(x) for x in range(15) if two.sees(x))
            self.assertEqual(one.covers(two), sees_all and one.xmax >= two.xmax, (one, two))


class BookCase(JournalCase):
    def setUp(self):
        super().setUp()
        self.book = VersionBook()

    @contextlib.contextmanager
    def reader(self):
        """A cursor of Odoo whose snapshot is fixed at entry."""
        with contextlib.closing(db_connect(self.registry.db_name).cursor()) as cr:
            cr.execute("SELECT 1")
            yield cr

    def look(self, cr=None):
        """The version of the table that the book says, in a new snapshot or a given one."""
        if cr is None:
            with self.reader() as cr:
                return self.book.look(cr).versions.get(self.table)
        state = self.book.look(cr)
        return state and state.versions.get(self.table)

    def write(self):
        self.sql(f"INSERT INTO {self.table} SELECT count(*) FROM {self.table}")


@tagged('post_install', '-at_install')
class TestBook(BookCase):
    def test_the_first_look_reads_everything(self):
        self.assertEqual(self.look(), self.version())
        self.assertEqual((self.book.reloads, self.book.deltas), (1, 0))

    def test_the_next_look_adds_what_has_become_visible(self):
        self.look()
        self.write()
        self.assertEqual(self.look(), self.version())
        self.assertEqual((self.book.reloads, self.book.deltas), (1, 1))

    def test_a_look_without_changes_costs_one_query(self):
        self.look()
        with contextlib.closing(db_connect(self.registry.db_name).cursor()) as cr:
            self.book.look(cr)
            self.assertEqual(cr.sql_log_count, 1)

    def test_a_transaction_that_has_written_gets_none(self):
        self.look()
        with self.reader() as cr:
            cr.execute(f"INSERT INTO {self.table} VALUES (-1)")
            self.assertIsNone(self.book.look(cr))
            cr.rollback()

    def test_a_transaction_that_has_written_gets_none_at_the_first_look_too(self):
        with self.reader() as cr:
            cr.execute(f"INSERT INTO {self.table} VALUES (-1)")
            self.assertIsNone(self.book.look(cr))
            cr.rollback()

    def test_an_older_snapshot_is_not_given_newer_sums(self):
        self.look()
        with self.reader() as old:
            before = self.version()
            self.write()
            self.look()
            self.assertEqual(self.look(old), before)

    def test_an_older_snapshot_does_not_take_the_state_back(self):
        self.look()
        with self.reader() as old:
            self.write()
            self.look()
            self.look(old)
        self.assertEqual(self.look(), self.version())
        self.assertEqual(self.book.state.versions[self.table], self.version())

    def test_a_commit_with_a_lower_id_than_one_already_seen_is_added(self):
        self.look()
        slow = self.engine.connect()
        with contextlib.closing(slow), slow.cursor() as cursor:
            cursor.execute(f"INSERT INTO {self.table} VALUES (-1)")
            self.write()
            self.look()
            slow.commit()
        self.assertEqual(self.look(), self.version())

    def test_a_transaction_that_was_running_and_rolled_back_is_not_added(self):
        self.look()
        slow = self.engine.connect()
        with contextlib.closing(slow), slow.cursor() as cursor:
            cursor.execute(f"INSERT INTO {self.table} VALUES (-1)")
            self.look()
            slow.rollback()
        self.assertEqual(self.look(), self.version())

    def test_a_row_is_added_once(self):
        self.look()
        self.write()
        self.look()
        self.assertEqual(self.look(), self.version())

    def test_compaction_between_two_looks(self):
        self.look()
        self.write()
        self.compact()
        self.write()
        self.assertEqual(self.look(), self.version())
        self.assertEqual(self.book.reloads, 2)

    def test_compaction_of_rows_already_added(self):
        self.write()
        self.look()
        self.compact()
        self.assertEqual(self.look(), self.version())

    def test_compaction_while_an_old_snapshot_is_open(self):
        self.look()
        with self.reader() as old:
            before = self.version()
            self.write()
            self.compact()
            self.look()
            self.assertEqual(self.look(old), before)
        self.assertEqual(self.look(), self.version())

    def test_an_old_snapshot_that_looks_after_a_compaction_leaves_no_trace(self):
        self.look()
        with self.reader() as old:
            self.write()
            self.compact()
            self.look(old)
            self.write()
        self.assertEqual(self.look(), self.version())

    def test_a_new_guard_is_seen(self):
        self.look()
        other = f'{self.table}_2'
        self.sql(f"CREATE TABLE {other} (id int)")
        self.addCleanup(self.sql, f"DROP TABLE {other}")
        self.addCleanup(self.sql, "DELETE FROM cache_version WHERE relation = %s", [other])
        with self.reader() as old:
            self.guard(other)
            self.assertNotIn(other, self.book.look(old).versions)
        with self.reader() as new:
            self.assertIn(other, self.book.look(new).versions)

    def test_a_released_guard_is_not_there_any_more(self):
        self.look()
        with self.engine.cursor() as cr:
            journal.release(cr, self.table)
        self.assertIsNone(self.look())

    def test_a_relation_that_is_journalled_and_not_guarded_has_no_version(self):
        """Removal by model journals tables, guarded or not."""
        other = f'{self.table}_2'
        self.addCleanup(self.sql, "DELETE FROM cache_change WHERE relation = %s", [other])
        with self.engine.cursor() as cr:
            journal.note(cr, [other])
        self.look()
        self.assertNotIn(other, self.book.state.versions)

    def test_a_backend_that_was_never_looked_through_reads_everything(self):
        """After a crash of the server transaction ids may be used again."""
        self.look()
        self.write()
        connection = self.engine.connect()
        connection.set_isolation_level(3)
        with contextlib.closing(connection), self._as_odoo(connection) as cr:
            self.assertEqual(self.book.look(cr).versions[self.table], self.version())
        self.assertEqual((self.book.reloads, self.book.deltas), (2, 0))

    def test_what_was_known_before_a_crash_is_not_believed(self):
        """The state is that of a history which the server has lost: any sums, and a snapshot
        that the new backend's seems to cover."""
        self.look()
        state = self.book.state
        lost = dict(state.versions, **{self.table: 12345})
        self.book.state = type(state)(
            **{**{name: getattr(state, name) for name in state.__slots__}, 'versions': lost}
        )
        self.book._backends.clear()
        for _twice in range(2):  # the second look adds to what the first has left
            self.assertEqual(self.look(), self.version())

    def test_another_server_behind_a_pooler_reads_everything(self):
        """The connection is the same, and so is the process id."""
        self.sql("""
            CREATE SCHEMA tc_other;
            CREATE FUNCTION tc_other.pg_postmaster_start_time() RETURNS timestamptz
                LANGUAGE sql STABLE AS $$ SELECT timestamptz '2026-01-01' $$;
        """)
        self.addCleanup(self.sql, "DROP SCHEMA tc_other CASCADE")
        with self.reader() as cr:
            for _twice in range(2):
                self.look(cr)
                cr.rollback()
            self.assertEqual((self.book.reloads, self.book.deltas), (1, 1))
            cr.execute("SET LOCAL search_path = tc_other, pg_catalog, public")
            self.look(cr)
            self.assertEqual((self.book.reloads, self.book.deltas), (2, 1))

    def test_a_thread_that_slept_through_a_crash_brings_nothing_back(self):
        self.look()
        before = self.book.state
        self.book.forget()
        self.look()
        after = self.book.state
        self.book._publish(before, before)
        self.assertIs(self.book.state, after)

    def test_a_replica_has_a_book_of_its_own(self):
        with (
            self.request() as env,
            self.request(readonly=True) as replica,
            patch.object(self.registry, '_db_readonly', object()),
        ):
            self.assertIsNot(self.engine.book(env.cr), self.engine.book(replica.cr))

    @contextlib.contextmanager
    def _as_odoo(self, connection):
        class Cursor:
            """What a book needs of Odoo's cursor, on a connection outside of the pool."""

            _cnx = connection
            readonly = False

        cr = Cursor()
        with connection.cursor() as cursor:
            cr.execute, cr.fetchone = cursor.execute, cursor.fetchone
            yield cr

    def test_a_signal_before_the_first_guard_does_not_switch_the_cache_off(self):
        def call(env):
            return env['res.bank'].search_count([])

        for name in SIGNALS:
            self.engine.guards.release_now(f'orm_signaling_{name}')
        with self.request() as env:
            self.engine.book(env.cr).look(env.cr)
        with self.request() as env:
            env.registry.clear_cache()
        self.warm(call)

    def test_signals_are_read_again_when_a_signal_was_sent(self):
        if not self.sql("SELECT 1 FROM cache_version WHERE relation = 'orm_signaling_groups'"):
            self.guard('orm_signaling_groups')
        self.look()
        before = self.book.state.signals
        self.sql("INSERT INTO orm_signaling_groups DEFAULT VALUES")
        self.look()
        self.assertEqual(self.book.state.signals[-1], before[-1] + 1)

    def test_a_removal_has_a_token_that_is_not_a_version(self):
        self.look()
        name = f'key:{self.table}'
        self.addCleanup(self.sql, "DELETE FROM cache_change WHERE relation = %s", [name])
        with self.engine.cursor() as cr:
            journal.note(cr, [name])
        self.look()
        self.assertIn(name, self.book.state.removals.tokens)
        self.assertNotIn(name, self.book.state.versions)

    def test_a_published_state_is_never_modified(self):
        self.look()
        state = self.book.state
        before = dict(state.versions)
        self.write()
        self.look()
        self.assertEqual(state.versions, before)
        self.assertIsNot(self.book.state, state)

    def test_forgetting_reads_everything_again(self):
        self.look()
        self.book.forget()
        self.assertEqual(self.look(), self.version())
        self.assertEqual(self.book.reloads, 2)


@tagged('post_install', '-at_install')
class TestBookAtRandom(BookCase):
    """Any order of writes, commits, rollbacks, compactions and looks of any snapshot."""

    def test_a_look_always_says_what_its_snapshot_sums_up_to(self):
        dice = random.Random(77)
        books = [VersionBook(), VersionBook()]
        with contextlib.ExitStack() as stack:
            writers, readers = [], []
            for number in range(150):
                event = dice.choice(('begin', 'end', 'compact', 'open', 'look', 'look', 'look'))
                if event == 'begin' and len(writers) < 5:
                    connection = self.engine.connect()
                    stack.callback(connection.close)
                    connection.cursor().execute(f"INSERT INTO {self.table} VALUES (%s)", [number])
                    writers.append(connection)
                elif event == 'end' and writers:
                    connection = writers.pop(dice.randrange(len(writers)))
                    dice.choice((connection.commit, connection.commit, connection.rollback))()
                elif event == 'compact' and dice.random() < 0.3:
                    self.compact()
                elif event == 'open':
                    if len(readers) == 4:
                        readers.pop(0).close()
                    readers.append(stack.enter_context(self.reader()))
                elif event == 'look' and readers:
                    cr = dice.choice(readers)
                    state = dice.choice(books).look(cr)
                    self.assertEqual(state.versions[self.table], self.version(cr))


class StandbyCase(BookCase):
    """The functions by which a hot standby differs, in a schema before ``pg_catalog``: it is in
    recovery, and does not list the transactions in progress."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sql("""
            CREATE SCHEMA tc_standby;
            CREATE FUNCTION tc_standby.pg_is_in_recovery() RETURNS bool LANGUAGE sql STABLE
                AS 'SELECT true';
            CREATE FUNCTION tc_standby.pg_current_snapshot() RETURNS pg_snapshot
                LANGUAGE sql STABLE AS $$
                SELECT concat_ws(':', pg_snapshot_xmin(s), pg_snapshot_xmax(s), '')::pg_snapshot
                  FROM pg_catalog.pg_current_snapshot() AS s $$;
        """)
        cls.addClassCleanup(cls.sql, "DROP SCHEMA tc_standby CASCADE")

    @contextlib.contextmanager
    def reader(self):
        with super().reader() as cr:
            self.standby(cr)
            yield cr

    @staticmethod
    def standby(cr):
        cr.execute("SET LOCAL search_path = tc_standby, pg_catalog, public")


@tagged('post_install', '-at_install')
class TestBookOnStandby(StandbyCase):
    @contextlib.contextmanager
    def writer(self):
        """A transaction of the primary that has written; the caller ends it."""
        connection = self.engine.connect()
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {self.table} VALUES (-1)")
            yield connection

    def test_the_stand_in_is_one(self):
        with self.writer():
            self.write()  # a snapshot ends behind the last one that is complete
            with self.reader() as cr:
                state = self.book.look(cr)
        self.assertTrue(state.standby)
        self.assertFalse(state.snapshot.running)
        self.assertLess(state.snapshot.xmin, state.snapshot.xmax)

    def test_a_commit_of_a_transaction_that_was_not_listed_is_added(self):
        with self.writer() as slow:
            self.write()
            self.assertEqual(self.look(), self.version())
            slow.commit()
        self.assertEqual(self.look(), self.version())
        self.assertEqual(self.book.deltas, 1)

    def test_a_row_that_was_counted_is_not_counted_again(self):
        with self.writer():
            self.write()
            for _thrice in range(3):
                self.assertEqual(self.look(), self.version())

    def test_an_older_snapshot_is_not_given_newer_sums(self):
        with self.writer() as slow:
            self.write()
            self.look()
            with self.reader() as old:
                slow.commit()
                self.look()
                self.assertEqual(self.look(old), self.version(old))

    def test_an_older_snapshot_with_the_same_bound_is_not_given_newer_sums(self):
        """100 was running when the older one was taken, which only its lower bound tells: on a
        standby of PostgreSQL 15 two such snapshots were ``725:727:`` and then ``727:727:``."""
        base = State(
            Snapshot(102, 102, frozenset()), 'g', {'t': 7}, Removals({}), (), frozenset(), True, 0.0
        )
        for xmin, is_newer in ((100, False), (102, True)):
            row = _Row(False, Snapshot(xmin, 102, frozenset()), 1, True, ('g', []))
            self.assertEqual(self.book._advance(None, base, row, 0.0) is not None, is_newer)

    def test_a_snapshot_that_lacks_a_counted_row_is_not_given_newer_sums(self):
        base = State(
            Snapshot(100, 102, frozenset()),
            'g',
            {'t': 7},
            Removals({}),
            (),
            frozenset([1]),
            True,
            0.0,
        )
        for changes, is_newer in (([], False), ([[1, '101', 't', '5', 1]], True)):
            row = _Row(False, Snapshot(100, 102, frozenset()), 1, True, ('g', changes))
            state = self.book._advance(None, base, row, 0.0)
            self.assertEqual(state and state.versions, {'t': 7} if is_newer else None)

    def test_a_standby_that_was_promoted_is_read_anew(self):
        with self.writer() as slow:
            self.write()
            self.look()
            slow.commit()
        with BookCase.reader(self) as cr:
            self.assertEqual(self.look(cr), self.version(cr))
        self.assertEqual((self.book.reloads, self.book.deltas), (2, 0))


@tagged('post_install', '-at_install')
class TestStandbyAtRandom(StandbyCase, TestBookAtRandom):
    """The same, on a standby."""

    allow_inherited_tests_method = True  # an attribute of Odoo
