"""One cached read, from the call to the answer.

The one idea: :func:`find` answers the read from the cache or hands out a :class:`Ticket`;
the caller computes inside :func:`watch` and gives the value to :func:`keep`.  Whatever is in
doubt on the way makes the caller compute, with a reason that is counted.

    find ── plan? ── settled? ── versions of my snapshot ── key ── L1, L2, L3, judged ── hit
                                                                        └── ticket
    keep ── worth it? ── still clean? ── recorded all? ── all guarded? ── pack ── L1, L2, L3

What may go wrong: an error of PostgreSQL in the version query leaves the caller's
transaction aborted, as it would after any other query.  Everything else that is raised here
is a fault of our own, and the plain call answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
import typing

from . import auditor, codec, columns, keys, positions, remembered, shapes, trail
from .clock import dates, grouping_uses_clock, groups_by_clock, mentions_clock, uses
from .engine import Engine
from .entry import FLAG_CLOCK, FLAG_SUPERUSER, Entry
from .hierarchy import detail_of_expiry
from .journal import ALL, KEY
from .policy import Plan
from .recorder import Recording
from .removal import ANY, MAX_INNER, is_removal
from .statements import has_set, temporary
from .transaction import TransactionState, is_snapshot_stable, state_of
from .versions import State

_MEMORY_READS = ('read', 'web_read')

MAX_PATIENCE_S = 2.0
"""Longest wait for another thread that computes the same."""

CHEAP_MS = 20.0
"""A read that costs less is computed twice rather than waited for."""


class Ticket(typing.NamedTuple):
    """How to keep the value that the caller is about to compute.

    :param reason: why there was no answer, for the figures
    :param started: ``time.perf_counter()`` when the call began
    :param before: the payload that was stale, b'' for none
    :param columns: those that the call wants, see :func:`.columns.asked`
    :param zone: time zone of the context, whose date is part of the key
    """

    name: tuple[str, str]
    key: str
    plan: Plan
    transaction: TransactionState
    versions: State
    recording: Recording
    uid: int
    superuser: bool
    reason: str
    relation: str
    started: float
    writer_epoch: int
    before: bytes = b''
    columns: typing.Any = None
    zone: str | None = None


PLAIN = object()


class Hit(typing.NamedTuple):
    """:param value: a fresh copy; the caller may change it
    :param clock: it may be older than the time of day, within ``time_dependent_ttl_s``
    :param key: of the entry; '' within the computation of another one
    :param saved_ms: what it would have cost to compute, less what the hit took
    """

    value: object
    clock: bool = False
    key: str = ''
    saved_ms: float = 0.0
    entry: Entry | None = None


class Replay:
    """A call that nobody waits for is made again, so that its answer is there when somebody does.

    Every tier shall have it, however cheap it was, since it is known to be asked for; and one with
    little life left is computed anew.

    :ivar key: of the last call
    """

    def __init__(self):
        self.key = ''

    @staticmethod
    def plan(plan: Plan) -> Plan:
        costs = dict.fromkeys(plan.min_cost_ms, plan.least_cost_ms)
        return dataclasses.replace(plan, min_cost_ms=costs)

    @staticmethod
    def judge(entry: Entry) -> tuple[str, str]:
        """Whether an entry that is valid will be for a while."""
        left_s = entry.expires - time.time()
        return ('', '') if left_s > (entry.expires - entry.created) / 2 else ('expired', '')


class _Local(threading.local):
    ticket: Ticket | None = None
    gathering: Ticket | None = None
    computing = False
    replay: Replay | None = None


_local = _Local()


class Read(typing.NamedTuple):
    """One call.

    :param origin: plain values of the web request which the answer may depend on, or None
    :param started: ``time.perf_counter()`` when it began
    """

    records: typing.Any
    method: str
    args: tuple
    kwargs: dict
    origin: tuple | None
    started: float

    @property
    def name(self) -> tuple[str, str]:
        return self.records._name, self.method


def find(engine: Engine, records, method: str, args: tuple, kwargs: dict, origin):
    """Look for the answer to ``records.method(*args, **kwargs)``.

    :param origin: see :class:`Read`
    :return: a :class:`Hit`; a :class:`Ticket`; None: compute, nothing to keep; or
        :data:`PLAIN`: compute without asking for inner calls either
    """
    if _local.computing or not engine.available:
        return None
    policy = engine.policy
    plan = _plan(policy, records, method)
    if plan is None:
        return _without_plan(policy, records, method)
    read = Read(records, method, args, kwargs, origin, time.perf_counter())
    if _local.ticket is not None:
        return _find_inner(engine, read, plan)
    if engine.suspender.suspended(read.name):
        _missed(engine, 'suspended', read.name)
        return PLAIN
    transaction = state_of(records.env.cr)
    versions, reason = versions_for(engine, records, transaction, plan)
    if versions is None:
        if reason != 'disabled':
            engine.metrics.miss(reason, *read.name)
        trail.miss(read.name, reason)
        return PLAIN
    if engine.policy is not policy:  # this snapshot shows other rules or settings
        return find(engine, records, method, args, kwargs, origin)
    if method in _MEMORY_READS and in_orm_cache(records, args):
        return None
    key = _key(engine, read)
    if key is None:
        _missed(engine, 'uncacheable', read.name, detail='arguments')
        return None
    return _look_up(engine, read, plan, key, transaction, versions)


def _without_plan(policy, records, method: str):
    if trail.is_open() and policy.is_switched_off(records, method):
        trail.miss((records._name, method), 'disabled')
    return None if _local.ticket else PLAIN


def _plan(policy, records, method: str) -> Plan | None:
    plan = policy.plan(records, method)
    if plan is None or _local.replay is None:
        return plan
    return _local.replay.plan(plan)


def _look_up(engine, read: Read, plan, key, transaction, versions) -> Hit | Ticket | None:
    name, weak, replay = read.name, plan.consistency == 'weak', _local.replay
    env = read.records.env if plan.consistency == 'strong' else None
    found = engine.hierarchy.get(
        key,
        plan,
        (lambda entry: judge(engine, entry, versions, weak, env))
        if replay is None
        else (lambda entry: _first_objection(engine, entry, versions, weak, env)),
        engine.suspender.expected_cost_ms(name) if replay is None else None,
    )
    if replay is not None:
        replay.key = key
        if found.entry is not None:
            engine.hierarchy.spread(found.entry, found.tier, plan)
    if found.entry is not None:
        if replay is None:  # otherwise nobody has gained by it yet
            engine.suspender.hit(name)
        if _local.gathering is not None:
            _gather(engine, _local.gathering, found.entry)
        return _hit(engine, found, read)
    if found.reason == 'stale':
        engine.suspender.stale(name)
    if plan.consistency != 'strong':
        # what is stored must carry the versions of the snapshot in which it is computed
        versions, reason = look(engine, read.records.env.cr, transaction)
        if versions is None:
            _missed(engine, reason, name)
            return None
    settle_memory(engine, read.records.env, transaction)
    return Ticket(
        name,
        key,
        plan,
        transaction,
        versions,
        _new_recording(engine, read, plan),
        read.records.env.uid,
        read.records.env.su,
        found.reason,
        found.relation,
        read.started,
        engine.writer_epoch(),
        found.before,
        columns.asked(read.method, read.args, read.kwargs) if found.before else None,
        read.records.env.context.get('tz'),
    )


def settle_memory(engine, env, transaction: TransactionState) -> None:
    """What this process remembers must be of the transaction's snapshot, or nothing is kept."""
    engine.memory.settle(transaction)
    remembered.forget_zones(env.transaction)
    if remembered.is_outdated(env.transaction):
        engine.memory.set_apart(transaction)


def _new_recording(engine, read: Read, plan: Plan) -> Recording:
    """A recording that starts with what is known before the first query."""
    records = read.records
    recording = Recording(records.env.cr, engine.read_text, plan.consistency == 'strong')
    relations, opaque = engine.orm_cache.preloaded(records.env.transaction)
    recording.relations |= relations
    if opaque:
        recording.refuse(f'in memory: {opaque}')
    recording.clock = mentions_clock(read.args) or groups_by_clock(records, read.method, read.args)
    return recording


def patience_s(engine, found) -> float:
    """How long to wait for another thread that computes the same, seconds; 0 is not at all.

    Twice what it usually takes: then something is wrong with the other.  Nobody waits where the
    last answer could not be kept, for then there will be nothing to find.

    :param found: what :func:`find` has returned
    """
    if not isinstance(found, Ticket) or _local.replay or 'l1' not in engine.hierarchy.tiers:
        return 0.0
    if engine.suspender.is_vain(found.name):
        return 0.0
    expected_ms = engine.suspender.expected_cost_ms(found.name)
    if expected_ms is None:
        return MAX_PATIENCE_S
    return min(2 * expected_ms / 1000, MAX_PATIENCE_S) if expected_ms >= CHEAP_MS else 0.0


class watch:  # noqa: N801 a context manager, used like a function
    """Record the computation that answers a ticket."""

    def __init__(self, ticket: Ticket):
        self._ticket = ticket

    def __enter__(self):
        _local.ticket = self._ticket
        self._ticket.recording.__enter__()

    def __exit__(self, *exc_info):
        _local.ticket = None
        self._ticket.recording.__exit__(*exc_info)


class gathering:  # noqa: N801 a context manager, used like a function
    """Record several reads as one computation, each of which goes through the cache by itself.

    Within :class:`watch` nothing but L1 may answer, and nothing is kept.  Here every read is
    answered and kept as usual; what it depends on becomes a dependency of the whole as well.  What
    runs between the reads (a model's own override, code without any cached read) is recorded too.

    :param ticket: of the whole; its transaction's memory must be empty, see :mod:`.own_memory`
    """

    def __init__(self, ticket: Ticket):
        self._ticket = ticket

    def __enter__(self):
        _local.gathering = self._ticket
        self._ticket.recording.__enter__()

    def __exit__(self, *exc_info):
        self._ticket.recording.__exit__(*exc_info)
        _local.gathering = None


def _gather(engine: Engine, whole: Ticket, entry: Entry) -> None:
    """A part of what is being gathered was answered from the cache."""
    recording = whole.recording
    if judge(engine, entry, whole.versions, False) != ('', ''):
        # a rule lets it be older than the snapshot, or it has read a sequence
        recording.refuse('consistency')
        return
    recording.inherit(entry.dependencies, bool(entry.flags & FLAG_CLOCK))
    recording.ends = min(recording.ends, entry.expires)


def _watching() -> tuple[Ticket, ...]:
    """The computations that are being recorded in this thread, the inner one first."""
    both = _local.ticket, _local.gathering
    return tuple(ticket for ticket in both if ticket is not None)


def keep(engine: Engine, ticket: Ticket, records, value, cost_ms: float) -> None:
    """Store a computed value, unless something speaks against it.

    :param cost_ms: what computing took, milliseconds
    """
    engine.suspender.computed(ticket.name, cost_ms, ticket.plan.least_cost_ms)
    reason, detail = objection(engine, ticket, records, cost_ms)
    if not reason:
        reason, detail = _store(engine, ticket, records, value, cost_ms)
    engine.suspender.kept(ticket.name, not reason)
    if not reason:
        reason, detail = ticket.reason, ticket.relation
    total_ms = (time.perf_counter() - ticket.started) * 1000
    _missed(engine, reason, ticket.name, total_ms, detail)


def _missed(engine, reason: str, name, duration_ms: float = 0.0, detail: str = '') -> None:
    engine.metrics.miss(reason, *name, duration_ms, detail)
    trail.miss(name, reason, duration_ms)


def audited(engine: Engine, records, method: str, hit: Hit, compute):
    """Compute a sample of hits again, in the same snapshot.

    Answers that look at the time of day are left out: that the clock went on is no fault.  So are
    those that a rule lets be older than the snapshot.

    :param compute: the plain call, without arguments
    :return: what the caller shall get
    """
    if hit.clock or not auditor.is_sampled(engine.settings.audit_rate):
        return hit.value
    if not _is_of_snapshot(engine, records, method, hit.entry):
        return hit.value
    name = (records._name, method)
    with plain_reads():
        ok, value = auditor.audit(
            name,
            hit.value,
            compute,
            lambda: positions.moved(records.env.cr, positions.of(hit.entry)),
            lambda: _forget(engine, records.env),
        )
    engine.metrics.audit(*name, ok)
    if not ok:
        engine.suspend(name)
    return value


def _is_of_snapshot(engine: Engine, records, method: str, entry: Entry) -> bool:
    """Whether an entry that was served is what the reader's own snapshot shows."""
    plan = engine.policy.plan(records, method)
    if plan is None or plan.consistency == 'strong':
        return True  # it was judged by that
    versions, _reason = look(engine, records.env.cr, state_of(records.env.cr))
    return versions is not None and not any(judge(engine, entry, versions, False, records.env))


def _forget(engine: Engine, env) -> None:
    """Empty what this worker has in memory; a transaction that was served holds no changes.

    Not within another computation, which has put values there that it is going to use.
    """
    if is_recording():
        return
    env.invalidate_all(flush=False)
    engine.memory.renew(state_of(env.cr))
    remembered.forget(env.transaction)


@contextlib.contextmanager
def plain_reads():
    """Within it, every read of this thread is computed and none is stored."""
    before, _local.computing = _local.computing, True
    try:
        yield
    finally:
        _local.computing = before


@contextlib.contextmanager
def replaying():
    """Within it, reads of this thread are those of a warm-up; yields a :class:`Replay`."""
    before, _local.replay = _local.replay, Replay()
    try:
        yield _local.replay
    finally:
        _local.replay = before


def is_replaying() -> bool:
    """Whether this thread is within :func:`replaying`."""
    return _local.replay is not None


def note_code(records, field, what: str = 'compute') -> None:
    """A field is being computed, or searched by: what its code looks at becomes known to the
    recording.

    :param what: 'compute' or 'search'
    """
    for ticket in _watching():
        found = uses(records, field, what)
        if 'request' in found:
            ticket.recording.refuse(f'web request: {field}')
        if 'clock' in found:
            ticket.recording.clock = True


def note_order(records, order: str | None) -> None:
    """Records are put in order.  A computed field has code of its own for that, which may look at
    whatever its compute method looks at: ``is_current`` of ``res.device`` at the session."""
    if not is_recording():
        return
    for term in (order or records._order or '').split(','):
        name = ''.join(term.split()[:1]).partition('.')[0].partition(':')[0]
        field = records._fields.get(name)
        if field is not None and field.compute and not field.store and not field.related:
            note_code(records, field)


def note_groups(records, groups) -> None:
    """Records are grouped, perhaps within the computation of something else."""
    if is_recording() and grouping_uses_clock(records, groups):
        note_clock()


def is_computing_plainly() -> bool:
    """Whether this thread is within :func:`plain_reads`."""
    return _local.computing


def is_recording() -> bool:
    """Whether a computation is being watched in this thread."""
    return _local.ticket is not None or _local.gathering is not None


def check_rule(engine, rules, model_name: str, mode: str, domain, compute) -> None:
    """A record rule's domain was used; see :mod:`.rules`."""
    key = (model_name, mode, rules.env.uid, tuple(rules._compute_domain_context_values()))
    for ticket in _watching():
        if ticket.recording.domains.get(key, ticket) is domain:
            continue
        ticket.recording.domains[key] = domain
        engine.rule_book.check(
            ticket.recording,
            ticket.versions.versions,
            key,
            domain,
            lambda: _rules_of(rules, model_name, mode),
            compute,
        )


def _rules_of(rules, model_name: str, mode: str):
    """The rules of a model, and of the models that it inherits from by delegation."""
    found = rules._get_rules(model_name, mode).sudo()
    for parent in rules.env[model_name]._inherits:
        found |= _rules_of(rules, parent, mode)
    return found


def note_dependencies(relations) -> None:
    """Code says that the value being computed depends on relations."""
    for ticket in _watching():
        ticket.recording.relations.update(relations)


def note_inner(key: str, uid: int) -> None:
    """A named entry was asked for: who removes it, removes what is being computed.

    :param key: its key, or its name where it has none
    :param uid: its owner
    """
    for ticket in _watching():
        ticket.recording.inner[KEY + key] = uid


def note_end(ends: float) -> None:
    """What is being computed holds something that is good until then.

    :param ends: seconds since 1970
    """
    for ticket in _watching():
        ticket.recording.ends = min(ticket.recording.ends, ends)


def note_clock() -> None:
    """Code has looked at the time of day."""
    for ticket in _watching():
        ticket.recording.clock = True


def note_date(zone: str | None) -> None:
    """Code has looked at the date in a time zone.  The key holds that of one zone and of UTC; where
    the reader's context names none, it changes whenever the date does anywhere.

    :param zone: of the context, None is the user's
    """
    for ticket in _watching():
        if ticket.zone and zone not in (ticket.zone, 'UTC'):
            ticket.recording.clock = True


def refuse(reason: str) -> None:
    """What is being computed must not be kept."""
    for ticket in _watching():
        ticket.recording.refuse(reason)


# -- what the transaction may use ------------------------------------------------------


def versions_for(engine, records, transaction, plan) -> tuple[State | None, str]:
    """The versions to judge entries by, or why there are none."""
    if not engine.settings.enabled and engine.config_is_current(None):
        return None, 'disabled'
    if not engine.settle(records, transaction):
        return None, 'dirty'
    if not all(type(id_) is int for id_ in records._ids):
        return None, 'uncacheable'
    cr = records.env.cr
    if has_set(cr) or any(map(engine.catalogue.knows, temporary(cr))):
        return None, 'uncacheable'
    if plan.consistency != 'strong' and not transaction.looked:
        known = engine.book(cr).state
        if engine.fresh_enough(known, plan):
            # asks the server only where SQL ran before: it may have written
            return (None, 'dirty') if transaction.has_written(cr) else (known, '')
    return look(engine, cr, transaction)


def look(engine, cr, transaction) -> tuple[State | None, str]:
    """The versions that the transaction's own snapshot shows."""
    if transaction.looked:
        if transaction.has_written(cr):
            return None, 'dirty'
        return transaction.versions, transaction.objection
    if not is_snapshot_stable(cr):
        return None, 'uncacheable'
    versions = engine.book(cr).look(cr)
    transaction.looked = True
    if versions is None:
        transaction.dirty = True
        engine.memory.wrote(transaction)
        return None, 'dirty'
    engine.memory.looked(transaction, versions.versions)
    if not engine.config_is_current(versions):
        engine.configure(cr, versions)
    if not engine.settings.enabled:
        transaction.objection = 'disabled'
    elif not engine.signals_fit(versions):
        transaction.objection = 'old_snapshot'
        engine.guard_signals(versions)
    else:
        transaction.versions = versions
    transaction.looked_now(cr)
    return transaction.versions, transaction.objection


def in_orm_cache(records, args: tuple) -> bool:
    """Whether ``read`` or ``web_read`` could answer from the ORM cache alone."""
    asked = args[0] if args else None
    if not asked or not records._ids:
        return False
    if isinstance(asked, dict) and any(asked.values()):
        return False  # a specification that goes into comodels
    field_data = records.env.transaction.field_data
    for name in asked:
        field = records._fields.get(name)
        if field is None or field not in field_data:
            return False
        known = field._get_cache(records.env)
        if not all(id_ in known for id_ in records._ids):
            return False
    return True


def _key(engine, read: Read) -> str | None:
    env = read.records.env
    try:
        return keys.call_key(
            keys.Call(
                registry_sequence=env.registry.registry_sequence,
                code_fingerprint=engine.code,
                model=read.records._name,
                method=read.method,
                ids=read.records._ids,
                args=shapes.key_arguments(read.method, read.args),
                kwargs=read.kwargs,
                uid=env.uid,
                su=env.su,
                rule_context=tuple(env['ir.rule']._compute_domain_context_values()),
                context=env.context,
                request=read.origin,
                dates=dates(env),
            )
        )
    except keys.Unkeyable:
        return None


# -- judging and keeping ---------------------------------------------------------------


def judge(engine, entry: Entry, versions: State, weak: bool, env=None) -> tuple[str, str]:
    """Whether an entry may be served: ('', '') or why not.

    :param env: of the reader, whose cursor is asked for :mod:`.positions`; without it, what has
        read one is stale
    """
    if is_over(engine, entry, time.time()):
        return 'expired', detail_of_expiry(entry)
    removals, stood = versions.removals, []
    if weak:
        stale = _stale_weak(engine, entry, versions)
        if stale:
            return 'stale', stale
    else:
        known = versions.versions
        for relation, version, uid in entry.dependencies:
            if known.get(relation) != version and not removals.is_current(relation, version, uid):
                if env is None or not relation.startswith(positions.PREFIX):
                    return 'stale', relation
                stood.append((relation, version))
    if entry.removal_version != removals.version(entry.key, entry.uid):
        return 'stale', 'removal'
    if stood and (name := _moved(engine, env, stood)):
        return 'stale', name
    return '', ''


def is_over(engine, entry: Entry, now: float) -> bool:
    """Whether the time of an entry is over.

    :param now: seconds since 1970
    """
    if entry.created > now:  # the clock was set back: nobody knows how old it is
        return True
    # removals are not known for longer than that
    return entry.expires <= now or entry.created + engine.config.longest_ttl_s <= now


def _stale_weak(engine, entry: Entry, versions: State) -> str:
    """What is known to have changed without comparing versions of tables, or ''."""
    if relation := engine.written_since(entry):
        return relation
    if entry.dependencies[0][1] != versions.versions[ALL]:
        return ALL
    return versions.removals.met_dependency(entry)


def _moved(engine, env, stood) -> str:
    """A sequence that does not stand where it stood, as far as this transaction can tell."""
    if engine.orm_cache.computed(env.transaction):
        return stood[0][0]  # the computation might find the position in memory, and not ask
    return positions.moved(env.cr, stood)


def _first_objection(engine, entry: Entry, versions: State, weak: bool, env) -> tuple[str, str]:
    why, what = judge(engine, entry, versions, weak, env)
    return (why, what) if why else Replay.judge(entry)


def _hit(engine, found, read: Read) -> Hit | None:
    entry, name = found.entry, read.name
    try:
        value = shapes.restore(read.method, codec.unpack(entry.payload), read.args)
    except codec.CorruptPayload:
        engine.metrics.fault(found.tier, 'corrupt')
        engine.hierarchy.each('delete', [entry.key])
        return None
    duration_ms = (time.perf_counter() - read.started) * 1000
    saved_ms = max(entry.cost_ms - duration_ms, 0.0)
    engine.metrics.hit(found.tier, *name, duration_ms, saved_ms, entry.queries, len(entry.payload))
    if trail.is_open():
        trail.hit(name, found.tier, time.time() - entry.created, saved_ms, duration_ms)
    key = '' if _local.ticket is not None else entry.key
    return Hit(value, bool(entry.flags & FLAG_CLOCK), key, saved_ms, entry)


def _find_inner(engine, read: Read, plan) -> Hit | None:
    """A cached method called inside a computation.  L1 may answer it; what the answer
    depended on becomes a dependency of the outer result.  It is never stored by itself:
    what the outer call has put into memory would have to be among its dependencies."""
    found = None
    if read.method not in _MEMORY_READS:
        found = find_inside(engine, read.records, plan, lambda: _key(engine, read))
    return found and _hit(engine, found, read)


def find_inside(engine, records, plan, make_key, judge_by=None):
    """What L1 has, for a computation that is being recorded and inherits its dependencies.

    :param make_key: without arguments; the key, or None where there is none
    :param judge_by: ``judge_by(versions)`` returns what judges an entry; default :func:`judge`
    :return: a :class:`.hierarchy.Found`, or None
    """
    watching = _watching()
    ticket = watching[0]
    key = make_key() if _may_be_inner(engine, ticket, records, plan) else None
    if key is None:
        return None
    versions = ticket.versions
    found = engine.hierarchy.get(
        key,
        plan,
        judge_by(versions)
        if judge_by is not None
        else lambda entry: judge(engine, entry, versions, False, records.env),
        None,
        only_l1=True,
    )
    if found.entry is None:
        return None
    for ticket in watching:
        ticket.recording.inherit(found.entry.dependencies, bool(found.entry.flags & FLAG_CLOCK))
    note_end(found.entry.expires)
    return found


def _may_be_inner(engine, ticket: Ticket, records, plan) -> bool:
    recording = ticket.recording
    return (
        not recording.refusal
        and plan.consistency == ticket.plan.consistency == 'strong'
        and records.env.cr is recording.cr
        and engine.is_settled(records)
        and not ticket.transaction.drafts
        and all(type(id_) is int for id_ in records._ids)
    )


def objection(engine, ticket: Ticket, records, cost_ms: float) -> tuple[str, str]:
    """What speaks against keeping a value: ('', '') or a reason and a detail."""
    if cost_ms < ticket.plan.least_cost_ms:
        return 'cheap', ''
    # a draft that the computation made by itself is part of what it always does
    if ticket.transaction.dirty or not engine.is_settled(records):
        return 'dirty', ''
    if state_of(records.env.cr) is not ticket.transaction:
        return 'uncacheable', 'commit or rollback'  # half of it has seen another snapshot
    if (
        engine.disturbed_since(ticket.writer_epoch, ticket.transaction)
        or not engine.signals_fit(ticket.versions)
        or not engine.memory.fits(ticket.transaction)
    ):
        return 'old_snapshot', ''
    if not ticket.recording.has_seen_all():
        return 'uncacheable', 'SQL that was not seen'
    refusal = ticket.recording.refusal
    if refusal:
        return ('orm_cache' if refusal.startswith('in memory') else 'uncacheable'), refusal
    return _unguarded(engine, ticket)


def _unguarded(engine, ticket: Ticket) -> tuple[str, str]:
    """Complete the recorded relations, and ask for the guards that are missing."""
    recording, tree = ticket.recording, engine.catalogue.tree
    recording.relations = set().union(*map(tree, recording.relations | engine.always))
    known = ticket.versions.versions.keys()
    missing = {name for name in recording.relations - known if not is_removal(name)}
    if missing:
        engine.guards.want(missing)
        return 'unguarded', min(missing)
    return '', ''


def _store(engine, ticket: Ticket, records, value, cost_ms: float) -> tuple[str, str]:
    try:
        payload = codec.pack(shapes.plain(ticket.name[1], value))
    except codec.Unserializable as error:
        return 'unserializable', error.kind
    item = item_of(engine, ticket, payload, cost_ms)
    if item is None:
        return 'large', size_class(len(payload))
    engine.hierarchy.put_many([item])
    if payload == ticket.before:
        _same_again(engine, ticket, records)
    return '', ''


def _same_again(engine, ticket: Ticket, records) -> None:
    """An answer was out of date and came out as it had been: nobody sees in it what had changed."""
    relation = ticket.relation
    wanted = None if relation in engine.always else ticket.columns
    column = columns.only_reader(records, wanted, relation)
    engine.metrics.same(*ticket.name, relation, column)


def dependencies_of(recording: Recording, versions: State):
    """Name, version and owner of all that was recorded, for an :class:`.entry.Entry`."""
    inner = recording.inner
    if ANY in inner or len(inner) > MAX_INNER:
        inner = {ANY: None}
    for name in (ALL, *recording.relations):
        if is_removal(name):  # a tag
            yield name, versions.removals.dependency_version(name), None
        else:
            yield name, versions.versions[name], None
    for name, version in (recording.positions or {}).items():
        yield name, version, None
    for name, uid in inner.items():
        yield name, versions.removals.dependency_version(name, uid), uid


def size_class(size_bytes: int) -> str:
    """A size, rounded up to a power of two in kilobytes, for the figures: '2048 kB'."""
    return f'{1 << max(0, -(-size_bytes // 1024) - 1).bit_length()} kB'


def item_of(engine, ticket: Ticket, payload: bytes, cost_ms: float, flags: int = 0):
    """A packed value as :meth:`.hierarchy.Hierarchy.put_many` takes it.

    :param flags: of the entry, besides those that follow from the ticket
    :return: None if it is too large
    """
    settings, recording, versions = engine.settings, ticket.recording, ticket.versions
    if len(payload) > settings.max_entry_kb * 1024:
        return None
    now = time.time()
    entry = Entry(
        key=ticket.key,
        model=ticket.name[0],
        method=ticket.name[1],
        uid=ticket.uid,
        dependencies=tuple(dependencies_of(recording, versions)),
        removal_version=versions.removals.version(ticket.key, ticket.uid),
        created=now,
        expires=now,
        cost_ms=cost_ms,
        queries=recording.queries,
        flags=flags
        | (FLAG_CLOCK if recording.clock else 0)
        | (FLAG_SUPERUSER if ticket.superuser else 0),
        payload=payload,
    )
    cap_s = settings.time_dependent_ttl_s + ticket.plan.keep_s if recording.clock else None
    if recording.ends < math.inf:
        left_s = max(recording.ends - now, 0.0) + ticket.plan.keep_s
        cap_s = left_s if cap_s is None else min(cap_s, left_s)
    return entry, ticket.plan, cap_s
