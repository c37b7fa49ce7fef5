"""Protocol rule 25: on whichever replica a client resumes, it loses nothing and doubles nothing.

Replicas interleave partitions differently, so a client's position is in general none that the
other replica ever had.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.stream import PARTS, History, Replica, settle, simulate

from shopstream_notifications.client import Client
from shopstream_notifications.log import EventLog
from shopstream_notifications.playback import Playback
from shopstream_notifications.records import Part

CUTS = 4


async def hop(seed: int, playback: type[Playback] = Playback) -> tuple[list[str], list[str]]:
    """A client that hops between replicas while both read: (what it got, what there was)."""
    chance = random.Random(seed)
    history = History(
        {part: [chance.random() < 0.8 for _ in range(chance.randrange(8))] for part in PARTS}
    )
    replicas = [
        Replica(history, log_bytes_max=chance.choice((0, 2_000, 10**6)), playback=playback)
        for _ in range(2)
    ]
    got: list[str] = []
    # The first connection is a first visit, and nothing has been read: it sees all of history.
    last_id = ""
    for cut in range(CUTS):
        replica = replicas[cut % 2]
        client, socket = await replica.connect(last_id)
        for _ in range(chance.randrange(8)):
            other = chance.choice(replicas)
            part = chance.choice(PARTS)
            other.read(part, chance.randint(other.position[part], len(history.records[part])))
            if chance.random() < 0.5:
                await settle()
        if cut == CUTS - 1:
            for other in replicas:
                other.read_all()
        await settle()
        replica.hub.leave(client)
        got += socket.data
        last_id = socket.last_id
    there = [
        f"{part[0]} {part[1]} {offset}"
        for part, records in history.records.items()
        for offset, entry in enumerate(records)
        if entry is not None
    ]
    return got, there


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_a_client_that_hops_between_replicas_loses_and_doubles_nothing(seed: int) -> None:
    got, there = simulate(hop(seed))
    assert sorted(got) == sorted(there)


def test_order_within_a_partition_survives_every_hop() -> None:
    for seed in range(50):
        got, _ = simulate(hop(seed))
        for topic, partition in PARTS:
            name = f"{topic} {partition} "
            offsets = [int(data.removeprefix(name)) for data in got if data.startswith(name)]
            assert offsets == sorted(offsets)


class WithoutMaximum(Playback):
    """Breaks the rule on purpose: shared ids at once, though the log is behind the client."""

    async def _with_own_ids(
        self, client: Client, log: EventLog, own: dict[Part, int], index: int, told: object
    ) -> bool:
        client.cursor = index
        return True


def test_without_the_component_wise_maximum_events_are_doubled() -> None:
    """The property above would notice: it goes red when the rule is removed."""
    doubled = 0
    for seed in range(100):
        got, _ = simulate(hop(seed, WithoutMaximum))
        doubled += len(got) > len(set(got))
    assert doubled > 0


@pytest.mark.parametrize("kept", [0, 10**6], ids=["cold", "hot"])
def test_a_replay_goes_through_memory_and_broker_alike(kept: int) -> None:
    async def run() -> None:
        history = History({part: [True] * 6 for part in PARTS})
        replica = Replica(history, log_bytes_max=kept)
        _, first = await replica.connect()
        opened = first.last_id
        replica.read_all()
        _, again = await replica.connect(opened)
        await settle()
        assert sorted(again.data) == sorted(first.data)
        assert len(again.data) == 6 * len(PARTS)

    simulate(run())
