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
BACKLOG: Final = 4_096


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
    """uvicorn without its own signal handling, which would end the process by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int, *, variable: str = "PORT") -> socket.socket:
    """A listening socket. A busy or forbidden port is one clear line and exit 2.

    ``variable`` is the one that moves the port, for that line.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        exit_usage(f"cannot listen on {host}:{port}: {error.strerror}; free it or set {variable}")
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


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
            backlog=BACKLOG,
            timeout_keep_alive=5,
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
