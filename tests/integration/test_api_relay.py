"""The relay on real PostgreSQL and Kafka: nothing lost, nothing doubled, nothing out of order."""

import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from random import Random

import httpx
import psycopg
import pytest
from tests.support.api import ApiProcess, published
from tests.support.components import LocalComponents
from tests.support.outbox import insert_event
from tests.support.system import wait_until

from shopstream_shared.stream_id import StreamPosition

PRODUCTS = ["shop.products"]
PRODUCT = {"name": "x", "price": 1, "sellerId": "s"}
CRASH_POINTS = (
    "relay.init",
    "relay.before_produce",
    "relay.after_produce",
    "relay.before_commit",
    "relay.after_commit",
    "relay.before_delete",
    "relay.after_delete",
)


@pytest.fixture
def api(components: LocalComponents) -> Iterator[ApiProcess]:
    components.up("kafka", "postgres")
    with ApiProcess.beside(components) as process:
        wait_until(lambda: process.answers("/health"), "all is healthy")
        yield process


def test_a_product_is_one_event_with_the_contracts_bytes(
    api: ApiProcess, components: LocalComponents
) -> None:
    sent = {"name": "Café ☕", "price": 99.99, "stock": 10, "sellerId": "s1"}
    headers = {"X-Correlation-Id": "corr-1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    answer = api.client.post("/products", json=sent, headers=headers)
    api.drained()
    (record,) = published(components.kafka_brokers, answer.json()["id"])
    assert record.topic == "shop.products"
    assert record.key == answer.json()["id"]
    event = record.event
    # One encoding: the event's data are the very bytes of the answer.
    assert record.value.endswith(b'"data":' + answer.content + b"}")
    assert event["type"] == "product.created"
    assert event["sequence"] == "1"
    assert event["correlationid"] == "corr-1"
    assert event["traceparent"] == headers["traceparent"]
    assert list(record.headers) == [
        "content-type",
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_subject",
        "ce_sellerid",
        "ce_sequence",
        "ce_time",
        "traceparent",
    ]
    digits = event["time"].removesuffix("Z").rpartition(".")[2]
    assert len(digits) == 6
    assert record.timestamp % 1000 == int(digits[:3])


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_kill_at_any_crash_point_neither_loses_nor_doubles(
    components: LocalComponents, point: str
) -> None:
    components.up("kafka", "postgres")
    with ApiProcess.beside(components, SHOPSTREAM_RELAY="off") as api:
        product = api.product(stock=10)
        api.order((product["id"], 7))
        api.client.patch(f"/products/{product['id']}", json={"name": "New"})
        api.kill()
        # A term begins with something to recover: what was committed and is not deleted yet.
        before = ["relay.after_commit"] if point == "relay.init" else []
        for crash_at in (*before, point):
            api.start(path=None, SHOPSTREAM_RELAY="inline", SHOPSTREAM_CRASH_AT=crash_at)
            assert api.died() == -signal.SIGKILL
        api.start(SHOPSTREAM_RELAY="inline")
        api.drained()
        found = published(components.kafka_brokers, product["id"])
        assert [(r.type, r.sequence) for r in found] == [
            ("product.created", 1),
            ("product.updated", 2),
            ("inventory.reserved", 1),
            ("product.low_stock", 2),
        ]


def test_kills_at_random_moments_under_load_leave_the_log_exact(
    components: LocalComponents,
) -> None:
    components.up("kafka", "postgres")
    moments = Random(5)
    with ApiProcess.beside(components, SHOPSTREAM_RELAY_BATCH_ROWS="3") as api:
        made: list[str] = []
        stop = threading.Event()

        def write() -> None:
            while not stop.wait(0.005):
                with suppress(httpx.TransportError):
                    answer = api.client.post("/products", json=PRODUCT)
                    # Just after a start 503 is an honest answer; any other but 201 is not.
                    if answer.status_code != 503:
                        made.append(answer.json()["id"])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(4):
                wait_until(partial(_more_than, made, len(made)), "it writes")
                # The moment is the fault itself, not a wait for something to happen.
                time.sleep(moments.uniform(0.0, 0.3))
                api.kill()
                api.start()
        finally:
            stop.set()
            writer.join(60)
        api.drained()
        # Those too whose answer was cut off.
        rows = [row[0] for row in api.query("SELECT id::text FROM products")]
        assert set(made) <= set(rows)
        found = published(components.kafka_brokers, *rows)
        assert Counter(record.key for record in found) == Counter(rows)


def test_a_rejected_write_leaves_no_event(api: ApiProcess, components: LocalComponents) -> None:
    product = api.product(stock=1, sku="one")
    other = api.product(stock=5)
    before = api.query("SELECT count(*) FROM event_audit")
    taken = {"name": "x", "price": 1, "sku": "one", "sellerId": "seller1"}
    refused = (
        api.client.post("/products", json={"name": "", "price": -1, "sellerId": "seller1"}),
        api.client.post("/products", json=taken),
        api.client.post("/products", json=taken, headers={"Idempotency-Key": "k"}),
        api.order((other["id"], 1), (product["id"], 2)),
        api.client.patch(
            f"/products/{product['id']}", json={"price": 5}, headers={"If-Match": '"v9"'}
        ),
        api.client.post(f"/orders/{uuid.uuid4()}/cancel"),
    )
    assert [answer.status_code for answer in refused] == [422, 409, 409, 409, 412, 404]
    api.drained()
    assert api.query("SELECT count(*) FROM event_audit") == before
    found = published(components.kafka_brokers, product["id"], other["id"])
    assert [record.type for record in found] == ["product.created"] * 2
    assert api.client.get(f"/products/{other['id']}").json()["stock"] == 5


def test_with_the_broker_away_writes_succeed_and_their_events_follow_in_order(
    components: LocalComponents,
) -> None:
    components.up("kafka", "postgres")
    with ApiProcess.beside(components) as api:
        wait_until(lambda: api.answers("/health"), "all is healthy")
        components.stop("kafka")
        product = api.product(stock=3)
        for number in range(5):
            answer = api.client.patch(f"/products/{product['id']}", json={"name": f"n{number}"})
            assert answer.status_code == 200
        assert api.order((product["id"], 3)).status_code == 201
        wait_until(lambda: api.answers("/health", 503), "health says the broker is away")
        assert api.answers("/health/ready")
        assert api.answers("/health/live")
        components.start("kafka")
        api.drained()
        found = published(components.kafka_brokers, product["id"], topics=PRODUCTS)
        assert [record.sequence for record in found] == [1, 2, 3, 4, 5, 6]
        wait_until(lambda: api.answers("/health"), "all is healthy again")


def test_concurrent_writers_of_one_product_leave_versions_without_a_gap_in_order(
    api: ApiProcess, components: LocalComponents
) -> None:
    """Protocol rule 2: seq is drawn after the row lock, so outbox order is version order."""
    product = api.product(stock=1_000)["id"]

    def change(number: int) -> int:
        if number % 2:
            return api.client.patch(f"/products/{product}", json={"name": f"n{number}"}).status_code
        return api.order((product, 1)).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(change, range(60)))
    assert statuses == {200, 201}
    api.drained()
    found = published(components.kafka_brokers, product)
    versions = {
        topic: [record.sequence for record in found if record.topic == topic]
        for topic in ("shop.products", "shop.inventory")
    }
    assert versions == {
        "shop.products": list(range(1, 32)),
        "shop.inventory": list(range(1, 31)),
    }


def test_a_row_of_a_slower_transaction_is_published_though_larger_numbers_went_before(
    api: ApiProcess, components: LocalComponents
) -> None:
    """Protocol rule 3: never "seq > last"."""
    slow, fast = str(uuid.uuid4()), str(uuid.uuid4())
    with psycopg.connect(api.database_url) as transaction:
        insert_event(transaction, slow)
        with psycopg.connect(api.database_url, autocommit=True) as other:
            insert_event(other, fast)
        wait_until(
            lambda: len(published(components.kafka_brokers, fast)) == 1, "the fast one is there"
        )
        assert published(components.kafka_brokers, slow) == []
        transaction.commit()
    wait_until(lambda: len(published(components.kafka_brokers, slow)) == 1, "the slow one follows")
    # No product is behind these rows, so none of them may be left for the invariants.
    api.drained()


def test_another_transactional_id_fences_the_old_one_and_keeps_its_progress(
    components: LocalComponents,
) -> None:
    """Protocol rule 5: killed between commit and delete, then started under a new id."""
    components.up("kafka", "postgres")
    with ApiProcess.beside(components, SHOPSTREAM_RELAY="off") as api:
        product = api.product()["id"]
        api.kill()
        api.start(path=None, SHOPSTREAM_RELAY="inline", SHOPSTREAM_CRASH_AT="relay.after_commit")
        assert api.died() == -signal.SIGKILL
        api.start(SHOPSTREAM_RELAY="inline", KAFKA_TRANSACTIONAL_ID=f"new-{uuid.uuid4().hex}")
        api.drained()
        assert len(published(components.kafka_brokers, product)) == 1


def test_a_fresh_database_is_not_harmed_by_the_progress_of_an_older_one(
    components: LocalComponents,
) -> None:
    components.up("kafka", "postgres")
    with ApiProcess.beside(components) as old:
        for _ in range(3):
            old.product()
        old.drained()
        old.kill()
        with ApiProcess.beside(components, SHOPSTREAM_RELAY="off") as fresh:
            made = [fresh.product()["id"] for _ in range(3)]
            fresh.kill()
            # Led once before, so that it does read the progress partition.
            fresh.execute("UPDATE relay_state SET transactional_id = 'earlier'")
            fresh.start(SHOPSTREAM_RELAY="inline")
            fresh.drained()
            assert len(published(components.kafka_brokers, *made)) == 3


def test_a_stopped_leader_loses_its_lock_and_another_publishes(
    components: LocalComponents,
) -> None:
    """Protocol rule 9: a SIGSTOPped holder would keep a plain advisory lock for ever."""
    components.up("kafka", "postgres")
    with ApiProcess.beside(components) as leader:
        wait_until(lambda: leader.answers("/health"), "the first leads")
        with ApiProcess(leader.environ) as second:
            wait_until(lambda: _relay(second) == "standby", "the second waits")
            leader.signal(signal.SIGSTOP)
            try:
                product = second.product()["id"]
                wait_until(lambda: _relay(second) == "leading", "the second leads")
                second.drained()
            finally:
                leader.signal(signal.SIGCONT)
            made = [leader.product()["id"] for _ in range(3)]
            second.drained()
            found = published(components.kafka_brokers, product, *made)
            assert Counter(record.key for record in found) == Counter([product, *made])


def test_an_event_the_broker_refuses_waits_as_poison_with_its_followers_only(
    api: ApiProcess, components: LocalComponents
) -> None:
    """Protocol rule 11."""
    poisoned, fine = str(uuid.uuid4()), str(uuid.uuid4())
    with psycopg.connect(api.database_url, autocommit=True) as connection:
        insert_event(connection, poisoned, b"x" * 2_000_000)
        insert_event(connection, poisoned)
        insert_event(connection, fine)
    api.drained()
    assert [record.key for record in published(components.kafka_brokers, poisoned, fine)] == [fine]
    assert api.query("SELECT count(*) FROM outbox_poison WHERE aggregateid = %s", poisoned) == [
        (2,)
    ]
    wait_until(lambda: api.answers("/health", 503), "health tells of it")
    assert api.answers("/health/ready")
    # No product is behind these rows, so none of them may be left for the invariants.
    api.execute("DELETE FROM outbox_poison WHERE aggregateid = %s", poisoned)


def test_the_stream_position_of_a_read_is_before_all_it_does_not_show(
    api: ApiProcess, components: LocalComponents
) -> None:
    """Protocol rule 29: under writes, what a list lacks lies at or after its position."""
    stop = threading.Event()
    made: list[str] = []

    def write() -> None:
        while not stop.is_set() and len(made) < 90:  # all fit on one page of 100
            made.append(api.product()["id"])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: len(made) > 10, "some are there")
        reads = [api.client.get("/products?limit=100") for _ in range(20)]
    finally:
        stop.set()
        writer.join()
    api.drained()
    places = {
        record.key: (record.topic, record.partition, record.offset)
        for record in published(components.kafka_brokers, *made, topics=PRODUCTS)
    }
    for read in reads:
        position = StreamPosition.decode(read.headers["X-Stream-Position"])
        shown = {row["id"] for row in read.json()["data"]}
        for product, (topic, partition, offset) in places.items():
            assert product in shown or offset >= position.next_offset(topic, partition)


def _more_than(made: Sequence[str], count: int) -> bool:
    return len(made) > count


def _relay(api: ApiProcess) -> str:
    message: str = api.client.get("/health").json()["checks"]["relay"]["message"]
    return message
