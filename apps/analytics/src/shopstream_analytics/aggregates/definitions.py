"""Every metric of the aggregates, as data.

The fold adds up what `STORED` says, the read API's derived numbers follow `DERIVED`, and
`docs/metrics.md` is generated from both. Adding a metric is adding an entry here; its counter then
has to be made for the past by a rebuild.

A counter is a flat name in an item, so that adding up is the same for all of them; where there is
one a type or a currency, the name goes on with it: ``byType#order.paid``, ``revenueMinor#USD``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from shopstream_analytics.aggregates import amounts
from shopstream_shared.events.payloads import Order

Dimension = Literal["seller", "product", "all", "sellerProduct"]
Granularity = Literal["hour", "day"]
Unit = Literal["events", "orders", "pieces", "minor units"]

GRANULARITIES: Final[tuple[Granularity, ...]] = ("hour", "day")
#: Kept by the hour only; a reader adds their days up. Most of what a round writes are items of
#: products, and a product has few hours with something in them.
READ_BY_HOUR: Final[frozenset[Dimension]] = frozenset({"product"})
#: The id of the one series of the dimension ``all``, which answers `/aggregates/event-types`.
ALL_ID: Final = "event-types"

#: An event is late when its hour had been over for so long, by partition time.
LATE_AFTER: Final = timedelta(minutes=10)
#: An event is ahead when it lies so far beyond partition time and the log does not follow it.
AHEAD_BEYOND: Final = timedelta(hours=1)
#: So many records in a row beyond it are no wrong clock but the end of a quiet spell.
AHEAD_RUN_MAX: Final = 16

_SERIES: Final[tuple[Dimension, ...]] = ("seller", "product", "all")
_SALES: Final[tuple[Dimension, ...]] = (*_SERIES, "sellerProduct")
_SELLING: Final[tuple[Dimension, ...]] = ("seller", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A counter that is kept: what adds to it, and how much.

    ``types`` are the events that add; none means every event. ``whole`` gives the amount of an
    order's event, ``lines`` that of each of its lines, for the products; without them each event
    adds one. ``marked``: not by type, but by what `timeliness` finds.
    """

    name: str
    unit: Unit
    meaning: str
    types: tuple[str, ...] = ()
    dimensions: tuple[Dimension, ...] = _SERIES
    per: Literal["", "type", "currency"] = ""
    whole: Callable[[Order], int] | None = None
    lines: Callable[[Order], Sequence[int]] | None = None
    marked: bool = False

    @property
    def counter(self) -> str:
        """The name in the item, up to and with the ``#`` where more follows."""
        return f"{self.name}#" if self.per else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A number that is worked out when it is read."""

    name: str
    unit: Unit
    meaning: str
    formula: str
    dimensions: tuple[Dimension, ...] = _SELLING


EVENTS: Final = Stored(
    name="events",
    unit="events",
    meaning="Events. Of a product: those it is the subject of, and those of orders with a line "
    "of it.",
)
BY_TYPE: Final = Stored(
    name="byType", unit="events", meaning="The same, each event type apart.", per="type"
)
LATE: Final = Stored(
    name="lateEvents",
    unit="events",
    meaning=f"Events whose hour had ended {LATE_AFTER // timedelta(minutes=1)} minutes or more "
    "before, by partition time. They are counted in their own hour as all others; this says how "
    "much of it came after somebody may have read it.",
    dimensions=_SELLING,
    marked=True,
)
AHEAD: Final = Stored(
    name="aheadEvents",
    unit="events",
    meaning=f"Events more than {AHEAD_BEYOND // timedelta(minutes=1)} minutes beyond partition "
    "time which the log did not follow: an event of the partition lay within that bound before "
    f"{AHEAD_RUN_MAX} waited beyond it. Of {AHEAD_RUN_MAX} those near the earliest move partition "
    "time, and the others wait on. A clock was wrong. Counted in the hour that the event claims.",
    dimensions=("all",),
    marked=True,
)
REVENUE: Final = Stored(
    name="revenueMinor",
    unit="minor units",
    meaning="What was paid. Of a product: its lines.",
    types=("order.paid",),
    dimensions=_SALES,
    per="currency",
    whole=amounts.total,
    lines=amounts.total_lines,
)
LESS_REFUNDS: Final = Stored(
    name="revenueMinor",
    unit="minor units",
    meaning="Less what was paid back, in the hour in which it was. Of a product: its lines' "
    "proportion of the order's refunds so far, the remainder with the first line; a step counts "
    "the difference.",
    types=("order.refunded",),
    dimensions=_SALES,
    per="currency",
    whole=amounts.minus_refund,
    lines=amounts.minus_refund_lines,
)
PAID_ORDERS: Final = Stored(
    name="paidOrders",
    unit="orders",
    meaning="Orders paid.",
    types=("order.paid",),
    dimensions=_SELLING,
    per="currency",
    whole=lambda _: 1,
)
REFUNDED: Final = Stored(
    name="refundedMinor",
    unit="minor units",
    meaning="What was paid back.",
    types=("order.refunded",),
    dimensions=_SELLING,
    per="currency",
    whole=amounts.refund,
)
REFUNDED_IN_FULL: Final = Stored(
    name="refundedInFull",
    unit="orders",
    meaning="Orders of which nothing is left to pay back.",
    types=("order.refunded",),
    dimensions=_SELLING,
    whole=amounts.in_full,
)

#: In the order in which the API and the manual show them.
STORED: Final[tuple[Stored, ...]] = (
    EVENTS,
    BY_TYPE,
    Stored(
        name="orders",
        unit="orders",
        meaning="Orders placed.",
        types=("order.created",),
        dimensions=_SALES,
    ),
    Stored(
        name="units",
        unit="pieces",
        meaning="Pieces in orders placed.",
        types=("order.created",),
        dimensions=_SALES,
        whole=amounts.units,
        lines=amounts.unit_lines,
    ),
    Stored(
        name="cancelled",
        unit="orders",
        meaning="Orders cancelled, by request or because their hold ended.",
        types=("order.cancelled",),
    ),
    REVENUE,
    LESS_REFUNDS,
    Stored(
        name="lowStockWarnings",
        unit="events",
        meaning="Times that a stock fell to its threshold or below.",
        types=("product.low_stock",),
    ),
    Stored(
        name="outOfStock",
        unit="events",
        meaning="Times that a stock fell to 0.",
        types=("product.out_of_stock",),
    ),
    PAID_ORDERS,
    REFUNDED,
    REFUNDED_IN_FULL,
    LATE,
    AHEAD,
)

#: The plain counters that a bucket of the contract's routes shows, in their order there.
PLAIN_COUNTERS: Final = ("events", "orders", "units", "cancelled", "lowStockWarnings", "outOfStock")

#: State -> the counter of the orders that reached it. An order reaches each state at most once.
FUNNEL: Final[dict[str, str]] = {
    "pending": "byType#order.created",
    "confirmed": "byType#order.confirmed",
    "paid": "byType#order.paid",
    "shipped": "byType#order.shipped",
    "delivered": "byType#order.delivered",
    "cancelled": "byType#order.cancelled",
    "refunded": REFUNDED_IN_FULL.name,
}

DERIVED: Final[tuple[Derived, ...]] = (
    Derived(
        name="funnel",
        unit="orders",
        meaning="How many orders reached each state, each in the hour in which it did: an order "
        "placed today and paid tomorrow is pending today and paid tomorrow.",
        formula="; ".join(f"{state} = `{counter}`" for state, counter in FUNNEL.items()),
    ),
    Derived(
        name="averageMinor",
        unit="minor units",
        meaning="What an order paid was worth when it was paid, by currency; none where nothing "
        "was paid.",
        formula="(`revenueMinor` + `refundedMinor`) / `paidOrders`, rounded half away from zero",
    ),
    Derived(
        name="averageNetMinor",
        unit="minor units",
        meaning="The same after what was paid back in the same buckets, be it for earlier orders.",
        formula="`revenueMinor` / `paidOrders`, rounded half away from zero",
    ),
    Derived(
        name="top products",
        unit="minor units",
        meaning="A seller's products of one UTC day, the greatest first; equal ones by product id.",
        formula="`revenueMinor` of one currency, or `units`, summed over source partitions",
        dimensions=("sellerProduct",),
    ),
)


def _ones(dimension: Dimension) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for metric in STORED:
        if metric.whole is None and dimension in metric.dimensions:
            for event_type in metric.types:
                found[event_type] = (*found.get(event_type, ()), metric.counter)
    return found


def _amounts() -> dict[str, tuple[Stored, ...]]:
    found: dict[str, tuple[Stored, ...]] = {}
    for metric in STORED:
        if metric.whole is not None:
            for event_type in metric.types:
                found[event_type] = (*found.get(event_type, ()), metric)
    return found


#: Type -> the counters to which each event of it adds one, in the items of every series …
ONES: Final = _ones("seller")
#: … and in those of a seller's products.
SALE_ONES: Final = _ones("sellerProduct")
#: Type -> what an order's event of it adds by amount.
AMOUNTS: Final = _amounts()
