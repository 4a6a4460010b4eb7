"""The test-only mode in which a transaction's own writes are a snapshot of their own."""

import copy
import os
from unittest.mock import patch

from odoo.addons.tiered_cache.services import engine as engines
from odoo.addons.tiered_cache.services import journal, reading, test_snapshot
from odoo.addons.tiered_cache.services.transaction import state_of
from odoo.tests import tagged
from odoo.tests.common import BaseCase

from .common import ADMIN, CacheCase


@tagged('post_install', '-at_install', 'tiered_cache')
class TestOwnSnapshot(CacheCase):
    options = {'l3_enabled': '1', 'audit_rate': '1'}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.own = test_snapshot.TestEngine(cls.registry)
        cls.addClassCleanup(cls.forget_guards)
        cls.addClassCleanup(cls.own.close)
        cls.startClassPatcher(patch.dict(cls.registry.__dict__, {engines._SLOT: cls.own}))
        cls.startClassPatcher(patch.object(cls, 'engine', cls.own))

    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': 'Old'})

    @classmethod
    def forget_guards(cls):
        with cls.own.cursor() as cr:
            test_snapshot.restore(cr)
            for relation in cls.own.guarded_now:
                journal.release(cr, relation)
                journal.drop_triggers(cr, relation)

    def names(self, env):
        """As another request of the same transaction reads them: nothing is in memory."""
        env.invalidate_all()
        rows = env['res.bank'].search_read([('id', '=', self.bank)], ['name'])
        return [row['name'] for row in rows]

    def rename(self, env, name):
        env['res.bank'].browse(self.bank).name = name
        env.flush_all()

    def test_a_transaction_that_has_written_gets_hits(self):
        with self.request(commit=False) as env:
            self.rename(env, 'New')
            with self.assertMiss('cold'):
                self.assertEqual(self.names(env), ['New'])
            with self.assertHit('l1'):
                self.assertEqual(self.names(env), ['New'])

    def test_each_write_changes_the_answer(self):
        with self.request(commit=False) as env:
            self.names(env)
            for name in ('One', 'Two', 'Three'):
                self.rename(env, name)
                with self.assertMiss('stale', 'res_bank'):
                    self.assertEqual(self.names(env), [name])
                with self.assertHit():
                    self.names(env)

    def test_raw_sql_changes_the_answer(self):
        with self.request(commit=False) as env:
            self.rename(env, 'New')
            self.names(env)
            env.cr.execute("UPDATE res_bank SET name = 'Raw' WHERE id = %s", [self.bank])
            with self.assertMiss('stale', 'res_bank'):
                self.assertEqual(self.names(env), ['Raw'])

    def test_savepoint_rollback_brings_the_former_answer_back(self):
        with self.request(commit=False) as env:
            self.rename(env, 'New')
            self.names(env)
            with self.assertRaises(ZeroDivisionError), env.cr.savepoint():
                self.rename(env, 'Gone')
                raise ZeroDivisionError
            with self.assertHit('l1'):
                self.assertEqual(self.names(env), ['New'])

    def test_what_was_read_in_a_savepoint_is_gone_with_it(self):
        with self.request(commit=False) as env:
            self.rename(env, 'New')
            with self.assertRaises(ZeroDivisionError), env.cr.savepoint():
                self.rename(env, 'Gone')
                self.assertEqual(self.names(env), ['Gone'])
                raise ZeroDivisionError
            with self.assertMiss('stale', 'res_bank'):
                self.assertEqual(self.names(env), ['New'])
            self.rename(env, 'Next')
            with self.assertMiss('stale', 'res_bank'):
                self.assertEqual(self.names(env), ['Next'])

    def test_unflushed_changes_compute(self):
        with self.request(commit=False) as env:
            self.names(env)
            with self.assertHit():
                self.names(env)
            env['res.bank'].browse(self.bank).bic = 'PENDING'
            with self.assertComputed():
                env['res.bank'].search_read([('id', '=', self.bank)], ['name'])

    def test_unsaved_records_compute_until_they_are_dropped(self):
        with self.request(commit=False) as env:
            self.names(env)
            draft = env['res.partner'].new({'name': 'Nobody'})
            with self.assertComputed():
                env['res.bank'].search_read([('id', '=', self.bank)], ['name'])
            self.assertEqual(draft.name, 'Nobody')
            with self.assertHit():
                self.names(env)

    def test_nothing_outlives_the_transaction(self):
        with self.request(commit=False) as env:
            self.rename(env, 'New')
            self.names(env)
            with self.assertHit():
                self.names(env)
        with self.assertMiss('cold'), self.request(commit=False) as env:
            self.assertEqual(self.names(env), ['Old'])

    def test_two_transactions_share_nothing(self):
        with self.request(commit=False) as one:
            self.rename(one, 'New')
            self.names(one)
            with self.assertMiss('cold'), self.request(commit=False) as other:
                self.assertEqual(self.names(other), ['Old'])
            self.assertEqual(self.names(one), ['New'])

    def test_no_tier_but_l1(self):
        self.assertTrue(self.own.settings.l3_enabled)
        self.assertEqual(list(self.own.hierarchy.tiers), ['l1'])
        self.assertFalse(self.own.hierarchy.writers)

    def test_dropping_ormcache_makes_entries_unreachable(self):
        with self.request(commit=False) as env:
            self.rename(env, 'New')
            self.names(env)
            self.registry.clear_cache()
            with self.assertMiss('cold'):
                self.names(env)

    def test_a_wrong_entry_is_found_and_not_suspended(self):
        with self.request(commit=False) as env:
            self.rename(env, 'New')
            self.names(env)
            wrong = [{'id': self.bank, 'name': 'Wrong'}]
            with (
                patch.object(reading.shapes, 'restore', return_value=wrong),
                self.assertLogs('odoo.addons.tiered_cache.services.auditor', 'ERROR'),
            ):
                self.assertEqual(self.names(env), ['New'])
            self.assertEqual(self.log.snapshot()['differences'], 1)
            with self.assertHit():
                self.names(env)

    def test_another_user_of_the_transaction_has_answers_of_his_own(self):
        with self.request(commit=False) as env:
            self.rename(env, 'New')
            self.names(env)
            with self.assertMiss('cold'):
                self.names(env(user=env.ref('base.public_user').id, su=True))
            self.assertEqual(env.uid, ADMIN)


@tagged('post_install', '-at_install', 'tiered_cache')
class TestOwnSnapshotRefused(BaseCase):
    def is_on(self, test_enable, value='1'):
        with (
            patch.object(test_snapshot, 'config', {'test_enable': test_enable}),
            patch.dict(os.environ, {test_snapshot.VARIABLE: value}),
        ):
            return test_snapshot.is_on()

    def test_refused_outside_of_tests(self):
        with self.assertLogs(test_snapshot.__name__, 'ERROR') as logs:
            self.assertFalse(self.is_on(test_enable=False))
        self.assertIn('for tests only', logs.output[0])

    def test_off_unless_asked(self):
        self.assertFalse(self.is_on(test_enable=True, value=''))
        self.assertFalse(self.is_on(test_enable=True, value='0'))
        self.assertTrue(self.is_on(test_enable=True))

    def test_no_engine_of_tests_outside_of_tests(self):
        with (
            patch.object(test_snapshot, 'config', {'test_enable': False}),
            self.assertRaisesRegex(RuntimeError, 'for tests only'),
        ):
            test_snapshot.TestEngine(None)

    def test_a_refusal_changes_nothing(self):
        with (
            patch.object(engines, 'engine_class', engines.Engine),
            patch.object(test_snapshot, 'is_on', return_value=False),
        ):
            test_snapshot.post_load()
            self.assertIs(engines.engine_class, engines.Engine)


@tagged('post_install', '-at_install', 'tiered_cache')
class TestInTransactionCase(CacheCase):
    """What Odoo's ``TransactionCase`` does to the state of a transaction before each test."""

    options = {'capture': 'orm'}

    def test_a_copy_is_the_same_state(self):
        with self.request(commit=False) as env:
            env['res.bank'].create({'name': 'New'})
            state = state_of(env.cr)
            self.assertIs(state.journal_engine, self.engine)
            for queue in (env.cr.postcommit, env.cr.postrollback):
                queue.data = copy.deepcopy(queue.data)
            self.assertIs(state_of(env.cr), state)
