"""Read aggregates: sum a series over all its source partitions."""

import asyncio
import time
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from shopstream_analytics.aggregates.fold import (
    BY_TYPE,
    PLAIN_COUNTERS,
    REVENUE,
    Dimension,
    Granularity,
)
from shopstream_analytics.aggregates.keys import partition_key, sort_key
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import as_unavailable
from shopstream_analytics.events import KEY_BYTES_MAX
from shopstream_shared.topics import STREAM_TOPICS

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

#: How long the noted partitions are trusted; new ones are rare and made with the consumers past
#: the end (protocol rule 14).
PLACES_SECONDS: Final = 5.0
QUERIES_IN_FLIGHT_MAX: Final = 16
#: Of hours with something in them these are 27 months; beyond, days are asked for.
BUCKETS_MAX: Final = 20_000
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

    def as_json(self) -> dict[str, object]:
        """As the contract spells it: `totals` has a bucket's members without `start`."""
        totals: Counter[str] = Counter()
        for counters in self.buckets.values():
            _add(totals, counters)
        return {
            "granularity": self.granularity,
            "buckets": [
                {"start": start, **_counters_json(counters)}
                for start, counters in self.buckets.items()
            ],
            "totals": _counters_json(totals),
        }


#: A source partition and the id of its topic.
Place = tuple[Source, str]


@dataclass(slots=True)
class AggregatesReader:
    """Reads what the aggregates worker wrote, with consistent reads."""

    client: "DynamoDBClient"
    table: str
    checkpoints: Checkpoints
    _places: tuple[Place, ...] = ()
    _places_at: float | None = None
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
        if len(series.encode()) <= KEY_BYTES_MAX and first <= last:
            within = sort_key(granularity, first), sort_key(granularity, last)
            await asyncio.gather(
                *(
                    self._add_from(partition_key(dimension, series, source), within, buckets)
                    for source, _ in await self._known_places()
                )
            )
        return Series(granularity, dict(sorted(buckets.items())))

    async def version(self) -> Hashable:
        """What moves with everything that is counted. Raises SinkUnavailable."""
        places = await self._known_places()
        return places, await self.checkpoints.read_many(places)

    async def ping(self) -> str:
        """Raises SinkUnavailable."""
        with as_unavailable("dynamodb"):
            answer = await self.client.describe_table(TableName=self.table)
        return str(answer["Table"].get("TableStatus", "unknown"))

    async def _add_from(
        self, key: str, within: tuple[str, str], buckets: dict[str, Counter[str]]
    ) -> None:
        """Add one source partition's items, page by page, so that none of them is held."""
        more: dict[str, Any] = {}
        async with self._flights:
            while True:
                with as_unavailable("dynamodb"):
                    page = await self.client.query(
                        TableName=self.table,
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
                    start = item["sk"]["S"].split("#", 1)[1]
                    _add(buckets.setdefault(start, Counter()), _counters(item))
                if len(buckets) > BUCKETS_MAX:
                    raise TooManyBuckets(f"more than {BUCKETS_MAX} buckets")
                if "LastEvaluatedKey" not in page:
                    return
                more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def _known_places(self) -> tuple[Place, ...]:
        now = time.monotonic()
        if self._places_at is None or now - self._places_at > PLACES_SECONDS:
            noted = await asyncio.gather(*map(self.checkpoints.noted, STREAM_TOPICS))
            self._places = tuple(
                (Source(topic, partition), state.id)
                for topic, state in zip(STREAM_TOPICS, noted, strict=True)
                if state is not None
                for partition in range(state.partitions)
            )
            # Before the first worker nothing is noted; look again at the next read.
            self._places_at = now if all(noted) else None
        return self._places


def _begin(moment: datetime, granularity: Granularity) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if granularity == "hour" else hour.replace(hour=0)


def _text(start: datetime) -> str:
    return start.isoformat().replace("+00:00", "Z")


def _counters(item: dict[str, Any]) -> dict[str, int]:
    return {name: int(value["N"]) for name, value in item.items() if name not in _KEYS}


def _add(total: Counter[str], counters: "dict[str, int] | Counter[str]") -> None:
    # Not Counter.update, which is the same but reads as a replacement.
    for name, amount in counters.items():
        total[name] += amount


def _counters_json(counters: Counter[str]) -> dict[str, object]:
    plain = {name: counters[name] for name in PLAIN_COUNTERS}
    return {
        "events": plain.pop("events"),
        "byType": _named(counters, BY_TYPE),
        "orders": plain.pop("orders"),
        "units": plain.pop("units"),
        "cancelled": plain.pop("cancelled"),
        "revenueMinor": _named(counters, REVENUE),
        **plain,
    }


def _named(counters: Counter[str], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): amount
        for name, amount in sorted(counters.items())
        if name.startswith(prefix)
    }
