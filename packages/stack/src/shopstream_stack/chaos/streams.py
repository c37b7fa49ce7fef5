"""The clients of a run as a measure: who has a stream, and whom events reach."""

import asyncio
import json
import time
from collections.abc import Collection
from typing import Final

from shopstream_shared.clock import Clock, epoch_ms, parse_time
from shopstream_stack.chaos.probe import when
from shopstream_stack.demo.crowd import Crowd, Watcher
from shopstream_stack.demo.evidence import Receipt, WatcherReading
from shopstream_stack.stream_client import plain_wait

#: A browser waits what ``retry`` says (1 to 3 s) and does not back off while it is refused.
RETRY_SECONDS_MAX: Final = 3.0


class Streams:
    """Looks at the clients from their own event loop. Times are seconds; None: not in time."""

    def __init__(self, crowd: Crowd, clock: Clock) -> None:
        self._crowd = crowd
        self._clock = clock

    def at(self, ports: Collection[int]) -> list[WatcherReading]:
        """The clients whose connection begins at one of these ports of ours."""
        return [one.reading for one in self._crowd.watchers if one.client.local_port in ports]

    async def resumed(self, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` (monotonic) every client has its `stream.open`.

        To be asked when what was to break has broken: a client notices at its next turn.
        """

        async def all_open() -> bool:
            return all(_is_open(one) for one in self._crowd.watchers)

        return await when(all_open, since, seconds_max, look_at_once=False)

    async def delivered(self, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` an event that is younger than ``since`` has reached every client
        that wants all of them; one that was replayed or had waited somewhere does not count."""
        at_ms = epoch_ms(self._clock.now()) - (time.monotonic() - since) * 1_000
        greedy = [one.reading for one in self._crowd.watchers if one.reading.wants_all]

        async def all_received() -> bool:
            return all(_has_younger(one, since, at_ms) for one in greedy)

        return await when(all_received, since, seconds_max)


async def as_a_browser(closed: asyncio.Event, seconds: float) -> None:
    """A client's wait before it connects again."""
    await plain_wait(closed, min(seconds, RETRY_SECONDS_MAX))


def _has_younger(reading: WatcherReading, since: float, at_ms: float) -> bool:
    """Whether an event that came after ``since`` (monotonic) is of after ``at_ms``."""
    for receipt in reversed(reading.receipts):
        if receipt.at <= since:
            return False
        if _made_ms(receipt) > at_ms:
            return True
    return False


def _made_ms(receipt: Receipt) -> int:
    """The event's own time, in epoch milliseconds."""
    return epoch_ms(parse_time(json.loads(receipt.event.body)["time"]))


def _is_open(watcher: Watcher) -> bool:
    """Its present connection has said so; others may have been refused, or cut before."""
    return watcher.client.is_connected and watcher.opened == watcher.client.connects
