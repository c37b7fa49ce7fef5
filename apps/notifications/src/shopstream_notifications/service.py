"""The whole service in one process: reader, log, hub and listener, until SIGTERM."""

import asyncio
import contextlib
import math
import resource
import socket
from collections.abc import Callable
from typing import Final

import uvloop

from shopstream_notifications.settings import NotificationsSettings
from shopstream_notifications.standing import Standing
from shopstream_notifications.wiring import Resources, Runner, wire
from shopstream_shared.web import serve

#: After the goodbyes, connections get this long to end; with what follows it stays below the
#: promised five seconds.
AFTER_DRAIN_SECONDS: Final = 2

#: What else runs beside the service, by name.
Beside = Callable[[Resources], dict[str, Runner]]


def _nothing(_resources: Resources) -> dict[str, Runner]:
    return {}


def run_service(
    settings: NotificationsSettings,
    listener: socket.socket,
    standing: Standing | None = None,
    beside: Beside = _nothing,
) -> None:
    """Serve until SIGTERM; ``standing`` is what others there are, ``beside`` what they ask."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, listener, standing or Standing(), beside))


async def _run(
    settings: NotificationsSettings, listener: socket.socket, standing: Standing, beside: Beside
) -> None:
    """A side task that dies takes the process with it."""
    async with wire(settings, standing) as resources, asyncio.TaskGroup() as group:
        sides = {**resources.tasks, **beside(resources)}
        tasks = [group.create_task(task(), name=name) for name, task in sides.items()]
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


def allow_many_sockets() -> None:
    """Each stream is a file descriptor; the usual soft limit of 1,024 is far too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
