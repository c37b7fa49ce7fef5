"""Which event a change of a product is."""

from shopstream_api.catalog.models import ProductRow
from shopstream_api.db.record import Record
from shopstream_shared.events.codec import encode_payload


def changed(record: Record, event_type: str, row: ProductRow) -> bytes:
    """Record the event of a created or changed product; returns its body, the event's data."""
    shown = row.shown()
    body = encode_payload(shown)
    record.emit(
        event_type,
        subject=shown.id,
        seller_id=row.seller_id,
        sequence=row.version,
        at=row.updated_at,
        data=body,
    )
    return body


def change_type(before: ProductRow, after: ProductRow) -> str:
    """A change that touches the price is a price change, whatever else it touches."""
    same = (before.price_minor, before.currency) == (after.price_minor, after.currency)
    return "product.updated" if same else "product.price_changed"
