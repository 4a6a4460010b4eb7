"""What a Cache User can learn from figures and entries about records that they cannot read."""

import dataclasses
import datetime
import time

from odoo.exceptions import AccessError
from odoo.tests import TransactionCase, new_test_user, tagged

from ..models.cache_manager import SHOWN_TO_USERS
from ..services import codec, entry
from ..services.engine import engine_for
from ..services.metrics import write
from .common import ADMIN, CacheCase

HIDDEN_FIGURES = (
    'bytes',
    'duration_ms',
    'saved_ms',
    'saved_queries',
    'avg_duration_ms',
    'relation',
)
NOW = datetime.datetime.now().replace(microsecond=0)
FIGURE = {
    'bucket': NOW,
    'model': 'res.partner',
    'method': 'search_read',
    'outcome': 'computed',
    'reason': 'stale',
    'relation': 'hr_payslip',
    'count': 3,
    'calls': 3,
    'hits': 0,
    'duration_ms': 70.0,
    'saved_ms': 0.0,
    'saved_queries': 0,
    'bytes': 52_000,
    'audited': 0,
    'differences': 0,
}


class UserCase(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.user = new_test_user(cls.env, 'tc_user', 'tiered_cache.group_cache_user')
        cls.admin = new_test_user(cls.env, 'tc_admin', 'tiered_cache.group_cache_admin')


@tagged('post_install', '-at_install')
class TestRules(UserCase):
    def test_who_may_not_see_figures_is_not_told_that_there_are_none(self):
        rules = self.env['cache.rule'].create(
            [{'model': model} for model in ('res.partner', 'ir.config_parameter')]
        )
        self.assertEqual(rules.with_user(self.user).mapped('figures_shown'), [True, False])
        self.assertEqual(rules.with_user(self.admin).mapped('figures_shown'), [True, True])


@tagged('post_install', '-at_install')
class TestFigures(UserCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.env['cache.metric'].search([])._remove_older_than(-1)
        models = ('res.partner', 'ir.config_parameter', '', '(other)')
        write(cls.env.cr, [{**FIGURE, 'model': model} for model in models])

    def models_seen(self, user):
        return set(self.env['cache.metric'].with_user(user).search([]).mapped('model'))

    def test_figures_of_readable_models_only(self):
        self.assertEqual(self.models_seen(self.user), {'res.partner', '', '(other)'})
        self.assertIn('ir.config_parameter', self.models_seen(self.admin))

    def test_a_right_that_is_taken_away_takes_the_figures_along(self):
        self.assertIn('res.partner', self.models_seen(self.user))
        lines = self.env['ir.model.access'].search([('model_id.model', '=', 'res.partner')])
        lines.perm_read = False
        self.assertNotIn('res.partner', self.models_seen(self.user))

    def test_groups_count_readable_models_only(self):
        groups = (
            self.env['cache.metric']
            .with_user(self.user)
            .formatted_read_group([], ['model'], ['calls:sum'])
        )
        self.assertNotIn('ir.config_parameter', {group['model'] for group in groups})

    def test_sizes_times_and_tables_are_for_administrators(self):
        figures = self.env['cache.metric'].with_user(self.user)
        for name in HIDDEN_FIGURES:
            with self.subTest(field=name):
                self.assertNotIn(name, figures.fields_get())
                with self.assertRaises(AccessError):
                    figures.search_read([], [name])
                self.assertTrue(figures.with_user(self.admin).search_read([], [name]))

    def test_nor_can_they_be_inferred(self):
        figures = self.env['cache.metric'].with_user(self.user)
        for aggregate in ('bytes:sum', 'duration_ms:sum', 'avg_duration_ms:avg', 'saved_ms:max'):
            with self.subTest(aggregate=aggregate), self.assertRaises(AccessError):
                figures.formatted_read_group([], ['model'], [aggregate])
        for domain in ([('bytes', '>', 1000)], [('relation', '=', 'hr_payslip')]):
            with self.subTest(domain=domain), self.assertRaises(AccessError):
                figures.search_count(domain)
        with self.assertRaises(AccessError):
            figures.search([], order='bytes')
        with self.assertRaises(AccessError):
            figures.formatted_read_group([], ['relation'], ['__count'])

    def test_the_views_work_for_a_cache_user(self):
        views = (
            self.env['cache.metric']
            .with_user(self.user)
            .get_views([[False, kind] for kind in ('list', 'graph', 'pivot', 'search')])['views']
        )
        for kind, view in views.items():
            for name in HIDDEN_FIGURES:
                self.assertNotIn(f'"{name}"', view['arch'], kind)
            self.assertNotIn("'relation'", view['arch'], kind)

    def test_stats_of_a_process_hold_no_sizes_and_no_names(self):
        manager = self.env['cache.manager']
        stats = manager.with_user(self.user).get_stats()
        self.assertEqual(set(stats), set(SHOWN_TO_USERS))
        for name in ('bytes', 'duration_ms', 'saved_ms', 'tiers', 'models', 'suspended', 'guards'):
            self.assertNotIn(name, SHOWN_TO_USERS)
            self.assertIn(name, manager.with_user(self.admin).get_stats())


@tagged('post_install', '-at_install')
class TestEntries(UserCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.mine = cls.add(cls.user.id, False)
        cls.by_code = cls.add(cls.user.id, True)
        cls.anothers = cls.add(cls.admin.id, False)

    @classmethod
    def add(cls, uid, superuser):
        cls.env.cr.execute(
            "INSERT INTO cache_entry (key, model, method, uid, superuser, created, expires,"
            " cost_ms, size_bytes, hits, body) VALUES (%s, 'res.partner', 'read', %s, %s, now(),"
            " now() + interval '1 hour', 25, 100, 0, '') RETURNING id",
            [f'v1:orm:res.partner:read:{uid}{superuser}', uid, superuser],
        )
        return cls.env['cache.entry'].browse(cls.env.cr.fetchone())

    def test_an_upgrade_drops_entries_that_do_not_say_with_whose_rights(self):
        old = self.add(self.user.id, None)
        self.env['cache.entry'].init()
        self.assertFalse(old.exists())
        self.assertTrue(self.mine.exists())

    def test_own_entries_without_those_of_superuser_mode(self):
        entries = self.env['cache.entry'].with_user(self.user)
        self.assertEqual(entries.search([]), self.mine)
        self.assertEqual(entries.search_count([]), 1)
        for hidden in (self.by_code, self.anothers):
            for name in ('key', 'size_bytes', 'hits', 'created', 'payload_note', 'is_valid'):
                with self.subTest(field=name), self.assertRaises(AccessError):
                    hidden.with_user(self.user).read([name])

    def test_groups_count_own_entries_only(self):
        groups = (
            self.env['cache.entry']
            .with_user(self.user)
            .formatted_read_group(
                [('model', '=', 'res.partner')], ['model'], ['__count', 'size_bytes:sum']
            )
        )
        self.assertEqual([(g['__count'], g['size_bytes:sum']) for g in groups], [(1, 100)])

    def test_another_user_cannot_be_searched_for(self):
        entries = self.env['cache.entry'].with_user(self.user)
        self.assertFalse(entries.search([('user_id', '=', self.admin.id)]))
        self.assertFalse(entries.search([('key', '=', self.anothers.key)]))

    def test_which_table_has_changed_is_for_administrators(self):
        with self.assertRaises(AccessError):
            self.mine.with_user(self.user).read(['dependencies'])
        self.mine.with_user(self.admin).read(['dependencies'])

    def test_a_cache_administrator_sees_all_entries_and_no_value(self):
        entries = self.env['cache.entry'].with_user(self.admin).search([])
        self.assertLessEqual(self.mine | self.by_code | self.anothers, entries)
        self.assertFalse(self.mine.with_user(self.admin).payload)

    def test_the_views_work_for_a_cache_user(self):
        views = (
            self.env['cache.entry']
            .with_user(self.user)
            .get_views([[False, kind] for kind in ('list', 'form', 'search')])['views']
        )
        self.assertNotIn('"dependencies"', views['form']['arch'])


@tagged('post_install', '-at_install')
class TestStoredEntries(CacheCase):
    options = {'l3_enabled': '1'}

    def test_an_entry_of_superuser_mode_says_so(self):
        def read(env):
            return env['res.partner'].search_read([('id', '=', 1)], ['name'])

        def read_as_superuser(env):
            return env['res.partner'].sudo().search_read([('id', '=', 1)], ['name'])

        for call in (read, read_as_superuser):
            self.warm(call)
        self.settle()
        rows = self.sql(
            "SELECT superuser, count(*) FROM cache_entry WHERE uid = %s AND model = 'res.partner'"
            " AND method = 'search_read' AND created > now() AT TIME ZONE 'utc' - interval '60 s'"
            " GROUP BY superuser ORDER BY superuser",
            [ADMIN],
        )
        self.assertEqual(rows, [(False, 1), (True, 1)])
        self.assertTrue(engine_for(self.registry).available)

    def test_what_another_user_has_read_makes_nothing_faster(self):
        def read(env):
            return env['res.partner'].search_count([('name', '!=', "Cache user timing")])

        other = self.make('res.users', {'name': "Timing", 'login': 'tc_timing'})
        self.warm(read)
        self.settle()
        with self.assertMiss('cold'), self.request(other) as env:
            read(env)

    def test_the_column_follows_the_flag(self):
        tier = self.engine.hierarchy.tiers['l3']
        now = time.time()
        base = entry.Entry(
            'v1:tc:flag', 'res.partner', 'read', ADMIN, (('#all', 1, None),), 0, now, now + 60,
            25.0, 1, 0, codec.pack([]),
        )  # fmt: skip
        self.addCleanup(tier.delete, ['v1:tc:flag'])
        for flags in (0, entry.FLAG_CLOCK, entry.FLAG_SUPERUSER, 3):
            tier.set(dataclasses.replace(base, flags=flags))
            rows = self.sql("SELECT superuser FROM cache_entry WHERE key = 'v1:tc:flag'")
            self.assertEqual(rows, [(bool(flags & entry.FLAG_SUPERUSER),)])
