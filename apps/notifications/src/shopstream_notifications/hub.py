"""Fan-out: one log, one pass, many sockets.

A pass takes all that arrived while the last one ran, appends it to the log, joins it once per
filter and gives the same bytes to each live client of that filter. There is no tick: at low rates
a pass follows each batch, at high rates passes grow by themselves (natural batching).

Invariants, all between two awaits of this loop:

- A live client has been given every matching record below ``log.end``, and nothing twice.
- A client that is not live has a task of its own, and a cursor; ``catch_up`` makes it live in the
  same step in which it finds nothing left to send.
- What waits for one client is bounded: the transport's high-water mark, one chunk, and
  ``client_bytes_max`` of references into the shared log; then its policy decides.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from shopstream_notifications import policies, sse
from shopstream_notifications.client import Client, Mark, Policy
from shopstream_notifications.filters import Filter
from shopstream_notifications.groups import Group, Groups
from shopstream_notifications.log import EventLog
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.records import Part, Record
from shopstream_notifications.source import Batch, Started
from shopstream_notifications.wire import Chunk, Flow, Transport, chunks
from shopstream_shared.clock import Clock
from shopstream_shared.logs import get_logger

#: A replay from memory looks at so many records at a time: then others have their turn, since a
#: filter on data reads each of them.
REPLAY_RECORDS_MAX: Final = 500

#: Started by the task itself: a task that is cancelled before its first step leaves nothing open.
Work = Callable[[], Coroutine[Any, Any, None]]

_log = get_logger(__name__)


class Hub:
    """Lives in the event loop; implements the consumer's Sink."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        *,
        log_bytes_max: int,
        log_seconds_max: float,
        client_bytes_max: int,
    ) -> None:
        self.metrics = metrics
        self.clock = clock
        self.clients: dict[int, Client] = {}
        self.groups = Groups()
        self.draining = False
        self._log: EventLog | None = None
        self._log_bytes_max = log_bytes_max
        self._log_seconds_max = log_seconds_max
        self._client_bytes_max = client_bytes_max
        self._incoming: list[Batch] = []
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()
        self._moved = asyncio.Event()
        self._numbers = 0

    # The consumer's side.

    def started(self, started: Started) -> None:
        self._log = EventLog(
            started.topology.epoch,
            started.position,
            bytes_max=self._log_bytes_max,
            seconds_max=self._log_seconds_max,
        )
        self._ready.set()
        _log.info("stream.started", parts=len(started.position))

    def deliver(self, batch: Batch) -> None:
        self._incoming.append(batch)
        self._arrived.set()

    def lost(self) -> None:
        """Records are missing: every client must learn it by resuming, none may be shown a hole."""
        self._incoming.clear()
        self._log = None
        self._ready.clear()
        for client in list(self.clients.values()):
            self.close(client, "source_lost")

    def add_parts(self, parts: tuple[Part, ...]) -> None:
        if self._log is not None:
            self._log.add_parts(parts)

    # The clients' side.

    @property
    def log(self) -> EventLog | None:
        """None until the broker has been reached."""
        return self._log

    async def ready_log(self) -> EventLog:
        """The log, once there is one."""
        while self._log is None:
            await self._ready.wait()
        return self._log

    async def moved(self) -> None:
        """Return after the next pass."""
        await self._moved.wait()

    def join(self, transport: Transport, flow: Flow, wanted: Filter, policy: Policy) -> Client:
        """Register a stream whose first bytes are out. It gets heartbeats, but no events yet."""
        self._numbers += 1
        client = Client(self._numbers, transport, flow, wanted, policy)
        self.clients[client.number] = client
        group = self.groups.join(wanted, 0 if self._log is None else self._log.end)
        client.filter = group.filter  # equal ones are kept once
        self.metrics.opened.inc()
        self.metrics.connections.set(len(self.clients))
        self.metrics.groups.set(len(self.groups))
        return client

    def run_for(self, client: Client, work: Work) -> None:
        """Give the client a task, for as long as it is not live."""
        client.task = asyncio.create_task(
            self._guarded(client, work), name=f"stream-client-{client.number}"
        )

    def leave(self, client: Client, reason: str = "client") -> None:
        """Forget a client whose connection is gone or about to go."""
        if client.closed:
            return
        client.closed = True
        del self.clients[client.number]
        self.groups.leave(client)
        if client.task is not None and client.task is not asyncio.current_task():
            client.task.cancel()
        self.metrics.closed.labels(reason).inc()
        self.metrics.connections.set(len(self.clients))
        self.metrics.groups.set(len(self.groups))

    def close(self, client: Client, reason: str) -> None:
        """End a stream from our side."""
        if not client.closed:
            self.leave(client, reason)
            client.close()

    async def catch_up(self, client: Client) -> int:
        """Send from the client's cursor on, by its policy, until it is live: how many events."""
        replayed = 0
        group = self.groups[client.filter] if not client.closed else None
        #: Records went by, behind the last one sent, that the filter left out.
        silent = False
        while group is not None and not client.closed and self._log is not None:
            log = self._log
            if client.cursor >= log.end:
                if silent:
                    # Or it would look at them again when it resumes.
                    silent = False
                    await _write(client, [sse.id_only(log.current_id())])
                    continue
                group.behind.discard(client)
                group.live.add(client)
                break
            fell_behind = client in group.behind
            if client.cursor < log.first and (not fell_behind or client.policy == "resume"):
                self.close(client, "slow")
                break
            begin = max(client.cursor, log.first)
            if fell_behind:
                await self._make_up(client, group, begin)
                continue
            passed = log.read(begin, min(log.end, begin + REPLAY_RECORDS_MAX))
            client.cursor = begin + len(passed)
            records = [r for r in passed if group.filter.matches(r)]
            silent = not records or records[-1] is not passed[-1]
            replayed += len(records)
            self.metrics.replayed.inc(len(records))
            await _write(client, [piece for r in records for piece in (r.id_line, r.block)])
            if len(passed) == REPLAY_RECORDS_MAX:
                # A socket with room never waits, so nobody else would have a turn.
                await asyncio.sleep(0)
        return replayed

    async def _make_up(self, client: Client, group: Group, first_held: int) -> None:
        """Send, by its policy, what a client missed while its socket was full."""
        log = self._log
        if log is None:
            return
        passed = log.read(first_held, log.end)
        begin, missed = client.cursor, group.sent.events - client.behind_from.events
        client.cursor, client.behind_from = log.end, group.sent
        records: list[Record] = []
        for first in range(0, len(passed), REPLAY_RECORDS_MAX):
            if first:
                await asyncio.sleep(0)
            turn = passed[first : first + REPLAY_RECORDS_MAX]
            records += [r for r in turn if group.filter.matches(r)]
        if not records or records[-1] is not passed[-1]:
            # The group may have been told of it while this client could not be: let it be again.
            group.told = min(group.told, begin)
        pieces = self._by_policy(client, records, missed)
        del passed, records  # a reader that stalls now must not keep them past the log
        await _write(client, pieces)

    def _by_policy(self, client: Client, records: list[Record], missed: int) -> list[bytes]:
        kept, dropped = policies.select(
            client.policy, records, missed=missed, bytes_max=self._client_bytes_max
        )
        self.metrics.dropped.inc(dropped)
        self._count(kept, 1)
        notice = [sse.control("stream.lagged", {"dropped": dropped})] if dropped else []
        return notice + [piece for r in kept for piece in (r.id_line, r.block)]

    async def _guarded(self, client: Client, work: Work) -> None:
        try:
            await work()
        except Exception:  # noqa: BLE001 - logged; one client's trouble is nobody else's
            _log.exception("stream.client_failed", client=client.number)
            self.close(client, "error")
        finally:
            client.task = None

    # The pass.

    async def run(self) -> None:
        """Pass after pass, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            self._pass()
            # Sockets are read and written between passes, also under full load.
            await asyncio.sleep(0)

    def _pass(self) -> None:
        log = self._log
        batches, self._incoming = self._incoming, []
        if log is None:
            return
        now = time.monotonic()
        begin = log.end
        for batch in batches:
            log.append(batch.records, batch.position, now)
        records = log.read(begin, log.end)
        for group in self.groups.matching(records):
            self._send(group, begin, log.end)
        self._measure(records)
        log.evict(now)
        self.metrics.log_bytes.set(log.bytes)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _send(self, group: Group, begin: int, end: int) -> None:
        """Give the group's pending records to its live clients; blocked ones fall behind."""
        records, group.pending = group.pending, []
        body = [piece for record in records for piece in (record.id_line, record.block)]
        before = group.sent
        size = sum(len(piece) for piece in body)
        group.sent = Mark(before.events + len(records), before.bytes + size)
        group.told = end
        framed = list(chunks(body))  # shared by all of the group
        # A client that blocks half-way through a large pass has its place by chunk, so the pass
        # as a whole counts as sent only for those that took all of it.
        for number in range(len(framed)):
            self._send_one(group, framed[number:], end)
        if group.behind:
            self._bound(group)
        self._count(records, len(group.live))

    def _send_one(self, group: Group, framed: list[Chunk], end: int) -> None:
        """Write the first of these chunks; who has no room gets them all from a task."""
        chunk = framed[0]
        blocked: list[Client] = []
        broken: list[Client] = []
        for client in group.live:
            if client.flow.write_paused:
                blocked.append(client)
                continue
            try:
                client.transport.write(chunk)
            except Exception:  # noqa: BLE001 - one socket's trouble is nobody else's
                broken.append(client)
        for client in broken:
            # A peer that left is noticed here before its handler wakes.
            self.close(client, "client" if client.transport.is_closing() else "error")
        if blocked:
            # These chunks wait too: they are in what the client is behind by.
            waiting = Mark(group.sent.events, group.sent.bytes - sum(map(len, framed)))
        for client in blocked:
            group.live.discard(client)
            group.behind.add(client)
            client.cursor, client.behind_from = end, waiting
            self.run_for(client, partial(self._unblock, client, framed))

    async def _unblock(self, client: Client, rest: list[Chunk]) -> None:
        for chunk in rest:
            await client.write(chunk)
        await self.catch_up(client)

    def _bound(self, group: Group) -> None:
        """Policy ``resume``: too much waiting means close; the client's last id is its place."""
        limit = group.sent.bytes - self._client_bytes_max
        for client in [c for c in group.behind if c.policy == "resume"]:
            if client.behind_from.bytes < limit:
                self.close(client, "slow")

    def _count(self, records: list[Record], clients: int) -> None:
        self.metrics.frames.inc(len(records) * clients)
        self.metrics.bytes.inc(sum(r.size for r in records) * clients)

    def _measure(self, records: list[Record]) -> None:
        self.metrics.records.inc(len(records))
        now = self.clock.now().timestamp()
        for record in records:
            self.metrics.delivery.observe(max(0.0, now - record.timestamp_ms / 1_000))


async def _write(client: Client, pieces: list[bytes]) -> None:
    for framed in chunks(pieces):
        await client.write(framed)
