"""DynamoDB Local and its admin page."""

from __future__ import annotations

from typing import Final

from shopstream_stack import health, tools
from shopstream_stack.cache import Cache
from shopstream_stack.ports import LOOPBACK
from shopstream_stack.process import PortUse, ProcessSpec
from shopstream_stack.settings import StackSettings

START_SECONDS_MAX: Final = 60.0


def dynamodb(settings: StackSettings, cache: Cache) -> ProcessSpec:
    """DynamoDB Local; its data lives in `dynamodb` under the data folder.

    One database for all credentials and regions (`-sharedDb`), so that the admin page and a
    hand-typed command see what the services wrote.
    """
    home = settings.data / "dynamodb"
    jars = cache.jars("dynamodb")
    port = settings.dynamodb_port
    argv = (
        tools.path_of(tools.JAVA),
        # After half an hour of soak a scan ended in InternalFailure with 384 MiB.
        "-Xmx1g",
        *(tools.QUICK_JAVA if settings.quick_java == "true" else ()),
        f"-Djava.library.path={jars}",
        f"-Dsqlite4java.library.path={jars}",
        "-cp",
        f"{jars}/*",
        "software.amazon.dynamodb.services.local.main.ServerRunner",
        *("-port", str(port), "-sharedDb", "-dbPath", str(home), "-disableTelemetry"),
    )
    return ProcessSpec(
        name="dynamodb",
        kind="component",
        argv=argv,
        environ=settings.component_environ(),
        ports=(PortUse(port, "SHOPSTREAM_DYNAMODB_PORT"),),
        # An unsigned request is refused, but by DynamoDB itself.
        check=lambda: health.http_answers(f"http://{LOOPBACK}:{port}/", any_status=True),
        prepare=lambda: home.mkdir(parents=True, exist_ok=True),
        start_seconds_max=START_SECONDS_MAX,
        nice=settings.background_nice,
    )


def dynamodb_admin(settings: StackSettings, cache: Cache) -> ProcessSpec:
    """The page that shows the tables."""
    port = settings.dynamodb_admin_port
    program = cache.admin_page / "node_modules" / "dynamodb-admin" / "dist" / "dynamodb-admin.js"
    return ProcessSpec(
        name="dynamodb-admin",
        kind="component",
        argv=(tools.path_of(tools.NODE), str(program), "--host", LOOPBACK, "--port", str(port)),
        environ=settings.component_environ(
            DYNAMO_ENDPOINT=settings.addresses["DYNAMO_ENDPOINT"],
            AWS_REGION="us-east-1",
            AWS_ACCESS_KEY_ID="fake",
            AWS_SECRET_ACCESS_KEY="fake",  # noqa: S106 - DynamoDB Local takes any
        ),
        ports=(PortUse(port, "SHOPSTREAM_DYNAMODB_ADMIN_PORT"),),
        check=lambda: health.listening(port),
        start_seconds_max=START_SECONDS_MAX,
        nice=settings.background_nice,
    )
