"""`shopstream-notifications`: Kafka to browsers over Server-Sent Events."""

import asyncio
import contextlib
import math
import resource
import socket

import uvloop

from shopstream_notifications.settings import NotificationsSettings
from shopstream_notifications.wiring import wire
from shopstream_shared import logs
from shopstream_shared.web import bind, serve

#: After the goodbyes, connections get this long to end; with what follows it stays below the
#: promised five seconds.
AFTER_DRAIN_SECONDS = 2


def main() -> None:
    """Entry point of the console script."""
    _allow_many_sockets()  # the settings are checked against it
    settings = NotificationsSettings.read_or_exit()
    logs.configure("notifications", settings.log_level)
    logs.warn_of_dead_variables()
    listener = bind(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings, listener))


async def run(settings: NotificationsSettings, listener: socket.socket) -> None:
    """Serve until SIGTERM; a side task that dies takes the process with it."""
    async with wire(settings) as resources, asyncio.TaskGroup() as group:
        tasks = [group.create_task(task(), name=name) for name, task in resources.tasks.items()]
        drains: list[asyncio.Task[None]] = []

        def drain() -> None:
            if not drains:
                drains.append(group.create_task(resources.drain(), name="stream-drain"))

        await serve(
            resources.app,
            listener,
            on_stop=drain,
            graceful_seconds=math.ceil(settings.drain_seconds) + AFTER_DRAIN_SECONDS,
            protocol=resources.protocol,
        )
        resources.give_up()
        for task in (*tasks, *drains):
            task.cancel()


def _allow_many_sockets() -> None:
    """Each stream is a file descriptor; the usual soft limit of 1,024 is far too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
