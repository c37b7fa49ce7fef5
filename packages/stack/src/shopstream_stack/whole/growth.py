"""Whether a process grows: a robust line through its resident memory over time."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from shopstream_stack.errors import StackError

#: Fewer samples make no line.
SAMPLES_MIN = 3
#: Pairs of samples grow with their square; more than these are thinned out evenly.
SAMPLES_MAX = 400

Sample = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Growth:
    """``share`` by how much the line rises over the samples' time, of where it begins."""

    share: float
    mib_at_end: float


def growth(samples: Sequence[Sample]) -> Growth:
    """Of samples (seconds, KiB): the Theil-Sen line, the median of all slopes between two of them.

    A single collection or a burst moves it little, unlike a line of least squares, or the
    difference of two points. Raises StackError for fewer than SAMPLES_MIN.
    """
    if len(samples) < SAMPLES_MIN:
        raise StackError(f"{len(samples)} samples of memory say nothing about its growth")
    step = -(-len(samples) // SAMPLES_MAX)
    kept = samples[::step]
    slope = statistics.median(
        (later - earlier) / (after - before)
        for (before, earlier), (after, later) in combinations(kept, 2)
        if after > before
    )
    level = statistics.median(kib - slope * at for at, kib in kept)
    first, last = level + slope * samples[0][0], level + slope * samples[-1][0]
    return Growth(last / first - 1, last / 1_024)
