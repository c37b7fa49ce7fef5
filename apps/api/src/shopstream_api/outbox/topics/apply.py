"""Give topics more partitions, as topics.toml says (protocol rule 14).

Keys move with the number of partitions. So that no reader meets the later part of a key's history
first, the change is a clean cut: the relays are paused and fenced, every group that reads the topic
has read all of it, and the ends of that moment are stored as the boundary before there is a new
partition. Whoever sees the new partitions finds the boundary.

Killed in between, it leaves either the old topic with a boundary above which nothing differs, or
new partitions that the relay refuses to use until `apply` was called again.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions

from shopstream_api.outbox.relay.ports import Topics
from shopstream_api.outbox.topics.books import Books
from shopstream_api.outbox.topics.boundaries import write_boundaries
from shopstream_api.outbox.topics.errors import Refused
from shopstream_api.outbox.topics.quiet import opened, relays_held
from shopstream_api.outbox.topics.readers import Readers
from shopstream_shared.boundaries import Boundary
from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, KafkaConnection, answer, topic_states
from shopstream_shared.log_range import Part, log_ends, settled_ends
from shopstream_shared.topics import (
    BOUNDARIES,
    RELAY_PROGRESS,
    STREAM_TOPICS,
    TopicSpec,
    TopicState,
)

DRAIN_SECONDS_MAX: Final = 60.0
CONSUMERS_SECONDS_MAX: Final = 60.0
CREATE_SECONDS_MAX: Final = 15.0
POLL_SECONDS: Final = 0.2

Say = Callable[[str], None]


class Grown(msgspec.Struct, frozen=True, rename="camel"):
    """``ends``: the boundary; empty for a topic whose order means nothing."""

    topic: str
    before: int
    after: int
    ends: tuple[int, ...] = ()
    warning: str = ""


class Applied(msgspec.Struct, frozen=True, rename="camel"):
    """What was done; ``waited_for``: the groups that had to read on."""

    topics: list[Grown] = []
    waited_for: list[str] = []


@dataclass(frozen=True, slots=True)
class Apply:
    """One call of the command. ``without``: groups that are not waited for."""

    database_url: str
    connection: KafkaConnection
    specs: Mapping[str, TopicSpec]
    without: Collection[str]
    say: Say

    def run(self) -> Applied:
        """Blocks for as long as readers need, bounded.

        Raises Refused, psycopg.Error, KafkaException or LogFailed.
        """
        admin = AdminClient(self.connection.admin())
        found = topic_states(admin, (*self.specs, BOUNDARIES))
        with opened(self.database_url) as books:
            stream, others = self._wanted(books, found)
            halted = [t for t in stream if self._by_hand(books, t, found[t])]
            if stream and not halted:
                self._drain(books)
        grown = [self._grow_freely(admin, topic, found[topic]) for topic in others]
        if not stream:
            return Applied(grown)
        with relays_held(self.database_url, self.connection) as books:
            parts = [(t, p) for t in stream for p in range(found[t].partitions)]
            ends = settled_ends(admin, parts, books.ping)
            waited = self._wait_for_readers(admin, books, ends)
            cuts = {topic: _ends_of(ends, topic) for topic in stream}
            self._note(books, found, cuts)
            books.ping()  # without the locks the cut would not be one
            self._create(admin, {t: self.specs[t].partitions for t in stream}, found)
            grown += [
                self._close(admin, books, topic, found[topic], cuts[topic]) for topic in stream
            ]
        return Applied(grown, waited)

    def _wanted(self, books: Books, found: Topics) -> tuple[list[str], list[str]]:
        """Topics of the stream and others that get more partitions. Raises Refused."""
        for topic, stored in books.stored().items():
            if topic not in found or stored.state.id != found[topic].id:
                raise Refused(f"{topic} is gone or was made again; adopt it first")
        for topic, spec in self.specs.items():
            if topic not in found:
                raise Refused(f"{topic} is not there; the API makes missing topics")
            # The progress topic has a partition a shard, however many the operator wants.
            if spec.partitions < found[topic].partitions and topic != RELAY_PROGRESS:
                raise Refused(
                    f"{topic} has {found[topic].partitions} partitions and topics.toml says "
                    f"{spec.partitions}: Kafka cannot take partitions away, and their events would "
                    f"be lost with them; make topics.toml say {found[topic].partitions}"
                )
        grow = [t for t, spec in self.specs.items() if spec.partitions > found[t].partitions]
        by_hand = [t for t in STREAM_TOPICS if self._by_hand(books, t, found[t])]
        stream: list[str] = [t for t in STREAM_TOPICS if t in grow or t in by_hand]
        return stream, [t for t in grow if t not in STREAM_TOPICS]

    @staticmethod
    def _by_hand(books: Books, topic: str, state: TopicState) -> bool:
        """Whether it got partitions that the relay was not told of: it publishes nothing then."""
        stored = books.stored().get(topic)
        return stored is not None and stored.state.partitions != state.partitions

    def _drain(self, books: Books) -> None:
        """Until what waits now is published, while the relays still run."""
        mark = books.newest_waiting()
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while mark is not None and books.waits_up_to(mark):
            if time.monotonic() > deadline:
                raise Refused("the relay does not publish what waits in the outbox; see its health")
            time.sleep(POLL_SECONDS)

    def _wait_for_readers(
        self, admin: AdminClient, books: Books, ends: Mapping[Part, int]
    ) -> list[str]:
        """Until every group that commits positions in these parts stands at their ends."""
        waited: set[str] = set()
        deadline = time.monotonic() + CONSUMERS_SECONDS_MAX
        with Readers(self.connection, admin, self.without) as readers:
            while behind := readers.behind(ends):
                said = ", ".join(f"{group} ({count})" for group, count in sorted(behind.items()))
                if not behind.keys() <= waited:
                    self.say(f"waiting for readers that are behind: {said}")
                    waited |= behind.keys()
                if time.monotonic() > deadline:
                    raise Refused(
                        f"readers stay behind: {said}; start them, or name those --without"
                    )
                books.ping()
                time.sleep(POLL_SECONDS)
        return sorted(waited)

    def _note(self, books: Books, found: Topics, cuts: Mapping[str, tuple[int, ...]]) -> None:
        boundaries = [
            Boundary(topic, found[topic].id, self.specs[topic].partitions, ends)
            for topic, ends in cuts.items()
        ]
        for boundary in boundaries:
            books.note_boundary(boundary)
        state = write_boundaries(self.connection, self.specs[RELAY_PROGRESS], boundaries)
        books.adopt({BOUNDARIES: state})

    def _grow_freely(self, admin: AdminClient, topic: str, state: TopicState) -> Grown:
        partitions = self.specs[topic].partitions
        self._create(admin, {topic: partitions}, {topic: state})
        return Grown(topic, state.partitions, partitions)

    @staticmethod
    def _create(admin: AdminClient, wanted: Mapping[str, int], found: Topics) -> None:
        """Add what is missing, and return once the broker serves all partitions."""
        more = [NewPartitions(t, n) for t, n in wanted.items() if n > found[t].partitions]
        if more:
            made = admin.create_partitions(more, request_timeout=METADATA_TIMEOUT_SECONDS)
            for future in made.values():
                answer(future)
        deadline = time.monotonic() + CREATE_SECONDS_MAX
        while True:
            try:
                # The client goes by the partitions it knows, until it is made to ask.
                admin.list_topics(timeout=METADATA_TIMEOUT_SECONDS)
                log_ends(admin, [(t, p) for t, n in wanted.items() for p in range(n)])
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)
            else:
                return

    def _close(
        self,
        admin: AdminClient,
        books: Books,
        topic: str,
        before: TopicState,
        cut: tuple[int, ...],
    ) -> Grown:
        """Let the relays use the new partitions, if the cut is one."""
        partitions = self.specs[topic].partitions
        ends = _ends_of(log_ends(admin, [(topic, p) for p in range(partitions)]), topic)
        stored = books.stored().get(topic)
        known = before.partitions if stored is None else stored.state.partitions
        warning = ""
        if ends[: len(cut)] != cut or any(ends[known:]):
            warning = "events came before the cut; a replay may swap two of one subject there"
            self._note(books, {topic: before}, {topic: ends})
        books.adopt({topic: TopicState(before.id, partitions)})
        return Grown(topic, known, partitions, cut, warning)


def _ends_of(ends: Mapping[Part, int], topic: str) -> tuple[int, ...]:
    return tuple(ends[part] for part in sorted(ends) if part[0] == topic)
