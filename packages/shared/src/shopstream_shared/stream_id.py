"""Stream ids: a position on all stream topics at once, safe to hand to a browser.

An id is the vector of next offsets over every partition of STREAM_TOPICS, the topics' epoch, a
version and a checksum, as URL-safe text (about 50 characters for nine partitions). Guarantees:

- Any replica can resume it exactly: it says where to go on in each partition, and does not depend
  on the order in which one replica saw them (protocol rule 25).
- An id of other topics is never taken for one of ours: the epoch is a digest of the Kafka topic
  ids, which change when a topic is deleted and made again (rule 13).
- A damaged or invented id is refused by its checksum; the checksum is no signature, an id grants
  nothing.
- A partition the id does not name starts at 0: it was added after the id was given (rule 14).
"""

import base64
import binascii
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from shopstream_shared.topics import STREAM_TOPICS

VERSION: Final = 1
EPOCH_BYTES: Final = 6
CHECKSUM_BYTES: Final = 4
#: Longer texts are refused unread: 1,000 partitions at ten bytes each stay below it.
TEXT_LENGTH_MAX: Final = 16_384
PARTITIONS_MAX: Final = 1_000
_OFFSET_MAX: Final = 2**63 - 1

Offsets = Mapping[tuple[str, int], int]


class MalformedStreamId(ValueError):
    """The text is not a stream id of this version, or it was damaged."""


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Next offsets: ``offsets[i][p]`` is that of partition p of STREAM_TOPICS[i]."""

    epoch: bytes
    offsets: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, epoch: bytes, offsets: Offsets, partitions: Mapping[str, int]) -> Self:
        """Build from a mapping (topic, partition) → next offset; what is missing starts at 0."""
        return cls(
            epoch,
            tuple(
                tuple(offsets.get((topic, p), 0) for p in range(partitions[topic]))
                for topic in STREAM_TOPICS
            ),
        )

    def items(self) -> Iterator[tuple[tuple[str, int], int]]:
        """Every ((topic, partition), next offset)."""
        for topic, vector in zip(STREAM_TOPICS, self.offsets, strict=True):
            for partition, offset in enumerate(vector):
                yield (topic, partition), offset

    def next_offset(self, topic: str, partition: int) -> int:
        """Where to go on in this partition; 0 when the id does not name it."""
        vector = self.offsets[STREAM_TOPICS.index(topic)]
        return vector[partition] if partition < len(vector) else 0

    def encode(self) -> str:
        """The id as text, for ``id:`` lines and ``X-Stream-Position``."""
        body = bytearray((VERSION,))
        body += self.epoch
        for vector in self.offsets:
            _put_varint(body, len(vector))
            for offset in vector:
                _put_varint(body, offset)
        body += _checksum(body)
        return base64.urlsafe_b64encode(body).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read an id. Raises MalformedStreamId with the reason."""
        body = _verified(text)
        epoch = body[1 : 1 + EPOCH_BYTES]
        numbers = _varints(body[1 + EPOCH_BYTES :])
        vectors = tuple(_vector(numbers) for _ in STREAM_TOPICS)
        if next(numbers, None) is not None:
            raise MalformedStreamId("the id has more topics than the stream")
        return cls(epoch, vectors)


def epoch_of(topic_ids: Mapping[str, str]) -> bytes:
    """The epoch of the stream topics, from the topic ids that the broker prints.

    Raises KeyError when a stream topic is missing.
    """
    joined = "\n".join(f"{topic}={topic_ids[topic]}" for topic in STREAM_TOPICS)
    return hashlib.blake2b(joined.encode(), digest_size=EPOCH_BYTES).digest()


def covers(position: StreamPosition, other: Offsets | StreamPosition) -> bool:
    """True when ``position`` is at or past ``other`` in every component."""
    return all(position.next_offset(*key) >= offset for key, offset in other.items())


def newest(positions: Sequence[StreamPosition]) -> StreamPosition:
    """The component-wise maximum of those of the first one's epoch; a missing component is 0.

    What is true of each position for each component, such as "everything below is shown", is true
    of the maximum (ADR 0025). Raises ValueError when there is none.
    """
    if not positions:
        raise ValueError("no position to take the newest of")
    epoch = positions[0].epoch
    same = [position.offsets for position in positions if position.epoch == epoch]
    return StreamPosition(
        epoch,
        tuple(
            tuple(max(each) for each in itertools.zip_longest(*vectors, fillvalue=0))
            for vectors in zip(*same, strict=True)
        ),
    )


def _verified(text: str) -> bytes:
    if len(text) > TEXT_LENGTH_MAX:
        raise MalformedStreamId("the id is too long")
    try:
        raw = text.encode("ascii")
        body = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise MalformedStreamId("the id is not URL-safe base64") from None
    if base64.urlsafe_b64encode(body).rstrip(b"=") != raw:
        # Padding, the other alphabet or stray last bits: one position has one text.
        raise MalformedStreamId("the id is not canonical")
    if len(body) < 1 + EPOCH_BYTES + CHECKSUM_BYTES:
        raise MalformedStreamId("the id is too short")
    payload, checksum = body[:-CHECKSUM_BYTES], body[-CHECKSUM_BYTES:]
    if _checksum(payload) != checksum:
        raise MalformedStreamId("the checksum does not fit")
    if payload[0] != VERSION:
        raise MalformedStreamId(f"version {payload[0]} is not known")
    return payload


def _vector(numbers: Iterator[int]) -> tuple[int, ...]:
    count = next(numbers, None)
    if count is None:
        raise MalformedStreamId("the id ends early")
    if count > PARTITIONS_MAX:
        raise MalformedStreamId("the id has too many partitions")
    vector = tuple(itertools.islice(numbers, count))
    if len(vector) < count:
        raise MalformedStreamId("the id ends early")
    return vector


def _checksum(body: Sequence[int]) -> bytes:
    return hashlib.blake2b(bytes(body), digest_size=CHECKSUM_BYTES).digest()


def _put_varint(out: bytearray, number: int) -> None:
    if not 0 <= number <= _OFFSET_MAX:
        msg = f"an offset is 0..2^63-1, not {number}"
        raise ValueError(msg)
    while number > 0x7F:  # noqa: PLR2004 - LEB128: seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _varints(body: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in body:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            continue
        if number > _OFFSET_MAX:
            raise MalformedStreamId("an offset is too large")
        yield number
        number = shift = 0
    if shift:
        raise MalformedStreamId("the id ends inside a number")
