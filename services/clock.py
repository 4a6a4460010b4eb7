"""Time as an input of a computation.

The one idea: what depends on the *date* gets the date into its key; what depends on the
*time of day* lives briefly.  The second is noticed when ``fields.Datetime.now()`` is called
or ``cr.now()`` is called (see :mod:`..patches`) or the SQL says ``now()``, and by looking once per
registry at the code of a field's compute or search method, and of the methods of the same model
which it names, for other ways to the clock.  The same look finds code that reads the web request.
The date of another time zone than the user's is in no key, so it counts as the time of day.

What may go wrong: code that reaches the clock through another object and not by
``fields.Datetime.now()`` is not recognized.  Its results may be old by the time to live of
the entry; a rule for the model shortens it.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import re
import time
from datetime import datetime, timezone

import pytz

from odoo.models import BaseModel

_CLOCK_NAMES = frozenset(
    ('now', 'utcnow', 'time', 'time_ns', 'monotonic', 'localtime', 'gmtime', 'real_time')
)
"""Names which code that asks for the time of day uses.  ``context_today`` is not among them: it
gives a date; nor is ``today``, for :data:`_DATES`."""

_WATCHED = 'Datetime'
"""``Datetime.now`` tells at run time whether it was called, so its name says nothing."""

_DATES = frozenset(('Date', 'Datetime', 'date'))
"""Whose ``today()`` is a date.  That of Python's ``datetime`` is the time of day."""

REQUEST = 'request'

_MAX_DEPTH = 3

_RELATIVE_DATE = re.compile(r'\s*(?:now\b|[+=-]\s*\w)')

_SLOT = '_tiered_cache_clock_fields'


def dates(env) -> tuple[str, ...]:
    """The current date in UTC and for the user, as parts of a key.

    Without a time zone in the context the user's would have to be read from the database
    on every hit; a quarter of an hour, the step of all offsets from UTC, stands for it.
    """
    minute = int(time.time() // 60)
    zone = env.context.get('tz')  # anybody may send anything
    return _dates(zone if isinstance(zone, str) else None, minute)


@functools.lru_cache(maxsize=256)
def _dates(zone: str | None, minute: int) -> tuple[str, ...]:
    utc = datetime.fromtimestamp(minute * 60, timezone.utc)
    if zone:
        with contextlib.suppress(pytz.UnknownTimeZoneError, AttributeError):
            return f'{utc:%Y%m%d}', f'{utc.astimezone(pytz.timezone(zone)):%Y%m%d}'
    return f'{utc:%Y%m%d}', str(minute // 15)


def mentions_clock(value, depth: int = 0) -> bool:
    """Whether arguments hold a date relative to now, such as ``'-3H'`` in a domain.

    Source: ``odoo/tools/date_utils.py``, ``parse_date``.
    """
    if isinstance(value, str):
        return bool(_RELATIVE_DATE.match(value))
    if isinstance(value, list | tuple) and depth < 8:
        return any(mentions_clock(item, depth + 1) for item in value)
    return False


def uses(records, field, what: str = 'compute') -> frozenset[str]:
    """What computing a field looks at besides the database: ``'clock'``, ``'request'``.

    :param what: 'search' for its search method
    """
    known = records.env.registry.__dict__.setdefault(_SLOT, {})
    name = (what, field)
    if name not in known:
        known[name] = _uses(type(records), getattr(field, what))
    return known[name]


_GROUPING = {
    'read_group': 2,
    'formatted_read_group': 1,
    'formatted_read_grouping_sets': 1,
    'web_read_group': 1,
    'read_progress_bar': 1,
}
"""By method, from which argument on it is told what to group by."""


def groups_by_clock(records, method: str, args: tuple) -> bool:
    """Whether a method groups by a field that is searched or computed by the time of day.

    Code that groups by such a field (``activity_state`` of ``mail.activity.mixin``) hands the time
    to PostgreSQL, and calls nothing that could tell.
    """
    if method not in _GROUPING:
        return False
    return grouping_uses_clock(records, args[_GROUPING[method] :])


def grouping_uses_clock(records, groups) -> bool:
    """:param groups: names of fields, in lists of lists if need be"""
    return any(_field_uses_clock(records, name) for name in _texts(groups))


def _texts(value, depth: int = 0):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | dict) and depth < 8:
        parts = value.values() if isinstance(value, dict) else value
        for part in parts:
            yield from _texts(part, depth + 1)


def _field_uses_clock(records, path: str) -> bool:
    """:param path: of a group, such as ``partner_id.create_date:month``"""
    model, field = records, None
    for name in path.partition(':')[0].split('.'):
        field = model._fields.get(name)
        if field is None:
            return False
        model = model.env[field.comodel_name] if field.comodel_name else model
    owner = records.env[field.model_name]
    return any('clock' in uses(owner, field, what) for what in ('compute', 'search'))


def _uses(model_class, function) -> frozenset[str]:
    """Inspect a method, given by name or itself, and what it names on its own model."""
    if isinstance(function, str):
        function = getattr(model_class, function, None)
    names = _all_names(model_class, function, 0, set()) | _names_in_texts(function)
    found = {'clock'} if not _CLOCK_NAMES.isdisjoint(names) else set()
    if REQUEST in names:
        found.add('request')
    return frozenset(found)


def _all_names(model_class, function, depth: int, seen: set) -> set[str]:
    names: set[str] = set()
    for code in method_codes(model_class, function):
        if code not in seen:
            seen.add(code)
            names |= code_names(code)
    if depth < _MAX_DEPTH:
        for name in sorted(names):
            # methods of every model look at the clock for bookkeeping only, if at all
            method = None if hasattr(BaseModel, name) else getattr(model_class, name, None)
            if hasattr(method, '__code__') and method.__code__ not in seen:
                names |= _all_names(model_class, method, depth + 1, seen)
    return names


def _names_in_texts(function) -> set[str]:
    """Names in code that people have written for a field in the user interface: Odoo's function
    holds it as a text."""
    names: set[str] = set()
    for cell in getattr(function, '__closure__', None) or ():
        # an empty cell is a ValueError; most texts are no code
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            if isinstance(cell.cell_contents, str):
                names |= code_names(compile(cell.cell_contents.strip(), '', 'exec'))
    return names


def method_codes(model_class, function):
    """The code of a method and of all methods which it overrides."""
    name = getattr(function, '__name__', None)
    for cls in model_class.__mro__:
        method = cls.__dict__.get(name)
        method = getattr(method, '__func__', method)
        if hasattr(method, '__code__'):
            yield method.__code__
    if hasattr(function, '__code__'):
        yield function.__code__


_OF_OBJECT = ('LOAD_ATTR', 'LOAD_METHOD')


def code_names(code) -> set[str]:
    """Names which code uses, without those that are watched at run time."""
    names: set[str] = set()
    before = None
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if isinstance(name, str) and instruction.opname.startswith(('LOAD_', 'IMPORT_')):
            if before != _WATCHED and instruction.opname != 'LOAD_CONST':
                names.add(name)
            if name == 'today' and before not in _DATES and instruction.opname in _OF_OBJECT:
                names.add('now')
            before = name
        elif hasattr(name, 'co_code'):
            names |= code_names(name)
    return names
