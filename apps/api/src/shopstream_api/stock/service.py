"""Use cases of stock. Each runs inside the caller's transaction."""

from dataclasses import dataclass
from uuid import UUID

from shopstream_api.catalog.models import ProductRow
from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import NotFound, ValidationFailed, VersionMismatch
from shopstream_api.principal import Principal
from shopstream_api.stock.errors import InsufficientStock, Shortage
from shopstream_api.stock.ledger import Change, apply
from shopstream_api.stock.repository import StockRepository
from shopstream_api.stock.rules import fits
from shopstream_api.stock.schemas import Adjustment, SetStock

UPDATED = "inventory.updated"


@dataclass(frozen=True, slots=True)
class StockService:
    """``threshold`` is LOW_STOCK_THRESHOLD."""

    threshold: int

    async def adjust(
        self, tx: Transaction, principal: Principal, product_id: UUID, adjustment: Adjustment
    ) -> ProductRow:
        """Add or take units. Raises NotFound, InsufficientStock, ValidationFailed."""
        row = await self._locked(tx, principal, product_id)
        after = row.stock + adjustment.delta
        if after < 0:
            raise InsufficientStock([Shortage(str(row.id), -adjustment.delta, row.stock)])
        _require_room(row, after, "/delta")
        return await self._change(tx, row, adjustment.delta, adjustment.reason)

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
        _require_room(row, wanted.quantity, "/quantity")
        return await self._change(tx, row, delta, None), delta

    async def _locked(self, tx: Transaction, principal: Principal, product_id: UUID) -> ProductRow:
        found = await StockRepository(tx.connection).locked([product_id])
        row = found.get(product_id)
        if row is None:
            raise NotFound("There is no such product.")
        principal.require_owner(row.seller_id, "product")
        return row

    async def _change(
        self, tx: Transaction, row: ProductRow, delta: int, reason: str | None
    ) -> ProductRow:
        change = Change(row, delta, UPDATED, reason=reason)
        (after,) = await apply(tx, [change], self.threshold)
        tx.audit(
            UPDATED,
            entity_type="product",
            entity_id=str(after.id),
            seller_id=after.seller_id,
            at=after.updated_at,
        )
        return after


def _require_room(row: ProductRow, after: int, pointer: str) -> None:
    """Held units come back on a cancel, which may not fail: what is added leaves room for them."""
    if after > row.stock and not fits(after + row.reserved):
        raise ValidationFailed.of(pointer, "out_of_range", "stock would be too large")
