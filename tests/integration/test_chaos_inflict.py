"""A fault that cannot be made spoils the verdict and nothing else; what cannot be asked is said."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import pytest

from shopstream_shared.clock import SystemClock
from shopstream_stack import sinks
from shopstream_stack.chaos import probe
from shopstream_stack.chaos.acts import BY_HAND, Acts, Load
from shopstream_stack.chaos.faults.scene import Scene
from shopstream_stack.chaos.inflict import Inflict
from shopstream_stack.chaos.place import (
    OWN_PORTS,
    RELAYS,
    ROTATE_SECONDS,
    SECOND_ANALYTICS,
    Place,
    callers,
    chaos_settings,
)
from shopstream_stack.chaos.probe import LAG, PUBLISHED, STORED, Probe
from shopstream_stack.chaos.recovery import Recovery
from shopstream_stack.chaos.schedule import Fault
from shopstream_stack.chaos.settled import Settled, missing
from shopstream_stack.chaos.streams import Streams
from shopstream_stack.chaos.tail import Tail
from shopstream_stack.demo.crowd import Crowd
from shopstream_stack.errors import StackError
from shopstream_stack.ports import reserved_ports
from shopstream_stack.process import ProcessSpec
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Nothing of it is started: nobody listens on its ports."""
    with reserved_ports() as ports:
        settings = StackSettings.load({"SHOPSTREAM_DATA_DIR": str(tmp_path), "PATH": "/bin"})
        numbers = {name: ports.take() for name in OWN_PORTS}
        yield Place(System(chaos_settings(settings, ports)), numbers)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(probe, "LEADER_SECONDS_MAX", 0.1)


def asking(place: Place, counters: dict[str, list[int]]) -> Probe:
    """Each relay tells its next counter with each look, the last one for ever."""

    def answer(request: httpx.Request) -> httpx.Response:
        for name in RELAYS:
            if str(request.url).startswith(place.url(name)):
                told = counters[name]
                value = told.pop(0) if len(told) > 1 else told[0]
                return httpx.Response(
                    200, text=f"# TYPE {PUBLISHED} counter\n{PUBLISHED} {value}\n"
                )
        raise AssertionError(request.url)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Probe(place, Tail(place.brokers, SystemClock()), client, SystemClock())


def inflicted(place: Place, asked: Probe, fault: Fault) -> Recovery:
    scene = Scene(place, asked, Streams(Crowd([]), SystemClock()), 1.0)
    return asyncio.run(Inflict(scene, 0.0)(fault))


def test_the_leader_is_the_one_that_publishes(place: Place) -> None:
    asked = asking(place, {"api": [7], "relay": [3, 3, 4]})
    assert asyncio.run(asked.leader()) == "relay"


def test_with_nobody_publishing_no_leader_is_named(place: Place) -> None:
    with pytest.raises(StackError, match="no relay published"):
        asyncio.run(asking(place, {"api": [7], "relay": [3]}).leader())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(1.0, "stop", "leader"), "no relay published"),
        (Fault(1.0, "stop", "relay"), "no relay published"),
        (Fault(1.0, "database-terminate", "postgres"), "connection"),
        (Fault(1.0, "worker-kill", "archive"), "analytics has no worker archive"),
        (Fault(1.0, "worker-stop", "recent"), "analytics has no worker recent"),
        (Fault(1.0, "worker-terminate", "archive"), "analytics has no worker archive"),
        (Fault(1.0, "analytics-terminate", "analytics"), "analytics is not running"),
        (Fault(1.0, "store-stop", "minio", {"seconds": 0.0}), "minio is not running"),
        (Fault(1.0, "stream-kill", "stream-worker"), "notifications has no worker"),
        (Fault(1.0, "stream-stop", "stream-worker"), "notifications has no worker"),
        (Fault(1.0, "stream-terminate", "notifications"), "notifications is not running"),
    ],
    ids=lambda value: f"{value.kind} {value.target}" if isinstance(value, Fault) else "",
)
def test_a_fault_that_cannot_be_made_is_noted_and_the_run_goes_on(
    place: Place, fault: Fault, words: str
) -> None:
    found = inflicted(place, asking(place, {"api": [7], "relay": [3]}), fault)
    assert not found.holds
    assert words in found.wrong[0]
    assert found.target == fault.target


def test_what_is_missing_is_asked_again_when_the_database_does_not_answer(place: Place) -> None:
    tail = Tail(place.brokers, SystemClock())
    told = asyncio.run(missing(place, tail, []))
    assert told.startswith("the database does not tell")


def test_a_worker_stores_again_once_its_own_counter_has_grown_after_it_began_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between death and first report it has no series; another's growth says nothing of it."""
    monkeypatch.setattr(sinks, "nexts", lambda *_: {})
    told = [("archive", 40), ("recent", 41), ("archive", 3), ("archive", 3), ("archive", 4)]
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        worker, count = told[len(asked) - 1]
        line = f'{STORED}{{worker="{worker}"}} {count}'
        return httpx.Response(200, text=f"# TYPE {STORED} counter\n{line}\n")

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    looking = Probe(place, Tail(place.brokers, SystemClock()), client, SystemClock())
    assert asyncio.run(looking.stores("archive", time.monotonic(), 60.0)) is not None
    assert len(asked) == len(told)
    assert asked[0] == f"{place.url('analytics')}/metrics"


def test_a_worker_stores_only_when_its_store_has_all_that_was_published_of_every_partition(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the archive holds in memory is counted as taken in, whatever MinIO does."""
    orders, stock = ("shop.orders", 0), ("shop.inventory", 1)
    told: list[dict[tuple[str, int], int] | StackError] = [
        {orders: 4},
        StackError("MinIO is away"),
        {orders: 5, stock: 6},
        {orders: 9, stock: 6},
        {orders: 5, stock: 7},
    ]
    asked: list[str] = []

    def nexts(_: object, sink: str) -> dict[tuple[str, int], int]:
        asked.append(sink)
        now = told.pop(0)
        if isinstance(now, StackError):
            raise now
        return now

    counts = iter(range(10_000))

    def answer(_: httpx.Request) -> httpx.Response:
        line = f'{STORED}{{worker="archive"}} {next(counts)}'
        return httpx.Response(200, text=f"# TYPE {STORED} counter\n{line}\n")

    monkeypatch.setattr(sinks, "nexts", nexts)
    monkeypatch.setattr(probe, "CHECKPOINTS_POLL_SECONDS", 0.01)
    tail = Tail(place.brokers, SystemClock())
    tail.positions = {orders: 5, stock: 7}
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    looking = Probe(place, tail, client, SystemClock())
    assert asyncio.run(looking.stores("archive", time.monotonic(), 60.0)) is not None
    assert not told
    assert set(asked) == {"archive"}
    # One partition that lags for ever is no recovery.
    told += [{orders: 5}] * 10_000
    assert asyncio.run(looking.stores("archive", time.monotonic(), 0.3)) is None


def test_who_has_which_partitions_is_counted_a_worker_at_a_time(place: Place) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        counts = {"archive": told.pop(0), "recent": 9, "aggregates": 9}
        lines = [
            f'{LAG}{{worker="{worker}",topic="t",partition="{number}"}} 0'
            for worker, count in counts.items()
            for number in range(count)
        ]
        text = "\n".join([f"# TYPE {LAG} gauge", *lines, ""])
        return httpx.Response(200, text=text)

    told = [0, 0, 4, 4, 9]
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    looking = Probe(place, Tail(place.brokers, SystemClock()), client, SystemClock())

    async def ask() -> None:
        since = time.monotonic()
        assert await looking.has_partitions("analytics-2", "archive", since, 60.0) is not None
        assert told == [4, 9]
        assert await looking.has_all_partitions("analytics", since, 60.0) is not None
        assert not told

    asyncio.run(ask())


def test_a_second_analytics_service_has_a_name_and_a_port_of_its_own_and_the_same_links(
    place: Place,
) -> None:
    first, second = (place.spec(name).environ for name in ("analytics", SECOND_ANALYTICS))
    assert second["SHOPSTREAM_ANALYTICS_INSTANCE"] == SECOND_ANALYTICS
    assert "SHOPSTREAM_ANALYTICS_INSTANCE" not in first
    assert second["HEALTH_PORT"] == str(place.ports[SECOND_ANALYTICS]) != first["HEALTH_PORT"]
    assert second["DYNAMO_ENDPOINT"] == first["DYNAMO_ENDPOINT"]


def test_analytics_reaches_its_stores_over_links_and_everyone_else_directly(place: Place) -> None:
    ports = place.ports
    analytics = place.spec("analytics").environ
    assert analytics["DYNAMO_ENDPOINT"].endswith(f":{ports['analytics-dynamodb']}")
    assert analytics["MINIO_ENDPOINT"].endswith(f":{ports['analytics-minio']}")
    settings = place.system.settings
    assert place.links["analytics-dynamodb"].server_port == settings.dynamodb_port
    assert place.links["analytics-minio"].server_port == settings.minio_port


class Sleepers(Acts):
    """Its workers by hand only live."""

    def _by_hand(self, worker: str) -> ProcessSpec:
        return ProcessSpec(
            name=f"{worker}-by-hand",
            kind="service",
            argv=(sys.executable, "-c", "import time; time.sleep(600)"),
            environ={},
            ports=(),
            check=lambda: None,
        )


@pytest.mark.parametrize("ends", [StackError("refused"), KeyboardInterrupt(), TimeoutError()])
def test_an_act_that_ends_early_leaves_no_worker_behind_that_it_has_started(
    place: Place, ends: BaseException
) -> None:
    living: list[str] = []
    runner = place.system.runner

    @asynccontextmanager
    async def load() -> AsyncIterator[None]:
        living.extend(name for name in runner.names() if runner.living(name))
        if living:
            raise ends
        yield

    asked = asking(place, {"api": [7], "relay": [3]})
    tail = Tail(place.brokers, SystemClock())
    scene = Scene(place, asked, Streams(Crowd([]), SystemClock()), 1.0)
    act = Sleepers(scene, tail, Settled(place, tail, Crowd([])), cast("Load", load), 0.0)
    found: list[Any] = []
    with pytest.raises(KeyboardInterrupt) if isinstance(ends, KeyboardInterrupt) else nullcontext():
        found.append(asyncio.run(act("retention")))
    assert living == sorted(f"{name}-by-hand" for name in BY_HAND)
    assert runner.names() == []
    assert all(one.wrong for one in found)


def test_a_client_is_found_at_the_process_that_serves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0]:
            assert callers(psutil.Process(), port) == {client.getsockname()[1]}
        assert callers(psutil.Process(), 1) == set()


def test_a_worker_that_ended_by_itself_is_told_apart_from_those_that_a_fault_hit(
    place: Place,
) -> None:
    scene = Scene(
        place, asking(place, {"api": [7], "relay": [3]}), Streams(Crowd([]), SystemClock()), 1.0
    )
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as worker:
        scene.strike(worker.pid, signal.SIGKILL)
    lines = [
        {"event": "worker started", "worker": name, "worker_pid": pid}
        for name, pid in (("recent", worker.pid), ("archive", 1))
    ]
    lines += [
        {"event": "worker ended", "worker": name, "code": -9, "timestamp": "2026-05-04T03:02:01Z"}
        for name in ("recent", "archive")
    ]
    log = place.log_path("analytics")
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(map(json.dumps, lines)))
    told = "analytics: worker archive ended by itself, exit code -9"
    assert place.ended_workers(scene.meant) == [told]
    assert len(place.ended_workers()) == 2


def test_a_run_stores_files_soon_unless_it_is_told_when(tmp_path: Path) -> None:
    name = "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS"
    environ = {"SHOPSTREAM_DATA_DIR": str(tmp_path), "PATH": "/bin"}
    with reserved_ports() as ports:
        first = chaos_settings(StackSettings.load(environ), ports)
        told = chaos_settings(StackSettings.load({**environ, name: "1"}), ports)
    assert first.environ[name] == ROTATE_SECONDS
    assert told.environ[name] == "1"
