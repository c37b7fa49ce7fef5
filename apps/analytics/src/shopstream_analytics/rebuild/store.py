"""DynamoDB's calls as a rebuild makes them: blocking, bounded, every refusal RebuildFailed."""

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shopstream_analytics.dynamo import CONNECT_SECONDS, READ_SECONDS, error_code
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.tables import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

#: DynamoDB's limit of items in one BatchWriteItem.
PUT_ITEMS_MAX: Final = 25
PUTS_IN_FLIGHT_MAX: Final = 4
#: Tries of what DynamoDB handed back, with a pause that doubles: half a minute in all.
UNPROCESSED_TRIES_MAX: Final = 10
UNPROCESSED_FIRST_SECONDS: Final = 0.05
CALL_TRIES_MAX: Final = 8
#: How long a table may take to be made.
TABLE_SECONDS_MAX: Final = 300.0
_TABLE_POLL_SECONDS: Final = 0.2
ABSENT: Final = "ResourceNotFoundException"
_IN_USE: Final = "ResourceInUseException"

Item = Mapping[str, Any]


def dynamo_client(settings: AnalyticsSettings) -> "DynamoDBClient":
    """A blocking client; it may be used by several threads."""
    return boto3.client(
        "dynamodb",
        endpoint_url=settings.dynamo_endpoint,
        region_name=settings.aws_region,
        aws_access_key_id=settings.aws_access_key_id.get_secret_value(),
        aws_secret_access_key=settings.aws_secret_access_key.get_secret_value(),
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": CALL_TRIES_MAX, "mode": "standard"},
        ),
    )


@contextmanager
def answering() -> Iterator[None]:
    """What DynamoDB refuses, or an answer that does not come, is RebuildFailed."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise RebuildFailed(f"dynamodb: {error}") from error


def put_items(client: "DynamoDBClient", table: str, items: Iterable[Item]) -> int:
    """Put items that no one else writes; how many. Raises RebuildFailed."""
    left, written = iter(items), 0
    with ThreadPoolExecutor(PUTS_IN_FLIGHT_MAX) as pool:
        flying: set[Future[None]] = set()
        while batch := list(islice(left, PUT_ITEMS_MAX)):
            written += len(batch)
            if len(flying) >= PUTS_IN_FLIGHT_MAX:
                landed, flying = wait(flying, return_when=FIRST_COMPLETED)
                for one in landed:
                    one.result()
            flying.add(pool.submit(_put, client, table, batch))
        for one in flying:
            one.result()
    return written


def _put(client: "DynamoDBClient", table: str, items: list[Item]) -> None:
    waiting: Any = {table: [{"PutRequest": {"Item": item}} for item in items]}
    delay = UNPROCESSED_FIRST_SECONDS
    for _ in range(UNPROCESSED_TRIES_MAX):
        with answering():
            waiting = client.batch_write_item(RequestItems=waiting).get("UnprocessedItems")
        if not waiting:
            return
        time.sleep(random.uniform(0, delay))  # noqa: S311 - jitter, not a secret
        delay *= 2
    raise RebuildFailed("dynamodb: throttled; call again when it is less busy")


def make_table(client: "DynamoDBClient", table: Table) -> bool:
    """False when it is there already. Raises RebuildFailed."""
    with answering():
        try:
            client.create_table(**table.definition())
        except ClientError as error:
            if error_code(error) != _IN_USE:
                raise
            return False
        deadline = time.monotonic() + TABLE_SECONDS_MAX
        while True:
            answer = client.describe_table(TableName=table.name)
            if answer["Table"].get("TableStatus") == "ACTIVE":
                return True
            if time.monotonic() > deadline:
                raise RebuildFailed(f"dynamodb: table {table.name} is still being made")
            time.sleep(_TABLE_POLL_SECONDS)
