"""Which events a client wants: compiled once, compared by value, so that equal filters share work.

A filter is a set of types, a seller and a subject, joined by *and*. Unknown types and malformed
patterns are refused, because a filter that silently matches nothing looks like a dead stream.
"""

import re
from dataclasses import dataclass
from typing import Final

from shopstream_notifications.records import Record
from shopstream_shared.events.registry import EVENT_TYPES

#: Seller ids are at most 64 characters, subjects are UUIDs; longer values match nothing.
VALUE_LENGTH_MAX: Final = 256
PATTERNS_MAX: Final = 64

_ALL_TYPES: Final = frozenset(EVENT_TYPES)
_PREFIX: Final = re.compile(r"[a-z_]+(\.[a-z_]+)*\.\*")


class BadFilter(ValueError):
    """A query parameter is not a filter. ``parameter`` names it."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Filter:
    """None in a member means: any."""

    types: frozenset[str] | None = None
    seller_id: str | None = None
    subject: str | None = None

    def matches(self, record: Record) -> bool:
        return (
            (self.types is None or record.type in self.types)
            and (self.seller_id is None or record.seller_id == self.seller_id)
            and (self.subject is None or record.subject == self.subject)
        )


def compile_filter(types: str, seller_id: str, subject: str) -> Filter:
    """From the query's texts; an empty one counts as absent. Raises BadFilter."""
    return Filter(
        _types(types) if types else None,
        _value("sellerId", seller_id),
        _value("subject", subject),
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
