"""SQL of stock."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.catalog.models import ROW_COLUMNS, ProductRow, products, row_of
from shopstream_api.outbox.models import stream_position
from shopstream_api.paging import Page, Paging, keyset, page_of
from shopstream_api.stock.models import Movement, Reservation, reservations, stock_movements

_LEVELS: Final = text("""
UPDATE products AS p
SET stock = v.stock, reserved = v.reserved, inventory_version = v.inventory_version,
    updated_at = v.updated_at
FROM unnest(
    CAST(:id AS uuid[]), CAST(:stock AS integer[]), CAST(:reserved AS integer[]),
    CAST(:inventory_version AS integer[]), CAST(:updated_at AS timestamptz[])
) AS v (id, stock, reserved, inventory_version, updated_at)
WHERE p.id = v.id
""")
# Sorted: all who lock several products lock them in this one order, so none waits in a ring.
_LOCKED: Final = (
    select(*ROW_COLUMNS, products.c.deleted_at.is_(None))
    .where(products.c.id == func.any(bindparam("ids", type_=postgresql.ARRAY(postgresql.UUID))))
    .order_by(products.c.id)
    .with_for_update()
)
_INVENTORY: Final = (
    select(*ROW_COLUMNS, stream_position.c.stream_id)
    .select_from(
        stream_position.outerjoin(
            products, (products.c.id == bindparam("id_")) & products.c.deleted_at.is_(None)
        )
    )
    .where(stream_position.c.shard == 0)
)
_HELD: Final = (
    select(reservations.c.product_id, reservations.c.quantity)
    .where(reservations.c.order_id == bindparam("order"), reservations.c.status == "active")
    .order_by(reservations.c.product_id)
)


class StockRepository:
    """Stock on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def locked(
        self, product_ids: Sequence[UUID], *, deleted: bool = False
    ) -> dict[UUID, ProductRow]:
        """The products by id, locked in the order of their ids; deleted ones only if asked for."""
        found = await self._connection.execute(_LOCKED, {"ids": sorted(set(product_ids))})
        return {row[0]: row_of(row) for row in found if deleted or row[-1]}

    async def set_levels(self, rows: Sequence[ProductRow]) -> None:
        """Store stock, reserved units, inventory version and time of locked products."""
        names = ("id", "stock", "reserved", "inventory_version", "updated_at")
        values = {name: [getattr(row, name) for row in rows] for name in names}
        await self._connection.execute(_LEVELS, values)

    async def add_movements(self, movements: Sequence[Movement]) -> None:
        """Append to the ledger."""
        await self._connection.execute(
            insert(stock_movements), [asdict(movement) for movement in movements]
        )

    async def hold(self, held: Sequence[Reservation]) -> None:
        """Add reservations."""
        await self._connection.execute(
            insert(reservations), [asdict(reservation) for reservation in held]
        )

    async def held_by(self, order_id: UUID) -> dict[UUID, int]:
        """Units an order holds, by product."""
        found = await self._connection.execute(_HELD, {"order": order_id})
        return {row[0]: row[1] for row in found}

    async def end_holds(self, order_id: UUID, status: str) -> None:
        """End an order's active reservations."""
        held = reservations.c
        await self._connection.execute(
            update(reservations)
            .where(held.order_id == order_id, held.status == "active")
            .values(status=status)
        )

    async def inventory(self, product_id: UUID) -> tuple[ProductRow | None, str | None]:
        """The product and the stream position of the same snapshot."""
        found = (await self._connection.execute(_INVENTORY, {"id_": product_id})).one()
        return (None if found[0] is None else row_of(found)), found[-1]

    async def movements(self, product_id: UUID, paging: Paging) -> Page[Movement]:
        """One page of a product's ledger, newest first."""
        columns = stock_movements.c
        names = tuple(Movement.__dataclass_fields__)
        statement = select(*(columns[name] for name in names)).where(
            columns.product_id == product_id
        )
        found = await self._connection.execute(
            keyset(statement, paging, columns.created_at, columns.id)
        )
        rows = [Movement(**dict(zip(names, row, strict=True))) for row in found]
        return page_of(rows, paging, lambda row: (row.created_at, row.id))
