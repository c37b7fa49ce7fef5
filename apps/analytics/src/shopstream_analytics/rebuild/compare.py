"""Live items against the rebuilt ones, each at the live item's own ``upto``."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from shopstream_analytics.rebuild.source import ItemRows
from shopstream_analytics.rebuild.spill import Row

#: So many are spelled out; all are counted.
SHOWN_MAX: Final = 10
_KEYS: Final = frozenset({"pk", "sk", "upto"})


class Difference(msgspec.Struct, frozen=True):
    """``kind``: differs, behind (an event below the checkpoint is not in), missing (the live table
    has no such item), surplus (the archive gives none)."""

    kind: str
    item: str
    detail: str


class LiveItem(NamedTuple):
    """An item as the live table has it."""

    pk: str
    sk: str
    upto: int
    counters: Mapping[str, int]


def live_row(item: Mapping[str, Any]) -> Row:
    """A scanned item as a row."""
    counters = {name: int(value["N"]) for name, value in item.items() if name not in _KEYS}
    upto = int(item["upto"]["N"]) if "upto" in item else -1
    return item["pk"]["S"], item["sk"]["S"], upto, counters


def differences(live: Iterable[Row], rebuilt: Iterable[ItemRows]) -> Iterator[Difference]:
    """Both in the order of their keys."""
    for seen, made in _side_by_side(live, rebuilt):
        found = _difference(seen, made)
        if found is not None:
            yield found


def _difference(seen: LiveItem | None, made: ItemRows | None) -> Difference | None:
    if made is None:
        assert seen is not None  # noqa: S101 - one of both is there
        return Difference("surplus", f"{seen.pk}|{seen.sk}", f"{_shown(seen.counters)}")
    name = f"{made.pk}|{made.sk}"
    if seen is None:
        if made.settled < 0:
            return None
        wanted = made.up_to(made.settled)
        assert wanted is not None  # noqa: S101 - what is settled is up to there
        return Difference("missing", name, f"expected {_shown(wanted.counters)}")
    if seen.upto < made.settled:
        return Difference(
            "behind", name, f"upto {seen.upto}, the checkpoint is past {made.settled}"
        )
    wanted = made.up_to(seen.upto)
    expected = {} if wanted is None else wanted.counters
    off = {
        counter: (expected.get(counter, 0), seen.counters.get(counter, 0))
        for counter in sorted({*expected, *seen.counters})
        if expected.get(counter, 0) != seen.counters.get(counter, 0)
    }
    if not off:
        return None
    told = ", ".join(f"{counter} {want}, seen {saw}" for counter, (want, saw) in off.items())
    return Difference("differs", name, f"up to offset {seen.upto}: expected {told}")


def _side_by_side(
    live: Iterable[Row], rebuilt: Iterable[ItemRows]
) -> Iterator[tuple[LiveItem | None, ItemRows | None]]:
    seen_items, made_items = map(_live, live), iter(rebuilt)
    seen, made = next(seen_items, None), next(made_items, None)
    while seen is not None or made is not None:
        if made is None or (seen is not None and seen[:2] < made[:2]):
            yield seen, None
            seen = next(seen_items, None)
        elif seen is None or made[:2] < seen[:2]:
            yield None, made
            made = next(made_items, None)
        else:
            yield seen, made
            seen, made = next(seen_items, None), next(made_items, None)


def _live(row: Row) -> LiveItem:
    return LiveItem(*row)


def _shown(counters: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(counters.items()))
