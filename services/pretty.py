"""A cached value as text that a person can read.

The one idea: the text is produced piece by piece, so a value of many megabytes costs no
more than the characters that are shown.

What may go wrong: nothing; a leaf that cannot be shown well is shown by its ``repr``.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_LEAF = 500
"""Characters of one string or number; an image in base64 would fill the page."""

_INDENT = '  '


def render(value, max_chars: int) -> tuple[str, bool]:
    """Python-like text of ``value``, one item per line.

    :return: the text, at most ``max_chars`` long, and whether it was cut
    """
    pieces, size = [], 0
    for piece in _pieces(value, 0):
        pieces.append(piece)
        size += len(piece)
        if size > max_chars:
            return ''.join(pieces)[:max_chars], True
    return ''.join(pieces), False


def _pieces(value, depth: int) -> Iterator[str]:
    if isinstance(value, dict):
        items = ((f'{_leaf(key)}: ', item) for key, item in value.items())
        yield from _container('{', items, '}', len(value), depth)
    elif isinstance(value, (list, tuple)):
        left, right = '()' if isinstance(value, tuple) else '[]'
        if _is_flat(value):
            comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
            yield left + ', '.join(map(_leaf, value)) + comma + right
        else:
            yield from _container(left, (('', item) for item in value), right, len(value), depth)
    else:
        yield _leaf(value)


def _container(left: str, items, right: str, count: int, depth: int) -> Iterator[str]:
    if not count:
        yield left + right
        return
    yield left + '\n'
    for prefix, item in items:
        yield _INDENT * (depth + 1) + prefix
        yield from _pieces(item, depth + 1)
        yield ',\n'
    yield _INDENT * depth + right


def _is_flat(value) -> bool:
    """Short sequences of plain values stay on one line, as many2one pairs and lists of ids."""
    return len(value) <= 20 and not any(isinstance(v, (dict, list, tuple)) for v in value)


def _leaf(value) -> str:
    if isinstance(value, (str, bytes)) and len(value) > MAX_LEAF:
        return f'{value[:MAX_LEAF]!r}… ({len(value)})'
    return repr(value)
