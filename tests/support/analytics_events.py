"""Events for the analytics tests, and a count of them that shares no code with the service."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from shopstream_shared.clock import Uuid7Source, epoch_ms, format_time
from shopstream_shared.events.codec import EncodedEvent, encode

DAY = datetime(2026, 11, 21, tzinfo=UTC)


class LogRecord(NamedTuple):
    """A record as the sinks see it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def order_body(
    order_id: str,
    seller: str,
    lines: Sequence[tuple[str, int, int]],
    *,
    status: str = "pending",
    refunded: int = 0,
    version: int = 1,
    currency: str = "USD",
) -> dict[str, Any]:
    """An order's representation; a line is (product, quantity, total in minor units)."""
    total = sum(line[2] for line in lines)
    stamp = format_time(DAY)
    return {
        "id": order_id,
        "status": status,
        "customerId": None,
        "sellerId": seller,
        "items": [
            {
                "productId": product,
                "name": product,
                "quantity": quantity,
                "unitPrice": minor / 100 / quantity,
                "unitPriceMinor": minor // quantity,
                "totalMinor": minor,
            }
            for product, quantity, minor in lines
        ],
        "subtotalMinor": total,
        "taxMinor": 0,
        "shippingMinor": 0,
        "total": total / 100,
        "totalMinor": total,
        "refundedMinor": refunded,
        "currency": currency,
        "reservedUntil": None,
        "cancelReason": None,
        "version": version,
        "createdAt": stamp,
        "updatedAt": stamp,
    }


def inventory_body(product: str, seller: str, version: int) -> dict[str, Any]:
    """The representation of a change of stock."""
    return {
        "productId": product,
        "sellerId": seller,
        "name": product,
        "stock": 3,
        "delta": -1,
        "reason": None,
        "orderId": None,
        "threshold": None,
        "inventoryVersion": version,
    }


def event(
    event_type: str,
    body: Mapping[str, Any],
    *,
    subject: str,
    seller: str,
    at: datetime = DAY,
    sequence: int = 1,
) -> EncodedEvent:
    """One event, encoded."""
    return encode(
        event_type,
        event_id=Uuid7Source().new_id(),
        subject=subject,
        seller_id=seller,
        sequence=sequence,
        time=at,
        data=json.dumps(body).encode(),
    )


def record_of(encoded: EncodedEvent, offset: int, partition: int = 0) -> LogRecord:
    """An event where it could lie on the log."""
    return LogRecord(
        encoded.topic,
        partition,
        offset,
        epoch_ms(encoded.time),
        encoded.subject.encode(),
        encoded.value,
        list(encoded.headers),
    )


@dataclass(slots=True)
class Shop:
    """Makes a shop's life of events, reproducible by its seed (ids and wall clock apart)."""

    seed: int
    start: datetime = DAY
    random: Random = field(init=False)
    made: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def order_life(self) -> list[EncodedEvent]:
        """One order through its states, with partial refunds, and the stock changes it causes."""
        self.made += 1
        order_id = f"order-{self.seed}-{self.made}"
        seller = f"seller-{self.random.randrange(3)}"
        lines = [
            (f"product-{number}", quantity, quantity * self.random.randrange(1, 9_999))
            for number in self.random.sample(range(8), self.random.randrange(1, 4))
            for quantity in (self.random.randrange(1, 5),)
        ]
        total = sum(line[2] for line in lines)
        at = self.start + timedelta(minutes=self.random.randrange(0, 72 * 60))
        end = self.random.choice(["cancelled", "paid", "partly", "fully"])
        events = [self._order("order.created", order_id, seller, lines, at, 1)]
        events += [
            event(kind, inventory_body(product, seller, 1), subject=product, seller=seller, at=at)
            for product, _, _ in lines
            for kind in (
                "inventory.reserved",
                self.random.choice(
                    ["product.low_stock", "product.out_of_stock", "inventory.updated"]
                ),
            )
        ]
        if end == "cancelled":
            return [*events, self._order("order.cancelled", order_id, seller, lines, at, 2)]
        later = at + timedelta(hours=self.random.randrange(1, 30))
        events.append(self._order("order.paid", order_id, seller, lines, later, 2))
        if end != "paid":
            events += self._refunds(order_id, seller, lines, later, total, full=end == "fully")
        return events

    def _refunds(
        self,
        order_id: str,
        seller: str,
        lines: Sequence[tuple[str, int, int]],
        at: datetime,
        total: int,
        *,
        full: bool,
    ) -> Iterable[EncodedEvent]:
        refunded = 0
        steps = self.random.randrange(1, 4)
        for step in range(steps):
            last = full and step == steps - 1
            left = total - refunded
            amount = left if last else self.random.randrange(0, left)
            if amount == 0:
                continue
            refunded += amount
            body = order_body(order_id, seller, lines, refunded=refunded, version=3 + step)
            yield event(
                "order.refunded",
                {**body, "refundAmountMinor": amount},
                subject=order_id,
                seller=seller,
                at=at + timedelta(minutes=step),
                sequence=3 + step,
            )

    def _order(  # noqa: PLR0917 - a test's shorthand
        self,
        event_type: str,
        order_id: str,
        seller: str,
        lines: Sequence[tuple[str, int, int]],
        at: datetime,
        version: int,
    ) -> EncodedEvent:
        body = order_body(order_id, seller, lines, version=version)
        return event(event_type, body, subject=order_id, seller=seller, at=at, sequence=version)


#: (dimension, id, granularity, bucket start), and for a seller's products the product after it.
Counts = dict[tuple[str, ...], Counter[str]]
#: What a bucket of the contract's routes does not show.
UNSHOWN = ("paidOrders#", "refundedMinor#", "refundedInFull", "lateEvents", "aheadEvents")


def naive_counts(values: Iterable[bytes]) -> Counts:
    """The counters of one partition's events, item by item, from the manual's words."""
    counts: Counts = {}
    clouds = [json.loads(value) for value in values]
    late, ahead = naive_times([cloud["time"] for cloud in clouds])
    for number, cloud in enumerate(clouds):
        _count_event(counts, cloud, {"lateEvents": 1} if number in late else {})
    for number in ahead:
        _add(counts, "all", "event-types", clouds[number]["time"], {"aheadEvents": 1})
    return counts


def with_product_days(items: Counts) -> Counts:
    """Items as they are kept, and beside them what a reader adds up: the days of products."""
    counts = dict(items)
    for key, counters in items.items():
        if key[0] == "product":
            _into(counts, ("product", key[1], "day", f"{key[3][:10]}T00:00:00Z"), counters)
    return counts


def _count_event(counts: Counts, cloud: Mapping[str, Any], late: Mapping[str, int]) -> None:
    kind, data, time, seller = cloud["type"], cloud["data"], cloud["time"], cloud["sellerid"]
    base = {"events": 1, f"byType#{kind}": 1}
    if kind.startswith("order."):
        whole = {**base, **_order_amounts(kind, data, data["items"], None), **_settled(kind, data)}
        for product in {item["productId"] for item in data["items"]}:
            share = _order_amounts(kind, data, data["items"], product)
            _add(counts, "product", product, time, {**base, **share})
            if kind in {"order.created", "order.paid", "order.refunded"}:
                start = time[:10] + "T00:00:00Z"
                _into(counts, ("sellerProduct", seller, "day", start, product), share)
    else:
        whole = {**base, **_warning(kind)}
        _add(counts, "product", cloud["subject"], time, whole)
    _add(counts, "seller", seller, time, {**whole, **late})
    _add(counts, "all", "event-types", time, {**whole, **late})


def _add(counts: Counts, dimension: str, name: str, time: str, amounts: Mapping[str, int]) -> None:
    _into(counts, (dimension, name, "hour", time[:13] + ":00:00Z"), amounts)
    if dimension != "product":
        _into(counts, (dimension, name, "day", time[:10] + "T00:00:00Z"), amounts)


def _into(counts: Counts, key: tuple[str, ...], amounts: Mapping[str, int]) -> None:
    bucket = counts.setdefault(key, Counter())
    for counter, amount in amounts.items():
        bucket[counter] += amount


def naive_sums(partitions: Iterable[Iterable[bytes]]) -> Counts:
    """The counters of several partitions together."""
    sums: Counts = {}
    for values in partitions:
        for key, counters in naive_counts(values).items():
            _into(sums, key, counters)
    return sums


def naive_times(times: Sequence[str]) -> tuple[set[int], list[int]]:
    """Which of one partition's events were late, and which ahead, by their places."""
    moments = [datetime.fromisoformat(time) for time in times]
    late: set[int] = set()
    ahead: list[int] = []
    waiting: list[int] = []
    now: datetime | None = None
    for number, moment in enumerate(moments):
        if now is not None and moment > now + timedelta(hours=1):
            waiting.append(number)
            if len(waiting) == 16:
                first = min(moments[one] for one in waiting)
                now = max(m for w in waiting if (m := moments[w]) <= first + timedelta(hours=1))
                waiting = [w for w in waiting if moments[w] > now + timedelta(hours=1)]
            continue
        ahead += waiting
        waiting = []
        hour = moment.replace(minute=0, second=0, microsecond=0)
        if now is not None and now >= hour + timedelta(hours=1, minutes=10):
            late.add(number)
        now = moment if now is None else max(now, moment)
    return late, ahead


def _warning(kind: str) -> dict[str, int]:
    names = {"product.low_stock": "lowStockWarnings", "product.out_of_stock": "outOfStock"}
    return {names[kind]: 1} if kind in names else {}


def _settled(kind: str, data: Mapping[str, Any]) -> dict[str, int]:
    currency = data["currency"]
    if kind == "order.paid":
        return {f"paidOrders#{currency}": 1}
    if kind == "order.refunded":
        return {
            f"refundedMinor#{currency}": data["refundAmountMinor"],
            "refundedInFull": int(data["refundedMinor"] == data["totalMinor"]),
        }
    return {}


def _order_amounts(
    kind: str, data: Mapping[str, Any], items: Sequence[Mapping[str, Any]], product: str | None
) -> dict[str, int]:
    mine = [item for item in items if product in {None, item["productId"]}]
    money = f"revenueMinor#{data['currency']}"
    if kind == "order.created":
        return {"orders": 1, "units": sum(item["quantity"] for item in mine)}
    if kind == "order.cancelled":
        return {"cancelled": 1}
    if kind == "order.paid":
        return {money: sum(item["totalMinor"] for item in mine)}
    if kind == "order.refunded":
        if product is None:
            return {money: -data["refundAmountMinor"]}
        now = _share(data, items, product, data["refundedMinor"])
        before = _share(data, items, product, data["refundedMinor"] - data["refundAmountMinor"])
        return {money: before - now}
    return {}


def _share(
    data: Mapping[str, Any], items: Sequence[Mapping[str, Any]], product: str, refunded: int
) -> int:
    shares = [refunded * item["totalMinor"] // data["totalMinor"] for item in items]
    shares[0] += refunded - sum(shares)
    return sum(
        share for share, item in zip(shares, items, strict=True) if item["productId"] == product
    )
