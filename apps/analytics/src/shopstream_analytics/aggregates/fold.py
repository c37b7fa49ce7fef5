"""From events to totals: a pure function, shared by the worker and by rebuild.

Each event adds to several items: its seller, the products it is about, all events together, and,
where it moves units or money, the seller's products of the day; each by the UTC hour and day of
the event's own time, products by the hour only. What counts where, says `definitions`.

Everything is added up once, by hour and series. Days are sums of hours; all events together are
the sum of all sellers, since each event has one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shopstream_analytics.aggregates.definitions import (
    AHEAD,
    ALL_ID,
    AMOUNTS,
    BY_TYPE,
    EVENTS,
    GRANULARITIES,
    LATE,
    ONES,
    PLAIN_COUNTERS,
    READ_BY_HOUR,
    SALE_ONES,
    Dimension,
    Granularity,
    Stored,
)
from shopstream_analytics.aggregates.timeliness import Marks
from shopstream_shared.events.codec import DecodedEvent
from shopstream_shared.events.payloads import Order

_BY_TYPE: Final = BY_TYPE.counter


class ItemKey(NamedTuple):
    """One bucket of one series; ``start`` is its beginning, UTC, as ``2026-11-21T05:00:00Z``.

    ``member``: of a dimension of two, the second id (the product of a seller).
    """

    dimension: Dimension
    id: str
    granularity: Granularity
    start: str
    member: str = ""


@dataclass(slots=True)
class Gain:
    """What an item gains from the events of a round, and the first and last that it is from."""

    first: int
    last: int
    delta: dict[str, int] = field(default_factory=dict)

    def add(self, counter: str, amount: int) -> None:
        """A counter that was named stays, also at 0."""
        self.delta[counter] = self.delta.get(counter, 0) + amount

    def take(self, other: "Gain") -> None:
        """Add another's part."""
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)
        for counter, amount in other.delta.items():
            self.add(counter, amount)


Events = Iterable[tuple[int, DecodedEvent]]
Folded = dict[ItemKey, Gain]
#: Series and hour (``2026-11-21T05``) -> its part of the round.
_Cells = dict[tuple[str, str], Gain]
NO_MARKS: Final = Marks()


def fold(events: Events, marks: Marks = NO_MARKS) -> Folded:
    """What each item gains from these events of one partition, given in offset order."""
    counts = Counts()
    for offset, event in events:
        counts.take(offset, event, late=offset in marks.late)
    return counts.folded(marks)


@dataclass(slots=True)
class Counts:
    """A round on its way: events by series, hour and type; amounts by series and hour."""

    #: (id, hour, type) -> how many, first offset, last offset.
    sellers: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    products: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    #: (id, hour) -> counter -> amount; the offsets are those of the counts.
    seller_amounts: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    product_amounts: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    sales: Folded = field(default_factory=dict)

    def folded(self, marks: Marks) -> Folded:
        """What each item gains from all that was taken."""
        sellers, products = self._cells(self.sellers), self._cells(self.products)
        everything = _sum(((ALL_ID, hour), gain) for (_, hour), gain in sellers.items())
        for offset, claimed in marks.ahead:
            one = Gain(offset, offset, {AHEAD.counter: 1})
            _into(everything, (ALL_ID, claimed.isoformat()[:13]), one)
        return {
            **_buckets("seller", sellers),
            **_buckets("product", products),
            **_buckets("all", everything),
            **self.sales,
        }

    def take(self, offset: int, event: DecodedEvent, *, late: bool) -> None:
        """The next event, in offset order."""
        envelope = event.envelope
        hour = event.time.isoformat()[:13]
        _count(self.sellers, (envelope.sellerid, hour, envelope.type), offset)
        if late:
            _amount(self.seller_amounts, (envelope.sellerid, hour), LATE.counter, 1)
        payload = event.payload
        if isinstance(payload, Order):
            self._take_order(offset, event, payload, hour)
        else:
            # Products, their stock and its warnings: the subject is the product.
            _count(self.products, (envelope.subject, hour, envelope.type), offset)

    def _take_order(self, offset: int, event: DecodedEvent, order: Order, hour: str) -> None:
        """An order's event counts for every product with a line in it, once."""
        event_type, seller = event.envelope.type, event.envelope.sellerid
        products = dict.fromkeys([item.product_id for item in order.items])
        for product in products:
            _count(self.products, (product, hour, event_type), offset)
        for counter in SALE_ONES.get(event_type, ()):
            for product in products:
                self._sold(offset, _sale(seller, hour, product), counter, 1)
        for metric in AMOUNTS.get(event_type, ()):
            assert metric.whole is not None  # noqa: S101 - that is what AMOUNTS holds
            counter = _name(metric, order)
            _amount(self.seller_amounts, (seller, hour), counter, metric.whole(order))
            if metric.lines is None:
                continue
            for item, amount in zip(order.items, metric.lines(order), strict=True):
                _amount(self.product_amounts, (item.product_id, hour), counter, amount)
                self._sold(offset, _sale(seller, hour, item.product_id), counter, amount)

    def _sold(self, offset: int, key: ItemKey, counter: str, amount: int) -> None:
        gain = self.sales.get(key)
        if gain is None:
            gain = self.sales[key] = Gain(offset, offset)
        gain.last = offset
        gain.add(counter, amount)

    def _cells(self, counted: Mapping[tuple[str, str, str], list[int]]) -> _Cells:
        """Counts and amounts of one dimension together, by series and hour."""
        amounts = self.seller_amounts if counted is self.sellers else self.product_amounts
        cells: _Cells = {}
        for (name, hour, event_type), (count, first, last) in counted.items():
            delta = {EVENTS.counter: count, _BY_TYPE + event_type: count}
            delta.update(dict.fromkeys(ONES.get(event_type, ()), count))
            _into(cells, (name, hour), Gain(first, last, delta))
        for cell, moved in amounts.items():
            for counter, amount in moved.items():
                cells[cell].add(counter, amount)
        return cells


def _count(
    counted: dict[tuple[str, str, str], list[int]], key: tuple[str, str, str], offset: int
) -> None:
    found = counted.get(key)
    if found is None:
        counted[key] = [1, offset, offset]
    else:
        found[0] += 1
        found[2] = offset


def _amount(
    amounts: dict[tuple[str, str], dict[str, int]], cell: tuple[str, str], counter: str, amount: int
) -> None:
    moved = amounts.setdefault(cell, {})
    moved[counter] = moved.get(counter, 0) + amount


def _sale(seller: str, hour: str, product: str) -> ItemKey:
    return ItemKey("sellerProduct", seller, "day", f"{hour[:10]}T00:00:00Z", product)


def _name(metric: Stored, order: Order) -> str:
    return metric.counter + order.currency if metric.per == "currency" else metric.counter


def _sum(parts: Iterable[tuple[tuple[str, str], Gain]]) -> _Cells:
    cells: _Cells = {}
    for cell, gain in parts:
        _into(cells, cell, gain)
    return cells


def _into(cells: _Cells, cell: tuple[str, str], gain: Gain) -> None:
    found = cells.get(cell)
    if found is None:
        # Its own: what it is from may go on growing elsewhere.
        cells[cell] = Gain(gain.first, gain.last, dict(gain.delta))
    else:
        found.take(gain)


def _buckets(dimension: Dimension, hours: _Cells) -> Folded:
    """Hours as items, and the days that they add up to, unless these are added up by readers."""
    items = {
        ItemKey(dimension, name, "hour", f"{hour}:00:00Z"): gain
        for (name, hour), gain in hours.items()
    }
    if dimension in READ_BY_HOUR:
        return items
    days = _sum(((name, hour[:10]), gain) for (name, hour), gain in hours.items())
    return {
        **items,
        **{
            ItemKey(dimension, name, "day", f"{day}T00:00:00Z"): gain
            for (name, day), gain in days.items()
        },
    }


__all__ = [
    "ALL_ID",
    "GRANULARITIES",
    "NO_MARKS",
    "PLAIN_COUNTERS",
    "Dimension",
    "Events",
    "Folded",
    "Gain",
    "Granularity",
    "ItemKey",
    "Marks",
    "fold",
]
