"""The cache's promise, the choice of a form, and ranges against a plain reading of them."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from shopstream_analytics.aggregates import cache
from shopstream_analytics.aggregates.cache import CachedAggregates
from shopstream_analytics.aggregates.derived import TopBy
from shopstream_analytics.aggregates.fold import Dimension, Granularity
from shopstream_analytics.aggregates.reader import Series, TopProducts, Version, Window
from shopstream_analytics.sink import SinkUnavailable
from shopstream_analytics.web.forms import form_of, matches
from shopstream_analytics.web.problems import InvalidRequest

HOUR = "2026-11-21T05:00:00Z"


@dataclass(slots=True)
class Items:
    """Counts that a test moves; a read may be held up between its version and its items."""

    events: int = 0
    checkpoint: int = 0
    #: In use when the version is asked, and when the items are read.
    generation: int = 0
    read_from: int = 0
    reads: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    buckets: int = 1
    fails: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def version(self) -> Version:
        return Version(self.generation, self.checkpoint)

    async def read(
        self, dimension: Dimension, series: str, granularity: Granularity, window: Window
    ) -> Series:
        self.reads += 1
        self.asked.set()
        await self.gate.wait()
        if self.fails:
            raise SinkUnavailable("away")
        found = {f"{HOUR}{n}": Counter(events=self.events) for n in range(self.buckets)}
        return Series(granularity, found, self.read_from)

    async def top_products(
        self, seller: str, day: date, by: TopBy, currency: str | None, limit: int
    ) -> TopProducts:
        return TopProducts(day, by, currency, [])


async def ask(cached: CachedAggregates, name: str = "s") -> int:
    found = await cached.read("seller", name, "hour", Window())
    return next(iter(found.buckets.values()))["events"]


def bucket_start(moment: datetime, granularity: Granularity) -> str:
    text = moment.isoformat()
    return f"{text[:13]}:00:00Z" if granularity == "hour" else f"{text[:10]}T00:00:00Z"


def opened(events: int) -> Items:
    items = Items(events)
    items.gate.set()
    return items


def test_an_answer_is_read_once_while_no_checkpoint_moves() -> None:
    async def run() -> None:
        items = opened(events=1)
        cached = CachedAggregates(items)
        assert [await ask(cached), await ask(cached), items.reads] == [1, 1, 1]
        items.events, items.checkpoint = 2, 1
        assert [await ask(cached), items.reads] == [2, 2]

    asyncio.run(run())


def test_an_answer_read_while_a_checkpoint_moved_is_not_used_for_the_new_one() -> None:
    async def run() -> None:
        items = Items(events=1)
        cached = CachedAggregates(items)
        early = asyncio.create_task(ask(cached))
        await items.asked.wait()
        # Counted and settled after the early one looked at the checkpoint.
        items.checkpoint = 1
        items.gate.set()
        assert await early == 1
        items.events = 2
        assert await ask(cached) == 2

    asyncio.run(run())


def test_an_answer_is_not_kept_under_the_checkpoints_of_another_generation() -> None:
    """A swap came between the two; a swap back would bring it up again."""

    async def run() -> None:
        items = opened(events=1)
        cached = CachedAggregates(items)
        items.read_from = 1
        await ask(cached)
        items.events, items.read_from = 2, 0
        assert [await ask(cached), await ask(cached), items.reads] == [2, 2, 2]

    asyncio.run(run())


def test_callers_at_the_same_time_share_a_read_and_one_that_leaves_ends_it_for_none() -> None:
    async def run() -> None:
        items = Items(events=1)
        cached = CachedAggregates(items)
        callers = [asyncio.create_task(ask(cached)) for _ in range(5)]
        await items.asked.wait()
        callers[0].cancel()
        items.gate.set()
        found = await asyncio.gather(*callers, return_exceptions=True)
        assert found[1:] == [1, 1, 1, 1]
        assert items.reads == 1

    asyncio.run(run())


def test_a_read_that_failed_is_tried_again() -> None:
    async def run() -> None:
        items = opened(events=1)
        items.fails = True
        cached = CachedAggregates(items)
        with pytest.raises(SinkUnavailable):
            await ask(cached)
        items.fails = False
        assert await ask(cached) == 1

    asyncio.run(run())


def test_what_is_kept_is_bounded_by_answers_and_by_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(cache, "ANSWERS_MAX", 3)
        items = opened(events=1)
        cached = CachedAggregates(items)
        for name in ("a", "b", "c", "a", "d"):
            await ask(cached, name)
        # `b` was asked for least recently.
        reads = items.reads
        for name in ("a", "c", "d"):
            await ask(cached, name)
        assert items.reads == reads
        await ask(cached, "b")
        assert items.reads == reads + 1

        monkeypatch.setattr(cache, "BUCKETS_MAX", 10)
        items.buckets = 8
        await ask(cached, "e")
        await ask(cached, "f")
        await ask(cached, "e")
        assert items.reads == reads + 4
        items.buckets = 11
        await ask(cached, "g")
        await ask(cached, "g")
        assert items.reads == reads + 6

    asyncio.run(run())


moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - made aware


@given(moments | st.none(), moments | st.none(), moments, st.sampled_from(["hour", "day"]))
def test_the_bounds_of_a_range_are_those_of_the_buckets_that_begin_in_it(
    since: datetime | None, until: datetime | None, at: datetime, granularity: Granularity
) -> None:
    near = [at, *(m + timedelta(hours=h) for m in (since, until) if m for h in (-25, -1, 0, 1, 24))]
    first, last = Window(since, until).bounds(granularity)
    for moment in near:
        begin = moment.replace(minute=0, second=0, microsecond=0)
        begin = begin if granularity == "hour" else begin.replace(hour=0)
        inside = (since is None or begin >= since) and (until is None or begin < until)
        text = begin.isoformat().replace("+00:00", "Z")
        assert (first <= text <= last) is inside
        if begin.year > 999:
            assert text == bucket_start(moment, granularity)


def request(accept: str | None, query: str = "") -> Request:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return Request({"type": "http", "headers": headers, "query_string": query.encode()})


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV; q=0.5", "csv"),
        ("text/*", "csv"),
        ("application/vnd.apache.parquet", "parquet"),
        ("application/*", "json"),
        ("application/json;q=0.1, text/csv;q=0.9", "csv"),
        ("text/csv;q=0, */*", "json"),
        ("text/csv;q=x, application/json", "json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "json"),
        ("image/png", "json"),
    ],
)
def test_the_form_is_what_the_caller_likes_best(accept: str | None, form: str) -> None:
    assert form_of(request(accept)) == form
    assert form_of(request(accept, "format=parquet")) == "parquet"


def test_an_unknown_form_is_an_invalid_request() -> None:
    for query in ("format=xml", "format="):
        with pytest.raises(InvalidRequest, match="json, csv, parquet"):
            form_of(request(None, query))


@pytest.mark.parametrize(
    ("sent", "same"),
    [(None, False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ("a", False)],
)
def test_tags_are_compared_weakly(sent: str | None, *, same: bool) -> None:
    assert matches(sent, '"a"') is same
