"""Real Redis servers for tests: on free loopback ports, in temporary folders, nothing kept.

The one idea: tests of faults need a server they may freeze, kill and fill, so each starts its
own.  Every wait is for an event: the log line that says it is ready, the process that has
stopped or ended.

    with RedisServer() as server:
        tier = RedisTier(server.url, …)
        with server.frozen():
            …

:class:`SentinelServers` is a primary with a replica and three Sentinels, :class:`ClusterServers`
three primaries of a cluster.

What may go wrong: redis-server is not installed (:data:`REDIS_SERVER` is None; tests then
skip), or another process takes the port first (another port is tried).
"""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

REDIS_SERVER = (
    os.environ.get('TIERED_CACHE_TEST_REDIS_SERVER')
    or shutil.which('redis-server')
    or shutil.which('valkey-server')
)
"""The variable runs these tests with another one that is installed beside it, such as Valkey."""

_READY = 'eady to accept connections'  # "Ready …" in Redis 7, "The server is now ready …" before
_READY_SENTINEL = '# +monitor '


def wait_until(condition, what: str, timeout_s: float = 30.0):
    """Ask again and again, for what no event tells of; returns what ``condition()`` returned.

    :raise TimeoutError: it never was true; an error of a server counts as not true yet
    """
    from redis import RedisError  # noqa: PLC0415

    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with contextlib.suppress(RedisError):
            if found := condition():
                return found
        time.sleep(0.02)
    raise TimeoutError(f"not within {timeout_s:g} s: {what}")


def _silence(redis) -> dict:
    """Arguments that keep a connection from introducing itself: tests count what the tier sends."""
    known = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    names = ['driver_info'] if 'driver_info' in known else ['lib_name', 'lib_version']
    return {name: None for name in names if name in known}


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

    mode = ()
    """Further arguments of redis-server, before the options."""

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
            [REDIS_SERVER, *self.mode, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in self._process.stdout:
            if _READY in line or _READY_SENTINEL in line:
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
                **_silence(redis),
            )
        ) as client:
            return client.execute_command(*command)


class Sentinel(RedisServer):
    """A Sentinel; watches ``primary`` under the name 'mymaster' as soon as it runs.

    :param lines: of its configuration, after those that every one has
    """

    def __init__(self, primary: RedisServer, quorum: int, *lines: str, **options):
        super().__init__(**options)
        self._lines = (
            f'sentinel monitor mymaster 127.0.0.1 {primary.port} {quorum}',
            'sentinel down-after-milliseconds mymaster 400',
            'sentinel failover-timeout mymaster 1500',
            *lines,
        )

    def start(self) -> None:
        path = f'{self.folder}/sentinel.conf'  # Sentinel writes into it what it learns
        if not os.path.exists(path):
            with open(path, 'w', encoding='utf-8') as file:
                file.write('\n'.join(self._lines))
        self.mode = (path, '--sentinel')
        return super().start()


class SentinelServers:
    """A primary with a replica, and three Sentinels of which two must agree; a context manager.

    :ivar servers: the primary and the replica, as they were in the beginning
    """

    def __enter__(self) -> SentinelServers:
        with contextlib.ExitStack() as stack:
            primary = stack.enter_context(RedisServer())
            replica = stack.enter_context(
                # as soon as the primary asks, not when its timer fires
                RedisServer(replicaof=f'127.0.0.1 {primary.port}', repl_diskless_sync_delay=0)
            )
            primary.call('CONFIG', 'SET', 'repl-diskless-sync-delay', 0)
            self.servers = [primary, replica]
            self.sentinels = [stack.enter_context(Sentinel(primary, 2)) for _ in range(3)]
            for sentinel in self.sentinels:
                # They look every 10 s for what is new, unless told otherwise.
                sentinel.call('SENTINEL', 'DEBUG', 'INFO-PERIOD', 300, 'PUBLISH-PERIOD', 200)
            for sentinel in self.sentinels:
                wait_until(lambda sentinel=sentinel: self.is_ready(sentinel), "Sentinels agree")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info) -> None:
        self._stack.close()

    def is_ready(self, sentinel: Sentinel) -> bool:
        fields = sentinel.call('SENTINEL', 'MASTER', 'mymaster')
        known = dict(zip(fields[::2], fields[1::2], strict=True))
        if (known[b'num-slaves'], known[b'num-other-sentinels']) != (b'1', b'2'):
            return False
        replicas = sentinel.call('SENTINEL', 'REPLICAS', 'mymaster')
        return any(b'ok' in replica for replica in replicas) and sentinel.call(
            'SENTINEL', 'CKQUORUM', 'mymaster'
        ).startswith(b'OK')

    @property
    def url(self) -> str:
        hosts = ','.join(f'127.0.0.1:{sentinel.port}' for sentinel in self.sentinels)
        return f'redis+sentinel://{hosts}/mymaster/0'

    def primary(self) -> RedisServer:
        """Who is it, as the first Sentinel that runs says."""
        _host, port = self.sentinels[0].call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mymaster')
        return next(server for server in self.servers if server.port == int(port))


class ClusterServers:
    """Three primaries without replicas, a third of the slots each; a context manager.

    A lost node leaves the others working (``cluster-require-full-coverage no``).

    :ivar servers: the primaries, lowest slots first
    """

    FIRST_SLOTS = (0, 5461, 10923, 16384)

    def __enter__(self) -> ClusterServers:
        with contextlib.ExitStack() as stack:
            self.servers = [
                stack.enter_context(
                    RedisServer(
                        cluster_enabled='yes',
                        cluster_port=free_port(),
                        cluster_node_timeout=1000,
                        cluster_require_full_coverage='no',
                    )
                )
                for _ in range(3)
            ]
            for number, server in enumerate(self.servers):
                first, last = self.FIRST_SLOTS[number], self.FIRST_SLOTS[number + 1] - 1
                server.call('CLUSTER', 'ADDSLOTSRANGE', first, last)
                server.call('CLUSTER', 'SET-CONFIG-EPOCH', number + 1)
                for other in self.servers[:number]:
                    server.call(
                        'CLUSTER', 'MEET', '127.0.0.1', other.port, other._options['cluster_port']
                    )
            wait_until(self.agree, "all nodes know all slots")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info) -> None:
        self._stack.close()

    def agree(self) -> bool:
        """Whether all nodes name the same owners of all slots, believe them alive, and work,
        which they do 2 s after their start at the earliest."""
        return len({str(self.owners(server)) for server in self.servers}) == 1 and all(
            {'cluster_state:ok', 'cluster_slots_ok:16384'}
            <= set(server.call('CLUSTER', 'INFO').decode().split())
            for server in self.servers
        )

    def owners(self, server: RedisServer) -> list:
        return sorted(
            (first, last, primary[1])
            for first, last, primary, *_ in server.call('CLUSTER', 'SLOTS')
        )

    @property
    def url(self) -> str:
        return 'redis+cluster://' + ','.join(f'127.0.0.1:{s.port}' for s in self.servers)

    def node_id(self, server: RedisServer) -> str:
        return server.call('CLUSTER', 'MYID').decode()

    def begin_to_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Both nodes know that a slot is under way; no key is moved yet."""

        def begin():
            # after a move just now, what a node tells late may give the slot back
            self.end_move(slot, target, source)
            target.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', self.node_id(source))
            source.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', self.node_id(target))
            return True

        wait_until(begin, "a slot is under way")

    def move_keys(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        for name in source.call('CLUSTER', 'GETKEYSINSLOT', slot, 1000):
            source.call('MIGRATE', '127.0.0.1', target.port, name, 0, 5000)

    def end_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        for server in (target, source):
            server.call('CLUSTER', 'SETSLOT', slot, 'NODE', self.node_id(target))

    def call(self, *command) -> list:
        """The command on each node; replies in their order."""
        return [server.call(*command) for server in self.servers]
