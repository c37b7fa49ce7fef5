"""Use cases of stock. Each runs inside the caller's transaction.

Locks are taken in one order everywhere: the order or the reservation first, its products after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from shopstream_api.catalog.models import ProductRow
from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import NotFound, ValidationFailed, VersionMismatch
from shopstream_api.principal import Principal
from shopstream_api.stock.errors import InsufficientStock, Shortage
from shopstream_api.stock.ledger import Change, apply
from shopstream_api.stock.models import Reservation
from shopstream_api.stock.repository import StockRepository
from shopstream_api.stock.rules import fits
from shopstream_api.stock.schemas import Adjustment, NewReservation, SetStock

UPDATED: Final = "inventory.updated"
RESERVED: Final = "inventory.reserved"
RELEASED: Final = "inventory.released"


@dataclass(frozen=True, slots=True)
class StockService:
    """``threshold``: LOW_STOCK_THRESHOLD; ``hold``: how long a reservation keeps its units."""

    threshold: int
    hold: timedelta

    async def adjust(
        self, tx: Transaction, principal: Principal, product_id: UUID, adjustment: Adjustment
    ) -> ProductRow:
        """Add or take units. Raises NotFound, InsufficientStock, ValidationFailed."""
        row = await self._locked(tx, principal, product_id)
        after = row.stock + adjustment.delta
        if after < 0:
            raise InsufficientStock([Shortage(str(row.id), -adjustment.delta, row.stock)])
        require_room(row, after, "/delta")
        return self._change(tx, row, adjustment.delta, adjustment.reason)

    async def set(
        self, tx: Transaction, principal: Principal, product_id: UUID, wanted: SetStock
    ) -> tuple[ProductRow, int]:
        """Compare and set; returns the row and by how much it changed.

        Raises NotFound, ValidationFailed, VersionMismatch when the stock is not the expected one.
        """
        row = await self._locked(tx, principal, product_id)
        if row.stock != wanted.expected:
            raise VersionMismatch(f"The stock is {row.stock} now, not {wanted.expected}.")
        delta = wanted.quantity - row.stock
        if delta == 0:
            return row, 0
        require_room(row, wanted.quantity, "/quantity")
        return self._change(tx, row, delta, None), delta

    async def reserve(
        self, tx: Transaction, principal: Principal, product_id: UUID, wanted: NewReservation
    ) -> Reservation:
        """Hold units for a while, as an order does. Raises NotFound, InsufficientStock."""
        row = await self._locked(tx, principal, product_id)
        if wanted.quantity > row.stock:
            raise InsufficientStock([Shortage(str(row.id), wanted.quantity, row.stock)])
        now = tx.now()
        held = Reservation(
            id=UUID(tx.new_id()),
            product_id=product_id,
            order_id=None,
            quantity=wanted.quantity,
            reserved_until=now + self.hold,
            created_at=now,
            reference=wanted.reference,
        )
        change = Change(row, -held.quantity, RESERVED, held=held.quantity, reference=held.reference)
        self._apply_held(tx, held, change, begun=[held])
        return held

    async def release(self, tx: Transaction, principal: Principal, reservation_id: UUID) -> None:
        """End a reservation and give its units back.

        Raises NotFound when it is unknown, has ended, is an order's or another seller's.
        """
        held = await StockRepository(tx.statements).reserved(reservation_id)
        if held is None:
            raise NotFound("There is no such reservation.")
        await self._give_back(tx, principal, held, "requested")

    async def expire(self, tx: Transaction, reservation_id: UUID) -> bool:
        """End a reservation that is overdue; False when it is not, or when another is at it."""
        held = await StockRepository(tx.statements).overdue(reservation_id, tx.now())
        if held is None:
            return False
        await self._give_back(tx, Principal(), held, "expired")
        return True

    async def _give_back(
        self,
        tx: Transaction,
        principal: Principal,
        held: Reservation,
        reason: Literal["requested", "expired"],
    ) -> None:
        stock = StockRepository(tx.statements)
        # A product deleted since still gets its units back: its ledger goes on.
        row = (await stock.locked([held.product_id], deleted=True))[held.product_id]
        principal.require_owner(row.seller_id, "reservation")
        stock.end_hold(held.id, "released")
        change = Change(
            row,
            held.quantity,
            RELEASED,
            held=-held.quantity,
            reason=reason,
            reference=held.reference,
        )
        self._apply_held(tx, held, change)

    def _apply_held(
        self,
        tx: Transaction,
        held: Reservation,
        change: Change,
        begun: Sequence[Reservation] = (),
    ) -> None:
        (after,) = apply(tx, [change], self.threshold, begun)
        tx.audit(
            change.event_type,
            entity_type="reservation",
            entity_id=str(held.id),
            seller_id=after.seller_id,
            at=after.updated_at,
        )

    async def _locked(self, tx: Transaction, principal: Principal, product_id: UUID) -> ProductRow:
        found = await StockRepository(tx.statements).locked([product_id])
        row = found.get(product_id)
        if row is None:
            raise NotFound("There is no such product.")
        principal.require_owner(row.seller_id, "product")
        return row

    def set_many(
        self, tx: Transaction, levels: Sequence[tuple[ProductRow, int]], reference: str
    ) -> None:
        """Set the stock of locked products that all have another, and room (`require_room`)."""
        changes = [
            Change(row, wanted - row.stock, UPDATED, reference=reference) for row, wanted in levels
        ]
        for after in apply(tx, changes, self.threshold):
            _audit(tx, after)

    def _change(
        self, tx: Transaction, row: ProductRow, delta: int, reason: str | None
    ) -> ProductRow:
        change = Change(row, delta, UPDATED, reason=reason)
        (after,) = apply(tx, [change], self.threshold)
        _audit(tx, after)
        return after


def _audit(tx: Transaction, after: ProductRow) -> None:
    tx.audit(
        UPDATED,
        entity_type="product",
        entity_id=str(after.id),
        seller_id=after.seller_id,
        at=after.updated_at,
    )


def require_room(row: ProductRow | None, after: int, pointer: str) -> None:
    """Held units come back on a cancel, which may not fail: what is added leaves room for them.

    None: a product that is new. Raises ValidationFailed.
    """
    stock, reserved = (0, 0) if row is None else (row.stock, row.reserved)
    if after > stock and not fits(after + reserved):
        raise ValidationFailed.of(pointer, "out_of_range", "stock would be too large")
