"""The steps of a placed order. Each runs inside the caller's transaction."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import NotFound
from shopstream_api.orders.errors import RefundTooLarge
from shopstream_api.orders.events import refunded, stepped
from shopstream_api.orders.models import CancelReason, OrderRow, ReleaseReason
from shopstream_api.orders.repository import OrderRepository
from shopstream_api.orders.schemas import Refund
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
        OrderRepository(tx.statements).step(after)
        stepped(tx, after)
        if wanted == "paid":
            await self._consume(tx, after)
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
        OrderRepository(tx.statements).step(after, reason=reason)
        # Protocol rule 2: cause before effect.
        stepped(tx, after)
        await self._give_back(tx, after, reason, held=True)
        StockRepository(tx.statements).end_holds(order_id, "released")
        return after

    async def refund(
        self, tx: Transaction, principal: Principal, order_id: UUID, refund: Refund
    ) -> OrderRow:
        """Give back a part of what was paid, or all that is left.

        Only with the last of it does the order become refunded; if it was not shipped yet its
        units are sellable again. Raises NotFound, IllegalTransition, RefundTooLarge.
        """
        before = await self._locked(tx, principal, order_id, "refunded")
        left = before.total_minor - before.refunded_minor
        amount = left if refund.amount_minor is None else refund.amount_minor
        if not 1 <= amount <= left:
            raise RefundTooLarge(left)
        status = "refunded" if amount == left else before.status
        after = replace(_next(tx, before, status), refunded_minor=before.refunded_minor + amount)
        OrderRepository(tx.statements).step(after, reason=refund.reason, refund_minor=amount)
        refunded(tx, after, amount)
        if after.status == "refunded" and before.status == "paid":
            await self._give_back(tx, after, "refunded", held=False)
        return after

    async def _give_back(
        self, tx: Transaction, row: OrderRow, reason: ReleaseReason, *, held: bool
    ) -> None:
        """Make the order's units sellable; ``held``: they were reserved until now."""
        # A product deleted since still gets its units back: its ledger goes on.
        products = await StockRepository(tx.statements).locked(
            [item.product_id for item in row.items], deleted=True
        )
        changes = [
            Change(
                products[item.product_id],
                item.quantity,
                "inventory.released",
                held=-item.quantity if held else 0,
                reason=reason,
                order_id=row.id,
            )
            for item in row.items
        ]
        apply(tx, changes, self.threshold)

    async def _locked(
        self, tx: Transaction, principal: Principal, order_id: UUID, wanted: OrderStatus
    ) -> OrderRow:
        row = await OrderRepository(tx.statements).locked(order_id)
        if row is None:
            raise NotFound("There is no such order.")
        principal.require_owner(row.seller_id, "order")
        require(row.status, wanted)
        return row

    async def _consume(self, tx: Transaction, row: OrderRow) -> None:
        """Paid units are no longer held; sellable stock does not change, so no stock event."""
        stock = StockRepository(tx.statements)
        units = {item.product_id: item.quantity for item in row.items}
        products = await stock.locked(list(units), deleted=True)
        stock.change(
            [
                replace(found, reserved=found.reserved - units[pid])
                for pid, found in products.items()
            ]
        )
        stock.end_holds(row.id, "consumed")


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
