"""The body of POST /products as most clients send it, read in one pass.

A short cut, not a second set of rules: it knows only what is plainly right and says None to all
else, faulty or merely unusual, which `schemas.read_new` then reads. What it accepts, that reader
accepts with the same result; a property test holds the two together.
"""

import re
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shopstream_api.catalog.schemas import (
    CATEGORY_LENGTH_MAX,
    DESCRIPTION_LENGTH_MAX,
    NAME_LENGTH_MAX,
    SKU_LENGTH_MAX,
    STOCK_MAX,
    TAG_LENGTH_MAX,
    TAGS_MAX,
    Details,
    NewProduct,
    ReplaceProduct,
)
from shopstream_api.members import SELLER_ID
from shopstream_api.money import DEFAULT_CURRENCY, EXPONENTS, PRICE_MINOR_MAX
from shopstream_shared.events.payloads import ProductStatus

#: A price without sign or exponent, short enough for arithmetic to be exact.
_PRICE: Final = re.compile(rb"(0|[1-9][0-9]{0,11})(?:\.([0-9]{1,4}))?")

#: Letters of "price" as escapes. Of a price that comes twice the decoder skips the first unread, so
#: it must be plain that there is one only.
_SPELLED: Final = (rb"\u006", rb"\u007")

_Tag = Annotated[str, Meta(max_length=TAG_LENGTH_MAX)]


class _Body(Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    name: Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX)]
    # As bytes: a number would come as a float, and a string would be taken for a decimal.
    price: msgspec.Raw
    seller_id: str | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=DESCRIPTION_LENGTH_MAX)] | None = None
    sku: Annotated[str, Meta(max_length=SKU_LENGTH_MAX)] | None = None
    category: Annotated[str, Meta(max_length=CATEGORY_LENGTH_MAX)] | None = None
    tags: Annotated[tuple[_Tag, ...], Meta(max_length=TAGS_MAX)] = ()
    stock: Annotated[int, Meta(ge=0, le=STOCK_MAX)] | UnsetType = UNSET
    currency: str = DEFAULT_CURRENCY
    status: ProductStatus = "active"


_decode: Final = msgspec.json.Decoder(_Body).decode


def read_new(body: bytes, default_seller: str | None) -> NewProduct | None:
    """The product, or None when the body needs the exact reader. Raises nothing."""
    read = read_replacement(body)
    if read is None:
        return None
    seller = default_seller if isinstance(read.seller_id, UnsetType) else read.seller_id
    if seller is None:
        return None
    return NewProduct(read.details, 0 if isinstance(read.stock, UnsetType) else read.stock, seller)


def read_replacement(body: bytes) -> ReplaceProduct | None:
    """The same for `schemas.read_replacement`."""
    if body.count(b'"price"') != 1 or any(spelled in body for spelled in _SPELLED):
        return None
    try:
        sent = _decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if not _plain(sent):
        return None
    price_minor = _minor(bytes(sent.price), sent.currency)
    if price_minor is None:
        return None
    details = Details(
        sent.name,
        sent.description,
        sent.sku,
        sent.category,
        sent.tags,
        price_minor,
        sent.currency,
        sent.status,
    )
    return ReplaceProduct(details, sent.stock, sent.seller_id)


def _plain(sent: _Body) -> bool:
    """Whether no text holds anything that a rule might be about; lengths are checked already."""
    return (
        sent.name.isprintable()
        and not sent.name.isspace()
        and (sent.description is None or "\x00" not in sent.description)
        and (sent.sku is None or sent.sku.isprintable())
        and (sent.category is None or sent.category.isprintable())
        and all(tag.isprintable() for tag in sent.tags)
        and (isinstance(sent.seller_id, UnsetType) or bool(SELLER_ID.fullmatch(sent.seller_id)))
    )


def _minor(price: bytes, currency: str) -> int | None:
    digits = EXPONENTS.get(currency)
    written = _PRICE.fullmatch(price)
    if digits is None or written is None:
        return None
    whole, fraction = written.group(1), written.group(2) or b""
    if len(fraction) > digits:
        return None
    minor = int(whole + fraction) * int(10 ** (digits - len(fraction)))
    return minor if minor <= PRICE_MINOR_MAX else None
