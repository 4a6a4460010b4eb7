"""The planted faults of :mod:`.mutants`: one protection removed in each.

The one idea: data.  A fault is a piece of text that occurs exactly once in a file, what stands
there instead, and the tests which should notice.  A protection that consists of two (a tier judges
the expiry and the engine does so again) is removed in both places at once.

What may go wrong: a fault that changes nothing anybody could see.  Such a one does not belong here:
:data:`NOT_PROTECTIONS` says of which that is known, and why.
"""

from __future__ import annotations

import typing


class Mutant(typing.NamedTuple):
    """:param promise: of docs/how-it-works.md and the tests, P1 to P10
    :param protection: what is removed, in plain words
    :param edits: (file, text, what stands there instead)
    :param tests: classes, or ``Class.method``, that should notice
    """

    name: str
    promise: str
    protection: str
    edits: tuple[tuple[str, str, str], ...]
    tests: str

    @property
    def upgrade(self) -> bool:
        """Whether the fault lives in the database: functions, access rights, views."""
        return any(
            file == 'services/journal.py' or not file.endswith('.py') for file, *_ in self.edits
        )


MUTANTS: list[Mutant] = []


def _plant(promise: str, file: str, *faults) -> None:
    """Add faults of one file: (name, protection, text, instead, tests, *further edits)."""
    for name, protection, old, new, tests, *also in faults:
        MUTANTS.append(Mutant(name, promise, protection, ((file, old, new), *also), tests))


# -- what a request, and what was read before, have to do with an answer ---------------------------

_plant(
    'P6',
    'models/read_through.py',
    (
        'request-language',
        "the language of the request, on which _() falls back, is part of the key",
        "    language = env.context.get('lang') if env else None\n",
        "    language = None\n",
        'TestRequestInputs',
    ),
)
_plant(
    'P6',
    'models/replay.py',
    (
        'replay-language',
        "a call is made again in the language of its request",
        "{**env.context, 'lang': language[0]}) if language else env",
        "{**env.context}) if language else env",
        'TestWebRequests',
    ),
)
_plant(
    'P6',
    'models/base.py',
    (
        'groups-code',
        "a field that is grouped by within another computation is looked at",
        "        note_groups(self, groupby)\n",
        "",
        'TestClockInputs',
    ),
    (
        'groups-code-of-sets',
        "also one of several groupings",
        "        note_groups(self, grouping_sets)\n",
        "",
        'TestClockInputs',
    ),
    (
        'order-code',
        "the code of a computed field that is ordered by is looked at",
        "        note_order(self, order)\n",
        "",
        'TestRequestInputs',
    ),
)
_plant(
    'P6',
    'services/recorder.py',
    (
        'memory-fetched',
        "what a model shows to some in another way is not taken from memory",
        "depth > 8 or _fetches_for_user(model):",
        "depth > 8:",
        'TestFetchedInputs',
    ),
)
_plant(
    'P1',
    'services/reading.py',
    (
        'inner-read-ends',
        "what is made of another answer ends with it",
        "    note_end(found.entry.expires)\n",
        "",
        'TestClockInputs',
    ),
    (
        'audit-eventual',
        "what a rule lets be older than the snapshot is not audited",
        "plan is None or plan.consistency == 'strong':",
        "plan is not None:",
        'TestConsistency',
    ),
    (
        'audit-eventual-current',
        "under such a rule, what is of the snapshot is audited all the same",
        "not any(judge(engine, entry, versions, False, records.env))",
        "False",
        'TestConsistency',
    ),
    (
        'clock-set-back',
        "what was computed in the future has no age",
        "    if entry.created > now:  # the clock was set back: nobody knows how old it is\n"
        "        return True\n",
        "",
        'TestClockInputs',
    ),
    (
        'ends-and-renewal',
        "what ends with another value may be renewed after that",
        "left_s = max(recording.ends - now, 0.0) + ticket.plan.keep_s",
        "left_s = max(recording.ends - now, 0.0)",
        'TestNamedInside',
    ),
)
_plant(
    'P1',
    'services/named.py',
    (
        'inner-ends',
        "what is made of a named entry ends with it",
        "    reading.note_end(call.plan.end_of(found.entry))\n",
        "",
        'TestNamedInside',
    ),
    (
        'inner-computed-ends',
        "also if the inner value was computed then",
        "    reading.note_end(time.time() + call.plan.longest_life_s)\n",
        "",
        'TestNamedInside',
    ),
    (
        'inner-life',
        "a named entry whose life is over is not used within a computation",
        "lambda: key, judge_by)",
        "lambda: key)",
        'TestNamedInside',
    ),
    (
        'inner-stands-in',
        "it stands in there as well for one that cannot be computed",
        "judges[0].expired if judges else None",
        "None",
        'TestNamedInside',
    ),
)
_plant(
    'P1',
    'services/answering.py',
    (
        'inner-stands-in-kept',
        "what is made of a value that stands in is not kept",
        "        reading.refuse('consistency')\n",
        "",
        'TestNamedInside',
    ),
)

# -- what environments remember --------------------------------------------------------------------

_plant(
    'P6',
    'services/remembered.py',
    (
        'remembered-value',
        "what environments remember is compared with what they would look up now",
        "(env) == known\n",
        "(env) is not None\n",
        'TestRemembered',
    ),
    (
        'remembered-refused',
        "a company that was lost is no value, and no error",
        "        return False\n",
        "        return True\n",
        'TestRemembered',
    ),
    (
        'remembered-zone',
        "the user's time zone that an environment remembers is looked up again",
        "            vars(env).pop('tz', None)\n",
        "            pass\n",
        'TestZoneInputs',
    ),
    (
        'remembered-audit',
        "an audit without memory is one without that of environments",
        "            vars(env).pop(name, None)\n",
        "            pass\n",
        'TestRemembered',
    ),
)
_plant(
    'P6',
    'services/reading.py',
    (
        'remembered-look',
        "what environments remember is looked up again before a recording",
        "    if remembered.is_outdated(env.transaction):\n",
        "    if False:\n",
        'TestRemembered',
    ),
)
_plant(
    'P6',
    'services/memory.py',
    (
        'remembered-doubt',
        "beside a transaction with outdated values nothing is kept",
        "        transaction.rights = (object(),)\n        self._rights = None\n",
        "        self._rights = None\n",
        'TestRemembered',
    ),
)

# -- positions of sequences, which belong to no snapshot -------------------------------------------

_plant(
    'P1',
    'services/reading.py',
    (
        'position-asked',
        "a sequence is asked again where it stands",
        "    return positions.moved(env.cr, stood)\n",
        "    return ''\n",
        'TestPositions',
    ),
    (
        'position-memory',
        "a number that the transaction holds in memory is not asked for again",
        "    if engine.orm_cache.computed(env.transaction):\n",
        "    if False:\n",
        'TestPositions.test_a_number_in_memory_is_not_asked_for_again',
    ),
    (
        'position-strong',
        "what has read a sequence is kept only where hits are of the reader's snapshot",
        "engine.read_text, plan.consistency == 'strong')",
        "engine.read_text, True)",
        'TestPositions.test_nothing_is_kept_where_hits_may_be_older_than_their_transaction',
    ),
    (
        'position-audit',
        "a sequence that moves is no difference",
        "lambda: positions.moved(records.env.cr, positions.of(hit.entry))",
        "lambda: False",
        'TestPositions.test_an_audit_is_not_fooled_by_a_sequence_that_moves',
    ),
)
_plant(
    'P1',
    'services/recorder.py',
    (
        'position-one',
        "a computation that saw two positions of a sequence is not kept",
        "self.positions.setdefault(name, version) != version",
        "self.positions.setdefault(name, version) is None",
        'TestPositions.test_two_positions_in_one_computation_are_refused',
    ),
    (
        'position-refused',
        "named entries and batch answers that read a sequence are not kept",
        "        if self.positions is None or",
        "        if self.positions is None:\n            return\n        if",
        'TestPositions.test_named_entries_do_not_depend_on_it'
        ' TestBatchApi.test_what_has_read_a_sequence_has_no_etag',
    ),
    (
        'position-inherited',
        "who uses such an answer depends on the sequence as well",
        "                self._stood(name, version)\n            else:",
        "                pass\n            else:",
        'TestPositions.test_an_outer_read_takes_it_over',
    ),
)
_plant(
    'P1',
    'services/positions.py',
    (
        'position-step',
        "where a sequence stands includes its step, and whether its number is taken",
        "    digest = hashlib.blake2b(repr(rows).encode(), digest_size=8).digest()",
        "    digest = hashlib.blake2b(repr(rows[0][0]).encode(), digest_size=8).digest()",
        'TestPositions.test_it_is_computed_once_the_sequence_has_moved',
    ),
    (
        'position-names',
        "the two names in the question are the same",
        "return match[1].decode() if match and match[1] == match[2] else ''",
        "return match[1].decode() if match else ''",
        'TestPositions.test_only_the_question_of_odoo_is_understood',
    ),
)
_plant(
    'P1',
    'models/ir_sequence.py',
    (
        'position-clock',
        "a prefix with the time of day lives briefly",
        "        if reading.is_recording():",
        "        if False:",
        'TestPositions.test_a_prefix_with_the_time_of_day_lives_briefly',
    ),
)

# -- versions: a hit is valid in the snapshot of its reader ----------------------------------------

_plant(
    'P1',
    'services/reading.py',
    (
        'settings',
        "who has changed settings of its session is not served",
        "    if has_set(cr) or",
        "    if",
        'TestSettings',
    ),
    (
        'read-flight-bound',
        "nobody waits longer for another thread than twice the usual time",
        "return min(2 * expected_ms / 1000, MAX_PATIENCE_S) if",
        "return 5.0 if",
        'TestReadFlight',
    ),
    (
        'read-flight-vain',
        "nobody waits for what could not be kept",
        "    if engine.suspender.is_vain(found.name):\n",
        "    if False:\n",
        'TestReadFlight',
    ),
    (
        'judge-version',
        "version compare: any version of a known relation is good enough",
        "if known.get(relation) != version and not",
        "if relation not in known and not",
        'TestSnapshotEquivalence TestStatements',
    ),
    (
        'judge-first-only',
        "version compare: only the first dependency is looked at",
        "        for relation, version, uid in entry.dependencies:\n"
        "            if known.get(relation)",
        "        for relation, version, uid in entry.dependencies[:1]:\n"
        "            if known.get(relation)",
        'TestSnapshotEquivalence TestStatements',
    ),
    (
        'judge-order',
        "version compare: a version larger than the entry's is not a change",
        "if known.get(relation) != version and not",
        "if known.get(relation, -1) < version and not",
        'TestSnapshotEquivalence TestStatements',
    ),
    (
        'judge-released',
        "version compare: a relation that is not guarded any more is trusted",
        "if known.get(relation) != version and not",
        "if known.get(relation, version) != version and not",
        'TestStatements',
    ),
    (
        'store-newest-versions',
        "an entry carries the versions of the snapshot it was computed in, not the newest ones",
        "        return None\n    now = time.time()",
        "        return None\n    versions = engine._books[False].state\n    now = time.time()",
        'TestSnapshotEquivalence',
    ),
    (
        'eventual-store-old-versions',
        "under EVENTUAL an entry carries the versions of its own snapshot, not those known before",
        "if plan.consistency != 'strong':",
        "if plan.consistency == 'none':",
        'TestConsistency',
    ),
    (
        'signals-keep',
        "what was computed while a signal came in is not kept",
        "        or not engine.signals_fit(ticket.versions)\n",
        "",
        'TestCodeSafety',
    ),
    (
        'disturbed-keep',
        "nothing is kept while another thread changes what tools.ormcache holds",
        "        engine.disturbed_since(ticket.writer_epoch, ticket.transaction)\n",
        "        False\n",
        'TestAttack',
    ),
    (
        'memory-keep',
        "nothing is kept that was computed under rights of another snapshot",
        "        or not engine.memory.fits(ticket.transaction)\n",
        "",
        'TestAttack',
    ),
    (
        'store-after-commit',
        "what was computed across a commit or rollback is not kept",
        "if state_of(records.env.cr) is not ticket.transaction:",
        "if False:",
        'TestSnapshotEquivalence',
    ),
    (
        'read-committed',
        "without one snapshot for the whole transaction nothing is asked",
        "if not is_snapshot_stable(cr):",
        "if False:",
        'TestSnapshotEquivalence',
    ),
)

_plant(
    'P1',
    'services/engine.py',
    (
        'disturbed-epoch',
        "ormcache: a writer that began and ended during the computation counts",
        "if self._writer_epoch != epoch:\n            return True",
        "",
        'TestAttack',
    ),
    (
        'disturbed-open',
        "ormcache: a writer that was open before the computation counts",
        "return any(other is not own and other.is_open() for other in list(self._writers))",
        "return False",
        'TestAttack',
    ),
    (
        'disturbed-rollback',
        "ormcache: the moment between a rollback and the clearing of the values counts",
        "if by != me and time.monotonic() - rolled_back_at < ROLLBACK_PAUSE_S:\n"
        "            return True",
        "",
        'TestAttack',
    ),
    (
        'signals-ormcache',
        "ormcache sequences: only the registry's sequence is compared with the snapshot",
        "return known == versions.signals",
        "return known[:1] == versions.signals[:1]",
        'TestCodeSafety TestUsersAndCompanies TestAttack',
    ),
    (
        'signals-registry',
        "ormcache sequences: the registry's own sequence is compared with the snapshot",
        "return known == versions.signals",
        "return known[1:] == versions.signals[1:]",
        'TestCodeSafety',
    ),
    (
        'standby-book',
        "a replica has a book of versions of its own",
        "return self._books[bool(cr.readonly) and self.registry._db_readonly is not None]",
        "return self._books[False]",
        'TestBook',
    ),
)

_plant(
    'P1',
    'services/versions.py',
    (
        'delta-generation',
        "compaction mark: sums are carried on although rows have gone",
        "generation != base.generation\n",
        "False\n",
        'TestBook TestBookAtRandom',
    ),
    (
        'delta-covers',
        "snapshot rule: an older snapshot is given the newer sums",
        "            or not row.snapshot.covers(base.snapshot)\n",
        "",
        'TestBook TestBookAtRandom TestSnapshotEquivalence',
    ),
    (
        'delta-standby-lower-bound',
        "on a standby a snapshot with a lower xmin is older, whatever its xmax says",
        "            or (row.standby and row.snapshot.xmin < base.snapshot.xmin)\n",
        "",
        'TestBookOnStandby',
    ),
    (
        'delta-other-server',
        "a server is told apart from another one with the same process ids",
        "pg_backend_pid() || ' ' || pg_postmaster_start_time(), pg_is_in_recovery(),",
        "pg_backend_pid()::text, pg_is_in_recovery(),",
        'TestBook',
        (
            'services/journal.py',
            "pg_backend_pid() || ' ' || pg_postmaster_start_time(), standby,",
            "pg_backend_pid(), standby,",
        ),
    ),
    (
        'delta-backend',
        "backend identity: a new connection does not carry on sums from before a crash",
        "if known else None",
        "",
        'TestBook',
    ),
    (
        'delta-start-on-standby',
        "on a standby the delta starts at the xmin of the snapshot, not at its xmax",
        "cr.execute(_DELTA, [str(snapshot.xmin), []])",
        "cr.execute(_DELTA, [str(snapshot.xmax), []])",
        'TestBookOnStandby TestStandbyAtRandom',
    ),
    (
        'delta-running',
        "transactions that were running at the last look are asked for by their ids",
        "[str(xid) for xid in snapshot.running]",
        "[]",
        'TestBook TestBookAtRandom TestSnapshotEquivalence',
    ),
    (
        'delta-counted-twice',
        "on a standby rows that were counted before are not counted again",
        "fresh = [change for change in changes if change[0] not in base.counted]",
        "fresh = list(changes)",
        'TestBookOnStandby TestStandbyAtRandom',
    ),
    (
        'delta-standby-older',
        "on a standby a snapshot that lacks a counted row is older, whatever its bounds say",
        "if base.counted and not base.counted <= {id_ for id_, *_ in changes}:",
        "if False:",
        'TestBookOnStandby TestStandbyAtRandom',
    ),
    (
        'delta-not-remembered',
        "on a standby the rows at or above xmin are remembered as counted",
        "return frozenset(id_ for id_, xid, *_ in changes if int(xid) >= row.snapshot.xmin)",
        "return frozenset()",
        'TestBookOnStandby TestStandbyAtRandom',
    ),
    (
        'delta-signals',
        "ormcache signals are read again when one was sent",
        "if any(relation in SIGNAL_RELATIONS for _id, _xid, relation, *_ in fresh):",
        "if False:",
        'TestBook',
    ),
    (
        'delta-in-place',
        "a state that other threads read is never modified",
        "versions, removed = dict(versions), {}",
        "removed = {}",
        'TestBook',
    ),
    (
        'publish-blindly',
        "compare and set: a thread that slept through a crash does not bring back old sums",
        "            if self.state is base:\n                self.state = state",
        "            self.state = state",
        'TestBook',
    ),
    (
        'crash-keeps-state',
        "what was known before a crash is replaced, even by an older snapshot",
        "            with self._lock:\n                self.state = state\n"
        "        elif base is None",
        "            self._publish(state, None)\n        elif base is None",
        'TestBook',
    ),
    (
        'load-without-changes',
        "the sums hold the rows that are not compacted yet",
        "                UNION ALL\n                SELECT relation, token FROM cache_change\n",
        "",
        'TestBook',
    ),
    (
        'load-unguarded',
        "only relations with a row in cache_version have a version",
        "if rel in guarded}",
        "}",
        'TestBook TestGuards',
    ),
    (
        'load-orm-guards',
        "what was guarded for the ORM hooks only is not trusted under triggers",
        "(capture = 'triggers' OR %s)),",
        "%s IS NOT NULL),",
        'TestAttack',
    ),
)

_plant(
    'P1',
    'services/snapshot.py',
    (
        'snapshot-running',
        "a snapshot does not see what was running when it was taken",
        "return xid < self.xmax and xid not in self.running",
        "return xid < self.xmax",
        'TestSnapshot',
    ),
    (
        'snapshot-bounds-only',
        "one snapshot covers another only if it sees all that the other sees",
        "return self.xmax >= other.xmax and not any(other.sees(xid) for xid in self.running)",
        "return self.xmax >= other.xmax",
        'TestSnapshot TestBookAtRandom',
    ),
)

# -- own writes ------------------------------------------------------------------------------------

_plant(
    'P2',
    'services/versions.py',
    (
        'own-write-delta',
        "own-write bypass: the answer of the version query that says so is not heeded",
        "            if row.written:\n                return None\n            known",
        "            known",
        'TestBook TestOwnWrites',
    ),
    (
        'own-write-load',
        "own-write bypass: nor at the first look",
        "        if row.written:\n            return None\n        self.reloads",
        "        self.reloads",
        'TestBook',
    ),
)
_plant(
    'P2',
    'services/journal.py',
    (
        'own-write-sql',
        "own-write bypass: the version query does not ask pg_current_xact_id_if_assigned()",
        "pg_current_xact_id_if_assigned() IS NOT NULL, pg_current_snapshot(),",
        "false, pg_current_snapshot(),",
        'TestBook TestOwnWrites',
    ),
)
_plant(
    'P3',
    'services/engine.py',
    (
        'memory-rolled-back',
        "what a transaction has put into tools.ormcache is in doubt when it is rolled back",
        "        self.memory.doubt()\n",
        "",
        'TestMemoryInputs',
    ),
    (
        'memory-savepoint',
        "and when it goes back to a savepoint",
        "        transaction.memory = self.memory\n",
        "",
        'TestMemoryInputs',
    ),
)
_plant(
    'P1',
    'services/recorder.py',
    (
        'cursor-notes',
        "what code has noted on the cursor before the recording began may come from any table",
        "            self.refuse(f'in memory: cr.cache {noted[0]}')\n",
        "            pass\n",
        'TestMemoryInputs',
    ),
)
_plant(
    'P1',
    'patches.py',
    (
        'clock-of-cursor',
        "cr.now() tells the recording, also the second time",
        "it sends no SQL\n        reading.note_clock()\n",
        "it sends no SQL\n",
        'TestClockInputs',
    ),
    (
        'clock-search',
        "the code of a search method is looked at when it runs",
        "        reading.note_code(records, self, 'search')\n",
        "",
        'TestClockInputs',
    ),
)
_plant(
    'P1',
    'services/clock.py',
    (
        'clock-groups',
        "a field that is grouped by is looked at",
        "    return any(_field_uses_clock(records, name) for name in _texts(groups))\n",
        "    return False\n",
        'TestCode',
    ),
    (
        'clock-datetime-today',
        "datetime.today() is the time of day",
        "                names.add('now')\n",
        "                pass\n",
        'TestClockCode',
    ),
    (
        'clock-written-code',
        "code that people have written for a field is looked at",
        " | _names_in_texts(function)\n",
        "\n",
        'TestClockCode',
    ),
)
_plant(
    'P1',
    'services/statements.py',
    (
        'settings-indented',
        "a statement that changes a setting is recognized however far it is indented",
        "    if query.lstrip()[:8].lower().startswith(_BEGINNINGS):\n",
        "    if query[:40].lstrip().lower().startswith(_BEGINNINGS):\n",
        'TestConnectionInputs',
    ),
    (
        'settings-within',
        "set_config() is recognized anywhere in a statement",
        "_ANYWHERE = (';', 'set_config', 'pg_settings', 'temp')",
        "_ANYWHERE = (';', 'temp')",
        'TestConnectionInputs',
    ),
)
_plant(
    'P2',
    'services/statements.py',
    (
        'statements-copies',
        "COPY is a statement",
        "'copy_to', 'copy_expert'",
        "'copy_to'",
        'TestUnseenStatements',
    ),
    (
        'statements-named-cursors',
        "statements of a named cursor count",
        "            cursor_factory = CountingCursor\n",
        "            cursor_factory = None if name else CountingCursor\n",
        'TestUnseenStatements',
    ),
    (
        'statements-other-classes',
        "a cursor that does not count makes the count unknown",
        "            setattr(self, _SLOT, UNKNOWN)\n",
        "            pass\n",
        'TestUnseenStatements',
    ),
    (
        'statements-of-the-connection',
        "a second cursor of the connection counts like the first",
        "        values = self.connection.__dict__\n",
        "        values = self.connection.__dict__ if self.began == 0 else {}\n",
        'TestUnseenStatements',
    ),
)
_plant(
    'P2',
    'services/transaction.py',
    (
        'own-write-later',
        "own-write bypass: raw SQL after the first look",
        "if self.dirty or cr.readonly or sent(cr) == self._sent:",
        "if True:",
        'TestOwnWrites',
    ),
    (
        'own-write-next-transaction',
        "what is known of a transaction ends with its commit",
        "if state is None or cr.postrollback.data.get(_SLOT) is not state:",
        "if state is None:",
        'TestOwnWrites TestSnapshotEquivalence',
    ),
    (
        'autocommit',
        "a cursor in autocommit has no snapshot",
        " and not connection.autocommit\n",
        "\n",
        'TestSnapshotEquivalence',
    ),
    (
        'isolation-level',
        "only REPEATABLE READ has one snapshot",
        "connection.isolation_level == ISOLATION_LEVEL_REPEATABLE_READ and not connection",
        "not connection",
        'TestSnapshotEquivalence',
    ),
    (
        'writer-is-open',
        "ormcache: whether a writer has ended",
        "return cr is not None and not cr.closed and cr.postcommit.data.get(_SLOT) is self",
        "return False",
        'TestAttack',
    ),
)
_plant(
    'P2',
    'services/reading.py',
    (
        'second-look',
        "own-write bypass: also if the transaction has read from the cache before",
        "        if transaction.has_written(cr):\n            return None, 'dirty'\n"
        "        return transaction.versions",
        "        return transaction.versions",
        'TestOwnWrites',
    ),
    (
        'unflushed-keep',
        "what was computed around an unflushed write is not kept",
        "if ticket.transaction.dirty or not engine.is_settled(records):",
        "if False:",
        'TestOwnWrites TestNothingUncommitted',
    ),
)
_plant(
    'P2',
    'services/engine.py',
    (
        'drafts',
        "after an onchange has made a record without a row, reads compute",
        "return not (transaction.dirty or transaction.drafts) and self.is_settled(records)",
        "return not transaction.dirty and self.is_settled(records)",
        'TestWhatIsNotInTheDatabase',
    ),
    (
        'unflushed',
        "changes that are not flushed are looked for",
        "transaction.field_dirty\n",
        "False\n",
        'TestOwnWrites',
    ),
    (
        'to-compute',
        "fields that are still to be recomputed are looked for",
        "or (transaction.tocompute and any(any(ids) for ids in transaction.tocompute.values()))",
        "",
        'TestOwnWrites TestWhatIsNotInTheDatabase',
    ),
    (
        'own-ormcache',
        "a transaction that has dropped tools.ormcache values computes",
        "or registry.cache_invalidated\n",
        "",
        'TestOwnWrites TestUsersAndCompanies',
    ),
    (
        'own-registry',
        "a transaction that has changed models or fields computes",
        "or registry.registry_invalidated\n",
        "",
        'TestOwnWrites TestCodeSafety',
    ),
)
_plant(
    'P2',
    'services/writing.py',
    (
        'orm-hook-draft',
        "a record made by new() is noted",
        "state_of(records.env.cr).drafts = True",
        "pass",
        'TestWhatIsNotInTheDatabase',
    ),
    (
        'orm-hook-rollback',
        "so is their rollback",
        "        env.cr.postrollback.add(engine.rolled_back)\n",
        "",
        'TestAttack',
    ),
    (
        'orm-hook-ormcache',
        "writing to models that fill tools.ormcache is noted",
        "_note_ormcache(env_, transaction)"
        if False
        else "_note_ormcache(records.env, transaction)",
        "pass",
        'TestAttack',
    ),
)

# -- nothing uncommitted, no crash gap -------------------------------------------------------------

_plant(
    'P4',
    'services/journal.py',
    (
        'token-counted',
        "tokens are random, not counted",
        '''    "(('x' || right(replace(gen_random_uuid()::text, '-', ''), 16))'''
        '''::bit(64)::bigint"\n'''
        '''    " & 4611686018427387903)"''',
        '    "1::bigint"',
        'TestNotes TestGuards TestSums',
    ),
    (
        'note-left-over',
        "a memory of notes left over from another transaction is ignored",
        "IF noted IS NULL OR NOT starts_with(noted, mark) THEN",
        "IF noted IS NULL THEN",
        'TestNotes',
    ),
    (
        'note-substring',
        "a table whose number is part of another's is noted too",
        "strpos(noted, ',' || TG_RELID || ',') > 0",
        "strpos(noted, TG_RELID::text) > 0",
        'TestNotes',
    ),
    (
        'note-nothing',
        "the trigger writes the journal",
        "    INSERT INTO %(schema)s.cache_change (relation) VALUES (TG_TABLE_NAME);\n",
        "",
        'TestNotes',
    ),
    (
        'note-definer',
        "a role that may not touch the journal may write the table",
        "LANGUAGE plpgsql SECURITY DEFINER SET search_path",
        "LANGUAGE plpgsql SET search_path",
        'TestNotes',
    ),
    (
        'note-search-path',
        "a table of the name of a built-in cannot mislead the trigger",
        " SET search_path = pg_catalog, pg_temp AS $body$",
        " AS $body$",
        'TestNotes',
    ),
    (
        'look-running',
        "the version query adds what has committed with a lower id than one already seen",
        "WHERE xid >= since OR xid = ANY(running)\n",
        "WHERE xid >= since\n",
        'TestBook',
    ),
    (
        'look-shortcut',
        "the version query's short cut waits until nothing was running",
        "       OR EXISTS (SELECT FROM %(schema)s.cache_change WHERE xid = ANY(running))\n",
        "",
        'TestBook TestBookAtRandom',
    ),
    (
        'compact-mark',
        "compaction changes the generation",
        "AND (EXISTS (SELECT FROM gone) OR",
        "AND (FALSE OR",
        'TestCompaction TestBook',
    ),
    (
        'compact-sums',
        "compaction adds up what it deletes",
        "mod(v.token::numeric + s.token, {MODULUS})::bigint",
        "v.token",
        'TestCompaction TestSums',
    ),
    (
        'compact-removals',
        "compaction keeps removals until no entry can be older",
        "AND v.guarded_at < clock_timestamp() - make_interval(secs => %(ttl)s)",
        "AND TRUE",
        'TestCompaction TestManagerRemovals',
    ),
    (
        'compact-removals-unseen',
        "compaction waits for transactions that do not see a removal",
        "OR xid < %(seen)s::xid8",
        "OR TRUE",
        'TestCompaction TestInterleavings',
    ),
    (
        'compact-removals-again',
        "a removal that is repeated is kept from the last time on",
        "guarded_at = CASE WHEN v.capture = 'removal' THEN clock_timestamp()",
        "guarded_at = CASE WHEN FALSE THEN clock_timestamp()",
        'TestInterleavings',
    ),
    (
        'compact-removals-forgotten',
        "when a removal is forgotten, every process reads all versions again",
        "OR EXISTS (SELECT FROM dropped))",
        "OR FALSE)",
        'TestCompaction',
    ),
    (
        'compact-folds-to-nothing',
        "when removals become very many, one comes in their place",
        "INSERT INTO cache_change (relation) SELECT unnest(%(folds)s)",
        "INSERT INTO cache_change (relation) SELECT unnest(%(folds)s) WHERE FALSE",
        'TestCompaction TestFolds',
    ),
    (
        'compact-folds-old-generation',
        "when removals become one, every process reads all versions again",
        "        {'folds': folds},\n    )\n    _new_generation(cr)\n",
        "        {'folds': folds},\n    )\n",
        'TestCompaction',
    ),
    (
        'compact-folds-wide-patterns',
        "a pattern that may match reads of the ORM is not folded into one of named entries",
        "substring(relation FROM '^{PATTERN}([^][*?]*)')) THEN '{ALL}'",
        "substring(relation FROM '^{PATTERN}([^][*?]*)')) THEN '{ALL_NAMED}'",
        'TestFolds',
    ),
    (
        'compact-lock',
        "one process compacts or guards at a time",
        "    return cr.fetchone()[0]\n\n\ndef is_lock_timeout",
        "    cr.fetchone()\n    return True\n\n\ndef is_lock_timeout",
        'TestCompaction',
    ),
    (
        'guard-again-same-version',
        "a relation guarded again never has an earlier version",
        "SET token = {RANDOM_TOKEN}, relid = excluded.relid",
        "SET relid = excluded.relid",
        'TestGuards',
    ),
    (
        'guard-generation',
        "a new guard makes every process read all versions again",
        "        [relation, relation, capture],\n    )\n    _new_generation(cr)\n",
        "        [relation, relation, capture],\n    )\n",
        'TestBook TestGuards',
    ),
    (
        'release-generation',
        "a released guard makes every process read all versions again",
        '[relation])\n    _new_generation(cr)\n',
        '[relation])\n',
        'TestBook TestGuards',
    ),
    (
        'foreign-rows',
        "a journal restored from another cluster is compacted at the start",
        '        " WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))"',
        '        " WHERE FALSE)"',
        'TestCompaction',
    ),
)

# -- complete capture ------------------------------------------------------------------------------

_plant(
    'P5',
    'services/journal.py',
    (
        'trigger-insert',
        "a trigger for INSERT",
        "    'cache_change_insert': (\"AFTER INSERT\", "
        "\"REFERENCING NEW TABLE AS changed_rows\"),\n",
        "",
        'TestStatements TestGuards',
    ),
    (
        'trigger-update',
        "a trigger for UPDATE",
        "    'cache_change_update': (\"AFTER UPDATE\", "
        "\"REFERENCING NEW TABLE AS changed_rows\"),\n",
        "",
        'TestStatements TestGuards',
    ),
    (
        'trigger-delete',
        "a trigger for DELETE",
        "    'cache_change_delete': (\"AFTER DELETE\", "
        "\"REFERENCING OLD TABLE AS changed_rows\"),\n",
        "",
        'TestStatements TestGuards',
    ),
    (
        'trigger-truncate',
        "a trigger for TRUNCATE",
        "    'cache_change_truncate': (\"AFTER TRUNCATE\", \"\"),\n",
        "",
        'TestCascades TestGuards',
    ),
    (
        'trigger-no-rows',
        "a statement that touched no row writes nothing",
        "        IF NOT EXISTS (SELECT FROM changed_rows) THEN\n            RETURN NULL;\n"
        "        END IF;\n",
        "        NULL;\n",
        'TestNotes TestStatements',
    ),
    (
        'guard-disabled',
        "a trigger that somebody disabled is enabled again",
        "elif enabled[name] not in ('O', 'A'):",
        "elif False:",
        'TestGuards',
    ),
    (
        'broken-disabled',
        "disabled triggers are found",
        "WHERE t.tgrelid = v.relid AND t.tgenabled IN ('O', 'A')",
        "WHERE t.tgrelid = v.relid",
        'TestGuards',
    ),
    (
        'broken-remade',
        "a table that was dropped and made again is found",
        "v.relid IS DISTINCT FROM to_regclass(quote_ident(v.relation))::oid",
        "FALSE",
        'TestGuards',
    ),
)
_plant(
    'P5',
    'services/guards.py',
    (
        'broken-released',
        "broken guards are released, so that nothing trusts them",
        "                journal.release(cr, relation)\n",
        "                pass\n",
        'TestGuards',
    ),
    (
        'guard-lock-timeout',
        "a guard waits for a busy table no longer than told",
        "cr.execute(\"SELECT set_config('lock_timeout', %s, true)\", [limit])",
        "cr.execute(\"SELECT set_config('lock_timeout', '0', true)\", [limit])",
        'TestGuards',
    ),
    (
        'guard-not-a-table',
        "only ordinary tables of the schema are guarded",
        "if not engine.catalogue.knows(relation):",
        "if False:",
        'TestGuards',
    ),
)
_plant(
    'P5',
    'services/writing.py',
    (
        'capture-orm-journal',
        "without triggers the ORM hooks write the journal",
        "        _journal(transaction.journal_engine, cr, records, removed)\n",
        "        pass\n",
        'TestCaptureByOrm',
    ),
    (
        'capture-orm-relations',
        "without triggers the tables of many2many fields are journalled too",
        "if field.type == 'many2many' and field.store and field.relation",
        "if False",
        'TestCaptureByOrm',
    ),
    (
        'capture-orm-cascade',
        "without triggers deletions reach what foreign keys cascade to",
        "relations |= cascade(cr, {records._table})",
        "pass",
        'TestCaptureByOrm',
    ),
    (
        'capture-orm-set-null',
        "without triggers deletions reach what foreign keys set to null",
        "c.confdeltype IN ('c', 'n', 'd')",
        "c.confdeltype IN ('c')",
        'TestCaptureByOrm',
    ),
    (
        'capture-orm-always',
        "without triggers a change is journalled every time, whatever savepoint it is in",
        "    if transaction.journal_engine is not None:\n",
        "    if transaction.journal_engine is not None and change.fields != {'noted'}:\n"
        "        change.fields = {'noted'}\n",
        'TestCaptureByOrm',
        ('services/writing.py', "    if vals:\n        change.fields.update(vals)\n", ""),
    ),
)
_plant(
    'P5',
    'models/base.py',
    (
        'hook-write',
        "the hook of write()",
        "        watch = note_changes(self, vals)\n",
        "        watch = None\n",
        'TestCaptureByOrm',
    ),
    (
        'hook-unlink',
        "the hook of unlink()",
        "        watch = note_changes(self, removed=True)\n",
        "        watch = None\n",
        'TestCaptureByOrm',
    ),
    (
        'hook-flush',
        "the hook of what recomputation writes at flush",
        "    def _write_multi(self, vals_list):\n        watch = note_changes(self)\n",
        "    def _write_multi(self, vals_list):\n        watch = None\n",
        'TestCaptureByOrm',
    ),
    (
        'hook-create',
        "the hooks of create()",
        "        note_changes(self)\n        records = super().create(vals_list)\n"
        "        note_changes(records)\n",
        "        records = super().create(vals_list)\n",
        'TestCaptureByOrm',
        (
            'models/base.py',
            "    def _create(self, data_list):\n        watch = note_changes(self)\n",
            "    def _create(self, data_list):\n        watch = None\n",
        ),
    ),
    (
        'hook-new',
        "the hook of new()",
        "        note_draft(self)\n",
        "",
        'TestWhatIsNotInTheDatabase',
    ),
    (
        'hook-compute',
        "the code of a computed field is looked at when it runs",
        "        note_code(self, field)\n",
        "",
        'TestShortLives',
    ),
    (
        'hook-outermost',
        "overrides that never reach the bottom are wrapped on the outside",
        "            overrides.wrap(type(self), method, read_through)\n",
        "            pass\n",
        'TestOverrides',
    ),
)

# -- dependencies: what a result was computed from -------------------------------------------------

_plant(
    'P5',
    'services/recorder.py',
    (
        'x2many-in-memory',
        "records that superuser code has left in memory keep a result from being stored",
        "    return field.type in ('one2many', 'many2many')\n",
        "    return False\n",
        'TestAttack',
    ),
    (
        'record-nothing',
        "every query of the computation is recorded",
        "            self.relations |= reading.relations\n",
        "            pass\n",
        'TestRecording TestStatements',
    ),
    (
        'record-cursor',
        "a computation on another cursor is not kept",
        "            self.refuse('another cursor')\n            return\n",
        "            return\n",
        'TestRecording',
    ),
    (
        'record-parameters',
        "a name in a parameter is looked for in the statement as it was sent",
        "if not isinstance(query, str) or (params and _hides_names(params)):",
        "if not isinstance(query, str):",
        'TestRecording',
    ),
    (
        'record-refused',
        "a text that is refused makes the result not stored",
        "            self.refuse(reading.refusal)\n",
        "            pass\n",
        'TestRecording TestCatalogue',
    ),
    (
        'record-fault',
        "a fault of the recorder makes the result not stored",
        "            self.refuse(f'fault {type(error).__name__}')",
        "            pass",
        'TestRecording',
    ),
    (
        'record-clock',
        "a text that looks at the clock makes the result short-lived",
        "self.clock = self.clock or reading.clock",
        "pass",
        'TestRecording TestShortLives',
    ),
    (
        'inherit-relations',
        "an inner hit hands over what it depended on",
        "                self.relations.add(name)\n",
        "                pass\n",
        'TestRecording',
    ),
    (
        'inherit-clock',
        "an inner hit hands over that it looked at the clock",
        "        self.clock = self.clock or clock\n",
        "",
        'TestRecording',
    ),
    (
        'memory-table',
        "ORM cache: a field in memory stands for its table",
        "            found.add(model._table)\n",
        "            pass\n",
        'TestOrmCache',
    ),
    (
        'memory-many2many',
        "ORM cache: a many2many field in memory stands for its relation table too",
        "found.update(filter(None, (getattr(field, 'relation', None),)))",
        "pass",
        'TestOrmCache',
    ),
    (
        'memory-binary',
        "ORM cache: a binary field in memory stands for the attachments",
        "            found.add('ir_attachment')\n",
        "            pass\n",
        'TestOrmCache',
    ),
    (
        'memory-company',
        "ORM cache: a company-dependent field in memory stands for the defaults too",
        "            found.add('ir_default')\n",
        "            pass\n",
        'TestOrmCache',
    ),
    (
        'memory-computed',
        "ORM cache: a computed value in memory may come from anywhere",
        "return '' if str(field) in _KNOWN_COMPUTED else str(field)",
        "return ''",
        'TestOrmCache',
    ),
    (
        'memory-related',
        "ORM cache: a related field in memory stands for every table on its way",
        "            return self._collect_related(field, found, depth)\n",
        "            return ''\n",
        'TestOrmCache',
    ),
    (
        'memory-properties',
        "ORM cache: properties in memory may come from anywhere",
        "        if field.type in ('properties', 'properties_definition'):\n"
        "            return str(field)\n",
        "",
        'TestOrmCache',
    ),
    (
        'memory-one2many',
        "ORM cache: a one2many field in memory stands for the table of its lines",
        "        if field.type == 'one2many' and not field.compute:\n"
        "            found.add(self._registry[field.comodel_name]._table)\n",
        "        if field.type == 'one2many' and not field.compute:\n",
        'TestOrmCache',
        (
            'services/recorder.py',
            "            found.add(self._registry[field.comodel_name]._table)\n"
            "        if field.type == 'binary'",
            "        if field.type == 'binary'",
        ),
    ),
)
_plant(
    'P5',
    'services/reading.py',
    (
        'memory-ignored',
        "ORM cache: what was in memory before the computation counts as read",
        "    recording.relations |= relations\n    if opaque",
        "    if opaque",
        'TestWhatIsNotInTheDatabase',
    ),
    (
        'memory-opaque',
        "ORM cache: an opaque value in memory keeps the result from being stored",
        "        recording.refuse(f'in memory: {opaque}')\n",
        "        pass\n",
        'TestWhatIsNotInTheDatabase',
    ),
    (
        'memory-asked',
        "what sits in the ORM cache is not asked of the cache",
        "if method in _MEMORY_READS and in_orm_cache(records, args):",
        "if False:",
        'TestWhatIsNotInTheDatabase',
    ),
    (
        'always-relations',
        "every result depends on users, groups, rights, rules, companies, languages",
        "map(tree, recording.relations | engine.always)",
        "map(tree, recording.relations)",
        'TestCodeSafety',
    ),
    (
        'always-all',
        "every result depends on the row \"everything\"",
        "for name in (ALL, *recording.relations)",
        "for name in recording.relations",
        'TestCodeSafety',
    ),
    (
        'partition-tree',
        "a table stands for its partitions and parents",
        "set().union(*map(tree, recording.relations | engine.always))",
        "recording.relations | engine.always",
        'TestViews TestCatalogue',
        (
            'services/catalogue.py',
            "            trees.update(dict.fromkeys(tree, tree))\n",
            "            trees = {}\n",
        ),
    ),
    (
        'guard-before-store',
        "a result that needs an unguarded relation is not stored",
        "missing = {name for name in recording.relations - known if not is_removal(name)}",
        "missing = set()",
        'TestStatements TestGuards',
        (
            'services/reading.py',
            "yield name, versions.versions[name], None\n",
            "yield name, versions.versions.get(name), None\n",
        ),
        ('services/entry.py', "type(version) is not int", "False"),
    ),
    (
        'guard-before-store-zero',
        "nor with version 0 for what has no row in cache_version",
        "missing = {name for name in recording.relations - known if not is_removal(name)}",
        "missing = set()",
        'TestStatements TestGuards',
        (
            'services/reading.py',
            "yield name, versions.versions[name], None\n",
            "yield name, versions.versions.get(name, 0), None\n",
        ),
        (
            'services/reading.py',
            "if known.get(relation) != version and",
            "if known.get(relation, 0) != version and",
        ),
    ),
    (
        'unseen-sql',
        "SQL that the recorder has not seen keeps the result from being stored",
        "if not ticket.recording.has_seen_all():",
        "if False:",
        'TestRecording TestOwnWrites',
    ),
    (
        'refusal-ignored',
        "a recording that was refused keeps the result from being stored",
        "    if refusal:\n",
        "    if False:\n",
        'TestRecording TestWhatIsNotInTheDatabase',
    ),
    (
        'inner-dependencies',
        "an inner hit's dependencies become those of the outer result",
        "    ticket.recording.inherit(found.entry.dependencies, "
        "bool(found.entry.flags & FLAG_CLOCK))\n",
        "",
        'TestRecording',
    ),
    (
        'inner-cursor',
        "an inner call on another cursor is not answered by the cache",
        "        and records.env.cr is recording.cr\n",
        "",
        'TestRecording',
    ),
    (
        'inner-unflushed',
        "an inner call after an unflushed write is not answered by the cache",
        "        and engine.is_settled(records)\n        and not ticket",
        "        and not ticket",
        'TestRecording TestOwnWrites',
    ),
    (
        'rule-check',
        "record rules: the tables behind a rule's domain become dependencies",
        "    engine.rule_book.check(\n",
        "    return\n    engine.rule_book.check(\n",
        'TestAttack',
    ),
    (
        'rule-inherits',
        "record rules: those of the models that it inherits from count too",
        "        found |= _rules_of(rules, parent, mode)\n",
        "        pass\n",
        'TestAttack',
    ),
    (
        'request-in-compute',
        "a computed field that reads the web request is not kept",
        "            ticket.recording.refuse(f'web request: {field}')\n",
        "            pass\n",
        'TestShortLives',
    ),
)
_plant(
    'P5',
    'services/rules.py',
    (
        'rule-older-domain',
        "record rules: a result under an older domain in memory is not stored",
        "            if repr(compute()) != repr(domain):\n",
        "            if False:\n",
        'TestAttack',
    ),
    (
        'rule-relations',
        "record rules: the tables on the way of user.… are found",
        "            found |= relations\n",
        "",
        'TestAttack',
    ),
    (
        'rule-recheck',
        "record rules: a domain is looked at again when its tables have changed",
        "domain is not known or seen != _versions_of(relations, versions):",
        "domain is not known:",
        'TestAttack',
    ),
    (
        'rule-same-object',
        "record rules: a domain that has come into memory since is looked at",
        "if relations is None or domain is not known or",
        "if relations is None or",
        'TestAttack',
    ),
    (
        'rule-refused',
        "record rules: nothing is learnt from a recording that is refused",
        "            if recording.refusal:\n                return  # perhaps",
        "            if False:\n                return  # perhaps",
        'TestAttack',
    ),
    (
        'rule-opaque',
        "record rules: a computed field on the way makes the result not stored",
        "                recording.refuse(f'record rule: {opaque}')\n",
        "                pass\n",
        'TestAttack',
    ),
)
_plant(
    'P5',
    'services/engine.py',
    (
        'always-signals',
        "ormcache sequences: results depend on Odoo's signal tables",
        'set(SIGNAL_RELATIONS) | {"ir_config_parameter", "cache_namespace", "cache_rule"}',
        '{"ir_config_parameter", "cache_namespace", "cache_rule"}',
        'TestCodeSafety',
    ),
    (
        'always-parameters',
        "every result depends on parameters",
        'set(SIGNAL_RELATIONS) | {"ir_config_parameter", "cache_namespace", "cache_rule"}',
        'set(SIGNAL_RELATIONS) | {"cache_namespace", "cache_rule"}',
        'TestCodeSafety',
        ('services/memory.py', "    'ir.config_parameter',\n", ""),
    ),
    (
        'always-rules',
        "every result depends on the cache's own rules",
        'set(SIGNAL_RELATIONS) | {"ir_config_parameter", "cache_namespace", "cache_rule"}',
        'set(SIGNAL_RELATIONS) | {"ir_config_parameter", "cache_namespace"}',
        'TestCodeSafety',
    ),
    (
        'always-security',
        "security relations: users, groups, rights, record rules",
        "        relations.add(model._table)\n",
        "        pass\n",
        'TestCodeSafety',
        (
            'services/engine.py',
            "    relations.update(registry[name]._table for name in BEHIND if name in registry)\n",
            "",
        ),
    ),
    (
        'always-groups',
        "security relations: who is in which group",
        "if field.type == \"many2many\" and field.store and field.comodel_name in ALWAYS_MODELS",
        "if False",
        'TestCodeSafety',
    ),
    (
        'unknown-name',
        "a name that the catalogue does not know makes the result not stored",
        'return Reading(None, "unknown name")',
        'return Reading(frozenset())',
        'TestViews',
    ),
    (
        'catalogue-follow',
        "a view replaced or a partition attached at run time makes everything invalid",
        "                journal.note(cr, [journal.ALL])\n",
        "                pass\n",
        'TestViews',
    ),
)
_plant(
    'P5',
    'services/engine.py',
    (
        'behind-memory',
        "every entry depends on the tables behind tools.ormcache",
        "    relations.update(registry[name]._table for name in BEHIND if name in registry)\n",
        "",
        'TestAttack',
    ),
    (
        'schema-signals',
        "a signal before the first guard does not switch the cache off",
        "            self.guards.want(missing)\n\n",
        "            pass\n\n",
        'TestBook',
    ),
    (
        'schema-texts',
        "what was stored under a text that was misunderstood is dropped",
        "now.beneath != before.beneath or catalogue.contradicts(self.catalogue)",
        "now.beneath != before.beneath",
        'TestSchemaChanges',
    ),
    (
        'schema-beneath',
        "what was stored under another view or function is dropped",
        "now.beneath != before.beneath or catalogue.contradicts(self.catalogue)",
        "catalogue.contradicts(self.catalogue)",
        'TestSchemaChanges',
    ),
    (
        'schema-guards',
        "a table that has taken the name of another one is not trusted",
        "notes another name\n        self.guards.check()\n",
        "notes another name\n",
        'TestSchemaChanges',
    ),
)
_plant(
    'P5',
    'services/catalogue.py',
    (
        'view-tables',
        "a view is the tables under it",
        "self._tables[name.lower()] = frozenset(tables)",
        "self._tables[name.lower()] = frozenset()",
        'TestCatalogue TestViews',
    ),
    (
        'view-on-view',
        "a view on a view is the tables under both",
        "                tables |= below\n",
        "                pass\n",
        'TestCatalogue',
    ),
    (
        'partition-children',
        "a partitioned table is its partitions too",
        "found[name].update(names.get(o, name) for o in trees.get(oid, (oid,)))",
        "found[name].add(name)",
        'TestCatalogue',
    ),
    (
        'odd-names',
        "a name with blanks is never lost",
        "self._odd_names = [name for name in self._tables if not _TOKEN.fullmatch(name)]",
        "self._odd_names = []",
        'TestCatalogue',
    ),
    (
        'refuse-writes',
        "a reading statement that hides a write or a lock (FOR UPDATE) is refused",
        "        if not _WRITES.isdisjoint(tokens):\n            return \"writes or locks\"\n",
        "",
        'TestCatalogue TestRecording',
    ),
    (
        'refuse-share',
        "FOR SHARE is refused",
        'if "share" in tokens and re.search',
        'if False and re.search',
        'TestCatalogue',
    ),
    (
        'refuse-statements',
        "statements that do not only read are refused",
        'if first not in _READS or ";" in lowered:',
        'if ";" in lowered:',
        'TestCatalogue',
    ),
    (
        'refuse-two',
        "two statements in one text are refused",
        'if first not in _READS or ";" in lowered:',
        'if first not in _READS:',
        'TestCatalogue',
    ),
    (
        'refuse-quoting',
        "quoting that hides a name is refused",
        "        if 'u&\"' in lowered:\n            return \"system catalogue\"\n",
        "",
        'TestCatalogue',
    ),
    (
        'refuse-functions',
        "functions of others, which may read tables, are refused",
        "            if name in self._foreign_functions:\n"
        "                return f\"function {name}\"\n",
        "",
        'TestCatalogue',
    ),
    (
        'refuse-operators',
        "operators that are functions of others are refused",
        "            if symbol in lowered:\n",
        "            if False:\n",
        'TestCatalogue',
    ),
    (
        'refuse-operator-views',
        "a view on an operator that is a function of others is refused",
        "                return tables, \"view on an operator\"\n",
        "                continue\n",
        'TestCatalogue',
    ),
    (
        'refuse-aggregates',
        "an aggregate, which always says IMMUTABLE, is judged by its functions",
        "         WHERE f.oid >= 16384 AND f.provolatile <> 'i'))\n",
        "         WHERE FALSE))\n",
        'TestCatalogue',
    ),
    (
        'refuse-casts',
        "casts that are functions of others are refused",
        "            if name in self._foreign_types:\n",
        "            if False:\n",
        'TestCatalogue',
    ),
    (
        'refuse-unlogged',
        "a table that a crash empties is refused",
        "    if persistence == \"u\":\n",
        "    if False:\n",
        'TestCatalogue',
    ),
    (
        'sources-lists',
        "a name that nobody knows is noticed in a list of tables",
        "source = following and _SOURCE.match(lowered, following.end())",
        "source = None",
        'TestCatalogue',
    ),
    (
        'refuse-volatile',
        "volatile functions are refused",
        "if name in self._volatile or name in _SESSION:",
        "if name in _SESSION:",
        'TestCatalogue',
    ),
    (
        'refuse-session',
        "functions that look at the session are refused",
        "if name in self._volatile or name in _SESSION:",
        "if name in self._volatile:",
        'TestCatalogue',
    ),
    (
        'refuse-system',
        "PostgreSQL's own catalogue is refused",
        "        return _refuse_system(tokens)\n",
        "        return \"\"\n",
        'TestCatalogue',
    ),
    (
        'refuse-kinds',
        "materialized views, foreign tables and sequences are refused",
        "        return by_kind[kind]\n",
        "        return \"\"\n",
        'TestCatalogue',
    ),
    (
        'refuse-temporary',
        "temporary tables are refused",
        "        return \"temporary table\"\n",
        "        return \"\"\n",
        'TestCatalogue',
    ),
    (
        'refuse-schema',
        "tables of other schemas are refused",
        "        return \"another schema\"\n",
        "        return \"\"\n",
        'TestCatalogue',
    ),
    (
        'refuse-row-security',
        "tables with row security are refused",
        "        return \"row security\"\n",
        "        return \"\"\n",
        'TestCatalogue',
    ),
    (
        'refuse-view-system',
        "views on PostgreSQL's own catalogue are refused",
        "            if not refusal and any(tree.system for tree in trees):\n"
        "                refusal = \"system catalogue\"\n",
        "",
        'TestCatalogue',
        (
            'services/catalogue.py',
            "            elif source not in names:\n"
            "                return tables, \"system catalogue\"\n",
            "            elif source not in names:\n                continue\n",
        ),
    ),
    (
        'refuse-view-volatile',
        "views with volatile functions are refused",
        "if refusal := refusal or self._refuse_calls(calls) or _refuse_system(calls):",
        "if refusal:",
        'TestCatalogue',
    ),
    (
        'refuse-view-function',
        "views on functions of others are refused",
        "                return tables, \"view on a function\"\n",
        "                continue\n",
        'TestCatalogue',
    ),
    (
        'clock-words',
        "SQL that looks at the clock is noticed",
        "not (_CLOCK_WORDS | self._clock_views).isdisjoint(tokens)",
        "not self._clock_views.isdisjoint(tokens)",
        'TestCatalogue',
    ),
    (
        'clock-texts',
        "'now' as a text is a look at the clock",
        "            or _CLOCK_TEXT.search(lowered) is not None\n",
        "",
        'TestCatalogue',
    ),
    (
        'clock-views',
        "a view that looks at the clock says so",
        "                self._clock_views.add(name.lower())\n",
        "                pass\n",
        'TestCatalogue',
    ),
)

# -- keys: what shapes an answer -------------------------------------------------------------------

_plant(
    'P6',
    'services/reading.py',
    (
        'key-uid',
        "the user in the key",
        "uid=env.uid,\n                su",
        "uid=0,\n                su",
        'TestUsersAndCompanies',
    ),
    ('key-su', "superuser mode in the key", "su=env.su,", "su=False,", 'TestUsersAndCompanies'),
    (
        'key-rule-context',
        "the companies that record rules see in the key",
        "rule_context=tuple(env['ir.rule']._compute_domain_context_values()),",
        "rule_context=(),",
        'TestUsersAndCompanies TestCircumstances',
        (
            'services/keys.py',
            "        context = dict(sorted(call.context.items()))\n",
            "        context = dict(sorted(call.context.items()))\n"
            "        context.pop('allowed_company_ids', None)\n",
        ),
    ),
    (
        'key-context',
        "the context in the key",
        "context=env.context,",
        "context={},",
        'TestCircumstances',
    ),
    (
        'key-request',
        "host, website and debug mode of the web request in the key",
        "request=read.origin,",
        "request=None,",
        'TestCircumstances',
    ),
    ('key-dates', "the date in the key", "dates=dates(env),", "dates=(),", 'TestCircumstances'),
    (
        'key-companies',
        "the order of the companies in the key",
        "context=env.context,\n                request",
        "context={**env.context, 'allowed_company_ids':"
        " sorted(env.context.get('allowed_company_ids') or ())},\n                request",
        'TestContextInputs',
        (
            'services/reading.py',
            "rule_context=tuple(env['ir.rule']._compute_domain_context_values()),",
            "rule_context=(),",
        ),
    ),
    (
        'key-all-of-the-context',
        "the user that the context names, and the address of the web client, in the key",
        "context=env.context,\n                request",
        "context={n: v for n, v in env.context.items() if n not in ('uid', 'params')},\n"
        "                request",
        'TestContextInputs',
    ),
    ('key-ids', "the records in the key", "ids=read.records._ids,", "ids=(),", 'TestCircumstances'),
    (
        'key-arguments',
        "the arguments in the key",
        "args=shapes.key_arguments(read.method, read.args),",
        "args=(),",
        'TestCircumstances',
    ),
    (
        'key-keywords',
        "the keyword arguments in the key",
        "kwargs=read.kwargs,",
        "kwargs={},",
        'TestCircumstances TestViews TestOverrides',
    ),
    (
        'key-registry',
        "the sequence of the registry in the key",
        "registry_sequence=env.registry.registry_sequence,",
        "registry_sequence=0,",
        'TestCodeSafety',
    ),
    (
        'key-code',
        "the digest of the running code in the key",
        "code_fingerprint=engine.code,",
        "code_fingerprint='',",
        'TestCodeSafety',
    ),
)
_plant(
    'P6',
    'services/keys.py',
    (
        'key-model',
        "the model in the key",
        "    return f'v1:orm:{call.model}:",
        "    return f'v1:orm:any:",
        'TestCallKey',
        (
            'services/keys.py',
            "call._replace(kwargs=kwargs,",
            "call._replace(model='', kwargs=kwargs,",
        ),
    ),
    (
        'key-language',
        "the language in the key",
        "        context = dict(sorted(call.context.items()))\n",
        "        context = dict(sorted(call.context.items()))\n        context.pop('lang', None)\n",
        'TestCircumstances',
    ),
    (
        'key-time-zone',
        "the time zone in the key",
        "        context = dict(sorted(call.context.items()))\n",
        "        context = dict(sorted(call.context.items()))\n        context.pop('tz', None)\n",
        'TestCircumstances',
    ),
    (
        'key-typed-text',
        "typed arguments: a Markup is not the text that it holds",
        "    Markup: lambda value: _tag(_MARKUP, str(value)),\n",
        "    Markup: str,\n",
        'TestCallKey',
    ),
    (
        'key-typed-date',
        "typed arguments: a date is not its text",
        "date: lambda value: _tag(_DATE, value.isoformat()),",
        "date: lambda value: value.isoformat(),",
        'TestCallKey',
    ),
    (
        'key-typed-bool',
        "typed arguments: True is not 1",
        "    if kind is tuple:\n        return list(value)\n",
        "    if kind is tuple:\n"
        "        return [int(v) if v is True or v is False else v for v in value]\n",
        'TestCallKey TestCircumstances',
    ),
    (
        'key-strict',
        "subclasses of the built-in types have no canonical form",
        "return msgpack.packb(value, default=_pack_other, strict_types=True)",
        "return msgpack.packb(value, default=_pack_other)",
        'TestCallKey',
    ),
    (
        'key-domain',
        "a domain is not the list that it iterates to",
        "return [_tag(_DOMAIN, type(domain).__name__), int(domain._opt_level), *parts]",
        "return list(domain)",
        'TestCallKey',
    ),
    (
        'key-domain-level',
        "a domain optimized for one user is not one that is still to be optimized",
        "int(domain._opt_level), *parts]",
        "*parts]",
        'TestCallKey',
    ),
    (
        'key-unknown',
        "what has no canonical form has no key",
        "    raise Unkeyable(f'A value of type {kind.__qualname__} cannot be part of a key.')",
        "    return repr(value)",
        'TestCallKey',
    ),
    (
        'key-format',
        "the format of the payload in the key",
        "return [FORMAT_VERSION, *call",
        "return [*call",
        'TestCodeSafety TestCallKey',
    ),
)
_plant(
    'P6',
    'services/shapes.py',
    (
        'key-read-group',
        "read_group returns what it was given, so a tuple is not a list there",
        "        return (*args, type(args[2]).__name__)\n",
        "        return args\n",
        'TestAttack',
    ),
    (
        'shape-progress-bar',
        "a progress bar keeps its default for groups without records",
        "return collections.defaultdict(lambda: dict.fromkeys(colors, 0), value)",
        "return value",
        'TestShapes',
    ),
)
_plant(
    'P6',
    'services/clock.py',
    (
        'date-utc',
        "midnight in UTC changes the key",
        "return f'{utc:%Y%m%d}', f'{utc.astimezone(pytz.timezone(zone)):%Y%m%d}'",
        "return ('', f'{utc.astimezone(pytz.timezone(zone)):%Y%m%d}')",
        'TestDates',
    ),
    (
        'date-user',
        "midnight of the user changes the key",
        "f'{utc.astimezone(pytz.timezone(zone)):%Y%m%d}'",
        "''",
        'TestDates',
    ),
    (
        'date-no-zone',
        "without a time zone a quarter of an hour stands for it",
        "str(minute // 15)",
        "''",
        'TestDates',
    ),
    (
        'clock-argument',
        "a relative date in a domain makes the result short-lived",
        "return bool(_RELATIVE_DATE.match(value))",
        "return False",
        'TestDates',
    ),
    (
        'clock-code',
        "code of compute methods is inspected for the clock",
        "found = {'clock'} if not _CLOCK_NAMES.isdisjoint(names) else set()",
        "found = set()",
        'TestCode',
    ),
    (
        'clock-code-deep',
        "and the methods which it names",
        "    if depth < _MAX_DEPTH:\n",
        "    if False:\n",
        'TestCode',
    ),
    (
        'request-code',
        "code of compute methods is inspected for the web request",
        "        found.add('request')\n",
        "        pass\n",
        'TestCode',
    ),
)
_plant(
    'P9',
    'services/fingerprint.py',
    (
        'fingerprint-content',
        "the digest covers the content of Python files",
        "return hashlib.blake2b(file.read(), digest_size=16).digest()",
        "return b''",
        'TestFingerprint TestCodeSafety',
    ),
    (
        'fingerprint-orm',
        "the digest covers the ORM and its tools",
        "    folders['odoo.orm'] = os.path.dirname(odoo.orm.__file__)\n"
        "    folders['odoo.tools'] = os.path.dirname(odoo.tools.__file__)\n",
        "",
        'TestFingerprint',
    ),
    (
        'fingerprint-unreadable',
        "a file that cannot be read does not stop the cache",
        "    except OSError:\n",
        "    except KeyError:\n",
        'TestAttack TestFingerprint',
    ),
    (
        'fingerprint-once',
        "the running code is looked at once per process",
        "    if key not in _running:\n",
        "    if key:\n",
        'TestFingerprint',
    ),
    (
        'fingerprint-translations',
        "the digest covers the content of translations in use",
        "        if path.endswith('.po') and os.path.basename(path) not in used:\n",
        "        if path.endswith('.po'):\n",
        'TestFingerprint',
    ),
)
_plant(
    'P9',
    'services/engine.py',
    (
        'fingerprint-languages',
        "the languages in use are looked up",
        "    return modules, frozenset(code for (code,) in cr.fetchall())\n",
        "    return modules, frozenset()\n",
        'TestCodeSafety',
    ),
)

# -- time ------------------------------------------------------------------------------------------

_plant(
    'P1',
    'services/reading.py',
    (
        'clock-ttl',
        "a result that looked at the clock lives briefly",
        "settings.time_dependent_ttl_s + ticket.plan.keep_s if recording.clock else None\n",
        "None\n",
        'TestShortLives',
    ),
    (
        'clock-datetime-now',
        "fields.Datetime.now() tells the recording",
        "    for ticket in _watching():\n        ticket.recording.clock = True\n",
        "    for ticket in ():\n        ticket.recording.clock = True\n",
        'TestShortLives',
    ),
    (
        'clock-computed-field',
        "a computed field whose code names the clock makes the result short-lived",
        "        if 'clock' in found:\n            ticket.recording.clock = True\n",
        "",
        'TestShortLives',
    ),
    (
        'clock-domain',
        "arguments relative to now make the result short-lived",
        "recording.clock = mentions_clock(read.args) or groups_by_clock(records,",
        "recording.clock = False and groups_by_clock(records,",
        'TestShortLives',
    ),
    (
        'clock-other-zone',
        "the date in another time zone than the user's counts as the time of day",
        "        if ticket.zone and zone not in (ticket.zone, 'UTC'):\n",
        "        if False:\n",
        'TestClockInputs',
    ),
    (
        'file-missing',
        "what was computed without a file that could not be read is not kept",
        "        ticket.recording.refuse(reason)\n",
        "        pass\n",
        'TestFileInputs',
    ),
    (
        'temporary-hides',
        "a temporary table with the name of a real one switches the cache off for its connection",
        " or any(map(engine.catalogue.knows, temporary(cr))):\n",
        ":\n",
        'TestConnectionInputs',
    ),
    (
        'clock-not-audited',
        "that the clock went on is no difference to the auditor",
        "if hit.clock or not auditor",
        "if not auditor",
        'TestAuditor',
    ),
    (
        'clock-flag',
        "an entry says that it looked at the clock",
        "flags=flags\n        | (FLAG_CLOCK if recording.clock else 0)\n",
        "flags=flags\n",
        'TestAuditor',
    ),
    (
        'expiry',
        "an entry whose time is over is not served",
        "return entry.expires <= now or",
        "return",
        'TestConsistency TestMemoryLru',
        ('services/tiers/memory.py', "if entry.expires > self._clock():\n", "if True:\n"),
    ),
    (
        'removal-judged',
        "an entry made before a removal is not valid after it",
        "if entry.removal_version != removals.version(entry.key, entry.uid):",
        "if False:",
        'TestManagerRemovals',
    ),
    (
        'removal-race',
        "what was being computed before a removal is not valid after it",
        "removal_version=versions.removals.version(ticket.key, ticket.uid),",
        "removal_version=engine._books[False].state.removals.version(ticket.key, ticket.uid),",
        'TestManagerRemovals',
    ),
    (
        'weak-removal-of-all',
        "\"invalidate everything\" reaches entries that trust their time to live",
        "if entry.dependencies[0][1] != versions.versions[ALL]:",
        "if False:",
        'TestAttack TestConsistency',
    ),
    (
        'weak-own-process',
        "WEAK sees the commits of its own process",
        "if relation := engine.written_since(entry):",
        "if relation := '':",
        'TestConsistency',
    ),
    (
        'config-follow',
        "a rule or setting takes effect with its commit",
        "if not engine.config_is_current(versions):",
        "if False:",
        'TestConsistency TestAuditRule',
    ),
    (
        'auditor-recursion',
        "what the auditor computes is computed",
        "if _local.computing or not engine.available:",
        "if not engine.available:",
        'TestAuditor',
    ),
    (
        'auditor-served',
        "the caller gets the computed value when the auditor finds a difference",
        "        engine.suspend(name)\n    return value\n",
        "        engine.suspend(name)\n    return hit.value\n",
        'TestAuditor',
    ),
    (
        'auditor-suspends',
        "a difference switches the cache off for the method",
        "        engine.suspend(name)\n    return value\n",
        "        pass\n    return value\n",
        'TestAuditor TestAuditRule',
    ),
    (
        'suspended-heeded',
        "a method that is suspended is computed",
        "if engine.suspender.suspended(read.name):",
        "if False:",
        'TestAuditor',
    ),
)
_plant(
    'P1',
    'services/engine.py',
    (
        'eventual-bound',
        "EVENTUAL lags behind no longer than told",
        "return age_s <= plan.max_staleness_s and",
        "return",
        'TestConsistency',
    ),
    (
        'eventual-own-process',
        "EVENTUAL sees the commits of its own process",
        " and versions.read_at > self._last_local_write",
        "",
        'TestConsistency',
    ),
    (
        'auditor-rule',
        "a difference is told to all workers by a rule",
        "            configuration.write_suspension(cr, *name)\n",
        "",
        'TestAuditor TestAuditRule',
    ),
    (
        'auditor-removal',
        "what was kept of a suspended method does not come back",
        "            removal.remove_pattern(self, cr, 'v1:orm:{}:{}:*'.format(*name))\n",
        "",
        'TestAuditRule',
    ),
    (
        'compact-longest-life',
        "removals outlive the longest life of any entry",
        "journal.compact(cr, removal_ttl_s=self.config.longest_ttl_s + 3600)",
        "journal.compact(cr, removal_ttl_s=0)",
        'TestCompaction TestManagerRemovals',
    ),
    (
        'maintain-guards',
        "the scheduled action looks for broken guards",
        '"broken": self.guards.check(),',
        '"broken": 0,',
        'TestGuards',
    ),
)
_plant(
    'P1',
    'services/removal.py',
    (
        'removal-key',
        "removal by key counts",
        "total = tokens.get(journal.KEY + key, 0)\n",
        "total = 0\n",
        'TestManagerRemovals TestRemovals',
    ),
    (
        'removal-variants',
        "removal by key reaches all variants",
        "            total += tokens.get(journal.KEY + name, 0)\n",
        "            pass\n",
        'TestRemovals TestRemovalVersions',
    ),
    (
        'removal-user',
        "removal by user counts",
        "total += tokens.get(f'{journal.USER}{uid}', 0) +",
        "total +=",
        'TestRemovals TestRemovalsOfReads',
    ),
    (
        'removal-tag',
        "removal by tag counts",
        "return is_removal(dependency) and version == self.dependency_version(dependency, uid)",
        "return is_removal(dependency)",
        'TestRemovals TestInterleavings',
    ),
    (
        'removal-tag-weak',
        "removal by tag reaches entries that trust their time to live",
        "if is_removal(name) and version != self.dependency_version(name, uid):",
        "if False:",
        'TestRemovals',
    ),
    (
        'removal-many-inner',
        "beyond so many inner entries, any removal counts",
        "                version = sum(tokens.values()) % journal.MODULUS\n",
        "                version = 0\n",
        'TestNamedInside',
    ),
    (
        'removal-pattern-name',
        "a pattern is compared with the key without its variant, too",
        "if matches(key) or (name != key and matches(name)):",
        "if matches(key):",
        'TestRemovals TestRemovalVersions',
    ),
    (
        'removal-relation',
        "removal by relation is journalled",
        "    _note(engine, cr, tree)\n",
        "",
        'TestRemovals TestInterleavings',
    ),
    (
        'removal-pattern',
        "removal by pattern counts",
        "                total += token\n",
        "                pass\n",
        'TestManagerRemovals',
    ),
    (
        'removal-model',
        "removal by model reaches what was read from its table",
        "[journal.PATTERN + pattern, *engine.catalogue.tree(model._table)]",
        "[journal.PATTERN + pattern]",
        'TestManagerRemovals',
    ),
    (
        'removal-model-calls',
        "removal by model reaches what was computed by calling it",
        "[journal.PATTERN + pattern, *engine.catalogue.tree(model._table)]",
        "[*engine.catalogue.tree(model._table)]",
        'TestManagerRemovals TestManager',
    ),
    (
        'removal-all',
        "removal of everything is journalled",
        "    _note(engine, cr, [journal.ALL])\n",
        "",
        'TestManagerRemovals TestAttack',
    ),
    (
        'removal-own-process',
        "EVENTUAL and WEAK see the removals of their own process",
        "    cr.postcommit.add(engine.removed)\n",
        "",
        'TestRemovalsOfReads',
    ),
)
_plant(
    'P6',
    'services/auditor.py',
    (
        'auditor-log-keys',
        "texts of records do not reach the log as keys",
        "f'{path}[{_shown(key)}]'",
        "f'{path}[{key!r}]'",
        'TestComparison',
    ),
    (
        'auditor-log-salt',
        "digests in the log are salted",
        "digest_size=8, key=_SALT)",
        "digest_size=8)",
        'TestComparison',
    ),
)
_plant(
    'P1',
    'services/auditor.py',
    (
        'auditor-types',
        "the auditor compares types",
        "    if type(left) is not type(right):\n        return False\n"
        "    if isinstance(left, dict)",
        "    if isinstance(left, dict)",
        'TestComparison',
    ),
    (
        'auditor-key-types',
        "the auditor compares types of dictionary keys",
        "return _typed(left) == _typed(right) and all(same(left[k], right[k]) for k in left)",
        "return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)",
        'TestComparison',
    ),
    (
        'auditor-memory',
        "what another worker would answer is no difference",
        "    forget()\n    fresh",
        "    fresh",
        'TestComparison',
    ),
    (
        'auditor-memory-wrong',
        "a wrong answer is one with an empty memory, too",
        "    if same(comparable(method, value), comparable(method, fresh)):",
        "    if not same(computed, fresh):",
        'TestComparison',
    ),
    (
        'auditor-twice',
        "what gives two answers by itself is no difference",
        "    if not same(computed, again):\n",
        "    if False:\n",
        'TestComparison',
    ),
)
_plant(
    'P1',
    'services/policy.py',
    (
        'own-models',
        "the models of the cache itself are not cached",
        "model._name in OWN_MODELS + LEFT_ALONE",
        "model._name in LEFT_ALONE",
        'TestPolicy',
    ),
    (
        'left-alone',
        "models whose answers depend on the session are not cached",
        "model._name in OWN_MODELS + LEFT_ALONE",
        "model._name in OWN_MODELS",
        'TestPolicy',
    ),
    (
        'transient-models',
        "wizards are not cached",
        "if model._transient or model._abstract or",
        "if",
        'TestPolicy',
    ),
    (
        'rule-off',
        "a rule switches a method off",
        "        if not rule.get('enabled', True):\n            return None\n",
        "",
        'TestPolicy',
    ),
)

# -- nothing of a tier is believed -----------------------------------------------------------------

_plant(
    'P7',
    'services/entry.py',
    (
        'seal-open',
        "HMAC: whatever was signed by somebody else is refused",
        "if not hmac.compare_digest(sealed[:DIGEST_BYTES], self._digest(storage_key, body)):",
        "if False:",
        'TestSeal TestRedisValues',
    ),
    (
        'seal-key',
        "HMAC: the key is inside the seal",
        "        digest.update(name)\n",
        "",
        'TestSeal',
    ),
    (
        'seal-length',
        "HMAC: key and body are kept apart",
        "        digest.update(len(name).to_bytes(8, 'big'))\n",
        "",
        'TestSeal',
    ),
    (
        'seal-secret',
        "HMAC: the secret of the database",
        "key=hashlib.blake2b(secret).digest(),",
        "key=b'tiered_cache',",
        'TestSeal',
    ),
    (
        'seal-guessable',
        "HMAC: a secret that could be guessed is refused",
        "if len(secret) < MIN_SECRET_BYTES:",
        "if False:",
        'TestSeal',
    ),
    (
        'entry-checksum',
        "a flipped bit is noticed",
        "if data[:_CHECKSUM_BYTES] != zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, 'big'):",
        "if False:",
        'TestEntry TestDatabaseValues',
    ),
    (
        'entry-version',
        "bytes of another format are refused",
        " or fields[0] != FORMAT_VERSION:",
        ":",
        'TestEntry',
    ),
    (
        'entry-types',
        "fields of other types are refused",
        "if list(map(type, fields)) != _FIELD_TYPES or",
        "if",
        'TestEntry',
    ),
    (
        'entry-finite',
        "an entry that would never expire is refused",
        "if not all(map(math.isfinite, (created, expires, cost_ms))):",
        "if False:",
        'TestEntry',
    ),
    (
        'entry-dependency-types',
        "a dependency that is not a relation with a version is refused",
        "if type(relation) is not str or type(version) is not int:",
        "if False:",
        'TestEntry',
    ),
)
_plant(
    'P7',
    'services/tiers/redis.py',
    (
        'redis-limit',
        "of a huge value in Redis only so much is loaded",
        "return 'GETRANGE', self._name(key), 0, limit or self._max_entry_bytes",
        "return 'GETRANGE', self._name(key), 0, -1",
        'TestRedisValues',
        (
            'services/tiers/redis.py',
            "        if len(reply) > self._max_entry_bytes:\n"
            "            return self._discard(key, 'oversized')\n",
            "",
        ),
    ),
    (
        'redis-other-key',
        "an entry of another key is refused",
        "        if entry.key != key:\n",
        "        if False:\n",
        'TestRedisValues',
    ),
    (
        'redis-expiry',
        "an expired value that was put back is not served",
        "return entry if entry.expires > self._clock() else MISS",
        "return entry",
        'TestRedisValues',
    ),
    (
        'redis-prefix',
        "databases that share a Redis have prefixes of their own",
        "return (self._prefix + key).encode('utf-8', 'surrogatepass')",
        "return key.encode('utf-8', 'surrogatepass')",
        'TestRedis',
    ),
    (
        'redis-forged-removed',
        "a bad value is counted and removed",
        "        self._note(kind)\n        self._unlink([self._name(key)])\n        return MISS",
        "        return MISS",
        'TestRedisValues',
    ),
    (
        'redis-too-large',
        "an entry above the limit is not stored",
        "if body is None or len(body) + DIGEST_BYTES > self._max_entry_bytes:",
        "if body is None:",
        'TestRedisUp',
    ),
    (
        'redis-ttl',
        "a value lives in Redis no longer than its entry",
        "math.ceil(min((entry.expires - self._clock()) * 1000, MAX_TTL_MS))",
        "MAX_TTL_MS",
        'TestRedisUp TestRedis',
    ),
    (
        'redis-fork',
        "after a fork the child opens a connection of its own",
        "        if self._pid != os.getpid():\n            self._forget_parent()\n",
        "",
        'TestRedisFork',
    ),
)
_plant(
    'P7',
    'services/tiers/redis_servers.py',
    (
        'redis-breaker',
        "a Redis that is down is left alone for a while",
        "if deadline.is_over() or not self.breaker.allow():",
        "if deadline.is_over():",
        'TestRedisDown.test_one_probe_after_the_cooldown TestRedisDown.test_refused',
    ),
    (
        'redis-write-breaker',
        "a Redis that refuses writes is left alone for a while",
        "        if not self.writes.allow():\n            return [SKIPPED] * len(commands)\n",
        "",
        'TestRedisRefusesWrites',
    ),
    (
        'redis-deadline',
        "every call has a deadline",
        "        deadline.start()\n        try:\n            reply = run(self.link.client)",
        "        deadline._until = float('inf')\n"
        "        try:\n            reply = run(self.link.client)",
        'TestRedisDown TestRedisImpostors',
    ),
    (
        'redis-closed',
        "a connection that is closed under another thread's hands is no fault",
        "            if self.link.closed:\n"
        "                return SKIPPED  # by us, under another thread's hands\n",
        "",
        'TestRedisImpostors',
    ),
)
_plant(
    'P7',
    'services/tiers/redis_connection.py',
    (
        'redis-socket',
        "each wait of the socket gets what is left of the deadline",
        "            self._sock.settimeout(self._deadline.left_s())\n",
        "            self._sock.settimeout(self._deadline.timeout_s)\n",
        'TestRedisImpostors',
    ),
    (
        'redis-dns',
        "name resolution is bounded",
        "answer = answers.get(timeout=timeout_s)",
        "answer = answers.get(timeout=60)",
        'TestRedisDown',
    ),
)
_plant(
    'P7',
    'services/tiers/database.py',
    (
        'l3-other-key',
        "an entry of another key is refused",
        "if entry is None or entry.key != key:",
        "if entry is None:",
        'TestDatabaseValues TestDatabaseFaults',
    ),
    (
        'l3-expiry',
        "an entry whose time is over is not served",
        " WHERE key = ANY(%s) AND expires > now() AT TIME ZONE 'utc'\n",
        " WHERE key = ANY(%s)\n",
        'TestDatabase TestDatabaseRows',
        (
            'services/tiers/database.py',
            "return entry if entry.expires > self._clock() else MISS",
            "return entry",
        ),
    ),
    (
        'l3-own-connection',
        "L3 writes on a connection of its own, each statement in a transaction of its own",
        "            self._connection.autocommit = True\n",
        "            pass\n",
        'TestDatabaseFaults TestDatabaseConcurrency',
    ),
    (
        'l3-read-committed',
        "two workers that store one key do not fail",
        '_WRITE_LIMITS = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; " + _LIMITS',
        '_WRITE_LIMITS = _LIMITS',
        'TestDatabaseConcurrency',
    ),
    (
        'l3-timeouts',
        "a statement of L3 waits no longer than told",
        '_LIMITS = "SET LOCAL statement_timeout = %s; SET LOCAL lock_timeout = %s;"',
        '_LIMITS = "SELECT %s, %s;"',
        'TestDatabaseFaults.test_slow_statement_costs_a_read_the_statement_timeout',
    ),
    (
        'l3-busy',
        "a read does not wait long for a batch of its own process",
        "if not self._lock.acquire(timeout=limits_ms[0] / 1000):",
        "if not self._lock.acquire():",
        'TestDatabaseFaults',
    ),
    (
        'l3-breaker',
        "a table that fails is left alone for a while",
        "        if not self._breaker.allow():\n            return None\n",
        "",
        'TestDatabaseFaults',
    ),
    (
        'l3-reconnect',
        "a connection that was killed is replaced",
        "            kind = 'connection'\n            self._drop()\n",
        "            kind = 'connection'\n",
        'TestDatabaseFaults',
    ),
    (
        'l3-killed',
        "a call that was killed in the middle leaves no answer behind",
        "            self._drop()  # killed in the middle;",
        "            pass  # killed in the middle;",
        'TestDatabaseFaults',
    ),
    (
        'l3-fork',
        "after a fork the child opens a connection of its own",
        "        if self._pid != os.getpid():\n            self._start_process()\n",
        "",
        'TestDatabaseFork',
    ),
    (
        'l3-purge-order',
        "beyond the limits the oldest go",
        "WINDOW newest AS (ORDER BY created DESC, key DESC ROWS UNBOUNDED PRECEDING)",
        "WINDOW newest AS (ORDER BY created, key ROWS UNBOUNDED PRECEDING)",
        'TestDatabasePurge',
    ),
    (
        'l3-purge-locks',
        "the purge leaves rows that another worker is writing",
        "        LIMIT %s FOR UPDATE SKIP LOCKED)\n\"\"\"\n)\n\n# The newest",
        "        LIMIT %s FOR UPDATE)\n\"\"\"\n)\n\n# The newest",
        'TestDatabasePurge',
    ),
)
_plant(
    'P7',
    'services/breaker.py',
    (
        'breaker-one-probe',
        "one caller at a time tries a server that is down",
        "            self._probing = True\n            self._retry_at = now + self._cooldown_s\n",
        "            self._probing = True\n",
        'TestCircuitBreaker',
    ),
    (
        'breaker-longer',
        "a server that stays down is tried less and less often",
        "self._cooldown_s = min(2 * self._cooldown_s, self._max_cooldown_s)",
        "pass",
        'TestCircuitBreaker',
    ),
    (
        'breaker-opens',
        "a failure opens the breaker",
        "                self._retry_at = self._clock() + self._cooldown_s\n"
        "                self._opened_at",
        "                self._opened_at",
        'TestCircuitBreaker',
    ),
    (
        'breaker-fork',
        "after a fork the lock is a new one",
        "        self._lock = threading.Lock()\n        self._failures = 0",
        "        self._lock = getattr(self, '_lock', None) or threading.Lock()\n"
        "        self._failures = 0",
        'TestCircuitBreaker.test_reset_works_while_the_lock_is_held',
    ),
)
_plant(
    'P7',
    'models/read_through.py',
    (
        'fail-open-find',
        "a fault while looking fails open",
        "    except Exception as error:  # noqa: BLE001 fail open: see above\n",
        "    except KeyError as error:\n",
        'TestOwnFaults',
    ),
    (
        'fail-open-keep',
        "a fault while keeping fails open",
        "    except Exception as error:  # noqa: BLE001\n",
        "    except KeyError as error:\n",
        'TestOwnFaults',
    ),
    (
        'read-flight',
        "a read that another thread is computing is waited for",
        "    if wait_s := reading.patience_s(engine, found):\n",
        "    if wait_s := 0:\n",
        'TestReadFlight',
    ),
    (
        'website-pages',
        "website pages are not cached",
        "    if getattr(request, 'is_frontend', False) or http is None or session is None:\n",
        "    if http is None or session is None:\n",
        'TestCircumstances',
    ),
    (
        'uninstalled-elsewhere',
        "a request survives that the addon is being uninstalled elsewhere",
        "if engine is None or not engine.lost_journal(error):",
        "if True:",
        'TestAttack',
    ),
)
_plant(
    'P7',
    'services/engine.py',
    (
        'engine-fork',
        "after a fork the engine of the parent is left alone",
        "return self.pid == os.getpid() and (self.available",
        "return (self.available",
        'TestOwnFaults',
    ),
    (
        'engine-patience',
        "connections of the engine wait for no lock of others",
        "cr.execute(\"SET LOCAL lock_timeout = '200ms'; SET LOCAL statement_timeout = '60s'\")",
        "pass",
        'TestAttack',
    ),
    (
        'engine-journal',
        "without its journal the cache is off",
        "        VersionBook().check(cr)\n",
        "        pass\n",
        'TestOwnFaults',
    ),
)
_plant(
    'P6',
    'services/configuration.py',
    (
        'database-prefix',
        "each database has a prefix of its own in Redis",
        "return f'tc:{uuid}:'",
        "return 'tc:'",
        'TestRedisFaults',
    ),
    (
        'database-secret',
        "each database has a secret of its own for its seals",
        "        database_secret.encode(), digest_size=32",
        "        b'one for all of them', digest_size=32",
        'TestRedisFaults',
    ),
    (
        'no-secret-no-redis',
        "without a secret nothing is kept in Redis",
        "if new.settings.redis_url and new.secret:",
        "if new.settings.redis_url:",
        'TestRedisFaults',
    ),
)

# -- values are the caller's own -------------------------------------------------------------------

_plant(
    'P8',
    'services/codec.py',
    (
        'type-subclass',
        "type round trip: a subclass is not packed as what it derives from",
        "    code, to_text = _text_form(kind)\n    return [_TEXT, code], to_text(value)",
        "    if isinstance(value, str):\n        return None, str(value)\n"
        "    code, to_text = _text_form(kind)\n    return [_TEXT, code], to_text(value)",
        'TestRefusal TestRoundTrip',
    ),
    (
        'type-time-zone',
        "type round trip: a datetime with a time zone is refused",
        "    if value.tzinfo is not None or value.fold:\n        raise _Refused\n",
        "",
        'TestRefusal',
    ),
    (
        'type-tuple',
        "type round trip: a tuple comes back as a tuple",
        "    tuple: _shape_tuple,\n",
        "    tuple: lambda value, depth: _shape_list(list(value), depth),\n",
        'TestRoundTrip',
    ),
    (
        'type-markup',
        "type round trip: a Markup comes back as a Markup",
        "    _MARKUP: Markup,\n",
        "    _MARKUP: str,\n",
        'TestRoundTrip',
    ),
    (
        'type-column-keys',
        "type round trip: rows whose keys are equal but of other types",
        "if set(map(type, chain.from_iterable(rows))) != {str} or len(set(map(tuple, rows))) != 1:",
        "if len(set(map(tuple, rows))) != 1:",
        'TestRoundTrip',
    ),
    (
        'type-row-order',
        "type round trip: rows with keys in different orders keep them",
        "or len(set(map(tuple, rows))) != 1:\n        return None\n    plans, columns = "
        "_shape_columns(zip(*map(dict.values, rows), strict=True), depth)",
        "or len(set(map(frozenset, rows))) != 1:\n        return None\n    plans, columns = "
        "_shape_columns(zip(*([row[k] for k in rows[0]] for row in rows), strict=True), depth)",
        'TestRoundTrip',
    ),
    (
        'type-holes',
        "type round trip: False among dates is not None",
        "_HOLE_VALUES: Final = (False, True, None)",
        "_HOLE_VALUES: Final = (None, True, None)",
        'TestRoundTrip',
    ),
    (
        'size-body',
        "a value that is too large is refused",
        "    if len(body) > MAX_BODY_BYTES:\n        raise Unserializable('', 'size')\n",
        "",
        'TestRefusal',
    ),
    (
        'size-inflated',
        "decompression has a limit",
        "body = inflater.decompress(body, MAX_BODY_BYTES)",
        "body = inflater.decompress(body)",
        'TestCorruption',
    ),
    (
        'size-plain',
        "a plain body has the same limit",
        "    elif len(body) > MAX_BODY_BYTES:\n"
        "        raise CorruptPayload('the body is too large')\n",
        "",
        'TestCorruption',
    ),
    (
        'cut-off',
        "a body that is cut off, or followed by something, is refused",
        "        if not inflater.eof or inflater.unused_data:\n",
        "        if False:\n",
        'TestCorruption',
    ),
    (
        'depth',
        "a value that is too deep is refused",
        "MAX_DEPTH: Final = 64",
        "MAX_DEPTH: Final = 100_000",
        'TestRefusal',
    ),
    (
        'split-lengths',
        "lengths in a payload are compared with what is there",
        "_check(min(lengths) >= 0 and sum(lengths) == len(flat))",
        "pass",
        'TestCorruption',
    ),
    (
        'hole-count',
        "holes in a payload are compared with what is there",
        "    _check(next(items, items) is items)\n",
        "",
        'TestCorruption',
    ),
)
_plant(
    'P8',
    'services/reading.py',
    (
        'copy-isolation',
        "every hit is a copy that its caller may change",
        "value = shapes.restore(read.method, codec.unpack(entry.payload), read.args)",
        "value = engine.__dict__.setdefault('_values', {}).setdefault(\n"
        "            entry.payload, shapes.restore(read.method, codec.unpack(entry.payload), "
        "read.args)\n        )",
        'TestIsolationOfValues',
    ),
    (
        'corrupt-payload',
        "a payload that cannot be unpacked is a miss",
        "    except codec.CorruptPayload:\n",
        "    except ZeroDivisionError:\n",
        'TestOwnFaults',
    ),
)

# -- bounds ----------------------------------------------------------------------------------------

_plant(
    'P10',
    'services/reading.py',
    (
        'size-entry',
        "a result larger than the limit is not kept",
        "if len(payload) > settings.max_entry_kb * 1024:",
        "if False:",
        'TestBounds',
    ),
    (
        'cost-least',
        "admission by cost: a cheap result is not kept",
        "    if cost_ms < ticket.plan.least_cost_ms:\n        return 'cheap', ''\n",
        "",
        'TestHierarchy TestConsistency',
        (
            'services/hierarchy.py',
            "floor is not None and entry.cost_ms >= floor",
            "floor is not None",
        ),
    ),
)
_plant(
    'P10',
    'services/hierarchy.py',
    (
        'cost-tier',
        "admission by cost: a result is kept near if it was cheap",
        "floor is not None and entry.cost_ms >= floor",
        "floor is not None",
        'TestHierarchy',
    ),
    (
        'cost-asked',
        "a tier that would not have admitted an answer is not asked",
        "return expected_ms >= max(plan.min_cost_ms[name], self._pace_ms(name))",
        "return expected_ms >= self._pace_ms(name)",
        'TestHierarchy',
    ),
    (
        'tier-slower-than-computing',
        "a tier that has been slower than computing is not asked",
        "return expected_ms >= max(plan.min_cost_ms[name], self._pace_ms(name))",
        "return expected_ms >= plan.min_cost_ms[name]",
        'TestHierarchy',
    ),
    (
        'ttl-cap',
        "the cap of a short-lived result holds in every tier",
        "            ttl_s = min(ttl_s, ttl_cap_s)\n",
        "            pass\n",
        'TestHierarchy',
    ),
    (
        'ttl-promoted',
        "promotion does not prolong a life",
        "expires = min(entry.expires, self._end_of(entry, plan.ttl_s[name], plan))",
        "expires = self._end_of(entry, plan.ttl_s[name], plan)",
        'TestHierarchy',
    ),
    (
        'stale-passed-over',
        "an entry that fails the judgement is passed over",
        "why, what = judge(entry)\n            if not why:\n",
        "why, what = judge(entry)\n            if True:\n",
        'TestHierarchy',
    ),
    (
        'stale-passed-over-many',
        "of several, an entry that fails the judgement is passed over",
        "why, what = judge(entry)\n                if not why:\n",
        "why, what = judge(entry)\n                if True:\n",
        'TestHierarchy TestNamedTogether',
    ),
    (
        'evictions-remembered',
        "the memory of evictions is bounded",
        "            if len(self._gone) > 10_000:\n",
        "            if False:\n",
        'TestHierarchy',
    ),
    (
        'tiers-closed',
        "tiers that are not used any more are closed",
        "                tier.close()\n\n    def all",
        "                pass\n\n    def all",
        'TestHierarchy',
    ),
)
_plant(
    'P10',
    'services/tiers/memory.py',
    (
        'l1-entries',
        "L1 holds no more entries than configured",
        "        while len(self) >= self._max_entries and entry.key not in self:\n"
        "            self.popitem()\n",
        "",
        'TestMemoryLimits TestBounds',
    ),
    (
        'l1-bytes',
        "L1 holds no more bytes than configured",
        "            getsizeof=_SIZE_BYTES,\n",
        "            getsizeof=lambda entry: 0,\n",
        'TestMemoryLimits',
    ),
    (
        'l1-refused-replacement',
        "a refused replacement leaves no older value",
        "                self._cache.pop(entry.key, None)\n",
        "                pass\n",
        'TestMemoryLimits',
    ),
    (
        'l1-expired-memory',
        "an expired entry gives its memory back",
        "                cache.drop_expired(key)\n",
        "                pass\n",
        'TestMemoryNews',
    ),
)
_plant(
    'P10',
    'services/outbox.py',
    (
        'outbox-bytes',
        "what waits for a slow tier is bounded",
        "        if self._waiting_bytes >= MAX_WAITING_BYTES:\n",
        "        if False:\n",
        'TestOutbox',
    ),
    (
        'outbox-job-fault',
        "a job that raises harms no other",
        "        except Exception:\n            self.job_faults[name] += 1\n",
        "        except KeyError:\n            self.job_faults[name] += 1\n",
        'TestOutbox',
    ),
)
_plant(
    'P10',
    'services/keeper.py',
    (
        'keeper-fault',
        "the background thread survives a fault of its own",
        "            except Exception as error:  # noqa: BLE001 whatever it is, others wait",
        "            except KeyError as error:  # noqa: BLE001 whatever it is, others wait",
        'TestKeeper',
    ),
    (
        'keeper-weak',
        "the thread ends with the last owner",
        "self._outboxes: weakref.WeakSet = weakref.WeakSet()",
        "self._outboxes = set()",
        'TestKeeper',
    ),
    (
        'keeper-stall',
        "a database that hangs does not stop the others",
        "        return done.wait(timeout_s)\n",
        "        return done.wait()\n",
        'TestKeeper',
    ),
    (
        'keeper-alone',
        "a database that hangs alone does not stop those that come later",
        "if self._thread is None or self._busy_alone:",
        "if self._thread is None:",
        'TestKeeper',
    ),
    (
        'keeper-leave',
        "a clean end writes what is left",
        "            atexit.register(_leave, pid)\n",
        "",
        'TestEndOfAServer',
    ),
    (
        'keeper-leave-bound',
        "a database that hangs delays the end of a process by seconds only",
        "return thread is None or self._left.wait(timeout_s)",
        "return thread is None or self._left.wait()",
        'TestKeeperLeaves',
    ),
)
_plant(
    'P10',
    'services/pressure.py',
    (
        'pressure-shed',
        "L1 gives way when memory is scarce",
        "                l1.shed(SHED_SHARE)\n",
        "                pass\n",
        'TestPressure',
    ),
    (
        'pressure-halve',
        "L1 takes half of its limit when memory is very scarce",
        "            l1.restrict(self._share)\n",
        "            pass\n",
        'TestPressure',
    ),
    (
        'pressure-same-size',
        "the same size is acted upon once",
        "share < self._mark + GROWN and not rises",
        "False",
        'TestPressure',
    ),
    (
        'pressure-unit',
        "what is compared with Odoo's limit is what Odoo compares",
        "used_bytes = memory_info(psutil.Process(os.getpid()))",
        "used_bytes = psutil.Process(os.getpid()).memory_info().rss",
        'TestSizes',
    ),
    (
        'pressure-step',
        "who has no room for another heap of malloc's gives way at once",
        "share >= HALVE_AT or size.is_last_step else",
        "share >= HALVE_AT else",
        'TestPressure',
    ),
    (
        'pressure-felt',
        "L1 takes half of what it holds where that is less than half of its limit",
        "        while held and held <= self._share > AT_ONCE_SHARE:",
        "        while False:",
        'TestPressure',
    ),
)
_plant(
    'P10',
    'services/tiers/redis_limits.py',
    (
        'l2-entries',
        "L2 holds no more entries than configured",
        "        shares.append(limits.max_entries / sample.entries)\n",
        "        pass\n",
        'TestRedisLimits',
    ),
    (
        'l2-bytes',
        "L2 takes no more than configured",
        "        shares.append(limits.max_bytes / (sample.entries * sample.mean_bytes))\n",
        "        pass\n",
        'TestRedisLimits',
    ),
)
_plant(
    'P10',
    'services/policy.py',
    (
        'suspend-cheap',
        "what is always too cheap is left alone",
        "            self._judge(record, record.cheap)\n",
        "            pass\n",
        'TestSuspender',
    ),
    (
        'suspend-stale',
        "what is stale before it is hit is left alone",
        "        self._judge(record, record.unhit)\n",
        "        pass\n",
        'TestSuspender',
    ),
)
_plant(
    'P10',
    'services/metrics.py',
    (
        'figures-rows',
        "figures in memory are bounded",
        "        if len(self._rows) >= MAX_ROWS:\n",
        "        if False:\n",
        'TestCounting',
    ),
)
_plant(
    'P10',
    'services/catalogue.py',
    (
        'texts-remembered',
        "the memory of SQL texts is bounded",
        "            while len(self._readings) > MAX_READINGS:\n",
        "            while False:\n",
        'TestCatalogue',
    ),
)

# -- who may do what -------------------------------------------------------------------------------

_plant(
    'P6',
    'models/cache_dashboard.py',
    (
        'dashboard-rights',
        "only cache users see the dashboard",
        "        self.env['cache.manager']._check_group(GROUP_USER)\n        if period",
        "        if period",
        'TestAccess',
    ),
    (
        'dashboard-times',
        "times, sizes and tables on the dashboard are for cache administrators",
        "        if admin:\n            figures.update(",
        "        if True:\n            figures.update(",
        'TestAccess',
    ),
    (
        'dashboard-models',
        "a cache user sees models that they may read only",
        "shown = None if admin else",
        "shown = None if True else",
        'TestAccess',
    ),
    (
        'dashboard-options',
        "advice changes the settings for system administrators only",
        "        if not self._may_set(name):\n            raise",
        "        if False:\n            raise",
        'TestAdviceInWords',
    ),
)
_plant(
    'P1',
    'services/sums.py',
    (
        'sums-stamp',
        "a sum that was kept is not used when figures have come since",
        "AND until = %s AND stamp = %s",
        "AND until = %s AND %s <> ''",
        'TestSums',
    ),
    (
        'sums-prepared',
        "sums are prepared before they are asked for",
        "            for part in sorted(wanted - self._prepared):\n",
        "            for part in ():\n",
        'TestSums',
    ),
)
_plant(
    'P6',
    'services/dashboard.py',
    (
        'sums-shown',
        "a kept sum is cut to the models that the reader may read",
        "            elif model in shown:\n",
        "            elif True:\n",
        'TestSums,TestAccess',
    ),
)
_plant(
    'P1',
    'services/reading.py',
    (
        'same-again',
        "only an answer that came out as before is counted as such",
        "    if payload == ticket.before:\n",
        "    if ticket.before:\n",
        'TestSameAgain',
    ),
    (
        'same-again-always',
        "no column is blamed for a table that every answer depends on",
        "    wanted = None if relation in engine.always else ticket.columns\n",
        "    wanted = ticket.columns\n",
        'TestSameAgain',
    ),
)
_plant(
    'P10',
    'services/guards.py',
    (
        'guards-forget',
        "a table that is gone or guarded meanwhile is no error any more",
        "        for relation in solved:\n            self._forget(relation)\n",
        "        return\n",
        'TestGuards',
    ),
)
_plant(
    'P10',
    'services/rollup.py',
    (
        'figures-retired',
        "minutes are removed when their hour takes over",
        "        removed += cr.rowcount\n        cr.execute(\n            \"UPDATE",
        "        removed += cr.rowcount\n        False and cr.execute(\n            \"UPDATE",
        'TestRetire',
    ),
)

_plant(
    'P6',
    'models/cache_manager.py',
    *(
        (
            f'rights-{name.replace("_", "-")}',
            f"only cache administrators may call {name}()",
            text,
            text.replace("        self._check_group(GROUP_ADMIN)\n", ""),
            'TestManager',
        )
        for name, text in (
            (
                'invalidate_key',
                "        self._check_group(GROUP_ADMIN)\n"
                "        self._check_key(keys.validate_key, key)\n",
            ),
            (
                'invalidate_pattern',
                "        self._check_group(GROUP_ADMIN)\n"
                "        self._check_key(keys.validate_pattern, pattern)\n",
            ),
            (
                'invalidate_model',
                "        self._check_group(GROUP_ADMIN)\n"
                "        records = self._cached_model(model)",
            ),
            *(
                (f'invalidate_{name}', f"        self._check_group(GROUP_ADMIN)\n        {then}")
                for name, then in (
                    ('keys', "if not isinstance(names,"),
                    ('tag', "self._check_key(removal.validate_tag, tag)"),
                    ('user', "self._check_uid(uid)\n        return"),
                    ('relation', "found = self._engine()\n        self._check_key("),
                )
            ),
            (
                'invalidate_all',
                "        self._check_group(GROUP_ADMIN)\n        return self._removing('all'",
            ),
            (
                'test_redis',
                "        self._check_group(GROUP_ADMIN)\n        if url and not",
            ),
        )
    ),
    (
        'rights-get-stats',
        "only cache users may call get_stats()",
        "        self._check_group(GROUP_USER)\n",
        "",
        'TestManager',
    ),
    (
        'key-validated',
        "a key or pattern that cannot be one is refused",
        "            validate(text)\n",
        "            pass\n",
        'TestManager',
    ),
)
_plant(
    'P6',
    'models/cache_entry.py',
    (
        'entry-value-hidden',
        "the value of an entry is shown to system administrators only",
        "if not (self.env.su or self.env.user.has_group('base.group_system')):",
        "if False:",
        'TestEntryView',
    ),
    (
        'entry-value-model',
        "the value of an entry is hidden from who may not read its model",
        "        if not model.has_access('read'):\n",
        "        if False:\n",
        'TestEntryView',
    ),
    (
        'entry-body',
        "nobody reads the packed entry by RPC",
        "attachment=False, groups=fields.NO_ACCESS)",
        "attachment=False)",
        'TestModels',
    ),
    (
        'entry-unlogged',
        "the table of L3 is UNLOGGED",
        'self.env.cr.execute("ALTER TABLE cache_entry SET UNLOGGED")',
        'self.env.cr.execute("ALTER TABLE cache_entry SET LOGGED")',
        'TestEntryView',
        (
            'models/cache_entry.py',
            "if self.env.cr.fetchone()[0] == 'p':",
            "if self.env.cr.fetchone()[0]:",
        ),
        # any change of this file makes the run upgrade the addon
        ('services/journal.py', "def install(cr) -> None:\n", "def install(cr, *_) -> None:\n"),
    ),
)
_plant(
    'P6',
    'security/ir.model.access.csv',
    (
        'access-entry',
        "access rights: cache users read entries and do not remove them",
        "access_cache_entry_user,cache.entry user,model_cache_entry,group_cache_user,1,0,0,0",
        "access_cache_entry_user,cache.entry user,model_cache_entry,group_cache_user,1,1,1,1",
        'TestModels',
    ),
    (
        'access-entry-everybody',
        "access rights: entries are for cache users",
        "model_cache_entry,group_cache_user,",
        "model_cache_entry,base.group_user,",
        'TestModels',
    ),
    (
        'access-metric',
        "access rights: figures are for cache users",
        "model_cache_metric,group_cache_user,",
        "model_cache_metric,base.group_user,",
        'TestModels',
    ),
    (
        'access-rule',
        "access rights: rules are changed by cache administrators",
        "access_cache_rule_user,cache.rule user,model_cache_rule,group_cache_user,1,0,0,0",
        "access_cache_rule_user,cache.rule user,model_cache_rule,group_cache_user,1,1,1,1",
        'TestModels',
    ),
)
_plant(
    'P6',
    'patches.py',
    (
        'rpc-any-model',
        "the patch opens one method of one model to RPC",
        "if name == 'invalidate_model' and model._name == 'cache.manager':",
        "if name == 'invalidate_model':",
        'TestManager',
    ),
    (
        'rpc-closed',
        "the patch opens it at all",
        "if name == 'invalidate_model' and model._name == 'cache.manager':",
        "if False:",
        'TestManager',
    ),
)
_plant(
    'P9',
    'services/journal.py',
    (
        'uninstall-triggers',
        "uninstalling drops the triggers",
        "    for table, name in cr.fetchall():\n",
        "    for table, name in ():\n",
        'TestUninstall',
    ),
    (
        'uninstall-functions',
        "uninstalling drops the functions",
        "    cr.execute(\"DROP FUNCTION IF EXISTS cache_look(xid8, xid8[])\")\n",
        "",
        'TestUninstall',
    ),
    (
        'upgrade-locks',
        "an upgrade takes no lock on a journal that exists",
        "        if not cr.fetchone()[0]:\n            cr.execute(statement)\n",
        "        if not cr.fetchone()[0]:\n            cr.execute(statement)\n"
        "        cr.execute(f'LOCK TABLE {table}')\n",
        'TestAttack',
    ),
)
_plant(
    'P9',
    'hooks.py',
    (
        'uninstall-engine',
        "uninstalling stops the engine of the process",
        "    forget_engine(env.registry)\n",
        "",
        'TestUninstall',
    ),
    (
        'uninstall-patience',
        "uninstalling gives up where it would wait for others",
        "[f'{LOCK_TIMEOUT_S}s']",
        "['0']",
        'TestUninstall',
    ),
)

# -- events and their rules ------------------------------------------------------------------------

_plant(
    'P3',
    'services/event_log.py',
    (
        'event-savepoint-settled',
        "a removal that was rolled back with a savepoint is written again for an earlier change",
        "self._settled, self._open = min(self._settled, mark.settled), None",
        "self._settled, self._open = min(self._settled, len(self.segments)), None",
        'TestEventRule',
    ),
    (
        'event-savepoint-rows',
        "rows that were rolled back do not count as written",
        "while len(self.rows) > mark.rows:",
        "while False:",
        'TestEventRule',
    ),
    (
        'event-savepoint',
        "what was rolled back to a savepoint is not told",
        "        del self.segments[mark.segments :]\n",
        "",
        'TestEvents TestEventRule',
    ),
    (
        'event-net',
        "created and deleted in one transaction is nothing",
        "return self._created - self._deleted",
        "return self._created",
        'TestEvents',
    ),
)
_plant(
    'P4',
    'services/event_log.py',
    (
        'event-gap',
        "what rules remove is committed by the change itself",
        "cr.precommit.add(lambda: self._run(cr))",
        "cr.postcommit.add(lambda: self._run(cr))",
        'TestEventRule',
    ),
)
_plant(
    'P4',
    'services/event_rules.py',
    (
        'event-rule-touched',
        "a record that may have matched before counts",
        "if columns is None or change.updated[id_] & columns",
        "if columns is None",
        'TestEventRule',
    ),
    (
        'event-rule-at-large',
        "a rule that fails removes at large",
        "    return {t.text: _new_rows(log, t, [t.widest]) for t in rule.templates}\n",
        "    return {}\n",
        'TestEventRule',
    ),
    (
        'event-rule-savepoint',
        "a rule that fails in the database does not spoil the transaction",
        "            with model.env.cr.savepoint(flush=False):\n                return _removed_by",
        "            if True:\n                return _removed_by",
        'TestEventRule',
    ),
    (
        'event-rule-unavailable',
        "rules remove where the engine of this process could not start",
        "    if engine is not None and engine.available:\n        journal.note(cr, rows)\n",
        "    if engine is not None:\n        engine.available and journal.note(cr, rows)\n",
        'TestEventRule',
    ),
    (
        'event-rule-before',
        "a field in a name stands for its value before the change too",
        "        change.before.setdefault(id_, []).append(values)\n\n\nclass Gone",
        "        pass\n\n\nclass Gone",
        'TestEventRule',
    ),
)
_plant(
    'P4',
    'services/events.py',
    (
        'event-rule-signal',
        "rules are read again when Odoo signals",
        "book.sequence == registry.cache_sequences.get('default')",
        "True",
        'TestEventRule',
    ),
    (
        'event-deletion',
        "what a deleted record had is known",
        "        return look_before_deletion(records, self._listener)\n",
        "        return Gone({}, {})\n",
        'TestEventRule',
    ),
    (
        'event-subscriber-rollback',
        "a subscriber that fails does not harm the next one",
        "        cr.rollback()\n        registry.reset_changes()\n        _failed",
        "        _failed",
        'TestSubscribers',
    ),
    (
        'event-subscriber-signals',
        "what the request has to signal is left to it",
        "    flags.__dict__.clear()\n    try:",
        "    try:",
        'TestSubscribers',
    ),
)
_plant(
    'P10',
    'services/event_rules.py',
    (
        'event-rule-many',
        "very many records do not fill the journal",
        "    if template.placeholders and log.counts[template.text] + len(rows) > limit:\n",
        "    if False:\n",
        'TestEventRule',
    ),
)
_plant(
    'P9',
    'services/event_templates.py',
    (
        'event-template-escape',
        "a value in a name holds no separator and no wildcard",
        "    return ANY if value is None else key_families.write_part(value)\n",
        "    return ANY if value is None else str(value)\n",
        'TestEventRule TestEventTemplates',
    ),
)

# -- the interface for programs outside ------------------------------------------------------------

_plant(
    'P1',
    'services/serving.py',
    (
        'etag-versions',
        "an ETag holds the versions of what the answer depends on",
        "sorted(reading.dependencies_of(recording, versions), key=lambda row: row[0]),",
        "[],",
        'TestBatchApi',
    ),
    (
        'etag-any',
        "304 is for the ETag of this answer only",
        "    if has(etag):\n        return Served(status, b'', etag, answer.origin)",
        "    if has:\n        return Served(status, b'', etag, answer.origin)",
        'TestBatchApi',
    ),
    (
        'serve-unfinished',
        "an answer that ran out of time is not kept",
        "if not computed.lasting:",
        "if False:",
        'TestBatchApi',
    ),
)

_plant(
    'P1',
    'services/reading.py',
    (
        'gather-hits',
        "an answer depends on what its parts depend on that were hits",
        "    recording.inherit(entry.dependencies, bool(entry.flags & FLAG_CLOCK))\n"
        "    recording.ends =",
        "    recording.ends =",
        'TestBatchApi',
    ),
    (
        'gather-older',
        "a part that may be older than the snapshot is not kept as part of an exact answer",
        "if judge(engine, entry, whole.versions, False) != ('', ''):",
        "if False:",
        'TestBatchApi',
    ),
    (
        'gather-life',
        "an answer does not outlive its parts",
        "    recording.ends = min(recording.ends, entry.expires)\n",
        "",
        'TestBatchApi',
    ),
)

_plant(
    'P1',
    'services/batching.py',
    (
        'merge-union',
        "each caller gets the rows of its own domain, not those of all",
        "answers[number] = [row for row in rows if row['id'] in wanted]",
        "answers[number] = rows",
        'TestBatching TestMergedReads',
    ),
    (
        'merge-order',
        "searches are merged only in an order in which no two rows are equal",
        "return any(term.split()[:1] == ['id'] for term in order.lower().split(','))",
        "return True",
        'TestBatching',
    ),
    (
        'merge-limit',
        "a search with a limit or an offset runs by itself",
        "if call.method != 'search_read' or {'limit', 'offset'} & call.arguments.keys():",
        "if call.method != 'search_read':",
        'TestBatching',
    ),
    (
        'merge-apart-failed',
        "where taking apart fails, each is made by itself",
        "        if isinstance(wanted, Failure):\n            return None\n",
        "",
        'TestBatchApi',
    ),
    (
        'merge-failed',
        "where the common read fails, each is made by itself",
        "    if isinstance(rows, Failure):\n        return None\n    by_id",
        "    if isinstance(rows, Failure):\n"
        "        return {number: rows for number, _call in group.calls}\n    by_id",
        'TestBatching',
    ),
)

_plant(
    'P1',
    'services/domains.py',
    (
        'merge-active',
        "what a search adds by itself is added before domains are put together",
        "return [*domain, [active, '=', True]]",
        "return domain",
        'TestMergedReads',
    ),
    (
        'merge-own-code',
        "models with code of their own in reading or searching are not merged",
        "        name in vars(part)\n",
        "        False\n",
        'TestMergedReads',
    ),
)

_plant(
    'P6',
    'services/batch.py',
    (
        'batch-own-models',
        "the models of the cache are not read through it",
        "if model._original_module == _OWN_MODULE:",
        "if False:",
        'TestBadInput',
    ),
    (
        'batch-savepoint',
        "a call that PostgreSQL refuses harms no other",
        "            self._env.cr.execute(f'ROLLBACK TO SAVEPOINT {SAVEPOINT}')\n",
        "",
        'TestBadInput',
    ),
    (
        'batch-time',
        "no call is made after the time of the request",
        "        if self._is_late():\n            self.is_over = True\n",
        "        if False:\n            self.is_over = True\n",
        'TestBadInput',
    ),
    (
        'batch-time-within',
        "a call of many short queries ends with the time of the request",
        "if cr is self._cr and self._is_late():",
        "if False:",
        'TestBadInput',
    ),
)

_plant(
    'P6',
    'services/quiet.py',
    (
        'batch-quiet',
        "what the ORM refuses in a stranger's call is no error in the log",
        "'odoo.domains', ",
        "",
        'TestBadInput',
    ),
)

_plant(
    'P7',
    'services/batch_calls.py',
    (
        'batch-links',
        "steps into other models count: a query of thousands of joins takes PostgreSQL's memory",
        "LINK_LEAVES = 5",
        "LINK_LEAVES = 0",
        'TestBadInput',
    ),
    (
        'batch-group-paths',
        "the paths of groups are bounded like those of domains",
        "if max(steps, default=0) > MAX_DEPTH or LINK_LEAVES * sum(steps) > MAX_LEAVES:",
        "if False:",
        'TestBadInput',
    ),
    (
        'batch-path-depth',
        "a path is as deep as it has dots",
        "    steps = field.count('.')\n",
        "    steps = 0\n",
        'TestBadInput',
    ),
)

_plant(
    'P6',
    'controllers/monitoring.py',
    (
        'metrics-address',
        "figures are told to allowed addresses only, or with a key",
        "elif not _is_allowed(answers.settings().metrics_addresses):",
        "elif False:",
        'TestMetrics',
    ),
    (
        'metrics-group',
        "the key must be that of a Cache User",
        "if not request.env.user.has_group(GROUP_USER):",
        "if False:",
        'TestMetrics TestHealth',
    ),
    (
        'metrics-everything',
        "a Cache User is told no sizes, times and models by /cache/1/metrics",
        "            everything = _is_administrator()\n",
        "            everything = True\n",
        'TestMetrics',
    ),
    (
        'health-everything',
        "a Cache User is told no methods and options by /cache/1/health",
        "            if not _is_administrator():\n",
        "            if False:\n",
        'TestHealth',
    ),
)

_plant(
    'P6',
    'services/following.py',
    (
        'changes-rights',
        "what changed is told to those who may read the model",
        "        env[one.model].check_access('read')\n",
        "        pass\n",
        'TestFollowing',
    ),
    (
        'changes-links',
        "a changed many2many field is a change of the model",
        "before[1] == self.links",
        "True",
        'TestFollowing',
    ),
    (
        'changes-cursor',
        "a cursor that was not given here is refused, and no error",
        "all(isinstance(id_, int) for id_ in state[3] or ())",
        "True",
        'TestBadInput',
    ),
)


# features of the interface: taken out, a test must miss them

_plant(
    'P6',
    'services/batch.py',
    (
        'batch-status-kept',
        "a batch of which nothing succeeds has the status of its errors",
        "status = statuses.pop() if len(statuses) == 1 else 400",
        "status = 200",
        'TestBatchApi TestBadInput',
    ),
    (
        'batch-rows',
        "the rows of one call are bounded",
        "if bounded and len(value) > MAX_IDS and 'limit' not in call.arguments:",
        "if False:",
        'TestBadInput',
    ),
    (
        'batch-statement-time',
        "a query of a request has a limit in time",
        "f'SAVEPOINT {SAVEPOINT}; SET LOCAL statement_timeout = %s',",
        "f'SAVEPOINT {SAVEPOINT}; SELECT %s',",
        'TestBadInput',
    ),
    (
        'batch-dates',
        "what depends on the date is another answer tomorrow, in each time zone of the calls",
        "    extra = forms, days, origin\n",
        "    extra = forms, origin\n",
        'TestBatchApi',
    ),
    (
        'batch-kind',
        "a refusal for lack of rights says so",
        "        return 403, 'access', str(error)",
        "        return 400, 'invalid', str(error)",
        'TestBatchApi',
    ),
    (
        'batch-abstract',
        "abstract models are refused with a sentence",
        "    if model._abstract:\n",
        "    if False:\n",
        'TestBadInput',
    ),
)
_plant(
    'P6',
    'services/batch_calls.py',
    (
        'batch-count',
        "calls in a batch are bounded",
        "if len(raw) > MAX_CALLS:",
        "if False:",
        'TestBadInput',
    ),
    (
        'batch-methods',
        "no other methods than those that read",
        "if not isinstance(method, str) or method not in METHODS:",
        "if not isinstance(method, str):",
        'TestBadInput',
    ),
    (
        'batch-domain-size',
        "conditions of a domain are bounded",
        "    if leaves > MAX_LEAVES:\n",
        "    if False:\n",
        'TestBadInput',
        (
            'services/batch_calls.py',
            "    if len(domain) > 2 * MAX_LEAVES:\n",
            "    if False:\n",
        ),
    ),
    (
        'batch-domain-depth',
        "the depth of a domain is bounded",
        "        if stack[-1][1] + level > MAX_DEPTH:\n",
        "        if False:\n",
        'TestBadInput',
    ),
    (
        'batch-bypass',
        "operators that bypass access rights are refused",
        "    if operator in ('any!', 'not any!'):\n",
        "    if False:\n",
        'TestBadInput',
    ),
    (
        'batch-json-depth',
        "the depth of values is bounded",
        "        if depth > MAX_JSON_DEPTH:\n",
        "        if False:\n",
        'TestBadInput',
    ),
)
_plant(
    'P6',
    'controllers/dispatcher.py',
    (
        'api-body-size',
        "a body that is too large is not read",
        "    http.max_content_length = max_bytes\n",
        "    http.max_content_length = None\n",
        'TestBadInput',
    ),
    (
        'api-media-type',
        "what is no JSON is refused as such",
        "    if http.mimetype != 'application/json':\n",
        "    if False:\n",
        'TestBadInput',
    ),
)
_plant(
    'P1',
    'controllers/answers.py',
    (
        'api-private',
        "answers are private and asked for again each time",
        "CACHE_CONTROL = 'private, no-cache'",
        "CACHE_CONTROL = 'public, max-age=60'",
        'TestBatchApi TestCatalogueApi TestOpenApi',
    ),
    (
        'api-vary',
        "answers differ by key",
        "('Vary', 'Authorization')",
        "('Vary', 'Accept')",
        'TestBatchApi',
    ),
    (
        'etag-304',
        "304 for what the asker has",
        "        if asker_has(served.etag):\n",
        "        if False:\n",
        'TestBatchApi',
    ),
)
_plant(
    'P1',
    'services/batching.py',
    (
        'merge-equal',
        "equal calls are computed once",
        "different.setdefault(keys.digest(call.form), len(different))",
        "different.setdefault(str(id(call)), len(different))",
        'TestBatching',
    ),
    (
        'merge-reads',
        "reads of one model are one query",
        "    if call.method == 'read':\n        return 'read', like",
        "    if call.method == 'read':\n        return 'one', []",
        'TestBatching TestMergedReads',
    ),
    (
        'merge-read-order',
        "each caller gets the rows of its ids, in its order",
        "[by_id[id_] for id_ in call.ids if id_ in by_id]",
        "[row for id_, row in by_id.items() if id_ in call.ids]",
        'TestBatching TestMergedReads',
    ),
    (
        'merge-counts',
        "counts by one field are one query",
        "        return ('count', [*like, field]) if field else ('one', [])",
        "        return 'one', []",
        'TestMergedReads',
    ),
    (
        'merge-counts-none',
        "a value without records counts nothing",
        "counts.get(value, 0)",
        "counts.get(value, 1)",
        'TestMergedReads',
    ),
    (
        'merge-counts-limit',
        "a count with a limit is made by itself",
        "field = None if 'limit' in call.arguments else domains.counted_by(call)",
        "field = domains.counted_by(call)",
        'TestMergedReads',
    ),
    (
        'merge-rows',
        "a merged search that finds too much is taken apart before it is made",
        "    if isinstance(rows, Failure) or len(rows) >= ROWS:\n",
        "    if isinstance(rows, Failure):\n",
        'TestBatching TestMergedReads',
    ),
)
_plant(
    'P1',
    'services/domains.py',
    (
        'merge-counts-one',
        "counts are merged where the field's value is all that they ask for",
        "        if len(domain) != 1:\n            return None\n        name, operator, value",
        "        name, operator, value",
        'TestMergedReads',
    ),
    (
        'merge-translated',
        "searches in translated fields are not merged",
        "        and not getattr(field, 'translate', False)\n",
        "",
        'TestMergedReads',
    ),
    (
        'merge-inherited',
        "searches in fields of other tables are not merged",
        "return bool(\n        field.store\n",
        "return field.inherited or bool(\n        field.store\n",
        'TestMergedReads',
    ),
)
_plant(
    'P1',
    'services/following.py',
    (
        'changes-gone',
        "ids that are not there any more are told as gone",
        "                    gone.append(id_)\n",
        "                    pass\n",
        'TestFollowing',
    ),
    (
        'changes-delegate',
        "a change of the row behind a delegate is one of the record",
        "[self._model._table, *(env[name]._table for name in self._model._inherits)]",
        "[self._model._table]",
        'TestFollowing',
    ),
    (
        'changes-everything',
        "everything counts as changed after everything was invalidated",
        "for name in (ALL, *relations)]",
        "for name in relations]",
        'TestFollowing',
    ),
    (
        'changes-unguarded',
        "a table without triggers counts as changed",
        "            self._engine.guards.want(missing)\n            return None",
        "            return b''",
        'TestFollowing',
    ),
)
_plant(
    'P1',
    'services/changed_rows.py',
    (
        'changes-rows-base',
        "which rows have changed is not said of another history of the database",
        "    if keyed(_base(versions, newer)) != known['b']:\n",
        "    if False:\n",
        'TestFollowing',
    ),
    (
        'changes-rows-newer',
        "which rows have changed is not said after a commit was lost that was shown",
        "    if keyed([row for row in newer if row[0] <= last]) != known['s']:\n",
        "    if False:\n",
        'TestFollowing',
    ),
    (
        'changes-rows-deleted',
        "which rows have changed is not said where rows were deleted",
        "        if keyed([count, total]) == known['i']:\n",
        "        if True:\n",
        'TestFollowing',
    ),
    (
        'changes-rows-running',
        "what was under way when a cursor was made is told",
        'pg_snapshot_xmin(pg_current_snapshot())::text::bigint"',
        'pg_snapshot_xmax(pg_current_snapshot())::text::bigint"',
        'TestFollowing',
    ),
    (
        'changes-rows-many',
        "too many rows are not told one by one",
        "    if len(rows.changed) > most:\n",
        "    if False:\n",
        'TestFollowing',
    ),
)
_plant(
    'P6',
    'services/health.py',
    (
        'health-degraded',
        "a tier that is down is told",
        "    if not all(tier.is_up for tier in engine.hierarchy.tiers.values()):\n",
        "    if False:\n",
        'TestHealth',
    ),
    (
        'health-off',
        "a cache that is switched off is told",
        "    if not engine.settings.enabled:\n",
        "    if False:\n",
        'TestHealth',
    ),
)
_plant(
    'P10',
    'services/published.py',
    (
        'metrics-cardinality',
        "labels come from what is known beforehand",
        "group = NAMED if not group else group if group in known else OTHER",
        "group = group or NAMED",
        'TestMetrics',
    ),
    (
        'metrics-ever',
        "a counter does not fall when old days go",
        "LEVELS = ('day', 'ever')",
        "LEVELS = ('day',)",
        'TestMetrics',
    ),
)

# -- another Odoo: bounded, not mixed up, and nothing leaks ----------------------------------------

_plant(
    'P4',
    'services/remote/reader.py',
    (
        'remote-follow-unread',
        "following: one model that the key may not read, and no change of any other is heard of",
        "if call.method in OF_RECORDS:  # who may not read a model is not told of its changes\n",
        "if True:\n",
        'TestRemote.test_a_model_of_which_no_record_was_read_is_not_followed',
    ),
)
_plant(
    'P7',
    'services/remote/client.py',
    (
        'remote-batch-all-failed',
        "a batch all of whose calls are refused is taken for an outage",
        """if response.body.startswith(b'{"results":'):""",
        "if False:",
        'TestRemoteBatching.test_a_batch_that_is_refused_is_no_outage',
    ),
    (
        'remote-changes-refused',
        "a question for changes that is refused is taken for an outage",
        "            if response.status == 403:\n",
        "            if False:\n",
        'TestRemoteAddon',
    ),
    (
        'remote-batch-refusal',
        "a batch that is too large is taken for an outage",
        "elif response.status in BATCH_REFUSED:",
        "elif False:",
        'TestRemoteBatching.test_a_batch_that_is_refused_is_no_outage',
    ),
)
_plant(
    'P7',
    'services/remote/batcher.py',
    (
        'remote-batch-in-vain',
        "who gathers and gives up leaves the others waiting",
        "                batch.results = [failed] * count\n            batch.done.set()\n",
        "                return\n            batch.done.set()\n",
        'TestRemoteBatching.test_who_gathers_in_vain_leaves_nobody_waiting',
    ),
)
_plant(
    'P7',
    'services/remote/transport.py',
    (
        'remote-deadline',
        "deadline: each wait begins anew, so that bytes which trickle in hold a worker for ever",
        "self.sock.settimeout(self._owner.deadline.left_s())",
        "self.sock.settimeout(self._owner._connect_timeout_s)",
        'TestRemoteTransport.test_each_misdeed_is_an_outage_within_the_bound',
    ),
    (
        'remote-half-answer',
        "half answers: what has come of an answer is taken for all of it",
        "if answer.length:  # announced, and not come",
        "if False:",
        'TestRemoteTransport.test_each_misdeed_is_an_outage_within_the_bound',
    ),
    (
        'remote-long-answer',
        "size of an answer: not limited",
        "if size > self._max_answer_bytes:",
        "if False:",
        'TestRemoteTransport.test_an_answer_that_is_too_long_is_given_up',
    ),
)
_plant(
    'P6',
    'services/remote/address.py',
    (
        'remote-address',
        "private addresses: whatever a name resolves to is connected to",
        "good = [info for info in found if is_allowed(info[4][0], target.host, allowed)]",
        "good = found",
        'TestRemoteAddress TestRemote.test_loopback_is_refused_unless_it_is_allowed',
        (
            'services/remote/address.py',
            "if not is_allowed(sock.getpeername()[0], target.host, allowed):",
            "if False:",
        ),
    ),
    (
        'remote-address-name',
        "private addresses: a name that is allowed may lead to loopback",
        "return ip.is_private and not special and host.lower() in allowed",
        "return host.lower() in allowed",
        'TestRemoteAddress.test_a_name_allows_private_addresses_and_never_loopback_or_metadata',
    ),
    (
        'remote-address-mapped',
        "private addresses: an IPv4 address that is written as an IPv6 address passes",
        "    ip = _plain(ipaddress.ip_address(address.partition('%')[0]))",
        "    ip = ipaddress.ip_address(address.partition('%')[0])",
        'TestRemoteAddress.test_private_addresses_are_refused_unless_named',
    ),
)
_plant(
    'P10',
    'services/remote/pool.py',
    (
        'remote-pool-order',
        "pool: who comes later may be served first",
        "            if not self._waiters:\n                if self._idle:",
        "            if True:\n                if self._idle:",
        'TestRemotePool.test_first_come_first_served',
        (
            'services/remote/pool.py',
            "waiter = self._waiters.popleft()\n            slot.busy",
            "waiter = self._waiters.pop()\n            slot.busy",
        ),
    ),
    (
        'remote-pool-maximum',
        "pool: as many connections as are asked for",
        "if self._places < self._max_size:",
        "if True:",
        'TestRemotePool.test_never_more_than_the_maximum_and_none_used_by_two',
    ),
    (
        'remote-pool-broken',
        "pool: a connection that failed is used again",
        "if not good or self.is_closed or self._is_old(slot):",
        "if self.is_closed or self._is_old(slot):",
        'TestRemotePool.test_an_exception_closes_the_connection',
    ),
)
_plant(
    'P1',
    'services/remote/dedup.py',
    (
        'remote-shared-after-change',
        "sharing: a read after a change gets the answer of one from before",
        "            self._generation += 1",
        "            self._generation += 0",
        'TestRemoteClient.test_a_read_after_a_change_does_not_share_the_answer_of_one_before',
    ),
    (
        'remote-shared-object',
        "sharing: callers get one and the same object",
        "return copy.deepcopy(flight.value)\n",
        "return flight.value\n",
        'TestRemoteClient.test_equal_calls_share_one_answer_and_not_one_object',
    ),
)
_plant(
    'P1',
    'services/remote/merging.py',
    (
        'remote-merge-union',
        "merged searches: everybody gets the union",
        "[_own(row, added) for row in rows if matches(row)]",
        "[_own(row, added) for row in rows]",
        'TestRemoteBatching.test_searches_are_merged_exactly',
    ),
    (
        'remote-merge-active',
        "merged searches: also where Odoo's own condition on active would be lost",
        "return None if mentioned and (context or {}).get('active_test', True) else judge",
        "return judge",
        'TestRemoteBatching.test_what_names_active_is_asked_alone',
    ),
)
_plant(
    'P1',
    'services/outside.py',
    (
        'outside-versions-before',
        "values from outside carry versions from before the fetching began",
        "    versions, plan = found.versions, wanted.plan\n",
        "    versions, plan = latest(engine, wanted.plan, True), wanted.plan\n",
        'TestRemote.test_what_was_asked_before_a_removal_is_not_kept_after_it',
    ),
    (
        'outside-removed',
        "values from outside: removals by tag count",
        "            if version != _version(self._versions, name):",
        "            if False:",
        'TestRemote.test_a_removal_by_tag_reaches_what_another_worker_has_in_memory',
    ),
    (
        'outside-life',
        "a life ends, whatever an earlier caller allowed after it",
        "        if now < self._plan.end_of(entry):",
        "        if now < entry.expires - self._plan.keep_s:",
        'TestRemote.test_a_life_ends_whatever_others_allow_after_it',
    ),
    (
        'outside-refusal',
        "fail-safe: a refusal is an answer",
        "        if getattr(error, 'outage', False) and all(spare):",
        "        if all(spare):",
        'TestRemote.test_a_refusal_is_an_answer_and_nothing_stands_in',
    ),
)
_plant(
    'P6',
    'models/cache_remote.py',
    (
        'remote-key-moved',
        "API key: it goes to whatever URL somebody writes, who need not know it",
        "if moved and vals.get('api_key', MASK) == MASK:",
        "if False:",
        'TestRemote.test_saving_the_form_keeps_the_key_and_moving_the_server_drops_it',
    ),
    (
        'remote-key-mask',
        "API key: whoever moves the server gives what the form shows instead of it",
        "if moved and vals.get('api_key', MASK) == MASK:",
        "if moved and 'api_key' not in vals:",
        'TestRemote.test_saving_the_form_keeps_the_key_and_moving_the_server_drops_it',
    ),
    (
        'remote-key-shown',
        "API key: it is shown",
        "    secret = fields.Char(groups=NOBODY, copy=False, prefetch=False)",
        "    secret = fields.Char(copy=False, prefetch=False)",
        'TestRemote.test_no_client_reads_the_key',
    ),
)
_plant(
    'P6',
    'services/remote/errors.py',
    (
        'remote-key-in-error',
        "API key: it may stand in what the other server says",
        "            text = text.replace(secret, HIDDEN)",
        "            pass",
        'TestRemoteProtocols.test_the_key_stands_in_no_error'
        ' TestRemote.test_the_key_stands_nowhere_but_in_its_column',
    ),
)
_plant(
    'P4',
    'services/remote/following.py',
    (
        'follow-cursor',
        "following: the cursor moves with the removals, not with the claim",
        "UPDATE cache_remote_follow f SET polled_at = now() AT TIME ZONE 'UTC'\n",
        "UPDATE cache_remote_follow f SET polled_at = now() AT TIME ZONE 'UTC', cursor = 'x'\n",
        'TestRemote.test_an_outage_keeps_the_cursor',
    ),
    (
        'follow-complete',
        "following: what is in doubt is removed",
        "if not claim.cursor or not found.complete:",
        "if not claim.cursor:",
        'TestRemote.test_changes_in_doubt_remove_everything',
    ),
    (
        'follow-one',
        "following: one worker asks",
        "   AND (f.polled_at IS NULL\n",
        "   AND (TRUE OR f.polled_at IS NULL\n",
        'TestRemote.test_one_request_per_interval_whoever_asks',
    ),
    (
        'follow-refused',
        "following: a model that the key may not read does not silence the others",
        "            if not self._leave_out_refused(claim, client, models):\n",
        "            if True:\n",
        'TestRemote.test_a_model_that_the_key_may_not_read_any_more_is_left_out',
    ),
    (
        'follow-dates',
        "following: what has a new write_date goes",
        "            elif changed:\n",
        "            elif False:\n",
        'TestRemoteOdoo.test_dates_are_polled',
    ),
)
_plant(
    'P7',
    'services/emptying.py',
    (
        'emptying-newer',
        "removal in the background: what was computed after it stays",
        "    asked_at: float = dataclasses.field(default_factory=time.time)\n",
        "    asked_at: float = float('inf')\n",
        'TestCounts.test_the_background_leaves_what_is_newer',
    ),
)
_plant(
    'P10',
    'services/remote/pool.py',
    (
        'remote-pool-checked',
        "pool: a connection that was idle for long is used unseen",
        "self._clock() - slot.checked_at < self._check_after_s",
        "True",
        'TestRemotePool',
    ),
    (
        'remote-pool-age',
        "pool: connections live for ever",
        "return self._clock() - slot.created_at >= self._max_age_s",
        "return False",
        'TestRemotePool',
    ),
    (
        'remote-pool-idle',
        "pool: what nobody uses stays open",
        "over = self._is_old(slot) or (spare and unused_s >= self._idle_timeout_s)",
        "over = self._is_old(slot)",
        'TestRemotePool',
    ),
    (
        'remote-pool-minimum',
        "pool: the least number is not kept open",
        "while self._places < self._min_size and not self.is_closed:",
        "while False:",
        'TestRemotePool',
    ),
    (
        'remote-pool-close',
        "pool: closing leaves waiters waiting",
        "                waiter.closed = True\n                waiter.event.set()\n",
        "                pass\n",
        'TestRemotePool',
    ),
    (
        'remote-pool-failed-place',
        "pool: a place whose connection failed is lost",
        "        except BaseException:\n            self._free_place()\n            raise",
        "        except BaseException:\n            raise",
        'TestRemotePool',
    ),
    (
        'remote-pool-wait',
        "pool: a caller's own limit does not count",
        "wait_s = min(wait_s, timeout_s)",
        "pass",
        'TestRemotePool',
    ),
)
_plant(
    'P6',
    'services/remote/transport.py',
    (
        'remote-redirect',
        "redirects: the key goes to whatever server is named",
        "        if target.origin != self.target.origin:\n",
        "        if False:\n",
        'TestRemoteTransport',
    ),
    (
        'remote-redirects',
        "redirects: they go on for ever",
        "for _redirect in range(MAX_REDIRECTS + 1):",
        "while True:",
        'TestRemoteTransport.test_redirects_in_circles_end',
    ),
    (
        'remote-tls',
        "TLS: certificates are not verified",
        "context = self._ssl or ssl.create_default_context()",
        "context = ssl._create_unverified_context()",
        'TestRemoteTransport',
        (
            'services/remote/transport.py',
            "cert_reqs='CERT_REQUIRED'",
            "cert_reqs='CERT_NONE'",
        ),
    ),
)
_plant(
    'P7',
    'services/remote/client.py',
    (
        'remote-repeat',
        "repetitions: an outage of a moment fails a read",
        "for left in range(self.settings.retries, -1, -1):",
        "for left in (0,):",
        'TestRemoteClient',
    ),
    (
        'remote-repeat-change',
        "repetitions: a change is sent twice",
        "            return self._once(lambda: self._call(call, deadline))\n        finally:",
        "            return self._repeat(call, deadline)\n        finally:",
        'TestRemoteClient',
    ),
    (
        'remote-jitter',
        "repetitions: everybody comes back at the same moment",
        "wait_s = pause_s * random.uniform(0.5, 1.0)",
        "wait_s = pause_s",
        'TestRemoteClient',
    ),
    (
        'remote-backoff',
        "repetitions: pauses do not grow",
        "            pause_s *= 2\n",
        "",
        'TestRemoteClient',
    ),
    (
        'remote-breaker',
        "breaker: a server that is down is asked by everybody",
        "        if not self._breaker.allow():\n",
        "        if False:\n",
        'TestRemoteClient',
    ),
    (
        'remote-breaker-refusal',
        "breaker: a refusal counts as an outage",
        "            if error.outage:\n                if self._breaker.failure():",
        "            if True:\n                if self._breaker.failure():",
        'TestRemoteClient',
    ),
    (
        'remote-log-out',
        "a user's number is kept after the server has refused it",
        "            protocol.log_out()\n            raise",
        "            raise",
        'TestRemoteProtocols TestRemoteClient',
    ),
    (
        'remote-batch-api',
        "what cannot be merged here does not go to the other addon's batch API",
        "group = merging.group_of(call, bool(self._has_batch_api))",
        "group = merging.group_of(call, False)",
        'TestRemoteBatching',
    ),
)
_plant(
    'P7',
    'services/remote/batcher.py',
    (
        'remote-batch-alone',
        "batching: who is alone waits",
        "            if group.under_way or group.batch is not None:\n",
        "            if True:\n",
        'TestRemoteBatching',
    ),
    (
        'remote-batch-refused',
        "batching: a refusal of the merged call is everybody's",
        "return [error if error.outage else ALONE] * len(items)",
        "return [error] * len(items)",
        'TestRemoteBatching',
    ),
    (
        'remote-batch-outage',
        "batching: an outage of the merged call is tried by everybody",
        "return [error if error.outage else ALONE] * len(items)",
        "return [ALONE] * len(items)",
        'TestRemoteBatching',
    ),
    (
        'remote-batch-most',
        "batching: more than the most go out together",
        "        if len(batch.items) >= self._max_calls:\n",
        "        if False:\n",
        'TestRemoteBatching',
    ),
    (
        'remote-batch-wait',
        "batching: those who keep coming keep the first waiting",
        "until = min(batch.last_at + self._delay_s, batch.first_at + limit_s)",
        "until = batch.last_at + self._delay_s",
        'TestRemoteBatching',
    ),
)
_plant(
    'P1',
    'services/remote/dedup.py',
    (
        'remote-shared',
        "sharing: equal calls at the same time are all made",
        "            mine = flight is None\n",
        "            mine = True\n",
        'TestRemoteClient',
        (
            'services/remote/dedup.py',
            "                del self._flights[key]\n",
            "                self._flights.pop(key, None)\n",
        ),
    ),
)
_plant(
    'P6',
    'services/remote/errors.py',
    (
        'remote-error-secret',
        "errors: what the other server says is told with the key in it",
        "            text = text.replace(secret, HIDDEN)\n",
        "            pass\n",
        'TestRemoteProtocols',
    ),
    (
        'remote-error-traceback',
        "errors: a traceback is told",
        "    line = lines[-1] if lines[0].startswith('Traceback') else lines[0]\n",
        "    line = ' '.join(lines)\n",
        'TestRemoteProtocols',
    ),
)
_plant(
    'P1',
    'services/remote/reader.py',
    (
        'remote-hundreds',
        "reading: all ids go out in one request",
        "for start in range(0, len(wanted), MAX_IDS):",
        "for start in range(0, len(wanted), 10**9):",
        'TestRemote.test_records_are_kept_one_by_one_and_fetched_in_hundreds',
        (
            'services/remote/reader.py',
            "part = wanted[start : start + MAX_IDS]",
            "part = wanted[start:]",
        ),
    ),
    (
        'remote-context',
        "reading: one context's answer is another's",
        "extra = (self._settings.identity, 'read', fields, context)",
        "extra = (self._settings.identity, 'read', fields)",
        'TestRemote.test_fields_and_context_tell_values_apart',
    ),
    (
        'remote-only-reads',
        "reading: what may change something is answered from the cache",
        "        if method not in READS:\n",
        "        if False:\n",
        'TestRemote.test_only_reads_are_answered_from_the_cache',
    ),
    (
        'remote-forget',
        "changing: what a call may have changed stays",
        "        finally:  # also after a timeout: it may have happened\n"
        "            self.forget(removes)",
        "        finally:\n            pass",
        'TestRemote.test_a_call_removes_what_it_may_have_changed_for_everybody'
        ' TestRemote.test_a_call_that_fails_removes_too',
    ),
    (
        'remote-looks',
        "fail-safe: a busy tier fails a read",
        "        for _look in range(LOOKS):\n",
        "        for _look in ():\n",
        'TestRemote.test_a_tier_that_was_busy_is_looked_into_again_before_a_read_fails',
    ),
)
_plant(
    'P1',
    'services/outside.py',
    (
        'outside-stand-in',
        "fail-safe: an outage fails a read whose old answer is there",
        "            if getattr(error, 'outage', False) and all(spare):\n"
        if False
        else "        if getattr(error, 'outage', False) and all(spare):\n",
        "        if False:\n",
        'TestRemote.test_a_remote_that_is_down_lets_the_last_answer_stand_in_marked_with_its_age',
    ),
)

# -- named entries: renewal, time limits, early refresh -------------------------------------------

_plant(
    'P1',
    'services/answering.py',
    (
        'renewal-dependencies',
        "what is made with the previous value depends on what that was made of",
        "ticket.recording.inherit(expired.dependencies, bool(expired.flags & FLAG_CLOCK))",
        "pass",
        'TestRenewal',
    ),
    (
        'renewal-outdated',
        "what is not current any more is not renewed, at any level",
        'if expired is None or reading.judge(engine, expired, found.ticket.versions, False)[0]:',
        'if expired is None:',
        'TestRenewal',
    ),
    (
        'timeout-savepoint',
        "no snapshot is exported within a savepoint, where PostgreSQL refuses",
        'if in_savepoint(call.env.cr):',
        'if False:',
        'TestFailSafe',
    ),
    (
        'timeout-shorter',
        "of two time limits the shorter one counts",
        'min(filter(None, (soft_s, plan.hard_timeout_s)), default=None)',
        'soft_s or plan.hard_timeout_s or None',
        'TestFailSafe',
    ),
    (
        'refresh-early',
        "an early refresh begins when the transaction is over",
        '        cr.postcommit.add(ask)\n        cr.postrollback.add(ask)\n',
        '        cr.postcommit.add(ask)\n        engine.refresher.ask(key, work)\n',
        'TestRenewal',
    ),
)
_plant(
    'P1',
    'services/named.py',
    (
        'expired-newest',
        "the newest value stands in, not that of a tier which is behind",
        'if self.expired is None or self.expired.created < entry.created:',
        'if True:',
        'TestFailSafe',
    ),
)

# -- warm-up: as the user would have asked, bounded, and stopped by nothing ----------------------

_plant(
    'P10',
    'services/calls.py',
    (
        'calls-memory',
        "a process remembers a bounded number of calls",
        'return len(self._rows) >= MAX_CALLS',
        'return False',
        'TestRecordingCalls',
    ),
    (
        'calls-best',
        "of a full record those remain that have saved most",
        'key=lambda item: -item[1].value_ms',
        'key=lambda item: item[1].value_ms',
        'TestRecordingCalls',
    ),
    (
        'calls-size',
        "a call that takes much space is not written down",
        'if len(body) > MAX_BODY_BYTES:',
        'if False:',
        'TestRecordingCalls',
    ),
    (
        'calls-old',
        "what nobody asks for is forgotten",
        'cr.execute(_PURGE_OLD, [days])',
        'cr.execute(_PURGE_OLD, [days * 1000])',
        'TestRecordingCalls',
    ),
    (
        'calls-many',
        "the table of calls is bounded",
        'cr.execute(_PURGE_MANY, [MAX_ROWS])',
        'cr.execute(_PURGE_MANY, [MAX_ROWS * 1000])',
        'TestRecordingCalls',
    ),
    (
        'calls-fade',
        "old savings count less",
        'power(0.5, least(',
        'power(1.0, least(',
        'TestRecordingCalls',
    ),
)
_plant(
    'P9',
    'services/calls.py',
    (
        'calls-format',
        "what another version has written down is not made again",
        'or value[:1] != (FORMAT,) or len(value) != 1 + len(Call._fields):',
        'or not value:',
        'TestWarmupRecords',
    ),
)
_plant(
    'P10',
    'services/warming.py',
    (
        'warmup-alone',
        "one process at a time runs a warm-up",
        'yield connection if mine else None',
        'yield connection',
        'TestProgress',
    ),
    (
        'warmup-budget',
        "a run ends when its time is over",
        'if now >= deadline:',
        'if False:',
        'TestProgress',
    ),
    (
        'warmup-slice',
        "a run is done a few seconds at a time",
        'elif now >= until and self.count:',
        'elif False:',
        'TestProgress',
    ),
    (
        'warmup-stop',
        "a button stops a run",
        "return row is None or row[0] or row[1] != 'running'",
        'return row is None',
        'TestProgress',
    ),
    (
        'warmup-failed',
        "failures are logged, those of earlier slices too",
        "        if failed:\n",
        "        if False:\n",
        'TestProgress',
    ),
    (
        'warmup-pause',
        "a run pauses as long as it works",
        'self._sleep(min(took_s, MAX_PAUSE_S))',
        'self._sleep(0.0)',
        'TestProgress',
    ),
)
_plant(
    'P10',
    'models/cache_warmup.py',
    (
        'warmup-resume',
        "a run that was interrupted goes on where it was",
        "if own.state == 'waiting':",
        "if own.state in ('waiting', 'running'):",
        'TestProgress.test_each_call_is_made_once_however_often_it_is_interrupted',
    ),
    (
        'warmup-new-code',
        "what runs while the registry is replaced goes on with the new one",
        "            except replay.Stale:\n                return 'running'",
        "            except replay.Stale:\n                return 'done'",
        'TestProgress',
    ),
    (
        'warmup-restart',
        "a restart counts only where it shall",
        'if self.after_restart and booted_at and last < booted_at:',
        'if booted_at and last < booted_at:',
        'TestWhen',
    ),
    (
        'warmup-upgrade',
        "an upgrade is noticed",
        'if self.after_upgrade and self.fingerprint and self.fingerprint != fingerprint:',
        'if False:',
        'TestWhen',
    ),
    (
        'warmup-list',
        "the list is not changed under a run",
        "            if record.state in ('waiting', 'running'):\n",
        '            if False:\n',
        'TestWarmupRecords',
    ),
    (
        'warmup-namespace',
        "a namespace means whole parts of a name",
        "f'{escaped}:%'",
        "f'{escaped}%'",
        'TestWarmupRuns',
    ),
)
_plant(
    'P6',
    'models/cache_warmup.py',
    (
        'warmup-methods',
        "only what a module offers can be called",
        'if (model, name) not in warming.methods_of(engine.registry):',
        'if False:',
        'TestWarmupRuns',
    ),
    (
        'warmup-editable',
        "nobody writes what happened",
        'if not self.env.su and (others := vals.keys() - EDITABLE):',
        'if False and (others := vals.keys()):',
        'TestWarmupRecords',
    ),
    (
        'warmup-users',
        "a warm-up for some users makes the calls of these",
        "domain.append(('user_id', 'in', self.user_ids.ids))",
        "domain.append(('user_id', '>', 0))",
        'TestWarmupRuns',
    ),
)
_plant(
    'P6',
    'models/replay.py',
    (
        'replay-superuser',
        "a call is made with the rights that it had",
        'self._environment(call.uid, call.context, call.su) as env,',
        'self._environment(call.uid, call.context, True) as env,',
        'TestWarmupRuns',
    ),
    (
        'replay-archived',
        "nothing is computed for users who are archived",
        'outcome = work() if self._is_active(uid) else self._inactive()',
        'outcome = work()',
        'TestWarmupRuns',
    ),
    (
        'replay-host',
        "a call is made for the host that was recorded, or not at all",
        'yield read_through.current_origin() == (host, website, debug, *language)',
        'yield True',
        'TestWebRequests',
        (
            'models/replay.py',
            "f'{scheme}://{host}', method='POST'",
            "f'{scheme}://localhost', method='POST'",
        ),
    ),
    (
        'replay-request',
        "nothing of an imitated request is left behind",
        '    finally:\n        http._request_stack.pop()\n',
        '    finally:\n        pass\n',
        'TestWebRequests',
    ),
)
_plant(
    'P3',
    'models/replay.py',
    (
        'replay-readonly',
        "a warm-up writes nothing",
        "                cr.execute('SET TRANSACTION READ ONLY')\n",
        '',
        'TestWarmupRuns',
    ),
    (
        'replay-raises',
        "a call that raises stops no other",
        '            outcome = Outcome(FAILED, _text(error))\n',
        '            raise\n',
        'TestWarmupRuns',
    ),
    (
        'replay-bottom',
        "a call is made where it was recorded, below all overrides",
        'getattr(Base, call.method)(records, *args, **kwargs)',
        'getattr(records, call.method)(*args, **kwargs)',
        'TestWarmupRuns',
    ),
    (
        'replay-slow',
        "a statement of a warm-up ends after a while",
        "                cr.execute('SET LOCAL statement_timeout = %s', [STATEMENT_TIMEOUT_MS])\n",
        '',
        'TestWarmupRuns',
    ),
)
_plant(
    'P10',
    'services/preload.py',
    (
        'preload-share',
        "what is brought takes half of the memory at most",
        'int(engine.settings.l1_max_mb * 2**20 * MAX_SHARE)',
        '2**40',
        'TestPreload',
    ),
    (
        'preload-newer',
        "what memory has is not replaced by what is older",
        ' or l1.has_newer(entry):',
        ':',
        'TestPreload',
    ),
    (
        'preload-life',
        "it lives in memory as long as memory may keep it",
        "min(entry.expires, entry.created + plan.ttl_s['l1'])",
        'entry.expires',
        'TestPreload',
    ),
    (
        'warmup-follow',
        "processes that run bring what a warm-up has stored",
        'if progress != self._progress:',
        'if False:',
        'TestPreload',
    ),
)

# -- the command line: what it says is so, and programs can rely on its exit code ----------------

_plant(
    'P1',
    'cli/cache.py',
    (
        'cli-check-code',
        "check fails where it has found errors",
        'return FAILED if errors else OK',
        'return OK',
        'TestCommand.test_check_is_content_then_finds_a_switched_off_trigger_and_guards_repairs_it',
    ),
    (
        'cli-guards-code',
        "guards fails where a table could not be guarded",
        'return FAILED if failed else OK',
        'return OK',
        'TestCommand.test_what_could_not_be_done_is_told_by_the_exit_code',
    ),
    (
        'cli-warm-code',
        "warm fails where a call has failed",
        'return OK if done else FAILED',
        'return OK',
        'TestCommand.test_what_could_not_be_done_is_told_by_the_exit_code',
    ),
    (
        'cli-user-error',
        "what does not exist is a wrong argument, not a fault",
        'code = _say(Failure(USAGE, str(error)))',
        'code = _say(Failure(FAILED, str(error)))',
        'TestCommand.test_a_model_that_does_not_exist_is_a_wrong_argument',
    ),
    (
        'cli-commit',
        "what is removed is removed for all processes",
        '    env.cr.commit()  # pylint: disable=invalid-commit  # a cursor of our own\n'
        '    counts |=',
        '    counts |=',
        'TestCommand.test_invalidate_counts_first_and_then_removes_for_the_running_workers_too',
    ),
    (
        'cli-dry-run',
        "a dry run removes nothing",
        '    if args.dry_run:\n        records =',
        '    if not args:\n        records =',
        'TestCommand.test_invalidate_counts_first_and_then_removes_for_the_running_workers_too',
    ),
)
_plant(
    'P4',
    'services/inspection.py',
    (
        'inspect-guards',
        "check finds guards that are not as they were made",
        '    for guard in broken:\n        yield (',
        '    for guard in ():\n        yield (',
        'TestInspection',
    ),
    (
        'inspect-functions',
        "check finds functions that do something else",
        '    for name in altered:\n',
        '    for name in ():\n',
        'TestInspection',
    ),
    (
        'inspect-bounds',
        "check finds a journal out of its bounds",
        '        if count:\n            yield (',
        '        if False:\n            yield (',
        'TestInspection',
    ),
    (
        'inspect-auditor',
        "check finds what the auditor has switched off",
        'enabled AND sequence = -1',
        'enabled AND sequence = -2',
        'TestInspection',
    ),
    (
        'inspect-redis',
        "check finds a Redis that is away",
        'yield ERROR, f"L2: {error}"',
        'yield OK, f"L2: {error}"',
        'TestInspection',
    ),
    (
        'inspect-limits',
        "check finds a tier beyond its limits",
        'if value and limit and value > limit * _LIMIT_SLACK:',
        'if False:',
        'TestInspection',
    ),
    (
        'inspect-maintenance',
        "check finds that maintenance does not run",
        'if row is None or not row[0]:',
        'if row is None:',
        'TestInspection',
    ),
)
_plant(
    'P1',
    'services/sampling.py',
    (
        'sample-compare',
        "check compares entries with the database",
        '        _compare(env, entry, rows)\n',
        '        pass\n',
        'TestSampling',
    ),
    (
        'sample-outdated',
        "what nobody would be served is no error",
        'if reading.judge(engine, entry, state, False)[0]:',
        'if False:',
        'TestSampling',
    ),
    (
        'sample-dependencies',
        "check finds an entry without what all depend on",
        '    _check_dependencies(engine, entry)\n    rows',
        '    rows',
        'TestSampling',
    ),
    (
        'sample-future',
        "check finds clocks that differ",
        'if entry.created > time.time() + _CLOCK_SLACK_S:',
        'if False:',
        'TestSampling',
    ),
    (
        'sample-damage',
        "check finds damaged bytes",
        'ERROR if kind in _DAMAGE else WARNING',
        'WARNING',
        'TestSampling',
    ),
)
_plant(
    'P1',
    'services/figures.py',
    (
        'figures-hours',
        "figures are those of the hours that were asked for",
        '"active AND bucket >= now() AT TIME ZONE \'utc\' - make_interval(hours => %(hours)s)"',
        '"active"',
        'TestFigures',
    ),
    (
        'figures-twice',
        "figures count minutes once, not again as hours and days",
        '"active AND bucket >=',
        '"bucket >=',
        'TestFigures',
    ),
)
_plant(
    'P1',
    'services/walking.py',
    (
        'walk-keeps',
        "a preview removes nothing",
        '            found.append(key)\n        return False',
        '            found.append(key)\n        return True',
        'TestPreview',
    ),
    (
        'walk-user',
        "a preview for a user counts what is theirs",
        'return lambda entry: entry.uid == target',
        'return lambda entry: False',
        'TestPreview',
    ),
)

NOT_PROTECTIONS = (
    (
        "a redirect to another server is refused (services/remote/transport.py)",
        "only its path is followed, on the same server; what it saves is a less clear sentence",
    ),
    (
        "`schedule_removal()` asks for the group (models/cache_manager.py)",
        "only the group may create a `cache.schedule`, too; what it saves is a less clear sentence",
    ),
    (
        "records without an id are not looked up (services/reading.py)",
        "such an id has no canonical form, so the call has no key",
    ),
    (
        "a transaction that is marked as having written is not looked into (services/engine.py)",
        "what is in memory only is found there, and of the rest PostgreSQL tells; it saves a query",
    ),
    (
        "`LOCK TABLE` before the triggers are created (services/journal.py)",
        "CREATE TRIGGER and ENABLE TRIGGER take the same lock and keep it until the commit",
    ),
    (
        "the memory of notes is local to the transaction (`set_config` in services/journal.py)",
        "it begins with the number of the transaction, so what is left over is ignored",
    ),
    (
        "the signals are compared before the computation (`_look` in services/reading.py)",
        "they are compared again before anything is kept, and a hit was computed under the signals "
        "on which it depends",
    ),
    (
        "an inner call is answered only under STRONG (`_may_be_inner` in services/reading.py)",
        "it is judged by the versions of the outer call's own snapshot under any consistency",
    ),
    (
        "an older snapshot does not replace the state of a process (`_load`, services/versions.py)",
        "any state of the server's history can be carried on; it costs time only",
    ),
    (
        "a server that was a standby a moment ago is read anew (`_advance`, services/versions.py)",
        "a primary names no rows, so a state with rows that were counted does not follow from it, "
        "and one without them is carried on exactly",
    ),
    (
        "the ORM hooks mark the transaction before any SQL is sent (services/writing.py)",
        "what is not flushed is found in memory, what is flushed by asking the server: the mark "
        "spares that query",
    ),
    (
        "the call that learns of a changed rule starts over (`find`, services/reading.py)",
        "every entry depends on the rules, so that call computes anyway",
    ),
    (
        "idle connections to Redis are closed after an outage (services/tiers/redis_servers.py)",
        "redis-py closes the one that failed; another dead one costs one more miss",
    ),
    (
        "a child does not close connections of its parent (`close`, services/tiers/redis.py)",
        "redis-py asks for the process before it shuts a socket down",
    ),
    (
        "the mark of the ORM hooks is asked before keeping (`_objection`, services/reading.py)",
        "what is flushed is SQL that makes the recording refuse, what is not is found in memory",
    ),
)
