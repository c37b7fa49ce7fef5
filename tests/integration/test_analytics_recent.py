"""RecentEvents on a real DynamoDB, with plain indexes and with shards: pages, writes, poison."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from tests.support.analytics import dynamo_client
from tests.support.analytics_events import DAY, event, inventory_body, record_of
from tests.support.analytics_reads import PARTITIONS, Reading, reading
from tests.support.components import LocalComponents

from shopstream_analytics import recent_reader
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.recent import PartitionRecent, RecentSink, item_of
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.recent_reader import (
    QUERIES_IN_FLIGHT_MAX,
    Cursor,
    Filters,
    _hash_of,
)
from shopstream_analytics.sink import LogRange, SinkUnavailable, StoreRefused
from shopstream_analytics.tables import ensure_table, recent_table
from shopstream_shared.events.codec import EncodedEvent, decode
from shopstream_shared.events.envelope import Envelope
from shopstream_shared.topics import INVENTORY

TYPES = ("inventory.updated", "inventory.reserved", "product.low_stock")


@pytest.fixture(params=["1", "4"], ids=["plain", "sharded"])
def api(request: pytest.FixtureRequest, components: LocalComponents) -> Iterator[Reading]:
    with reading(components, SHOPSTREAM_RECENT_SHARDS=request.param) as running:
        yield running


def some_events(count: int, seed: int, *, moments: int = 9) -> list[EncodedEvent]:
    """Of few moments, so that many share one; of two sellers and three types and subjects."""
    random = Random(seed)
    made = []
    for _ in range(count):
        seller, product = f"s{random.randrange(2)}", f"p{random.randrange(3)}"
        at = DAY + timedelta(seconds=random.randrange(moments))
        body = inventory_body(product, seller, 1)
        made.append(event(random.choice(TYPES), body, subject=product, seller=seller, at=at))
    return made


def ids(page: dict[str, Any]) -> list[str]:
    return [item["eventId"] for item in page["data"]]


def walk(api: Reading, query: dict[str, Any]) -> list[str]:
    """All ids of a list, page by page; back again by the other cursor must give the same pages."""
    found: list[str] = []
    pages = []
    page = api.get("/events/recent", params=query).json()
    while True:
        pages.append(ids(page))
        found += ids(page)
        if not page["hasMore"]:
            break
        page = api.get("/events/recent", params={**query, "cursor": page["nextCursor"]}).json()
    for wanted in reversed(pages[:-1]):
        page = api.get("/events/recent", params={**query, "cursor": page["prevCursor"]}).json()
        assert ids(page) == wanted
    return found


def test_every_list_is_whole_and_newest_first_over_all_keys(api: Reading) -> None:
    events = some_events(60, seed=3)
    api.feed(events)
    order = sorted(((one.time, one.id), one) for one in events)[::-1]
    for query in (
        {},
        {"sellerId": "s1"},
        {"type": "inventory.reserved"},
        {"subject": "p2"},
        {"sellerId": "s0", "type": "product.low_stock"},
        {"sellerId": "s0", "type": "product.low_stock", "subject": "p1"},
        {"sellerId": "nobody"},
    ):
        wanted = [
            one.id
            for _, one in order
            if query.get("sellerId") in (None, one.seller_id)
            and query.get("type") in (None, one.type)
            and query.get("subject") in (None, one.subject)
        ]
        for limit in (9, 500):
            assert walk(api, {**query, "limit": limit}) == wanted, query


def test_a_page_after_a_cursor_is_the_same_whatever_is_written_meanwhile(api: Reading) -> None:
    before = some_events(40, seed=4)
    api.feed(before)
    query = {"sellerId": "s1", "limit": 5}
    seen: list[str] = []
    page = api.get("/events/recent", params=query).json()
    for number in range(100):
        seen += ids(page)
        if not page["hasMore"]:
            break
        api.feed(some_events(5, seed=100 + number))
        page = api.get("/events/recent", params={**query, "cursor": page["nextCursor"]}).json()
    assert len(seen) == len(set(seen))
    assert {one.id for one in before if one.seller_id == "s1"} <= set(seen)


def test_a_cursor_that_no_page_handed_out_is_400_and_one_of_a_long_id_is_taken(
    api: Reading,
) -> None:
    filters = Filters()
    for timestamp, event_id in (("", ""), ("x" * 2_000, "e"), (f"{DAY:%FT%TZ}", "")):
        forged = Cursor(timestamp, event_id, back=False, filters=_hash_of(filters)).encode()
        refused = api.get("/events/recent", params={"cursor": forged})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")
    long = "é" * 300
    body = inventory_body(long, "s", 1)
    api.feed([event("inventory.updated", body, subject=long, seller="s") for _ in range(3)])
    assert len(walk(api, {"subject": long, "limit": 1})) == 3


def test_a_time_of_another_form_is_shown_as_it_is_and_listed_by_its_text(api: Reading) -> None:
    forms = ("2026-11-21T05:00:00.5Z", "2026-11-21T05:00:00Z", "2026-11-21T14:00:00+10:00")
    made = [event("inventory.updated", inventory_body("f", "s", 1), subject="f", seller="s")] * 3
    foreign = []
    for one, form in zip(made, forms, strict=True):
        envelope = msgspec.json.decode(one.value) | {"time": form, "id": f"id-of-{form}"}
        foreign.append(replace(one, id=envelope["id"], value=msgspec.json.encode(envelope)))
    api.feed(foreign)
    shown = api.get("/events/recent", params={"subject": "f"}).json()["data"]
    # By text: the last of them is the oldest moment, 04:00 UTC.
    assert [one["timestamp"] for one in shown] == sorted(forms, reverse=True)
    assert all(one["data"]["time"] == one["timestamp"] for one in shown)
    assert walk(api, {"subject": "f", "limit": 1}) == [one["eventId"] for one in shown]


@dataclass(slots=True)
class Watched:
    """A client that is watched: how much each query asks for, and how many there are at once."""

    client: Any
    limits: list[int] = field(default_factory=list)
    at_once: int = 0
    most: int = 0

    async def query(self, **query: Any) -> Any:
        self.limits.append(query["Limit"])
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            return await self.client.query(**query)
        finally:
            self.at_once -= 1


def test_what_one_request_reads_at_once_is_bounded_and_grows_only_as_it_must(
    api: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = some_events(60, seed=11)
    api.feed(events)
    recent = api.resources.recent
    watched = Watched(recent.client)
    monkeypatch.setattr(recent, "client", watched)
    api.get("/events/recent", params={"limit": 1})
    assert watched.most == QUERIES_IN_FLIGHT_MAX
    watched.limits.clear()
    # The second filter lets every sixth pass or so.
    query = {"sellerId": "s0", "type": "product.low_stock", "limit": 1}
    first = next(
        one.id
        for one in sorted(events, key=lambda one: (one.time, one.id), reverse=True)
        if (one.seller_id, one.type) == ("s0", "product.low_stock")
    )
    assert ids(api.get("/events/recent", params=query).json()) == [first]
    assert watched.limits[0] <= 10
    assert max(watched.limits) <= 40


def test_more_requests_than_can_wait_are_told_to_come_again(
    api: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_reader, "REQUESTS_MAX", 2)

    async def crowd() -> list[int]:
        calls = [api.client.get("/events/recent") for _ in range(5)]
        return [one.status_code for one in await asyncio.gather(*calls)]

    assert sorted(api.run(crowd)) == [200, 200, 503, 503, 503]
    assert api.get("/events/recent").status_code == 200


def test_filters_that_match_too_little_say_so_and_not_to_try_again(
    api: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.feed(some_events(60, seed=12))
    monkeypatch.setattr(recent_reader, "PAGES_MAX", 1)
    monkeypatch.setattr(recent_reader, "PAGE_ITEMS_MIN", 1)
    query = {"subject": "p1", "sellerId": "nobody", "limit": 1}
    refused = api.get("/events/recent", params=query)
    assert (refused.status_code, refused.json()["code"]) == (422, "filters_too_sparse")
    assert "retry-after" not in refused.headers


def test_writing_a_batch_again_leaves_each_event_once(api: Reading) -> None:
    events = some_events(60, seed=5)
    records = api.feed(events)
    sink = next(one for one in api.sinks if isinstance(one, RecentSink))
    again = [item_of(decode(record.value), sink.indexes) for record in records]
    lane = opened(api)
    for at in range(0, len(again), 25):
        api.run(lambda at=at: lane._put(again[at : at + 25]))  # type: ignore[misc]  # bound by default
    assert len(walk(api, {"limit": 500})) == len(events)


def opened(api: Reading) -> PartitionRecent:
    sink = next(one for one in api.sinks if isinstance(one, RecentSink))
    where = Source(INVENTORY, PARTITIONS - 1)
    return api.run(lambda: sink.open(where, LogRange(0, 10**9)))


def test_an_item_that_dynamodb_never_takes_is_left_out_and_never_tried_for_ever(
    api: Reading,
) -> None:
    made = [item_of(decode(one.value), RecentIndexes()) for one in some_events(5, seed=6)]
    made[2]["sellerId"] = {"S": ""}
    made[2]["subject"] = {"S": ""}
    made[3]["data"] = {"S": "x" * 450_000}
    if opened(api).indexes.shards > 1:
        for item in made:
            item |= {"sellerShard": {"S": "0#s"}, "typeShard": {"S": "0#t"}}
    lane = opened(api)
    refused = api.run(lambda: asyncio.wait_for(lane._put(made), timeout=60))
    assert refused.keys() == {item["eventId"]["S"] for item in (made[2], made[3])}
    table = api.settings.recent_events_table
    stored = dynamo_client(environ_of(api)).scan(TableName=table)["Items"]
    kept = {item["eventId"]["S"] for item in (made[0], made[1], made[4])}
    assert {item["eventId"]["S"] for item in stored} == kept


def table_with_a_number_as_key(api: Reading) -> None:
    """Made anew, as by hand: each index is there, and none of our sellers fits its key."""
    client = dynamo_client(environ_of(api))
    name = api.settings.recent_events_table
    client.delete_table(TableName=name)
    definition = recent_table(name, RecentIndexes(api.settings.recent_shards)).definition()
    key = "sellerId" if api.settings.recent_shards == 1 else "sellerShard"
    for attribute in definition["AttributeDefinitions"]:
        if attribute["AttributeName"] == key:
            attribute["AttributeType"] = "N"
    client.create_table(**definition)


def batch_of(events: list[EncodedEvent], start: int = 0) -> Batch:
    where = Source(INVENTORY, PARTITIONS - 1)
    records = [record_of(one, start + n, where.partition) for n, one in enumerate(events)]
    return Batch(where, start, start + len(events), records)


def test_a_table_whose_index_has_a_key_of_another_type_halts_and_loses_nothing(
    api: Reading,
) -> None:
    lane = opened(api)
    table_with_a_number_as_key(api)
    for count in (60, 2):
        batch = batch_of(some_events(count, seed=count))
        with pytest.raises(StoreRefused, match="every item is refused"):
            api.run(lambda batch=batch: lane.write(batch))  # type: ignore[misc]  # bound by default
    assert lane.durable == 0
    definition = recent_table(api.settings.recent_events_table, lane.indexes)
    with pytest.raises(
        SinkUnavailable, match=r"the key seller\w+ of table \S+ is no string; delete"
    ):
        api.run(lambda: ensure_table(lane.client, definition))


def test_an_event_left_out_is_counted_and_a_second_one_in_a_row_halts(api: Reading) -> None:
    left_out: list[int] = []
    sink = next(one for one in api.sinks if isinstance(one, RecentSink))
    sink.on_refused = lambda: left_out.append(1)
    lane = opened(api)
    good, bad, other, more, last = some_events(5, seed=9)
    poisoned = {bad.id, other.id, last.id}

    class Poison(RecentIndexes):
        """Some fault of ours that makes an item of some events that no table takes."""

        def attributes_of(self, envelope: Envelope) -> dict[str, Any]:
            extra = {"subject": {"N": "1"}} if envelope.id in poisoned else {}
            return {**super().attributes_of(envelope), **extra}

    lane.indexes = Poison(lane.indexes.shards)
    # One among others, then one alone: each is left out, since something was stored between.
    api.run(lambda: lane.write(batch_of([good, bad])))
    api.run(lambda: lane.write(batch_of([other], start=2)))
    api.run(lambda: lane.write(batch_of([more], start=3)))
    assert (lane.durable, len(left_out)) == (4, 2)
    api.run(lambda: lane.write(batch_of([other], start=4)))
    # Nothing in it, so nothing that shows that the table works.
    api.run(lambda: lane.write(batch_of([], start=5)))
    with pytest.raises(StoreRefused, match="every item is refused"):
        api.run(lambda: lane.write(batch_of([last], start=5)))
    assert (lane.durable, len(left_out)) == (5, 3)


def environ_of(api: Reading) -> dict[str, str]:
    settings = api.settings
    return {
        "DYNAMO_ENDPOINT": str(settings.dynamo_endpoint),
        "AWS_ACCESS_KEY_ID": settings.aws_access_key_id.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key.get_secret_value(),
    }


def test_with_shards_no_index_has_a_seller_or_a_type_alone_as_its_key(
    components: LocalComponents,
) -> None:
    for shards, names in (
        ("1", {"bySeller": "sellerId", "byType": "eventType"}),
        ("8", {"bySellerShard": "sellerShard", "byTypeShard": "typeShard"}),
    ):
        with reading(components, SHOPSTREAM_RECENT_SHARDS=shards) as api:
            client = dynamo_client(environ_of(api))
            table = client.describe_table(TableName=api.settings.recent_events_table)["Table"]
            found = {
                index["IndexName"]: index["KeySchema"][0]["AttributeName"]
                for index in table["GlobalSecondaryIndexes"]
            }
            assert found == {**names, "bySubject": "subject"}


def test_one_seller_s_events_of_one_type_spread_evenly_over_the_shards() -> None:
    made = [decode(one.value) for one in some_events(800, seed=7)]
    keys = [RecentIndexes(8).attributes_of(one.envelope) for one in made]
    for name in ("sellerShard", "typeShard"):
        shards = [key[name]["S"].split("#")[0] for key in keys]
        counts = [shards.count(str(shard)) for shard in range(8)]
        assert min(counts) > 50
        assert sum(counts) == len(made)


def test_more_shards_than_before_still_find_what_was_written_before(
    components: LocalComponents,
) -> None:
    with reading(components, SHOPSTREAM_RECENT_SHARDS="2") as api:
        events = some_events(40, seed=8)
        api.feed(events)
        wider = replace(api.resources.recent, indexes=RecentIndexes(5))
        page = api.run(lambda: wider.page(Filters(seller_id="s1"), 500, None))
        wanted = {one.id for one in events if one.seller_id == "s1"}
        assert {item["eventId"] for item in page.items} == wanted
