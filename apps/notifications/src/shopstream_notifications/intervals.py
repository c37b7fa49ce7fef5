"""Which of many intervals hold a number: found in the time that the answer is long.

A tree that is never balanced, since its skeleton is fixed: nodes are the ranges that begin and end
at round numbers of a 64-bit scale. An interval lies at the one node where its two ends part, one in
the lower half of the range and one in the upper. A number meets only nodes that it lies in, one a
level. At such a node every interval reaches from the middle outwards, so a list sorted by one end
gives exactly those that hold it: by the lower end when the number lies in the lower half.

The scale is that of floats, whose bits are in the order of their values. Rounding to a float keeps
order, so numbers that fall on different places of the scale compare as the places do; ends on one
place are compared exactly.
"""

import struct
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import Final, Generic, TypeVar

from shopstream_notifications.predicates import Between, End

T = TypeVar("T")

_FIRST_END: Final = itemgetter(0)
_ENDS: Final = itemgetter(0, 1)
_SIGNS: Final = (1 << 63) - 1
_ORIGIN: Final = 1 << 63
_as_float: Final = struct.Struct(">d").pack
_as_bits: Final = struct.Struct(">q").unpack


def place(number: int | Decimal) -> int:
    """Where on the scale, 0 to 2^64 - 1: never lower than that of a smaller number."""
    try:
        rounded = float(number) + 0.0  # one zero only: -0.0 would lie below 0.0
    except OverflowError:  # an integer beyond all floats
        rounded = float("inf") if number > 0 else float("-inf")
    (bits,) = _as_bits(_as_float(rounded))
    return (bits if bits >= 0 else bits ^ _SIGNS) + _ORIGIN  # type: ignore[no-any-return]  # ">q" is one integer


class _Node(Generic[T]):
    __slots__ = ("by_high", "by_low")

    def __init__(self) -> None:
        #: (low, high, member) and (high, low, member): sorted by both ends, since very many begin
        #: at the same one (all that have none), and one of them must be found to be removed.
        self.by_low: list[tuple[End, End, T]] = []
        self.by_high: list[tuple[End, End, T]] = []


class Intervals(Generic[T]):
    """Members under their intervals; an equal interval may come more than once."""

    def __init__(self) -> None:
        #: By (level, place >> level). Level n's node is 2^n places wide.
        self._nodes: dict[tuple[int, int], _Node[T]] = {}
        self._levels: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def add(self, interval: Between, member: T) -> None:
        at = _node_of(interval)
        node = self._nodes.get(at)
        if node is None:
            node = self._nodes[at] = _Node()
            self._levels[at[0]] += 1
        insort(node.by_low, (interval.low, interval.high, member), key=_ENDS)
        insort(node.by_high, (interval.high, interval.low, member), key=_ENDS)

    def remove(self, interval: Between, member: T) -> None:
        """What ``add`` was given. Raises KeyError or ValueError when it never was."""
        at = _node_of(interval)
        node = self._nodes[at]
        _take_out(node.by_low, (interval.low, interval.high), member)
        _take_out(node.by_high, (interval.high, interval.low), member)
        if not node.by_low:
            del self._nodes[at]
            self._levels[at[0]] -= 1
            if not self._levels[at[0]]:
                del self._levels[at[0]]

    def holding(self, number: int | Decimal) -> Iterable[T]:
        """Members whose intervals hold the number."""
        scale = place(number)
        exact: End = (number, 0)
        found: list[T] = []
        for level in self._levels:
            node = self._nodes.get((level, scale >> level))
            if node is None:
                continue
            if level == 0:
                found += [member for low, high, member in node.by_low if low <= exact <= high]
            elif scale >> (level - 1) & 1:
                first = bisect_left(node.by_high, exact, key=_FIRST_END)
                found += [member for _, _, member in islice(node.by_high, first, None)]
            else:
                stop = bisect_right(node.by_low, exact, key=_FIRST_END)
                found += [member for _, _, member in islice(node.by_low, stop)]
        return found


def _node_of(interval: Between) -> tuple[int, int]:
    low, high = place(interval.low[0]), place(interval.high[0])
    level = (low ^ high).bit_length()
    return level, low >> level


def _take_out(entries: list[tuple[End, End, T]], ends: tuple[End, End], member: T) -> None:
    for index in range(bisect_left(entries, ends, key=_ENDS), len(entries)):
        if entries[index][2] is member:
            del entries[index]
            return
    raise ValueError("not in the list")
