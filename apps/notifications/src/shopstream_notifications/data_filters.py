"""The query's ``data.<path>=<op>.<value>``: read by the field's kind, merged to a normal form.

What can never match is refused with the words to write instead: silence would look like a dead
stream. Two queries that mean the same give equal predicates, so that their clients share a group.
"""

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import msgspec

from shopstream_notifications.errors import BadFilter
from shopstream_notifications.fields import FIELDS, Field, Kind
from shopstream_notifications.predicates import (
    HIGHEST,
    LOWEST,
    Between,
    End,
    OneOf,
    Predicate,
    StartsWith,
)

PARAMETER: Final = "data."
PREDICATES_MAX: Final = 16
#: All of a filter's ``eq`` and ``in`` together: a page of a list is at most 100 products.
VALUES_MAX: Final = 100
#: Characters of one text, after its quotes are taken off.
TEXT_LENGTH_MAX: Final = 256
#: Digits, sign and point: far more than 10^18 with its decimals needs.
NUMBER_LENGTH_MAX: Final = 32
#: Characters of one parameter, before anything else is looked at.
PREDICATE_LENGTH_MAX: Final = 16_384
#: Of what the client wrote so much is repeated to it.
ECHO_LENGTH_MAX: Final = 80

_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_ELEMENT: Final = re.compile(r'("(?:[^"\\]|\\.)*"|[^",][^,]*),')
_EQUALITIES: Final = frozenset({"eq", "in"})
_BOUNDS: Final = frozenset({"gt", "ge", "lt", "le"})
_OPERATORS: Final = {
    Kind.TEXT: ("eq", "in", "prefix"),
    Kind.INTEGER: ("eq", "in", "gt", "ge", "lt", "le"),
    Kind.NUMBER: ("eq", "in", "gt", "ge", "lt", "le"),
}

_Value = str | int | Decimal | None


def compile_data(asked: Iterable[tuple[str, str]]) -> frozenset[Predicate]:
    """From (parameter, text) pairs to the predicates' normal form. Raises BadFilter."""
    pairs = list(asked)
    if len(pairs) > PREDICATES_MAX:
        raise BadFilter("data", f"at most {PREDICATES_MAX} predicates on data")
    by_field: dict[Field, list[Predicate]] = {}
    count = 0
    for parameter, text in pairs:
        predicate = _predicate(parameter, text)
        by_field.setdefault(predicate.field, []).append(predicate)
        count += len(predicate.wanted) if isinstance(predicate, OneOf) else 0
    if count > VALUES_MAX:
        raise BadFilter("data", f"at most {VALUES_MAX} values in all; split the stream in two")
    found: set[Predicate] = set()
    for field, predicates in by_field.items():
        # The elements of a list may hold one each; a single value must hold them all.
        found.update(predicates if field.many else (_merged(field, predicates),))
    return frozenset(found)


def _predicate(parameter: str, text: str) -> Predicate:
    name = parameter[: ECHO_LENGTH_MAX + len(PARAMETER)]
    field = FIELDS.get(parameter.removeprefix(PARAMETER))
    if field is None:
        raise BadFilter(name, f"no event carries this field; there are {', '.join(FIELDS)}")
    if len(text) > PREDICATE_LENGTH_MAX:
        raise BadFilter(name, f"at most {PREDICATE_LENGTH_MAX} characters")
    operator, point, operand = text.partition(".")
    allowed = _OPERATORS[field.kind]
    if not point or operator not in allowed:
        raise BadFilter(
            name,
            f"{_no_operator(operator, point, text)}; "
            f"a field that is {_a(field.kind)} takes {', '.join(allowed)}, as in {allowed[0]}.…",
        )
    try:
        return _read(field, operator, operand)
    except ValueError as error:
        raise BadFilter(name, str(error)) from None


def _no_operator(operator: str, point: str, text: str) -> str:
    if point and any(operator in known for known in _OPERATORS.values()):
        return f"{operator} does not fit this field"
    return f"{text[:ECHO_LENGTH_MAX]!r} does not begin with an operator and a point"


def _read(field: Field, operator: str, operand: str) -> Predicate:
    """Raises ValueError with what is wrong and what to write."""
    if operator in _EQUALITIES:
        texts = _elements(operand) if operator == "in" else [operand]
        return OneOf(field, frozenset(_value(field, text) for text in texts))
    if operator in _BOUNDS:
        return _interval(field, operator, _number(operand))
    prefix = _unquoted(operand)
    if not prefix:
        raise ValueError("every text begins with an empty prefix; leave the parameter out")
    if not field.choices:
        return StartsWith(field, prefix)
    wanted = frozenset(word for word in field.choices if word.startswith(prefix))
    if not wanted:
        raise ValueError(_not_one_of(field, prefix))
    return OneOf(field, wanted)


def _elements(operand: str) -> list[str]:
    """The texts between commas; quotes are kept, with the commas inside them."""
    texts: list[str] = []
    # Each element ends with a comma: so there is one form of it only, and none is left over.
    operand += ","
    at = 0
    while at < len(operand):
        match = _ELEMENT.match(operand, at)
        if match is None:
            raise ValueError(
                'an element is empty or goes on after its quotes; write in.a,"b, c",""'
            )
        texts.append(match[1])
        at = match.end()
    return texts


def _value(field: Field, text: str) -> _Value:
    if text == "null":
        if field.nullable:
            return None
        raise ValueError(f'{field.path} is never null; for the text write "null" in quotes')
    if field.kind is Kind.TEXT:
        word = _unquoted(text)
        if field.choices and word not in field.choices:
            raise ValueError(_not_one_of(field, word))
        return word
    number = _number(text)
    if field.kind is Kind.INTEGER and not isinstance(number, int):
        raise ValueError(f"{field.path} has whole numbers only; {text} is none of them")
    return number


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        try:
            text = msgspec.json.decode(text, type=str)
        except msgspec.MsgspecError:
            raise ValueError(
                'a text that begins with a quote is a JSON string, as in "b, \\"c\\""'
            ) from None
    elif not text:
        raise ValueError('nothing follows the operator; the empty text is ""')
    if len(text) > TEXT_LENGTH_MAX:
        raise ValueError(f"a text has at most {TEXT_LENGTH_MAX} characters")
    return text


def _number(text: str) -> int | Decimal:
    if len(text) > NUMBER_LENGTH_MAX or not _NUMBER.fullmatch(text):
        raise ValueError(
            f"{text[:ECHO_LENGTH_MAX]!r} is not a number of at most {NUMBER_LENGTH_MAX} "
            "characters, as in -3 or 12.50"
        )
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0")
    return Decimal(f"{whole}.{decimals}") if decimals else int(whole)


def _interval(field: Field, operator: str, bound: int | Decimal) -> Between:
    if operator in ("gt", "ge"):
        low: End = (bound, 1 if operator == "gt" else 0)
        if field.kind is Kind.INTEGER:
            low = (math.floor(bound) + 1 if operator == "gt" else math.ceil(bound), 0)
        return Between(field, low, HIGHEST)
    high: End = (bound, -1 if operator == "lt" else 0)
    if field.kind is Kind.INTEGER:
        high = (math.ceil(bound) - 1 if operator == "lt" else math.floor(bound), 0)
    return Between(field, LOWEST, high)


def _merged(field: Field, predicates: list[Predicate]) -> Predicate:
    """All of them as one. Raises BadFilter when nothing can hold them together."""
    lists = [p.wanted for p in predicates if isinstance(p, OneOf)]
    others = [p for p in predicates if not isinstance(p, OneOf)]
    if lists:
        wanted = frozenset.intersection(*lists)
        wanted = frozenset(v for v in wanted if all(p.accepts(v) for p in others))
        if wanted:
            return OneOf(field, wanted)
    elif field.kind is Kind.TEXT:
        prefix = max((p.prefix for p in others if isinstance(p, StartsWith)), key=len)
        if all(p.accepts(prefix) for p in others):
            return StartsWith(field, prefix)
    else:
        low = max(p.low for p in others if isinstance(p, Between))
        high = min(p.high for p in others if isinstance(p, Between))
        if low == high:
            return OneOf(field, frozenset({low[0]}))
        if low < high:
            return Between(field, low, high)
    raise BadFilter(
        PARAMETER + field.path, "no value can hold all that is asked of it; leave one of them out"
    )


def _not_one_of(field: Field, word: str) -> str:
    return (
        f"{field.path} is never {word[:ECHO_LENGTH_MAX]!r}; "
        f"it is one of {', '.join(sorted(field.choices))}"
    )


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind is Kind.INTEGER else f"a {kind}"
