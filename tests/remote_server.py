"""A small HTTP server on loopback that behaves as badly as it is told.

The one idea: a rule ``rule(request)`` says what happens to each request: a value to answer with,
or one of the misdeeds below.  Every connection and every request is noted.

What may go wrong: a test forgets to close it; it is a context manager.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import socket
import threading
import time
import typing

DROP, HALF, DRIP, NOISE, SILENCE = 'drop', 'half', 'drip', 'noise', 'silence'


class Asked(typing.NamedTuple):
    """:param connection: number of the connection
    :param number: of the request, from 0
    """

    connection: int
    number: int
    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body or b'{}')


class Answer(typing.NamedTuple):
    body: bytes
    status: int = 200
    headers: dict = {}  # noqa: RUF012
    delay_s: float = 0.0


class Server:
    """:param rule: ``rule(asked)`` returns a value for JSON, an :class:`Answer` or a misdeed"""

    def __init__(self, rule):
        self.rule = rule
        self.asked: list[Asked] = []
        self.open: set[int] = set()
        self.most_open = 0
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}
        self._listener = socket.create_server(('127.0.0.1', 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}'
        self._closed = False

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info):
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_all()

    def drop_all(self) -> None:
        """Break every connection that is open."""
        for sock in list(self._sockets.values()):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def paths(self) -> collections.Counter:
        return collections.Counter(asked.path for asked in self.asked)

    def _accept(self):
        for number in itertools.count():
            try:
                sock, _address = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets[number] = sock
                self.open.add(number)
                self.most_open = max(self.most_open, len(self.open))
            threading.Thread(target=self._serve, args=(number, sock), daemon=True).start()

    def _serve(self, number, sock):
        with contextlib.suppress(OSError, ValueError, ConnectionError), sock:
            stream = sock.makefile('rb')
            while not self._closed:
                asked = self._read(number, stream)
                if asked is None:
                    break
                with self._lock:
                    self.asked.append(asked)
                if not self._act(sock, asked, self.rule(asked)):
                    break
        with self._lock:
            self.open.discard(number)
            self._sockets.pop(number, None)

    def _read(self, connection, stream) -> Asked | None:
        line = stream.readline()
        if not line:
            return None
        method, path, _version = line.decode().split()
        headers = {}
        while (line := stream.readline()) not in (b'\r\n', b''):
            name, _colon, value = line.decode().partition(':')
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get('content-length') or 0))
        return Asked(connection, next(self._numbers), method, path, headers, body)

    def _act(self, sock, asked, what) -> bool:
        """:return: whether the connection goes on"""
        if what == DROP:
            return False
        if what == SILENCE:
            while not self._closed and asked.connection in self.open:
                time.sleep(0.05)
            return False
        if what == NOISE:
            sock.sendall(b'\x00\x01 what? \r\n\r\n')
            return False
        if not isinstance(what, Answer) and what not in (HALF, DRIP):
            what = Answer(json.dumps(what).encode())
        if what == HALF:
            sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"half": ')
            return False
        if what == DRIP:
            sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
            for _byte in range(1000):
                sock.sendall(b' ')
                time.sleep(0.05)
            return False
        time.sleep(what.delay_s)
        head = {'Content-Type': 'application/json', 'Content-Length': len(what.body)}
        lines = ''.join(f'{name}: {value}\r\n' for name, value in {**head, **what.headers}.items())
        body = b'' if asked.method == 'HEAD' else what.body
        sock.sendall(f'HTTP/1.1 {what.status} X\r\n{lines}\r\n'.encode() + body)
        return True
