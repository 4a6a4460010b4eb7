"""What the cache knows about one transaction.

The one idea: the state hangs on the cursor's own callback queues.  ``Cursor.commit``
clears ``postrollback.data`` and ``Cursor.rollback`` clears ``postcommit.data`` before any
callback runs, so a state that stands in *both* belongs to the transaction that is open
now.  A savepoint rollback leaves it, which is right: the snapshot is the same.

What may go wrong: ``cr.connection.commit()`` behind the cursor's back.  Odoo does not do
that, and code that does breaks the ORM cache just as well.
"""

from __future__ import annotations

import weakref

from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ

from .statements import sent

_SLOT = 'tiered_cache.transaction'

HAS_WRITTEN = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
"""Our own question about the transaction; nothing that is kept is made from its answer."""


class TransactionState:
    """:param dirty: an ORM hook fired: the transaction has written or is about to
    :param drafts: a record without a row was made; it may show up in what real records hold in
        memory, so later reads compute
    :param looked: the version query was asked
    :param versions: what the snapshot shows, see :class:`.versions.State`
    :param objection: why there are none although the transaction has not written
    :param rights: what ``tools.ormcache`` may hold for it, see :mod:`.memory`; None is unknown
    :param changes: what the ORM hooks saw: model → ids, for events after commit
    :param events: what somebody listens to, see :mod:`.event_log`; None while nothing happened
    :param journal_engine: the engine for which the ORM hooks write the journal, if they do
    :param refreshes: what to compute again when it is over: key → job; None while there is nothing
    :param memory: :class:`.memory.Memory` whose values it has changed by the ORM, or None
    """

    __slots__ = (
        '_cursor',
        '_sent',
        'changes',
        'dirty',
        'drafts',
        'events',
        'journal_engine',
        'looked',
        'memory',
        'objection',
        'refreshes',
        'rights',
        'versions',
        '__weakref__',
    )

    def __init__(self, cr):
        self._cursor = weakref.ref(cr)
        self.dirty = False
        self.drafts = False
        self.looked = False
        self.versions = None
        self.objection = ''
        self.rights: tuple | None = None
        self.changes: dict = {}
        self.events = None
        self.journal_engine = None
        self.refreshes: dict | None = None
        self.memory = None
        self._sent = 0.0

    def __deepcopy__(self, memo):
        """Itself: Odoo's ``TransactionCase`` copies what hangs on the queues before each test
        and puts it back afterwards.  The transaction is still the same one then, and what is
        known of it must not be two things, nor a copy of the engine."""
        return self

    def has_written(self, cr) -> bool:
        """Whether something was written since the last look, in any way.

        Asks the server only when the connection has sent SQL since, see :mod:`.statements`.

        To look at the texts instead, in Odoo's query hooks, would not do.  ``COPY``,
        ``executemany`` and a cursor of the same connection send SQL past the hooks: what it
        was, only the server knows.
        """
        if self.dirty or cr.readonly or sent(cr) == self._sent:
            return self.dirty
        cr.execute(HAS_WRITTEN)
        self.dirty = cr.fetchone()[0]
        self.looked_now(cr)
        return self.dirty

    def is_open(self) -> bool:
        """Whether the transaction has not ended yet."""
        cr = self._cursor()
        return cr is not None and not cr.closed and cr.postcommit.data.get(_SLOT) is self

    def looked_now(self, cr) -> None:
        self._sent = sent(cr)


def state_of(cr) -> TransactionState:
    """The state of the transaction that is open on a cursor."""
    state = cr.postcommit.data.get(_SLOT)
    if state is None or cr.postrollback.data.get(_SLOT) is not state:
        state = TransactionState(cr)
        cr.postcommit.data[_SLOT] = cr.postrollback.data[_SLOT] = state
    return state


def rolled_back_to_savepoint(cr) -> None:
    """Tell the memory of the process, where a transaction has changed what it is made of: values
    that were filled in between stay there.  Odoo clears them after a write, not after its undoing.
    """
    postcommit = getattr(cr, 'postcommit', None)
    state = None if postcommit is None else postcommit.data.get(_SLOT)
    if state is not None and state.memory is not None:
        state.memory.doubt()


def log_of(cr):
    """The log of events of the transaction that is open on a cursor of any kind, or None."""
    postcommit = getattr(cr, 'postcommit', None)
    if postcommit is None or _SLOT not in postcommit.data:
        return None
    return state_of(cr).events


def is_snapshot_stable(cr) -> bool:
    """Whether all statements of the transaction see one snapshot, without the bookkeeping
    of SERIALIZABLE, which a read from the cache would not take part in."""
    connection = cr._cnx
    return (
        connection.isolation_level == ISOLATION_LEVEL_REPEATABLE_READ and not connection.autocommit
    )
