"""Is the cache of this database in order?  For ``odoo-bin cache check``.

The one idea: what the promises rest on (triggers, functions, tables, the mark of compaction,
tiers within their limits, background work that happens) is looked at where it is, in the
catalogue and in the tables, and each thing found becomes a :class:`Finding`, a sentence.

What may go wrong: it looks from one process at one moment.  What is in the memory of the server
processes is not seen; a table that is being rewritten keeps it waiting for its lock.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator

import psycopg2

from odoo.tools import SQL

from . import configuration, journal, redis_probe, versions

OK, WARNING, ERROR = 'ok', 'warning', 'error'
AREAS = ('settings', 'guards', 'journal', 'tiers', 'entries')

_LONG = 10
"""A journal that is so many times longer than what compaction allows is not compacted."""

_LIMIT_SLACK = 1.1
"""Limits are restored from time to time, not with each entry."""

_OVERDUE_S = 3600
"""The scheduled action runs every ten minutes where scheduled actions run at all."""

_COLUMNS = {
    'cache_change': {'id', 'xid', 'token', 'relation', 'changed_at', 'rows_changed'},
    'cache_version': {'relation', 'token', 'relid', 'capture', 'guarded_at'},
}


class Finding(typing.NamedTuple):
    """:param area: one of AREAS
    :param level: 'ok', 'warning' (it costs hits) or 'error' (it costs truth, or the cache)
    :param text: a sentence, with what to do where something is
    """

    area: str
    level: str
    text: str


def inspect(engine, cr) -> Iterator[Finding]:
    """Look at settings, guards, journal and tiers.

    :param cr: a cursor whose transaction has not written
    """
    for area, look in (
        ('settings', _settings),
        ('guards', _guards),
        ('journal', _journal),
        ('tiers', _tiers),
    ):
        for level, text in look(engine, cr):
            yield Finding(area, level, text)


def _settings(engine, cr):
    settings = engine.settings
    for problem in settings.problems:
        yield WARNING, problem
    if not settings.enabled:
        yield WARNING, "The cache is switched off (enabled is false): every read is computed."
    cr.execute(
        "SELECT model, methods FROM cache_rule WHERE active AND NOT enabled AND sequence = -1"
    )
    for model, methods in cr.fetchall():
        yield (
            ERROR,
            f"The auditor found a wrong answer of {model}.{methods or '*'} and switched it off."
            " Look for it in the server's log; delete the rule when the cause is found.",
        )
    yield from _cron(cr)
    if settings.enabled and not settings.problems:
        yield OK, "The options are understood, and the cache is on."


def _cron(cr):
    cr.execute(
        """
        SELECT c.active, now() AT TIME ZONE 'utc' - c.nextcall > make_interval(secs => %s)
          FROM ir_cron c JOIN ir_model_data d ON d.model = 'ir.cron' AND d.res_id = c.id
         WHERE d.module = 'tiered_cache' AND d.name = 'ir_cron_maintain'
    """,
        [_OVERDUE_S],
    )
    row = cr.fetchone()
    if row is None or not row[0]:
        yield (
            WARNING,
            "The scheduled action \"Tiered Cache: Maintenance\" is missing or switched off:"
            " expired entries and old figures stay. Switch it on, or upgrade the module.",
        )
    elif row[1]:
        yield (
            WARNING,
            "The scheduled action \"Tiered Cache: Maintenance\" is more than an hour late. Does a"
            " server run with --max-cron-threads of at least 1?",
        )


# -- guards ----------------------------------------------------------------------------


def _guards(engine, cr):
    altered = journal.altered_functions(cr)
    for name in altered:
        yield (
            ERROR,
            f"The function {name} is not the one that this version of the module installs."
            " Upgrade the module (-u tiered_cache).",
        )
    listed = guards(engine, cr)
    gone = [guard for guard in listed if guard['problem'] == journal.GONE]
    for guard in gone:
        yield WARNING, f"Table {guard['relation']}: {guard['problem']}; maintenance releases it."
    broken = [guard for guard in listed if guard['problem'] and guard not in gone]
    for guard in broken:
        yield (
            ERROR,
            f"Table {guard['relation']}: {guard['problem']}. Changes of it may go unnoticed: run"
            " \"cache guards --repair\".",
        )
    by_orm = [guard['relation'] for guard in listed if guard['capture'] == 'orm']
    if by_orm:
        yield (
            WARNING,
            f"{len(by_orm)} tables are watched by Odoo's ORM only, not by triggers: changes by"
            " plain SQL of other programs are not seen.",
        )
    for relation, count, reason in failing(engine, cr):
        yield (
            WARNING,
            f"Table {relation} is not guarded, and {count} reads of the last day were not kept"
            f" for that: {reason}.",
        )
    if not altered and not broken:
        yield OK, f"{len(listed)} tables are guarded; their triggers and functions are as made."


def guards(engine, cr) -> list[dict]:
    """The guarded relations.

    :return: ``relation``, ``since`` (datetime), ``capture`` ('triggers' or 'orm'), ``problem``
        (words, '' for none)
    """
    problems = journal.guard_problems(cr)
    cr.execute(
        "SELECT relation, guarded_at AT TIME ZONE 'utc', capture FROM cache_version"
        " WHERE relation NOT LIKE '#%%' AND strpos(relation, ':') = 0 ORDER BY relation"
    )
    return [
        {
            'relation': relation,
            'since': since.replace(microsecond=0),
            'capture': capture,
            'problem': problems.get(relation, ''),
        }
        for relation, since, capture in cr.fetchall()
    ]


def failing(engine, cr) -> list[tuple[str, int, str]]:
    """Relations for whose sake reads of the last day were not kept, and which are still not
    guarded.

    :return: relation, number of reads, a reason in words
    """
    cr.execute(
        """
        SELECT m.relation, sum(m.count),
               CASE WHEN to_regclass(quote_ident(m.relation)) IS NULL
                    THEN 'there is no such table any more'
                    WHEN NOT has_table_privilege(to_regclass(quote_ident(m.relation)), 'TRIGGER')
                    THEN 'the database role of Odoo may not create triggers on it'
                    ELSE 'it is tried again; long transactions may be in the way' END
          FROM cache_metric m
         WHERE m.active AND m.reason = 'unguarded' AND m.relation <> ''
           AND m.bucket > now() AT TIME ZONE 'utc' - interval '1 day'
           AND NOT EXISTS (SELECT FROM cache_version v WHERE v.relation = m.relation)
         GROUP BY m.relation ORDER BY 2 DESC, 1
    """
    )
    return [(relation, int(count), reason) for relation, count, reason in cr.fetchall()]


# -- journal ---------------------------------------------------------------------------


def _journal(engine, cr):
    missing = list(_missing_columns(cr))
    for text in missing:
        yield ERROR, text + " Upgrade the module (-u tiered_cache)."
    if missing:
        return
    faults = [*_bounds(cr), *_versions(cr)]
    for text in faults:
        yield ERROR, text
    figures = journal_figures(cr)
    limit = engine.settings.compaction_rows
    if figures['rows'] > _LONG * limit:
        yield (
            WARNING,
            f"The journal has {figures['rows']} rows, and is compacted from {limit} on. Does a"
            " server run on this database?",
        )
    if journal.has_foreign_rows(cr):
        yield (
            WARNING,
            "The journal has rows of another database cluster, from a restore. They are summed up"
            " when the next server starts.",
        )
    if not faults:
        yield (
            OK,
            f"{figures['rows']} rows wait for compaction, {figures['removals']} removals are"
            " remembered; tokens and marks are within their bounds.",
        )


def _missing_columns(cr):
    cr.execute(
        """
        SELECT t.name, c.relpersistence, array_agg(a.attname::text)
          FROM unnest(%s) AS t(name)
          LEFT JOIN pg_class c ON c.oid = to_regclass(t.name)
          LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         GROUP BY 1, 2 ORDER BY 1
    """,
        [list(_COLUMNS)],
    )
    for table, persistence, columns in cr.fetchall():
        if persistence is None:
            yield f"The table {table} is missing."
        elif absent := _COLUMNS[table] - set(columns):
            yield f"The table {table} lacks the columns {', '.join(sorted(absent))}."
        elif persistence != 'p':
            # what was committed could be gone after a crash while the data is there
            yield f"The table {table} must be an ordinary, logged table."


def _bounds(cr):
    """Tokens that cannot be, and reserved rows that are not there."""
    for table in _COLUMNS:
        cr.execute(
            SQL(
                "SELECT count(*) FROM %s WHERE token < 0 OR token >= %s",
                SQL.identifier(table),
                journal.MODULUS,
            )
        )
        (count,) = cr.fetchone()
        if count:
            yield (
                f"{count} tokens in {table} are out of bounds. Run \"cache invalidate --all\" and"
                " upgrade the module."
            )
    reserved = [journal.GENERATION, journal.ALL]
    cr.execute("SELECT relation FROM cache_version WHERE relation = ANY(%s)", [reserved])
    present = {relation for (relation,) in cr.fetchall()}
    for name in reserved:
        if name not in present:
            yield (
                f"The row {name} of cache_version is missing: workers would not learn of"
                " compaction or removals. Insert it, then run \"cache invalidate --all\"."
            )


def _versions(cr):
    """Both ways to learn the versions, all at once and what is new, say the same."""
    book = versions.VersionBook()
    whole, step = book.look(cr), book.look(cr)
    if whole is None or step is None:
        return
    differing = {
        name
        for name in whole.versions.keys() | step.versions.keys()
        if whole.versions.get(name) != step.versions.get(name)
    }
    if differing or whole.removals.tokens != step.removals.tokens:
        yield (
            "The versions read at once and those read step by step differ"
            f" ({', '.join(sorted(differing)[:5]) or 'removals'}). Upgrade the module, then run"
            " \"cache invalidate --all\"."
        )


def journal_figures(cr) -> dict:
    """:return: ``rows``, ``oldest`` (datetime or None), ``guarded`` tables, ``removals``
    remembered, ``patterns`` among them, and how many of both may be (``max_…``)"""
    cr.execute(
        """
        SELECT (SELECT count(*) FROM cache_change),
               (SELECT min(changed_at) AT TIME ZONE 'utc' FROM cache_change),
               (SELECT count(*) FROM cache_version
                 WHERE relation NOT LIKE '#%%' AND strpos(relation, ':') = 0),
               count(*), count(*) FILTER (WHERE starts_with(relation, %s))
          FROM (SELECT relation FROM cache_version WHERE strpos(relation, ':') > 0
                UNION SELECT relation FROM cache_change WHERE strpos(relation, ':') > 0) AS removed
    """,
        [journal.PATTERN],
    )
    rows, oldest, guarded, removals, patterns = cr.fetchone()
    return {
        'rows': rows,
        'oldest': oldest and oldest.replace(microsecond=0),
        'guarded': guarded,
        'removals': removals,
        'patterns': patterns,
        'max_named': journal.MAX_NAMED,
        'max_patterns': journal.MAX_REMOVALS,
    }


# -- tiers -----------------------------------------------------------------------------


def _tiers(engine, cr):
    settings = engine.settings
    if settings.l1_max_entries and settings.l1_max_mb:
        yield (
            OK,
            f"L1: up to {settings.l1_max_entries} entries and {settings.l1_max_mb} MB in the"
            " memory of each server process, which cannot be seen from here.",
        )
    else:
        yield WARNING, "L1: switched off by its limits; each hit asks Redis or the database."
    yield from _redis(engine)
    yield from _database(engine, cr)


def _redis(engine):
    settings = engine.settings
    if not settings.redis_url:
        yield OK, "L2: no Redis is configured (as this command sees it)."
        return
    try:
        found = redis_probe.probe(
            settings.redis_url,
            prefix=configuration.redis_prefix(engine.config.uuid),
            timeout_ms=settings.redis_timeout_ms,
        )
    except redis_probe.ProbeError as error:
        yield ERROR, f"L2: {error}"
        return
    for advice in found['advice']:
        yield WARNING, f"L2: {advice}"
    stats = tier_figures(engine)['l2']
    yield from _over_limits('L2', stats)
    yield (
        OK,
        f"L2: {found['server']} {found['version'] or ''} answers in"
        f" {found['round_trip_ms']:.1f} ms, {stats['entries']} entries.",
    )


def _database(engine, cr):
    if not engine.settings.l3_enabled:
        yield OK, "L3: switched off."
        return
    cr.execute(
        """
        SELECT c.relpersistence, EXISTS(
                   SELECT FROM pg_index i JOIN pg_attribute a
                       ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
                      AND i.indnkeyatts = 1 AND i.indexprs IS NULL AND a.attname = 'key')
          FROM pg_class c WHERE c.oid = to_regclass('cache_entry')
    """
    )
    row = cr.fetchone()
    if row is None:
        yield ERROR, "L3: the table cache_entry is missing. Upgrade the module."
        return
    persistence, has_index = row
    if not has_index:
        yield ERROR, "L3: cache_entry has no unique index on key. Upgrade the module."
    if persistence != 'u':
        yield WARNING, "L3: cache_entry is not UNLOGGED, so writing to it costs twice as much."
    stats = tier_figures(engine)['l3']
    if stats['state'] != 'up':
        yield ERROR, f"L3: {stats['state']} ({stats['last_fault']})."
        return
    yield from _over_limits('L3', stats)
    yield OK, f"L3: {stats['entries']} entries, {stats['bytes']} bytes."


def _over_limits(name: str, stats: dict):
    for what in ('entries', 'bytes'):
        value, limit = stats.get(what), stats.get(f'max_{what}')
        if value and limit and value > limit * _LIMIT_SLACK:
            yield WARNING, f"{name}: {value} {what}, and {limit} are allowed."


def tier_figures(engine) -> dict[str, dict]:
    """What the shared tiers say of themselves, by name; see :meth:`.tiers.base.Tier.stats`."""
    figures = {}
    for name, tier in engine.hierarchy.tiers.items():
        if name != 'l1':
            tier.probe()
            figures[name] = tier.stats()
    return figures


def reason_of(error: psycopg2.Error) -> str:
    """The first line of what PostgreSQL says."""
    return str(error).strip().partition('\n')[0] or type(error).__name__
