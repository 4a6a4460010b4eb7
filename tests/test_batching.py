"""Merging of reads: what comes out is what each call gives alone."""

import collections
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odoo.tests import tagged
from odoo.tests.common import BaseCase

from ..services import batch, batching
from ..services.auditor import same
from ..services.batch_calls import Call
from ..services.domains import LocalDomains
from ..services.quiet import quiet
from .common import ADMIN, CacheCase

PROPERTY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=60,
    suppress_health_check=list(HealthCheck),
)


def read(ids, fields=('name',), **context):
    return Call('m', 'read', tuple(ids), {'fields': list(fields)}, context)


def search(domain, fields=('name',), **arguments):
    return Call(
        'm', 'search_read', None, {'domain': domain, 'fields': list(fields), **arguments}, {}
    )


class Table:
    """A database of 20 rows, 5 of which are gone; counts what it is asked."""

    rows = {id_: {'id': id_, 'name': f'n{id_ % 7}', 'even': not id_ % 2} for id_ in range(1, 21)}

    def __init__(self, forbidden=()):
        self.asked = []
        self.forbidden = set(forbidden)
        self.gone = {3, 6, 9, 12, 15}

    def __call__(self, call):
        self.asked.append(call)
        if call.method == 'read':
            if self.forbidden.intersection(call.ids):
                return batching.Failure(PermissionError(str(sorted(call.ids))))
            wanted = [id_ for id_ in call.ids if id_ in self.rows and id_ not in self.gone]
        else:
            wanted = [
                id_
                for id_ in sorted(self.rows)
                if id_ not in self.gone and holds(self.rows[id_], call.arguments['domain'])
            ]
        fields = ['id', *call.arguments['fields']]
        return [{name: self.rows[id_][name] for name in fields} for id_ in wanted]


def holds(row, domain):
    """A small evaluator of domains in prefix notation, with =, in and !=."""
    stack = []
    for item in reversed(batching.all_of(domain)):
        if item == '!':
            stack.append(not stack.pop())
        elif item in ('&', '|'):
            left, right = stack.pop(), stack.pop()
            stack.append((left and right) if item == '&' else (left or right))
        elif item == [1, '=', 1]:
            stack.append(True)
        else:
            name, operator, value = item
            is_in = row[name] in value if operator == 'in' else row[name] == value
            stack.append(is_in != (operator == '!='))
    assert len(stack) == 1
    return stack[0]


class TableDomains(batching.Domains):
    def __init__(self, table):
        self.table = table

    def normal(self, call):
        return call.arguments['domain']

    def order(self, call):
        return 'id'

    def select(self, call, domain, ids):
        return {id_ for id_ in ids if holds(self.table.rows[id_], domain)}


LEAVES = st.one_of(
    st.builds(lambda v: ['id', 'in', v], st.lists(st.integers(1, 25), min_size=1, max_size=4)),
    st.builds(lambda v: ['id', '=', v], st.integers(1, 25)),
    st.builds(lambda v: ['name', '=', v], st.sampled_from(['n1', 'n2', 'x'])),
    st.builds(lambda v: ['even', '!=', v], st.booleans()),
)
DOMAINS = st.recursive(
    st.lists(LEAVES, max_size=3),
    lambda inner: st.one_of(
        st.builds(
            lambda o, a, b: [o, *batching.all_of(a), *batching.all_of(b)],
            st.sampled_from('&|'),
            inner,
            inner,
        ),
        st.builds(lambda a: ['!', *batching.all_of(a)], inner),
    ),
    max_leaves=6,
)
CALLS = st.one_of(
    st.builds(
        read, st.lists(st.integers(1, 25), max_size=5), st.sampled_from([('name',), ('even',)])
    ),
    st.builds(search, DOMAINS, st.sampled_from([('name',), ('even', 'name')])),
)


@tagged('post_install', '-at_install')
class TestBatching(BaseCase):
    @PROPERTY
    @given(st.lists(CALLS, max_size=8), st.sets(st.integers(1, 25), max_size=2))
    def test_merged_is_the_same_as_one_by_one(self, calls, forbidden):
        table = Table(forbidden)
        together = batching.run(calls, table, TableDomains(table))
        alone = [Table(forbidden)(call) for call in calls]
        self.assertEqual(list(map(plain, together)), list(map(plain, alone)))

    def test_equal_calls_are_made_once(self):
        table = Table()
        batching.run([search([])] * 5 + [read([1])] * 5, table, TableDomains(table))
        self.assertEqual(len(table.asked), 2)
        table = Table()  # what is not merged either, and other objects
        batching.run([search([], limit=2) for _turn in range(3)], table, TableDomains(table))
        self.assertEqual(len(table.asked), 1)

    def test_reads_of_one_field_set_are_one_query(self):
        table = Table()
        calls = [
            read([1, 2]),
            read([2, 4]),
            read([4, 1], ['even']),
            read([5]),
            read([1], lang='fr'),
        ]
        answers = batching.run(calls, table, TableDomains(table))
        self.assertEqual([call.ids for call in table.asked], [(1, 2, 4, 5), (4, 1), (1,)])
        self.assertEqual([row['id'] for row in answers[1]], [2, 4])

    def test_searches_by_id_are_one_query_and_dealt_out_by_id(self):
        table = Table()
        domains = batching.Domains()
        calls = [
            search([['id', '=', 1]], order='id'),
            search([['id', 'in', [2, 1]]], order='id'),
            search([['name', '=', 'n1']], order='id'),
        ]
        answers = batching.run(calls, table, domains)
        self.assertEqual(len(table.asked), 2)  # a domain that cannot be evaluated runs alone
        self.assertEqual([row['id'] for row in answers[1]], [1, 2])

    def test_what_has_a_limit_an_offset_or_another_order_runs_alone(self):
        for arguments in ({'limit': 1}, {'offset': 1}):
            table = Table()
            calls = [search([['id', '=', id_]], **arguments) for id_ in (1, 2)]
            batching.run(calls, table, TableDomains(table))
            self.assertEqual(len(table.asked), 2, arguments)

    def test_what_finds_too_much_together_is_asked_one_by_one(self):
        self.patch(batching, 'ROWS', 4)
        table = Table()
        calls = [search([['name', '=', name]]) for name in ('n1', 'n2', 'n4')]
        answers = batching.run(calls, table, TableDomains(table))
        self.assertEqual(len(table.asked), 4)
        self.assertEqual([[row['id'] for row in rows] for rows in answers][0], [1, 8])

    def test_nobody_is_handed_the_union(self):
        table = Table()
        calls = [search([['name', '=', 'n1']]), search([['even', '!=', True]])]
        answers = batching.run(calls, table, TableDomains(table))
        self.assertEqual(len(table.asked), 1)
        self.assertEqual([row['id'] for row in answers[0]], [1, 8])

    def test_one_that_may_not_be_read_fails_alone(self):
        table = Table(forbidden={2})
        answers = batching.run([read([1]), read([2]), read([4])], table, TableDomains(table))
        self.assertIsInstance(answers[1], batching.Failure)
        self.assertEqual([row['id'] for row in answers[0] + answers[2]], [1, 4])

    def test_orders_without_the_id_are_not_complete(self):
        self.assertTrue(batching.is_complete('name, id desc'))
        self.assertTrue(batching.is_complete('ID'))
        for order in ('name', '', 'partner_id', 'identity', 'id2'):
            self.assertFalse(batching.is_complete(order), order)


def plain(answer):
    return str(answer.error) if isinstance(answer, batching.Failure) else answer


@tagged('post_install', '-at_install')
class TestMergedReads(CacheCase):
    """Against the ORM: random domains, fields, users and languages, in one transaction."""

    ROUNDS = 150

    FIELDS = {
        'res.partner': ['name', 'parent_id', 'is_company', 'color', 'type', 'country_id', 'ref'],
        'res.bank': ['name', 'bic', 'country', 'active'],
        'res.country.state': ['name', 'code', 'country_id'],
        'res.users': ['login', 'name', 'active', 'company_id'],
        # "model_id" by delegation
        'ir.cron': ['interval_type', 'active', 'user_id', 'model_id'],
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.commit(lambda env: env['res.lang']._activate_lang('fr_FR'))
        parent = cls.make_for_class('res.partner', {'name': 'A parent', 'is_company': True})
        for number in range(6):
            values = {
                'name': f'Child {number % 3}',
                'parent_id': parent if number % 2 else False,
                'active': number % 4 != 0,
                'color': number % 3,
                'ref': f'r{number}' if number % 2 else False,
            }
            cls.make_for_class('res.partner', values)
            cls.make_for_class('res.bank', {'name': f'Bank {number % 3}', 'bic': f'B{number % 2}'})
        cls.users = [
            cls.make_for_class(
                'res.users',
                {'name': login, 'login': login, 'group_ids': [(6, 0, [cls.group(group)])]},
            )
            for login, group in (('tc_m1', 'base.group_user'), ('tc_m2', 'base.group_portal'))
        ]

    @classmethod
    def group(cls, name):
        return cls.commit(lambda env: env.ref(name).id)

    def leaf(self, chance, env, model):
        fields = env[model]._fields
        name = chance.choice(['id', *self.FIELDS[model]])
        kind = 'id' if name == 'id' else fields[name].type
        if kind == 'boolean':
            return [name, chance.choice(['=', '!=']), chance.choice([True, False])]
        if kind in ('id', 'many2one', 'integer'):
            operator = chance.choice(['=', '!=', 'in', 'not in', '>', '<'])
            if kind == 'id':
                pool = self.ids[model]
            elif kind == 'integer':
                pool = [0, 1, 2]
            else:
                pool = [*self.values(env, model, name), False]
            if operator in ('in', 'not in'):
                return [name, operator, chance.sample(pool, min(len(pool), chance.randint(1, 4)))]
            value = chance.choice(pool)
            return [name, operator if value is not False else '=', value]
        pool = [*self.values(env, model, name), False, '', 'nothing']
        operator = chance.choice(['=', 'in', '!=', 'ilike', 'not in'])
        if operator in ('in', 'not in'):
            return [name, operator, chance.sample(pool, 2)]
        return [
            name,
            operator,
            chance.choice(pool) or 'x' if operator == 'ilike' else chance.choice(pool),
        ]

    def values(self, env, model, name):
        found = env[model].with_user(ADMIN).with_context(active_test=False).search([], limit=40)
        values = [v.id if hasattr(v, 'id') else v for v in (row[name] for row in found)]
        return sorted({v for v in values if v}, key=str) or [1]

    def domain(self, chance, env, model):
        domain = [self.leaf(chance, env, model) for _ in range(chance.randint(0, 2))]
        if chance.random() < 0.4:
            other = [self.leaf(chance, env, model)]
            domain = [chance.choice('|&'), *batching.all_of(domain), *other]
        if chance.random() < 0.15:
            domain = ['!', *batching.all_of(domain)]
        return domain

    def exact(self, chance, env, model):
        """A domain of conditions that may be merged, as far as there are some by chance."""
        for _try in range(20):
            domain = self.domain(chance, env, model)
            call = Call(model, 'search_read', None, {'domain': domain}, {})
            if LocalDomains(env).normal(call) is not None:
                break
        return domain

    def calls(self, chance, env):
        model = chance.choice(list(self.FIELDS))
        context = chance.choice([{}, {'lang': 'fr_FR'}, {'active_test': False}])
        names = self.FIELDS[model]
        fields = chance.sample(names, 2)
        order = chance.choice([None, 'id', 'id desc', 'name, id'])
        simple = chance.random() < 0.6
        counted = [name for name in names if env[model]._fields[name].type == 'many2one']
        if counted and chance.random() < 0.3:
            name = chance.choice(counted)
            pool = [*self.values(env, model, name), 10**6]
            for value in chance.choices(pool, k=chance.randint(2, 5)):
                arguments = {'domain': [[name, '=', value]]}
                yield Call(model, 'search_count', None, arguments, context)
        for _call in range(chance.randint(2, 6)):
            arguments = {'fields': fields if chance.random() < 0.8 else names[:1]}
            if chance.random() < 0.4:
                ids = chance.choices([*self.ids[model], 10**6], k=chance.randint(0, 4))
                yield Call(model, 'read', tuple(ids), arguments, context)
                continue
            if simple and chance.random() < 0.5:
                ids = chance.sample(self.ids[model], min(3, len(self.ids[model])))
                arguments['domain'] = [['id', 'in', ids]]
            elif simple:
                arguments['domain'] = self.exact(chance, env, model)
            else:
                arguments['domain'] = self.domain(chance, env, model)
            if order and not (model == 'res.users' and order == 'name, id'):
                arguments['order'] = order
            if chance.random() < 0.1:
                arguments['limit'] = 2
            yield Call(model, 'search_read', None, arguments, context)

    def test_a_merged_batch_equals_the_calls_one_by_one(self):
        merged = collections.Counter()
        for seed in range(self.ROUNDS):
            chance = random.Random(seed)  # noqa: S311 reproducible, not secret
            uid = chance.choice([ADMIN, *self.users])
            with self.request(uid, commit=False) as env:
                merged.update(self.compare(env, chance, seed))
        for kind in ('read', 'ids', 'or', 'count'):
            self.assertGreater(merged[kind], self.ROUNDS // 20, merged)

    def compare(self, env, chance, seed):
        """Random calls, merged and alone; returns how they were merged."""
        self.ids = {
            model: env[model].with_user(ADMIN).with_context(active_test=False)
            .search([], limit=30, order='id desc')._ids
            for model in self.FIELDS
        }  # fmt: skip
        calls = list(self.calls(chance, env))
        env.invalidate_all()
        budget = batch.Budget(env.cr, 60)
        budget.prepare()
        maker, domains = batch._Maker(env, budget), LocalDomains(env)
        plans = batching.plan(list(enumerate(calls)), domains)
        with quiet():
            together = self.plain(lambda _env: batching.run(calls, maker, domains), env)
            for call, answer in zip(calls, together, strict=True):
                env.invalidate_all()
                alone = self.plain(lambda _env, call=call: maker(call), env)
                if isinstance(alone, batching.Failure):
                    self.assertIsInstance(answer, batching.Failure, (seed, call))
                    self.assertIs(type(answer.error), type(alone.error), (seed, call))
                else:
                    self.assertTrue(same(answer, alone), (seed, env.uid, call, answer, alone))
        return [group.kind for group in plans]

    def test_counts_by_a_field_of_delegation_are_one_query(self):
        calls = [
            Call('ir.cron', 'search_count', None, {'domain': [['model_id', '=', id_]]}, {})
            for id_ in range(1, 6)
        ]
        with self.request() as env:
            domains = LocalDomains(env)
            self.assertEqual(domains.counted_by(calls[0]), 'model_id')
            (group,) = batching.plan(list(enumerate(calls)), domains)
            self.assertEqual(group.kind, 'count')
            limited = [c._replace(arguments={**c.arguments, 'limit': 1}) for c in calls]
            plans = batching.plan(list(enumerate(limited)), domains)
            self.assertEqual({group.kind for group in plans}, {'one'})
            for domain in (
                [['model_id', '!=', 1]],
                [['model_id', '=', False]],
                [['model_id', '=', 'x']],
                [['model_id', 'in', [1]]],
                [['model_id', '=', 1], ['active', '=', True]],
                [['model_id.name', '=', 1]],
                [['active', '=', 1]],
                [],
            ):
                other = calls[0]._replace(arguments={'domain': domain})
                self.assertIsNone(domains.counted_by(other), domain)

    def test_fields_that_a_record_does_not_tell_as_postgresql_does_are_not_merged(self):
        with self.request() as env:
            domains = LocalDomains(env)
            for model, leaf in (
                ('res.country', ['name', '=', 'Belgium']),  # translated
                ('ir.cron', ['model_id', '=', 1]),  # of another table
                ('res.partner', ['commercial_company_name', 'ilike', 'x']),
                ('res.partner', ['is_public', '=', True]),  # computed
                ('res.partner', ['country_id.code', '=', 'BE']),
            ):
                call = Call(model, 'search_read', None, {'domain': [leaf]}, {})
                self.assertIsNone(domains.normal(call), leaf)

    def test_models_with_code_of_their_own_are_not_merged(self):
        with self.request() as env:
            domains = LocalDomains(env)
            call = Call('res.users', 'read', (1,), {'fields': ['login']}, {})
            self.assertFalse(domains.may_merge(call))
            self.assertTrue(domains.may_merge(call._replace(model='res.bank')))
            self.assertFalse(domains.may_merge(Call('ir.attachment', 'search_read', None, {}, {})))
