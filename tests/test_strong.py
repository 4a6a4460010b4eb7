"""The interleaving that docs/strong.md draws, run step by step with real connections.

The one idea: the table of the page is the expectation.  Each column is one way to cache, and the
steps are done for each of them; what they give is compared with the cells.
"""

# pylint: disable=method-required-super

import dataclasses
import re
import time
from pathlib import Path

from odoo.tests import tagged

from .common import CacheCase

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'strong.md'
ROW = re.compile(r'^\| (\d) \| ([A-E]) \| (.*) \|$', re.MULTILINE)
COLUMNS = ('PostgreSQL', 'STRONG', 'EVENTUAL', 'WEAK', 'delete after commit')

MAX_STALENESS_S = 600


class _Deleting(dict):
    """A cache whose key is deleted after the commit of who writes."""

    def read(self, env, compute):
        if 'price' not in self:
            self['price'] = compute(env)
        return self['price']


@tagged('post_install', '-at_install')
class TestStrong(CacheCase):
    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': 'Priced', 'bic': '10'})
        self.deleting = _Deleting()
        self.warm(self.price)  # its tables are guarded, as in a server that has been running
        self.forget()
        self.look()

    def price(self, env):
        (row,) = env['res.bank'].search_read([('id', '=', self.bank)], ['bic'])
        return row['bic']

    def look(self):
        """A request to the server that has nothing to do with it."""
        with self.request() as env:
            env['res.country'].search_count([('id', '=', 1)])

    def read(self, column, env):
        if column == 'PostgreSQL':
            return self.plain(self.price, env)
        if column == 'delete after commit':
            return self.deleting.read(env, lambda env: self.plain(self.price, env))
        return self.price(env)

    def in_new_request(self, column):
        with self.request() as env:
            return self.read(column, env)

    def steps(self, column):
        """What the readers see, by step."""
        seen = {}
        with self.request() as a:
            a.cr.execute("SELECT 1")  # step 1: the snapshot
            self.sql("UPDATE res_bank SET bic = '20' WHERE id = %s", [self.bank])  # step 2
            self.deleting.clear()
            seen['3', 'A'] = self.read(column, a)
            seen['4', 'C'] = self.in_new_request(column)
            seen['5', 'A'] = self.read(column, a)
        self.pass_staleness()
        seen['6', 'D'] = self.in_new_request(column)
        self.pass_time_to_live()
        seen['7', 'E'] = self.in_new_request(column)
        return seen

    def pass_staleness(self):
        for book in self.engine._books.values():
            if book.state is not None:
                read_at = book.state.read_at - MAX_STALENESS_S - 1
                book.state = dataclasses.replace(book.state, read_at=read_at)

    def pass_time_to_live(self):
        for entry in list(self.engine.hierarchy.tiers['l1']._cache.values()):
            entry.expires = time.time() - 1
        self.deleting.clear()

    def drawn(self, column):
        """What the table of the page says, by step."""
        rows = {
            (step, reader): cells.replace('*', '').split(' | ')
            for step, reader, cells in ROW.findall(PAGE.read_text(encoding='utf-8'))
        }
        self.assertEqual(len(rows), 5)
        return {place: cells[COLUMNS.index(column)] for place, cells in rows.items()}

    def assertAsDrawn(self, column, consistency='strong'):
        self.configure(consistency=consistency, max_staleness_s=str(MAX_STALENESS_S))
        self.assertEqual(self.steps(column), self.drawn(column))

    def test_postgresql_says_what_the_page_says(self):
        self.assertAsDrawn('PostgreSQL')

    def test_strong_says_what_postgresql_says(self):
        self.assertAsDrawn('STRONG')
        self.assertEqual(self.drawn('STRONG'), self.drawn('PostgreSQL'))

    def test_strong_keeps_what_both_have_computed(self):
        """It is a cache meanwhile: A's value is kept for A, and C's for who comes after C."""
        with self.request() as a:
            a.cr.execute("SELECT 1")
            self.sql("UPDATE res_bank SET bic = '20' WHERE id = %s", [self.bank])
            self.price(a)
            with self.assertHit():
                self.assertEqual(self.price(a), '10')
            with self.assertMiss('stale', 'res_bank'):
                self.in_new_request('STRONG')
            with self.assertHit():
                self.assertEqual(self.in_new_request('STRONG'), '20')

    def test_eventual_is_late_within_its_bound(self):
        self.assertAsDrawn('EVENTUAL', 'eventual')

    def test_weak_is_late_until_its_time_is_over(self):
        self.assertAsDrawn('WEAK', 'weak')

    def test_deleting_after_the_commit_serves_the_wrong_value(self):
        self.assertAsDrawn('delete after commit')

    def test_bold_is_what_postgresql_would_not_have_said(self):
        for _step, _reader, cells in ROW.findall(PAGE.read_text(encoding='utf-8')):
            right, *others = cells.split(' | ')
            for cell in others:
                self.assertEqual(cell.startswith('**'), cell.strip('*') != right)

    def test_in_the_same_process_every_level_sees_the_commit_at_once(self):
        for consistency in ('strong', 'eventual', 'weak'):
            with self.subTest(consistency=consistency):
                self.configure(consistency=consistency, max_staleness_s=str(MAX_STALENESS_S))
                self.warm(self.price)
                bic = f'30 {consistency}'.upper()
                self.commit(lambda env, bic=bic: env['res.bank'].browse(self.bank).write(
                    {'bic': bic}
                ) and None)  # fmt: skip
                self.assertEqual(self.in_new_request('STRONG'), bic)

    def test_a_total_fits_its_lines_within_one_transaction(self):
        """What REPEATABLE READ adds, and a cache must not take away."""

        def total(env):
            return env['res.bank'].search_count([('name', '=', 'Priced')])

        self.warm(total)
        with self.request() as env:
            env.cr.execute("SELECT count(*) FROM res_bank WHERE name = 'Priced'")
            (lines,) = env.cr.fetchone()
            self.make('res.bank', {'name': 'Priced'})
            with self.request() as newer:
                self.assertEqual(total(newer), lines + 1)  # and kept
            self.assertEqual(total(env), lines)
