"""The relay's protocol against a model of PostgreSQL and Kafka that fails where it is told to.

The production class runs; only its two ports are replaced. The model broker keeps what a
transaction really did apart from what the caller was told, as a network does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from shopstream_api.outbox.relay import relay as relay_module
from shopstream_api.outbox.relay.metrics import RelayMetrics
from shopstream_api.outbox.relay.ports import (
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
from shopstream_api.outbox.relay.postgres import _whole
from shopstream_api.outbox.relay.progress import (
    PROGRESS_SEQS_MAX,
    UnreadableProgress,
    decode_progress,
    encode_progress,
)
from shopstream_api.outbox.relay.relay import PAUSE_FREE_ROWS, Relay, RelayOptions, pause_seconds
from shopstream_api.outbox.relay.status import RelayStatus
from shopstream_api.outbox.relay.wakeup import Wakeup
from shopstream_shared.clock import ManualClock
from shopstream_shared.crash import CrashPoints
from shopstream_shared.topics import PRODUCTS, RELAY_PROGRESS, STREAM_TOPICS, TopicState

OUTBOX = "0190-outbox"


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
        under_way = {r.seq for r in taken} | set(settling.seqs if settling else ())

        def rows() -> Sequence[Row]:
            if self._world.fail("read ahead"):
                raise StoreFailed("read ahead")
            behind = [r for r in self.take(1_000) if r.seq not in under_way]
            if settling is not None:
                self.settle(settling)
            return behind[:rows_max]

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
        return len(self._world.outbox), None

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

    def deliver(self, progress: bytes) -> Position:
        if self._world.fail("deliver"):
            raise LogFailed("deliver")
        rows, _ = self._open
        refused = {r.seq: "too large" for r in rows if r.value == b"huge"}
        if refused:
            raise RowsRefused(refused)
        self._open = (rows, progress)
        return {(PRODUCTS, 0): len(self._world.log) + len(rows)}

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


def make(world: World, *, transactional_id: str = "t", batch_rows: int = 100) -> Relay:
    return Relay(
        open_store=lambda: Store(world),
        open_log=lambda heartbeat: Log(world, heartbeat),
        options=RelayOptions(transactional_id, batch_rows),
        waits=Wakeup(),
        status=RelayStatus(),
        metrics=RelayMetrics(CollectorRegistry(), ManualClock(datetime.now(UTC))),
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


FAILURES = (
    "take",
    "settle",
    "topics",
    "fence",
    "read ahead",
    "send",
    "deliver",
    "commit lost",
    "answer lost",
)


@pytest.mark.parametrize("second", FAILURES)
@pytest.mark.parametrize("first", FAILURES)
def test_whatever_two_things_fail_each_event_is_on_the_log_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    """Rules 6 and 8: nothing is decided from an error, all from the progress record."""
    world = World([row(seq) for seq in range(1, 8)], failures=[first, second])
    drain(world, make(world, batch_rows=3), monkeypatch)
    assert [r.seq for r in world.log] == list(range(1, 8))
    assert world.outbox == []


def test_an_answer_that_was_lost_is_settled_by_the_progress_record_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World([row(1), row(2)], failures=["answer lost"])
    drain(world, make(world), monkeypatch)
    assert [r.seq for r in world.log] == [1, 2]
    assert len(world.progress) == 1


def test_the_rule_above_would_be_broken_without_the_progress_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World([row(1), row(2)], failures=["answer lost"])
    monkeypatch.setattr(Log, "read_progress", lambda _self, _ours: None)
    drain(world, make(world), monkeypatch)
    assert [r.seq for r in world.log] == [1, 2, 1, 2]


def test_a_change_of_the_producer_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 8: its process keeps its place among the relays."""
    world = World([row(seq) for seq in range(1, 8)], failures=["spent"])
    relay = make(world, batch_rows=3)
    failures: list[Exception] = []
    monkeypatch.setattr(relay, "_failed", failures.append)
    drain(world, relay, monkeypatch)
    assert [r.seq for r in world.log] == list(range(1, 8))
    assert len(world.fenced_ids) == 2
    assert failures == []


def test_under_another_transactional_id_the_old_one_is_fenced_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 5."""
    world = World([row(1)], transactional_id="old")
    drain(world, make(world, transactional_id="new"), monkeypatch)
    assert world.fenced_ids == ["old", "new"]
    assert world.transactional_id == "new"


def test_what_another_publishes_before_it_is_fenced_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 9: without a lock, on an outbox that nobody had led when this relay first looked."""
    world = World([row(1), row(2)], transactional_id=None)
    fence = Log.fence

    def fence_too_late(log: Log, transactional_id: str) -> None:
        if not world.log:
            world.transactional_id = transactional_id
            world.log.append(row(1))
            world.progress.append((transactional_id, encode_progress(OUTBOX, [1])))
        fence(log, transactional_id)

    monkeypatch.setattr(Log, "fence", fence_too_late)
    drain(world, make(world), monkeypatch)
    assert [r.seq for r in world.log] == [1, 2]


def test_a_relay_that_was_fenced_publishes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([row(1)])
    zombie_store = Store(world)
    zombie = Log(world, lambda: None)
    zombie.fence("t")
    zombie.begin()
    taken = zombie_store.take(10)
    zombie.send(taken)
    zombie.deliver(encode_progress(OUTBOX, [1]))
    drain(world, make(world), monkeypatch)
    with pytest.raises(Fenced):
        zombie.commit()
    assert [r.seq for r in world.log] == [1]


def test_the_progress_of_another_outbox_deletes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([row(1), row(2)])
    world.progress.append(("t", encode_progress("another", [1, 2])))
    drain(world, make(world), monkeypatch)
    assert [r.seq for r in world.log] == [1, 2]


@pytest.mark.parametrize("topic", [PRODUCTS, RELAY_PROGRESS])
def test_nothing_is_published_to_a_topic_made_again(
    monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """Rule 13: with its progress topic made again it would be told that nothing was published."""
    world = World([row(1)], failures=["answer lost"])
    relay = make(world)
    make_again = Log.topics

    def topics(log: Log) -> Topics:
        if world.log:
            world.topics[topic] = TopicState("2", 1)
            world.progress.clear()
        return make_again(log)

    pauses: list[float] = []

    def pause(_self: Wakeup, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 3:
            relay.stop()

    monkeypatch.setattr(Log, "topics", topics)
    monkeypatch.setattr(Wakeup, "pause", pause)
    relay.run()
    assert [r.seq for r in world.log] == [1]
    assert [r.seq for r in world.outbox] == [1]


def test_a_row_that_is_refused_for_good_is_set_aside_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 11."""
    huge = Row(2, PRODUCTS, b"q", b"huge", (), 0, 2, 1)
    world = World([row(1), huge, row(3)])
    drain(world, make(world), monkeypatch)
    assert world.poison == [2]
    assert [r.seq for r in world.log] == [1, 3]


def test_a_progress_record_says_in_ranges_what_it_lists() -> None:
    record = encode_progress(OUTBOX, [5, 1, 2, 3, 9, 10])
    assert record == b'{"v":1,"outbox":"0190-outbox","seqs":[[1,3],[5,5],[9,10]]}'
    assert decode_progress(record) == (OUTBOX, [1, 2, 3, 5, 9, 10])


def test_a_progress_record_is_bounded_both_ways() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode_progress(OUTBOX, range(PROGRESS_SEQS_MAX + 1))
    for value in (
        b"",
        b"[]",
        b'{"v":2,"outbox":"x","seqs":[]}',
        b'{"v":1,"outbox":"x","seqs":[[1,100000000000]]}',
    ):
        with pytest.raises(UnreadableProgress):
            decode_progress(value)


def test_a_batch_ends_where_no_transaction_is_split() -> None:
    """Rule 4."""
    two, one = row(1, txid=7, txrows=2), row(2, txid=8, txrows=1)
    assert _whole([two, one]) == 0
    assert _whole([one, two]) == 1
    rest = [row(3, txid=9, txrows=2), row(4, txid=7, txrows=2), row(5, txid=9, txrows=2)]
    # 7 is complete with the fourth row, but 9 has begun before it.
    assert _whole([two, one, *rest[:2]]) == 0
    assert _whole([two, one, *rest]) == 5
    assert _whole([two, one, *rest, row(6, txid=10, txrows=2)]) == 5


@pytest.mark.parametrize(
    ("rows", "pause_ms"),
    [
        pytest.param(1, 0, id="an idle shop's"),
        pytest.param(PAUSE_FREE_ROWS, 0, id="a few"),
        pytest.param(PAUSE_FREE_ROWS + 10, 10, id="more are coming"),
        pytest.param(99, 50, id="many more are coming"),
        pytest.param(100, 0, id="more are there"),
    ],
)
def test_after_a_batch_the_relay_waits_for_what_is_coming_but_not_for_what_is_there(
    rows: int, pause_ms: int
) -> None:
    assert round(pause_seconds(rows, batch_rows=100) * 1_000) == pause_ms
