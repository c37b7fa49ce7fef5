"""The judgement: everything as expected holds, and each kind of fault is seen and named."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from shopstream_stack.demo.evidence import Readback, Receipt, SeenEvent, WatcherReading
from shopstream_stack.demo.judge import judge
from shopstream_stack.demo.oracle import Exchange, ExpectedEvent, Oracle

OURS, GUIDE = "demo-1-a", "seller1"


def a_story() -> Oracle:
    """A product of ours that is repriced, ordered down to low stock, and one of the guide's."""
    oracle = Oracle(threshold=5)
    body = {"name": "Mug", "price": Decimal(10), "stock": 8}
    for seller, product in ((OURS, "p"), (GUIDE, "g")):
        send(oracle, "POST /products", {**body, "sellerId": seller}, {"id": product})
    send(oracle, "PATCH /products/p", {"price": Decimal(11)}, {})
    send(oracle, "POST /orders", {"items": [{"productId": "p", "quantity": 4}]}, {"id": "o"})
    return oracle


def send(oracle: Oracle, call: str, request: dict[str, Any], answer: dict[str, Any]) -> None:
    method, path = call.split()
    oracle.observe(Exchange(method=method, path=path, status=200, request=request, answer=answer))


def seen(event: ExpectedEvent, place: str = "somewhere") -> SeenEvent:
    body = {
        "id": f"id-{event.topic}-{event.subject}-{event.sequence}",
        "type": event.type,
        "subject": event.subject,
        "sellerid": event.seller_id,
        "sequence": str(event.sequence),
    }
    return SeenEvent.read(json.dumps(body).encode(), place)


def read_back(oracle: Oracle) -> Readback:
    """What a faultless system shows."""
    events = tuple(seen(event) for event in oracle.events)
    watchers = [
        WatcherReading("all", "everything"),
        WatcherReading("orders", "orders", types=("order.*",)),
        WatcherReading("ours", "ours", seller_id=OURS),
        WatcherReading("cut", "cut", cuts=1),
    ]
    for watcher in watchers:
        watcher.receipts = [Receipt(event, 0.0, 1) for event in events if watcher.wants(event)]
        watcher.opens = [False] + [True] * watcher.cuts
    return Readback(
        log=events,
        log_faults=(),
        recent=events,
        recent_listed={
            # The guide's seller has a history that is not ours.
            OURS: tuple(e.event_id for e in events if e.seller_id == OURS),
            GUIDE: ("older", *[e.event_id for e in events if e.seller_id == GUIDE]),
        },
        archive=events,
        archive_objects=3,
        archive_faults=(),
        sellers={OURS: oracle.sellers[OURS].as_json()},
        products={name: tally.as_json() for name, tally in oracle.per_product.items()},
        selling={OURS: oracle.selling[OURS].as_json()},
        # Another seller's creation came in between.
        types_grown=Counter(event.type for event in events) + Counter({"product.created": 1}),
        stocks={"p": 4, "g": 8},
        watchers=tuple(watchers),
    )


def changed(readback: Readback, **members: Any) -> Readback:
    return replace(readback, **members)


def faults_of(readback: Readback, oracle: Oracle | None = None) -> dict[str, str]:
    rows = judge(oracle or a_story(), readback, shared=frozenset({GUIDE}))
    return {row.step: "; ".join(row.faults) for row in rows if not row.holds}


def test_everything_as_expected_holds() -> None:
    rows = judge(a_story(), read_back(a_story()), shared=frozenset({GUIDE}))
    assert [row.step for row in rows if not row.holds] == []


def dropped(events: tuple[SeenEvent, ...]) -> tuple[SeenEvent, ...]:
    return events[1:]


def doubled(events: tuple[SeenEvent, ...]) -> tuple[SeenEvent, ...]:
    return (*events, events[-1])


def swapped(events: tuple[SeenEvent, ...]) -> tuple[SeenEvent, ...]:
    return tuple(reversed(events))


def invented(events: tuple[SeenEvent, ...]) -> tuple[SeenEvent, ...]:
    phantom = ExpectedEvent("shop.products", "x", 1, "product.created", OURS)
    return (*events, seen(phantom))


def another_type(events: tuple[SeenEvent, ...]) -> tuple[SeenEvent, ...]:
    return (replace(events[0], type="product.updated"), *events[1:])


PLANTS = [
    (dropped, "lost"),
    (doubled, "doubled"),
    (swapped, "reordered"),
    (invented, "phantom"),
    (another_type, "product.updated"),
]


@pytest.mark.parametrize(("plant", "word"), PLANTS)
def test_a_fault_of_the_log_is_named(
    plant: Callable[[tuple[SeenEvent, ...]], tuple[SeenEvent, ...]], word: str
) -> None:
    good = read_back(a_story())
    found = faults_of(replace(good, log=plant(good.log)))
    assert word in found["Kafka: events, read committed"]


@pytest.mark.parametrize(("plant", "word"), PLANTS)
def test_a_fault_of_one_stream_is_named(
    plant: Callable[[tuple[SeenEvent, ...]], tuple[SeenEvent, ...]], word: str
) -> None:
    good = read_back(a_story())
    first = good.watchers[0]
    events = plant(tuple(receipt.event for receipt in first.receipts))
    spoilt = replace(first, receipts=[Receipt(event, 0.0, 1) for event in events])
    found = faults_of(replace(good, watchers=(spoilt, *good.watchers[1:])))
    assert word in found["SSE: 1 x everything"]
    assert len(found) == 1


@pytest.mark.parametrize("place", ["recent", "archive"])
@pytest.mark.parametrize(("plant", "word"), [PLANTS[0], PLANTS[1], PLANTS[3], PLANTS[4]])
def test_a_fault_of_a_sink_is_named(
    place: str,
    plant: Callable[[tuple[SeenEvent, ...]], tuple[SeenEvent, ...]],
    word: str,
) -> None:
    good = read_back(a_story())
    found = faults_of(changed(good, **{place: plant(getattr(good, place))}))
    assert len(found) == 1
    assert word in next(iter(found.values()))


@pytest.mark.parametrize("place", ["recent", "archive"])
def test_bytes_other_than_the_logs_are_named(place: str) -> None:
    good = read_back(a_story())
    first, *others = getattr(good, place)
    found = faults_of(changed(good, **{place: (replace(first, body=b"{ }"), *others)}))
    assert "other bytes than the log's" in next(iter(found.values()))


@pytest.mark.parametrize("kind", ["sellers", "products"])
@pytest.mark.parametrize("member", ["events", "units", "lowStockWarnings"])
def test_an_aggregate_off_by_one_is_named(kind: str, member: str) -> None:
    good = read_back(a_story())
    name, totals = next(iter(getattr(good, kind).items()))
    spoilt = {**getattr(good, kind), name: {**totals, member: totals[member] + 1}}
    found = faults_of(changed(good, **{kind: spoilt}))
    assert f"{member} is {totals[member] + 1}, not {totals[member]}" in next(iter(found.values()))


@pytest.mark.parametrize("member", ["funnel", "orderValues"])
def test_a_funnel_or_an_order_value_that_is_off_is_named(member: str) -> None:
    good = read_back(a_story())
    (seller, selling), *_ = good.selling.items()
    spoilt = {seller: {**selling, member: {**selling[member], "off": 1}}}
    found = faults_of(changed(good, selling=spoilt))
    assert f"seller {seller}: {member} is" in found["Read API: funnel and order value of 1 sellers"]


def test_an_aggregate_that_is_missing_is_named() -> None:
    found = faults_of(replace(read_back(a_story()), sellers={}))
    assert "events is None" in found["Read API: aggregates of 1 sellers"]


def test_buckets_that_do_not_add_up_are_named() -> None:
    good = read_back(a_story())
    spoilt = {OURS: {**good.sellers[OURS], "sum of days": {"events": 0}}}
    assert "sum of days" in faults_of(replace(good, sellers=spoilt)).popitem()[1]


def test_a_listed_event_that_is_missing_or_doubled_is_named() -> None:
    good = read_back(a_story())
    ids = good.recent_listed[OURS]
    for spoilt, word in (((*ids, ids[0]), "doubled"), (ids[1:], "lost")):
        found = faults_of(replace(good, recent_listed={**good.recent_listed, OURS: spoilt}))
        assert word in found["Read API: recent events"]


def test_wrong_stock_and_a_product_still_there_after_its_deletion_are_named() -> None:
    oracle = a_story()
    send(oracle, "DELETE /products/g", {}, {})
    found = faults_of(replace(read_back(oracle), stocks={"p": 5, "g": 8}), oracle)
    text = found["REST: products and units in stock"]
    assert "p: stock 5, not 4" in text
    assert "g: stock 8, not None" in text


def test_a_type_that_grew_too_little_is_named() -> None:
    spoilt = Counter(read_back(a_story()).types_grown) - Counter({"order.created": 1})
    found = faults_of(changed(read_back(a_story()), types_grown=spoilt))
    assert "order.created grew by 0, not by 1" in found["Read API: growth by event type"]


def test_a_key_or_header_that_contradicts_its_event_is_shown() -> None:
    found = faults_of(changed(read_back(a_story()), log_faults=("another key",)))
    assert "another key" in found["Kafka: events, read committed"]


def test_what_is_wrong_with_the_chain_is_shown() -> None:
    found = faults_of(replace(read_back(a_story()), archive_faults=("a break",)))
    assert "a break" in found["MinIO: archived events, chain, sha256"]


@pytest.mark.parametrize(
    ("opens", "word"), [([False], "back 0 times"), ([False, False], "without resuming")]
)
def test_a_cut_client_that_does_not_resume_is_named(opens: list[bool], word: str) -> None:
    good = read_back(a_story())
    cut = replace(good.watchers[-1], opens=opens)
    found = faults_of(replace(good, watchers=(*good.watchers[:-1], cut)))
    assert word in found["SSE: 1 x cut"]


def test_a_gap_is_a_fault_even_when_nothing_is_missing() -> None:
    good = read_back(a_story())
    gap = replace(good.watchers[0], gaps=["stream.gap"])
    found = faults_of(replace(good, watchers=(gap, *good.watchers[1:])))
    assert "stream.gap" in found["SSE: 1 x everything"]
