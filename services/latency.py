"""How long calls take, as a histogram of fixed size.

The one idea: a duration falls into one of :data:`BINS` bins whose bounds grow by the square root
of two, so that 38 counters hold everything from 0.1 ms to 26 s, add up over processes and over
time, and tell a percentile within a few per cent wherever it lies.  A mean would hide what a
percentile shows: one call in twenty that takes a second.

What may go wrong: a percentile is interpolated within its bin, so it is wrong by at most 41 %
(the width of a bin), and by 10 % or less where durations are spread as they usually are.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

FIRST_MS = 0.1
"""Upper bound of the first bin: no hit is faster than one query to PostgreSQL."""

RATIO = 2**0.5

BOUNDS_MS = tuple(FIRST_MS * RATIO**step for step in range(37))
"""Upper bounds, inclusive; what is longer than the last falls into one more bin."""

BINS = len(BOUNDS_MS) + 1


def new_bins() -> list[int]:
    return [0] * BINS


def bin_of(duration_ms: float) -> int:
    """Index of the bin of a duration, 0 to BINS - 1."""
    return bisect.bisect_left(BOUNDS_MS, duration_ms)


def add(bins: list[int], more: Sequence[int]) -> None:
    """Add another histogram to ``bins``, in place."""
    for index, count in enumerate(more):
        bins[index] += count


def percentile(bins: Sequence[int], share: float) -> float | None:
    """The duration that a share of all calls does not exceed.

    :param share: e.g. 0.5 for the median
    :return: milliseconds; None without calls
    """
    rank = share * sum(bins)
    if not rank:
        return None
    below = 0
    for index, count in enumerate(bins):
        if count and below + count >= rank:
            if index == len(BOUNDS_MS):
                return BOUNDS_MS[-1]
            return BOUNDS_MS[index] / RATIO * RATIO ** ((rank - below) / count)
        below += count
    return BOUNDS_MS[-1]
