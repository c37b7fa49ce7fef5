"""The canary between a fake broker's topics and a fake clockwork: what it reports, and when."""

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from shopstream_notifications.broker import BrokerUnavailable
from shopstream_notifications.canary import PENDING_MAX, Canary, WatchedSink
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.records import Part
from shopstream_notifications.settings import NotificationsSettings
from shopstream_notifications.source import Batch, Started
from shopstream_shared.health import Unhealthy
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import PRODUCTS

#: Nobody listens on port 1: as silent as a broker that is away.
NOWHERE = KafkaConnection("127.0.0.1:1", "test")


class Topics:
    """Unavailable, then without the topic, then with it."""

    def __init__(self, *answers: bool | None) -> None:
        self.answers = list(answers)

    def exists(self, _topic: str) -> bool:
        answer = self.answers.pop(0)
        if answer is None:
            raise BrokerUnavailable("away")
        return answer


class Producer:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def produce(self, _topic: str, value: bytes, *, partition: int) -> None:
        assert partition == 0
        self.sent.append(value)

    def poll(self, _seconds: float) -> int:
        return 0


class Sink:
    def __init__(self) -> None:
        self.calls: list[object] = []

    def started(self, started: Started) -> None:
        self.calls.append(started)

    def deliver(self, batch: Batch) -> None:
        self.calls.append(batch)

    def lost(self) -> None:
        self.calls.append("lost")


def canary(*answers: bool | None, seconds: float = 1.0) -> Canary:
    return Canary(NOWHERE, Topics(*answers), Metrics(CollectorRegistry()), seconds=seconds)


def send(bird: Canary, times: int = 1) -> list[bytes]:
    producer = Producer()
    for _ in range(times):
        bird._send(producer)  # type: ignore[arg-type]  # what it needs of one
    return producer.sent


def test_a_canary_that_comes_back_is_timed_and_others_are_not() -> None:
    bird, other = canary(), canary()
    sent = send(bird, 2)
    bird.seen([*send(other), b"", b"\xff"])
    assert bird._metrics.canary._sum.get() == 0
    assert asyncio.run(bird.probe()) == "none has come through yet"
    bird.seen([*sent, *sent])
    assert sum(bucket.get() for bucket in bird._metrics.canary._buckets) == 2, "each once"
    assert asyncio.run(bird.probe()).startswith("round trip ")


def test_a_silence_beyond_the_bound_is_unhealthy_until_the_next_canary() -> None:
    bird = canary()
    (sent,) = send(bird)
    bird._missing = False
    bird._seen_at = time.monotonic() - bird.late_seconds - 1
    with pytest.raises(Unhealthy, match="nothing comes through; no canary for 9 s"):
        asyncio.run(bird.probe())
    bird.seen([sent])
    asyncio.run(bird.probe())


def test_a_missing_topic_is_named() -> None:
    bird = canary()
    bird._seen_at = time.monotonic() - bird.late_seconds - 1
    with pytest.raises(Unhealthy, match=r"topic shop\.canary does not exist"):
        asyncio.run(bird.probe())


def test_the_reader_follows_once_the_topic_is_there() -> None:
    async def run() -> list[Part]:
        followed: asyncio.Queue[Part] = asyncio.Queue()
        bird = canary(None, False, True, seconds=0.0)
        task = asyncio.create_task(bird.run(followed.put_nowait))
        parts = [await asyncio.wait_for(followed.get(), 20)]
        task.cancel()
        return parts

    assert asyncio.run(run()) == [("shop.canary", 0)]


def test_e19_canaries_that_never_come_back_are_forgotten() -> None:
    bird = canary()
    sent = send(bird, PENDING_MAX + 10)
    assert list(bird._sent) == sent[-PENDING_MAX:]


def test_canaries_never_reach_the_hub() -> None:
    bird, sink = canary(), Sink()
    watched = WatchedSink(sink, bird)
    (sent,) = send(bird)
    watched.deliver(Batch([], {}, (sent,)))
    assert sink.calls == []
    assert bird._sent == {}
    moved = Batch([], {(PRODUCTS, 0): 1})
    watched.deliver(moved)
    watched.lost()
    assert sink.calls == [moved, "lost"]


def test_more_canaries_than_anybody_needs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_STREAM_CANARY_SECONDS", "0.01")
    with pytest.raises(ValidationError, match=r"at least 0\.1 s"):
        NotificationsSettings.read()
