"""Orders: refunds in the history, partitions by month, indexes of every list, the audit's too."""

from typing import Final

from alembic import op
from sqlalchemy import text

# The code of the running service: it is general in the columns, and its rule is that a month is
# made in one way only.
from shopstream_api.orders.partitions import KEYS, make, missing
from shopstream_shared.clock import SystemClock

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


def upgrade() -> None:
    op.execute(_UP)
    for table, key in KEYS.items():
        _rename_indexes(table, f"{table}_", f"{table}_default_")
        op.execute(f"ALTER TABLE {table} RENAME TO {table}_default")
        op.execute(
            f"CREATE TABLE {table} (LIKE {table}_default INCLUDING ALL) PARTITION BY RANGE ({key})"
        )
        op.execute(f"ALTER TABLE {table} ATTACH PARTITION {table}_default DEFAULT")
    for table, month in missing(op.get_bind(), SystemClock().now()):
        make(op.get_bind(), table, month)


def downgrade() -> None:
    for table in KEYS:
        op.execute(f"ALTER TABLE {table} DETACH PARTITION {table}_default")
        op.execute(f"INSERT INTO {table}_default SELECT * FROM {table}")  # noqa: S608 - KEYS only
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
