"""Who depends on whom in a list-append history (``list_append.py``), as a graph and in words."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import accumulate, pairwise

from .cycles import PASS, REALTIME, RW, SESSION, WR, WW, Cycle, Edge, Graph
from .observed import Key, label, show

REASONS = {
    WW: '{target} appended to {key!r} after {source}',
    WR: '{target} read what {source} appended to {key!r}',
    RW: '{source} read {key!r} without what {target} appended',
    SESSION: '{target} followed {source} in session {session!r}',
    REALTIME: '{target} began {gap_s:.6f} s after {source} had ended',
}


class Dependencies:
    """
    :param keys: with the order of their writes, and the reads that agree with it
    :param committed: transactions that are known to have committed
    :param sessions: transactions by session, in order
    """

    def __init__(self, history, keys: dict[Hashable, Key], committed: set[int], sessions):
        self._history, self._keys = history, keys
        self._committed, self._sessions = committed, sessions

    def graph(self, *, realtime: bool, per_session: bool) -> Graph:
        graph = Graph(len(self._history))
        for key in self._keys.values():
            self._link_key(graph, key)
        if per_session:
            self._link_sessions(graph)
        if realtime:
            self._link_realtime(graph)
        return graph

    def explain(self, cycle: Cycle) -> str:
        way = ' '.join(f'{label(edge.source)} -{edge.kind}->' for edge in cycle.edges)
        lines = [f'{way} {label(cycle.edges[0].source)}']
        lines += [self._describe(edge.source) for edge in cycle.edges]
        lines += [self._reason(edge) for edge in cycle.edges]
        return '\n  '.join(lines)

    def _link_key(self, graph: Graph, key: Key) -> None:
        writers = [key.writers[value] for value in key.order]
        committed = [writer for writer in writers if writer in self._committed]
        for writer, after in pairwise(committed):
            graph.link(writer, WW, after)
        unread = key.unread(self._committed)
        beyond = graph.add_helper() if unread else None
        for writer in unread:
            graph.link(beyond, PASS, writer)
            if committed:
                graph.link(committed[-1], WW, writer)
        # By length of a list: who wrote its last element, and who wrote the next one. What was
        # rolled back and yet read is reported elsewhere; here it is passed over.
        latest = list(accumulate([None, *writers], self._newer))
        coming = list(accumulate([None, *reversed(writers)], self._newer))[::-1]
        for read in key.reads:
            if latest[read.base] is not None:
                graph.link(latest[read.base], WR, read.transaction)
            if coming[read.base] is not None:
                graph.link(read.transaction, RW, coming[read.base])
            elif read.transaction in unread:
                for writer in unread:
                    graph.link(read.transaction, RW, writer)
            elif unread:
                graph.link(read.transaction, RW, beyond)

    def _newer(self, writer: int | None, candidate: int) -> int | None:
        return candidate if candidate in self._committed else writer

    def _link_sessions(self, graph: Graph) -> None:
        """An unknown transaction may commit at any later time, so nothing is known to follow it."""
        for transactions in self._sessions.values():
            before = None
            for transaction in transactions:
                if before is not None:
                    graph.link(before, SESSION, transaction)
                if self._history[transaction]['outcome'] == 'ok':
                    before = transaction

    def _link_realtime(self, graph: Graph) -> None:
        """A chain of moments: ends lead into the next moment, beginnings come out of the last."""
        moment, used = None, True
        for _time_s, is_end, transaction in sorted(self._events()):
            if not is_end:
                if moment is not None:
                    graph.link(moment, PASS, transaction)
                used = True
                continue
            if used:
                before, moment, used = moment, graph.add_helper(), False
                if before is not None:
                    graph.link(before, PASS, moment)
            graph.link(transaction, REALTIME, moment)

    def _events(self):
        """Beginnings sort before ends: what ends and begins at the same time is not ordered."""
        for transaction in self._committed:
            tx = self._history[transaction]
            yield tx['start'], False, transaction
            if tx['outcome'] == 'ok':
                yield tx['end'], True, transaction

    def _describe(self, transaction: int) -> str:
        tx = self._history[transaction]
        ops = ', '.join(
            f'append {value!r} to {name!r}' if kind == 'append' else f'read {name!r}: {show(value)}'
            for kind, name, value in tx['ops']
        )
        return f'{label(transaction)} (session {tx["session"]!r}, {tx["outcome"]}): {ops}'

    def _reason(self, edge: Edge) -> str:
        before, after = self._history[edge.source], self._history[edge.target]
        reason = REASONS[edge.kind].format(
            source=label(edge.source),
            target=label(edge.target),
            session=after['session'],
            gap_s=after['start'] - before['end'],
            key=self._key_behind(edge),
        )
        return f'{label(edge.source)} -{edge.kind}-> {label(edge.target)}: {reason}'

    def _key_behind(self, edge: Edge) -> Hashable | None:
        """Found again instead of kept: a graph has millions of edges, an explanation a few."""
        names = [name for _kind, name, _value in self._history[edge.source]['ops']]
        for name in dict.fromkeys(names):
            graph, key = Graph(len(self._history)), self._keys[name]
            self._link_key(graph, key)
            targets = {found.target for found in graph.edges(edge.kind, [edge.source])}
            if any(target >= graph.size for target in targets):
                targets.update(key.unread(self._committed))
            if edge.target in targets:
                return name
        return None
