"""What `/events/stream` says, typed: the domain events and the named ones of docs/stream.md.

Guarantees: nothing is re-encoded (``DomainEvent.data`` is the text of the wire); a named event that
is not known is handed on as ``Unknown``, so that a newer service breaks no client; a known one that
does not hold what it must raises, for then the guarantees of the client rest on nothing.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from shopstream_shared.events.registry import EVENT_TYPES
from shopstream_stack.sse_parser import SseEvent

#: Aggregates whose newest sequence is remembered; the one not heard of for longest goes first.
AGGREGATES_MAX: Final = 10_000


class BadStreamEvent(ValueError):
    """The data of an event are not what its name promises."""


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """One CloudEvent as text; ``id`` is the stream id from which the client resumes after it."""

    data: str
    id: str


@dataclass(frozen=True, slots=True)
class Opened:
    """``stream.open``: whether it goes on at ``replay_from``, the id or time that was asked for."""

    resumed: bool
    replay_from: str | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Events may be missing before what follows: read the state anew.

    ``reason`` is the server's (malformed_id, unknown_epoch, evicted, future) or, from the client
    itself, ``not_resumed``: a connection that should have gone on began anew, and the server gave
    no reason.
    """

    reason: str
    origin: str | None = None
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Lagged:
    """``stream.lagged``: how many events the server left out, by the policy that was asked for."""

    dropped: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """``stream.heartbeat``: the server's time, RFC 3339."""

    time: str


@dataclass(frozen=True, slots=True)
class Goodbye:
    """``stream.goodbye``: the server ends, come back after so many milliseconds."""

    retry_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """``stream.refused``: no stream now (a limit); come back after so many milliseconds."""

    reason: str
    retry_ms: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A named event that this client does not know."""

    name: str
    data: str


StreamEvent = DomainEvent | Opened | Gap | Lagged | Heartbeat | Goodbye | Refused | Unknown


def read(event: SseEvent) -> StreamEvent:
    """Raises BadStreamEvent for a known name with other data than it must have."""
    if event.is_message:
        return DomainEvent(event.data, event.id)
    try:
        return _named(event)
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{event.type} with {event.data[:200]!r}: {error!r}"
        raise BadStreamEvent(msg) from error


def _named(event: SseEvent) -> StreamEvent:
    if event.type not in _NAMED:
        return Unknown(event.type, event.data)
    return _NAMED[event.type](json.loads(event.data))


def _opened(data: Mapping[str, Any]) -> Opened:
    if not isinstance(data["resumed"], bool):
        raise TypeError("resumed is no boolean")
    return Opened(data["resumed"], data["replayFrom"])


_NAMED: Final[Mapping[str, Callable[[Mapping[str, Any]], StreamEvent]]] = {
    "stream.open": _opened,
    "stream.gap": lambda data: Gap(str(data["reason"]), data.get("from"), data.get("to")),
    "stream.lagged": lambda data: Lagged(int(data["dropped"])),
    "stream.heartbeat": lambda data: Heartbeat(str(data["time"])),
    "stream.goodbye": lambda data: Goodbye(int(data["retryMs"])),
    "stream.refused": lambda data: Refused(str(data["reason"]), int(data["retryMs"])),
}


class _Head(msgspec.Struct):
    """The attributes of a CloudEvent that tell a repeat."""

    id: str
    type: str
    subject: str
    sequence: str


_read_head: Final = msgspec.json.Decoder(_Head).decode


class Newest:
    """The newest sequence of each (topic, subject), to tell a repeat (protocol rules 28 and 29).

    Order holds per (topic, subject), so what is not above the newest came before. An event of a
    type that is not known, whose topic is not known either, is told by its event id.
    """

    def __init__(self, aggregates_max: int = AGGREGATES_MAX) -> None:
        self._aggregates_max = aggregates_max
        self._newest: OrderedDict[tuple[str, str], int] = OrderedDict()

    def is_new(self, data: str) -> bool:
        """Take an event; False for one that was there. Raises BadStreamEvent for no CloudEvent."""
        try:
            head = _read_head(data)
            sequence = int(head.sequence)
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"no CloudEvent of ours: {data[:200]!r}"
            raise BadStreamEvent(msg) from error
        kind = EVENT_TYPES.get(head.type)
        key = (kind.topic, head.subject) if kind else ("", head.id)
        if sequence <= self._newest.get(key, 0):
            self._newest.move_to_end(key)
            return False
        self._newest[key] = sequence
        self._newest.move_to_end(key)
        if len(self._newest) > self._aggregates_max:
            self._newest.popitem(last=False)
        return True
