"""What ``cache check`` finds, and what it does not take for a fault."""

# pylint: disable=method-required-super

import contextlib
import dataclasses
import time
from unittest.mock import patch

from odoo import SUPERUSER_ID
from odoo.tests import tagged
from odoo.tools import mute_logger

from ..services import codec, figures, inspection, sampling, walking
from .test_cli import CommandCase

TIER_LOG = 'odoo.addons.tiered_cache.services.tiers.base'


class InspectionCase(CommandCase):
    def errors(self, cr):
        found = inspection.inspect(self.engine, cr)
        return [finding.text for finding in found if finding.level == inspection.ERROR]

    @contextlib.contextmanager
    def broken(self, statement, params=None):
        """A cursor that alone sees something broken."""
        with contextlib.closing(self.engine.cursor()) as cr:
            cr.execute(statement, params)
            yield cr
            cr.rollback()


@tagged('post_install', '-at_install')
class TestInspection(InspectionCase):
    def test_nothing_is_wrong_with_what_is_as_it_was_made(self):
        self.keep()
        with contextlib.closing(self.engine.cursor()) as cr:
            self.assertEqual(self.errors(cr), [])

    def test_each_way_to_break_a_guard_is_found(self):
        self.keep()
        for statement, words in (
            ("ALTER TABLE res_bank DISABLE TRIGGER cache_change_insert", 'disabled'),
            ("ALTER TABLE res_bank ENABLE REPLICA TRIGGER cache_change_delete", 'disabled'),
            ("DROP TRIGGER cache_change_truncate ON res_bank", 'missing'),
            (
                "DROP TRIGGER cache_change_update ON res_bank; CREATE TRIGGER cache_change_update"
                " AFTER UPDATE OF name ON res_bank FOR EACH STATEMENT"
                " EXECUTE FUNCTION cache_change_note()",
                'altered',
            ),
            (
                "DROP TRIGGER cache_change_update ON res_bank; CREATE TRIGGER cache_change_update"
                " AFTER INSERT ON res_bank REFERENCING NEW TABLE AS changed_rows"
                " FOR EACH STATEMENT EXECUTE FUNCTION cache_change_note()",
                'altered',
            ),
        ):
            with self.subTest(statement=statement), self.broken(statement) as cr:
                (error,) = self.errors(cr)
                self.assertIn(words, error)
                self.assertIn('res_bank', error)

    def test_a_function_that_does_something_else_is_found(self):
        for name, change in (
            ('cache_change_note', 'ALTER FUNCTION cache_change_note() SECURITY INVOKER'),
            (
                'cache_change_note',
                "CREATE OR REPLACE FUNCTION cache_change_note() RETURNS trigger LANGUAGE plpgsql"
                " SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
                " AS 'BEGIN RETURN NULL; END'",
            ),
            ('cache_look', 'ALTER FUNCTION cache_look(xid8, xid8[]) RESET ALL'),
        ):
            with self.subTest(change=change), self.broken(change) as cr:
                self.assertIn(f'The function {name} is not', self.errors(cr)[0])

    def test_a_journal_out_of_its_bounds_is_found(self):
        for change, words in (
            ("UPDATE cache_version SET token = -1 WHERE relation = '#all'", 'out of bounds'),
            ("INSERT INTO cache_change (relation, token) VALUES ('x', 1::bigint << 62)", 'bounds'),
            ("DELETE FROM cache_version WHERE relation = '#generation'", 'row #generation'),
            ("ALTER TABLE cache_change DROP COLUMN rows_changed", 'lacks the columns rows_changed'),
            ("ALTER TABLE cache_change SET UNLOGGED", 'ordinary, logged table'),
        ):
            with self.subTest(change=change), self.broken(change) as cr:
                self.assertIn(words, ' '.join(self.errors(cr)))

    def test_a_rule_of_the_auditor_is_an_error_until_it_is_deleted(self):
        self.addCleanup(self.sql, "DELETE FROM cache_rule WHERE sequence = -1")
        with self.engine.cursor() as cr:
            inspection.configuration.write_suspension(cr, 'res.bank', 'read')
            self.assertIn('a wrong answer of res.bank.read', ' '.join(self.errors(cr)))

    def test_a_table_that_is_gone_does_no_harm(self):
        with self.broken("INSERT INTO cache_version (relation) VALUES ('tc_test_gone')") as cr:
            self.assertEqual(self.errors(cr), [])
            found = [f for f in inspection.inspect(self.engine, cr) if 'tc_test_gone' in f.text]
            self.assertEqual([f.level for f in found], [inspection.WARNING])

    def test_maintenance_that_does_not_run_is_a_warning(self):
        switched_off = (
            "UPDATE ir_cron SET active = false WHERE id = (SELECT res_id FROM ir_model_data"
            " WHERE module = 'tiered_cache' AND name = 'ir_cron_maintain')"
        )
        with self.broken(switched_off) as cr:
            found = [f for f in inspection.inspect(self.engine, cr) if 'switched off' in f.text]
        self.assertEqual([f.level for f in found], [inspection.WARNING])

    def test_a_tier_beyond_its_limits_is_a_warning(self):
        self.keep()
        stats = {'state': 'up', 'entries': 12, 'bytes': 5, 'max_entries': 10, 'max_bytes': 10}
        with (
            patch.object(inspection, 'tier_figures', return_value={'l3': stats}),
            contextlib.closing(self.engine.cursor()) as cr,
        ):
            found = [f for f in inspection.inspect(self.engine, cr) if f.text.startswith('L3: 12')]
        self.assertEqual([f.level for f in found], [inspection.WARNING, inspection.OK])

    def test_a_redis_that_is_configured_and_away_is_an_error(self):
        self.configure(redis_url='redis://localhost:1/0')
        with mute_logger(TIER_LOG), contextlib.closing(self.engine.cursor()) as cr:
            self.assertRegex(' '.join(self.errors(cr)), 'L2: ')

    def test_a_relation_that_could_not_be_guarded_is_named_with_its_reads(self):
        self.sql(
            "INSERT INTO cache_metric"
            " (granularity, active, bucket, model, method, outcome, reason, relation, count)"
            " SELECT granularity, granularity = 'minute', now() AT TIME ZONE 'utc',"
            " 'm', 'x', 'computed', 'unguarded', 'tc_nowhere', 7"
            " FROM unnest(ARRAY['minute', 'hour']) AS granularity"
        )
        self.addCleanup(self.sql, "DELETE FROM cache_metric WHERE relation = 'tc_nowhere'")
        with contextlib.closing(self.engine.cursor()) as cr:
            self.assertIn(
                ('tc_nowhere', 7, 'there is no such table any more'),
                inspection.failing(self.engine, cr),
            )

    def test_guards_are_put_on_taken_off_and_made_anew(self):
        self.keep()
        guards = self.engine.guards
        self.assertEqual(self.when_free(guards.release_now, 'res_bank'), '')
        self.assertFalse(self.triggers())
        with self.assertMiss(), self.request() as env:
            self.read(env)
        self.assertEqual(self.when_free(guards.guard_now, 'res_bank'), '')
        self.assertEqual(len(self.triggers()), 4)
        self.sql("DROP TRIGGER cache_change_update ON res_bank")
        self.assertEqual(self.when_free(guards.repair), {'res_bank': ''})
        self.assertEqual(len(self.triggers()), 4)
        self.assertIn('not a table', guards.guard_now('tc_nowhere'))

    def when_free(self, action, *args):
        """What it answers while no background thread has the journal's lock."""
        until = time.monotonic() + 20
        while 'try again' in str(answer := action(*args)) and time.monotonic() < until:
            time.sleep(0.05)
        return answer

    def triggers(self):
        return self.sql(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = 'res_bank'::regclass"
            " AND tgfoid = 'cache_change_note'::regproc"
        )


@tagged('post_install', '-at_install')
class TestSampling(InspectionCase):
    def check(self, uid=SUPERUSER_ID):
        with self.request(uid, commit=False) as env:
            return list(sampling.check(self.engine, env, 1000))

    def wrong(self):
        return [finding.text for finding in self.check() if finding.level == inspection.ERROR]

    def change(self, key, **values):
        """Replace an entry of L3, as a bug of ours would have stored it."""
        tier = self.engine.hierarchy.tiers['l3']
        tier.set(dataclasses.replace(tier.get(key), **values))

    def test_what_the_database_says_is_compared_and_right(self):
        self.keep()
        found = self.check()
        self.assertEqual([f.level for f in found], [inspection.OK], found)
        self.assertIn('1 entries compared', found[0].text)

    def test_a_valid_entry_with_a_wrong_value_is_found(self):
        key = self.keep()
        for row, words in (
            ({'id': self.bank, 'name': 'Wrong', 'bic': False, 'active': True}, 'name of res.bank'),
            ({'id': self.bank, 'name': 'Commanded', 'bic': False, 'active': 1}, 'active of'),
            ({'id': 2**30, 'name': 'Commanded'}, 'which is not in the database'),
        ):
            with self.subTest(row=row):
                self.change(key, payload=codec.pack([row]))
                (error,) = self.wrong()
                self.assertIn(words, error)
                self.assertIn(key, error)
                self.assertNotIn('Wrong', error, "values may be private")

    def test_a_wrong_value_that_nobody_would_be_served_is_no_fault(self):
        key = self.keep()
        self.change(key, payload=codec.pack([{'id': self.bank, 'name': 'Wrong'}]))
        self.sql("UPDATE res_bank SET bic = 'X' WHERE id = %s", [self.bank])
        (found,) = self.check()
        self.assertEqual(found.level, inspection.OK)
        self.assertIn('1 outdated', found.text)

    def test_an_entry_that_does_not_depend_on_what_all_depend_on_is_found(self):
        key = self.keep()
        entry = self.engine.hierarchy.tiers['l3'].get(key)
        kept = tuple(d for d in entry.dependencies if d[0] != 'res_users')
        self.change(key, dependencies=kept)
        self.assertIn('it does not depend on res_users', self.wrong()[0])

    def test_damaged_bytes_are_found(self):
        self.keep()
        self.sql("UPDATE cache_entry SET body = '\\x00'")
        with mute_logger(TIER_LOG):
            self.assertIn('corrupt', self.wrong()[0])

    def test_an_entry_from_the_future_is_found(self):
        key = self.keep()
        now = time.time()
        self.change(key, created=now + 900, expires=now + 1000)
        self.assertIn('clocks', self.wrong()[0])

    def test_named_entries_are_verified_in_form(self):
        self.commit(lambda env: env['cache.manager'].get_or_compute(
            'supplier:detail:1', lambda env: env['res.bank'].browse(self.bank).read(['name'])
        ) and None)  # fmt: skip
        self.settle()
        (found,) = self.check()
        self.assertEqual(found.level, inspection.OK)


@tagged('post_install', '-at_install')
class TestPreview(InspectionCase):
    def test_a_preview_counts_what_the_removal_then_removes(self):
        for kind, target, invalid in (
            ('pattern', 'v1:orm:res.bank:*', 1),
            ('all', '', 1),
            ('user', 2, 1),
            ('model', 'res.bank', 1),
            ('relation', 'res_bank', 1),
            ('tag', 'nobody has it', 0),
        ):
            with self.subTest(kind=kind):
                self.keep()
                with self.request() as env:
                    records = env['res.bank']
                    before = walking.preview(self.engine, records, kind, target)['l3']
                    self.assertEqual(before['invalid'], invalid)
                with self.request(SUPERUSER_ID) as env:
                    removed = env['cache.manager']._remove(kind, str(target))['l3']
                self.assertEqual(before['removed'], removed)
                self.sql("DELETE FROM cache_entry")

    def test_a_preview_is_no_hit(self):
        self.keep()
        self.sql("UPDATE cache_entry SET hits = 0")
        with self.request() as env:
            walking.preview(self.engine, env['res.bank'], 'relation', 'res_bank')
        self.engine.leave()
        self.assertEqual(self.sql("SELECT max(hits) FROM cache_entry"), [(0,)])


@tagged('post_install', '-at_install')
class TestFigures(InspectionCase):
    def setUp(self):
        super().setUp()
        self.sql("DELETE FROM cache_metric")
        for outcome, reason, relation, count, saved, spent in (
            ('l1', '', '', 6, 60, 1),
            ('computed', 'stale', 'res_bank', 2, 0, 20),
            ('computed', 'stale', 'res_partner', 1, 0, 10),
            ('computed', 'cold', '', 1, 0, 10),
        ):
            hits = count if outcome == 'l1' else 0
            self.sql(
                "INSERT INTO cache_metric (granularity, active, bucket, model, method, outcome,"
                " reason, relation, count, calls, hits, saved_ms, saved_queries, duration_ms,"
                " audited, differences)"
                " SELECT granularity, granularity = 'minute',"
                " date_trunc(granularity, now() AT TIME ZONE 'utc'), 'res.bank', 'read',"
                " %s, %s, %s, %s, %s, %s, %s, 0, %s, 0, 0"
                " FROM unnest(ARRAY['minute', 'hour', 'day']) AS granularity",
                [outcome, reason, relation, count, count, hits, saved, spent],
            )

    def test_totals_are_sums_over_everything(self):
        with contextlib.closing(self.engine.cursor()) as cr:
            totals = figures.totals(cr, 24)
        self.assertEqual((totals['calls'], totals['hits']['l1'], totals['hit_rate']), (10, 6, 0.6))
        self.assertEqual(totals['misses'], {'stale': 3, 'cold': 1})

    def test_reasons_are_summed_up_with_their_most_frequent_detail(self):
        with contextlib.closing(self.engine.cursor()) as cr:
            (read,) = figures.reads(cr, 24, 'missed', 10)
        self.assertEqual((read['saved_ms'], read['missed_ms']), (60, 40))
        self.assertEqual(
            read['reasons'],
            [
                {'reason': 'stale', 'count': 3, 'detail': 'res_bank'},
                {'reason': 'cold', 'count': 1, 'detail': ''},
            ],
        )

    def test_older_figures_are_left_out(self):
        self.sql("UPDATE cache_metric SET bucket = bucket - interval '2 hours'")
        with contextlib.closing(self.engine.cursor()) as cr:
            self.assertEqual(figures.totals(cr, 1)['calls'], 0)
            self.assertEqual(figures.totals(cr, 3)['calls'], 10)
