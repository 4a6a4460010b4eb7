"""Keeping what one database has in Redis within a limit.

The one idea: Redis knows how many keys it has, not how many are ours, so this is an estimate
from a sample, like the figures that administrators see: one round trip while there is no limit
in sight, and one walk over the keys when there are too many.  What goes is what expires first;
for entries that live equally long, as they do by default, that is what is oldest.

Every worker looks once a minute, and one of them acts: whoever sets a key that lives nearly as
long.  Between two looks the limit can be exceeded; the hard limit is Redis's own ``maxmemory``.

What may go wrong: the ACL forbids PTTL or STRLEN (they came later than the other commands).
It is a fault ``denied``, and nothing is removed.
"""

from __future__ import annotations

import time
import typing

from .base import slices

EVERY_S = 60.0

LOCK_NAME = '!trim'
"""After the prefix of the database; no key of an entry begins like that."""

LOCK_MS = 50_000

ROOM = 0.05
"""So much of the limit is freed beyond what must go, so that there is a pause until the next."""

ENTRY_BYTES = 100
"""Per key, in Redis's dictionaries of keys and of expiries, object headers and allocation; Redis
7.0 on 64 bits says 90 to 120 (MEMORY USAGE less key and value)."""

PIPELINE = 500

MAX_S = 3.0
"""For one walk: about a million keys.  What is left is for the next minute."""


class Limits(typing.NamedTuple):
    """:param max_entries: of this database, None is no limit
    :param max_bytes: likewise
    """

    max_entries: int | None = None
    max_bytes: int | None = None

    def __bool__(self):
        return self.max_entries is not None or self.max_bytes is not None


class Sample(typing.NamedTuple):
    """:param entries: how many there are, estimated
    :param ttls_ms: how long those in the sample have to live, sorted
    :param mean_bytes: what one of them takes
    """

    entries: int
    ttls_ms: list[int]
    mean_bytes: float


def trim(tier, servers, limits: Limits) -> int:
    """Remove what is beyond the limits; not in a request.

    :param tier: the :class:`.redis.RedisTier`, for its names and its removals
    :return: how many entries were removed
    """
    until = time.monotonic() + MAX_S
    looks = [tier.look_at(node) for node in servers.nodes()]
    entries = sum(found for found, _names in looks)
    if limits.max_bytes is None and entries <= limits.max_entries:
        return 0
    sample = _sample(servers, entries, [name for _found, names in looks for name in names])
    excess = entries * (1 - _share_to_keep(sample, limits))
    if excess < 1 or not _is_our_turn(tier, servers):
        return 0
    in_sample = max(1, round(excess / entries * len(sample.ttls_ms)))
    due_ms = sample.ttls_ms[in_sample - 1]
    removed = 0
    for names in tier.pages_of_all(servers):
        ttls_ms = _ask(servers, 'PTTL', names)
        gone = [name for name, ttl in zip(names, ttls_ms, strict=True) if 0 <= ttl <= due_ms]
        removed += tier.remove_names(gone[: max(0, round(excess) - removed)])
        if removed >= excess or time.monotonic() > until:
            break
    return removed


def _sample(servers, entries: int, names: list[bytes]) -> Sample:
    ttls_ms = sorted(ttl for ttl in _ask(servers, 'PTTL', names) if ttl >= 0)
    sizes = [size for size in _ask(servers, 'STRLEN', names) if size > 0]
    name_bytes = len(names[0]) if names else 0
    return Sample(
        entries if ttls_ms else 0,
        ttls_ms,
        (sum(sizes) / len(sizes) if sizes else 0) + name_bytes + ENTRY_BYTES,
    )


def _share_to_keep(sample: Sample, limits: Limits) -> float:
    if not sample.entries:
        return 1.0
    shares = [1.0]
    if limits.max_entries is not None:
        shares.append(limits.max_entries / sample.entries)
    if limits.max_bytes is not None:
        shares.append(limits.max_bytes / (sample.entries * sample.mean_bytes))
    share = min(shares)
    return share if share == 1 else share * (1 - ROOM)


def _ask(servers, command: str, names: list[bytes]) -> list[int]:
    """A number for each key; -3 for those that the server did not tell."""
    replies = []
    for part in slices(names, PIPELINE):
        replies += servers.ask_all(int, [(command, name) for name in part])
    return [reply if isinstance(reply, int) else -3 for reply in replies]


def _is_our_turn(tier, servers) -> bool:
    lock = ('SET', tier.name_of(LOCK_NAME), b'1', 'NX', 'PX', LOCK_MS)
    return servers.ask(bool, lock) is True
