"""How long the pool's statements take, as the process that waits for them sees it.

A statement's time is from its sending until its answer is here, the wait for a lock and for our own
event loop included: what a request loses by it. Of statements that are sent together each takes as
long as all. A commit is one of its own. What a request waits for before it has a connection is not
in it.

Work in the background on the same connections (sweeping, expiry, partitions, imports) is in it as
well; what only begins, marks or undoes, COPY and what psycopg sends many at once are not, nor is
the relay.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Self

import psycopg
from prometheus_client import CollectorRegistry, Histogram
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

#: 50 ms is what 95 of 100 are held to; it is a border, so that this can be told exactly.
_SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_OTHER: Final = "other"
#: First words of statements; a series each. `with` are those that write several tables at once.
_OPERATIONS: Final = frozenset({"select", "insert", "update", "delete", "with"})
_COMMIT: Final = "commit"
#: They change nothing that a request waits for: not counted.
_CONTROL: Final = frozenset({"begin", "savepoint", "release", "rollback"})
#: Enough to hold any first word, with the white space before it.
_HEAD: Final = 64

Observe = Callable[[str, float], None]


class StatementMetrics:
    """A histogram an operation."""

    def __init__(self, registry: CollectorRegistry) -> None:
        seconds = Histogram(
            "shopstream_db_statement_seconds",
            "From the sending of a statement or commit, of requests and work beside, to its answer",
            ("operation",),
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self._series = {name: seconds.labels(name) for name in (*_OPERATIONS, _COMMIT, _OTHER)}

    def observe(self, operation: str, seconds: float) -> None:
        self._series[operation].observe(seconds)


def operation_of(text: object) -> str | None:
    """What a statement is counted under: its first word, if it is told apart; None: it is not."""
    head = text[:_HEAD] if isinstance(text, str | bytes) else ""
    words = (head if isinstance(head, str) else head.decode("ascii", "replace")).split(None, 1)
    first = words[0].lower() if words else ""
    if first in _CONTROL:
        return None
    return first if first in _OPERATIONS or first == _COMMIT else _OTHER


class _Cursor(psycopg.AsyncCursor[Any]):
    async def execute(self, query: Any, *args: Any, **kwargs: Any) -> Self:
        began = time.perf_counter()
        try:
            return await super().execute(query, *args, **kwargs)
        finally:
            connection, operation = self._conn, operation_of(query)
            if isinstance(connection, MeasuredConnection) and operation is not None:
                connection.observe(operation, time.perf_counter() - began)


class MeasuredConnection(psycopg.AsyncConnection[TupleRow]):
    """Tells ``observe`` each statement's operation and seconds, failed ones too."""

    observe: Observe
    #: Names of the statements that a `Wire` has prepared on it.
    prepared: set[str]

    @classmethod
    async def open(cls, address: str, observe: Observe | None = None) -> "MeasuredConnection":
        """Raises psycopg.Error."""
        made: MeasuredConnection = await cls.connect(address)
        made.observe = observe or _nobody
        made.prepared = set()
        made.cursor_factory = _Cursor
        return made

    async def commit(self) -> None:
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            await super().commit()
            return
        began = time.perf_counter()
        try:
            await super().commit()
        finally:
            self.observe(_COMMIT, time.perf_counter() - began)


def _nobody(_operation: str, _seconds: float) -> None:
    pass
