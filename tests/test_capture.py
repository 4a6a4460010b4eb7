"""P5: every way to change data makes what was cached from it stale, and only such a change."""

# "read" and "write" are what these tests do, not overrides of a model's methods
# pylint: disable=method-required-super

import io
import subprocess

from odoo import Command
from odoo.addons.tiered_cache.services import journal
from odoo.sql_db import connection_info_for
from odoo.tests import tagged

from .common import CacheCase


class BanksCase(CacheCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bank = cls.make_for_class('res.bank', {'name': 'Capture 0', 'bic': 'CAPTURE0'})
        cls.addClassCleanup(cls.sql, "DELETE FROM res_bank WHERE name LIKE 'Capture%'")

    def banks(self, env):
        return env['res.bank'].search_read([('name', '=like', 'Capture%')], ['name', 'bic'])


@tagged('post_install', '-at_install')
class TestStatements(BanksCase):
    """Statements of other programs."""

    def test_p5_insert_is_captured(self):
        self.assertCaptured(
            self.banks,
            lambda: self.sql("INSERT INTO res_bank (name, active) VALUES ('Capture I', true)"),
        )

    def test_p5_update_is_captured(self):
        self.assertCaptured(
            self.banks,
            lambda: self.sql("UPDATE res_bank SET bic = bic || 'x' WHERE id = %s", [self.bank]),
        )

    def test_p5_delete_is_captured(self):
        extra = self.make('res.bank', {'name': 'Capture D'})
        self.assertCaptured(
            self.banks, lambda: self.sql("DELETE FROM res_bank WHERE id = %s", [extra])
        )

    def test_p5_copy_is_captured(self):
        self.assertCaptured(
            self.banks,
            lambda: self.sql(
                '',
                then=lambda cursor: cursor.copy_expert(
                    "COPY res_bank (name, active) FROM STDIN", io.StringIO("Capture C\tt\n")
                ),
            ),
        )

    def test_p5_an_upsert_that_updates_is_captured(self):
        self.assertCaptured(
            self.banks,
            lambda: self.sql(
                "INSERT INTO res_bank (id, name) VALUES (%s, 'Capture U')"
                " ON CONFLICT (id) DO UPDATE SET bic = res_bank.bic || 'u'",
                [self.bank],
            ),
        )

    def test_p5_an_upsert_that_does_nothing_is_no_change(self):
        self.warm(self.banks)
        self.sql(
            "INSERT INTO res_bank (id, name) VALUES (%s, 'Capture') ON CONFLICT DO NOTHING",
            [self.bank],
        )
        with self.assertHit(), self.request() as env:
            self.banks(env)

    def test_p5_merge_is_captured(self):
        self.assertCaptured(
            self.banks,
            lambda: self.sql(
                "MERGE INTO res_bank USING (VALUES (%s)) AS v (id) ON res_bank.id = v.id"
                " WHEN MATCHED THEN UPDATE SET bic = bic || 'm'",
                [self.bank],
            ),
        )

    def test_p5_an_update_in_a_common_table_expression_is_captured(self):
        self.assertCaptured(
            self.banks,
            lambda: self.sql(
                "WITH done AS (UPDATE res_bank SET bic = bic || 'w' WHERE id = %s RETURNING id)"
                " SELECT count(*) FROM done",
                [self.bank],
            ),
        )

    def test_p5_a_statement_that_touches_no_row_is_no_change(self):
        self.warm(self.banks)
        self.sql("UPDATE res_bank SET name = 'Capture' WHERE id = -1")
        with self.assertHit(), self.request() as env:
            self.banks(env)

    def test_p5_what_is_not_guarded_any_more_is_not_trusted(self):
        self.warm(self.banks)
        with self.engine.cursor() as cr:
            journal.release(cr, 'res_bank')
        with self.assertMiss('unguarded', 'res_bank'), self.request() as env:
            self.banks(env)

    def test_p5_a_change_elsewhere_is_no_change(self):
        self.warm(self.banks)
        self.sql(
            "UPDATE res_country_state SET code = code WHERE id = (SELECT min(id) FROM"
            " res_country_state)"
        )
        with self.assertHit(), self.request() as env:
            self.banks(env)

    def test_p5_psql_is_captured(self):
        _name, info = connection_info_for(self.registry.db_name)
        target = {'dbname': info.get('database', info.get('dbname'))}
        target.update({k: info[k] for k in ('host', 'port', 'user') if info.get(k)})
        conninfo = info.get('dsn') or ' '.join(f'{k}={v}' for k, v in target.items())

        def change():
            subprocess.run(
                [
                    'psql',
                    '-qd',
                    conninfo,
                    '-c',
                    f"UPDATE res_bank SET bic = bic || 'p' WHERE id = {self.bank}",
                ],
                check=True,
                timeout=20,
            )

        self.assertCaptured(self.banks, change)


@tagged('post_install', '-at_install')
class TestCascades(CacheCase):
    """What PostgreSQL changes by itself."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.export = cls.make_for_class(
            'ir.exports',
            {
                'name': 'Tiered',
                'resource': 'res.bank',
                'export_fields': [
                    Command.create({'name': 'name'}),
                    Command.create({'name': 'bic'}),
                ],
            },
        )

    def lines(self, env):
        return env['ir.exports.line'].search_count([])

    def test_p5_on_delete_cascade_is_captured(self):
        doomed = self.make(
            'ir.exports', {'name': 'Doomed', 'export_fields': [Command.create({'name': 'name'})]}
        )
        self.assertCaptured(
            self.lines, lambda: self.sql("DELETE FROM ir_exports WHERE id = %s", [doomed])
        )

    def test_p5_on_delete_set_null_is_captured(self):
        industry = self.make('res.partner.industry', {'name': 'Doomed'})
        partner = self.make('res.partner', {'name': 'Worker', 'industry_id': industry})
        self.assertCaptured(
            lambda env: env['res.partner'].search_count(
                [('id', '=', partner), ('industry_id', '!=', False)]
            ),
            lambda: self.sql("DELETE FROM res_partner_industry WHERE id = %s", [industry]),
        )

    def test_p5_truncate_cascade_is_captured(self):
        kept = self.sql("SELECT count(*) FROM ir_exports WHERE id <> %s", [self.export])
        if kept[0][0]:
            self.skipTest("there are export templates which this test would remove")

        def change():
            self.sql("TRUNCATE ir_exports CASCADE")

        self.assertCaptured(self.lines, change)


@tagged('post_install', '-at_install')
class TestFields(CacheCase):
    """Writes through the ORM that end in tables other than the obvious one."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tag = cls.make_for_class('res.partner.category', {'name': 'Tiered tag'})
        cls.company = cls.make_for_class(
            'res.partner', {'name': 'Tiered Company', 'is_company': True}
        )
        cls.contact = cls.make_for_class(
            'res.partner', {'name': 'Contact', 'parent_id': cls.company}
        )

    def contact_values(self, *names):
        return lambda env: env['res.partner'].search_read([('id', '=', self.contact)], names)

    def write(self, model, id_, values, **context):
        return lambda: self.commit(lambda env: env[model].browse(id_).write(values), **context)

    def test_p5_a_many2many_link_made_on_this_side_is_captured(self):
        self.addCleanup(self.write('res.partner', self.contact, {'category_id': [Command.clear()]}))
        self.assertCaptured(
            self.contact_values('category_id'),
            self.write('res.partner', self.contact, {'category_id': [Command.link(self.tag)]}),
        )

    def test_p5_a_many2many_link_made_on_the_other_side_is_captured(self):
        self.addCleanup(self.write('res.partner', self.contact, {'category_id': [Command.clear()]}))
        self.assertCaptured(
            lambda env: env['res.partner'].search_count([('category_id', '=', self.tag)]),
            self.write(
                'res.partner.category', self.tag, {'partner_ids': [Command.link(self.contact)]}
            ),
        )

    def test_p5_a_row_of_a_many2many_table_removed_by_sql_is_captured(self):
        self.write('res.partner', self.contact, {'category_id': [Command.link(self.tag)]})()
        self.assertCaptured(
            self.contact_values('category_id'),
            lambda: self.sql(
                "DELETE FROM res_partner_res_partner_category_rel WHERE partner_id = %s",
                [self.contact],
            ),
        )

    def test_p5_the_name_behind_a_many2one_is_captured(self):
        self.assertCaptured(
            self.contact_values('parent_id'),
            self.write('res.partner', self.company, {'name': 'Tiered Company 2'}),
        )

    def test_p5_a_stored_value_recomputed_at_flush_is_captured(self):
        self.assertCaptured(
            self.contact_values('complete_name', 'commercial_company_name'),
            self.write('res.partner', self.company, {'name': 'Tiered Company 3'}),
        )

    def test_p5_a_company_dependent_value_is_captured(self):
        self.assertCaptured(
            self.contact_values('barcode'),
            self.write(
                'res.partner', self.contact, {'barcode': '4006381333931'}, allowed_company_ids=[1]
            ),
        )

    def test_p5_the_default_of_a_company_dependent_field_is_captured(self):
        other = self.make('res.partner', {'name': 'Without barcode'})

        def read(env):
            return env['res.partner'].search_read([('id', '=', other)], ['barcode'])

        def change():
            default = self.commit(
                lambda env: (
                    env['ir.default'].set('res.partner', 'barcode', 'fallback', company_id=1)
                    and env['ir.default']
                    .search([('field_id.name', '=', 'barcode'), ('company_id', '=', 1)])
                    .ids
                )
            )
            self.addCleanup(self.remove, 'ir.default', *default)

        self.assertCaptured(read, change)

    def test_p5_a_translated_value_is_captured(self):
        self.assertCaptured(
            lambda env: env['res.partner.category'].search_read([('id', '=', self.tag)], ['name']),
            self.write('res.partner.category', self.tag, {'name': 'Translated'}, lang='en_US'),
        )

    def test_p5_a_computed_value_from_another_table_is_captured(self):
        currency = self.commit(lambda env: env.ref('base.CHF').id)
        self.assertCaptured(
            lambda env: (
                env['res.currency']
                .with_context(active_test=False)
                .search_read([('id', '=', currency)], ['rate'])
            ),
            lambda: self.make(
                'res.currency.rate',
                {'currency_id': currency, 'name': '2020-01-01', 'rate': 17.5, 'company_id': 1},
            ),
        )

    def test_p5_an_attachment_behind_a_binary_field_is_captured(self):
        self.assertCaptured(
            self.contact_values('image_128'),
            self.write('res.partner', self.contact, {'image_1920': PIXEL}),
        )

    def test_p5_a_child_record_is_captured(self):
        self.assertCaptured(
            lambda env: (
                env['res.partner']
                .browse(self.company)
                .web_read({'child_ids': {'fields': {'name': {}}}})
            ),
            lambda: self.make('res.partner', {'name': 'Child', 'parent_id': self.company}),
        )

    def test_p5_a_renamed_user_behind_write_uid_is_captured(self):
        user = self.make('res.users', {'name': 'Writer', 'login': 'tc_writer'})
        with self.request(user, commit=True) as env:
            bank = env['res.bank'].sudo().create({'name': 'Written'}).id
        self.addCleanup(self.remove, 'res.bank', bank)
        self.assertCaptured(
            lambda env: env['res.bank'].search_read([('id', '=', bank)], ['create_uid']),
            self.write('res.users', user, {'name': 'Author'}),
        )


PIXEL = (
    b'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA'
    b'AABJRU5ErkJggg=='
)
"""A picture of one pixel."""


@tagged('post_install', '-at_install')
class TestCaptureByOrm(BanksCase):
    """``capture = orm``, for databases that forbid triggers."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tag = cls.make_for_class('res.partner.category', {'name': 'Tiered tag'})

    def setUp(self):
        super().setUp()
        self.configure(capture='orm')
        self.unguarded(
            'res_bank',
            'res_partner',
            'res_partner_res_partner_category_rel',
            'ir_exports',
            'ir_exports_line',
            'res_partner_industry',
        )

    def unguarded(self, *tables):
        """Take the triggers away, and have them back after the test."""
        for table in tables:
            self.sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            self.addCleanup(self.sql, f"ALTER TABLE {table} ENABLE TRIGGER USER")

    def assertJournalled(self, relation):
        """By name: a deletion changes other tables as well, on which every entry depends."""
        last = self.sql(
            "SELECT array_agg(relation) FROM cache_change"
            " WHERE xid = (SELECT max(xid) FROM cache_change)"
        )[0][0]
        self.assertIn(relation, last)

    def test_orm_writes_are_captured(self):
        self.assertCaptured(
            self.banks,
            lambda: self.commit(
                lambda env: env['res.bank'].browse(self.bank).write({'bic': 'ORM'})
            ),
        )

    def test_orm_writes_outlive_a_savepoint_that_is_rolled_back(self):
        def write(env):
            env['res.bank'].browse(self.bank).bic = 'KEPT'
            env['res.bank'].flush_model()
            savepoint = env.cr.savepoint(flush=False)
            env.cr.flush()
            savepoint.close(rollback=True)

        self.assertCaptured(self.banks, lambda: self.commit(write))

    def test_orm_creations_are_captured(self):
        self.assertCaptured(self.banks, lambda: self.make('res.bank', {'name': 'Capture O'}))

    def test_orm_deletions_are_captured(self):
        doomed = self.make('res.bank', {'name': 'Capture O'})
        self.assertCaptured(self.banks, lambda: self.remove('res.bank', doomed))

    def test_orm_many2many_tables_are_captured(self):
        partner = self.make('res.partner', {'name': 'Tagged'})
        self.assertCaptured(
            lambda env: env['res.partner.category'].browse(self.tag).read(['partner_ids']),
            lambda: self.commit(
                lambda env: (
                    env['res.partner']
                    .browse(partner)
                    .write({'category_id': [Command.link(self.tag)]})
                )
            ),
        )

    def test_orm_many2many_tables_are_journalled_by_name(self):
        def rows():
            return self.sql(
                "SELECT count(*) FROM cache_change"
                " WHERE relation = 'res_partner_res_partner_category_rel'"
            )[0][0]

        before = rows()
        self.make('res.partner', {'name': 'Tagged', 'category_id': [Command.link(self.tag)]})
        self.assertGreater(rows(), before)

    def test_orm_links_of_a_model_without_write_date_are_captured(self):
        """Nothing but the link is written, no column at flush."""
        partner = self.make('res.partner', {'name': 'Tagged'})
        self.patch(self.registry['res.partner'], '_log_access', False)
        self.assertCaptured(
            lambda env: env['res.partner.category'].browse(self.tag).read(['partner_ids']),
            lambda: self.commit(
                lambda env: (
                    env['res.partner']
                    .browse(partner)
                    .write({'category_id': [Command.link(self.tag)]})
                )
            ),
        )

    def test_orm_deletions_reach_what_foreign_keys_cascade_to(self):
        export = self.make(
            'ir.exports', {'name': 'Doomed', 'export_fields': [Command.create({'name': 'name'})]}
        )
        self.assertCaptured(
            lambda env: env['ir.exports.line'].search_count([]),
            lambda: self.remove('ir.exports', export),
        )
        self.assertJournalled('ir_exports_line')

    def test_orm_deletions_reach_what_foreign_keys_set_to_null(self):
        industry = self.make('res.partner.industry', {'name': 'Doomed'})
        partner = self.make('res.partner', {'name': 'Worker', 'industry_id': industry})
        self.assertCaptured(
            lambda env: env['res.partner'].search_count(
                [('id', '=', partner), ('industry_id', '!=', False)]
            ),
            lambda: self.remove('res.partner.industry', industry),
        )
        self.assertJournalled('res_partner')

    def test_orm_recomputation_at_flush_is_captured(self):
        company = self.make('res.partner', {'name': 'Company', 'is_company': True})
        contact = self.make('res.partner', {'name': 'Contact', 'parent_id': company})
        self.assertCaptured(
            lambda env: env['res.partner'].search_read([('id', '=', contact)], ['complete_name']),
            lambda: self.commit(
                lambda env: env['res.partner'].browse(company).write({'name': 'Company 2'})
            ),
        )

    def test_orm_recomputation_alone_is_captured(self):
        """Of a table to which nobody has called write()."""
        partner = self.make('res.partner', {'name': 'Alone'})
        self.sql("UPDATE res_partner SET complete_name = 'Wrong' WHERE id = %s", [partner])

        def recompute(env):
            records = env['res.partner'].browse(partner)
            env.add_to_compute(records._fields['complete_name'], records)

        self.assertCaptured(
            lambda env: env['res.partner'].search_read([('id', '=', partner)], ['complete_name']),
            lambda: self.commit(recompute),
        )

    def test_orm_rollback_publishes_nothing(self):
        self.warm(self.banks)
        with self.request(commit=False) as env:
            env['res.bank'].browse(self.bank).bic = 'NEVER'
            env.flush_all()
        with self.assertHit(), self.request() as env:
            self.banks(env)

    def test_orm_a_write_after_a_savepoint_that_was_rolled_back_is_captured(self):
        def change():
            with self.request() as env:
                try:
                    with env.cr.savepoint():
                        env['res.bank'].browse(self.bank).bic = 'NEVER'
                        env.flush_all()
                        raise ZeroDivisionError
                except ZeroDivisionError:
                    env['res.bank'].browse(self.bank).bic = 'AFTER'

        self.assertCaptured(self.banks, change)

    def test_orm_a_write_after_an_explicit_flush_is_captured(self):
        def change():
            with self.request() as env:
                env['res.partner.category'].browse(self.tag).name = 'First'
                env.cr.flush()  # runs what is due before a commit
                env['res.bank'].browse(self.bank).bic = 'SECOND'

        self.assertCaptured(self.banks, change)

    def test_orm_raw_sql_is_not_seen_as_documented(self):
        self.warm(self.banks)
        self.sql("UPDATE res_bank SET bic = bic || 'x' WHERE id = %s", [self.bank])
        with self.assertHit(), self.request() as env:
            self.banks(env)
