"""The pool of connections to another Odoo."""

import threading
import time
import unittest

from odoo.tests import BaseCase, tagged
from odoo.tools import mute_logger

from ..services.breaker import CircuitBreaker
from ..services.entry import Seal
from ..services.remote.pool import Pool, PoolClosed, PoolTimeout
from ..services.tiers import RedisTier
from .redis_server import REDIS_SERVER, RedisServer
from .tier_tools import SECRET


class Connection:
    """Notes whether two use it."""

    def __init__(self):
        self.users = 0
        self.is_shared = False
        self.is_closed = False
        self.works = True

    def use(self, seconds=0.0):
        self.users += 1
        self.is_shared |= self.users > 1
        time.sleep(seconds)
        self.users -= 1

    def close(self):
        self.is_closed = True


@tagged('post_install', '-at_install')
class TestRemotePool(BaseCase):
    def setUp(self):
        super().setUp()
        self.made: list[Connection] = []
        self.now = 0.0

    def pool(self, **options):
        def connect(_timeout_s):
            self.made.append(Connection())
            return self.made[-1]

        pool = Pool(connect, **options)
        self.addCleanup(pool.close)
        return pool

    def aged(self, **options):
        return self.pool(clock=lambda: self.now, **options)

    def test_a_connection_is_used_again(self):
        pool = self.pool()
        for _use in range(3):
            with pool.connection() as connection:
                connection.use()
        self.assertEqual(len(self.made), 1)
        self.assertEqual(pool.stats()['created'], 1)

    def test_never_more_than_the_maximum_and_none_used_by_two(self):
        pool = self.pool(max_size=10, acquire_timeout_s=20)

        def work():
            for _use in range(5):
                with pool.connection() as connection:
                    connection.use(0.001)

        threads = [threading.Thread(target=work) for _number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertLessEqual(len(self.made), 10)
        self.assertFalse(any(connection.is_shared for connection in self.made))
        stats = pool.stats()
        self.assertEqual((stats['active'], stats['queued'], stats['timeouts']), (0, 0, 0))
        self.assertEqual(stats['acquired'], 1000)

    def test_first_come_first_served(self):
        pool = self.pool(max_size=1)
        slot, order = pool.acquire(), []

        def wait(number):
            with pool.connection():
                order.append(number)

        threads = []
        for number in range(5):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            while pool.stats()['queued'] <= number:
                time.sleep(0.001)
        pool.release(slot)
        # one who comes now does not overtake those who wait
        with pool.connection():
            order.append('late')
        for thread in threads:
            thread.join()
        self.assertEqual(order, [0, 1, 2, 3, 4, 'late'])

    def test_a_wait_is_bounded(self):
        pool = self.pool(max_size=1, acquire_timeout_s=0.1)
        slot, started = pool.acquire(), time.monotonic()
        with self.assertRaises(PoolTimeout):
            pool.acquire()
        self.assertLess(time.monotonic() - started, 0.5)
        self.assertEqual(pool.stats()['timeouts'], 1)
        pool.release(slot)
        pool.release(pool.acquire())  # whoever gave up holds no place
        pool = self.pool(max_size=1, acquire_timeout_s=5)
        pool.acquire()
        with self.assertRaises(PoolTimeout):
            pool.acquire(0.1)  # who has less time left waits for less
        self.assertLess(time.monotonic() - started, 2)

    def test_closing_rejects_who_waits(self):
        pool = self.pool(max_size=1, acquire_timeout_s=30)
        slot, errors = pool.acquire(), []

        def wait():
            try:
                pool.acquire()
            except PoolClosed as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while not pool.stats()['queued']:
            time.sleep(0.001)
        pool.close()
        thread.join(5)
        self.assertEqual(len(errors), 1)
        pool.release(slot)
        self.assertTrue(slot.connection.is_closed)
        self.assertEqual(pool.stats()['open'], 0)
        with self.assertRaises(PoolClosed):
            pool.acquire()

    def test_an_exception_closes_the_connection(self):
        pool = self.pool()
        with self.assertRaises(ZeroDivisionError), pool.connection():
            1 / 0  # noqa: B018
        self.assertTrue(self.made[0].is_closed)
        self.assertEqual(pool.stats()['open'], 0)

    def test_a_place_whose_connection_failed_goes_to_who_waits(self):
        fail = [False]

        def connect(_timeout_s):
            if fail[0]:
                raise OSError
            return Connection()

        pool = Pool(connect, max_size=1, acquire_timeout_s=5)
        slot, results = pool.acquire(), []

        def wait():
            try:
                pool.release(pool.acquire())
                results.append('ok')
            except OSError:
                results.append('failed')

        threads = [threading.Thread(target=wait) for _number in range(2)]
        for thread in threads:
            thread.start()
        while pool.stats()['queued'] < 2:
            time.sleep(0.001)
        fail[0] = True
        pool.release(slot, good=False)
        for thread in threads:
            thread.join(5)
        self.assertEqual(results, ['failed', 'failed'])
        fail[0] = False
        pool.release(pool.acquire())

    def test_an_old_connection_is_not_used(self):
        pool = self.aged(max_age_s=100, idle_timeout_s=1000)
        pool.release(pool.acquire())
        self.now = 101
        with pool.connection() as connection:
            self.assertIsNot(connection, self.made[0])
        self.assertTrue(self.made[0].is_closed)

    def test_one_idle_for_long_is_checked_before_it_is_used(self):
        checked = []

        def check(connection):
            checked.append(connection)
            return connection.works

        pool = self.aged(check=check, check_after_s=30)
        pool.release(pool.acquire())
        self.now = 29
        pool.release(pool.acquire())
        self.assertEqual(checked, [])
        self.now = 59
        pool.release(pool.acquire())
        self.assertEqual(checked, [self.made[0]])
        self.made[0].works, self.now = False, 100
        with pool.connection() as connection:
            self.assertIs(connection, self.made[1])
        self.assertTrue(self.made[0].is_closed)

    def test_tending_closes_what_is_idle_and_keeps_the_minimum(self):
        pool = self.aged(min_size=2, idle_timeout_s=60, check=lambda connection: True)
        slots = [pool.acquire() for _number in range(5)]
        for slot in slots:
            pool.release(slot)
        self.now = 40
        pool.tend()  # a check is no use
        self.now = 61
        pool.tend()
        self.assertEqual(pool.stats()['idle'], 2)
        for slot in list(pool._idle):
            slot.connection.works = False
        empty = self.pool(min_size=3)
        empty.tend()
        self.assertEqual(empty.stats()['idle'], 3)

    def test_statistics(self):
        pool = self.aged()
        slot = pool.acquire()
        self.now = 10
        stats = pool.stats()
        self.assertEqual((stats['open'], stats['active'], stats['idle']), (1, 1, 0))
        self.assertEqual((stats['healthy'], stats['mean_age_s']), (1, 10.0))
        pool.release(slot)
        self.assertEqual(pool.stats()['idle'], 1)
        self.assertIn('p95_acquire_ms', stats)


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedisPool(BaseCase):
    def test_figures_of_the_connections_to_redis_have_the_same_shape(self):
        server = self.enterContext(RedisServer())
        tier = RedisTier(server.url, 'tc:x:', Seal(SECRET), 2000, CircuitBreaker())
        self.addCleanup(tier.close)
        self.assertEqual(tier.health()['pool'], {})
        tier.get('v1:x')
        tier.get('v1:x')
        pool = tier.health()['pool']
        plain = Pool(lambda _timeout_s: Connection())
        self.assertEqual(pool.keys(), plain.stats().keys())
        self.assertEqual((pool['open'], pool['idle'], pool['active']), (1, 1, 0))
        self.assertEqual((pool['created'], pool['closed'], pool['acquired']), (1, 0, 2))
        server.stop()
        with mute_logger('odoo.addons.tiered_cache.services.tiers.base'):
            tier.get('v1:x')
        pool = tier.health()['pool']
        self.assertEqual(pool['open'], 0)
        self.assertEqual(pool['closed'], pool['created'])
