"""The bucket: chain objects by botocore, its set-up by the minio library.

Protocol rule 23: a PUT carries ``If-None-Match: *`` through botocore; the minio library would turn
that header into metadata and overwrite in silence. On 412 the object that is there decides. 409,
5xx and time-outs say nothing: the same PUT comes again. What each answer means: `faults`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aioboto3
import msgspec
import urllib3
from botocore.exceptions import ClientError
from minio import Minio
from minio.commonconfig import ENABLED
from minio.error import MinioException, S3Error, ServerError
from minio.versioningconfig import VersioningConfig
from urllib3.exceptions import HTTPError, MaxRetryError

from shopstream_analytics.archive.chain import Hint, Link, hint_key
from shopstream_analytics.archive.lifecycle import Move, ensure_lifecycle
from shopstream_analytics.calls import TRY_SECONDS_MAX
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import (
    OnFault,
    as_unavailable,
    client_config,
    count_faults,
    error_code,
    fault,
    ignore_fault,
)
from shopstream_analytics.faults import kind_of_code
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import FaultKind, SinkUnavailable, StoreLost
from shopstream_shared.archive.end import last_key
from shopstream_shared.archive.keys import Damaged, ObjectKey, Place, topic_prefix
from shopstream_shared.archive.reader import link_of
from shopstream_shared.generations import TopicEpoch, TopicEpochs, epochs_key

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

CONTENT_TYPE: Final = "application/zstd"
#: Whoever may override it can still free space; nobody else can.
LOCK_MODE: Final = "GOVERNANCE"
_CONNECT_SECONDS: Final = 2.0
_READ_SECONDS: Final = 10.0
# Older MinIO servers answered 304 to a condition that failed.
_THERE: Final = frozenset({"PreconditionFailed", "412", "304"})
_NO_LOCK: Final = "ObjectLockConfigurationNotFoundError"
_MISSING: Final = frozenset({"NoSuchKey", "404"})


@dataclass(frozen=True, slots=True)
class S3Chain:
    """The adapter behind ChainStore."""

    client: "S3Client"
    bucket: str
    #: How long nobody may delete what is stored; 0: there is no lock.
    lock_days: int = 0

    async def create(self, key: str, body: bytes, link: Link) -> Link | None:
        """See ChainStore.create."""
        with as_unavailable("minio"):
            try:
                await self.client.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=body,
                    Metadata=link.metadata(),
                    ContentType=CONTENT_TYPE,
                    IfNoneMatch="*",
                    **_lock(self.lock_days),
                )
            except ClientError as error:
                if error_code(error) not in _THERE:
                    raise
            else:
                return None
            answer = await self.client.head_object(Bucket=self.bucket, Key=key)
        return _link_of(key, answer["Metadata"])

    async def last(self, source: Source, epoch: int = 0) -> Link | None:
        """See ChainStore.last."""
        found: ObjectKey | None = None
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=topic_prefix(source.topic, epoch)
        )
        with as_unavailable("minio"):
            async for page in pages:
                keys = (one["Key"] for one in page.get("Contents", ()))
                found = last_key(keys, Place(*source), found)
            if found is None:
                return None
            answer = await self.client.head_object(Bucket=self.bucket, Key=str(found))
        return _link_of(str(found), answer["Metadata"])

    async def read_hint(self, source: Source, epoch: int = 0) -> Hint | None:
        """See ChainStore.read_hint."""
        key = hint_key(source, epoch)
        body = await self._read(key)
        try:
            return None if body is None else msgspec.json.decode(body, type=Hint)
        except msgspec.MsgspecError as error:
            raise StoreLost(f"minio: {key} is no hint of ours: {error}") from error

    async def write_hint(self, source: Source, hint: Hint, epoch: int = 0) -> None:
        """See ChainStore.write_hint."""
        with as_unavailable("minio"):
            await self.client.put_object(
                Bucket=self.bucket,
                Key=hint_key(source, epoch),
                Body=msgspec.json.encode(hint),
                ContentType="application/json",
            )

    async def read_epochs(self, topic: str) -> Sequence[TopicEpoch]:
        """See ChainStore.read_epochs."""
        key = epochs_key(topic)
        body = await self._read(key)
        try:
            return () if body is None else msgspec.json.decode(body, type=TopicEpochs).epochs
        except msgspec.MsgspecError as error:
            raise StoreLost(f"minio: {key} is no list of epochs: {error}") from error

    async def _read(self, key: str) -> bytes | None:
        with as_unavailable("minio"):
            try:
                answer = await self.client.get_object(Bucket=self.bucket, Key=key)
                async with asyncio.timeout(TRY_SECONDS_MAX), answer["Body"] as stream:
                    return await stream.read()
            except ClientError as error:
                if error_code(error) not in _MISSING:
                    raise
                return None


@contextlib.asynccontextmanager
async def open_chain(
    settings: AnalyticsSettings, on_fault: OnFault = ignore_fault
) -> AsyncIterator[S3Chain]:
    """The bucket for the span of the context; nothing is connected before the first call.

    ``on_fault``: as of `open_dynamo`.
    """
    session = aioboto3.Session(
        aws_access_key_id=settings.minio_access_key.get_secret_value(),
        aws_secret_access_key=settings.minio_secret_key.get_secret_value(),
        region_name=settings.aws_region,
    )
    async with session.client(
        "s3", endpoint_url=settings.minio_endpoint, config=client_config()
    ) as client:
        count_faults(client, on_fault)
        yield S3Chain(client, settings.archive_bucket, settings.archive_lock_days)


@dataclass(slots=True)
class BucketAtMinio:
    """Makes or completes the bucket: versioned, with a lifecycle that never ends a chain, and with
    object lock where that is wanted, which can only be chosen when a bucket is made."""

    client: Minio
    bucket: str
    on_fault: OnFault = ignore_fault
    lock_days: int = 0
    move: Move | None = None
    _complete: bool = False

    @classmethod
    def of(cls, settings: AnalyticsSettings, on_fault: OnFault = ignore_fault) -> "BucketAtMinio":
        address = urlsplit(settings.minio_endpoint)
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
            retries=urllib3.Retry(total=0),
        )
        client = Minio(
            address.netloc,
            access_key=settings.minio_access_key.get_secret_value(),
            secret_key=settings.minio_secret_key.get_secret_value(),
            secure=address.scheme == "https",
            region=settings.aws_region,
            http_client=pool,
        )
        return cls(
            client,
            settings.archive_bucket,
            on_fault,
            lock_days=settings.archive_lock_days,
            move=_move(settings),
        )

    async def __call__(self) -> None:
        """See BucketSetUp. Raises StoreLost when the bucket was there before and is not now."""
        try:
            await asyncio.to_thread(self._ensure)
        except (MinioException, HTTPError, OSError) as error:
            kind = _kind(error)
            self.on_fault(kind)
            raise fault("minio", kind, _name(error), str(error)) from error
        except ValueError as error:
            # The library's own check of names.
            raise fault("minio", "refused", "ValueError", str(error)) from error

    def _ensure(self) -> None:
        if not self.client.bucket_exists(self.bucket):
            if self._complete:
                raise StoreLost(
                    f"minio: the bucket {self.bucket} was deleted; "
                    "see `What fails` in docs/analytics.md"
                )
            self.client.make_bucket(self.bucket, object_lock=self.lock_days > 0)
        if not self._complete:
            self._require_lock()
            self.client.set_bucket_versioning(self.bucket, VersioningConfig(ENABLED))
            ensure_lifecycle(self.client, self.bucket, self.move)
            self._complete = True

    def _require_lock(self) -> None:
        """Raises SinkUnavailable when the bucket was made without the lock that is wanted."""
        if not self.lock_days:
            return
        try:
            self.client.get_object_lock_config(self.bucket)
        except S3Error as error:
            if error.code != _NO_LOCK:
                raise
            raise SinkUnavailable(
                f"minio: the bucket {self.bucket} was made without object lock, which "
                "SHOPSTREAM_ARCHIVE_LOCK_DAYS needs: name a new bucket, or set it to 0",
                "refused",
            ) from None


def _link_of(key: str, metadata: Mapping[str, str]) -> Link:
    try:
        return link_of(metadata)
    except Damaged as error:
        raise StoreLost(f"minio: {key} is there, but no object of a chain") from error


def _lock(days: int) -> dict[str, Any]:
    if not days:
        return {}
    until = datetime.now(UTC) + timedelta(days=days)
    return {"ObjectLockMode": LOCK_MODE, "ObjectLockRetainUntilDate": until}


def _move(settings: AnalyticsSettings) -> Move | None:
    storage_class = settings.archive_storage_class
    if storage_class is None:
        return None
    return Move(storage_class, settings.archive_storage_class_days)


def _kind(error: Exception) -> FaultKind:
    if isinstance(error, S3Error):
        return kind_of_code(str(error.code), error.response.status)
    if isinstance(error, ServerError):
        return kind_of_code("", error.status_code)
    return "unreachable"


def _name(error: Exception) -> str:
    code = getattr(error, "code", None)
    if isinstance(error, MaxRetryError) and error.reason is not None:
        # That it was not tried again says nothing; why the one try failed does.
        return type(error.reason).__name__
    return code if isinstance(code, str) else type(error).__name__
