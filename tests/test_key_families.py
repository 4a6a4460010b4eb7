"""Families of keys: no two parts give one key, and no part breaks out of its place."""

import copy
import pathlib
import re
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odoo.tests import tagged
from odoo.tests.common import BaseCase

from ..services import key_families, keys
from ..services.key_families import CacheKeyBuilder, Families, read_part, write_part
from ..services.keys import InvalidKey, Unkeyable

DOCS = pathlib.Path(__file__).parent.parent / 'docs'

PARTS = st.one_of(st.integers(), st.text(max_size=30), st.text('0123456789-+:*?[]@% é\x00\n'))
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.one_of(st.text(), st.integers()), inner)
    ),
    max_leaves=10,
)

PROPERTY = settings(
    max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def examples(page):
    """The Python examples of a page."""
    return re.findall(r'```python\n(.*?)```', (DOCS / page).read_text(), re.DOTALL)


def reordered(value):
    """Equal, with every dictionary in the other order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return list(map(reordered, value))
    return value


@tagged('post_install', '-at_install')
class TestParts(BaseCase):
    @PROPERTY
    @given(PARTS)
    def test_a_part_can_be_read_back_with_its_type(self, part):
        found = read_part(write_part(part))
        self.assertEqual((type(found), found), (type(part), part))

    @PROPERTY
    @given(PARTS, PARTS)
    def test_two_different_parts_never_give_one_text(self, one, other):
        same = type(one) is type(other) and one == other
        self.assertEqual(write_part(one) == write_part(other), same)

    @PROPERTY
    @given(PARTS)
    def test_a_part_holds_no_separator_no_wildcard_and_is_not_empty(self, part):
        text = write_part(part)
        self.assertRegex(text, r'\A[A-Za-z0-9._~%-]+\Z')

    def test_what_people_type_is_left_as_it_is(self):
        for part, text in ((42, '42'), (-7, '-7'), ('main', 'main'), ('EUR-2.5_x~', 'EUR-2.5_x~')):
            self.assertEqual(write_part(part), text)

    def test_a_text_that_looks_like_a_number_is_another_part(self):
        self.assertEqual((write_part('42'), write_part('-42')), ('%342', '%2D42'))
        self.assertEqual(write_part('042'), '042')  # no number is written like that

    def test_only_whole_numbers_and_texts_are_parts(self):
        class Text(str):
            pass

        for part in (True, None, 1.0, b'a', ('a',), Text('a')):
            with self.subTest(part=part), self.assertRaises(Unkeyable):
                write_part(part)

    def test_what_is_never_written_is_not_read(self):
        for text in ('', '%c3%a9', '%41', '%FF', '+1', 'a:b', '%zz', '%342%', '9' * 5000):
            with self.subTest(text=text), self.assertRaises(InvalidKey):
                read_part(text)


@tagged('post_install', '-at_install')
class TestDigest(BaseCase):
    @PROPERTY
    @given(ANYTHING)
    def test_the_order_of_dictionaries_does_not_count_at_any_depth(self, value):
        self.assertEqual(key_families.digest(value), key_families.digest(reordered(value)))

    def test_types_count(self):
        values = (
            True,
            1,
            1.0,
            '1',
            b'1',
            None,
            False,
            0,
            '',
            [],
            {},
            [None],
            {'a': 1},
            {'a': True},
        )
        self.assertEqual(len({key_families.digest(value) for value in values}), len(values))

    def test_the_order_of_lists_counts(self):
        self.assertNotEqual(key_families.digest([1, 2]), key_families.digest([2, 1]))

    def test_it_has_128_bits(self):
        self.assertRegex(key_families.digest({}), r'\A[0-9a-f]{32}\Z')

    def test_what_has_no_form_has_no_digest(self):
        endless = []
        endless.append(endless)
        for value in (object(), endless, {'a': {'b': len}}):
            with self.assertRaises(Unkeyable):
                key_families.digest(value)


@tagged('post_install', '-at_install')
class TestBuilder(BaseCase):
    def setUp(self):
        super().setUp()
        self.keys = CacheKeyBuilder()

    def test_every_family_has_its_place_in_the_hierarchy(self):
        build, filters = self.keys, {'active': True}
        for key, expected in (
            (build.supplier_list(filters), r'v1:supplier:list:[0-9a-f]{32}'),
            (build.supplier_detail(42), 'v1:supplier:detail:42'),
            (build.supplier_products(42, 3), 'v1:supplier:products:42:3'),
            (build.order_sync(7), 'v1:order:sync:7'),
            (build.order_mapping('S0007'), 'v1:order:mapping:S0007'),
            (build.order_status(7), 'v1:order:status:7'),
            (build.product_catalog(5), 'v1:product:catalog:5'),
            (build.product_detail(9), 'v1:product:detail:9'),
            (build.search_results("chair", filters), r'v1:search:results:[0-9a-f]{32}'),
            (build.user_session(2), 'v1:user:2:session'),
            (build.user_permissions(2), 'v1:user:2:permissions'),
            (build.system_config('currency'), 'v1:system:config:currency'),
            (build.integration_health('shop'), 'v1:integration:health:shop'),
        ):
            self.assertRegex(key, rf'\A{expected}\Z')
            keys.validate_key(key)

    def test_no_filters_are_no_filters_however_they_are_given(self):
        self.assertEqual(self.keys.supplier_list(), self.keys.supplier_list({}))

    def test_filters_and_query_of_a_search_both_count(self):
        found = {
            self.keys.search_results("a", {'x': 1}),
            self.keys.search_results("a", {'x': True}),
            self.keys.search_results("b", {'x': 1}),
            self.keys.search_results("a"),
        }
        self.assertEqual(len(found), 4)

    def test_patterns_match_their_family_and_no_other(self):
        build = self.keys
        every = [
            build.supplier_detail(4),
            build.supplier_detail(42),
            build.supplier_products(4, 1),
            build.order_status(4),
            build.user_session(4),
            build.user_permissions(4),
            build.user_session(42),
        ]
        for pattern, expected in (
            (build.suppliers(), every[:3]),
            (build.orders(), every[3:4]),
            (build.user(4), every[4:6]),
            (build.namespace('user'), every[4:]),
            (build.pattern('supplier:detail'), every[:2]),
            (build.pattern('supplier:products', supplier=4), every[2:3]),
        ):
            matches = keys.compile_pattern(pattern).fullmatch
            self.assertEqual(list(filter(matches, every)), expected, pattern)

    @PROPERTY
    @given(PARTS, PARTS)
    def test_a_pattern_for_one_part_matches_no_other_part(self, one, other):
        pattern = self.keys.pattern('supplier:products', supplier=one)
        key = self.keys.key('supplier:products', supplier=other, page=1)
        same = type(one) is type(other) and one == other
        self.assertEqual(bool(keys.compile_pattern(pattern).fullmatch(key)), same)

    @PROPERTY
    @given(PARTS, PARTS)
    def test_keys_can_be_read_back(self, supplier, page):
        key = self.keys.key('supplier:products', supplier=supplier, page=page)
        for variant in ('', '@' + '0' * 32):
            self.assertEqual(
                self.keys.parse(key + variant),
                ('supplier:products', {'supplier': supplier, 'page': page}),
            )

    def test_a_key_of_no_family_is_not_read(self):
        for key in ('v1:supplier', 'v2:supplier:detail:42', 'v1:orm:res.partner:read:0', ''):
            with self.assertRaises(InvalidKey):
                self.keys.parse(key)

    def test_other_parts_than_the_family_has_are_refused(self):
        for parts in ({}, {'supplier': 1, 'page': 2, 'more': 3}, {'supplier': 1}):
            with self.assertRaises(TypeError):
                self.keys.key('supplier:products', **parts)

    def test_a_key_that_leaves_no_room_for_a_variant_is_refused(self):
        self.keys.system_config('x' * (key_families.MAX_NAME_CHARACTERS - len('v1:system:config:')))
        with self.assertRaises(InvalidKey):
            self.keys.system_config('x' * key_families.MAX_NAME_CHARACTERS)

    def test_a_namespace_is_a_word(self):
        for name in ('', '*', 'a:b', 'A', 'a@b'):
            with self.assertRaises(InvalidKey):
                self.keys.namespace(name)


@tagged('post_install', '-at_install')
class TestKeysPage(BaseCase):
    def test_the_examples_of_the_page_run(self):
        self.patch(key_families, 'FAMILIES', copy.deepcopy(key_families.FAMILIES))
        with patch.object(CacheKeyBuilder.__init__, '__defaults__', (key_families.FAMILIES,)):
            for example in examples('keys.md'):
                exec(example, {})  # noqa: S102 - our own page

    def test_the_page_names_every_family(self):
        page = (DOCS / 'keys.md').read_text()
        for family in key_families.FAMILIES:
            self.assertIn(f'| `{family.name}` |', page)


@tagged('post_install', '-at_install')
class TestFamilies(BaseCase):
    def setUp(self):
        super().setUp()
        self.families = Families()
        self.register('supplier:detail', ['supplier'])

    def register(self, name, parts=(), template='', documentation="For a test."):
        return self.families.register(name, parts, template=template, documentation=documentation)

    def test_a_module_adds_its_own(self):
        self.register('crate:content', ['crate', 'shelf'])
        build = CacheKeyBuilder(self.families)
        self.assertEqual(build.key('crate:content', crate=1, shelf='a'), 'v1:crate:content:1:a')

    def test_a_name_that_is_taken_is_refused(self):
        with self.assertRaisesRegex(ValueError, 'already'):
            self.register('supplier:detail', ['supplier', 'other'])

    def test_templates_that_could_give_one_key_are_refused(self):
        for name, parts, template in (
            ('supplier:other', ['x'], 'supplier:detail:{x}'),
            ('supplier:any', ['kind'], 'supplier:{kind}:detail'),
            ('supplier:all', ['a', 'b'], 'supplier:{a}:{b}'),
        ):
            with self.subTest(template), self.assertRaisesRegex(ValueError, 'may also'):
                self.register(name, parts, template)

    def test_what_is_no_family_is_refused(self):
        for name, parts, template, documentation in (
            ('Crate', (), '', "x"),
            ('crate:', (), '', "x"),
            ('', (), '', "x"),
            ('orm:thing', (), '', "x"),
            ('crate', (), '', " "),
            ('crate', ('a', 'a'), '', "x"),
            ('crate', ('a',), 'crate:{b}', "x"),
            ('crate', ('a',), 'crate', "x"),
            ('crate', ('a',), '{a}:crate', "x"),
            ('crate', ('a',), 'crate:x{a}', "x"),
        ):
            with self.subTest(name=name, parts=parts), self.assertRaises(ValueError):
                self.register(name, parts, template, documentation)
        self.assertEqual([family.name for family in self.families], ['supplier:detail'])

    def test_an_unknown_family_says_which_there_are(self):
        with self.assertRaisesRegex(KeyError, 'supplier:detail'):
            CacheKeyBuilder(self.families).key('suplier:detail', supplier=1)

    def test_no_two_of_the_addon_overlap_and_all_say_what_they_are(self):
        again = Families()
        for family in key_families.FAMILIES:
            again.register(
                family.name,
                family.parts,
                template=family.template,
                documentation=family.documentation,
            )
