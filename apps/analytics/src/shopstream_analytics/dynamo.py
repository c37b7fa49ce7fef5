"""DynamoDB: one way to connect, and one line between `not now` and `never`."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import SinkUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 15.0
#: Tries inside one call; the lane above repeats the whole call without bound.
CALL_TRIES_MAX: Final = 2
#: Also the bound of calls in flight a worker, over all its partitions; those beyond it wait here,
#: outside READ_SECONDS. A slow DynamoDB Local (80 items/s on a busy machine, a call of 25 items
#: 0.4 s) must answer what it was given before that, or repetitions pile up faster than it works.
CONNECTIONS_MAX: Final = 6


def client_config() -> AioConfig:
    """Bounds for every call to DynamoDB or S3."""
    return AioConfig(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": CALL_TRIES_MAX, "mode": "standard"},
        max_pool_connections=CONNECTIONS_MAX,
        # Path style: MinIO has no host name a bucket.
        s3={"addressing_style": "path"},
    )


@contextlib.asynccontextmanager
async def open_dynamo(settings: AnalyticsSettings) -> AsyncIterator["DynamoDBClient"]:
    """A client for the span of the context; nothing is connected before the first call."""
    session = aioboto3.Session(
        aws_access_key_id=settings.aws_access_key_id.get_secret_value(),
        aws_secret_access_key=settings.aws_secret_access_key.get_secret_value(),
        region_name=settings.aws_region,
    )
    async with session.client(
        "dynamodb", endpoint_url=settings.dynamo_endpoint, config=client_config()
    ) as client:
        yield client


@contextlib.contextmanager
def as_unavailable(store: str) -> Iterator[None]:
    """Turn what a call may raise for reasons outside of it into SinkUnavailable.

    Refusals that mean something to the caller (a failed condition, a missing key) must be caught
    inside. Of the rest even a wrong password only holds the sink back: it is loud in /health, and
    the same call works once it is put right.
    """
    try:
        yield
    except ClientError as error:
        raise SinkUnavailable(f"{store}: {error_code(error)}") from error
    except (BotoCoreError, OSError) as error:
        raise SinkUnavailable(f"{store}: {type(error).__name__}") from error


def error_code(error: ClientError) -> str:
    """The service's own name of the error, or the HTTP status."""
    response: dict[str, Any] = dict(error.response)
    return str(response.get("Error", {}).get("Code", "unknown"))
