"""P6: nobody is shown what was computed for somebody else, or under other circumstances."""

# "read" and "write" are what these tests do, not overrides of a model's methods
# pylint: disable=method-required-super

import base64
import contextlib
import types
from datetime import datetime, timezone
from unittest.mock import patch

from odoo import Command, api
from odoo.addons.tiered_cache.models import read_through
from odoo.addons.tiered_cache.services import overrides, reading
from odoo.addons.tiered_cache.services.removal import Removals
from odoo.exceptions import AccessError
from odoo.tests import Form, tagged

from .common import CacheCase
from .test_capture import PIXEL


def partner_names(env):
    return sorted(
        p['name']
        for p in env['res.partner'].search_read([('name', '=like', 'Isolated%')], ['name'])
    )


class UsersCase(CacheCase):
    """Two internal users and two partners, each of one of two companies."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.first = 1
        cls.second = cls.make_for_class('res.company', {'name': 'Tiered Second Company'})
        cls.user = cls.make_user('tc_isolated', [cls.first, cls.second])
        cls.other = cls.make_user('tc_other', [cls.first, cls.second])
        for company, name in ((cls.first, 'Isolated 1'), (cls.second, 'Isolated 2')):
            cls.make_for_class('res.partner', {'name': name, 'company_id': company})
        cls.commit(lambda env: env.ref('base.res_partner_rule').write({'active': True}))

    @classmethod
    def make_user(cls, login, companies):
        return cls.make_for_class(
            'res.users',
            {
                'name': login,
                'login': login,
                'company_id': companies[0],
                'company_ids': [Command.set(companies)],
                'group_ids': cls.commit(
                    lambda env: [
                        Command.link(env.ref(group).id)
                        for group in ('base.group_user', 'base.group_partner_manager')
                    ]
                ),
            },
        )


@tagged('post_install', '-at_install')
class TestUsersAndCompanies(UsersCase):
    def rule(self, domain, **values):
        return self.make(
            'ir.rule',
            {
                'name': 'tc',
                'domain_force': domain,
                'model_id': self.commit(lambda env: env['ir.model']._get_id('res.partner')),
                **values,
            },
        )

    def test_p6_a_hit_of_one_user_is_not_served_to_another(self):
        self.warm(partner_names, uid=self.user)
        with self.assertComputed(), self.request(self.other) as env:
            partner_names(env)

    def test_p6_record_rules_of_two_users_differ(self):
        self.rule(f"[('user_id', '!=', {self.other}), ('name', '!=', user.login)]")
        mine = self.make('res.partner', {'name': 'Isolated, mine', 'user_id': self.other})
        self.assertTrue(mine)
        self.warm(partner_names, uid=self.user)
        group = self.commit(
            lambda env: (
                env['res.groups'].create({'name': 'tc', 'user_ids': [Command.link(self.other)]}).id
            )
        )
        self.addCleanup(self.remove, 'res.groups', group)
        self.rule("[(0, '=', 1)]", groups=[Command.link(group)])
        self.warm(partner_names, uid=self.user)
        self.assertExact(partner_names, uid=self.other)

    def test_p6_a_record_rule_made_between_two_reads_takes_effect(self):
        before = self.warm(partner_names, uid=self.user)
        self.rule("[('name', '!=', 'Isolated 1')]")
        after = self.assertExact(partner_names, uid=self.user)
        self.assertEqual(after, [name for name in before if name != 'Isolated 1'])

    def test_p6_a_record_rule_changed_by_raw_sql_takes_effect(self):
        rule = self.rule("[('name', '!=', 'Nobody')]")
        self.warm(partner_names, uid=self.user)
        self.sql(
            "UPDATE ir_rule SET domain_force = %s WHERE id = %s",
            ["[('name', '!=', 'Isolated 1')]", rule],
        )
        self.sql("INSERT INTO orm_signaling_default DEFAULT VALUES")  # Odoo caches rules
        self.assertNotIn('Isolated 1', self.assertExact(partner_names, uid=self.user))

    def test_p6_access_rights_revoked_between_two_reads_are_gone(self):
        def read(env):
            return env['res.bank'].search_read([], ['name'])

        group = self.make('res.groups', {'name': 'tc', 'user_ids': [Command.link(self.user)]})
        self.warm(read, uid=self.user)
        rights = self.commit(
            lambda env: (
                env['ir.model.access']
                .search([('model_id.model', '=', 'res.bank'), ('perm_read', '=', True)])
                .ids
            )
        )
        self.addCleanup(
            self.commit,
            lambda env: env['ir.model.access'].browse(rights).write({'perm_read': True}),
        )
        self.commit(lambda env: env['ir.model.access'].browse(rights).write({'perm_read': False}))
        self.assertTrue(group)
        with self.assertRaises(AccessError), self.request(self.user) as env:
            read(env)

    def test_p6_a_user_taken_out_of_a_group_loses_what_it_gave(self):
        group = self.make('res.groups', {'name': 'tc', 'user_ids': [Command.link(self.user)]})
        self.rule("[('name', '=', 'Isolated 1')]", groups=[Command.link(group)])
        both = {'uid': self.user, 'allowed_company_ids': [self.first, self.second]}
        self.assertEqual(self.warm(partner_names, **both), ['Isolated 1'])
        self.commit(
            lambda env: (
                env['res.users'].browse(self.user).write({'group_ids': [Command.unlink(group)]})
            )
        )
        self.assertEqual(self.assertExact(partner_names, **both), ['Isolated 1', 'Isolated 2'])

    def test_p6_fields_of_a_group_are_not_shown_to_others(self):
        model = self.registry['res.partner']
        self.patch(model._fields['comment'], 'groups', 'base.group_system')

        def fields(env):
            return sorted(env['res.partner'].fields_get())

        self.assertIn('comment', self.warm(fields))
        self.assertNotIn('comment', self.warm(fields, uid=self.user))

    def test_p6_companies_in_one_order(self):
        self._two_companies(self.first, self.second)

    def test_p6_companies_in_the_other_order(self):
        self._two_companies(self.second, self.first)

    def _two_companies(self, *companies):
        for company in companies:
            context = {'uid': self.user, 'allowed_company_ids': [company]}
            self.warm(partner_names, **context)
            self.assertEqual(
                self.assertExact(partner_names, **context),
                ['Isolated 1' if company == self.first else 'Isolated 2'],
            )

    def test_p6_the_current_company_is_the_first_of_the_allowed_ones(self):
        def barcode(env):
            return env['res.partner'].search_read([('id', '=', env.company.partner_id.id)], ['id'])

        both = [self.first, self.second]
        one = self.warm(barcode, uid=self.user, allowed_company_ids=both)
        two = self.warm(barcode, uid=self.user, allowed_company_ids=both[::-1])
        self.assertNotEqual(one, two)

    def test_p6_a_company_dependent_value_is_that_of_the_company(self):
        partner = self.make('res.partner', {'name': 'Barcode'})
        for company in (self.first, self.second):
            self.commit(
                lambda env, c=company: (
                    env['res.partner'].browse(partner).write({'barcode': f'of {c}'})
                ),
                allowed_company_ids=[company],
            )

        def barcode(env):
            return env['res.partner'].search_read([('id', '=', partner)], ['barcode'])[0]['barcode']

        for companies in ([self.first, self.second], [self.second, self.first]):
            self.assertEqual(
                self.warm(barcode, uid=self.user, allowed_company_ids=companies),
                f'of {companies[0]}',
            )

    def test_p6_a_company_taken_from_the_user_is_refused_although_it_was_cached(self):
        user = self.make(
            'res.users',
            {
                'name': 'tc_third',
                'login': 'tc_third',
                'company_id': self.first,
                'company_ids': [Command.set([self.first, self.second])],
            },
        )
        self.warm(partner_names, uid=user, allowed_company_ids=[self.second])
        self.commit(
            lambda env: (
                env['res.users'].browse(user).write({'company_ids': [Command.unlink(self.second)]})
            )
        )

        def read(env):
            with contextlib.suppress(AccessError):
                return partner_names(env)

        with self.request(user, allowed_company_ids=[self.second]) as env:
            self.assertSame(read(env), self.plain(read, env))

    def test_p6_superuser_mode_is_not_served_to_its_user(self):
        self.rule("[('name', '!=', 'Isolated 1')]")
        self.warm(lambda env: partner_names(env(su=True)), uid=self.user)
        self.warm(partner_names, uid=self.user)
        self.assertNotIn('Isolated 1', self.assertExact(partner_names, uid=self.user))

    def test_p6_a_user_is_not_served_to_superuser_mode(self):
        self.rule("[('name', '!=', 'Isolated 1')]")
        self.warm(partner_names, uid=self.user)
        with self.request(self.user) as env:
            self.assertIn('Isolated 1', partner_names(env(su=True)))

    def test_p6_the_public_user_sees_nothing_of_what_an_administrator_has_cached(self):
        self.assertTrue(self.warm(partner_names))
        public = self.commit(lambda env: env.ref('base.public_user').id)
        self.assertEqual(self.assertExact(partner_names, uid=public), [])


@tagged('post_install', '-at_install')
class TestCircumstances(CacheCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.partner = cls.make_for_class(
            'res.partner', {'name': 'Circumstances', 'image_1920': PIXEL}
        )
        cls.tag = cls.make_for_class('res.partner.category', {'name': 'Customer tag'})

    def test_p6_website_pages_are_computed(self):
        """What they show may depend on the session, the visitor and more."""

        def call(env):
            return env['res.partner.category'].search_read([], ['name'])

        request = types.SimpleNamespace(
            is_frontend=False,
            session={},
            httprequest=types.SimpleNamespace(host='localhost', scheme='http'),
        )
        with patch.object(read_through, 'request', request):
            self.warm(call)
            request.is_frontend = True
            with self.assertComputed(), self.request() as env:
                call(env)

    def test_what_stands_for_a_request_in_a_test_is_none(self):
        """Of what has neither a host nor a session nothing is known; it is no fault either."""
        for request in (types.SimpleNamespace(), types.SimpleNamespace(session={})):
            with (
                patch.object(read_through, 'request', request),
                patch.object(read_through, 'log_fault') as fault,
                self.assertComputed(),
                self.request() as env,
            ):
                env['res.partner.category'].search_read([], ['name'])
            fault.assert_not_called()

    def test_p6_two_languages(self):
        self.use_language('fr_FR')
        self.commit(
            lambda env: env['res.partner.category'].browse(self.tag).write({'name': 'Client'}),
            lang='fr_FR',
        )

        def name(env):
            return env['res.partner.category'].search_read([('id', '=', self.tag)], ['name'])[0][
                'name'
            ]

        english, french = ('en_US', 'Customer tag'), ('fr_FR', 'Client')
        for lang, expected in (english, french, english):
            self.assertEqual(self.warm(name, lang=lang), expected)

    def test_p6_archived_records(self):
        archived = self.make('res.partner', {'name': 'Archived', 'active': False})

        def ids(env):
            return [
                p['id'] for p in env['res.partner'].search_read([('name', '=', 'Archived')], ['id'])
            ]

        self.assertNotIn(archived, self.warm(ids))
        self.assertIn(archived, self.warm(ids, active_test=False))
        self.assertNotIn(archived, self.assertExact(ids))

    def test_p6_archiving_between_two_reads(self):
        partner = self.make('res.partner', {'name': 'To archive'})

        def ids(env):
            return env['res.partner'].search_read([('id', '=', partner)], ['id'])

        self.assertTrue(self.warm(ids))
        self.commit(lambda env: env['res.partner'].browse(partner).action_archive())
        self.assertFalse(self.assertExact(ids))

    def test_p6_binary_fields_with_and_without_bin_size(self):
        def image(env):
            return env['res.partner'].search_read([('id', '=', self.partner)], ['image_128'])[0]

        whole = self.warm(image)['image_128']
        size = self.warm(image, bin_size=True)['image_128']
        self.assertTrue(base64.b64decode(whole).startswith(b'\x89PNG'))
        self.assertRegex(str(size), r'bytes|Kb')
        self.assertExact(image)
        self.assertExact(image, bin_size=True)

    def test_p6_time_zones(self):
        def groups(env):
            return env['res.partner'].formatted_read_group(
                [('id', '=', self.partner)], ['create_date:hour'], ['__count']
            )

        # two hours away from UTC, and the same day: another day is another key by itself
        away = 'Etc/GMT-2' if datetime.now(timezone.utc).hour < 12 else 'Etc/GMT+2'
        self.assertNotEqual(self.warm(groups, tz='UTC'), self.warm(groups, tz=away))

    def test_p6_any_other_key_of_the_context(self):
        def name(env):
            return env['res.partner'].search_read([('id', '=', self.partner)], ['display_name'])

        self.warm(name)
        with self.assertComputed(), self.request(show_address=True) as env:
            name(env)

    def test_p6_other_records(self):
        other = self.make('res.partner', {'name': 'Other'})
        for id_ in (self.partner, other):
            (values,) = self.warm(lambda env, i=id_: env['res.partner'].browse(i).read(['name']))
            self.assertEqual(values['id'], id_)

    def test_p6_other_keyword_arguments(self):
        def creator(env, **kwargs):
            domain = [('id', '=', self.partner)]
            return env['res.partner'].search_read(domain, ['create_uid'], **kwargs)[0]['create_uid']

        self.assertIs(type(self.warm(creator)), tuple)
        self.assertIs(type(self.warm(lambda env: creator(env, load=''))), int)

    def count(self, env):
        return env['res.partner'].search_count([])

    def test_p6_web_requests_to_two_hosts_do_not_share(self):
        self.origin(('one.example.com', None, ''))
        self.warm(self.count)
        self.origin(('two.example.com', None, ''))
        with self.assertMiss('cold'), self.request() as env:
            self.count(env)

    def test_p6_pages_of_a_website_are_not_cached(self):
        self.warm(self.count)
        self.origin(False)
        for _twice in range(2):
            with self.assertComputed(), self.request() as env:
                self.count(env)

    def origin(self, value):
        self.patch(read_through, 'current_origin', lambda: value)

    def test_p1_tomorrow_is_another_day(self):
        self.warm(self.count)
        self.patch(reading, 'dates', lambda env: ('20991231', '20991231'))
        with self.assertMiss('cold'), self.request() as env:
            self.count(env)

    def test_p6_true_is_not_one(self):
        def call(value):
            return lambda env: env['res.partner'].search_count([('active', '=', value)])

        self.warm(call(1))
        with self.assertMiss('cold'), self.request() as env:
            call(True)(env)

    def test_p6_an_error_is_not_kept(self):
        def read(env):
            return env['res.partner'].search_read([('no_such_field', '=', 1)], ['name'])

        for _twice in range(2):
            with self.assertRaises(ValueError), self.request() as env:
                read(env)


@tagged('post_install', '-at_install')
class TestWhatIsNotInTheDatabase(CacheCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.partner = cls.make_for_class('res.partner', {'name': 'Real'})

    def read(self, env):
        return env['res.partner'].search_read([('id', '=', self.partner)], ['name'])

    def test_p1_new_records_are_never_cached(self):
        with self.assertComputed(), self.request() as env:
            for name in ('First', 'Second'):
                new = env['res.partner'].new({'name': name})
                self.assertEqual(new.read(['name'])[0]['name'], name)

    def test_p1_a_record_with_unsaved_values_is_read_with_them(self):
        def read(env):
            return env['res.partner'].browse(self.partner).read(['name'])

        self.warm(read)
        with self.assertComputed(), self.request() as env:
            draft = env['res.partner'].new(
                {'name': 'Unsaved'}, origin=env['res.partner'].browse(self.partner)
            )
            self.assertEqual(draft.read(['name'])[0]['name'], 'Unsaved')

    def test_p1_after_a_draft_was_made_reads_compute(self):
        """It shows up in what real records hold in memory."""
        self.warm(self.read)
        with self.request() as env:
            env['res.partner'].new({'name': 'Draft', 'parent_id': self.partner})
            with self.assertMiss('dirty'):
                self.read(env)

    def test_p1_an_onchange_sees_what_the_database_says(self):
        self.warm(self.read)
        with self.request() as env:
            values = {'name': 'Child', 'parent_id': self.partner}
            cached = env['res.partner'].onchange(values, ['parent_id'], {'name': {}, 'lang': {}})
        with self.request() as env:
            self.assertSame(
                cached,
                self.plain(
                    lambda e: e['res.partner'].onchange(
                        values, ['parent_id'], {'name': {}, 'lang': {}}
                    ),
                    env,
                ),
            )

    def test_p1_a_form_is_saved_and_read_again(self):
        self.warm(self.read)
        with self.request() as env:
            self.addCleanup(
                self.commit,
                lambda env: env['res.partner'].browse(self.partner).write({'name': 'Real'}),
            )
            with Form(env['res.partner'].browse(self.partner)) as form:
                form.name = 'By form'
            self.assertEqual(self.read(env)[0]['name'], 'By form')
        with self.request() as env:
            self.assertEqual(self.read(env)[0]['name'], 'By form')

    def test_p1_what_is_in_memory_is_not_asked_of_the_cache(self):
        def read(env):
            return env['res.partner'].browse(self.partner).read(['name'])

        self.warm(read)
        with self.request() as env:
            env['res.partner'].browse(self.partner).name  # noqa: B018 into the ORM cache
            start = len(self.log.events)
            read(env)
            self.assertEqual(self.log.events[start:], [])

    def test_p1_what_was_in_memory_before_counts_as_read(self):
        """The name of the bank sits in the ORM cache, so reading it sends no SQL."""
        bank = self.make('res.bank', {'name': 'In memory'})
        account = self.make(
            'res.partner.bank', {'acc_number': 'TC 1', 'partner_id': self.partner, 'bank_id': bank}
        )

        def read(env):
            return env['res.partner.bank'].search_read([('id', '=', account)], ['bank_name'])

        self.warm(read)
        self.forget()
        with self.request() as env:
            env['res.bank'].browse(bank).name  # noqa: B018 into the ORM cache
            with self.assertMiss('cold'):
                read(env)
        with self.assertHit(), self.request() as env:
            read(env)
        self.sql("UPDATE res_bank SET name = 'Renamed' WHERE id = %s", [bank])
        with self.assertMiss('stale', 'res_bank'), self.request() as env:
            self.assertEqual(read(env)[0]['bank_name'], 'Renamed')

    def test_p1_a_computed_value_in_memory_may_come_from_anywhere(self):
        industry = self.make('res.partner.industry', {'name': 'Industry'})
        partner = self.make('res.partner', {'name': 'Worker', 'industry_id': industry})

        def read(env):
            return env['res.partner'].search_read([('id', '=', partner)], ['industry_id'])

        self.warm(read)
        self.forget()
        with self.request() as env:
            env['res.partner.industry'].browse(industry).display_name  # noqa: B018
            with self.assertMiss('orm_cache', 'display_name'):
                read(env)


@tagged('post_install', '-at_install')
class TestOverrides(UsersCase):
    """A model's own override of a read method runs on every call."""

    def gate(self, method):
        """Let ``method`` of res.bank refuse one user, as modules do."""
        model = self.registry['res.bank']
        plain, refused = getattr(model, method), self.other
        calls = []

        def gated(records, *args, **kwargs):
            calls.append(records.env.uid)
            if records.env.uid == refused or records.env.context.get('refuse'):
                raise AccessError(records.env._("not for you"))
            return plain(records, *args, **kwargs)

        self.patch(model, method, gated)
        return calls

    def read(self, env):
        return env['res.bank'].web_search_read([], {'name': {}})

    def test_p6_an_override_that_gates_access_runs_before_a_hit(self):
        calls = self.gate('web_search_read')
        self.warm(self.read, uid=self.user)
        ran = len(calls)
        with self.assertHit(), self.request(self.user) as env:
            self.read(env)
        self.assertEqual(len(calls), ran + 1)

    def test_p6_an_override_that_gates_access_refuses_after_a_hit(self):
        self.gate('web_search_read')
        self.warm(self.read, uid=self.user)
        refuse = []
        with patch_context(self.registry['res.bank'], refuse):
            refuse.append(True)
            with self.assertRaises(AccessError), self.request(self.user) as env:
                self.read(env)

    def test_p6_an_override_that_filters_is_cached_as_it_filters(self):
        model = self.registry['res.bank']
        plain, hidden = model.web_search_read, []

        def filtered(records, domain, *args, **kwargs):
            return plain(records, [*domain, ('id', 'not in', hidden)], *args, **kwargs)

        self.patch(model, 'web_search_read', filtered)
        bank = self.make('res.bank', {'name': 'Hidden'})
        self.assertIn(bank, [r['id'] for r in self.warm(self.read)['records']])
        hidden.append(bank)
        with self.request() as env:
            self.assertNotIn(bank, [r['id'] for r in self.read(env)['records']])

    def test_p6_an_override_that_never_reaches_the_bottom_is_cached_on_the_outside(self):
        model = self.registry['res.bank']

        def by_itself(records, name='', domain=None, operator='ilike', limit=100):
            return [(bank.id, bank.name) for bank in records.search([('bic', '!=', False)])]

        def read(env):
            return env['res.bank'].name_search('T')

        self.patch(model, 'name_search', by_itself)
        with (
            patch.dict(overrides.WRAPPED, {('res.bank', 'name_search'): "answers by itself"}),
            self.request() as env,
        ):
            env['res.bank']._register_hook()
        self.warm(read)
        self.assertExact(read)

    def test_p6_odoos_own_override_of_web_search_read_runs(self):
        """``ir.module.module`` of base_import_module asks odoo.com for one kind of domain."""
        model = self.registry['ir.module.module']
        if not hasattr(model, '_get_modules_from_apps'):
            self.skipTest("base_import_module is not installed")
        asked = []
        self.patch(model, '_get_modules_from_apps', lambda *args, **kw: asked.append(1) or [])

        def read(env, kind='official'):
            return env['ir.module.module'].web_search_read(
                [('module_type', '=', kind)], {'name': {}}, limit=2
            )

        self.warm(read)
        for times in (1, 2):
            with self.request() as env:
                self.assertEqual(read(env, 'industries')['records'], [])
            self.assertEqual(len(asked), times)


@contextlib.contextmanager
def patch_context(model, refuse):
    """Make a gate that is already on a model close."""
    plain = model.web_search_read

    def closing(records, *args, **kwargs):
        return plain(records.with_context(refuse=True) if refuse else records, *args, **kwargs)

    model.web_search_read = closing
    try:
        yield
    finally:
        model.web_search_read = plain


@tagged('post_install', '-at_install')
class TestViews(CacheCase):
    """Models read through a view of SQL."""

    def test_p5_a_model_that_is_a_query_is_as_fresh_as_its_tables(self):
        """res.bank stands for a report: its records are a query of two tables."""
        country = self.make('res.country', {'name': 'Tieredland', 'code': 'ZQ'})
        model = self.registry['res.bank']
        self.sql(
            "CREATE VIEW tc_bank_report AS SELECT b.*, c.code AS country_code FROM res_bank b"
            " LEFT JOIN res_country c ON c.id = b.country"
        )
        self.addCleanup(self.sql, "DROP VIEW tc_bank_report")
        self.engine._catalogue_at = 0  # as if the catalogue were read some time ago
        self.patch(model, '_table_query', "SELECT * FROM tc_bank_report")
        bank = self.make('res.bank', {'name': 'Viewed', 'country': country})

        def read(env):
            return env['res.bank'].search_read([('id', '=', bank)], ['name', 'bic'])

        self.assertCaptured(
            read, lambda: self.sql("UPDATE res_bank SET bic = 'V' WHERE id = %s", [bank])
        )
        self.warm(read)
        self.sql("UPDATE res_country SET phone_code = 1 WHERE id = %s", [country])
        with self.assertMiss('stale', 'res_country'), self.request() as env:
            read(env)

    def test_p5_sale_report_is_as_fresh_as_the_orders(self):
        if 'sale.report' not in self.registry:
            self.skipTest("sale is not installed")

        def read(env):
            return env['sale.report'].formatted_read_group(
                [], ['product_id'], ['price_total:sum', 'product_uom_qty:sum']
            )

        self.assertCaptured(
            read,
            lambda: self.sql(
                "UPDATE sale_order_line SET price_total = price_total + 1, product_uom_qty ="
                " product_uom_qty + 1"
            ),
        )

    def test_p5_a_view_that_was_replaced_makes_everything_invalid(self):
        self.addCleanup(self.engine.read_catalogue)
        self.sql("CREATE VIEW tc_replaced AS SELECT id FROM res_bank")
        self.addCleanup(self.sql, "DROP VIEW tc_replaced")
        self.engine._follow_catalogue()
        rows = "SELECT count(*) FROM cache_change WHERE relation = '#all'"
        before = self.sql(rows)
        self.sql("CREATE OR REPLACE VIEW tc_replaced AS SELECT id FROM res_country")
        self.engine._follow_catalogue()
        self.assertGreater(self.sql(rows), before)
        self.assertEqual(self.engine.catalogue.tree('tc_replaced'), {'res_country'})

    def test_p5_without_a_catalogue_entry_nothing_is_kept(self):
        self.sql("CREATE VIEW tc_new_view AS SELECT * FROM res_bank")
        self.addCleanup(self.sql, "DROP VIEW tc_new_view")
        self.patch(self.registry['res.bank'], '_table_query', "SELECT * FROM tc_new_view")
        self.engine._catalogue_at = float('inf')  # read a moment ago
        self.addCleanup(setattr, self.engine, '_catalogue_at', 0)
        for _twice in range(2):
            with self.assertMiss('uncacheable', 'unknown name'), self.request() as env:
                env['res.bank'].search_read([], ['name'])


@tagged('post_install', '-at_install')
class TestManagerRemovals(CacheCase):
    """``cache.manager`` reaches every worker, and only with its commit."""

    def read(self, env):
        return env['res.country'].search_read([('code', '=', 'BE')], ['name'])

    def test_removals_reach_the_other_worker(self):
        for remove in (
            lambda manager: manager.invalidate_all(),
            lambda manager: manager.invalidate_model('res.country'),
            lambda manager: manager.invalidate_pattern('v1:orm:res.country:*'),
        ):
            self.warm(self.read)
            with self.other_worker() as other:
                self.warm(self.read)
            self.commit(lambda env, r=remove: r(env['cache.manager']))
            with self.other_worker(other), self.assertMiss('stale'), self.request() as env:
                self.read(env)

    def test_a_removal_by_model_is_of_its_calls_and_of_its_table(self):
        last = self.sql("SELECT coalesce(max(id), 0) FROM cache_change")[0]
        self.commit(lambda env: env['cache.manager'].invalidate_model('res.country'))
        self.assertEqual(
            self.sql("SELECT relation FROM cache_change WHERE id > %s ORDER BY relation", last),
            [('pattern:v1:orm:res.country:*',), ('res_country',)],
        )

    def test_a_key_is_removed_and_others_stay(self):
        self.warm(self.read)
        with self.request(api.SUPERUSER_ID) as env:
            self.warm(lambda env: env['res.country'].search_count([]))
            keys = [
                key
                for key in self.engine.hierarchy.tiers['l1']._cache
                if ':res.country:search_read:' in key
            ]
            for key in keys:
                env['cache.manager'].invalidate_key(key)
        with self.assertMiss('cold'), self.request() as env:
            self.read(env)
        with self.assertHit(), self.request() as env:
            env['res.country'].search_count([])

    def test_what_was_being_computed_before_a_removal_is_not_valid_after_it(self):
        self.warm(self.read)
        self.forget()
        with self.request() as slow:
            slow.cr.execute("SELECT 1")
            self.commit(lambda env: env['cache.manager'].invalidate_pattern('v1:orm:res.country:*'))
            self.read(slow)
        with self.assertMiss('stale', 'removal'), self.request() as env:
            self.read(env)

    def test_what_a_slow_reader_keeps_has_met_only_the_removals_that_it_saw(self):
        """Other requests of the process look, and go on, before it computes."""
        self.warm(self.read)
        with self.request() as slow:
            self.read(slow)  # asks what its snapshot shows
            self.commit(lambda env: env['cache.manager'].invalidate_pattern('v1:orm:res.country:*'))
            with self.request() as env:
                env['res.bank'].search_count([])  # the process learns of the removal
            self.read(slow)
        with self.assertMiss('stale', 'removal'), self.request() as env:
            self.read(env)

    def test_removals_by_key_and_by_pattern_add_up(self):
        removals = Removals({'key:v1:a': 5, 'pattern:v1:*': 7})
        self.assertEqual([removals.version(key) for key in ('v1:a', 'v1:b', 'v2')], [12, 7, 0])
