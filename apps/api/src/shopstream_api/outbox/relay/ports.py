"""What the relay needs of the world. Everything it does happens through these three ports.

All calls block. Calls that may wait long take no time-out of their own: the adapter bounds each
step to about a second and calls the relay's heartbeat between steps, which may raise to end the
wait.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from shopstream_shared.topics import TopicState

Position = Mapping[tuple[str, int], int]

Topics = Mapping[str, TopicState]

#: Values of one batch, together; of a backlog the relay holds two, one being sent, one read ahead.
BATCH_BYTES_MAX: Final = 16 * 2**20


class Row(msgspec.Struct, frozen=True, gc=False):
    """One outbox row. ``blocked``: an earlier row of its aggregate waits among the poison.

    A Struct, as tens of thousands are made a second: a frozen dataclass takes several times as
    long.
    """

    seq: int
    topic: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, str]]
    time_ms: int
    txid: int
    txrows: int
    blocked: bool = False


class StoreFailed(Exception):
    """The database is away, or our session ended; the relay begins a new term."""


class LogFailed(Exception):
    """The broker is away or the producer is spent; the relay begins a new term.

    Never says whether an attempted commit happened: only the progress record does (protocol
    rule 8).
    """


class Fenced(LogFailed):
    """Another relay has taken over this transactional id."""


class ProducerSpent(LogFailed):
    """This producer may begin nothing more, though nothing is lost; a new one may at once."""


class RowsRefused(Exception):
    """The broker can never accept these rows (protocol rule 11); reasons by ``seq``."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        self.reasons = dict(reasons)
        super().__init__(f"the broker refuses {len(self.reasons)} events for good")


class Settling(NamedTuple):
    """Numbers of rows that are on the log, and the position behind them."""

    seqs: Collection[int]
    stream_id: str


#: Waits until what was begun is done, durably, and gives the rows. Raises StoreFailed.
ReadAhead = Callable[[], Sequence[Row]]


class OutboxStore(Protocol):
    """The outbox of one shard, on a session of its own. Every method may raise StoreFailed."""

    def try_lead(self) -> bool:
        """Take the leader's lock on this session, or say that another has it."""
        ...

    def ping(self) -> None:
        """Keep the session, and with it the lock, alive."""
        ...

    def take(self, rows_max: int) -> Sequence[Row]:
        """The oldest undeleted rows by ``seq``, in order, whole transactions only.

        About ``rows_max``, or fewer that are BATCH_BYTES_MAX long; more of either when a
        transaction reaches past it.
        """
        ...

    def read_ahead(
        self, taken: Sequence[Row], rows_max: int, settling: Settling | None
    ) -> ReadAhead:
        """Begin to settle the batch before, if any, and to read what comes behind ``taken``.

        It is what `take` will give once ``taken``, a batch that it gave, is deleted; nothing when
        older rows have been committed since, which go first (protocol rule 3), or when a
        transaction is larger than ``rows_max``. Nothing else is asked of the store before the
        answer is.
        """
        ...

    def settle(self, settling: Settling) -> None:
        """Delete rows known to be on the log and store the position, in one durable commit."""
        ...

    def poison(self, reasons: Mapping[int, str]) -> int:
        """Move rows out of the way, each with its reason; returns how many were still there."""
        ...

    def identity(self) -> tuple[str, str | None]:
        """The outbox's own id, and the transactional id last used with this shard."""
        ...

    def remember_transactional_id(self, transactional_id: str) -> None:
        """Store the id now in use."""
        ...

    def note_topics(self, found: Topics) -> None:
        """Store those of ``found`` that are not known yet, as they are."""
        ...

    def topics(self) -> Topics:
        """The topics as stored."""
        ...

    def lag(self) -> tuple[int, int | None]:
        """How many rows wait (counted up to a bound), and the time of the oldest in epoch ms."""
        ...

    def close(self) -> None:
        """End the session; never raises."""
        ...


class Delivered(NamedTuple):
    """Where a batch lies: the offsets in each stream partition that it was written to."""

    #: Of its first record there.
    first: Position
    #: After its last one.
    next: Position


class EventLog(Protocol):
    """The log, through one transactional producer. Methods raise LogFailed or Fenced."""

    def fence(self, transactional_id: str) -> None:
        """Make a producer of this id the only living one; settles what an earlier left open."""
        ...

    def topics(self) -> Topics:
        """The topics that a relay uses, as the broker has them now."""
        ...

    def read_progress(self, ours: Callable[[bytes], bool]) -> bytes | None:
        """The newest committed progress record of this shard that is ours, once it is final."""
        ...

    def end_position(self) -> Position:
        """The end offsets of all stream partitions."""
        ...

    def begin(self) -> None: ...

    def send(self, rows: Sequence[Row]) -> None:
        """Begin to send rows inside the open transaction."""
        ...

    def deliver(self, progress: bytes) -> Delivered:
        """Send the progress record of what was sent, and wait until the broker has it all.

        Also raises RowsRefused.
        """
        ...

    def commit(self) -> None:
        """Commit the open transaction, repeating this one call until its end is known."""
        ...

    def close(self) -> None:
        """Drop the producer as it is, without a word to the broker; never raises."""
        ...


class Waits(Protocol):
    """The relay's clock and its own waits, each of which a stop ends at once."""

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        ...

    def stop(self) -> None:
        """Ask the relay to end."""
        ...

    def stopped(self) -> bool: ...

    def pause(self, seconds: float) -> None:
        """Wait so long."""
        ...

    def clear(self) -> None:
        """Forget wake-ups; the relay does so before it looks, so that none is lost."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait for a wake-up, at most so long."""
        ...
