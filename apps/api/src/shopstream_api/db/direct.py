"""Connections for single statements in autocommit, without a layer between them and the driver.

Whoever uses them bounds how many are in use at a time; those at rest are kept for the next.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from shopstream_api.db.connect import STATEMENT_SECONDS_MAX
from shopstream_api.db.wire import DriverConnection, Wire


class DirectConnections:
    """A stack of connections; the ones used last are used next."""

    def __init__(
        self, connect: Callable[[], Awaitable[DriverConnection]], *, age_seconds_max: float
    ) -> None:
        self._connect = connect
        self._age_seconds_max = age_seconds_max
        self._idle: list[tuple[Wire, float]] = []
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Wire]:
        """One connection; after any fault it is not used again.

        Raises psycopg.Error, TimeoutError when the statement takes STATEMENT_SECONDS_MAX.
        """
        wire, made = await self._taken()
        try:
            async with asyncio.timeout(STATEMENT_SECONDS_MAX):
                yield wire
        except BaseException:
            lost = wire.broken
            await wire.close()
            if lost:
                # What ended this one, a restart for one, will hardly have left the others.
                await self._forget()
            raise
        if self._closed:
            await wire.close()
        else:
            self._idle.append((wire, made))

    async def _taken(self) -> tuple[Wire, float]:
        now = time.monotonic()
        while self._idle:
            wire, made = self._idle.pop()
            if not wire.closed and now - made < self._age_seconds_max:
                return wire, made
            await wire.close()
        return Wire(await self._connect()), now

    async def close(self) -> None:
        """Close those at rest now, and those in use when their statement has ended."""
        self._closed = True
        await self._forget()

    async def _forget(self) -> None:
        while self._idle:
            await self._idle.pop()[0].close()
