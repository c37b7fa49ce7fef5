"""The reader's port on S3, by boto3."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from shopstream_shared.archive.reader import Stored

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: What S3 says where something is not there.
MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "404"})


@dataclass(frozen=True, slots=True)
class S3Content:
    """See reader.Content."""

    metadata: Mapping[str, str]
    body: Any
    away: Callable[[Exception], Exception]

    def chunks(self, size: int) -> Iterator[bytes]:
        """See reader.Content."""
        try:
            yield from self.body.iter_chunks(size)
        except (BotoCoreError, ClientError) as error:
            raise self.away(error) from error


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """See reader.Bucket. Blocking; ``away`` makes the error that callers expect of it."""

    client: "S3Client"
    name: str
    away: Callable[[Exception], Exception]

    def exists(self) -> bool:
        """Whether there is a bucket."""
        try:
            with self._answered():
                self.client.head_bucket(Bucket=self.name)
        except KeyError:
            return False
        return True

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """See reader.Bucket; nothing where there is no bucket either."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix, StartAfter=after or prefix
        )
        try:
            with self._answered():
                for page in pages:
                    for entry in page.get("Contents", ()):
                        yield Stored(entry["Key"], entry["Size"])
        except KeyError:
            return

    def folders(self, prefix: str) -> Iterator[str]:
        """See reader.Bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix, Delimiter="/"
        )
        try:
            with self._answered():
                for page in pages:
                    for entry in page.get("CommonPrefixes", ()):
                        yield entry["Prefix"].removeprefix(prefix).rstrip("/")
        except KeyError:
            return

    def head(self, key: str) -> Mapping[str, str]:
        """See reader.Bucket."""
        with self._answered():
            return self.client.head_object(Bucket=self.name, Key=key)["Metadata"]

    @contextmanager
    def open(self, key: str) -> Iterator[S3Content]:
        """See reader.Bucket."""
        with self._answered():
            answer = self.client.get_object(Bucket=self.name, Key=key)
        with closing(answer["Body"]) as body:
            yield S3Content(answer["Metadata"], body, self.away)

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Missing is KeyError, anything else the caller's own error."""
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in MISSING:
                raise KeyError(code) from error
            raise self.away(error) from error
        except BotoCoreError as error:
            raise self.away(error) from error
