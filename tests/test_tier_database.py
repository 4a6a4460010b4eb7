"""L3 on a real table: what is in the rows, faults of PostgreSQL, purging, forks."""

import contextlib
import os
import threading
import time

import psycopg2

from odoo.tests.common import BaseCase, tagged
from odoo.tools import mute_logger

from ..services.breaker import CLOSED, CircuitBreaker
from ..services.entry import to_bytes
from ..services.miss import MISS
from ..services.tiers import DatabaseTier
from ..services.tiers import database as database_tier
from .tier_tools import Clock, EntryTable, in_child, make_entry

LOGGER = 'odoo.addons.tiered_cache.services.tiers'
AT_ONCE_S = 2.0


class DatabaseCase(BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.table = cls.enterClassContext(EntryTable())

    def setUp(self):
        super().setUp()
        self.breaker_clock = Clock()
        self.table.call("TRUNCATE cache_entry")
        self.enterContext(mute_logger(f'{LOGGER}.base'))

    def new_tier(self, connect=None, **options):
        """A tier with patient limits, unless the test is about limits."""
        tier = DatabaseTier(
            connect or self.table.connect,
            **{
                'breaker': CircuitBreaker(clock=self.breaker_clock),
                'statement_timeout_ms': 5000,
                'lock_timeout_ms': 5000,
                **options,
            },
        )
        self.addCleanup(tier.close)
        return tier

    def assertDown(self, tier, kind):
        """The tier has met one fault of this kind and leaves the table alone."""
        self.assertEqual(tier.faults, {kind: 1})
        self.assertNotEqual(tier._breaker.state, CLOSED)
        start = time.perf_counter()
        for _ in range(1000):
            self.assertIs(tier.get('k'), MISS)
        self.assertLess(time.perf_counter() - start, 0.5)
        self.assertFalse(tier.set(make_entry('k')))
        self.assertEqual(tier.delete(['k']), 0)
        self.assertEqual(tier.delete_pattern('*'), 0)
        self.assertEqual(tier.clear(), 0)
        self.assertEqual(tier.purge(0, 0), 0)
        self.assertIsNone(tier.stats()['entries'])
        self.assertEqual(tier.faults, {kind: 1})

    @contextlib.contextmanager
    def transaction(self, statement):
        """A transaction that has run a statement and stays open."""
        with contextlib.closing(self.table.connect()) as connection:
            connection.cursor().execute(statement)
            yield connection
            connection.rollback()


@tagged('post_install', '-at_install')
class TestDatabaseRows(DatabaseCase):
    def test_columns_are_copies_for_the_list_view(self):
        entry = make_entry('k', created=1_700_000_000.25, expires=4_000_000_000.5)
        self.new_tier().set(entry)
        rows = self.table.call("""
            SELECT key, model, method, uid, created::text, expires::text, cost_ms::float8,
                   size_bytes, hits, body FROM cache_entry""")
        body = to_bytes(entry)
        self.assertEqual(
            rows[0][:-1],
            (
                'k',
                'res.partner',
                'search_read',
                2,
                '2023-11-14 22:13:20.25',
                '2096-10-02 07:06:40.5',
                53.25,
                len(body),
                0,
            ),
        )
        self.assertEqual(bytes(rows[0][-1]), body)

    def test_replacing_changes_every_column(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.table.call("UPDATE cache_entry SET hits = 5")
        now = time.time()
        tier.set(
            make_entry(
                'k',
                payload=b'new',
                model='m',
                method='f',
                uid=9,
                cost_ms=1.5,
                created=now + 5,
                expires=now + 50,
            )
        )
        rows = self.table.call("""
            SELECT model, method, uid, cost_ms::float8, hits,
                   extract(epoch FROM expires - created)::int FROM cache_entry""")
        self.assertEqual(rows, [('m', 'f', 9, 1.5, 0, 45)])

    def test_the_server_judges_expiry_by_utc(self):
        tier = self.new_tier(lambda: self.table.connect(timezone='Asia/Tokyo'))
        tier.set_many([make_entry('soon', ttl_s=1800), make_entry('late', ttl_s=7200)])
        self.assertEqual(set(tier.get_many(['soon', 'late'])), {'soon', 'late'})
        self.table.call("""
            UPDATE cache_entry SET expires = now() AT TIME ZONE 'utc' - interval '1 s'
             WHERE key = 'soon'""")
        self.assertEqual(set(tier.get_many(['soon', 'late'])), {'late'})

    def test_entry_without_a_user(self):
        entry = make_entry('k', uid=0, model='', method='')
        tier = self.new_tier()
        tier.set(entry)
        self.assertEqual(tier.get('k'), entry)

    def test_hits_are_added_up_in_the_table(self):
        tier = self.new_tier()
        tier.set_many([make_entry('a'), make_entry('b')])
        for key in ('a', 'b', 'a', 'nothing'):
            tier.get(key)
        tier.purge()
        tier.get('a')
        tier.purge()
        self.assertEqual(self.hits(), [('a', 3), ('b', 1)])

    def hits(self):
        return self.table.call("SELECT key, hits FROM cache_entry ORDER BY key")

    def test_hits_are_written_now_and_then_with_new_entries(self):
        tier = self.new_tier()
        tier.set(make_entry('a'))
        tier.get('a')
        tier.set(make_entry('b'))
        self.assertEqual(self.hits(), [('a', 0), ('b', 0)])
        tier._hits_written_at -= database_tier.HITS_EVERY_S
        tier.set(make_entry('c'))
        self.assertEqual(self.hits(), [('a', 1), ('b', 0), ('c', 0)])

    def test_batches_are_limited_by_bytes(self):
        tier = self.new_tier()
        entries = [make_entry(str(number), payload=os.urandom(1_500_000)) for number in range(7)]
        self.assertEqual(tier.set_many(entries), 7)
        self.assertEqual(tier.get('6'), entries[6])

    def test_stats_count_rows_and_bytes(self):
        tier = self.new_tier(max_entries=10, max_mb=0.5)
        tier.set_many([make_entry('a'), make_entry('b', payload=bytes(1000))])
        stats = tier.stats()
        self.assertEqual(stats['entries'], 2)
        self.assertEqual(stats['bytes'], sum(len(to_bytes(tier.get(key))) for key in ('a', 'b')))
        self.assertGreater(stats['table_bytes'], stats['bytes'])
        self.assertEqual(
            (stats['state'], stats['max_entries'], stats['max_bytes']), ('up', 10, 524288)
        )

    def test_lookup_and_pattern_search_use_an_index(self):
        tier = self.new_tier()
        tier.set_many(
            [make_entry(f'v1:orm:model{number % 50}:read:{number}') for number in range(2000)]
        )
        self.table.call("ANALYZE cache_entry")
        for statement, params in (
            (database_tier._GET, (['v1:orm:model1:read:1'],)),
            (
                database_tier._KEYS,
                ('v1:orm:model1:%', *database_tier._bounds('v1:orm:model1:*'), '', 1000),
            ),
        ):
            explained = statement.replace('SELECT', 'EXPLAIN SELECT', 1)
            plan = str(self.table.call(explained, (1000, 1000, *params)))
            self.assertRegex(plan, 'Index|Bitmap')
            self.assertNotIn('Seq Scan', plan)


@tagged('post_install', '-at_install')
class TestDatabaseValues(DatabaseCase):
    def setUp(self):
        super().setUp()
        self.tier = self.new_tier()
        self.entry = make_entry('k')
        self.tier.set(self.entry)

    def assertDropped(self, body):
        self.table.call("UPDATE cache_entry SET body = %s", (body,))
        self.assertIs(self.tier.get('k'), MISS)
        self.assertEqual(self.tier.faults, {'corrupt': 1})
        self.assertEqual(self.table.call("SELECT count(*) FROM cache_entry"), [(0,)])
        self.tier.set(self.entry)
        self.assertEqual(self.tier.get('k'), self.entry)

    def test_garbage(self):
        self.assertDropped(os.urandom(100))

    def test_truncated(self):
        self.assertDropped(to_bytes(self.entry)[:-1])

    def test_empty(self):
        self.assertDropped(b'')

    def test_null(self):
        self.assertDropped(None)

    def test_entry_of_another_key(self):
        self.assertDropped(to_bytes(make_entry('other')))

    def test_among_good_ones(self):
        good = make_entry('good')
        self.tier.set(good)
        self.table.call("UPDATE cache_entry SET body = 'x' WHERE key = 'k'")
        self.assertEqual(self.tier.get_many(['k', 'good']), {'good': good})


@tagged('post_install', '-at_install')
class TestDatabaseFaults(DatabaseCase):
    def test_connection_is_opened_on_first_use(self):
        opened = []
        tier = self.new_tier(lambda: opened.append(1) or self.table.connect())
        self.assertEqual(opened, [])
        tier.get('k')
        tier.get('k')
        self.assertEqual(opened, [1])

    def test_server_unreachable(self):
        def connect():
            return psycopg2.connect(host='127.0.0.1', port=1, dbname='x')

        tier = self.new_tier(connect)
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'connection')
        self.assertEqual(tier.stats()['state'], 'down')

    def test_connect_that_raises_anything(self):
        def connect():
            raise KeyError('a misconfigured server')

        tier = self.new_tier(connect)
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'connection')

    def test_connection_killed(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.table.call("SELECT pg_terminate_backend(%s)", (tier._connection.info.backend_pid,))
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'connection')
        self.breaker_clock.advance(1)
        self.assertIsNot(tier.get('k'), MISS)
        self.assertEqual(tier.stats()['state'], 'up')

    def test_connection_closed_by_somebody(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        tier._connection.close()
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'connection')

    def test_emptied_by_a_crash_is_a_miss_without_a_fault(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.table.call("TRUNCATE cache_entry")
        self.assertIs(tier.get('k'), MISS)
        self.assertFalse(tier.faults)

    def test_table_missing(self):
        tier = self.new_tier(lambda: self.table.connect())
        self.table.call("ALTER TABLE cache_entry RENAME TO elsewhere")
        self.addCleanup(self.table.call, "ALTER TABLE elsewhere RENAME TO cache_entry")
        # Not the addon's own table either, which is behind this one in the search path.
        tier._connect = lambda: self.connect_to(self.table.schema)
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'missing')

    def connect_to(self, search_path):
        connection = self.table.connect()
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('search_path', %s, false)", (search_path,))
        connection.commit()
        return connection

    def test_read_only_server(self):
        tier = self.new_tier(lambda: self.table.connect(default_transaction_read_only='on'))
        self.assertFalse(tier.set(make_entry('k')))
        self.assertDown(tier, 'replica')
        self.assertEqual(tier.stats()['state'], 'replica')

    def test_hot_standby(self):
        # Says what a standby says when an unlogged table is read.
        self.table.call(f"""
            CREATE SCHEMA {self.table.schema}_s;
            CREATE FUNCTION {self.table.schema}_s.refuse() RETURNS SETOF cache_entry
            LANGUAGE plpgsql AS $$ BEGIN
                RAISE 'cannot access temporary or unlogged relations during recovery'
                USING ERRCODE = '0A000';
            END $$;
            CREATE VIEW {self.table.schema}_s.cache_entry AS
            SELECT * FROM {self.table.schema}_s.refuse()""")
        self.addCleanup(self.table.call, f"DROP SCHEMA {self.table.schema}_s CASCADE")
        tier = self.new_tier(lambda: self.connect_to(f'{self.table.schema}_s'))
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'replica')
        self.assertEqual(tier.stats()['state'], 'replica')

    def test_locked_table_costs_a_read_the_lock_timeout(self):
        tier = self.new_tier(lock_timeout_ms=50)
        tier.set(make_entry('k'))
        with self.transaction("LOCK TABLE cache_entry IN ACCESS EXCLUSIVE MODE"):
            start = time.perf_counter()
            self.assertIs(tier.get('k'), MISS)
            self.assertLess(time.perf_counter() - start, AT_ONCE_S)
            self.assertDown(tier, 'locked')

    def test_slow_statement_costs_a_read_the_statement_timeout(self):
        tier = self.new_tier(statement_timeout_ms=50)
        tier.set(make_entry('k'))
        with self.transaction("LOCK TABLE cache_entry IN ACCESS EXCLUSIVE MODE") as connection:
            # without a limit it would wait for ever
            ends = threading.Timer(5 * AT_ONCE_S, connection.rollback)
            self.addCleanup(ends.cancel)
            ends.start()
            start = time.perf_counter()
            self.assertIs(tier.get('k'), MISS)
            self.assertLess(time.perf_counter() - start, AT_ONCE_S)
            self.assertDown(tier, 'timeout')

    def test_blocked_batch_does_not_stop_reads(self):
        tier = self.new_tier(lock_timeout_ms=20)
        tier.set_many([make_entry('a'), make_entry('b')])
        with self.transaction("UPDATE cache_entry SET hits = 1 WHERE key = 'a'"):
            self.assertEqual(tier.set_many([make_entry('a', payload=b'new')]), 0)
            self.assertEqual(tier.faults, {'locked': 1})
            self.assertIsNot(tier.get('b'), MISS)

    def test_limits_do_not_outlast_the_statement(self):
        # A PgBouncer in transaction mode hands the connection to another program next.
        tier = self.new_tier(statement_timeout_ms=50)
        tier.set(make_entry('k'))
        tier.get('k')
        with tier._connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
            )
            self.assertEqual(cursor.fetchone(), ('0', '0'))

    def test_reads_do_not_wait_long_for_a_batch(self):
        tier = self.new_tier(statement_timeout_ms=100)
        tier.set(make_entry('k'))
        with tier._lock:
            start = time.perf_counter()
            self.assertIs(tier.get('k'), MISS)
            self.assertLess(time.perf_counter() - start, AT_ONCE_S)
        self.assertEqual(tier.faults, {'busy': 1})
        self.assertIsNot(tier.get('k'), MISS)

    def test_nothing_stays_open_between_calls(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        tier.get('k')
        states = self.table.call(
            "SELECT state, backend_xmin FROM pg_stat_activity WHERE pid = %s",
            (tier._connection.info.backend_pid,),
        )
        self.assertEqual(states, [('idle', None)])

    def test_killed_in_the_middle_starts_afresh(self):
        class Killed(BaseException):
            """As Odoo raises in a worker that has used up its time."""

        tier = self.new_tier()
        tier.set(make_entry('k'))
        connection = tier._connection
        tier._connection = _Interrupted(connection, Killed())
        with self.assertRaises(Killed):
            tier.get('k')
        self.assertTrue(connection.closed)
        self.assertIsNot(tier.get('k'), MISS)


class _Interrupted:
    """A connection on which the next statement never ends."""

    def __init__(self, connection, error):
        self._connection = connection
        self._error = error

    def cursor(self):
        raise self._error

    def close(self):
        self._connection.close()


@tagged('post_install', '-at_install')
class TestDatabaseConcurrency(DatabaseCase):
    def in_threads(self, *functions):
        errors = []

        def guarded(function):
            try:
                function()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])

    def test_workers_that_store_the_same_keys_do_not_block_each_other_for_good(self):
        keys = [str(number) for number in range(300)]
        workers = [self.new_tier() for _ in range(4)]

        def work(tier, order):
            for _ in range(5):
                tier.set_many([make_entry(key) for key in order])
                tier.delete(order[:150])

        self.in_threads(
            *(
                lambda tier=tier, order=keys[::step]: work(tier, order)
                for tier, step in zip(workers, (1, -1, 1, -1), strict=True)
            )
        )
        for tier in workers:
            self.assertFalse(tier.faults)

    def test_serialization_failure_cannot_happen(self):
        # A role may have REPEATABLE READ as its default; two writers of a key would get 40001.
        def connect():
            return self.table.connect(default_transaction_isolation='serializable')

        tier = self.new_tier(connect)
        tier.set(make_entry('k'))

        def commit_once_it_waits():
            for _turn in range(500):
                if self.table.call(
                    "SELECT 1 FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid"
                    " FROM pg_stat_activity WHERE query LIKE '%INSERT INTO cache_e%')"
                ):
                    break
                time.sleep(0.01)
            other.commit()

        with self.transaction("UPDATE cache_entry SET hits = 5") as other:
            self.in_threads(lambda: tier.set(make_entry('k')), commit_once_it_waits)
        self.assertFalse(tier.faults)
        self.assertEqual(self.table.call("SELECT hits FROM cache_entry"), [(0,)])


@tagged('post_install', '-at_install')
class TestDatabasePurge(DatabaseCase):
    def setUp(self):
        super().setUp()
        self.tier = self.new_tier()

    def fill(self, count, size=100):
        """Entries '00', '01', …, each a second younger than the one before."""
        now = time.time() - 1000
        self.tier.set_many(
            [
                make_entry(f'{number:02}', payload=bytes(size), now=now + number, ttl_s=7200)
                for number in range(count)
            ]
        )

    def left(self):
        return [key for (key,) in self.table.call("SELECT key FROM cache_entry ORDER BY key")]

    def expire(self, condition="true"):
        self.table.call(f"UPDATE cache_entry SET expires = '2020-01-01' WHERE {condition}")

    def test_removes_what_has_expired(self):
        self.fill(5)
        self.expire("key IN ('01', '03')")
        self.assertEqual(self.tier.purge(100, 100), 2)
        self.assertEqual(self.left(), ['00', '02', '04'])

    def test_removes_the_oldest_beyond_the_number(self):
        self.fill(10)
        self.assertEqual(self.tier.purge(4, 100), 6)
        self.assertEqual(self.left(), ['06', '07', '08', '09'])

    def test_removes_the_oldest_beyond_the_size(self):
        self.fill(10, size=100_000)
        self.assertEqual(self.tier.purge(100, 0.35), 7)
        self.assertEqual(self.left(), ['07', '08', '09'])

    def test_equally_old_entries(self):
        now = time.time()
        self.tier.set_many([make_entry(str(number), now=now) for number in range(10)])
        self.assertEqual(self.tier.purge(3, 100), 7)
        self.assertEqual(len(self.left()), 3)

    def test_within_the_limits_nothing_goes(self):
        self.fill(10)
        self.assertEqual(self.tier.purge(10, 100), 0)

    def test_zero_empties_it(self):
        self.fill(10)
        self.assertEqual(self.tier.purge(0, 100), 10)

    def test_limits_of_the_constructor(self):
        self.tier = self.new_tier(max_entries=2, max_mb=100)
        self.fill(5)
        self.assertEqual(self.tier.purge(), 3)

    def test_without_limits_only_what_has_expired(self):
        self.fill(5)
        self.expire("key = '00'")
        self.assertEqual(self.tier.purge(), 1)

    def test_more_than_one_slice(self):
        self.tier.set_many([make_entry(f'{number:04}') for number in range(2500)])
        self.expire("key < '1200'")
        self.assertEqual(self.tier.purge(100, 100), 2400)
        self.assertEqual(len(self.left()), 100)

    def test_a_purge_may_take_longer_than_other_statements(self):
        """A million entries do: a purge that gives up would let the table grow for ever."""
        self.tier = self.new_tier(statement_timeout_ms=5)
        slow = database_tier._CUTOFF.replace('FROM cache_entry', 'FROM cache_entry, pg_sleep(0.2)')
        self.assertNotEqual(slow, database_tier._CUTOFF)
        self.patch(database_tier, '_CUTOFF', slow)
        self.new_tier().set_many([make_entry(str(number)) for number in range(10)])
        self.assertEqual(self.tier.purge(3, 100), 7)
        self.assertFalse(self.tier.faults)

    def test_leaves_rows_that_another_worker_is_writing(self):
        self.fill(3)
        self.expire()
        with self.transaction("UPDATE cache_entry SET hits = 1 WHERE key = '01'"):
            self.assertEqual(self.tier.purge(100, 100), 2)
        self.assertFalse(self.tier.faults)


@tagged('post_install', '-at_install')
class TestDatabaseFork(DatabaseCase):
    def test_child_has_a_connection_of_its_own(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        parent = tier._connection.info.backend_pid

        def child():
            payload = tier.get('k').payload
            return payload, tier._connection.info.backend_pid != parent, dict(tier.faults)

        self.assertEqual(in_child(child), str((b'payload', True, {})))

    def test_parent_goes_on_with_its_connection(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        parent = tier._connection.info.backend_pid
        in_child(lambda: (tier.get('k'), tier.close()))
        self.assertIsNot(tier.get('k'), MISS)
        self.assertEqual(tier._connection.info.backend_pid, parent)
        self.assertFalse(tier.faults)

    def test_child_closing_first_leaves_the_parent_alone(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.assertEqual(in_child(tier.close), 'None')
        self.assertIsNot(tier.get('k'), MISS)
        self.assertFalse(tier.faults)

    def test_lock_held_in_the_parent_does_not_stop_the_child(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        with tier._lock:
            self.assertEqual(in_child(lambda: tier.get('k').payload), "b'payload'")
