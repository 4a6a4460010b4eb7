"""The contract that every tier and every policy of L1 keeps, run for each of them."""

import threading
import unittest

from odoo.tests.common import BaseCase, tagged
from odoo.tools import mute_logger

from ..services.entry import Entry, Seal
from ..services.miss import MISS
from ..services.tiers import DatabaseTier, MemoryTier, RedisTier
from .redis_server import REDIS_SERVER, ClusterServers, RedisServer, Sentinel
from .tier_tools import SECRET, Clock, EntryTable, make_entry


class TierContract:
    """Mixed into a test case, which provides ``new_tier()``."""

    # Odoo's loader skips the inherited methods of a test case that does not ask for them.
    allow_inherited_tests_method = True

    def setUp(self):
        super().setUp()
        self.clock = Clock()
        self.tier = self.new_tier()
        self.addCleanup(self.tier.close)

    def fill(self, *keys: str) -> list[Entry]:
        entries = [make_entry(key, payload=key.encode()) for key in keys]
        self.assertEqual(self.tier.set_many(entries), len(entries))
        return entries

    def present(self, *keys: str) -> list[str]:
        return [key for key in keys if self.tier.get(key) is not MISS]

    def test_name(self):
        self.assertIn(self.tier.name, ('l1', 'l2', 'l3'))

    def test_unknown_key_is_a_miss(self):
        self.assertIs(self.tier.get('v1:nothing'), MISS)
        self.assertEqual(self.tier.get_many(['v1:nothing']), {})

    def test_entry_comes_back_unchanged(self):
        entry = make_entry(
            payload=bytes(range(256)) * 20,
            dependencies=(
                ('res_partner', 2**62 - 1, None),
                ('sale_order', 0, ['partner_id', [1, 2]]),
            ),
        )
        self.assertTrue(self.tier.set(entry))
        self.assertEqual(self.tier.get(entry.key), entry)

    def test_empty_payload_is_not_a_miss(self):
        self.tier.set(make_entry('k', payload=b''))
        self.assertEqual(self.tier.get('k').payload, b'')

    def test_set_replaces(self):
        self.tier.set(make_entry('k', payload=b'old'))
        self.tier.set(make_entry('k', payload=b'newer and longer'))
        self.assertEqual(self.tier.get('k').payload, b'newer and longer')
        self.assertEqual(self.tier.stats()['entries'], 1)

    def test_get_many_returns_what_there_is(self):
        one, two = self.fill('a:1', 'a:2')
        self.assertEqual(self.tier.get_many(['a:2', 'a:0', 'a:1', 'a:1']), {'a:1': one, 'a:2': two})

    def test_get_many_of_nothing(self):
        self.assertEqual(self.tier.get_many([]), {})

    def test_set_many_keeps_the_last_of_a_key(self):
        self.tier.set_many([make_entry('k', payload=b'1'), make_entry('k', payload=b'2')])
        self.assertEqual(self.tier.get('k').payload, b'2')

    def test_set_many_of_nothing(self):
        self.assertEqual(self.tier.set_many([]), 0)

    def test_set_many_of_more_than_one_batch(self):
        self.fill(*(f'k:{number}' for number in range(450)))
        self.assertEqual(len(self.tier.get_many(f'k:{number}' for number in range(450))), 450)

    def test_expired_entry_is_refused(self):
        self.assertFalse(self.tier.set(make_entry('k', ttl_s=-1)))
        self.assertIs(self.tier.get('k'), MISS)

    def test_entry_expires(self):
        self.tier.set(make_entry('k', ttl_s=100, now=self.clock()))
        self.clock.advance(99)
        self.assertIsNot(self.tier.get('k'), MISS)
        self.clock.advance(1)
        self.assertIs(self.tier.get('k'), MISS)

    def test_expired_entry_does_not_stand_in_the_way_of_a_new_one(self):
        self.tier.set(make_entry('k', ttl_s=100, now=self.clock(), payload=b'old'))
        self.clock.advance(101)
        self.tier.get('k')
        self.tier.set(make_entry('k', now=self.clock(), payload=b'new'))
        self.assertEqual(self.tier.get('k').payload, b'new')

    def test_delete_removes_just_the_keys_and_counts_them(self):
        self.fill('a', 'b', 'c')
        self.assertEqual(self.tier.delete(['a', 'c', 'nothing', 'a']), 2)
        self.assertEqual(self.present('a', 'b', 'c'), ['b'])

    def test_delete_of_nothing(self):
        self.assertEqual(self.tier.delete([]), 0)

    def assertPatternRemoves(self, pattern: str, *expected: str):
        keys = (
            'v1:supplier:detail:42',
            'v1:supplier:detail:43',
            'v1:supplier:list',
            'v1:product:detail:42',
            'v1:a%b_c',
            'v1:a\\b',
            'v1:a.b',
            'v1:axb',
            'v1:[x]',
            'v1:ä🙂',
            'v2',
        )
        self.fill(*keys)
        self.assertEqual(self.tier.delete_pattern(pattern), len(expected))
        self.assertEqual(set(self.present(*keys)), set(keys) - set(expected))

    def test_pattern_star_at_the_end(self):
        self.assertPatternRemoves(
            'v1:supplier:*', 'v1:supplier:detail:42', 'v1:supplier:detail:43', 'v1:supplier:list'
        )

    def test_pattern_star_in_the_middle(self):
        self.assertPatternRemoves('v1:*:detail:42', 'v1:supplier:detail:42', 'v1:product:detail:42')

    def test_pattern_question_mark(self):
        self.assertPatternRemoves(
            'v1:supplier:detail:4?', 'v1:supplier:detail:42', 'v1:supplier:detail:43'
        )

    def test_pattern_brackets(self):
        self.assertPatternRemoves('v1:supplier:detail:[13]?')
        self.assertPatternRemoves('v1:supplier:detail:4[3579]', 'v1:supplier:detail:43')

    def test_pattern_without_wildcard_is_a_key(self):
        self.assertPatternRemoves('v1:supplier:list', 'v1:supplier:list')

    def test_pattern_matches_the_whole_key(self):
        self.assertPatternRemoves('v1:supplier')
        self.assertPatternRemoves('supplier:*')

    def test_characters_that_mean_something_to_sql_and_regular_expressions_do_not_here(self):
        self.assertPatternRemoves('v1:a%b_c', 'v1:a%b_c')
        self.assertPatternRemoves('v1:a.b', 'v1:a.b')
        self.assertPatternRemoves('v_:*')
        self.assertPatternRemoves('v%')

    def test_pattern_with_a_backslash_before_the_wildcard(self):
        self.assertPatternRemoves('v1:a\\*', 'v1:a\\b')

    def test_pattern_of_other_scripts(self):
        self.assertPatternRemoves('v1:ä*', 'v1:ä🙂')

    def test_pattern_of_everything(self):
        self.fill(*(f'k:{number}' for number in range(1100)))
        self.assertEqual(self.tier.delete_pattern('*'), 1100)

    def test_clear_removes_everything_and_counts_it(self):
        self.fill('a', 'b', 'v1:ä🙂')
        self.assertEqual(self.tier.clear(), 3)
        self.assertEqual(self.present('a', 'b', 'v1:ä🙂'), [])
        self.assertEqual(self.tier.clear(), 0)

    def test_stats(self):
        self.fill('a', 'b')
        stats = self.tier.stats()
        self.assertEqual(stats['entries'], 2)
        self.assertEqual(stats['faults'], {})
        self.assertIsInstance(stats['state'], str)
        for limit in ('bytes', 'max_entries', 'max_bytes'):
            self.assertIn(limit, stats)

    def test_stats_are_a_copy(self):
        self.tier.stats()['faults']['made up'] = 1
        self.assertFalse(self.tier.faults)

    def test_long_key(self):
        self.fill('k' * 512)
        self.assertEqual(self.present('k' * 512), ['k' * 512])

    def test_key_that_no_store_can_take_does_not_raise(self):
        with mute_logger('odoo.addons.tiered_cache.services.tiers.base'):
            for key in ('nul\x00', 'half a pair \ud800'):
                self.tier.set(make_entry(key))
                self.tier.get(key)
                self.tier.delete([key])
        self.fill('a')
        self.assertEqual(self.present('a'), ['a'])

    def test_close_and_go_on(self):
        self.fill('a')
        self.tier.close()
        self.tier.close()
        self.assertEqual(self.present('a'), ['a'])

    def test_faults_are_reported(self):
        heard = []
        self.tier.on_fault = lambda *fault: heard.append(fault)
        with self.assertLogs('odoo.addons.tiered_cache', 'WARNING'):
            self.tier._fault('made up')
        self.assertEqual(heard, [(self.tier.name, 'made up')])
        self.assertEqual(self.tier.faults, {'made up': 1})

    def test_faults_are_logged_at_powers_of_ten(self):
        with self.assertLogs('odoo.addons.tiered_cache', 'WARNING') as logs:
            for _ in range(120):
                self.tier._fault('made up')
        self.assertEqual(len(logs.output), 3)

    def test_threads_get_what_belongs_to_the_key(self):
        keys = [f'k:{number}' for number in range(20)]
        wrong, start = [], threading.Barrier(8)

        def work(seed):
            start.wait()
            for step in range(60):
                key = keys[(seed * 7 + step) % len(keys)]
                if step % 5 == 0:
                    self.tier.delete([key])
                elif step % 2:
                    self.tier.set(make_entry(key, payload=key.encode() * (step + 1)))
                else:
                    entry = self.tier.get(key)
                    if entry is not MISS and not (
                        entry.key == key and entry.payload.startswith(key.encode())
                    ):
                        wrong.append((key, entry))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertFalse(self.tier.faults)


class MemoryContract(TierContract):
    policy = ''

    def new_tier(self):
        return MemoryTier(10_000, 10_000_000, self.policy, self.clock)


@tagged('post_install', '-at_install')
class TestMemoryLru(MemoryContract, BaseCase):
    policy = 'lru'


@tagged('post_install', '-at_install')
class TestMemoryLfu(MemoryContract, BaseCase):
    policy = 'lfu'


@tagged('post_install', '-at_install')
class TestMemoryFifo(MemoryContract, BaseCase):
    policy = 'fifo'


@tagged('post_install', '-at_install')
class TestMemoryTtl(MemoryContract, BaseCase):
    policy = 'ttl'


@tagged('post_install', '-at_install')
class TestMemoryCost(MemoryContract, BaseCase):
    policy = 'cost'


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedis(TierContract, BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.enterClassContext(RedisServer())

    def new_tier(self):
        self.server.call('FLUSHALL')
        # A patient timeout: a busy machine must not make the contract fail.
        return RedisTier(self.server.url, 'tc:[a]*:', Seal(SECRET), 5000, clock=self.clock)

    def test_other_databases_are_left_alone(self):
        other = RedisTier(self.server.url, 'tc:[b]*:', Seal(SECRET), 5000)
        self.addCleanup(other.close)
        other.set(make_entry('k', payload=b'other'))
        self.fill('k')
        self.tier.clear()
        self.assertEqual(other.get('k').payload, b'other')


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedisBehindSentinels(TierContract, BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.enterClassContext(RedisServer())
        cls.sentinel = cls.enterClassContext(Sentinel(cls.server, 1))

    def new_tier(self):
        self.server.call('FLUSHALL')
        url = f'redis+sentinel://127.0.0.1:{self.sentinel.port}/mymaster'
        return RedisTier(url, 'tc:[a]*:', Seal(SECRET), 5000, clock=self.clock)


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedisInCluster(TierContract, BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster = cls.enterClassContext(ClusterServers())

    def new_tier(self):
        self.cluster.call('FLUSHALL')
        return RedisTier(self.cluster.url, 'tc:[a]*:', Seal(SECRET), 5000, clock=self.clock)


@tagged('post_install', '-at_install')
class TestDatabase(TierContract, BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.table = cls.enterClassContext(EntryTable())

    def new_tier(self):
        self.table.call("TRUNCATE cache_entry")
        return DatabaseTier(
            self.table.connect, statement_timeout_ms=5000, lock_timeout_ms=5000, clock=self.clock
        )
