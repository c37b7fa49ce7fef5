"""What a worker tells about itself: counters and conditions, for health and metrics."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.sink import FaultKind
from shopstream_shared.logs import get_logger

#: Begins the names of the counters of faults; the kind follows.
FAULTS: Final = "fault."
#: The counter of events that are missing in the sink for good.
ITEMS_REFUSED: Final = "items_refused"
#: The counter of records that a letter keeps out of the aggregates.
PASSED_OVER: Final = "records_passed_over"

log = get_logger(__name__)


@dataclass(slots=True)
class Progress:
    """Kept by the worker's own loop, so no lock is needed."""

    counters: Counter[str] = field(default_factory=Counter)
    sources: tuple[Source, ...] = ()
    #: When a batch last reached a lane, monotonic.
    arrived_at: float = field(default_factory=time.monotonic)
    _away: dict[Source | None, str] = field(default_factory=dict)

    def assigned(self, sources: tuple[Source, ...]) -> None:
        self.sources = sources
        for source in [known for known in self._away if known not in sources and known is not None]:
            del self._away[source]

    def wrote(self, batch: Batch) -> None:
        self.counters["batches"] += 1
        self.counters["records"] += len(batch.records)
        self.counters["bytes"] += batch.size_bytes

    def arrived(self) -> None:
        self.arrived_at = time.monotonic()

    def dropped(self, batch: Batch) -> None:
        self.counters["stale_batches"] += 1

    def letter(self) -> None:
        self.counters["dead_letters"] += 1

    def passed_over(self, records: int) -> None:
        """Records that have a letter, and so are not counted."""
        self.counters[PASSED_OVER] += records

    def item_refused(self) -> None:
        """An event that the store never takes was left out."""
        self.counters[ITEMS_REFUSED] += 1

    def store_fault(self, kind: FaultKind) -> None:
        """A try of a call that the store did not take."""
        self.counters[FAULTS + kind] += 1

    def sink_away(self, source: Source | None, detail: str) -> None:
        """A write (or, without a source, a ping) failed and is to be tried again."""
        if source not in self._away:
            log.warning("sink away", source=str(source), detail=detail)
        self._away[source] = detail
        self.counters["sink_retries"] += 1

    def fault(self, source: Source, error: Exception) -> None:
        """A write failed for another reason than the sink being away, and is to be tried again."""
        log.warning("write failed", source=str(source), error=repr(error))
        self.counters["sink_faults"] += 1

    def sink_back(self, source: Source | None, seconds: float) -> None:
        if self._away.pop(source, None) is not None:
            log.info("sink back", source=str(source))
        self.counters["sink_calls"] += 1
        self.counters["sink_microseconds"] += int(seconds * 1e6)

    @property
    def trouble(self) -> str | None:
        """Why the sink cannot be written; None when it can."""
        return next(iter(self._away.values()), None)
