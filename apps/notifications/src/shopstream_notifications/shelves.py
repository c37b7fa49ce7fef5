"""The index of filters that ask for values in ``data``.

A filter lies in the room of its seller and subject, either of them open, so that an event looks
into four rooms at most. In its room it lies under *one* of its predicates, the one that is likely
to hold least often; what is found under an event's values is checked for the others.

- equality: under each of its values;
- prefix: under its text, in a table by length, so that a text is looked up once a length in use;
- bounds: in an interval tree (see ``intervals``).

The last two are kept by event type. Equality is not: it may have many values, types times as many
places would be too much memory, and few events of other types have the same value.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from shopstream_notifications import fields
from shopstream_notifications.fields import Field
from shopstream_notifications.filters import Filter
from shopstream_notifications.intervals import Intervals
from shopstream_notifications.predicates import (
    HIGHEST,
    LOWEST,
    Between,
    OneOf,
    Predicate,
    StartsWith,
    holds,
)
from shopstream_notifications.records import Record
from shopstream_shared.events.registry import EVENT_TYPES

#: A value that so many filters lie under is no longer selective: the next filter tries another.
CROWD: Final = 16

T = TypeVar("T")

_NONE: Final[Sequence[Any]] = ()


class Shelves(Generic[T]):
    """Members by their filters; a member is compared by identity."""

    def __init__(self) -> None:
        self._rooms: dict[tuple[str | None, str | None], _Room[T]] = {}
        self._entries: dict[Filter, _Entry[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, wanted: Filter, member: T) -> None:
        """``wanted`` has predicates on data, and no other member has an equal one."""
        room = self._rooms.setdefault((wanted.seller_id, wanted.subject), _Room())
        under = room.likely_rarest(wanted.data)
        entry = self._entries[wanted] = _Entry(member, wanted, under)
        room.add(entry)

    def remove(self, wanted: Filter) -> None:
        """Take out what was added for this filter. Raises KeyError."""
        room = self._rooms[wanted.seller_id, wanted.subject]
        room.remove(self._entries.pop(wanted))
        if not room:
            del self._rooms[wanted.seller_id, wanted.subject]

    def matching(self, record: Record) -> list[T]:
        """Members whose filters match, each once."""
        seller, subject = record.seller_id, record.subject
        rooms = [
            room
            for key in ((None, None), (seller, None), (None, subject), (seller, subject))
            if (room := self._rooms.get(key)) is not None and record.type in room.types
        ]
        data = fields.read(record.block) if rooms else None
        if data is None:
            return []
        found: dict[_Entry[T], None] = {}
        for room in rooms:
            room.look_up(record.type, data, found)
        return [entry.member for entry in found if entry.accepts(record.type, data)]


class _Entry(Generic[T]):
    """A member, and what is left to check once it has been found."""

    __slots__ = ("member", "rest", "types", "under")

    def __init__(self, member: T, wanted: Filter, under: Predicate) -> None:
        self.member = member
        self.types = frozenset(EVENT_TYPES) if wanted.types is None else wanted.types
        self.under = under
        self.rest = tuple(p for p in wanted.data if p is not under)

    def accepts(self, event_type: str, data: Struct) -> bool:
        return event_type in self.types and all(holds(p, data) for p in self.rest)


class _Room(Generic[T]):
    """All filters of one seller and subject."""

    def __init__(self) -> None:
        self._equal: dict[Field, dict[Any, list[_Entry[T]]]] = {}
        self._ranges: dict[str, dict[Field, _Ranges[T]]] = {}
        #: How many filters ask for each type: events of others need not be read.
        self.types: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self.types)

    def likely_rarest(self, predicates: Iterable[Predicate]) -> Predicate:
        """An equality that is not crowded, else a prefix, else bounds, else what there is."""
        return min(predicates, key=lambda p: (self._rank(p), p.field.path))

    def _rank(self, predicate: Predicate) -> tuple[int, int]:
        if isinstance(predicate, StartsWith):
            return 1, -len(predicate.prefix)
        if isinstance(predicate, Between):
            return 2, (predicate.low == LOWEST) + (predicate.high == HIGHEST)
        by_value = self._equal.get(predicate.field, {})
        crowd = max(len(by_value.get(value, ())) for value in predicate.wanted)
        return (0, len(predicate.wanted)) if crowd < CROWD else (3, crowd)

    def add(self, entry: "_Entry[T]") -> None:
        under = entry.under
        self.types.update(entry.types)
        if isinstance(under, OneOf):
            by_value = self._equal.setdefault(under.field, {})
            for value in under.wanted:
                by_value.setdefault(value, []).append(entry)
            return
        for event_type in entry.types:
            by_field = self._ranges.setdefault(event_type, {})
            by_field.setdefault(under.field, _Ranges()).add(under, entry)

    def remove(self, entry: "_Entry[T]") -> None:
        under = entry.under
        for event_type in entry.types:
            self.types[event_type] -= 1
            if not self.types[event_type]:
                del self.types[event_type]
        if isinstance(under, OneOf):
            by_value = self._equal[under.field]
            for value in under.wanted:
                _take(by_value, value, entry)
            if not by_value:
                del self._equal[under.field]
            return
        for event_type in entry.types:
            by_field = self._ranges[event_type]
            by_field[under.field].remove(under, entry)
            if not by_field[under.field]:
                del by_field[under.field]
            if not by_field:
                del self._ranges[event_type]

    def look_up(self, event_type: str, data: Struct, found: "dict[_Entry[T], None]") -> None:
        """Add the entries that the event's values lead to."""
        for field, by_value in self._equal.items():
            for value in field.values(data):
                found.update(dict.fromkeys(by_value.get(value, _NONE)))
        for field, ranges in self._ranges.get(event_type, {}).items():
            for value in field.values(data):
                if value is not None:
                    found.update(dict.fromkeys(ranges.holding(value)))


class _Ranges(Generic[T]):
    """Prefixes, or intervals: a field is a text or a number."""

    def __init__(self) -> None:
        #: By length, then by prefix.
        self._prefixes: dict[int, dict[str, list[_Entry[T]]]] = {}
        self._intervals: Intervals[_Entry[T]] = Intervals()

    def __bool__(self) -> bool:
        return bool(self._prefixes or self._intervals)

    def add(self, under: StartsWith | Between, entry: "_Entry[T]") -> None:
        if isinstance(under, Between):
            self._intervals.add(under, entry)
            return
        same_length = self._prefixes.setdefault(len(under.prefix), {})
        same_length.setdefault(under.prefix, []).append(entry)

    def remove(self, under: StartsWith | Between, entry: "_Entry[T]") -> None:
        if isinstance(under, Between):
            self._intervals.remove(under, entry)
            return
        same_length = self._prefixes[len(under.prefix)]
        _take(same_length, under.prefix, entry)
        if not same_length:
            del self._prefixes[len(under.prefix)]

    def holding(self, value: Any) -> Iterable["_Entry[T]"]:
        """Entries whose prefix or interval holds the value, which is not null."""
        if self._intervals:
            return self._intervals.holding(value)
        return [
            entry
            for length, same_length in self._prefixes.items()
            for entry in same_length.get(value[:length], ())
        ]


def _take(places: "dict[Any, list[_Entry[T]]]", key: Any, entry: "_Entry[T]") -> None:
    """Take one out, and its place when that is then empty."""
    places[key].remove(entry)
    if not places[key]:
        del places[key]
