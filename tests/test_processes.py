"""Real servers: what is written when they end, and that L1 does not get them recycled.

The one idea: nothing here is simulated.  The servers are those that a user would start, ended as
systemd would end them, and what they have written is read from the database afterwards.
"""

# "read" is what these tests do, not an override of a model's method
# pylint: disable=method-required-super

import re
import secrets
import signal
import time

import psutil

from odoo.tests import tagged

from .common import CacheCase
from .test_workers import Client, Server

LOGIN, PASSWORD = 'tc_process', 'tc_process_password'


class ProcessCase(CacheCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        groups = ('base.group_user', 'tiered_cache.group_cache_admin')
        cls.make_for_class(
            'res.users',
            {
                'name': LOGIN,
                'login': LOGIN,
                'password': PASSWORD,
                'group_ids': cls.commit(lambda env: [(4, env.ref(name).id) for name in groups]),
            },
        )
        # random, so that it stays large when it is packed
        cls.partner = cls.make_for_class(
            'res.partner', {'name': 'Large', 'street': secrets.token_urlsafe(200_000)}
        )

    def start(self, *args, **options):
        server = self.enterContext(Server(*args, **options))
        self.client = Client(server.port)
        self.client.login(LOGIN, PASSWORD)
        return server

    def read(self, number=0):
        """A read that has an entry of its own for each number; returns how long it waited."""
        return self.client.call(
            'res.partner',
            'search_read',
            [('id', '=', self.partner)],
            ['name', 'street'],
            context={'number': number},
        )

    def stats(self):
        return self.client.call('cache.manager', 'get_stats')

    def until_kept(self, number=0):
        """Read until the server that answers has it in L1."""
        until = time.monotonic() + 20
        hits = sum(self.stats()['hits'].values())
        while sum(self.stats()['hits'].values()) == hits:
            self.assertLess(time.monotonic(), until, "the server never answers from its cache")
            self.read(number)


@tagged('post_install', '-at_install')
class TestEndOfAServer(ProcessCase):
    def setUp(self):
        super().setUp()
        self.sql("DELETE FROM cache_metric; DELETE FROM cache_entry")
        self.addCleanup(self.sql, "DELETE FROM cache_entry")

    def figures(self):
        ((calls, hits),) = self.sql(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(hits), 0) FROM cache_metric WHERE active"
            " AND model = 'res.partner' AND method = 'search_read'"
        )
        return calls, hits

    def hits_of_l3(self):
        ((hits,),) = self.sql("SELECT coalesce(sum(hits), 0) FROM cache_entry")
        return hits

    def assertNothingIsLost(self, workers):
        """Figures that wait for an hour, and hits of L3 that wait for a minute."""
        options = {
            'metrics_flush_s': '3600',
            'l3_enabled': '1',
            'l3_min_cost_ms': '0',
            'l1_max_entries': '1',  # so that the second read is answered by L3
        }
        server = self.start(workers, **options)
        until = time.monotonic() + 20
        while not self.stats()['hits']['l3']:
            self.assertLess(time.monotonic(), until, "L3 never answers")
            self.read(1)
            self.read(2)
        stats = self.stats()
        calls = next(m['calls'] for m in stats['models'] if m['model'] == 'res.partner')
        self.assertEqual((self.figures(), self.hits_of_l3()), ((0, 0), 0))
        self.assertLess(server.end(), 15)
        self.assertEqual(self.figures(), (calls, sum(stats['hits'].values())))
        self.assertEqual(self.hits_of_l3(), stats['hits']['l3'])

    def test_sigterm_to_a_prefork_server_loses_nothing(self):
        self.assertNothingIsLost(1)

    def test_sigterm_to_a_threaded_server_loses_nothing(self):
        self.assertNothingIsLost(0)

    def test_a_database_that_hangs_delays_the_end_by_a_few_seconds_only(self):
        server = self.start(1, metrics_flush_s='3600')
        self.until_kept()
        self.sql(
            "CREATE FUNCTION tc_test_sleep() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN PERFORM pg_sleep(50); RETURN NULL; END';"
            "CREATE TRIGGER tc_test_sleep BEFORE INSERT ON cache_metric"
            " EXECUTE FUNCTION tc_test_sleep()"
        )
        self.addCleanup(self.sql, "DROP FUNCTION tc_test_sleep CASCADE")
        self.assertLess(server.end(), 15)

    def test_a_worker_that_is_killed_costs_its_figures_and_nothing_else(self):
        """SIGTERM to a worker is as hard as SIGKILL: Odoo restores what it does by default."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(how=how.name):
                server = self.start(1, metrics_flush_s='3600')
                self.until_kept()
                (worker,) = server.workers()
                process = psutil.Process(worker)
                process.send_signal(how)
                process.wait(5)
                (record,) = self.read()
                self.assertEqual(record['name'], 'Large')
                self.assertLess(server.end(), 15)


@tagged('post_install', '-at_install')
class TestRecycling(ProcessCase):
    """Odoo ends a worker that exceeds ``limit_memory_soft``.  L1 does not make it do so."""

    def test_a_full_l1_does_not_get_its_worker_recycled(self):
        plain_bytes = self.size_of_a_warm_worker()
        # three quarters are there without L1; L1 alone would need more than all that is left
        limit_bytes = int(plain_bytes / 0.75)
        server = self.start(
            1,
            [f'--limit-memory-soft={limit_bytes}', '--limit-request=1000000'],
            'info',
            l1_max_mb=str(limit_bytes // 2**20),
        )
        self.until_kept()
        (worker,) = server.workers()
        start, written_bytes, number, sizes = self.stats(), 0, 0, []
        while written_bytes < 1.5 * (limit_bytes - plain_bytes):
            for _many in range(20):
                number += 1
                self.read(number)
            stats = self.stats()
            sizes.append((written_bytes, stats['memory'], stats['tiers']['l1']['bytes']))
            self.assertEqual(server.workers(), [worker], (sizes[-4:], server.log()[-2500:]))
            written_bytes = stats['misses']['cold'] * 200_000
        self.assertEqual(stats['pid'], start['pid'])
        self.assertGreaterEqual(stats['memory']['sheds'], 1, stats['memory'])
        log = server.log()
        self.assertFalse('virtual memory limit' in log)
        self.assertTrue(re.search('WARNING .* Memory is (getting )?scarce', log))

    def size_of_a_warm_worker(self):
        with Server(1) as server:
            self.client = Client(server.port)
            self.client.login(LOGIN, PASSWORD)
            self.until_kept()
            for number in range(50):
                self.read(number)
            (worker,) = server.workers()
            return psutil.Process(worker).memory_info().vms
