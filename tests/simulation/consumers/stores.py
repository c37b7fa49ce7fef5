"""The stores and the log of one schedule, with what must hold at every moment."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from tests.simulation.consumers.climate import Climate
from tests.simulation.consumers.dynamo import SimDynamo
from tests.simulation.consumers.expressions import Item
from tests.simulation.consumers.group import Group
from tests.simulation.consumers.log import Life, SimLog, read
from tests.simulation.consumers.pieces import Piece
from tests.simulation.consumers.s3 import SimS3, Stored
from tests.simulation.world import World

from shopstream_analytics.checkpoints import noted_of
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.sink import Topics, TopicState
from shopstream_analytics.worker.sinks import WorkerName, group_of
from shopstream_shared.archive.keys import EVENTS, ObjectKey, Place, topic_prefix
from shopstream_shared.generations import TopicEpochs, epochs_key, hint_key

AGGREGATES: Final = "Aggregates"
RECENT: Final = "Recent"
CHECKPOINTS: Final = "Checkpoints"
BUCKET: Final = "archive"


@dataclass(slots=True)
class Stores:
    """Everything outside of the processes."""

    world: World
    climate: Climate
    without: Piece | None
    log: SimLog = field(init=False)
    dynamo: SimDynamo = field(init=False)
    s3: SimS3 = field(init=False)
    groups: dict[WorkerName, Group] = field(init=False)
    #: (sink, topic id, partition) -> spans of offsets that an operator has left out.
    skipped: dict[tuple[WorkerName, str, int], list[range]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        climate = self.climate
        self.log = SimLog(self.world, climate.partitions, climate.marker_seconds)
        self.dynamo = SimDynamo(self.without, self._item_written)
        self.s3 = SimS3(self.without, self._object_written)
        self.groups = {
            sink: Group(self.world, group_of(sink), lambda: self.log.sources, self._committed(sink))
            for sink in climate.sinks
        }

    def topics(self) -> Topics:
        """As the broker describes them."""
        found = self.log.topics()
        if self.without is not Piece.TOPIC_ID:
            return found
        return {name: TopicState("one id", state.partitions) for name, state in found.items()}

    def topic_id(self, topic: str) -> str:
        return self.topics()[topic].id

    def known_id(self, life: Life) -> str:
        """A life's id as the broker gives it."""
        return "one id" if self.without is Piece.TOPIC_ID else life.id

    def checkpoint(self, sink: WorkerName, topic: str, topic_id: str, partition: int) -> int | None:
        """The stored position of a sink with checkpoints."""
        table = self.dynamo.tables.get(CHECKPOINTS)
        key = (f"{group_of(sink)}#{topic}#{topic_id}#{partition}",)
        if table is None or key not in table.items:
            return None
        return int(table.items[key]["next"]["N"])

    def epoch_of(self, sink: WorkerName, topic: str, topic_id: str) -> int | None:
        """Under which epoch the sink keeps a life of a topic; None where it has never seen it."""
        if sink == "archive":
            listed = self.s3.objects.get(epochs_key(topic))
            if listed is not None:
                lives = msgspec.json.decode(listed.body, type=TopicEpochs).epochs
                return next((one.epoch for one in lives if one.topic_id == topic_id), None)
            # The hint comes after the object.
            chains = topic_prefix(topic, 0)
            found = (one.metadata for key, one in self.s3.objects.items() if key.startswith(chains))
            return 0 if any(one["topic-id"] == topic_id for one in found) else None
        table = self.dynamo.tables.get(CHECKPOINTS)
        item = None if table is None else table.items.get((f"{group_of(sink)}#{topic}",))
        lives = () if item is None else noted_of(item).epochs
        return next((one.epoch for one in lives if one.topic_id == topic_id), None)

    def chain_keys(self, source: Source, epoch: int) -> list[ObjectKey]:
        """The objects of a chain, in its order."""
        keys = [ObjectKey.read(key) for key in self.s3.objects if key.startswith(EVENTS)]
        return sorted(
            (k for k in keys if k.place == Place(*source) and k.generation == epoch),
            key=lambda k: k.first,
        )

    def chain_end(self, source: Source, epoch: int) -> int:
        """The position after the chain's last object; 0 without any."""
        nexts = [
            int(self.s3.objects[str(key)].metadata["next"])
            for key in self.chain_keys(source, epoch)
        ]
        return max(nexts, default=0)

    def has_begun(self, sink: WorkerName, source: Source) -> bool:
        """Whether the sink has noted where it stands; before that it begins where the log does."""
        topic_id = self.topic_id(source.topic)
        if sink == "archive":
            epoch = self.epoch_of(sink, source.topic, topic_id)
            return epoch is not None and hint_key(*source, epoch) in self.s3.objects
        return self.checkpoint(sink, source.topic, topic_id, source.partition) is not None

    def is_stored(self, sink: WorkerName, source: Source, offset: int) -> bool:
        """Whether the sink has everything below ``offset`` of the topic's present life."""
        life = self.log.lives[source.topic][-1]
        first = self.log.firsts.get(source, 0)
        if sink != "archive":
            topic_id = self.topic_id(source.topic)
            at = self.checkpoint(sink, source.topic, topic_id, source.partition)
            return offset <= (first if at is None else at)
        epoch = self.epoch_of(sink, source.topic, self.topic_id(source.topic))
        end = 0 if epoch is None else self.chain_end(source, epoch)
        spans = self.skipped.get((sink, life.id, source.partition), [])
        partition = life.partitions[source.partition]
        return not any(
            read(source, at, partition) is not None and not any(at in span for span in spans)
            for at in range(max(end, first), offset)
        )

    def _committed(self, sink: WorkerName) -> Callable[[Source, int], None]:
        def look(source: Source, offset: int) -> None:
            if len(self.log.lives[source.topic]) > 1:
                # Whoever has not noticed yet commits an offset of the topic that is gone.
                return
            if not self.is_stored(sink, source, offset):
                self.world.broken.append(f"{sink}: the group's {offset} of {source} is not stored")

        return look

    def _item_written(self, table: str, before: Item | None, after: Item) -> None:
        if table != CHECKPOINTS or before is None or "next" not in before:
            return
        was, now = int(before["next"]["N"]), int(after["next"]["N"])
        if now < was:
            self.world.broken.append(f"set back: {after['pk']['S']} from {was} to {now}")

    def _object_written(self, key: str, before: Stored | None, after: Stored) -> None:
        if key.startswith(EVENTS) and before is not None and before.body != after.body:
            self.world.broken.append(f"replaced: {key}")
