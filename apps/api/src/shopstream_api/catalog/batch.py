"""Many new products in one statement, with their events and audit entries.

Protocol rules 2, 4 and 12 as in `outbox/writer.py`; here the state change is part of the statement:
what is recorded reads FROM the rows really inserted, so a product left out leaves no trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shopstream_api.catalog.models import ProductRow
from shopstream_api.db import arrays
from shopstream_api.db.wire import Statement, Statements
from shopstream_api.outbox.writer import (
    AGGREGATE_TYPES,
    FROM_AUDITS,
    FROM_EVENTS,
    AuditEntry,
    encode_headers,
)
from shopstream_shared.clock import epoch_ms
from shopstream_shared.events.codec import EncodedEvent
from shopstream_shared.events.registry import EVENT_TYPES
from shopstream_shared.topics import PRODUCTS

#: The contract's bound of a bulk request, and of the rows between two commits of an import.
ROWS_MAX: Final = 500

_TYPE: Final = EVENT_TYPES["product.created"]

#: Parameters of new products, and the names they have in a CTE ``i`` that numbers them by ``n``.
NEW_PRODUCTS: Final = (
    "%(id)s, %(seller_id)s, %(name)s, %(description)s, %(sku)s, %(category)s, %(tags)s,"
    " %(price_minor)s, %(price)s, %(currency)s, %(status)s, %(stock)s, %(at)s"
)
NEW_NAMES: Final = (
    "id, seller_id, name, description, sku, category, tags, price_minor, price, currency,"
    " status, stock, at"
)
# Inserted by seller and sku: two such statements then wait for each other in one direction only.
# Of two rows with one sku in a statement the earlier one (n) is inserted.
INSERT_NEW: Final = """
INSERT INTO products
    (id, seller_id, name, description, sku, category, tags, price_minor, price, currency,
     status, initial_stock, stock, reserved, version, inventory_version, created_at, updated_at)
SELECT id, seller_id, name, description, sku, category, tags::text[], price_minor,
       price::numeric, currency, status, stock, stock, 0, 1, 0, at, at
FROM i ORDER BY seller_id, sku, n
ON CONFLICT (seller_id, sku) WHERE deleted_at IS NULL AND sku IS NOT NULL DO NOTHING
RETURNING id"""
_CREATE: Final = Statement(
    "products_create",
    f"""
WITH i AS (
    SELECT * FROM unnest(
        {NEW_PRODUCTS},
        %(event_id)s, %(payload)s, %(headers)s, %(time_ms)s, %(audit_id)s, %(request_id)s
    ) WITH ORDINALITY AS t (
        {NEW_NAMES}, event_id, payload, headers, time_ms, audit_id, request_id, n
    )
), p AS ({INSERT_NEW}
), k AS (
    SELECT i.* FROM i JOIN p USING (id)
), e AS (
    SELECT event_id AS id, '{AGGREGATE_TYPES[PRODUCTS]}' AS aggregatetype,
           id::text AS aggregateid, '{_TYPE.name}' AS type, payload, '{_TYPE.topic}' AS topic,
           headers, time_ms, seller_id, 1 AS sequence, at AS time, NULL::bigint AS amount_minor,
           NULL::text AS currency, n
    FROM k
), l AS (
    SELECT audit_id AS id, '{_TYPE.name}' AS action, 'product' AS entity_type, id AS entity_id,
           seller_id, request_id, at
    FROM k
), {FROM_EVENTS}, w AS ({FROM_AUDITS})
SELECT id FROM i WHERE id NOT IN (SELECT id FROM p)
""",  # noqa: S608 - put together from constants
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A product of version 1 that is not written yet; ``body`` is its representation.

    Event and audit entry are written with it, so they come from a Record that writes nothing else.
    """

    row: ProductRow
    body: bytes
    event: EncodedEvent
    audit: AuditEntry


async def create(statements: Statements, drafts: Sequence[Draft]) -> set[UUID]:
    """Insert all whose sku is free; returns the ids of those whose sku is taken.

    In autocommit the rows are committed on return; else they belong to the connection's
    transaction, and so does telling the relay. Raises psycopg.Error, having written nothing.
    """
    if not 1 <= len(drafts) <= ROWS_MAX:
        msg = f"{len(drafts)} products in one statement; 1 to {ROWS_MAX}"
        raise ValueError(msg)
    return {found[0] for found in await statements.run(_CREATE, _parameters(drafts))}


def _parameters(drafts: Sequence[Draft]) -> dict[str, arrays.Array]:
    events = [draft.event for draft in drafts]
    return new_products([draft.row for draft in drafts]) | {
        "event_id": arrays.uuid_texts(event.id for event in events),
        "payload": arrays.blobs(event.value for event in events),
        "headers": arrays.blobs(encode_headers(event) for event in events),
        "time_ms": arrays.bigints(epoch_ms(event.time) for event in events),
        "audit_id": arrays.uuid_texts(draft.audit.id for draft in drafts),
        "request_id": arrays.texts(draft.audit.request_id for draft in drafts),
    }


def new_products(rows: Sequence[ProductRow]) -> dict[str, arrays.Array]:
    """The parameters that NEW_PRODUCTS names."""
    return details(rows) | {
        "id": arrays.uuids(row.id for row in rows),
        "seller_id": arrays.texts(row.seller_id for row in rows),
        "stock": arrays.integers(row.stock for row in rows),
        "at": arrays.moments(row.updated_at for row in rows),
    }


def details(rows: Sequence[ProductRow]) -> dict[str, arrays.Array]:
    """The parameters of what a seller says of a product."""
    return {
        "name": arrays.texts(row.name for row in rows),
        "description": arrays.texts(row.description for row in rows),
        "sku": arrays.texts(row.sku for row in rows),
        "category": arrays.texts(row.category for row in rows),
        "tags": arrays.texts(arrays.literal(row.tags) for row in rows),
        "price_minor": arrays.bigints(row.price_minor for row in rows),
        "price": arrays.texts(str(row.price) for row in rows),
        "currency": arrays.texts(row.currency for row in rows),
        "status": arrays.texts(row.status for row in rows),
    }
