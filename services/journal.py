"""The change journal: versions of relations, kept in PostgreSQL beside the data.

The one idea: whoever commits a change to a guarded relation commits a random token in
the same transaction.  The *version* of a relation in a snapshot is the sum of the
tokens which that snapshot sees.  Tokens are random, not counted: two different sets of
commits have different sums whatever their order, also on a clone, a replica, or a
database that was restored to an earlier point in time.

Two tables, both logged, both without an Odoo model behind them:

``cache_change``
    one row per transaction and relation that changed something
``cache_version``
    one row per guarded relation: the tokens that :func:`compact` has summed up.  Two
    reserved rows: ``#generation`` changes whenever a process must read everything
    again, ``#all`` is the version of "everything" and is part of every entry.  Besides,
    one row for each key, pattern, tag and user that was removed lately
    (:data:`REMOVALS`, with a colon in their names); see :mod:`.removal`.

A *guard* is a set of four statement-level triggers on one relation.  CREATE TRIGGER
waits for the writers that are running, and the ``cache_version`` row is inserted in the
transaction that creates the triggers: a snapshot which sees the row sees every later
write in the journal.

What may go wrong: triggers are not fired under ``session_replication_role = replica``,
when someone disables them, or by ``ALTER TABLE … USING``; :func:`broken_guards` finds
the second, "invalidate everything" is the remedy for the others.
"""

from __future__ import annotations

import json
import logging

import psycopg2

from odoo.tools import SQL

_logger = logging.getLogger(__name__)

MODULUS = 1 << 62
"""Versions are sums modulo this: 62 random bits are what a version 4 UUID holds in its
last 16 hexadecimal digits (RFC 9562, section 5.4), and a sum of a few fits a bigint."""

GENERATION = '#generation'
ALL = '#all'
KEY = 'key:'
PATTERN = 'pattern:'
TAG = 'tag:'
USER = 'user:'
REMOVALS = (KEY, PATTERN, TAG, USER)
"""How the names of removals begin.  What they remove has no table, so nobody guards it."""

CALLS = 'v1:orm:'
"""How the keys of reads of the ORM begin; all others are of named entries."""

ALL_CALLS = f'{PATTERN}{CALLS}*'
ALL_NAMED = KEY
ALL_TAGS = TAG
ALL_USERS = USER
"""What very many removals become.  No key, tag or user is empty, so these names are free."""

MAX_REMOVALS = 1000
"""Patterns that are kept apart; when there are more, some become one.  Each costs a hit the
comparison with its key: 0.3 ms for a thousand."""

MAX_NAMED = 5000
"""Keys, tags and users that are kept apart, likewise.  A hit looks them up in a dictionary;
what they cost is memory of each process, and 10 ms when it reads all versions again."""

RANDOM_TOKEN = (
    "(('x' || right(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint"
    " & 4611686018427387903)"
)

LOCK = 7211966048923350  # one arbitrary number for pg_try_advisory_xact_lock, ours alone

_TABLES = {
    'cache_change': f"""
        CREATE TABLE cache_change (
            id bigserial PRIMARY KEY,
            xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
            token bigint NOT NULL DEFAULT {RANDOM_TOKEN},
            relation text NOT NULL,
            changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            rows_changed jsonb
        );
        CREATE INDEX cache_change_xid_idx ON cache_change (xid)
    """,
    'cache_version': f"""
        CREATE TABLE cache_version (
            relation text PRIMARY KEY,
            token bigint NOT NULL DEFAULT {RANDOM_TOKEN},
            relid oid,
            capture text NOT NULL DEFAULT 'triggers',
            guarded_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        INSERT INTO cache_version (relation) VALUES ('{GENERATION}'), ('{ALL}')
    """,
}

# The setting remembers, for this transaction only, which relations are noted already.
# It starts with the transaction's id, so a value left over from elsewhere is ignored, and
# as a transaction-local setting it is undone by a savepoint rollback, as the rows are.
# SECURITY DEFINER: a role that may write the business table need not know the journal.
_FUNCTION = """
CREATE OR REPLACE FUNCTION %(schema)s.cache_change_note() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    noted text := current_setting('tiered_cache.noted', true);
    mark text;
BEGIN
    IF TG_OP <> 'TRUNCATE' THEN
        IF NOT EXISTS (SELECT FROM changed_rows) THEN
            RETURN NULL;
        END IF;
    END IF;
    mark := pg_current_xact_id()::text || ':';
    IF noted IS NULL OR NOT starts_with(noted, mark) THEN
        noted := mark || ',';
    END IF;
    IF strpos(noted, ',' || TG_RELID || ',') > 0 THEN
        RETURN NULL;
    END IF;
    INSERT INTO %(schema)s.cache_change (relation) VALUES (TG_TABLE_NAME);
    PERFORM set_config('tiered_cache.noted', noted || TG_RELID || ',', true);
    RETURN NULL;
END
$body$
"""

# The version query as a function: its plan is made once per session, not once per request
# (40 instead of 60 µs; in between other work, when nothing is in the processor's caches,
# 200 instead of 350).  Looking whether there is anything first saves a third of that; where
# somebody is writing anything, in whatever database of the server, 70 of 118 µs.
#
# Without sequential scans (10 µs): that one plan knows neither how long the journal will be
# nor that few rows are new, and PostgreSQL then assumes a third of them.  It would read the
# whole journal at every look: 2 ms with 10,000 rows, 150 ms with a million.
_LOOK = """
CREATE OR REPLACE FUNCTION %(schema)s.cache_look(since xid8, running xid8[]) RETURNS text
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $body$
DECLARE
    standby bool := pg_is_in_recovery();
    changes json;
BEGIN
    IF standby THEN
        -- row by row: which of them were counted before is known by their ids only
        SELECT json_agg(json_build_array(id, xid::text, relation, token::text, 1)) INTO changes
          FROM %(schema)s.cache_change WHERE xid >= since;
    ELSIF EXISTS (SELECT FROM %(schema)s.cache_change WHERE xid >= since)
       OR EXISTS (SELECT FROM %(schema)s.cache_change WHERE xid = ANY(running))
    THEN
        -- summed up: after an import these may be very many
        SELECT json_agg(json_build_array(0, '0', relation, token::text, count)) INTO changes
          FROM (SELECT relation, mod(sum(token), 4611686018427387904) AS token, count(*)
                  FROM %(schema)s.cache_change WHERE xid >= since OR xid = ANY(running)
                 GROUP BY relation) AS sums;
    END IF;
    RETURN concat_ws('|', pg_current_xact_id_if_assigned() IS NOT NULL, pg_current_snapshot(),
        pg_backend_pid() || ' ' || pg_postmaster_start_time(), standby,
        (SELECT token FROM %(schema)s.cache_version WHERE relation = '#generation'), changes);
END
$body$
"""

_TRIGGERS = {
    'cache_change_insert': ("AFTER INSERT", "REFERENCING NEW TABLE AS changed_rows"),
    'cache_change_update': ("AFTER UPDATE", "REFERENCING NEW TABLE AS changed_rows"),
    'cache_change_delete': ("AFTER DELETE", "REFERENCING OLD TABLE AS changed_rows"),
    'cache_change_truncate': ("AFTER TRUNCATE", ""),
}


def install(cr) -> None:
    """Create the journal, or what is missing of it.

    Where all of it exists nothing is locked: an upgrade of the module must not wait for the
    writers of other tables, nor make them wait.
    """
    for table, statement in _TABLES.items():
        cr.execute("SELECT to_regclass(%s)", [table])
        if not cr.fetchone()[0]:
            cr.execute(statement)
    cr.execute("SELECT current_schema()")
    schema = SQL.identifier(cr.fetchone()[0])
    cr.execute(SQL(_FUNCTION, schema=schema))
    cr.execute(SQL(_LOOK, schema=schema))


def uninstall(cr) -> None:
    """Remove every trigger, function and table of the journal."""
    cr.execute(
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger"
        " WHERE tgfoid = to_regproc('cache_change_note') ORDER BY 1, 2"
    )
    for table, name in cr.fetchall():
        cr.execute(
            SQL("DROP TRIGGER %s ON %s", SQL.identifier(name), SQL(table)), log_exceptions=False
        )
    cr.execute("DROP FUNCTION IF EXISTS cache_change_note()")
    cr.execute("DROP FUNCTION IF EXISTS cache_look(xid8, xid8[])")
    cr.execute("DROP TABLE IF EXISTS cache_change, cache_version")


def _new_generation(cr) -> None:
    """Make every process read all versions again at its next look."""
    cr.execute(f"UPDATE cache_version SET token = {RANDOM_TOKEN} WHERE relation = %s", [GENERATION])


def guard(cr, relation: str, capture: str = 'triggers') -> bool:
    """Guard one ordinary table, in a transaction of its own that the caller commits.

    The caller sets a short ``lock_timeout``: the lock taken here lets readers pass, and
    makes writers wait only while this transaction waits for earlier writers.

    :param relation: name of a table in the current schema
    :param capture: ``'triggers'``, or ``'orm'`` where the database forbids triggers; the
        ORM hooks then write the journal and raw SQL is not seen
    :return: False when another process is guarding or compacting: try again later
    :raise psycopg2.Error: lock timeout, missing table, missing right
    """
    if not _try_lock(cr):
        return False
    if capture == 'triggers':
        _create_triggers(cr, relation)
    # a new random token also when the relation was guarded before: what happened while
    # it was not is unknown, so no version from before may ever be equal again
    cr.execute(
        f"""
        INSERT INTO cache_version (relation, relid, capture)
        VALUES (%s, to_regclass(quote_ident(%s))::oid, %s)
        ON CONFLICT (relation) DO UPDATE
        SET token = {RANDOM_TOKEN}, relid = excluded.relid, capture = excluded.capture,
            guarded_at = clock_timestamp()
    """,
        [relation, relation, capture],
    )
    _new_generation(cr)
    return True


def _create_triggers(cr, relation: str) -> None:
    table = SQL.identifier(relation)
    # one lock for all four, so that nothing can write between two of them
    # not logged as a bad query: a table that is busy is tried again later
    cr.execute(SQL("LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE", table), log_exceptions=False)
    cr.execute(
        "SELECT tgname, tgenabled FROM pg_trigger"
        " WHERE tgrelid = to_regclass(quote_ident(%s)) AND NOT tgisinternal",
        [relation],
    )
    enabled = dict(cr.fetchall())
    for name, (event, transition) in _TRIGGERS.items():
        trigger = SQL.identifier(name)
        if name not in enabled:
            cr.execute(
                SQL(
                    "CREATE TRIGGER %s %s ON %s %s FOR EACH STATEMENT"
                    " EXECUTE FUNCTION cache_change_note()",
                    trigger,
                    SQL(event),
                    table,
                    SQL(transition),
                )
            )
        elif enabled[name] not in ('O', 'A'):
            # not DROP and CREATE: DROP TRIGGER would wait for readers and stop them
            cr.execute(SQL("ALTER TABLE %s ENABLE TRIGGER %s", table, trigger))


def release(cr, relation: str) -> None:
    """Make entries that depend on a relation invalid for good; its triggers stay."""
    cr.execute("DELETE FROM cache_version WHERE relation = %s", [relation])
    _new_generation(cr)


def drop_triggers(cr, relation: str) -> None:
    """Remove the triggers of a released relation.

    Takes an ACCESS EXCLUSIVE lock: the caller sets a short ``lock_timeout``, and commits
    the release first, so that triggers without a version row are the worst outcome.
    """
    cr.execute(
        "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(quote_ident(%s))"
        " AND tgfoid = to_regproc('cache_change_note')",
        [relation],
    )
    for (name,) in cr.fetchall():
        # not logged as a bad query: a table that is busy keeps them
        cr.execute(
            SQL("DROP TRIGGER %s ON %s", SQL.identifier(name), SQL.identifier(relation)),
            log_exceptions=False,
        )


def unguard(cr, relation: str) -> bool:
    """Release a relation and remove its triggers, in one transaction that the caller commits.

    Nobody can guard it meanwhile: a version row without triggers would be trusted, wrongly.

    Takes an ACCESS EXCLUSIVE lock: the caller sets a short ``lock_timeout``.

    :return: False when another process is guarding or compacting: try again later
    :raise psycopg2.Error: lock timeout; nothing has changed then
    """
    if not _try_lock(cr):
        return False
    drop_triggers(cr, relation)
    release(cr, relation)
    return True


def count_changes(cr) -> dict[str, int]:
    """How many transactions have changed each relation since the last compaction; for figures."""
    cr.execute(
        "SELECT relation, count(*) FROM cache_change"
        " WHERE strpos(relation, ':') = 0 AND relation NOT LIKE '#%%' GROUP BY relation"
    )
    return dict(cr.fetchall())


def broken_guards(cr) -> list[str]:
    """Guarded relations whose triggers are missing, disabled, or of another table."""
    cr.execute("""
        SELECT v.relation
          FROM cache_version v
         WHERE v.capture = 'triggers' AND v.relation NOT LIKE '#%%' AND v.relation NOT LIKE '%%:%%'
           AND (v.relid IS DISTINCT FROM to_regclass(quote_ident(v.relation))::oid
                OR 4 > (SELECT count(*) FROM pg_trigger t
                         WHERE t.tgrelid = v.relid AND t.tgenabled IN ('O', 'A')
                           AND t.tgfoid = to_regproc('cache_change_note')))
         ORDER BY 1
    """)
    return [relation for (relation,) in cr.fetchall()]


def existing(cr, relations) -> list[str]:
    """Those of some relations that are there."""
    cr.execute(
        "SELECT name FROM unnest(%s::text[]) AS name"
        " WHERE to_regclass(quote_ident(name)) IS NOT NULL",
        [list(relations)],
    )
    return [name for (name,) in cr.fetchall()]


GONE = 'the table is gone'
"""Of :func:`guard_problems`: nobody can read it, so it does no harm.  Maintenance releases it."""

_TRIGGER_TYPES = {
    'cache_change_insert': 4,
    'cache_change_update': 16,
    'cache_change_delete': 8,
    'cache_change_truncate': 32,
}
"""``pg_trigger.tgtype`` of a statement-level AFTER trigger; source: PostgreSQL,
``src/include/catalog/pg_trigger.h``."""


def guard_problems(cr) -> dict[str, str]:
    """What is wrong with guards, in words, by relation; looks closer than
    :func:`broken_guards`, at what each trigger does."""
    cr.execute(
        """
        SELECT v.relation, v.relid IS DISTINCT FROM v.now, v.now IS NULL,
               coalesce(json_object_agg(t.tgname, CASE
                   WHEN t.tgenabled NOT IN ('O', 'A') THEN 'disabled'
                   WHEN t.tgfoid IS DISTINCT FROM to_regproc('cache_change_note')
                     OR t.tgtype <> (%(types)s::json ->> t.tgname)::int
                     OR t.tgqual IS NOT NULL OR t.tgattr::text <> ''
                   THEN 'altered' ELSE '' END) FILTER (WHERE t.tgname IS NOT NULL), '{}')
          FROM (SELECT relation, relid, to_regclass(quote_ident(relation))::oid AS now
                  FROM cache_version
                 WHERE capture = 'triggers' AND relation NOT LIKE '#%%'
                   AND strpos(relation, ':') = 0) AS v
          LEFT JOIN pg_trigger t ON t.tgrelid = v.relid AND NOT t.tgisinternal
                                AND t.tgname = ANY(%(names)s)
         GROUP BY v.relation, v.relid, v.now ORDER BY v.relation
    """,
        {'types': json.dumps(_TRIGGER_TYPES), 'names': list(_TRIGGERS)},
    )
    found = {}
    for relation, is_other, is_gone, triggers in cr.fetchall():
        if is_gone:
            found[relation] = GONE
        elif is_other:
            found[relation] = 'it is another table of the same name'
        else:
            wrong = [f'{triggers.get(name, "missing")}: {name}' for name in _TRIGGERS
                     if triggers.get(name, 'missing')]  # fmt: skip
            if wrong:
                found[relation] = 'triggers are not as they were made (' + ', '.join(wrong) + ')'
    return found


def altered_functions(cr) -> list[str]:
    """Functions of the journal that are missing, or not as :func:`install` makes them."""
    cr.execute("SELECT current_schema()")
    schema = SQL.identifier(cr.fetchone()[0])
    found = []
    for name, statement in (('cache_change_note', _FUNCTION), ('cache_look', _LOOK)):
        cr.execute(
            "SELECT prosrc, prosecdef, proconfig FROM pg_proc WHERE oid = to_regproc(%s)", [name]
        )
        row = cr.fetchone()
        head, body, _end = SQL(statement, schema=schema).code.split('$body$')
        setting = head.rpartition(' SET ')[2].removesuffix(' AS ').replace(' = ', '=')
        if row != (body, 'SECURITY DEFINER' in head, [setting]):
            found.append(name)
    return found


def note(cr, relations) -> None:
    """Journal a change of relations, in the caller's transaction."""
    relations = sorted(set(relations))
    if relations:
        cr.execute("INSERT INTO cache_change (relation) SELECT unnest(%s)", [relations])


# The last: of another cluster, from which nobody has a snapshot here.
_SETTLED = """(strpos(relation, ':') = 0 OR xid < %(seen)s::xid8
               OR xid >= pg_snapshot_xmax(pg_current_snapshot()))"""


def compact(cr, removal_ttl_s: float) -> int | None:
    """Sum the visible journal rows into ``cache_version`` and delete them.

    One statement, so every snapshot sees either all of it or nothing: the sum of a
    relation is the same before and after.  That is why rows need not be older than the
    snapshots that are running, and why a writer that stays open for an hour does not
    stop compaction.  What a process must not do is to add to old sums only the rows that
    it can still find; ``#generation`` changes in the same statement and tells it so.

    Removals (:data:`REMOVALS`) are summed up as well, one row for each key, pattern, tag or
    user, but not before the last transaction has ended that does not see them: it may
    still store what it has computed without them.  From then on nothing older is made,
    and when even that has expired, the row is dropped.

    :param removal_ttl_s: the longest life of any entry, in seconds
    :return: how many rows went, or None when another process holds the lock
    """
    if not _try_lock(cr):
        return None
    cr.execute(
        f"""
        WITH repeated AS (
            SELECT relation FROM cache_change WHERE NOT {_SETTLED}
             GROUP BY relation HAVING count(*) > 1
        ), gone AS (
            DELETE FROM cache_change
             WHERE {_SETTLED} OR relation IN (SELECT relation FROM repeated)
            RETURNING relation, token, xid, {_SETTLED} AS settled
        ), merged AS (
            -- what has to wait does so in one row, as the last of it: the journal stays short
            INSERT INTO cache_change (xid, relation, token)
            SELECT max(xid::text::bigint)::text::xid8, relation, mod(sum(token), {MODULUS})::bigint
              FROM gone WHERE NOT settled GROUP BY relation
        ), sums AS (
            SELECT relation, mod(sum(token), {MODULUS})::bigint AS token
              FROM gone WHERE settled GROUP BY relation
        ), folded AS (
            UPDATE cache_version v
               SET token = mod(v.token::numeric + s.token, {MODULUS})::bigint,
                   guarded_at = CASE WHEN v.capture = 'removal' THEN clock_timestamp()
                                     ELSE v.guarded_at END
              FROM sums s WHERE s.relation = v.relation
        ), kept AS (
            INSERT INTO cache_version (relation, token, capture)
            SELECT relation, token, 'removal' FROM sums s
             WHERE strpos(relation, ':') > 0
               AND NOT EXISTS (SELECT FROM cache_version v WHERE v.relation = s.relation)
        ), dropped AS (
            DELETE FROM cache_version v
             WHERE v.capture = 'removal'
               AND v.guarded_at < clock_timestamp() - make_interval(secs => %(ttl)s)
               AND NOT EXISTS (SELECT FROM sums s WHERE s.relation = v.relation)
            RETURNING relation
        ), marked AS (
            UPDATE cache_version SET token = {RANDOM_TOKEN}
             WHERE relation = %(generation)s
               AND (EXISTS (SELECT FROM gone) OR EXISTS (SELECT FROM dropped))
        )
        SELECT count(*) FROM gone
    """,
        {'ttl': float(removal_ttl_s), 'generation': GENERATION, 'seen': str(_seen_by_all(cr))},
    )
    (count,) = cr.fetchone()
    # last: this transaction may have the newest id of all, which would look settled above
    _fold_removals(cr)
    return count


def _seen_by_all(cr) -> int:
    """An id of a transaction: what has committed below it, every snapshot in use shows.

    ``backend_xmin`` has 32 bits and is not above our own id, which has 64.  Snapshots of a
    standby are among them only with ``hot_standby_feedback``; without it a standby cancels
    what is older than ``max_standby_streaming_delay``, 30 s unless it was changed.
    """
    cr.execute(
        """
        SELECT pg_current_xact_id()::text, array_agg(xmin::text) FROM (
            SELECT backend_xmin FROM pg_stat_activity WHERE datname = current_database()
            UNION ALL SELECT backend_xmin FROM pg_stat_replication
            UNION ALL SELECT xmin FROM pg_replication_slots WHERE active
        ) AS holders(xmin) WHERE xmin IS NOT NULL
    """
    )
    own, holders = cr.fetchone()
    own = int(own)
    return min((own - (own - int(xmin)) % 2**32 for xmin in holders or ()), default=own)


# What a removal may meet.  A pattern begins with a text; where that may be the beginning of calls
# and of named entries, only everything is large enough.
_FOLD = f"""
CASE WHEN starts_with(relation, '{TAG}') THEN '{ALL_TAGS}'
     WHEN starts_with(relation, '{USER}') THEN '{ALL_USERS}'
     WHEN starts_with(relation, '{KEY}{CALLS}') OR starts_with(relation, '{PATTERN}{CALLS}')
     THEN '{ALL_CALLS}'
     WHEN starts_with(relation, '{PATTERN}')
      AND starts_with('{CALLS}', substring(relation FROM '^{PATTERN}([^][*?]*)')) THEN '{ALL}'
     ELSE '{ALL_NAMED}' END
"""


def _fold_removals(cr) -> None:
    """Make one removal out of very many, which meets all that they meet and little else: nobody
    who removes named entries by the thousand makes the reads of the ORM start anew.

    It is a removal like any other, and is kept as long.  What was counted with the tokens of
    those that go, is met by the token that comes.
    """
    cr.execute(
        f"""
        SELECT starts_with(relation, %s), {_FOLD} AS fold, count(*) FROM (
            SELECT relation FROM cache_change WHERE strpos(relation, ':') > 0
            UNION SELECT relation FROM cache_version WHERE capture = 'removal'
        ) AS names WHERE relation <> {_FOLD} GROUP BY 1, 2
    """,
        [PATTERN],
    )
    folds = _too_many(cr.fetchall())
    if not folds:
        return
    cr.execute(
        f"""
        WITH gone AS (
            DELETE FROM cache_change WHERE strpos(relation, ':') > 0 AND {_FOLD} = ANY(%(folds)s)
        ), forgotten AS (
            DELETE FROM cache_version WHERE capture = 'removal' AND {_FOLD} = ANY(%(folds)s)
        )
        INSERT INTO cache_change (relation) SELECT unnest(%(folds)s)
    """,
        {'folds': folds},
    )
    _new_generation(cr)


def _too_many(counts) -> list[str]:
    """What to fold, so that no more are left than may be.

    :param counts: whether they are patterns, what they would become, how many there are
    """
    folds = set()
    for patterns, limit in ((True, MAX_REMOVALS), (False, MAX_NAMED)):
        groups = [(fold != ALL, count, fold) for kind, fold, count in counts if kind is patterns]
        left = sum(count for _some, count, _fold in groups)
        for _some, count, fold in sorted(groups, reverse=True):
            if left <= limit:
                break
            folds.add(fold)
            left -= count
    return sorted(folds)


def has_foreign_rows(cr) -> bool:
    """Whether the journal came from another cluster, by a restore: its transaction ids lie in
    the future then, and would be taken for news at every look until they are compacted."""
    cr.execute(
        "SELECT EXISTS(SELECT FROM cache_change"
        " WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))"
    )
    return cr.fetchone()[0]


def _try_lock(cr) -> bool:
    cr.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
    return cr.fetchone()[0]


def is_lock_timeout(error: Exception) -> bool:
    """Whether a guard only has to be tried again later."""
    return isinstance(
        error,
        (
            psycopg2.errors.LockNotAvailable,
            psycopg2.errors.DeadlockDetected,
            psycopg2.errors.QueryCanceled,
        ),
    )
