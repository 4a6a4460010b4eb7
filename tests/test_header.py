"""The header of responses that says what the cache did, and the trail that it is made from."""

import json

from odoo.tests import HttpCase, new_test_user, tagged

from ..models.ir_http import HEADER, header_text
from ..services import trail
from .common import CacheCase


@tagged('post_install', '-at_install')
class TestTrail(CacheCase):
    @staticmethod
    def read_banks(env):
        return env['res.bank'].search_read([], ['name'])

    def line(self, call, **request):
        """What is said about a call."""
        with trail.recorded() as lines, self.request(**request) as env:
            call(env)
        return lines.telling(('res.bank', 'search_read'))

    def test_a_hit_tells_tier_age_and_saving(self):
        self.warm(self.read_banks)
        line = self.line(self.read_banks)
        self.assertEqual((line.tier, line.reason), ('l1', ''))
        self.assertGreater(line.age_s, 0)
        self.assertGreaterEqual(line.saved_ms, 0)
        self.assertRegex(header_text(line, trail.Trail()), r'^L1; age=\d+; saved=\d+ms$')

    def test_a_change_makes_it_a_miss_with_its_reason(self):
        self.warm(self.read_banks)
        self.make('res.bank', {'name': 'Changed'})
        line = self.line(self.read_banks)
        self.assertEqual((line.tier, line.reason), ('', 'stale'))
        self.assertEqual(header_text(line, trail.Trail()), 'miss; reason=stale')

    def test_a_transaction_that_has_written_says_so(self):
        def write_and_read(env):
            env['res.bank'].create({'name': 'New'})
            env.flush_all()
            self.read_banks(env)

        self.assertEqual(self.line(write_and_read, commit=False).reason, 'dirty')

    def test_a_rule_that_switches_it_off_is_named(self):
        self.configure()  # without the rule again, when that is gone
        self.make('cache.rule', {'model': 'res.bank', 'enabled': False})
        self.warm(lambda env: env['res.country'].search_read([], ['name']))  # knows the rule
        self.assertEqual(self.line(self.read_banks).reason, 'disabled')

    def test_without_a_trail_nothing_is_noted(self):
        self.warm(self.read_banks)
        self.assertFalse(trail.is_open())
        with self.assertHit(), self.request() as env:
            self.read_banks(env)

    def test_the_call_of_the_client_comes_before_slower_ones(self):
        lines = trail.Trail()
        asked, inner = ('res.bank', 'web_read'), ('res.country', 'read')
        lines.add(trail.Line(inner, '', 'cold', 50.0))
        lines.add(trail.Line(asked, 'l2', '', 1.0, 12.3, 48.2))
        self.assertEqual(
            header_text(lines.telling(asked), lines), 'L2; age=12; saved=48ms; reads=2; hits=1'
        )
        self.assertEqual(lines.telling(('x', 'action')).name, inner)
        self.assertIsNone(trail.Trail().telling())

    def test_very_many_reads_are_counted_only(self):
        lines = trail.Trail()
        for _ in range(trail.MAX_READS + 5):
            lines.add(trail.Line(('a', 'read'), 'l1'))
        self.assertEqual((lines.reads, len(lines.lines)), (trail.MAX_READS + 5, trail.MAX_READS))


@tagged('post_install', '-at_install')
class TestHeader(HttpCase):
    def header(self, group, model='res.country', field='name'):
        login = f'tc_header_{group.rpartition(".")[2]}'
        if not self.env['res.users'].search([('login', '=', login)]):
            new_test_user(self.env, login, group)
        self.authenticate(login, login)
        response = self.url_open(
            f'/web/dataset/call_kw/{model}/search_read',
            data=json.dumps(
                {
                    'id': 1,
                    'jsonrpc': '2.0',
                    'method': 'call',
                    'params': {
                        'model': model,
                        'method': 'search_read',
                        'args': [[], [field]],
                        'kwargs': {},
                    },
                }
            ),
            headers={'Content-Type': 'application/json'},
        )
        self.assertIn('result', response.json())
        return response.headers.get(HEADER)

    def test_the_cache_groups_are_told(self):
        # a test's transaction has written, so nothing is answered from the cache
        for group in ('tiered_cache.group_cache_user', 'tiered_cache.group_cache_admin'):
            self.assertRegex(self.header(group), r'^miss; reason=\w+')

    def test_nobody_else_is(self):
        for group in ('base.group_user', 'base.group_system', 'base.group_portal'):
            self.assertIsNone(self.header(group), group)
        self.authenticate(None, None)
        self.assertNotIn(HEADER, self.url_open('/web/login').headers)

    def test_a_request_without_cached_reads_has_no_header(self):
        self.assertIsNone(self.header('tiered_cache.group_cache_admin', 'cache.rule', 'note'))

    def test_the_client_is_told_to_show_it_to_administrators_only(self):
        for group, shown in (
            ('tiered_cache.group_cache_admin', {'indicator': True}),
            ('tiered_cache.group_cache_user', None),
            ('base.group_user', None),
        ):
            user = new_test_user(self.env, f'tc_info_{group}', group)
            self.authenticate(user.login, user.login)
            info = self.make_jsonrpc_request('/web/session/get_session_info')
            self.assertEqual(info.get('tiered_cache'), shown, group)

    def test_the_setting_turns_it_off(self):
        self.env['ir.config_parameter'].set_param('tiered_cache.indicator', '0')
        user = new_test_user(self.env, 'tc_info', 'tiered_cache.group_cache_admin')
        self.authenticate(user.login, user.login)
        info = self.make_jsonrpc_request('/web/session/get_session_info')
        self.assertEqual(info['tiered_cache'], {'indicator': False})
