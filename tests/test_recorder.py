"""What a computation is said to have read, with PostgreSQL's own locks as the oracle."""

import contextlib

from psycopg2.extensions import AsIs

from odoo import fields
from odoo.addons.tiered_cache.services import reading
from odoo.addons.tiered_cache.services.recorder import Recording
from odoo.sql_db import db_connect
from odoo.tests import tagged
from odoo.tools import SQL

from .common import CacheCase


class RecordingCase(CacheCase):
    def setUp(self):
        super().setUp()
        self.cr = db_connect(self.registry.db_name).cursor()
        self.addCleanup(self.cr.close)

    @contextlib.contextmanager
    def recording(self, cr=None):
        with Recording(cr or self.cr, self.engine.read_text) as recording:
            yield recording


@tagged('post_install', '-at_install')
class TestRecording(RecordingCase):
    def test_queries_are_added_up(self):
        with self.recording() as recording:
            self.cr.execute("SELECT 1 FROM res_bank")
            self.cr.execute("SELECT 1 FROM res_country")
        self.assertEqual(recording.relations, {'res_bank', 'res_country'})
        self.assertEqual((recording.queries, recording.refusal), (2, ''))

    def test_nothing_is_recorded_afterwards(self):
        with self.recording() as recording:
            pass
        self.cr.execute("SELECT 1 FROM res_bank")
        self.assertEqual((recording.relations, recording.queries), (set(), 0))

    def test_recordings_may_be_nested(self):
        with self.recording() as outer:
            with self.recording() as inner:
                self.cr.execute("SELECT 1 FROM res_bank")
            self.cr.execute("SELECT 1 FROM res_country")
        self.assertEqual(inner.relations, {'res_bank'})
        self.assertEqual(outer.relations, {'res_bank', 'res_country'})

    def test_a_recording_ends_with_an_exception(self):
        with contextlib.suppress(ZeroDivisionError), self.recording() as recording:
            raise ZeroDivisionError
        self.cr.execute("SELECT 1 FROM res_bank")
        self.assertEqual(recording.queries, 0)

    def test_a_name_in_a_parameter_is_seen(self):
        with self.recording() as recording:
            self.cr.execute("SELECT 1 FROM %s", [AsIs('res_bank')])
        self.assertEqual(recording.relations, {'res_bank'})

    def test_a_name_in_a_named_parameter_is_seen(self):
        with self.recording() as recording:
            self.cr.execute("SELECT 1 FROM %(table)s", {'table': AsIs('res_bank')})
        self.assertEqual(recording.relations, {'res_bank'})

    def test_a_name_in_a_parameter_is_seen_the_second_time_too(self):
        with self.recording() as recording:
            for table in ('res_bank', 'res_country'):
                self.cr.execute("SELECT 1 FROM %s", [AsIs(table)])
        self.assertEqual(recording.relations, {'res_bank', 'res_country'})

    def test_sql_objects_are_read(self):
        with self.recording() as recording:
            self.cr.execute(SQL("SELECT 1 FROM %s WHERE id = %s", SQL.identifier('res_bank'), 1))
        self.assertEqual(recording.relations, {'res_bank'})

    def test_a_value_in_a_parameter_is_no_name(self):
        with self.recording() as recording:
            self.cr.execute("SELECT 1 FROM res_bank WHERE name = %s", ['res_country'])
        self.assertEqual(recording.relations, {'res_bank'})

    def test_another_cursor_is_refused(self):
        with self.recording() as recording, self.engine.cursor() as other:
            other.execute("SELECT 1 FROM res_bank")
        self.assertEqual(recording.refusal, 'another cursor')

    def test_an_answer_from_the_cache_hands_over_all_that_it_depended_on(self):
        with self.recording() as recording:
            recording.inherit((('res_bank', 1, None), ('res_country', 2, None)), True)
        self.assertEqual(recording.relations, {'res_bank', 'res_country'})
        self.assertTrue(recording.clock)

    def test_a_text_that_looks_at_the_clock_says_so(self):
        with self.recording() as recording:
            self.cr.execute("SELECT now()")
        self.assertTrue(recording.clock)

    def test_a_write_is_refused(self):
        with self.recording() as recording:
            self.cr.execute("UPDATE res_bank SET bic = bic WHERE id = -1")
        self.assertEqual(recording.refusal, 'statement')

    def test_a_fault_of_the_recorder_is_a_refusal_and_no_error(self):
        def broken(text):
            raise ZeroDivisionError

        with Recording(self.cr, broken) as recording:
            self.cr.execute("SELECT 1")
        self.assertEqual(recording.refusal, 'fault ZeroDivisionError')

    def test_a_rollback_to_a_savepoint_is_refused(self):
        with (
            self.recording() as recording,
            contextlib.suppress(ZeroDivisionError),
            self.cr.savepoint(flush=False),
        ):
            raise ZeroDivisionError
        self.assertTrue(recording.refusal)

    def test_a_computation_that_locks_is_not_kept(self):
        model = self.registry['res.bank']
        plain = model._search

        def locking(records, *args, **kwargs):
            records.env.cr.execute("SELECT id FROM res_bank FOR SHARE")
            return plain(records, *args, **kwargs)

        self.patch(model, '_search', locking)
        for _twice in range(2):
            with self.assertMiss('uncacheable', 'writes or locks'), self.request() as env:
                env['res.bank'].search_read([], ['name'])

    def test_a_computation_that_ends_with_sql_past_odoo_s_cursor_is_not_kept(self):
        model = self.registry['res.bank']
        plain = model._read_format

        def past_the_hooks(records, *args, **kwargs):
            values = plain(records, *args, **kwargs)
            records.env.cr._obj.execute("SELECT count(*) FROM res_country")
            return values

        self.patch(model, '_read_format', past_the_hooks)
        for _twice in range(2):
            with self.assertMiss('uncacheable', 'not seen'), self.request() as env:
                env['res.bank'].search_read([], ['name'])

    def test_a_computation_on_two_cursors_is_not_kept(self):
        model = self.registry['res.bank']
        plain = model._search

        def elsewhere(records, *args, **kwargs):
            with self.engine.cursor() as other:
                other.execute("SELECT 1")
            return plain(records, *args, **kwargs)

        self.patch(model, '_search', elsewhere)
        for _twice in range(2):
            with self.assertMiss('uncacheable', 'another cursor'), self.request() as env:
                env['res.bank'].search_read([], ['name'])

    def test_a_cached_call_inside_a_computation_hands_over_what_it_depended_on(self):
        """The outer result comes from the inner entry, without SQL on its tables."""
        model = self.registry['res.bank']
        plain = model.web_search_read
        industry = self.make('res.partner.industry', {'name': 'Inner'})

        def with_industry(records, *args, **kwargs):
            return plain(records, *args, **kwargs)

        def inner(env):
            return env['res.partner.industry'].search_read([('id', '=', industry)], ['name'])

        self.patch(model, 'web_search_read', with_industry)
        search = model._search

        def nesting(records, *args, **kwargs):
            records.env.cr.precommit.data['seen'] = inner(records.env)
            return search(records, *args, **kwargs)

        self.patch(model, '_search', nesting)

        def outer(env):
            return env['res.bank'].search_count([])

        self.warm(inner)
        self.warm(outer)
        self.sql("UPDATE res_partner_industry SET active = FALSE WHERE id = %s", [industry])
        with self.assertMiss('stale', 'res_partner_industry'), self.request() as env:
            outer(env)

    def nested(self, call):
        """Let counting banks call something; returns the list of its answers."""
        model, answers = self.registry['res.bank'], []
        search = model._search

        def nesting(records, *args, **kwargs):
            answers.append(call(records.env))
            return search(records, *args, **kwargs)

        self.patch(model, '_search', nesting)
        return answers

    def country(self):
        country = self.make('res.country', {'name': 'Innerland', 'code': 'ZQ'})

        def read(env):
            return env['res.country'].search_read([('id', '=', country)], ['phone_code'])

        self.warm(read)
        return country, read

    def test_a_cached_call_on_another_cursor_has_a_snapshot_of_its_own(self):
        country, read = self.country()

        def elsewhere(env):
            with db_connect(self.registry.db_name).cursor() as other:
                return read(env(cr=other))

        answers = self.nested(elsewhere)
        with self.request() as env:
            env.cr.execute("SELECT 1")
            self.sql("UPDATE res_country SET phone_code = 7 WHERE id = %s", [country])
            env['res.bank'].search_count([])
        self.assertEqual(answers[0][0]['phone_code'], 7)

    def test_a_cached_call_after_an_unflushed_write_sees_it(self):
        country, read = self.country()

        def write_and_read(env):
            env['res.country'].browse(country).phone_code = 7
            return read(env)

        answers = self.nested(write_and_read)
        with self.request(commit=False) as env:
            env['res.bank'].search_count([])
        self.assertEqual(answers[0][0]['phone_code'], 7)


@tagged('post_install', '-at_install')
class TestOrmCache(CacheCase):
    """What a value in the ORM cache stands for."""

    def assertStandsFor(self, model, name, *relations):
        found, opaque = self.engine.orm_cache.relations(self.registry[model]._fields[name])
        self.assertEqual((set(found), opaque), (set(relations), ''))

    def test_a_column_is_its_table(self):
        self.assertStandsFor('res.bank', 'bic', 'res_bank')

    def test_a_many2many_field_is_its_relation_too(self):
        self.assertStandsFor(
            'res.partner',
            'category_id',
            'res_partner',
            'res_partner_category',
            'res_partner_res_partner_category_rel',
        )

    def test_a_one2many_field_is_its_lines(self):
        self.assertStandsFor('res.partner', 'bank_ids', 'res_partner', 'res_partner_bank')

    def test_a_binary_field_is_the_attachments(self):
        self.assertStandsFor('res.partner', 'image_1920', 'res_partner', 'ir_attachment')

    def test_a_company_dependent_field_is_the_defaults_too(self):
        self.assertStandsFor('res.partner', 'barcode', 'res_partner', 'ir_default')

    def test_a_related_field_is_every_step(self):
        self.assertStandsFor('res.partner.bank', 'bank_bic', 'res_partner_bank', 'res_bank')

    def test_a_computed_field_may_have_read_anything(self):
        field = self.registry['res.bank']._fields['display_name']
        self.assertTrue(self.engine.orm_cache.relations(field)[1])

    def test_properties_may_come_from_anywhere(self):
        field = fields.Properties(definition='company_id.properties')
        field.model_name, field.name, field.store = 'res.bank', 'p', True
        self.assertTrue(self.engine.orm_cache.relations(field)[1])


_SIMPLE = (
    'res.partner',
    'res.users',
    'res.company',
    'res.country',
    'res.country.state',
    'res.country.group',
    'res.currency',
    'res.currency.rate',
    'res.bank',
    'res.partner.bank',
    'res.partner.category',
    'res.partner.industry',
    'res.lang',
    'res.groups',
    'ir.model',
    'ir.model.fields',
    'ir.model.access',
    'ir.model.data',
    'ir.rule',
    'ir.ui.view',
    'ir.ui.menu',
    'ir.actions.act_window',
    'ir.actions.server',
    'ir.actions.report',
    'ir.attachment',
    'ir.cron',
    'ir.sequence',
    'ir.filters',
    'ir.module.module',
    'ir.module.category',
    'ir.config_parameter',
    'ir.default',
    'ir.exports',
    'ir.mail_server',
    'decimal.precision',
    'report.paperformat',
    'product.template',
    'product.product',
    'product.category',
    'product.pricelist',
    'uom.uom',
    'sale.order',
    'sale.order.line',
    'sale.report',
    'purchase.order',
    'purchase.report',
    'account.move',
    'account.move.line',
    'account.account',
    'account.tax',
    'account.journal',
    'account.invoice.report',
    'stock.picking',
    'stock.move',
    'stock.quant',
    'stock.warehouse',
    'stock.location',
    'mail.message',
    'website.page',
)


def _with_list_view(model):
    views = model.get_views([(False, 'list')])
    fields = views['models'][model._name]['fields']
    # the definitions of properties differ by parent; the crawl reads them
    names = [name for name in fields if fields[name]['type'] not in ('properties', 'reference')]
    return model.web_search_read(
        [],
        {
            name: {'fields': {'display_name': {}}} if fields[name]['type'] == 'many2one' else {}
            for name in names
        },
        limit=10,
    )


def _grouped(model):
    field = next(name for name in ('create_uid', 'company_id', 'id') if name in model._fields)
    return model.formatted_read_group([], [field], ['__count'])


_READS = {
    'list': _with_list_view,
    'search_read': lambda model: model.search_read(
        [], ['display_name', *({'create_uid', 'company_id'} & set(model._fields))], limit=5
    ),
    'name_search': lambda model: model.name_search('a', limit=5),
    'group': _grouped,
}


@tagged('post_install', '-at_install')
class TestAgainstLocks(RecordingCase):
    """A transaction holds a lock on every relation it has read until it ends, whoever named
    it: that is what PostgreSQL itself says about what was read."""

    def locked(self, cr):
        cr.execute("""
            SELECT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
             WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p')
               AND c.relnamespace = current_schema()::regnamespace
        """)
        return {name for (name,) in cr.fetchall()}

    def test_everything_that_was_locked_was_recorded(self):
        checked, missing, refused = 0, {}, {}
        for name in _SIMPLE:
            if name not in self.registry:
                continue
            for kind, call in _READS.items():
                with self.request() as env:
                    before = self.locked(env.cr)
                    with reading.plain_reads(), self.recording(env.cr) as recording:
                        value = call(env[name])
                    locks = self.locked(env.cr) - before
                if recording.refusal:
                    refused[name, kind] = recording.refusal
                    continue
                checked += bool(locks and value is not None)
                if not locks <= recording.relations:
                    missing[name, kind] = locks - recording.relations
        self.assertEqual(missing, {})
        self.assertGreaterEqual(checked, 30, refused)
        self.assertLess(len(refused), checked / 4, refused)
