"""Partition time worked out again from the log, where a checkpoint does not say it.

The note of it in a checkpoint holds for one position. A release from before the note, or
`shopstream sinks skip`, moves the position alone; going on with the old note, or with none, would
find other events late than verify and a rebuild do.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException

from shopstream_analytics.aggregates.sink import Letters
from shopstream_analytics.aggregates.timeliness import PartitionTime, mark
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.events import DecodedEvent, EventRejected, read_event
from shopstream_analytics.sink import SinkUnavailable
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.log_range import committed_records
from shopstream_shared.logs import get_logger

#: Offsets before the position that are looked at, so that a partition is opened within seconds.
#: What lies further back matters only where all of these are late, or the first of a wrong clock.
RECOUNT_OFFSETS_MAX: Final = 100_000
#: Events that are held decoded at a time.
_EVENTS_A_STEP: Final = 1_000

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LogRecount:
    """See aggregates.sink.Recount."""

    kafka: KafkaConnection

    async def __call__(
        self, source: Source, first: int, position: int, letters: Letters
    ) -> PartitionTime:
        """Partition time at a position of a log that begins at ``first``. Raises SinkUnavailable.

        Exact where the log has all that the partition ever held, within RECOUNT_OFFSETS_MAX.
        """
        begin = max(first, position - RECOUNT_OFFSETS_MAX)
        # A record with a letter has no time, whoever can read it by now (docs/adr/0039).
        aside = await letters.standing(begin)
        time = await asyncio.to_thread(self._read, source, begin, position, aside)
        log.warning(
            "partition time recounted",
            source=str(source),
            begin=begin,
            to=position,
            time=str(time.at),
        )
        return time

    def _read(
        self, source: Source, begin: int, position: int, aside: frozenset[int]
    ) -> PartitionTime:
        part = (source.topic, source.partition)
        time = PartitionTime()
        events: list[tuple[int, DecodedEvent]] = []
        try:
            for message in committed_records(self.kafka, {part: begin}, {part: position}):
                offset = message.offset() or 0
                if offset in aside:
                    continue
                try:
                    events.append((offset, read_event(_bytes(message.value()))))
                except EventRejected:
                    # A dead letter: it has no time.
                    continue
                if len(events) >= _EVENTS_A_STEP:
                    _, time = mark(events, time)
                    events.clear()
        except KafkaException as error:
            raise SinkUnavailable(f"broker: {error.args[0]}") from error
        return mark(events, time)[1]


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
