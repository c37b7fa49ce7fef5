"""The cases of the event stream format that every parser of ours is held against."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("sse_cases.json")


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes, and what the standard says they hold: events as (type, data, id), id, retry in ms."""

    name: str
    stream: bytes
    events: tuple[tuple[str, str, str], ...]
    id: str
    retry: int | None

    def cuts(self) -> list[list[bytes]]:
        """The stream whole, byte by byte, and in two pieces cut at every place."""
        text = self.stream
        pieces = [[text[:place], text[place:]] for place in range(1, len(text))]
        return [[text], [text[i : i + 1] for i in range(len(text))], *pieces]


@dataclass(frozen=True, slots=True)
class Bound:
    """Bytes that a parser with this bound refuses."""

    name: str
    stream: bytes
    max: int


def cases() -> list[Case]:
    return [
        Case(
            each["name"],
            _bytes(each),
            tuple((kind, data, last) for kind, data, last in each["events"]),
            each["id"],
            each["retry"],
        )
        for each in _read()["cases"]
    ]


def bounds() -> list[Bound]:
    return [Bound(each["name"], _bytes(each), each["max"]) for each in _read()["bounds"]]


def _read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def _bytes(each: dict[str, Any]) -> bytes:
    text: str = each["stream"]
    return text.encode("latin-1")
