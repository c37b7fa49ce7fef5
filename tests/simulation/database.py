"""One shard of the outbox's database, as a state machine; each method is a statement, committed.

Modelled: the identity ``seq``, drawn under the aggregate's row lock; commits in another order than
their numbers; sessions that end after silence and hold the leader's lock until then; the tables
``outbox``, ``outbox_poison``, ``relay_state`` and ``stream_position``.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from shopstream_api.outbox.relay.ports import Row, Settling, Topics

IDLE_SESSION_SECONDS_MAX: Final = 5.0


class SessionEnded(Exception):
    """The server has ended this session."""


@dataclass(slots=True, eq=False)
class Session:
    """A connection's far end. ``busy``: statements that arrived and are not done yet."""

    used: float
    busy: int = 0
    ended: bool = False
    #: It was silent for too long before the statement it is at was sent.
    expired: bool = False


def _oldest_first(row: Row) -> int:
    return row.seq


@dataclass(slots=True, eq=False)
class Database:
    """``locked`` False: the leader's lock is granted to everyone who asks.

    With ``alone`` no transaction is split; otherwise its rows lie in several shards anyway.
    """

    now: Callable[[], float]
    outbox_id: str
    shard: int = 0
    alone: bool = True
    locked: bool = True
    transactional_id: str | None = None
    position: str = ""
    #: Looks at each position that is stored.
    on_position: Callable[[str], None] = lambda _: None
    outbox: dict[int, Row] = field(default_factory=dict)
    poisoned: dict[int, Row] = field(default_factory=dict)
    topics: Topics = field(default_factory=dict)
    #: Every row that was ever committed, by seq: what the log must hold.
    written: dict[int, Row] = field(default_factory=dict)
    _leader: Session | None = None

    def connect(self) -> Session:
        return Session(self.now())

    def use(self, session: Session) -> None:
        """A statement arrives. Raises SessionEnded."""
        if not self._lives(session):
            raise SessionEnded
        session.used = self.now()

    def commit(self, rows: Sequence[Row]) -> None:
        """A writer's transaction: all its rows at once."""
        for row in rows:
            self.outbox[row.seq] = self.written[row.seq] = row

    def try_lead(self, session: Session) -> bool:
        if not self.locked:
            return True
        if self._leader is None or not self._lives(self._leader):
            self._leader = session
        return self._leader is session

    def take(
        self,
        rows_max: int,
        *,
        after: int = 0,
        order: Callable[[Row], int] = _oldest_first,
        whole: bool = True,
    ) -> Sequence[Row]:
        """Whole transactions, the oldest rows first; a test may want it otherwise."""
        rows = [self._seen(row) for row in sorted(self.outbox.values(), key=order)]
        rows = [row for row in rows if row.seq > after]
        end = min(rows_max, len(rows))
        if not (whole and self.alone) or end == len(rows):
            return rows[:end]
        while not (unsplit := _whole(rows[:end])) and end < len(rows):
            end += 1
        return rows[: unsplit or end]

    def take_behind(
        self,
        taken: Sequence[Row],
        under_way: int,
        rows_max: int,
        *,
        older_first: bool = True,
        whole: bool = True,
    ) -> Sequence[Row]:
        """What comes behind a batch, if all up to its last row is ``under_way``."""
        last = taken[-1].seq
        if older_first and sum(seq <= last for seq in self.outbox) != under_way:
            return []
        rows = [self._seen(row) for row in sorted(self.outbox.values(), key=_oldest_first)]
        rows = [row for row in rows if row.seq > last]
        if not (whole and self.alone) or len(rows) <= rows_max:
            return rows[:rows_max]
        return rows[: _whole(rows[:rows_max])]

    def settle(self, settling: Settling) -> None:
        for seq in settling.seqs:
            self.outbox.pop(seq, None)
        self.position = settling.stream_id
        self.on_position(settling.stream_id)

    def poison(self, seqs: Collection[int]) -> int:
        moved = [self.outbox.pop(seq) for seq in sorted(seqs) if seq in self.outbox]
        self.poisoned.update((row.seq, row) for row in moved)
        for seq, row in self.outbox.items():
            fewer = sum(other.txid == row.txid for other in moved)
            if fewer:
                self.outbox[seq] = _changed(row, txrows=row.txrows - fewer)
        return len(moved)

    def lag(self) -> tuple[int, int | None]:
        return len(self.outbox), min((row.time_ms for row in self.outbox.values()), default=None)

    def end(self, session: Session) -> None:
        """The session ends, after the statement it is at."""
        session.ended = True

    def hold(self, session: Session, change: int) -> None:
        """A statement is sent (1), or done (-1)."""
        self._lives(session)
        session.busy += change

    def _lives(self, session: Session) -> bool:
        if session.expired:
            return False
        if session.busy:
            return True
        if self.now() - session.used > IDLE_SESSION_SECONDS_MAX:
            session.ended = session.expired = True
        return not session.ended

    def _seen(self, row: Row) -> Row:
        waits = any(
            other.topic == row.topic and other.key == row.key and other.seq < row.seq
            for other in self.poisoned.values()
        )
        return _changed(row, txrows=row.txrows, blocked=True) if waits else row


def _changed(row: Row, *, txrows: int, blocked: bool = False) -> Row:
    return Row(
        row.seq, row.topic, row.key, row.value, row.headers, row.time_ms, row.txid, txrows, blocked
    )


def _whole(rows: Sequence[Row]) -> int:
    """How many of the rows, from the first, split no transaction."""
    missing: dict[int, int] = {}
    whole = 0
    for number, row in enumerate(rows, 1):
        missing[row.txid] = missing.get(row.txid, row.txrows) - 1
        if all(left <= 0 for left in missing.values()):
            whole = number
    return whole
