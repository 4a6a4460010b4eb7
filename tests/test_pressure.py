"""Memory pressure: when L1 gives way, how far, and that it comes back."""

import os

import psutil

import odoo
from odoo.service.server import memory_info
from odoo.tests import tagged
from odoo.tests.common import BaseCase
from odoo.tools import config, mute_logger

from ..services import engine as engines
from ..services.pressure import Pressure, Size, sizes
from ..services.tiers import MemoryTier
from .common import CacheCase
from .tier_tools import Clock, make_entry

ENGINE_LOGGER = 'odoo.addons.tiered_cache.services.engine'


@tagged('post_install', '-at_install')
class TestPressure(BaseCase):
    def setUp(self):
        super().setUp()
        self.percent = 0
        self.tier = MemoryTier(1000, 100_000)
        self.pressure = Pressure(lambda own: [Size(self.percent * 10, 1000), Size(1, 1000)])
        self.fill()

    def fill(self):
        self.tier.set_many([make_entry(str(number), payload=bytes(1000)) for number in range(100)])

    def at(self, percent):
        self.percent = percent
        return self.pressure.look(self.tier, 0)

    def held(self):
        """What L1 holds, in per cent of its limit."""
        return round(self.tier.stats()['bytes'] / 1000)

    def test_below_80_percent_nothing_happens(self):
        self.assertEqual((self.at(79), self.held() > 95), ('', True))

    def test_at_80_percent_a_quarter_goes_and_the_limit_stays(self):
        self.assertEqual(self.at(80), 'shed')
        self.assertTrue(70 <= self.held() <= 75, self.held())
        self.fill()
        self.assertGreater(self.held(), 95)

    def test_the_same_size_is_acted_upon_once(self):
        self.at(80)
        self.fill()
        self.assertEqual((self.at(80), self.held() > 95), ('', True))

    def test_a_size_that_goes_on_growing_is_acted_upon_again(self):
        self.at(80)
        self.fill()
        self.assertEqual((self.at(82), self.held() <= 75), ('shed', True))
        self.assertEqual(self.pressure.sheds, 2)

    def test_at_90_percent_the_limit_is_halved(self):
        self.assertEqual(self.at(90), 'halved')
        self.fill()
        self.assertTrue(45 <= self.held() <= 50, self.held())

    def test_the_limit_is_halved_until_l1_feels_it(self):
        self.tier.shed(0.7)
        self.assertEqual((self.at(90), self.tier.stats()['allowed_bytes']), ('halved', 25_000))
        self.assertTrue(20 <= self.held() <= 25, self.held())

    def test_an_empty_l1_is_not_halved_to_nothing(self):
        self.tier.clear()
        self.assertEqual((self.at(90), self.tier.stats()['allowed_bytes']), ('halved', 50_000))

    def test_who_has_no_room_for_another_step_does_as_at_90_percent(self):
        pressure = Pressure(lambda own: [Size(self.percent * 10, 1000, step_bytes=200)])
        for self.percent, change in ((80, 'shed'), (81, 'halved'), (79, ''), (74, 'over')):
            self.assertEqual(pressure.look(self.tier, 0), change, self.percent)

    def test_the_limit_is_halved_again_when_the_size_goes_on_growing(self):
        for percent, held in ((90, 50), (90, 50), (92, 25), (94, 12)):
            self.at(percent)
            self.fill()
            self.assertTrue(held * 0.8 <= self.held() <= held, (percent, self.held()))

    def test_something_of_l1_is_left_however_large_the_process_grows(self):
        for percent in range(90, 200):
            self.at(percent)
        self.assertEqual(self.tier.stats()['allowed_bytes'], 100_000 // 64)

    def test_the_limit_stays_halved_until_the_pressure_is_over(self):
        self.at(90)
        self.assertEqual((self.at(76), self.tier.stats()['allowed_bytes']), ('', 50_000))
        self.assertEqual((self.at(74), self.tier.stats()['allowed_bytes']), ('over', 100_000))
        self.assertEqual(self.pressure.level, '')

    def test_pressure_that_comes_back_is_acted_upon_again(self):
        for percent, change in ((80, 'shed'), (70, 'over'), (80, 'shed')):
            self.assertEqual(self.at(percent), change)

    def test_shedding_is_followed_by_halving_without_further_growth(self):
        self.at(89.9)
        self.assertEqual(self.at(90), 'halved')

    def test_another_l1_is_restricted_as_well(self):
        self.at(90)
        self.tier = MemoryTier(1000, 100_000)
        self.at(90)
        self.assertEqual(self.tier.stats()['allowed_bytes'], 50_000)

    def test_without_a_limit_nothing_happens(self):
        pressure = Pressure(lambda own: [])
        self.assertEqual((pressure.look(self.tier, 0), pressure.stats()['limit_bytes']), ('', None))

    def test_without_l1_there_is_nothing_to_shed(self):
        self.percent = 95
        self.assertEqual(self.pressure.look(None, 0), 'halved')


@tagged('post_install', '-at_install')
class TestSizes(BaseCase):
    """What is measured, and against what."""

    def configure(self, **options):
        for name in ('limit_memory_soft', 'limit_memory_soft_gevent'):
            self.addCleanup(config.options.__setitem__, name, config[name])
            config[name] = options.get(name, 0)

    def test_odoo_s_limit_is_compared_with_what_odoo_compares(self):
        self.configure(limit_memory_soft=10**12)
        (size,) = sizes(0)
        self.assertEqual((size.limit_bytes, size.step_bytes), (10**12, 64 * 2**20))
        expected = memory_info(psutil.Process(os.getpid()))
        self.assertLess(abs(size.used_bytes - expected), 2**20)

    def test_no_limit_of_odoo_is_no_limit(self):
        self.configure(limit_memory_soft=0)
        self.assertEqual(sizes(0), [])

    def test_a_gevent_process_has_its_own_limit(self):
        self.configure(limit_memory_soft=10**12, limit_memory_soft_gevent=10**13)
        self.assertEqual(sizes(0)[0].limit_bytes, 10**12)
        self.patch(odoo, 'evented', True)
        self.assertEqual(sizes(0)[0].limit_bytes, 10**13)
        self.configure(limit_memory_soft=10**12)
        self.assertEqual(sizes(0)[0].limit_bytes, 10**12)

    def test_a_limit_of_our_own_is_compared_with_the_resident_size(self):
        self.configure()
        (size,) = sizes(10**12)
        resident = psutil.Process(os.getpid()).memory_info().rss
        self.assertLess(abs(size.used_bytes - resident), 0.05 * resident)


@tagged('post_install', '-at_install')
class TestPressureInAnEngine(CacheCase):
    """The periodic work of an engine looks after memory, and says what it did."""

    def setUp(self):
        super().setUp()
        self.percent = 50
        self.patch(
            self.engine, 'pressure', Pressure(lambda own: [Size(int(self.percent * 10), 1000)])
        )
        self.engine._logged -= {'memory shed', 'memory halved'}
        self.tier = self.engine.hierarchy.tiers['l1']
        self.addCleanup(self.tier.restrict, 1)
        self.tier.set_many(
            [make_entry(f'v1:memory:{number}', payload=bytes(1000)) for number in range(100)]
        )

    def test_l1_gives_way_in_the_background(self):
        before = self.tier.stats()['bytes']
        self.percent = 80
        with mute_logger(ENGINE_LOGGER):
            self.engine.glance()
        self.assertLessEqual(self.tier.stats()['bytes'], before * 0.75)

    def test_it_is_visible_and_counted(self):
        self.percent = 90
        with mute_logger(ENGINE_LOGGER):
            self.engine.glance()
        stats = self.engine.stats()
        self.assertEqual(
            stats['memory'],
            {
                'level': 'halved',
                'sheds': 1,
                'used_bytes': 900,
                'limit_bytes': 1000,
                'l1_share': 0.125,
            },
        )
        self.assertEqual(stats['events'], {'memory pressure: halved': 1})
        self.assertEqual(stats['tiers']['l1']['allowed_bytes'], self.tier._max_bytes // 8)

    def test_it_is_logged_once(self):
        with self.assertLogs(ENGINE_LOGGER, 'WARNING') as logs:
            for self.percent in (80, 70, 80, 90, 70, 90):
                self.engine.glance()
        self.assertEqual(len(logs.output), 2, logs.output)

    def test_the_setting_of_the_database_is_a_limit(self):
        seen = []
        self.patch(self.engine, 'pressure', Pressure(lambda own: seen.append(own) or []))
        self.configure(memory_limit_mb='7')
        self.engine.glance()
        self.assertEqual(seen, [7 * 2**20])

    def test_expired_entries_leave_though_nobody_asks_for_them(self):
        clock = Clock()
        clock.advance(7200)
        self.patch(self.tier, '_clock', clock)
        self.patch(self.engine, '_swept_at', -engines.SWEEP_EVERY_S)
        self.engine.glance()
        self.assertEqual(self.tier.stats()['entries'], 0)

    def test_a_registry_that_was_dropped_takes_its_engine_along(self):
        with self.other_worker() as other:
            self.patch(odoo.modules.registry.Registry, 'registries', odoo.tools.lru.LRU(1))
            other.tick()
        self.assertTrue(other.outbox.is_closed)

    def test_looking_at_a_registry_does_not_keep_it_from_being_dropped(self):
        registries = odoo.tools.lru.LRU(
            2, [(self.registry.db_name, self.registry), ('another one', object())]
        )
        self.patch(odoo.modules.registry.Registry, 'registries', registries)
        self.engine.tick()
        registries['a third one'] = object()
        self.assertNotIn(self.registry.db_name, registries)
