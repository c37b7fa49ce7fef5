"""The clients of a run as a measure: who has a stream, and whom events reach."""

import asyncio
from typing import Final

from shopstream_stack.chaos.probe import when
from shopstream_stack.demo.crowd import Crowd, Watcher
from shopstream_stack.stream_client import plain_wait

#: A browser waits what ``retry`` says (1 to 3 s) and does not back off while it is refused.
RETRY_SECONDS_MAX: Final = 3.0


class Streams:
    """Looks at the clients from their own event loop. Times are seconds; None: not in time."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd

    async def resumed(self, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` (monotonic) every client has its `stream.open`.

        To be asked when what was to break has broken: a client notices at its next turn.
        """

        async def all_open() -> bool:
            return all(_is_open(one) for one in self._crowd.watchers)

        return await when(all_open, since, seconds_max, look_at_once=False)

    async def delivered(self, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` an event has reached every client that wants all of them."""
        greedy = [one.reading for one in self._crowd.watchers if one.reading.wants_all]

        async def all_received() -> bool:
            return all(one.receipts and one.receipts[-1].at > since for one in greedy)

        return await when(all_received, since, seconds_max)


async def as_a_browser(closed: asyncio.Event, seconds: float) -> None:
    """A client's wait before it connects again."""
    await plain_wait(closed, min(seconds, RETRY_SECONDS_MAX))


def _is_open(watcher: Watcher) -> bool:
    """Each answer with 200 is followed by one `stream.open`."""
    return watcher.client.is_connected and len(watcher.reading.opens) == watcher.client.connects
