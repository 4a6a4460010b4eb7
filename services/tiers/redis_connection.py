"""Connections to Redis that cannot stall a request; only this module and its callers in
``redis_*.py`` import ``redis``.

The one idea: redis-py bounds each read of a socket, not the call.  A server that sends a
byte now and then, or a value of megabytes over a slow line, stretches a timeout of 50 ms
without end.  Here every call has a :class:`Deadline`, and the socket is wrapped so that each
wait gets what is left of it.  Connecting has a deadline of its own, name resolution included,
which the C library does not bound at all.  Both together, over however many servers, end with
the operation: two timeouts after its begin.  Nothing is retried.

The same for memory: after each request that is sent, no more than so many bytes are received.
Replies are parsed in Python even where hiredis is installed: hiredis makes room for as many
items as a server announces.  13 bytes (``*2147483647``) take 17 GB of addresses and 11 s.

What may go wrong: any exception of redis-py, of the socket or of TLS, and anything that a
stranger on the other end makes the parser raise.  :func:`kind_of` names them.  It never
uses their texts, which may quote a URL with its password.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import ipaddress
import os
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable

import redis
from redis._parsers import _RESP2Parser
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from ..redis_url import UNIX, RedisUrl
from .redis_pool import CountedPool

MAX_CONNECTIONS = 256
"""Per process.  Odoo's threaded server has at most ``db_maxconn`` (64) threads with a
cursor, a prefork worker one."""

MAX_REPLY_BYTES = 4 << 20
"""Unless more is asked for.  1,000 names of keys take 0.1 MB, 2 MB at their longest."""

OUTAGES = frozenset(
    (
        'timeout',
        'refused',
        'dns',
        'tls',
        'connection',
        'auth',
        'loading',
        'protocol',
        'sentinel',
        'sentinel auth',
        'service',
    )
)
"""Kinds of faults after which another command would most likely fail as well."""

_KIND_BY_CLASS = (
    # Subclasses first.
    ('AuthenticationError', 'auth'),
    ('BusyLoadingError', 'loading'),
    ('ReadOnlyError', 'readonly'),
    ('OutOfMemoryError', 'oom'),
    ('NoPermissionError', 'denied'),
    ('MasterDownError', 'readonly'),
    ('ClusterDownError', 'cluster'),
    ('AskError', 'cluster'),  # and MovedError
    ('TimeoutError', 'timeout'),
    ('InvalidResponse', 'protocol'),
)

_KIND_BY_CODE = {
    'WRONGTYPE': 'wrongtype',
    'OOM': 'oom',
    'READONLY': 'readonly',
    'NOPERM': 'denied',
    'NOAUTH': 'auth',
    'LOADING': 'loading',
    # redis-py 5.0 has classes for these in its Cluster client only
    'MASTERDOWN': 'readonly',
    'CLUSTERDOWN': 'cluster',
    'MOVED': 'cluster',
    'ASK': 'cluster',
}


class Undiscovered(redis.ConnectionError):
    """It is not known where to connect.

    :ivar kind: 'sentinel', 'service' or 'sentinel auth'
    """

    def __init__(self, kind: str):
        self.kind = kind
        super().__init__(kind)


class ReplyTooLong(Exception):
    """More has come than any reply to what was asked can have."""


class Deadline(threading.local):
    """When the call of this thread must be over, and the operation that it is part of.

    :param timeout_s: for one call, and once more for connecting
    :param max_reply_bytes: what may come after a request
    """

    def __init__(self, timeout_s: float, max_reply_bytes: int = MAX_REPLY_BYTES):
        self.timeout_s = timeout_s
        self.max_reply_bytes = max_reply_bytes
        self._end = self._until = 0.0

    def begin(self) -> None:
        """An operation begins; it may connect and call."""
        self._end = time.monotonic() + 2 * self.timeout_s
        self.start()

    def start(self) -> None:
        """A call begins, or a connection."""
        self._until = min(time.monotonic() + self.timeout_s, self._end)

    def is_over(self) -> bool:
        """Whether nothing is left of the operation."""
        return time.monotonic() >= self._end

    def left_s(self) -> float:
        """Seconds that are left; raises TimeoutError instead of returning 0."""
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("deadline reached")
        return left_s

    @contextlib.contextmanager
    def part_of(self, count: int):
        """What is done within has a part of the time that is left of the call, so that
        ``count`` such things may fail one after the other."""
        now, end, until = time.monotonic(), self._end, self._until
        self._end = now + max(0.0, until - now) / count
        self.start()
        try:
            yield
        finally:
            self._end, self._until = end, until


class BoundedSocket:
    """A socket whose waits end with the deadline of the thread, whatever timeout redis-py
    sets; a timeout of 0, which is how redis-py polls, is left alone.  What is received after
    something was sent is limited."""

    def __init__(self, sock, deadline: Deadline):
        self._sock = sock
        self._deadline = deadline
        self._polling = False
        self._received_bytes = 0

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def settimeout(self, timeout_s: float | None) -> None:
        self._polling = timeout_s == 0
        if self._polling:
            self._sock.settimeout(0)

    def recv(self, *args) -> bytes:
        self._prepare()
        data = self._sock.recv(*args)
        self._count(len(data))
        return data

    def recv_into(self, *args) -> int:
        self._prepare()
        count = self._sock.recv_into(*args)
        self._count(count)
        return count

    def sendall(self, data) -> None:
        self._received_bytes = 0
        self._prepare()
        self._sock.sendall(data)

    def _count(self, received_bytes: int) -> None:
        self._received_bytes += received_bytes
        if self._received_bytes > self._deadline.max_reply_bytes:
            raise ReplyTooLong

    def _prepare(self) -> None:
        if not self._polling:
            self._sock.settimeout(self._deadline.left_s())


class _Bounded:
    """Mixed into redis-py's connection classes."""

    def __init__(self, *, deadline: Deadline, figures=None, **kwargs):
        self._deadline = deadline
        self._figures = figures
        self.opened_at = 0.0
        super().__init__(**kwargs)

    def _connect(self):
        self._deadline.start()
        self._share_time()
        sock = super()._connect()
        self._deadline.start()  # what follows is the handshake and the caller's command
        self.opened_at = time.monotonic()
        if self._figures is not None:
            self._figures.created += 1
        return BoundedSocket(sock, self._deadline)

    def disconnect(self, *args):
        if self._figures is not None and self._sock is not None:
            self._figures.closed += 1
        return super().disconnect(*args)

    def _share_time(self) -> None:
        """Find out where to connect, and set what each step of it may take."""


class _BoundedTcp(_Bounded):
    def _share_time(self):
        count = count_addresses(self.host, self.port, self._deadline.left_s())
        self.socket_connect_timeout = self._deadline.left_s() / count


class Tcp(_BoundedTcp, Connection):
    pass


class Tls(_BoundedTcp, SSLConnection):
    pass


class Unix(_Bounded, UnixDomainSocketConnection):
    pass


def count_addresses(host: str, port: int, timeout_s: float) -> int:
    """How many addresses a host name has, at least 1.

    :raise OSError: the name cannot be resolved; TimeoutError if that is not known in time
    """
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return 1
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def look_up():
        try:
            answers.put(len(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)) or 1)
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=look_up, name='tiered_cache.dns', daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError("name resolution takes too long") from None
    if isinstance(answer, OSError):
        raise answer
    if isinstance(answer, UnicodeError):
        raise socket.gaierror(socket.EAI_NONAME, "not a host name")
    return answer


class Link:
    """A ``redis.Redis`` made when it is first needed, so that a cluster may have many nodes.

    :ivar deadline: of each call of the client
    :ivar closed: for good; a call that another thread is making fails then
    """

    def __init__(self, deadline: Deadline, new_client: Callable[[], redis.Redis]):
        self.deadline = deadline
        self.closed = False
        self._new_client = new_client

    @functools.cached_property
    def client(self) -> redis.Redis:
        return self._new_client()

    def pool_stats(self) -> list[dict]:
        """Figures of its pool, if it has one by now."""
        return [self.client.connection_pool.stats()] if 'client' in self.__dict__ else []

    def close(self) -> None:
        self.closed = True
        if 'client' in self.__dict__:
            self.client.connection_pool.disconnect()

    def close_idle(self) -> None:
        """After an outage: what was connected before it is worth nothing."""
        if 'client' in self.__dict__:
            self.client.connection_pool.disconnect(inuse_connections=False)


def open_link(url: RedisUrl, deadline: Deadline, connection_class=None, **options) -> Link:
    """A client for one server; connects on first use.

    :param url: timeouts, retries and the protocol are ours, whatever it says
    :param deadline: to be begun before each operation
    :param connection_class: by default what the URL asks for
    :param options: instead of what the URL says, and what ``connection_class`` needs more
    """

    def new_client() -> redis.Redis:
        pool = CountedPool(
            connection_class=connection_class or (Tls if url.tls else Tcp),
            max_connections=MAX_CONNECTIONS,
            **connection_options(url, deadline, **options),
        )
        client = redis.Redis(connection_pool=pool)
        client.set_response_callback('INFO', read_info)
        return client

    return Link(deadline, new_client)


_INFO_LINE = re.compile(
    rb'^(?:(redis_version|valkey_version|maxmemory_policy):([ -~]{1,40})'
    rb'|(used_memory|maxmemory|cluster_enabled):([0-9]{1,18}))\r?$',
    re.MULTILINE,
)


def read_info(reply: bytes, **_options) -> dict[str, str | int]:
    """Of a reply to INFO what is used here, if it is what it should be.

    redis-py makes a dictionary of all that a server says, of whatever type and length.
    """
    info: dict[str, str | int] = {}
    for match in _INFO_LINE.finditer(reply):
        word, text, figure, number = match.groups()
        if word:
            info[word.decode()] = text.decode()
        else:
            info[figure.decode()] = int(number)
    return info


def open_single(url: RedisUrl, deadline: Deadline) -> Link:
    """A client for the one server of a URL."""
    if url.form == UNIX:
        return open_link(url, deadline, Unix, path=url.path)
    host, port = url.hosts[0]
    return open_link(url, deadline, host=host, port=port)


def connection_options(url: RedisUrl, deadline: Deadline, **options) -> dict:
    """Arguments of the connection classes."""
    return {
        'db': url.database,
        'username': url.username,
        'password': url.password,
        'client_name': url.client_name or f'odoo-tiered-cache-{os.getpid()}',
        'deadline': deadline,
        'socket_timeout': deadline.timeout_s,
        'socket_connect_timeout': deadline.timeout_s,
        'retry': None,
        'retry_on_timeout': False,
        'health_check_interval': 0,
        'protocol': 2,
        'parser_class': _RESP2Parser,
        **no_library_name(),
        **_tls_options(url),
        **options,
    }


def _tls_options(url: RedisUrl) -> dict:
    # redis-py before version 6 takes a certificate for another host as good
    checked = url.tls and url.ssl.get('ssl_cert_reqs') != 'none'
    return {'ssl_check_hostname': True, **url.ssl} if checked else dict(url.ssl)


def no_library_name() -> dict:
    """Arguments that spare two round trips of each new connection (CLIENT SETINFO)."""
    known = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    if 'driver_info' in known:
        return {'driver_info': None}
    return {name: None for name in ('lib_name', 'lib_version') if name in known}


def kind_of(error: Exception) -> str:
    """One word for what went wrong; one of a fixed set, whatever the server says."""
    if isinstance(error, Undiscovered):
        return error.kind
    for name, kind in _KIND_BY_CLASS:
        if isinstance(error, getattr(redis.exceptions, name, ())):
            return kind
    if isinstance(error, redis.ConnectionError):
        return _kind_of_cause(error.__cause__ or error.__context__)
    if isinstance(error, redis.RedisError):
        return _KIND_BY_CODE.get(str(error).partition(' ')[0], 'error')
    if isinstance(error, OSError):
        return _kind_of_cause(error)
    return 'protocol'  # the parser stumbled


def _kind_of_cause(cause: BaseException | None) -> str:
    if isinstance(cause, socket.gaierror):
        return 'dns'
    if isinstance(cause, ssl.SSLError):
        return 'tls'
    if isinstance(cause, TimeoutError):
        return 'timeout'
    if isinstance(cause, (ConnectionRefusedError, FileNotFoundError)):
        return 'refused'
    return 'connection'
