"""How a stream begins: at the end, at an id, at a time, or with a gap that is said aloud.

Order of the first bytes (protocol rule 26): ``stream.open``, at once an id-only block with the
position from which nothing is missed, then ``stream.gap`` if there is one, then events. Without
that id a client cut before its first event would lose what follows.

Resume is exact on any replica (rule 25). The client's vector ``own`` is the only state:

1. below the log's base in some partition → cold slices from the broker up to the base, each event
   with the id of ``own`` after it; up to the boundary first where a topic got more partitions
   (rule 14);
2. attach at the latest log index at or below ``own``; skip records below ``own``; until the log's
   position is at or above it everywhere, ids are ``own``, the component-wise maximum of the two;
3. from there on the shared frames, like everybody else.

Nothing is subscribed to while a replay runs: the log holds what arrives meanwhile, and a position
says exactly what is missing, so there is neither a gap nor an overlap to merge.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, Protocol, TypeVar

from shopstream_notifications import sse
from shopstream_notifications.broker import BrokerUnavailable, TopicsMissing, Topology
from shopstream_notifications.client import Client
from shopstream_notifications.filters import Filter
from shopstream_notifications.hub import Hub
from shopstream_notifications.limits import Place
from shopstream_notifications.log import EventLog
from shopstream_notifications.pulse import PROGRESS_SECONDS
from shopstream_notifications.records import Offsets, Part, Record
from shopstream_notifications.refusal import Refusals
from shopstream_notifications.replay import Evicted, Slice
from shopstream_notifications.turns import Turns, TurnsFull
from shopstream_notifications.wire import chunk, chunks
from shopstream_shared.boundaries import Boundary, up_to
from shopstream_shared.stream_id import MalformedStreamId, StreamPosition

#: While the broker is away a replay asks again this often.
RETRY_SECONDS: Final = 1.0
#: Records that a client with ids of its own takes from the log in one go.
OWN_IDS_RECORDS_MAX: Final = 500
#: So many clients' questions are with the broker at a time.
QUESTIONS_MAX: Final = 4
#: So many more wait for their turn to ask.
QUESTIONS_WAITING_MAX: Final = 20_000

Answer = TypeVar("Answer")
GapReason = Literal["malformed_id", "unknown_epoch", "evicted", "future"]


@dataclass(frozen=True, slots=True)
class Since:
    """``text`` as the client wrote it, and the Kafka timestamp it means."""

    text: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the request asked for; at most one of the two."""

    last_event_id: str = ""
    since: Since | None = None

    @property
    def is_first_visit(self) -> bool:
        return not self.last_event_id and self.since is None


class _Gap(Exception):
    """The id cannot be resumed."""

    def __init__(self, reason: GapReason) -> None:
        super().__init__(reason)
        self.reason: GapReason = reason


class Positions(Protocol):
    """What a beginning asks the broker; blocking, may raise BrokerUnavailable."""

    def topology(self) -> Topology: ...

    def ends(self, parts: Iterable[Part]) -> dict[Part, int]: ...

    def starts(self, parts: Iterable[Part]) -> dict[Part, int]: ...

    def at_time(self, parts: Iterable[Part], timestamp_ms: int) -> dict[Part, int]: ...

    def boundaries(self) -> Sequence[Boundary]: ...


class Replays(Protocol):
    """Where records come from that have left the shared log."""

    async def read(self, who: Place, wanted: Filter, begin: Offsets, stop: Offsets) -> Slice: ...


class Playback:
    """Brings a client from its beginning to the live edge."""

    def __init__(
        self,
        hub: Hub,
        broker: Positions,
        replays: Replays,
        *,
        on_new_parts: Callable[[tuple[Part, ...]], None],
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._replays = replays
        self._on_new_parts = on_new_parts
        self._refusals = Refusals(hub.metrics)
        self._questions = Turns(QUESTIONS_MAX, QUESTIONS_WAITING_MAX)
        self._boundaries: tuple[Mapping[str, int], Sequence[Boundary]] = ({}, ())
        self._asking_boundaries = asyncio.Lock()

    async def begin(self, client: Client, beginning: Beginning) -> None:
        """Open the stream for a client that has its preamble.

        A first visit on a running hub needs no task; everything else gets one until it is live.
        """
        if beginning.is_first_visit and self._hub.log is not None:
            await self._from_now(client, self._hub.log)
        else:
            self._hub.run_for(client, partial(self._play_or_refuse, client, beginning))

    async def _play_or_refuse(self, client: Client, beginning: Beginning) -> None:
        try:
            await self._play(client, beginning)
        except TurnsFull:
            # It resumes by its last id, later: nothing is lost, and it is told so.
            await client.write(chunk(self._refusals.frame("replays")))
            self._hub.close(client, "limit")

    async def _play(self, client: Client, beginning: Beginning) -> None:
        log = await self._hub.ready_log()
        if beginning.last_event_id:
            await self._from_id(client, log, beginning.last_event_id)
        elif beginning.since is not None:
            await self._from_time(client, log, beginning.since)
        else:
            await self._from_now(client, log)

    async def _from_now(self, client: Client, log: EventLog) -> None:
        self._count("first")
        client.cursor = log.end
        await client.write(chunk(_opening(None, resumed=False) + sse.id_only(log.current_id())))
        await self._hub.catch_up(client)

    async def _from_time(self, client: Client, log: EventLog, since: Since) -> None:
        self._count("since")
        own = await self._asked(
            client, lambda: self._broker.at_time(log.position, since.timestamp_ms)
        )
        opening = _opening(since.text, resumed=False) + sse.id_only(log.encode(own))
        await client.write(chunk(opening))
        await self._replay(client, log, own)

    async def _from_id(self, client: Client, log: EventLog, text: str) -> None:
        try:
            position = _decoded(text, log)
        except _Gap as gap:
            given = None if gap.reason == "malformed_id" else text
            await self._with_gap(client, log, gap.reason, given)
            return
        try:
            own = await self._judged(client, position, log)
        except _Gap as gap:
            await self._with_gap(client, log, gap.reason, text)
            return
        self._count("hot" if log.attach(own) is not None else "cold")
        await client.write(chunk(_opening(text, resumed=True) + sse.id_only(log.encode(own))))
        await self._replay(client, log, own)

    async def _with_gap(
        self, client: Client, log: EventLog, reason: GapReason, given: str | None
    ) -> None:
        self._count(reason)
        client.cursor = log.end
        now = log.current_id()
        body = _opening(None, resumed=False) + sse.id_only(now) + _gap(reason, given, now)
        await client.write(chunk(body))
        await self._hub.catch_up(client)

    async def _judged(
        self, client: Client, position: StreamPosition, log: EventLog
    ) -> dict[Part, int]:
        """The client's vector over our parts. Raises _Gap when it cannot be served exactly."""
        unknown = [part for part, _ in position.items() if part not in log.position]
        own = log.offsets_of(position)
        ahead = [part for part, offset in own.items() if offset > log.position[part]]
        if ahead or unknown:
            # Above our own position is no fault: another replica may be further (rule 27).
            parts = (await self._asked(client, self._broker.topology)).parts
            if not set(unknown) <= set(parts):
                raise _Gap("future")
            ends = await self._asked(client, lambda: self._broker.ends((*ahead, *unknown)))
            if any(position.next_offset(*part) > end for part, end in ends.items()):
                raise _Gap("future")
            # Another replica saw these partitions before us: we follow it now.
            self._on_new_parts(tuple(unknown))
            own = log.offsets_of(position)
        if log.attach(own) is None:
            base = log.base()
            behind = [part for part, offset in own.items() if offset < base[part]]
            starts = await self._asked(client, lambda: self._broker.starts(behind))
            if any(own[part] < start for part, start in starts.items()):
                raise _Gap("evicted")
        return own

    async def _replay(self, client: Client, log: EventLog, own: dict[Part, int]) -> None:
        told = _Told(time.monotonic())
        try:
            while not client.closed:
                index = log.attach(own)
                if index is None:
                    await self._cold_slice(client, log, own, told)
                elif await self._with_own_ids(client, log, own, index, told):
                    told.events += await self._hub.catch_up(client)
                    self._hub.metrics.replay_size.observe(told.events)
                    return
        except Evicted:
            self._count("evicted")
            client.cursor = log.end
            now = log.current_id()
            # The id at once, or a client that is cut before its next event meets the gap again.
            await client.write(chunk(_gap("evicted", log.encode(own), now) + sse.id_only(now)))
            await self._hub.catch_up(client)

    async def _cold_slice(
        self, client: Client, log: EventLog, own: dict[Part, int], told: "_Told"
    ) -> None:
        """Read a slice towards the log's base, send what matches, move ``own``."""
        # Rule 14: where a topic got more partitions, all from before it comes first.
        stop = up_to(await self._known_boundaries(client, log), own, log.base())
        begin = {part: own.get(part, 0) for part in stop if own.get(part, 0) < stop[part]}
        try:
            found = await self._replays.read(client.place, client.filter, begin, stop)
        except BrokerUnavailable:
            await asyncio.sleep(RETRY_SECONDS)
            return
        pieces = self._own_frames(log, own, found.records)
        own.update(found.reached)
        told.events += len(found.records)
        del found  # or a reader that stalls now would hold its events twice
        pieces += _progress(log, own, told)
        await _write(client, pieces)

    async def _known_boundaries(self, client: Client, log: EventLog) -> Sequence[Boundary]:
        """Asked for again when there are more partitions: each boundary is there before those.

        One client asks for all that want to know: after a restart that is everybody at once.
        """
        partitions = log.partitions
        if self._boundaries[0] != partitions:
            async with self._asking_boundaries:
                if self._boundaries[0] != partitions:
                    answer = await self._asked(client, self._broker.boundaries)
                    self._boundaries = (partitions, answer)
        return self._boundaries[1]

    async def _with_own_ids(
        self, client: Client, log: EventLog, own: dict[Part, int], index: int, told: "_Told"
    ) -> bool:
        """From ``index`` until the shared frames are right for this client.

        False when the log dropped its place meanwhile: then ``own`` says where to go on.
        """
        wanted = dict(own)
        while True:
            if index < log.first:
                return False
            until = log.covered_at(wanted)
            if until is not None and until <= index:
                client.cursor = index
                if told.behind:
                    await client.write(chunk(sse.id_only(log.encode(own))))
                return True
            stop = min(log.end if until is None else until, index + OWN_IDS_RECORDS_MAX)
            records = [r for r in log.read(index, stop) if r.offset >= own.get(r.part, 0)]
            index = stop
            pieces = self._own_frames(log, own, [r for r in records if client.filter.matches(r)])
            own.update({r.part: r.offset + 1 for r in records})
            told.events += len(pieces) // 2
            if records:
                pieces += _progress(log, own, told)
            await _write(client, pieces)
            if until is None and index >= log.end:
                await self._hub.moved()
            else:
                # A socket with room never waits, so nobody else would have a turn.
                await asyncio.sleep(0)

    def _own_frames(
        self, log: EventLog, own: dict[Part, int], records: list[Record]
    ) -> list[bytes]:
        """Events with ids that are right for this client alone; moves ``own`` along."""
        pieces: list[bytes] = []
        partitions = log.partitions
        for record in records:
            own[record.part] = record.offset + 1
            pieces += (sse.id_line(log.encode(own, partitions)), record.block)
        self._hub.metrics.replayed.inc(len(records))
        return pieces

    async def _asked(self, client: Client, question: Callable[[], Answer]) -> Answer:
        """Ask the broker in a thread, again and again while it is away; heartbeats go on."""
        while True:
            try:
                async with self._questions.place(client.place):
                    return await _in_thread(question)
            except (BrokerUnavailable, TopicsMissing):
                await asyncio.sleep(RETRY_SECONDS)

    def _count(self, outcome: str) -> None:
        self._hub.metrics.resumed.labels(outcome).inc()


class _Told:
    """What a replay has given its client: how many events, and when the last id without an event.

    Such ids at most every PROGRESS_SECONDS (rule 26). ``behind``: records have been looked at since
    then, so that the replay must end with one.
    """

    def __init__(self, now: float) -> None:
        self._at = now
        self.events = 0
        self.behind = False

    def is_due(self, now: float) -> bool:
        """After a look at more records."""
        self.behind = now - self._at < PROGRESS_SECONDS
        if not self.behind:
            self._at = now
        return not self.behind


def _progress(log: EventLog, own: Offsets, told: _Told) -> list[bytes]:
    """The id of what has been looked at, where it is due."""
    return [sse.id_only(log.encode(own))] if told.is_due(time.monotonic()) else []


async def _in_thread(question: Callable[[], Answer]) -> Answer:
    """A client that leaves must not give its turn away while the thread still asks."""
    asking = asyncio.get_running_loop().run_in_executor(None, question)
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        await asyncio.wait((asking,))
        if not asking.cancelled():
            asking.exception()  # looked at: nobody else will
        raise


async def _write(client: Client, pieces: list[bytes]) -> None:
    for framed in chunks(pieces):
        await client.write(framed)


def _decoded(text: str, log: EventLog) -> StreamPosition:
    try:
        position = StreamPosition.decode(text)
    except MalformedStreamId:
        raise _Gap("malformed_id") from None
    if position.epoch != log.epoch:
        raise _Gap("unknown_epoch")
    return position


def _opening(replay_from: str | None, *, resumed: bool) -> bytes:
    return sse.control("stream.open", {"resumed": resumed, "replayFrom": replay_from})


def _gap(reason: GapReason, given: str | None, now: str) -> bytes:
    return sse.control("stream.gap", {"reason": reason, "from": given, "to": now})
