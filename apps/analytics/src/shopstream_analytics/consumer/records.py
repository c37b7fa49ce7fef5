"""Records as sinks see them, lighter than aiokafka's own.

A record's nine headers are ten Python objects and 1.6 KB, twice the event itself, and most of what
the garbage collector has to go through. A packed record keeps them in one bytes object and unpacks
them for the few who ask (dead letters); the archive, which writes them all, has `archive.begun`.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from faust.types import TP

from shopstream_analytics.consumer.batch import Record

Header = tuple[str, bytes | None]
MakeRecord = Callable[[TP, Any], Record]

#: What a record costs in memory beyond key and value, measured with nine headers (packed).
RECORD_OVERHEAD_BYTES: Final = 512
#: Between two looks at the size: a batch exceeds its bound by less than so many records.
_CHUNK_RECORDS: Final = 64

_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(list[Header]).decode


class PackedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record whose headers are unpacked on each request."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    packed: bytes

    @property
    def headers(self) -> Sequence[Header]:
        """In the order of the log, repeated names included."""
        return _unpack(self.packed)


def packed(tp: TP, read: Any) -> PackedRecord:
    """From what aiokafka has parsed."""
    return PackedRecord(
        tp.topic,
        tp.partition,
        read.offset,
        read.timestamp,
        read.key,
        read.value,
        _pack(read.headers),
    )


def take_records(result: Any, tp: TP, make: MakeRecord, bytes_max: int) -> tuple[list[Record], int]:
    """The next records of a fetch (aiokafka's FetchResult) and their size in memory.

    As its `getall`, with a bound of bytes. The position moves past what was taken, markers and
    aborted data included.
    """
    if not result.check_assignment(tp) or not result.has_more():
        return [], 0
    fetched = result._partition_records  # noqa: SLF001 - getall has no bound of bytes
    # Looked up for each record; here it hides the method, which makes a heavier one.
    fetched._consumer_record = make  # noqa: SLF001 - see above
    left = fetched._records_iterator  # noqa: SLF001 - what its __next__ asks for each record
    records: list[Record] = []
    size = 0
    while size < bytes_max:
        chunk = list(islice(left, _CHUNK_RECORDS))
        records += chunk
        size += len(chunk) * RECORD_OVERHEAD_BYTES
        for record in chunk:
            size += len(record.key or b"") + len(record.value or b"")
        if len(chunk) < _CHUNK_RECORDS:
            result._update_position()  # noqa: SLF001 - as getall does
            result._partition_records = None  # noqa: SLF001 - as getall does
            return records, size
    result._update_position()  # noqa: SLF001 - as getall does
    return records, size


def size_of(record: Record) -> int:
    """About what the record costs in memory."""
    return RECORD_OVERHEAD_BYTES + len(record.key or b"") + len(record.value or b"")
