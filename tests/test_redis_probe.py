"""Test Connection: what works says what it found, what does not says what to do."""

import contextlib
import socket
import threading
import unittest
import unittest.mock

from odoo.tests import BaseCase, tagged

from ..services import redis_probe
from .redis_server import REDIS_SERVER, RedisServer, free_port


@tagged('post_install', '-at_install')
class TestRedisProbe(BaseCase):
    def assertAdvice(self, url, advice):
        with self.assertRaisesRegex(redis_probe.ProbeError, advice) as caught:
            redis_probe.probe(url)
        self.assertNotIn('hunter2', str(caught.exception))

    @contextlib.contextmanager
    def listener(self, answer):
        """A server that is no Redis: sends ``answer`` to whoever connects, None for nothing."""
        with socket.create_server(('127.0.0.1', 0)) as server:
            held = []

            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _address = server.accept()
                        held.append(connection)
                        if answer is not None:
                            connection.sendall(answer)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield server.getsockname()[1]
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_a_server_that_answers(self):
        with RedisServer(requirepass='hunter2', maxmemory='5mb') as server:
            url = server.url.replace('://', '://:hunter2@')
            found = redis_probe.probe(url)
            self.assertIn(found['server'], ('Redis', 'Valkey'))
            self.assertRegex(found['version'], r'^\d+\.\d+')
            self.assertGreater(found['round_trip_ms'], 0)
            self.assertEqual(found['max_memory_bytes'], 5 * 2**20)
            self.assertAdvice(server.url, "user name or password")
            self.assertAdvice(url.replace('hunter2', 'hunter23'), "user name or password")
            self.assertAdvice(url.replace('/0', '/99'), "database number")

    @unittest.skipUnless(REDIS_SERVER, "redis-server is not installed")
    def test_a_socket_of_the_file_system(self):
        with RedisServer() as server:
            self.assertIn('version', redis_probe.probe(server.socket_url))
            self.assertAdvice(f'{server.socket_url}.nonsense', "socket does not exist")

    def test_nobody_listens(self):
        self.assertAdvice(f'redis://:hunter2@127.0.0.1:{free_port()}', "Nothing listens")

    def test_a_host_that_does_not_exist(self):
        self.assertAdvice('redis://:hunter2@host.invalid', "host name is not known")

    def test_a_server_that_never_answers(self):
        self.startPatcher(unittest.mock.patch.object(redis_probe, 'TIMEOUT_S', 0.2))
        with self.listener(None) as port:
            self.assertAdvice(f'redis://:hunter2@127.0.0.1:{port}', "No answer within 0.2 seconds")

    def test_a_server_that_is_something_else(self):
        with self.listener(b'HTTP/1.1 400 Bad Request\r\n\r\n') as port:
            self.assertAdvice(f'redis://127.0.0.1:{port}', "not Redis")

    def test_a_url_that_cannot_work(self):
        self.assertAdvice('redis://:hunter2@host:port', "port between")
        self.assertAdvice('', "no Redis URL")
        self.assertAdvice('rediss://host?ssl_cert_reqs=hunter2', "none, optional, required")
