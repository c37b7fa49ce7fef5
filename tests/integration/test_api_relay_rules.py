"""Rules of the outbox and the relay that need a real component and are tested nowhere else."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from tests.support.api import ApiProcess, published
from tests.support.app import in_process, migrated_database
from tests.support.components import LocalComponents
from tests.support.relay_ports import sent
from tests.support.system import wait_until

from shopstream_api.outbox.relay import housekeeping, postgres
from shopstream_api.outbox.relay.kafka import KafkaLog
from shopstream_api.outbox.relay.ports import Row, Settling
from shopstream_api.outbox.relay.postgres import PostgresStore
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topic_admin import ensure_topics
from shopstream_shared.topics import PRODUCTS, load_topics

#: The last millisecond of the year 9999, the latest that a timestamp of ours can be.
LATEST_MS = 253_402_300_799_999


@pytest.fixture
def log(components: LocalComponents) -> Iterator[KafkaLog]:
    components.up("kafka", "postgres")
    with ApiProcess.beside(components, SHOPSTREAM_RELAY="off") as api:
        wait_until(lambda: api.answers("/health"), "the topics are there")
    with closing(KafkaLog(KafkaConnection(components.kafka_brokers, "test"), _no_news)) as log:
        log.fence(f"rules-{uuid.uuid4().hex}")
        yield log


def _no_news() -> None:
    """Nothing ends a wait of these tests."""


def _publish(log: KafkaLog, rows: Sequence[Row]) -> None:
    log.begin()
    sent(log, rows, b'{"v":1,"outbox":"rules","seqs":[]}')
    log.commit()


def _murmur2(key: bytes) -> int:
    """Java's `Utils.murmur2`, positive, written down from its source."""
    h = 0x9747B28C ^ len(key)
    for at in range(0, len(key) - len(key) % 4, 4):
        k = int.from_bytes(key[at : at + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        k = (k ^ k >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        h = h * 0x5BD1E995 & 0xFFFFFFFF ^ k
    tail = key[len(key) - len(key) % 4 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return (h ^ h >> 15) & 0x7FFFFFFF


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"abc", 479470107),
    ],
)
def test_the_hash_of_these_tests_is_that_of_the_java_clients_own_tests(
    key: bytes, hashed: int
) -> None:
    assert _murmur2(key) == hashed & 0x7FFFFFFF


def test_an_event_lies_where_a_java_client_would_put_it_and_whenever_it_happened(
    log: KafkaLog, components: LocalComponents
) -> None:
    """Protocol rule 10."""
    # A topic of its own: to all others events of the year 9999 would be newer than theirs.
    topic = f"rules-{uuid.uuid4().hex}"
    spec = replace(load_topics("local")[PRODUCTS], name=topic)
    ensure_topics(AdminClient(KafkaConnection(components.kafka_brokers, "test").admin()), [spec])
    keys = [str(uuid.uuid4()) for _ in range(40)]
    _publish(log, [Row(n, topic, k.encode(), b"{}", (), LATEST_MS, n, 1) for n, k in _n(keys)])
    found = published(components.kafka_brokers, *keys, topics=[topic])
    assert len(found) == len(keys)
    assert {record.timestamp for record in found} == {LATEST_MS}
    for record in found:
        assert record.partition == _murmur2(record.key.encode()) % spec.partitions


def _n(keys: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(keys, start=1))


def test_within_a_command_the_cause_has_a_smaller_number_than_its_effect(
    components: LocalComponents,
) -> None:
    """Protocol rule 2: an order before the stock it takes, a change of stock before its warning."""
    with in_process(components) as app:
        one, two = (app.product(stock=10)["id"] for _ in range(2))
        lines = [{"productId": product, "quantity": 8} for product in (one, two)]
        order = app.post("/orders", {"items": lines})
        assert order.status_code == 201
        assert app.post(f"/orders/{order.json()['id']}/cancel").is_success
        rows = app.query("SELECT type, aggregateid FROM outbox ORDER BY seq")[2:]
    assert [kind for kind, _ in rows] == [
        "order.created",
        *["inventory.reserved", "product.low_stock"] * 2,
        "order.cancelled",
        *["inventory.released"] * 2,
    ]
    assert [subject for _, subject in rows[1:5]] in ([one, one, two, two], [two, two, one, one])


@pytest.fixture
def outbox(components: LocalComponents) -> str:
    """A database with an empty outbox."""
    return migrated_database(components)


def _fill(url: str, sizes: Sequence[int], txrows: int = 1) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, headers,"
            " time_ms, txid, txrows, shard) SELECT gen_random_uuid(), 'product',"
            " gen_random_uuid()::text, 't', convert_to(repeat('x', size), 'UTF8'),"
            " 'shop.products', '[]', 0, pg_current_xact_id()::text::bigint, %s, 0"
            " FROM unnest(%s::integer[]) AS size",
            (txrows, list(sizes)),
        )


def test_a_batch_is_bounded_by_rows_and_by_bytes(
    outbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "BATCH_BYTES_MAX", 1_000)
    _fill(outbox, [100] * 30)
    with closing(PostgresStore(outbox)) as store:
        sizes = []
        for rows_max in (4, 100, 100):
            rows = store.take(rows_max)
            sizes.append(len(rows))
            store.settle(Settling([row.seq for row in rows], "id"))
        assert sizes == [4, 10, 10]
        assert len(store.take(100)) == 6


def test_one_transaction_that_is_larger_than_a_batch_goes_whole(
    outbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocol rule 4 stands above both bounds."""
    monkeypatch.setattr(postgres, "BATCH_BYTES_MAX", 1_000)
    _fill(outbox, [5_000])
    _fill(outbox, [400] * 9, txrows=9)
    with closing(PostgresStore(outbox)) as store:
        assert len(store.take(3)) == 1
        store.settle(Settling([row.seq for row in store.take(3)], "id"))
        assert len(store.take(3)) == 9


def test_the_outbox_does_not_grow_with_what_has_passed_through_it(
    outbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short form of `make bench-relay`; the server's own vacuum sleeps in these tests."""
    monkeypatch.setattr(housekeeping, "DEAD_ROWS_MIN", 1_000)
    sizes = []
    with psycopg.connect(outbox, autocommit=True) as other:
        for _ in range(6):
            _fill(outbox, [500] * 1_500)
            with closing(PostgresStore(outbox)) as store:
                while rows := store.take(500):
                    store.settle(Settling([row.seq for row in rows], "id"))
            wait_until(lambda: housekeeping.tidy(other), "there is enough to vacuum")
            sizes.append(other.execute("SELECT pg_total_relation_size('outbox')").fetchone())
    assert sizes[5] == sizes[2]


def test_a_vacuum_that_an_old_snapshot_keeps_from_its_work_is_not_repeated_all_the_time(
    outbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "DEAD_ROWS_MIN", 100)
    with psycopg.connect(outbox, autocommit=True) as session, psycopg.connect(outbox) as reader:
        _fill(outbox, [10] * 500)
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT FROM outbox LIMIT 1")
        session.execute("DELETE FROM outbox")
        wait_until(lambda: housekeeping.tidy(session) is False, "there is enough, and no gain")
        reader.rollback()
        assert housekeeping.tidy(session) is True
        assert housekeeping.tidy(session) is None
    first, more = housekeeping.LOOK_SECONDS, housekeeping.LOOK_SECONDS_MAX
    assert housekeeping.next_pause(first, gained=False) == 2 * first
    assert housekeeping.next_pause(more, gained=False) == more
    assert housekeeping.next_pause(more, gained=None) == first
