"""One thread for all databases: nobody is forgotten, nobody keeps the others waiting."""

import gc
import os
import threading
import time
import weakref

from odoo.tests import tagged
from odoo.tests.common import BaseCase
from odoo.tools import mute_logger

from ..services import keeper as module
from ..services.keeper import Keeper, keeper
from ..services.outbox import Outbox
from .tier_tools import in_child

LOGGER = 'odoo.addons.tiered_cache.services.keeper'


class KeeperCase(BaseCase):
    def setUp(self):
        super().setUp()
        self.keeper = Keeper()
        self.patch(module, '_keepers', {os.getpid(): self.keeper})
        self.release = threading.Event()
        self.addCleanup(self.release.set)

    def new_outbox(self, tick=lambda: None, last=lambda: None):
        outbox = Outbox(dict, tick, idle_s=0.02, last=last)
        self.addCleanup(outbox.close)
        outbox.start()
        return outbox

    def hang(self):
        """Work that does not come back before the test is over."""
        self.release.wait(60)

    def threads(self):
        """Names of the threads of this test: those of the server's engines have begun before."""
        return sorted(
            thread.name.partition('.')[2]
            for thread in threading.enumerate()
            if thread.name.startswith('tiered_cache.') and thread not in self.before
        )

    def run(self, result=None):
        self.before = set(threading.enumerate())
        return super().run(result)

    def wait_until(self, condition, what):
        until = time.monotonic() + 10
        while not condition():
            self.assertLess(time.monotonic(), until, what)
            time.sleep(0.005)

    def ticked(self, event, what):
        self.assertTrue(event.wait(10), what)


@tagged('post_install', '-at_install')
class TestKeeper(KeeperCase):
    def test_one_database_has_one_thread(self):
        ticked = threading.Event()
        self.new_outbox(ticked.set)
        self.ticked(ticked, "ticks")
        self.assertEqual(self.threads(), ['keeper'])

    def test_a_fault_of_the_thread_itself_does_not_end_it(self):
        faults, ticked, breathe = [], threading.Event(), module._breathe

        def fail():
            if threading.current_thread() is self.keeper._thread and len(faults) < 3:
                faults.append(1)
                raise OSError(22, "as of a clock that is changed")
            breathe()

        self.patch(module, '_breathe', fail)
        with self.assertLogs(LOGGER, 'ERROR') as logs:
            self.new_outbox(ticked.set)
            self.ticked(ticked, "ticks")
        self.assertEqual((len(logs.output), self.keeper.faults['OSError']), (1, 3))

    def test_the_end_does_not_wait_for_a_thread_that_has_nobody_left(self):
        """As that of a command, which closes its engine and ends."""
        breathing, go_on, left = threading.Event(), threading.Event(), []

        def breathe():
            breathing.set()
            go_on.wait(10)

        self.patch(module, '_breathe', breathe)
        outbox = self.new_outbox()
        self.ticked(breathing, "the thread takes a breath")
        outbox.close()
        leaver = threading.Thread(target=lambda: left.append(self.keeper.leave()))
        leaver.start()
        self.wait_until(lambda: self.keeper._leaving, "the process ends")
        go_on.set()
        leaver.join()
        self.assertEqual(left, [True])

    def test_many_databases_have_two_threads(self):
        ticks = [threading.Event() for _ in range(20)]
        for ticked in ticks:
            self.new_outbox(ticked.set)
        for ticked in ticks:
            self.ticked(ticked, "each ticks")
        self.wait_until(lambda: self.threads() == ['hands', 'keeper'], "one that watches one")

    def test_a_database_that_hangs_does_not_stop_the_others(self):
        self.patch(module, 'STALL_S', 0.05)
        hangs, ticks = threading.Event(), [threading.Event(), threading.Event()]
        self.new_outbox(lambda: (hangs.set(), self.hang()))
        self.ticked(hangs, "the first one hangs before there are others")
        for ticked in ticks:
            self.new_outbox(ticked.set)
        for ticked in ticks:
            self.ticked(ticked, "goes on")
            ticked.clear()
        for ticked in ticks:
            self.ticked(ticked, "again and again")

    def test_one_of_many_that_hangs_is_left_behind_once(self):
        self.patch(module, 'STALL_S', 0.05)
        hangs, ticks = [], threading.Event()
        self.new_outbox(ticks.set)
        self.ticked(ticks, "ticks alone")
        with self.assertLogs(LOGGER, 'WARNING') as logs:
            self.new_outbox(lambda: (hangs.append(1), self.hang()))
            for _ in range(5):
                ticks.clear()
                self.ticked(ticks, "goes on")
            self.wait_until(lambda: logs.output, "said so")
        self.assertEqual((len(hangs), len(logs.output)), (1, 1))

    def test_one_that_comes_back_is_looked_after_again(self):
        self.patch(module, 'STALL_S', 0.05)
        ticks, other = [], threading.Event()
        self.new_outbox(other.set)
        with self.assertLogs(LOGGER, 'WARNING') as logs:
            self.new_outbox(lambda: (ticks.append(1), self.hang()))
            self.wait_until(lambda: logs.output, "left behind")
        self.release.set()
        self.wait_until(lambda: len(ticks) > 1, "ticks again")

    def test_memory_is_looked_after_while_a_database_hangs(self):
        self.enterContext(mute_logger(LOGGER))
        self.patch(module, 'GLANCE_S', 0.01)
        self.patch(module, 'STALL_S', 0.05)
        hangs, looks = threading.Event(), threading.Event()
        self.new_outbox()
        hung = Outbox(dict, lambda: (hangs.set(), self.hang()), idle_s=0.02, glance=looks.set)
        self.addCleanup(hung.close)
        hung.start()
        self.ticked(hangs, "hangs")
        looks.clear()
        self.ticked(looks, "is looked after")

    def test_work_that_raises_stops_nobody(self):
        class Broken(Outbox):
            def work(self):
                raise ZeroDivisionError

        ticked = threading.Event()
        broken = Broken(dict, lambda: None, idle_s=0.02)
        self.addCleanup(broken.close)
        with self.assertLogs(LOGGER, 'ERROR') as logs:
            broken.start()
            self.wait_until(lambda: logs.output, "it was tried")
            self.new_outbox(ticked.set)
            self.ticked(ticked, "goes on")
            broken.close()
            ticked.clear()
            self.ticked(ticked, "and on")

    def test_the_thread_ends_with_the_last_owner(self):
        outbox = Outbox(dict, lambda: None, idle_s=0.02)
        outbox.start()
        gone = weakref.ref(outbox)
        del outbox
        gc.collect()
        self.wait_until(lambda: gone() is None, "nobody holds it")
        self.wait_until(lambda: not self.threads(), "nothing to do any more")

    def test_after_that_a_new_one_is_looked_after(self):
        self.new_outbox().close()
        self.wait_until(lambda: not self.threads(), "nothing to do any more")
        ticked = threading.Event()
        self.new_outbox(ticked.set)
        self.ticked(ticked, "ticks")

    def test_a_forked_child_has_a_keeper_of_its_own(self):
        self.new_outbox()
        self.assertEqual(
            in_child(lambda: (keeper() is self.keeper, keeper() is keeper(), len(module._keepers))),
            '(False, True, 1)',
        )


@tagged('post_install', '-at_install')
class TestKeeperLeaves(KeeperCase):
    """The end of a process."""

    def test_everybody_gets_a_last_round(self):
        left = []
        for number in range(3):
            self.new_outbox(last=lambda number=number: left.append(number))
        self.assertTrue(self.keeper.leave())
        self.assertEqual(sorted(left), [0, 1, 2])

    def test_the_only_one_gets_a_last_round(self):
        left = []
        self.new_outbox(last=lambda: left.append(1))
        self.assertTrue(self.keeper.leave())
        self.assertEqual(left, [1])

    def test_one_that_hangs_delays_the_end_no_longer_than_told(self):
        hangs = threading.Event()
        self.new_outbox(lambda: (hangs.set(), self.hang()))
        self.ticked(hangs, "hangs")
        start = time.monotonic()
        self.assertFalse(self.keeper.leave(0.2))
        self.assertLess(time.monotonic() - start, 2)

    def test_one_that_hangs_does_not_cost_the_others_their_last_round(self):
        self.patch(module, 'STALL_S', 0.05)
        hangs, left = threading.Event(), []
        self.new_outbox(lambda: (hangs.set(), self.hang()))
        self.ticked(hangs, "hangs")
        self.new_outbox(last=lambda: left.append(1))
        self.keeper.leave(5)
        self.assertEqual(left, [1])

    def test_without_any_work_there_is_nothing_to_wait_for(self):
        self.assertTrue(self.keeper.leave())
