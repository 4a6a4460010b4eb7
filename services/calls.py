"""Which calls save most time: what a warm-up repeats.

The one idea: figures know models and methods, a warm-up needs the calls themselves.  So the first
hit of a key in this process writes its call down, packed; every further hit adds two numbers.  Now
and then :meth:`Calls.drain` hands over what was hit, and :func:`write` adds it to the table
``cache_call``, one row per call, where the counts of all processes meet.

What a call saves is worth half as much after HALF_LIFE_S, so the table needs no row per day to
know what saves most time *now*.

What may go wrong: arguments are data (somebody's search term), so the table is for Cache
Administrators only, ``record_calls`` switches it off, and rows go after ``calls_keep_days``.  A
call that the codec does not carry exactly is not written down, and so is not warmed.  A process
that dies loses the counts of ``metrics_flush_s``.
"""

from __future__ import annotations

import hashlib
import threading
import typing

from . import codec

FORMAT: typing.Final = 1
"""Of a packed call."""

ORM, NAMED = 'orm', 'named'
"""A read method, at the bottom of the class hierarchy; a method with ``@cached``."""

MIN_SAVED_MS = 2.0
"""A hit that saved less says nothing: L1 does not even keep what costs less to compute."""

MAX_CALLS = 2_000
"""In one process; packed, a page's call takes 300 to 1,500 bytes, so 1 to 3 MB."""

KEPT_CALLS = 1_000
"""Of a full record, those that have saved most remain."""

MAX_BODY_BYTES = 65_536

HALF_LIFE_S = 7 * 24 * 3600
"""An office's work repeats by the week."""

FADE = 0.5
"""What a call has saved counts half with every drain, when one has to go."""

MAX_ROWS = 20_000
"""In the table, some 20 MB; the least valuable go first."""


class Call(typing.NamedTuple):
    """Everything that is needed to make a call again.

    :ivar kind: ORM or NAMED
    :ivar name: of the entries, for a named one
    :ivar ids: of the records that it was made on
    :ivar origin: (scheme, host, forced website, debug mode, language) of the web request, or None;
        what an earlier version wrote down has no language
    """

    kind: str
    model: str
    method: str
    name: str
    ids: tuple
    args: tuple
    kwargs: dict
    uid: int
    su: bool
    context: dict
    origin: tuple | None


class Packed(typing.NamedTuple):
    """A call as a row: what people look at, and the call itself."""

    digest: str
    kind: str
    model: str
    method: str
    name: str
    uid: int
    superuser: bool
    lang: str
    body: bytes


def pack(call: Call) -> Packed:
    """:raise codec.Unserializable: it would not come back unchanged"""
    context = {name: call.context[name] for name in sorted(call.context)}
    body = codec.pack((FORMAT, *call._replace(context=context)))
    if len(body) > MAX_BODY_BYTES:
        raise codec.Unserializable('', 'size')
    lang = context.get('lang')
    return Packed(
        hashlib.blake2b(body, digest_size=16).hexdigest(),
        call.kind,
        call.model,
        call.method,
        call.name,
        call.uid,
        call.su,
        lang if type(lang) is str else '',
        body,
    )


def unpack(body: bytes) -> Call:
    """:raise codec.CorruptPayload: for bytes that :func:`pack` of this version did not write"""
    value = codec.unpack(body)
    if type(value) is not tuple or value[:1] != (FORMAT,) or len(value) != 1 + len(Call._fields):
        raise codec.CorruptPayload('not a call of this format version')
    return Call(*value[1:])


class _Row:
    __slots__ = ('hits', 'packed', 'saved_ms', 'value_ms')

    def __init__(self, packed: Packed | None):
        self.packed = packed
        self.hits = 0
        self.saved_ms = self.value_ms = 0.0


class Calls:
    """The record of one process and database."""

    def __init__(self):
        self._lock = threading.Lock()
        self._rows: dict[str, _Row] = {}

    def hit(self, key: str, saved_ms: float) -> bool:
        """Count a hit.

        :return: False where the call is not known and there is room: tell it by :meth:`learn`
        """
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                return len(self._rows) >= MAX_CALLS
            row.hits += 1
            row.saved_ms += saved_ms
        return True

    def learn(self, key: str, saved_ms: float, call: Call) -> None:
        """Write a call down, at its first hit."""
        try:
            packed = pack(call)
        except codec.Unserializable:
            packed = None  # remembered, so that it is not tried again with each hit
        with self._lock:
            self._rows.setdefault(key, _Row(packed))
        self.hit(key, saved_ms)

    def drain(self) -> list[tuple[str, int, float, Packed]]:
        """What was hit since the last drain, for :func:`write`.

        :return: (key, hits, saved milliseconds, the call)
        """
        with self._lock:
            hit = [
                (key, row.hits, row.saved_ms, row.packed)
                for key, row in self._rows.items()
                if row.hits and row.packed is not None
            ]
            for row in self._rows.values():
                row.value_ms = row.value_ms * FADE + row.saved_ms
                row.hits, row.saved_ms = 0, 0.0
            if len(self._rows) >= MAX_CALLS:
                best = sorted(self._rows.items(), key=lambda item: -item[1].value_ms)
                self._rows = dict(best[:KEPT_CALLS])
        return hit

    def __len__(self):
        return len(self._rows)


# Rows are locked in the order of their digests by every process, so that two of them that write
# the same rows wait for each other instead of forming a deadlock.
_VALUE = (
    'cache_call.value_ms * power(0.5, least(1000, greatest(0, extract(epoch FROM'
    f" now() AT TIME ZONE 'utc' - cache_call.last_at)) / {HALF_LIFE_S}))"
)

_ADD = f"""
WITH fresh AS (SELECT * FROM unnest(%s::text[], %s::text[], %s::int[], %s::float8[])
                       AS fresh(digest, key, hits, saved_ms)),
     present AS (SELECT id, digest FROM cache_call
                  WHERE digest IN (SELECT digest FROM fresh) ORDER BY digest FOR UPDATE)
UPDATE cache_call
   SET key = fresh.key, hits = cache_call.hits + fresh.hits,
       saved_ms = cache_call.saved_ms + fresh.saved_ms,
       value_ms = {_VALUE} + fresh.saved_ms, last_at = now() AT TIME ZONE 'utc'
  FROM fresh JOIN present USING (digest)
 WHERE cache_call.id = present.id
RETURNING cache_call.digest
"""

_NEW = f"""
INSERT INTO cache_call (digest, key, hits, saved_ms, value_ms, kind, model, method, name, user_id,
                        superuser, lang, body, first_at, last_at)
SELECT digest, key, hits, saved_ms, saved_ms, kind, model, method, name, uid, superuser, lang, body,
       now() AT TIME ZONE 'utc', now() AT TIME ZONE 'utc'
  FROM unnest(%s::text[], %s::text[], %s::int[], %s::float8[], %s::text[], %s::text[], %s::text[],
              %s::text[], %s::int[], %s::bool[], %s::text[], %s::bytea[])
       AS fresh(digest, key, hits, saved_ms, kind, model, method, name, uid, superuser, lang, body)
 WHERE EXISTS (SELECT FROM res_users WHERE id = uid)
 ORDER BY digest
ON CONFLICT (digest) DO UPDATE
   SET key = EXCLUDED.key, hits = cache_call.hits + EXCLUDED.hits,
       saved_ms = cache_call.saved_ms + EXCLUDED.saved_ms,
       value_ms = {_VALUE} + EXCLUDED.saved_ms, last_at = EXCLUDED.last_at
"""

_PURGE_OLD = """
DELETE FROM cache_call WHERE last_at < (now() AT TIME ZONE 'utc') - make_interval(days => %s)
"""

_PURGE_MANY = f"""
DELETE FROM cache_call WHERE id IN (
       SELECT id FROM cache_call ORDER BY {_VALUE} DESC OFFSET %s)
"""

CURRENT_VALUE_SQL = _VALUE
"""What a row of ``cache_call`` is worth now, milliseconds."""


def write(cr, rows) -> int:
    """Add what was hit to the table ``cache_call``; commits nothing.

    :param cr: a cursor in READ COMMITTED
    :param rows: of :meth:`Calls.drain`
    :return: how many calls
    """
    by_digest: dict[str, list] = {}
    for key, hits, saved_ms, packed in rows:
        # the same call under two keys: the date changed, or the code did
        row = by_digest.setdefault(packed.digest, [packed.digest, key, 0, 0.0, packed])
        row[1] = key
        row[2] += hits
        row[3] += saved_ms
    if not by_digest:
        return 0
    ordered = [by_digest[digest] for digest in sorted(by_digest)]
    cr.execute(_ADD, [list(column) for column in list(zip(*ordered, strict=True))[:4]])
    known = {digest for (digest,) in cr.fetchall()}
    new = [[*row[:4], *row[4][1:]] for row in ordered if row[0] not in known]
    if new:
        cr.execute(_NEW, [list(column) for column in zip(*new, strict=True)])
    return len(ordered)


def purge(cr, days: int) -> int:
    """Forget what nobody has asked for, and what is least worth if there is too much.

    :return: how many rows went
    """
    cr.execute(_PURGE_OLD, [days])
    removed = cr.rowcount
    cr.execute(_PURGE_MANY, [MAX_ROWS])
    return removed + cr.rowcount
