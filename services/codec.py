"""Values to bytes and back, without loss.

What is it? The serializer of cached results. :func:`pack` turns what a read method returns into
bytes, :func:`unpack` turns them into an equal value of equal types: a new one on every call, so
that callers may change what they get.

The one idea: columns. Reads return long lists of dictionaries with the same keys (or tuples of
the same length). These are turned by 90 degrees before msgpack sees them: the keys are stored
once, a column of plain values is decoded by C alone, a column of dates is converted by one
``map``. The body is ``[plan, data]``: ``data`` holds only what msgpack keeps unchanged, and
``plan`` says how to rebuild the rest from it. What needs no rebuilding has the plan ``None`` and
costs nothing. The product list (80 rows, 23 columns) takes 160 µs as plain msgpack and 110 µs
this way, inflation included.

What may go wrong: a value that msgpack would change silently (a ``Markup`` into a ``str``, an
``IntEnum`` into an ``int``, a ``defaultdict`` into a ``dict``). Types are therefore compared
exactly, and everything unknown is refused with :class:`Unserializable`. Corrupt bytes raise
:class:`CorruptPayload` and cannot make :func:`unpack` allocate more than a constant multiple of
the inflated body: no number in a plan is believed before it is compared with data that is there.
Whether the bytes are the ones that were written is not asked here: :mod:`.entry` adds a checksum,
and a keyed one where others can write.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from sys import intern
from typing import Any, Final, TypeAlias

import msgpack
from markupsafe import Markup

FORMAT_VERSION: Final = 1
"""Changes whenever older bytes would be read differently; part of every key of a call."""

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Largest body, before compression, that is written or read."""

MAX_DEPTH: Final = 64
"""Most containers inside each other that are written."""

# zlib level 1 leaves 15 to 50 % of the reads of the demo data (2 of 9 KB of a product list, whose
# inflation is 11 of 110 µs). Below 1 KiB it would save too little memory to be worth any time.
COMPRESS_MIN_BYTES: Final = 1024
COMPRESS_MAX_RATIO: Final = 0.75
COMPRESS_LEVEL: Final = 1

# Fewer dictionaries are decoded faster one by one. Measured break-even: 6 to 12 rows.
COLUMNS_MIN_ROWS: Final = 10

# msgpack makes room for the items that an array announces, before 1.1 without any limit, and does
# so at each of 1,024 levels: 1 MB could take 8 GB and 8 s.  Longer arrays are looked at first.
_BELIEVED_ITEMS: Final = 4096

_HEADER_PLAIN: Final = bytes([FORMAT_VERSION << 1])
_HEADER_COMPRESSED: Final = bytes([FORMAT_VERSION << 1 | 1])

# Numbers in the format: changing one needs a new FORMAT_VERSION.
_BIG_INTEGER: Final = 1
_DATETIME, _DATE, _MARKUP, _DECIMAL = range(1, 5)
_TEXT, _TEXTS, _ITEMS, _TUPLE, _DICT, _TABLE, _ROWS, _SPLIT, _HOLES = range(1, 10)
_HOLE_VALUES: Final = (False, True, None)
_NO_HOLE: Final = 3

_NATIVE: Final = frozenset({type(None), bool, int, float, str, bytes})
_HOLE_TYPES: Final = frozenset({type(None), bool})

# Results of reads are rarely as deep or as wide; a value that contains itself soon is.
_CYCLE_CHECK_DEPTH: Final = 8
_CYCLE_CHECK_ITEMS: Final = 100_000

Shaped: TypeAlias = 'tuple[list | None, Any]'
"""``(plan, data)``. A plan of ``None`` means that ``data`` is the value itself."""


class Unserializable(ValueError):
    """A value that would not come back unchanged.

    :ivar path: where in the value, as an expression: ``"['records'][3]['partner_id']"``; empty for
        the value as a whole
    :ivar kind: the name of the refused type, or ``'depth'`` or ``'size'``
    """

    def __init__(self, path: str, kind: str):
        super().__init__(f'value{path} cannot be cached: {kind}')
        self.path = path
        self.kind = kind


class CorruptPayload(ValueError):
    """Bytes that :func:`pack` of this format version did not write."""


class _Refused(Exception):
    """Some part of the value cannot be packed; :func:`_first_refused` finds out which."""


# -- writing -----------------------------------------------------------------------------------


def pack(value: Any) -> bytes:
    """Serialize a value. It is not changed, and the same value always gives the same bytes.

    Kept exactly: ``None``, ``bool``, ``int`` of any size, ``float`` (NaN, infinities and -0.0
    too), ``str`` (lone surrogates too), ``bytes``, ``Decimal``, ``Markup``, ``date``, naive
    ``datetime``, and ``list``, ``tuple`` and ``dict`` of these, with their order and any of these
    as keys. Subclasses are refused, and so are sets, whose order would not survive.

    :return: a byte of version and flags, then the body
    :raise Unserializable: for anything else, and for more than :data:`MAX_BODY_BYTES` or
        :data:`MAX_DEPTH`
    """
    try:
        body = _to_msgpack(*_shape(value, 0))
    except _Refused:
        # only now is the place searched for: values that can be packed do not pay for it
        raise Unserializable(*(_first_refused(value, '', 0) or ('', 'depth'))) from None
    except (ValueError, MemoryError) as error:
        # msgpack has no room for a part of 4 GiB
        raise Unserializable('', 'size') from error
    if len(body) > MAX_BODY_BYTES:
        raise Unserializable('', 'size')
    if len(body) >= COMPRESS_MIN_BYTES:
        compressed = zlib.compress(body, COMPRESS_LEVEL)
        if len(compressed) <= len(body) * COMPRESS_MAX_RATIO:
            return _HEADER_COMPRESSED + compressed
    return _HEADER_PLAIN + body


def _to_msgpack(plan: list | None, data: Any) -> bytes:
    try:
        return msgpack.packb([plan, data], default=_pack_big_integer, strict_types=True)
    except UnicodeEncodeError:
        # The strict handler lets C copy the UTF-8 that a string already holds. The rare lone
        # surrogate is worth a second run, not a slower first one.
        return msgpack.packb(
            [plan, data],
            default=_pack_big_integer,
            strict_types=True,
            unicode_errors='surrogatepass',
        )


def _pack_big_integer(value: int) -> msgpack.ExtType:
    """msgpack's ``default``: in shaped data, C knows everything but integers beyond 64 bits."""
    length_bytes = value.bit_length() // 8 + 1
    return msgpack.ExtType(_BIG_INTEGER, value.to_bytes(length_bytes, 'big', signed=True))


def _shape(value: Any, depth: int) -> Shaped:
    """Shape any value that is inside of ``depth`` containers.

    :raise _Refused: when some part of the value has another type or is too deep
    """
    kind = type(value)
    if kind in _NATIVE:
        return None, value
    shaper = _SHAPERS.get(kind)
    if shaper:
        return shaper(value, depth)
    code, to_text = _text_form(kind)
    return [_TEXT, code], to_text(value)


def _text_form(kind: type) -> tuple[int, Callable[[Any], str]]:
    try:
        return _TEXT_FORMS[kind]
    except KeyError:
        raise _Refused from None


def _shape_list(values: list, depth: int) -> Shaped:
    """Shape a list or a column of a table."""
    if depth >= MAX_DEPTH:
        raise _Refused
    kinds = set(map(type, values))
    if kinds <= _NATIVE:
        return None, values
    if depth == _CYCLE_CHECK_DEPTH:
        _check_cycles(values)
    odd_kinds = kinds - _HOLE_TYPES
    if len(odd_kinds) == 1 and len(values) > 1:
        shape = _shape_holes if len(kinds) > 1 else _shape_uniform
        shaped = shape(values, *odd_kinds, depth)
        if shaped:
            return shaped
    return _shape_each(values, depth)


def _check_cycles(values: list | dict) -> None:
    """Refuse what contains itself: x = [x, x] would double 64 times before it is too deep."""
    try:
        # the fastest way there is: json notices cycles, and its encoder is written in C
        json.dumps(values, default=lambda _other: None, skipkeys=True)
    except (ValueError, RecursionError):
        raise _Refused from None


def _shape_each(values: list, depth: int) -> Shaped:
    shaped = [_shape(value, depth + 1) for value in values]
    plans = _plans(shaped)
    if not plans:
        return None, values
    return [_ITEMS, plans], [data for _plan, data in shaped]


def _plans(shaped: list[Shaped]) -> dict[int, list]:
    return {index: plan for index, (plan, _data) in enumerate(shaped) if plan is not None}


def _shape_uniform(values: list, kind: type, depth: int) -> Shaped | None:
    """Shape values of one type.

    :return: ``None`` when they have nothing else in common
    """
    shaper = _UNIFORM_SHAPERS.get(kind)
    if shaper:
        return shaper(values, depth)
    code, to_text = _text_form(kind)
    return [_TEXTS, code], list(map(to_text, values))


def _shape_holes(values: list, kind: type, depth: int) -> Shaped | None:
    """Shape values of one type among which are ``False`` or ``None``, Odoo's "nothing"."""
    shaped = _shape_uniform([value for value in values if type(value) is kind], kind, depth)
    if shaped is None:
        return None
    plan, data = shaped
    if plan is None:
        return None, values
    mask = bytes(_NO_HOLE if type(value) is kind else _HOLE_VALUES.index(value) for value in values)
    return [_HOLES, plan], [mask, data]


def _shape_tables(rows: list[dict], depth: int) -> Shaped | None:
    if len(rows) < COLUMNS_MIN_ROWS:
        return None
    # The types first: 1 == True == 1.0, so equal keys need not be the same keys.
    if set(map(type, chain.from_iterable(rows))) != {str} or len(set(map(tuple, rows))) != 1:
        return None
    plans, columns = _shape_columns(zip(*map(dict.values, rows), strict=True), depth)
    return [_TABLE, plans, list(rows[0])], columns


def _shape_rows(rows: list[tuple], depth: int) -> Shaped | None:
    if not rows[0] or len(set(map(len, rows))) != 1:
        return None
    plans, columns = _shape_columns(zip(*rows, strict=True), depth)
    return [_ROWS, plans], columns


def _shape_columns(columns: Iterable[tuple], depth: int) -> tuple[dict[int, list], list]:
    # a value in a column is inside of the row and the list of rows
    shaped = [_shape_list(list(column), depth + 1) for column in columns]
    return _plans(shaped), [data for _plan, data in shaped]


def _shape_split(values: list[list], depth: int) -> Shaped:
    """Shape the lists in a column (the lines of many orders) as one long list."""
    if sum(map(len, values)) > _CYCLE_CHECK_ITEMS:
        _check_cycles(values)
    plan, data = _shape_list(list(chain.from_iterable(values)), depth + 1)
    if plan is None:
        return None, values
    return [_SPLIT, plan], [list(map(len, values)), data]


def _shape_tuple(value: tuple, depth: int) -> Shaped:
    plan, data = _shape_list(list(value), depth)
    return [_TUPLE, plan], data


def _shape_dict(value: dict, depth: int) -> Shaped:
    if set(map(type, value)) <= {str}:
        return _shape_items(value, depth)
    keys_plan, keys = _shape_list(list(value), depth)
    values_plan, values = _shape_list(list(value.values()), depth)
    return [_DICT, keys_plan, values_plan], [keys, values]


def _shape_items(value: dict[str, Any], depth: int) -> Shaped:
    """Shape those items of a dictionary that need it."""
    if depth >= MAX_DEPTH:
        raise _Refused
    if set(map(type, value.values())) <= _NATIVE:
        return None, value
    if depth == _CYCLE_CHECK_DEPTH:
        _check_cycles(value)
    plans = {}
    changed = {}
    for key, item in value.items():
        if type(item) not in _NATIVE:
            plan, data = _shape(item, depth + 1)
            if plan is not None:
                plans[key] = plan
                changed[key] = data
    if not plans:
        return None, value
    return [_ITEMS, plans], value | changed


def _datetime_text(value: datetime) -> str:
    # Odoo's datetimes are naive. A time zone may be any object, and ``fold`` has no text form.
    if value.tzinfo is not None or value.fold:
        raise _Refused
    return value.isoformat()


_SHAPERS: Final[dict[type, Callable[[Any, int], Shaped]]] = {
    list: _shape_list,
    dict: _shape_dict,
    tuple: _shape_tuple,
}
_UNIFORM_SHAPERS: Final[dict[type, Callable[[list, int], Shaped | None]]] = {
    list: _shape_split,
    dict: _shape_tables,
    tuple: _shape_rows,
}
_TEXT_FORMS: Final[dict[type, tuple[int, Callable[[Any], str]]]] = {
    datetime: (_DATETIME, _datetime_text),
    date: (_DATE, date.isoformat),
    Markup: (_MARKUP, str.__str__),
    Decimal: (_DECIMAL, str),
}


def _first_refused(value: Any, path: str, depth: int) -> tuple[str, str] | None:
    """Walk through a value.

    :return: path and kind of the first part that :func:`pack` refuses
    """
    kind = type(value)
    if kind in _SHAPERS:
        return (path, 'depth') if depth >= MAX_DEPTH else _first_refused_item(value, path, depth)
    try:
        _shape(value, depth)
    except _Refused:
        return path, f'{kind.__name__} with time zone' if kind is datetime else kind.__name__
    return None


def _first_refused_item(value: Any, path: str, depth: int) -> tuple[str, str] | None:
    for key, item in value.items() if type(value) is dict else enumerate(value):
        # the key first: one that is refused may not even have a representation
        found = _first_refused(key, path, depth + 1) or (
            _first_refused(item, f'{path}[{key!r}]', depth + 1)
        )
        if found:
            return found
    return None


# -- reading -----------------------------------------------------------------------------------


def unpack(data: bytes) -> Any:
    """Return a new value equal to the one that was packed.

    :param data: what :func:`pack` returned
    :raise CorruptPayload: for any other bytes, and nothing else
    """
    try:
        plan, shaped = read_msgpack(
            _inflate(data),
            strict_map_key=False,
            unicode_errors='surrogatepass',
            ext_hook=_unpack_big_integer,
        )
        return _build(plan, shaped)
    except CorruptPayload:
        raise
    except Exception as error:
        # Whatever a foreign plan trips over (an index, a type, the recursion limit, memory): to
        # the caller it is one fault, and an error in a cache must not become one of the request.
        raise CorruptPayload(f'{type(error).__name__}: {error}') from error


def read_msgpack(body: bytes | memoryview, **options) -> Any:
    """``msgpack.unpackb``, which does not allocate more than a constant multiple of ``body``."""
    try:
        return msgpack.unpackb(body, max_array_len=_BELIEVED_ITEMS, **options)
    except ValueError:
        # longer, or corrupt; skipping allocates nothing, and ends with an error where items that
        # were announced are missing
        scan = msgpack.Unpacker(max_buffer_size=max(len(body), 1))
        scan.feed(body)
        scan.skip()
        return msgpack.unpackb(body, **options)


def _inflate(data: bytes) -> bytes | memoryview:
    body = memoryview(data)[1:]
    header = bytes(data[:1])
    if header == _HEADER_COMPRESSED:
        inflater = zlib.decompressobj()
        body = inflater.decompress(body, MAX_BODY_BYTES)
        if not inflater.eof or inflater.unused_data:
            raise CorruptPayload('the body is cut off, too large, or followed by something else')
    elif header != _HEADER_PLAIN:
        raise CorruptPayload(f'unknown header {header!r}')
    elif len(body) > MAX_BODY_BYTES:
        raise CorruptPayload('the body is too large')
    return body


def _unpack_big_integer(code: int, data: bytes) -> int:
    if code != _BIG_INTEGER:
        raise CorruptPayload(f'unknown extension type {code}')
    return int.from_bytes(data, 'big', signed=True)


def _build(plan: list | None, data: Any) -> Any:
    """Rebuild a value, changing ``data``."""
    return data if plan is None else _BUILDERS[plan[0]](plan, data)


def _build_text(plan: list, data: str) -> Any:
    return _TEXT_READERS[plan[1]](data)


def _build_texts(plan: list, data: list[str]) -> list:
    return list(map(_TEXT_READERS[plan[1]], data))


def _build_items(plan: list, data: list | dict) -> list | dict:
    for index, item_plan in plan[1].items():
        data[index] = _BUILDERS[item_plan[0]](item_plan, data[index])
    return data


def _build_tuple(plan: list, data: list) -> tuple:
    return tuple(_build(plan[1], data))


def _build_dict(plan: list, data: list) -> dict:
    keys, values = map(_build, plan[1:], data)
    result = dict(zip(keys, values, strict=True))
    _check(len(result) == len(keys))
    return result


def _build_tables(plan: list, data: list[list]) -> list[dict]:
    _build_items(plan, data)
    # interned as msgpack does it for keys, which makes looking them up faster
    keys = list(map(intern, plan[2]))
    if len(keys) == 2:
        # many2one values are pairs (id, display_name): a display takes a quarter of the time
        first, second = keys
        _check(first != second)
        return [{first: one, second: two} for one, two in zip(*data, strict=True)]
    # Overwriting copies of a template column by column takes 47 µs for 80 rows of 23 columns,
    # dict(zip(keys, row)) 66 µs, a generated dict display 50 µs.
    template = dict.fromkeys(keys)
    _check(len(template) == len(keys))
    rows = [template.copy() for _ in data[0]]
    for key, column in zip(keys, data, strict=True):
        for row, value in zip(rows, column, strict=True):
            row[key] = value
    return rows


def _build_rows(plan: list, data: list[list]) -> list[tuple]:
    return list(zip(*_build_items(plan, data), strict=True))


def _build_split(plan: list, data: list) -> list[list]:
    lengths, flat = data
    flat = _build(plan[1], flat)
    # before any slice is taken: after a negative length the next would start at the front again
    _check(min(lengths) >= 0 and sum(lengths) == len(flat))
    values = []
    start = 0
    for length in lengths:
        stop = start + length
        values.append(flat[start:stop])
        start = stop
    return values


def _build_holes(plan: list, data: list) -> list:
    mask, present = data
    items = iter(_build(plan[1], present))
    values = [next(items) if mark == _NO_HOLE else _HOLE_VALUES[mark] for mark in mask]
    _check(next(items, items) is items)
    return values


def _check(condition: bool) -> None:
    if not condition:
        raise CorruptPayload('plan and data disagree')


_TEXT_READERS: Final[dict[int, Callable[[str], Any]]] = {
    _DATETIME: datetime.fromisoformat,
    _DATE: date.fromisoformat,
    _MARKUP: Markup,
    _DECIMAL: Decimal,
}
_BUILDERS: Final[dict[int, Callable[[list, Any], Any]]] = {
    _TEXT: _build_text,
    _TEXTS: _build_texts,
    _ITEMS: _build_items,
    _TUPLE: _build_tuple,
    _DICT: _build_dict,
    _TABLE: _build_tables,
    _ROWS: _build_rows,
    _SPLIT: _build_split,
    _HOLES: _build_holes,
}
