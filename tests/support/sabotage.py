"""Faults and missing safety pieces in the running relay, patched into a fork before it serves.

`ApiProcess.start(patches=[...])` names functions of this module; they run in the new process. The
faults happen at one exact place, where crash points are too coarse; what is taken out by the
others shows what each piece is for (`tests/integration/test_api_relay_sabotage.py`).
"""

import os
import signal
import uuid
from collections.abc import Sequence
from pathlib import Path

from shopstream_api.outbox.relay import postgres, relay, share
from shopstream_api.outbox.relay.kafka import KafkaLog
from shopstream_api.outbox.relay.ports import Delivered, LogFailed, Row
from shopstream_api.outbox.relay.postgres import PostgresStore
from shopstream_api.outbox.relay.relay import Relay
from shopstream_shared.crash import CrashPoint, CrashPoints
from shopstream_shared.log_range import log_ends

TERMS_FILE = "SABOTAGE_TERMS_FILE"


def stands_still_before_produce() -> None:
    """A fault: SIGSTOP, with rows in hand and nothing sent."""
    reach, stopped = CrashPoints.reach, list[bool]()

    def stop(points: CrashPoints, name: CrashPoint) -> None:
        reach(points, name)
        if name == "relay.before_produce" and not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGSTOP)

    _put(CrashPoints, "reach", stop)


def hears_nothing_of_its_session() -> None:
    """A fault: what it finds out about its place it finds out from the log alone."""
    _put(PostgresStore, "ping", lambda store: None)
    _put(PostgresStore, "lag", lambda store: (0, None))


def tells_how_its_terms_end() -> None:
    """No fault: the kind of each failure becomes a line of the file that TERMS_FILE names."""
    failed = Relay._failed

    def tell(relay: Relay, error: Exception) -> None:
        path = os.environ[TERMS_FILE]  # noqa: TID251 - the test gives it, no operator
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{type(error).__name__}\n")
        failed(relay, error)

    _put(Relay, "_failed", tell)


def loses_the_answer_to_its_first_commit() -> None:
    """A fault: the broker commits, and the relay is told that it is gone."""
    commit, lost = KafkaLog.commit, list[bool]()

    def commit_unheard(log: KafkaLog) -> None:
        commit(log)
        if not lost:
            lost.append(True)
            raise LogFailed("the answer is lost")

    _put(KafkaLog, "commit", commit_unheard)


def counts_again_soon_after_a_failure() -> None:
    """No fault: a shorter wait, for tests in which others lead meanwhile."""
    _put(share, "EXCLUDED_SECONDS", 1.0)


def polls_once_a_minute() -> None:
    """Not a fault: who is not told of a commit publishes it too late for a test."""
    _put(relay, "POLL_SECONDS", 60.0)


def without_progress_record() -> None:
    """Nobody reads what was published before."""
    _put(KafkaLog, "read_progress", lambda log, ours: None)


def without_fencing() -> None:
    """Each producer has a transactional id of its own, so none is ever fenced."""
    fence = KafkaLog.fence

    def fence_nobody(log: KafkaLog, transactional_id: str) -> None:
        fence(log, f"{transactional_id}-{uuid.uuid4().hex}")

    _put(KafkaLog, "fence", fence_nobody)


def without_commit_only_again() -> None:
    """A commit that was not answered is taken for an abort, and the batch is sent again."""
    send, deliver, commit = KafkaLog.send, KafkaLog.deliver, KafkaLog.commit
    sent: list[Sequence[Row]] = []
    listed: list[bytes] = []

    def remember_rows(log: KafkaLog, rows: Sequence[Row]) -> None:
        sent[:] = [rows]
        send(log, rows)

    def remember_progress(log: KafkaLog, progress: bytes) -> Delivered:
        listed[:] = [progress]
        return deliver(log, progress)

    def commit_or_send_again(log: KafkaLog) -> None:
        try:
            commit(log)
        except LogFailed:
            log.begin()
            send(log, sent[0])
            deliver(log, listed[0])
            commit(log)

    _put(KafkaLog, "send", remember_rows)
    _put(KafkaLog, "deliver", remember_progress)
    _put(KafkaLog, "commit", commit_or_send_again)


def without_order_by_seq() -> None:
    """Rows are taken in an order like that of random event ids."""
    taken = postgres._TAKE
    _put(postgres, "_TAKE", taken.replace("ORDER BY seq", "ORDER BY md5(seq::text)"))
    assert taken != postgres._TAKE


def without_lso_wait() -> None:
    """Progress is read up to what is stable, whatever is open."""

    def stable_end(log: KafkaLog) -> int:
        return log_ends(log._admin, [log._progress], committed=True)[log._progress]

    _put(KafkaLog, "_final_end", stable_end)


def _put(owner: object, name: str, value: object) -> None:
    """Replace what is there; what a release no longer has cannot be taken out of it."""
    assert hasattr(owner, name)
    setattr(owner, name, value)
