"""A replay over the place where a topic got more partitions (protocol rule 14)."""

import pytest
from tests.support.stream import EPOCH, History, Replica, settle, simulate

from shopstream_notifications import playback
from shopstream_shared.boundaries import Boundary
from shopstream_shared.stream_id import StreamPosition
from shopstream_shared.topics import ORDERS, PRODUCTS, STREAM_TOPICS

OLD, NEW, OTHER = (PRODUCTS, 0), (PRODUCTS, 1), (ORDERS, 0)
#: When the topic got its second partition.
END = 7


async def replayed(begin: int) -> list[str]:
    """What a client is sent that stood at ``begin`` of the only partition there was."""
    history = History({OLD: [True] * 12, NEW: [True] * 9, OTHER: [True] * 5})
    history.grown = (Boundary(PRODUCTS, "id", 2, (END,)),)
    replica = Replica(history, start=history.end())
    own = StreamPosition.of(EPOCH, {OLD: begin}, dict.fromkeys(STREAM_TOPICS, 1))
    _client, socket = await replica.connect(own.encode())
    await settle()
    return socket.data


@pytest.mark.parametrize("begin", [0, END - 1, END, END + 2])
def test_all_below_the_boundary_is_sent_before_anything_above_it(begin: int) -> None:
    sent = simulate(replayed(begin))
    wanted = [f"{PRODUCTS} 0 {offset}" for offset in range(begin, 12)]
    wanted += [f"{PRODUCTS} 1 {offset}" for offset in range(9)]
    wanted += [f"{ORDERS} 0 {offset}" for offset in range(5)]
    assert sorted(sent) == sorted(wanted)
    places = {data: place for place, data in enumerate(sent)}
    below = [places[f"{PRODUCTS} 0 {offset}"] for offset in range(begin, END)]
    above = [place for data, place in places.items() if data.startswith(f"{PRODUCTS} 1 ")]
    assert max(below, default=-1) < min(above)


def test_a_client_that_is_cut_below_the_boundary_goes_on_below_it() -> None:
    async def run() -> list[str]:
        history = History({OLD: [True] * 12, NEW: [True] * 9})
        history.grown = (Boundary(PRODUCTS, "id", 2, (END,)),)
        first, second = (Replica(history, start=history.end()) for _ in range(2))
        own = StreamPosition.of(EPOCH, {}, dict.fromkeys(STREAM_TOPICS, 1))
        _client, socket = await first.connect(own.encode())
        got = socket.data[:4]
        assert got == [f"{PRODUCTS} 0 {offset}" for offset in range(4)]
        last_id = next(event.id for event in socket.events if event.data == got[-1])
        _client, again = await second.connect(last_id)
        assert again.data[: END - 4] == [f"{PRODUCTS} 0 {offset}" for offset in range(4, END)]
        return got + again.data

    sent = simulate(run())
    assert len(sent) == len(set(sent)) == 12 + 9


def test_without_the_boundary_the_two_halves_of_a_history_would_be_swapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(playback, "up_to", lambda _boundaries, _at, until: dict(until))
    with pytest.raises(AssertionError):
        test_all_below_the_boundary_is_sent_before_anything_above_it(0)
