"""``POST /cache/1/batch``: one snapshot, exact merges, errors apart, ETags."""

from odoo.tests import new_test_user, tagged

from .api_case import ApiCase


def read(model, ids, *fields):
    return {'model': model, 'method': 'read', 'ids': ids, 'arguments': {'fields': list(fields)}}


def search_read(model, domain, *fields, **arguments):
    arguments = {'domain': domain, 'fields': list(fields), **arguments}
    return {'model': model, 'method': 'search_read', 'arguments': arguments}


@tagged('post_install', '-at_install')
class TestBatchApi(ApiCase):
    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': 'Azure', 'bic': 'AZ'})
        self.other = self.make('res.bank', {'name': 'Blue', 'bic': 'BL'})

    def test_answers_come_in_order_and_equal_those_of_the_calls_alone(self):
        calls = [
            read('res.bank', [self.other, self.bank], 'name'),
            search_read('res.bank', [['id', '=', self.bank]], 'name', 'bic'),
            {'model': 'res.bank', 'method': 'search_count', 'arguments': {'domain': []}},
            {'model': 'res.bank', 'method': 'name_search', 'arguments': {'name': 'Azure'}},
            {
                'model': 'res.bank',
                'method': 'formatted_read_group',
                'arguments': {'domain': [], 'groupby': ['bic'], 'aggregates': ['__count']},
            },
            read('res.bank', [self.bank], 'name'),
        ]
        together = self.results(*calls)
        self.assertEqual(together, [self.results(call)[0] for call in calls])
        self.assertEqual([row['name'] for row in together[0]['result']], ['Blue', 'Azure'])

    def test_a_failing_call_harms_no_other(self):
        answers = self.results(
            read('res.bank', [self.bank], 'name'),
            read('res.bank', [self.bank], 'no_such_field'),
            search_read('res.bank', [['id', '=', 'x']], 'name'),
            search_read('res.bank', [], 'name', order='nothing'),
            {'model': 'res.bank', 'method': 'unlink'},
            read('res.bank', [self.bank, self.other], 'bic'),
        )
        self.assertEqual(answers[0]['result'][0]['name'], 'Azure')
        self.assertEqual([row['bic'] for row in answers[5]['result']], ['AZ', 'BL'])
        for answer in answers[1:5]:
            self.assertIn(answer.get('error', {}).get('status', 200), (200, 400))

    def test_a_poller_gets_304_until_something_has_changed(self):
        def ask(etag=None):
            return self.batch(read('res.bank', [self.bank], 'name'), etag=etag)

        first = self.warm_up(ask)
        self.assertEqual(first.headers['Cache-Control'], 'private, no-cache')
        again = ask(first.headers['ETag'])
        self.assertEqual((again.status_code, again.data), (304, b''))
        self.assertEqual(again.headers['ETag'], first.headers['ETag'])
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.bank])
        changed = ask(first.headers['ETag'])
        self.assertEqual(changed.status_code, 200)
        self.assertEqual(changed.json['results'][0]['result'][0]['name'], 'Cyan')
        self.assertNotEqual(changed.headers['ETag'], first.headers['ETag'])

    def test_the_rights_are_those_of_the_key(self):
        user = self.commit(lambda env: new_test_user(env, 'tc_batch', 'base.group_user').id)
        self.addCleanup(self.remove, 'res.users', user)
        key = self.make_key(user)
        call = search_read('ir.config_parameter', [], 'key')
        self.assertIn('result', self.results(call)[0])
        response = self.batch(call, key=key)
        self.assertEqual(response.status_code, 403)
        self.assertEqual(response.json['results'][0]['error']['type'], 'access')
