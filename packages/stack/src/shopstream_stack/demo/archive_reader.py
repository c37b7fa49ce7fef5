"""Reads the archive back as any S3 client would, and walks its chain.

Held against protocol rule 22: an object's metadata names ``start next first last count sha256
topic-id``; the sha256 is that of the stored bytes; ``start`` is the previous object's ``next``.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise, zip_longest
from typing import Final, Self

import msgspec
import zstandard

from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.demo.crowd import Keep
from shopstream_stack.demo.evidence import NotAnEvent, SeenEvent
from shopstream_stack.demo.stores import s3_client
from shopstream_stack.demo.target import Target
from shopstream_stack.demo.wire import wire_faults

#: Directories are named after the first line's hour, which may lie a little before the run's.
LOOK_BACK: Final = timedelta(hours=1)

Offsets = Mapping[tuple[str, int], int]


class ArchiveLine(msgspec.Struct, frozen=True):
    """One line of an object; ``event`` are the record's bytes as they stand in the line."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str | None
    headers: list[tuple[str, str]]
    event: msgspec.Raw


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """What an object's key says: ``…/T+P+<20-digit first offset>.jsonl.zst``."""

    partition: int
    first: int
    key: str

    @classmethod
    def read(cls, key: str) -> Self:
        """Read a key of the archive. Raises ValueError."""
        _, partition, first = key.rpartition("/")[2].split(".jsonl")[0].split("+")
        return cls(int(partition), int(first), key)


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One object of the chain: its key and what its metadata says."""

    key: str
    topic: str
    partition: int
    first: int
    last: int
    start: int
    next: int
    count: int
    sha256: str
    topic_id: str


@dataclass(frozen=True, slots=True)
class ArchiveReading:
    """The events kept, how many objects hold them, and what is wrong with those objects."""

    events: tuple[SeenEvent, ...]
    objects: int
    faults: tuple[str, ...]


class ArchiveReader:
    """Looks at the objects that hold records from given offsets on. Blocking."""

    def __init__(self, target: Target, topic_ids: Mapping[str, str]) -> None:
        self._bucket = target.archive_bucket
        self._topic_ids = topic_ids
        self._s3 = s3_client(target)

    def archived(self, start: Offsets, since: datetime) -> dict[tuple[str, int], int]:
        """How far each partition is archived: the next offset, or the start where nothing is."""
        reached = dict(start)
        for link in self._links(start, since):
            place = (link.topic, link.partition)
            reached[place] = max(reached[place], link.next)
        return reached

    def read(self, start: Offsets, since: datetime, keep: Keep) -> ArchiveReading:
        """All kept events from ``start`` on, and every fault of the objects that hold them."""
        events: list[SeenEvent] = []
        faults: list[str] = []
        links = list(self._links(start, since))
        for link in links:
            stored = self._s3.get_object(Bucket=self._bucket, Key=link.key)["Body"].read()
            lines, wrong = read_object(link, stored)
            faults += wrong
            if link.topic_id != self._topic_ids[link.topic]:
                faults.append(f"{link.key}: topic-id is {link.topic_id}, not the broker's")
            for event, wrong in _kept(lines, start, keep):
                events.append(event)
                faults += wrong
        return ArchiveReading(tuple(events), len(links), (*faults, *chain_faults(links)))

    def _links(self, start: Offsets, since: datetime) -> Iterator[ChainLink]:
        """The links that reach past the start, by topic, partition and first offset."""
        pages = self._s3.get_paginator("list_objects_v2")
        hour = since - LOOK_BACK
        for topic in STREAM_TOPICS:
            prefix = f"events/topic={topic}/"
            after = f"{prefix}{hour:year=%Y/month=%m/day=%d/hour=%H}/"
            names = []
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, StartAfter=after):
                names += [ObjectName.read(entry["Key"]) for entry in page.get("Contents", ())]
            for name in past(start, topic, names):
                link = self._link(topic, name)
                if link.last >= start[topic, link.partition]:
                    yield link

    def _link(self, topic: str, name: ObjectName) -> ChainLink:
        metadata = self._s3.head_object(Bucket=self._bucket, Key=name.key)["Metadata"]
        return ChainLink(
            key=name.key,
            topic=topic,
            partition=name.partition,
            first=int(metadata["first"]),
            last=int(metadata["last"]),
            start=int(metadata["start"]),
            next=int(metadata["next"]),
            count=int(metadata["count"]),
            sha256=metadata["sha256"],
            topic_id=metadata["topic-id"],
        )


def past(start: Offsets, topic: str, names: Iterable[ObjectName]) -> list[ObjectName]:
    """The objects that may reach past the start, in order; the others need not be looked at.

    An object ends before the next one of its partition begins.
    """
    ordered = sorted(names)
    return [
        name
        for name, later in zip_longest(ordered, ordered[1:])
        if later is None
        or later.partition != name.partition
        or later.first > start[topic, name.partition]
    ]


def read_object(link: ChainLink, stored: bytes) -> tuple[list[ArchiveLine], list[str]]:
    """The lines of an object and what contradicts its metadata."""
    faults = []
    if link.sha256 != hashlib.sha256(stored).hexdigest():
        faults.append(f"{link.key}: sha256 of the stored bytes is not {link.sha256}")
    text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(stored)).read()
    if not text.endswith(b"\n"):
        faults.append(f"{link.key}: no newline at the end")
    lines = [msgspec.json.decode(line, type=ArchiveLine) for line in text.split(b"\n") if line]
    offsets = [line.offset for line in lines]
    if offsets != sorted(set(offsets)):
        faults.append(f"{link.key}: offsets repeat or fall")
    seen = (offsets[0], offsets[-1], len(offsets)) if offsets else (-1, -1, 0)
    if seen != (link.first, link.last, link.count):
        said = (link.first, link.last, link.count)
        faults.append(f"{link.key}: first, last, count are {seen}, not {said}")
    if not link.start <= link.first <= link.last < link.next:
        faults.append(f"{link.key}: [{link.start}, {link.next}) does not hold its own records")
    if any((line.topic, line.partition) != (link.topic, link.partition) for line in lines):
        faults.append(f"{link.key}: a line of another partition")
    return lines, faults


def chain_faults(links: list[ChainLink]) -> list[str]:
    """Breaks between neighbours of one partition; links come sorted."""
    return [
        f"{link.key}: start is {link.start}, the object before it ends at {before.next}"
        for before, link in pairwise(links)
        if (before.topic, before.partition) == (link.topic, link.partition)
        and before.next != link.start
    ]


def _kept(
    lines: list[ArchiveLine], start: Offsets, keep: Keep
) -> Iterator[tuple[SeenEvent, list[str]]]:
    """The kept events from the start on, each with what its line says wrong about it."""
    for line in lines:
        if line.offset < start[line.topic, line.partition]:
            continue
        place = f"archive {line.topic}/{line.partition}@{line.offset}"
        try:
            event = SeenEvent.read(bytes(line.event), place, line.topic)
        except NotAnEvent:
            continue
        if keep(event):
            faults = wire_faults(event.body, line.key, line.headers, line.timestamp)
            yield event, [f"{place}: {fault}" for fault in faults]
