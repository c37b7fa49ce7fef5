"""Orders: refunds in the history, partitions by month, indexes of every list, the audit's too."""

from typing import Final

from alembic import op
from sqlalchemy import text

revision: Final = "0004"
down_revision: Final = "0003"

_UP: Final = """
ALTER TABLE order_history
    ADD COLUMN refund_minor bigint,
    ADD CONSTRAINT order_history_refund_check CHECK (refund_minor > 0);
-- After a way down and up again: the audit of the events still knows each refund.
UPDATE order_history AS h SET refund_minor = e.amount_minor FROM event_audit AS e
WHERE (e.topic, e.subject, e.sequence) = ('shop.orders', h.order_id, h.version)
    AND e.type = 'order.refunded';
CREATE INDEX orders_customer_id_created_at_id_idx ON orders (customer_id, created_at, id)
    WHERE customer_id IS NOT NULL;
CREATE INDEX orders_status_created_at_id_idx ON orders (status, created_at, id);
CREATE INDEX orders_seller_id_status_created_at_id_idx
    ON orders (seller_id, status, created_at, id);
CREATE INDEX audit_log_seller_id_id_idx ON audit_log (seller_id, id);
"""
_DOWN: Final = """
DROP INDEX audit_log_seller_id_id_idx;
DROP INDEX orders_seller_id_status_created_at_id_idx;
DROP INDEX orders_status_created_at_id_idx;
DROP INDEX orders_customer_id_created_at_id_idx;
ALTER TABLE order_history DROP COLUMN refund_minor;
"""

#: The tables, and the column that holds the order's id.
_KEYS: Final = {"orders": "id", "order_items": "order_id"}
# A UUIDv7 begins with 48 bits of milliseconds.
_FIRST_ID: Final = """
CREATE FUNCTION pg_temp.first_id(month timestamp) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT CAST(rpad(lpad(to_hex(CAST(extract(epoch FROM month) * 1000 AS bigint)), 12, '0'),
                     32, '0') AS uuid)
$$;
"""
# The present table becomes the default partition; this month, the next three and all months that
# have orders take theirs from it. What is no UUIDv7 of ours (before 2020) stays there. Written out
# here, though the service makes later months alike: a migration does not change with the code.
_PARTITIONS: Final = """
ALTER TABLE {table} RENAME TO {table}_default;
CREATE TABLE {table} (LIKE {table}_default INCLUDING ALL) PARTITION BY RANGE ({key});
ALTER TABLE {table} ATTACH PARTITION {table}_default DEFAULT;
DO $$
DECLARE
    present timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    month   timestamp;
    name    text;
    low     uuid;
    high    uuid;
BEGIN
    FOR month IN
        SELECT generate_series(present, present + interval '3 months', interval '1 month')
        UNION
        SELECT date_trunc('month', to_timestamp(
            CAST(CAST('x' || left(replace(CAST({key} AS text), '-', ''), 12) AS bit(48)) AS bigint)
            / 1000) AT TIME ZONE 'UTC')
        FROM {table}_default
        WHERE {key} >= pg_temp.first_id(timestamp '2020-01-01')
            AND {key} < pg_temp.first_id(present + interval '4 months')
    LOOP
        name := '{table}_' || to_char(month, 'YYYY_MM');
        low := pg_temp.first_id(month);
        high := pg_temp.first_id(month + interval '1 month');
        EXECUTE format('CREATE TABLE %I (LIKE {table} INCLUDING ALL)', name);
        EXECUTE format(
            'WITH gone AS ('
            ' DELETE FROM {table}_default WHERE {key} >= %L AND {key} < %L RETURNING *'
            ') INSERT INTO %I SELECT * FROM gone',
            low, high, name);
        EXECUTE format(
            'ALTER TABLE {table} ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name, low, high);
    END LOOP;
END $$;
"""


def upgrade() -> None:
    op.execute(_UP)
    op.execute(_FIRST_ID)
    for table, key in _KEYS.items():
        _rename_indexes(table, f"{table}_", f"{table}_default_")
        op.execute(_PARTITIONS.format(table=table, key=key))
    op.execute("DROP FUNCTION pg_temp.first_id(timestamp)")


def downgrade() -> None:
    for table in _KEYS:
        op.execute(f"ALTER TABLE {table} DETACH PARTITION {table}_default")
        op.execute(f"INSERT INTO {table}_default SELECT * FROM {table}")  # noqa: S608 - _KEYS only
        op.execute(f"DROP TABLE {table}")
        op.execute(f"ALTER TABLE {table}_default RENAME TO {table}")
        _rename_indexes(table, f"{table}_default_", f"{table}_")
    op.execute(_DOWN)


def _rename_indexes(table: str, prefix: str, other: str) -> None:
    """The parent takes over the names; its constraints' names go with their indexes."""
    found = op.get_bind().execute(
        text("SELECT indexname FROM pg_indexes WHERE tablename = :table"), {"table": table}
    )
    for (name,) in found.all():
        op.execute(f"ALTER INDEX {name} RENAME TO {other}{name.removeprefix(prefix)}")
