"""Kafka and the stream service alone, a single worker on one core where there are more."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from shopstream_shared.kafka import KafkaConnection, answer
from shopstream_shared.topic_admin import ensure_topics, shapes
from shopstream_shared.topics import STREAM_TOPICS, load_topics
from shopstream_stack.bench.cores import PinnedPlace, own_cores, pin
from shopstream_stack.bench.waiting import wait_until
from shopstream_stack.kit.generator import Generator, Profile, StreamGroup, StreamSpec, generating
from shopstream_stack.ports import LOOPBACK, PortReservations
from shopstream_stack.system import System

SERVICE: Final = "notifications"
PATH: Final = "/events/stream"
TOPICS_SECONDS_MAX: Final = 30.0
OPEN_SECONDS_MAX: Final = 120.0
KIB: Final = 1_024


@dataclass(slots=True)
class StreamPlace(PinnedPlace):
    """The running broker, and the stream service as each row wants it."""

    load: Path
    #: Partitions a stream topic, in the order of STREAM_TOPICS, as they are at the moment.
    partitions: tuple[int, ...] = ()
    _running: tuple[object, ...] = field(default=())

    @property
    def address(self) -> str:
        """Host and port of the stream."""
        return f"{LOOPBACK}:{self.system.settings.notifications_port}"

    def serve(self, partitions: tuple[int, ...], *, workers: int = 1, fresh: bool = False) -> None:
        """Let the service run with topics of so many partitions and so many workers.

        One worker gets a core of its own; several share all of them with everything else.
        ``fresh``: a process that nobody has been connected to. Raises StackError, KafkaException.
        """
        wanted = (partitions, workers)
        if wanted != self._running or fresh:
            self.stop()
            self._make_topics(partitions)
            self.system.overrides[SERVICE] = {
                "SHOPSTREAM_NOTIFICATIONS_WORKERS": str(workers),
                "SHOPSTREAM_LOG_LEVEL": "WARNING",
            }
            self.system.start(SERVICE)
            self._running = wanted
        self.place_server(self._pid(SERVICE), alone=workers == 1)

    def stop(self) -> None:
        """Stop the service: another server is measured, or the topics change."""
        # Its streams are the generator's, which has gone: there is nobody to say goodbye to.
        self.system.kill(SERVICE)
        self.system.stop(SERVICE)
        self._running = ()

    def place_server(self, server: int, *, alone: bool) -> None:
        """A server on the first core alone, or on all of them like everything else.

        The rest is not kept away from that core: the broker, the generator and the feed in turn on
        one are each late by the others, and that would be measured.
        """
        pin(server, {self.cores[0]} if alone and self.pinned else set(self.cores))

    def kib(self, server: int = 0) -> float:
        """The resident memory of the service, or of another server, its workers included."""
        return sum(one.memory_info().rss for one in self._family(server)) / KIB

    def processor_seconds(self) -> float:
        """What the service, its workers included, has used so far."""
        times = [one.cpu_times() for one in self._family()]
        return float(sum(one.user + one.system for one in times))

    def _family(self, server: int = 0) -> list[psutil.Process]:
        process = psutil.Process(server or self._pid(SERVICE))
        return [process, *process.children(recursive=True)]

    @contextmanager
    def streams(
        self,
        connections: int,
        groups: Sequence[StreamGroup] = (StreamGroup(name="all", path=PATH),),
        *,
        profile: Profile = "shopstream",
        address: str = "",
        slow: int = 0,
        pollers: int = 0,
    ) -> Iterator[Generator]:
        """So many open streams, read by ``pollers`` threads. Raises StackError."""
        spec = StreamSpec(
            address=address or self.address,
            connections=connections,
            groups=groups,
            profile=profile,
            slow=slow,
            pollers=pollers,
            open_seconds_max=OPEN_SECONDS_MAX,
        )
        with generating(self.load, spec) as generator:
            yield generator

    def _pid(self, name: str) -> int:
        record = self.system.runner.living(name)
        return 0 if record is None else record.pid

    def _make_topics(self, partitions: tuple[int, ...]) -> None:
        if partitions == self.partitions:
            return
        admin = AdminClient(KafkaConnection(self.brokers, "shopstream-bench").admin())
        old = list(shapes(admin, STREAM_TOPICS))
        for future in admin.delete_topics(old).values() if old else ():
            answer(future)
        wait_until(
            lambda: not shapes(admin, STREAM_TOPICS), "the topics are gone", TOPICS_SECONDS_MAX
        )
        local = load_topics("local")
        pairs = zip(STREAM_TOPICS, partitions, strict=True)
        wanted = [replace(local[name], partitions=count) for name, count in pairs]

        def made() -> bool:
            # A topic that was deleted a moment ago may still be in the broker's way.
            with suppress(KafkaException):
                ensure_topics(admin, wanted)
                return True
            return False

        wait_until(made, "the topics are there", TOPICS_SECONDS_MAX)
        self.partitions = partitions


@contextmanager
def running_streams(system: System, ports: PortReservations) -> Iterator[StreamPlace]:
    """Start the broker on an empty folder; at the end nothing of it is left."""
    _forget(system)  # a run that was killed may have left processes and data
    system.prepare(["kafka"])
    load = system.cache.ensure_load(system.reporter)
    system.settings.data.mkdir(parents=True)
    try:
        system.start("kafka")
        yield StreamPlace(system, own_cores(), load)
    finally:
        _forget(system)


def _forget(system: System) -> None:
    system.kill(SERVICE)
    system.stop_all()
    system.forget()
    shutil.rmtree(system.settings.data, ignore_errors=True)  # the whole folder is ours
