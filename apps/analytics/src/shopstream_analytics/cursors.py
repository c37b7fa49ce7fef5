"""Cursors of pages as clients get them: JSON in URL-safe base64, opaque to whoever holds one."""

import base64
import binascii
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class BadCursor(ValueError):
    """The cursor is not one of ours, or of other filters."""


def pack(value: Any) -> str:
    """Padding is left out: it would have to be escaped in a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")


def unpack(text: str, type_: type[T], characters_max: int) -> T:
    """The reverse of `pack`. Raises BadCursor for what it cannot have made."""
    if len(text) > characters_max:
        raise BadCursor("the cursor is too long")
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        packed = base64.b64decode(padded, altchars=b"-_", validate=True)
        return msgspec.json.decode(packed, type=type_)
    except (UnicodeError, binascii.Error, msgspec.MsgspecError) as error:
        raise BadCursor("the cursor is not one of ours") from error
