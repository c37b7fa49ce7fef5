"""The walk along a partition's chain: objects in order, each held against what it promises.

Rules 22-24. Nothing of an object beyond a chunk is in memory at any time; an index of a chain is 16
bytes an object. What is wrong goes to ``fault``; the walk goes on behind it, or ends where the
caller raises.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final, NamedTuple, Protocol

import msgspec
import zstandard

from shopstream_shared.archive.keys import (
    EVENTS,
    Damaged,
    Link,
    ObjectKey,
    Place,
    topic_prefix,
)
from shopstream_shared.archive.lines import LINE_BYTES_MAX, Offsets
from shopstream_shared.generations import hint_key

#: Of what is compressed; unpacked it is ten to twenty times as much.
CHUNK_BYTES: Final = 65_536


class Stored(NamedTuple):
    """An object as a listing gives it."""

    key: str
    bytes: int


class Content(Protocol):
    """An object that is open for reading."""

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def chunks(self, size: int) -> Iterator[bytes]:
        """The stored bytes."""
        ...


class Bucket(Protocol):
    """The port to the objects. What it raises when they do not answer is the adapter's."""

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """Objects by key in ascending order, those behind ``after`` only."""
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """What stands between the prefix and the next slash, each once."""
        ...

    def head(self, key: str) -> Mapping[str, str]:
        """An object's metadata. Raises KeyError where there is none."""
        ...

    def open(self, key: str) -> AbstractContextManager[Content]:
        """Raises KeyError where there is none."""
        ...


class Hint(msgspec.Struct, frozen=True):
    """Where a partition's chain had come to; never ahead of the chain."""

    next: int
    key: str = ""
    topic_id: str = msgspec.field(default="", name="topicId")


class Fault(NamedTuple):
    """``kind`` is gap, foreign or damaged, as docs/verify.md has the words."""

    kind: str
    expected: str
    seen: str
    key: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.key}: expected {self.expected}, seen {self.seen}"


class Broken(Exception):
    """A chain that contradicts itself, for those who cannot go on then."""


class Lines(NamedTuple):
    """Some lines of one object, without their line breaks, and their offsets."""

    offsets: list[int]
    lines: list[bytes]


def refuse(fault: Fault) -> None:
    """For a walk that must not go on over a fault. Raises Broken."""
    raise Broken(str(fault))


@dataclass(slots=True)
class Walk:
    """One partition's chain, object by object in the order of their first offsets.

    ``start`` and ``next``: from where to where it has been walked. Without a ``topic_id`` the first
    object's counts.
    """

    bucket: Bucket
    place: Place
    topic_id: str | None = None
    fault: Callable[[Fault], None] = refuse
    start: int | None = None
    next: int = 0
    objects: int = 0
    records: int = 0
    _offsets: Offsets = field(init=False)

    def __post_init__(self) -> None:
        self._offsets = Offsets(self.place)

    def lines(
        self, keys: Iterable[str], *, begin: int = 0, end: int | None = None
    ) -> Iterator[Lines]:
        """The lines with offsets in [begin, end), in order."""
        for key in keys:
            for some in self.object(key, end):
                yield _within(some, begin, end)
            if end is not None and self.next >= end:
                return

    def object(self, key: str, end: int | None = None) -> Iterator[Lines]:
        """All lines of the next object, whatever it says; none of one that begins at ``end``."""
        try:
            with self.bucket.open(key) as content:
                link = link_of(content.metadata)
                if end is not None and link.start >= end:
                    self.next = max(self.next, link.next)
                    return
                self._join(key, link)
                yield from self._content(key, link, content)
        except Damaged as error:
            self._fault("damaged", "an object that can be read", str(error), key)
        except KeyError:
            self._fault("damaged", "an object", "nothing", key)

    def _join(self, key: str, link: Link) -> None:
        """Hold an object against the one before it."""
        self.objects += 1
        if self.start is None:
            self.start = link.start
        elif link.start != self.next:
            self._fault("gap", f"start {self.next}", f"start {link.start}", key)
        if self.topic_id is None:
            self.topic_id = link.topic_id
        elif link.topic_id != self.topic_id:
            self._fault("foreign", f"topic-id {self.topic_id}", link.topic_id, key)
        self.next = max(self.next, link.next)

    def _content(self, key: str, link: Link, content: Content) -> Iterator[Lines]:
        digest = hashlib.sha256()
        first, last, count = -1, -1, 0
        for some in self._unpacked(content, digest.update):
            offsets = some.offsets
            rising = all(map(int.__lt__, offsets, offsets[1:])) and last < offsets[0]
            if not rising:
                self._fault("damaged", f"offsets that rise from {last}", f"{offsets[:9]}", key)
            first = offsets[0] if first < 0 else first
            last = offsets[-1]
            count += len(offsets)
            self.records += len(offsets)
            yield some
        if digest.hexdigest() != link.sha256:
            self._fault("damaged", f"sha256 {link.sha256}", digest.hexdigest(), key)
        said = (link.first, link.last, link.count)
        if said != (first, last, count):
            seen = f"{(first, last, count)}"
            self._fault("damaged", f"first, last, count {said}", seen, key)
        if not link.start <= first <= last < link.next:
            seen = f"records {first} to {last}"
            self._fault("damaged", f"records within [{link.start}, {link.next})", seen, key)

    def _unpacked(self, content: Content, digest: Callable[[bytes], None]) -> Iterator[Lines]:
        unpack = zstandard.ZstdDecompressor().decompressobj()
        offset_of = self._offsets.of
        rest = b""
        try:
            for chunk in content.chunks(CHUNK_BYTES):
                digest(chunk)
                *lines, rest = (rest + unpack.decompress(chunk)).split(b"\n")
                if lines:
                    yield Lines([offset_of(line) for line in lines], lines)
                if len(rest) > LINE_BYTES_MAX:
                    raise Damaged("a line without an end")
        except zstandard.ZstdError as error:
            raise Damaged(f"not zstd: {error}") from error
        if rest:
            raise Damaged(f"no line break at the end: {rest[:20]!r}")

    def _fault(self, kind: str, expected: str, seen: str, key: str) -> None:
        self.fault(Fault(kind, expected, seen, key))


class Index:
    """Which objects there are, in little memory: a key is a function of what is kept."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, Place], tuple[array[int], array[int]]] = {}
        #: Listed, but no key of a chain.
        self.strange: list[str] = []

    def add(self, stored: Iterable[Stored]) -> None:
        """What a listing gives, in any order."""
        for one in stored:
            try:
                key = ObjectKey.read(one.key)
            except Damaged:
                self.strange.append(one.key)
                continue
            chain = key.generation, key.place
            firsts, hours = self._found.setdefault(chain, (array("q"), array("q")))
            firsts.append(key.first)
            hours.append(key.hour)

    def chains(self) -> list[tuple[int, Place]]:
        """Generation and partition of each chain, in order."""
        return sorted(self._found)

    def keys(self, place: Place, generation: int = 0, begin: int = 0) -> Iterator[str]:
        """The keys of a chain, in its order; those that end before an offset are left out."""
        firsts, hours = self._found.get((generation, place), (array("q"), array("q")))
        order = sorted(range(len(firsts)), key=firsts.__getitem__)
        for number, following in zip_longest(order, order[1:]):
            # An object ends before the next one begins.
            if following is None or firsts[following] > begin:
                yield str(ObjectKey(generation, *place, firsts[number], hours[number]))

    def has(self, key: str) -> bool:
        """Whether this object was listed."""
        try:
            read = ObjectKey.read(key)
        except Damaged:
            return False
        firsts, hours = self._found.get((read.generation, read.place), (array("q"), array("q")))
        return any(
            first == read.first and hour == read.hour
            for first, hour in zip(firsts, hours, strict=True)
        )

    def __len__(self) -> int:
        return sum(len(firsts) for firsts, _ in self._found.values())


def index_of(bucket: Bucket, topics: Iterable[str], generation: int | None = None) -> Index:
    """All objects of these topics; of one generation, or of all."""
    lives = generations(bucket) if generation is None else [generation]
    index = Index()
    for topic in topics:
        for life in lives:
            index.add(bucket.list(topic_prefix(topic, life)))
    return index


def generations(bucket: Bucket) -> list[int]:
    """The lives of topics that the archive knows of; 0 is always one."""
    found = (name.partition("=") for name in bucket.folders(EVENTS))
    later = (int(value) for name, _, value in found if name == "epoch" and value.isdecimal())
    return sorted({0, *later})


def read_hint(bucket: Bucket, place: Place, generation: int = 0) -> Hint | None:
    """Where a partition's writer would begin; None where there is no hint. Raises Damaged."""
    key = hint_key(*place, generation)
    try:
        with bucket.open(key) as content:
            return msgspec.json.decode(b"".join(content.chunks(CHUNK_BYTES)), type=Hint)
    except KeyError:
        return None
    except msgspec.MsgspecError as error:
        raise Damaged(f"{key}: {error}") from error


def link_of(metadata: Mapping[str, str]) -> Link:
    """Raises Damaged when this is no object of a chain."""
    try:
        return Link.of(metadata)
    except (KeyError, ValueError) as error:
        raise Damaged(f"metadata lacks {error}") from error


def _within(some: Lines, begin: int, end: int | None) -> Lines:
    """Those with offsets in [begin, end)."""
    offsets, lines = some
    if offsets[0] >= begin and (end is None or offsets[-1] < end):
        return some
    kept = [
        (offset, line)
        for offset, line in zip(offsets, lines, strict=True)
        if offset >= begin and (end is None or offset < end)
    ]
    return Lines([offset for offset, _ in kept], [line for _, line in kept])
