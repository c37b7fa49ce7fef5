"""What only the broker knows: topics, ends, starts, and which offset belongs to a moment.

Blocking calls, each question bounded by METADATA_TIMEOUT_SECONDS: run them in a thread. After
``close`` they give up at once, so that a broker that does not answer cannot hold back the end of
the process.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from shopstream_notifications.records import Part
from shopstream_shared import boundaries
from shopstream_shared.boundaries import Boundary
from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, NO_TOPIC_ID, KafkaConnection
from shopstream_shared.log_range import committed_records
from shopstream_shared.stream_id import epoch_of
from shopstream_shared.topics import STREAM_TOPICS, TopicState

K = TypeVar("K")

#: librdkafka writes to stderr past the structured log; we log its errors ourselves.
QUIET: Final = {"log_level": 0}
#: Of the reader of boundaries, which commits nothing.
BOUNDARIES_GROUP: Final = "notifications-boundaries"
#: How late a question notices that the service ends.
LOOK_SECONDS: Final = 0.1
#: The offset that stands for "no record is that young".
_NOT_FOUND: Final = -1


class BrokerUnavailable(Exception):
    """The broker does not answer, or not yet as a whole; the text is for operators."""


class TopicsMissing(Exception):
    """Stream topics do not exist yet; the text names them."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The stream topics as they are now: their ids' digest (protocol rule 13) and their parts."""

    epoch: bytes
    parts: tuple[Part, ...]


class Broker:
    """One admin client, made at first use."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._closed = threading.Event()

    def close(self) -> None:
        """Let questions under way and later ones raise BrokerUnavailable; from any thread."""
        self._closed.set()

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient({**self._connection.admin(), **QUIET})

    def topology(self) -> Topology:
        """Raises BrokerUnavailable or TopicsMissing."""
        states = self._states(STREAM_TOPICS)
        missing = [topic for topic in STREAM_TOPICS if topic not in states]
        if missing:
            raise TopicsMissing(f"topics do not exist yet: {', '.join(missing)}")
        ids = {topic: state.id for topic, state in states.items()}
        if NO_TOPIC_ID in ids.values():
            raise BrokerUnavailable(
                "the broker gives topics no ids, so ids of streams mean nothing"
            )
        parts = [(t, p) for t in STREAM_TOPICS for p in range(states[t].partitions)]
        return Topology(epoch_of(ids), tuple(parts))

    def exists(self, topic: str) -> bool:
        """Raises BrokerUnavailable."""
        return topic in self._states((topic,))

    def ends(self, parts: Iterable[Part]) -> dict[Part, int]:
        """Where the next record will go, open transactions included (the high watermark)."""
        return self._offsets(parts, _latest(), IsolationLevel.READ_UNCOMMITTED)

    def stable_ends(self, parts: Iterable[Part]) -> dict[Part, int]:
        """Up to where a reader of committed records can see (the last stable offset)."""
        return self._offsets(parts, _latest(), IsolationLevel.READ_COMMITTED)

    def starts(self, parts: Iterable[Part]) -> dict[Part, int]:
        """The oldest offset that retention has left."""
        return self._offsets(parts, _earliest(), IsolationLevel.READ_UNCOMMITTED)

    def at_time(self, parts: Iterable[Part], timestamp_ms: int) -> dict[Part, int]:
        """The first record of each part with this Kafka timestamp or a later one, else its end."""
        parts = tuple(parts)
        # The ends first: what arrives between the two questions is then replayed, not skipped.
        ends = self.stable_ends(parts)
        found = self._offsets(
            parts, OffsetSpec.for_timestamp(timestamp_ms), IsolationLevel.READ_UNCOMMITTED
        )
        return {
            part: ends[part] if offset == _NOT_FOUND else min(offset, ends[part])
            for part, offset in found.items()
        }

    def boundaries(self) -> Sequence[Boundary]:
        """Where the topics got more partitions, oldest first (protocol rule 14)."""
        states = self._states((*STREAM_TOPICS, boundaries.PART[0]))
        if boundaries.PART[0] not in states:
            return ()
        begin, end = self.starts([boundaries.PART]), self.ends([boundaries.PART])
        connection = replace(self._connection, client_id=BOUNDARIES_GROUP)
        try:
            messages = committed_records(connection, begin, end, step=self._still_open)
            return boundaries.fold(messages, states)
        except KafkaException as error:
            raise BrokerUnavailable(_text(error)) from error

    def _still_open(self) -> None:
        if self._closed.is_set():
            raise BrokerUnavailable("the service ends")

    def _states(self, topics: Iterable[str]) -> Mapping[str, TopicState]:
        """Those of the topics that exist. Raises BrokerUnavailable."""
        names = list(topics)
        # A copy, from which each is taken, as in `topic_states`: the canary may ask for ever.
        futures = dict(
            self._ask(
                lambda: self._admin.describe_topics(
                    TopicCollection(names), request_timeout=METADATA_TIMEOUT_SECONDS
                )
            )
        )
        states: dict[str, TopicState] = {}
        for topic in names:
            try:
                found = self._answer(futures.pop(topic))
            except (KafkaException, TimeoutError) as error:
                if not _says(error, KafkaError.UNKNOWN_TOPIC_OR_PART):
                    raise BrokerUnavailable(_text(error)) from error
            else:
                states[topic] = TopicState(str(found.topic_id), len(found.partitions))
        return states

    def _offsets(
        self, parts: Iterable[Part], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[Part, int]:
        wanted = {TopicPartition(*part): spec for part in parts}
        if not wanted:
            return {}
        futures = self._ask(
            lambda: self._admin.list_offsets(
                wanted, isolation_level=isolation, request_timeout=METADATA_TIMEOUT_SECONDS
            )
        )
        try:
            return {
                (where.topic, where.partition): int(self._answer(future).offset)
                for where, future in futures.items()
            }
        except (KafkaException, TimeoutError) as error:
            if _says(error, KafkaError._UNKNOWN_PARTITION):  # noqa: SLF001 - the library's name
                # The client goes by the partitions it knew; a new one asks (protocol rule 14).
                self.__dict__.pop("_admin", None)
            raise BrokerUnavailable(_text(error)) from error

    def _answer(self, future: Future[Any]) -> Any:
        """Raises KafkaException, or TimeoutError after METADATA_TIMEOUT_SECONDS or ``close``."""
        deadline = time.monotonic() + METADATA_TIMEOUT_SECONDS
        try:
            while not self._closed.is_set() and time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    return future.result(timeout=LOOK_SECONDS)
            raise TimeoutError
        finally:
            # See `answer` of shopstream_shared.kafka.
            del future

    @staticmethod
    def _ask(question: Callable[[], Mapping[K, Future[Any]]]) -> Mapping[K, Future[Any]]:
        try:
            return question()
        except KafkaException as error:
            raise BrokerUnavailable(_text(error)) from error


def _latest() -> OffsetSpec:
    return OffsetSpec.latest()  # type: ignore[no-any-return, no-untyped-call]  # untyped there


def _earliest() -> OffsetSpec:
    return OffsetSpec.earliest()  # type: ignore[no-any-return, no-untyped-call]  # as above


def _says(error: Exception, code: int) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() == code


def _text(error: Exception) -> str:
    """Short and without addresses."""
    if isinstance(error, KafkaException):
        return f"broker: {error.args[0].name()}"
    return "broker: no answer in time"
