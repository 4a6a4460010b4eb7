"""L1: limits, what each policy evicts, what is counted and told."""

import gc
import threading
import tracemalloc

from odoo.tests.common import BaseCase, tagged

from ..services.entry import Entry, from_bytes, to_bytes
from ..services.miss import MISS
from ..services.tiers.memory import POLICIES, MemoryTier
from .tier_tools import Clock, make_entry


class MemoryCase(BaseCase):
    def setUp(self):
        super().setUp()
        self.clock = Clock()
        self.evicted, self.expired = [], []

    def new_tier(self, max_entries=1000, max_bytes=10_000_000, policy='lru'):
        return MemoryTier(
            max_entries,
            max_bytes,
            policy,
            self.clock,
            on_evict=lambda key, entry: self.evicted.append((key, entry)),
            on_expire=lambda key, entry: self.expired.append((key, entry)),
        )

    def entry(self, key, size=100, ttl_s=3600, **values):
        return make_entry(key, payload=bytes(size), ttl_s=ttl_s, now=self.clock(), **values)

    def present(self, tier, keys):
        return [key for key in keys if tier.get(key) is not MISS]


@tagged('post_install', '-at_install')
class TestMemoryLimits(MemoryCase):
    def assertEachPolicy(self, check):
        for policy in POLICIES:
            with self.subTest(policy=policy):
                self.evicted.clear()
                self.expired.clear()
                check(policy)

    def test_never_more_entries_than_allowed(self):
        def check(policy):
            tier = self.new_tier(max_entries=10, policy=policy)
            for number in range(50):
                tier.set(self.entry(str(number)))
                self.assertLessEqual(tier.stats()['entries'], 10)
            self.assertEqual(len(self.evicted), 40)

        self.assertEachPolicy(check)

    def test_never_more_bytes_than_allowed(self):
        def check(policy):
            tier = self.new_tier(max_bytes=20_000, policy=policy)
            for number in range(200):
                tier.set(self.entry(str(number), size=number * 37 % 5000))
                self.assertLessEqual(tier.stats()['bytes'], 20_000)
            self.assertGreater(tier.stats()['bytes'], 10_000)

        self.assertEachPolicy(check)

    def test_bytes_are_the_sum_of_the_entries(self):
        def check(policy):
            tier = self.new_tier(policy=policy)
            entries = [self.entry(str(number), size=number) for number in range(20)]
            tier.set_many(entries)
            tier.set(self.entry('3', size=999))
            tier.delete(['4', '5'])
            kept = [tier.get(entry.key) for entry in entries]
            self.assertEqual(
                tier.stats()['bytes'], sum(entry.size_bytes for entry in kept if entry is not MISS)
            )

        self.assertEachPolicy(check)

    def test_entry_larger_than_the_tier_is_refused_and_evicts_nothing(self):
        def check(policy):
            tier = self.new_tier(max_bytes=5000, policy=policy)
            tier.set(self.entry('small'))
            self.assertFalse(tier.set(self.entry('large', size=6000)))
            self.assertEqual(self.present(tier, ['small', 'large']), ['small'])

        self.assertEachPolicy(check)

    def test_refused_replacement_leaves_no_older_value(self):
        def check(policy):
            tier = self.new_tier(max_bytes=5000, policy=policy)
            tier.set(self.entry('k'))
            tier.set(self.entry('k', size=6000))
            self.assertIs(tier.get('k'), MISS)

        self.assertEachPolicy(check)

    def test_replacement_that_grows_makes_room(self):
        def check(policy):
            tier = self.new_tier(max_bytes=20_000, policy=policy)
            tier.set_many([self.entry(str(number), size=3000) for number in range(4)])
            self.assertTrue(tier.set(self.entry('3', size=15_000)))
            self.assertEqual(len(tier.get('3').payload), 15_000)
            self.assertLessEqual(tier.stats()['bytes'], 20_000)

        self.assertEachPolicy(check)

    def test_replacement_does_not_count_as_another_entry(self):
        def check(policy):
            tier = self.new_tier(max_entries=2, policy=policy)
            tier.set_many([self.entry('a'), self.entry('b'), self.entry('a'), self.entry('b')])
            self.assertEqual(self.present(tier, 'ab'), ['a', 'b'])
            self.assertEqual(self.evicted, [])

        self.assertEachPolicy(check)

    def test_zero_turns_it_off(self):
        for limits in ({'max_entries': 0}, {'max_bytes': 0}):
            tier = self.new_tier(**limits)
            self.assertFalse(tier.set(self.entry('k')))
            self.assertIs(tier.get('k'), MISS)
            self.assertEqual(tier.stats()['state'], 'off')

    def test_unknown_policy(self):
        with self.assertRaisesRegex(ValueError, 'lru'):
            self.new_tier(policy='random')

    def test_counted_bytes_are_what_python_allocates(self):
        for policy in POLICIES:
            for payload, dependencies in ((300, 8), (3000, 20)):
                with self.subTest(policy=policy, payload=payload):
                    self.assertHonest(policy, payload, dependencies, max_bytes=10**9, count=3000)

    def test_full_tier_takes_what_it_may_take(self):
        for policy in POLICIES:
            with self.subTest(policy=policy):
                self.assertHonest(policy, 300, 8, max_bytes=3_000_000, count=6000)

    def test_a_tier_in_which_everything_was_replaced_takes_what_it_says(self):
        for policy in POLICIES:
            with self.subTest(policy=policy):
                self.assertHonest(policy, 300, 8, max_bytes=10**9, count=3000, rounds=3)

    def assertHonest(self, policy, payload, dependencies, max_bytes, count, rounds=1):
        bodies = [
            to_bytes(self.long_entry(number, payload, dependencies))
            for _round in range(rounds)
            for number in range(count)
        ]
        # what another thread allocates meanwhile is traced as well, so the least counts
        taken, counted = min(self.fill(policy, max_bytes, bodies) for _attempt in range(3))
        self.assertLess(abs(taken - counted) / counted, 0.10, (taken, counted))

    def fill(self, policy, max_bytes, bodies):
        """Bytes that a tier takes with these entries, and bytes that it says it takes."""
        gc.collect()
        tracemalloc.start()
        try:
            tier = MemoryTier(10**6, max_bytes, policy)
            before, _peak = tracemalloc.get_traced_memory()
            for body in bodies:
                tier.set(from_bytes(body))
            gc.collect()
            after, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return after - before, tier.stats()['bytes']

    def long_entry(self, number, payload, dependencies) -> Entry:
        return make_entry(
            f'v1:orm:product.product:web_search_read:{number:032x}',
            payload=bytes(payload),
            ttl_s=3600 + number,
            removal_version=2**60 + number,
            cost_ms=5.5 + number,
            dependencies=tuple(
                (f'relation_{relation}', 2**61 + number * 99 + relation, None)
                for relation in range(dependencies)
            ),
        )


@tagged('post_install', '-at_install')
class TestMemoryPolicies(MemoryCase):
    def survivors(self, policy, *uses):
        """Fill a tier for three with a, b, c; use some; add d."""
        tier = self.new_tier(max_entries=3, policy=policy)
        for key, ttl_s in (('a', 300), ('b', 200), ('c', 100)):
            tier.set(self.entry(key, ttl_s=ttl_s))
        for use in uses:
            use(tier)
        tier.set(self.entry('d'))
        return ''.join(self.present(tier, 'abcd'))

    def test_lru_evicts_what_was_not_used_for_longest(self):
        self.assertEqual(self.survivors('lru', lambda tier: tier.get('a')), 'acd')

    def test_lru_counts_a_replacement_as_use(self):
        self.assertEqual(self.survivors('lru', lambda tier: tier.set(self.entry('a'))), 'acd')

    def test_lfu_evicts_what_was_used_least_often(self):
        self.assertEqual(
            self.survivors(
                'lfu',
                lambda tier: tier.get_many('ac'),
                lambda tier: tier.get('c'),
                lambda tier: tier.get('a'),
                lambda tier: tier.get('b'),
            ),
            'acd',
        )

    def test_fifo_evicts_what_was_stored_first(self):
        self.assertEqual(self.survivors('fifo', lambda tier: tier.get('a')), 'bcd')

    def test_ttl_removes_what_has_expired_first(self):
        self.assertEqual(self.survivors('ttl', lambda tier: self.clock.advance(150)), 'abd')
        self.assertEqual([key for key, _entry in self.expired], ['c'])
        self.assertEqual(self.evicted, [])

    def test_ttl_evicts_what_was_not_used_for_longest_if_nothing_has_expired(self):
        self.assertEqual(self.survivors('ttl', lambda tier: tier.get('a')), 'acd')

    def test_cost_evicts_what_is_cheap_to_compute_again(self):
        tier = self.new_tier(max_entries=3, policy='cost')
        for key, cost_ms in (('a', 50), ('b', 5), ('c', 500)):
            tier.set(self.entry(key, cost_ms=cost_ms))
        tier.set(self.entry('d', cost_ms=50))
        self.assertEqual(self.present(tier, 'abcd'), ['a', 'c', 'd'])

    def test_cost_evicts_what_is_large_for_what_it_saves(self):
        tier = self.new_tier(max_entries=2, policy='cost')
        tier.set_many([self.entry('large', size=50_000), self.entry('small')])
        tier.set(self.entry('new'))
        self.assertEqual(self.present(tier, ('large', 'small', 'new')), ['small', 'new'])

    def test_cost_keeps_what_is_used_often(self):
        self.assertEqual(
            self.survivors('cost', lambda tier: tier.get_many('ac'), lambda tier: tier.get('a')),
            'acd',
        )


@tagged('post_install', '-at_install')
class TestMemoryPressure(MemoryCase):
    """What the background thread asks of L1."""

    def full(self, policy, count=40):
        tier = self.new_tier(policy=policy, max_bytes=100_000)
        tier.set_many([self.entry(str(number), size=1000) for number in range(count)])
        return tier

    def each_policy(self):
        for policy in POLICIES:
            with self.subTest(policy=policy):
                self.evicted.clear()
                self.expired.clear()
                yield policy

    def test_a_sweep_removes_what_nobody_asks_for_any_more(self):
        for policy in self.each_policy():
            tier = self.full(policy)
            tier.set(self.entry('young', ttl_s=7200))
            self.clock.advance(3600)
            self.assertEqual(tier.sweep(), 40)
            self.assertEqual(len(self.expired), 40)
            self.assertEqual(tier.stats()['entries'], 1)
            self.assertEqual(self.evicted, [])

    def test_a_sweep_is_no_use_of_an_entry(self):
        tier = self.new_tier(max_entries=3)
        tier.set_many([self.entry(key) for key in 'abc'])
        tier.get('a')
        tier.sweep()
        tier.set(self.entry('d'))
        self.assertEqual(self.present(tier, 'abcd'), ['a', 'c', 'd'])

    def test_a_quarter_is_shed(self):
        for policy in self.each_policy():
            tier = self.full(policy)
            before = tier.stats()['bytes']
            count = tier.shed(0.25)
            stats = tier.stats()
            self.assertLessEqual(stats['bytes'], before * 0.75)
            self.assertGreater(stats['bytes'], before * 0.75 - 3000)
            self.assertEqual((count, stats['shed']), (len(self.evicted), count))

    def test_many_entries_are_shed_in_slices(self):
        tier = self.new_tier(max_entries=10_000)
        tier.set_many([self.entry(f'{number:04}') for number in range(4000)])
        self.assertEqual(tier.shed(0.5), 2000)

    def test_what_is_shed_is_what_the_policy_thinks_least_of(self):
        tier = self.new_tier(policy='cost')
        tier.set_many([self.entry(str(n), cost_ms=n) for n in range(100)])
        tier.shed(0.25)
        self.assertEqual(self.present(tier, map(str, range(25))), [])
        self.assertEqual(len(self.present(tier, map(str, range(26, 100)))), 74)

    def test_a_restricted_tier_takes_its_share_and_no_more(self):
        for policy in self.each_policy():
            tier = self.full(policy)
            tier.restrict(0.5)
            self.assertEqual(tier.stats()['allowed_bytes'], 50_000)
            for number in range(100):
                tier.set(self.entry(f'new {number}', size=number * 37 % 3000))
                self.assertLessEqual(tier.stats()['bytes'], 50_000)
            self.assertGreater(tier.stats()['bytes'], 40_000)

    def test_an_entry_larger_than_the_share_is_refused(self):
        tier = self.new_tier(max_bytes=10_000)
        tier.restrict(0.5)
        self.assertFalse(tier.set(self.entry('k', size=6000)))
        tier.restrict(1)
        self.assertTrue(tier.set(self.entry('k', size=6000)))

    def test_lifting_the_restriction_gives_the_whole_limit_back(self):
        for policy in self.each_policy():
            tier = self.full(policy)
            tier.restrict(0.25)
            tier.restrict(1)
            tier.set_many([self.entry(f'new {n}', size=1000) for n in range(200)])
            self.assertGreater(tier.stats()['bytes'], 95_000)


@tagged('post_install', '-at_install')
class TestMemoryNews(MemoryCase):
    def test_eviction_is_told_with_key_and_entry(self):
        tier = self.new_tier(max_entries=1)
        first = self.entry('first')
        tier.set_many([first, self.entry('second')])
        self.assertEqual(self.evicted, [('first', first)])
        self.assertEqual(tier.stats()['evicted'], 1)

    def test_removal_and_replacement_are_not_evictions(self):
        tier = self.new_tier()
        tier.set_many([self.entry('a'), self.entry('a'), self.entry('b')])
        tier.delete(['a'])
        tier.delete_pattern('b*')
        tier.set(self.entry('c'))
        tier.clear()
        self.assertEqual((self.evicted, self.expired), ([], []))

    def test_expiry_is_told_once(self):
        for policy in POLICIES:
            with self.subTest(policy=policy):
                self.expired.clear()
                tier = self.new_tier(policy=policy)
                entry = self.entry('k', ttl_s=10)
                tier.set(entry)
                self.clock.advance(10)
                tier.get('k')
                tier.get('k')
                self.assertEqual(self.expired, [('k', entry)])
                self.assertEqual(tier.stats()['expired'], 1)

    def test_expired_entry_gives_its_memory_back(self):
        for policy in POLICIES:
            tier = self.new_tier(policy=policy)
            tier.set(self.entry('k', ttl_s=10))
            self.clock.advance(10)
            tier.get('k')
            self.assertEqual(tier.stats()['bytes'], 0)

    def test_callback_may_use_the_tier(self):
        tier = self.new_tier(max_entries=1)
        seen = []
        tier.on_evict = lambda key, entry: seen.append(tier.get('b') is not MISS)
        tier.set_many([self.entry('a'), self.entry('b')])
        self.assertEqual(seen, [True])

    def test_limits_hold_with_many_threads(self):
        for policy in POLICIES:
            tier = MemoryTier(50, 100_000, policy, on_evict=lambda key, entry: None)
            errors, start = [], threading.Barrier(8)

            def work(seed, tier=tier, errors=errors, start=start):
                try:
                    start.wait()
                    for step in range(300):
                        key = str(seed * step % 97)
                        tier.set(make_entry(key, payload=bytes(step * 7 % 3000)))
                        tier.get(str(step % 97))
                        if step % 50 == 0:
                            tier.delete_pattern('*1')
                except Exception as error:
                    errors.append(error)

            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(errors, [])
            stats = tier.stats()
            self.assertLessEqual(stats['entries'], 50)
            self.assertLessEqual(stats['bytes'], 100_000)
