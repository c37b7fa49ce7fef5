"""The archive of the system that this stack runs, or that its variables name."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.demo.stores import s3_client
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """The bucket, for reading through the port and for the few writes beside the chains."""

    bucket: S3Bucket
    client: "S3Client"
    rotate_seconds: float


@contextmanager
def opened(target: Target) -> Iterator[ArchivePlace]:
    """Raises StackError when there is no bucket, or no answer; then, too, in later calls."""

    def away(error: Exception) -> StackError:
        return StackError(
            f"The archive {target.archive_bucket} at {target.minio_endpoint} fails: {error}"
        )

    with closing(s3_client(target)) as client:
        bucket = S3Bucket(client, target.archive_bucket, away)
        if not bucket.exists():
            raise StackError(
                f"There is no bucket {target.archive_bucket} at {target.minio_endpoint}: "
                "the analytics service makes it at its start"
            )
        yield ArchivePlace(bucket, client, target.archive_rotate_seconds)


def topics_of(named: str | None) -> tuple[str, ...]:
    """The one that is named, or all. Raises StackError for a topic that is never archived."""
    if named is None:
        return STREAM_TOPICS
    if named not in STREAM_TOPICS:
        raise StackError(f"--topic {named}: the archive holds {', '.join(STREAM_TOPICS)}")
    return (named,)
