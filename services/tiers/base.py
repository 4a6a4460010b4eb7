"""What a tier is: get, set, delete, in one page.

The one idea: a tier is a place, not a policy.  It returns what was stored under a key or
``MISS``, and it never raises, because no read may fail for the sake of its cache.

What may go wrong is counted by kind in :attr:`Tier.faults`.  The log gets a line when a
server goes away or comes back, and when the count of any other kind reaches 1, 10, 100, …:
an administrator hears of it, the log file survives it.
"""

from __future__ import annotations

import abc
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..entry import Entry, to_bytes
from ..keys import EVERYTHING, Target, pattern_target
from ..miss import Miss

_logger = logging.getLogger(__name__)

EVER = float('inf')
"""Of entries to be removed: however new they are."""

Step = tuple[int, int]
"""How many keys a tier has looked at, about, and how many entries it has removed."""

PROBE_KEY = 'v1:probe'
"""Under which nothing is stored."""

_POWERS_OF_TEN = frozenset(10**exponent for exponent in range(12))


class Tier(abc.ABC):
    """A store of entries; all methods are thread-safe and do not raise.

    :ivar name: 'l1', 'l2' or 'l3'
    :ivar faults: how often what went wrong, by kind
    :ivar on_fault: called as ``on_fault(name, kind)`` for each fault, None for nobody
    :cvar finds_prefixes: whether it finds the keys that begin with a text without going through
        all keys
    """

    name = ''
    finds_prefixes = True

    def __init__(self):
        self.faults: Counter[str] = Counter()
        self.on_fault: Callable[[str, str], None] | None = None
        self._faults_lock = threading.Lock()

    @abc.abstractmethod
    def get(self, key: str) -> Entry | Miss:
        """The entry stored under ``key``; MISS if there is none, if it has expired, or if the
        tier failed."""

    @abc.abstractmethod
    def get_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        """The entries that there are, by key."""

    @abc.abstractmethod
    def set(self, entry: Entry) -> bool:
        """Store an entry in place of what its key holds.

        :return: whether it was stored; no if it has expired, is too large, or the tier failed
        """

    def set_many(self, entries: Sequence[Entry]) -> int:
        """Store entries; of two with one key the last one counts.

        :return: how many were stored
        """
        return sum(self.set(entry) for entry in entries)

    @abc.abstractmethod
    def delete(self, keys: Iterable[str], before: float = EVER) -> int:
        """Remove entries.

        :param before: only those created until then, in seconds since 1970, where the tier can
            tell without reading them (Redis cannot)
        :return: how many there were
        """

    @abc.abstractmethod
    def removing(self, target: Target, before: float = EVER) -> Iterator[Step]:
        """Remove entries in steps, each of which holds nobody up; the caller goes on with it
        when it likes, in any thread."""

    def removing_user(self, _uid: int, _before: float = EVER) -> Iterator[Step]:
        """Likewise what was computed for a user; no step where it would have to read all."""
        return iter(())

    def removing_entries(self, _wants: Callable[[Entry], object]) -> Iterator[Step]:
        """Likewise the entries that are ``wants(entry)``; no step where it would have to read
        all."""
        return iter(())

    @abc.abstractmethod
    def count(self, pattern: str) -> int | None:
        """About how many keys :meth:`removing` would look at; None is unknown."""

    def delete_pattern(self, pattern: str) -> int:
        """Remove every entry whose key, or name, matches a pattern with ``*``, ``?`` and
        ``[abc]``.

        :param pattern: one that :func:`~..keys.validate_pattern` accepts; otherwise its
            InvalidKey is raised, the only exception of this class
        :return: how many there were
        """
        return sum(removed for _looked_at, removed in self.removing(pattern_target(pattern)))

    def clear(self) -> int:
        """Remove every entry of this tier and of no other database.

        :return: how many there were
        """
        return sum(removed for _looked_at, removed in self.removing(EVERYTHING))

    @abc.abstractmethod
    def stats(self) -> dict:
        """What administrators see.

        :return: at least ``entries``, ``bytes``, ``max_entries``, ``max_bytes`` (None is
            unknown or unlimited), ``state`` (a word) and ``faults`` (by kind)
        """

    @property
    def is_up(self) -> bool:
        """Whether a request may ask it: a tier that has failed is tried again by the
        background thread, so that no request waits for it twice."""
        return True

    def is_up_for(self, _key: str) -> bool:
        """:attr:`is_up`, as far as it matters for a key: a tier may have several servers."""
        return self.is_up

    def probe(self) -> None:
        """Try again what has failed; for the background thread."""
        if not self.is_up:
            self.get(PROBE_KEY)

    def close(self) -> None:
        """Let go of connections; the tier may be used again and opens new ones."""
        return None  # most tiers have none

    def _pack(self, entry: Entry) -> bytes | None:
        """The entry as bytes; None, and a fault, for a dependency that cannot be written."""
        try:
            return to_bytes(entry)
        except (ValueError, OverflowError):
            self._fault('unserializable', entry.key)
            return None

    def _fault(self, kind: str, detail: str = '', loud: bool | None = None) -> None:
        """Count a fault.

        :param detail: for the log; must not hold credentials
        :param loud: whether to log it, None for the powers of ten
        """
        with self._faults_lock:
            self.faults[kind] += 1
            count = self.faults[kind]
        if self.on_fault is not None:
            self.on_fault(self.name, kind)
        if count in _POWERS_OF_TEN if loud is None else loud:
            _logger.warning(
                "Tiered Cache %s: %s%s (%d so far)",
                self.name.upper(),
                kind,
                f', {detail}' if detail else '',
                count,
            )


def slices(items: Sequence, size: int) -> Iterator[Sequence]:
    """Cut a sequence into pieces of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
