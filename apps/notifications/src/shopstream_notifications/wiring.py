"""Puts the service together: every part gets what it needs, in one place."""

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shopstream_notifications.admin import Admin
from shopstream_notifications.broker import Broker
from shopstream_notifications.caller import Callers
from shopstream_notifications.canary import Canary, WatchedSink
from shopstream_notifications.consumer import Sink, StreamConsumer
from shopstream_notifications.descriptors import sockets_max
from shopstream_notifications.gate import Gate
from shopstream_notifications.hub import Hub
from shopstream_notifications.limits import Limits
from shopstream_notifications.metrics import Metrics
from shopstream_notifications.peers import Peers
from shopstream_notifications.playback import Playback
from shopstream_notifications.protocol import StreamProtocol, counted_by
from shopstream_notifications.pulse import Pulse
from shopstream_notifications.records import Offsets, Part
from shopstream_notifications.refusal import Refusals
from shopstream_notifications.replay import ColdReplays
from shopstream_notifications.roster import Roster
from shopstream_notifications.routes import PATH, StreamEndpoint, problem
from shopstream_notifications.sampler import Sampler
from shopstream_notifications.settings import NotificationsSettings
from shopstream_notifications.source import Source, SourceState
from shopstream_notifications.standing import Standing
from shopstream_notifications.watcher import Watcher
from shopstream_shared.clock import Clock, SystemClock, Uuid7Source
from shopstream_shared.health import Check, Health, Unhealthy
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.web import operations_routes

Runner = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Resources:
    """What main runs: the application and its protocol, side tasks by name, what starts the drain.

    ``give_up`` ends what still waits for the broker, before the tasks are ended. ``health`` is
    this process's own, ``streams`` how many are open in it.
    """

    app: ASGIApp
    protocol: type[StreamProtocol]
    tasks: dict[str, Runner]
    drain: Runner
    give_up: Callable[[], None]
    health: Health
    streams: Callable[[], int]


@asynccontextmanager
async def wire(
    settings: NotificationsSettings, standing: Standing | None = None
) -> AsyncIterator[Resources]:
    """Build all parts; on leaving, close what they hold. Nothing connects before the tasks run."""
    standing = standing or Standing()
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    clock = SystemClock()
    source = Source()
    connection = KafkaConnection(settings.brokers, settings.client_id)
    broker = Broker(connection)
    hub = Hub(
        metrics,
        clock,
        log_bytes_max=settings.log_bytes_max,
        log_seconds_max=settings.log_seconds_max,
        client_bytes_max=settings.client_bytes_max,
    )
    canary = Canary(connection, broker, metrics, seconds=settings.canary_seconds)
    sink: Sink = WatchedSink(hub, canary) if settings.canary_seconds else hub
    consumer = StreamConsumer(
        connection, broker, source, sink, may_commit=standing.commit_turn.is_ours
    )

    def follow(parts: tuple[Part, ...]) -> None:
        """Read and count partitions that were added to a topic (protocol rule 14)."""
        if hub.log is not None and (new := tuple(p for p in parts if p not in hub.log.position)):
            hub.log.add_parts(new)
            consumer.add_parts(new)

    def position() -> tuple[bytes, Offsets] | None:
        return None if hub.log is None else (hub.log.epoch, hub.log.position)

    refusals = Refusals(metrics)
    limits = Limits(
        refusals,
        sockets_max=sockets_max(settings.clients_max),
        per_address=settings.clients_per_address,
        per_principal=settings.clients_per_principal,
    )
    protocol = counted_by(limits, dead_seconds=settings.dead_seconds)
    replays = ColdReplays(connection, waiting_max=settings.replays_max)
    watcher = Watcher(
        broker,
        source,
        metrics,
        position=position,
        on_new_parts=follow,
        on_stall=consumer.read_anew,
    )
    sampler = Sampler(hub, limits, replays.turns, end_late=protocol.end_late)
    pulse = Pulse(hub, clock, heartbeat_seconds=settings.heartbeat_seconds)
    playback = Playback(hub, broker, replays, on_new_parts=follow)
    endpoint = StreamEndpoint(
        hub,
        playback,
        pulse,
        Uuid7Source(),
        gate=Gate(limits, Callers(settings.trusted_proxies), refusals),
        cors_origins=settings.cors_origins,
    )
    checks = {
        "kafka": Check(_kafka(source)),
        "drain": Check(_drain(hub, standing.is_relieved)),
        # A report for operators: what it depends on decides by itself whether to send us clients.
        **({"canary": Check(canary.probe, for_ready=False)} if settings.canary_seconds else {}),
    }
    health = Health(checks, clock)

    peers = Peers(Roster(hub, pulse, os.getpid()), standing.folder)

    async def drain() -> None:
        hub.draining = True
        await pulse.drain(min(settings.drain_seconds, standing.drain_seconds_max()))

    try:
        yield Resources(
            app=_Application(
                endpoint,
                _operations(
                    _of_all(standing, checks, clock),
                    standing.metrics or registry,
                    _admin(settings, peers),
                ),
            ),
            protocol=protocol,
            tasks={
                "stream-hub": hub.run,
                "stream-consumer": consumer.run,
                "stream-watcher": watcher.run,
                "stream-heartbeats": pulse.run_heartbeats,
                "stream-progress": pulse.run_progress,
                "stream-sampler": sampler.run,
                "stream-peers": peers.run,
                **(
                    {"stream-canary": partial(canary.run, consumer.read_beside)}
                    if settings.canary_seconds
                    else {}
                ),
            },
            drain=drain,
            give_up=broker.close,
            health=health,
            streams=lambda: len(hub.clients),
        )
    finally:
        broker.close()
        await replays.close()


class _Application:
    """The stream stands outside Starlette, whose layers would wrap every ``send`` of a client."""

    def __init__(self, stream: ASGIApp, rest: ASGIApp) -> None:
        self._stream = stream
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_stream = scope["type"] == "http" and scope["path"] == PATH
        await (self._stream if is_stream else self._rest)(scope, receive, send)


def _of_all(standing: Standing, checks: dict[str, Check], clock: Clock) -> Health:
    """What the health page shows: this process, and the others if there are any."""
    if standing.others is None:
        return Health(checks, clock)
    # This process does its work without the others: a balancer may send it some.
    return Health({**checks, "workers": Check(standing.others, for_ready=False)}, clock)


def _admin(settings: NotificationsSettings, peers: Peers) -> list[Route]:
    """None without a token: there is nothing that could guard them."""
    if settings.admin_token is None:
        return []
    return Admin(peers, settings.admin_token, Uuid7Source()).routes()


def _operations(health: Health, registry: CollectorRegistry, admin: Sequence[Route]) -> Starlette:
    ids = Uuid7Source()

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        body, headers = problem(
            status,
            detail="see /events/stream, /health and /metrics",
            instance=request.url.path,
            request_id=ids.new_id(),
        )
        named = {name.decode(): value.decode() for name, value in headers}
        if isinstance(error, HTTPException) and error.headers:
            named |= {name.lower(): value for name, value in error.headers.items()}
        return Response(body, status, named)

    return Starlette(
        routes=[*operations_routes(health, registry), *admin],
        exception_handlers={404: refused, 405: refused},
    )


def _kafka(source: Source) -> Callable[[], Coroutine[Any, Any, str]]:
    async def probe() -> str:
        if source.state is not SourceState.RUNNING:
            raise Unhealthy(source.reason or source.state.value)
        return f"lag {sum(source.lag.values())}"

    return probe


def _drain(hub: Hub, is_relieved: Callable[[], bool]) -> Callable[[], Coroutine[Any, Any, str]]:
    async def probe() -> str:
        if hub.draining and not is_relieved():
            raise Unhealthy("draining")
        return f"{len(hub.clients)} streams"

    return probe
