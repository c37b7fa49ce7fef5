"""Replays under a filter: what they leave out, what they tell of it, and that they let others on.

Three ways: from memory (hot), from the broker (cold), and with ids of its own for a client that
comes from a replica which is ahead (own).
"""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.stream import PARTS, History, Replica, Socket, settle, simulate

from shopstream_notifications import fields, sse
from shopstream_notifications.filters import Filter, compile_filter
from shopstream_notifications.hub import REPLAY_RECORDS_MAX
from shopstream_notifications.playback import OWN_IDS_RECORDS_MAX
from shopstream_notifications.pulse import Pulse
from shopstream_notifications.records import Part, Record
from shopstream_shared.clock import ManualClock
from shopstream_shared.stream_id import StreamPosition

PRODUCTS, ORDERS = PARTS[0], PARTS[2]
LONG = 5_000
WAYS = ("hot", "cold", "own")


class Shop(History):
    """Events with real data: the stock is the offset."""

    def between(self, part: Part, begin: int, stop: int) -> list[Record]:
        found = super().between(part, begin, stop)
        for entry in found:
            value = {"data": {"stock": entry.offset, "name": f"{part[0]}-{part[1]}"}}
            entry.block = sse.data_block(json.dumps(value).encode())
            entry.seller_id = f"s{entry.offset % 2}"
        return found


def on_data(*asked: str, types: str = "") -> Filter:
    pairs = [entry.partition("=") for entry in asked]
    return compile_filter(types, "", "", [(name, text) for name, _, text in pairs])


def stocks(socket: Socket) -> list[int]:
    return [json.loads(data)["data"]["stock"] for data in socket.data]


def told(socket: Socket, part: Part) -> int:
    """What the client's last id says of a part."""
    return StreamPosition.decode(socket.last_id).next_offset(*part)


async def resumed(way: str, wanted: Filter, events: int = 12) -> tuple[Replica, Socket]:
    """A client that had seen nothing of a shop's events, and has been replayed to."""
    shop = Shop({part: [True] * events for part in PARTS})
    opened = await first_id(shop, ahead=way == "own")
    if way == "own":
        # It has an id of a replica that is ahead in one partition, and comes to one that is not.
        replica = Replica(shop)
        _, socket = await replica.connect(opened, wanted=wanted)
        replica.read_all()
    else:
        replica = Replica(shop, log_bytes_max=0 if way == "cold" else 10**6)
        replica.read_all()
        _, socket = await replica.connect(opened, wanted=wanted)
    await settle()
    return replica, socket


async def first_id(shop: Shop, *, ahead: bool) -> str:
    replica = Replica(shop)
    if ahead:
        replica.read(ORDERS, 2)
    _, socket = await replica.connect()
    return socket.last_id


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (on_data("data.stock=ge.10"), lambda stock: stock >= 10),
        (on_data("data.stock=in.3,5"), lambda stock: stock in (3, 5)),
        (on_data("data.stock=lt.4", types="product.created"), lambda s: s < 4 and s % 2 == 0),
        (Filter(seller_id="s1"), lambda stock: stock % 2 == 1),
    ],
)
def test_e06_a_replay_shows_nothing_that_live_would_not(
    way: str, wanted: Filter, holds: Callable[[int], bool]
) -> None:
    async def run() -> None:
        _, socket = await resumed(way, wanted)
        begin = {ORDERS: 2} if way == "own" else {}
        expected = [s for part in PARTS for s in range(begin.get(part, 0), 12) if holds(s)]
        assert sorted(stocks(socket)) == sorted(expected)

    simulate(run())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("matching", [[], [3]], ids=["nothing matches", "something does"])
def test_e04_a_replay_that_ends_on_what_it_left_out_says_how_far_it_looked(
    way: str, matching: list[int]
) -> None:
    async def run() -> None:
        replica, socket = await resumed(
            way, on_data(f"data.stock=in.99,{','.join(map(str, matching))}".rstrip(","))
        )
        assert stocks(socket) == matching * len(PARTS)
        assert [told(socket, part) for part in PARTS] == [12] * len(PARTS)
        # No event came with it: what resumes there has nothing to look at.
        _, again = await replica.connect(socket.last_id, wanted=on_data("data.stock=ge.0"))
        assert again.data == []

    simulate(run())


def test_e04_a_replay_that_ends_on_an_event_says_no_more() -> None:
    async def run() -> None:
        _, socket = await resumed("hot", on_data("data.stock=ge.0"))
        assert socket.raw.rstrip().rsplit(b"\n\n", 1)[1].count(b"data: ") == 1

    simulate(run())


def test_e04_a_slow_reader_is_told_later_what_it_could_not_be_told() -> None:
    async def run() -> None:
        replica = Replica(Shop({part: [True] * 40 for part in PARTS}))
        pulse = Pulse(
            replica.hub, ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), heartbeat_seconds=15
        )
        _, socket = await replica.connect(wanted=on_data("data.stock=lt.2"))
        socket.block()
        replica.read(PRODUCTS, 2)
        await settle()
        replica.read(PRODUCTS, 30)
        await pulse.tell_progress(markers_too=False)
        socket.unblock()
        await settle()
        assert (stocks(socket), told(socket, PRODUCTS)) == ([0, 1], 2)
        await pulse.tell_progress(markers_too=False)
        assert told(socket, PRODUCTS) == 30
        assert stocks(socket) == [0, 1]

    simulate(run())


class Watched(Filter):
    """Counts the records it has looked at; one that only passes on what it is asked."""

    looked = 0

    def matches(self, record: Record) -> bool:
        Watched.looked += 1
        return super().matches(record)


@pytest.mark.parametrize("way", ["first", "behind", "own"])
def test_a_long_replay_gives_others_their_turn(way: str) -> None:
    """Of records that do not match nothing is sent, so no socket gives way either."""
    wanted = Watched(data=on_data("data.stock=lt.1").data)
    most = 0

    async def others() -> None:
        nonlocal most
        while True:
            before = Watched.looked
            await asyncio.sleep(0)
            most = max(most, Watched.looked - before)

    async def run() -> None:
        shop = Shop({PRODUCTS: [True] * LONG, ORDERS: [True] * 2})
        opened = await first_id(shop, ahead=way == "own")
        replica = Replica(shop, log_bytes_max=10**9)
        if way == "behind":
            _, socket = await replica.connect(wanted=wanted)
            socket.block()
            replica.read(PRODUCTS, 1)
            await settle()
        replica.read(PRODUCTS, LONG)
        beside = asyncio.create_task(others())
        if way == "behind":
            socket.unblock()
        else:
            _, socket = await replica.connect(opened, wanted=wanted)
        await settle()
        assert stocks(socket) == [0]
        beside.cancel()

    Watched.looked = 0
    simulate(run())
    assert Watched.looked >= LONG - 1, "all but the one that was sent live"
    assert 0 < most <= max(REPLAY_RECORDS_MAX, OWN_IDS_RECORDS_MAX)


def test_e17_an_event_is_read_once_for_all_filters_and_encoded_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[bytes] = []

    def counted(block: bytes) -> Any:
        read.append(block)
        return original(block)

    original = fields.read
    monkeypatch.setattr(fields, "read", counted)

    async def run() -> None:
        replica = Replica(Shop({PRODUCTS: [True] * 5}))
        wishes = [
            on_data(f"data.stock=ge.{n}", f"data.name=prefix.{w}") for n in range(5) for w in "sx"
        ]
        sockets = [(await replica.connect(wanted=wanted))[1] for wanted in wishes]
        plain = [await replica.connect(wanted=Filter(subject="none")) for _ in range(3)]
        replica.read_all()
        assert len(read) == 5
        assert replica.hub.log is not None
        blocks = replica.hub.log.read(0, 5)
        assert [id(block) for block in read] == [id(entry.block) for entry in blocks]
        frames = b"".join(entry.id_line + entry.block for entry in blocks)
        assert sockets[0].raw.endswith(frames)
        for number, socket in enumerate(sockets):
            assert stocks(socket) == (list(range(number // 2, 5)) if number % 2 == 0 else [])
        assert [socket.data for _, socket in plain] == [[]] * 3

    simulate(run())


def test_without_filters_on_data_no_event_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(block: bytes) -> Any:
        raise AssertionError(block)

    monkeypatch.setattr(fields, "read", refuse)

    async def run() -> None:
        replica = Replica(Shop({PRODUCTS: [True] * 3}))
        _, socket = await replica.connect(wanted=Filter(seller_id="s1"))
        client, _ = await replica.connect(wanted=on_data("data.stock=ge.0"))
        replica.hub.leave(client)
        # A filter for other types, or in another seller's room, is none of this event's.
        await replica.connect(wanted=on_data("data.total=ge.0"))
        await replica.connect(wanted=Filter(seller_id="s9", data=on_data("data.stock=ge.0").data))
        replica.read_all()
        assert stocks(socket) == [1]
        assert len(replica.hub.groups) == 3

    simulate(run())
