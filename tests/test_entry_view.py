"""The list of entries: what it shows, to whom, and what its button does."""

import dataclasses
import time

from odoo.exceptions import AccessError
from odoo.tests import TransactionCase, new_test_user, tagged

from ..services import codec, entry, versions


@tagged('post_install', '-at_install')
class TestEntryView(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.state = versions.VersionBook().look(cls.env.cr)
        cls.relation = next(iter(sorted(set(cls.state.versions) - {'#all'})), '#all')
        now = time.time()
        cls.entry = entry.Entry(
            key='v1:orm:res.partner:search_read:' + 'f' * 32,
            model='res.partner',
            method='search_read',
            uid=cls.env.ref('base.user_admin').id,
            dependencies=(
                ('#all', cls.state.versions['#all'], None),
                (cls.relation, cls.state.versions[cls.relation], None),
            ),
            removal_version=0,
            created=now,
            expires=now + 3600,
            cost_ms=25.0,
            queries=3,
            flags=0,
            payload=codec.pack([{'id': 7, 'name': "Azure Interior"}]),
        )
        cls.user = new_test_user(cls.env, 'tc_user', 'tiered_cache.group_cache_user')
        cls.admin = new_test_user(cls.env, 'tc_admin', 'tiered_cache.group_cache_admin')
        cls.system = new_test_user(
            cls.env, 'tc_system', 'tiered_cache.group_cache_admin,base.group_system'
        )

    def store(self, body=None, **changes):
        """A row as the tier writes it."""
        new = dataclasses.replace(self.entry, **changes)
        self.env.cr.execute(
            "INSERT INTO cache_entry (key, model, method, uid, created, expires, cost_ms,"
            " size_bytes, hits, body) VALUES (%s, %s, %s, %s, to_timestamp(%s) AT TIME ZONE 'utc',"
            " to_timestamp(%s) AT TIME ZONE 'utc', %s, 100, 0, %s) RETURNING id",
            [
                new.key,
                new.model,
                new.method,
                new.uid,
                new.created,
                new.expires,
                new.cost_ms,
                entry.to_bytes(new) if body is None else body,
            ],
        )
        return self.env['cache.entry'].browse(self.env.cr.fetchone())

    def validity(self, **changes):
        """As a reader of this moment sees it; this test's own transaction has written."""
        record = self.store(key=f"{self.entry.key}{time.monotonic_ns()}", **changes)
        new, _payload, _note = record._unpacked(record._bodies()[record.id])
        return record._is_valid(new, self.state)

    def test_the_table_is_unlogged(self):
        self.env.cr.execute("SELECT relpersistence FROM pg_class WHERE relname = 'cache_entry'")
        self.assertEqual(self.env.cr.fetchone(), ('u',))

    def test_a_system_administrator_sees_the_value(self):
        record = self.store().with_user(self.system)
        self.assertIn("'name': 'Azure Interior'", record.payload)
        self.assertFalse(record.payload_note)
        self.assertEqual(record.user_id.login, 'admin')

    def test_others_see_why_they_do_not(self):
        for user in (self.user, self.admin):
            record = self.store(key=f'{self.entry.key}{user.id}', uid=user.id).with_user(user)
            self.assertFalse(record.payload)
            self.assertIn("rights of the user above", record.payload_note)
            self.assertEqual(record.method, 'search_read')

    def test_who_may_not_read_the_model_is_told_so(self):
        record = self.store(model='ir.config_parameter', uid=self.user.id).with_user(self.user)
        self.assertFalse(record.payload)
        self.assertIn("you may not read", record.payload_note)

    def test_damaged_bytes_are_no_error(self):
        for number, body in enumerate((b'', b'garbage', entry.to_bytes(self.entry)[:-1])):
            record = self.store(body, key=f'{self.entry.key}{number}')
            self.assertFalse(record.payload or record.is_valid or record.dependencies)
            self.assertIn("cannot be read", record.payload_note)

    def test_a_damaged_value_is_no_error(self):
        record = self.store(payload=b'\xffgarbage')
        self.assertFalse(record.payload)
        self.assertIn("damaged", record.payload_note)

    def test_a_value_of_a_removed_model_is_no_error(self):
        self.assertIn("not installed", self.store(model='x.removed').payload_note)

    def test_a_large_value_is_shown_in_part(self):
        record = self.store(payload=codec.pack([{'id': n} for n in range(5000)]))
        self.assertEqual(len(record.payload), 20_000)
        self.assertIn("first 20,000", record.payload_note)

    def test_dependencies_are_listed_with_their_versions(self):
        record = self.store(dependencies=(('res_<b>', 255, None),))
        self.assertIn("<td>res_&lt;b&gt;</td>", str(record.dependencies))
        self.assertIn("00000000000000ff", str(record.dependencies))

    def test_valid_is_what_a_reader_would_be_served(self):
        self.assertTrue(self.validity())
        self.assertFalse(self.validity(expires=time.time() - 1))
        self.assertFalse(self.validity(removal_version=1))
        self.assertFalse(self.validity(dependencies=(('#all', 1, None),)))
        self.assertFalse(self.validity(dependencies=(('not_guarded', 1, None),)))

    def test_entries_are_found_by_user(self):
        record = self.store()
        Entry = self.env['cache.entry']
        self.assertIn(record, Entry.search([('user_id', '=', record.uid)]))
        self.assertIn(record, Entry.search([('user_id.login', '=', 'admin')]))
        self.assertIn(record, Entry.search([('user_id', 'ilike', record.user_id.name)]))
        self.assertNotIn(record, Entry.search([('user_id', '=', self.user.id)]))

    def test_a_filter_may_ask_whether_a_pattern_is_set(self):
        record = self.store()
        entries = self.env['cache.entry'].with_user(self.admin)
        for field in ('pattern', 'depends_on'):
            self.assertFalse(entries.search([(field, '=', False)]))
            self.assertIn(record, entries.search([(field, '!=', False)]))

    def test_the_button_removes_for_administrators_only(self):
        record = self.store()
        with self.assertRaises(AccessError):
            record.with_user(self.user).action_invalidate()
        record.with_user(self.admin).action_invalidate()
        self.env.cr.execute(
            "SELECT count(*) FROM cache_change WHERE relation = %s", [f'key:{self.entry.key}']
        )
        self.assertEqual(self.env.cr.fetchone(), (1,))
        log = self.env['cache.log'].search([], limit=1)
        self.assertEqual((log.create_uid, log.target), (self.admin, self.entry.key))

    def test_the_button_of_the_form_leaves_the_form(self):
        for form, tag in ((True, 'tiered_cache_leave'), (False, 'soft_reload')):
            record = self.store().with_user(self.admin)
            action = record.with_context(tiered_cache_form=form).action_invalidate()
            self.assertEqual(action['params']['next']['tag'], tag)
            self.assertEqual(action['params']['message'], "The entry is removed from all tiers.")
            self.env.cr.execute("DELETE FROM cache_entry")

    def test_entries_can_be_written_by_nobody(self):
        record = self.store()
        with self.assertRaises(AccessError):
            record.with_user(self.admin).write({'hits': 5})
