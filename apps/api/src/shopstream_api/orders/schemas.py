"""Bodies of the order routes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET

from shopstream_api.members import Members
from shopstream_api.money import PRICE_MINOR_MAX

LINES_MAX: Final = 100
QUANTITY_MAX: Final = 10_000
CUSTOMER_ID_LENGTH_MAX: Final = 200
REFUND_REASON_LENGTH_MAX: Final = 200
#: No order's total is above this: LINES_MAX lines of QUANTITY_MAX units at the highest price.
TOTAL_MINOR_MAX: Final = LINES_MAX * QUANTITY_MAX * PRICE_MINOR_MAX
_PRODUCT_ID_LENGTH_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One line as sent; ``index`` is its place in the body."""

    index: int
    product_id: str
    quantity: int

    @property
    def product(self) -> UUID | None:
        """The id, if it can be a product's: one spelling only, as in paths."""
        try:
            found = UUID(self.product_id)
        except ValueError:
            return None
        return found if str(found) == self.product_id else None


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """The body of POST /orders."""

    customer_id: str | None
    lines: tuple[Line, ...]

    def merged(self) -> dict[UUID, int]:
        """Units by product, in the order of first mention; without ids that can be no product's."""
        units: dict[UUID, int] = {}
        for line in self.lines:
            product = line.product
            if product is not None:
                units[product] = units.get(product, 0) + line.quantity
        return units


@dataclass(frozen=True, slots=True)
class Refund:
    """The body of POST …/refunds; without an amount all that is left goes back."""

    amount_minor: int | None
    reason: str | None


def read_order(body: object) -> PlaceOrder:
    """Raises ValidationFailed with every fault of the body."""
    members = Members(body, known=("customerId", "items"))
    customer: Any = members.nullable_text("customerId", length_max=CUSTOMER_ID_LENGTH_MAX)
    items = members.value("items", required=True)
    lines: list[Line] = []
    if isinstance(items, list) and 1 <= len(items) <= LINES_MAX:
        lines = _lines(members, items)
    elif items is not UNSET:
        members.fault("items", "invalid", f"must be a list of 1 to {LINES_MAX} lines")
    members.done()
    return PlaceOrder(None if customer is UNSET else customer, tuple(lines))


def read_refund(body: object) -> Refund:
    """Raises ValidationFailed with every fault of the body."""
    members = Members(body, known=("amountMinor", "reason"))
    amount: Any = members.whole("amountMinor", low=1, high=TOTAL_MINOR_MAX)
    reason: Any = members.text("reason", length_max=REFUND_REASON_LENGTH_MAX, blank=False)
    members.done()
    return Refund(None if amount is UNSET else amount, None if reason is UNSET else reason)


def read_no_members(body: object) -> None:
    """The body of an action: nothing, or an empty object. Raises ValidationFailed."""
    Members(body, known=()).done()


def _lines(members: Members, items: Sequence[object]) -> list[Line]:
    lines = []
    for index, item in enumerate(items):
        line = Members(
            item,
            known=("productId", "quantity"),
            pointer=f"/items/{index}",
            faults=members.faults,
        )
        product: Any = line.text(
            "productId", length_max=_PRODUCT_ID_LENGTH_MAX, required=True, blank=False
        )
        quantity: Any = line.whole("quantity", low=1, high=QUANTITY_MAX, required=True)
        lines.append(Line(index, product, quantity))
    return lines
