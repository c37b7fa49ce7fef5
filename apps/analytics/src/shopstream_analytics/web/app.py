"""The application on HEALTH_PORT: read API, operators' routes, health, metrics."""

import functools
from collections.abc import Sequence

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from shopstream_analytics.aggregates.reader import AggregatesReader
from shopstream_analytics.sink import SinkUnavailable
from shopstream_analytics.web import problems
from shopstream_analytics.web.admin import Admin
from shopstream_analytics.web.operations import describe, router
from shopstream_analytics.web.routes import Reads
from shopstream_analytics.wiring import Resources
from shopstream_shared.health import Check, Health, Unhealthy
from shopstream_shared.web import operations_routes


def create_app(resources: Resources, cors_origins: Sequence[str]) -> FastAPI:
    """The application; resources are open and outlive it."""
    # The stock documentation page loads its scripts from a third party's host; this one does not.
    app = FastAPIOffline(
        title="Shopstream analytics", version="1", redirect_slashes=False, redoc_url=None
    )
    checks = health(resources)
    reads = Reads(resources.cached, resources.recent)
    admin = Admin(
        overview=resources.overview,
        letters=resources.letters,
        health=checks,
        replays=resources.replays,
        on_replay=resources.cached.clear,
        report=resources.verify_report,
        guard=resources.guard,
    )
    app.include_router(router([*reads.operations(), *admin.operations()]))
    app.router.routes.extend(operations_routes(checks, resources.registry))
    problems.install(app)
    describe(app)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=cors_origins,
        allow_methods=["GET", "HEAD", "OPTIONS", "POST"],
        allow_headers=["*"],
        expose_headers=["Content-Disposition", "ETag", "Retry-After", "X-Request-Id"],
    )
    return app


def health(resources: Resources) -> Health:
    """Reads need DynamoDB only; with the broker or a worker away the service is still ready."""
    workers: dict[str, Check] = {
        worker.name: Check(worker.probe, for_ready=False) for worker in resources.supervisor.workers
    }
    return Health(
        {
            "dynamodb": Check(functools.partial(_dynamodb, resources.aggregates)),
            "kafka": Check(resources.broker.probe, for_ready=False),
            **workers,
        }
    )


async def _dynamodb(reader: AggregatesReader) -> str:
    try:
        return await reader.ping()
    except SinkUnavailable as error:
        raise Unhealthy(str(error)) from error
