"""A named entry from the call to the answer: look, wait, compute, keep.

The one idea: :func:`answer` looks; if there is nothing, one of all who want the same computes
(:mod:`.flight`), and what it computes is kept as :mod:`.reading` keeps a read.

    look ── hit ──────────────────────────────── near the end of its life? refresh later
     └─ wait for who computes it ── look again ── hit
         └─ compute, watched ── kept? ── answer
             └─ it raises, or takes too long ── an expired value stands in, if it may

What may go wrong: the computation raises.  Without ``fail_safe_s`` the caller gets the exception,
as without the cache.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time

import psycopg2

from odoo.exceptions import ConcurrencyError
from odoo.tools import config

from . import codec, keys, named, reading
from .computing import NOT_CHANGED, Computation, Detached, Tagged, own_environment
from .entry import FLAG_CLOCK
from .named import Answer, Call, Look
from .named_plan import BadOption
from .own_memory import empty_memory
from .savepoints import in_savepoint
from .transaction import state_of

_logger = logging.getLogger(__name__)


class ComputationWrites(RuntimeError):
    """A computation that writes cannot be cached: a hit would leave out what it does."""


class TooSlow(TimeoutError):
    """A computation took longer than ``hard_timeout_s``."""


def answer(engine, call: Call, function) -> Answer:
    """The value of a named entry, computed if need be.

    :param function: see :mod:`.computing`
    :raise codec.Unserializable: the value cannot be kept; the message names the path in it
    :raise ComputationWrites: in developer mode, for a computation that writes
    :raise TooSlow: see ``hard_timeout_s``
    """
    computation = Computation(function)
    _check(call.plan, computation)
    found = _look(engine, call)
    if found.answer is not None:
        _refresh_early(engine, call, computation, found)
        return found.answer
    if found.ticket is None:
        return _compute_unkept(engine, call, computation, found)
    if not call.plan.single_flight_s:
        return _compute(engine, call, computation, found)
    again = _Again(engine, call)
    with engine.flights.alone(found.ticket.key, call.plan.single_flight_s, again) as other:
        return other or _compute(engine, call, computation, found)


def look(engine, call: Call) -> Answer | None:
    """What is kept, and nothing computed."""
    if engine is None:
        return None
    found = _look(engine, call)
    if found.ticket is not None:
        engine.metrics.miss(found.ticket.reason, *call.name.label, 0.0, found.ticket.relation)
    return found.answer


def look_many(engine, calls: list[Call]) -> list[Answer | None]:
    """As :func:`look`, for several; each tier is asked once."""
    nothing = [None] * len(calls)
    if not calls:
        return nothing
    return safely(engine, calls[0], lambda: named.look_many(engine, calls), nothing)


def bring(engine, calls: list[Call], values: list) -> int:
    """Keep values that were not computed here.

    :return: how many were kept
    :raise codec.Unserializable: one cannot be; none is kept then
    """
    if reading.is_recording() or reading.is_computing_plainly() or not engine.available:
        return 0
    items = []
    for call, value in zip(calls, values, strict=True):
        ticket = named.ticket_for(engine, call)
        if ticket is not None:
            with reading.watch(ticket):
                pass
            keep(engine, call, ticket, value, call.plan.least_cost_ms, items.extend)
    if items:
        engine.hierarchy.put_many(items, at_once=True)
    return len(items)


def plain(env, function) -> Answer:
    """Compute without the cache."""
    return Answer(_bare(Computation(function)(env, None)), 'computed')


def _bare(value):
    return value.value if isinstance(value, Tagged) else value


def count_unkeyable(engine, label, error: keys.Unkeyable) -> None:
    """An argument has no canonical form; the call is computed."""
    if engine is not None:
        engine.metrics.miss('uncacheable', *label, relation=str(error))


class _Again:
    """Looks again after waiting."""

    def __init__(self, engine, call: Call):
        self._engine, self._call = engine, call

    def __call__(self) -> Answer | None:
        return _look(self._engine, self._call).answer


def _look(engine, call: Call) -> Look:
    return safely(engine, call, lambda: named.look(engine, call), named.NOTHING)


def safely(engine, call: Call, work, nothing):
    """Fail open: a fault of our own is a miss that is not kept.

    :param nothing: what is returned then
    """
    try:
        return work()
    except psycopg2.Error as error:
        # the transaction is aborted: as after any other query, the caller must know
        if not engine.lost_journal(error):
            raise
        raise ConcurrencyError("Tiered Cache was being uninstalled or upgraded") from error
    except keys.InvalidKey:
        raise
    except keys.Unkeyable as error:
        count_unkeyable(engine, call.name.label, error)
    except Exception as error:  # noqa: BLE001
        engine.fault(error, call.name.label)
    return nothing


def _check(plan, computation: Computation) -> None:
    needs = plan.eager_refresh or plan.soft_timeout_s or plan.hard_timeout_s
    if needs and not computation.takes_env:
        raise BadOption(
            'eager_refresh, soft_timeout_s and hard_timeout_s need a function that takes env: it is'
            ' called in a transaction of its own.'
        )


# -- computing -------------------------------------------------------------------------


def _compute(engine, call: Call, computation: Computation, found: Look) -> Answer:
    plan, fallback = call.plan, _fallback(call.plan, found.expired)
    if fallback is not None and engine.pauses.is_paused(fallback.key):
        return _stand_in(engine, call, fallback)
    try:
        if plan.soft_timeout_s or plan.hard_timeout_s:
            return _compute_in_time(engine, call, computation, found, fallback)
        with _savepoint(call.env.cr, fallback):
            return _compute_here(engine, call, computation, found)
    except (codec.Unserializable, ComputationWrites):
        raise
    except Exception as error:
        if fallback is None or isinstance(error, psycopg2.OperationalError):
            raise  # the second: Odoo repeats the request, or the connection is gone
        return _stand_in_for(engine, call, fallback, error)


def _compute_unkept(engine, call: Call, computation: Computation, found: Look) -> Answer:
    """Compute where the value is not kept by itself, such as within another computation.  That one
    is not kept either if an expired value stands in."""
    fallback = _fallback(call.plan, found.expired)
    if fallback is None:
        return Answer(_bare(computation(call.env, None)), 'computed')
    if engine.pauses.is_paused(fallback.key):
        reading.refuse('consistency')
        return _stand_in(engine, call, fallback)
    try:
        with _savepoint(call.env.cr, fallback):
            return Answer(_bare(computation(call.env, None)), 'computed')
    except psycopg2.OperationalError:
        raise
    except Exception as error:  # noqa: BLE001 as in _compute(); the rollback has refused
        return _stand_in_for(engine, call, fallback, error)


def _fallback(plan, expired):
    """The entry that may stand in for a value that cannot be computed, or None."""
    if not plan.fail_safe_s or expired is None:
        return None
    # beyond that it is kept for a renewal only
    return expired if time.time() < plan.end_of(expired) + plan.fail_safe_s else None


def _stand_in_for(engine, call: Call, fallback, error: Exception) -> Answer:
    """An expired value stands in after a failure, and nobody tries again for a while."""
    engine.pauses.pause(fallback.key, call.plan.fail_safe_pause_s)
    engine.log_once(
        f'fail-safe {call.name.text}'[:200],
        "Tiered Cache: %s could not be computed (%s: %s); a value whose time is over stands"
        " in. Further failures of this kind are only counted.",
        call.name.text,
        type(error).__name__,
        error,
    )
    return _stand_in(engine, call, fallback)


def _savepoint(cr, fallback):
    """A failed query must not abort the transaction of who gets an expired value instead."""
    return contextlib.nullcontext() if fallback is None else cr.savepoint(flush=False)


def _stand_in(engine, call: Call, entry) -> Answer:
    engine.metrics.event('fail_safe')
    engine.metrics.miss('expired', *call.name.label)
    return Answer(named.value_of(entry).value, 'expired', named.age_s(entry))


def _compute_here(engine, call: Call, computation: Computation, found: Look) -> Answer:
    """Compute in the caller's transaction, and keep the value."""
    ticket, started = found.ticket, time.perf_counter()
    expired = _to_renew(engine, computation, found)
    previous = None if expired is None else named.value_of(expired)
    with empty_memory(call.env), reading.watch(ticket):
        value = computation(call.env, previous)
    if value is NOT_CHANGED:
        if previous is None:
            raise ValueError('NOT_CHANGED was returned, and there was no previous value.')
        value = previous
    cost_ms = (time.perf_counter() - started) * 1000
    if expired is not None:
        # the value, or part of it, may be the old one, which was made of what was read then
        ticket.recording.inherit(expired.dependencies, bool(expired.flags & FLAG_CLOCK))
        if value is previous:
            cost_ms = max(cost_ms, expired.cost_ms)  # what a hit saves is the computation
    keep(engine, call, ticket, value, cost_ms)
    return Answer(_bare(value), 'computed')


def _to_renew(engine, computation: Computation, found: Look):
    """The entry whose value a computation may call unchanged, or None.

    EVENTUAL and WEAK serve what is no longer current.  Renewed, it would carry the versions of now,
    and nobody would ever see that it was not.
    """
    expired = found.expired if computation.takes_previous else None
    if expired is None or reading.judge(engine, expired, found.ticket.versions, False)[0]:
        return None
    return expired


def keep(engine, call: Call, ticket, value, cost_ms: float, put=None) -> bool:
    """Keep a value that was computed, or that somebody has brought.

    :param put: called with a list of what :meth:`.hierarchy.Hierarchy.put_many` takes; by default
        it is kept at once, since another process may be waiting for it
    :return: whether it was kept
    :raise codec.Unserializable: it cannot be
    :raise ComputationWrites: see :func:`answer`
    """
    records = call.env['cache.manager']
    reason, detail = reading.objection(engine, ticket, records, cost_ms)
    if reason == 'dirty' and config['dev_mode']:
        raise ComputationWrites(
            f'The computation of {call.name.text} writes. A hit would leave out what it does, so'
            ' it is not cached: take the writing out of it.'
        )
    payload, flags = named.pack(value)
    if not reason and call.plan.max_bytes and len(payload) > call.plan.max_bytes:
        reason = 'large'
    item = None if reason else reading.item_of(engine, ticket, payload, cost_ms, flags)
    if item is not None:
        (put or functools.partial(engine.hierarchy.put_many, at_once=True))([item])
        reason, detail = ticket.reason, ticket.relation
    total_ms = (time.perf_counter() - ticket.started) * 1000
    engine.metrics.miss(reason or 'large', *ticket.name, total_ms, detail)
    return item is not None


def _compute_in_time(engine, call, computation, found: Look, fallback) -> Answer:
    """Compute in a transaction of its own that sees what the caller sees, within a time limit."""
    plan = call.plan
    if in_savepoint(call.env.cr):  # where PostgreSQL exports no snapshot
        with _savepoint(call.env.cr, fallback):
            return _compute_here(engine, call, computation, found)
    call.env.cr.execute('SELECT pg_export_snapshot()')
    snapshot = call.env.cr.fetchone()[0]
    detached = Detached(
        lambda env: _compute_own(engine, call, computation, env), call.env, snapshot
    )
    if not detached.start():
        if fallback is not None:
            return _stand_in(engine, call, fallback)
        return _compute_here(engine, call, computation, found)
    soft_s = plan.soft_timeout_s if fallback is not None else 0.0
    if detached.wait(min(filter(None, (soft_s, plan.hard_timeout_s)), default=None)):
        if detached.error is not None:
            raise detached.error
        return detached.value
    if fallback is not None:
        engine.pauses.pause(found.ticket.key, plan.fail_safe_pause_s)
        return _stand_in(engine, call, fallback)
    raise TooSlow(f'{call.name.text} took longer than {plan.hard_timeout_s:g} s to compute.')


def _compute_own(engine, call: Call, computation: Computation, env) -> Answer:
    """Compute and keep in another environment."""
    own = call._replace(env=env)
    ticket = named.ticket_for(engine, own)
    if ticket is None:
        return Answer(_bare(computation(env, None)), 'computed')
    expired = None
    if computation.takes_previous:
        expired = named.look(engine, own).expired
    return _compute_here(engine, own, computation, Look(None, ticket, expired))


# -- refreshing ------------------------------------------------------------------------


def _refresh_early(engine, call: Call, computation: Computation, found: Look) -> None:
    """Have a value computed again that has only a small part of its life left."""
    plan, entry = call.plan, found.entry
    if not plan.eager_refresh or entry is None:
        return
    ends = plan.end_of(entry)
    if ends - time.time() > plan.eager_refresh * (ends - entry.created):
        return
    detached = call._replace(env=None)
    env = (call.env.cr.dbname, call.env.uid, call.env.context, call.env.su)
    work = functools.partial(refresh, engine, detached, computation, env, entry.key)
    _ask_at_the_end(engine, call.env.cr, entry.key, work)


def _ask_at_the_end(engine, cr, key: str, work) -> None:
    """Ask for a refresh when the transaction is over, so that it does not take processor time from
    the request that has found the value."""
    transaction = state_of(cr)
    if transaction.refreshes is None:
        refreshes = transaction.refreshes = {}

        def ask():
            for name, job in refreshes.items():
                engine.refresher.ask(name, job)

        cr.postcommit.add(ask)
        cr.postrollback.add(ask)
    transaction.refreshes.setdefault(key, work)


def refresh(engine, call: Call, computation: Computation, env: tuple, key: str) -> bool:
    """Compute a value again in the background, unless another process is at it.

    :param env: database, user id, context and superuser mode
    :return: whether it was computed
    """
    with engine.flights.if_nobody_does(key) as mine:
        if not mine:
            return False
        with own_environment(*env) as own:
            _compute_own(engine, call, computation, own)
        engine.metrics.event('eager_refresh')
        return True
