"""Kafka client settings, in one place, so that all clients agree on what must agree."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from shopstream_shared.topics import TopicState

#: Debezium's and the Java client's partitioner; librdkafka's own default places most keys
#: elsewhere (protocol rule 10).
PARTITIONER: Final = "murmur2_random"
#: How long a dead relay's open transaction may hold back read_committed readers.
TRANSACTION_TIMEOUT_MS: Final = 10_000
METADATA_TIMEOUT_SECONDS: Final = 5.0
#: Longer than the transaction time-out: by then the coordinator has settled what was open.
SETTLE_SECONDS_MAX: Final = 3 * TRANSACTION_TIMEOUT_MS / 1_000
#: How long a transactional producer waits before it sends again what was lost with a connection.
#: librdkafka takes off up to a fifth at random. Long against a commit, which takes 3 to 30 ms: who
#: was answered sooner was not asked again (protocol rule 8).
RETRY_BACKOFF_MS: Final = 500
RETRY_SECONDS_MIN: Final = 0.8 * RETRY_BACKOFF_MS / 1_000

#: The id of all zeros, in the broker's own spelling: a broker that does not know topic ids.
NO_TOPIC_ID: Final = "A" * 22

Config = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and who we say we are.

    ``log`` is called from ``poll`` with each KafkaError that no call raises: a broker that went
    away, all brokers down. Only clients that are polled get it; in others errors would pile up.
    """

    brokers: str
    client_id: str
    log: Callable[[object], None] | None = None

    def _common(self) -> Config:
        return {
            "bootstrap.servers": self.brokers,
            "client.id": self.client_id,
            # Bounded, quick reconnects: a broker that is back is used within a second or two.
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 2_000,
            "socket.keepalive.enable": True,
            # librdkafka must not write to stderr past the structured log: at level 3 a broker that
            # is away is a line every 50 ms. What fails is raised, or handed to `log`.
            "log_level": 2,
        }

    def _polled(self) -> Config:
        return self._common() | ({} if self.log is None else {"error_cb": self.log})

    def admin(self) -> Config:
        return self._common()

    def idempotent_producer(self) -> Config:
        """What it has reported as delivered is there for good, once and in order."""
        return {
            **self._polled(),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "compression.type": "lz4",
            # Records of one batch go out together; who flushes, as the relay does, waits for none.
            "linger.ms": 5,
            "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
        }

    def transactional_producer(self, transactional_id: str) -> Config:
        """One batch = one transaction."""
        return {
            **self.idempotent_producer(),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "retry.backoff.ms": RETRY_BACKOFF_MS,
        }

    def consumer(self, group: str) -> Config:
        """A reader of committed records only, which commits by itself or not at all."""
        return {
            **self._polled(),
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            # Data answers a waiting fetch at once; this bounds how often an idle one is renewed.
            "fetch.wait.max.ms": 100,
            # An empty fetch must not pause a partition for librdkafka's default half second.
            "fetch.error.backoff.ms": 100,
        }


def topic_states(
    admin: AdminClient,
    topics: Collection[str],
    *,
    timeout_seconds: float = METADATA_TIMEOUT_SECONDS,
) -> Mapping[str, TopicState]:
    """Those of the topics that exist, with their epochs (protocol rule 13).

    Raises KafkaException when the broker cannot be reached, or gives topics no ids (before Kafka
    2.8 and Redpanda 25.3): without them a topic made again could not be told from the old one.
    """
    asked = TopicCollection(list(topics))
    # A copy: into its own the library still has to put the answers.
    futures = dict(admin.describe_topics(asked, request_timeout=timeout_seconds))
    states: dict[str, TopicState] = {}
    for topic in list(futures):
        try:
            # Taken out, for the reason that `answer` gives.
            description = answer(futures.pop(topic), timeout_seconds)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            continue
        states[topic] = TopicState(str(description.topic_id), len(description.partitions))
        if states[topic].id == NO_TOPIC_ID:
            # The library's name for what a broker cannot do.
            code = KafkaError._UNSUPPORTED_FEATURE  # noqa: SLF001 - public in all but the underscore
            raise KafkaException(KafkaError(code, f"the broker has no id for topic {topic}"))
    return states


def topic_ids(admin: AdminClient, topics: tuple[str, ...]) -> Mapping[str, str]:
    """Kafka's topic ids by name. Raises as `topic_states` does, and when a topic is missing."""
    states = topic_states(admin, topics)
    for topic in topics:
        if topic not in states:
            raise KafkaException(
                KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"topic {topic} does not exist")
            )
    return {topic: state.id for topic, state in states.items()}


def answer(future: "Future[T]", timeout_seconds: float = METADATA_TIMEOUT_SECONDS) -> T:
    """The answer to a request with this bound. Raises KafkaException, also when none comes.

    A future holds its error, and an error the frames that it went through. A frame that still had
    the future would make a ring of them, which only the collector frees: minutes of questions about
    a topic that is not there were megabytes.
    """
    try:
        # The request has its own, equal bound; the second more lets its error come first.
        return future.result(timeout=timeout_seconds + 1)
    except TimeoutError:
        raise KafkaException(
            KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001 - the library's name for its own time-out
        ) from None
    finally:
        del future
