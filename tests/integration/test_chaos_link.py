"""The links of chaos between real sockets, and between psycopg and the real PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from tests.support.components import LocalComponents
from tests.support.link import link_to

from shopstream_stack.chaos.link import Link
from shopstream_stack.demo.crowd import until
from shopstream_stack.ports import LOOPBACK, reserved_ports

SECONDS_MAX = 10.0
#: More than any socket's buffer holds.
MUCH = 3_000_000

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Server:
    """Answers each line `N` with N bytes, and notes what came and how many have ended."""

    lines: list[bytes] = field(default_factory=list)
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.lines.append(line)
                writer.write(b"x" * int(line))
                await writer.drain()
        except OSError:
            pass
        finally:
            self.ended += 1
            writer.close()


Case = Callable[[Link, Server], Awaitable[None]]


def run(case: Case) -> None:
    asyncio.run(asyncio.wait_for(_linked(case), SECONDS_MAX))


async def _linked(case: Case) -> None:
    server = Server()
    with reserved_ports() as ports:
        listener = await asyncio.start_server(server.serve, LOOPBACK, ports.take())
        port = listener.sockets[0].getsockname()[1]
        async with listener, Link(ports.take(), port).open() as link:
            await case(link, server)


@asynccontextmanager
async def client(link: Link) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(LOOPBACK, link.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(streams: Streams, count: int) -> None:
    streams[1].write(f"{count}\n".encode())
    await streams[1].drain()


async def asked(streams: Streams, count: int) -> bytes:
    await ask(streams, count)
    return await streams[0].readexactly(count)


async def to_its_end(reader: asyncio.StreamReader) -> int:
    """How many bytes come before the connection is over."""
    count = 0
    try:
        while chunk := await reader.read(65_536):
            count += len(chunk)
    except ConnectionError:
        pass
    return count


def test_without_a_fault_all_bytes_pass_and_an_end_is_passed_on() -> None:
    async def case(link: Link, server: Server) -> None:
        async with client(link) as streams:
            assert len(await asked(streams, MUCH)) == MUCH
            streams[1].write_eof()
            assert await to_its_end(streams[0]) == 0
        assert server.ended == 1
        assert await until(lambda: link.connections == 0, SECONDS_MAX)

    run(case)


@pytest.mark.parametrize("count", [1, 5, 65_536, 70_001, MUCH - 1])
def test_a_cut_lets_exactly_so_many_bytes_through(count: int) -> None:
    async def case(link: Link, server: Server) -> None:
        link.cut_after(count)
        async with client(link) as streams:
            await ask(streams, MUCH)
            assert await to_its_end(streams[0]) == count
        assert link.cuts == 1
        async with client(link) as streams:
            assert len(await asked(streams, MUCH)) == MUCH

    run(case)


def test_the_bytes_before_a_cut_are_counted_over_all_connections_together() -> None:
    async def case(link: Link, server: Server) -> None:
        link.cut_after(100)
        async with client(link) as first, client(link) as second:
            await asked(first, 60)
            await ask(second, 1_000)
            assert await to_its_end(second[0]) == 40
            assert len(await asked(first, 1_000)) == 1_000
        assert link.cuts == 1

    run(case)


def test_a_cut_may_come_several_times_and_ends_with_healing() -> None:
    async def case(link: Link, server: Server) -> None:
        link.cut_after(100, times=3)
        for _ in range(2):
            async with client(link) as streams:
                await ask(streams, 1_000)
                assert await to_its_end(streams[0]) == 100
        link.heal()
        async with client(link) as streams:
            assert len(await asked(streams, 1_000)) == 1_000
        assert link.cuts == 2

    run(case)


def test_a_silent_connection_stays_open_and_passes_nothing_until_healed() -> None:
    async def case(link: Link, server: Server) -> None:
        async with client(link) as silent, client(link) as other:
            await asked(silent, 1)
            await asked(other, 1)
            link.go_silent()
            await ask(silent, 7)
            other[1].write_eof()
            async with client(link) as fresh:
                # By when this one is answered, the others would have been, too.
                assert len(await asked(fresh, MUCH)) == MUCH
            assert b"7\n" not in server.lines
            assert await until(lambda: server.ended == 1, SECONDS_MAX)  # the fresh one's
            assert not silent[0].at_eof()
            assert link.connections == 2
            link.heal()
            assert await to_its_end(silent[0]) == 0
            assert await until(lambda: server.ended == 3, SECONDS_MAX)
        assert b"7\n" not in server.lines

    run(case)


def test_a_refusing_link_resets_what_is_open_and_lets_nobody_in_until_it_ends() -> None:
    async def case(link: Link, server: Server) -> None:
        async with client(link) as streams:
            assert len(await asked(streams, 5)) == 5
            async with link.refusing():
                assert await to_its_end(streams[0]) == 0
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(LOOPBACK, link.port)
        async with client(link) as streams:
            assert len(await asked(streams, 7)) == 7
        assert link.connections == 1

    run(case)


def test_a_slow_link_delays_both_ways() -> None:
    async def case(link: Link, server: Server) -> None:
        async with client(link) as streams:
            await asked(streams, 1)
            link.slow(0.05)
            began = time.monotonic()
            await asked(streams, 1)
            assert time.monotonic() - began >= 0.1

    run(case)


def test_with_the_server_away_a_client_is_turned_away_and_served_when_it_is_back() -> None:
    async def case(link: Link, server: Server) -> None:
        port, link.server_port = link.server_port, 1
        async with client(link) as streams:
            assert await to_its_end(streams[0]) == 0
        link.server_port = port
        async with client(link) as streams:
            assert await asked(streams, 1) == b"x"

    run(case)


@pytest.fixture
def through(components: LocalComponents) -> Iterator[tuple[Link, str, str]]:
    """A link to PostgreSQL; a database's address through it and past it, an outbox in it."""
    direct = components.fresh_database()
    with psycopg.connect(direct, autocommit=True) as session:
        session.execute("CREATE TABLE outbox (seq bigint PRIMARY KEY)")
    with link_to(direct) as (link, linked):
        yield link, linked, direct


def stored(direct: str) -> list[int]:
    with psycopg.connect(direct) as session:
        return [seq for (seq,) in session.execute("SELECT seq FROM outbox ORDER BY seq")]


def test_the_answer_to_a_commit_is_lost_and_what_it_committed_is_not(
    through: tuple[Link, str, str],
) -> None:
    link, linked, direct = through
    with psycopg.connect(linked, autocommit=True) as session:
        session.execute("INSERT INTO outbox VALUES (1)")
        link.lose_answers()
        assert session.execute("SELECT count(*) FROM outbox").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            session.execute("INSERT INTO outbox VALUES (%s)", (2,), prepare=True)
    assert stored(direct) == [1, 2]
    assert link.lost == 1


def test_the_answers_inside_a_transaction_arrive_and_only_that_to_its_commit_is_lost(
    through: tuple[Link, str, str],
) -> None:
    link, linked, direct = through
    link.lose_answers(times=2)
    with psycopg.connect(linked) as session:
        session.execute("INSERT INTO outbox VALUES (1)")
        session.rollback()
        session.execute("INSERT INTO outbox VALUES (2)")
        with pytest.raises(psycopg.OperationalError):
            session.commit()
    with psycopg.connect(linked) as session, pytest.raises(psycopg.OperationalError):  # noqa: PT012 - the commit is the last
        session.execute("DELETE FROM outbox WHERE seq = 2")
        session.commit()
    with psycopg.connect(linked, autocommit=True) as session:
        session.execute("INSERT INTO outbox VALUES (3)")
    assert stored(direct) == [3]
    assert link.lost == 2
