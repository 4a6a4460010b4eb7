"""What the cache did with the reads of one request, for people who look at single requests.

The one idea: while a thread's :class:`Trail` is open, each read adds a line to it; where none is
open, which is nearly always, that costs one look at a thread-local attribute.  Whoever opened it
asks for the line that says most about the request, :meth:`Trail.telling`.

What may go wrong: a request makes very many reads.  Beyond :data:`MAX_READS` lines they are only
counted.
"""

from __future__ import annotations

import contextlib
import threading
import typing

MAX_READS = 1000


class Line(typing.NamedTuple):
    """One read.

    :param tier: 'l1', 'l2' or 'l3' of a hit; '' for a read that was computed
    :param reason: why it was computed, as in the figures
    :param duration_ms: what it took; 0 where that is not known
    """

    name: tuple[str, str]
    tier: str
    reason: str = ''
    duration_ms: float = 0.0
    age_s: float = 0.0
    saved_ms: float = 0.0


class Trail:
    """The reads of one request, in the order in which they ended."""

    def __init__(self):
        self.lines: list[Line] = []
        self.reads = 0
        self.hits = 0

    def add(self, line: Line) -> None:
        self.reads += 1
        self.hits += bool(line.tier)
        if self.reads <= MAX_READS:
            self.lines.append(line)

    def telling(self, name: tuple[str | None, str | None] = (None, None)) -> Line | None:
        """The read that was asked for, or else the slowest.

        :param name: model and method that the client has called
        :return: of several reads of that name the last that ended, which contains the others; None
            where nothing was read through the cache
        """
        asked = [line for line in self.lines if line.name == name]
        if asked:
            return asked[-1]
        return max(self.lines, key=lambda line: line.duration_ms, default=None)


class _Local(threading.local):
    trail: Trail | None = None


_local = _Local()


@contextlib.contextmanager
def recorded():
    """Within it, the reads of this thread leave their lines in the :class:`Trail` it yields."""
    before, _local.trail = _local.trail, Trail()
    try:
        yield _local.trail
    finally:
        _local.trail = before


def is_open() -> bool:
    """Whether somebody wants to know, in this thread."""
    return _local.trail is not None


def hit(
    name: tuple[str, str], tier: str, age_s: float, saved_ms: float, duration_ms: float
) -> None:
    """A tier answered."""
    if _local.trail is not None:
        _local.trail.add(Line(name, tier, '', duration_ms, age_s, saved_ms))


def miss(name: tuple[str, str], reason: str, duration_ms: float = 0.0) -> None:
    """The read is, or was, computed."""
    if _local.trail is not None:
        _local.trail.add(Line(name, '', reason, duration_ms))
