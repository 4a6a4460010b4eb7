"""What a list-append history (``list_append.py``) says of its keys and sessions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import pairwise

# Of a list, an explanation shows this many of its last elements.
SHOWN_ELEMENTS = 6


@dataclass
class Read:
    """What a transaction saw of a key: ``base`` elements from others, then its own appends."""

    transaction: int
    key: Hashable
    values: list
    base: int


@dataclass
class Key:
    """What is known of one key; ``order``, the order of its writes, is the longest sound read."""

    name: Hashable
    writers: dict = field(default_factory=dict)
    types: set = field(default_factory=set)
    overwritten: set = field(default_factory=set)
    reads: list[Read] = field(default_factory=list)
    order: list = field(default_factory=list)

    def unread(self, committed: set[int]) -> list[int]:
        """Committed transactions with an append that the longest read does not hold, so it is later
        than all that it holds.
        """
        read = set(self.order)
        unread = {writer for value, writer in self.writers.items() if value not in read}
        return sorted(unread & committed)


def sessions(history: list[dict]) -> dict[Hashable, list[int]]:
    """The transactions of each session in order, without failed ones."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for transaction, tx in enumerate(history):
        if tx['end'] < tx['start']:
            raise ValueError(f'{label(transaction)} ends before it starts')
        if tx['outcome'] != 'failed':
            found[tx['session']].append(transaction)
    for session, transactions in found.items():
        transactions.sort(key=lambda transaction: history[transaction]['start'])
        known = [t for t in transactions if history[t]['outcome'] == 'ok']
        for before, after in pairwise(known):
            if history[before]['end'] > history[after]['start']:
                raise ValueError(f'session {session!r}: {before} and {after} overlap')
    return found


def label(transaction: int) -> str:
    return f'T{transaction}'


def show(values) -> str:
    if isinstance(values, list) and len(values) > SHOWN_ELEMENTS:
        shown = ', '.join(map(repr, values[-SHOWN_ELEMENTS:]))
        return f'[{len(values) - SHOWN_ELEMENTS} more, {shown}]'
    return repr(values)
