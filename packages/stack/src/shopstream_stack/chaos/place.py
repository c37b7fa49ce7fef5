"""The system that chaos is made in: every component and service, two API processes, a standby.

``api`` (with the relay in it) and ``relay`` (alone) reach PostgreSQL and Kafka through links of
their own; ``api-2`` has no relay and reaches both directly, as does everything else.
"""

import contextlib
import shutil
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg

from shopstream_stack import health
from shopstream_stack.chaos import clock, memory
from shopstream_stack.chaos.conversation import KafkaConversation, PostgresConversation
from shopstream_stack.chaos.deaths import NOTHING_MEANT, Meant, deaths
from shopstream_stack.chaos.link import Link
from shopstream_stack.components.kafka import Door, kafka
from shopstream_stack.errors import StackError
from shopstream_stack.ports import LOOPBACK, PortReservations
from shopstream_stack.process import PortUse, ProcessSpec
from shopstream_stack.settings import COMPONENT_VARIABLES, StackSettings
from shopstream_stack.system import System, side_by_side

COMPONENTS: Final = ("kafka", "postgres", "dynamodb", "minio")
#: In two steps: all at once share two cores so long that analytics takes its workers for dead.
STEPS: Final = (COMPONENTS, ("api", "notifications", "analytics"), ("api-2", "relay"))
SERVICES: Final = (*STEPS[1], *STEPS[2])
APIS: Final = ("api", "api-2")
#: Whom the faults concern: healthy before the next one comes.
HIT: Final = (*APIS, "relay")
RELAYS: Final = ("api", "relay")
#: Whose clock can be moved: all that decides by the hour, and gives events theirs.
TIMED: Final = (*APIS, "relay")
#: What analytics fills, each over a link, and the variable that says where it is.
SINKS: Final = {"dynamodb": "DYNAMO_ENDPOINT", "minio": "MINIO_ENDPOINT"}
#: A second analytics service, which shares the first one's partitions while it lives.
SECOND_ANALYTICS: Final = "analytics-2"
#: Several, so that one can die while its clients resume at another.
STREAM_WORKERS: Final = 2
_STREAM_WORKER: Final = "shopstream_notifications.worker"
#: What needs a port of its own here.
OWN_PORTS: Final = (
    *("api-2", "relay", SECOND_ANALYTICS),
    *(f"{name}-{part}" for name in RELAYS for part in ("postgres", "kafka", "door")),
    *(f"analytics-{sink}" for sink in SINKS),
)
#: Of the caller's variables these are taken over; with others it would be another system.
_TAKEN: Final = (
    *COMPONENT_VARIABLES,
    "SHOPSTREAM_CACHE_DIR",
    "SHOPSTREAM_POSTGRES_FSYNC",
    "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS",
    "SHOPSTREAM_BACKGROUND_NICE",
)
#: What the local stack needs a port for, as its variables say it.
STACK_PORTS: Final = (
    *("API", "NOTIFICATIONS", "ANALYTICS", "WEB", "KAFKA", "POSTGRES", "DYNAMODB"),
    *("DYNAMODB_ADMIN", "MINIO", "MINIO_CONSOLE"),
)
#: Short enough that orders expire while faults come.
RESERVATION_SECONDS: Final = 20
#: Of a file of the archive, unless the caller sets it: an archive is back when it has stored one.
ROTATE_SECONDS: Final = "3"
CONNECT_SECONDS_MAX: Final = 2


def chaos_settings(settings: StackSettings, ports: PortReservations) -> StackSettings:
    """Settings of a system beside the one of ``settings``: other ports, a folder below its own."""
    return StackSettings.load(
        {
            **{f"SHOPSTREAM_{name}_PORT": str(ports.take()) for name in STACK_PORTS},
            "SHOPSTREAM_QUICK_JAVA": "true",
            "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS": ROTATE_SECONDS,
            **{name: settings.environ[name] for name in _TAKEN if name in settings.environ},
            "SHOPSTREAM_RESERVATION_SECONDS": str(RESERVATION_SECONDS),
            "SHOPSTREAM_DRAIN_SECONDS": "2",
            "SHOPSTREAM_NOTIFICATIONS_WORKERS": str(STREAM_WORKERS),
            "SHOPSTREAM_DATA_DIR": str(settings.data / "chaos" / "system"),
        }
    )


@dataclass(slots=True)
class Place:
    """The running system. Methods that start, stop or ask block; call them off the loop."""

    system: System
    ports: Mapping[str, int]
    #: By process and server: ``api-kafka``, ``relay-postgres``, ``analytics-minio``.
    links: Mapping[str, Link] = field(init=False)

    def __post_init__(self) -> None:
        # For whoever starts it: an operator's command starts it again, too.
        self.system.overrides["analytics"] = self._sinks()
        self.links = {
            **{
                f"{name}-postgres": Link(
                    self.ports[f"{name}-postgres"],
                    self.system.settings.postgres_port,
                    PostgresConversation,
                )
                for name in RELAYS
            },
            **{
                f"{name}-kafka": Link(
                    self.ports[f"{name}-kafka"], self.ports[f"{name}-door"], KafkaConversation
                )
                for name in RELAYS
            },
            **{
                f"analytics-{sink}": Link(
                    self.ports[f"analytics-{sink}"], getattr(self.system.settings, f"{sink}_port")
                )
                for sink in SINKS
            },
        }

    def url(self, name: str) -> str:
        """Base address of a service."""
        if name in {"api-2", "relay", SECOND_ANALYTICS}:
            return f"http://{LOOPBACK}:{self.ports[name]}"
        return self.system.service_urls()[name]

    @property
    def brokers(self) -> str:
        """The broker, past all links."""
        return self.system.settings.addresses["KAFKA_BROKERS"]

    def spec(self, name: str) -> ProcessSpec:
        """How to start ``name``."""
        if name == "kafka":
            return kafka(self.system.settings, self.system.cache, self._doors())
        if name in TIMED:
            return self._timed(self._of_the_api(name))
        if name == SECOND_ANALYTICS:
            own = {"SHOPSTREAM_ANALYTICS_INSTANCE": name}
            return self._second("analytics", name, "HEALTH_PORT", own)
        return self.system.spec(name)

    def start(self, name: str) -> None:
        """Start it unless it runs; returns when it is healthy. Raises StartFailedError."""
        self.system.runner.start(self.spec(name))

    def spawn(self, name: str) -> None:
        """Start it without waiting."""
        self.system.runner.spawn(self.spec(name))

    def stop(self, name: str) -> None:
        """End it as an operator would; returns when it is gone."""
        # PostgreSQL waits for its clients on SIGTERM; SIGINT is its fast shutdown.
        how = signal.SIGINT if name == "postgres" else signal.SIGTERM
        self.system.runner.stop(name, how=how, seconds_max=self.system.stop_seconds_max(name))

    def signal(self, name: str, number: signal.Signals) -> None:
        """Raises StackError when it is dead."""
        self.system.runner.send_signal(name, number)

    def runs(self, name: str) -> bool:
        return self.system.runner.living(name) is not None

    def log_path(self, name: str) -> Path:
        return self.system.runner.log_path(name)

    def worker(self, name: str) -> int:
        """The pid of a worker of analytics. Raises StackError when there is none now."""
        record = self.system.runner.living("analytics")
        if record is not None:
            for child in psutil.Process(record.pid).children():
                with contextlib.suppress(psutil.Error):
                    if name in child.cmdline():
                        return int(child.pid)
        raise StackError(f"analytics has no worker {name}")

    def stream_workers(self) -> Mapping[int, Collection[int]]:
        """By pid of a worker of the stream service, the clients' ends of its connections, by port.

        Raises psutil.Error when one ends meanwhile, StackError when there is none.
        """
        record = self.system.runner.living("notifications")
        children = psutil.Process(record.pid).children() if record is not None else []
        port = self.system.settings.notifications_port
        found = {
            int(child.pid): callers(child, port)
            for child in children
            if _STREAM_WORKER in child.cmdline()
        }
        if not found:
            raise StackError("notifications has no worker")
        return found

    def ended_workers(self, meant: Meant = NOTHING_MEANT) -> list[str]:
        """Of all parents, the workers that ended by themselves, but for what was meant."""
        logs = sorted(self.log_path("any").parent.glob("*.log"))
        return [str(one) for one in deaths(logs) if not meant.covers(one)]

    def move_clock(self, name: str, seconds: float) -> None:
        """How far ahead the clock of a process of the API's program is from now on."""
        clock.move(self._clock(name), seconds)

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        """A connection past all links. Raises psycopg.Error."""
        return psycopg.connect(
            self.system.settings.postgres_url, autocommit=True, connect_timeout=CONNECT_SECONDS_MAX
        )

    def _of_the_api(self, name: str) -> ProcessSpec:
        if name == "api-2":
            return self._second("api", name, "PORT", {"SHOPSTREAM_RELAY": "off"})
        if name == "relay":
            relay = self._second("api", name, "SHOPSTREAM_RELAY_PORT", {})
            return self._linked(replace(relay, argv=(*relay.argv, "relay")), name)
        return self._linked(self.system.spec(name), name)

    def _second(self, first: str, name: str, variable: str, own: Mapping[str, str]) -> ProcessSpec:
        """Another process of a service's program, at a port of its own."""
        spec, port = self.system.spec(first), self.ports[name]
        return replace(
            spec,
            name=name,
            environ={**spec.environ, variable: str(port), **own},
            ports=(PortUse(port, variable),),
            check=lambda: health.http_answers(f"{self.url(name)}/health"),
        )

    def _linked(self, spec: ProcessSpec, name: str) -> ProcessSpec:
        parts = urlsplit(self.system.settings.postgres_url)
        login = parts.netloc.rpartition("@")[0]
        database = parts._replace(netloc=f"{login}@{LOOPBACK}:{self.ports[f'{name}-postgres']}")
        own = {
            "DATABASE_URL": urlunsplit(database),
            "KAFKA_BROKERS": f"{LOOPBACK}:{self.ports[f'{name}-kafka']}",
        }
        return replace(spec, environ={**spec.environ, **own})

    def _timed(self, spec: ProcessSpec) -> ProcessSpec:
        """Under a clock that can be moved."""
        file = self._clock(spec.name)
        return replace(
            spec, argv=clock.under(file, spec.argv), prepare=lambda: clock.move(file, 0.0)
        )

    def _clock(self, name: str) -> Path:
        return self.system.settings.data / "clocks" / name

    def _sinks(self) -> Mapping[str, str]:
        return {
            variable: f"http://{LOOPBACK}:{self.ports[f'analytics-{sink}']}"
            for sink, variable in SINKS.items()
        }

    def _doors(self) -> list[Door]:
        return [
            Door(name.upper(), self.ports[f"{name}-door"], self.ports[f"{name}-kafka"])
            for name in RELAYS
        ]


def callers(process: psutil.Process, port: int) -> set[int]:
    """The other ends' ports of the connections that a process has at this port of its own."""
    return {
        one.raddr.port
        for one in process.net_connections("tcp")
        if one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port
    }


@contextmanager
def running(system: System, ports: PortReservations) -> Iterator[Place]:
    """The place on an empty folder, nothing started yet; at the end nothing of it is left."""
    place = Place(system, {name: ports.take() for name in OWN_PORTS})
    _forget(place)  # a run that was killed may have left processes and data
    system.prepare(COMPONENTS)
    system.settings.data.mkdir(parents=True)
    memory.put(system.settings.data / "dynamodb")
    try:
        yield place
    finally:
        with _undisturbed():
            _forget(place)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not leave half of it running."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _forget(place: Place) -> None:
    # Whatever was started, workers by hand too: with its pid file nobody would find it again.
    names = place.system.runner.names()
    for name in names:
        with contextlib.suppress(StackError):
            # One that stands still would hear no SIGTERM.
            place.signal(name, signal.SIGCONT)
    side_by_side([partial(place.stop, name) for name in names if name not in COMPONENTS])
    place.system.stop_all()
    memory.drop(place.system.settings.data / "dynamodb")
    place.system.forget()
    shutil.rmtree(place.system.settings.data, ignore_errors=True)  # the whole folder is ours
