"""Time as a parameter: nothing below the entry points asks the machine for the hour itself."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import uuid_utils

#: The standard library reads any number of digits after the second, and a text of a kilobyte is
#: no sort key of DynamoDB any more. Ours have 27.
TIME_CHARACTERS_MAX: Final = 64


class Clock(Protocol):
    """What code that needs the time takes as a parameter."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(slots=True)
class ManualClock:
    """A clock that moves only when told to: for tests and simulations."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def advance(self, by: timedelta) -> None:
        self.at += by


class IdSource(Protocol):
    """Where new identifiers come from."""

    def new_id(self) -> str:
        """A fresh UUIDv7 in its canonical text form."""
        ...


class Uuid7Source:
    """UUIDv7 (RFC 9562): unique anywhere, roughly ordered by time; clients treat it as opaque."""

    def new_id(self) -> str:
        return str(uuid_utils.uuid7())


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with exactly six digits and ``Z``: the one form in events and bodies.

    A fixed width makes text order equal to time order, which RecentEvents relies on. Raises
    ValueError for a moment without an offset: it would be taken for local time.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment needs its offset from UTC")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 moment with its offset.

    Raises ValueError when the text is not a moment, names no offset, falls outside the years
    1 to 9999 in UTC or has more than TIME_CHARACTERS_MAX characters.
    """
    if len(text) > TIME_CHARACTERS_MAX:
        msg = f"a time has at most {TIME_CHARACTERS_MAX} characters; six decimals are enough"
        raise ValueError(msg)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        msg = f"{text!r} names no offset from UTC; add Z"
        raise ValueError(msg)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        msg = f"{text!r} is outside the years 1 to 9999 in UTC"
        raise ValueError(msg) from None


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970, the unit of Kafka's timestamps; exact, no float on the way."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
