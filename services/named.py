"""Named entries: anything that is expensive to compute, under a name that people can remove.

The one idea: a named entry goes the way of a read.  Its computation is recorded, the entry carries
the versions of what it was computed from, and a hit is judged by the caller's snapshot.  Only the
key differs: ``v1:<name>@<digest>``, where the digest tells apart who may share one and the same
value, and what else the value depends on.

What may go wrong: whatever speaks against caching a read makes a named entry be computed as well,
with a reason that is counted.  A value that cannot be kept raises, since that is a mistake of the
code which will not go away: :class:`~.codec.Unserializable` names the path in the value.
"""

from __future__ import annotations

import time
import typing

from . import calls, codec, journal, key_families, keys, reading
from .clock import dates
from .computing import Tagged
from .engine import Engine
from .entry import FLAG_TAGGED, Entry
from .hierarchy import Found
from .named_plan import NamedPlan
from .recorder import Recording
from .transaction import state_of

_RESERVED = frozenset('*?[]' + keys.VARIANT)

_SHARED_UID = 0
"""Owner of an entry that is shared: nobody."""


class Name(typing.NamedTuple):
    """What is asked for.

    :param text: the name, without version and variant: ``supplier:detail:42``
    :param extra: whatever else the value depends on, in msgpack's types
    :param label: (model, method) for the figures
    """

    text: str
    extra: tuple
    label: tuple[str, str]


class Answer(typing.NamedTuple):
    """A value and where it comes from.

    :param origin: 'l1', 'l2', 'l3', 'computed' or, for a value whose time was over and which
        stands in for one that could not be computed, 'expired'
    :param age_s: seconds since it was computed
    """

    value: object
    origin: str
    age_s: float = 0.0


class Call(typing.NamedTuple):
    """One request for a named entry.

    :param env: of the caller
    :param depends: relations that the value depends on besides those that are recorded
    :param describe: without arguments; the :class:`.calls.Call` that can be made again, if there
        is one
    """

    env: typing.Any
    name: Name
    plan: NamedPlan
    depends: frozenset[str] = frozenset()
    describe: typing.Callable | None = None

    @property
    def dependencies(self) -> frozenset[str]:
        """Declared relations and tags, as an entry names them."""
        return self.depends.union(journal.TAG + tag for tag in self.plan.tags)


def key_of(engine: Engine, call: Call) -> str:
    """The key of an entry, with its variant.

    :raise keys.InvalidKey: for a name that cannot be one
    :raise keys.Unkeyable: for an argument without a canonical form
    """
    base = base_key(call.name.text)
    env = call.env
    form = [
        engine.code,
        env.registry.registry_sequence,
        call.plan.sharing,
        _sharers(env, call.plan.sharing),
        call.name.label,
        call.name.extra,
        dates(env),
    ]
    return f'{base}{keys.VARIANT}{keys.digest(form)}'


def base_key(name: str) -> str:
    """A name with the version of the key format, as removal knows it.

    :raise keys.InvalidKey: with a sentence
    """
    keys.validate_key(name)
    key = f'v1:{name}'
    keys.validate_key(key)
    reserved = name.partition(':')[0] in key_families.RESERVED_NAMESPACES
    if reserved or _RESERVED.intersection(name) or len(key) > key_families.MAX_NAME_CHARACTERS:
        raise keys.InvalidKey(
            f'{name[:80]!r} cannot be the name of a cache entry: it has at most'
            f' {key_families.MAX_NAME_CHARACTERS - 3} characters, none of "*?@[]", and does not'
            ' begin with "orm:". Build it with services.key_families.CacheKeyBuilder.'
        )
    return key


def _sharers(env, sharing: str) -> tuple:
    """What those have in common who get the same value."""
    if sharing == 'all':
        return ()
    context = env.context
    companies = tuple(context.get('allowed_company_ids') or (env.company.id,))
    if sharing == 'company':
        return (companies[0], *sorted(companies[1:])), context.get('lang')
    return companies, context.get('lang'), context.get('tz'), env.uid, env.su


def _owner(call: Call) -> int:
    """Id of the user for whom an entry is computed."""
    return call.env.uid if call.plan.sharing == 'user' else _SHARED_UID


def relations_of(engine: Engine, registry, names) -> frozenset[str]:
    """The tables that names of models or tables stand for.

    :raise ValueError: for a name that is neither
    """
    found = set()
    for name in names:
        model = registry.models.get(name)
        if model is not None and not model._abstract:
            found.add(model._table)
        elif engine.catalogue is None or engine.catalogue.knows(name):
            found.add(name)
        else:
            raise ValueError(f'depends names {name!r}, which is neither a model nor a table.')
    return frozenset(found)


# -- looking ---------------------------------------------------------------------------


class Look(typing.NamedTuple):
    """What the cache has for a call.

    :param answer: or None
    :param ticket: how to keep what is computed; None: it is not kept
    :param expired: an entry whose time is over and which is otherwise good, or None
    :param entry: the one that the answer was made from
    """

    answer: Answer | None
    ticket: reading.Ticket | None
    expired: Entry | None = None
    entry: Entry | None = None


NOTHING = Look(None, None)


def look(engine: Engine, call: Call) -> Look:
    """Look for a named entry in the caller's snapshot."""
    if not engine.available or reading.is_computing_plainly():
        return NOTHING
    if reading.is_recording():
        return _look_inside(engine, call)
    started = time.perf_counter()
    versions, transaction = _versions(engine, call)
    if versions is None:
        return NOTHING
    key = key_of(engine, call)
    judge = _Judge(engine, versions, call.plan)
    found = engine.hierarchy.get(key, call.plan, judge, None)
    if found.entry is not None:
        answer = _answer(engine, call, found, started)
        if answer is not None:
            return Look(answer, None, None, found.entry)
    ticket = _ticket(engine, call, key, transaction, versions, found, started)
    return Look(None, ticket, judge.expired)


def look_many(engine: Engine, calls: list[Call]) -> list[Answer | None]:
    """Look for several named entries in the caller's snapshot, of which nothing is kept.

    :param calls: of one environment, no name twice
    """
    if not engine.available or reading.is_computing_plainly():
        return [None] * len(calls)
    if reading.is_recording():
        return [_look_inside(engine, call).answer for call in calls]
    started = time.perf_counter()
    # all versions before the first key: that may send SQL, after which they would ask again
    versions = [_versions(engine, call)[0] for call in calls]
    names = [
        None if known is None else key_of(engine, call)
        for call, known in zip(calls, versions, strict=True)
    ]
    found = engine.hierarchy.get_many(
        [
            (key, call.plan, _Judge(engine, known, call.plan))
            for key, call, known in zip(names, calls, versions, strict=True)
            if key is not None
        ]
    )
    share_s = (time.perf_counter() - started) / len(calls)
    return [
        None if key is None else _answer_or_count(engine, call, found[key], share_s)
        for key, call in zip(names, calls, strict=True)
    ]


def _answer_or_count(engine: Engine, call: Call, found: Found, spent_s: float) -> Answer | None:
    """:param spent_s: how long it took to find it"""
    if found.entry is not None:
        return _answer(engine, call, found, time.perf_counter() - spent_s)
    engine.metrics.miss(found.reason, *call.name.label, 0.0, found.relation)
    return None


def ticket_for(engine: Engine, call: Call) -> reading.Ticket | None:
    """How to keep a value, without looking for one that is there already."""
    started = time.perf_counter()
    versions, transaction = _versions(engine, call)
    if versions is None:
        return None
    found = Found(None)
    return _ticket(engine, call, key_of(engine, call), transaction, versions, found, started)


def _versions(engine: Engine, call: Call):
    """The versions to judge entries by, or None where the cache must not be asked."""
    transaction = state_of(call.env.cr)
    records = call.env['cache.manager']
    versions, reason = reading.versions_for(engine, records, transaction, call.plan)
    if versions is None:
        engine.metrics.miss(reason, *call.name.label)
    return versions, transaction


def _ticket(engine, call: Call, key, transaction, versions, found, started):
    if call.plan.consistency != 'strong':
        # what is kept must carry the versions of the snapshot in which it is computed
        versions, reason = reading.look(engine, call.env.cr, transaction)
        if versions is None:
            engine.metrics.miss(reason, *call.name.label)
            return None
    reading.settle_memory(engine, call.env, transaction)
    recording = Recording(call.env.cr, engine.read_text)
    recording.relations |= call.dependencies
    return reading.Ticket(
        call.name.label,
        key,
        call.plan,
        transaction,
        versions,
        recording,
        _owner(call),
        call.env.su,
        found.reason,
        found.relation,
        started,
        engine.writer_epoch(),
        zone=call.env.context.get('tz'),
    )


def _look_inside(engine: Engine, call: Call) -> Look:
    """Within a computation that is being recorded: L1 may answer, and what the answer depended on
    becomes a dependency of the outer value, as does the entry itself, there or not: a removal of
    it removes the outer value.  It is not kept by itself."""
    reading.note_dependencies(call.dependencies)
    # what is made of a value lives no longer than the value, also if that is computed now
    reading.note_end(time.time() + call.plan.longest_life_s)
    try:
        key = key_of(engine, call)
    except keys.Unkeyable:
        reading.note_inner(base_key(call.name.text), _owner(call))
        raise
    reading.note_inner(key, _owner(call))
    records = call.env['cache.manager']
    judges = []

    def judge_by(versions):
        judges.append(_Judge(engine, versions, call.plan))
        return judges[0]

    found = reading.find_inside(engine, records, call.plan, lambda: key, judge_by)
    if found is None:
        return Look(None, None, judges[0].expired if judges else None)
    reading.note_end(call.plan.end_of(found.entry))
    return Look(_answer(engine, call, found, time.perf_counter()), None)


class _Judge:
    """Whether an entry may be served; remembers the newest one whose time alone is over."""

    def __init__(self, engine: Engine, versions, plan: NamedPlan):
        self._engine = engine
        self._versions = versions
        self._plan = plan
        self.expired: Entry | None = None

    def __call__(self, entry: Entry) -> tuple[str, str]:
        weak = self._plan.consistency == 'weak'
        why, what = reading.judge(self._engine, entry, self._versions, weak)
        if not why and reading.is_replaying():
            why, what = reading.Replay.judge(entry)
        if why or time.time() < self._plan.end_of(entry):
            return why, what
        # a tier may be behind the ones above it
        if self.expired is None or self.expired.created < entry.created:
            self.expired = entry
        return 'expired', ''


def _answer(engine: Engine, call: Call, found, started: float) -> Answer | None:
    entry = found.entry
    try:
        value = value_of(entry).value
    except codec.CorruptPayload:
        engine.metrics.fault(found.tier, 'corrupt')
        engine.hierarchy.each('delete', [entry.key])
        return None
    duration_ms = (time.perf_counter() - started) * 1000
    saved_ms = max(entry.cost_ms - duration_ms, 0.0)
    engine.metrics.hit(
        found.tier, *call.name.label, duration_ms, saved_ms, entry.queries, len(entry.payload)
    )
    if saved_ms >= calls.MIN_SAVED_MS and call.describe is not None:
        _count_call(engine, entry.key, saved_ms, call.describe)
    return Answer(value, found.tier, age_s(entry))


def _count_call(engine: Engine, key: str, saved_ms: float, describe) -> None:
    if reading.is_recording() or reading.is_replaying():
        return
    try:
        if engine.settings.record_calls and not engine.calls.hit(key, saved_ms):
            engine.calls.learn(key, saved_ms, describe())
    except Exception as error:  # noqa: BLE001 the hit is good all the same
        engine.fault(error, ('', key))


def age_s(entry: Entry) -> float:
    """Seconds since a value was computed."""
    return max(time.time() - entry.created, 0.0)


# -- values ----------------------------------------------------------------------------


def value_of(entry: Entry) -> Tagged:
    """The value of an entry, with its tag; a fresh copy.

    :raise codec.CorruptPayload: for bytes that are none
    """
    value = codec.unpack(entry.payload)
    if not entry.flags & FLAG_TAGGED:
        return Tagged(value, '')
    if type(value) is not tuple or len(value) != 2:
        raise codec.CorruptPayload('a tagged value is a pair')
    return Tagged(*value)


def pack(value) -> tuple[bytes, int]:
    """A value in its packed form, and the flags of its entry.

    :raise codec.Unserializable: names the path in the value
    """
    if isinstance(value, Tagged):
        return codec.pack((value.value, value.tag)), FLAG_TAGGED
    return codec.pack(value), 0
