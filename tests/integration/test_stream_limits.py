"""Limits, refusals and dead sockets of the notifications service, on a real broker and real TCP."""

import asyncio
import contextlib
import ctypes
import re
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from tests.support.components import LocalComponents
from tests.support.stream_service import Publisher, Stream, StreamService, an_event
from tests.support.system import wait_until

PER_ADDRESS: Final = 3
PER_PRINCIPAL: Final = 2
DEAD_SECONDS: Final = 2
#: <asm/socket.h>: not in Python's socket module.
SO_ATTACH_FILTER: Final = 26
#: After a cut the service may take a moment to see it.
SECONDS_MAX: Final = 20.0
TOKEN: Final = "token-of-the-operator"


@pytest.fixture(scope="module")
def brokers(session_components: LocalComponents) -> str:
    return session_components.kafka_brokers


@pytest.fixture(scope="module")
def publisher(brokers: str) -> Publisher:
    return Publisher(brokers)


@pytest.fixture(scope="module")
def service(brokers: str, publisher: Publisher) -> Iterator[StreamService]:
    with StreamService(
        brokers,
        SHOPSTREAM_HEARTBEAT_SECONDS="0.5",
        SHOPSTREAM_STREAM_DEAD_SECONDS=str(DEAD_SECONDS),
        SHOPSTREAM_STREAM_CLIENTS_PER_ADDRESS=str(PER_ADDRESS),
        SHOPSTREAM_STREAM_CLIENTS_PER_PRINCIPAL=str(PER_PRINCIPAL),
        SHOPSTREAM_STREAM_CLIENT_BYTES="65536",
        SHOPSTREAM_TRUSTED_PROXIES="127.0.0.0/8",
        SHOPSTREAM_ADMIN_TOKEN=TOKEN,
    ) as service:
        yield service


@pytest.fixture(scope="module", autouse=True)
def half_a_request(service: StreamService) -> Iterator[socket.socket]:
    """Open from the first test on, so that its time is over by the last."""
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(b"GET /events/stream HTTP/1.1\r\nHost: x\r\n")
        yield client


def metric(service: StreamService, name: str) -> float:
    """The value of one series, 0 when there is none yet."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", service.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def descriptors(service: StreamService) -> int:
    """Open file descriptors of the process: what the kernel says, not what we count."""
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def request(service: StreamService, *headers: str) -> socket.socket:
    """A plain TCP client that has asked for the stream."""
    client = socket.create_connection(("127.0.0.1", service.port))
    client.settimeout(10)
    lines = ["GET /events/stream HTTP/1.1", "Host: x", *headers, "", ""]
    client.sendall("\r\n".join(lines).encode())
    return client


def drop_all_that_arrives(client: socket.socket) -> None:
    """As if the cable were cut: the kernel drops every packet before TCP sees it, unanswered."""
    refuse = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
    program = struct.pack("HP", 1, ctypes.addressof(refuse))
    client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def gone(service: StreamService) -> float:
    """Streams of readers that took nothing: at their bound of bytes, or at the kernel's of time."""
    reasons = ("slow", "dead")
    return sum(
        metric(service, f'shopstream_stream_closed_total{{reason="{reason}"}}')
        for reason in reasons
    )


def from_address(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def refused(service: StreamService, headers: dict[str, str]) -> Stream:
    """A stream that is refused, read to its end."""
    stream = await service.connect(headers=headers)
    await stream.to_end()
    return stream


def test_e08_a_refusal_is_a_stream_that_event_source_survives(service: StreamService) -> None:
    async def run() -> None:
        caller = {"X-Seller-Id": "busy", **from_address("203.0.113.8")}
        streams = [await (await service.connect(headers=caller)).opened() for _ in range(2)]
        before = metric(service, 'shopstream_stream_refused_total{reason="principal"}')
        stream = await refused(service, caller)
        # A 429 or a 503 would end the page's EventSource for ever.
        assert stream.connection.status == 200
        assert stream.connection.headers["content-type"].startswith("text/event-stream")
        (told,) = stream.named("stream.refused")
        assert told["reason"] == "principal"
        assert 10_000 <= told["retryMs"] <= 60_000
        assert stream.connection.parser.retry_ms == told["retryMs"]
        assert stream.named("stream.open") == []
        assert [event.id for event in stream.events] == [""]
        assert metric(service, 'shopstream_stream_refused_total{reason="principal"}') == before + 1
        for open_stream in streams:
            open_stream.cut()

    asyncio.run(run())


def test_e08_who_was_refused_is_let_in_when_a_socket_is_gone(service: StreamService) -> None:
    async def run() -> None:
        caller = from_address("203.0.113.9")
        streams = [await (await service.connect(headers=caller)).opened() for _ in range(3)]
        assert (await refused(service, caller)).named("stream.refused")[0]["reason"] == "address"
        # Others are none of its business.
        other = await (await service.connect(headers=from_address("203.0.113.10"))).opened()
        sockets = descriptors(service)
        streams.pop().cut()
        await asyncio.to_thread(
            wait_until, lambda: descriptors(service) < sockets, "the socket to be gone"
        )
        streams.append(await (await service.connect(headers=caller)).opened())
        for stream in (*streams, other):
            stream.cut()

    asyncio.run(run())


def test_only_the_last_address_that_no_trusted_proxy_wrote_is_counted(
    service: StreamService,
) -> None:
    async def run() -> None:
        streams = []
        for number in range(PER_ADDRESS):
            # The caller writes the first of them itself.
            caller = from_address(f"198.51.100.{number}, 203.0.113.11, 127.0.0.9")
            streams.append(await (await service.connect(headers=caller)).opened())
        stream = await refused(service, from_address("203.0.113.11"))
        assert stream.named("stream.refused")[0]["reason"] == "address"
        for open_stream in streams:
            open_stream.cut()

    asyncio.run(run())


def test_e13_stalled_and_refused_streams_leave_no_socket_behind(
    service: StreamService, publisher: Publisher
) -> None:
    """Without their own end these sockets would stay until their peers leave, who never do."""
    refused = 'shopstream_stream_refused_total{reason="address"}'
    refused_before, gone_before = metric(service, refused), gone(service)
    before = descriptors(service)
    stalled = [
        request(service, "X-Forwarded-For: 192.0.2.1"),
        request(service, "X-Forwarded-For: 192.0.2.2"),
        # Three more than that address may have; these read nothing either.
        *(request(service, "X-Forwarded-For: 192.0.2.3") for _ in range(6)),
    ]
    with contextlib.ExitStack() as stack:
        for client in stalled:
            stack.enter_context(client)
        wait_until(lambda: metric(service, refused) == refused_before + 3, "three to be refused")
        # Not exactly: a connection of ours, kept alive when they were counted, may have ended.
        wait_until(lambda: descriptors(service) <= before + 5, "refused sockets to be closed")
        for _ in range(6):
            publisher.publish(*(an_event(subject=f"s{i}") for i in range(1_000)))
        wait_until(
            lambda: descriptors(service) <= before,
            "the sockets of stalled readers to be gone while their peers still hold them",
            seconds_max=SECONDS_MAX,
        )
    assert gone(service) >= gone_before + 5


def test_e14_half_open_client_is_found_by_the_heartbeat_and_dropped_with_its_socket(
    service: StreamService,
) -> None:
    dead = 'shopstream_stream_closed_total{reason="dead"}'
    before, dead_before = descriptors(service), metric(service, dead)
    client = request(service, "X-Forwarded-For: 192.0.2.14")
    with client:
        while b"stream.open" not in client.recv(4_096):
            pass
        drop_all_that_arrives(client)
        cut_at = time.monotonic()
        wait_until(
            lambda: descriptors(service) <= before,
            "the half-open socket to be dropped",
            seconds_max=SECONDS_MAX,
        )
        # Three times the bound: the next heartbeat, the kernel's patience, its coarse timer.
        assert time.monotonic() - cut_at < 3 * (0.5 + DEAD_SECONDS + 1)
        wait_until(lambda: metric(service, dead) == dead_before + 1, "it to be counted as dead")


def test_e21_proxies_are_told_to_buffer_nothing_whatever_the_answer(
    service: StreamService,
) -> None:
    async def run() -> None:
        caller = {"X-Seller-Id": "proxied", **from_address("203.0.113.21")}
        opened = [await (await service.connect(headers=caller)).opened() for _ in range(2)]
        full = await refused(service, caller)
        head = await asyncio.to_thread(httpx.head, f"{service.url}/events/stream", timeout=10)
        for headers in (opened[0].connection.headers, full.connection.headers, head.headers):
            assert headers["cache-control"] == "no-store, no-transform"
            assert headers["x-accel-buffering"] == "no"
            assert "connection" not in headers, "it is of HTTP/1.1 alone"
        for stream in opened:
            stream.cut()

    asyncio.run(run())


def test_e22_a_token_in_the_url_is_refused_and_never_logged(service: StreamService) -> None:
    answer = service.get("/events/stream?access_token=very-secret-value")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/access_token"
    assert "very-secret-value" not in answer.text
    assert "very-secret-value" not in service.log()


def test_an_operator_finds_a_stream_and_ends_it_and_its_socket(service: StreamService) -> None:
    async def run() -> None:
        before = descriptors(service)
        caller = {"X-Seller-Id": "seen", **from_address("2001:db8::7")}
        stream = await (await service.connect("?types=order.*", headers=caller)).opened()
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        answer = service.get("/admin/clients?principal=seen&address=2001:db8::/64", headers=bearer)
        (row,) = answer.json()["data"]
        assert (row["address"], row["state"], row["policy"]) == ("2001:db8::7", "live", "resume")
        assert "order.created" in row["filter"]["types"][0]
        assert service.get("/admin/clients").status_code == 401
        url = f"{service.url}/admin/clients/{row['id']}"
        kicked = await asyncio.to_thread(httpx.delete, url, headers=bearer, timeout=10)
        assert kicked.status_code == 204
        await stream.to_end()
        assert len(stream.named("stream.goodbye")) == 1
        assert metric(service, 'shopstream_stream_closed_total{reason="kicked"}') == 1
        await asyncio.to_thread(
            wait_until, lambda: descriptors(service) <= before, "its socket to be gone"
        )
        assert TOKEN not in service.log()

    asyncio.run(run())


def test_a_principal_that_is_no_name_is_refused(service: StreamService) -> None:
    answer = service.get("/events/stream", headers={"X-Seller-Id": "not a name"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/X-Seller-Id"


def test_a_socket_that_never_asks_is_closed(half_a_request: socket.socket) -> None:
    """Slow heads would hold sockets that no limit on streams can see."""
    half_a_request.settimeout(SECONDS_MAX)
    with contextlib.suppress(ConnectionResetError):
        assert half_a_request.recv(1) == b""


def test_all_sockets_of_the_process_are_bounded_and_operators_are_still_answered(
    brokers: str, publisher: Publisher
) -> None:
    async def run(service: StreamService) -> None:
        streams = [await (await service.connect()).opened() for _ in range(4)]
        assert (await refused(service, {})).named("stream.refused")[0]["reason"] == "server"
        assert service.get("/health").status_code == 200
        # Without a token in the settings there is nothing to guard.
        assert service.get("/admin/clients").status_code == 404
        for stream in streams:
            stream.cut()

    with StreamService(brokers, SHOPSTREAM_STREAM_CLIENTS_MAX="4") as service:
        asyncio.run(run(service))
