"""Cached values as text."""

import datetime

from odoo.tests import BaseCase, tagged

from ..services.pretty import MAX_LEAF, render


@tagged('post_install', '-at_install')
class TestPretty(BaseCase):
    def test_rows_are_shown_one_field_per_line(self):
        text, cut = render([{'id': 1, 'partner_id': (3, "Mitchell"), 'line_ids': [1, 2]}], 1000)
        self.assertFalse(cut)
        self.assertEqual(
            text,
            "[\n  {\n    'id': 1,\n    'partner_id': (3, 'Mitchell'),\n"
            "    'line_ids': [1, 2],\n  },\n]",
        )

    def test_types_can_be_told_apart(self):
        values = (
            None,
            'None',
            False,
            0,
            0.0,
            '',
            b'',
            (),
            [],
            {},
            (1,),
            [1],
            {1: 'a'},
            {'1': 'a'},
            datetime.date(2030, 1, 1),
            '2030-01-01',
        )
        self.assertEqual(len({render(value, 1000) for value in values}), len(values))

    def test_a_large_value_is_cut_where_it_is_told(self):
        text, cut = render([{'id': number} for number in range(100_000)], 200)
        self.assertTrue(cut)
        self.assertEqual(len(text), 200)

    def test_a_long_text_is_shortened_and_says_how_long_it_is(self):
        text, cut = render({'image': b'x' * 10_000}, 20_000)
        self.assertFalse(cut)
        self.assertLess(len(text), MAX_LEAF + 100)
        self.assertIn("(10000)", text)
