"""The relay's protocol against a model of PostgreSQL and Kafka that fails where it is told to."""

from collections.abc import Sequence

import pytest
from tests.support.relay_model import OUTBOX, Log, Store, World, drain, make, row

from shopstream_api.outbox.relay import relay as relay_module
from shopstream_api.outbox.relay.ports import (
    Fenced,
    ReadAhead,
    Row,
    Settling,
    Topics,
)
from shopstream_api.outbox.relay.postgres import _whole
from shopstream_api.outbox.relay.progress import (
    PROGRESS_SEQS_MAX,
    UnreadableProgress,
    decode_progress,
    encode_progress,
)
from shopstream_api.outbox.relay.relay import PAUSE_FREE_ROWS, pause_seconds
from shopstream_api.outbox.relay.wakeup import Wakeup
from shopstream_shared.topics import PRODUCTS, RELAY_PROGRESS, TopicState

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
    stores: list[Store] = []

    def open_store() -> Store:
        stores.append(Store(world))
        return stores[-1]

    monkeypatch.setattr(relay, "_open_store", open_store)
    drain(world, relay, monkeypatch)
    assert [r.seq for r in world.log] == list(range(1, 8))
    assert len(world.fenced_ids) == 2
    assert failures == []
    # One session, one lock.
    assert len(stores) == 1


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


def test_another_outbox_may_write_its_progress_in_a_format_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World([row(1), row(2)])
    world.progress.append(("t", b'{"v":2,"outbox":"another","rows":{"1":2}}'))
    drain(world, make(world), monkeypatch)
    assert [r.seq for r in world.log] == [1, 2]


def test_progress_of_ours_that_cannot_be_read_is_told_with_its_place_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World([row(1)], progress=[("t", b'{"v":2,"outbox":"0190-outbox","seqs":[]}')])
    relay = make(world)
    told: list[str] = []

    def failed(error: Exception) -> None:
        told.append(str(error))
        relay.stop()

    monkeypatch.setattr(relay, "_failed", failed)
    relay.run()
    assert world.log == []
    assert told[0].startswith("shop.relay-progress, partition 0: version 2")
    assert told[0].endswith("call `shopstream topics adopt`")


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


@pytest.mark.parametrize("published", [0, 1])
def test_nothing_is_committed_to_topics_made_again_between_two_looks(
    monkeypatch: pytest.MonkeyPatch, published: int
) -> None:
    """Rule 13, though the producer has sent it: by the partitions that it knew, not by the new."""
    world = World([row(1)] * published)
    relay = make(world)
    send = Log.send

    def wait(_self: Wakeup, _seconds: float) -> None:
        assert len(world.log) == published
        world.outbox.append(row(2))

    def sending(log: Log, rows: Sequence[Row]) -> None:
        if rows[0].seq == 2:
            world.topics[PRODUCTS] = TopicState("2", 3)
            world.log.clear()
        send(log, rows)

    pauses: list[float] = []

    def pause(_self: Wakeup, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 3:
            relay.stop()

    monkeypatch.setattr(relay_module, "TOPICS_SECONDS", 1e9)
    monkeypatch.setattr(Log, "send", sending)
    monkeypatch.setattr(Wakeup, "wait", wait)
    monkeypatch.setattr(Wakeup, "pause", pause)
    relay.run()
    assert world.log == []
    assert [r.seq for r in world.outbox] == [2]


def test_a_row_that_is_refused_for_good_is_set_aside_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 11."""
    huge = Row(2, PRODUCTS, b"q", b"huge", (), 0, 2, 1)
    world = World([row(1), huge, row(3)])
    drain(world, make(world), monkeypatch)
    assert world.poison == [2]
    assert [r.seq for r in world.log] == [1, 3]


def test_what_was_refused_is_tried_again_once_another_has_led(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 11: meanwhile an operator may have raised the broker's limit and put the events back."""
    world = World([Row(1, PRODUCTS, b"q", b"huge", (), 0, 1, 1)])
    close, try_lead = Store.close, Store.try_lead

    def leave_it_to_another(store: Store) -> None:
        close(store)
        world.leader = world.leader or world

    def wait_for_it(store: Store) -> bool:
        leads = try_lead(store)
        if world.leader is world:
            world.leader, world.outbox = None, [row(1)]
        return leads

    monkeypatch.setattr(Store, "close", leave_it_to_another)
    monkeypatch.setattr(Store, "try_lead", wait_for_it)
    monkeypatch.setattr(relay_module, "STANDBY_SECONDS", 0.0)
    drain(world, make(world), monkeypatch)
    assert world.poison == []
    assert [r.seq for r in world.log] == [1]


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


def test_only_of_a_backlog_is_read_ahead_and_not_before_the_first_batch_is_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the pause that gathers larger batches is never reached after it (ADR 0014)."""
    read_ahead, asked = Store.read_ahead, list[int]()

    def count(
        store: Store, taken: Sequence[Row], rows_max: int, settling: Settling | None
    ) -> ReadAhead:
        asked.append(len(taken))
        return read_ahead(store, taken, rows_max, settling)

    monkeypatch.setattr(Store, "read_ahead", count)
    world = World([row(seq) for seq in range(1, 14)])
    drain(world, make(world, batch_rows=4), monkeypatch)
    # 4 taken; 4 taken, and 4 read behind them; 1 read behind those, and nothing behind that.
    assert asked == [4, 4]
    assert [r.seq for r in world.log] == list(range(1, 14))
