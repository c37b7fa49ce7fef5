"""Protocol rule 29 over several shards: no position is past an event that its read does not show.

A model of the outbox, the relays and the log, in any interleaving: commits, takes, aborted and
committed transactions, restarts, reads. The positions are the real ones.
"""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from shopstream_api.outbox.position import one_id
from shopstream_shared.stream_id import StreamPosition
from shopstream_shared.topics import STREAM_TOPICS

EPOCH = b"epoch1"
SHARDS = 3
#: Each topic's partitions, so many.
PARTITIONS = 2
Part = tuple[str, int]
PARTS: tuple[Part, ...] = tuple((t, p) for t in STREAM_TOPICS for p in range(PARTITIONS))
Log = dict[Part, list[int | None]]


@dataclass(slots=True)
class Shard:
    """One relay: the rows it has taken and sent, by place, and the position it stored last."""

    sent: list[tuple[int, Part, int]] = field(default_factory=list)
    stored: str | None = None
    stored_at: int = 0


@dataclass(slots=True)
class World:
    """Rows are numbers; a place of the log holds a row once its transaction is committed."""

    log: Log = field(default_factory=lambda: {part: [] for part in PARTS})
    parts: list[Part] = field(default_factory=list)
    waiting: dict[int, list[int]] = field(default_factory=lambda: {n: [] for n in range(SHARDS)})
    shards: list[Shard] = field(default_factory=lambda: [Shard() for _ in range(SHARDS)])
    reads: list[tuple[int, str | None]] = field(default_factory=list)
    clock: int = 0

    def commit(self, shard: int, part: int) -> None:
        """A transaction of one event."""
        self.waiting[shard].append(len(self.parts))
        self.parts.append(PARTS[part])

    def send(self, shard: int) -> None:
        """The relay takes its oldest row and produces it, in the transaction that is open."""
        mine = self.shards[shard]
        rows = self.waiting[shard]
        if len(mine.sent) < len(rows):
            row = rows[len(mine.sent)]
            part = self.parts[row]
            mine.sent.append((row, part, len(self.log[part])))
            self.log[part].append(None)

    def settle(self, shard: int) -> None:
        """The broker commits; then rows and position, in one statement."""
        mine = self.shards[shard]
        if not mine.sent:
            return
        before = dict(StreamPosition.decode(mine.stored).items()) if mine.stored else {}
        for row, part, offset in mine.sent:
            self.log[part][offset] = row
            before[part] = offset + 1
            self.waiting[shard].remove(row)
        mine.sent.clear()
        self._store(mine, before)

    def restart(self, shard: int) -> None:
        """The transaction is aborted: its places stay empty, its rows wait; then the log's ends."""
        mine = self.shards[shard]
        mine.sent.clear()
        self._store(mine, {part: len(records) for part, records in self.log.items()})

    def read(self) -> None:
        """Every committed row, and all positions, the one stored last first."""
        stored = sorted((s for s in self.shards if s.stored), key=lambda s: -s.stored_at)
        ids = " ".join(s.stored for s in stored if s.stored)
        self.reads.append((len(self.parts), one_id(ids or None)))

    def _store(self, mine: Shard, offsets: dict[Part, int]) -> None:
        self.clock += 1
        partitions = dict.fromkeys(STREAM_TOPICS, PARTITIONS)
        mine.stored = StreamPosition.of(EPOCH, offsets, partitions).encode()
        mine.stored_at = self.clock


shards = st.integers(0, SHARDS - 1)
steps = st.one_of(
    st.tuples(st.just("commit"), shards, st.integers(0, len(PARTS) - 1)),
    st.tuples(st.just("send"), shards),
    st.tuples(st.just("settle"), shards),
    st.tuples(st.just("restart"), shards),
    st.tuples(st.just("read")),
)


@given(st.lists(steps, max_size=60))
@settings(deadline=None)
def test_e05_what_a_read_does_not_show_lies_at_or_after_its_position(
    history: list[tuple[object, ...]],
) -> None:
    world = World()
    for name, *arguments in history:
        getattr(world, str(name))(*arguments)
    world.read()
    for shard in range(SHARDS):
        while world.waiting[shard]:
            world.send(shard)
            world.settle(shard)

    places = {
        row: (part, offset)
        for part, records in world.log.items()
        for offset, row in enumerate(records)
        if row is not None
    }
    assert len(places) == len(world.parts), "each event once"
    for shown, position in world.reads:
        if position is None:
            continue
        vector = StreamPosition.decode(position)
        for row in range(shown, len(world.parts)):
            part, offset = places[row]
            assert offset >= vector.next_offset(*part)


@given(st.lists(steps, max_size=60))
@settings(deadline=None)
def test_a_read_is_as_new_as_the_newest_shard_everywhere(history: list[tuple[object, ...]]) -> None:
    world = World()
    for name, *arguments in history:
        getattr(world, str(name))(*arguments)
    world.read()

    (_, position) = world.reads[-1]
    stored = [StreamPosition.decode(shard.stored) for shard in world.shards if shard.stored]
    if position is None:
        assert not stored
        return
    vector = StreamPosition.decode(position)
    for part in PARTS:
        assert vector.next_offset(*part) == max(each.next_offset(*part) for each in stored)
