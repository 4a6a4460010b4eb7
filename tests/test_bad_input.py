"""What strangers send: the right status, a sentence, nothing computed, nothing logged at ERROR."""

import base64
import json
import logging
import threading
import time

import msgpack

from odoo.tests import tagged

from ..services import batch, batch_calls
from .api_case import ApiCase

READ = {'model': 'res.bank', 'method': 'search_read', 'arguments': {'fields': ['name']}}


class _Errors(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@tagged('post_install', '-at_install')
class TestBadInput(ApiCase):
    def setUp(self):
        super().setUp()
        self.errors = _Errors()
        logging.getLogger().addHandler(self.errors)
        self.addCleanup(logging.getLogger().removeHandler, self.errors)
        self.computed = []
        make = batch._Maker._make

        def noted(maker, call):
            self.computed.append(call)
            return make(maker, call)

        self.patch(batch._Maker, '_make', noted)

    def refused(self, status, response, sentence=''):
        self.assertEqual(response.status_code, status, response.get_data(as_text=True)[:300])
        found = response.json
        error = found['error'] if 'error' in found else found['results'][0]['error']
        self.assertEqual(error['status'], status)
        self.assertTrue(error['message'][:1].isupper() or error['message'][:1] in '"\'', error)
        self.assertNotIn('Traceback', error['message'])
        self.assertIn(sentence, error['message'])
        self.assertFalse(self.errors.lines)
        return error

    def post(self, body, **options):
        options.setdefault('content_type', 'application/json')
        return self.open('/cache/1/batch', method='POST', data=body, **options)

    def call(self, **call):
        return self.batch({**READ, **call})

    def domain(self, domain):
        return self.call(arguments={'domain': domain})

    def test_bodies_that_are_no_batch(self):
        for body in (
            b'',
            b'{',
            b'nonsense',
            b'[]',
            b'null',
            b'1',
            b'{"calls": {}}',
            b'{"calls": []}',
            b'{"calls": [], "more": 1}',
            b'{"calls": [NaN]}',
            b'\xff\xfe',
            b'[' * 100_000,
            b'{"calls":' + b'[' * 100_000 + b']' * 100_000 + b'}',
            b'{"calls": [' + b'9' * 5000 + b']}',
            json.dumps({'calls': [READ] * (batch_calls.MAX_CALLS + 1)}).encode(),
        ):
            with self.subTest(body=body[:40]):
                self.refused(400, self.post(body))
        self.assertFalse(self.computed)

    def test_calls_that_are_none(self):
        for call, status in (
            (None, 400),
            ([], 400),
            ({}, 400),
            ({**READ, 'model': 'no.such.model'}, 404),
            ({**READ, 'model': 'base'}, 400),
            ({**READ, 'model': None}, 400),
            ({**READ, 'model': 'res.bank\0'}, 400),
            ({**READ, 'method': '_search'}, 400),
            ({**READ, 'method': 'unlink'}, 400),
            ({**READ, 'method': 'web_search_read'}, 400),
            ({**READ, 'method': ['read']}, 400),
            ({**READ, 'ids': [1]}, 400),
            ({**READ, 'arguments': []}, 400),
            ({**READ, 'arguments': {'order': 1}}, 400),
            ({**READ, 'arguments': {'limit': 0}}, 400),
            ({**READ, 'arguments': {'limit': True}}, 400),
            ({**READ, 'arguments': {'limit': 10**9}}, 400),
            ({**READ, 'arguments': {'offset': -1}}, 400),
            ({**READ, 'arguments': {'offset': 10**30}}, 400),
            ({**READ, 'arguments': {'fields': 'name'}}, 400),
            ({**READ, 'arguments': {'fields': [1]}}, 400),
            ({**READ, 'arguments': {'domain': {}}}, 400),
            ({**READ, 'arguments': {'load': 'x'}}, 400),
            ({**READ, 'arguments': {'self': 1}}, 400),
            ({**READ, 'context': []}, 400),
            ({**READ, 'context': {'lang': 1}}, 400),
            ({**READ, 'context': {'tz': []}}, 400),
            ({**READ, 'context': {'allowed_company_ids': ['x']}}, 400),
            ({**READ, 'context': {'allowed_company_ids': [10**12]}}, 400),
            ({**READ, 'more': 1}, 400),
        ):
            with self.subTest(call=call):
                self.refused(status, self.batch(call))
        self.assertFalse(self.computed)

    def test_ids_of_wrong_types(self):
        for ids in (None, 1, '1', ['1'], [1.0], [True], [0], [-1], [2**31], [None], [[1]], {}):
            with self.subTest(ids=ids):
                call = {'model': 'res.bank', 'method': 'read', 'ids': ids}
                self.refused(400, self.batch(call), '"ids"')
        self.assertFalse(self.computed)

    def test_domains_that_are_too_large_or_too_deep(self):
        leaf = ['name', '=', 'x']
        alternating = [leaf]
        for level in range(250):
            alternating = ['|' if level % 2 else '&', leaf, *alternating]
        for domain in (
            [leaf] * 10_000,
            ['|'] * 9_999 + [leaf] * 10_000,
            ['!'] * 500 + [leaf],
            alternating,
            [['country.' * 21 + 'name', '=', 'x']],
            [['country', 'any', [['state_ids.' * 20 + 'name', '=', 'x']]]],
            [['country.name', '=', 'x']] * 101,
            [['country', 'any', [['name', '=', 'x']]]] * 101,
            [['id', 'in', list(range(1, 10_002))]],
            [['name', '=', 'x' * 10_001]],
        ):
            self.refused(400, self.domain(domain))
        deep = 1
        for _level in range(70):
            deep = [deep]
        self.refused(400, self.call(context={'x': deep}), 'nested')
        # as texts: Python's own encoder gives up before that
        condition = '["name","=","x"]'
        for opening, closing in (('["country","any",[', ']]'), ('[', ']')):
            nested = f'{opening * 500}{condition}{closing * 500}'
            call = '{"model":"res.bank","method":"search_count","arguments":{"domain":[%s]}}'
            self.refused(400, self.post('{"calls":[%s]}' % (call % nested)))
        self.assertFalse(self.computed)

    def test_paths_of_groups_are_bounded_like_those_of_domains(self):
        for groupby in (['country.' * 21 + 'name'], ['country.name'] * 101):
            call = {'model': 'res.bank', 'method': 'formatted_read_group'}
            self.refused(400, self.batch({**call, 'arguments': {'groupby': groupby}}), 'steps')
        self.assertFalse(self.computed)

    def test_domains_that_are_none(self):
        for domain in (
            'name',
            [1],
            ['&'],
            ['|', ['name', '=', 'x']],
            [['name']],
            [[1, 2, 3]],
            [['name', None, 'x']],
            [['name', '=', 'a\0b']],
            [['name', '=', '\ud800']],
            [['id', '=', 10**40]],
            [['country', 'any!', []]],
            [['country', 'any', 'x']],
        ):
            with self.subTest(domain=domain):
                self.refused(400, self.domain(domain))
        self.assertFalse(self.computed)

    def test_what_only_the_orm_can_tell_is_refused_as_well(self):
        for call in (
            {'arguments': {'fields': ['no_such_field']}},
            {'arguments': {'order': 'no_such_field'}},
            {'arguments': {'order': 'name; DROP TABLE res_bank'}},
            {'arguments': {'domain': [['no_such_field', '=', 1]]}},
            {'arguments': {'domain': [['name', 'no operator', 1]]}},
            {'arguments': {'domain': [['name', '=', {'a': 1}]]}},
            {'arguments': {'domain': [['create_date', '>', 'yesterdayish']]}},
            {
                'method': 'formatted_read_group',
                'arguments': {'groupby': ['no_such_field'], 'aggregates': ['id:nonsense']},
            },
        ):
            with self.subTest(call=call):
                response = self.call(**call)
                self.refused(400, response)

    def test_what_the_orm_would_log_as_an_error_is_none(self):
        call = {'model': 'res.partner', 'arguments': {'fields': ['name'], 'limit': 1}}
        for leaf in (['image_1920', '=', 'x'], ['name', 'ILIKE', 'x'], ['name', '<>', 'x']):
            call['arguments']['domain'] = [leaf]
            self.assertEqual(self.call(**call).status_code, 200)
            self.assertFalse(self.errors.lines, leaf)

    def test_cursors_that_nobody_has_given(self):
        for states in (
            {'res.bank': [b'', b'', None, [[1]]]},
            {'res.bank': [b'', b'', {}, [{}]]},
            {'res.bank': [b'', b'', [], None]},
            {'res.bank': [b'', b'']},
            {'res.bank': None},
            [],
        ):
            cursor = base64.urlsafe_b64encode(msgpack.packb([1, states])).rstrip(b'=').decode()
            for models in ('res.bank', 'res.bank:1'):
                with self.subTest(states=states, models=models):
                    path = f'/cache/1/changes?models={models}&since={cursor}'
                    self.refused(400, self.open(path), '"since"')

    def test_the_models_of_the_cache_are_not_served(self):
        for model in self.registry.models:
            if model.startswith('cache.'):
                with self.subTest(model=model):
                    self.refused(400, self.batch({**READ, 'model': model}), 'cache')
        self.assertFalse(self.computed)

    def test_a_body_of_100_megabytes_is_refused_before_it_is_read(self):
        size = 100 * 2**20

        class Large:
            """What the server must not take into memory."""

            def __init__(self):
                self.asked, self.at = [], 0

            def seek(self, offset, whence=0):
                self.at = offset + (size if whence == 2 else 0)

            def tell(self):
                return self.at

            def _give(self, count=-1):
                self.asked.append(count)
                count = min(size - self.at, count if count >= 0 else size)
                self.at += count
                return b'x' * count

            read = _give

        stream = Large()
        response = self.post(None, input_stream=stream)
        self.refused(413, response, 'kilobytes')
        self.assertLessEqual(max(stream.asked, default=0), 2**20)
        self.assertGreaterEqual(min(stream.asked, default=0), 0)
        self.assertFalse(self.computed)

    def test_the_size_of_a_body_is_a_setting(self):
        body = json.dumps({'calls': [{**READ, 'context': {'x': 'x' * 2000}}]})
        self.assertEqual(self.post(body).status_code, 200)
        self.configure(api_max_body_kb='1')
        self.refused(413, self.post(body))

    def test_other_types_of_content_and_methods(self):
        self.refused(415, self.post(b'{}', content_type='text/plain'))
        self.assertEqual(self.open('/cache/1/batch').status_code, 405)

    def test_keys_that_are_none_over_or_of_somebody_gone(self):
        for key in (False, 'wrong', self.make_key(2, days=-1)):
            self.refused(401, self.batch(READ, key=key))
            self.refused(401, self.open('/cache/1/changes?models=res.bank', key=key))
        gone = self.new_key('base.group_user')
        self.assertEqual(self.batch(READ, key=gone).status_code, 200)
        self.sql("UPDATE res_users SET active = false WHERE login LIKE 'tc\\_%'")
        self.computed.clear()
        self.refused(401, self.batch(READ, key=gone))
        self.assertFalse(self.computed)

    def test_a_call_that_takes_too_long_is_429_and_harms_no_other(self):
        def slow(maker, call):
            if call.model == 'res.country':
                maker._env.cr.execute('SELECT pg_sleep(5)')
            return len(call.model)

        self.patch(batch._Maker, '_make', slow)
        self.configure(api_time_budget_s='0.3')
        country = {**READ, 'model': 'res.country'}
        started = time.monotonic()
        response = self.batch(READ, country, READ)
        self.assertLess(time.monotonic() - started, 4)  # PostgreSQL has stopped it
        self.assertEqual(response.status_code, 200)
        results = response.json['results']
        self.assertEqual(results[0], {'result': 8})
        self.assertEqual(results[1]['error']['status'], 429)
        self.assertNotIn('ETag', response.headers)
        self.assertFalse([line for line in self.errors.lines if 'pg_sleep' in line])
        response = self.batch(country)
        self.refused(429, response)
        self.assertEqual(response.headers['Retry-After'], '1')

    def test_calls_after_the_time_is_over_are_not_made(self):
        self.configure(api_time_budget_s='0.001')
        calls = [{**READ, 'context': {'n': number}} for number in range(20)]
        results = self.batch(*calls).json['results']
        self.assertEqual(results[-1]['error']['status'], 429)
        self.assertLess(len(self.computed), 20)

    def test_a_call_of_many_short_queries_ends_in_time_as_well(self):
        self.configure(api_time_budget_s='0.2')
        gone = {'model': 'res.bank', 'method': 'read', 'arguments': {'fields': ['name']}}
        gone['ids'] = list(range(10**9, 10**9 + 3000))  # two queries for each
        queries = threading.current_thread().__dict__.get('query_hooks', [])
        before = list(queries)
        self.refused(429, self.batch(gone))
        self.assertEqual(threading.current_thread().__dict__.get('query_hooks', []), before)

    def test_too_many_rows_are_413(self):
        self.patch(batch, 'MAX_IDS', 3)
        for number in range(5):
            self.make('res.bank', {'name': f'B{number}'})
        self.refused(413, self.batch(READ), 'limit')
        limited = self.call(arguments={'fields': ['name'], 'limit': 4})
        self.assertEqual(limited.status_code, 200)
