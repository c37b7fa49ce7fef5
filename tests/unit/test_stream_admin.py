"""What operators see and may end; the real hub, no socket and no broker."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr, ValidationError
from starlette.applications import Starlette
from tests.support.stream import PARTS, History, Replica, settle, simulate
from tests.support.system import wait_until

from shopstream_notifications import peers as peers_module
from shopstream_notifications import roster as roster_module
from shopstream_notifications import sampler as sampler_module
from shopstream_notifications.admin import PATH, Admin
from shopstream_notifications.client import Client
from shopstream_notifications.filters import Filter
from shopstream_notifications.limits import Limits, Place
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.peers import Peers, SilentPeer
from shopstream_notifications.pulse import Pulse
from shopstream_notifications.refusal import Refusals
from shopstream_notifications.roster import Roster, Wanted
from shopstream_notifications.sampler import Sampler
from shopstream_notifications.settings import NotificationsSettings
from shopstream_notifications.turns import Turns
from shopstream_notifications.wire import chunk
from shopstream_shared.clock import ManualClock, Uuid7Source

TOKEN = "a-token-of-some-length"
BEARER = {"authorization": f"Bearer {TOKEN}"}
PRODUCTS = PARTS[0]

Test = Callable[[Replica, httpx.AsyncClient], Awaitable[None]]


def replica() -> Replica:
    return Replica(History({part: [True] * 40 for part in PARTS}))


def pulse(replica: Replica) -> Pulse:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    return Pulse(replica.hub, clock, heartbeat_seconds=15)


def run(test: Test) -> None:
    async def whole() -> None:
        served = replica()
        peers = Peers(Roster(served.hub, pulse(served), os.getpid()), None)
        routes = Admin(peers, SecretStr(TOKEN), Uuid7Source()).routes()
        transport = httpx.ASGITransport(Starlette(routes=routes))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            await test(served, client)

    simulate(whole())


async def rows(operator: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await operator.get(PATH, params=query, headers=BEARER)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def seat(client: Client, address: str, principal: str = "") -> None:
    client.place, client.since = Place(address, address, principal), 1_767_225_600.0


def test_a_stream_is_shown_with_its_filter_place_policy_and_how_far_it_is() -> None:
    async def test(served: Replica, operator: httpx.AsyncClient) -> None:
        wanted = Filter(types=frozenset({"product.updated", "product.created"}), seller_id="s1")
        client, _ = await served.connect(wanted=wanted, policy="drop")
        seat(client, "192.0.2.1", "s1")
        assert await rows(operator) == [
            {
                "id": f"{os.getpid()}-{client.number}",
                "address": "192.0.2.1",
                "principal": "s1",
                "filter": {"types": ["product.created,product.updated"], "sellerId": ["s1"]},
                "policy": "drop",
                "state": "live",
                "lagRecords": 0,
                "bytesWaiting": 0,
                "since": "2026-01-01T00:00:00.000000Z",
            }
        ]

    run(test)


def test_a_slow_reader_is_shown_with_its_lag_and_sampled_with_its_bytes() -> None:
    async def test(served: Replica, operator: httpx.AsyncClient) -> None:
        _, socket = await served.connect(policy="drop")
        _, quick = await served.connect()
        socket.block()
        for stop in (1, 3, 7):
            served.read(PRODUCTS, stop)
            await settle()
        behind, live = await rows(operator)
        assert (behind["state"], behind["lagRecords"]) == ("behind", 6)
        assert (live["state"], live["lagRecords"]) == ("live", 0)
        log = served.hub.log
        assert log is not None
        # The chunk that found no room, and what came after it.
        first = len(chunk(b"x" * log.read(0, 1)[0].size))
        expected = first + sum(r.size for r in log.read(1, 7))
        assert behind["bytesWaiting"] == expected > 0
        limits = Limits(Refusals(served.hub.metrics), sockets_max=9, per_address=0, per_principal=0)
        limits.opened()
        Sampler(served.hub, limits, Turns(1, 1), end_late=lambda _now: None).look(0.0)
        metrics = served.hub.metrics
        assert metrics.waiting_bytes._value.get() == expected
        assert metrics.behind._value.get() == 1
        assert metrics.sockets._value.get() == 1
        assert len(quick.data) == 7

    run(test)


def test_streams_are_found_by_what_they_are() -> None:
    async def test(served: Replica, operator: httpx.AsyncClient) -> None:
        first, _ = await served.connect(wanted=Filter(seller_id="s1"), policy="latest")
        second, _ = await served.connect(wanted=Filter(types=frozenset({"order.paid"})))
        third, _ = await served.connect(wanted=Filter(subject="p1"))
        for client, address, principal in (
            (first, "192.0.2.1", "a"),
            (second, "192.0.2.2", "b"),
            (third, "192.0.2.1", ""),
        ):
            seat(client, address, principal)

        async def numbers(**query: str) -> list[int]:
            return [int(row["id"].partition("-")[2]) for row in await rows(operator, **query)]

        assert await numbers(sellerId="s1") == [first.number]
        assert await numbers(policy="latest") == [first.number]
        assert await numbers(subject="p1") == [third.number]
        assert await numbers(address="192.0.2.1") == [first.number, third.number]
        assert await numbers(principal="b") == [second.number]
        assert await numbers(type="order.paid") == [first.number, second.number, third.number]
        assert await numbers(type="product.created") == [first.number, third.number]
        assert await numbers(state="behind") == []

    run(test)


@pytest.mark.parametrize("scan_max", [5_000, 3])
def test_pages_are_complete_and_bounded_and_never_overlap(
    scan_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster_module, "SCAN_MAX", scan_max)

    async def test(served: Replica, operator: httpx.AsyncClient) -> None:
        for number in range(11):
            await served.connect(policy="drop" if number % 3 == 0 else "resume")
        seen: list[str] = []
        query: dict[str, str] | None = {"limit": "2", "policy": "drop"}
        pages = 0
        while query is not None:
            answer = (await operator.get(PATH, params=query, headers=BEARER)).json()
            assert len(answer["data"]) <= 2
            seen += [row["id"].partition("-")[2] for row in answer["data"]]
            pages += 1
            query = {**query, "cursor": answer["nextCursor"]} if answer["hasMore"] else None
        assert seen == ["1", "4", "7", "10"]
        assert pages <= 5

    run(test)


def test_a_stream_that_is_kicked_says_goodbye_and_is_counted_as_that() -> None:
    async def test(served: Replica, operator: httpx.AsyncClient) -> None:
        _, socket = await served.connect()
        _, other = await served.connect()
        (row, _) = await rows(operator)
        answer = await operator.delete(f"{PATH}/{row['id']}", headers=BEARER)
        assert (answer.status_code, answer.content) == (204, b"")
        assert len(socket.named("stream.goodbye")) == 1
        assert socket.closed
        assert not other.closed
        kicked = served.hub.metrics.closed.labels("kicked")
        assert kicked._value.get() == 1
        again = await operator.delete(f"{PATH}/{row['id']}", headers=BEARER)
        assert again.status_code == 404
        assert again.headers["content-type"] == "application/problem+json"

    run(test)


@pytest.mark.parametrize(
    "unknown",
    ["1", "0-1", "x-1", "1-x", pytest.param(f"{os.getpid()}-99", id="of this process"), "%20"],
)
def test_an_id_of_nobody_is_not_found(unknown: str) -> None:
    async def test(served: Replica, operator: httpx.AsyncClient) -> None:
        await served.connect()
        answer = await operator.delete(f"{PATH}/{unknown}", headers=BEARER)
        assert answer.status_code == 404
        assert len(served.hub.clients) == 1

    run(test)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        TOKEN,
        "Bearer",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        "Bearer \xe9",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_without_the_token_nothing_is_shown_and_nothing_ended(
    method: str, authorization: str | None
) -> None:
    async def test(served: Replica, operator: httpx.AsyncClient) -> None:
        client, _ = await served.connect()
        path = PATH if method == "GET" else f"{PATH}/{os.getpid()}-{client.number}"
        text = None if authorization is None else authorization.encode("latin-1")
        given = {} if text is None else {b"authorization": text}
        answer = await operator.request(method, path, headers=given)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "unauthenticated"
        assert served.hub.clients

    run(test)


def test_e22_a_token_in_the_query_is_refused_even_beside_a_good_one() -> None:
    async def test(_served: Replica, operator: httpx.AsyncClient) -> None:
        answer = await operator.get(f"{PATH}?access_token={TOKEN}", headers=BEARER)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == "/access_token"
        assert TOKEN not in answer.text

    run(test)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "cursor=-1",
        "cursor=7",
        "policy=x",
        "state=x",
        "type=product.nope",
        "type=product.*",
        "cursor=1-" + "9" * 30,
    ],
)
def test_a_wrong_parameter_is_named(query: str) -> None:
    async def test(_served: Replica, operator: httpx.AsyncClient) -> None:
        answer = await operator.get(f"{PATH}?{query}", headers=BEARER)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == "/" + query.partition("=")[0]

    run(test)


async def workers_of_one_port(folder: Path) -> tuple[list[Replica], list[Peers]]:
    """Two processes' worth, each answering the other, and with five streams."""
    replicas, peers = [replica(), replica()], []
    for number, served in enumerate(replicas, 1):
        peers.append(Peers(Roster(served.hub, pulse(served), number), folder))
        for _ in range(5):
            await served.connect()
    return replicas, peers


def among(
    test: Callable[[list[Replica], list[Peers], httpx.AsyncClient], Awaitable[None]], folder: Path
) -> None:
    async def whole() -> None:
        replicas, peers = await workers_of_one_port(folder)
        tasks = [asyncio.create_task(peer.run()) for peer in peers]
        await asyncio.to_thread(
            wait_until, lambda: len(peers[0].workers()) == 2, "both to be there"
        )
        app = Starlette(routes=Admin(peers[0], SecretStr(TOKEN), Uuid7Source()).routes())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as operator:
            await test(replicas, peers, operator)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(whole())


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 9, 10, 100])
def test_whichever_worker_is_asked_shows_the_streams_of_all(limit: int, tmp_path: Path) -> None:
    async def test(
        _replicas: list[Replica], _peers: list[Peers], operator: httpx.AsyncClient
    ) -> None:
        seen: list[str] = []
        query: dict[str, Any] | None = {"limit": limit}
        while query is not None:
            answer = (await operator.get(PATH, params=query, headers=BEARER)).json()
            assert len(answer["data"]) <= limit
            assert answer["silentWorkers"] == []
            seen += [row["id"] for row in answer["data"]]
            query = {**query, "cursor": answer["nextCursor"]} if answer["hasMore"] else None
        assert seen == [f"{worker}-{number}" for worker in (1, 2) for number in range(1, 6)]

    among(test, tmp_path)


def test_a_stream_of_another_worker_is_ended_and_only_that(tmp_path: Path) -> None:
    async def test(
        replicas: list[Replica], peers: list[Peers], operator: httpx.AsyncClient
    ) -> None:
        assert (await operator.delete(f"{PATH}/2-3", headers=BEARER)).status_code == 204
        assert sorted(replicas[1].hub.clients) == [1, 2, 4, 5]
        assert len(replicas[0].hub.clients) == 5
        assert (await operator.delete(f"{PATH}/2-3", headers=BEARER)).status_code == 404
        assert (await operator.delete(f"{PATH}/3-3", headers=BEARER)).status_code == 404
        assert (await peers[1].page(1, Wanted(limit=2))).more is True

    among(test, tmp_path)


def test_a_worker_that_is_gone_is_left_out_and_one_that_hangs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "ANSWER_SECONDS_MAX", 0.1)

    async def test(
        _replicas: list[Replica], peers: list[Peers], operator: httpx.AsyncClient
    ) -> None:
        with (
            socket.socket(socket.AF_UNIX) as dead,
            socket.socket(socket.AF_UNIX) as hanging,
        ):
            dead.bind(str(tmp_path / "roster-8"))
            hanging.bind(str(tmp_path / "roster-9"))
            hanging.listen()
            answer = (await operator.get(PATH, headers=BEARER)).json()
            assert len(answer["data"]) == 10
            assert answer["silentWorkers"] == [9]
            kicked = await operator.delete(f"{PATH}/9-1", headers=BEARER)
            assert (kicked.status_code, kicked.json()["code"]) == (503, "unavailable")
            assert (await operator.delete(f"{PATH}/8-1", headers=BEARER)).status_code == 404
            with pytest.raises(SilentPeer):
                await peers[1].end(9, 1)

    among(test, tmp_path)


def test_a_worker_leaves_no_socket_of_its_own_behind(tmp_path: Path) -> None:
    async def test(
        _replicas: list[Replica], peers: list[Peers], _operator: httpx.AsyncClient
    ) -> None:
        assert peers[0].workers() == [1, 2]

    among(test, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_too_long_a_name_costs_the_view_and_not_the_streams(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    served = replica()
    peers = Peers(Roster(served.hub, pulse(served), 1), folder)
    asyncio.run(asyncio.wait_for(peers.run(), 20))
    assert peers.workers() == [1]


@pytest.mark.parametrize("token", ["short", "fifteen-letters", "with white space in it", "é" * 20])
def test_a_token_that_is_easy_to_guess_or_cannot_be_sent_is_refused(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_ADMIN_TOKEN", token)
    with pytest.raises(ValidationError, match="SHOPSTREAM_ADMIN_TOKEN") as refused:
        NotificationsSettings.read()
    assert token not in str(refused.value)


def test_the_loops_lateness_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "LAG_SECONDS", 0.01)

    async def whole() -> None:
        served = replica()
        limits = Limits(Refusals(served.hub.metrics), sockets_max=9, per_address=0, per_principal=0)
        looked = asyncio.Event()
        sampler = Sampler(served.hub, limits, Turns(1, 1), end_late=lambda _now: looked.set())
        task = asyncio.create_task(sampler.run())
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 - it is what the sampler has to find
        await asyncio.wait_for(looked.wait(), 20)
        task.cancel()
        assert served.hub.metrics.loop_lag._sum.get() > 0.15
        assert sum(bucket.get() for bucket in served.hub.metrics.loop_lag._buckets) >= 8

    asyncio.run(whole())


def test_metrics_can_be_summed_over_processes() -> None:
    """A gauge without a mode would show one series a process id, for ever."""
    metrics = Metrics(CollectorRegistry())
    gauges = [m for m in vars(metrics).values() if type(m).__name__ == "Gauge"]
    assert len(gauges) >= 7
    assert {gauge._multiprocess_mode for gauge in gauges} <= {"livesum", "livemax"}
