"""PostgreSQL snapshots as values that can be compared.

The one idea: a transaction sees exactly the transactions that had committed when its
snapshot was taken, and ``pg_current_snapshot()`` says which those are, so "does this
snapshot see everything that one saw?" is decidable without asking the server.

What may go wrong: on a hot standby the server does not list transactions in progress.
There two snapshots with the same bounds may still differ; see :mod:`versions`.
"""

from __future__ import annotations

import typing


class Snapshot(typing.NamedTuple):
    """What ``pg_current_snapshot()`` returns.

    :param xmin: every transaction below it has ended
    :param xmax: no transaction at or above it is visible
    :param running: transactions between the two that were still in progress

    Source: PostgreSQL documentation, "Transaction ID and Snapshot Information Functions".
    """

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read the text form ``xmin:xmax:xip,xip,…``.

        :raise ValueError: when the text has another form
        """
        xmin, xmax, running = text.split(':')
        running = running.split(',') if running else ()
        return cls(int(xmin), int(xmax), frozenset(map(int, running)))

    def sees(self, xid: int) -> bool:
        """Whether a transaction that committed is visible."""
        return xid < self.xmax and xid not in self.running

    def covers(self, other: Snapshot) -> bool:
        """Whether everything that ``other`` sees is visible here too."""
        return self.xmax >= other.xmax and not any(other.sees(xid) for xid in self.running)
