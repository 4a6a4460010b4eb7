"""The files of our views, as Odoo's own tests would read them."""

import re
from pathlib import Path

from odoo.tests import tagged
from odoo.tests.common import BaseCase

VIEWS = Path(__file__).parent.parent / 'views'
HIDDEN = re.compile(r"""(<field [^>]*invisible=['"](?:True|1)['"][^>]*>)\s*(.*)""")
"""As in ``TestInvisibleField`` of ``base``."""


@tagged('post_install', '-at_install')
class TestViewFiles(BaseCase):
    def test_a_field_that_is_never_shown_says_why_it_is_there(self):
        found = [
            (path.name, field, after)
            for path in sorted(VIEWS.glob('*.xml'))
            for field, after in HIDDEN.findall(path.read_text(encoding='utf-8'))
        ]
        self.assertGreater(len(found), 10)
        for name, field, after in found:
            with self.subTest(name, field=field):
                self.assertTrue(after.startswith('<!--'))
