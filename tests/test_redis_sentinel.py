"""L2 behind three real Sentinels: failovers under load and by hand, Sentinels in trouble."""

import contextlib
import os
import tempfile
import threading
import time
import unittest
import unittest.mock

from odoo.tests.common import BaseCase, tagged
from odoo.tools import mute_logger

from ..services import redis_probe
from ..services.breaker import CircuitBreaker
from ..services.entry import Seal
from ..services.miss import MISS
from ..services.tiers import RedisTier, base
from .redis_server import (
    REDIS_SERVER,
    RedisServer,
    Sentinel,
    SentinelServers,
    free_port,
    wait_until,
)
from .test_faults import QUIET, StatesCase
from .test_tier_redis import AT_ONCE_S, LOGGER, PREFIX, TIMEOUT_MS, impostor, make_certificate
from .tier_tools import SECRET, Clock, in_child, make_entry


@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class SentinelCase(BaseCase):
    def setUp(self):
        super().setUp()
        self.enterContext(mute_logger(f'{LOGGER}.base'))
        self.breaker_clock = Clock()

    def new_tier(self, url, timeout_ms=5000, breaker=None):
        """A tier with a patient timeout, unless the test is about timeouts."""
        tier = RedisTier(
            url,
            PREFIX,
            Seal(SECRET),
            timeout_ms,
            breaker or CircuitBreaker(clock=self.breaker_clock),
        )
        self.addCleanup(tier.close)
        return tier

    @contextlib.contextmanager
    def in_time(self):
        started = time.monotonic()
        yield
        self.assertLess(time.monotonic() - started, AT_ONCE_S)

    def assertAdvises(self, url, kind, word):
        with self.assertRaisesRegex(redis_probe.ProbeError, word) as raised:
            redis_probe.probe(url, PREFIX)
        self.assertEqual(raised.exception.kind, kind)
        self.assertNotIn('wr0ng', str(raised.exception))


@tagged('post_install', '-at_install')
class TestRedisFailover(SentinelCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.servers = cls.enterClassContext(SentinelServers())

    def setUp(self):
        super().setUp()
        self.servers.primary().call('FLUSHALL')

    def wait_for_replica(self, primary):
        """Everybody agrees on the primary, and the other one is its replica."""
        other = next(server for server in self.servers.servers if server is not primary)
        wait_until(
            lambda: (
                (info := other.call('INFO', 'replication'))['role'] == 'slave'
                and info['master_port'] == primary.port
                and info['master_link_status'] == 'up'
            ),
            "the other one is a replica",
        )
        wait_until(
            lambda: all(self.servers.is_ready(sentinel) for sentinel in self.servers.sentinels),
            "the Sentinels know the replica",
        )

    def test_failover_during_load(self):
        """Threads read and write while the primary is killed: nothing is raised, no call is
        slow, and there are hits again with the new one, and when the old one is its replica."""
        tier = self.new_tier(
            self.servers.url, TIMEOUT_MS, CircuitBreaker(cooldown_s=0.1, max_cooldown_s=0.2)
        )
        load = Load(tier)
        old = self.servers.primary()
        with load:
            wait_until(lambda: load.hits > 500, "hits before")
            old.stop()
            wait_until(lambda: tier.stats()['state'] == 'down', "noticed")
            wait_until(lambda: self.servers.primary() is not old, "failed over")
            load.hits = 0
            wait_until(lambda: load.hits > 500, "hits with the new primary")
            new = self.servers.primary()
            self.assertEqual(
                tier.stats()['servers'],
                [{'address': f'{self.servers.url}: 127.0.0.1:{new.port}', 'state': 'up'}],
            )
            old.start()
            self.wait_for_replica(new)
            load.hits = 0
            wait_until(lambda: load.hits > 500, "hits with the old primary as a replica")
        self.assertEqual(load.wrong, [])
        self.assertLess(load.slowest_s, AT_ONCE_S)
        wait_until(lambda: tier.stats()['state'] == 'up', "up in the end")
        self.assertTrue(new.call('DBSIZE'))

    def test_failover_of_a_primary_that_lives_on(self):
        tier = self.new_tier(
            self.servers.url, TIMEOUT_MS, CircuitBreaker(cooldown_s=0.1, max_cooldown_s=0.2)
        )
        self.assertTrue(tier.set(make_entry('k')))
        old = self.servers.primary()
        # what no replica has by then is lost
        wait_until(lambda: old.call('WAIT', '1', '1000') >= 1, "replicated")
        wait_until(
            lambda: self.servers.sentinels[0].call('SENTINEL', 'FAILOVER', 'mymaster'), "started"
        )
        wait_until(lambda: self.servers.primary() is not old, "failed over")
        new = self.servers.primary()
        self.wait_for_replica(new)
        wait_until(lambda: tier.set(make_entry('after')), "written to the new one")
        self.assertTrue(new.call('EXISTS', f'{PREFIX}after'))
        self.assertIsNot(tier.get('after'), MISS)
        self.assertEqual(tier.delete(['k', 'after']), 2)

    def test_a_refused_write_makes_it_look_for_the_primary(self):
        """A Sentinel that is behind has sent us to a replica; the connection stays open."""
        tier = self.new_tier(self.servers.url)
        self.wait_for_replica(primary := self.servers.primary())
        self.assertTrue(tier.set(make_entry('k')))
        other = next(server for server in self.servers.servers if server is not primary)
        wait_until(lambda: other.call('EXISTS', f'{PREFIX}k'), "replicated")
        sentinels = tier._servers.nodes()[0].sentinels
        tier.close()
        with unittest.mock.patch.object(
            type(sentinels), 'find_primary', lambda _self: ('127.0.0.1', other.port)
        ):
            self.assertIsNot(tier.get('k'), MISS)
            self.assertFalse(tier.set(make_entry('new')))
        self.assertEqual(tier.faults, {'readonly': 1})
        self.assertEqual(tier.stats()['writes'], 'paused')
        self.breaker_clock.advance(1)
        self.assertTrue(tier.set(make_entry('new')))

    def test_only_connecting_asks_a_sentinel(self):
        tier = self.new_tier(self.servers.url)
        sentinels = tier._open().nodes()[0].sentinels
        with unittest.mock.patch.object(sentinels, '_ask', wraps=sentinels._ask) as ask:
            for number in range(20):
                tier.set(make_entry(str(number)))
                tier.get(str(number))
        self.assertEqual(ask.call_count, 1)

    def test_sentinels_that_do_not_answer_are_passed_over(self):
        _first, _second, third = self.servers.sentinels
        with impostor() as hole:
            url = (
                f'redis+sentinel://127.0.0.1:{free_port()},{hole[8:-2]},'
                f'127.0.0.1:{third.port}/mymaster'
            )
            tier = self.new_tier(url, 1000)
            with self.in_time():
                self.assertTrue(tier.set(make_entry('k')))
            self.assertFalse(tier.faults)
            hosts = tier._servers.nodes()[0].sentinels._hosts
            self.assertEqual(hosts[0], ('127.0.0.1', third.port), "asked first from now on")

    def test_nobody_answers(self):
        with impostor() as hole:
            tier = self.new_tier(
                f'redis+sentinel://127.0.0.1:{free_port()},{hole[8:-2]}/mymaster', TIMEOUT_MS
            )
            with self.in_time():
                self.assertIs(tier.get('k'), MISS)
                for _again in range(100):
                    self.assertIs(tier.get('k'), MISS)
        self.assertEqual(tier.faults, {'sentinel': 1})
        self.assertEqual(tier.stats()['state'], 'down')

    def test_a_name_that_no_sentinel_knows(self):
        url = self.servers.url.replace('mymaster', 'other')
        tier = self.new_tier(url)
        self.assertIs(tier.get('k'), MISS)
        self.assertEqual(tier.faults, {'service': 1})
        self.assertAdvises(url, 'service', 'sentinel monitor')

    def test_child_has_a_connection_of_its_own(self):
        tier = self.new_tier(self.servers.url)
        tier.set(make_entry('k'))

        def child():
            names = {c['name'] for c in self.servers.primary().call('CLIENT LIST')}
            payload = tier.get('k').payload
            own = {c['name'] for c in self.servers.primary().call('CLIENT LIST')} - names
            return payload, own == {f'odoo-tiered-cache-{os.getpid()}'}, dict(tier.faults)

        self.assertEqual(in_child(child), str((b'payload', True, {})))
        self.assertIsNot(tier.get('k'), MISS)
        self.assertFalse(tier.faults)

    def test_probe(self):
        found = redis_probe.probe(self.servers.url, PREFIX)
        self.assertEqual((found['servers'], found['address']), (1, self.servers.url))
        self.assertAdvises(
            f'redis+sentinel://127.0.0.1:{free_port()}/mymaster', 'sentinel', "26379"
        )

    def test_probe_of_a_server_instead_of_a_sentinel(self):
        port = self.servers.primary().port
        self.assertAdvises(
            f'redis+sentinel://:wr0ng@127.0.0.1:{port}/mymaster', 'sentinel', "not the Redis"
        )


@tagged('post_install', '-at_install')
class TestRedisSentinelSecrets(SentinelCase):
    """One server and one Sentinel, each with a password of its own and with TLS."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.certificate, key = make_certificate(folder)
        tls = {
            'tls_cert_file': cls.certificate,
            'tls_key_file': key,
            'tls_ca_cert_file': cls.certificate,
            'tls_auth_clients': 'no',
        }
        try:
            cls.server = cls.enterClassContext(
                RedisServer(requirepass='data', tls_port=free_port(), **tls)
            )
        except ChildProcessError:
            raise unittest.SkipTest("this redis-server cannot speak TLS") from None
        cls.sentinel = cls.enterClassContext(
            Sentinel(
                cls.server,
                1,
                'sentinel auth-pass mymaster data',
                requirepass='watch',
                tls_port=free_port(),
                **tls,
            )
        )

    def url(self, password='data', sentinel_password='watch'):
        return (
            f'redis+sentinel://:{password}@127.0.0.1:{self.sentinel.port}/mymaster/2'
            f'?sentinel_password={sentinel_password}'
        )

    def test_each_has_its_own_password(self):
        tier = self.new_tier(self.url())
        self.assertTrue(tier.set(make_entry('k')))
        self.assertIsNot(tier.get('k'), MISS)
        self.assertIn('db2', self.server.call('INFO', 'keyspace'))

    def test_a_user_of_the_sentinel_who_may_only_what_the_documentation_says(self):
        rights = 'odoo on >s3cret -@all +sentinel|get-master-addr-by-name'
        self.sentinel.call('ACL', 'SETUSER', *rights.split())
        self.addCleanup(self.sentinel.call, 'ACL', 'DELUSER', 'odoo')
        url = self.url(sentinel_password='s3cret&sentinel_username=odoo')
        self.assertTrue(self.new_tier(url).set(make_entry('k')))
        self.assertEqual(redis_probe.probe(url, PREFIX)['servers'], 1)

    def test_a_wrong_password_of_the_server(self):
        url = self.url(password='wr0ng')
        tier = self.new_tier(url)
        self.assertIs(tier.get('k'), MISS)
        self.assertEqual(tier.faults, {'auth': 1})
        self.assertAdvises(url, 'auth', "user name or password")

    def test_a_wrong_password_of_the_sentinel(self):
        url = self.url(sentinel_password='wr0ng')
        tier = self.new_tier(url)
        with unittest.mock.patch.object(base._logger, 'warning') as warning:
            self.assertIs(tier.get('k'), MISS)
        warning.assert_called_once()
        self.assertEqual(tier.faults, {'sentinel auth': 1})
        self.assertNotIn('wr0ng', repr(tier.stats()) + repr(warning.call_args))
        self.assertAdvises(url, 'sentinel auth', 'sentinel_password')
        self.assertAdvises(url.partition('?')[0], 'sentinel auth', 'sentinel_password')

    def test_tls(self):
        plain = self.server.port
        self.sentinel.call('SENTINEL', 'REMOVE', 'mymaster')
        tls_port = self.server._options['tls_port']
        self.sentinel.call('SENTINEL', 'MONITOR', 'mymaster', '127.0.0.1', tls_port, 1)
        self.addCleanup(
            self.sentinel.call, 'SENTINEL', 'MONITOR', 'mymaster', '127.0.0.1', plain, 1
        )
        self.addCleanup(self.sentinel.call, 'SENTINEL', 'REMOVE', 'mymaster')
        url = self.url().replace('redis+', 'rediss+')
        url = url.replace(str(self.sentinel.port), str(self.sentinel._options['tls_port']))
        tier = self.new_tier(f'{url}&ssl_ca_certs={self.certificate}')
        self.assertTrue(tier.set(make_entry('k')))
        self.assertIsNot(tier.get('k'), MISS)
        self.assertEqual(tier.stats()['address'].partition('://')[0], 'rediss+sentinel')
        self.assertAdvises(url, 'tls', 'ssl_ca_certs')


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestReadsBehindSentinels(StatesCase):
    """L1 is off, so that every read of the ORM asks the primary."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.servers = cls.enterClassContext(SentinelServers())

    def test_p7_reads_are_right_and_in_time_during_a_failover(self):
        self.configure(redis_url=self.servers.url, l1_max_entries='0')
        self.forget()
        self.warm(self.read)
        with self.assertHit('l2'), self.request() as env:
            self.read(env)
        old = self.servers.primary()
        old.stop()
        with mute_logger(QUIET):
            self.assertRight()
            wait_until(lambda: self.servers.primary() is not old, "failed over")
            tier = self.engine.hierarchy.tiers['l2']
            tier._breaker._retry_at = 0.0  # the pause is over
            wait_until(lambda: self.engine.hierarchy.probe() or tier.is_up, "found")
        self.warm(self.read)
        with self.assertHit('l2'), self.request() as env:
            self.read(env)
        self.assertRight()


class Load:
    """Threads that read and write a few keys; a context manager.

    :ivar hits: right values that came back
    :ivar wrong: wrong values, and what was raised
    """

    def __init__(self, tier, count=4):
        self._tier = tier
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(count)]
        self.hits = 0
        self.wrong = []
        self.slowest_s = 0.0

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self):
        keys = [f'v1:load:{number}' for number in range(10)]
        try:
            while not self._stop.is_set():
                for key in keys:
                    self._once(key)
        except BaseException as error:
            self.wrong.append(error)

    def _once(self, key):
        started = time.monotonic()
        entry = self._tier.get(key)
        if entry is MISS:
            self._tier.set(make_entry(key, payload=key.encode()))
        elif entry.payload == key.encode():
            self.hits += 1
        else:
            self.wrong.append(entry)
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
