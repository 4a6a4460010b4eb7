"""A computation that begins with an empty ORM cache, in the middle of a transaction.

The one idea: what sits in the ORM cache was read by somebody, perhaps with other rights, and sends
no SQL that could be recorded.  A named entry is computed at any moment of a transaction, so the
transaction's memory is laid aside for it and put back afterwards.

What may go wrong: the computation writes.  What it has put into memory is then newer than what
was laid aside, and may still have to be written: the new memory stays, the old one is forgotten,
as ``env.invalidate_all()`` would have done.
"""

from __future__ import annotations

import contextlib

from .transaction import state_of


@contextlib.contextmanager
def empty_memory(env):
    """Within it, the transaction of an environment remembers nothing that was read before.

    :param env: nothing may wait for being written or recomputed, and there may be no drafts
    """
    transaction, state = env.transaction, state_of(env.cr)
    laid_aside = transaction.field_data
    transaction.field_data = type(laid_aside)(laid_aside.default_factory)
    _forget_views(transaction)
    forget_zones(transaction)
    try:
        yield
    finally:
        unwritten = transaction.field_dirty or any(map(any, transaction.tocompute.values()))
        if not unwritten and not state.dirty and state_of(env.cr) is state:
            transaction.field_data = laid_aside
        _forget_views(transaction)


def forget_zones(transaction) -> None:
    """Let environments ask for the user's time zone again, where the context names none: of all
    that they keep it alone is made of a table on which not every entry depends, that of partners.
    """
    for env in transaction.envs:
        env.__dict__.pop('tz', None)


def _forget_views(transaction) -> None:
    """What environments hold of the memory; see ``Transaction.invalidate_field_data``."""
    for env in transaction.envs:
        with contextlib.suppress(AttributeError):
            del env._field_cache_memo
