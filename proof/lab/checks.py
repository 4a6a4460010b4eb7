"""Invariants that hold for every answer of a database that is read while others write.

Each class is one invariant, told of every answer, safe to use from many threads.  ``checked``
counts the comparisons and ``wrong`` those that failed, so that a run can show that it looked at
something; ``anomalies`` keeps the first MAX_KEPT failures.  Keyword arguments that a caller adds to
an answer (who read, by which call) come back in the anomaly.

What may go wrong: versions must be numbers that only grow, one writer at a time for each key.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Mapping

# One broken entry fails thousands of reads, which nobody would read.
MAX_KEPT = 100


class Check:
    def __init__(self):
        self.anomalies: list[dict] = []
        self.checked = 0
        self.wrong = 0
        self._lock = threading.Lock()

    def _count(self, anomaly: dict | None, where: dict) -> None:
        with self._lock:
            self.checked += 1
            if anomaly is not None:
                self.wrong += 1
                if len(self.anomalies) < MAX_KEPT:
                    self.anomalies.append({'check': type(self).__name__, **anomaly, **where})


class Bank(Check):
    """Transfers between accounts keep the sum, so every answer must hold all accounts and that sum.

    :param accounts: all there are
    :param total: of their balances, in whole units: sums of floats would depend on their order
    """

    def __init__(self, accounts: Iterable[Hashable], total: int):
        super().__init__()
        self._accounts = frozenset(accounts)
        self._total = total

    def answer(self, balances: Mapping[Hashable, int], **where) -> None:
        self._count(self._difference(balances), where)

    def answer_sum(self, total: int, many: int, **where) -> None:
        """An answer that holds only the sum and the number of accounts."""
        right = (total, many) == (self._total, len(self._accounts))
        self._count(None if right else {'total': total, 'accounts': many}, where)

    def _difference(self, balances: Mapping[Hashable, int]) -> dict | None:
        if balances.keys() != self._accounts:
            missing, unexpected = self._accounts - balances.keys(), balances.keys() - self._accounts
            return {
                'missing': sorted(missing, key=repr),
                'unexpected': sorted(unexpected, key=repr),
            }
        odd = {key: value for key, value in balances.items() if type(value) is not int}
        if odd:
            return {'not whole': odd}
        total = sum(balances.values())
        return None if total == self._total else {'total': total, 'expected': self._total}


class Recency(Check):
    """A read that begins after a write was acknowledged must show that write or a later one.

    The writer calls ``acknowledged`` after its commit was confirmed; the reader asks for ``floor``
    before it sends its read and hands it to ``answer`` with what it got.
    """

    def __init__(self):
        super().__init__()
        self._newest: dict[Hashable, int] = {}

    def acknowledged(self, key: Hashable, version: int) -> None:
        with self._lock:
            self._newest[key] = max(version, self._newest.get(key, version))

    def floor(self, key: Hashable) -> int | None:
        """The newest version acknowledged so far, None if there is none."""
        with self._lock:
            return self._newest.get(key)

    def answer(
        self, key: Hashable, version: int | None, floor: int | None, ceiling=None, **where
    ) -> None:
        """
        :param version: None if the read did not find the key
        :param ceiling: what no answer may have shown yet, given where the reader can tell
        """
        anomaly = {'key': key, 'version': version, 'floor': floor}
        if version is not None and type(version) is not int:
            self._count(anomaly, where)
            return
        early = ceiling is not None and version is not None and version > ceiling
        stale = floor is not None and (version is None or version < floor)
        if early:
            anomaly['ceiling'] = ceiling
        self._count(anomaly if stale or early else None, where)


class Monotone(Check):
    """What a session has seen of a key, it never sees in an older version again."""

    def __init__(self):
        super().__init__()
        self._seen: dict[tuple[Hashable, Hashable], int] = {}

    def answer(self, session: Hashable, key: Hashable, version: int | None, **where) -> None:
        """
        To be called in the order in which the session got its answers.

        :param version: None if the read did not find the key
        """
        with self._lock:
            before = self._seen.get((session, key))
            back = before is not None and (version is None or version < before)
            if version is not None and not back:
                self._seen[session, key] = version
        anomaly = {'session': session, 'key': key, 'version': version, 'before': before}
        self._count(anomaly if back else None, where)
