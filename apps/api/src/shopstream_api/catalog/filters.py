"""What lists of products are narrowed to."""

import operator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, DateTime, Numeric, Text, cast, literal

from shopstream_api.catalog.models import products

LIVE: Final = products.c.deleted_at.is_(None)


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """None = not narrowed. Prices are in major units; both bounds and the moment are inclusive."""

    seller_id: str | None = None
    status: str | None = None
    category: str | None = None
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    updated_since: datetime | None = None

    def conditions(self) -> list["ColumnElement[Any]"]:
        """Products that are not deleted, so narrowed."""
        columns = products.c
        wanted = (
            (columns.seller_id, operator.eq, _text(self.seller_id)),
            (columns.status, operator.eq, _text(self.status)),
            (columns.category, operator.eq, _text(self.category)),
            (columns.price, operator.ge, _number(self.price_min)),
            (columns.price, operator.le, _number(self.price_max)),
            (columns.updated_at, operator.ge, _moment(self.updated_since)),
        )
        return [LIVE, *(c(column, value) for column, c, value in wanted if value is not None)]


def planned(value: str) -> "ColumnElement[str]":
    """A text that stands in the statement itself, quoted.

    As a parameter it would be planned for the average value once the driver prepares the
    statement, and no one plan is good for a rare and for a common category, word or price.
    """
    return literal(value, Text, literal_execute=True)


def _text(value: str | None) -> "ColumnElement[str] | None":
    return None if value is None else planned(value)


def _number(value: Decimal | None) -> "ColumnElement[Decimal] | None":
    return None if value is None else cast(planned(str(value)), Numeric)


def _moment(value: datetime | None) -> "ColumnElement[datetime] | None":
    return None if value is None else cast(planned(value.isoformat()), DateTime(timezone=True))
