-- Units ordered by product, from Parquet.
WITH lines AS (
    SELECT unnest(items) AS item
    FROM read_parquet('parquet/topic=shop.orders/**/*.parquet', hive_partitioning = false)
    WHERE type = 'order.created'
)
SELECT item.product_id AS product, sum(item.quantity)::BIGINT AS units
FROM lines
GROUP BY ALL
ORDER BY units DESC, product;
