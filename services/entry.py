"""A cached value with everything needed to judge it, and its form in the shared tiers.

What is it? :class:`Entry` is what the tiers hold. :func:`to_bytes` and :func:`from_bytes` are its
form outside of this process; :class:`Seal` signs that form where others can write.

The one idea: an entry is believed only as a whole. Its bytes carry a checksum over everything: a
flipped bit in the name of a dependency would otherwise make a stale value look valid. The seal, a
keyed digest, is bound to the name under which it is stored, so that a value that is authentic
under one key cannot be moved to another. An older authentic value may be put back under its own
key: its dependencies' versions tell.

What may go wrong: bytes of another version, cut off, or garbage. All of them raise
:class:`CorruptEntry` or :class:`ForgedEntry`, which a tier counts as a miss.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import sys
import zlib
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from . import codec

FORMAT_VERSION: Final = 1
"""Changes whenever older bytes would be read differently."""

DIGEST_BYTES: Final = 16
MIN_SECRET_BYTES: Final = 16

_CHECKSUM_BYTES: Final = 4

# CPython 3.11, tracemalloc over 3,000 entries made by from_bytes: the object, its numbers and the
# headers of its strings take 326 bytes, a dependency 108 (its name is shared between entries). The
# rest of the overhead is the place in the dictionaries and lists of a memory tier, between what a
# fresh one takes and one in which everything was replaced.
_OVERHEAD_BYTES: Final = 580
_DEPENDENCY_BYTES: Final = 110

FLAG_CLOCK: Final = 1
"""Flag of an entry whose computation looked at the time."""

FLAG_SUPERUSER: Final = 2
"""Flag of an entry that was computed past access rights and record rules."""

FLAG_TAGGED: Final = 4
"""Flag of an entry whose payload is a pair of a value and its tag."""

Dependency = tuple[str, int, Any]
"""``(relation, version, condition or None)``"""


class CorruptEntry(ValueError):
    """Bytes that :func:`to_bytes` of this format version did not write."""


class ForgedEntry(ValueError):
    """Bytes that were not sealed with this secret under this name."""


@dataclass(slots=True)
class Entry:
    """A cached value.

    Shared between threads, hence never changed: use ``dataclasses.replace``.

    :ivar key: its key, without any prefix of a store
    :ivar model: name of the model that was asked, ``''`` for a named entry without one
    :ivar method: name of the method that was called
    :ivar uid: id of the user for whom it was computed
    :ivar dependencies: the relations it was computed from, with their versions; a condition is any
        value that :func:`.codec.pack` keeps, for a named entry the id of its owner
    :ivar removal_version: sum of the removals (by key or pattern) that had met its key
    :ivar created: seconds since the epoch
    :ivar expires: seconds since the epoch
    :ivar cost_ms: how long the computation took
    :ivar queries: how many SQL queries the computation sent
    :ivar flags: a set of bits for the engine
    :ivar payload: the packed value
    """

    key: str
    model: str
    method: str
    uid: int
    dependencies: tuple[Dependency, ...]
    removal_version: int
    created: float
    expires: float
    cost_ms: float
    queries: int
    flags: int
    payload: bytes

    @property
    def size_bytes(self) -> int:
        """Estimate of the memory that the entry takes."""
        return (
            _OVERHEAD_BYTES
            + len(self.payload)
            + len(self.key)
            + _DEPENDENCY_BYTES * len(self.dependencies)
            # the name of another entry is shared with nobody
            + sum(len(name) for name, _version, uid in self.dependencies if uid is not None)
        )


def to_bytes(entry: Entry) -> bytes:
    """Serialize an entry.

    :return: a CRC-32, then a msgpack array whose first item is the format version
    :raise codec.Unserializable: when a condition cannot be kept
    """
    body = msgpack.packb(
        [
            FORMAT_VERSION,
            entry.key,
            entry.model,
            entry.method,
            entry.uid,
            [
                [relation, version, None if condition is None else codec.pack(condition)]
                for relation, version, condition in entry.dependencies
            ],
            entry.removal_version,
            float(entry.created),
            float(entry.expires),
            float(entry.cost_ms),
            entry.queries,
            entry.flags,
            entry.payload,
        ]
    )
    return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, 'big') + body


_MAX_UID: Final = 2**31 - 1
_MAX_QUERIES: Final = 10**6
_MAX_MS: Final = 1e12

_FIELD_TYPES: Final = [int, str, str, str, int, list, int, float, float, float, int, int, bytes]


def from_bytes(data: bytes) -> Entry:
    """Read what :func:`to_bytes` wrote. The payload is not unpacked.

    :raise CorruptEntry: for any other bytes, and nothing else
    """
    body = memoryview(data)[_CHECKSUM_BYTES:]
    if data[:_CHECKSUM_BYTES] != zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, 'big'):
        raise CorruptEntry('the checksum is wrong')
    try:
        fields = codec.read_msgpack(body)
        if list(map(type, fields)) != _FIELD_TYPES or fields[0] != FORMAT_VERSION:
            raise CorruptEntry('other fields or another format version')
        _version, key, model, method, uid, dependencies, removal_version, *rest = fields
        created, expires, cost_ms, queries, flags, payload = rest
        if not all(map(math.isfinite, (created, expires, cost_ms))):
            # an entry that expires at NaN would never do so
            raise CorruptEntry('a time is not finite')
        if not (0 <= uid <= _MAX_UID and 0 <= queries <= _MAX_QUERIES and 0 <= cost_ms <= _MAX_MS):
            # figures are summed up in the database, where one that does not fit spoils them all
            raise CorruptEntry('a number is out of range')
        return Entry(
            key,
            sys.intern(model),
            sys.intern(method),
            uid,
            tuple(map(_read_dependency, dependencies)),
            removal_version,
            created,
            expires,
            cost_ms,
            queries,
            flags,
            payload,
        )
    except CorruptEntry:
        raise
    except Exception as error:
        # a checksum can be right by accident or by malice; for a tier all of it is one fault
        raise CorruptEntry(f'{type(error).__name__}: {error}') from error


def _read_dependency(dependency: list) -> Dependency:
    relation, version, condition = dependency
    if type(relation) is not str or type(version) is not int:
        raise CorruptEntry('a dependency is not a relation with a version')
    # thousands of entries name the same few hundred relations
    return sys.intern(relation), version, None if condition is None else codec.unpack(condition)


class Seal:
    """Signs bytes that are kept where others can write. The bytes themselves stay readable.

    :param secret: at least 16 bytes that only the servers of one database know
    :raise ValueError: when the secret is shorter
    """

    def __init__(self, secret: bytes):
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f'The secret of a seal needs at least {MIN_SECRET_BYTES} bytes.')
        # BLAKE2b takes keys up to 64 bytes; the digest of a longer secret is as good
        self._keyed = hashlib.blake2b(
            key=hashlib.blake2b(secret).digest(),
            digest_size=DIGEST_BYTES,
            person=b'tiered_cache',
        )

    def seal(self, storage_key: str, body: bytes) -> bytes:
        """:return: 16 bytes of digest, then ``body``"""
        return self._digest(storage_key, body) + body

    def open(self, storage_key: str, sealed: bytes) -> bytes:
        """Return the body that was sealed under this storage key.

        :raise ForgedEntry: when it was not
        """
        body = sealed[DIGEST_BYTES:]
        if not hmac.compare_digest(sealed[:DIGEST_BYTES], self._digest(storage_key, body)):
            raise ForgedEntry('the value was not written by this database under this key')
        return body

    def _digest(self, storage_key: str, body: bytes) -> bytes:
        name = storage_key.encode('utf-8', 'surrogatepass')
        digest = self._keyed.copy()
        # the length keeps key and body apart: ('ab', b'c') is not ('a', b'bc')
        digest.update(len(name).to_bytes(8, 'big'))
        digest.update(name)
        digest.update(body)
        return digest.digest()
