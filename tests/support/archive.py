"""An archive to read: objects made as the worker makes them, in memory or in a real bucket."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import zstandard
from tests.support.analytics import s3_client
from tests.support.analytics_events import LogRecord
from tests.support.components import LocalComponents
from typer.testing import CliRunner, Result

from shopstream_analytics.archive.line import line_of
from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.archive.keys import HINTS, Link, Place, object_key
from shopstream_shared.archive.reader import Bucket, Stored
from shopstream_stack import cli
from shopstream_stack.errors import StackError


class Away(Exception):
    """What these tests' buckets raise when they do not answer."""


@dataclass(frozen=True, slots=True)
class MemoryContent:
    """Gives its bytes in pieces of one byte less than asked, so that borders fall anywhere."""

    metadata: Mapping[str, str]
    body: bytes

    def chunks(self, size: int) -> Iterator[bytes]:
        step = size - 1
        for start in range(0, len(self.body), step):
            yield self.body[start : start + step]


@dataclass(slots=True)
class MemoryBucket:
    """The port in memory."""

    objects: dict[str, tuple[bytes, Mapping[str, str]]] = field(default_factory=dict)

    def put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        self.objects[key] = body, metadata

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        for key, (body, _) in sorted(self.objects.items()):
            if key.startswith(prefix) and key > after:
                yield Stored(key, len(body))

    def folders(self, prefix: str) -> Iterator[str]:
        names = (key.removeprefix(prefix) for key in self.objects if key.startswith(prefix))
        yield from sorted({name.split("/")[0] for name in names if "/" in name})

    def head(self, key: str) -> Mapping[str, str]:
        return self.objects[key][1]

    @contextmanager
    def open(self, key: str) -> Iterator[MemoryContent]:
        body, metadata = self.objects[key]
        yield MemoryContent(metadata, body)


@dataclass(slots=True)
class RealBucket:
    """The same on a bucket of MinIO."""

    client: Any
    bucket: S3Bucket

    @classmethod
    def fresh(cls, components: LocalComponents) -> "RealBucket":
        client = s3_client(components.environ_of("minio"))
        name = f"archive-{uuid4().hex[:12]}"
        client.create_bucket(Bucket=name)
        return cls(client, S3Bucket(client, name, Away))

    def put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        self.client.put_object(Bucket=self.bucket.name, Key=key, Body=body, Metadata=dict(metadata))


class Putting(Protocol):
    """Either of them."""

    def put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None: ...


@dataclass(slots=True)
class Archived:
    """A bucket under test and what was put into it."""

    bucket: Bucket
    into: Putting

    def add(
        self,
        records: Sequence[LogRecord],
        *,
        start: int | None = None,
        following: int | None = None,
        topic_id: str = "id",
        generation: int = 0,
        body: bytes | None = None,
        **wrong: Any,
    ) -> str:
        """An object of these records; what is `wrong` replaces what its link should say."""
        lines = b"".join(line_of(record) for record in records)
        stored = zstandard.compress(lines) if body is None else body
        first, last = records[0], records[-1]
        link = Link(
            start=first.offset if start is None else start,
            next=last.offset + 1 if following is None else following,
            first=first.offset,
            last=last.offset,
            count=len(records),
            sha256=hashlib.sha256(stored).hexdigest(),
            topic_id=topic_id,
        )
        place = Place(first.topic, first.partition)
        key = object_key(place, first.offset, first.timestamp, generation)
        self.into.put(key, stored, replace(link, **wrong).metadata())
        return key

    def hint(self, place: Place, text: bytes) -> None:
        self.into.put(f"{HINTS}/{place.topic}/{place.partition}", text, {})


def in_memory() -> Archived:
    bucket = MemoryBucket()
    return Archived(bucket, bucket)


def in_minio(components: LocalComponents) -> Archived:
    real = RealBucket.fresh(components)
    return Archived(real.bucket, real)


@dataclass(frozen=True, slots=True)
class ArchiveCommand:
    """`shopstream archive …` in this process, on a bucket of its own."""

    environ: Mapping[str, str]
    archived: Archived
    client: Any
    bucket: str

    @classmethod
    def fresh(cls, components: LocalComponents, data: Path) -> "ArchiveCommand":
        real = RealBucket.fresh(components)
        environ = {
            **components.environ_of("minio"),
            "ARCHIVE_BUCKET_NAME": real.bucket.name,
            "SHOPSTREAM_DATA_DIR": str(data),
        }
        return cls(environ, Archived(real.bucket, real), real.client, real.bucket.name)

    def __call__(self, *words: str | Path) -> Result:
        """Its exit code and output; a StackError is 1, with its message, as `main` makes it."""
        arguments = ["archive", *map(str, words)]
        result = CliRunner().invoke(cli.app, arguments, env=dict(self.environ))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            assert isinstance(result.exception, StackError), result.exception
        return result

    def whole(self, *words: str | Path) -> str:
        """What it prints; it must end well."""
        result = self(*words)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def keys(self, prefix: str) -> list[str]:
        return [stored.key for stored in self.archived.bucket.list(prefix)]
