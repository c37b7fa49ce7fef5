"""A system of the benchmark's own: real components with fsync on, one API process, its relay."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
from psycopg import sql

from shopstream_stack import health
from shopstream_stack.bench.waiting import wait_until
from shopstream_stack.components.postgres import place_of
from shopstream_stack.errors import StackError
from shopstream_stack.ports import LOOPBACK, PortReservations
from shopstream_stack.process import PortUse, ProcessSpec
from shopstream_stack.settings import COMPONENT_VARIABLES, StackSettings
from shopstream_stack.system import System

COMPONENTS: Final = ("kafka", "postgres")
#: As many events as one load may leave behind leave the outbox in this time.
DRAIN_SECONDS_MAX: Final = 180.0


def bench_settings(
    settings: StackSettings,
    ports: PortReservations,
    *,
    quick_java: bool = True,
    quick_kafka: bool = False,
) -> StackSettings:
    """Settings of a system beside the one of ``settings``: other ports, a folder below its own.

    ``quick_java``: a new broker compiles its code well for a minute, on the cores that are
    measured; with it, less well but within seconds. ``quick_kafka``: so is the broker in any case.

    Of the caller's variables only those of the machine and the cache are taken over: a benchmark
    with somebody's pool size or external database would be another benchmark.
    """
    taken = (*COMPONENT_VARIABLES, "SHOPSTREAM_CACHE_DIR")
    machine = {name: settings.environ[name] for name in taken if name in settings.environ}
    names = ("API", "KAFKA", "NOTIFICATIONS", "POSTGRES", "DYNAMODB", "MINIO", "MINIO_CONSOLE")
    return StackSettings.load(
        {
            **machine,
            **{f"SHOPSTREAM_{name}_PORT": str(ports.take()) for name in names},
            "SHOPSTREAM_QUICK_JAVA": "true" if quick_java else "kafka" if quick_kafka else "false",
            # What is measured here has nobody to yield to.
            "SHOPSTREAM_BACKGROUND_NICE": "0",
            # Not a temporary folder: that may be memory, where fsync costs nothing.
            "SHOPSTREAM_DATA_DIR": str(settings.data / "bench"),
        }
    )


@dataclass(slots=True)
class Place:
    """The running components and what works on one of their databases at a time."""

    system: System
    load: Path
    relay_port: int
    database_url: str = ""

    @property
    def address(self) -> str:
        """Host and port of the API."""
        return f"{LOOPBACK}:{self.system.settings.api_port}"

    @property
    def brokers(self) -> str:
        return self.system.settings.addresses["KAFKA_BROKERS"]

    @property
    def folder(self) -> Path:
        """Where files of a run may be put; deleted with all else."""
        return self.system.settings.data

    @property
    def pgbench(self) -> Path:
        """The program that came with the server."""
        return place_of(self.system.settings.data).bin / "pgbench"

    def use(self, database: str) -> None:
        """Make `database`, migrated, the one that the API serves; the relay stands still."""
        self.stop_relay()
        self.system.stop("api")
        parts = urlsplit(self.system.settings.postgres_url)
        with self._connect(urlunsplit(parts)) as connection:
            known = connection.execute("SELECT FROM pg_database WHERE datname = %s", (database,))
            if known.fetchone() is None:
                name = sql.Identifier(database)
                connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        self.database_url = urlunsplit(parts._replace(path=f"/{database}"))
        self.system.overrides["api"] = {
            "DATABASE_URL": self.database_url,
            "KAFKA_TRANSACTIONAL_ID": f"bench-{database}",
            "SHOPSTREAM_RELAY": "off",
        }
        self.system.start("api")

    def start_relay(self) -> None:
        """The relay in a process of its own; returns when it is healthy."""
        self.system.runner.start(self._relay())

    def stop_relay(self) -> None:
        self.system.runner.stop("relay")

    def relay_processor_seconds(self) -> float:
        """What the relay's process, which must run, has used so far."""
        record = self.system.runner.living("relay")
        if record is None:
            raise StackError("The relay has ended by itself")
        times = psutil.Process(record.pid).cpu_times()
        return float(times.user + times.system)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection to the present database, in autocommit."""
        return self._connect(self.database_url)

    def value(self, statement: str, *parameters: object) -> Any:
        """The one value that a statement gives."""
        with self.connect() as connection:
            row = connection.execute(statement.encode(), parameters).fetchone()
        return None if row is None else row[0]

    def about(self) -> Mapping[str, str]:
        """What else must be known of the figures: the database server's version."""
        with self._connect(self.system.settings.postgres_url) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        return {"PostgreSQL": "" if row is None else str(row[0])}

    def settle(self) -> None:
        """Do what earlier loads left to do, so that they do not disturb the next.

        The server would clean up and write out by itself, some minutes long, beside what is
        measured; pgbench cleans its tables before it begins for the same reason.
        """
        with self.connect() as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    def waiting_events(self) -> int:
        """How many events the relay has not published yet."""
        return int(self.value("SELECT count(*) FROM outbox"))

    def drain(self) -> None:
        """Wait until the relay, which must run, has published everything.

        Raises StackError when it does not within DRAIN_SECONDS_MAX.
        """
        wait_until(lambda: self.waiting_events() == 0, "the outbox is empty", DRAIN_SECONDS_MAX)

    def _relay(self) -> ProcessSpec:
        api = self.system.spec("api")
        return replace(
            api,
            name="relay",
            argv=(*api.argv, "relay"),
            environ={**api.environ, "SHOPSTREAM_RELAY_PORT": str(self.relay_port)},
            ports=(PortUse(self.relay_port, "SHOPSTREAM_RELAY_PORT"),),
            check=lambda: health.http_answers(f"http://{LOOPBACK}:{self.relay_port}/health"),
        )

    @staticmethod
    def _connect(url: str) -> psycopg.Connection[Any]:
        return psycopg.connect(url, autocommit=True)


@contextmanager
def running(system: System, ports: PortReservations) -> Iterator[Place]:
    """Start the components on an empty folder; at the end nothing of it is left."""
    _forget(system)  # a run that was killed may have left processes and data
    system.prepare(COMPONENTS)
    load = system.cache.ensure_load(system.reporter)
    system.settings.data.mkdir(parents=True)
    try:
        system.start(*COMPONENTS)
        yield Place(system, load, ports.take())
    finally:
        _forget(system)


def _forget(system: System) -> None:
    system.runner.stop("relay")
    system.stop_all()
    system.forget()
    shutil.rmtree(system.settings.data, ignore_errors=True)  # the whole folder is ours
