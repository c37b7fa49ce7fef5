"""Use cases of the catalog. Each runs inside the caller's transaction."""

from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, UnsetType

from shopstream_api.catalog.batch import Draft
from shopstream_api.catalog.events import change_type, changed
from shopstream_api.catalog.models import ProductRow
from shopstream_api.catalog.repository import ProductRepository
from shopstream_api.catalog.schemas import (
    Details,
    NewProduct,
    PatchProduct,
    ReplaceProduct,
    price_in,
)
from shopstream_api.db.record import Record
from shopstream_api.db.transaction import Transaction
from shopstream_api.errors import NotFound, ValidationFailed
from shopstream_api.preconditions import if_match
from shopstream_api.principal import Principal
from shopstream_shared.events.codec import encode_payload

#: asdict would copy every value, deeply.
_DETAILS: Final = tuple(Details.__dataclass_fields__)


def draft(record: Record, principal: Principal, new: NewProduct) -> Draft:
    """The product with what it leaves behind, made but not yet written. Raises Forbidden."""
    seller_id = principal.act_for(new.seller_id)
    now = record.now()
    row = ProductRow(
        id=UUID(record.new_id()),
        seller_id=seller_id,
        **columns(new.details),
        stock=new.stock,
        reserved=0,
        version=1,
        inventory_version=0,
        created_at=now,
        updated_at=now,
    )
    body = changed(record, "product.created", row)
    _audit(record, "product.created", row)
    return Draft(row, body, record.events[-1].event, record.audits[-1])


async def create(tx: Transaction, principal: Principal, new: NewProduct) -> Draft:
    """Raises Forbidden for another seller, DuplicateSku."""
    made = draft(tx, principal, new)
    await ProductRepository(tx.statements).add(made.row)
    return made


async def patch(
    tx: Transaction,
    principal: Principal,
    product_id: UUID,
    change: PatchProduct,
    match: str | None = None,
) -> ProductRow:
    """No change, no event.

    Raises NotFound, Forbidden, VersionMismatch, ValidationFailed, DuplicateSku.
    """
    before = await _locked(tx, principal, product_id, match)
    _same_seller(principal, change.seller_id, before)
    currency = change.changes.get("currency", before.currency)
    price = before.price if change.price is UNSET else change.price
    price_minor = price_in(currency, price)
    return await _store(tx, before, replace(before, **change.changes, price_minor=price_minor))


async def put(
    tx: Transaction,
    principal: Principal,
    product_id: UUID,
    replacement: ReplaceProduct,
    match: str | None = None,
) -> ProductRow:
    """No change, no event.

    Raises NotFound, Forbidden, VersionMismatch, ValidationFailed, DuplicateSku.
    """
    before = await _locked(tx, principal, product_id, match)
    _same_seller(principal, replacement.seller_id, before)
    _same("stock", replacement.stock, before.stock)
    return await _store(tx, before, replace(before, **columns(replacement.details)))


async def delete(
    tx: Transaction, principal: Principal, product_id: UUID, match: str | None = None
) -> None:
    """Soft: the row stays for its orders and its history. Raises NotFound, VersionMismatch."""
    before = await _locked(tx, principal, product_id, match)
    now = tx.now(after=before.updated_at)
    ProductRepository(tx.statements).delete(before, before.version + 1, now)
    # The contract: data is the product as it last was, so its version is sequence - 1.
    tx.emit(
        "product.deleted",
        subject=str(product_id),
        seller_id=before.seller_id,
        sequence=before.version + 1,
        at=now,
        data=encode_payload(before.shown()),
    )
    _audit(tx, "product.deleted", replace(before, updated_at=now))


async def _locked(
    tx: Transaction, principal: Principal, product_id: UUID, match: str | None
) -> ProductRow:
    row = await ProductRepository(tx.statements).locked(product_id)
    if row is None:
        raise NotFound("There is no such product.")
    principal.require_owner(row.seller_id, "product")
    if_match(match, row.version)
    return row


def revise(record: Record, before: ProductRow, after: ProductRow) -> ProductRow:
    """The next version of a locked product with what it leaves behind, not yet written.

    ``before`` itself when nothing changes: then nothing is left behind.
    """
    if after == before:
        return before
    now = record.now(after=before.updated_at)
    after = replace(after, version=before.version + 1, updated_at=now)
    event_type = change_type(before, after)
    changed(record, event_type, after)
    _audit(record, event_type, after)
    return after


async def _store(tx: Transaction, before: ProductRow, after: ProductRow) -> ProductRow:
    after = revise(tx, before, after)
    if after is before:
        return before
    await ProductRepository(tx.statements).change(before, after)
    return after


def _same_seller(principal: Principal, sent: str | UnsetType, row: ProductRow) -> None:
    if not isinstance(sent, UnsetType):
        principal.act_for(sent)
    _same("sellerId", sent, row.seller_id)


def _same(name: str, sent: object, present: object) -> None:
    if sent is not UNSET and sent != present:
        raise ValidationFailed.of(f"/{name}", "read_only", "cannot be changed here")


def columns(details: Details) -> dict[str, Any]:
    """Details by the names they have in a row."""
    return {name: getattr(details, name) for name in _DETAILS}


def _audit(tx: Record, action: str, row: ProductRow) -> None:
    tx.audit(
        action,
        entity_type="product",
        entity_id=str(row.id),
        seller_id=row.seller_id,
        at=row.updated_at,
    )
