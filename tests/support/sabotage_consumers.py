"""The consumers' safety pieces, each to be taken out of the production code for one test.

Every function replaces what one protocol rule rests on, in the test's own process, and is put back
at the test's end (`tests/integration/test_analytics_sabotage*.py` say what goes wrong then). What a
release no longer has cannot be taken out of it: `MonkeyPatch` refuses a name that is not there.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient

from shopstream_analytics.aggregates.merge import ItemUpdate, Round
from shopstream_analytics.aggregates.sink import PartitionAggregates
from shopstream_analytics.aggregates.store import DynamoAggregates
from shopstream_analytics.archive.chain import Link
from shopstream_analytics.archive.sink import PartitionArchive
from shopstream_analytics.archive.store import S3Chain
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.consumer.driver import BatchThread
from shopstream_analytics.consumer.lane import Lane
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.dead_letters import PartitionLetters, offset_sent
from shopstream_analytics.rebuild.tables import Tables
from shopstream_notifications.client import Client
from shopstream_notifications.log import EventLog
from shopstream_notifications.playback import Playback
from shopstream_notifications.records import Offsets, Part
from shopstream_shared.log_range import EARLIEST, committed_records, log_ends, log_offsets
from shopstream_shared.topics import DEAD_LETTER

Patch = pytest.MonkeyPatch


class _Without:
    """A store's client that leaves out some arguments of each call."""

    def __init__(self, client: Any, *arguments: str) -> None:
        self._client = client
        self._arguments = arguments

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return lambda **given: call(**{n: v for n, v in given.items() if n not in self._arguments})


def checkpoint_condition(patch: Patch) -> None:
    """A checkpoint is set wherever its writer has come to (rule 19)."""
    move = Checkpoints._move_once

    async def set_it(
        self: Checkpoints, key: str, start: int, to: int, time: str | None, *, fresh: bool
    ) -> bool:
        client: Any = _Without(self.client, "ConditionExpression")
        return await move(replace(self, client=client), key, start, to, time, fresh=fresh)

    patch.setattr(Checkpoints, "_move_once", set_it)


def checkpoint_after_the_items(patch: Patch) -> None:
    """The checkpoint moves first (rule 19: after its writes)."""
    write = PartitionAggregates.write

    async def move_first(self: PartitionAggregates, batch: Batch) -> None:
        start, fresh, time = self.durable, not self.placed, self.time.as_text(batch.next)
        await self.checkpoints.move(
            self.source, self.topic_id, start=start, to=batch.next, fresh=fresh, time=time
        )
        await write(self, batch)

    patch.setattr(PartitionAggregates, "write", move_first)


def upto_condition(patch: Patch) -> None:
    """Whatever is brought is added (rule 20)."""
    action = DynamoAggregates._action

    def always(self: DynamoAggregates, source: Source, update: ItemUpdate) -> dict[str, Any]:
        made = action(self, source, update)
        del made["ConditionExpression"]
        # DynamoDB refuses a value that nothing names.
        del made["ExpressionAttributeValues"][":first"]
        return made

    patch.setattr(DynamoAggregates, "_action", always)


def trim_by_the_old_item(patch: Patch) -> None:
    """What was refused counts as merged, all of it (rule 20)."""
    patch.setattr(Round, "rest", lambda self, key, upto: None)


def position_chain(patch: Patch) -> None:
    """A batch is taken wherever it begins (rule 15)."""
    offer = Lane.offer

    def take(self: Lane, batch: Batch) -> None:
        self.expected = batch.start
        offer(self, batch)

    patch.setattr(Lane, "offer", take)


def commit_after_the_sink(patch: Patch) -> None:
    """The group's offset is what was handed over (rule 16)."""

    def handed(self: Lanes, source: Source) -> int | None:
        lane = self._lanes.get(source)
        return None if lane is None else lane.expected

    patch.setattr(Lanes, "durable", handed)


def seek_to_the_checkpoint(patch: Patch) -> None:
    """Who gets a partition reads on where its group had committed (rule 19)."""

    async def stay(self: BatchThread, positions: Mapping[Any, int]) -> int:
        self.generation += 1
        return self.generation

    patch.setattr(BatchThread, "_seek_all", stay)


def read_committed(patch: Patch) -> None:
    """Aborted records are read as any others (rule 18)."""
    create = BatchThread._create_worker_consumer

    def uncommitted(self: BatchThread, transport: Any) -> Any:
        consumer = create(self, transport)
        consumer._isolation_level = "read_uncommitted"
        return consumer

    patch.setattr(BatchThread, "_create_worker_consumer", uncommitted)


def bound_of_a_revoke(patch: Patch) -> None:
    """Who loses a partition waits until all is stored (rule 17)."""

    async def settle(self: Lanes, *, timeout_seconds: float) -> None:
        for lane in self._lanes.values():
            lane.close()
        if tasks := list(self._tasks.values()):
            await asyncio.wait(tasks)

    patch.setattr(Lanes, "settle", settle)


def letters_past_the_checkpoint(patch: Patch) -> None:
    """Nobody looks which letters are there (rule 21)."""

    def none(self: PartitionLetters, since: int) -> Iterator[int]:
        return iter(())

    patch.setattr(PartitionLetters, "_offsets_sent", none)


def end_of_the_letters(patch: Patch) -> None:
    """Letters are read to the last stable offset, whatever is open below them (rules 21 and 7)."""

    def stable(self: PartitionLetters, _: object, partition: int, since: int) -> Iterator[int]:
        part, admin = (DEAD_LETTER, partition), AdminClient(self.kafka.admin())
        first = log_offsets(admin, [part], EARLIEST)
        end = log_ends(admin, [part], committed=True)
        for message in committed_records(self.kafka, first, end):
            offset = offset_sent(message, self.source, self.epoch)
            if offset is not None and offset >= since:
                yield offset

    patch.setattr(PartitionLetters, "_offsets_in", stable)


def fencing_of_letters(patch: Patch) -> None:
    """Each producer of letters has a transactional id of its own (rule 21)."""
    settings = PartitionLetters._settings

    def alone(self: PartitionLetters) -> dict[str, object]:
        made = settings(self)
        return {**made, "transactional.id": f"{made['transactional.id']}-{uuid4()}"}

    patch.setattr(PartitionLetters, "_settings", alone)


def if_none_match(patch: Patch) -> None:
    """A PUT replaces what is there (rule 23)."""
    create = S3Chain.create

    async def put(self: S3Chain, key: str, body: bytes, link: Link) -> Link | None:
        client: Any = _Without(self.client, "IfNoneMatch")
        return await create(replace(self, client=client), key, body, link)

    patch.setattr(S3Chain, "create", put)


def next_of_the_object_that_is_there(patch: Patch) -> None:
    """A writer that was second goes on as if it had been first (rule 23)."""
    patch.setattr(PartitionArchive, "_end_after", lambda self, key, ours, there: ours.next)


def trim_below_the_chain(patch: Patch) -> None:
    """Records that a rival has stored are archived again (rule 19)."""
    patch.setattr(PartitionArchive, "_behind", lambda self, records, index: index)


def condition_of_the_pointer(patch: Patch) -> None:
    """The last rebuild to be swapped in is in use, whichever it took the place of."""
    use = Tables.use

    def force(self: Tables, generation: int, *, instead_of: int) -> bool:
        return use(self, generation, instead_of=self.current())

    patch.setattr(Tables, "use", force)


def component_wise_maximum(patch: Patch) -> None:
    """A client gets the shared ids at once, though the log is behind it (rule 25)."""

    async def shared(  # noqa: PLR0917 - what it replaces has them
        self: Playback,
        client: Client,
        log: EventLog,
        own: dict[Part, int],
        index: int,
        told: object,
    ) -> bool:
        client.cursor = index
        return True

    patch.setattr(Playback, "_with_own_ids", shared)


def attaching_below_every_component(patch: Patch) -> None:
    """A client is attached where one component is reached, not all (rule 25)."""
    attach = EventLog.attach

    def at_the_furthest(self: EventLog, wanted: Offsets) -> int | None:
        covered = self.covered_at(wanted)
        return attach(self, wanted) if covered is None else max(covered, self.first)

    patch.setattr(EventLog, "attach", at_the_furthest)
