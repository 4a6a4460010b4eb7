"""The order of the tiers: look near first, judge before use, promote, admit by cost."""

import time

from odoo.tests import tagged
from odoo.tests.common import BaseCase

from ..services.hierarchy import Hierarchy
from ..services.policy import Plan
from ..services.tiers import MemoryTier
from .tier_tools import make_entry

PLAN = Plan('strong', 1.0, {'l1': 60, 'l2': 300, 'l3': 3600}, {'l1': 2, 'l2': 5, 'l3': 20})


def valid(entry):
    return '', ''


def stale(entry):
    return 'stale', 'res_partner'


class FailedTier(MemoryTier):
    """Notes who asks it."""

    is_up = False

    def __init__(self, asked):
        super().__init__(100, 10**6)
        self.asked = asked

    def get(self, key):
        self.asked.append(key)
        return super().get(key)


class SlowTier(MemoryTier):
    def __init__(self, pause_s):
        super().__init__(100, 10**6)
        self.pause_s, self.asked = pause_s, 0

    def get(self, key):
        self.asked += 1
        time.sleep(self.pause_s)
        return super().get(key)


@tagged('post_install', '-at_install')
class TestHierarchy(BaseCase):
    def setUp(self):
        super().setUp()
        self.tiers = {name: MemoryTier(100, 10**6) for name in ('l1', 'l2', 'l3')}
        self.hierarchy = Hierarchy(self.tiers, lambda name, entry: self.tiers[name].set(entry))

    def get(self, entry, judge=valid, expected_ms=None, **options):
        return self.hierarchy.get(entry.key, PLAN, judge, expected_ms, **options)

    def holders(self, entry):
        return [
            name for name, tier in self.tiers.items() if entry.key in tier.get_many([entry.key])
        ]

    def test_a_cheap_result_stays_near(self):
        for cost_ms, tiers in ((1, []), (2, ['l1']), (5, ['l1', 'l2']), (20, ['l1', 'l2', 'l3'])):
            entry = make_entry(f'v1:cost:{cost_ms}', cost_ms=cost_ms)
            self.assertEqual(self.hierarchy.put(entry, PLAN), tiers)
            self.assertEqual(self.holders(entry), tiers)

    def test_each_tier_has_its_own_time_to_live(self):
        entry = make_entry()
        self.hierarchy.put(entry, PLAN)
        for name, ttl_s in PLAN.ttl_s.items():
            kept = self.tiers[name].get(entry.key)
            self.assertAlmostEqual(kept.expires - kept.created, ttl_s)

    def test_a_cap_holds_in_every_tier(self):
        entry = make_entry()
        self.hierarchy.put(entry, PLAN, ttl_cap_s=30)
        for tier in self.tiers.values():
            self.assertAlmostEqual(tier.get(entry.key).expires, entry.created + 30)

    def test_a_far_answer_is_promoted(self):
        entry = make_entry()
        self.tiers['l3'].set(entry)
        self.assertEqual(self.get(entry).tier, 'l3')
        self.assertEqual(self.holders(entry), ['l1', 'l2', 'l3'])
        self.assertEqual(self.get(entry).tier, 'l1')

    def test_promotion_does_not_prolong_a_life(self):
        entry = make_entry(ttl_s=7)
        self.tiers['l3'].set(entry)
        self.get(entry)
        self.assertAlmostEqual(self.tiers['l1'].get(entry.key).expires, entry.expires)

    def test_a_stale_answer_is_not_served(self):
        entry = make_entry()
        self.tiers['l1'].set(entry)
        found = self.get(entry, stale)
        self.assertEqual(
            (found.entry, found.reason, found.relation), (None, 'stale', 'res_partner')
        )

    def test_behind_a_stale_answer_a_newer_one_is_found(self):
        old, new = make_entry(payload=b'old'), make_entry(payload=b'new')
        self.tiers['l1'].set(old)
        self.tiers['l2'].set(new)
        found = self.get(old, lambda e: stale(e) if e.payload == b'old' else valid(e))
        self.assertEqual((found.tier, found.entry.payload), ('l2', b'new'))
        self.assertEqual(self.tiers['l1'].get(old.key).payload, b'new')

    def test_a_tier_that_would_not_have_admitted_it_is_not_asked(self):
        entry = make_entry()
        self.tiers['l3'].set(entry)
        self.assertIsNone(self.get(entry, expected_ms=10).entry)
        self.assertIs(self.get(entry, expected_ms=20).tier, 'l3')

    def test_only_the_background_asks_a_tier_that_has_failed(self):
        entry, asked = make_entry(), []
        self.tiers['l2'] = FailedTier(asked)
        self.tiers['l3'].set(entry)
        self.assertEqual(self.get(entry).tier, 'l3')
        self.assertEqual(asked, [])
        self.hierarchy.probe()
        self.assertEqual(len(asked), 1)

    def test_a_tier_that_is_slower_than_computing_is_not_asked(self):
        entry = make_entry(cost_ms=30)
        tier = self.tiers['l2'] = SlowTier(pause_s=0.02)
        for _ in range(5):
            self.get(entry, expected_ms=10)
        self.assertEqual(tier.asked, 3)
        self.get(entry, expected_ms=1000)
        self.assertEqual(tier.asked, 4)

    def test_a_tier_that_was_slow_once_is_asked_again(self):
        entry = make_entry(cost_ms=30)
        tier = self.tiers['l2'] = SlowTier(pause_s=0.02)
        self.get(entry, expected_ms=10)
        tier.pause_s = 0
        for _ in range(4):
            self.get(entry, expected_ms=10)
        self.assertEqual(tier.asked, 5)

    def test_the_background_finds_that_a_slow_tier_has_recovered(self):
        entry = make_entry(cost_ms=30)
        tier = self.tiers['l2'] = SlowTier(pause_s=0.02)
        for _ in range(4):
            self.get(entry, expected_ms=10)
        tier.pause_s = 0
        self.hierarchy.probe()
        tier.set(entry)
        self.assertEqual(self.get(entry, expected_ms=10).tier, 'l2')

    def test_inner_calls_ask_the_nearest_tier_only(self):
        entry = make_entry()
        self.tiers['l2'].set(entry)
        self.assertIsNone(self.get(entry, only_l1=True).entry)

    def test_the_next_miss_says_evicted_once(self):
        entry = make_entry()
        self.hierarchy.evicted(entry.key)
        self.assertEqual(self.get(entry).reason, 'evicted')
        self.assertEqual(self.get(entry).reason, 'cold')

    def test_the_memory_of_evictions_is_bounded(self):
        for number in range(10_050):
            self.hierarchy.evicted(f'v1:k:{number}')
        self.assertEqual(len(self.hierarchy._gone), 10_000)

    def test_a_successor_keeps_what_it_goes_on_using(self):
        closed = []
        for name, tier in self.tiers.items():
            self.patch(tier, 'close', lambda name=name: closed.append(name))
        self.hierarchy.close_except(Hierarchy({'l1': self.tiers['l1']}, None))
        self.assertEqual(closed, ['l2', 'l3'])
