"""The steps of a placed order. Each runs inside the caller's transaction."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import NotFound
from shopstream_api.orders.events import stepped
from shopstream_api.orders.models import CancelReason, OrderRow
from shopstream_api.orders.repository import OrderRepository
from shopstream_api.orders.transitions import HOLDING, require
from shopstream_api.principal import Principal
from shopstream_api.stock.ledger import Change, apply
from shopstream_api.stock.repository import StockRepository
from shopstream_shared.events.payloads import OrderStatus


@dataclass(frozen=True, slots=True)
class OrderSteps:
    """``threshold`` is LOW_STOCK_THRESHOLD."""

    threshold: int

    async def advance(
        self, tx: Transaction, principal: Principal, order_id: UUID, wanted: OrderStatus
    ) -> OrderRow:
        """Confirm, pay, ship or deliver. Raises NotFound, IllegalTransition."""
        before = await self._locked(tx, principal, order_id, wanted)
        held = before.reserved_until if wanted in HOLDING else None
        after = _next(tx, before, wanted, reserved_until=held)
        await OrderRepository(tx.connection).step(after)
        stepped(tx, after)
        if wanted == "paid":
            await self._consume(tx, order_id)
        return after

    async def cancel(
        self,
        tx: Transaction,
        principal: Principal,
        order_id: UUID,
        reason: CancelReason = "requested",
    ) -> OrderRow:
        """Cancel and give the stock back. Raises NotFound, IllegalTransition."""
        before = await self._locked(tx, principal, order_id, "cancelled")
        after = _next(tx, before, "cancelled", cancel_reason=reason)
        await OrderRepository(tx.connection).step(after)
        # Protocol rule 2: cause before effect.
        stepped(tx, after)
        stock = StockRepository(tx.connection)
        held = await stock.held_by(order_id)
        # A product deleted since still gets its units back: its ledger goes on.
        products = await stock.locked(list(held), deleted=True)
        changes = [
            Change(
                products[item.product_id],
                held[item.product_id],
                "inventory.released",
                held=-held[item.product_id],
                reason=reason,
                order_id=order_id,
            )
            for item in before.items
        ]
        await apply(tx, changes, self.threshold)
        await stock.end_holds(order_id, "released")
        return after

    async def _locked(
        self, tx: Transaction, principal: Principal, order_id: UUID, wanted: OrderStatus
    ) -> OrderRow:
        row = await OrderRepository(tx.connection).locked(order_id)
        if row is None:
            raise NotFound("There is no such order.")
        principal.require_owner(row.seller_id, "order")
        require(row.status, wanted)
        return row

    async def _consume(self, tx: Transaction, order_id: UUID) -> None:
        """Paid units are no longer held; sellable stock does not change, so no stock event."""
        stock = StockRepository(tx.connection)
        held = await stock.held_by(order_id)
        products = await stock.locked(list(held), deleted=True)
        await stock.set_levels(
            [replace(row, reserved=row.reserved - held[pid]) for pid, row in products.items()]
        )
        await stock.end_holds(order_id, "consumed")


def _next(
    tx: Transaction,
    before: OrderRow,
    status: OrderStatus,
    *,
    reserved_until: datetime | None = None,
    cancel_reason: CancelReason | None = None,
) -> OrderRow:
    return replace(
        before,
        status=status,
        version=before.version + 1,
        updated_at=tx.now(after=before.updated_at),
        reserved_until=reserved_until,
        cancel_reason=cancel_reason,
    )
