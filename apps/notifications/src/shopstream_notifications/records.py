"""A record of the log as the stream carries it: what filters look at, and the encoded data."""

from collections.abc import Mapping
from typing import Final

from confluent_kafka import Message
from msgspec import Struct

from shopstream_notifications import sse
from shopstream_shared.events.codec import EventRejected, decode

#: (topic, partition): one component of a position.
Part = tuple[str, int]
#: Next offsets by part.
Offsets = Mapping[Part, int]

_NO_TIME: Final = -1


class Record(Struct, gc=False):
    """One event. ``block`` is its ``data:`` lines with the blank line that ends them.

    Unknown to the garbage collector, for it holds nothing that could hold it: tens of thousands of
    them live in the shared log, and each full collection would stop all streams to look at them.

    ``id_line`` is filled when the record takes its place in the shared log, because an id says
    where *this* process stood in all partitions. ``timestamp_ms`` is Kafka's.
    """

    part: Part
    offset: int
    timestamp_ms: int
    type: str
    seller_id: str
    subject: str
    block: bytes
    id_line: bytes = b""

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(self.id_line) + len(self.block)


def read_record(message: Message) -> Record | None:
    """The record as an event, or None for what belongs on the dead-letter topic."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        return None
    try:
        event = decode(message.value())
    except EventRejected:
        return None
    return Record(
        part=(topic, partition),
        offset=offset,
        timestamp_ms=message.timestamp()[1] or _NO_TIME,
        type=event.type,
        seller_id=event.envelope.sellerid,
        subject=event.envelope.subject,
        block=sse.data_block(event.value),
    )
