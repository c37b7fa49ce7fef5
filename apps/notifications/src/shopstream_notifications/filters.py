"""Which events a client wants: compiled once, compared by value, so that equal filters share work.

A filter is a set of types, a seller, a subject and predicates on ``data``, joined by *and*. Unknown
types and malformed patterns are refused, because a filter that silently matches nothing looks like
a dead stream. The same filter decides live, in replays from memory and in replays from the broker.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shopstream_notifications import fields
from shopstream_notifications.data_filters import PARAMETER, compile_data
from shopstream_notifications.errors import BadFilter
from shopstream_notifications.predicates import OneOf, Predicate, holds
from shopstream_notifications.records import Record
from shopstream_shared.events.registry import EVENT_TYPES

#: Seller ids are at most 64 characters, subjects are UUIDs; longer values match nothing.
VALUE_LENGTH_MAX: Final = 256
PATTERNS_MAX: Final = 64

_ALL_TYPES: Final = frozenset(EVENT_TYPES)
_PREFIX: Final = re.compile(r"[a-z_]+(\.[a-z_]+)*\.\*")


@dataclass(frozen=True, slots=True)
class Filter:
    """None in a member means: any. ``data`` is in normal form."""

    types: frozenset[str] | None = None
    seller_id: str | None = None
    subject: str | None = None
    data: frozenset[Predicate] = frozenset()

    def matches(self, record: Record) -> bool:
        """An event whose data cannot be read holds no predicate on it."""
        return (
            (self.types is None or record.type in self.types)
            and (self.seller_id is None or record.seller_id == self.seller_id)
            and (self.subject is None or record.subject == self.subject)
            and (not self.data or self._holds(record))
        )

    def _holds(self, record: Record) -> bool:
        data = fields.read(record.block)
        return data is not None and all(holds(predicate, data) for predicate in self.data)

    def parameters(self) -> list[tuple[str, str]]:
        """The query that gives this filter, always in the same order."""
        routing = (
            ("types", ",".join(sorted(self.types or ()))),
            ("sellerId", self.seller_id or ""),
            ("subject", self.subject or ""),
        )
        data = [(PARAMETER + p.field.path, text) for p in self.data for text in p.texts()]
        return [(name, text) for name, text in routing if text] + sorted(data)


def compile_filter(
    types: str, seller_id: str, subject: str, data: Iterable[tuple[str, str]] = ()
) -> Filter:
    """From the query's texts; an empty one counts as absent. ``data``: (parameter, text) pairs.

    Raises BadFilter.
    """
    predicates = compile_data(data)
    return Filter(
        _carrying(predicates, _types(types) if types else None),
        _value("sellerId", seller_id),
        _value("subject", subject),
        predicates,
    )


def _carrying(
    predicates: frozenset[Predicate], types: frozenset[str] | None
) -> frozenset[str] | None:
    """The types that have all the fields: naming the others is the same wish."""
    wanted = types
    for predicate in sorted(predicates, key=lambda p: p.field.path):
        carrying = predicate.field.types & (wanted or _ALL_TYPES)
        if not carrying:
            raise BadFilter(
                PARAMETER + predicate.field.path,
                "no event of the types asked for has this field beside the others; "
                f"it is in {', '.join(sorted(predicate.field.types))}",
            )
        wanted = carrying
    for predicate in predicates:
        _refuse_strange_words(predicate, wanted or _ALL_TYPES)
    return None if wanted == _ALL_TYPES else wanted


def _refuse_strange_words(predicate: Predicate, types: frozenset[str]) -> None:
    """Of a status that orders have and products do not, on products. Raises BadFilter."""
    field = predicate.field
    if not field.words or not isinstance(predicate, OneOf):
        return
    words = frozenset[str]().union(*(field.words.get(name, ()) for name in types))
    if predicate.wanted.isdisjoint({*words, None}):
        raise BadFilter(
            PARAMETER + field.path,
            f"in the types asked for {field.path} is one of {', '.join(sorted(words))}",
        )


def _types(text: str) -> frozenset[str] | None:
    patterns = text.split(",")
    if len(patterns) > PATTERNS_MAX:
        raise BadFilter("types", f"at most {PATTERNS_MAX} patterns")
    wanted = frozenset[str]().union(*(_expand(pattern.strip(" ")) for pattern in patterns))
    # Naming all types is the same wish as naming none: one group serves both.
    return None if wanted == _ALL_TYPES else wanted


def _expand(pattern: str) -> frozenset[str]:
    if pattern == "*":
        return _ALL_TYPES
    if pattern in _ALL_TYPES:
        return frozenset((pattern,))
    if _PREFIX.fullmatch(pattern):
        found = frozenset(name for name in _ALL_TYPES if name.startswith(pattern[:-1]))
        if found:
            return found
    raise BadFilter(
        "types", f"{pattern[:80]!r} is neither a known type, nor prefix.* of one, nor *"
    )


def _value(parameter: str, text: str) -> str | None:
    if len(text) > VALUE_LENGTH_MAX:
        raise BadFilter(parameter, f"at most {VALUE_LENGTH_MAX} characters")
    return text or None
