"""Filters on data on a real broker: live, from memory, from the broker, and refused."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.support.components import LocalComponents
from tests.support.events import golden
from tests.support.stream_service import Publisher, Stream, StreamService

from shopstream_shared.clock import Uuid7Source
from shopstream_shared.events.codec import EncodedEvent, encode
from shopstream_shared.stream_id import StreamPosition

Data = dict[str, Any]

#: What is asked, and what it says of an event's type and data.
WISHES: tuple[tuple[list[tuple[str, str]], Callable[[str, Data], bool]], ...] = (
    (
        [("types", "product.*"), ("data.priceMinor", "ge.300"), ("data.priceMinor", "lt.700")],
        lambda kind, data: kind.startswith("product.") and 300 <= data.get("priceMinor", -1) < 700,
    ),
    ([("data.name", 'prefix.Cup, "4')], lambda _, data: data.get("name") == 'Cup, "4"'),
    (
        [("data.items.quantity", "in.3,5"), ("data.currency", "eq.USD")],
        lambda kind, data: kind == "order.created" and data["items"][0]["quantity"] in (3, 5),
    ),
    ([("sellerId", "s1"), ("data.stock", "eq.6")], lambda _, data: data.get("stock") == 6),
    ([("data.sku", "eq.null")], lambda kind, _: kind == "product.created"),
    ([("data.stock", "gt.99")], lambda _kind, _data: False),
)


@pytest.fixture(scope="module")
def brokers(session_components: LocalComponents) -> str:
    return session_components.kafka_brokers


@pytest.fixture(scope="module")
def service(brokers: str) -> Iterator[StreamService]:
    Publisher(brokers)
    with StreamService(brokers) as service:
        yield service


def sent(number: int, event_type: str) -> EncodedEvent:
    """The event of this type that all of its values tell."""
    data = json.loads(golden(event_type))["data"]
    data |= {"priceMinor": 100 * number} if "priceMinor" in data else {}
    data |= {"stock": number, "name": f'Cup, "{number}"'} if "stock" in data else {}
    if "items" in data:
        data["items"] = [{**data["items"][0], "quantity": number + 1}]
    return encode(
        event_type,
        event_id=Uuid7Source().new_id(),
        subject=f"subject-{number}",
        seller_id=f"s{number % 2 + 1}" if number != 6 else "s1",
        sequence=number + 1,
        time=datetime.now(UTC),
        data=json.dumps(data).encode(),
    )


def wave() -> list[EncodedEvent]:
    return [
        sent(number, event_type)
        for number in range(10)
        for event_type in ("product.created", "order.created", "inventory.updated")
    ]


async def has_exactly(
    stream: Stream, events: list[EncodedEvent], holds: Callable[[str, Data], bool], end: str = ""
) -> None:
    """It has those of the events that it asked for, and an id at or past ``end``."""
    found = [(e.value, e.type, json.loads(e.value)["data"]) for e in events]
    expected = sorted(value for value, kind, data in found if holds(kind, data))
    await stream.until(lambda: len(stream.data) >= len(expected) and _is_past(stream.last_id, end))
    assert sorted(stream.data) == expected
    stream.cut()


def _is_past(stream_id: str, end: str) -> bool:
    reached = dict(StreamPosition.decode(stream_id).items())
    return not end or all(reached[p] >= o for p, o in StreamPosition.decode(end).items())


def test_e06_a_filtered_stream_gets_exactly_its_events_live_and_in_every_replay(
    brokers: str,
) -> None:
    """Cold: the service was killed, so that its memory is empty. What was left out is told too."""
    publisher = Publisher(brokers)

    async def each(service: StreamService, last_id: str = "") -> list[Stream]:
        queries = [f"?{urlencode(asked)}" for asked, _ in WISHES]
        streams = [await service.connect(query, last_event_id=last_id) for query in queries]
        return [await stream.opened() for stream in streams]

    async def run(service: StreamService) -> None:
        everything = await (await service.connect()).opened()
        begin = everything.last_id
        live = await each(service)
        events = wave()
        publisher.publish(*events)
        await everything.more(len(events))
        for stream, (_, holds) in zip(live, WISHES, strict=True):
            await has_exactly(stream, events, holds)
        for way in ("hot", "cold"):
            if way == "cold":
                service.restart()
            for stream, (_, holds) in zip(await each(service, begin), WISHES, strict=True):
                await has_exactly(stream, events, holds, end=everything.last_id)
        everything.cut()

    with StreamService(brokers) as own:
        asyncio.run(run(own))
        outcomes = own.get("/metrics").text
    assert f'shopstream_stream_resumed_total{{outcome="cold"}} {len(WISHES)}.0' in outcomes


@pytest.mark.parametrize(
    ("query", "pointer", "detail"),
    [
        ("data.stock=near.5", "/data.stock", "eq, in, gt, ge, lt, le"),
        ("data.stock=lt.NaN", "/data.stock", "not a number"),
        ("data.stock=gt.5&data.stock=lt.5", "/data.stock", "leave one of them out"),
        ("data.tags=eq.x&types=order.*", "/data.tags", "product.created"),
        ("data.sellerid=eq.s1", "/data.sellerid", "sellerId"),
        ("data.name=eq.%ff", "/data.name", "UTF-8"),
        ("data.%ff=eq.1", "/data", "UTF-8"),
    ],
)
def test_a_filter_on_data_that_cannot_match_is_a_problem_that_says_what_to_write(
    service: StreamService, query: str, pointer: str, detail: str
) -> None:
    answer = service.get(f"/events/stream?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "validation_failed"
    (error,) = problem["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]


def test_an_empty_filter_on_data_counts_as_absent(service: StreamService) -> None:
    async def run() -> None:
        stream = await (await service.connect("?data.stock=&data.sku=")).opened()
        stream.cut()

    asyncio.run(run())
