"""Chunks: what a parser of HTTP/1.1 reads is what went in, joined, and never the end by mistake."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.stream import PARTS, History, Replica, Socket, settle, simulate

from shopstream_notifications import wire
from shopstream_notifications.client import Client
from shopstream_notifications.filters import Filter


def body_of(framed: bytes) -> bytes:
    """A chunked body, read by RFC 9112, section 7.1."""
    body = b""
    while framed:
        size, _, framed = framed.partition(b"\r\n")
        length = int(size, 16)
        assert length > 0, "an empty chunk ends the response"
        body += framed[:length]
        assert framed[length : length + 2] == b"\r\n"
        framed = framed[length + 2 :]
    return body


@given(st.lists(st.binary()))
def test_chunks_carry_all_pieces_in_order_and_are_never_empty(pieces: list[bytes]) -> None:
    assert body_of(b"".join(wire.chunks(pieces))) == b"".join(pieces)


@given(st.binary(min_size=1))
def test_a_single_chunk_carries_its_piece(piece: bytes) -> None:
    assert body_of(wire.chunk(piece)) == piece


def test_chunks_join_pieces_whole_and_stay_near_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CHUNK_BYTES_MAX", 10)
    pieces = [b"12345", b"67", b"8901", b"x" * 30, b"y"]
    assert [body_of(c) for c in wire.chunks(pieces)] == [b"12345678901", b"x" * 30, b"y"]


def test_a_chunk_is_joined_only_when_it_is_sent() -> None:
    """Thousands of stalled replays must not each hold a copy of all that they still have to get."""
    piece = b"x" * wire.CHUNK_BYTES_MAX
    assert body_of(next(iter(wire.chunks(itertools.repeat(piece))))) == piece


class Gone(Socket):
    """The peer reset the connection and the server's handler does not know yet."""

    def write(self, data: bytes) -> None:
        raise RuntimeError("the handler is closed")


def test_a_connection_that_broke_is_taken_out_and_the_others_get_their_events() -> None:
    async def run() -> None:
        replica = Replica(History({part: [True] * 3 for part in PARTS}))
        client, socket = await replica.connect()
        _, other = await replica.connect()
        client.transport = gone = Gone()
        gone.closed = True
        replica.read(PARTS[0], 2)
        assert client.number not in replica.hub.clients
        assert other.data == ["shop.products 0 0", "shop.products 0 1"]
        assert replica.hub.metrics.closed.labels("client")._value.get() == 1
        assert socket.data == []

    simulate(run())


def test_nothing_is_written_to_a_closing_connection() -> None:
    async def run() -> None:
        socket = Socket()
        client = Client(1, socket, socket, Filter(), "resume")
        socket.close()
        assert not client.nudge(wire.chunk(b"x"))
        await client.write(wire.chunk(b"x"))
        client.close()
        assert socket.raw == b""

    simulate(run())


def test_a_full_socket_is_ended_with_what_it_has_not_with_what_waits() -> None:
    async def run() -> None:
        replica = Replica(History({part: [True] * 9 for part in PARTS}))
        client, socket = await replica.connect()
        socket.block()
        before = socket.raw
        replica.read(PARTS[0], 5)
        await settle()
        replica.hub.close(client, "slow")
        await settle()
        assert socket.raw == before
        assert socket.closed
        assert len(asyncio.all_tasks()) == 1, "its task is gone"

    simulate(run())
