"""Figures: counted per minute, drained once, added up by PostgreSQL."""

import datetime
import threading
from unittest.mock import patch

from odoo.tests import BaseCase, TransactionCase, tagged

from ..services import metrics

NOON = datetime.datetime(2030, 1, 1, 12, 0)


def at(minute=0, second=0):
    """Epoch seconds shortly after noon, UTC."""
    return NOON.replace(tzinfo=datetime.timezone.utc).timestamp() + minute * 60 + second


@tagged('post_install', '-at_install')
class TestCounting(BaseCase):
    def setUp(self):
        super().setUp()
        self.now = at()
        self.metrics = metrics.Metrics(clock=lambda: self.now)

    def test_hits_of_one_minute_are_one_row(self):
        self.metrics.hit('l1', 'res.partner', 'read', 1.5, 10.0, 4, 100)
        self.now = at(second=59)
        self.metrics.hit('l1', 'res.partner', 'read', 0.5, 20.0, 2, 50)
        self.assertEqual(
            self.metrics.drain(),
            [
                {
                    'bucket': NOON,
                    'model': 'res.partner',
                    'method': 'read',
                    'outcome': 'l1',
                    'reason': '',
                    'relation': '',
                    'count': 2,
                    'calls': 2,
                    'hits': 2,
                    'duration_ms': 2.0,
                    'saved_ms': 30.0,
                    'saved_queries': 6,
                    'bytes': 150,
                    'audited': 0,
                    'differences': 0,
                }
            ],
        )

    def test_the_next_minute_is_another_row(self):
        self.metrics.hit('l1', 'res.partner', 'read')
        self.now = at(minute=1)
        self.metrics.hit('l1', 'res.partner', 'read')
        self.assertEqual(
            [row['bucket'] for row in self.metrics.drain()],
            [NOON, NOON + datetime.timedelta(minutes=1)],
        )

    def test_a_miss_is_a_call_and_no_hit(self):
        self.metrics.miss('stale', 'res.partner', 'read', 12.0, 'res_partner')
        (row,) = self.metrics.drain()
        self.assertEqual(
            (row['outcome'], row['reason'], row['relation']), ('computed', 'stale', 'res_partner')
        )
        self.assertEqual((row['calls'], row['hits'], row['duration_ms']), (1, 0, 12.0))

    def test_faults_events_and_audits_are_no_calls(self):
        self.metrics.fault('l2', 'timeout')
        self.metrics.event('guard_failed')
        self.metrics.audit('res.partner', 'read', ok=False)
        rows = self.metrics.drain()
        self.assertEqual(
            [(row['outcome'], row['relation']) for row in rows],
            [('fault', 'l2: timeout'), ('event', 'guard_failed'), ('audit', '')],
        )
        self.assertEqual({row['calls'] for row in rows}, {0})
        self.assertEqual({row['count'] for row in rows}, {1})
        self.assertEqual((rows[2]['audited'], rows[2]['differences']), (1, 1))

    def test_what_is_drained_is_gone(self):
        self.metrics.event('once')
        self.metrics.drain()
        self.assertEqual(self.metrics.drain(), [])

    def test_totals_outlive_a_drain(self):
        self.metrics.hit('l1', 'res.partner', 'read', 1.0, 9.0, 3, 100)
        self.metrics.drain()
        self.metrics.hit('l2', 'res.partner', 'read', 1.0, 9.0, 3, 100)
        self.metrics.miss('cold', 'res.partner', 'read', 10.0)
        self.metrics.fault('l2', 'timeout')
        self.metrics.audit('res.partner', 'read', ok=True)
        snapshot = self.metrics.snapshot()
        self.assertEqual(snapshot['hits'], {'l1': 1, 'l2': 1, 'l3': 0})
        self.assertEqual(snapshot['misses'], {'cold': 1})
        self.assertEqual((snapshot['calls'], snapshot['saved_queries']), (3, 6))
        self.assertAlmostEqual(snapshot['hit_rate'], 2 / 3)
        self.assertEqual(snapshot['faults'], {'l2: timeout': 1})
        self.assertEqual((snapshot['audited'], snapshot['differences']), (1, 0))
        self.assertEqual(
            snapshot['models'],
            [{'model': 'res.partner', 'method': 'read', 'calls': 3, 'hits': 2, 'saved_ms': 18.0}],
        )

    def test_without_calls_there_is_no_hit_rate(self):
        self.assertIsNone(self.metrics.snapshot()['hit_rate'])

    def test_a_snapshot_takes_nothing_from_the_next_drain(self):
        self.metrics.event('once')
        self.metrics.snapshot()
        self.assertEqual(len(self.metrics.drain()), 1)

    def test_memory_is_bounded_and_nothing_is_lost(self):
        with patch.object(metrics, 'MAX_ROWS', 10):
            for number in range(100):
                self.metrics.hit('l1', f'model.{number}', 'read')
            rows = self.metrics.drain()
            self.assertEqual(sum(row['hits'] for row in rows), 100)
            self.assertEqual(len(rows), 11)
            self.assertEqual(rows[-1]['model'], '(other)')

    def test_no_event_of_any_thread_is_lost(self):
        rows = []

        def count():
            for _ in range(2000):
                self.metrics.hit('l1', 'res.partner', 'read')

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            rows += self.metrics.drain()
        rows += self.metrics.drain()
        self.assertEqual(sum(row['hits'] for row in rows), 8000)


@tagged('post_install', '-at_install')
class TestWriting(TransactionCase):
    def setUp(self):
        super().setUp()
        self.env.cr.execute("DELETE FROM cache_metric")
        self.metrics = metrics.Metrics(clock=at)

    def rows(self):
        return self.env['cache.metric'].search([])

    def test_rows_arrive(self):
        self.metrics.hit('l1', 'res.partner', 'read', 1.5, 10.25, 4, 3_000_000_000)
        metrics.write(self.env.cr, self.metrics.drain())
        row = self.rows()
        self.assertEqual(
            (row.bucket, row.model, row.method, row.outcome), (NOON, 'res.partner', 'read', 'l1')
        )
        self.assertEqual((row.count, row.calls, row.hits, row.saved_queries), (1, 1, 1, 4))
        self.assertEqual((row.duration_ms, row.bytes), (1.5, 3_000_000_000))

    def test_rows_of_several_drains_and_processes_add_up(self):
        drained = []
        for _ in range(2):
            self.metrics.miss('cold', 'res.partner', 'read', 5.0)
            drained += self.metrics.drain()
        metrics.write(self.env.cr, drained)
        metrics.write(self.env.cr, drained)
        self.assertEqual(self.rows().mapped(lambda r: (r.calls, r.duration_ms)), [(4, 20.0)])

    def test_nothing_to_write_is_no_query(self):
        with self.assertQueryCount(0):
            self.assertEqual(metrics.write(self.env.cr, []), 0)

    def test_strange_names_do_not_stop_it(self):
        self.metrics.miss('uncacheable', 'res.partner', 'read', 1.0, 'nul \x00 ' + 'é' * 5000)
        metrics.write(self.env.cr, self.metrics.drain())
        self.assertEqual(len(self.rows().relation), metrics.MAX_TEXT - 1)

    def test_rates_of_a_group_come_from_its_sums(self):
        for _ in range(3):
            self.metrics.hit('l1', 'res.partner', 'read', 1.0)
        self.metrics.miss('cold', 'res.partner', 'read', 21.0)
        self.metrics.miss('cold', 'res.users', 'read', 5.0)
        self.metrics.fault('l2', 'timeout')
        metrics.write(self.env.cr, self.metrics.drain())
        groups = self.env['cache.metric'].formatted_read_group(
            [], ['model'], ['hit_rate:avg', 'avg_duration_ms:avg', 'calls:sum']
        )
        figures = {
            g['model']: (g['hit_rate:avg'], g['avg_duration_ms:avg'], g['calls:sum'])
            for g in groups
        }
        self.assertEqual(figures['res.partner'], (75.0, 6.0, 4))
        self.assertEqual(figures['res.users'], (0.0, 5.0, 1))

    def test_old_figures_are_removed(self):
        now = datetime.datetime.now(datetime.timezone.utc).timestamp()
        for age_days in (0, 1, 3):
            counters = metrics.Metrics(clock=lambda age=age_days: now - age * 86400)
            counters.event(f'{age_days} days ago')
            metrics.write(self.env.cr, counters.drain())
        self.assertEqual(self.env['cache.metric']._remove_older_than(2), 1)
        self.assertEqual(set(self.rows().mapped('relation')), {'0 days ago', '1 days ago'})
