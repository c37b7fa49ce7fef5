"""The SSE client against a small server whose answers are written out byte by byte."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shopstream_stack.sse_client import BrokenResponse, SseClient, SseConnection, SseRefused

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
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


def test_it_reconnects_with_the_last_complete_id_until_it_is_closed() -> None:
    asked: list[str | None] = []

    async def handle(number: int, head: str, writer: asyncio.StreamWriter) -> None:
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        asked.append(fields.get("Last-Event-ID"))
        writer.write(HEAD + b"retry: 1\n\nid: %d\ndata: x\n\n" % number)
        writer.write(b"id: %d\n\nid: lost\ndata: not complete" % (number + 100))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def run() -> list[str]:
        async with serving(handle) as url:
            client = SseClient(url)
            ids = []
            async for event in client.events():
                ids.append(event.id)
                if len(ids) == 3:
                    await client.aclose()
            assert client.connects == 3
            return ids

    assert asyncio.run(run()) == ["1", "2", "3"]
    assert asked == [None, "101", "102"]


def test_a_silent_server_is_left_by_the_watchdog() -> None:
    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"retry: 1\ndata: %d\n\n" % number)
        await asyncio.Event().wait()

    async def run() -> None:
        async with serving(handle) as url:
            client = SseClient(url, idle_seconds_max=0.2)
            async for event in client.events():
                if event.data == "2":
                    await client.aclose()
            assert client.connects == 2

    asyncio.run(run())


def test_a_cut_on_purpose_resumes() -> None:
    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"retry: 1\nid: %d\ndata: %d\n\n" % (number, number))
        await asyncio.Event().wait()

    async def run() -> None:
        async with serving(handle) as url:
            client = SseClient(url)
            async for event in client.events():
                if event.data == "3":
                    await client.aclose()
                client.cut()
            assert client.last_event_id == "3"

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
    async def handle(number: int, _head: str, writer: asyncio.StreamWriter) -> None:
        status = b"503 Busy" if number < 3 else b"403 No"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def run() -> None:
        async with serving(handle) as url:
            client = SseClient(url, jitter=lambda: 0.0)
            client._retry_seconds = 0.001
            with pytest.raises(SseRefused) as refused:
                async for _ in client.events():
                    pass
            assert refused.value.status == 403

    asyncio.run(run())
