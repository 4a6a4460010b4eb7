"""Different calls have different keys, equal calls equal ones; patterns match what they say."""

import collections
import re
import struct
import threading
import time
from datetime import date, datetime, timezone
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from odoo.fields import Domain
from odoo.models import BaseModel
from odoo.orm.identifiers import NewId
from odoo.tests.common import BaseCase, tagged
from odoo.tools import SQL, Query, frozendict
from odoo.tools.misc import OrderedSet

from ..services.keys import (
    Call,
    InvalidKey,
    Unkeyable,
    call_key,
    compile_pattern,
    pattern_prefix,
    redis_glob,
    sql_like,
    validate_key,
    validate_pattern,
)

PROPERTY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=150,
    suppress_health_check=list(HealthCheck),
)

# Few values, so that two calls are often equal in parts; every neighbour that could be mistaken.
ATOMS = st.sampled_from(
    [
        None, False, True, 0, 1, -1, 2**64, -(2**64), 0.0, -0.0, 1.0, float('nan'), float('inf'),
        '', '0', '1', 'a', 'None', '\ud800', b'', b'1', b'a', Markup('1'), Markup('a'),
        date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, fold=1), '2026-01-01',
        '2026-01-01T00:00:00/0', Decimal('1'), Decimal('1.0'), Decimal('NaN'), '10000000000000000',
    ]
)  # fmt: skip
HASHABLE = st.sampled_from([None, False, 1, 1.5, 'a', 'b', b'a', Markup('a'), date(2026, 1, 1)])
SETS = st.frozensets(HASHABLE | st.tuples(HASHABLE, HASHABLE), max_size=3)
VALUES = st.recursive(
    ATOMS | SETS,
    lambda items: (
        st.lists(items, max_size=3)
        | st.lists(items, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, items, max_size=3)
        | st.lists(HASHABLE, max_size=3).map(OrderedSet)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(['a', 'b', 'lang', 'limit'])
COMPANIES = st.lists(st.integers(1, 4), min_size=1, max_size=4, unique=True)


@st.composite
def calls(draw):
    companies = draw(COMPANIES)
    context = draw(st.dictionaries(NAMES, VALUES, max_size=2))
    context |= draw(st.sampled_from([{}, {'allowed_company_ids': companies}, {'uid': 3}]))
    return Call(
        registry_sequence=draw(st.integers(1, 2)),
        code_fingerprint=draw(st.sampled_from(['0123', '4567'])),
        model=draw(st.sampled_from(['res.partner', 'res.users'])),
        method=draw(st.sampled_from(['read', 'web_read'])),
        ids=draw(st.none() | st.lists(st.integers(1, 3), max_size=2).map(tuple)),
        args=tuple(draw(st.lists(VALUES, max_size=2))),
        kwargs=draw(st.dictionaries(NAMES, VALUES, max_size=2)),
        uid=draw(st.integers(1, 2)),
        su=draw(st.booleans()),
        rule_context=draw(st.sampled_from([(), (tuple(companies),), (None, 1)])),
        context=context,
        request=draw(st.none() | st.just(('localhost', None, '')) | st.just(('localhost', 1, ''))),
        dates=draw(st.sampled_from([(), ('2026-01-01',), ('2026-01-01', '2026-01-02')])),
    )


def meaning(value):
    """What a value means to a key, as nested tuples that are equal when the meanings are.

    Written without any thought of msgpack: the reference that keys are compared with.
    """
    kind = type(value)
    if kind is float:
        return 'float', struct.pack('>d', value)
    if kind in (list, tuple):
        return 'list', tuple(map(meaning, value))
    if kind is OrderedSet:
        return 'ordered set', tuple(map(meaning, value))
    if kind in (set, frozenset):
        return 'set', frozenset(map(meaning, value))
    if isinstance(value, dict):
        return 'dict', tuple((meaning(name), meaning(item)) for name, item in value.items())
    if kind is Decimal:
        return 'Decimal', value.as_tuple()
    if kind is datetime:
        return 'datetime', value.isoformat(), value.fold
    return kind.__name__, value if kind is not Markup else str(value)


def call_meaning(call):
    context = {name: call.context[name] for name in sorted(call.context)}
    kwargs = dict(sorted(call.kwargs.items()))
    return meaning(list(call._replace(context=context, kwargs=kwargs)))


def twin(value):
    """The same meaning in other objects."""
    kind = type(value)
    if kind is list:
        return tuple(map(twin, value))
    if kind is tuple:
        return list(map(twin, value))
    if kind is frozenset:
        return {element for element in reversed(list(value))}
    if kind is dict:
        return frozendict((name, twin(item)) for name, item in value.items())
    return value


def twin_call(call):
    context = {name: twin(item) for name, item in reversed(call.context.items())}
    return call._replace(
        args=tuple(map(twin, call.args)),
        kwargs={name: twin(item) for name, item in reversed(call.kwargs.items())},
        context=frozendict(context),
    )


def new_call(*args, **values) -> Call:
    return Call(
        **{
            'registry_sequence': 1,
            'code_fingerprint': '0123456789abcdef',
            'model': 'res.partner',
            'method': 'web_search_read',
            'ids': None,
            'args': args,
            'kwargs': {},
            'uid': 2,
            'su': False,
            'rule_context': ((1,),),
            'context': frozendict(lang='en_US', allowed_company_ids=[1]),
            'request': ('localhost:8069', None, ''),
            'dates': ('2026-01-01',),
            **values,
        }
    )


@tagged('post_install', '-at_install')
class TestCallKey(BaseCase):
    def assertSame(self, one: Call, other: Call):
        self.assertEqual(call_key(one), call_key(other))

    def assertDifferent(self, *different: Call):
        self.assertEqual(len(set(map(call_key, different))), len(different))

    def test_a_markup_is_not_the_text_that_it_holds(self):
        self.assertDifferent(new_call('a'), new_call(Markup('a')))

    def test_time_zones(self):
        zones = ('Europe/Brussels', 'Europe/Paris', None)
        self.assertDifferent(*(new_call()._replace(context={'tz': zone}) for zone in zones))

    @PROPERTY
    @given(calls(), calls())
    def test_keys_are_equal_exactly_when_calls_are(self, one, other):
        same = call_meaning(one) == call_meaning(other)
        self.assertEqual(call_key(one) == call_key(other), same)

    @PROPERTY
    @given(VALUES, VALUES)
    def test_arguments_are_equal_exactly_when_their_meanings_are(self, one, other):
        same = meaning(one) == meaning(other)
        self.assertEqual(call_key(new_call(one)) == call_key(new_call(other)), same)

    @PROPERTY
    @given(calls())
    def test_equal_calls_in_other_objects(self, call):
        self.assertEqual(call_meaning(twin_call(call)), call_meaning(call))
        self.assertSame(call, twin_call(call))

    @PROPERTY
    @given(calls(), calls())
    def test_every_field_counts(self, call, other):
        for field in Call._fields:
            changed = call._replace(**{field: getattr(other, field)})
            same = call_meaning(call) == call_meaning(changed)
            self.assertEqual(call_key(call) == call_key(changed), same, field)

    def test_form(self):
        self.assertRegex(
            call_key(new_call()), r'\Av1:orm:res\.partner:web_search_read:[0-9a-f]{32}\Z'
        )
        validate_key(call_key(new_call()))

    def test_same_key_in_every_process_and_version(self):
        # Workers share entries by key: an accidental change of the form must not go unnoticed.
        call = new_call([('name', 'ilike', 'x'), ('date', '>', date(2026, 1, 1))], {'name': {}})
        self.assertEqual(
            call_key(call), 'v1:orm:res.partner:web_search_read:791cce57469df557d19bc94d1752a23e'
        )

    def test_order_of_a_specification_counts(self):
        self.assertDifferent(new_call({'id': {}, 'name': {}}), new_call({'name': {}, 'id': {}}))

    def test_order_of_keyword_arguments_does_not(self):
        self.assertSame(
            new_call(kwargs={'limit': 80, 'offset': 0}), new_call(kwargs={'offset': 0, 'limit': 80})
        )

    def test_nesting_counts(self):
        self.assertDifferent(
            new_call(1, 2), new_call([1, 2]), new_call([1], 2), new_call([[1, 2]]), new_call(1, [2])
        )

    def test_no_ids_are_not_empty_ids(self):
        self.assertDifferent(new_call(), new_call(ids=()), new_call(ids=(1,)), new_call(ids=(1, 2)))

    def test_companies_have_an_order(self):
        def in_companies(*ids):
            return new_call(context={'allowed_company_ids': list(ids)}, rule_context=(ids,))

        self.assertDifferent(
            in_companies(1, 2, 3), in_companies(1, 3, 2), in_companies(2, 1, 3), in_companies(1, 2)
        )

    def test_nothing_in_the_context_is_noise(self):
        contexts = {}, {'params': {'id': 4}}, {'uid': 7}, {'uid': 8}, {'bin_size': True}
        self.assertDifferent(*(new_call(context=context) for context in contexts))

    def test_calls_are_not_changed(self):
        context = {'params': {}, 'allowed_company_ids': [1, 3, 2]}
        domain = [('a', 'in', {1})]
        call_key(new_call(domain, context=context))
        self.assertEqual(context, {'params': {}, 'allowed_company_ids': [1, 3, 2]})
        self.assertEqual(domain, [('a', 'in', {1})])

    def test_domains(self):
        condition = Domain('name', '=', 'a')
        other = Domain('name', '=', 'b')
        forms = [
            condition,
            other,
            ~Domain('name', 'like', 'a%b') & condition,
            condition & other,
            other & condition,
            condition | other,
            Domain.TRUE,
            Domain.FALSE,
            Domain('name', 'in', ['a']),
            Domain('name', 'in', OrderedSet(['a'])),
            Domain('parent_id', 'any', condition),
            Domain('parent_id', 'any', list(condition)),
            Domain('parent_id', 'any!', condition),
            [('name', '=', 'a')],
        ]
        self.assertDifferent(*map(new_call, forms))
        self.assertSame(new_call(condition), new_call(Domain('name', '=', 'a')))
        self.assertSame(
            new_call(condition & Domain('id', 'in', (1, 2))),
            new_call(Domain('name', '=', 'a') & Domain('id', 'in', [1, 2])),
        )

    def test_domain_is_not_the_list_that_it_iterates_to(self):
        # the list would be refused by Odoo, since "any!" bypasses access rights
        domain = Domain('parent_id', 'any!', Domain('name', '=', 'a'))
        self.assertDifferent(new_call(domain), new_call(list(domain)))

    def test_domain_that_counts_as_optimized_is_not_one_that_is_to_be_optimized(self):
        fresh, optimized = Domain('name', '=', 'a'), Domain('name', '=', 'a')
        # for one user and one company: Odoo does so in place
        object.__setattr__(optimized, '_opt_level', type(fresh._opt_level).FULL)
        self.assertDifferent(new_call(fresh), new_call(optimized))

    def test_what_has_no_key(self):
        query = Query(None, 'res_partner', SQL.identifier('res_partner'))
        for value in (
            NewId(1),
            query,
            SQL('SELECT 1'),
            len,
            lambda: None,
            iter([1]),
            (n for n in [1]),
            object(),
            object.__new__(BaseModel),
            datetime(2026, 1, 1, tzinfo=timezone.utc),
            collections.UserString('a'),
            type('Text', (str,), {})('a'),
            type('Number', (int,), {})(1),
            Domain('id', 'in', query),
            Domain('name', '=', 'a') & Domain.custom(to_sql=lambda *_args: SQL('TRUE')),
        ):
            with self.subTest(kind=type(value).__name__):
                for call in (
                    new_call(value),
                    new_call([('a', '=', value)]),
                    new_call(kwargs={'a': {'b': (value,)}}),
                    new_call(context={'a': [value]}),
                    new_call(ids=(value,)),
                ):
                    self.assertRaises(Unkeyable, call_key, call)

    def test_reason_names_the_type(self):
        with self.assertRaisesRegex(Unkeyable, 'NewId'):
            call_key(new_call([('id', '=', NewId(1))]))

    def test_value_that_contains_itself(self):
        endless = []
        endless.extend([endless, (endless,), endless])
        self.assertRaises(Unkeyable, call_key, new_call(endless))

    def test_names_that_are_no_text(self):
        self.assertRaises(Unkeyable, call_key, new_call(context={1: 1, 'a': 2}))

    def test_threads(self):
        call = new_call([('name', 'in', ('a', {'b'}))] * 50)
        expected = call_key(call)
        wrong = []

        def ask():
            wrong.extend(key for key in (call_key(call) for _n in range(200)) if key != expected)

        threads = [threading.Thread(target=ask) for _n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


@tagged('post_install', '-at_install')
class TestPatterns(BaseCase):
    TEXT = st.text(st.sampled_from('ab-^\\.%_éü'), min_size=1, max_size=4)
    PIECES = st.one_of(
        TEXT.map(lambda text: (text, text)),
        st.tuples(st.sampled_from(['*', '**']), st.just('') | TEXT),
        st.tuples(st.just('?'), st.sampled_from('a^é')),
        st.sampled_from(
            [
                *[('[ab]', 'b'), ('[a-c]', 'b'), ('[-b]', '-'), ('[a-]', '-'), ('[b^]', '^')],
                *[('[é-ü]', 'ê'), ('[\\-a]', '^'), ('[.%_]', '%'), ('[A-^]', '\\')],
            ]
        ),
    )
    # pairs of a pattern and a key that it matches
    PAIRS = st.lists(PIECES, min_size=1, max_size=6).map(
        lambda pieces: tuple(map(''.join, zip(*pieces, strict=True)))
    )

    def assertInvalid(self, check, text, message=''):
        with self.assertRaisesRegex(InvalidKey, message):
            check(text)

    def test_valid_keys(self):
        for key in ('v1:supplier:detail:42', 'x', 'x' * 512, 'Käse:日本', 'a b', 'a[1]*'):
            validate_key(key)

    def test_invalid_keys(self):
        for check in (validate_key, validate_pattern):
            self.assertInvalid(check, 'x' * 513, '512 characters; this one has 513')
            self.assertInvalid(check, '', 'empty')
            self.assertInvalid(check, '  ', 'empty')
            for key in ('a\x00b', 'a\nb', 'a\x7f', 'a\x85', 'a\u2028', '\ud800', '\u200f'):
                self.assertInvalid(check, key, 'control characters')
            for key in (None, 7, b'v1', ['v1'], False):
                self.assertInvalid(check, key, 'must be a text')

    def test_valid_patterns(self):
        for pattern in ('*', 'v1:*', 'v1:?', 'v1:[abc]', '[0-9]*', 'plain', '**', '[-a]', '[a^]'):
            validate_pattern(pattern)
            compile_pattern(pattern)

    def test_brackets_that_are_not_balanced(self):
        for pattern in ('v1:[ab', 'v1:ab]', '[', ']', '[[a]', '[a]]', '[[a]]', '][', 'a[b[c]'):
            self.assertInvalid(validate_pattern, pattern, 'not balanced')
            self.assertInvalid(compile_pattern, pattern)

    def test_sets_that_stand_for_nothing_or_for_everything_else(self):
        self.assertInvalid(validate_pattern, 'a[]', 'name the characters')
        self.assertInvalid(validate_pattern, '[^a]', 'not supported')
        self.assertInvalid(validate_pattern, '[!a]', 'not supported')
        self.assertInvalid(validate_pattern, '[z-a]', 'write "a-z"')

    def assertMatches(self, pattern, *, yes='', no=''):
        matches = compile_pattern(pattern).fullmatch
        self.assertEqual([key for key in yes.split() if not matches(key)], [])
        self.assertEqual([key for key in no.split() if matches(key)], [])

    def test_matching(self):
        self.assertMatches('v1:a:*', yes='v1:a: v1:a:1 v1:a:b:c', no='v1:a v1:ab:1 xv1:a:1')
        self.assertMatches('a?c', yes='abc a.c aéc', no='ac abbc abcd')
        self.assertMatches('[ab]*[0-9]', yes='a1 bxx9', no='c1 a 1 aé')
        self.assertMatches('a.c', yes='a.c', no='abc')
        self.assertMatches('*a*b', yes='ab xaxb aab abab', no='ba a b aba')
        self.assertMatches('[-.]x', yes='-x .x', no='ax')
        self.assertMatches('a\\b[\\]', yes='a\\b\\', no='ab a\\b')

    def test_whole_keys_only(self):
        self.assertIsNone(compile_pattern('a').match('ab'))
        self.assertIsNone(compile_pattern('a').match('a\n'))
        self.assertIsNone(compile_pattern('a*').search('ba'))

    def test_line_breaks_are_characters(self):
        self.assertTrue(compile_pattern('a*b?c').fullmatch('a\nb\nc'))

    @PROPERTY
    @given(PAIRS, PAIRS)
    def test_matching_by_definition(self, pair, other):
        pattern, key = pair
        self.assertTrue(compile_pattern(pattern).fullmatch(key))
        for near in (key[1:], key + 'a', other[1]):
            self.assertEqual(bool(compile_pattern(pattern).fullmatch(near)), matches(pattern, near))

    def test_many_asterisks_take_no_time(self):
        started = time.perf_counter()
        self.assertIsNone(compile_pattern('a*' * 250 + 'b').fullmatch('a' * 512))
        self.assertLess(time.perf_counter() - started, 5)

    def test_prefix(self):
        for pattern, prefix in {
            'v1:a:*': 'v1:a:',
            'v1:?': 'v1:',
            'a[bc]': 'a',
            '*': '',
            'plain': 'plain',
        }.items():
            self.assertEqual(pattern_prefix(pattern), prefix)

    @PROPERTY
    @given(PAIRS)
    def test_translations_miss_nothing(self, pair):
        pattern, key = pair
        self.assertTrue(key.startswith(pattern_prefix(pattern)))
        self.assertTrue(like_matches(sql_like(pattern), key))
        self.assertTrue(redis_matches(redis_glob(pattern, 'tc:[1]*:'), 'tc:[1]*:' + key))

    def test_like(self):
        self.assertEqual(sql_like('v1:a_b%\\:*[ab]?'), 'v1:a\\_b\\%\\\\:%__')

    def test_redis_glob(self):
        self.assertEqual(redis_glob('v1:a:*', 'tc:[x]?:'), 'tc:\\[x\\]\\?:v1:a:*')
        self.assertEqual(redis_glob('a[bc][0-9]*?d'), 'a[bc][0-9]*d')
        self.assertEqual(redis_glob('[é]a?[\\]'), '*a*')

    def test_redis_glob_has_few_asterisks(self):
        self.assertLess(redis_glob('a*' * 200).count('*'), 10)


def matches(pattern, key):
    """What a pattern means, by its definition: one character at a time, all alternatives."""
    if not pattern:
        return not key
    if pattern[0] == '*':
        return any(matches(pattern[1:], key[start:]) for start in range(len(key) + 1))
    if pattern[0] == '[':
        members, rest = pattern[1:].split(']', 1)
        return bool(key) and key[0] in expanded(members) and matches(rest, key[1:])
    return bool(key) and pattern[0] in ('?', key[0]) and matches(pattern[1:], key[1:])


def expanded(members):
    """The characters of a set, ranges written out."""
    if len(members) > 2 and members[1] == '-':
        first, last = ord(members[0]), ord(members[2])
        return [chr(code) for code in range(first, last + 1)] + expanded(members[3:])
    return [members[0], *expanded(members[1:])] if members else []


def like_matches(pattern, key):
    """PostgreSQL's LIKE."""
    parts = {'%': '.*', '_': '.'}
    regex = re.sub(
        r'(?s)\\(.)|(.)',
        lambda found: parts.get(found[2]) or re.escape(found[1] or found[2]),
        pattern,
    )
    return re.fullmatch(regex, key, re.DOTALL)


def redis_matches(pattern, key):
    """Redis' stringmatchlen(), on bytes, for what redis_glob() writes."""
    regex = re.sub(
        rb'(?s)\\(.)|(\*)|(\[(?:\\.|[^]])*\])|(.)',
        lambda found: found[2] and b'.*' or found[3] or re.escape(found[1] or found[4]),
        pattern.encode(),
    )
    return re.fullmatch(regex, key.encode(), re.DOTALL)
