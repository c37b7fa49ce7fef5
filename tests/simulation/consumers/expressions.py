"""The part of DynamoDB's expressions that the service writes; anything else is an error.

Conditions: terms joined by ``OR``, each ``attribute_not_exists(a)`` or a comparison of an attribute
with a value. Updates: ``SET a = :v``, ``SET a = if_not_exists(a, :v)``, ``ADD a :v``.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Item = dict[str, Any]

_ABSENT: Final = re.compile(r"attribute_not_exists\((#?\w+)\)")
_COMPARED: Final = re.compile(r"(#?\w+) (=|<|<=) (:\w+)")
_CLAUSE: Final = re.compile(r"(SET|ADD) (.+?)(?= SET | ADD |$)")
#: A comma, but not the one inside of if_not_exists.
_COMMA: Final = re.compile(r", (?![^(]*\))")
_SET: Final = re.compile(r"(#?\w+) = (?:if_not_exists\((#?\w+), (:\w+)\)|(:\w+))")
_ADD: Final = re.compile(r"(#?\w+) (:\w+)")
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
}


class NotUnderstood(AssertionError):
    """An expression that is not modelled here: the model is to be extended."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The names and values that a call's expressions speak of."""

    names: Mapping[str, str]
    values: Mapping[str, Any]

    @classmethod
    def of(cls, call: Mapping[str, Any]) -> "Terms":
        return cls(
            call.get("ExpressionAttributeNames", {}), call.get("ExpressionAttributeValues", {})
        )

    def name(self, token: str) -> str:
        return self.names[token] if token.startswith("#") else token

    def holds(self, condition: str | None, item: Item | None) -> bool:
        """Whether the condition holds for the item, None for none."""
        if condition is None:
            return True
        return any(self._term(term, item or {}) for term in condition.split(" OR "))

    def _term(self, term: str, item: Item) -> bool:
        if (absent := _ABSENT.fullmatch(term)) is not None:
            return self.name(absent[1]) not in item
        if (compared := _COMPARED.fullmatch(term)) is None:
            raise NotUnderstood(term)
        found, wanted = item.get(self.name(compared[1])), self.values[compared[3]]
        # What is missing, or of another type, compares as false.
        if found is None or found.keys() != wanted.keys():
            return False
        return _COMPARISONS[compared[2]](plain(found), plain(wanted))

    def updated(self, expression: str, item: Item) -> Item:
        """The item after the update."""
        result = dict(item)
        rest = _CLAUSE.sub("", expression).strip()
        if rest:
            raise NotUnderstood(expression)
        for kind, parts in _CLAUSE.findall(expression):
            for part in _COMMA.split(parts.strip()):
                (self._set if kind == "SET" else self._add)(part, item, result)
        return result

    def _set(self, part: str, before: Item, result: Item) -> None:
        if (found := _SET.fullmatch(part)) is None:
            raise NotUnderstood(part)
        name, other, default, value = found.groups()
        if value is not None:
            result[self.name(name)] = self.values[value]
        else:
            result[self.name(name)] = before.get(self.name(other), self.values[default])

    def _add(self, part: str, before: Item, result: Item) -> None:
        if (found := _ADD.fullmatch(part)) is None:
            raise NotUnderstood(part)
        name, amount = self.name(found[1]), int(self.values[found[2]]["N"])
        result[name] = {"N": str(int(before.get(name, {"N": "0"})["N"]) + amount)}


def plain(value: Mapping[str, Any]) -> Any:
    """A number or a text as Python has it."""
    [(kind, content)] = value.items()
    return int(content) if kind == "N" else content
