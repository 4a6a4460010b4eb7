"""Which column of an answer reads a table, and whether anybody saw the change."""

from odoo.tests import TransactionCase, tagged

from ..services import columns
from .common import CacheCase


@tagged('post_install', '-at_install')
class TestOnlyReader(TransactionCase):
    def reader(self, model, wanted, relation):
        return columns.only_reader(self.env[model], wanted, relation)

    def test_one_of_several_columns(self):
        self.assertEqual(
            self.reader('res.partner', ['name', 'email', 'country_id'], 'res_country'), 'country_id'
        )

    def test_two_that_read_it(self):
        wanted = ['name', 'country_id', 'country_code']  # the second is related to the first
        self.assertEqual(self.reader('res.partner', wanted, 'res_country'), '')

    def test_the_only_column_is_not_one_too_many(self):
        self.assertEqual(self.reader('res.partner', ['country_id'], 'res_country'), '')

    def test_its_own_table(self):
        self.assertEqual(self.reader('res.partner', ['name', 'parent_id'], 'res_partner'), '')
        self.assertEqual(self.reader('res.users', ['login', 'partner_id'], 'res_partner'), '')

    def test_what_a_specification_goes_into(self):
        wanted = {'name': {}, 'state_id': {'fields': {'country_id': {}}}, 'title_of': {}}
        self.assertEqual(self.reader('res.partner', wanted, 'res_country'), 'state_id')

    def test_the_name_of_a_record_may_read_more(self):
        # a state is shown with the code of its country
        wanted = ['name', 'state_id', 'country_id']
        self.assertEqual(self.reader('res.partner', wanted, 'res_country'), '')

    def test_the_table_between(self):
        self.assertEqual(
            self.reader(
                'res.partner', ['name', 'category_id'], 'res_partner_res_partner_category_rel'
            ),
            'category_id',
        )

    def test_nothing_reads_it(self):
        self.assertEqual(self.reader('res.partner', ['name', 'email'], 'res_country'), '')
        self.assertEqual(self.reader('res.partner', ['name', 'no_such'], 'res_country'), '')

    def test_what_a_call_asks_for(self):
        for method, args, kwargs, found in (
            ('read', (['name'],), {}, ['name']),
            ('search_read', ([], ['name']), {}, ['name']),
            ('search_read', ([],), {'fields': ['name']}, ['name']),
            ('web_search_read', ([], {'name': {}}), {}, {'name': {}}),
            ('web_read', (), {'specification': {'name': {}}}, {'name': {}}),
            ('search_read', ([],), {}, None),
            ('read', (), {'fields': None}, None),
            ('read', ('name',), {}, None),
            ('search_count', ([],), {}, None),
        ):
            with self.subTest(method=method, args=args, kwargs=kwargs):
                self.assertEqual(columns.asked(method, args, kwargs), found)


@tagged('post_install', '-at_install')
class TestSameAgain(CacheCase):
    """An answer that a change has made out of date, although it does not show it."""

    def setUp(self):
        super().setUp()
        belgium = self.commit(lambda env: env.ref('base.be').id)
        shown = {'name': "Here", 'code': 'X1', 'country_id': belgium}
        self.state = self.make('res.country.state', shown)
        self.other = self.make('res.country.state', {**shown, 'name': "There", 'code': 'X2'})
        self.bank = self.make('res.bank', {'name': "Bank", 'state': self.state})

    def answer(self, env):
        return env['res.bank'].browse(self.bank).read(['name', 'bic', 'state'])

    def change(self, state):
        self.commit(lambda env: env['res.country.state'].browse(state).write({'name': "New"}))

    def same_again(self, work=None):
        """Details of answers that came out the same, when they are asked for again."""
        self.log.drain()
        with self.assertMiss('stale'), self.request() as env:
            (work or self.answer)(env)
        return [
            (row['model'], row['method'], row['relation'], row['count'], row['calls'])
            for row in self.log.drain()
            if row['outcome'] == 'same'
        ]

    def test_what_it_does_not_show(self):
        self.warm(self.answer)
        self.change(self.other)
        self.assertEqual(
            self.same_again(), [('res.bank', 'read', 'res_country_state: state', 1, 0)]
        )

    def test_what_it_shows(self):
        self.warm(self.answer)
        self.change(self.state)
        self.assertEqual(self.same_again(), [])

    def test_its_own_table_has_no_column(self):
        other = self.make('res.bank', {'name': "Other"})
        self.warm(self.answer)
        self.commit(lambda env: env['res.bank'].browse(other).write({'bic': 'X'}))
        self.assertEqual(self.same_again(), [('res.bank', 'read', 'res_bank', 1, 0)])

    def test_what_every_answer_depends_on_has_no_column(self):
        def read(env):
            return env['res.bank'].browse(self.bank).read(['name', 'create_uid'])

        self.warm(read)
        self.commit(lambda env: env['res.users'].browse(env.uid).write({'signature': "New"}))
        self.assertEqual(
            [relation for *_call, relation, _n, _c in self.same_again(read)], ['res_users']
        )

    def test_it_does_not_change_the_hit_rate(self):
        self.warm(self.answer)
        self.change(self.other)
        before = self.engine.metrics.calls
        self.same_again()
        self.assertEqual(self.engine.metrics.calls, before + 1)
