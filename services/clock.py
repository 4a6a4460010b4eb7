"""Time as an input of a computation.

The one idea: what depends on the *date* gets the date into its key; what depends on the
*time of day* lives briefly.  The second is noticed when ``fields.Datetime.now()`` is called
(see :mod:`..patches`) or the SQL says ``now()``, and by looking once per registry at the code
of a field's compute or search method, and of the methods of the same model which it names,
for other ways to the clock.  The same look finds code that reads the web request.

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
"""Names which code that asks for the time of day uses.  ``today`` and ``context_today`` are
not among them: they give dates."""

_WATCHED = 'Datetime'
"""``Datetime.now`` tells at run time whether it was called, so its name says nothing."""

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


def uses(records, field) -> frozenset[str]:
    """What computing a field looks at besides the database: ``'clock'``, ``'request'``."""
    known = records.env.registry.__dict__.setdefault(_SLOT, {})
    if field not in known:
        known[field] = _uses(type(records), field.compute)
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
        known[name] = _uses(type(records), field.search)
    return 'clock' in known[name]


def _uses(model_class, function) -> frozenset[str]:
    """Inspect a method, given by name or itself, and what it names on its own model."""
    if isinstance(function, str):
        function = getattr(model_class, function, None)
    names = _all_names(model_class, function, 0, set())
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


def code_names(code) -> set[str]:
    """Names which code uses, without those that are watched at run time."""
    names: set[str] = set()
    before = None
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if isinstance(name, str) and instruction.opname.startswith(('LOAD_', 'IMPORT_')):
            if before != _WATCHED and instruction.opname != 'LOAD_CONST':
                names.add(name)
            before = name
        elif hasattr(name, 'co_code'):
            names |= code_names(name)
    return names
