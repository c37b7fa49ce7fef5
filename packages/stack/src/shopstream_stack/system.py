"""One whole system: its components and services, started, found and stopped by name."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from shopstream_stack import tools
from shopstream_stack.cache import Cache
from shopstream_stack.components.dynamodb import dynamodb, dynamodb_admin
from shopstream_stack.components.kafka import kafka
from shopstream_stack.components.minio import minio
from shopstream_stack.components.postgres import POSTGRES_NOTE, forget, postgres
from shopstream_stack.console import Reporter, Silent
from shopstream_stack.errors import PortBusyError, StackError
from shopstream_stack.ports import LOOPBACK, holder_of, is_free
from shopstream_stack.process import ProcessSpec, Runner
from shopstream_stack.services import service
from shopstream_stack.settings import SERVICES, StackSettings

T = TypeVar("T")

COMPONENTS: Final = ("kafka", "postgres", "dynamodb", "dynamodb-admin", "minio")
# What the data folder holds: process records, logs, the demo's journals, the components' data.
DATA: Final = (
    "run",
    "logs",
    "journal",
    "verify",
    "kafka",
    "postgres",
    POSTGRES_NOTE,
    "dynamodb",
    "minio",
    "rebuild",
    "bench-figures",
)
# A service promises to end within 10 s of SIGTERM; the stream service drains for longer.
STOP_SECONDS_MAX: Final = 20.0
DRAIN_GRACE_SECONDS: Final = 10.0
# Services before what they use.
STOP_ORDER: Final = (
    ("web", "notifications", "analytics", "api"),
    ("dynamodb-admin",),
    ("kafka", "postgres", "dynamodb", "minio"),
)


@dataclass(slots=True)
class System:
    """The components and services of one data folder."""

    settings: StackSettings
    reporter: Reporter = field(default_factory=Silent)
    # Variables of single processes on top of their own, by name.
    overrides: dict[str, Mapping[str, str]] = field(default_factory=dict)
    runner: Runner = field(init=False)
    cache: Cache = field(init=False)

    def __post_init__(self) -> None:
        self.runner = Runner(self.settings.data)
        self.cache = Cache(self.settings.cache, self.settings.environ)

    def names(self) -> list[str]:
        """What belongs to this system, external components left out, in order of start."""
        return [*self.local_components(), *SERVICES]

    def require_up(self, *components: str) -> None:
        """Raise StackError, at once, when a local component is not there.

        What somebody else runs on its port, as compose does, will do.
        """
        dead = [
            name
            for name in self.local_components()
            if name in components
            and self.runner.living(name) is None
            and is_free(getattr(self.settings, f"{name}_port"))
        ]
        if dead:
            raise StackError(f"{', '.join(dead)} not running: start the system with `make up`")

    def local_components(self) -> list[str]:
        """The components this stack runs itself."""
        local = {
            "kafka": self.settings.kafka_is_local,
            "postgres": self.settings.postgres_is_local,
            "dynamodb": self.settings.dynamodb_is_local,
            "dynamodb-admin": self.settings.dynamodb_is_local,
            "minio": self.settings.minio_is_local,
        }
        return [name for name in COMPONENTS if local[name]]

    def spec(self, name: str) -> ProcessSpec:
        """How to start `name`; raises StackError for an unknown one or a missing tool."""
        makers: dict[str, Callable[[], ProcessSpec]] = {
            "kafka": lambda: kafka(self.settings, self.cache),
            "postgres": lambda: postgres(self.settings),
            "dynamodb": lambda: dynamodb(self.settings, self.cache),
            "dynamodb-admin": lambda: dynamodb_admin(self.settings, self.cache),
            "minio": lambda: minio(self.settings, self.cache),
        }
        for known in SERVICES:
            makers[known] = partial(service, self.settings, known)
        if name not in makers:
            raise StackError(f"{name} is none of {', '.join(makers)}")
        spec = makers[name]()
        own = self.overrides.get(name)
        return spec if own is None else replace(spec, environ={**spec.environ, **own})

    def service_urls(self) -> dict[str, str]:
        """Base addresses of the services by name."""
        return {name: f"http://{LOOPBACK}:{self.settings.port_of(name)}" for name in SERVICES}

    def links(self) -> dict[str, str]:
        """What a person may want to open in a browser."""
        settings = self.settings
        ports = {
            "Web page": f"{settings.web_port}",
            "API": f"{settings.api_port}/docs",
            "Event stream": f"{settings.notifications_port}/events/stream",
            "Analytics": f"{settings.analytics_port}/aggregates/event-types",
        }
        if settings.dynamodb_is_local:
            ports["DynamoDB tables"] = f"{settings.dynamodb_admin_port}"
        if settings.minio_is_local:
            ports["MinIO console"] = f"{settings.minio_console_port}"
        return {title: f"http://localhost:{place}" for title, place in ports.items()}

    def prepare(self, names: Iterable[str] | None = None) -> None:
        """Fetch or build the binaries of `names` (all local ones when None), side by side.

        Raises StackError that names every tool that is missing.
        """
        wanted = list(self.local_components() if names is None else names)
        builders: Mapping[str, Callable[[], object]] = {
            "minio": partial(self.cache.ensure_minio, self.reporter),
            "kafka": partial(self.cache.ensure_jars, "kafka", "Kafka", self.reporter),
            "dynamodb": partial(
                self.cache.ensure_jars, "dynamodb", "DynamoDB Local", self.reporter
            ),
            "dynamodb-admin": partial(self.cache.ensure_admin_page, self.reporter),
        }
        tools.require(self.tools_of(wanted))
        side_by_side([builders[name] for name in builders if name in wanted])

    def require_own(self, name: str) -> None:
        """Raise StackError unless `name` is a part that this stack starts."""
        if name not in self.names():
            known = name in COMPONENTS
            reason = "is external: its variable points elsewhere" if known else "is unknown"
            raise StackError(f"{name} {reason}; the parts are {', '.join(self.names())}")

    def require_free_ports(self, *names: str) -> None:
        """Raise StackError that names every port of a stopped process that another holds."""
        busy = [
            str(PortBusyError(name, port.number, port.variable, holder_of(port.number)))
            for name in names
            if self.runner.living(name) is None
            for port in self._spawnable(name).ports
            if not is_free(port.number)
        ]
        if busy:
            raise StackError("\n".join(busy))

    def start(self, *names: str) -> None:
        """Start `names` side by side, each unless it runs; return when all are healthy."""
        side_by_side([partial(self._start, self.spec(name)) for name in names])

    def _spawnable(self, name: str) -> ProcessSpec:
        """The spec of a dead process, with what its last run left behind ended."""
        self.runner.clear(name)
        return self.spec(name)

    def stop(self, *names: str) -> list[str]:
        """Stop `names` side by side; the names of those that ran."""
        stopped = side_by_side([partial(self._stop, name) for name in names])
        return [name for name, ran in zip(names, stopped, strict=True) if ran]

    def stop_all(self) -> list[str]:
        """Stop everything that has a pid file, services first; the names of those that ran."""
        known = set(self.runner.names())
        return [
            name
            for step in STOP_ORDER
            for name in self.stop(*(name for name in step if name in known))
        ]

    def kill(self, name: str) -> None:
        """SIGKILL the process of `name`, as a crash would."""
        self.runner.kill(name)

    def forget(self) -> None:
        """Delete all data; everything must be stopped.

        Only what this stack made: SHOPSTREAM_DATA_DIR may name a folder with other things in it.
        Raises StackError when something could not be deleted.
        """
        data = self.settings.data
        forget(data)
        for name in DATA:
            found = data / name
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)
        left = [name for name in DATA if (data / name).exists()]
        if left:
            raise StackError(f"Not all data could be deleted: {', '.join(left)} in {data}")
        with suppress(OSError):
            data.rmdir()  # unless it holds something else

    def _start(self, spec: ProcessSpec) -> bool:
        if self.runner.living(spec.name) is not None:
            return self.runner.start(spec)  # waits until it is healthy, mostly at once
        with self.reporter.step(f"Starting {spec.name}"):
            return self.runner.start(spec)

    def _stop(self, name: str) -> bool:
        if self.runner.living(name) is None:
            return self.runner.stop(name)
        with self.reporter.step(f"Stopping {name}"):
            # Clients keep PostgreSQL's smart shutdown (SIGTERM) waiting; SIGINT is the fast one.
            how = signal.SIGINT if name == "postgres" else signal.SIGTERM
            return self.runner.stop(name, how=how, seconds_max=self.stop_seconds_max(name))

    def stop_seconds_max(self, name: str) -> float:
        """How long `name` may take to end before it is killed."""
        if name == "notifications":
            return max(STOP_SECONDS_MAX, self.settings.drain_seconds + DRAIN_GRACE_SECONDS)
        return STOP_SECONDS_MAX

    def tools_of(self, names: Iterable[str] | None = None) -> list[tools.Tool]:
        """The tools that running, and where still to be done building, `names` takes."""
        names = set(self.local_components() if names is None else names)
        needed: list[tools.Tool] = []
        for name, profile in (("kafka", "kafka"), ("dynamodb", "dynamodb")):
            if name in names:
                needed.append(tools.JAVA)
                if not self.cache.jars(profile).exists():
                    needed.append(tools.MAVEN)
        if "minio" in names and not self.cache.minio.exists():
            needed.append(tools.GO)
        if "dynamodb-admin" in names:
            needed.append(tools.NODE)
            if not self.cache.admin_page.exists():
                needed.append(tools.NPM)
        return list(dict.fromkeys(needed))


def side_by_side(tasks: list[Callable[[], T]]) -> list[T]:
    """Run all tasks at once, let all end, then raise the first error in order, if any."""
    if not tasks:
        return []
    with ThreadPoolExecutor(max_workers=len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
    return [future.result() for future in futures]
