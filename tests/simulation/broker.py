"""A broker with transactions, as a state machine: what it did, not what anybody was told.

Modelled: transactional ids with epochs and fencing; open transactions that hold the last stable
offset back; the decision to commit, after which the markers reach each partition in their own
time; the coordinator that settles what a producer left open, at `init` or after the transaction
time-out. As librdkafka speaks to brokers, the epoch belongs to a producer, not to each of its
transactions (the client half of KIP-890 is missing there, librdkafka issue 5423): a commit request
that was held up in the network ends whatever transaction of that epoch it finds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

TRANSACTION_SECONDS_MAX: Final = 10.0

State = Literal["open", "committing", "aborting", "committed", "aborted"]
Place = tuple[str, int]


class Busy(Exception):
    """Asked too early: the transaction before is still being settled; ask again."""


class FencedOff(Exception):
    """The epoch is not the newest of its transactional id, or its transaction timed out."""


@dataclass(slots=True, eq=False)
class Transaction:
    """Everything a producer wrote between two decisions."""

    transactional_id: str
    epoch: int
    state: State = "open"
    unmarked: list["Partition"] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return self.state in ("committed", "aborted")


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A record or, without a value, a marker."""

    transaction: Transaction
    value: Any


@dataclass(slots=True, eq=False)
class Partition:
    """An append-only log."""

    records: list[Record] = field(default_factory=list)
    #: First offsets of transactions whose marker is not here yet, oldest first.
    undecided: dict[int, Transaction] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The high watermark."""
        return len(self.records)

    @property
    def stable(self) -> int:
        """The last stable offset: a reader of committed records gets no further."""
        return next(iter(self.undecided), self.end)

    def append(self, transaction: Transaction, value: Any) -> int:
        if self not in transaction.unmarked:
            transaction.unmarked.append(self)
            self.undecided[self.end] = transaction
        self.records.append(Record(transaction, value))
        return self.end - 1

    def mark(self, transaction: Transaction) -> None:
        first = next(offset for offset, other in self.undecided.items() if other is transaction)
        del self.undecided[first]
        self.records.append(Record(transaction, None))

    def committed(self) -> Sequence[tuple[int, Any]]:
        """What a reader of committed records sees: (offset, value)."""
        return [
            (offset, record.value)
            for offset, record in enumerate(self.records[: self.stable])
            if record.value is not None and record.transaction.state in ("committing", "committed")
        ]


@dataclass(slots=True, eq=False)
class _Coordinator:
    epoch: int = 0
    transaction: Transaction | None = None


class Broker:
    """``later`` lets markers and time-outs happen in their own time."""

    def __init__(
        self,
        places: Sequence[Place],
        later: Callable[[float, Callable[[], None]], None],
        marker_seconds: Callable[[], float],
    ) -> None:
        self.partitions = {place: Partition() for place in places}
        self._later = later
        self._marker_seconds = marker_seconds
        self._coordinators: dict[str, _Coordinator] = {}

    def init(self, transactional_id: str) -> int:
        """The epoch of a new producer, once what the one before left is settled. Raises Busy."""
        own = self._coordinators.setdefault(transactional_id, _Coordinator())
        if own.transaction is not None and not own.transaction.settled:
            if own.transaction.state == "open":
                self._abort(own, own.transaction)
            raise Busy
        own.epoch += 1
        own.transaction = None
        return own.epoch

    def produce(
        self, transactional_id: str, epoch: int, place: Place, values: Sequence[Any]
    ) -> int:
        """The next offset after these records. Raises Busy and FencedOff."""
        own = self._living(transactional_id, epoch)
        transaction = own.transaction
        if transaction is None or transaction.settled:
            transaction = own.transaction = Transaction(transactional_id, epoch)
            self._expire_later(own, transaction)
        elif transaction.state != "open":
            raise Busy
        partition = self.partitions[place]
        for value in values:
            partition.append(transaction, value)
        return partition.end

    def end(self, transactional_id: str, epoch: int, *, commit: bool) -> None:
        """Decide; markers follow. Raises Busy while they do, and FencedOff."""
        own = self._living(transactional_id, epoch)
        transaction = own.transaction
        if transaction is None:
            return
        wanted, done = ("committing", "committed") if commit else ("aborting", "aborted")
        if transaction.state == "open":
            self._decide(transaction, commit=commit)
        elif transaction.state == wanted:
            raise Busy
        elif transaction.state != done:
            raise FencedOff

    def _living(self, transactional_id: str, epoch: int) -> _Coordinator:
        own = self._coordinators.get(transactional_id)
        if own is None or own.epoch != epoch:
            raise FencedOff
        return own

    def _abort(self, own: _Coordinator, transaction: Transaction) -> None:
        own.epoch += 1
        self._decide(transaction, commit=False)

    def _decide(self, transaction: Transaction, *, commit: bool) -> None:
        transaction.state = "committing" if commit else "aborting"
        for partition in transaction.unmarked[:]:
            self._later(self._marker_seconds(), partial(_mark, transaction, partition))

    def _expire_later(self, own: _Coordinator, transaction: Transaction) -> None:
        def expire() -> None:
            if transaction.state == "open":
                self._abort(own, transaction)

        self._later(TRANSACTION_SECONDS_MAX, expire)


def _mark(transaction: Transaction, partition: Partition) -> None:
    partition.mark(transaction)
    transaction.unmarked.remove(partition)
    if not transaction.unmarked:
        transaction.state = "committed" if transaction.state == "committing" else "aborted"
