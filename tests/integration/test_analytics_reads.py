"""What the read API answers, on a real DynamoDB: ranges, bounds, tags, the cache, files."""

import csv
import io
from asyncio import Semaphore
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.support.analytics_events import DAY, Shop, event, inventory_body, naive_counts
from tests.support.analytics_reads import PARTITIONS, Reading, reading
from tests.support.components import LocalComponents

from shopstream_analytics.aggregates import reader
from shopstream_analytics.aggregates.cache import CachedAggregates
from shopstream_analytics.aggregates.definitions import ALL_ID
from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.reader import AggregatesReader, Window
from shopstream_analytics.dynamo import fault
from shopstream_analytics.identity import ensure_tables
from shopstream_analytics.sink import TopicState
from shopstream_analytics.tables import aggregates_table
from shopstream_shared.clock import format_time
from shopstream_shared.events.codec import EncodedEvent
from shopstream_shared.events.registry import EVENT_TYPES
from shopstream_shared.generations import POINTER, table_of
from shopstream_shared.topics import STREAM_TOPICS

ALL = "/aggregates/event-types"


@pytest.fixture(scope="module")
def shared(session_components: LocalComponents) -> Iterator[Reading]:
    """A shop's life, for tests that only read."""
    with reading(session_components) as running:
        shop = Shop(seed=5)
        running.feed([one for _ in range(40) for one in shop.order_life()])
        yield running


@pytest.fixture
def api(components: LocalComponents) -> Iterator[Reading]:
    with reading(components) as running:
        yield running


def one_event(seller: str, at: datetime = DAY, version: int = 1) -> EncodedEvent:
    return event(
        "inventory.updated", inventory_body("p", seller, version), subject="p", seller=seller, at=at
    )


def rows_of(query: str) -> list[Any]:
    """What DuckDB answers."""
    with duckdb.connect() as database:
        return database.execute(query).fetchall()


@pytest.mark.parametrize("granularity", ["hour", "day"])
def test_a_range_answers_the_buckets_that_begin_in_it_and_no_other(
    shared: Reading, granularity: str
) -> None:
    everything = shared.get(ALL, params={"granularity": granularity}).json()["buckets"]
    assert len(everything) > 2
    moments = [datetime.fromisoformat(one["start"]) for one in everything]
    middle = moments[len(moments) // 2]
    second = timedelta(seconds=1)
    for since in (None, moments[0], middle - second, middle, middle + second):
        for until in (None, middle, middle + second, moments[-1], moments[-1] + second):
            if since and until and since > until:
                continue
            query = {"granularity": granularity}
            query |= {"from": format_time(since)} if since else {}
            query |= {"to": format_time(until)} if until else {}
            answer = shared.get(ALL, params=query).json()
            wanted = [
                one
                for one, at in zip(everything, moments, strict=True)
                if (since is None or at >= since) and (until is None or at < until)
            ]
            assert answer["buckets"] == wanted
            assert answer["totals"]["events"] == sum(one["events"] for one in wanted)


def test_ranges_at_the_ends_of_time_are_answered(shared: Reading) -> None:
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
    everything = shared.get(ALL).json()
    assert shared.get(ALL, params={"from": first, "to": last}).json() == everything
    for query in ({"to": first}, {"from": last}, {"from": first, "to": first}):
        assert shared.get(ALL, params=query).json()["buckets"] == []


def test_more_buckets_than_an_answer_holds_are_refused_with_the_remedy(
    shared: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BUCKETS_MAX", 5)
    query = {"to": "2027-01-01T00:00:00Z"}
    refused = shared.get(ALL, params=query)
    assert (refused.status_code, refused.json()["code"]) == (422, "range_too_large")
    assert "granularity=day" in refused.json()["detail"]
    days = shared.get(ALL, params={**query, "granularity": "day"})
    assert days.status_code == 200


def test_more_products_than_are_ranked_are_refused_and_nobody_is_sent_to_another_range(
    shared: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "PRODUCTS_MAX", 0)
    day = f"{DAY:%Y-%m-%d}"
    path = "/aggregates/sellers/seller-1/top-products"
    refused = shared.get(path, params={"day": day, "by": "units"}).json()
    assert (refused["status"], refused["code"]) == (422, "too_many_products")
    assert "from" not in refused["detail"]
    assert refused["errors"] == []


def test_a_file_s_tag_moves_with_its_columns_though_the_content_stays(
    shared: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {form: shared.get(f"{ALL}?format={form}") for form in ("json", "csv", "parquet")}
    # A version that knows one type more, of which nothing has come yet.
    known = {**EVENT_TYPES, "order.lost": None}
    monkeypatch.setattr("shopstream_analytics.web.forms.EVENT_TYPES", known)
    for form, answer in before.items():
        sent = {"if-none-match": answer.headers["etag"]}
        again = shared.get(f"{ALL}?format={form}", headers=sent)
        assert again.status_code == (304 if form == "json" else 200), form


def test_a_store_s_words_are_for_the_log_and_no_stranger(
    shared: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(*_: object, **__: object) -> None:
        raise fault("dynamodb", "credentials", "UnrecognizedClientException")

    monkeypatch.setattr(CachedAggregates, "read", denied)
    refused = shared.get(ALL)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert refused.headers["retry-after"] == "2"
    assert "AWS" not in refused.text
    assert "Client" not in refused.text


def test_a_question_that_the_store_never_takes_is_503_with_the_remedy_and_not_tried_again(
    shared: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: object, **__: object) -> None:
        raise fault("dynamodb", "refused", "ValidationException", "One or more parameters")

    monkeypatch.setattr(CachedAggregates, "read", refuses)
    refused = shared.get(ALL)
    assert (refused.status_code, refused.json()["code"]) == (503, "store_refused")
    assert "retry-after" not in refused.headers
    assert "parameters" not in refused.text
    assert "log" in shared.get(refused.json()["type"]).text


def test_a_tag_names_content_and_form_and_spares_the_body(api: Reading) -> None:
    api.feed([one_event("s")])
    path = "/aggregates/sellers/s"
    first = api.get(path)
    tag = first.headers["etag"]
    for sent in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = api.get(path, headers={"if-none-match": sent})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert "Accept" in again.headers["vary"]
        assert again.headers["cache-control"] == "no-cache"
    assert api.get(path, headers={"if-none-match": '"x"'}).status_code == 200
    assert api.get(f"{path}?format=csv").headers["etag"] != tag
    assert api.get("/aggregates/sellers/nobody").headers["etag"] != tag

    api.feed([one_event("s", version=2)])
    changed = api.get(path, headers={"if-none-match": tag})
    assert (changed.status_code, changed.json()["totals"]["events"]) == (200, 2)


def test_an_answer_is_kept_until_something_is_counted_also_in_an_hour_long_past(
    api: Reading,
) -> None:
    path = "/aggregates/sellers/s"
    cached = api.resources.cached
    for number in range(1, 4):
        # Each later event is of an earlier hour.
        api.feed([one_event("s", at=DAY - timedelta(hours=number), version=number)])
        assert api.get(path).json()["totals"]["events"] == number
        before = cached.hits
        assert api.get(path).json()["totals"]["events"] == number
        assert cached.hits == before + 1


@dataclass(slots=True)
class Swapping:
    """A DynamoDB client under which a swap, and what notices it, come before the second query."""

    generations: Generations
    tables: list[str] = field(default_factory=list)
    notice: Callable[[], Awaitable[object]] | None = None
    to: int = 1

    async def query(self, **arguments: Any) -> Any:
        if len(self.tables) == 1 and self.notice is not None:
            await self.use(self.to)
            await self.notice()
        self.tables.append(arguments["TableName"])
        return await self.generations.client.query(**arguments)

    async def use(self, number: int) -> None:
        """Make a generation the one in use."""
        await self.generations.client.put_item(
            TableName=self.generations.checkpoints_table,
            Item={"pk": {"S": POINTER}, "generation": {"N": str(number)}},
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generations.client, name)


async def make_another(generations: Generations) -> None:
    """A generation 1 without any item."""
    other = generations.of(1)
    await ensure_tables(generations.client, aggregates_table(other.table), other.checkpoints)
    topics = {topic: TopicState(f"id-of-{topic}", PARTITIONS) for topic in STREAM_TOPICS}
    await other.checkpoints.check_epochs(topics)


@pytest.mark.parametrize("begun_at", [0, 1])
def test_a_swap_in_the_middle_of_a_read_mixes_no_two_generations(
    api: Reading, monkeypatch: pytest.MonkeyPatch, begun_at: int
) -> None:
    monkeypatch.setattr(reader, "PLACES_SECONDS", 0.0)
    api.feed([one for _ in range(5) for one in Shop(seed=9).order_life()])
    whole = api.get(ALL).json()
    generations = api.resources.aggregates.generations

    async def read(asked: AggregatesReader) -> Any:
        return (await asked.read("all", ALL_ID, "hour", Window())).as_json()

    async def best(asked: AggregatesReader) -> Any:
        return await asked.top_products("s", DAY.date(), "units", None, 10)

    api.run(lambda: make_another(generations))
    for ask in (read, best):
        client: Any = Swapping(generations, to=1 - begun_at)
        asked = AggregatesReader(client, generations, _flights=Semaphore(1))
        # Another request, between two of this one's queries.
        client.notice = asked.version
        api.run(partial(client.use, begun_at))
        answer = api.run(partial(ask, asked))
        assert len(client.tables) > 2
        assert set(client.tables) == {generations.of(begun_at).table}
        if ask is read:
            assert (answer == whole) == (begun_at == 0)
        assert api.run(asked.version).generation == 1 - begun_at


def test_what_is_worked_out_agrees_with_the_counters_it_is_made_of(shared: Reading) -> None:
    for path in ("/aggregates/sellers/seller-1", "/aggregates"):
        whole = "/aggregates/event-types" if path == "/aggregates" else path
        totals = shared.get(f"{whole}?granularity=day").json()["totals"]
        funnel = shared.get(f"{path}/funnel?granularity=day")
        assert funnel.headers["etag"]
        reached = funnel.json()["totals"]["orders"]
        assert (reached["pending"], reached["cancelled"]) == (totals["orders"], totals["cancelled"])
        values = shared.get(f"{path}/order-values").json()["totals"]["currencies"]["USD"]
        assert values["paidMinor"] - values["refundedMinor"] == totals["revenueMinor"]["USD"]
        assert values["paidOrders"] == totals["byType"]["order.paid"]
        assert shared.get(f"{path}/timeliness").json()["totals"]["events"] == totals["events"]


def test_the_best_sold_products_of_a_day_are_ranked_and_add_up(shared: Reading) -> None:
    days = shared.get("/aggregates/sellers/seller-1?granularity=day").json()["buckets"]
    path = "/aggregates/sellers/seller-1/top-products"
    for bucket in days:
        day = bucket["start"][:10]
        units = shared.get(f"{path}?day={day}&by=units&limit=100").json()["products"]
        assert sum(one["units"] for one in units) == bucket["units"]
        assert [one["units"] for one in units] == sorted((u["units"] for u in units), reverse=True)
        money = shared.get(f"{path}?day={day}&currency=USD&limit=100").json()["products"]
        taken = sum(one["revenueMinor"]["USD"] for one in money)
        assert taken == bucket["revenueMinor"].get("USD", 0)
    for query in (
        "",
        "day=2026-11-21",
        "day=x&by=units",
        "day=2026-11-21&by=price",
        "day=2026-11-21&by=units&currency=USD",
        "day=2026-11-21&by=units&limit=0",
        "day=2026-13-41&by=units",
        "day=2026-11-21&currency=usd",
    ):
        refused = shared.get(f"{path}?{query}")
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed"), query


def test_a_csv_file_holds_the_numbers_of_the_answer(shared: Reading) -> None:
    body = shared.get("/aggregates/sellers/seller-1").json()
    answer = shared.get("/aggregates/sellers/seller-1", headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert (
        answer.headers["content-disposition"] == 'attachment; filename="seller-seller-1-hour.csv"'
    )
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["start"] for row in rows] == [one["start"] for one in body["buckets"]]
    for row, bucket in zip(rows, body["buckets"], strict=True):
        assert int(row["events"]) == bucket["events"]
        assert int(row["revenueMinor.USD"]) == bucket["revenueMinor"].get("USD", 0)
        for name in ("order.created", "inventory.reserved"):
            assert int(row[f"byType.{name}"]) == bucket["byType"].get(name, 0)


def test_a_parquet_file_is_read_by_duckdb_with_moments_and_exact_money(
    shared: Reading, tmp_path: Path
) -> None:
    path = tmp_path / "days.parquet"
    answer = shared.get(f"{ALL}?granularity=day&format=parquet")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    path.write_bytes(answer.content)
    totals = shared.get(f"{ALL}?granularity=day").json()["totals"]
    events, revenue, kind, money = rows_of(
        f"""SELECT sum(events), sum("revenueMinor.USD"), any_value(typeof(start)),
                   any_value(typeof("revenueMinor.USD")) FROM '{path}'"""
    )[0]
    assert (int(events), int(revenue)) == (totals["events"], totals["revenueMinor"]["USD"])
    assert (kind, money) == ("TIMESTAMP WITH TIME ZONE", "DECIMAL(38,0)")


def test_files_of_nothing_are_whole_files(shared: Reading, tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    path.write_bytes(shared.get("/aggregates/products/none?format=parquet").content)
    assert rows_of(f"SELECT count(*) FROM '{path}'") == [(0,)]
    text = shared.get("/aggregates/products/none?format=csv").text
    assert text.startswith("start,events,orders,")
    assert text.count("\r\n") == 1


def test_a_file_s_name_carries_no_character_that_ends_it(shared: Reading) -> None:
    answer = shared.get("/aggregates/sellers/a%22%0D%0Ab%2F..?format=csv")
    found = answer.headers.get("content-disposition")
    assert answer.status_code == 404 or found == 'attachment; filename="seller-a___b_..-hour.csv"'
    named = shared.get("/aggregates/sellers/a%22%0D%0Aé?format=csv")
    assert named.headers["content-disposition"] == 'attachment; filename="seller-a____-hour.csv"'


def test_the_answers_are_what_the_events_add_up_to_whatever_the_form(api: Reading) -> None:
    shop = Shop(seed=8)
    records = api.feed([one for _ in range(10) for one in shop.order_life()])
    naive = naive_counts(record.value or b"" for record in records)
    for key, counters in naive.items():
        dimension, name, granularity, start = key[:4]
        if dimension != "seller" or granularity != "day":
            continue
        answer = api.get(f"/aggregates/sellers/{name}?granularity=day").json()
        bucket = next(one for one in answer["buckets"] if one["start"] == start)
        assert bucket["events"] == counters["events"]
        assert bucket["revenueMinor"].get("USD", 0) == counters.get("revenueMinor#USD", 0)


def test_head_answers_as_get_does_and_other_methods_are_problems(shared: Reading) -> None:
    head = shared.request("HEAD", ALL)
    assert (head.status_code, head.headers["etag"]) == (200, shared.get(ALL).headers["etag"])
    refused = shared.request("DELETE", ALL)
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")


def test_a_problem_names_a_page_that_is_there(shared: Reading) -> None:
    refused = shared.get(f"{ALL}?format=xml&from=x")
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    page = shared.get(refused.json()["type"])
    assert (page.status_code, page.text.startswith("validation_failed")) == (200, True)
    assert shared.get("/problems/none").status_code == 404


def test_with_the_store_away_the_answer_is_503_with_retry_after(
    components: LocalComponents, api: Reading
) -> None:
    components.kill("dynamodb")
    for path in (ALL, "/events/recent?sellerId=s"):
        away = api.get(path)
        assert (away.status_code, away.json()["code"]) == (503, "unavailable")
        assert int(away.headers["retry-after"]) > 0


def test_what_is_no_file_refuses_to_be_one(shared: Reading) -> None:
    seller = "/aggregates/sellers/seller-0"
    for path in (
        f"{seller}/funnel?",
        f"{seller}/top-products?day=2026-11-21&by=units&",
        "/aggregates/timeliness?",
        "/events/recent?",
    ):
        refused = shared.get(f"{path}format=csv")
        assert refused.status_code == 422, path
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/format"]
        assert shared.get(f"{path}format=json").status_code == 200


def test_health_looks_at_the_table_in_use_and_names_the_one_that_is_missing(api: Reading) -> None:
    """Not at the one in use when somebody read last: nobody reads while it is unhealthy."""
    api.feed([one_event("s1")])
    dynamo = api.resources.aggregates.client
    base = api.settings.aggregates_table

    async def swap_and_lose() -> None:
        await dynamo.put_item(
            TableName=api.settings.checkpoints_table,
            Item={"pk": {"S": POINTER}, "generation": {"N": "1"}},
        )
        await dynamo.delete_table(TableName=base)

    def check() -> Any:
        return api.get("/health").json()["checks"]["dynamodb"]

    assert check()["status"] == "healthy"
    api.run(swap_and_lose)
    missing = table_of(base, 1)
    assert missing in check()["message"]
    api.run(lambda: make_another(api.resources.aggregates.generations))
    assert check()["status"] == "healthy"
