"""Sums that are prepared before a dashboard asks for them."""

import contextlib
import datetime
from types import SimpleNamespace
from unittest.mock import patch

from odoo.tests import new_test_user, tagged

from ..services import dashboard, rollup, sums
from .figures import make_figures
from .test_dashboard import DashboardCase

HOUR = datetime.timedelta(hours=1)
ZONE = 'America/New_York'


@tagged('post_install', '-at_install')
class TestSums(DashboardCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.user.tz = ZONE
        make_figures(cls.env.cr, cls.env.cr.now().replace(microsecond=0))
        cls.env.cr.execute("DELETE FROM cache_sum")

    def preparer(self, later=datetime.timedelta()):
        """One whose background works in the transaction of the test, some time later."""
        cr = SimpleNamespace(
            execute=self.env.cr.execute,
            fetchone=self.env.cr.fetchone,
            fetchall=self.env.cr.fetchall,
            now=lambda: self.env.cr.now() + later,
        )
        engine = SimpleNamespace(cursor=lambda: contextlib.nullcontext(cr))
        return sums.Preparer(engine, dashboard.parts_that_are_over)

    def methods(self, name, zone='UTC', models=None, book=None):
        """What a process shows that has started just now."""
        when = dashboard.period(name, self.now(), zone)
        return dashboard.methods(self.env.cr, when, models, book)

    def added_up(self, work):
        """The parts that had to be added up for it."""
        with patch.object(sums, 'add_up', side_effect=sums.add_up) as add_up:
            work()
        return [call.args[1] for call in add_up.call_args_list]

    def test_what_was_prepared_is_what_adding_up_gives(self):
        for zone in ('UTC', ZONE):
            before = [self.methods(name, zone) for name in dashboard.PERIODS]
            self.preparer().work()
            for name, found in zip(dashboard.PERIODS, before, strict=True):
                with self.subTest(period=name, zone=zone):
                    again = self.methods(name, zone)
                    self.assertEqual(
                        [(m.model, m.method, m.calls, m.hits, m.reasons, m.details) for m in found],
                        [(m.model, m.method, m.calls, m.hits, m.reasons, m.details) for m in again],
                    )
                    for one, other in zip(found, again, strict=True):
                        self.assertAlmostEqual(one.saved_ms, other.saved_ms, delta=1e-3)

    def test_the_first_request_of_a_process_adds_up_the_present_only(self):
        self.preparer().work()
        for zone in ('UTC', ZONE):
            for name in ('day', 'week', 'month'):
                (open_part,) = self.added_up(lambda n=name, z=zone: self.methods(n, z))
                with self.subTest(period=name, zone=zone):
                    self.assertFalse(sums.is_over(open_part))
                    self.assertLessEqual(self.now() - open_part[1], 25 * HOUR)

    def test_sums_are_there_when_an_hour_and_a_day_begin(self):
        midnight = rollup.start_of('day', self.now()) + 24 * HOUR
        for begins in (rollup.start_of('hour', self.now()) + HOUR, midnight):
            self.preparer(later=begins - self.now() - datetime.timedelta(seconds=30)).work()
            for seconds in (0, 60, 140):
                when = begins + datetime.timedelta(seconds=seconds)
                if seconds > 120:
                    self.preparer(later=begins - self.now() + datetime.timedelta(seconds=70)).work()
                for name in ('day', 'week', 'month'):
                    found = dashboard.period(name, when, ZONE)
                    added = self.added_up(lambda p=found: dashboard.methods(self.env.cr, p))
                    with self.subTest(period=name, begins=begins, seconds=seconds):
                        self.assertEqual([part for part in added if sums.is_over(part)], [])

    def test_it_is_done_once_in_the_installation(self):
        self.assertTrue(self.added_up(self.preparer().work))
        self.assertEqual(self.added_up(self.preparer().work), [])

    def test_a_process_looks_once_an_hour(self):
        preparer = self.preparer()
        preparer.work()
        before = self.env.cr.sql_log_count
        preparer.work()
        self.assertEqual(self.env.cr.sql_log_count, before)

    def test_what_a_late_process_adds_is_seen_and_kept_again(self):
        self.preparer().work()
        self.count(lambda c: c.miss('cold', 'res.bank', 'read', 20.0), 3 * HOUR)
        kept = []
        book = sums.SumBook(lambda *args: kept.append(args))
        self.assertIn('res.bank', [method.model for method in self.methods('day', book=book)])
        ((part, stamp, rows),) = kept
        sums.write(self.env.cr, part, stamp, rows)
        self.assertFalse([p for p in self.added_up(lambda: self.methods('day')) if sums.is_over(p)])
        self.assertIn('res.bank', [method.model for method in self.methods('day')])

    def test_who_may_not_read_a_model_gets_nothing_of_a_kept_sum(self):
        self.preparer().work()
        book = sums.SumBook()
        self.methods('month', book=book)
        for method in self.methods('month', models=['sale.order'], book=book):
            self.assertEqual((method.model, method.details), ('sale.order', {}))

    def test_sums_of_yesterday_go(self):
        self.preparer().work()
        self.env.cr.execute("UPDATE cache_sum SET created_at = created_at - interval '27 hours'")
        part = ('hour', self.now() - HOUR, self.now())
        sums.write(self.env.cr, part, 'x', [])
        self.env.cr.execute("SELECT granularity, stamp FROM cache_sum")
        self.assertEqual(self.env.cr.fetchall(), [('hour', 'x')])

    def test_time_zones_are_those_of_cache_users(self):
        new_test_user(self.env, 'tc_sums_other', 'base.group_user', tz='Asia/Tokyo')
        found = sums.zones(self.env.cr)
        self.assertIn(ZONE, found)
        self.assertNotIn('Asia/Tokyo', found)
