"""The lives of each topic, and how far the aggregates in use have come in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from shopstream_analytics.checkpoints import Noted
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.source import NEVER
from shopstream_analytics.rebuild.tables import Tables
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_shared.archive.reader import CHUNK_BYTES, Bucket
from shopstream_shared.generations import TopicEpoch, TopicEpochs, epochs_key, source_name
from shopstream_shared.kafka import KafkaConnection, topic_states
from shopstream_shared.log_range import EARLIEST, Part, log_ends, log_offsets
from shopstream_shared.topics import STREAM_TOPICS, TopicState


@dataclass(frozen=True, slots=True)
class Lives:
    """One topic. ``checkpoints``: by epoch and partition, as far as there are any; ``first``: where
    the log began in each partition."""

    topic: str
    epochs: tuple[TopicEpoch, ...]
    first: Mapping[int, int]
    checkpoints: Mapping[tuple[int, int], int] = field(default_factory=dict)

    @property
    def present(self) -> TopicEpoch:
        """The one whose log there is."""
        return self.epochs[-1]

    @property
    def noted(self) -> Noted:
        """As the checkpoints table has it."""
        present = self.present
        return Noted(present.topic_id, len(self.first), present.epoch, self.epochs[:-1])

    def name(self, epoch: int) -> str:
        """What items call the topic in that epoch."""
        return source_name(self.topic, epoch)

    def letters_from(self, epoch: int, partition: int) -> int:
        """From which offset on a letter may not be written yet, though its record can be read."""
        if epoch != self.present.epoch:
            return NEVER
        checkpoint = self.checkpoints.get((epoch, partition), 0)
        return max(checkpoint, self.first.get(partition, 0))


@dataclass(frozen=True, slots=True)
class LogNow:
    """The stream topics, and what the log holds of each partition: first offset and end."""

    topics: Mapping[str, TopicState]
    first: Mapping[Part, int]
    ends: Mapping[Part, int]


def read_log(settings: AnalyticsSettings) -> LogNow:
    """As it is at this moment. Raises RebuildFailed."""
    admin = AdminClient(KafkaConnection(settings.kafka_brokers, "shopstream-rebuild").admin())
    try:
        states = topic_states(admin, STREAM_TOPICS)
        if missing := [topic for topic in STREAM_TOPICS if topic not in states]:
            raise RebuildFailed(f"the broker has no topic {', '.join(missing)}")
        parts = [(topic, n) for topic, state in states.items() for n in range(state.partitions)]
        return LogNow(states, log_offsets(admin, parts, EARLIEST), log_ends(admin, parts))
    except KafkaException as error:
        raise RebuildFailed(f"broker at {settings.kafka_brokers}: {error.args[0].str()}") from error


def read_lives(
    settings: AnalyticsSettings, bucket: Bucket, tables: Tables, current: int
) -> dict[str, Lives]:
    """All stream topics, by name. Raises RebuildFailed, also when a topic has yet to be adopted."""
    log = read_log(settings)
    lives = {}
    for topic, state in log.topics.items():
        epochs = _epochs(bucket, tables, current, topic)
        if epochs and epochs[-1].topic_id != state.id:
            raise RebuildFailed(f"{topic} was made again: call `shopstream topics adopt` first")
        # More partitions than were noted: a worker has yet to see them.
        present = TopicEpoch(epochs[-1].epoch if epochs else 0, state.id, state.partitions)
        known = (*epochs[:-1], present)
        lives[topic] = Lives(
            topic,
            known,
            {n: log.first[topic, n] for n in range(state.partitions)},
            _checkpoints(tables, current, topic, known),
        )
    return lives


def _epochs(bucket: Bucket, tables: Tables, current: int, topic: str) -> tuple[TopicEpoch, ...]:
    """What the archive knows, else what the aggregates have noted, oldest first."""
    try:
        with bucket.open(epochs_key(topic)) as content:
            text = b"".join(content.chunks(CHUNK_BYTES))
    except KeyError:
        noted = tables.noted(current, topic)
        return () if noted is None else noted.epochs
    return msgspec.json.decode(text, type=TopicEpochs).epochs


def _checkpoints(
    tables: Tables, current: int, topic: str, epochs: tuple[TopicEpoch, ...]
) -> dict[tuple[int, int], int]:
    found = {}
    for epoch in epochs:
        for partition in range(epoch.partitions):
            at = tables.checkpoint(current, topic, epoch.topic_id, partition)
            if at is not None:
                found[epoch.epoch, partition] = at.next
    return found
