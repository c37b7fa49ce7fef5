"""Read aggregates: sum a series over all its source partitions."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
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
SOURCES_SECONDS: Final = 5.0
QUERIES_IN_FLIGHT_MAX: Final = 16
_KEYS: Final = frozenset({"pk", "sk", "upto"})


@dataclass(frozen=True, slots=True)
class Window:
    """Buckets whose start lies in [from, to); an open side is None. Moments are aware, UTC."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, start: str) -> bool:
        moment = datetime.fromisoformat(start)
        if self.since is not None and moment < self.since:
            return False
        return self.until is None or moment < self.until


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


@dataclass(slots=True)
class AggregatesReader:
    """Reads what the aggregates worker wrote, with consistent reads."""

    client: "DynamoDBClient"
    table: str
    checkpoints: Checkpoints
    _sources: tuple[Source, ...] = ()
    _sources_at: float | None = None
    _flights: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(QUERIES_IN_FLIGHT_MAX)
    )

    async def read(
        self, dimension: Dimension, series: str, granularity: Granularity, window: Window
    ) -> Series:
        """All buckets of the window that hold anything. Raises SinkUnavailable."""
        buckets: dict[str, Counter[str]] = {}
        if len(series.encode()) <= KEY_BYTES_MAX:
            sources = await self._known_sources()
            found = await asyncio.gather(
                *(self._query(partition_key(dimension, series, s), granularity) for s in sources)
            )
            for item in (item for items in found for item in items):
                start = item["sk"]["S"].split("#", 1)[1]
                if window.holds(start):
                    _add(buckets.setdefault(start, Counter()), _counters(item))
        return Series(granularity, dict(sorted(buckets.items())))

    async def ping(self) -> str:
        """Raises SinkUnavailable."""
        with as_unavailable("dynamodb"):
            answer = await self.client.describe_table(TableName=self.table)
        return str(answer["Table"].get("TableStatus", "unknown"))

    async def _query(self, key: str, granularity: Granularity) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        more: dict[str, Any] = {}
        async with self._flights:
            while True:
                with as_unavailable("dynamodb"):
                    page = await self.client.query(
                        TableName=self.table,
                        KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
                        ExpressionAttributeValues={
                            ":pk": {"S": key},
                            ":sk": {"S": sort_key(granularity, "")},
                        },
                        ConsistentRead=True,
                        **more,
                    )
                items.extend(dict(item) for item in page["Items"])
                if "LastEvaluatedKey" not in page:
                    return items
                more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def _known_sources(self) -> tuple[Source, ...]:
        now = time.monotonic()
        if self._sources_at is None or now - self._sources_at > SOURCES_SECONDS:
            noted = await asyncio.gather(*map(self.checkpoints.noted, STREAM_TOPICS))
            self._sources = tuple(
                Source(topic, partition)
                for topic, state in zip(STREAM_TOPICS, noted, strict=True)
                if state is not None
                for partition in range(state.partitions)
            )
            # Before the first worker nothing is noted; look again at the next read.
            self._sources_at = now if all(noted) else None
        return self._sources


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
