"""What the cache tells Prometheus, for the whole installation.

The one idea: the tables in which the figures of all processes meet (``cache_total``,
``cache_metric``, ``cache_worker``) are summed up from the rows of days, which hold everything since
the addon was installed.  What is removed with old days stands in a row of its own
(``granularity = 'ever'``, see :func:`.rollup.retire`), so a counter never falls.

Models are told in *groups*: the first word of their names (``product`` of ``product.template``), of
models that this database has.  Their number depends on the apps that are installed, not on what
anybody asks for; named entries are one group, whatever else is another.

What may go wrong: figures are up to ``metrics_flush_s`` old.
"""

from __future__ import annotations

import collections

from . import pool_figures
from .exposition import Family, source
from .latency import BINS, BOUNDS_MS, add, new_bins
from .metrics import HITS, REASONS

LEVELS = ('day', 'ever')
"""Granularities that together hold each event once."""

NAMED, OTHER = 'named', 'other'

TIERS = (*HITS, 'computed')

_UP = frozenset(('on', 'up', 'partly down'))


@source
def calls(engine, env):
    """Calls by tier, misses by reason, and how long they took."""
    env.cr.execute(
        """
        SELECT outcome, reason, sum(count)::float8, sum(calls)::float8, sum(saved_ms),
               sum(saved_queries)::float8, sum(bytes)::float8, sum(audited)::float8,
               sum(differences)::float8, sum(duration_ms)
          FROM cache_total WHERE granularity = ANY(%s) GROUP BY 1, 2
        """,
        [list(LEVELS)],
    )
    by_tier = dict.fromkeys(TIERS, 0)
    by_reason = dict.fromkeys(REASONS, 0)
    took_s = dict.fromkeys(TIERS, 0.0)
    sums = collections.Counter()
    names = ('saved_ms', 'saved_queries', 'bytes', 'audited', 'differences')
    for outcome, reason, count, called, *rest, duration_ms in env.cr.fetchall():
        sums.update(dict(zip(names, (value or 0 for value in rest), strict=True)))
        if outcome in by_tier:
            by_tier[outcome] += int(called)
            took_s[outcome] += (duration_ms or 0.0) / 1000
        if outcome == 'computed' and reason in by_reason:
            by_reason[reason] += int(count)
        if outcome == 'change':
            sums['changes'] += count

    def counter(name: str, help_: str, value, for_users: bool = False) -> Family:
        name = f'tiered_cache_{name}_total'
        return Family(name, 'counter', help_, [({}, value)], for_users)

    yield Family(
        'tiered_cache_calls_total',
        'counter',
        "Read calls by what answered: a tier, or computed.",
        [({'tier': tier}, count) for tier, count in by_tier.items()],
        for_users=True,
    )
    yield Family(
        'tiered_cache_misses_total',
        'counter',
        "Read calls that were computed, by reason.",
        [({'reason': reason}, count) for reason, count in by_reason.items()],
        for_users=True,
    )
    yield counter('saved_seconds', "Time that hits have saved.", sums['saved_ms'] / 1000)
    yield counter('saved_queries', "Queries that hits have saved.", int(sums['saved_queries']))
    yield counter('served_bytes', "Bytes of hits, packed.", int(sums['bytes']))
    yield counter('audited', "Hits that were computed again.", int(sums['audited']), True)
    yield counter('differences', "Audited hits that were wrong.", int(sums['differences']), True)
    yield counter(
        'changes', "Transactions that changed a table, when summed up.", int(sums['changes'])
    )
    yield _durations(env.cr, took_s)


def _durations(cr, took_s: dict) -> Family:
    cr.execute(
        "SELECT outcome, latency FROM cache_total"
        " WHERE granularity = ANY(%s) AND latency IS NOT NULL",
        [list(LEVELS)],
    )
    histograms = {tier: new_bins() for tier in TIERS}
    for outcome, bins in cr.fetchall():
        if outcome in histograms and len(bins) == BINS:
            add(histograms[outcome], bins)
    bounds_s = [round(bound / 1000, 9) for bound in BOUNDS_MS] + [float('inf')]
    return Family(
        'tiered_cache_call_duration_seconds',
        'histogram',
        "How long read calls took, by what answered; those whose duration is known.",
        [
            ({'tier': tier}, (list(zip(bounds_s, bins, strict=True)), took_s[tier]))
            for tier, bins in histograms.items()
        ],
    )


@source
def groups(engine, env):
    """Calls by group of models, and faults by tier."""
    env.cr.execute(
        """
        SELECT CASE WHEN model = '' AND outcome = ANY(%s) THEN '' ELSE split_part(model, '.', 1)
               END, outcome, coalesce(reason, ''),
               CASE WHEN outcome = 'fault' THEN split_part(relation, ':', 1) ELSE '' END,
               sum(count)::float8
          FROM cache_metric WHERE granularity = ANY(%s) GROUP BY 1, 2, 3, 4
        """,
        [list(TIERS), list(LEVELS)],
    )
    known = {name.partition('.')[0] for name in env.registry.models}
    answered, missed, faults = (collections.Counter() for _ in range(3))
    for group, outcome, reason, tier, count in env.cr.fetchall():
        if outcome == 'fault':
            faults[tier if tier in (*HITS, 'engine') else OTHER] += int(count)
        if outcome not in TIERS:
            continue
        group = NAMED if not group else group if group in known else OTHER
        answered[group, outcome] += int(count)
        if outcome == 'computed':
            missed[group, reason if reason in REASONS else OTHER] += int(count)
    yield Family(
        'tiered_cache_group_calls_total',
        'counter',
        "Read calls by the first word of the model's name, and by what answered.",
        [({'group': g, 'tier': tier}, n) for (g, tier), n in sorted(answered.items())],
    )
    yield Family(
        'tiered_cache_group_misses_total',
        'counter',
        "Read calls that were computed, by the first word of the model's name, and by reason.",
        [({'group': g, 'reason': reason}, n) for (g, reason), n in sorted(missed.items())],
    )
    yield Family(
        'tiered_cache_faults_total',
        'counter',
        "Failures of a tier, or of the addon itself; plain reads have answered.",
        [({'tier': tier}, faults[tier]) for tier in (*HITS, 'engine', OTHER)],
        for_users=True,
    )


@source
def processes(engine, env):
    """What processes and tiers hold now."""
    workers = env['cache.worker']._alive()
    kinds = ('http', 'cron', 'gevent', 'threaded', 'other')

    def gauge(name: str, help_: str, column: str | None) -> Family:
        totals = dict.fromkeys(kinds, 0)
        for row in workers:
            totals[row['kind']] += int(row[column]) if column else 1
        samples = [({'kind': kind}, total) for kind, total in totals.items()]
        return Family(f'tiered_cache_{name}', 'gauge', help_, samples)

    yield gauge('processes', "Processes that are alive.", None)
    yield gauge('l1_entries', "Entries in the memory of processes.", 'l1_entries')
    yield gauge('l1_bytes', "Size of the entries in the memory of processes.", 'l1_bytes')
    yield gauge('memory_bytes', "Resident memory of processes.", 'memory_bytes')
    yield gauge('guards_waiting', "Tables that wait for their triggers.", 'guards_waiting')
    measured = [row for row in workers if row['measured']]
    measured = max(measured, key=lambda row: row['measured_at'])['measured'] if measured else {}
    tiers = {name: measured.get(name) or {} for name in ('l2', 'l3')}
    for what, help_ in (('entries', "Entries in a shared tier."), ('bytes', "Size of them.")):
        yield Family(
            f'tiered_cache_tier_{what}',
            'gauge',
            help_,
            [({'tier': n}, int(t[what])) for n, t in tiers.items() if t.get(what) is not None],
        )


@source
def pools(engine, env):
    """Connections of all processes to Redis and to other Odoos; by the names of these, which
    administrators choose."""
    found = collections.defaultdict(list)
    for row in env['cache.worker']._alive():
        details = row['details']
        found['redis'].append((details.get('redis') or {}).get('pool'))
        for name, stats in (details.get('remotes') or {}).items():
            found[f'remote:{name}'].append(stats.get('pool'))
    totals = {name: pool_figures.total(list(filter(None, some))) for name, some in found.items()}
    totals = {name: total for name, total in totals.items() if total}
    yield Family(
        'tiered_cache_pool_connections',
        'gauge',
        "Connections that are open, active, idle or healthy, and callers that wait in the queue.",
        [
            ({'pool': name, 'state': state}, total[state])
            for name, total in totals.items()
            for state in ('open', 'active', 'idle', 'healthy', 'queued')
        ],
    )
    for what, help_ in (
        ('created', "Connections that living processes have opened."),
        ('closed', "Connections that living processes have closed."),
        ('timeouts', "Callers of living processes that waited too long for a connection."),
    ):
        samples = [({'pool': name}, total[what]) for name, total in totals.items()]
        yield Family(f'tiered_cache_pool_{what}', 'gauge', help_, samples)
    for what, field, divisor, help_ in (
        ('acquire_mean_seconds', 'mean_acquire_ms', 1000, "Mean wait for a connection."),
        ('acquire_p95_seconds', 'p95_acquire_ms', 1000, "Wait of all but 5 % of the callers."),
        ('age_mean_seconds', 'mean_age_s', 1, "Mean age of the connections."),
    ):
        samples = [({'pool': name}, total[field] / divisor) for name, total in totals.items()]
        yield Family(f'tiered_cache_pool_{what}', 'gauge', f'{help_} The slowest process.', samples)


@source
def state(engine, env):
    """How this process does, and the journal."""
    yield Family(
        'tiered_cache_up',
        'gauge',
        "Whether reads are answered from the cache in the process that was asked.",
        [({}, int(engine is not None and engine.settings.enabled))],
        for_users=True,
    )
    if engine is not None:
        yield Family(
            'tiered_cache_tier_up',
            'gauge',
            "Whether the process that was asked may ask a tier: its breaker is closed.",
            [({'tier': n}, int(tier.is_up)) for n, tier in engine.hierarchy.tiers.items()],
            for_users=True,
        )
    env.cr.execute(
        "SELECT (SELECT count(*) FROM cache_change),"
        " (SELECT count(*) FROM cache_version WHERE capture <> 'removal' AND relid IS NOT NULL),"
        " coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0)::float8"
    )
    journal_rows, guarded, lag_s = env.cr.fetchone()
    yield Family('tiered_cache_journal_rows', 'gauge', "Not summed up yet.", [({}, journal_rows)])
    yield Family('tiered_cache_guarded_tables', 'gauge', "Tables with triggers.", [({}, guarded)])
    yield Family(
        'tiered_cache_replica_lag_seconds',
        'gauge',
        "Age of the last transaction that a replica has seen; 0 on a primary.",
        [({}, max(lag_s, 0.0))],
        for_users=True,
    )
