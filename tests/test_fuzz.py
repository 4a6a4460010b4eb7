"""The parsers, fed at random for seconds; ``proof/fuzz`` does it for long, guided by coverage."""

import random
import time
import tracemalloc
import zlib

import msgpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odoo.exceptions import AccessError, UserError, ValidationError
from odoo.tests import TransactionCase, tagged
from odoo.tests.common import BaseCase
from odoo.tools import mute_logger

from ..proof.programs.fuzz_targets import make_targets
from ..services import codec, entry, options

PACKAGE = __name__.rpartition('.tests.')[0] + '.services'

INPUTS = 300
"""For each target."""

PROPERTY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=60,
    suppress_health_check=list(HealthCheck),
)


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """A seed with a few bytes changed, taken out, put in, or repeated."""
    data = bytearray(seed)
    for _change in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        kind = chance.randint(0, 3)
        if kind == 0:
            data[at : at + 1] = bytes([chance.randint(0, 255)])
        elif kind == 1:
            del data[at : at + chance.randint(1, 8)]
        elif kind == 2:
            data[at:at] = chance.choice((b'\xdd\xff\xff\xff\xff', b'\x91' * 50, b'\xc7\x00\xff'))
        else:
            data[at:at] = data[: chance.randint(0, len(data))]
    return bytes(data)


@tagged('post_install', '-at_install')
class TestFuzz(BaseCase):
    def test_every_target_takes_any_bytes(self):
        for name, target in make_targets(PACKAGE).items():
            chance = random.Random(1)  # noqa: S311  reproducible, not secret
            with self.subTest(name):
                for seed in target.seeds:
                    target.run(seed)
                for _input in range(INPUTS):
                    target.run(mutated(chance.choice(target.seeds), chance))
                    target.run(chance.randbytes(chance.randint(0, 40)))


@tagged('post_install', '-at_install')
class TestBombs(BaseCase):
    """Bytes with a right seal and a right checksum, made to be expensive."""

    def assertHarmless(self, read, errors, max_bytes, max_s=5.0):
        tracemalloc.start()
        started = time.monotonic()
        try:
            with self.assertRaises(errors):
                read()
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertLess(time.monotonic() - started, max_s)
        self.assertLess(peak_bytes, max_bytes)

    def test_arrays_that_announce_arrays(self):
        """Before msgpack 1.1 it is 8 GB and 8 s."""
        items = 1_000_000
        body = b'\xdd' + items.to_bytes(4, 'big')
        body = (body * 1000).ljust(items, b'\xc0')
        for data in (
            codec._HEADER_PLAIN + b'\x92\xc0' + body,
            codec._HEADER_COMPRESSED + zlib.compress(b'\x92\xc0' + body),
        ):
            self.assertHarmless(lambda d=data: codec.unpack(d), codec.CorruptPayload, 50_000_000)
        data = zlib.crc32(body).to_bytes(4, 'big') + body
        self.assertHarmless(lambda: entry.from_bytes(data), entry.CorruptEntry, 50_000_000)

    def test_long_arrays_are_read_all_the_same(self):
        value = [[n, str(n)] for n in range(20_000)]
        self.assertEqual(codec.unpack(codec.pack(value)), value)

    def test_inflation_ends_at_the_largest_body(self):
        bomb = codec._HEADER_COMPRESSED + zlib.compress(bytes(2 * codec.MAX_BODY_BYTES), 9)
        self.assertLess(len(bomb), 200_000)
        self.assertHarmless(
            lambda: codec.unpack(bomb), codec.CorruptPayload, 3 * codec.MAX_BODY_BYTES
        )

    def test_text_that_is_no_value(self):
        for code, texts in (
            (codec._DECIMAL, ('1e', '0x10', '1' * 50 + 'x', 'Infinity9', '１\x00')),
            (codec._DATETIME, ('2026-02-30T00:00:00', '10000-01-01T00:00:00', 'now', '')),
            (codec._DATE, ('2026-13-01', '0000-00-00', '99999-01-01')),
        ):
            for text in texts:
                with self.subTest(text), self.assertRaises(codec.CorruptPayload):
                    codec.unpack(codec._HEADER_PLAIN + msgpack.packb([[codec._TEXT, code], text]))

    def test_a_decimal_with_a_huge_exponent_stays_one(self):
        for text in ('1E+999999999', '-1E-999999999', '9' * 5000):
            data = codec._HEADER_PLAIN + msgpack.packb([[codec._TEXT, codec._DECIMAL], text])
            self.assertEqual(str(codec.unpack(data)), text)

    def test_extension_types_with_bad_data(self):
        for body in (
            b'\xc7\x00\x01',  # a big integer without bytes is 0
            b'\xc7\x05\xff12345',  # a time stamp of five bytes
            b'\xd6\x00abcd',
            b'\xd8\x7f' + b'x' * 16,
            b'\xc9\xff\xff\xff\xff\x01',
        ):
            try:
                value = codec.unpack(codec._HEADER_PLAIN + b'\x92\xc0' + body)
            except codec.CorruptPayload:
                continue
            self.assertEqual(value, 0)

    def test_text_that_is_no_utf8(self):
        for body in (b'\xa2\xff\xfe', b'\xa1\xed', b'\xa4\xf8\x88\x80\x80'):
            with self.assertRaises(codec.CorruptPayload):
                codec.unpack(codec._HEADER_PLAIN + b'\x92\xc0' + body)

    def test_a_key_that_occurs_twice(self):
        """The last one counts, as in any dictionary; nothing is left of the first."""
        body = b'\x92\xc0\x82\xa1a\x01\xa1a\x02'
        self.assertEqual(codec.unpack(codec._HEADER_PLAIN + body), {'a': 2})
        rows = codec._HEADER_PLAIN + msgpack.packb([[codec._TABLE, {}, ['a', 'a', 'b']], [[1]] * 3])
        self.assertRaises(codec.CorruptPayload, codec.unpack, rows)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.text(st.characters(exclude_categories=()), max_size=5),
    st.sampled_from(['nan', '1e999', '9' * 400, 'read,read', 'x' * 5000, '%s', "';--", '\x00']),
    st.lists(st.integers(), max_size=2),
)


@tagged('post_install', '-at_install')
class TestAnyInput(TransactionCase):
    """What administrators, or scripts in their name, may write into rules and settings."""

    def refuses_or_takes(self, call):
        with mute_logger('odoo.sql_db'):
            try:
                with self.env.cr.savepoint():
                    call()
                    self.env.flush_all()
            except (ValidationError, UserError, AccessError):
                self.env.invalidate_all()

    @PROPERTY
    @given(
        st.sampled_from(
            [
                'model',
                'model_id',
                'methods',
                'sequence',
                'max_staleness_s',
                'l1_ttl_s',
                'min_cost_ms',
            ]
        ),
        ANYTHING,
    )
    def test_rules(self, name, value):
        self.refuses_or_takes(
            lambda: self.env['cache.rule'].create({'model': 'res.bank', name: value})
        )

    @PROPERTY
    @given(st.sampled_from(sorted(options.OPTIONS)), st.text(max_size=40))
    def test_parameters(self, name, text):
        settings_ = options.load({name: text}, environ={}, config_path='')
        self.assertLessEqual(len(settings_.problems), 1)
