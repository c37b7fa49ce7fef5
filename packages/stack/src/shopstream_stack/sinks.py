"""`shopstream sinks`: where the analytics sinks stand, and the two ways to make one go on.

A sink whose checkpoint is below the log's first offset stops (`offset_out_of_range`), and so does
one whose table is gone (`store_lost`): both are for a person to decide (docs/analytics.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.table import Table

from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.archive.end import last_link
from shopstream_shared.archive.keys import Damaged, Place
from shopstream_shared.generations import (
    POINTER,
    TopicEpochs,
    checkpoint_key,
    consumer_of,
    epochs_key,
    hint_key,
    table_of,
)
from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, KafkaConnection, answer
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.demo.stores import dynamodb_client, s3_client
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_s3 import S3Client

SinkName = Literal["aggregates", "recent", "archive"]
SINKS: Final[tuple[SinkName, ...]] = get_args(SinkName)
_STORES: Final = {"aggregates": "DynamoDB", "recent": "DynamoDB", "archive": "MinIO"}
EXIT_FAILED: Final = 1
_ABSENT: Final = frozenset({"ResourceNotFoundException", "NoSuchKey", "NoSuchBucket", "404"})
_MOVED: Final = frozenset({"ConditionalCheckFailedException", "PreconditionFailed", "412"})


@dataclass(frozen=True, slots=True)
class Partition:
    """What the log holds of a partition: ``first`` to ``end`` (exclusive), of the topic's life."""

    topic: str
    topic_id: str
    number: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A sink's checkpoint in a partition, None before its first; ``tag`` names what was read."""

    partition: Partition
    next: int | None
    tag: str = ""

    @property
    def lost(self) -> int:
        """Offsets that the sink has not taken and the log does not hold any more."""
        return 0 if self.next is None else max(0, self.partition.first - self.next)


class _Hint(msgspec.Struct, rename="camel"):
    next: int
    topic_id: str
    key: str = ""


class Store:
    """The checkpoints of all sinks, as they are stored."""

    def __init__(self, target: Target, dynamo: "DynamoDBClient", s3: "S3Client") -> None:
        self._target = target
        self._dynamo = dynamo
        self._s3 = s3

    def standing(self, sink: SinkName, partition: Partition) -> Standing:
        """Raises what botocore raises."""
        if sink == "archive":
            return self._archived(partition)
        item = self._item(_checkpoint(self._consumer(sink), partition))
        return Standing(partition, None if item is None else int(item["next"]["N"]))

    def move(self, sink: SinkName, standing: Standing) -> None:
        """Move the checkpoint to the log's first offset, unless somebody has moved it."""
        if sink == "archive":
            self._move_hint(standing)
            return
        self._dynamo.update_item(
            TableName=self._target.checkpoints_table,
            Key={"pk": {"S": _checkpoint(self._consumer(sink), standing.partition)}},
            UpdateExpression="SET #next = :to",
            ConditionExpression="#next = :from",
            ExpressionAttributeNames={"#next": "next"},
            ExpressionAttributeValues={
                ":from": {"N": str(standing.next)},
                ":to": {"N": str(standing.partition.first)},
            },
        )

    def forget(self, sink: SinkName, partitions: list[Partition]) -> None:
        """Delete the checkpoints of a sink, and then which table they spoke of."""
        consumer = self._consumer(sink)
        keys = [_checkpoint(consumer, partition) for partition in partitions]
        for key in [*keys, self._note(sink)]:
            self._dynamo.delete_item(
                TableName=self._target.checkpoints_table, Key={"pk": {"S": key}}
            )

    def gone(self, sink: SinkName) -> str | None:
        """What is not there any more of what a sink's checkpoints speak of: its table, or bucket.

        Raises what botocore raises.
        """
        return self._bucket_gone() if sink == "archive" else self._table_gone(sink)

    def _bucket_gone(self) -> str | None:
        bucket = self._target.archive_bucket
        try:
            self._s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            return f"the bucket {bucket} is not there"
        return None

    def _table_gone(self, sink: SinkName) -> str | None:
        note, table = self._item(self._note(sink)), self._table(sink)
        if note is None:
            return None
        try:
            found = self._dynamo.describe_table(TableName=table)["Table"]
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            return f"the table {table} was deleted"
        # As the worker notes it: DynamoDB Local gives no id.
        identity = found.get("TableId") or found["CreationDateTime"].astimezone(UTC).isoformat()
        return None if identity == note["tableId"]["S"] else f"the table {table} was made again"

    def _table(self, sink: SinkName) -> str:
        if sink == "recent":
            return self._target.recent_events_table
        return table_of(self._target.aggregates_table, self._generation())

    def _note(self, sink: SinkName) -> str:
        """Under which key a sink notes which table its checkpoints speak of."""
        return f"{self._consumer(sink)}#table#{self._table(sink)}"

    def _consumer(self, sink: SinkName) -> str:
        """Under which name a sink keeps its checkpoints: of the aggregates, the generation's."""
        return consumer_of(f"analytics-{sink}", self._generation() if sink == "aggregates" else 0)

    def _generation(self) -> int:
        """The generation of the aggregates that is in use (docs/analytics.md, Rebuild)."""
        item = self._item(POINTER)
        return 0 if item is None else int(item["generation"]["N"])

    def _epoch(self, partition: Partition) -> int:
        """The present life of a partition's topic."""
        try:
            found = self._s3.get_object(
                Bucket=self._target.archive_bucket, Key=epochs_key(partition.topic)
            )
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            return 0
        return msgspec.json.decode(found["Body"].read(), type=TopicEpochs).epochs[-1].epoch

    def _item(self, key: str) -> Mapping[str, Any] | None:
        try:
            found = self._dynamo.get_item(
                TableName=self._target.checkpoints_table,
                Key={"pk": {"S": key}},
                ConsistentRead=True,
            )
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            return None
        return found.get("Item")

    def _archived(self, partition: Partition) -> Standing:
        """Where the chain ends; the hint may say less, after a crash between object and hint.

        As long as the log has what the hint names next, the worker finds its way by itself.
        """
        epoch = self._epoch(partition)
        hint, tag = self._hint(partition, epoch)
        if hint is not None and hint.topic_id != partition.topic_id:
            # Of another life of the topic: nothing of this one is stored.
            return Standing(partition, None, tag)
        position = None if hint is None else hint.next
        if (position or 0) < partition.first:
            bucket = S3Bucket(self._s3, self._target.archive_bucket, _away)
            place = Place(partition.topic, partition.number)
            try:
                last = last_link(bucket, place, epoch)
            except Damaged as error:
                raise StackError(
                    f"The chain of {place} ends in an object of none: {error}; see "
                    "`shopstream archive verify`"
                ) from error
            if last is not None and last.topic_id == partition.topic_id:
                position = max(position or 0, last.next)
        return Standing(partition, position, tag)

    def _hint(self, partition: Partition, epoch: int) -> tuple[_Hint | None, str]:
        """The hint and its ETag."""
        key = hint_key(partition.topic, partition.number, epoch)
        try:
            found = self._s3.get_object(Bucket=self._target.archive_bucket, Key=key)
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            return None, ""
        return msgspec.json.decode(found["Body"].read(), type=_Hint), found["ETag"]

    def _move_hint(self, standing: Standing) -> None:
        partition = standing.partition
        unmoved: Any = {"IfMatch": standing.tag} if standing.tag else {"IfNoneMatch": "*"}
        self._s3.put_object(
            Bucket=self._target.archive_bucket,
            Key=hint_key(partition.topic, partition.number, self._epoch(partition)),
            Body=msgspec.json.encode(_Hint(partition.first, partition.topic_id)),
            ContentType="application/json",
            **unmoved,
        )


def ls(target: Target, out: Console) -> int:
    """A row a sink and partition, then what is wrong; 0 if nothing is and none has lost anything.

    A store that does not answer leaves out its own sinks only. Raises StackError without a broker.
    """
    shown = Table("sink", "topic", "partition", "checkpoint", "log", "lost")
    wrong, behind = [], False
    partitions = partitions_of(target)
    with _opened(target) as store:
        for sink in SINKS:
            try:
                standings = [store.standing(sink, part) for part in partitions]
                gone = store.gone(sink)
            except (BotoCoreError, ClientError, StackError) as error:
                wrong.append(f"{sink}: {_STORES[sink]} does not answer as it should: {error}")
                continue
            if gone is not None:
                wrong.append(f"{sink}: {gone}; see `Recover a lost store` in docs/analytics.md")
            for one in standings:
                part = one.partition
                log = f"{part.first} to {part.end}"
                at = "-" if one.next is None else str(one.next)
                shown.add_row(sink, part.topic, str(part.number), at, log, str(one.lost or ""))
                behind = behind or one.lost > 0
    if shown.row_count:
        out.print(shown)
    for text in wrong:
        out.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    return EXIT_FAILED if wrong or behind else 0


def nexts(target: Target, sink: SinkName) -> dict[tuple[str, int], int]:
    """Each partition's checkpoint, where there is one. Raises StackError."""
    return {
        (one.partition.topic, one.partition.number): one.next
        for _, one in _standings(target, (sink,))
        if one.next is not None
    }


def lost(target: Target) -> dict[SinkName, int]:
    """By sink: how many offsets it has not taken and the log does not hold. Raises StackError."""
    found = dict.fromkeys(SINKS, 0)
    for sink, one in _standings(target):
        found[sink] += one.lost
    return found


def _standings(
    target: Target, names: Sequence[SinkName] = SINKS
) -> list[tuple[SinkName, Standing]]:
    with _opened(target) as store:
        partitions = partitions_of(target)
        return [(sink, store.standing(sink, part)) for sink in names for part in partitions]


def skip(target: Target, sink: SinkName, out: Console) -> int:
    """Let a sink go on where the log begins; returns how many offsets it leaves out.

    Raises StackError when a checkpoint has moved since it was looked at: the sink is at work.
    """
    with _opened(target) as store:
        standings = [store.standing(sink, partition) for partition in partitions_of(target)]
        behind = [one for one in standings if one.lost]
        for one in behind:
            try:
                store.move(sink, one)
            except ClientError as error:
                if _code(error) not in _MOVED:
                    raise
                raise StackError(f"{sink} has moved on meanwhile: look again") from error
            out.print(
                f"{sink}, {one.partition.topic}/{one.partition.number}: "
                f"from {one.next} to {one.partition.first}, {one.lost} offsets left out"
            )
    if not behind:
        out.print(f"{sink} is nowhere behind the log.")
    return sum(one.lost for one in behind)


def restart(target: Target, sink: SinkName, out: Console) -> None:
    """Let a sink begin again at the log's first record. Raises StackError for the archive."""
    if sink == "archive":
        raise StackError(
            "The archive's checkpoints are in its bucket: without it a new start begins at the "
            "log's first record"
        )
    with _opened(target) as store:
        store.forget(sink, partitions_of(target))
    out.print(f"{sink} begins at the log's first record; what it holds already counts once.")


def partitions_of(target: Target) -> list[Partition]:
    """All partitions that the sinks read. Raises StackError."""
    kafka = KafkaConnection(target.kafka_brokers, "shopstream-sinks")
    admin = AdminClient(kafka.admin())
    consumer = Consumer(kafka.consumer("shopstream-sinks"))
    found = []
    try:
        futures = admin.describe_topics(
            TopicCollection(list(STREAM_TOPICS)), request_timeout=METADATA_TIMEOUT_SECONDS
        )
        for topic, future in futures.items():
            described = answer(future)
            for number in range(len(described.partitions)):
                where = TopicPartition(topic, number)
                first, end = consumer.get_watermark_offsets(where, METADATA_TIMEOUT_SECONDS)
                found.append(Partition(topic, str(described.topic_id), number, first, end))
    except KafkaException as error:
        raise StackError(
            f"The topics cannot be read from {target.kafka_brokers}: {error}"
        ) from error
    finally:
        consumer.close()
    return found


@contextmanager
def _opened(target: Target) -> Iterator[Store]:
    """The store for the span of a block; botocore's errors become ours."""
    try:
        with closing(dynamodb_client(target)) as dynamo, closing(s3_client(target)) as s3:
            yield Store(target, dynamo, s3)
    except (BotoCoreError, ClientError) as error:
        raise _away(error) from error


def _away(error: Exception) -> StackError:
    return StackError(f"A sink's store fails: {error}")


def _checkpoint(consumer: str, partition: Partition) -> str:
    return checkpoint_key(consumer, partition.topic, partition.topic_id, partition.number)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
