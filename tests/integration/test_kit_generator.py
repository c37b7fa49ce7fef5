"""The stream generator against a server that loses, doubles, cuts and breaks: nothing passes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tests.support.sse_server import Peer, Script, SseServer, serving
from tests.support.system import wait_until

from shopstream_shared.clock import format_time
from shopstream_stack.cache import Cache
from shopstream_stack.console import Silent
from shopstream_stack.errors import StackError
from shopstream_stack.kit.generator import (
    Generator,
    StreamGroup,
    StreamReport,
    StreamSpec,
    generating,
)
from shopstream_stack.settings import StackSettings

OPEN = b'event: stream.open\ndata: {"resumed":false,"replayFrom":null}\n\nid: first\n\n'
RESUMED = b'event: stream.open\ndata: {"resumed":true,"replayFrom":"x"}\n\nid: again\n\n'
EVERYTHING = (StreamGroup(name="all", path="/all"),)
#: A stream that waits in vain must not take the test's time.
SHORT_SECONDS = 0.3
LONG_SECONDS = 20.0


@pytest.fixture(scope="module")
def program() -> Path:
    settings = StackSettings.load()
    return Cache(settings.cache, settings.environ).ensure_load(Silent())


def event(
    subject: str,
    sequence: int,
    kind: str = "product.updated",
    *,
    age: timedelta = timedelta(),
    description: str | None = None,
) -> bytes:
    """A block without its id line, as the codec orders the attributes."""
    value = {
        "specversion": "1.0",
        "id": f"{subject}-{sequence}",
        "source": "/shopstream/api",
        "type": kind,
        "subject": subject,
        "time": format_time(datetime.now(UTC) - age),
        "sellerid": "s1",
        "sequence": str(sequence),
        "data": {
            "type": "no",
            "subject": "other",
            "sequence": "77",
            **({} if description is None else {"description": description}),
        },
    }
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def with_id(block: bytes, number: int) -> bytes:
    return b"id: i%d\n" % number + block


@contextmanager
def running(program: Path, script: Script, **more: object) -> Iterator[tuple[Generator, SseServer]]:
    with serving(script) as server:
        spec = StreamSpec(
            address=server.address,
            connections=2,
            groups=EVERYTHING,
            profile="shopstream",
            open_seconds_max=LONG_SECONDS,
        )
        with generating(program, msgspec.structs.replace(spec, **more)) as generator:
            yield generator, server


def report_of(
    program: Path, *blocks: bytes, last: int, seconds_max: float = SHORT_SECONDS, moment: str = ""
) -> tuple[StreamReport, int]:
    """What two streams find that both get these blocks, of subject ``a`` 1 to ``last`` expected."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OPEN)
        for block in blocks:
            await peer.send(block)
        await peer.gone()

    with running(program, script, moment=moment) as (generator, _):
        report = generator.settle({"all": {"shop.products a": (1, last)}}, seconds_max)
        return report, generator.stop()


def test_all_that_came_in_order_has_a_rate_and_latencies(program: Path) -> None:
    blocks = [with_id(event("a", n), n) for n in (1, 2, 3)]
    report, code = report_of(program, *blocks, last=3, seconds_max=LONG_SECONDS)
    assert (report.deliveries, report.misses, report.ids, code) == (6, 0, 8, 0)
    assert report.controls == {"stream.open": 2}
    assert report.deliveries_per_second
    assert 0 < report.steady.p50_ms <= report.steady.p99_ms <= report.steady.max_ms
    assert report.steady.count == 6


def test_percentiles_are_the_nearest_rank_to_a_sixtieth(program: Path) -> None:
    # Minutes, beside which the test's own time is nothing.
    blocks = [with_id(event("a", n, age=timedelta(minutes=n)), n) for n in range(1, 101)]
    report, _ = report_of(program, *blocks, last=100, seconds_max=LONG_SECONDS)
    found = (report.steady.p50_ms, report.steady.p99_ms, report.steady.max_ms)
    for milliseconds, minutes in zip(found, (50, 99, 100), strict=True):
        assert minutes * 60_000 <= milliseconds < minutes * 60_000 * (1 + 1 / 60)


def test_latencies_count_from_the_moment_that_the_data_name(program: Path) -> None:
    ago = format_time(datetime.now(UTC) - timedelta(minutes=30))
    blocks = [with_id(event("a", n, description=ago), n) for n in (1, 2)]
    report, code = report_of(
        program, *blocks, last=2, seconds_max=LONG_SECONDS, moment="description"
    )
    assert (report.misses, code) == (0, 0)
    assert 30 * 60_000 <= report.steady.p50_ms < 31 * 60_000


@pytest.mark.parametrize("description", [None, "no time"])
def test_an_event_without_that_moment_is_a_miss(program: Path, description: str | None) -> None:
    block = with_id(event("a", 1, description=description), 1)
    report, code = report_of(program, block, last=1, moment="description")
    assert report.misses > 0
    assert code == 1


@pytest.mark.parametrize("moment", ["", "description"])
def test_an_event_in_another_order_counts_from_its_own_time_only_where_no_moment_is_asked_for(
    program: Path, moment: str
) -> None:
    ago = format_time(datetime.now(UTC) - timedelta(minutes=30))
    block = event("a", 1, description=ago).replace(b'"subject":"a",', b"")
    block = block.replace(b'"sequence":', b'"subject":"a","sequence":', 1)
    report, code = report_of(program, with_id(block, 1), last=1, moment=moment)
    assert (code, report.misses > 0) == (1 if moment else 0, bool(moment))


@pytest.mark.parametrize(
    ("sequences", "last", "said", "kind"),
    [
        ((1, 3), 3, "3 follows 1", "lost"),
        ((1, 2, 2, 3), 3, "2 came after 2", "doubled"),
        ((1, 2, 1, 3), 3, "1 came after 2", "doubled"),
        ((1, 2), 3, "1 to 2 came, not 1 to 3", "lost"),
        ((2, 3), 3, "2 to 3 came, not 1 to 3", "lost"),
        ((), 3, "nothing of 1 to 3 came", "lost"),
        ((1, 2, 3, 4), 3, "1 to 4 came, not 1 to 3", "foreign"),
    ],
)
def test_one_miss_leaves_no_rate_and_an_error_that_names_it(
    program: Path, sequences: tuple[int, ...], last: int, said: str, kind: str
) -> None:
    blocks = [with_id(event("a", n), number) for number, n in enumerate(sequences)]
    report, code = report_of(program, *blocks, last=last)
    assert report.deliveries_per_second is None
    assert getattr(report, kind) > 0
    assert any("shop.products a" in fault and said in fault for fault in report.faults)
    assert code == 1


def test_what_a_filter_should_have_kept_back_is_a_miss(program: Path) -> None:
    report, _ = report_of(program, with_id(event("a", 1), 1), with_id(event("b", 9), 2), last=1)
    assert report.foreign == 2
    assert "shop.products b: sequences 9 to 9 should not have come" in report.faults[0]


def test_the_two_warnings_take_numbers_of_the_inventory(program: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OPEN + with_id(event("a", 1, "product.created"), 1))
        await peer.send(with_id(event("a", 1, "inventory.reserved"), 2))
        await peer.send(with_id(event("a", 2, "product.low_stock"), 3))
        await peer.gone()

    with running(program, script) as (generator, _):
        wanted = {"shop.products a": (1, 1), "shop.inventory a": (1, 2)}
        assert generator.settle({"all": wanted}, LONG_SECONDS).misses == 0


def test_e04_an_id_on_a_named_event_and_an_event_without_one_are_misses(program: Path) -> None:
    beat = b"id: x\nevent: stream.heartbeat\ndata: {}\n\n"
    report, _ = report_of(program, beat, event("a", 1), last=1)
    assert any("stream.heartbeat carries an id" in fault for fault in report.faults)
    assert any("an event without an id" in fault for fault in report.faults)


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_are_read_however_they_end_and_are_cut(program: Path, end: bytes, size: int) -> None:
    body = b"\xef\xbb\xbf" + OPEN + b": hello\n\n"
    body += with_id(event("a", 1), 1) + with_id(event("a", 2), 2)
    body = body.replace(b"\n", end)

    async def script(peer: Peer) -> None:
        await peer.head()
        whole = b"".join(
            b"%x;x=y\r\n%s\r\n" % (len(part), part)
            for part in (body[at : at + size] for at in range(0, len(body), size))
        )
        await peer.raw(*(whole[at : at + 5] for at in range(0, len(whole), 5)))
        await peer.gone()

    with running(program, script) as (generator, _):
        report = generator.settle({"all": {"shop.products a": (1, 2)}}, LONG_SECONDS)
    assert (report.misses, report.deliveries, report.comments) == (0, 4, 2)


def test_streams_that_are_cut_come_back_with_their_last_id_and_all_is_there_once(
    program: Path,
) -> None:
    cut = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        if "last-event-id" in peer.headers:
            assert peer.headers["last-event-id"] == "i1"
            # Younger than the new connection: what was missed is there.
            await peer.send(RESUMED + with_id(event("a", 2), 2))
            cut.set()
        else:
            await peer.send(OPEN + with_id(event("a", 1), 1))
            if peer.number == 1:
                await cut.wait()
                await peer.send(with_id(event("a", 2), 2))
        await peer.gone()

    # One worker a stream: the server's second request is then the second stream's.
    with running(program, script, ramp_per_second=20.0) as (generator, server):
        generator.settle({"all": {"shop.products a": (1, 1)}}, LONG_SECONDS)
        generator.begin()
        generator.cut(1)
        report = generator.settle({"all": {"shop.products a": (1, 2)}}, LONG_SECONDS)
    assert report.misses == 0
    assert (report.cut.count, report.steady.count, report.resumed.count) == (1, 1, 1)
    assert len(server.seen) == 3


def test_a_stream_that_begins_anew_instead_of_being_resumed_is_a_miss(program: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OPEN + with_id(event("a", 1), 1))
        await peer.gone()

    with running(program, script) as (generator, _):
        generator.settle({"all": {"shop.products a": (1, 1)}}, LONG_SECONDS)
        generator.cut(1)

        def faults() -> str:
            once = {"all": {"shop.products a": (1, 1)}}
            return "\n".join(generator.settle(once, SHORT_SECONDS).faults)

        # All had come before the cut: how long the stream takes to come again is not waited for.
        wait_until(
            lambda: "1 came after 1" in (said := faults()) and "was not resumed" in said, "it"
        )


def test_a_stalled_stream_is_not_waited_for_and_has_everything_once_released(
    program: Path,
) -> None:
    stalled = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        if "last-event-id" in peer.headers:
            await peer.send(RESUMED + with_id(event("a", 1), 1))
        else:
            await peer.send(OPEN)
            await stalled.wait()
            if peer.number == 1:  # too slow for us
                peer.reset()
                return
            await peer.send(with_id(event("a", 1), 1))
        await peer.gone()

    with running(program, script, slow=1, ramp_per_second=20.0) as (generator, server):
        generator.stall()
        server._loop.call_soon_threadsafe(stalled.set)
        report = generator.settle({"all": {"shop.products a": (1, 1)}}, LONG_SECONDS)
        assert (report.misses, report.deliveries) == (0, 1)
        generator.release()
        report = generator.settle({"all": {"shop.products a": (1, 1)}}, LONG_SECONDS)
        assert (report.misses, report.deliveries, report.closed) == (0, 2, 1)


def test_a_stream_that_the_server_ends_is_a_miss_unless_it_may_come_back(program: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"retry: 1\n\n" + (RESUMED if "last-event-id" in peer.headers else OPEN))
        if peer.number:
            await peer.gone()
        await peer.raw(b"0\r\n\r\n")

    with running(program, script, connections=1) as (generator, _):
        report = generator.settle({"all": {"shop.products a": (1, 1)}}, SHORT_SECONDS)
        assert any("the server ended the stream" in fault for fault in report.faults)
    with running(program, script, connections=1, reconnect=True) as (generator, server):
        assert generator.opened.misses == 0
        report = generator.look()
        while len(server.seen) == 1:
            report = generator.look()
        assert server.seen[1].headers["last-event-id"] == "first"
        assert (report.faults, report.closed) == ([], 1)


def test_groups_take_their_own_paths_and_expect_their_own_events(program: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OPEN + with_id(event(peer.path[1:], 1), 1))
        await peer.gone()

    groups = [StreamGroup(name=name, path=f"/{name}") for name in "abc"]
    with running(program, script, connections=5, groups=groups) as (generator, server):
        expected = {name: {f"shop.products {name}": (1, 1)} for name in "abc"}
        report = generator.settle(expected, LONG_SECONDS)
    assert (report.misses, report.deliveries) == (0, 5)
    assert sorted(peer.path for peer in server.seen) == ["/a", "/a", "/b", "/b", "/c"]


def test_a_refusal_for_good_is_a_miss_and_a_temporary_one_is_tried_again(program: Path) -> None:
    async def script(peer: Peer) -> None:
        if peer.path == "/no":
            await peer.finite("404 Not Found")
        elif peer.number == 0:
            await peer.finite("503 Service Unavailable")
        else:
            await peer.head()
            await peer.send(OPEN)
            await peer.gone()

    with running(program, script, connections=1) as (generator, _):
        assert (generator.opened.refused, generator.opened.misses) == (1, 0)
    groups = [StreamGroup(name="no", path="/no")]
    with running(program, script, connections=1, groups=groups, open_seconds_max=SHORT_SECONDS) as (
        generator,
        _,
    ):
        assert any("HTTP 404" in fault for fault in generator.opened.faults)
        assert any("1 streams did not open" in fault for fault in generator.opened.faults)


def test_any_stream_is_counted_in_the_plain_profile(program: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"event: tick\nid: 7\ndata: x\ndata: y\n\ndata: z\n\n:\n\n")
        await peer.gone()

    with running(program, script, profile="plain") as (generator, _):
        # What is on its way is read before the next order is: the loop is the server's.
        for _ in range(100):
            report = generator.look()
            if report.comments == 2:
                break
        assert (report.deliveries, report.controls, report.misses) == (2, {"tick": 2}, 0)
        assert generator.stop() == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"connections": 0}, "connections must be"),
        ({"groups": ()}, "no groups"),
        ({"slow": 3}, "slow must be"),
        ({"pollers": -1}, "pollers must be"),
        ({"pollers": 65}, "pollers must be"),
        ({"connections": 49_999}, "the limit is"),
        ({"open_seconds_max": 0.0}, "openSecondsMax"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(
    program: Path, wrong: dict[str, object], said: str
) -> None:
    async def script(peer: Peer) -> None:
        raise AssertionError("nothing may be asked")

    with (
        pytest.raises(StackError, match=said),
        running(program, script, **wrong),
    ):
        pass
