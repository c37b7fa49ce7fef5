"""Every change of stock goes through here: level, ledger row, event and warning together.

A change takes one inventory version, its warning the next (both ride on the inventory's topic,
the warning right after its cause).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from shopstream_api.catalog.models import ProductRow
from shopstream_api.db.transaction import Transaction
from shopstream_api.stock.models import Movement, Reservation
from shopstream_api.stock.repository import StockRepository
from shopstream_api.stock.rules import LOW, warning
from shopstream_shared.events.codec import encode_payload
from shopstream_shared.events.payloads import Inventory


@dataclass(frozen=True, slots=True)
class Change:
    """A change to one locked product; ``held`` moves the reserved units by so many.

    ``reference`` stands in the ledger only: a reservation's own text, or an import's id.
    """

    row: ProductRow
    delta: int
    event_type: str
    held: int = 0
    reason: str | None = None
    order_id: UUID | None = None
    reference: str | None = None


def apply(
    tx: Transaction,
    changes: Sequence[Change],
    threshold: int,
    begun: Sequence[Reservation] = (),
) -> list[ProductRow]:
    """Make the changes, each of another locked product; returns the rows as they are after.

    ``begun`` are the reservations that begin with these changes.
    The caller has checked that no stock falls below zero; the table's constraint checks again.
    """
    rows, movements = [], []
    for change in changes:
        after, movement = _one(tx, change, threshold)
        rows.append(after)
        movements.append(movement)
    StockRepository(tx.statements).change(rows, movements, begun)
    return rows


def _one(tx: Transaction, change: Change, threshold: int) -> tuple[ProductRow, Movement]:
    before = change.row
    after = replace(
        before,
        stock=before.stock + change.delta,
        reserved=before.reserved + change.held,
        inventory_version=before.inventory_version + 1,
        updated_at=tx.now(after=before.updated_at),
    )
    movement = Movement(
        id=UUID(tx.new_id()),
        product_id=after.id,
        inventory_version=after.inventory_version,
        seller_id=after.seller_id,
        delta=change.delta,
        stock=after.stock,
        cause=change.event_type,
        reason=change.reason,
        reference=change.reference,
        order_id=change.order_id,
        created_at=after.updated_at,
    )
    _emit(tx, change.event_type, after, change, None)
    crossed = warning(before.stock, after.stock, threshold)
    if crossed is not None:
        after = replace(after, inventory_version=after.inventory_version + 1)
        _emit(tx, crossed, after, change, threshold if crossed == LOW else 0)
    return after, movement


def _emit(
    tx: Transaction, event_type: str, row: ProductRow, change: Change, threshold: int | None
) -> None:
    tx.emit(
        event_type,
        subject=str(row.id),
        seller_id=row.seller_id,
        sequence=row.inventory_version,
        at=row.updated_at,
        data=encode_payload(
            Inventory(
                product_id=str(row.id),
                seller_id=row.seller_id,
                name=row.name,
                stock=row.stock,
                delta=change.delta,
                reason=change.reason,
                order_id=None if change.order_id is None else str(change.order_id),
                threshold=threshold,
                inventory_version=row.inventory_version,
            )
        ),
    )
