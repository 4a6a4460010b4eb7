"""What happens everywhere when the auditor finds a difference in one worker."""

# "read" and "write" are what these tests do, not overrides of a model's methods
# pylint: disable=method-required-super

import dataclasses

from odoo.tests import tagged
from odoo.tools import mute_logger

from ..services import auditor, codec
from .common import CacheCase


@tagged('post_install', '-at_install')
class TestAuditRule(CacheCase):
    options = {'audit_rate': '1'}

    def read(self, env):
        return env['res.bank'].search_read([('id', '=', self.bank)], ['name'])

    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': 'Right'})
        self.addCleanup(self.engine.tick)  # after the next line, as cleanups go
        self.addCleanup(self.sql, "DELETE FROM cache_rule WHERE model = 'res.bank'")
        self.warm(self.read)
        l1 = self.engine.hierarchy.tiers['l1']
        for entry in [e for e in map(l1.get, self.keys()) if e.model == 'res.bank']:
            wrong = codec.pack([{'id': self.bank, 'name': 'Wrong'}])
            l1.set(dataclasses.replace(entry, payload=wrong))
        with mute_logger(auditor.__name__), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'Right')
        self.engine.flush()

    def keys(self):
        return list(self.engine.hierarchy.tiers['l1']._cache)

    def test_a_rule_says_so_to_administrators(self):
        with self.request() as env:
            rule = env['cache.rule'].search([('model', '=', 'res.bank')])
            self.assertEqual((rule.methods, rule.enabled), ('search_read', False))
            self.assertIn('auditor', rule.note)

    def test_the_method_is_computed_from_then_on(self):
        self.engine.tick()
        with self.assertComputed(), self.request() as env:
            self.read(env)

    def test_what_was_kept_is_removed_everywhere(self):
        self.assertTrue(
            self.sql(
                "SELECT 1 FROM cache_change"
                " WHERE relation = 'pattern:v1:orm:res.bank:search_read:*' LIMIT 1"
            )
        )

    def test_the_wrong_entry_does_not_come_back_with_the_rule_gone(self):
        self.sql("DELETE FROM cache_rule WHERE model = 'res.bank'")
        self.engine.tick()
        with self.assertMiss(), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'Right')
