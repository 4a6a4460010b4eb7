"""Results that are more than plain values, and how to put them together again.

The one idea: a method whose result has behaviour that follows from its arguments is kept as
plain values, and a hit gets the behaviour back from the arguments of the call that hits.
"""

from __future__ import annotations

import collections
import re


def plain(method: str, value):
    """What of a result is kept."""
    if method == 'read_progress_bar' and type(value) is collections.defaultdict:
        return dict(value)
    return value


def restore(method: str, value, args: tuple):
    """The result as the method returns it."""
    if method == 'read_progress_bar' and len(args) == 3:
        # as in odoo/addons/web/models/models.py: a group without records counts 0 per colour
        colors = args[2]['colors']
        return collections.defaultdict(lambda: dict.fromkeys(colors, 0), value)
    return value


def comparable(method: str, value):
    """A result without what plain Odoo itself does not decide.

    It adds the fields that a view needs but does not show from a set, so their order in the
    view differs from process to process: elements are compared without their order.
    """
    if method != 'get_views' or not isinstance(value, dict):
        return value
    views = {
        name: {**view, 'arch': sorted(_ELEMENT.findall(view.get('arch') or ''))}
        for name, view in value.get('views', {}).items()
    }
    return {**value, 'views': views}


_ELEMENT = re.compile(r'<[^>]*>|[^<]+')


def key_arguments(method: str, args: tuple) -> tuple:
    """Arguments as parts of a key, which takes tuples and lists for the same.

    ``read_group`` alone returns what it was given, in ``__context``.
    """
    if method == 'read_group':
        return (*args, type(args[2]).__name__)
    return args
