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
by the ORM is not known here.
"""

from __future__ import annotations

import weakref

from .clock import code_names, method_codes
from .versions import SIGNAL_RELATIONS


class Memory:
    """What ``tools.ormcache`` of one process was filled under.

    :param registry: whose values they are
    :param relations: tables that rights are made of in any case
    """

    def __init__(self, registry, relations):
        self._registry = registry
        self._always = frozenset(relations) - SIGNAL_RELATIONS
        self._relations: tuple[str, ...] | None = None
        self._rights: tuple | None = None
        self._latest: tuple | None = None
        self._transactions: weakref.WeakSet = weakref.WeakSet()

    def looked(self, transaction, env, versions) -> None:
        """A transaction has seen its snapshot's versions.

        :param versions: by relation
        """
        if self._relations is None:
            self._relations = tuple(sorted(self._always | _tables_of_values(env)))
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
            self._registry.clear_all_caches()
            # of this process only: nothing has changed that others would have to be told
            self._registry.cache_invalidated.clear()
            self._rights = transaction.rights

    def fits(self, transaction) -> bool:
        """Whether all values are those that a transaction would have put there."""
        return self._rights == transaction.rights and not self._has_others(transaction)

    def _has_others(self, transaction) -> bool:
        return any(
            other.rights != transaction.rights and other.is_open()
            for other in list(self._transactions)
        )


def _tables_of_values(env) -> set[str]:
    """Tables of the models that say, by clearing it, that the memory depends on them."""
    return {
        model._table
        for model in map(env.__getitem__, env.registry)
        if not model._abstract and not model._transient and clears_ormcache(model)
    }


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
