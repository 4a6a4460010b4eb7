"""The model-based test: workers, a Redis, and a script of operations that they carry out.

The one idea: an operation is a plain list, ``["read", worker, slot, seat, page, …]``, so a failure
is a list of lists that can be replayed.  The machine sends each to its worker, counts, and raises
:class:`Wrong` when a worker has seen an answer of the cache that is not what the database says.

What may go wrong: a worker hangs.  It is killed after a time and that counts as a failure.
"""

import collections
import contextlib
import importlib.util
import json
import os
import signal
import socket
import tempfile
import time
from pathlib import Path

from bench.children import ChildProcess
from bench.common import ROOT, ServerFailed

from .model_reads import OF_MANY_TABLES, PAGES

START_TIMEOUT_S = 60
STEP_TIMEOUT_S = 180

ENVIRONMENT = {
    'TIERED_CACHE_ENABLED': '1',
    'TIERED_CACHE_CONSISTENCY': 'strong',
    'TIERED_CACHE_CAPTURE': 'triggers',
    'TIERED_CACHE_L1_MIN_COST_MS': '0',
    'TIERED_CACHE_L2_MIN_COST_MS': '0',
    'TIERED_CACHE_L3_MIN_COST_MS': '0',
    'TIERED_CACHE_L3_ENABLED': '1',
    'TIERED_CACHE_AUDIT_RATE': '0',
    'TIERED_CACHE_GUARD_LOCK_TIMEOUT_MS': '100',
    'TIERED_CACHE_METRICS_FLUSH_S': '3600',
    # an answer must not wait for a busy neighbour of the test: then nothing would be checked
    'TIERED_CACHE_REDIS_TIMEOUT_MS': '1000',
}


def _redis_server():
    """``tests/redis_server.py`` without the tests, which need Odoo in this process."""
    path = ROOT / 'tests' / 'redis_server.py'
    spec = importlib.util.spec_from_file_location('tiered_cache_redis_server', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Wrong(AssertionError):
    """A difference, a worker that ended, or one that hung.

    :param list script: the operations since the last reset
    """

    def __init__(self, what, script):
        self.what = what
        self.script = script
        super().__init__(f"{_readable(what)}\nScript, one operation a line:\n{lines(script)}")


def _readable(what):
    if isinstance(what, str):
        return what
    return '\n'.join(f'  {name}: {value}' for found in what for name, value in found.items())


def lines(script) -> str:
    """A script as text, one operation a line; :func:`load` reads it."""
    return ''.join(json.dumps(operation) + '\n' for operation in script)


def load(path) -> list:
    """Read a script."""
    text = Path(path).read_text()
    return [json.loads(line) for line in text.splitlines() if line.startswith('[')]


class RemoteWorker:
    """One worker process, forked by a nursery.

    :param nursery: a ChildProcess that answers as ``model_worker.Nursery``
    """

    def __init__(self, nursery, background):
        self.nursery = nursery
        self.background = background
        self.folder = tempfile.TemporaryDirectory(prefix='tiered-cache-')
        self.pid = None
        self.socket = self.stream = None

    def start(self):
        path = os.path.join(self.folder.name, 'socket')
        Path(path).unlink(missing_ok=True)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(START_TIMEOUT_S)
            self.pid = self.nursery.ask('fork', path, self.background)
            self.socket, _address = listener.accept()
        self.socket.settimeout(STEP_TIMEOUT_S)
        self.stream = self.socket.makefile('rw')

    def kill(self):
        """End it as the kernel does when memory is short."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.stream.close()
            self.socket.close()
        self.pid = None

    def send(self, operation, *arguments):
        self.stream.write(json.dumps([operation, *arguments]) + '\n')
        self.stream.flush()

    def receive(self):
        try:
            line = self.stream.readline()
        except TimeoutError:
            raise ServerFailed(
                f"a worker did not answer within {STEP_TIMEOUT_S} s:\n{self.nursery.log()}"
            ) from None
        if not line:
            raise ServerFailed(f"a worker ended:\n{self.nursery.log()}")
        answer = json.loads(line)
        if 'error' in answer:
            raise ServerFailed(answer['error'])
        return answer['ok']

    def ask(self, operation, *arguments):
        self.send(operation, *arguments)
        return self.receive()


class Machine(contextlib.ExitStack):
    """A context manager.

    :param str database: with the addon installed
    :param int workers: how many worker processes
    :param bool background: whether workers do background work by themselves.  Without it a
        script does the same each time.
    """

    def __init__(self, database, workers=2, background=False):
        super().__init__()
        self.database = database
        self.count = workers
        self.background = background
        self.script = []
        self.steps = 0
        self.counts = collections.Counter()
        self.seen = collections.defaultdict(set)
        self.workers = []
        self.redis = None
        self.kept = {}
        self.relations = []
        self.failed = False

    def __enter__(self):
        super().__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self):
        self.redis = self.enter_context(_redis_server().RedisServer())
        environment = {**ENVIRONMENT, 'TIERED_CACHE_REDIS_URL': self.redis.url}
        # two servers: what depends on the order of a set differs between them
        children = [
            ChildProcess(
                self.database,
                {**environment, 'PYTHONHASHSEED': str(number)},
                'proof.programs.model_worker',
            )
            for number in range(self.count)
        ]
        for nursery in children:
            self.enter_context(nursery)
            worker = RemoteWorker(nursery, self.background)
            self.callback(worker.kill)
            self.workers.append(worker)
            worker.start()
        self.workers[0].ask('prepare')
        self._guard_everything()

    def _guard_everything(self):
        """Read all there is until all of it is guarded: a test of the cache, not of waiting."""
        worker, answers = self.workers[0], [{'counts': {'miss unguarded': 1}}]
        while any('miss unguarded' in answer['counts'] for answer in answers):
            worker.ask('step', 'settle')
            answers = [
                worker.ask('step', 'read', 0, seat, page, 'new')
                for page in PAGES
                for seat in OF_MANY_TABLES
            ]
        self.relations = worker.ask('guarded')
        self.reset()

    def reset(self):
        """Everything as at the beginning."""
        self.script = []
        self.kept = {}
        for worker in self.workers:
            if self.failed:  # it may have ended, or still be at it
                worker.kill()
                worker.start()
            worker.ask('idle')
        self.failed = False
        self.workers[0].ask('reset', self.relations)
        for worker in self.workers:
            worker.ask('forget')
        self._flush_redis()

    def remove(self):
        """Delete the records."""
        for worker in self.workers:
            worker.ask('idle')
        self.workers[0].ask('remove')

    def stats(self):
        return [worker.ask('stats') for worker in self.workers]

    # -- operations --------------------------------------------------------------------

    def apply(self, operation):
        """Carry out one operation.

        :raise Wrong: a difference, or a worker that failed
        """
        self.script.append(operation)
        self.steps += 1
        try:
            self._carry_out(*operation)
        except (ServerFailed, OSError) as error:
            self.failed = True
            raise Wrong(str(error), self.script) from error

    def _carry_out(self, name, *arguments):
        own = getattr(self, f'_{name}', None)
        if own is not None:
            own(*arguments)
        else:
            worker, *arguments = arguments
            self._count(self.workers[worker].ask('step', name, *arguments))

    def run(self, script):
        """Carry out a script from the beginning."""
        self.reset()
        for operation in script:
            self.apply(operation)

    def _count(self, answer):
        self.counts.update(answer['counts'])
        for name, digest in answer['seen']:
            if len(self.seen[name]) < 2:
                self.seen[name].add(digest)
        if answer['differences']:
            raise Wrong(answer['differences'], self.script)

    def _in_turn(self, *operations):
        """Operations that show something only one right after the other."""
        self.steps += len(operations) - 1
        for operation in operations:
            self._carry_out(*operation)

    def _together(self, *operations):
        """Operations of different workers, at the same time."""
        self.steps += len(operations) - 1
        for name, worker, *arguments in operations:
            self.workers[worker].send('step', name, *arguments)
        answers = [self.workers[worker].receive() for _name, worker, *_arguments in operations]
        for answer in answers:
            self._count(answer)

    def _restart(self, worker):
        """kill -9, and another process in its place."""
        worker = self.workers[worker]
        gone = worker.pid
        worker.kill()
        worker.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while worker.ask('backends', gone):  # its locks go with its connections
            if time.monotonic() > deadline:
                raise ServerFailed("PostgreSQL keeps the connections of a killed worker")
            time.sleep(0.01)

    def _crash_commit(self, worker, slot):
        """Commit and die, before Odoo has told other workers to drop ``tools.ormcache``."""
        self._count(self.workers[worker].ask('step', 'commit_untold', slot))
        self._restart(worker)

    def _flush_redis(self):
        with self._redis_client() as client:
            client.flushall()

    def _dump_redis(self):
        """Remember what Redis holds; :meth:`_restore_redis` brings it back, long outdated."""
        with self._redis_client() as client:
            self.kept = {key: client.dump(key) for key in client.scan_iter(count=1000)}

    def _restore_redis(self):
        with self._redis_client() as client:
            for key, value in self.kept.items():
                if value is not None:
                    client.restore(key, 60_000, value, replace=True)

    @contextlib.contextmanager
    def _redis_client(self):
        import redis

        with contextlib.closing(redis.Redis(port=self.redis.port, protocol=2)) as client:
            yield client

    # -- figures -----------------------------------------------------------------------

    @property
    def hits(self):
        """Checked answers of the cache."""
        return sum(self.counts[f'hit {tier}'] for tier in ('l1', 'l2', 'l3'))

    @property
    def reads(self):
        """Checked answers."""
        return sum(
            count
            for kind, count in self.counts.items()
            if kind == 'no answer' or kind.startswith(('hit ', 'miss '))
        )

    @property
    def constant(self) -> list[str]:
        """Reads that gave one and the same answer each time: their hits show nothing."""
        return sorted(name for name, digests in self.seen.items() if len(digests) < 2)

    def figures(self) -> str:
        """What was done, in one line."""
        kinds = ', '.join(f'{kind} {count:,}' for kind, count in sorted(self.counts.items()))
        return f'{self.steps:,} steps, {self.hits:,} of {self.reads:,} reads were hits; {kinds}'
