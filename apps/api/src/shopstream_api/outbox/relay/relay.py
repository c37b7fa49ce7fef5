"""The relay's protocol, free of PostgreSQL and Kafka: one loop over three ports.

Guarantee: every committed outbox row is on the log exactly once, for a reader of committed
records, in ``seq`` order within its aggregate, wherever a process is killed. A batch is:

1. take the oldest rows by ``seq``, never splitting a database transaction (rules 1, 3, 4);
2. in one Kafka transaction produce them and one progress record that lists them (rule 6);
3. commit; once commit was called only that call is repeated (rule 8, in the log adapter);
4. delete the rows and store the stream position in one statement (rule 6); of a backlog that
   statement also reads the batch behind the one being sent, and is awaited before step 2 ends.

Whatever fails ends the term: session and producer are dropped, and the next term begins with
`_recover`, which asks the log, not memory, what was committed: fence (rule 5), wait until the
progress record is final (rule 7), delete the rows it lists. Nothing is ever decided from an error.
Topics that were made again, or got more partitions past the tools, stop it (rules 13, 14).
One leader at a time by a lock (rule 9) is for economy only; fencing keeps two leaders harmless.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from shopstream_api.outbox.relay.metrics import RelayMetrics
from shopstream_api.outbox.relay.ports import (
    EventLog,
    LogFailed,
    OutboxStore,
    Position,
    ProducerSpent,
    ReadAhead,
    Row,
    RowsRefused,
    Settling,
    StoreFailed,
    Topics,
    Waits,
)
from shopstream_api.outbox.relay.progress import (
    UnreadableProgress,
    decode_progress,
    encode_progress,
    outbox_of,
)
from shopstream_api.outbox.relay.share import Seat, Share
from shopstream_api.outbox.relay.status import RelayStatus
from shopstream_api.outbox.relay.topics import TopicsChanged, require_same
from shopstream_shared.crash import CrashPoints
from shopstream_shared.logs import get_logger
from shopstream_shared.stream_id import StreamPosition, epoch_of
from shopstream_shared.topics import RELAY_PROGRESS

#: Without a wake-up the outbox is still looked at this often.
POLL_SECONDS: Final = 0.25
#: Rule 9: the leader's session would be ended by the server after 5 s of silence.
PING_SECONDS: Final = 1.0
LAG_SECONDS: Final = 2.0
#: Rule 13: a topic made again under a leading relay is noticed within this time.
TOPICS_SECONDS: Final = 1.0
#: More offsets than the relay of another shard can take of a topic made again before it knows: a
#: batch, the transaction that goes over its end, their markers.
OFFSETS_A_SHARD_MAX: Final = 20_000
#: A relay that does not lead asks again this often.
STANDBY_SECONDS: Final = 1.0
#: A batch of more rows than this, which yet was all there was, says that more are coming: the next
#: waits a millisecond for each, at most PAUSE_SECONDS_MAX. At 100 events a second none waits; at
#: 1,000 the broker does half the work an event. ADR 0014.
PAUSE_FREE_ROWS: Final = 4
PAUSE_SECONDS_A_ROW: Final = 0.001
PAUSE_SECONDS_MAX: Final = 0.05
#: After a batch at least this part of a whole one there is likely to be more.
READ_AHEAD_PART: Final = 0.5
#: The log itself tells then what was published (docs/topics.md).
UNREADABLE_REMEDY: Final = (
    "run the release that wrote it, or make the topic again and call `shopstream topics adopt`"
)
BACKOFF_SECONDS_FIRST: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 2.0

_log = get_logger(__name__)


class Stopping(Exception):
    """The process is ending: raised out of whatever the relay was waiting for."""


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """What a deployment chooses."""

    transactional_id: str
    batch_rows: int


class Relay:
    """One relay of one shard; `run` is its thread."""

    def __init__(
        self,
        *,
        open_store: Callable[[], OutboxStore],
        open_log: Callable[[Callable[[], None]], EventLog],
        options: RelayOptions,
        waits: Waits,
        status: RelayStatus,
        metrics: RelayMetrics,
        crash: CrashPoints,
        seat: Seat | None = None,
    ) -> None:
        self._seat = seat or Share().seat(0)
        self._open_store = open_store
        self._open_log = open_log
        self._options = options
        self._waits = waits
        self._status = status
        self._metrics = metrics
        self._crash = crash
        self._refused: dict[int, str] = {}
        self._pinged = self._measured = self._compared = 0.0

    def stop(self) -> None:
        """Ask the loop to end; a waiting Kafka call ends within its step of about a second."""
        self._waits.stop()

    def run(self) -> None:
        """Lead, fail, begin again, until stopped. Raises nothing: the process never dies of it."""
        backoff = BACKOFF_SECONDS_FIRST
        while not self._waits.stopped():
            try:
                self._term()
            except Stopping:
                break
            except (
                StoreFailed,
                LogFailed,
                RowsRefused,
                UnreadableProgress,
                TopicsChanged,
            ) as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - logged; the relay goes on whatever it was
                _log.exception("relay failed in an unforeseen way")
                self._failed(error)
            else:
                backoff = BACKOFF_SECONDS_FIRST
                continue
            if self._status.led_since_failure():
                backoff = BACKOFF_SECONDS_FIRST
            self._waits.pause(backoff)
            backoff = min(backoff * 2, BACKOFF_SECONDS_MAX)
        self._status.stopped()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, RowsRefused):
            self._refused.update(error.reasons)
        elif not isinstance(error, StoreFailed):
            # Without the database nobody leads; after it all begin as equals.
            self._seat.failed()
        self._metrics.failures.inc()
        _log.warning("relay begins again", reason=str(error), kind=type(error).__name__)
        self._status.failed(f"{type(error).__name__}: {error}")

    def _term(self) -> None:
        """Wait until it is ours to lead, and lead. May end by exception."""
        store = self._open_store()
        try:
            while not self._leads(store):
                self._status.standby()
                # Another may have led: what the broker refused may be accepted by now.
                self._refused = {}
                # What waits is told by all: who leads may hang.
                self._heartbeat(store)
                self._waits.pause(STANDBY_SECONDS)
            while self._spends(store):
                # No fault: the next producer may begin at once.
                _log.info("relay takes a new producer")
        finally:
            self._seat.leave()
            store.close()

    def _spends(self, store: OutboxStore) -> bool:
        """Lead with a producer of its own, until it is spent (True) or another is to have the
        shard."""
        log = self._open_log(lambda: self._heartbeat(store))
        try:
            term = self._recover(store, log)
            self._status.leading()
            self._serve(store, log, term)
        except ProducerSpent:
            return True
        else:
            return False
        finally:
            log.close()

    def _leads(self, store: OutboxStore) -> bool:
        if not self._seat.take():
            return False
        if store.try_lead():
            return True
        self._seat.leave()
        return False

    def _recover(self, store: OutboxStore, log: EventLog) -> "_Term":
        """Learn from the log what is published, whoever published it, and delete that."""
        self._status.starting()
        # With the broker away no term comes further than this.
        self._heartbeat(store)
        wanted = self._options.transactional_id
        outbox, used = store.identity()
        # The first relay of an outbox stores what it finds.
        found = log.topics()
        store.note_topics(found)
        require_same(found, store.topics())
        if used is not None and used != wanted:
            # Rule 5: the progress of an id is final only once that id is fenced.
            log.fence(used)
        log.fence(wanted)
        self._crash.reach("relay.init")
        if used is None:
            # Asked again: whoever has led since the first time can do so no more.
            _, used = store.identity()
        store.remember_transactional_id(wanted)
        # An outbox that no relay has ever led has nothing on the log.
        published = self._published(log, outbox) if used is not None else ()
        ends = log.end_position()
        # Rule 13, again: an id never returns, so all was read from the topics that we know.
        term = _Term(outbox, require_same(log.topics(), store.topics()))
        term.advance(ends)
        store.settle(Settling(published, term.encode()))
        if self._refused:
            moved = store.poison(self._refused)
            _log.error("events moved to poison", rows=moved, reasons=self._refused)
            self._refused = {}
        return term

    def _published(self, log: EventLog, outbox: str) -> Collection[int]:
        """The rows that the newest progress record of ours lists."""
        try:
            record = log.read_progress(lambda value: outbox_of(value) == outbox)
            return decode_progress(record)[1] if record is not None else ()
        except UnreadableProgress as error:
            place = f"{RELAY_PROGRESS}, partition {self._seat.shard}"
            raise UnreadableProgress(f"{place}: {error}; {UNREADABLE_REMEDY}") from error

    def _serve(self, store: OutboxStore, log: EventLog, term: "_Term") -> None:
        """Publish until another process is to have the shard."""
        ahead = _Ahead()
        while not self._seat.surplus():
            self._waits.clear()
            self._heartbeat(store)
            self._look_at_topics(store, log)
            rows = ahead.rows or store.take(self._options.batch_rows)
            blocked = {row.seq: "waits for an earlier event" for row in rows if row.blocked}
            if blocked:
                ahead = self._settled(store, ahead)
                store.poison(blocked)
            elif rows:
                ahead = self._publish(store, log, term, rows, ahead.settling)
                if not ahead.rows:
                    ahead = self._settled(store, ahead)
                    self._waits.pause(pause_seconds(len(rows), self._options.batch_rows))
            else:
                self._waits.wait(POLL_SECONDS)
        self._settled(store, ahead)

    def _publish(
        self,
        store: OutboxStore,
        log: EventLog,
        term: "_Term",
        rows: Sequence[Row],
        settling: Settling | None,
    ) -> "_Ahead":
        """Publish a batch, while the one before is settled and the next one read."""
        seqs = [row.seq for row in rows]
        started = self._waits.now()
        backlog = term.published and len(rows) >= READ_AHEAD_PART * self._options.batch_rows
        if settling is not None and not backlog:
            self._settle(store, settling)
        self._crash.reach("relay.before_produce")
        log.begin()
        read: ReadAhead = tuple
        if backlog:
            read = store.read_ahead(rows, self._options.batch_rows, settling)
        log.send(rows)
        ahead = read()
        if settling is not None and backlog:
            self._crash.reach("relay.after_delete")
        # Rule 6: by now what the record before lists is deleted, durably.
        delivered = log.deliver(encode_progress(term.outbox, seqs))
        self._crash.reach("relay.after_produce")
        self._require_same_log(store, log, term, delivered.first)
        self._crash.reach("relay.before_commit")
        log.commit()
        self._crash.reach("relay.after_commit")
        term.advance(delivered.next)
        term.published = True
        self._crash.reach("relay.before_delete")
        self._metrics.published(len(rows), self._waits.now() - started)
        return _Ahead(ahead, Settling(seqs, term.encode()))

    def _settled(self, store: OutboxStore, ahead: "_Ahead") -> "_Ahead":
        """Without anything read ahead: what follows sees the outbox as it is."""
        if ahead.settling is not None:
            self._settle(store, ahead.settling)
        return _Ahead()

    def _settle(self, store: OutboxStore, settling: Settling) -> None:
        store.settle(settling)
        self._crash.reach("relay.after_delete")

    def _look_at_topics(self, store: OutboxStore, log: EventLog) -> None:
        now = self._waits.now()
        if now - self._compared >= TOPICS_SECONDS:
            self._compared = now
            require_same(log.topics(), store.topics())

    def _require_same_log(
        self, store: OutboxStore, log: EventLog, term: "_Term", first: Position
    ) -> None:
        """Rule 13 for what is about to be committed. Raises TopicsChanged, LogFailed.

        Between two looks at the topics they may be made again with other partitions: the producer,
        which knows the old ones, puts keys where their later events will not be. Where a batch lies
        tells: the offsets of a topic rise as long as it lives. Only where a topic that is new
        cannot be told from the one we know by that, it is asked for.
        """
        if term.is_behind(first):
            # Topics made again, or a log that has lost its end: the next term asks which.
            raise LogFailed("the log goes on below offsets that it had")
        if term.may_be_new(first, self._seat.others() * OFFSETS_A_SHARD_MAX):
            require_same(log.topics(), store.topics())

    def _heartbeat(self, store: OutboxStore) -> None:
        """Called from the loop and from inside long waits; raises Stopping or StoreFailed."""
        if self._waits.stopped():
            raise Stopping
        now = self._waits.now()
        if now - self._pinged >= PING_SECONDS:
            self._pinged = now
            store.ping()
        if now - self._measured >= LAG_SECONDS:
            self._measured = now
            self._metrics.lag(*store.lag())


def pause_seconds(rows: int, batch_rows: int) -> float:
    """How long to wait after a batch of ``rows``, of at most ``batch_rows``."""
    if rows >= batch_rows:
        return 0.0
    return min(max(0, rows - PAUSE_FREE_ROWS) * PAUSE_SECONDS_A_ROW, PAUSE_SECONDS_MAX)


class _Ahead(NamedTuple):
    """A batch that was read while the one before it, not settled yet, was published."""

    rows: Sequence[Row] = ()
    settling: Settling | None = None


class _Term:
    """What one term knows: its outbox, and the next offsets over all stream partitions."""

    def __init__(self, outbox: str, topics: Topics) -> None:
        self.outbox = outbox
        #: Nothing is read ahead before: a database so slow that the Kafka transaction times out
        #: meanwhile shall not keep every term from its first batch.
        self.published = False
        self._epoch = epoch_of({topic: state.id for topic, state in topics.items()})
        self._partitions = {topic: state.partitions for topic, state in topics.items()}
        self._offsets: dict[tuple[str, int], int] = {}

    def advance(self, offsets: Mapping[tuple[str, int], int]) -> None:
        for partition, offset in offsets.items():
            self._offsets[partition] = max(offset, self._offsets.get(partition, 0))

    def is_behind(self, first: Position) -> bool:
        """Whether any of these offsets is one that the log had reached before."""
        return any(at < self._offsets.get(place, 0) for place, at in first.items())

    def may_be_new(self, first: Position, others: int) -> bool:
        """Whether a partition was so short that one made again may have reached these offsets.

        ``others``: the offsets that others can have written to a topic made again.
        """
        return any(self._offsets.get(place, 0) <= others for place in first)

    def encode(self) -> str:
        return StreamPosition.of(self._epoch, self._offsets, self._partitions).encode()
