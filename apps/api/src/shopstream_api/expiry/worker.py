"""Looks for overdue holds and ends them, each in its own transaction.

Any number of processes may do this at once: a hold is claimed by a lock that the others do not
wait for, and once it is ended it is no longer overdue. One that cannot be ended is put off for a
while, so that it does not stand in the way of the others.
"""

import asyncio
import time
from collections.abc import Collection
from typing import Final
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Gauge

from shopstream_api.db.transaction import Database
from shopstream_api.errors import Unavailable
from shopstream_api.expiry.repository import ExpiryRepository, Hold
from shopstream_api.expiry.service import ExpireHolds
from shopstream_api.principal import RequestContext
from shopstream_shared.clock import Clock, IdSource
from shopstream_shared.health import Unhealthy
from shopstream_shared.logs import get_logger

#: Reservations read at a time; an order has one for each of its products, up to 100.
BATCH_ROWS: Final = 200
#: A hold that failed is left alone for 2, 4, 8 … seconds, up to this.
RETRY_SECONDS_MAX: Final = 300.0
#: More than this many are not remembered: the oldest is then tried again early.
FAILED_MAX: Final = 1_000
#: Longer than any retry or short outage; a hold that is overdue by more needs a person.
OVERDUE_SECONDS_MAX: Final = 600.0

_log = get_logger(__name__)


class ExpiryMetrics:
    """What operators watch of the worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.expired = Counter(
            "shopstream_holds_expired", "Holds ended because overdue", ("kind",), registry=registry
        )
        self.failures = Counter(
            "shopstream_holds_failures", "Holds that could not be ended", registry=registry
        )
        self.overdue = Gauge(
            "shopstream_holds_overdue_seconds",
            "How long the oldest hold is overdue, after a sweep",
            registry=registry,
        )


class Failed:
    """Which holds failed how often, and until when they are left alone."""

    def __init__(self) -> None:
        self._held: dict[UUID, tuple[int, float]] = {}

    def note(self, hold_id: UUID, now: float) -> None:
        """One more failure; ``now`` in monotonic seconds."""
        times = self._held.pop(hold_id, (0, 0.0))[0] + 1
        self._held[hold_id] = times, now + min(2.0**times, RETRY_SECONDS_MAX)
        if len(self._held) > FAILED_MAX:
            del self._held[next(iter(self._held))]

    def forget(self, hold_id: UUID) -> None:
        self._held.pop(hold_id, None)

    def waiting(self, now: float) -> Collection[UUID]:
        """Those to leave alone at this moment."""
        return [hold_id for hold_id, (_, until) in self._held.items() if until > now]


class ExpiryWorker:
    """``every_seconds`` 0: this process ends no holds."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: IdSource,
        expire: ExpireHolds,
        metrics: ExpiryMetrics,
        *,
        every_seconds: float,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._expire = expire
        self._metrics = metrics
        self._every_seconds = every_seconds
        self._failed = Failed()
        self._overdue_seconds = 0.0

    async def run(self) -> None:
        """Sweep until cancelled; a database that is away is tried again."""
        while self._every_seconds:
            await asyncio.sleep(self._every_seconds)
            try:
                await self.sweep()
            except Unavailable:
                continue
            except Exception:  # noqa: BLE001 - logged; the next sweep may do
                _log.exception("expiry failed")

    async def sweep(self) -> int:
        """End all that is overdue; returns how many holds this call has ended.

        Raises Unavailable; one that could not be ended is put off first, so that a lock which
        is never given holds up this sweep only.
        """
        total, again = 0, True
        while again:
            ended, more = await self._batch()
            total += ended
            # Without one ended, the batch is being worked on by others.
            again = more and ended > 0
        async with self._database.reading() as connection:
            oldest = await ExpiryRepository(connection).next_due()
        late = 0.0 if oldest is None else (self._clock.now() - oldest).total_seconds()
        self._overdue_seconds = max(0.0, late)
        self._metrics.overdue.set(self._overdue_seconds)
        return total

    async def _batch(self) -> tuple[int, bool]:
        waiting = self._failed.waiting(time.monotonic())
        async with self._database.reading() as connection:
            repository = ExpiryRepository(connection)
            holds, more = await repository.due(self._clock.now(), waiting, BATCH_ROWS)
        return sum([await self._one(hold) for hold in holds]), more

    async def _one(self, hold: Hold) -> bool:
        kind = "order" if hold.is_order else "reservation"
        request_id = self._ids.new_id()
        context = RequestContext(request_id, correlation_id=request_id)
        try:
            ended = await self._database.run(context, lambda tx: self._expire(tx, hold))
        except Exception as error:
            self._failed.note(hold.id, time.monotonic())
            self._metrics.failures.inc()
            if isinstance(error, Unavailable):
                raise
            _log.exception("hold not ended", kind=kind, id=str(hold.id))
            return False
        self._failed.forget(hold.id)
        if ended:
            self._metrics.expired.labels(kind).inc()
        return ended

    async def probe(self) -> str:
        """The health of the holds: all that are over were ended, if it is this process's task."""
        if not self._every_seconds:
            return "off"
        if self._overdue_seconds > OVERDUE_SECONDS_MAX:
            raise Unhealthy(f"a hold is overdue by {self._overdue_seconds:.0f} s")
        return "none overdue"
