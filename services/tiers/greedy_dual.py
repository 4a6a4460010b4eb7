"""GreedyDual-Size-Frequency: the entry that saves least time per byte leaves first.

The one idea: an entry is worth what it saves per byte, ``frequency × cost ÷ size``, on top of
a *floor* that rises to the worth of whatever was evicted last.  Worth is set when an entry is
used, so what nobody uses any more is overtaken by the floor and leaves, however dear it was.
(L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
Policy", HP Labs HPL-98-69R1, 1998; after N. Young, 1991, and P. Cao and S. Irani, 1997.)

A use writes two numbers and no more.  The heap is put in order when something has to leave:
worth only grows while an entry is used, so the place of an entry in the heap is never too far
back, and the first whose place is still right is the one to go.  A use is O(1), storing and
evicting O(log n), amortized over the uses since.

What may go wrong: a cost that was measured while the machine stood still makes an entry look
precious; the floor gets it in the end.  A replaced entry keeps its frequency: it is the key
that is popular.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import cachetools

# A node is a list: [place in the heap, key, frequency, floor when last used].  Lists compare by
# place, then by key.  Whether a node is still the one of its key is told by _nodes.
_PLACE, _KEY, _FREQUENCY, _FLOOR = range(4)

_SPARE_NODES = 64
"""The heap is rebuilt when it holds a quarter more than there are entries and so many more."""


class GreedyDualCache(cachetools.Cache):
    """A cache that evicts by ``frequency × cost ÷ size``, with ageing.  Its keys can be compared.

    :param maxsize: as in cachetools
    :param getcost: ``getcost(value)``, the cost of computing a value again, in any unit
    :param getsizeof: ``getsizeof(value)``, as in cachetools
    """

    def __init__(
        self,
        maxsize: float,
        getcost: Callable[[object], float],
        getsizeof: Callable[[object], float] | None = None,
    ):
        super().__init__(maxsize, getsizeof)
        self._getcost = getcost
        self._floor = 0.0
        self._nodes: dict[object, list] = {}
        self._heap: list[list] = []

    def __getitem__(self, key, cache_getitem=cachetools.Cache.__getitem__):
        value = cache_getitem(self, key)
        node = self._nodes.get(key)
        if node is not None:  # a value that __missing__ has made may not be in the cache
            node[_FREQUENCY] += 1
            node[_FLOOR] = self._floor
        return value

    def __setitem__(self, key, value, cache_setitem=cachetools.Cache.__setitem__):
        node = self._nodes.get(key)
        if node is not None:
            # by the frequency that includes this use, should it have to leave for its own sake
            node[_FREQUENCY] += 1
            node[_FLOOR] = self._floor
        cache_setitem(self, key, value)
        node = node or [0.0, key, 1, 0.0]
        node[_FLOOR] = self._floor  # evictions may have raised it
        worth = self._worth(node, value)
        if self._nodes.get(key) is node and worth >= node[_PLACE]:
            return  # its place in the heap will do
        # new, or worth less than it was: its place in the heap must not be too far back
        self._nodes[key] = node = [worth, key, node[_FREQUENCY], node[_FLOOR]]
        heapq.heappush(self._heap, node)
        self._forget_spare_nodes()

    def __delitem__(self, key, cache_delitem=cachetools.Cache.__delitem__):
        cache_delitem(self, key)
        del self._nodes[key]
        self._forget_spare_nodes()

    def popitem(self):
        """Remove and return the least worthy item.

        :raise KeyError: the cache is empty
        """
        heap, nodes = self._heap, self._nodes
        while heap:
            node = heap[0]
            if nodes.get(node[_KEY]) is not node:
                heapq.heappop(heap)
                continue
            key = node[_KEY]
            value = cachetools.Cache.__getitem__(self, key)
            worth = self._worth(node, value)
            if worth > node[_PLACE]:
                node[_PLACE] = worth
                heapq.heapreplace(heap, node)
                continue
            heapq.heappop(heap)
            self._floor = worth
            del self[key]
            return key, value
        raise KeyError(f"{type(self).__name__} is empty")

    def clear(self) -> None:  # pylint: disable=missing-return
        super().clear()
        self._nodes.clear()
        self._heap.clear()
        self._floor = 0.0

    def _worth(self, node: list, value) -> float:
        gain = self._getcost(value) / max(self.getsizeof(value), 1)
        return node[_FLOOR] + node[_FREQUENCY] * gain

    def _forget_spare_nodes(self) -> None:
        """Nodes of deleted and replaced items stay in the heap until they come first; there
        are never many more of them than items."""
        if len(self._heap) > 1.25 * len(self._nodes) + _SPARE_NODES:
            self._heap = list(self._nodes.values())
            heapq.heapify(self._heap)
