"""One transaction's statements, sent together as far as nobody waits for their answers. ADR 40.

A statement on its own takes its way there and back and a turn of the event loop: ten milliseconds
on a busy machine, whatever it does. A command of nine of them held its connection, its locks and
its turn for a tenth of a second; here it takes as long as the answers that it has to read.

- What is awaited (`run`, `together`) goes out at once, and all that was added before goes with it,
  in the order of the calls. The last goes with the commit.
- What is only added may be refused later: by the next that is awaited, or by the commit.
- A savepoint costs nothing of its own; what was added behind it and not sent is forgotten when it
  is undone.
- After any doubt about what the server has done the connection is closed, and the server is asked
  to stop: who is cancelled keeps no lock.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg.rows import TupleRow

from shopstream_api.db.arrays import Array
from shopstream_api.db.connect import STATEMENT_SECONDS_MAX
from shopstream_api.db.wire import (
    BEGIN,
    COMMIT,
    ROLLBACK,
    Call,
    DriverConnection,
    Statement,
    Wire,
)

#: How long a server is asked to end what nobody waits for any more; psycopg's own bound.
CANCEL_SECONDS_MAX: Final = 5.0
#: Statements that wait to be sent; a command has no more than a dozen of them.
WAITING_MAX: Final = 100

_SAVEPOINT: Final = Statement("savepoint_effects", "SAVEPOINT effects")
_RELEASE: Final = Statement("release_effects", "RELEASE SAVEPOINT effects")
_UNDO: Final = Statement("rollback_to_effects", "ROLLBACK TO SAVEPOINT effects")


class Pipeline:
    """A connection's transaction. It begins with the first that is sent; `commit` or `end` it."""

    def __init__(self, connection: DriverConnection) -> None:
        self._wire = Wire(connection, resting=False)
        self._waiting: list[Call] = []

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._waiting

    @property
    def closed(self) -> bool:
        return self._wire.closed

    def add(self, statement: Statement, parameters: Mapping[str, Array]) -> None:
        """Have it sent with the next statement that is awaited, or with the commit."""
        if len(self._waiting) >= WAITING_MAX:
            msg = f"{WAITING_MAX} statements of one transaction wait to be sent"
            raise ValueError(msg)
        self._waiting.append((statement, parameters))

    async def run(self, statement: Statement, parameters: Mapping[str, Array]) -> list[TupleRow]:
        """The statement's rows. Raises as `together`."""
        (rows,) = await self.together((statement, parameters))
        return rows

    async def together(self, *calls: Call) -> list[list[TupleRow]]:
        """The rows of each, sent at once, behind all that waits.

        Each sees what those before it have done, and what others have committed meanwhile.
        Raises psycopg.Error, TimeoutError after STATEMENT_SECONDS_MAX.
        """
        waiting, self._waiting = self._waiting, []
        begin = [] if self._wire.in_transaction else [(BEGIN, _NOTHING)]
        found = await self._sent([*begin, *waiting, *calls])
        return found[len(found) - len(calls) :]

    async def flush(self) -> None:
        """Send what waits. Raises as `together`."""
        if self._waiting:
            await self.together()

    async def commit(self) -> None:
        """Send what waits, and commit; nothing is sent when nothing was done.

        Raises as `together`, and InFailedSqlTransaction after a refusal that was passed over.
        """
        if self._waiting or self._wire.in_transaction:
            await self.together((COMMIT, _NOTHING))

    async def end(self) -> None:
        """Undo what is not committed. Raises psycopg.Error, TimeoutError."""
        self._waiting.clear()
        if not self._wire.closed and self._wire.in_transaction:
            await self._sent([(ROLLBACK, _NOTHING)])

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo the effects of what is inside when it raises. Not one within another."""
        mark = (_SAVEPOINT, _NOTHING)
        self._waiting.append(mark)
        try:
            yield
        except Exception:
            unsent = next((n for n, call in enumerate(self._waiting) if call is mark), None)
            del self._waiting[unsent or 0 :]
            if unsent is None and not self._wire.closed:
                self._waiting.append((_UNDO, _NOTHING))
            raise
        self._waiting.append((_RELEASE, _NOTHING))

    async def _sent(self, calls: Sequence[Call]) -> list[list[TupleRow]]:
        try:
            async with asyncio.timeout(STATEMENT_SECONDS_MAX):
                return await self._wire.together(calls)
        except BaseException as error:
            if not isinstance(error, psycopg.Error) or self._wire.in_doubt:
                # Cancelled, or no answer: nobody knows what the server has done or still does.
                await self._wire.cancel(CANCEL_SECONDS_MAX)
            raise


_NOTHING: Final[Mapping[str, Array]] = {}
