"""What is cached by which rule, and what is left alone because it does not pay."""

from odoo.tests import tagged
from odoo.tests.common import BaseCase

from ..services import options
from ..services.policy import Policy, Suspender
from .tier_tools import Clock

NAME = ('res.partner', 'search_read')


class Model:
    _transient = _abstract = False

    def __init__(self, name, **flags):
        self._name = name
        vars(self).update(flags)


def rule(**values):
    return {'model': 'res.partner', 'methods': '', 'enabled': True, **values}


@tagged('post_install', '-at_install')
class TestPolicy(BaseCase):
    def plan(self, *rules, model='res.partner', method='search_read', **flags):
        policy = Policy(options.load({}, environ={}, config_path=''), rules)
        return policy.plan(Model(model, **flags), method)

    def test_every_persistent_model_is_cached(self):
        plan = self.plan()
        self.assertEqual(plan.consistency, 'strong')
        self.assertEqual(plan.min_cost_ms, {'l1': 2, 'l2': 5, 'l3': 20})

    def test_transient_abstract_and_own_models_are_not(self):
        self.assertIsNone(self.plan(_transient=True))
        self.assertIsNone(self.plan(_abstract=True))
        self.assertIsNone(self.plan(model='cache.metric'))

    def test_models_whose_answers_depend_on_the_session_are_not(self):
        self.assertIsNone(self.plan(model='res.device'))
        self.assertIsNone(self.plan(model='res.device.log'))

    def test_a_rule_switches_one_method_off(self):
        off = rule(enabled=False, methods='search_read, read')
        self.assertIsNone(self.plan(off))
        self.assertIsNotNone(self.plan(off, method='search_count'))
        self.assertIsNotNone(self.plan(off, model='res.users'))

    def test_the_first_rule_that_applies_counts(self):
        plan = self.plan(rule(consistency='weak', l1_ttl_s=5), rule(consistency='eventual'))
        self.assertEqual((plan.consistency, plan.ttl_s['l1']), ('weak', 5))

    def test_a_rule_chooses_tiers(self):
        self.assertEqual(self.plan(rule(use_l2=False, use_l3=False)).min_cost_ms, {'l1': 2})

    def test_a_minimum_cost_of_zero_is_not_the_default(self):
        self.assertEqual(self.plan(rule(min_cost_ms=0)).least_cost_ms, 0)
        self.assertEqual(self.plan(rule(min_cost_ms=-1)).least_cost_ms, 2)


@tagged('post_install', '-at_install')
class TestSuspender(BaseCase):
    def setUp(self):
        super().setUp()
        self.clock = Clock(1000.0)
        self.suspender = Suspender(self.clock)

    def compute(self, times, cost_ms):
        for _again in range(times):
            self.suspender.computed(NAME, cost_ms, least_cost_ms=2)

    def test_what_is_always_too_cheap_is_left_alone(self):
        self.compute(Suspender.PATIENCE - 1, 1)
        self.assertFalse(self.suspender.suspended(NAME))
        self.compute(1, 1)
        self.assertTrue(self.suspender.suspended(NAME))
        self.assertEqual(self.suspender.names(), [NAME])

    def test_what_is_stale_before_it_is_hit_is_left_alone(self):
        for _again in range(Suspender.PATIENCE):
            self.suspender.stale(NAME)
        self.assertTrue(self.suspender.suspended(NAME))

    def test_one_hit_forgives(self):
        for _again in range(Suspender.PATIENCE - 1):
            self.suspender.stale(NAME)
        self.suspender.hit(NAME)
        self.suspender.stale(NAME)
        self.assertFalse(self.suspender.suspended(NAME))

    def test_one_costly_result_forgives(self):
        self.compute(Suspender.PATIENCE - 1, 1)
        self.compute(1, 50)
        self.compute(1, 1)
        self.assertFalse(self.suspender.suspended(NAME))

    def test_a_pause_ends_and_the_next_one_is_longer(self):
        self.compute(Suspender.PATIENCE, 1)
        self.clock.advance(Suspender.PAUSE_S + 1)
        self.assertFalse(self.suspender.suspended(NAME))
        self.compute(4, 1)
        self.clock.advance(Suspender.PAUSE_S + 1)
        self.assertTrue(self.suspender.suspended(NAME))

    def test_a_difference_suspends_until_somebody_looks(self):
        self.suspender.suspend(NAME)
        self.clock.advance(10**9)
        self.assertTrue(self.suspender.suspended(NAME))
        self.suspender.resume(NAME)
        self.assertFalse(self.suspender.suspended(NAME))

    def test_the_expected_cost_follows_what_was_measured(self):
        self.assertIsNone(self.suspender.expected_cost_ms(NAME))
        self.compute(1, 80)
        self.assertEqual(self.suspender.expected_cost_ms(NAME), 80)
        self.compute(60, 8)
        self.assertAlmostEqual(self.suspender.expected_cost_ms(NAME), 8, delta=0.1)
