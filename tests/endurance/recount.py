"""The aggregates once more, by SQL, from events as rows: the same statement in two databases.

Rows of `made` are events, those of `lines` the lines of orders. Nothing here is the service's: the
contract's words are spelled out anew, refunds' shares included. All sums are of integers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

#: (dimension, series, hour) -> counters other than 0.
Sums = dict[tuple[str, str, str], Counter[str]]

MADE: Final = """
CREATE TABLE made (id VARCHAR, topic VARCHAR, part BIGINT, log_offset BIGINT, type VARCHAR,
                   subject VARCHAR, seller VARCHAR, hour VARCHAR, currency VARCHAR,
                   total BIGINT, refunded BIGINT, amount BIGINT)
"""
LINES: Final = """
CREATE TABLE lines (id VARCHAR, ord BIGINT, product VARCHAR, quantity BIGINT, total BIGINT)
"""
#: A refund's share of a line is its proportion of the order's cumulative refund, rounded down; what
#: rounding leaves is the first line's. `DIV` is the division of whole numbers.
_SUMS: Final = """
WITH shares AS (
    SELECT l.id, l.ord, l.product, l.quantity, l.total AS own, m.type, m.total AS whole,
           m.refunded AS late, m.refunded - m.amount AS early,
           CASE WHEN m.total > 0 THEN m.refunded * l.total DIV m.total ELSE 0 END AS late_share,
           CASE WHEN m.total > 0 THEN (m.refunded - m.amount) * l.total DIV m.total ELSE 0 END
               AS early_share
    FROM lines l JOIN made m ON m.id = l.id
), firsts AS (
    SELECT id, sum(own) AS all_own, sum(quantity) AS quantity,
           sum(CASE WHEN ord > 1 THEN late_share ELSE 0 END) AS late_rest,
           sum(CASE WHEN ord > 1 THEN early_share ELSE 0 END) AS early_rest
    FROM shares GROUP BY id
), moved AS (
    SELECT s.id, s.product, s.quantity,
           CASE WHEN s.type = 'order.paid' THEN s.own
                WHEN s.type <> 'order.refunded' OR s.whole <= 0 THEN 0
                WHEN s.ord > 1 THEN s.early_share - s.late_share
                ELSE (CAST(s.early * f.all_own AS BIGINT) DIV s.whole - f.early_rest)
                   - (CAST(s.late * f.all_own AS BIGINT) DIV s.whole - f.late_rest)
           END AS revenue
    FROM shares s JOIN firsts f ON f.id = s.id
), parts AS (
    SELECT 'product' AS dimension, product AS series, id,
           sum(quantity) AS units, sum(revenue) AS revenue
    FROM moved GROUP BY id, product
    UNION ALL
    SELECT 'product', subject, id, 0, 0 FROM made WHERE type NOT LIKE 'order.%'
    UNION ALL
    SELECT dimension, CASE WHEN dimension = 'all' THEN 'event-types' ELSE m.seller END, m.id,
           coalesce(f.quantity, 0),
           CASE m.type WHEN 'order.paid' THEN m.total WHEN 'order.refunded' THEN -m.amount
                       ELSE 0 END
    FROM made m LEFT JOIN firsts f ON f.id = m.id
         CROSS JOIN (VALUES ('seller'), ('all')) AS d(dimension)
)
SELECT p.dimension, p.series, m.hour, m.type, m.currency,
       CAST(count(*) AS BIGINT), CAST(sum(p.units) AS BIGINT), CAST(sum(p.revenue) AS BIGINT)
FROM parts p JOIN made m ON m.id = p.id
GROUP BY p.dimension, p.series, m.hour, m.type, m.currency
"""
SUMS_POSTGRESQL: Final = _SUMS.replace(" DIV ", " / ")
SUMS_DUCKDB: Final = _SUMS.replace(" DIV ", " // ")
#: From the archive's files, as they are: their lines' ``event`` is the event itself.
MADE_FROM_ARCHIVE: Final = """
INSERT INTO made
SELECT event->>'$.id', topic, partition, "offset", event->>'$.type', event->>'$.subject',
       event->>'$.sellerid', substr(event->>'$.time', 1, 13) || ':00:00Z',
       event->>'$.data.currency', (event->>'$.data.totalMinor')::BIGINT,
       coalesce((event->>'$.data.refundedMinor')::BIGINT, 0),
       coalesce((event->>'$.data.refundAmountMinor')::BIGINT, 0)
FROM read_json(?, format = 'newline_delimited', compression = 'zstd',
               columns = {topic: 'VARCHAR', partition: 'BIGINT', "offset": 'BIGINT', event: 'JSON'})
"""
LINES_FROM_ARCHIVE: Final = """
INSERT INTO lines
SELECT id, ord, item->>'$.productId', (item->>'$.quantity')::BIGINT, (item->>'$.totalMinor')::BIGINT
FROM (
    SELECT event->>'$.id' AS id, unnest((event->'$.data.items')::JSON[]) AS item,
           generate_subscripts((event->'$.data.items')::JSON[], 1) AS ord
    FROM read_json(?, format = 'newline_delimited', compression = 'zstd',
                   columns = {event: 'JSON'})
    WHERE event->>'$.type' LIKE 'order.%'
)
"""
_PLAIN: Final = {
    "order.created": "orders",
    "order.cancelled": "cancelled",
    "product.low_stock": "lowStockWarnings",
    "product.out_of_stock": "outOfStock",
}


def counters_of(rows: Iterable[Sequence[Any]]) -> Sums:
    """What the rows of a statement above say of each hour of each series."""
    sums: Sums = {}
    for dimension, series, hour, kind, currency, events, units, revenue in rows:
        counters = sums.setdefault((dimension, series, hour), Counter())
        counters["events"] += events
        counters[f"byType#{kind}"] += events
        if kind in _PLAIN:
            counters[_PLAIN[kind]] += events
        if kind == "order.created":
            counters["units"] += units
        if kind in {"order.paid", "order.refunded"}:
            counters[f"revenueMinor#{currency}"] += revenue
    return {key: Counter({n: v for n, v in found.items() if v}) for key, found in sums.items()}


def differences(name: str, seen: Sums, wanted: Sums) -> list[str]:
    """Each hour of each series in which the two are not the same."""
    return [
        f"{name}: {'/'.join(key)}: {dict(seen.get(key, {}))}, not {dict(wanted.get(key, {}))}"
        for key in sorted(seen.keys() | wanted.keys())
        if seen.get(key) != wanted.get(key)
    ]
