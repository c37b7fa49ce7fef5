"""What was seen in each place: plain values, read back by the readers and held by `judge`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from shopstream_stack.demo.oracle import INVENTORY, ORDERS, PRODUCTS, ExpectedEvent

Key = tuple[str, str, int]

#: The warnings are facts about stock, so they ride with the inventory.
_WARNINGS: Final = ("product.low_stock", "product.out_of_stock")


class NotAnEvent(ValueError):
    """The bytes are not one of our CloudEvents."""


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """One event as it was found somewhere. ``body`` are its bytes there, ``place`` says where."""

    topic: str
    subject: str
    sequence: int
    type: str
    seller_id: str
    event_id: str
    body: bytes
    place: str

    @property
    def key(self) -> Key:
        return self.topic, self.subject, self.sequence

    @classmethod
    def read(cls, body: bytes, place: str, topic: str | None = None) -> Self:
        """Read an event's bytes; without a topic it is the one the type belongs on.

        Raises NotAnEvent.
        """
        try:
            event = json.loads(body)
            return cls(
                topic=topic or topic_of(event["type"]),
                subject=event["subject"],
                sequence=int(event["sequence"]),
                type=event["type"],
                seller_id=event["sellerid"],
                event_id=event["id"],
                body=body,
                place=place,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise NotAnEvent(f"{place}: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Receipt:
    """One event at one client; ``at`` is the monotonic clock's, ``connection`` counts from 1."""

    event: SeenEvent
    at: float
    connection: int


@dataclass(slots=True)
class WatcherReading:
    """What one SSE client saw of this run, and what it asked for."""

    name: str
    group: str
    types: tuple[str, ...] = ()
    seller_id: str | None = None
    receipts: list[Receipt] = field(default_factory=list)
    #: One entry a connection: whether `stream.open` said that it resumed.
    opens: list[bool] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    #: How often the demo itself broke the connection.
    cuts: int = 0

    @property
    def wants_all(self) -> bool:
        """Whether it has no filter."""
        return not self.types and self.seller_id is None

    def wants(self, event: ExpectedEvent | SeenEvent) -> bool:
        """The stream's filter, read from the contract a second time."""
        if self.seller_id not in {None, event.seller_id}:
            return False
        return not self.types or any(_matches(pattern, event.type) for pattern in self.types)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readback:
    """All that was read back. Totals are those of the read API, by seller or product."""

    log: tuple[SeenEvent, ...]
    #: Keys, headers and timestamps on the log that contradict their event.
    log_faults: tuple[str, ...]
    recent: tuple[SeenEvent, ...]
    #: Event ids that GET /events/recent lists, by seller.
    recent_listed: Mapping[str, tuple[str, ...]]
    archive: tuple[SeenEvent, ...]
    archive_objects: int
    archive_faults: tuple[str, ...]
    sellers: Mapping[str, Mapping[str, Any]]
    products: Mapping[str, Mapping[str, Any]]
    #: Funnel and order values, by seller.
    selling: Mapping[str, Mapping[str, Any]]
    #: By how much each event type's count grew; others may have added to it.
    types_grown: Mapping[str, int]
    #: What GET /products/{id} shows as stock; None where it answers 404.
    stocks: Mapping[str, int | None]
    watchers: tuple[WatcherReading, ...]


def topic_of(event_type: str) -> str:
    """The topic a type rides on. Raises NotAnEvent for a type of none of them."""
    if event_type in _WARNINGS or event_type.startswith("inventory."):
        return INVENTORY
    if event_type.startswith("product."):
        return PRODUCTS
    if event_type.startswith("order."):
        return ORDERS
    raise NotAnEvent(f"type {event_type!r}")


def _matches(pattern: str, event_type: str) -> bool:
    if pattern.endswith("*"):
        return event_type.startswith(pattern.removesuffix("*"))
    return pattern == event_type
