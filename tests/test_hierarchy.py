"""The order of the tiers: look near first, judge before use, promote, admit by cost."""

import dataclasses
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

    def test_several_are_found_where_each_of_them_is(self):
        entries = {name: make_entry(f'v1:several:{name}') for name in self.tiers}
        for name, entry in entries.items():
            self.tiers[name].set(entry)
        keys = [*(entry.key for entry in entries.values()), 'v1:several:none']
        asked = []
        for name, tier in self.tiers.items():
            get_many = tier.get_many
            self.patch(tier, 'get_many', lambda ks, n=name, g=get_many: asked.append(n) or g(ks))
        found = self.hierarchy.get_many([(key, PLAN, valid) for key in keys])
        self.assertEqual([found[key].tier for key in keys], ['l1', 'l2', 'l3', ''])
        self.assertEqual(asked, ['l1', 'l2', 'l3'])
        self.assertEqual(found[keys[3]].reason, 'cold')
        for entry in entries.values():
            self.assertIn('l1', self.holders(entry))

    def test_of_several_a_stale_one_is_passed_over(self):
        old, new, alone = make_entry('v1:s:1'), make_entry('v1:s:1'), make_entry('v1:s:2')
        self.tiers['l1'].set(old)
        self.tiers['l2'].set(new)
        self.tiers['l3'].set(alone)
        judge = lambda entry: valid(entry) if entry is new else stale(entry)  # noqa: E731
        found = self.hierarchy.get_many([(e.key, PLAN, judge) for e in (old, alone)])
        self.assertIs(found[old.key].entry, new)
        self.assertEqual((found[alone.key].entry, found[alone.key].reason), (None, 'stale'))

    def test_several_of_which_a_shared_tier_has_not_taken_all_are_written_again_later(self):
        posted = []
        hierarchy = Hierarchy(self.tiers, lambda name, entry: posted.append((name, entry.key)))
        items = [(make_entry(f'v1:s:{n}', cost_ms=20), PLAN, None) for n in range(2)]
        hierarchy.put_many(items, at_once=True)
        self.assertEqual(posted, [('l3', 'v1:s:0'), ('l3', 'v1:s:1')])
        posted.clear()
        self.tiers['l2'] = MemoryTier(100, 1)  # too small for any
        hierarchy.put_many(items, at_once=True)
        self.assertEqual(posted, [('l2', 'v1:s:0'), ('l2', 'v1:s:1')])
        self.assertEqual(len(self.tiers['l3'].get_many(['v1:s:0', 'v1:s:1'])), 2)

    def lives_s(self, jitter_percent, entries, plan=PLAN, **options):
        """How long entries live that are kept at the same time, by tier."""
        self.hierarchy.jitter_percent = jitter_percent
        lives_s = {name: [] for name in self.tiers}
        for entry in entries:
            self.hierarchy.put(entry, plan, **options)
            for name, tier in self.tiers.items():
                lives_s[name].append(tier.get(entry.key).expires - entry.created)
        return lives_s

    def test_what_is_kept_together_does_not_end_together(self):
        now = time.time()
        lives_s = self.lives_s(10, [make_entry(f'v1:e:{n}@0', now=now) for n in range(100)])
        for name, ttl_s in PLAN.ttl_s.items():
            with self.subTest(name):
                self.assertLessEqual(max(lives_s[name]), ttl_s)
                self.assertGreaterEqual(min(lives_s[name]), 0.9 * ttl_s)
                # evenly: a quarter in each quarter, give or take
                steps = [int((1 - life_s / ttl_s) * 40) for life_s in lives_s[name]]
                for quarter in range(4):
                    self.assertTrue(12 <= steps.count(quarter) <= 40, steps)

    def test_a_key_is_not_always_the_one_that_lives_shortest(self):
        now = time.time()
        lives_s = self.lives_s(10, [make_entry(now=now - n) for n in range(20)])
        self.assertEqual(len({round(life_s, 6) for life_s in lives_s['l1']}), 20)

    def test_each_tier_shortens_a_life_by_the_same_share(self):
        lives_s = self.lives_s(50, [make_entry()])
        shares = {round(lives_s[name][0] / ttl_s, 6) for name, ttl_s in PLAN.ttl_s.items()}
        self.assertEqual(len(shares), 1)
        self.assertLess(shares.pop(), 1)

    def test_who_promotes_an_entry_comes_to_the_same_end(self):
        entry = make_entry()
        self.lives_s(50, [entry])
        before = self.tiers['l1'].get(entry.key).expires
        self.tiers['l1'].clear()
        self.hierarchy = Hierarchy(self.tiers, self.hierarchy._post, jitter_percent=50)
        self.assertEqual(self.get(entry).tier, 'l2')
        self.assertAlmostEqual(self.tiers['l1'].get(entry.key).expires, before)

    def test_jitter_leaves_the_time_after_the_life_alone(self):
        plan = dataclasses.replace(
            PLAN, keep_s=1000.0, ttl_s={name: ttl_s + 1000 for name, ttl_s in PLAN.ttl_s.items()}
        )
        now = time.time()
        entries = [make_entry(f'v1:e:{n}@0', now=now) for n in range(50)]
        for name, lives_s in self.lives_s(50, entries, plan).items():
            self.assertLessEqual(max(lives_s), PLAN.ttl_s[name] + 1000)
            self.assertGreaterEqual(min(lives_s), PLAN.ttl_s[name] / 2 + 1000)

    def test_jitter_shortens_what_is_capped(self):
        now = time.time()
        entries = [make_entry(f'v1:e:{n}@0', now=now) for n in range(50)]
        for lives_s in self.lives_s(50, entries, ttl_cap_s=30).values():
            self.assertTrue(15 <= min(lives_s) < max(lives_s) <= 30)

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
