"""Queries on data beside their plain meaning: what the filters must agree with, said another way.

``Asked`` is one parameter with what it means, ``plain_meaning`` decides an event by it without
merging, indexing or decoding anything.
"""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from shopstream_notifications import sse
from shopstream_notifications.records import Record
from shopstream_shared.events.registry import EVENT_TYPES

SELLERS = ("s1", "s2")
SUBJECTS = ("a", "b", "c")
WORDS = ("", "a", "ab", "abc", "b", "null", 'a,"b"', '"q', "ä")
NUMBERS = tuple(
    Decimal(text) for text in ("-1", "0", "0.5", "1", "1.5", "2", "3", "9007199254740993")
)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


@dataclass(frozen=True)
class Asked:
    """``data.<path>`` with an operator and its operands, and how they are written."""

    path: str
    operator: str
    operands: tuple[str | Decimal | None, ...]

    @property
    def parameter(self) -> tuple[str, str]:
        return f"data.{self.path}", f"{self.operator}.{','.join(map(_written, self.operands))}"


def event(
    event_type: str, data: Mapping[str, object], *, seller: str = "s1", subject: str = "a"
) -> Record:
    """A record as the consumer makes it, with no more of an envelope than filters look at."""
    return record_of(event_type, _json({"data": data}), seller=seller, subject=subject)


def record_of(
    event_type: str, value: bytes, *, seller: str = "s1", subject: str = "a", offset: int = 0
) -> Record:
    return Record(
        part=(EVENT_TYPES[event_type].topic, 0),
        offset=offset,
        timestamp_ms=0,
        type=event_type,
        seller_id=seller,
        subject=subject,
        block=sse.data_block(value),
    )


def plain_meaning(asked: Sequence[Asked], data: Mapping[str, Any]) -> bool:
    """Whether an event with this data holds all that is asked."""
    return all(any(_holds(entry, v) for v in _values(entry.path, data)) for entry in asked)


def _holds(asked: Asked, value: Any) -> bool:
    if asked.operator in ("eq", "in"):
        return any(type(o) is type(value) and o == value for o in asked.operands)
    operand: Any = asked.operands[0]
    if value is None:
        return False
    if asked.operator == "prefix":
        return str(value).startswith(operand)
    return _COMPARE[asked.operator](value, operand)


def _values(path: str, data: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = [data]
    for name in path.split("."):
        inner = [entry[name] for entry in found if name in entry]
        found = [v for entry in inner for v in (entry if isinstance(entry, list) else [entry])]
    return [Decimal(v) if isinstance(v, int) else v for v in found]


def _written(operand: str | Decimal | None) -> str:
    if operand is None:
        return "null"
    return json.dumps(operand) if isinstance(operand, str) else str(operand)


def _json(value: Any) -> bytes:
    """With decimals as numbers."""
    if isinstance(value, Mapping):
        return b"{" + b",".join(_json(k) + b":" + _json(v) for k, v in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_json, value)) + b"]"
    return str(value).encode() if isinstance(value, Decimal) else json.dumps(value).encode()


_words = st.sampled_from(WORDS)
_whole = st.sampled_from([number for number in NUMBERS if number == int(number)])
_numbers = st.sampled_from(NUMBERS)

#: By path: what an event may have there, among it the absence of the field.
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": _words,
    "sku": st.none() | _words,
    "stock": _whole.map(int),
    "threshold": st.none() | _whole.map(int),
    "price": _numbers,
    "total": _numbers,
    "tags": st.lists(_words, max_size=3),
    "items": st.lists(
        st.fixed_dictionaries({}, optional={"productId": _words, "quantity": _whole.map(int)}),
        max_size=3,
    ),
}


def datas() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=_VALUES)


_OPERANDS: dict[str, st.SearchStrategy[Any]] = {
    "name": _words,
    "sku": st.none() | _words,
    "stock": _whole,
    "threshold": st.none() | _whole,
    "price": _numbers,
    "total": _numbers,
    "tags": _words,
    "items.productId": _words,
    "items.quantity": _whole,
}
_TEXTS = ("name", "sku", "tags", "items.productId")


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """One predicate that its field may be asked."""
    path = draw(st.sampled_from(sorted(_OPERANDS)))
    is_text = path in _TEXTS
    operator = draw(
        st.sampled_from(("eq", "in", *(("prefix",) if is_text else ("gt", "ge", "lt", "le"))))
    )
    if operator == "in":
        return Asked(path, operator, tuple(draw(st.lists(_OPERANDS[path], min_size=1, max_size=4))))
    if operator == "eq":
        return Asked(path, operator, (draw(_OPERANDS[path]),))
    if operator == "prefix":
        return Asked(path, operator, (draw(_words.filter(bool)),))
    return Asked(path, operator, (draw(_numbers),))
