"""Where topics got more partitions (protocol rule 14).

More partitions place a key elsewhere, so the two halves of a subject's history may lie in two
partitions. When `shopstream topics apply` adds partitions, nothing is being published and all
readers have read everything; the ends of that moment are the *boundary*. A replay that sends all
below a boundary before anything above it keeps the order of each subject.

Boundaries stand on the compacted topic ``shop.boundaries``, a record each, oldest first. The topic
is made by the first `apply`; where it is missing no topic ever got more partitions.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from shopstream_shared.kafka import KafkaConnection, topic_states
from shopstream_shared.log_range import EARLIEST, Part, committed_records, log_ends, log_offsets
from shopstream_shared.topics import BOUNDARIES, STREAM_TOPICS, TopicState

#: The topic has one partition: its order is that of the changes.
PART: Final[Part] = (BOUNDARIES, 0)


class Boundary(msgspec.Struct, frozen=True, rename="camel"):
    """``ends[p]``: the next offset of partition p when the topic was given ``partitions``."""

    topic: str
    topic_id: str
    partitions: int
    ends: tuple[int, ...]

    @property
    def key(self) -> bytes:
        """One record a change, also when it is written again."""
        return f"{self.topic}/{self.topic_id}/{self.partitions}".encode()


_decoder: Final = msgspec.json.Decoder(Boundary)


def encode_boundary(boundary: Boundary) -> bytes:
    return msgspec.json.encode(boundary)


def read_boundaries(connection: KafkaConnection) -> tuple[Boundary, ...]:
    """The boundaries of the stream topics as they are now, oldest first; blocks.

    Raises KafkaException, and as `fold` does.
    """
    admin = AdminClient(connection.admin())
    if BOUNDARIES not in topic_states(admin, [BOUNDARIES]):
        return ()
    begin, end = log_offsets(admin, [PART], EARLIEST), log_ends(admin, [PART])
    found = list(committed_records(connection, begin, end))
    return fold(found, topic_states(admin, STREAM_TOPICS))


def fold(records: Iterable[Message], topics: Mapping[str, TopicState]) -> tuple[Boundary, ...]:
    """The boundaries of ``topics`` that the records say; those of a topic made again are left out.

    Raises msgspec.ValidationError for a record that is none of ours.
    """
    found: dict[bytes, Boundary] = {}
    for record in records:
        boundary = _decoder.decode(record.value() or b"")
        # Written again, it is the later one, at its later place.
        found.pop(boundary.key, None)
        found[boundary.key] = boundary
    return tuple(
        boundary
        for boundary in found.values()
        if boundary.topic in topics and topics[boundary.topic].id == boundary.topic_id
    )


def up_to(
    boundaries: Iterable[Boundary], at: Mapping[Part, int], until: Mapping[Part, int]
) -> dict[Part, int]:
    """Up to where a replay that stands ``at`` may read each part of ``until`` now.

    That is ``until`` itself, or for a topic that is not past one of its boundaries everywhere,
    the oldest such boundary; never past ``until``.
    """
    stop = dict(until)
    held: set[str] = set()
    for boundary in boundaries:
        topic = boundary.topic
        if topic in held:
            continue
        below = {
            (topic, number): min(end, until[topic, number])
            for number, end in enumerate(boundary.ends)
            if (topic, number) in until
        }
        if any(at.get(part, 0) < end for part, end in below.items()):
            held.add(topic)
            stop |= {part: below.get(part, 0) for part in until if part[0] == topic}
    return stop
