"""The file of a trace: text of numbers, compressed.

A line is ``time key state`` and, the first time a state of a key is met, ``size cost ttl``; times
are differences to the line before.  Read and written with the standard library.
"""

import lzma
import typing


class Line(typing.NamedTuple):
    """A read of a key.

    :param at_ms: since the beginning
    :param key: a number
    :param state: counts how often the answer under this key has changed
    :param size_bytes: of the entry, as L1 counts; 0 where the state is known by now
    :param cost_ms: of computing it
    :param ttl_s: its time to live
    """

    at_ms: int
    key: int
    state: int
    size_bytes: int = 0
    cost_ms: float = 0.0
    ttl_s: int = 0


def write(path, lines):
    """Write a trace."""
    last_ms = 0
    with lzma.open(path, "wt", encoding="ascii", preset=9) as file:
        for line in lines:
            numbers = [line.at_ms - last_ms, line.key, line.state]
            if line.size_bytes:
                numbers += [line.size_bytes, line.cost_ms, line.ttl_s]
            file.write(" ".join(map(str, numbers)) + "\n")
            last_ms = line.at_ms


def read(path):
    """:return list: of :class:`Line`, each with size, cost and time to live"""
    known, lines, at_ms = {}, [], 0
    with lzma.open(path, "rt", encoding="ascii") as file:
        for text in file:
            passed_ms, key, state, *rest = text.split()
            at_ms += int(passed_ms)
            name = int(key), int(state)
            if rest:
                size_bytes, cost_ms, ttl_s = rest
                known[name] = int(size_bytes), float(cost_ms), int(ttl_s)
            lines.append(Line(at_ms, *name, *known[name]))
    return lines
