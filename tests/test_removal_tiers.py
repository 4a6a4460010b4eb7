"""What a removal takes out of the tiers: what it returns, how it goes on, whom it holds up."""

import contextlib
import itertools
import json
import logging
import statistics
import subprocess
import sys
import time
import types
import unittest
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from odoo.addons.tiered_cache.services import emptying, keys, removal
from odoo.addons.tiered_cache.services.configuration import redis_prefix
from odoo.addons.tiered_cache.services.emptying import Emptying
from odoo.addons.tiered_cache.services.tiers import MemoryTier
from odoo.addons.tiered_cache.services.tiers import database as database_tier
from odoo.addons.tiered_cache.services.tiers.base import EVER
from odoo.tests import BaseCase, tagged

from .redis_server import REDIS_SERVER, RedisServer, wait_until
from .test_removal import DIGEST, NAME, RemovalCase
from .tier_tools import make_entry

_logger = logging.getLogger(__name__)

MANY = 100_000
CHARACTERS = st.one_of(
    st.sampled_from('a:@~\x7fz\xff\ud7ff\ue000\uffff🙂'),
    st.characters(codec='utf-8', exclude_characters='*?[]', max_codepoint=0x10FFFE),
)

LONGEST_MS = 5.0
"""No command of a removal may keep Redis busy for longer."""


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestCounts(RemovalCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.enterClassContext(RedisServer())

    def setUp(self):
        super().setUp()
        self.configure(redis_url=self.server.url, redis_timeout_ms='5000', l1_max_entries='1000')
        self.patch(removal, 'WAIT_MS', 60_000)  # however busy the machine is
        self.forget()

    def put(self, tier, *names, **values):
        with self.request() as env:
            versions = self.engine.book(env.cr).look(env.cr)
        for name in names:
            self.assertTrue(
                self.engine.hierarchy.tiers[tier].set(self.entry(versions, key=name, **values))
            )

    def counts(self, method, *args):
        return self.commit(lambda env: getattr(env['cache.manager'], method)(*args))

    def variants(self, name=NAME, count=3):
        return [f'{name}@{number:032x}' for number in range(count)]

    def test_a_removal_says_what_went_at_once_by_tier(self):
        one, two, three = self.variants()
        self.put('l1', one, 'v1:tc_other@1')
        self.put('l2', one, two, three, 'v1:tc_other@1')
        self.put('l3', two, three, 'v1:tc_other@1')
        self.assertEqual(self.counts('invalidate_key', NAME), {'l1': 1, 'l2': 3, 'l3': 2})
        self.assertEqual(self.counts('invalidate_key', NAME), {'l1': 0, 'l2': 0, 'l3': 0})
        self.assertEqual(self.counts('invalidate_all'), {'l1': 1, 'l2': 1, 'l3': 1})

    def test_one_variant_goes_alone(self):
        for tier in ('l1', 'l2', 'l3'):
            self.put(tier, *self.variants())
        self.assertEqual(
            self.counts('invalidate_key', self.variants()[1]), {'l1': 1, 'l2': 1, 'l3': 1}
        )

    def test_a_list_of_keys(self):
        names = [f'{NAME}:{number}' for number in range(5)]
        for tier in ('l1', 'l2', 'l3'):
            self.put(tier, *(variant for name in names for variant in self.variants(name, 2)))
        self.assertEqual(self.counts('invalidate_keys', names[:3]), {'l1': 6, 'l2': 6, 'l3': 6})
        self.assertEqual(self.counts('invalidate_keys', names), {'l1': 4, 'l2': 4, 'l3': 4})

    def test_a_pattern_that_ends_before_the_variant(self):
        for tier in ('l1', 'l2', 'l3'):
            self.put(tier, *self.variants(), f'{NAME}0@{DIGEST}', 'v1:tc_supplier:detail:43')
        self.assertEqual(
            self.counts('invalidate_pattern', 'v1:tc_supplier:*:4?'), {'l1': 4, 'l2': 4, 'l3': 4}
        )

    def test_a_name_with_wildcards_stands_for_itself(self):
        names = ('v1:tc_a*', 'v1:tc_a[b', 'v1:tc_a?')
        for name in names:
            with self.subTest(name):
                for tier in ('l1', 'l2', 'l3'):
                    self.put(tier, f'{name}@{DIGEST}', f'v1:tc_abc@{DIGEST}')
                self.assertEqual(self.counts('invalidate_key', name), {'l1': 1, 'l2': 1, 'l3': 1})

    def test_a_tag_is_looked_for_in_memory_only(self):
        for tier in ('l1', 'l2', 'l3'):
            self.put(tier, *self.variants())
            self.put(tier, 'v1:tc_other', tags=('tc_other',))
        self.assertEqual(self.counts('invalidate_tag', 'tc_prices'), {'l1': 3, 'l2': 0, 'l3': 0})
        self.assertFalse(self.is_served(key=self.variants()[0]))
        self.assertTrue(self.is_served(key='v1:tc_other'))

    def test_a_user_is_found_in_memory_and_in_the_database(self):
        for tier in ('l1', 'l2', 'l3'):
            self.put(tier, *self.variants(), uid=77)
            self.put(tier, 'v1:tc_other')
        self.assertEqual(self.counts('invalidate_user', 77), {'l1': 3, 'l2': 0, 'l3': 3})
        self.assertTrue(self.is_served(key='v1:tc_other'))

    def test_a_relation_is_looked_for_in_memory_only(self):
        for tier in ('l1', 'l2', 'l3'):
            self.put(tier, *self.variants())
        self.assertEqual(
            self.counts('invalidate_relation', 'res_bank'), {'l1': 3, 'l2': 0, 'l3': 0}
        )

    def test_to_look_for_a_tag_is_no_use_of_an_entry(self):
        """It must not change what leaves a full memory first."""
        tier = MemoryTier(2, 10**6)
        for key in ('a', 'b'):
            tier.set(make_entry(key))
        list(tier.removing_entries(lambda entry: False))
        tier.get('a')
        list(tier.removing_entries(lambda entry: False))
        tier.set(make_entry('c'))
        self.assertEqual(set(tier._cache), {'a', 'c'})

    def test_what_waits_for_nobody_goes_in_the_background(self):
        for tier in ('l2', 'l3'):
            self.put(tier, *self.variants())
        with self.request() as env:
            counts = removal.remove_key(self.engine, env.cr, NAME, wait_ms=0)
        self.assertEqual(counts, {'l1': 0, 'l2': 0, 'l3': 0})
        self.finish()
        (done,) = self.engine.emptying.stats()['finished'][-1:]
        self.assertEqual(done['what'], f'key {NAME}')
        self.assertEqual([done['tiers'][tier]['removed'] for tier in ('l2', 'l3')], [3, 3])
        self.assertTrue(done['finished_at'] >= done['started_at'])

    def test_the_background_leaves_what_is_newer(self):
        self.posted = []
        self.patch(self.engine.emptying, '_post', self.posted.append)
        removals = {
            'key': lambda cr: removal.remove_key(self.engine, cr, NAME, wait_ms=0),
            'pattern': lambda cr: removal.remove_pattern(self.engine, cr, f'{NAME}*', wait_ms=0),
            'user': lambda cr: removal.remove_user(self.engine, cr, 77, wait_ms=0),
        }
        old, new = self.variants(count=2)
        for what, remove in removals.items():
            for tier in ('l1', 'l3'):
                self.put(tier, old, uid=77, created=time.time() - 1)
            with self.request() as env:
                remove(env.cr)
            for tier in ('l1', 'l3'):
                self.put(tier, new, uid=77, created=time.time() + 1)
            while self.posted:
                self.posted.pop(0)()
            for tier in ('l1', 'l3'):
                with self.subTest(what=what, tier=tier):
                    got = self.engine.hierarchy.tiers[tier].get_many([old, new])
                    self.assertEqual(list(got), [new])

    def finish(self):
        def is_through():
            self.engine.outbox.flush()
            return not self.engine.emptying.is_working

        wait_until(is_through, "the background has emptied the tiers")

    # -- very many -----------------------------------------------------------------------

    def fill(self):
        """MANY entries in L2 and L3 each; the bytes do not matter."""
        prefix = redis_prefix(self.engine.config.uuid)
        self.server.call(
            'EVAL',
            "for n = 1, ARGV[2] do redis.call('SET', ARGV[1] .. n, string.rep('x', 500)) end",
            0, f'{prefix}v1:tc_many:', MANY,
        )  # fmt: skip
        self.sql(
            "INSERT INTO cache_entry (key, model, method, uid, superuser, created, expires,"
            " cost_ms, size_bytes, hits, body) SELECT 'v1:tc_many:' || n, '', '', 2, false,"
            " now() AT TIME ZONE 'utc', now() AT TIME ZONE 'utc' + interval '1 hour', 1, 500, 0,"
            " convert_to(repeat('x', 500), 'UTF8') FROM generate_series(1, %s) n",
            [MANY],
        )
        self.addCleanup(self.sql, "DELETE FROM cache_entry WHERE key LIKE 'v1:tc_many:%%'", [])
        self.analyze()

    def analyze(self):
        connection = self.engine.connect()
        with contextlib.closing(connection):
            connection.autocommit = True
            connection.cursor().execute("ANALYZE cache_entry")

    def left(self):
        (rows,) = self.sql("SELECT count(*) FROM cache_entry WHERE key LIKE 'v1:tc_many:%%'", [])
        return rows[0], self.server.call('DBSIZE')

    def test_very_many_hold_up_neither_the_caller_nor_redis(self):
        for _attempt in range(3):  # on a busy machine Redis may have to wait for a processor
            slow = self.remove_very_many()
            if not slow:
                break
        self.assertEqual(slow, 0)

    def remove_very_many(self):
        """How many commands kept Redis busy for too long."""
        self.fill()
        self.patch(removal, 'WAIT_MS', 100.0)
        self.server.call('CONFIG', 'SET', 'slowlog-log-slower-than', int(LONGEST_MS * 1000))
        self.server.call('SLOWLOG', 'RESET')
        with pings(self.server.port) as measured:
            started = time.monotonic()
            counts = self.counts('invalidate_pattern', 'v1:tc_many:*')
            took_s = time.monotonic() - started
            self.assertLess(took_s, 2.0)
            self.assertLess(counts['l3'], MANY)
            (going,) = self.engine.emptying.stats()['waiting']
            self.finish()
        self.assertEqual(self.left(), (0, 0))
        self.assertEqual(going['what'], 'pattern v1:tc_many:*')
        (done,) = self.engine.emptying.stats()['finished'][-1:]
        self.assertEqual(
            {name: done['tiers'][name]['removed'] for name in ('l2', 'l3')},
            {'l2': MANY, 'l3': MANY},
        )
        for name in ('l2', 'l3'):
            self.assertEqual(done['tiers'][name]['estimated_total'], MANY)
        slow = self.server.call('SLOWLOG', 'LEN')
        self.assertNotIn('cmdstat_keys', self.server.call('INFO', 'commandstats'))
        percentile = statistics.quantiles(measured, n=100)[98]
        self.assertLess(percentile, LONGEST_MS)
        _logger.info(
            "Removing %d keys: the caller waited %.0f ms; %d pings: median %.2f, 99th %.2f, "
            "longest %.2f ms",
            MANY, took_s * 1000, len(measured), statistics.median(measured), percentile,
            max(measured),
        )  # fmt: skip
        return slow

    def page(self, pattern, last):
        return [keys.sql_like(pattern), *database_tier._bounds(pattern), last, 1000]

    def test_the_database_finds_them_by_an_index(self):
        self.fill()
        target = keys.pattern_target('v1:tc_many:123')
        for statement, params in (
            (database_tier._KEYS, self.page(target.candidates, '')),
            (database_tier._KEYS, self.page('v1:tc_many:99*', 'v1:tc_many:995')),
            (database_tier._KEYS, self.page('*', 'v1:tc_many:995')),
            (database_tier._COUNT, database_tier._bounds('v1:tc_many:99*')),
            (database_tier._DELETE_USER, (77, EVER, 1000)),
        ):
            _limits, _semicolon, query = statement.rpartition('%s;')
            plan = '\n'.join(row for (row,) in self.sql(f'EXPLAIN {query}', params))
            self.assertRegex(plan, r'Index.* cache_entry_?_(key_prefix|uid)_idx')
            self.assertNotIn('Seq Scan on cache_entry', plan)


@contextlib.contextmanager
def pings(port):
    """PINGs from another process meanwhile; yields a list that holds their times afterwards,
    in milliseconds."""
    process = subprocess.Popen(
        [sys.executable, '-c', PINGS, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    measured = []
    try:
        process.stdout.readline()  # it has begun
        yield measured
        measured += json.loads(process.communicate('stop', timeout=30)[0])
    finally:
        process.kill()
        process.wait()


PINGS = """
import json, redis, select, sys, time
client, measured = redis.Redis(port=int(sys.argv[1])), []
client.ping()
print('begun', flush=True)
while not select.select([sys.stdin], [], [], 0.0005)[0]:
    started = time.perf_counter()
    client.ping()
    measured.append((time.perf_counter() - started) * 1000)
print(json.dumps(measured))
"""


@tagged('post_install', '-at_install')
class TestBounds(BaseCase):
    @settings(max_examples=300, deadline=None, database=None)
    @given(st.text(CHARACTERS, max_size=5), st.text(CHARACTERS, max_size=5))
    def test_every_key_that_may_match_lies_between_them(self, prefix, rest):
        low, high = (text.encode() for text in database_tier._bounds(prefix + '*'))
        self.assertTrue(low <= (prefix + rest).encode() < high)

    def test_keys_that_cannot_match_lie_outside(self):
        low, high = database_tier._bounds('v1:tc:*')
        for key in ('v1:tb:x', 'v1:tc', 'v1:tc;', 'v1:td'):
            self.assertFalse(low <= key < high, key)


class Steps:
    """A tier that removes in as many steps as it is told; counts who goes through it."""

    finds_prefixes = False

    def __init__(self, steps=3):
        self.steps, self.began = steps, 0

    def removing(self, target, before):
        self.began += 1
        for _ in range(self.steps):
            yield 1000, 10

    def delete(self, names, before):
        return 0

    def count(self, pattern):
        return self.steps * 1000


@tagged('post_install', '-at_install')
class TestBackground(BaseCase):
    def setUp(self):
        super().setUp()
        self.posted = []
        self.tier = Steps()
        self.emptying = Emptying(lambda: {'l2': self.tier}, self.posted.append)

    def work(self):
        while self.posted:
            self.posted.pop(0)()

    def test_who_waits_long_enough_gets_everything(self):
        self.assertEqual(self.emptying.pattern('a*', 60), {'l2': 30})
        self.assertEqual((self.posted, self.emptying.is_working), ([], False))

    def test_what_takes_longer_goes_on_where_it_was(self):
        clock = types.SimpleNamespace(monotonic=itertools.count().__next__, time=time.time)
        with patch.object(emptying, 'time', clock):
            self.assertEqual(self.emptying.pattern('a*', 1.5), {'l2': 20})
        self.assertTrue(self.emptying.is_working)
        self.work()
        (done,) = self.emptying.stats()['finished']
        self.assertEqual(
            done['tiers']['l2'],
            {'looked_at': 3000, 'removed': 30, 'estimated_total': 3020, 'done': True},
        )
        self.assertEqual(self.tier.began, 1)

    def test_a_round_is_short_and_the_next_one_is_asked_for(self):
        self.patch(emptying, 'ROUND_S', 0)
        self.emptying.pattern('a*', 0)
        rounds = 0
        while self.posted:
            self.posted.pop(0)()
            rounds += 1
        self.assertEqual(rounds, 4)  # three steps, and one that finds that there are no more

    def test_many_keys_go_through_the_tier_once(self):
        for number in range(50):
            self.emptying.names([f'v1:a:{number}', f'v1:b:{number}'], 0)
        self.assertEqual(self.emptying.stats()['waiting'][0]['what'], '100 keys')
        self.work()
        self.assertEqual(self.tier.began, 1)

    def test_keys_that_wait_are_bounded(self):
        self.patch(emptying, 'MAX_NAMES', 3)
        for number in range(5):
            self.emptying.names([f'v1:a:{number}'], 0)
        stats = self.emptying.stats()
        self.assertEqual((stats['waiting'][0]['what'], stats['skipped']), ('3 keys', 2))

    def test_the_same_pattern_waits_once(self):
        for _ in range(5):
            self.emptying.pattern('a*', 0)
        self.assertEqual(len(self.emptying.stats()['waiting']), 1)

    def test_what_has_begun_is_not_enough_for_what_comes_later(self):
        self.patch(emptying, 'ROUND_S', 0)
        self.emptying.pattern('a*', 0)
        self.posted.pop(0)()
        self.emptying.pattern('a*', 0)
        self.work()
        self.assertEqual(self.tier.began, 2)

    def test_keys_of_reads_have_no_variants_to_look_for(self):
        self.assertEqual(self.emptying.names([f'v1:orm:res.bank:read:{DIGEST}'], 60), {'l2': 0})
        self.assertEqual(self.tier.began, 0)

    def test_what_waits_is_bounded_and_what_is_skipped_is_counted(self):
        self.patch(emptying, 'MAX_WAITING', 3)
        for number in range(5):
            self.emptying.pattern(f'a{number}*', 0)
        stats = self.emptying.stats()
        self.assertEqual((len(stats['waiting']), stats['skipped']), (3, 2))

    def test_a_tier_that_raises_holds_up_no_other_removal(self):
        self.emptying.pattern('a*', 0)
        self.emptying.pattern('b*', 0)
        with (
            patch.object(self.tier, 'removing', side_effect=ValueError),
            self.assertRaises(ValueError),
        ):
            self.posted.pop(0)()
        self.work()
        self.assertEqual(len(self.emptying.stats()['finished']), 2)
        self.assertFalse(self.emptying.is_working)
