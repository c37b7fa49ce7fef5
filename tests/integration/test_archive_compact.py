"""Parquet beside the chain: typed, complete, once; and DuckDB's view of both forms."""

import contextlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import EndpointConnectionError
from tests.support.analytics_events import LogRecord, Shop, event, naive_counts, record_of
from tests.support.archive import ArchiveCommand, Away, in_memory
from tests.support.components import LocalComponents
from tests.support.events import golden

from shopstream_shared.archive.keys import Place
from shopstream_shared.archive.lines import Record
from shopstream_shared.topics import INVENTORY, ORDERS, PRODUCTS
from shopstream_stack.archive import compact
from shopstream_stack.archive.columns import Columns
from shopstream_stack.archive.copy import wanted_objects
from shopstream_stack.archive.listing import Selection
from shopstream_stack.archive.place import ArchivePlace
from shopstream_stack.errors import StackError

DAY = "2026-11-21"
#: An hour and more after the day.
LATER = datetime(2026, 11, 22, 2, tzinfo=UTC)
HOUR_MS = 3_600_000
QUERIES = Path(__file__).parents[2] / "docs" / "queries"


@pytest.fixture
def command(components: LocalComponents, tmp_path: Path) -> ArchiveCommand:
    return ArchiveCommand.fresh(components, tmp_path / "data")


def of_type(event_type: str, offset: int, *, hours: int = 0) -> LogRecord:
    body = json.loads(golden(event_type))
    made = event(event_type, body["data"], subject=body["subject"], seller=body["sellerid"])
    record = record_of(made, offset)
    return record._replace(timestamp=record.timestamp + hours * HOUR_MS)


def compacted(
    command: ArchiveCommand, topic: str = ORDERS, now: datetime = LATER
) -> list[compact.Part]:
    place = ArchivePlace(command.archived.bucket, command.client, 10.0)  # type: ignore[arg-type]  # the real one
    day = compact.Day(topic=topic, day=DAY)
    return compact.compact(place, day, now, lambda _: None).parts


def table_of(command: ArchiveCommand) -> pa.Table:
    """All parts, as one."""
    tables = [
        pq.read_table(
            io.BytesIO(command.client.get_object(Bucket=command.bucket, Key=key)["Body"].read())
        )
        for key in command.keys("parquet/")
    ]
    return pa.concat_tables(tables)


def offsets_of(command: ArchiveCommand) -> list[int]:
    return [int(offset) for offset in table_of(command)["offset"].to_pylist()]


@pytest.mark.parametrize("topic", [PRODUCTS, ORDERS, INVENTORY])
def test_every_type_of_event_has_its_data_in_typed_columns(topic: str) -> None:
    columns = Columns(topic)
    names = {
        PRODUCTS: ("product.created", "product.price_changed", "product.deleted"),
        ORDERS: ("order.created", "order.paid", "order.cancelled", "order.refunded"),
        INVENTORY: ("inventory.reserved", "product.low_stock", "inventory.updated"),
    }[topic]
    for offset, name in enumerate(names):
        record = of_type(name, offset)
        value = Record(offset, record.timestamp, record.key, [], record.value)
        columns.add(Place(topic, 1), value)
    rows = columns.take().to_pylist()
    for name, row in zip(names, rows, strict=True):
        assert row["type"] == name
        said = json.loads(row["event"])
        data = said["data"]
        assert row["seller_id"] == said["sellerid"]
        assert (row["sequence"], row["partition"]) == (int(said["sequence"]), 1)
        assert row["time"] == datetime.fromisoformat(said["time"])
        for column, value in row.items():
            words = column.split("_")
            member = words[0] + "".join(word.capitalize() for word in words[1:])
            if column in compact_data(topic) and column != "items":
                expected = data.get(member)
                if isinstance(value, datetime):
                    expected = datetime.fromisoformat(expected)
                assert value == expected, column
        for item, wanted in zip(row.get("items", []), data.get("items", []), strict=True):
            assert (item["product_id"], item["quantity"]) == (
                wanted["productId"],
                wanted["quantity"],
            )
            assert item["total_minor"] == wanted["totalMinor"]
            assert isinstance(item["unit_price_minor"], int)


def compact_data(topic: str) -> set[str]:
    schema = Columns(topic).schema
    return set(schema.names) - set(Columns(INVENTORY).schema.names[:14])


def test_money_is_whole_minor_units_and_moments_are_utc() -> None:
    for topic in (PRODUCTS, ORDERS, INVENTORY):
        for field in Columns(topic).schema:
            if field.name.endswith("_minor"):
                assert field.type == pa.int64()
            if field.name in {"time", "timestamp", "created_at", "updated_at", "reserved_until"}:
                assert field.type == pa.timestamp("us", tz="UTC")
            assert not pa.types.is_floating(field.type)


def test_a_record_that_is_no_event_keeps_its_place_and_its_bytes(command: ArchiveCommand) -> None:
    junk = of_type("order.paid", 0)._replace(value=b"junk\xff", key=None)
    empty = of_type("order.paid", 1)._replace(value=None, headers=[])
    elsewhere = of_type("inventory.updated", 2)._replace(topic=ORDERS)
    command.archived.add([junk, empty, elsewhere])
    compacted(command)
    rows = table_of(command).to_pylist()
    assert [(row["offset"], row["event"], row["type"], row["total_minor"]) for row in rows] == [
        (0, b"junk\xff", None, None),
        (1, None, None, None),
        (2, elsewhere.value, None, None),
    ]


def test_a_day_is_compacted_once_and_what_comes_later_becomes_a_further_part(
    command: ArchiveCommand,
) -> None:
    command.archived.add([of_type("order.created", 0), of_type("order.paid", 1)], start=0)
    command.archived.add([of_type("order.paid", 2, hours=23)], following=5)
    command.archived.add([of_type("order.paid", 5, hours=25)])
    first = compacted(command)
    assert [(part.rows, part.covers) for part in first] == [(3, {0: [(0, 5)]})]
    before = command.client.head_object(Bucket=command.bucket, Key=first[0].key)
    assert compacted(command) == []
    # A clock that went back: the chain gets an object of a day that was over.
    command.archived.add([of_type("order.paid", 6, hours=3)])
    assert [part.covers for part in compacted(command)] == [{0: [(6, 7)]}]
    assert compacted(command) == []
    assert offsets_of(command) == [0, 1, 2, 6]
    after = command.client.head_object(Bucket=command.bucket, Key=first[0].key)
    assert (after["LastModified"], after["ETag"]) == (before["LastModified"], before["ETag"])
    # Nothing of the chain was touched.
    assert len(command.keys("events/")) == 4


def test_a_day_that_may_still_get_records_is_refused(command: ArchiveCommand) -> None:
    command.archived.add([of_type("order.paid", 0)])
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    with pytest.raises(compact.DayIsOpen, match="not over yet"):
        compacted(command, now=midnight - timedelta(seconds=1))
    with pytest.raises(compact.DayIsOpen, match="has not gone on"):
        compacted(command, now=midnight + timedelta(minutes=10))
    assert command.keys("parquet/") == []
    command.archived.add([of_type("order.paid", 1, hours=24)])
    assert len(compacted(command, now=midnight + timedelta(minutes=10))) == 1
    assert offsets_of(command) == [0]


@pytest.mark.parametrize("hours", [-24, -72], ids=["the day before", "days before"])
def test_a_chain_that_has_not_even_come_to_the_day_keeps_it_open(
    command: ArchiveCommand, hours: int
) -> None:
    command.archived.add([of_type("order.paid", 0), of_type("order.paid", 1)])
    command.archived.add([of_type("order.paid", 2, hours=24)])
    behind = of_type("order.paid", 0, hours=hours)._replace(partition=1)
    command.archived.add([behind])
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    with pytest.raises(compact.DayIsOpen, match=r"shop\.orders/1 may still get records"):
        compacted(command, now=midnight + timedelta(minutes=5))
    # It may simply have no traffic: the hour decides, and who had not gone on is said.
    place = ArchivePlace(command.archived.bucket, command.client, 10.0)  # type: ignore[arg-type]  # as above
    made = compact.compact(place, compact.Day(topic=ORDERS, day=DAY), LATER, lambda _: None)
    assert ([part.rows for part in made.parts], made.behind) == ([2], [Place(ORDERS, 1)])


def test_a_life_of_the_topic_that_is_over_keeps_no_day_open(command: ArchiveCommand) -> None:
    command.archived.add([of_type("order.paid", 0)])
    soon = datetime(2026, 11, 22, 0, 5, tzinfo=UTC)
    with pytest.raises(compact.DayIsOpen, match="may still get records"):
        compacted(command, now=soon)
    command.archived.add([of_type("order.paid", 0)], generation=1, topic_id="later")
    assert [part.rows for part in compacted(command, now=soon)] == [1]


def test_the_command_names_the_chains_that_had_not_gone_on(command: ArchiveCommand) -> None:
    # Long over, whatever clock this runs by.
    old, later = (of_type("order.paid", 0, hours=24 * days) for days in (-1_000, -999))
    command.archived.add([old])
    command.archived.add([old._replace(partition=1)])
    command.archived.add([later._replace(offset=1)])
    day = datetime.fromtimestamp(old.timestamp / 1_000, UTC).strftime("%Y-%m-%d")
    shown = command("compact", "--day", day, "--topic", ORDERS)
    assert shown.exit_code == 0
    assert f"shop.orders/1 has not gone on beyond {day}" in shown.stderr
    assert "shop.orders/0" not in shown.stderr


def test_of_two_compactions_at_once_none_doubles_a_record(
    command: ArchiveCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.archived.add([of_type("order.paid", 0)])
    store = compact._store
    rivals: list[list[compact.Part]] = []

    def raced(place: ArchivePlace, part: Any, file: Any) -> compact.Part:
        # Just before the one stores its part another has done so, of more than this one has seen.
        monkeypatch.setattr(compact, "_store", store)
        command.archived.add([of_type("order.paid", 1)])
        rivals.append(compacted(command))
        return store(place, part, file)

    monkeypatch.setattr(compact, "_store", raced)
    assert compacted(command) == []
    assert [part.rows for part in rivals[0]] == [2]
    assert offsets_of(command) == [0, 1]


def test_a_compaction_that_ends_in_the_middle_leaves_nothing_half(
    command: ArchiveCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.archived.add([of_type("order.paid", 0)])

    def away(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="gone")

    with monkeypatch.context() as cut:
        cut.setattr(command.client, "put_object", away)
        with pytest.raises(Away):
            compacted(command)
    assert command.keys("parquet/") == []
    compacted(command)
    assert offsets_of(command) == [0]


def test_a_moment_that_the_calendar_does_not_have_is_null_and_its_day_is_compacted(
    command: ArchiveCommand,
) -> None:
    record = of_type("order.paid", 0)
    data = json.loads(record.value or b"")["data"]
    data |= {"createdAt": "2026-02-30T05:00:00.000000Z", "reservedUntil": None}
    subject, seller = data["id"], data["sellerId"]
    odd = record_of(event("order.paid", data, subject=subject, seller=seller), 0)
    odd = odd._replace(timestamp=record.timestamp)
    command.archived.add([odd, of_type("order.paid", 1)])
    compacted(command)
    rows = table_of(command).to_pylist()
    assert [(row["type"], row["created_at"] is None) for row in rows] == [
        ("order.paid", True),
        ("order.paid", False),
    ]
    assert rows[0]["event"] == odd.value
    assert rows[0]["updated_at"] is not None


def test_only_parts_are_copied_so_that_no_key_leads_out_of_the_folder() -> None:
    archived = in_memory()
    part = f"parquet/topic={ORDERS}/year=2026/month=11/day=21/part-00000.parquet"
    strange = [
        f"parquet/topic={ORDERS}/../../../escaped.parquet",
        f"parquet/topic={ORDERS}/year=2026/month=11/day=21/../../part-00000.parquet",
        f"{part}/../../../../../../part-00000.parquet",
        f"parquet/topic={ORDERS}/notes.txt",
    ]
    for key in (part, *strange):
        archived.into.put(key, b"", {})
    wanted = Selection(topics=[ORDERS])
    assert [one.key for one in wanted_objects(archived.bucket, wanted, parquet=True)] == [part]


def test_a_damaged_object_is_not_compacted(command: ArchiveCommand) -> None:
    command.archived.add([of_type("order.paid", 0)], sha256="0")
    with pytest.raises(StackError, match="archive verify"):
        compacted(command)
    assert command.keys("parquet/") == []


def test_large_days_are_split_between_objects_and_cover_everything_once(
    command: ArchiveCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "PART_ROWS", 4)
    monkeypatch.setattr(compact, "GROUP_ROWS", 2)
    for offset in range(0, 9, 3):
        command.archived.add([of_type("order.paid", offset + more) for more in range(3)])
    parts = compacted(command)
    assert [(part.rows, part.covers[0]) for part in parts] == [(6, [(0, 6)]), (3, [(6, 9)])]
    assert offsets_of(command) == list(range(9))


def test_what_is_covered_fits_the_metadata_however_torn_a_day_is(
    command: ArchiveCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "COVERED_LENGTH_MAX", 50)
    for offset in range(0, 6, 2):
        command.archived.add([of_type("order.paid", offset)], following=offset + 1)
        command.archived.add([of_type("order.paid", offset + 1, hours=24)])
    assert len(compacted(command)) > 1
    assert offsets_of(command) == [0, 2, 4]
    assert compacted(command) == []


@pytest.mark.parametrize("covers", [{}, {0: [(0, 5)]}, {3: [(1, 2), (7, 9)], 11: [(0, 2**62)]}])
def test_what_a_part_covers_is_read_back_as_it_was_written(covers: compact.Covered) -> None:
    assert compact.read_covers(compact.write_covers(covers)) == covers


@contextlib.contextmanager
def both_forms(command: ArchiveCommand, folder: Path) -> Iterator[list[LogRecord]]:
    """A day of a shop in a folder, as lines and as Parquet."""
    shop = Shop(seed=7)
    offsets = dict.fromkeys((PRODUCTS, ORDERS, INVENTORY), 0)
    kept: list[LogRecord] = []
    for encoded in (one for _ in range(30) for one in shop.order_life()):
        kept.append(record_of(encoded, offsets[encoded.topic]))
        offsets[encoded.topic] += 1
    junk = kept[0]._replace(offset=offsets[ORDERS], value=b"junk", topic=ORDERS)
    for topic in (ORDERS, INVENTORY):
        # One object, so one day: the first record's.
        of_topic = [record._replace(timestamp=kept[0].timestamp) for record in kept]
        command.archived.add([one for one in of_topic if one.topic == topic])
    command.archived.add([junk])
    day = datetime.fromtimestamp(kept[0].timestamp / 1_000, UTC).strftime("%Y-%m-%d")
    place = ArchivePlace(command.archived.bucket, command.client, 10.0)  # type: ignore[arg-type]  # as above
    for topic in (PRODUCTS, ORDERS, INVENTORY):
        compact.compact(
            place, compact.Day(topic=topic, day=day), LATER + timedelta(days=30), lambda _: None
        )
    command.whole("get", "--to", folder)
    command.whole("get", "--to", folder, "--parquet")
    yield kept


def test_duckdb_reads_both_forms_and_the_example_queries_agree_with_a_count_by_hand(
    command: ArchiveCommand, tmp_path: Path
) -> None:
    def ask(name: str) -> list[dict[str, Any]]:
        shown = command.whole("sql", QUERIES / name, "--in", folder, "--json")
        return [json.loads(line) for line in shown.splitlines()]

    folder = tmp_path / "copy"
    with both_forms(command, folder) as kept:
        counts = naive_counts(record.value or b"" for record in kept)
        revenue: dict[str, int] = {}
        for row in ask("lines-revenue.sql"):
            revenue[row["seller"]] = revenue.get(row["seller"], 0) + row["revenue_minor"]
        assert revenue
        by_hand: dict[str, int] = {}
        for key, counted in counts.items():
            if key[0] == "seller" and key[2] == "day" and "revenueMinor#USD" in counted:
                by_hand[key[1]] = by_hand.get(key[1], 0) + counted["revenueMinor#USD"]
        assert revenue == by_hand
        assert ask("parquet-revenue.sql") == ask("lines-revenue.sql")
        assert ask("parquet-units.sql") == ask("lines-units.sql") != []
        assert ask("forms-differ.sql") == []
        # Without a part of the one form the difference is told.
        lost = next(folder.glob("parquet/topic=shop.orders/**/*.parquet"))
        lost.unlink()
        assert {row["in_parquet"] for row in ask("forms-differ.sql")} == {False}
        assert list(ask("lines-revenue.sql")[0]) == ["seller", "day", "currency", "revenue_minor"]
