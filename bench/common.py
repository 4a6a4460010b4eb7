"""Real Odoo servers and an HTTP client for them.

The one idea: everything runs through ``scripts/odoo``, as the users' own server does, and
the measuring process uses the standard library only, so that it starts with any Python.
What may go wrong: a server that does not come up.  Then the end of its log is in the
error, and it has been ended.
"""

import contextlib
import http.client
import json
import os
import random
import shlex
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_TIMEOUT_S = 240
STOP_TIMEOUT_S = 15
CALL_TIMEOUT_S = 180


class RpcError(Exception):
    """The server answered with an error; ``kind`` is the name of its exception."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class ServerFailed(Exception):
    """A server or a helper process ended or did not answer in time."""


def odoo_command():
    """:return list: ``scripts/odoo`` of this checkout, or what ``TIERED_CACHE_ODOO`` says."""
    override = os.environ.get("TIERED_CACHE_ODOO")
    if not override:
        return [str(ROOT / "scripts" / "odoo")]
    # the path of one program, which may hold spaces, or a command with arguments
    return [override] if os.path.exists(override) else shlex.split(override)


def free_port():
    """A TCP port on loopback that nobody listens on at this moment.

    ``TIERED_CACHE_PORTS`` ("8220-8239") limits the choice.

    :raise OSError: every port of the range is taken
    """
    first, _dash, last = os.environ.get("TIERED_CACHE_PORTS", "0").partition("-")
    ports = range(int(first), int(last or first) + 1)
    # From a random start: two servers that start at once should not meet.
    for port in random.sample(ports, len(ports)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return probe.getsockname()[1]
    raise OSError(f"no free port in {first}-{last}")


def median(values):
    """:return float | None: the median, None of nothing."""
    values = list(values)
    return statistics.median(values) if values else None


def run_odoo(args, *, env=None, stdin=""):
    """Run ``scripts/odoo`` to its end.

    :param list args: arguments
    :param dict env: variables on top of the environment
    :param str stdin: for ``shell``: the program to execute
    :return str: standard output
    :raise ServerFailed: exit code not zero
    """
    done = subprocess.run(
        [*odoo_command(), *args],
        input=stdin,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServerFailed(f"odoo {' '.join(args)} failed:\n{done.stderr[-4000:]}")
    return done.stdout


class Process:
    """One Odoo process with a log of its own.

    It stays in the process group of its starter: what ends that group ends it too.

    :param list args: arguments of ``scripts/odoo``
    :param dict env: variables on top of the environment; None removes one
    :param str stdin: fed to the process
    """

    def __init__(self, args, *, env=None, stdin=""):
        descriptor, path = tempfile.mkstemp(prefix="tiered-cache-", suffix=".log")
        self.log_path = Path(path)
        merged = {**os.environ, **(env or {})}
        with os.fdopen(descriptor, "wb") as log, tempfile.TemporaryFile() as program:
            program.write(stdin.encode())
            program.seek(0)
            self.process = subprocess.Popen(
                [*odoo_command(), *args],
                env={key: value for key, value in merged.items() if value is not None},
                stdin=program,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.stop()

    def log(self, size=4000):
        """:return str: the last ``size`` characters of what the process logged."""
        return self.log_path.read_text(errors="replace")[-size:]

    def check_alive(self):
        """:raise ServerFailed: the process has ended."""
        if self.process.poll() is not None:
            raise ServerFailed(f"odoo ended with {self.process.returncode}:\n{self.log()}")

    def stop(self):
        """End the process, politely first; Odoo's workers end with their master."""
        self.request_end()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log_path.unlink(missing_ok=True)

    def request_end(self):
        """Ask the process to end."""
        self.process.terminate()


class Server(Process):
    """An Odoo HTTP server on a database.

    :param str database: its database
    :param int port: TCP port, by default a free one
    :param int workers: prefork workers
    :param dict env: see :class:`Process`
    :param int crons: processes or threads for scheduled actions
    """

    def __init__(self, database, *, port=None, workers=2, env=None, log_level="warn", crons=0):
        self.database = database
        self.port = port or free_port()
        args = [
            "-d", database, f"--workers={workers}", f"--http-port={self.port}",
            f"--http-interface={HOST}", f"--gevent-port={free_port()}",
            f"--max-cron-threads={crons}", f"--log-level={log_level}",
            # Generous limits: a recycled worker would start with an empty L1.
            "--limit-time-real=600", "--limit-time-cpu=600",
            "--limit-memory-soft=8589934592", "--limit-memory-hard=0",
        ]  # fmt: skip
        super().__init__(args, env=env)

    def __enter__(self):
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self):
        """Wait until the server answers and its registry is loaded.

        :raise ServerFailed: it ended, or did not answer within START_TIMEOUT_S
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check_alive()
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(HOST, self.port, timeout=CALL_TIMEOUT_S)
                connection.request("GET", "/web/login")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.2)
        raise ServerFailed(f"no answer on port {self.port}:\n{self.log()}")


class Rpc:
    """An authenticated session of the web client.

    One object must not be used by two threads at once.

    :param int port: of the server
    :param str database: to log in to
    """

    def __init__(self, port, database):
        self.port = port
        self.database = database
        # Odoo's prefork server closes after each answer; http.client opens again by itself.
        self.connection = http.client.HTTPConnection(HOST, port, timeout=CALL_TIMEOUT_S)
        self.cookie = ""
        self.uid = None
        self.context = {}

    def login(self, login="admin", password="admin"):
        """:return Rpc: itself, with the session's cookie and context.

        :raise RpcError: wrong login or password
        """
        params = {"db": self.database, "login": login, "password": password}
        data = json.dumps({"jsonrpc": "2.0", "params": params}).encode()
        answer = self._post("/web/session/authenticate", data)
        cookies = answer.headers.get_all("Set-Cookie") or []
        info = _result(answer.body)
        self.cookie = "; ".join(cookie.split(";")[0] for cookie in cookies)
        self.uid = info["uid"]
        company_id = info["user_companies"]["current_company"]
        self.context = {**info["user_context"], "allowed_company_ids": [company_id]}
        return self

    def clone(self, port=None):
        """The same session on a connection of its own, for another thread or server.

        :param int port: of a server with the same data folder, where the session is known too
        """
        other = Rpc(port or self.port, self.database)
        other.cookie, other.uid, other.context = self.cookie, self.uid, self.context
        return other

    def call(self, model, method, args=(), kwargs=None):
        """Call a method as the web client does.

        :return: the JSON value
        :raise RpcError: the server answered with an error
        """
        return _result(self.send(self.encode(model, method, args, kwargs))[0])

    def encode(self, model, method, args=(), kwargs=None, context=None):
        """:return tuple: what :meth:`send` takes, prepared outside of any measured time."""
        kwargs = dict(kwargs or {})
        kwargs["context"] = {**self.context, **kwargs.get("context", {}), **(context or {})}
        params = {"model": model, "method": method, "args": list(args), "kwargs": kwargs}
        body = json.dumps({"jsonrpc": "2.0", "method": "call", "params": params})
        return f"/web/dataset/call_kw/{model}/{method}", body.encode()

    def send(self, encoded):
        """:return tuple: (body, milliseconds from the first byte sent to the last received)."""
        start = time.perf_counter()
        answer = self._post(*encoded)
        return answer.body, (time.perf_counter() - start) * 1000

    def _post(self, path, data):
        headers = {"Content-Type": "application/json", "Cookie": self.cookie}
        self.connection.request("POST", path, data, headers)
        answer = self.connection.getresponse()
        answer.body = answer.read()
        if answer.status != 200:
            raise RpcError(f"HTTP {answer.status}", answer.body[:200].decode(errors="replace"))
        return answer


def _result(body):
    answer = json.loads(body)
    error = answer.get("error")
    if error:
        data = error.get("data") or {}
        raise RpcError(data.get("name", "error"), data.get("message", error.get("message")))
    return answer.get("result")
