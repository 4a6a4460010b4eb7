"""Tables, the log, and the wizard that removes: what they show, and what they do."""

from odoo.exceptions import AccessError, UserError
from odoo.tests import TransactionCase, new_test_user, tagged

from ..models import plain_words
from ..services import journal, keys, policy, preview
from ..services.progress import Reports
from .common import CacheCase


def search_banks(env):
    return env['res.bank'].search_read([], ['name'])


@tagged('post_install', '-at_install')
class TestTables(CacheCase):
    def relation(self, env):
        return env['cache.relation'].search([('name', '=', 'res_bank')])

    def test_a_table_tells_whether_it_is_watched_and_what_depends_on_it(self):
        self.warm(search_banks)
        with self.request() as env:
            table = self.relation(env)
            self.assertEqual((table.state, table.model), ('guarded', 'res.bank'))
            self.assertTrue(table.guarded_at)
            self.assertEqual(table.entries_l1, 1)

    def test_a_change_is_counted_before_and_after_the_journal_is_summed_up(self):
        self.warm(search_banks)
        self.engine.compact()
        self.engine.flush_metrics()
        with self.request() as env:
            before = self.relation(env).changes_hour
        self.make('res.bank', {'name': 'Counted'})
        with self.request() as env:
            self.assertEqual(self.relation(env).changes_hour, before + 1)
            change = env['cache.change'].search([('relation', '=', 'res_bank')])
            self.assertEqual((len(change), change.kind), (1, 'table'))
        self.engine.compact()
        self.engine.flush_metrics()
        with self.request() as env:
            self.assertEqual(self.relation(env).changes_hour, before + 1)
            self.assertFalse(env['cache.change'].search([('relation', '=', 'res_bank')]))

    def test_changes_of_a_table_are_not_those_of_tables_that_begin_like_it(self):
        self.warm(search_banks)
        self.warm(lambda env: env['res.partner.bank'].search_read([], ['acc_number']))
        self.warm(lambda env: env['res.partner'].search_read([], ['name']))
        self.make('res.partner', {'name': 'Changed'})
        partner = self.make('res.partner', {'name': 'Holder'})
        self.make('res.partner.bank', {'acc_number': 'X 1', 'partner_id': partner})
        with self.request() as env:
            table = env['res.partner']._table
            table = env['cache.relation'].search([('name', '=', table)])
            shown = env['cache.change'].search(table.action_open_changes()['domain'])
            self.assertEqual(set(shown.mapped('relation')), {'res_partner'})
        self.engine.compact()
        self.engine.flush_metrics()
        with self.request() as env:
            table = env['cache.relation'].browse(table.id)
            action = table.action_open_changes()
            shown = env[action['res_model']].search(action['domain'])
            self.assertEqual(set(shown.mapped('relation')), {'res_partner'})
            self.assertEqual((action['views'][0][1], shown._name), ('list', 'cache.metric'))

    def test_a_released_table_has_no_triggers_and_nothing_of_it_is_served(self):
        self.warm(search_banks)
        with self.request() as env:
            self.relation(env).action_release()
        triggers = self.sql(
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'res_bank'::regclass"
            " AND tgname LIKE 'cache_change%%'"
        )
        self.assertEqual(triggers, [(0,)])
        self.sql("INSERT INTO res_bank (name) VALUES ('unseen')")
        self.addCleanup(self.sql, "DELETE FROM res_bank WHERE name = 'unseen'")
        self.assertExact(search_banks)
        self.warm(search_banks)  # watched again, and exact
        self.assertExact(search_banks)

    def test_a_table_in_use_is_released_and_keeps_its_triggers(self):
        self.warm(search_banks)
        self.configure(guard_lock_timeout_ms='50')
        connection = self.engine.connect()
        self.addCleanup(connection.close)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM res_bank")
            with self.request() as env:
                action = self.relation(env).action_release()
        self.assertEqual(action['params']['type'], 'warning')
        with self.request() as env:
            self.assertEqual(self.relation(env).state, 'none')

    def test_nobody_guards_a_table_while_it_is_released(self):
        with self.engine.cursor() as holder:
            self.assertTrue(journal._try_lock(holder))
            with self.engine.cursor() as cr:
                self.assertFalse(journal.unguard(cr, 'res_bank'))

    def test_a_failed_guard_is_shown_to_all_until_it_succeeds(self):
        self.engine.guards._later('res_bank', 'somebody holds it')
        self.addCleanup(self.engine.guards.guard_now, 'res_bank')
        with self.request() as env:
            table = env['cache.relation'].search([('error', '=', 'somebody holds it')])
            self.assertEqual(table.name, 'res_bank')
        self.engine.guards.guard_now('res_bank')
        with self.request() as env:
            self.assertFalse(self.relation(env).error)

    def test_entries_are_found_by_the_table_they_depend_on(self):
        self.configure(l3_enabled='1')
        self.warm(search_banks)
        self.settle()
        with self.request() as env:
            found = env['cache.entry'].search([('depends_on', '=', 'res_bank')])
            self.assertIn('res.bank', found.mapped('model'))
            self.assertFalse(env['cache.entry'].search([('depends_on', '=', 'res_ban')]))
            by_pattern = env['cache.entry'].search([('pattern', 'ilike', 'v1:orm:res.bank:*')])
            self.assertTrue(by_pattern)
            self.assertEqual(set(by_pattern.mapped('model')), {'res.bank'})


@tagged('post_install', '-at_install')
class TestRemovalPreview(CacheCase):
    options = {'l3_enabled': '1'}  # noqa: RUF012

    def counts(self, kind, target=''):
        with self.request() as env:
            return {
                tier: count.entries
                for tier, count in env['cache.manager']._preview(kind, target).items()
            }

    def test_what_is_counted_is_what_is_removed(self):
        self.warm(search_banks)
        self.settle()
        for kind, target in (
            ('pattern', 'v1:orm:res.bank:*'),
            ('model', 'res.bank'),
            ('user', '2'),
            ('all', ''),
        ):
            counted = self.counts(kind, target)
            with self.subTest(kind=kind), self.request() as env:
                self.assertGreater(counted['l1'], 0)
                removed = env['cache.manager'].sudo()._remove(kind, target)
                for tier in counted:
                    self.assertEqual(counted[tier], removed[tier], (kind, tier))
            self.warm(search_banks)
            self.settle()

    def test_a_table_counts_whatever_was_read_from_it(self):
        self.warm(search_banks)
        self.settle()
        self.assertGreaterEqual(self.counts('relation', 'res_bank')['l1'], 1)
        self.assertNotIn('l2', self.counts('relation', 'res_bank'))

    def test_counting_removes_nothing(self):
        self.warm(search_banks)
        preview.of_keys(self.engine, keys.EVERYTHING)
        with self.assertHit(), self.request() as env:
            search_banks(env)


@tagged('post_install', '-at_install')
class TestLog(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = new_test_user(cls.env, 'tc_admin', 'tiered_cache.group_cache_admin')
        cls.user = new_test_user(cls.env, 'tc_user', 'tiered_cache.group_cache_user')

    def last(self):
        return self.env['cache.log'].search([], limit=1, order='id desc')

    def test_a_removal_says_who_and_what(self):
        self.env['cache.manager'].with_user(self.admin).invalidate_pattern('v1:tc:*')
        log = self.last()
        self.assertEqual(
            (log.create_uid, log.action, log.summary, log.status),
            (self.admin, 'remove', "Pattern v1:tc:*", 'done'),
        )

    def test_code_of_modules_does_not_fill_it(self):
        before = self.last()
        self.env['cache.manager'].sudo().invalidate_key('v1:tc')
        self.assertEqual(self.last(), before)

    def test_a_changed_rule_is_logged_with_both_values(self):
        rule = self.env['cache.rule'].with_user(self.admin).create({'model': 'res.bank'})
        self.assertEqual(self.last().action, 'create')
        rule.enabled = False
        self.assertEqual((self.last().action, self.last().create_uid), ('change', self.admin))
        self.assertIn("Cached", self.last().details)
        before = self.last()
        rule.sequence = 3
        self.assertEqual(self.last(), before, "the order is no news")
        rule.unlink()
        self.assertEqual(self.last().action, 'delete')

    def test_settings_are_logged_without_passwords(self):
        settings = self.env['res.config.settings']
        settings.create({'tiered_cache_redis_url': 'redis://:hunter2@cache'}).set_values()
        self.assertEqual(self.last().summary, "Settings")
        self.assertNotIn('hunter2', self.last().details)

    def test_schedules_are_logged(self):
        self.env['cache.manager'].with_user(self.admin).schedule_removal('tag', 'tc', 3600)
        self.assertEqual((self.last().action, self.last().summary), ('schedule', "Tag tc"))

    def test_silence_means_left_to_expiry(self):
        self.env['cache.manager'].with_user(self.admin).invalidate_all()
        log = self.last()
        log.state = 'running'
        self.env.flush_all()
        self.assertEqual(log.status, 'running')
        self.env.cr.execute(
            "UPDATE cache_log SET write_date = write_date - interval '5 min' WHERE id = %s",
            [log.id],
        )
        self.env.invalidate_all()
        self.assertEqual(log.status, 'left')

    def test_the_wizard_previews_removes_and_shows_the_log(self):
        self.env['cache.log'].search([]).unlink()  # it may be the first
        wizard = self.env['cache.operation'].with_user(self.admin).create({'kind': 'all'})
        self.assertTrue(wizard.count_l1)
        action = wizard.action_remove()
        self.assertEqual((action['res_id'], wizard.log_id), (wizard.id, self.last()))

    def test_the_wizard_says_what_is_wrong_before_the_button_is_pressed(self):
        wizard = (
            self.env['cache.operation']
            .with_user(self.admin)
            .create({'kind': 'relation', 'relation': 'no_such_table'})
        )
        self.assertIn('no_such_table', wizard.problem)
        self.assertFalse(wizard.note)
        with self.assertRaises(UserError):
            wizard.action_remove()
        with self.assertRaises(AccessError):
            self.env['cache.operation'].with_user(self.user).create({'kind': 'all'})


@tagged('post_install', '-at_install')
class TestProgress(CacheCase):
    def test_what_is_told_before_the_commit_is_written_after_it(self):
        reports = Reports(self.engine)
        with self.request() as env:
            log = env['cache.log']._note('remove', "test")
            env.flush_all()
            progress = {'l1': {'looked_at': 5, 'removed': 3, 'estimated_total': 10, 'done': False}}
            reports.on(log.id)({'finished_at': 1.0, 'tiers': progress})
            self.assertTrue(reports._unheard)
        self.addCleanup(self.sql, f"DELETE FROM cache_log WHERE id = {log.id:d}")
        reports.deliver()
        self.assertFalse(reports._unheard)
        with self.request() as env:
            log = env['cache.log'].browse(log.id)
            self.assertEqual((log.state, log.removed, log.percent), ('done', 3, 100))


@tagged('post_install', '-at_install')
class TestPlainWords(TransactionCase):
    def test_the_sentences_say_what_the_engine_does(self):
        settings = self.env['res.config.settings']._tiered_cache_settings()
        rule = self.env['cache.rule'].create(
            {'model': 'res.bank', 'l1_ttl_s': 7200, 'min_cost_ms': 12, 'use_l3': False}
        )
        row = {name: rule[name] for name in policy.RULE_COLUMNS}
        plan = policy.Policy(settings, [row]).plan(self.env['res.bank'], 'search_read')
        self.assertEqual((plan.ttl_s['l1'], plan.min_cost_ms['l1']), (7200, 12))
        text = str(rule.effect)
        self.assertIn("2 hours, if they took 12 ms or more", text)
        self.assertIn("not kept in L3", text)
        rule.enabled = False
        self.assertIn("computed each time", str(rule.effect))

    def test_times_are_said_as_people_say_them(self):
        for seconds, text in (
            (1, "1 second"), (90, "90 seconds"), (3600, "1 hour"), (172800, "2 days"),
        ):  # fmt: skip
            self.assertEqual(plain_words.duration(self.env, seconds), text)

    def test_a_rule_of_the_auditor_is_among_those_that_are_off(self):
        rule = self.env['cache.rule'].create({'model': 'res.bank', 'consistency': 'eventual'})
        self.assertEqual(rule.state, 'eventual')
        rule.enabled = False
        self.assertEqual(rule.state, 'off')
