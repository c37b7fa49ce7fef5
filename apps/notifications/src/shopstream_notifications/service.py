"""The whole service in one process: reader, log, hub and listener, until SIGTERM."""

import asyncio
import contextlib
import gc
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

#: Made since the last look for cycles, of which streams leave none. At the default of 700 objects a
#: busy stream is looked through many times a second, with thousands of clients for 100 ms at times.
YOUNG_OBJECTS_MAX: Final = 50_000

#: A listener that is opened late waits for the broker, but no longer: health must answer.
LISTEN_SECONDS_MAX: Final = 5.0
_LOOKS: Final = 100

#: Opens the listener; called once the reader is at work.
Open = Callable[[], socket.socket]
#: What else runs beside the service, by name.
Beside = Callable[[Resources], dict[str, Runner]]


def _nothing(_resources: Resources) -> dict[str, Runner]:
    return {}


def run_service(
    settings: NotificationsSettings,
    listener: socket.socket | Open,
    standing: Standing | None = None,
    beside: Beside = _nothing,
) -> None:
    """Serve until SIGTERM; ``standing`` is what others there are, ``beside`` what they ask.

    A listener that is opened here is opened when the service is healthy, or after
    LISTEN_SECONDS_MAX: where others listen too, nobody is sent to one that cannot serve yet.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, listener, standing or Standing(), beside))


async def _run(
    settings: NotificationsSettings,
    listener: socket.socket | Open,
    standing: Standing,
    beside: Beside,
) -> None:
    """A side task that dies takes the process with it."""
    async with wire(settings, standing) as resources, asyncio.TaskGroup() as group:
        sides = {**resources.tasks, **beside(resources)}
        tasks = [group.create_task(task(), name=name) for name, task in sides.items()]
        drains: list[asyncio.Task[None]] = []

        def drain() -> None:
            if not drains:
                drains.append(group.create_task(resources.drain(), name="stream-drain"))

        if not isinstance(listener, socket.socket):
            await _healthy(resources)
            listener = listener()
        # What is there now stays; no collection need go through it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS_MAX)
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


async def _healthy(resources: Resources) -> None:
    for _ in range(_LOOKS):
        if (await resources.health.report()).status == "healthy":
            return
        await asyncio.sleep(LISTEN_SECONDS_MAX / _LOOKS)


def allow_many_sockets() -> None:
    """Each stream is a file descriptor; the usual soft limit of 1,024 is far too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
