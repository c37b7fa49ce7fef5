"""What is sent without an event: heartbeats, progress past filtered-out records, goodbyes.

One timer for all clients. Heartbeats are spread over the interval by client number, so that
10,000 of them are no burst. All three are left out for a socket that is full: it gets data.
"""

import asyncio
import random
import time
from typing import Final

from shopstream_notifications import sse
from shopstream_notifications.client import Client
from shopstream_notifications.groups import Group
from shopstream_notifications.hub import Hub
from shopstream_notifications.wire import chunk
from shopstream_shared.clock import Clock, format_time

#: Each interval is cut into this many slots, each client belongs to one.
SLOTS: Final = 30
#: A filtered client learns at most this often how far the stream went without it (rule 26).
PROGRESS_SECONDS: Final = 5.0
#: So many clients are told in one go, about a millisecond; then others have their turn.
PROGRESS_SLICE: Final = 100
PROGRESS_PAUSE_SECONDS: Final = 0.01
#: After a goodbye clients come back spread over these milliseconds.
GOODBYE_RETRY_MS: Final = (500, 5_000)


class Pulse:
    """Runs beside the hub in the same loop."""

    def __init__(self, hub: Hub, clock: Clock, *, heartbeat_seconds: float) -> None:
        self._hub = hub
        self._clock = clock
        self._slot_seconds = heartbeat_seconds / SLOTS
        self._random = random.SystemRandom()

    async def run_heartbeats(self) -> None:
        """For ever."""
        slot = 0
        due_at = time.monotonic()
        while True:
            # From moment to moment, not from end to end: the interval must not drift under load.
            due_at = max(due_at + self._slot_seconds, time.monotonic())
            await asyncio.sleep(due_at - time.monotonic())
            slot = (slot + 1) % SLOTS
            due = [c for c in self._hub.clients.values() if c.number % SLOTS == slot]
            if due:
                beat = chunk(sse.heartbeat(format_time(self._clock.now())))
                for client in due:
                    client.nudge(beat)

    async def run_progress(self) -> None:
        """For ever. Markers alone move positions too; those ids go out only every third time."""
        turn = 0
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            turn += 1
            await self.tell_progress(markers_too=turn % 3 == 0)

    async def tell_progress(self, *, markers_too: bool) -> None:
        """Give live clients an id where events passed by that their filter left out.

        In slices, between which events go out: with thousands of filters all are due at once.
        """
        log = self._hub.log
        if log is None:
            return
        due: list[tuple[Group, Client]] = []
        for group in self._hub.groups:
            if group.told < log.end or (markers_too and group.told_version != log.version):
                group.told, group.told_version = log.end, log.version
                due += [(group, client) for client in group.live]
        for begin in range(0, len(due), PROGRESS_SLICE):
            if begin:
                await asyncio.sleep(PROGRESS_PAUSE_SECONDS)
            if self._hub.log is not log:
                return  # made anew; the clients are gone
            # Of this moment: an older id would take a client back behind what it has meanwhile got.
            progress = chunk(sse.id_only(log.current_id()))
            for group, client in due[begin : begin + PROGRESS_SLICE]:
                if client in group.live:
                    client.nudge(progress)

    async def drain(self, seconds: float) -> None:
        """One goodbye a client, in random order, spread over the time; then nobody is left."""
        clients = list(self._hub.clients.values())
        self._random.shuffle(clients)
        begun = time.monotonic()
        for number, client in enumerate(clients, 1):
            self.say_goodbye(client)
            # By the clock, not by a pause each: timers are late by a millisecond, and so many
            # thousands of them would take longer than the process has.
            due_at = begun + seconds * number / len(clients)
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
        for client in list(self._hub.clients.values()):
            self.say_goodbye(client)

    def say_goodbye(self, client: Client, reason: str = "drain") -> None:
        """Tell when to come back, and close."""
        if not client.closed:
            client.nudge(chunk(self.goodbye()))
            self._hub.close(client, reason)

    def goodbye(self) -> bytes:
        """A goodbye with a reconnect time of its own; ``retry`` makes EventSource keep to it."""
        retry_ms = self._random.randint(*GOODBYE_RETRY_MS)
        return sse.control("stream.goodbye", {"retryMs": retry_ms}, retry_ms=retry_ms)
