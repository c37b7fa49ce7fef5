"""The body of a bulk request, its rows read one by one."""

from dataclasses import dataclass, replace
from typing import Any, Final

from shopstream_api.catalog.batch import ROWS_MAX
from shopstream_api.catalog.schemas import NewProduct, read_new
from shopstream_api.errors import Fault, ShopError, ValidationFailed
from shopstream_api.members import Members
from shopstream_api.principal import Principal

ITEMS_MAX: Final = ROWS_MAX


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """``items``: a product to create, or why that row cannot be one; ``atomic``: all or nothing."""

    items: tuple[NewProduct | ShopError, ...]
    atomic: bool


def read_bulk(body: object, principal: Principal) -> BulkRequest:
    """Raises ValidationFailed for the request itself, and for any row of an atomic one."""
    members = Members(body, known=("items", "atomic"))
    items: Any = members.value("items", required=True)
    if "items" in members:
        if not isinstance(items, list):
            members.fault("items", "wrong_type", "must be a list of products")
        elif not 1 <= len(items) <= ITEMS_MAX:
            members.fault("items", "out_of_range", f"must be 1 to {ITEMS_MAX} products")
    atomic = members.flag("atomic")
    members.done()
    request = BulkRequest(
        tuple(_row(index, item, principal) for index, item in enumerate(items)), atomic
    )
    if atomic:
        _require_all(request)
    return request


def _row(index: int, item: object, principal: Principal) -> NewProduct | ShopError:
    try:
        new = read_new(item, principal.seller_id)
        principal.act_for(new.seller_id)
    except ValidationFailed as error:
        pointer = f"/items/{index}"
        return ValidationFailed(
            [replace(fault, pointer=f"{pointer}{fault.pointer}") for fault in error.faults]
        )
    except ShopError as error:
        return error.without_frames()
    return new


def _require_all(request: BulkRequest) -> None:
    faults: list[Fault] = []
    for index, row in enumerate(request.items):
        if isinstance(row, ValidationFailed):
            faults += row.faults
        elif isinstance(row, ShopError):
            faults.append(Fault(f"/items/{index}/sellerId", "forbidden", row.detail))
    if faults:
        raise ValidationFailed(faults)
