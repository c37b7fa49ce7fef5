"""SQL of stock."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, bindparam, func, insert, select, text, true, update
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
_MOVEMENT: Final = tuple(Movement.__dataclass_fields__)
_RESERVATION: Final = tuple(Reservation.__dataclass_fields__)
# An order's reservations end with the order and are nobody else's to take by their ids.
_FREE: Final = select(*(reservations.c[name] for name in _RESERVATION)).where(
    reservations.c.id == bindparam("id_"),
    reservations.c.order_id.is_(None),
    reservations.c.status == "active",
)
_RESERVED: Final = _FREE.with_for_update()
_OVERDUE: Final = _FREE.where(reservations.c.reserved_until <= bindparam("now")).with_for_update(
    skip_locked=True
)
#: Up to this threshold the low-stock list reads level by level (see `_low`).
LEVELS_MAX: Final = 100
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

    async def end_hold(self, reservation_id: UUID, status: str) -> None:
        """End one locked reservation."""
        await self._connection.execute(
            update(reservations).where(reservations.c.id == reservation_id).values(status=status)
        )

    async def reserved(self, reservation_id: UUID) -> Reservation | None:
        """A seller's own active reservation, locked until the transaction ends."""
        found = (await self._connection.execute(_RESERVED, {"id_": reservation_id})).first()
        return None if found is None else Reservation(*found)

    async def overdue(self, reservation_id: UUID, now: datetime) -> Reservation | None:
        """The same if its time is over, unless another transaction has it locked."""
        values = {"id_": reservation_id, "now": now}
        found = (await self._connection.execute(_OVERDUE, values)).first()
        return None if found is None else Reservation(*found)

    async def inventory(self, product_id: UUID) -> tuple[ProductRow | None, str | None]:
        """The product and the stream position of the same snapshot."""
        found = (await self._connection.execute(_INVENTORY, {"id_": product_id})).one()
        return (None if found[0] is None else row_of(found)), found[-1]

    async def movements(self, product_id: UUID, paging: Paging) -> Page[Movement]:
        """One page of a product's ledger, newest first.

        By version, which is exact where a clock that stood still or went back gave equal times.
        """
        columns, version = stock_movements.c, stock_movements.c.inventory_version
        statement = select(*(columns[name] for name in _MOVEMENT)).where(
            columns.product_id == product_id
        )
        found = await self._connection.execute(keyset(statement, paging, version))
        rows = [Movement(*row) for row in found]
        return page_of(rows, paging, lambda row: (row.inventory_version, row.id))

    async def low(
        self, threshold: int, sellers: Collection[str], paging: Paging
    ) -> tuple[Page[ProductRow], str | None]:
        """One page of products at or below the threshold, newest first, of all of these sellers.

        Also returns the stream position of the same snapshot.
        """
        rows = _low(threshold, sellers, paging).subquery()
        statement = (
            select(rows, stream_position.c.stream_id)
            .select_from(stream_position.outerjoin(rows, true()))
            .where(stream_position.c.shard == 0)
        )
        ordered = paging.outer_order(statement, rows.c.created_at, rows.c.id)
        found = (await self._connection.execute(ordered)).all()
        items = [row_of(row) for row in found if row[0] is not None]
        page = page_of(items, paging, lambda row: (row.created_at, row.id))
        return page, found[0][-1] if found else None


def _low(threshold: int, sellers: Collection[str], paging: Paging) -> "Select[Any]":
    """Low products newest first, read from an index that leads with the stock.

    Level by level: the index is in the order of the list only within one level, and a few rows of
    each are enough for a page, wherever it lies and however many products are low. With a high
    threshold most products are low, and the walk by time meets them soon.
    """
    live = select(*ROW_COLUMNS).where(products.c.deleted_at.is_(None))
    for seller in sellers:
        live = live.where(products.c.seller_id == seller)
    key = (products.c.created_at, products.c.id)
    if threshold > LEVELS_MAX:
        return keyset(live.where(products.c.stock <= threshold), paging, *key)
    levels = func.generate_series(0, threshold).table_valued("stock").render_derived()
    at_level = keyset(live.where(products.c.stock == levels.c.stock), paging, *key).lateral()
    low = select(at_level).select_from(levels).join(at_level, true())
    return paging.outer_order(low, at_level.c.created_at, at_level.c.id).limit(paging.limit + 1)
