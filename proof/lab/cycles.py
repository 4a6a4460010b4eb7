"""Cycles between transactions that snapshot isolation forbids, found and named.

Dependencies of B on A, after Adya, "Weak Consistency" (1999): *ww*, B wrote the version after
A's; *wr*, B read A's version; *rw*, A read the version before B's.  Beside them the orders that
every client sees: *session*, B followed A in its session; *realtime*, A was acknowledged before B
began.

Theorem (Cerone and Gotsman, "Analysing Snapshot Isolation", 2016): a history is possible under
snapshot isolation exactly if every cycle holds two *rw* edges in a row, as write skew does.  So the
search runs over two states per transaction: entered by an rw edge or not.  After an rw edge no
other may follow; any cycle of states is a forbidden cycle of transactions.

The realtime order has a number of pairs that is quadratic in the length of the history.  It is
kept as a chain of helper nodes, one for each moment at which some transaction had ended and another
began, with PASS edges that are free and not shown.  Deciding whether there is a cycle is linear.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator
from typing import NamedTuple

WW, WR, RW, SESSION, REALTIME, PASS = 'ww', 'wr', 'rw', 'session', 'realtime', 'pass'

# Adya's names of the forbidden cycles, by their edges: ww; ww and wr; one rw; several rw, never two
# in a row.  A name gets the suffix -session or -realtime if the cycle needs that order.
G0, G1C, G_SINGLE, G_NONADJACENT = 'G0', 'G1c', 'G-single', 'G-nonadjacent'

# Steps that the search for a short cycle may make; then it takes the shortest found so far.
SEARCH_STEPS = 1_000_000


class Edge(NamedTuple):
    source: int
    kind: str
    target: int


class Cycle(NamedTuple):
    name: str
    edges: tuple[Edge, ...]


class State(NamedTuple):
    node: int
    after_rw: bool


class Graph:
    """Edges by kind.  Nodes are numbers: first ``size`` transactions, then helper nodes."""

    def __init__(self, size: int):
        self.size = self._nodes = size
        self._targets: dict[str, dict[int, list[int]]] = {
            kind: defaultdict(list) for kind in (WW, WR, RW, SESSION, REALTIME, PASS)
        }

    def add_helper(self) -> int:
        self._nodes += 1
        return self._nodes - 1

    def link(self, source: int, kind: str, target: int) -> None:
        if source != target:
            self._targets[kind][source].append(target)

    def nodes(self) -> range:
        return range(self._nodes)

    def edges(self, kind: str, nodes: Collection[int]) -> Iterator[Edge]:
        targets = self._targets[kind]
        for source in nodes:
            for target in targets.get(source, ()):
                yield Edge(source, kind, target)

    def steps(self, state: State, kinds: Collection[str]) -> Iterator[tuple[str, State]]:
        """Where a cycle of the given kinds may go on to."""
        node, after_rw = state
        for kind in kinds:
            if kind == RW and after_rw:
                continue
            for target in self._targets[kind].get(node, ()):
                yield kind, State(target, kind == RW)
        for target in self._targets[PASS].get(node, ()):
            yield PASS, State(target, after_rw)


def forbidden_cycles(graph: Graph) -> list[Cycle]:
    """For every set of transactions that are entangled in forbidden cycles: the shortest found of
    each name, of those that need the fewest orders beside the dependencies.
    """
    found = {}
    everything = (WW, WR, RW, SESSION, REALTIME)
    for component in _components(graph, everything, graph.nodes()):
        nodes = {state.node for state in component}
        for orders in ((), (SESSION,), (SESSION, REALTIME)):
            cycles = _cycles_within(graph, nodes, orders)
            found.update({frozenset(cycle.edges): cycle for cycle in cycles})
            if cycles:
                break
    return list(found.values())


def _cycles_within(graph: Graph, nodes: set[int], orders: tuple[str, ...]) -> list[Cycle]:
    """One cycle of each name that exists.  The search for one rw edge may run out of steps; then
    the last search, which always succeeds, names what it finds.
    """
    searches = (WW, (WW, *orders)), (WR, (WW, WR, *orders)), (RW, (WW, WR, *orders))
    cycles = [_short_cycle(graph, nodes, closing, kinds) for closing, kinds in searches]
    if not any(cycles):
        cycles = [_short_cycle(graph, nodes, RW, (WW, WR, RW, *orders))]
    return [cycle for cycle in cycles if cycle]


def _short_cycle(graph: Graph, nodes: set[int], closing: str, kinds: tuple[str, ...]):
    """A cycle of one edge of kind ``closing`` and a way back over ``kinds``, or None."""
    best, steps = None, SEARCH_STEPS
    for component in _components(graph, dict.fromkeys((closing, *kinds)), nodes):
        inside = {state.node for state in component}
        for edge in graph.edges(closing, inside):
            goal, start = State(edge.source, False), State(edge.target, closing == RW)
            if goal not in component or start not in component:
                continue
            back, used = _way(graph, start, goal, kinds, component)
            if back is not None:
                cycle = _named(graph, [edge, *back])
                best = min(best or cycle, cycle, key=lambda cycle: len(cycle.edges))
            steps -= used
            if steps < 0 or best and len(best.edges) == 2:
                return best
    return best


def _way(graph: Graph, start: State, goal: State, kinds: tuple[str, ...], inside: set[State]):
    """The edges of a shortest way inside a component, or None, and the number of steps it took.

    PASS edges are free, so they go to the front of the queue (0-1 breadth-first search).
    """
    came_by: dict[State, tuple[State | None, str]] = {}
    queue, steps = deque([(start, None, PASS)]), 0
    while queue and goal not in came_by:
        state, before, by = queue.popleft()
        if state in came_by:
            continue
        came_by[state] = before, by
        for kind, target in graph.steps(state, kinds):
            steps += 1
            if target in inside:
                (queue.appendleft if kind == PASS else queue.append)((target, state, kind))
    if goal not in came_by:
        return None, steps
    edges, state = [], goal
    while state != start:
        before, kind = came_by[state]
        edges.append(Edge(before.node, kind, state.node))
        state = before
    return edges[::-1], steps


def _named(graph: Graph, edges: list[Edge]) -> Cycle:
    """Without helper nodes, beginning with the lowest transaction."""
    while edges[0].source >= graph.size:
        edges = edges[1:] + edges[:1]
    merged: list[Edge] = []
    for edge in edges:
        if merged and merged[-1].target >= graph.size:
            # A helper node continues the edge that entered it.
            edge = merged.pop()._replace(target=edge.target)
        merged.append(edge)
    first = min(range(len(merged)), key=lambda index: merged[index].source)
    edges = merged[first:] + merged[:first]
    return Cycle(_name([edge.kind for edge in edges]), tuple(edges))


def _name(kinds: list[str]) -> str:
    anti = kinds.count(RW)
    name = (G1C if WR in kinds else G0, G_SINGLE, G_NONADJACENT)[min(anti, 2)]
    order = REALTIME if REALTIME in kinds else SESSION
    return f'{name}-{order}' if order in kinds else name


def _components(graph: Graph, kinds: Collection[str], nodes: Collection[int]) -> list[set[State]]:
    """The strongly connected components of more than one state (Tarjan, without recursion)."""
    search = _Tarjan(graph, kinds, nodes)
    for node in nodes:
        # A state after an rw edge is on a cycle only with others, which lead to it.
        search.run(State(node, False))
    return search.found


class _Tarjan:
    def __init__(self, graph: Graph, kinds: Collection[str], nodes: Collection[int]):
        self.found: list[set[State]] = []
        self._graph, self._kinds, self._nodes = graph, kinds, nodes
        self._number: dict[State, int] = {}
        self._low: dict[State, int] = {}
        self._stack: list[State] = []
        self._on_stack: set[State] = set()

    def run(self, root: State) -> None:
        if root in self._number:
            return
        work = [self._enter(root)]
        while work:
            state, targets = work[-1]
            for target in targets:
                if target not in self._number:
                    work.append(self._enter(target))
                    break
                if target in self._on_stack:
                    self._low[state] = min(self._low[state], self._number[target])
            else:
                work.pop()
                self._leave(state, work[-1][0] if work else None)

    def _enter(self, state: State):
        self._number[state] = self._low[state] = len(self._number)
        self._stack.append(state)
        self._on_stack.add(state)
        steps = self._graph.steps(state, self._kinds)
        return state, (target for _kind, target in steps if target.node in self._nodes)

    def _leave(self, state: State, parent: State | None) -> None:
        if parent is not None:
            self._low[parent] = min(self._low[parent], self._low[state])
        if self._low[state] == self._number[state]:
            component = set(self._pop_down_to(state))
            if len(component) > 1:
                self.found.append(component)

    def _pop_down_to(self, state: State) -> Iterator[State]:
        while True:
            member = self._stack.pop()
            self._on_stack.discard(member)
            yield member
            if member == state:
                return
