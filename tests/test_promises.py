"""What a cached read promises (P1 to P10), each with real commits on several connections."""

# "read" and "write" are what these tests do, not overrides of a model's methods
# pylint: disable=method-required-super

import contextlib
import io
import random
import threading
from unittest.mock import patch

import psycopg2
from psycopg2.errors import SerializationFailure

from odoo import api
from odoo.orm.registry import DummyRLock
from odoo.sql_db import db_connect
from odoo.tests import tagged

from .common import ADMIN, CacheCase


class BankCase(CacheCase):
    """One bank, and a read of its name."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bank = cls.make_for_class('res.bank', {'name': 'Tiered Bank', 'bic': 'TIEREDXX'})

    def setUp(self):
        super().setUp()
        self.rename('Tiered Bank')

    def read(self, env):
        return env['res.bank'].search_read([('id', '=', self.bank)], ['name', 'bic'])

    def name(self, env):
        return self.read(env)[0]['name']

    @classmethod
    def rename(cls, name):
        cls.commit(lambda env: env['res.bank'].browse(cls.bank).write({'name': name}))

    def journal_rows(self, relation='res_bank'):
        return self.sql("SELECT count(*) FROM cache_change WHERE relation = %s", [relation])[0][0]


METHODS = {
    'search_read': lambda m: m.search_read([], ['name', 'parent_id', 'category_id'], limit=20),
    'web_search_read': lambda m: m.web_search_read(
        [], {'display_name': {}, 'child_ids': {'fields': {'name': {}}}, 'write_date': {}}, limit=9
    ),
    'read': lambda m: m.browse(1).read(['name', 'company_id', 'create_date']),
    'web_read': lambda m: m.browse(1).web_read(
        {'name': {}, 'country_id': {'fields': {'code': {}}}}
    ),
    'search_count': lambda m: m.search_count([('active', '=', True)]),
    'name_search': lambda m: m.name_search('a'),
    'web_name_search': lambda m: m.web_name_search('a', {'display_name': {}, 'email': {}}),
    'formatted_read_group': lambda m: m.formatted_read_group(
        [], ['country_id', 'create_date:month'], ['__count', 'color:sum']
    ),
    'formatted_read_grouping_sets': lambda m: m.formatted_read_grouping_sets(
        [], [['country_id'], []], ['__count']
    ),
    'web_read_group': lambda m: m.web_read_group([], ['company_id'], ['__count']),
    'read_progress_bar': lambda m: m.read_progress_bar(
        [], 'country_id', {'field': 'type', 'colors': {'contact': 'success', 'invoice': 'muted'}}
    ),
    'search_panel_select_range': lambda m: m.search_panel_select_range('parent_id'),
    'search_panel_select_multi_range': lambda m: m.search_panel_select_multi_range('category_id'),
    'get_views': lambda m: m.get_views([(False, 'list'), (False, 'form')]),
    'fields_get': lambda m: m.fields_get(['name', 'lang', 'tz']),
}


@tagged('post_install', '-at_install')
class TestSnapshotEquivalence(BankCase):
    """P1."""

    def test_p1_a_hit_equals_the_computation_in_value_and_type(self):
        for method, call in METHODS.items():
            with self.subTest(method=method):
                self.warm(lambda env, c=call: c(env['res.partner']))
                with self.assertHit(), self.request() as env:
                    cached = call(env['res.partner'])
                with self.request() as env:
                    self.assertSame(cached, self.plain(lambda e, c=call: c(e['res.partner']), env))

    def test_p1_what_is_computed_in_an_old_snapshot_is_not_served_to_a_newer_one(self):
        self.warm(self.read)
        self.forget()
        with self.request() as slow:
            slow.cr.execute("SELECT 1")  # its snapshot is fixed here
            self.rename('After')
            self.assertEqual(self.name(slow), 'Tiered Bank')  # fills the cache now
        with self.request() as third:
            self.assertEqual(self.name(third), 'After')

    def test_p1_also_if_the_slow_reader_had_looked_before_the_write(self):
        self.warm(self.read)
        self.forget()
        with self.request() as slow:
            slow['res.bank'].search_count([])  # looks at the versions
            self.rename('After')
            self.assertEqual(self.name(slow), 'Tiered Bank')
        with self.request() as third:
            self.assertEqual(self.name(third), 'After')

    def test_p1_an_old_snapshot_is_not_served_what_is_newer(self):
        self.warm(self.read)
        with self.request() as old:
            old.cr.execute("SELECT 1")
            self.rename('After')
            self.assertEqual(self.warm(self.read)[0]['name'], 'After')
            self.assertEqual(self.name(old), 'Tiered Bank')

    def test_p1_what_a_slow_reader_keeps_has_the_versions_that_it_saw(self):
        """Other requests of the process look, and go on, before it computes."""
        self.warm(self.read)
        with self.request() as slow:
            self.read(slow)  # asks what its snapshot shows
            self.rename('New')
            with self.request() as env:
                env['res.country'].search_count([])  # the process learns of the write
            self.forget()
            self.assertEqual(self.name(slow), 'Tiered Bank')
        with self.assertMiss('stale'), self.request() as env:
            self.assertEqual(self.name(env), 'New')

    def test_p1_an_old_snapshot_is_still_served_what_it_shows(self):
        self.warm(self.read)
        with self.request() as old:
            self.read(old)
            self.rename('After')
            with self.assertHit():
                self.assertEqual(self.name(old), 'Tiered Bank')

    def test_p1_two_writers_commit_in_the_other_order_than_they_began(self):
        other = self.make('res.bank', {'name': 'Other'})

        def names(env):
            return [
                b['name']
                for b in env['res.bank'].search_read(
                    [('id', 'in', (self.bank, other))], ['name'], order='id'
                )
            ]

        self.warm(names)
        with self.request(commit=False) as first:
            first['res.bank'].browse(self.bank).name = 'First'
            first.flush_all()  # takes the lower transaction id and the lower journal id
            self.commit(lambda env: env['res.bank'].browse(other).write({'name': 'Second'}))
            self.assertEqual(self.warm(names), ['Tiered Bank', 'Second'])
            first.cr.commit()
        with self.assertMiss('stale'), self.request() as env:
            self.assertEqual(names(env), ['First', 'Second'])

    def test_p1_under_concurrent_writers_every_answer_is_that_of_its_snapshot(self):
        banks = [self.make('res.bank', {'name': f'Bank {i}', 'bic': '0'}) for i in range(6)]
        self.warm(self.read)
        wrong, faults, start = [], [], len(self.log.events)

        def client(seed):
            dice = random.Random(seed)
            try:
                for _round in range(60):
                    with contextlib.suppress(SerializationFailure), self.request() as env:
                        self._one_transaction(env, dice, banks, wrong)
            except Exception as error:  # noqa: BLE001 a thread has nobody to tell
                faults.append(error)

        # the server holds the lock of all registries while it runs tests
        self.patch(type(self.registry), '_lock', DummyRLock())
        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        self.assertEqual((wrong, faults), ([], []))
        self.assertTrue([e for e in self.log.events[start:] if e.what == 'hit'], "no hit at all")

    @staticmethod
    def _one_transaction(env, dice, banks, wrong):
        bank = env['res.bank'].browse(dice.choice(banks))
        if dice.random() < 0.1:
            # two threads may want the same row: one of them is told so, which is no fault here
            env.cr.execute(
                "UPDATE res_bank SET bic = (bic::int + 1)::text WHERE id = %s",
                [bank.id],
                log_exceptions=False,
            )
            return
        for _again in range(2):
            answer = env['res.bank'].search_read([('id', '=', bank.id)], ['bic'])[0]['bic']
            env.cr.execute("SELECT bic FROM res_bank WHERE id = %s", [bank.id])
            if answer != env.cr.fetchone()[0]:
                wrong.append((bank.id, answer))

    def test_p1_without_one_snapshot_for_the_transaction_nothing_is_asked(self):
        self.warm(self.read)
        level = psycopg2.extensions.ISOLATION_LEVEL_READ_COMMITTED
        for _twice in range(2):
            with contextlib.closing(db_connect(self.registry.db_name).cursor()) as cr:
                cr.connection.set_isolation_level(level)
                with self.assertMiss('uncacheable'):
                    self.read(api.Environment(cr, ADMIN, {'lang': 'en_US'}))

    def test_p1_in_autocommit_nothing_is_asked(self):
        self.warm(self.read)
        with contextlib.closing(db_connect(self.registry.db_name).cursor()) as cr:
            cr.connection.autocommit = True
            self.addCleanup(setattr, cr.connection, 'autocommit', False)
            with self.assertMiss('uncacheable'):
                self.read(api.Environment(cr, ADMIN, {'lang': 'en_US'}))

    def test_p1_what_was_computed_across_a_commit_is_not_kept(self):
        self.warm(self.read)
        self.forget()
        model = self.registry['res.bank']
        plain = model._search

        def committing(records, *args, **kwargs):
            found = plain(records, *args, **kwargs)
            records.env.cr.commit()
            self.sql("UPDATE res_bank SET name = 'Between' WHERE id = %s", [self.bank])
            return found

        with patch.object(model, '_search', committing), self.request() as env:
            self.read(env)
        with self.assertMiss('cold'), self.request() as env:
            self.assertEqual(self.name(env), 'Between')

    def test_p1_what_runs_after_a_commit_is_in_another_snapshot(self):
        self.warm(self.read)
        seen = []
        with self.request() as env:
            self.read(env)

            @env.cr.postcommit.add
            def after():
                self.sql("UPDATE res_bank SET name = 'After' WHERE id = %s", [self.bank])
                seen.append(self.name(env))

        self.assertEqual(seen, ['After'])

    def test_p1_a_read_only_cursor_is_answered_too(self):
        self.warm(self.read)
        self.warm(self.read, readonly=True)
        self.rename('After')
        with self.request(readonly=True) as env:
            self.assertEqual(self.name(env), 'After')

    def test_p1_a_hit_costs_one_query(self):
        self.warm(self.read)
        with self.request() as env:
            before = env.cr.sql_log_count
            with self.assertHit():
                self.read(env)
            self.assertEqual(env.cr.sql_log_count - before, 1)

    def test_p1_a_second_hit_in_the_transaction_costs_none(self):
        self.warm(self.read)
        with self.request() as env:
            self.read(env)
            before = env.cr.sql_log_count
            with self.assertHit():
                self.read(env)
            self.assertEqual(env.cr.sql_log_count, before)


@tagged('post_install', '-at_install')
class TestOwnWrites(BankCase):
    """P2."""

    def setUp(self):
        super().setUp()
        self.warm(self.read)

    def test_p2_a_transaction_sees_its_own_orm_write(self):
        with self.request(commit=False) as env:
            env['res.bank'].browse(self.bank).name = 'Mine'
            with self.assertMiss('dirty'):
                self.assertEqual(self.name(env), 'Mine')

    def test_p2_a_transaction_sees_its_own_raw_sql(self):
        with self.request(commit=False) as env:
            env.cr.execute("UPDATE res_bank SET name = 'Raw' WHERE id = %s", [self.bank])
            with self.assertMiss('dirty'):
                self.assertEqual(self.name(env), 'Raw')

    def test_p2_also_if_it_has_read_from_the_cache_before(self):
        with self.request(commit=False) as env:
            with self.assertHit():
                self.read(env)
            env.cr.execute("UPDATE res_bank SET name = 'Raw' WHERE id = %s", [self.bank])
            with self.assertMiss('dirty'):
                self.assertEqual(self.name(env), 'Raw')

    def test_p2_a_transaction_sees_its_own_copy(self):
        with self.request(commit=False) as env:
            count = env['res.bank'].search_count([])
            env.cr._obj.copy_expert(
                "COPY res_bank (name, active) FROM STDIN", io.StringIO("Copied\tt\n")
            )
            self.assertEqual(env['res.bank'].search_count([]), count + 1)

    def test_p2_a_deleted_record_is_gone_at_once(self):
        with self.request(commit=False) as env:
            env['res.bank'].browse(self.bank).unlink()
            self.assertEqual(self.read(env), [])

    def test_p2_values_that_are_not_flushed_are_seen(self):
        partner = self.make('res.partner', {'name': 'Unflushed'})

        def read(env):
            return env['res.partner'].search_read([('id', '=', partner)], ['name'])

        self.warm(read)
        with self.request(commit=False) as env:
            record = env['res.partner'].browse(partner)
            field = record._fields['name']
            field._update_cache(record, 'In memory', dirty=True)
            with self.assertMiss('dirty'):
                self.assertEqual(read(env)[0]['name'], 'In memory')

    def test_p2_what_is_still_to_be_recomputed_is_not_served(self):
        partner = self.make('res.partner', {'name': 'To compute'})

        def read(env):
            return env['res.partner'].search_read([('id', '=', partner)], ['name'])

        self.warm(read)
        with self.request(commit=False) as env:
            record = env['res.partner'].browse(partner)
            env.add_to_compute(record._fields['commercial_partner_id'], record)
            with self.assertMiss('dirty'):
                read(env)

    def test_p2_a_transaction_that_changed_ormcache_values_or_models_computes(self):
        with self.request(commit=False) as env:
            self.registry.cache_invalidated.add('default')
            with self.assertMiss('dirty'):
                self.read(env)
            self.registry.cache_invalidated.clear()
            self.registry.registry_invalidated = True
            with self.assertMiss('dirty'):
                self.read(env)
            self.registry.registry_invalidated = False

    def test_p2_what_a_writer_computes_is_not_kept(self):
        self.forget()
        with self.request(commit=False) as env:
            env['res.bank'].browse(self.bank).name = 'Mine'
            self.read(env)
        with self.assertMiss('cold'), self.request() as env:
            self.assertEqual(self.name(env), 'Tiered Bank')

    def test_p2_what_was_computed_around_a_write_is_not_kept(self):
        self.forget()
        model = self.registry['res.bank']
        plain = model._search

        def search_and_write(records, *args, **kwargs):
            records.env.cr.execute("UPDATE res_bank SET bic = bic WHERE id = %s", [self.bank])
            return plain(records, *args, **kwargs)

        with (
            patch.object(model, '_search', search_and_write),
            self.assertMiss('uncacheable'),
            self.request(commit=False) as env,
        ):
            self.read(env)

    def test_p2_what_was_computed_around_an_unflushed_write_is_not_kept(self):
        self.forget()
        model = self.registry['res.bank']
        plain = model._search

        def search_and_write(records, *args, **kwargs):
            found = plain(records, *args, **kwargs)
            records.env['res.country'].browse(1).phone_code = 7  # in memory, no SQL yet
            return found

        with (
            patch.object(model, '_search', search_and_write),
            self.assertMiss('dirty'),
            self.request(commit=False) as env,
        ):
            self.read(env)

    def test_p2_a_written_savepoint_that_is_rolled_back_leaves_no_trace(self):
        with self.request() as env:
            with contextlib.suppress(ZeroDivisionError), env.cr.savepoint():
                env['res.bank'].browse(self.bank).name = 'Never'
                env.flush_all()
                raise ZeroDivisionError
            env.invalidate_all()
            self.assertEqual(self.name(env), 'Tiered Bank')
        with self.request() as env:
            self.assertEqual(self.name(env), 'Tiered Bank')

    def test_p2_the_next_transaction_of_a_cursor_may_use_the_cache_again(self):
        with self.request() as env:
            env['res.bank'].browse(self.bank).name = 'Mine'
            env.cr.commit()
            env.transaction.reset()
            self.registry.signal_changes()
        self.warm(self.read)
        with self.request(commit=False) as env:
            env['res.bank'].browse(self.bank).name = 'Never'
            env.flush_all()
            env.cr.rollback()
            env.transaction.reset()
            with self.assertHit():
                self.assertEqual(self.name(env), 'Mine')


@tagged('post_install', '-at_install')
class TestNothingUncommitted(BankCase):
    """P3."""

    def test_p3_rollback_publishes_nothing(self):
        self.warm(self.read)
        rows = self.journal_rows()
        with self.request(commit=False) as env:
            env['res.bank'].browse(self.bank).name = 'Never'
            env.flush_all()
            self.read(env)
        self.assertEqual(self.journal_rows(), rows)
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.name(env), 'Tiered Bank')

    def test_p3_an_exception_publishes_nothing(self):
        self.warm(self.read)
        with contextlib.suppress(ZeroDivisionError), self.request() as env:
            env['res.bank'].browse(self.bank).name = 'Never'
            env.flush_all()
            self.read(env)
            raise ZeroDivisionError
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.name(env), 'Tiered Bank')

    def test_p3_savepoint_rollback_publishes_nothing(self):
        self.warm(self.read)
        rows = self.journal_rows()
        with self.request() as env, contextlib.suppress(ZeroDivisionError), env.cr.savepoint():
            env['res.bank'].browse(self.bank).name = 'Never'
            env.flush_all()
            raise ZeroDivisionError
        self.assertEqual(self.journal_rows(), rows)
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.name(env), 'Tiered Bank')

    def test_p3_a_write_after_a_savepoint_rollback_is_published(self):
        self.warm(self.read)
        with self.request() as env:
            with contextlib.suppress(ZeroDivisionError), env.cr.savepoint():
                env['res.bank'].browse(self.bank).name = 'Never'
                env.flush_all()
                raise ZeroDivisionError
            env.cr.execute("UPDATE res_bank SET name = 'Kept' WHERE id = %s", [self.bank])
        with self.assertMiss('stale', 'res_bank'), self.request() as env:
            self.assertEqual(self.name(env), 'Kept')

    def test_p3_a_write_in_progress_is_not_seen_by_others(self):
        self.warm(self.read)
        with self.request(commit=False) as writer:
            writer['res.bank'].browse(self.bank).name = 'In progress'
            writer.flush_all()
            self.read(writer)
            with self.assertHit(), self.request() as reader:
                self.assertEqual(self.name(reader), 'Tiered Bank')

    def test_p3_a_removal_that_is_rolled_back_removes_no_valid_entry(self):
        self.warm(self.read)
        before = self.journal_rows('#all')
        with self.request(api.SUPERUSER_ID, commit=False) as env:
            env['cache.manager'].invalidate_all()
        self.assertEqual(self.warm(self.read)[0]['name'], 'Tiered Bank')
        self.assertEqual(self.journal_rows('#all'), before)


@tagged('post_install', '-at_install')
class TestNoCrashGap(BankCase):
    """P4."""

    def test_p4_the_version_changes_in_the_commit_of_the_data(self):
        self.warm(self.read)
        with self.request() as env:
            env.cr.execute("UPDATE res_bank SET bic = bic WHERE id = %s", [self.bank])
            env.cr.execute(
                "SELECT count(*) FROM cache_change"
                " WHERE relation = 'res_bank' AND xid = pg_current_xact_id()"
            )
            self.assertEqual(env.cr.fetchone(), (1,))

    def test_p4_a_writer_that_dies_right_after_its_commit_is_seen(self):
        self.warm(self.read)
        connection = self.engine.connect()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE res_bank SET name = 'Last words' WHERE id = %s", [self.bank])
            cursor.execute("COMMIT")
        connection.close()  # nothing of Odoo ran after the commit
        with self.assertMiss('stale', 'res_bank'), self.request() as env:
            self.assertEqual(self.name(env), 'Last words')

    def test_p4_a_writer_that_dies_before_its_commit_is_not(self):
        self.warm(self.read)
        connection = self.engine.connect()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE res_bank SET name = 'Lost' WHERE id = %s", [self.bank])
        connection.close()
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.name(env), 'Tiered Bank')


@tagged('post_install', '-at_install')
class TestIsolationOfValues(BankCase):
    """P8."""

    def test_p8_callers_may_change_what_a_hit_gave_them(self):
        self.warm(self.read)
        with self.request() as env:
            first = self.read(env)
            first[0]['name'] = 'Changed by the caller'
            first.append('more')
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.name(env), 'Tiered Bank')

    def test_p8_callers_may_change_what_was_computed_and_kept(self):
        self.warm(self.read)
        self.forget()
        with self.request() as env:
            self.read(env)[0]['name'] = 'Changed by the caller'
        with self.assertHit(), self.request() as env:
            self.assertEqual(self.name(env), 'Tiered Bank')

    def test_p8_callers_may_change_the_arguments_they_passed(self):
        domain, fields = [('id', '=', self.bank)], ['name']
        with self.request() as env:
            env['res.bank'].search_read(domain, fields)
            domain.append(('name', '=', 'nobody'))
        with self.request() as env:
            self.assertEqual(env['res.bank'].search_read(domain, fields), [])


@tagged('post_install', '-at_install')
class TestCodeSafety(BankCase):
    """P9."""

    def test_p9_other_code_is_never_served_what_this_code_kept(self):
        self.warm(self.read)
        self.patch(self.engine, 'code', '0123456789abcdef')
        with self.assertMiss('cold'), self.request() as env:
            self.read(env)

    def test_p9_a_module_upgrade_makes_everything_cold(self):
        self.warm(self.read)
        with (
            patch.object(self.registry, 'registry_sequence', self.registry.registry_sequence + 1),
            patch.object(self.engine, 'signals_fit', return_value=True),
            patch.object(type(self.registry), 'check_signaling'),
            self.assertMiss('cold'),
            self.request() as env,
        ):
            self.read(env)

    def test_p9_a_process_that_has_not_reloaded_its_registry_computes(self):
        self.assertComputesAfterSignal('orm_signaling_registry')

    def test_p9_a_process_that_has_not_dropped_its_ormcache_values_computes(self):
        self.assertComputesAfterSignal('orm_signaling_groups')

    def assertComputesAfterSignal(self, table):
        """On a signal of another process that this one has not acted on yet."""
        self.warm(self.read)
        # not the next value of the sequence, which Odoo expects for its next own signal
        self.sql(f"INSERT INTO {table} (id) SELECT max(id) + 1 FROM {table}")
        self.addCleanup(self.sql, f"DELETE FROM {table} WHERE id = (SELECT max(id) FROM {table})")
        with (
            patch.object(type(self.registry), 'check_signaling'),
            self.assertMiss('old_snapshot'),
            self.request() as env,
        ):
            self.read(env)

    def test_p9_what_was_computed_while_a_signal_came_in_is_not_kept(self):
        model, sequence = self.registry['res.bank'], self.registry.registry_sequence
        search = model._search

        def signalled(records, *args, **kwargs):
            self.registry.registry_sequence = sequence + 1  # another thread acts on it
            return search(records, *args, **kwargs)

        self.patch(model, '_search', signalled)
        with self.assertMiss('old_snapshot'), self.request() as env:
            try:
                self.read(env)
            finally:
                self.registry.registry_sequence = sequence

    def test_p9_every_result_depends_on_rights_languages_and_signals(self):
        self.warm(self.read)
        (entry,) = self.engine.hierarchy.tiers['l1']._cache.values()
        found = {relation for relation, *_ in entry.dependencies}
        self.assertLessEqual(
            {
                '#all',
                'cache_rule',
                'ir_config_parameter',
                'ir_model_access',
                'ir_rule',
                'orm_signaling_default',
                'orm_signaling_groups',
                'orm_signaling_registry',
                'res_bank',
                'res_company',
                'res_company_users_rel',
                'res_groups',
                'res_groups_implied_rel',
                'res_groups_users_rel',
                'res_lang',
                'res_users',
                'rule_group_rel',
            },
            found,
        )

    def test_p9_another_format_of_the_payload_has_other_keys(self):
        self.warm(self.read)
        with (
            patch('odoo.addons.tiered_cache.services.keys.FORMAT_VERSION', 999),
            self.assertMiss('cold'),
            self.request() as env,
        ):
            self.read(env)

    def test_p9_the_fingerprint_covers_the_python_code_of_a_module(self):
        from odoo.addons.tiered_cache.services import fingerprint  # noqa: PLC0415

        before = fingerprint.code_fingerprint(['base', 'tiered_cache'])
        self.assertEqual(before, fingerprint.code_fingerprint(['tiered_cache', 'base']))
        self.assertNotEqual(before, fingerprint.code_fingerprint(['base']))

    def test_p9_translations_in_use_count_as_code(self):
        running_code = 'odoo.addons.tiered_cache.services.engine.running_code'
        with patch(running_code, return_value=self.engine.code) as told:
            self.assertTrue(self.engine._prepare())
        db_name, modules, languages = told.call_args.args
        self.assertEqual(db_name, self.engine.db_name)
        self.assertIn('tiered_cache', modules)
        self.assertIn('en_US', languages)


@tagged('post_install', '-at_install')
class TestBounds(BankCase):
    """P10."""

    def test_p10_l1_holds_no_more_entries_than_configured(self):
        self.warm(self.read)
        self.configure(l1_max_entries='5')
        with self.request() as env:
            for number in range(20):
                env['res.bank'].search_count([('id', '>', number)])
        self.assertLessEqual(self.engine.hierarchy.tiers['l1'].stats()['entries'], 5)

    def test_p10_an_entry_that_had_to_go_is_missed_as_evicted(self):
        self.warm(self.read)
        self.configure(l1_max_entries='5')
        with self.request() as env:
            for number in range(20):
                env['res.bank'].search_count([('id', '>', number)])
        with self.assertMiss('evicted'), self.request() as env:
            env['res.bank'].search_count([('id', '>', 0)])

    def test_p10_a_result_larger_than_the_limit_is_not_kept(self):
        self.warm(self.read)
        self.forget()
        self.configure(max_entry_kb='0')
        for _twice in range(2):
            with self.assertMiss('large'), self.request() as env:
                self.read(env)

    def test_p10_the_journal_has_one_row_per_transaction_and_relation(self):
        self.warm(self.read)
        rows = self.journal_rows()
        with self.request(ADMIN) as env:
            for _thrice in range(3):
                env.cr.execute("UPDATE res_bank SET bic = bic WHERE id = %s", [self.bank])
        self.assertEqual(self.journal_rows(), rows + 1)
