"""L1: entries in the memory of this process.

The one idea: a ``cachetools`` cache counts one thing, and its ``maxsize`` is bytes here; a
small mixin adds the limit by entries, and takes note of what had to go.  The limit by bytes can
be lowered for a while (:meth:`MemoryTier.restrict`), when the process runs out of memory.

Bytes are what Python allocates, so that 64 MB means 64 MB: ``entry.size_bytes`` includes the
places of an entry in the dictionaries of a cache.  Measured with tracemalloc, 3,000 to 30,000
entries, each policy, tiers that were filled, that had evicted, and in which all was replaced twice:
300 bytes with 8 dependencies take 1,739 to 1,933 bytes and count as 1,831; 3,000 bytes with 20
take 5,735 to 5,802 and count as 5,851.

Entries are immutable by convention and handed out without a copy; callers decode ``payload``,
which makes a fresh value each time.

An entry whose time is over is removed when somebody asks for it, and by :meth:`MemoryTier.sweep`
when nobody does.

What may go wrong: nothing fails here.  An entry that is larger than the whole tier is
refused.  One lock guards all; it is held for some microseconds, by the background for a
millisecond, and never while a callback runs, so a callback may use the tier.
"""

from __future__ import annotations

import heapq
import operator
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import cachetools

from ..entry import Entry
from ..keys import Target
from ..miss import MISS, Miss
from .base import EVER, Step, Tier, slices
from .greedy_dual import GreedyDualCache

SPARE_DATES = 64
"""The list of dates of expiry is made anew when it holds a quarter more than there are entries
and so many more."""

SLICE_ENTRIES = 500
"""Swept or evicted under the lock at a time, by the background thread: 0.1 ms or 1 ms, for which
a read of another thread waits."""


class _Limited:
    """Mixed into a cachetools cache whose ``maxsize`` is bytes: limits the entries too, and
    keeps what was evicted or had expired until :meth:`collect`."""

    def __init__(self, max_entries: int, clock, **kwargs):
        super().__init__(**kwargs)
        self._clock = clock
        self._max_entries = max_entries
        self._evicted: list[tuple[str, Entry]] = []
        self._expired: list[tuple[str, Entry]] = []

    def put(self, entry: Entry, max_bytes: float) -> None:
        """Store an entry.

        :param max_bytes: what all entries may take together, at most ``maxsize``
        """
        while len(self) >= self._max_entries and entry.key not in self:
            self.popitem()
        if max_bytes < self.maxsize:
            self.shrink(max(0, max_bytes - entry.size_bytes))
        self[entry.key] = entry

    def shrink(self, max_bytes: float) -> bool:
        """Evict until the entries take no more than so much, or SLICE_ENTRIES have gone.

        :return: whether they take no more
        """
        for _entry in range(SLICE_ENTRIES):
            if self.currsize <= max_bytes or not len(self):
                return True
            self.popitem()
        return self.currsize <= max_bytes

    def popitem(self):
        item = super().popitem()
        self._evicted.append(item)
        return item

    def drop_expired(self, key: str) -> None:
        """Remove an entry that was found to have expired."""
        self._expired.append((key, self.pop(key)))

    def expire_old(self) -> None:
        """Remove all that has expired, if the policy keeps track of that."""

    def drop_if_expired(self, keys: Iterable[str], now: float) -> None:
        """Remove those that have expired; for the others it is no use."""
        peek = cachetools.Cache.__getitem__
        for key in keys:
            try:
                expired = peek(self, key).expires <= now
            except KeyError:  # it went meanwhile
                continue
            if expired:
                self.drop_expired(key)

    def collect(self) -> tuple:
        """What went since the last call, as (key, entry): a list of the evicted, a list of
        the expired."""
        if not self._evicted and not self._expired:
            return (), ()
        gone = self._evicted, self._expired
        self._evicted, self._expired = [], []
        return gone


class _LRU(_Limited, cachetools.LRUCache):
    """Evicts what was not used for longest."""


class _LFU(_Limited, cachetools.LFUCache):
    """Evicts what was used least often."""


class _FIFO(_Limited, cachetools.FIFOCache):
    """Evicts what was stored first."""


class _TTL(_Limited, cachetools.LRUCache):
    """Removes what has expired before it evicts what was not used for longest.

    Not ``cachetools.TLRUCache``, which keeps as many replaced items as there are entries.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._due: list[tuple[float, str]] = []  # a heap; some have been replaced since

    def put(self, entry, max_bytes):  # pylint: disable=missing-return
        self.expire_old()
        super().put(entry, max_bytes)
        heapq.heappush(self._due, (entry.expires, entry.key))
        if len(self._due) > 1.25 * len(self) + SPARE_DATES:
            peek = cachetools.Cache.__getitem__
            self._due = [(peek(self, key).expires, key) for key in self]
            heapq.heapify(self._due)

    def expire_old(self):
        now, due, present = self._clock(), self._due, []
        while due and due[0][0] <= now:
            present.append(heapq.heappop(due)[1])
        self.drop_if_expired(present, now)


class _Cost(_Limited, GreedyDualCache):
    """Evicts what saves least computing time per byte."""

    def __init__(self, **kwargs):
        super().__init__(getcost=_COST_MS, **kwargs)


POLICIES = {'lru': _LRU, 'lfu': _LFU, 'fifo': _FIFO, 'ttl': _TTL, 'cost': _Cost}

_SIZE_BYTES = operator.attrgetter('size_bytes')
_COST_MS = operator.attrgetter('cost_ms')


# to look at an entry is no use of it
_peek = cachetools.Cache.__getitem__


class MemoryTier(Tier):
    """The entries of one process and database.

    :param max_entries: how many entries it may hold; 0 turns the tier off
    :param max_bytes: how much memory it may take; 0 turns the tier off
    :param policy: what goes first when it is full: 'lru', 'lfu', 'fifo', 'ttl' or 'cost'
    :param clock: epoch seconds, compared with ``entry.expires``
    :param on_evict: called as ``on_evict(key, entry)`` for each entry that had to make room
    :param on_expire: called as ``on_expire(key, entry)`` for each entry that was removed
        because its time was over
    :raise ValueError: for an unknown policy
    """

    name = 'l1'
    finds_prefixes = False

    def __init__(
        self,
        max_entries: int,
        max_bytes: int,
        policy: str = 'lru',
        clock=time.time,
        *,
        on_evict: Callable[[str, Entry], object] | None = None,
        on_expire: Callable[[str, Entry], object] | None = None,
    ):
        super().__init__()
        if policy not in POLICIES:
            raise ValueError(f"unknown policy {policy!r}, choose one of {', '.join(POLICIES)}")
        self._max_entries = max(0, int(max_entries))
        self._max_bytes = max(0, int(max_bytes))
        self._policy = policy
        self._clock = clock
        self.on_evict = on_evict
        self.on_expire = on_expire
        self._evictions = self._expirations = self._shed = 0
        self._share = 1.0
        self._on = bool(self._max_entries and self._max_bytes)
        self._lock = threading.Lock()
        self._cache = self._new_cache()

    def _new_cache(self) -> _Limited:
        return POLICIES[self._policy](
            clock=self._clock,
            max_entries=self._max_entries,
            maxsize=self._max_bytes,
            getsizeof=_SIZE_BYTES,
        )

    def get(self, key: str) -> Entry | Miss:
        with self._lock:
            cache = self._cache
            try:
                entry = cache[key]
                if entry.expires > self._clock():
                    return entry
                cache.drop_expired(key)
            except KeyError:
                cache.expire_old()
            gone = cache.collect()
        self._tell(*gone)
        return MISS

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        found = ((key, self.get(key)) for key in keys)
        return {key: entry for key, entry in found if entry is not MISS}

    def has_newer(self, entry: Entry) -> bool:
        """Whether another entry under its key was computed at the same time or later."""
        with self._lock:
            if entry.key not in self._cache:
                return False
            return _peek(self._cache, entry.key).created >= entry.created

    def set(self, entry: Entry) -> bool:
        max_bytes = self._max_bytes * self._share
        fits = self._on and entry.size_bytes <= max_bytes
        stored = fits and entry.expires > self._clock()
        with self._lock:
            if stored:
                self._cache.put(entry, max_bytes)
            else:
                # The older entry under this key has been replaced, if only by nothing.
                self._cache.pop(entry.key, None)
            gone = self._cache.collect()
        self._tell(*gone)
        return stored

    def delete(self, keys: Iterable[str], before: float = EVER) -> int:
        gone = 0
        with self._lock:
            for key in keys:
                if key in self._cache and _peek(self._cache, key).created <= before:
                    del self._cache[key]
                    gone += 1
        return gone

    def removing(self, target: Target, before: float = EVER) -> Iterator[Step]:
        with self._lock:
            keys = list(self._cache)
        yield len(keys), self.delete(list(filter(target.wants, keys)), before)

    def removing_user(self, uid: int, before: float = EVER) -> Iterator[Step]:
        return self.removing_entries(lambda entry: entry.uid == uid and entry.created <= before)

    def entries(self) -> list[Entry]:
        """All of them, to look at."""
        with self._lock:
            return [_peek(self._cache, key) for key in self._cache]

    def removing_entries(self, wants: Callable[[Entry], object]) -> Iterator[Step]:
        entries = self.entries()
        yield len(entries), self.delete([entry.key for entry in entries if wants(entry)])

    def count(self, pattern: str) -> int | None:
        return len(self._cache)

    def clear(self) -> int:
        with self._lock:
            old, self._cache = self._cache, self._new_cache()
        return len(old)

    def sweep(self) -> int:
        """Remove what has expired although nobody asked for it; not in a request.

        :return: how many there were
        """
        before = self._expirations
        with self._lock:
            self._cache.expire_old()
            keys = list(self._cache)
        for part in ((), *slices(keys, SLICE_ENTRIES)):
            with self._lock:
                self._cache.drop_if_expired(part, self._clock())
                gone = self._cache.collect()
            self._tell(*gone)
        return self._expirations - before

    def shed(self, share: float) -> int:
        """Evict what the policy thinks least of.

        :param share: of the bytes that the entries take
        :return: how many entries went
        """
        with self._lock:
            max_bytes = self._cache.currsize * (1 - share)
        return self._give_way(max_bytes)

    def restrict(self, share: float) -> int:
        """Take no more than a share of ``max_bytes`` from now on.

        :param share: 1 lifts the restriction
        :return: how many entries had to go
        """
        with self._lock:
            self._share = share
        return self._give_way(self._max_bytes * share) if share < 1 else 0

    @property
    def held_share(self) -> float:
        """Of ``max_bytes``, how much the entries take."""
        return self._cache.currsize / self._max_bytes if self._on else 0.0

    def _give_way(self, max_bytes: float) -> int:
        count, done = 0, False
        while not done:
            with self._lock:
                before = len(self._cache)
                done = self._cache.shrink(max_bytes)
                count += before - len(self._cache)
                gone = self._cache.collect()
            self._tell(*gone)
        self._shed += count
        return count

    def stats(self) -> dict:
        """See :meth:`Tier.stats`.

        :return: also ``policy``, ``evicted`` (entries that had to make room), ``shed`` (those
            of them that went because the process ran out of memory), ``expired``, and
            ``allowed_bytes``, which is less than ``max_bytes`` while it does
        """
        with self._lock:
            entries, size_bytes = len(self._cache), self._cache.currsize
            gone = self._cache.collect()
        self._tell(*gone)
        return {
            'state': 'on' if self._on else 'off',
            'entries': entries,
            'bytes': size_bytes,
            'max_entries': self._max_entries,
            'max_bytes': self._max_bytes,
            'allowed_bytes': int(self._max_bytes * self._share),
            'policy': self._policy,
            'evicted': self._evictions,
            'shed': self._shed,
            'expired': self._expirations,
            'faults': dict(self.faults),
        }

    def _tell(self, evicted, expired) -> None:
        """Count what went; outside the lock, so that a callback may use the tier."""
        self._evictions += len(evicted)
        self._expirations += len(expired)
        for callback, items in ((self.on_evict, evicted), (self.on_expire, expired)):
            if callback is not None:
                for key, entry in items:
                    callback(key, entry)
