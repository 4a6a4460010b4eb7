"""Run the addon's tests over a copy of the checkout in which something was changed.

The one idea: nothing is changed where people work.  Each run has a copy of the checkout, a clone of
one database in which the addon was installed once, and a process group of its own.

What may go wrong: a change that keeps the addon from loading would make every test fail and prove
nothing.  So a failure counts only if a test ran and its assertion, or the code under test, raised;
what Python or PostgreSQL cannot read at all is told apart (:data:`BROKEN`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import typing
from pathlib import Path

import psutil
import psycopg2

from scripts.read_log import read_run

REPO = Path(__file__).resolve().parents[2]

BROKEN = re.compile(
    r"^\s*(?:[\w.]+\.)?(?:SyntaxError|IndentationError|ImportError|ModuleNotFoundError|NameError"
    r"|UnboundLocalError)\b|assertTrue\(self\.engine\.available\)",
    re.MULTILINE,
)
"""In the traceback of a failed test: the changed code could not run at all."""

INSTALL_LIMIT_S = 600
GRACE_S = 10


class Outcome(typing.NamedTuple):
    """What a run of tests showed.

    :param failed: names of the tests that failed, in the order of the log
    :param broken: tests that failed because the changed code cannot run
    :param passed: how many passed
    :param ended: False if Odoo did not get to the end of the tests
    :param timed_out: True if the time limit ended it
    :param seconds: how long it took
    :param log: the log file
    """

    failed: list[str]
    broken: list[str]
    passed: int
    ended: bool
    timed_out: bool
    seconds: float
    log: Path


class DoesNotApply(Exception):
    """The text that was to be replaced does not occur exactly once."""


def replace_once(text: str, old: str, new: str, where: str) -> str:
    """:raise DoesNotApply: with a sentence"""
    if (count := text.count(old)) != 1:
        raise DoesNotApply(f"{where}: the text occurs {count} times, not once: {old!r}")
    return text.replace(old, new)


class Workshop:
    """Copies and databases for runs; a context manager, which removes them.

    :param limit_s: longest time of one run
    """

    def __init__(self, limit_s: float):
        self._limit_s = limit_s
        self._name = f'tiered_cache_mutants_{os.getpid()}'
        self._template = f'{self._name}_template'
        self._lock = threading.Lock()
        self._running: set = set()
        self._stopped = False

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix='tiered_cache_mutants_'))
        self._launcher = self._find_launcher()
        return self

    def __exit__(self, *exc_info):
        self._stopped = True
        for process in list(self._running):
            _end(process)
        for name in self._databases():
            self._sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        shutil.rmtree(self.folder, ignore_errors=True)

    def prepare(self) -> None:
        """Install the addon as it is into the database that all others are cloned from.

        :raise RuntimeError: it could not be installed
        """
        folder = self._copy('install', ())
        log = folder / 'odoo.log'
        arguments = ['-i', 'tiered_cache']
        code, _seconds = self._odoo(folder, log, INSTALL_LIMIT_S, self._template, *arguments)
        if code:
            raise RuntimeError(f"the addon could not be installed:\n{_tail(log)}")

    def run(self, name: str, edits, tests: str, upgrade: bool = False) -> Outcome:
        """Run tests over a changed copy.

        :param edits: (file, old text, new text) in any number
        :param tests: Odoo's --test-tags
        :param upgrade: upgrade the addon first, for what lives in the database
        :raise DoesNotApply: before anything is run
        """
        folder = self._copy(name, edits)
        database = f'{self._name}_{folder.name}'[:63]
        with self._lock:  # two clones at once would disturb each other
            self._sql(f'CREATE DATABASE "{database}" TEMPLATE "{self._template}"')
        try:
            log = folder / 'odoo.log'
            update = ['-u', 'tiered_cache'] if upgrade else []
            arguments = [*update, '--test-tags', tests]
            code, seconds = self._odoo(folder, log, self._limit_s, database, *arguments)
        finally:
            self._sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        return _outcome(log, code, seconds)

    def forget(self, name: str) -> None:
        """Remove what a run has left."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    # -- parts -------------------------------------------------------------------------

    def _copy(self, name: str, edits) -> Path:
        folder = self.folder / name
        addon = folder / 'addons' / 'tiered_cache'
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(REPO, addon, ignore=shutil.ignore_patterns('.git', '__pycache__'))
        for file, old, new in edits:
            path = addon / file
            path.write_text(replace_once(path.read_text(), old, new, file))
        launcher = folder / 'odoo'  # for the tests that start a server
        launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{self._launcher}" "$@"\n')
        launcher.chmod(0o755)
        return folder

    @staticmethod
    def _find_launcher() -> str:
        command = ['bash', '-c', 'source "$0" && odoo_launcher', REPO / 'scripts' / 'lib.sh']
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _odoo(self, folder: Path, log: Path, limit_s: float, database: str, *arguments: str):
        """:return: exit code, None after the time limit; seconds"""
        started = time.monotonic()
        with log.open('wb') as output:
            process = subprocess.Popen(
                [
                    folder / 'odoo',
                    '-d',
                    database,
                    '--http-interface=127.0.0.1',
                    f'--http-port={_free_port()}',
                    '--max-cron-threads=0',
                    '--stop-after-init',
                    f'--data-dir={folder / "data"}',
                    *arguments,
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={
                    **os.environ,
                    'ODOO_ADDONS_PATH': str(folder / 'addons'),
                    'TIERED_CACHE_ODOO': str(folder / 'odoo'),
                    'PYTHONDONTWRITEBYTECODE': '1',
                },
            )
            self._running.add(process)
            try:
                code = process.wait(timeout=limit_s)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
                self._running.discard(process)
        return code, time.monotonic() - started

    def _databases(self) -> list[str]:
        rows = self._sql(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [self._name]
        )
        return [name for (name,) in rows]

    @staticmethod
    def _sql(statement: str, params=None) -> list:
        connection = psycopg2.connect(dbname='postgres')
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else []


def _outcome(log: Path, code: int | None, seconds: float) -> Outcome:
    run = read_run(log, [])
    broken = [name for name, record in run.failed.items() if BROKEN.search('\n'.join(record.lines))]
    failed = [name for name in run.failed if name not in broken]
    return Outcome(
        [name.rpartition('tests.')[2] for name in failed],
        broken,
        len(run.passed),
        run.ended,
        code is None,
        seconds,
        log,
    )


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it has started, tests' servers included: SIGTERM lets tests
    clean up."""
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_S)
        for child in family:
            with contextlib.suppress(psutil.Error):
                child.kill()
    if process.poll() is None:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def _tail(log: Path) -> str:
    return '\n'.join(log.read_text(errors='replace').splitlines()[-30:])
