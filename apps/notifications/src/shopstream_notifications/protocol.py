"""uvicorn's HTTP protocol with the two things that ASGI keeps from us: the socket and its end.

A socket whose peer is gone, or takes nothing, is dropped by the kernel:
application time-outs end the handler but leave the socket open. The transport and its flow control
are handed on in the scope, so that a stream can be written to (``wire``) and closed from our side.
Sockets are counted here, where they begin and end.
"""

import asyncio
import socket
import time
from typing import ClassVar, Final, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shopstream_notifications.limits import Place

#: Kernel memory a slow reader may fill (doubled by Linux); without it a loopback socket takes 4 MB.
SEND_BUFFER_BYTES: Final = 262_144
SCOPE_KEY: Final = "shopstream.transport"
#: A whole request head must have come by then, or the socket is closed: it counts for nothing.
REQUEST_SECONDS_MAX: Final = 10.0


class SocketEvents(Protocol):
    """Who is told of sockets, in the loop."""

    def opened(self) -> bool:
        """A socket was accepted; False = drop it."""
        ...

    def lost(self, connection: "StreamProtocol") -> None:
        """The socket is gone."""
        ...


class StreamProtocol(HttpToolsProtocol):
    """Sets socket options, shows (transport, flow control) to the application, tells of the end.

    Slots, because a 31st attribute would cost each connection a dictionary of its own.
    """

    __slots__ = ("dead", "place")

    events: ClassVar[SocketEvents]
    dead_ms: ClassVar[int]
    #: Sockets that owe us a request head, oldest first, and when their time is over.
    waiting: ClassVar["dict[StreamProtocol, float]"]

    #: Whose stream the socket carries.
    place: Place | None
    #: The kernel gave the peer up.
    dead: bool

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class itself narrows it
        super().connection_made(transport)
        self.place, self.dead = None, False
        if not self.events.opened():
            transport.abort()
            return
        self._await_request()
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self.dead_ms)

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting.pop(self, None)
        self.dead = isinstance(exc, TimeoutError)
        super().connection_lost(exc)
        # uvicorn forgets it when a connection was reset: all of it then stays for that long.
        self._unset_keepalive_if_required()
        self.events.lost(self)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_request()
        self.scope[SCOPE_KEY] = (self.transport, self.flow)  # type: ignore[typeddict-unknown-key]  # ours, beside ASGI's

    def on_headers_complete(self) -> None:
        self.waiting.pop(self, None)
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]  # None before the first request
            # Pipelined behind an answer that may have no end. uvicorn would stop reading, so that
            # nobody sees the peer leave, and tell only the last request of it.
            self.transport.abort()
            return
        super().on_headers_complete()

    def _await_request(self) -> None:
        self.waiting.setdefault(self, time.monotonic() + REQUEST_SECONDS_MAX)

    @classmethod
    def end_late(cls, now: float) -> None:
        """Close sockets that owe a request head for too long; to be called every second or so."""
        while cls.waiting:
            connection, due_at = next(iter(cls.waiting.items()))
            if due_at > now:
                return
            del cls.waiting[connection]
            connection.transport.abort()


def counted_by(counter: SocketEvents, *, dead_seconds: float) -> type[StreamProtocol]:
    """The protocol of one server: uvicorn wants a class, so what it shares is the class's."""

    class Counted(StreamProtocol):
        __slots__ = ()

        events = counter
        dead_ms = round(dead_seconds * 1_000)
        waiting: ClassVar[dict[StreamProtocol, float]] = {}

    return Counted
