"""The task that makes the partitions of orders ahead of time, and its health."""

import asyncio
import functools
from datetime import date
from typing import Final

from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.errors import Unavailable
from shopstream_api.orders.partitions import covered, following, make, missing, month_of
from shopstream_api.principal import RequestContext
from shopstream_shared.clock import Clock
from shopstream_shared.health import Unhealthy
from shopstream_shared.logs import get_logger

PASS_SECONDS: Final = 60.0
#: While the database is away or has no schema yet.
RETRY_SECONDS: Final = 0.5

_log = get_logger(__name__)


class PartitionTask:
    """Any number of processes may run it; each partition is a transaction of its own."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._covered: date | None = None

    async def run(self) -> None:
        """Make what is missing every PASS_SECONDS until cancelled."""
        while True:
            pause = PASS_SECONDS
            try:
                await self.make_missing()
            except Unavailable:
                pause = RETRY_SECONDS
            except Exception:  # noqa: BLE001 - logged; health tells what is missing
                _log.exception("partitions not made")
            await asyncio.sleep(pause)

    async def make_missing(self) -> None:
        """One pass; where a lock cannot be had, the rest waits for the next one.

        A partition that cannot be made, say because a detached table has its name, is logged and
        does not stand in the way of the others.
        Raises Unavailable when the database is away.
        """
        now = self._clock.now()
        async with self._database.reading() as connection:
            wanted = await connection.run_sync(missing, now)
        for table, month in wanted:
            made = functools.partial(_make, table=table, month=month)
            try:
                rows = await self._database.run(RequestContext("partitions"), made)
            except Unavailable as error:
                _log.warning("partition not made", table=table, month=str(month), reason=str(error))
                break
            except Exception:  # noqa: BLE001 - logged; the next pass tries again
                _log.exception("partition not made", table=table, month=str(month))
                continue
            _log.info("partition made", table=table, month=str(month), rows=rows)
        async with self._database.reading() as connection:
            self._covered = await connection.run_sync(covered, now)

    async def probe(self) -> str:
        """Healthy while next month's orders have a partition to go to."""
        needed = following(month_of(self._clock.now()))
        if self._covered is None or self._covered < needed:
            raise Unhealthy(f"orders of {needed:%Y-%m} have no partition yet")
        return f"made up to {self._covered:%Y-%m}"


async def _make(tx: Transaction, *, table: str, month: date) -> int:
    connection = await tx.connection()
    return await connection.run_sync(make, table, month)
