"""Opens everything in the current database on real servers, see ``bench/crawl.py``.

It needs a database with demo data that nothing else changes meanwhile, so it is not part
of the standard tests: ``scripts/test`` runs it in the demo database.
"""

import logging
import os

from odoo.tests import BaseCase, get_db_name, tagged

from ..bench import crawl

_logger = logging.getLogger(__name__)
TIME_BOX_S = 400


# Not a TransactionCase: the servers must see what is committed, and no cursor of this
# process may keep a snapshot open while they compact the journal.
@tagged("-standard", "tiered_cache_demo", "post_install", "-at_install")
class TestCrawl(BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        time_s = float(os.environ.get("TIERED_CACHE_CRAWL_S", TIME_BOX_S))
        cls.report = crawl.crawl(get_db_name(), time_s=time_s)
        _logger.info(
            "crawl of %s window actions: %s calls, %s hits audited, %s errors, %s s",
            cls.report["actions"],
            sum(cls.report["calls"].values()),
            cls.report["audited"],
            len(cls.report["errors"]),
            cls.report["seconds"],
        )

    def test_answers_equal_those_of_plain_odoo(self):
        self.assertEqual(self.report["differences"], [])

    def test_auditor_finds_no_difference(self):
        self.assertGreater(self.report["audited"], 0)
        self.assertEqual(self.report["audit_differences"], 0)

    def test_every_read_method_hits(self):
        never = [method for method, hits in self.report["hits"].items() if not hits]
        self.assertEqual(never, [])

    def test_every_window_action_is_opened(self):
        self.assertGreater(self.report["actions"], 0)
        self.assertEqual(self.report["skipped"].get("main", 0), 0)

    def test_server_logs_no_error_of_the_addon(self):
        self.assertEqual(self.report["log"], [])
