"""What the analytics sinks hold of a topic that was made again, and how they go on with it.

Each sink notes the ids of the topics it was filled from (docs/analytics.md) and stops at another.

- Recent events are kept by event id, so events of the new topic can never be taken for old ones:
  the note is moved to the new id, and the sink begins at the new topic's first record.
- Aggregates and archive count offsets, which begin again: the topic gets a further epoch. What
  they hold of the old one stays as it is, under its own names, and is read on.
- Nothing but the archive is left of the old topic. Where the aggregates had not come exactly as far
  in it, they are to be rebuilt: until then they are not what the archive adds up to.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.archive.end import chain_end
from shopstream_shared.archive.keys import Damaged, Place
from shopstream_shared.archive.reader import CHUNK_BYTES, read_hint
from shopstream_shared.generations import (
    POINTER,
    TopicEpoch,
    TopicEpochs,
    checkpoint_key,
    consumer_of,
    epochs_key,
)
from shopstream_stack.demo.stores import dynamodb_client, s3_client
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

RECENT: Final = "analytics-recent"
AGGREGATES: Final = "analytics-aggregates"
ARCHIVE: Final = "analytics-archive"
_ABSENT: Final = frozenset({"ResourceNotFoundException", "NoSuchKey", "NoSuchBucket", "404"})

#: ``rebuild``: it goes on, but what it holds of the old topic is not what the archive has;
#: ``stopped``: it does not.
State = Literal["empty", "same", "adopted", "rebuild", "stopped"]
Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SinkTopic:
    """One sink and topic."""

    sink: str
    topic: str
    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NewLife:
    """A topic as it is now. ``ends``: how far the relay had published to the one that is gone, as
    far as that is known."""

    topic: str
    id: str
    partitions: int
    epoch: int
    ends: Sequence[int] = ()


def adopt(target: Target, lives: Sequence[NewLife]) -> list[SinkTopic]:
    """Let all three sinks go on with the topics as they are; may be called again at any time.

    Raises StackError when a store does not answer.
    """
    try:
        with closing(dynamodb_client(target)) as dynamodb, closing(s3_client(target)) as s3:
            tables = _Notes(target.checkpoints_table, dynamodb)
            archive = _Archive(S3Bucket(s3, target.archive_bucket, _away))
            found = []
            for life in lives:
                found.append(tables.move(RECENT, life))
                found += _adopt(tables, archive, life)
            return found
    except (BotoCoreError, ClientError) as error:
        raise _away(error) from error


def _away(error: Exception) -> StackError:
    return StackError(
        f"the relay has adopted the topics, but a sink's store fails: {error}; "
        "call adopt again when it answers"
    )


def _adopt(tables: "_Notes", archive: "_Archive", life: NewLife) -> list[SinkTopic]:
    """Aggregates and archive: one list of epochs for both, whichever has seen the old topic."""
    consumer = tables.aggregates()
    noted, kept = tables.noted(consumer, life.topic), archive.epochs(life)
    known = kept or (() if noted is None else _epochs_of(noted))
    if not known:
        return [SinkTopic(sink, life.topic, "empty") for sink in (AGGREGATES, ARCHIVE)]
    if known[-1].topic_id == life.id:
        epochs, archived = known, SinkTopic(ARCHIVE, life.topic, "same")
    else:
        epochs = (*known, TopicEpoch(life.epoch, life.id, life.partitions))
        # Before the note of the aggregates: what comes between is done by the next call.
        archive.begin(life, epochs)
        archived = SinkTopic(ARCHIVE, life.topic, "adopted", _lost(archive, life, known[-1]))
    return [_adopt_aggregates(tables, archive, life, epochs), archived]


def _adopt_aggregates(
    tables: "_Notes", archive: "_Archive", life: NewLife, epochs: Sequence[TopicEpoch]
) -> SinkTopic:
    consumer = tables.aggregates()
    noted = tables.noted(consumer, life.topic)
    if noted is None:
        return SinkTopic(AGGREGATES, life.topic, "empty")
    if noted["topicId"]["S"] == life.id:
        return SinkTopic(AGGREGATES, life.topic, "same")
    if len(epochs) == 1:
        why = "the archive has never seen the old topic; nothing is left to rebuild them from"
        return SinkTopic(AGGREGATES, life.topic, "stopped", why)
    old = epochs[-2]
    archived = archive.positions(life, old)
    behind = any(archived) and tables.positions(consumer, life.topic, old) != archived
    tables.begin(consumer, life, epochs[:-1])
    if behind:
        why = "they had not come exactly as far in the old topic as the archive"
        return SinkTopic(AGGREGATES, life.topic, "rebuild", why)
    return SinkTopic(AGGREGATES, life.topic, "adopted", "begins at the new topic's first record")


def _lost(archive: "_Archive", life: NewLife, old: TopicEpoch) -> str:
    if not life.ends:
        return "how far the old topic was published is not known any more"
    archived = archive.positions(life, old)
    lost = sum(max(0, end - got) for end, got in zip(life.ends, archived, strict=False))
    if not lost:
        return "0 offsets of the old topic were published but not archived"
    # Nobody can ask any more what they were: the markers of transactions have offsets, too.
    return f"{lost} offsets of the old topic were published but not archived: their events are lost"


class _Notes:
    """The items of the checkpoints table that hold a topic's id, by consumer."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        self._table = table
        self._client = client

    def move(self, sink: str, life: NewLife) -> SinkTopic:
        """Forget the old topic."""
        noted = self.noted(sink, life.topic)
        if noted is None:
            return SinkTopic(sink, life.topic, "empty")
        if noted["topicId"]["S"] == life.id:
            return SinkTopic(sink, life.topic, "same")
        self._put(sink, life, {})
        return SinkTopic(sink, life.topic, "adopted", "begins at the new topic's first record")

    def aggregates(self) -> str:
        """The consumer of the aggregates' generation in use."""
        item = self._get(POINTER)
        return consumer_of(AGGREGATES, 0 if item is None else int(item["generation"]["N"]))

    def begin(self, consumer: str, life: NewLife, earlier: Sequence[TopicEpoch]) -> None:
        """Open a further epoch, and remember those before it."""
        epochs = [{"M": _epoch_item(one)} for one in earlier]
        self._put(consumer, life, {"epoch": {"N": str(life.epoch)}, "earlier": {"L": epochs}})

    def noted(self, consumer: str, topic: str) -> Item | None:
        """What a consumer has noted of a topic."""
        return self._get(f"{consumer}#{topic}")

    def positions(self, consumer: str, topic: str, epoch: TopicEpoch) -> list[int]:
        """The checkpoints in all partitions of an epoch."""
        keys = [checkpoint_key(consumer, topic, epoch.topic_id, n) for n in range(epoch.partitions)]
        items = map(self._get, keys)
        return [0 if item is None else int(item["next"]["N"]) for item in items]

    def _put(self, consumer: str, life: NewLife, more: Item) -> None:
        self._client.put_item(
            TableName=self._table,
            Item={
                "pk": {"S": f"{consumer}#{life.topic}"},
                "topicId": {"S": life.id},
                "partitions": {"N": str(life.partitions)},
                **more,
            },
        )

    def _get(self, key: str) -> Item | None:
        try:
            answer = self._client.get_item(
                TableName=self._table, Key={"pk": {"S": key}}, ConsistentRead=True
            )
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            return None
        return answer.get("Item")


class _Archive:
    """The hints in the bucket, which hold a partition's topic id, and the lists of epochs."""

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket

    def epochs(self, life: NewLife) -> tuple[TopicEpoch, ...]:
        """The lives that the archive knows, oldest first; none if it holds nothing of the topic."""
        try:
            with self._bucket.open(epochs_key(life.topic)) as content:
                text = b"".join(content.chunks(CHUNK_BYTES))
        except KeyError:
            # The old topic may have had more partitions than the new one.
            count = max(life.partitions, len(life.ends))
            ids = [self._hinted(Place(life.topic, number)) for number in range(count)]
            known = {topic_id for topic_id in ids if topic_id}
            old = next(iter(known - {life.id}), None) or next(iter(known), None)
            return () if old is None else (TopicEpoch(0, old, count),)
        return msgspec.json.decode(text, type=TopicEpochs).epochs

    def positions(self, life: NewLife, old: TopicEpoch) -> list[int]:
        """How far the chains of the topic that is gone have come."""
        ends = dict(enumerate(life.ends))
        return [
            chain_end(self._bucket, Place(life.topic, part), old.epoch, enough=ends.get(part))
            for part in range(old.partitions)
        ]

    def begin(self, life: NewLife, epochs: tuple[TopicEpoch, ...]) -> None:
        """Open a further epoch."""
        try:
            self._bucket.client.put_object(
                Bucket=self._bucket.name,
                Key=epochs_key(life.topic),
                Body=msgspec.json.encode(TopicEpochs(epochs)),
                ContentType="application/json",
            )
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise

    def _hinted(self, place: Place) -> str:
        """The topic id of the first life's hint; empty where there is none."""
        try:
            hint = read_hint(self._bucket, place)
        except Damaged:
            return ""
        return "" if hint is None else hint.topic_id


def _epochs_of(noted: Item) -> tuple[TopicEpoch, ...]:
    earlier = tuple(_epoch_of(one["M"]) for one in noted.get("earlier", {"L": ()})["L"])
    epoch = int(noted.get("epoch", {"N": "0"})["N"])
    present = TopicEpoch(epoch, noted["topicId"]["S"], int(noted["partitions"]["N"]))
    return (*earlier, present)


def _epoch_of(item: Item) -> TopicEpoch:
    return TopicEpoch(int(item["epoch"]["N"]), item["topicId"]["S"], int(item["partitions"]["N"]))


def _epoch_item(one: TopicEpoch) -> dict[str, Any]:
    return {
        "epoch": {"N": str(one.epoch)},
        "topicId": {"S": one.topic_id},
        "partitions": {"N": str(one.partitions)},
    }


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
