"""Whether this process can do its work, for load balancers and for people.

The one idea: a load balancer needs one bit.  It is *no* only where this process cannot answer reads
as it should: the cache does not run here, or the database cannot be asked.  A tier that is down is
not a reason to take a process away: reads are answered all the same, which people are told as
*degraded*.

What may go wrong: the database is away altogether.  Then Odoo itself answers, with an error too.
"""

from __future__ import annotations

import psycopg2

OK, DEGRADED, OFF, FAILED = 'ok', 'degraded', 'off', 'failed'

STATUS = {OK: 200, DEGRADED: 200, OFF: 200, FAILED: 503}
"""By state.  Switched off in Settings is what somebody wants."""


def look(engine, env) -> str:
    """The state of this process; asks PostgreSQL one short question."""
    if engine is None:
        return FAILED
    try:
        env.cr.execute('SELECT 1', log_exceptions=False)
    except psycopg2.Error:
        return FAILED
    if not engine.settings.enabled:
        return OFF
    if not all(tier.is_up for tier in engine.hierarchy.tiers.values()):
        return DEGRADED
    return DEGRADED if engine.settings.problems or engine.guards.errors else OK


FOR_ADMINISTRATORS = ('suspended', 'problems')
"""Of :func:`details`: names of models and methods, and of options."""


def details(engine, env) -> dict:
    """What people are told who may look at the cache; of some of it only administrators.

    :return: ``tiers`` (by name: state, since when it is down in epoch seconds, kind of the last
        fault, by kind how many faults), ``guards`` (guarded, waiting, failed), ``breaker`` (by
        tier 'closed' or 'open'), ``lag`` (journal rows not summed up; seconds a replica is behind;
        jobs that the background has dropped), ``problems`` (of Settings)
    """
    tiers = {name: _tier(tier) for name, tier in engine.hierarchy.tiers.items()}
    guards = engine.guards.stats()
    env.cr.execute(
        "SELECT (SELECT count(*) FROM cache_change),"
        " (SELECT count(*) FROM cache_version WHERE capture <> 'removal' AND relid IS NOT NULL),"
        " CASE WHEN pg_is_in_recovery()"
        " THEN extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float8 END"
    )
    journal_rows, guarded, replica_s = env.cr.fetchone()
    return {
        'tiers': tiers,
        'guards': {
            'guarded': guarded,
            'waiting': guards['waiting'],
            'failed': len(guards['errors']),
        },
        'breaker': {
            name: 'closed' if tier.is_up else 'open'
            for name, tier in engine.hierarchy.tiers.items()
        },
        'lag': {
            'journal_rows': journal_rows,
            'replica_s': replica_s,
            'dropped_jobs': engine.outbox.dropped,
        },
        'suspended': ['.'.join(name) for name in engine.suspender.names()],
        'problems': list(engine.settings.problems),
    }


def _tier(tier) -> dict:
    known = tier.health() if hasattr(tier, 'health') else {}
    return {
        'state': known.get('state') or ('up' if tier.is_up else 'down'),
        'since': known.get('since'),
        'last_fault': known.get('last_fault'),
        'faults': dict(tier.faults),
    }
