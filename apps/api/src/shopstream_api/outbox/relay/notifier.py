"""After a commit: wake the relays of this process, and tell those of others.

NOTIFY is sent outside the business transactions, because PostgreSQL serialises the commits of
transactions that notify; and coalesced, because one is enough for any number of commits.
"""

import asyncio
import contextlib
from typing import Final

import psycopg

from shopstream_api.db.connect import BoundedAsyncConnection, conninfo
from shopstream_api.outbox.relay.status import RelayStatuses
from shopstream_api.outbox.relay.threads import CHANNEL
from shopstream_api.outbox.relay.wakeup import Wakeups

#: At most this many notifications a second.
PAUSE_SECONDS: Final = 0.01
RETRY_SECONDS: Final = 1.0
#: A session that says nothing for so long is given up; to notify twice is harmless.
ANSWER_SECONDS_MAX: Final = 3.0


class Notifier:
    """``committed`` is called by every commit that leaves events; `run` does the telling."""

    def __init__(self, database_url: str, wakeups: Wakeups, statuses: RelayStatuses) -> None:
        self._address = conninfo(database_url, "shopstream-notify")
        self._wakeups = wakeups
        self._statuses = statuses
        self._pending = asyncio.Event()

    def committed(self) -> None:
        self._wakeups.wake()
        if not self._statuses.leads_all():
            self._pending.set()

    async def run(self) -> None:
        """Send until cancelled; a lost session costs only the time of a poll."""
        while True:
            with contextlib.suppress(psycopg.Error, OSError):
                await self._session()
            await asyncio.sleep(RETRY_SECONDS)

    async def _session(self) -> None:
        await self._pending.wait()
        async with await BoundedAsyncConnection.connect(self._address, autocommit=True) as session:
            session.answer_seconds_max = ANSWER_SECONDS_MAX
            while True:
                await self._pending.wait()
                self._pending.clear()
                await session.execute(f"NOTIFY {CHANNEL}".encode())
                await asyncio.sleep(PAUSE_SECONDS)
