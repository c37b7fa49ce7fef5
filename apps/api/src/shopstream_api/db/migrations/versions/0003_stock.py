"""Stock: indexes of the low-stock list, and room for units that a refund gives back."""

from typing import Final

from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"

# What a caller sets or adds stays within 10^9, held units included. Sold units are not counted
# there and may come back by a refund, which must not fail: the column takes twice as much.
_UP: Final = """
ALTER TABLE products
    DROP CONSTRAINT products_stock_check,
    ADD CONSTRAINT products_stock_check CHECK (stock BETWEEN 0 AND 2000000000);
CREATE INDEX products_stock_created_at_id_idx ON products (stock, created_at, id)
    WHERE deleted_at IS NULL;
CREATE INDEX products_seller_id_stock_created_at_id_idx
    ON products (seller_id, stock, created_at, id) WHERE deleted_at IS NULL;
"""
# Not checked against the rows that are there: one of them may have needed the room.
_DOWN: Final = """
DROP INDEX products_seller_id_stock_created_at_id_idx;
DROP INDEX products_stock_created_at_id_idx;
ALTER TABLE products
    DROP CONSTRAINT products_stock_check,
    ADD CONSTRAINT products_stock_check CHECK (stock BETWEEN 0 AND 1000000000) NOT VALID;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
