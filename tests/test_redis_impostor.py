"""A server that means harm answers in place of Redis: bounded memory and time, a miss, a breaker.

The one idea: the limits hold for the slowest patience that can be configured.  With 5 s to
answer, a server on the same machine could send gigabytes before any deadline, so what is
measured is the limit of bytes, not the luck of a short wait.
"""

import contextlib
import itertools
import re
import time
import tracemalloc
from unittest.mock import patch

from odoo.tests import tagged
from odoo.tests.common import BaseCase
from odoo.tools import mute_logger

from ..services import redis_probe, redis_url
from ..services.breaker import CLOSED, CircuitBreaker
from ..services.entry import Seal, to_bytes
from ..services.miss import MISS
from ..services.tiers import RedisTier, redis_connection
from .test_faults import AT_ONCE_S, QUIET, StatesCase
from .test_tier_redis import LOGGER, PREFIX, impostor
from .tier_tools import SECRET, Clock, make_entry

PATIENT_MS = 5000
"""The largest ``redis_timeout_ms``."""

MAX_BYTES = 100_000_000
"""A reply of at most 8 MB, and what Python makes of it; without a limit it would be gigabytes."""

MAX_S = 8.0
"""For a flood, on a busy machine."""

CHUNK = 1 << 16


def flood(start: bytes, unit: bytes):
    """Sends ``start``, then ``unit`` again and again, until the other side hangs up."""
    chunk = unit * (CHUNK // len(unit))

    def reply(connection):
        connection.sendall(start)
        while True:
            connection.sendall(chunk)

    return reply


def once(reply: bytes):
    return lambda connection: connection.sendall(reply)


def drip(start: bytes, unit: bytes, pause_s: float):
    """Each piece comes in time, the whole never does."""

    def reply(connection):
        connection.sendall(start)
        while True:
            connection.sendall(unit)
            time.sleep(pause_s)

    return reply


def after_request(reply):
    """Accepts the connection as Redis does, and answers the first command by ``reply``."""

    def answer(connection):
        connection.recv(CHUNK)
        connection.sendall(b'+OK\r\n')
        while connection.recv(CHUNK):
            reply(connection)

    return answer


def by_command(replies):
    """Answers each command by its name; by OK where nothing else is given."""

    def answer(connection):
        while request := connection.recv(CHUNK):
            for name in re.findall(rb'\*\d+\r\n\$\d+\r\n(\w+)', request):
                connection.sendall(replies.get(name, b'+OK\r\n'))

    return answer


FLOODS = {
    'a value without end': flood(b'$999999999999\r\n', b'x'),
    'a line without end': flood(b'+', b'x'),
    'an error without end': flood(b'-ERR ', b'x'),
    'a number without end': flood(b':', b'9'),
    'line feeds': flood(b'', b'\n'),
    'arrays in arrays': flood(b'', b'*1\r\n'),
    'arrays of billions in arrays': flood(b'', b'*2147483647\r\n'),
}

ARRAYS = {
    'an array of nothing': flood(b'*999999999\r\n', b'$-1\r\n'),
    'an array of empty arrays': flood(b'*999999999\r\n', b'*0\r\n'),
    'an array of empty values': flood(b'*999999999\r\n', b'$0\r\n\r\n'),
    'an array of numbers': flood(b'*999999999\r\n', b':1234567890123456789\r\n'),
}

TIMEOUTS = {
    'a huge value is announced': once(b'$999999999999\r\n'),
    'billions of items are announced': once(b'*2147483647\r\n'),
    'billions of items, seven times': once(b'*2147483647\r\n' * 7),
    'a value, byte by byte': drip(b'$30000\r\n', b'x', 0.01),
    'items, one by one': drip(b'*999999999\r\n', b':1\r\n', 0.01),
    'a line, byte by byte': drip(b'+', b'x', 0.01),
    'half a reply': once(b'$10\r\n12345'),
    'half a line': once(b'$1'),
}

NONSENSE = {
    'a number of a million digits': once(b':' + b'9' * 1_000_000 + b'\r\n'),
    'a length that is no number': once(b'$1e9\r\n'),
    'a negative count': once(b'*-5\r\n'),
    'a push message': once(b'>2\r\n$7\r\nmessage\r\n$1\r\nx\r\n'),
    'a map': once(b'%1\r\n+key\r\n+value\r\n'),
    'a null of RESP3': once(b'_\r\n'),
    'a boolean of RESP3': once(b'#t\r\n'),
    'a double of RESP3': once(b',inf\r\n'),
    'an attribute': once(b'|1\r\n+ttl\r\n:3600\r\n$1\r\nx\r\n'),
    'no type at all': once(b'hello\r\n'),
    'bytes that are no text': once(b'\xff\xfe\xfd\r\n'),
    'a status': once(b'+OK\r\n'),
    'a number': once(b':5\r\n'),
    'an array': once(b'*1\r\n$1\r\nx\r\n'),
}

REFUSALS = {
    'another node': once(b'-MOVED 1 127.0.0.1:1\r\n'),
    'another node, for now': once(b'-ASK 1 127.0.0.1:1\r\n'),
    'an unknown error': once(b'-WHATEVER no\r\n'),
    'an error that is no text': once(b'-ERR \xff\xfe\r\n'),
    'an error without a word': once(b'-\r\n'),
    'no right': once(b'-NOPERM no\r\n'),
    'a password is wanted': once(b'-NOAUTH Authentication required.\r\n'),
}

EVERYTHING = {**FLOODS, **ARRAYS, **TIMEOUTS, **NONSENSE, **REFUSALS}


@tagged('post_install', '-at_install')
class TestRedisImpostor(BaseCase):
    def setUp(self):
        super().setUp()
        self.enterContext(mute_logger(f'{LOGGER}.base'))

    def new_tier(self, url, timeout_ms=PATIENT_MS):
        tier = RedisTier(url, PREFIX, Seal(SECRET), timeout_ms, CircuitBreaker(clock=Clock(0.0)))
        self.addCleanup(tier.close)
        return tier

    def assertBounded(self, call, max_s):
        """``call()`` is over soon, and takes little memory."""
        tracemalloc.start()
        started = time.monotonic()
        try:
            call()
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertLess(time.monotonic() - started, max_s)
        self.assertLess(peak_bytes, MAX_BYTES)

    def assertMisses(self, reply, kinds, timeout_ms, max_s):
        with impostor(after_request(reply)) as url:
            tier = self.new_tier(url, timeout_ms)
            self.assertBounded(lambda: self.assertIs(tier.get('k'), MISS), max_s)
            self.assertIn(next(iter(tier.faults)), kinds)
            self.assertNotEqual(tier._breaker.state, CLOSED, "it must not be asked again")
            started = time.monotonic()
            self.assertIs(tier.get('k'), MISS)
            self.assertLess(time.monotonic() - started, 0.1)

    def test_floods_end_at_a_number_of_bytes(self):
        for name, reply in FLOODS.items():
            with self.subTest(name):
                self.assertMisses(reply, ('protocol', 'timeout'), PATIENT_MS, MAX_S)

    def test_floods_of_items_end_at_a_number_of_bytes_or_in_time(self):
        for name, reply in ARRAYS.items():
            with self.subTest(name):
                self.assertMisses(reply, ('protocol', 'timeout'), 1000, MAX_S)

    def test_what_never_ends_is_given_up_in_time(self):
        for name, reply in TIMEOUTS.items():
            with self.subTest(name):
                self.assertMisses(reply, ('timeout',), 200, AT_ONCE_S)

    def test_nonsense_is_a_miss_at_once(self):
        for name, reply in NONSENSE.items():
            with self.subTest(name):
                self.assertMisses(reply, ('protocol', 'forged'), PATIENT_MS, AT_ONCE_S)

    def test_refusals_are_a_miss_at_once(self):
        for name, reply in REFUSALS.items():
            with self.subTest(name):
                kinds = ('cluster', 'error', 'denied', 'auth')
                self.assertMisses(reply, kinds, PATIENT_MS, AT_ONCE_S)

    def test_floods_in_the_handshake(self):
        for name, reply in FLOODS.items():
            with self.subTest(name), impostor(reply) as url:
                tier = self.new_tier(url)
                self.assertBounded(lambda t=tier: self.assertIs(t.get('k'), MISS), MAX_S)
                self.assertNotEqual(tier._breaker.state, CLOSED)

    def test_every_call_survives_every_reply(self):
        calls = (
            lambda tier: tier.get_many(['k', 'l', 'm']),
            lambda tier: tier.set_many([make_entry(key) for key in 'klm']),
            lambda tier: tier.delete(['k']),
            lambda tier: tier.delete_pattern('k*'),
            lambda tier: tier.clear(),
            lambda tier: tier.stats(),
        )
        for (name, reply), call in zip(EVERYTHING.items(), itertools.cycle(calls), strict=False):
            with self.subTest(name), impostor(after_request(reply)) as url:
                tier = self.new_tier(url, 200)
                started = time.monotonic()
                call(tier)
                self.assertLess(time.monotonic() - started, AT_ONCE_S)

    def test_a_scan_that_never_ends(self):
        page = b'*2\r\n$1\r\n7\r\n*1\r\n$%d\r\n%sk\r\n' % (len(PREFIX) + 1, PREFIX.encode())
        with impostor(by_command({b'SCAN': page, b'UNLINK': b':1\r\n'})) as url:
            tier = self.new_tier(url)
            self.startPatcher(
                patch('odoo.addons.tiered_cache.services.tiers.redis.MAX_SCAN_S', 0.5)
            )
            self.assertBounded(tier.clear, AT_ONCE_S)
        self.assertEqual(tier.faults, {'scan': 1})

    def test_replies_are_parsed_in_python_even_where_hiredis_is_installed(self):
        """hiredis makes room for what is announced: 13 bytes take 17 GB and 11 s."""
        url = redis_url.parse('redis://127.0.0.1:1')
        link = redis_connection.open_single(url, redis_connection.Deadline(1))
        parser = link.client.connection_pool.connection_kwargs['parser_class']
        self.assertEqual(parser.__name__, '_RESP2Parser')

    # -- replies that belong to other requests

    def value(self, key, payload):
        body = Seal(SECRET).seal(PREFIX + key, to_bytes(make_entry(key, payload=payload)))
        return b'$%d\r\n%s\r\n' % (len(body), body)

    def test_the_reply_to_another_request_is_not_believed(self):
        with impostor(after_request(once(self.value('other', b'secret of another')))) as url:
            tier = self.new_tier(url)
            self.assertIs(tier.get('k'), MISS)
            self.assertEqual(next(iter(tier.faults)), 'forged')

    def test_two_replies_to_one_request(self):
        two = self.value('k', b'first') + self.value('k', b'second')
        with impostor(after_request(once(two))) as url:
            tier = self.new_tier(url)
            self.assertEqual(tier.get('k').payload, b'first')
            for _again in range(3):  # what is left over belongs to nobody
                self.assertEqual(tier.get('k').payload, b'first')
            self.assertIs(tier.get('l'), MISS)

    def test_replies_in_the_wrong_order(self):
        pair = self.value('b', b'of b') + self.value('a', b'of a')
        with impostor(after_request(once(pair))) as url:
            tier = self.new_tier(url)
            self.assertEqual(tier.get_many(['a', 'b']), {})
            self.assertIn('forged', tier.faults)

    # -- Test Connection

    def assertProbeEnds(self, answer):
        with impostor(answer) as url:
            self.startPatcher(patch.object(redis_probe, 'TIMEOUT_S', 0.5))

            def probe():
                with contextlib.suppress(redis_probe.ProbeError):
                    redis_probe.probe(url)

            self.assertBounded(probe, MAX_S)

    def test_test_connection_ends_whatever_answers(self):
        for name, reply in EVERYTHING.items():
            with self.subTest(name):
                self.assertProbeEnds(after_request(reply))

    def test_test_connection_shows_little_of_what_the_server_says(self):
        info = b'redis_version:' + b'<b>7' * 10_000 + b'\r\nused_memory:a=1,b=2\r\nmaxmemory:1e999'

        replies = {
            b'INFO': b'$%d\r\n%s\r\n' % (len(info), info),
            b'GETRANGE': b'$1\r\nx\r\n',
            b'SCAN': b'*2\r\n$1\r\n0\r\n*0\r\n',
            b'DBSIZE': b':0\r\n',
            b'UNLINK': b':1\r\n',
        }

        with impostor(by_command(replies)) as url:
            found = redis_probe.probe(url)
            stats = self.new_tier(url).stats()
        self.assertIsNone(found['version'])
        self.assertEqual((stats['state'], stats['version']), ('up', None))
        for figure in (
            found['used_memory_bytes'],
            found['max_memory_bytes'],
            stats['server_bytes'],
            stats['server_max_bytes'],
        ):
            self.assertIsNone(figure)


@tagged('post_install', '-at_install')
class TestReadsPastAnImpostor(StatesCase):
    """The same, seen by a request: its answer is right, and in time."""

    def test_reads_are_right_whatever_answers(self):
        for name in (
            'a value without end',
            'arrays in arrays',
            'an array of empty arrays',
            'billions of items are announced',
            'a value, byte by byte',
            'a push message',
            'another node',
        ):
            with self.subTest(name), impostor(after_request(EVERYTHING[name])) as url:
                with mute_logger(QUIET):
                    self.configure(redis_url=url, l1_max_entries='0')
                    self.forget()
                    self.assertRight()
                self.assertTrue(self.faults('l2'))
                self.engine.hierarchy.tiers['l2'].close()
