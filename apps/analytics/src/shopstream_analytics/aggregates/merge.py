"""Merge a round into items, so that any repetition with any borders changes nothing.

Protocol rule 20: an item belongs to one source partition and carries ``upto``, the last offset of
that partition merged into it. An update is conditional: the item is new, or its ``upto`` is below
the first offset of the update. A refused update tells the item's ``upto``; what is at or below it
is in the item already, so it is dropped and the rest is tried again. A transaction is only a
carrier for up to 100 updates; several are on their way at a time, since no two share an item.
Exactness needs no markers, no plan and no fixed borders; it needs that a writer starts at or below
the checkpoint, and that the checkpoint moves after the items.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple, Protocol

from shopstream_analytics.aggregates.fold import Folded, Gain, ItemKey, fold
from shopstream_analytics.aggregates.timeliness import Marks
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.sink import StoreRefused
from shopstream_shared.events.codec import DecodedEvent
from shopstream_shared.events.payloads import Order

#: DynamoDB's limit of actions in a transaction.
TRANSACTION_ITEMS_MAX: Final = 100
#: Carriers of one round at a time: one is made ready while the other is written. More would only
#: wait for DynamoDB Local's one lock (docs/adr/0029); those of all partitions share connections.
CARRIERS_MAX: Final = 2
#: Each try trims at least one item for good, unless somebody else writes this partition at the
#: same time; then a few more tries settle it, because ``upto`` only grows.
TRIES_MAX: Final = 1_000
#: Of one update. DynamoDB takes an expression of 4,096 bytes: ours ends at 331 counters.
COUNTERS_MAX: Final = 250


@dataclass(frozen=True, slots=True)
class ItemUpdate:
    """Add ``delta``, made of the events from ``first`` to ``last``, unless they are in already."""

    key: ItemKey
    first: int
    last: int
    delta: Mapping[str, int]


class ItemsInvalid(Exception):
    """The store will never take an update of these items; which, it may not have said.

    ``items``: what is wrong, by item; empty when one or more of the call's items are meant.
    """

    def __init__(self, items: Mapping[ItemKey, str], detail: str) -> None:
        super().__init__(detail)
        self.items = items


class Invalid(NamedTuple):
    """What is wrong with an item that the store never takes; ``offsets``: what it lacks by that."""

    detail: str
    offsets: tuple[int, ...]


class AggregateStore(Protocol):
    """The port to the items of the aggregates."""

    async def apply(self, source: Source, updates: Sequence[ItemUpdate]) -> Mapping[ItemKey, int]:
        """Apply all updates or none.

        Returns nothing when all are applied; else, for each refused item, its ``upto``.
        Raises SinkUnavailable or ItemsInvalid.
        """
        ...


class MergeStuck(Exception):
    """An item keeps refusing without saying why: a fault of ours, not of the store."""


@dataclass(slots=True)
class Round:
    """The events of one partition that are merged together, and what was found among them.

    ``folded``: what each item gains, where it is known already; ``events`` are looked at again only
    to trim what an item has merged before, or to halve the round.
    """

    events: Sequence[tuple[int, DecodedEvent]]
    marks: Marks = field(default_factory=Marks)
    folded: Folded | None = None
    _touching: dict[tuple[str, str], list[tuple[int, DecodedEvent]]] | None = None

    def fold(self) -> Folded:
        """What each item gains."""
        return fold(self.events, self.marks) if self.folded is None else self.folded

    def halves(self) -> tuple["Round", "Round"]:
        """The earlier events, and the later ones; each with what was found among them."""
        middle = len(self.events) // 2
        upto = self.events[middle - 1][0]
        return (
            Round(self.events[:middle], self.marks.until(upto)),
            Round(self.events[middle:], self.marks.after(upto)),
        )

    def rest(self, key: ItemKey, upto: int) -> Gain | None:
        """What an item gains beyond an offset; None when nothing.

        Of its series' events alone: a crash leaves many items to ask for, each in its own place.
        """
        beyond = [one for one in self._touching_events(key) if one[0] > upto]
        return fold(beyond, self.marks.after(upto)).get(key)

    def offsets_of(self, key: ItemKey, since: int) -> tuple[int, ...]:
        """The events from an offset on that add to an item; it may have merged those before."""
        return tuple(
            one[0] for one in self._touching_events(key) if one[0] >= since and key in fold([one])
        )

    def _touching_events(self, key: ItemKey) -> Sequence[tuple[int, DecodedEvent]]:
        return self._of_series().get(("all", "") if key.dimension == "all" else key[:2], ())

    def _of_series(self) -> dict[tuple[str, str], list[tuple[int, DecodedEvent]]]:
        if self._touching is None:
            self._touching = {("all", ""): list(self.events)}
            for one in self.events:
                for series in _series_of(one[1]):
                    self._touching.setdefault(series, []).append(one)
        return self._touching


async def merge(
    store: AggregateStore,
    source: Source,
    round_: Round,
    *,
    carrier_items_max: int = TRANSACTION_ITEMS_MAX,
) -> Mapping[ItemKey, Invalid]:
    """Put all of a round into its items; what is wrong with those that the store never takes.

    Raises SinkUnavailable; then merge again. Raises StoreRefused when it takes none at all: then
    no event is at fault, but the table or we are.
    """
    folded = round_.fold()
    if len(round_.events) > 1 and any(len(gain.delta) > COUNTERS_MAX for gain in folded.values()):
        # Many currencies at once. The earlier half first: `upto` lets it be so.
        first, second = [
            await merge(store, source, half, carrier_items_max=carrier_items_max)
            for half in round_.halves()
        ]
        # An item that only one half could not be added to has the events of the other.
        both = {key: (*first[key].offsets, *second[key].offsets) for key in first.keys() & second}
        return {
            key: Invalid(one.detail, both.get(key, one.offsets))
            for key, one in {**first, **second}.items()
        }
    chunks = _chunks(folded, carrier_items_max)
    invalid: dict[ItemKey, Invalid] = {}

    async def carry() -> None:
        # All carriers take from the same chunks.
        for chunk in chunks:
            await _merge_chunk(store, source, round_, chunk, invalid)

    carriers = [asyncio.create_task(carry()) for _ in range(CARRIERS_MAX)]
    try:
        await asyncio.gather(*carriers)
    finally:
        # One that fails ends the round: the others must not go on beside the next try.
        for carrier in carriers:
            carrier.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)
    if invalid and len(invalid) == len(folded):
        raise StoreRefused(
            f"dynamodb: every item is refused: {next(iter(invalid.values())).detail}"
        )
    return invalid


async def _merge_chunk(
    store: AggregateStore,
    source: Source,
    round_: Round,
    chunk: dict[ItemKey, Gain],
    invalid: dict[ItemKey, Invalid],
) -> None:
    for _ in range(TRIES_MAX):
        if not chunk:
            return
        updates = [
            ItemUpdate(key, gain.first, gain.last, gain.delta) for key, gain in chunk.items()
        ]
        try:
            refused = await store.apply(source, updates)
        except ItemsInvalid as error:
            named = error.items or (dict.fromkeys(chunk, str(error)) if len(chunk) == 1 else {})
            if not named:
                for part in _chunks(chunk, (len(chunk) + 1) // 2):
                    await _merge_chunk(store, source, round_, part, invalid)
                return
            invalid |= {
                key: Invalid(detail, round_.offsets_of(key, chunk[key].first))
                for key, detail in named.items()
            }
            chunk = {key: gain for key, gain in chunk.items() if key not in named}
            continue
        if not refused:
            return
        for key, upto in refused.items():
            gain = chunk.pop(key)
            if upto < gain.first:
                raise MergeStuck(f"{key} refused at {upto}, below its first event")
            if upto < gain.last and (rest := round_.rest(key, upto)) is not None:
                chunk[key] = rest
    raise MergeStuck(f"{source}: still refused after {TRIES_MAX} tries")


def _series_of(event: DecodedEvent) -> Iterator[tuple[str, str]]:
    seller = event.envelope.sellerid
    yield "seller", seller
    if isinstance(event.payload, Order):
        yield "sellerProduct", seller
        for product in {item.product_id for item in event.payload.items}:
            yield "product", product
    else:
        yield "product", event.envelope.subject


def _chunks(folded: Folded, size: int) -> Iterator[dict[ItemKey, Gain]]:
    items = iter(folded.items())
    while chunk := dict(islice(items, size)):
        yield chunk
