"""Named entries whose value lies outside of this database, such as the answer of another server.

The one idea: what the caller's transaction sees has nothing to do with such a value.  So entries
are judged by the latest versions that this process knows, not by those of a snapshot, also in a
transaction that has written; they depend on their tags and on removals alone; and what is fetched
carries versions that were read before the fetching began, so that a removal in between meets it.
Everything else (names, plans, tiers, removal, single flight, namespaces) is that of :mod:`.named`.

What may go wrong: fetching fails.  An error with a true attribute ``outage`` lets a value whose
time is over stand in, for ``fail_safe_s``; any other is an answer, and what was kept goes with
it.
"""

from __future__ import annotations

import logging
import time
import typing

import psycopg2

from . import codec, journal, keys, named, reading, removal
from .entry import Entry
from .named import Answer
from .named_plan import NamedPlan

_logger = logging.getLogger(__name__)

FORMAT = 1
"""Of keys and values.  They do not change with the code of modules, since fail-safe shall outlast
an upgrade."""


class Wanted(typing.NamedTuple):
    """One value.

    :param name: by which people remove it: ``remote:headquarters:res.partner:42``
    :param extra: whatever else it depends on, in msgpack's types
    """

    env: typing.Any
    name: str
    extra: tuple
    plan: NamedPlan

    @property
    def label(self) -> tuple[str, str]:
        return '', self.name.partition(':')[0]

    @property
    def key(self) -> str:
        """:raise keys.Unkeyable: for an argument without a canonical form"""
        sharers = named._sharers(self.env, self.plan.sharing)
        form = [FORMAT, self.plan.sharing, sharers, self.extra]
        return f'{named.base_key(self.name)}{keys.VARIANT}{keys.digest(form)}'


class Found(typing.NamedTuple):
    """:param expired: an entry whose time is over and which is otherwise good, or None
    :param versions: from before; what is fetched now carries them.  None: it is not kept
    """

    key: str
    answer: Answer | None
    expired: Entry | None
    versions: typing.Any
    reason: str = ''


def answer(engine, wanted: Wanted, fetch) -> Answer:
    """A value, fetched if need be; once for all who want it at the same time.

    :param fetch: without arguments
    """
    if engine is None or not engine.available:
        return Answer(fetch(), 'computed')
    found = look_many(engine, [wanted])[0]
    if found.answer is not None:
        return found.answer
    if found.versions is None:
        return Answer(fetch(), 'computed')

    def again() -> Answer | None:
        return look_many(engine, [wanted])[0].answer

    def work() -> Answer:
        return fetch_many(engine, [wanted], [found], lambda _wanted: [fetch()])[0]

    if not wanted.plan.single_flight_s:
        return work()
    with engine.flights.alone(found.key, wanted.plan.single_flight_s, again) as other:
        return other or work()


def answer_many(engine, wanted: list[Wanted], fetch) -> list[Answer]:
    """Several values; what is missing is fetched together.

    :param fetch: ``fetch(wanted)`` returns a value for each, or :data:`NOTHING`
    """
    if engine is None or not engine.available or not wanted:
        return [Answer(value, 'computed') for value in (fetch(wanted) if wanted else ())]
    found = look_many(engine, wanted)
    missing = [index for index, one in enumerate(found) if one.answer is None]
    answers = [one.answer for one in found]
    if missing:
        fetched = fetch_many(
            engine, [wanted[i] for i in missing], [found[i] for i in missing], fetch
        )
        for index, one in zip(missing, fetched, strict=True):
            answers[index] = one
    return answers


NOTHING = object()
"""Instead of a value: there is none, and nothing is kept."""


# -- looking ---------------------------------------------------------------------------


def look_many(engine, wanted: list[Wanted]) -> list[Found]:
    """What the tiers have, for each."""
    started = time.perf_counter()
    if reading.is_computing_plainly():
        return [Found('', None, None, None) for _one in wanted]
    keys_ = [one.key for one in wanted]
    for one, key in zip(wanted, keys_, strict=True):
        _tell_outer(one, key)
    versions = latest(engine, wanted[0].plan, reading.is_recording())
    if versions is None:
        return [Found(key, None, None, None) for key in keys_]
    judges = [_Judge(engine, versions, one.plan) for one in wanted]
    if len(wanted) == 1:
        got = {keys_[0]: engine.hierarchy.get(keys_[0], wanted[0].plan, judges[0], None)}
    else:
        got = engine.hierarchy.get_many(
            (key, one.plan, judge) for key, one, judge in zip(keys_, wanted, judges, strict=True)
        )
    share_ms = (time.perf_counter() - started) * 1000 / len(wanted)
    return [
        _found(engine, one, key, got[key], judge, versions, share_ms)
        for one, key, judge in zip(wanted, keys_, judges, strict=True)
    ]


def _found(engine, wanted: Wanted, key, got, judge, versions, duration_ms) -> Found:
    if got.entry is None:
        return Found(key, None, judge.expired, versions, got.reason)
    try:
        value = named.value_of(got.entry).value
    except codec.CorruptPayload:
        engine.metrics.fault(got.tier, 'corrupt')
        engine.hierarchy.each('delete', [key])
        return Found(key, None, None, versions, 'cold')
    entry = got.entry
    saved_ms = max(entry.cost_ms - duration_ms, 0.0)
    engine.metrics.hit(got.tier, *wanted.label, duration_ms, saved_ms, 0, len(entry.payload))
    return Found(key, Answer(value, got.tier, named.age_s(entry)), None, versions)


def latest(engine, plan: NamedPlan, now: bool = False):
    """Versions to judge by: at most as old as the plan allows, and newer than every removal that
    this process has committed.

    :param now: not older at all
    :return: None: the cache is off
    """
    if not engine.settings.enabled:
        return None
    max_age_s = {'strong': 0.0, 'eventual': plan.max_staleness_s}.get(plan.consistency)
    try:
        return engine.latest_versions(0.0 if now else max_age_s)
    except psycopg2.Error as error:
        engine.fault(error, ('', 'remote'))
        return None


class _Judge:
    """Whether an entry may be served; remembers the newest one whose time alone is over."""

    def __init__(self, engine, versions, plan: NamedPlan):
        self._engine = engine
        self._versions = versions
        self._plan = plan
        self.expired: Entry | None = None

    def __call__(self, entry: Entry) -> tuple[str, str]:
        now, removals = time.time(), self._versions.removals
        if reading.is_over(self._engine, entry, now):
            return 'expired', ''
        for name, version, _uid in entry.dependencies:
            if version != _version(self._versions, name):
                return 'stale', name
        if entry.removal_version != removals.version(entry.key, entry.uid):
            return 'stale', 'removal'
        if now < self._plan.end_of(entry):
            return '', ''
        # a tier may be behind the ones above it
        if self.expired is None or self.expired.created < entry.created:
            self.expired = entry
        return 'expired', ''


def _version(versions, name: str):
    if name == journal.ALL:
        return versions.versions[name]
    return versions.removals.dependency_version(name)


def _tell_outer(wanted: Wanted, key: str) -> None:
    """What is being recorded goes when this value is removed, and lives no longer than what looks
    at the clock: it cannot know how old the value is."""
    if reading.is_recording():
        reading.note_dependencies(journal.TAG + tag for tag in wanted.plan.tags)
        reading.note_inner(key, 0)
        reading.note_clock()


# -- fetching --------------------------------------------------------------------------


def fetch_many(engine, wanted: list[Wanted], found: list[Found], fetch) -> list[Answer]:
    """Fetch what was not found, and keep it."""
    spare = [_may_stand_in(one, had) for one, had in zip(wanted, found, strict=True)]
    if all(spare) and any(engine.pauses.is_paused(one.key) for one in found):
        return _stand_in(engine, wanted, spare)
    started = time.perf_counter()
    try:
        values = fetch(wanted)
    except Exception as error:
        if getattr(error, 'outage', False) and all(spare):
            for one, had in zip(wanted, found, strict=True):
                engine.pauses.pause(had.key, one.plan.fail_safe_pause_s)
            return _stand_in(engine, wanted, spare)
        if hasattr(error, 'outage') and not error.outage and any(had.expired for had in found):
            _forget(engine, wanted)
        raise
    cost_ms = (time.perf_counter() - started) * 1000 / len(wanted)
    items = []
    for one, had, value in zip(wanted, found, values, strict=True):
        item = None if value is NOTHING else _item(engine, one, had, value, cost_ms)
        if item is not None:
            items.append(item)
        engine.metrics.miss(had.reason or 'cold', *one.label, cost_ms)
    if items:
        engine.hierarchy.put_many(items, at_once=True)
    return [Answer(value, 'computed') for value in values]


def _may_stand_in(wanted: Wanted, found: Found) -> Entry | None:
    entry, plan = found.expired, wanted.plan
    if entry is None or time.time() >= plan.end_of(entry) + plan.fail_safe_s:
        return None
    return entry


def _stand_in(engine, wanted: list[Wanted], entries: list[Entry]) -> list[Answer]:
    for one in wanted:
        engine.metrics.event('fail_safe')
        engine.metrics.miss('expired', *one.label)
    return [Answer(named.value_of(entry).value, 'expired', named.age_s(entry)) for entry in entries]


def _forget(engine, wanted: list[Wanted]) -> None:
    """The other server refuses: what was kept must not stand in at its next outage."""
    try:
        with engine.cursor() as cr:
            removal.remove_keys(engine, cr, [named.base_key(one.name) for one in wanted], 0)
    except psycopg2.Error as error:
        engine.fault(error, ('', 'remote'))


def _item(engine, wanted: Wanted, found: Found, value, cost_ms: float):
    """A value as :meth:`.hierarchy.Hierarchy.put_many` takes it; None: it is not kept."""
    versions, plan = found.versions, wanted.plan
    if versions is None:
        return None
    try:
        payload, flags = named.pack(value)
    except codec.Unserializable:
        return None
    if len(payload) > min(plan.max_bytes or 2**62, engine.settings.max_entry_kb * 1024):
        return None
    names = (journal.ALL, *(journal.TAG + tag for tag in plan.tags))
    now = time.time()
    entry = Entry(
        key=found.key,
        model=wanted.label[0],
        method=wanted.label[1],
        uid=0,
        dependencies=tuple((name, _version(versions, name), None) for name in names),
        removal_version=versions.removals.version(found.key, 0),
        created=now,
        expires=now,
        cost_ms=cost_ms,
        queries=0,
        flags=flags,
        payload=payload,
    )
    return entry, plan, None
