"""Topic names and what `redpanda/topics.toml` says of them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, Literal

PRODUCTS: Final = "shop.products"
ORDERS: Final = "shop.orders"
INVENTORY: Final = "shop.inventory"
DEAD_LETTER: Final = "shop.dead-letter"
RELAY_PROGRESS: Final = "shop.relay-progress"
#: What a stream process sends to itself, to see that events come through.
CANARY: Final = "shop.canary"
#: Made by the first `topics apply`; where it is missing no topic ever got more partitions.
BOUNDARIES: Final = "shop.boundaries"

#: What the browser stream carries and the archive keeps, in the order of a stream id's vector.
STREAM_TOPICS: Final = (PRODUCTS, ORDERS, INVENTORY)
ALL_TOPICS: Final = (*STREAM_TOPICS, DEAD_LETTER, RELAY_PROGRESS, CANARY)

Profile = Literal["local", "production"]

#: Kafka's largest value of message.timestamp.after.max.ms: a clock jump must not stop the relay
#: (protocol rule 10).
TIMESTAMP_AFTER_MAX_MS: Final = 2**63 - 1
#: Redpanda's largest: 64 bits of nanoseconds, 292 years (serde::max_serializable_ms in its source).
REDPANDA_TIMESTAMP_AFTER_MAX_MS: Final = (2**63 - 1) // 1_000_000
#: The setting that this is about.
TIMESTAMP_AFTER: Final = "message.timestamp.after.max.ms"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic in one profile; ``retention_ms`` -1 means for ever."""

    name: str
    key: str
    partitions: int
    replication: int
    retention_ms: int
    compacted: bool
    #: The largest record; None = what the broker takes by itself (Kafka: 1 MiB).
    max_message_bytes: int | None = None

    @property
    def config(self) -> dict[str, str]:
        """The topic's settings on the broker, as Kafka names them."""
        limit = self.max_message_bytes
        return {
            **({} if limit is None else {"max.message.bytes": str(limit)}),
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(self.retention_ms),
            # Protocol rule 10: the event's own time stands, however late or early it is.
            "message.timestamp.type": "CreateTime",
            TIMESTAMP_AFTER: str(TIMESTAMP_AFTER_MAX_MS),
        }


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic's Kafka id, which never comes back, and how many partitions it has."""

    id: str
    partitions: int


def load_topics(profile: Profile, text: str | None = None) -> Mapping[str, TopicSpec]:
    """Read the topics of a profile, by name.

    Raises KeyError when a topic lacks the profile or a setting.
    """
    tables = tomllib.loads(topics_toml() if text is None else text)["topics"]
    return {
        name: TopicSpec(
            name=name,
            key=table["key"],
            partitions=table[profile]["partitions"],
            replication=table[profile]["replication"],
            retention_ms=table[profile]["retention_ms"],
            compacted=table.get("compacted", False),
            max_message_bytes=table.get("max_message_bytes"),
        )
        for name, table in tables.items()
    }


def topics_toml() -> str:
    """The text of topics.toml: packed beside this module in a wheel, in redpanda/ in a checkout."""
    packed = resources.files("shopstream_shared") / "topics.toml"
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    checkout = Path(__file__).parents[4] / "redpanda" / "topics.toml"
    return checkout.read_text(encoding="utf-8")
