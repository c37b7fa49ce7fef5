"""Random histories of a stream under cuts, without broker and without sockets.

`World` is a broker that is written to, cut short and given more partitions while several replicas
read it, each in an order of its own, and `Visitor` a client that is cut anywhere, in the middle of
a frame too, and resumes wherever it likes. What must hold after each cut: an id is a position, so
what a client holds is exactly the committed events that it wanted between the position it began at
and the one its last id says, each once, each subject's in order. A gap begins a new count, and only
retention may be its reason.
"""

import json
import random
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.support.stream import EPOCH, History, Replica, Socket, record, settle

from shopstream_notifications.broker import Topology
from shopstream_notifications.client import Client
from shopstream_notifications.filters import Filter
from shopstream_notifications.limits import Place
from shopstream_notifications.playback import Playback
from shopstream_notifications.records import Offsets, Part, Record
from shopstream_notifications.replay import Evicted, Slice
from shopstream_notifications.source import Started
from shopstream_shared.boundaries import Boundary
from shopstream_shared.stream_id import StreamPosition
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack.sse_parser import SseEvent, SseParser

SUBJECTS: Final = tuple("abcdef")
WANTED: Final = (
    Filter(),
    Filter(subject="a"),
    Filter(types=frozenset({"product.updated"})),
)
#: Rounds of `settle` in which the longest replay of such a history is over.
ROUNDS_MAX: Final = 60
#: Times that a history's topics get a partition more.
GROWN_MAX: Final = 2


class Log(History):
    """A broker whose log grows, loses its beginning and is given more partitions."""

    def __init__(self) -> None:
        super().__init__({})
        #: By topic: the subjects' events in the order in which they were committed.
        self.committed: list[Record] = []

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(sorted(self.records))

    def place_of(self, topic: str, subject: str) -> Part:
        count = sum(part[0] == topic for part in self.records)
        return topic, zlib.crc32(subject.encode()) % count

    def write(self, events: Iterable[tuple[str, str]], *, commits: bool) -> None:
        """One transaction of (topic, subject) events: each takes an offset, as does the marker."""
        touched = set()
        for topic, subject in events:
            part = self.place_of(topic, subject)
            touched.add(part)
            made = record(part, len(self.records[part]), subject=subject)
            self.records[part].append(made if commits else None)
            if commits:
                self.committed.append(made)
        for part in touched:
            self.records[part].append(None)

    def grow(self, topic: str) -> None:
        """One partition more; protocol rule 14 wants all readers to have read everything."""
        parts = [part for part in self.parts if part[0] == topic]
        ends = tuple(len(self.records[part]) for part in parts)
        boundary = Boundary(topic, "id", len(parts) + 1, ends)
        self.grown = (*self.grown, boundary)
        self.records[topic, len(parts)] = []
        self.first[topic, len(parts)] = 0

    def topology(self) -> Topology:
        return Topology(EPOCH, self.parts)

    async def read(self, who: Place, wanted: Filter, begin: Offsets, stop: Offsets) -> Slice:
        if any(offset < self.first[part] for part, offset in begin.items()):
            raise Evicted
        return await super().read(who, wanted, begin, stop)


@dataclass(slots=True)
class Visitor:
    """A client over all its connections."""

    log: Log
    wanted: Filter
    last_id: str = ""
    #: What it received since it began, or was told that it begins anew; from which position on.
    got: list[str] = field(default_factory=list)
    begun: Offsets | None = None
    #: Reasons of the gaps that it was told.
    gaps: list[str] = field(default_factory=list)
    replica: Replica | None = None
    client: Client | None = None
    socket: Socket | None = None

    async def connect(self, replica: Replica) -> None:
        self.replica = replica
        self.client, self.socket = await replica.connect(self.last_id, wanted=self.wanted)

    @property
    def is_live(self) -> bool:
        return self.client is not None and not self.client.closed and self.client.task is None

    def cut(self, received: float) -> None:
        """The connection breaks: of its bytes only this share came through."""
        assert self.replica is not None
        assert self.client is not None
        assert self.socket is not None
        self.replica.hub.leave(self.client)
        raw = self.socket.raw
        self._receive(raw[: round(received * len(raw))])
        self.replica = self.client = self.socket = None
        self.check()

    def _receive(self, raw: bytes) -> None:
        parser = SseParser(self.last_id)
        *frames, _unfinished = raw.split(b"\n\n")
        for frame in frames:
            for event in parser.feed(frame + b"\n\n"):
                self._take(event)
            self.last_id = parser.last_event_id
            if self.begun is None and b"id:" in frame:
                self.begun = offsets(self.last_id)

    def _take(self, event: SseEvent) -> None:
        if event.is_message:
            self.got.append(event.data)
        elif event.type == "stream.open" and not json.loads(event.data)["resumed"]:
            self._begin_anew(None)
        elif event.type == "stream.gap":
            told = json.loads(event.data)
            self.gaps.append(told["reason"])
            self._begin_anew(offsets(told["to"]))

    def _begin_anew(self, position: Offsets | None) -> None:
        self.check()
        self.got, self.begun = [], position

    def check(self, until: Offsets | None = None) -> None:
        """What it holds is what there was between the position it began at and its last id.

        ``until``: or this position, which it has reached though no id said so.
        """
        if self.begun is None:
            assert not self.got
            return
        until = until or offsets(self.last_id)
        there = [
            r
            for r in self.log.committed
            if self.begun.get(r.part, 0) <= r.offset < until.get(r.part, 0)
            and self.wanted.matches(r)
        ]
        names = Counter(name_of(r) for r in there)
        got = Counter(self.got)
        assert not got - names, f"doubled or strange: {got - names}"
        assert not names - got, f"lost: {names - got}"
        place = {name: at for at, name in enumerate(self.got)}
        latest: dict[tuple[str, str], int] = {}
        for r in there:
            at = place[name_of(r)]
            subject = (r.part[0], r.subject)
            assert at > latest.get(subject, -1), f"out of order: {subject}"
            latest[subject] = at


@dataclass(slots=True)
class World:
    """One history; ``play`` makes it."""

    chance: random.Random
    cuts_max: int
    playback: type[Playback] = Playback
    log: Log = field(default_factory=Log)
    replicas: list[Replica] = field(default_factory=list)
    visitors: list[Visitor] = field(default_factory=list)
    cuts: int = 0
    #: How each connection began, by the server's own count.
    resumed: Counter[str] = field(default_factory=Counter)

    async def play(self) -> None:
        """Steps until there were enough cuts; then everybody reads to the end."""
        self.replicas = [self._replica({}) for _ in range(self.chance.randint(1, 3))]
        self.visitors = [Visitor(self.log, wanted) for wanted in WANTED]
        steps = (
            *(4 * [self._write]),
            *(6 * [self._read]),
            *(2 * [self._cut]),
            self._block,
            self._notice_parts,
            self._evict,
            self._restart,
            self._lose,
            self._grow,
        )
        while self.cuts < self.cuts_max:
            for visitor in self.visitors:
                if visitor.client is None and self.chance.random() < 0.7:
                    await visitor.connect(self.chance.choice(self.replicas))
            self.chance.choice(steps)()
            if self.chance.random() < 0.5:
                await settle()
        await self._end()

    def _replica(self, start: Offsets) -> Replica:
        """A process begins at the log's end, as its reader does."""
        replica = Replica(
            self.log,
            start=start,
            log_bytes_max=self.chance.choice((0, 2_000, 10**6)),
            client_bytes_max=self.chance.choice((200, 10**6)),
            playback=self.playback,
        )
        replica.playback._on_new_parts = partial(_follow, replica)
        return replica

    def _write(self) -> None:
        count = self.chance.randint(1, 4)
        events = [
            (self.chance.choice(STREAM_TOPICS), self.chance.choice(SUBJECTS)) for _ in range(count)
        ]
        self.log.write(events, commits=self.chance.random() < 0.8)

    def _read(self) -> None:
        replica = self.chance.choice(self.replicas)
        part = self.chance.choice(tuple(replica.position))
        ahead = self.chance.randint(replica.position[part], len(self.log.records[part]))
        replica.read(part, ahead)

    def _cut(self) -> None:
        connected = [visitor for visitor in self.visitors if visitor.client is not None]
        if connected:
            self._cut_one(self.chance.choice(connected))

    def _cut_one(self, visitor: Visitor) -> None:
        visitor.cut(1.0 if self.chance.random() < 0.3 else self.chance.random())
        self.cuts += 1

    def _block(self) -> None:
        """A slow reader: its socket takes nothing, or again something."""
        for visitor in self.visitors:
            if visitor.socket is not None:
                (self.chance.choice((visitor.socket.block, visitor.socket.unblock)))()

    def _notice_parts(self) -> None:
        replica = self.chance.choice(self.replicas)
        _follow(replica, self.log.parts)

    def _evict(self) -> None:
        """Retention: mostly of what everybody has, at times of what somebody still needs."""
        needed = [offsets(v.last_id) for v in self.visitors if self.chance.random() < 0.9]
        for part, first in self.log.first.items():
            limit = min(
                [replica.position.get(part, 0) for replica in self.replicas]
                + [position.get(part, 0) for position in needed]
            )
            if limit > first:
                self.log.first[part] = self.chance.randint(first, limit)

    def _restart(self) -> None:
        """Killed: all its connections break, and it knows nothing when it is back."""
        at = self.chance.randrange(len(self.replicas))
        self._cut_all(self.replicas[at])
        self._remember(self.replicas[at])
        self.replicas[at] = self._replica(self.log.end())

    def _lose(self) -> None:
        """The reader lost its place: the hub ends all streams and begins anew."""
        replica = self.chance.choice(self.replicas)
        replica.hub.lost()
        self._cut_all(replica)
        replica.position = self.log.end()
        replica.hub.started(Started(self.log.topology(), dict(replica.position)))

    def _cut_all(self, replica: Replica) -> None:
        for visitor in self.visitors:
            if visitor.replica is replica:
                self._cut_one(visitor)

    def _grow(self) -> None:
        """Seldom: one partition more, once all readers are past the end (rule 14)."""
        if len(self.log.grown) < GROWN_MAX and self.chance.random() < 0.7:
            for replica in self.replicas:
                _follow(replica, self.log.parts)
                replica.read_all()
            self.log.grow(self.chance.choice(STREAM_TOPICS))

    def _remember(self, replica: Replica) -> None:
        for metric in replica.hub.metrics.resumed.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    self.resumed[sample.labels["outcome"]] += int(sample.value)

    async def _end(self) -> None:
        """Nothing more is written, everybody may read: then nobody may miss anything."""
        for replica in self.replicas:
            _follow(replica, self.log.parts)
            replica.read_all()
        for _ in range(ROUNDS_MAX):
            for visitor in self.visitors:
                if visitor.socket is not None and visitor.socket.closed:
                    visitor.cut(1.0)
                if visitor.client is None:
                    await visitor.connect(self.chance.choice(self.replicas))
                if visitor.socket is not None:
                    visitor.socket.unblock()
            await settle()
            if all(visitor.is_live for visitor in self.visitors):
                break
        for visitor in self.visitors:
            assert visitor.is_live
            visitor.cut(1.0)
            visitor.check(self.log.end())
        for replica in self.replicas:
            self._remember(replica)


def _follow(replica: Replica, parts: Iterable[Part]) -> None:
    new = tuple(part for part in parts if part not in replica.position)
    replica.position.update(dict.fromkeys(new, 0))
    replica.hub.add_parts(new)


def offsets(text: str) -> dict[Part, int]:
    """The position that an id says; none for no id."""
    return dict(StreamPosition.decode(text).items()) if text else {}


def name_of(found: Record) -> str:
    """An event's data, which is its place."""
    return f"{found.part[0]} {found.part[1]} {found.offset}"
