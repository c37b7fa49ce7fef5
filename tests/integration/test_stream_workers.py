"""Several workers behind one port: each complete, one sum, and what happens when they end."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition
from tests.support.components import LocalComponents
from tests.support.fleet import Fleet, Log
from tests.support.stream_service import Publisher, StreamService, an_event
from tests.support.system import wait_until

from shopstream_notifications.life import Orders
from shopstream_notifications.parent import Parent
from shopstream_notifications.run_dir import PREFIX, RunDir, run_dir
from shopstream_notifications.settings import NotificationsSettings
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_shared.web import reserve
from shopstream_stack import status

WORKERS = 2
TOKEN = "token-of-the-operator"
CLIENTS = 40


@pytest.fixture(scope="module")
def brokers(session_components: LocalComponents) -> str:
    return session_components.kafka_brokers


@pytest.fixture(scope="module")
def publisher(brokers: str) -> Publisher:
    return Publisher(brokers)


@pytest.fixture(scope="module")
def running(brokers: str, publisher: Publisher) -> Iterator[StreamService]:
    with StreamService(
        brokers, SHOPSTREAM_NOTIFICATIONS_WORKERS=str(WORKERS), SHOPSTREAM_ADMIN_TOKEN=TOKEN
    ) as service:
        yield service


@pytest.fixture
def service(running: StreamService) -> StreamService:
    """Both workers serve; a test may end what it likes."""
    if running.process.poll() is not None:
        running.start()
    wait_until(lambda: "2 of 2" in answer_of_workers(running), "both workers to serve")
    return running


def answer_of_workers(service: StreamService) -> str:
    message: str = service.get("/health").json()["checks"]["workers"]["message"]
    return message


def workers(service: StreamService) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


def listeners(port: int) -> set[int | None]:
    """The processes that listen on the port."""
    return {
        found.pid
        for found in psutil.net_connections(kind="tcp")
        if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
    }


def connections_of(worker: psutil.Process, port: int) -> int:
    return sum(
        found.status == psutil.CONN_ESTABLISHED and found.laddr.port == port
        for found in worker.net_connections(kind="tcp")
    )


def metric(service: StreamService, name: str) -> float:
    found = re.search(
        rf"^shopstream_stream_{name} (\S+)$", service.get("/metrics").text, re.MULTILINE
    )
    assert found is not None, name
    return float(found[1])


def turns(service: StreamService) -> list[int]:
    """The slots of the workers that took the turn to commit, one after the other."""
    lines = [line for line in service.log().splitlines() if "stream.commits_for_group" in line]
    return [int(re.findall(r"notifications-(\d+)", line)[0]) for line in lines]


def test_e01_each_worker_reads_all_itself_on_the_one_port_and_one_commits(
    service: StreamService, publisher: Publisher, brokers: str
) -> None:
    async def run() -> None:
        streams = [await (await service.connect()).opened() for _ in range(16)]
        assert all(connections_of(worker, service.port) for worker in workers(service))
        events = [an_event(subject=f"s{number}") for number in range(20)]
        await asyncio.to_thread(publisher.publish, *events)
        for stream in streams:
            await stream.got(events)
            stream.cut()

    asyncio.run(run())
    assert listeners(service.port) == {worker.pid for worker in workers(service)}
    wait_until(lambda: stands_at_the_end(brokers), "the group to stand at the end", seconds_max=20)


def test_status_counts_the_parent_and_its_workers_and_sums_their_memory(
    service: StreamService,
) -> None:
    processes, memory = status.family(service.process.pid)
    assert processes == 1 + WORKERS
    alone = [status.family(worker.pid) for worker in workers(service)]
    assert all(count == 1 for count, _ in alone)
    # What they share is counted in parts, which move; the parent's own is the rest.
    assert memory is not None
    assert memory > sum(size for _, size in alone if size is not None)


def stands_at_the_end(brokers: str) -> bool:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "notifications-service"})
    parts = [TopicPartition(topic, p) for topic in STREAM_TOPICS for p in range(3)]
    try:
        committed = [part.offset for part in consumer.committed(parts, timeout=10)]
        return committed == [consumer.get_watermark_offsets(p, timeout=10)[1] for p in parts]
    finally:
        consumer.close()


def test_any_worker_answers_for_all_in_health_and_metrics(service: StreamService) -> None:
    async def run() -> None:
        before = metric(service, "opened_total")
        streams = [await (await service.connect()).opened() for _ in range(16)]
        own = {connections_of(worker, service.port) for worker in workers(service)}
        assert 16 not in own, "both have some of them"
        # Each question is a connection of its own, which the kernel gives to one or the other.
        for _ in range(12):
            assert metric(service, "connections") == 16
            assert metric(service, "opened_total") == before + 16
        wait_until(lambda: answer_of_workers(service) == "2 of 2 serve, 16 streams", "the sum")
        assert {answer_of_workers(service) for _ in range(12)} == {"2 of 2 serve, 16 streams"}
        for stream in streams:
            stream.cut()

    asyncio.run(run())
    wait_until(lambda: metric(service, "connections") == 0, "the streams to be gone")


def test_any_worker_shows_and_ends_the_streams_of_all(service: StreamService) -> None:
    operator = {"Authorization": f"Bearer {TOKEN}"}

    def shown() -> list[str]:
        answer = service.get("/admin/clients", headers=operator).json()
        assert answer["silentWorkers"] == []
        return [row["id"] for row in answer["data"]]

    async def run() -> None:
        streams = [await (await service.connect()).opened() for _ in range(16)]
        ids = shown()
        assert {int(one.partition("-")[0]) for one in ids} == {w.pid for w in workers(service)}
        assert len(ids) == len(streams)
        for one in ids:
            url = f"{service.url}/admin/clients/{one}"
            ended = await asyncio.to_thread(httpx.delete, url, headers=operator, timeout=10)
            assert ended.status_code == 204
        for stream in streams:
            await stream.to_end()
            assert len(stream.named("stream.goodbye")) == 1
        assert shown() == []

    asyncio.run(run())


def test_a_killed_worker_costs_no_event_and_another_takes_its_turn_and_its_seat(
    service: StreamService, publisher: Publisher, brokers: str
) -> None:
    taken = turns(service)
    victim = next(w for w in workers(service) if w.cmdline()[-3] == str(taken[-1]))

    async def run() -> None:
        log = Log(brokers)
        async with Fleet(f"{service.url}/events/stream", CLIENTS) as fleet:
            await asyncio.to_thread(publisher.publish, *(an_event() for _ in range(20)))
            opened = metric(service, "opened_total")
            victim.kill()
            await asyncio.to_thread(publisher.publish, *(an_event() for _ in range(20)))
            await fleet.complete(40, seconds_max=60)
            verdict = fleet.verdict(log.marks())
            assert verdict.holds, verdict
            assert 0 < verdict.reconnects < CLIENTS, "the other worker's streams stayed"
            # Whoever answers: what the dead one has counted is not lost, what it held is gone.
            assert metric(service, "opened_total") >= opened + verdict.reconnects
            assert metric(service, "connections") == CLIENTS

    asyncio.run(run())
    assert victim.pid not in {worker.pid for worker in workers(service)}
    # Either the other worker, or the one that has the dead one's slot.
    wait_until(lambda: len(turns(service)) > len(taken), "another to commit")
    wait_until(lambda: stands_at_the_end(brokers), "the group to stand at the end", seconds_max=20)


def test_e23_a_rolling_restart_with_clients_loses_nothing_and_spreads_their_return(
    service: StreamService, publisher: Publisher, brokers: str
) -> None:
    before = {worker.pid for worker in workers(service)}
    ends = service.log().count("stream.rolling_restart_done")

    def is_done() -> bool:
        return service.log().count("stream.rolling_restart_done") > ends

    async def run() -> None:
        log = Log(brokers)
        async with Fleet(f"{service.url}/events/stream", CLIENTS) as fleet:
            service.process.send_signal(signal.SIGHUP)
            published = 0
            while not is_done():
                answer = service.get("/health")
                assert answer.status_code == 200, answer.text
                await asyncio.to_thread(publisher.publish, an_event())
                published += 1
            await fleet.complete(published, seconds_max=60)
            verdict = fleet.verdict(log.marks())
            assert verdict.holds, verdict
            assert verdict.reconnects >= CLIENTS, "each had to move"

    asyncio.run(run())
    after = {worker.pid for worker in workers(service)}
    assert len(after) == WORKERS
    assert not before & after
    assert "did not end" not in service.log()


def test_sigterm_drains_all_workers_at_once_and_ends_with_zero(service: StreamService) -> None:
    async def run() -> None:
        streams = [await (await service.connect()).opened() for _ in range(10)]
        service.terminate()
        await asyncio.gather(*(stream.to_end() for stream in streams))
        goodbyes = [stream.named("stream.goodbye") for stream in streams]
        assert all(len(goodbye) == 1 for goodbye in goodbyes)
        assert len({goodbye[0]["retryMs"] for goodbye in goodbyes}) > 1

    asyncio.run(run())
    assert service.wait_exit(1 + 5) == 0
    assert listeners(service.port) == set()


def test_workers_whose_parent_was_killed_say_goodbye_and_leave_nothing(
    service: StreamService,
) -> None:
    orphans = workers(service)
    folders = {Path(worker.cmdline()[-2]) for worker in orphans}
    assert len(folders) == 1

    async def run() -> None:
        streams = [await (await service.connect()).opened() for _ in range(4)]
        service.process.kill()
        await asyncio.gather(*(stream.to_end() for stream in streams))
        assert all(stream.named("stream.goodbye") for stream in streams)

    asyncio.run(run())
    _, alive = psutil.wait_procs(orphans, timeout=10)
    assert alive == []
    assert listeners(service.port) == set()
    assert not any(folder.exists() for folder in folders)


def test_without_a_broker_the_workers_answer_with_the_reason_within_15_seconds() -> None:
    away = StreamService(
        "127.0.0.1:1", healthy=False, SHOPSTREAM_NOTIFICATIONS_WORKERS=str(WORKERS)
    )
    with away:
        checks = away.wait_health(503, seconds_max=45).json()["checks"]
        assert checks["kafka"]["status"] == checks["workers"]["status"] == "unhealthy"
        wait_until(lambda: "kafka: broker" in answer_of_workers(away), "the reason")
        assert away.get("/health/live").status_code == 200
        away.terminate()
        assert away.wait_exit(1 + 5) == 0


def test_a_worker_that_hangs_is_killed_and_replaced(brokers: str, publisher: Publisher) -> None:
    async def run(port: int) -> None:
        environ = {
            "PORT": str(port),
            "KAFKA_BROKERS": brokers,
            "SHOPSTREAM_DRAIN_SECONDS": "0",
            "SHOPSTREAM_NOTIFICATIONS_WORKERS": str(WORKERS),
        }
        orders = Orders(environ=tuple(environ.items()), silent_seconds_max=3.0)
        with run_dir() as folder:
            parent = Parent(NotificationsSettings.model_validate(environ), folder, orders)
            running = asyncio.create_task(parent.run())
            try:
                hanging, other = await all_serve(parent)
                os.kill(hanging, signal.SIGSTOP)
                await asyncio.to_thread(wait_until, lambda: hanging not in pids(parent), "its end")
                assert other in await all_serve(parent)
            finally:
                parent.stop()
                await asyncio.wait_for(running, 5)

    def pids(parent: Parent) -> list[int]:
        return [member.pid for member in parent.picture().members]

    async def all_serve(parent: Parent) -> list[int]:
        def both() -> bool:
            return [m.state for m in parent.picture().members] == ["serving"] * WORKERS

        await asyncio.to_thread(wait_until, both, "both to serve")
        return pids(parent)

    with reserve("127.0.0.1", 0) as held:
        asyncio.run(run(held.getsockname()[1]))


def test_a_port_on_which_another_listens_is_not_joined(
    service: StreamService, brokers: str
) -> None:
    other = StreamService(
        brokers, healthy=False, SHOPSTREAM_NOTIFICATIONS_WORKERS="2", PORT=str(service.port)
    )
    with other:
        assert other.wait_exit() == 2
        assert f"cannot listen on 127.0.0.1:{service.port}" in other.log()


def test_what_a_killed_parent_left_is_removed_by_the_next_once_nobody_uses_it() -> None:
    left = RunDir(Path(tempfile.mkdtemp(prefix=PREFIX.format(uid=os.getuid()))))
    (left.path / "owner").touch()
    (left.path / "workers").touch()
    with left.used_by_worker():
        with run_dir():
            assert left.path.exists(), "an orphan still writes there"
        (left.path / "owner").rename(left.path / "just-made")
    with run_dir() as first:
        assert left.path.exists(), "one without an owner yet is just being made"
        (left.path / "just-made").rename(left.path / "owner")
        with run_dir():
            assert first.metrics.is_dir(), "of a living parent nothing is removed"
    assert not left.path.exists()
    assert not first.path.exists()


def test_e12_whoever_the_kernel_has_accepted_gets_a_goodbye_and_no_reset(
    brokers: str, publisher: Publisher
) -> None:
    request = b"GET /events/stream HTTP/1.1\r\nHost: x\r\n\r\n"
    with StreamService(brokers) as service, contextlib.ExitStack() as open_sockets:
        service.process.send_signal(signal.SIGSTOP)
        queued = [
            open_sockets.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            for _ in range(100)
        ]
        for one in queued:
            one.sendall(request)
        service.terminate()
        service.process.send_signal(signal.SIGCONT)
        answers = [read_all(one) for one in queued]
        assert service.wait_exit(1 + 5) == 0
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert all(answer.count(b"event: stream.goodbye") == 1 for answer in answers)


def read_all(connection: socket.socket) -> bytes:
    connection.settimeout(20)
    answer = b""
    while chunk := connection.recv(65_536):
        answer += chunk
    return answer
