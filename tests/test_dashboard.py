"""The dashboard's call: right sums, few queries, nothing for those who may not see it."""

import datetime
import json
import os
import time
from ast import literal_eval
from unittest.mock import patch

import psycopg2
from freezegun import freeze_time
from lxml import etree

from odoo import fields
from odoo.exceptions import AccessError, UserError
from odoo.tests import BaseCase, HttpCase, TransactionCase, new_test_user, tagged
from odoo.tools import mute_logger

from ..services import dashboard, rollup, workers
from ..services.metrics import CALLS, Metrics
from .common import CacheCase
from .figures import leave_figures_alone, make_figures

HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)
FOR_ADMINISTRATORS = {
    'saved_ms', 'duration_ms', 'saved_queries', 'latency', 'saved_by_model', 'tiers', 'redis',
    'guards', 'workers', 'advice',
}  # fmt: skip


@tagged('post_install', '-at_install')
class TestPeriods(BaseCase):
    NOW = datetime.datetime(2031, 3, 31, 14, 37, 12)

    def test_an_hour_is_sixty_minutes_with_the_present_one(self):
        found = dashboard.period('hour', self.NOW)
        self.assertEqual(len(found.starts), 60)
        self.assertEqual(found.starts[-1], datetime.datetime(2031, 3, 31, 14, 37))

    def test_a_day_is_24_hours_with_the_present_one(self):
        found = dashboard.period('day', self.NOW)
        self.assertEqual(len(found.starts), 24)
        self.assertEqual(found.start, datetime.datetime(2031, 3, 30, 15, 0))

    def test_days_begin_at_the_midnight_of_who_asks(self):
        found = dashboard.period('month', self.NOW, 'America/New_York')
        self.assertEqual(len(found.starts), 30)
        self.assertEqual(found.starts[-1], datetime.datetime(2031, 3, 31, 4, 0))

    def test_the_day_on_which_the_clock_is_put_forward_has_23_hours(self):
        found = dashboard.period('month', self.NOW, 'Europe/Brussels')  # on 2031-03-30
        lengths = [b - a for a, b in zip(found.starts, found.starts[1:], strict=False)]
        self.assertEqual(lengths[-1], 23 * HOUR)
        self.assertEqual(set(lengths[:-1]), {24 * HOUR})

    def test_a_week_ends_now(self):
        found = dashboard.period('week', self.NOW, 'Asia/Kolkata')
        self.assertLessEqual(found.starts[-1], self.NOW)
        self.assertTrue(all(start.minute == 0 for start in found.starts))
        self.assertEqual(found.starts, sorted(set(found.starts)))

    def test_an_unknown_time_zone_is_utc(self):
        self.assertEqual(
            dashboard.period('month', self.NOW, 'Mars/Olympus').starts,
            dashboard.period('month', self.NOW).starts,
        )

    def test_segments_cover_each_moment_once(self):
        for name in dashboard.PERIODS:
            for zone in ('UTC', 'America/New_York', 'Asia/Kolkata', 'Pacific/Auckland'):
                found = dashboard.period(name, self.NOW, zone)
                parts = dashboard.segments(found)
                with self.subTest(period=name, zone=zone):
                    self.assertEqual(parts[0][1], found.start)
                    self.assertEqual(parts[-1][2], datetime.datetime.max)
                    for (_g, _f, end), (_level, first, _e) in zip(parts, parts[1:], strict=False):
                        self.assertEqual(end, first)
                    for level, first, _end in parts:
                        self.assertEqual(first, rollup.start_of(level, first))


class DashboardCase(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        leave_figures_alone(cls)
        cls.user = new_test_user(cls.env, 'tc_dash_user', 'tiered_cache.group_cache_user')
        cls.admin = new_test_user(cls.env, 'tc_dash_admin', 'tiered_cache.group_cache_admin')
        cls.both = new_test_user(
            cls.env, 'tc_dash_both', 'tiered_cache.group_cache_admin,base.group_system'
        )
        cls.env.cr.execute("DELETE FROM cache_metric; DELETE FROM cache_total")

    def figures(self, period='day', user=None, **context):
        model = self.env['cache.dashboard'].with_user(user or self.admin)
        return model.with_context(tz='UTC', **context).get_figures(period)

    def now(self):
        return self.env.cr.now().replace(microsecond=0)

    def count(self, work, back=datetime.timedelta()):
        """Write what a process has counted some time ago."""
        epoch_s = (self.now() - back).replace(tzinfo=datetime.timezone.utc).timestamp()
        counters = Metrics(clock=lambda: epoch_s)
        work(counters)
        rollup.write(self.env.cr, counters.drain())


@tagged('post_install', '-at_install')
class TestMonth(DashboardCase):
    """Values and costs with a month of figures."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rows = make_figures(cls.env.cr, cls.env.cr.now().replace(microsecond=0))

    def plain(self, figures, columns, where='TRUE'):
        """The same added up plainly: all rows that count, one by one."""
        start = datetime.datetime.fromtimestamp(figures['starts'][0], datetime.timezone.utc)
        self.env.cr.execute(
            f"SELECT {columns} FROM cache_metric WHERE active AND bucket >= %s AND {where}",
            [start.replace(tzinfo=None)],
        )
        return self.env.cr.fetchone()

    def test_sums_are_those_of_the_rows(self):
        for period in dashboard.PERIODS:
            figures = self.figures(period)
            calls, hits, saved_ms, queries = self.plain(
                figures, 'sum(calls), sum(hits), sum(saved_ms), sum(saved_queries)'
            )
            with self.subTest(period=period):
                self.assertTrue(calls)
                self.assertEqual((figures['calls'], figures['hits']), (calls, hits))
                self.assertAlmostEqual(figures['saved_ms'] / float(saved_ms), 1.0, places=6)
                self.assertEqual(figures['saved_queries'], queries)

    def test_filters_of_the_figures_are_the_periods_of_the_dashboard(self):
        search = etree.fromstring(self.env.ref('tiered_cache.cache_metric_view_search').arch)
        for period in dashboard.PERIODS:
            (domain,) = search.xpath(f"//filter[@name='last_{period}']/@domain")
            for zone in ('UTC', 'Europe/Brussels', 'America/New_York'):
                metrics = self.env['cache.metric'].with_context(tz=zone)
                figures = self.env['cache.dashboard'].with_user(self.admin)
                with self.subTest(period=period, zone=zone), freeze_time(self.now()):
                    figures = figures.with_context(tz=zone).get_figures(period)
                    ((calls,),) = metrics._read_group(literal_eval(domain), [], ['calls:sum'])
                    self.assertEqual(calls, figures['calls'])

    def test_a_rule_has_the_figures_of_the_dashboard(self):
        rule = self.env['cache.rule'].create({'model': 'res.partner', 'methods': 'read'})
        with freeze_time(self.now()):
            (row,) = (
                row
                for row in self.figures('day')['methods']
                if (row['model'], row['method']) == ('res.partner', 'read')
            )
            self.assertEqual(rule.calls_day, row['calls'])
            self.assertAlmostEqual(rule.hit_rate_day, 100 * row['hits'] / row['calls'], places=1)

    def test_curves_are_those_of_the_rows(self):
        for period in dashboard.PERIODS:
            figures = self.figures(period)
            for outcome in CALLS:
                (calls,) = self.plain(figures, 'sum(calls)', f"outcome = '{outcome}'")
                with self.subTest(period=period, outcome=outcome):
                    self.assertEqual(sum(figures['outcomes'][outcome]), calls or 0)
                    self.assertEqual(len(figures['outcomes'][outcome]), len(figures['starts']))
            (stale,) = self.plain(figures, 'sum(calls)', "reason = 'stale'")
            self.assertEqual(sum(figures['reasons'].get('stale', ())), stale or 0)

    def test_a_column_holds_what_happened_in_it(self):
        figures = self.figures('day')
        first, end = (
            datetime.datetime.fromtimestamp(at, datetime.timezone.utc).replace(tzinfo=None)
            for at in figures['starts'][5:7]
        )
        self.env.cr.execute(
            "SELECT sum(hits) FROM cache_metric WHERE active AND outcome = 'l1'"
            " AND bucket >= %s AND bucket < %s",
            [first, end],
        )
        self.assertEqual(figures['outcomes']['l1'][5], self.env.cr.fetchone()[0])

    def test_the_table_is_that_of_the_rows(self):
        for period in dashboard.PERIODS:
            figures = self.figures(period)
            for row in figures['methods'][:3]:
                where = f"model = '{row['model']}' AND method = '{row['method']}'"
                with self.subTest(period=period, call=where):
                    calls, hits = self.plain(figures, 'sum(calls), sum(hits)', where)
                    self.assertEqual((row['calls'], row['hits']), (calls, hits))
                    (stale,) = self.plain(figures, 'sum(calls)', f"{where} AND reason = 'stale'")
                    self.assertEqual(row['reasons'].get('stale', 0), stale or 0)
                    if not stale:
                        continue
                    relation = row['relations'][0]
                    (calls,) = self.plain(
                        figures,
                        'sum(calls)',
                        f"{where} AND reason = 'stale' AND relation = '{relation['relation']}'",
                    )
                    self.assertEqual(relation['calls'], calls)

    def test_what_a_late_process_adds_to_a_past_day_is_seen(self):
        before = self.figures('month')
        self.count(lambda c: c.miss('cold', 'res.bank', 'read', 20.0), 3 * DAY)
        after = self.figures('month')
        self.assertEqual(after['calls'], before['calls'] + 1)
        self.assertIn('res.bank', [row['model'] for row in self.all_methods()])

    def all_methods(self):
        with patch.object(dashboard, 'MAX_METHODS', 1000):
            return self.figures('month')['methods']

    def test_time_saved_by_model(self):
        figures = self.figures('month')
        model, saved_ms = figures['saved_by_model'][0]
        (plain_ms,) = self.plain(figures, 'sum(saved_ms)', f"model = '{model}'")
        self.assertAlmostEqual(saved_ms / float(plain_ms), 1.0, places=4)
        self.assertLessEqual(len(figures['saved_by_model']), 10)

    def test_a_month_costs_few_queries(self):
        for period in dashboard.PERIODS:
            self.figures(period)  # what a registry remembers
            before = self.env.cr.sql_log_count
            self.env.invalidate_all()
            self.figures(period)
            with self.subTest(period=period):
                self.assertLessEqual(self.env.cr.sql_log_count - before, 25)

    def test_a_month_costs_hardly_more_than_counting_its_rows(self):
        def fastest(work):
            return min(self.seconds(work) for _ in range(5))

        counting = fastest(lambda: self.env.cr.execute("SELECT sum(calls) FROM cache_metric"))
        for period in dashboard.PERIODS:
            with self.subTest(period=period):
                self.assertLess(fastest(lambda p=period: self.figures(p)), 3 * counting + 0.05)

    def seconds(self, work):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def test_what_is_sent_does_not_grow_with_the_figures(self):
        for period in dashboard.PERIODS:
            self.assertLess(len(json.dumps(self.figures(period))), 60_000)


@tagged('post_install', '-at_install')
class TestFigures(DashboardCase):
    def test_nothing_measured_yet(self):
        for period in dashboard.PERIODS:
            figures = self.figures(period)
            self.assertTrue(figures['is_empty'])
            self.assertEqual((figures['calls'], figures['methods']), (0, []))

    def test_the_last_seconds_are_there(self):
        self.count(lambda c: c.hit('l1', 'res.partner', 'read', 0.5, 20.0, 3, 100))
        for period in dashboard.PERIODS:
            figures = self.figures(period)
            self.assertFalse(figures['is_empty'])
            self.assertEqual(figures['outcomes']['l1'][-1], 1, period)
            self.assertEqual((figures['calls'], figures['saved_queries']), (1, 3))

    def test_now_is_the_last_minutes(self):
        self.count(lambda c: c.miss('cold', 'res.partner', 'read', 20.0), HOUR / 2)
        self.count(lambda c: c.hit('l1', 'res.partner', 'read'), HOUR / 30)
        self.assertEqual(self.figures()['recent'], {'minutes': 5, 'calls': 1, 'hits': 1})

    def test_percentiles_by_tier(self):
        def work(counters):
            for step in range(100):
                counters.hit('l1', 'res.partner', 'read', 0.5)
                counters.miss('cold', 'res.partner', 'read', 10.0 if step < 90 else 500.0)

        self.count(work)
        for period in dashboard.PERIODS:
            latency = self.figures(period)['latency']
            self.assertAlmostEqual(latency['l1']['median_ms'], 0.5, delta=0.15)
            self.assertAlmostEqual(latency['computed']['median_ms'], 10.0, delta=3.0)
            self.assertAlmostEqual(latency['computed']['p95_ms'], 500.0, delta=150.0)
            self.assertNotIn('l2', latency)

    def test_audited_hits_and_differences(self):
        def work(counters):
            for ok in (True, True, False):
                counters.audit('res.partner', 'read', ok)

        self.count(work)
        figures = self.figures()
        self.assertEqual((figures['audited'], figures['differences']), (3, 1))

    def test_answers_that_came_out_the_same_are_no_calls(self):
        self.count(lambda c: c.miss('stale', 'res.partner', 'read', 20.0, 'res_country'))
        self.count(lambda c: c.same('res.partner', 'read', 'res_country', 'country_id'))
        for period in dashboard.PERIODS:
            figures = self.figures(period)
            (row,) = figures['methods']
            self.assertEqual((figures['calls'], row['calls'], row['reasons']), (1, 1, {'stale': 1}))

    def test_who_writes_to_a_table(self):
        self.count(lambda c: c.miss('stale', 'res.users', 'read', 20.0, 'res_groups_users_rel'))
        (relation,) = self.figures()['methods'][0]['relations']
        self.assertEqual(relation['writers'], ['res.groups', 'res.users'])
        self.assertAlmostEqual(relation['per_hour'], 1 / 23.5, delta=0.01)

    def test_the_rule_of_a_method(self):
        self.count(lambda c: c.miss('stale', 'res.partner', 'read', 20.0, 'res_partner'))
        self.assertFalse(self.figures()['methods'][0]['rule_id'])
        rule = self.env['cache.rule'].create({'model': 'res.partner', 'methods': 'read'})
        self.assertEqual(self.figures()['methods'][0]['rule_id'], rule.id)

    def test_an_unknown_period_is_refused(self):
        for period in ('year', '', None, 7, "day'"):
            with self.assertRaises(UserError):
                self.figures(period)

    def test_plain_values_only(self):
        self.count(lambda c: c.miss('stale', 'res.partner', 'read', 20.0, 'res_partner'))
        json.dumps(self.figures())

    def test_shares_in_words(self):
        dashboard_ = self.env['cache.dashboard']
        shown = [dashboard_._percent(share) for share in (0.0123, 0.5, 1.0)]
        self.assertEqual(shown, ["1.2 %", "50 %", "100 %"])


@tagged('post_install', '-at_install')
class TestAccess(DashboardCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_figures(cls.env.cr, cls.env.cr.now().replace(microsecond=0), days=2)
        cls.env.cr.execute(
            "UPDATE cache_metric SET model = 'ir.config_parameter' WHERE model = 'res.partner'"
        )

    def test_others_see_nothing(self):
        self.patch(dashboard, 'curves', lambda *_args: self.fail("summed up for anybody"))
        for groups in ('base.group_user', 'base.group_system', 'base.group_portal'):
            someone = new_test_user(self.env, f'tc_{groups}', groups)
            with self.subTest(groups=groups), self.assertRaises(AccessError):
                self.figures(user=someone)

    def test_a_cache_user_gets_no_sizes_times_and_tables(self):
        figures = self.figures(user=self.user)
        self.assertFalse(figures['is_admin'])
        self.assertFalse(FOR_ADMINISTRATORS & figures.keys())
        for row in figures['methods']:
            self.assertNotIn('relations', row)
        self.assertNotIn('stock_quant', json.dumps(figures))
        self.assertNotIn('_ms', json.dumps(figures))

    def test_a_cache_user_gets_models_that_they_may_read(self):
        def models(user):
            return {row['model'] for row in self.figures('week', user)['methods']}

        self.assertIn('ir.config_parameter', models(self.admin))
        self.assertNotIn('ir.config_parameter', models(self.user))
        shown = set(self.env['cache.metric'].with_user(self.user)._shown_models())
        self.assertLessEqual(models(self.user), shown)

    def test_sums_are_of_all(self):
        for name in ('calls', 'hits', 'outcomes', 'reasons', 'audited'):
            self.assertEqual(self.figures(user=self.user)[name], self.figures()[name])

    def test_an_administrator_gets_all(self):
        self.assertLessEqual(FOR_ADMINISTRATORS, self.figures().keys())

    def test_rows_of_processes_are_for_administrators(self):
        with self.assertRaises(AccessError):
            self.env['cache.worker'].with_user(self.user).search([])
        self.env['cache.worker'].with_user(self.admin).search([])


@tagged('post_install', '-at_install')
class TestAdviceInWords(DashboardCase):
    def stale_reads(self, counters):
        for _ in range(200):
            counters.miss('stale', 'res.partner', 'read', 20.0, 'res_country_state')
            counters.miss('evicted', 'res.bank', 'read', 20.0)
        for _ in range(60):
            counters.miss('expired', 'res.partner', 'web_read', 20.0, 'clock')
            counters.miss('large', 'res.partner', 'web_read', 20.0, '2048 kB')
        for _ in range(60):
            counters.hit('l2', 'res.partner', 'web_read', 20.0, 0.0)

    def advice(self, user=None):
        return {found['kind']: found for found in self.figures(user=user or self.both)['advice']}

    def test_each_kind_has_words(self):
        self.count(self.stale_reads)
        self.env['cache.worker'].create(
            {
                'token': 'x', 'host': 'one', 'pid': 1, 'kind': 'http', 'l1_bytes': 5e8,
                'memory_bytes': 19e8, 'memory_limit_bytes': 2e9, 'sheds': 3, 'details': {},
                'started_at': self.now(), 'seen_at': self.now(), 'gone_at': self.now() + DAY,
            }
        )  # fmt: skip
        found = self.advice()
        self.assertEqual(
            set(found),
            {'does_not_pay', 'l1_too_small', 'just_too_large', 'busy_relation',
             'memory_is_scarce', 'redis_is_slow', 'clock_shortens'},
        )  # fmt: skip
        for kind, words in found.items():
            with self.subTest(kind=kind):
                self.assertTrue(words['title'] and words['text'])
                self.assertEqual(bool(words['action']), bool(words.get('button')))
        self.assertIn('state_id', found['busy_relation']['text'])

    def test_a_table_that_every_answer_depends_on_is_no_matter_of_columns(self):
        def work(counters):
            for _ in range(200):
                counters.miss('stale', 'res.partner', 'read', 20.0, 'res_country')

        self.count(work)
        text = self.advice()['busy_relation']['text']
        self.assertIn("Every answer depends on this table", text)
        self.assertNotIn('country_id', text)

    def test_a_column_that_is_not_worth_it_has_words(self):
        def work(counters):
            for _ in range(60):
                counters.miss('stale', 'res.partner', 'web_read', 20.0, 'res_country')
                counters.same('res.partner', 'web_read', 'res_country', 'country_id')

        self.count(work)
        found = self.advice()
        self.assertNotIn('busy_relation', found)
        found = found['needless_column']
        self.assertIn("60 of them (100 %)", found['text'])
        self.assertIn("res.country", found['text'])
        self.assertIn("“Country”", found['title'])
        self.assertEqual(found['action']['do'], 'rule_form')

    def test_only_who_may_change_settings_gets_their_button(self):
        self.count(self.stale_reads)
        for user, may in ((self.both, True), (self.admin, False)):
            found = self.advice(user)
            self.assertEqual(bool(found['l1_too_small']['action']), may)
            self.assertTrue(found['does_not_pay']['action'])

    def test_a_rule_is_written_and_the_advice_is_gone(self):
        self.count(self.stale_reads)
        found = self.advice()['does_not_pay']
        self.env['cache.dashboard'].with_user(self.admin).apply_advice(found['action'])
        rule = self.env['cache.rule'].search([('model', '=', found['model'])])
        self.assertEqual((rule.methods, rule.enabled), (found['method'], False))
        left = self.figures()['advice']
        self.assertNotIn(
            (found['model'], found['method']),
            [(a['model'], a['method']) for a in left if a['kind'] == 'does_not_pay'],
        )

    def test_an_option_is_set_and_the_advice_is_gone(self):
        self.count(self.stale_reads)
        action = self.advice()['l1_too_small']['action']
        self.env['cache.dashboard'].with_user(self.both).apply_advice(action)
        self.assertEqual(self.env['ir.config_parameter'].get_param('tiered_cache.l1_max_mb'), '128')
        self.assertNotIn('l1_too_small', self.advice())

    def test_who_has_set_an_option_stands_in_the_log(self):
        self.count(self.stale_reads)
        self.apply(self.both, **self.advice()['l1_too_small']['action'])
        log = self.env['cache.log'].search([], limit=1)
        self.assertEqual((log.create_uid, log.action), (self.both, 'change'))
        self.assertEqual(log.details, "Memory for L1: 64 → 128")

    def test_what_the_server_sets_is_not_offered(self):
        self.count(self.stale_reads)
        self.patch(os, 'environ', {**os.environ, 'TIERED_CACHE_L1_MAX_MB': '32'})
        found = self.advice()['l1_too_small']
        self.assertFalse(found['action'])
        self.assertIn('TIERED_CACHE_L1_MAX_MB', found['text'])
        with self.assertRaises(UserError):
            self.apply(self.both, do='option', name='l1_max_mb', value=64)

    def apply(self, user, **action):
        return self.env['cache.dashboard'].with_user(user).apply_advice(action)

    def test_nobody_applies_what_they_may_not(self):
        for user, action in (
            (self.user, {'do': 'rule_off', 'model': 'res.bank', 'method': 'read'}),
            (self.user, {'do': 'option', 'name': 'l1_max_mb', 'value': 128}),
            (self.admin, {'do': 'option', 'name': 'l1_max_mb', 'value': 128}),
            (self.both, {'do': 'option', 'name': 'redis_url', 'value': 'redis://elsewhere'}),
            (self.both, {'do': 'option', 'name': 'audit_rate', 'value': 0}),
        ):
            with self.subTest(action=action), self.assertRaises(AccessError):
                self.apply(user, **action)

    def test_nonsense_is_refused_with_a_sentence(self):
        for action in (
            {},
            {'do': 'unlink'},
            {'do': 'option', 'name': 'l1_max_mb', 'value': 'much'},
            {'do': 'option', 'name': 'l1_max_mb', 'value': -1},
            {'do': 'rule_off', 'model': 'no.such', 'method': 'read'},
            {'do': 'rule_off', 'model': 'res.bank', 'method': 'unlink'},
            {'do': 'rule_off', 'model': 7, 'method': ['read']},
        ):
            with self.subTest(action=action), self.assertRaises(UserError):
                self.apply(self.both, **action)
        for action in (None, [], 'option'):
            with self.assertRaises(UserError):
                self.env['cache.dashboard'].with_user(self.both).apply_advice(action)


@tagged('post_install', '-at_install')
class TestReports(CacheCase):
    """Rows of processes, written by their background threads."""

    def setUp(self):
        super().setUp()
        self.sql("DELETE FROM cache_worker")
        self.addCleanup(self.sql, "DELETE FROM cache_worker")
        self.reporter = workers.Reporter(self.engine)

    def alive(self):
        return self.commit(lambda env: env['cache.worker']._alive())

    def test_a_process_tells_what_it_holds(self):
        self.warm(lambda env: env['res.bank'].search_read([], ['name']))
        self.reporter.report()
        (row,) = self.alive()
        self.assertEqual((row['pid'], row['l1_entries']), (os.getpid(), 1))
        self.assertGreater(row['calls'], row['hits'])
        self.assertGreater(row['hits'], 0)
        self.assertGreater(row['l1_bytes'], 0)

    def test_it_has_one_row(self):
        for _ in range(3):
            self.reporter.report()
        self.assertEqual(len(self.alive()), 1)

    def test_it_takes_its_row_along(self):
        self.reporter.report()
        self.reporter.leave()
        self.assertEqual(self.alive(), [])

    def test_a_dead_process_is_left_out_and_removed_by_another(self):
        self.reporter.report()
        self.sql("UPDATE cache_worker SET gone_at = now() AT TIME ZONE 'UTC' - interval '1 s'")
        self.assertEqual(self.alive(), [])
        workers.Reporter(self.engine).report()
        self.assertEqual(self.sql("SELECT count(*) FROM cache_worker"), [(1,)])

    def test_shared_tiers_are_measured_by_one_process(self):
        self.configure(l3_enabled='1')
        others = [workers.Reporter(self.engine) for _ in range(2)]
        for reporter in (self.reporter, *others):
            reporter.report()
        measured = [row['measured'] for row in self.alive() if row['measured']]
        self.assertEqual(len(measured), 1)
        self.assertIn('entries', measured[0]['l3'])

    def test_guards_that_wait_are_told(self):
        self.engine.guards.errors['no_such_table'] = "it is not there"
        self.addCleanup(self.engine.guards.errors.clear)
        self.reporter.report()
        (row,) = self.alive()
        self.assertEqual(row['details']['failed'], {'no_such_table': "it is not there"})
        figures = self.commit(lambda env: env['cache.dashboard'].get_figures())
        self.assertEqual(figures['guards']['failed'][0]['relation'], 'no_such_table')

    @mute_logger('odoo.addons.tiered_cache.services.tiers.base')
    def test_a_redis_that_is_down_is_told_without_asking_it(self):
        self.configure(redis_url='redis://localhost:1/0')
        tier = self.engine.hierarchy.tiers['l2']
        tier.get('v1:x')
        self.reporter.report()
        figures = self.commit(lambda env: env['cache.dashboard'].get_figures())
        self.assertEqual((figures['redis']['state'], figures['redis']['down']), ('down', 1))
        self.assertLess(abs(figures['redis']['since'] - time.time()), 60)
        self.assertEqual(figures['redis']['fault'], "nothing listens there")

    def test_without_redis(self):
        self.reporter.report()
        figures = self.commit(lambda env: env['cache.dashboard'].get_figures())
        self.assertEqual(figures['redis'], {'state': 'off'})

    def test_a_table_that_is_missing_stops_nothing_else(self):
        self.engine.outbox.post_job('report', self._fail)
        with mute_logger('odoo.addons.tiered_cache.services.outbox'):
            self.engine.outbox.flush()

    def _fail(self):
        raise psycopg2.errors.UndefinedTable


@tagged('post_install', '-at_install')
class TestDetails(CacheCase):
    """What reads tell the figures for the sake of advice."""

    def test_a_result_that_is_too_large_tells_how_large(self):
        self.configure(max_entry_kb='1')
        for index in range(40):
            self.make('res.bank', {'name': f'Bank {index} ' + os.urandom(60).hex()})
        with self.assertMiss('large', detail=' kB'), self.request() as env:
            env['res.bank'].search_read([], ['name'])

    def test_a_result_of_the_clock_tells_why_it_expired(self):
        self.configure(time_dependent_ttl_s='1')

        def read(env):
            return env['res.bank'].search_read([('create_date', '<', fields.Datetime.now())])

        def read_again(env):
            return env['res.bank'].search_read([('write_date', '<=', 'now')], ['name'])

        self.warm(read_again)
        time.sleep(1.1)
        with self.assertMiss('expired', detail='clock'), self.request() as env:
            read_again(env)


@tagged('post_install', '-at_install')
class TestScreen(HttpCase):
    """The dashboard in a browser."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        leave_figures_alone(cls)
        cls.env.ref('base.user_admin').write({'tz': 'Europe/Brussels'})

    def test_unit_tests_of_its_pieces(self):
        self.browser_js(
            '/web/tests?headless&loglevel=2&preset=desktop&timeout=15000&filter=@tiered_cache',
            "",
            "",
            login='admin',
            timeout=300,
            success_signal="[HOOT] Test suite succeeded",
            error_checker=lambda message: '[HOOT]' not in message,
        )

    def test_tour_opens_it_and_changes_the_period(self):
        make_figures(self.env.cr, self.env.cr.now().replace(microsecond=0))
        self.start_tour('/odoo', 'tiered_cache_dashboard', login='admin')

    def test_tour_without_figures(self):
        self.env.cr.execute("DELETE FROM cache_metric; DELETE FROM cache_total")
        self.start_tour('/odoo', 'tiered_cache_dashboard_empty', login='admin')

    def test_tour_takes_advice(self):
        self.env.cr.execute("DELETE FROM cache_metric; DELETE FROM cache_total")
        counters = Metrics()
        for _ in range(200):
            counters.miss('cold', 'res.bank', 'read', 20.0)
            counters.miss('evicted', 'res.partner', 'web_read', 5.0)
            counters.hit('l1', 'res.partner', 'web_read', 0.5, 20.0)
        for _ in range(60):
            counters.miss('stale', 'res.partner', 'web_search_read', 20.0, 'res_country')
            counters.same('res.partner', 'web_search_read', 'res_country', 'country_id')
        rollup.write(self.env.cr, counters.drain())
        self.start_tour('/odoo', 'tiered_cache_advice', login='admin')
        rules = self.env['cache.rule'].search([('model', 'in', ('res.bank', 'res.partner'))])
        self.assertEqual(
            {(rule.model, rule.methods, rule.enabled, rule.consistency) for rule in rules},
            {
                ('res.bank', 'read', False, False),
                ('res.partner', 'web_search_read', True, 'eventual'),
            },
        )
        self.assertEqual(self.env['ir.config_parameter'].get_param('tiered_cache.l1_max_mb'), '128')
