"""DynamoDB and S3: one way to connect, and one line between `not now` and `never`."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from shopstream_analytics.calls import BoundedSession
from shopstream_analytics.faults import kind_of, kind_of_answer
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import FaultKind, SinkUnavailable, StoreRefused

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

CONNECT_SECONDS: Final = 2.0
#: Between two reads of an answer; `calls` bounds the whole of it.
READ_SECONDS: Final = 15.0
#: Tries inside one call, with botocore's full jitter between; the lane above repeats the whole call
#: without bound.
CALL_TRIES_MAX: Final = 2
#: Also the bound of calls in flight a worker, over all its partitions; those beyond it wait here,
#: outside READ_SECONDS. A slow DynamoDB Local (80 items/s on a busy machine, a call of 25 items
#: 0.4 s) must answer what it was given before that, or repetitions pile up faster than it works.
CONNECTIONS_MAX: Final = 6
#: A store's own words on a refusal, in a log line and in /health.
DETAIL_CHARACTERS_MAX: Final = 300

#: What an operator can put right, by the name that `as_unavailable` is given.
_VARIABLES: Final = {
    "dynamodb": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "minio": "MINIO_ACCESS_KEY and MINIO_SECRET_KEY",
}
#: A failed condition or an object that is not there is an answer, not a fault of the store.
_ANSWERS: Final = frozenset({"ConditionalCheckFailedException", "NoSuchKey", "PreconditionFailed"})

OnFault = Callable[[FaultKind], None]


def ignore_fault(kind: FaultKind) -> None:
    """For who does not count."""


def client_config() -> AioConfig:
    """Bounds for every call to DynamoDB or S3."""
    return AioConfig(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": CALL_TRIES_MAX, "mode": "standard"},
        max_pool_connections=CONNECTIONS_MAX,
        http_session_cls=BoundedSession,
        # The store says the same of a wrong parameter; checked here it is a third of a call's work.
        parameter_validation=False,
        # Path style: MinIO has no host name a bucket.
        s3={"addressing_style": "path"},
    )


@contextlib.asynccontextmanager
async def open_dynamo(
    settings: AnalyticsSettings, on_fault: OnFault = ignore_fault
) -> AsyncIterator["DynamoDBClient"]:
    """A client for the span of the context; nothing is connected before the first call.

    ``on_fault`` is told of each try that the store did not take, also of those that are repeated
    within a call.
    """
    session = aioboto3.Session(
        aws_access_key_id=settings.aws_access_key_id.get_secret_value(),
        aws_secret_access_key=settings.aws_secret_access_key.get_secret_value(),
        region_name=settings.aws_region,
    )
    async with session.client(
        "dynamodb", endpoint_url=settings.dynamo_endpoint, config=client_config()
    ) as client:
        count_faults(client, on_fault)
        yield client


def count_faults(client: Any, on_fault: OnFault) -> None:
    """Tell `on_fault` of each try of this client that failed, and of each batch handed back."""

    def tried(
        response: tuple[Any, dict[str, Any]] | None = None,
        caught_exception: Exception | None = None,
        **_: Any,
    ) -> None:
        if caught_exception is not None:
            on_fault(kind_of(caught_exception))
        elif response is not None and "Error" in response[1]:
            if response[1]["Error"].get("Code") not in _ANSWERS and not _only_refused(response[1]):
                on_fault(kind_of_answer(response[1]))
        elif response is not None and response[1].get("UnprocessedItems"):
            on_fault("throttled")

    service = client.meta.service_model.service_id.hyphenize()
    # Sent after each try, whether or not another one follows; returning nothing has no say in that.
    client.meta.events.register(f"needs-retry.{service}", tried)


def _only_refused(answer: dict[str, Any]) -> bool:
    """A transaction that only conditions cancelled."""
    reasons = answer.get("CancellationReasons", ())
    found = {reason.get("Code", "None") for reason in reasons} - {"None"}
    return found == {"ConditionalCheckFailed"}


@contextlib.contextmanager
def as_unavailable(store: str) -> Iterator[None]:
    """Turn what a call may raise for reasons outside of it into SinkUnavailable.

    Refusals that mean something to the caller (a failed condition, a missing key, an item that the
    store does not take) must be caught inside. Of the rest even a wrong password only holds the
    sink back: it is loud in /health, and the same call works once it is put right. Raises
    StoreRefused for what no repetition mends.
    """
    try:
        yield
    except ClientError as error:
        raise fault(store, kind_of(error), error_code(error), _words(error)) from error
    except (BotoCoreError, OSError, aiohttp.ClientError) as error:
        # Not the text of the error, which quotes addresses and parameters.
        raise fault(store, kind_of(error), type(error).__name__) from error


def fault(
    store: str, kind: FaultKind, name: str, words: str = ""
) -> SinkUnavailable | StoreRefused:
    """The error of ours for a fault of this kind, with its remedy where there is one."""
    if kind == "refused":
        return StoreRefused(f"{store}: {name}: {words}"[:DETAIL_CHARACTERS_MAX])
    detail = f"{store}: {kind}: {name}"
    if kind == "credentials":
        variables = _VARIABLES.get(store, "its credentials")
        detail += f"; put {variables} (or this machine's clock) right and start the service again"
    return SinkUnavailable(detail, kind)


def error_code(error: ClientError) -> str:
    """The service's own name of the error, or the HTTP status."""
    response: dict[str, Any] = dict(error.response)
    return str(response.get("Error", {}).get("Code", "unknown"))


def _words(error: ClientError) -> str:
    response: dict[str, Any] = dict(error.response)
    return str(response.get("Error", {}).get("Message", ""))
