"""Minutes, hours and days: the same sums, whoever writes when, and whatever has been removed."""

import datetime
import threading

from odoo.tests import TransactionCase, tagged
from odoo.tools import mute_logger

from ..services import metrics, rollup
from ..services.latency import percentile
from .common import CacheCase
from .figures import leave_figures_alone

NOW = datetime.datetime(2031, 3, 15, 14, 37)
SUMS = ', '.join(f'sum({name})' for name in metrics.SUMS)


def counters(moment, work):
    """What a process has counted at a moment."""
    epoch_s = moment.replace(tzinfo=datetime.timezone.utc).timestamp()
    found = metrics.Metrics(clock=lambda: epoch_s)
    work(found)
    return found.drain()


def some_calls(found):
    for _ in range(3):
        found.hit('l1', 'res.partner', 'read', 0.5, 20.0, 4, 900)
    found.hit('l2', 'res.partner', 'read', 2.0, 18.5, 4, 900)
    found.miss('stale', 'res.partner', 'read', 25.0, 'res_partner')
    found.miss('cold', 'res.users', 'web_read', 31.0)
    found.audit('res.partner', 'read', True)
    found.fault('l2', 'timeout')


class RollupCase(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        leave_figures_alone(cls)

    def setUp(self):
        super().setUp()
        self.env.cr.execute("DELETE FROM cache_metric; DELETE FROM cache_total")

    def count(self, moment, work=some_calls):
        rollup.write(self.env.cr, counters(moment, work))

    def rows(self, query, params=()):
        self.env.cr.execute(query, params)
        return self.env.cr.fetchall()

    def sums(self, where='active'):
        """All sums of rows of cache_metric, as one row."""
        (row,) = self.rows(f"SELECT {SUMS} FROM cache_metric WHERE {where}")
        return row

    def counts(self):
        """Rows that count, by granularity."""
        return dict(
            self.rows("SELECT granularity, count(*) FROM cache_metric WHERE active GROUP BY 1")
        )


@tagged('post_install', '-at_install')
class TestLevels(RollupCase):
    def test_each_level_holds_all_sums(self):
        for back_min in (0, 1, 59, 61, 600, 1500, 3000):
            self.count(NOW - datetime.timedelta(minutes=back_min))
        by_level = [self.sums(f"granularity = '{level}'") for level in metrics.GRANULARITIES]
        self.assertEqual(by_level[0], by_level[1])
        self.assertEqual(by_level[0], by_level[2])
        self.assertEqual(by_level[0][0], 7 * 8)

    def test_totals_are_the_sums_of_the_figures(self):
        for back_min in (0, 1, 90, 3000):
            self.count(NOW - datetime.timedelta(minutes=back_min))
        columns = f"granularity, bucket, outcome, coalesce(reason, ''), {SUMS}"
        totals = self.rows(
            f"SELECT {columns} FROM cache_total WHERE count > 0 GROUP BY 1, 2, 3, 4"
            " ORDER BY 1, 2, 3, 4"
        )
        figures = self.rows(
            f"SELECT {columns} FROM cache_metric GROUP BY 1, 2, 3, 4 ORDER BY 1,2,3,4"
        )
        self.assertEqual(len(totals), len(figures))
        for total, figure in zip(totals, figures, strict=True):
            self.assertEqual(total[:7], figure[:7])
            for value, expected in zip(total[7:], figure[7:], strict=True):
                self.assertAlmostEqual(float(value), float(expected))

    def test_a_view_counts_each_call_once(self):
        self.count(NOW)
        self.assertEqual(sum(self.env['cache.metric'].search([]).mapped('calls')), 6)

    def test_histograms_of_several_processes_add_up(self):
        for _ in range(2):
            self.count(NOW)
        for level in metrics.GRANULARITIES:
            found = dict(
                self.rows(
                    "SELECT outcome, latency FROM cache_total"
                    " WHERE granularity = %s AND latency IS NOT NULL",
                    [level],
                )
            )
            self.assertEqual({name: sum(bins) for name, bins in found.items()},
                             {'l1': 6, 'l2': 2, 'computed': 4})  # fmt: skip
            self.assertAlmostEqual(percentile(found['l1'], 0.5), 0.5, delta=0.1)

    def test_figures_of_an_older_version_are_added_up_once(self):
        drained = counters(NOW, some_calls)
        metrics.write(self.env.cr, drained, ['minute'])
        for _upgrade in range(2):
            rollup.install(self.env.cr)
            for level in ('hour', 'day'):
                self.assertEqual(self.sums(f"granularity = '{level}'"), self.sums())
        ((total,),) = self.rows("SELECT sum(calls) FROM cache_total WHERE granularity = 'hour'")
        self.assertEqual(total, 6)


@tagged('post_install', '-at_install')
class TestRetire(RollupCase):
    def retire(self, now=NOW, minutes_days=2, hours_days=60, days=730):
        return rollup.retire(self.env.cr, now, minutes_days, hours_days, days)

    def write_many(self):
        """Events of one minute of each of these ages, in days."""
        for age_days in (0, 0.5, 1.9, 2.5, 3, 40, 59, 61.5, 100, 700):
            self.count(NOW - datetime.timedelta(days=age_days))

    def test_nothing_is_lost_and_nothing_counts_twice(self):
        self.write_many()
        before = self.sums()
        self.retire()
        self.assertEqual(self.sums(), before)
        self.assertEqual(self.counts(), {'minute': 3 * 6, 'hour': 4 * 6, 'day': 3 * 6})

    def test_doing_it_again_changes_nothing(self):
        self.write_many()
        self.retire()
        before = self.rows("SELECT * FROM cache_metric ORDER BY id")
        self.assertEqual(self.retire(), 0)
        self.assertEqual(self.rows("SELECT * FROM cache_metric ORDER BY id"), before)

    def test_what_is_older_than_all_limits_goes_everywhere(self):
        self.write_many()
        self.retire(days=90)
        oldest = NOW - datetime.timedelta(days=91)
        for table in ('cache_metric', 'cache_total'):
            old = f"SELECT DISTINCT granularity FROM {table} WHERE bucket < %s"
            # what is counted since the beginning must not fall
            self.assertEqual(self.rows(old, [oldest]), [('ever',)])

    def test_what_is_kept_for_ever_is_in_no_list_pivot_and_graph(self):
        self.write_many()
        self.retire(days=90)
        figures = self.env['cache.metric']
        ever = "SELECT count(*) > 0 FROM cache_metric WHERE granularity = 'ever'"
        self.assertEqual(self.rows(ever), [(True,)])
        self.assertFalse(figures.search([('granularity', '=', 'ever')]))
        ((calls,),) = self.rows("SELECT sum(calls) FROM cache_metric WHERE active")
        for groups in (['granularity'], ['model', 'method'], ['bucket:day'], ['outcome', 'reason']):
            found = figures.formatted_read_group([], groups, ['calls:sum'])
            with self.subTest(groups=groups):
                self.assertEqual(sum(group['calls:sum'] for group in found), calls)
                self.assertNotIn('ever', [group.get('granularity') for group in found])

    def test_an_hour_is_never_half_minutes_and_half_hour(self):
        for minute in range(60):
            self.count(datetime.datetime(2031, 3, 13, 14, minute))
        before = self.sums()
        for minute in (10, 37, 59):
            self.retire(datetime.datetime(2031, 3, 15, 14, minute))
            self.assertEqual(self.sums(), before)
            self.assertEqual(set(self.counts()), {'minute'})
        self.retire(datetime.datetime(2031, 3, 15, 15, 0))
        self.assertEqual(self.sums(), before)
        self.assertEqual(set(self.counts()), {'hour'})

    def test_a_day_by_day_life_keeps_all_sums(self):
        start = datetime.datetime(2031, 1, 1, 8, 0)
        for day in range(80):
            moment = start + datetime.timedelta(days=day)
            self.count(moment)
            self.retire(moment)
            self.assertEqual(self.sums()[1], 6 * (day + 1))
        self.assertEqual(self.counts(), {'minute': 3 * 6, 'hour': 58 * 6, 'day': 19 * 6})

    def test_removing_all_counts_what_was_shown(self):
        self.count(NOW)
        self.assertEqual(self.env['cache.metric']._remove_older_than(-36500), 6)
        self.assertEqual(self.rows("SELECT count(*) FROM cache_total"), [(0,)])


@tagged('post_install', '-at_install')
class TestTogether(CacheCase):
    """Several connections at once."""

    MODEL = 'tiered_cache.together'

    def setUp(self):
        super().setUp()
        self.addCleanup(self.clean)

    def clean(self):
        self.sql("DELETE FROM cache_metric WHERE bucket > '2031-01-01'")
        self.sql("DELETE FROM cache_total WHERE bucket > '2031-01-01'")

    def run_all(self, *works):
        errors = []

        def run(work):
            try:
                work()
            except Exception as error:  # noqa: BLE001
                errors.append(error)

        threads = [threading.Thread(target=run, args=[work]) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(errors, [])

    def writer(self, times):
        def work():
            for _ in range(times):
                drained = counters(NOW, some_calls)
                with self.engine.cursor() as cr:
                    cr.execute("SET LOCAL lock_timeout = '20s'")
                    rollup.write(cr, drained)

        return work

    def retirer(self, times):
        def work():
            for _ in range(times):
                with self.engine.cursor() as cr:
                    cr.execute("SET LOCAL lock_timeout = '20s'")
                    rollup.retire(cr, NOW + datetime.timedelta(days=3), 2, 60, 730)

        return work

    @mute_logger('odoo.sql_db')
    def test_processes_that_write_at_once_lose_nothing(self):
        self.run_all(*[self.writer(8)] * 4)
        for level in metrics.GRANULARITIES:
            ((calls,),) = self.sql(
                "SELECT sum(calls) FROM cache_metric WHERE granularity = %s AND"
                " bucket > '2031-01-01'",
                [level],
            )
            self.assertEqual(calls, 4 * 8 * 6)

    @mute_logger('odoo.sql_db')
    def test_removing_while_others_write_loses_nothing(self):
        self.run_all(*[self.writer(8)] * 2, *[self.retirer(8)] * 2)
        self.retirer(1)()
        ((calls,),) = self.sql(
            "SELECT sum(calls) FROM cache_metric WHERE active AND bucket > '2031-01-01'"
        )
        self.assertEqual(calls, 2 * 8 * 6)
