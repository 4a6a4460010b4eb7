"""L2 against real redis-server processes, up and in every kind of trouble, and impostors."""

import contextlib
import datetime
import ipaddress
import logging
import os
import socket
import tempfile
import threading
import time
import tracemalloc
import unittest
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from odoo.tests.common import BaseCase, tagged
from odoo.tools import mute_logger

from ..services import redis_probe
from ..services.breaker import CLOSED, CircuitBreaker
from ..services.entry import Seal, to_bytes
from ..services.miss import MISS
from ..services.tiers import RedisTier
from .redis_server import REDIS_SERVER, RedisServer, free_port
from .tier_tools import SECRET, Clock, in_child, make_entry

PREFIX = 'tc:4f5a:'
LOGGER = 'odoo.addons.tiered_cache.services.tiers'
TIMEOUT_MS = 200
AT_ONCE_S = 2.0
"""Far more than one timeout, for the sake of a busy machine; far less than the 3.75 s (refused)
and 60 s (black hole) of redis-py left alone."""


@contextlib.contextmanager
def impostor(answer=None):
    """Yields the URL of something that listens on a loopback port and is not Redis.

    :param answer: ``answer(connection)`` for each connection, in a thread; None is a black
        hole: the kernel accepts, nobody reads
    """
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen(16)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _address = listener.accept()
                    threading.Thread(target=handle, args=(connection,), daemon=True).start()

        def handle(connection):
            with contextlib.suppress(OSError), contextlib.closing(connection):
                answer(connection)

        if answer is not None:
            threading.Thread(target=serve, daemon=True).start()
        yield f'redis://127.0.0.1:{listener.getsockname()[1]}/0'
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()


def make_certificate(
    folder: str, address: str = '127.0.0.1', days: tuple[int, int] = (-1, 1)
) -> tuple[str, str]:
    """A certificate of its own and its key; returns the paths of both.

    :param address: the IP address that it is for
    :param days: from when to when it is valid, from now
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    files = {
        'cert.pem': certificate.public_bytes(encoding),
        'key.pem': key.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    paths = []
    for file_name, content in files.items():
        paths.append(os.path.join(folder, file_name))
        with open(paths[-1], 'wb') as file:
            file.write(content)
    return tuple(paths)


@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class RedisCase(BaseCase):
    server_options = {}
    muted = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.enterClassContext(RedisServer(**cls.server_options))

    def setUp(self):
        super().setUp()
        self.breaker_clock = Clock()
        if self.muted:
            self.enterContext(mute_logger(f'{LOGGER}.base'))
        self.server.ensure_running()
        self.server.call('FLUSHALL')

    def new_tier(self, url=None, timeout_ms=5000, **options):
        """A tier with a patient timeout, unless the test is about timeouts."""
        tier = RedisTier(
            self.server.url if url is None else url,
            PREFIX,
            Seal(SECRET),
            timeout_ms,
            CircuitBreaker(clock=self.breaker_clock),
            **options,
        )
        self.addCleanup(tier.close)
        return tier

    def impatient(self, url=None, **options):
        return self.new_tier(url, TIMEOUT_MS, **options)

    def assertDown(self, tier, *kinds):
        """The tier has met one fault of these kinds and leaves Redis alone."""
        self.assertIn(next(iter(tier.faults), None), kinds)
        self.assertEqual(sum(tier.faults.values()), 1)
        self.assertNotEqual(tier._breaker.state, CLOSED)
        self.assertSkipsRedis(tier)

    def assertSkipsRedis(self, tier):
        faults = dict(tier.faults)
        start = time.perf_counter()
        for _ in range(1000):
            self.assertIs(tier.get('k'), MISS)
        self.assertLess(time.perf_counter() - start, 0.5)
        self.assertFalse(tier.set(make_entry('k')))
        self.assertEqual(tier.delete(['k']), 0)
        self.assertEqual(tier.delete_pattern('*'), 0)
        self.assertEqual(tier.clear(), 0)
        self.assertIsNone(tier.stats()['entries'])
        self.assertEqual(tier.faults, faults)

    def assertMissesAtOnce(self, tier, key='k'):
        start = time.perf_counter()
        self.assertIs(tier.get(key), MISS)
        self.assertLess(time.perf_counter() - start, AT_ONCE_S)

    def commands(self):
        """How often which command was called since the last call of this."""
        statistics = self.server.call('INFO', 'commandstats')
        self.server.call('CONFIG', 'RESETSTAT')
        calls = {
            name.removeprefix('cmdstat_'): values['calls'] + values.get('rejected_calls', 0)
            for name, values in statistics.items()
        }
        for ours in ('info', 'config|resetstat', 'config', 'flushall'):
            calls.pop(ours, None)
        return calls


@tagged('post_install', '-at_install')
class TestRedisUp(RedisCase):
    def test_get_is_one_command(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.commands()
        tier.get('k')
        self.assertEqual(self.commands(), {'getrange': 1})

    def test_batch_of_sets_is_one_packet(self):
        tier = self.new_tier()
        tier.get('k')
        before = int(self.server.call('INFO', 'stats')['total_reads_processed'])
        tier.set_many([make_entry(str(number)) for number in range(100)])
        after = int(self.server.call('INFO', 'stats')['total_reads_processed'])
        # 25 KB may take a few reads of Redis, one command each would take 100
        self.assertLess(after - before, 20)

    def test_connecting_costs_one_command(self):
        self.commands()
        self.new_tier().get('k')
        self.assertEqual(self.commands(), {'client|setname': 1, 'getrange': 1})

    def test_one_connection_serves_many_calls(self):
        tier = self.new_tier()
        for number in range(10):
            tier.set(make_entry(str(number)))
            tier.get(str(number))
        self.assertEqual(self.connections(), [f'odoo-tiered-cache-{os.getpid()}'])

    def connections(self):
        return sorted(
            client['name'] for client in self.server.call('CLIENT LIST') if client['name']
        )

    def test_lives_no_longer_than_the_entry(self):
        self.new_tier().set(make_entry('k', ttl_s=100))
        ttl_ms = self.server.call('PTTL', f'{PREFIX}k')
        self.assertTrue(90_000 < ttl_ms <= 100_000, ttl_ms)

    def test_endless_entry_lives_for_a_limited_time(self):
        self.assertTrue(self.new_tier().set(make_entry('k', ttl_s=10**12)))
        self.assertGreater(self.server.call('PTTL', f'{PREFIX}k'), 0)

    def test_unix_socket(self):
        tier = self.new_tier(self.server.socket_url)
        tier.set(make_entry('k'))
        self.assertIsNot(tier.get('k'), MISS)
        self.assertEqual(tier.stats()['address'], f'unix://{self.server.folder}/redis.sock?db=0')

    def test_host_name(self):
        tier = self.new_tier(self.server.url.replace('127.0.0.1', 'localhost'))
        self.assertTrue(tier.set(make_entry('k')))

    def test_database_number(self):
        tier = self.new_tier(self.server.url.replace('/0', '/3'))
        tier.set(make_entry('k'))
        self.assertIs(self.new_tier().get('k'), MISS)
        self.assertIsNot(tier.get('k'), MISS)

    def test_url_cannot_change_timeouts_retries_or_protocol(self):
        tier = self.impatient(
            f'{self.server.url}?socket_timeout=60&socket_connect_timeout=60&protocol=3'
            '&retry_on_timeout=yes&health_check_interval=1&decode_responses=1'
        )
        tier.set(make_entry('k'))
        self.assertIsNot(tier.get('k'), MISS)
        with self.server.frozen():
            self.assertMissesAtOnce(tier)

    def test_entry_at_the_limit_is_stored_and_read(self):
        entry = make_entry('k', payload=bytes(5000))
        stored_bytes = len(Seal(SECRET).seal(PREFIX, to_bytes(entry)))
        self.assertTrue(self.new_tier(max_entry_bytes=stored_bytes).set(entry))
        self.assertEqual(self.new_tier(max_entry_bytes=stored_bytes).get('k'), entry)

    def test_entry_above_the_limit_is_refused(self):
        entry = make_entry('k', payload=bytes(5000))
        stored_bytes = len(Seal(SECRET).seal(PREFIX, to_bytes(entry)))
        tier = self.new_tier(max_entry_bytes=stored_bytes - 1)
        self.assertFalse(tier.set(entry))
        self.assertFalse(self.server.call('EXISTS', f'{PREFIX}k'))
        self.assertFalse(tier.faults)

    def test_batch_leaves_out_what_is_too_large(self):
        tier = self.new_tier(max_entry_bytes=1000)
        stored = tier.set_many(
            [make_entry('a'), make_entry('b', payload=bytes(2000)), make_entry('c')]
        )
        self.assertEqual(stored, 2)

    def test_large_batches_go_in_parts(self):
        entries = [make_entry(str(number), payload=os.urandom(300_000)) for number in range(12)]
        tier = self.new_tier()
        self.assertEqual(tier.set_many(entries), 12)
        self.assertEqual(tier.get('11'), entries[11])

    def test_flushed_is_a_miss_without_a_fault(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.server.call('FLUSHALL')
        self.assertIs(tier.get('k'), MISS)
        self.assertFalse(tier.faults)

    def test_stats_of_an_empty_server(self):
        stats = self.new_tier().stats()
        self.assertEqual((stats['state'], stats['entries'], stats['writes']), ('up', 0, 'on'))
        self.assertRegex(stats['version'], r'^\d+\.')
        self.assertGreater(stats['server_bytes'], 0)

    def test_stats_estimate_the_entries_of_this_database(self):
        tier = self.new_tier()
        tier.set_many([make_entry(str(number)) for number in range(3000)])
        self.server.call(
            'MSET', *(part for number in range(6000) for part in (f'other:{number}', 'x'))
        )
        self.assertTrue(2000 < tier.stats()['entries'] < 4000)

    def test_many_threads_share_few_connections(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        threads = [
            threading.Thread(target=lambda: [tier.get('k') for _ in range(50)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertLessEqual(len(self.connections()), 8)
        self.assertFalse(tier.faults)


@tagged('post_install', '-at_install')
class TestRedisValues(RedisCase):
    """Whoever can write to Redis cannot make Odoo show a value."""

    def setUp(self):
        super().setUp()
        self.tier = self.new_tier(max_entry_bytes=100_000)
        self.entry = make_entry('k', payload=b'value of k' * 50)
        self.tier.set(self.entry)
        self.good = self.server.call('GET', f'{PREFIX}k')

    def assertDropped(self, kind, value=None):
        """The value now stored under k is a miss, counted, and gone."""
        if value is not None:
            self.server.call('SET', f'{PREFIX}k', value)
        self.assertIs(self.tier.get('k'), MISS)
        self.assertEqual(self.tier.faults, {kind: 1})
        self.assertFalse(self.server.call('EXISTS', f'{PREFIX}k'))
        self.assertIs(self.tier.get('k'), MISS)
        self.assertEqual(self.tier.faults, {kind: 1})
        self.assertTrue(self.tier.set(self.entry), "one bad value must not stop the others")
        self.assertEqual(self.tier.get('k'), self.entry)

    def test_what_is_stored_is_sealed(self):
        self.assertEqual(self.good, Seal(SECRET).seal(f'{PREFIX}k', to_bytes(self.entry)))

    def test_garbage(self):
        self.assertDropped('forged', os.urandom(500))

    def test_one_byte(self):
        self.assertDropped('forged', b'x')

    def test_flipped_bit(self):
        at = len(self.good) // 2
        self.assertDropped(
            'forged', self.good[:at] + bytes([self.good[at] ^ 1]) + self.good[at + 1 :]
        )

    def test_cut_off_anywhere(self):
        for length in range(1, len(self.good), 37):
            self.server.call('SET', f'{PREFIX}k', self.good[:length])
            self.assertIs(self.tier.get('k'), MISS)
        self.assertEqual(set(self.tier.faults), {'forged'})

    def test_value_of_another_key(self):
        self.tier.set(make_entry('other', payload=b'value of other'))
        self.assertDropped('forged', self.server.call('GET', f'{PREFIX}other'))

    def test_value_of_another_database(self):
        other = RedisTier(self.server.url, 'tc:other:', Seal(SECRET), 5000)
        self.addCleanup(other.close)
        other.set(self.entry)
        self.assertDropped('forged', self.server.call('GET', 'tc:other:k'))

    def test_value_sealed_with_another_secret(self):
        self.assertDropped(
            'forged', Seal(b'another secret 1').seal(f'{PREFIX}k', to_bytes(self.entry))
        )

    def test_sealed_bytes_that_are_no_entry(self):
        self.assertDropped('corrupt', Seal(SECRET).seal(f'{PREFIX}k', b'of another version'))

    def test_sealed_entry_of_another_key(self):
        self.assertDropped(
            'corrupt', Seal(SECRET).seal(f'{PREFIX}k', to_bytes(make_entry('other')))
        )

    def test_expired_value_that_was_put_back(self):
        old = make_entry('k', now=time.time() - 100, ttl_s=50)
        self.server.call('SET', f'{PREFIX}k', Seal(SECRET).seal(f'{PREFIX}k', to_bytes(old)))
        self.assertIs(self.tier.get('k'), MISS)
        self.assertFalse(self.tier.faults)

    def test_wrong_type(self):
        self.server.call('DEL', f'{PREFIX}k')
        self.server.call('HSET', f'{PREFIX}k', 'field', 'value')
        self.assertDropped('wrongtype')

    def test_set_replaces_a_wrong_type(self):
        self.server.call('DEL', f'{PREFIX}k')
        self.server.call('LPUSH', f'{PREFIX}k', 'item')
        self.tier.set(self.entry)
        self.assertEqual(self.tier.get('k'), self.entry)

    def test_bad_values_among_good_ones(self):
        good = [make_entry(str(number)) for number in range(3)]
        self.tier.set_many(good)
        self.server.call('SET', f'{PREFIX}k', 'garbage')
        self.server.call('LPUSH', f'{PREFIX}list', 'item')
        self.assertEqual(
            self.tier.get_many(['0', 'k', '1', 'list', '2']), {entry.key: entry for entry in good}
        )
        self.assertEqual(self.tier.faults, {'forged': 1, 'wrongtype': 1})

    def test_huge_value_is_not_loaded(self):
        self.server.call('SETRANGE', f'{PREFIX}k', 64_000_000, 'x')
        tracemalloc.start()
        try:
            self.assertDropped('oversized')
            _current, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak_bytes, 2_000_000)

    def test_foreign_key_names_do_not_disturb_removal(self):
        self.server.call('SET', PREFIX.encode() + b'\xff\xfe', 'x')
        self.server.call('SET', 'unrelated', 'x')
        self.assertEqual(self.tier.clear(), 2)
        self.assertEqual(self.server.call('DBSIZE'), 1)


@tagged('post_install', '-at_install')
class TestRedisDown(RedisCase):
    def test_refused(self):
        tier = self.impatient(f'redis://127.0.0.1:{free_port()}')
        self.assertMissesAtOnce(tier)
        self.assertDown(tier, 'refused')

    def test_no_socket(self):
        tier = self.impatient('unix:///nowhere/redis.sock')
        self.assertMissesAtOnce(tier)
        self.assertDown(tier, 'refused')

    def test_black_hole(self):
        with impostor() as url:
            tier = self.impatient(url)
            self.assertMissesAtOnce(tier)
            self.assertDown(tier, 'timeout')

    def test_write_into_a_black_hole(self):
        with impostor() as url:
            tier = self.impatient(url)
            start = time.perf_counter()
            tier.set_many(
                [make_entry(str(number), payload=os.urandom(900_000)) for number in range(20)]
            )
            self.assertLess(time.perf_counter() - start, AT_ONCE_S)
            self.assertDown(tier, 'timeout')

    def test_frozen(self):
        tier = self.impatient()
        tier.set(make_entry('k'))
        with self.server.frozen():
            self.assertMissesAtOnce(tier)
            self.assertDown(tier, 'timeout')

    def test_frozen_before_the_first_connection(self):
        tier = self.impatient()
        with self.server.frozen():
            self.assertMissesAtOnce(tier)
            self.assertDown(tier, 'timeout')

    def test_thawed(self):
        tier = self.impatient()
        tier.set(make_entry('k'))
        with self.server.frozen():
            tier.get('k')
        self.breaker_clock.advance(1)
        self.assertIsNot(tier.get('k'), MISS)
        self.assertEqual(tier.stats()['state'], 'up')

    def test_late_answer_is_not_taken_for_the_next_one(self):
        tier = self.impatient()
        tier.set_many([make_entry('a', payload=b'A'), make_entry('b', payload=b'B')])
        self.server.call('CLIENT', 'PAUSE', 2 * TIMEOUT_MS, 'ALL')
        tier.get('a')
        self.server.call('PING')  # answered when the pause is over
        self.breaker_clock.advance(1)
        self.assertEqual(tier.get('b').payload, b'B')
        self.assertEqual(tier.get('a').payload, b'A')

    def test_one_probe_after_the_cooldown(self):
        tier = self.impatient()
        start = threading.Barrier(8)
        with self.server.frozen():
            tier.get('k')
            self.breaker_clock.advance(1)

            def ask():
                start.wait()
                tier.get('k')

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(tier.faults, {'timeout': 2})

    def test_killed(self):
        tier = self.impatient()
        tier.set(make_entry('k'))
        self.server.stop()
        self.assertMissesAtOnce(tier)
        self.assertDown(tier, 'refused', 'connection')

    def test_killed_and_restarted(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.server.stop()
        tier.get('k')
        self.server.start()
        self.assertFalse(tier.set(make_entry('k')), "the breaker is still open")
        self.breaker_clock.advance(1)
        self.assertTrue(tier.set(make_entry('k')))
        self.assertIsNot(tier.get('k'), MISS)

    def test_restarted_between_two_calls_is_no_fault(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.server.restart()
        self.assertIs(tier.get('k'), MISS)
        self.assertTrue(tier.set(make_entry('k')))
        self.assertFalse(tier.faults)

    def test_stays_down_for_longer_each_time(self):
        tier = self.impatient()
        self.server.stop()
        tier.get('k')
        self.breaker_clock.advance(1)
        tier.get('k')
        self.breaker_clock.advance(1)
        tier.get('k')
        self.assertEqual(sum(tier.faults.values()), 2)
        self.breaker_clock.advance(1)
        tier.get('k')
        self.assertEqual(sum(tier.faults.values()), 3)

    def test_stats_say_since_when_it_is_down(self):
        tier = self.impatient(f'redis://127.0.0.1:{free_port()}')
        before = time.time()
        stats = tier.stats()
        self.assertEqual((stats['state'], stats['last_fault']), ('down', 'refused'))
        self.assertTrue(before <= stats['since'] <= time.time())

    def test_unknown_host(self):
        tier = self.impatient('redis://no-such-host.invalid')
        self.assertMissesAtOnce(tier)
        self.assertDown(tier, 'dns', 'timeout')

    def test_name_resolution_that_hangs(self):
        release = threading.Event()
        self.addCleanup(release.set)
        with patch('socket.getaddrinfo', side_effect=lambda *args: [release.wait(30)]):
            tier = self.impatient('redis://slow-dns.example')
            self.assertMissesAtOnce(tier)
            self.assertDown(tier, 'timeout')


@tagged('post_install', '-at_install')
class TestRedisLog(RedisCase):
    muted = False

    def test_log_says_once_that_it_is_gone_and_once_that_it_is_back(self):
        tier = self.new_tier()
        tier.get('k')
        self.server.stop()
        with self.assertLogs(LOGGER, logging.INFO) as logs:  # 'INFO' is 25 in Odoo
            for _ in range(4):
                tier.get('k')
                self.breaker_clock.advance(60)
            self.server.start()
            tier.get('k')
        self.assertEqual([record.levelname for record in logs.records], ['WARNING', 'INFO'])

    @patch.object(redis_probe, 'TIMEOUT_S', 0.1)
    def test_credentials_are_nowhere_to_be_seen(self):
        login = 'us3r-name:wr0ng-secret@'
        urls = (
            self.server.url.replace('//', f'//{login}'),
            self.server.url.replace('redis://', f'rediss://{login}'),
            f'redis://{login}[bad/0',
            f'redis://{login}host:port/0',
            f'unix://{login}/nowhere',
        )
        for url in urls:
            with self.subTest(url=url), self.assertLogs(LOGGER, 'DEBUG') as logs:
                tier = self.impatient(url)
                tier.get('k')
                seen = [repr(tier), repr(tier.stats()), *logs.output]
                with self.assertRaises(redis_probe.ProbeError) as raised:
                    redis_probe.probe(url)
                seen += [str(raised.exception), repr(raised.exception)]
                for text in seen:
                    self.assertNotIn('wr0ng-secret', text)
                    self.assertNotIn('us3r-name', text)


@tagged('post_install', '-at_install')
class TestRedisImpostors(RedisCase):
    """Something else answers on the port."""

    def assertKinds(self, answer, *kinds):
        with impostor(answer) as url:
            tier = self.impatient(url)
            self.assertMissesAtOnce(tier)
            self.assertDown(tier, *kinds)

    def answer_after_handshake(self, reply):
        def answer(connection):
            connection.recv(1000)
            connection.sendall(b'+OK\r\n')
            connection.recv(1000)
            reply(connection)
            connection.recv(1000)  # until the tier hangs up

        return answer

    def test_closing_under_another_thread_is_no_fault(self):
        asked = threading.Event()
        with impostor(self.answer_after_handshake(lambda _connection: asked.set())) as url:
            tier = self.new_tier(url)
            reader = threading.Thread(target=tier.get, args=('k',))
            reader.start()
            self.assertTrue(asked.wait(5))
            tier.close()
            reader.join(10)
        self.assertFalse(reader.is_alive())
        self.assertEqual(tier.faults, {})

    def test_web_server(self):
        self.assertKinds(
            lambda connection: connection.sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n'),
            'protocol',
            'connection',
        )

    def test_closes_at_once(self):
        self.assertKinds(lambda connection: None, 'connection')

    def test_closes_in_the_middle_of_a_value(self):
        def reply(connection):
            connection.sendall(b'$1000\r\nonly this')
            connection.shutdown(socket.SHUT_RDWR)

        self.assertKinds(self.answer_after_handshake(reply), 'connection')

    def test_byte_by_byte(self):
        # Each byte comes in time; all of them would take minutes.
        def reply(connection):
            connection.sendall(b'$30000\r\n')
            while True:
                connection.sendall(b'x')
                time.sleep(0.01)

        self.assertKinds(self.answer_after_handshake(reply), 'timeout')

    def test_value_longer_than_asked_for(self):
        def reply(connection):
            connection.sendall(b'$99999999999\r\n')
            while True:
                connection.sendall(bytes(65536))

        self.assertKinds(self.answer_after_handshake(reply), 'timeout', 'protocol', 'connection')

    def test_number_for_a_value(self):
        self.assertKinds(
            self.answer_after_handshake(lambda connection: connection.sendall(b':42\r\n')),
            'protocol',
        )

    def test_no_number_where_one_belongs(self):
        self.assertKinds(
            self.answer_after_handshake(lambda connection: connection.sendall(b'$x\r\n')),
            'protocol',
        )

    def test_no_reply_makes_any_call_raise(self):
        replies = (
            b':42\r\n',
            b':-1\r\n',
            b'$-1\r\n',
            b'$0\r\n\r\n',
            b'$2\r\nxx\r\n',
            b'+OK\r\n',
            b'*-1\r\n',
            b'*0\r\n',
            b'*2\r\n:0\r\n:7\r\n',
            b'-ERR no\r\n',
            b'*2\r\n$1\r\n0\r\n*1\r\n:5\r\n',
            b'-WRONGTYPE no\r\n',
            b'-MOVED 1 127.0.0.1:1\r\n',
            b'\xff\r\n',
            b'\r\n',
        )
        for reply in replies:

            def answer(connection, reply=reply):
                connection.recv(1000)
                connection.sendall(b'+OK\r\n')
                while connection.recv(100_000):
                    connection.sendall(reply * 3)

            with impostor(answer) as url, self.subTest(reply=reply):
                self.assertIs(self.impatient(url).get('k'), MISS)
                self.assertEqual(self.impatient(url).get_many(['k', 'l', 'm']), {})
                for call in (
                    lambda tier: tier.set_many([make_entry(key) for key in 'klm']),
                    lambda tier: tier.delete(['k']),
                    lambda tier: tier.delete_pattern('k*'),
                    lambda tier: tier.clear(),
                ):
                    self.assertIsInstance(call(self.impatient(url)), int)
                self.impatient(url).stats()

    def test_nested_without_end(self):
        self.assertKinds(
            self.answer_after_handshake(lambda connection: connection.sendall(b'*1\r\n' * 100_000)),
            'protocol',
            'timeout',
        )


@tagged('post_install', '-at_install')
class TestRedisPassword(RedisCase):
    server_options = {'requirepass': 'right-pa55word'}

    def url(self, credentials):
        return f'redis://{credentials}@127.0.0.1:{self.server.port}/0'

    def test_right_password(self):
        self.assertTrue(self.new_tier(self.url(':right-pa55word')).set(make_entry('k')))

    def test_user_and_password(self):
        self.assertTrue(self.new_tier(self.url('default:right-pa55word')).set(make_entry('k')))

    def test_wrong_password(self):
        tier = self.new_tier(self.url(':wr0ng-secret'))
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'auth')

    def test_no_password(self):
        tier = self.new_tier()
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'auth')

    def test_password_changed_while_connected(self):
        tier = self.new_tier(self.url(':right-pa55word'))
        tier.set(make_entry('k'))
        self.server.call('CONFIG', 'SET', 'requirepass', 'another')
        self.addCleanup(self.server.restart)
        self.server._options['requirepass'] = 'another'
        self.addCleanup(self.server._options.update, requirepass='right-pa55word')
        self.server.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'auth')


@tagged('post_install', '-at_install')
class TestRedisTls(RedisCase):
    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.certificate, key = make_certificate(folder)
        cls.tls_port = free_port()
        cls.server_options = {
            'tls_port': cls.tls_port,
            'tls_cert_file': cls.certificate,
            'tls_key_file': key,
            'tls_ca_cert_file': cls.certificate,
            'tls_auth_clients': 'no',
        }
        try:
            super().setUpClass()
        except ChildProcessError:
            raise unittest.SkipTest("this redis-server cannot speak TLS") from None

    def url(self, query=''):
        return f'rediss://127.0.0.1:{self.tls_port}/0{query}'

    def test_certificate_of_a_given_authority(self):
        tier = self.new_tier(self.url(f'?ssl_ca_certs={self.certificate}'))
        self.assertTrue(tier.set(make_entry('k', payload=os.urandom(100_000))))
        self.assertEqual(len(tier.get('k').payload), 100_000)
        self.assertEqual(tier.stats()['address'], self.url())

    def test_unknown_certificate(self):
        tier = self.new_tier(self.url())
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'tls')

    def test_frozen(self):
        tier = self.impatient(self.url(f'?ssl_ca_certs={self.certificate}'))
        with self.server.frozen():
            self.assertMissesAtOnce(tier)
            self.assertDown(tier, 'timeout')

    def test_server_without_tls(self):
        tier = self.impatient(self.server.url.replace('redis://', 'rediss://'))
        self.assertMissesAtOnce(tier)
        self.assertDown(tier, 'tls', 'timeout', 'connection')

    def test_parent_goes_on_after_a_fork(self):
        tier = self.new_tier(self.url(f'?ssl_ca_certs={self.certificate}'))
        tier.set(make_entry('k'))
        self.assertEqual(in_child(lambda: tier.get('k').payload), "b'payload'")
        self.assertIsNot(tier.get('k'), MISS)
        self.assertFalse(tier.faults)


@tagged('post_install', '-at_install')
class TestRedisRefusesWrites(RedisCase):
    def assertReadsGoOn(self, kind):
        tier = self.new_tier()
        self.commands()
        self.assertFalse(tier.set(make_entry('new', payload=bytes(1000))))
        self.assertEqual(tier.faults, {kind: 1})
        self.assertIsNot(tier.get('old'), MISS)
        self.assertFalse(tier.set(make_entry('new')))
        self.assertEqual(tier.set_many([make_entry('new')]), 0)
        commands = self.commands()
        self.assertEqual((commands['set'], commands['getrange']), (1, 1))
        stats = tier.stats()
        self.assertEqual((stats['state'], stats['writes']), ('up', 'paused'))
        return tier

    def test_read_only_replica(self):
        self.new_tier().set(make_entry('old'))
        self.server.call('REPLICAOF', '127.0.0.1', free_port())
        self.addCleanup(self.server.call, 'REPLICAOF', 'NO', 'ONE')
        tier = self.assertReadsGoOn('readonly')
        self.assertEqual(tier.delete(['old']), 0)
        self.assertIsNot(tier.get('old'), MISS)

    def test_writes_again_when_the_replica_was_promoted(self):
        self.server.call('REPLICAOF', '127.0.0.1', free_port())
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.server.call('REPLICAOF', 'NO', 'ONE')
        self.breaker_clock.advance(1)
        self.assertTrue(tier.set(make_entry('k')))
        self.assertEqual(tier.stats()['writes'], 'on')

    def test_out_of_memory(self):
        self.new_tier().set(make_entry('old'))
        self.server.call('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
        self.server.call('CONFIG', 'SET', 'maxmemory', 1)
        self.addCleanup(self.server.call, 'CONFIG', 'SET', 'maxmemory', 0)
        tier = self.assertReadsGoOn('oom')
        self.assertEqual(tier.delete(['old']), 1)

    def test_out_of_memory_in_the_middle_of_a_batch(self):
        self.server.call('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
        used = self.server.call('INFO', 'memory')['used_memory']
        self.server.call('CONFIG', 'SET', 'maxmemory', used + 2_500_000)
        self.addCleanup(self.server.call, 'CONFIG', 'SET', 'maxmemory', 0)
        entries = [make_entry(str(number), payload=os.urandom(100_000)) for number in range(60)]
        tier = self.new_tier()
        stored = tier.set_many(entries)
        self.assertTrue(0 < stored < 60)
        self.assertEqual(len(tier.get_many(entry.key for entry in entries)), stored)

    def test_user_who_may_not_write(self):
        self.new_tier().set(make_entry('old'))
        self.server.call(
            'ACL',
            'SETUSER',
            'reader',
            'on',
            '>pw',
            f'~{PREFIX}*',
            '+getrange',
            '+client|setname',
            '+scan',
        )
        self.addCleanup(self.server.call, 'ACL', 'DELUSER', 'reader')
        tier = self.new_tier(self.server.url.replace('//', '//reader:pw@'))
        self.assertFalse(tier.set(make_entry('new')))
        self.assertEqual(tier.faults, {'denied': 1})
        self.assertIsNot(tier.get('old'), MISS)
        self.assertEqual(tier.delete(['old']), 0)

    def test_user_who_may_not_read(self):
        self.server.call(
            'ACL', 'SETUSER', 'writer', 'on', '>pw', f'~{PREFIX}*', '+set', '+client|setname'
        )
        self.addCleanup(self.server.call, 'ACL', 'DELUSER', 'writer')
        tier = self.new_tier(self.server.url.replace('//', '//writer:pw@'))
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'denied')


@tagged('post_install', '-at_install')
class TestRedisCluster(RedisCase):
    server_options = {'cluster_enabled': 'yes'}

    def test_node_of_a_cluster(self):
        tier = self.new_tier()
        self.assertIs(tier.get('k'), MISS)
        self.assertDown(tier, 'cluster')

    def test_probe_says_so(self):
        with self.assertRaisesRegex(redis_probe.ProbeError, r'redis\+cluster://') as raised:
            redis_probe.probe(self.server.url)
        self.assertEqual(raised.exception.kind, 'cluster')


@tagged('post_install', '-at_install')
class TestRedisFork(RedisCase):
    def names(self):
        return {client['name'] for client in self.server.call('CLIENT LIST')}

    def test_child_has_a_connection_of_its_own(self):
        tier = self.new_tier()
        tier.set(make_entry('k', payload=b'of the parent'))

        def child():
            payload = tier.get('k').payload
            own = f'odoo-tiered-cache-{os.getpid()}' in self.names()
            return payload, own, dict(tier.faults)

        self.assertEqual(in_child(child), str((b'of the parent', True, {})))

    def test_parent_goes_on_with_its_connection(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        link = tier._servers.nodes()[0].link
        before = link.client.execute_command('CLIENT', 'ID')

        def child():
            tier.get('k')
            tier.close()
            return 'done'

        self.assertEqual(in_child(child), 'done')
        tier._servers.deadline.begin()
        self.assertEqual(link.client.execute_command('CLIENT', 'ID'), before)
        self.assertIsNot(tier.get('k'), MISS)
        self.assertFalse(tier.faults)

    def test_child_closing_first_leaves_the_parent_alone(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.assertEqual(in_child(tier.close), 'None')
        self.assertIsNot(tier.get('k'), MISS)
        self.assertFalse(tier.faults)

    def test_locks_held_in_the_parent_do_not_stop_the_child(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        with tier._open_lock, tier._breaker._lock, tier._faults_lock:
            self.assertEqual(in_child(lambda: tier.get('k').payload), "b'payload'")
