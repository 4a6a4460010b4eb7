"""Which rows of a model have changed since a snapshot, as far as PostgreSQL tells by itself.

The one idea: each row says which transaction has written it (``xmin``).  What the earlier snapshot
does not show was written by a transaction not older than the oldest that ran then, so a *mark*
keeps the number of that one, and digests that prove what the numbers alone do not:

=========  =======================================================================================
``base``   of the versions without what came since.  It is the same later on if nothing but the
           journal's rows since lies between: no restored backup, no failover, no other server.
``shown``  of what the earlier snapshot shows of that one and later ones, up to the last number:
           were these lost, by a failover, no number would lead to their rows.
``ids``    of which rows there were.  Rows that were deleted leave nothing behind but that it
           cannot be made any more of the rows that are left.
=========  =======================================================================================

A number is compared with the oldest running one, never with the list of those that ran: rows that
were written within a savepoint carry a number of their own, which stands in no snapshot.

What may go wrong: it is not known (None), and then every row counts as changed: rows were deleted,
more than :data:`MAX_ROWS` would have to be looked at, the journal was summed up meanwhile, a
transaction that was running was committed with a number below the last one shown.  One that runs
for long makes rows be told again that were told before.
"""

from __future__ import annotations

import typing

from odoo.tools import SQL

from .journal import ALL, MODULUS

MAX_ROWS = 100_000
"""Of the tables of a model.  Looking at so many takes 30 ms, once for each question after a
change."""

_NEVER = 1 << 62

_NOW = SQL("pg_snapshot_xmax(pg_current_snapshot())::text::bigint")

_OLDEST = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"

_SINCE = """
SELECT xid::text::bigint, relation, token FROM cache_change
 WHERE relation = ANY(%s) AND xid >= %s::text::xid8 ORDER BY xid, relation, token
"""
_SIZE = "SELECT sum(reltuples) FROM pg_class WHERE oid = ANY(%s::text[]::regclass[])"


class Tables(typing.NamedTuple):
    """Where the rows of a model lie.

    :param own: its table
    :param parents: (table, column of ``own`` that names its row) of each model that it inherits
        from by delegation
    """

    own: str
    parents: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, model) -> Tables:
        parents = ((model.env[name]._table, field) for name, field in model._inherits.items())
        return cls(model._table, tuple(parents))


def mark(cr, tables: Tables, versions: dict, keyed) -> dict | None:
    """What to remember of the snapshot of a cursor, in msgpack's types; None: too much.

    :param versions: by relation, of all that the model's rows lie in, as the snapshot shows them
    :param keyed: ``keyed(value)`` is a digest that only this database can make
    """
    names = [f'"{name}"' for name in (tables.own, *(table for table, _field in tables.parents))]
    cr.execute(_SIZE, [names])
    if cr.fetchone()[0] > MAX_ROWS:
        return None
    cr.execute(_OLDEST)
    (oldest,) = cr.fetchone()
    newer = _since(cr, versions, oldest)
    rows = _look(cr, tables, _NEVER)
    return {
        'x': oldest,
        'l': newer[-1][0] if newer else 0,
        's': keyed(newer),
        'b': keyed(_base(versions, newer)),
        'i': keyed([rows.count, rows.total]),
    }


def since(cr, tables: Tables, versions: dict, keyed, known, most: int) -> list[int] | None:
    """Ids of the rows that were written or created since a mark, perhaps a few more.

    :param known: of :func:`mark`, or whatever somebody has made of it
    :param most: how many of them are worth telling
    :return: None: any row may have changed, or is not there any more
    """
    if not isinstance(known, dict) or known.keys() != {'x', 'l', 's', 'b', 'i'}:
        return None
    oldest, last = known['x'], known['l']
    if type(oldest) is not int or not 0 < oldest < _NEVER or type(last) is not int:
        return None
    newer = _since(cr, versions, oldest)
    if keyed(_base(versions, newer)) != known['b']:
        return None
    if keyed([row for row in newer if row[0] <= last]) != known['s']:
        return None
    rows = _look(cr, tables, oldest)
    if len(rows.changed) > most:
        return None
    # those that were created are the newest: without them there must be what there was
    count, total = rows.count + len(rows.changed), rows.total + sum(rows.hashes)
    for hash_ in (*rows.hashes, None):
        if keyed([count, total]) == known['i']:
            return rows.changed
        if hash_ is not None:
            count, total = count - 1, total - hash_
    return None


class _Rows(typing.NamedTuple):
    """:param count: of those that have not changed
    :param total: of the hashes of their ids
    :param changed: ids of the others, the newest first
    :param hashes: of these ids
    """

    count: int
    total: int
    changed: list[int]
    hashes: list[int]


def _look(cr, tables: Tables, oldest: int) -> _Rows:
    own = SQL.identifier(tables.own)
    joins, changed = [], [_is_since(own, oldest)]
    for number, (table, field) in enumerate(tables.parents):
        alias = SQL.identifier(f'parent_{number}')
        joins.append(
            SQL(
                "LEFT JOIN %s %s ON %s.id = %s.%s",
                SQL.identifier(table), alias, alias, own, SQL.identifier(field),
            )
        )  # fmt: skip
        changed.append(_is_since(alias, oldest))
    cr.execute(
        SQL(
            """
            SELECT count(*) FILTER (WHERE NOT changed),
                   coalesce(sum(hash) FILTER (WHERE NOT changed), 0)::text,
                   coalesce(array_agg(id ORDER BY id DESC) FILTER (WHERE changed), '{}'),
                   coalesce(array_agg(hash ORDER BY id DESC) FILTER (WHERE changed), '{}')
              FROM (SELECT %s.id, hashint8extended(%s.id, 0) AS hash,
                           coalesce(%s, false) AS changed FROM %s %s) AS rows
            """,
            own, own, SQL(' OR ').join(changed), own, SQL(' ').join(joins),
        )
    )  # fmt: skip
    count, total, ids, hashes = cr.fetchone()
    return _Rows(count, int(total), ids, hashes)


def _is_since(alias: SQL, oldest: int) -> SQL:
    """Whether a row was written by a transaction with this number or a later one.  ``xmin`` has the
    lower 32 bits of the number; one from before these came round counts as later."""
    number = SQL("%s.xmin::text::bigint", alias)
    return SQL("%s - mod(%s - %s, 4294967296) >= %s", _NOW, _NOW, number, oldest)


def _since(cr, versions: dict, oldest: int) -> list[list]:
    """What transactions with this number or a later one have added to versions: their numbers,
    relations and tokens."""
    cr.execute(_SINCE, [[name for name in versions if name != ALL], str(oldest)])
    return [list(row) for row in cr.fetchall()]


def _base(versions: dict, newer: list[list]) -> list:
    """Versions without what was added."""
    base = dict(versions)
    for _number, relation, token in newer:
        base[relation] = (base[relation] - token) % MODULUS
    return [list(one) for one in base.items()]
