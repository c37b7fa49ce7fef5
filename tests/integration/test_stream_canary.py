"""The canary through a real broker, its own reader and the loop of a real process."""

import asyncio
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition
from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher, StreamService, an_event
from tests.support.system import wait_until

from shopstream_shared.topics import CANARY


@pytest.fixture
def service(components: LocalComponents) -> Iterator[StreamService]:
    Publisher(components.kafka_brokers)
    with StreamService(
        components.kafka_brokers,
        SHOPSTREAM_STREAM_CANARY_SECONDS="0.1",
        SHOPSTREAM_HEARTBEAT_SECONDS="0.5",
    ) as service:
        yield service


def round_trips(service: StreamService) -> float:
    for line in service.get("/metrics").text.splitlines():
        if line.startswith("shopstream_stream_canary_seconds_count"):
            return float(line.split()[1])
    return 0.0


def canary_check(service: StreamService) -> dict[str, str]:
    check: dict[str, str] = service.get("/health").json()["checks"]["canary"]
    return check


def test_a_canary_comes_through_and_no_client_and_no_id_ever_sees_it(
    service: StreamService, components: LocalComponents
) -> None:
    async def run() -> None:
        stream = await (await service.connect()).opened()
        first_id = stream.last_id
        await asyncio.to_thread(
            wait_until, lambda: round_trips(service) >= 5, "canaries to come through"
        )
        assert canary_check(service)["message"].startswith("round trip ")
        await stream.until(lambda: len(stream.named("stream.heartbeat")) >= 2)
        assert stream.last_id == first_id, "their progress is nobody's"
        event = an_event()
        Publisher(components.kafka_brokers).publish(event)
        await stream.got([event])
        again = await service.connect(last_event_id=first_id)
        await again.got([event])
        stream.cut()
        again.cut()

    asyncio.run(run())
    consumer = Consumer(
        {"bootstrap.servers": components.kafka_brokers, "group.id": "notifications-service"}
    )
    try:
        (committed,) = consumer.committed([TopicPartition(CANARY, 0)], timeout=10)
    finally:
        consumer.close()
    assert committed.offset < 0, "the group's lag is the stream's alone"


def test_a_canary_that_does_not_come_through_makes_health_say_so_and_comes_back(
    service: StreamService, components: LocalComponents
) -> None:
    wait_until(lambda: round_trips(service) >= 1, "a first canary")
    components.pause("kafka")
    wait_until(
        lambda: "nothing comes through" in canary_check(service)["message"],
        "the check to be unhealthy",
        seconds_max=30,
    )
    assert canary_check(service)["status"] == "unhealthy"
    components.resume("kafka")
    wait_until(lambda: canary_check(service)["status"] == "healthy", "it to come back")
