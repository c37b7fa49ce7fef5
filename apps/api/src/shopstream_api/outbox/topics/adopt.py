"""Adopt topics that were deleted and made again (protocol rule 13).

With its progress record gone a relay cannot know which of the waiting rows it had published: at
most those of its last batch. The log itself says it, as each event carries its id: a row's record
bears the row's time, so it stands at or after the first record that is as young as the oldest
waiting row. What is read from there on and met in the outbox is deleted there.

Rows that went to a topic which is gone leave no trace. They are sent again: the log has them once,
readers that had seen the old topic may see them twice, under the same event id and sequence.
"""

from collections.abc import Collection
from itertools import islice
from typing import Final

import msgspec
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, NewPartitions, OffsetSpec

from shopstream_api.outbox.relay.ports import Topics
from shopstream_api.outbox.relay.progress import PROGRESS_SEQS_MAX
from shopstream_api.outbox.topics.books import Books, Stored
from shopstream_api.outbox.topics.boundaries import write_boundaries
from shopstream_api.outbox.topics.errors import Refused
from shopstream_api.outbox.topics.quiet import opened, relays_held
from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, KafkaConnection, answer, topic_states
from shopstream_shared.log_range import Part, committed_records, log_offsets, settled_ends
from shopstream_shared.stream_id import epoch_of
from shopstream_shared.topics import (
    BOUNDARIES,
    RELAY_PROGRESS,
    STREAM_TOPICS,
    TopicSpec,
    TopicState,
)

#: Event ids looked up in the outbox in one statement.
IDS_A_LOOK: Final = 5_000
#: No record is as young as the time that was asked for.
_NONE: Final = -1


class AdoptedTopic(msgspec.Struct, frozen=True, rename="camel"):
    """``last_ends``: how far the relay had published to the old topic, as it stored it last."""

    topic: str
    old_id: str
    id: str
    generation: int
    last_ends: tuple[int, ...] = ()


class Adopted(msgspec.Struct, frozen=True, rename="camel"):
    """``found_published``: waiting rows that were on the log; ``sent_again_max``: rows that may
    have been on a topic that is gone, and are sent to the new one."""

    topics: list[AdoptedTopic] = []
    found_published: int = 0
    sent_again_max: int = 0


def adopt(database_url: str, connection: KafkaConnection, progress: TopicSpec) -> Adopted:
    """Take the topics as the broker has them, so that relays go on; blocks for seconds.

    ``progress``: what topics.toml says of the progress topic. Raises Refused, psycopg.Error,
    KafkaException or LogFailed; then nothing is adopted.
    """
    admin = AdminClient(connection.admin())
    with opened(database_url) as books:
        if not _again(books, _present(admin)):
            return Adopted()
    with relays_held(database_url, connection) as books:
        found = _present(admin)
        again = _again(books, found)
        published = doubtful = 0
        if RELAY_PROGRESS in again:
            found = _with_a_partition_a_shard(admin, books, found)
            published = _delete_published(books, connection, admin, found)
            doubtful = books.waiting(again.keys() & set(STREAM_TOPICS), PROGRESS_SEQS_MAX)
        if BOUNDARIES in again:
            found = {**found, BOUNDARIES: _restore_boundaries(books, connection, progress, found)}
        if {t: s.id for t, s in _present(admin).items()} != {t: s.id for t, s in found.items()}:
            raise Refused("topics were made again meanwhile; adopt once more")
        adopted = _told(books, again, found)
        books.adopt({topic: found[topic] for topic in again})
    return Adopted(adopted, published, doubtful)


def _present(admin: AdminClient) -> Topics:
    wanted = (*STREAM_TOPICS, RELAY_PROGRESS)
    found = topic_states(admin, (*wanted, BOUNDARIES))
    missing = [topic for topic in wanted if topic not in found]
    if missing:
        raise Refused(f"{', '.join(missing)}: not there yet; the API makes missing topics")
    return found


def _again(books: Books, found: Topics) -> dict[str, Stored]:
    """What the relay used and is gone or another one now."""
    gone = TopicState("", 0)
    return {
        topic: stored
        for topic, stored in books.stored().items()
        if found.get(topic, gone).id != stored.state.id
    }


def _with_a_partition_a_shard(admin: AdminClient, books: Books, found: Topics) -> Topics:
    """The progress topic made again has as many as topics.toml says, which may be too few."""
    state, shards = found[RELAY_PROGRESS], books.shards()
    if state.partitions >= shards:
        return found
    more = admin.create_partitions(
        [NewPartitions(RELAY_PROGRESS, shards)], request_timeout=METADATA_TIMEOUT_SECONDS
    )
    answer(more[RELAY_PROGRESS])
    return {**found, RELAY_PROGRESS: TopicState(state.id, shards)}


def _delete_published(
    books: Books, connection: KafkaConnection, admin: AdminClient, found: Topics
) -> int:
    oldest = books.oldest_ms()
    if oldest is None:
        return 0
    parts = [(t, p) for t in STREAM_TOPICS for p in range(found[t].partitions)]
    ends = settled_ends(admin, parts, books.ping)
    begin = {
        part: offset
        for part, offset in log_offsets(admin, parts, OffsetSpec.for_timestamp(oldest)).items()
        if offset != _NONE
    }
    records = committed_records(connection, begin, ends, step=books.ping)
    ids = filter(None, map(_event_id, records))
    deleted = 0
    while some := list(islice(ids, IDS_A_LOOK)):
        deleted += books.delete_published(some)
    return deleted


def _event_id(message: Message) -> str | None:
    value = dict(message.headers() or ()).get("ce_id")
    return value.decode() if isinstance(value, bytes) else None


def _restore_boundaries(
    books: Books, connection: KafkaConnection, progress: TopicSpec, found: Topics
) -> TopicState:
    """Write the boundaries of the topics that are still the same to the topic made again."""
    ids = {state.id for state in found.values()}
    kept = [boundary for boundary in books.boundaries() if boundary.topic_id in ids]
    return write_boundaries(connection, progress, kept)


def _told(books: Books, again: dict[str, Stored], found: Topics) -> list[AdoptedTopic]:
    old_ids = {topic: stored.state.id for topic, stored in books.stored().items()}
    return [
        AdoptedTopic(
            topic,
            stored.state.id,
            found[topic].id,
            stored.generation + 1,
            _last_ends(books, topic, stored, old_ids),
        )
        for topic, stored in again.items()
    ]


def _last_ends(
    books: Books, topic: str, stored: Stored, old_ids: dict[str, str]
) -> tuple[int, ...]:
    if topic not in STREAM_TOPICS:
        return ()
    positions = [p for p in books.positions() if p.epoch == epoch_of(old_ids)]
    parts: Collection[Part] = [(topic, p) for p in range(stored.state.partitions)]
    return tuple(max((p.next_offset(*part) for p in positions), default=0) for part in parts)
