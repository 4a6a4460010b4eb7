"""Scheduled removals: they happen once, at their time, whatever happens to the others."""

# "read" is what these tests do, not an override of a model's method
# pylint: disable=method-required-super

from datetime import datetime, timedelta
from unittest.mock import patch

from odoo import api, fields
from odoo.exceptions import AccessError, UserError, ValidationError
from odoo.tests import TransactionCase, new_test_user, tagged
from odoo.tools import mute_logger

from ..services import journal
from .common import CacheCase

MODEL = 'odoo.addons.tiered_cache.models.cache_schedule'


@tagged('post_install', '-at_install')
class TestScheduling(TransactionCase):
    """What may be scheduled, by whom."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = new_test_user(cls.env, 'tc_sched_admin', 'tiered_cache.group_cache_admin')
        cls.user = new_test_user(cls.env, 'tc_sched_user', 'tiered_cache.group_cache_user')
        cls.manager = cls.env['cache.manager'].with_user(cls.admin)
        cls.cron = cls.env.ref('tiered_cache.ir_cron_schedule')

    def schedule(self, *args, manager=None, **kwargs):
        manager = self.manager if manager is None else manager
        id_ = manager.schedule_removal(*args, **kwargs)
        return self.env['cache.schedule'].with_user(self.admin).browse(id_)

    def triggers(self):
        return self.env['ir.cron.trigger'].search([('cron_id', '=', self.cron.id)])

    def test_after_a_delay(self):
        record = self.schedule('pattern', 'v1:supplier:*', delay_s=90)
        wanted = fields.Datetime.now() + timedelta(seconds=90)
        self.assertLess(abs(record.at - wanted), timedelta(seconds=5))
        self.assertEqual((record.state, record.create_uid), ('pending', self.admin))

    def test_at_a_time_as_code_or_rpc_gives_it(self):
        for at in (datetime(2036, 1, 2, 3, 4, 5), '2036-01-02 03:04:05'):
            self.assertEqual(self.schedule('all', at=at).at, datetime(2036, 1, 2, 3, 4, 5))

    def test_the_scheduled_action_is_triggered_for_the_time(self):
        at = datetime(2036, 1, 2, 3, 4, 5)
        record = self.schedule('all', at=at)
        self.assertIn(at, self.triggers().mapped('call_at'))
        record.at = later = datetime(2036, 2, 3)
        self.assertIn(later, self.triggers().mapped('call_at'))

    def test_every_kind(self):
        for kind, target in (
            ('key', 'v1:supplier:detail:42'),
            ('pattern', 'v1:supplier:*'),
            ('tag', 'prices'),
            ('model', 'res.partner'),
            ('relation', 'res_partner'),
            ('user', self.user.id),
            ('all', None),
        ):
            with self.subTest(kind):
                record = self.schedule(kind, target, delay_s=1)
                self.assertEqual(record.target, '' if target is None else str(target))

    def test_what_cannot_be_removed_is_refused_at_once(self):
        for kind, target in (
            ('nonsense', 'x'),
            ('key', ''),
            ('key', 'a\nb'),
            ('pattern', '[a'),
            ('model', 'res.nonsense'),
            ('model', 'base'),
            ('relation', 'no_such_table'),
            ('user', 'admin'),
            ('user', '0'),
        ):
            with self.subTest(kind=kind, target=target), self.assertRaises(UserError):
                self.schedule(kind, target, delay_s=1)
            refusal = ValueError if kind == 'nonsense' else ValidationError
            with self.subTest(kind=kind, target=target), self.assertRaises(refusal):
                self.env['cache.schedule'].with_user(self.admin).create(
                    {'kind': kind, 'target': target}
                )

    def test_a_time_has_to_be_said_once(self):
        for when in (
            {},
            {'delay_s': 1, 'at': '2036-01-01'},
            {'delay_s': -1},
            {'delay_s': float('nan')},
            {'delay_s': 10**12},
            {'delay_s': 'soon'},
            {'at': 'tomorrow'},
        ):
            with self.subTest(when), self.assertRaises(UserError):
                self.schedule('all', **when)

    def test_what_is_pending_can_be_cancelled_and_nothing_else(self):
        record = self.schedule('all', delay_s=600)
        record.action_cancel()
        self.assertEqual(record.state, 'cancelled')
        self.assertTrue(record.finished_at)
        with self.assertRaises(UserError):
            record.action_cancel()

    def test_nobody_writes_what_only_happens(self):
        record = self.schedule('all', delay_s=600)
        for vals in ({'state': 'done'}, {'removed_l1': 5}, {'reason': "x"}):
            with self.subTest(vals), self.assertRaises(UserError):
                record.write(vals)
            with self.subTest(vals), self.assertRaises(UserError):
                record.create({'kind': 'all', **vals})
        record.action_cancel()
        with self.assertRaises(UserError):
            record.note = "too late"

    def test_a_duplicate_is_a_new_promise(self):
        record = self.schedule('pattern', 'v1:a*', delay_s=600)
        record.action_cancel()
        self.assertEqual(record.copy().state, 'pending')

    def test_only_cache_administrators_schedule(self):
        with self.assertRaises(AccessError):
            self.schedule('all', delay_s=1, manager=self.manager.with_user(self.user))
        with self.assertRaises(AccessError):
            self.env['cache.schedule'].with_user(self.user).create({'kind': 'all'})
        mine = self.schedule('all', delay_s=1, manager=self.manager.with_user(self.user).sudo())
        others = self.schedule('all', delay_s=1)
        self.assertEqual(self.env['cache.schedule'].with_user(self.user).search([]), mine)
        with self.assertRaises(AccessError):
            mine.with_user(self.user).action_cancel()
        with self.assertRaises(ValidationError):
            others.write({'kind': 'user', 'target': 'x'})

    def test_old_ones_are_forgotten_and_pending_ones_are_not(self):
        kept = self.schedule('all', delay_s=600)
        recent, old = self.schedule('all', delay_s=600), self.schedule('all', delay_s=600)
        (recent | old).action_cancel()
        old.sudo().finished_at = datetime(2020, 1, 1)
        kept.sudo().at = datetime(2020, 1, 1)
        self.env.flush_all()
        self.assertEqual(self.env['cache.schedule']._remove_older_than(30), 1)
        self.assertEqual((kept | recent | old).exists(), kept | recent)

    def test_the_maintenance_forgets_them(self):
        old = self.schedule('all', delay_s=600)
        old.action_cancel()
        old.sudo().finished_at = datetime(2020, 1, 1)
        self.env.flush_all()
        self.patch(type(self.env['cache.metric']), '_remove_older_than', lambda _self, _days: 0)
        self.env['cache.manager']._cron_maintain()
        self.assertFalse(old.exists())


@tagged('post_install', '-at_install')
class TestRunning(CacheCase):
    """The scheduled action, with real commits."""

    def setUp(self):
        super().setUp()
        self.addCleanup(self.sql, "DELETE FROM cache_schedule")
        self.sql("DELETE FROM cache_schedule")
        # an earlier test may have kept tables busy that are to be guarded; try again at once
        guards = self.engine.guards
        guards._wanted = dict.fromkeys(guards._wanted, 0.0)

    def read(self, env):
        return env['res.country'].search_read([('code', '=', 'BE')], ['name'])

    def schedule(self, kind='pattern', target='v1:orm:res.country:*', due=True):
        at = datetime(2020 if due else 2036, 1, 1)
        return self.commit(
            lambda env: env['cache.schedule'].create({'kind': kind, 'target': target, 'at': at}).id
        )

    def run_cron(self):
        self.commit(lambda env: env['cache.schedule']._cron_run())

    def states(self):
        return [state for (state,) in self.sql("SELECT state FROM cache_schedule ORDER BY id")]

    def removals(self, name):
        (rows,) = self.sql("SELECT count(*) FROM cache_change WHERE relation = %s", [name])
        return rows[0]

    def test_what_is_due_is_removed_and_what_is_not_is_not(self):
        self.warm(self.read)
        self.schedule(due=False)
        self.run_cron()
        with self.assertHit(), self.request() as env:
            self.read(env)
        self.schedule()
        self.run_cron()
        with self.assertMiss(), self.request() as env:
            self.read(env)
        self.assertEqual(self.states(), ['pending', 'done'])

    def test_it_says_what_went(self):
        self.warm(self.read)
        id_ = self.schedule()
        self.run_cron()
        ((l1, finished),) = self.sql(
            "SELECT removed_l1, finished_at FROM cache_schedule WHERE id = %s", [id_]
        )
        self.assertGreaterEqual(l1, 1)
        self.assertTrue(finished)

    def test_one_that_fails_says_why_and_the_others_go_on(self):
        ids = [self.schedule(), self.schedule(), self.schedule()]
        self.sql(
            "UPDATE cache_schedule SET kind = 'model', target = 'tc.gone' WHERE id = %s", [ids[1]]
        )
        with mute_logger(MODEL):
            self.run_cron()
        self.assertEqual(self.states(), ['done', 'failed', 'done'])
        self.assertIn(
            'tc.gone', self.sql("SELECT reason FROM cache_schedule WHERE id = %s", [ids[1]])[0][0]
        )

    def test_an_error_of_the_database_undoes_that_removal_only(self):
        self.schedule('tag', 'tc_one')
        self.schedule('tag', 'tc_two')
        manager = type(self.commit(lambda env: env['cache.manager']))
        original = manager._remove

        def broken(records, kind, target):
            counts = original(records, kind, target)
            if target == 'tc_one':
                records.env.cr.execute("SELECT 1 / 0")
            return counts

        self.patch(manager, '_remove', broken)
        with mute_logger(MODEL, 'odoo.sql_db'):
            self.run_cron()
        self.assertEqual(self.states(), ['failed', 'done'])
        self.assertEqual((self.removals('tag:tc_one'), self.removals('tag:tc_two')), (0, 1))
        self.sql("DELETE FROM cache_change WHERE relation LIKE 'tag:tc_%%'", [])

    def test_two_workers_never_do_one_twice(self):
        """One has locked it, and the other passes it over; one has done it since the other's
        transaction began, and the other looks again."""
        self.schedule('tag', 'tc_once')
        self.addCleanup(self.sql, "DELETE FROM cache_change WHERE relation = 'tag:tc_once'")
        with self.request(api.SUPERUSER_ID) as late:
            late.cr.execute("SELECT 1")  # its snapshot shows the removal as pending
            with self.request(api.SUPERUSER_ID) as first:
                record = first['cache.schedule']._next_due()
                with self.request(api.SUPERUSER_ID) as second:
                    self.assertIsNone(second['cache.schedule']._next_due())
                record._run()
            late['cache.schedule']._cron_run()
        self.assertEqual(self.removals('tag:tc_once'), 1)
        self.assertEqual(self.states(), ['done'])

    def test_a_crash_before_the_commit_leaves_it_pending(self):
        self.schedule('tag', 'tc_crash')
        with self.request(api.SUPERUSER_ID, commit=False) as env:
            env['cache.schedule']._next_due()._run()
            env.flush_all()
        self.assertEqual((self.states(), self.removals('tag:tc_crash')), (['pending'], 0))

    def test_what_was_cancelled_is_not_done(self):
        id_ = self.schedule('tag', 'tc_cancelled')
        self.commit(lambda env: env['cache.schedule'].browse(id_).action_cancel())
        self.run_cron()
        self.assertEqual((self.states(), self.removals('tag:tc_cancelled')), (['cancelled'], 0))

    def test_odoo_runs_it_by_itself(self):
        """As a cron worker does, from the trigger on."""
        self.schedule()
        self.commit(lambda env: env.ref('tiered_cache.ir_cron_schedule').method_direct_trigger())
        self.assertEqual(self.states(), ['done'])

    def test_while_the_cache_does_not_run_they_wait(self):
        self.schedule()
        with patch(f'{MODEL}.engine_for', return_value=None):
            self.run_cron()
        self.assertEqual(self.states(), ['pending'])

    def test_the_journal_names_what_is_removed(self):
        self.schedule('user', '7')
        before = self.removals(journal.USER + '7')
        self.run_cron()
        self.assertEqual(self.removals(journal.USER + '7'), before + 1)
        self.sql("DELETE FROM cache_change WHERE relation = 'user:7'")
