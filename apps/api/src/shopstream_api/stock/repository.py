"""SQL of stock."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.catalog.models import ROW_COLUMNS, ROW_NAMES, ProductRow, products, row_of
from shopstream_api.db import arrays
from shopstream_api.db.pipeline import Pipeline
from shopstream_api.db.wire import Statement
from shopstream_api.outbox.position import READ_POSITION, one_id
from shopstream_api.paging import Page, Paging, keyset, page_of
from shopstream_api.stock.models import Movement, Reservation, stock_movements

# Levels, ledger rows and new reservations: what a change of stock writes is one statement.
_CHANGE: Final = Statement(
    "stock_change",
    """
WITH m AS (
    INSERT INTO stock_movements
        (id, product_id, inventory_version, seller_id, delta, stock, cause, reason, reference,
         order_id, created_at)
    SELECT * FROM unnest(
        %(movement_ids)s, %(moved)s, %(movement_versions)s, %(sellers)s, %(deltas)s,
        %(movement_stocks)s, %(causes)s, %(reasons)s, %(references)s, %(orders)s, %(movement_at)s
    )
), r AS (
    INSERT INTO reservations
        (id, product_id, order_id, quantity, reference, status, reserved_until, created_at)
    SELECT * FROM unnest(
        %(held_ids)s, %(held)s, %(held_orders)s, %(quantities)s, %(held_references)s,
        %(statuses)s, %(until)s, %(held_at)s
    )
)
UPDATE products AS p
SET stock = v.stock, reserved = v.reserved, inventory_version = v.inventory_version,
    updated_at = v.updated_at
FROM unnest(%(ids)s, %(stocks)s, %(reserved)s, %(versions)s, %(updated_at)s)
    AS v (id, stock, reserved, inventory_version, updated_at)
WHERE p.id = v.id
""",
)
# Sorted: all who lock several products lock them in this one order, so none waits in a ring.
_LOCKED: Final = Statement(
    "stock_locked",
    f"""
SELECT {ROW_NAMES}, p.deleted_at IS NULL
FROM products AS p WHERE p.id = ANY(%(ids)s) ORDER BY p.id FOR UPDATE
""",  # noqa: S608 - put together from constants
)
_INVENTORY: Final = select(*ROW_COLUMNS, READ_POSITION.c.stream_id).select_from(
    READ_POSITION.outerjoin(
        products, (products.c.id == bindparam("id_")) & products.c.deleted_at.is_(None)
    )
)
_MOVEMENT: Final = tuple(Movement.__dataclass_fields__)
_RESERVATION: Final = tuple(Reservation.__dataclass_fields__)
# An order's reservations end with the order and are nobody else's to take by their ids.
_FREE: Final = f"""
SELECT {", ".join(_RESERVATION)} FROM reservations
WHERE id = (%(ids)s)[1] AND order_id IS NULL AND status = 'active'"""  # noqa: S608 - constants
_RESERVED: Final = Statement("reservation_locked", f"{_FREE} FOR UPDATE")
_OVERDUE: Final = Statement(
    "reservation_overdue", f"{_FREE} AND reserved_until <= (%(now)s)[1] FOR UPDATE SKIP LOCKED"
)
_END_HOLDS: Final = Statement(
    "order_end_holds",
    """
UPDATE reservations SET status = (%(statuses)s)[1]
WHERE order_id = (%(ids)s)[1] AND status = 'active'
""",
)
_END_HOLD: Final = Statement(
    "reservation_end",
    """
UPDATE reservations SET status = (%(statuses)s)[1] WHERE id = (%(ids)s)[1]
""",
)


class StockRepository:
    """Stock in a command's transaction."""

    def __init__(self, statements: Pipeline) -> None:
        self._statements = statements

    async def locked(
        self, product_ids: Sequence[UUID], *, deleted: bool = False
    ) -> dict[UUID, ProductRow]:
        """The products by id, locked in the order of their ids; deleted ones only if asked for."""
        found = await self._statements.run(_LOCKED, {"ids": arrays.uuids(sorted(set(product_ids)))})
        return {row[0]: row_of(row) for row in found if deleted or row[-1]}

    def change(
        self,
        rows: Sequence[ProductRow],
        movements: Sequence[Movement] = (),
        held: Sequence[Reservation] = (),
    ) -> None:
        """Store levels and times of locked products, append to the ledger, add reservations."""
        self._statements.add(_CHANGE, _levels(rows) | _movements(movements) | _holds(held))

    def end_holds(self, order_id: UUID, status: str) -> None:
        """End an order's active reservations."""
        self._statements.add(_END_HOLDS, _ended(order_id, status))

    def end_hold(self, reservation_id: UUID, status: str) -> None:
        """End one locked reservation."""
        self._statements.add(_END_HOLD, _ended(reservation_id, status))

    async def reserved(self, reservation_id: UUID) -> Reservation | None:
        """A seller's own active reservation, locked until the transaction ends."""
        found = await self._statements.run(_RESERVED, {"ids": arrays.uuids([reservation_id])})
        return Reservation(*found[0]) if found else None

    async def overdue(self, reservation_id: UUID, now: datetime) -> Reservation | None:
        """The same if its time is over, unless another transaction has it locked."""
        values = {"ids": arrays.uuids([reservation_id]), "now": arrays.moments([now])}
        found = await self._statements.run(_OVERDUE, values)
        return Reservation(*found[0]) if found else None


class StockReader:
    """Stock as it is shown, on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def inventory(self, product_id: UUID) -> tuple[ProductRow | None, str | None]:
        """The product and the stream position of the same snapshot."""
        found = (await self._connection.execute(_INVENTORY, {"id_": product_id})).one()
        return (None if found[0] is None else row_of(found)), one_id(found[-1])

    async def movements(self, product_id: UUID, paging: Paging) -> Page[Movement]:
        """One page of a product's ledger, newest first.

        By version, which is exact where a clock that stood still or went back gave equal times.
        """
        columns, version = stock_movements.c, stock_movements.c.inventory_version
        statement = select(*(columns[name] for name in _MOVEMENT)).where(
            columns.product_id == product_id
        )
        ordered = keyset(statement, paging.shape, version)
        found = await self._connection.execute(ordered, paging.values())
        rows = [Movement(*row) for row in found]
        return page_of(rows, paging, lambda row: (row.inventory_version, row.id))


def _ended(thing_id: UUID, status: str) -> dict[str, arrays.Array]:
    return {"ids": arrays.uuids([thing_id]), "statuses": arrays.texts([status])}


def _levels(rows: Sequence[ProductRow]) -> dict[str, arrays.Array]:
    return {
        "ids": arrays.uuids(row.id for row in rows),
        "stocks": arrays.integers(row.stock for row in rows),
        "reserved": arrays.integers(row.reserved for row in rows),
        "versions": arrays.integers(row.inventory_version for row in rows),
        "updated_at": arrays.moments(row.updated_at for row in rows),
    }


def _movements(movements: Sequence[Movement]) -> dict[str, arrays.Array]:
    return {
        "movement_ids": arrays.uuids(row.id for row in movements),
        "moved": arrays.uuids(row.product_id for row in movements),
        "movement_versions": arrays.integers(row.inventory_version for row in movements),
        "sellers": arrays.texts(row.seller_id for row in movements),
        "deltas": arrays.integers(row.delta for row in movements),
        "movement_stocks": arrays.integers(row.stock for row in movements),
        "causes": arrays.texts(row.cause for row in movements),
        "reasons": arrays.texts(row.reason for row in movements),
        "references": arrays.texts(row.reference for row in movements),
        "orders": arrays.uuids(row.order_id for row in movements),
        "movement_at": arrays.moments(row.created_at for row in movements),
    }


def _holds(held: Sequence[Reservation]) -> dict[str, arrays.Array]:
    return {
        "held_ids": arrays.uuids(row.id for row in held),
        "held": arrays.uuids(row.product_id for row in held),
        "held_orders": arrays.uuids(row.order_id for row in held),
        "quantities": arrays.integers(row.quantity for row in held),
        "held_references": arrays.texts(row.reference for row in held),
        "statuses": arrays.texts(row.status for row in held),
        "until": arrays.moments(row.reserved_until for row in held),
        "held_at": arrays.moments(row.created_at for row in held),
    }
