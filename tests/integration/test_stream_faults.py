"""The notifications service when the broker, its topics, its clients or its operator misbehave."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from tests.support.components import LocalComponents, machine_environ
from tests.support.stream_service import Publisher, StreamService, an_event
from tests.support.system import wait_until

from shopstream_shared.topics import PRODUCTS, STREAM_TOPICS
from shopstream_stack.stream_client import StreamClient
from shopstream_stack.stream_events import DomainEvent

TURNS = 2


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[LocalComponents]:
    """A broker of our own: these tests stop it and delete its topics."""
    with LocalComponents() as components:
        yield components


@pytest.fixture
def brokers(own_kafka: LocalComponents) -> Iterator[str]:
    yield own_kafka.kafka_brokers
    own_kafka.restore()


def delete_topics(brokers: str) -> None:
    admin = AdminClient({"bootstrap.servers": brokers})
    for future in admin.delete_topics(list(STREAM_TOPICS)).values():
        future.result(10)
    wait_until(
        lambda: not set(STREAM_TOPICS) & set(admin.list_topics(timeout=10).topics),
        "the topics to be gone",
    )


def stalled_reader(service: StreamService) -> socket.socket:
    """A client that asks for the stream and reads nothing of it."""
    stalled = socket.create_connection(("127.0.0.1", service.port))
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    stalled.sendall(b"GET /events/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    return stalled


def read_to_end(connection: socket.socket) -> None:
    """Read until the other side ends it; fails after ten silent seconds."""
    connection.settimeout(10)
    with connection, contextlib.suppress(ConnectionResetError):
        while connection.recv(65_536):
            pass


def test_topics_missing_at_start_show_in_health_and_appear_by_themselves(brokers: str) -> None:
    """Must run first in this module: afterwards the topics exist."""

    async def run(service: StreamService) -> None:
        waiting = await service.connect()
        await waiting.until(lambda: waiting.named("stream.heartbeat"))
        assert waiting.named("stream.open") == []
        publisher = Publisher(brokers)
        await waiting.opened()
        event = an_event()
        publisher.publish(event)
        await waiting.got([event])
        waiting.cut()

    with StreamService(brokers, healthy=False, SHOPSTREAM_HEARTBEAT_SECONDS="0.5") as service:
        service.wait_health(503, seconds_max=45)
        wait_until(
            lambda: "shop.products" in service.get("/health").json()["checks"]["kafka"]["message"],
            "the missing topics are named",
        )
        assert service.get("/health/live").status_code == 200
        asyncio.run(run(service))
        service.wait_health(200)


def test_a_broker_away_at_start_is_waited_for(own_kafka: LocalComponents, brokers: str) -> None:
    Publisher(brokers)
    own_kafka.stop("kafka")

    async def run(service: StreamService) -> None:
        waiting = await service.connect()
        await waiting.until(lambda: waiting.named("stream.heartbeat"))
        own_kafka.start("kafka")
        event = an_event()
        await waiting.until(lambda: waiting.named("stream.open"), 30)
        Publisher(brokers).publish(event)
        await waiting.got([event])
        waiting.cut()

    with StreamService(brokers, healthy=False, SHOPSTREAM_HEARTBEAT_SECONDS="0.5") as service:
        service.wait_health(503, seconds_max=45)
        assert service.get("/health/live").status_code == 200
        asyncio.run(run(service))
        service.wait_health(200)


def test_e18_a_broker_that_goes_and_comes_back_costs_no_event_and_blocks_no_loop(
    own_kafka: LocalComponents, brokers: str
) -> None:
    async def run(service: StreamService) -> None:
        stream = await (await service.connect()).opened()
        first, second = an_event(), an_event()
        Publisher(brokers).publish(first)
        await stream.got([first])
        await asyncio.to_thread(own_kafka.kill, "kafka")
        beats = len(stream.named("stream.heartbeat"))
        await stream.until(lambda: len(stream.named("stream.heartbeat")) >= beats + 5)
        answer = await asyncio.to_thread(lambda: service.wait_health(503, seconds_max=45))
        assert answer.json()["checks"]["kafka"]["message"].startswith("broker")
        await asyncio.to_thread(own_kafka.start, "kafka")
        await asyncio.to_thread(lambda: Publisher(brokers).publish(second))
        await stream.got([first, second], 30)
        stream.cut()
        # An id from before the outage resumes as ever.
        again = await service.connect(last_event_id=stream.last_id)
        await again.opened()
        assert again.named("stream.open")[0]["resumed"] is True
        again.cut()

    Publisher(brokers)
    with StreamService(brokers, SHOPSTREAM_HEARTBEAT_SECONDS="0.5") as service:
        asyncio.run(run(service))
        service.wait_health(200)


@pytest.mark.parametrize(("before", "after"), [(1, 20), (20, 0)], ids=["longer", "shorter"])
def test_a_topic_made_anew_stops_the_stream_loudly(brokers: str, before: int, after: int) -> None:
    """Where the new one is shorter, the position is past its end: no reason to begin there."""
    publisher = Publisher(brokers)
    publisher.publish(*(an_event() for _ in range(before)))
    with StreamService(brokers) as service:
        delete_topics(brokers)
        Publisher(brokers).publish(*(an_event() for _ in range(after)))
        wait_until(
            lambda: (
                service.get("/health").json()["checks"]["kafka"]["message"] == "topic_recreated"
            ),
            "the health page to say so",
            seconds_max=20,
        )
        assert service.get("/health/live").status_code == 200


def test_an_id_of_the_old_topics_is_a_gap_after_they_were_made_anew(brokers: str) -> None:
    async def run(service: StreamService) -> None:
        stream = await (await service.connect()).opened()
        stream.cut()
        delete_topics(brokers)
        Publisher(brokers)
        service.restart()
        again = await service.connect(last_event_id=stream.last_id)
        await again.until(lambda: again.named("stream.gap"))
        assert again.named("stream.gap")[0]["reason"] == "unknown_epoch"
        again.cut()

    Publisher(brokers)
    with StreamService(brokers) as service:
        asyncio.run(run(service))


def test_added_partitions_are_followed_while_clients_stay(brokers: str) -> None:
    async def run(service: StreamService, publisher: Publisher) -> None:
        stream = await (await service.connect()).opened()
        old_id = stream.last_id
        admin = AdminClient({"bootstrap.servers": brokers})
        admin.create_partitions([NewPartitions(PRODUCTS, 5)])[PRODUCTS].result(10)
        fresh = Publisher(brokers, check=False)
        events = [an_event(subject=f"s{i}") for i in range(40)]
        fresh.publish(*events)
        await stream.got(events, 30)
        again = await service.connect(last_event_id=old_id)
        await again.got(events, 30)
        stream.cut()
        again.cut()

    publisher = Publisher(brokers)
    with StreamService(brokers) as service:
        asyncio.run(run(service, publisher))
    delete_topics(brokers)


def test_e13_e19_a_stalled_socket_holds_nobody_and_is_dropped_itself(brokers: str) -> None:
    async def run(service: StreamService, publisher: Publisher) -> None:
        stalled = stalled_reader(service)
        quick = await (await service.connect()).opened()
        # Far more than the kernel's buffers and the client's bound take.
        batches = [[an_event(subject=f"s{i}") for i in range(1_000)] for _ in range(8)]
        for batch in batches:
            await asyncio.to_thread(publisher.publish, *batch)
            await quick.more(1_000 - len(quick.data) % 1_000 if len(quick.data) % 1_000 else 1_000)
        assert len(quick.data) == 8_000
        wait_until(lambda: 'closed_total{reason="slow"} 1.0' in service.get("/metrics").text, "it")
        # Not only the handler is gone: what the socket still held comes, then its end.
        await asyncio.to_thread(read_to_end, stalled)
        quick.cut()

    publisher = Publisher(brokers)
    with StreamService(brokers, SHOPSTREAM_STREAM_CLIENT_BYTES="65536") as service:
        asyncio.run(run(service, publisher))


def test_records_gone_before_they_were_read_close_streams_and_are_a_gap(brokers: str) -> None:
    """Retention overtook a reader that was stopped: no client may be shown a silent hole."""

    async def run(service: StreamService) -> None:
        stream = await (await service.connect()).opened()
        service.process.send_signal(signal.SIGSTOP)
        # A fetch that was under way may still take the first batch, but never the second.
        for _ in range(2):
            publisher.publish(*(an_event(subject=f"s{i}") for i in range(30)))
        admin = AdminClient({"bootstrap.servers": brokers})
        ends = [TopicPartition(PRODUCTS, p, -1) for p in range(3)]
        for future in admin.delete_records(ends).values():
            future.result(10)
        service.process.send_signal(signal.SIGCONT)
        await stream.to_end(30)
        await asyncio.to_thread(service.wait_health)
        again = await service.connect(last_event_id=stream.last_id)
        await again.until(lambda: again.named("stream.gap"))
        assert again.named("stream.gap")[0]["reason"] == "evicted"
        again.cut()

    publisher = Publisher(brokers)
    with StreamService(brokers) as service:
        asyncio.run(run(service))


def test_e23_sigterm_says_goodbye_to_each_client_and_ends_with_zero_in_time(brokers: str) -> None:
    async def run(service: StreamService) -> None:
        streams = [await (await service.connect()).opened() for _ in range(10)]
        publisher.publish(event := an_event())
        for stream in streams:
            await stream.got([event])
        began = time.monotonic()
        service.terminate()
        await asyncio.gather(*(stream.to_end() for stream in streams))
        goodbyes = [stream.named("stream.goodbye") for stream in streams]
        assert all(len(goodbye) == 1 for goodbye in goodbyes)
        assert len({goodbye[0]["retryMs"] for goodbye in goodbyes}) > 1
        ends = sorted(stream.seen[-1].at - began for stream in streams)
        assert ends[-1] - ends[0] > 1, "spread over the drain, not all at once"

    publisher = Publisher(brokers)
    with StreamService(brokers, SHOPSTREAM_DRAIN_SECONDS="3") as service:
        asyncio.run(run(service))
        assert service.wait_exit(3 + 5) == 0


def test_a_client_that_reconnects_through_a_rolling_restart_gets_all_once(brokers: str) -> None:
    async def run(service: StreamService) -> None:
        client = StreamClient(f"{service.url}/events/stream", repeats=True)
        got: list[bytes] = []
        sent: list[bytes] = []
        opened, complete = asyncio.Event(), asyncio.Event()

        async def read() -> None:
            async for event in client.events():
                opened.set()
                if isinstance(event, DomainEvent):
                    got.append(event.data.encode())
                if len(got) == TURNS * 50:
                    complete.set()

        reading = asyncio.create_task(read())
        await asyncio.wait_for(opened.wait(), 10)
        for _ in range(TURNS):
            events = [an_event(subject=f"s{i}") for i in range(50)]
            sent += [event.value for event in events]
            await asyncio.to_thread(publisher.publish, *events)
            service.terminate()
            await asyncio.to_thread(service.wait_exit)
            await asyncio.to_thread(service.start)
        await asyncio.wait_for(complete.wait(), 30)
        await client.aclose()
        await reading
        assert sorted(got) == sorted(sent)

    publisher = Publisher(brokers)
    with StreamService(brokers) as service:
        asyncio.run(run(service))


def test_e12_a_stalled_reader_does_not_hold_back_the_end(brokers: str) -> None:
    publisher = Publisher(brokers)
    with (
        StreamService(brokers, SHOPSTREAM_DRAIN_SECONDS="1") as service,
        stalled_reader(service),
    ):
        wait_until(lambda: "connections 1.0" in service.get("/metrics").text, "it to be open")
        for _ in range(4):
            publisher.publish(*(an_event(subject=f"s{i}") for i in range(1_000)))
        wait_until(lambda: "records_total 4000.0" in service.get("/metrics").text, "all to be read")
        service.terminate()
        assert service.wait_exit(1 + 5) == 0


def test_a_broker_that_answers_nothing_does_not_hold_back_the_end(
    own_kafka: LocalComponents, brokers: str
) -> None:
    async def run(service: StreamService) -> None:
        stream = await (await service.connect()).opened()
        publisher.publish(event := an_event())
        await stream.got([event])
        own_kafka.pause("kafka")  # the commit of that event will never be answered
        replay = await service.connect("?since=0")
        service.terminate()
        await asyncio.gather(stream.to_end(), replay.to_end())

    publisher = Publisher(brokers)
    with StreamService(brokers, SHOPSTREAM_DRAIN_SECONDS="0") as service:
        asyncio.run(run(service))
        assert service.wait_exit(0 + 5) == 0


def test_sigterm_ends_an_idle_service_at_once(brokers: str) -> None:
    Publisher(brokers)
    with StreamService(brokers, SHOPSTREAM_DRAIN_SECONDS="60") as service:
        service.terminate()
        assert service.wait_exit(5) == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "no"),
        ("KAFKA_BROKERS", "nowhere"),
        ("AUTH_MODE", "required"),
        ("SHOPSTREAM_NOTIFICATIONS_WORKERS", "0"),
        ("SHOPSTREAM_DRAIN_SECONDS", "-1"),
    ],
)
def test_a_wrong_variable_is_one_line_and_exit_2(variable: str, value: str) -> None:
    program = Path(sys.executable).with_name("shopstream-notifications")
    ended = subprocess.run(
        [program],
        env={**machine_environ(), variable: value},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert variable in ended.stderr


def test_open_mode_refuses_another_address_than_loopback() -> None:
    program = Path(sys.executable).with_name("shopstream-notifications")
    environ = {**machine_environ(), "SHOPSTREAM_HOST": "0.0.0.0"}
    ended = subprocess.run([program], env=environ, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert b"SHOPSTREAM_OPEN_ON_ANY_ADDRESS" in ended.stderr


def test_operations_pages_answer(brokers: str) -> None:
    Publisher(brokers)
    with StreamService(brokers) as service:
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            assert service.get(path).status_code == 200
        body = service.get("/health").json()
        assert set(body) == {"status", "checks", "timestamp"}
        assert json.dumps(body["checks"]["kafka"]["status"]) == '"healthy"'
        assert httpx.get(f"{service.url}/health/ready", timeout=5).json()["status"] == "healthy"
