"""ACL and TLS: what docs/security.md tells operators to set up is enough, and no more."""

import contextlib
import os
import pathlib
import re
import tempfile
import unittest

import redis

from odoo.tests import BaseCase, tagged
from odoo.tools import mute_logger

from ..services import redis_probe
from ..services.breaker import CircuitBreaker
from ..services.entry import Seal
from ..services.miss import MISS
from ..services.tiers import RedisTier
from .redis_server import REDIS_SERVER, RedisServer, free_port
from .test_faults import StatesCase
from .test_tier_redis import LOGGER, PREFIX, RedisCase, make_certificate
from .tier_tools import SECRET, Clock, make_entry

DOCS = pathlib.Path(__file__).parent.parent / 'docs'


def documented_acl(page: str) -> list[str]:
    """The words of the line ``ACL SETUSER …`` in a page."""
    text = (DOCS / page).read_text(encoding='utf-8')
    return re.search(r'^ACL SETUSER .*$', text, re.MULTILINE).group().split()


@tagged('post_install', '-at_install')
class TestRedisAcl(RedisCase):
    LATER = ('dbsize', 'eval', 'info', 'pttl', 'strlen')
    """For figures and limits, outside of requests, and for leases that are given back."""

    def setUp(self):
        super().setUp()
        self.acl = documented_acl('security.md')
        self.server.call(*self.acl)
        self.addCleanup(self.server.call, 'ACL', 'DELUSER', self.acl[2])
        self.server.call('ACL', 'LOG', 'RESET')

    @property
    def granted(self):
        return {word[1:] for word in self.acl if word.startswith('+')}

    def url(self, database=0):
        return f'redis://{self.acl[2]}:secret@127.0.0.1:{self.server.port}/{database}'

    def do_everything(self, url):
        """Every operation of the tier, and Test Connection."""
        tier = self.new_tier(url, max_entries=2)
        tier.set(make_entry('v1:a'))
        tier.get('v1:a')
        tier.set_many([make_entry(f'v1:{number}') for number in range(5)])
        tier.get_many(['v1:0', 'v1:1', 'v1:nothing'])
        tier.delete(['v1:0'])
        tier.delete_pattern('v1:[12]')
        stats = tier.stats()
        tier.trim()
        self.assertTrue(tier.lease('v1:a', 'me', 60_000))
        self.assertTrue(tier.is_leased('v1:a'))
        tier.release('v1:a', 'me')
        tier.clear()
        redis_probe.probe(url, PREFIX)
        return tier, stats

    def denied(self):
        return [dict(zip(e[::2], e[1::2], strict=True)) for e in self.raw('ACL', 'LOG')]

    def raw(self, *command):
        with contextlib.closing(redis.Redis(port=self.server.port, protocol=2)) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def test_the_documented_line_is_enough(self):
        for database in (0, 3):
            with self.subTest(database=database):
                tier, stats = self.do_everything(self.url(database))
                self.assertFalse(tier.faults)
                self.assertEqual((stats['state'], stats['entries']), ('up', 3))
                self.assertIsNotNone(stats['version'])
                self.assertEqual(self.denied(), [])

    def test_every_granted_command_is_needed(self):
        self.commands()
        self.do_everything(self.url(3))
        calls = self.commands()
        for ours in ('acl|setuser', 'acl|log', 'acl|deluser'):
            calls.pop(ours, None)
        # INFO, which commands() itself calls, is asked by stats() and by Test Connection
        self.assertEqual(set(calls) - {'auth'} | {'info'}, self.granted)

    def test_without_dbsize_and_info_there_are_no_figures_and_no_limits(self):
        self.server.call('ACL', 'SETUSER', self.acl[2], '-info', '-dbsize')
        with mute_logger(f'{LOGGER}.base'):
            tier, stats = self.do_everything(self.url())
        self.assertEqual(tier.faults, {'denied': 1})
        self.assertEqual((stats['state'], stats['entries'], stats['version']), ('up', None, None))

    def test_nothing_else_is_allowed(self):
        with contextlib.closing(redis.Redis.from_url(self.url(), protocol=2)) as client:
            client.execute_command('SET', f'{PREFIX}k', 'x')
            for command in (
                ('GET', f'{PREFIX}k'),
                ('GETRANGE', 'session:1', 0, -1),
                ('SET', 'session:1', 'x'),
                ('UNLINK', 'session:1'),
                ('DEL', f'{PREFIX}k'),
                ('KEYS', '*'),
                ('FLUSHDB',),
                ('FLUSHALL',),
                ('CONFIG', 'GET', '*'),
                ('EVALSHA', 'e0e1f9fabfc9d4800c877a703b823ac0578ff8db', 0),
                ('SCRIPT', 'FLUSH'),
                ('SUBSCRIBE', 'channel'),
                ('PUBLISH', 'channel', 'x'),
                ('MONITOR',),
                ('CLIENT', 'LIST'),
                ('ACL', 'WHOAMI'),
                ('SHUTDOWN',),
                ('REPLICAOF', 'NO', 'ONE'),
            ):
                with self.subTest(command), self.assertRaises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)

    def test_a_script_may_do_no_more(self):
        with contextlib.closing(redis.Redis.from_url(self.url(), protocol=2)) as client:
            for script, key in (
                ("return redis.call('CONFIG', 'GET', '*')", f'{PREFIX}k'),
                ("return redis.call('FLUSHALL')", f'{PREFIX}k'),
                ("return redis.call('GETRANGE', 'session:1', 0, -1)", f'{PREFIX}k'),
                ("return redis.call('GETRANGE', KEYS[1], 0, -1)", 'session:1'),
            ):
                with self.subTest(script), self.assertRaises(redis.exceptions.ResponseError):
                    client.execute_command('EVAL', script, 1, key)

    def test_a_user_for_one_database_reads_no_other(self):
        line = [f'~{PREFIX}*' if word == '~tc:*' else word for word in self.acl]
        self.server.call('ACL', 'SETUSER', self.acl[2], 'reset')
        self.server.call(*line)
        tier, _stats = self.do_everything(self.url())
        self.assertFalse(tier.faults)
        other = RedisTier(self.url(), 'tc:other:', Seal(SECRET), 5000, CircuitBreaker())
        self.addCleanup(other.close)
        self.assertFalse(other.set(make_entry('k')))
        self.assertEqual(other.faults, {'denied': 1})

    def test_a_missing_right_is_a_miss_and_test_connection_names_it(self):
        for command in self.granted - {'select', 'client|setname', *self.LATER}:
            self.server.call('ACL', 'SETUSER', self.acl[2], f'-{command}')
            with (
                self.subTest(command),
                self.assertRaisesRegex(redis_probe.ProbeError, command.upper()),
            ):
                redis_probe.probe(self.url(), PREFIX)
            self.server.call('ACL', 'SETUSER', self.acl[2], f'+{command}')

    def test_both_pages_show_the_same_line(self):
        self.assertEqual(documented_acl('operators.md'), self.acl)


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestReadsOverAcl(StatesCase):
    """A request and the removals of an administrator, with the documented user."""

    def test_reads_and_removals_work(self):
        acl = documented_acl('security.md')
        with RedisServer() as server:
            server.call(*acl)
            self.configure(
                redis_url=f'redis://{acl[2]}:secret@127.0.0.1:{server.port}/0', l1_max_entries='0'
            )
            self.forget()
            self.warm(self.read)
            with self.assertHit('l2'), self.request() as env:
                self.read(env)
            with self.request() as env:
                manager = env['cache.manager']
                self.assertEqual(manager.invalidate_pattern('v1:orm:res.bank:*')['l2'], 1)
                manager.invalidate_all()
                self.assertIn('version', manager.test_redis())
                self.assertEqual(manager.get_stats()['tiers']['l2']['state'], 'up')
            self.assertFalse(self.faults('l2'))
            self.engine.hierarchy.tiers['l2'].close()


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedisCertificates(BaseCase):
    """A certificate that is wrong in any way: misses, and Test Connection says what to do."""

    def setUp(self):
        super().setUp()
        self.enterContext(mute_logger(f'{LOGGER}.base'))
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    @contextlib.contextmanager
    def server(self, **certificate):
        """Yields the URL of a server with TLS alone, and the path of its certificate."""
        folder = tempfile.mkdtemp(dir=self.folder)
        path, key = make_certificate(folder, **certificate)
        port = free_port()
        options = {
            'tls_port': port,
            'tls_cert_file': path,
            'tls_key_file': key,
            'tls_ca_cert_file': path,
            'tls_auth_clients': 'no',
        }
        try:
            server = self.enterContext(RedisServer(**options))
        except ChildProcessError:
            self.skipTest("this redis-server cannot speak TLS")
        yield f'rediss://127.0.0.1:{port}/0', path
        server.stop()

    def assertFailsClosed(self, url, advice):
        tier = self.new_tier(url)
        self.assertIs(tier.get('k'), MISS)
        self.assertFalse(tier.set(make_entry('k')))
        self.assertEqual(tier.faults, {'tls': 1})
        with self.assertRaisesRegex(redis_probe.ProbeError, advice):
            redis_probe.probe(url, PREFIX)

    def new_tier(self, url):
        tier = RedisTier(url, PREFIX, Seal(SECRET), 5000, CircuitBreaker(clock=Clock(0.0)))
        self.addCleanup(tier.close)
        return tier

    def test_the_right_authority(self):
        with self.server() as (url, path):
            url += f'?ssl_ca_certs={path}'
            tier = self.new_tier(url)
            self.assertTrue(tier.set(make_entry('k', payload=os.urandom(200_000))))
            self.assertEqual(len(tier.get('k').payload), 200_000)
            self.assertIn('version', redis_probe.probe(url, PREFIX))

    def test_no_authority(self):
        with self.server() as (url, _path):
            self.assertFailsClosed(url, "certificate")

    def test_another_authority(self):
        other, _key = make_certificate(self.folder)
        with self.server() as (url, _path):
            self.assertFailsClosed(f'{url}?ssl_ca_certs={other}', "certificate")

    def test_a_certificate_for_another_host(self):
        with self.server(address='127.0.0.2') as (url, path):
            url += f'?ssl_ca_certs={path}'
            self.assertFailsClosed(url, "certificate")
            self.assertTrue(
                self.new_tier(f'{url}&ssl_check_hostname=false').set(make_entry('k')),
                "whoever switches it off has it so",
            )

    def test_a_certificate_of_yesterday(self):
        with self.server(days=(-2, -1)) as (url, path):
            self.assertFailsClosed(f'{url}?ssl_ca_certs={path}', "certificate")

    def test_an_authority_that_is_no_file(self):
        with self.server() as (url, _path):
            tier = self.new_tier(f'{url}?ssl_ca_certs=/nowhere/ca.pem')
            self.assertIs(tier.get('k'), MISS)
            self.assertTrue(tier.faults)
            with self.assertRaises(redis_probe.ProbeError):
                redis_probe.probe(f'{url}?ssl_ca_certs=/nowhere/ca.pem', PREFIX)

    def test_without_any_check_as_asked_for(self):
        with self.server() as (url, _path):
            self.assertTrue(self.new_tier(f'{url}?ssl_cert_reqs=none').set(make_entry('k')))
