"""Days and moments as people write them on the command line."""

import contextlib
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from shopstream_shared.clock import epoch_ms, parse_time
from shopstream_stack.errors import StackError

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def read_day(text: str) -> str:
    """A UTC day. Raises StackError."""
    with contextlib.suppress(ValueError):
        if _DAY.fullmatch(text):
            return f"{date.fromisoformat(text)}"
    raise StackError(f"--day {text}: write a UTC day as 2026-11-21")


def day_ends(day: str) -> datetime:
    """The first moment after a UTC day."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)


def read_ms(name: str, text: str | None) -> int | None:
    """A moment in milliseconds since 1970, None where none is given. Raises StackError."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return epoch_ms(parse_time(text))
    except ValueError:
        raise StackError(
            f"{name} {text}: write 2026-11-21T05:00:00Z, or milliseconds since 1970"
        ) from None
