"""`sse-load` on our service and on any server: what it prints, writes and exits with."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.support.components import LocalComponents
from tests.support.sse_server import Peer, serving
from tests.support.stream_service import Publisher, StreamService, an_event
from typer.testing import CliRunner

from shopstream_stack.cache import Cache
from shopstream_stack.cli import app
from shopstream_stack.console import Silent
from shopstream_stack.errors import StackError
from shopstream_stack.kit.load_command import LoadOptions, load
from shopstream_stack.settings import StackSettings

OPTIONS = LoadOptions(
    profile="plain",
    connections=4,
    seconds=0.5,
    ramp=0,
    cut=0,
    slow=0,
    groups=1,
    headers={},
    json=None,
)


@pytest.fixture(scope="module")
def program() -> Path:
    settings = StackSettings.load()
    return Cache(settings.cache, settings.environ).ensure_load(Silent())


@pytest.fixture(scope="module")
def service(session_components: LocalComponents) -> Iterator[StreamService]:
    Publisher(session_components.kafka_brokers)
    with StreamService(session_components.kafka_brokers) as service:
        yield service


def _load(program: Path, url: str, options: LoadOptions) -> tuple[int, str]:
    console = Console(width=160)
    with console.capture() as captured:
        code = load(program, url, options, console)
    return code, captured.get()


def test_streams_of_ours_are_cut_and_have_every_event_once(
    program: Path, service: StreamService, session_components: LocalComponents, tmp_path: Path
) -> None:
    figures = tmp_path / "found.json"
    options = replace(
        OPTIONS, profile="shopstream", connections=6, seconds=1.5, cut=2, slow=1, json=figures
    )
    publisher = Publisher(session_components.kafka_brokers, check=False)
    done = threading.Event()

    def publish() -> None:
        while not done.is_set():
            publisher.publish(an_event())
            done.wait(0.05)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        code, text = _load(program, f"{service.url}/events/stream?sellerId=s1", options)
    finally:
        done.set()
        thread.join()
    found = json.loads(figures.read_text())
    assert (code, found["misses"], found["reconnected"]) == (0, 0, 2), text
    assert found["deliveries"] > 0
    assert found["resumed"]["count"] == 2
    assert "holds" in text
    assert "p99" in text


def test_streams_of_anybody_are_counted(program: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"event: tick\nid: 1\ndata: x\n\n")
        await peer.gone()

    with serving(script) as server:
        code, text = _load(program, f"http://{server.address}/any", OPTIONS)
        assert {peer.path for peer in server.seen} == {"/any"}
    assert code == 0
    assert "opened" in text
    # They came before the time that is looked at, and are counted all the same.
    assert "tick 4" in text


def test_groups_put_their_number_into_the_url_and_headers_are_sent(program: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    options = replace(OPTIONS, groups=2, headers={"X-Seller-Id": "s1"}, seconds=0.1)
    with serving(script) as server:
        assert _load(program, f"http://{server.address}/a?seller={{{{n}}}}", options)[0] == 0
        assert sorted(peer.path for peer in server.seen) == [
            *["/a?seller=0"] * 2,
            *["/a?seller=1"] * 2,
        ]
        assert {peer.headers["x-seller-id"] for peer in server.seen} == {"s1"}


def test_a_refusal_is_a_miss(program: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.finite("403 Forbidden")

    with serving(script) as server:
        code, text = _load(program, f"http://{server.address}/", replace(OPTIONS, connections=1))
    assert code == 1
    assert "HTTP 403" in text
    assert "none: something was missed" in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(OPTIONS, slow=3, cut=2), "--slow and --cut"),
        (replace(OPTIONS, groups=2), "--groups needs"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    program: Path, service: StreamService, wrong: LoadOptions, said: str
) -> None:
    with pytest.raises(StackError, match=said):
        _load(program, f"{service.url}/events/stream", wrong)


def test_the_commands_take_a_url_headers_and_profiles() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b": x\n\n")
        await peer.gone()

    with serving(script) as server:
        url, header = f"http://{server.address}/s", ("-H", "X-A: b")
        loaded = CliRunner().invoke(app, ["sse-load", url, "-c", "2", "-s", "0.1", *header])
        only = ["--only", "status", "--only", "cache control", "--patience", "0.2"]
        checked = CliRunner().invoke(app, ["sse-conformance", url, *only, *header])
        assert {peer.headers["x-a"] for peer in server.seen} == {"b"}
    assert (loaded.exit_code, checked.exit_code) == (0, 0), loaded.output + checked.output
    wrong = CliRunner().invoke(app, ["sse-load", url, "-H", "nonsense"])
    assert wrong.exit_code == 2
    assert "Name: value" in wrong.output
