"""PostgreSQL clusters of the proof's own, to be stopped, copied, delayed and promoted at will.

The one idea: a cluster is a folder; each lives in a temporary one, listens on loopback and ends
with the program.  ``fsync`` is on, as in production: some faults are about what survives.

What may go wrong: PostgreSQL refuses to run as root.  Then it runs as the system's own user
``postgres``, which Debian's package has created.
"""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

from bench.common import HOST, free_port

START_TIMEOUT_S = 60
ROLE = "proof"


class ClusterFailed(Exception):
    """A program of PostgreSQL failed; the message holds what it printed."""


def programs():
    """:return str: the folder of initdb, pg_ctl and so on, of the newest version installed."""
    folders = glob.glob("/usr/lib/postgresql/*/bin")  # where Debian has them, off the PATH
    if folders:
        return max(folders, key=lambda folder: int(folder.split("/")[4]))
    found = shutil.which("pg_basebackup")
    if not found:
        raise ClusterFailed("PostgreSQL's server programs are not installed")
    return os.path.dirname(found)


class Cluster:
    """A running server; a context manager.

    :param dict settings: on top of the configuration
    :param Cluster source: given: this is a copy of it, see :meth:`standby` and :meth:`copy`
    """

    def __init__(self, settings=None, *, source=None, files=None):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="tiered-cache-pg-")
        self.data = os.path.join(self.folder, "data")
        self.settings = {
            "port": self.port,
            "listen_addresses": f"'{HOST}'",
            "unix_socket_directories": f"'{self.folder}'",
            "max_connections": 200,
            "shared_buffers": "'256MB'",
            "wal_level": "replica",
            "max_wal_senders": 5,
            "hot_standby": "on",
            **(settings or {}),
        }
        self.own(self.folder)
        try:
            if source is not None:
                self._copy(source)
            elif files is not None:
                self._take(files)
            else:
                options = ["-U", ROLE, "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8"]
                self._run("initdb", "-D", self.data, "--no-sync", *options)
            self._configure()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc):
        self.close()

    def close(self):
        """End the server and remove its files."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self):
        """Variables that lead Odoo and psql here."""
        return {"PGHOST": HOST, "PGPORT": str(self.port), "PGUSER": ROLE, "PGPASSWORD": ROLE}

    def start(self):
        """Start the server and wait until it answers."""
        log = os.path.join(self.folder, "log")
        wait = ["-w", "-t", str(START_TIMEOUT_S)]
        self._run("pg_ctl", "-D", self.data, "-l", log, *wait, "start", keep=True)

    def stop(self, mode="fast"):
        """Stop it; ``immediate`` is a crash: the next start recovers from the log."""
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            with contextlib.suppress(ClusterFailed):
                self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def kill(self):
        """SIGKILL for every process of the server, as the kernel's memory killer does."""
        with open(os.path.join(self.data, "postmaster.pid")) as file:
            pid = int(file.readline())
        os.kill(pid, signal.SIGQUIT)
        os.kill(pid, signal.SIGKILL)

    def standby(self, settings=None):
        """:return Cluster: a hot standby of this server, not started yet."""
        return Cluster(settings, source=self)

    def copy_files(self, target):
        """Copy the data folder of a stopped server, to be restored with ``files=``."""
        shutil.copytree(self.data, target, symlinks=True)

    def promote(self):
        """Make a standby a primary, and wait for that."""
        self._run("pg_ctl", "-D", self.data, "-w", "promote")

    def sql(self, query, database="postgres"):
        """:return list: rows as lists of strings, from psql."""
        command = ["psql", "-XqAtF\t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", query]
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True
        )
        if done.returncode:
            raise ClusterFailed(f"{query}: {done.stderr}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def wait_until(self, query, database="postgres", timeout_s=60):
        """Wait until a query's first value is ``t``."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(ClusterFailed):
                if self.sql(query, database)[:1] == [["t"]]:
                    return
            time.sleep(0.05)
        raise ClusterFailed(f"not within {timeout_s} s: {query}")

    def _configure(self):
        lines = [f"{name} = {value}\n" for name, value in self.settings.items()]
        with open(os.path.join(self.data, "postgresql.conf"), "a") as file:
            file.writelines(lines)

    def _copy(self, source):
        place = ["-h", HOST, "-p", str(source.port), "-U", ROLE]
        self._run("pg_basebackup", *place, "-D", self.data, "-R", "-c", "fast", "--no-sync")

    def _take(self, files):
        shutil.copytree(files, self.data, symlinks=True)
        for base, folders, names in os.walk(self.data):
            for name in folders + names:
                self.own(os.path.join(base, name))
        self.own(self.data)
        os.chmod(self.data, 0o700)

    def own(self, path):
        """Give a path to the user that the server runs as."""
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def _run(self, program, *arguments, keep=False):
        command = [os.path.join(programs(), program), *arguments]
        if os.geteuid() == 0:
            ids = ["--reuid=postgres", "--regid=postgres", "--init-groups"]
            command = ["setpriv", *ids, *command]
        # What goes on running must not hold our pipe open.
        output = subprocess.DEVNULL if keep else subprocess.PIPE
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", text=True
        )
        if done.returncode:
            raise ClusterFailed(f"{program} ended with {done.returncode}: {done.stderr}")
