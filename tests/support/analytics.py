"""The analytics service and its workers as processes on the real components."""

import hashlib
import os
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

import boto3
import httpx
from confluent_kafka import (
    Consumer,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.analytics_events import Counts, LogRecord
from tests.support.components import LocalComponents
from tests.support.warm import Fork, forks

from shopstream_analytics.aggregates import keys
from shopstream_analytics.aggregates.fold import ItemKey
from shopstream_analytics.archive.file import unpack
from shopstream_shared.clock import epoch_ms
from shopstream_shared.events.codec import EncodedEvent
from shopstream_shared.generations import POINTER, table_of
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import DEAD_LETTER, STREAM_TOPICS, load_topics
from shopstream_stack.demo.target import Target
from shopstream_stack.settings import SERVICES

WAIT_SECONDS: Final = 90.0
T = TypeVar("T")


def wait_until(check: Callable[[], T], what: str, seconds: float = WAIT_SECONDS) -> T:
    """Poll until the check gives something true; fail after the time."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            msg = f"not within {seconds:g} s: {what}"
            raise AssertionError(msg)
        time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Analytics:
    """One set of tables and one bucket, of their own, on the shared components and topics."""

    components: LocalComponents
    environ: Mapping[str, str]
    logs: Path

    @classmethod
    def fresh(cls, components: LocalComponents, logs: Path, **variables: str) -> "Analytics":
        shared = () if "KAFKA_BROKERS" in variables else ("kafka",)
        environ = {**_environ(components, (*shared, "dynamodb", "minio")), **variables}
        ensure_topics(environ["KAFKA_BROKERS"])
        empty_topics(environ["KAFKA_BROKERS"])
        return cls(components, environ, logs)

    @classmethod
    def without_log(cls, components: LocalComponents, logs: Path) -> "Analytics":
        """For sinks that are fed by hand."""
        return cls(components, _environ(components, ("dynamodb", "minio")), logs)

    @staticmethod
    def own_names() -> dict[str, str]:
        """Tables and a bucket that nobody else uses."""
        name = uuid4().hex[:12]
        return {
            "RECENT_EVENTS_TABLE_NAME": f"Recent-{name}",
            "SHOPSTREAM_AGGREGATES_TABLE_NAME": f"Aggregates-{name}",
            "SHOPSTREAM_CHECKPOINTS_TABLE_NAME": f"Checkpoints-{name}",
            "ARCHIVE_BUCKET_NAME": f"archive-{name}",
        }

    @contextmanager
    def worker(
        self,
        name: str,
        instance: str | None = None,
        *,
        patches: Sequence[str] = (),
        **variables: str,
    ) -> Iterator[Fork]:
        """A worker without a parent, killed at the end; a static member if it has a name.

        ``patches``: see `Forks.start`.
        """
        module = "shopstream_analytics.worker.__main__"
        argv = ["worker", name, *([] if instance is None else [instance])]
        with self._process(module, argv, f"{name}.log", variables, patches) as process:
            yield process

    @contextmanager
    def service(self, **variables: str) -> Iterator["Service"]:
        """The whole service on a free port; it and its workers are gone at the end."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = variables.get("HEALTH_PORT", str(probe.getsockname()[1]))
        module = "shopstream_analytics.main"
        given = {**variables, "HEALTH_PORT": port}
        with (
            self._process(module, ["shopstream-analytics"], "analytics.log", given) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
        ):
            yield Service(process, client)

    @contextmanager
    def _process(
        self,
        module: str,
        argv: Sequence[str],
        log: str,
        variables: Mapping[str, str],
        patches: Sequence[str] = (),
    ) -> Iterator[Fork]:
        environ = {**self.environ, **variables}
        with (
            (self.logs / log).open("ab") as output,
            forks(module).start(argv, environ, output.fileno(), patches) as process,
        ):
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def counts(self) -> Counts:
        """The aggregates as the naive count gives them: summed over source partitions."""
        counts: Counts = {}
        for item in self.aggregates():
            key, _ = keys.parse(item["pk"]["S"], item["sk"]["S"])
            bucket = counts.setdefault(short(key), Counter())
            for name, value in item.items():
                if name not in {"pk", "sk", "upto"}:
                    bucket[name] += int(value["N"])
        return counts

    def generation(self) -> int:
        """Which generation of the aggregates is in use."""
        item = dynamo_client(self.environ).get_item(
            TableName=self.environ["SHOPSTREAM_CHECKPOINTS_TABLE_NAME"],
            Key={"pk": {"S": POINTER}},
            ConsistentRead=True,
        )
        return int(item["Item"]["generation"]["N"]) if "Item" in item else 0

    def aggregates(self, generation: int | None = None) -> list[dict[str, Any]]:
        """All items of a generation of the aggregates; without a number, of the one in use."""
        number = self.generation() if generation is None else generation
        return self.items(table_of(self.environ["SHOPSTREAM_AGGREGATES_TABLE_NAME"], number))

    def scan(self, variable: str) -> list[dict[str, Any]]:
        """All items of the table that a variable names."""
        return self.items(self.environ[variable])

    def items(self, table: str) -> list[dict[str, Any]]:
        """All items of a table."""
        client = dynamo_client(self.environ)
        pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [dict(item) for page in pages for item in page["Items"]]

    def recent_ids(self) -> list[str]:
        return sorted(item["eventId"]["S"] for item in self.scan("RECENT_EVENTS_TABLE_NAME"))

    def chain(self, topic: str, partition: int, start: int) -> list["Object"]:
        """The partition's objects, walked from a position by metadata, each checked."""
        client = s3_client(self.environ)
        bucket = self.environ["ARCHIVE_BUCKET_NAME"]
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"events/topic={topic}/"
        )
        names = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        mine = [name for name in names if f"/{topic}+{partition}+" in name]
        found = {}
        for name in mine:
            answer = client.get_object(Bucket=bucket, Key=name)
            body = answer["Body"].read()
            metadata = dict(answer["Metadata"])
            assert hashlib.sha256(body).hexdigest() == metadata["sha256"]
            lines = unpack(body).splitlines(keepends=True)
            assert len(lines) == int(metadata["count"])
            found[int(metadata["start"])] = Object(name, metadata, lines)
        assert len(found) == len(mine), "two objects start at one position"
        chain = []
        position = start
        while position in found:
            chain.append(found.pop(position))
            position = int(chain[-1].metadata["next"])
        assert not found, "objects outside of the chain"
        return chain

    def lag(self, group: str) -> int:
        """Offsets between the group's commits and the ends of the log; -1 when none is known."""
        ranges = log_ranges(self.environ["KAFKA_BROKERS"])
        committed = self._committed(group, ranges)
        if any(end > first and where not in committed for where, (first, end) in ranges.items()):
            return -1
        # Below the first offset there is nothing to read: an old commit is no lag.
        return sum(
            end - max(first, committed.get(where, 0)) for where, (first, end) in ranges.items()
        )

    def commits(self, group: str) -> int:
        """The group's commits of all partitions, added up: it grows, whatever the log does."""
        return sum(self._committed(group, log_ranges(self.environ["KAFKA_BROKERS"])).values())

    def _committed(
        self, group: str, places: Collection[tuple[str, int]]
    ) -> dict[tuple[str, int], int]:
        # Not the admin client's list_consumer_group_offsets: librdkafka 2.16 ends the process in it
        # when a young broker still loads its coordinator. This consumer never joins the group.
        reader = Consumer(KafkaConnection(self.environ["KAFKA_BROKERS"], "tests").consumer(group))
        try:
            found = reader.committed([TopicPartition(*where) for where in places], timeout=10)
        except KafkaException:
            return {}
        finally:
            reader.close()
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}


def short(key: ItemKey) -> tuple[str, ...]:
    """A key as the naive count has it: without a member where there is none."""
    return (*key,) if key.member else (*key[:4],)


@dataclass(frozen=True, slots=True)
class Object:
    """An archived file."""

    key: str
    metadata: Mapping[str, str]
    lines: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Service:
    """The running service."""

    process: Fork
    client: httpx.Client

    def health(self) -> httpx.Response | None:
        try:
            return self.client.get("/health")
        except httpx.TransportError:
            return None

    def wait_healthy(self) -> None:
        wait_until(lambda: (r := self.health()) is not None and r.status_code == 200, "healthy")

    def message(self, check: str) -> str:
        response = self.health()
        if response is None:
            return ""
        return str(response.json()["checks"][check]["message"])

    def worker_pids(self) -> list[int]:
        """The children of the service."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def kill(process: Fork) -> None:
    """SIGKILL and reap."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def ensure_topics(brokers: str) -> None:
    """All topics of the local profile."""
    admin = AdminClient(KafkaConnection(brokers, "tests").admin())
    known = admin.list_topics(timeout=10).topics
    new = [
        NewTopic(spec.name, spec.partitions, spec.replication, config=dict(spec.config))
        for spec in load_topics("local").values()
        if spec.name not in known
    ]
    for future in admin.create_topics(new).values() if new else ():
        future.result()
    # Made is not led: a partition answers only when its leader has taken over.
    wait_until(lambda: all_led(brokers), "every partition has its leader")


def all_led(brokers: str, topics: Sequence[str] = STREAM_TOPICS) -> bool:
    """Whether every partition answers."""
    try:
        log_ranges(brokers, topics)
    except (KafkaException, KeyError):
        # KeyError: a topic that has just been made is not in the broker's answer yet.
        return False
    return True


def empty_topics(brokers: str) -> None:
    """Forget the records of earlier tests, so that a test reads only its own. Offsets go on."""
    admin = AdminClient(KafkaConnection(brokers, "tests").admin())
    ends = [TopicPartition(*where, end) for where, end in log_ends(brokers).items() if end]
    for future in admin.delete_records(ends).values() if ends else ():
        future.result()


def producer(brokers: str) -> Producer:
    """A transactional producer, ready."""
    settings = KafkaConnection(brokers, "tests").transactional_producer(f"tests-{uuid4()}")
    # Up to the broker's own limit, which is what a record can have at most.
    made = Producer({**settings, "message.max.bytes": 2_000_000})
    made.init_transactions()
    return made


def send(made: Producer, events: Sequence[EncodedEvent], *, abort: bool = False) -> None:
    """One transaction."""
    made.begin_transaction()
    for encoded in events:
        made.produce(
            encoded.topic,
            key=encoded.subject,
            value=encoded.value,
            headers=list(encoded.headers),
            timestamp=epoch_ms(encoded.time),
        )
    if abort:
        made.flush()
        made.abort_transaction()
    else:
        made.commit_transaction()


def read_log(brokers: str, topics: Sequence[str] = STREAM_TOPICS) -> list[LogRecord]:
    """All committed records up to the present end, in offset order within a partition."""
    consumer = Consumer(KafkaConnection(brokers, "tests").consumer(f"tests-{uuid4()}"))
    found: dict[tuple[str, int], list[LogRecord]] = {}
    try:
        ranges = log_ranges(brokers, topics)
        # All at once: each call waits for its time to pass, so partition by partition is slow.
        left = {where: span for where, span in ranges.items() if span[0] < span[1]}
        consumer.assign([TopicPartition(*where, first) for where, (first, _) in left.items()])
        deadline = time.monotonic() + WAIT_SECONDS
        while left:
            assert time.monotonic() < deadline, f"cannot be read to their ends: {left}"
            for message in consumer.consume(1000, 0.1):
                if message.error() is None:
                    record = _record(message)
                    found.setdefault((record.topic, record.partition), []).append(record)
            for at in consumer.position([TopicPartition(*where) for where in left]):
                if at.offset >= left[at.topic, at.partition][1]:
                    del left[at.topic, at.partition]
    finally:
        consumer.close()
    return [record for where in ranges for record in found.get(where, ())]


def log_ranges(
    brokers: str, topics: Sequence[str] = STREAM_TOPICS
) -> dict[tuple[str, int], tuple[int, int]]:
    """The first offset and the high watermark of each partition."""
    consumer = Consumer(KafkaConnection(brokers, "tests").consumer(f"tests-{uuid4()}"))
    try:
        known = consumer.list_topics(timeout=10).topics
        return {
            (topic, number): consumer.get_watermark_offsets(TopicPartition(topic, number), 10)
            for topic in topics
            for number in known[topic].partitions
        }
    finally:
        consumer.close()


def log_ends(brokers: str, topics: Sequence[str] = STREAM_TOPICS) -> dict[tuple[str, int], int]:
    """The high watermark of each partition."""
    return {where: end for where, (_, end) in log_ranges(brokers, topics).items()}


def letters_of(brokers: str) -> list[LogRecord]:
    """All dead letters."""
    return read_log(brokers, (DEAD_LETTER,))


def dynamo_client(environ: Mapping[str, str]) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=environ["DYNAMO_ENDPOINT"],
        region_name="us-east-1",
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
    )


def s3_client(environ: Mapping[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=environ["MINIO_ENDPOINT"],
        region_name="us-east-1",
        aws_access_key_id=environ["MINIO_ACCESS_KEY"],
        aws_secret_access_key=environ["MINIO_SECRET_KEY"],
    )


def log_folder() -> Path:
    """Where a test's processes write; kept, because it says why a test failed."""
    return Path(tempfile.mkdtemp(prefix="shopstream-analytics-"))


def sinks_target(analytics: Analytics) -> Target:
    """The same stores, as the operator's commands name them."""
    names: tuple[str, ...] = SERVICES
    services = dict.fromkeys(names, "http://127.0.0.1:1")
    return Target.of(services, {**analytics.environ, "DATABASE_URL": "postgresql:///none"})


def _environ(components: LocalComponents, names: Sequence[str]) -> dict[str, str]:
    """Tables and a bucket of their own on these components."""
    name = uuid4().hex[:12]
    return {
        **components.environ_of(*names),
        "RECENT_EVENTS_TABLE_NAME": f"Recent-{name}",
        "SHOPSTREAM_AGGREGATES_TABLE_NAME": f"Aggregates-{name}",
        "SHOPSTREAM_CHECKPOINTS_TABLE_NAME": f"Checkpoints-{name}",
        "ARCHIVE_BUCKET_NAME": f"archive-{name}",
        "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS": "1",
        "SHOPSTREAM_KAFKA_SESSION_TIMEOUT_SECONDS": "3",
    }


def _record(message: Any) -> LogRecord:
    return LogRecord(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers() or [],
    )
