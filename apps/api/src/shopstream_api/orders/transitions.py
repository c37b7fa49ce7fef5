"""The one table of what an order can become."""

from collections.abc import Mapping
from typing import Final

from shopstream_api.orders.errors import IllegalTransition
from shopstream_shared.events.payloads import OrderStatus

TRANSITIONS: Final[Mapping[OrderStatus, tuple[OrderStatus, ...]]] = {
    "pending": ("confirmed", "cancelled"),
    "confirmed": ("paid", "cancelled"),
    "paid": ("shipped", "refunded"),
    "shipped": ("delivered", "refunded"),
    "delivered": ("refunded",),
    "cancelled": (),
    "refunded": (),
}
#: In these the order's units are held; the hold has an end.
HOLDING: Final[tuple[OrderStatus, ...]] = ("pending", "confirmed")


def require(present: OrderStatus, wanted: OrderStatus) -> None:
    """Raises IllegalTransition."""
    allowed = TRANSITIONS[present]
    if wanted not in allowed:
        raise IllegalTransition(present, wanted, allowed)
