"""The API in the test's own process: real PostgreSQL, a clock that the test moves, no broker.

For tests that must look inside (races forced by hooks, counted statements, expired clocks). What
is promised of the process as a whole is tested on `tests.support.api.ApiProcess`.
"""

import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
import psycopg
import structlog
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from tests.support import invariants
from tests.support.components import LocalComponents
from tests.support.system import wait_until

from shopstream_api.db.migrate import migrate
from shopstream_api.main import create_app
from shopstream_api.settings import ApiSettings
from shopstream_api.wiring import Resources, open_resources
from shopstream_shared.clock import ManualClock

#: Nothing listens there; the API serves without a broker.
NO_BROKER: Final = "127.0.0.1:1"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InProcess:
    """A running application; calls are blocking, ``run`` takes coroutines into its loop."""

    app: FastAPI
    resources: Resources
    clock: ManualClock
    database_url: str
    client: httpx.AsyncClient
    portal: BlockingPortal

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``await work()`` in the application's loop."""
        return self.portal.call(work)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.run(lambda: self.client.request(method, path, **arguments))

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, body: object = None, **arguments: Any) -> httpx.Response:
        if body is not None:
            arguments["json"] = body
        return self.request("POST", path, **arguments)

    def product(self, **members: Any) -> dict[str, Any]:
        """Create a product; returns its body."""
        answer = self.post(
            "/products", {"name": "Test Product", "price": 99.99, "sellerId": "seller1", **members}
        )
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows from the application's database, on a connection of the test's own."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()


@contextmanager
def in_process(
    components: LocalComponents,
    *,
    database_url: str | None = None,
    clock: ManualClock | None = None,
    checked: bool = True,
    **environ: str,
) -> Iterator[InProcess]:
    """The application on a fresh database (or ``database_url``), ready to be called.

    ``environ`` are settings by the names of their variables. Overdue holds are ended when the test
    calls `expired`, not when a timer does. At the end the database must hold all invariants, unless
    it was filled past the API: then ``checked`` is False.
    """
    _log_plainly()
    _find_no_sniffio()
    url = database_url or migrated_database(components)
    clock = clock or ManualClock(datetime.now(UTC))
    settings = ApiSettings.model_validate(
        {
            "DATABASE_URL": url,
            "KAFKA_BROKERS": NO_BROKER,
            "SHOPSTREAM_RELAY": "off",
            "SHOPSTREAM_EXPIRY_SECONDS": "0",
            **environ,
        }
    )
    with (
        start_blocking_portal(backend_options={"use_uvloop": True}) as portal,
        portal.wrap_async_context_manager(_running(settings, clock)) as (app, resources, client),
    ):
        wait_until(lambda: resources.database.not_ready is None, "the schema is there")
        yield InProcess(app, resources, clock, url, client, portal)
    if checked:
        invariants.check(url)


def _log_plainly() -> None:
    """structlog's own traceback shows every local variable, which takes seconds for one."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])


def _find_no_sniffio() -> None:
    """httpx asks for it at each request; a search of all folders is a sixth of a request's time."""
    if importlib.util.find_spec("sniffio") is None:
        # What makes an import fail at once; the stubs know of modules only.
        sys.modules["sniffio"] = None  # type: ignore[assignment]


def migrated_database(components: LocalComponents) -> str:
    """URL of a fresh database with today's schema: a copy of one that was migrated once."""
    components.up("postgres")
    if components.template is None:
        url = components.fresh_database()
        migrate(url)
        components.template = urlsplit(url).path.removeprefix("/")
    url = components.fresh_database(components.template)
    with psycopg.connect(url, autocommit=True) as connection:
        # A copy is another outbox, and says so: else the progress of one would delete the other's.
        connection.execute("UPDATE relay_state SET outbox_id = gen_random_uuid()")
    return url


@asynccontextmanager
async def _running(
    settings: ApiSettings, clock: ManualClock
) -> AsyncIterator[tuple[FastAPI, Resources, httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        resources = await stack.enter_async_context(open_resources(settings, clock))
        app = create_app(settings, resources)
        transport = httpx.ASGITransport(app=app)
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://test")
        )
        yield app, resources, client


def later(app: InProcess, seconds: float) -> None:
    """Move the application's clock."""
    app.clock.advance(timedelta(seconds=seconds))


def expired(app: InProcess) -> int:
    """End what is overdue by the application's clock; returns how many holds that were."""
    return app.run(app.resources.expiry.sweep)
