"""HTTP to one other server, within a deadline, over a pool of connections.

The one idea: a request has one deadline, and every wait on the socket is cut to what is left of
it.  A timeout per wait, as libraries have it, lets a server that sends a byte now and then hold a
worker for ever.

TLS and host names are verified by urllib3 with the certificates of the system; addresses are judged
by :mod:`.address`.  Proxies of the environment are not used: the address that is connected to
would be the proxy's.

What may go wrong is an :class:`~.errors.RemoteError`: a timeout, a connection that breaks, an
answer that is cut short or longer than ``max_answer_bytes``, a redirect to elsewhere.
"""

from __future__ import annotations

import http.client
import io
import os
import ssl
import time
import typing
from urllib.parse import urljoin

from urllib3.connection import HTTPConnection, HTTPSConnection

from . import address
from .errors import (
    PoolBusy,
    PoolClosing,
    RemoteError,
    RemoteProtocolError,
    RemoteTimeout,
    RemoteUnreachable,
)
from .pool import Pool, PoolClosed, PoolTimeout

MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 307, 308)
_CHUNK_BYTES = 65536

CHECK_S = 2.0
"""For the cheap call that tells whether an idle connection is good."""


class Response(typing.NamedTuple):
    """:param body: all of it"""

    status: int
    headers: typing.Any
    body: bytes


class Deadline:
    """:param timeout_s: from now on"""

    def __init__(self, timeout_s: float):
        self._until = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds that are left.

        :raise RemoteTimeout: none are
        """
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise RemoteTimeout('The server has not answered in time.')
        return left_s


class _Raw(io.RawIOBase):
    """What comes from a socket; each wait ends with the deadline."""

    def __init__(self, owner: _BoundedSocket):
        self._owner = owner
        # counts as a use of the socket, so that closing the connection waits for the answer
        self._raw = owner.sock.makefile('rb', buffering=0)

    def readable(self):
        return True

    def readinto(self, buffer):
        self._owner.prepare()
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        return super().close()


class _BoundedSocket:
    """A socket whose waits end with the deadline of the request, whatever timeout is set."""

    def __init__(self, sock, owner):
        self.sock = sock
        self._owner = owner

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def settimeout(self, _timeout_s) -> None:
        """The deadline decides."""

    def prepare(self) -> None:
        self.sock.settimeout(self._owner.deadline.left_s())

    def sendall(self, data) -> None:
        self.prepare()
        self.sock.sendall(data)

    def makefile(self, *_args, **_kwargs):
        return io.BufferedReader(_Raw(self), _CHUNK_BYTES)


class _Bounded:
    """Mixed into urllib3's connection classes."""

    def prepare(self, target, allowed, connect_timeout_s: float) -> None:
        self._target, self._allowed = target, allowed
        self._connect_timeout_s = connect_timeout_s
        self.deadline = Deadline(connect_timeout_s)

    def _new_conn(self):
        sock = address.open_socket(
            self._target, self._allowed, self._connect_timeout_s, self.deadline.left_s
        )
        sock.settimeout(self.deadline.left_s())  # for the handshake of TLS
        return sock

    def connect(self):  # pylint: disable=missing-return
        super().connect()
        self.sock = _BoundedSocket(self.sock, self)


class _Http(_Bounded, HTTPConnection):
    pass


class _Https(_Bounded, HTTPSConnection):
    pass


class Transport:
    """:param url: of the other server
    :param allowed: see :func:`.address.parse_allowed`
    :param connect_timeout_s: for name, address and TLS together
    :param max_answer_bytes: of a body
    :param pool: options of :class:`.pool.Pool`
    :raise ValueError: for a URL that is none
    """

    def __init__(
        self,
        url: str,
        allowed: frozenset[str] = frozenset(),
        *,
        connect_timeout_s: float = 5.0,
        max_answer_bytes: int = 64 << 20,
        ssl_context: ssl.SSLContext | None = None,
        **pool,
    ):
        self.target = address.parse_url(url)
        self._allowed = allowed
        self._connect_timeout_s = connect_timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._ssl = ssl_context
        self._pid = os.getpid()
        self.pool = Pool(self._connect, check=self._is_alive, **pool)

    def request(
        self, method: str, path: str, body: bytes, headers: dict, deadline: Deadline
    ) -> Response:
        """:raise RemoteError: of the kinds that are outages"""
        for _redirect in range(MAX_REDIRECTS + 1):
            response = self._request_once(method, path, body, headers, deadline)
            if response.status not in _REDIRECTS:
                return response
            path = self._redirected(response)
        raise RemoteProtocolError('The server redirects in circles.')

    def close(self) -> None:
        self.pool.close()

    def _request_once(self, method, path, body, headers, deadline) -> Response:
        try:
            with self.pool.connection(deadline.left_s()) as connection:
                connection.deadline = deadline
                return self._exchange(connection, method, path, body, headers)
        except PoolTimeout:
            raise PoolBusy('No connection of the pool became free in time.') from None
        except PoolClosed:
            raise PoolClosing('The connections to this server are being closed.') from None
        except RemoteError:
            raise
        except TimeoutError:
            raise RemoteTimeout('The server has not answered in time.') from None
        except ssl.SSLError as error:
            reason = getattr(error, 'verify_message', '') or type(error).__name__
            raise RemoteUnreachable(f'No secure connection: {reason}') from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise RemoteUnreachable(f'The connection broke: {type(error).__name__}.') from None

    def _exchange(self, connection, method, path, body, headers) -> Response:
        # the methods of the standard library: those of urllib3 differ between its versions
        send = http.client.HTTPConnection.request
        send(connection, method, self.target.path + path, body, headers)
        answer = http.client.HTTPConnection.getresponse(connection)
        data = self._body(answer)
        if answer.will_close:
            connection.close()
        return Response(answer.status, answer.headers, data)

    def _body(self, answer) -> bytes:
        parts, size = [], 0
        while part := answer.read(_CHUNK_BYTES):
            size += len(part)
            if size > self._max_answer_bytes:
                raise RemoteProtocolError('The answer is too long.')
            parts.append(part)
        if answer.length:  # announced, and not come
            raise RemoteUnreachable('The connection broke in the middle of the answer.')
        return b''.join(parts)

    def _redirected(self, response: Response) -> str:
        """The path that a redirect leads to, on the same server."""
        scheme, host, port = self.target.origin
        base = f'{scheme}://{f"[{host}]" if ":" in host else host}:{port}{self.target.path}/'
        try:
            target = address.parse_url(urljoin(base, response.headers.get('Location') or ''))
        except ValueError:
            raise RemoteProtocolError('The server redirects to nowhere.') from None
        if target.origin != self.target.origin:
            raise RemoteProtocolError(
                'The server redirects to another server. Give the URL where it ends.'
            )
        return target.path.removeprefix(self.target.path)

    def _connect(self, timeout_s: float):
        scheme, host, port = self.target.origin
        if scheme == 'https':
            context = self._ssl or ssl.create_default_context()
            connection = _Https(host, port, ssl_context=context, cert_reqs='CERT_REQUIRED')
        else:
            connection = _Http(host, port)
        connection.prepare(self.target, self._allowed, min(timeout_s, self._connect_timeout_s))
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_alive(self, connection) -> bool:
        """Any answer does: what counts is that the connection carries it."""
        connection.deadline = Deadline(CHECK_S)
        self._exchange(connection, 'HEAD', '/web/health', b'', {})
        return connection.sock is not None
