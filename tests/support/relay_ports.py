"""What the relay's ports promise, as scenarios for any that implement them.

They run against the simulation's model (`tests/unit/test_simulation_ports.py`) and against
PostgreSQL and Kafka (`tests/integration/test_api_relay_ports.py`): what the simulation proves of
the relay is worth as much as its model is true.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from typing import Protocol

import pytest

from shopstream_api.outbox.relay.ports import (
    Delivered,
    EventLog,
    Fenced,
    OutboxStore,
    Row,
    RowsRefused,
    Settling,
)
from shopstream_api.outbox.relay.progress import decode_progress, encode_progress
from shopstream_shared.topics import PRODUCTS


class Ports(Protocol):
    """A database with an empty outbox, and a broker."""

    #: Names of this scenario alone, as many may share a broker.
    outbox: str
    transactional_id: str
    #: The value of an event that the broker refuses for good.
    huge: bytes

    def store(self) -> OutboxStore:
        """A new session."""
        ...

    def log(self, heartbeat: Callable[[], None] = lambda: None) -> EventLog:
        """A new client of the broker."""
        ...

    def write(self, *transactions: Sequence[str]) -> None:
        """Rows of these keys, transactions whose rows are drawn in turn and committed at the end.

        The first rows of all transactions get the smallest numbers, then the second ones, …
        """
        ...

    def seen(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Those of the keys that a reader of committed records sees."""
        ...

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; markers reach the log after the answer."""
        ...


def one_session_leads_until_it_ends(ports: Ports) -> None:
    """Protocol rule 9."""
    with closing(ports.store()) as one, closing(ports.store()) as two:
        assert one.try_lead()
        assert one.try_lead()
        assert not two.try_lead()
        one.close()
        ports.until(two.try_lead)


def whole_transactions_are_taken_in_the_order_of_their_rows(ports: Ports) -> None:
    """Protocol rules 1, 3 and 4."""
    ports.write(["a1", "a2"], ["b1", "b2"], ["c"])
    with closing(ports.store()) as store:
        # a1 b1 c a2 b2: what completes a takes in the beginning of b.
        assert _keys(store.take(1)) == [b"a1", b"b1", b"c", b"a2", b"b2"]
        assert _keys(store.take(9)) == [b"a1", b"b1", b"c", b"a2", b"b2"]
        store.settle(Settling([row.seq for row in store.take(9)], "position"))
        assert not store.take(9)
        assert store.lag()[0] == 0


def what_is_read_ahead_is_what_will_be_taken(ports: Ports) -> None:
    """Protocol rules 3, 4 and 6: whole transactions, and the batch before is gone by then."""
    ports.write(["a"])
    ports.write(["b"])
    ports.write(["c1", "c2"])
    with closing(ports.store()) as store, closing(ports.store()) as other:
        a = store.take(1)
        assert store.read_ahead(a, 9, None)() == store.take(9)[1:]
        b = store.read_ahead(a, 1, None)()
        assert _keys(b) == [b"b"]
        # The next one is larger than a batch.
        assert not store.read_ahead(b, 1, Settling([a[0].seq], "position"))()
        assert _keys(other.take(9)) == [b"b", b"c1", b"c2"]
        c = store.read_ahead(b, 2, None)()
        assert _keys(c) == [b"c1", b"c2"]
        assert not store.read_ahead(c, 2, Settling([b[0].seq], "position"))()
        assert _keys(other.take(9)) == [b"c1", b"c2"]


def nothing_is_read_ahead_of_older_rows_that_came_meanwhile(ports: Ports) -> None:
    """Protocol rule 3."""
    ports.write(["a"], ["b"])
    ports.write(["c"])
    with closing(ports.store()) as store:
        _, b, c = store.take(9)
        # As if a had been committed after b was taken.
        assert not store.read_ahead([b], 9, None)()
        assert not store.read_ahead([c], 9, Settling([b.seq], "position"))()
        assert _keys(store.take(9)) == [b"a", b"c"]


def only_later_rows_of_its_aggregate_wait_for_a_poisoned_one(ports: Ports) -> None:
    """Protocol rule 11: what came before it, and all others, go on."""
    ports.write(["p"], ["q"])
    ports.write(["p"], ["p"])
    with closing(ports.store()) as store:
        rows = store.take(9)
        assert store.poison({rows[2].seq: "too large"}) == 1
        assert store.poison({rows[2].seq: "too large"}) == 0
        assert [(row.key, row.blocked) for row in store.take(9)] == [
            (b"p", False),
            (b"q", False),
            (b"p", True),
        ]


def rows_of_a_transaction_stay_whole_without_its_poisoned_ones(ports: Ports) -> None:
    """Protocol rules 4 and 11."""
    ports.write(["a", "b", "c"])
    with closing(ports.store()) as store:
        assert store.poison({store.take(1)[1].seq: "too large"}) == 1
        assert [(row.key, row.txrows) for row in store.take(1)] == [(b"a", 2), (b"c", 2)]


def the_transactional_id_is_remembered(ports: Ports) -> None:
    """Protocol rule 5."""
    with closing(ports.store()) as store, closing(ports.store()) as other:
        outbox, used = store.identity()
        assert used is None
        store.remember_transactional_id("t1")
        assert other.identity() == (outbox, "t1")


def events_are_seen_once_they_are_committed(ports: Ports) -> None:
    with closing(ports.log()) as log:
        log.fence(ports.transactional_id)
        log.begin()
        rows = [_row(ports, 1), _row(ports, 2)]
        delivered = sent(log, rows, encode_progress(ports.outbox, [1, 2]))
        keys = _keys(rows)
        assert ports.seen(keys) == []
        log.commit()
        ports.until(lambda: sorted(ports.seen(keys)) == keys)
        ends = log.end_position()
        assert all(ends[place] >= offset for place, offset in delivered.next.items())
        assert set(delivered.first) == set(delivered.next)
        assert sum(delivered.next[at] - first for at, first in delivered.first.items()) == len(rows)


def a_fenced_producer_commits_nothing(ports: Ports) -> None:
    """Protocol rules 5 and 8: what it left open is aborted by the new one."""
    with closing(ports.log()) as old, closing(ports.log()) as new:
        old.fence(ports.transactional_id)
        old.begin()
        row = _row(ports, 1)
        sent(old, [row], encode_progress(ports.outbox, [1]))
        new.fence(ports.transactional_id)
        assert _progress(ports, new) is None
        with pytest.raises(Fenced):
            old.commit()
        assert ports.seen([row.key]) == []


def a_fenced_producer_is_told_so_while_it_sends(ports: Ports) -> None:
    """Protocol rules 5 and 9: as one is that stood still with rows in hand."""
    with closing(ports.log()) as old, closing(ports.log()) as new:
        old.fence(ports.transactional_id)
        old.begin()
        new.fence(ports.transactional_id)
        rows = [_row(ports, seq) for seq in range(1, 200)]
        with pytest.raises(Fenced):
            sent(old, rows, encode_progress(ports.outbox, [1]))
        assert ports.seen(_keys(rows)) == []


def the_newest_progress_of_ours_is_read(ports: Ports) -> None:
    """Protocol rule 6: the newest of the committed ones, and of no other outbox."""
    with closing(ports.log()) as log:
        for outbox, seqs in ((ports.outbox, [1]), (ports.outbox, [2, 3]), ("another", [4])):
            # Anew each time: a slow commit spends a producer.
            log.fence(ports.transactional_id)
            log.begin()
            sent(log, [], encode_progress(outbox, seqs))
            log.commit()
        log.fence(ports.transactional_id)
        log.begin()
        sent(log, [], encode_progress(ports.outbox, [5]))
        log.fence(ports.transactional_id)
        assert _progress(ports, log) == [2, 3]


def progress_is_read_only_once_nothing_below_it_is_open(ports: Ports) -> None:
    """Protocol rule 7: a reader of committed records would still be shown the older one."""
    waited: list[bool] = []
    with closing(ports.log()) as other:

        def heartbeat() -> None:
            if ready and not waited:
                waited.append(True)
                other.commit()

        ready: list[bool] = []
        with closing(ports.log(heartbeat)) as log:
            log.fence(ports.transactional_id)
            other.fence(f"{ports.transactional_id}-other")
            other.begin()
            sent(other, [], encode_progress("another", [1]))
            log.begin()
            sent(log, [], encode_progress(ports.outbox, [7]))
            log.commit()
            ready.append(True)
            assert _progress(ports, log) == [7]
            assert waited


def progress_is_read_while_others_go_on_publishing(ports: Ports) -> None:
    """Protocol rule 7: there is always something open, but soon nothing from before."""
    with closing(ports.log()) as other:

        def publish() -> None:
            other.begin()
            sent(other, [], encode_progress("another", [1]))

        def heartbeat() -> None:
            if ready:
                other.commit()
                publish()

        ready: list[bool] = []
        with closing(ports.log(heartbeat)) as log:
            log.fence(ports.transactional_id)
            log.begin()
            sent(log, [], encode_progress(ports.outbox, [7]))
            log.commit()
            other.fence(f"{ports.transactional_id}-other")
            publish()
            ready.append(True)
            assert _progress(ports, log) == [7]


def a_refused_event_is_named_and_nothing_of_its_batch_is_seen(ports: Ports) -> None:
    """Protocol rule 11."""
    with closing(ports.log()) as log:
        log.fence(ports.transactional_id)
        log.begin()
        fine, huge = _row(ports, 1), _row(ports, 2, ports.huge)
        with pytest.raises(RowsRefused) as refused:
            sent(log, [fine, huge], encode_progress(ports.outbox, [1, 2]))
        assert list(refused.value.reasons) == [2]
        log.fence(ports.transactional_id)
        assert _progress(ports, log) is None
        assert ports.seen(_keys([fine, huge])) == []


def sent(log: EventLog, rows: Sequence[Row], progress: bytes) -> Delivered:
    """Rows and their progress record, until the broker has them."""
    log.send(rows)
    return log.deliver(progress)


def _row(ports: Ports, seq: int, value: bytes = b"{}") -> Row:
    return Row(seq, PRODUCTS, f"{ports.outbox} {seq}".encode(), value, (), 0, seq, 1)


def _keys(rows: Sequence[Row]) -> list[bytes]:
    return [row.key for row in rows]


def _progress(ports: Ports, log: EventLog) -> Collection[int] | None:
    record = log.read_progress(lambda value: decode_progress(value)[0] == ports.outbox)
    return None if record is None else decode_progress(record)[1]


SCENARIOS: Sequence[Callable[[Ports], None]] = (
    one_session_leads_until_it_ends,
    whole_transactions_are_taken_in_the_order_of_their_rows,
    what_is_read_ahead_is_what_will_be_taken,
    nothing_is_read_ahead_of_older_rows_that_came_meanwhile,
    only_later_rows_of_its_aggregate_wait_for_a_poisoned_one,
    rows_of_a_transaction_stay_whole_without_its_poisoned_ones,
    the_transactional_id_is_remembered,
    events_are_seen_once_they_are_committed,
    a_fenced_producer_commits_nothing,
    a_fenced_producer_is_told_so_while_it_sends,
    the_newest_progress_of_ours_is_read,
    progress_is_read_only_once_nothing_below_it_is_open,
    progress_is_read_while_others_go_on_publishing,
    a_refused_event_is_named_and_nothing_of_its_batch_is_seen,
)
