"""Who may do what: every model and every public method, with each kind of user."""

from odoo.exceptions import AccessError, UserError
from odoo.service.model import get_public_method
from odoo.tests import TransactionCase, new_test_user, tagged

from ..services.engine import engine_for

CALLS = (
    ('get_stats', ()),
    ('invalidate_key', ('v1:orm:res.partner:read:' + '0' * 32,)),
    ('invalidate_pattern', ('v1:orm:res.partner:*',)),
    ('invalidate_keys', (['v1:tc:1', 'v1:tc:2'],)),
    ('invalidate_tag', ('tc',)),
    ('invalidate_user', (1,)),
    ('invalidate_relation', ('res_partner',)),
    ('invalidate_model', ('res.partner',)),
    ('invalidate_all', ()),
    ('schedule_removal', ('all', None, 3600)),
    ('test_redis', ('redis://localhost:1',)),
)


ADMINS_ONLY = (
    'cache.change',
    'cache.guard.failure',
    'cache.log',
    'cache.operation',
    'cache.relation',
)
"""A changed table tells that somebody wrote; the log tells who did what."""


class AccessCase(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.users = {
            'public': cls.env.ref('base.public_user'),
            'portal': new_test_user(cls.env, 'tc_portal', 'base.group_portal'),
            'internal': new_test_user(cls.env, 'tc_internal', 'base.group_user'),
            'user': new_test_user(cls.env, 'tc_user', 'tiered_cache.group_cache_user'),
            'admin': new_test_user(cls.env, 'tc_admin', 'tiered_cache.group_cache_admin'),
        }
        cls.outsiders = ('public', 'portal', 'internal')

    def manager(self, who):
        return self.env['cache.manager'].with_user(self.users[who])

    def model(self, name, who):
        return self.env[name].with_user(self.users[who])


@tagged('post_install', '-at_install')
class TestManager(AccessCase):
    def test_all_methods_can_be_called_by_rpc(self):
        for name, _args in CALLS:
            self.assertTrue(get_public_method(self.env['cache.manager'], name))
        for name in ('_cron_maintain', '_engine', 'invalidate_recordset'):
            with self.assertRaises(AccessError):
                get_public_method(self.env['cache.manager'], name)
        with self.assertRaises(AccessError):
            get_public_method(self.env['res.partner'], 'invalidate_model')

    def test_outsiders_may_call_nothing(self):
        for who in self.outsiders:
            for name, args in CALLS:
                with self.subTest(who=who, method=name), self.assertRaises(AccessError):
                    getattr(self.manager(who), name)(*args)

    def test_a_cache_user_sees_figures_and_changes_nothing(self):
        self.assertIn('hits', self.manager('user').get_stats())
        for name, args in CALLS[1:]:
            with (
                self.subTest(method=name),
                self.assertRaisesRegex(AccessError, "Cache Administrator"),
            ):
                getattr(self.manager('user'), name)(*args)

    def test_a_cache_administrator_may_invalidate(self):
        manager = self.manager('admin')
        manager.get_stats()
        tiers = set(engine_for(self.env.registry).hierarchy.tiers)
        for name, args in CALLS[1:-2]:
            with self.subTest(method=name):
                self.assertEqual(set(getattr(manager, name)(*args)), tiers)

    def test_a_removal_is_journalled(self):
        self.manager('admin').invalidate_pattern('v1:tc:*')
        self.env.cr.execute("SELECT count(*) FROM cache_change WHERE relation = 'pattern:v1:tc:*'")
        self.assertEqual(self.env.cr.fetchone(), (1,))

    def test_code_in_superuser_mode_may(self):
        self.manager('internal').sudo().invalidate_all()

    def test_the_administrator_of_the_database_may(self):
        self.env['cache.manager'].with_user(self.env.ref('base.user_admin')).invalidate_all()

    def test_odoo_may_still_drop_its_own_values(self):
        self.assertIsNone(self.manager('internal').invalidate_model())
        self.assertIsNone(self.manager('internal').invalidate_model(['display_name']))

    def test_bad_input_is_refused_and_nothing_is_journalled(self):
        self.env.cr.execute("SELECT count(*) FROM cache_change")
        before = self.env.cr.fetchone()
        manager = self.manager('admin')
        for name, bad in (
            ('invalidate_key', ('x' * 513, 'a\x00b', '', None, 7, ['v1'])),
            ('invalidate_pattern', ('v1:[a', 'x' * 513, 'a\nb', '', None)),
            ('invalidate_model', ('res.nonsense', '', 7, 'base', 'res.config.settings')),
            ('test_redis', ('http://cache', 'redis://host:port', 7)),
        ):
            for value in bad:
                with self.subTest(method=name, value=value), self.assertRaises(UserError):
                    # an AccessError is a UserError as well, but of another kind
                    try:
                        getattr(manager, name)(value)
                    except AccessError as error:
                        self.fail(error)
        self.env.cr.execute("SELECT count(*) FROM cache_change")
        self.assertEqual(self.env.cr.fetchone(), before)


@tagged('post_install', '-at_install')
class TestModels(AccessCase):
    def test_outsiders_see_no_model(self):
        for who in self.outsiders:
            for name in (
                'cache.entry',
                'cache.event.rule',
                'cache.metric',
                'cache.namespace',
                'cache.rule',
                'cache.schedule',
                *ADMINS_ONLY,
            ):
                with self.subTest(who=who, model=name), self.assertRaises(AccessError):
                    self.model(name, who).search_read([], ['id'], limit=1)

    def test_a_cache_user_does_not_see_who_wrote_what(self):
        for name in ADMINS_ONLY:
            with self.subTest(model=name), self.assertRaises(AccessError):
                self.model(name, 'user').search_read([], ['id'], limit=1)
            self.model(name, 'admin').search_read([], ['id'], limit=1)

    def test_nobody_changes_the_log_nor_what_is_only_shown(self):
        for name in ('cache.change', 'cache.guard.failure', 'cache.log', 'cache.relation'):
            for operation in ('create', 'write', 'unlink'):
                self.assertFalse(self.model(name, 'admin').has_access(operation), (name, operation))

    def test_only_administrators_find_entries_by_table(self):
        domain = [('depends_on', '=', 'res_partner')]
        self.model('cache.entry', 'admin').search(domain)
        with self.assertRaises(AccessError):
            self.model('cache.entry', 'user').search(domain)

    def test_a_cache_user_reads_everything_and_writes_nothing(self):
        rule = self.env['cache.rule'].create({'model': 'res.partner', 'methods': 'fields_get'})
        for name in (
            'cache.entry',
            'cache.event.rule',
            'cache.metric',
            'cache.rule',
            'cache.schedule',
        ):
            records = self.model(name, 'user')
            records.search_read([], ['id'], limit=1)
            for operation in ('create', 'write', 'unlink'):
                self.assertFalse(records.has_access(operation), (name, operation))
        with self.assertRaises(AccessError):
            rule.with_user(self.users['user']).enabled = False

    def test_a_cache_administrator_changes_rules_and_schedules_and_removes_entries_only(self):
        allowed = {
            (name, operation)
            for name in (
                'cache.entry',
                'cache.event.rule',
                'cache.metric',
                'cache.rule',
                'cache.schedule',
            )
            for operation in ('read', 'create', 'write', 'unlink')
            if self.model(name, 'admin').has_access(operation)
        }
        self.assertEqual(
            allowed,
            {
                ('cache.entry', 'read'),
                ('cache.entry', 'unlink'),
                *(('cache.event.rule', right) for right in ('read', 'create', 'write', 'unlink')),
                ('cache.metric', 'read'),
                ('cache.rule', 'read'),
                ('cache.rule', 'create'),
                ('cache.rule', 'write'),
                ('cache.rule', 'unlink'),
                ('cache.schedule', 'read'),
                ('cache.schedule', 'create'),
                ('cache.schedule', 'write'),
                ('cache.schedule', 'unlink'),
            },
        )

    def test_menus_are_shown_to_cache_users_only(self):
        root = self.env.ref('tiered_cache.menu_root')
        for who in ('internal', 'user', 'admin'):  # the others have no menus at all
            visible = self.env['ir.ui.menu'].with_user(self.users[who])._visible_menu_ids()
            self.assertEqual(root.id in visible, who in ('user', 'admin'), who)
            for name in ('relation', 'change', 'log', 'operation'):
                menu = self.env.ref(f'tiered_cache.menu_{name}')
                self.assertEqual(menu.id in visible, who == 'admin', (who, name))

    def test_nobody_reads_the_packed_entry(self):
        for who in ('user', 'admin'):
            with self.assertRaises(AccessError):
                self.model('cache.entry', who).search_read([], ['body'], limit=1)
