"""The analytics service's parent process: the listener on HEALTH_PORT and three workers."""

import asyncio
import socket

import uvloop

from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.web.app import create_app
from shopstream_analytics.wiring import open_resources
from shopstream_shared.logs import configure, get_logger, warn_of_dead_variables
from shopstream_shared.web import bind, serve

log = get_logger(__name__)


def main() -> None:
    """Serve until SIGTERM or SIGINT; exit 0 then, 2 on wrong settings."""
    settings = AnalyticsSettings.read_or_exit()
    configure("analytics", settings.log_level)
    warn_of_dead_variables()
    listener = bind(settings.host, settings.health_port, variable="HEALTH_PORT")
    uvloop.run(run(settings, listener))


async def run(settings: AnalyticsSettings, listener: socket.socket) -> None:
    """The workers and the listener, side by side."""
    async with open_resources(settings) as resources:
        watches = [
            asyncio.create_task(resources.broker.run(), name="broker watch"),
            asyncio.create_task(resources.freshness.run(), name="freshness"),
        ]
        workers = asyncio.create_task(resources.supervisor.run(), name="supervisor")
        workers.add_done_callback(_end_with_workers)
        try:
            await serve(
                create_app(resources, settings.cors_origins),
                listener,
                on_stop=resources.supervisor.stop,
            )
        finally:
            resources.supervisor.stop()
            await workers
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)


def _end_with_workers(task: "asyncio.Task[None]") -> None:
    # A supervisor that fails would leave a listener without workers; say so loudly.
    if not task.cancelled() and task.exception() is not None:
        log.critical("supervisor failed", error=repr(task.exception()))
