"""SQL of what is overdue. Every hold has an active row of `reservations`, whoever made it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.orders.models import orders
from shopstream_api.orders.transitions import HOLDING

# The status is written out, or a prepared statement could not use the index of active ones.
_DUE: Final = text("""
SELECT order_id, id FROM reservations
WHERE status = 'active' AND reserved_until <= :now
  AND coalesce(order_id, id) <> ALL (CAST(:but AS uuid[]))
ORDER BY reserved_until LIMIT :rows
""")
_NEXT: Final = text("SELECT min(reserved_until) FROM reservations WHERE status = 'active'")
_CLAIM: Final = (
    select(orders.c.id)
    .where(
        orders.c.id == bindparam("id_"),
        orders.c.status.in_(HOLDING),
        orders.c.reserved_until <= bindparam("now"),
    )
    .with_for_update(skip_locked=True)
)


@dataclass(frozen=True, slots=True)
class Hold:
    """What is ended as one: an order with all its reservations, or a seller's reservation."""

    id: UUID
    is_order: bool


class ExpiryRepository:
    """What is overdue, on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def due(self, now: datetime, but: Collection[UUID], rows: int) -> tuple[list[Hold], bool]:
        """Holds whose time is over, longest first, without those in ``but``.

        Up to ``rows`` reservations are read; True when that many were there.
        """
        values = {"now": now, "but": list(but), "rows": rows}
        found = (await self._connection.execute(_DUE, values)).all()
        # An order with many lines has many rows; a dict keeps the first of each, in order.
        holds = {
            order_id or reservation_id: order_id is not None for order_id, reservation_id in found
        }
        return [Hold(*hold) for hold in holds.items()], len(found) == rows

    async def next_due(self) -> datetime | None:
        """When the first of all active holds ends, or should have."""
        found: datetime | None = (await self._connection.execute(_NEXT)).scalar_one()
        return found

    async def claim_order(self, order_id: UUID, now: datetime) -> bool:
        """Lock an overdue order; False when it is not one, or another transaction is at it."""
        values = {"id_": order_id, "now": now}
        return (await self._connection.execute(_CLAIM, values)).first() is not None
