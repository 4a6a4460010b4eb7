"""What has happened in one transaction to models that somebody listens to.

The one idea: the log is cut where savepoints are made.  It is a list of *segments*; making a
savepoint ends one, and rolling back to it drops those after it, so what is left is what the
transaction will commit (:mod:`.savepoints` tells).  Within a segment no order is needed: a
record is created before it is updated, and deleted last, and no id is used twice.

*Settling* a segment, before the commit and before each savepoint that flushes, finds what its
changes remove and writes that to the journal.  A rollback drops those rows as well; a segment
from before the savepoint that was settled after it is settled again.

What may go wrong: a savepoint made by raw SQL is not seen.  What was rolled back to it is still
emitted, and rows written after it for changes from before it are missing.  Odoo makes none.
"""

from __future__ import annotations

import collections
import typing
from collections.abc import Callable

from .event_names import CREATED, DELETED, UPDATED

_ARMED = 'tiered_cache.events'

LOG_COLUMNS = frozenset({'write_uid', 'write_date', 'create_uid', 'create_date'})
"""Every write changes them, so they are not named among the changed fields."""


class Mark(typing.NamedTuple):
    segments: int
    settled: int
    rows: int


START = Mark(0, 0, 0)


class Change:
    """What happened to one model in one segment.

    :param listener: what is wanted of the model, see :class:`.event_rules.Listener`
    :ivar created: ids
    :ivar updated: names of changed fields, by id
    :ivar deleted: ids
    :ivar emitted: ids by name of an event that a module has emitted
    :ivar before: values that a record had, by id; see :mod:`.event_rules`
    :ivar deleted_as: of the deleted, ids that had matched, by name of a business event
    :ivar matched: ids that match, by name of a business event; found when it is settled
    :ivar uids: of the users who did it, in order
    """

    __slots__ = (
        'before',
        'created',
        'deleted',
        'deleted_as',
        'emitted',
        'listener',
        'matched',
        'uids',
        'updated',
    )

    def __init__(self, listener):
        self.listener = listener
        self.created: set[int] = set()
        self.updated: dict[int, set[str]] = {}
        self.deleted: set[int] = set()
        self.emitted: dict[str, set[int]] = {}
        self.before: dict[int, list[dict]] = {}
        self.deleted_as: dict[str, set[int]] = {}
        self.matched: dict[str, set[int]] = {}
        self.uids: dict[int, None] = {}

    def update(self, id_: int, names) -> None:
        known = self.updated.get(id_)
        if known is None:
            self.updated[id_] = set(names)
        else:
            known.update(names)


Segment = dict[tuple[str, str], Change]


class EventLog:
    """:param settle: ``settle(cr, log)`` deals with what is unsettled"""

    def __init__(self, settle: Callable):
        self.segments: list[Segment] = []
        self.rows: dict[str, str] = {}  # of the journal, and from which template
        self.counts: collections.Counter = collections.Counter()  # rows by template
        self._settle = settle
        self._settled = 0
        self._open: Segment | None = None

    def change(self, cr, model: str, listener, emitted: str = '') -> Change:
        """Where to note what happens now.

        :param emitted: name of an event that a module emits, '' for what the ORM tells: other
            rules are about it
        """
        if self._open is None:
            self._open = {}
            self.segments.append(self._open)
        self._arm(cr)
        change = self._open.get((model, emitted))
        if change is None:
            change = self._open[model, emitted] = Change(listener)
        return change

    def add_rows(self, rows, template: str) -> None:
        """Remember rows that were written to the journal."""
        for row in rows:
            if row not in self.rows:
                self.rows[row] = template
                self.counts[template] += 1

    def unsettled(self) -> list[Segment]:
        """Segments to settle, the open one included."""
        return self.segments[self._settled :]

    def take_unsettled(self) -> list[Segment]:
        """The same; what happens from now on goes to others."""
        segments = self.unsettled()
        self._settled, self._open = len(self.segments), None
        return segments

    # -- savepoints --------------------------------------------------------------------

    def mark(self) -> Mark:
        """Of a savepoint that was just made."""
        self._open = None
        return Mark(len(self.segments), self._settled, len(self.rows))

    def rolled_back(self, cr, mark: Mark) -> None:
        """Forget what happened since a savepoint."""
        del self.segments[mark.segments :]
        self._settled, self._open = min(self._settled, mark.settled), None
        while len(self.rows) > mark.rows:
            _row, template = self.rows.popitem()
            self.counts[template] -= 1
        if self._settled < len(self.segments):
            self._arm(cr)

    def _arm(self, cr) -> None:
        # the mark stands beside the callbacks, so it is gone whenever they are
        if _ARMED not in cr.precommit.data:
            cr.precommit.data[_ARMED] = True
            cr.precommit.add(lambda: self._run(cr))

    def _run(self, cr) -> None:
        cr.precommit.data.pop(_ARMED, None)
        try:
            self._settle(cr, self)
        except Exception:
            # of the caller's pending changes: the caller may drop them, and commit the rest
            self._arm(cr)
            raise

    # -- after the commit --------------------------------------------------------------

    def totals(self, since: int = 0) -> dict[str, Total]:
        """What happened to each model, in the order in which it was first touched.

        :param since: number of segments to leave out
        """
        totals: dict[str, Total] = {}
        for segment in self.segments[since:]:
            for (model, _emitted), change in segment.items():
                if model not in totals:
                    totals[model] = Total()
                totals[model].add(change)
        return totals


class Total:
    """What happened to one model in the whole transaction."""

    def __init__(self):
        self._created: set[int] = set()
        self._updated: dict[int, set[str]] = {}
        self._deleted: set[int] = set()
        self.emitted: dict[str, set[int]] = {}
        self._matched: dict[str, set[int]] = {}
        self.uid = 0

    def add(self, change: Change) -> None:
        self._created |= change.created
        self._deleted |= change.deleted
        for id_, names in change.updated.items():
            self._updated[id_] = self._updated.get(id_, set()) | names
        for mine, others in ((self.emitted, change.emitted), (self._matched, change.matched)):
            for name, ids in others.items():
                mine[name] = mine.get(name, set()) | ids
        self.uid = self.uid or next(iter(change.uids), 0)

    def ids(self, what: str) -> set[int]:
        """:param what: of :data:`.event_names.CHANGES`; a record has at most one"""
        if what == CREATED:
            return self._created - self._deleted
        if what == DELETED:
            return self._deleted - self._created
        assert what == UPDATED
        return self._updated.keys() - self._created - self._deleted

    def matched(self, name: str) -> set[int]:
        """Records of a business event that has a domain."""
        return self._matched.get(name, set()) - (self._created & self._deleted)

    def fields(self, ids) -> frozenset[str]:
        """Names of the fields that were changed of records that existed before."""
        found: set[str] = set()
        for id_ in self.ids(UPDATED) & set(ids):
            found |= self._updated[id_]
        return frozenset(found)
