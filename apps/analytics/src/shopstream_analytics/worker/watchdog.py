"""End a worker that has stopped consuming but stays up; nothing is lost by starting anew.

Faust and aiokafka are known for that after trouble with the broker (faust-streaming issues 175, 523
and 532). An event loop that hangs is the parent's to notice: it hears nothing more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.progress import Progress
from shopstream_analytics.sink import LogRange
from shopstream_analytics.timing import monotonic

#: Between two looks.
LOOK_SECONDS: Final = 5.0
#: How long a question to Kafka's client may take.
ANSWER_SECONDS_MAX: Final = 5.0
#: How long something may look wrong; a rebalance with a slow member is over before.
STUCK_SECONDS_MAX: Final = 45.0
#: From one look to the next there are LOOK_SECONDS and an answer. After much more, the process
#: itself stood still (SIGSTOP, a machine asleep): what looks old by the clock had no time to move.
STOOD_STILL_SECONDS: Final = 3 * (LOOK_SECONDS + ANSWER_SECONDS_MAX)


class Stuck(Exception):
    """The worker does not consume what it should, and would not by itself."""


@dataclass(slots=True)
class Watchdog:
    """Looks after one worker while it runs."""

    lanes: Lanes
    progress: Progress
    #: What the log holds, by the same client that consumes.
    ranges: Callable[[], Awaitable[Mapping[Source, LogRange]]]
    #: What the group has given to us.
    assigned: Callable[[], Collection[Source]]
    #: Whether the broker answers others.
    broker_answers: Callable[[], bool]
    clock: Callable[[], float] = monotonic
    #: When each suspicion arose; it falls with its subject, as a lane's position.
    _since: dict[tuple[str, object], float] = field(default_factory=dict)
    _looked_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._looked_at = self.clock()

    async def run(self) -> None:
        """For ever. Raises Stuck."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Once. Raises Stuck when something hangs or has looked wrong for too long.

        After a standstill of the whole process nothing is judged until the next look.
        """
        found = await self._suspicions()
        now = self.clock()
        stood_still = now - self._looked_at > STOOD_STILL_SECONDS
        self._looked_at = now
        if stood_still:
            self._since = dict.fromkeys(found, now)
            return
        if (hanging := self.lanes.hangs(now)) is not None:
            raise Stuck(hanging)
        self._since = {suspicion: self._since.get(suspicion, now) for suspicion in found}
        for (reason, _), since in self._since.items():
            if now - since > STUCK_SECONDS_MAX:
                raise Stuck(reason)

    async def _suspicions(self) -> list[tuple[str, object]]:
        found: list[tuple[str, object]] = []
        if set(self.assigned()) != set(self.lanes.sources()):
            found.append(("partitions are ours but not opened", None))
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                ranges = await self.ranges()
        except Exception:  # noqa: BLE001 - whatever it says, it is no answer
            if self.broker_answers():
                # As long as batches arrive, one partition without a leader is not our fault.
                moment = self.progress.arrived_at
                found.append(("Kafka's client does not answer, the broker does", moment))
            return found
        if self.progress.trouble is None:
            found += [
                ("records wait on the log, but none arrive", lane)
                for lane in self.lanes.lacking(ranges).items()
            ]
        return found
