"""``odoo-bin cache``, run as people and programs run it: a process, its output, its exit code."""

# "check" is what these tests do
# pylint: disable=method-required-super

import json
import os
import re
import subprocess
from pathlib import Path

from odoo.cli.command import find_command
from odoo.tests import tagged
from odoo.tests.common import get_db_name
from odoo.tools import config

from .common import ADMIN, CacheCase

ROOT = Path(__file__).resolve().parents[1]


def run(*args, **environment):
    """``odoo-bin`` with these arguments; tables and logs apart."""
    launcher = os.environ.get('TIERED_CACHE_ODOO') or str(ROOT / 'scripts' / 'odoo')
    return subprocess.run(  # noqa: S603
        [launcher, *args],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )


class CommandCase(CacheCase):
    options = {'l3_enabled': '1', 'metrics_flush_s': '3600'}

    def setUp(self):
        super().setUp()
        self.bank = self.make('res.bank', {'name': 'Commanded'})
        self.addCleanup(self.sql, "DELETE FROM cache_entry")
        self.sql("DELETE FROM cache_entry")

    def read(self, env):
        return env['res.bank'].search_read([('id', '=', self.bank)], ['name', 'bic', 'active'])

    def keep(self):
        """An entry of a read in L3; returns its key."""
        self.warm(self.read)
        self.settle()
        ((key,),) = self.sql("SELECT key FROM cache_entry WHERE key LIKE 'v1:orm:res.bank:%'")
        return key

    def command(self, *args, code=0):
        done = run('cache', *args, '-d', get_db_name(), '--data-dir', config['data_dir'])
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertNotIn('Traceback', done.stderr)
        return done

    def document(self, *args, code=0):
        return json.loads(self.command(*args, '--json', code=code).stdout)


@tagged('post_install', '-at_install')
class TestCommand(CommandCase):
    def test_check_is_content_then_finds_a_switched_off_trigger_and_guards_repairs_it(self):
        self.keep()
        document = self.document('check')
        self.assertEqual(document['errors'], 0, document)
        texts = [f['text'] for f in document['findings'] if f['area'] == 'entries']
        self.assertRegex(texts[-1], r'^L3: [1-9]\d* entries compared with the database')

        self.sql("ALTER TABLE res_bank DISABLE TRIGGER cache_change_update")
        self.addCleanup(self.sql, "ALTER TABLE res_bank ENABLE TRIGGER cache_change_update")
        table = self.command('check', code=1).stdout
        self.assertRegex(table, r'guards +error +Table res_bank: .*disabled')
        self.assertRegex(self.command('guards').stdout, r'\n  res_bank .*disabled')
        self.assertEqual(self.document('guards', '--repair')['done'], ['res_bank'])
        self.assertEqual(self.document('check')['errors'], 0)

    def test_invalidate_counts_first_and_then_removes_for_the_running_workers_too(self):
        key = self.keep()
        pattern = 'v1:orm:res.bank:*'
        preview = self.document('invalidate', '--dry-run', '--pattern', pattern)
        self.assertEqual(preview['tiers']['l3'], {'removed': 1, 'invalid': 1, 'faults': {}})
        with self.assertHit(), self.request() as env:
            self.read(env)
        removed = self.document('invalidate', '--pattern', pattern)
        self.assertEqual(removed['tiers']['l3']['removed'], 1)
        self.assertFalse(self.sql("SELECT FROM cache_entry WHERE key = %s", [key]))
        with self.assertMiss('stale', 'removal'), self.request() as env:
            self.read(env)

    def test_stats_and_top_are_of_all_processes_and_say_what_they_do_not_know(self):
        self.keep()
        with self.request() as env:
            self.read(env)
        self.engine.flush_metrics()
        document = self.document('stats')
        self.assertGreaterEqual(document['figures']['hits']['l1'], 2)
        self.assertEqual(document['tiers']['l3']['entries'], 1)
        self.assertIn('l1 entries', document['unknown'])
        self.assertIn('Not known here: l1 entries', self.command('stats').stdout)
        (row,) = [r for r in self.document('top', '--limit', '1000')['saved']
                  if (r['model'], r['method']) == ('res.bank', 'search_read')]  # fmt: skip
        self.assertGreaterEqual(row['hits'], 2)
        self.assertTrue(row['reasons'])

    def test_what_cannot_be_done_is_one_sentence_and_an_exit_code(self):
        for args, code in (
            (('stats', '-d', 'tiered_cache_no_such_database'), 3),
            (('stats', '-d', 'postgres'), 3),
            (('invalidate', '-d', get_db_name()), 2),
            (('top', '-d', get_db_name(), '--limit', 'many'), 2),
            (('nothing',), 2),
        ):
            with self.subTest(args=args):
                done = run('cache', *args)
                self.assertEqual((done.returncode, done.stdout), (code, ''), done.stderr)
                said = [line for line in done.stderr.splitlines() if 'cache' in line]
                self.assertEqual(len(said), 1, done.stderr)
                self.assertRegex(said[0], r'^odoo\S* cache.*: .+\.?$')

    def test_a_model_that_does_not_exist_is_a_wrong_argument(self):
        done = self.command('invalidate', '--model', 'res.nothing', code=2)
        self.assertIn("There is no model 'res.nothing'", done.stderr)
        self.assertEqual(done.stdout, '')

    def test_warm_has_the_servers_do_it_or_does_it_itself_and_waits(self):
        name = 'Commanded warm-up'
        values = {'name': name, 'kind': 'namespace', 'namespace': 'tc_commanded'}
        warmup = self.make('cache.warmup', values)
        self.assertEqual(
            self.document('warm', name)['warmups'], [{'name': name, 'state': 'waiting'}]
        )
        (row,) = self.document('warm', name, '--wait')['warmups']
        self.assertEqual((row['state'], row['failed']), ('done', 0))
        with self.request() as env:
            self.assertEqual(env['cache.warmup'].browse(warmup).state, 'done')
        self.assertIn("no such warm-up", self.command('warm', 'nothing', code=2).stderr)

    def test_what_could_not_be_done_is_told_by_the_exit_code(self):
        document = self.document('guards', '--guard', 'tc_no_such_table', code=1)
        self.assertEqual((document['done'], list(document['failed'])), ([], ['tc_no_such_table']))
        name = 'Commanded to fail'
        warmup = self.make('cache.warmup', {'name': name, 'user_ids': [(4, ADMIN)]})
        self.sql(
            "UPDATE cache_warmup SET kind = 'method', method = 'res.bank._gone' WHERE id = %s",
            [warmup],
        )
        (row,) = self.document('warm', name, '--wait', code=1)['warmups']
        self.assertEqual((row['state'], row['failed']), ('done', 1))

    def test_odoo_lists_the_command_and_explains_it(self):
        self.assertRegex(run('help').stdout, r'\n    cache +Look at, check, empty')
        helped = run('cache', '--help').stdout
        for subcommand in ('stats', 'top', 'invalidate', 'warm', 'guards', 'check'):
            self.assertRegex(helped, rf'\n    {subcommand}\b')


@tagged('post_install', '-at_install')
class TestCommandPage(CacheCase):
    """docs/command-line.md"""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.page = (ROOT / 'docs' / 'command-line.md').read_text(encoding='utf-8')

    def test_every_option_of_every_subcommand_stands_there(self):
        sections = dict(re.findall(r'^## `(\w+)`(.*?)(?=^## |\Z)', self.page, re.M | re.S))
        for name, parser in self.subcommands().items():
            for action in parser._actions:
                for option in action.option_strings:
                    common = option in ('-h', '--help') or action.dest in (
                        'database', 'config', 'json', 'verbose', 'data_dir'
                    )  # fmt: skip
                    place = self.page if common else sections[name]
                    with self.subTest(subcommand=name, option=option):
                        self.assertIn(f'`{option}', place)

    def test_every_exit_code_stands_there(self):
        for code, text in find_command('cache').run.__globals__['EXIT_CODES'].items():
            self.assertIn(f'| {code} | {text}', self.page)

    def subcommands(self):
        parser = find_command('cache')().parser
        return next(a.choices for a in parser._actions if a.dest == 'subcommand')
