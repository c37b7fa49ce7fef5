"""A stream's bytes on its connection: HTTP/1.1 chunks, framed once, handed to the transport itself.

ASGI's ``send`` would frame and copy the same bytes again for every client, in a coroutine of its
own, with a message to look at: 1.7 of the 2.9 µs of processor time that a client costs us in user
space, beside 7 µs in the kernel (docs/adr/0027). So the head of a response goes through ASGI, and
what follows it through here. Nothing else may write to the connection meanwhile.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NewType, Protocol

#: Bytes with their chunk's frame around them (RFC 9112, section 7.1): whole events, ready to write.
Chunk = NewType("Chunk", bytes)

#: One chunk to one client: bounds what a transport may buffer above its high-water mark.
CHUNK_BYTES_MAX: Final = 262_144
#: Ends the response.
LAST_CHUNK: Final = Chunk(b"0\r\n\r\n")


class Transport(Protocol):
    """Of asyncio's transport, what a stream needs."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Flow(Protocol):
    """The server's flow control: paused while the transport's buffer is above its mark.

    ``drain`` returns when there is room again, and when the connection is gone.
    """

    write_paused: bool

    async def drain(self) -> None: ...


def chunk(body: bytes) -> Chunk:
    """Frame a piece; it must not be empty, for an empty chunk ends the response."""
    return Chunk(b"%x\r\n%b\r\n" % (len(body), body))


def chunks(pieces: Iterable[bytes]) -> Iterator[Chunk]:
    """Join encoded pieces into chunks of about CHUNK_BYTES_MAX; a piece is never cut.

    One at a time: a socket that is full while it replays must not hold a copy of all that follows.
    """
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES_MAX:
            yield Chunk(b"".join((b"%x\r\n" % size, *waiting, b"\r\n")))
            waiting, size = [], 0
    if size:
        yield Chunk(b"".join((b"%x\r\n" % size, *waiting, b"\r\n")))
