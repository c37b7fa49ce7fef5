"""Bodies of the stock routes."""

from dataclasses import dataclass
from typing import Any, Final

from msgspec import UNSET

from shopstream_api.catalog.models import ProductRow
from shopstream_api.catalog.schemas import STOCK_MAX, STORED_STOCK_MAX
from shopstream_api.members import Members
from shopstream_api.stock.models import Movement, Reservation
from shopstream_shared.clock import format_time

REASON_LENGTH_MAX: Final = 200
REFERENCE_LENGTH_MAX: Final = 200
#: A reservation holds units as a line of an order does, so it has the same bounds.
RESERVED_QUANTITY_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The body of POST …/stock-adjustments."""

    delta: int
    reason: str


@dataclass(frozen=True, slots=True)
class SetStock:
    """The body of PUT …/stock: set if nobody else has."""

    quantity: int
    expected: int


@dataclass(frozen=True, slots=True)
class NewReservation:
    """The body of POST …/reservations."""

    quantity: int
    reference: str | None


def read_adjustment(body: object) -> Adjustment:
    """Raises ValidationFailed with every fault of the body."""
    members = Members(body, known=("delta", "reason"))
    delta: Any = members.whole("delta", low=-STOCK_MAX, high=STOCK_MAX, required=True)
    if delta == 0:
        members.fault("delta", "out_of_range", "must not be 0")
    reason: Any = members.text("reason", length_max=REASON_LENGTH_MAX, required=True, blank=False)
    members.done()
    return Adjustment(delta, reason)


def read_set(body: object) -> SetStock:
    """Raises ValidationFailed with every fault of the body."""
    members = Members(body, known=("quantity", "expectedQuantity"))
    quantity: Any = members.whole("quantity", low=0, high=STOCK_MAX, required=True)
    expected: Any = members.whole("expectedQuantity", low=0, high=STORED_STOCK_MAX, required=True)
    members.done()
    return SetStock(quantity, expected)


def read_reservation(body: object) -> NewReservation:
    """Raises ValidationFailed with every fault of the body."""
    members = Members(body, known=("quantity", "reference"))
    quantity: Any = members.whole("quantity", low=1, high=RESERVED_QUANTITY_MAX, required=True)
    reference: Any = members.nullable_text(
        "reference", length_max=REFERENCE_LENGTH_MAX, blank=False
    )
    members.done()
    return NewReservation(quantity, None if reference is UNSET else reference)


def change_body(row: ProductRow, delta: int, reason: str | None) -> dict[str, object]:
    """The answer to a change; the version is the last one it took, a warning's included."""
    return {
        "productId": str(row.id),
        "stock": row.stock,
        "delta": delta,
        "reason": reason,
        "inventoryVersion": row.inventory_version,
    }


def inventory_body(row: ProductRow, threshold: int) -> dict[str, object]:
    """Stock as a seller sees it: sellable, held, and both."""
    return {
        "productId": str(row.id),
        "stock": row.stock,
        "reserved": row.reserved,
        "onHand": row.stock + row.reserved,
        "threshold": threshold,
        "inventoryVersion": row.inventory_version,
    }


def low_stock_body(row: ProductRow, threshold: int) -> dict[str, object]:
    """A row of the low-stock list: the level, and whose product it is."""
    return {**inventory_body(row, threshold), "name": row.name, "sellerId": row.seller_id}


def reservation_body(held: Reservation) -> dict[str, object]:
    """A reservation as its maker needs it."""
    return {
        "id": str(held.id),
        "productId": str(held.product_id),
        "quantity": held.quantity,
        "reference": held.reference,
        "reservedUntil": format_time(held.reserved_until),
    }


def movement_body(movement: Movement) -> dict[str, object]:
    """A line of the ledger."""
    return {
        "id": str(movement.id),
        "productId": str(movement.product_id),
        "delta": movement.delta,
        "stock": movement.stock,
        "reason": movement.reason,
        "reference": movement.reference,
        "orderId": None if movement.order_id is None else str(movement.order_id),
        "createdAt": format_time(movement.created_at),
    }
