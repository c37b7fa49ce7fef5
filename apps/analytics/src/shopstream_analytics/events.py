"""Which records count as events: one judgement for all three sinks.

What aggregates dead-letter, RecentEvents skips and the archive keeps as raw bytes, so the three
must never differ.
"""

from typing import Final

from shopstream_shared.events.codec import (
    DecodedEvent,
    EventRejected,
    InvalidData,
    Malformed,
    decode,
)
from shopstream_shared.events.payloads import Order

#: DynamoDB allows 1,024 bytes in a sort key and 2,048 in a partition key; ours add a topic name.
KEY_BYTES_MAX: Final = 1_024


def read_event(value: bytes | None) -> DecodedEvent:
    """The event in a Kafka value. Raises EventRejected, whose `reason` goes on the dead letter."""
    event = decode(value)
    try:
        event.value.decode()
    except UnicodeDecodeError as error:
        # msgspec skips members it does not know without looking into their strings.
        raise Malformed(f"not UTF-8: {error}") from error
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
