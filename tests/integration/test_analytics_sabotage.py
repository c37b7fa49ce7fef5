"""What each safety piece of the consumers is for: without it, the same events leave a store wrong.

Each test runs twice, as it is and with one piece patched out of the production code, on the real
stores: what is stored must be exact, and without the piece it must not be. Who writes when is
written down here, two writers of a partition in one loop: one that holds it, and a zombie.
"""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from tests.support import sabotage_consumers as without
from tests.support.trial import EVENTS, SOURCE, Trial, until, with_and_without

from shopstream_analytics.aggregates.sink import PartitionAggregates
from shopstream_analytics.archive.sink import PartitionArchive
from shopstream_analytics.checkpoints import CheckpointGap
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.progress import Progress
from shopstream_analytics.rebuild.tables import Tables
from shopstream_analytics.sink import LogRange, SinkUnavailable
from shopstream_shared.topics import ORDERS

# Checkpoints and aggregates


@with_and_without
def test_a_zombie_cannot_set_a_checkpoint_back(trial: Trial) -> None:
    """Protocol rule 19: it would fall behind what retention keeps, and no lag would tell."""
    trial.without(without.checkpoint_condition)

    async def run() -> int | None:
        async with trial.sink("aggregates") as sink:
            zombie, heir = await trial.open(sink), await trial.open(sink)
            await heir.write(trial.batch(0, EVENTS))
            await zombie.write(trial.batch(0, 5))
            assert isinstance(heir, PartitionAggregates)
            return await heir.checkpoints.read(SOURCE, "id")

    stands = asyncio.run(run())
    trial.judge(exact=stands == EVENTS, seen=stands)
    assert trial.counts_are_exact()


@with_and_without
def test_a_writer_does_not_move_a_checkpoint_over_what_another_has_still_to_write(
    trial: Trial,
) -> None:
    """Protocol rule 19: somebody set it back and emptied the table; what was in it comes again."""
    trial.without(without.checkpoint_condition)
    environ = trial.analytics.environ

    async def run() -> None:
        async with trial.sink("recent") as sink:
            early = await trial.open(sink)
            await early.write(trial.batch(0, 3))
            forgotten: Any = sink
            key = {"pk": {"S": f"analytics-recent#{ORDERS}#id#0"}}
            await forgotten.client.delete_item(
                TableName=environ["SHOPSTREAM_CHECKPOINTS_TABLE_NAME"], Key=key
            )
            for event_id in trial.analytics.recent_ids():
                await forgotten.client.delete_item(
                    TableName=environ["RECENT_EVENTS_TABLE_NAME"], Key={"eventId": {"S": event_id}}
                )
            with suppress(CheckpointGap):
                await early.write(trial.batch(3, EVENTS))
            successor = await trial.open(sink)
            await successor.write(trial.batch(successor.durable, EVENTS))

    asyncio.run(run())
    wanted = sorted(json.loads(one.value or b"")["id"] for one in trial.log)
    found = trial.analytics.recent_ids()
    trial.judge(exact=found == wanted, seen=found)


@with_and_without
def test_a_checkpoint_moves_only_after_the_items(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocol rule 19: what a checkpoint has passed is never read again."""
    trial.without(without.checkpoint_after_the_items)

    async def run() -> None:
        async with trial.sink("aggregates") as sink:
            dying: Any = await trial.open(sink)
            with monkeypatch.context() as away:
                away.setattr(type(dying.store), "apply", _unavailable)
                with pytest.raises(SinkUnavailable):
                    await dying.write(trial.batch(0, EVENTS))
            heir = await trial.open(sink)
            await heir.write(trial.batch(heir.durable, EVENTS))

    asyncio.run(run())
    trial.judge(exact=trial.counts_are_exact())


async def _unavailable(*_: object) -> None:
    raise SinkUnavailable("away")


@with_and_without
def test_what_an_item_has_merged_is_not_merged_again(trial: Trial) -> None:
    """Protocol rule 20: a zombie brings the same events once more."""
    trial.without(without.upto_condition)

    async def run() -> None:
        async with trial.sink("aggregates") as sink:
            zombie, heir = await trial.open(sink), await trial.open(sink)
            await heir.write(trial.batch(0, EVENTS))
            await zombie.write(trial.batch(0, EVENTS))

    asyncio.run(run())
    trial.judge(exact=trial.counts_are_exact())


@with_and_without
def test_of_a_refused_update_what_is_beyond_the_old_item_is_still_merged(trial: Trial) -> None:
    """Protocol rule 20: a repetition after a crash has other borders."""
    trial.without(without.trim_by_the_old_item)

    async def run() -> None:
        async with trial.sink("aggregates") as sink:
            died, heir = await trial.open(sink), await trial.open(sink)
            await died.write(trial.batch(0, 5))
            await heir.write(trial.batch(0, EVENTS))

    asyncio.run(run())
    trial.judge(exact=trial.counts_are_exact())


@with_and_without
def test_a_batch_that_does_not_follow_the_one_before_ends_the_worker(trial: Trial) -> None:
    """Protocol rule 15: positions that do not chain are records that were skipped."""
    trial.without(without.position_chain)

    async def run() -> None:
        async with trial.sink("aggregates") as sink:
            for batches in ([(0, 3), (5, EVENTS)], [(0, 0)]):
                lanes = Lanes(sink, Progress())
                position = (await lanes.open({SOURCE: LogRange(0, EVENTS)}))[SOURCE]
                lanes.start_generation(1)
                # A worker that ended is followed by one that reads on at the checkpoint.
                for start, end in batches if len(batches) > 1 else [(position, EVENTS)]:
                    lanes.offer(trial.batch(start, end))
                    await until(lambda end=end, lanes=lanes: _settled(lanes, end))  # type: ignore[misc]  # bound by default
                await lanes.close(timeout_seconds=1)

    asyncio.run(run())
    trial.judge(exact=trial.counts_are_exact())


def _settled(lanes: Lanes, end: int) -> bool:
    return lanes.failed.done() or lanes.durable(SOURCE) == end


@with_and_without
def test_giving_up_a_partition_does_not_wait_for_a_store_that_hangs(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocol rule 17: a store that hangs must not hold up a rebalance of the whole group."""
    trial.without(without.bound_of_a_revoke)

    async def run() -> bool:
        async with trial.sink("aggregates") as sink:
            lanes = Lanes(sink, Progress())
            await lanes.open({SOURCE: LogRange(0, EVENTS)})
            lanes.start_generation(1)
            called, never = asyncio.Event(), asyncio.Event()

            async def hang(*_: object) -> None:
                called.set()
                await never.wait()

            monkeypatch.setattr(PartitionAggregates, "write", hang)
            lanes.offer(trial.batch(0, EVENTS))
            await called.wait()
            giving_up = asyncio.create_task(lanes.close(timeout_seconds=0.1))
            done, _ = await asyncio.wait([giving_up], timeout=3.0)
            # Else the task would never end.
            for task in lanes._tasks.values():
                task.cancel()
            await giving_up
            return bool(done)

    trial.judge(exact=asyncio.run(run()))


@with_and_without
def test_of_two_rebuilds_only_the_one_that_knows_what_it_replaces_is_swapped_in(
    trial: Trial,
) -> None:
    """The slower one would take back what workers have merged into the other since."""
    trial.without(without.condition_of_the_pointer)

    async def run() -> None:
        async with trial.sink("aggregates"):
            pass

    asyncio.run(run())
    tables = Tables.of(trial.settings)
    first, second = tables.begin(), tables.begin()
    tables.complete(first)
    tables.complete(second)
    assert tables.use(first, instead_of=0)
    tables.use(second, instead_of=0)
    trial.judge(exact=tables.current() == first)


# The archive's chain


@with_and_without
def test_an_object_of_the_chain_is_never_replaced(trial: Trial) -> None:
    """Protocol rule 23: a zombie stores its shorter file under the same key."""
    trial.without(without.if_none_match)

    async def run() -> None:
        async with trial.sink("archive") as sink:
            zombie, heir = await trial.open(sink), await trial.open(sink)
            await zombie.write(trial.batch(0, 5))
            await heir.write(trial.batch(0, 6))
            await heir.flush()
            await zombie.flush()
            await heir.write(trial.batch(6, EVENTS))
            await heir.flush()

    asyncio.run(run())
    trial.judge(exact=trial.archive_is_exact())


@with_and_without
def test_a_writer_that_was_second_continues_at_the_next_of_the_object_that_is_there(
    trial: Trial,
) -> None:
    """Protocol rule 23: whoever was first may have had a shorter file."""
    trial.without(without.next_of_the_object_that_is_there)

    async def run() -> None:
        async with trial.sink("archive") as sink:
            died, heir = await trial.open(sink), await trial.open(sink)
            await died.write(trial.batch(0, 5))
            await died.flush()
            await heir.write(trial.batch(0, EVENTS))
            await heir.flush()

    asyncio.run(run())
    trial.judge(exact=trial.archive_is_exact())


@with_and_without
def test_a_writer_passes_over_what_a_rival_has_stored_beyond_its_own_file(trial: Trial) -> None:
    """Protocol rule 19, trim: it still reads on from where it stood."""
    trial.without(without.trim_below_the_chain)

    async def run() -> None:
        async with trial.sink("archive") as sink:
            zombie, heir = await trial.open(sink), await trial.open(sink)
            await zombie.write(trial.batch(0, 3))
            await heir.write(trial.batch(0, 6))
            await heir.flush()
            await zombie.flush()
            await zombie.write(trial.batch(3, EVENTS))
            await zombie.flush()
            assert isinstance(zombie, PartitionArchive)

    asyncio.run(run())
    trial.judge(exact=trial.archive_is_exact())
