"""How much a lane may gather for its next write.

A sink that writes an item once a round is cheaper by the size of the round, so a lane with a
backlog should gather much; but what is gathered is memory, and a round that was begun is finished
or repeated. So the bound follows what the sink has shown that it takes in good time, up and down
(like a sender's window in TCP), and starts small again when the sink is away.
"""

from typing import Final

#: The smallest bound: with every sink away each partition holds about three of these.
ROUND_BYTES_FIRST: Final = 262_144
#: The largest: of events of 450 bytes some 16,000 records.
ROUND_BYTES_MAX: Final = 16_777_216
#: How fast the bound grows: from the first to the largest in three rounds.
_GROWTH: Final = 4
#: No growth beyond a round that takes so long. Generous: what takes long in a round is its number
#: of items, which hardly grows with the number of records. Without growth a store of 300 items a
#: second took 40 records a second, in rounds of 320.
GOOD_SECONDS_MAX: Final = 30.0
#: Too long for what a repetition costs, and for the watchdog.
ROUND_SECONDS_MAX: Final = 120.0
#: A round below this part of the bound says that so much is not needed now.
_SMALL_PART: Final = 8


class RoundSize:
    """The bound of one lane, in bytes as `records.size_of` counts them."""

    __slots__ = ("bytes_max",)

    def __init__(self) -> None:
        self.bytes_max = ROUND_BYTES_FIRST

    def wrote(self, size_bytes: int, seconds: float) -> None:
        """A round was stored."""
        if seconds > ROUND_SECONDS_MAX or size_bytes * _SMALL_PART < self.bytes_max:
            self.bytes_max = max(ROUND_BYTES_FIRST, self.bytes_max // 2)
        elif size_bytes * 2 >= self.bytes_max and seconds <= GOOD_SECONDS_MAX:
            self.bytes_max = min(ROUND_BYTES_MAX, self.bytes_max * _GROWTH)

    def refused(self) -> None:
        """The sink is away."""
        self.bytes_max = ROUND_BYTES_FIRST
