"""The bucket: chain objects by botocore, its set-up by the minio library.

Protocol rule 23: a PUT carries ``If-None-Match: *`` through botocore; the minio library would turn
that header into metadata and overwrite in silence. On 412 the object that is there decides. 409,
5xx and time-outs say nothing: the same PUT comes again. What each answer means: `faults`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aioboto3
import msgspec
import urllib3
from botocore.exceptions import ClientError
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.error import MinioException, S3Error, ServerError
from minio.lifecycleconfig import (
    AbortIncompleteMultipartUpload,
    LifecycleConfig,
    NoncurrentVersionExpiration,
    Rule,
)
from minio.versioningconfig import VersioningConfig
from urllib3.exceptions import HTTPError

from shopstream_analytics.archive.chain import HINT_PREFIX, Hint, Link, hint_key
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
from shopstream_analytics.sink import FaultKind, StoreLost

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

CONTENT_TYPE: Final = "application/zstd"
ABORT_UPLOADS_DAYS: Final = 7
OLD_HINTS_DAYS: Final = 1
_CONNECT_SECONDS: Final = 2.0
_READ_SECONDS: Final = 10.0
# Older MinIO servers answered 304 to a condition that failed.
_THERE: Final = frozenset({"PreconditionFailed", "412", "304"})
_RULE_REFUSED: Final = frozenset({"InvalidArgument", "MalformedXML", "NotImplemented"})
_MISSING: Final = frozenset({"NoSuchKey", "404"})


@dataclass(frozen=True, slots=True)
class S3Chain:
    """The adapter behind ChainStore."""

    client: "S3Client"
    bucket: str

    async def create(self, key: str, body: bytes, link: Link) -> Link | None:
        """See ChainStore.create."""
        with as_unavailable("archive"):
            try:
                await self.client.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=body,
                    Metadata=link.metadata(),
                    ContentType=CONTENT_TYPE,
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if error_code(error) not in _THERE:
                    raise
            else:
                return None
            answer = await self.client.head_object(Bucket=self.bucket, Key=key)
        try:
            return Link.of(answer["Metadata"])
        except (KeyError, ValueError) as error:
            raise StoreLost(f"archive: {key} is there, but no object of a chain") from error

    async def read_hint(self, source: Source) -> Hint | None:
        """See ChainStore.read_hint."""
        key = hint_key(source)
        with as_unavailable("archive"):
            try:
                answer = await self.client.get_object(Bucket=self.bucket, Key=key)
                async with asyncio.timeout(TRY_SECONDS_MAX), answer["Body"] as stream:
                    body = await stream.read()
            except ClientError as error:
                if error_code(error) not in _MISSING:
                    raise
                return None
        try:
            return msgspec.json.decode(body, type=Hint)
        except msgspec.MsgspecError as error:
            raise StoreLost(f"archive: {key} is no hint of ours: {error}") from error

    async def write_hint(self, source: Source, hint: Hint) -> None:
        """See ChainStore.write_hint."""
        with as_unavailable("archive"):
            await self.client.put_object(
                Bucket=self.bucket,
                Key=hint_key(source),
                Body=msgspec.json.encode(hint),
                ContentType="application/json",
            )


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
        yield S3Chain(client, settings.archive_bucket)


@dataclass(slots=True)
class BucketAtMinio:
    """Makes or completes the bucket: versioned, and with a lifecycle that never ends a chain.

    Rule 23 again: stale uploads end after a week, old versions of the hints after a day. MinIO ends
    stale uploads by itself and refuses the rule for it (minio issue 15681), so there only the
    hints' rule is set.
    """

    client: Minio
    bucket: str
    on_fault: OnFault = ignore_fault
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
        return cls(client, settings.archive_bucket, on_fault)

    async def __call__(self) -> None:
        """See BucketSetUp. Raises StoreLost when the bucket was there before and is not now."""
        try:
            await asyncio.to_thread(self._ensure)
        except (MinioException, HTTPError, OSError) as error:
            kind = _kind(error)
            self.on_fault(kind)
            raise fault("archive", kind, _name(error), str(error)) from error
        except ValueError as error:
            # The library's own check of names.
            raise fault("archive", "refused", "ValueError", str(error)) from error

    def _ensure(self) -> None:
        if not self.client.bucket_exists(self.bucket):
            if self._complete:
                raise StoreLost(
                    f"archive: the bucket {self.bucket} was deleted; "
                    "see `What fails` in docs/analytics.md"
                )
            self.client.make_bucket(self.bucket)
        if not self._complete:
            self.client.set_bucket_versioning(self.bucket, VersioningConfig(ENABLED))
            self._set_lifecycle()
            self._complete = True

    def _set_lifecycle(self) -> None:
        if self.client.get_bucket_lifecycle(self.bucket) is not None:
            # An operator's own rules stand.
            return
        try:
            self.client.set_bucket_lifecycle(
                self.bucket, LifecycleConfig([_hints_rule(), _uploads_rule()])
            )
        except S3Error as error:
            if error.code not in _RULE_REFUSED:
                raise
            self.client.set_bucket_lifecycle(self.bucket, LifecycleConfig([_hints_rule()]))


def _hints_rule() -> Rule:
    return Rule(
        status=ENABLED,
        rule_filter=Filter(prefix=f"{HINT_PREFIX}/"),
        rule_id="end-old-hints",
        noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=OLD_HINTS_DAYS),
    )


def _uploads_rule() -> Rule:
    return Rule(
        status=ENABLED,
        rule_filter=Filter(prefix=""),
        rule_id="end-stale-uploads",
        abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(
            days_after_initiation=ABORT_UPLOADS_DAYS
        ),
    )


def _kind(error: Exception) -> FaultKind:
    if isinstance(error, S3Error):
        return kind_of_code(str(error.code), error.response.status)
    if isinstance(error, ServerError):
        return kind_of_code("", error.status_code)
    return "unreachable"


def _name(error: Exception) -> str:
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else type(error).__name__
