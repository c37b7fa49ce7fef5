"""The archive as the check reads it: its chain walked object by object, line by line.

Protocol rule 22: an object's metadata names ``start next first last count sha256 topic-id``;
``start`` is the ``next`` of the object before it. Nothing of an object larger than a chunk is in
memory at any time.
"""

import hashlib
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
import zstandard
from botocore.exceptions import BotoCoreError, ClientError

from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError
from shopstream_stack.verify.log import Place, Record
from shopstream_stack.verify.report import Invariant, Violation
from shopstream_stack.verify.spool import Spool

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: Of what is compressed; unpacked it is ten to twenty times as much.
CHUNK_BYTES: Final = 65_536
#: A line is one event of at most 256 KiB, perhaps in base64, and its envelope.
LINE_BYTES_MAX: Final = 2_097_152
HINTS: Final = "_positions"
#: What S3 says where something is not there.
MISSING: Final = frozenset({"NoSuchKey", "NoSuchBucket", "404"})


class _Line(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str | None
    headers: list[list[str | None]]
    event: msgspec.Raw
    raw: str | None = None
    keyRaw: str | None = None  # noqa: N815 - as it stands in the line


class _Hint(msgspec.Struct, frozen=True):
    next: int
    key: str


_encode: Final = msgspec.json.Encoder().encode


class Damaged(Exception):
    """A line or an object that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Link:
    """What an object's metadata says; positions and offsets are Kafka's, ``next`` is exclusive."""

    key: str
    start: int
    next: int
    first: int
    last: int
    count: int
    sha256: str
    topic_id: str

    @classmethod
    def of(cls, key: str, metadata: dict[str, str]) -> "Link":
        """Raises Damaged when this is no object of a chain."""
        try:
            start, following, first, last, count = (
                int(metadata[name]) for name in ("start", "next", "first", "last", "count")
            )
            sha256, topic_id = metadata["sha256"], metadata["topic-id"]
        except (KeyError, ValueError) as error:
            raise Damaged(f"metadata lacks {error}") from error
        return cls(key, start, following, first, last, count, sha256, topic_id)


class Archive:
    """The bucket. Blocking; raises StackError when it does not answer."""

    def __init__(self, target: Target, client: "S3Client") -> None:
        self.bucket = target.archive_bucket
        self.endpoint = target.minio_endpoint
        self.client = client

    def exists(self) -> bool:
        """Whether there is a bucket."""
        try:
            self.client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] in MISSING:
                return False
            raise self.away(error) from error
        except BotoCoreError as error:
            raise self.away(error) from error
        return True

    def reached(self, place: Place) -> int:
        """How far the chain has come: the position after its last object, 0 without any."""
        hint = self._hint(place)
        following, after = (hint.next, hint.key) if hint is not None else (0, "")
        # The hint is written after the object, and not at all by a writer that died in between.
        found = (one for one in self._keys(place.topic, after) if one[0] == place.partition)
        last = max(found, default=None)
        try:
            if last is not None:
                key = last[2]
                answer = self.client.head_object(Bucket=self.bucket, Key=key)
                following = max(following, Link.of(key, answer["Metadata"]).next)
        except (BotoCoreError, ClientError) as error:
            raise self.away(error) from error
        except Damaged:
            return following
        return following

    def list_into(self, spool: Spool, topics: Iterable[str]) -> None:
        """Fill the table ``objects`` with the keys of the chains."""
        columns = {"topic": "VARCHAR", "part": "BIGINT", "first": "BIGINT", "key": "VARCHAR"}
        with spool.table("objects", columns) as table:
            for topic in topics:
                for number, first, key in self._keys(topic, ""):
                    table.add((topic, number, first, key))
                    table.checkpoint()

    def _hint(self, place: Place) -> _Hint | None:
        key = f"{HINTS}/{place.topic}/{place.partition}"
        try:
            with closing(self.client.get_object(Bucket=self.bucket, Key=key)["Body"]) as body:
                return msgspec.json.decode(body.read(), type=_Hint)
        except ClientError as error:
            if error.response["Error"]["Code"] in MISSING:
                return None
            raise self.away(error) from error
        except BotoCoreError as error:
            raise self.away(error) from error
        except msgspec.MsgspecError:
            return None

    def _keys(self, topic: str, after: str) -> Iterator[tuple[int, int, str]]:
        """Partition, first offset and key of a topic's objects."""
        prefix = f"events/topic={topic}/"
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, StartAfter=after or prefix
        )
        try:
            for page in pages:
                for entry in page.get("Contents", ()):
                    key = entry["Key"]
                    name = key.rpartition("/")[2].partition(".jsonl")[0].split("+")
                    if len(name) == 3 and name[1].isdecimal() and name[2].isdecimal():  # noqa: PLR2004 - topic+partition+offset
                        yield int(name[1]), int(name[2]), key
        except (BotoCoreError, ClientError) as error:
            raise self.away(error) from error

    def away(self, error: Exception) -> StackError:
        return StackError(f"The archive {self.bucket} at {self.endpoint} cannot be read: {error}")


@dataclass(slots=True)
class Chain:
    """One partition's chain, walked once; what contradicts itself is told to ``row``."""

    archive: Archive
    place: Place
    topic_id: str
    row: Invariant
    #: Where the chain begins and how far it has been walked.
    start: int | None = None
    next: int = 0
    objects: int = 0
    #: The log's next event, and the line that would be it byte for byte; see `expect`.
    _ahead: Record | None = None
    _line: bytes | None = None
    _decoder: Any = field(default_factory=lambda: msgspec.json.Decoder(_Line))

    def records(self, spool: Spool, end: int) -> Iterator[Record]:
        """The archived records below ``end``, as the lines say, in the order of the chain."""
        keys = spool.stream(
            "SELECT key FROM objects WHERE topic = ? AND part = ? ORDER BY first, key", self.place
        )
        for (key,) in keys:
            try:
                yield from self._object(key, end)
            except Damaged as error:
                self._fault("damaged", "an object that can be read", str(error), key)
            except (BotoCoreError, ClientError) as error:
                raise self.archive.away(error) from error
            if self.next >= end:
                return

    def expect(self, ahead: Record | None) -> None:
        """Say which event the log has next, None for a record that is none.

        A line that is that event's, byte for byte, is not taken apart: `records` gives back this
        very record. Any other line is read, whatever was expected.
        """
        self._ahead = ahead
        self._line = None if ahead is None else line_of(self.place, ahead)

    def _object(self, key: str, end: int) -> Iterator[Record]:
        answer = self.archive.client.get_object(Bucket=self.archive.bucket, Key=key)
        with closing(answer["Body"]) as body:
            link = Link.of(key, answer["Metadata"])
            if link.start >= end:
                self.next = max(self.next, link.next)
                return
            self._join(link)
            yield from self._lines(link, body)

    def _join(self, link: Link) -> None:
        """Hold an object against the one before it."""
        self.objects += 1
        if self.start is None:
            self.start = link.start
        elif link.start != self.next:
            self._fault("gap", f"start {self.next}", f"start {link.start}", link.key)
        if link.topic_id != self.topic_id:
            self._fault("foreign", f"topic-id {self.topic_id}", link.topic_id, link.key)
        self.next = max(self.next, link.next)

    def _lines(self, link: Link, body: Any) -> Iterator[Record]:
        digest = hashlib.sha256()
        unpack = zstandard.ZstdDecompressor().decompressobj()
        rest, count, first, last = b"", 0, -1, -1
        try:
            for chunk in body.iter_chunks(CHUNK_BYTES):
                digest.update(chunk)
                *lines, rest = (rest + unpack.decompress(chunk)).split(b"\n")
                for line in lines:
                    record = self.record(line)
                    first = record.offset if first < 0 else first
                    last = record.offset
                    count += 1
                    yield record
                if len(rest) > LINE_BYTES_MAX:
                    raise Damaged("a line without an end")
        except zstandard.ZstdError as error:
            raise Damaged(f"not zstd: {error}") from error
        if digest.hexdigest() != link.sha256:
            self._fault("damaged", f"sha256 {link.sha256}", digest.hexdigest(), link.key)
        if rest:
            self._fault("damaged", "a line break at the end", repr(rest[:20]), link.key)
        said = (link.first, link.last, link.count)
        if said != (first, last, count):
            seen = f"{(first, last, count)}"
            self._fault("damaged", f"first, last, count {said}", seen, link.key)
        if not link.start <= first <= last < link.next:
            seen = f"records {first} to {last}"
            self._fault("damaged", f"records within [{link.start}, {link.next})", seen, link.key)

    def record(self, line: bytes) -> Record:
        """What a line says. Raises Damaged."""
        if line == self._line and self._ahead is not None:
            return self._ahead
        try:
            read: _Line = self._decoder.decode(line)
            event = bytes(read.event)
            raw = event == b"null"
            value = _unpacked(read.raw) if raw else event
            key = _bytes(read.key) if read.keyRaw is None else _unpacked(read.keyRaw)
            headers = [_header(pair) for pair in read.headers]
        except (msgspec.MsgspecError, ValueError, IndexError) as error:
            raise Damaged(f"a line that cannot be read: {error}") from error
        if (read.topic, read.partition) != self.place:
            raise Damaged(f"a line of {read.topic}/{read.partition}")
        return Record(read.offset, read.timestamp, key, headers, value, raw)

    def _fault(self, kind: str, expected: str, seen: str, key: str) -> None:
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


def _unpacked(base64: str | None) -> bytes | None:
    return None if base64 is None else b64decode(base64)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _header(pair: list[str | None]) -> tuple[str, bytes | None]:
    """A header: [name, text], or [name, null, base64] where the value is no UTF-8."""
    if len(pair) > 2 and pair[2] is not None:  # noqa: PLR2004 - see above
        return str(pair[0]), b64decode(pair[2])
    return str(pair[0]), _bytes(pair[1])
