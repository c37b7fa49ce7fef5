"""Bodies of the product routes, read into commands by the rules of the contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, cast

from msgspec import UNSET, UnsetType

from shopstream_api.members import Members, text_fault
from shopstream_api.money import DEFAULT_CURRENCY, EXPONENTS, NotMoney, to_minor
from shopstream_shared.events.payloads import ProductStatus

NAME_LENGTH_MAX: Final = 200
DESCRIPTION_LENGTH_MAX: Final = 10_000
SKU_LENGTH_MAX: Final = 64
CATEGORY_LENGTH_MAX: Final = 200
TAGS_MAX: Final = 20
TAG_LENGTH_MAX: Final = 50
#: What a caller may set or add up to, held units included.
STOCK_MAX: Final = 10**9
#: What can be stored and shown: units that were sold may come back by refunds on top of it.
STORED_STOCK_MAX: Final = 2 * STOCK_MAX

STATUSES: Final = ("draft", "active", "archived")
_DETAILS: Final = ("name", "description", "sku", "category", "tags", "price", "currency", "status")
#: What a product's body may hold.
MEMBERS: Final = (*_DETAILS, "stock", "sellerId")
_READ_ONLY: Final = (
    "id",
    "version",
    "inventoryVersion",
    "priceMinor",
    "createdAt",
    "updatedAt",
)


@dataclass(frozen=True, slots=True)
class Details:
    """Everything of a product that PUT replaces."""

    name: str
    description: str | None
    sku: str | None
    category: str | None
    tags: tuple[str, ...]
    price_minor: int
    currency: str
    status: ProductStatus


@dataclass(frozen=True, slots=True)
class NewProduct:
    """The body of POST /products."""

    details: Details
    stock: int
    seller_id: str


@dataclass(frozen=True, slots=True)
class ReplaceProduct:
    """The body of PUT; stock and seller may be sent if they are the present ones."""

    details: Details
    stock: int | UnsetType
    seller_id: str | UnsetType


@dataclass(frozen=True, slots=True)
class PatchProduct:
    """The body of PATCH, a merge patch: UNSET members stay as they are."""

    changes: dict[str, Any]
    price: Any
    seller_id: str | UnsetType


def read_new(body: object, default_seller: str | None) -> NewProduct:
    """Raises ValidationFailed with every fault of the body."""
    members = Members(body, known=MEMBERS, read_only=_READ_ONLY)
    details = _details(members)
    stock = _or(members.whole("stock", low=0, high=STOCK_MAX), 0)
    seller = members.seller("sellerId", required=default_seller is None)
    members.done()
    assert details is not None  # noqa: S101 - None only together with a fault
    return NewProduct(details, stock, _or(seller, default_seller or ""))


def read_replacement(body: object) -> ReplaceProduct:
    """Raises ValidationFailed with every fault of the body."""
    members = Members(body, known=MEMBERS, read_only=_READ_ONLY)
    details = _details(members)
    stock = members.whole("stock", low=0, high=STORED_STOCK_MAX)
    seller = members.seller("sellerId")
    members.done()
    assert details is not None  # noqa: S101 - None only together with a fault
    return ReplaceProduct(details, stock, seller)


def read_patch(body: object) -> PatchProduct:
    """Raises ValidationFailed with every fault of the body."""
    members = Members(body, known=MEMBERS, read_only=_READ_ONLY)
    if "stock" in members:
        members.fault(
            "stock",
            "read_only",
            "use POST /products/{id}/stock-adjustments or PUT /products/{id}/stock",
        )
    changes = {name: value for name, value in _sent(members).items() if value is not UNSET}
    price = members.number("price")
    seller = members.seller("sellerId")
    members.done()
    return PatchProduct(changes, price, seller)


def price_in(currency: str, price: Any) -> int:
    """A price of the currency in minor units. Raises ValidationFailed."""
    try:
        return to_minor(price, currency)
    except NotMoney as error:
        members = Members({}, known=())
        members.fault("price", "invalid_price", str(error))
        members.done()
        raise


def _sent(members: Members, *, whole: bool = False) -> dict[str, Any]:
    """The members but the price; a ``whole`` product must have a name."""
    return {
        "name": members.text(
            "name", length_max=NAME_LENGTH_MAX, required=whole, blank=False, trimmed=True
        ),
        "description": members.nullable_text(
            "description", length_max=DESCRIPTION_LENGTH_MAX, lines=True
        ),
        "sku": members.nullable_text("sku", length_max=SKU_LENGTH_MAX),
        "category": members.nullable_text("category", length_max=CATEGORY_LENGTH_MAX),
        "tags": _tags(members),
        "currency": _currency(members),
        "status": _status(members),
    }


def _details(members: Members) -> Details | None:
    sent = _sent(members, whole=True)
    price = members.number("price", required=True)
    currency = sent["currency"] if "currency" in members else DEFAULT_CURRENCY
    price_minor = _minor(members, price, currency)
    if members.faults or isinstance(price_minor, UnsetType):
        return None
    return Details(
        name=sent["name"],
        description=_or(sent["description"], None),
        sku=_or(sent["sku"], None),
        category=_or(sent["category"], None),
        tags=_or(sent["tags"], ()),
        price_minor=price_minor,
        currency=currency,
        status=_or(sent["status"], "active"),
    )


def _minor(
    members: Members, price: Decimal | UnsetType, currency: str | UnsetType
) -> int | UnsetType:
    """Told beside all other faults, if price and currency can be judged together."""
    if isinstance(price, UnsetType) or isinstance(currency, UnsetType):
        return UNSET
    try:
        return to_minor(price, currency)
    except NotMoney as error:
        return members.fault("price", "invalid_price", str(error))


def _tags(members: Members) -> tuple[str, ...] | UnsetType:
    found = members.value("tags")
    if isinstance(found, UnsetType):
        return UNSET
    if not isinstance(found, list):
        return members.fault("tags", "wrong_type", "must be a list of strings")
    if len(found) > TAGS_MAX:
        return members.fault("tags", "too_many", f"must be at most {TAGS_MAX}")
    for tag in cast("Sequence[object]", found):
        if not isinstance(tag, str):
            return members.fault("tags", "wrong_type", "must be a list of strings")
        fault = text_fault(tag, length_max=TAG_LENGTH_MAX, blank=True, lines=False, trimmed=False)
        if fault is not None:
            return members.fault("tags", *fault)
    return tuple(found)


def _currency(members: Members) -> str | UnsetType:
    found = members.value("currency")
    if isinstance(found, UnsetType):
        return UNSET
    if not isinstance(found, str) or found not in EXPONENTS:
        return members.fault("currency", "invalid", "must be an ISO 4217 code in upper case")
    return found


def _status(members: Members) -> ProductStatus | UnsetType:
    found = members.value("status")
    if isinstance(found, UnsetType):
        return UNSET
    if not isinstance(found, str) or found not in STATUSES:
        return members.fault("status", "invalid", f"must be one of {', '.join(STATUSES)}")
    return cast("ProductStatus", found)


def _or(value: Any, default: Any) -> Any:
    return default if value is UNSET else value
