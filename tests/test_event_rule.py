"""Event rules remove what they say, together with the change and never less."""

import contextlib
import os
import pathlib
import subprocess
from unittest.mock import patch

import psycopg2

from odoo.api import Environment
from odoo.exceptions import AccessError, ValidationError
from odoo.tests import TransactionCase, new_test_user, tagged
from odoo.tests.common import get_db_name
from odoo.tools import mute_logger

from ..services import event_rules, event_templates, events, journal, keys
from ..services.removal import Removals
from .common import ADMIN, CacheCase
from .tier_tools import make_entry

KEY = 'v1:bank:detail:{}'


class Refused(Exception):
    """Raised to leave a savepoint."""


class RuleCase(CacheCase):
    def rule(self, names='bank:detail:{id}', event='res.bank.updated', **values):
        return self.make('cache.event.rule', {'event': event, 'names': names, **values})

    def bank(self, **values):
        return self.make('res.bank', {'name': 'Bank', **values})

    def rows(self):
        """Removals in the journal, as another program sees them."""
        return [
            relation
            for (relation,) in self.sql(
                "SELECT relation FROM cache_change WHERE relation ~ '^(key|pattern):' ORDER BY id"
            )
        ]

    @contextlib.contextmanager
    def removals(self):
        """The removals that are committed within it, as a set that is filled at the end."""
        before = len(self.rows())
        found = RemovedRows()
        yield found
        found.update(self.rows()[before:])

    def assertRemoves(self, rows, *parts):
        """What was kept of just these records is removed, in all variants."""
        for part in parts:
            self.assertTrue(rows.meets(KEY.format(part)), (part, rows))
            self.assertTrue(rows.meets(KEY.format(part) + '@0123'), (part, rows))


class RemovedRows(set):
    def meets(self, key):
        return Removals(dict.fromkeys(self, 1)).version(key) != 0


@tagged('post_install', '-at_install')
class TestEventRule(RuleCase):
    # -- together with the change ------------------------------------------------------

    def test_an_update_removes_the_record_and_no_other(self):
        self.rule()
        id_, other = self.bank(), self.bank()
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        self.assertRemoves(rows, id_)
        self.assertFalse(rows.meets(KEY.format(other)))

    def test_the_removal_is_committed_by_the_change_itself(self):
        """A worker that dies right after COMMIT has lost nothing."""
        self.rule()
        id_ = self.bank()
        with self.removals() as rows, self.request(commit=False) as env:
            env['res.bank'].browse(id_).name = 'New'
            env.cr.flush()
            env.cr._cnx.commit()
        self.assertRemoves(rows, id_)

    def test_a_worker_that_is_killed_after_its_commit_has_removed(self):
        self.rule()
        id_ = self.bank()
        with self.removals() as rows:
            code = self.shell(f"""
import os
env.cr.postcommit.add(lambda: os._exit(9))
env['res.bank'].browse({id_}).name = 'Killed'
env.cr.commit()
""")
        self.assertEqual(code, 9)
        with self.request() as env:
            self.assertEqual(env['res.bank'].browse(id_).name, 'Killed')
        self.assertRemoves(rows, id_)

    def shell(self, statements):
        """Run Python in a process of its own; returns its exit code."""
        launcher = os.environ.get('TIERED_CACHE_ODOO') or str(
            pathlib.Path(__file__).resolve().parents[1] / 'scripts' / 'odoo'
        )
        command = [launcher, 'shell', '-d', get_db_name(), '--no-http', '--log-level=error']
        return subprocess.run(
            command, input=statements, text=True, capture_output=True, timeout=120, check=False
        ).returncode

    def test_a_rollback_removes_nothing(self):
        self.rule()
        id_ = self.bank()
        with self.removals() as rows, self.request(commit=False) as env:
            env['res.bank'].browse(id_).name = 'New'
            env.cr.flush()
        self.assertEqual(rows, set())

    def test_what_is_rolled_back_to_a_savepoint_removes_nothing(self):
        self.rule()
        id_, kept = self.bank(), self.bank()
        for flush in (True, False):
            with self.subTest(flush=flush), self.removals() as rows, self.request() as env:
                env['res.bank'].browse(kept).name = f'Kept {flush}'
                env.flush_all()
                with contextlib.suppress(Refused), env.cr.savepoint(flush=flush):
                    env['res.bank'].browse(id_).name = 'Undone'
                    env.flush_all()
                    raise Refused
                env.invalidate_all(flush=False)
            self.assertRemoves(rows, kept)
            self.assertFalse(rows.meets(KEY.format(id_)))

    def test_what_was_written_inside_a_savepoint_for_an_earlier_change_is_written_again(self):
        """The earlier change was not flushed before the savepoint, and its removal was rolled
        back with it."""
        self.rule()
        id_ = self.bank()
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
            env.flush_all()
            with contextlib.suppress(Refused), env.cr.savepoint(flush=False):
                env.cr.flush()
                raise Refused
        self.assertRemoves(rows, id_)

    def test_a_released_savepoint_removes(self):
        self.rule()
        id_ = self.bank()
        with self.removals() as rows, self.request() as env, env.cr.savepoint():
            env['res.bank'].browse(id_).name = 'New'
        self.assertRemoves(rows, id_)

    def test_a_removal_is_written_once_per_transaction(self):
        self.rule()
        id_ = self.bank()
        with self.request() as env:
            before = len(self.rows())
            for i in range(5):
                with env.cr.savepoint():
                    env['res.bank'].browse(id_).name = f'New {i}'
        self.assertEqual(len(self.rows()) - before, len(event_templates.rows_of(KEY.format(id_))))

    def test_creations_and_deletions(self):
        self.rule(event='res.bank.created')
        self.rule(event='res.bank.deleted')
        with self.removals() as rows:
            id_ = self.bank()
        self.assertRemoves(rows, id_)
        with self.removals() as rows:
            self.remove('res.bank', id_)
        self.assertRemoves(rows, id_)

    def test_an_emitted_event_removes(self):
        self.rule(event='MY_EVENT')
        id_ = self.bank()
        with self.removals() as rows, self.request() as env:
            env['cache.event'].emit('MY_EVENT', env['res.bank'].browse(id_))
        self.assertRemoves(rows, id_)

    def test_an_emitted_event_removes_beside_a_change_of_the_same_records(self):
        self.rule(event='MY_EVENT', names='bank:emitted:{id}')
        self.rule()
        id_ = self.bank()
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
            env.flush_all()
            env['cache.event'].emit('MY_EVENT', env['res.bank'].browse(id_))
        self.assertRemoves(rows, id_)
        self.assertTrue(rows.meets(f'v1:bank:emitted:{id_}'))

    def test_it_removes_while_the_cache_is_off(self):
        self.rule()
        id_ = self.bank()
        self.configure(enabled='0')
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        self.assertRemoves(rows, id_)

    def test_it_removes_in_a_process_whose_engine_could_not_start(self):
        self.rule()
        id_ = self.bank()
        self.enterContext(self.unavailable())
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        self.assertRemoves(rows, id_)

    # -- which records -----------------------------------------------------------------

    def test_a_condition_chooses_records(self):
        self.rule(condition="[('city', '=', 'Ghent')]")
        inside, outside = self.bank(city='Ghent'), self.bank(city='Bruges')
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse([inside, outside]).name = 'New'
        self.assertRemoves(rows, inside)
        self.assertFalse(rows.meets(KEY.format(outside)))

    def test_a_record_that_matched_before_counts(self):
        self.rule(condition="[('city', '=', 'Ghent')]")
        id_ = self.bank(city='Ghent')
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).city = 'Bruges'
        self.assertRemoves(rows, id_)

    def test_a_record_that_matches_now_counts(self):
        self.rule(condition="[('city', '=', 'Ghent')]")
        id_ = self.bank(city='Bruges')
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).city = 'Ghent'
        self.assertRemoves(rows, id_)

    def test_a_deleted_record_counts_whatever_the_condition_says(self):
        self.rule(event='res.bank.deleted', condition="[('city', '=', 'Ghent')]")
        id_ = self.bank(city='Bruges')
        with self.removals() as rows:
            self.remove('res.bank', id_)
        self.assertRemoves(rows, id_)

    def test_an_archived_record_counts(self):
        self.rule(condition="[('name', '!=', False)]")
        id_ = self.bank()
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).active = False
        self.assertRemoves(rows, id_)

    def test_a_condition_on_what_is_no_column_lets_every_update_count(self):
        self.rule(event='res.partner.updated', condition="[('category_id.name', '=', 'No')]")
        id_ = self.make('res.partner', {'name': 'Partner'})
        with self.removals() as rows, self.request() as env:
            env['res.partner'].browse(id_).name = 'New'
        self.assertRemoves(rows, id_)

    def test_changed_fields_choose_updates(self):
        self.rule(field_names='city, street')
        id_ = self.bank()
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        self.assertEqual(rows, set())
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).street = 'Street'
        self.assertRemoves(rows, id_)

    def test_an_archived_rule_removes_nothing(self):
        rule = self.rule()
        id_ = self.bank()
        with self.request() as env:
            env['cache.event.rule'].browse(rule).active = False
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        self.assertEqual(rows, set())

    # -- what they are called ----------------------------------------------------------

    def test_a_field_stands_for_its_value_before_and_after(self):
        self.rule(names='bank:city:{city}')
        id_ = self.bank(city='Ghent')
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).city = 'Bruges'
        self.assertTrue(rows.meets('v1:bank:city:Ghent'))
        self.assertTrue(rows.meets('v1:bank:city:Bruges'))
        self.assertFalse(rows.meets('v1:bank:city:Antwerp'))

    def test_a_field_of_a_deleted_record_is_known(self):
        self.rule(event='res.bank.deleted', names='bank:city:{city}')
        id_ = self.bank(city='Ghent')
        with self.removals() as rows:
            self.remove('res.bank', id_)
        self.assertTrue(rows.meets('v1:bank:city:Ghent'))
        self.assertFalse(rows.meets('v1:bank:city:Bruges'))

    def test_a_field_of_a_deleted_record_is_known_whatever_its_deletion_does(self):
        self.rule(event='res.bank.deleted', names='bank:city:{city}')
        id_ = self.bank(city='Ghent')

        def use_a_savepoint(records):
            with records.env.cr.savepoint():
                records.flush_recordset()

        use_a_savepoint._ondelete = True
        with (
            patch.object(self.registry['res.bank'], '_ondelete_methods', [use_a_savepoint]),
            self.removals() as rows,
        ):
            self.remove('res.bank', id_)
        self.assertTrue(rows.meets('v1:bank:city:Ghent'))
        self.assertFalse(rows.meets('v1:bank:city:Bruges'))

    def test_an_empty_field_is_anything(self):
        self.rule(names='bank:city:{city}:page')
        id_ = self.bank()
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        self.assertTrue(rows.meets('v1:bank:city:Ghent:page'))

    def test_a_value_cannot_hold_a_separator_or_a_wildcard(self):
        self.rule(names='bank:city:{city}')
        id_ = self.bank(city='a:b*[c]@?')
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        self.assertTrue(rows.meets('v1:bank:city:' + event_templates.escape_part('a:b*[c]@?')))
        self.assertFalse(rows.meets('v1:bank:city:a:bx'))
        self.assertFalse(rows.meets('v1:bank:city:a:b*[c]@?'))

    def test_records_of_a_relation_are_each_removed(self):
        self.rule(event='res.partner.updated', names='bank:detail:{child_ids}')
        parent = self.make('res.partner', {'name': 'Parent'})
        children = [self.make('res.partner', {'name': c, 'parent_id': parent}) for c in 'ab']
        for deleted in (False, True):
            self.rule(event='res.partner.deleted', names='bank:detail:{child_ids}')
            with self.removals() as rows, self.request() as env:
                if deleted:
                    env['res.partner'].browse(parent).unlink()
                else:
                    env['res.partner'].browse(parent).name = 'New'
            self.assertRemoves(rows, *children)
            self.assertFalse(rows.meets(KEY.format(parent)))

    def test_the_user_who_changed_it(self):
        self.rule(names='user:{uid}:banks')
        id_ = self.bank()
        with self.removals() as rows, self.request(uid=ADMIN) as env:
            env['res.bank'].browse(id_).name = 'New'
        self.assertTrue(rows.meets(f'v1:user:{ADMIN}:banks'))
        self.assertFalse(rows.meets('v1:user:1:banks'))

    def test_very_many_records_are_removed_by_one_pattern(self):
        self.rule(event='res.bank.created')
        many = event_templates.MAX_NAMES + 1
        with self.removals() as rows, self.request() as env:
            ids = env['res.bank'].create([{'name': f'Bank {i}'} for i in range(many)]).ids
        self.addCleanup(self.remove, 'res.bank', *ids)
        self.assertRemoves(rows, ids[0], ids[-1])
        self.assertLess(len(rows), 5)

    def test_very_many_records_in_very_many_savepoints_do_not_fill_the_journal(self):
        self.rule(event='res.bank.created')
        many = event_templates.MAX_NAMES + 50
        ids = []
        with self.removals() as rows, self.request() as env:
            for i in range(many):
                with env.cr.savepoint():
                    ids += env['res.bank'].create({'name': f'Bank {i}'}).ids
        self.addCleanup(self.remove, 'res.bank', *ids)
        self.assertRemoves(rows, ids[0], ids[-1])
        one = len(event_templates.rows_of('v1:name'))
        self.assertLessEqual(len(rows), (event_templates.MAX_NAMES + 1) * one)

    # -- business events ---------------------------------------------------------------

    def test_models_that_do_not_exist_never_happen(self):
        rule = self.rule(event='no.such.model.updated')
        with self.request() as env:
            record = env['cache.event.rule'].browse(rule)
            self.assertEqual((record.idle, record.about), (True, "Not installed"))
        self.bank()

    def test_the_rules_of_the_design_are_there(self):
        with self.request() as env:
            found = env['cache.event.rule'].search([]).mapped('event')
        for name in (
            'ORDER_CREATED',
            'ORDER_UPDATED',
            'ORDER_SYNCED',
            'SUPPLIER_UPDATED',
            'PRODUCT_UPDATED',
        ):
            self.assertIn(name, found)

    def test_a_synchronized_order_loses_its_status_and_mapping(self):
        id_ = self.bank()
        with self.removals() as rows, self.request() as env:
            env['cache.event'].emit('ORDER_SYNCED', env['res.bank'].browse(id_))
        for key in ('order:sync:{}', 'order:mapping:{}', 'user:7:list:orders', 'search:results:x'):
            self.assertTrue(rows.meets('v1:' + key.format(id_)), key)

    # -- other workers -----------------------------------------------------------------

    def test_another_worker_learns_of_it(self):
        self.rule()
        id_ = self.bank()
        key = KEY.format(id_)
        with self.other_worker() as other, self.request(readonly=True) as env:
            before = other.book(env.cr).look(env.cr).removals.version(key)
        with self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        with self.request(readonly=True) as env:
            self.assertNotEqual(other.book(env.cr).look(env.cr).removals.version(key), before)

    def test_the_tiers_are_emptied_after_the_commit(self):
        self.configure(l3_enabled='1')
        self.settle()  # what earlier tests left would be in the way: no more than so many wait
        self.rule()
        id_, other = self.bank(), self.bank()
        tiers = self.engine.hierarchy.tiers
        gone = [KEY.format(id_), KEY.format(id_) + '@0f']
        kept = [KEY.format(other)]
        for name in ('l1', 'l3'):
            tiers[name].set_many([make_entry(key) for key in gone + kept])
        with self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
            env.flush_all()
            self.assertEqual(set(tiers['l1'].get_many(gone + kept)), {*gone, *kept})
        self.settle()
        left = {name: set(tiers[name].get_many(gone + kept)) for name in ('l1', 'l3')}
        state = self.engine.emptying.stats(), self.engine.outbox.job_faults, self.rows()[-5:]
        self.assertEqual(left, dict.fromkeys(left, set(kept)), state)

    def test_a_new_rule_counts_after_odoos_signal(self):
        with self.request() as env:
            env['res.bank'].create({'name': 'Before'}).unlink()  # the rules are in memory now
        self.rule()
        id_ = self.bank()
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        self.assertRemoves(rows, id_)

    def test_a_rule_that_no_signal_told_of_counts_after_a_while(self):
        id_ = self.bank()
        self.sql(
            "INSERT INTO cache_event_rule (event, names, active, sequence, errors)"
            " VALUES ('res.bank.updated', 'bank:detail:{id}', true, 1, 0)"
        )
        self.addCleanup(self.sql, "DELETE FROM cache_event_rule WHERE event = 'res.bank.updated'")
        self.registry.__dict__[events._SLOT].read_at -= events.RULES_MAX_AGE_S + 1
        with self.request() as env:
            env['res.bank'].browse(id_).name = 'Old rules'
        self.settle()
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New rules'
        self.forget_listeners()
        self.assertRemoves(rows, id_)

    def test_after_modules_were_updated_all_that_rules_ask_for_is_removed(self):
        self.rule()
        self.patch(self.registry, 'updated_modules', ['some_module'])
        with self.removals() as rows, self.request() as env:
            env['cache.event.rule']._register_hook()
        self.assertRemoves(rows, 1, 'x')

    # -- what goes wrong ---------------------------------------------------------------

    def broken(self, **values):
        """A rule whose condition was fine when it was saved."""
        rule = self.rule(**values)
        self.sql(
            "UPDATE cache_event_rule SET condition = %s WHERE id = %s",
            ["[('no_such_field', '=', 1)]", rule],
        )
        self.forget_listeners()
        self.engine._logged.clear()
        return rule

    def test_a_rule_that_fails_removes_at_large_and_the_change_is_committed(self):
        self.broken()
        id_, other = self.bank(), self.bank()
        with (
            self.assertLogs('odoo.addons.tiered_cache', 'WARNING'),
            self.removals() as rows,
            self.request() as env,
        ):
            env['res.bank'].browse(id_).name = 'New'
        self.assertRemoves(rows, id_, other)
        with self.request() as env:
            self.assertEqual(env['res.bank'].browse(id_).name, 'New')

    def test_a_rule_that_fails_in_the_database_does_no_harm(self):
        self.rule(condition="[('city', '=', 'Ghent')]")
        id_ = self.bank()

        def fail(model, *_args, **_kwargs):
            model.env.cr.execute("SELECT no_such_column")

        self.engine._logged.clear()
        with (
            mute_logger('odoo.sql_db', 'odoo.addons.tiered_cache.services.engine'),
            patch.object(event_rules, '_matching_now', fail),
            self.removals() as rows,
            self.request() as env,
        ):
            env['res.bank'].browse(id_).name = 'New'
        self.assertRemoves(rows, id_)
        with self.request() as env:
            self.assertEqual(env['res.bank'].browse(id_).name, 'New')

    def test_a_rule_that_fails_does_not_stop_the_others(self):
        self.broken(names='other:{id}')
        self.rule()
        id_ = self.bank()
        with (
            mute_logger('odoo.addons.tiered_cache.services.engine'),
            self.removals() as rows,
            self.request() as env,
        ):
            env['res.bank'].browse(id_).name = 'New'
        self.assertRemoves(rows, id_)
        self.assertFalse(rows.meets(KEY.format(id_ + 1)))

    def test_a_rule_that_fails_says_so(self):
        rule = self.broken()
        id_ = self.bank()
        with self.assertLogs('odoo.addons.tiered_cache', 'WARNING') as log:
            for name in ('First', 'Second'):
                with self.request() as env:
                    env['res.bank'].browse(id_).name = name
        self.assertEqual(len(log.output), 1)
        self.settle()
        with self.request() as env:
            record = env['cache.event.rule'].browse(rule)
            self.assertEqual(record.errors, 2)
            self.assertIn('no_such_field', record.last_error)
            self.assertTrue(record.last_error_at)
            record.action_forget_failures()
            self.assertEqual((record.errors, record.last_error), (0, False))

    def test_an_error_of_the_caller_is_not_taken_for_one_of_a_rule(self):
        self.rule(condition="[('city', '=', 'Ghent')]")
        id_ = self.bank()
        with (
            mute_logger('odoo.sql_db'),
            self.assertRaises(psycopg2.Error),
            self.request() as env,
        ):
            env.cr.execute("UPDATE res_bank SET name = 'x' WHERE id = %s", [id_])
            env['res.bank'].browse(id_)._write_multi([{'name': None}])
        with self.request() as env:
            self.assertEqual(env['res.bank'].browse(id_).name, 'Bank')

    def test_an_error_of_the_caller_that_is_swallowed_loses_no_removal(self):
        self.rule()
        id_ = self.bank()

        def fail(_env):
            self.patch_flush.stop()
            raise Refused

        self.patch_flush = patch.object(Environment, 'flush_all', fail)
        with self.removals() as rows, self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
            env.flush_all()
            self.patch_flush.start()
            with contextlib.suppress(Refused):
                env.cr.precommit.run()
        self.assertRemoves(rows, id_)

    def test_before_the_module_is_upgraded_there_are_no_rules(self):
        """The code is new, the table is not there yet."""
        with (
            patch.object(event_rules, '_RULES', "SELECT FROM cache_event_rule_of_tomorrow"),
            patch.object(events, 'read_rules', event_rules.read_rules),
        ):
            self.forget_listeners()
            self.bank()
        self.forget_listeners()

    # -- what it costs -----------------------------------------------------------------

    def cost(self, number):
        """Queries of updating banks, when what Odoo remembers is there."""
        ids = [self.bank() for _i in range(number)]
        with self.request(commit=False) as env:
            env['res.bank'].browse(ids).name = 'Old'
            env.cr.flush()
        with self.request(commit=False) as env:
            env['res.bank'].browse(ids).mapped('name')
            start = env.cr.sql_log_count
            env['res.bank'].browse(ids).name = 'New'
            env.cr.flush()
            return env.cr.sql_log_count - start

    def test_a_rule_costs_queries_per_transaction_not_per_record(self):
        self.forget_listeners()
        without = self.cost(10)
        self.rule()
        self.assertEqual(self.cost(10), without + 1)
        self.rule(condition="[('city', '=', 'Ghent')]", names='ghent:{id}')
        self.assertEqual(self.cost(10), without + 4)  # savepoint, search, release, journal
        self.assertEqual(self.cost(1), self.cost(20))


@tagged('post_install', '-at_install')
class TestEventRuleForm(TransactionCase):
    """What can never work is refused, with the reason."""

    def rule(self, **values):
        return self.env['cache.event.rule'].create(
            {'event': 'res.bank.updated', 'names': 'bank:{id}', **values}
        )

    def refused(self, *words, **values):
        with self.assertRaises(ValidationError) as caught:
            self.rule(**values)
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_an_event_that_is_none(self):
        self.refused('res.bank', event='res.bank')
        self.refused('order_updated', event='order_updated')

    def test_a_placeholder_that_is_no_field(self):
        self.refused('no_such_field', names='bank:{no_such_field}')

    def test_a_placeholder_that_has_no_name_of_its_own(self):
        self.refused('image_128', event='res.partner.updated', names='x:{image_128}')

    def test_a_template_that_cannot_be_read(self):
        self.refused('braces', names='bank:{id')
        self.refused('braces', names='bank:{partner_id.id}')
        self.refused('@', names='bank:{id}@*')
        self.refused('everything', names='*')
        self.refused('balanced', names='bank:[1')
        self.refused('brackets', names='bank:[a-{name}]')
        self.refused('characters', names='bank:' + 'x' * keys.MAX_KEY_CHARACTERS)

    def test_a_rule_that_removes_nothing(self):
        self.refused('one name a line', names=False)
        with self.assertRaises(ValidationError):
            self.env['cache.event.rule'].name_create('res.bank.updated')

    def test_a_changed_field_that_does_not_exist(self):
        self.refused('no_such_field', field_names='city, no_such_field')

    def test_a_condition_that_cannot_be_asked(self):
        self.refused('no_such_field', condition="[('no_such_field', '=', 1)]")
        self.refused('domain', condition="[('city', '=', uid)]")
        self.refused('domain', condition="__import__('os')")

    def test_what_is_stored_is_tidy(self):
        rule = self.rule(
            event=' res.bank.updated ', names='v1:bank:{id}\n\n  list:* ', field_names='city street'
        )
        self.assertEqual(rule.event, 'res.bank.updated')
        self.assertEqual(rule.names, 'bank:{id}\nlist:*')
        self.assertEqual(rule.field_names, 'city, street')
        self.assertEqual((rule.model, rule.about), ('res.bank', 'res.bank'))
        rule.event = 'MY_EVENT'
        self.assertEqual((rule.idle, rule.about), (False, "Emitted by modules"))

    def test_cache_users_read_rules_and_change_none(self):
        user = new_test_user(self.env, 'tc_event_user', 'tiered_cache.group_cache_user')
        rule = self.rule().with_user(user)
        self.assertEqual(rule.event, 'res.bank.updated')
        with self.assertRaises(AccessError):
            rule.event = 'res.bank.created'
        with self.assertRaises(AccessError):
            rule.action_forget_failures()
        with self.assertRaises(AccessError):
            rule.read(['last_error'])  # it may quote values

    def test_cache_administrators_change_rules(self):
        admin = new_test_user(self.env, 'tc_event_admin', 'tiered_cache.group_cache_admin')
        rule = (
            self.env['cache.event.rule']
            .with_user(admin)
            .create({'event': 'res.bank.updated', 'names': 'bank:{id}'})
        )
        rule.note = "changed"
        rule.action_forget_failures()
        rule.unlink()


@tagged('post_install', '-at_install')
class TestEventTemplates(TransactionCase):
    def test_every_combination_of_values_is_a_name(self):
        template = event_templates.parse('a:{x}:{y}')
        self.assertEqual(
            template.fill({'x': [1, 2], 'y': ['b', None]}),
            {'v1:a:1:b', 'v1:a:2:b', 'v1:a:1:*', 'v1:a:2:*'},
        )
        self.assertEqual(template.widest, 'v1:a:*:*')

    def test_a_name_that_would_be_too_long_is_removed_at_large(self):
        template = event_templates.parse('a:{x}')
        self.assertEqual(template.fill({'x': ['y' * event_templates.MAX_CHARACTERS]}), {'v1:a:*'})
        (longest,) = template.fill({'x': ['y' * (event_templates.MAX_CHARACTERS - 5)]})
        self.assertEqual(len(longest), event_templates.MAX_CHARACTERS)
        for row in event_templates.rows_of(longest):
            keys.validate_pattern(row.partition(':')[2])

    def test_parts(self):
        for value, part in (
            (42, '42'),
            ('42', '%342'),
            ('a b:c*[d]@?', 'a%20b%3Ac%2A%5Bd%5D%40%3F'),
            ('é', '%C3%A9'),
            (None, '*'),
        ):
            self.assertEqual(event_templates.escape_part(value), part)

    def test_rows_meet_the_name_and_its_variants_only(self):
        removals = Removals(dict.fromkeys(event_templates.rows_of('v1:a:4'), 1))
        self.assertTrue(removals.version('v1:a:4'))
        self.assertTrue(removals.version('v1:a:4@0f'))
        self.assertFalse(removals.version('v1:a:42'))
        self.assertFalse(removals.version('v1:a:4:5'))

    def test_at_most_a_tenth_of_the_journals_room(self):
        self.assertLessEqual(event_templates.MAX_NAMES * 10, journal.MAX_REMOVALS)
