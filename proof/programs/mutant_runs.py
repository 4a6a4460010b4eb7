"""Run the addon's tests over a copy of the checkout in which something was changed.

The one idea: nothing is changed where people work.  Each run has a copy of the checkout, a clone of
one database in which the addon was installed once, and a process group of its own.

What may go wrong: a change that keeps the addon from loading would make every test fail and prove
nothing.  So a failure counts only if a test ran and its assertion, or the code under test, raised;
what Python or PostgreSQL cannot read at all is told apart (:data:`BROKEN`).
"""

from __future__ import annotations

import contextlib
import json
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

from bench.dropping import drop_database
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


def copy_checkout(addon: Path, edits) -> None:
    """Copy this checkout and change the copy.

    :param addon: folder that does not exist yet
    :param edits: (file, old text, new text) in any number
    :raise DoesNotApply: a text does not occur exactly once
    """
    shutil.copytree(REPO, addon, ignore=shutil.ignore_patterns('.git', '__pycache__'))
    for file, old, new in edits:
        path = addon / file
        path.write_text(replace_once(path.read_text(), old, new, file))


class Workshop:
    """Copies and databases for runs; a context manager, which removes them.

    :param limit_s: longest time of one run
    """

    def __init__(self, limit_s: float):
        self._limit_s = limit_s
        self._name = f'tiered_cache_mutants_{os.getpid()}'
        self._template = f'{self._name}_template'
        self._lock = threading.Lock()
        self._modules: list[str] = []
        self._forges: list[Forge] = []
        self._idle: list[Forge] = []

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix='tiered_cache_mutants_'))
        self._launcher = self._find_launcher()
        return self

    def __exit__(self, *exc_info):
        self.stop()
        for name in self._databases():
            drop_database(self._sql, name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """End whatever runs; from any thread."""
        for forge in self._forges:
            forge.close()

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
        self._modules = self._sql(
            "SELECT name FROM ir_module_module"
            " WHERE state = 'installed' AND name <> 'tiered_cache'",
            database=self._template,
        )
        self._idle.clear()

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
            drop_database(self._sql, database)
        return _outcome(log, code, seconds)

    def forget(self, name: str) -> None:
        """Remove what a run has left."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    # -- parts -------------------------------------------------------------------------

    def _copy(self, name: str, edits) -> Path:
        folder = self.folder / name
        addon = folder / 'addons' / 'tiered_cache'
        shutil.rmtree(folder, ignore_errors=True)
        copy_checkout(addon, edits)
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
        with self._lock:
            if not self._idle:
                self._idle.append(Forge(self._modules))
                self._forges.append(self._idle[-1])
            forge = self._idle.pop()
        job = {
            'arguments': [
                f'--database={database}',
                f'--addons-path={folder / "addons"}',
                f'--data-dir={folder / "data"}',
                f'--http-port={_free_port()}',
                '--http-interface=127.0.0.1',
                '--max-cron-threads=0',
                '--stop-after-init',
                *arguments,
            ],
            # for the tests that start a server
            'environment': {
                'ODOO_ADDONS_PATH': str(folder / 'addons'),
                'TIERED_CACHE_ODOO': str(folder / 'odoo'),
                'PYTHONDONTWRITEBYTECODE': '1',
            },
            'log': str(log),
        }
        code = forge.run(job, limit_s)
        with self._lock:
            self._idle.append(forge)
        return code, time.monotonic() - started

    def _databases(self) -> list[str]:
        return self._sql(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [self._name]
        )

    @staticmethod
    def _sql(statement: str, params=None, database: str = 'postgres') -> list:
        """Run a statement; returns the first column."""
        connection = psycopg2.connect(dbname=database)
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(statement, params)
            return [row[0] for row in cursor.fetchall()] if cursor.description else []


class Forge:
    """See :mod:`.mutant_forge`; one run at a time.

    :param modules: what it imports besides Odoo
    """

    def __init__(self, modules: list[str]):
        self._process = subprocess.Popen(
            [sys.executable, '-m', f'{__package__}.mutant_forge', *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=REPO,
            # this checkout's addon must not be found before the changed copy
            env={name: value for name, value in os.environ.items() if name != 'ODOO_ADDONS_PATH'},
        )

    def run(self, job: dict, limit_s: float) -> int | None:
        """:return: the exit code, None after the time limit"""
        self._process.stdin.write(json.dumps(job) + '\n')
        pid = int(self._process.stdout.readline())
        timed_out = threading.Event()

        def end():
            timed_out.set()
            _end(pid)

        timer = threading.Timer(limit_s, end)
        timer.start()
        try:
            code = int(self._process.stdout.readline())
        finally:
            timer.cancel()
        return None if timed_out.is_set() else code

    def close(self) -> None:
        _end(self._process.pid)
        self._process.wait()


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


def _end(pid: int) -> None:
    """End a process and all that it has started, tests' servers included: SIGTERM lets tests
    clean up."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        family = process.children(recursive=True)
        process.terminate()
        psutil.wait_procs([process], timeout=GRACE_S)
        for member in (process, *family):
            with contextlib.suppress(psutil.Error):
                member.kill()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def _tail(log: Path) -> str:
    return '\n'.join(log.read_text(errors='replace').splitlines()[-30:])
