-- Units ordered by product, from the archive's JSON lines.
WITH lines AS (
    SELECT unnest(CAST(event->'data'->'items' AS JSON[])) AS item
    FROM read_json(
        'events/**/*.jsonl.zst',
        format = 'newline_delimited',
        compression = 'zstd',
        hive_partitioning = false,
        columns = {event: 'JSON'}
    )
    WHERE event->>'type' = 'order.created'
)
SELECT item->>'productId' AS product, sum(CAST(item->>'quantity' AS BIGINT))::BIGINT AS units
FROM lines
GROUP BY ALL
ORDER BY units DESC, product;
