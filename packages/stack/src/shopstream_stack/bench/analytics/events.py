"""Events of a shop for the workers: the codec's own bytes, of as many products as are asked for."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from shopstream_shared.clock import Clock, SystemClock, Uuid7Source, format_time
from shopstream_shared.events.codec import EncodedEvent, encode, encode_payload
from shopstream_shared.events.payloads import Inventory, Order, OrderItem, OrderStatus, Payload

STOCK_TYPES: Final = ("inventory.updated", "inventory.reserved", "inventory.released")
SELLERS: Final = 50
#: Of a mixed shop's events: an order's two, each with so many lines, then its lines' stock.
LINES: Final = 3
PRICE_MINOR: Final = 1_999


@dataclass(slots=True)
class Shop:
    """So many products of SELLERS sellers; sequences go on from call to call."""

    products: int
    #: The number of its first product: two shops may have none in common.
    first: int = 0
    clock: Clock = field(default_factory=SystemClock)
    _ids: Uuid7Source = field(default_factory=Uuid7Source)
    _sequences: dict[str, int] = field(default_factory=dict)
    _orders: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def stock(self, count: int) -> Iterator[EncodedEvent]:
        """So many stock events, of the products in turn."""
        for number in range(count):
            yield self._stock(
                self.first + number % self.products, STOCK_TYPES[number % len(STOCK_TYPES)]
            )

    def mixed(self, count: int) -> Iterator[EncodedEvent]:
        """So many events: orders created and paid, LINES lines each, and their lines' stock."""
        return itertools.islice(self._lives(), count)

    def _lives(self) -> Iterator[EncodedEvent]:
        for number in self._orders:
            lines = [self.first + (number * LINES + n) % self.products for n in range(LINES)]
            yield self._order("order.created", "pending", number, lines)
            for line in lines:
                yield self._stock(line, "inventory.reserved")
            yield self._order("order.paid", "paid", number, lines)

    def _stock(self, product: int, event_type: str) -> EncodedEvent:
        subject, seller = f"product-{product:06}", _seller(product)
        sequence = self._next(subject)
        data = Inventory(
            product_id=subject,
            seller_id=seller,
            name=f"Product {product}",
            stock=100,
            delta=-1,
            reason=None,
            order_id=None,
            threshold=None,
            inventory_version=sequence,
        )
        return self._encoded(event_type, subject, seller, sequence, data)

    def _order(
        self, event_type: str, status: OrderStatus, number: int, products: list[int]
    ) -> EncodedEvent:
        subject, seller = f"order-{number:08}", _seller(number)
        at = format_time(self.clock.now())
        price = Decimal(PRICE_MINOR) / 100
        items = tuple(
            OrderItem(
                product_id=f"product-{product:06}",
                name=f"Product {product}",
                quantity=1,
                unit_price=price,
                unit_price_minor=PRICE_MINOR,
                total_minor=PRICE_MINOR,
            )
            for product in products
        )
        total = PRICE_MINOR * len(items)
        sequence = self._next(subject)
        data = Order(
            id=subject,
            status=status,
            customer_id=None,
            seller_id=seller,
            items=items,
            subtotal_minor=total,
            tax_minor=0,
            shipping_minor=0,
            total=Decimal(total) / 100,
            total_minor=total,
            refunded_minor=0,
            currency="USD",
            reserved_until=None,
            cancel_reason=None,
            version=sequence,
            created_at=at,
            updated_at=at,
        )
        return self._encoded(event_type, subject, seller, sequence, data)

    def _encoded(
        self, event_type: str, subject: str, seller: str, sequence: int, data: Payload
    ) -> EncodedEvent:
        return encode(
            event_type,
            event_id=self._ids.new_id(),
            subject=subject,
            seller_id=seller,
            sequence=sequence,
            time=self.clock.now(),
            data=encode_payload(data),
        )

    def _next(self, subject: str) -> int:
        self._sequences[subject] = sequence = self._sequences.get(subject, 0) + 1
        return sequence


def _seller(number: int) -> str:
    return f"seller-{number % SELLERS:03}"
