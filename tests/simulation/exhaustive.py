"""All interleavings of two relays over the abstract protocol, each failing anywhere, any often.

Small enough to be searched whole: two rows, the second of which arrives at any moment; a batch
takes one or both. There is no leader's lock, so both relays are always at work: what holds here
rests on the log alone. A broker that answers as early as it may: `fence` does not wait for the
markers of a transaction that is decided (rule 7 does), and a commit request may arrive late, as
long as its epoch lives. A relay that fails or is killed is at "idle" again and knows nothing.

States are compared by what can still matter: of an epoch only whether it is the newest, of a
transaction only its rows, its progress record and whether it is decided.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from tests.simulation.pieces import Piece

ROWS: Final = (1, 2)
RELAYS: Final = (0, 1)
STATES_MAX: Final = 1_000_000

#: The pieces that this model has.
MODELLED: Final = (
    Piece.PROGRESS_RECORD,
    Piece.FENCING,
    Piece.COMMIT_ONLY_AGAIN,
    Piece.LSO_WAIT,
    Piece.NEW_PRODUCER,
)

Rows = frozenset[int]
NONE: Final[Rows] = frozenset()


class Transaction(NamedTuple):
    """The newest of a transactional id. ``listed`` None: without its progress record so far."""

    state: Literal["none", "open", "decided"] = "none"
    rows: Rows = NONE
    listed: Rows | None = None
    #: A commit request of this epoch is on its way.
    request: bool = False


class Relay(NamedTuple):
    """``rows``: those it read of or took. ``unsure``: its commit was asked for more than once."""

    at: Literal["idle", "fenced", "read", "ready", "taken", "sent", "listed", "committed"] = "idle"
    newest: bool = False
    rows: Rows = NONE
    unsure: bool = False


class State(NamedTuple):
    """Everything: database, log, coordinator, relays and the deletes that are on their way."""

    arrived: int
    outbox: Rows
    log: tuple[int, ...]
    progress: Rows
    transactions: tuple[Transaction, ...]
    relays: tuple[Relay, ...]
    deletes: frozenset[Rows]


Step = tuple[str, State]

IDLE: Final = Relay()
FIRST: Final = State(
    arrived=1,
    outbox=frozenset({1}),
    log=(),
    progress=NONE,
    transactions=(Transaction(), Transaction()),
    relays=(IDLE, IDLE),
    deletes=frozenset(),
)


@dataclass(frozen=True, slots=True)
class Result:
    """``violation`` with the shortest way to it, or None after ``states`` states."""

    states: int
    violation: str | None = None
    steps: Sequence[str] = ()

    def __str__(self) -> str:
        if self.violation is None:
            return f"{self.states} states: all held"
        lines = [f"{number:>3}. {step}" for number, step in enumerate(self.steps, 1)]
        return "\n".join([*lines, f"VIOLATION: {self.violation}"])


def search(without: Piece | None = None) -> Result:
    """Breadth first, so that the first violation has the fewest steps."""
    model = _Model(without)
    came: dict[State, tuple[str, State] | None] = {FIRST: None}
    before: dict[State, list[State]] = {FIRST: []}
    waiting = deque([FIRST])
    while waiting:
        state = waiting.popleft()
        for name, after in model.steps(state):
            before.setdefault(after, []).append(state)
            if after in came:
                continue
            came[after] = name, state
            violation = _wrong(after)
            if violation is not None:
                return Result(len(came), violation, _way(came, after))
            waiting.append(after)
        assert len(came) <= STATES_MAX
    stuck = _stuck(came, before)
    if stuck is not None:
        return Result(len(came), "from here nothing leads to the end", _way(came, stuck))
    return Result(len(came))


def _wrong(state: State) -> str | None:
    for row in range(1, state.arrived + 1):
        if state.log.count(row) > 1:
            return f"row {row} is on the log twice"
        decided = any(t.state == "decided" and row in t.rows for t in state.transactions)
        if row not in state.outbox and row not in state.log and not decided:
            return f"row {row} is lost"
    if list(state.log) != sorted(state.log):
        return "the rows are out of order"
    return None


def _stuck(came: Mapping[State, object], before: Mapping[State, Sequence[State]]) -> State | None:
    """A state from which the end, all published and nothing open, cannot be reached."""
    ends = [s for s in came if s.log == ROWS and not s.outbox and not _open(s)]
    reaching, waiting = set(ends), deque(ends)
    while waiting:
        for state in before[waiting.popleft()]:
            if state not in reaching:
                reaching.add(state)
                waiting.append(state)
    return next((state for state in came if state not in reaching), None)


def _open(state: State) -> bool:
    return any(transaction.state != "none" for transaction in state.transactions)


def _way(came: Mapping[State, tuple[str, State] | None], state: State) -> Sequence[str]:
    steps: list[str] = []
    while (last := came[state]) is not None:
        name, state = last
        steps.append(name)
    return steps[::-1]


class _Model:
    """What may happen next."""

    def __init__(self, without: Piece | None) -> None:
        self._without = without

    def steps(self, state: State) -> Iterator[Step]:
        if state.arrived < len(ROWS):
            row = state.arrived + 1
            yield (
                f"row {row} is committed to the outbox",
                state._replace(arrived=row, outbox=state.outbox | {row}),
            )
        for rows in state.deletes:
            yield (
                f"a delete of {_told(rows)} that was held up is carried out",
                state._replace(outbox=state.outbox - rows, deletes=state.deletes - {rows}),
            )
        for slot, transaction in enumerate(state.transactions):
            yield from self._coordinator(state, slot, transaction)
        for number in RELAYS:
            for what, after in self._relay(state, number):
                yield f"relay {number} {what}", after

    def _slot(self, number: int) -> int:
        """The transactional id of a relay."""
        return number if self._without is Piece.FENCING else 0

    def _coordinator(self, state: State, slot: int, transaction: Transaction) -> Iterator[Step]:
        if transaction.request and transaction.state == "open":
            yield (
                "a commit that was held up arrives",
                _put(state, slot, transaction._replace(state="decided", request=False)),
            )
        if transaction.state == "open":
            # The time-out raises the epoch.
            yield (
                "the open transaction times out",
                self._fenced(_put(state, slot, Transaction()), slot),
            )
        if transaction.state == "decided":
            listed = transaction.listed
            after = state._replace(
                log=(*state.log, *sorted(transaction.rows)),
                progress=state.progress if listed is None else listed,
            )
            yield (
                "the markers are written",
                _put(after, slot, Transaction(request=transaction.request)),
            )

    def _fenced(self, state: State, slot: int) -> State:
        """All producers of this id are old."""
        return state._replace(
            relays=tuple(
                relay._replace(newest=relay.newest and self._slot(number) != slot)
                for number, relay in enumerate(state.relays)
            )
        )

    def _relay(self, state: State, number: int) -> Iterator[Step]:
        relay = state.relays[number]
        if relay.at == "idle":
            yield "fences", self._fence(state, number)
            return
        yield "fails or is killed", _be(state, number, IDLE)
        steps = {
            "fenced": self._read,
            "read": self._settle,
            "ready": self._take,
            "taken": self._send_events,
            "sent": self._send_progress,
            "listed": self._commit,
            "committed": self._settle,
        }
        yield from steps[relay.at](state, number, relay)

    def _fence(self, state: State, number: int) -> State:
        slot = self._slot(number)
        left = state.transactions[slot]
        after = left._replace(request=False) if left.state == "decided" else Transaction()
        fenced = self._fenced(_put(state, slot, after), slot)
        return _be(fenced, number, Relay("fenced", newest=True))

    def _read(self, state: State, number: int, relay: Relay) -> Iterator[Step]:
        if _open(state) and self._without is not Piece.LSO_WAIT:
            return
        found = NONE if self._without is Piece.PROGRESS_RECORD else state.progress
        yield (
            f"reads the progress {_told(found)}",
            _be(state, number, relay._replace(at="read", rows=found)),
        )

    def _settle(self, state: State, number: int, relay: Relay) -> Iterator[Step]:
        gone = state._replace(outbox=state.outbox - relay.rows)
        later = state._replace(deletes=state.deletes | {relay.rows}) if relay.rows else gone
        leaves = relay.unsure and self._without is not Piece.NEW_PRODUCER
        after = IDLE if leaves else Relay("ready", newest=relay.newest)
        told = _told(relay.rows)
        yield f"deletes {told}", _be(gone, number, after)
        yield f"deletes {told}, hears nothing", _be(gone, number, IDLE)
        yield f"asks to delete {told}, is held up", _be(later, number, IDLE)

    def _take(self, state: State, number: int, relay: Relay) -> Iterator[Step]:
        oldest = sorted(state.outbox)
        for count in range(1, len(oldest) + 1):
            rows = frozenset(oldest[:count])
            yield f"takes {_told(rows)}", _be(state, number, relay._replace(at="taken", rows=rows))

    def _send_events(self, state: State, number: int, relay: Relay) -> Iterator[Step]:
        wider = self._transaction(state, number)._replace(rows=relay.rows)
        yield from self._send(state, number, relay._replace(at="sent"), wider, "events")

    def _send_progress(self, state: State, number: int, relay: Relay) -> Iterator[Step]:
        wider = self._transaction(state, number)._replace(listed=relay.rows)
        yield from self._send(state, number, relay._replace(at="listed"), wider, "progress")

    def _send(
        self, state: State, number: int, after: Relay, wider: Transaction, what: str
    ) -> Iterator[Step]:
        if not after.newest:
            yield "is fenced", _be(state, number, IDLE)
        elif wider.state != "decided":
            sent = _put(state, self._slot(number), wider._replace(state="open"))
            yield f"sends the {what}", _be(sent, number, after)

    def _transaction(self, state: State, number: int) -> Transaction:
        return state.transactions[self._slot(number)]

    def _commit(self, state: State, number: int, relay: Relay) -> Iterator[Step]:
        if not relay.newest:
            yield "is fenced", _be(state, number, IDLE)
            return
        slot, transaction = self._slot(number), self._transaction(state, number)
        is_open = transaction.state == "open"
        decided = _put(state, slot, transaction._replace(state="decided")) if is_open else state
        late = _put(state, slot, transaction._replace(request=True))
        yield "commits", _be(decided, number, relay._replace(at="committed"))
        for after, what in ((decided, "commits, hears nothing"), (late, "commits, is held up")):
            if self._without is Piece.COMMIT_ONLY_AGAIN:
                yield (
                    f"{what}, takes it for aborted",
                    _be(self._aborted(after, slot), number, Relay("ready", newest=True)),
                )
            else:
                yield f"{what}, asks again", _be(after, number, relay._replace(unsure=True))

    def _aborted(self, state: State, slot: int) -> State:
        transaction = state.transactions[slot]
        if transaction.state != "open":
            return state
        return _put(state, slot, Transaction(request=transaction.request))


def _put(state: State, slot: int, transaction: Transaction) -> State:
    kept = state.transactions
    return state._replace(transactions=(*kept[:slot], transaction, *kept[slot + 1 :]))


def _be(state: State, number: int, relay: Relay) -> State:
    kept = state.relays
    return state._replace(relays=(*kept[:number], relay, *kept[number + 1 :]))


def _told(rows: Rows) -> str:
    return "{" + ", ".join(map(str, sorted(rows))) + "}"
