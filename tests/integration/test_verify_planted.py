"""A small real shop, broken in every way that the check must find: each is named, with its place.

Three reports: after database and tables were broken, after bucket and journals were, after the log
was. The shop itself held before, or it would not have been handed out.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from pydantic import SecretStr
from tests.support.analytics import Analytics, all_led, log_ends, producer, send, wait_until
from tests.support.analytics_events import LogRecord, event
from tests.support.components import LocalComponents
from tests.support.verified import NO_WAITS, SELLERS, SmallShop, hear, small_shop

from shopstream_analytics.aggregates.sink import Letter
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dead_letters import PartitionLetters
from shopstream_analytics.progress import Progress
from shopstream_shared.boundaries import Boundary, encode_boundary
from shopstream_shared.events.codec import EncodedEvent
from shopstream_shared.kafka import KafkaConnection, topic_ids
from shopstream_shared.topics import BOUNDARIES, PRODUCTS
from shopstream_stack.errors import StackError
from shopstream_stack.verify import Report, Violation, verify
from shopstream_stack.verify.log import Log, Place
from shopstream_stack.verify.waits import Waits

DAY = timedelta(days=1)
NOBODY = "00000000-0000-7000-8000-000000000000"


@dataclass(slots=True)
class Planted:
    """The report after the planting, and what each violation must name."""

    report: Report
    shop: SmallShop
    marks: dict[str, str] = field(default_factory=dict)

    def named(self, number: int, kind: str, mark: str = "") -> Violation:
        """The violation of this kind that names what was planted."""
        row = self.report.row(number)
        mark = self.marks.get(mark, mark)
        for violation in row.violations:
            if violation.kind == kind and mark in str(violation):
                return violation
        raise AssertionError(f"{kind} {mark} is not in {[str(one) for one in row.violations]}")


@pytest.fixture(scope="module")
def shop(
    session_components: LocalComponents, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SmallShop]:
    """On a Kafka of its own: on a log with the events of others nothing could be counted."""
    folder = tmp_path_factory.mktemp("shop")
    with (
        LocalComponents() as own,
        small_shop(session_components, own.kafka_brokers, folder) as made,
    ):
        yield made


def test_a_dead_letter_that_was_replayed_is_an_event_as_any_other_though_never_late(
    shop: SmallShop, session_components: LocalComponents, tmp_path: Path
) -> None:
    """Before anything is broken. An earlier version could not read it; this one passes it over."""
    brokers = shop.environ["KAFKA_BROKERS"]
    product = shop.products[0]
    last = [one for one in shop.log() if one.topic == PRODUCTS and one.key == product.encode()][-1]
    # Where it stands it would be late, had anybody judged it.
    made = audited(shop, product, data=json.loads(last.value or b"")["data"], back=DAY)
    send(producer(brokers), [made])
    record = next(one for one in shop.log() if one.value == made.value)
    source = Source(record.topic, record.partition)
    letters = PartitionLetters(KafkaConnection(brokers, "tests"), source, Progress())
    letter = Letter(record, "unknown_type", "not known")
    asyncio.run(letters.send([letter], since=record.offset))
    with Analytics(session_components, shop.environ, tmp_path).service() as service:
        path = f"/admin/dead-letters/{source.topic}/{source.partition}/{record.offset}/replay"
        wait_until(lambda: service.client.post(path).status_code == 200, "it is replayed")
        report = shop.check(Waits())
    for number in range(1, 7):
        row = report.row(number)
        assert row.status == "holds", (row.violations, row.unchecked)


@pytest.fixture(scope="module")
def tables(shop: SmallShop) -> Planted:
    """Database and tables are broken; the archive still tells what should be there."""
    marks = {**plant_in_database(shop), **plant_in_tables(shop)}
    return Planted(shop.check(), shop, marks)


@pytest.fixture(scope="module")
def stores(tables: Planted) -> Planted:
    """Everything but the log is broken."""
    shop = tables.shop
    marks = {**tables.marks, **plant_in_bucket(shop), **plant_in_journals(shop)}
    return Planted(shop.check(), shop, marks)


@pytest.fixture(scope="module")
def log(stores: Planted) -> Planted:
    """And now the log."""
    marks = plant_on_log(stores.shop)
    return Planted(stores.shop.check(), stores.shop, marks)


def plant_in_database(shop: SmallShop) -> dict[str, str]:
    """What the API's transactions and the tables' own constraints make impossible."""
    lost, bare, negative, held, poisoned, waiting = shop.products[:6]
    audit_next_version(shop, lost)
    shop.execute("UPDATE products SET version = version + 1 WHERE id = %s", bare)
    shop.execute("ALTER TABLE products DROP CONSTRAINT products_stock_check")
    shop.execute("UPDATE products SET stock = -1 WHERE id = %s", negative)
    shop.execute("UPDATE products SET reserved = reserved + 1 WHERE id = %s", held)
    columns = "id, aggregatetype, aggregateid, type, payload, topic, headers, time_ms, shard"
    values = "%s, 'product', %s, 'product.updated', '', 'shop.products', '', 0, 0"
    shop.execute(
        f"INSERT INTO outbox_poison (seq, reason, at, {columns}) "
        f"VALUES (-1, 'too large', now(), {values})",
        audit_next_version(shop, poisoned),
        poisoned,
    )
    shop.execute(
        f"INSERT INTO outbox (txid, txrows, {columns}) VALUES (1, 1, {values})",
        audit_next_version(shop, waiting),
        waiting,
    )
    shop.execute("UPDATE orders SET total_minor = total_minor + 1 WHERE id = %s", shop.orders[2])
    return {
        "lost": lost,
        "unaudited": bare,
        "negative": negative,
        "held": held,
        "poison": poisoned,
        "unpublished": waiting,
    }


def audit_next_version(shop: SmallShop, product: str, digest: bytes = b"x" * 32) -> str:
    """A committed change whose event nobody has published; the event's id."""
    ((event_id,),) = shop.execute(
        """
        WITH changed AS (
            UPDATE products SET version = version + 1 WHERE id = %s RETURNING *
        )
        INSERT INTO event_audit (topic, subject, sequence, event_id, type, seller_id, time, sha256)
        SELECT 'shop.products', id, version, gen_random_uuid(), 'product.updated', seller_id,
               updated_at, %s
        FROM changed RETURNING event_id
        """,
        product,
        digest,
    )
    return str(event_id)


def plant_in_tables(shop: SmallShop) -> dict[str, str]:
    """One cent, an item that nobody asked for, one that is gone, one with other data."""
    table = shop.target.aggregates_table
    paid = next(
        item
        for item in shop.dynamo.scan(TableName=table)["Items"]
        if "revenueMinor#USD" in item and item["pk"]["S"].startswith("seller#")
    )
    shop.dynamo.update_item(
        TableName=table,
        Key={"pk": paid["pk"], "sk": paid["sk"]},
        UpdateExpression="ADD #name :cent",
        ExpressionAttributeNames={"#name": "revenueMinor#USD"},
        ExpressionAttributeValues={":cent": {"N": "1"}},
    )
    recent = shop.target.recent_events_table
    gone, changed, *_ = shop.dynamo.scan(TableName=recent)["Items"]
    shop.dynamo.delete_item(TableName=recent, Key={"eventId": gone["eventId"]})
    shop.dynamo.put_item(TableName=recent, Item={**gone, "eventId": {"S": NOBODY}})
    data = {"S": changed["data"]["S"].replace(SELLERS[0], "verify-9").replace(SELLERS[1], "x")}
    shop.dynamo.put_item(TableName=recent, Item={**changed, "data": data})
    return {
        "cent": f"{paid['pk']['S']}|{paid['sk']['S']}",
        "gone": gone["eventId"]["S"],
        "changed": changed["eventId"]["S"],
    }


def plant_in_bucket(shop: SmallShop) -> dict[str, str]:
    """Each fault in an object of its own."""
    counts = {key: int(metadata_of(shop, key)["count"]) for key in shop.objects()}
    firsts = {place_of(key): key for key in reversed(counts)}

    def take(key: str) -> str:
        del counts[key]
        return key

    def other_name(lines: list[bytes]) -> list[bytes]:
        return [re.sub(rb'"sellerId":"verify-\d"', b'"sellerId":"verify-7"', lines[0]), *lines[1:]]

    missing = take(max(counts, key=counts.__getitem__))
    gap = take(min(counts.keys() - firsts.values(), key=counts.__getitem__))
    altered, foreign, doubled, damaged = (take(next(iter(counts))) for _ in range(4))
    rewrite(shop, gap, lambda lines: lines, {"start": "+1"})
    rewrite(shop, missing, lambda lines: lines[:-1])
    rewrite(shop, altered, other_name)
    rewrite(shop, foreign, lambda lines: lines, {"topic-id": "another"})
    rewrite(shop, doubled, lambda lines: [*lines, lines[-1]])
    answer = shop.s3.get_object(Bucket=shop.target.archive_bucket, Key=damaged)
    body = bytearray(answer["Body"].read())
    body[len(body) // 2] ^= 1
    put(shop, damaged, bytes(body), answer["Metadata"])
    return {
        "altered": place_of(altered),
        "missing": place_of(missing),
        "foreign": foreign,
        "doubled": place_of(doubled),
        "gap": gap,
        "damaged": damaged,
    }


def metadata_of(shop: SmallShop, key: str) -> Mapping[str, str]:
    answer = shop.s3.head_object(Bucket=shop.target.archive_bucket, Key=key)
    found: Mapping[str, str] = answer["Metadata"]
    return found


def place_of(key: str) -> str:
    """The partition of an object, as the report names it."""
    topic, partition, _ = key.rpartition("/")[2].split("+")
    return f"{topic}/{partition}@"


def rewrite(
    shop: SmallShop,
    key: str,
    change: Callable[[list[bytes]], list[bytes]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Other lines in an object that is consistent in itself, its metadata changed besides."""
    answer = shop.s3.get_object(Bucket=shop.target.archive_bucket, Key=key)
    text = zstandard.ZstdDecompressor().decompressobj().decompress(answer["Body"].read())
    lines = change(text.splitlines(keepends=True))
    offsets = [json.loads(line)["offset"] for line in lines]
    body = zstandard.ZstdCompressor().compress(b"".join(lines))
    said = {
        **answer["Metadata"],
        "first": str(offsets[0]),
        "last": str(offsets[-1]),
        "count": str(len(lines)),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    for name, value in (metadata or {}).items():
        said[name] = str(int(said[name]) + int(value)) if value.startswith("+") else value
    put(shop, key, body, said)


def put(shop: SmallShop, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
    shop.s3.put_object(
        Bucket=shop.target.archive_bucket, Key=key, Body=body, Metadata=dict(metadata)
    )


def plant_in_journals(shop: SmallShop) -> dict[str, str]:
    """Clients that saw too much, too little or too late; answers that promise too much."""
    records = [record for record in shop.log() if record.topic == "shop.orders"]
    by_order: dict[bytes | None, list[LogRecord]] = {}
    for record in records:
        by_order.setdefault(record.key, []).append(record)
    first, second, third = next(many for many in by_order.values() if len(many) >= 3)[:3]
    hear(shop, "twice", [first, second, second])
    hear(shop, "not", [first, third])
    hear(shop, "late", [second, first])
    made_up = event("order.paid", {}, subject=NOBODY, seller="s", sequence=4)
    hear(shop, "nowhere", [first._replace(value=made_up.value)])
    hear(shop, "unasked", [first], types=("product.*",))
    promises: list[dict[str, Any]] = [
        {"method": "POST", "path": "/products", "answer": {"id": NOBODY, "version": 1}},
        {
            "method": "POST",
            "path": f"/orders/{shop.orders[3]}/pay",
            "answer": {"id": shop.orders[3], "version": 99},
        },
        {"method": "DELETE", "path": f"/api/v1/products/{shop.products[7]}", "answer": {}},
    ]
    lines = [{"kind": "run", "format": 2}, *({"kind": "write", **one} for one in promises)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    # The last line of a run that was killed is half.
    (shop.journals / "promises.jsonl").write_text(text + '{"kind":"wri')
    return {"unpaid": shop.orders[3], "undeleted": shop.products[7], "key": str(second.key)}


@pytest.mark.parametrize(
    ("number", "kind", "mark"),
    [
        (1, "lost", "lost"),
        (1, "unaudited", "unaudited"),
        (1, "poison", "poison"),
        (1, "unpublished", "unpublished"),
        (3, "altered", "altered"),
        (3, "missing", "missing"),
        (3, "foreign", "foreign"),
        (3, "duplicate", "doubled"),
        (3, "gap", "gap"),
        (3, "damaged", "damaged"),
        (4, "unequal sum", "revenueMinor#USD"),
        (5, "missing", "gone"),
        (5, "phantom", NOBODY),
        (5, "altered", "changed"),
        (6, "negative", "negative"),
        (6, "off its ledger", "negative"),
        (6, "off its reservations", "held"),
        (7, "duplicate", "client twice"),
        (7, "missing", "client not"),
        (7, "reordered", "client late"),
        (7, "phantom", NOBODY),
        (7, "unasked", "client unasked"),
        (8, "missing", NOBODY),
        (8, "missing", "unpaid"),
        (8, "missing", "undeleted"),
    ],
)
def test_what_was_planted_is_named(stores: Planted, number: int, kind: str, mark: str) -> None:
    stores.named(number, kind, mark)
    assert stores.report.row(number).status == "violated"


def test_one_cent_is_told_to_the_cent(tables: Planted) -> None:
    violation = tables.named(4, "differs", "cent")
    assert tables.report.row(4).kinds["differs"] == 1
    name, wanted = violation.expected.split(" ")
    assert name == "revenueMinor#USD"
    assert int(violation.seen) == int(wanted) + 1


def test_nothing_is_blamed_that_was_not_broken(stores: Planted) -> None:
    report = stores.report
    assert not report.holds
    assert report.row(2).status == "holds"
    assert {kind: count for kind, count in report.row(1).kinds.items() if count} == {
        "lost": 1,
        "unaudited": 1,
        "poison": 1,
        "unpublished": 1,
    }
    assert report.row(8).kinds == {"missing": 3}


def plant_on_log(shop: SmallShop) -> dict[str, str]:
    """A doubled event, two swapped, one that nobody committed, one with other bytes, and noise."""
    doubled, swapped, altered = shop.products[5], shop.products[6], shop.products[7]
    broker = producer(shop.environ["KAFKA_BROKERS"])
    copy = next(one for one in shop.log() if one.key == doubled.encode())
    earlier, later = (audited(shop, swapped) for _ in range(2))
    other = audited(shop, altered, b"y" * 32)
    phantom = event("product.updated", {}, subject=NOBODY, seller="s", sequence=1)
    broker.begin_transaction()
    broker.produce(copy.topic, copy.value, copy.key, headers=list(copy.headers))
    broker.produce("shop.products", b"not an event", b"noise")
    broker.commit_transaction()
    send(broker, [later, earlier, other, phantom])
    send(broker, [event("product.updated", {}, subject=NOBODY, seller="s", sequence=2)], abort=True)
    returned = plant_past_a_boundary(shop)
    return {"doubled": doubled, "swapped": swapped, "altered": altered, "returned": returned}


def plant_past_a_boundary(shop: SmallShop) -> str:
    """Two products go on in a partition that is made now; one's older version comes there later."""
    topic, number = "shop.products", 3
    moved, returned = shop.products[2:4]
    before, (earlier, later) = audited(shop, moved), (audited(shop, returned) for _ in range(2))
    brokers = shop.environ["KAFKA_BROKERS"]
    send(producer(brokers), [before, later])
    ends = tuple(end for (name, _), end in sorted(log_ends(brokers).items()) if name == topic)
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(BOUNDARIES, 1, 1)])[BOUNDARIES].result(10)
    boundary = Boundary(topic, topic_ids(admin, (topic,))[topic], number + 1, ends)
    admin.create_partitions([NewPartitions(topic, number + 1)])[topic].result(10)
    wait_until(lambda: all_led(brokers), "the new partition has its leader")
    broker = producer(brokers)
    broker.begin_transaction()
    broker.produce(BOUNDARIES, encode_boundary(boundary), boundary.key)
    for one in (audited(shop, moved), earlier):
        headers: list[tuple[str, str | bytes | None]] = list(one.headers)
        broker.produce(topic, one.value, one.subject, partition=number, headers=headers)
    broker.commit_transaction()
    return returned


def audited(
    shop: SmallShop,
    product: str,
    digest: bytes | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    back: timedelta = timedelta(0),
) -> EncodedEvent:
    """A change of a product in the database, and its event for the log, so much older."""
    event_id = audit_next_version(shop, product)
    ((seller, sequence, at),) = shop.execute(
        "SELECT seller_id, sequence, time FROM event_audit WHERE event_id = %s", event_id
    )
    body = {**data, "version": sequence} if data else {}
    at -= back
    made = event("product.updated", body, subject=product, seller=seller, at=at, sequence=sequence)
    shop.execute(
        "UPDATE event_audit SET event_id = %s, time = %s, sha256 = %s WHERE event_id = %s",
        made.id,
        at,
        digest or hashlib.sha256(made.value).digest(),
        event_id,
    )
    return made


@pytest.mark.parametrize(
    ("number", "kind", "mark"),
    [
        (1, "duplicate", "doubled"),
        (1, "reordered", "swapped"),
        (1, "reordered", "returned"),
        (2, "phantom", NOBODY),
        (2, "altered", "altered"),
    ],
)
def test_what_was_planted_on_the_log_is_named_with_its_offset(
    log: Planted, number: int, kind: str, mark: str
) -> None:
    assert re.search(r"shop\.\w+/\d@\d+", log.named(number, kind, mark).place)
    row = log.report.row(number)
    assert row.kinds[kind] == (2 if kind == "reordered" else 1), row.violations


def test_an_aborted_event_and_what_nobody_can_read_are_no_phantoms(log: Planted) -> None:
    (phantom,) = [one for one in log.report.row(2).violations if one.kind == "phantom"]
    assert "version 1" in phantom.seen
    assert log.report.row(2).counted["dead letters"] == 1


def test_what_analytics_has_not_taken_is_said_and_not_called_proven(log: Planted) -> None:
    for number, worker in ((3, "archive"), (4, "aggregates"), (5, "recent")):
        assert any(worker in why for why in log.report.row(number).unchecked)


def test_the_report_is_complete_as_json(log: Planted) -> None:
    told = json.loads(json.dumps(log.report.as_json()))
    assert datetime.fromisoformat(told["at"]).tzinfo == UTC
    assert told["holds"] is False
    assert [row["number"] for row in told["invariants"]] == [*range(1, 9)]
    assert set(told["invariants"][0]["first"][0]) == {
        "kind",
        "aggregate",
        "expected",
        "seen",
        "place",
    }
    assert {place["topic"] for place in told["cut"]} == {
        "shop.products",
        "shop.orders",
        "shop.inventory",
    }


def test_what_retention_has_taken_is_told_and_the_rest_is_read(log: Planted) -> None:
    brokers = log.shop.environ["KAFKA_BROKERS"]
    ends = {Place(*at): end for at, end in log_ends(brokers).items() if at[0] == "shop.inventory"}
    told: list[int] = []

    def offsets(place: Place) -> list[int]:
        return [one.offset for one in Log(brokers).read(place, 0, ends[place], told.append)]

    # Products have new ids in each run, so any one partition may have none of them.
    place = max(ends, key=lambda one: len(offsets(one)))
    before = offsets(place)
    assert told == []
    admin = AdminClient({"bootstrap.servers": brokers})
    for future in admin.delete_records([TopicPartition(*place, before[1])]).values():
        future.result(10)
    assert offsets(place) == before[1:]
    assert told == [before[1]]


def test_nothing_is_left_in_the_data_directory(log: Planted) -> None:
    assert list((log.shop.folder / "verify").iterdir()) == []


@pytest.mark.parametrize(
    ("away", "name"),
    [
        ({"kafka_brokers": "127.0.0.1:1"}, "Kafka"),
        ({"database_url": SecretStr("postgresql://postgres@127.0.0.1:1/app")}, "PostgreSQL"),
        ({"dynamo_endpoint": "http://127.0.0.1:1"}, "DynamoDB"),
        ({"minio_endpoint": "http://127.0.0.1:1"}, "The archive"),
    ],
)
def test_a_component_that_is_away_is_one_clear_line(
    shop: SmallShop, tmp_path: Path, away: dict[str, Any], name: str
) -> None:
    with pytest.raises(StackError, match=f"{name} .*127.0.0.1:1.* cannot be read: ") as caught:
        verify(replace(shop.target, **away), data=tmp_path, waits=NO_WAITS)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "verify").iterdir()) == []


def test_a_folder_that_is_not_there_is_one_clear_line(shop: SmallShop, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="There is no journal at"):
        verify(shop.target, [tmp_path / "none"], data=tmp_path)
