"""Works imports, one slice a transaction, beside the requests of this process.

Any number of processes do this: an import is claimed by its row's lock, which the others pass by.
Killed at any point, the slice under way is undone with all its effects, and is worked again.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter

from shopstream_api.db.transaction import Database, Transaction
from shopstream_api.errors import Unavailable
from shopstream_api.imports.models import Counts, ImportRow
from shopstream_api.imports.repository import SWEEP_ROWS_MAX, ImportRepository
from shopstream_api.principal import RequestContext
from shopstream_shared.clock import Clock, IdSource
from shopstream_shared.crash import CrashPoints
from shopstream_shared.logs import get_logger

#: An idle task looks this often for what other processes have left.
LOOK_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 1.0
#: A slice that fails for a reason of ours is tried this often; then its import has failed.
ATTEMPTS_MAX: Final = 5
SWEEP_SECONDS: Final = 60.0
#: Longer than any upload: slices of this age without a running import are nobody's.
SLICES_KEPT: Final = timedelta(hours=2)
#: An import and its errors can be read this long after its end.
IMPORTS_KEPT: Final = timedelta(days=30)

#: Works the next slice of a claimed import; None when none is left.
WorkSlice = Callable[[Transaction, ImportRow], Awaitable[Counts | None]]

_log = get_logger(__name__)


class ImportMetrics:
    """What operators watch of the imports."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "shopstream_import_rows", "Rows of imports worked", ("outcome",), registry=registry
        )
        self.failures = Counter(
            "shopstream_import_failures", "Slices that could not be worked", registry=registry
        )

    def worked(self, counts: Counts) -> None:
        for outcome in ("created", "updated", "unchanged", "failed"):
            self._rows.labels(outcome).inc(getattr(counts, outcome))


class ImportWorker:
    """``crash`` has the points import.before_commit and import.after_commit, once a slice."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: IdSource,
        work: WorkSlice,
        *,
        metrics: ImportMetrics,
        crash: CrashPoints,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._work = work
        self._metrics = metrics
        self._crash = crash
        self._new = asyncio.Event()
        #: Of each slice that failed here, by its import and the rows before it.
        self._attempts: dict[tuple[UUID, int], int] = {}
        self._swept = time.monotonic()

    def wake(self) -> None:
        """There is a new import."""
        self._new.set()

    async def run(self) -> None:
        """Work until cancelled; a database that is away is tried again."""
        while True:
            # Before the look: what comes while it is under way is not forgotten after it.
            self._new.clear()
            try:
                worked = await self.step()
                await self._sweep_in_time()
                if not worked:
                    await self._woken()
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - logged; the next look may do
                _log.exception("imports not worked")
                await asyncio.sleep(RETRY_SECONDS)

    async def step(self) -> bool:
        """Work one slice, or end one import; False when there is nothing to do.

        Raises Unavailable.
        """
        claimed: list[ImportRow] = []

        async def work(tx: Transaction) -> Counts | None:
            claimed.clear()
            row = await ImportRepository(await tx.connection()).claimed()
            if row is None:
                return None
            claimed.append(row)
            counts = await self._work(tx, row)
            self._crash.reach("import.before_commit")
            return counts

        try:
            counts = await self._database.run(RequestContext(self._ids.new_id()), work)
        except Exception as error:
            if claimed:
                await self._failed(claimed[0], error)
            raise
        if counts is not None:
            self._crash.reach("import.after_commit")
            self._metrics.worked(counts)
        for row in claimed:
            self._attempts.pop((row.id, row.counts.read), None)
            if counts is None:
                _log.info("import done", id=str(row.id), rows=row.counts.read)
        return bool(claimed)

    async def _failed(self, row: ImportRow, error: Exception) -> None:
        """Let other imports go first; give up one whose slice fails again and again."""
        self._metrics.failures.inc()
        place = row.id, row.counts.read
        # What may pass by waiting is not the slice's fault.
        attempts = self._attempts.pop(place, 0) + (not isinstance(error, Unavailable))
        give_up = attempts >= ATTEMPTS_MAX
        if not give_up:
            self._attempts[place] = attempts
        else:
            _log.error("import failed", id=str(row.id), rows=row.counts.read)

        async def note(tx: Transaction) -> None:
            repository = ImportRepository(await tx.connection())
            if give_up:
                await repository.finish(row, "failed", tx.now())
            else:
                await repository.advance(row.id, Counts(), tx.now())

        with contextlib.suppress(Unavailable):
            await self._database.run(row.context, note)

    async def _woken(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._new.wait()

    async def _sweep_in_time(self) -> None:
        if time.monotonic() - self._swept >= SWEEP_SECONDS:
            self._swept = time.monotonic()
            await self.sweep()

    async def sweep(self) -> None:
        """Forget old imports and what uploads have left that never ended. Raises Unavailable."""
        now = self._clock.now()
        async with self._database.reading() as connection:
            repository = ImportRepository(connection)
            while await repository.sweep_slices(now - SLICES_KEPT) == SWEEP_ROWS_MAX:
                pass
            while await repository.sweep_ended(now - IMPORTS_KEPT):
                pass
