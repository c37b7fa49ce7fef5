"""The relay's three ports over the model's network.

They do what the real adapters do: `postgres.PostgresStore` ends its session with the first failure;
`kafka.KafkaLog` repeats `init_transactions` and `commit_transaction`, waits for the last stable
offset, and leaves a producer that may have asked twice for a commit, which it knows by time only.
What a `Piece` names is left out where a test asks for it.
"""

import contextlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from tests.simulation.broker import Broker, Busy, FencedOff, Place
from tests.simulation.database import Database, SessionEnded
from tests.simulation.pieces import Piece
from tests.simulation.process import Process, Unanswered

from shopstream_api.outbox.relay.ports import (
    Delivered,
    Fenced,
    LogFailed,
    Position,
    ProducerSpent,
    ReadAhead,
    Row,
    RowsRefused,
    Settling,
    StoreFailed,
    Topics,
)
from shopstream_shared.kafka import RETRY_BACKOFF_MS, RETRY_SECONDS_MIN
from shopstream_shared.topics import RELAY_PROGRESS, TopicState

T = TypeVar("T")

HUGE: Final = b"huge"
SETTLE_SECONDS_MAX: Final = 30.0
ASK_AGAIN_SECONDS: Final = 0.05
SLOW_SECONDS: Final = 1.0


class SimWaits:
    """The clock and the waits of a process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now(self) -> float:
        return self._process.world.now

    def stop(self) -> None:
        self._process.stopping = True

    def stopped(self) -> bool:
        return self._process.stopping

    def pause(self, seconds: float) -> None:
        self._process.rest(seconds)

    def clear(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        # A wake-up may come at any moment.
        self._process.rest(seconds * self._process.world.rng.random())


class SimStore:
    """An OutboxStore; connects at once."""

    def __init__(self, process: Process, database: Database, without: Piece | None = None) -> None:
        self._process = process
        self._database = database
        self._without = without
        self._last = 0
        self._session = self._asked("connect", database.connect)
        process.hang_up = self._hang_up

    def try_lead(self) -> bool:
        return self._do("try_lead", lambda: self._database.try_lead(self._session))

    def ping(self) -> None:
        self._do("ping", lambda: None)

    def take(self, rows_max: int) -> Sequence[Row]:
        rows = self._do("take", lambda: self._taken(rows_max))
        if rows:
            self._process.note("take", [(row.seq, row.value == HUGE) for row in rows])
        self._last = max((row.seq for row in rows), default=self._last)
        return rows

    def read_ahead(
        self, taken: Sequence[Row], rows_max: int, settling: Settling | None
    ) -> ReadAhead:
        def read() -> Sequence[Row]:
            rows = self._behind(taken, rows_max, settling)
            if settling is not None and self._without is not Piece.SETTLED_BEFORE_LISTED:
                self._settle(settling)
            elif settling is not None:
                world = self._process.world
                world.at(world.some(SLOW_SECONDS), lambda: self._settle_late(settling))
            return rows

        def answer() -> Sequence[Row]:
            rows = self._do("read ahead", read)
            if rows:
                self._process.note("read ahead", [row.seq for row in rows])
                self._last = max(row.seq for row in rows)
            return rows

        # The server is done soon, or just before the answer is awaited.
        if self._process.world.chance(0.5):
            rows = answer()
            return lambda: rows
        return answer

    def settle(self, settling: Settling) -> None:
        self._do("settle", lambda: self._settle(settling))

    def poison(self, reasons: Mapping[int, str]) -> int:
        def poison() -> int:
            self._process.note("poison", reasons)
            return self._database.poison(list(reasons))

        return self._do("poison", poison)

    def identity(self) -> tuple[str, str | None]:
        def identity() -> tuple[str, str | None]:
            used = self._database.transactional_id
            if used is not None and self._without is Piece.TRANSACTIONAL_ID:
                used = self._process.transactional_id
            return self._database.outbox_id, used

        return self._do("identity", identity)

    def remember_transactional_id(self, transactional_id: str) -> None:
        def remember() -> None:
            self._database.transactional_id = transactional_id

        self._do("remember", remember)

    def note_topics(self, found: Topics) -> None:
        def note() -> None:
            self._database.topics = {**found, **self._database.topics}

        self._do("note topics", note)

    def topics(self) -> Topics:
        return self._do("topics", lambda: self._database.topics)

    def lag(self) -> tuple[int, int | None]:
        return self._do("lag", self._database.lag)

    def close(self) -> None:
        if not self._process.killed:
            self._hang_up()

    def _taken(self, rows_max: int) -> Sequence[Row]:
        if self._without is Piece.ALL_UNDELETED_ROWS:
            return self._database.take(rows_max, after=self._last)
        if self._without is Piece.ORDER_BY_SEQ:
            return self._database.take(rows_max, order=_by_event_id)
        whole = self._without is not Piece.WHOLE_TRANSACTIONS
        return self._database.take(rows_max, whole=whole)

    def _behind(
        self, taken: Sequence[Row], rows_max: int, settling: Settling | None
    ) -> Sequence[Row]:
        return self._database.take_behind(
            taken,
            len(taken) + (0 if settling is None else len(settling.seqs)),
            rows_max,
            older_first=self._without is not Piece.OLDER_ROWS_FIRST,
            whole=self._without is not Piece.WHOLE_TRANSACTIONS,
        )

    def _settle_late(self, settling: Settling) -> None:
        if not self._session.ended:
            self._settle(settling)

    def _settle(self, settling: Settling) -> None:
        self._process.note("settle", list(settling.seqs))
        self._database.settle(settling)

    def _do(self, name: str, statement: Callable[[], T]) -> T:
        def arrive() -> T:
            self._database.use(self._session)
            return statement()

        return self._asked(name, arrive)

    def _asked(self, name: str, request: Callable[[], T]) -> T:
        try:
            return self._process.call(name, request, self._hold)
        except Unanswered:
            raise StoreFailed(f"{name}: no answer") from None
        except SessionEnded:
            raise StoreFailed(f"{name}: the session has ended") from None

    def _hold(self, change: int) -> None:
        if hasattr(self, "_session"):
            self._database.hold(self._session, change)

    def _hang_up(self) -> None:
        world, session = self._process.world, self._session
        world.at(
            world.some(self._process.climate.latency_seconds), lambda: self._database.end(session)
        )


class SimLog:
    """An EventLog of one producer after the other."""

    def __init__(
        self,
        process: Process,
        broker: Broker,
        heartbeat: Callable[[], None],
        shard: int = 0,
        without: Piece | None = None,
    ) -> None:
        self._progress: Place = RELAY_PROGRESS, shard
        self._process = process
        self._broker = broker
        self._heartbeat = heartbeat
        self._without = without
        self._id = ""
        self._epoch = 0
        #: As in KafkaLog, by time alone.
        self._doubtful = False
        self._batches: dict[Place, list[Row | bytes]] = {}
        #: Of what the broker has of them already.
        self._ends: dict[Place, int] = {}
        self._refused: dict[int, str] = {}

    def fence(self, transactional_id: str) -> None:
        self._id = transactional_id
        if self._without is Piece.FENCING:
            self._id += f"-{self._process.world.number()}"
        own = self._id
        self._epoch = self._repeat("init", lambda: self._broker.init(own))
        self._doubtful = False
        self._process.note("fence", f"{self._id} epoch {self._epoch}")

    def topics(self) -> Topics:
        counts = self._process.climate.partitions
        found = {topic: TopicState("1", count) for topic, count in counts.items()}
        return self._once("topics", lambda: found)

    def read_progress(self, ours: Callable[[bytes], bool]) -> bytes | None:
        if self._without is Piece.PROGRESS_RECORD:
            return None
        partition = self._broker.partitions[self._progress]
        end = self._final_end()
        found: list[bytes] = [
            value
            for offset, value in self._once("read progress", partition.committed)
            if offset < end and (self._without is Piece.OUTBOX_IDENTITY or ours(value))
        ]
        self._process.note("read progress", found[-1] if found else None)
        return found[-1] if found else None

    def end_position(self) -> Position:
        return self._once(
            "end position",
            lambda: {
                place: log.end
                for place, log in self._broker.partitions.items()
                if place[0] != RELAY_PROGRESS
            },
        )

    def begin(self) -> None:
        # KafkaLog does the same: a commit request that was held up would end the next transaction.
        if self._doubtful and self._without is not Piece.NEW_PRODUCER:
            raise ProducerSpent("this producer may have asked more than once for a commit")

    def send(self, rows: Sequence[Row]) -> None:
        self._refused = {row.seq: "too large" for row in rows if row.value == HUGE}
        self._batches, self._ends = {}, {}
        for row in rows:
            if row.seq not in self._refused:
                self._batches.setdefault(self._place(row), []).append(row)
        # Some goes out at once.
        if self._process.world.chance(0.5):
            self._send()

    def deliver(self, progress: bytes) -> Delivered:
        self._batches[self._progress] = [progress]
        self._send()
        if self._refused:
            raise RowsRefused(self._refused)
        after = {place: end for place, end in self._ends.items() if place != self._progress}
        first = {place: end - len(self._batches[place]) for place, end in after.items()}
        return Delivered(first, after)

    def commit(self) -> None:
        began = self._process.world.now
        if self._without is Piece.COMMIT_ONLY_AGAIN:
            self._commit_or_send_again()
        else:
            self._repeat("commit", self._ending(commit=True))
        self._doubtful = self._process.world.now - began >= RETRY_SECONDS_MIN
        self._process.note("commit answered", f"{self._id} epoch {self._epoch}")

    def close(self) -> None:
        """Nothing is said to the broker."""

    def _send(self) -> None:
        places = [place for place in self._batches if place not in self._ends]
        self._process.world.rng.shuffle(places)
        for place in places:
            self._ends[place] = self._repeat("produce", self._produced(place))

    def _produced(self, place: Place) -> Callable[[], int]:
        """Send one batch; the broker knows by its number when it has it already."""
        values, identity, ends = self._batches[place], (self._id, self._epoch), list[int]()

        def produce() -> int:
            if not ends:
                ends.append(self._broker.produce(*identity, place, values))
                self._process.note("produce", f"{place[0]}/{place[1]} to {ends[0]}")
            return ends[0]

        return produce

    def _ending(self, *, commit: bool) -> Callable[[], None]:
        """The request of the producer of now, whenever it arrives."""
        identity = self._id, self._epoch
        return lambda: self._broker.end(*identity, commit=commit)

    def _commit_or_send_again(self) -> None:
        """What may not be done: decide from the error that nothing was committed."""
        while True:
            try:
                self._once("commit", self._ending(commit=True))
            except LogFailed as error:
                if isinstance(error, Fenced):
                    raise
                with contextlib.suppress(LogFailed):
                    self._once("abort", self._ending(commit=False))
                self._ends = {}
                self._send()
            else:
                return

    def _final_end(self) -> int:
        """The end of the progress partition once nothing below it is open (rule 7)."""
        partition = self._broker.partitions[self._progress]
        deadline = self._process.world.now + SETTLE_SECONDS_MAX
        end = self._once("end", lambda: partition.end)
        while True:
            stable = self._once("stable end", lambda: partition.stable)
            if self._without is Piece.LSO_WAIT:
                return stable
            if stable >= end:
                return end
            if self._process.world.now > deadline:
                raise LogFailed("the progress partition stays open")
            self._heartbeat()
            self._process.rest(ASK_AGAIN_SECONDS)

    def _place(self, row: Row) -> Place:
        return row.topic, zlib.crc32(row.key) % self._process.climate.partitions[row.topic]

    def _repeat(self, name: str, request: Callable[[], T]) -> T:
        """Ask again while the outcome is open; after some times give up."""
        deadline = self._process.world.now + SETTLE_SECONDS_MAX
        tries = self._process.world.rng.randint(1, 4)
        while True:
            try:
                return self._process.call(name, request)
            except Unanswered:
                # librdkafka waits before it sends again, with a jitter of a fifth.
                part = self._process.world.rng.uniform(0.8, 1.2)
                self._process.rest(part * RETRY_BACKOFF_MS / 1_000)
                tries -= 1
            except Busy:
                self._process.rest(ASK_AGAIN_SECONDS)
            except FencedOff:
                raise Fenced(name) from None
            if not tries or self._process.world.now > deadline:
                raise LogFailed(f"{name}: no answer")
            self._heartbeat()

    def _once(self, name: str, request: Callable[[], T]) -> T:
        try:
            return self._process.call(name, request)
        except (Unanswered, Busy) as error:
            raise LogFailed(f"{name}: {type(error).__name__}") from None
        except FencedOff:
            raise Fenced(name) from None


def _by_event_id(row: Row) -> int:
    """The order of UUIDs, which is nobody's."""
    return zlib.crc32(b"%d" % row.seq)
