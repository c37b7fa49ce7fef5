"""The dead letters, read from their topic: in pages, newest first, or one by where it came from.

A page is read backwards in windows that double until they hold enough; markers of transactions
take offsets too, so an offset is no count. Within a partition the order is that of the topic, among
partitions that of the letters' times. A cursor holds, for each partition, the offset below which
the next page reads: letters that come meanwhile lie above all of them, so no page skips or repeats.

Kafka's client blocks: everything here is called in a thread.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaException, Message
from confluent_kafka.admin import AdminClient

from shopstream_analytics import cursors
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.sink import SinkUnavailable
from shopstream_shared.clock import format_time
from shopstream_shared.kafka import KafkaConnection, topic_states
from shopstream_shared.letter_head import read_head
from shopstream_shared.log_range import EARLIEST, Part, committed_records, log_ends, log_offsets
from shopstream_shared.topics import DEAD_LETTER

T = TypeVar("T")

#: Offsets a letter, at least: itself and the marker of its transaction.
WINDOW_A_LETTER: Final = 2
CURSOR_CHARACTERS_MAX: Final = 2_048


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was set aside; ``place`` is where the letter itself lies, ``at`` in ms."""

    source: Source
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str
    at: int
    place: tuple[int, int]
    #: Of the topic: an offset stands for another record in each.
    epoch: int = 0

    def as_json(self) -> dict[str, Any]:
        """A row, as the contract spells it; a key that is no text has its bytes replaced.

        ``epoch`` only where it is not the first: an offset stands for another record in each.
        """
        moment = datetime.fromtimestamp(self.at // 1_000, UTC).replace(
            microsecond=self.at % 1_000 * 1_000
        )
        return {
            "topic": self.source.topic,
            "partition": self.source.partition,
            "offset": self.offset,
            "key": None if self.key is None else self.key.decode(errors="replace"),
            "reason": self.reason,
            "detail": self.detail,
            "at": format_time(moment),
            **({"epoch": self.epoch} if self.epoch else {}),
        }


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Letters newest first; ``cursor`` is None on the last page."""

    letters: Sequence[DeadLetter]
    cursor: str | None


def letter_of(message: Message) -> DeadLetter | None:
    """None for a record of the topic that is no letter of ours."""
    head = read_head(message.headers())
    if head is None:
        return None
    return DeadLetter(
        source=Source(head.topic, head.partition),
        offset=head.offset,
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        reason=head.reason,
        detail=head.detail,
        at=message.timestamp()[1],
        place=(message.partition() or 0, message.offset() or 0),
        epoch=head.epoch,
    )


def _bytes(text: str | bytes | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


@dataclass(frozen=True, slots=True)
class LetterBox:
    """The topic of dead letters. Every call raises SinkUnavailable when the broker is away."""

    kafka: KafkaConnection

    def page(self, limit: int, cursor: str | None) -> LetterPage:
        """Raises BadCursor and SinkUnavailable."""
        below = (
            None
            if cursor is None
            else cursors.unpack(cursor, dict[int, int], CURSOR_CHARACTERS_MAX)
        )
        return _answered(lambda: self._page(limit, below))

    def find(self, source: Source, offset: int, epoch: int) -> DeadLetter | None:
        """The newest letter of this record; None when there is none. Raises SinkUnavailable."""
        return _answered(lambda: self._find(source, offset, epoch))

    def _page(self, limit: int, below: Mapping[int, int] | None) -> LetterPage:
        starts, ends = self._range()
        tops = ends if below is None else {p: min(e, below.get(p[1], e)) for p, e in ends.items()}
        found = {
            part: self._newest(part, starts[part], top, limit + 1) for part, top in tops.items()
        }
        merged = heapq.merge(*found.values(), key=lambda letter: -letter.at)
        shown = list(islice(merged, limit))
        if sum(map(len, found.values())) <= limit:
            return LetterPage(shown, None)
        following = {part[1]: top for part, top in tops.items()}
        for letter in shown:
            partition, offset = letter.place
            following[partition] = min(following[partition], offset)
        return LetterPage(shown, cursors.pack(following))

    def _newest(self, part: Part, first: int, end: int, wanted: int) -> list[DeadLetter]:
        """The last so many letters of [first, end), newest first."""
        found: list[DeadLetter] = []
        window = wanted * WINDOW_A_LETTER
        while end > first and len(found) < wanted:
            begin = max(first, end - window)
            letters = list(self._letters({part: begin}, {part: end}))
            found += reversed(letters)
            end, window = begin, window * 2
        return found[:wanted]

    def _find(self, source: Source, offset: int, epoch: int) -> DeadLetter | None:
        newest: DeadLetter | None = None
        starts, ends = self._range()
        for letter in self._letters(starts, ends):
            mine = (letter.source, letter.offset, letter.epoch) == (source, offset, epoch)
            if mine and (newest is None or letter.at >= newest.at):
                newest = letter
        return newest

    def _letters(self, begin: Mapping[Part, int], end: Mapping[Part, int]) -> Iterator[DeadLetter]:
        for message in committed_records(self.kafka, begin, end):
            letter = letter_of(message)
            if letter is not None:
                yield letter

    def _range(self) -> tuple[dict[Part, int], dict[Part, int]]:
        """Where each partition begins, and how far it is settled."""
        admin = AdminClient(self.kafka.admin())
        state = topic_states(admin, (DEAD_LETTER,)).get(DEAD_LETTER)
        parts = [
            (DEAD_LETTER, number) for number in range(0 if state is None else state.partitions)
        ]
        return log_offsets(admin, parts, EARLIEST), log_ends(admin, parts, committed=True)


def _answered(work: Callable[[], T]) -> T:
    try:
        return work()
    except KafkaException as error:
        raise SinkUnavailable(f"broker: {error.args[0]}") from error
