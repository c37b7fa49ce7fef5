"""Looks at the broker every few seconds: is it there, are these still our topics, how far behind.

The reader itself cannot tell: librdkafka keeps quiet about a broker that is back, reads a topic
that was made anew as if it were the old one, and never looks for new partitions of an assignment.
Nor does it always read on after a broker's restart (librdkafka's issue 5153): what could be read
over STALLED_LOOKS and was not has a new client read it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from shopstream_notifications.broker import Broker, BrokerUnavailable, TopicsMissing, Topology
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.records import Offsets, Part
from shopstream_notifications.source import Source, SourceState
from shopstream_shared.logs import get_logger

#: With METADATA_TIMEOUT_SECONDS on top, a broker that went away shows in health within 15 s.
WATCH_SECONDS: Final = 3.0
#: A busy loop or a broker just back may be late by a look or two; then a reader is not slow.
STALLED_LOOKS: Final = 3

_log = get_logger(__name__)


class Watcher:
    """``position`` tells where the reader stands, None before its start."""

    def __init__(
        self,
        broker: Broker,
        source: Source,
        metrics: Metrics,
        *,
        position: Callable[[], tuple[bytes, Offsets] | None],
        on_new_parts: Callable[[tuple[Part, ...]], None],
        on_stall: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._source = source
        self._metrics = metrics
        self._position = position
        self._on_new_parts = on_new_parts
        self._on_stall = on_stall
        #: Where a part stood that had more to read, and for how many looks it has.
        self._unread: dict[Part, tuple[int, int]] = {}

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            await self.look()
            await asyncio.sleep(WATCH_SECONDS)

    async def look(self) -> None:
        """Compare once."""
        try:
            topology = await asyncio.to_thread(self._broker.topology)
        except (BrokerUnavailable, TopicsMissing) as error:
            self._source.set(SourceState.UNAVAILABLE, str(error))
            return
        position = self._position()
        if position is None:
            return  # the reader reports its own start
        epoch, offsets = position
        if topology.epoch != epoch:
            self._recreated()
            return
        self._expand(topology, offsets)
        await self._measure(topology)

    def _recreated(self) -> None:
        if self._source.state is not SourceState.RECREATED:
            _log.error("stream.topic_recreated")
        self._source.set(SourceState.RECREATED, "topic_recreated")

    def _expand(self, topology: Topology, offsets: Offsets) -> None:
        added = tuple(part for part in topology.parts if part not in offsets)
        if added:
            _log.info("stream.partitions_added", parts=len(added))
            self._on_new_parts(added)

    async def _measure(self, topology: Topology) -> None:
        try:
            ends = await asyncio.to_thread(self._broker.ends, topology.parts)
        except BrokerUnavailable as error:
            self._source.set(SourceState.UNAVAILABLE, str(error))
            return
        position = self._position()
        if position is None:
            return
        _, offsets = position
        self._source.lag = {part: max(0, end - offsets.get(part, 0)) for part, end in ends.items()}
        for (topic, partition), behind in self._source.lag.items():
            self._metrics.lag.labels(topic, str(partition)).set(behind)
        self._source.set(SourceState.RUNNING)
        await self._look_for_a_stall(dict(offsets))

    async def _look_for_a_stall(self, offsets: Offsets) -> None:
        """Count the looks over which a part stood still below what could be read."""
        behind = [part for part, count in self._source.lag.items() if count]
        if not behind:
            self._unread = {}
            return
        try:
            # What is in an open transaction is not to be read yet.
            ends = await asyncio.to_thread(self._broker.stable_ends, behind)
        except BrokerUnavailable:
            return
        looks: dict[Part, tuple[int, int]] = {}
        for part in behind:
            at = offsets.get(part, 0)
            if ends[part] > at:
                before, count = self._unread.get(part, (at, 0))
                looks[part] = (at, count + 1 if before == at else 1)
        self._unread = looks
        stalled = [part for part, (_, count) in looks.items() if count > STALLED_LOOKS]
        if stalled:
            self._unread = {}
            _log.error("stream.reader_stalled", parts=len(stalled))
            self._metrics.stalls.inc()
            self._on_stall()
