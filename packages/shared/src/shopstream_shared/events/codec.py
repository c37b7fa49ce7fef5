"""Bytes to events and back, and the four ways in which a record can be unreadable.

Guarantee: `decode(encode(...).value)` gives the same event, and `decode` raises nothing but an
`EventRejected`, whatever the bytes. The order of the checks is part of the contract, because the
reason ends up on the dead letter: size first, then shape, then type, then payload.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import ClassVar, Final, TypeVar

import msgspec
from msgspec import Struct

from shopstream_shared.clock import format_time, parse_time
from shopstream_shared.events.envelope import SOURCE, Envelope, Headers, headers_of
from shopstream_shared.events.payloads import Payload, numbers_of
from shopstream_shared.events.registry import EVENT_TYPES

#: Larger values are dead-lettered unread: an event must fit a DynamoDB item (400 KB) with room.
EVENT_BYTES_MAX: Final = 262_144

#: What is said of a rejected record, in characters: it travels in a header.
DETAIL_LENGTH_MAX: Final = 500
#: A sequence fits a 64-bit column.
SEQUENCE_MAX: Final = 2**63 - 1
_DIGITS_MAX: Final = len(str(SEQUENCE_MAX))

_REQUIRED_TEXT: Final = ("id", "source", "type", "subject", "sellerid")

_Shape = TypeVar("_Shape", bound=Struct)

#: Everything the decoders raise for bytes that do not fit.
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)

# A decimal price is a JSON number, never a string and never a binary float.
_payload_encoder: Final = msgspec.json.Encoder(decimal_format="number")
_envelope_encoder: Final = msgspec.json.Encoder()
_envelope_decoder: Final = msgspec.json.Decoder(Envelope)


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """One event, ready for the outbox: the exact bytes and all that routing needs."""

    id: str
    type: str
    topic: str
    subject: str
    seller_id: str
    sequence: int
    time: datetime
    value: bytes
    headers: Headers


class DecodedEvent(Struct, frozen=True):
    """One event read from the log. ``value`` are the bytes as they were.

    A Struct because one is made for every event: a frozen dataclass takes six times as long.
    """

    envelope: Envelope
    payload: Payload
    time: datetime
    sequence: int
    value: bytes

    @property
    def type(self) -> str:
        return self.envelope.type

    @property
    def topic(self) -> str:
        """The topic this type belongs on."""
        return EVENT_TYPES[self.envelope.type].topic


class EventRejected(Exception):
    """The record is not an event of ours; ``reason`` and ``str()`` go on its dead letter."""

    reason: ClassVar[str] = "rejected"

    def __init__(self, detail: str) -> None:
        super().__init__(detail[:DETAIL_LENGTH_MAX])


class TooLarge(EventRejected):
    """The value is above EVENT_BYTES_MAX."""

    reason = "too_large"


class Malformed(EventRejected):
    """The value is null, not JSON, or not a CloudEvent with all required attributes."""

    reason = "malformed"


class UnknownType(EventRejected):
    """A well-formed CloudEvent of a type this version does not know."""

    reason = "unknown_type"


class InvalidData(EventRejected):
    """The data does not fit the schema of its type."""

    reason = "invalid_data"


def encode_payload(payload: Payload) -> bytes:
    """The REST body and the event's ``data`` are these same bytes."""
    return _payload_encoder.encode(payload)


def encode(
    event_type: str,
    *,
    event_id: str,
    subject: str,
    seller_id: str,
    sequence: int,
    time: datetime,
    data: bytes,
    correlation_id: str | None = None,
    traceparent: str | None = None,
) -> EncodedEvent:
    """Put encoded data into its envelope: the only place where an event's bytes are made.

    Raises KeyError for a type that is not registered.
    """
    kind = EVENT_TYPES[event_type]
    envelope = Envelope(
        specversion="1.0",
        id=event_id,
        source=SOURCE,
        type=event_type,
        subject=subject,
        time=format_time(time),
        datacontenttype="application/json",
        dataschema=kind.schema,
        sellerid=seller_id,
        sequence=str(sequence),
        correlationid=correlation_id,
        traceparent=traceparent,
        data=msgspec.Raw(data),
    )
    return EncodedEvent(
        id=event_id,
        type=event_type,
        topic=kind.topic,
        subject=subject,
        seller_id=seller_id,
        sequence=sequence,
        time=time,
        value=_envelope_encoder.encode(envelope),
        headers=headers_of(envelope),
    )


def decode(value: bytes | None) -> DecodedEvent:
    """Read a Kafka value.

    Raises TooLarge, Malformed, UnknownType or InvalidData, checked in this order.
    """
    envelope, time = _envelope_and_time(value)
    kind = EVENT_TYPES.get(envelope.type)
    if kind is None:
        raise UnknownType(f"type {envelope.type!r} is not known to this version")
    try:
        payload = _decoder(kind.payload).decode(envelope.data)
        numbers = _numbers(kind.payload)
        if numbers is not None:
            _decoder(numbers).decode(envelope.data)
    except _UNREADABLE as error:
        raise InvalidData(str(error)) from error
    assert value is not None  # noqa: S101 - decode_envelope has rejected null
    return DecodedEvent(
        envelope=envelope,
        payload=payload,
        time=time,
        sequence=int(envelope.sequence),
        value=value,
    )


def decode_envelope(value: bytes | None) -> Envelope:
    """Read the attributes only; the data stays as bytes. Raises TooLarge or Malformed."""
    return _envelope_and_time(value)[0]


def _envelope_and_time(value: bytes | None) -> tuple[Envelope, datetime]:
    if value is None:
        raise Malformed("the value is null")
    if len(value) > EVENT_BYTES_MAX:
        raise TooLarge(f"{len(value)} bytes; at most {EVENT_BYTES_MAX} are read")
    try:
        # The decoder passes over broken UTF-8 in fields it does not know; the stream could not.
        str(value, "utf-8")
        envelope = _envelope_decoder.decode(value)
        time = parse_time(envelope.time)
    except _UNREADABLE as error:
        raise Malformed(str(error)) from error
    for name in _REQUIRED_TEXT:
        if not getattr(envelope, name):
            raise Malformed(f"attribute {name!r} is missing or empty")
    if not _is_sequence(envelope.sequence):
        raise Malformed(f"attribute 'sequence' is not a version, 1 to {SEQUENCE_MAX}")
    return envelope, time


def _is_sequence(text: str) -> bool:
    return (
        text.isascii()
        and text.isdigit()
        and len(text) <= _DIGITS_MAX
        and 1 <= int(text) <= SEQUENCE_MAX
    )


def header_map(headers: Headers | None) -> Mapping[str, bytes]:
    """Headers by name; of a repeated name the last one counts."""
    return dict(headers or ())


@cache
def _decoder(shape: type[_Shape]) -> "msgspec.json.Decoder[_Shape]":
    return msgspec.json.Decoder(shape)


#: What checks the prices of a payload; asked for every event.
_numbers: Final = cache(numbers_of)
