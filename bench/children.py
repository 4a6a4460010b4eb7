"""Processes that do what they are told: the near end of ``child.py``.

The one idea: one socket per process, one question at a time, so that the caller decides the
order in which processes work and they never disturb each other.
"""

import contextlib
import json
import os
import socket
import tempfile

from .common import ROOT, Process, ServerFailed

CONNECT_TIMEOUT_S = 240


class ChildProcess(Process):
    """An ``odoo shell`` that answers over a UNIX socket; a context manager.

    :param str database: its database
    :param dict env: variables on top of the environment, None removes one
    :param str module: its ``serve(env, path)`` answers
    """

    def __init__(self, database, env=None, module="bench.child"):
        self.stream = None
        self.folder = tempfile.TemporaryDirectory(prefix="tiered-cache-")
        path = os.path.join(self.folder.name, "socket")
        program = (
            f"import sys; sys.path.append({str(ROOT)!r})\n"
            f"from importlib import import_module\n"
            f"import_module({module!r}).serve(env, {path!r})\n"
        )
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        args = ["shell", "-d", database, "--no-http", "--log-level=error"]
        super().__init__(args, env=env, stdin=program)

    def __enter__(self):
        try:
            self.stream = self._accept()
        except BaseException:
            self.stop()
            raise
        return self

    def _accept(self):
        self.listener.settimeout(1)
        for _ in range(CONNECT_TIMEOUT_S):
            self.check_alive()
            with contextlib.suppress(TimeoutError):
                connection, _address = self.listener.accept()
                with connection:
                    connection.settimeout(None)
                    return connection.makefile("rw")
        raise ServerFailed(f"odoo shell did not start:\n{self.log()}")

    def request_end(self):
        """Hang up: the other side ends when nobody can ask any more."""
        if self.stream is None:
            super().request_end()
            return
        with contextlib.suppress(OSError):
            self.stream.close()

    def stop(self):
        """End the process and remove its socket."""
        super().stop()
        self.listener.close()
        self.folder.cleanup()

    def ask(self, operation, *arguments):
        """:return: the value of ``child.Child.<operation>(*arguments)``

        :raise ServerFailed: it raised, or the process ended
        """
        self.send(operation, *arguments)
        return self.receive()

    def send(self, operation, *arguments):
        """Start an operation; :meth:`receive` waits for it."""
        self.stream.write(json.dumps([operation, *arguments]) + "\n")
        self.stream.flush()

    def receive(self):
        """:return: the value of the operation that :meth:`send` started."""
        line = self.stream.readline()
        if not line:
            raise ServerFailed(f"odoo shell ended:\n{self.log()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ServerFailed(answer["error"])
        return answer["ok"]
