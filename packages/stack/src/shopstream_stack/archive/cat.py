"""`archive cat`: archived lines, or the events in them, as they are stored, byte for byte."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from shopstream_shared.archive.keys import ObjectKey, Place
from shopstream_shared.archive.lines import event_in
from shopstream_shared.archive.reader import Broken, Bucket, Walk, generations, index_of
from shopstream_stack.errors import StackError

_HOUR_MS: Final = 3_600_000
#: An object is named after its first line's hour, later lines may be older: by at most this much,
#: or `--until` would have to read everything that came after.
CLOCK_BACK_MS_MAX: Final = 24 * _HOUR_MS


class _Time(msgspec.Struct):
    timestamp: int


_time: Final = msgspec.json.Decoder(_Time).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What of a topic: offsets in [begin, end), Kafka timestamps in [since, until), in ms."""

    topic: str
    partition: int | None = None
    generation: int | None = None
    begin: int = 0
    end: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None


def lines(bucket: Bucket, cut: Cut) -> Iterator[list[bytes]]:
    """The lines, a partition after the other, in offset order, some at a time.

    Raises StackError at the first thing that is wrong with what is read.
    """
    lives = generations(bucket) if cut.generation is None else [cut.generation]
    for life in lives:
        index = index_of(bucket, [cut.topic], life)
        for _, place in index.chains():
            if cut.partition in {None, place.partition}:
                keys = list(_needed(list(index.keys(place, life, cut.begin)), cut))
                try:
                    yield from _partition(bucket, place, keys, cut)
                except Broken as error:
                    raise StackError(f"{place}: {error}; see `shopstream archive verify`") from None


def events(some: list[bytes]) -> Iterator[bytes]:
    """The events of lines; a record that is none is left out."""
    for line in some:
        event = event_in(line)
        if event is not None:
            yield event


def _partition(bucket: Bucket, place: Place, keys: list[str], cut: Cut) -> Iterator[list[bytes]]:
    walk = Walk(bucket, place)
    timed = cut.since_ms is not None or cut.until_ms is not None
    since, until = cut.since_ms or 0, cut.until_ms
    for some in walk.lines(keys, begin=cut.begin, end=cut.end):
        kept = some.lines
        if timed:
            kept = [
                line
                for line in kept
                if (at := _time(line).timestamp) >= since and (until is None or at < until)
            ]
        if kept:
            yield kept


def _needed(keys: list[str], cut: Cut) -> Iterator[str]:
    """A stretch of the chain: from the first to the last object that may hold what is wanted."""
    read = [ObjectKey.read(key) for key in keys]
    needed = [
        number
        for number, key in enumerate(read)
        if (cut.end is None or key.first < cut.end)
        and (cut.since_ms is None or (key.hour + 1) * _HOUR_MS > cut.since_ms)
        and (cut.until_ms is None or key.hour * _HOUR_MS < cut.until_ms + CLOCK_BACK_MS_MAX)
    ]
    if needed:
        yield from keys[needed[0] : needed[-1] + 1]
