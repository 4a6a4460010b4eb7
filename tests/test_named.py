"""Named entries: ``env['cache.manager']`` and ``@cached``."""

import contextlib
import pathlib
import re
import threading
import time
import types
import typing
import unittest
from unittest.mock import patch

import redis

from odoo import api, fields
from odoo.addons.tiered_cache import MISS, NOT_CHANGED, Tagged, cached
from odoo.addons.tiered_cache.services import answering, codec, key_families, keys, named
from odoo.addons.tiered_cache.services.named_plan import DEFAULTS, BadOption
from odoo.addons.tiered_cache.services.pauses import Pauses
from odoo.addons.tiered_cache.services.tiers.database import DatabaseTier
from odoo.addons.tiered_cache.services.transaction import state_of
from odoo.exceptions import ValidationError
from odoo.modules.registry import Registry
from odoo.tests import tagged
from odoo.tools import config, mute_logger

from .common import ADMIN
from .redis_server import REDIS_SERVER, RedisServer, wait_until
from .test_faults import StatesCase

KEY = 'bank:name:1'
DOCS = pathlib.Path(__file__).parent.parent / 'docs'


class NamedCase(StatesCase):
    """Reads the name of a bank, and counts how often it is computed."""

    def setUp(self):
        super().setUp()
        self.computed = 0
        # held while tests run; a server does not hold it, and other threads need it
        self.patch(Registry, '_lock', threading.RLock())

    def compute(self, env):
        self.computed += 1
        return env['res.bank'].browse(self.bank).name

    def get(self, env, key=KEY, **options):
        return env['cache.manager'].get_or_compute(key, self.compute, **options)

    def user(self, login, **values):
        return self.make('res.users', {'name': login, 'login': login, **values})


@tagged('post_install', '-at_install')
class TestNamedEntries(NamedCase):
    def test_a_value_is_computed_once(self):
        self.warm(self.get)
        self.computed = 0
        with self.assertHit('l1'), self.request() as env:
            self.assertEqual(self.get(env), 'Before')
        self.assertEqual(self.computed, 0)

    def test_what_the_computation_read_is_a_dependency(self):
        self.assertCaptured(self.get, lambda: self.rename('After'))

    def test_raw_sql_elsewhere_is_seen(self):
        statement = "UPDATE res_bank SET name = 'After' WHERE id = %s"
        self.assertCaptured(self.get, lambda: self.sql(statement, [self.bank]))

    def test_a_declared_dependency_counts_like_a_recorded_one(self):
        def get(env):
            return env['cache.manager'].get_or_compute(
                'some:thing', lambda: 1, depends=['res.bank', 'res_country']
            )

        self.warm(get)
        self.rename('After')
        with self.assertMiss('stale', 'res_bank'), self.request() as env:
            get(env)

    def test_a_dependency_that_does_not_exist_is_a_mistake(self):
        with self.request() as env, self.assertRaisesRegex(ValueError, 'neither a model'):
            self.get(env, depends=['res.nothing'])

    def test_none_and_false_are_values(self):
        for value in (None, False, 0, [], ''):
            key = f'value:{key_families.write_part(repr(value))}'
            self.warm(lambda env, k=key, v=value: env['cache.manager'].get_or_compute(k, lambda: v))
            with self.request() as env:
                found = env['cache.manager'].get(key)
                self.assertIs(type(found), type(value))
                self.assertEqual(found, value)

    def test_nothing_is_the_sentinel_or_what_the_caller_says(self):
        with self.request() as env:
            self.assertIs(env['cache.manager'].get('no:thing'), MISS)
            self.assertEqual(env['cache.manager'].get('no:thing', 7), 7)
            self.assertFalse(env['cache.manager'].contains('no:thing'))

    def test_a_caller_may_change_what_it_gets(self):
        def get(env):
            return env['cache.manager'].get_or_compute('a:list', lambda: [1, {'a': [2]}])

        self.warm(get)
        with self.request() as env:
            get(env)[1]['a'].append('spoilt')
            self.assertEqual(get(env), [1, {'a': [2]}])

    def test_records_cannot_be_kept_and_the_path_is_told(self):
        def compute(env):
            return {'rows': [1, env['res.bank'].browse(self.bank)]}

        with (
            self.request() as env,
            self.assertRaisesRegex(codec.Unserializable, r"\['rows'\]\[1\]"),
        ):
            env['cache.manager'].get_or_compute('a:record', compute)

    def test_a_name_without_escape_is_refused(self):
        for name in ('supplier:*', 'a@b', 'orm:res.partner:read:0', '', 'a\nb', 'x[1]', 'why?'):
            with self.request() as env, self.assertRaises(keys.InvalidKey):
                self.get(env, name)

    def test_an_unknown_option_is_refused(self):
        with self.request() as env, self.assertRaisesRegex(BadOption, "no option 'ttl'"):
            self.get(env, ttl=7)

    def test_a_value_out_of_range_is_refused(self):
        for options in (
            {'ttl_s': -1},
            {'ttl_s': float('nan')},
            {'ttl_s': True},
            {'ttl_s': {'l4': 1}},
            {'consistency': 'exact'},
            {'sharing': 'world'},
            {'tiers': ()},
            {'tiers': 'l1'},
            {'tags': 'one'},
            {'eager_refresh': 1},
        ):
            with self.request() as env, self.assertRaises(BadOption, msg=options):
                self.get(env, **options)

    def test_its_time_to_live_ends_it(self):
        self.warm(lambda env: self.get(env, ttl_s=0.2))
        time.sleep(0.21)
        with self.assertMiss('expired'), self.request() as env:
            self.get(env, ttl_s=0.2)

    def test_lives_of_values_that_were_kept_together_are_spread(self):
        self.configure(ttl_jitter_percent='50')
        names = [f'spread:{number}' for number in range(20)]
        self.warm(self.get)  # guards

        def keep(env):
            for name in names:
                env['cache.manager'].set(name, 1, ttl_s=600)

        self.commit(keep)
        entries = self.engine.hierarchy.tiers['l1']._cache.values()
        lives_s = [e.expires - e.created for e in entries if 'spread' in e.key]
        self.assertEqual(len(lives_s), 20)
        self.assertTrue(300 <= min(lives_s) < 450 < max(lives_s) <= 600, lives_s)

    def test_a_value_larger_than_it_may_be_is_not_kept(self):
        def get(env):
            return env['cache.manager'].get_or_compute('a:lot', lambda: b'\0' * 3000, max_kb=1)

        with patch.object(codec, 'COMPRESS_MIN_BYTES', 10**9), self.request() as env:
            get(env)
            self.settle()
        with (
            patch.object(codec, 'COMPRESS_MIN_BYTES', 10**9),
            self.assertMiss('large'),
            self.request() as env,
        ):
            get(env)

    def test_with_the_cache_switched_off_it_is_computed(self):
        self.warm(self.get)
        self.configure(enabled='0')
        with self.assertComputed(), self.request() as env:
            self.assertEqual(self.get(env), 'Before')

    def test_a_fault_of_ours_makes_it_computed(self):
        with (
            patch.object(named, 'key_of', side_effect=ZeroDivisionError('tc test key')),
            mute_logger('odoo.addons.tiered_cache.services'),
            self.request() as env,
        ):
            self.assertEqual(self.get(env), 'Before')

    def test_what_the_computation_raises_reaches_the_caller(self):
        def compute():
            raise KeyError('mine')

        with self.request() as env, self.assertRaisesRegex(KeyError, 'mine'):
            env['cache.manager'].get_or_compute('a:b', compute)

    def test_answer_tells_where_a_value_comes_from(self):
        def answer(env):
            return env['cache.manager'].answer(KEY, self.compute)

        with self.request() as env:
            self.assertEqual(answer(env).origin, 'computed')
        self.warm(answer)
        with self.request() as env:
            found = answer(env)
            self.assertEqual((found.value, found.origin), ('Before', 'l1'))
            self.assertTrue(0 <= found.age_s < 60)


@tagged('post_install', '-at_install')
class TestNamedWrites(NamedCase):
    """P2, P3: own writes, rollbacks."""

    def test_a_transaction_that_has_written_computes_and_keeps_nothing(self):
        self.warm(self.get)
        with self.request(commit=False) as env:
            env['res.bank'].browse(self.bank).name = 'Mine'
            self.assertEqual(self.get(env), 'Mine')
            self.assertFalse(env['cache.manager'].set(KEY, 'Mine'))
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.get(env), 'Before')

    def test_a_value_that_is_brought_is_kept(self):
        def bring(env):
            kept = env['cache.manager'].set('b:c', {'x': 1}, depends=['res.bank'])
            self.assertTrue(kept)

        self.warm(self.get)  # guards
        self.commit(bring)
        with self.request() as env:
            self.assertEqual(env['cache.manager'].get('b:c'), MISS)  # another user
        self.commit(lambda env: self.assertEqual(env['cache.manager'].get('b:c'), {'x': 1}))
        self.rename('After')
        self.commit(lambda env: self.assertIs(env['cache.manager'].get('b:c'), MISS))

    def test_a_tag_removes_what_carries_it(self):
        def get(env):
            return env['cache.manager'].get_or_compute('t:1', lambda: 1, tags=['prices'])

        self.warm(get)
        self.commit(lambda env: env['cache.manager'].invalidate_tag('prices'))
        with self.assertMiss(), self.request() as env:
            get(env)
        self.warm(get)
        with self.other_worker(), self.request(1) as env:
            env['cache.manager'].invalidate_tag('prices')
        with self.assertMiss('stale', 'tag:prices'), self.request() as env:
            get(env)

    def test_a_tag_of_an_inner_entry_removes_the_outer_one(self):
        def outer(env):
            cache = env['cache.manager']
            inner = lambda: cache.get_or_compute('t:3', lambda: 1, tags=['inner'])  # noqa: E731
            return cache.get_or_compute('t:2', inner)

        self.warm(outer)
        with self.other_worker(), self.request(1) as env:
            env['cache.manager'].invalidate_tag('inner')
        with self.assertMiss('stale', 'tag:inner'), self.request() as env:
            outer(env)

    def test_several_at_once(self):
        self.warm(self.get)  # guards
        with self.request() as env:
            cache = env['cache.manager']
            self.assertEqual(cache.set_many({'b:1': 1, 'b:2': None}), 2)
            self.assertEqual(cache.get_many(['b:1', 'b:2', 'b:3']), {'b:1': 1, 'b:2': None})

    def test_of_several_none_is_kept_if_one_cannot_be(self):
        self.warm(self.get)  # guards
        with self.request() as env:
            cache = env['cache.manager']
            with self.assertRaises(codec.Unserializable):
                cache.set_many({'b:4': 1, 'b:5': object()})
            self.assertEqual(cache.get_many(['b:4', 'b:5']), {})

    def test_a_transaction_that_has_written_gets_none_of_several(self):
        self.warm(self.get)  # guards
        with self.request(commit=False) as env:
            cache = env['cache.manager']
            cache.set_many({'b:6': 1})
            env['res.bank'].browse(self.bank).name = 'Mine'
            with self.assertMiss('dirty') as calls:
                self.assertEqual(cache.get_many(['b:6', 'b:7']), {})
            self.assertEqual(len(calls), 2)
            self.assertEqual(cache.set_many({'b:6': 1, 'b:7': 2}), 0)

    def test_a_computation_that_writes_is_not_kept(self):
        def compute(env):
            env['res.bank'].browse(self.bank).name = 'Written'
            return 1

        def get(env):
            return env['cache.manager'].get_or_compute('w:1', compute)

        for _ in range(3):
            with self.request() as env:
                self.assertEqual(get(env), 1)
            self.settle()
        with self.request() as env:
            self.assertIs(env['cache.manager'].get('w:1'), MISS)
            self.assertEqual(env['res.bank'].browse(self.bank).name, 'Written')

    def test_what_a_computation_wrote_and_did_not_flush_is_not_lost(self):
        def compute(env):
            env['res.bank'].browse(self.bank).name = 'Unflushed'

        with self.request() as env:
            bank = env['res.bank'].browse(self.bank)
            self.assertEqual(bank.name, 'Before')
            env['cache.manager'].get_or_compute('w:2', compute)
            self.assertEqual(bank.name, 'Unflushed')
        with self.request() as env:
            self.assertEqual(env['res.bank'].browse(self.bank).name, 'Unflushed')

    def test_in_developer_mode_a_computation_that_writes_is_an_error(self):
        def compute(env):
            env['res.bank'].browse(self.bank).name = 'Written'

        with (
            patch.dict(config.options, {'dev_mode': ['all']}),
            self.request(commit=False) as env,
            self.assertRaisesRegex(answering.ComputationWrites, 'w:3'),
        ):
            env['cache.manager'].get_or_compute('w:3', compute)

    def test_memory_of_the_caller_is_neither_used_nor_lost(self):
        with self.request() as env:
            bank = env['res.bank'].browse(self.bank)
            self.assertEqual(bank.name, 'Before')
            count = env.cr.sql_log_count
            self.get(env)
            self.assertGreater(env.cr.sql_log_count, count)
            count = env.cr.sql_log_count
            self.assertEqual(bank.name, 'Before')
            self.assertEqual(env.cr.sql_log_count, count)

    def test_what_others_have_left_in_memory_does_not_prevent_keeping(self):
        def get(env):
            env['res.users'].browse(ADMIN).mapped('company_ids.name')
            env['res.partner'].search([], limit=3).mapped('display_name')
            return self.get(env)

        self.warm(get)


@tagged('post_install', '-at_install')
class TestNamedTogether(NamedCase):
    """``get_many`` and ``set_many``: what several cost."""

    VALUES: typing.ClassVar[dict] = {f'many:{number}': number for number in range(50)}

    @staticmethod
    @contextlib.contextmanager
    def counting(owner, name):
        """Yields the calls of a method, with the real thing behind it."""
        calls, method = [], getattr(owner, name)

        def counted(*args, **kwargs):
            calls.append(args)
            return method(*args, **kwargs)

        with patch.object(owner, name, counted):
            yield calls

    def keep_and_forget(self, *tiers, leave=()):
        """Keep VALUES, and empty these tiers."""
        self.warm(self.get)  # guards
        with self.request() as env:
            self.assertEqual(env['cache.manager'].set_many(self.VALUES), 50)
        self.settle()
        for name in tiers:
            self.engine.hierarchy.tiers[name].delete(
                [key for key in self.keys() if not key.startswith(tuple(leave))]
            )

    def keys(self):
        with self.request() as env:
            _engine, calls = env['cache.manager']._calls(self.VALUES, {})
            return [named.key_of(self.engine, call) for call in calls]

    def get_all(self, env):
        return env['cache.manager'].get_many([*self.VALUES, 'many:none'])

    def test_in_l1_they_cost_the_version_query(self):
        self.keep_and_forget()
        with self.request() as env:
            env.company.ids  # noqa: B018  what keys are made of
            count = env.cr.sql_log_count
            self.assertEqual(self.get_all(env), self.VALUES)
            self.assertEqual(env.cr.sql_log_count, count + 1)
            self.get_all(env)
            self.assertEqual(env.cr.sql_log_count, count + 1)

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_of_redis_they_are_asked_for_once(self):
        with RedisServer() as server:
            self.configure(redis_url=server.url, redis_timeout_ms='5000')
            self.keep_and_forget('l1', leave=['v1:many:7@'])
            with (
                self.counting(redis.Connection, 'send_packed_command') as sent,
                self.assertStatementsOfL3(0),
                self.request() as env,
            ):
                self.assertEqual(self.get_all(env), self.VALUES)
            self.assertEqual(len(sent), 1)

    def test_of_the_database_they_are_asked_for_once(self):
        self.configure(l3_enabled='1')
        self.keep_and_forget('l1')
        with self.assertStatementsOfL3(1), self.request() as env:
            self.assertEqual(self.get_all(env), self.VALUES)
        with self.assertStatementsOfL3(1), self.request() as env:  # promoted, but for the last
            self.assertEqual(self.get_all(env), self.VALUES)

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_they_are_written_to_redis_at_once_and_together(self):
        with RedisServer() as server:
            self.configure(redis_url=server.url, redis_timeout_ms='5000')
            self.warm(self.get)  # guards
            self.settle()
            with (
                self.counting(redis.Connection, 'send_packed_command') as sent,
                patch.object(self.engine.outbox, 'post_entry') as posted,
                self.request() as env,
            ):
                env['cache.manager'].set_many(self.VALUES)
            self.assertEqual((len(sent), posted.call_count), (1, 0))
            found = self.engine.hierarchy.tiers['l2'].get_many(self.keys())
            self.assertEqual(len(found), 50)

    def test_they_are_written_to_the_database_together(self):
        self.configure(l3_enabled='1')
        self.warm(self.get)  # guards
        self.settle()
        with self.assertStatementsOfL3(1), self.request() as env:
            env['cache.manager'].set_many(self.VALUES)

    def test_each_is_judged_by_itself(self):
        self.keep_and_forget()
        with self.other_worker(), self.request() as env:
            env['cache.manager'].delete('many:3')
        rest = {name: value for name, value in self.VALUES.items() if name != 'many:3'}
        with self.request() as env:
            self.assertEqual(self.get_all(env), rest)

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_large_values_of_redis_are_found_too(self):
        large = {f'large:{number}': bytes(range(256)) * 1000 for number in range(30)}
        with RedisServer() as server, patch.object(codec, 'COMPRESS_MIN_BYTES', 10**9):
            self.configure(redis_url=server.url, redis_timeout_ms='5000')
            self.warm(self.get)  # guards
            with self.request() as env:
                env['cache.manager'].set_many({**self.VALUES, **large})
            self.settle()
            self.engine.hierarchy.tiers['l1'].clear()
            with self.request() as env:
                names = [*self.VALUES, *large]
                self.assertEqual(env['cache.manager'].get_many(names), {**self.VALUES, **large})

    def test_within_a_computation_they_are_dependencies(self):
        def outer(env):
            cache = env['cache.manager']
            return cache.get_or_compute('many:outer', lambda: cache.get_many(['bank:name:1']))

        self.warm(self.get)
        self.assertCaptured(outer, lambda: self.rename('After'))

    def test_looking_for_what_is_not_there_asks_no_versions_that_are_fresh(self):
        options = {'consistency': 'eventual', 'max_staleness_s': 600}
        self.warm(lambda env: self.get(env, **options))
        with self.request() as env:
            self.assertEqual(env['cache.manager'].get_many(['no:1', 'no:2'], **options), {})
            self.assertFalse(state_of(env.cr).looked)

    @contextlib.contextmanager
    def assertStatementsOfL3(self, expected):  # noqa: N802
        """So many statements are sent to the table, by whatever connection."""
        with self.counting(DatabaseTier, '_answer') as calls:
            yield
        self.assertEqual(len(calls), expected)


@tagged('post_install', '-at_install')
class TestNamedSharing(NamedCase):
    """P6: who gets whose value."""

    def whoami(self, env, **options):
        return env['cache.manager'].get_or_compute(
            'who:am:i', lambda env: [env.uid, env.lang, env.companies.ids], **options
        )

    def seen_by(self, uid, options, **context):
        with self.request(uid, **context) as env:
            return self.whoami(env, **options)

    def test_each_user_has_their_own_unless_told(self):
        other = self.user('named_sharing')
        self.warm(self.whoami)
        self.assertEqual(self.seen_by(other, {})[0], other)

    def test_language_and_companies_are_told_apart(self):
        company = self.make('res.company', {'name': "Named"})
        with self.request(1) as env:
            env['res.users'].browse(ADMIN).company_ids += env['res.company'].browse(company)
        for options in ({}, {'sharing': 'company'}):
            self.warm(lambda env, o=options: self.whoami(env, **o))
            with self.subTest(options):
                companies = self.seen_by(ADMIN, options, allowed_company_ids=[1, company])[2]
                self.assertEqual(companies, [1, company])
                self.assertEqual(self.seen_by(ADMIN, options, lang=None)[1], None)

    def test_superuser_mode_is_told_apart(self):
        def mode(env):
            return env['cache.manager'].get_or_compute('su:mode', lambda env: env.su)

        self.warm(mode)
        with self.request() as env:
            self.assertIs(mode(env(su=True)), True)
            self.assertIs(mode(env), False)

    def test_users_of_a_company_share_what_is_said_to_be_shared(self):
        other = self.user('named_company')
        options = {'sharing': 'company'}
        self.warm(lambda env: self.whoami(env, **options))
        self.assertEqual(self.seen_by(other, options)[0], ADMIN)

    def test_all_share_what_is_said_to_be_for_all(self):
        other = self.user('named_all')
        options = {'sharing': 'all'}
        self.warm(lambda env: self.whoami(env, **options))
        self.assertEqual(self.seen_by(other, options, lang=None)[0], ADMIN)

    def test_removing_a_name_removes_it_for_everybody(self):
        other = self.user('named_removed')
        self.warm(self.whoami)
        self.warm(self.whoami, uid=other)
        with self.request() as env:
            removed = env['cache.manager'].delete('who:am:i')
        self.assertEqual(removed, {'l1': 2})
        for uid in (ADMIN, other):
            with self.assertMiss(), self.request(uid) as env:
                self.whoami(env)

    def test_a_removal_reaches_other_workers_with_its_commit(self):
        self.warm(self.whoami)
        with self.other_worker(), self.request() as env:
            env['cache.manager'].delete('who:am:i')
        with self.assertMiss('stale', 'removal'), self.request() as env:
            self.whoami(env)

    def test_a_removal_that_is_rolled_back_removes_nothing_elsewhere(self):
        self.warm(self.whoami)
        with self.other_worker(), self.request(commit=False) as env:
            env['cache.manager'].delete('who:am:i')
        with self.assertHit(), self.request() as env:
            self.whoami(env)


@tagged('post_install', '-at_install')
class TestNamedInside(NamedCase):
    """A named entry within another, and within a read."""

    def outer(self, env):
        return env['cache.manager'].get_or_compute('outer:1', lambda: [self.get(env)])

    def test_the_outer_value_depends_on_what_the_inner_one_read(self):
        self.assertCaptured(self.outer, lambda: self.rename('After'))

    def test_also_where_the_inner_one_was_a_hit(self):
        self.warm(self.get)
        self.assertCaptured(self.outer, lambda: self.rename('After'))

    def test_reads_inside_are_recorded(self):
        def outer(env):
            return env['cache.manager'].get_or_compute('outer:2', lambda: self.read(env))

        self.warm(self.read)
        self.assertCaptured(outer, lambda: self.rename('After'))

    def test_declared_dependencies_of_the_inner_one_count(self):
        def outer(env):
            cache = env['cache.manager']
            return cache.get_or_compute(
                'outer:3', lambda: cache.get_or_compute('inner:3', lambda: 1, depends=['res.bank'])
            )

        self.warm(outer)
        self.rename('After')
        with self.assertMiss('stale', 'res_bank'), self.request() as env:
            outer(env)

    def assertReaches(self, outer, remove, **request):  # noqa: N802
        """A removal of the inner entry, in another worker, makes the outer one stale."""
        for inner_is_there in (False, True):
            with self.subTest(inner_is_there=inner_is_there):
                self.forget()
                if inner_is_there:
                    self.warm(self.get)
                self.warm(outer, **request)
                with self.assertHit('l1'), self.request(**request) as env:
                    outer(env)
                with self.other_worker(), self.request(1) as env:
                    remove(env['cache.manager'])
                with self.assertMiss('stale'), self.request(**request) as env:
                    outer(env)
                self.warm(outer, **request)

    def removals(self):
        return {
            'key': lambda cache: cache.delete(KEY),
            'list': lambda cache: cache.invalidate_keys(['v1:a', f'v1:{KEY}']),
            'pattern': lambda cache: cache.invalidate_pattern('v1:bank:*'),
            'user': lambda cache: cache.invalidate_user(ADMIN),
        }

    def test_who_removes_the_inner_entry_removes_the_outer_one(self):
        for how, remove in self.removals().items():
            with self.subTest(how):
                self.assertReaches(self.outer, remove)

    def test_who_removes_a_variant_of_the_inner_entry_removes_the_outer_one(self):
        with self.request() as env:
            _engine, call = env['cache.manager']._call(KEY, {})
            key = named.key_of(self.engine, call)
        self.assertReaches(self.outer, lambda cache: cache.invalidate_key(key))

    def test_also_where_the_outer_one_is_shared_and_trusts_its_time_to_live(self):
        def outer(env):
            return env['cache.manager'].get_or_compute(
                'outer:4', lambda: [self.get(env)], sharing='all', consistency='weak'
            )

        self.patch(self.engine.emptying, '_tiers', dict)  # nothing is taken out of L1
        for how, remove in self.removals().items():
            with self.subTest(how):
                self.forget()
                self.warm(outer)
                self.commit(lambda env, r=remove: r(env['cache.manager']))
                with self.assertMiss('stale'), self.request() as env:
                    outer(env)

    def test_also_through_another_one_in_between(self):
        def outermost(env):
            return env['cache.manager'].get_or_compute('outer:5', lambda: [self.outer(env)])

        self.warm(self.outer)
        self.assertReaches(outermost, lambda cache: cache.delete(KEY))

    def test_also_where_the_outer_one_is_a_read(self):
        search = self.registry['res.country']._search

        def searching(records, *args, **kwargs):
            self.get(records.env)
            return search(records, *args, **kwargs)

        def read(env):
            return env['res.country'].search_read([('code', '=', 'BE')], ['name'])

        self.patch(self.registry['res.country'], '_search', searching)
        self.assertReaches(read, lambda cache: cache.delete(KEY))

    def test_also_what_was_looked_for_and_not_there(self):
        def outer(env):
            cache = env['cache.manager']
            return cache.get_or_compute('outer:6', lambda: cache.get(KEY, 'nothing'))

        self.assertReaches(outer, lambda cache: cache.delete(KEY))

    def test_also_where_there_are_very_many_inner_ones(self):
        def outer(env):
            cache = env['cache.manager']
            return cache.get_or_compute(
                'outer:7', lambda: [cache.get(f'inner:{n}', n) for n in range(60)]
            )

        self.warm(outer)
        (entry,) = self.engine.hierarchy.tiers['l1']._cache.values()
        self.assertEqual([d for d in entry.dependencies if d[0].startswith('key:')], [])
        self.assertReaches(outer, lambda cache: cache.delete('inner:59'))

    def test_a_removal_of_others_leaves_the_outer_one_alone(self):
        self.warm(self.outer)
        with self.other_worker(), self.request(1) as env:
            for name in ('bank:name:2', 'bank:name'):
                env['cache.manager'].delete(name)
            env['cache.manager'].invalidate_user(ADMIN + 100_000)
        with self.assertHit('l1'), self.request() as env:
            self.outer(env)

    def assertEnds(self, outer, most_s):  # noqa: N802
        """What the outer value is kept as ends with what it was made of."""
        self.warm(outer)
        entries = self.engine.hierarchy.tiers['l1']._cache.values()
        lives_s = [e.expires - e.created for e in entries if 'outer' in e.key or 'country' in e.key]
        self.assertTrue(lives_s and max(lives_s) <= most_s, lives_s)

    def test_the_outer_value_ends_with_the_inner_one(self):
        options = {'ttl_s': 20}

        def outer(env):
            return env['cache.manager'].get_or_compute(
                'outer:9', lambda: [self.get(env, **options)], ttl_s=600
            )

        self.assertEnds(outer, 20)
        self.forget()
        options['revalidate_s'] = 60
        self.warm(lambda env: self.get(env, **options))
        time.sleep(0.5)
        self.assertEnds(outer, 19.5)

    def test_it_is_kept_for_a_renewal_as_long_as_told(self):
        def outer(env):
            return env['cache.manager'].get_or_compute(
                'outer:10', lambda: [self.get(env, ttl_s=0.2)], ttl_s=600, revalidate_s=60
            )

        self.warm(outer)
        time.sleep(0.21)
        with self.assertMiss('expired'), self.request() as env:
            outer(env)

    def test_nor_does_a_read_outlive_it(self):
        search = self.registry['res.country']._search

        def searching(records, *args, **kwargs):
            self.get(records.env, ttl_s=20)
            return search(records, *args, **kwargs)

        self.patch(self.registry['res.country'], '_search', searching)
        self.assertEnds(
            lambda env: env['res.country'].search_read([('code', '=', 'BE')], ['name']), 20
        )

    def inside(self, fails=None, **options):
        """An outer computation with an inner entry whose life is over."""
        options = {'ttl_s': 0.1, 'fail_safe_s': 600, 'fail_safe_pause_s': 0, **options}
        self.warm(lambda env: self.get(env, **options))
        time.sleep(0.11)

        def compute(env):
            if fails:
                raise fails
            return 'new'

        def outer(env):
            cache = env['cache.manager']
            return cache.get_or_compute(
                'outer:11', lambda: [cache.get_or_compute(KEY, compute, **options)]
            )

        return outer

    def test_an_inner_one_whose_life_is_over_is_computed(self):
        outer = self.inside()
        with self.request() as env:
            self.assertEqual(outer(env), ['new'])

    def test_it_stands_in_for_one_that_fails_and_the_outer_one_is_not_kept(self):
        outer = self.inside(ConnectionError('the supplier is down'), fail_safe_pause_s=600)
        with mute_logger('odoo.addons.tiered_cache.services.engine'):
            for failing_or_paused in ('statement', 'consistency'):
                with self.assertMiss('uncacheable', failing_or_paused), self.request() as env:
                    self.assertEqual(outer(env), ['Before'])
        with self.assertRaises(ConnectionError), self.request() as env:
            self.inside(ConnectionError(), fail_safe_s=0)(env)

    def test_a_removal_that_the_computation_has_not_seen_counts(self):
        """Removed after the snapshot of who computes the outer one, and before it is kept."""
        self.warm(self.outer)
        self.forget()
        with self.request() as env:
            env.cr.execute("SELECT 1")
            with self.other_worker(), self.request(1) as other:
                other['cache.manager'].delete(KEY)
            self.outer(env)
        with self.assertMiss('stale'), self.request() as env:
            self.outer(env)

    def test_it_survives_the_shared_tiers(self):
        self.configure(l3_enabled='1')
        self.warm(self.outer)
        self.settle()
        with self.other_worker() as other:
            self.warm(self.outer)
            other.hierarchy.tiers['l1'].clear()
            with self.assertHit('l3'), self.request() as env:
                self.outer(env)
            self.commit(lambda env: env['cache.manager'].delete(KEY))
            with self.assertMiss('stale'), self.request() as env:
                self.outer(env)


@tagged('post_install', '-at_install')
class TestCachedMethods(NamedCase):
    def setUp(self):
        super().setUp()
        self.calls = []

        def describe(records, prefix, *, upper=False):
            self.calls.append((records._ids, prefix, upper))
            name = f'{prefix} {records.name}'
            return name.upper() if upper else name

        self.describe = cached('bank:described:{prefix}', ttl_s=600)(describe)

    def call(self, env, *args, **kwargs):
        return self.describe(env['res.bank'].browse(self.bank), *args, **kwargs)

    def test_its_results_are_kept(self):
        self.assertCaptured(lambda env: self.call(env, 'a'), lambda: self.rename('After'))

    def test_every_argument_tells_results_apart(self):
        self.warm(lambda env: self.call(env, 'a'))
        with self.request() as env:
            self.assertEqual(self.call(env, 'a', upper=True), 'A BEFORE')
            self.assertEqual(self.call(env, 'b'), 'b Before')
            self.assertEqual(self.call(env, prefix='a', upper=False), 'a Before')
        self.assertEqual(self.calls[-1][1], 'b')

    def test_records_tell_results_apart(self):
        other = self.make('res.bank', {'name': 'Other'})
        self.warm(lambda env: self.call(env, 'a'))
        with self.request() as env:
            self.assertEqual(self.describe(env['res.bank'].browse(other), 'a'), 'a Other')

    def test_two_methods_with_one_template_do_not_meet(self):
        def other(records, prefix):
            return prefix

        self.warm(lambda env: self.call(env, 'a'))
        with self.request() as env:
            result = cached('bank:described:{prefix}')(other)(
                env['res.bank'].browse(self.bank), 'a'
            )
        self.assertEqual(result, 'a')

    def test_the_context_tells_results_apart(self):
        self.warm(lambda env: self.call(env, 'a'))
        with self.assertMiss(), self.request(some_key=1) as env:
            self.call(env, 'a')

    def test_the_name_removes_all_of_them(self):
        self.warm(lambda env: self.call(env, 'a'))
        self.warm(lambda env: self.call(env, 'a', upper=True))
        with self.request() as env:
            self.assertEqual(env['cache.manager'].delete('bank:described:a')['l1'], 2)

    def test_arguments_cannot_forge_a_name(self):
        self.warm(lambda env: self.call(env, 'a:*'))
        with self.request() as env:
            self.assertEqual(env['cache.manager'].delete('bank:described:a%3A%2A')['l1'], 1)

    def test_a_record_as_an_argument_is_computed(self):
        with self.assertMiss('uncacheable'), self.request() as env:
            self.call(env, env['res.bank'].browse(self.bank))

    def test_a_template_that_names_no_argument_is_refused(self):
        with self.assertRaisesRegex(BadOption, 'not an argument'):
            cached('a:{nothing}')(lambda records: 1)

    def test_an_unknown_option_is_refused_when_the_method_is_defined(self):
        with self.assertRaises(BadOption):
            cached('a:b', ttl=3)


@tagged('post_install', '-at_install')
class TestNamedConsistency(NamedCase):
    """What each level guarantees and costs."""

    def level(self, consistency, **more):
        return {'consistency': consistency, 'max_staleness_s': 600, 'ttl_s': 600, **more}

    def elsewhere(self):
        self.sql("UPDATE res_bank SET name = 'After' WHERE id = %s", [self.bank])

    def queries_of_a_hit(self, options):
        self.warm(lambda env: self.get(env, **options))
        with self.assertHit(), self.registry.cursor() as cr:
            context = {'lang': 'en_US', 'tz': 'Europe/Brussels', 'allowed_company_ids': [1]}
            self.get(api.Environment(cr, ADMIN, context), **options)
            return cr.sql_log_count

    def test_a_strong_hit_costs_one_query(self):
        self.assertEqual(self.queries_of_a_hit(self.level('strong')), 1)

    def test_an_eventual_hit_costs_none_while_fresh(self):
        self.assertEqual(self.queries_of_a_hit(self.level('eventual')), 0)

    def test_a_weak_hit_costs_none(self):
        self.assertEqual(self.queries_of_a_hit(self.level('weak')), 0)

    def test_a_commit_elsewhere_is_seen_at_once_if_strong_and_later_if_not(self):
        for consistency, seen in (('strong', 'After'), ('eventual', 'Before'), ('weak', 'Before')):
            options = self.level(consistency)
            self.rename('Before')
            self.warm(lambda env, o=options: self.get(env, **o))
            self.elsewhere()
            with self.subTest(consistency), self.request() as env:
                self.assertEqual(self.get(env, **options), seen)

    def test_eventual_is_bounded(self):
        options = self.level('eventual', max_staleness_s=0.05)
        self.warm(lambda env: self.get(env, **options))
        self.elsewhere()
        time.sleep(0.06)
        with self.request() as env:
            self.assertEqual(self.get(env, **options), 'After')

    def test_a_write_in_the_same_worker_is_seen_at_once_at_every_level(self):
        for consistency in ('strong', 'eventual', 'weak'):
            options = self.level(consistency)
            self.rename('Before')
            self.warm(lambda env, o=options: self.get(env, **o))
            self.rename(f'After {consistency}')
            with self.subTest(consistency), self.request() as env:
                self.assertEqual(self.get(env, **options), f'After {consistency}')


@tagged('post_install', '-at_install')
class TestFailSafe(NamedCase):
    """An expired value stands in for one that cannot be computed."""

    options_of_calls = {'ttl_s': 0.1, 'fail_safe_s': 600, 'fail_safe_pause_s': 0}

    def setUp(self):
        super().setUp()
        self.fails = None
        self.patch(self.engine, 'pauses', Pauses())

    def compute(self, env):
        self.computed += 1
        if self.fails:
            raise self.fails
        return env['res.bank'].browse(self.bank).name

    def answer(self, env, **options):
        options = {**self.options_of_calls, **options}
        return env['cache.manager'].answer(KEY, self.compute, **options)

    def expire(self, **options):
        self.warm(lambda env: self.answer(env, **options))
        time.sleep(0.11)
        self.fails = ConnectionError('the supplier is down')
        self.computed = 0

    def failing(self, **options):
        with mute_logger('odoo.addons.tiered_cache.services.engine'), self.request() as env:
            return self.answer(env, **options)

    def test_it_is_marked(self):
        self.expire()
        found = self.failing()
        self.assertEqual((found.value, found.origin), ('Before', 'expired'))
        self.assertGreater(found.age_s, 0.1)

    def test_without_it_the_error_reaches_the_caller(self):
        self.expire(fail_safe_s=0)
        with self.assertRaises(ConnectionError), self.request() as env:
            self.answer(env, fail_safe_s=0)

    def test_a_life_ends_whatever_others_allow_after_it(self):
        self.expire()
        with self.assertRaises(ConnectionError), self.request() as env:
            self.answer(env, fail_safe_s=0)

    def test_not_beyond_its_limit(self):
        self.expire(fail_safe_s=0.1)
        time.sleep(0.11)
        with self.assertRaises(ConnectionError), self.request() as env:
            self.answer(env, fail_safe_s=0.1)

    def test_after_a_failure_nobody_tries_for_a_while(self):
        self.expire(fail_safe_pause_s=600)
        for _ in range(3):
            self.failing(fail_safe_pause_s=600)
        self.assertEqual(self.computed, 1)

    def test_a_value_whose_data_has_changed_does_not_stand_in(self):
        self.expire()
        self.rename('After')
        with self.assertRaises(ConnectionError), self.request() as env:
            self.answer(env)

    def test_a_value_that_was_removed_does_not_stand_in(self):
        self.expire()
        self.commit(lambda env: env['cache.manager'].delete(KEY))
        with self.assertRaises(ConnectionError), self.request() as env:
            self.answer(env)

    def test_a_failed_query_does_not_abort_the_transaction(self):
        self.expire()

        def compute(env):
            env.cr.execute("SELECT 1 / 0")

        quiet = mute_logger('odoo.sql_db', 'odoo.addons.tiered_cache.services.engine')
        with quiet, self.request() as env:
            found = env['cache.manager'].answer(KEY, compute, **self.options_of_calls)
            self.assertEqual(found.origin, 'expired')
            self.assertEqual(self.read(env)[0]['name'], 'Before')

    def test_it_is_computed_again_when_it_can_be(self):
        self.expire()
        self.failing()
        self.fails = None
        with self.request() as env:
            self.assertEqual(self.answer(env).origin, 'computed')

    def test_a_slow_computation_is_not_waited_for_beyond_the_soft_timeout(self):
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        self.expire()

        def compute(env):
            go_on.wait(30)
            return env['res.bank'].browse(self.bank).name

        started = time.monotonic()
        with self.request() as env:
            found = env['cache.manager'].answer(
                KEY, compute, soft_timeout_s=0.1, **self.options_of_calls
            )
        self.assertEqual(found.origin, 'expired')
        self.assertLess(time.monotonic() - started, 10)

    def test_the_hard_timeout_raises(self):
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def compute(env):
            go_on.wait(30)

        with self.request() as env, self.assertRaises(answering.TooSlow):
            env['cache.manager'].get_or_compute('too:slow', compute, hard_timeout_s=0.1)

    def test_within_a_timeout_it_sees_what_the_caller_sees(self):
        with self.request() as env:
            env.cr.execute("SELECT 1")  # the snapshot
            self.rename('After')
            value = env['cache.manager'].get_or_compute(
                'in:time', lambda env: env['res.bank'].browse(self.bank).name, hard_timeout_s=30
            )
            self.assertEqual(value, 'Before')

    def test_the_hard_timeout_counts_also_where_the_soft_one_is_longer(self):
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        self.expire()
        started = time.monotonic()
        with self.request() as env:
            found = env['cache.manager'].answer(
                KEY,
                lambda env: go_on.wait(30),
                soft_timeout_s=20,
                hard_timeout_s=0.1,
                **self.options_of_calls,
            )
        self.assertEqual(found.origin, 'expired')
        self.assertLess(time.monotonic() - started, 10)

    def test_within_a_savepoint_it_is_computed_without_a_limit(self):
        self.expire()

        def get(env):
            found = env['cache.manager'].answer(
                KEY, lambda env: 'anew', hard_timeout_s=30, **self.options_of_calls
            )
            return found.value, found.origin

        with self.request() as env, env.cr.savepoint():
            self.assertEqual(get(env), ('anew', 'computed'))
        time.sleep(0.11)
        with self.request() as env:
            with contextlib.suppress(ConnectionError), env.cr.savepoint(flush=False):
                raise self.fails
            self.assertEqual(get(env), ('anew', 'computed'))

    def test_the_newest_value_stands_in_and_not_that_of_a_tier_that_is_behind(self):
        self.configure(l3_enabled='1')
        self.addCleanup(self.sql, 'DELETE FROM cache_entry')
        self.sql('DELETE FROM cache_entry')
        self.expire(ttl_s=0.2)
        time.sleep(0.1)
        self.settle()
        ((body,),) = self.sql('SELECT body FROM cache_entry')
        self.fails = None
        with patch.object(self, 'compute', lambda env: 'newer'), self.request() as env:
            self.assertEqual(self.answer(env, ttl_s=0.2).value, 'newer')
        self.settle()
        self.sql('UPDATE cache_entry SET body = %s', [body])
        time.sleep(0.21)
        self.fails = ConnectionError('the supplier is down')
        self.assertEqual(self.failing(ttl_s=0.2)[:2], ('newer', 'expired'))

    def test_a_timeout_needs_a_function_that_takes_env(self):
        with self.request() as env, self.assertRaisesRegex(BadOption, 'takes env'):
            env['cache.manager'].get_or_compute('a:b', lambda: 1, hard_timeout_s=1)


@tagged('post_install', '-at_install')
class TestRenewal(NamedCase):
    """A computation that says that nothing has changed; a value that is refreshed early."""

    def test_only_the_time_to_live_is_renewed(self):
        seen = []

        def compute(env, previous):
            seen.append(previous)
            if previous and previous.tag == 'v1':
                return NOT_CHANGED
            return Tagged([1, 2], 'v1')

        def get(env):
            return env['cache.manager'].get_or_compute(
                'etag:1', compute, ttl_s=0.2, revalidate_s=60
            )

        self.assertEqual(self.warm(get), [1, 2])
        time.sleep(0.21)
        with self.assertMiss('expired'), self.request() as env:
            self.assertEqual(get(env), [1, 2])
        self.assertEqual(seen[-1], Tagged([1, 2], 'v1'))
        with self.assertHit(), self.request() as env:
            self.assertEqual(get(env), [1, 2])

    def test_a_value_kept_for_renewal_does_not_stand_in(self):
        def get(env):
            return self.get(env, ttl_s=0.1, revalidate_s=60)

        self.warm(get)
        time.sleep(0.11)
        self.compute = None
        with self.assertRaises(TypeError), self.request() as env:
            get(env)

    def test_not_changed_without_a_previous_value_is_a_mistake(self):
        with self.request() as env, self.assertRaisesRegex(ValueError, 'no previous value'):
            env['cache.manager'].get_or_compute('etag:2', lambda previous: NOT_CHANGED)

    def renewing(self, first, **options):
        """A function that reads and answers, and then says that nothing has changed.

        :param first: ``first(env)``, the value
        :return: ``get(env)``
        """

        def compute(env, previous):
            return NOT_CHANGED if previous else Tagged(first(env), 'v1')

        def get(env):
            return env['cache.manager'].get_or_compute(
                'etag:3', compute, ttl_s=0.2, revalidate_s=60, **options
            )

        return get

    def renew(self, get):
        self.warm(get)
        time.sleep(0.21)
        with self.assertMiss('expired'), self.request() as env:
            return get(env)

    def test_what_is_renewed_depends_on_what_it_was_made_of(self):
        get = self.renewing(lambda env: env['res.bank'].browse(self.bank).name)
        self.assertEqual(self.renew(get), 'Before')
        self.rename('After')
        with self.assertMiss('stale', 'res_bank'), self.request() as env:
            self.assertEqual(get(env), 'After')

    def test_what_is_renewed_goes_with_the_entries_it_was_made_of(self):
        get = self.renewing(lambda env: self.get(env))
        self.renew(get)
        self.commit(lambda env: env['cache.manager'].delete(KEY))
        with self.assertMiss('stale'), self.request() as env:
            get(env)

    def test_what_is_made_of_the_previous_value_depends_on_the_same(self):
        def compute(env, previous):
            if previous:
                return Tagged(previous.value, 'v2')
            return Tagged(env['res.bank'].browse(self.bank).name, 'v1')

        def get(env):
            return env['cache.manager'].get_or_compute(
                'etag:4', compute, ttl_s=0.2, revalidate_s=60
            )

        self.assertEqual(self.renew(get), 'Before')
        self.rename('After')
        with self.request() as env:
            self.assertEqual(get(env), 'After')

    def test_what_is_not_current_any_more_is_not_renewed_at_any_level(self):
        for level in ('strong', 'eventual', 'weak'):
            with self.subTest(level):
                self.forget()
                self.rename('Before')
                get = self.renewing(
                    lambda env: env['res.bank'].browse(self.bank).name,
                    consistency=level,
                    max_staleness_s=600,
                )
                self.warm(get)
                # elsewhere: such a reader would not see it yet, what is kept from now on must
                self.sql("UPDATE res_bank SET name = 'After' WHERE id = %s", [self.bank])
                time.sleep(0.21)
                with self.request() as env:
                    self.assertEqual(get(env), 'After')

    def refresh(self):
        self.engine.refresher.flush()

    def test_it_is_computed_again_when_the_request_is_over(self):
        options = {'ttl_s': 600, 'eager_refresh': 0.95}
        self.warm(lambda env: self.get(env, **options))
        entry = next(iter(self.engine.hierarchy.tiers['l1']._cache.values()))
        for commit in (True, False):
            entry.created = time.time() - 590
            entry.expires = entry.created + 600
            with patch.object(self.engine.refresher, 'ask') as ask:
                with self.assertHit(), self.request(commit=commit) as env:
                    self.get(env, **options)
                    self.get(env, **options)
                    ask.assert_not_called()
                ask.assert_called_once()

    def test_near_its_end_a_hit_has_the_value_computed_again(self):
        options = {'ttl_s': 600, 'eager_refresh': 0.95}
        self.warm(lambda env: self.get(env, **options))
        entry = next(iter(self.engine.hierarchy.tiers['l1']._cache.values()))
        entry.created -= 590
        entry.expires = entry.created + 600
        self.computed = 0
        with patch.object(self.engine.refresher, '_thread', object()):
            for _ in range(2):
                with self.assertHit(), self.request() as env:
                    self.get(env, **options)
            self.assertEqual(self.computed, 0)
            self.refresh()
        self.assertEqual(self.computed, 1)
        with self.request() as env:
            found = env['cache.manager'].answer(KEY, self.compute, **options)
        self.assertLess(found.age_s, 300)

    def test_the_share_of_an_early_refresh_is_one_of_the_life_as_jitter_has_it(self):
        """A refresh in the last fifth; no life may end before its last fifth has begun."""
        self.configure(ttl_jitter_percent='50')
        options = {'ttl_s': 600, 'eager_refresh': 0.2}
        self.warm(lambda env: self.get(env, **options))
        entry = next(iter(self.engine.hierarchy.tiers['l1']._cache.values()))
        life_s = entry.expires - entry.created
        self.assertLess(life_s, 600)
        for share, refreshes in ((0.7, 0), (0.9, 1)):
            entry.created = time.time() - share * life_s
            entry.expires = entry.created + life_s
            self.computed = 0
            with patch.object(self.engine.refresher, '_thread', object()):
                with self.assertHit(), self.request() as env:
                    self.get(env, **options)
                self.refresh()
            self.assertEqual(self.computed, refreshes)

    def test_early_in_its_life_it_is_left_alone(self):
        options = {'ttl_s': 600, 'eager_refresh': 0.2}
        self.warm(lambda env: self.get(env, **options))
        self.computed = 0
        with patch.object(self.engine.refresher, '_thread', object()):
            with self.assertHit(), self.request() as env:
                self.get(env, **options)
            self.refresh()
        self.assertEqual(self.computed, 0)


@tagged('post_install', '-at_install')
class TestSingleFlight(NamedCase):
    def test_those_who_want_the_same_at_the_same_time_compute_it_once(self):
        self.warm(self.get)  # guards
        self.forget()
        self.computed = 0
        arrived = threading.Barrier(9)
        values = []

        def compute(env):
            self.computed += 1
            time.sleep(0.3)
            return env['res.bank'].browse(self.bank).name

        def request():
            with self.request() as env:
                env.cr.execute("SELECT 1")
                arrived.wait(10)
                values.append(env['cache.manager'].get_or_compute(KEY, compute))

        threads = [threading.Thread(target=request) for _ in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(values, ['Before'] * 9)
        self.assertEqual(self.computed, 1)

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_between_processes_a_lease_of_redis_keeps_them_apart(self):
        with RedisServer() as server:
            self.configure(redis_url=server.url)
            leases = self.engine.flights._leases
            token = leases.take('v1:a')
            with self.other_worker() as other:
                others = other.flights._leases
                self.assertIsNone(others.take('v1:a'))
                self.assertTrue(others.is_taken('v1:a'))
                leases.release('v1:a', (token[0], 'somebody else'))
                self.assertIsNone(others.take('v1:a'))
                leases.release('v1:a', token)
                self.assertFalse(others.is_taken('v1:a'))
                self.assertIsNotNone(others.take('v1:a'))

    def test_nobody_waits_longer_than_the_bound(self):
        self.warm(self.get)
        self.forget()
        with self.request() as env, self.engine.flights.alone(self.key(env), 0, lambda: None):
            started = time.monotonic()
            with self.request() as other:
                other_thread(lambda: self.get(other, single_flight_s=0.2))
            waited = time.monotonic() - started
        self.assertTrue(0.2 <= waited < 5, waited)

    def key(self, env):
        _engine, call = env['cache.manager']._call(KEY, {})
        return named.key_of(self.engine, call)

    def test_between_processes_a_lock_of_the_database_keeps_them_apart(self):
        self.configure(l3_enabled='1')
        self.warm(self.get)
        self.forget()
        with self.request() as env:
            key = self.key(env)
        leases = self.engine.flights._leases
        token = leases.take(key)
        self.assertIsNotNone(token)
        with self.other_worker() as other:
            self.assertIsNone(other.flights._leases.take(key))
            self.assertTrue(other.flights._leases.is_taken(key))
            leases.release(key, token)
            self.assertFalse(other.flights._leases.is_taken(key))

    def test_a_dead_owner_of_a_lock_delays_nobody(self):
        self.configure(l3_enabled='1')
        with self.request() as env:
            key = self.key(env)
        with self.other_worker() as other:
            self.assertIsNotNone(other.flights._leases.take(key))
            other.flights._leases._database._connection.close()
        leases = self.engine.flights._leases
        # the server notices a moment later that the connection has ended
        token = wait_until(lambda: leases.take(key), "nobody holds the lock of a dead owner")
        leases.release(key, token)


def other_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)


@tagged('post_install', '-at_install')
class TestNamespaces(NamedCase):
    def namespace(self, name='bank', **values):
        return self.make('cache.namespace', {'name': name, **values})

    def plan(self, name, **options):
        with self.request() as env:
            env['res.country'].search_count([])  # looks, and learns of the record
        return self.engine.config.named_plan(name, options)

    def test_what_it_says_wins_over_the_code(self):
        self.namespace(l1_ttl_s=7, consistency='eventual', use_l3=False, min_cost_ms=3)
        plan = self.plan('bank:name:1', ttl_s=600, consistency='strong')
        self.assertEqual(plan.ttl_s, {'l1': 7, 'l2': 600, 'l3': 600})
        self.assertEqual(plan.consistency, 'eventual')
        self.assertEqual(plan.min_cost_ms, {'l1': 3, 'l2': 3})

    def test_what_it_leaves_empty_is_as_the_code_says(self):
        before = self.plan('bank:name:1', ttl_s=600, fail_safe_s=5, sharing='all')
        self.namespace()
        self.assertEqual(self.plan('bank:name:1', ttl_s=600, fail_safe_s=5, sharing='all'), before)

    def test_the_longest_counts_and_names_that_only_look_alike_do_not(self):
        self.namespace(l1_ttl_s=7)
        self.namespace('bank:name', l1_ttl_s=8)
        self.assertEqual(self.plan('bank:name:1').ttl_s['l1'], 8)
        self.assertEqual(self.plan('bank:other').ttl_s['l1'], 7)
        self.assertEqual(self.plan('banker:name').ttl_s['l1'], 60)

    def test_sharing_can_only_be_made_narrower(self):
        self.namespace(sharing='company')
        self.assertEqual(self.plan('bank:1').sharing, 'user')
        self.assertEqual(self.plan('bank:1', sharing='all').sharing, 'company')

    def test_it_takes_effect_with_its_commit(self):
        self.warm(self.get)
        self.namespace(sharing='user', use_l1=False)
        self.assertEqual(self.plan(KEY).min_cost_ms.keys(), {'l2', 'l3'})

    def test_what_cannot_be_is_refused(self):
        for values in (
            {'name': 'bank:*'},
            {'name': 'v1:bank'},
            {'name': ':bank'},
            {'name': 'orm:res.partner'},
            {'use_l1': False, 'use_l2': False, 'use_l3': False},
            {'l1_ttl_s': -1},
            {'eager_refresh_percent': 100},
        ):
            with self.subTest(values), self.assertRaises(ValidationError):
                self.namespace(**{'name': 'bank', **values})

    def test_every_option_of_the_form_reaches_the_plan(self):
        numbers = {
            'max_staleness_s': 3,
            'max_kb': 4,
            'single_flight_s': 5,
            'eager_refresh_percent': 20,
            'fail_safe_s': 7,
            'fail_safe_pause_s': 8,
            'revalidate_s': 9,
        }
        self.namespace(**numbers)
        plan = self.plan('bank:1')
        self.assertEqual(
            (
                plan.max_staleness_s,
                plan.max_bytes,
                plan.single_flight_s,
                plan.eager_refresh,
                plan.fail_safe_s,
                plan.fail_safe_pause_s,
                plan.keep_s,
            ),
            (3, 4096, 5, 0.2, 7, 8, 9),
        )


@tagged('post_install', '-at_install')
class TestNamedClock(NamedCase):
    def test_what_looked_at_the_time_of_day_lives_briefly(self):
        self.configure(time_dependent_ttl_s='1')

        def get(env):
            return env['cache.manager'].get_or_compute(
                'what:time', lambda: fields.Datetime.now(), ttl_s=600, fail_safe_s=60
            )

        self.warm(get)
        entry = next(iter(self.engine.hierarchy.tiers['l1']._cache.values()))
        self.assertLessEqual(entry.expires - entry.created, 61)


@tagged('post_install', '-at_install')
class TestNamedPage(NamedCase):
    """docs/named-entries.md"""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.page = (DOCS / 'named-entries.md').read_text()

    def example(self, word):
        blocks = re.findall(r'```python\n(.*?)```', self.page, re.DOTALL)
        return next(block for block in blocks if word in block)

    def test_every_option_stands_in_the_table_with_its_default(self):
        options = self.page.partition('## Options')[2].partition('\n## ')[0]
        rows = dict(re.findall(r'^\| `(\w+)` \| ([^|]+) \|', options, re.MULTILINE))
        self.assertEqual(set(rows) & set(DEFAULTS), set(DEFAULTS))
        for name, default in DEFAULTS.items():
            with self.subTest(name):
                if name == 'ttl_s':
                    self.assertEqual(rows[name], '60 in L1, 300 in L2, 3600 in L3')
                elif isinstance(default, float):
                    self.assertEqual(rows[name], f'{default:g}')
                else:
                    self.assertEqual(rows[name], f'`{default!r}`')

    def test_the_example_of_a_renewal(self):
        asked = []

        def ask_supplier(etag):
            asked.append(etag)
            return types.SimpleNamespace(status=304 if etag else 200, json={'qty': 7}, etag='v1')

        def get(env):
            names = {
                'ask_supplier': ask_supplier,
                'NOT_CHANGED': NOT_CHANGED,
                'Tagged': Tagged,
                'cache': env['cache.manager'],
            }
            code = self.example('NOT_CHANGED').replace('ttl_s=60', 'ttl_s=0.2')
            exec(code, names)  # pylint: disable=exec-used  # noqa: S102
            return env['cache.manager'].get('supplier:stock:42', ttl_s=0.2, revalidate_s=86400)

        self.warm(get)
        time.sleep(0.21)
        with self.request() as env:
            self.assertEqual(get(env), {'qty': 7})
        self.assertEqual(asked[-1], 'v1')

    def test_the_example_of_a_method(self):
        code = self.example('@cached').partition('@cached')[2]
        names = {'cached': cached}
        exec('@cached' + code.replace('\n    ', '\n').replace('...', 'return category_id'), names)  # pylint: disable=exec-used  # noqa: S102
        self.warm(lambda env: names['catalog'](env['res.bank'], 7))
        with self.request() as env:
            self.assertEqual(env['cache.manager'].delete('product:catalog:7')['l1'], 1)
