"""``/cache/1/changes``: what changed since, by model and by id."""

import random

from odoo.tests import new_test_user, tagged

from ..services import changed_rows, following
from .api_case import ApiCase


@tagged('post_install', '-at_install')
class TestFollowing(ApiCase):
    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': 'Azure'})
        self.other = self.make('res.bank', {'name': 'Blue'})
        (self.number,) = self.sql("SELECT pg_current_xact_id()::text::bigint")[0]
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

    def assertTold(self, cursor, found, *ids):
        """These rows are told, and no others unless a transaction of somebody else on this server
        runs since before the test began: then what was written since may be told again."""
        ((model, told),) = found['changed'].items()
        self.assertLessEqual(set(ids), {*told['ids'], *told['gone']})
        if following._decode(cursor)[model][2]['x'] > self.number:
            self.assertEqual({*told['ids'], *told['gone']}, set(ids))

    def test_the_first_answer_says_that_everything_counts_as_changed(self):
        found = self.ask('res.bank,res.country')
        self.assertTrue(found['all'])
        self.assertEqual(found['changed'], {'res.bank': True, 'res.country': True})

    def test_only_what_changed_is_told_however_it_was_changed(self):
        cursor = self.follow('res.bank,res.country')
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.bank])
        found = self.ask('res.bank,res.country', cursor)
        self.assertTold(cursor, found, self.bank)
        self.assertFalse(self.ask('res.bank,res.country', found['cursor'])['changed'])

    def test_what_was_written_in_a_savepoint_and_what_was_created_is_told(self):
        cursor = self.follow('res.bank')
        with self.request() as env:
            with env.cr.savepoint():
                env['res.bank'].browse(self.other).name = 'Cyan'
            new = env['res.bank'].create({'name': 'New', 'active': False}).id
        self.addCleanup(self.remove, 'res.bank', new)
        self.assertTold(cursor, self.ask('res.bank', cursor), self.other, new)

    def test_what_was_under_way_when_the_cursor_was_made_is_told(self):
        with self.request() as env:
            with env.cr.savepoint():  # its number is in no snapshot
                env['res.bank'].browse(self.bank).name = 'Cyan'
                env.flush_all()
            # something later is committed, elsewhere
            self.sql("UPDATE res_partner_industry SET active = active")
            cursor = self.follow('res.bank')
        found = self.ask('res.bank', cursor)['changed']['res.bank']
        self.assertIn(self.bank, found['ids'])

    def test_which_rows_is_not_known_after_a_commit_was_lost(self):
        """By a failover, and it was newer than a transaction that was under way."""
        with self.request() as env:
            env['res.bank'].browse(self.bank).name = 'Cyan'
            env.flush_all()
            self.sql("UPDATE res_bank SET name = 'Later' WHERE id = %s", [self.other])
            cursor = self.follow('res.bank')
        number = following._decode(cursor)['res.bank'][2]['l']
        self.sql("DELETE FROM cache_change WHERE xid = %s::text::xid8", [str(number)])
        for book in self.engine._books.values():
            book.forget()
        self.assertEqual(self.ask('res.bank', cursor)['changed'], {'res.bank': True})

    def test_which_rows_is_not_known_after_a_deletion(self):
        third = self.commit(lambda env: env['res.bank'].create({'name': 'Third'}).id)
        cursor = self.follow('res.bank')
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.other])
        self.remove('res.bank', third)
        self.assertEqual(self.ask('res.bank', cursor)['changed'], {'res.bank': True})
        cursor = self.follow('res.bank')
        # as many as before, and the newest is no other
        self.sql(
            "WITH gone AS (DELETE FROM res_bank WHERE id = %s RETURNING id)"
            " INSERT INTO res_bank (id, name) SELECT -id, 'Low' FROM gone",
            [self.other],
        )
        self.addCleanup(self.sql, "DELETE FROM res_bank WHERE id < 0")
        self.assertEqual(self.ask('res.bank', cursor)['changed'], {'res.bank': True})

    def test_which_rows_is_not_known_after_a_restored_backup(self):
        cursor = self.follow('res.bank')
        oldest = following._decode(cursor)['res.bank'][2]['x']
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.other])
        self.sql(  # there transactions are numbered anew
            "UPDATE cache_change SET xid = %s::text::xid8"
            " WHERE relation = 'res_bank' AND xid >= %s::text::xid8",
            [str(oldest - 1), str(oldest)],
        )
        for book in self.engine._books.values():
            book.forget()
        self.assertEqual(self.ask('res.bank', cursor)['changed'], {'res.bank': True})

    def test_which_rows_is_not_told_of_too_many(self):
        self.patch(following, 'MAX_IDS', 2)
        cursor = self.follow('res.bank')
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id IN %s", [(self.bank, self.other)])
        found = self.ask('res.bank', cursor)
        if found['changed'] != {'res.bank': True}:  # more are told where others write, see above
            self.assertTold(cursor, found, self.bank, self.other)
        self.patch(following, 'MAX_IDS', 1)
        self.sql("UPDATE res_bank SET name = 'Dark' WHERE id IN %s", [(self.bank, self.other)])
        found = self.ask('res.bank', found['cursor'])
        self.assertEqual(found['changed'], {'res.bank': True})
        self.patch(changed_rows, 'MAX_ROWS', -1)
        self.sql("ANALYZE res_bank")
        cursor = self.follow('res.bank')
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.other])
        self.assertEqual(self.ask('res.bank', cursor)['changed'], {'res.bank': True})

    def test_a_row_that_its_user_may_not_see_is_gone(self):
        key = self.new_key('base.group_user')
        company = self.make('res.company', {'name': 'tc hidden'})
        partner = self.make('res.partner', {'name': 'Seen'})
        rule = {
            'name': 'tc',
            'model_id': self.commit(lambda env: env['ir.model']._get_id('res.partner')),
            'domain_force': f"[('company_id', '!=', {company})]",
        }
        self.make('ir.rule', rule)
        cursor = self.follow_as(key, 'res.partner')
        self.sql("UPDATE res_partner SET company_id = %s WHERE id = %s", [company, partner])
        found = self.ask('res.partner', cursor, key=key)
        self.assertEqual(found['changed']['res.partner']['gone'], [partner])
        self.assertTold(cursor, found, partner)

    def test_a_cursor_that_was_tampered_with_tells_no_less(self):
        cursor = self.follow('res.bank')
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.other])
        states = following._decode(cursor)
        for change in ({'x': 0}, {'x': -1}, {'x': 2**61}, {'x': 'a'}, {'b': b''}, {'i': None}):
            rows, links, mark, _ids = states['res.bank']
            bad = following._encode({'res.bank': [rows, links, {**mark, **change}, None]})
            with self.subTest(change=change):
                self.assertEqual(self.ask('res.bank', bad)['changed'], {'res.bank': True})

    def test_whatever_is_done_each_row_that_differs_is_told(self):
        """Against the rows themselves, for random changes by several transactions."""
        self.addCleanup(self.sql, "DELETE FROM res_bank WHERE name LIKE 'tcx%'")
        cursor, exact = self.follow('res.bank'), 0
        before = dict(self.sql("SELECT id, name FROM res_bank"))
        for seed in range(40):
            chance = random.Random(seed)  # noqa: S311 reproducible, not secret
            for _transaction in range(chance.randint(1, 3)):
                self.sql('; '.join(self.statement(chance) for _ in range(chance.randint(1, 3))))
            found = self.ask('res.bank', cursor)
            after = dict(self.sql("SELECT id, name FROM res_bank"))
            differ = {id_ for id_ in before | after if before.get(id_) != after.get(id_)}
            told = found['changed'].get('res.bank', {'ids': [], 'gone': []})
            if told is not True:
                exact += 1
                self.assertLessEqual(differ, {*told['ids'], *told['gone']}, seed)
            cursor, before = found['cursor'], after
        self.assertGreater(exact, 15)

    @staticmethod
    def statement(chance):
        name = f'tcx{chance.random()}'
        some = f"(SELECT id FROM res_bank ORDER BY md5(id::text || '{name}') LIMIT 1)"
        change = chance.choice(
            (
                f"UPDATE res_bank SET name = '{name}' WHERE id = {some}",
                f"UPDATE res_bank SET name = '{name}' WHERE id = {some}",
                f"INSERT INTO res_bank (name) VALUES ('{name}')",
                f"SAVEPOINT a; UPDATE res_bank SET name = '{name}' WHERE id = {some};"
                f" {chance.choice(('RELEASE', 'ROLLBACK TO'))} SAVEPOINT a",
                f"DELETE FROM res_bank WHERE id = {some} AND name LIKE 'tcx%'"
                if chance.random() < 0.3
                else f"UPDATE res_bank SET name = name || '{name[:5]}' WHERE id = {some}",
            )
        )
        return change

    def follow_as(self, key, models):
        for _attempt in range(8):
            cursor = self.ask(models, key=key)['cursor']
            if not self.ask(models, cursor, key=key)['changed']:
                return cursor
            self.settle()
        return self.fail('it never settles')

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

    def test_a_link_that_only_its_own_table_tells_of_counts(self):
        partner = self.make('res.partner', {'name': 'Linked'})
        category = self.make('res.partner.category', {'name': 'tc'})
        cursor = self.follow('res.partner')
        self.sql(
            "INSERT INTO res_partner_res_partner_category_rel (partner_id, category_id)"
            " VALUES (%s, %s)",
            [partner, category],
        )
        self.assertEqual(self.ask('res.partner', cursor)['changed'], {'res.partner': True})

    def test_a_table_without_triggers_counts_as_changed(self):
        self.patch(self.engine.guards, 'want', lambda _names: None)
        self.assertFalse(self.sql("SELECT 1 FROM cache_version WHERE relation = 'ir_logging'"))
        cursor = self.ask('ir.logging')['cursor']
        self.assertEqual(self.ask('ir.logging', cursor)['changed'], {'ir.logging': True})

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
