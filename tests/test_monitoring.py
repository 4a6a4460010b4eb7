"""``/cache/1/health`` and ``/cache/1/metrics``."""

import datetime
import json
import pathlib
import re
import types
from unittest.mock import patch

from odoo.tests import tagged
from odoo.tests.common import BaseCase

from ..services import exposition, pool_figures, published, rollup
from ..services.exposition import Family
from .api_case import ApiCase

DOCS = pathlib.Path(__file__).parent.parent / 'docs'

try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:  # a development requirement
    text_string_to_metric_families = None


def parsed(text):
    """Samples by name, as the official parser reads them: (labels, value) each."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@tagged('post_install', '-at_install')
class TestExposition(BaseCase):
    def render(self, *families):
        with patch.object(exposition, 'SOURCES', [lambda engine, env: families]):
            return exposition.render(None, None)

    def test_any_text_in_a_label_survives(self):
        for text in ('plain', 'a "quoted" one', 'back\\slash', 'two\nlines', '\\n', 'ü€😀', ''):
            rendered = self.render(Family('x', 'gauge', f'help {text}', [({'label': text}, 1)]))
            self.assertEqual(parsed(rendered)['x'], [({'label': text}, 1.0)])

    def test_a_histogram_is_cumulated_and_ends_with_infinity(self):
        bins = [(0.1, 2), (1.0, 0), (float('inf'), 1)]
        found = parsed(self.render(Family('d', 'histogram', "How long", [({}, (bins, 5.5))])))
        self.assertEqual(
            found['d_bucket'], [({'le': '0.1'}, 2), ({'le': '1.0'}, 2), ({'le': '+Inf'}, 3)]
        )
        self.assertEqual((found['d_sum'], found['d_count']), ([({}, 5.5)], [({}, 3)]))

    def test_a_source_that_raises_takes_no_other_with_it(self):
        def bad(engine, env):
            yield Family('half', 'gauge', "", [({}, 1)])
            raise RuntimeError("broken")

        def good(engine, env):
            yield Family('good', 'gauge', "", [({}, 1)])

        with patch.object(exposition, 'SOURCES', [bad, good]):
            found = parsed(exposition.render(None, None))
        self.assertNotIn('half', found)
        self.assertEqual(found['good'], [({}, 1)])
        self.assertEqual([value for _labels, value in found['tiered_cache_source_up']], [0, 1])

    def test_a_source_is_registered_once(self):
        with patch.object(exposition, 'SOURCES', []):
            for _time in range(2):
                exposition.source(published.calls)
            self.assertEqual(len(exposition.SOURCES), 1)


@tagged('post_install', '-at_install')
class TestMetrics(ApiCase):
    options = {'metrics_addresses': '127.0.0.0/8,::1'}

    def scrape(self, address='127.0.0.1', key=False):
        return self.open('/cache/1/metrics', key=key, environ_base={'REMOTE_ADDR': address})

    def test_the_official_parser_reads_it_and_the_sums_are_right(self):
        before = parsed(self.scrape().get_data(as_text=True))
        for _time in range(3):
            self.engine.metrics.hit('l1', 'res.bank', 'read', 2.0, 8.0, 3, 100)
        self.engine.metrics.miss('stale', 'res.bank', 'read', 20.0, 'res_bank')
        self.engine.metrics.miss('cold', 'what.ever', 'read', 20.0)
        self.engine.flush_metrics()
        response = self.scrape()
        self.assertEqual(response.content_type, exposition.CONTENT_TYPE)
        after = parsed(response.get_data(as_text=True))

        def gained(name, **labels):
            def of(found):
                return sum(v for have, v in found.get(name, ()) if labels.items() <= have.items())

            return of(after) - of(before)

        self.assertEqual(gained('tiered_cache_calls_total', tier='l1'), 3)
        self.assertEqual(gained('tiered_cache_misses_total', reason='stale'), 1)
        self.assertEqual(gained('tiered_cache_group_calls_total', group='res', tier='l1'), 3)
        self.assertEqual(gained('tiered_cache_group_calls_total', group='other'), 1)
        self.assertEqual(gained('tiered_cache_saved_queries_total'), 9)
        self.assertEqual(gained('tiered_cache_call_duration_seconds_count', tier='l1'), 3)
        self.assertAlmostEqual(
            gained('tiered_cache_call_duration_seconds_sum', tier='l1'), 0.006, 6
        )
        self.assertTrue(all(value for _labels, value in after['tiered_cache_source_up']), after)

    def test_pools_of_all_processes_are_added_up(self):
        one = pool_figures.PoolFigures()
        one.created = 3
        one.acquired_in(0.004)
        pool = one.as_dict([10.0, 20.0], active=1, idle=2, healthy=2, queued=0)
        rows = [
            {'details': {'redis': {'pool': pool}, 'remotes': {'hq': {'pool': pool}}}},
            {'details': {'redis': {'pool': pool}}},
            {'details': {}},
        ]
        workers = types.SimpleNamespace(_alive=lambda: rows)
        found = {
            (family.name, *labels.values()): value
            for family in published.pools(self.engine, {'cache.worker': workers})
            for labels, value in family.samples
        }
        for value, name, *labels in (
            (4, 'connections', 'redis', 'idle'),
            (2, 'connections', 'remote:hq', 'idle'),
            (3, 'connections', 'remote:hq', 'open'),
            (6, 'created', 'redis'),
            (0.004, 'acquire_mean_seconds', 'redis'),
            (15.0, 'age_mean_seconds', 'remote:hq'),
        ):
            key = (f'tiered_cache_pool_{name}', *labels)
            self.assertAlmostEqual(found[key], value, 6)

    def test_types_and_help_are_there_and_labels_few(self):
        text = self.scrape().get_data(as_text=True)
        for family in text_string_to_metric_families(text):
            self.assertIn(family.type, exposition.TYPES)
            self.assertTrue(family.documentation, family.name)
            self.assertTrue(family.name.startswith('tiered_cache_'), family.name)
            self.assertLess(len(family.samples), 1000, family.name)

    def test_the_page_and_the_dashboard_name_what_there_is(self):
        text = self.scrape().get_data(as_text=True)
        there = set(re.findall(r'^# TYPE (\w+)', text, re.MULTILINE))
        page = (DOCS / 'batch-api.md').read_text(encoding='utf-8')
        self.assertEqual(set(re.findall(r'`(tiered_cache_\w+)`', page)), there)
        board = json.loads((DOCS / 'grafana' / 'tiered-cache.json').read_text(encoding='utf-8'))
        asked = {
            name.removesuffix('_bucket')
            for panel in board['panels']
            for target in panel['targets']
            for name in re.findall(r'tiered_cache_\w+', target['expr'])
        }
        self.assertLessEqual(asked, there)
        self.assertGreater(len(asked), 8)
        self.assertIn('tiered_cache_pool_connections', asked)

    def test_asking_for_new_names_makes_no_new_series(self):
        self.engine.metrics.miss('cold', 'a.model', 'read', 1.0)
        self.engine.flush_metrics()
        before = self.scrape().get_data(as_text=True).count('\n')
        for number in range(50):
            self.engine.metrics.miss('cold', f'invented{number}.model', 'read', 1.0)
        self.engine.flush_metrics()
        self.assertEqual(self.scrape().get_data(as_text=True).count('\n'), before)

    def test_a_counter_does_not_fall_when_old_days_go(self):
        self.engine.metrics.hit('l1', 'res.bank', 'read', 2.0, 8.0, 3, 100)
        self.engine.metrics.fault('l2', 'timeout')
        self.engine.flush_metrics()

        def counters():
            found = parsed(self.scrape().get_data(as_text=True))
            return {
                (name, *sorted(labels.items())): value
                for name, samples in found.items()
                if name.endswith(('_total', '_bucket', '_sum', '_count'))
                for labels, value in samples
            }

        before = counters()
        later = datetime.datetime.now() + datetime.timedelta(days=40)
        with self.engine.cursor() as cr:
            # autovacuum, or who writes figures, may have the tables; the engine would try again
            cr.execute("SET LOCAL lock_timeout = '20s'")
            rollup.retire(cr, later, 1, 31, 32)
            cr.execute("SELECT count(*) FROM cache_total WHERE granularity = 'day'")
            self.assertFalse(cr.fetchone()[0])
        after = counters()
        self.assertEqual(before.keys(), after.keys())
        for name, value in before.items():
            self.assertAlmostEqual(after[name], value, 6, name)

    def test_a_cache_user_learns_no_sizes_times_or_models(self):
        self.engine.metrics.hit('l1', 'hr.employee', 'read', 2.0, 8.0, 3, 12_345)
        self.engine.flush_metrics()
        told = {}
        for group in ('user', 'admin'):
            key = self.new_key(f'tiered_cache.group_cache_{group}')
            told[group] = parsed(self.scrape('10.0.0.1', key=key).get_data(as_text=True))
        page = (DOCS / 'batch-api.md').read_text(encoding='utf-8')
        marked = re.findall(r'`(tiered_cache_\w+)` \*', page)
        self.assertEqual(set(told['user']), set(marked))
        up = 'tiered_cache_source_up'
        self.assertEqual(told['user'][up], told['admin'][up])
        self.assertIn('tiered_cache_served_bytes_total', told['admin'])
        labels = {name for some in told['user'].values() for have, _value in some for name in have}
        self.assertLessEqual(labels, {'tier', 'reason', 'source'})

    def test_only_allowed_addresses_and_cache_users_are_answered(self):
        self.assertEqual(self.scrape('127.0.0.9').status_code, 200)
        self.assertEqual(self.scrape('::ffff:127.0.0.9').status_code, 200)
        self.assertEqual(self.scrape('10.0.0.1').status_code, 401)
        for group, status in (('base.group_user', 403), ('tiered_cache.group_cache_user', 200)):
            self.assertEqual(self.scrape('10.0.0.1', key=self.new_key(group)).status_code, status)
        self.configure(metrics_addresses='')
        self.assertEqual(self.scrape('127.0.0.1').status_code, 401)


@tagged('post_install', '-at_install')
class TestHealth(ApiCase):
    def setUp(self):
        super().setUp()
        # of tables of earlier tests, that are gone and still waited for
        self.patch(self.engine.guards, 'errors', {})
        self.patch(self.engine.guards, '_wanted', {})

    def health(self, key=False):
        return self.open('/cache/1/health', key=key)

    def test_nobody_learns_more_than_the_state(self):
        response = self.health()
        self.assertEqual((response.status_code, response.json), (200, {'status': 'ok'}))

    def test_with_the_key_of_a_cache_user_there_are_details(self):
        self.warm(lambda env: env['res.country'].search_count([]))  # guards some tables
        self.assertEqual(self.health(self.new_key('base.group_user')).status_code, 403)
        found = self.health(self.new_key('tiered_cache.group_cache_user')).json
        self.assertEqual(found['status'], 'ok')
        self.assertEqual(found['tiers']['l1']['state'], 'up')
        self.assertEqual(found['breaker']['l1'], 'closed')
        self.assertGreater(found['guards']['guarded'], 0)
        self.assertIn('journal_rows', found['lag'])
        more = self.health(self.new_key('tiered_cache.group_cache_admin')).json
        self.assertEqual(set(more) - set(found), {'suspended', 'problems'})

    def test_a_wrong_key_is_not_nobody(self):
        self.assertEqual(self.health('wrong').status_code, 401)

    def test_a_cache_that_does_not_run_is_503(self):
        with self.unavailable():
            response = self.health()
        self.assertEqual((response.status_code, response.json), (503, {'status': 'failed'}))

    def test_switched_off_and_degraded_are_no_reason_to_leave(self):
        with patch.object(type(self.engine.hierarchy.tiers['l1']), 'is_up', False):
            self.assertEqual(self.health().json, {'status': 'degraded'})
        self.configure(enabled='0')
        response = self.health()
        self.assertEqual((response.status_code, response.json), (200, {'status': 'off'}))
