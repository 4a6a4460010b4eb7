"""What environments remember of their user; see ``services/remembered.py``."""

from datetime import date

import pytz

from odoo.addons.tiered_cache.services import reading, remembered
from odoo.exceptions import AccessError
from odoo.fields import Command
from odoo.tests import tagged

from .common import CacheCase


@tagged('post_install', '-at_install')
class TestRemembered(CacheCase):
    def make_user(self, **values):
        return self.make('res.users', {'name': "Remembered", 'login': 'remembered', **values})

    # -- companies ---------------------------------------------------------------------

    def with_two_companies(self):
        """A user, and what is asked of a request with both companies."""
        both = [self.make('res.company', {'name': "Remembered"}), 1]
        uid = self.make_user(company_ids=[Command.set(both)], company_id=1)
        return uid, {'uid': uid, 'allowed_company_ids': both}

    @staticmethod
    def partners(env):
        return env['res.partner'].search_count([])

    def lose_company(self, uid):
        def take(env):
            env['res.users'].browse(uid).company_ids = [Command.set([1])]

        self.commit(take)

    def test_nothing_is_kept_with_a_company_that_was_lost_between_two_commits(self):
        uid, both = self.with_two_companies()
        self.warm(self.partners, **both)
        with self.request(**both) as env:
            self.assertIn(env.company, env.companies)
            self.lose_company(uid)
            env.cr.commit()
            with self.assertMiss('old_snapshot'):
                self.partners(env)
        with self.assertRaises(AccessError), self.request(**both) as env:
            self.partners(env)

    def test_nor_is_what_others_compute_beside_it(self):
        """The domain of a record rule is in ``tools.ormcache`` now, with both companies."""
        uid, both = self.with_two_companies()
        self.warm(self.partners, **both)
        with self.request(**both) as env:
            self.assertIn(env.company, env.companies)
            self.lose_company(uid)
            env.cr.commit()
            self.partners(env)
            with self.request(**both) as other, self.assertMiss('old_snapshot'):
                self.partners(other)
        with self.assertRaises(AccessError), self.request(**both) as env:
            self.partners(env)

    def test_what_is_remembered_rightly_changes_nothing(self):
        _uid, both = self.with_two_companies()
        self.warm(self.partners, **both)
        self.forget()
        with self.request(**both) as env:
            self.assertIn(env.company, env.companies)
            env.cr.commit()
            with self.assertMiss('cold'):
                self.partners(env)
        with self.assertHit(), self.request(**both) as env:
            self.partners(env)

    # -- time zone ---------------------------------------------------------------------

    def set_zone(self, uid, zone):
        self.sql(
            "UPDATE res_partner SET tz = %s FROM res_users u"
            " WHERE u.partner_id = res_partner.id AND u.id = %s",
            [zone, uid],
        )

    def test_a_time_zone_is_a_dependency_wherever_it_is_remembered(self):
        uid = self.make_user(tz='Asia/Tokyo')
        bank = self.make('res.bank', {'name': "Remembered"})
        self.sql("UPDATE res_bank SET create_date = '2026-01-01 02:00' WHERE id = %s", [bank])

        def since_new_year(env):
            return env['res.bank'].search_count(
                [('id', '=', bank), ('create_date', '>=', date(2026, 1, 1))]
            )

        request = {'uid': uid, 'tz': False}
        self.assertEqual(self.warm(since_new_year, **request), 1)
        self.forget()
        with self.request(**request) as env:
            self.assertEqual(env.tz, pytz.timezone('Asia/Tokyo'))
            env.invalidate_all()
            since_new_year(env)
        with self.assertHit(), self.request(**request) as env:
            since_new_year(env)
        self.set_zone(uid, 'America/New_York')
        with self.request(**request) as env:
            self.assertEqual(since_new_year(env), 0)

    def test_so_it_is_for_a_named_entry(self):
        uid = self.make_user(tz='Asia/Tokyo')
        request = {'uid': uid, 'tz': False}

        def zone(env):
            self.assertTrue(env.tz)
            return env['cache.manager'].get_or_compute(
                'v1:remembered:zone', lambda: env.tz.zone, ttl_s=60
            )

        self.assertEqual(self.warm(zone, **request), 'Asia/Tokyo')
        self.set_zone(uid, 'America/New_York')
        with self.request(**request) as env:
            self.assertEqual(zone(env), 'America/New_York')

    # -- each of them ------------------------------------------------------------------

    def test_each_value_is_looked_up_again(self):
        wrong = {'tz': pytz.timezone('Asia/Tokyo'), 'lang': 'xx_XX'}
        for context in ({}, {'tz': False, 'allowed_company_ids': False, 'lang': False}):
            with self.request(**context) as env:
                for name in remembered.NAMES:
                    with self.subTest(name=name, context=context):
                        getattr(env, name)
                        self.assertFalse(remembered.is_outdated(env.transaction))
                        vars(env)[name] = wrong.get(name, env['res.company'])
                        self.assertTrue(remembered.is_outdated(env.transaction))
                        vars(env).pop(name)

    def test_an_audit_can_do_without_it(self):
        with self.request() as env:
            for name in remembered.NAMES:
                getattr(env, name)
            self.partners(env)
            reading._forget(self.engine, env)
            self.assertFalse(set(remembered.NAMES) & set(vars(env)))
