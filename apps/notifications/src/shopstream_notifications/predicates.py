"""What a filter asks of one field of ``data``. Immutable, hashable, equal when they mean the same.

On a field with several values an event holds a predicate when one of them does.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from shopstream_notifications.fields import Field

#: An end of an interval: a number, then 1 (just above it), 0 (it) or -1 (just below it). A value v
#: as (v, 0) is compared with it exactly, as tuples are.
End = tuple[int | Decimal, int]

LOWEST: Final[End] = (Decimal("-Infinity"), 0)
HIGHEST: Final[End] = (Decimal("Infinity"), 0)

#: Texts that need quotes to be themselves.
_SPECIAL: Final = frozenset({"", "null"})


@dataclass(frozen=True, slots=True)
class OneOf:
    """``eq`` and ``in``: None stands for null."""

    field: Field
    wanted: frozenset[str | int | Decimal | None]

    def accepts(self, value: Any) -> bool:
        return value in self.wanted

    def texts(self) -> list[str]:
        """As the query's values, always in the same order."""
        texts = sorted(_text(value) for value in self.wanted)
        return [f"eq.{texts[0]}" if len(texts) == 1 else f"in.{','.join(texts)}"]


@dataclass(frozen=True, slots=True)
class StartsWith:
    """``prefix``: a text that begins with this one; null does not."""

    field: Field
    prefix: str

    def accepts(self, value: Any) -> bool:
        return value is not None and value.startswith(self.prefix)

    def texts(self) -> list[str]:
        """As the query's values."""
        return [f"prefix.{_text(self.prefix)}"]


@dataclass(frozen=True, slots=True)
class Between:
    """``gt ge lt le``: a number from ``low`` to ``high``; null is none."""

    field: Field
    low: End
    high: End

    def accepts(self, value: Any) -> bool:
        return value is not None and self.low <= (value, 0) <= self.high

    def texts(self) -> list[str]:
        """As the query's values."""
        texts = []
        if self.low != LOWEST:
            texts.append(f"{'gt' if self.low[1] else 'ge'}.{self.low[0]}")
        if self.high != HIGHEST:
            texts.append(f"{'lt' if self.high[1] else 'le'}.{self.high[0]}")
        return texts


Predicate = OneOf | StartsWith | Between


def holds(predicate: Predicate, data: Struct) -> bool:
    """Whether an event's fields hold it."""
    return any(predicate.accepts(value) for value in predicate.field.values(data))


def _text(value: str | int | Decimal | None) -> str:
    if value is None:
        return "null"
    if not isinstance(value, str):
        return str(value)
    if value in _SPECIAL or value.startswith('"') or "," in value:
        return msgspec.json.encode(value).decode()
    return value
