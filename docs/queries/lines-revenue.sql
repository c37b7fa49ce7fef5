-- Revenue by seller, UTC day and currency, in minor units, from the archive's JSON lines:
-- paid totals less refunds, each on the day of its own event.
WITH steps AS (
    SELECT
        event->>'sellerid' AS seller,
        CAST(left(event->>'time', 10) AS DATE) AS day,
        event->'data'->>'currency' AS currency,
        CASE event->>'type'
            WHEN 'order.paid' THEN CAST(event->'data'->>'totalMinor' AS BIGINT)
            ELSE -CAST(event->'data'->>'refundAmountMinor' AS BIGINT)
        END AS minor
    FROM read_json(
        'events/**/*.jsonl.zst',
        format = 'newline_delimited',
        compression = 'zstd',
        hive_partitioning = false,
        columns = {event: 'JSON'}
    )
    WHERE event->>'type' IN ('order.paid', 'order.refunded')
)
SELECT seller, day, currency, sum(minor)::BIGINT AS revenue_minor
FROM steps
GROUP BY ALL
ORDER BY ALL;
