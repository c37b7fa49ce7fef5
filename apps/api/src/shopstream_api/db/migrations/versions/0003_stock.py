"""Stock: the table behind the low-stock list, and room for units that a refund gives back."""

from typing import Final

from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"

# What a caller sets or adds stays within 10^9, held units included. Sold units are not counted
# there and may come back by a refund, which must not fail: the column takes twice as much.
_ROOM: Final = """
ALTER TABLE products
    DROP CONSTRAINT products_stock_check,
    ADD CONSTRAINT products_stock_check CHECK (stock BETWEEN 0 AND 2000000000);
"""

# Products with up to 100 units. No index of `products` may name its stock: then a change of stock
# alone would not be a heap-only update and would write to each of its indexes (8 times the log
# for one hot product, 28 times for many, measured with the indexes of the lists and a search's).
_LOW: Final = """
CREATE TABLE low_stock (
    product_id uuid        NOT NULL,
    seller_id  text        NOT NULL,
    stock      integer     NOT NULL,
    created_at timestamptz NOT NULL,
    -- The order of the list within a level. A change knows the level before it, so no index by
    -- product is needed.
    PRIMARY KEY (stock, created_at, product_id)
);
INSERT INTO low_stock
    SELECT id, seller_id, stock, created_at FROM products
    WHERE stock <= 100 AND deleted_at IS NULL;
CREATE INDEX low_stock_seller_id_stock_created_at_product_id_idx
    ON low_stock (seller_id, stock, created_at, product_id);
CREATE FUNCTION low_stock_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.stock <= 100 AND OLD.deleted_at IS NULL THEN
        DELETE FROM low_stock
        WHERE stock = OLD.stock AND created_at = OLD.created_at AND product_id = OLD.id;
    END IF;
    IF NEW.stock <= 100 AND NEW.deleted_at IS NULL THEN
        INSERT INTO low_stock VALUES (NEW.id, NEW.seller_id, NEW.stock, NEW.created_at);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER products_low_stock_insert AFTER INSERT ON products
    FOR EACH ROW WHEN (NEW.stock <= 100 AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION low_stock_follow();
CREATE TRIGGER products_low_stock_update AFTER UPDATE OF stock, deleted_at ON products
    FOR EACH ROW WHEN (
        (OLD.stock <= 100 OR NEW.stock <= 100)
        AND (OLD.stock, OLD.deleted_at) IS DISTINCT FROM (NEW.stock, NEW.deleted_at)
    )
    EXECUTE FUNCTION low_stock_follow();
"""

# The bound is not checked against the rows that are there: one of them may have needed the room.
_DOWN: Final = """
DROP TRIGGER products_low_stock_update ON products;
DROP TRIGGER products_low_stock_insert ON products;
DROP FUNCTION low_stock_follow();
DROP TABLE low_stock;
ALTER TABLE products
    DROP CONSTRAINT products_stock_check,
    ADD CONSTRAINT products_stock_check CHECK (stock BETWEEN 0 AND 1000000000) NOT VALID;
"""


def upgrade() -> None:
    for statements in (_ROOM, _LOW):
        op.execute(statements)


def downgrade() -> None:
    op.execute(_DOWN)
