"""Removal: nothing whose computation began before it is served after it, in any worker.

The one idea: a removal and a computation are a few steps each, and so is the compaction of the
journal; :class:`TestInterleavings` runs them in *every* order, with a connection each, and asks
two workers afterwards.  An entry may be served if, and only if, its computation began after the
commit of the removal.
"""

# "read" and "write" are what these tests do, not overrides of a model's methods
# pylint: disable=method-required-super

import contextlib
import itertools
import time
from unittest.mock import patch

from odoo.addons.tiered_cache.services import codec, journal, reading, removal
from odoo.addons.tiered_cache.services.engine import Engine
from odoo.addons.tiered_cache.services.entry import Entry
from odoo.addons.tiered_cache.services.journal import ALL, TAG
from odoo.addons.tiered_cache.services.policy import TIERS, Plan
from odoo.addons.tiered_cache.services.removal import Removals
from odoo.exceptions import UserError
from odoo.tests import BaseCase, tagged

from .common import ADMIN, CacheCase
from .test_key_families import examples

DIGEST = '0123456789abcdef' * 2
NAME = 'v1:tc_supplier:detail:42'
KEY = f'{NAME}@{DIGEST}'
TABLE = 'res_bank'
HOUR_S = 3600

PLAN = Plan('strong', 0, dict.fromkeys(TIERS, HOUR_S), dict.fromkeys(TIERS, 0))

KINDS = {
    'key': lambda engine, cr: removal.remove_key(engine, cr, NAME),
    'variant': lambda engine, cr: removal.remove_key(engine, cr, KEY),
    'keys': lambda engine, cr: removal.remove_keys(engine, cr, ['v1:tc_other', NAME]),
    'pattern': lambda engine, cr: removal.remove_pattern(engine, cr, 'v1:tc_supplier:*:4?'),
    'tag': lambda engine, cr: removal.remove_tag(engine, cr, 'tc_prices'),
    'user': lambda engine, cr: removal.remove_user(engine, cr, ADMIN),
    'relation': lambda engine, cr: removal.remove_relation(engine, cr, TABLE),
    'all': removal.remove_all,
}


class RemovalCase(CacheCase):
    """Entries as named ones are made: with a tag, of a user, read from a table."""

    options = {'l3_enabled': '1'}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.addClassCleanup(cls.drop_removals)
        cls.drop_removals()
        cls.guard(TABLE)
        cls.other = Engine(cls.registry)
        cls.addClassCleanup(cls.other.close)

    def setUp(self):
        super().setUp()
        self.addCleanup(self.drop_removals)

    def forget(self):  # pylint: disable=missing-return
        super().forget()
        self.other.hierarchy.each('clear')

    @classmethod
    def guard(cls, table):
        cls.engine.guards.want([table])
        cls.engine.guards.work()
        assert cls.sql("SELECT 1 FROM cache_version WHERE relation = %s", [table])

    @classmethod
    def drop_removals(cls):
        cls.sql("DELETE FROM cache_change WHERE strpos(relation, ':') > 0")
        cls.sql("DELETE FROM cache_version WHERE strpos(relation, ':') > 0")
        cls.sql(
            f"UPDATE cache_version SET token = {journal.RANDOM_TOKEN}"
            f" WHERE relation = '{journal.GENERATION}'"
        )

    @staticmethod
    def entry(versions, key=KEY, uid=ADMIN, tags=('tc_prices',), **values):
        """What somebody with these versions would keep."""
        now = time.time()
        return Entry(
            **{
                'key': key,
                'model': '',
                'method': '',
                'uid': uid,
                'dependencies': (
                    (ALL, versions.versions[ALL], None),
                    (TABLE, versions.versions[TABLE], None),
                    *((TAG + tag, versions.removals.tag_version(tag), None) for tag in tags),
                ),
                'removal_version': versions.removals.version(key, uid),
                'created': now,
                'expires': now + HOUR_S,
                'cost_ms': 100.0,
                'queries': 1,
                'flags': 0,
                'payload': codec.pack([key]),
                **values,
            }
        )

    def keep(self, env, engine=None, **values):
        """Compute in a transaction, and keep it in all tiers of a worker."""
        engine = engine or self.engine
        entry = self.entry(engine.book(env.cr).look(env.cr), **values)
        for tier in engine.hierarchy.tiers.values():
            self.assertTrue(tier.set(entry))
        return entry

    def is_served(self, engine=None, key=KEY, weak=False):
        """Whether a new transaction is served it from a tier, judged as every read is."""
        engine = engine or self.engine
        with self.request() as env:
            versions = engine.book(env.cr).look(env.cr)
            found = engine.hierarchy.get(
                key, PLAN, lambda entry: reading.judge(engine, entry, versions, weak), None
            )
        return found.entry is not None

    def everywhere(self, **options):
        """Whether each of two workers is served it."""
        return [self.is_served(engine, **options) for engine in (self.engine, self.other)]

    @contextlib.contextmanager
    def computing(self):
        """A transaction whose snapshot is taken; it keeps what it has computed at the end."""
        with self.request() as env:
            env.cr.execute("SELECT 1")
            yield env

    def remove(self, kind, **request):
        return self.commit(lambda env: KINDS[kind](self.engine, env.cr), **request)

    def compact(self, ttl_s=HOUR_S):
        with self.engine.cursor() as cr:
            self.assertIsNotNone(journal.compact(cr, ttl_s))

    def settle_removals(self):
        """Compact, when nobody is left who does not see what was removed; others than the tests
        may have long transactions."""
        with patch.object(journal, '_seen_by_all', lambda cr: 2**62):
            self.compact()


def interleavings():
    """Every order of: a computation begins, and keeps; a removal is written, and committed; with a
    compaction at any point, or none."""
    steps = ('begin', 'keep', 'write', 'commit')
    for order in itertools.permutations(steps):
        if order.index('begin') < order.index('keep') and (
            order.index('write') < order.index('commit')
        ):
            yield order
            for place in range(len(order) + 1):
                yield (*order[:place], 'compact', *order[place:])


@tagged('post_install', '-at_install')
class TestInterleavings(RemovalCase):
    def run_steps(self, kind, steps, compact_ttl_s=HOUR_S):
        with contextlib.ExitStack() as stack:
            computing = writing = None
            for step in steps:
                if step == 'begin':
                    computing = stack.enter_context(self.computing())
                elif step == 'keep':
                    self.keep(computing)
                    computing.cr.commit()
                elif step == 'write':
                    writing = stack.enter_context(self.request(commit=False))
                    KINDS[kind](self.engine, writing.cr)
                elif step == 'commit':
                    writing.cr.commit()
                elif compact_ttl_s is None:
                    self.settle_removals()
                else:
                    self.compact(compact_ttl_s)

    def test_an_entry_is_served_only_if_it_was_begun_after_the_commit(self):
        for kind in KINDS:
            for steps in interleavings():
                # both ways of compaction: removals stay rows of their own, or are summed up
                for ttl_s in (HOUR_S, None) if 'compact' in steps else (HOUR_S,):
                    with self.subTest(kind=kind, steps=steps, ttl_s=ttl_s):
                        self.forget()
                        self.run_steps(kind, steps, ttl_s)
                        after = steps.index('begin') > steps.index('commit')
                        self.assertEqual(self.everywhere(), [after, after])

    def test_compaction_forgets_no_removal_that_somebody_has_not_seen(self):
        """However short entries live: who began before may keep something at any later time."""
        for kind in KINDS:
            for steps in (
                ('begin', 'write', 'commit', 'compact', 'compact', 'keep'),
                ('begin', 'write', 'compact', 'commit', 'compact', 'keep'),
                ('write', 'begin', 'commit', 'compact', 'compact', 'keep'),
            ):
                with self.subTest(kind=kind, steps=steps):
                    self.forget()
                    self.run_steps(kind, steps, compact_ttl_s=0)
                    self.assertEqual(self.everywhere(), [False, False])

    def test_compaction_forgets_removals_when_all_that_is_older_has_expired(self):
        for kind in KINDS:
            self.remove(kind)
        self.settle_removals()
        names = "SELECT count(*) FROM {} WHERE strpos(relation, ':') > 0"
        self.assertEqual(self.sql(names.format('cache_change')), [(0,)])
        kept = self.sql(names.format('cache_version'))[0][0]
        self.assertEqual(kept, 6)  # two keys, the variant, the pattern, the tag, the user
        self.compact(HOUR_S)
        self.assertEqual(self.sql(names.format('cache_version')), [(kept,)])
        self.sql(
            "UPDATE cache_version SET guarded_at = now() - interval '61 min'"
            " WHERE capture = 'removal'"
        )
        self.compact(HOUR_S)
        self.assertEqual(self.sql(names.format('cache_version')), [(0,)])
        self.commit(self.keep)
        self.assertEqual(self.everywhere(), [True, True])

    def test_a_removal_that_is_repeated_lives_from_the_last_time_on(self):
        self.remove('key')
        self.settle_removals()
        self.sql(
            "UPDATE cache_version SET guarded_at = now() - interval '61 min'"
            " WHERE capture = 'removal'"
        )
        self.commit(self.keep)
        self.remove('key')
        self.settle_removals()
        self.compact(HOUR_S)
        self.assertEqual(self.everywhere(), [False, False])
        self.assertTrue(self.sql("SELECT 1 FROM cache_version WHERE capture = 'removal'"))

    def test_what_is_removed_twice_is_stale_twice(self):
        for kind in KINDS:
            for compact in (False, True):
                with self.subTest(kind=kind, compact=compact):
                    for _twice in range(2):
                        self.commit(self.keep)
                        self.assertEqual(self.everywhere(), [True, True])
                        with self.computing() as slow:
                            self.remove(kind)
                            if compact:
                                self.settle_removals()
                            self.keep(slow)
                        self.assertEqual(self.everywhere(), [False, False])

    def test_a_removal_that_is_rolled_back_makes_nothing_stale(self):
        for kind in KINDS:
            with self.subTest(kind), self.request(commit=False) as env:
                KINDS[kind](self.engine, env.cr)
                self.commit(self.keep)
            self.assertEqual(self.everywhere(), [True, True])

    def test_with_hooks_instead_of_triggers_removals_are_no_relations(self):
        """A state that is loaded in the mode "orm" must not take a tag for a guarded table."""
        self.remove('tag')
        self.settle_removals()
        self.configure(capture='orm')
        with self.request() as env:
            state = self.engine.book(env.cr).look(env.cr)
        self.assertFalse([name for name in state.versions if ':' in name])
        self.assertTrue(state.removals.tag_version('tc_prices'))


@tagged('post_install', '-at_install')
class TestRemovals(RemovalCase):
    """What is met by a removal, and what is not."""

    def met(self, kind, **values):
        self.forget()
        self.commit(lambda env: self.keep(env, **values))
        self.remove(kind)
        served = self.everywhere(key=values.get('key', KEY))
        self.assertEqual(len(set(served)), 1)
        return not served[0]

    def test_a_key_means_all_variants_of_it_and_no_longer_key(self):
        self.assertTrue(self.met('key', key=NAME))
        self.assertTrue(self.met('key', key=f'{NAME}@{"f" * 32}'))
        self.assertFalse(self.met('key', key=f'{NAME}0@{DIGEST}'))
        self.assertFalse(self.met('key', key=f'{NAME}:0'))

    def test_a_variant_means_only_itself(self):
        self.assertTrue(self.met('variant'))
        self.assertFalse(self.met('variant', key=f'{NAME}@{"f" * 32}'))
        self.assertFalse(self.met('variant', key=NAME))

    def test_a_pattern_matches_with_and_without_the_variant(self):
        self.assertTrue(self.met('pattern'))
        self.assertTrue(self.met('pattern', key='v1:tc_supplier:products:49'))
        self.assertFalse(self.met('pattern', key=f'v1:tc_supplier:detail:421@{DIGEST}'))

    def test_a_tag_means_the_entries_that_have_it(self):
        self.assertTrue(self.met('tag', tags=('tc_a', 'tc_prices')))
        self.assertFalse(self.met('tag', tags=('tc_price', 'tc_prices2')))
        self.assertFalse(self.met('tag', tags=()))

    def test_a_user_means_what_was_computed_for_them(self):
        self.assertTrue(self.met('user', uid=ADMIN))
        self.assertFalse(self.met('user', uid=ADMIN * 10 + 1))

    def test_a_relation_means_what_was_read_from_it(self):
        self.assertTrue(self.met('relation'))
        self.guard('res_country')
        with self.request() as env:
            versions = self.engine.book(env.cr).look(env.cr)
        dependencies = tuple((name, versions.versions[name], None) for name in (ALL, 'res_country'))
        self.assertFalse(self.met('relation', dependencies=dependencies))

    def test_old_entries_that_know_of_no_users_and_tags_are_met_all_the_same(self):
        """Their removal version was 0 and still is what it would be."""
        self.assertTrue(self.met('user', tags=(), removal_version=0))

    def test_a_weak_entry_is_met_too(self):
        for kind in set(KINDS) - {'relation'}:  # it trusts its time to live, tables or no tables
            with self.subTest(kind):
                self.commit(self.keep)
                self.assertEqual(self.everywhere(weak=True), [True, True])
                self.remove(kind)
                self.assertEqual(self.everywhere(weak=True), [False, False])

    def test_bad_targets_are_refused_and_nothing_is_journalled(self):
        with self.request(commit=False) as env:
            manager = env['cache.manager']
            for method, bad in (
                (manager.invalidate_keys, ('v1:a', ['v1:a', ''], [7], ['x'] * 1001, None)),
                (manager.invalidate_tag, ('', None, 'a\nb', 'x' * 513)),
                (manager.invalidate_user, ('7', 0, True, None, 2**31)),
                (manager.invalidate_relation, ('', 'no_such_table', 'res_bank; DROP', None)),
            ):
                for value in bad:
                    with self.subTest(method=method, value=value), self.assertRaises(UserError):
                        method(value)
            env.cr.execute("SELECT pg_current_xact_id_if_assigned()")
            self.assertEqual(env.cr.fetchone(), (None,))


@tagged('post_install', '-at_install')
class TestRemovalsOfReads(CacheCase):
    """Removals reach the reads of the ORM, which are computed, kept and judged for real."""

    def read(self, env):
        return env['res.country'].search_read([('code', '=', 'BE')], ['name'])

    def assertReaches(self, remove, **request):
        for slow in (False, True):
            with self.subTest(slow=slow):
                self.warm(self.read, **request)
                with self.other_worker():
                    self.warm(self.read, **request)
                if slow:
                    self.forget()
                    with self.request(**request) as env:
                        env.cr.execute("SELECT 1")
                        self.commit(lambda env: remove(env['cache.manager']))
                        self.read(env)
                else:
                    self.commit(lambda env: remove(env['cache.manager']))
                with self.assertMiss(), self.request(**request) as env:
                    self.read(env)
                with self.other_worker(), self.assertMiss(), self.request(**request) as env:
                    self.read(env)

    def test_by_user(self):
        self.assertReaches(lambda manager: manager.invalidate_user(ADMIN))

    def test_another_user_keeps_theirs(self):
        self.warm(self.read)
        self.commit(lambda env: env['cache.manager'].invalidate_user(ADMIN + 100_000))
        with self.assertHit(), self.request() as env:
            self.read(env)

    def test_by_relation(self):
        self.assertReaches(lambda manager: manager.invalidate_relation('res_country'))

    def test_by_list_of_keys(self):
        def remove(manager):
            l1 = self.engine.hierarchy.tiers['l1']
            keys = [key for key in list(l1._cache) if ':res.country:' in key] or self.keys
            self.keys = keys
            return manager.invalidate_keys(keys)

        self.assertReaches(remove)

    def test_a_weak_or_eventual_reader_of_this_process_misses_it_at_once(self):
        for consistency in ('eventual', 'weak'):
            with self.subTest(consistency):
                self.configure(consistency=consistency, max_staleness_s='600')
                self.forget()
                self.warm(self.read)
                self.patch(self.engine.emptying, '_tiers', dict)  # nothing is taken out of L1
                self.commit(lambda env: env['cache.manager'].invalidate_user(ADMIN))
                with self.assertMiss('stale', 'removal'), self.request() as env:
                    self.read(env)


@tagged('post_install', '-at_install')
class TestRemovalPage(CacheCase):
    def test_the_examples_of_the_page_run(self):
        for example in examples('removal.md'):
            with self.request(commit=False) as env:
                exec(example, {'env': env})  # noqa: S102 - our own page
                self.assertEqual(env['cache.schedule'].search_count([('state', '=', 'pending')]), 2)


@tagged('post_install', '-at_install')
class TestRemovalVersions(BaseCase):
    def test_all_that_meets_an_entry_adds_up(self):
        removals = Removals(
            {'key:v1:a': 1, 'key:v1:a@x': 2, 'pattern:v1:*': 4, 'user:7': 8, 'tag:t': 16}
        )
        self.assertEqual(
            [
                removals.version('v1:a@x', 7),
                removals.version('v1:a@x', 8),
                removals.version('v1:a@y', 7),
                removals.version('v1:a', None),
                removals.version('v2:a', 7),
            ],
            [15, 7, 13, 5, 8],
        )
        self.assertEqual((removals.tag_version('t'), removals.tag_version('u')), (16, 0))

    def test_more_of_them_leave_the_old_ones_as_they_were(self):
        one = Removals({'key:a': journal.MODULUS - 1})
        two = one.plus({'key:a': 3, 'tag:t': 5})
        self.assertEqual((one.version('a'), two.version('a')), (journal.MODULUS - 1, 2))
        self.assertEqual((one.tag_version('t'), two.tag_version('t')), (0, 5))
