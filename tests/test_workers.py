"""Two prefork workers over HTTP: a write through one is seen by the next read through the other.

The one idea: which worker answers is not left to chance.  The one that shall not is stopped
(SIGSTOP) while nothing is under way, so that the kernel hands the connection to the other.

What may go wrong: a worker is recycled by its memory limit and has another id; the limits are
off here.
"""

# "read" and "write" are what these tests do, not overrides of a model's methods
# pylint: disable=method-required-super

import contextlib
import http.client
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from odoo.tests import tagged
from odoo.tests.common import get_db_name
from odoo.tools import config

from .common import CacheCase
from .redis_server import free_port

ROUNDS = 100

START_S = 60
"""For the server to start; two busy cores take about 5."""


class Server:
    """``odoo-bin`` on the database of the tests; a context manager.

    :param workers: prefork workers; 0 is a threaded server
    :param arguments: on top of the usual ones
    :param options: of Tiered Cache, as texts; None leaves one to Settings
    """

    def __init__(self, workers=2, arguments=(), log_level='warn', **options):
        self.port = free_port()
        self._count = workers
        self._arguments = [*arguments, f'--log-level={log_level}']
        variables = {f'TIERED_CACHE_{name.upper()}': text for name, text in options.items()}
        self._environment = {
            **os.environ,
            'TIERED_CACHE_L1_MIN_COST_MS': '0',
            'TIERED_CACHE_REDIS_URL': '',
            'TIERED_CACHE_L3_ENABLED': '0',
            'TIERED_CACHE_AUDIT_RATE': '0',
            **variables,
        }
        self._process: psutil.Popen | None = None
        self._log = None

    def __enter__(self):
        launcher = os.environ.get('TIERED_CACHE_ODOO') or str(
            Path(__file__).resolve().parents[1] / 'scripts' / 'odoo'
        )
        self._log = tempfile.TemporaryFile('w+')
        self._process = psutil.Popen(
            [
                launcher,
                '-d',
                get_db_name(),
                f'--workers={self._count}',
                '--max-cron-threads=0',
                f'--http-port={self.port}',
                f'--gevent-port={free_port()}',
                '--http-interface=127.0.0.1',
                '--limit-memory-soft=0',
                '--limit-memory-hard=0',
                f"--data-dir={config['data_dir']}",
                *self._arguments,
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={name: text for name, text in self._environment.items() if text is not None},
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGCONT)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def end(self, how=signal.SIGTERM) -> float:
        """Ask the server to end, and wait until it has.

        :return: seconds that it took
        """
        start = time.monotonic()
        self._process.send_signal(how)
        self._process.wait(START_S)
        return time.monotonic() - start

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def _wait(self):
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.is_running():
            with contextlib.suppress(OSError):
                if len(self.workers()) == self._count and Client(self.port).get('/web/health'):
                    return
            time.sleep(0.1)
        raise TimeoutError(f"the server does not answer:\n{self.log()[-3000:]}")

    def workers(self) -> list[int]:
        """Process ids of the workers that answer HTTP: those that hold our listening socket
        and are no server of their own, as the gevent process is."""
        found = []
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):  # one that has just ended
                command = child.cmdline()
                if 'gevent' not in command and any('odoo' in part for part in command):
                    found.append(child.pid)
        return sorted(found)

    @contextlib.contextmanager
    def only(self, worker: int):
        """Within it, the other worker does not run."""
        others = [psutil.Process(pid) for pid in self.workers() if pid != worker]
        for other in others:
            other.suspend()
        for other in others:
            # the signal is on its way; until it has arrived the worker would take a connection
            while not self._is_stopped(other):
                time.sleep(0.001)
        try:
            yield
        finally:
            for other in others:
                other.resume()

    @staticmethod
    def _is_stopped(process: psutil.Process) -> bool:
        return all(
            Path(f'/proc/{process.pid}/task/{thread.id}/stat')
            .read_text()
            .rpartition(')')[2]
            .split()[0]
            == 'T'
            for thread in process.threads()
        )


class Client:
    """A session of the web client; every call is a new connection."""

    def __init__(self, port: int):
        self._port = port
        self._cookie = ''

    def get(self, path: str) -> bool:
        with contextlib.closing(
            http.client.HTTPConnection('127.0.0.1', self._port, timeout=30)
        ) as connection:
            connection.request('GET', path)
            return connection.getresponse().status == 200

    def rpc(self, path: str, **params):
        with contextlib.closing(
            http.client.HTTPConnection('127.0.0.1', self._port, timeout=30)
        ) as connection:
            connection.request(
                'POST',
                path,
                json.dumps({'params': params}),
                {'Content-Type': 'application/json', 'Cookie': self._cookie},
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
            if cookie := response.getheader('Set-Cookie'):
                self._cookie = cookie.split(';')[0]
        if 'error' in answer:
            raise RuntimeError(answer['error']['data']['debug'])
        return answer['result']

    def login(self, login: str, password: str):
        self.rpc('/web/session/authenticate', db=get_db_name(), login=login, password=password)

    def call(self, model: str, method: str, *args, **kwargs):
        return self.rpc(
            f'/web/dataset/call_kw/{model}/{method}',
            model=model,
            method=method,
            args=args,
            kwargs=kwargs,
        )


@tagged('post_install', '-at_install')
class TestTwoWorkers(CacheCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        groups = ('base.group_user', 'base.group_partner_manager', 'tiered_cache.group_cache_admin')
        cls.make_for_class(
            'res.users',
            {
                'name': 'tc_http',
                'login': 'tc_http',
                'password': 'tc_http_password',
                'group_ids': cls.commit(lambda env: [(4, env.ref(name).id) for name in groups]),
            },
        )
        cls.partner = cls.make_for_class('res.partner', {'name': 'Round -1'})
        cls.server = cls.enterClassContext(Server())
        cls.client = Client(cls.server.port)
        cls.client.login('tc_http', 'tc_http_password')
        cls.workers = cls.server.workers()

    def read(self):
        (record,) = self.client.call(
            'res.partner', 'search_read', [('id', '=', self.partner)], ['name']
        )
        return record['name']

    def hits(self):
        """Hits that the worker has counted which answers."""
        stats = self.client.call('cache.manager', 'get_stats')
        return stats['pid'], sum(stats['hits'].values())

    def warm_workers(self):
        """Read until both workers answer from their caches."""
        for worker in self.workers:
            with self.server.only(worker):
                until = time.monotonic() + 20
                pid, before = self.hits()
                self.assertEqual(pid, worker)
                while self.hits()[1] == before:
                    self.assertLess(time.monotonic(), until, "the worker never answers from L1")
                    self.read()

    def test_a_write_through_one_worker_is_seen_by_the_next_read_through_the_other(self):
        self.warm_workers()
        counted = {}
        for worker in self.workers:
            with self.server.only(worker):
                counted[worker] = self.hits()[1]
        for number in range(ROUNDS):
            writer, reader = self.workers[:: 1 if number % 2 else -1]
            with self.server.only(writer):
                self.client.call(
                    'res.partner', 'write', [self.partner], {'name': f'Round {number}'}
                )
            with self.server.only(reader):
                self.assertEqual(self.read(), f'Round {number}')  # computes, and keeps it
                self.assertEqual(self.read(), f'Round {number}')  # from its L1
        for worker in self.workers:
            with self.server.only(worker):
                self.assertGreaterEqual(self.hits()[1] - counted[worker], ROUNDS * 0.4)
        self.assertNotIn('ERROR', self.server.log())

    def test_a_removal_through_one_worker_reaches_the_other(self):
        self.warm_workers()
        one, two = self.workers
        with self.server.only(one):
            self.client.call('cache.manager', 'invalidate_pattern', 'v1:orm:res.partner:*')
        with self.server.only(two):
            before = self.hits()[1]
            self.read()
            self.assertEqual(self.hits()[1], before)

    def test_a_write_of_this_process_is_seen_by_both(self):
        self.warm_workers()
        for number in range(10):
            self.sql(
                "UPDATE res_partner SET name = %s WHERE id = %s", [f'Direct {number}', self.partner]
            )
            for worker in self.workers:
                with self.server.only(worker):
                    self.assertEqual(self.read(), f'Direct {number}')
