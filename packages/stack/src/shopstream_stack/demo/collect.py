"""Waits until everything has arrived, then reads it all back once."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import KafkaException

from shopstream_stack.console import Reporter
from shopstream_stack.demo.archive_reader import ArchiveReader
from shopstream_stack.demo.crowd import Crowd, Keep
from shopstream_stack.demo.evidence import Readback, SeenEvent
from shopstream_stack.demo.log_reader import LogEntry, LogReader, LogUnreadable
from shopstream_stack.demo.oracle import Oracle
from shopstream_stack.demo.read_api import ReadApi
from shopstream_stack.demo.table_reader import TableReader
from shopstream_stack.errors import StackError

#: Relay, stream and sinks take milliseconds; this is for a machine under load or just recovered.
ARRIVAL_SECONDS_MAX: Final = 60.0
#: A part that was just killed or restarted answers with one of these.
AWAY: Final = (
    *(httpx.HTTPError, KafkaException, LogUnreadable),
    *(StackError, BotoCoreError, ClientError),
)
POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where the log stood before the run's first write; ``keep`` tells its events apart."""

    at: datetime
    offsets: Mapping[tuple[str, int], int]
    type_counts: Counter[str]
    keep: Keep


@dataclass(slots=True)
class Readers:
    """One reader for each place."""

    log: LogReader
    table: TableReader
    archive: ArchiveReader
    api: ReadApi


@dataclass(slots=True)
class Collector:
    """Reads back the events of one run. ``shared`` sellers have events that are not ours."""

    readers: Readers
    oracle: Oracle
    beginning: Beginning
    shared: frozenset[str] = frozenset()
    #: An archive file is written when it has this age, not before.
    rotate_seconds: float = 0.0
    #: What was not complete when its time was over; the judgement says the same in detail.
    late: list[str] = field(default_factory=list)

    @property
    def own_sellers(self) -> list[str]:
        return [seller for seller in self.oracle.sellers if seller not in self.shared]

    async def collect(self, crowd: Crowd, reporter: Reporter) -> Readback:
        """Wait with a bound for each place in turn, then read them all.

        Everything is read after the slowest place is complete, so that what comes a second time
        in the meantime is seen.
        """
        waits: list[tuple[str, Callable[[], Awaitable[bool]], float]] = [
            ("Kafka has every event", self._log_complete, ARRIVAL_SECONDS_MAX),
            ("Every client has its events", lambda: self._crowd_complete(crowd), 1.0),
            ("Aggregates add up", self._totals_complete, ARRIVAL_SECONDS_MAX),
            ("DynamoDB has every event", self._table_complete, ARRIVAL_SECONDS_MAX),
            (
                "MinIO has every event",
                self._archive_complete,
                self.rotate_seconds + ARRIVAL_SECONDS_MAX,
            ),
        ]
        for text, complete, seconds_max in waits:
            with reporter.step(text):
                if not await in_time(complete, seconds_max):
                    self.late.append(text)
        with reporter.step("Reading everything back"):
            return await self.read(crowd)

    async def read(self, crowd: Crowd) -> Readback:
        """All places as they are now."""
        keep, start = self.beginning.keep, self.beginning.offsets
        own = self.own_sellers
        archive = await asyncio.to_thread(self.readers.archive.read, start, self.beginning.at, keep)
        log = await asyncio.to_thread(self.readers.log.read, start, keep)
        return Readback(
            log=tuple(entry.event for entry in log),
            log_faults=tuple(fault for entry in log for fault in entry.faults),
            recent=tuple(await self._recent()),
            recent_listed=await self.readers.api.listed(self.oracle.sellers),
            archive=archive.events,
            archive_objects=archive.objects,
            archive_faults=archive.faults,
            sellers=await self.readers.api.totals("sellers", own),
            products=await self.readers.api.totals("products", self.oracle.products),
            selling=await self.readers.api.selling(own),
            types_grown=await self.readers.api.type_counts() - self.beginning.type_counts,
            stocks=await self.readers.api.stocks(self.oracle.products),
            watchers=tuple(
                replace(reading, receipts=[one for one in reading.receipts if keep(one.event)])
                for reading in crowd.readings
            ),
        )

    async def _recent(self) -> list[SeenEvent]:
        return await asyncio.to_thread(
            self.readers.table.read, list(self.oracle.sellers), self.beginning.keep
        )

    async def _log_complete(self) -> bool:
        return self._expected_keys() <= {entry.event.key for entry in await self._log()}

    async def _log(self) -> list[LogEntry]:
        return await asyncio.to_thread(
            self.readers.log.read, self.beginning.offsets, self.beginning.keep
        )

    async def _crowd_complete(self, crowd: Crowd) -> bool:
        return await crowd.until_complete(self.oracle.events, ARRIVAL_SECONDS_MAX)

    async def _totals_complete(self) -> bool:
        seen = await self.readers.api.totals("sellers", self.own_sellers)
        wanted = {name: self.oracle.sellers[name].as_json() for name in self.own_sellers}
        return seen == wanted

    async def _table_complete(self) -> bool:
        return self._expected_keys() <= {event.key for event in await self._recent()}

    async def _archive_complete(self) -> bool:
        reached = await asyncio.to_thread(
            self.readers.archive.archived, self.beginning.offsets, self.beginning.at
        )
        return all(
            entry.offset < reached[entry.event.topic, entry.partition]
            for entry in await self._log()
        )

    def _expected_keys(self) -> set[tuple[str, str, int]]:
        return {event.key for event in self.oracle.events}


async def in_time(
    complete: Callable[[], Awaitable[bool]],
    seconds_max: float,
    poll_seconds: float = POLL_SECONDS,
) -> bool:
    """Poll until it is complete or the time is over; which it was.

    A place that does not answer yet is not complete yet: the reading at the end says so if it
    never does.
    """
    deadline = time.monotonic() + seconds_max
    while True:
        with contextlib.suppress(*AWAY):
            if await complete():
                return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(poll_seconds)
