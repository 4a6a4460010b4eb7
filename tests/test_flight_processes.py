"""Single flight over real processes: 50 want one cold key, in 4 processes of Odoo.

The one idea: the processes run Odoo's shell with threads, so that all 50 are at it at once; a
prefork server would have no more at a time than it has workers.
"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import unittest
import uuid
from pathlib import Path

from odoo.tests import tagged
from odoo.tests.common import get_db_name
from odoo.tools import config

from .common import CacheCase
from .redis_server import REDIS_SERVER, RedisServer, wait_until

PROCESSES = 4
REQUESTS = 50

BOUND_S = 2.0
"""Default of single_flight_s, and the life of a lease."""

BUSY_S = 8.0
"""What 50 threads on two busy cores may take besides."""


@tagged('post_install', '-at_install')
class TestFlightProcesses(CacheCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix='tiered-cache-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.name = f'tc_flight:{uuid.uuid4().hex}'
        self.processes = []
        self.addCleanup(self.end)

    def end(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def start(self, number, threads, compute_s, options, **cache):
        """A process with threads that wait for the file ``go``."""
        launcher = os.environ.get('TIERED_CACHE_ODOO') or str(
            Path(__file__).resolve().parents[1] / 'scripts' / 'odoo'
        )
        task = {
            'database': get_db_name(),
            'name': self.name,
            'threads': threads,
            'compute_s': compute_s,
            'options': options,
            'go': str(self.folder / f'go{number}'),
            'computed': str(self.folder / 'computed'),
            'ready': str(self.folder / f'ready{number}'),
        }
        cache = {f'TIERED_CACHE_{name.upper()}': text for name, text in cache.items()}
        with (
            open(Path(__file__).with_name('flight_child.py')) as program,
            open(self.folder / f'log{number}', 'w') as log,
        ):
            process = subprocess.Popen(
                [launcher, 'shell', '-d', get_db_name(), '--no-http', '--log-level=warn',
                 f"--data-dir={config['data_dir']}"],
                stdin=program,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    'TIERED_CACHE_L3_ENABLED': '1',
                    **cache,
                    'TIERED_CACHE_TEST_TASK': json.dumps(task),
                },
            )  # fmt: skip
        self.processes.append(process)
        return process

    def wait_for(self, name, numbers):
        def log():
            return {number: (self.folder / f'log{number}').read_text()[-500:] for number in numbers}

        paths = [self.folder / name.format(number) for number in numbers]
        try:
            wait_until(lambda: all(path.exists() for path in paths), name, 120)
        except TimeoutError as error:
            self.fail(f'{error}: {log()}')
        return paths

    def go(self, numbers):
        for number in numbers:
            (self.folder / f'go{number}').touch()

    def answers(self, numbers):
        paths = self.wait_for('ready{}.answers', numbers)
        for number in numbers:
            self.processes[number].wait(60)
        return [answer for path in paths for answer in json.loads(path.read_text())]

    def computed(self):
        """The processes that have computed, without what they did to get ready."""
        path = self.folder / 'computed'
        lines = path.read_text().split() if path.exists() else []
        return lines[self.before :]

    def mark(self):
        self.before = 0
        self.before = len(self.computed())

    def assertComputedOnce(self, **cache):
        numbers = range(PROCESSES)
        for number in numbers:
            threads = REQUESTS // PROCESSES + (number < REQUESTS % PROCESSES)
            # a busy machine takes longer than two seconds to start 50 threads
            self.start(number, threads, 0.5, {'single_flight_s': 60}, **cache)
        self.wait_for('ready{}', numbers)
        self.mark()
        self.go(numbers)
        answers = self.answers(numbers)
        self.assertEqual(len(answers), REQUESTS)
        self.assertEqual(len({answer['value'] for answer in answers}), 1)
        self.assertEqual(len(self.computed()), 1)

    def assertDeadOwnerDelaysNobody(self, **cache):
        self.start(0, 1, 600, {}, **cache)
        others = range(1, PROCESSES)
        for number in others:
            self.start(number, REQUESTS // len(others), 0.1, {}, **cache)
        self.wait_for('ready{}', range(PROCESSES))
        self.mark()
        self.go([0])
        wait_until(self.computed, "the owner computes")
        os.killpg(self.processes[0].pid, signal.SIGKILL)
        self.processes[0].wait()
        self.go(others)
        answers = self.answers(others)
        self.assertEqual(len({answer['value'] for answer in answers}), 1)
        self.assertLess(max(a['took_s'] for a in answers), BOUND_S + BUSY_S)

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_fifty_requests_compute_a_cold_key_once_with_redis(self):
        with RedisServer() as server:
            self.assertComputedOnce(redis_url=server.url, redis_timeout_ms='5000', l3_enabled='0')

    def test_fifty_requests_compute_a_cold_key_once_without_redis(self):
        self.assertComputedOnce(redis_url='')

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_a_dead_owner_of_a_lease_of_redis_delays_nobody_beyond_the_bound(self):
        with RedisServer() as server:
            self.assertDeadOwnerDelaysNobody(
                redis_url=server.url, redis_timeout_ms='5000', l3_enabled='0'
            )

    def test_a_dead_owner_of_a_lock_of_the_database_delays_nobody(self):
        self.assertDeadOwnerDelaysNobody(redis_url='')
