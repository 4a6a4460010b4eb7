"""docs/cookbook.md: every recipe is run.

The one idea: the class of a recipe is executed with a plain base, and its methods are put on the
model in the registry until the test ends, so what is tested is the text of the page.
"""

# pylint: disable=method-required-super

import re
import threading
import types
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree

from odoo import api
from odoo.addons.tiered_cache import MISS, NOT_CHANGED, Tagged, cached, warmup
from odoo.exceptions import AccessError
from odoo.modules.registry import Registry
from odoo.tests import tagged
from odoo.tools import mute_logger

from ..services import warming
from ..services.metrics import REASONS
from .common import ADMIN, CacheCase

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'cookbook.md'
RECIPE = re.compile(r'^## (.*?)$(.*?)(?=^## |\Z)', re.MULTILINE | re.DOTALL)
CODE = re.compile(r'```(python|xml)\n(.*?)```', re.DOTALL)
WITHOUT_CODE = {'When not to cache'}


def recipes() -> dict[str, str]:
    """The code of each recipe, by heading."""
    page = PAGE.read_text(encoding='utf-8')
    return {title: (CODE.search(text) or ['', '', ''])[2] for title, text in RECIPE.findall(page)}


@tagged('post_install', '-at_install')
class TestCookbook(CacheCase):
    def setUp(self):
        super().setUp()
        # held while tests run; a server does not hold it, and other threads need it
        self.patch(Registry, '_lock', threading.RLock())
        self.bank = self.make('res.bank', {'name': 'Before', 'bic': 'BIC'})
        self.asked = []
        self.said = []

    def cook(self, title, **helpers):
        """Execute a recipe; its methods, and the helpers, are those of the model in this test.

        :return: what the recipe has defined
        """
        defined = {
            'models': types.SimpleNamespace(Model=object),
            '_logger': types.SimpleNamespace(
                info=lambda text, *args: self.said.append(text % args)
            ),
            'api': api,
            'cached': cached,
            'warmup': warmup,
            'MISS': MISS,
            'NOT_CHANGED': NOT_CHANGED,
            'Tagged': Tagged,
        }
        code = recipes()[title].replace('from odoo import models\n', '')
        exec(code, defined)  # pylint: disable=exec-used  # noqa: S102
        for recipe in [d for d in defined.values() if getattr(d, '_inherit', None)]:
            if recipe.__module__ != 'builtins':
                continue
            for name, method in {**vars(recipe), **helpers}.items():
                if callable(method):
                    self.enterContext(
                        patch.object(self.registry[recipe._inherit], name, method, create=True)
                    )
        return defined

    def of_bank(self, method, *args):
        return lambda env: getattr(env['res.bank'].browse(self.bank), method)(*args)

    def rename(self, name):
        self.sql("UPDATE res_bank SET name = %s WHERE id = %s", [name, self.bank])

    def asking(self, answer):
        """A helper that stands for an outside service, and notes what it is asked."""

        def ask(_records, *args, **kwargs):
            self.asked.append(args or kwargs)
            return answer(*args, **kwargs)

        return ask

    def user(self, login, **values):
        return self.make('res.users', {'name': login, 'login': login, **values})

    def test_each_recipe_has_a_test(self):
        for title, code in recipes().items():
            name = 'test_' + re.sub(r'\W+', '_', title.lower())
            with self.subTest(recipe=title):
                self.assertEqual(not code, title in WITHOUT_CODE)
                self.assertTrue(not code or hasattr(self, name), name)

    def test_cache_a_slow_method(self):
        self.cook('Cache a slow method')
        summary = self.of_bank('summary')
        self.assertCaptured(summary, lambda: self.rename('After'))
        self.assertCaptured(summary, lambda: self.make('res.bank', {'name': 'Another'}))

    def test_one_value_for_everybody(self):
        self.cook('One value for everybody')
        other = self.user('cook_all')
        self.warm(lambda env: env['res.bank'].directory())
        with self.assertHit(), self.request(other, lang='fr_FR') as env:
            self.assertEqual(env['res.bank'].directory()[self.bank], 'Before')
        self.rename('After')
        with self.assertMiss('stale'), self.request() as env:
            self.assertEqual(env['res.bank'].directory()[self.bank], 'After')

    def test_one_value_for_a_company(self):
        self.cook('One value for a company')
        company = self.make('res.company', {'name': "Cooked"})
        self.commit(lambda env: env['res.users'].browse(ADMIN).write(
            {'company_ids': [(4, company)]}) and None)  # fmt: skip
        other = self.user('cook_company')
        self.make('res.partner', {'name': "Theirs", 'company_id': company})

        def count(env):
            return env['res.partner'].own_contacts()

        ours = self.warm(count)
        with self.assertHit(), self.request(other) as env:
            self.assertEqual(count(env), ours)
        with self.assertMiss(), self.request(allowed_company_ids=[company]) as env:
            self.assertEqual(count(env), 1)

    def test_say_what_a_value_depends_on(self):
        self.cook('Say what a value depends on')
        self.warm(lambda env: env['res.bank'].search_count([]))  # guards the table
        with self.request() as env:
            self.assertTrue(env['res.bank'].browse(self.bank).keep_rating('AA'))
        with self.assertHit(), self.request() as env:
            self.assertEqual(env['res.bank'].browse(self.bank).rating(), 'AA')
        self.rename('After')
        with self.assertMiss('stale', 'res_bank'), self.request() as env:
            self.assertIsNone(env['res.bank'].browse(self.bank).rating())

    def test_remove_things_together(self):
        ask = self.asking(lambda amount: amount / 100)
        self.cook('Remove things together', _ask_for_fee=ask)
        self.warm(self.of_bank('fee', 100))
        self.warm(self.of_bank('fee', 200))
        self.patch(self.engine.emptying, '_tiers', dict)  # nothing is taken out of L1
        self.commit(lambda env: env['res.bank'].fees_have_changed())
        for amount in (100, 200):
            with self.assertMiss('stale', 'tag:fees'), self.request() as env:
                self.of_bank('fee', amount)(env)

    def test_remove_on_an_event(self):
        self.cook('Remove things together', _ask_for_fee=self.asking(lambda _amount: 1))
        record = ElementTree.fromstring(recipes()['Remove on an event'])
        self.make(record.get('model'), {field.get('name'): field.text for field in record})
        self.forget_listeners()
        self.addCleanup(self.forget_listeners)
        self.warm(self.of_bank('fee', 100))
        self.commit(lambda env: env['res.bank'].browse(self.bank).write({'name': 'After'}) and None)
        with self.assertHit(), self.request() as env:
            self.of_bank('fee', 100)(env)
        self.commit(lambda env: env['res.bank'].browse(self.bank).write({'bic': 'NEW'}) and None)
        with self.assertMiss('stale'), self.request() as env:
            self.of_bank('fee', 100)(env)

    def test_survive_an_outside_service(self):
        self.cook('Survive an outside service', _ask_for_rates=lambda _bank: {'EUR': 1})
        self.warm(self.of_bank('rates'))
        self.end_lives()

        def fails(_bank):
            raise OSError("the service is down")

        with (
            patch.object(self.registry['res.bank'], '_ask_for_rates', fails),
            mute_logger('odoo.addons.tiered_cache.services.engine'),
            self.request() as env,
        ):
            answer = self.of_bank('rates')(env)
        self.assertEqual((answer.value, answer.origin), ({'EUR': 1}, 'expired'))

    def test_ask_only_whether_it_has_changed(self):
        ask = self.asking(lambda etag: types.SimpleNamespace(
            status=304 if etag else 200, json=['Main Street'], etag='v1'))  # fmt: skip
        self.cook('Ask only whether it has changed', _ask_for_branches=ask)
        self.warm(self.of_bank('branches'))
        self.end_lives()
        self.asked.clear()
        with self.request() as env:
            self.assertEqual(self.of_bank('branches')(env), ['Main Street'])
        self.assertEqual(self.asked, [{'etag': 'v1'}])
        with self.assertHit(), self.request() as env:
            self.of_bank('branches')(env)

    def end_lives(self):
        """The time to live of what is kept is over."""
        l1 = self.engine.hierarchy.tiers['l1']
        for entry in list(l1._cache.values()):
            entry.created -= 61
            entry.expires -= 61

    def test_many_keys_at_once(self):
        ask = self.asking(lambda ids: {id_: id_ * 10 for id_ in ids})
        self.cook('Many keys at once', _ask_for_limits=ask)
        ids = [self.bank, self.make('res.bank', {'name': 'Second'})]
        expected = {id_: id_ * 10 for id_ in ids}
        self.warm(lambda env: env['cache.manager'].get_or_compute('bank:any', lambda: 1))
        for count in (1, 2, 2):
            with self.request() as env:
                limits = env['res.bank'].browse(ids[:count]).limits()
            self.assertEqual(limits, {id_: expected[id_] for id_ in ids[:count]})
        self.assertEqual(self.asked, [(ids[:1],), (ids[1:],)])

    def test_check_rights_on_every_call(self):
        self.cook('Check rights on every call')
        groups = self.commit(lambda env: env.ref('base.group_portal').ids)
        stranger = self.user('cook_stranger', group_ids=[(6, 0, groups)])
        self.warm(self.of_bank('risk'))
        with self.assertRaises(AccessError), self.request(stranger) as env:
            self.of_bank('risk')(env)
        with self.assertHit(), self.request() as env:
            self.of_bank('risk')(env)

    def test_cache_what_is_made_of_cached_parts(self):
        fees = [1]
        self.cook('Cache what is made of cached parts', _ask_for_fee=lambda _bank, _amount: fees[0])
        self.assertEqual(self.warm(self.of_bank('label')), 'Before: 1 EUR')
        fees[0] = 2
        self.patch(self.engine.emptying, '_tiers', dict)  # nothing is taken out of L1
        self.commit(lambda env: env['cache.manager'].invalidate_tag('fees') and None)
        with self.assertMiss('stale', 'tag:fees'), self.request() as env:
            self.assertEqual(self.of_bank('label')(env), 'Before: 2 EUR')
        for remove in ('delete', 'invalidate_pattern'):
            self.warm(self.of_bank('label'))
            name = f'bank:fee_text:{self.bank}'
            if remove == 'invalidate_pattern':
                name = 'v1:bank:fee_text:*'
            self.commit(lambda env, r=remove, n=name: getattr(env['cache.manager'], r)(n) and None)
            with self.assertMiss('stale'), self.request() as env:
                self.of_bank('label')(env)

    def test_warm_a_method(self):
        self.configure(l3_enabled='1')
        self.addCleanup(self.sql, 'DELETE FROM cache_entry')
        self.cook('Warm a method')
        other = self.user('cook_warm')
        zone = self.commit(lambda env: env['res.users'].browse(ADMIN).tz)
        set_zone = 'UPDATE res_partner SET tz = %s WHERE id = (SELECT partner_id FROM res_users'
        set_zone += ' WHERE id = %s)'
        self.addCleanup(self.sql, set_zone, [zone or None, ADMIN])
        self.sql(set_zone, ['Europe/Brussels', ADMIN])
        self.addCleanup(warming._decorated_names.discard, '_warm_branch_counts')
        self.warm(self.of_bank('branch_count'))  # guards the tables
        self.sql('DELETE FROM cache_entry')
        self.forget()
        method = 'res.bank._warm_branch_counts'
        vals = {'name': "Counts", 'kind': 'method', 'method': method, 'user_ids': [(4, ADMIN)]}
        run = self.make('cache.warmup', vals)
        done = self.commit(lambda env: env['cache.warmup'].browse(run)._run())
        self.assertEqual((done['state'], done['warmed']), ('done', 1))
        count = self.of_bank('branch_count')
        with self.assertHit(), self.request(other, lang='fr_FR') as env:
            found = count(env)
        with self.request() as env:
            self.assertEqual(found, self.plain(count, env))

    def test_test_a_cached_method(self):
        self.cook('Cache a slow method')
        example = self.cook('Test a cached method')['TestSummary']
        example.test_a_summary_is_kept_until_the_bank_changes(self)
        with (
            patch.object(self.registry['res.bank'], 'summary', lambda bank: {'name': bank.name}),
            self.assertRaises(AssertionError, msg="it tests the cache"),
        ):
            example.test_a_summary_is_kept_until_the_bank_changes(self)

    def test_find_out_why_it_is_computed(self):
        self.cook('Find out why it is computed')
        self.warm(self.of_bank('explained_summary'))
        with self.request() as env:
            self.assertEqual(self.of_bank('explained_summary')(env), 'Before')
        self.assertIn('from l1, ', self.said[-1])
        rows = re.findall(r'^\| (\w+) \|', PAGE.read_text(encoding='utf-8'), re.MULTILINE)
        self.assertLessEqual(set(rows) - {'reason'}, set(REASONS))
        self.assertGreaterEqual(len(rows), 8)
