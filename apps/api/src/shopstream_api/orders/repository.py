"""SQL of orders."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, Text, bindparam, func, literal, select, true
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.db import arrays
from shopstream_api.db.pipeline import Pipeline
from shopstream_api.db.wire import Statement
from shopstream_api.orders.models import (
    COLUMN_NAMES,
    ItemRow,
    OrderRow,
    order_history,
    order_items,
    orders,
)
from shopstream_api.outbox.position import READ_POSITION, one_id
from shopstream_api.paging import Page, Paging, Shape, keyset, page_of

_COLUMNS: Final = tuple(orders.columns)
# Protocol rule 29, as in the catalog: the order and the position in one statement.
_SHOWN: Final = select(*_COLUMNS, READ_POSITION.c.stream_id).select_from(
    READ_POSITION.outerjoin(orders, orders.c.id == bindparam("id_"))
)
_ITEMS: Final = (
    select(
        order_items.c.order_id,
        order_items.c.product_id,
        order_items.c.name,
        order_items.c.quantity,
        order_items.c.unit_price_minor,
    )
    .where(
        order_items.c.order_id
        == func.any(bindparam("ids", type_=postgresql.ARRAY(postgresql.UUID)))
    )
    .order_by(order_items.c.order_id, order_items.c.line)
)
_HISTORY: Final = (
    select(
        order_history.c.version, order_history.c.status, order_history.c.reason, order_history.c.at
    )
    .where(order_history.c.order_id == bindparam("id_"))
    .order_by(order_history.c.version)
)
_NAMES: Final = ", ".join(COLUMN_NAMES)
# One id, not one of a list: only then the server leaves out all partitions but one.
_LOCKED: Final = Statement(
    "order_locked",
    f"SELECT {_NAMES} FROM orders WHERE id = (%(ids)s)[1] FOR UPDATE",  # noqa: S608 - constants
)
_LINES: Final = Statement(
    "order_lines",
    """
SELECT product_id, name, quantity, unit_price_minor FROM order_items
WHERE order_id = (%(ids)s)[1] ORDER BY line
""",
)
# What a command writes of an order is one statement.
_ADD: Final = Statement(
    "order_add",
    f"""
WITH v AS (
    SELECT * FROM unnest({", ".join(f"%({name})s" for name in COLUMN_NAMES)}) AS t ({_NAMES})
), o AS (
    INSERT INTO orders ({_NAMES}) SELECT {_NAMES} FROM v
), h AS (
    INSERT INTO order_history (order_id, version, status, at)
    SELECT id, version, status, updated_at FROM v
)
INSERT INTO order_items
    (order_id, line, product_id, name, quantity, unit_price_minor, total_minor)
SELECT v.id, n - 1, t.product_id, t.name, t.quantity, t.unit_price_minor, t.total_minor
FROM v, unnest(%(product_ids)s, %(names)s, %(quantities)s, %(unit_prices)s, %(totals)s)
    WITH ORDINALITY AS t (product_id, name, quantity, unit_price_minor, total_minor, n)
""",  # noqa: S608 - put together from constants
)
_STEP: Final = Statement(
    "order_step",
    """
WITH o AS (
    UPDATE orders
    SET status = (%(status)s)[1], version = (%(version)s)[1], updated_at = (%(updated_at)s)[1],
        reserved_until = (%(reserved_until)s)[1], cancel_reason = (%(cancel_reason)s)[1],
        refunded_minor = (%(refunded_minor)s)[1]
    WHERE id = (%(id)s)[1]
)
INSERT INTO order_history (order_id, version, status, reason, refund_minor, at)
SELECT * FROM unnest(
    %(id)s, %(version)s, %(status)s, %(reasons)s, %(refunds_minor)s, %(updated_at)s
)
""",
)


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """What a list of orders is narrowed to; None = not narrowed."""

    customer_id: str | None = None
    seller_id: str | None = None
    status: str | None = None
    #: The caller's own seller: orders of others are not there for it.
    owner: str | None = None

    def select(self, shape: Shape) -> "Select[Any]":
        """The orders that are wanted; in `keyset`'s order, after what is the same in all of them.

        A seller's orders in one status may be none where the shares of both let the planner expect
        many: it would walk another index until it has a page, past all there is. It takes "one of a
        list of one" for no constant, so an order that begins with the two is had from their own
        index alone.
        """
        wanted = (
            (orders.c.seller_id, self.seller_id),
            (orders.c.seller_id, self.owner),
            (orders.c.status, self.status),
            (orders.c.customer_id, self.customer_id),
        )
        seller = self.seller_id or self.owner
        pinned = None not in {seller, self.status} and self.customer_id is None
        found = select(*_COLUMNS).where(
            *(
                column == (_one_of(value) if pinned else value)
                for column, value in wanted
                if value is not None
            )
        )
        return shape.outer_order(found, orders.c.seller_id, orders.c.status) if pinned else found


def _one_of(value: str) -> Any:
    return func.any(literal([value], postgresql.ARRAY(Text)))


class OrderRepository:
    """One order in a command's transaction."""

    def __init__(self, statements: Pipeline) -> None:
        self._statements = statements

    def add(self, row: OrderRow) -> None:
        """Store a placed order with its lines and the first step of its history."""
        items = row.items
        lines = {
            "product_ids": arrays.uuids(item.product_id for item in items),
            "names": arrays.texts(item.name for item in items),
            "quantities": arrays.integers(item.quantity for item in items),
            "unit_prices": arrays.bigints(item.unit_price_minor for item in items),
            "totals": arrays.bigints(item.total_minor for item in items),
        }
        self._statements.add(_ADD, _sent(row) | lines)

    def step(
        self, row: OrderRow, *, reason: str | None = None, refund_minor: int | None = None
    ) -> None:
        """Store a locked order's next version, and its step in the history."""
        step = {
            "reasons": arrays.texts([reason]),
            "refunds_minor": arrays.bigints([refund_minor]),
        }
        self._statements.add(_STEP, _sent(row) | step)

    async def locked(self, order_id: UUID) -> OrderRow | None:
        """The order with its lines, locked until the transaction ends."""
        ids = {"ids": arrays.uuids([order_id])}
        # Lines never change: they may be read beside the lock.
        found, lines = await self._statements.together((_LOCKED, ids), (_LINES, ids))
        if not found:
            return None
        return replace(_row(found[0]), items=tuple(ItemRow(*line) for line in lines))


class OrderReader:
    """Orders as they are shown, on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def shown(self, order_id: UUID) -> tuple[OrderRow | None, str | None]:
        """The order and the stream position of the same snapshot; lines never change."""
        found = (await self._connection.execute(_SHOWN, {"id_": order_id})).one()
        position = one_id(found[-1])
        if found[0] is None:
            return None, position
        (row,) = await self._with_items([_row(found)])
        return row, position

    async def page(self, wanted: OrderFilter, paging: Paging) -> tuple[Page[OrderRow], str | None]:
        """One page, newest first, and the stream position of the same snapshot."""
        shape = paging.shape
        rows = keyset(wanted.select(shape), shape, orders.c.created_at, orders.c.id).subquery()
        statement = select(rows, READ_POSITION.c.stream_id).select_from(
            READ_POSITION.outerjoin(rows, true())
        )
        ordered = shape.outer_order(statement, rows.c.created_at, rows.c.id)
        found = (await self._connection.execute(ordered, paging.values())).all()
        items = await self._with_items([_row(row) for row in found if row[0] is not None])
        page = page_of(items, paging, lambda row: (row.created_at, row.id))
        return page, one_id(found[0][-1]) if found else None

    async def history(self, order_id: UUID) -> Sequence[Sequence[Any]]:
        """(version, status, reason, at) of every step, oldest first."""
        return (await self._connection.execute(_HISTORY, {"id_": order_id})).all()

    async def _with_items(self, rows: Sequence[OrderRow]) -> list[OrderRow]:
        items: dict[UUID, list[ItemRow]] = {row.id: [] for row in rows}
        if rows:
            found = await self._connection.execute(_ITEMS, {"ids": list(items)})
            for order_id, *line in found:
                items[order_id].append(ItemRow(*line))
        return [replace(row, items=tuple(items[row.id])) for row in rows]


def _sent(row: OrderRow) -> dict[str, arrays.Array]:
    """The columns as parameters."""
    return {
        "id": arrays.uuids([row.id]),
        "seller_id": arrays.texts([row.seller_id]),
        "customer_id": arrays.texts([row.customer_id]),
        "status": arrays.texts([row.status]),
        "currency": arrays.texts([row.currency]),
        "subtotal_minor": arrays.bigints([row.subtotal_minor]),
        "tax_minor": arrays.bigints([row.tax_minor]),
        "shipping_minor": arrays.bigints([row.shipping_minor]),
        "total_minor": arrays.bigints([row.total_minor]),
        "refunded_minor": arrays.bigints([row.refunded_minor]),
        "reserved_until": arrays.moments([row.reserved_until]),
        "cancel_reason": arrays.texts([row.cancel_reason]),
        "version": arrays.integers([row.version]),
        "created_at": arrays.moments([row.created_at]),
        "updated_at": arrays.moments([row.updated_at]),
    }


def _row(found: Sequence[Any]) -> OrderRow:
    return OrderRow(**dict(zip(COLUMN_NAMES, found, strict=False)))
