"""The four real components on free ports, in a data folder of their own.

Ask for the fixture `components`. Reading `kafka_brokers`, `database_url`, `dynamo_endpoint` or
`minio_endpoint` starts that component if this run has not started it yet; `environ` starts all
four. `stop`, `kill` and `start` take the names kafka, postgres, dynamodb, minio; after the test
whatever it stopped is started again.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from shopstream_stack.cache import locked
from shopstream_stack.ports import PortReservations
from shopstream_stack.process import started_mark
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System

FOLDER_PREFIX = "shopstream-test-"
#: Longer than any run.
VACUUM_PAUSE_SECONDS = 86_400
COMPONENTS = ("kafka", "postgres", "dynamodb", "minio")
# What a process needs from the machine; nothing else leaks from the caller's shell into a test.
MACHINE_VARIABLES = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "JAVA_HOME", "SHOPSTREAM_CACHE_DIR")


def free_ports(reservations: PortReservations) -> dict[str, str]:
    """Every port variable of the stack, each with a free port."""
    names = "API NOTIFICATIONS ANALYTICS WEB KAFKA POSTGRES DYNAMODB DYNAMODB_ADMIN MINIO"
    ports = {f"SHOPSTREAM_{name}_PORT": str(reservations.take()) for name in names.split()}
    return {**ports, "SHOPSTREAM_MINIO_CONSOLE_PORT": str(reservations.take())}


def machine_environ() -> dict[str, str]:
    """The few variables of the machine that a test's processes get.

    And that none yields to another: tests wait for the stores of analytics as for any other, beside
    tests that need the processor, too.
    """
    given = {name: os.environ[name] for name in MACHINE_VARIABLES if name in os.environ}  # noqa: TID251 - the machine's
    return {**given, "SHOPSTREAM_BACKGROUND_NICE": "0"}


def end_dead_runs() -> None:
    """Stop what runs that were killed before their clean-up have left, and delete their data."""
    # The workers of one run begin together: what is left is for one of them.
    with locked(Path(tempfile.gettempdir()) / f"shopstream-tests-{os.getuid()}.lock"):
        _end_dead_runs()


def _end_dead_runs() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        try:
            pid, _, mark = (folder / "owner").read_text().partition(" ")
        except OSError:
            continue  # still being made, or another user's
        if not mark or started_mark(int(pid)) == mark:
            continue
        left = System(StackSettings.load({"SHOPSTREAM_DATA_DIR": str(folder / "data")}))
        left.stop_all()
        left.forget()
        shutil.rmtree(folder, ignore_errors=True)


class LocalComponents:
    """Kafka, PostgreSQL, DynamoDB Local and MinIO of one test run."""

    def __init__(self) -> None:
        self._ports = PortReservations()
        end_dead_runs()
        self._folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        (self._folder / "owner").write_text(f"{os.getpid()} {started_mark(os.getpid())}")
        self.settings = StackSettings.load(
            {
                **machine_environ(),
                **free_ports(self._ports),
                "SHOPSTREAM_DATA_DIR": str(self._folder / "data"),
                # A killed process needs no disk flush; only a dead machine would.
                "SHOPSTREAM_POSTGRES_FSYNC": "false",
                "SHOPSTREAM_QUICK_JAVA": "true",
                # The whole archive is waited for at the end of each test of the system.
                "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS": "1",
                # A few streams need no ten seconds to be sent elsewhere one after the other.
                "SHOPSTREAM_DRAIN_SECONDS": "2",
            }
        )
        self.system = System(self.settings)
        self._wanted: set[str] = set()
        #: Name of a database that others are copied from; see `tests.support.app`.
        self.template: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Their data are deleted next: they need not put them in order, a file for each partition
        # and the pages of some hundred databases. SIGQUIT is PostgreSQL's immediate shutdown.
        self.system.kill("kafka")
        if self.system.runner.living("postgres"):
            self.system.runner.send_signal("postgres", signal.SIGQUIT)
        self.system.stop_all()
        self.system.forget()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._ports.close()

    @property
    def addresses(self) -> dict[str, str]:
        """Where the components are; starts none of them."""
        return self.settings.addresses

    @property
    def kafka_brokers(self) -> str:
        """Host and port of the started broker."""
        return self._started("kafka", "KAFKA_BROKERS")

    @property
    def database_url(self) -> str:
        """URL of the database `app` on the started server."""
        return self._started("postgres", "DATABASE_URL")

    @property
    def dynamo_endpoint(self) -> str:
        """URL of the started DynamoDB Local."""
        return self._started("dynamodb", "DYNAMO_ENDPOINT")

    @property
    def minio_endpoint(self) -> str:
        """URL of the started MinIO."""
        return self._started("minio", "MINIO_ENDPOINT")

    @property
    def environ(self) -> dict[str, str]:
        """Every variable a service needs except its own port, with all four started."""
        self.up(*COMPONENTS)
        return self.environ_of(*COMPONENTS)

    def environ_of(self, *names: str) -> dict[str, str]:
        """The same variables, with only `names` started."""
        self.up(*names)
        return {
            **machine_environ(),
            **self.settings.addresses,
            **self.settings.credentials,
            "KAFKA_TRANSACTIONAL_ID": "api-service-transaction",
            "LOW_STOCK_THRESHOLD": "5",
            "RECENT_EVENTS_TABLE_NAME": "RecentEvents",
            "ARCHIVE_BUCKET_NAME": "event-archive",
            "AUTH_MODE": "open",
        }

    def up(self, *names: str) -> None:
        """Start `names` side by side unless this run has started them before."""
        missing = [name for name in names if name not in self._wanted]
        if missing:
            self.system.prepare(missing)
            self.system.start(*missing)
            self._wanted.update(missing)
        if "postgres" in missing:
            self._leave_the_rest_alone()

    def _leave_the_rest_alone(self) -> None:
        """Each database wants a vacuum a minute; with one a test it would never end."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER SYSTEM SET autovacuum_naptime = {}").format(VACUUM_PAUSE_SECONDS)
            )
            connection.execute("SELECT pg_reload_conf()")

    def start(self, name: str) -> None:
        """Start a component on its old port and data; returns when it is healthy."""
        self.system.start(name)
        self._wanted.add(name)

    def stop(self, name: str) -> None:
        """Stop a component as an operator would; returns when it is gone."""
        self.system.stop(name)

    def kill(self, name: str) -> None:
        """SIGKILL a component; returns when it is gone."""
        self.system.kill(name)

    def pause(self, name: str) -> None:
        """SIGSTOP a component: it keeps its connections and answers nothing."""
        self.system.runner.send_signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT a paused component."""
        self.system.runner.send_signal(name, signal.SIGCONT)

    def restore(self) -> None:
        """Start again whatever was stopped or killed since it was first started."""
        dead = [name for name in sorted(self._wanted) if not self.system.runner.living(name)]
        for name in self._wanted.difference(dead):
            self.resume(name)
        self.system.start(*dead)

    def fresh_database(self, template: str = "template1") -> str:
        """URL of a new database on the started server: empty, or a copy of ``template``."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return urlunsplit(urlsplit(self.database_url)._replace(path=f"/{name}"))

    def _started(self, name: str, variable: str) -> str:
        self.up(name)
        return self.settings.addresses[variable]
