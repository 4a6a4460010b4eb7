"""A second real Odoo, with a database and a port of its own, read through ``cache.remote``.

The one idea: a server of :mod:`.test_workers` on a new database with ``base`` alone, or with this
addon; its records are changed behind its back, as its own users would change them.

What may go wrong: a database is left behind by a killed run; its name says whose it is.
"""

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import psycopg2

from odoo.sql_db import connection_info_for
from odoo.tests import tagged
from odoo.tests.common import get_db_name
from odoo.tools import config, mute_logger

from ..services import outside
from ..services.remote import errors
from . import test_workers
from .common import CacheCase

NAME = 'tc_other'
CLIENT = 'odoo.addons.tiered_cache.services.remote.client'
INSTALL_S = 300

_MAKE_KEY = """
user = env['res.users'].browse(2)
user.write({'password': 'tc_other_password'})
print('KEY=' + env['res.users.apikeys'].with_user(user)._generate(None, 'tiered_cache', None))
env.cr.commit()
"""


def launcher() -> str:
    return os.environ.get('TIERED_CACHE_ODOO') or str(
        Path(__file__).resolve().parents[1] / 'scripts' / 'odoo'
    )


class OtherOdoo:
    """A database of its own and, while it runs, a server.

    :param modules: to install
    :ivar key: of its administrator
    """

    def __init__(self, modules: str):
        self.database = f'{get_db_name()}_{modules.replace(",", "_")}_other'
        self.key = ''
        self._modules = modules

    def __enter__(self):
        self._sql('postgres', f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
        self._run('-i', self._modules, '--stop-after-init')
        shell = self._run('shell', input_=_MAKE_KEY)
        self.key = shell.partition('KEY=')[2].split()[0]
        return self

    def __exit__(self, *exc_info):
        self._sql('postgres', f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')

    def server(self) -> test_workers.Server:
        return _Server(self.database)

    def sql(self, statement: str, params=None):
        return self._sql(self.database, statement, params)

    @staticmethod
    def _sql(database, statement, params=None):
        options = connection_info_for(database)[1]
        with contextlib.closing(psycopg2.connect(**options)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, params)
                return cursor.fetchall() if cursor.description else None

    def _run(self, *arguments, input_=None) -> str:
        command = [launcher()]
        if arguments[0] == 'shell':
            command, arguments = [launcher(), 'shell'], arguments[1:]
        command += ['-d', self.database, f"--data-dir={config['data_dir']}", '--log-level=warn']
        with tempfile.TemporaryFile('w+') as log:
            done = subprocess.run(
                [*command, '--no-http', '--max-cron-threads=0', *arguments],
                input=input_,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                timeout=INSTALL_S,
                check=False,
            )
            log.seek(0)
            if done.returncode:
                raise RuntimeError(log.read()[-2000:])
        return done.stdout


class _Server(test_workers.Server):
    """On another database than that of the tests."""

    def __init__(self, database):
        super().__init__(workers=0, redis_url='')
        self._database = database

    def __enter__(self):
        with patch.object(test_workers, 'get_db_name', lambda: self._database):
            return super().__enter__()


class OtherCase(CacheCase):
    modules = 'base,rpc'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = cls.enterClassContext(OtherOdoo(cls.modules))
        cls.server = cls.enterClassContext(cls.other.server())

    def setUp(self):
        super().setUp()
        values = {
            'name': NAME,
            'url': f'http://127.0.0.1:{self.server.port}',
            'database': self.other.database,
            'login': 'admin',
            'api_key': self.other.key,
            'allowed_hosts': '127.0.0.1',
            'interval_s': 5,
        }
        self.remote_id = self.commit(lambda env: env['cache.remote'].create(values).id)
        self.addCleanup(self.sql, "DELETE FROM cache_remote WHERE id = %s", [self.remote_id])
        self.addCleanup(self.engine.follower.clients.close)
        self.engine.follower._wanted.clear()
        self.patch(self.engine.follower, 'tick', lambda: None)
        self.settle()
        self.other.sql("DELETE FROM res_bank WHERE name LIKE 'tc%'")

    def ask(self, work):
        with self.request() as env:
            answer = work(env['cache.remote']._get(NAME))
        self.settle()
        return answer

    def banks(self):
        rows = self.ask(
            lambda remote: remote.search_read('res.bank', [('name', '=like', 'tc%')], ['name'])
        )
        return [row['name'] for row in rows]

    def poll(self):
        self.settle()
        self.sql("UPDATE cache_remote_follow SET polled_at = NULL")
        self.engine.follower.poll(self.engine.follower.claim())
        self.settle()
        return self.sql("SELECT error FROM cache_remote_follow WHERE error <> ''")

    def speak(self, protocol):
        self.commit(
            lambda env: env['cache.remote'].browse(self.remote_id).write({'protocol': protocol})
        )


@tagged('post_install', '-at_install')
class TestRemoteOdoo(OtherCase):
    """Without this addon over there."""

    def test_every_protocol_reads_writes_and_says_what_is_wrong(self):
        for protocol in ('json2', 'jsonrpc', 'xmlrpc'):
            with self.subTest(protocol=protocol):
                self.speak(protocol)
                ids = self.ask(lambda remote: remote.call('res.bank', 'create', [{'name': 'tc'}]))
                (row,) = self.ask(
                    lambda remote, i=ids: remote.read_batch('res.bank', i, ['name', 'active'])
                )
                self.assertEqual(row, {'id': ids[0], 'name': 'tc', 'active': True})
                self.assertEqual(self.banks(), ['tc'])
                self.ask(lambda remote, i=ids: remote.call('res.bank', 'write', i, {'name': 'tc2'}))
                self.assertEqual(self.banks(), ['tc2'])
                for work, expected in (
                    (lambda r: r.search_read('res.nothing'), errors.RemoteValidationError),
                    (lambda r: r.search_read('res.bank', [], ['x']), errors.RemoteValidationError),
                    (
                        lambda r: r.call('res.bank', 'copy', [999_999]),
                        errors.RemoteMissingError,
                    ),
                ):
                    with self.assertRaises(expected) as caught:
                        self.ask(work)
                    self.assertNotIn('Traceback', str(caught.exception))
                self.assertEqual(
                    self.ask(lambda remote: remote.read_batch('res.bank', [999_999], ['name'])), []
                )
                self.ask(lambda remote, i=ids: remote.call('res.bank', 'unlink', i))
                self.assertEqual(self.banks(), [])

    def test_a_wrong_key_is_an_authentication_error(self):
        self.commit(
            lambda env: env['cache.remote'].browse(self.remote_id).write({'api_key': 'wrong'})
        )
        for protocol in ('json2', 'jsonrpc', 'xmlrpc'):
            self.speak(protocol)
            with self.assertRaises(errors.RemoteAuthenticationError):
                self.banks()

    def test_test_connection_finds_protocol_and_version(self):
        def test(env):
            remote = env['cache.remote'].browse(self.remote_id)
            remote.action_test()
            return remote.state, remote.version[:2], remote.protocol, remote.problem

        self.assertEqual(self.commit(test), ('good', '19', 'json2', False))

    def test_a_warm_read_is_a_hundred_times_faster_than_the_call(self):
        def read(ttl_s=None):
            started = time.perf_counter()
            remote.search_read('ir.model.fields', [], ['name', 'model', 'ttype'], limit=80,
                               ttl_s=ttl_s)  # fmt: skip
            return time.perf_counter() - started

        with self.request() as env:
            remote = env['cache.remote']._get(NAME)
            read(), read()
            network = sorted(read(ttl_s=0) for _turn in range(10))[5]
            warm = sorted(read() for _turn in range(200))[100]
        print(f"remote: network {network * 1000:.2f} ms, warm {warm * 1e6:.0f} µs")  # pylint: disable=print-used
        self.assertGreater(network / warm, 20)

    def test_killed_and_back_no_read_fails(self):
        self.ask(lambda remote: remote.call('res.bank', 'create', [{'name': 'tc'}]))
        self.addCleanup(self.other.sql, "DELETE FROM res_bank WHERE name LIKE 'tc%'")
        self.assertEqual(self.banks(), ['tc'])
        real = time.time
        # what is kept is too old
        self.enterContext(patch.object(outside.time, 'time', lambda: real() + 400))
        self.server._process.suspend()
        self.addCleanup(self.server._process.resume)
        self.commit(
            lambda env: env['cache.remote'].browse(self.remote_id).write({'timeout_s': 0.5})
        )
        with mute_logger(CLIENT):
            for _turn in range(20):
                self.engine.pauses._until.clear()
                self.assertEqual(self.banks(), ['tc'])
        self.server._process.resume()

    def test_dates_are_polled(self):
        self.commit(
            lambda env: env['cache.remote'].browse(self.remote_id).write({'follow': 'write_date'})
        )
        (bank,) = self.ask(lambda remote: remote.call('res.bank', 'create', [{'name': 'tc'}]))
        self.addCleanup(self.other.sql, "DELETE FROM res_bank WHERE name LIKE 'tc%'")
        self.banks()
        for _turn in range(3):
            self.assertEqual(self.poll(), [])
        self.assertEqual(self.banks(), ['tc'])
        self.other.sql(
            "UPDATE res_bank SET name = 'tc new', write_date = now() AT TIME ZONE 'UTC'"
            " + interval '2 s' WHERE id = %s",  # polls are seconds apart, but for those of tests
            [bank],
        )
        self.assertEqual(self.banks(), ['tc'], "nobody has asked yet")
        self.poll()
        self.assertEqual(self.banks(), ['tc new'])


@tagged('post_install', '-at_install')
class TestRemoteWithAddon(OtherCase):
    """With this addon over there; what it offers is followed where it is there."""

    modules = 'tiered_cache'

    def test_changes_are_followed_as_far_as_the_other_one_tells(self):
        (bank,) = self.ask(lambda remote: remote.call('res.bank', 'create', [{'name': 'tc'}]))
        self.addCleanup(self.other.sql, "DELETE FROM res_bank WHERE name LIKE 'tc%'")
        self.assertEqual(self.banks(), ['tc'])
        problems = self.poll()
        self.assertEqual(problems, [])
        self.banks()
        self.poll()
        self.other.sql("UPDATE res_bank SET name = 'tc new' WHERE id = %s", [bank])
        self.assertEqual(self.poll(), [])
        self.assertEqual(self.banks(), ['tc new'])
