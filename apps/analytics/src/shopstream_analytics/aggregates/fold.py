"""From events to counters: a pure function, shared by the worker, verify and rebuild.

Each event adds to several items: its seller, the products it is about, and all events together,
each by the UTC hour and day of the event's own time. A counter is a flat name, so that adding up
is the same for all of them: ``events``, ``byType#order.paid``, ``revenueMinor#USD``.

What counts where (the contract's list): ``events`` and ``byType`` every event; ``orders`` and
``units`` order.created; ``cancelled`` order.cancelled; ``revenueMinor`` + the total at order.paid,
- the refunded amount at order.refunded, each in the hour of its own event; ``lowStockWarnings``
product.low_stock; ``outOfStock`` product.out_of_stock.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, Literal, NamedTuple

from shopstream_shared.events.codec import DecodedEvent
from shopstream_shared.events.payloads import Order, OrderItem, OrderRefunded

Dimension = Literal["seller", "product", "all"]
Granularity = Literal["hour", "day"]

GRANULARITIES: Final[tuple[Granularity, ...]] = ("hour", "day")
#: The id of the one series of the dimension ``all``, which answers `/aggregates/event-types`.
ALL_ID: Final = "event-types"
BY_TYPE: Final = "byType#"
REVENUE: Final = "revenueMinor#"
#: The counters that are plain names, in the order in which the API shows them.
PLAIN_COUNTERS: Final = ("events", "orders", "units", "cancelled", "lowStockWarnings", "outOfStock")

Delta = Mapping[str, int]


class ItemKey(NamedTuple):
    """One bucket of one series; ``start`` is its beginning, UTC, as ``2026-11-21T05:00:00Z``."""

    dimension: Dimension
    id: str
    granularity: Granularity
    start: str


class Contribution(NamedTuple):
    """What the event at ``offset`` adds to one item."""

    offset: int
    delta: Delta


Folded = dict[ItemKey, list[Contribution]]


def fold(events: Iterable[tuple[int, DecodedEvent]]) -> Folded:
    """What each item gains from these events of one partition, given in offset order."""
    items: Folded = {}
    for offset, event in events:
        starts = [
            (granularity, bucket_start(event.time, granularity)) for granularity in GRANULARITIES
        ]
        for dimension, series, delta in _deltas(event):
            for granularity, start in starts:
                key = ItemKey(dimension, series, granularity, start)
                items.setdefault(key, []).append(Contribution(offset, delta))
    return items


def total(contributions: Iterable[Contribution]) -> dict[str, int]:
    """The sum of several contributions to one item. A counter that was named stays, also at 0."""
    counters: Counter[str] = Counter()
    for contribution in contributions:
        for name, amount in contribution.delta.items():
            counters[name] += amount
    return dict(counters)


def bucket_start(moment: datetime, granularity: Granularity) -> str:
    """The beginning of the hour or day that holds the moment (aware, UTC)."""
    form = "%Y-%m-%dT%H:00:00Z" if granularity == "hour" else "%Y-%m-%dT00:00:00Z"
    return moment.strftime(form)


def _deltas(event: DecodedEvent) -> Iterator[tuple[Dimension, str, Delta]]:
    whole = _count(event)
    yield "seller", event.envelope.sellerid, whole
    yield "all", ALL_ID, whole
    if isinstance(event.payload, Order):
        yield from _product_deltas(event, event.payload)
    else:
        # Products, their stock and its warnings: the subject is the product.
        yield "product", event.envelope.subject, whole


def _count(event: DecodedEvent) -> Delta:
    delta = {"events": 1, BY_TYPE + event.type: 1}
    if isinstance(event.payload, Order):
        units = sum(item.quantity for item in event.payload.items)
        _count_order(delta, event, units, _revenue(event))
    elif event.type == "product.low_stock":
        delta["lowStockWarnings"] = 1
    elif event.type == "product.out_of_stock":
        delta["outOfStock"] = 1
    return delta


def _count_order(
    delta: dict[str, int], event: DecodedEvent, units: int, revenue: int | None
) -> None:
    if event.type == "order.created":
        delta["orders"] = 1
        delta["units"] = units
    elif event.type == "order.cancelled":
        delta["cancelled"] = 1
    elif revenue is not None and isinstance(event.payload, Order):
        delta[REVENUE + event.payload.currency] = revenue


def _revenue(event: DecodedEvent) -> int | None:
    """In minor units of the order's currency; None when the event moves no money."""
    if event.type == "order.paid" and isinstance(event.payload, Order):
        return event.payload.total_minor
    if isinstance(event.payload, OrderRefunded):
        return -event.payload.refund_amount_minor
    return None


def _product_deltas(event: DecodedEvent, order: Order) -> Iterator[tuple[Dimension, str, Delta]]:
    """An order event counts for every product with a line in it."""
    revenue: Counter[str] = Counter()
    units: Counter[str] = Counter()
    moved = _line_revenue(event, order)
    for position, item in enumerate(order.items):
        units[item.product_id] += item.quantity
        if moved is not None:
            revenue[item.product_id] += moved[position]
    for product_id, quantity in units.items():
        delta = {"events": 1, BY_TYPE + event.type: 1}
        _count_order(delta, event, quantity, None if moved is None else revenue[product_id])
        yield "product", product_id, delta


def _line_revenue(event: DecodedEvent, order: Order) -> list[int] | None:
    """What each line gains, in minor units; None when the event moves no money."""
    if event.type == "order.paid":
        return [item.total_minor for item in order.items]
    if isinstance(order, OrderRefunded):
        after = refund_shares(order.items, order.total_minor, order.refunded_minor)
        earlier = order.refunded_minor - order.refund_amount_minor
        before = refund_shares(order.items, order.total_minor, earlier)
        return [was - now for was, now in zip(before, after, strict=True)]
    return None


def refund_shares(items: tuple[OrderItem, ...], total_minor: int, refunded: int) -> list[int]:
    """How the cumulative refund of an order spreads over its lines, in minor units.

    A line's share is its proportion of the total, rounded down; what rounding leaves goes to the
    first line. So at a full refund every line's share is exactly its own total. Of tax and
    shipping, which belong to no line, nothing is spread.
    """
    if total_minor <= 0:
        return [0] * len(items)
    shares = [refunded * item.total_minor // total_minor for item in items]
    lines_total = sum(item.total_minor for item in items)
    shares[0] += refunded * lines_total // total_minor - sum(shares)
    return shares
