"""What a stream of one seller must have had: that seller's sequences on the log."""

import time
from collections import defaultdict
from typing import Final

from shopstream_stack.bench.waiting import wait_until
from shopstream_stack.demo.evidence import SeenEvent
from shopstream_stack.demo.log_reader import LogReader
from shopstream_stack.kit.generator import Sequences
from shopstream_stack.whole.place import WholePlace

#: After the load, until the relay has published what the outbox holds.
DRAIN_SECONDS_MAX: Final = 120.0
_WAITING: Final = b"SELECT count(*) FROM outbox"


def drain(place: WholePlace) -> float:
    """Wait until the outbox is empty; after how many seconds it was. Raises StackError."""
    began = time.monotonic()

    def empty() -> bool:
        with place.connect() as connection:
            row = connection.execute(_WAITING).fetchone()
        return row is not None and row[0] == 0

    wait_until(empty, "the outbox is empty", DRAIN_SECONDS_MAX)
    return time.monotonic() - began


def on_the_log(brokers: str) -> dict[str, Sequences]:
    """By seller, all sequences on the log since its beginning.

    Raises LogUnreadable, KafkaException.
    """
    found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)

    def note(event: SeenEvent) -> bool:
        name = f"{event.topic} {event.subject}"
        first, last = found[event.seller_id].get(name, (event.sequence, event.sequence))
        spans = found[event.seller_id]
        spans[name] = (min(first, event.sequence), max(last, event.sequence))
        return False  # none of them is kept: there may be hundreds of thousands

    reader = LogReader(brokers)
    reader.read(dict.fromkeys(reader.ends(), 0), note)
    return {seller: dict(spans) for seller, spans in found.items()}
