"""``/cache/1/changes``: what changed since, by model and by id."""

from odoo.tests import new_test_user, tagged

from .api_case import ApiCase


@tagged('post_install', '-at_install')
class TestFollowing(ApiCase):
    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': 'Azure'})
        self.other = self.make('res.bank', {'name': 'Blue'})
        self.warm(lambda env: env['res.bank'].search_read([], ['name']))
        self.warm(lambda env: env['res.country'].search_read([], ['name', 'country_group_ids']))
        self.warm(lambda env: env['res.partner'].search_read([], ['name', 'category_id'], limit=1))
        self.warm(lambda env: env['res.users'].search_read([], ['group_ids', 'company_ids']))

    def ask(self, models, since='', **options):
        response = self.open(
            '/cache/1/changes', query_string={'models': models, 'since': since}, **options
        )
        self.assertEqual(response.status_code, 200, response.get_data(as_text=True))
        return response.json

    def follow(self, models):
        """A cursor after which nothing has changed."""
        for _attempt in range(8):
            cursor = self.ask(models)['cursor']
            found = self.ask(models, cursor)
            if not found['changed']:
                self.assertFalse(found['all'])
                return cursor
            self.settle()
        self.fail(found)

    def test_the_first_answer_says_that_everything_counts_as_changed(self):
        found = self.ask('res.bank,res.country')
        self.assertTrue(found['all'])
        self.assertEqual(found['changed'], {'res.bank': True, 'res.country': True})

    def test_only_what_changed_is_told_however_it_was_changed(self):
        cursor = self.follow('res.bank,res.country')
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.bank])
        found = self.ask('res.bank,res.country', cursor)
        self.assertEqual(found['changed'], {'res.bank': True})
        self.assertFalse(self.ask('res.bank,res.country', found['cursor'])['changed'])

    def test_a_rolled_back_change_is_none(self):
        cursor = self.follow('res.bank')
        with self.request(commit=False) as env:
            env['res.bank'].browse(self.bank).name = 'Never'
            env.flush_all()
        self.assertFalse(self.ask('res.bank', cursor)['changed'])

    def test_ids_are_told_one_by_one(self):
        third = self.commit(lambda env: env['res.bank'].create({'name': 'Third'}).id)
        models = f'res.bank:{self.bank}:{self.other}:{third}'
        cursor = self.follow(models)
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.other])
        found = self.ask(models, cursor)
        self.assertEqual(found['changed'], {'res.bank': {'ids': [self.other], 'gone': []}})
        self.remove('res.bank', third)
        found = self.ask(models, found['cursor'])
        self.assertEqual(found['changed'], {'res.bank': {'ids': [], 'gone': [third]}})
        self.make('res.bank', {'name': 'Unrelated'})
        self.assertFalse(self.ask(models, found['cursor'])['changed'])

    def test_ids_that_are_new_in_the_question_count_as_changed(self):
        cursor = self.follow(f'res.bank:{self.bank}')
        found = self.ask(f'res.bank:{self.bank}:{self.other}', cursor)
        self.assertEqual(found['changed'], {'res.bank': {'ids': [self.other], 'gone': []}})

    def test_a_row_of_a_delegate_and_a_link_count(self):
        user = self.commit(lambda env: new_test_user(env, 'tc_follow').id)
        self.addCleanup(self.remove, 'res.users', user)
        models = f'res.users:{user}'
        cursor = self.follow(models)
        self.sql(
            "UPDATE res_partner SET name = 'Renamed'"
            " WHERE id = (SELECT partner_id FROM res_users WHERE id = %s)",
            [user],
        )
        found = self.ask(models, cursor)
        self.assertEqual(found['changed'], {'res.users': {'ids': [user], 'gone': []}})
        group = self.commit(lambda env: env.ref('base.group_partner_manager').id)
        self.commit(lambda env: env['res.users'].browse(user).write({'group_ids': [(4, group)]}))
        found = self.ask(models, found['cursor'])
        self.assertEqual(found['changed'], {'res.users': {'ids': [user], 'gone': []}})

    def test_everything_is_told_after_everything_was_invalidated(self):
        cursor = self.follow('res.bank')
        self.commit(lambda env: env['cache.manager'].invalidate_all())
        self.assertEqual(self.ask('res.bank', cursor)['changed'], {'res.bank': True})

    def test_who_may_not_read_a_model_learns_nothing(self):
        response = self.open(
            '/cache/1/changes',
            query_string={'models': 'ir.rule'},
            key=self.new_key('base.group_portal'),
        )
        self.assertEqual((response.status_code, response.json['error']['type']), (403, 'access'))

    def test_bad_questions_are_refused_with_a_sentence(self):
        for query in (
            {},
            {'models': ''},
            {'models': 'res.bank', 'since': 'nonsense'},
            {'models': 'res.bank', 'since': 'gaNhYg'},
            {'models': 'res.bank', 'since': 'ü'},
            {'models': 'res.bank:x'},
            {'models': f'res.bank:{"9" * 5000}'},
            {'models': 'cache.rule'},
            {'models': 'res.bank,res.bank'},
            {'models': 'res.bank', 'more': '1'},
            {'models': ','.join(f'x{number}' for number in range(51))},
            {'models': f'res.bank:{":".join(map(str, range(1, 300)))}'},
        ):
            response = self.open('/cache/1/changes', query_string=query)
            self.assertEqual(response.status_code, 400, query)
            self.assertTrue(response.json['error']['message'].endswith(('.', '8')), response.json)
        response = self.open('/cache/1/changes', query_string={'models': 'no.such'})
        self.assertEqual(response.status_code, 404)
