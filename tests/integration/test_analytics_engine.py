"""Protocol rules 15-18 on the real broker: the engine under a sink of the test's own."""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from tests.support.analytics import producer
from tests.support.analytics_engine import (
    NotingSink,
    delete_topic,
    engine,
    group_lag,
    more_partitions,
    new_topic,
)
from tests.support.components import LocalComponents

from shopstream_analytics.consumer import app, driver
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.consumer.lane import FAULT_TRIES_MAX
from shopstream_analytics.sink import LogRange

VALUE = b'{"x":"' + b"v" * 400 + b'"}'
HEADERS: list[tuple[str, str | bytes | None]] = [(f"ce_{n}", b"value") for n in range(9)]


@pytest.fixture
def brokers(components: LocalComponents) -> str:
    return components.kafka_brokers


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def transaction(
    made: Producer, topic: str, partitions: Sequence[int], *, abort: bool = False
) -> None:
    """One record for each partition that is named."""
    made.begin_transaction()
    for partition in partitions:
        made.produce(topic, value=VALUE, headers=HEADERS, partition=partition)
    if abort:
        made.flush()
        made.abort_transaction()
    else:
        made.commit_transaction()


def test_lag_reads_0_at_rest_with_markers_aborted_data_at_the_end_and_empty_partitions(
    brokers: str,
) -> None:
    async def test() -> None:
        topic, group = new_topic(brokers, 4), f"g-{uuid4()}"
        made = await asyncio.to_thread(producer, brokers)
        # 0: ends in a marker; 1: in aborted data; 2: nothing but aborted data; 3: empty.
        transaction(made, topic, [0, 0, 1, 0])
        transaction(made, topic, [1, 2, 1], abort=True)
        offsets: dict[Source, list[int]] = {}
        sink = NotingSink(offsets=offsets)
        async with engine(brokers, (topic,), sink, group) as running:
            await running.until(lambda: sink.records == 4, "all records")
            for number in itertools.count():
                lag = await asyncio.to_thread(group_lag, brokers, group, topic, 4)
                if lag == 0:
                    break
                assert number < 100, lag
                await asyncio.sleep(0.1)
            # Forward while it runs, too: what is committed follows what is stored.
            transaction(made, topic, [0, 3])
            await running.until(lambda: sink.records == 6, "all records")
        assert await asyncio.to_thread(group_lag, brokers, group, topic, 4) == 0
        assert {source: read for source, read in offsets.items() if read} == {
            Source(topic, 0): [0, 1, 2, 4],
            Source(topic, 1): [0],
            Source(topic, 3): [0],
        }

    run(test)


def test_transactions_that_come_while_a_write_goes_on_are_one_write_after_it(
    brokers: str,
) -> None:
    async def test() -> None:
        topic = new_topic(brokers, 1)
        made = await asyncio.to_thread(producer, brokers)
        gate = asyncio.Event()

        async def wait(batch: Batch) -> None:
            await gate.wait()

        sink = NotingSink(within=wait)
        async with engine(brokers, (topic,), sink, f"g-{uuid4()}") as running:
            transaction(made, topic, [0, 0, 0])
            await running.until(lambda: sink.tries, "a write goes on")
            for _ in range(30):
                await asyncio.to_thread(transaction, made, topic, [0, 0, 0])
            source = Source(topic, 0)
            await running.until(
                lambda: not running.lanes.lacking({source: LogRange(0, 31 * 4)}), "all has come"
            )
            gate.set()
            await running.until(lambda: sink.records == 31 * 3, "all records")
            assert sink.writes == [3, 30 * 3]

    run(test)


def test_with_the_sink_away_the_hand_off_stays_bounded_and_all_is_written_after(
    brokers: str,
) -> None:
    async def test() -> None:
        topic = new_topic(brokers, 2)
        made = await asyncio.to_thread(producer, brokers)
        total = await asyncio.to_thread(_fill, made, topic, 20_000)
        offsets: dict[Source, list[int]] = {}
        sink = NotingSink(away=True, offsets=offsets)
        async with engine(brokers, (topic,), sink, f"g-{uuid4()}") as running:
            await running.until(lambda: sink.tries > 6, "tries")
            held = running.lanes.held_bytes
            # A round in the sink's hands, one that waits, one on its way, for each partition.
            assert 0 < held <= 2 * 4 * 262_144
            sink.away = False
            await running.until(lambda: sink.records == total, "all records")
        for read in offsets.values():
            assert read == sorted(set(read))
        # A backlog is written in far fewer rounds than it had fetches.
        assert max(sink.writes) > 1_000

    run(test)


def _fill(made: Producer, topic: str, records: int) -> int:
    for _ in range(records // 2_000):
        transaction(made, topic, [0, 1] * 1_000)
    return records


def test_partitions_move_between_two_workers_and_back_without_a_doubled_or_lost_record(
    brokers: str,
) -> None:
    async def test() -> None:
        topic, group = new_topic(brokers, 4), f"g-{uuid4()}"
        made = await asyncio.to_thread(producer, brokers)
        # One store for both, and a worker that is in the middle of a write when it loses it.
        offsets: dict[Source, list[int]] = {}
        sink = NotingSink(seconds=0.01, offsets=offsets)
        sent = 0
        async with engine(brokers, (topic,), sink, group, instance="one") as first:
            await first.until(lambda: len(first.lanes.sources()) == 4, "all partitions")
            async with engine(brokers, (topic,), sink, group, instance="two") as second:
                deadline = time.monotonic() + 60
                while not (len(first.lanes.sources()) == len(second.lanes.sources()) == 2):
                    transaction(made, topic, [0, 1, 2, 3])
                    sent += 4
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.01)
                for _ in range(20):
                    transaction(made, topic, [0, 1, 2, 3])
                sent += 80
            await first.until(lambda: len(first.lanes.sources()) == 4, "it takes over")
            await first.until(lambda: sink.records == sent, "all records")
        for read in offsets.values():
            assert read == sorted(set(read))

    run(test)


def test_new_partitions_are_found_also_by_a_member_that_came_back_to_its_place(
    brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "METADATA_SECONDS", 1.0)

    async def test() -> None:
        topic, group = new_topic(brokers, 1), f"g-{uuid4()}"
        made = await asyncio.to_thread(producer, brokers)
        sink = NotingSink()
        async with engine(brokers, (topic,), sink, group, instance="one", leaves=False) as first:
            await first.until(lambda: len(first.lanes.sources()) == 1, "its partition")
        # The broker gives it its place back without telling it that it leads the group.
        async with engine(brokers, (topic,), sink, group, instance="one") as second:
            await second.until(lambda: len(second.lanes.sources()) == 1, "its partition")
            await asyncio.to_thread(more_partitions, brokers, topic, 2)
            await second.app.batches.rejoin()
            await second.until(lambda: len(second.lanes.sources()) == 2, "the new partition")
            transaction(made, topic, [0, 1])
            await second.until(lambda: sink.records == 2, "all records")

    run(test)


def test_a_member_that_came_back_to_an_empty_place_gets_its_share_on_request(
    brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its predecessor, the leader, had shared out nothing: the topic was missing."""
    monkeypatch.setattr(app, "METADATA_SECONDS", 1.0)

    async def test() -> None:
        topic, group = new_topic(brokers, 1), f"g-{uuid4()}"
        async with engine(
            brokers, (topic,), NotingSink(), group, instance="one", leaves=False
        ) as first:
            await first.until(lambda: len(first.lanes.sources()) == 1, "its partition")
            await asyncio.to_thread(delete_topic, brokers, topic)
            await first.until(lambda: not first.app.assigned(), "nothing is left")
        await asyncio.to_thread(new_topic, brokers, 1, name=topic)
        async with engine(brokers, (topic,), NotingSink(), group, instance="one") as second:
            await second.app.rejoin()
            await second.until(lambda: len(second.lanes.sources()) == 1, "its partition")

    run(test)


@pytest.mark.parametrize("way", ["away", "hangs"])
def test_a_rebalance_is_not_stuck_by_a_sink_that_is_away_or_hangs(
    brokers: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a revoke waits for a write that does not end.
    monkeypatch.setattr(driver, "REVOKE_SECONDS_MAX", 0.5)

    async def test() -> None:
        topic, group = new_topic(brokers, 2), f"g-{uuid4()}"
        made = await asyncio.to_thread(producer, brokers)
        transaction(made, topic, [0, 1])
        never = asyncio.Event()

        async def hang(batch: Batch) -> None:
            await never.wait()

        stuck = NotingSink(away=way == "away")
        if way == "hangs":
            stuck.within = hang
        async with engine(brokers, (topic,), stuck, group) as first:
            await first.until(lambda: stuck.tries, "a write is tried")
            well = NotingSink()
            async with engine(brokers, (topic,), well, group) as second:
                await second.until(lambda: len(second.lanes.sources()) == 1, "its share")
                await second.until(lambda: well.records == 1, "its record")
                assert not first.lanes.failed.done()

    run(test)


def test_an_error_of_the_sink_is_tried_again_in_place_and_ends_the_worker_when_it_lasts(
    brokers: str,
) -> None:
    async def test() -> None:
        topic = new_topic(brokers, 1)
        made = await asyncio.to_thread(producer, brokers)
        errors = [RuntimeError("passing")]

        async def fail(batch: Batch) -> None:
            if errors:
                raise errors.pop()

        sink = NotingSink(within=fail)
        async with engine(brokers, (topic,), sink, f"g-{uuid4()}") as running:
            transaction(made, topic, [0])
            await running.until(lambda: sink.records == 1, "written at the second try")
            assert running.progress.counters["sink_faults"] == 1
            errors += [RuntimeError("lasting")] * FAULT_TRIES_MAX
            transaction(made, topic, [0])
            error = await asyncio.wait_for(running.lanes.failed, 60)
            assert str(error) == "lasting"
            assert sink.positions == {Source(topic, 0): 2}

    run(test)
