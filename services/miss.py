"""The answer of a cache that holds nothing.

``None``, ``False``, ``0`` and ``[]`` are results like any other, so "nothing is cached" needs a
value of its own: :data:`MISS`, compared by identity (``value is MISS``).

What may go wrong: ``if value:`` would take a cached ``False`` for a miss. A miss therefore has no
truth value; the mistake raises at once instead of recomputing silently.
"""

from __future__ import annotations

from typing import Final


class Miss:
    """The class of :data:`MISS`, for type annotations (``Entry | Miss``)."""

    __slots__ = ()

    def __bool__(self) -> bool:
        """:raise TypeError: always"""
        raise TypeError("A miss is neither true nor false; compare with 'is MISS'.")

    def __repr__(self) -> str:
        return 'MISS'

    def __reduce__(self) -> str:
        # copy.copy() and copy.deepcopy() follow the name and so keep the identity
        return 'MISS'


MISS: Final = Miss()
