"""What lists of products are narrowed to."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, DateTime, Numeric, Text, bindparam, cast

from shopstream_api.catalog.models import products

LIVE: Final = products.c.deleted_at.is_(None)
#: So many statements are kept: all those of the list by time (six filters, head or place, forwards
#: or backwards), and of the many of a search those that are asked for.
SHAPES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """None = not narrowed. Prices are in major units; both bounds and the moment are inclusive."""

    seller_id: str | None = None
    status: str | None = None
    category: str | None = None
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    updated_since: datetime | None = None

    def values(self) -> dict[str, str]:
        """The parameters of `conditions` on what is narrowed; their names are its names."""
        moment = self.updated_since
        wanted = {
            "seller_id": self.seller_id,
            "status": self.status,
            "category": self.category,
            "price_min": None if self.price_min is None else str(self.price_min),
            "price_max": None if self.price_max is None else str(self.price_max),
            "updated_since": None if moment is None else moment.isoformat(),
        }
        return {name: value for name, value in wanted.items() if value is not None}


def conditions(narrowed: Iterable[str]) -> list["ColumnElement[Any]"]:
    """Products that are not deleted, narrowed in these ways."""
    return [LIVE, *(_CONDITIONS[name] for name in narrowed)]


def planned(name: str) -> "ColumnElement[str]":
    """A parameter whose value, a text, stands in the statement itself, quoted.

    As another parameter it would be planned for the average value once the driver prepares the
    statement, and no one plan is good for a rare and for a common category, word or price.
    """
    return bindparam(name, type_=Text, literal_execute=True)


_CONDITIONS: Final[dict[str, "ColumnElement[Any]"]] = {
    "seller_id": products.c.seller_id == planned("seller_id"),
    "status": products.c.status == planned("status"),
    "category": products.c.category == planned("category"),
    "price_min": products.c.price >= cast(planned("price_min"), Numeric),
    "price_max": products.c.price <= cast(planned("price_max"), Numeric),
    "updated_since": products.c.updated_at
    >= cast(planned("updated_since"), DateTime(timezone=True)),
}
