"""Reading a JSON object member by member, gathering every fault instead of stopping at the first.

Texts are stored and returned as they were sent; nothing is trimmed or normalised.
"""

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final

from msgspec import UNSET, UnsetType

from shopstream_api.errors import Fault, ValidationFailed

SELLER_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MISSING: Final = object()


class Members:
    """One JSON object. Readers return UNSET for an absent or faulty member and note the fault."""

    def __init__(
        self,
        body: object,
        *,
        known: Collection[str],
        read_only: Collection[str] = (),
        pointer: str = "",
        faults: list[Fault] | None = None,
    ) -> None:
        self.faults: list[Fault] = [] if faults is None else faults
        self._pointer = pointer
        self._body: Mapping[str, object] = {}
        self._is_object = isinstance(body, dict)
        if not isinstance(body, dict):
            self.fault("", "wrong_type", "must be a JSON object")
            return
        self._body = body
        for name in body.keys() - set(known):
            if name in read_only:
                self.fault(name, "read_only", "is set by the server")
            else:
                self.fault(name, "unknown_member", "is not a member of this body")

    def fault(self, name: str, code: str, detail: str) -> UnsetType:
        pointer = f"{self._pointer}/{_escaped(name)}" if name else self._pointer
        self.faults.append(Fault(pointer, code, detail))
        return UNSET

    def __contains__(self, name: str) -> bool:
        return name in self._body

    def done(self) -> None:
        """Raises ValidationFailed when any member was at fault."""
        if self.faults:
            raise ValidationFailed(self.faults)

    def value(self, name: str, *, required: bool = False) -> object:
        """The member as it is; UNSET when absent, which is a fault if it is required."""
        found = self._body.get(name, _MISSING)
        if found is not _MISSING:
            return found
        # What is no object at all has been told so.
        if not required or not self._is_object:
            return UNSET
        return self.fault(name, "required", "is required")

    def text(
        self,
        name: str,
        *,
        length_max: int,
        required: bool = False,
        blank: bool = True,
        lines: bool = False,
        trimmed: bool = False,
    ) -> str | UnsetType:
        """A string; ``trimmed``: its length is counted without the space around it.

        That space may be as long again, no longer: it is stored and travels with every event.
        """
        found = self.value(name, required=required)
        if isinstance(found, UnsetType):
            return UNSET
        if not isinstance(found, str):
            return self.fault(name, "wrong_type", "must be a string")
        fault = text_fault(found, length_max=length_max, blank=blank, lines=lines, trimmed=trimmed)
        return found if fault is None else self.fault(name, *fault)

    def nullable_text(
        self, name: str, *, length_max: int, lines: bool = False, blank: bool = True
    ) -> str | UnsetType | None:
        """A string or null."""
        if self._body.get(name, _MISSING) is None:
            return None
        return self.text(name, length_max=length_max, lines=lines, blank=blank)

    def whole(self, name: str, *, low: int, high: int, required: bool = False) -> int | UnsetType:
        """A whole number within bounds; ``2.0`` is one."""
        found = self.value(name, required=required)
        if isinstance(found, UnsetType):
            return UNSET
        if isinstance(found, bool) or not isinstance(found, int | Decimal):
            return self.fault(name, "wrong_type", "must be a whole number")
        # Outside its bounds a number may be too long to be made whole.
        if -high <= found <= high and found != int(found):
            return self.fault(name, "wrong_type", "must be a whole number")
        if not low <= found <= high:
            return self.fault(name, "out_of_range", f"must be from {low} to {high}")
        return int(found)

    def number(self, name: str, *, required: bool = False) -> Decimal | UnsetType:
        """A number, exactly as written."""
        found = self.value(name, required=required)
        if isinstance(found, UnsetType):
            return UNSET
        if isinstance(found, bool) or not isinstance(found, int | Decimal):
            return self.fault(name, "wrong_type", "must be a number")
        return Decimal(found)

    def flag(self, name: str) -> bool:
        """True or false; false when absent or at fault."""
        found = self.value(name)
        if isinstance(found, bool):
            return found
        if found is not UNSET:
            self.fault(name, "wrong_type", "must be true or false")
        return False

    def seller(self, name: str, *, required: bool = False) -> str | UnsetType:
        """A seller's id."""
        found = self.value(name, required=required)
        if isinstance(found, UnsetType):
            return UNSET
        if not isinstance(found, str) or not SELLER_ID.fullmatch(found):
            return self.fault(name, "invalid", "must be 1-64 of A-Z a-z 0-9 . _ : -")
        return found


def text_fault(
    text: str, *, length_max: int, blank: bool, lines: bool, trimmed: bool
) -> tuple[str, str] | None:
    """What is wrong with a text, as (code, detail), or None."""
    if len(text.strip() if trimmed else text) > length_max or len(text) > 2 * length_max:
        return "too_long", f"must have at most {length_max} characters"
    if not blank and not text.strip():
        return "blank", "must not be blank"
    if "\x00" in text:
        return "invalid_character", "must not contain NUL"
    if _SURROGATE.search(text):
        return "invalid_character", "contains half of a surrogate pair"
    if not lines and ("\n" in text or "\r" in text):
        return "invalid_character", "must be one line"
    return None


def _escaped(name: str) -> str:
    """A member's name in a JSON Pointer; half surrogates could not be sent back."""
    safe = _SURROGATE.sub("\ufffd", name)
    return safe.replace("~", "~0").replace("/", "~1")
