"""How a further generation of the aggregates, and a further epoch of a topic, are named.

Two counts that have nothing to do with each other:

- a *generation* of the aggregates is a table and its checkpoints, complete in itself. A rebuild
  makes the next one; an item in the checkpoints table, under the key `POINTER`, names the one in
  use. Without that item it is 0.
- an *epoch* of a topic is one life of it (protocol rule 13). A topic that was deleted, made again
  and adopted is in the next one: its offsets begin again, so its items and objects are named apart.

Epoch 0 and generation 0 are named as if there were no others.
"""

from typing import Final

import msgspec

#: Key of the item that names the generation in use, in its attribute ``generation``.
POINTER: Final = "analytics-aggregates"
#: Stands between a topic and its epoch; no Kafka topic has it in its name.
EPOCH_MARK: Final = "@"
#: Objects that say which epochs of a topic the archive holds.
EPOCHS_PREFIX: Final = "_epochs"


class TopicEpoch(msgspec.Struct, frozen=True, rename="camel"):
    """One life of a topic: its number, its Kafka id and how many partitions it had."""

    epoch: int
    topic_id: str
    partitions: int


class TopicEpochs(msgspec.Struct, frozen=True):
    """All lives of a topic that the archive knows, oldest first; the last is the present one."""

    epochs: tuple[TopicEpoch, ...]


def table_of(base: str, generation: int) -> str:
    """The aggregates' table of a generation; ``base`` is the configured name."""
    return base if generation == 0 else f"{base}-rebuild-{generation}"


def consumer_of(base: str, generation: int) -> str:
    """Under which name a generation keeps its checkpoints; ``base`` is the group's name."""
    return base if generation == 0 else f"{base}+{generation}"


def checkpoint_key(consumer: str, topic: str, topic_id: str, partition: int) -> str:
    """Under which key a consumer's checkpoint in a partition stands (protocol rule 19).

    ``topic_id`` is Kafka's, so that a topic made again begins anew (rule 13).
    """
    return f"{consumer}#{topic}#{topic_id}#{partition}"


def replayed_key(consumer: str, topic: str, topic_id: str, partition: int, offset: int) -> str:
    """Under which key stands that a record with a dead letter is in a consumer's items after all.

    By its replay, or by the rebuild that made the items (docs/adr/0039).
    """
    return f"{consumer}#replayed#{topic}#{topic_id}#{partition}#{offset}"


def source_name(topic: str, epoch: int) -> str:
    """The topic as it stands in the items' keys."""
    return topic if epoch == 0 else f"{topic}{EPOCH_MARK}{epoch}"


def parse_source_name(name: str) -> tuple[str, int]:
    """The reverse of `source_name`."""
    topic, _, epoch = name.partition(EPOCH_MARK)
    return topic, int(epoch or 0)


def hint_key(topic: str, partition: int, epoch: int) -> str:
    """Where the bucket keeps how far a partition's chain has come."""
    life = f"epoch={epoch}/" if epoch else ""
    return f"_positions/{life}{topic}/{partition}"


def epochs_key(topic: str) -> str:
    """Where the bucket keeps a topic's `TopicEpochs`; missing while there is epoch 0 alone."""
    return f"{EPOCHS_PREFIX}/{topic}"
