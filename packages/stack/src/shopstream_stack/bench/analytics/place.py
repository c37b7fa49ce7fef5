"""Broker and stores alone, and the real worker processes on tables and a bucket of their own."""

import itertools
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from confluent_kafka import ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from shopstream_shared.kafka import KafkaConnection, answer
from shopstream_shared.topic_admin import ensure_topics
from shopstream_shared.topics import load_topics
from shopstream_stack.bench.cores import PinnedPlace, own_cores, pin
from shopstream_stack.demo.log_reader import LogReader
from shopstream_stack.demo.stores import dynamodb_client, s3_client
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError
from shopstream_stack.ports import PortReservations
from shopstream_stack.process import NotHealthyError, ProcessSpec
from shopstream_stack.system import System

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_s3 import S3Client

COMPONENTS: Final = ("kafka", "dynamodb", "minio")
#: A worker waits for nothing that is not there; its imports take seconds of a busy machine.
JOIN_SECONDS_MAX: Final = 90.0
#: Where processes that a killed run has left are found by.
LABEL: Final = "bench-"
MIB: Final = 2**20

Place = tuple[str, int]


@dataclass(slots=True)
class Stores:
    """Tables and a bucket that one row alone uses."""

    variables: Mapping[str, str]
    target: Target
    dynamo: "DynamoDBClient"
    s3: "S3Client"


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A running worker."""

    label: str
    pid: int

    @property
    def peak_mib(self) -> float:
        """The most resident memory that it ever had; the present one where that is not told."""
        with suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1_024
        return self.mib

    @property
    def mib(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss) / MIB

    @property
    def processor_seconds(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@dataclass(slots=True)
class AnalyticsPlace(PinnedPlace):
    """The running components, and workers as each row wants them."""

    admin: AdminClient
    _names: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def stores(self, *, empty_log: bool = True) -> Stores:
        """New ones; the log is emptied unless its records are to be read again.

        Raises StackError, KafkaException.
        """
        number = next(self._names)
        own = {
            "RECENT_EVENTS_TABLE_NAME": f"Recent{number}",
            "SHOPSTREAM_AGGREGATES_TABLE_NAME": f"Aggregates{number}",
            "SHOPSTREAM_CHECKPOINTS_TABLE_NAME": f"Checkpoints{number}",
            "ARCHIVE_BUCKET_NAME": f"archive-{number}",
            "SHOPSTREAM_LOG_LEVEL": "WARNING",
        }
        settings = self.system.settings
        variables = {**settings.service_environ("analytics"), **own}
        target = Target.of(self.system.service_urls(), variables)
        if empty_log:
            self._empty_log()
        return Stores(variables, target, dynamodb_client(target), s3_client(target))

    @contextmanager
    def worker(
        self,
        name: str,
        stores: Stores,
        *,
        beside: int = 0,
        alone: bool = True,
        **variables: str,
    ) -> Iterator[WorkerProcess]:
        """A worker that has joined its group, on the first core alone; ended with the block.

        ``beside``: how many members the group has already. Raises StackError.
        """
        label = f"{LABEL}{name}-{next(self._names)}"
        process = self.start_worker(name, stores, label, members=beside + 1, **variables)
        if alone:
            self.keep_on_one_core(process.pid)
        try:
            yield process
        finally:
            self.system.runner.stop(label)

    def start_worker(
        self, name: str, stores: Stores, label: str, *, members: int, **variables: str
    ) -> WorkerProcess:
        """Start one and wait until its group has so many members. Raises StackError."""
        self.system.runner.start(self._spec(name, stores, label, members, variables))
        record = self.system.runner.living(label)
        if record is None:
            raise StackError(f"{label} ended by itself:\n{self.system.runner.tail(label)}")
        return WorkerProcess(label, record.pid)

    def keep_on_one_core(self, pid: int) -> None:
        """What is measured gets the first core; all else is put wherever there is room."""
        if self.pinned:
            pin(pid, {self.cores[0]})

    def joined(self, group: str, members: int) -> None:
        """Raises NotHealthyError until the group is settled with exactly so many members."""
        future = self.admin.describe_consumer_groups([group])[group]
        try:
            found = answer(future)
        except KafkaException as error:
            raise NotHealthyError(f"{group}: {error}") from error
        owners = [one for one in found.members if one.assignment.topic_partitions]
        if found.state != ConsumerGroupState.STABLE or len(found.members) != members:
            raise NotHealthyError(f"{group}: {len(found.members)} members, {found.state.name}")
        if len(owners) < members:
            raise NotHealthyError(f"{group}: {len(owners)} of {members} own partitions")

    def ends(self) -> Mapping[Place, int]:
        """The end of each partition of the stream topics."""
        return LogReader(self.brokers).ends()

    def _spec(
        self, name: str, stores: Stores, label: str, members: int, variables: Mapping[str, str]
    ) -> ProcessSpec:
        service = self.system.spec("analytics")
        return replace(
            service,
            name=label,
            # A static member, as those of the service are.
            argv=(sys.executable, "-m", "shopstream_analytics.worker", name, label),
            environ={
                **stores.variables,
                "KAFKA_CLIENT_ID": label,
                **variables,
            },
            ports=(),
            check=lambda: self.joined(f"analytics-{name}", members),
            start_seconds_max=JOIN_SECONDS_MAX,
        )

    def _empty_log(self) -> None:
        ends = [TopicPartition(*place, end) for place, end in self.ends().items() if end]
        for future in self.admin.delete_records(ends).values() if ends else ():
            answer(future)


@contextmanager
def running_analytics(system: System, ports: PortReservations) -> Iterator[AnalyticsPlace]:
    """Start the components on an empty folder; at the end nothing of it is left."""
    _forget(system)  # a run that was killed may have left processes and data
    system.prepare(COMPONENTS)
    system.settings.data.mkdir(parents=True)
    try:
        system.start("kafka", "minio")
        with system.reporter.step("Starting dynamodb"):
            system.runner.start(_in_memory(system.spec("dynamodb")))
        brokers = system.settings.addresses["KAFKA_BROKERS"]
        admin = AdminClient(KafkaConnection(brokers, "shopstream-bench").admin())
        ensure_topics(admin, load_topics("local").values())
        yield AnalyticsPlace(system, own_cores(), admin)
    finally:
        _forget(system)


def _in_memory(spec: ProcessSpec) -> ProcessSpec:
    """DynamoDB Local without a disk, whose speed would else be measured."""
    at = spec.argv.index("-dbPath")
    return replace(spec, argv=(*spec.argv[:at], "-inMemory", *spec.argv[at + 2 :]))


def _forget(system: System) -> None:
    for name in system.runner.names():
        if name.startswith(LABEL):
            system.runner.stop(name)
    system.stop_all()
    system.forget()
    shutil.rmtree(system.settings.data, ignore_errors=True)  # the whole folder is ours
