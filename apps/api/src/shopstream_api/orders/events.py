"""The event of an order's step, its history and its audit."""

from typing import Final

from shopstream_api.db.transaction import Transaction
from shopstream_api.orders.models import OrderRow
from shopstream_shared.events.codec import encode_payload

_TYPES: Final = {"pending": "order.created"}


def stepped(tx: Transaction, row: OrderRow) -> None:
    """Record the event and the audit entry of the step that led to this row."""
    event_type = _TYPES.get(row.status, f"order.{row.status}")
    paid = row.status == "paid"
    tx.emit(
        event_type,
        subject=str(row.id),
        seller_id=row.seller_id,
        sequence=row.version,
        at=row.updated_at,
        data=encode_payload(row.shown()),
        amount_minor=row.total_minor if paid else None,
        currency=row.currency if paid else None,
    )
    tx.audit(
        event_type,
        entity_type="order",
        entity_id=str(row.id),
        seller_id=row.seller_id,
        at=row.updated_at,
    )
