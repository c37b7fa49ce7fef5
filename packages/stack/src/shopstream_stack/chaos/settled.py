"""Whether all that was written has been published and has arrived."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psycopg

from shopstream_stack.chaos.place import Place
from shopstream_stack.chaos.tail import Tail
from shopstream_stack.demo.crowd import Crowd
from shopstream_stack.demo.evidence import WatcherReading

#: After a load: until the outbox is empty, the log complete and all clients have all of it.
DRAIN_SECONDS_MAX: Final = 120.0
DRAIN_POLL_SECONDS: Final = 0.2
#: Far longer than an event takes from the log to a client.
QUIET_SECONDS: Final = 2.0


Ends = Mapping[tuple[str, int], int]


@dataclass(slots=True)
class Settled:
    """Waits for it. ``excused``: by client, events that it was told it misses."""

    place: Place
    tail: Tail
    crowd: Crowd
    excused: dict[str, int] = field(default_factory=dict)
    #: By client, how many of the gaps it was told of were meant to be.
    meant_gaps: dict[str, int] = field(default_factory=dict)

    async def until_all_has_arrived(self) -> str:
        """ "" when it has, else what is missing after DRAIN_SECONDS_MAX."""
        return await self._until(self.crowd.readings)

    async def until_all_is_published(self) -> str:
        """The same, clients left aside."""
        return await self._until(())

    async def until_nothing_comes(self) -> None:
        """Until no client has got anything for QUIET_SECONDS: with all published, it has all that
        will come."""
        end, before = time.monotonic() + DRAIN_SECONDS_MAX, -1
        while (now := sum(len(one.receipts) for one in self.crowd.readings)) != before:
            if time.monotonic() > end:
                return
            before = now
            await asyncio.sleep(QUIET_SECONDS)

    def excuse(self, reading: WatcherReading, ends: Ends) -> int:
        """A client was told of a gap, and nothing more comes: how much of what it has not got is
        in the gap.

        ``ends``: of the new topics, when its stream was open again. Of what lies below them it may
        have missed any, of what came after none; and it had all of the old topics.
        """
        absent = self.tail.matching(reading) - len(reading.receipts)
        in_gap = min(absent, self.tail.matching_below(reading, ends))
        self.excused[reading.name] = in_gap
        self.meant_gaps[reading.name] = len(reading.gaps)
        return in_gap

    def unmeant_gaps(self) -> list[str]:
        """What clients were told to have missed, though nothing was to be missed."""
        return [
            f"{reading.name}: {gap}"
            for reading in self.crowd.readings
            for gap in reading.gaps[self.meant_gaps.get(reading.name, 0) :]
        ]

    async def _until(self, readings: Sequence[WatcherReading]) -> str:
        end = time.monotonic() + DRAIN_SECONDS_MAX
        while what := await missing(self.place, self.tail, readings, self.excused):
            if time.monotonic() > end:
                return f"not within {DRAIN_SECONDS_MAX:g} s: {what}"
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        return ""


async def missing(
    place: Place,
    tail: Tail,
    readings: Sequence[WatcherReading],
    excused: Mapping[str, int] | None = None,
) -> str:
    """What has not arrived yet, in words; "" when all has."""
    try:
        waiting, audited = await asyncio.to_thread(_stored, place)
    except psycopg.Error as error:
        return f"the database does not tell what it holds: {error}"
    if waiting:
        return f"{waiting} rows wait in the outbox"
    if tail.published != audited:
        return f"{audited} events are stored, {tail.published} are on the log"
    for reading in readings:
        wanted = tail.matching(reading) - (excused or {}).get(reading.name, 0)
        if len(reading.receipts) != wanted:
            return f"{reading.name} has {len(reading.receipts)} of {wanted} events"
    return ""


def _stored(place: Place) -> tuple[int, int]:
    """How many rows wait in the outbox, and how many events there are. Raises psycopg.Error."""
    statement = "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM event_audit)"
    with place.connect() as session:
        row = session.execute(statement.encode()).fetchone()
    return (0, 0) if row is None else (int(str(row[0])), int(str(row[1])))
