"""Reads back of the archive what a run has left there, and walks its chains.

Held against protocol rule 22 by the walk of `shopstream_shared.archive`; the envelope of each kept
line is held against its event.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shopstream_shared.archive.bucket import S3Bucket
from shopstream_shared.archive.keys import Damaged, Place, topic_prefix
from shopstream_shared.archive.lines import Record, read_line
from shopstream_shared.archive.reader import Fault, Index, Walk, link_of
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.demo.crowd import Keep
from shopstream_stack.demo.evidence import NotAnEvent, SeenEvent
from shopstream_stack.demo.stores import s3_client
from shopstream_stack.demo.target import Target
from shopstream_stack.demo.wire import wire_faults
from shopstream_stack.errors import StackError

#: Directories are named after the first line's hour, which may lie a little before the run's.
LOOK_BACK: Final = timedelta(hours=1)

Offsets = Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class ArchiveReading:
    """The events kept, how many objects hold them, and what is wrong with those objects."""

    events: tuple[SeenEvent, ...]
    objects: int
    faults: tuple[str, ...]


class ArchiveReader:
    """Looks at the objects that hold records from given offsets on. Blocking."""

    def __init__(self, target: Target, topic_ids: Mapping[str, str]) -> None:
        self._bucket = S3Bucket(s3_client(target), target.archive_bucket, _away)
        self._topic_ids = topic_ids

    def archived(self, start: Offsets, since: datetime) -> dict[tuple[str, int], int]:
        """How far each partition is archived: the next offset, or the start where nothing is."""
        reached = dict(start)
        for place, keys in self._chains(start, since):
            reached[place] = max(reached[place], link_of(self._bucket.head(keys[-1])).next)
        return reached

    def read(self, start: Offsets, since: datetime, keep: Keep) -> ArchiveReading:
        """All kept events from ``start`` on, and every fault of the objects that hold them."""
        events: list[SeenEvent] = []
        faults: list[str] = []
        objects = 0

        def found(fault: Fault) -> None:
            faults.append(str(fault))

        for place, keys in self._chains(start, since):
            walk = Walk(
                self._bucket,
                place,
                self._topic_ids[place.topic],
                found,
            )
            for some in walk.lines(keys, begin=start[place]):
                for line in some.lines:
                    try:
                        kept = _event(read_line(line, place), place, keep)
                    except Damaged as error:
                        found(Fault("damaged", "a line that can be read", str(error), str(place)))
                        continue
                    if kept is not None:
                        events.append(kept[0])
                        faults += kept[1]
            objects += walk.objects
        return ArchiveReading(tuple(events), objects, tuple(faults))

    def _chains(self, start: Offsets, since: datetime) -> Iterator[tuple[Place, list[str]]]:
        """Of each partition the objects that reach past the start, in the order of the chain."""
        hour = since - LOOK_BACK
        index = Index()
        for topic in STREAM_TOPICS:
            prefix = topic_prefix(topic)
            after = f"{prefix}{hour:year=%Y/month=%m/day=%d/hour=%H}/"
            index.add(self._bucket.list(prefix, after))
        for _, place in index.chains():
            keys = list(index.keys(place, begin=start[place]))
            # Only of the last object no successor tells whether it reaches past the start.
            if len(keys) > 1 or link_of(self._bucket.head(keys[0])).last >= start[place]:
                yield place, keys


def _event(record: Record, place: Place, keep: Keep) -> tuple[SeenEvent, list[str]] | None:
    """A kept event, with what its line says wrong about it; None for any other record."""
    if record.value is None or record.raw:
        return None
    where = f"archive {place}@{record.offset}"
    try:
        event = SeenEvent.read(record.value, where, place.topic)
    except NotAnEvent:
        return None
    if not keep(event):
        return None
    key = None if record.key is None else record.key.decode(errors="replace")
    headers = [(name, (text or b"").decode(errors="replace")) for name, text in record.headers]
    wrong = wire_faults(event.body, key, headers, record.timestamp)
    return event, [f"{where}: {fault}" for fault in wrong]


def _away(error: Exception) -> StackError:
    return StackError(f"The archive cannot be read: {error}")
