-- Revenue by seller, UTC day and currency, in minor units, from Parquet:
-- paid totals less refunds, each on the day of its own event.
SELECT
    seller_id AS seller,
    CAST(timezone('UTC', time) AS DATE) AS day,
    currency,
    sum(CASE type WHEN 'order.paid' THEN total_minor ELSE -refund_amount_minor END)::BIGINT
        AS revenue_minor
FROM read_parquet('parquet/topic=shop.orders/**/*.parquet', hive_partitioning = false)
WHERE type IN ('order.paid', 'order.refunded')
GROUP BY ALL
ORDER BY ALL;
