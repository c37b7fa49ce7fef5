"""The service's processes: production workers in simulated surroundings, started anew at an end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from tests.simulation.consumers.clients import DynamoClient, S3Client
from tests.simulation.consumers.engine import SimEngine
from tests.simulation.consumers.letters import SimConsumer, SimProducer
from tests.simulation.consumers.log import read
from tests.simulation.consumers.machine import Machine, Plan, Refusal, Unanswered, drawn
from tests.simulation.consumers.stores import (
    AGGREGATES,
    BUCKET,
    CHECKPOINTS,
    RECENT,
    Stores,
)

from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.sink import AggregatesSink, Letters, judge
from shopstream_analytics.aggregates.timeliness import PartitionTime
from shopstream_analytics.archive.sink import ArchiveSink, Rotation
from shopstream_analytics.archive.store import S3Chain
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.dead_letters import PartitionLetters
from shopstream_analytics.progress import Progress
from shopstream_analytics.recent import RecentSink
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.sink import Sink, SinkUnavailable, Topics
from shopstream_analytics.worker.ports import Engine
from shopstream_analytics.worker.run import Worker, WorkerFailed
from shopstream_analytics.worker.sinks import WorkerName, group_of
from shopstream_analytics.worker.topics import BrokerUnavailable
from shopstream_shared.clock import ManualClock
from shopstream_shared.crash import CrashPoints
from shopstream_shared.kafka import KafkaConnection

RESTART_SECONDS: Final = 1.5
_CLOCK: Final = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
_KAFKA: Final = KafkaConnection("sim", "sim")


@dataclass(slots=True)
class SimSurroundings:
    """See worker.ports.Surroundings."""

    machine: Machine
    stores: Stores
    name: WorkerName

    @asynccontextmanager
    async def sink(self, progress: Progress) -> AsyncIterator[Sink]:
        """See Surroundings.sink."""
        make = {"aggregates": self._aggregates, "recent": self._recent, "archive": self._archive}
        yield make[self.name](progress)

    async def topics(self) -> Topics:
        """See Surroundings.topics."""
        try:
            return await self.machine.call("describe", self.stores.topics)
        except (Unanswered, Refusal):
            raise BrokerUnavailable("broker: away") from None

    @contextmanager
    def engine(self, lanes: Lanes, member: str | None) -> Iterator[Engine]:
        """See Surroundings.engine."""
        stores = self.stores
        group = stores.groups[self.name]
        yield SimEngine(self.machine, stores.log, group, lanes, member, stores.without)

    @property
    def _dynamo(self) -> Any:
        return DynamoClient(self.machine, self.stores.dynamo)

    def _checkpoints(self, client: Any) -> Checkpoints:
        return Checkpoints(client, CHECKPOINTS, group_of(self.name), _CLOCK)

    def _aggregates(self, progress: Progress) -> Sink:
        client = self._dynamo
        machine, stores = self.machine, self.stores
        broker, without = stores.log.broker, stores.without

        def letters(source: Source, epoch: int) -> PartitionLetters:
            return PartitionLetters(
                _KAFKA,
                source,
                progress,
                epoch,
                producer_of=lambda settings: SimProducer(machine, broker, settings, without),  # type: ignore[arg-type,return-value]  # a stand-in for a class of C
                consumer_of=lambda _: SimConsumer(machine, broker, without),  # type: ignore[arg-type,return-value]  # the same
            )

        return AggregatesSink(
            client=client,
            generations=Generations(client, AGGREGATES, CHECKPOINTS),
            letters_of=letters,
            recount=self._recount,
            crash=CrashPoints(),
            topics={},
        )

    def _recent(self, progress: Progress) -> Sink:
        client = self._dynamo
        return RecentSink(
            client=client,
            table=RECENT,
            indexes=RecentIndexes(),
            checkpoints=self._checkpoints(client),
            crash=CrashPoints(),
            topics={},
            on_refused=progress.item_refused,
        )

    def _archive(self, _progress: Progress) -> Sink:
        climate = self.machine.climate
        return ArchiveSink(
            store=S3Chain(S3Client(self.machine, self.stores.s3), BUCKET),  # type: ignore[arg-type]  # as far as it is used
            set_up=self._set_up,
            rotation=Rotation(
                climate.archive_bytes, climate.archive_records, climate.archive_seconds
            ),
            crash=CrashPoints(),
            topics={},
        )

    async def _set_up(self) -> None:
        try:
            await self.machine.call("bucket", lambda: None)
        except (Unanswered, Refusal):
            raise SinkUnavailable("archive: away") from None

    async def _recount(
        self, source: Source, first: int, position: int, letters: Letters
    ) -> PartitionTime:
        aside = await letters.standing(first)
        partition = self.stores.log.broker.partitions[source]
        offsets = (offset for offset in range(first, position) if offset not in aside)
        records = [read(source, offset, partition) for offset in offsets]
        return judge([one for one in records if one is not None], PartitionTime())[2]


@dataclass(slots=True)
class Slot:
    """One process after the other under one name, as the parent starts them."""

    stores: Stores
    sink: WorkerName
    number: int
    plan: Plan = drawn
    worker: Worker | None = None
    machine: Machine | None = None
    started_at: float = 0.0
    #: All processes there were.
    machines: list[Machine] = field(default_factory=list)

    def start(self) -> None:
        world, climate = self.stores.world, self.stores.climate
        machine = Machine(world, climate, f"{self.sink} {self.number}", self.plan)
        self.machine, self.started_at = machine, world.now
        self.machines.append(machine)
        instance = f"static-{self.number}" if climate.static else None
        worker = Worker(SimSurroundings(machine, self.stores, self.sink), instance, None)
        self.worker = worker
        machine.on_killed = partial(self._follow, machine)
        machine.on_stop = partial(_stop, machine, worker)
        machine.note("starts")
        machine.loop.create_task(self._live(machine, worker))

    async def _live(self, machine: Machine, worker: Worker) -> None:
        try:
            await worker.run()
        except WorkerFailed as error:
            machine.note("fails", error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the parent starts the next one, whatever it is
            machine.note("fails", repr(error))
        else:
            machine.note("ends")
        machine.loop.dead = True
        self._follow(machine)

    def _follow(self, machine: Machine) -> None:
        if machine is self.machine:
            self.machine = self.worker = None
            self.stores.world.at(self.stores.world.some(RESTART_SECONDS), self.start)

    @property
    def halted(self) -> str | None:
        """Why the worker waits for an operator."""
        worker = self.worker
        if worker is None or worker._report().state != "halted":
            return None
        return worker._report().reason

    def has_noticed(self, topic: str) -> bool:
        """Whether nobody here knows the life of a topic that is over, but to wait for the next."""
        if self.machine is None or self.halted is not None:
            return True
        return self.started_at > self.stores.log.made_again_at[topic]

    def restart(self) -> None:
        """By an operator."""
        if self.machine is not None:
            self.machine.kill("by the operator")


def _stop(machine: Machine, worker: Worker) -> None:
    machine.loop.call_soon(worker.stop.set)
