"""L2 keeps to its limits: as many entries, and as many bytes, as one database may have."""

import unittest

from odoo.tests.common import tagged
from odoo.tools import mute_logger

from ..services.miss import MISS
from .common import CacheCase
from .redis_server import REDIS_SERVER, RedisServer
from .test_redis_cluster import ClusterCase
from .test_tier_redis import LOGGER, PREFIX, RedisCase
from .tier_tools import make_entry


class LimitsContract:
    """Mixed into a test case with ``new_tier(**options)`` and ``server``."""

    allow_inherited_tests_method = True

    def fill(self, tier, count, size=100):
        """Entries that expire one after the other, the first one first."""
        tier.set_many(
            [
                make_entry(f'v1:k:{number}', payload=bytes(size), ttl_s=1000 + number)
                for number in range(count)
            ]
        )

    def left(self, tier, count):
        return [number for number in range(count) if tier.get(f'v1:k:{number}') is not MISS]

    def test_what_expires_first_is_removed_beyond_the_number(self):
        tier = self.new_tier(max_entries=300)
        self.fill(tier, 400)
        removed = tier.trim()
        self.assertEqual(self.left(tier, 400), list(range(removed, 400)))
        self.assertTrue(270 <= 400 - removed <= 300, removed)

    def test_likewise_beyond_the_size(self):
        tier = self.new_tier(max_bytes=300_000)
        self.fill(tier, 400, size=800)
        removed = tier.trim()
        left = self.left(tier, 400)
        self.assertEqual(left, list(range(removed, 400)))
        self.assertTrue(240_000 <= len(left) * 1150 <= 320_000, len(left))

    def test_within_the_limits_nothing_goes(self):
        tier = self.new_tier(max_entries=400, max_bytes=10_000_000)
        self.fill(tier, 400)
        self.assertEqual(tier.trim(), 0)

    def test_without_limits_nobody_looks(self):
        tier = self.new_tier()
        self.fill(tier, 10)
        self.assertEqual((tier.trim(), tier.stats()['max_entries']), (0, None))

    def test_many_more_than_a_page(self):
        tier = self.new_tier(max_entries=2000)
        self.fill(tier, 6000)
        tier.trim()
        left = self.left(tier, 6000)
        self.assertTrue(1700 <= len(left) <= 2400, len(left))
        self.assertGreater(sum(left) / len(left), 3500)  # mostly those that live longer

    def test_one_worker_acts_for_all(self):
        one, two = self.new_tier(max_entries=10), self.new_tier(max_entries=10)
        self.fill(one, 100)
        self.assertGreater(one.trim(), 80)
        self.fill(one, 100)
        self.assertEqual(two.trim(), 0)

    def test_not_more_often_than_told(self):
        tier = self.new_tier(max_entries=10)
        self.assertEqual(tier.trim(every_s=60), 0)
        self.fill(tier, 100)
        self.assertEqual(tier.trim(every_s=60), 0)
        self.assertGreater(tier.trim(), 80)


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedisLimits(LimitsContract, RedisCase):
    def test_other_databases_do_not_count_and_are_left_alone(self):
        tier = self.new_tier(max_entries=1000)
        self.fill(tier, 500)
        self.server.call('MSET', *(part for n in range(700) for part in (f'other:{n}', 'x')))
        self.assertEqual(tier.trim(), 0)
        tier = self.new_tier(max_entries=100)
        tier.trim()
        self.assertEqual(self.server.call('EXISTS', *(f'other:{n}' for n in range(700))), 700)

    def test_a_key_without_an_end_is_left_alone(self):
        tier = self.new_tier(max_entries=10)
        self.fill(tier, 100)
        self.server.call('SET', f'{PREFIX}v1:eternal', 'x')
        tier.trim()
        self.assertEqual(self.server.call('EXISTS', f'{PREFIX}v1:eternal'), 1)

    def test_redis_that_is_down_is_not_asked(self):
        with RedisServer() as server:
            tier = self.new_tier(server.url, timeout_ms=200, max_entries=10)
            tier.set(make_entry('v1:k'))
        with mute_logger(f'{LOGGER}.base'):
            tier.get('v1:k')
            faults = dict(tier.faults)
            self.assertEqual(tier.trim(), 0)
        self.assertEqual(tier.faults, faults)

    def test_limits_are_shown(self):
        stats = self.new_tier(max_entries=10, max_bytes=2**20).stats()
        self.assertEqual((stats['max_entries'], stats['max_bytes']), (10, 2**20))


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedisClusterLimits(LimitsContract, ClusterCase):
    pass


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedisLimitsInAnEngine(CacheCase):
    def test_the_background_keeps_redis_within_the_setting(self):
        with RedisServer() as server:
            self.configure(redis_url=server.url, l2_max_entries='5')
            tier = self.engine.hierarchy.tiers['l2']
            tier.set_many([make_entry(f'v1:{number}') for number in range(50)])
            self.engine.tick()
            self.assertLessEqual(tier.stats()['entries'], 6)  # and the mark of who did it
            tier.close()
