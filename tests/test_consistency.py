"""Rules: what STRONG, EVENTUAL and WEAK serve, and switching the cache off."""

import time
from unittest.mock import patch

from odoo import api
from odoo.tests import tagged

from .common import ADMIN
from .test_faults import StatesCase


@tagged('post_install', '-at_install')
class TestConsistency(StatesCase):
    def rule(self, **values):
        return self.make('cache.rule', {'model': 'res.bank', **values})

    def elsewhere(self, name):
        """A write by another program."""
        self.sql("UPDATE res_bank SET name = %s WHERE id = %s", [name, self.bank])

    def test_strong_is_the_default_and_sees_every_commit(self):
        self.warm(self.read)
        self.elsewhere('After')
        with self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'After')

    def test_eventual_may_serve_what_is_younger_than_its_staleness(self):
        self.rule(consistency='eventual', max_staleness_s=600)
        self.warm(self.read)
        self.elsewhere('After')
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'Before')

    def test_eventual_costs_no_query(self):
        self.rule(consistency='eventual', max_staleness_s=600)
        self.warm(self.read)
        with self.assertHit(), self.registry.cursor() as cr:
            env = api.Environment(
                cr, ADMIN, {'lang': 'en_US', 'tz': 'Europe/Brussels', 'allowed_company_ids': [1]}
            )
            self.read(env)
            self.assertEqual(cr.sql_log_count, 0)

    def test_eventual_asks_only_whether_it_has_written_itself(self):
        self.rule(consistency='eventual', max_staleness_s=600)
        self.warm(self.read)
        with self.assertHit(), self.request() as env:
            env.cr.execute("SELECT 1")
            before, looks = env.cr.sql_log_count, self.engine.book(env.cr).deltas
            self.read(env)
            self.assertEqual(env.cr.sql_log_count, before + 1)
            self.assertEqual(self.engine.book(env.cr).deltas, looks)

    def test_eventual_sees_the_commit_once_its_staleness_is_over(self):
        self.rule(consistency='eventual', max_staleness_s=0.05)
        self.warm(self.read)
        self.elsewhere('After')
        until = time.monotonic() + 0.06
        while time.monotonic() < until:
            time.sleep(0.01)
        with self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'After')

    def test_eventual_sees_the_commits_of_its_own_process(self):
        self.rule(consistency='eventual', max_staleness_s=600)
        self.warm(self.read)
        self.rename('After')
        with self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'After')

    def test_eventual_keeps_answers_with_the_versions_of_their_own_snapshot(self):
        """Not with those that were known before: an older snapshot would be served them."""
        self.configure(consistency='eventual', max_staleness_s='600')
        self.warm(self.read)
        with self.request() as old:
            self.elsewhere('After')
            self.forget()
            with self.request() as env:
                self.assertEqual(self.read(env)[0]['name'], 'After')
            self.configure(consistency='strong')
            self.assertEqual(self.read(old)[0]['name'], 'Before')

    def test_eventual_sees_its_own_writes(self):
        self.rule(consistency='eventual', max_staleness_s=600)
        self.warm(self.read)
        with self.request(commit=False) as env:
            env['res.bank'].browse(self.bank).name = 'Mine'
            self.assertEqual(self.read(env)[0]['name'], 'Mine')

    def test_weak_serves_until_its_time_is_over(self):
        self.rule(consistency='weak', l1_ttl_s=600, use_l2=False, use_l3=False)
        self.warm(self.read)
        self.elsewhere('After')
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'Before')
        for entry in list(self.engine.hierarchy.tiers['l1']._cache.values()):
            entry.expires = time.time() - 1
        with self.assertMiss(), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'After')

    def test_what_may_be_old_is_no_difference_for_the_auditor(self):
        self.configure(audit_rate='1')
        self.rule(consistency='eventual', max_staleness_s=600)
        self.warm(self.read)
        self.elsewhere('After')
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'Before')
        self.assertFalse(self.engine.suspender.suspended(('res.bank', 'search_read')))

    def test_what_is_of_the_reader_s_snapshot_is_audited_all_the_same(self):
        self.configure(audit_rate='1')
        self.rule(consistency='eventual', max_staleness_s=600)
        self.warm(self.read)
        self.patch(self.engine, 'suspend', lambda name: None)
        with patch('odoo.addons.tiered_cache.services.auditor.audit') as audit:
            audit.return_value = False, 'computed'
            with self.request() as env:
                self.assertEqual(self.read(env), 'computed')

    def test_weak_sees_the_commits_of_its_own_process(self):
        self.rule(consistency='weak', l1_ttl_s=600, use_l2=False, use_l3=False)
        self.warm(self.read)
        self.rename('After')
        with self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'After')

    def test_a_rule_takes_effect_with_its_commit(self):
        self.warm(self.read)
        self.rule(enabled=False)
        with self.request() as env:
            self.read(env)  # looks, and learns of the rule
        with self.assertComputed(), self.request() as env:
            self.read(env)

    def test_a_rule_that_is_removed_has_no_effect_any_more(self):
        rule = self.rule(enabled=False)
        with self.request() as env:
            env['res.country'].search_count([])
        self.remove('cache.rule', rule)
        with self.request() as env:
            env['res.country'].search_count([])
        self.warm(self.read)

    def test_switched_off_nothing_is_asked_and_writes_are_still_journalled(self):
        self.warm(self.read)
        self.configure(enabled='0')
        with self.assertComputed(), self.request() as env:
            self.read(env)
        self.elsewhere('After')
        self.configure(enabled='1')
        with self.assertMiss('stale'), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'After')
