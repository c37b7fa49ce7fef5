"""What a worker needs of the world around it, and what of that is Faust, Kafka and settings."""

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shopstream_analytics.consumer.app import make_app
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.consumer.lanes import Lanes
from shopstream_analytics.progress import Progress
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import LogRange, Sink, Topics
from shopstream_analytics.worker.sinks import WorkerName, group_of, open_sink, record_of
from shopstream_analytics.worker.topics import describe
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import STREAM_TOPICS


class Engine(Protocol):
    """The port to the consumer group: it fills the lanes that it was made with."""

    @property
    def consuming(self) -> bool:
        """Whether it has started, so that there is something to end."""
        ...

    async def start(self) -> object:
        """Join the group."""
        ...

    async def until_crashed(self) -> str:
        """For ever, or until it cannot go on; says why."""
        ...

    def stop_flow(self) -> None:
        """Hand nothing over any more."""
        ...

    async def leave_at_stop(self) -> None:
        """From now on stopping gives the partitions away at once, whoever we are."""
        ...

    async def stop(self) -> None:
        """Commit what the lanes have stored, and end."""
        ...

    async def rejoin(self) -> None:
        """Have the partitions shared out anew: there are more, or we have none."""
        ...

    async def log_ranges(self) -> Mapping[Source, LogRange]:
        """What the log holds of the assigned partitions, asked from the broker now."""
        ...

    def assigned(self) -> Collection[Source]:
        """What the group has given to us, opened or not."""
        ...

    def stable_end(self, source: Source) -> int | None:
        """The last stable offset as of the last fetch, None before the first."""
        ...


class Surroundings(Protocol):
    """What a worker finds where it runs."""

    def sink(self, progress: Progress) -> AbstractAsyncContextManager[Sink]:
        """Its sink, for the span of the context."""
        ...

    async def topics(self) -> Topics:
        """The topics as the broker describes them. Raises BrokerUnavailable."""
        ...

    def engine(self, lanes: Lanes, member: str | None) -> AbstractContextManager[Engine]:
        """Its place in the group, static under the name of ``member``; nothing is begun yet."""
        ...


@dataclass(frozen=True, slots=True)
class RealSurroundings:
    """Faust, a broker and a store, as the settings name them."""

    name: WorkerName
    settings: AnalyticsSettings

    def sink(self, progress: Progress) -> AbstractAsyncContextManager[Sink]:
        """See Surroundings.sink."""
        return open_sink(self.name, self.settings, progress)

    async def topics(self) -> Topics:
        """See Surroundings.topics."""
        kafka = KafkaConnection(self.settings.kafka_brokers, self.settings.kafka_client_id)
        return await describe(kafka, STREAM_TOPICS)

    @contextmanager
    def engine(self, lanes: Lanes, member: str | None) -> Iterator[Engine]:
        """See Surroundings.engine."""
        with tempfile.TemporaryDirectory(prefix="shopstream-faust-") as data_dir:
            yield make_app(
                group=group_of(self.name),
                topics=STREAM_TOPICS,
                brokers=self.settings.kafka_brokers,
                client_id=f"{self.settings.kafka_client_id}-{self.name}",
                session_timeout_seconds=self.settings.session_timeout_seconds,
                instance=member,
                data_dir=Path(data_dir),
                lanes=lanes,
                make_record=record_of(self.name),
            )
