"""Checks a history of transactions that append to lists and read them for anomalies that snapshot
isolation forbids.

The method is that of Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
Observations" (VLDB 2020).  The one idea: every value is appended at most once per key, so a list
that was read tells the whole order of the writes before it, and so who depends on whom.  What a
single read can prove is checked read by read; the rest are cycles of dependencies (``cycles.py``).

A history is a list of transactions::

    {"session": 3, "start": 12.1, "end": 12.4, "outcome": "ok",
     "ops": [["append", "x", 7], ["read", "x", [1, 7]], ["read", "y", None]]}

A "failed" transaction surely did not commit, an "unknown" one may have; what it read is ignored.
``start`` is taken before the transaction is asked for, ``end`` after its outcome is known, on one
clock for all sessions (on one machine, ``time.monotonic``).  A read of None is one whose answer
is not known.  A session does one thing after the other; only an unknown transaction may still run
when its session goes on.

What may go wrong: appends must be updates of one row per key, so that two at once conflict.  A list
put together from many rows has no such order, and the checker would report what is allowed.  End a
run with reads of all keys: what nobody read cannot be judged.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from .cycles import forbidden_cycles
from .dependencies import Dependencies
from .observed import Key, Read, label, sessions, show

GARBAGE = 'garbage read'
DUPLICATE = 'duplicate'
INTERNAL = 'internal inconsistency'
INCOMPATIBLE = 'incompatible orders'
G1A = 'G1a aborted read'
G1B = 'G1b intermediate read'
DIRTY_UPDATE = 'dirty update'
LOST_UPDATE = 'lost update'
STALE = 'stale read'
NON_MONOTONIC = 'non-monotonic read'


@dataclass(frozen=True)
class Anomaly:
    """``transactions`` are positions in the history."""

    name: str
    transactions: tuple[int, ...]
    explanation: str

    def __str__(self):
        return f'{self.name}: {self.explanation}'


def check(history: list[dict], *, realtime: bool = True, per_session: bool = True) -> list[Anomaly]:
    """All anomalies; of cycles, the shortest of every set of transactions entangled in cycles.

    :param realtime: a transaction must see what was acknowledged before it began (strong snapshot
        isolation).  Switch off where reads come from a replica that may lag behind.
    :param per_session: a session must see its own earlier transactions, and never go back in time.
    :raise ValueError: the history breaks the format, so nothing could be concluded from it.
    """
    return _Check(history, realtime, per_session).anomalies()


class _Check:
    def __init__(self, history: list[dict], realtime: bool, per_session: bool):
        self._history = history
        self._realtime, self._per_session = realtime, per_session
        self._anomalies: list[Anomaly] = []
        self._keys: dict[Hashable, Key] = {}
        self._committed = {i for i, tx in enumerate(history) if tx['outcome'] == 'ok'}
        self._sessions = sessions(history)

    def anomalies(self) -> list[Anomaly]:
        self._collect_appends()
        for transaction in sorted(self._committed):
            self._collect_reads(transaction)
        for key in self._keys.values():
            self._find_order(key)
        for key in self._keys.values():
            self._committed.update(
                key.writers[value] for value in key.order if self._outcome(key, value) != 'failed'
            )
        for key in self._keys.values():
            self._check_aborted(key)
            self._check_own_order(key)
            self._check_intermediate(key)
            self._check_lost_updates(key)
            if self._realtime:
                self._check_stale(key)
        if self._per_session:
            self._check_monotonic()
        found = Dependencies(self._history, self._keys, self._committed, self._sessions)
        graph = found.graph(realtime=self._realtime, per_session=self._per_session)
        for cycle in forbidden_cycles(graph):
            transactions = [edge.source for edge in cycle.edges]
            self._report(cycle.name, transactions, found.explain(cycle))
        return self._anomalies

    def _report(self, name: str, transactions, explanation: str) -> None:
        self._anomalies.append(Anomaly(name, tuple(transactions), explanation))

    def _outcome(self, key: Key, value) -> str:
        return self._history[key.writers[value]]['outcome']

    # ---- what single transactions show ---------------------------------------------------------

    def _collect_appends(self) -> None:
        for transaction, tx in enumerate(self._history):
            if tx['outcome'] not in ('ok', 'failed', 'unknown'):
                raise ValueError(f"{label(transaction)}: outcome {tx['outcome']!r}")
            last: dict[Hashable, object] = {}
            for kind, name, value in tx['ops']:
                key = self._key(name)
                if kind == 'append':
                    if value in key.writers:
                        raise ValueError(f'{value!r} is appended to {name!r} twice')
                    key.writers[value] = transaction
                    key.types.add(type(value))
                    if name in last:
                        key.overwritten.add(last[name])
                    last[name] = value
                elif kind != 'read':
                    raise ValueError(f'{label(transaction)}: operation {kind!r}')

    def _key(self, name: Hashable) -> Key:
        if name not in self._keys:
            self._keys[name] = Key(name)
        return self._keys[name]

    def _collect_reads(self, transaction: int) -> None:
        reads: dict[Hashable, Read] = {}
        own: dict[Hashable, list] = defaultdict(list)
        coming: dict[Hashable, list] = defaultdict(list)
        ops = self._history[transaction]['ops']
        for kind, name, value in ops:
            if kind == 'append':
                coming[name].append(value)
        for kind, name, value in ops:
            if kind == 'append':
                own[name].append(coming[name].pop(0))
            elif value is not None and self._is_sound(transaction, name, value):
                self._compare_with_own(transaction, name, value, own[name], coming[name], reads)
        for read in reads.values():
            self._keys[read.key].reads.append(read)

    def _is_sound(self, transaction: int, name: Hashable, values) -> bool:
        """Whether it is a list of the right types; ``_find_order`` looks at its elements."""
        key = self._keys[name]
        if isinstance(values, list) and key.types.issuperset(map(type, values)):
            return True
        self._report(GARBAGE, [transaction], f'{label(transaction)} read {name!r}: {show(values)}')
        return False

    def _compare_with_own(self, transaction, name, values, own, coming, reads) -> None:
        known = reads.get(name)
        if known is None:
            base = len(values) - len(own)
            early = [value for value in coming if value in values]
            if base >= 0 and values[base:] == own and not early:
                reads[name] = Read(transaction, name, values, base)
                return
            expected = f'{own!r} at the end and nothing of {coming!r}'
        else:
            wanted = known.values[: known.base] + own
            if values == wanted:
                known.values = values
                return
            expected = show(wanted)
        self._report(
            INTERNAL,
            [transaction],
            f'{label(transaction)} read {name!r}: {show(values)}, but from what it did and read '
            f'before, {expected} follows',
        )

    # ---- the order of the writes of a key ------------------------------------------------------

    def _find_order(self, key: Key) -> None:
        """The longest read without garbage or duplicates is the order; all others must begin it."""
        key.reads.sort(key=lambda read: -len(read.values))
        longest, agreeing = None, []
        for read in key.reads:
            if longest and longest.values[: len(read.values)] == read.values:
                agreeing.append(read)
            elif self._report_elements(key, read):
                continue
            elif longest is None:
                longest = read
                agreeing.append(read)
            else:
                self._report_incompatible(longest, read)
        key.reads = agreeing
        key.order = longest.values if longest else []

    def _report_elements(self, key: Key, read: Read) -> bool:
        """Garbage and duplicates; if there are any, the read is of no use as an order."""
        garbage = [value for value in read.values if value not in key.writers]
        seen: set = set()
        duplicates = {value for value in read.values if value in seen or seen.add(value)}
        for name, values in ((GARBAGE, garbage), (DUPLICATE, sorted(duplicates, key=repr))):
            if values:
                self._report(
                    name,
                    [read.transaction],
                    f'{label(read.transaction)} read {key.name!r}: {show(read.values)} with '
                    f"{show(values)}, {'appended by nobody' if name == GARBAGE else 'twice'}",
                )
        return bool(garbage or duplicates)

    def _report_incompatible(self, longest: Read, read: Read) -> None:
        at = next(i for i, v in enumerate(read.values) if v != longest.values[i])
        self._report(
            INCOMPATIBLE,
            [longest.transaction, read.transaction],
            f'after {at} equal elements of {read.key!r}, {label(longest.transaction)} read '
            f'{longest.values[at]!r} and {label(read.transaction)} read {read.values[at]!r}',
        )
        key = self._keys[read.key]
        for value in read.values:
            if self._outcome(key, value) == 'failed':
                self._report_aborted(key, value, [read])

    def _check_aborted(self, key: Key) -> None:
        for position, value in enumerate(key.order):
            if self._outcome(key, value) != 'failed':
                continue
            self._report_aborted(key, value, [r for r in key.reads if len(r.values) > position])
            for later in key.order[position + 1 :]:
                writer = key.writers[later]
                if writer in self._committed:
                    self._report(
                        DIRTY_UPDATE,
                        [key.writers[value], writer],
                        f'{label(writer)} committed {later!r} to {key.name!r} on top of {value!r} '
                        f'of {label(key.writers[value])}, which was rolled back',
                    )
                    break

    def _report_aborted(self, key: Key, value, readers: list[Read]) -> None:
        first, writer = readers[0].transaction, key.writers[value]
        self._report(
            G1A,
            [writer, first],
            f'{label(first)} read {value!r} in {key.name!r}, which {label(writer)} had appended '
            f'and rolled back; {len(readers)} transactions read it',
        )

    def _check_own_order(self, key: Key) -> None:
        """A transaction that appends to a key several times: in its order, all or nothing."""
        if not key.overwritten:
            return
        positions = {value: position for position, value in enumerate(key.order)}
        several = {key.writers[value] for value in key.overwritten} & self._committed
        for writer in sorted(several):
            ops = self._history[writer]['ops']
            own = [v for kind, name, v in ops if kind == 'append' and name == key.name]
            # What is not there yet comes later than all that is.
            places = [positions.get(value, len(key.order)) for value in own]
            if any(earlier > later for earlier, later in pairwise(places)):
                self._report(
                    INCOMPATIBLE,
                    [writer],
                    f'{label(writer)} appended {own!r} to {key.name!r}, read was '
                    f'{[value for value in key.order if value in own]!r}',
                )

    def _check_intermediate(self, key: Key) -> None:
        for read in key.reads if key.overwritten else ():
            value = key.order[read.base - 1] if read.base else None
            if read.base and value in key.overwritten and self._outcome(key, value) != 'failed':
                writer = key.writers[value]
                self._report(
                    G1B,
                    [writer, read.transaction],
                    f'{label(read.transaction)} read {key.name!r} up to {value!r}, after which '
                    f'{label(writer)} appended more',
                )

    def _check_lost_updates(self, key: Key) -> None:
        updates: dict[int, list[int]] = defaultdict(list)
        wrote = set(key.writers.values())
        for read in key.reads:
            if read.transaction in wrote:
                updates[read.base].append(read.transaction)
        for base, transactions in updates.items():
            if len(transactions) > 1:
                names = ', '.join(label(transaction) for transaction in sorted(transactions))
                self._report(
                    LOST_UPDATE,
                    sorted(transactions),
                    f'{names} all appended to {key.name!r} after reading {show(key.order[:base])}',
                )

    # ---- what is late --------------------------------------------------------------------------

    def _check_stale(self, key: Key) -> None:
        """Length that every read has at least that begins after a moment: that of the latest write
        acknowledged by then.
        """
        acknowledged = sorted(
            (self._history[writer]['end'], length, writer)
            for writer, length in self._lengths(key)
            if self._history[writer]['outcome'] == 'ok'
        )
        ends_s = [end_s for end_s, _length, _writer in acknowledged]
        newest = list(accumulate(acknowledged, lambda a, b: max(a, b, key=lambda ack: ack[1])))
        for read in key.reads:
            start_s = self._history[read.transaction]['start']
            before = bisect_left(ends_s, start_s)
            if before and newest[before - 1][1] > read.base:
                end_s, _length, writer = newest[before - 1]
                self._report(
                    STALE,
                    [writer, read.transaction],
                    f'{label(read.transaction)} began {start_s - end_s:.6f} s after '
                    f'{label(writer)} was acknowledged, and does not show what that appended to '
                    f'{key.name!r}: {show(key.order[: read.base])}',
                )

    def _lengths(self, key: Key) -> Iterator[tuple[int, int]]:
        """Each committed writer with the length of the list after it; unread appends come last."""
        for length, value in enumerate(key.order, 1):
            if key.writers[value] in self._committed:
                yield key.writers[value], length
        for writer in key.unread(self._committed):
            yield writer, len(key.order) + 1

    def _check_monotonic(self) -> None:
        reads: dict[int, list[Read]] = defaultdict(list)
        for key in self._keys.values():
            for read in key.reads:
                reads[read.transaction].append(read)
        for transactions in self._sessions.values():
            longest: dict[Hashable, Read] = {}
            for read in (read for transaction in transactions for read in reads[transaction]):
                before = longest.setdefault(read.key, read)
                if read.base < before.base:
                    self._report(
                        NON_MONOTONIC,
                        [before.transaction, read.transaction],
                        f'{label(before.transaction)} and later {label(read.transaction)} of the '
                        f'same session read {read.key!r}: first {before.base} elements, then '
                        f'{read.base}',
                    )
                else:
                    longest[read.key] = read
