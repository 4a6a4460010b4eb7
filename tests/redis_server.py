"""A real redis-server for tests: on a free loopback port, in a temporary folder, nothing kept.

The one idea: tests of faults need a server they may freeze, kill and fill, so each starts its
own.  Every wait is for an event: the log line that says it is ready, the process that has
stopped or ended.

    with RedisServer() as server:
        tier = RedisTier(server.url, …)
        with server.frozen():
            …

What may go wrong: redis-server is not installed (:data:`REDIS_SERVER` is None; tests then
skip), or another process takes the port first (another port is tried).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

REDIS_SERVER = shutil.which('redis-server') or shutil.which('valkey-server')

_READY = 'eady to accept connections'  # "Ready …" in Redis 7, "The server is now ready …" before


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listened on a moment ago."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class RedisServer:
    """A context manager; ``stop`` and ``start`` again keep port and folder.

    :param options: further options of redis-server, e.g. ``requirepass='secret'``,
        ``maxmemory='2mb'``; underscores become dashes
    """

    def __init__(self, **options):
        self._options = options
        self._process: subprocess.Popen | None = None
        self._reader: threading.Thread | None = None
        self.folder = ''
        self.port = free_port()

    @property
    def url(self) -> str:
        return f'redis://127.0.0.1:{self.port}/0'

    @property
    def socket_url(self) -> str:
        return f'unix://{self.folder}/redis.sock'

    def __enter__(self) -> RedisServer:
        self.folder = tempfile.mkdtemp(prefix='tc-redis-')
        try:
            for attempt in range(5):
                with contextlib.suppress(ChildProcessError):
                    self.start()
                    return self
                if attempt < 4:
                    self.port = free_port()
            raise ChildProcessError("redis-server does not start")
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def __exit__(self, *exc_info) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait until it is ready; raises ChildProcessError if it ends instead."""
        options = {
            'port': self.port,
            'bind': '127.0.0.1',
            'save': '',
            'appendonly': 'no',
            'dir': self.folder,
            'unixsocket': f'{self.folder}/redis.sock',
            'logfile': '',
            **self._options,
        }
        arguments = [
            part
            for name, value in options.items()
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        self._process = subprocess.Popen(
            [REDIS_SERVER, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in self._process.stdout:
            if _READY in line:
                # Somebody has to read on, or the server would block on a full pipe.
                self._reader = threading.Thread(target=self._process.stdout.read, daemon=True)
                self._reader.start()
                return
        self.stop()
        raise ChildProcessError("redis-server has ended")

    def stop(self) -> None:
        """End it, frozen or not, and wait for that."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if self._reader is not None:
                self._reader.join()
                self._reader = None
            process.stdout.close()

    def ensure_running(self) -> None:
        if self._process is None:
            self.start()

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextlib.contextmanager
    def frozen(self):
        """Not scheduled (SIGSTOP): the kernel still accepts connections, nobody answers."""
        process = self._process
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        try:
            yield
        finally:
            if self._process is process:
                process.send_signal(signal.SIGCONT)

    def call(self, *command):
        """Run a command as an administrator, past the code under test; returns its reply."""
        import redis  # noqa: PLC0415 - optional, and only where a server runs

        with contextlib.closing(
            redis.Redis(
                host='127.0.0.1',
                port=self.port,
                protocol=2,
                socket_timeout=10,
                retry=None,
                password=self._options.get('requirepass'),
            )
        ) as client:
            return client.execute_command(*command)
