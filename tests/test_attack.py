"""Regressions found by attacking the engine; each failed when it was written."""

import contextlib
import io
import os
import tempfile
import threading
from unittest.mock import patch

from odoo import api
from odoo.exceptions import AccessError, ConcurrencyError
from odoo.tests import tagged
from odoo.tools import mute_logger

from ..services import engine as engine_module
from ..services import fingerprint, journal, reading
from ..services.engine import Engine, engine_for
from ..services.recorder import Recording
from ..services.transaction import state_of
from .common import ADMIN, CacheCase, reconfigure


@tagged('post_install', '-at_install')
class TestAttack(CacheCase):
    def forget_engine(self):
        """The next read makes a new one."""
        self.registry.__dict__.pop('_tiered_cache_engine', None)
        type(self).engine = engine_for(self.registry)
        reconfigure(self.engine)

    def _answer(self, call, uid):
        with self.request(uid) as env:
            try:
                return call(env)
            except AccessError:
                return 'AccessError'

    def test_nothing_uncommitted_by_way_of_ormcache(self):
        """P3, P6: another thread's uncommitted group sits in ``tools.ormcache`` for a moment."""

        def call(env):
            return env['ir.model.access'].search_count([])

        with self.request() as env:
            group = env.ref('base.group_system').id
            basic = env.ref('base.group_user').id
        uid = self.make(
            'res.users',
            {'name': 'Attack', 'login': 'attack_ormcache', 'group_ids': [(6, 0, [basic])]},
        )
        self.warm(call)
        self.assertEqual(self._answer(call, uid), 'AccessError')
        # two threads, played by one: Odoo's flags of what a transaction has invalidated are
        # the only thing here that belongs to a thread
        with self.request(api.SUPERUSER_ID, commit=False) as writer:
            writer['res.users'].browse(uid).write({'group_ids': [(4, group)]})
            writer.flush_all()
            call(writer(user=uid))  # fills tools.ormcache
            with patch.object(self.registry, '_invalidation_flags', threading.local()):
                for _attempt in range(3):
                    self._answer(call, uid)
                    self.settle()
        self.assertEqual(self._answer(call, uid), 'AccessError')

    def write_user(self, env):
        """A write to what ``tools.ormcache`` values are made of."""
        env['res.users'].browse(ADMIN).write({'signature': 'Attack'})

    def test_an_open_writer_disturbs_others_and_not_itself(self):
        with self.request(commit=False) as env:
            self.write_user(env)
            epoch = self.engine.writer_epoch()
            self.assertTrue(self.engine.disturbed_since(epoch, None))
            self.assertFalse(self.engine.disturbed_since(epoch, state_of(env.cr)))
        self.assertFalse(self.engine.disturbed_since(epoch, None))

    def test_a_writer_that_came_and_went_disturbs(self):
        epoch = self.engine.writer_epoch()
        with self.request(commit=False) as env:
            self.write_user(env)
        self.assertTrue(self.engine.disturbed_since(epoch, None))
        self.assertFalse(self.engine.disturbed_since(self.engine.writer_epoch(), None))

    def test_a_rollback_elsewhere_disturbs_for_a_moment(self):
        """Odoo clears the values a moment after it."""
        before = self.engine._rolled_back
        with self.request(commit=False) as env:
            self.write_user(env)
        self.assertGreater(self.engine._rolled_back, before)
        thread = threading.Thread(target=self.engine.rolled_back)
        thread.start()
        thread.join()
        epoch = self.engine.writer_epoch()
        with patch.object(engine_module, 'ROLLBACK_PAUSE_S', 3600):
            self.assertTrue(self.engine.disturbed_since(epoch, None))
        with patch.object(engine_module, 'ROLLBACK_PAUSE_S', 0):
            self.assertFalse(self.engine.disturbed_since(epoch, None))

    def test_nothing_is_kept_while_a_transaction_with_other_rights_is_open(self):
        """It may fill ``tools.ormcache`` with what its older snapshot shows."""

        def call(env):
            return env['res.bank'].search_count([])

        self.warm(call)
        with self.request() as old:
            call(old)
            self.make('res.groups', {'name': 'Attack'})
            with self.assertMiss('old_snapshot'), self.request() as env:
                call(env)

    def assertCapturedBehindMemory(self, call, change, undo):
        """Another program changes what ``tools.ormcache`` values are made of; a worker starts."""

        def empty():
            for cache in self.registry._Registry__caches.values():
                cache.clear()

        self.addCleanup(empty)
        self.warm(call)
        self.forget()
        before = self.warm(call)  # without the SQL of a first time
        self.sql(change)
        self.addCleanup(self.sql, undo)
        empty()
        self.assertNotEqual(self.assertExact(call), before)

    def test_a_label_that_another_program_changes(self):
        self.assertCapturedBehindMemory(
            lambda env: env['res.bank'].fields_get(['bic'], ['string']),
            """UPDATE ir_model_fields SET field_description = '{"en_US": "Attack"}'
                WHERE model = 'res.bank' AND name = 'bic'""",
            """UPDATE ir_model_fields SET field_description = '{"en_US": "Bank Identifier Code"}'
                WHERE model = 'res.bank' AND name = 'bic'""",
        )

    def test_a_view_that_another_program_changes(self):
        arch = '<list><field name="name"/></list>'
        view = self.make(
            'ir.ui.view', {'name': "Attack", 'model': 'res.bank', 'type': 'list', 'arch': arch}
        )
        update = "UPDATE ir_ui_view SET arch_db = replace(arch_db::text, '%s', '%s')::jsonb"
        self.assertCapturedBehindMemory(
            lambda env: env['res.bank'].get_views([(view, 'list')])['views']['list']['arch'],
            f"{update % ('name', 'bic')} WHERE id = {view}",
            "SELECT",
        )

    def test_a_default_that_another_program_changes(self):
        partner = self.make('res.partner', {'name': "Attack"})
        with self.request() as env:
            env['ir.default'].set('res.partner', 'barcode', 'attack_1')
        self.addCleanup(
            self.commit,
            lambda env: env['ir.default'].search([('json_value', 'like', 'attack_')]).unlink(),
        )
        self.assertCapturedBehindMemory(
            lambda env: env['res.partner'].search_read([('id', '=', partner)], ['barcode']),
            """UPDATE ir_default SET json_value = '"attack_2"' WHERE json_value = '"attack_1"'""",
            "SELECT",
        )

    def test_record_rule_that_reads_another_table(self):
        """P1, P6: the domain of a rule is an ormcache value that Odoo does not invalidate;
        it must not travel to a worker whose own domain is newer."""
        first = self.make('res.partner', {'name': 'First', 'is_company': True})
        second = self.make('res.partner', {'name': 'Second', 'is_company': True})
        for number in range(3):
            self.make('res.partner', {'name': f'Child {number}', 'parent_id': second})
        with self.request() as env:
            portal = env.ref('base.group_portal').id
        uid = self.make(
            'res.users', {'name': 'Portal', 'login': 'attack_rule', 'group_ids': [(6, 0, [portal])]}
        )
        with self.request() as env:
            partner = env['res.users'].browse(uid).partner_id.id
            env['res.partner'].browse(partner).parent_id = first

        def call(env):
            return env['res.partner'].search_count([])

        self.warm(call, uid=uid)
        with self.request() as env:
            env['res.partner'].browse(partner).parent_id = second
        with contextlib.suppress(AssertionError):
            self.warm(call, uid=uid)
        # a worker that starts now: its ormcache is empty, nothing is signalled
        for cache in self.registry._Registry__caches.values():
            cache.clear()
        with self.request(uid) as env:
            cached = call(env)
        for cache in self.registry._Registry__caches.values():
            cache.clear()
        with self.request(uid) as env:
            self.assertEqual(cached, self.plain(call, env))

    def test_record_rule_that_an_old_snapshot_has_put_into_memory_again(self):
        """P6: as above; it was looked at before, and is another one under the same versions."""
        values = {'name': "Attack", 'login': 'attack_city', 'city': 'Before'}
        uid = self.make('res.users', values)
        with self.request() as env:
            model = env['ir.model']._get_id('res.bank')
            partner = env['res.users'].browse(uid).partner_id.id
        for city in ('Before', 'After', 'After'):
            self.make('res.bank', {'name': "Attack", 'city': city})
        rule = "[('city', '=', user.partner_id.city)]"
        self.make('ir.rule', {'name': "Attack", 'model_id': model, 'domain_force': rule})

        def call(env):
            return env['res.bank'].search_count([('name', '=', "Attack")])

        def empty():
            for cache in self.registry._Registry__caches.values():
                cache.clear()

        self.warm(call, uid=uid)
        with self.request(uid) as old:
            self.assertEqual(call(old), 1)
            self.sql("UPDATE res_partner SET city = 'After' WHERE id = %s", [partner])
            empty()
            with self.request(uid) as env:
                self.assertEqual(call(env), 2)
            empty()
            self.plain(call, old)
            self.forget()
            with self.request(uid) as env:
                call(env)
        empty()
        self.assertExact(call, uid=uid)

    def test_record_rule_that_is_part_of_the_domain_of_another_model(self):
        """P6: as above; a user is a partner, whose rules are part of those of users."""
        values = {'name': "Attack"}
        users = [
            self.make('res.users', {**values, 'login': f'attack_part_{number}', 'city': city})
            for number, city in enumerate(('Before', 'Before', 'After', 'After', 'After'))
        ]
        with self.request() as env:
            model = env['ir.model']._get_id('res.partner')
            partner = env['res.users'].browse(users[0]).partner_id.id
        rule = "[('city', '=', user.partner_id.city)]"
        self.make('ir.rule', {'name': "Attack", 'model_id': model, 'domain_force': rule})

        def partners(env):
            return env['res.partner'].search_count([('name', '=', "Attack")])

        def call(env, more=()):
            return env['res.users'].search_count([('login', 'like', 'attack_part_'), *more])

        def empty():
            for cache in self.registry._Registry__caches.values():
                cache.clear()

        self.warm(call, uid=users[0])  # guards
        empty()
        self.forget()
        self.warm(partners, uid=users[0])
        self.sql("UPDATE res_partner SET city = 'After' WHERE id = %s", [partner])
        with self.request(users[0]) as env:
            call(env, [('id', '>', 0)])
        with self.request(users[0]) as env:
            call(env)
        empty()
        self.assertExact(call, uid=users[0])

    def test_records_that_code_in_superuser_mode_has_left_in_memory(self):
        """P6: plain Odoo answers from the ORM cache of the transaction, whoever has filled it."""
        uid = self.make('res.users', {'name': "Attack", 'login': 'attack_memory'})
        with self.request() as env:
            country = env.ref('base.be').id
            model = env['ir.model']._get_id('res.country.state')
        for code in ('AT1', 'AT2'):
            self.make('res.country.state', {'name': code, 'code': code, 'country_id': country})
        self.make(
            'ir.rule',
            {'name': "Attack", 'model_id': model, 'domain_force': "[('code', '!=', 'AT2')]"},
        )

        def call(env):
            return env['res.country'].search_read([('id', '=', country)], ['state_ids'])

        self.warm(lambda env: env['res.country.state'].search_count([]), uid=uid)  # guards
        self.forget()
        for _ in range(2):
            with self.request(uid) as env:
                env['res.country'].sudo().browse(country).state_ids.mapped('code')
                call(env)
            self.settle()
        self.assertExact(call, uid=uid)

    def test_companies_of_users_that_code_in_superuser_mode_has_left_in_memory(self):
        """P6: as above, for what almost every request has in memory."""
        companies = [self.make('res.company', {'name': f"Attack {n}"}) for n in range(2)]
        uid = self.make(
            'res.users',
            {
                'name': "Attack",
                'login': 'attack_company_memory',
                'company_id': companies[0],
                'company_ids': [(6, 0, companies)],
            },
        )

        def call(env):
            users = env['res.users'].with_context(allowed_company_ids=companies[:1])
            return users.search_read([('id', '=', uid)], ['company_ids'])

        self.warm(call, uid=uid)  # guards
        self.forget()
        for _ in range(2):
            with self.request(uid) as env:
                self.assertEqual(len(env['res.users'].sudo().browse(uid).company_ids), 2)
                call(env)
            self.settle()
        self.assertExact(call, uid=uid)

    def test_record_rule_that_reads_companies_by_way_of_env(self):
        """P6: as above, with ``user.env.companies``; a company's country is its partner's."""
        with self.request() as env:
            belgium, france = env.ref('base.be').id, env.ref('base.fr').id
            model = env['ir.model']._get_id('res.bank')
        company = self.make('res.company', {'name': "Attack"})
        with self.request() as env:
            partner = env['res.company'].browse(company).partner_id
            partner.country_id, partner_id = belgium, partner.id
        uid = self.make(
            'res.users',
            {
                'name': "Attack",
                'login': 'attack_companies',
                'company_id': company,
                'company_ids': [(6, 0, [company])],
            },
        )
        for country, number in ((belgium, 1), (france, 2)):
            for name in range(number):
                self.make('res.bank', {'name': f"Attack {name}", 'country': country})

        def call(env):
            return env['res.bank'].search_count([('name', 'like', "Attack")])

        def move(country):
            self.commit(
                lambda env: env['res.partner'].browse(partner_id).write({'country_id': country})
            )

        for reach in (
            '.country_id.ids',
            ".mapped('country_id').ids",
            ".mapped('partner_id.country_id').ids",
        ):
            with self.subTest(reach=reach):
                rule = self.make(
                    'ir.rule',
                    {
                        'name': "Attack",
                        'model_id': model,
                        'domain_force': f"[('country', 'in', user.env.companies{reach})]",
                    },
                )
                request = {'uid': uid, 'allowed_company_ids': [company]}
                move(belgium)
                self.warm(call, **request)
                move(france)
                # this worker still remembers the domain; what it computes now may be kept
                with contextlib.suppress(AssertionError):
                    self.warm(call, **request)
                for cache in self.registry._Registry__caches.values():
                    cache.clear()
                self.assertEqual(self.assertExact(call, **request), 2)
                self.remove('ir.rule', rule)

    def rule(self, env, domain, model='res.partner'):
        return env['ir.rule'].create(
            {'name': 'Attack', 'model_id': env['ir.model']._get_id(model), 'domain_force': domain}
        )

    def test_a_rule_depends_on_every_table_that_its_user_leads_to(self):
        with self.request(api.SUPERUSER_ID, commit=False) as env:
            rule = self.rule(env, "[('id', 'in', user.partner_id.bank_ids.ids)]")
            relations, opaque = self.engine.rule_book.relations(rule)
        self.assertFalse(opaque)
        self.assertLessEqual({'res_users', 'res_partner', 'res_partner_bank'}, relations)

    def test_a_rule_by_a_computed_field_may_have_read_anything(self):
        with self.request(api.SUPERUSER_ID, commit=False) as env:
            rule = self.rule(env, "[('name', '=', user.partner_id.display_name)]")
            self.assertTrue(self.engine.rule_book.relations(rule)[1])
            recording = Recording(env.cr, self.engine.read_text)
            self.engine.rule_book.check(recording, {}, object(), [], lambda: rule, list)
        self.assertIn('display_name', recording.refusal)

    def test_rules_of_what_a_model_inherits_from_count(self):
        with self.request() as env:
            found = reading._rules_of(env['ir.rule'], 'res.users', 'read')
            parents = env['ir.rule']._get_rules('res.partner', 'read').sudo()
            self.assertTrue(parents)
            self.assertLessEqual(parents, found)

    def test_a_domain_is_computed_again_when_its_tables_have_changed(self):
        with self.request(api.SUPERUSER_ID, commit=False) as env:
            rule = self.rule(env, "[('id', '=', user.partner_id.id)]")
            key, computed, remembered = object(), [], [('id', '=', 7)]

            def refusal(version, domain, remembered=remembered):
                recording = Recording(env.cr, self.engine.read_text)
                self.engine.rule_book.check(
                    recording,
                    {'res_users': version},
                    key,
                    remembered,
                    lambda: rule,
                    lambda: computed.append(domain) or domain,
                )
                return recording.refusal

            self.assertFalse(refusal(1, [('id', '=', 7)]))
            self.assertFalse(refusal(1, [('id', '=', 8)]))  # not looked at: nothing has changed
            self.assertEqual(len(computed), 1)
            self.assertIn('older domain', refusal(1, [('id', '=', 8)], list(remembered)))
            self.assertIn('older domain', refusal(2, [('id', '=', 8)]))

    def test_an_engine_does_not_wait_for_locks_of_others(self):
        """A worker that starts while a table under a view is locked (ALTER TABLE, VACUUM FULL)."""
        view = 'attack_view'
        self.sql(f'CREATE VIEW {view} AS SELECT id, name FROM res_bank')
        self.addCleanup(self.sql, f'DROP VIEW {view}')
        holder = self.engine.connect()
        self.addCleanup(holder.close)
        holder.cursor().execute('LOCK TABLE res_bank IN ACCESS EXCLUSIVE MODE')
        engines = []
        thread = threading.Thread(target=lambda: engines.append(Engine(self.registry)))
        thread.start()
        thread.join(10)
        waited = thread.is_alive()
        holder.rollback()
        thread.join(30)
        for engine in engines:
            engine.close()
        self.assertFalse(waited, "the first read of a worker hangs")

    def test_connections_of_the_engine_have_limits(self):
        with self.engine.cursor() as cr:
            cr.execute(
                "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
            )
            self.assertEqual(cr.fetchone(), ('200ms', '1min'))

    def test_a_file_that_cannot_be_read(self):
        """Emacs marks an edited file by a dangling link .#name.py."""
        with tempfile.TemporaryDirectory() as folder:
            os.symlink('nobody@nowhere.1', os.path.join(folder, '.#models.py'))
            with patch.object(fingerprint, '_module_path', lambda _name: folder):
                fingerprint.code_fingerprint(['base'])

    def test_own_raw_sql_is_seen_whatever_the_consistency(self):
        bank = self.make('res.bank', {'name': 'Old'})

        def call(env):
            return env['res.bank'].search_read([('id', '=', bank)], ['name'])

        for consistency in ('eventual', 'weak'):
            with self.subTest(consistency):
                self.configure(consistency=consistency, max_staleness_s='60')
                self.forget()
                self.warm(call)
                with self.request(commit=False) as env:
                    env.cr.execute("UPDATE res_bank SET name = 'New' WHERE id = %s", [bank])
                    self.assertEqual(call(env)[0]['name'], 'New')

    def test_own_writes_past_every_hook_are_seen_whatever_the_consistency(self):
        """Only the server can tell: a plain read comes after them, and no hook has seen them."""
        bank = self.make('res.bank', {'name': 'Old'})
        update = "UPDATE res_bank SET name = %s WHERE id = %s"

        def call(env):
            return env['res.bank'].search_read([('name', '=', 'New')], ['name'])

        def copy(cr):
            cr.copy_expert("COPY res_bank (name, active) FROM STDIN", io.StringIO("New\tt\n"))

        def second_cursor(cr):
            with cr._cnx.cursor() as cursor:
                cursor.execute(update, ['New', bank])

        ways = {
            'COPY': copy,
            'executemany': lambda cr: cr.executemany(update, [('New', bank)]),
            'execute_values': lambda cr: cr.execute_values(
                "INSERT INTO res_bank (name, active) VALUES %s", [('New', True)]
            ),
            'below the cursor': lambda cr: cr._obj.execute(update, ['New', bank]),
            'another cursor': second_cursor,
            'CTE': lambda cr: cr.execute(
                "WITH new AS (UPDATE res_bank SET name = 'New' WHERE id = %s RETURNING id)"
                " SELECT * FROM new",
                [bank],
            ),
        }
        for consistency in ('eventual', 'weak'):
            self.configure(consistency=consistency, max_staleness_s='60')
            self.forget()
            self.assertEqual(self.warm(call), [])
            for way, write in ways.items():
                with self.subTest(consistency, way=way), self.request(commit=False) as env:
                    env['res.bank'].search_count([])  # SQL before it, and a look
                    write(env.cr)
                    env.cr.execute("SELECT count(*) FROM res_country")
                    self.assertEqual([bank['name'] for bank in call(env)], ['New'])

    def test_a_removal_elsewhere_reaches_weak_entries(self):
        bank = self.make('res.bank', {'name': 'Old'})

        def call(env):
            return env['res.bank'].search_read([('id', '=', bank)], ['name'])

        self.configure(consistency='weak')
        self.warm(call)
        self.sql("UPDATE res_bank SET name = 'New' WHERE id = %s", [bank])
        self.sql(f"INSERT INTO cache_change (relation) VALUES ('{journal.ALL}')")
        self.engine.tick()  # what happens every few seconds, read or no read
        with self.request() as env:
            self.assertEqual(call(env)[0]['name'], 'New')

    def test_reads_survive_an_uninstall_elsewhere(self):
        """Workers that have not seen the signal yet, and transactions in flight."""

        def call(env):
            return env['res.bank'].search_count([])

        self.warm(call)
        self.addCleanup(self.forget_engine)
        with mute_logger('odoo.sql_db'), self.request(commit=False) as env:
            env.cr.execute("SET LOCAL lock_timeout = '5s'")
            journal.uninstall(env.cr)  # rolled back at the end
            # Odoo runs the request once more after this error, and fails it after any other
            with contextlib.suppress(ConcurrencyError):
                call(env)

    def test_a_tuple_of_groups_gives_a_tuple(self):
        def call(env, groups):
            return env['res.partner'].read_group([], ['id'], groups)

        with mute_logger('py.warnings'):
            self.warm(lambda env: call(env, ['country_id', 'lang']))
            self.assertExact(lambda env: call(env, ('country_id', 'lang')))

    def test_triggers_come_when_capture_is_switched_back(self):
        bank = self.make('res.bank', {'name': 'Old'})

        def call(env):
            return env['res.bank'].search_read([('id', '=', bank)], ['name'])

        with self.engine.cursor() as cr:
            cr.execute("SET LOCAL lock_timeout = '5s'")
            journal.release(cr, 'res_bank')
            journal.drop_triggers(cr, 'res_bank')
        self.configure(capture='orm')
        self.warm(call)
        self.configure(capture='triggers')
        with contextlib.suppress(AssertionError):
            self.warm(call)
        self.sql("UPDATE res_bank SET name = 'New' WHERE id = %s", [bank])
        with self.request() as env:
            self.assertEqual(call(env)[0]['name'], 'New')

    def test_an_upgrade_does_not_wait_for_writers(self):
        """``CREATE INDEX IF NOT EXISTS`` locks the journal although the index exists."""
        writer = self.engine.connect()
        self.addCleanup(writer.close)
        writer.cursor().execute("INSERT INTO cache_change (relation) VALUES ('res_bank')")
        with mute_logger('odoo.sql_db'), self.request(commit=False) as env:
            env.cr.execute("SET LOCAL lock_timeout = '1s'")
            journal.install(env.cr)
