"""Odoo's server, as :mod:`.odoo_tests` starts it: all tests of a module after loading.

Odoo runs tests tagged ``at_install`` while it loads their module, when this addon steps aside
because the registry is not complete.  Here they run with those tagged ``post_install``, once
everything is loaded, so that the cache works in all of them, and without this addon just the
same.  Tests that start a browser are skipped: they try JavaScript, and take most of the time.

At the end a file holds how many queries each test made and what the cache did:
``ODOO_TESTS_REPORT`` names it.

What may go wrong: a test that passes only while its module is being installed.  It fails
without the addon too.
"""

import json
import os
from pathlib import Path

import odoo.cli
from odoo import sql_db
from odoo.modules.registry import Registry
from odoo.service import server

REPLAYS = []


def main():
    original = server.preload_registries

    def preload_registries(dbnames):
        report = os.environ.get('ODOO_TESTS_REPORT')
        if report:
            change_suites()
        code = original(dbnames)
        if report:
            write_report(Registry.registries[dbnames[0]], Path(report))
        return code

    server.preload_registries = preload_registries
    odoo.cli.main()


def change_suites():
    # not before the server knows its options: importing tests looks at them
    from odoo.tests import common, loader  # noqa: PLC0415

    make_suite = loader.make_suite

    def one_suite(module_names, position='at_install'):
        tests = []
        if position == 'post_install':
            # the first time any test may look, so that all see the guards
            start_engine(common.get_db_name())
            tests = [
                *make_suite(module_names, 'at_install'),
                *make_suite(module_names, 'post_install'),
            ]
        return Suite(tests)

    class Suite(loader.OdooSuite):
        def has_http_case(self):
            return False  # only asks whether to make the bundles that browsers want

    def browser_js(self, *args, **kwargs):
        self.skipTest("starts a browser")

    loader.make_suite = one_suite
    common.HttpCase.browser_js = browser_js


def start_engine(db_name):
    registry = Registry(db_name)
    if 'cache.manager' in registry:
        from odoo.addons.tiered_cache.services.engine import engine_for  # noqa: PLC0415
        from odoo.addons.tiered_cache.services.keeper import keeper  # noqa: PLC0415

        engine = engine_for(registry)
        # the queries of our own thread are none of the tests'
        keeper()._thread.query_hooks = [uncount]
        if type(engine).__name__ == 'TestEngine':
            start_replay()


def uncount(cr, query, params, start, delay):
    sql_db.sql_counter -= 1


def start_replay():
    # only now: the addon's modules are loaded with the database
    from odoo.addons.tiered_cache.services import reading, transaction  # noqa: PLC0415

    from . import odoo_tests_replay  # noqa: PLC0415

    replay = odoo_tests_replay.Replay(os.environ.get('ODOO_TESTS_SEED', '0'))
    replay.install(reading, transaction)
    REPLAYS.append(replay)


def write_report(registry, path):
    report = {
        'tests': {
            name: {'queries': stat.queries, 'time_s': round(stat.time, 3)}
            for name, stat in registry._assertion_report.stats.items()
        }
    }
    if 'cache.manager' in registry:
        from odoo.addons.tiered_cache.services.engine import engine_for  # noqa: PLC0415

        report['cache'] = engine_for(registry).stats()
        report['replay'] = dict(REPLAYS[0].done) if REPLAYS else {}
    path.write_text(json.dumps(report, default=str))


if __name__ == '__main__':
    main()
