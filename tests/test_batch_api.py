"""``POST /cache/1/batch``: one snapshot, exact merges, errors apart, ETags."""

import json
import pathlib
import re
import threading
import time
from unittest.mock import patch

from odoo.tests import new_test_user, tagged

from ..services import batch, batch_calls, domains, endpoints, following, options
from .api_case import ApiCase

TTLS = {'l1_ttl_s': 600, 'use_l2': False, 'use_l3': False}

DOCS = pathlib.Path(__file__).parent.parent / 'docs'


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

    def test_taking_apart_that_fails_harms_no_call(self):
        def fails(domains, call, domain, ids):
            domains._env.cr.execute('SELECT 1 / 0')

        self.patch(domains.LocalDomains, 'select', fails)
        calls = [
            search_read('res.bank', [['bic', '=', bic]], 'name', order='id') for bic in ('AZ', 'BL')
        ]
        answers = self.results(*calls)
        self.assertEqual([answer['result'][-1]['name'] for answer in answers], ['Azure', 'Blue'])

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

    def test_an_answer_of_hits_depends_on_what_they_depend_on(self):
        call = search_read('res.bank', [['id', '=', self.bank]], 'name')

        def ask(number, etag=None):
            return self.batch(call, {**call, 'context': {'n': number}}, etag=etag)

        self.warm_up(lambda: ask(1))
        response = self.warm_up(lambda: ask(2))  # its first part is a hit by now
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.bank])
        changed = ask(2, response.headers['ETag'])
        self.assertEqual(changed.status_code, 200)
        self.assertEqual(changed.json['results'][0]['result'][0]['name'], 'Cyan')

    def test_an_answer_depends_on_a_table_that_only_a_hit_has_read(self):
        bank = search_read('res.bank', [['id', '=', self.bank]], 'name')

        def ask(number, etag=None):
            group = search_read('res.partner.category', [['id', '=', 0]], 'name')
            return self.batch(bank, {**group, 'context': {'n': number}}, etag=etag)

        self.warm_up(lambda: ask(1))
        response = self.warm_up(lambda: ask(2))  # its banks are a hit from the first time on
        self.sql("UPDATE res_bank SET name = 'Cyan' WHERE id = %s", [self.bank])
        changed = ask(2, response.headers['ETag'])
        self.assertEqual(changed.status_code, 200)
        self.assertEqual(changed.json['results'][0]['result'][0]['name'], 'Cyan')

    def test_an_answer_from_the_cache_is_whole_unless_the_asker_has_it(self):
        call = read('res.bank', [self.bank], 'name')
        response = self.warm_up(lambda: self.batch(call))
        self.assertEqual(response.json['results'][0]['result'][0]['name'], 'Azure')
        for etag in (None, 'W/"00"', '"00"', '*'):
            with self.subTest(etag=etag):
                again = self.batch(call, etag=etag)
                self.assertEqual(again.status_code, 200)
                self.assertEqual(again.json, response.json)

    def test_an_answer_is_for_its_asker_and_its_day(self):
        call = read('res.bank', [self.bank], 'name')
        response = self.warm_up(lambda: self.batch(call))
        self.assertEqual(response.headers['Vary'], 'Authorization')
        self.assertEqual(response.headers['Cache-Control'], 'private, no-cache')
        etag = response.headers['ETag']
        self.assertEqual(self.batch(call, etag=etag).status_code, 304)
        self.patch(batch, 'dates', lambda _env: ('2099-01-01',) * 2)
        self.assertEqual(self.batch(call, etag=etag).status_code, 200)

    def test_an_answer_that_ran_out_of_time_is_not_kept(self):
        calls = [
            {**read('res.bank', [self.bank], 'name'), 'context': {'n': number}}
            for number in range(3)
        ]
        self.warm_up(lambda: self.batch(*calls[:2]))  # tables have their triggers
        make, slow = batch._Maker._make, [0.3]

        def slowly(maker, call):
            time.sleep(slow.pop() if slow else 0)
            return make(maker, call)

        self.configure(api_time_budget_s='0.2')
        with patch.object(batch._Maker, '_make', slowly):
            late = self.results(*calls)
        self.assertEqual(late[2]['error']['status'], 429)
        self.assertEqual(self.results(*calls), 3 * [late[0]])

    def test_what_may_be_older_than_the_snapshot_has_no_etag(self):
        self.make('cache.rule', {'model': 'res.bank', 'consistency': 'weak', **TTLS})
        self.addCleanup(self.configure)
        call = search_read('res.bank', [['id', '=', self.bank]], 'name')

        def ask(number):
            return self.batch(call, {**call, 'context': {'n': number}})

        for number in range(6):
            ask(number)
            self.settle()
        self.make('res.bank', {'name': 'Changed'})
        self.engine._local_writes.clear()
        self.assertNotIn('ETag', ask(100).headers)

    def test_what_has_read_a_sequence_has_no_etag(self):
        """No version of a snapshot tells that it has moved on."""
        id_ = self.make('ir.sequence', {'name': 'tc', 'implementation': 'standard'})
        call = search_read('ir.sequence', [['id', '=', id_]], 'number_next_actual')

        def ask(number):
            return self.batch(call, {**call, 'context': {'n': number}})

        for number in (1, 1, 1, 2, 3):
            response = ask(number)
            self.settle()
            self.assertNotIn('ETag', response.headers)
        self.sql(f"SELECT nextval('ir_sequence_{id_:03d}'), nextval('ir_sequence_{id_:03d}')")
        rows = ask(1).json['results']
        self.assertEqual([row['result'][0]['number_next_actual'] for row in rows], [3, 3])

    def test_an_answer_lives_no_longer_than_its_parts(self):
        call = search_read('res.bank', [['id', '=', self.bank]], 'name')

        def ask(number):
            return self.batch(call, {**call, 'context': {'n': number}})

        self.warm_up(lambda: ask(1))
        parts = [
            entry
            for entry in self.engine.hierarchy.tiers['l1'].entries()
            if entry.method == 'search_read'
        ]
        self.warm_up(lambda: ask(2))
        whole = [
            entry
            for entry in self.engine.hierarchy.tiers['l1'].entries()
            if entry.method == 'batch'
        ]
        newest = max(whole, key=lambda entry: entry.created)
        self.assertLessEqual(newest.expires, min(entry.expires for entry in parts) + 0.001)

    def test_users_languages_and_companies_have_etags_of_their_own(self):
        call = search_read('res.bank', [['id', '=', self.bank]], 'name')
        first = self.warm_up(lambda: self.batch(call)).headers['ETag']
        key = self.new_key('base.group_user')
        second = self.warm_up(lambda: self.batch(call, key=key)).headers['ETag']
        french = {**call, 'context': {'lang': 'fr_FR'}}
        third = self.warm_up(lambda: self.batch(french)).headers['ETag']
        self.assertEqual(len({first, second, third}), 3)
        self.assertEqual(self.batch(call, key=key, etag=first).status_code, 200)

    def test_a_worker_that_shares_a_tier_knows_the_etag(self):
        self.configure(l3_enabled='1')
        call = read('res.bank', [self.bank], 'name')
        etag = self.warm_up(lambda: self.batch(call)).headers['ETag']
        self.settle()
        with self.other_worker():
            self.assertEqual(self.batch(call, etag=etag).status_code, 304)

    def test_a_poller_costs_one_query_besides_its_login(self):
        call = read('res.bank', [self.bank], 'name')
        etag = self.warm_up(lambda: self.batch(call)).headers['ETag']

        def texts(ask):
            """What was asked of PostgreSQL."""
            seen = []
            thread = threading.current_thread()
            hooks = thread.__dict__.setdefault('query_hooks', [])

            def hook(cr, query, params, start, delay):
                seen.append(cr._obj.query.decode())

            hooks.append(hook)
            try:
                response = ask()
            finally:
                hooks.remove(hook)
            return response, seen

        ask = {'method': 'POST', 'content_type': 'application/json'}
        empty, login = texts(lambda: self.open('/json/2/res.users/context_get', data='{}', **ask))
        polled, all_ = texts(lambda: self.batch(call, etag=etag))
        self.assertEqual((empty.status_code, polled.status_code), (200, 304))
        self.assertEqual(len([text for text in all_ if 'cache_look' in text]), 1, all_)
        self.assertLessEqual(len(all_), len(login) + 1, (login, all_))


@tagged('post_install', '-at_install')
class TestBatchPage(ApiCase):
    """docs/batch-api.md: its examples work, its limits are those of the code."""

    def setUp(self):
        super().setUp()
        self.page = (DOCS / 'batch-api.md').read_text(encoding='utf-8')

    def test_the_examples_work(self):
        batch = json.loads(re.search(r'^\{"calls".*?^\]\}', self.page, re.MULTILINE | re.DOTALL)[0])
        response = self.batch(*batch['calls'])
        self.assertEqual(response.status_code, 200)
        self.assertEqual(len(response.json['results']), 3)
        self.assertTrue(all('result' in answer for answer in response.json['results'][1:]))
        question = re.search(r'GET (/cache/1/changes\S+)', self.page)[1]
        self.assertTrue(self.open(question).json['all'])
        for answer in re.findall(r'```json\n(.*?)```', self.page, re.DOTALL):
            json.loads(answer)

    def test_the_limits_are_those_of_the_code(self):
        for text in (
            f'| calls in a batch | {batch_calls.MAX_CALLS} |',
            f'{batch_calls.MAX_LEAVES} conditions, {batch_calls.MAX_DEPTH} levels',
            f'counts as {batch_calls.LINK_LEAVES} conditions',
            f'| ids or values in a list | {batch_calls.MAX_IDS:,} |',
            f'number 1 to {endpoints.MAX_PAGE:,}',
            f'Up to {following.MAX_MODELS} models and {following.MAX_IDS} ids',
            f'`api_max_body_kb` ({self.default("max_body_kb")})',
            f'`api_time_budget_s` ({self.default("time_budget_s")})',
            f'`api_page_size` ({self.default("page_size")})',
        ):
            self.assertIn(text, ' '.join(self.page.split()))
        for method in batch_calls.METHODS:
            self.assertIn(f'`{method}`', self.page)

    @staticmethod
    def default(name):
        return options.OPTIONS[f'api_{name}'].default_text
