"""An answer to a program outside, kept in one piece, with an ETag.

The one idea: the answer of a request is a named entry that holds the bytes which go out.  It
depends on all that its parts depend on, and its *ETag* is a keyed digest of its name and of the
versions of these dependencies.  So a poller who says what it has got (``If-None-Match``) costs the
version query and a look into L1, and nothing is computed, decoded or encoded.

The parts are reads that are cached by themselves (:class:`.reading.gathering`): a change to one
table makes the whole be put together anew, from parts that are still good.

What may go wrong: something speaks against keeping the answer (a table without its triggers yet, a
web service that was asked, a transaction that has written).  It is answered all the same, without
an ETag.  One that is too large to be kept leaves its ETag behind alone.
"""

from __future__ import annotations

import hashlib
import math
import time
import typing

from . import answering, keys, named, reading
from .configuration import seal_secret
from .own_memory import empty_memory

OPTIONS = {'ttl_s': 3600}
"""Of the named entries: as long as reads of the ORM, since hits are judged in the same way."""

_PERSON = b'tc etag'


class Served(typing.NamedTuple):
    """:param status: of HTTP
    :param body: JSON in UTF-8; empty where ``etag`` is one that the asker has
    :param etag: without quotes; '' for an answer that may be another one the next time
    :param origin: 'l1', 'l2', 'l3' or 'computed'
    """

    status: int
    body: bytes
    etag: str
    origin: str = 'computed'


class Computed(typing.NamedTuple):
    """What a computation gives.

    :param lasting: False for an answer that must not be kept, such as one that ran out of time
    """

    status: int
    body: bytes
    lasting: bool = True


def serve(engine, env, name: str, extra: tuple, compute, has, prepare=None) -> Served:
    """Answer from the cache, or compute and keep.

    :param engine: of this process, or None: computed without the cache
    :param env: of who asks
    :param name: of the named entry, without version: ``supplier:detail:42``
    :param extra: whatever else the answer depends on, in msgpack's types
    :param compute: without arguments; returns :class:`Computed`
    :param has: ``has(etag)``: whether the asker has the answer with this ETag
    :param prepare: without arguments; called before something is computed, what it asks of
        PostgreSQL does not count as read
    """
    compute = _Computation(compute, prepare or _nothing)
    if engine is None:
        return _plain(compute)
    label = ('', name.partition(':')[0])
    plan = engine.config.named_plan(name, OPTIONS)
    call = named.Call(env, named.Name(name, extra, label), plan)
    look = _look(engine, call)
    if look.answer is not None:
        return _from_entry(look.answer, compute, has)
    if look.ticket is None:
        return _plain(compute)

    def again():
        return _look(engine, call).answer

    with engine.flights.alone(look.ticket.key, plan.single_flight_s, again) as other:
        if other is not None:
            return _from_entry(other, compute, has)
        return _compute(engine, call, look.ticket, compute)


def _nothing() -> None:
    pass


class _Computation(typing.NamedTuple):
    compute: typing.Callable[[], Computed]
    prepare: typing.Callable[[], None]

    def __call__(self) -> Computed:
        self.prepare()
        return self.compute()


def _look(engine, call: named.Call) -> named.Look:
    return answering.safely(engine, call, lambda: named.look(engine, call), named.NOTHING)


def _plain(compute) -> Served:
    computed = compute()
    return Served(computed.status, computed.body, '')


def _from_entry(answer: named.Answer, compute, has) -> Served:
    status, etag, body = answer.value
    if has(etag):
        return Served(status, b'', etag, answer.origin)
    if body is None:  # it was too large
        return _plain(compute)._replace(etag=etag)
    return Served(status, body, etag, answer.origin)


def _compute(engine, call: named.Call, ticket, compute: _Computation) -> Served:
    started = time.perf_counter()
    compute.prepare()
    with empty_memory(call.env), reading.gathering(ticket):
        computed = compute.compute()
    cost_ms = (time.perf_counter() - started) * 1000
    if not computed.lasting:
        return Served(computed.status, computed.body, '')
    return answering.safely(
        engine,
        call,
        lambda: _keep(engine, call, ticket, computed, cost_ms),
        Served(computed.status, computed.body, ''),
    )


def _keep(engine, call: named.Call, ticket, computed: Computed, cost_ms: float) -> Served:
    status, body = computed.status, computed.body
    reason, detail = reading.objection(engine, ticket, call.env['cache.manager'], math.inf)
    etag = ''
    if not reason:
        etag = etag_of(engine, ticket, body)
        item = _item(engine, call, ticket, (status, etag, body), cost_ms)
        item = item or _item(engine, call, ticket, (status, etag, None), cost_ms)
        if item is not None:
            engine.hierarchy.put_many([item])
        reason, detail = ticket.reason, ticket.relation
    total_ms = (time.perf_counter() - ticket.started) * 1000
    engine.metrics.miss(reason, *ticket.name, total_ms, detail)
    return Served(status, body, etag)


def _item(engine, call: named.Call, ticket, value: tuple, cost_ms: float):
    payload, flags = named.pack(value)
    if value[2] is not None and call.plan.max_bytes and len(payload) > call.plan.max_bytes:
        return None
    return reading.item_of(engine, ticket, payload, cost_ms, flags)


def etag_of(engine, ticket, body: bytes) -> str:
    """A name for the state of what an answer was made from.

    The key of the entry holds who asks and in which language and companies, what was asked, the
    date, the code that runs and the sequence of the registry; the dependencies hold the versions
    of all tables, and the removals.  What has looked at the time of day may change without any of
    these: there the answer itself is part of it, and the entry lives briefly.

    :return: 32 hexadecimal digits; nobody without the database's secret can tell what is in them
    """
    recording, versions = ticket.recording, ticket.versions
    state = [
        ticket.key,
        sorted(reading.dependencies_of(recording, versions), key=lambda row: row[0]),
        versions.removals.version(ticket.key, ticket.uid),
        body if recording.clock else None,
    ]
    return keyed(engine, keys.canonical_bytes(state))


def keyed(engine, data: bytes, size: int = 16) -> str:
    """A digest that only the servers of this database can make, hexadecimal."""
    secret = seal_secret(engine.config.secret)
    return hashlib.blake2b(data, digest_size=size, key=secret, person=_PERSON).hexdigest()
