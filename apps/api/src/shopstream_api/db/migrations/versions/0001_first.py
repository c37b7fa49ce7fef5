"""Products, stock, orders, idempotency keys, outbox and audit."""

from typing import Final

from alembic import op

revision: Final = "0001"
down_revision: Final = None

_PRODUCTS: Final = """
CREATE TABLE products (
    id                uuid        PRIMARY KEY,
    seller_id         text        NOT NULL,
    name              text        NOT NULL,
    description       text,
    sku               text,
    category          text,
    tags              text[]      NOT NULL,
    -- The same amount twice: exact in minor units for arithmetic, in major units for filters.
    price_minor       bigint      NOT NULL,
    price             numeric     NOT NULL,
    currency          text        NOT NULL,
    status            text        NOT NULL,
    initial_stock     integer     NOT NULL,
    stock             integer     NOT NULL,
    reserved          integer     NOT NULL,
    version           integer     NOT NULL,
    inventory_version integer     NOT NULL,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    deleted_at        timestamptz,
    CONSTRAINT products_price_check CHECK (price_minor BETWEEN 0 AND 1000000000000),
    CONSTRAINT products_status_check CHECK (status IN ('draft', 'active', 'archived')),
    -- The last guard against overselling: no code path can take what is not there.
    CONSTRAINT products_stock_check CHECK (stock BETWEEN 0 AND 1000000000),
    CONSTRAINT products_reserved_check CHECK (reserved >= 0)
);
CREATE UNIQUE INDEX products_seller_id_sku_key ON products (seller_id, sku)
    WHERE deleted_at IS NULL AND sku IS NOT NULL;
CREATE INDEX products_created_at_id_idx ON products (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX products_seller_id_created_at_id_idx ON products (seller_id, created_at, id)
    WHERE deleted_at IS NULL;
"""

_STOCK: Final = """
CREATE TABLE stock_movements (
    id                uuid        NOT NULL,
    product_id        uuid        NOT NULL,
    inventory_version integer     NOT NULL,
    seller_id         text        NOT NULL,
    delta             integer     NOT NULL,
    stock             integer     NOT NULL,
    cause             text        NOT NULL,
    reason            text,
    reference         text,
    order_id          uuid,
    created_at        timestamptz NOT NULL,
    PRIMARY KEY (product_id, inventory_version)
);
CREATE TABLE reservations (
    id             uuid        PRIMARY KEY,
    product_id     uuid        NOT NULL,
    order_id       uuid,
    quantity       integer     NOT NULL,
    reference      text,
    status         text        NOT NULL,
    reserved_until timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    CONSTRAINT reservations_quantity_check CHECK (quantity > 0),
    CONSTRAINT reservations_status_check CHECK (status IN ('active', 'released', 'consumed'))
);
CREATE INDEX reservations_order_id_idx ON reservations (order_id);
CREATE INDEX reservations_product_id_idx ON reservations (product_id) WHERE status = 'active';
CREATE INDEX reservations_reserved_until_idx ON reservations (reserved_until)
    WHERE status = 'active';
"""

_ORDERS: Final = """
CREATE TABLE orders (
    id             uuid        PRIMARY KEY,
    seller_id      text        NOT NULL,
    customer_id    text,
    status         text        NOT NULL,
    currency       text        NOT NULL,
    subtotal_minor bigint      NOT NULL,
    tax_minor      bigint      NOT NULL,
    shipping_minor bigint      NOT NULL,
    total_minor    bigint      NOT NULL,
    refunded_minor bigint      NOT NULL,
    reserved_until timestamptz,
    cancel_reason  text,
    version        integer     NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    CONSTRAINT orders_refunded_check CHECK (refunded_minor BETWEEN 0 AND total_minor)
);
CREATE INDEX orders_created_at_id_idx ON orders (created_at, id);
CREATE INDEX orders_seller_id_created_at_id_idx ON orders (seller_id, created_at, id);
CREATE TABLE order_items (
    order_id         uuid    NOT NULL,
    line             integer NOT NULL,
    product_id       uuid    NOT NULL,
    name             text    NOT NULL,
    quantity         integer NOT NULL,
    unit_price_minor bigint  NOT NULL,
    total_minor      bigint  NOT NULL,
    PRIMARY KEY (order_id, line),
    CONSTRAINT order_items_quantity_check CHECK (quantity > 0)
);
CREATE TABLE order_history (
    order_id uuid        NOT NULL,
    version  integer     NOT NULL,
    status   text        NOT NULL,
    reason   text,
    at       timestamptz NOT NULL,
    PRIMARY KEY (order_id, version)
);
"""

_IDEMPOTENCY: Final = """
CREATE TABLE idempotency_keys (
    -- sha256 of caller, method, path and key: the key belongs to these.
    id          bytea       PRIMARY KEY,
    fingerprint bytea       NOT NULL,
    status      integer     NOT NULL,
    headers     jsonb       NOT NULL,
    body        bytea       NOT NULL,
    created_at  timestamptz NOT NULL
);
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);
"""

_AUDIT: Final = """
CREATE TABLE audit_log (
    id          uuid        PRIMARY KEY,
    action      text        NOT NULL,
    entity_type text        NOT NULL,
    entity_id   uuid        NOT NULL,
    seller_id   text        NOT NULL,
    request_id  text        NOT NULL,
    at          timestamptz NOT NULL
);
-- One slim row an event, written in its transaction: what the log is held against. The key also
-- makes a version that is given twice impossible.
CREATE TABLE event_audit (
    topic        text        NOT NULL,
    subject      uuid        NOT NULL,
    sequence     integer     NOT NULL,
    event_id     uuid        NOT NULL,
    type         text        NOT NULL,
    seller_id    text        NOT NULL,
    time         timestamptz NOT NULL,
    amount_minor bigint,
    currency     text,
    sha256       bytea       NOT NULL,
    PRIMARY KEY (topic, subject, sequence)
);
"""

_OUTBOX: Final = """
-- Debezium's columns (id aggregatetype aggregateid type payload) and what our relay needs besides.
CREATE TABLE outbox (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            uuid     NOT NULL,
    aggregatetype text     NOT NULL,
    aggregateid   text     NOT NULL,
    type          text     NOT NULL,
    payload       bytea    NOT NULL,
    topic         text     NOT NULL,
    headers       bytea    NOT NULL,
    time_ms       bigint   NOT NULL,
    txid          bigint   NOT NULL,
    -- How many rows this transaction wrote: the relay knows by it when it has them all.
    txrows        integer  NOT NULL,
    shard         smallint NOT NULL
) WITH (
    -- A queue is all churn: vacuum by count, not by share of a table that is mostly empty.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE TABLE outbox_poison (
    seq           bigint      PRIMARY KEY,
    id            uuid        NOT NULL,
    aggregatetype text        NOT NULL,
    aggregateid   text        NOT NULL,
    type          text        NOT NULL,
    payload       bytea       NOT NULL,
    topic         text        NOT NULL,
    headers       bytea       NOT NULL,
    time_ms       bigint      NOT NULL,
    shard         smallint    NOT NULL,
    reason        text        NOT NULL,
    at            timestamptz NOT NULL
);
CREATE INDEX outbox_poison_topic_aggregateid_idx ON outbox_poison (topic, aggregateid);
CREATE TABLE relay_state (
    shard            smallint PRIMARY KEY,
    -- Stands in each progress record: numbers of another database's outbox say nothing of ours.
    outbox_id        uuid NOT NULL DEFAULT gen_random_uuid(),
    transactional_id text
);
CREATE TABLE stream_position (
    shard      smallint PRIMARY KEY,
    stream_id  text,
    updated_at timestamptz
);
INSERT INTO relay_state (shard) VALUES (0);
INSERT INTO stream_position (shard) VALUES (0);
"""

_TABLES: Final = (
    "stream_position relay_state outbox_poison outbox event_audit audit_log idempotency_keys "
    "order_history order_items orders reservations stock_movements products"
)


def upgrade() -> None:
    for statements in (_PRODUCTS, _STOCK, _ORDERS, _IDEMPOTENCY, _AUDIT, _OUTBOX):
        op.execute(statements)


def downgrade() -> None:
    for table in _TABLES.split():
        op.execute(f"DROP TABLE {table}")
