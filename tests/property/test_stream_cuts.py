"""A thousand cuts: nothing lost, nothing doubled, each subject's events in order.

Between the cuts replicas read in orders of their own, are killed and lose their place, topics get
more partitions, transactions are aborted, retention takes records away, readers are slow
(`tests.support.stream_cuts`). With a broker and sockets: `python -m tests.endurance cuts`.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.stream import simulate
from tests.support.stream_cuts import Log, World

from shopstream_notifications.client import Client
from shopstream_notifications.filters import Filter
from shopstream_notifications.limits import Place
from shopstream_notifications.log import EventLog
from shopstream_notifications.playback import Playback
from shopstream_notifications.records import Offsets, Part
from shopstream_notifications.replay import Slice
from shopstream_shared.boundaries import Boundary

HISTORIES = 50
CUTS_EACH = 20


def played(seed: int, playback: type[Playback] = Playback, log: type[Log] = Log) -> World:
    world = World(random.Random(seed), CUTS_EACH, playback, log())
    simulate(world.play())
    return world


@settings(max_examples=HISTORIES, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_over_a_thousand_cuts_nothing_is_lost_doubled_or_out_of_order(seed: int) -> None:
    world = played(seed)
    assert world.cuts >= CUTS_EACH
    assert {reason for visitor in world.visitors for reason in visitor.gaps} <= {"evicted"}


def test_the_histories_reach_every_way_of_resuming() -> None:
    resumed: Counter[str] = Counter()
    for seed in range(10):
        resumed += played(seed).resumed
    assert resumed.keys() == {"first", "hot", "cold", "evicted"}


class WithoutMaximum(Playback):
    """Breaks protocol rule 25: shared ids at once, though the log is behind the client."""

    async def _with_own_ids(
        self, client: Client, log: EventLog, own: dict[Part, int], index: int, told: object
    ) -> bool:
        client.cursor = index
        return True


class WithoutBoundaries(Log):
    """Breaks protocol rule 14: nobody knows where a topic got more partitions."""

    def boundaries(self) -> Sequence[Boundary]:
        return ()


class WithoutEviction(Log):
    """A broker that does not say what retention took: it goes on with what is left."""

    async def read(self, who: Place, wanted: Filter, begin: Offsets, stop: Offsets) -> Slice:
        left = {part: max(offset, self.first[part]) for part, offset in begin.items()}
        return await super().read(who, wanted, left, stop)

    def starts(self, parts: Iterable[Part]) -> dict[Part, int]:
        return dict.fromkeys(parts, 0)


@pytest.mark.parametrize(
    ("playback", "log", "fault"),
    [
        (WithoutMaximum, Log, "doubled"),
        (Playback, WithoutBoundaries, "out of order"),
        (Playback, WithoutEviction, "lost"),
    ],
)
def test_without_a_rule_the_histories_show_it(
    playback: type[Playback], log: type[Log], fault: str
) -> None:
    """The property above would notice: it goes red when the rule is removed."""
    with pytest.raises(AssertionError, match=fault):
        [played(seed, playback, log) for seed in range(4 * HISTORIES)]
