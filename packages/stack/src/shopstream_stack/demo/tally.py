"""Sums of events, in the shape of the read API's totals: what an aggregate should say."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any


@dataclass(slots=True)
class Tally:
    """What happened to one seller or one product; revenue in minor units per currency."""

    events: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    units: int = 0
    cancelled: int = 0
    revenue_minor: Counter[str] = field(default_factory=Counter)
    low_stock_warnings: int = 0
    out_of_stock: int = 0

    def count(
        self, event_type: str, *, units: int = 0, revenue_minor: int = 0, currency: str = ""
    ) -> None:
        """Add one event; units are those of an order placed, revenue is signed."""
        self.events += 1
        self.by_type[event_type] += 1
        if event_type == "order.created":
            self.orders += 1
            self.units += units
        self.cancelled += event_type == "order.cancelled"
        self.low_stock_warnings += event_type == "product.low_stock"
        self.out_of_stock += event_type == "product.out_of_stock"
        if revenue_minor:
            self.revenue_minor[currency] += revenue_minor

    def as_json(self) -> dict[str, Any]:
        """The ``totals`` of the read API for this tally."""
        return normal(
            {
                "events": self.events,
                "byType": self.by_type,
                "orders": self.orders,
                "units": self.units,
                "cancelled": self.cancelled,
                "revenueMinor": self.revenue_minor,
                "lowStockWarnings": self.low_stock_warnings,
                "outOfStock": self.out_of_stock,
            }
        )


@dataclass(slots=True)
class Selling:
    """How far a seller's orders came, and what the paid ones were worth, by currency."""

    reached: Counter[str] = field(default_factory=Counter)
    paid_orders: Counter[str] = field(default_factory=Counter)
    paid_minor: Counter[str] = field(default_factory=Counter)
    refunded_minor: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """What funnel and order values say in total; states that nobody reached left out."""
        return {
            "funnel": {state: count for state, count in sorted(self.reached.items()) if count},
            "orderValues": {
                currency: {
                    "paidOrders": count,
                    "paidMinor": self.paid_minor[currency],
                    "refundedMinor": self.refunded_minor[currency],
                    "averageMinor": _average(self.paid_minor[currency], count),
                    "averageNetMinor": _average(
                        self.paid_minor[currency] - self.refunded_minor[currency], count
                    ),
                }
                for currency, count in sorted(self.paid_orders.items())
            },
        }


def _average(amount_minor: int, count: int) -> int:
    exact = Decimal(amount_minor) / count
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def normal(totals: Mapping[str, Any]) -> dict[str, Any]:
    """One form for comparing: keys of counting maps that stand at zero say nothing.

    A currency whose sales were all refunded may or may not still be named.
    """
    return {
        name: (
            {key: number for key, number in sorted(value.items()) if number}
            if isinstance(value, Mapping)
            else value
        )
        for name, value in totals.items()
    }


def added(buckets: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of several buckets of the read API, as totals."""
    sums: dict[str, Any] = Tally().as_json()
    for bucket in buckets:
        for name, value in sums.items():
            if isinstance(value, dict):
                counts = Counter(value)
                counts.update(bucket[name])
                sums[name] = dict(counts)
            else:
                sums[name] = value + bucket[name]
    return normal(sums)
