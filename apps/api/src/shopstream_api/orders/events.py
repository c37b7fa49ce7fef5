"""The event of an order's step, its history and its audit."""

from typing import Final

from shopstream_api.db.transaction import Transaction
from shopstream_api.orders.models import OrderRow
from shopstream_shared.events.codec import encode_payload

_TYPES: Final = {"pending": "order.created"}
_REFUNDED: Final = "order.refunded"


def stepped(tx: Transaction, row: OrderRow) -> None:
    """Record the event and the audit entry of the step that led to this row."""
    amount = row.total_minor if row.status == "paid" else None
    event_type = _TYPES.get(row.status, f"order.{row.status}")
    _record(tx, row, event_type, encode_payload(row.shown()), amount)


def refunded(tx: Transaction, row: OrderRow, amount_minor: int) -> None:
    """The same for a refund, of a part or of all that was left; the event tells this step's."""
    _record(tx, row, _REFUNDED, encode_payload(row.refunded(amount_minor)), amount_minor)


def _record(
    tx: Transaction, row: OrderRow, event_type: str, data: bytes, amount_minor: int | None
) -> None:
    tx.emit(
        event_type,
        subject=str(row.id),
        seller_id=row.seller_id,
        sequence=row.version,
        at=row.updated_at,
        data=data,
        amount_minor=amount_minor,
        currency=None if amount_minor is None else row.currency,
    )
    tx.audit(
        event_type,
        entity_type="order",
        entity_id=str(row.id),
        seller_id=row.seller_id,
        at=row.updated_at,
    )
