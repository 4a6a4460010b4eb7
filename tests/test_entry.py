"""An entry is read as it was written, or not at all."""

import copy
import dataclasses
import pickle
import zlib

import msgpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odoo.tests.common import BaseCase, tagged

from ..services import codec
from ..services.entry import (
    DIGEST_BYTES,
    CorruptEntry,
    Entry,
    ForgedEntry,
    Seal,
    from_bytes,
    to_bytes,
)
from ..services.miss import MISS

PROPERTY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=150,
    suppress_health_check=list(HealthCheck),
)

NAMES = st.text(max_size=10)
VERSIONS = st.integers(0, 2**62 - 1)
TIMES = st.floats(0, 4e9)
CONDITIONS = st.none() | st.tuples(NAMES, st.lists(st.integers() | NAMES, max_size=3))
ENTRIES = st.builds(
    Entry,
    key=NAMES,
    model=NAMES,
    method=NAMES,
    uid=st.integers(0, 2**31 - 1),
    dependencies=st.lists(st.tuples(NAMES, VERSIONS, CONDITIONS), max_size=5).map(tuple),
    removal_version=VERSIONS,
    created=TIMES,
    expires=TIMES,
    cost_ms=TIMES,
    queries=st.integers(0, 10**6),
    flags=st.integers(0, 255),
    payload=st.binary(max_size=40),
)


def new_entry(**values) -> Entry:
    return Entry(
        **{
            'key': 'v1:orm:res.partner:read:' + '0' * 32,
            'model': 'res.partner',
            'method': 'read',
            'uid': 2,
            'dependencies': (('res_partner', 2**62 - 1, None), ('res_users', 0, None)),
            'removal_version': 5,
            'created': 1_800_000_000.25,
            'expires': 1_800_003_600.25,
            'cost_ms': 12.5,
            'queries': 17,
            'flags': 1,
            'payload': codec.pack([{'id': 1}]),
            **values,
        }
    )


def written(fields: list) -> bytes:
    """Bytes with a correct checksum, as a faulty writer would make them."""
    body = msgpack.packb(fields)
    return zlib.crc32(body).to_bytes(4, 'big') + body


@tagged('post_install', '-at_install')
class TestEntry(BaseCase):
    def fields(self) -> list:
        return msgpack.unpackb(to_bytes(new_entry())[4:])

    def assertCorrupt(self, data):
        with self.assertRaises(CorruptEntry):
            from_bytes(data)

    @PROPERTY
    @given(ENTRIES)
    def test_round_trip(self, entry):
        self.assertEqual(from_bytes(to_bytes(entry)), entry)

    def test_conditions_keep_their_types(self):
        condition = ('company_id', (1, None, True))
        entry = new_entry(dependencies=(('res_partner', 1, condition),))
        read = from_bytes(to_bytes(entry)).dependencies[0][2]
        self.assertEqual(repr(read), repr(condition))

    def test_condition_that_cannot_be_kept(self):
        entry = new_entry(dependencies=(('res_partner', 1, {1, 2}),))
        self.assertRaises(codec.Unserializable, to_bytes, entry)

    def test_whole_seconds_are_written_as_floats(self):
        entry = from_bytes(to_bytes(new_entry(created=5, expires=6, cost_ms=7)))
        self.assertEqual(
            [type(value) for value in (entry.created, entry.expires, entry.cost_ms)], [float] * 3
        )

    def test_relation_names_are_shared(self):
        data = to_bytes(new_entry())
        first, second = from_bytes(data), from_bytes(data)
        self.assertIs(first.dependencies[0][0], second.dependencies[0][0])
        self.assertIs(first.model, second.model)

    def test_bytes_like_input(self):
        data = to_bytes(new_entry())
        self.assertEqual(from_bytes(memoryview(data)), new_entry())

    @PROPERTY
    @given(st.binary(max_size=80))
    def test_arbitrary_bytes(self, data):
        self.assertCorrupt(data)
        self.assertCorrupt(zlib.crc32(data).to_bytes(4, 'big') + data)

    @PROPERTY
    @given(st.integers(0, 10**6), st.integers(1, 255))
    def test_every_changed_byte_is_noticed(self, position, difference):
        data = bytearray(to_bytes(new_entry()))
        data[position % len(data)] ^= difference
        self.assertCorrupt(bytes(data))

    def test_cut_off(self):
        data = to_bytes(new_entry())
        for length in range(len(data)):
            self.assertCorrupt(data[:length])

    def test_other_format_version(self):
        fields = self.fields()
        self.assertEqual(from_bytes(written(fields)), new_entry())
        fields[0] += 1
        self.assertCorrupt(written(fields))

    def test_fields_of_other_types(self):
        for index, field in enumerate(self.fields()):
            for other in (None, True, '1', b'1', [], 1, 1.0):
                if type(other) is not type(field):
                    fields = self.fields()
                    fields[index] = other
                    with self.subTest(index=index, other=other):
                        self.assertCorrupt(written(fields))

    def test_other_numbers_of_fields(self):
        self.assertCorrupt(written(self.fields()[:-1]))
        self.assertCorrupt(written([*self.fields(), 1]))
        self.assertCorrupt(written([]))

    def test_dependencies_of_other_shapes(self):
        for dependency in (
            None,
            'abc',
            [],
            ['a', 1],
            ['a', 1, None, None],
            [b'a', 1, None],
            ['a', 1.0, None],
            ['a', True, None],
            ['a', 1, b'garbage'],
            ['a', 1, 'text'],
        ):
            fields = self.fields()
            fields[5] = [dependency]
            with self.subTest(dependency=dependency):
                self.assertCorrupt(written(fields))

    def test_entry_that_would_never_expire(self):
        for name in ('created', 'expires', 'cost_ms'):
            for number in (float('nan'), float('inf')):
                self.assertCorrupt(to_bytes(new_entry(**{name: number})))

    def test_size_grows_with_all_its_parts(self):
        size = new_entry().size_bytes
        self.assertEqual(new_entry(payload=new_entry().payload + b'x' * 100).size_bytes, size + 100)
        self.assertGreater(new_entry(dependencies=(('a', 1, None),) * 10).size_bytes, size + 500)
        self.assertGreater(new_entry(key='x' * 500).size_bytes, size + 400)

    def test_replace(self):
        entry = new_entry()
        self.assertEqual(dataclasses.replace(entry, expires=1.0).expires, 1.0)
        self.assertFalse(hasattr(entry, '__dict__'), 'a dictionary per entry would cost 100 bytes')


@tagged('post_install', '-at_install')
class TestSeal(BaseCase):
    KEY = 'tc:42:v1:orm:res.partner:read:0'

    def setUp(self):
        super().setUp()
        self.seal = Seal(b'secret of database 1')
        self.sealed = self.seal.seal(self.KEY, b'body')

    def assertForged(self, key, sealed, seal=None):
        with self.assertRaises(ForgedEntry):
            (seal or self.seal).open(key, sealed)

    @PROPERTY
    @given(st.text(), st.binary())
    def test_round_trip(self, key, body):
        self.assertEqual(self.seal.open(key, self.seal.seal(key, body)), body)

    def test_body_stays_readable_behind_the_digest(self):
        self.assertEqual(self.sealed[DIGEST_BYTES:], b'body')
        self.assertEqual(DIGEST_BYTES, 16)

    def test_every_changed_bit_is_noticed(self):
        for position in range(len(self.sealed)):
            for bit in range(8):
                forged = bytearray(self.sealed)
                forged[position] ^= 1 << bit
                self.assertForged(self.KEY, bytes(forged))

    def test_cut_off_or_longer(self):
        for length in range(len(self.sealed)):
            self.assertForged(self.KEY, self.sealed[:length])
        self.assertForged(self.KEY, self.sealed + b'x')

    def test_move_to_another_key(self):
        self.assertForged(self.KEY + '1', self.sealed)
        self.assertForged('tc:43:v1:orm:res.partner:read:0', self.sealed)

    def test_key_and_body_are_kept_apart(self):
        sealed = self.seal.seal('ab', b'cd')
        self.assertForged('a', sealed[:DIGEST_BYTES] + b'bcd')
        self.assertForged('abc', sealed[:DIGEST_BYTES] + b'd')

    def test_other_secret(self):
        self.assertForged(self.KEY, self.sealed, Seal(b'secret of database 2'))
        first, second = Seal(b'x' * 64 + b'a'), Seal(b'x' * 64 + b'b')
        self.assertForged(self.KEY, first.seal(self.KEY, b'body'), second)

    def test_same_secret_in_another_process(self):
        self.assertEqual(Seal(b'secret of database 1').open(self.KEY, self.sealed), b'body')

    def test_earlier_value_of_the_same_key_is_authentic(self):
        self.seal.seal(self.KEY, b'newer')
        self.assertEqual(self.seal.open(self.KEY, self.sealed), b'body')

    def test_secret_that_could_be_guessed(self):
        for secret in (b'', b'x' * 15):
            self.assertRaises(ValueError, Seal, secret)


@tagged('post_install', '-at_install')
class TestMiss(BaseCase):
    def test_miss_has_no_truth_value(self):
        self.assertRaises(TypeError, bool, MISS)

    def test_miss_equals_nothing_else(self):
        for value in (None, False, 0, '', [], {}):
            self.assertNotEqual(MISS, value)

    def test_copies_are_the_same_miss(self):
        self.assertIs(copy.copy(MISS), MISS)
        self.assertIs(copy.deepcopy([MISS])[0], MISS)
        self.assertIs(pickle.loads(pickle.dumps(MISS)), MISS)
        self.assertEqual(repr(MISS), 'MISS')
