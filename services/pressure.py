"""Memory pressure: L1 gives way before Odoo has to recycle the worker.

The one idea: the size of the process is compared with its limit by the background thread, never
in a request.  From SHED_AT on, the worst quarter of L1 goes; from HALVE_AT on, L1 may only grow
to half of its limit, until the pressure is over.  Each engine looks for itself: all of them see
the same process, and each sheds its part.

What counts is what Odoo counts.  Odoo 19 on Linux compares the *virtual* size of a process with
``limit_memory_soft`` (``odoo.service.server.memory_info``), a gevent process with
``limit_memory_soft_gevent`` where that is set; 0 is no limit.  A limit of our own
(``memory_limit_mb``) is for containers and servers without Odoo's limit, and is compared with
the *resident* size, which is what their memory controllers count.

The virtual size does not grow smoothly: malloc gives a thread its memory in heaps of HEAP_BYTES.
So a process that has no room left for one more heap is treated as one at HALVE_AT; with Odoo's
default limit of 2 GB that changes nothing.

What may go wrong: memory that is freed does not go back to the operating system.  Python and
malloc use it again for the next entries, and the size stays where it is.  So the same size is
acted upon once; shedding is repeated when the size has grown by GROWN beyond it.  And a halved
L1 stays halved as long as the size does, even if that is for the life of the process.
"""

from __future__ import annotations

import os
import typing

import psutil

SHED_AT = 0.80
HALVE_AT = 0.90
OVER_AT = 0.75
"""Shares of the limit.  The last is lower than the first, so that L1 does not go to and fro."""

SHED_SHARE = 0.25
"""Of L1's bytes."""

GROWN = 0.01
"""Share of the limit by which the size must have grown before it is acted upon again."""

LEAST_SHARE = 1 / 64
"""L1's limit is halved no further than to this."""

AT_ONCE_SHARE = 1 / 8
"""An L1 that holds less is not what makes the process large."""

HEAP_BYTES = 64 * 2**20
"""By so much the virtual size of a process with threads grows at once (glibc, malloc/arena.c:
HEAP_MAX_SIZE on 64-bit systems); reserved, not used."""


class Size(typing.NamedTuple):
    """A size of this process and the limit it is compared with, in bytes.

    :ivar step_bytes: how much it may grow by at once
    """

    used_bytes: int
    limit_bytes: int
    step_bytes: int = 0

    @property
    def share(self) -> float:
        return self.used_bytes / self.limit_bytes

    @property
    def is_last_step(self) -> bool:
        """Whether the next step exceeds the limit."""
        return self.used_bytes + self.step_bytes > self.limit_bytes


def sizes(own_limit_bytes: int) -> list[Size]:
    """What this process may not exceed, and how large it is.

    :param own_limit_bytes: limit of the resident size, 0 is none
    """
    found = []
    if limit_bytes := odoo_limit_bytes():
        from odoo.service.server import memory_info  # noqa: PLC0415  only a server has limits

        used_bytes = memory_info(psutil.Process(os.getpid()))
        found.append(Size(used_bytes, limit_bytes, HEAP_BYTES))
    if own_limit_bytes:
        found.append(Size(psutil.Process(os.getpid()).memory_info().rss, own_limit_bytes))
    return found


def odoo_limit_bytes() -> int:
    """Above which Odoo recycles this process; 0 is no limit."""
    import odoo  # noqa: PLC0415
    from odoo.tools import config  # noqa: PLC0415

    gevent_bytes = odoo.evented and config['limit_memory_soft_gevent']
    return int(gevent_bytes or config['limit_memory_soft'] or 0)


class Pressure:
    """What one engine does about it.

    :param measure: ``measure(own_limit_bytes)``, see :func:`sizes`
    :ivar level: '' for none, 'shed' or 'halved'
    :ivar sheds: how often L1 had to give way
    """

    def __init__(self, measure=sizes):
        self._measure = measure
        self._mark = 0.0
        self._share = 1.0
        self.level = ''
        self.sheds = 0
        self.size: Size | None = None

    def look(self, l1, own_limit_bytes: int) -> str:
        """Measure, and make L1 give way.

        :param l1: the :class:`.tiers.memory.MemoryTier`, or None
        :return: what has changed: 'shed', 'halved', 'over' or '' for nothing
        """
        self.size = max(self._measure(own_limit_bytes), key=lambda size: size.share, default=None)
        change = self._judge(self.size or Size(0, 1))
        if change == 'halved':
            self._halve(l1)
        if l1 is not None:
            if change == 'shed':
                l1.shed(SHED_SHARE)
            l1.restrict(self._share)
        return change

    def _halve(self, l1) -> None:
        """Lower the limit to a half; to a quarter or an eighth where L1 would not feel it."""
        held = l1.held_share if l1 is not None else 0.0
        self._share = max(self._share / 2, LEAST_SHARE)
        while held and held <= self._share > AT_ONCE_SHARE:
            self._share /= 2

    def _judge(self, size: Size) -> str:
        share = size.share
        due = 'halved' if share >= HALVE_AT or size.is_last_step else ''
        due = due or ('shed' if share >= SHED_AT else '')
        if share < OVER_AT and not due:
            before, self.level = self.level, ''
            self._share, self._mark = 1.0, 0.0
            return 'over' if before else ''
        rises = due == 'halved' and self.level == 'shed'
        if not due or (share < self._mark + GROWN and not rises):
            return ''
        self._mark = share
        self.sheds += 1
        if due == 'halved' or not self.level:
            self.level = due
        return due

    def stats(self) -> dict:
        """For administrators: ``level``, ``sheds``, ``used_bytes`` and ``limit_bytes`` (None
        without a limit), ``l1_share`` (what L1 may take of its limit)."""
        return {
            'level': self.level,
            'sheds': self.sheds,
            'used_bytes': self.size and self.size.used_bytes,
            'limit_bytes': self.size and self.size.limit_bytes,
            'l1_share': self._share,
        }
