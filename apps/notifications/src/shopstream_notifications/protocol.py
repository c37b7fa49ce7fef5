"""uvicorn's HTTP protocol with the two things that ASGI keeps from us: the socket and its end.

A socket whose peer is gone, or takes nothing, is dropped by the kernel:
application time-outs end the handler but leave the socket open. The transport is handed on in the
scope, so that a stream can be closed from our side.
"""

import asyncio
import socket
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Unacknowledged or refused bytes older than this end the connection: two heartbeats.
USER_TIMEOUT_MS: Final = 30_000
#: Kernel memory a slow reader may fill (doubled by Linux); without it a loopback socket takes 4 MB.
SEND_BUFFER_BYTES: Final = 262_144
SCOPE_KEY: Final = "shopstream.transport"


class StreamProtocol(HttpToolsProtocol):
    """Sets socket options and shows the transport to the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class itself narrows it
        super().connection_made(transport)
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[SCOPE_KEY] = self.transport  # type: ignore[typeddict-unknown-key]  # ours, beside ASGI's
