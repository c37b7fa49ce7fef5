"""Fan-out, slow clients and what idle clients are sent; no broker, no socket."""

import asyncio
from datetime import UTC, datetime

import pytest
from tests.support.stream import PARTS, History, Replica, settle, simulate

from shopstream_notifications import pulse as pulse_module
from shopstream_notifications import sse
from shopstream_notifications.client import Policy
from shopstream_notifications.filters import Filter
from shopstream_notifications.pulse import Pulse
from shopstream_notifications.wire import chunk
from shopstream_shared.clock import ManualClock
from shopstream_shared.stream_id import StreamPosition

PRODUCTS = PARTS[0]
ORDERS = PARTS[2]


def long_history(events: int = 40) -> History:
    return History({part: [True] * events for part in PARTS})


def pulse(replica: Replica) -> Pulse:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    return Pulse(replica.hub, clock, heartbeat_seconds=15)


def test_a_first_visit_is_opened_with_an_id_before_its_first_event() -> None:
    async def run() -> None:
        replica = Replica(long_history())
        _, socket = await replica.connect()
        opened = socket.named("stream.open")
        assert [event.data for event in opened] == ['{"resumed":false,"replayFrom":null}']
        assert opened[0].id == ""
        assert socket.last_id == replica.hub.log.current_id()  # type: ignore[union-attr]  # started

    simulate(run())


def test_an_idle_client_has_no_task_and_no_queue() -> None:
    async def run() -> None:
        replica = Replica(long_history())
        clients = [(await replica.connect())[0] for _ in range(5)]
        replica.read(PRODUCTS, 3)
        await settle()
        assert [client.task for client in clients] == [None] * 5
        assert len(asyncio.all_tasks()) == 1

    simulate(run())


def test_e04_no_named_event_carries_an_id() -> None:
    async def run() -> None:
        replica = Replica(long_history())
        client, socket = await replica.connect("no id at all")
        replica.read(PRODUCTS, 2)
        assert client.nudge(chunk(sse.heartbeat("2026-01-01T00:00:00.000000Z")))
        pulse(replica).say_goodbye(client)
        blocks = socket.raw.split(b"\n\n")
        named = [block for block in blocks if b"event:" in block]
        assert len(named) == 4
        assert not [block for block in named if block.startswith(b"id:") or b"\nid:" in block]

    simulate(run())


def test_a_record_goes_only_to_clients_whose_filter_matches() -> None:
    async def run() -> None:
        replica = Replica(long_history())
        _, created = await replica.connect(wanted=Filter(types=frozenset({"product.created"})))
        _, subject = await replica.connect(wanted=Filter(subject=f"{ORDERS[0]}-{ORDERS[1]}"))
        _, seller = await replica.connect(wanted=Filter(seller_id="another"))
        replica.read(PRODUCTS, 4)
        replica.read(ORDERS, 2)
        assert created.data == ["shop.products 0 0", "shop.products 0 2", "shop.orders 0 0"]
        assert subject.data == ["shop.orders 0 0", "shop.orders 0 1"]
        assert seller.data == []

    simulate(run())


def test_filtered_out_progress_is_told_by_an_id_without_an_event() -> None:
    async def run() -> None:
        replica = Replica(long_history())
        _, socket = await replica.connect(wanted=Filter(seller_id="another"))
        before = socket.last_id
        replica.read(PRODUCTS, 4)
        assert socket.last_id == before
        await pulse(replica).tell_progress(markers_too=False)
        assert StreamPosition.decode(socket.last_id).next_offset(*PRODUCTS) == 4
        assert socket.data == []
        raw = socket.raw
        await pulse(replica).tell_progress(markers_too=False)
        assert socket.raw == raw, "nothing new, nothing sent"

    simulate(run())


def test_progress_in_slices_never_takes_a_client_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While others are told, events go out; the next slice must not get the id from before them."""
    monkeypatch.setattr(pulse_module, "PROGRESS_SLICE", 1)
    monkeypatch.setattr(pulse_module, "PROGRESS_PAUSE_SECONDS", 0)

    async def run() -> None:
        replica = Replica(long_history())
        wanted = Filter(types=frozenset({"product.created"}))
        sockets = [(await replica.connect(wanted=wanted))[1] for _ in range(3)]
        replica.read(PRODUCTS, 1)
        replica.read(PRODUCTS, 2)  # one that nobody wants: an id is due
        telling = asyncio.create_task(pulse(replica).tell_progress(markers_too=False))
        await asyncio.sleep(0)
        replica.read(PRODUCTS, 3)
        await telling
        positions = [StreamPosition.decode(s.last_id).next_offset(*PRODUCTS) for s in sockets]
        assert positions == [3, 3, 3]
        assert all(s.data == ["shop.products 0 0", "shop.products 0 2"] for s in sockets)

    simulate(run())


def test_e19_a_slow_reader_holds_nobody_and_is_closed_at_its_bound() -> None:
    async def run() -> None:
        replica = Replica(long_history(), client_bytes_max=1_000)
        client, slow = await replica.connect()
        _, quick = await replica.connect()
        slow.block()
        replica.read(PRODUCTS, 2)
        await settle()
        assert quick.data == ["shop.products 0 0", "shop.products 0 1"]
        assert client.task is not None
        replica.read(PRODUCTS, 20)
        await settle()
        assert len(quick.data) == 20
        assert slow.closed
        assert client.number not in replica.hub.clients
        # Its last id is its resume point: nothing is missing, nothing comes twice.
        _, again = await replica.connect(slow.last_id)
        assert slow.data + again.data == quick.data

    simulate(run())


def test_e19_what_a_pass_holds_for_a_full_socket_counts_against_its_bound() -> None:
    async def run() -> None:
        replica = Replica(long_history(), client_bytes_max=1_000)
        client, socket = await replica.connect()
        socket.block()
        replica.read(PRODUCTS, 20)
        assert socket.closed
        assert client.number not in replica.hub.clients
        _, again = await replica.connect(socket.last_id)
        assert len(again.data) == 20

    simulate(run())


def test_a_reader_that_was_slow_for_a_moment_gets_everything_in_order() -> None:
    async def run() -> None:
        replica = Replica(long_history())
        client, socket = await replica.connect()
        socket.block()
        for stop in (1, 3, 7):
            replica.read(PRODUCTS, stop)
            await settle()
        socket.unblock()
        await settle()
        replica.read(PRODUCTS, 9)
        assert socket.data == [f"shop.products 0 {offset}" for offset in range(9)]
        assert client.task is None

    simulate(run())


@pytest.mark.parametrize("policy", ["drop", "latest"])
def test_a_lossy_policy_keeps_the_connection_and_says_what_it_dropped(policy: Policy) -> None:
    async def run() -> None:
        replica = Replica(long_history(), client_bytes_max=500)
        _, socket = await replica.connect(policy=policy)
        socket.block()
        replica.read(PRODUCTS, 1)
        await settle()
        replica.read(PRODUCTS, 20)
        replica.read(ORDERS, 20)
        await settle()
        socket.unblock()
        await settle()
        assert not socket.closed
        lagged = [event.data for event in socket.named("stream.lagged")]
        if policy == "drop":
            dropped = 40 - len(socket.data)
            assert dropped > 0
            assert lagged == [f'{{"dropped":{dropped}}}']
            assert socket.data[-1] == "shop.orders 0 19"
        else:
            # The newest of each (topic, subject); what it supersedes is no loss.
            assert lagged == []
            assert socket.data == ["shop.products 0 0", "shop.products 0 19", "shop.orders 0 19"]

    simulate(run())


def test_a_client_of_another_replica_that_is_ahead_waits_without_doubles() -> None:
    async def run() -> None:
        history = long_history(5)
        ahead, behind = Replica(history), Replica(history)
        _, first = await ahead.connect()
        ahead.read(PRODUCTS, 5)
        _, socket = await behind.connect(first.last_id)
        behind.read(PRODUCTS, 3)
        behind.read(ORDERS, 2)
        await settle()
        assert socket.data == ["shop.orders 0 0", "shop.orders 0 1"]
        position = StreamPosition.decode(socket.last_id)
        assert position.next_offset(*PRODUCTS) == 5, "an id never goes back"
        behind.read_all()
        await settle()
        assert len(first.data + socket.data) == len(set(first.data + socket.data)) == 5 * len(PARTS)

    simulate(run())


@pytest.mark.parametrize("reason", ["malformed_id", "unknown_epoch", "evicted", "future"])
def test_e07_what_cannot_be_resumed_is_a_gap_with_its_reason_and_then_live(reason: str) -> None:
    async def run() -> None:
        history = long_history(5)
        replica = Replica(history, start=history.end())
        assert replica.hub.log is not None
        history.first = dict.fromkeys(PARTS, 3)
        encode = replica.hub.log.encode
        given = {
            "malformed_id": "x",
            "unknown_epoch": StreamPosition(b"other1", ((0,), (0,), (0,))).encode(),
            "evicted": encode(dict.fromkeys(PARTS, 2)),
            "future": encode(dict.fromkeys(PARTS, 6)),
        }[reason]
        _, socket = await replica.connect(given)
        (gap,) = socket.named("stream.gap")
        now = replica.hub.log.current_id()
        told = f'"{given}"' if reason != "malformed_id" else "null"
        assert gap.data == f'{{"reason":"{reason}","from":{told},"to":"{now}"}}'
        names = [event.type for event in socket.events]
        assert names == ["stream.open", "stream.gap"]
        history.records[PRODUCTS].append(History({PRODUCTS: [True] * 6}).records[PRODUCTS][5])
        replica.read_all()
        assert socket.data == ["shop.products 0 5"]

    simulate(run())


def test_goodbyes_are_one_a_client_with_different_reconnect_times() -> None:
    async def run() -> None:
        replica = Replica(long_history())
        sockets = [(await replica.connect())[1] for _ in range(20)]
        await pulse(replica).drain(0)
        retries = {socket.parser.retry_ms for socket in sockets}
        assert all(len(socket.named("stream.goodbye")) == 1 for socket in sockets)
        assert all(socket.closed for socket in sockets)
        assert len(retries) > 10
        assert not replica.hub.clients

    simulate(run())


def test_lost_records_close_every_stream_so_that_each_resumes_by_its_id() -> None:
    async def run() -> None:
        replica = Replica(long_history())
        _, socket = await replica.connect()
        replica.hub.lost()
        assert socket.closed
        assert replica.hub.log is None

    simulate(run())


def test_a_group_goes_with_its_last_client() -> None:
    async def run() -> None:
        replica = Replica(long_history())
        wanted = Filter(seller_id="s1", types=frozenset({"product.created"}))
        clients = [(await replica.connect(wanted=wanted))[0] for _ in range(2)]
        assert len(replica.hub.groups) == 1
        for client in clients:
            replica.hub.leave(client)
        assert len(replica.hub.groups) == 0
        assert not replica.hub.groups._by_seller

    simulate(run())
