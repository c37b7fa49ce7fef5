"""Read aggregates: sum a series over all its source partitions."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from shopstream_analytics.aggregates import derived
from shopstream_analytics.aggregates.definitions import (
    BY_TYPE,
    PLAIN_COUNTERS,
    READ_BY_HOUR,
    REVENUE,
    Dimension,
    Granularity,
)
from shopstream_analytics.aggregates.derived import ProductSales, TopBy, per_key
from shopstream_analytics.aggregates.generations import NO_TABLE, Generation, Generations
from shopstream_analytics.aggregates.keys import (
    SALES_SHARDS,
    partition_key,
    sales_key,
    sort_key,
)
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import as_unavailable, error_code
from shopstream_analytics.events import KEY_BYTES_MAX
from shopstream_analytics.sink import SinkUnavailable
from shopstream_shared.generations import parse_source_name, source_name
from shopstream_shared.topics import ORDERS, STREAM_TOPICS

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

#: How long generation and noted partitions are trusted; both change seldom, new partitions are made
#: with the consumers past the end (protocol rule 14), and an old generation stays readable.
PLACES_SECONDS: Final = 5.0
QUERIES_IN_FLIGHT_MAX: Final = 16
#: Of hours with something in them these are 27 months; beyond, days are asked for.
BUCKETS_MAX: Final = 20_000
#: Products that a seller may have sold on one day, to be ranked in memory.
PRODUCTS_MAX: Final = 100_000
STEPS: Final[Mapping[Granularity, timedelta]] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_KEYS: Final = frozenset({"pk", "sk", "upto"})
_MICROSECOND: Final = timedelta(microseconds=1)
#: Before and after every start, which are texts that begin with a digit.
_LEAST: Final = ""
_MOST: Final = "~"


class TooManyBuckets(Exception):
    """The range holds more buckets than one answer has room for."""


class TooManyProducts(Exception):
    """The seller sold more products that day than are ranked in memory."""


@dataclass(frozen=True, slots=True)
class Window:
    """Buckets whose start lies in [from, to); an open side is None. Moments are aware, UTC."""

    since: datetime | None = None
    until: datetime | None = None

    def bounds(self, granularity: Granularity) -> tuple[str, str]:
        """The starts of the first and the last bucket, both inclusive; none fits if they cross."""
        first, last = _LEAST, _MOST
        if self.since is not None:
            begin = _begin(self.since, granularity)
            try:
                first = _text(begin if begin == self.since else begin + STEPS[granularity])
            except OverflowError:
                first = _MOST
        if self.until is not None:
            try:
                last = _text(_begin(self.until - _MICROSECOND, granularity))
            except OverflowError:
                last = _LEAST
        return first, last


@dataclass(frozen=True, slots=True)
class Series:
    """Counters by bucket start, oldest first."""

    granularity: Granularity
    buckets: dict[str, Counter[str]]
    #: Which generation all of them were read from.
    generation: int = 0

    def totals(self) -> Counter[str]:
        """All buckets together."""
        totals: Counter[str] = Counter()
        for counters in self.buckets.values():
            derived.add(totals, counters)
        return totals

    def as_json(self) -> dict[str, object]:
        """As the contract spells it: `totals` has a bucket's members without `start`."""
        return self._json(_counters_json)

    def funnel_json(self) -> dict[str, object]:
        """How many orders reached each state: `{"start", "orders": {state: count}}` a bucket."""
        return self._json(lambda counters: {"orders": derived.funnel(counters)})

    def order_values_json(self) -> dict[str, object]:
        """What paid orders were worth: `{"start", "currencies": {code: {…}}}` a bucket."""

        def shown(counters: Counter[str]) -> dict[str, object]:
            values = derived.order_values(counters)
            return {"currencies": {code: value.as_json() for code, value in values.items()}}

        return self._json(shown)

    def timeliness_json(self) -> dict[str, object]:
        """Late and ahead: `{"start", "events", "lateEvents", "aheadEvents"}` a bucket."""
        return self._json(lambda counters: {**derived.timeliness(counters).as_json()})

    def _json(self, shown: Callable[[Counter[str]], dict[str, object]]) -> dict[str, object]:
        return {
            "granularity": self.granularity,
            "buckets": [
                {"start": start, **shown(counters)} for start, counters in self.buckets.items()
            ],
            "totals": shown(self.totals()),
        }


@dataclass(frozen=True, slots=True)
class TopProducts:
    """A seller's best sold products of one UTC day; ``currency`` only where revenue ranks them."""

    day: date
    by: TopBy
    currency: str | None
    products: list[ProductSales]

    def as_json(self) -> dict[str, object]:
        return {
            "day": self.day.isoformat(),
            "by": self.by,
            "currency": self.currency,
            "products": [product.as_json() for product in self.products],
        }


#: A source partition and the id of its topic.
Place = tuple[Source, str]


class View(NamedTuple):
    """One generation and the sources of all its items: a read looks at one from end to end, for
    a swap may come between any two of its queries."""

    generation: Generation
    places: tuple[Place, ...]


class Version(NamedTuple):
    """Moves with everything that is counted; ``generation`` is the one in use."""

    generation: int
    counted: Hashable


@dataclass(slots=True)
class AggregatesReader:
    """Reads what the aggregates worker wrote, with consistent reads."""

    client: "DynamoDBClient"
    generations: Generations
    _view: View | None = None
    _viewed_at: float | None = None
    _flights: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(QUERIES_IN_FLIGHT_MAX)
    )

    async def read(
        self, dimension: Dimension, series: str, granularity: Granularity, window: Window
    ) -> Series:
        """All buckets of the window that hold anything.

        Raises TooManyBuckets or SinkUnavailable.
        """
        buckets: dict[str, Counter[str]] = {}
        first, last = window.bounds(granularity)
        view = await self._current()
        if len(series.encode()) <= KEY_BYTES_MAX and first <= last:
            within = sort_key(granularity, first), sort_key(granularity, last)
            bucket_of = _own
            if granularity == "day" and dimension in READ_BY_HOUR:
                within = sort_key("hour", first), sort_key("hour", _last_hour(last))
                bucket_of = _day_of
            found = _Found(view.generation.table, buckets, BUCKETS_MAX, bucket_of)
            keys = [partition_key(dimension, series, source) for source, _ in view.places]
            await self._add_all(keys, within, found)
        return Series(granularity, dict(sorted(buckets.items())), view.generation.number)

    async def top_products(
        self, seller: str, day: date, by: TopBy, currency: str | None, limit: int
    ) -> TopProducts:
        """The greatest first, equal ones by product id; `derived.top` ranks them.

        Reads all that the seller sold that day, since a product's orders lie in all partitions.
        Raises TooManyProducts beyond PRODUCTS_MAX, or SinkUnavailable.
        """
        sold: dict[str, Counter[str]] = {}
        start = sort_key("day", f"{day.isoformat()}T00:00:00Z")
        if len(seller.encode()) <= KEY_BYTES_MAX:
            view = await self._current()
            keys = [
                sales_key(seller, shard, source)
                for source, _ in view.places
                if parse_source_name(source.topic)[0] == ORDERS
                for shard in range(SALES_SHARDS)
            ]
            # After the start comes # and the product; $ is the character after it.
            found = _Found(view.generation.table, sold, PRODUCTS_MAX)
            try:
                await self._add_all(keys, (f"{start}#", f"{start}$"), found)
            except TooManyBuckets as error:
                raise TooManyProducts(f"more than {PRODUCTS_MAX} products") from error
        products = (
            derived.sales_of(name.split("#", 1)[1], counters) for name, counters in sold.items()
        )
        return TopProducts(day, by, currency, derived.top(products, by, currency, limit))

    async def version(self) -> Version:
        """What moves with everything that is counted. Raises SinkUnavailable."""
        generation, places = await self._current()
        # Checkpoints are by topic id; only items have the epoch in the topic's name.
        parts = [(Source(parse_source_name(s.topic)[0], s.partition), known) for s, known in places]
        counted = places, await generation.checkpoints.read_many(parts)
        return Version(generation.number, counted)

    async def ping(self) -> str:
        """How the table in use is. Raises SinkUnavailable.

        Which one that is, is asked each time: nobody may read while this says that nobody can.
        """
        table = (await self.generations.current()).table
        with as_unavailable("dynamodb"):
            try:
                answer = await self.client.describe_table(TableName=table)
            except ClientError as error:
                if error_code(error) != NO_TABLE:
                    raise
                detail = f"dynamodb: missing: there is no table {table}"
                raise SinkUnavailable(detail, "missing") from error
        return str(answer["Table"].get("TableStatus", "unknown"))

    async def _add_all(self, keys: Iterable[str], within: tuple[str, str], found: "_Found") -> None:
        """Add the items of several partition keys."""
        await asyncio.gather(*(self._add_from(key, within, found) for key in keys))

    async def _add_from(self, key: str, within: tuple[str, str], found: "_Found") -> None:
        """Add one partition key's items, page by page, so that none of them is held."""
        more: dict[str, Any] = {}
        async with self._flights:
            while True:
                with as_unavailable("dynamodb"):
                    page = await self.client.query(
                        TableName=found.table,
                        KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
                        ExpressionAttributeValues={
                            ":pk": {"S": key},
                            ":first": {"S": within[0]},
                            ":last": {"S": within[1]},
                        },
                        ConsistentRead=True,
                        **more,
                    )
                for item in page["Items"]:
                    start = found.bucket_of(item["sk"]["S"].split("#", 1)[1])
                    derived.add(found.buckets.setdefault(start, Counter()), _counters(item))
                if len(found.buckets) > found.buckets_max:
                    raise TooManyBuckets(f"more than {found.buckets_max} buckets")
                if "LastEvaluatedKey" not in page:
                    return
                more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def _current(self) -> View:
        """The generation in use and its sources, of earlier epochs too."""
        now = time.monotonic()
        view, viewed_at = self._view, self._viewed_at
        if view is None or viewed_at is None or now - viewed_at > PLACES_SECONDS:
            generation = await self.generations.current()
            noted = await asyncio.gather(*map(generation.checkpoints.noted, STREAM_TOPICS))
            places = tuple(
                (Source(source_name(topic, one.epoch), partition), one.topic_id)
                for topic, state in zip(STREAM_TOPICS, noted, strict=True)
                if state is not None
                for one in state.epochs
                for partition in range(one.partitions)
            )
            self._view = view = View(generation, places)
            # Before the first worker nothing is noted; look again at the next read.
            self._viewed_at = now if all(noted) else None
        return view


def _own(start: str) -> str:
    return start


def _day_of(start: str) -> str:
    return f"{start[:10]}T00:00:00Z"


def _last_hour(day: str) -> str:
    """Of a day's start; what is before or after every start stays that."""
    return f"{day[:10]}T23:00:00Z" if day[:1].isdigit() else day


@dataclass(frozen=True, slots=True)
class _Found:
    """Counters of one table by sort key, without the granularity; so many of them at most.

    ``bucket_of``: by what it makes of that.
    """

    table: str
    buckets: dict[str, Counter[str]]
    buckets_max: int
    bucket_of: Callable[[str], str] = _own


def _begin(moment: datetime, granularity: Granularity) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if granularity == "hour" else hour.replace(hour=0)


def _text(start: datetime) -> str:
    return start.isoformat().replace("+00:00", "Z")


def _counters(item: dict[str, Any]) -> dict[str, int]:
    return {name: int(value["N"]) for name, value in item.items() if name not in _KEYS}


def _counters_json(counters: Counter[str]) -> dict[str, object]:
    plain = {name: counters[name] for name in PLAIN_COUNTERS}
    return {
        "events": plain.pop("events"),
        "byType": per_key(counters, BY_TYPE.counter),
        "orders": plain.pop("orders"),
        "units": plain.pop("units"),
        "cancelled": plain.pop("cancelled"),
        "revenueMinor": per_key(counters, REVENUE.counter),
        **plain,
    }
