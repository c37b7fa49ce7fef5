"""The relay's two adapters, each on its real component, rule by rule."""

import argparse
import hashlib
import subprocess
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import pytest
from confluent_kafka import Producer
from structlog.testing import capture_logs
from tests.support.api import COMMAND, ApiProcess, published
from tests.support.components import LocalComponents
from tests.support.outbox import insert_event
from tests.support.relay_ports import sent
from tests.support.system import wait_until
from tests.support.warm import forks

from shopstream_api.db.connect import REQUEST_OPTIONS, conninfo
from shopstream_api.db.migrate import migrate
from shopstream_api.outbox.relay import poison, postgres
from shopstream_api.outbox.relay.kafka import KafkaLog
from shopstream_api.outbox.relay.ports import Fenced, Row, Settling, StoreFailed
from shopstream_api.outbox.relay.postgres import PostgresStore
from shopstream_api.outbox.relay.progress import decode_progress, encode_progress
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import PRODUCTS, RELAY_PROGRESS

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def url(components: LocalComponents) -> str:
    components.up("postgres")
    fresh = components.fresh_database()
    migrate(fresh)
    return fresh


@pytest.fixture
def topics(components: LocalComponents) -> KafkaConnection:
    """A broker with all topics, made as the API makes them."""
    components.up("kafka", "postgres")
    with ApiProcess.beside(components, SHOPSTREAM_RELAY="off") as api:
        wait_until(lambda: api.answers("/health"), "the topics are there")
    return KafkaConnection(components.kafka_brokers, "test")


def _keys(rows: Sequence[Row]) -> list[str]:
    return [row.key.decode() for row in rows]


def test_a_batch_never_splits_interleaved_transactions(url: str) -> None:
    """Protocol rule 4, and the order by seq of rule 1."""
    with psycopg.connect(url) as one, psycopg.connect(url) as two, psycopg.connect(url) as three:
        insert_event(one, "a1", txrows=2)
        insert_event(two, "b1", txrows=2)
        insert_event(one, "a2", txrows=2)
        insert_event(three, "c1")
        insert_event(two, "b2", txrows=2)
        insert_event(three, "never counted")
        for connection in (one, two, three):
            connection.commit()
    store = PostgresStore(url)
    try:
        assert _keys(store.take(1)) == ["a1", "b1", "a2", "c1", "b2"]
        assert _keys(store.take(100))[:5] == ["a1", "b1", "a2", "c1", "b2"]
        store.settle(Settling([row.seq for row in store.take(1)], "id"))
        assert _keys(store.take(1)) == ["never counted"]
    finally:
        store.close()


def test_a_transaction_that_commits_while_a_batch_is_read_is_not_split(url: str) -> None:
    """Rule 4: the rows that complete a batch come from the snapshot that began it."""
    with psycopg.connect(url) as slow, psycopg.connect(url) as quick:
        insert_event(slow, "slow 1", txrows=2)
        insert_event(quick, "quick 1", txrows=2)
        insert_event(slow, "slow 2", txrows=2)
        insert_event(quick, "quick 2", txrows=2)
        quick.commit()

        class Interrupted(PostgresStore):
            """Lets the slow transaction commit once the batch has begun to be read."""

            reads = 0

            def _fetch(self, before: Sequence[Row], rows_max: int) -> list[Row]:
                rows = super()._fetch(before, rows_max)
                self.reads += 1
                if self.reads == 2:
                    slow.commit()
                return rows

        store = Interrupted(url)
        try:
            assert _keys(store.take(1)) == ["quick 1", "quick 2"]
            assert store.reads > 2
        finally:
            store.close()


def test_only_one_session_leads_until_it_ends(url: str) -> None:
    one, two = PostgresStore(url), PostgresStore(url)
    try:
        assert one.try_lead()
        assert not two.try_lead()
        one.close()
        wait_until(two.try_lead, "the lock is free")
    finally:
        one.close()
        two.close()


def test_poisoned_events_can_be_listed_and_put_back_in_order(url: str) -> None:
    """Protocol rule 11: later events of the aggregate wait; retry brings all back as they were."""
    with psycopg.connect(url, autocommit=True) as connection:
        for key in ("p", "q", "p"):
            insert_event(connection, key)
    with _store(url) as store:
        first, _, third = store.take(10)
        assert store.poison({first.seq: "too large"}) == 1
        assert [(row.seq, row.blocked) for row in store.take(10)] == [(2, False), (3, True)]
        assert store.poison({third.seq: "waits"}) == 1

    def run(*arguments: str) -> str:
        return subprocess.run(
            [COMMAND, "poison", *arguments],
            env={"DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    assert "too large" in run("ls")
    assert run("retry", str(third.seq)) == "retry: 2 events\n"
    with _store(url) as store:
        assert [(row.seq, row.blocked) for row in store.take(10)] == [
            (1, False),
            (2, False),
            (3, False),
        ]
        store.poison({1: "too large"})
    assert run("drop", "1") == "drop: 1 events\n"
    assert run("ls") == ""


def test_many_poisoned_events_are_put_back_in_transactions_that_fit_into_a_batch(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocol rule 4: what is larger than a progress record would have to be split."""
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(5):
            insert_event(connection, f"k{number % 2}")
    monkeypatch.setattr(poison, "RETRY_ROWS_MAX", 2)
    with _store(url) as store:
        rows = store.take(10)
        store.poison({row.seq: "too large" for row in rows})
        assert poison.run(url, argparse.Namespace(action="retry", seq=[])) == 0
        again = store.take(10)
    assert [(row.seq, row.txrows) for row in again] == [(1, 2), (2, 2), (3, 2), (4, 2), (5, 1)]


def test_a_transaction_that_no_record_could_list_is_split_and_reported(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PROGRESS_SEQS_MAX", 3)
    with psycopg.connect(url) as connection:
        for number in range(5):
            insert_event(connection, str(number), txrows=5)
    with _store(url) as store, capture_logs() as logged:
        assert _keys(store.take(2)) == ["0", "1", "2"]
    assert logged == [
        {
            "event": "a database transaction is split",
            "log_level": "error",
            "rows": 3,
            "first_seq": 1,
        }
    ]


def test_a_failure_says_what_the_server_said(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE relay_topics")
    with _store(url) as store, pytest.raises(StoreFailed) as failed:
        store.topics()
    assert str(failed.value) == ('database: UndefinedTable: relation "relay_topics" does not exist')


def test_commits_are_durable_whatever_the_database_says(url: str) -> None:
    """Protocol rule 6: what is published must not be lost by a crash of the server."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off'.encode())
    with psycopg.connect(conninfo(url, "test", REQUEST_OPTIONS)) as session:
        assert session.execute("SHOW synchronous_commit").fetchone() == ("on",)


@contextmanager
def _store(url: str) -> Iterator[PostgresStore]:
    """A session for a few statements: the server ends one that is silent for five seconds."""
    store = PostgresStore(url)
    try:
        yield store
    finally:
        store.close()


def test_progress_is_read_only_once_nothing_below_it_is_open(topics: KafkaConnection) -> None:
    """Protocol rule 7: a commit was made while read_committed still showed the older record."""
    outbox = str(uuid.uuid4())
    name = f"test-{outbox}"
    waits = threading.Event()
    log = KafkaLog(topics, waits.set)
    log.fence(name)
    log.begin()
    sent(log, [], encode_progress(outbox, [1]))
    log.commit()
    other = Producer(topics.transactional_producer(f"other-{outbox}"))
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(RELAY_PROGRESS, encode_progress(outbox, [2]), "other", 0)
    other.flush(30)
    found: list[bytes | None] = []
    ours = threading.Thread(
        target=lambda: found.append(log.read_progress(lambda value: outbox.encode() in value))
    )
    ours.start()
    assert waits.wait(30)
    assert found == []
    other.commit_transaction(30)
    ours.join(60)
    (record,) = found
    assert record is not None
    assert decode_progress(record) == (outbox, [2])
    log.close()


def test_a_producer_that_was_fenced_cannot_commit(topics: KafkaConnection) -> None:
    name = f"test-{uuid.uuid4().hex}"
    zombie = KafkaLog(topics, lambda: None)
    zombie.fence(name)
    zombie.begin()
    key = uuid.uuid4().hex
    rows = [Row(1, PRODUCTS, key.encode(), b"{}", (), 0, 1, 1)]
    sent(zombie, rows, encode_progress(key, [1]))
    successor = KafkaLog(topics, lambda: None)
    successor.fence(name)
    with pytest.raises(Fenced):
        zombie.commit()
    assert published(topics.brokers, key) == []
    zombie.close()
    successor.close()


def test_each_event_has_an_audit_row_with_the_digest_of_its_bytes(
    components: LocalComponents,
) -> None:
    """Protocol rule 12; also the relay alone, woken by NOTIFY of an API without one."""
    components.up("kafka", "postgres")
    with ApiProcess.beside(components, SHOPSTREAM_RELAY="off") as api:
        relay = forks("shopstream_api.main").start(
            [COMMAND, "relay"],
            {**api.environ, "SHOPSTREAM_RELAY_PORT": "0"},
            patches=["polls_once_a_minute"],
        )
        try:
            product = api.product(stock=10)["id"]
            api.drained()
            # The relay has looked and found nothing: what comes now it has to be told of.
            order = api.order((product, 6)).json()
            api.drained()
            api.client.post(f"/orders/{order['id']}/confirm")
            api.drained()
            api.client.post(f"/orders/{order['id']}/pay")
            api.drained()
        finally:
            relay.terminate()
            assert relay.wait(10) == 0
        records = published(components.kafka_brokers, product, order["id"])
        audited = api.query(
            "SELECT topic, subject::text, sequence, type, sha256, amount_minor FROM event_audit"
        )
        assert {row[:5] for row in audited} == {
            (r.topic, r.key, r.sequence, r.type, hashlib.sha256(r.value).digest()) for r in records
        }
        assert [row[5] for row in audited if row[3] == "order.paid"] == [order["totalMinor"]]
