"""Query parameters of lists, read by the rules of the contract."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request

from shopstream_api.errors import Fault, ValidationFailed
from shopstream_api.paging import LIMIT_DEFAULT, LIMIT_MAX, Page, Paging, paging
from shopstream_shared.clock import parse_time

TEXT_LENGTH_MAX: Final = 200
#: Far beyond every price, and well within what PostgreSQL's numeric takes.
NUMBER_MAX: Final = 10**15
#: A number as JSON writes it, and a moment as RFC 3339 does; Python's readers take more than these.
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class Query:
    """The parameters of one request, gathering every fault."""

    def __init__(self, request: Request) -> None:
        self._sent = request.query_params
        self._faults: list[Fault] = []

    def done(self) -> None:
        """Raises ValidationFailed when any parameter was at fault."""
        if self._faults:
            raise ValidationFailed(self._faults)

    def text(self, name: str) -> str | None:
        found = self._sent.get(name)
        if found is not None and ("\x00" in found or len(found) > TEXT_LENGTH_MAX):
            self._note(name, "cannot be looked for")
            return None
        return found

    def one_of(self, name: str, allowed: Collection[str]) -> str | None:
        found = self._sent.get(name)
        if found is not None and found not in allowed:
            self._note(name, f"must be one of {', '.join(allowed)}")
            return None
        return found

    def decimal(self, name: str) -> Decimal | None:
        found = self._sent.get(name)
        if found is None:
            return None
        written = len(found) <= TEXT_LENGTH_MAX and _NUMBER.fullmatch(found)
        number = Decimal(found) if written else Decimal("NaN")
        if not number.is_finite():
            self._note(name, "must be a number")
            return None
        if abs(number) > NUMBER_MAX:
            self._note(name, f"must be from -{NUMBER_MAX} to {NUMBER_MAX}")
            return None
        return number

    def time(self, name: str) -> datetime | None:
        found = self._sent.get(name)
        if found is None:
            return None
        try:
            if _MOMENT.fullmatch(found):
                return parse_time(found.upper())
        except (ValueError, OverflowError):
            pass
        self._note(name, "must be a moment as RFC 3339 writes it, with its offset")
        return None

    @property
    def cursor(self) -> str | None:
        return self._sent.get("cursor")

    def limit(self) -> int:
        """How many rows a page has. Raises ValidationFailed for any fault so far."""
        text = self._sent.get("limit")
        limit = LIMIT_DEFAULT
        if text is not None:
            if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= LIMIT_MAX:  # noqa: PLR2004 - digits of LIMIT_MAX
                limit = int(text)
            else:
                self._note("limit", f"must be from 1 to {LIMIT_MAX}")
        self.done()
        return limit

    def paging(self, *filters: object, numbered: bool = False) -> Paging:
        """Raises ValidationFailed for any fault so far, InvalidCursor."""
        return paging(self.limit(), self.cursor, filters, numbered=numbered)

    def _note(self, name: str, detail: str) -> None:
        self._faults.append(Fault(name, "invalid", detail))


def page_body(page: Page[Any], data: Sequence[object]) -> dict[str, object]:
    """The list shape of the contract."""
    return {
        "data": data,
        "hasMore": page.has_more,
        "nextCursor": page.next_cursor,
        "prevCursor": page.prev_cursor,
    }
