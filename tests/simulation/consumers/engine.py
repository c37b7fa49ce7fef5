"""The worker's engine in the simulation: what Faust and aiokafka do for it, with their failures.

As `consumer.driver`: batches with the positions around them, what is fetched before a seek may
arrive after it, a commit of the lanes' durable positions each second, a rebalance gives the lanes
REVOKE_SECONDS_MAX. As aiokafka: a position that the log does not hold is reset to its first record,
in silence. Faust's own order within an app is not modelled; the tests of the engine have the real
one.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

from tests.simulation.consumers.group import FencedMember, Given, Group, Rebalancing, UnknownMember
from tests.simulation.consumers.log import SimLog
from tests.simulation.consumers.machine import Machine, Refusal, Unanswered
from tests.simulation.consumers.pieces import Piece

from shopstream_analytics.consumer.app import COMMIT_SECONDS, HEARTBEAT_SECONDS
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.consumer.driver import REVOKE_SECONDS_MAX, TAKE_SECONDS
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.consumer.records import size_of
from shopstream_analytics.sink import LogRange

T = TypeVar("T")

JOIN_SECONDS: Final = 0.2
POLL_SECONDS: Final = 0.5
HAND_SECONDS: Final = 0.01


class SimEngine:
    """See worker.ports.Engine; also the Reader of its lanes."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        machine: Machine,
        log: SimLog,
        group: Group,
        lanes: Lanes,
        instance: str | None,
        without: Piece | None,
    ) -> None:
        self._machine = machine
        self._log = log
        self._group = group
        self._lanes = lanes
        self._instance = instance
        self._without = without
        #: Each process has its own way of cutting the log into batches: a release may change it.
        most = machine.climate.batch_records
        self._records_max = machine.world.rng.choice((most, most, 1 + most // 2))
        self._member: int | None = None
        self._given = Given(0, ())
        self._positions: dict[Source, int] = {}
        self._generation = 0
        self._handed: asyncio.Queue[Batch] = asyncio.Queue()
        self._flows = True
        self._leaves = instance is None
        self._tasks: list[asyncio.Task[None]] = []
        self._crashed: asyncio.Future[str] = machine.loop.create_future()

    @property
    def consuming(self) -> bool:
        return bool(self._tasks)

    async def start(self) -> None:
        jobs = (self._live(), self._hand_over())
        self._tasks = [self._machine.loop.create_task(job) for job in jobs]

    async def until_crashed(self) -> str:
        return await asyncio.shield(self._crashed)

    def stop_flow(self) -> None:
        self._flows = False

    async def leave_at_stop(self) -> None:
        self._leaves = True

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._member is None:
            return
        await self._commit()
        if self._leaves:
            member = self._member
            with contextlib.suppress(Unanswered, Refusal):
                await self._machine.call("leave", lambda: self._group.leave(member))

    async def rejoin(self) -> None:
        self._group.rebalance()

    def assigned(self) -> set[Source]:
        return set(self._given.sources)

    def stable_end(self, source: Source) -> int | None:
        return self._log.range(source).end

    async def log_ranges(self) -> Mapping[Source, LogRange]:
        """See Reader.log_ranges."""
        sources = self._given.sources

        def asked() -> Mapping[Source, LogRange]:
            return {source: self._log.range(source) for source in sources}

        found = await self._patiently("list offsets", asked)
        if self._without is Piece.LOG_RANGE:
            return {source: LogRange(0, held.end) for source, held in found.items()}
        return found

    async def read_from(self, positions: Mapping[Source, int]) -> int:
        """See Reader.read_from."""
        self._positions = dict(positions)
        if self._without is Piece.SEEK_TO_CHECKPOINT:
            self._positions = {s: self._group.committed.get(s, 0) for s in positions}
        self._generation += 1
        self._machine.note("reads from", dict(positions))
        return self._generation

    async def _live(self) -> None:
        try:
            while True:
                await self._join()
                await self._lanes.take_over(self)
                jobs = [self._fetch(), self._commit_on()]
                tasks = [self._machine.loop.create_task(job) for job in jobs]
                try:
                    await self._beat()
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                await self._give_up()
        except Exception as error:  # noqa: BLE001 - Faust crashes by anything
            self._machine.note("the engine crashes", repr(error))
            if not self._crashed.done():
                self._crashed.set_result(repr(error))

    async def _join(self) -> None:
        while True:
            join = partial(self._group.join, self._member, self._instance)
            self._member = await self._patiently("join", join)
            ask = partial(self._group.given, self._member)
            with contextlib.suppress(UnknownMember):
                while (given := await self._patiently("sync", ask)) is None:
                    await self._machine.rest(JOIN_SECONDS)
                self._given = given
                self._machine.note("is given", [str(source) for source in given.sources])
                return

    async def _beat(self) -> None:
        """Until the group wants its partitions back. Raises FencedMember."""
        member, generation = self._member, self._given.generation
        assert member is not None
        while True:
            await self._machine.rest(HEARTBEAT_SECONDS)
            try:
                await self._machine.call(
                    "heartbeat", lambda: self._group.heartbeat(member, generation)
                )
            except (Unanswered, Refusal):
                continue
            except (Rebalancing, UnknownMember):
                return

    async def _give_up(self) -> None:
        """Faust stops the flow and empties its queues, mostly; then the lanes store and end."""
        if self._machine.world.chance(0.5):
            while not self._handed.empty():
                self._handed.get_nowait()
        await self._lanes.close(timeout_seconds=REVOKE_SECONDS_MAX)
        self._given = Given(0, ())

    async def _fetch(self) -> None:
        while True:
            if not self._flows:
                return
            room = self._lanes.room()
            if not room:
                await self._lanes.wait_for_room(TAKE_SECONDS)
            await self._machine.rest(self._machine.climate.latency_seconds)
            if not sum(map(self._take, room)):
                await asyncio.sleep(POLL_SECONDS)

    def _take(self, source: Source) -> bool:
        """One batch, if there is any; position and records in one step (protocol rule 15)."""
        position = self._positions.get(source)
        if position is None:
            return False
        found = self._log.fetch(source, position, self._records_max)
        if found.next <= found.start:
            return False
        start = position if self._without is Piece.POSITION_CHAIN else found.start
        size = sum(map(size_of, found.records))
        batch = Batch(source, start, found.next, found.records, size, self._generation)
        self._positions[source] = found.next
        self._lanes.hand_over(batch)
        self._handed.put_nowait(batch)
        return True

    async def _hand_over(self) -> None:
        while True:
            batch = await self._handed.get()
            await asyncio.sleep(HAND_SECONDS)
            self._lanes.offer(batch)

    async def _commit_on(self) -> None:
        while True:
            await self._machine.rest(COMMIT_SECONDS)
            await self._commit()

    async def _commit(self) -> None:
        member, generation = self._member, self._given.generation
        assert member is not None
        offsets = {
            source: durable
            for source in self._lanes.sources()
            if (durable := self._lanes.durable(source)) is not None
        }
        if self._without is Piece.COMMIT_AFTER_SINK:
            offsets = {source: self._positions[source] for source in offsets}
        changed = {s: at for s, at in offsets.items() if self._group.committed.get(s) != at}
        if not changed:
            return
        with contextlib.suppress(Unanswered, Refusal, UnknownMember, FencedMember, Rebalancing):
            await self._machine.call(
                "commit", lambda: self._group.commit(member, generation, changed)
            )

    async def _patiently(self, name: str, request: Callable[[], T]) -> T:
        """Until it is answered, as aiokafka does."""
        while True:
            try:
                return await self._machine.call(name, request)
            except (Unanswered, Refusal):
                await self._machine.rest(JOIN_SECONDS)
