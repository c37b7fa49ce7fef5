"""The routes and the server that every service shares: health, metrics, quiet start and stop."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shopstream_shared.health import Health
from shopstream_shared.settings import exit_usage

#: Requests in flight at SIGTERM get this long; the whole stop stays under the promised 10 s.
GRACEFUL_SECONDS: Final = 5
#: What the kernel may queue for a listener (its own bound is net.core.somaxconn).
BACKLOG: Final = 4_096
#: A connection that is taken from the queue at the end has this long to send its request.
FIRST_REQUEST_SECONDS_MAX: Final = 0.5
_LOOKS: Final = 50
#: uvicorn forgets this timer of a connection that was reset (so still in 0.54): each one then
#: keeps its request in memory for so long.
KEEP_ALIVE_SECONDS: Final = 5


def operations_routes(health: Health, registry: CollectorRegistry) -> list[Route]:
    """``/health``, ``/health/live``, ``/health/ready`` and ``/metrics``."""

    async def whole(_request: Request) -> Response:
        report = await health.report()
        return JSONResponse(report.as_json(), report.code)

    async def ready(_request: Request) -> Response:
        report = await health.report(ready_only=True)
        return JSONResponse(report.as_json(), report.code)

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return [
        Route("/health", whole),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", metrics),
    ]


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process by the signal.

    And one that answers whom the kernel has accepted: closing a listener resets what is queued for
    it, and the loop takes one connection a turn.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what is queued, stop listening in the same step, then end as uvicorn does."""
        taken = [one for listener in sockets or () for one in _queued(listener)]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        # A peer that is gone already is nobody to answer.
        await asyncio.gather(
            *(loop.connect_accepted_socket(self._protocol, one) for one in taken),
            return_exceptions=True,
        )
        await self._first_requests()
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes it for a connection of its own."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # uvicorn calls it so
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def _first_requests(self) -> None:
        """Wait until nobody is left whose request may still be on its way; bounded."""
        for _ in range(_LOOKS):
            connections = self.server_state.connections
            if all(getattr(one, "cycle", self) is not None for one in connections):
                return
            await asyncio.sleep(FIRST_REQUEST_SECONDS_MAX / _LOOKS)


def _queued(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept what the kernel has ready, at most a full queue of it."""
    for _ in range(BACKLOG):
        try:
            connection, _ = listener.accept()
        except OSError:
            # None is left, or none can be opened; one that was reset meanwhile counts as none.
            return
        connection.setblocking(False)
        yield connection


def bind(host: str, port: int, *, variable: str = "PORT", shared: bool = False) -> socket.socket:
    """A listening socket. A busy or forbidden port is one clear line and exit 2.

    ``variable`` is the one that moves the port, for that line. ``shared``: other processes of this
    user may listen on the port too, and the kernel spreads connections over them.
    """
    listener = _bound(host, port, variable, shared=shared)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def reserve(host: str, port: int, *, variable: str = "PORT") -> socket.socket:
    """Hold a port for listeners that share it, without listening; port 0 takes a free one.

    Refused as by `bind` while anybody listens there, also one who would share.
    """
    alone = _bound(host, port, variable, shared=False)
    number = alone.getsockname()[1]
    alone.close()
    return _bound(host, number, variable, shared=True)


def _bound(host: str, port: int, variable: str, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        exit_usage(f"cannot listen on {host}:{port}: {error.strerror}; free it or set {variable}")
    return bound


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    on_stop: Callable[[], None] | None = None,
    graceful_seconds: int = GRACEFUL_SECONDS,
    protocol: type[HttpToolsProtocol] = HttpToolsProtocol,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return, so that the process can exit 0.

    ``on_stop`` runs in the loop as soon as the signal comes, before connections are waited for,
    at most ``graceful_seconds``. ``protocol`` is for an app that must reach its sockets.
    An app whose lifespan fails ends the process with exit 3; the reason is in the log.
    """
    server = _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            # By default it believes the header from loopback, or from whom the environment says.
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=graceful_seconds,
        )
    )

    def stop() -> None:
        if on_stop is not None:
            on_stop()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await server.serve(sockets=[listener])
