"""The stream client against a small server whose answers are written out byte by byte."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from pydantic import SecretStr

from shopstream_stack.sse_client import BrokenResponse, SseConnection, SseRefused
from shopstream_stack.stream_client import ASKED_SECONDS_MAX, StreamClient, backoff_seconds
from shopstream_stack.stream_events import (
    BadStreamEvent,
    DomainEvent,
    Gap,
    Goodbye,
    Newest,
    Opened,
    Refused,
    StreamEvent,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\nretry: 1\n\n"
Handler = Callable[[int, str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handler):  # type: ignore[no-untyped-def]  # an async generator of one URL
    """The handler gets the connection's number, the request's head and the writer."""
    count = 0
    handlers: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        task = asyncio.create_task(answer(count, head, writer))
        handlers.add(task)

    async def answer(number: int, head: str, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(number, head, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/events/stream?x=1"
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


def event(sequence: int, *, subject: str = "s", kind: str = "product.updated") -> bytes:
    """A frame with the attributes by which a repeat is told."""
    body = {"id": f"{subject}-{sequence}", "type": kind, "subject": subject}
    return b"data: %s\n\n" % json.dumps({**body, "sequence": str(sequence)}).encode()


def opened(*, resumed: bool) -> bytes:
    data = json.dumps({"resumed": resumed, "replayFrom": None}).encode()
    return b"event: stream.open\ndata: %s\n\n" % data


def fields(head: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)


async def end(writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def gathered(client: StreamClient, count: int) -> list[StreamEvent]:
    """The first so many events."""
    found: list[StreamEvent] = []
    async with aclosing(client.events()) as events:
        async for each in events:
            found.append(each)
            if len(found) == count:
                break
    return found


def sequences(events: list[StreamEvent]) -> list[int]:
    return [int(json.loads(e.data)["sequence"]) for e in events if isinstance(e, DomainEvent)]


def test_e22_it_resumes_by_header_at_the_last_complete_id_and_shows_its_token() -> None:
    asked: list[dict[str, str]] = []

    async def handle(number: int, head: str, writer: asyncio.StreamWriter) -> None:
        asked.append(fields(head))
        writer.write(HEAD + b"id: %d\n" % number + event(number))
        writer.write(b"id: %d\n\nid: lost\ndata: not complete" % (number + 100))
        await end(writer)

    async def run() -> list[StreamEvent]:
        async with serving(handle) as url:
            client = StreamClient(url, token=SecretStr("t0"))
            found = await gathered(client, 3)
            assert client.connects == 3
            return found

    found = asyncio.run(run())
    assert [e.id for e in found if isinstance(e, DomainEvent)] == ["1", "2", "3"]
    assert [each.get("Last-Event-ID") for each in asked] == [None, "101", "102"]
    assert {each["Authorization"] for each in asked} == {"Bearer t0"}


@pytest.mark.parametrize(("repeats", "expected"), [(False, [1, 2, 3]), (True, [1, 2, 1, 2, 3])])
def test_an_event_that_came_before_is_handed_on_only_when_repeats_are_asked_for(
    repeats: bool,  # noqa: FBT001 - a case of the table
    expected: list[int],
) -> None:
    async def handle(_number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + event(1) + event(2) + event(1) + event(2) + event(3))
        await asyncio.Event().wait()

    async def run() -> None:
        async with serving(handle) as url:
            client = StreamClient(url, repeats=repeats)
            assert sequences(await gathered(client, len(expected))) == expected
            assert client.repeated == 5 - len(expected)

    asyncio.run(run())


def test_a_product_and_its_inventory_are_two_aggregates_and_an_unknown_type_is_told_by_its_id() -> (
    None
):
    frames = [
        event(1),
        event(1, kind="inventory.updated"),
        event(1, kind="product.low_stock"),  # rides with the inventory: a repeat
        event(1, kind="user.updated", subject="u"),
        event(1, kind="user.updated", subject="u"),
        event(2, kind="user.updated", subject="u"),
    ]

    async def handle(_number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"".join(frames))
        await asyncio.Event().wait()

    async def run() -> None:
        async with serving(handle) as url:
            client = StreamClient(url)
            assert sequences(await gathered(client, 4)) == [1, 1, 1, 2]
            assert client.repeated == 2

    asyncio.run(run())


def test_the_aggregate_not_heard_of_for_longest_is_forgotten_beyond_the_bound() -> None:
    newest = Newest(aggregates_max=2)

    def is_new(subject: str) -> bool:
        return newest.is_new(event(1, subject=subject).decode().removeprefix("data: "))

    assert [is_new(subject) for subject in "abacab"] == [True, True, False, True, False, True]


def test_e09_a_silent_server_is_left_by_the_watchdog_and_a_comment_is_enough_to_stay() -> None:
    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        if number == 1:
            for _ in range(2):
                await asyncio.sleep(0.6)  # the pace of the heartbeats
                writer.write(b":\n\n")
        writer.write(event(number))
        await asyncio.Event().wait()

    async def run() -> None:
        async with serving(handle) as url:
            client = StreamClient(url, idle_seconds_max=1.0)
            assert sequences(await gathered(client, 2)) == [1, 2]
            assert client.connects == 2

    asyncio.run(run())


def test_a_cut_on_purpose_resumes() -> None:
    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"id: %d\n" % number + event(number))
        await asyncio.Event().wait()

    async def run() -> None:
        async with serving(handle) as url:
            client = StreamClient(url)
            async with aclosing(client.events()) as events:
                async for each in events:
                    if sequences([each]) == [3]:
                        break
                    client.cut()
            assert client.last_event_id == "3"

    asyncio.run(run())


def test_a_gap_of_the_server_and_a_place_that_was_lost_are_both_told() -> None:
    gap = b'event: stream.gap\ndata: {"reason":"evicted","from":"a","to":"b"}\n\n'

    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + opened(resumed=number == 2) + (gap if number == 2 else b""))
        await end(writer)

    async def run() -> list[StreamEvent]:
        async with serving(handle) as url:
            return await gathered(StreamClient(url), 5)

    first, again = Opened(resumed=False, replay_from=None), Opened(resumed=True, replay_from=None)
    lost = Gap("not_resumed")
    assert asyncio.run(run()) == [first, again, Gap("evicted", "a", "b"), first, lost]


def test_a_start_that_was_not_honoured_is_a_gap_told_before_the_next_try() -> None:
    async def handle(_number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + opened(resumed=False))
        await end(writer)

    async def run() -> None:
        async with serving(handle) as url:
            waits = Waits()
            found = await gathered(StreamClient(url, last_event_id="x", wait=waits), 2)
            assert found[1] == Gap("not_resumed")
            assert waits.seconds == []

    asyncio.run(run())


def test_a_place_that_was_lost_is_one_gap_with_the_servers_reason_or_comes_before_any_event() -> (
    None
):
    gap = (
        b'id: now\n\nevent: stream.gap\ndata: {"reason":"malformed_id","from":null,"to":"now"}\n\n'
    )

    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + opened(resumed=False) + (gap if number == 1 else b""))
        writer.write(b"id: after\n" + event(number))
        await end(writer)

    async def run() -> list[StreamEvent]:
        async with serving(handle) as url:
            client = StreamClient(url, last_event_id="bad")
            found = await gathered(client, 5)
            assert client.last_event_id == "after"
            return found

    first = Opened(resumed=False, replay_from=None)
    found = asyncio.run(run())
    assert [each for each in found if not isinstance(each, DomainEvent)] == [
        first,
        Gap("malformed_id", None, "now"),
        first,
        Gap("not_resumed"),
    ]
    assert isinstance(found[2], DomainEvent)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (b'event: stream.goodbye\ndata: {"retryMs":7654}\n\n', Goodbye(7654)),
        (
            b'event: stream.refused\ndata: {"reason":"address","retryMs":7654}\n\n',
            Refused("address", 7654),
        ),
    ],
)
def test_what_a_goodbye_or_a_refusal_asks_for_is_waited(
    frame: bytes, expected: StreamEvent
) -> None:
    waits = Waits()

    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        far = b'event: stream.goodbye\ndata: {"retryMs":999999999}\n\n'
        writer.write(HEAD + (frame, far, opened(resumed=False), far)[number - 1])
        await end(writer)

    async def run() -> list[StreamEvent]:
        async with serving(handle) as url:
            return await gathered(StreamClient(url, wait=waits, jitter=lambda: 0.5), 4)

    assert asyncio.run(run())[0] == expected
    assert waits.seconds == [7.654, ASKED_SECONDS_MAX, 0.0005]


class Waits:
    """Remembers what the client would have waited before each reconnect, and does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, _closed: asyncio.Event, seconds: float) -> None:
        self.seconds.append(seconds)


def test_waits_grow_from_the_servers_retry_and_begin_anew_after_a_stream_that_worked() -> None:
    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        worked = number in {1, 5, 6}
        head = HEAD.replace(b"retry: 1\n", b"retry: 4000\n")
        writer.write(head + opened(resumed=False) if worked else b"HTTP/1.1 503 Busy\r\n\r\n")
        await end(writer)

    async def run() -> list[float]:
        waits = Waits()
        async with serving(handle) as url:
            await gathered(StreamClient(url, jitter=lambda: 0.5, wait=waits), 5)
        return waits.seconds

    assert asyncio.run(run()) == [2.0, 4.0, 8.0, 15.0, 2.0]


def test_a_wait_is_jittered_in_full_and_bounded() -> None:
    assert backoff_seconds(1.0, 3, 0.75) == 6.0
    assert backoff_seconds(1.0, 3, 0.0) == pytest.approx(0.8)
    assert backoff_seconds(2.0, 10_000, 1.0) == 30.0
    assert backoff_seconds(86_400.0, 0, 1.0) == 30.0


def test_no_content_ends_the_stream() -> None:
    async def handle(_number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await end(writer)

    async def run() -> None:
        async with serving(handle) as url:
            client = StreamClient(url)
            assert [each async for each in client.events()] == []
            assert client.connects == 0

    asyncio.run(run())


def test_it_ends_at_once_when_it_is_closed_while_it_waits() -> None:
    waiting = asyncio.Event()

    async def wait(closed: asyncio.Event, _seconds: float) -> None:
        waiting.set()
        await closed.wait()

    async def run() -> None:
        client = StreamClient("http://127.0.0.1:1/", wait=wait)  # nobody listens there
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(gathered(client, 1))
            await waiting.wait()
            await client.aclose()
        assert reading.result() == []

    asyncio.run(run())


@pytest.mark.parametrize(
    "frame",
    [
        b"event: stream.open\ndata: {}\n\n",
        b'event: stream.open\ndata: {"resumed":"yes","replayFrom":null}\n\n',
        b"event: stream.gap\ndata: evicted\n\n",
        b"event: stream.lagged\ndata: []\n\n",
        b"data: no CloudEvent\n\n",
        b'data: {"id":"1","type":"x","subject":"s","sequence":"one"}\n\n',
    ],
)
def test_what_cannot_be_understood_is_raised_not_skipped(frame: bytes) -> None:
    async def handle(_number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + frame)
        await end(writer)

    async def run() -> None:
        async with serving(handle) as url:
            with pytest.raises(BadStreamEvent):
                await gathered(StreamClient(url), 1)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad", SseRefused),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>", SseRefused),
        (b"SSH-2.0-x\r\n\r\n", BrokenResponse),
        (b"", BrokenResponse),
    ],
)
def test_what_is_no_stream_is_refused(answer: bytes, expected: type[Exception]) -> None:
    async def handle(_number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def run() -> None:
        async with serving(handle) as url:
            with pytest.raises(expected):
                await SseConnection.open(url)

    asyncio.run(run())


def test_a_refusal_in_chunks_is_whole_although_the_connection_stays() -> None:
    async def handle(number: int, head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n")
        await asyncio.Event().wait()

    async def run() -> None:
        async with serving(handle) as url:
            with pytest.raises(SseRefused) as refused:
                await SseConnection.open(url)
            assert (refused.value.status, refused.value.body) == (400, b"bad")

    asyncio.run(run())


def test_a_temporary_refusal_is_tried_again_and_a_final_one_is_raised() -> None:
    answers = [b"503 Busy", b"429 Slow", b"403 No"]

    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + answers[number - 1] + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def run() -> None:
        async with serving(handle) as url:
            with pytest.raises(SseRefused) as refused:
                await gathered(StreamClient(url, wait=Waits()), 1)
            assert refused.value.status == 403

    asyncio.run(run())


def test_an_answer_that_only_looks_well_is_refused_by_its_media_type() -> None:
    async def handle(_number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\ndata: 1\n\n")
        await end(writer)

    async def run() -> None:
        async with serving(handle) as url:
            with pytest.raises(SseRefused, match="text/html"):
                await gathered(StreamClient(url), 1)

    asyncio.run(run())
