"""What is live, read in the order that makes a comparison fair, and kept on disk.

Checkpoints first, then the items: below its checkpoint a partition's items have everything; at or
above it they have what the worker had merged when each was read, which its ``upto`` says. The
archive is waited for last, until it has come as far as the furthest item.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shopstream_analytics.aggregates.keys import parse
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.rebuild.compare import live_row
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.spill import Row, Spill
from shopstream_analytics.rebuild.store import Item

#: Rows of all sources together that wait in memory: some 60 MB.
ROWS_MAX: Final = 100_000
#: How long the archive may stand still before it counts as not coming, beside its own rotation.
STILL_SECONDS_MAX: Final = 30.0
_POLL_SECONDS: Final = 0.2


@dataclass(slots=True)
class LiveItems:
    """The live items by source, sorted on disk."""

    folder: Path
    furthest: dict[Source, int] = field(default_factory=dict)
    count: int = 0
    _spills: dict[Source, Spill] = field(default_factory=dict)
    _rows: dict[Source, list[Row]] = field(default_factory=dict)

    def read(self, items: Iterable[Item]) -> None:
        """Take all items of a table in."""
        waiting = 0
        for item in items:
            _, source = parse(item["pk"]["S"], item["sk"]["S"])
            row = live_row(item)
            self._rows.setdefault(source, []).append(row)
            self.furthest[source] = max(self.furthest.get(source, -1), row[2])
            self.count += 1
            waiting += 1
            if waiting >= ROWS_MAX:
                self._flush()
                waiting = 0
        self._flush()

    def spill(self, source: Source) -> Spill:
        """The items of one source; an empty one where there are none."""
        if source not in self._spills:
            folder = self.folder / f"{source.topic}+{source.partition}"
            folder.mkdir(parents=True)
            self._spills[source] = Spill(folder)
        return self._spills[source]

    @property
    def sources(self) -> set[Source]:
        """The sources that have items."""
        return set(self.furthest)

    def _flush(self) -> None:
        for source, rows in self._rows.items():
            self.spill(source).add_run(rows)
        self._rows.clear()


def await_archive(
    needed: Mapping[Source, int],
    reached: Callable[[Source], int],
    *,
    rotate_seconds: float,
) -> None:
    """Wait until every chain has come as far as needed. Raises RebuildFailed when one does not."""
    left = dict(needed)
    moved = time.monotonic()
    seen: dict[Source, int] = {}
    while True:
        for source, position in list(left.items()):
            at = reached(source)
            if at != seen.get(source):
                seen[source], moved = at, time.monotonic()
            if at >= position:
                del left[source]
        if not left:
            return
        if time.monotonic() - moved > STILL_SECONDS_MAX + rotate_seconds:
            source, position = next(iter(left.items()))
            raise RebuildFailed(
                f"the archive of {source} stands at {seen[source]}, the live items at {position}: "
                "start the archive's worker, or rebuild without comparing"
            )
        time.sleep(_POLL_SECONDS)
