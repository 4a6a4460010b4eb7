"""The circuit breaker, on a clock that the test turns."""

import threading

from odoo.tests.common import BaseCase, tagged

from ..services.breaker import CLOSED, HALF_OPEN, OPEN, CircuitBreaker
from .tier_tools import Clock


@tagged('post_install', '-at_install')
class TestCircuitBreaker(BaseCase):
    def setUp(self):
        super().setUp()
        self.clock = Clock(1000.0)
        self.breaker = self.new_breaker()

    def new_breaker(self, **options):
        return CircuitBreaker(
            **{
                'threshold': 1,
                'cooldown_s': 1.0,
                'max_cooldown_s': 30.0,
                'clock': self.clock,
                'wall_clock': lambda: 5_000_000.0,
                **options,
            }
        )

    def open_and_wait(self, cooldown_s=1.0):
        self.breaker.failure()
        self.clock.advance(cooldown_s)

    def test_new_breaker_is_closed(self):
        self.assertTrue(self.breaker.allow())
        self.assertEqual(self.breaker.state, CLOSED)
        self.assertIsNone(self.breaker.opened_at)

    def test_failure_opens(self):
        self.breaker.allow()
        self.breaker.failure()
        self.assertFalse(self.breaker.allow())
        self.assertEqual(self.breaker.state, OPEN)

    def test_opened_at_is_epoch_seconds_of_the_first_failure(self):
        self.open_and_wait()
        self.breaker.allow()
        self.breaker._wall_clock = lambda: 6_000_000.0
        self.breaker.failure()
        self.assertEqual(self.breaker.opened_at, 5_000_000.0)

    def test_threshold_counts_failures_in_a_row(self):
        self.breaker = self.new_breaker(threshold=3)
        for report in ('failure', 'failure', 'success', 'failure', 'failure'):
            getattr(self.breaker, report)()
        self.assertTrue(self.breaker.allow())
        self.breaker.failure()
        self.assertFalse(self.breaker.allow())

    def test_failure_tells_whether_it_opened(self):
        self.breaker = self.new_breaker(threshold=2)
        self.assertEqual([self.breaker.failure() for _ in range(3)], [False, True, False])

    def test_success_tells_whether_it_closed(self):
        self.assertFalse(self.breaker.success())
        self.open_and_wait()
        self.breaker.allow()
        self.assertTrue(self.breaker.success())

    def test_stays_open_until_the_cooldown_is_over(self):
        self.breaker.failure()
        self.clock.advance(0.999)
        self.assertFalse(self.breaker.allow())
        self.clock.advance(0.001)
        self.assertTrue(self.breaker.allow())

    def test_half_open_lets_one_probe_through(self):
        self.open_and_wait()
        self.assertEqual([self.breaker.allow() for _ in range(5)], [True] + 4 * [False])
        self.assertEqual(self.breaker.state, HALF_OPEN)

    def test_half_open_lets_one_of_many_threads_through(self):
        self.open_and_wait()
        start, allowed = threading.Barrier(16), []

        def ask():
            start.wait()
            allowed.append(self.breaker.allow())

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(allowed), 15 * [False] + [True])

    def test_probe_that_succeeds_closes(self):
        self.open_and_wait()
        self.breaker.allow()
        self.breaker.success()
        self.assertEqual(self.breaker.state, CLOSED)
        self.assertIsNone(self.breaker.opened_at)
        self.assertTrue(self.breaker.allow())

    def test_probes_that_fail_double_the_cooldown_up_to_the_limit(self):
        self.breaker.failure()
        waits = []
        for _ in range(7):
            start = self.clock.now
            while not self.breaker.allow():
                self.clock.advance(0.5)
            waits.append(self.clock.now - start)
            self.breaker.failure()
        self.assertEqual(waits, [1, 2, 4, 8, 16, 30, 30])

    def test_cooldown_starts_small_again_after_a_success(self):
        self.open_and_wait()
        self.breaker.allow()
        self.breaker.failure()
        self.clock.advance(2)
        self.breaker.allow()
        self.breaker.success()
        self.open_and_wait(1.0)
        self.assertTrue(self.breaker.allow())

    def test_calls_under_way_when_it_opened_do_not_prolong_it(self):
        for _ in range(10):
            self.breaker.failure()
        self.clock.advance(1)
        self.assertTrue(self.breaker.allow())

    def test_probe_that_never_reports_is_replaced(self):
        self.open_and_wait()
        self.assertTrue(self.breaker.allow())
        self.clock.advance(1)
        self.assertTrue(self.breaker.allow())
        self.assertFalse(self.breaker.allow())

    def test_reset_works_while_the_lock_is_held(self):
        self.breaker.failure()
        self.breaker._lock.acquire()  # as a fork may leave it
        self.breaker.reset()
        self.assertTrue(self.breaker.allow())
        self.assertTrue(self.breaker.failure())
