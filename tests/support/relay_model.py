"""A model of PostgreSQL and Kafka that fails where it is told to, for the relay's own class.

Only the two ports are replaced. The model broker keeps what a transaction really did apart from
what the caller was told, as a network does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from shopstream_api.outbox.relay import relay as relay_module
from shopstream_api.outbox.relay.metrics import RelayMetrics
from shopstream_api.outbox.relay.ports import (
    Delivered,
    Fenced,
    LogFailed,
    Position,
    ProducerSpent,
    ReadAhead,
    Row,
    RowsRefused,
    Settling,
    StoreFailed,
    Topics,
)
from shopstream_api.outbox.relay.relay import Relay, RelayOptions
from shopstream_api.outbox.relay.status import RelayStatus
from shopstream_api.outbox.relay.wakeup import Wakeup
from shopstream_shared.clock import ManualClock, epoch_ms
from shopstream_shared.crash import CrashPoints
from shopstream_shared.topics import PRODUCTS, RELAY_PROGRESS, STREAM_TOPICS, TopicState

OUTBOX = "0190-outbox"
START = datetime(2026, 1, 1, tzinfo=UTC)
START_MS = epoch_ms(START)
AGE_SECONDS = 90


def row(seq: int, key: str = "p", txid: int = 0, txrows: int = 1) -> Row:
    return Row(seq, PRODUCTS, key.encode(), b"%d" % seq, (), 0, txid or seq, txrows)


@dataclass
class World:
    """What survives a crash: the database and the broker."""

    outbox: list[Row]
    transactional_id: str | None = "t"
    log: list[Row] = field(default_factory=list)
    progress: list[tuple[str, bytes]] = field(default_factory=list)
    poison: list[int] = field(default_factory=list)
    #: The newest producer of each transactional id; older ones are fenced.
    producers: dict[str, int] = field(default_factory=dict)
    fenced_ids: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    settled: int = 0
    topics: dict[str, TopicState] = field(
        default_factory=lambda: dict.fromkeys((*STREAM_TOPICS, RELAY_PROGRESS), TopicState("1", 1))
    )
    stored: dict[str, TopicState] = field(default_factory=dict)
    leader: object | None = None

    def fail(self, name: str) -> bool:
        """Fail here once if the next planned failure is this one."""
        if self.failures and self.failures[0] == name:
            self.failures.pop(0)
            return True
        return False


class Store:
    """An OutboxStore over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def try_lead(self) -> bool:
        if self._world.leader is None:
            self._world.leader = self
        return self._world.leader is self

    def ping(self) -> None:
        if self._world.fail("ping"):
            raise StoreFailed("ping")

    def take(self, rows_max: int) -> Sequence[Row]:
        if self._world.fail("take"):
            raise StoreFailed("take")
        return sorted(self._world.outbox, key=lambda r: r.seq)[:rows_max]

    def read_ahead(
        self, taken: Sequence[Row], rows_max: int, settling: Settling | None
    ) -> ReadAhead:
        under_way = len(taken) + (len(settling.seqs) if settling else 0)

        def rows() -> Sequence[Row]:
            if self._world.fail("read ahead"):
                raise StoreFailed("read ahead")
            there = self.take(1_000)
            behind = [r for r in there if r.seq > taken[-1].seq]
            if settling is not None:
                self.settle(settling)
            # Older rows that came meanwhile go first.
            return behind[:rows_max] if len(there) - len(behind) == under_way else ()

        return rows

    def settle(self, settling: Settling) -> None:
        if self._world.fail("settle"):
            raise StoreFailed("settle")
        self._world.outbox = [r for r in self._world.outbox if r.seq not in set(settling.seqs)]
        self._world.settled += 1

    def poison(self, reasons: Mapping[int, str]) -> int:
        self._world.poison += reasons
        self._world.outbox = [r for r in self._world.outbox if r.seq not in reasons]
        return len(reasons)

    def identity(self) -> tuple[str, str | None]:
        return OUTBOX, self._world.transactional_id

    def remember_transactional_id(self, transactional_id: str) -> None:
        self._world.transactional_id = transactional_id

    def note_topics(self, found: Topics) -> None:
        self._world.stored = {**found, **self._world.stored}

    def topics(self) -> Topics:
        return self._world.stored

    def lag(self) -> tuple[int, int | None]:
        times = [START_MS - AGE_SECONDS * 1_000 for _ in self._world.outbox]
        return len(times), min(times, default=None)

    def close(self) -> None:
        if self._world.leader is self:
            self._world.leader = None


class Log:
    """An EventLog over the world, with transactions and fencing."""

    def __init__(self, world: World, heartbeat: Callable[[], None]) -> None:
        self._world = world
        self._heartbeat = heartbeat
        self._id = ""
        self._epoch = 0
        self._open: tuple[list[Row], bytes] = ([], b"")

    def topics(self) -> Topics:
        if self._world.fail("topics"):
            raise LogFailed("topics")
        return dict(self._world.topics)

    def fence(self, transactional_id: str) -> None:
        if self._world.fail("fence"):
            raise LogFailed("fence")
        self._id = transactional_id
        self._epoch = self._world.producers.get(transactional_id, 0) + 1
        self._world.producers[transactional_id] = self._epoch
        self._world.fenced_ids.append(transactional_id)

    def read_progress(self, ours: Callable[[bytes], bool]) -> bytes | None:
        found = [value for _, value in self._world.progress if ours(value)]
        return found[-1] if found else None

    def end_position(self) -> Position:
        return {(PRODUCTS, 0): len(self._world.log)}

    def begin(self) -> None:
        if self._world.fail("spent"):
            raise ProducerSpent("asked twice")
        self._open = ([], b"")

    def send(self, rows: Sequence[Row]) -> None:
        if self._world.fail("send"):
            raise LogFailed("send")
        self._open = (list(rows), b"")

    def deliver(self, progress: bytes) -> Delivered:
        if self._world.fail("deliver"):
            raise LogFailed("deliver")
        rows, _ = self._open
        refused = {r.seq: "too large" for r in rows if r.value == b"huge"}
        if refused:
            raise RowsRefused(refused)
        self._open = (rows, progress)
        end = len(self._world.log)
        return Delivered({(PRODUCTS, 0): end}, {(PRODUCTS, 0): end + len(rows)})

    def commit(self) -> None:
        self._heartbeat()
        if self._world.producers[self._id] != self._epoch:
            raise Fenced("a newer producer has this id")
        if self._world.fail("commit lost"):
            raise LogFailed("timed out; it did not happen")
        rows, progress = self._open
        self._world.log += rows
        self._world.progress.append((self._id, progress))
        if self._world.fail("answer lost"):
            raise LogFailed("timed out; it did happen")

    def close(self) -> None:
        pass


def make(
    world: World,
    *,
    transactional_id: str = "t",
    batch_rows: int = 100,
    waits: Wakeup | None = None,
    registry: CollectorRegistry | None = None,
) -> Relay:
    return Relay(
        open_store=lambda: Store(world),
        open_log=lambda heartbeat: Log(world, heartbeat),
        options=RelayOptions(transactional_id, batch_rows),
        waits=waits or Wakeup(),
        status=RelayStatus(),
        metrics=RelayMetrics(registry or CollectorRegistry(), ManualClock(START)),
        crash=CrashPoints(),
    )


def drain(world: World, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until the outbox is empty, in this thread; a bound on turns instead of on time."""
    turns = 0

    def idle(_self: Wakeup, _seconds: float) -> None:
        nonlocal turns
        turns += 1
        if not world.outbox or turns > 100:
            relay.stop()

    monkeypatch.setattr(Wakeup, "wait", idle)
    monkeypatch.setattr(relay_module, "BACKOFF_SECONDS_FIRST", 0.0)
    monkeypatch.setattr(relay_module, "BACKOFF_SECONDS_MAX", 0.0)
    relay.run()
    assert turns <= 100
