"""A short leak hunt over the current database, see ``proof/leaks``.

Two processes that share Redis and L3, people of several groups and companies, privileges given and
taken in between.  It commits, so it is not part of the standard tests: ``scripts/test`` runs it in
the demo database.
"""

import logging
import os
import sys

from odoo.tests import BaseCase, get_db_name, tagged

from ..bench.common import ROOT

_logger = logging.getLogger(__name__)
SEED = 19
TIME_BOX_S = 60
MODELS = (
    'sale.order',
    'res.partner',
    'product.template',
    'stock.picking',
    'account.move',
    'purchase.order',
    'ir.attachment',
    'res.users',
    'account.move.line',
    'stock.quant',
    'ir.filters',
    'product.pricelist',
)


@tagged('-standard', 'tiered_cache_demo', 'post_install', '-at_install')
class TestLeaks(BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if str(ROOT) not in sys.path:
            sys.path.append(str(ROOT))  # the worker processes know these modules by this name too
            cls.addClassCleanup(sys.path.remove, str(ROOT))
        from proof.programs.leaks_hunt import Hunt

        database = get_db_name()
        redis_url = os.environ.get('TIERED_CACHE_TEST_REDIS', '')
        seconds = float(os.environ.get('TIERED_CACHE_LEAKS_S', TIME_BOX_S))
        cls.hunt = Hunt([database], None, SEED, redis_url=redis_url, say=_logger.info)
        with cls.hunt.running():
            only = [name for name in MODELS if name in cls.hunt.models]
            cls.hunt.hunt(seconds=seconds, only=only, size=2)
        _logger.info("leak hunt: %s", cls.hunt.line())

    def test_nobody_is_served_what_they_may_not_see(self):
        self.assertEqual(self.hunt.differences, [])

    def test_the_cache_was_asked(self):
        self.assertGreater(sum(self.hunt.hits.values()), 0)
        self.assertGreater(self.hunt.counts['audits'], 0)
        self.assertGreater(len(self.hunt.users), 3)

    def test_privileges_changed_meanwhile(self):
        self.assertGreater(sum(self.hunt.changes.values()), 0)
