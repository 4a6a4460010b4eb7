"""Time as an input of a computation.

The one idea: what depends on the *date* gets the date into its key; what depends on the
*time* lives briefly.  The second is found by looking once per registry at the code of a
field's compute method, and of the methods of the same model which it names.

What may go wrong: code that reaches the clock through another object is not recognized.
Its results may be old by the time to live of the entry; a rule for the model shortens it.
"""
from __future__ import annotations

import functools
import re
import time
from datetime import datetime, timezone

import pytz

from odoo.models import BaseModel

_CLOCK_NAMES = frozenset(
    ('now', 'utcnow', 'time', 'time_ns', 'monotonic', 'localtime', 'gmtime', 'real_time')
)
"""Names which code that asks for the time of day uses.  ``today`` and ``context_today`` are
not among them: they give dates."""

_MAX_DEPTH = 3

_RELATIVE_DATE = re.compile(r'\s*(?:now\b|[+=-]\s*\w)')

_SLOT = '_tiered_cache_clock_fields'


def dates(env) -> tuple[str, ...]:
    """The current date in UTC and for the user, as parts of a key.

    Without a time zone in the context the user's would have to be read from the database
    on every hit; a quarter of an hour, the step of all offsets from UTC, stands for it.
    """
    minute = int(time.time() // 60)
    return _dates(env.context.get('tz'), minute)


@functools.lru_cache(maxsize=256)
def _dates(zone: str | None, minute: int) -> tuple[str, ...]:
    utc = datetime.fromtimestamp(minute * 60, timezone.utc)
    if zone:
        try:
            return f'{utc:%Y%m%d}', f'{utc.astimezone(pytz.timezone(zone)):%Y%m%d}'
        except (pytz.UnknownTimeZoneError, AttributeError):
            pass
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


def uses_clock(records, field) -> bool:
    """Whether computing a field looks at the time of day."""
    known = records.env.registry.__dict__.setdefault(_SLOT, {})
    if field not in known:
        known[field] = _compute_uses_clock(type(records), field)
    return known[field]


def searches_clock(records, args: tuple) -> bool:
    """Whether a domain among the arguments names a field whose search method looks at the
    time of day."""
    if not args or not isinstance(args[0], list | tuple):
        return False
    for term in args[0]:
        if isinstance(term, list | tuple) and len(term) == 3 and isinstance(term[0], str):
            field = records._fields.get(term[0])
            if field is not None and field.search and _search_uses_clock(records, field):
                return True
    return False


def _search_uses_clock(records, field) -> bool:
    known = records.env.registry.__dict__.setdefault(_SLOT, {})
    name = ('search', field)
    if name not in known:
        search = field.search
        if isinstance(search, str):
            search = getattr(type(records), search, None)
        known[name] = _code_uses_clock(type(records), search, 0, set())
    return known[name]


def _compute_uses_clock(model_class, field) -> bool:
    compute = field.compute
    if isinstance(compute, str):
        compute = getattr(model_class, compute, None)
    return _code_uses_clock(model_class, compute, 0, set())


def _code_uses_clock(model_class, function, depth: int, seen: set) -> bool:
    for code in _codes(model_class, function):
        if code in seen:
            continue
        seen.add(code)
        names = _names(code)
        if not _CLOCK_NAMES.isdisjoint(names):
            return True
        if depth < _MAX_DEPTH:
            for name in names:
                # methods of every model look at the clock for bookkeeping only, if at all
                method = None if hasattr(BaseModel, name) else getattr(model_class, name, None)
                if hasattr(method, '__code__') and _code_uses_clock(
                    model_class, method, depth + 1, seen
                ):
                    return True
    return False


def _codes(model_class, function):
    """The code of a method and of all methods which it overrides."""
    name = getattr(function, '__name__', None)
    for cls in model_class.__mro__:
        method = cls.__dict__.get(name)
        method = getattr(method, '__func__', method)
        if hasattr(method, '__code__'):
            yield method.__code__
    if hasattr(function, '__code__'):
        yield function.__code__


def _names(code) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if hasattr(constant, 'co_names'):
            names |= _names(constant)
    return names
