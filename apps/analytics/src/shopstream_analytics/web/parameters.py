"""The routes' parameters, parsed in one place, so that every fault has one form."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from shopstream_analytics.aggregates.derived import TOP_BY, TopBy
from shopstream_analytics.aggregates.fold import GRANULARITIES, Granularity
from shopstream_analytics.aggregates.reader import Window
from shopstream_analytics.recent_reader import Filters
from shopstream_analytics.web.problems import Fault, InvalidRequest
from shopstream_shared.clock import parse_time
from shopstream_shared.events.registry import EVENT_TYPES

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 500
TOP_DEFAULT: Final = 10
TOP_MAX: Final = 100
DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
CURRENCY: Final = re.compile(r"[A-Z]{3}")

Query = Mapping[str, str]


@dataclass(slots=True)
class Faults:
    """What is wrong, gathered, so that one answer names all of it."""

    found: list[Fault] = field(default_factory=list)

    def moment(self, name: str, text: str | None) -> datetime | None:
        """None too when it is a fault."""
        if text is None:
            return None
        try:
            return parse_time(text)
        except (ValueError, OverflowError):
            self.found.append(Fault(name, "is not a moment such as 2026-11-21T05:00:00Z"))
            return None

    def day(self, name: str, text: str | None) -> date:
        """Any day when it is a fault."""
        if text is not None and DAY.fullmatch(text):
            with contextlib.suppress(ValueError):
                return date.fromisoformat(text)
        self.found.append(Fault(name, "is not a day such as 2026-11-21"))
        return date.min

    def number(self, name: str, text: str | None, least: int, most: int, default: int) -> int:
        """The default too when it is a fault."""
        if text is None:
            return default
        if text.isascii() and text.isdigit() and len(text) <= len(str(most)):
            number = int(text)
            if least <= number <= most:
                return number
        self.found.append(Fault(name, f"is not a number from {least} to {most}"))
        return default

    def raise_any(self) -> None:
        """Raises InvalidRequest if there is a fault."""
        if self.found:
            raise InvalidRequest(self.found)


def parse_range(
    since: str | None, until: str | None, granularity: str | None
) -> tuple[Granularity, Window]:
    """Raises InvalidRequest."""
    faults = Faults()
    window = Window(faults.moment("from", since), faults.moment("to", until))
    wanted = "hour" if granularity is None else granularity
    step = next((known for known in GRANULARITIES if known == wanted), None)
    if step is None:
        faults.found.append(Fault("granularity", f"is none of {', '.join(GRANULARITIES)}"))
    if window.since is not None and window.until is not None and window.since > window.until:
        faults.found.append(Fault("from", "is later than to"))
    faults.raise_any()
    return step or "hour", window


def parse_top(query: Query) -> tuple[date, TopBy, str | None, int]:
    """Day, what ranks, its currency (None by units) and how many. Raises InvalidRequest."""
    faults = Faults()
    day = faults.day("day", query.get("day"))
    wanted = query.get("by", TOP_BY[0])
    by = next((known for known in TOP_BY if known == wanted), None)
    if by is None:
        faults.found.append(Fault("by", f"is none of {', '.join(TOP_BY)}"))
    currency = query.get("currency")
    if by == "revenue" and (currency is None or not CURRENCY.fullmatch(currency)):
        faults.found.append(Fault("currency", "is needed to rank by revenue, such as USD"))
    if by == "units" and currency is not None:
        faults.found.append(Fault("currency", "does not go with by=units"))
    limit = faults.number("limit", query.get("limit"), 1, TOP_MAX, TOP_DEFAULT)
    faults.raise_any()
    return day, by or TOP_BY[0], currency, limit


def parse_recent(filters: Filters, limit: str | None) -> int:
    """How many items are wanted. Raises InvalidRequest."""
    faults = Faults()
    count = faults.number("limit", limit, 1, LIMIT_MAX, LIMIT_DEFAULT)
    for name, text in (("sellerId", filters.seller_id), ("subject", filters.subject)):
        if text == "":
            faults.found.append(Fault(name, "is empty"))
    if filters.event_type is not None and filters.event_type not in EVENT_TYPES:
        faults.found.append(Fault("type", "is not a type that is known"))
    faults.raise_any()
    return count
