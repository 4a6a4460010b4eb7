"""Would the database have said the same?

The one idea: a sample of hits is computed again in the same transaction, hence in the same
snapshot, and compared by value and by type.  The order of dictionary keys is not compared:
two workers of plain Odoo already differ there, since Odoo fills some dictionaries from
sets.

What may go wrong: a computation that gives two answers in one snapshot by itself (a random
number, the clock, a value of ``tools.ormcache`` that does not follow from its key) looks like a
difference.  It is computed three times before it is called one, the last time with what the worker
has in memory emptied.
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
import secrets

from .shapes import comparable

_logger = logging.getLogger(__name__)

_NAME = re.compile(r'[a-z_]+[a-z_0-9]*(?::[a-z_]+)?')
_SALT = secrets.token_bytes(16)


def same(left, right) -> bool:
    """Equality of value and type, at every depth; NaN equals NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        # keys by type too: {1: x} is not {True: x}
        return _typed(left) == _typed(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right or (left != left and right != right)  # noqa: PLR0124 NaN


def _typed(mapping: dict) -> set:
    return {(type(key), key) for key in mapping}


def difference(left, right, path: str = '') -> str:
    """Where two values differ first, for the log; holds no values, which may be private."""
    if type(left) is not type(right):
        return f'{path or "value"}: {type(left).__name__} is not {type(right).__name__}'
    if isinstance(left, dict):
        if _typed(left) != _typed(right):
            return f'{path or "value"}: other keys'
        for key in left:
            if not same(left[key], right[key]):
                return difference(left[key], right[key], f'{path}[{_shown(key)}]')
    if isinstance(left, list | tuple):
        if len(left) != len(right):
            return f'{path or "value"}: {len(left)} items are not {len(right)}'
        for index, pair in enumerate(zip(left, right, strict=True)):
            if not same(*pair):
                return difference(*pair, f'{path}[{index}]')
    return f'{path or "value"}: another {type(left).__name__}'


def _shown(key) -> str:
    """Names of fields and the like; ``read_progress_bar`` has texts of records as keys."""
    return repr(key) if isinstance(key, str) and _NAME.fullmatch(key) else '…'


def digest(value) -> str:
    """A name for a value that does not show it, of this process: without its salt, a number or a
    word would be found by trying."""
    text = repr(value).encode('utf-8', 'replace')
    return hashlib.blake2b(text, digest_size=8, key=_SALT).hexdigest()


def is_sampled(rate: float) -> bool:
    """:param rate: share of hits, 0 to 1"""
    return rate > 0 and (rate >= 1 or random.random() < rate)


def _nothing() -> None:
    pass


def audit(
    name: tuple[str, str], value, compute, moved=_nothing, forget=_nothing
) -> tuple[bool, object]:
    """Compare an answer with a computation.

    :param compute: the plain call, without arguments
    :param moved: ``moved()`` tells whether what belongs to no snapshot has changed meanwhile
    :param forget: ``forget()`` empties what this worker has in memory of the database
    :return: whether they are the same, and what the caller shall get: the computed value
        when they differ
    """
    computed = compute()
    method = name[1]
    if same(comparable(method, value), comparable(method, computed)):
        return True, value
    again = compute()
    if not same(computed, again):
        _logger.info(
            "%s.%s gives two answers in one transaction by itself: %s",
            *name,
            difference(computed, again),
        )
        return True, again
    if moved():
        return True, computed
    forget()
    fresh = compute()
    if same(comparable(method, value), comparable(method, fresh)):
        _logger.info(
            "%s.%s gives another answer where values of tools.ormcache are in memory: %s",
            *name,
            difference(computed, fresh),
        )
        return True, value
    _logger.error(
        "The cached answer of %s.%s is not what the database says: %s. Digests: cached %s, "
        "computed %s. The computed answer is served, and a rule switches the cache off for this "
        "method until an administrator deletes the rule.",
        *name,
        difference(value, computed),
        digest(value),
        digest(computed),
    )
    return False, computed
