"""What stands around an event's bytes on the log, read from the contract a second time.

The key is the aggregate's id, the Kafka timestamp is the event's time in milliseconds, and the
headers repeat the routing attributes: these nine, `traceparent` when the event has one, no other.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
_REPEATED: Final = (
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "sellerid",
    "sequence",
    "time",
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def wire_faults(
    body: bytes, key: str | None, headers: Iterable[tuple[str, str]], timestamp_ms: int
) -> Iterator[str]:
    """What contradicts the event in ``body``, which must be one of ours."""
    event = json.loads(body)
    wanted = {"content-type": CONTENT_TYPE}
    wanted |= {f"ce_{name}": event[name] for name in _REPEATED}
    if "traceparent" in event:
        wanted["traceparent"] = event["traceparent"]
    seen = list(headers)
    if sorted(seen) != sorted(wanted.items()):
        differing = sorted({name for name, _ in set(seen) ^ set(wanted.items())})
        yield f"headers differ from the event: {', '.join(differing) or 'one is repeated'}"
    if key != event["subject"]:
        yield f"key is {key!r}, not {event['subject']!r}"
    at = (datetime.fromisoformat(event["time"]) - _EPOCH) // timedelta(milliseconds=1)
    if timestamp_ms != at:
        yield f"timestamp is {timestamp_ms}, not {at}"
