"""Dates in keys, code that looks at the clock, shapes that are put together again."""

import collections
import contextlib
import os
import tempfile
import types
from datetime import datetime
from unittest.mock import patch

import odoo.orm
import odoo.tools
from odoo import fields
from odoo.http import request
from odoo.tests import tagged
from odoo.tests.common import BaseCase, TransactionCase, freeze_time

from ..services import clock, fingerprint, reading, shapes
from .common import CacheCase


@tagged('post_install', '-at_install')
class TestDates(TransactionCase):
    def dates(self, **context):
        return clock.dates(self.env['base'].with_context(**context).env)

    def test_the_user_s_date_is_part_of_the_key(self):
        with freeze_time('2026-03-01 23:30:00'):
            self.assertEqual(self.dates(tz='Europe/Brussels'), ('20260301', '20260302'))
            self.assertEqual(self.dates(tz='America/New_York'), ('20260301', '20260301'))

    def test_midnight_changes_the_key(self):
        with freeze_time('2026-03-01 22:59:00'):
            before = self.dates(tz='Europe/Brussels')
        with freeze_time('2026-03-01 23:01:00'):
            self.assertNotEqual(self.dates(tz='Europe/Brussels'), before)

    def test_without_a_time_zone_a_quarter_of_an_hour_stands_for_it(self):
        with freeze_time('2026-03-01 12:01:00'):
            before = self.dates()
        with freeze_time('2026-03-01 12:14:00'):
            self.assertEqual(self.dates(), before)
        with freeze_time('2026-03-01 12:16:00'):
            self.assertNotEqual(self.dates(), before)

    def test_an_unknown_time_zone_is_no_error(self):
        self.assertEqual(len(self.dates(tz='Mars/Olympus')), 2)

    def test_relative_dates_in_domains(self):
        self.assertTrue(clock.mentions_clock(([['date', '>', '-3d']],)))
        self.assertTrue(clock.mentions_clock((['|', ('date', '>', 'now'), ('a', '=', 1)],)))
        self.assertFalse(clock.mentions_clock(([['name', 'ilike', 'nowhere']],)))
        self.assertFalse(clock.mentions_clock(([['date', '>', '2026-01-01']],)))


class Looks:
    """Stands for a model class."""

    def _direct(self):
        return datetime.now()

    def _by_helper(self):
        return self._helper()

    def _helper(self):
        return datetime.utcnow()

    def _in_lambda(self):
        return sorted([], key=lambda x: datetime.now() - x)

    def _watched(self):
        return fields.Datetime.now()

    def _date_only(self):
        return fields.Date.today()

    def _request(self):
        return request.session


@tagged('post_install', '-at_install')
class TestCode(BaseCase):
    def uses(self, name):
        return clock._uses(Looks, name)

    def test_the_clock_is_found(self):
        for name in ('_direct', '_by_helper', '_in_lambda'):
            with self.subTest(name):
                self.assertIn('clock', self.uses(name))

    def test_a_date_is_no_clock(self):
        self.assertFalse(self.uses('_date_only'))

    def test_what_tells_at_run_time_is_not_guessed(self):
        self.assertFalse(self.uses('_watched'))

    def test_the_web_request_is_found(self):
        self.assertIn('request', self.uses('_request'))

    def test_a_field_that_is_grouped_by_is_looked_at(self):
        class Records(Looks):
            _fields = {name: fields.Char() for name in ('_by_helper', '_date_only')}  # noqa: RUF012

        class Env(dict):
            registry = types.SimpleNamespace()

        records = Records()
        records.env = Env(records=records)
        for name, field in Records._fields.items():
            field.search, field.model_name = name, 'records'
        groups = clock.groups_by_clock
        self.assertTrue(groups(records, 'web_read_group', ([], ['_date_only', '_by_helper'])))
        self.assertTrue(groups(records, 'formatted_read_group', ([], ('_by_helper:month',))))
        self.assertTrue(groups(records, 'read_group', ([], [], '_by_helper')))
        progress = ([], '_date_only', {'field': '_by_helper', 'colors': {}})
        self.assertTrue(groups(records, 'read_progress_bar', progress))
        sets = ([], [['_date_only'], ['_by_helper']])
        self.assertTrue(groups(records, 'formatted_read_grouping_sets', sets))
        self.assertFalse(groups(records, 'web_read_group', ([], ['_date_only', 'no.such.field'])))
        self.assertFalse(groups(records, 'search_read', ([], ['_by_helper'])))


@tagged('post_install', '-at_install')
class TestShortLives(CacheCase):
    """A result whose computation looked at the time of day lives for as long as told."""

    def names(self, env):
        return env['res.bank'].search_read([], ['display_name'])

    def in_search(self, call):
        search = self.registry['res.bank']._search

        def searching(records, *args, **kwargs):
            call(records)
            return search(records, *args, **kwargs)

        self.patch(self.registry['res.bank'], '_search', searching)

    def assertLives(self, seconds, read=None):
        self.configure(time_dependent_ttl_s='77', l1_ttl_s='999')
        self.warm(read or self.names)
        (entry,) = self.engine.hierarchy.tiers['l1']._cache.values()
        self.assertEqual(round(entry.expires - entry.created), seconds)

    def test_what_does_not_look_at_it_lives_long(self):
        self.assertLives(999)

    def test_code_that_asks_for_it(self):
        self.in_search(lambda records: fields.Datetime.now())
        self.assertLives(77)

    def test_sql_that_asks_for_it(self):
        self.in_search(lambda records: records.env.cr.execute("SELECT now()"))
        self.assertLives(77)

    def test_a_domain_relative_to_it(self):
        self.assertLives(
            77, lambda env: env['res.bank'].search_read([('create_date', '>', '-3H')], ['name'])
        )

    def test_a_field_that_is_grouped_by(self):
        self.patch(reading, 'groups_by_clock', lambda _records, _method, _args: True)
        self.assertLives(77)

    def test_a_computed_field_whose_code_names_it(self):
        self.patch(reading, 'uses', lambda _records, _field, _what: frozenset(['clock']))
        self.make('res.bank', {'name': 'Short-lived'})
        self.assertLives(77)

    def test_a_computed_field_that_reads_the_web_request_is_not_kept(self):
        self.patch(reading, 'uses', lambda _records, _field, _what: frozenset(['request']))
        self.make('res.bank', {'name': 'Of a request'})
        for _twice in range(2):
            with self.assertMiss('uncacheable', 'web request'), self.request() as env:
                self.names(env)


@tagged('post_install', '-at_install')
class TestShapes(BaseCase):
    def test_a_progress_bar_counts_groups_without_records(self):
        args = ([], 'state', {'field': 'x', 'colors': {'a': 'success', 'b': 'danger'}})
        kept = shapes.plain(
            'read_progress_bar', collections.defaultdict(list, {'1': {'a': 2, 'b': 0}})
        )
        self.assertIs(type(kept), dict)
        restored = shapes.restore('read_progress_bar', kept, args)
        self.assertIs(type(restored), collections.defaultdict)
        self.assertEqual(restored['1'], {'a': 2, 'b': 0})
        self.assertEqual(restored['none'], {'a': 0, 'b': 0})

    def test_the_order_of_elements_in_a_view_is_not_compared(self):
        def views(arch):
            return {'views': {'list': {'arch': arch, 'id': 7}}, 'models': {}}

        def comparable(arch):
            return shapes.comparable('get_views', views(arch))

        one = comparable('<list><field name="a"/><field name="b"/></list>')
        self.assertEqual(one, comparable('<list><field name="b"/><field name="a"/></list>'))
        self.assertNotEqual(one, comparable('<list><field name="a"/><field name="c"/></list>'))

    def test_other_results_stay_what_they_are(self):
        value = [{'id': 1}]
        self.assertIs(shapes.restore('read', shapes.plain('read', value), ()), value)


@tagged('post_install', '-at_install')
class TestFingerprint(BaseCase):
    def test_other_code_has_another_name(self):
        files = {'a.py': b'x = 1', 'tests/test_a.py': b'1', 'data.xml': b'<odoo/>'}

        def name():
            with self.folder(files) as path:
                self.patch(fingerprint, '_module_path', lambda module: path)
                return fingerprint.code_fingerprint(['some_module'])

        before = name()
        self.assertEqual(name(), before)
        files['tests/test_a.py'] = b'2'
        self.assertEqual(name(), before)
        files['a.py'] = b'x = 2'
        self.assertNotEqual(name(), before)

    def test_another_translation_has_another_name(self):
        """``_()`` keeps them in memory; a mended word is often as long as the wrong one."""
        files = {
            'i18n/fr.po': b'msgstr "un"',
            'i18n_extra/es_419.po': b'uno',
            'i18n/de.po': b'eins',
        }

        def name():
            with self.folder(files) as path:
                self.patch(fingerprint, '_module_path', lambda module: path)
                return fingerprint.code_fingerprint(['some_module'], ['en_US', 'fr_BE', 'es_MX'])

        before = name()
        for file, content in (('i18n/fr.po', b'msgstr "on"'), ('i18n_extra/es_419.po', b'una')):
            with self.subTest(file):
                files[file] = content
                after = name()
                self.assertNotEqual(after, before)
                before = after
        files['i18n/de.po'] = b'zwei'
        self.assertEqual(name(), before, "nobody uses it, so nobody reads it")

    def test_processes_go_on_sharing_when_a_language_comes_into_use(self):
        self.patch(fingerprint, '_running', {})
        modules, english = frozenset(['tiered_cache']), frozenset(['en_US'])
        before = fingerprint.running_code('a database', modules, english)
        french = english | {'fr_FR'}
        self.assertEqual(fingerprint.running_code('a database', modules, french), before)
        self.assertNotEqual(fingerprint.running_code('another', modules, french), before)

    def test_another_orm_has_another_name(self):
        for module in (odoo.orm, odoo.tools):
            before = fingerprint.code_fingerprint([])
            with (
                self.subTest(module.__name__),
                self.folder({'a.py': b'x = 1'}) as path,
                patch.object(module, '__file__', f'{path}/__init__.py'),
            ):
                self.assertNotEqual(fingerprint.code_fingerprint([]), before)

    @contextlib.contextmanager
    def folder(self, files):
        with tempfile.TemporaryDirectory() as path:
            for name, content in files.items():
                target = os.path.join(path, name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, 'wb') as file:
                    file.write(content)
            yield path


@tagged('post_install', '-at_install')
class TestZones(CacheCase):
    def test_a_time_zone_that_is_no_text_is_no_fault(self):
        for zone in ([], {}, 5, False):
            with self.request(tz=zone) as env:
                env['res.bank'].search_read([], ['name'])
        self.assertFalse(self.log.snapshot()['faults'])
