"""Protocol rule 25: on whichever replica a client resumes, it loses nothing and doubles nothing.

Replicas interleave partitions differently, so a client's position is in general none that the
other replica ever had.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.stream import EVERYTHING, PARTS, History, Replica, settle, simulate

from shopstream_notifications import hub, playback
from shopstream_notifications.client import Client
from shopstream_notifications.filters import Filter
from shopstream_notifications.log import EventLog
from shopstream_notifications.playback import Playback
from shopstream_notifications.records import Part
from shopstream_shared.stream_id import StreamPosition
from shopstream_stack.sse_parser import SseParser

CUTS = 4


async def hop(
    seed: int, player: type[Playback] = Playback, wanted: Filter = EVERYTHING
) -> tuple[list[str], list[str]]:
    """A client that hops between replicas while both read: (what it got, what there was for it)."""
    chance = random.Random(seed)
    history = History(
        {part: [chance.random() < 0.8 for _ in range(chance.randrange(8))] for part in PARTS}
    )
    replicas = [
        Replica(history, log_bytes_max=chance.choice((0, 2_000, 10**6)), playback=player)
        for _ in range(2)
    ]
    got: list[str] = []
    # The first connection is a first visit, and nothing has been read: it sees all of history.
    last_id = ""
    for cut in range(CUTS):
        replica = replicas[cut % 2]
        client, socket = await replica.connect(last_id, wanted=wanted)
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
        hold_ids_against_events(socket.raw, got, history, wanted)
        got += socket.data
        last_id = socket.last_id
    there = [
        f"{part[0]} {part[1]} {offset}"
        for part, records in history.records.items()
        for offset, entry in enumerate(records)
        if entry is not None and wanted.matches(entry)
    ]
    return got, there


def hold_ids_against_events(raw: bytes, got: list[str], history: History, wanted: Filter) -> None:
    """Whoever resumes at an id misses nothing: what is wanted from before it has been sent."""
    parser, seen = SseParser(), set(got)
    for block in raw.split(b"\n\n"):
        seen.update(event.data for event in parser.feed(block + b"\n\n"))
        if not block.startswith(b"id: "):
            continue
        position = StreamPosition.decode(parser.last_event_id)
        for part, records in history.records.items():
            passed = records[: position.next_offset(*part)]
            due = {f"{part[0]} {part[1]} {r.offset}" for r in passed if r and wanted.matches(r)}
            assert due <= seen, f"an id stands before {due - seen}"


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_a_client_that_hops_between_replicas_loses_and_doubles_nothing(seed: int) -> None:
    got, there = simulate(hop(seed))
    assert sorted(got) == sorted(there)


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=0, max_value=2**32), st.sampled_from(("type", "subject", "none")))
def test_e04_an_id_past_what_a_filter_left_out_is_never_past_what_it_wants(
    seed: int, kind: str
) -> None:
    wanted = {
        "type": Filter(types=frozenset({"product.created"})),
        "subject": Filter(subject=f"{PARTS[1][0]}-{PARTS[1][1]}"),
        "none": Filter(seller_id="nobody"),
    }[kind]
    with pytest.MonkeyPatch.context() as small:
        # As if replays were long: in many turns, each with its id.
        small.setattr(hub, "REPLAY_RECORDS_MAX", 2)
        small.setattr(playback, "OWN_IDS_RECORDS_MAX", 2)
        small.setattr(playback, "PROGRESS_SECONDS", seed % 2)
        got, there = simulate(hop(seed, wanted=wanted))
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
