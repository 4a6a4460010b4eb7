"""Events tell what was committed: all of it, once, and nothing else."""

import contextlib
import pathlib
from unittest.mock import patch

from odoo.sql_db import Savepoint
from odoo.tests import TransactionCase, tagged
from odoo.tools import mute_logger

from ..services import events, savepoints
from ..services.event_names import is_event_name
from .common import ADMIN, CacheCase, delivered_events

CHANGES = ('res.bank.created', 'res.bank.updated', 'res.bank.deleted')


class Refused(Exception):
    """Raised to leave a savepoint."""


@tagged('post_install', '-at_install')
class TestEvents(CacheCase):
    def setUp(self):
        super().setUp()
        self.told = self.subscribe('res.bank', *CHANGES)

    def names(self):
        return [event.name for event in self.told]

    def bank(self, **values):
        """A bank that was made before anybody listened."""
        id_ = self.make('res.bank', {'name': 'Bank', **values})
        self.told.clear()
        return id_

    # -- what is told ------------------------------------------------------------------

    def test_a_created_record_is_told_once_with_its_id(self):
        id_ = self.make('res.bank', {'name': 'New'})
        self.assertEqual(self.names(), ['res.bank.created'])
        event = self.told[0]
        self.assertEqual((event.model, event.ids), ('res.bank', (id_,)))

    def test_an_update_names_the_fields_that_changed(self):
        id_ = self.bank()
        with self.request() as env:
            env['res.bank'].browse(id_).write({'name': 'Other', 'city': 'Ghent'})
        self.assertEqual(self.names(), ['res.bank.updated'])
        self.assertEqual(self.told[0].ids, (id_,))
        self.assertEqual(self.told[0].fields, {'name', 'city'})

    def test_a_value_that_is_written_again_is_no_changed_field(self):
        id_ = self.bank(city='Ghent')
        with self.request() as env:
            bank = env['res.bank'].browse(id_)
            bank.write({'name': 'Other', 'city': bank.city})
        self.assertEqual(self.told[0].fields, {'name'})

    def test_a_deleted_record_is_told_with_its_id(self):
        id_ = self.bank()
        with self.request() as env:
            env['res.bank'].browse(id_).unlink()
        self.assertEqual([(e.name, e.ids) for e in self.told], [('res.bank.deleted', (id_,))])

    def test_many_writes_of_one_transaction_are_one_event(self):
        first, second = self.bank(), self.bank()
        with self.request() as env:
            for id_ in (first, second):
                env['res.bank'].browse(id_).name = 'Other'
                env.flush_all()
            env['res.bank'].browse(first).city = 'Ghent'
        self.assertEqual(len(self.told), 1)
        self.assertEqual(self.told[0].ids, (first, second))
        self.assertEqual(self.told[0].fields, {'name', 'city'})

    def test_created_and_updated_in_one_transaction_is_created(self):
        with self.request() as env:
            bank = env['res.bank'].create({'name': 'New'})
            env.flush_all()
            bank.name = 'Newer'
            id_ = bank.id
        self.addCleanup(self.remove, 'res.bank', id_)
        self.assertEqual(self.names(), ['res.bank.created'])

    def test_created_and_deleted_in_one_transaction_is_nothing(self):
        with self.request() as env:
            env['res.bank'].create({'name': 'New'}).unlink()
        self.assertEqual(self.told, [])

    def test_updated_and_deleted_in_one_transaction_is_deleted(self):
        id_ = self.bank()
        with self.request() as env:
            env['res.bank'].browse(id_).name = 'Other'
            env.flush_all()
            env['res.bank'].browse(id_).unlink()
        self.assertEqual(self.names(), ['res.bank.deleted'])

    def test_it_says_who_did_it_and_where(self):
        with self.request(uid=ADMIN) as env:
            id_ = env['res.bank'].create({'name': 'New'}).id
        self.addCleanup(self.remove, 'res.bank', id_)
        self.assertEqual(self.told[0].uid, ADMIN)
        self.assertEqual(self.told[0].database, self.registry.db_name)

    def test_a_record_that_was_never_saved_is_nothing(self):
        with self.request() as env:
            env['res.bank'].new({'name': 'Draft'}).name = 'Still a draft'
        self.assertEqual(self.told, [])

    def test_a_recomputed_field_is_a_changed_field(self):
        told = self.subscribe('res.bank', 'res.partner.updated')
        company = self.make('res.partner', {'name': 'Company', 'is_company': True})
        child = self.make('res.partner', {'name': 'Child', 'parent_id': company})
        told.clear()
        with self.request() as env:
            env['res.partner'].browse(company).name = 'Renamed'
        self.assertIn(child, told[0].ids)
        self.assertIn('complete_name', told[0].fields)

    def test_a_many2many_field_is_a_changed_field(self):
        told = self.subscribe('res.bank', 'res.partner.updated')
        tag = self.make('res.partner.category', {'name': 'Tag'})
        partner = self.make('res.partner', {'name': 'Partner'})
        told.clear()
        with self.request() as env:
            env['res.partner'].browse(partner).category_id = [(4, tag)]
        self.assertEqual(told[0].fields, {'category_id'})

    def test_reading_is_nothing(self):
        id_ = self.bank()
        with self.request() as env:
            env['res.bank'].search_read([('id', '=', id_)], ['name'])
        self.assertEqual(self.told, [])

    def test_raw_sql_is_nothing(self):
        id_ = self.bank()
        with self.request() as env:
            env.cr.execute("UPDATE res_bank SET name = 'Raw' WHERE id = %s", [id_])
        self.assertEqual(self.told, [])

    def test_it_is_told_while_the_cache_is_off(self):
        self.configure(enabled='0')
        self.make('res.bank', {'name': 'New'})
        self.assertEqual(self.names(), ['res.bank.created'])

    def test_it_is_told_where_triggers_are_forbidden(self):
        self.configure(capture='orm')
        self.make('res.bank', {'name': 'New'})
        self.assertEqual(self.names(), ['res.bank.created'])

    # -- what is rolled back -----------------------------------------------------------

    def test_a_rollback_tells_nothing(self):
        with self.request(commit=False) as env:
            env['res.bank'].create({'name': 'New'})
            env.flush_all()
        self.assertEqual(self.told, [])

    def rolled_back(self, env, flush=True):
        @contextlib.contextmanager
        def block():
            with contextlib.suppress(Refused), env.cr.savepoint(flush=flush):
                yield
                env.flush_all()
                raise Refused

        return block()

    def test_what_was_rolled_back_to_a_savepoint_is_not_told(self):
        for flush in (True, False):
            with self.subTest(flush=flush), self.request() as env:
                kept = env['res.bank'].create({'name': 'Kept'}).id
                self.addCleanup(self.remove, 'res.bank', kept)
                with self.rolled_back(env, flush):
                    env['res.bank'].create({'name': 'Undone'})
                    env.flush_all()
            self.assertEqual(self.told.pop().ids, (kept,))

    def test_an_update_that_was_rolled_back_to_a_savepoint_is_not_told(self):
        id_, other = self.bank(), self.bank()
        with self.request() as env:
            env['res.bank'].browse(other).city = 'Kept'
            with self.rolled_back(env):
                env['res.bank'].browse(id_).name = 'Undone'
        self.assertEqual([(e.ids, e.fields) for e in self.told], [((other,), {'city'})])

    def test_a_deletion_that_was_rolled_back_to_a_savepoint_is_not_told(self):
        id_ = self.bank()
        with self.request() as env:
            with self.rolled_back(env):
                env['res.bank'].browse(id_).unlink()
            env['res.bank'].browse(id_).invalidate_recordset()
        self.assertEqual(self.told, [])

    def test_a_released_savepoint_in_one_that_was_rolled_back_is_not_told(self):
        with self.request() as env, self.rolled_back(env):
            with env.cr.savepoint():
                env['res.bank'].create({'name': 'Undone'})
            env['res.bank'].create({'name': 'Undone as well'})
        self.assertEqual(self.told, [])

    def test_what_follows_a_rollback_to_a_savepoint_is_told(self):
        with self.request() as env:
            with self.rolled_back(env):
                env['res.bank'].create({'name': 'Undone'})
            id_ = env['res.bank'].create({'name': 'Kept'}).id
        self.addCleanup(self.remove, 'res.bank', id_)
        self.assertEqual([e.ids for e in self.told], [(id_,)])

    def test_a_savepoint_that_is_rolled_back_twice(self):
        with self.request() as env:
            savepoint = env.cr.savepoint(flush=False)
            env['res.bank'].create({'name': 'Undone'})
            savepoint.rollback()
            env['res.bank'].create({'name': 'Undone'})
            savepoint.rollback()
            id_ = env['res.bank'].create({'name': 'Kept'}).id
            savepoint.close(rollback=False)
        self.addCleanup(self.remove, 'res.bank', id_)
        self.assertEqual([e.ids for e in self.told], [(id_,)])

    def test_a_refused_write_is_nothing(self):
        with self.request() as env, self.assertRaises(ValueError), env.cr.savepoint():
            env['res.bank'].create({'no_such_field': 1})
        self.assertEqual(self.told, [])

    def test_a_record_whose_constraint_fails_without_a_savepoint_is_told(self):
        """The caller goes on, and the row is committed."""

        def refuse(_records, _fields, _excluded=()):
            raise Refused

        with self.request() as env:
            with (
                patch.object(self.registry['res.bank'], '_validate_fields', refuse),
                self.assertRaises(Refused),
            ):
                env['res.bank'].create({'name': 'Invalid'})
            id_ = env['res.bank'].search([('name', '=', 'Invalid')]).id
        self.addCleanup(self.remove, 'res.bank', id_)
        self.assertEqual([e.ids for e in self.told], [(id_,)])

    def test_two_transactions_on_one_cursor_are_two_events(self):
        with self.request() as env:
            first = env['res.bank'].create({'name': 'First'}).id
            env.cr.commit()
            second = env['res.bank'].create({'name': 'Second'}).id
            env.cr.commit()
        self.addCleanup(self.remove, 'res.bank', first, second)
        self.assertEqual([e.ids for e in self.told], [(first,), (second,)])

    # -- names of modules --------------------------------------------------------------

    def test_a_module_emits_an_event_of_its_own(self):
        told = self.subscribe('res.bank', 'ORDER_SYNCED')
        id_ = self.bank()
        with self.request() as env:
            env['cache.event'].emit('ORDER_SYNCED', env['res.bank'].browse(id_))
            self.assertEqual(told, [])
        self.assertEqual([(e.model, e.ids) for e in told], [('res.bank', (id_,))])

    def test_an_emitted_event_that_is_rolled_back_is_not_told(self):
        told = self.subscribe('res.bank', 'ORDER_SYNCED')
        id_ = self.bank()
        with self.request(commit=False) as env:
            env['cache.event'].emit('ORDER_SYNCED', env['res.bank'].browse(id_))
        with self.request() as env, self.rolled_back(env):
            env['cache.event'].emit('ORDER_SYNCED', env['res.bank'].browse(id_))
        self.assertEqual(told, [])

    def test_events_of_models_cannot_be_emitted(self):
        with self.request() as env, self.assertRaises(ValueError):
            env['cache.event'].emit('res.bank.updated', env['res.bank'])

    def test_names(self):
        for name in ('res.partner.updated', 'x.deleted', 'ORDER_SYNCED', 'MY_EVENT_2'):
            self.assertTrue(is_event_name(name), name)
        for name in ('', 'res.partner', 'res.partner.changed', 'order_synced', '.updated', None):
            self.assertFalse(is_event_name(name), name)


@tagged('post_install', '-at_install')
class TestSubscribers(CacheCase):
    """Subscribers are called after the commit, apart from it and from each other."""

    def test_a_subscriber_sees_what_was_committed(self):
        seen = []
        self.subscribe(
            'res.bank',
            'res.bank.created',
            then=lambda records, event: seen.append(records.browse(event.ids).mapped('name')),
        )
        self.make('res.bank', {'name': 'New'})
        self.assertEqual(seen, [['New']])

    def test_what_a_subscriber_writes_is_committed(self):
        id_ = self.make('res.bank', {'name': 'Old'})
        self.subscribe(
            'res.bank',
            'res.bank.updated',
            fields=['name'],
            then=lambda records, event: records.browse(event.ids).write({'city': 'Told'}),
        )
        with self.request() as env:
            env['res.bank'].browse(id_).name = 'New'
        with self.request() as env:
            self.assertEqual(env['res.bank'].browse(id_).city, 'Told')

    def test_a_subscriber_is_called_as_the_user_who_did_it(self):
        users = []
        self.subscribe(
            'res.bank',
            'res.bank.created',
            then=lambda records, _event: users.append((records.env.uid, records.env.su)),
        )
        with self.request(uid=ADMIN) as env:
            id_ = env['res.bank'].create({'name': 'New'}).id
        self.addCleanup(self.remove, 'res.bank', id_)
        self.assertEqual(users, [(ADMIN, False)])

    def test_fields_choose_updates(self):
        id_ = self.make('res.bank', {'name': 'Old'})
        told = self.subscribe('res.bank', 'res.bank.updated', fields=['city'])
        for values in ({'name': 'New'}, {'city': 'Ghent'}):
            with self.request() as env:
                env['res.bank'].browse(id_).write(values)
        self.assertEqual([e.fields for e in told], [{'city'}])

    def test_fields_are_for_updates_only(self):
        with self.assertRaises(ValueError):
            events.on_event('res.bank.created', fields=['city'])

    def test_a_name_that_is_none_is_refused(self):
        with self.assertRaises(ValueError):
            events.on_event('res.bank.changed')

    def test_one_that_raises_harms_neither_the_change_nor_the_others(self):
        def fail(_records, _event):
            raise Refused

        self.subscribe('res.bank', 'res.bank.created', then=fail)
        told = self.subscribe('res.bank', 'res.bank.created')
        self.engine._logged.clear()
        with self.assertLogs('odoo.addons.tiered_cache', 'WARNING') as log:
            id_ = self.make('res.bank', {'name': 'New'})
        self.assertIn('_on_test_event', log.output[0])
        self.assertEqual([e.ids for e in told], [(id_,)])
        with self.request() as env:
            self.assertTrue(env['res.bank'].browse(id_).exists())

    def test_the_others_are_not_harmed_by_one_whose_sql_fails(self):
        self.subscribe(
            'res.bank',
            'res.bank.created',
            then=lambda records, _event: records.env.cr.execute("SELECT no_such_column"),
        )
        seen = []
        self.subscribe(
            'res.bank',
            'res.bank.created',
            then=lambda records, event: seen.append(records.browse(event.ids).name),
        )
        with mute_logger('odoo.sql_db', 'odoo.addons.tiered_cache.services.engine'):
            self.make('res.bank', {'name': 'New'})
        self.assertEqual(seen, ['New'])

    def test_one_that_goes_round_in_circles_is_stopped(self):
        def again(records, event):
            records.browse(event.ids).city = f'{len(told)}'

        told = self.subscribe('res.bank', 'res.bank.updated', then=again)
        id_ = self.make('res.bank', {'name': 'New'})
        with mute_logger('odoo.addons.tiered_cache.services.engine'), self.request() as env:
            env['res.bank'].browse(id_).name = 'Newer'
        self.assertEqual(len(told), events.MAX_DEPTH)

    def test_what_the_request_has_to_signal_is_left_to_the_request(self):
        def fail(records, _event):
            records.env.registry.clear_cache()
            raise Refused

        self.subscribe('res.bank', 'res.bank.created', then=fail)
        with mute_logger('odoo.addons.tiered_cache.services.engine'), self.request() as env:
            id_ = env['res.bank'].create({'name': 'New'}).id
            self.registry.clear_cache('groups')
            env.cr.commit()
            self.assertEqual(self.registry.cache_invalidated, {'groups'})
        self.addCleanup(self.remove, 'res.bank', id_)

    def test_an_override_is_called_in_place_of_what_was_decorated(self):
        called = []

        @events.on_event('res.bank.created')
        def _on_test_override(_records, _event):
            called.append('decorated')

        definition = next(
            cls
            for cls in self.registry['res.bank'].mro()[1:]
            if getattr(cls, '_name', None) == 'res.bank'
        )
        self.addCleanup(self.forget_listeners)
        self.addCleanup(events._decorated_names.discard, '_on_test_override')
        with (
            patch.object(definition, '_on_test_override', _on_test_override, create=True),
            patch.object(
                self.registry['res.bank'],
                '_on_test_override',
                lambda _records, _event: called.append('override'),
                create=True,
            ),
        ):
            self.forget_listeners()
            self.make('res.bank', {'name': 'New'})
        self.assertEqual(called, ['override'])


@tagged('post_install', '-at_install')
class TestNobodyListens(CacheCase):
    """What is not wanted costs nothing."""

    def setUp(self):
        super().setUp()
        self.forget_listeners()

    def queries(self, env, work):
        env.flush_all()
        before = env.cr.sql_log_count
        work()
        env.cr.flush()
        return env.cr.sql_log_count - before

    def test_creating_partners_takes_no_query_more(self):
        def create(env):
            values = [{'name': f'Partner {i}'} for i in range(100)]
            return self.queries(env, lambda: env['res.partner'].create(values))

        with self.request(commit=False) as env:
            create(env)
            with_events = create(env)
        with (
            patch.object(events, 'book_for', return_value=None),
            self.request(commit=False) as env,
        ):
            create(env)
            self.assertEqual(with_events, create(env))

    def test_nothing_is_kept_of_a_model_that_nobody_listens_to(self):
        told = self.subscribe('res.bank', 'res.bank.created')
        with self.request(commit=False) as env:
            env['res.partner'].create({'name': 'Partner'})
            self.assertIsNone(events.state_of(env.cr).events)
        self.assertEqual(told, [])

    def test_savepoints_are_wrapped_once(self):
        before = Savepoint.rollback
        savepoints.post_load()
        self.assertIs(Savepoint.rollback, before)


@tagged('post_install', '-at_install')
class TestDeliveredEvents(TransactionCase):
    """What tests of other modules use, where nothing is ever committed."""

    def test_subscribers_and_rules_are_tested_without_a_commit(self):
        self.env['cache.event.rule'].create(
            {'event': 'res.bank.created', 'names': 'bank:detail:{id}'}
        )
        bank = self.env['res.bank'].create({'name': 'Before'})
        with delivered_events(self.env) as delivered:
            bank = self.env['res.bank'].create({'name': 'New'})
        self.assertEqual(delivered.events, [])
        self.assertTrue(delivered.removes(f'v1:bank:detail:{bank.id}'))
        self.assertFalse(delivered.removes(f'v1:bank:detail:{bank.id + 1}'))

    def test_a_subscriber_is_called_in_the_transaction_of_the_test(self):
        @events.on_event('res.bank.updated')
        def _on_test_bank(records, event):
            records.browse(event.ids).city = 'Told'

        bank = self.env['res.bank'].create({'name': 'Old'})
        self.addCleanup(events._decorated_names.discard, '_on_test_bank')
        with patch.object(self.registry['res.bank'], '_on_test_bank', _on_test_bank, create=True):
            with delivered_events(self.env) as delivered:
                bank.name = 'New'
            self.assertEqual([e.name for e in delivered.events], ['res.bank.updated'])
            self.assertEqual(bank.city, 'Told')

    def test_the_example_of_the_page(self):
        page = (pathlib.Path(__file__).parent.parent / 'docs' / 'events.md').read_text('utf-8')
        example = page.partition('## Testing')[2].partition('```python')[2].partition('```')[0]
        self.partner = self.env['res.partner'].create({'name': 'Partner'})
        self.env['cache.event.rule'].create(
            {'event': 'res.partner.updated', 'names': 'supplier:detail:{id}'}
        )

        @events.on_event('res.partner.updated')
        def _on_test_partner(_records, _event):
            return None

        self.addCleanup(events._decorated_names.discard, '_on_test_partner')
        with patch.object(
            self.registry['res.partner'], '_on_test_partner', _on_test_partner, create=True
        ):
            exec(example.replace('detail:42', f'detail:{self.partner.id}'), {'self': self})

    def test_outside_of_the_block_nothing_is_delivered(self):
        with delivered_events(self.env) as delivered:
            pass
        self.env['res.bank'].create({'name': 'New'})
        self.assertEqual(delivered.events, [])
