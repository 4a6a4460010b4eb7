"""What an administrator does in the backend, done in Chromium on a server of its own.

The one idea: the server of a test case answers within the transaction of the test, in which the
cache steps aside.  So these tours visit another process, which commits as servers do.

What may go wrong: what a tour has committed stays.  It is removed by a cursor of its own.
"""

import contextlib
import json
import os

from odoo import api
from odoo.modules.registry import Registry
from odoo.sql_db import db_connect
from odoo.tests import HttpCase, tagged
from odoo.tests.common import get_db_name

from ..services.engine import engine_for
from .test_workers import Server

MODEL = 'res.currency'


@contextlib.contextmanager
def committed():
    """An environment of its own that commits at the end."""
    with contextlib.closing(db_connect(get_db_name()).cursor()) as cr:
        yield api.Environment(cr, api.SUPERUSER_ID, {})
        cr.commit()  # pylint: disable=invalid-commit  # a cursor of our own


@tagged('post_install', '-at_install')
class TestTours(HttpCase):
    server = None

    @classmethod
    def setUpClass(cls):
        # before the transaction of this class writes to one of these tables: while it is open,
        # nobody could have it watched
        engine = engine_for(Registry(get_db_name()))
        for relation in sorted(engine.always | {'res_currency'}):
            if reason := engine.guards.guard_now(relation):
                raise AssertionError(f'{relation}: {reason}')
        super().setUpClass()

    @classmethod
    def base_url(cls):
        return f'http://127.0.0.1:{cls.server.port}' if cls.server else super().base_url()

    def tour(self, name, path, before='', **options):
        """:param before: JavaScript that runs first
        :param options: of the server
        """
        with Server(workers=0, **options) as server:
            self.patch(type(self), 'server', server)
            settings = json.dumps({'stepDelay': 0, 'startUrl': f'/odoo/{path}'})
            self.start_tour(
                f'/odoo/{path}',
                name,
                code=f'{before}odoo.startTour({name!r}, {settings})',
                login='admin',
                timeout=120,
            )
            self.assertNotIn('Traceback', server.log())

    def remove_committed(self):
        with committed() as env:
            env['cache.rule'].with_context(active_test=False).search(
                [('model', '=', MODEL)]
            ).unlink()
            env['cache.log'].search([('create_uid', '=', env.ref('base.user_admin').id)]).unlink()

    def test_a_rule_that_is_switched_off_has_the_next_read_computed(self):
        with committed() as env:
            env['cache.rule'].create({'model': MODEL, 'enabled': True})
        self.addCleanup(self.remove_committed)
        self.tour('tiered_cache_rule_off', 'action-tiered_cache.cache_rule_action?debug=tests')
        with committed() as env:
            rule = env['cache.rule'].search([('model', '=', MODEL)])
            self.assertEqual((rule.enabled, rule.state), (False, 'off'))
            log = env['cache.log'].search([('action', '=', 'change')], limit=1)
            self.assertIn("Cached", log.details)

    def test_a_card_moves_to_the_column_of_what_it_does(self):
        with committed() as env:
            env['cache.rule'].create({'model': MODEL, 'enabled': True})
        self.addCleanup(self.remove_committed)
        self.tour('tiered_cache_rule_card', 'action-tiered_cache.cache_rule_action?debug=tests')

    def test_removal_by_pattern_with_preview(self):
        self.addCleanup(self.remove_committed)
        self.tour(
            'tiered_cache_remove_by_pattern', 'action-tiered_cache.cache_entry_action?debug=tests'
        )
        with committed() as env:
            log = env['cache.log'].search([('action', '=', 'remove')], limit=1)
            self.assertEqual(log.target, f'v1:orm:{MODEL}:*')
            self.assertGreater(log.removed_l1, 0)

    def test_settings_with_a_bad_and_a_good_redis_url(self):
        good = os.environ.get('TIERED_CACHE_TEST_REDIS')
        self.assertTrue(good, "set TIERED_CACHE_TEST_REDIS to the URL of a Redis")
        self.tour(
            'tiered_cache_redis_settings',
            'action-tiered_cache.res_config_settings_action?debug=tests',
            before=f'window.tieredCacheRedis = {json.dumps(good)}; ',
            redis_url=None,
        )
