"""Place an order: stock, order, ledger and events commit together or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shopstream_api.catalog.models import ProductRow
from shopstream_api.db.transaction import Transaction
from shopstream_api.orders.errors import MixedCurrencies, MixedSellers, ProductNotAvailable
from shopstream_api.orders.events import stepped
from shopstream_api.orders.models import ItemRow, OrderRow
from shopstream_api.orders.repository import OrderRepository
from shopstream_api.orders.schemas import PlaceOrder
from shopstream_api.stock.errors import InsufficientStock, Shortage
from shopstream_api.stock.ledger import Change, apply
from shopstream_api.stock.models import Reservation
from shopstream_api.stock.repository import StockRepository


@dataclass(frozen=True, slots=True)
class PlaceOrders:
    """``threshold``: LOW_STOCK_THRESHOLD; ``hold``: how long an unpaid order keeps its units."""

    threshold: int
    hold: timedelta

    async def __call__(self, tx: Transaction, command: PlaceOrder) -> OrderRow:
        """Anyone may buy, so no principal is asked.

        Raises ProductNotAvailable, MixedSellers, MixedCurrencies, InsufficientStock.
        """
        units = command.merged()
        stock = StockRepository(tx.statements)
        products = await stock.locked(list(units))
        _require_orderable(command, products)
        _require_stock(units, products)
        row = self._order(tx, command, units, products)
        OrderRepository(tx.statements).add(row)
        # Protocol rule 2: cause before effect, the order before the stock it takes.
        stepped(tx, row)
        changes = [
            Change(products[pid], -count, "inventory.reserved", held=count, order_id=row.id)
            for pid, count in units.items()
        ]
        until = row.created_at + self.hold
        begun = [_held(tx, row, item, until) for item in row.items]
        apply(tx, changes, self.threshold, begun)
        return row

    def _order(
        self,
        tx: Transaction,
        command: PlaceOrder,
        units: Mapping[UUID, int],
        products: Mapping[UUID, ProductRow],
    ) -> OrderRow:
        items = tuple(
            ItemRow(pid, products[pid].name, count, products[pid].price_minor)
            for pid, count in units.items()
        )
        total = sum(item.total_minor for item in items)
        first = products[items[0].product_id]
        now = tx.now()
        return OrderRow(
            id=UUID(tx.new_id()),
            seller_id=first.seller_id,
            customer_id=command.customer_id,
            status="pending",
            currency=first.currency,
            subtotal_minor=total,
            tax_minor=0,
            shipping_minor=0,
            total_minor=total,
            refunded_minor=0,
            reserved_until=now + self.hold,
            cancel_reason=None,
            version=1,
            created_at=now,
            updated_at=now,
            items=items,
        )


def _require_orderable(command: PlaceOrder, products: Mapping[UUID, ProductRow]) -> None:
    active = {pid for pid, row in products.items() if row.status == "active"}
    unknown = [line.index for line in command.lines if line.product not in active]
    if unknown:
        raise ProductNotAvailable(unknown)
    if len({row.seller_id for row in products.values()}) > 1:
        raise MixedSellers
    if len({row.currency for row in products.values()}) > 1:
        raise MixedCurrencies


def _require_stock(units: Mapping[UUID, int], products: Mapping[UUID, ProductRow]) -> None:
    short = [
        Shortage(str(pid), count, products[pid].stock)
        for pid, count in units.items()
        if count > products[pid].stock
    ]
    if short:
        raise InsufficientStock(short)


def _held(tx: Transaction, row: OrderRow, item: ItemRow, until: datetime) -> Reservation:
    return Reservation(
        id=UUID(tx.new_id()),
        product_id=item.product_id,
        order_id=row.id,
        quantity=item.quantity,
        reserved_until=until,
        created_at=row.created_at,
    )
