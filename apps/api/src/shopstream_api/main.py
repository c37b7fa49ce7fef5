"""The API's process: `shopstream-api [serve|migrate|relay|poison|topics]`."""

import argparse
import asyncio
import contextlib
import functools
import gc
import sys
from typing import Final

import uvloop
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from shopstream_api.audit import routes as audit_routes
from shopstream_api.bulk import routes as bulk_routes
from shopstream_api.catalog import routes as catalog_routes
from shopstream_api.imports import routes as import_routes
from shopstream_api.orders import routes as order_routes
from shopstream_api.orders.place import PlaceOrders
from shopstream_api.orders.service import OrderSteps
from shopstream_api.outbox.relay import shards
from shopstream_api.outbox.relay.poison import run as run_poison
from shopstream_api.outbox.relay.status import RelayStatuses
from shopstream_api.outbox.topics import command as topics_command
from shopstream_api.settings import ApiSettings
from shopstream_api.stock import routes as stock_routes
from shopstream_api.stock.service import StockService
from shopstream_api.web import handlers
from shopstream_api.web.body_schemas import SCHEMAS
from shopstream_api.web.cors import Cors
from shopstream_api.web.deadline import Deadline
from shopstream_api.web.hot import HotPaths
from shopstream_api.web.limits import RateLimits
from shopstream_api.web.middleware import STREAMED, RequestMetrics, RequestMiddleware
from shopstream_api.web.openapi import describe
from shopstream_api.web.stack import outermost
from shopstream_api.wiring import Resources, open_resources
from shopstream_shared import logs
from shopstream_shared.health import Check, Health, Unhealthy
from shopstream_shared.web import bind, operations_routes, serve

ALIAS = "/api/v1"
#: Made since the last look for cycles. Requests leave hardly any, and the default of 700 objects is
#: a look for every few of them, 3% of the processor's time; a relay's batch makes 60,000, which
#: live as long as it (ADR 0007).
YOUNG_OBJECTS_MAX: Final = 100_000
EXPOSED_HEADERS = (
    "ETag",
    "Location",
    "Retry-After",
    "X-Stream-Position",
    "Idempotent-Replayed",
    "X-Request-Id",
    "X-Correlation-Id",
    "RateLimit",
    "RateLimit-Policy",
)


def create_app(settings: ApiSettings, resources: Resources) -> FastAPI:
    """The application; resources are open and outlive it."""
    # The stock documentation page loads its scripts from a third party's host; this one does not.
    app = FastAPIOffline(
        title="Shopstream API",
        version="1",
        redirect_slashes=False,
        redoc_url=None,
        # Ours is `RequestMetrics`; the framework's own would be asked for at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    database, threshold = resources.database, settings.low_stock_threshold
    products = catalog_routes.ProductRoutes(database, require_if_match=settings.require_if_match)
    for router in (
        catalog_routes.router(products),
        bulk_routes.router(database),
        stock_routes.router(database, StockService(threshold, settings.reservation_hold)),
        order_routes.router(
            database, PlaceOrders(threshold, settings.reservation_hold), OrderSteps(threshold)
        ),
        audit_routes.router(database),
        import_routes.router(_imports(settings, resources)),
    ):
        app.include_router(router)
        app.include_router(router, prefix=ALIAS, include_in_schema=False)
    operations = operations_routes(health(resources), resources.registry)
    aliases = [Route(f"{ALIAS}{route.path}", route.endpoint) for route in operations]
    app.router.routes.extend((*operations, *aliases))
    handlers.install(app, alias=ALIAS)
    describe(app, SCHEMAS)
    app.add_middleware(HotPaths, operations=catalog_routes.hot(products), prefixes=("", ALIAS))
    app.add_middleware(Deadline, seconds=settings.request_deadline_seconds, exempt=STREAMED)
    if settings.rate_limit_per_minute:
        app.add_middleware(RateLimits, per_minute=settings.rate_limit_per_minute, imports=STREAMED)
    app.add_middleware(
        RequestMiddleware, ids=resources.ids, metrics=RequestMetrics(resources.registry)
    )
    app.add_middleware(
        Cors,
        allow_origins=settings.cors_origins,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )
    outermost(app)
    return app


def _imports(settings: ApiSettings, resources: Resources) -> import_routes.ImportRoutes:
    return import_routes.ImportRoutes(
        resources.database,
        resources.clock,
        resources.ids,
        resources.imports.wake,
        bytes_max=settings.import_bytes_max,
    )


def health(resources: Resources) -> Health:
    """Requests need the database only: with the broker away the service is still ready."""
    return Health(
        {
            "database": Check(resources.schema.probe),
            "kafka": Check(resources.broker.probe_broker, for_ready=False),
            "topics": Check(resources.broker.probe_topics, for_ready=False),
            "relay": Check(
                functools.partial(_relay_probe, resources.relay_status), for_ready=False
            ),
            "poison": Check(resources.sweeper.probe, for_ready=False),
            "expiry": Check(resources.expiry.probe, for_ready=False),
            "partitions": Check(resources.partitions.probe, for_ready=False),
        }
    )


async def _relay_probe(statuses: RelayStatuses) -> str:
    if (sick := statuses.sick()) is not None:
        raise Unhealthy(sick)
    return statuses.well()


async def run(settings: ApiSettings, *, relay_only: bool = False) -> None:
    """Serve until told to stop."""
    listener = (
        bind(settings.host, settings.relay_port, variable="SHOPSTREAM_RELAY_PORT")
        if relay_only
        else bind(settings.host, settings.port)
    )
    with contextlib.closing(listener):
        async with open_resources(settings, relay=True if relay_only else None) as resources:
            # All parts begin: the schema is asked for while the application is made.
            await asyncio.sleep(0)
            if relay_only:
                routes = operations_routes(health(resources), resources.registry)
                app: ASGIApp = Starlette(routes=list(routes))
            else:
                app = create_app(settings, resources)
            # What is there now stays: without this each full collection goes through it all, and
            # every request waits 30 ms for it (ADR 0007). A relay makes 30 objects an event.
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS_MAX)
            await serve(app, listener)


def main() -> None:
    """The command line."""
    arguments = _parser().parse_args()
    settings = ApiSettings.read_or_exit()
    logs.configure("api", settings.log_level)
    logs.warn_of_dead_variables()
    if arguments.command == "migrate":
        from shopstream_api.db.migrate import migrate  # noqa: PLC0415 - Alembic only where needed

        migrate(settings.database_url.get_secret_value())
    elif arguments.command == "poison":
        sys.exit(run_poison(settings.database_url.get_secret_value(), arguments))
    elif arguments.command == "shards":
        sys.exit(shards.run(settings, arguments))
    elif arguments.command == "topics":
        sys.exit(topics_command.run(settings, arguments))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, relay_only=arguments.command == "relay"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="shopstream-api")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve the API (the default)")
    commands.add_parser("migrate", help="bring the database's schema up to date")
    commands.add_parser("relay", help="run the relay alone")
    poison = commands.add_parser("poison", help="events the broker refuses for good")
    poison.add_argument("action", choices=("ls", "retry", "drop"))
    poison.add_argument("seq", nargs="*", type=int, help="numbers that ls shows")
    shards.add_to(commands)
    topics_command.add_to(commands)
    return parser
