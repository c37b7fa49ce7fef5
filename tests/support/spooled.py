"""A check's tables filled by hand: a small, healthy history that a test then breaks."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from shopstream_shared.boundaries import Boundary
from shopstream_stack.verify import journals, scan
from shopstream_stack.verify.database import AUDIT, POISON, SUMS, VERSIONS, WAITING
from shopstream_stack.verify.generations import GENERATIONS, generations
from shopstream_stack.verify.log import Place
from shopstream_stack.verify.run import CUT, LETTERS
from shopstream_stack.verify.spool import Spool
from shopstream_stack.verify.tables import COUNTERS, ITEMS, RECENT_EVENTS, add_item

#: 2026-11-21T05:00:00Z, in microseconds.
NOW: Final = 1_795_237_200_000_000
END: Final = 1_000


#: Of every topic in its one life.
TOPIC_ID: Final = "id"


@dataclass(frozen=True, slots=True)
class Happened:
    """One event, on the log and in the audit."""

    topic: str
    offset: int
    subject: str
    sequence: int
    type: str
    partition: int = 0
    seller: str = "s"
    time: int = NOW
    amount: int = 0
    currency: str = ""
    units: int = 0
    refunded: bool = False
    tardy: bool = False
    event_id: str = ""
    bytes: str = ""

    @property
    def id(self) -> str:
        return self.event_id or f"{self.topic} {self.subject} {self.sequence}"

    @property
    def digest(self) -> str:
        return uuid.uuid5(uuid.NAMESPACE_OID, self.bytes or self.id).hex

    def at(self, offset: int, **changes: Any) -> "Happened":
        """The same at another place."""
        return replace(self, offset=offset, **changes)


@dataclass(slots=True)
class History:
    """What stands in each place; start from `healthy` and break it."""

    log: list[Happened] = field(default_factory=list)
    audit: list[Happened] = field(default_factory=list)
    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    waiting: list[Happened] = field(default_factory=list)
    poison: list[Happened] = field(default_factory=list)
    letters: list[tuple[str, int, int]] = field(default_factory=list)
    #: Order lines: topic, partition, offset, type, time, seller, currency, product, units, revenue.
    lines: list[tuple[Any, ...]] = field(default_factory=list)
    #: Events ahead of their time: topic, partition, offset that shows it, time claimed.
    ahead: list[tuple[Any, ...]] = field(default_factory=list)
    items: dict[str, dict[str, int]] = field(default_factory=dict)
    recent: list[tuple[Any, ...]] = field(default_factory=list)
    sums: list[tuple[str, str, int]] = field(default_factory=list)
    clients: list[tuple[str, str, str, str]] = field(default_factory=list)
    received: list[tuple[Any, ...]] = field(default_factory=list)
    #: Where topics got more partitions.
    boundaries: list[Boundary] = field(default_factory=list)
    #: By topic; E1 and the checkpoints are at END.
    e0: int = END
    e1: int = END
    checkpoint: int = END

    @contextmanager
    def spool(self, folder: Path) -> Iterator[Spool]:
        """The tables of a check of this history."""
        folder.mkdir(parents=True, exist_ok=True)
        with Spool.open(folder) as spool:
            for name, columns, rows in self._tables():
                with spool.table(name, columns) as table:
                    for row in rows:
                        table.add(row)
            with spool.table("items", ITEMS) as items, spool.table("counters", COUNTERS) as others:
                for key, item in self.items.items():
                    values = {name: value for name, value in item.items() if name != "upto"}
                    add_item(items, others, key, item["upto"], values)
            yield spool

    def _tables(self) -> Iterator[tuple[str, dict[str, str], list[tuple[Any, ...]]]]:
        yield "log", scan.LOG, [(*_log_row(one), True, one.tardy) for one in self.log]
        yield "unreadable", scan.UNREADABLE, []
        yield "lines", scan.LINES, [(*line, True) for line in self.lines]
        yield "ahead", scan.AHEAD, [*self.ahead]
        yield "letters", LETTERS, [*self.letters]
        yield "audit", AUDIT, [_audit_row(one) for one in self.audit]
        yield "versions", VERSIONS, [(*key, count) for key, count in self.versions.items()]
        yield "sums", SUMS, [*self.sums]
        yield "waiting", WAITING, [(one.topic, one.subject, one.id) for one in self.waiting]
        poison = [(one.topic, one.subject, one.id, "too large") for one in self.poison]
        yield "poison", POISON, poison
        yield "recent", RECENT_EVENTS, [*self.recent]
        yield "clients", journals.CLIENTS, [*self.clients]
        yield "received", journals.RECEIVED, [*self.received]
        places = sorted({(one.topic, one.partition) for one in self.log})
        ends = (self.e0, self.e1, self.checkpoint, self.checkpoint)
        yield "cut", CUT, [(*place, *ends) for place in places]
        ids = {Place(*place): TOPIC_ID for place in places}
        rows = generations(ids, self.boundaries)
        yield "generations", GENERATIONS, list(rows)


def healthy() -> History:
    """A product sold and an order paid and partly paid back, in three topics."""
    created = Happened("shop.products", 0, "p", 1, "product.created")
    priced = Happened("shop.products", 3, "p", 2, "product.price_changed")
    ordered = Happened("shop.orders", 1, "o", 1, "order.created", units=2)
    paid = Happened("shop.orders", 4, "o", 2, "order.paid", amount=2_000, currency="USD", units=2)
    refunded = Happened(
        "shop.orders", 6, "o", 3, "order.refunded", amount=500, currency="USD", units=2
    )
    reserved = Happened("shop.inventory", 2, "p", 1, "inventory.reserved")
    events = [created, priced, ordered, paid, refunded, reserved]
    history = History(log=events, audit=list(events))
    history.versions = {("shop.products", "p"): 2, ("shop.orders", "o"): 3}
    history.versions["shop.inventory", "p"] = 1
    history.lines = [
        ("shop.orders", 0, 1, "order.created", NOW, "s", "", "p", 2, 0),
        ("shop.orders", 0, 4, "order.paid", NOW, "s", "USD", "p", 2, 2_000),
        ("shop.orders", 0, 6, "order.refunded", NOW, "s", "USD", "p", 2, -500),
    ]
    history.sums = [
        ("s", "orders", 1),
        ("s", "units", 2),
        ("s", "products", 1),
        ("s", "revenueMinor#USD", 1_500),
    ]
    history.items = _items()
    history.recent = [recent_item(one) for one in events]
    history.clients = [("c", "", "", "")]
    history.received = [
        received(one, line) for line, one in enumerate(sorted(events, key=lambda e: e.offset), 3)
    ]
    return history


def recent_item(one: Happened, **changes: Any) -> tuple[Any, ...]:
    """The item of RecentEvents, one or the other attribute changed."""
    item = {
        "event_id": one.id,
        "type": one.type,
        "seller": one.seller,
        "subject": one.subject,
        "timestamp": "2026-11-21T05:00:00.000000Z",
        "ttl": one.time // 1_000_000 + 30 * 24 * 3_600,
        "digest": one.digest,
    }
    return tuple({**item, **changes}.values())


def received(one: Happened, line: int, client: str = "c", span: int = 0) -> tuple[Any, ...]:
    """A line of a client's journal."""
    return client, span, line, one.id, one.topic, one.subject, one.sequence


def _items() -> dict[str, dict[str, int]]:
    """What the aggregates of `healthy` are, written out."""
    products = {"events": 2, "byType#product.created": 1, "byType#product.price_changed": 1}
    inventory = {"events": 1, "byType#inventory.reserved": 1}
    orders = {
        "events": 3,
        "byType#order.created": 1,
        "byType#order.paid": 1,
        "byType#order.refunded": 1,
        "orders": 1,
        "units": 2,
        "revenueMinor#USD": 1_500,
    }
    items = {}
    for series in ("seller#s", "all#event-types", "product#p"):
        for topic, item, upto in (
            ("shop.products", products, 3),
            ("shop.orders", orders, 6),
            ("shop.inventory", inventory, 2),
        ):
            days = () if series == "product#p" else ("day#2026-11-21T00:00:00Z",)
            for bucket in ("hour#2026-11-21T05:00:00Z", *days):
                settled = {"paidOrders#USD": 1, "refundedMinor#USD": 500} if item is orders else {}
                more = {} if series == "product#p" else settled
                items[f"{series}#{topic}#0|{bucket}"] = {**item, **more, "upto": upto}
    # The md5 of p begins with 8: of eight shards the first.
    items["sellerProduct#s#0#shop.orders#0|day#2026-11-21T00:00:00Z#p"] = {
        "orders": 1,
        "units": 2,
        "revenueMinor#USD": 1_500,
        "upto": 6,
    }
    return items


def _log_row(one: Happened) -> tuple[Any, ...]:
    return (
        one.topic,
        one.partition,
        one.offset,
        one.subject,
        one.sequence,
        one.id,
        one.type,
        one.seller,
        one.time,
        one.amount,
        one.currency,
        one.units,
        one.refunded,
        one.digest,
    )


def _audit_row(one: Happened) -> tuple[Any, ...]:
    return (
        one.topic,
        one.subject,
        one.sequence,
        one.id,
        one.type,
        one.seller,
        one.time,
        one.amount,
        one.currency,
        one.digest,
    )
