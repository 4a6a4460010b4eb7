"""What the ORM hooks do when something is written.

The one idea: the first write marks the transaction, without SQL, so that its reads compute
from then on; what changed is collected and told to this process after the commit.  Versions
are not written here: the triggers do that, in the same commit and for every program.

Where the database forbids triggers (``capture = orm``) the hooks write the journal as well:
the table itself, the relation tables of its many2many fields, and every table that a foreign
key with ON DELETE reaches.  They do so at once and every time, so that the row stands or falls
with the change, whatever savepoint both are in.  Raw SQL is not seen then.
"""

from __future__ import annotations

from . import journal
from .engine import engine_for
from .events import Watch, watch
from .memory import clears_ormcache
from .transaction import state_of


def note_changes(records, vals=None, removed: bool = False) -> Watch | None:
    """Called by ``create``, ``write``, ``unlink`` and the methods below them.

    :return: who wants to be told what happens to records of this model, if anybody does
    """
    cr = records.env.cr
    transaction = state_of(cr)
    transaction.dirty = True
    changes = transaction.changes
    change = changes.get(records._name)
    if change is None:
        if not changes:
            _first_change(records.env, transaction)
        change = changes[records._name] = Change(watch(records.env, records._name))
        if clears_ormcache(records):
            _note_ormcache(records.env, transaction)
    if transaction.journal_engine is not None:
        _journal(transaction.journal_engine, cr, records, removed)
    change.ids.update(records._ids)
    if vals:
        change.fields.update(vals)
    return change.watch


def note_draft(records) -> None:
    """A record without a row was made, by an onchange or by a compute method."""
    state_of(records.env.cr).drafts = True


class Change:
    """What happened to one model in one transaction, rolled back to a savepoint or not.

    :param watch: see :func:`note_changes`
    """

    __slots__ = ('fields', 'ids', 'watch')

    def __init__(self, watch: Watch | None):
        self.watch = watch
        self.ids: set = set()
        self.fields: set[str] = set()


def _note_ormcache(env, transaction) -> None:
    engine = engine_for(env.registry)
    if engine is not None:
        engine.writes(transaction)
        env.cr.postrollback.add(engine.rolled_back)


def _first_change(env, transaction) -> None:
    registry, cr = env.registry, env.cr
    engine = engine_for(registry)
    if engine is None:
        return
    engine.memory.wrote(transaction)
    changes = transaction.changes
    # after the commit, because a transaction that is rolled back has changed nothing
    cr.postcommit.add(lambda: engine.wrote(relations_of(registry, changes)))
    if engine.settings.capture == 'orm':
        transaction.journal_engine = engine


def _journal(engine, cr, records, removed: bool) -> None:
    relations = relations_of(engine.registry, (records._name,))
    if removed and not records._abstract:
        relations |= cascade(cr, {records._table})
    journal.note(cr, relations)


def relations_of(registry, changes) -> set[str]:
    """Tables that changes of models touch: their own and those of many2many fields."""
    known = registry.__dict__.setdefault(_SLOT, {})
    relations = set()
    for name in changes:
        if name not in known:
            known[name] = _relations_of_model(registry.models.get(name))
        relations |= known[name]
    return relations


_SLOT = '_tiered_cache_written_relations'


def _relations_of_model(model) -> set[str]:
    if model is None or model._abstract:
        return set()
    return {model._table} | {
        field.relation
        for field in model._fields.values()
        if field.type == 'many2many' and field.store and field.relation
    }


_REFERENCES = """
WITH RECURSIVE reached(relid) AS (
    SELECT oid FROM pg_class
     WHERE relname = ANY(%s) AND relnamespace = current_schema()::regnamespace
    UNION
    SELECT c.conrelid FROM pg_constraint c JOIN reached r ON c.confrelid = r.relid
     WHERE c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd')
) SELECT relname FROM pg_class JOIN reached ON oid = relid
"""


def cascade(cr, tables: set[str]) -> set[str]:
    """Tables which deleting from some tables may change, by ON DELETE CASCADE or SET NULL."""
    cr.execute(_REFERENCES, [sorted(tables)])
    return {relation for (relation,) in cr.fetchall()}
