"""A connection's protocol for prepared statements: one at a time, sent and awaited by us.

psycopg makes a cursor, adapts each parameter and sets a watch on the socket for every statement,
350 µs whatever it holds: for a statement of the few rows that come together in a millisecond that
is as much as the rows themselves (ADR 0007). Here its libpq connection is used directly. The
parameters are encoded already (`arrays`), and the watch stays.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from shopstream_api.db.arrays import Array
from shopstream_api.db.measure import MeasuredConnection, operation_of

DriverConnection = MeasuredConnection

_NAMED: Final = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL whose named parameters, ``%(name)s``, are arrays; ``name`` is unique in the service."""

    name: str
    text: str
    #: The same as libpq takes it, with ``$1`` and so on for ``parameters`` in this order.
    numbered: bytes = field(init=False)
    parameters: tuple[str, ...] = field(init=False)
    operation: str = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(_NAMED.findall(self.text)))
        numbered = _NAMED.sub(lambda found: f"${names.index(found[1]) + 1}", self.text)
        object.__setattr__(self, "parameters", names)
        object.__setattr__(self, "operation", operation_of(self.text))
        object.__setattr__(self, "numbered", numbered.replace("%%", "%").encode())


class Statements(Protocol):
    """Whatever runs a statement: a `Wire`, or a connection within its transaction."""

    async def run(self, statement: Statement, parameters: Mapping[str, Array]) -> list[TupleRow]:
        """All its rows. Raises psycopg.Error."""
        ...


class OnDriver:
    """Statements on the driver's connection, in the transaction that it has open."""

    def __init__(self, connection: DriverConnection) -> None:
        self._connection = connection

    async def run(self, statement: Statement, parameters: Mapping[str, Array]) -> list[TupleRow]:
        cursor = await self._connection.execute(
            statement.text.encode(), parameters, prepare=True, binary=True
        )
        return await cursor.fetchall()


class Wire:
    """Statements on a connection of its own, in autocommit; after any fault it is closed."""

    def __init__(self, connection: DriverConnection) -> None:
        self._connection = connection
        self._libpq = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._prepared: set[str] = set()
        self._results: list[PGresult] = []
        self._answer: asyncio.Future[list[PGresult]] | None = None
        self._socket = self._libpq.socket
        self._loop.add_reader(self._socket, self._readable)

    @property
    def broken(self) -> bool:
        """Whether the server or the network ended it."""
        return self._connection.broken

    @property
    def closed(self) -> bool:
        return self._connection.closed

    async def run(self, statement: Statement, parameters: Mapping[str, Array]) -> list[TupleRow]:
        """Raises psycopg.Error; then, and when it is cancelled, the connection is of no more use.

        The rows are committed: it returns when the server is ready for the next statement, which is
        after the commit, and not with the statement's own end, which is before it.
        """
        values = [parameters[name] for name in statement.parameters]
        began = time.perf_counter()
        try:
            return self._rows(await self._sent(statement, values))
        finally:
            self._connection.observe(statement.operation, time.perf_counter() - began)

    async def close(self) -> None:
        if not self._connection.closed:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        await self._connection.close()

    async def _sent(self, statement: Statement, values: Sequence[Array]) -> PGresult:
        if statement.name not in self._prepared:
            self._libpq.send_prepare(
                statement.name.encode(), statement.numbered, [value.oid for value in values]
            )
            await self._finished()
            self._prepared.add(statement.name)
        self._libpq.send_query_prepared(
            statement.name.encode(), values, [Format.BINARY] * len(values), Format.BINARY
        )
        return await self._finished()

    async def _finished(self) -> PGresult:
        """The result of what was sent."""
        self._results = []
        self._answer = answer = self._loop.create_future()
        if self._libpq.flush():
            self._loop.add_writer(self._socket, self._writable)
        try:
            results: list[PGresult] = await answer
        except psycopg.Error:
            # The server may have said why before it went.
            _raise_refusal(self._results)
            raise
        finally:
            self._answer = None
        _raise_refusal(results)
        return results[-1]

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
                    if not self._answer.done():
                        self._answer.set_result(self._results)
                    return
                self._results.append(result)
        except psycopg.Error as error:
            self._lost(error)

    def _lost(self, error: psycopg.Error) -> None:
        """The server has closed the connection, in a statement or at rest."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
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
