-- Records that only one of the two forms has, or that they have with other bytes: none, where the
-- folder holds both forms of the same days. Events are compared as JSON, because DuckDB reads them so
-- from lines; records that are no events, by place.
WITH lines AS (
    SELECT topic, "partition", "offset", nullif(CAST(event AS VARCHAR), 'null') AS event
    FROM read_json(
        'events/**/*.jsonl.zst',
        format = 'newline_delimited',
        compression = 'zstd',
        hive_partitioning = false,
        columns = {topic: 'VARCHAR', "partition": 'INTEGER', "offset": 'BIGINT', event: 'JSON'}
    )
),
parquet AS (
    SELECT topic, "partition", "offset",
        CASE WHEN type IS NOT NULL THEN CAST(json(decode(event)) AS VARCHAR) END AS event
    FROM read_parquet('parquet/**/*.parquet', hive_partitioning = false, union_by_name = true)
)
SELECT coalesce(lines.topic, parquet.topic) AS topic, "partition", "offset",
    lines.topic IS NOT NULL AS in_lines, parquet.topic IS NOT NULL AS in_parquet
FROM lines FULL JOIN parquet USING (topic, "partition", "offset")
WHERE lines.topic IS NULL OR parquet.topic IS NULL
    OR lines.event IS DISTINCT FROM parquet.event
ORDER BY ALL;
