"""Archived records as typed columns: the envelope, the data of the topic's family, the bytes.

Money is whole minor units (int64), moments are timestamp[us, UTC]. What a record does not say is
null, and so is a moment that does not exist; a record that nobody can read has only where it was,
and its bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from shopstream_shared.archive.keys import Place
from shopstream_shared.archive.lines import Record
from shopstream_shared.clock import parse_time
from shopstream_shared.events.codec import DecodedEvent, EventRejected, decode
from shopstream_shared.topics import INVENTORY, ORDERS, PRODUCTS

_TEXT: Final = pa.string()
_NUMBER: Final = pa.int64()
_MOMENT: Final = pa.timestamp("us", tz="UTC")

#: Of every topic. ``event`` are the record's bytes, as they were on the log.
ENVELOPE: Final[Mapping[str, pa.DataType]] = {
    "topic": _TEXT,
    "partition": pa.int32(),
    "offset": _NUMBER,
    "timestamp": _MOMENT,
    "key": pa.binary(),
    "event_id": _TEXT,
    "type": _TEXT,
    "source": _TEXT,
    "subject": _TEXT,
    "seller_id": _TEXT,
    "sequence": _NUMBER,
    "time": _MOMENT,
    "correlation_id": _TEXT,
    "event": pa.binary(),
}
_ITEM: Final = pa.struct(
    {
        "product_id": _TEXT,
        "name": _TEXT,
        "quantity": _NUMBER,
        "unit_price_minor": _NUMBER,
        "total_minor": _NUMBER,
    }
)
#: By topic, named after the members of the event's data. Orders of which nothing was refunded yet
#: have no ``refund_amount_minor``.
DATA: Final[Mapping[str, Mapping[str, pa.DataType]]] = {
    PRODUCTS: {
        "id": _TEXT,
        "name": _TEXT,
        "description": _TEXT,
        "sku": _TEXT,
        "category": _TEXT,
        "tags": pa.list_(_TEXT),
        "price_minor": _NUMBER,
        "currency": _TEXT,
        "stock": _NUMBER,
        "status": _TEXT,
        "version": _NUMBER,
        "inventory_version": _NUMBER,
        "created_at": _MOMENT,
        "updated_at": _MOMENT,
    },
    ORDERS: {
        "id": _TEXT,
        "status": _TEXT,
        "customer_id": _TEXT,
        "items": pa.list_(_ITEM),
        "subtotal_minor": _NUMBER,
        "tax_minor": _NUMBER,
        "shipping_minor": _NUMBER,
        "total_minor": _NUMBER,
        "refunded_minor": _NUMBER,
        "refund_amount_minor": _NUMBER,
        "currency": _TEXT,
        "reserved_until": _MOMENT,
        "cancel_reason": _TEXT,
        "version": _NUMBER,
        "created_at": _MOMENT,
        "updated_at": _MOMENT,
    },
    INVENTORY: {
        "product_id": _TEXT,
        "name": _TEXT,
        "stock": _NUMBER,
        "delta": _NUMBER,
        "reason": _TEXT,
        "order_id": _TEXT,
        "threshold": _NUMBER,
        "inventory_version": _NUMBER,
    },
}


class Columns:
    """Rows of one topic, gathered column by column."""

    def __init__(self, topic: str) -> None:
        self.schema: Final = pa.schema({**ENVELOPE, **DATA[topic]})
        self._values: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        self._readers: Final = {name: _reader(kind) for name, kind in DATA[topic].items()}
        self._topic: Final = topic

    def __len__(self) -> int:
        return len(self._values["offset"])

    def add(self, place: Place, record: Record) -> None:
        """One row."""
        values = self._values
        values["topic"].append(place.topic)
        values["partition"].append(place.partition)
        values["offset"].append(record.offset)
        # Kafka's milliseconds.
        values["timestamp"].append(record.timestamp * 1_000)
        values["key"].append(record.key)
        values["event"].append(record.value)
        event = _event(record, self._topic)
        self._envelope(event)
        payload = None if event is None else event.payload
        for name, read in self._readers.items():
            value = getattr(payload, name, None)
            values[name].append(None if value is None else read(value))

    def take(self) -> pa.Table:
        """What has been gathered, as a table; then it is empty."""
        arrays = [pa.array(self._values[name], kind) for name, kind in _kinds(self.schema)]
        self._values = {name: [] for name in self.schema.names}
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _envelope(self, event: DecodedEvent | None) -> None:
        values = self._values
        envelope = None if event is None else event.envelope
        values["event_id"].append(envelope and envelope.id)
        values["type"].append(envelope and envelope.type)
        values["source"].append(envelope and envelope.source)
        values["subject"].append(envelope and envelope.subject)
        values["seller_id"].append(envelope and envelope.sellerid)
        values["sequence"].append(event and event.sequence)
        values["time"].append(event and event.time)
        values["correlation_id"].append(envelope and envelope.correlationid)


def _event(record: Record, topic: str) -> DecodedEvent | None:
    """None for what is no event, or one that belongs elsewhere."""
    if record.raw:
        return None
    try:
        event = decode(record.value)
    except EventRejected:
        # Written by a version that knew more; its bytes are kept.
        return None
    return event if event.topic == topic else None


def _reader(kind: pa.DataType) -> Callable[[Any], Any]:
    if kind == _MOMENT:
        return _moment
    if kind == pa.list_(_ITEM):
        return _items
    return _as_is


def _moment(text: str) -> datetime | None:
    """None for one that no calendar has, such as 30 February: a schema sees only its form."""
    try:
        return parse_time(text)
    except ValueError:
        return None


def _as_is(value: Any) -> Any:
    return value


def _items(items: Sequence[Any]) -> list[dict[str, Any]]:
    return [{field.name: getattr(item, field.name) for field in _ITEM} for item in items]


def _kinds(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in schema]
