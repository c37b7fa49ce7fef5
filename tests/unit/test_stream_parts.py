"""Small parts of the stream service: application, settings, policies, large passes."""

import pytest
from prometheus_client import CollectorRegistry, Gauge
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send
from tests.support.stream import PARTS, History, Replica, record, settle, simulate

from shopstream_notifications import policies, wire
from shopstream_notifications.client import Policy
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.settings import NotificationsSettings
from shopstream_notifications.wiring import _Application


def test_e11_nothing_stands_between_the_server_and_the_stream() -> None:
    """A middleware would wrap ``send``, once per client and once per event."""
    seen: list[tuple[Receive, Send]] = []

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((receive, send))

    async def rest(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError(scope)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    async def run() -> None:
        scope = {"type": "http", "path": "/events/stream"}
        await _Application(stream, rest)(scope, receive, send)

    simulate(run())
    assert seen == [(receive, send)]


@pytest.mark.parametrize("policy", ["resume", "drop", "latest"])
def test_a_policy_keeps_order_and_counts_what_it_leaves_out(policy: Policy) -> None:
    records = [record(PARTS[i % 2], i, subject=f"s{i % 3}") for i in range(12)]
    kept, dropped = policies.select(policy, records, missed=15, bytes_max=10**6)
    assert [r.offset for r in kept] == sorted(r.offset for r in kept)
    assert dropped == 3, "what had left the log is lost under every policy"
    if policy == "latest":
        newest = {(r.part[0], r.subject): r.offset for r in records}
        assert {(r.part[0], r.subject): r.offset for r in kept} == newest
        assert len(kept) == len(newest)
    else:
        assert kept == records


def test_the_newest_event_is_kept_even_if_it_alone_is_above_the_bound() -> None:
    records = [record(PARTS[0], i) for i in range(5)]
    assert policies.select("drop", records, missed=5, bytes_max=1) == ([records[-1]], 4)


def test_a_client_that_blocks_inside_a_large_pass_gets_the_rest_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "CHUNK_BYTES_MAX", 100)

    async def run() -> None:
        replica = Replica(History({part: [True] * 30 for part in PARTS}))
        _, socket = await replica.connect()
        _, other = await replica.connect()
        socket.block()
        replica.read(PARTS[0], 20)
        replica.read(PARTS[1], 5)
        await settle()
        socket.unblock()
        await settle()
        assert socket.data == other.data
        assert len(socket.data) == 25

    simulate(run())


def test_the_local_stacks_addresses_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "KAFKA_BROKERS", "KAFKA_CLIENT_ID", "SHOPSTREAM_HOST"):
        monkeypatch.delenv(name, raising=False)
    settings = NotificationsSettings.read()
    assert (settings.port, settings.brokers) == (3001, "localhost:9092")
    assert settings.client_id == "notifications-service"
    assert settings.heartbeat_seconds == 15
    assert settings.drain_seconds == 10


@pytest.mark.parametrize("workers", ["0", "65", "two"])
def test_a_number_of_workers_that_makes_no_sense_is_refused_by_name(
    workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_NOTIFICATIONS_WORKERS", workers)
    with pytest.raises(ValidationError, match="SHOPSTREAM_NOTIFICATIONS_WORKERS"):
        NotificationsSettings.read()


def test_every_gauge_says_how_the_living_workers_are_put_together() -> None:
    """Another mode would show the dead, or one line a process."""
    gauges = [m for m in vars(Metrics(CollectorRegistry())).values() if isinstance(m, Gauge)]
    assert gauges
    modes = {gauge._name: gauge._multiprocess_mode for gauge in gauges}
    assert {name for name, mode in modes.items() if not mode.startswith("live")} == set()
    assert {name for name, mode in modes.items() if mode == "liveall"} == set()


def test_origins_are_a_comma_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_CORS_ORIGINS", "http://a.example, http://b.example,")
    assert NotificationsSettings.read().cors_origins == ("http://a.example", "http://b.example")
