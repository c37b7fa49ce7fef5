"""What runs beside the workers: the bare loops, Quix Streams, a store that answers late."""

import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec
from confluent_kafka import Consumer, TopicPartition

from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import INVENTORY
from shopstream_stack.bench.analytics import bare, slow_link
from shopstream_stack.bench.analytics.place import AnalyticsPlace, Place, Stores, WorkerProcess
from shopstream_stack.bench.peer import running_peer
from shopstream_stack.bench.waiting import wait_until
from shopstream_stack.errors import StackError
from shopstream_stack.process import NotHealthyError

BARE_SECONDS_MAX: Final = 240.0
#: Its imports alone take seconds.
QUIX_SECONDS_MAX: Final = 90.0
COMMITTED_SECONDS_MAX: Final = 10.0
QUIX_GROUP: Final = "bench-quix"
#: Run by another Python, so a path and no module.
QUIX_PEER: Final = Path(__file__).with_name("quix_peer.py")


def bare_rates(
    place: AnalyticsPlace, stores: Stores, kind: Literal["updates", "puts"], source: str, most: int
) -> Mapping[str, float]:
    """Items a second of each form of the bare loop, on at most ``most`` of a table's items.

    Raises StackError.
    """
    target = stores.target
    task = bare.Task(
        endpoint=target.dynamo_endpoint,
        region=target.aws_region,
        access_key=target.aws_access_key_id,
        secret_key=target.aws_secret_access_key.get_secret_value(),
        source=source,
        kind=kind,
        items_max=most,
    )
    command = (sys.executable, "-m", bare.__name__)
    line = msgspec.json.encode(task).decode()
    with running_peer("The bare loop", command, line) as process:
        place.keep_on_one_core(process.pid)
        return msgspec.json.decode(_told(process), type=dict[str, float])


@contextmanager
def slow_store(stores: Stores, port: int, seconds: float) -> Iterator[str]:
    """The address of a DynamoDB whose every answer comes so much later. Raises StackError."""
    server = stores.target.dynamo_endpoint.rpartition(":")[2]
    command = (sys.executable, "-m", slow_link.__name__)
    with running_peer("The slow link", command, f"{port} {server} {seconds}"):
        yield f"http://127.0.0.1:{port}"


class Quix:
    """Its group's commits are its positions: it stores files before it commits."""

    def __init__(self, place: AnalyticsPlace, places: tuple[Place, ...]) -> None:
        self._place = place
        self._places = places

    @contextmanager
    def running(self, stores: Stores, commit_every: int) -> Iterator[WorkerProcess]:
        """It has joined its group; on the first core alone, as a worker. Raises StackError."""
        target = stores.target
        python = self._place.system.cache.ensure_quix(self._place.system.reporter)
        task = {
            "brokers": self._place.brokers,
            "topic": INVENTORY,
            "group": QUIX_GROUP,
            "bucket": target.archive_bucket,
            "endpoint": target.minio_endpoint,
            "region": target.aws_region,
            "access_key": target.minio_access_key,
            "secret_key": target.minio_secret_key.get_secret_value(),
            "commit_every": commit_every,
        }
        command = (str(python), "-W", "ignore", str(QUIX_PEER))
        line = msgspec.json.encode(task).decode()
        with running_peer("Quix Streams", command, line, ready_seconds_max=QUIX_SECONDS_MAX) as one:
            self._place.keep_on_one_core(one.pid)
            wait_until(self._joined, "Quix Streams has joined its group", QUIX_SECONDS_MAX)
            yield WorkerProcess(QUIX_GROUP, one.pid)

    def read(self) -> Mapping[Place, int]:
        """See Positions."""
        connection = KafkaConnection(self._place.brokers, "shopstream-bench")
        reader = Consumer(connection.consumer(QUIX_GROUP))
        try:
            wanted = [TopicPartition(*place) for place in self._places]
            found = reader.committed(wanted, timeout=COMMITTED_SECONDS_MAX)
        finally:
            reader.close()
        return {(one.topic, one.partition): one.offset for one in found if one.offset >= 0}

    def _joined(self) -> bool:
        try:
            self._place.joined(QUIX_GROUP, 1)
        except NotHealthyError:
            return False
        return True


def _told(process: "subprocess.Popen[str]") -> str:
    """Let it begin and wait for its one line of results."""
    assert process.stdin is not None  # noqa: S101 - for the type: they are pipes
    assert process.stdout is not None  # noqa: S101 - as above
    process.stdin.write("go\n")
    process.stdin.flush()
    if not select.select([process.stdout], [], [], BARE_SECONDS_MAX)[0]:
        raise StackError("The bare loop does not come to an end")
    return process.stdout.readline()
