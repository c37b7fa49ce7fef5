"""Answers that are used again while nothing has been counted since they were read.

Guarantee: an answer from here holds everything that was counted below any checkpoint that stood
when it was asked for. It is kept with the checkpoints as they were *before* its items were read; a
checkpoint moves after its items, so equal checkpoints mean that no item has changed since, but for
what is merged this moment and will move a checkpoint next. Late events move a checkpoint like all
others, so no hour is taken to be finished.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple, Protocol

from shopstream_analytics.aggregates.derived import TopBy
from shopstream_analytics.aggregates.fold import Dimension, Granularity
from shopstream_analytics.aggregates.reader import Series, TopProducts, Version, Window

ANSWERS_MAX: Final = 256
#: Over all answers; a bucket takes some 2 KB here. A larger answer is not kept.
BUCKETS_MAX: Final = 10_000

Question = tuple[Dimension, str, Granularity, Window]


class Counted(Protocol):
    """What is behind the cache."""

    async def version(self) -> Version:
        """Equal as long as nothing has been counted."""
        ...

    async def read(
        self, dimension: Dimension, series: str, granularity: Granularity, window: Window
    ) -> Series: ...

    async def top_products(
        self, seller: str, day: date, by: TopBy, currency: str | None, limit: int
    ) -> TopProducts: ...


class _Kept(NamedTuple):
    version: Version
    series: Series


@dataclass(slots=True)
class CachedAggregates:
    """Least recently used answers go first."""

    source: Counted
    hits: int = 0
    _kept: OrderedDict[Question, _Kept] = field(default_factory=OrderedDict)
    _buckets: int = 0
    _flying: dict[tuple[Question, Version], "asyncio.Task[Series]"] = field(default_factory=dict)

    async def read(
        self, dimension: Dimension, series: str, granularity: Granularity, window: Window
    ) -> Series:
        """See AggregatesReader.read."""
        question = (dimension, series, granularity, window)
        version = await self.source.version()
        kept = self._kept.get(question)
        if kept is not None and kept.version == version:
            self._kept.move_to_end(question)
            self.hits += 1
            return kept.series
        return await self._shared(question, version)

    async def top_products(
        self, seller: str, day: date, by: TopBy, currency: str | None, limit: int
    ) -> TopProducts:
        """See AggregatesReader.top_products; read each time."""
        return await self.source.top_products(seller, day, by, currency, limit)

    def clear(self) -> None:
        """Forget all answers: something was counted that no checkpoint tells of."""
        self._kept.clear()
        self._buckets = 0

    async def _shared(self, question: Question, version: Version) -> Series:
        """One read for all who ask the same of the same version."""
        flight = self._flying.get((question, version))
        if flight is None:
            flight = asyncio.create_task(self._read(question, version))
            self._flying[question, version] = flight
            flight.add_done_callback(lambda _: self._flying.pop((question, version)))
        # Shielded: one caller that goes away must not end it for the others.
        return await asyncio.shield(flight)

    async def _read(self, question: Question, version: Version) -> Series:
        found = await self.source.read(*question)
        self._forget(question)
        # A swap may have come in between; another generation's checkpoints say nothing of this.
        if found.generation == version.generation and len(found.buckets) <= BUCKETS_MAX:
            self._kept[question] = _Kept(version, found)
            self._buckets += len(found.buckets)
        while len(self._kept) > ANSWERS_MAX or self._buckets > BUCKETS_MAX:
            self._forget(next(iter(self._kept)))
        return found

    def _forget(self, question: Question) -> None:
        gone = self._kept.pop(question, None)
        if gone is not None:
            self._buckets -= len(gone.series.buckets)
