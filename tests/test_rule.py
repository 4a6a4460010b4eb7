"""Rules: what cannot work is refused with the reason, the rest is stored tidily."""

from odoo.exceptions import ValidationError
from odoo.tests import Form, TransactionCase, tagged

from ..services import policy


@tagged('post_install', '-at_install')
class TestRule(TransactionCase):
    def test_a_list_says_which_reads_a_rule_is_about(self):
        rule = self.env['cache.rule'].create({'model': 'res.bank'})
        self.assertEqual(rule.shown_methods, "All reads")
        rule.methods = 'read,name_search'
        self.assertEqual(rule.shown_methods, "read, name_search")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.Rule = cls.env['cache.rule']
        cls.Rule.with_context(active_test=False).search([]).unlink()

    def rule(self, model='res.partner', **vals):
        return self.Rule.create({'model_id': self.env['ir.model']._get_id(model), **vals})

    def assertRefused(self, reason, **vals):
        before = self.Rule.with_context(active_test=False).search_count([])
        with self.assertRaisesRegex(ValidationError, reason), self.env.cr.savepoint():
            self.rule(**vals)
        self.assertEqual(self.Rule.with_context(active_test=False).search_count([]), before)

    # -- what is stored

    def test_a_new_rule_changes_nothing(self):
        rule = self.rule()
        self.assertEqual(rule.model, 'res.partner')
        self.assertTrue(rule.enabled and rule.use_l1 and rule.use_l2 and rule.use_l3)
        self.assertFalse(rule.consistency or rule.l1_ttl_s or rule.max_staleness_s)
        self.assertEqual(rule.min_cost_ms, -1)

    def test_the_engine_finds_all_its_columns(self):
        self.rule(methods='read')
        self.env.flush_all()
        self.env.cr.execute(f"SELECT {', '.join(policy.RULE_COLUMNS)} FROM cache_rule")
        (row,) = self.env.cr.dictfetchall()
        self.assertEqual(
            (row['model'], row['methods'], row['enabled']), ('res.partner', 'read', True)
        )

    def test_a_rule_may_name_its_model(self):
        self.assertEqual(self.Rule.create({'model': 'res.users'}).model_id.model, 'res.users')

    def test_methods_are_put_in_order(self):
        self.assertEqual(
            self.rule(methods=' read;web_read, search_read read').methods,
            'search_read,read,web_read',
        )

    def test_a_rule_can_be_made_in_the_form(self):
        form = Form(self.Rule)
        form.model_id = self.env['ir.model']._get('res.partner')
        form.enabled = False
        rule = form.save()
        self.assertEqual(rule.display_name, "res.partner: all reads, off")

    def test_the_name_says_what_it_is_about(self):
        self.assertEqual(
            self.rule(methods='read,web_read').display_name, "res.partner: read, web_read"
        )

    # -- what is refused

    def test_unknown_model(self):
        self.assertRefused("does not exist", model_id=2**31 - 1)
        for model in ('res.nonsense', '', 7):
            with self.assertRaisesRegex(ValidationError, "does not exist"):
                self.Rule.create({'model': model})

    def test_unknown_method_lists_the_known_ones(self):
        self.assertRefused("frobnicate cannot be cached.*search_read", methods='read,frobnicate')

    def test_models_that_are_never_cached(self):
        self.assertRefused("transient", model='res.config.settings')
        self.assertRefused("abstract", model='avatar.mixin')
        for model in (
            'cache.rule',
            'cache.entry',
            'cache.metric',
            'cache.schedule',
            'cache.manager',
        ):
            self.assertRefused("the cache itself", model=model)

    def test_a_rule_needs_a_tier(self):
        self.assertRefused("no tier", use_l1=False, use_l2=False, use_l3=False)
        self.rule(use_l1=False, use_l2=False, use_l3=False, enabled=False)

    def test_times_to_live_have_limits(self):
        for value in (-1, 365 * 24 * 3600 + 1, 2**40, 'soon', '1e9'):
            with self.subTest(value=value):
                self.assertRefused("must be a number between 0 and 31536000", l1_ttl_s=value)

    def test_a_number_may_come_as_text(self):
        self.assertEqual(self.rule(l1_ttl_s='60').l1_ttl_s, 60)

    def test_minimum_cost_has_limits(self):
        for value in (-2, float('nan'), float('inf'), 'cheap'):
            with self.subTest(value=value):
                self.assertRefused("must be a number between -1", min_cost_ms=value)

    def test_weak_needs_a_time_to_live_for_each_tier_in_use(self):
        self.assertRefused("time to live for L1, L3", consistency='weak', l2_ttl_s=60)
        self.rule(consistency='weak', l2_ttl_s=60, use_l1=False, use_l3=False)

    def test_staleness_needs_eventual(self):
        for consistency in (False, 'strong', 'weak'):
            self.assertRefused(
                "May lag behind",
                consistency=consistency,
                max_staleness_s=1,
                l1_ttl_s=1,
                l2_ttl_s=1,
                l3_ttl_s=1,
            )
        self.rule(consistency='eventual', max_staleness_s=0.5)

    def test_two_rules_must_not_overlap(self):
        self.rule(methods='read,web_read')
        self.assertRefused(r"same methods \(web_read\)", methods='web_read,search_read')
        self.assertRefused("same methods", methods='')
        self.rule(methods='search_read')
        self.rule(model='res.users', methods='read')

    def test_archived_rules_do_not_count_until_they_come_back(self):
        first = self.rule(methods='read')
        first.active = False
        self.rule(methods='read')
        with self.assertRaisesRegex(ValidationError, "same methods"):
            first.active = True

    def test_what_cannot_be_created_cannot_be_written_either(self):
        rule = self.rule()
        for vals in (
            {'l2_ttl_s': 'soon'},
            {'methods': 'write'},
            {'model': 'res.nonsense'},
            {'use_l1': False, 'use_l2': False, 'use_l3': False},
        ):
            with (
                self.subTest(vals=vals),
                self.assertRaises(ValidationError),
                self.env.cr.savepoint(),
            ):
                rule.write(vals)
