"""L1: entries in the memory of this process.

The one idea: a ``cachetools`` cache counts one thing, and its ``maxsize`` is bytes here; a
small mixin adds the limit by entries, and takes note of what had to go.

Bytes are what Python allocates, so that 64 MB means 64 MB: ``entry.size_bytes`` includes the
places of an entry in the dictionaries of a cache.  Measured with tracemalloc, 3,000 to 100,000
entries, each policy: 300 bytes with 8 dependencies take 1,732 to 1,857 bytes and count as
1,801; 3,000 bytes with 20 take 5,728 to 5,843 and count as 5,821.  Entries are immutable by
convention and handed out without a copy; callers decode ``payload``, which makes a fresh value
each time.

What may go wrong: nothing fails here.  An entry that is larger than the whole tier is
refused.  One lock guards all; it is held for about a microsecond, and never while a callback
runs, so a callback may use the tier.
"""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import cachetools

from ..entry import Entry
from ..keys import Target
from ..miss import MISS, Miss
from .base import Step, Tier


class _Limited:
    """Mixed into a cachetools cache whose ``maxsize`` is bytes: limits the entries too, and
    keeps what was evicted or had expired until :meth:`collect`."""

    def __init__(self, max_entries: int, clock, **kwargs):
        super().__init__(**kwargs)
        self._max_entries = max_entries
        self._evicted: list[tuple[str, Entry]] = []
        self._expired: list[tuple[str, Entry]] = []

    def put(self, entry: Entry) -> None:
        while len(self) >= self._max_entries and entry.key not in self:
            self.popitem()
        self[entry.key] = entry

    def popitem(self):
        item = super().popitem()
        self._evicted.append(item)
        return item

    def drop_expired(self, key: str) -> None:
        """Remove an entry that was found to have expired."""
        self._expired.append((key, self.pop(key)))

    def sweep(self) -> None:
        """Remove all that has expired, if the policy keeps track of that."""

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


class _TTL(_Limited, cachetools.TLRUCache):
    """Removes what has expired before it evicts what was not used for longest."""

    def __init__(self, clock, **kwargs):
        super().__init__(
            clock=clock, timer=clock, ttu=lambda _key, entry, _now: entry.expires, **kwargs
        )

    def put(self, entry):
        # Time stands still here, or the last entry could expire between len() and popitem(),
        # which would then find nothing.
        with self.timer:
            return super().put(entry)

    def expire(self, time=None):
        expired = cachetools.TLRUCache.expire(self, time)
        self._expired.extend(expired or ())  # None before cachetools 5.5
        return expired

    def sweep(self):
        self.expire()


POLICIES = {'lru': _LRU, 'lfu': _LFU, 'fifo': _FIFO, 'ttl': _TTL}

_SIZE_BYTES = operator.attrgetter('size_bytes')


class MemoryTier(Tier):
    """The entries of one process and database.

    :param max_entries: how many entries it may hold; 0 turns the tier off
    :param max_bytes: how much memory it may take; 0 turns the tier off
    :param policy: what goes first when it is full: 'lru', 'lfu', 'fifo' or 'ttl'
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
        self._evictions = self._expirations = 0
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
                cache.sweep()
            gone = cache.collect()
        self._tell(*gone)
        return MISS

    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        found = ((key, self.get(key)) for key in keys)
        return {key: entry for key, entry in found if entry is not MISS}

    def set(self, entry: Entry) -> bool:
        fits = self._on and entry.size_bytes <= self._max_bytes
        stored = fits and entry.expires > self._clock()
        with self._lock:
            if stored:
                self._cache.put(entry)
            else:
                # The older entry under this key has been replaced, if only by nothing.
                self._cache.pop(entry.key, None)
            gone = self._cache.collect()
        self._tell(*gone)
        return stored

    def delete(self, keys: Iterable[str]) -> int:
        with self._lock:
            gone = [self._cache.pop(key, None) for key in keys]
        return len(gone) - gone.count(None)

    def removing(self, target: Target) -> Iterator[Step]:
        with self._lock:
            keys = list(self._cache)
        yield len(keys), self.delete(list(filter(target.wants, keys)))

    def removing_user(self, uid: int) -> Iterator[Step]:
        return self.removing_entries(lambda entry: entry.uid == uid)

    def removing_entries(self, wants: Callable[[Entry], object]) -> Iterator[Step]:
        peek = cachetools.Cache.__getitem__  # to look at an entry is no use of it
        with self._lock:
            entries = [peek(self._cache, key) for key in self._cache]
        yield len(entries), self.delete([entry.key for entry in entries if wants(entry)])

    def count(self, pattern: str) -> int | None:
        return len(self._cache)

    def clear(self) -> int:
        with self._lock:
            old, self._cache = self._cache, self._new_cache()
        return len(old)

    def stats(self) -> dict:
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
            'policy': self._policy,
            'evicted': self._evictions,
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
