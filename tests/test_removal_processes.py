"""Removals between two real processes: a stress, bounded by rounds.

The one idea: to prove a removal, the data must change in a way that nothing else notices.  A
transaction tells the triggers of ``res_partner`` that they have noted it already, writes a number
that only grows, and removes what was cached; whoever asks after its commit must get that number or
a later one, from whichever worker, while others ask and keep at the same time.

What may go wrong: nothing is cached, and the stress proves nothing.  The hits are counted, and the
same write without a removal must *not* be noticed.
"""

# "read" and "write" are what these tests do, not overrides of a model's methods
# pylint: disable=method-required-super

import threading
import unittest

from odoo.addons.tiered_cache.services import journal
from odoo.tests import tagged

from .common import CacheCase
from .redis_server import REDIS_SERVER, RedisServer, wait_until
from .test_workers import Client, Server

ROUNDS = 120
READERS = 4
READS_PER_ROUND = 12
PASSWORD = 'tc_removal_password'

SILENTLY = """
SELECT set_config('tiered_cache.noted',
                  pg_current_xact_id()::text || ':,' || 'res_partner'::regclass::oid || ',', true);
UPDATE res_partner SET name = %s WHERE id = %s
"""


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestTwoProcesses(CacheCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        groups = ('base.group_user', 'base.group_partner_manager', 'tiered_cache.group_cache_admin')
        cls.uid = cls.make_for_class(
            'res.users',
            {
                'name': 'tc_removal',
                'login': 'tc_removal',
                'password': PASSWORD,
                'group_ids': cls.commit(lambda env: [(4, env.ref(name).id) for name in groups]),
            },
        )
        cls.partner = cls.make_for_class('res.partner', {'name': '0'})
        cls.redis = cls.enterClassContext(RedisServer())
        cls.server = cls.enterClassContext(
            Server(
                redis_url=cls.redis.url,
                redis_timeout_ms='5000',
                l2_min_cost_ms='0',
                l3_enabled='1',
                l3_min_cost_ms='0',
            )
        )

    def setUp(self):
        super().setUp()
        self.client = self.log_in()

    def log_in(self):
        client = Client(self.server.port)
        client.login('tc_removal', PASSWORD)
        return client

    def ask(self, client):
        ((record),) = client.call(
            'res.partner', 'search_read', [('id', '=', self.partner)], ['name']
        )
        return int(record['name'])

    def hits(self, client):
        return sum(client.call('cache.manager', 'get_stats')['hits'].values())

    def write(self, number, removals=()):
        """Change the data so that no trigger tells of it, and remove in the same commit."""

        def then(cursor):
            cursor.execute(SILENTLY, [str(number), self.partner])
            journal.note(cursor, removals)

        self.sql(None, then=then)

    def removals(self, number):
        """One kind after the other."""
        keys = self.sql(
            "SELECT key FROM cache_entry WHERE model = 'res.partner' AND method = 'search_read'"
            " AND uid = %s",
            [self.uid],
        )
        kinds = [
            ['pattern:v1:orm:res.partner:*'],
            [f'user:{self.uid}'],
            ['res_partner'],
            [journal.ALL],
        ]
        if keys:
            kinds.append([journal.KEY + key for (key,) in keys])
        return kinds[number % len(kinds)]

    def warm_workers(self, number):
        for worker in self.server.workers():
            with self.server.only(worker):
                before = self.hits(self.client)

                def is_hit(before=before):
                    self.assertEqual(self.ask(self.client), number)
                    return self.hits(self.client) > before

                wait_until(is_hit, "the worker answers from its cache")

    def test_1_without_a_removal_such_a_write_is_not_noticed(self):
        self.write(0, ['res_partner'])
        self.warm_workers(0)
        self.write(1)
        for worker in self.server.workers():
            with self.server.only(worker):
                self.assertEqual(self.ask(self.client), 0)
        self.write(2, [f'user:{self.uid}'])
        for worker in self.server.workers():
            with self.server.only(worker):
                self.assertEqual(self.ask(self.client), 2)

    def test_2_no_reader_is_served_what_was_removed_before_it_asked(self):
        self.write(1000, [journal.ALL])
        self.warm_workers(1000)
        before = self.hits(self.client)
        committed, wrong, asked = [1000], [], threading.Semaphore(0)
        over = threading.Event()

        def read():
            client = self.log_in()
            try:
                while not over.is_set():
                    least = committed[0]
                    found = self.ask(client)
                    if found < least:
                        wrong.append((found, least))
                    asked.release()
            except Exception as error:
                wrong.append(error)
                asked.release(10**6)

        readers = [threading.Thread(target=read) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        try:
            for number in range(1001, 1001 + ROUNDS):
                for _read in range(READS_PER_ROUND):
                    self.assertTrue(asked.acquire(timeout=60))
                self.write(number, self.removals(number))
                committed[0] = number
                if number % 30 == 0:
                    self.engine.compact()
        finally:
            over.set()
            for reader in readers:
                reader.join(60)
        self.assertEqual(wrong, [])
        self.assertEqual(self.ask(self.client), 1000 + ROUNDS)
        self.assertGreater(self.hits(self.client) - before, ROUNDS)  # of one of the two
        self.assertNotIn('ERROR', self.server.log())
