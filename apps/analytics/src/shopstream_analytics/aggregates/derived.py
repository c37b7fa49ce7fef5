"""Numbers that are worked out from counters when they are read: pure.

What they mean stands in `definitions.DERIVED`. All money is in whole minor units, and what divides
it rounds half away from zero, as invoices do; a float is on no way.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from shopstream_analytics.aggregates.definitions import (
    AHEAD,
    EVENTS,
    FUNNEL,
    LATE,
    PAID_ORDERS,
    REFUNDED,
    REVENUE,
)

TopBy = Literal["revenue", "units"]
TOP_BY: Final[tuple[TopBy, ...]] = ("revenue", "units")

Counters = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OrderValue:
    """What paid orders of one currency were worth; the averages are None where none was paid."""

    paid_orders: int
    paid_minor: int
    refunded_minor: int
    average_minor: int | None
    average_net_minor: int | None

    def as_json(self) -> dict[str, int | None]:
        return {
            "paidOrders": self.paid_orders,
            "paidMinor": self.paid_minor,
            "refundedMinor": self.refunded_minor,
            "averageMinor": self.average_minor,
            "averageNetMinor": self.average_net_minor,
        }


@dataclass(frozen=True, slots=True)
class Timeliness:
    """Of all events of a bucket: how many came late, how many were ahead of their time."""

    events: int
    late: int
    ahead: int

    def as_json(self) -> dict[str, int]:
        return {"events": self.events, "lateEvents": self.late, "aheadEvents": self.ahead}


@dataclass(frozen=True, slots=True)
class ProductSales:
    """What a seller sold of one product in one day; ``revenue_minor`` by currency."""

    product_id: str
    orders: int
    units: int
    revenue_minor: Mapping[str, int]

    def as_json(self) -> dict[str, object]:
        return {
            "productId": self.product_id,
            "orders": self.orders,
            "units": self.units,
            "revenueMinor": dict(self.revenue_minor),
        }


def funnel(counters: Counters) -> dict[str, int]:
    """State -> how many orders reached it."""
    return {state: counters.get(counter, 0) for state, counter in FUNNEL.items()}


def order_values(counters: Counters) -> dict[str, OrderValue]:
    """Currency -> what its paid orders were worth."""
    paid, net, back = (
        per_key(counters, metric.counter) for metric in (PAID_ORDERS, REVENUE, REFUNDED)
    )
    return {
        currency: _order_value(paid.get(currency, 0), net.get(currency, 0), back.get(currency, 0))
        for currency in sorted(paid | net | back)
    }


def _order_value(paid_orders: int, net_minor: int, refunded_minor: int) -> OrderValue:
    paid_minor = net_minor + refunded_minor
    return OrderValue(
        paid_orders=paid_orders,
        paid_minor=paid_minor,
        refunded_minor=refunded_minor,
        average_minor=rounded(paid_minor, paid_orders),
        average_net_minor=rounded(net_minor, paid_orders),
    )


def timeliness(counters: Counters) -> Timeliness:
    return Timeliness(
        events=counters.get(EVENTS.counter, 0),
        late=counters.get(LATE.counter, 0),
        ahead=counters.get(AHEAD.counter, 0),
    )


def sales_of(product_id: str, counters: Counters) -> ProductSales:
    return ProductSales(
        product_id=product_id,
        orders=counters.get("orders", 0),
        units=counters.get("units", 0),
        revenue_minor=per_key(counters, REVENUE.counter),
    )


def top(
    products: Iterable[ProductSales], by: TopBy, currency: str | None, limit: int
) -> list[ProductSales]:
    """The greatest first, equal ones by id.

    By revenue: of one currency, and only products that moved money in it.
    """
    if by == "units":
        ranked = sorted(products, key=lambda one: (-one.units, one.product_id))
    else:
        wanted = currency or ""
        moved = [one for one in products if wanted in one.revenue_minor]
        ranked = sorted(moved, key=lambda one: (-one.revenue_minor[wanted], one.product_id))
    return ranked[:limit]


def per_key(counters: Counters, prefix: str) -> dict[str, int]:
    """The counters of one metric by what follows its name, a type or a currency."""
    return {
        name.removeprefix(prefix): amount
        for name, amount in sorted(counters.items())
        if name.startswith(prefix)
    }


def rounded(amount: int, parts: int) -> int | None:
    """``amount / parts``, half away from zero; None for no parts."""
    if parts <= 0:
        return None
    magnitude = (2 * abs(amount) + parts) // (2 * parts)
    return magnitude if amount >= 0 else -magnitude


def add(total: Counter[str], counters: Counters) -> None:
    """Add in place; unlike Counter.__add__ it keeps what falls to 0 or below."""
    for name, amount in counters.items():
        total[name] += amount
