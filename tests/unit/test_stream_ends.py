"""How the stream service's waits for a broker end: with the client, and with the process."""

import asyncio
import gc
import json
import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from tests.support.stream import EPOCH, EVERYTHING, PARTS, History, Replica, simulate

from shopstream_notifications import broker, playback, pulse, replay
from shopstream_notifications.broker import Broker, BrokerUnavailable, Topology
from shopstream_notifications.consumer import StreamConsumer, _Reader
from shopstream_notifications.limits import NOWHERE as NOBODY
from shopstream_notifications.limits import Place
from shopstream_notifications.pulse import Pulse
from shopstream_notifications.records import Offsets, Part
from shopstream_notifications.replay import ColdReplays, Evicted, Slice
from shopstream_notifications.source import Source, Started
from shopstream_shared.kafka import KafkaConnection

#: Nobody listens on port 1: as silent as a broker that is away.
NOWHERE = KafkaConnection("127.0.0.1:1", "test")
SECONDS_MAX = 20.0


class FailingReplays(ColdReplays):
    """Its reads fail when ``go`` is set."""

    def __init__(self) -> None:
        super().__init__(NOWHERE, waiting_max=10)
        self.begun = threading.Event()
        self.go = threading.Event()

    def _read(self, _wanted: object, _begin: Offsets, _stop: Offsets) -> Slice:
        self.begun.set()
        assert self.go.wait(SECONDS_MAX)
        raise Evicted


def test_a_replay_that_fails_after_its_client_left_is_no_error_of_the_loop() -> None:
    faults: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, fault: faults.append(fault))
        replays = FailingReplays()
        client = asyncio.create_task(replays.read(NOBODY, EVERYTHING, {}, {}))
        assert await asyncio.to_thread(replays.begun.wait, SECONDS_MAX)
        client.cancel()
        await asyncio.sleep(0)
        replays.go.set()
        with pytest.raises(asyncio.CancelledError):
            await client
        del client
        gc.collect()
        await replays.close()

    asyncio.run(run())
    assert faults == []


def test_a_replay_from_a_silent_broker_ends_with_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay, "SILENCE_SECONDS_MAX", 600.0)

    async def run() -> None:
        replays = ColdReplays(NOWHERE, waiting_max=10)
        reading = asyncio.create_task(
            replays.read(NOBODY, EVERYTHING, {PARTS[0]: 0}, {PARTS[0]: 1})
        )
        await asyncio.sleep(0)
        async with asyncio.timeout(SECONDS_MAX):
            await replays.close()
            with pytest.raises(BrokerUnavailable):
                await reading

    asyncio.run(run())


def test_a_question_to_a_silent_broker_ends_with_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker, "METADATA_TIMEOUT_SECONDS", 600.0)

    async def run() -> None:
        asked = Broker(NOWHERE)
        waiting = asyncio.create_task(asyncio.to_thread(asked._answer, Future[object]()))
        await asyncio.sleep(0)
        asked.close()
        async with asyncio.timeout(SECONDS_MAX):
            with pytest.raises(TimeoutError):
                await waiting
            with pytest.raises(BrokerUnavailable):
                await asyncio.to_thread(asked.topology)

    asyncio.run(run())


def test_a_client_that_leaves_keeps_its_turn_while_its_question_is_under_way() -> None:
    """Or leaving and coming back would put any number of questions on the broker."""
    begun, go = threading.Event(), threading.Event()
    ended: list[bool] = []

    def question() -> None:
        begun.set()
        ended.append(go.wait(SECONDS_MAX))

    async def run() -> None:
        asking = asyncio.create_task(playback._in_thread(question))
        assert await asyncio.to_thread(begun.wait, SECONDS_MAX)
        asking.cancel()
        await asyncio.sleep(0)
        assert not asking.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert ended == [True]

    asyncio.run(run())


def test_a_partition_that_a_new_start_has_found_itself_is_not_added_again() -> None:
    known, new = PARTS[:2], PARTS[2]
    reader = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "test", "log_level": 0})
    owner = StreamConsumer(NOWHERE, Broker(NOWHERE), Source(), _NoSink())
    try:
        started = Started(Topology(EPOCH, known), dict.fromkeys(known, 7))
        work = _Reader(started, owner)
        work.begin(reader)
        work._add((known[0], new))
        work._add(known)
        assigned: dict[Part, int] = {
            (part.topic, part.partition): part.offset for part in reader.assignment()
        }
        assert set(assigned) == {*known, new}
        assert work._position == {known[0]: 7, known[1]: 7, new: 0}
    finally:
        reader.close()


def test_a_commit_that_was_refused_is_made_again_but_never_over_a_newer_one() -> None:
    """On a quiet topic nothing else would commit, and lag would never read 0 (protocol rule 30)."""
    committed: list[dict[Part, int]] = []

    class Commits:
        def assign(self, _parts: object) -> None: ...

        def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
            committed.append({(o.topic, o.partition): o.offset for o in offsets})
            if len(committed) == 1:
                raise KafkaException(KafkaError(KafkaError._STATE))

    work = _Reader(
        Started(Topology(EPOCH, PARTS[:2]), dict.fromkeys(PARTS[:2], 7)),
        StreamConsumer(NOWHERE, Broker(NOWHERE), Source(), _NoSink()),
    )
    work.begin(cast("Consumer", Commits()))
    work._commit()
    assert committed.pop() == {PARTS[0]: 7, PARTS[1]: 7}
    committed.append({})
    work._commit()
    assert committed.pop() == {PARTS[0]: 7, PARTS[1]: 7}
    # The broker refuses later, when one part has moved on; until it answers nothing overtakes.
    work._uncommitted[PARTS[0]] = 9
    work._commit()
    assert committed == [{}]
    refused = [TopicPartition(*part, 7) for part in PARTS[:2]]
    work.on_commit(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS), refused)
    work._commit()
    assert committed.pop() == {PARTS[0]: 9, PARTS[1]: 7}
    work.on_commit(None, refused)
    work._commit()
    assert committed == [{}], "what the broker took is not committed again"
    work._uncommitted[PARTS[0]] = 10
    work._commit()
    assert committed.pop() == {PARTS[0]: 10}


def test_late_timers_do_not_add_up_over_a_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand pauses of a millisecond, each a millisecond late, are twice the time."""
    now = 0.0

    async def late_sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + 0.01 if seconds else 0.0

    async def run() -> None:
        replica = Replica(History({}))
        sockets = [(await replica.connect())[1] for _ in range(100)]
        monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now))
        monkeypatch.setattr(pulse, "asyncio", SimpleNamespace(sleep=late_sleep))
        await Pulse(replica.hub, replica.hub.clock, heartbeat_seconds=15.0).drain(0.1)
        assert all(len(socket.named("stream.goodbye")) == 1 for socket in sockets)

    simulate(run())
    assert 0.1 <= now < 0.15


def test_a_client_overtaken_by_retention_has_the_id_of_its_gap_at_once() -> None:
    class Forgetful(History):
        async def read(self, who: Place, wanted: object, begin: Offsets, stop: Offsets) -> Slice:
            raise Evicted

    async def run() -> None:
        replica = Replica(Forgetful({part: [True] * 8 for part in PARTS}))
        _, first = await replica.connect()
        later = Replica(replica.history, start=replica.history.end())
        assert later.hub.log is not None
        _, socket = await later.connect(first.last_id)
        (gap,) = socket.named("stream.gap")
        assert json.loads(gap.data)["reason"] == "evicted"
        assert json.loads(gap.data)["to"] == socket.last_id == later.hub.log.current_id()

    simulate(run())


class _NoSink:
    def started(self, started: Started) -> None:
        raise AssertionError(started)

    def deliver(self, batch: object) -> None:
        raise AssertionError(batch)

    def lost(self) -> None:
        raise AssertionError
