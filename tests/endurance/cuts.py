"""Cuts of a stream on a real broker: what every client holds is exactly what was committed.

Two services, one that keeps its log in memory and one that keeps none, so that every resume there
reads the broker. A writer with known content, some of its transactions aborted. Clients are cut by
RST after a random time and resume at either service; services are killed with SIGKILL and started
again; half-way each topic gets one partition more, as `shopstream topics apply` does it. Each
client is then held against the broker's log from its first position on, and against the writer.
"""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, NewPartitions
from tests.support.stream_service import Publisher, StreamService, an_event

from shopstream_api.outbox.topics.boundaries import write_boundaries
from shopstream_notifications.broker import Broker
from shopstream_shared.boundaries import Boundary
from shopstream_shared.events.codec import EncodedEvent, decode
from shopstream_shared.kafka import KafkaConnection, topic_states
from shopstream_shared.log_range import committed_records, log_ends
from shopstream_shared.stream_id import StreamPosition
from shopstream_shared.topics import ORDERS, RELAY_PROGRESS, STREAM_TOPICS, load_topics
from shopstream_stack.demo.crowd import until
from shopstream_stack.sse_client import BrokenResponse, SseConnection, SseRefused
from shopstream_stack.sse_parser import SseEvent

TYPES: Final = ("product.created", "order.created", "inventory.updated")
SUBJECTS: Final = tuple(f"subject-{number}" for number in range(20))
#: What clients ask for: everything, one type, one subject.
QUERIES: Final = ("", "?types=order.*", f"?subject={SUBJECTS[0]}")
EVENTS_MAX: Final = 5
#: Of so many transactions one is aborted.
ABORTED_EVERY: Final = 7
WRITE_PAUSE_SECONDS: Final = 0.01
#: A connection lives for a random part of this.
LIFE_SECONDS_MAX: Final = 0.5
#: After a refusal or a broken handshake, until the next try.
AGAIN_SECONDS: Final = 0.05
COMPLETE_SECONDS_MAX: Final = 60.0
#: Until the next kill is due, or the end of a half.
PHASE_SECONDS_MAX: Final = 1_800.0
_RESET: Final = struct.pack("ii", 1, 0)

Part = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Cut:
    """What was seen, of all clients together."""

    clients: int
    cuts: int
    kills: int
    events: int
    aborted: int
    partitions: int
    received: int
    lost: int
    doubled: int
    foreign: int
    disordered: int
    gaps: int

    @property
    def holds(self) -> bool:
        return not (self.lost or self.doubled or self.foreign or self.disordered or self.gaps)


@dataclass(frozen=True, slots=True)
class Logged:
    """An event on the broker."""

    part: Part
    offset: int
    subject: str
    sequence: int
    text: str


def logged(message: Message) -> Logged:
    event = decode(message.value())
    return Logged(
        (message.topic() or "", message.partition() or 0),
        message.offset() or 0,
        event.envelope.subject,
        int(event.envelope.sequence),
        event.value.decode(),
    )


@dataclass(slots=True)
class Written:
    """What the writer has committed, in its order, and how many events it took back."""

    events: list[EncodedEvent] = field(default_factory=list)
    aborted: int = 0


@dataclass(slots=True)
class Client:
    """One client over all its connections."""

    query: str
    chance: random.Random
    last_id: str = ""
    begun: StreamPosition | None = None
    got: list[str] = field(default_factory=list)
    gaps: int = 0
    cuts: int = 0

    async def follow(self, services: Sequence[StreamService], calm: asyncio.Event) -> None:
        """Connect anywhere, be cut, connect again; while it is calm, stay."""
        while True:
            service = self.chance.choice(services)
            with contextlib.suppress(OSError, TimeoutError, BrokenResponse, SseRefused):
                await self._connection(service, calm)
            await asyncio.sleep(AGAIN_SECONDS * self.chance.random())

    async def _connection(self, service: StreamService, calm: asyncio.Event) -> None:
        """Until its time is over, or the service's; while it is calm it has another time."""
        url = f"{service.url}/events/stream{self.query}"
        connection = await SseConnection.open(url, last_event_id=self.last_id)
        try:
            while True:
                life = LIFE_SECONDS_MAX * self.chance.random()
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(self._read(connection), life)
                if not calm.is_set():
                    return None
        finally:
            self.cuts += 1
            _reset(connection)

    async def _read(self, connection: SseConnection) -> None:
        while chunk := await connection.read():
            for event in connection.parser.feed(chunk):
                self._take(event)
            self.last_id = connection.parser.last_event_id
            if self.begun is None and self.last_id:
                self.begun = StreamPosition.decode(self.last_id)

    def _take(self, event: SseEvent) -> None:
        if event.is_message:
            self.got.append(event.data)
        elif event.type == "stream.gap" or _begins_anew(event):
            self.gaps += bool(self.last_id)

    def wanted(self, there: Sequence[Logged]) -> list[str]:
        """What it asked for, from its first position on."""
        assert self.begun is not None
        return [
            one.text
            for one in there
            if self._asked_for(one) and one.offset >= self.begun.next_offset(*one.part)
        ]

    def _asked_for(self, one: Logged) -> bool:
        if "types" in self.query:
            return one.part[0] == ORDERS
        return not self.query or one.subject == SUBJECTS[0]


def _begins_anew(event: SseEvent) -> bool:
    return event.type == "stream.open" and not json.loads(event.data)["resumed"]


def _reset(connection: SseConnection) -> None:
    """End it with RST: what is on its way is lost."""
    found = connection._writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.cut()


class Scene:
    """One run; ``play`` gives what was seen."""

    def __init__(self, brokers: str, *, clients: int, cuts: int, kills: int, seed: int) -> None:
        self._brokers = brokers
        Publisher(brokers)  # makes the topics
        self._connection = KafkaConnection(brokers, "test-cuts")
        self._broker = Broker(self._connection)
        self._begin = self._broker.stable_ends(self._broker.topology().parts)
        self._cuts = cuts
        self._kills = kills
        self._chance = random.Random(seed)
        self._written = Written()
        self._clients = [
            Client(QUERIES[number % len(QUERIES)], random.Random(seed + number))
            for number in range(clients)
        ]
        self._quiet = asyncio.Event()
        self._calm = asyncio.Event()

    @property
    def cuts(self) -> int:
        return sum(client.cuts for client in self._clients)

    async def play(self) -> Cut:
        with (
            StreamService(self._brokers) as first,
            StreamService(self._brokers, SHOPSTREAM_STREAM_LOG_BYTES="0") as second,
        ):
            services = (first, second)
            followers = [
                asyncio.create_task(client.follow(services, self._calm)) for client in self._clients
            ]
            try:
                await self._until(lambda: all(client.begun for client in self._clients))
                await self._half(services, self._cuts // 2)
                await self._everything_received()
                await asyncio.to_thread(grow, self._brokers)
                await self._half(services, self._cuts)
                await self._everything_received()
            finally:
                for follower in followers:
                    follower.cancel()
                await asyncio.gather(*followers, return_exceptions=True)
        return self._verdict(await asyncio.to_thread(self._log))

    async def _half(self, services: Sequence[StreamService], cuts: int) -> None:
        """Events and cuts, up to so many in all; the kills of this half spread over them."""
        self._quiet.clear()
        self._calm.clear()
        begun = self.cuts
        writer = asyncio.create_task(self._write())
        kills = self._kills // 2
        for number in range(kills):
            at = begun + (cuts - begun) * (number + 1) // (kills + 1)
            await self._reached(at)
            await asyncio.to_thread(self._chance.choice(services).restart)
        await self._reached(cuts)
        self._quiet.set()
        await writer
        self._calm.set()

    async def _write(self) -> None:
        publisher = Publisher(self._brokers, check=False)
        for number in itertools.count(1):
            if self._quiet.is_set():
                return
            events = [
                an_event(self._chance.choice(TYPES), subject=self._chance.choice(SUBJECTS))
                for _ in range(self._chance.randint(1, EVENTS_MAX))
            ]
            await asyncio.to_thread(publisher.begin, events)
            if number % ABORTED_EVERY == 0:
                await asyncio.to_thread(publisher.abort)
                self._written.aborted += len(events)
            else:
                await asyncio.to_thread(publisher.commit)
                self._written.events += events
            await asyncio.sleep(WRITE_PAUSE_SECONDS)

    async def _everything_received(self) -> None:
        """Nobody writes and nobody is cut: wait until all have all; the verdict says what not."""
        there = await asyncio.to_thread(self._log)
        missing = [(client, len(client.wanted(there))) for client in self._clients]
        await until(lambda: all(len(c.got) >= n for c, n in missing), COMPLETE_SECONDS_MAX)

    def _log(self) -> list[Logged]:
        """All events that are committed on the broker, since the beginning."""
        parts = self._broker.topology().parts
        begin = {part: self._begin.get(part, 0) for part in parts}
        found = committed_records(self._connection, begin, self._broker.stable_ends(parts))
        return [logged(message) for message in found]

    def _verdict(self, there: Sequence[Logged]) -> Cut:
        written = Counter(event.value.decode() for event in self._written.events)
        on_log = Counter(one.text for one in there)
        lost, foreign = (written - on_log).total(), (on_log - written).total()
        doubled = disordered = 0
        names = {one.text: one for one in there}
        for client in self._clients:
            wanted, got = Counter(client.wanted(there)), Counter(client.got)
            more = got - wanted
            lost += (wanted - got).total()
            doubled += sum(count for text, count in more.items() if text in wanted)
            foreign += sum(count for text, count in more.items() if text not in wanted)
            disordered += _disordered([names[text] for text in client.got if text in names])
        return Cut(
            clients=len(self._clients),
            cuts=self.cuts,
            kills=self._kills // 2 * 2,
            events=len(self._written.events),
            aborted=self._written.aborted,
            partitions=len(self._broker.topology().parts),
            received=sum(len(client.got) for client in self._clients),
            lost=lost,
            doubled=doubled,
            foreign=foreign,
            disordered=disordered,
            gaps=sum(client.gaps for client in self._clients),
        )

    async def _reached(self, cuts: int) -> None:
        """So many cuts, and as many events between them."""
        written = self._written.events
        await self._until(lambda: self.cuts >= cuts and len(written) >= cuts)

    async def _until(self, holds: Callable[[], bool]) -> None:
        assert await until(holds, PHASE_SECONDS_MAX), "the run does not get on"


def _disordered(got: Sequence[Logged]) -> int:
    """How many came before an earlier event of their subject, by topic and subject."""
    latest: dict[tuple[str, str], int] = {}
    count = 0
    for one in got:
        subject = (one.part[0], one.subject)
        count += one.sequence <= latest.get(subject, -1)
        latest[subject] = max(latest.get(subject, -1), one.sequence)
    return count


def grow(brokers: str) -> None:
    """One partition more for each topic, as protocol rule 14 wants it: nobody writes, all is read.

    The boundaries stand first.
    """
    connection = KafkaConnection(brokers, "test-cuts")
    admin = AdminClient(connection.admin())
    states = topic_states(admin, STREAM_TOPICS)
    boundaries = []
    for topic, state in states.items():
        ends = log_ends(admin, [(topic, p) for p in range(state.partitions)])
        every = tuple(ends[topic, p] for p in range(state.partitions))
        boundaries.append(Boundary(topic, state.id, state.partitions + 1, every))
    write_boundaries(connection, load_topics("local")[RELAY_PROGRESS], boundaries)
    wanted = [NewPartitions(topic, state.partitions + 1) for topic, state in states.items()]
    for future in admin.create_partitions(wanted).values():
        future.result(30)
