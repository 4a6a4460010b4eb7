"""What this transaction's snapshot shows: the versions of all guarded relations.

The one idea: one query on the caller's own cursor, hence in the caller's own snapshot,
asks what became visible since the process last looked.  The process keeps the sums (a
:class:`State`) and adds the difference; the result belongs to the transaction.

A state is carried forward only where that is provably complete, otherwise all versions
are read again (about 1 ms):

* the transaction's snapshot must cover the state's snapshot: a transaction that began
  earlier than what the process has folded in reads its own versions;
* ``#generation`` must be the one of the state: compaction, guarding and releasing change
  it, so no row that the state has not counted can have disappeared;
* the process must have looked through this very backend before: after a crash or a
  failover commits may be lost and their transaction ids used again, but no backend
  survives either, so the first look through a new backend reads everything.  A pooler
  keeps the connection, and in containers the other server has the same process ids, so
  the start of the server is part of a backend's name.

States are never modified once published, so threads need no lock to read them.

What may go wrong: an error of the version query would abort the caller's transaction.
It reads small tables of our own and calls built-in functions, nothing else; the engine
computes as if there were no cache while those tables are missing.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
import typing
import weakref

from . import journal
from .removal import Removals, is_removal
from .snapshot import Snapshot

SIGNALS = ('registry', 'default', 'assets', 'stable', 'templates', 'routing', 'groups')
"""Odoo's ``orm_signaling_*`` tables: a row tells workers to drop their ``tools.ormcache``
values.  Source: ``odoo/orm/registry.py``, ``_CACHES_BY_KEY``."""

SIGNAL_RELATIONS = frozenset(f'orm_signaling_{name}' for name in SIGNALS)

# See journal.py.  On the primary exactly the rows of transactions at or above xmax, or
# running then, can have become visible since a snapshot was taken.  On a standby running
# transactions are not listed, so everything from xmin on is read.
_DELTA = "SELECT cache_look(%s::xid8, %s::xid8[])"

_LAST_SIGNALS = ', '.join(f'(SELECT max(id) FROM orm_signaling_{name})' for name in SIGNALS)

_FULL = f"""
SELECT pg_current_xact_id_if_assigned() IS NOT NULL, pg_current_snapshot()::text,
       pg_backend_pid() || ' ' || pg_postmaster_start_time(), pg_is_in_recovery(),
       (SELECT json_object_agg(relation, token::text) FROM (
            SELECT relation, mod(sum(token), {journal.MODULUS}) AS token FROM (
                SELECT relation, token FROM cache_version
                UNION ALL
                SELECT relation, token FROM cache_change
            ) AS every_token GROUP BY relation) AS sums),
       (SELECT json_agg(relation) FROM cache_version
         WHERE strpos(relation, ':') = 0 AND (capture = 'triggers' OR %s)),
       (SELECT json_agg(json_build_array(id, xid::text)) FROM cache_change
         WHERE pg_is_in_recovery() AND xid >= pg_snapshot_xmin(pg_current_snapshot())),
       ARRAY[{_LAST_SIGNALS}]
"""

_SIGNALS = f"SELECT {_LAST_SIGNALS}"


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """All versions as one snapshot shows them.

    :param versions: version of every guarded relation, and of ``#all``
    :param removals: what was removed by key, pattern, tag or user
    :param signals: last id of every ``orm_signaling_*`` table, in order of SIGNALS
    :param counted: journal rows at or above xmin that are in the sums, kept on a standby
    :param read_at: clock of the process before the query, seconds
    """

    snapshot: Snapshot
    generation: str
    versions: dict[str, int]
    removals: Removals
    signals: tuple[int, ...]
    counted: frozenset[int]
    standby: bool
    read_at: float


class _Row(typing.NamedTuple):
    written: bool
    snapshot: Snapshot
    backend: str
    standby: bool
    rest: tuple


def _delta(cr, base: State) -> _Row:
    """Ask for what a state's snapshot did not show."""
    snapshot = base.snapshot
    if base.standby:
        cr.execute(_DELTA, [str(snapshot.xmin), []])
    else:
        cr.execute(_DELTA, [str(snapshot.xmax), [str(xid) for xid in snapshot.running]])
    written, shown, backend, standby, generation, *changes = cr.fetchone()[0].split('|', 5)
    rest = (generation, json.loads(changes[0]) if changes else [])
    return _Row(written == 't', Snapshot.parse(shown), backend, standby == 't', rest)


def _everything(cr, capture: str) -> _Row:
    # what was guarded for the ORM hooks only must not be trusted where these do not journal
    cr.execute(_FULL, [capture == 'orm'])
    written, shown, backend, standby, *rest = cr.fetchone()
    return _Row(written, Snapshot.parse(shown), backend, standby, tuple(rest))


class VersionBook:
    """The versions that one process knows of one database server.

    :param clock: monotonic seconds
    """

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._backends: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self.state: State | None = None
        self.capture = 'triggers'
        self.deltas = 0
        self.reloads = 0

    def look(self, cr) -> State | None:
        """Ask on the caller's cursor what its snapshot shows.

        :return: None when the transaction has written and therefore must compute
        :raise psycopg2.Error: from the query; the caller's transaction is then aborted
        """
        base, read_at = self.state, self._clock()
        if base is not None:
            row = _delta(cr, base)
            if row.written:
                return None
            known = row.backend in self._backends.get(cr._cnx, ())
            state = self._advance(cr, base, row, read_at) if known else None
            if state is not None:
                self.deltas += 1
                self._publish(state, base)
                return state
        return self._load(cr, base, read_at)

    def check(self, cr) -> None:
        """Run every query once.

        :raise psycopg2.Error: when the journal is missing, or is that of another version
        """
        state = self._load(cr, None, self._clock())
        if state is not None:
            _delta(cr, state)
            cr.execute(_SIGNALS)

    def forget(self) -> None:
        """Drop the state: the next look reads everything."""
        self.state = None

    def _advance(self, cr, base: State, row: _Row, read_at: float) -> State | None:
        """The state of the row's snapshot, or None when it does not follow from ``base``."""
        generation, changes = row.rest
        if (
            generation != base.generation
            or row.standby != base.standby
            or not row.snapshot.covers(base.snapshot)
            or (row.standby and row.snapshot.xmin < base.snapshot.xmin)
        ):
            # the last: a standby does not list what was running, only from where on
            return None
        if base.counted and not base.counted <= {id_ for id_, *_ in changes}:
            return None  # on a standby: a snapshot older than the state
        fresh = [change for change in changes if change[0] not in base.counted]
        versions, removals, signals = base.versions, base.removals, base.signals
        if fresh:
            versions, removals = _add(versions, removals, fresh)
            if any(relation in SIGNAL_RELATIONS for _id, _xid, relation, *_ in fresh):
                cr.execute(_SIGNALS)
                signals = tuple(cr.fetchone())
        return State(
            row.snapshot,
            generation,
            versions,
            removals,
            signals,
            _still_counted(row, changes),
            row.standby,
            read_at,
        )

    def _load(self, cr, base: State | None, read_at: float) -> State | None:
        row = _everything(cr, self.capture)
        if row.written:
            return None
        self.reloads += 1
        sums, guarded, changes, signals = row.rest
        guarded = set(guarded or ())
        versions = {rel: int(token) for rel, token in sums.items() if rel in guarded}
        removals = Removals({r: int(token) for r, token in sums.items() if is_removal(r)})
        generation = str(versions.pop(journal.GENERATION, ''))
        state = State(
            row.snapshot,
            generation,
            versions,
            removals,
            tuple(signals),
            _still_counted(row, changes or ()),
            row.standby,
            read_at,
        )
        backends = self._backends.setdefault(cr._cnx, set())
        if row.backend not in backends:
            # whatever was known may come from before a crash, so this replaces it, even
            # with an older snapshot: any state of this server's history is a good base
            backends.add(row.backend)
            with self._lock:
                self.state = state
        elif base is None or state.snapshot.covers(base.snapshot):
            self._publish(state, base)
        return state

    def _publish(self, state: State, base: State | None) -> None:
        with self._lock:
            # compare and set: a thread that was asleep during a crash of the server
            # must not bring back what it had read before
            if self.state is base:
                self.state = state


def _add(versions: dict, removals: Removals, changes) -> tuple[dict, Removals]:
    """Both with the tokens of journal rows added, as copies."""
    versions, removed = dict(versions), {}
    for _id, _xid, relation, token, _count in changes:
        if relation in versions:
            versions[relation] = (versions[relation] + int(token)) % journal.MODULUS
        elif is_removal(relation):
            removed[relation] = removed.get(relation, 0) + int(token)
    return versions, removals.plus(removed) if removed else removals


def _still_counted(row: _Row, changes) -> frozenset[int]:
    if not row.standby:
        return frozenset()
    return frozenset(id_ for id_, xid, *_ in changes if int(xid) >= row.snapshot.xmin)
