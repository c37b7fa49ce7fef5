"""The archive as the check reads it: its chain walked object by object, line by line.

The walk is `shopstream_shared.archive`'s; this adds what the check knows better: the spool's list
of objects, how far a chain has come, and the log's own record where a line is exactly that.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.archive.end import chain_end
from shopstream_shared.archive.keys import Damaged, ObjectKey, topic_prefix
from shopstream_shared.archive.lines import read_line
from shopstream_shared.archive.reader import Fault, Walk, generations
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError
from shopstream_stack.verify.lives import Lives, real_place
from shopstream_stack.verify.log import Place, Record
from shopstream_stack.verify.report import Invariant, Violation
from shopstream_stack.verify.spool import Spool

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

__all__ = ["Archive", "Chain", "Damaged", "line_of"]

_encode: Final = msgspec.json.Encoder().encode


class Archive:
    """The bucket. Blocking; raises StackError when it does not answer."""

    def __init__(self, target: Target, client: "S3Client") -> None:
        self.endpoint = target.minio_endpoint
        self.bucket = S3Bucket(client, target.archive_bucket, self.away)
        self.lives = Lives()

    def exists(self) -> bool:
        """Whether there is a bucket."""
        return self.bucket.exists()

    def reached(self, place: Place, enough: int | None = None) -> int:
        """See chain_end."""
        return chain_end(self.bucket, real_place(place), self.lives.epoch(place), enough=enough)

    def list_into(self, spool: Spool, topics: Iterable[str]) -> None:
        """Fill the table ``objects`` with the keys of the chains."""
        columns = {"topic": "VARCHAR", "part": "BIGINT", "first": "BIGINT", "key": "VARCHAR"}
        with spool.table("objects", columns) as table:
            for epoch in generations(self.bucket):
                for topic in topics:
                    for key in self._keys(topic, epoch):
                        place = self.lives.place(topic, epoch, key.partition)
                        table.add((*place, key.first, str(key)))
                        table.checkpoint()

    def away(self, error: Exception) -> StackError:
        return StackError(
            f"The archive {self.bucket.name} at {self.endpoint} cannot be read: {error}"
        )

    def _keys(self, topic: str, epoch: int) -> Iterator[ObjectKey]:
        for stored in self.bucket.list(topic_prefix(topic, epoch)):
            try:
                yield ObjectKey.read(stored.key)
            except Damaged:
                continue


@dataclass(slots=True)
class Chain:
    """One partition's chain, walked once; what contradicts itself is told to ``row``."""

    archive: Archive
    place: Place
    topic_id: str
    row: Invariant
    #: The log's next event, and the line that would be it byte for byte; see `expect`.
    _ahead: Record | None = None
    _line: bytes | None = None
    _walk: Walk | None = field(default=None)

    @property
    def start(self) -> int | None:
        """Where the chain begins; None before its first object."""
        return None if self._walk is None else self._walk.start

    @property
    def next(self) -> int:
        """How far it has been walked."""
        return 0 if self._walk is None else self._walk.next

    @property
    def objects(self) -> int:
        return 0 if self._walk is None else self._walk.objects

    def records(self, spool: Spool, end: int) -> Iterator[Record]:
        """The archived records below ``end``, as the lines say, in the order of the chain."""
        keys = spool.stream(
            "SELECT key FROM objects WHERE topic = ? AND part = ? ORDER BY first, key", self.place
        )
        self._walk = walk = Walk(
            self.archive.bucket, real_place(self.place), self.topic_id, self._fault
        )
        for (key,) in keys:
            try:
                for some in walk.object(key, end):
                    for line in some.lines:
                        yield self.record(line)
            except Damaged as error:
                self._fault(Fault("damaged", "an object that can be read", str(error), key))
            if walk.next >= end:
                return

    def expect(self, ahead: Record | None) -> None:
        """Say which event the log has next, None for a record that is none.

        A line that is that event's, byte for byte, is not taken apart: `records` gives back this
        very record. Any other line is read, whatever was expected.
        """
        self._ahead = ahead
        self._line = None if ahead is None else line_of(self.place, ahead)

    def record(self, line: bytes) -> Record:
        """What a line says. Raises Damaged."""
        if line == self._line and self._ahead is not None:
            return self._ahead
        return read_line(line, real_place(self.place))

    def _fault(self, fault: Fault) -> None:
        kind, expected, seen, key = fault
        self.row.found(
            Violation(kind=kind, aggregate=str(self.place), expected=expected, seen=seen, place=key)
        )


def line_of(place: Place, record: Record) -> bytes | None:
    """An event's line as the archive writes it, without its end; None where that is not simple."""
    value = record.value or b""
    # A reader finds the value by its token: what is around that would be lost.
    if value[:1] != b"{" or value[-1:] != b"}":
        return None
    try:
        key = None if record.key is None else record.key.decode()
        headers = [(name, text.decode()) for name, text in record.headers]  # type: ignore[union-attr]  # None is caught
    except (UnicodeDecodeError, AttributeError):
        return None
    return (
        b'{"topic":"%b","partition":%d,"offset":%d,"timestamp":%d,"key":%b,"headers":%b,"event":%b}'
        % (
            place.topic.encode(),
            place.partition,
            record.offset,
            record.timestamp,
            _encode(key),
            _encode(headers),
            value,
        )
    )
