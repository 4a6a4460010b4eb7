"""L2 in a Redis Cluster of three real primaries: lost, frozen, moved slots, removals."""

import contextlib
import threading
import time
import unittest
import unittest.mock

from odoo.tests.common import BaseCase, tagged
from odoo.tools import mute_logger

from ..services import redis_probe
from ..services.breaker import CircuitBreaker
from ..services.entry import Seal
from ..services.hierarchy import Hierarchy
from ..services.miss import MISS
from ..services.policy import Plan
from ..services.tiers import RedisTier
from .redis_server import REDIS_SERVER, ClusterServers, RedisServer, free_port, wait_until
from .test_faults import QUIET, StatesCase
from .test_tier_redis import AT_ONCE_S, LOGGER, PREFIX, impostor
from .tier_tools import SECRET, Clock, in_child, make_entry


class TierCase(BaseCase):
    def setUp(self):
        super().setUp()
        self.enterContext(mute_logger(f'{LOGGER}.base'))
        self.breaker_clock = Clock()

    def new_tier(self, url=None, timeout_ms=5000, breaker=None, **options):
        """A tier with a patient timeout, unless the test is about timeouts."""
        tier = RedisTier(
            url or self.cluster.url,
            PREFIX,
            Seal(SECRET),
            timeout_ms,
            breaker or CircuitBreaker(clock=self.breaker_clock),
            **options,
        )
        self.addCleanup(tier.close)
        return tier

    def impatient(self, url=None):
        """Half a second: on a busy machine, the nodes that are well must answer in time."""
        return self.new_tier(url, 500)

    @contextlib.contextmanager
    def in_time(self):
        started = time.monotonic()
        yield
        self.assertLess(time.monotonic() - started, AT_ONCE_S)


@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class ClusterCase(TierCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster = cls.enterClassContext(ClusterServers())

    def setUp(self):
        super().setUp()
        for server in self.cluster.servers:
            server.ensure_running()
        wait_until(self.cluster.agree, "all nodes know all slots")
        self.cluster.call('FLUSHALL')

    def keys_on(self, server, count=3):
        """Keys whose slots a server has."""
        start, end = self.slots_of(server)
        keys = (f'v1:k:{number}' for number in range(10**6))
        found = (key for key in keys if start <= self.slot(key) < end)
        return [next(found) for _ in range(count)]

    def slots_of(self, server):
        number = self.cluster.servers.index(server)
        return self.cluster.FIRST_SLOTS[number : number + 2]

    def slot(self, key):
        from redis.crc import key_slot  # noqa: PLC0415 - optional

        return key_slot(f'{PREFIX}{key}'.encode())

    def fill(self, tier, count=300):
        entries = [make_entry(f'v1:all:{n}', payload=str(n).encode()) for n in range(count)]
        self.assertEqual(tier.set_many(entries), count)
        return entries


@tagged('post_install', '-at_install')
class TestRedisClusterUp(ClusterCase):
    def test_entries_lie_on_all_nodes_and_are_found(self):
        tier = self.new_tier()
        entries = self.fill(tier)
        self.assertTrue(all(size > 50 for size in self.cluster.call('DBSIZE')))
        self.assertEqual(len(tier.get_many(entry.key for entry in entries)), 300)
        self.assertEqual(self.new_tier().get(entries[7].key), entries[7])
        self.assertFalse(tier.faults)

    def test_a_batch_is_one_trip_to_each_node(self):
        tier = self.new_tier(max_entry_bytes=10_000)  # so that 100 may be read at once
        entries = self.fill(tier, 90)
        before = [int(i['total_reads_processed']) for i in self.cluster.call('INFO', 'stats')]
        tier.get_many(entry.key for entry in entries)
        after = [int(i['total_reads_processed']) for i in self.cluster.call('INFO', 'stats')]
        for one, other in zip(before, after, strict=True):
            self.assertLess(other - one, 8)  # INFO and its connection are among them

    def test_only_the_first_read_asks_for_the_map(self):
        tier = self.new_tier()
        tier.get('k')
        self.cluster.call('CONFIG', 'RESETSTAT')
        for entry in self.fill(tier, 50):
            tier.get(entry.key)
        for statistics in self.cluster.call('INFO', 'commandstats'):
            self.assertNotIn('cmdstat_cluster|slots', statistics)

    def test_one_node_that_answers_is_enough_to_know_all(self):
        last = self.cluster.servers[2]
        with impostor() as hole:
            tier = self.new_tier(
                f'redis+cluster://127.0.0.1:{free_port()},{hole[8:-2]},127.0.0.1:{last.port}',
                1000,
            )
            entry = make_entry(self.keys_on(self.cluster.servers[0])[0])
            for _attempt in range(3):  # nodes that do not answer are asked at most once
                wait_until(lambda: time.monotonic() >= self.refresh_at(tier), "may be asked again")
                with self.in_time():
                    stored = tier.set(entry)
            self.assertTrue(stored)

    def refresh_at(self, tier):
        return tier._servers._refresh_at if tier._servers else 0

    def test_removal_of_a_pattern_reaches_every_node(self):
        tier = self.new_tier()
        self.fill(tier)
        tier.set(make_entry('v1:other'))
        self.assertEqual(tier.delete_pattern('v1:all:*'), 300)
        self.assertEqual(sum(self.cluster.call('DBSIZE')), 1)

    def test_clearing_reaches_every_node_and_no_other_database(self):
        tier = self.new_tier()
        self.fill(tier, 1500)
        for server in self.cluster.servers:
            server.call('SET', f'other:{self.tag_of(server)}', 'x')
        self.assertEqual(tier.clear(), 1500)
        self.assertEqual(self.cluster.call('DBSIZE'), [1, 1, 1])

    def tag_of(self, server):
        from redis.crc import key_slot  # noqa: PLC0415 - optional

        first, end = self.slots_of(server)
        return next(f'{{{n}}}' for n in range(10**5) if first <= key_slot(f'{n}'.encode()) < end)

    def test_removal_of_keys_of_several_slots(self):
        tier = self.new_tier()
        entries = self.fill(tier)
        self.assertEqual(tier.delete([entry.key for entry in entries[:100]] + ['v1:none']), 100)
        self.assertEqual(len(tier.get_many(entry.key for entry in entries)), 200)

    def test_figures_are_those_of_all_nodes(self):
        tier = self.new_tier()
        self.fill(tier)
        stats = tier.stats()
        memory = [info['used_memory'] for info in self.cluster.call('INFO', 'memory')]
        self.assertEqual((stats['state'], stats['entries'], stats['writes']), ('up', 300, 'on'))
        self.assertGreater(stats['server_bytes'], 0.8 * sum(memory))
        self.assertEqual(stats['server_max_bytes'], 0)
        self.assertEqual(
            {server['address'] for server in stats['servers']},
            {f'redis://127.0.0.1:{server.port}' for server in self.cluster.servers},
        )
        self.assertEqual(stats['address'], self.cluster.url)

    def test_a_bad_value_is_dropped(self):
        tier = self.new_tier()
        server = self.cluster.servers[1]
        key = self.keys_on(server)[0]
        server.call('SET', f'{PREFIX}{key}', 'garbage')
        self.assertIs(tier.get(key), MISS)
        self.assertEqual(tier.faults, {'forged': 1})
        self.assertEqual(server.call('DBSIZE'), 0)

    def test_child_has_connections_of_its_own(self):
        tier = self.new_tier()
        self.fill(tier, 30)

        def child():
            found = len(tier.get_many(f'v1:all:{n}' for n in range(30)))
            tier.close()
            return found, dict(tier.faults)

        with tier._servers._members_lock, tier._servers._refresh_lock:
            self.assertEqual(in_child(child), str((30, {})))
        self.assertEqual(len(tier.get_many(f'v1:all:{n}' for n in range(30))), 30)
        self.assertFalse(tier.faults)

    # ---- Test Connection

    def assertAdvises(self, url, kind, word):
        with self.assertRaisesRegex(redis_probe.ProbeError, word) as raised:
            redis_probe.probe(url, PREFIX)
        self.assertEqual(raised.exception.kind, kind)
        self.assertNotIn('wr0ng', str(raised.exception))

    def test_probe_says_what_it_found(self):
        found = redis_probe.probe(self.cluster.url, PREFIX)
        self.assertEqual((found['servers'], found['address']), (3, self.cluster.url))
        self.assertGreater(found['used_memory_bytes'], 0)
        self.assertEqual(self.cluster.call('DBSIZE'), [0, 0, 0])

    def test_probe_tries_every_node(self):
        full = self.cluster.servers[1]
        full.call('CONFIG', 'SET', 'maxmemory', 1)
        self.addCleanup(full.call, 'CONFIG', 'SET', 'maxmemory', 0)
        self.assertAdvises(self.cluster.url, 'oom', str(full.port))

    def test_probe_of_a_server_that_is_not_in_a_cluster(self):
        with RedisServer() as server:
            self.assertAdvises(
                f'redis+cluster://:wr0ng@127.0.0.1:{server.port}', 'auth', "user name or password"
            )
            self.assertAdvises(
                f'redis+cluster://127.0.0.1:{server.port}', 'no cluster', "begin the URL"
            )

    def test_probe_of_nobody(self):
        self.assertAdvises(
            f'redis+cluster://:wr0ng@127.0.0.1:{free_port()}', 'refused', "Nothing listens"
        )

    def test_probe_of_a_plain_url_of_a_node(self):
        self.assertAdvises(
            f'redis://127.0.0.1:{self.cluster.servers[0].port}', 'cluster', r"redis\+cluster://"
        )

    def test_a_user_who_may_only_what_the_documentation_says(self):
        rights = (
            'odoo on >secret resetkeys ~tc:* resetchannels -@all +getrange +set +unlink +scan '
            '+ping +dbsize +info +select +client|setname +cluster|slots +asking'
        )
        self.cluster.call('ACL', 'SETUSER', *rights.split())
        self.addCleanup(self.cluster.call, 'ACL', 'DELUSER', 'odoo')
        url = self.cluster.url.replace('//', '//odoo:secret@')
        self.assertEqual(redis_probe.probe(url, PREFIX)['servers'], 3)
        tier = self.new_tier(url)
        self.fill(tier)
        self.assertEqual(tier.clear(), 300)
        self.assertFalse(tier.faults)
        self.assertNotIn('secret', repr(tier.stats()))


@tagged('post_install', '-at_install')
class TestRedisClusterFaults(ClusterCase):
    def assertOthersAnswer(self, tier, lost):
        for server in self.cluster.servers:
            for key in self.keys_on(server):
                self.assertEqual(tier.get(key) is MISS, server is lost, (key, tier.faults))

    def fill_all(self, tier):
        keys = [key for server in self.cluster.servers for key in self.keys_on(server)]
        self.assertEqual(tier.set_many([make_entry(key) for key in keys]), len(keys))

    def test_a_lost_node_costs_its_own_slots_until_it_is_back(self):
        tier = self.new_tier()
        self.fill_all(tier)
        lost = self.cluster.servers[1]
        lost.stop()
        with self.in_time():
            self.assertOthersAnswer(tier, lost)
        self.assertLessEqual(sum(tier.faults.values()), 2)  # it, and as one asked for the map
        self.assertEqual(tier.stats()['state'], 'partly down')
        keys = [key for server in self.cluster.servers for key in self.keys_on(server)]
        with self.in_time():
            self.assertEqual(tier.set_many([make_entry(key) for key in keys]), 6)
            self.assertEqual(len(tier.get_many(keys)), 6)
        lost.start()
        wait_until(self.cluster.agree, "the node is believed alive")
        self.breaker_clock.advance(1)
        self.fill_all(tier)
        self.assertOthersAnswer(tier, None)
        self.assertEqual(tier.stats()['state'], 'up')

    def test_a_frozen_node_costs_one_timeout(self):
        tier = self.impatient()
        self.fill_all(tier)
        frozen = self.cluster.servers[2]
        with frozen.frozen():
            with self.in_time():
                self.assertOthersAnswer(tier, frozen)
            self.assertIn('timeout', tier.faults)
            with self.in_time():
                for _again in range(20):
                    self.assertOthersAnswer(tier, frozen)
                self.assertEqual(len(tier.get_many(self.keys_on(self.cluster.servers[0]))), 3)

    def test_only_the_background_asks_a_node_that_has_failed(self):
        """In a request, keys of the other nodes are asked for and those of this one are not."""
        tier = self.impatient()
        self.fill_all(tier)
        hierarchy = Hierarchy({'l2': tier}, lambda name, entry: None)
        plan = Plan('strong', 1.0, {'l2': 300}, {'l2': 0})
        lost = self.cluster.servers[1]

        def found(server):
            key = self.keys_on(server)[0]
            return hierarchy.get(key, plan, lambda entry: ('', ''), None).entry is not None

        with lost.frozen():
            self.assertFalse(found(lost))
            self.breaker_clock.advance(1)
            with unittest.mock.patch.object(RedisTier, 'get', side_effect=AssertionError):
                self.assertFalse(found(lost))
            self.assertTrue(found(self.cluster.servers[0]))
            self.assertEqual(tier.faults, {'timeout': 1})
            self.assertTrue(tier.is_up)
            hierarchy.probe()
            self.assertEqual(tier.faults, {'timeout': 2})
        self.breaker_clock.advance(2)
        hierarchy.probe()
        self.assertTrue(found(lost))

    def test_a_batch_with_a_frozen_node_brings_the_others(self):
        tier = self.impatient()
        self.fill_all(tier)
        keys = [key for server in self.cluster.servers for key in self.keys_on(server)]
        with self.cluster.servers[0].frozen(), self.in_time():
            self.assertEqual(len(tier.get_many(keys)), 6)

    def test_removal_goes_on_with_the_other_nodes(self):
        tier = self.impatient()
        self.fill_all(tier)
        with self.cluster.servers[0].frozen(), self.in_time():
            self.assertEqual(tier.delete_pattern('v1:*'), 6)
        self.assertEqual(self.cluster.call('DBSIZE'), [3, 0, 0])

    def test_all_frozen_is_a_bounded_miss(self):
        tier = self.impatient()
        with contextlib.ExitStack() as stack:
            for server in self.cluster.servers:
                stack.enter_context(server.frozen())
            for _again in range(3):
                with self.in_time():
                    self.assertIs(tier.get('k'), MISS)
                    self.assertEqual(tier.get_many(str(n) for n in range(50)), {})
                    self.assertFalse(tier.set(make_entry('k')))
                    self.assertEqual(tier.clear(), 0)
                    tier.stats()
        self.assertEqual(tier.stats()['state'], 'down')

    def test_lost_during_load(self):  # noqa: C901
        """Threads read and write while a node is killed and comes back: nothing is raised, no
        call is slow, and what lies on the others is hit all the time."""
        tier = self.new_tier(breaker=CircuitBreaker(cooldown_s=0.1, max_cooldown_s=0.2))
        keys = {server: self.keys_on(server, 5) for server in self.cluster.servers}
        tier.set_many([make_entry(key, payload=key.encode()) for k in keys.values() for key in k])
        kept, lost = self.cluster.servers[0], self.cluster.servers[2]
        wrong, slowest, stop = [], [0.0], threading.Event()
        hits = dict.fromkeys(self.cluster.servers, 0)

        def work():
            try:
                while not stop.is_set():
                    for server, names in keys.items():
                        for key in names:
                            started = time.monotonic()
                            entry = tier.get(key)
                            if entry is MISS:
                                tier.set(make_entry(key, payload=key.encode()))
                                if server is kept:
                                    wrong.append(('miss', key, dict(tier.faults)))
                            elif entry.payload != key.encode():
                                wrong.append(('value', key))
                            else:
                                hits[server] += 1
                            slowest[0] = max(slowest[0], time.monotonic() - started)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: hits[lost] > 100, "hits before")
            lost.stop()
            wait_until(lambda: tier.stats()['state'] == 'partly down', "noticed")
            before = hits[kept]
            wait_until(lambda: hits[kept] > before + 200, "the others go on")
            lost.start()
            before = hits[lost]
            wait_until(lambda: hits[lost] > before + 100, "hits after")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(wrong, [])
        self.assertLess(slowest[0], AT_ONCE_S)

    # ---- slots that move

    def prepare_move(self):
        """A slot with one entry, and from where to where it will move."""
        self.source, self.target = self.cluster.servers[:2]
        self.tier = self.new_tier()
        self.key = self.keys_on(self.source)[0]
        self.entry = make_entry(self.key)
        self.tier.set(self.entry)
        self.move = (self.slot(self.key), self.source, self.target)
        self.addCleanup(self.move_back)

    def move_back(self):
        slot = self.move[0]
        for server in (self.source, self.target):
            server.call('FLUSHALL')
            server.call('CLUSTER', 'SETSLOT', slot, 'STABLE')
        if any(first == last == slot for first, last, _port in self.cluster.owners(self.target)):
            back = (slot, self.target, self.source)
            self.cluster.begin_to_move(*back)
            self.cluster.end_move(*back)
        wait_until(self.cluster.agree, "the slot is back")

    def test_a_moved_slot_is_followed_and_remembered(self):
        self.prepare_move()
        self.cluster.begin_to_move(*self.move)
        self.cluster.move_keys(*self.move)
        self.cluster.end_move(*self.move)
        self.assertEqual(self.tier.get(self.key), self.entry)
        self.source.call('CONFIG', 'RESETSTAT')
        self.assertEqual(self.tier.get(self.key), self.entry)
        self.assertNotIn('cmdstat_getrange', self.source.call('INFO', 'commandstats'))
        self.assertTrue(self.tier.set(make_entry(self.key)))
        self.assertEqual(self.tier.delete([self.key]), 1)
        self.assertFalse(self.tier.faults)

    def test_a_slot_under_way_answers_from_both_sides(self):
        self.prepare_move()
        other = next(
            key
            for key in (f'v1:m:{n}' for n in range(10**6))
            if self.slot(key) == self.slot(self.key)
        )
        self.cluster.begin_to_move(*self.move)
        self.assertEqual(self.tier.get(self.key), self.entry)
        self.assertTrue(self.tier.set(make_entry(other)), "goes to the new place")
        self.assertEqual(self.target.call('DBSIZE'), 1)
        self.assertIsNot(self.tier.get(other), MISS)
        self.assertEqual(len(self.tier.get_many([self.key, other, 'v1:none'])), 2)
        self.assertEqual(self.tier.delete([self.key, other]), 2)
        self.assertFalse(self.tier.faults)

    def test_removal_of_a_pattern_finds_keys_under_way(self):
        self.prepare_move()
        self.fill(self.tier, 100)
        self.cluster.begin_to_move(*self.move)
        self.cluster.move_keys(*self.move)
        self.assertEqual(self.tier.delete_pattern('*'), 101)
        self.assertEqual(sum(self.cluster.call('DBSIZE')), 0)
        self.assertFalse(self.tier.faults)

    def test_slots_move_during_load(self):
        self.prepare_move()
        keys = [f'v1:load:{n}' for n in range(20)] + [self.key]
        self.tier.set(make_entry(self.key, payload=self.key.encode()))
        wrong, stop = [], threading.Event()

        def work():
            try:
                while not stop.is_set():
                    for key in keys:
                        entry = self.tier.get(key)
                        if entry is MISS:
                            self.tier.set(make_entry(key, payload=key.encode()))
                        elif entry.payload != key.encode():
                            wrong.append(key)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for move in (self.move, (self.move[0], self.target, self.source)) * 3:
                self.cluster.begin_to_move(*move)
                self.cluster.move_keys(*move)
                self.cluster.end_move(*move)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(wrong, [])
        self.assertFalse(self.tier.faults)
        self.assertEqual(len(self.tier.get_many(keys)), len(keys))


@tagged('post_install', '-at_install')
class TestRedisClusterImpostors(TierCase):
    """A node that lies about the cluster."""

    def answering(self, layout):
        def answer(connection):
            while received := connection.recv(100_000):
                connection.sendall(layout if b'SLOTS' in received else b'+OK\r\n')

        return impostor(answer)

    def assertBoundedMiss(self, layout):
        with self.answering(layout) as url:
            tier = self.impatient(url.replace('redis', 'redis+cluster'))
            with self.in_time():
                self.assertIs(tier.get('k'), MISS)
                self.assertFalse(tier.set(make_entry('k')))
                self.assertEqual(tier.delete(['k']), 0)
                self.assertEqual(tier.get_many(['k', 'l']), {})
                tier.stats()
            self.assertEqual(tier.clear(), 0)  # asks every node there is said to be

    def test_no_layout_makes_any_call_raise(self):
        for layout in (
            b'*0\r\n',
            b'*-1\r\n',
            b'$-1\r\n',
            b':7\r\n',
            b'*1\r\n*0\r\n',
            b'*1\r\n:1\r\n',
            b'*1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n',
            b'*1\r\n*3\r\n:5\r\n:0\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n',
            b'*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:99999\r\n',
            b'*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$2\r\n\xff\xff\r\n:1\r\n',
            b'*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\n?\r\n:1\r\n',
            b'*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$-1\r\n:1\r\n',
            b'*1\r\n*3\r\n:0\r\n:16383\r\n*1\r\n$1\r\nx\r\n',
            b'-ERR no\r\n',
            b'-MOVED 1 127.0.0.1:1\r\n',
            b'-MOVED x\r\n',
        ):
            with self.subTest(layout=layout):
                self.assertBoundedMiss(layout)

    def test_a_layout_of_thousands_of_nodes(self):
        node = b'*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n'
        nodes = b''.join(node % (n, n, 1024 + n) for n in range(16384))
        self.assertBoundedMiss(b'*16384\r\n' + nodes)

    def test_nodes_that_send_each_other_the_question_for_ever(self):
        moved = b'-MOVED 0 127.0.0.1:%d\r\n'

        def answer(connection):
            while received := connection.recv(100_000):
                if b'SLOTS' in received:
                    port = connection.getsockname()[1]
                    connection.sendall(
                        b'*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n' % port
                    )
                elif b'GETRANGE' in received:
                    asked.append(1)
                    connection.sendall(moved % connection.getsockname()[1])
                else:
                    connection.sendall(b'+OK\r\n')

        asked = []
        with impostor(answer) as url:
            tier = self.impatient(url.replace('redis', 'redis+cluster'))
            with self.in_time():
                self.assertIs(tier.get('k'), MISS)
        self.assertEqual(len(asked), 2)


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestReadsThroughCluster(StatesCase):
    """L1 is off, so that every read of the ORM asks the cluster."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster = cls.enterClassContext(ClusterServers())

    def test_p7_reads_are_right_and_in_time_while_nodes_are_lost(self):
        self.configure(redis_url=self.cluster.url, l1_max_entries='0')
        self.forget()
        self.warm(self.read)
        with self.assertHit('l2'), self.request() as env:
            self.read(env)
        self.assertRight()
        with mute_logger(QUIET):
            for server in self.cluster.servers:
                server.stop()
                self.assertRight()
        self.assertTrue(self.faults('l2'))
