"""Threads of one process that want the same read at the same time: one computes it."""

import concurrent.futures
import secrets
import threading
import time

from odoo.modules.registry import Registry
from odoo.tests import tagged

from ..services import reading
from .common import CacheCase

NAME = ('res.bank', 'search_read')


@tagged('post_install', '-at_install')
class TestReadFlight(CacheCase):
    def setUp(self):
        super().setUp()
        # held while tests run; a server does not hold it, and other threads need it
        self.patch(Registry, '_lock', threading.RLock())
        self.bank = self.make('res.bank', {'name': 'Old'})
        self.computed, self.pause = [], lambda: None
        plain = self.registry['res.bank']._fetch_query

        def fetch_query(records, query, fields):
            self.computed.append(threading.get_ident())
            self.pause()
            return plain(records, query, fields)

        self.warm(self.ask)
        self.patch(self.registry['res.bank'], '_fetch_query', fetch_query)
        self.expect(200)

    def ask(self, env, number=0):
        banks = env['res.bank'].with_context(number=number)
        return banks.search_read([('id', '=', self.bank)], ['name'])

    def expect(self, cost_ms):
        self.engine.suspender.resume()
        self.engine.suspender.computed(NAME, cost_ms, 0)

    def in_a_request(self, number, begun=None):
        with self.request(readonly=True) as env:
            env.cr.execute("SELECT 1")  # the snapshot is taken
            if begun is not None:
                begun.wait(10)
            return self.ask(env, number)[0]['name']

    def together(self, number, threads=8):
        """What each gets that asks at the same time, and how long all of them took, seconds."""
        begun, started = threading.Barrier(threads), time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            asked = [pool.submit(self.in_a_request, number, begun) for _ in range(threads)]
            return [future.result(30) for future in asked], time.monotonic() - started

    def owner(self, number):
        """A thread that is in the middle of its computation, and what lets it go on."""
        computing, go_on = threading.Event(), threading.Event()

        def pause():
            self.pause = lambda: None
            computing.set()
            go_on.wait(20)

        self.pause = pause
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        self.addCleanup(go_on.set)
        future = pool.submit(self.in_a_request, number)
        self.assertTrue(computing.wait(10))
        return future, go_on

    def test_one_computes_and_all_get_it(self):
        self.pause = lambda: time.sleep(0.1)
        names, _took_s = self.together(1)
        self.assertEqual((names, len(self.computed)), (['Old'] * 8, 1))

    def test_so_it_is_where_nothing_is_known_of_the_cost(self):
        self.engine.suspender.resume()
        self.pause = lambda: time.sleep(0.1)
        self.together(1)
        self.assertEqual(len(self.computed), 1)

    def test_another_read_does_not_wait(self):
        _future, _go_on = self.owner(1)
        started = time.monotonic()
        self.in_a_request(2)
        self.assertLess(time.monotonic() - started, 0.3)

    def test_who_sees_an_older_state_computes_it(self):
        with self.request(readonly=True) as env:
            env.cr.execute("SELECT 1")
            with self.request() as other:
                other['res.bank'].browse(self.bank).name = 'New'
            future, go_on = self.owner(1)
            threading.Timer(0.1, go_on.set).start()
            (record,) = self.ask(env, 1)
            self.assertEqual((record['name'], future.result(10)), ('Old', 'New'))
        self.assertEqual(len(self.computed), 2)

    def test_a_computation_that_fails_leaves_it_to_the_others(self):
        computing = threading.Event()

        def fail():
            self.pause = lambda: None
            computing.set()
            time.sleep(0.2)
            raise ZeroDivisionError

        self.pause = fail
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            failing = pool.submit(self.in_a_request, 1)
            self.assertTrue(computing.wait(10))
            self.assertEqual(self.in_a_request(1), 'Old')
            self.assertRaises(ZeroDivisionError, failing.result)
        self.assertFalse(self.engine.flights._open)

    def test_nobody_waits_longer_than_twice_the_usual_time(self):
        future, go_on = self.owner(1)
        started = time.monotonic()
        self.assertEqual(self.in_a_request(1), 'Old')
        self.assertTrue(0.35 < time.monotonic() - started < 2)
        go_on.set()
        self.assertEqual(future.result(10), 'Old')

    def test_nobody_waits_for_what_could_not_be_kept(self):
        self.engine.suspender.kept(NAME, False)
        future, go_on = self.owner(1)
        started = time.monotonic()
        self.in_a_request(1)
        self.assertLess(time.monotonic() - started, 0.3)
        go_on.set()
        future.result(10)

    def test_what_was_kept_and_what_was_not_is_known(self):
        self.configure(max_entry_kb='1')
        with self.request() as env:
            env['res.bank'].browse(self.bank).name = secrets.token_urlsafe(5000)
        for is_vain in (True, False):
            self.in_a_request(is_vain)
            self.assertEqual(self.engine.suspender.is_vain(NAME), is_vain)
            self.configure(max_entry_kb='1024')

    def test_patience(self):
        ticket = self.ticket()
        for cost_ms, wait_s in ((10, 0), (50, 0.1), (200, 0.4), (5000, 2)):
            self.expect(cost_ms)
            self.assertAlmostEqual(reading.patience_s(self.engine, ticket), wait_s)
        with reading.replaying():
            self.assertEqual(reading.patience_s(self.engine, ticket), 0)
        self.patch(self.engine.hierarchy, 'tiers', {})
        self.assertEqual(reading.patience_s(self.engine, ticket), 0)

    def ticket(self):
        return reading.Ticket(NAME, *[None] * (len(reading.Ticket._fields) - 1))
