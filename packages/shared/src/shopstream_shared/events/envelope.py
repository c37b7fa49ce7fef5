"""The CloudEvents 1.0 envelope in JSON (structured mode) and the headers that repeat it."""

from typing import Final, Literal

import msgspec

SOURCE: Final = "/shopstream/api"
CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"

Headers = list[tuple[str, bytes]]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The envelope in wire order; ``data`` is already encoded, so nothing is encoded twice.

    ``sequence`` is the aggregate's version in decimal, 1..n without a gap per (topic, subject).
    CloudEvents may come without ``data``; ours never do, so an empty one fits no schema of ours.
    """

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str | None = None
    dataschema: str | None = None
    sellerid: str
    sequence: str
    correlationid: str | None = None
    traceparent: str | None = None
    data: msgspec.Raw = msgspec.Raw()


def headers_of(envelope: Envelope) -> Headers:
    """Kafka headers for routing without decoding: these nine, and traceparent when tracing."""
    headers: Headers = [
        ("content-type", CONTENT_TYPE.encode()),
        ("ce_specversion", envelope.specversion.encode()),
        ("ce_id", envelope.id.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_type", envelope.type.encode()),
        ("ce_subject", envelope.subject.encode()),
        ("ce_sellerid", envelope.sellerid.encode()),
        ("ce_sequence", envelope.sequence.encode()),
        ("ce_time", envelope.time.encode()),
    ]
    if envelope.traceparent is not None:
        headers.append(("traceparent", envelope.traceparent.encode()))
    return headers
