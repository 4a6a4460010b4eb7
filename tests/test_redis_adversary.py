"""Somebody writes to Redis as they please: each read is still what the database says.

The one idea: several reads of two users are warmed, what Redis holds is tampered with, and
all of them are asked again, with the cache and without it, in one transaction.  L1 starts empty
each time, since it would hide what Redis answers, and is asked afterwards: nothing that was
tampered with may have got there.
"""

import hashlib
import itertools
import math
import os
import tracemalloc
import unittest
import zlib

import msgpack

from odoo.tests import tagged
from odoo.tools import mute_logger

from ..services import codec, configuration
from ..services.entry import DIGEST_BYTES, Seal, from_bytes, to_bytes
from ..services.hierarchy import Hierarchy
from ..services.miss import MISS
from .redis_server import REDIS_SERVER, RedisServer
from .test_faults import QUIET, StatesCase
from .test_tier_redis import PREFIX, RedisCase
from .tier_tools import SECRET, Clock, make_entry

FIELDS = (
    'format',
    'key',
    'model',
    'method',
    'uid',
    'dependencies',
    'removal_version',
    'created',
    'expires',
    'cost_ms',
    'queries',
    'flags',
    'payload',
)
"""What an entry consists of, in the order in which it is written."""


def with_field(sealed: bytes, name: str, change) -> bytes:
    """A stored value with one field changed and the checksum right, under its old seal."""
    fields = msgpack.unpackb(sealed[DIGEST_BYTES + 4 :])
    index = FIELDS.index(name)
    fields[index] = change(fields[index])
    body = msgpack.packb(fields)
    return sealed[:DIGEST_BYTES] + zlib.crc32(body).to_bytes(4, 'big') + body


def unsealed(sealed: bytes) -> bytes:
    return sealed[DIGEST_BYTES:]


class AdversaryCase(StatesCase):
    """Reads of two users over L1 and Redis."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.enterClassContext(RedisServer())
        with cls.request() as env:
            groups = [env.ref('base.group_user').id, env.ref('base.group_partner_manager').id]
        cls.users = [
            cls.make_for_class(
                'res.users',
                {'name': name, 'login': f'adversary_{name}', 'group_ids': [(6, 0, groups)]},
            )
            for name in ('ann', 'bob')
        ]
        cls.domain = [('id', '=', cls.bank)]

    def setUp(self):
        super().setUp()
        self.configure(redis_url=self.server.url, redis_timeout_ms='5000', l1_max_entries='1000')
        # on a busy machine Redis may take longer than such a small read, and would not be asked
        self.patch(Hierarchy, '_pace_ms', lambda _self, _name: 0.0)
        self.server.call('FLUSHALL')
        self.forget()
        self.reads = [
            (uid, call)
            for uid in self.users
            for call in (
                self.read,
                lambda env: env['res.bank'].search_count(self.domain),
                lambda env: env['res.bank'].name_search('Be', self.domain),
                lambda env: env['res.users'].search_read([('id', '=', env.uid)], ['login']),
            )
        ]

    @property
    def l2(self):
        return self.engine.hierarchy.tiers['l2']

    def warm_all(self) -> dict[bytes, bytes]:
        """All reads are in Redis; returns its keys and values."""
        for uid, call in self.reads:
            self.warm(call, uid=uid)
        self.settle()
        kept = self.stored()
        self.assertEqual(len(kept), len(self.reads))
        return kept

    def stored(self) -> dict[bytes, bytes]:
        return {key: self.server.call('GET', key) for key in self.server.call('KEYS', 'tc:*')}

    def put(self, values: dict[bytes, bytes]) -> None:
        self.engine.outbox.flush()  # what was computed just now would replace them
        for key, value in values.items():
            self.server.call('SET', key, value)

    def ask_all(self) -> list:
        """Every read, with the cache and without it; the first time L1 is empty.

        :return: how each was answered the first time: 'l2', or why not
        """
        self.engine.hierarchy.tiers['l1'].clear()
        start = len(self.log.events)
        first = None
        for _twice in range(2):
            for uid, call in self.reads:
                self.assertExact(call, uid=uid)
            first = first or [event.why for event in self.log.events[start:]]
        return first

    def assertDropped(self, *kinds):
        """No read is answered from what Redis now holds, and Redis no longer holds it."""
        bad = self.stored()
        with mute_logger(QUIET):
            self.assertEqual(self.ask_all(), ['cold'] * len(self.reads))
        self.assertEqual(set(self.l2.faults), set(kinds))
        self.l2.faults.clear()
        self.settle()
        now = self.stored()
        self.assertFalse([key for key in bad if now.get(key) == bad[key]])

    def name_of(self, value: bytes) -> str:
        """The name in Redis of a value."""
        return f'tc:{self.engine.config.uuid}:{from_bytes(unsealed(value)).key}'

    def tamper(self, changes, *kinds):
        """Each change is made to some value, all values are changed, and all are dropped."""
        kept = self.warm_all()
        rounds = math.ceil(len(changes) / len(kept))
        changes = itertools.cycle(changes)
        for _round in range(rounds):
            self.put({k: change(v) for (k, v), change in zip(kept.items(), changes, strict=False)})
            self.assertDropped(*kinds)


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedisAdversary(AdversaryCase):
    def test_untouched_values_are_served(self):
        """Otherwise the other tests would prove nothing."""
        self.warm_all()
        self.assertEqual(self.ask_all(), ['l2'] * len(self.reads))

    def test_values_of_other_keys_and_users(self):
        kept = self.warm_all()
        values = list(kept.values())
        for shift in (1, len(values) // 2, len(values) - 1):
            with self.subTest(shift=shift):
                self.put(dict(zip(kept, values[shift:] + values[:shift], strict=True)))
                self.assertDropped('forged')

    def test_values_of_one_user_under_the_keys_of_the_other(self):
        """The same read of both, so that only the user differs."""
        kept = self.warm_all()
        by_user = {uid: {} for uid in self.users}
        for key, value in kept.items():
            entry = from_bytes(unsealed(value))
            by_user[entry.uid][entry.model, entry.method] = key, value
        ann, bob = by_user.values()
        for name, (key, value) in ann.items():
            other_key, other_value = bob[name]
            self.put({key: other_value, other_key: value})
        self.assertDropped('forged')

    def test_values_cut_off_and_made_longer(self):
        self.tamper(
            [
                lambda value: value[:1],
                lambda value: value[: DIGEST_BYTES - 1],
                lambda value: value[:DIGEST_BYTES],
                lambda value: value[: DIGEST_BYTES + 4],
                lambda value: value[: len(value) // 2],
                lambda value: value[:-1],
                lambda value: value + b'\0',
                lambda value: value * 2,
            ],
            'forged',
        )

    def test_every_field_altered(self):
        changes = {
            'format': [lambda n: n - 1, lambda n: n + 1],
            'key': [lambda key: key[:-1] + '?'],
            'model': [lambda model: 'res.partner'],
            'method': [lambda method: 'read'],
            'uid': [lambda uid: 1],
            'dependencies': [
                lambda deps: [],
                lambda deps: deps[:1],
                lambda deps: [[name, version ^ 1, None] for name, version, _none in deps],
                lambda deps: deps * 1000,
            ],
            'removal_version': [lambda version: version ^ 1],
            'created': [lambda time: 0.0, lambda time: 1e308],
            'expires': [lambda time: 1e308, lambda time: -1e308, lambda time: float('nan')],
            'cost_ms': [lambda cost: 1e308, lambda cost: -1.0],
            'queries': [lambda queries: 2**63],
            'flags': [lambda flags: flags ^ 1],
            'payload': [lambda payload: codec.pack('forged'), lambda payload: b''],
        }
        self.assertEqual(list(changes), list(FIELDS))
        self.tamper(
            [
                lambda value, name=name, change=change: with_field(value, name, change)
                for name, alterations in changes.items()
                for change in alterations
            ],
            'forged',
        )

    def test_sealed_by_guesswork(self):
        config = self.engine.config
        seals = [
            Seal(configuration.seal_secret('')),
            Seal(configuration.seal_secret(config.uuid)),
            Seal(config.secret.encode()),  # the secret, but not as it is derived
            Seal(bytes(32)),
        ]
        self.tamper(
            [
                *(
                    lambda value, seal=seal: seal.seal(self.name_of(value), unsealed(value))
                    for seal in seals
                ),
                lambda value: unsealed(value),
                lambda value: bytes(DIGEST_BYTES) + unsealed(value),
                lambda value: (
                    hashlib.blake2b(unsealed(value), digest_size=DIGEST_BYTES).digest()
                    + unsealed(value)
                ),
            ],
            'forged',
        )

    def test_values_of_another_database(self):
        """Also of one with the same secret, as a clone that was given another uuid only."""
        self.tamper(
            [
                lambda value, secret=secret: Seal(configuration.seal_secret(secret)).seal(
                    f'tc:other:{from_bytes(unsealed(value)).key}', unsealed(value)
                )
                for secret in ('of another database', self.engine.config.secret)
            ],
            'forged',
        )

    def test_values_of_another_format(self):
        """A value that an older or newer version of this addon sealed under the same key."""
        self.tamper(
            [
                self.sealed_again('format', lambda _now, version=version: version)
                for version in (0, 2, 2**63)
            ],
            'corrupt',
        )

    def test_values_of_other_types(self):
        kept = self.warm_all()
        commands = itertools.cycle(
            (
                ('RPUSH', 'item'),
                ('HSET', 'field', 'value'),
                ('SADD', 'member'),
                ('ZADD', 1, 'member'),
                ('XADD', '*', 'field', 'value'),
            )
        )
        self.server.call('FLUSHALL')
        for key, (command, *arguments) in zip(kept, commands, strict=False):
            self.server.call(command, key, *arguments)
        with mute_logger(QUIET):
            self.assertEqual(self.ask_all(), ['cold'] * len(self.reads))
        self.assertEqual(self.l2.faults, {'wrongtype': len(self.reads)})
        self.settle()
        self.assertEqual(self.ask_all(), ['l2'] * len(self.reads))

    def test_bombs(self):
        bombs = (
            codec._HEADER_COMPRESSED + zlib.compress(bytes(2**26), 9),
            b'\x91' * 1_000_000,
            b'\xdd\x00\x0f\x42\x40' * 200_000,
            os.urandom(1_000_000),
        )
        self.tamper([lambda _value, bomb=bomb: bomb for bomb in bombs], 'forged')

    # -- replay

    def test_an_old_value_after_a_change(self):
        kept = self.warm_all()
        self.rename('Beyond')
        self.put(kept)
        with mute_logger(QUIET):
            answers = self.ask_all()
        banks = [why for index, why in enumerate(answers) if index % 4 != 3]
        self.assertEqual(set(banks), {'stale'})

    def test_an_old_value_when_nothing_has_changed(self):
        kept = self.warm_all()
        self.server.call('FLUSHALL')
        self.put(kept)
        self.assertEqual(self.ask_all(), ['l2'] * len(self.reads))

    def test_an_old_value_after_a_removal(self):
        prefix = f'tc:{self.engine.config.uuid}:'
        for remove in (
            lambda manager, keys: [manager.invalidate_key(key) for key in keys],
            lambda manager, keys: manager.invalidate_pattern('v1:orm:res.*'),
            lambda manager, keys: manager.invalidate_all(),
        ):
            kept = self.warm_all()
            with self.request() as env:
                remove(env['cache.manager'], [k.decode().removeprefix(prefix) for k in kept])
            self.put(kept)
            self.assertEqual(set(self.ask_all()), {'stale'})
            self.forget()

    def test_values_after_a_restore_to_an_earlier_moment(self):
        """The journal and the data are those of before; Redis knows the future."""
        self.warm_all()
        past = self.stored()
        journal = self.sql("SELECT xid::text, token, relation, changed_at FROM cache_change")
        sums = self.sql("SELECT relation, token FROM cache_version")
        self.rename('Before, but later')
        self.forget()
        self.warm_all()
        future = self.stored()

        def restore(cursor):
            cursor.execute("UPDATE res_bank SET name = 'Before' WHERE id = %s", [self.bank])
            cursor.execute("DELETE FROM cache_change")
            cursor.executemany(
                "INSERT INTO cache_change (xid, token, relation, changed_at)"
                " VALUES (%s::xid8, %s, %s, %s)",
                journal,
            )
            cursor.executemany(
                "UPDATE cache_version SET token = %s WHERE relation = %s",
                [(token, relation) for relation, token in sums],
            )

        self.sql('', then=restore)
        self.put(future)
        with self.other_worker():
            answers = self.ask_all()
            self.assertEqual({why for i, why in enumerate(answers) if i % 4 != 3}, {'stale'})
            self.put(past)
            self.assertEqual(self.ask_all(), ['l2'] * len(self.reads))
            self.rename('Before, but otherwise')
            for values in (past, future):
                self.put(values)
                answers = self.ask_all()
                self.assertEqual({why for i, why in enumerate(answers) if i % 4 != 3}, {'stale'})

    # -- sealed with the right secret, as by a faulty version of this addon

    def sealed_again(self, name, change):
        """A change of one field of a value that is sealed again."""

        def changed(value):
            return self.l2._seal.seal(
                self.name_of(value), unsealed(with_field(value, name, change))
            )

        return changed

    def test_authentic_values_that_cannot_be_read(self):
        self.tamper(
            [
                self.sealed_again(name, change)
                for name, change in (
                    ('key', lambda key: key[:-1] + '?'),
                    ('uid', lambda uid: -1),
                    ('dependencies', lambda deps: [[]]),
                    ('dependencies', lambda deps: [['res_bank', 1, b'\xff']]),
                    ('created', lambda time: float('inf')),
                    ('expires', lambda time: float('nan')),
                    ('cost_ms', lambda cost: -1.0),
                    ('cost_ms', lambda cost: 1e308),
                    ('queries', lambda queries: 2**63),
                )
            ],
            'corrupt',
        )

    def test_authentic_values_whose_payload_cannot_be_read(self):
        kept = self.warm_all()
        payloads = itertools.cycle(
            (
                b'',
                b'\xff',
                codec._HEADER_PLAIN + b'\x91' * 5000,
                codec._HEADER_COMPRESSED + zlib.compress(bytes(codec.MAX_BODY_BYTES + 1), 9),
                codec._HEADER_PLAIN + msgpack.packb([[codec._TEXT, 9], 'x']),
            )
        )
        for key, payload in zip(kept, payloads, strict=False):
            change = self.sealed_again('payload', lambda _old, payload=payload: payload)
            self.put({key: change(kept[key])})
        with mute_logger(QUIET):
            self.ask_all()
        self.assertEqual(self.log.snapshot()['faults']['l2: corrupt'], len(kept))
        self.settle()
        self.assertEqual(self.ask_all(), ['l2'] * len(self.reads))

    def test_authentic_values_that_have_expired(self):
        kept = self.warm_all()
        times = itertools.cycle((0.0, -1.0, -1e308))
        for (key, value), expires in zip(kept.items(), times, strict=False):
            self.put({key: self.sealed_again('expires', lambda _old, new=expires: new)(value)})
        self.assertEqual(self.ask_all(), ['cold'] * len(self.reads))

    def test_authentic_values_with_enormous_numbers(self):
        """An hour of the far future harms nobody: versions decide."""
        for name, number in (('expires', 1e308), ('cost_ms', 1e12), ('queries', 10**6)):
            for key, value in (self.stored() or self.warm_all()).items():
                self.put({key: self.sealed_again(name, lambda _old, new=number: new)(value)})
        kept = self.stored()
        self.assertEqual(self.ask_all(), ['l2'] * len(self.reads))
        self.rename('Beyond')
        self.put(kept)
        self.ask_all()
        self.engine.flush_metrics()

    def test_authentic_values_with_an_enormous_number_of_dependencies(self):
        kept = self.warm_all()
        many = [[f'relation_{number}', number, None] for number in range(40_000)]
        for key, value in kept.items():
            self.put({key: self.sealed_again('dependencies', lambda deps: deps + many)(value)})
        self.assertEqual(self.ask_all(), ['stale'] * len(self.reads))


@tagged('post_install', '-at_install')
class TestRedisValuesThatAreTampered(RedisCase):
    """What is seen without a request; the rest is in test_tier_redis.py."""

    def test_512_mb_are_not_read(self):
        """The most that Redis keeps under a key; the reply is one byte more than may be there."""
        tier = self.new_tier(max_entry_bytes=100_000)
        self.server.call('SETRANGE', f'{PREFIX}k', 2**29 - 1, 'x')
        tier.get('another')  # connects
        sent = int(self.server.call('INFO', 'stats')['total_net_output_bytes'])
        self.commands()
        tracemalloc.start()
        try:
            self.assertIs(tier.get('k'), MISS)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertLess(peak_bytes, 2_000_000)
        self.assertEqual(self.commands(), {'getrange': 1, 'unlink': 1})
        received = int(self.server.call('INFO', 'stats')['total_net_output_bytes']) - sent
        self.assertLess(received, 200_000)
        self.assertEqual(tier.faults, {'oversized': 1})

    def test_a_longer_life_in_redis_is_none_for_the_entry(self):
        clock = Clock()
        tier = self.new_tier(clock=clock)
        tier.set(make_entry('k', ttl_s=100, now=clock()))
        self.server.call('PERSIST', f'{PREFIX}k')
        clock.advance(99)
        self.assertIsNot(tier.get('k'), MISS)
        clock.advance(1)
        self.assertIs(tier.get('k'), MISS)
        self.server.call('PEXPIRE', f'{PREFIX}k', 10**12)
        self.assertIs(tier.get('k'), MISS)

    def test_a_shorter_life_in_redis_is_a_miss(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.server.call('PEXPIRE', f'{PREFIX}k', 0)
        self.assertIs(tier.get('k'), MISS)
        self.assertFalse(tier.faults)

    def test_names_of_keys_of_100_mb_do_not_fill_the_memory(self):
        tier = self.new_tier()
        tier.set(make_entry('k'))
        self.server.call('SET', PREFIX.encode() + b'x' * 100_000_000, 'x')
        for call in (tier.clear, tier.stats, lambda: tier.delete_pattern('*')):
            tracemalloc.start()
            try:
                call()
                peak_bytes = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            self.assertLess(peak_bytes, 100_000_000)
            self.breaker_clock.advance(60)
        self.assertIn('protocol', tier.faults)

    def test_an_entry_that_is_sealed_and_complete_is_believed(self):
        """What the seal is worth: whoever has the secret of the database writes what is shown."""
        entry = make_entry('k', payload=codec.pack('whatever'))
        self.server.call('SET', f'{PREFIX}k', Seal(SECRET).seal(f'{PREFIX}k', to_bytes(entry)))
        self.assertEqual(self.new_tier().get('k'), entry)
