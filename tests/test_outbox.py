"""Work that no request waits for."""

import threading

from odoo.tests import tagged
from odoo.tests.common import BaseCase
from odoo.tools import mute_logger

from ..services import outbox as module
from ..services.outbox import Outbox
from .tier_tools import make_entry


class Store:
    def __init__(self):
        self.batches = []
        self.written = threading.Event()

    def set_many(self, entries):
        self.batches.append([entry.key for entry in entries])
        self.written.set()


@tagged('post_install', '-at_install')
class TestOutbox(BaseCase):
    def setUp(self):
        super().setUp()
        self.store = Store()
        self.outbox = Outbox(lambda: {'l3': self.store}, lambda: None, idle_s=0.05)
        self.addCleanup(self.outbox.close)

    def without_thread(self):
        self.patch(self.outbox, 'start', lambda: None)

    def test_entries_are_written_together(self):
        self.without_thread()
        self.outbox.post_entry('l3', make_entry('v1:a'))
        self.outbox.post_entry('l3', make_entry('v1:b'))
        self.outbox.flush()
        self.assertEqual(self.store.batches, [['v1:a', 'v1:b']])

    def test_the_thread_writes_by_itself(self):
        self.outbox.post_entry('l3', make_entry('v1:a'))
        self.assertTrue(self.store.written.wait(10))

    def test_a_job_that_is_posted_twice_runs_once(self):
        self.without_thread()
        runs = []
        for _twice in range(2):
            self.outbox.post_job('guards', lambda: runs.append(1))
        self.outbox.flush()
        self.assertEqual(runs, [1])

    def test_what_waits_is_bounded(self):
        self.without_thread()
        self.patch(module, 'MAX_WAITING_BYTES', 3000)
        for number in range(20):
            self.outbox.post_entry('l3', make_entry(f'v1:{number}', payload=b'x' * 1000))
        self.assertGreater(self.outbox.dropped, 15)
        self.outbox.flush()
        self.outbox.post_entry('l3', make_entry('v1:later'))
        self.outbox.flush()
        self.assertIn(['v1:later'], self.store.batches)

    def test_a_job_that_raises_is_counted_and_harms_no_other(self):
        self.without_thread()
        runs = []
        self.outbox.post_job('bad', lambda: 1 / 0)
        self.outbox.post_job('good', lambda: runs.append(1))
        with mute_logger(module.__name__):
            self.outbox.flush()
        self.assertEqual((runs, self.outbox.job_faults['bad']), ([1], 1))

    def test_a_closed_outbox_does_no_work(self):
        self.outbox.close()
        self.outbox.post_entry('l3', make_entry('v1:a'))
        self.outbox.work()
        self.assertEqual((self.outbox.is_due(), self.store.batches), (False, []))

    def test_ticks_come_from_time_to_time_without_any_post(self):
        ticked = threading.Event()
        outbox = Outbox(dict, ticked.set, idle_s=0.01)
        self.addCleanup(outbox.close)
        outbox.start()
        self.assertTrue(ticked.wait(10))

    def test_the_last_round_writes_what_is_queued_and_asks_for_the_rest(self):
        left = []
        outbox = Outbox(lambda: {'l3': self.store}, lambda: None, last=lambda: left.append(1))
        self.patch(outbox, 'start', lambda: None)
        outbox.post_entry('l3', make_entry('v1:a'))
        outbox.leave()
        self.assertEqual((self.store.batches, left), ([['v1:a']], [1]))
