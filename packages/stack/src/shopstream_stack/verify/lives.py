"""Topics that were made again: what is left of their earlier lives is the archive (rule 13).

A place of an earlier life is written as a partition of its own, far above any real one:
``(epoch + 1) * SPAN + partition``. So all that is kept by (topic, partition) holds for it, too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

import msgspec

from shopstream_shared.archive.keys import Place as RealPlace
from shopstream_shared.archive.reader import CHUNK_BYTES, Bucket
from shopstream_shared.generations import TopicEpoch, TopicEpochs, epochs_key, source_name
from shopstream_stack.errors import StackError
from shopstream_stack.verify.log import Place

#: More than Kafka can have partitions in a topic here.
SPAN: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Lives:
    """The epochs of each topic that had more than one, oldest first."""

    epochs: Mapping[str, tuple[TopicEpoch, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, bucket: Bucket, topic_ids: Mapping[str, str]) -> Self:
        """Raises StackError for a topic that was made again and not adopted."""
        found = {}
        for topic, topic_id in topic_ids.items():
            try:
                with bucket.open(epochs_key(topic)) as content:
                    text = b"".join(content.chunks(CHUNK_BYTES))
            except KeyError:
                continue
            found[topic] = msgspec.json.decode(text, type=TopicEpochs).epochs
            if found[topic][-1].topic_id != topic_id:
                raise StackError(f"{topic} was made again; call `shopstream topics adopt` first")
        return cls(found)

    def earlier(self) -> Iterator[tuple[Place, str]]:
        """All places that are no more, and their topic's id."""
        for topic, epochs in self.epochs.items():
            for one in epochs[:-1]:
                for partition in range(one.partitions):
                    yield self.place(topic, one.epoch, partition), one.topic_id

    def place(self, topic: str, epoch: int, partition: int) -> Place:
        """A partition of any life."""
        present = self.epochs[topic][-1].epoch if topic in self.epochs else 0
        return Place(topic, partition if epoch == present else (epoch + 1) * SPAN + partition)

    def epoch(self, place: Place) -> int:
        """Which life a place is of."""
        if place.partition >= SPAN:
            return place.partition // SPAN - 1
        return self.epochs[place.topic][-1].epoch if place.topic in self.epochs else 0

    def names(self) -> dict[str, tuple[str, int]]:
        """What items call a topic in each life -> the topic, and what to add to a partition."""
        return {
            source_name(topic, one.epoch): (topic, self.place(topic, one.epoch, 0).partition)
            for topic, epochs in self.epochs.items()
            for one in epochs
        }


def real_place(place: Place) -> RealPlace:
    """The partition as its lines and its objects name it."""
    return RealPlace(place.topic, place.partition % SPAN)


def item_key(names: Mapping[str, tuple[str, int]], key: str) -> str:
    """An item's partition key, with its source written as `Lives.place` does."""
    head, name, number = key.rsplit("#", 2)
    topic, more = names.get(name, (name, 0))
    return f"{head}#{topic}#{int(number) + more}"
