"""Each worker on the real broker, DynamoDB Local and MinIO: exact through kills and outages."""

import json
import signal
from functools import partial
from itertools import islice
from pathlib import Path
from random import randbytes

import pytest
from confluent_kafka import Producer
from tests.support.analytics import (
    Analytics,
    kill,
    letters_of,
    producer,
    read_log,
    send,
    wait_until,
)
from tests.support.analytics_exact import EXACT, aggregates_exact, caught_up, lives, made_way
from tests.support.components import LocalComponents

CRASH_POINTS = {
    "aggregates": ("after_write", "after_checkpoint"),
    "recent": ("after_write", "after_checkpoint"),
    "archive": ("before_put", "after_put", "after_hint"),
}


@pytest.fixture
def analytics(components: LocalComponents, tmp_path: Path) -> Analytics:
    return Analytics.fresh(components, tmp_path)


@pytest.fixture
def source(analytics: Analytics) -> Producer:
    return producer(analytics.environ["KAFKA_BROKERS"])


@pytest.mark.parametrize("name", EXACT)
def test_a_worker_killed_in_the_middle_of_the_load_leaves_its_sink_exact(
    name: str, analytics: Analytics, source: Producer
) -> None:
    transactions = lives(seed=1)
    for _ in range(2):
        with analytics.worker(name) as worker:
            # Load until the worker has made some way, then kill it while more is coming.
            before = analytics.commits(f"analytics-{name}")
            for transaction in islice(transactions, 60):
                send(source, transaction)
            wait_until(partial(made_way, analytics, name, before), "the worker makes way")
            for transaction in islice(transactions, 10):
                send(source, transaction)
            kill(worker)
    with analytics.worker(name):
        caught_up(analytics, name)
        EXACT[name](analytics)


@pytest.mark.parametrize(
    ("name", "point"), [(name, point) for name, points in CRASH_POINTS.items() for point in points]
)
def test_a_crash_between_any_two_writes_leaves_the_sink_exact(
    name: str, point: str, analytics: Analytics, source: Producer
) -> None:
    for transaction in islice(lives(seed=2), 20):
        send(source, transaction)
    with analytics.worker(name, SHOPSTREAM_CRASH_AT=f"{name}.{point}") as worker:
        assert worker.wait(timeout=60) == -signal.SIGKILL
    # Other batch borders on the repetition: more is on the log by then.
    for transaction in islice(lives(seed=3), 5):
        send(source, transaction)
    with analytics.worker(name):
        caught_up(analytics, name)
        EXACT[name](analytics)


def test_aborted_transactions_are_never_counted_and_the_lag_still_reaches_zero(
    analytics: Analytics, source: Producer
) -> None:
    for number, transaction in enumerate(islice(lives(seed=4), 30)):
        send(source, transaction, abort=number % 3 == 0)
    send(source, next(lives(seed=5)), abort=True)
    with analytics.worker("aggregates"), analytics.worker("recent"), analytics.worker("archive"):
        for name, exact in EXACT.items():
            caught_up(analytics, name)
            exact(analytics)


def test_partitions_of_aborted_data_alone_leave_nothing_behind_and_no_lag(
    analytics: Analytics, source: Producer
) -> None:
    for transaction in islice(lives(seed=8), 5):
        send(source, transaction, abort=True)
    with analytics.worker("aggregates"), analytics.worker("recent"), analytics.worker("archive"):
        for name, exact in EXACT.items():
            caught_up(analytics, name)
            exact(analytics)
        assert analytics.aggregates() == []
        # What follows begins behind it.
        send(source, next(lives(seed=9)))
        for name, exact in EXACT.items():
            caught_up(analytics, name)
            exact(analytics)
    assert analytics.recent_ids() != []


def test_unreadable_records_get_one_letter_each_also_after_a_crash(
    analytics: Analytics, source: Producer
) -> None:
    brokers = analytics.environ["KAFKA_BROKERS"]
    good = next(lives(seed=6))
    foreign = json.loads(good[0].value) | {"type": "order.dreamt"}
    poor = json.loads(good[0].value) | {"data": {"id": "x"}}
    bad = [
        (None, "malformed"),
        (b"no json", "malformed"),
        (json.dumps(foreign).encode(), "unknown_type"),
        (json.dumps(poor).encode(), "invalid_data"),
        (b" " * 300_000, "too_large"),
        # As large as the broker takes: with the letter's headers it is larger than that.
        (randbytes(1_048_200), "too_large"),
    ]
    known = {(r.topic, r.partition, r.offset) for r in read_log(brokers)}
    source.begin_transaction()
    for value, _ in bad:
        headers: list[tuple[str, str | bytes | None]] = [("own", b"1"), ("dlq_topic", b"forged")]
        source.produce("shop.orders", key=b"k\xff", value=value, headers=headers)
    source.commit_transaction()
    send(source, good)
    mine = [r for r in read_log(brokers) if (r.topic, r.partition, r.offset) not in known]
    mine = [r for r in mine if r.key == b"k\xff"]

    with analytics.worker("aggregates", SHOPSTREAM_CRASH_AT="aggregates.after_letters") as worker:
        assert worker.wait(timeout=60) == -signal.SIGKILL
    with analytics.worker("aggregates"), analytics.worker("archive"), analytics.worker("recent"):
        for name, exact in EXACT.items():
            caught_up(analytics, name)
            exact(analytics)

    letters = {}
    for letter in letters_of(brokers):
        headers_of = dict(letter.headers)
        place = (headers_of["dlq_topic"], headers_of["dlq_partition"], headers_of["dlq_offset"])
        assert place not in letters, "a second copy"
        letters[place] = letter
    assert len(mine) == len(bad)
    for record, (value, reason) in zip(mine, bad, strict=True):
        place = (record.topic.encode(), str(record.partition).encode(), str(record.offset).encode())
        letter = letters[place]
        assert (letter.key, letter.value) == (record.key, value)
        assert list(letter.headers[:2]) == [("own", b"1"), ("dlq_topic", b"forged")]
        added = dict(letter.headers)
        assert added["dlq_reason"] == reason.encode()
        assert added["dlq_group"] == b"analytics-aggregates"
        assert added["dlq_detail"]


def test_two_workers_share_the_partitions_and_a_leaver_hands_over_in_order(
    analytics: Analytics, source: Producer
) -> None:
    transactions = lives(seed=7)
    with analytics.worker("aggregates") as first:
        for transaction in islice(transactions, 20):
            send(source, transaction)
        with analytics.worker("aggregates") as second:
            log = analytics.logs / "aggregates.log"
            wait_until(lambda: log.read_text().count('"event": "running"') == 2, "both run")
            for transaction in islice(transactions, 60):
                send(source, transaction)
            second.send_signal(signal.SIGTERM)
            assert second.wait(timeout=15) == 0
        for transaction in islice(transactions, 20):
            send(source, transaction)
        caught_up(analytics, "aggregates")
        aggregates_exact(analytics)
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=15) == 0
