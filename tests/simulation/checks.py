"""What must hold once all is quiet: the log against everything that was ever committed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.simulation.broker import Broker, Transaction
from tests.simulation.climate import OUTBOX
from tests.simulation.database import Database
from tests.simulation.ports import HUGE
from tests.simulation.world import Violation

from shopstream_api.outbox.relay.ports import Row
from shopstream_api.outbox.relay.progress import decode_progress
from shopstream_shared.stream_id import StreamPosition
from shopstream_shared.topics import RELAY_PROGRESS

Aggregate = tuple[str, bytes]


@dataclass(slots=True)
class _Content:
    """What one of the relay's transactions brought to the log."""

    rows: list[Row] = field(default_factory=list)
    listed: list[int] = field(default_factory=list)


def judge(broker: Broker, shards: Sequence[Database]) -> None:
    """Every row once, in order, nothing else, nothing left. Raises Violation."""
    on_log = _on_log(broker)
    everything: dict[int, Row] = {}
    for database in shards:
        everything |= database.written
        _once_each(on_log, database)
    _nothing_phantom(on_log, everything)
    _in_order(on_log)
    transactions = _transactions(broker)
    _with_their_progress(transactions)
    if len(shards) == 1:
        _whole(transactions)
    left = sorted(seq for database in shards for seq in database.outbox)
    if left:
        raise Violation(f"left in the outbox: {left}")


def position_is_within(broker: Broker, stream_id: str) -> str | None:
    """What is wrong when a stored position is past the end of the log."""
    for place, offset in StreamPosition.decode(stream_id).items():
        if offset > broker.partitions[place].end:
            return f"position {offset} of {place} is past the end of the log"
    return None


def _on_log(broker: Broker) -> Sequence[Row]:
    return [
        row
        for place, partition in broker.partitions.items()
        if place[0] != RELAY_PROGRESS
        for _, row in partition.committed()
    ]


def _nothing_phantom(on_log: Sequence[Row], everything: Mapping[int, Row]) -> None:
    for row in on_log:
        written = everything.get(row.seq)
        if written is None or written.value != row.value:
            raise Violation(f"phantom: {row.seq} is on the log, and nobody wrote it")


def _once_each(on_log: Sequence[Row], database: Database) -> None:
    times: dict[int, int] = defaultdict(int)
    for row in on_log:
        times[row.seq] += 1
    for seq, row in database.written.items():
        if times[seq] > 1:
            raise Violation(f"doubled: {seq} is on the log {times[seq]} times")
        if seq in database.poisoned:
            if times[seq]:
                raise Violation(f"{seq} is on the log and among the poison")
            _is_rightly_poisoned(row, database)
        elif not times[seq] and seq not in database.outbox:
            raise Violation(f"lost: {seq} is neither on the log nor in the outbox")


def _is_rightly_poisoned(row: Row, database: Database) -> None:
    """It is refused itself, or waits for one that is (rule 11)."""
    waits = any(
        earlier.value == HUGE and earlier.seq <= row.seq and _aggregate(earlier) == _aggregate(row)
        for earlier in database.poisoned.values()
    )
    if not waits:
        raise Violation(f"{row.seq} is poisoned without a reason")


def _in_order(on_log: Sequence[Row]) -> None:
    last: dict[Aggregate, int] = {}
    for row in on_log:
        before = last.get(_aggregate(row), 0)
        if row.seq < before:
            raise Violation(f"reordered: {row.seq} comes after {before} of {_aggregate(row)}")
        last[_aggregate(row)] = row.seq


def _transactions(broker: Broker) -> Mapping[Transaction, _Content]:
    """The relay's committed transactions, in the order of their first records."""
    found: dict[Transaction, _Content] = defaultdict(_Content)
    for place, partition in broker.partitions.items():
        for record in partition.records:
            if record.value is None or record.transaction.state != "committed":
                continue
            if place[0] != RELAY_PROGRESS:
                found[record.transaction].rows.append(record.value)
                continue
            outbox, seqs = decode_progress(record.value)
            if outbox == OUTBOX:
                found[record.transaction].listed += seqs
    return found


def _with_their_progress(transactions: Mapping[Transaction, _Content]) -> None:
    """What a transaction lists is what it holds (rule 6)."""
    for content in transactions.values():
        held = sorted(row.seq for row in content.rows)
        if held != content.listed:
            raise Violation(f"progress lists {content.listed} with the events {held}")


def _whole(transactions: Mapping[Transaction, _Content]) -> None:
    """No reader sees a part of a database transaction (rule 4)."""
    seen: dict[int, Transaction] = {}
    for transaction, content in transactions.items():
        for row in content.rows:
            if seen.setdefault(row.txid, transaction) is not transaction:
                raise Violation(f"split: transaction {row.txid} came in two parts")


def position_is_behind_all(broker: Broker, database: Database) -> None:
    """What was published is not sent again to who asks from the stored position.

    Where two led at once the position of the slower one may be the last. Raises Violation.
    """
    if not database.written:
        return
    position = StreamPosition.decode(database.position)
    for place, offset in position.items():
        events = broker.partitions[place].committed()
        if events and offset <= events[-1][0]:
            raise Violation(f"position {offset} of {place} is before {events[-1][1].seq}")


def _aggregate(row: Row) -> Aggregate:
    return row.topic, row.key
