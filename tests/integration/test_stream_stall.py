"""A reader whose client of the library stands still while the broker has more to read.

librdkafka's issues 5153 and 4804 tell of assigned partitions that nobody fetches any more after a
broker's restart. Here the first client's partitions are paused, which looks the same from outside.
"""

import asyncio
import contextlib
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from prometheus_client import CollectorRegistry
from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher, an_event

from shopstream_notifications import consumer as reading
from shopstream_notifications import watcher as watching
from shopstream_notifications.broker import Broker, BrokerUnavailable, Topology
from shopstream_notifications.consumer import GROUP, StreamConsumer
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.records import Offsets, Part
from shopstream_notifications.source import Batch, Source, Started
from shopstream_notifications.watcher import STALLED_LOOKS, WATCH_SECONDS, Watcher
from shopstream_shared.kafka import KafkaConnection
from shopstream_stack.demo.crowd import until

SECONDS_MAX = 60.0


class Stalls(Consumer):
    """The first one made fetches nothing."""

    made = 0

    def assign(self, partitions: list[TopicPartition]) -> None:
        super().assign(partitions)
        Stalls.made += 1
        if Stalls.made == 1:
            self.pause(partitions)


class Kept:
    """What a reader handed over."""

    def __init__(self) -> None:
        self.epoch = b""
        self.position: dict[Part, int] = {}
        self.ids: list[str] = []
        self.begun = asyncio.Event()
        self.starts = 0

    def started(self, started: Started) -> None:
        self.epoch, self.position = started.topology.epoch, dict(started.position)
        self.starts += 1
        self.begun.set()

    def deliver(self, batch: Batch) -> None:
        self.position.update(batch.position)
        self.ids += [record.subject for record in batch.records]

    def lost(self) -> None:
        raise AssertionError("nothing is lost by a stall")


def test_a_reader_that_stands_still_is_replaced_and_misses_and_repeats_nothing(
    components: LocalComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "Consumer", Stalls)
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(Stalls, "made", 0)
    publisher = Publisher(components.kafka_brokers)
    connection = KafkaConnection(components.kafka_brokers, "test-stall")
    events = [an_event() for _ in range(30)]

    async def run() -> tuple[Kept, Metrics]:
        broker, source, kept = Broker(connection), Source(), Kept()
        metrics = Metrics(CollectorRegistry())
        reader = StreamConsumer(connection, broker, source, kept)

        def stalled() -> None:
            # The new client gets the time that it has in production.
            monkeypatch.setattr(watching, "WATCH_SECONDS", WATCH_SECONDS)
            reader.read_anew()

        watcher = Watcher(
            broker,
            source,
            metrics,
            position=lambda: (kept.epoch, kept.position) if kept.epoch else None,
            on_new_parts=reader.add_parts,
            on_stall=stalled,
        )
        tasks = [asyncio.create_task(reader.run()), asyncio.create_task(watcher.run())]
        async with asyncio.timeout(SECONDS_MAX):
            await kept.begun.wait()
            publisher.publish(*events[:20])
            assert await until(lambda: len(kept.ids) == 20, SECONDS_MAX)
            publisher.publish(*events[20:])
            assert await until(
                lambda: len(kept.ids) == 30 and not any(source.lag.values()), SECONDS_MAX
            )
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return kept, metrics

    kept, metrics = asyncio.run(run())
    assert sorted(kept.ids) == sorted(event.subject for event in events)
    assert (kept.starts, Stalls.made) == (1, 2)
    assert metrics.stalls._value.get() == 1
    asked = [TopicPartition(*part) for part in kept.position]
    other = Consumer({"bootstrap.servers": components.kafka_brokers, "group.id": GROUP})
    try:
        committed = other.committed(asked, timeout=10)
    finally:
        other.close()
    assert {(c.topic, c.partition): c.offset for c in committed} == kept.position


class Ends(Broker):
    """A broker of one partition, of which ``end`` is the end and ``stable`` can be read."""

    part: Part = ("shop.orders", 0)

    def __init__(self) -> None:
        self.end = self.stable = 0
        self.away = False

    def topology(self) -> Topology:
        return Topology(b"epoch", (self.part,))

    def ends(self, _parts: object) -> dict[Part, int]:
        return {self.part: self.end}

    def stable_ends(self, parts: Any) -> dict[Part, int]:
        if self.away:
            raise BrokerUnavailable("away")
        return dict.fromkeys(parts, self.stable)


def test_only_what_could_be_read_all_the_time_makes_a_stall() -> None:
    broker, stalls = Ends(), []
    at: dict[Part, int] = {broker.part: 5}
    metrics = Metrics(CollectorRegistry())

    def position() -> tuple[bytes, Offsets]:
        return b"epoch", at

    watcher = Watcher(
        broker,
        Source(),
        metrics,
        position=position,
        on_new_parts=lambda _: None,
        on_stall=lambda: stalls.append(dict(at)),
    )

    async def look(times: int) -> int:
        for _ in range(times):
            await watcher.look()
        return len(stalls)

    async def run() -> None:
        broker.end, broker.stable = 9, 5
        assert await look(3 * STALLED_LOOKS) == 0, "a transaction is open"
        broker.stable = 9
        for _ in range(3):
            assert await look(STALLED_LOOKS) == 0, "it moves, if slowly"
            at[broker.part] += 1
        assert await look(STALLED_LOOKS) == 0
        broker.away = True
        assert await look(STALLED_LOOKS) == 0, "nobody knows"
        broker.away = False
        assert await look(1) == 1
        assert await look(STALLED_LOOKS) == 1, "the new client has its time"
        assert await look(1) == 2
        at[broker.part] = 9
        assert await look(3 * STALLED_LOOKS) == 2, "there is nothing to read"

    asyncio.run(run())
    assert metrics.stalls._value.get() == 2
