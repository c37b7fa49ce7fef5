"""Merge a batch into items, so that any repetition with any borders changes nothing.

Protocol rule 20: an item belongs to one source partition and carries ``upto``, the last offset of
that partition merged into it. An update is conditional: the item is new, or its ``upto`` is below
the first offset of the update. A refused update tells the item's ``upto``; what is at or below it
is in the item already, so it is dropped and the rest is tried again. A transaction is only a
carrier for up to 100 updates. Exactness needs no markers, no plan and no fixed borders; it needs
that a writer starts at or below the checkpoint, and that the checkpoint moves after the items.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from shopstream_analytics.aggregates.fold import Contribution, Delta, Folded, ItemKey, total
from shopstream_analytics.consumer.batch import Source

#: DynamoDB's limit of actions in a transaction.
TRANSACTION_ITEMS_MAX: Final = 100
#: Each try trims at least one item for good, unless somebody else writes this partition at the
#: same time; then a few more tries settle it, because ``upto`` only grows.
TRIES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class ItemUpdate:
    """Add ``delta``, made of the events from ``first`` to ``last``, unless they are in already."""

    key: ItemKey
    first: int
    last: int
    delta: Delta


class AggregateStore(Protocol):
    """The port to the items of the aggregates."""

    async def apply(self, source: Source, updates: Sequence[ItemUpdate]) -> Mapping[ItemKey, int]:
        """Apply all updates or none.

        Returns nothing when all are applied; else, for each refused item, its ``upto``.
        Raises SinkUnavailable.
        """
        ...


class MergeStuck(Exception):
    """An item keeps refusing without saying why: a fault of ours, not of the store."""


async def merge(store: AggregateStore, source: Source, folded: Folded) -> None:
    """Put all contributions into their items. Raises SinkUnavailable; then merge again."""
    for chunk in _chunks(folded):
        await _merge_chunk(store, source, chunk)


async def _merge_chunk(
    store: AggregateStore, source: Source, chunk: dict[ItemKey, list[Contribution]]
) -> None:
    for _ in range(TRIES_MAX):
        if not chunk:
            return
        refused = await store.apply(source, [update_of(key, chunk[key]) for key in chunk])
        if not refused:
            return
        for key, upto in refused.items():
            rest = trim(chunk[key], upto)
            if len(rest) == len(chunk[key]):
                raise MergeStuck(f"{key} refused at {upto}, below its first event")
            if rest:
                chunk[key] = rest
            else:
                del chunk[key]
    raise MergeStuck(f"{source}: still refused after {TRIES_MAX} tries")


def update_of(key: ItemKey, contributions: Sequence[Contribution]) -> ItemUpdate:
    """The one update that carries these contributions, which are in offset order."""
    return ItemUpdate(
        key=key,
        first=contributions[0].offset,
        last=contributions[-1].offset,
        delta=total(contributions),
    )


def trim(contributions: Sequence[Contribution], upto: int) -> list[Contribution]:
    """Only what comes after ``upto``."""
    return [contribution for contribution in contributions if contribution.offset > upto]


def _chunks(folded: Folded) -> Iterator[dict[ItemKey, list[Contribution]]]:
    items = iter(folded.items())
    while chunk := dict(islice(items, TRANSACTION_ITEMS_MAX)):
        yield chunk
