"""The conformance kit: our service passes it, and each check fails where its promise is broken."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from tests.support.components import LocalComponents
from tests.support.sse_server import Peer, Script, serving
from tests.support.stream_service import Publisher, StreamService, an_event

from shopstream_stack.errors import StackError
from shopstream_stack.kit.checks import FIRST_SECONDS_MAX
from shopstream_stack.kit.conformance import check, command
from shopstream_stack.kit.load_command import KitProfile
from shopstream_stack.kit.plain_checks import PLAIN
from shopstream_stack.kit.shopstream_checks import SHOPSTREAM

PATIENCE = 10.0
#: Three times what is allowed: the suite has the machine for itself least of all.
FIRST_SECONDS = 3 * FIRST_SECONDS_MAX
#: Of a server that does everything at once or never.
SHORT_PATIENCE = 0.7
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}


@pytest.fixture(scope="module")
def service(session_components: LocalComponents) -> Iterator[StreamService]:
    Publisher(session_components.kafka_brokers)
    brokers = session_components.kafka_brokers
    with StreamService(brokers, SHOPSTREAM_HEARTBEAT_SECONDS="0.5") as service:
        yield service


@contextmanager
def _publishing(brokers: str) -> Iterator[None]:
    """An event of each kind, again and again."""
    done = threading.Event()
    publisher = Publisher(brokers, check=False)

    def publish() -> None:
        while not done.is_set():
            publisher.publish(an_event("order.created"), an_event("product.created"))
            done.wait(0.1)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_our_service_passes_every_check_of_both_profiles(
    service: StreamService, session_components: LocalComponents, tmp_path: Path
) -> None:
    console = Console(width=200)
    with _publishing(session_components.kafka_brokers), console.capture() as captured:
        code = command(
            f"{service.url}/events/stream",
            console,
            profile="shopstream",
            patience=PATIENCE,
            headers={},
            into=tmp_path / "found.json",
            first_seconds=FIRST_SECONDS,
        )
    text = captured.get()
    checks = json.loads((tmp_path / "found.json").read_text())["checks"]
    assert [one for one in checks if one["verdict"] != "holds"] == []
    assert len(checks) == len(PLAIN.checks) + len(SHOPSTREAM.checks)
    assert f"{len(checks)} holds, 0 FAILED, 0 skipped" in text
    assert code == 0


def test_a_stream_without_events_skips_what_needs_them(service: StreamService) -> None:
    names = ("events", "order", "filter")
    url = f"{service.url}/events/stream?sellerId=nobody"
    found = asyncio.run(
        check(url, profile="shopstream", patience=SHORT_PATIENCE, headers={}, only=names)
    )
    assert {one.name: verdict.state for one, verdict in found} == dict.fromkeys(names, "skipped")


def _held(service: StreamService, *names: str) -> None:
    found = asyncio.run(
        check(
            f"{service.url}/events/stream",
            profile="shopstream",
            patience=PATIENCE,
            headers={},
            only=names,
            first_seconds=FIRST_SECONDS,
        )
    )
    assert [(one.name, verdict) for one, verdict in found if verdict.state != "holds"] == []
    assert len(found) == len(names)


def test_e04_ids_stand_never_on_control_frames(service: StreamService) -> None:
    _held(service, "ids and names", "id after open")


def test_e07_every_id_that_cannot_be_resumed_is_answered_with_a_gap(
    service: StreamService,
) -> None:
    names = [one.name for one in SHOPSTREAM.checks if one.name.startswith("gap: ")]
    assert len(names) == 4
    _held(service, *names)


def test_e08_a_strange_id_is_no_reason_for_another_status_than_200(
    service: StreamService,
) -> None:
    _held(service, "status", "unknown id")


def test_e09_heartbeats_are_seen_by_proxies_and_by_scripts(service: StreamService) -> None:
    _held(service, "heartbeat", "comments end", "alive when idle")


def test_e10_first_bytes_come_at_once_also_to_who_takes_gzip(service: StreamService) -> None:
    _held(service, "first byte", "first byte with gzip", "retry and comment")


def test_e22_a_token_in_the_query_is_refused(service: StreamService) -> None:
    _held(service, "refusals")


def test_nothing_listens_is_told_as_such() -> None:
    with pytest.raises(StackError, match=r"Nothing listens at 127\.0\.0\.1:1 "):
        _verdicts("http://127.0.0.1:1/events", "plain")


def test_a_check_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(StackError, match="no check is named nonsense; there are status, "):
        _verdicts("http://127.0.0.1:1/events", "plain", "nonsense")


@pytest.mark.parametrize("url", ["localhost:3001", "ftp://localhost/", "http://localhost:99999/"])
def test_what_is_no_url_is_told_as_such(url: str) -> None:
    with pytest.raises(StackError, match="URL: "):
        _verdicts(url, "plain")


def _verdicts(url: str, profile: KitProfile, *only: str) -> dict[str, str]:
    found = asyncio.run(check(url, profile=profile, patience=SHORT_PATIENCE, headers={}, only=only))
    return {one.name: verdict.state for one, verdict in found}


Body = Callable[[Peer], Awaitable[None]]
GOOD = b"retry: 1000\n: hello\n\nid: 1\ndata: x\n\n"


def _server(
    status: str = "200 OK",
    changed: dict[str, str] | None = None,
    body: Body | None = None,
    head: str = "200 OK",
    strange: str = "200 OK",
) -> Script:
    """A good server but for what is given."""
    headers = {**HEADERS, "Transfer-Encoding": "chunked", **(changed or {})}

    async def script(peer: Peer) -> None:
        if peer.method == "HEAD":
            await peer.finite(head, b"", "Content-Type: text/event-stream")
            return
        last = peer.headers.get("last-event-id", "")
        answer = strange if last == "conformance-unknown-id" else status
        lines = [f"HTTP/1.1 {answer}", *(f"{n}: {v}" for n, v in headers.items() if v), "", ""]
        await peer.raw("\r\n".join(lines).encode())
        if body is not None:
            await body(peer)
        else:
            await peer.send(GOOD if last in {"", "conformance-unknown-id"} else b": on\n\n")
        await _beat(peer)

    return script


async def _beat(peer: Peer) -> None:
    """A comment now and then, until the client leaves."""
    gone = asyncio.create_task(peer.gone())
    while not gone.done():
        await peer.send(b":\n\n")
        await asyncio.wait([gone], timeout=0.3)


def _sends(first: bytes, *, then: Body | None = None) -> Body:
    async def body(peer: Peer) -> None:
        await peer.send(first)
        if then is not None:
            await then(peer)

    return body


async def _silence(peer: Peer) -> None:
    await peer.gone()


async def _end(peer: Peer) -> None:
    await peer.raw(b"0\r\n\r\n")
    await peer.gone()


async def _late_with_gzip(peer: Peer) -> None:
    if "gzip" in peer.headers.get("accept-encoding", ""):
        await peer.gone()
    await peer.send(GOOD)


def _served(requests: int) -> Body:
    """Only the first so many get anything."""

    async def body(peer: Peer) -> None:
        if peer.number >= requests:
            await peer.gone()
        await peer.send(GOOD)

    return body


def test_a_good_server_of_somebody_else_passes_the_plain_profile() -> None:
    with serving(_server()) as server:
        found = _verdicts(f"http://{server.address}/", "plain")
    assert set(found.values()) == {"holds"}, found


#: Check → servers that break what it looks for.
BREAKS: tuple[tuple[str, Script], ...] = (
    ("status", _server(status="503 Service Unavailable")),
    ("content type", _server(changed={"Content-Type": "text/plain"})),
    ("content type", _server(changed={"Content-Type": "text/event-stream; charset=latin1"})),
    ("cache control", _server(changed={"Cache-Control": ""})),
    (
        "no length",
        _server(changed={"Transfer-Encoding": "", "Content-Length": "99999"}),
    ),
    ("first byte", _server(body=_silence)),
    ("first byte with gzip", _server(body=_late_with_gzip)),
    ("stays open", _server(body=_sends(GOOD, then=_end))),
    ("blocks", _server(body=_sends(b"data: x\n\ndata: y\r\n\r\n"))),
    ("blocks", _server(body=_sends(b"data: \xff\n\n"))),
    ("fields", _server(body=_sends(b"date: x\n\n"))),
    ("retry", _server(body=_sends(b"retry: 1s\n\n"))),
    ("ids", _server(body=_sends(b"id: a\0b\ndata: x\n\n"))),
    ("alive when idle", _server(body=_sends(GOOD, then=_silence))),
    ("comments end", _server(body=_sends(b"data: x\n\n:\n", then=_silence))),
    ("HEAD", _server(head="500 Internal Server Error")),
    ("reconnect", _server(body=_sends(GOOD))),
    ("unknown id", _server(strange="404 Not Found")),
    ("20 at once", _server(body=_served(10))),
    ("after clients left", _server(body=_served(4))),
)


@pytest.mark.parametrize(
    ("name", "script"), BREAKS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(BREAKS)]
)
def test_each_check_fails_where_its_promise_is_broken(name: str, script: Script) -> None:
    with serving(script) as server:
        found = _verdicts(f"http://{server.address}/", "plain", name)
    assert found == {name: "FAILED"}


async def _late(peer: Peer) -> None:
    """The first bytes come after a while."""
    gone = asyncio.create_task(peer.gone())
    await asyncio.wait([gone], timeout=0.4)
    if not gone.done():
        await peer.send(GOOD)


@pytest.mark.parametrize(("first_seconds", "code"), [(0.1, 1), (FIRST_SECONDS, 0)])
def test_the_command_takes_how_long_a_first_byte_may_take(first_seconds: float, code: int) -> None:
    with serving(_server(body=_late)) as server:
        found = command(
            f"http://{server.address}/",
            Console(quiet=True),
            profile="plain",
            patience=PATIENCE,
            headers={},
            into=None,
            only=["first byte"],
            first_seconds=first_seconds,
        )
    assert found == code


def test_no_name_of_a_check_has_a_comma() -> None:
    """They are listed with commas between them."""
    assert not [one.name for one in (*PLAIN.checks, *SHOPSTREAM.checks) if "," in one.name]


OPEN = b'event: stream.open\ndata: {"resumed":false,"replayFrom":null}\n\nid: a\n\n'
PRODUCT = b'id: b\ndata: {"type":"product.created"}\n\n'
ORDER = b'id: c\ndata: {"type":"order.created"}\n\n'


def _filtering(*, everything: bytes, filtered: bytes, early: bytes = b"") -> Script:
    """Sends once the filtered stream is open; to the others ``early`` at once."""
    opened = asyncio.Event()

    async def body(peer: Peer) -> None:
        if "types=" in peer.path:
            await peer.send(OPEN + filtered)
            opened.set()
            return
        await peer.send(OPEN + early)
        if everything:
            await opened.wait()
            # After the other's opening was read: a beat later.
            gone = asyncio.create_task(peer.gone())
            await asyncio.wait([gone], timeout=0.2)
            if not gone.done():
                await peer.send(everything)

    return _server(body=body)


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        (_filtering(everything=PRODUCT, filtered=b""), "holds"),
        (_filtering(everything=ORDER, filtered=ORDER), "holds"),
        (_filtering(everything=PRODUCT, filtered=PRODUCT), "FAILED"),
        # Nothing since it was open: that one event before it proves nothing.
        (_filtering(everything=b"", filtered=b"", early=PRODUCT), "skipped"),
    ],
    ids=["left out", "a match", "ignored", "nothing seen"],
)
def test_a_filter_is_judged_by_what_came_after_it_was_open(script: Script, verdict: str) -> None:
    with serving(script) as server:
        found = _verdicts(f"http://{server.address}/", "shopstream", "filter")
    assert found == {"filter": verdict}


def test_a_server_that_ignores_filters_fails_though_its_events_are_late() -> None:
    opened = asyncio.Event()

    async def body(peer: Peer) -> None:
        await peer.send(OPEN + (b"" if "types=" in peer.path else PRODUCT))
        if "types=" in peer.path:
            opened.set()
        await opened.wait()
        gone = asyncio.create_task(peer.gone())
        await asyncio.wait([gone], timeout=0.2)
        if not gone.done():
            await peer.send(PRODUCT)

    with serving(_server(body=body)) as server:
        found = _verdicts(f"http://{server.address}/", "shopstream", "filter")
    assert found == {"filter": "FAILED"}


def test_a_stream_without_our_promises_fails_our_checks_and_says_so() -> None:
    with serving(_server()) as server:
        url = f"http://{server.address}/"
        console = Console(width=200)
        with console.capture() as captured:
            code = command(
                url, console, profile="shopstream", patience=0.2, headers={"x-a": "b"}, into=None
            )
        assert all(peer.headers["x-a"] == "b" for peer in server.seen)
    assert code == 1
    assert "stream.open" in captured.get()
    assert "FAILED" in captured.get()
