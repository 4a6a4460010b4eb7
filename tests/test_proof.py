"""Do the programs of ``proof/`` notice?  Wrong answers, faults that never were, runs without hits.

The one idea: what judges the cache is itself judged by what is planted here.
"""

import contextlib
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest.mock import patch

from odoo.addons.tiered_cache.services import auditor
from odoo.tests import tagged
from odoo.tests.common import BaseCase

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.append(ROOT)

from proof.lab import faults, forking, judging, load, scene  # noqa: E402 found by the line above
from proof.programs import faults as faults_program  # noqa: E402
from proof.programs import growth_table, mutant_table, mutants, odoo_tests_report  # noqa: E402

ACCOUNTS = list(range(1, load.ACCOUNTS + 1))


def row(key, version=1, **more):
    return {
        'id': key,
        'x_name': f'Account {key}',
        'x_balance': load.START_BALANCE,
        'x_version': version,
        'x_log': False,
        **more,
    }


class Stage:
    accounts = ACCOUNTS
    database = 'none'


class Answers:
    """A server's answers, and its connection.

    :param rows: of every read
    """

    def __init__(self, rows):
        self.rows = rows
        self.connection = contextlib.closing(None)
        self.connection.close = lambda: None

    def call(self, _model, method, args=(), _kwargs=None):
        if method == 'web_search_read':
            return {'records': [dict(one) for one in self.rows]}
        if method == 'search_count':
            return len(self.rows)
        if method == 'formatted_read_group':
            total = sum(one['x_balance'] for one in self.rows)
            return [{'x_balance:sum': total, '__count': len(self.rows)}]
        return [dict(one) for one in self.rows if one['id'] in args[0]]


@tagged('post_install', '-at_install')
class TestProofLoad(BaseCase):
    """Sessions of ``proof/histories`` and ``proof/faults``, with answers that are made here."""

    def setUp(self):
        super().setUp()
        self.load = load.Load(Stage(), 0, readers=0, writers=0)
        self.rows = [row(key) for key in ACCOUNTS]
        self.session = load._Reader(self.load, 0, random.Random(1))
        self.answers = Answers(self.rows)
        self.patch(load._Reader, 'connect', lambda session, port, login: self.answers)

    def in_database(self, rows):
        found = {one['id']: tuple(one[name] for name in load.WEB_FIELDS) for one in rows}
        return patch.object(load.Load, '_in_database', lambda _load: found)

    def ask(self, shape):
        getattr(self.session, shape)(self.answers)
        return '\n'.join(self.load.anomalies())

    def test_right_answers(self):
        for key in ACCOUNTS:
            self.load.recency.acknowledged(key, 1)
        for shape in ('search', 'group', 'count', 'read'):
            self.assertEqual(self.ask(shape), '')
        self.assertGreater(self.load.checked()['floors'], 0)

    def test_an_answer_before_an_acknowledged_write(self):
        for shape in ('search', 'read'):
            for key in ACCOUNTS:
                self.load.recency.acknowledged(key, 2)
            self.assertIn('recency', self.ask(shape))

    def test_a_row_that_is_missing(self):
        for key in ACCOUNTS:
            self.load.recency.acknowledged(key, 1)
        self.answers.rows = []
        self.assertIn("'version': None", self.ask('read'))

    def test_a_row_that_disappears_for_a_session(self):
        self.assertEqual(self.ask('read'), '')
        with patch.object(self.session.rng, 'randrange', lambda _n: 0):
            self.ask('read')
            self.answers.rows = []
            self.assertIn('monotone', self.ask('read'))

    def test_what_a_standby_does_not_show_yet_and_what_it_shows(self):
        self.load.recent = False
        with patch.object(load._Reader, '_on_replica', lambda _r: dict.fromkeys(ACCOUNTS, 2)):
            self.assertIn("'floor': 2", self.ask('read'))
        self.assertNotIn('ceiling', '\n'.join(self.load.anomalies()))
        with patch.object(load._Reader, '_on_replica', lambda _r: dict.fromkeys(ACCOUNTS, 0)):
            self.assertIn("'ceiling': 0", self.ask('read'))

    def test_a_version_of_another_type(self):
        for one in self.rows:
            one['x_version'] = True
        self.assertIn('recency', self.ask('read'))

    def run_sessions(self, until):
        """Run two sessions that read, until ``until(load)`` is true."""
        going = load.Load(Stage(), 0, readers=2, writers=0)
        with going:
            deadline = threading.Event()
            for _attempt in range(500):
                if until(going):
                    break
                deadline.wait(0.02)
        return '\n'.join(going.anomalies())

    def test_answers_that_make_no_sense_are_anomalies(self):
        right = self.in_database(self.rows)
        for one in self.rows:
            del one['x_version']
        with right:
            found = self.run_sessions(lambda going: len(going.broken) > 3)
        self.assertIn('not understood', found)

    def test_everything_is_read_once_more_at_the_end(self):
        with self.in_database(self.rows):
            found = self.run_sessions(lambda going: going.counts['read'] > 3)
        self.assertEqual(found, '')
        later = [*self.rows[:-1], row(ACCOUNTS[-1], 2)]
        with self.in_database(later):
            found = self.run_sessions(lambda going: going.counts['read'] > 3)
        self.assertIn('at the end', found)

    def test_recency_counts_again_after_a_promotion(self):
        self.load.recent = False
        with patch.object(load.Load, '_remember_start'), self.load.pause(forget=True, recent=True):
            pass
        for key in ACCOUNTS:
            self.load.recency.acknowledged(key, 2)
        self.assertIn('recency', self.ask('read'))


GOOD = {
    'wrong': 0,
    'checked': {'reads': 4000},
    'hit_share': 0.5,
    'recovery_s': 0,
    'failures': 0,
    'faults': {'l2: forged': 3},
}
QUICK = {'once': 60.0, 'then': 2.0, 'noise': 1.0, 'noise_then': 0.5, 'samples': 600, 'wrong': 0}


@tagged('post_install', '-at_install')
class TestProofVerdicts(BaseCase):
    def of_load(self, plain=None, compared=False, **differently):
        result = {**GOOD, **differently}
        return judging.of_load(result, plain, compared=compared, shows=('l2: forged',))

    def test_a_good_run(self):
        self.assertEqual(self.of_load(), [])

    def test_bad_runs(self):
        for differently in (
            {'wrong': 1},
            {'checked': {'reads': 0}},
            {'hit_share': 0.0},
            {'recovery_s': None},
            {'failures': 1},
            {'faults': {'l2: timeout': 9}},
            {'faults': {}},
        ):
            with self.subTest(**differently):
                self.assertEqual(len(self.of_load(**differently)), 1)

    def test_failures_are_held_against_plain_odoo(self):
        for failed, in_plain, many in ((13, 8, False), (134, 140, False), (60, 20, True)):
            found = self.of_load({'failures': in_plain}, True, failures=failed)
            self.assertEqual(bool(found), many, found)
        self.assertTrue(self.of_load(None, True))

    def test_latency(self):
        self.assertEqual(judging.of_latency(QUICK), [])
        for differently in (
            {'wrong': 1},
            {'samples': 3},
            {'once': 140.0},
            {'then': 9.0},
        ):
            with self.subTest(**differently):
                self.assertEqual(len(judging.of_latency({**QUICK, **differently})), 1)

    def test_what_plain_reads_vary_by_is_taken_off(self):
        noisy = {**QUICK, 'then': 6.0, 'noise_then': 4.0}
        self.assertEqual(judging.of_latency(noisy), [])
        self.assertTrue(judging.is_noisy(noisy))

    def test_a_fault_that_never_happens(self):
        def fails():
            raise ConnectionError

        for action in (fails, lambda: 0, lambda: False):
            with self.assertRaises(faults.NotThere), faults.every(0.001, action):
                threading.Event().wait(0.05)

    def test_a_fault_that_happens(self):
        for reply in (None, b'OK', True, 2, [['t']]):
            happened = threading.Event()

            def action(happened=happened, reply=reply):
                happened.set()
                return reply

            with self.subTest(reply), faults.every(0.001, action):
                self.assertTrue(happened.wait(10))

    def test_what_the_children_of_a_fork_saw_is_an_anomaly(self):
        rows = [
            {'parent': 1, 'reads': 1, 'wrong': 0},
            {'child': 1, 'reads': 20, 'wrong': 0, 'hits': 9},
        ]
        found = forking.Children(rows)
        self.assertEqual((found.anomalies(), found.hits), ([], 9))
        self.assertEqual(found.checked()['children'], 1)
        for row in ({'parent': 1, 'reads': 1, 'wrong': 1}, {'child': 1, 'error': 'status 14'}):
            with self.subTest(row):
                self.assertEqual(len(forking.Children([*rows, row]).anomalies()), 1)

    def test_two_runs_add_to_the_same_results(self):
        path = os.path.join(self.enterContext(tempfile.TemporaryDirectory()), 'results')
        faults_program._keep(path, 'one', {'with': 1, 'seconds': 15})
        faults_program._keep(path, 'other', {'with': 2})
        faults_program._keep(path, 'one', {'latency': 3})
        self.assertEqual(
            faults_program._known(path),
            {'one': {'with': 1, 'seconds': 15, 'latency': 3}, 'other': {'with': 2}},
        )

    def test_prepared_copies_of_another_run_are_kept_for_a_day(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name, age_s in (('today', 0), ('old', 2 * scene.KEPT_S)):
            (folder / name).mkdir()
            at = time.time() - age_s
            os.utime(folder / name, (at, at))
        with patch.object(scene, 'CACHE', folder):
            scene._forget_old()
        self.assertEqual([one.name for one in folder.iterdir()], ['today'])


@tagged('post_install', '-at_install')
class TestProofDocs(BaseCase):
    """What docs/reliability.md and docs/planted-faults.md say is what was measured."""

    def page(self, name):
        return (Path(ROOT) / 'docs' / name).read_text(encoding='utf-8')

    def results(self, name):
        return json.loads((Path(ROOT) / 'proof/results' / name).read_text(encoding='utf-8'))

    def test_growth(self):
        table = growth_table.as_markdown(self.results('growth.json'))
        self.assertTrue(table in self.page('reliability.md'), "run proof/growth --plots")

    def test_the_tests_of_odoo(self):
        table = odoo_tests_report.saved_table(f'{ROOT}/proof/results/odoo_tests.json')
        found = table in self.page('reliability.md')
        self.assertTrue(found, "put the output of proof/odoo_tests --table there")

    def test_every_planted_fault_has_an_outcome(self):
        found = mutants._markdown(mutants._recorded()) in self.page('planted-faults.md')
        self.assertTrue(found, "run proof/mutants --left --docs")

    def test_planted_faults_that_the_page_names_are_there(self):
        _before, _title, table = self.page('reliability.md').partition('| protection | planted')
        named = set(re.findall(r'`([a-z]+-[a-z-]+)`', table))
        self.assertGreater(len(named), 20)
        self.assertLessEqual(named, {mutant.name for mutant in mutant_table.MUTANTS})


PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.path.insert(0, {root!r})
from proof.lab import ending
def main():
    try:
        print('begun', flush=True)
        {what}
    finally:
        print('cleaned up', flush=True)
sys.exit(ending.run(main))
"""


@tagged('post_install', '-at_install')
class TestProofEnding(BaseCase):
    def program(self, what):
        process = subprocess.Popen(
            [sys.executable, '-c', PROGRAM.format(root=ROOT, what=what)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'},
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), 'begun\n')
        return process

    def rest(self, process):
        output = process.stdout.read()
        process.wait(30)
        return output

    def test_signals_let_it_clean_up_and_say_so(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.program('time.sleep(60)')
            process.send_signal(number)
            output = self.rest(process)
            self.assertEqual(
                output.splitlines(), ['cleaned up', 'verdict: interrupted; nothing is shown']
            )
            self.assertEqual(process.returncode, 130)

    def test_a_program_that_it_has_started_may_clean_up(self):
        inner = (
            "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit('ended'));"
            " print('begun', flush=True); time.sleep(60)"
        )
        command = [sys.executable, '-c', inner]
        process = self.program(f'ending.call({command!r}, stderr=1)')
        self.assertEqual(process.stdout.readline(), 'begun\n')
        process.terminate()
        self.assertEqual(self.rest(process).splitlines()[:2], ['ended', 'cleaned up'])

    def test_a_program_that_fails_has_a_verdict(self):
        process = self.program("raise ValueError('no such tool')")
        output = self.rest(process)
        self.assertIn('verdict: WRONG: the program itself failed: ValueError: no such tool', output)
        self.assertEqual(process.returncode, 1)


RAN = {
    'tests': 5,
    'failed': {},
    'counts': [],
    'only': [],
    'by_asking': [],
    'flaky': [],
    'missing': [],
    'logged_only': [],
    'cache': {'hits': 3, 'audited': 3, 'differences': 0, 'faults': {}},
    'replay': {'calls': 9, 'AccessError': 1},
}


@tagged('post_install', '-at_install')
class TestProofOdooTests(BaseCase):
    """The verdict of ``proof/odoo_tests``."""

    def of(self, mode='cache', **differently):
        figures = {**RAN['cache'], **differently.pop('cache', {})}
        return odoo_tests_report.complaints({mode: {**RAN, 'cache': figures, **differently}})

    def test_a_good_run(self):
        self.assertEqual(self.of(), [])
        self.assertEqual(self.of('with', cache={'hits': 0, 'audited': 0}), [])
        plain = {'tests': 5, 'failed': {'a': 'by itself'}}  # nothing to compare it with
        self.assertEqual(odoo_tests_report.complaints({'without': plain}), [])

    def test_bad_runs(self):
        for differently in (
            {'only': ['a']},
            {'only': ['a'], 'flaky': ['a']},
            {'missing': ['a']},
            {'logged_only': ['a']},
            {'tests': 0},
            {'failed': {odoo_tests_report.WHOLE: 'it did not end'}},
            {'cache': {'differences': 1}},
            {'cache': {'faults': {'find': 1}}},
            {'cache': {'hits': 0, 'audited': 0}},
            {'cache': {'audited': 2}},
            {'replay': {'fault KeyError x': 1}},
        ):
            with self.subTest(**differently):
                self.assertEqual(len(self.of(**differently)), 1)

    def test_what_is_known_to_be_no_fault_of_the_cache(self):
        self.assertEqual(self.of(only=['a', 'b'], counts=['a'], by_asking=['b']), [])
        self.assertEqual(len(self.of('with', only=['a'], counts=['a'])), 1)

    def test_tests_that_count_queries(self):
        for name, why, counts in (
            ('a.test_b', 'AssertionError: Query count more than expected for user x: 4 > 2', True),
            ('a.test_attrs_query_count', 'AssertionError: 2800 != 2797', True),
            ('a.test_b', 'AssertionError: 2800 != 2797', False),
        ):
            with self.subTest(name, why=why):
                self.assertEqual(odoo_tests_report.is_count(name, why), counts)

    def test_results_name_no_folder_of_a_machine(self):
        text = "'/srv/odoo-19/odoo-bin', '--addons-path=/srv/a.b/c' http://localhost/web/terms 1/2"
        self.assertEqual(
            odoo_tests_report.without_folders(text),
            "'odoo-bin', '--addons-path=c' http://localhost/web/terms 1/2",
        )

    def test_what_the_auditor_lets_pass_is_counted(self):
        answers = iter((1, 2))
        memory = ['warm']
        with self.assertLogs(auditor.__name__, logging.INFO) as logged:  # 'INFO' is 25 in Odoo
            auditor.audit(('m', 'read'), 0, lambda: next(answers))
            auditor.audit(('m', 'read'), 'a', lambda: memory[-1], forget=lambda: memory.append('a'))
        found = odoo_tests_report.excused('\n'.join(logged.output))
        self.assertEqual(found, {'two answers': 1, 'memory': 1})

    def test_a_run_without_the_addon_that_broke_off_is_nothing_to_compare_with(self):
        self.assertTrue(self.of('without', tests=0))
