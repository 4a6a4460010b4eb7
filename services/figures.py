"""What the installation did: the figures of all processes, as they stand in ``cache_metric``.

The one idea: every process adds its figures to one table (:mod:`.metrics`), so whoever comes
from outside, as a command does, can sum up what all of them did.

What may go wrong: the last ``metrics_flush_s`` of each process are not there yet, and what is only
in the memory of a process (L1, memory pressure, what is suspended) is not there at all.
"""

from __future__ import annotations

from . import metrics

UNKNOWN = ('l1 entries', 'l1 bytes', 'memory pressure', 'suspended methods', 'outbox', 'versions')
"""What only the server processes know, each for itself; see ``cache.manager.get_stats``."""

_SINCE = "active AND bucket >= now() AT TIME ZONE 'utc' - make_interval(hours => %(hours)s)"

_TOTALS = f"""
SELECT min(bucket), coalesce(sum(calls), 0)::bigint, coalesce(sum(hits), 0)::bigint,
       coalesce(sum(saved_ms), 0), coalesce(sum(saved_queries), 0)::bigint,
       coalesce(sum(audited), 0)::bigint, coalesce(sum(differences), 0)::bigint
  FROM cache_metric WHERE {_SINCE}
"""

_PARTS = f"""
SELECT outcome, CASE WHEN outcome = 'computed' THEN reason
                     WHEN outcome IN ('fault', 'event') THEN relation ELSE '' END,
       sum(count)::bigint
  FROM cache_metric WHERE {_SINCE} AND outcome NOT IN ('audit', 'change', 'same')
 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""

_READS = f"""
SELECT model, method, sum(calls)::bigint, sum(hits)::bigint, sum(saved_ms),
       coalesce(sum(duration_ms) FILTER (WHERE outcome = 'computed'), 0)
  FROM cache_metric WHERE {_SINCE} AND outcome = ANY(%(calls)s) AND reason <> 'disabled'
 GROUP BY model, method
"""

_REASONS = f"""
SELECT model, method, reason, relation, sum(count)::bigint
  FROM cache_metric WHERE {_SINCE} AND outcome = 'computed'
   AND (model, method) IN (SELECT * FROM unnest(%(models)s, %(methods)s))
 GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 3, 4
"""

ORDERS = {
    'saved': lambda read: -read['saved_ms'],
    'missed': lambda read: -read['missed_ms'],
    'calls': lambda read: -read['calls'],
}
"""By what reads can be sorted."""


def totals(cr, hours: int) -> dict:
    """Sums over all processes.

    :param hours: how far back
    :return: ``since`` (datetime of the first figure, None without any), ``calls``, ``hits`` (by
        tier), ``hit_rate`` (0 to 1, None without calls), ``misses`` (by reason), ``saved_ms``,
        ``saved_queries``, ``audited``, ``differences``, ``faults``, ``events`` (by name)
    """
    cr.execute(_TOTALS, {'hours': hours})
    since, calls, hits, saved_ms, saved_queries, audited, differences = cr.fetchone()
    parts: dict[str, dict] = {'computed': {}, 'fault': {}, 'event': {}}
    by_tier = dict.fromkeys(metrics.HITS, 0)
    cr.execute(_PARTS, {'hours': hours})
    for outcome, name, count in cr.fetchall():
        if outcome in by_tier:
            by_tier[outcome] += count
        else:
            parts[outcome][name] = count
    return {
        'since': since,
        'calls': calls,
        'hits': by_tier,
        'hit_rate': hits / calls if calls else None,
        'misses': parts['computed'],
        'saved_ms': float(saved_ms),
        'saved_queries': saved_queries,
        'audited': audited,
        'differences': differences,
        'faults': parts['fault'],
        'events': parts['event'],
    }


def reads(cr, hours: int, order: str, limit: int) -> list[dict]:
    """The reads that matter most.

    :param order: one of ORDERS
    :return: ``model``, ``method``, ``calls``, ``hits``, ``hit_rate``, ``saved_ms``, ``missed_ms``
        (time spent on computing), ``reasons`` (why it was computed, most frequent first:
        ``reason``, ``count``, and ``detail``, the most frequent)
    """
    cr.execute(_READS, {'hours': hours, 'calls': list(metrics.CALLS)})
    found = [
        {
            'model': model,
            'method': method,
            'calls': calls,
            'hits': hits,
            'hit_rate': hits / calls if calls else None,
            'saved_ms': float(saved_ms),
            'missed_ms': float(missed_ms),
            'reasons': [],
        }
        for model, method, calls, hits, saved_ms, missed_ms in cr.fetchall()
    ]
    found.sort(key=lambda read: (ORDERS[order](read), read['model'], read['method']))
    found = found[:limit]
    _add_reasons(cr, hours, found)
    return found


def _add_reasons(cr, hours: int, found: list[dict]) -> None:
    by_name = {(read['model'], read['method']): read['reasons'] for read in found}
    if not by_name:
        return
    models, methods = map(list, zip(*by_name, strict=True))
    cr.execute(_REASONS, {'hours': hours, 'models': models, 'methods': methods})
    for model, method, reason, detail, count in cr.fetchall():
        reasons = by_name[model, method]
        known = next((known for known in reasons if known['reason'] == reason), None)
        if known is None:
            reasons.append({'reason': reason, 'count': count, 'detail': detail})
        else:
            known['count'] += count
    for reasons in by_name.values():
        reasons.sort(key=lambda known: (-known['count'], known['reason']))
