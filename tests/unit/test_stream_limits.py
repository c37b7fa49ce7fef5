"""Limits on sockets, and turns of cold replays: pure counting, no socket and no broker."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from tests.support.stream import PARTS, History, Replica, simulate

from shopstream_notifications import limits as limits_module
from shopstream_notifications.caller import ADDRESS_LENGTH_MAX, Callers
from shopstream_notifications.descriptors import DESCRIPTORS_RESERVED, sockets_max
from shopstream_notifications.filters import Filter
from shopstream_notifications.limits import Limits, Place, network_of
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.playback import QUESTIONS_MAX
from shopstream_notifications.records import Offsets
from shopstream_notifications.refusal import RETRY_MS, Refusals
from shopstream_notifications.replay import Slice
from shopstream_notifications.settings import NotificationsSettings
from shopstream_notifications.turns import Turns, TurnsFull
from shopstream_shared.boundaries import Boundary


@dataclass(eq=False)
class Socket:
    place: Place | None = None


def limits(*, sockets_max: int = 100, per_address: int = 0, per_principal: int = 0) -> Limits:
    refusals = Refusals(Metrics(CollectorRegistry()))
    return Limits(
        refusals, sockets_max=sockets_max, per_address=per_address, per_principal=per_principal
    )


def test_a_place_is_free_when_the_socket_is_gone_and_not_before() -> None:
    counted = limits(per_address=1)
    first, second = Socket(), Socket()
    assert counted.opened()
    assert counted.opened()
    assert isinstance(counted.seat(first, "10.0.0.1", ""), Place)
    assert counted.seat(second, "10.0.0.1", "") == "address"
    counted.lost(first)
    assert isinstance(counted.seat(second, "10.0.0.1", ""), Place)


def test_a_socket_has_one_place_however_many_streams_it_carried() -> None:
    counted = limits(per_address=1)
    socket = Socket()
    counted.opened()
    for _ in range(3):
        assert isinstance(counted.seat(socket, "10.0.0.1", "s1"), Place)
    counted.lost(socket)
    assert counted.sockets == 0


def test_one_principal_is_counted_over_all_its_addresses() -> None:
    counted = limits(per_principal=2)
    sockets = [Socket() for _ in range(4)]
    seats = [counted.seat(s, f"10.0.0.{i}", "s1") for i, s in enumerate(sockets[:3])]
    assert [isinstance(seat, Place) for seat in seats] == [True, True, False]
    assert seats[2] == "principal"
    assert isinstance(counted.seat(sockets[3], "10.0.0.9", "s2"), Place)


def test_callers_without_a_principal_are_not_one_principal() -> None:
    counted = limits(per_principal=1)
    assert all(isinstance(counted.seat(Socket(), "10.0.0.1", ""), Place) for _ in range(3))


def test_streams_of_one_caller_share_what_describes_it() -> None:
    counted = limits()
    seats = [counted.seat(Socket(), "10.0.0.1", "s1") for _ in range(3)]
    assert len({id(seat) for seat in seats}) == 1


def test_nothing_is_remembered_of_callers_that_left() -> None:
    counted = limits(per_address=5, per_principal=5)
    for number in range(50):
        socket = Socket()
        counted.opened()
        counted.seat(socket, f"10.0.0.{number}", f"s{number}")
        counted.lost(socket)
    assert counted._places == {}
    assert not counted._networks
    assert not counted._principals


def test_all_sockets_together_are_bounded_and_far_beyond_it_dropped() -> None:
    counted = limits(sockets_max=2)
    opened = [counted.opened() for _ in range(2 + limits_module.REFUSABLE_MAX + 1)]
    assert opened == [True] * (2 + limits_module.REFUSABLE_MAX) + [False]
    assert counted.seat(Socket(), "10.0.0.1", "") == "server"


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("unix", "unix", True),
    ],
)
def test_an_ipv6_host_cannot_count_as_many(*, address: str, other: str, same: bool) -> None:
    assert (network_of(address) == network_of(other)) is same


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["a", "b"]), st.sampled_from(["", "p", "q"]))
    )
)
def test_counts_are_always_those_of_the_open_sockets(
    steps: list[tuple[int, str, str]],
) -> None:
    """Each step opens a socket's stream, or drops the socket when it carries one."""
    counted = limits(per_address=2, per_principal=2)
    sockets = [Socket() for _ in range(6)]
    for number, address, principal in steps:
        socket = sockets[number]
        if socket.place is not None:
            counted.lost(socket)
        else:
            counted.opened()
            if not isinstance(counted.seat(socket, address, principal), Place):
                counted.lost(socket)
        seated = [s.place for s in sockets if s.place is not None]
        assert counted.sockets == len(seated)
        for name in "ab":
            assert counted._networks[name] == sum(p.address == name for p in seated) <= 2
        assert counted._principals["p"] == sum(p.principal == "p" for p in seated) <= 2


def test_more_sockets_than_descriptors_are_refused_with_the_remedy() -> None:
    assert sockets_max(0) == sockets_max(sockets_max(0))
    with pytest.raises(ValueError, match=r"ulimit -n.*at most"):
        sockets_max(sockets_max(0) + 1)
    assert DESCRIPTORS_RESERVED < 1_000


@pytest.mark.parametrize("proxies", ["*", "10.0.0.1/8", "proxy.example"])
def test_proxies_are_addresses_or_networks(proxies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_TRUSTED_PROXIES", f"127.0.0.1,{proxies}")
    with pytest.raises(ValidationError, match="SHOPSTREAM_TRUSTED_PROXIES"):
        NotificationsSettings.read()


def test_e23_refused_clients_come_back_at_different_times() -> None:
    refusals = Refusals(Metrics(CollectorRegistry()))
    frames = [refusals.frame("address").decode() for _ in range(50)]
    retries = {int(frame.partition("retry: ")[2].partition("\n")[0]) for frame in frames}
    assert len(retries) > 30
    assert all(RETRY_MS[0] <= retry <= RETRY_MS[1] for retry in retries)
    assert all('"reason":"address"' in frame for frame in frames)


def test_a_forwarded_address_is_believed_from_a_trusted_proxy_only() -> None:
    def address(peer: str, trusted: tuple[str, ...], forwarded: str) -> str:
        headers = [(b"x-forwarded-for", forwarded.encode())]
        scope = {"type": "http", "client": (peer, 1), "headers": headers, "scheme": "http"}
        return asyncio.run(Callers(trusted).address(scope))

    assert address("10.0.0.1", (), "192.0.2.1") == "10.0.0.1"
    assert address("10.0.0.1", ("10.0.0.2",), "192.0.2.1") == "10.0.0.1"
    assert address("10.0.0.1", ("10.0.0.0/8",), "192.0.2.1") == "192.0.2.1"
    assert address("10.0.0.1", ("10.0.0.0/8",), "192.0.2.9, 192.0.2.1, 10.0.0.7") == "192.0.2.1"
    assert len(address("10.0.0.1", ("10.0.0.0/8",), "x" * 5_000)) == ADDRESS_LENGTH_MAX


# Cold replays.


class Crowded(History):
    """A broker for whose readers too many wait, from the second slice on."""

    def __init__(self) -> None:
        super().__init__({part: [True] * 8 for part in PARTS})
        self.slices_left = 1

    async def read(self, who: Place, wanted: Filter, begin: Offsets, stop: Offsets) -> Slice:
        if self.slices_left == 0:
            raise TurnsFull
        self.slices_left -= 1
        return await super().read(who, wanted, begin, stop)


def test_e08_a_replay_without_room_is_told_and_closed_and_resumes_without_a_gap() -> None:
    async def run() -> None:
        history = Crowded()
        early = Replica(history)
        _, first = await early.connect()
        later = Replica(history, start=history.end())
        client, socket = await later.connect(first.last_id)
        assert 0 < len(socket.data) < 8 * len(PARTS)
        (refused,) = socket.named("stream.refused")
        assert json.loads(refused.data)["reason"] == "replays"
        assert json.loads(refused.data)["retryMs"] == socket.parser.retry_ms
        assert refused.id == socket.last_id, "a named event moves no id"
        assert socket.closed
        assert client.number not in later.hub.clients
        assert later.hub.metrics.closed.labels("limit")._value.get() == 1
        history.slices_left = 100
        _, again = await later.connect(socket.last_id)
        got = socket.data + again.data
        assert len(got) == len(set(got)) == 8 * len(PARTS)

    simulate(run())


@pytest.mark.parametrize("cold", [True, False])
def test_the_size_of_a_replay_is_what_the_client_was_sent(*, cold: bool) -> None:
    async def run() -> None:
        history = History({part: [True] * 8 for part in PARTS})
        early = Replica(history)
        _, first = await early.connect()
        begin = first.last_id
        early.read_all()
        served = Replica(history, start=history.end()) if cold else early
        _, socket = await served.connect(begin)
        size = served.hub.metrics.replay_size
        assert size._sum.get() == len(socket.data) == 8 * len(PARTS)
        assert sum(bucket.get() for bucket in size._buckets) == 1

    simulate(run())


def test_e23_a_storm_of_cold_resumes_asks_the_broker_for_boundaries_once() -> None:
    class Counting(History):
        asked = 0

        def boundaries(self) -> Sequence[Boundary]:
            self.asked += 1
            return super().boundaries()

    async def run() -> None:
        history = Counting({part: [True] * 8 for part in PARTS})
        early = Replica(history)
        _, first = await early.connect()
        served = Replica(history, start=history.end())
        found = await asyncio.gather(*(served.connect(first.last_id) for _ in range(20)))
        assert {len(socket.data) for _, socket in found} == {8 * len(PARTS)}
        assert history.asked == 1

    simulate(run())


def test_e16_an_open_stream_holds_no_reader_and_no_turn() -> None:
    async def run() -> None:
        history = History({part: [True] * 8 for part in PARTS})
        early = Replica(history)
        _, first = await early.connect()
        served = Replica(history, start=history.end())
        clients = [(await served.connect(first.last_id))[0] for _ in range(20)]
        assert all(client.task is None for client in clients)
        assert served.playback._questions._free == QUESTIONS_MAX
        assert served.playback._questions.waiting == 0

    simulate(run())


# Turns.


def who(network: str, principal: str = "") -> Place:
    return Place(network, network, principal)


class Reader:
    """One client that reads slice after slice; its driver ends each."""

    def __init__(self, turns: Turns, place: Place, served: list["Reader"]) -> None:
        self.place = place
        self.slices = 0
        self.refused = False
        self.end = asyncio.Event()
        self._served = served
        self.task = asyncio.create_task(self._run(turns))

    async def _run(self, turns: Turns) -> None:
        try:
            while True:
                async with turns.place(self.place):
                    self.slices += 1
                    self._served.append(self)
                    self.end.clear()
                    await self.end.wait()
        except TurnsFull:
            self.refused = True


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(whole())


def test_one_address_with_500_replays_does_not_starve_another() -> None:
    async def test() -> None:
        turns, served = Turns(4, 1_000), list[Reader]()
        for _ in range(500):
            Reader(turns, who("many"), served)
        await turn()
        one = Reader(turns, who("one"), served)
        await turn()
        assert one.slices == 0
        for _ in range(40):
            served.pop(0).end.set()
            await turn()
        # It waits for one of the others' turns, and then for the three in the pool before its own,
        # although 496 came before it.
        assert one.slices >= 40 // 6
        assert turns.waiting == 497

    run(test)


def test_principals_divide_the_turns_of_their_address_and_do_not_multiply_them() -> None:
    async def test() -> None:
        turns, served = Turns(1, 1_000), list[Reader]()
        for number in range(50):
            Reader(turns, who("many", f"p{number}"), served)
        quiet = Reader(turns, who("shared", "quiet"), served)
        for _ in range(50):
            Reader(turns, who("shared", "loud"), served)
        await turn()
        for _ in range(80):
            served.pop(0).end.set()
            await turn()
        # A half for each address, and of it a half for each principal.
        assert 15 <= quiet.slices <= 25

    run(test)


def test_e19_a_full_queue_takes_from_who_fills_it() -> None:
    async def test() -> None:
        turns, served = Turns(1, 10), list[Reader]()
        greedy = [Reader(turns, who("many"), served) for _ in range(15)]
        await turn()
        assert turns.waiting == 10
        assert sum(reader.refused for reader in greedy) == 4
        others = [Reader(turns, who(f"other{n}"), served) for n in range(4)]
        await turn()
        assert turns.waiting == 10
        assert not any(reader.refused for reader in others)
        assert sum(reader.refused for reader in greedy) == 8
        # The newest gave way: who waited longest keeps its place.
        assert not any(reader.refused for reader in greedy[:7])

    run(test)


def test_who_leaves_while_waiting_takes_no_turn_with_it() -> None:
    async def test() -> None:
        turns, served = Turns(1, 10), list[Reader]()
        readers = [Reader(turns, who("a"), served) for _ in range(5)]
        await turn()
        for reader in readers[1:4]:
            reader.task.cancel()
        readers[0].end.set()
        await turn()
        assert served == [readers[0], readers[4]]
        for reader in readers:
            reader.task.cancel()
        await turn()
        assert turns.waiting == 0
        assert turns._parties == {}
        assert turns._free == 1

    run(test)


@pytest.mark.parametrize("given_first", [True, False])
def test_a_turn_given_in_the_step_in_which_its_client_leaves_is_not_lost(
    *, given_first: bool
) -> None:
    async def test() -> None:
        turns, served = Turns(1, 10), list[Reader]()
        await turns._take(who("holder"))
        leaving = Reader(turns, who("a"), served)
        await turn()
        if given_first:
            turns._give_back()
            leaving.task.cancel()
        else:
            leaving.task.cancel()
            turns._give_back()
        await turn()
        assert leaving.slices == 0
        assert (turns._free, turns.waiting) == (1, 0)

    run(test)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["come", "end", "leave"]))))
def test_turns_are_never_lost_nor_given_twice(steps: list[tuple[int, str]]) -> None:
    async def test() -> None:
        turns, served = Turns(2, 4), list[Reader]()
        readers: dict[int, Reader] = {}
        for number, step in steps:
            if step == "come" and (number not in readers or readers[number].task.done()):
                readers[number] = Reader(turns, who(f"n{number % 3}", f"p{number}"), served)
            elif number in readers and step == "end":
                readers[number].end.set()
            elif number in readers and step == "leave":
                readers[number].task.cancel()
            if number % 2:  # sometimes several of them in one step of the loop
                await turn()
        await turn()
        alive = [r for r in readers.values() if not r.task.done()]
        assert turns.waiting == sum(
            len(q) for p in turns._parties.values() for q in p.queues.values()
        )
        assert turns._free + min(2, len(alive)) == 2
        assert turns.waiting == max(0, len(alive) - 2)

    run(test)
