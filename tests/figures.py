"""Figures of a busy office for tests of the dashboard: a month, a year.

The one idea: PostgreSQL makes them.  An office that never sleeps reads ten models, or a multiple of
that; the last two days are there by the minute, sixty days by the hour, the rest by the day, as the
addon itself would have left them.  With a seed, they are the same each time.

What may go wrong: a real installation is larger.  Then ``copies`` says by how much.
"""

from unittest.mock import patch

from ..services import rollup
from ..services.engine import engine_for
from ..services.latency import BINS
from ..services.metrics import KEY, SUMS
from ..services.sums import SumBook

MODELS = (
    'res.partner', 'sale.order', 'product.template', 'account.move', 'stock.picking',
    'product.product', 'sale.order.line', 'crm.lead', 'purchase.order', 'project.task',
)  # fmt: skip
METHODS = ('web_search_read', 'web_read', 'read', 'name_search')
RELATIONS = (
    'res_partner', 'sale_order', 'stock_quant', 'account_move', 'res_users', 'sale_order_line',
    'product_product', 'ir_attachment',
)  # fmt: skip

# outcome, reason, share of calls, duration and saved time of one call in ms
_KINDS = (
    ('l1', '', 60, 0.6, 24.0),
    ('l2', '', 18, 1.4, 22.0),
    ('l3', '', 7, 2.2, 30.0),
    ('computed', 'cold', 5, 26.0, 0.0),
    ('computed', 'stale', 5, 31.0, 0.0),
    ('computed', 'expired', 1, 28.0, 0.0),
    ('computed', 'evicted', 1, 27.0, 0.0),
    ('computed', 'dirty', 2, 12.0, 0.0),
    ('computed', 'cheap', 1, 1.1, 0.0),
)

_INSERT = f"""
INSERT INTO cache_metric (granularity, active, {', '.join(KEY)}, {', '.join(SUMS)})
SELECT %(level)s, TRUE, bucket, model, method, outcome, reason, relation,
       n, n, CASE WHEN outcome LIKE 'l_' THEN n ELSE 0 END,
       n * duration_ms * (0.7 + 0.6 * random()), n * saved_ms * (0.7 + 0.6 * random()),
       CASE WHEN outcome LIKE 'l_' THEN 9 * n ELSE 0 END, 4000 * n, 0, 0
  FROM (
    SELECT bucket, model, method, outcome, reason, duration_ms, saved_ms,
           CASE WHEN reason = 'stale'
                THEN (%(relations)s::varchar[])[1 + floor(%(few)s * random() ^ 2)::int]
                ELSE '' END AS relation,
           1 + floor(%(calls)s * share * (0.5 + random()) / models.nr)::int AS n
      FROM generate_series(%(first)s::timestamp, %(last)s::timestamp, %(step)s::interval) AS bucket,
           (SELECT name || CASE WHEN copy = 1 THEN '' ELSE copy::text END AS model,
                   copy * 10 + nr AS nr
              FROM unnest(%(models)s::varchar[]) WITH ORDINALITY AS m(name, nr),
                   generate_series(1, %(copies)s) AS copy) AS models,
           unnest(%(methods)s::varchar[]) AS method,
           (SELECT * FROM unnest(%(outcomes)s::varchar[], %(reasons)s::varchar[],
                   %(shares)s::int[], %(durations)s::float8[], %(saved)s::float8[])
              AS k(outcome, reason, share, duration_ms, saved_ms)) AS kinds
        -- with a part of each, or PostgreSQL would throw the dice once for all models
     WHERE random() < %(presence)s * share / 20.0
                      + 0 * (nr + length(method) + extract(epoch FROM bucket))
  ) AS events
"""

_LATENCY = """
UPDATE cache_total SET latency = (
    SELECT array_agg((count * exp(-power((bin - 12 + CASE outcome WHEN 'l1' THEN 5
        WHEN 'l2' THEN 2 WHEN 'l3' THEN 0 ELSE -7 END) / 3.0, 2)))::bigint ORDER BY bin)
      FROM generate_series(1, %s) AS bin)
 WHERE outcome IN ('l1', 'l2', 'l3') OR reason = ''
"""


def make_figures(cr, now, days=30, copies=1, seed=0.5):
    """Replace all figures by those of the last days.

    :param now: UTC, without a time zone
    :param copies: models in tens
    :return: rows of ``cache_metric``
    """
    cr.execute("SELECT setseed(%s); DELETE FROM cache_metric; DELETE FROM cache_total", [seed])
    params = {
        'models': list(MODELS),
        'copies': copies,
        'methods': list(METHODS),
        'relations': list(RELATIONS),
        'few': len(RELATIONS),
        **{
            name: [kind[index] for kind in _KINDS]
            for index, name in enumerate(('outcomes', 'reasons', 'shares', 'durations', 'saved'))
        },
    }
    minute_first = rollup.start_of('hour', now) - rollup.datetime.timedelta(days=2)
    hour_first = rollup.start_of('day', now) - rollup.datetime.timedelta(days=min(days, 60))
    day_first = rollup.start_of('day', now) - rollup.datetime.timedelta(days=days)
    step = rollup.datetime.timedelta
    for level, first, last, every, calls, presence in (
        ('minute', minute_first, now, '1 minute', 0.2, 0.35),
        ('hour', hour_first, minute_first - step(hours=1), '1 hour', 6, 8.0),
        ('day', day_first, hour_first - step(days=1), '1 day', 60, 20.0),
    ):
        if first <= last:
            params |= {'level': level, 'first': first, 'last': last, 'step': every}
            cr.execute(_INSERT, params | {'calls': calls, 'presence': presence})
    _add_levels(cr)
    cr.execute("ANALYZE cache_metric; ANALYZE cache_total; SELECT count(*) FROM cache_metric")
    return cr.fetchone()[0]


def _add_levels(cr):
    """The sums that a writer would have added to coarser rows."""
    sums = ', '.join(f'sum({name})' for name in SUMS)
    for finer, coarser in (('minute', 'hour'), ('hour', 'day')):
        cr.execute(
            f"INSERT INTO cache_metric (granularity, active, {', '.join(KEY)}, {', '.join(SUMS)})"
            f" SELECT %s, FALSE, date_trunc(%s, bucket), {', '.join(KEY[1:])}, {sums}"
            f" FROM cache_metric WHERE granularity = %s GROUP BY 3, {', '.join(KEY[1:])}",
            [coarser, coarser, finer],
        )
    cr.execute(  # pylint: disable=sql-injection  # names of columns
        f"INSERT INTO cache_total (granularity, bucket, outcome, reason, {', '.join(SUMS)})"
        f" SELECT granularity, bucket, outcome, reason, {sums} FROM cache_metric"
        " GROUP BY 1, 2, 3, 4"
    )
    cr.execute(
        "INSERT INTO cache_total (granularity, bucket, outcome, reason, count)"
        " SELECT granularity, bucket, outcome, '', sum(count) FROM cache_total"
        " WHERE outcome = 'computed' GROUP BY 1, 2, 3"
    )
    cr.execute(_LATENCY, [BINS])
    # the row of the histogram counts nothing by itself
    cr.execute("UPDATE cache_total SET count = 0 WHERE outcome = 'computed' AND reason = ''")


def leave_figures_alone(case):
    """The background thread of this process does not write figures while a test has them in a
    transaction of its own: it would wait for the test, and give up.  Nor sums of them."""
    engine = engine_for(case.registry)
    for stopped in (
        patch.object(engine, 'flush_metrics', lambda: None),
        patch.object(engine, 'sums', SumBook()),
        patch.object(engine.preparer, 'work', lambda: None),
    ):
        stopped.start()
        case.addClassCleanup(stopped.stop)
