"""Histories of a small imaginary database with snapshot isolation, to test ``list_append.py`` with.

Transactions take their snapshot some time after they start and commit some time before they end,
unless somebody else has appended to one of their keys since their snapshot.  Some roll back; of
some the outcome is lost, and they may commit long after their session went on.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

# Most lists stay this short, so that checking is about transactions, not about long lists.
APPENDS_PER_KEY = 40
FINAL_READERS = 2


@dataclass
class Running:
    """A transaction, with the lengths of its lists in its snapshot once it has one."""

    entry: dict
    session: int
    lengths: dict[str, int] | None = None
    decided: bool = False


@dataclass
class Database:
    random: random.Random
    lists: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def lengths(self, transaction: Running) -> dict[str, int]:
        return {key: len(self.lists[key]) for _kind, key, _value in transaction.entry['ops']}

    def decide(self, transaction: Running, roll_back: bool) -> None:
        """Fills in the reads, and commits if nobody else has written the same keys meanwhile."""
        own: dict[str, list[int]] = {}
        for op in transaction.entry['ops']:
            kind, key, value = op
            if kind == 'append':
                own.setdefault(key, []).append(value)
            else:
                op[2] = self.lists[key][: transaction.lengths[key]] + own.get(key, [])
        transaction.decided = True
        current = self.lengths(transaction)
        if roll_back or any(current[key] != transaction.lengths[key] for key in own):
            transaction.entry['outcome'] = 'failed'
            return
        transaction.entry['outcome'] = 'ok'
        for key, values in own.items():
            self.lists[key] += values


def history(
    seed: int,
    *,
    transactions: int = 1000,
    sessions: int = 8,
    keys: int = 6,
    rolled_back: float = 0.05,
    unknown: float = 0.03,
) -> list[dict]:
    """A history without anomalies that ends with reads of everything, two of each.

    :param keys: that are in use at a time
    :param rolled_back: share of transactions that do so although they need not
    :param unknown: share whose outcome the session does not wait for
    """
    chance = random.Random(seed)
    database, found, running, clock, value = Database(chance), [], {}, 0.0, 0
    background: list[Running] = []
    while len(found) < transactions or running or background:
        clock += 1
        session = chance.randrange(sessions)
        if session not in running and len(found) < transactions:
            ops, value = _operations(chance, keys, value)
            entry = {'session': session, 'start': clock, 'end': clock, 'outcome': '', 'ops': ops}
            found.append(entry)
            running[session] = Running(entry, session)
        elif session in running:
            transaction = running[session]
            if chance.random() < unknown / 3:
                transaction.entry['end'] = clock
                background.append(running.pop(session))
            elif transaction.decided:
                transaction.entry['end'] = clock
                del running[session]
            else:
                _advance(database, transaction, rolled_back)
        if background and (chance.random() < 0.1 or len(found) == transactions):
            _advance_unwatched(database, background, rolled_back)
    for reader in range(FINAL_READERS):
        ops = [['read', key, list(values)] for key, values in database.lists.items()]
        times = {'start': clock + 1, 'end': clock + 2}
        found.append({'session': sessions + reader, **times, 'outcome': 'ok', 'ops': ops})
    return found


def _operations(chance: random.Random, keys: int, value: int) -> tuple[list, int]:
    """Half of the transactions only read; keys are given up for new ones as their lists grow."""
    ops, reads_only = [], chance.random() < 0.5
    for _ in range(chance.randint(1, 4)):
        key = f'k{value // (keys * APPENDS_PER_KEY) * keys + chance.randrange(keys)}'
        if reads_only or chance.random() < 0.5:
            ops.append(['read', key, None])
        else:
            value += 1
            ops.append(['append', key, value])
    return ops, value


def _advance(database: Database, transaction: Running, rolled_back: float) -> None:
    if transaction.lengths is None:
        transaction.lengths = database.lengths(transaction)
    else:
        database.decide(transaction, database.random.random() < rolled_back)


def _advance_unwatched(database: Database, background: list[Running], rolled_back: float) -> None:
    transaction = database.random.choice(background)
    if not transaction.decided:
        _advance(database, transaction, rolled_back)
    if transaction.decided:
        background.remove(transaction)
        transaction.entry['outcome'] = 'unknown'
        for op in transaction.entry['ops']:
            if op[0] == 'read':
                op[2] = None
