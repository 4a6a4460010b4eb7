"""L2: entries in Redis or Valkey, shared by all workers and servers.

The one idea: Redis is a neighbour, not a friend.  It may be down, frozen, full, read-only or
in the hands of a stranger, so every call has a deadline (:mod:`.redis_connection`), the first
call that fails opens a circuit breaker, and nothing it returns is believed: a value is sealed
with a key of this database and bound to the place where it lies (:class:`~..entry.Seal`).

A value is read with ``GETRANGE 0 limit``, not GET: in the same single round trip, and a value
of 512 MB that somebody put there costs ``max_entry_bytes``, not the worker's memory.

Redis may be one server, the primary that Sentinels name, or a cluster; what is asked where is
the business of :mod:`.redis_servers`.

What may go wrong is a fault, a miss, and a kind in ``faults``: timeout, refused, dns, tls,
connection, auth, loading, protocol, sentinel, sentinel auth, service (outages); readonly, oom,
denied, cluster, no cluster, error (refusals); forged, corrupt, oversized, wrongtype (values,
which are removed); scan (a removal that was cut short); unserializable (an entry); not installed,
bad address (the tier is off).
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from .. import redis_url
from ..breaker import CLOSED, CircuitBreaker
from ..entry import DIGEST_BYTES, CorruptEntry, Entry, ForgedEntry, Seal, from_bytes
from ..keys import Target, redis_glob
from ..miss import MISS, Miss
from ..pool_figures import total
from . import redis_limits
from .base import EVER, PROBE_KEY, Step, Tier, slices

BATCH_ENTRIES = 100
BATCH_BYTES = 1_000_000
"""A batch has one deadline: 1 MB takes 8 ms on a gigabit line, 50 ms allow for more."""

READ_BATCH_BYTES = 4_000_000
"""Most that a batch of reads may bring, were every value as large as it may be."""

SCAN_COUNT = 1000
"""Redis stops for about 0.2 ms to look at 1,000 keys."""

MAX_SCAN_S = 30.0
"""Versions make removed entries invalid anyway, so a removal need not take longer than this, the
time aside in which it is left alone."""

MAX_TTL_MS = 365 * 24 * 3600 * 1000


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


_RELEASE = """
if redis.call('GETRANGE', KEYS[1], 0, -1) == ARGV[1] then
    return redis.call('UNLINK', KEYS[1])
end
return 0
"""
"""Compare and delete, in one step."""


class RedisTier(Tier):
    """The entries of one database in one Redis.

    :param url: see :mod:`..redis_url`; empty turns the tier off
    :param prefix: put before every key, different for every database
    :param seal: made from the secret of this database
    :param timeout_ms: for one call, and once more if it has to connect first
    :param breaker: opened by outages; by default for 1 s, doubling up to 5 s.  Each server of
        a cluster has one like it.
    :param max_entry_bytes: limit of a stored value, sealed and serialized
    :param max_entries: limit that :meth:`trim` restores, None for none
    :param max_bytes: likewise, of values, keys and what Redis adds, estimated
    :param clock: epoch seconds, compared with ``entry.expires``
    """

    name = 'l2'
    finds_prefixes = False

    def __init__(
        self,
        url: str,
        prefix: str,
        seal: Seal,
        timeout_ms: int = 50,
        breaker: CircuitBreaker | None = None,
        max_entry_bytes: int = 1 << 20,
        clock=time.time,
        max_entries: int | None = None,
        max_bytes: int | None = None,
    ):
        super().__init__()
        self._url = url or ''
        self._prefix = prefix
        self._seal = seal
        self._timeout_s = timeout_ms / 1000
        self._max_entry_bytes = max_entry_bytes
        self._limits = redis_limits.Limits(max_entries, max_bytes)
        self._trimmed_at = -math.inf
        self._read_batch_entries = max(
            1, min(BATCH_ENTRIES, READ_BATCH_BYTES // (max_entry_bytes + 1))
        )
        self._clock = clock
        self._breaker = breaker or CircuitBreaker()
        self._writes = self._breaker.another()
        self._open_lock = threading.Lock()
        self._pid = os.getpid()
        self._servers = None
        self._library = None  # the modules that import redis, once they were needed
        self._problem = '' if self._url else 'not configured'
        self._address = ''
        self._last_fault = ''
        self._version: str | None = None

    # ---- entries

    def get(self, key: str) -> Entry | Miss:
        servers = self._open()
        if servers is None:
            return MISS
        return self._entry(key, servers.ask(_value, self._read_command(key)))

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        found = {}
        servers = self._open()
        if servers is None:
            return found
        long = []
        for part in slices(list(dict.fromkeys(keys)), BATCH_ENTRIES):
            # a batch of what entries usually are; larger ones are asked for again, a few at a time
            limit = min(self._max_entry_bytes, READ_BATCH_BYTES // len(part))
            replies = servers.ask_all(_value, [self._read_command(key, limit) for key in part])
            for key, reply in zip(part, replies, strict=True):
                if isinstance(reply, bytes) and limit < len(reply) <= self._max_entry_bytes:
                    long.append(key)
                else:
                    self._find(found, key, reply)
        for part in slices(long, self._read_batch_entries):
            replies = servers.ask_all(_value, [self._read_command(key) for key in part])
            for key, reply in zip(part, replies, strict=True):
                self._find(found, key, reply)
        return found

    def _find(self, found: dict[str, Entry], key: str, reply) -> None:
        entry = self._entry(key, reply)
        if entry is not MISS:
            found[key] = entry

    def set(self, entry: Entry) -> bool:
        return self.set_many([entry]) == 1

    def set_many(self, entries: Sequence[Entry]) -> int:
        servers = self._open()
        if servers is None:
            return 0
        return sum(
            servers.store(bool, commands).count(True) for commands in self._write_batches(entries)
        )

    def delete(self, keys: Iterable[str], before: float = EVER) -> int:
        return self._unlink([self._name(key) for key in keys])

    def removing(self, target: Target, before: float = EVER) -> Iterator[Step]:
        """SCAN a page, UNLINK what is wanted of it, over and over: Redis is never asked for
        more than it does in a fraction of a millisecond."""
        servers = self._open()
        if servers is None:
            return
        match = redis_glob(target.candidates, self._prefix).encode('utf-8', 'surrogatepass')
        start, spent_s = len(self._prefix), 0.0
        for node in servers.nodes():
            begun = time.monotonic()
            for names in self._pages(servers, node, match):
                removed = self._unlink(
                    [
                        name
                        for name in names
                        if target.wants(name.decode('utf-8', 'replace')[start:])
                    ]
                )
                spent_s += time.monotonic() - begun
                yield SCAN_COUNT, removed
                if spent_s > MAX_SCAN_S:
                    self._note('scan', node.address)
                    return
                begun = time.monotonic()

    def count(self, pattern: str) -> int | None:
        """SCAN looks at the keys of all databases that share the server."""
        servers = self._open()
        sizes = []
        for node in servers.nodes() if servers is not None else ():
            servers.deadline.begin()
            sizes.append(node.ask(int, ('DBSIZE',)))
        return _total(sizes)

    # ---- leases, see services/flight.py

    def lease(self, key: str, owner: str, ttl_ms: int) -> bool | None:
        """Take a lease.

        :return: whether it was free; None if Redis did not answer
        """
        return self._ask_lease(bool, 'SET', self._lease_name(key), owner, 'NX', 'PX', ttl_ms)

    def is_leased(self, key: str) -> bool:
        """Whether somebody holds a lease; False if Redis did not answer."""
        return bool(self._ask_lease(bool, 'GETRANGE', self._lease_name(key), 0, 0))

    def release(self, key: str, owner: str) -> None:
        """Give a lease back, unless it is somebody else's by now."""
        self._ask_lease(bool, 'EVAL', _RELEASE, 1, self._lease_name(key), owner)

    def _lease_name(self, key: str) -> bytes:
        return self._name(f'lease:{key}')

    def _ask_lease(self, parse, *command):
        servers = self._open()
        if servers is None:
            return None
        reply = servers.ask(parse, command)
        if isinstance(reply, self._library.Failed):
            self._note_refusal(reply)
            return None
        return reply

    def _name(self, key: str) -> bytes:
        return (self._prefix + key).encode('utf-8', 'surrogatepass')

    def _read_command(self, key: str, limit: int | None = None) -> tuple:
        # One byte more than may be there tells a value that is too large.
        return 'GETRANGE', self._name(key), 0, limit or self._max_entry_bytes

    def _entry(self, key: str, reply) -> Entry | Miss:
        """What a reply to GETRANGE is worth; a bad value is counted and removed."""
        if isinstance(reply, self._library.Failed):
            if reply.kind == 'wrongtype':
                self._discard(key, 'wrongtype')
            elif reply.node is not None:
                reply.node.refused(reply)
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
        servers = self._open()
        if servers is None or not names:
            return 0
        removed = 0
        for count in servers.remove(names):
            if isinstance(count, int):
                removed += count
            else:
                self._note_refusal(count)
        return removed

    def _pages(self, servers, node, match: bytes) -> Iterator[list[bytes]]:
        """Names of keys of one node; ends early if it fails."""
        cursor = 0
        while True:
            servers.deadline.begin()
            reply = node.ask(_page, ('SCAN', cursor, 'MATCH', match, 'COUNT', SCAN_COUNT))
            if isinstance(reply, self._library.Failed):
                self._note_refusal(reply)
                return
            cursor, names = reply
            yield names
            if not cursor:
                return

    def _note(self, kind: str, address: str = '', loud: bool | None = None) -> None:
        self._last_fault = kind
        self._fault(kind, address or self._address, loud)

    def _note_refusal(self, failed) -> None:
        if not failed.counted:
            self._note(failed.kind, failed.node.address)

    # ---- limits

    def trim(self, every_s: float = 0.0) -> int:
        """Bring the entries of this database back to their limits; not in a request.

        :param every_s: do nothing if that was done less than so many seconds ago
        :return: how many were removed
        """
        now = time.monotonic()
        servers = self._open() if self._limits and self.is_up else None
        if servers is None or now - self._trimmed_at < every_s:
            return 0
        self._trimmed_at = now
        return redis_limits.trim(self, servers, self._limits)

    def look_at(self, node) -> tuple[int, list[bytes]]:
        """For :mod:`.redis_limits`: how many entries a server probably has, and some of them."""
        looked = node.call(self._count)
        if isinstance(looked, self._library.Failed):
            self._note_refusal(looked)
            return 0, []
        return looked

    def _count(self, client) -> tuple[int, list[bytes]]:
        size, sample = self._library.pipelined(
            client, [('DBSIZE',), ('SCAN', 0, 'COUNT', SCAN_COUNT)]
        )
        for reply in (size, sample):
            if isinstance(reply, Exception):
                raise reply
        cursor, names = _page(sample)
        prefix, lock = self._name(''), self._name(redis_limits.LOCK_NAME)
        ours = [name for name in names if name.startswith(prefix) and name != lock]
        share = len(ours) / len(names) if names else 0
        return round(int(size) * share) if cursor else len(ours), ours

    def pages_of_all(self, servers) -> Iterator[list[bytes]]:
        """For :mod:`.redis_limits`: names of the entries of this database, in pages."""
        match = redis_glob('*', self._prefix).encode('utf-8', 'surrogatepass')
        lock = self._name(redis_limits.LOCK_NAME)
        for node in servers.nodes():
            for names in self._pages(servers, node, match):
                yield [name for name in names if name != lock]

    def name_of(self, key: str) -> bytes:
        """Under which a key lies in Redis."""
        return self._name(key)

    def remove_names(self, names: Sequence[bytes]) -> int:
        """For :mod:`.redis_limits`: remove entries by these names."""
        return self._unlink(names)

    # ---- connection

    def _open(self):
        """The servers, a :class:`.redis_servers.Single` or alike; None if there cannot be any."""
        if self._pid != os.getpid():
            self._forget_parent()
        servers = self._servers
        if servers is None and not self._problem:
            with self._open_lock:
                if self._servers is None:
                    self._servers = self._open_servers()
                servers = self._servers
        return servers

    def _open_servers(self):
        try:
            from . import redis_connection, redis_servers  # noqa: PLC0415 - redis is optional

            self._library = redis_servers
            url = redis_url.parse(self._url)
            self._address = url.address
            return redis_servers.open_servers(
                url,
                self._timeout_s,
                self._note,
                self._breaker,
                self._writes,
                max(READ_BATCH_BYTES, self._max_entry_bytes) + redis_connection.MAX_REPLY_BYTES,
            )
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
        self._servers = None
        self._pid = os.getpid()

    def close(self) -> None:
        servers, self._servers = self._servers, None
        if servers is not None and self._pid == os.getpid():
            servers.close()

    @property
    def is_up(self) -> bool:
        servers = self._servers
        return servers is None or any(node.is_up for node in servers.known())

    def is_up_for(self, key: str) -> bool:
        servers = self._servers
        owner = servers and servers.owner(self._name(key))
        return owner.is_up if owner else self.is_up

    def probe(self) -> None:
        servers = self._open()
        if servers is None:
            return
        servers.nodes()  # a cluster may find out that somebody else has taken over
        for node in servers.known():
            if not node.is_up:
                servers.deadline.begin()
                reply = node.ask(_value, self._read_command(PROBE_KEY))
                if isinstance(reply, self._library.Failed) and not reply.redirect:
                    node.refused(reply)

    # ---- for administrators

    def stats(self) -> dict:
        """See :meth:`Tier.stats`; one round trip to each server, none while its breaker is open.

        :return: also ``address``, ``since`` (epoch seconds, when the first that is down went
            down), ``writes`` ('on', or 'paused' if they are on any server), ``last_fault`` (a
            kind), ``version``, ``server_bytes`` and ``server_max_bytes`` (sums; 0 is
            unlimited), ``servers`` (address and state of each).  ``entries`` is an estimate if
            a server holds more than about 1,000 keys: the share of this database in a sample
            of its keys.
        """
        servers = self._open()
        looks = [] if servers is None else [self._look(node) for node in servers.nodes()]
        nodes = [] if servers is None else servers.known()
        infos = [info for _entries, info in looks if info]
        entries = [entries for entries, _info in looks if entries is not None]
        if infos:
            self._version = infos[0].get('valkey_version') or infos[0].get('redis_version')
        limits = [info.get('maxmemory') for info in infos]
        opened = [node.breaker.opened_at for node in nodes]
        return {
            'state': self._state(nodes),
            'entries': sum(entries) if entries else None,
            'bytes': None,
            'max_entries': self._limits.max_entries,
            'max_bytes': self._limits.max_bytes,
            'faults': dict(self.faults),
            'address': self._address,
            'since': min((at for at in opened if at is not None), default=None),
            'writes': 'on' if all(node.writes.state == CLOSED for node in nodes) else 'paused',
            'last_fault': self._last_fault,
            'version': self._version,
            'server_bytes': _total([info.get('used_memory') for info in infos]),
            'server_max_bytes': 0 if 0 in limits else _total(limits),
            'servers': [
                {'address': node.where(), 'state': 'up' if node.is_up else 'down'} for node in nodes
            ],
        }

    def health(self) -> dict:
        """What is known without asking: ``state``, ``address``, ``since`` and ``last_fault`` of
        :meth:`stats`, and the figures of the connections of this process (``pool``), see
        :mod:`..pool_figures`."""
        servers = self._servers
        nodes = [] if servers is None else servers.known()
        opened = [node.breaker.opened_at for node in nodes]
        return {
            'state': self._state(nodes),
            'address': self._address,
            'since': min((at for at in opened if at is not None), default=None),
            'last_fault': self._last_fault,
            'pool': total([stats for node in nodes for stats in node.link.pool_stats()]),
        }

    def _state(self, nodes) -> str:
        """'up', 'partly down', 'down', 'not configured', 'not installed' or 'bad address'."""
        if self._problem:
            return self._problem
        if all(node.is_up for node in nodes):
            return 'up'
        return 'partly down' if any(node.is_up for node in nodes) else 'down'

    def _look(self, node) -> tuple[int | None, dict]:
        """How many entries a server probably has, and what its INFO tells; each may be
        forbidden."""
        looked = node.call(self._sample)
        return (None, {}) if isinstance(looked, self._library.Failed) else looked

    def _sample(self, client) -> tuple[int | None, dict]:
        size, sample, info = self._library.pipelined(
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


def _total(numbers: list) -> int | None:
    known = [number for number in numbers if isinstance(number, int)]
    return sum(known) if known else None
