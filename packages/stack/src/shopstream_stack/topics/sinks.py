"""What the analytics sinks hold of a topic that was made again, and what can be done about it now.

Each sink notes the ids of the topics it was filled from (docs/analytics.md) and stops at another.

- Recent events are kept by event id, so events of the new topic can never be taken for old ones:
  the note is moved to the new id, and the sink begins at the new topic's first record.
- Aggregates carry the offset they were merged up to, and new offsets begin below it: events would
  be left out in silence. They stay stopped until they are rebuilt from the archive.
- The archive names objects by offset; those of the new topic would follow the old ones as if
  nothing had happened. It stays stopped until its chain begins a new generation.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.demo.stores import dynamodb_client, s3_client
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_s3 import S3Client

RECENT: Final = "analytics-recent"
AGGREGATES: Final = "analytics-aggregates"
ARCHIVE: Final = "analytics-archive"
HINTS: Final = "_positions"
_ABSENT: Final = frozenset({"ResourceNotFoundException", "NoSuchKey", "NoSuchBucket", "404"})

State = Literal["empty", "same", "adopted", "stopped"]


@dataclass(frozen=True, slots=True)
class SinkTopic:
    """One sink and topic. ``stopped``: it takes nothing of the topic until it is rebuilt."""

    sink: str
    topic: str
    state: State
    detail: str = ""


class _Hint(msgspec.Struct, rename="camel"):
    """How far the archive of a partition has come."""

    next: int
    topic_id: str


def adopt(
    target: Target,
    ids: Mapping[str, str],
    partitions: Mapping[str, int],
    ends: Mapping[str, list[int]],
) -> list[SinkTopic]:
    """Move what may be moved to these topic ids, and say what stays stopped.

    ``ends``: how far the relay had published to the topics that were made again, where that is
    known. Raises StackError when a store does not answer.
    """
    try:
        found = []
        with closing(dynamodb_client(target)) as dynamodb, closing(s3_client(target)) as s3:
            tables, archive = _Notes(target, dynamodb), _Archive(target, s3)
            for topic in STREAM_TOPICS:
                count, known = partitions[topic], ends.get(topic, [])
                found.append(tables.adopt(RECENT, topic, ids[topic], count))
                found.append(tables.look(AGGREGATES, topic, ids[topic]))
                found.append(archive.look(topic, ids[topic], count, known))
    except (BotoCoreError, ClientError) as error:
        raise StackError(
            f"the relay has adopted the topics, but a sink's store fails: {error}; "
            "call adopt again when it answers"
        ) from error
    return found


class _Notes:
    """The items of the checkpoints table that hold a topic's id, by consumer."""

    def __init__(self, target: Target, client: "DynamoDBClient") -> None:
        self._table = target.checkpoints_table
        self._client = client

    def look(self, sink: str, topic: str, topic_id: str) -> SinkTopic:
        noted = self._noted(sink, topic)
        if noted is None:
            return SinkTopic(sink, topic, "empty")
        if noted == topic_id:
            return SinkTopic(sink, topic, "same")
        return SinkTopic(sink, topic, "stopped", "its items count offsets of the old topic")

    def adopt(self, sink: str, topic: str, topic_id: str, partitions: int) -> SinkTopic:
        found = self.look(sink, topic, topic_id)
        if found.state != "stopped":
            return found
        self._client.put_item(
            TableName=self._table,
            Item={
                "pk": {"S": f"{sink}#{topic}"},
                "topicId": {"S": topic_id},
                "partitions": {"N": str(partitions)},
            },
        )
        return SinkTopic(sink, topic, "adopted", "begins at the new topic's first record")

    def _noted(self, sink: str, topic: str) -> str | None:
        try:
            answer = self._client.get_item(
                TableName=self._table, Key={"pk": {"S": f"{sink}#{topic}"}}, ConsistentRead=True
            )
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            return None
        item = answer.get("Item")
        return None if item is None else str(item["topicId"]["S"])


class _Archive:
    """The hints in the bucket, which hold a partition's topic id."""

    def __init__(self, target: Target, client: "S3Client") -> None:
        self._bucket = target.archive_bucket
        self._client = client

    def look(self, topic: str, topic_id: str, partitions: int, ends: Iterable[int]) -> SinkTopic:
        published = list(ends)
        hints = [self._hint(topic, p) for p in range(max(partitions, len(published)))]
        known = [hint for hint in hints if hint is not None]
        if not known:
            return SinkTopic(ARCHIVE, topic, "empty")
        if all(hint.topic_id == topic_id for hint in known):
            return SinkTopic(ARCHIVE, topic, "same")
        lost = sum(
            max(0, end - (0 if hint is None else hint.next))
            for hint, end in zip(hints, published, strict=False)
        )
        told = (
            f"{lost} offsets of the old topic were published but not archived: they are lost"
            if published
            else "how far the old topic was published is not known any more"
        )
        return SinkTopic(ARCHIVE, topic, "stopped", told)

    def _hint(self, topic: str, partition: int) -> _Hint | None:
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=f"{HINTS}/{topic}/{partition}"
            )
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            return None
        return msgspec.json.decode(answer["Body"].read(), type=_Hint)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
