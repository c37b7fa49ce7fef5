"""Which records count as events: one judgement for all three sinks.

What aggregates dead-letter, RecentEvents skips and the archive keeps as raw bytes, so the three
must never differ.
"""

from typing import Final

from shopstream_shared.events.codec import (
    DecodedEvent,
    EventRejected,
    InvalidData,
    decode,
)
from shopstream_shared.events.payloads import Order

#: DynamoDB allows 1,024 bytes in a sort key, where ours put a bucket before a product's id, and
#: 2,048 in a partition key, where they put a dimension, a shard, a topic and a partition around it.
KEY_BYTES_MAX: Final = 900


def read_event(value: bytes | None) -> DecodedEvent:
    """The event in a Kafka value. Raises EventRejected, whose `reason` goes on the dead letter."""
    event = decode(value)
    for name, text in _keys(event):
        if len(text.encode()) > KEY_BYTES_MAX:
            raise InvalidData(f"{name} is longer than {KEY_BYTES_MAX} bytes")
    return event


def _keys(event: DecodedEvent) -> list[tuple[str, str]]:
    envelope = event.envelope
    keys = [("id", envelope.id), ("subject", envelope.subject), ("sellerid", envelope.sellerid)]
    if isinstance(event.payload, Order):
        keys += [("productId", item.product_id) for item in event.payload.items]
    return keys


__all__ = ["KEY_BYTES_MAX", "DecodedEvent", "EventRejected", "read_event"]
