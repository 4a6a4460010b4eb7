"""Are two answers the same?

The one idea: what judges the cache is not part of it.  So this is written again here, and finds
what a fault of ``services/auditor.py`` would hide.
"""


def same(left, right) -> bool:
    """Equality of value and type, at every depth; the order of keys does not count."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        if len(left) != len(right) or getattr(left, 'default_factory', 0) is None:
            return False
        pairs = {(type(key), key): value for key, value in right.items()}
        return all(
            (type(key), key) in pairs and same(value, pairs[type(key), key])
            for key, value in left.items()
        )
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right or (left != left and right != right)  # noqa: PLR0124 NaN
