"""Test Connection: what works says what it found, what does not says what to do."""

import contextlib
import socket
import sys
import threading
import unittest
import unittest.mock
from unittest.mock import patch

from odoo.tests import BaseCase, tagged

from ..services import redis_probe, tiers
from ..services.miss import MISS
from .redis_server import REDIS_SERVER, RedisServer, free_port
from .test_tier_redis import PREFIX, TIMEOUT_MS, RedisCase, impostor
from .tier_tools import make_entry


@tagged('post_install', '-at_install')
class TestRedisProbe(BaseCase):
    def assertAdvice(self, url, advice):
        with self.assertRaisesRegex(redis_probe.ProbeError, advice) as caught:
            redis_probe.probe(url)
        self.assertNotIn('hunter2', str(caught.exception))

    @contextlib.contextmanager
    def listener(self, answer):
        """A server that is no Redis: sends ``answer`` to whoever connects, None for nothing."""
        with socket.create_server(('127.0.0.1', 0)) as server:
            held = []

            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _address = server.accept()
                        held.append(connection)
                        if answer is not None:
                            connection.sendall(answer)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield server.getsockname()[1]
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_a_server_that_answers(self):
        with RedisServer(requirepass='hunter2', maxmemory='5mb') as server:
            url = server.url.replace('://', '://:hunter2@')
            found = redis_probe.probe(url)
            self.assertIn(found['server'], ('Redis', 'Valkey'))
            self.assertRegex(found['version'], r'^\d+\.\d+')
            self.assertGreater(found['round_trip_ms'], 0)
            self.assertEqual(found['max_memory_bytes'], 5 * 2**20)
            self.assertAdvice(server.url, "user name or password")
            self.assertAdvice(url.replace('hunter2', 'hunter23'), "user name or password")
            self.assertAdvice(url.replace('/0', '/99'), "database number")

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_a_socket_of_the_file_system(self):
        with RedisServer() as server:
            self.assertIn('version', redis_probe.probe(server.socket_url))
            self.assertAdvice(f'{server.socket_url}.nonsense', "socket does not exist")

    def test_nobody_listens(self):
        self.assertAdvice(f'redis://:hunter2@127.0.0.1:{free_port()}', "Nothing listens")

    def test_a_host_that_does_not_exist(self):
        self.assertAdvice('redis://:hunter2@host.invalid', "host name is not known")

    def test_a_server_that_never_answers(self):
        self.startPatcher(unittest.mock.patch.object(redis_probe, 'TIMEOUT_S', 0.2))
        with self.listener(None) as port:
            self.assertAdvice(f'redis://:hunter2@127.0.0.1:{port}', "No answer within 0.2 seconds")

    def test_a_server_that_is_something_else(self):
        with self.listener(b'HTTP/1.1 400 Bad Request\r\n\r\n') as port:
            self.assertAdvice(f'redis://127.0.0.1:{port}', "not Redis")

    def test_a_url_that_cannot_work(self):
        self.assertAdvice('redis://:hunter2@host:port', "port between")
        self.assertAdvice('', "no Redis URL")
        self.assertAdvice('rediss://host?ssl_cert_reqs=hunter2', "none, optional, required")


@tagged('post_install', '-at_install')
class TestProbeOfAServer(RedisCase):
    def probe(self, url=None, timeout_ms=5000):
        return redis_probe.probe(self.server.url if url is None else url, PREFIX, timeout_ms)

    def assertAdvises(self, url, kind, *words):
        with self.assertRaises(redis_probe.ProbeError) as raised:
            self.probe(url)
        text = str(raised.exception)
        self.assertEqual(raised.exception.kind, kind)
        for word in words:
            self.assertIn(word, text)
        self.assertTrue(text.endswith('.'))

    def test_says_what_it_found(self):
        found = self.probe()
        self.assertEqual(found['address'], self.server.url)
        self.assertIn(found['server'], ('Redis', 'Valkey'))
        self.assertRegex(found['version'], r'^\d+\.\d+')
        self.assertGreater(found['round_trip_ms'], 0)
        self.assertGreater(found['connect_ms'], 0)
        self.assertEqual(found['max_memory_policy'], 'noeviction')

    def test_leaves_nothing_behind(self):
        self.probe()
        self.assertEqual(self.server.call('DBSIZE'), 0)
        self.assertFalse(
            any('tiered' in client['name'] for client in self.server.call('CLIENT LIST'))
        )

    def test_advises_a_memory_limit(self):
        self.assertIn('maxmemory', self.probe()['advice'][0])

    def test_advises_eviction(self):
        self.server.call('CONFIG', 'SET', 'maxmemory', 10**9)
        self.addCleanup(self.server.call, 'CONFIG', 'SET', 'maxmemory', 0)
        self.assertIn('allkeys-lru', self.probe()['advice'][0])

    def test_no_advice_for_a_server_that_is_set_up_well(self):
        self.server.call('CONFIG', 'SET', 'maxmemory', 10**9)
        self.server.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
        self.addCleanup(self.server.call, 'CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
        self.addCleanup(self.server.call, 'CONFIG', 'SET', 'maxmemory', 0)
        self.assertEqual(self.probe()['advice'], [])

    def test_advises_a_longer_timeout_for_a_slow_line(self):
        self.server.call('CLIENT', 'PAUSE', 2 * TIMEOUT_MS, 'ALL')
        self.assertIn('Raise the timeout', self.probe(timeout_ms=TIMEOUT_MS)['advice'][0])

    def test_not_configured(self):
        self.assertAdvises('', 'not configured', 'redis://')

    def test_bad_address(self):
        tier = self.new_tier('http://localhost')
        self.assertIs(tier.get('k'), MISS)
        self.assertEqual(tier.stats()['state'], 'bad address')
        self.assertAdvises('http://localhost', 'bad address', 'redis://localhost:6379/0')

    def test_not_installed(self):
        for name in ('connection', 'sentinel', 'servers', 'cluster'):
            imported = vars(tiers).pop(f'redis_{name}', None)
            if imported is not None:
                self.addCleanup(setattr, tiers, f'redis_{name}', imported)
        with patch.dict(sys.modules, {'redis': None}):
            for name in ('connection', 'sentinel', 'servers', 'cluster'):
                sys.modules.pop(f'{tiers.__name__}.redis_{name}', None)
            tier = self.new_tier()
            self.assertIs(tier.get('k'), MISS)
            self.assertFalse(tier.set(make_entry('k')))
            self.assertEqual(tier.stats()['state'], 'not installed')
            self.assertAdvises(None, 'not installed', 'pip install redis')

    def test_refused(self):
        self.assertAdvises(f'redis://127.0.0.1:{free_port()}', 'refused', 'Redis runs')

    def test_black_hole(self):
        with patch.object(redis_probe, 'TIMEOUT_S', 0.1), impostor() as url:
            self.assertAdvises(url, 'timeout', 'firewall')

    def test_not_redis(self):
        with impostor(lambda connection: connection.sendall(b'220 mail\r\n')) as url:
            self.assertAdvises(url, 'protocol', 'not Redis')

    def test_password(self):
        self.assertAdvises(self.server.url.replace('//', '//:pw@'), 'auth', 'password')

    def test_replica(self):
        self.server.call('REPLICAOF', '127.0.0.1', free_port())
        self.addCleanup(self.server.call, 'REPLICAOF', 'NO', 'ONE')
        self.assertAdvises(None, 'readonly', 'primary')

    def test_full(self):
        self.server.call('CONFIG', 'SET', 'maxmemory', 1)
        self.addCleanup(self.server.call, 'CONFIG', 'SET', 'maxmemory', 0)
        self.assertAdvises(None, 'oom', 'allkeys-lru')

    def test_user_without_rights(self):
        self.server.call(
            'ACL', 'SETUSER', 'nobody', 'on', '>pw', '~other:*', '+ping', '+client|setname'
        )
        self.addCleanup(self.server.call, 'ACL', 'DELUSER', 'nobody')
        self.assertAdvises(self.server.url.replace('//', '//nobody:pw@'), 'denied', PREFIX)
