"""The fields of ``data`` that filters can name, and their values in an event.

The table is made from the payload Structs: a field that is added there can be filtered on. Kinds
decide how a query's text is read, so that nothing is guessed from how a value looks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType, inspect

from shopstream_notifications import sse
from shopstream_shared.events.registry import EVENT_TYPES

#: Events whose fields are kept: two turns of a replay from memory.
KEPT_MAX: Final = 1_024
#: Larger ones are read anew each time: a product with its description, or some lines of an order.
KEPT_BYTES_MAX: Final = 4_096

#: Everything the decoder raises for bytes that are no event of ours.
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)


class Kind(StrEnum):
    """How a field's values are compared; a number may have decimals, an integer has none."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"


_KINDS: Final[Mapping[type[inspect.Type], Kind]] = {
    inspect.StrType: Kind.TEXT,
    inspect.LiteralType: Kind.TEXT,
    inspect.IntType: Kind.INTEGER,
    inspect.DecimalType: Kind.NUMBER,
}
_SHAPES: Final[Mapping[Kind, Any]] = {
    Kind.TEXT: str | None | UnsetType,
    Kind.INTEGER: int | None | UnsetType,
    Kind.NUMBER: Decimal | None | UnsetType,
}


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One path; there is one object a path, so that it is compared and hashed by identity.

    ``choices`` are all texts the field ever has, if its schema says so, ``words`` those in one
    event type. ``many``: the path leads through a list, an event has any number of values.
    ``types`` are the event types that carry it.
    """

    path: str
    kind: Kind
    nullable: bool
    choices: frozenset[str]
    many: bool
    types: frozenset[str]
    words: Mapping[str, frozenset[str]]

    def values(self, data: Struct) -> Sequence[Any]:
        """None stands for null; empty when the event has no such field."""
        if not self.many:
            value = getattr(data, self.path)
            return () if value is UNSET else (value,)
        name, _, inner = self.path.partition(".")
        elements = getattr(data, name)
        if not inner:
            return elements  # type: ignore[no-any-return]  # a list, by the decoder's shape
        values = [getattr(element, inner) for element in elements]
        return [value for value in values if value is not UNSET]


def read(block: bytes) -> Struct | None:
    """The fields of an encoded event (see ``sse.data_block``); None when it cannot be read.

    The last ones are kept: clients that come back together are replayed the same events.
    """
    return _read_or_kept(block) if len(block) <= KEPT_BYTES_MAX else _read(block)


def _read(block: bytes) -> Struct | None:
    try:
        return _decoder.decode(sse.value_of(block)).data  # type: ignore[no-any-return]  # a Struct made below
    except _UNREADABLE:
        return None


_read_or_kept: Final = lru_cache(KEPT_MAX)(_read)


def _described() -> dict[str, list[tuple[str, inspect.Type, bool]]]:
    """By path: each event type that carries it, what it is there, and whether in a list."""
    found: dict[str, list[tuple[str, inspect.Type, bool]]] = {}
    for event_type, kind in EVENT_TYPES.items():
        for entry in _members(kind.payload):
            shape = entry.type
            if not isinstance(shape, inspect.VarTupleType):
                found.setdefault(entry.encode_name, []).append((event_type, shape, False))
            elif isinstance(shape.item_type, inspect.StructType):
                for inner in shape.item_type.fields:
                    path = f"{entry.encode_name}.{inner.encode_name}"
                    found.setdefault(path, []).append((event_type, inner.type, True))
            else:
                entries = found.setdefault(entry.encode_name, [])
                entries.append((event_type, shape.item_type, True))
    return found


def _members(payload: type[Struct]) -> tuple[inspect.Field, ...]:
    described = inspect.type_info(payload)
    assert isinstance(described, inspect.StructType)  # noqa: S101 - for the type checker
    return described.fields


def _field(path: str, places: list[tuple[str, inspect.Type, bool]]) -> Field:
    """Raises TypeError for a field that filters cannot compare, or that is not the same in all."""
    kinds: set[Kind] = set()
    choices: dict[str, set[str]] = {}
    nullable = is_open = False
    for event_type, place, _ in places:
        for shape in _alternatives(place):
            if isinstance(shape, inspect.NoneType):
                nullable = True
            elif type(shape) in _KINDS:
                kinds.add(_KINDS[type(shape)])
                words = shape.values if isinstance(shape, inspect.LiteralType) else ()
                choices.setdefault(event_type, set()).update(str(word) for word in words)
                is_open = is_open or not words
            else:
                msg = f"data.{path}: filters do not know {shape}"
                raise TypeError(msg)
    (kind,) = kinds
    (many,) = {many for _, _, many in places}
    types = frozenset(event_type for event_type, _, _ in places)
    by_type = {} if is_open else {name: frozenset(words) for name, words in choices.items()}
    every = frozenset[str]().union(*by_type.values())
    return Field(path, kind, nullable, every, many, types, by_type)


def _alternatives(shape: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(shape, inspect.Metadata):
        return _alternatives(shape.type)
    if isinstance(shape, inspect.UnionType):
        return tuple(inner for entry in shape.types for inner in _alternatives(entry))
    return (shape,)


def _shape() -> type[Struct]:
    """An event with the fields of the table only: reading the rest would cost and could fail."""
    top: list[tuple[str, Any, Any]] = []
    inner: dict[str, list[tuple[str, Any, Any]]] = {}
    for field in FIELDS.values():
        name, _, rest = field.path.partition(".")
        if rest:
            inner.setdefault(name, []).append((rest, _SHAPES[field.kind], UNSET))
        elif field.many:
            top.append((name, list[str], msgspec.field(default_factory=list)))
        else:
            top.append((name, _SHAPES[field.kind], UNSET))
    for name, members in inner.items():
        element = msgspec.defstruct(name, members)
        top.append((name, list[element], msgspec.field(default_factory=list)))  # type: ignore[valid-type]  # made above
    return msgspec.defstruct("Event", [("data", msgspec.defstruct("Data", top))])


FIELDS: Final[Mapping[str, Field]] = {
    path: _field(path, places) for path, places in sorted(_described().items())
}
_decoder: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(_shape())
