"""GreedyDual-Size-Frequency: what is evicted, in which order, and what that costs."""

import random
import typing

from odoo.tests.common import BaseCase, tagged

from ..services.tiers.greedy_dual import GreedyDualCache


class Value(typing.NamedTuple):
    cost: float
    size: int = 1


class PlainModel:
    """The policy as the paper writes it, without a heap: every worth is written down when an
    item is used, and the least is looked for among all of them."""

    def __init__(self, maxsize):
        self.maxsize = maxsize
        self.floor = 0.0
        self.items = {}

    def get(self, key):
        if key in self.items:
            item = self.items[key]
            item['frequency'] += 1
            self._value(item)

    def set(self, key, value):
        frequency = self.items[key]['frequency'] + 1 if key in self.items else 1
        if key in self.items:
            self.items[key]['frequency'] = frequency
            self._value(self.items[key])
        while self._excess(key, value) > 0:
            self.evict()
        item = {'value': value, 'frequency': frequency}
        self.items[key] = item
        self._value(item)

    def _excess(self, key, value):
        others = sum(item['value'].size for other, item in self.items.items() if other != key)
        return others + value.size - self.maxsize

    def _value(self, item):
        gain = item['value'].cost / item['value'].size
        item['worth'] = self.floor + item['frequency'] * gain

    def evict(self):
        key = min(self.items, key=lambda key: (self.items[key]['worth'], key))
        self.floor = self.items.pop(key)['worth']
        return key


@tagged('post_install', '-at_install')
class TestGreedyDual(BaseCase):
    def new_cache(self, maxsize=3):
        return GreedyDualCache(
            maxsize, getcost=lambda value: value.cost, getsizeof=lambda value: value.size
        )

    def test_the_cheapest_leaves_first(self):
        cache = self.new_cache()
        cache.update(a=Value(3), b=Value(1), c=Value(2))
        self.assertEqual([cache.popitem()[0] for _ in range(3)], ['b', 'c', 'a'])

    def test_the_largest_of_equal_cost_leaves_first(self):
        cache = self.new_cache(10)
        cache.update(a=Value(4, 1), b=Value(4, 4), c=Value(4, 2))
        self.assertEqual([cache.popitem()[0] for _ in range(3)], ['b', 'c', 'a'])

    def test_what_is_used_more_often_stays(self):
        cache = self.new_cache()
        cache.update(a=Value(1), b=Value(1), c=Value(1))
        for key in 'aab':
            cache[key]
        self.assertEqual([cache.popitem()[0] for _ in range(3)], ['c', 'b', 'a'])

    def test_what_was_dear_and_is_not_used_any_more_leaves_in_the_end(self):
        cache = self.new_cache(2)
        cache['dear'] = Value(100)
        for number in range(250):
            cache[str(number)] = Value(1)
            cache[str(number)]
        self.assertNotIn('dear', cache)

    def test_what_is_dear_outlives_many_cheap_ones(self):
        cache = self.new_cache(2)
        cache['dear'] = Value(100)
        for number in range(50):
            cache[str(number)] = Value(1)
        self.assertIn('dear', cache)

    def test_a_replaced_item_keeps_its_frequency(self):
        cache = self.new_cache()
        cache.update(a=Value(1), b=Value(1))
        for _ in range(3):
            cache['a']
        cache['a'] = Value(1)
        cache['b']
        self.assertEqual(cache.popitem()[0], 'b')

    def test_a_deleted_item_comes_back_as_a_new_one(self):
        cache = self.new_cache()
        cache.update(a=Value(1), b=Value(1))
        for _ in range(3):
            cache['a']
        del cache['a']
        cache['b']
        cache['a'] = Value(1)
        self.assertEqual(cache.popitem()[0], 'a')

    def test_an_empty_cache_has_nothing_to_give(self):
        cache = self.new_cache()
        with self.assertRaises(KeyError):
            cache.popitem()
        cache['a'] = Value(1)
        cache.clear()
        with self.assertRaises(KeyError):
            cache.popitem()

    def test_a_cost_of_nothing_is_no_division_by_nothing(self):
        cache = self.new_cache()
        cache.update(a=Value(0, 0), b=Value(0, 1))
        self.assertEqual(len(cache), 2)

    def test_the_heap_does_not_grow_with_uses_and_replacements(self):
        cache = self.new_cache(1000)
        for number in range(20_000):
            cache[number % 100] = Value(number % 7)
            cache[number % 100]
        self.assertLess(len(cache._heap), 200)
        for key in list(cache):
            del cache[key]
        self.assertLess(len(cache._heap), 100)

    def test_order_of_eviction_is_that_of_the_paper(self):
        for seed in range(20):
            chance = random.Random(seed)
            cache, model = self.new_cache(60), PlainModel(60)
            for _step in range(400):
                key = chance.randrange(25)
                if chance.random() < 0.6:
                    cache.get(key)
                    model.get(key)
                elif chance.random() < 0.1:
                    cache.pop(key, None)
                    model.items.pop(key, None)
                else:
                    value = Value(chance.randrange(1, 9), 2 ** chance.randrange(4))
                    cache[key] = value
                    model.set(key, value)
                self.assertEqual(set(cache), set(model.items), seed)
            order = [cache.popitem()[0] for _ in range(len(cache))]
            self.assertEqual(order, [model.evict() for _ in range(len(model.items))], seed)
