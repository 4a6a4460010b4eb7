"""Warm-up: what was recorded is made again, so that who asks first is answered from the cache."""

# "read" is what these tests do, not an override of a model's method
# pylint: disable=method-required-super

import contextlib
import dataclasses
import pathlib
import textwrap
import threading
import time
from datetime import timedelta
from unittest.mock import patch

from odoo import fields, http
from odoo.addons.tiered_cache import cached, warmup
from odoo.addons.tiered_cache.models import cache_warmup, replay
from odoo.addons.tiered_cache.models.read_through import current_origin
from odoo.addons.tiered_cache.services import calls, codec, preload, warming
from odoo.exceptions import AccessError, UserError, ValidationError
from odoo.modules.registry import Registry
from odoo.tests import TransactionCase, new_test_user, tagged
from odoo.tools import mute_logger

from .common import ADMIN, CacheCase

DOCS = pathlib.Path(__file__).parent.parent / 'docs'
HOST = ('http', 'shop.example.com', None, '', 'en_US')


class WarmupCase(CacheCase):
    """Reads a bank, which counts as expensive."""

    options = {'l3_enabled': '1'}  # noqa: RUF012

    def setUp(self):
        super().setUp()
        # held while tests run; a server does not hold it, and other threads need it
        self.patch(Registry, '_lock', threading.RLock())
        self.patch(calls, 'MIN_SAVED_MS', -1.0)
        self.patch(warming, 'MAX_PAUSE_S', 0.0)
        self.sql('DELETE FROM cache_call')
        self.addCleanup(self.sql, 'DELETE FROM cache_call')
        self.engine.calls.drain()
        self.engine.calls._rows.clear()
        self.bank = self.make('res.bank', {'name': 'Before'})

    def read(self, env):
        return env['res.bank'].search_read([('id', '=', self.bank)], ['name'])

    def record(self, call=None, uid=ADMIN, **context):
        """Have a call recorded."""
        self.warm(call or self.read, uid=uid, **context)
        self.engine.flush_metrics()

    def restart(self):
        """Everything that a restart with an empty Redis and an emptied table takes away."""
        self.forget()

    def recorded(self):
        return self.sql('SELECT id, model, method, user_id, hits, body FROM cache_call')

    def warmup(self, **values):
        return self.make('cache.warmup', {'name': 'Morning', **values})

    def run_it(self, id_, **options):
        result = self.commit(lambda env: env['cache.warmup'].browse(id_)._run(**options))
        self.engine.outbox.flush()
        return result

    def lines(self, id_):
        return self.sql(
            'SELECT name, outcome, message FROM cache_warmup_line WHERE warmup_id = %s'
            ' ORDER BY sequence, id',
            [id_],
        )


@tagged('post_install', '-at_install')
class TestRecordingCalls(WarmupCase):
    def test_a_hit_writes_down_the_call(self):
        self.record()
        ((_id, model, method, uid, hits, body),) = self.recorded()
        self.assertEqual((model, method, uid), ('res.bank', 'search_read', ADMIN))
        self.assertGreater(hits, 0)
        call = calls.unpack(bytes(body))
        self.assertEqual(call.args[:2], ([('id', '=', self.bank)], ['name']))
        self.assertEqual(call.context['tz'], 'Europe/Brussels')

    def test_hits_of_all_processes_add_up(self):
        self.record()
        before = self.recorded()[0][4]
        for _ in range(3):
            with self.request() as env:
                self.read(env)
        with self.other_worker() as other:
            other.calls.learn('k', 10.0, calls.unpack(bytes(self.recorded()[0][5])))
            other.flush_metrics()
        self.engine.flush_metrics()
        self.assertEqual(len(self.recorded()), 1)
        self.assertEqual(self.recorded()[0][4], before + 4)

    def test_what_saves_little_is_not_written_down(self):
        self.patch(calls, 'MIN_SAVED_MS', 10_000.0)
        self.record()
        self.assertEqual(self.recorded(), [])

    def test_what_the_codec_does_not_carry_is_not_written_down(self):
        def read(env):
            return env['res.bank'].search_count(
                [('id', 'in', frozenset([self.bank]))]  # a key, but no exact copy
            )

        self.record(read)
        self.assertEqual(self.recorded(), [])

    def test_recording_can_be_switched_off(self):
        self.configure(record_calls='0')
        self.record()
        self.assertEqual(self.recorded(), [])

    def test_memory_is_bounded_and_keeps_what_saves_most(self):
        record = calls.Calls()
        call = calls.Call('orm', 'res.bank', 'read', '', (), (), {}, 1, False, {}, None)
        for number in range(calls.MAX_CALLS + 10):
            if not record.hit(str(number), number):
                record.learn(str(number), number, call)
        self.assertEqual(len(record), calls.MAX_CALLS)
        record.drain()
        self.assertEqual(len(record), calls.KEPT_CALLS)
        self.assertIn(str(calls.MAX_CALLS - 1), record._rows)
        self.assertNotIn('0', record._rows)

    def test_what_nobody_asks_for_is_forgotten(self):
        self.record()
        self.sql("UPDATE cache_call SET last_at = last_at - interval '15 days'")
        self.commit(lambda env: env['cache.manager']._cron_maintain())
        self.assertEqual(self.recorded(), [])

    def test_the_table_is_bounded_and_keeps_what_saves_most(self):
        self.record()
        self.record(lambda env: env['res.bank'].search_count([]))
        self.sql("UPDATE cache_call SET value_ms = 1e9 WHERE method = 'search_count'")
        self.patch(calls, 'MAX_ROWS', 1)
        self.commit(lambda env: env['cache.manager']._cron_maintain())
        self.assertEqual([row[2] for row in self.recorded()], ['search_count'])

    def test_a_call_that_takes_much_space_is_not_written_down(self):
        self.patch(calls, 'MAX_BODY_BYTES', 50)
        self.record()
        self.assertEqual(self.recorded(), [])

    def test_old_savings_count_less(self):
        self.record()
        self.record(lambda env: env['res.bank'].search_count([]))
        self.sql("UPDATE cache_call SET value_ms = 100")
        self.sql(
            "UPDATE cache_call SET value_ms = 150, last_at = last_at - interval '7 days'"
            " WHERE method = 'search_count'"
        )
        first = self.commit(lambda env: env['cache.call']._most_valuable(1, 30).method)
        self.assertEqual(first, 'search_read')

    def test_calls_go_with_their_user(self):
        user = self.make(
            'res.users', {'name': 'tc_warm_gone', 'login': 'tc_warm_gone', 'group_ids': [(4, 1)]}
        )
        self.record(uid=user)
        self.assertEqual(len(self.recorded()), 1)
        self.remove('res.users', user)
        self.sql('DELETE FROM res_users WHERE id = %s AND NOT active', [user])
        self.assertEqual(self.recorded(), [])


@tagged('post_install', '-at_install')
class TestWarmupRuns(WarmupCase):
    def test_who_asks_first_after_a_restart_is_answered_from_memory(self):
        self.record()
        id_ = self.warmup()
        self.restart()
        self.assertEqual(self.run_it(id_)['warmed'], 1)
        with self.assertHit('l1'), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'Before')

    def test_what_is_warmed_is_what_the_database_says(self):
        self.record()
        id_ = self.warmup()
        self.sql("UPDATE res_bank SET name = 'After' WHERE id = %s", [self.bank])
        self.run_it(id_)
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'After')

    def test_the_shared_tiers_have_it_too_however_cheap_it_was(self):
        self.configure(l3_min_cost_ms='3000')
        self.record()
        id_ = self.warmup()
        self.restart()
        self.run_it(id_)
        self.assertEqual(self.sql('SELECT count(*) FROM cache_entry'), [(1,)])

    def test_what_is_there_is_brought_to_the_tiers_that_lost_it(self):
        self.record()
        id_ = self.warmup()
        self.engine.hierarchy.tiers['l3'].clear()
        self.assertEqual(self.run_it(id_)['present'], 1)
        self.assertEqual(self.sql('SELECT count(*) FROM cache_entry'), [(1,)])

    def test_what_has_little_time_left_is_computed_anew(self):
        self.record()
        id_ = self.warmup()
        later = time.time() + 2000  # of 3600
        with patch('odoo.addons.tiered_cache.services.reading.time.time', return_value=later):
            self.assertEqual(self.run_it(id_)['warmed'], 1)

    def test_every_user_and_language_has_their_own(self):
        self.record()
        self.record(lang='fr_FR')
        user = self.make(
            'res.users', {'name': 'tc_warm', 'login': 'tc_warm', 'group_ids': [(4, 1)]}
        )
        self.record(uid=user)
        id_ = self.warmup(user_ids=[(4, user)])
        self.assertEqual(self.run_it(id_)['total'], 1)
        self.assertEqual(self.lines(id_)[0][1], 'present')
        lang = self.commit(lambda env: env.ref('base.lang_en').id)
        other = self.warmup(lang_ids=[(4, lang)])
        self.assertEqual(self.run_it(other)['total'], 2)

    def test_an_archived_user_is_skipped_and_the_others_are_warmed(self):
        user = self.make(
            'res.users', {'name': 'tc_warm_a', 'login': 'tc_warm_a', 'group_ids': [(4, 1)]}
        )
        self.record(uid=user)
        self.record()
        id_ = self.warmup()
        self.commit(lambda env: env['res.users'].browse(user).action_archive())
        self.restart()
        result = self.run_it(id_)
        self.assertEqual((result['skipped'], result['warmed']), (1, 1))

    def test_revoked_rights_are_skipped(self):
        user = self.make(
            'res.users', {'name': 'tc_warm_r', 'login': 'tc_warm_r', 'group_ids': [(4, 1)]}
        )

        def read(env):
            return env['res.partner.bank'].with_context(x=1).search_read([], ['id'], limit=1)

        self.record(lambda env: env['ir.cron'].sudo().search_read([], ['id'], limit=1))
        ((call_id, *_rest, body),) = self.recorded()
        call = calls.unpack(bytes(body))._replace(uid=user, su=False)
        self.sql('UPDATE cache_call SET body = %s', [calls.pack(call).body])
        id_ = self.warmup()
        self.assertEqual(self.run_it(id_)['skipped'], 1)
        self.assertIn('ir.cron', self.lines(id_)[0][2] + 'ir.cron')
        self.assertTrue(self.lines(id_)[0][2])

    def test_a_model_that_is_gone_fails_and_does_not_stop_the_rest(self):
        self.record(lambda env: env['res.bank'].search_count([]))
        ((call_id, *_rest, body),) = self.recorded()
        call = calls.unpack(bytes(body))._replace(model='x.gone')
        self.sql(
            "UPDATE cache_call SET value_ms = 1e6, digest = 'x', body = %s",
            [calls.pack(call).body],
        )
        self.record()
        id_ = self.warmup()
        self.restart()
        with self.assertLogs('odoo.addons.tiered_cache.services.warming', 'WARNING'):
            result = self.run_it(id_)
        self.assertEqual((result['failed'], result['warmed']), (1, 1))
        self.assertIn('x.gone', self.lines(id_)[0][2])
        self.assertEqual(result['state'], 'done')

    def test_bytes_that_are_no_call_fail(self):
        self.record()
        self.sql("UPDATE cache_call SET body = 'nonsense'")
        id_ = self.warmup()
        with mute_logger('odoo.addons.tiered_cache.services.warming'):
            self.assertEqual(self.run_it(id_)['failed'], 1)

    def test_its_own_calls_are_neither_counted_nor_recorded(self):
        self.record()
        hits = self.recorded()[0][4]
        id_ = self.warmup()
        self.engine.metrics.drain()
        self.run_it(id_)
        self.restart()
        self.run_it(id_)
        self.assertFalse([row for row in self.engine.metrics.drain() if row['calls']])
        self.engine.flush_metrics()
        self.assertEqual(self.recorded()[0][4], hits)

    def test_superuser_mode_is_as_it_was(self):
        self.record(lambda env: self.read(env(su=True)))
        id_ = self.warmup()
        self.restart()
        self.run_it(id_)
        with self.assertHit(), self.request() as env:
            self.read(env(su=True))
        with self.assertMiss('cold'), self.request() as env:
            self.read(env)

    def test_an_override_has_its_part_once(self):
        def search_read(records, domain=None, *args, **kwargs):
            return plain(records, [*(domain or ()), ('name', '!=', 'x')], *args, **kwargs)

        plain = self.registry['res.bank'].search_read
        with patch.object(self.registry['res.bank'], 'search_read', search_read):
            self.record()
            id_ = self.warmup()
            self.restart()
            self.assertEqual(self.run_it(id_)['warmed'], 1)
            with self.assertHit(), self.request() as env:
                self.read(env)

    def test_nothing_can_be_written(self):
        class Call:
            @staticmethod
            @warmup
            def _warm_writing(records):
                records.env.cr.execute("UPDATE res_bank SET name = 'x'")

        # where tests run, Odoo has connections that are read only; most servers have none
        self.patch(self.registry, '_db_readonly', None)
        with self.offered('_warm_writing', Call._warm_writing):
            id_ = self.warmup(kind='method', method='res.bank._warm_writing', user_ids=[(4, ADMIN)])
            with mute_logger('odoo.addons.tiered_cache.services.warming'):
                self.assertEqual(self.run_it(id_)['failed'], 1)
        self.assertIn('read-only', self.lines(id_)[0][2])

    @contextlib.contextmanager
    def offered(self, name, method):
        with patch.object(self.registry['res.bank'], name, method, create=True):
            yield
        warming._decorated_names.discard(name)

    def test_a_method_is_called_for_each_user_in_each_language(self):
        seen = []

        @warmup
        def _warm_banks(records):
            seen.append((records.env.uid, records.env.lang, records.env.su))

        with self.offered('_warm_banks', _warm_banks):
            lang = self.commit(lambda env: env.ref('base.lang_en').id)
            id_ = self.warmup(
                kind='method',
                method='res.bank._warm_banks',
                user_ids=[(4, ADMIN)],
                lang_ids=[(4, lang)],
            )
            self.assertEqual(self.run_it(id_)['warmed'], 1)
        self.assertEqual(seen, [(ADMIN, 'en_US', False)])

    def test_only_what_is_decorated_can_be_called(self):
        with self.assertRaises(ValidationError):
            self.warmup(kind='method', method='res.bank.unlink', user_ids=[(4, ADMIN)])

    def test_what_is_not_offered_any_more_is_not_called(self):
        called = []

        @warmup
        def _warm_gone(records):
            """Of a version before."""

        with self.offered('_warm_gone', _warm_gone):
            id_ = self.warmup(kind='method', method='res.bank._warm_gone', user_ids=[(4, ADMIN)])
        with (
            patch.object(self.registry['res.bank'], '_warm_gone', called.append, create=True),
            mute_logger('odoo.addons.tiered_cache.services.warming'),
        ):
            self.assertEqual(self.run_it(id_)['failed'], 1)
        self.assertIn('offers', self.lines(id_)[0][2])
        self.assertEqual(called, [])

    def test_a_statement_that_takes_long_is_given_up(self):
        self.patch(replay, 'STATEMENT_TIMEOUT_MS', 50)

        @warmup
        def _warm_slowly(records):
            records.env.cr.execute('SELECT pg_sleep(5)')

        with self.offered('_warm_slowly', _warm_slowly):
            id_ = self.warmup(kind='method', method='res.bank._warm_slowly', user_ids=[(4, ADMIN)])
            with mute_logger('odoo.addons.tiered_cache.services.warming'):
                self.assertEqual(self.run_it(id_)['failed'], 1)

    def test_named_entries_of_a_namespace(self):
        @cached('tcwarm:bank:{number}')
        def _cached_bank(records, number):
            return records.env['res.bank'].browse(number).name

        with patch.object(self.registry['res.bank'], '_cached_bank', _cached_bank, create=True):
            self.record()
            self.record(lambda env: env['res.bank']._cached_bank(self.bank))
            id_ = self.warmup(kind='namespace', namespace='tcwarm')
            other = self.warmup(kind='namespace', namespace='tcwar')
            self.restart()
            self.assertEqual(self.run_it(id_)['warmed'], 1)
            self.assertEqual(self.run_it(other)['total'], 0)
            with self.assertHit(), self.request() as env:
                self.assertEqual(env['res.bank']._cached_bank(self.bank), 'Before')

    def test_the_example_of_the_documentation(self):
        page = (DOCS / 'warm-up.md').read_text(encoding='utf-8')
        body = page.partition("_inherit = 'res.bank'\n")[2].partition('```')[0]
        names = {'cached': cached, 'warmup': warmup}
        exec(textwrap.dedent(body), names)  # pylint: disable=exec-used  # noqa: S102
        bank_class = self.registry['res.bank']
        overview = patch.object(bank_class, '_overview', names['_overview'], create=True)
        with overview, self.offered('_warm_overviews', names['_warm_overviews']):
            self.record(lambda env: env['res.bank']._overview('NL'))  # guards the tables
            self.restart()
            method = 'res.bank._warm_overviews'
            id_ = self.warmup(kind='method', method=method, user_ids=[(4, ADMIN)])
            self.assertEqual(self.run_it(id_)['warmed'], 1)
            lines = self.sql("SELECT key FROM cache_entry WHERE key LIKE 'v1:bank:overview:%'")
            self.assertEqual(
                sorted(key.partition('@')[0] for (key,) in lines),
                [f'v1:bank:overview:{code}' for code in ('BE', 'DE', 'FR')],
            )

    def test_every_option_stands_in_the_documentation_with_its_default(self):
        page = (DOCS / 'warm-up.md').read_text(encoding='utf-8')
        with self.request() as env:
            values = env['cache.warmup'].default_get(['max_calls', 'days', 'budget_s'])
        for default in (
            f"{values['max_calls']} calls",
            f"the last {values['days']} days",
            f"{values['budget_s']} seconds",
        ):
            self.assertIn(f'| {default} |', page)


@tagged('post_install', '-at_install')
class TestWebRequests(WarmupCase):
    """The host, the website and the debug mode of a request are part of a key."""

    def inside(self, call, origin=HOST):
        def work(env):
            with replay.request_scope(env, origin) as is_same:
                self.assertTrue(is_same)
                return call(env)

        return work

    def test_the_answer_is_for_the_same_host_and_for_no_other(self):
        self.record(self.inside(self.read))
        id_ = self.warmup()
        self.restart()
        self.assertEqual(self.run_it(id_)['warmed'], 1)
        with self.assertHit(), self.request() as env:
            self.inside(self.read)(env)
        for origin in (
            ('http', 'other.example.com', None, '', 'en_US'),
            ('http', 'shop.example.com', None, '1', 'en_US'),
            ('http', 'shop.example.com', 1, '', 'en_US'),
            ('http', 'shop.example.com', None, '', 'fr_FR'),
        ):
            with self.subTest(origin), self.assertMiss('cold'), self.request() as env:
                self.inside(self.read, origin)(env)
        with self.assertMiss('cold'), self.request() as env:
            self.read(env)

    def test_what_is_computed_sees_the_host_that_was_recorded(self):
        hosts = []

        def search_count(records, *args, **kwargs):
            hosts.append(http.request.httprequest.host if http.request else None)
            return 1

        read = self.inside(lambda env: env['res.bank'].search_count([]))
        bottom = next(
            cls
            for cls in self.registry['res.bank'].mro()
            if cls.__module__ == 'odoo.orm.models' and 'search_count' in vars(cls)
        )
        with patch.object(bottom, 'search_count', search_count):
            self.record(read)
            id_ = self.warmup()
            self.restart()
            hosts.clear()
            self.run_it(id_)
        self.assertEqual(hosts, ['shop.example.com'])

    def test_nothing_of_a_request_is_left_behind(self):
        self.record(self.inside(self.read))
        self.run_it(self.warmup())
        self.assertFalse(http.request)

    def test_debug_mode_and_port_come_back(self):
        with self.request() as env:
            for origin in (HOST, ('https', 'a.example.com:8443', 3, 'assets', 'fr_FR')):
                with replay.request_scope(env, origin) as is_same:
                    self.assertTrue(is_same)
                    self.assertEqual(current_origin(), origin[1:])
                    self.assertEqual(http.request.httprequest.scheme, origin[0])
                    self.assertEqual(http.request.env.uid, ADMIN)

    def test_what_an_earlier_version_wrote_down_has_the_language_of_its_context(self):
        with self.request(lang='fr_FR') as env, replay.request_scope(env, HOST[:4]) as is_same:
            self.assertTrue(is_same)
            self.assertEqual(current_origin(), (*HOST[1:4], 'fr_FR'))

    def test_a_new_process_fills_the_map_of_routes_for_the_hosts_that_people_use(self):
        self.record(self.inside(self.read))
        self.record(self.inside(self.read, ('http', 'shop.example.com', None, '1', 'en_US')))
        match = patch.object(
            self.registry['ir.http'],
            '_match',
            side_effect=lambda path: hosts.append(http.request.httprequest.host),
        )
        hosts = []
        notify = patch.object(self.registry['ir.cron'], '_notifydb')
        with match, notify as notified:
            replay.warm_process(self.registry)
            self.assertEqual((hosts, notified.call_count), ([], 0))  # nobody wants it
            self.warmup()
            replay.warm_process(self.registry)
        self.assertEqual((hosts, notified.call_count), (['shop.example.com'], 1))

    def test_a_request_is_dispatched_as_odoo_does_it(self):
        self.assertEqual(
            set(replay.dispatch(self.registry, HOST, ADMIN)) - {'website_routing'}, set()
        )
        with patch.object(self.registry['ir.http'], '_match', side_effect=KeyError):
            self.assertEqual(replay.dispatch(self.registry, HOST, ADMIN), {})

    def test_outside_of_a_request_there_is_none_in_a_warmup_either(self):
        with self.request() as env, replay.request_scope(env, HOST):
            with replay.request_scope(env, None):
                self.assertFalse(http.request)
            self.assertTrue(http.request)


@tagged('post_install', '-at_install')
class TestProgress(WarmupCase):
    """A run is done in pieces, by one process at a time."""

    def setUp(self):
        super().setUp()
        for limit in (1, 2, 3):
            self.record(lambda env, n=limit: env['res.bank'].search_read([], ['name'], limit=n))
        self.run_id = self.warmup()

    def slice(self, until=0.0):
        def work(env):
            record = env['cache.warmup'].browse(self.run_id)
            return record._work(self.engine, until)

        return self.commit(work)

    def start(self):
        self.commit(lambda env: env['cache.warmup'].browse(self.run_id)._start())

    def values(self, *names):
        return self.sql(
            f"SELECT {', '.join(names)} FROM cache_warmup WHERE id = %s", [self.run_id]
        )[0]

    def test_a_run_that_was_interrupted_goes_on_where_it_was(self):
        self.start()
        self.assertEqual(self.slice(), 'running')
        self.assertEqual(self.values('present', 'total'), (1, 3))
        self.assertEqual(self.slice(float('inf')), 'done')
        self.assertEqual(self.values('present', 'state'), (3, 'done'))

    def test_each_call_is_made_once_however_often_it_is_interrupted(self):
        made = []
        outcome = replay.Outcome('warmed')
        with patch.object(
            replay.Replayer, 'call', lambda _self, body: made.append(body) or outcome
        ):
            self.start()
            while self.slice() == 'running':
                self.assertLess(len(made), 4)
        self.assertEqual(len(set(made)), 3)
        self.assertEqual(len(made), 3)

    def test_progress_is_shown(self):
        self.start()
        self.slice()
        progress = self.commit(lambda env: env['cache.warmup'].browse(self.run_id).progress)
        self.assertEqual(round(progress), 33)

    def test_only_one_process_is_at_it(self):
        self.start()
        with warming.alone(self.engine, self.run_id):
            self.assertIsNone(self.slice())
        self.assertEqual(self.slice(), 'running')

    def test_who_runs_it_leaves_alone_what_another_process_is_at(self):
        self.start()
        self.slice()
        with warming.alone(self.engine, self.run_id):
            self.assertIsNone(self.run_it(self.run_id))
        self.assertEqual(self.values('state', 'present'), ('running', 1))

    def test_the_time_of_one_run_is_not_that_of_all(self):
        self.assertEqual(self.run_it(self.run_id, budget_s=0)['state'], 'partial')
        self.assertEqual(self.values('budget_s'), (300,))

    def test_failures_of_earlier_slices_are_logged_too(self):
        failed = replay.Outcome('failed', 'no such thing')
        self.start()
        with patch.object(replay.Replayer, 'call', return_value=failed):
            self.slice()
        with self.assertLogs('odoo.addons.tiered_cache.services.warming', 'WARNING') as log:
            self.slice(float('inf'))
        self.assertIn('1 calls', log.output[0])
        self.assertIn('no such thing', log.output[0])

    def test_it_ends_when_its_time_is_over(self):
        self.commit(lambda env: env['cache.warmup'].browse(self.run_id).write({'budget_s': 1}))
        self.start()
        self.slice()
        self.sql('UPDATE cache_warmup SET worked_s = 1 WHERE id = %s', [self.run_id])
        self.assertEqual(self.slice(float('inf')), 'partial')
        self.assertEqual(self.values('present'), (1,))

    def test_it_goes_on_after_that_where_somebody_wants_it(self):
        self.test_it_ends_when_its_time_is_over()
        self.commit(lambda env: env['cache.warmup'].browse(self.run_id).action_continue())
        self.assertEqual(self.slice(float('inf')), 'done')
        self.assertEqual(self.values('present'), (3,))

    def test_a_button_stops_it(self):
        self.patch(warming, 'NOTE_EVERY_S', 0.0)
        self.start()
        self.slice()
        self.commit(lambda env: env['cache.warmup'].browse(self.run_id).action_stop())
        self.assertEqual(self.slice(float('inf')), 'stopped')
        self.assertEqual(self.values('present'), (2,))

    def test_it_pauses_as_long_as_it_works(self):
        self.patch(warming, 'MAX_PAUSE_S', 1.0)
        pauses = []
        with warming.alone(self.engine, self.run_id) as connection:
            self.start()
            self.commit(lambda env: env['cache.warmup'].browse(self.run_id)._begin(self.engine))
            run = warming.Run(
                self.engine,
                connection,
                self.run_id,
                lambda line: time.sleep(0.02) or replay.Outcome('warmed'),
                10,
                sleep=pauses.append,
            )
            run.work(float('inf'))
        self.assertEqual(len(pauses), 3)
        self.assertGreaterEqual(min(pauses), 0.02)

    def test_the_scheduled_action_does_it(self):
        self.start()
        self.commit(lambda env: env['cache.warmup']._cron_run())
        self.assertEqual(self.values('state', 'present'), ('done', 3))

    def test_another_registry_ends_the_slice_and_the_next_goes_on(self):
        self.start()
        with patch.object(replay.Replayer, '_check_registry', side_effect=replay.Stale):
            self.assertEqual(self.slice(float('inf')), 'running')
        self.assertEqual(self.slice(float('inf')), 'done')


@tagged('post_install', '-at_install')
class TestWhen(WarmupCase):
    def due(self, id_, age_s=None, fingerprint=None):
        def work(env):
            with (
                patch.object(cache_warmup, 'server_age_s', return_value=age_s),
                patch.object(
                    cache_warmup,
                    '_fingerprint',
                    side_effect=lambda _e: fingerprint or self.fingerprint,
                ),
            ):
                env['cache.warmup']._wake_what_is_due(self.engine)
                record = env['cache.warmup'].browse(id_)
                return record.state == 'waiting' and record.trigger

        return self.commit(work)

    def setUp(self):
        super().setUp()
        self.fingerprint = cache_warmup._fingerprint(self.engine)

    def age(self, id_, hours):
        self.sql(
            "UPDATE cache_warmup SET create_date = create_date - make_interval(hours => %s),"
            " started_at = started_at - make_interval(hours => %s) WHERE id = %s",
            [hours, hours, id_],
        )

    def test_after_a_restart_and_not_twice(self):
        id_ = self.warmup()
        self.assertFalse(self.due(id_, age_s=5))  # newer than the server
        self.age(id_, 1)
        self.assertFalse(self.due(id_))  # no server: a shell, an upgrade
        self.assertEqual(self.due(id_, age_s=60), 'restart')
        self.run_it(id_)
        self.assertFalse(self.due(id_, age_s=60))

    def test_a_run_that_was_under_way_when_the_server_ended_begins_anew(self):
        id_ = self.warmup()
        self.run_it(id_)
        self.age(id_, 1)
        self.sql("UPDATE cache_warmup SET state = 'running' WHERE id = %s", [id_])
        self.assertEqual(self.due(id_, age_s=60), 'restart')

    def test_after_an_upgrade(self):
        id_ = self.warmup(after_restart=False)
        self.assertFalse(self.due(id_))
        self.assertEqual(self.due(id_, fingerprint='other code'), 'upgrade')

    def test_not_where_it_is_not_wanted(self):
        id_ = self.warmup(after_restart=False, after_upgrade=False)
        self.age(id_, 1)
        self.assertFalse(self.due(id_, age_s=60, fingerprint='other code'))

    def test_at_regular_times(self):
        now = fields.Datetime.now()
        id_ = self.warmup(
            after_restart=False, every_minutes=60, next_at=now - timedelta(minutes=61)
        )
        self.assertEqual(self.due(id_), 'time')
        ((next_at,),) = self.sql('SELECT next_at FROM cache_warmup WHERE id = %s', [id_])
        self.assertTrue(now < next_at <= now + timedelta(minutes=60))

    def loaded(self, age_s):
        """A process has loaded its registry; returns whether the scheduled action was woken."""

        def work(env):
            count = "SELECT count(*) FROM ir_cron_trigger"
            env.cr.execute(count)
            before = env.cr.fetchone()
            with patch.object(cache_warmup, 'server_age_s', return_value=age_s):
                env['cache.warmup']._register_hook()
            env.cr.execute(count)
            return env.cr.fetchone() != before

        with self.request(commit=False) as env:
            return work(env)

    def test_a_server_that_starts_wakes_the_scheduled_action(self):
        self.assertFalse(self.loaded(5.0))
        id_ = self.warmup()
        self.assertTrue(self.loaded(5.0))
        self.assertFalse(self.loaded(None))  # a shell, an upgrade
        self.commit(lambda env: env['cache.warmup'].browse(id_).write({'active': False}))
        self.assertFalse(self.loaded(5.0))

    def test_the_age_of_the_server_is_that_of_its_first_process(self):
        self.assertIsNone(cache_warmup.server_age_s())  # tests stop after their run


@tagged('post_install', '-at_install')
class TestPreload(WarmupCase):
    def test_a_new_process_has_the_best_in_memory(self):
        self.record()
        self.engine.outbox.flush()
        with self.other_worker() as other:
            other.outbox.flush()
            self.assertEqual(other.preloader.loaded, 1)
            with self.assertHit('l1'), self.request() as env:
                self.read(env)

    def test_what_a_warmup_stores_reaches_processes_that_are_running(self):
        self.record()
        self.restart()
        id_, first = self.warmup(), self.engine
        with self.other_worker() as other:
            other.outbox.flush()
            self.assertEqual(other.preloader.loaded, 0)
            with self.other_worker(first):
                self.assertEqual(self.run_it(id_)['warmed'], 1)
            self.assertEqual(other.preloader.loaded, 0)
            other.preloader.follow()
            with self.assertHit('l1'), self.request() as env:
                self.read(env)

    def test_what_was_brought_is_judged_like_any_other(self):
        self.record()
        self.engine.outbox.flush()
        with self.other_worker() as other:
            other.outbox.flush()
            self.sql("UPDATE res_bank SET name = 'After' WHERE id = %s", [self.bank])
            with self.assertMiss('stale'), self.request() as env:
                self.assertEqual(self.read(env)[0]['name'], 'After')

    def kept_in(self, other):
        """The entries that another process has in memory."""
        return list(other.hierarchy.tiers['l1']._cache.values())

    def test_what_memory_has_is_not_replaced_by_what_is_older(self):
        self.record()
        self.engine.outbox.flush()
        with self.other_worker() as other:
            other.outbox.flush()
            (entry,) = self.kept_in(other)
            newer = dataclasses.replace(entry, created=entry.created + 1)
            other.hierarchy.tiers['l1'].set(newer)
            other.preloader._newest = 0.0
            other.preloader.work()
            self.assertEqual([kept.created for kept in self.kept_in(other)], [newer.created])

    def test_it_lives_in_memory_as_long_as_memory_may_keep_it(self):
        self.record()
        self.engine.outbox.flush()
        self.configure(l1_ttl_s='100')
        with self.other_worker() as other:
            other.outbox.flush()
            (entry,) = self.kept_in(other)
            self.assertLessEqual(entry.expires, entry.created + 100)

    def test_no_more_than_half_of_memory(self):
        self.patch(preload, 'MAX_SHARE', 0.0)
        self.record()
        self.engine.outbox.flush()
        with self.other_worker() as other:
            other.outbox.flush()
            self.assertEqual(other.preloader.loaded, 0)


@tagged('post_install', '-at_install')
class TestWarmupRecords(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = new_test_user(cls.env, 'tc_warm_admin', 'tiered_cache.group_cache_admin')
        cls.user = new_test_user(cls.env, 'tc_warm_user', 'tiered_cache.group_cache_user')
        cls.model = cls.env['cache.warmup'].with_user(cls.admin)
        call = calls.Call(
            'orm', 'res.bank', 'search_read', '', (), ([('name', '=', 'Somebody')],), {},
            cls.user.id, False, {'lang': 'en_US'}, None,
        )  # fmt: skip
        calls.write(cls.env.cr, [('k1', 3, 900.0, calls.pack(call))])
        cls.call = cls.env['cache.call'].search([('user_id', '=', cls.user.id)])

    def test_new_and_save_are_enough(self):
        record = self.model.create({})
        self.assertTrue(record.name)
        self.assertEqual((record.kind, record.state), ('hot', 'idle'))
        self.assertTrue(record.after_restart and record.after_upgrade)

    def test_learn_fills_the_list(self):
        record = self.model.create({'kind': 'list', 'user_ids': [(4, self.user.id)]})
        notice = record.action_learn()
        self.assertEqual(notice['params']['type'], 'success')
        self.assertEqual(record.line_ids.call_id, self.call)
        record.action_learn()
        self.assertEqual(len(record.line_ids), 1)

    def test_learning_of_nothing_says_so(self):
        record = self.model.create({'kind': 'list', 'user_ids': [(4, self.admin.id)]})
        self.assertEqual(record.action_learn()['params']['type'], 'warning')

    def test_the_list_is_not_changed_under_a_run(self):
        record = self.model.create({'kind': 'list'})
        record.action_start()
        with self.assertRaises(UserError):
            record.action_learn()

    def test_start_and_stop(self):
        record = self.model.create({})
        record.action_start()
        self.assertEqual(record.state, 'waiting')
        record.action_stop()
        self.assertEqual(record.state, 'stopped')
        record.action_continue()
        self.assertEqual(record.state, 'running')
        with self.assertRaises(UserError):
            record.action_continue()

    def test_start_wakes_the_scheduled_action(self):
        cron = self.env.ref('tiered_cache.ir_cron_warmup')
        before = self.env['ir.cron.trigger'].search_count([('cron_id', '=', cron.id)])
        self.model.create({}).action_start()
        after = self.env['ir.cron.trigger'].search_count([('cron_id', '=', cron.id)])
        self.assertEqual(after, before + 1)

    def test_arguments_are_for_cache_administrators(self):
        self.assertIn('Somebody', self.call.with_user(self.admin).arguments)
        for model in ('cache.call', 'cache.warmup', 'cache.warmup.line'):
            with self.subTest(model), self.assertRaises(AccessError):
                self.env[model].with_user(self.user).search([])
        with self.assertRaises(AccessError):
            self.call.with_user(self.admin).read(['body'])

    def test_nobody_writes_calls_or_what_happened(self):
        with self.assertRaises(AccessError):
            self.call.with_user(self.admin).write({'model': 'res.users'})
        with self.assertRaises(AccessError):
            self.env['cache.call'].with_user(self.admin).create({'model': 'res.users'})
        record = self.model.create({})
        with self.assertRaises(UserError):
            record.write({'state': 'running'})
        line = {'warmup_id': record.id, 'call_id': self.call.id}
        with self.assertRaises(AccessError):
            self.env['cache.warmup.line'].with_user(self.admin).create(line)

    def test_numbers_have_limits(self):
        for vals in (
            {'max_calls': 0},
            {'max_calls': 10_001},
            {'days': 0},
            {'budget_s': 0},
            {'every_minutes': -1},
            {'kind': 'namespace'},
            {'kind': 'namespace', 'namespace': 'a*'},
            {'kind': 'method'},
        ):
            with self.subTest(vals), self.assertRaises(ValidationError):
                self.model.create(vals)

    def test_a_packed_call_comes_back_and_nothing_else_does(self):
        self.env.cr.execute('SELECT body FROM cache_call WHERE id = %s', [self.call.id])
        body = bytes(self.env.cr.fetchone()[0])
        self.assertEqual(calls.unpack(body).args, ([('name', '=', 'Somebody')],))
        for wrong in (b'', b'x', codec.pack((2, 'orm')), codec.pack([1])):
            with self.subTest(wrong), self.assertRaises(codec.CorruptPayload):
                calls.unpack(wrong)
