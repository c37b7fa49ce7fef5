"""Which event types exist, what they carry and on which topic they ride."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shopstream_shared import topics
from shopstream_shared.events.payloads import Inventory, Order, OrderRefunded, Product


@dataclass(frozen=True, slots=True)
class EventType:
    """A type in its present version; ``schema`` is the CloudEvents ``dataschema`` path."""

    name: str
    topic: str
    payload: type[Product | Order | OrderRefunded | Inventory]
    version: int = 1

    @property
    def schema(self) -> str:
        return f"/schemas/{self.name}/v{self.version}"


_PRODUCT: Final = ("product.created", "product.updated", "product.price_changed", "product.deleted")
_ORDER: Final = (
    "order.created",
    "order.confirmed",
    "order.paid",
    "order.shipped",
    "order.delivered",
    "order.cancelled",
)
# The two warnings are facts about stock: they ride with the inventory and take its version.
_INVENTORY: Final = (
    "inventory.reserved",
    "inventory.released",
    "inventory.updated",
    "product.low_stock",
    "product.out_of_stock",
)

EVENT_TYPES: Final[Mapping[str, EventType]] = {
    entry.name: entry
    for entry in (
        *(EventType(name, topics.PRODUCTS, Product) for name in _PRODUCT),
        *(EventType(name, topics.ORDERS, Order) for name in _ORDER),
        EventType("order.refunded", topics.ORDERS, OrderRefunded),
        *(EventType(name, topics.INVENTORY, Inventory) for name in _INVENTORY),
    )
}
