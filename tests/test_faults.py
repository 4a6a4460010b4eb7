"""P7: a tier that is down, slow, full of garbage or wrong costs a miss, never an answer."""

# "read" and "write" are what these tests do, not overrides of a model's methods
# pylint: disable=method-required-super

import math
import os
import time
import unittest
from unittest.mock import patch

from markupsafe import Markup

from odoo import fields
from odoo.addons.tiered_cache.services import auditor, configuration, reading, versions
from odoo.addons.tiered_cache.services import engine as engines
from odoo.addons.tiered_cache.services.engine import Engine
from odoo.service import server
from odoo.tests import BaseCase, tagged
from odoo.tools import mute_logger

from .common import CacheCase
from .redis_server import REDIS_SERVER, RedisServer

QUIET = 'odoo.addons.tiered_cache.services'

AT_ONCE_S = 2.0
"""For a read while a tier hangs: far more than the 50 ms of its limit on a busy machine, far
less than any time that a library waits by itself."""


class StatesCase(CacheCase):
    """A read that asks a table of a few rows."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bank = cls.make_for_class('res.bank', {'name': 'Before'})

    def setUp(self):
        super().setUp()
        self.rename('Before')

    @classmethod
    def rename(cls, name):
        cls.commit(lambda env: env['res.bank'].browse(cls.bank).write({'name': name}))

    def read(self, env):
        return env['res.bank'].search_read([('id', '=', self.bank)], ['name'])

    def assertRight(self):
        """Reads are right and in time, before and after a write."""
        for name in ('Before', 'After', 'Before'):
            self.rename(name)
            for _twice in range(2):
                started = time.monotonic()
                with self.request() as env:
                    self.assertEqual(self.read(env)[0]['name'], name)
                self.assertLess(time.monotonic() - started, AT_ONCE_S)
                self.settle()

    def faults(self, tier):
        return dict(self.engine.hierarchy.tiers[tier].faults)


@tagged('post_install', '-at_install')
@unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
class TestRedisFaults(StatesCase):
    """L1 is off, so that every read asks Redis."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = RedisServer(requirepass='right')
        cls.enterClassContext(cls.server)

    def setUp(self):
        super().setUp()
        self.configure(
            redis_url=f'redis://:right@127.0.0.1:{self.server.port}/0', l1_max_entries='0'
        )
        self.forget()

    def test_p7_redis_in_good_health_answers(self):
        self.warm(self.read)
        with self.assertHit('l2'), self.request() as env:
            self.read(env)
        self.assertRight()

    def test_p7_redis_that_is_stopped(self):
        self.warm(self.read)
        self.server.stop()
        self.addCleanup(self.server.start)
        with self.assertLogs(QUIET, 'WARNING'):
            self.assertRight()
        self.assertTrue(self.faults('l2'))

    def test_p7_redis_that_comes_back(self):
        self.warm(self.read)
        self.server.stop()
        with self.assertLogs(QUIET, 'WARNING'), self.request() as env:
            self.read(env)
        self.server.start()
        tier = self.engine.hierarchy.tiers['l2']
        tier._breaker._retry_at = 0.0  # the pause is over
        self.engine.hierarchy.probe()
        self.assertTrue(tier.is_up)
        self.warm(self.read)
        self.assertRight()

    def test_p7_redis_that_is_frozen(self):
        self.warm(self.read)
        with self.server.frozen(), self.assertLogs(QUIET, 'WARNING'):
            self.assertRight()
        self.assertIn('timeout', self.faults('l2'))

    def test_p7_redis_that_was_flushed(self):
        self.warm(self.read)
        self.server.call('FLUSHALL')
        with self.assertMiss('cold'), self.request() as env:
            self.read(env)
        self.assertRight()

    def test_p7_redis_that_is_fed_garbage(self):
        self.warm(self.read)
        keys = self.server.call('KEYS', 'tc:*')
        self.assertTrue(keys)
        for key in keys:
            self.server.call('SET', key, b'\x00garbage' * 20)
        with self.assertMiss('cold'), self.request() as env, mute_logger(QUIET):
            self.read(env)
        self.assertIn('forged', self.faults('l2'))
        self.assertRight()

    def test_p7_a_value_moved_to_another_key_is_not_believed(self):
        self.warm(self.read)
        self.warm(lambda env: env['res.bank'].search_count([]))
        keys = self.server.call('KEYS', 'tc:*')
        values = [self.server.call('GET', key) for key in keys]
        for key, value in zip(keys, values[1:] + values[:1], strict=True):
            self.server.call('SET', key, value)
        with self.assertMiss('cold'), self.request() as env, mute_logger(QUIET):
            self.read(env)

    def test_p7_an_old_value_put_back_is_stale(self):
        self.warm(self.read)
        kept = {key: self.server.call('GET', key) for key in self.server.call('KEYS', 'tc:*')}
        self.rename('After')
        self.warm(self.read)
        for key, value in kept.items():
            self.server.call('SET', key, value)
        with self.assertMiss('stale'), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'After')

    def test_p7_keys_of_other_types(self):
        self.warm(self.read)
        for key in self.server.call('KEYS', 'tc:*'):
            self.server.call('DEL', key)
            self.server.call('LPUSH', key, 'x')
        with self.assertMiss('cold'), self.request() as env, mute_logger(QUIET):
            self.read(env)
        self.assertRight()

    def test_p7_a_wrong_password(self):
        self.warm(self.read)
        self.configure(redis_url=f'redis://:wrong@127.0.0.1:{self.server.port}/0')
        with self.assertLogs(QUIET, 'WARNING') as log:
            self.assertRight()
        self.assertIn('auth', self.faults('l2'))
        self.assertNotIn('wrong@', ''.join(log.output))

    def test_p7_l1_goes_on_while_redis_is_down(self):
        self.configure(l1_max_entries='100')
        self.server.stop()
        self.addCleanup(self.server.start)
        with self.assertLogs(QUIET, 'WARNING'):
            self.warm(self.read)
        with self.assertHit('l1'), self.request() as env:
            self.read(env)

    def test_p6_another_database_is_not_served_from_the_same_redis(self):
        self.warm(self.read)
        config = self.engine.config
        other = configuration.Configuration(
            {'database.uuid': 'another', 'database.secret': config.secret}, ()
        )
        tier = configuration.build_hierarchy(self.engine, config, other).tiers.get('l2')
        self.assertIsNot(tier, self.engine.hierarchy.tiers['l2'])
        self.addCleanup(tier.close)
        with (
            patch.dict(self.engine.hierarchy.tiers, l2=tier),
            self.assertMiss('cold'),
            self.request() as env,
        ):
            self.read(env)

    def test_p6_another_secret_does_not_open_what_this_one_sealed(self):
        self.warm(self.read)
        config = self.engine.config
        other = configuration.Configuration(
            {'database.uuid': config.uuid, 'database.secret': 'another secret'}, ()
        )
        tier = configuration.build_hierarchy(self.engine, config, other).tiers.get('l2')
        self.addCleanup(tier.close)
        with (
            patch.dict(self.engine.hierarchy.tiers, l2=tier),
            mute_logger(QUIET),
            self.assertMiss('cold'),
            self.request() as env,
        ):
            self.read(env)
        self.assertEqual(tier.faults['forged'], 1)

    def test_p6_without_a_secret_there_is_no_redis(self):
        config = self.engine.config
        other = configuration.Configuration({'database.uuid': config.uuid}, ())
        hierarchy = configuration.build_hierarchy(self.engine, config, other)
        self.assertNotIn('l2', hierarchy.tiers)

    def test_the_other_worker_finds_in_redis_what_this_one_kept(self):
        self.warm(self.read)
        with self.other_worker(), self.assertHit('l2'), self.request() as env:
            self.read(env)

    def test_an_answer_of_redis_is_promoted_to_l1(self):
        self.warm(self.read)
        self.configure(l1_max_entries='100')
        for tier in ('l2', 'l1'):
            with self.assertHit(tier), self.request() as env:
                self.read(env)


@tagged('post_install', '-at_install')
class TestDatabaseFaults(StatesCase):
    """L3 alone."""

    def setUp(self):
        super().setUp()
        self.configure(l3_enabled='1', l1_max_entries='0')
        self.forget()

    def test_p7_l3_in_good_health_answers(self):
        self.warm(self.read)
        with self.assertHit('l3'), self.request() as env:
            self.read(env)
        self.assertRight()

    def test_p7_rows_that_are_corrupt(self):
        for body in (
            "'\\x00'",
            "substr(body, 1, length(body) / 2)",
            "body || '\\x00'",
            "set_byte(body, length(body) / 2, (get_byte(body, length(body) / 2) + 1) %% 256)",
        ):
            with self.subTest(body=body):
                self.forget()
                self.warm(self.read)
                self.sql(f"UPDATE cache_entry SET body = {body}", [])
                with self.assertMiss('cold'), self.request() as env, mute_logger(QUIET):
                    self.assertEqual(self.read(env)[0]['name'], 'Before')
        self.assertTrue(self.faults('l3'))

    def test_p7_a_row_under_the_key_of_another(self):
        self.warm(self.read)
        self.warm(lambda env: env['res.bank'].search_count([]))
        self.sql("UPDATE cache_entry e SET body = o.body FROM cache_entry o WHERE o.key <> e.key")
        with self.assertMiss('cold'), self.request() as env, mute_logger(QUIET):
            self.assertEqual(self.read(env)[0]['name'], 'Before')

    def test_p7_a_table_that_was_emptied(self):
        self.warm(self.read)
        self.sql("TRUNCATE cache_entry")
        with self.assertMiss('cold'), self.request() as env:
            self.read(env)
        self.assertRight()

    def test_p7_a_table_that_is_locked(self):
        self.warm(self.read)
        with self.engine.cursor() as cr:
            cr.execute("LOCK TABLE cache_entry IN ACCESS EXCLUSIVE MODE")
            started = time.monotonic()
            with self.request() as env, mute_logger(QUIET):
                self.assertEqual(self.read(env)[0]['name'], 'Before')
            self.assertLess(time.monotonic() - started, AT_ONCE_S)
        self.assertTrue(self.faults('l3'))

    def test_p7_no_read_writes_in_its_own_transaction(self):
        self.warm(self.read)
        self.forget()
        with self.request() as env:
            self.read(env)
            env.cr.execute("SELECT pg_current_xact_id_if_assigned()")
            self.assertEqual(env.cr.fetchone(), (None,))


@tagged('post_install', '-at_install')
class TestOwnFaults(StatesCase):
    """A bug of ours on a read path is logged once and counted, and the plain call answers."""

    def test_p7_a_fault_while_looking_fails_open(self):
        self.warm(self.read)
        with (
            patch.object(reading, '_key', side_effect=ZeroDivisionError('tc test look')),
            self.assertLogs(QUIET, 'WARNING') as log,
        ):
            self.assertRight()
        self.assertEqual(len(log.output), 1)
        self.assertGreater(self.log.snapshot()['faults']['engine: ZeroDivisionError'], 1)

    def test_p7_a_fault_while_keeping_fails_open(self):
        with (
            patch.object(reading, '_store', side_effect=ZeroDivisionError('tc test keep')),
            self.assertLogs(QUIET, 'WARNING') as log,
        ):
            self.assertRight()
        self.assertEqual(len(log.output), 1)

    def test_p7_a_fault_while_judging_fails_open(self):
        self.warm(self.read)
        with (
            patch.object(reading, 'judge', side_effect=ZeroDivisionError('tc test judge')),
            self.assertLogs(QUIET, 'WARNING'),
        ):
            self.assertRight()

    def test_p7_a_payload_that_cannot_be_unpacked_is_dropped(self):
        self.warm(self.read)
        tier = self.engine.hierarchy.tiers['l1']
        for entry in list(tier._cache.values()):
            entry.payload = b'\x00garbage'
        with self.request() as env, mute_logger(QUIET):
            self.assertEqual(self.read(env)[0]['name'], 'Before')
        self.assertEqual(self.log.snapshot()['faults'].get('l1: corrupt'), 1)
        self.warm(self.read)

    def test_p7_a_missing_journal_turns_the_cache_off(self):
        with self.unavailable():
            self.assertRight()

    def test_p7_an_engine_that_could_not_start_is_made_anew_and_closed(self):
        old = Engine(self.registry)
        old.available, old._retry_at = False, 0.0
        with patch.dict(self.registry.__dict__, {engines._SLOT: old}):
            new = engines.engine_for(self.registry)
            self.addCleanup(new.close)
            self.assertIsNot(new, old)
        self.assertTrue(old.outbox.is_closed)

    def test_p7_a_journal_that_cannot_be_read_turns_the_cache_off(self):
        with (
            patch.object(versions, '_DELTA', "SELECT cache_look_of_old(%s::xid8, %s::xid8[])"),
            mute_logger('odoo.sql_db'),
            self.assertLogs(QUIET, 'WARNING'),
        ):
            self.assertFalse(Engine(self.registry).available)

    def test_p7_code_that_is_newer_than_the_database_says_so_once(self):
        with (
            patch.object(engines, '_YOUNGEST_TABLES', "SELECT FROM cache_of_tomorrow"),
            self.assertNoLogs('odoo.sql_db', 'WARNING'),
            self.assertLogs(QUIET, 'WARNING') as logs,
        ):
            self.assertFalse(Engine(self.registry).available)
        self.assertIn("upgrade the module tiered_cache", logs.output[0])

    def test_p7_the_engine_of_another_process_is_not_used(self):
        self.assertTrue(self.engine.is_usable())
        with patch.object(self.engine, 'pid', -1):
            self.assertFalse(self.engine.is_usable())

    def test_an_error_of_the_plain_call_is_the_callers(self):
        model = self.registry['res.bank']
        self.patch(model, '_search', lambda *args, **kwargs: 1 / 0)
        with self.assertRaises(ZeroDivisionError), self.request() as env:
            self.read(env)
        self.assertIsNone(reading._local.ticket)


@tagged('post_install', '-at_install')
class TestPreforkMaster(CacheCase):
    """The process that forks the workers of a prefork server."""

    def engine_in(self, running):
        with (
            patch.object(server, 'server', running),
            patch.dict(self.registry.__dict__),
        ):
            self.registry.__dict__.pop(engines._SLOT, None)
            engine = engines.engine_for(self.registry)
            if engine is not None:
                self.addCleanup(engine.close)
            return engine

    def running(self, pid):
        """A prefork server that was started by a process."""
        running = object.__new__(server.PreforkServer)
        running.pid = pid
        return running

    def test_it_has_no_threads_and_connections_of_ours(self):
        """While it forks, they would leave their locks to a worker, which would wait for ever."""
        self.assertIsNone(self.engine_in(self.running(os.getpid())))

    def test_its_workers_have_an_engine(self):
        self.assertIsNotNone(self.engine_in(self.running(os.getppid())))


@tagged('post_install', '-at_install')
class TestComparison(BaseCase):
    """What the auditor, and the tests, take for the same."""

    def test_types_count_at_every_depth(self):
        for left, right in (
            (1, True),
            (1, 1.0),
            ([1], (1,)),
            ({'a': [0]}, {'a': [False]}),
            ({1: 'a'}, {True: 'a'}),
            ('a', Markup('a')),
        ):
            with self.subTest(left=left, right=right):
                self.assertFalse(auditor.same(left, right))

    def test_nan_is_the_same_and_keys_have_no_order(self):
        self.assertTrue(auditor.same({'a': math.nan, 'b': 1}, {'b': 1, 'a': math.nan}))

    def test_the_log_shows_no_value(self):
        """The keys of ``read_progress_bar`` are texts of records."""
        for key in ("Azure Interior", "42", 7):
            found = auditor.difference({key: {'done': 1}}, {key: {'done': 2}})
            self.assertEqual(found, "[…]['done']: another int")
        found = auditor.difference({'partner_id:count': 1}, {'partner_id:count': 2})
        self.assertIn('partner_id:count', found)

    def test_a_digest_in_the_log_cannot_be_found_by_trying(self):
        before = auditor.digest(5)
        self.assertEqual(auditor.digest(5), before)
        with patch.object(auditor, '_SALT', b'of another process'):
            self.assertNotEqual(auditor.digest(5), before)

    def test_what_gives_two_answers_by_itself_is_no_difference(self):
        answers = iter((1, 2))
        self.assertEqual(auditor.audit(('m', 'read'), 0, lambda: next(answers)), (True, 2))

    def test_what_another_worker_would_answer_is_no_difference(self):
        """Odoo's own answer may depend on what is in a worker's memory."""
        memory = ['warm']
        found = auditor.audit(
            ('m', 'read'), 'cold', lambda: memory[-1], forget=lambda: memory.append('cold')
        )
        self.assertEqual(found, (True, 'cold'))

    def test_a_wrong_answer_stays_wrong_with_an_empty_memory(self):
        memory = ['warm']
        with mute_logger(auditor.__name__):
            found = auditor.audit(
                ('m', 'read'), 'wrong', lambda: memory[-1], forget=lambda: memory.append('cold')
            )
        self.assertEqual(found, (False, 'warm'))


@tagged('post_install', '-at_install')
class TestAuditor(StatesCase):
    def setUp(self):
        super().setUp()
        self.configure(audit_rate='1')
        self.addCleanup(self.resume)

    def resume(self):
        """What an administrator does when the cause is found: remove the rule."""
        self.engine.outbox.flush()  # the rule is written after the request
        self.commit(
            lambda env: (
                env['cache.rule']
                .with_context(active_test=False)
                .search([('model', '=', 'res.bank')])
                .unlink()
            )
        )
        self.engine.suspender.resume()
        with self.request() as env:
            env['res.country'].search_count([])  # any other read learns of the rules

    def plant(self):
        """Make what L1 holds wrong: valid entries with another payload."""
        self.rename('Wrong')
        self.warm(self.read)
        wrong = {e.model: e.payload for e in self.engine.hierarchy.tiers['l1']._cache.values()}
        self.rename('Before')
        self.forget()
        self.warm(self.read)
        for entry in list(self.engine.hierarchy.tiers['l1']._cache.values()):
            entry.payload = wrong[entry.model]

    def test_a_wrong_hit_is_found_and_the_computed_value_is_served(self):
        self.plant()
        with mute_logger(QUIET), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'Before')
        self.assertEqual(self.log.snapshot()['differences'], 1)

    def test_a_wrong_hit_is_logged_without_its_values(self):
        self.plant()
        with self.assertLogs(QUIET, 'ERROR') as log, self.request() as env:
            self.read(env)
        self.assertIn('res.bank.search_read', log.output[0])
        self.assertNotIn('Wrong', log.output[0])

    def test_a_wrong_hit_suspends_its_method_until_an_administrator_resumes(self):
        self.plant()
        with mute_logger(QUIET), self.request() as env:
            self.read(env)
        for _twice in range(2):
            with self.assertComputed(), self.request() as env:
                self.read(env)
        self.engine.outbox.flush()
        with self.assertComputed(), self.request() as env:
            self.read(env)
        self.resume()
        self.warm(self.read)

    def test_a_wrong_hit_suspends_its_method_in_other_workers_too(self):
        self.plant()
        with mute_logger(QUIET), self.request() as env:
            self.read(env)
        self.engine.outbox.flush()
        with self.other_worker():
            for _thrice in range(3):
                with self.assertComputed(), self.request() as env:
                    self.read(env)
                self.settle()

    def test_right_hits_are_audited_without_a_difference(self):
        self.warm(self.read)
        with self.request() as env:
            self.read(env)
        snapshot = self.log.snapshot()
        self.assertGreaterEqual(snapshot['audited'], 1)
        self.assertEqual(snapshot['differences'], 0)

    def test_what_the_auditor_computes_is_computed(self):
        self.warm(self.read)
        with self.assertComputed(), self.request() as env:
            self.plain(self.read, env)

    def test_answers_that_look_at_the_clock_are_not_audited(self):
        search = self.registry['res.bank']._search

        def looking(records, *args, **kwargs):
            fields.Datetime.now()
            return search(records, *args, **kwargs)

        self.patch(self.registry['res.bank'], '_search', looking)
        self.warm(self.read)
        audited = self.log.snapshot()['audited']
        with self.assertHit(), self.request() as env:
            self.read(env)
        self.assertEqual(self.log.snapshot()['audited'], audited)

    def test_without_the_auditor_the_wrong_hit_would_be_served(self):
        """The plant is one: the tests above do not pass by chance."""
        self.plant()
        self.configure(audit_rate='0')
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'Wrong')
