"""All tables that the code describes, in one place: for Alembic and for the test against it."""

from typing import Final

from shopstream_api.audit.models import audit_log
from shopstream_api.catalog.models import products
from shopstream_api.idempotency.models import idempotency_keys
from shopstream_api.imports.models import import_errors, import_slices, imports
from shopstream_api.orders.models import order_history, order_items, orders
from shopstream_api.outbox.models import event_audit, stream_position
from shopstream_api.stock.models import low_stock, reservations, stock_movements

TABLES: Final = (
    products,
    stock_movements,
    reservations,
    low_stock,
    orders,
    order_items,
    order_history,
    idempotency_keys,
    event_audit,
    audit_log,
    stream_position,
    imports,
    import_slices,
    import_errors,
)
