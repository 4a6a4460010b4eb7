"""What is packed comes back the same, or is not packed."""

import collections
import contextlib
import enum
import struct
import tracemalloc
import zlib
from datetime import date, datetime, timezone
from decimal import Decimal
from unittest.mock import patch

import msgpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from odoo.orm.identifiers import NewId
from odoo.tests.common import BaseCase, tagged
from odoo.tools import frozendict
from odoo.tools.translate import LazyGettext

from ..services import codec
from ..services.codec import CorruptPayload, Unserializable, pack, unpack

PROPERTY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=150,
    suppress_health_check=list(HealthCheck),
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
DATETIMES = st.datetimes().map(lambda value: value.replace(fold=0))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**130), 2**130),
    st.floats(),
    ANY_TEXT,
    st.binary(max_size=8),
    DATETIMES,
    st.dates(),
    st.decimals(),
    ANY_TEXT.map(Markup),
)
KEYS = st.one_of(
    ANY_TEXT,
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.dates(),
    ANY_TEXT.map(Markup),
    st.tuples(st.booleans(), ANY_TEXT),
)


def containers(items):
    return st.one_of(
        st.lists(items, max_size=4),
        st.lists(items, max_size=4).map(tuple),
        st.dictionaries(KEYS, items, max_size=4),
        tables(items),
        columns(items),
    )


def tables(items):
    """Rows of the same keys, as many as it takes to be packed by column, and one row less."""
    sizes = st.integers(codec.COLUMNS_MIN_ROWS - 1, codec.COLUMNS_MIN_ROWS + 2)
    keys = st.lists(ANY_TEXT, min_size=1, max_size=4, unique=True)
    return st.builds(
        lambda names, size, cells: [
            {name: cells[(row + index) % len(cells)] for index, name in enumerate(names)}
            for row in range(size)
        ],
        keys,
        sizes,
        st.lists(items, min_size=1, max_size=6),
    )


def columns(items):
    """Values of one kind with holes: dates, pairs, lines and many2one values of Odoo."""
    pairs = st.tuples(st.integers(), ANY_TEXT)
    kinds = st.sampled_from(
        [
            DATETIMES,
            st.dates(),
            st.decimals(),
            ANY_TEXT.map(Markup),
            pairs,
            st.tuples(items, items),
            st.lists(pairs, max_size=3),
            st.lists(items, max_size=3),
            st.fixed_dictionaries({'id': st.integers(), 'display_name': ANY_TEXT}),
        ]
    )
    holes = st.sampled_from([[], [False], [None], [False, True, None]])
    return st.tuples(kinds, holes).flatmap(
        lambda chosen: st.lists(
            st.one_of(chosen[0], *map(st.just, chosen[1])), min_size=2, max_size=14
        )
    )


VALUES = st.recursive(SCALARS, containers, max_leaves=20)


def exact(value):
    """What a value is, type by type, so that ``==`` on the answer compares everything."""
    kind = type(value)
    if kind is float:
        return kind, struct.pack('>d', value)
    if kind in (list, tuple):
        return kind, [exact(item) for item in value]
    if kind is dict:
        return kind, [(exact(key), exact(item)) for key, item in value.items()]
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind is Markup:
        return kind, str.__str__(value)
    if kind is datetime:
        return kind, value, value.tzinfo, value.fold
    return kind, value


def nested(depth, wrap):
    value = 1
    for level in range(depth):
        value = wrap(level, value)
    return value


class Color(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


class Price(float):
    pass


Pair = collections.namedtuple('Pair', ['id', 'name'])


@tagged('post_install', '-at_install')
class TestRoundTrip(BaseCase):
    def assertKept(self, value):
        before = exact(value)
        data = pack(value)
        self.assertEqual(exact(unpack(data)), before)
        self.assertEqual(exact(value), before, 'pack() must not change the value')
        return data

    @PROPERTY
    @given(VALUES)
    def test_any_value(self, value):
        data = self.assertKept(value)
        self.assertEqual(pack(unpack(data)), data, 'the same value gives the same bytes')

    @PROPERTY
    @given(tables(SCALARS))
    def test_any_table(self, value):
        self.assertKept(value)

    @PROPERTY
    @given(columns(SCALARS))
    def test_any_column(self, value):
        self.assertKept(value)

    def test_empty_and_falsy_values(self):
        for value in (None, False, True, 0, 0.0, '', b'', (), [], {}, Markup(''), Decimal(0)):
            with self.subTest(value=value):
                self.assertKept(value)
                self.assertKept([value, value])

    def test_floats_bit_by_bit(self):
        nan_with_content = struct.unpack('>d', bytes.fromhex('7ff8000000000abc'))[0]
        self.assertKept([float('nan'), nan_with_content, float('inf'), -float('inf'), -0.0, 5e-324])

    def test_integers_around_every_width(self):
        for bits in (5, 7, 8, 15, 16, 31, 32, 63, 64, 65, 2000):
            for value in (2**bits - 1, 2**bits, -(2**bits), -(2**bits) - 1):
                with self.subTest(bits=bits, value=value):
                    self.assertKept(value)

    def test_true_is_not_one(self):
        self.assertKept([True, 1, 1.0, False, 0, 0.0])
        self.assertKept([{1: 'integer'}, {True: 'boolean'}, {1.0: 'float'}, {'1': 'text'}])

    def test_rows_whose_keys_are_equal_but_of_other_types(self):
        rows = [{1: 'a'}, {True: 'b'}] * codec.COLUMNS_MIN_ROWS
        self.assertKept(rows)
        self.assertRaises(Unserializable, pack, [{'a': 1}, {Name('a'): 1}] * 20)

    def test_rows_in_different_orders_keep_them(self):
        self.assertKept([{'a': 1, 'b': 2}, {'b': 2, 'a': 1}] * codec.COLUMNS_MIN_ROWS)

    def test_rows_without_keys_and_without_items(self):
        self.assertKept([{}] * 20)
        self.assertKept([()] * 20)
        self.assertKept([[]] * 20)

    def test_lists_and_tuples_are_told_apart(self):
        self.assertKept([[1, 2], (1, 2), [(1, 2)], ([1, 2],), ((),), [[]], ()])

    def test_unusual_text(self):
        for text in ('\x00', '\u200f', 'e\u0301', '\U0001f600', '\ud800', '\udfff\ud800', '\uffff'):
            with self.subTest(text=ascii(text)):
                self.assertKept(text)
                self.assertKept([{text: Markup(text), 'other': n} for n in range(20)])

    def test_dates_far_away(self):
        self.assertKept([datetime.min, datetime.max, datetime(2024, 2, 29, 23, 59, 59, 1), False])
        self.assertKept([date.min, date.max, None])
        self.assertKept(datetime(1, 1, 1))

    def test_decimals_keep_digits_and_signs(self):
        texts = ('1.10', '-0', '0E-7', '1E+30', 'NaN', '-NaN123', 'sNaN', '-Infinity', '9' * 60)
        self.assertKept([Decimal(text) for text in texts])

    def test_web_search_read(self):
        self.assertKept(
            {
                'length': 80,
                'records': [
                    {
                        'id': number,
                        'name': f'Product {number}',
                        'list_price': number + 0.5,
                        'active': number % 2 == 0,
                        'create_date': datetime(2026, 1, 1, 12, number % 60),
                        'date': number % 3 and date(2026, 1, 1 + number % 28),
                        'description': number % 5 and Markup('<p>%s</p>') % number,
                        'company_id': number % 4 and {'id': number, 'display_name': 'Company'},
                        'tag_ids': list(range(number % 4)),
                        'image': b'\x89PNG' * number,
                        'order_line': [
                            {'id': line, 'product_id': (line, 'x'), 'date': date(2026, 1, 1)}
                            for line in range(number % 3)
                        ],
                        'properties': [
                            {'name': 'a', 'type': 'many2one', 'value': (number, 'x')},
                            {'name': 'b', 'type': 'char', 'value': False, 'default': ''},
                        ],
                    }
                    for number in range(80)
                ],
            }
        )

    def test_read_with_pairs_and_holes(self):
        rows = [
            {'id': n, 'partner_id': n % 2 and (n, f'Partner {n}'), 'res': None} for n in range(40)
        ]
        self.assertKept(rows)

    def test_grouped_read(self):
        self.assertKept(
            [
                {
                    'date:month': ('2026-01-01', 'January 2026'),
                    'partner_id': (7, 'Azure'),
                    '__extra_domain': ['&', ('date', '>=', '2026-01-01'), ('partner_id', '=', 7)],
                    '__count': 3,
                    'amount:sum': 12.5,
                }
            ]
            * 30
        )
        self.assertKept({1: {'name': 'x'}, 2: {'name': 'y'}})
        self.assertKept({(1, 'a'): [(2, date(2026, 1, 1))], (1, 'b'): []})

    def test_every_call_gives_a_new_value(self):
        value = [
            {'id': n, 'tags': [n], 'partner': {'id': 1, 'display_name': 'x'}} for n in range(20)
        ]
        data = pack(value)
        changed = unpack(data)
        for row in changed:
            row['tags'].append('changed')
            row['partner']['id'] = 'changed'
            row['id'] = 'changed'
        self.assertEqual(unpack(data), value)

    def test_shared_parts_are_separate_afterwards(self):
        shared = {'id': 1, 'display_name': 'x'}
        first, second = unpack(pack([shared, shared]))
        self.assertIsNot(first, second)

    def test_bytes_like_input(self):
        data = pack([1, 'x'])
        self.assertEqual(unpack(memoryview(data)), [1, 'x'])
        self.assertEqual(unpack(bytearray(data)), [1, 'x'])

    def test_deepest_value_on_a_deep_stack(self):
        wraps = (
            lambda level, value: [value],
            lambda level, value: [value, value] if level > 60 else (value,),
            lambda level, value: {level: value},
            lambda level, value: [{'a': value}, [value], (value,)][level % 3],
        )

        def deeper(frames, value):
            return deeper(frames - 1, value) if frames else self.assertKept(value)

        for wrap in wraps:
            deeper(200, nested(codec.MAX_DEPTH, wrap))


@tagged('post_install', '-at_install')
class TestRefusal(BaseCase):
    def assertRefused(self, value, path, kind):
        with self.assertRaises(Unserializable) as caught:
            pack(value)
        self.assertEqual((caught.exception.path, caught.exception.kind), (path, kind))
        self.assertIn(kind, str(caught.exception))

    def test_other_types(self):
        for value in (
            Color.RED,
            Name('a'),
            Price(1.0),
            Pair(1, 'a'),
            NewId(1),
            object(),
            LazyGettext('Name'),
            frozendict(a=1),
            collections.OrderedDict(a=1),
            collections.defaultdict(list),
            {1, 2},
            frozenset(),
            bytearray(b'a'),
            memoryview(b'a'),
            range(3),
            {}.keys(),
            iter([]),
            len,
            1j,
            datetime(2026, 1, 1).time(),
            msgpack.ExtType(1, b'a'),
            msgpack.Timestamp(1),
        ):
            kind = type(value).__name__
            with self.subTest(kind=kind):
                self.assertRefused(value, '', kind)
                self.assertRefused([value], '[0]', kind)
                self.assertRefused([value] * 20, '[0]', kind)
                self.assertRefused([False, value, value], '[1]', kind)
                self.assertRefused({'a': (1, [value])}, "['a'][1][0]", kind)
                rows = [{'id': n, 'value': n == 17 and value} for n in range(20)]
                self.assertRefused(rows, "[17]['value']", kind)

    def test_refused_key_is_found_in_its_dictionary(self):
        self.assertRefused([{'a': {Color.RED: 1}}], "[0]['a']", 'Color')
        self.assertRefused([{'a': {(1, Name('x')): 1}}], "[0]['a'][1]", 'Name')

    def test_datetimes_that_text_does_not_keep(self):
        aware = datetime(2026, 1, 1, tzinfo=timezone.utc)
        folded = datetime(2026, 1, 1, fold=1)
        for value in (aware, folded):
            self.assertRefused(value, '', 'datetime with time zone')
            self.assertRefused([datetime(2026, 1, 1), value], '[1]', 'datetime with time zone')

    def test_too_deep(self):
        for wrap in (
            lambda level, value: [value],
            lambda level, value: (value,),
            lambda level, value: {'a': value},
            lambda level, value: [{'a': value}, (value,)][level % 2],
        ):
            with self.assertRaises(Unserializable) as caught:
                pack(nested(codec.MAX_DEPTH + 1, wrap))
            self.assertEqual(caught.exception.kind, 'depth')

    def test_value_that_contains_itself_is_refused_at_once(self):
        for grow in (
            lambda value: value.extend([value, value, {}]),
            lambda value: value.extend([value] * 1000),
            lambda value: value.extend([{'a': value, 'b': 1}] * 1000),
            lambda value: value.extend([(value, 1), (value, 2)]),
        ):
            value = []
            grow(value)
            with self.assertRaises(Unserializable) as caught:
                pack(value)
            self.assertEqual(caught.exception.kind, 'depth')

    def test_too_large(self):
        with patch.object(codec, 'MAX_BODY_BYTES', 10_000):
            pack('x' * 9_900)
            self.assertRefused('x' * 10_000, '', 'size')


@tagged('post_install', '-at_install')
class TestCompression(BaseCase):
    def test_only_where_it_pays(self):
        text = 'Odoo ' * 1000
        self.assertLess(len(pack(text)), len(text) / 4)
        noise = b''.join(
            zlib.crc32(bytes([n % 256, n // 256])).to_bytes(4, 'big') for n in range(999)
        )
        self.assertLess(len(pack(noise)) - len(noise), 10)

    def test_small_values_stay_readable(self):
        text = 'Odoo ' * 100
        self.assertIn(text.encode(), pack(text))

    def test_rows_are_smaller_than_in_plain_msgpack(self):
        rows = [{'id': n, 'name': f'Product {n}', 'company_id': (1, 'Company')} for n in range(80)]
        self.assertLess(len(pack(rows)), len(msgpack.packb(rows)) / 3)


@tagged('post_install', '-at_install')
class TestCorruption(BaseCase):
    VALUE = [
        {'id': n, 'partner': n % 2 and (n, 'x'), 'date': date(2026, 1, 1), 'ids': [(n, 1)]}
        for n in range(20)
    ]

    def assertCorrupt(self, data):
        with self.assertRaises(CorruptPayload):
            unpack(data)

    def assertPlanCorrupt(self, plan, data):
        self.assertCorrupt(codec._HEADER_PLAIN + msgpack.packb([plan, data]))

    def survive(self, data):
        with contextlib.suppress(CorruptPayload):
            unpack(data)

    @PROPERTY
    @given(st.binary(max_size=64))
    def test_arbitrary_bytes(self, data):
        self.survive(data)
        self.survive(codec._HEADER_PLAIN + data)
        self.survive(codec._HEADER_PLAIN + b'\x92' + data)
        self.survive(codec._HEADER_COMPRESSED + data)
        self.survive(codec._HEADER_COMPRESSED + zlib.compress(data))

    @PROPERTY
    @given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
    def test_changed_byte(self, position, byte, compressed):
        plain = codec._HEADER_PLAIN + codec._to_msgpack(*codec._shape(self.VALUE, 0))
        data = bytearray(pack(self.VALUE) if compressed else plain)
        data[position % len(data)] = byte
        self.survive(bytes(data))

    @PROPERTY
    @given(
        st.recursive(
            st.integers(-2, 12) | st.none() | st.text(max_size=2) | st.binary(max_size=3),
            lambda items: (
                st.lists(items, max_size=4)
                | st.dictionaries(st.integers(-1, 3) | st.text(max_size=1), items, max_size=3)
            ),
            max_leaves=12,
        ),
        st.recursive(
            st.integers(-2, 9) | st.none() | st.text(max_size=2),
            lambda items: st.lists(items, max_size=4),
            max_leaves=12,
        ),
        st.sampled_from(sorted(codec._BUILDERS)),
    )
    def test_arbitrary_plans(self, rest, data, code):
        for plan in (rest, [code, rest], [code, rest, rest]):
            self.survive(codec._HEADER_PLAIN + msgpack.packb([plan, data]))

    def test_cut_off(self):
        data = pack(self.VALUE)
        for length in range(len(data)):
            self.assertCorrupt(data[:length])

    def test_followed_by_something(self):
        self.assertCorrupt(pack(self.VALUE) + b'x')
        self.assertCorrupt(pack(1) + b'x')

    def test_other_format_version(self):
        data = bytearray(pack(1))
        data[0] += 2
        self.assertCorrupt(bytes(data))

    def test_columns_of_different_lengths(self):
        for keys in (['a', 'b'], ['a', 'b', 'c']):
            columns = [[1, 2] for _key in keys]
            columns[-1].append(3)
            self.assertPlanCorrupt([codec._TABLE, {}, keys], columns)
            self.assertPlanCorrupt([codec._ROWS, {}], columns)

    def test_number_of_columns_differs_from_keys(self):
        self.assertPlanCorrupt([codec._TABLE, {}, ['a', 'b']], [[1]] * 3)
        self.assertPlanCorrupt([codec._TABLE, {}, ['a', 'b', 'c']], [[1]] * 2)
        self.assertPlanCorrupt([codec._TABLE, {}, ['a', 'b', 'c']], [[1]] * 4)

    def test_keys_that_are_no_keys(self):
        self.assertPlanCorrupt([codec._TABLE, {}, ['a', 'a']], [[1]] * 2)
        self.assertPlanCorrupt([codec._TABLE, {}, ['a', 'a', 'b']], [[1]] * 3)
        self.assertPlanCorrupt([codec._TABLE, {}, [1, 2, 3]], [[1]] * 3)
        self.assertPlanCorrupt([codec._DICT, None, None], [['a', 'a'], [1, 2]])
        self.assertPlanCorrupt([codec._DICT, None, None], [['a'], [1, 2]])
        self.assertPlanCorrupt([codec._DICT, None, None], [[['a']], [1]])

    def test_lengths_that_multiply(self):
        flat = [[None, None]] * 2
        rows = [codec._ROWS, {}]
        for lengths in ([2, -2, 2], [1], [3], [2**62], [1.0, 1.0], ['2'], []):
            with self.subTest(lengths=lengths):
                self.assertPlanCorrupt([codec._SPLIT, rows], [lengths, flat])

    def test_holes_that_do_not_fit(self):
        texts = [codec._TEXTS, codec._DATE]
        for mask in (b'', b'\x03\x03', b'\x00', b'\x04\x03', b'\xff\x03'):
            with self.subTest(mask=mask):
                self.assertPlanCorrupt([codec._HOLES, texts], [mask, ['2026-01-01']])

    def test_unknown_extension_types(self):
        for code in (0, 2, 127):
            self.assertCorrupt(
                codec._HEADER_PLAIN + msgpack.packb([None, msgpack.ExtType(code, b'')])
            )

    def test_endless_nesting(self):
        self.assertCorrupt(codec._HEADER_PLAIN + b'\x91' * 100_000)
        plan = data = None
        for _level in range(200):
            plan, data = [codec._TUPLE, plan], [data]
        self.survive(codec._HEADER_PLAIN + msgpack.packb([plan, data]))

    def test_announced_sizes_are_not_believed(self):
        self.assertBounded(codec._HEADER_PLAIN + b'\xdd\xff\xff\xff\xff' * 1000, 2**20)
        self.assertBounded(codec._HEADER_PLAIN + b'\xc6\xff\xff\xff\xff', 2**20)

    def test_bomb(self):
        bomb = codec._HEADER_COMPRESSED + zlib.compress(bytes(2**26), 1)
        with patch.object(codec, 'MAX_BODY_BYTES', 2**20):
            self.assertBounded(bomb, 2**22)

    def test_plain_body_that_is_too_large(self):
        with patch.object(codec, 'MAX_BODY_BYTES', 2**20):
            self.assertBounded(codec._HEADER_PLAIN + bytes(2**20 + 1), 2**16)

    def assertBounded(self, data, max_bytes):
        tracemalloc.start()
        try:
            self.assertCorrupt(data)
            _now, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak_bytes, max_bytes)
