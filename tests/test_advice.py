"""Advice: drawn from figures, silent without them."""

import types

from odoo.tests import BaseCase, tagged

from ..services import advice, options
from ..services.dashboard import Method

DEFAULTS = {name: option.default for name, option in options.OPTIONS.items()}
WORKER = {
    'host': 'one',
    'pid': 7,
    'l1_entries': 100,
    'l1_max_entries': 10_000,
    'l1_bytes': 1_000_000,
    'memory_bytes': 0,
    'memory_limit_bytes': 0,
    'sheds': 0,
}


def method(
    model='res.partner', name='web_search_read', hits=0, details=(), cost_ms=20.0, **reasons
):
    found = Method(model, name)
    found.add('l1', '', '', hits, hits * 1.0, hits * 20.0)
    for reason, calls in reasons.items():
        found.add('computed', reason, '', calls, calls * cost_ms, 0.0)
    found.details.update(details)
    return found


def scene(*methods, options_=None, totals=None, **more):
    settings = types.SimpleNamespace(**{**DEFAULTS, **(options_ or {})})
    return advice.Scene(methods, totals or {}, settings, **more)


class AdviceCase(BaseCase):
    def advise(self, function, *methods, **more):
        return list(function(scene(*methods, **more)))

    def assertSilent(self, function, *methods, **more):
        self.assertEqual(self.advise(function, *methods, **more), [])


@tagged('post_install', '-at_install')
class TestAdvice(AdviceCase):
    def test_without_figures_there_is_none(self):
        self.assertEqual(advice.advise(scene()), [])
        self.assertEqual(advice.advise(scene(method(hits=3, stale=2))), [])

    def test_a_healthy_office_gets_none(self):
        healthy = method(hits=9000, stale=400, cold=300, cheap=50, dirty=100)
        totals = {'l2': {'hits': 500, 'duration_ms': 600.0, 'saved_ms': 9000.0}}
        self.assertEqual(advice.advise(scene(healthy, totals=totals, workers=[WORKER])), [])

    def test_what_loses_most_comes_first(self):
        small, large = method(stale=200, cost_ms=2.0), method('res.bank', cold=200, cost_ms=50.0)
        found = advice.advise(scene(small, large))
        self.assertEqual(found[0].evidence['model'], 'res.bank')

    def test_there_is_never_much(self):
        many = [method(f'x.{number}', cold=200 + number) for number in range(50)]
        self.assertEqual(len(advice.advise(scene(*many))), advice.MOST_OF_A_KIND)


@tagged('post_install', '-at_install')
class TestDoesNotPay(AdviceCase):
    function = staticmethod(advice.does_not_pay)

    def test_hardly_ever_hit(self):
        (found,) = self.advise(self.function, method(hits=5, stale=150, cold=50))
        self.assertEqual(found.evidence['calls'], 205)
        self.assertAlmostEqual(found.evidence['hit_rate'], 5 / 205)
        self.assertEqual(found.evidence['reason'], 'stale')
        self.assertEqual(
            found.action, {'do': 'rule_off', 'model': 'res.partner', 'method': 'web_search_read'}
        )

    def test_suspended(self):
        (found,) = self.advise(self.function, method(hits=1, stale=40, suspended=400))
        self.assertGreater(found.evidence['suspended'], 0.9)

    def test_few_calls_say_nothing(self):
        self.assertSilent(self.function, method(stale=99))

    def test_calls_that_could_not_be_hits_say_nothing(self):
        self.assertSilent(self.function, method(hits=50, dirty=3000, cheap=3000, stale=60))

    def test_who_has_a_rule_is_left_to_it(self):
        for methods in ([], ['web_search_read']):
            rule = {'model': 'res.partner', 'methods': methods, 'enabled': True}
            self.assertSilent(self.function, method(stale=500), rules=[rule])
        rule = {'model': 'res.partner', 'methods': ['read'], 'enabled': True}
        self.assertEqual(len(self.advise(self.function, method(stale=500), rules=[rule])), 1)


@tagged('post_install', '-at_install')
class TestL1TooSmall(AdviceCase):
    function = staticmethod(advice.l1_too_small)

    def test_what_was_pushed_out_is_asked_for_again(self):
        (found,) = self.advise(
            self.function, method(hits=1000, evicted=200), workers=[WORKER], options_={}
        )
        self.assertEqual(found.action, {'do': 'option', 'name': 'l1_max_mb', 'value': 128})
        self.assertEqual(found.lost_ms, 200 * 20.0)

    def test_where_entries_are_the_limit_these_are_raised(self):
        full = {**WORKER, 'l1_entries': 9990}
        (found,) = self.advise(self.function, method(hits=1000, evicted=200), workers=[full])
        self.assertEqual(found.action['name'], 'l1_max_entries')
        self.assertEqual(found.action['value'], 20_000)

    def test_a_process_without_memory_to_spare_gets_no_button(self):
        near = {**WORKER, 'memory_bytes': 760 * 2**20, 'memory_limit_bytes': 1000 * 2**20}
        (found,) = self.advise(self.function, method(hits=1000, evicted=200), workers=[near])
        self.assertIsNone(found.action)

    def test_few_evictions_are_normal(self):
        self.assertSilent(self.function, method(hits=100_000, evicted=500))
        self.assertSilent(self.function, method(hits=10, evicted=49))

    def test_evidence_from_before_a_change_does_not_count(self):
        self.assertSilent(
            self.function, method(hits=1000, evicted=200), changed=frozenset(['l1_max_mb'])
        )


@tagged('post_install', '-at_install')
class TestJustTooLarge(AdviceCase):
    function = staticmethod(advice.just_too_large)

    def test_results_up_to_twice_the_limit(self):
        near = method(large=40, details={('large', '2048 kB'): 30, ('large', '65536 kB'): 10})
        (found,) = self.advise(self.function, near)
        self.assertEqual(found.action, {'do': 'option', 'name': 'max_entry_kb', 'value': 2048})
        self.assertEqual(found.evidence['count'], 30)
        self.assertAlmostEqual(found.lost_ms, 600.0)

    def test_far_larger_results_are_left_alone(self):
        self.assertSilent(self.function, method(large=40, details={('large', '4096 kB'): 40}))

    def test_a_limit_that_is_no_power_of_two(self):
        near = method(large=40, details={('large', '2048 kB'): 40})
        (found,) = self.advise(self.function, near, options_={'max_entry_kb': 1500})
        self.assertEqual(found.action['value'], 2048)

    def test_details_of_others_are_no_sizes(self):
        self.assertSilent(self.function, method(large=40, details={('large', ''): 40}))


@tagged('post_install', '-at_install')
class TestBusyRelation(AdviceCase):
    function = staticmethod(advice.busy_relation)

    def test_a_table_of_another_model(self):
        reads = method(
            'product.product', hits=500, stale=300, details={('stale', 'stock_quant'): 280}
        )
        (found,) = self.advise(
            self.function, reads, tables={'product.product': frozenset(['product_product'])}
        )
        self.assertEqual(found.evidence['relation'], 'stock_quant')
        self.assertFalse(found.evidence['own'])
        self.assertEqual(found.action['do'], 'rule_form')

    def test_its_own_table(self):
        reads = method(hits=500, stale=300, details={('stale', 'res_partner'): 300})
        (found,) = self.advise(
            self.function, reads, tables={'res.partner': frozenset(['res_partner'])}
        )
        self.assertTrue(found.evidence['own'])

    def test_changes_that_are_spread_are_normal(self):
        details = {('stale', f'table_{number}'): 100 for number in range(5)}
        self.assertSilent(self.function, method(hits=500, stale=500, details=details))

    def test_signals_of_odoo_are_nothing_that_a_rule_helps_against(self):
        details = {('stale', 'orm_signaling_stable'): 300}
        self.assertSilent(self.function, method(hits=500, stale=300, details=details))

    def test_removals_are_no_relations(self):
        details = {('stale', 'removal'): 300, ('stale', '#all'): 300}
        self.assertSilent(self.function, method(hits=500, stale=600, details=details))


@tagged('post_install', '-at_install')
class TestMemoryIsScarce(AdviceCase):
    function = staticmethod(advice.memory_is_scarce)

    def test_l1_takes_much_of_it(self):
        near = {
            **WORKER,
            'l1_bytes': 60 * 2**20,
            'memory_bytes': 450 * 2**20,
            'memory_limit_bytes': 500 * 2**20,
        }
        (found,) = self.advise(self.function, workers=[near, WORKER])
        self.assertEqual(found.action, {'do': 'option', 'name': 'l1_max_mb', 'value': 32})
        self.assertEqual(found.evidence['workers'], 1)

    def test_where_l1_is_not_the_cause_there_is_no_button(self):
        near = {**WORKER, 'memory_bytes': 450 * 2**20, 'memory_limit_bytes': 500 * 2**20}
        (found,) = self.advise(self.function, workers=[near])
        self.assertIsNone(found.action)

    def test_without_a_limit_or_far_from_it(self):
        far = {**WORKER, 'memory_bytes': 79, 'memory_limit_bytes': 100}
        self.assertSilent(self.function, workers=[far, {**WORKER, 'memory_bytes': 2**40}])


@tagged('post_install', '-at_install')
class TestRedisIsSlow(AdviceCase):
    function = staticmethod(advice.redis_is_slow)

    def test_it_takes_as_long_as_computing(self):
        totals = {'l2': {'hits': 100, 'duration_ms': 1250.0, 'saved_ms': 90.0}}
        (found,) = self.advise(self.function, totals=totals)
        self.assertEqual(found.action, {'do': 'option', 'name': 'l2_min_cost_ms', 'value': 25})

    def test_it_pays(self):
        for totals in (
            {'l2': {'hits': 100, 'duration_ms': 150.0, 'saved_ms': 900.0}},
            {'l2': {'hits': 10, 'duration_ms': 150.0, 'saved_ms': 0.0}},
            {},
        ):
            self.assertSilent(self.function, totals=totals)


@tagged('post_install', '-at_install')
class TestNeedlessColumn(AdviceCase):
    function = staticmethod(advice.needless_column)

    def reads(self, count=200, same=180, column='country_id', relation='res_country', **more):
        found = method(stale=count, details={('stale', relation): count}, **more)
        found.same[relation, column] = same
        return found

    def test_changes_that_nobody_sees(self):
        (found,) = self.advise(self.function, self.reads())
        self.assertEqual(found.evidence['column'], 'country_id')
        self.assertEqual((found.evidence['same'], found.evidence['count']), (180, 200))
        self.assertAlmostEqual(found.lost_ms, 180 * 20.0)
        self.assertEqual(
            found.action, {'do': 'rule_form', 'model': 'res.partner', 'method': 'web_search_read'}
        )

    def test_changes_that_are_seen(self):
        self.assertSilent(self.function, self.reads(same=100))

    def test_too_few(self):
        self.assertSilent(self.function, self.reads(count=49, same=49))

    def test_several_columns_read_it(self):
        self.assertSilent(self.function, self.reads(column=''))

    def test_it_invalidates_little(self):
        self.assertSilent(self.function, self.reads(cold=500))

    def test_its_own_table(self):
        tables = {'res.partner': frozenset(('res_country',))}
        self.assertSilent(self.function, self.reads(), tables=tables)

    def test_a_rule_of_its_own(self):
        rules = [{'model': 'res.partner', 'methods': [], 'enabled': True}]
        self.assertSilent(self.function, self.reads(), rules=rules)

    def test_it_stands_for_the_coarser_advice(self):
        kinds = [found.kind for found in advice.advise(scene(self.reads(hits=900)))]
        self.assertEqual(kinds, ['needless_column'])


@tagged('post_install', '-at_install')
class TestClockShortens(AdviceCase):
    function = staticmethod(advice.clock_shortens)

    def test_a_popular_list_that_lives_a_minute(self):
        reads = method(hits=150, expired=100, details={('expired', 'clock'): 90})
        (found,) = self.advise(self.function, reads)
        self.assertEqual(found.evidence['count'], 90)
        self.assertEqual(
            found.action, {'do': 'option', 'name': 'time_dependent_ttl_s', 'value': 300}
        )

    def test_what_expired_for_another_reason(self):
        self.assertSilent(self.function, method(hits=150, expired=100))

    def test_it_is_long_already(self):
        reads = method(hits=150, expired=100, details={('expired', 'clock'): 90})
        self.assertSilent(self.function, reads, options_={'time_dependent_ttl_s': 600})
