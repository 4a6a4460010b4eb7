"""What environments remember of their user; see ``services/remembered.py``."""

import contextlib

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

    @contextlib.contextmanager
    def going_on(self):
        """A request that goes on after its commit, with a company that its user has lost meanwhile;
        afterwards nobody gets that company's answer."""
        uid, both = self.with_two_companies()
        self.warm(self.partners, **both)
        with self.request(**both) as env:
            self.assertIn(env.company, env.companies)
            self.lose_company(uid)
            env.cr.commit()
            yield env, both
        with self.assertRaises(AccessError), self.request(**both) as env:
            self.partners(env)

    def test_nothing_is_kept_with_a_company_that_was_lost_between_two_commits(self):
        with self.going_on() as (env, _both), self.assertMiss('old_snapshot'):
            self.partners(env)

    def test_nor_is_what_others_compute_beside_it(self):
        """The domain of a record rule is in ``tools.ormcache`` now, with both companies."""
        with self.going_on() as (env, both):
            self.partners(env)
            with self.request(**both) as other, self.assertMiss('old_snapshot'):
                self.partners(other)

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

    # -- each of them ------------------------------------------------------------------

    def test_each_value_is_looked_up_again(self):
        wrong = {'lang': 'xx_XX'}
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
        names = (*remembered.NAMES, 'tz')
        with self.request() as env:
            for name in names:
                getattr(env, name)
            self.partners(env)
            reading._forget(self.engine, env)
            self.assertFalse(set(names) & set(vars(env)))
