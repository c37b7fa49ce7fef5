"""How far a sink has come, as its own checkpoints say: what lies below them is stored for good."""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
from botocore.exceptions import ClientError

from shopstream_shared.generations import checkpoint_key, hint_key
from shopstream_stack.bench.analytics.feed import Backlog
from shopstream_stack.bench.analytics.place import Place, Stores, WorkerProcess
from shopstream_stack.bench.waiting import deadline

#: Each look costs 2 to 3 ms of the cores that the store shares, and nobody looks at a bare loop.
POLL_SECONDS: Final = 0.2
STORED_SECONDS_MAX: Final = 240.0
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchBucket", "404", "ResourceNotFoundException"})


class Positions(Protocol):
    """A sink's next offset by partition; one without a checkpoint is left out."""

    def read(self) -> Mapping[Place, int]: ...


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Of a sink in DynamoDB (protocol rule 19)."""

    stores: Stores
    consumer: str
    topic_ids: Mapping[str, str]
    places: tuple[Place, ...]

    def read(self) -> Mapping[Place, int]:
        """One consistent read of all of them."""
        keys = {self._key(place): place for place in self.places}
        table = self.stores.target.checkpoints_table
        request: Any = {table: {"Keys": [{"pk": {"S": k}} for k in keys], "ConsistentRead": True}}
        try:
            found = self.stores.dynamo.batch_get_item(RequestItems=request)["Responses"][table]
        except ClientError as error:
            if error.response["Error"]["Code"] not in _MISSING:
                raise
            return {}
        return {keys[item["pk"]["S"]]: int(item["next"]["N"]) for item in found}

    def _key(self, place: Place) -> str:
        topic, partition = place
        return checkpoint_key(self.consumer, topic, self.topic_ids[topic], partition)


@dataclass(frozen=True, slots=True)
class Hints:
    """Of the archive: each moves right after its object (protocol rule 24)."""

    stores: Stores
    places: tuple[Place, ...]

    def read(self) -> Mapping[Place, int]:
        """One request a partition."""
        found = {place: self._hint(place) for place in self.places}
        return {place: position for place, position in found.items() if position is not None}

    def _hint(self, place: Place) -> int | None:
        key = hint_key(*place, epoch=0)
        bucket = self.stores.target.archive_bucket
        try:
            with closing(self.stores.s3.get_object(Bucket=bucket, Key=key)["Body"]) as body:
                return int(msgspec.json.decode(body.read())["next"])
        except ClientError as error:
            if error.response["Error"]["Code"] not in _MISSING:
                raise
            return None


@dataclass(frozen=True, slots=True)
class Stored:
    """How long a worker took for a backlog, and what it cost."""

    events: int
    seconds: float
    processor_seconds: float
    peak_mib: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def per_core(self) -> float:
        """Events a second of processor time."""
        return self.events / self.processor_seconds if self.processor_seconds else 0.0

    def figures(self) -> dict[str, float]:
        """By the names of the table's columns; a second of processor time as of a core."""
        return {
            "rate": self.rate,
            "perCore": self.per_core,
            "mib": self.peak_mib,
        }


def stored(worker: WorkerProcess, positions: Positions, backlog: Backlog, used: float) -> Stored:
    """Wait until all of the backlog lies below the positions. Raises StackError.

    ``used``: the worker's processor time before the backlog.
    """
    wait_stored(positions, backlog)
    seconds = time.monotonic() - backlog.committed_at
    return Stored(backlog.events, seconds, worker.processor_seconds - used, worker.peak_mib)


def wait_stored(positions: Positions, backlog: Backlog) -> None:
    """Raises StackError when there is no progress for STORED_SECONDS_MAX."""
    done = -1
    while done < backlog.events:
        now = backlog.done(positions.read())
        if now != done:
            done, in_time = now, deadline(STORED_SECONDS_MAX, "a backlog is stored")
        in_time()
        time.sleep(POLL_SECONDS if done < backlog.events else 0)
