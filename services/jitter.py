"""Lives of different length, so that what was written together does not end together.

The one idea: how much shorter an entry lives follows from its key and the time of its computation.
So nobody has to remember or to send it: each tier, and each process that promotes the entry, comes
to the same end.

What may go wrong: a life that would be longer than was promised.  Jitter only ever shortens.
"""

from __future__ import annotations

import hashlib


def end_of(
    key: str, created: float, ttl_s: float, keep_s: float = 0.0, jitter_percent: float = 0.0
) -> float:
    """When an entry expires, seconds since the epoch.

    :param created: when it was computed, seconds since the epoch
    :param ttl_s: its longest life, ``keep_s`` included
    :param keep_s: how much of it comes after the life proper and is not shortened, seconds
    :param jitter_percent: by how much the life is shortened at most
    """
    if not jitter_percent:
        return created + ttl_s
    # not a checksum, which gives names that differ in one digit neighbouring numbers; 1.5 µs
    text = f'{created!r} {key}'.encode('utf-8', 'surrogatepass')
    luck = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()) / 2**32
    return created + ttl_s - max(ttl_s - keep_s, 0.0) * luck * jitter_percent / 100
