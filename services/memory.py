"""``tools.ormcache`` knows no snapshots; of which state of the database are its values?

The one idea: the *rights* of a snapshot are the versions of the tables that such values are made
of.  Nothing is kept that was computed while values of other rights may have been in memory.
Where a transaction finds that the rights are others than those under which the memory was filled,
the memory of this process is emptied first; and as long as a transaction with other rights is
open in another thread, which may fill it at any time, nothing is kept.

Odoo's own signals do not do: they are sent after the commit, so a worker that is killed in
between leaves all others with what they knew; and where a server has threads, a transaction with
an old snapshot fills the memory again after the signal has emptied it.

What may go wrong: a transaction with an old snapshot that has neither asked the cache nor written
by the ORM is not known here.  Values that other modules keep in this memory are guarded by Odoo's
signals only.
"""

from __future__ import annotations

import weakref

from .clock import code_names, method_codes
from .versions import SIGNAL_RELATIONS

MODELS = (
    'decimal.precision',
    'ir.actions.act_url',
    'ir.actions.act_window',
    'ir.actions.act_window_close',
    'ir.actions.actions',
    'ir.actions.client',
    'ir.actions.report',
    'ir.actions.server',
    'ir.asset',
    'ir.config_parameter',
    'ir.default',
    'ir.model.access',
    'ir.model.data',
    'ir.module.module',
    'ir.rule',
    'ir.ui.menu',
    'ir.ui.view',
    'res.company',
    'res.country',
    'res.currency',
    'res.groups',
    'res.lang',
    'res.users',
)
"""Models of Odoo's base that clear the memory when they are written."""

BEHIND = (*MODELS, 'ir.model.fields', 'ir.model.fields.selection')
"""What values of Odoo's base in this memory are made of.  Whoever takes a value from there sends no
SQL that could be recorded, so every entry depends on these tables: ``psql`` sends no signal, nor
does a worker that is killed right after its commit."""


class Memory:
    """What ``tools.ormcache`` of one process was filled under.

    :param registry: whose values they are
    :param relations: tables that rights are made of in any case
    """

    def __init__(self, registry, relations):
        self._registry = registry
        tables = {registry[name]._table for name in MODELS if name in registry}
        self._relations = tuple(sorted(tables | set(relations) - SIGNAL_RELATIONS))
        self._rights: tuple | None = None
        self._latest: tuple | None = None
        self._transactions: weakref.WeakSet = weakref.WeakSet()

    def looked(self, transaction, versions) -> None:
        """A transaction has seen its snapshot's versions.

        :param versions: by relation
        """
        self._add(transaction, tuple(map(versions.get, self._relations)))

    def wrote(self, transaction) -> None:
        """A transaction writes that has not looked; it has the rights of its time."""
        if transaction.rights is None:
            self._add(transaction, self._latest)

    def _add(self, transaction, rights) -> None:
        transaction.rights = self._latest = rights
        self._transactions.add(transaction)
        if rights != self._rights:
            self._rights = None

    def settle(self, transaction) -> None:
        """Empty the memory if it was filled under other rights than a transaction has."""
        if self._has_others(transaction):
            self._rights = None
        elif self._rights != transaction.rights:
            self._empty()
            self._rights = transaction.rights

    def doubt(self) -> None:
        """It may hold values that a transaction has put there and then undone."""
        self._rights = None

    def set_apart(self, transaction) -> None:
        """A transaction goes on with what it remembers of another state, see :mod:`.remembered`.

        Until it ends it may put values into the memory that nobody else would.
        """
        transaction.rights = (object(),)
        self._rights = None

    def renew(self, transaction) -> None:
        """Empty the memory whatever it was filled under; a transaction fills it anew."""
        self._empty()
        self._rights = None if self._has_others(transaction) else transaction.rights

    def _empty(self) -> None:
        """In this process only: nothing has changed that others would have to be told."""
        to_tell = self._registry.cache_invalidated
        before = set(to_tell)
        self._registry.clear_all_caches()
        # what another transaction of this thread has cleared is still told when it commits
        to_tell.intersection_update(before)

    def fits(self, transaction) -> bool:
        """Whether all values are those that a transaction would have put there."""
        return self._rights == transaction.rights and not self._has_others(transaction)

    def _has_others(self, transaction) -> bool:
        return any(
            other.rights != transaction.rights and other.is_open()
            for other in list(self._transactions)
        )


def clears_ormcache(model) -> bool:
    """Whether writing to a model drops values of ``tools.ormcache``, as its code says."""
    known = model.env.registry.__dict__.setdefault(_CLEARING_SLOT, {})
    if model._name not in known:
        known[model._name] = any(
            not _CLEARING.isdisjoint(code_names(code))
            for method in ('create', 'write', 'unlink', '_write_multi')
            for code in method_codes(type(model), getattr(type(model), method))
        )
    return known[model._name]


_CLEARING_SLOT = '_tiered_cache_clearing_models'
_CLEARING = frozenset(('clear_cache', 'clear_all_caches', 'call_cache_clearing_methods'))
