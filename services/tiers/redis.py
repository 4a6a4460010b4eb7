"""L2: entries in Redis or Valkey, shared by all workers and servers.

The one idea: Redis is a neighbour, not a friend.  It may be down, frozen, full, read-only or
in the hands of a stranger, so every call has a deadline (:mod:`.redis_connection`), the first
call that fails opens a circuit breaker, and nothing it returns is believed: a value is sealed
with a key of this database and bound to the place where it lies (:class:`~..entry.Seal`).

A value is read with ``GETRANGE 0 limit``, not GET: in the same single round trip, and a value
of 512 MB that somebody put there costs ``max_entry_bytes``, not the worker's memory.

Two breakers, because a full or read-only Redis still answers reads: outages open the one for
everything, refused writes only pause writing.

What may go wrong is a fault, a miss, and a kind in ``faults``: timeout, refused, dns, tls,
connection, auth, loading, protocol (outages); readonly, oom, denied, cluster, error (refusals);
forged, corrupt, oversized, wrongtype (values, which are removed); scan (a removal that was cut
short); unserializable (an entry); not installed, bad address (the tier is off).
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import statistics
import threading
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..breaker import CLOSED, CircuitBreaker
from ..entry import DIGEST_BYTES, CorruptEntry, Entry, ForgedEntry, Seal, from_bytes
from ..keys import compile_pattern, redis_glob
from ..miss import MISS, Miss
from .base import Tier, slices

_logger = logging.getLogger(__name__)

BATCH_ENTRIES = 100
BATCH_BYTES = 1_000_000
"""A batch has one deadline: 1 MB takes 8 ms on a gigabit line, 50 ms allow for more."""

UNLINK_COUNT = 500

SCAN_COUNT = 1000
"""Redis stops for about 0.2 ms to look at 1,000 keys."""

MAX_SCAN_S = 30.0
"""Versions make removed entries invalid anyway, so a removal need not outlast this."""

PING_TIMEOUT_S = 2.0
"""A person waits for Test Connection, and wants to know how slow the line is."""

MAX_TTL_MS = 365 * 24 * 3600 * 1000

_ADVICE = {
    'not configured': "No Redis URL is set. Enter one, for example redis://localhost:6379/0.",
    'not installed': "The Python package redis is missing. Install it on the Odoo server "
    "(pip install redis) and restart Odoo.",
    'bad address': "The Redis URL cannot be read. Enter one like redis://localhost:6379/0, "
    "rediss://user:password@host:6380/0 or unix:///run/redis/redis.sock?db=0.",
    'refused': "Nothing answers at {address}. Start Redis there, or correct host and port.",
    'timeout': "{address} did not answer within {timeout_s:g} seconds. Check host and port, a "
    "firewall in between, and whether the server is overloaded.",
    'dns': "The host name in {address} cannot be resolved on the Odoo server. Correct it, or "
    "enter the IP address.",
    'tls': "No secure connection to {address}. Check that this port speaks TLS and that the "
    "certificate is valid for this host; a private certificate authority is given as "
    "?ssl_ca_certs=/path/to/ca.pem.",
    'connection': "{address} closed the connection. If it expects TLS, begin the URL with "
    "rediss://; if it has too many clients, raise its maxclients.",
    'auth': "{address} refuses the user or password, or requires one. Correct them in the URL, "
    "redis://user:password@host, and write special characters as %XX.",
    'loading': "{address} is still loading its data. Try again in a moment.",
    'protocol': "What answers at {address} is not Redis. Correct host and port.",
    'readonly': "{address} is a read-only replica. Enter the address of its primary.",
    'cluster': "{address} belongs to a Redis Cluster. Enter the address of a Redis or Valkey that "
    "is not part of a cluster.",
    'oom': "{address} has no memory left and refuses writes. Set its maxmemory-policy to "
    "allkeys-lru, or give it more memory.",
    'denied': "{address} does not permit this user what is needed. Allow it the keys {prefix}* "
    "and the commands GETRANGE, SET, UNLINK, SCAN, PING, DBSIZE, INFO, SELECT and "
    "CLIENT|SETNAME.",
    'error': "{address} refuses a command that is needed. It must be Redis 4 or newer, or "
    "Valkey, with GETRANGE, SET, UNLINK and SCAN under their own names.",
}


class RedisUnavailable(Exception):
    """Redis cannot be used; the text says why and what to do, without credentials.

    :ivar kind: one word, as in ``faults``, or 'not configured', 'not installed', 'bad address'
    """

    def __init__(self, kind: str, **details):
        self.kind = kind
        super().__init__(_ADVICE.get(kind, _ADVICE['error']).format(**details))


class _Failed(typing.NamedTuple):
    """Instead of a reply.

    :param kind: what went wrong
    :param counted: whether it needs no attention any more
    """

    kind: str
    counted: bool = False


_SKIPPED = _Failed('', counted=True)


def _value(reply) -> bytes:
    """The reply to GETRANGE; empty if there is no such key, and a nil would say the same."""
    if reply is None:
        return b''
    if not isinstance(reply, bytes):
        raise TypeError("not a value")
    return reply


def _page(reply) -> tuple[int, list[bytes]]:
    """The reply to SCAN: the next cursor, 0 at the end, and names of keys."""
    cursor, names = reply
    return int(cursor), [_value(name) for name in names]


def _pipelined(client, commands: Sequence[tuple]) -> list:
    """Replies to commands sent together; exceptions for those that were refused."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return pipeline.execute(raise_on_error=False)


class RedisTier(Tier):
    """The entries of one database in one Redis.

    :param url: redis://, rediss:// or unix://; empty turns the tier off
    :param prefix: put before every key, different for every database
    :param seal: made from the secret of this database
    :param timeout_ms: for one call, and once more if it has to connect first
    :param breaker: opened by outages; by default for 1 s, doubling up to 30 s
    :param max_entry_bytes: limit of a stored value, sealed and serialized
    :param clock: epoch seconds, compared with ``entry.expires``
    """

    name = 'l2'

    def __init__(
        self,
        url: str,
        prefix: str,
        seal: Seal,
        timeout_ms: int = 50,
        breaker: CircuitBreaker | None = None,
        max_entry_bytes: int = 1 << 20,
        clock=time.time,
    ):
        super().__init__()
        self._url = url or ''
        self._prefix = prefix
        self._seal = seal
        self._timeout_s = timeout_ms / 1000
        self._max_entry_bytes = max_entry_bytes
        self._clock = clock
        self._breaker = breaker or CircuitBreaker()
        self._writes = CircuitBreaker()
        self._open_lock = threading.Lock()
        self._pid = os.getpid()
        self._link = None
        self._library = None  # the module redis_connection, once it was needed
        self._problem = '' if self._url else 'not configured'
        self._address = ''
        self._last_fault = ''
        self._version: str | None = None

    # ---- entries

    def get(self, key: str) -> Entry | Miss:
        return self._entry(key, self._execute(_value, *self._read_command(key)))

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        found = {}
        for part in slices(list(dict.fromkeys(keys)), BATCH_ENTRIES):
            replies = self._batch(_value, [self._read_command(key) for key in part])
            if isinstance(replies, _Failed):
                break
            for key, reply in zip(part, replies, strict=True):
                entry = self._entry(key, reply)
                if entry is not MISS:
                    found[key] = entry
        return found

    def set(self, entry: Entry) -> bool:
        return self.set_many([entry]) == 1

    def set_many(self, entries: Sequence[Entry]) -> int:
        stored = 0
        for commands in self._write_batches(entries):
            if not self._writes.allow():
                break
            replies = self._batch(bool, commands)
            if isinstance(replies, _Failed):
                break
            refused = [reply.kind for reply in replies if isinstance(reply, _Failed)]
            stored += replies.count(True)
            if refused:
                self._note(refused[0], loud=self._writes.failure())
                break
            self._writes.success()
        return stored

    def delete(self, keys: Iterable[str]) -> int:
        return self._unlink([self._name(key) for key in keys])

    def delete_pattern(self, pattern: str) -> int:
        matches = compile_pattern(pattern).fullmatch
        start = len(self._prefix)

        def wanted(name: bytes) -> bool:
            return matches(name.decode('utf-8', 'replace')[start:]) is not None

        return self._remove(redis_glob(pattern, self._prefix), wanted)

    def clear(self) -> int:
        return self._remove(redis_glob('*', self._prefix), lambda name: True)

    def _name(self, key: str) -> bytes:
        return (self._prefix + key).encode('utf-8', 'surrogatepass')

    def _read_command(self, key: str) -> tuple:
        # One byte more than may be there tells a value that is too large.
        return 'GETRANGE', self._name(key), 0, self._max_entry_bytes

    def _entry(self, key: str, reply) -> Entry | Miss:
        """What a reply to GETRANGE is worth; a bad value is counted and removed."""
        if isinstance(reply, _Failed):
            if reply.kind == 'wrongtype':
                self._discard(key, 'wrongtype')
            elif not reply.counted:
                self._note(reply.kind, loud=self._breaker.failure())
            return MISS
        if not reply:
            return MISS
        if len(reply) > self._max_entry_bytes:
            return self._discard(key, 'oversized')
        try:
            entry = from_bytes(self._seal.open(self._prefix + key, reply))
        except ForgedEntry:
            return self._discard(key, 'forged')
        except CorruptEntry:
            return self._discard(key, 'corrupt')
        if entry.key != key:
            return self._discard(key, 'corrupt')
        return entry if entry.expires > self._clock() else MISS

    def _discard(self, key: str, kind: str) -> Miss:
        self._note(kind)
        self._unlink([self._name(key)])
        return MISS

    def _write_batches(self, entries: Sequence[Entry]) -> Iterator[list[tuple]]:
        """SET commands in lists of at most BATCH_ENTRIES and about BATCH_BYTES."""
        commands, batch_bytes = [], 0
        for entry in entries:
            ttl_ms = math.ceil(min((entry.expires - self._clock()) * 1000, MAX_TTL_MS))
            if ttl_ms <= 0:
                continue
            body = self._pack(entry)
            if body is None or len(body) + DIGEST_BYTES > self._max_entry_bytes:
                continue
            value = self._seal.seal(self._prefix + entry.key, body)
            commands.append(('SET', self._name(entry.key), value, 'PX', ttl_ms))
            batch_bytes += len(value)
            if len(commands) >= BATCH_ENTRIES or batch_bytes >= BATCH_BYTES:
                yield commands
                commands, batch_bytes = [], 0
        if commands:
            yield commands

    def _unlink(self, names: Sequence[bytes]) -> int:
        removed = 0
        for part in slices(names, UNLINK_COUNT):
            count = self._execute(int, 'UNLINK', *part)
            if isinstance(count, _Failed):
                self._note_refusal(count)
                break
            removed += count
        return removed

    def _remove(self, glob: str, wanted: Callable[[bytes], bool]) -> int:
        """Remove the keys that Redis finds for ``glob`` and that are ``wanted``."""
        match = glob.encode('utf-8', 'surrogatepass')
        removed, cursor = 0, 0
        until = time.monotonic() + MAX_SCAN_S
        while True:
            reply = self._execute(_page, 'SCAN', cursor, 'MATCH', match, 'COUNT', SCAN_COUNT)
            if isinstance(reply, _Failed):
                self._note_refusal(reply)
                return removed
            cursor, names = reply
            removed += self._unlink([name for name in names if wanted(name)])
            if not cursor:
                return removed
            if time.monotonic() > until:
                self._note('scan')
                return removed

    # ---- calls

    def _execute(self, parse, *command):
        """One command.

        :param parse: called with the reply; what it raises is a fault of the server
        :return: what ``parse`` returned, or a :class:`_Failed`
        """
        return self._call(lambda client: parse(client.execute_command(*command)))

    def _batch(self, parse, commands: Sequence[tuple]):
        """Several commands in one round trip.

        :param parse: called with each reply
        :return: what ``parse`` returned or a :class:`_Failed` for each, or one _Failed for all
        """
        return self._call(
            lambda client: [
                _Failed(self._library.kind_of(reply))
                if isinstance(reply, Exception)
                else parse(reply)
                for reply in _pipelined(client, commands)
            ]
        )

    def _call(self, run):
        """One call within its deadline, if the breaker allows it."""
        link = self._open()
        if link is None or not self._breaker.allow():
            return _SKIPPED
        link.deadline.start()
        try:
            reply = run(link.client)
        except Exception as error:
            # Whatever the far end makes redis-py raise; see redis_connection.kind_of.
            return self._failed(link, self._library.kind_of(error))
        if self._breaker.success():
            _logger.info("Tiered Cache L2: %s answers again", self._address)
        return reply

    def _failed(self, link, kind: str) -> _Failed:
        if kind not in self._library.OUTAGES:
            return _Failed(kind)
        link.close_idle()
        self._note(kind, loud=self._breaker.failure())
        return _Failed(kind, counted=True)

    def _note(self, kind: str, loud: bool | None = None) -> None:
        self._last_fault = kind
        self._fault(kind, self._address, loud)

    def _note_refusal(self, failed: _Failed) -> None:
        if not failed.counted:
            self._note(failed.kind)

    # ---- connection

    def _open(self):
        """The link to Redis; None if there cannot be one."""
        if self._pid != os.getpid():
            self._forget_parent()
        if self._link is None and not self._problem:
            with self._open_lock:
                if self._link is None:
                    self._link = self._new_link(self._timeout_s)
        return self._link

    def _new_link(self, timeout_s: float):
        try:
            from . import redis_connection  # noqa: PLC0415 - redis is optional

            self._library = redis_connection
            self._address = redis_connection.address(self._url)
            return redis_connection.open_link(self._url, timeout_s)
        except ImportError:
            self._problem = 'not installed'
        except ValueError:
            self._problem = 'bad address'
        self._note(self._problem)
        return None

    def _forget_parent(self) -> None:
        """After a fork: the parent goes on using its sockets, so they are dropped and neither
        closed nor told anything; its locks may have been held while it forked."""
        self._open_lock = threading.Lock()
        self._faults_lock = threading.Lock()
        self._breaker.reset()
        self._writes.reset()
        self._link = None
        self._pid = os.getpid()

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None and self._pid == os.getpid():
            link.close()

    @property
    def is_up(self) -> bool:
        return self._breaker.state == CLOSED

    # ---- for administrators

    def stats(self) -> dict:
        """See :meth:`Tier.stats`; one round trip, none while the breaker is open.

        :return: also ``address``, ``since`` (epoch seconds, when it went down), ``writes``
            ('on' or 'paused'), ``last_fault`` (a kind), ``version``, ``server_bytes``,
            ``server_max_bytes``.  ``entries`` is an estimate if the server holds more than
            about 1,000 keys: the share of this database in a sample of its keys.
        """
        looked = self._call(self._look)
        entries, info = (None, {}) if isinstance(looked, _Failed) else looked
        self._version = info.get('valkey_version') or info.get('redis_version') or self._version
        return {
            'state': self._state(),
            'entries': entries,
            'bytes': None,
            'max_entries': None,
            'max_bytes': None,
            'faults': dict(self.faults),
            'address': self._address,
            'since': self._breaker.opened_at,
            'writes': 'on' if self._writes.state == CLOSED else 'paused',
            'last_fault': self._last_fault,
            'version': self._version,
            'server_bytes': info.get('used_memory'),
            'server_max_bytes': info.get('maxmemory'),
        }

    def _state(self) -> str:
        """'up', 'down', 'not configured', 'not installed' or 'bad address'."""
        return self._problem or ('up' if self._breaker.state == CLOSED else 'down')

    def _look(self, client) -> tuple[int | None, dict]:
        """How many entries there probably are, and what INFO tells; each may be forbidden."""
        size, sample, info = _pipelined(
            client, [('DBSIZE',), ('SCAN', 0, 'COUNT', SCAN_COUNT), ('INFO',)]
        )
        entries = None
        if not isinstance(size, Exception) and not isinstance(sample, Exception):
            cursor, names = _page(sample)
            prefix = self._name('')
            entries = sum(name.startswith(prefix) for name in names)
            if cursor and names:
                entries = round(int(size) * entries / len(names))
        return entries, info if isinstance(info, dict) else {}

    def ping(self) -> dict:
        """Try everything the tier needs, with more patience than a request has.

        :return: ``address``, ``server`` ('Redis' or 'Valkey'), ``version`` (None if not told),
            ``connect_ms``, ``round_trip_ms``, ``used_bytes``, ``max_bytes`` (0 is unlimited),
            ``maxmemory_policy``, ``advice`` (sentences, may be empty)
        :raise RedisUnavailable: it does not work; the text says why and what to do
        """
        link = None if self._problem else self._new_link(max(self._timeout_s, PING_TIMEOUT_S))
        if link is None:
            raise RedisUnavailable(self._problem)
        try:
            return self._try_out(link)
        except Exception as error:
            raise RedisUnavailable(
                self._library.kind_of(error),
                address=self._address,
                timeout_s=link.deadline.timeout_s,
                prefix=self._prefix,
            ) from None  # redis-py's own text may hold what the URL holds
        finally:
            link.close()

    def _try_out(self, link) -> dict:
        def call_ms(*command) -> float:
            link.deadline.start()
            start = time.perf_counter()
            link.client.execute_command(*command)
            return (time.perf_counter() - start) * 1000

        name = self._name(f'ping:{secrets.token_hex(8)}')
        connect_ms = call_ms('PING')
        call_ms('SET', name, b'x', 'PX', 10_000)
        round_trip_ms = statistics.median(call_ms('GETRANGE', name, 0, 1) for _ in range(5))
        call_ms('SCAN', 0, 'MATCH', name, 'COUNT', 1)
        call_ms('UNLINK', name)
        info = self._info(link)
        return {
            'address': self._address,
            'server': 'Valkey' if 'valkey_version' in info else 'Redis',
            'version': info.get('valkey_version') or info.get('redis_version'),
            'connect_ms': connect_ms,
            'round_trip_ms': round_trip_ms,
            'used_bytes': info.get('used_memory'),
            'max_bytes': info.get('maxmemory'),
            'maxmemory_policy': info.get('maxmemory_policy'),
            'advice': self._advice(connect_ms, round_trip_ms, info),
        }

    def _info(self, link) -> dict:
        """What INFO tells; nothing if this user may not ask."""
        link.deadline.start()
        try:
            return link.client.execute_command('INFO')
        except Exception as error:
            if self._library.kind_of(error) in self._library.OUTAGES:
                raise
            return {}

    def _advice(self, connect_ms: float, round_trip_ms: float, info: dict) -> list[str]:
        advice = []
        timeout_ms = self._timeout_s * 1000
        if max(connect_ms, round_trip_ms) > timeout_ms:
            advice.append(
                f"Connecting took {connect_ms:.0f} ms and an answer {round_trip_ms:.1f} ms, but "
                f"Redis is given up after {timeout_ms:.0f} ms. Raise the timeout to "
                f"{2 * max(connect_ms, round_trip_ms):.0f} ms, or use a Redis that is nearer."
            )
        if info.get('maxmemory') == 0:
            advice.append(
                "This Redis has no memory limit. Set maxmemory, and maxmemory-policy "
                "allkeys-lru, so that it cannot take all memory of its machine."
            )
        elif info.get('maxmemory_policy') == 'noeviction':
            advice.append(
                "This Redis refuses writes when it is full. Set maxmemory-policy "
                "allkeys-lru, so that old entries make room for new ones."
            )
        return advice
