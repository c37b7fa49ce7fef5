"""One call to a store that hangs in any way, or whose answers are damaged, ends in time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

import aioboto3
import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from shopstream_analytics.calls import UPLOAD_BYTES_PER_SECOND_MIN, BoundedSession

#: Of a test; the bound of reads, which must not be what ends a call, is as long.
SECONDS_MAX: Final = 60
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 100\r\n\r\n"
)


class Hasty(BoundedSession):
    """The same with a short bound."""

    seconds_max: ClassVar = 0.5
    upload_bytes_per_second_min: ClassVar = 8 * UPLOAD_BYTES_PER_SECOND_MIN


class Patient(BoundedSession):
    """A bound that is below what four calls one after the other take, and far above one."""

    seconds_max: ClassVar = 2.0


@asynccontextmanager
async def client_of(
    serve: Serve, service: str, session_class: type[BoundedSession] = Hasty, connections: int = 6
) -> AsyncIterator[Any]:
    """A client with one try a call, of a store that serves like this."""
    tasks = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Tasks of ours, not the server's: they are ended before the loop is.
        tasks.append(asyncio.get_running_loop().create_task(serve_one(reader, writer)))

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = AioConfig(
            http_session_cls=session_class,
            max_pool_connections=connections,
            retries={"total_max_attempts": 1, "mode": "standard"},
            read_timeout=SECONDS_MAX,
        )
        session: Any = aioboto3.Session(
            aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
        )
        async with session.client(
            service, endpoint_url=f"http://127.0.0.1:{port}", config=config
        ) as client:
            yield client
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, each before the bound of reads."""
    writer.write(ANSWER)
    while not writer.transport.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.05)


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the request in and never answers."""
    while await reader.read(65_536):
        pass


async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the head of an upload and then does not take its body."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's
    while not writer.transport.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("serve", [drip, say_nothing])
def test_an_answer_that_drips_or_never_comes_ends_at_the_bound_of_a_try(serve: Serve) -> None:
    async def call() -> None:
        async with client_of(serve, "dynamodb") as client:
            with pytest.raises(ReadTimeoutError):
                await client.list_tables()

    asyncio.run(asyncio.wait_for(call(), SECONDS_MAX))


def test_an_upload_that_is_not_taken_ends_at_the_bound_that_its_bytes_give() -> None:
    async def call() -> None:
        # More than the buffers of the sockets take.
        body = b"x" * (8 * UPLOAD_BYTES_PER_SECOND_MIN)
        async with client_of(read_nothing, "s3") as client:
            with pytest.raises(ReadTimeoutError):
                await client.put_object(Bucket="b", Key="k", Body=body)

    # Before the bound of reads.
    began = time.monotonic()
    asyncio.run(asyncio.wait_for(call(), SECONDS_MAX))
    assert time.monotonic() - began >= Hasty.seconds_max + 1


def test_waiting_for_a_connection_is_not_part_of_the_bound_of_a_try() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.6)
        writer.write(
            b'HTTP/1.1 200 OK\r\ncontent-length: 17\r\nconnection: close\r\n\r\n{"TableNames":[]}'
        )
        await writer.drain()
        await reader.read()

    async def call() -> None:
        async with client_of(slow, "dynamodb", Patient, connections=1) as client:
            answers = await asyncio.gather(*(client.list_tables() for _ in range(4)))
            assert all(answer["TableNames"] == [] for answer in answers)

    asyncio.run(asyncio.wait_for(call(), SECONDS_MAX))


def test_an_answer_whose_checksum_is_wrong_is_no_answer() -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-amz-crc32: 1\r\nconnection: close\r\n\r\n{}"
        )
        await writer.drain()
        await reader.read()

    async def call() -> None:
        async with client_of(lie, "dynamodb") as client:
            # Taken as it is, this would say that nothing was left unprocessed.
            with pytest.raises(ConnectionClosedError):
                await client.batch_write_item(RequestItems={"t": [{"PutRequest": {"Item": {}}}]})

    asyncio.run(asyncio.wait_for(call(), SECONDS_MAX))
