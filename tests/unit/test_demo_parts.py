"""The parts of the demo that need no system: archive objects, journal, filters, percentiles."""

import asyncio
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from tests.support.events import golden

from shopstream_shared.clock import ManualClock, epoch_ms
from shopstream_shared.events.codec import decode
from shopstream_shared.events.envelope import headers_of
from shopstream_stack.demo.crowd import demo_readings
from shopstream_stack.demo.evidence import (
    NotAnEvent,
    Receipt,
    SeenEvent,
    WatcherReading,
    topic_of,
)
from shopstream_stack.demo.judge import Row
from shopstream_stack.demo.oracle import Exchange, ExpectedEvent, Oracle
from shopstream_stack.demo.report import latency_of, percentile, rest_rows, show
from shopstream_stack.demo.rest import SEED_BODY, Rest, read_json, seed_arguments
from shopstream_stack.demo.run import seed_address
from shopstream_stack.demo.target import Target
from shopstream_stack.demo.wire import wire_faults
from shopstream_stack.errors import StackError
from shopstream_stack.journal import Journal
from shopstream_stack.settings import StackSettings

NOW = datetime(2026, 11, 21, 5, tzinfo=UTC)
EVENT = SeenEvent("shop.orders", "o", 1, "order.created", "s", "id-1", b"{}", "here")


def test_the_journal_holds_acknowledged_writes_and_received_events(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal", "demo-1", ManualClock(NOW)) as journal:
        for status in (201, 409):
            journal.write(
                Exchange(
                    method="POST",
                    path="/products",
                    status=status,
                    answer={"id": "p", "version": 1, "name": "Mug"},
                )
            )
        journal.client("c", types=("order.*",))
        journal.connected("c", resumed=False)
        journal.received("c", EVENT)
        journal.gap("c", "stream.gap evicted")
        # Written through at once: a killed run leaves what it knew.
        lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    kinds = "run write client connected received gap"
    assert [line["kind"] for line in lines] == kinds.split()
    assert lines[1]["answer"] == {"id": "p", "version": 1}
    assert (lines[4]["client"], lines[4]["eventId"]) == ("c", "id-1")
    assert {line["at"] for line in lines} == {"2026-11-21T05:00:00.000000Z"}


def test_a_run_never_writes_into_the_journal_of_another(tmp_path: Path) -> None:
    with Journal.open(tmp_path, "demo-1", ManualClock(NOW)):
        pass
    with pytest.raises(FileExistsError), Journal.open(tmp_path, "demo-1", ManualClock(NOW)):
        pass


@pytest.mark.parametrize(
    ("types", "seller", "wanted"),
    [
        ((), None, True),
        (("order.*",), None, True),
        (("*",), None, True),
        (("order.created",), "s", True),
        (("order.paid", "product.*"), None, False),
        ((), "other", False),
        (("order.created",), "other", False),
    ],
)
def test_a_filter_wants_what_the_contract_says(
    types: tuple[str, ...],
    seller: str | None,
    wanted: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    watcher = WatcherReading("c", "g", types=types, seller_id=seller)
    assert watcher.wants(EVENT) is wanted


def test_the_demo_has_fifty_clients_of_which_one_is_cut() -> None:
    readings = demo_readings(["a", "b", "c"])
    assert len(readings) == 50
    assert len({reading.name for reading in readings}) == 50
    assert [reading.group for reading in readings].count("cut and resumed") == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"type":"order.paid"}', b'{"type":"x.y"}'])
def test_bytes_that_are_no_event_are_refused(body: bytes) -> None:
    with pytest.raises(NotAnEvent):
        SeenEvent.read(body, "here")


def test_warnings_ride_with_the_inventory() -> None:
    assert topic_of("product.low_stock") == topic_of("inventory.updated") == "shop.inventory"
    assert topic_of("product.deleted") == "shop.products"
    with pytest.raises(NotAnEvent):
        topic_of("user.updated")


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50, 99, 7)


def test_latency_counts_live_deliveries_only() -> None:
    watcher = WatcherReading("c", "g", receipts=[Receipt(EVENT, 10.5, 1), Receipt(EVENT, 99, 2)])
    latency = latency_of([watcher], {EVENT.key: 10.0})
    assert latency is not None
    assert (latency.deliveries, latency.p50) == (1, 500.0)
    assert latency_of([watcher], {}) is None


@pytest.mark.parametrize(
    ("api", "address"),
    [
        ("http://127.0.0.1:3000", "http://localhost:3000"),
        ("http://localhost:41", "http://localhost:41"),
        ("http://shop.example", "http://shop.example"),
    ],
)
def test_the_guides_curl_keeps_its_address_unless_another_is_configured(
    api: str, address: str
) -> None:
    assert seed_address(api) == address


def test_the_guides_curl_is_literal() -> None:
    assert seed_arguments("http://localhost:3000") == (
        "-X",
        "POST",
        "http://localhost:3000/products",
        "-H",
        "Content-Type: application/json",
        "-d",
        '{"name":"Test Product","price":99.99,"stock":10,"sellerId":"seller1"}',
    )
    assert read_json(SEED_BODY.encode()) is not None


def test_a_status_that_was_not_wanted_is_a_fault_of_the_rest_row(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["idempotency-key"] == "k"
        return httpx.Response(409, json={"detail": "too few"})

    async def run(journal: Journal) -> Rest:
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            rest = Rest(client, Oracle(threshold=5), journal)
            await rest.call("POST", "/orders", {"items": []}, wanted=201, key="k")
            return rest

    with Journal.open(tmp_path, "demo-1", ManualClock(NOW)) as journal:
        rest = asyncio.run(run(journal))
    (row,) = rest_rows(rest)
    assert row.faults == ("POST /orders: 409, not 201 too few",)
    assert (rest.accepted, rest.refused) == (0, 1)


def test_the_table_shows_each_verdict_and_the_faults() -> None:
    output = io.StringIO()
    rows = [Row("good", "1", "1"), Row("bad", "1", "0", tuple(f"lost {n}" for n in range(12)))]
    show(Console(file=output, width=120), rows, None)
    text = output.getvalue()
    assert "holds" in text
    assert "WRONG" in text
    assert "bad: lost 9" in text
    assert "bad: and 2 more" in text


def test_expected_events_of_one_version_are_one() -> None:
    event = ExpectedEvent("shop.orders", "o", 1, "order.created", "s")
    assert event.key == EVENT.key


def test_a_missing_credential_is_named_before_the_demo_begins() -> None:
    external = {"MINIO_ENDPOINT": "http://minio.example:9000"}
    with pytest.raises(StackError, match="MINIO_ACCESS_KEY is needed"):
        Target.local(StackSettings.load(external))


def test_the_target_is_where_the_stacks_settings_say() -> None:
    ports = {"SHOPSTREAM_API_PORT": "41", "SHOPSTREAM_NOTIFICATIONS_PORT": "42"}
    target = Target.local(StackSettings.load({**ports, "LOW_STOCK_THRESHOLD": "3"}))
    assert (target.api, target.stream) == ("http://127.0.0.1:41", "http://127.0.0.1:42")
    assert target.low_stock_threshold == 3
    assert target.archive_rotate_seconds == 10.0


def record(**changes: Any) -> tuple[bytes, str, list[tuple[str, str]], int]:
    """A golden event as it lies on the log: value, key, headers, timestamp."""
    value = golden("order.created")
    event = decode(value)
    headers = [(name, text.decode()) for name, text in headers_of(event.envelope)]
    around: dict[str, Any] = {
        "key": event.envelope.subject,
        "headers": headers,
        "at": epoch_ms(event.time),
    }
    around |= changes
    return value, around["key"], around["headers"], around["at"]


def test_what_the_services_put_around_an_event_fits_it() -> None:
    assert list(wire_faults(*record())) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"key": "x"}, "key is 'x'"),
        ({"at": 1}, "timestamp is 1"),
        ({"headers": []}, "ce_id"),
        ({"headers": [*record()[2], ("x", "y")]}, "differ from the event: x"),
        ({"headers": [*record()[2], record()[2][0]]}, "one is repeated"),
    ],
)
def test_what_contradicts_its_event_is_named(changes: dict[str, Any], word: str) -> None:
    assert word in "; ".join(wire_faults(*record(**changes)))
