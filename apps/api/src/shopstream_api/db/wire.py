"""A connection's protocol for prepared statements: as many at a time as are sent together.

psycopg makes a cursor, adapts each parameter and sets a watch on the socket for every statement,
350 µs whatever it holds: for a statement of the few rows that come together in a millisecond that
is as much as the rows themselves (ADR 0007). Here its libpq connection is used directly, in
libpq's pipeline mode. The parameters are encoded already (`arrays`).
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from shopstream_api.db.arrays import Array
from shopstream_api.db.measure import MeasuredConnection, operation_of

DriverConnection = MeasuredConnection

_NAMED: Final = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL whose named parameters, ``%(name)s``, are arrays; ``name`` is unique in the service.

    A single value is an array of one: ``(%(name)s)[1]``.
    """

    name: str
    text: str
    #: The same as libpq takes it, with ``$1`` and so on for ``parameters`` in this order.
    numbered: bytes = field(init=False)
    parameters: tuple[str, ...] = field(init=False)
    #: What its time is counted under; None: it is not counted.
    operation: str | None = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(_NAMED.findall(self.text)))
        numbered = _NAMED.sub(lambda found: f"${names.index(found[1]) + 1}", self.text)
        object.__setattr__(self, "parameters", names)
        object.__setattr__(self, "operation", operation_of(self.text))
        object.__setattr__(self, "numbered", numbered.replace("%%", "%").encode())


#: A statement and its parameters.
Call = tuple[Statement, Mapping[str, Array]]

BEGIN: Final = Statement("begin", "BEGIN")
COMMIT: Final = Statement("commit", "COMMIT")
ROLLBACK: Final = Statement("rollback", "ROLLBACK")


class Statements(Protocol):
    """Whatever runs a statement: a `Wire`, or a transaction's `Pipeline`."""

    async def run(self, statement: Statement, parameters: Mapping[str, Array]) -> list[TupleRow]:
        """All its rows. Raises psycopg.Error."""
        ...


class Wire:
    """Statements on a connection that nothing else uses meanwhile.

    ``resting``: the connection is nobody else's at all; it is watched also between statements, so
    that its end is noticed then. Which statements a connection has prepared it knows itself.
    """

    def __init__(self, connection: DriverConnection, *, resting: bool = True) -> None:
        self._connection = connection
        self._libpq = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._resting = resting
        self._socket = self._libpq.socket
        #: The results of each statement that is answered whole, and those of the next one.
        self._results: list[list[PGresult]] = []
        self._arriving: list[PGresult] = []
        self._answer: asyncio.Future[None] | None = None
        if resting:
            self._loop.add_reader(self._socket, self._readable)

    @property
    def broken(self) -> bool:
        """Whether the server or the network ended it."""
        return self._connection.broken

    @property
    def closed(self) -> bool:
        return self._connection.closed

    @property
    def in_transaction(self) -> bool:
        """Whether one is open, failed or not."""
        return self._libpq.transaction_status != TransactionStatus.IDLE

    @property
    def in_doubt(self) -> bool:
        """Whether something was sent whose end is not known: nothing more may be sent."""
        return self._libpq.pipeline_status != PipelineStatus.OFF

    async def run(self, statement: Statement, parameters: Mapping[str, Array]) -> list[TupleRow]:
        """One statement's rows, as `together` of it alone."""
        (rows,) = await self.together([(statement, parameters)])
        return rows

    async def together(self, calls: Sequence[Call]) -> list[list[TupleRow]]:
        """Send all at once and return the rows of each; after one that fails none has an effect.

        Without BEGIN they are one transaction: it returns when the server is ready for the next
        statement, which is after the commit, and not with a statement's own end, which is before
        it. Raises psycopg.Error; when it is cancelled, the connection is in doubt.
        """
        began = time.perf_counter()
        try:
            return [self._rows(result) for result in await self._exchanged(calls)]
        finally:
            seconds = time.perf_counter() - began
            for statement, _ in calls:
                if statement.operation is not None:
                    self._connection.observe(statement.operation, seconds)

    async def cancel(self, timeout_seconds: float) -> None:
        """End the connection and what the server still does for it.

        A server that does not answer to that for ``timeout_seconds`` ends it later by itself.
        """
        try:
            with contextlib.suppress(psycopg.Error):
                await self._connection.cancel_safe(timeout=timeout_seconds)
        finally:
            await self.close()

    async def close(self) -> None:
        if not self._connection.closed:
            self._unwatch()
        await self._connection.close()

    async def _exchanged(self, calls: Sequence[Call]) -> list[PGresult]:
        """The result of each statement. Raises psycopg.Error."""
        libpq = self._libpq
        libpq.enter_pipeline_mode()
        preparing = self._send(calls)
        libpq.pipeline_sync()
        self._results, self._arriving = [], []
        self._answer = answer = self._loop.create_future()
        if not self._resting:
            self._loop.add_reader(self._socket, self._readable)
        try:
            if libpq.flush():
                self._loop.add_writer(self._socket, self._writable)
            await answer
        except psycopg.Error:
            # The server may have said why before it went.
            for results in (*self._results, self._arriving):
                _raise_refusal(results)
            raise
        finally:
            self._answer = None
            if not self._resting and not self._connection.closed:
                self._unwatch()
        libpq.exit_pipeline_mode()
        found = self._taken(preparing)
        for (statement, _), result in zip(calls, found, strict=True):
            if statement is COMMIT and result.command_status != b"COMMIT":
                # The server ends a failed transaction so, without an error.
                raise psycopg.errors.InFailedSqlTransaction("a statement before was refused")
        return found

    def _send(self, calls: Sequence[Call]) -> list[str | None]:
        """Hand all to libpq; of each command the name of the statement that it prepares, if any."""
        sent: list[str | None] = []
        known = self._connection.prepared
        for statement, parameters in calls:
            values = [parameters[name] for name in statement.parameters]
            name = statement.name.encode()
            if statement.name not in known and statement.name not in sent:
                self._libpq.send_prepare(name, statement.numbered, [value.oid for value in values])
                sent.append(statement.name)
            formats = [Format.BINARY] * len(values)
            self._libpq.send_query_prepared(name, values, formats, Format.BINARY)
            sent.append(None)
        return sent

    def _taken(self, preparing: Sequence[str | None]) -> list[PGresult]:
        """The statements' own results. Raises psycopg.Error, the first one's."""
        known, found = self._connection.prepared, []
        for name, results in zip(preparing, self._results, strict=False):
            try:
                _raise_refusal(results)
            except psycopg.errors.InvalidSqlStatementName:
                # psycopg deallocates all there are when it sees a ROLLBACK or DROP of its own.
                known.clear()
                raise
            if name is None:
                found.append(results[-1])
            else:
                known.add(name)
        # Behind them there is only what the end of an implicit transaction was refused for.
        for results in self._results[len(preparing) :]:
            _raise_refusal(results)
        return found

    def _unwatch(self) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)

    def _writable(self) -> None:
        try:
            if not self._libpq.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._lost(error)

    def _readable(self) -> None:
        try:
            self._libpq.consume_input()
            while self._answer is not None and not self._libpq.is_busy():
                result = self._libpq.get_result()
                if result is None:
                    # The end of one statement's results.
                    self._results.append(self._arriving)
                    self._arriving = []
                elif result.status == ExecStatus.PIPELINE_SYNC:
                    if not self._answer.done():
                        self._answer.set_result(None)
                    return
                else:
                    self._arriving.append(result)
        except psycopg.Error as error:
            self._lost(error)

    def _lost(self, error: psycopg.Error) -> None:
        """The server has closed the connection, in a statement or at rest."""
        self._unwatch()
        if self._answer is not None and not self._answer.done():
            # Rows may have come, but not that they were committed.
            self._answer.set_exception(error)

    def _rows(self, result: PGresult) -> list[TupleRow]:
        if not result.ntuples:
            return []
        reader = Transformer(self._connection)
        reader.set_pgresult(result, format=Format.BINARY)
        return reader.load_rows(0, result.ntuples, tuple)


def _raise_refusal(results: Sequence[PGresult]) -> None:
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
