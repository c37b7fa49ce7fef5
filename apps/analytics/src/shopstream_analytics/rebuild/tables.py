"""DynamoDB as a rebuild uses it: blocking; what is live is read, what is new is written.

The order of the writes is the protocol (docs/adr/0031): table, items, checkpoints and notes, the
mark that all of it is there, and last, by one conditional write, the generation in use.
"""

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shopstream_analytics.aggregates.generations import GROUP
from shopstream_analytics.checkpoints import Noted, noted_item, noted_of
from shopstream_analytics.dynamo import CONNECT_SECONDS, READ_SECONDS, error_code
from shopstream_analytics.identity import note_key
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.tables import Table, aggregates_table, checkpoints_table
from shopstream_shared.clock import SystemClock, format_time
from shopstream_shared.generations import POINTER, consumer_of, table_of

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
_REFUSED: Final = "ConditionalCheckFailedException"
_ABSENT: Final = "ResourceNotFoundException"
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


@dataclass(frozen=True, slots=True)
class Tables:
    """All generations of the aggregates, and their checkpoints. Raises RebuildFailed."""

    client: "DynamoDBClient"
    base: str
    checkpoints: str

    @classmethod
    def of(cls, settings: AnalyticsSettings) -> "Tables":
        return cls(dynamo_client(settings), settings.aggregates_table, settings.checkpoints_table)

    def current(self) -> int:
        """The generation in use."""
        item = self._get(POINTER)
        return 0 if item is None else int(item["generation"]["N"])

    def numbers(self) -> list[int]:
        """The generations beside 0 that have a table."""
        prefix = table_of(self.base, 1)[:-1]
        found = []
        with answering():
            for page in self.client.get_paginator("list_tables").paginate():
                names = [name for name in page["TableNames"] if name.startswith(prefix)]
                found += [
                    int(n.removeprefix(prefix)) for n in names if n[len(prefix) :].isdecimal()
                ]
        return sorted(found)

    def begin(self) -> int:
        """Make the table of the next generation: whoever makes it has the number."""
        number = 1 + max([*self.numbers(), self.current()])
        while not self._make(aggregates_table(table_of(self.base, number))):
            number += 1
        self._make(checkpoints_table(self.checkpoints))
        # A table of this number that was dropped is not missed by who takes over the new one.
        key = note_key(consumer_of(GROUP, number), table_of(self.base, number))
        with answering():
            self.client.delete_item(TableName=self.checkpoints, Key={"pk": {"S": key}})
        return number

    def noted(self, generation: int, topic: str) -> Noted | None:
        """What a generation has noted of a topic."""
        item = self._get(f"{consumer_of(GROUP, generation)}#{topic}")
        return None if item is None else noted_of(item)

    def checkpoint(self, generation: int, topic: str, topic_id: str, partition: int) -> int | None:
        """How far a generation has come in a partition."""
        item = self._get(_checkpoint_key(generation, topic, topic_id, partition))
        return None if item is None else int(item["next"]["N"])

    def items(self, generation: int) -> Iterator[Item]:
        """All items of a generation's table; none where it has no table yet."""
        with answering():
            try:
                pages = self.client.get_paginator("scan").paginate(
                    TableName=table_of(self.base, generation), ConsistentRead=True
                )
                for page in pages:
                    yield from page["Items"]
            except ClientError as error:
                if error_code(error) != _ABSENT:
                    raise

    def write(self, generation: int, items: Iterable[Item]) -> int:
        """Put items, which no one else writes, into a generation's table; how many."""
        table = table_of(self.base, generation)
        left, written = iter(items), 0
        with ThreadPoolExecutor(PUTS_IN_FLIGHT_MAX) as pool:
            flying: set[Future[None]] = set()
            while batch := list(islice(left, PUT_ITEMS_MAX)):
                written += len(batch)
                if len(flying) >= PUTS_IN_FLIGHT_MAX:
                    landed, flying = wait(flying, return_when=FIRST_COMPLETED)
                    for one in landed:
                        one.result()
                flying.add(pool.submit(self._put, table, batch))
            for one in flying:
                one.result()
        return written

    def note(self, generation: int, topic: str, noted: Noted) -> None:
        """Note a topic, as its worker would."""
        item = noted_item(consumer_of(GROUP, generation), topic, noted)
        with answering():
            self.client.put_item(TableName=self.checkpoints, Item=item)

    def place(self, generation: int, part: tuple[str, str, int], position: int, time: str) -> None:
        """Write the checkpoint of a new generation for a part: topic, its id, partition."""
        item = {
            "pk": {"S": _checkpoint_key(generation, *part)},
            "next": {"N": str(position)},
            "partitionTime": {"S": time},
            "updatedAt": {"S": _now()},
        }
        with answering():
            self.client.put_item(TableName=self.checkpoints, Item=item)

    def complete(self, generation: int) -> None:
        """Say that table, items, checkpoints and notes are all there."""
        item = {"pk": {"S": consumer_of(GROUP, generation)}, "completeAt": {"S": _now()}}
        with answering():
            self.client.put_item(TableName=self.checkpoints, Item=item)

    def is_complete(self, generation: int) -> bool:
        """Generation 0 needs no mark; nor does the one in use, whose mark may be the pointer."""
        return generation == 0 or self._get(consumer_of(GROUP, generation)) is not None

    def use(self, generation: int, *, instead_of: int) -> bool:
        """Make a generation the one in use; False when another than `instead_of` was."""
        first = "attribute_not_exists(pk) OR " if instead_of == 0 else ""
        with answering():
            try:
                self.client.put_item(
                    TableName=self.checkpoints,
                    Item={
                        "pk": {"S": POINTER},
                        "generation": {"N": str(generation)},
                        "swappedAt": {"S": _now()},
                    },
                    ConditionExpression=f"{first}generation = :old",
                    ExpressionAttributeValues={":old": {"N": str(instead_of)}},
                )
            except ClientError as error:
                if error_code(error) != _REFUSED:
                    raise
                return False
        return True

    def drop(self, generation: int) -> None:
        """Delete a generation's table. Its checkpoints stay: they are few and say where it was."""
        with answering():
            self.client.delete_item(
                TableName=self.checkpoints, Key={"pk": {"S": consumer_of(GROUP, generation)}}
            )
            self.client.delete_table(TableName=table_of(self.base, generation))

    def _put(self, table: str, items: list[Item]) -> None:
        waiting: Any = {table: [{"PutRequest": {"Item": item}} for item in items]}
        delay = UNPROCESSED_FIRST_SECONDS
        for _ in range(UNPROCESSED_TRIES_MAX):
            with answering():
                waiting = self.client.batch_write_item(RequestItems=waiting).get("UnprocessedItems")
            if not waiting:
                return
            time.sleep(random.uniform(0, delay))  # noqa: S311 - jitter, not a secret
            delay *= 2
        raise RebuildFailed("dynamodb: throttled; call again when it is less busy")

    def _make(self, table: Table) -> bool:
        """False when it is there already."""
        with answering():
            try:
                self.client.create_table(**table.definition())
            except ClientError as error:
                if error_code(error) != _IN_USE:
                    raise
                return False
            deadline = time.monotonic() + TABLE_SECONDS_MAX
            while True:
                answer = self.client.describe_table(TableName=table.name)
                if answer["Table"].get("TableStatus") == "ACTIVE":
                    return True
                if time.monotonic() > deadline:
                    raise RebuildFailed(f"dynamodb: table {table.name} is still being made")
                time.sleep(_TABLE_POLL_SECONDS)

    def _get(self, key: str) -> Item | None:
        with answering():
            try:
                answer = self.client.get_item(
                    TableName=self.checkpoints, Key={"pk": {"S": key}}, ConsistentRead=True
                )
            except ClientError as error:
                if error_code(error) != _ABSENT:
                    raise
                return None
        return answer.get("Item")


def _checkpoint_key(generation: int, topic: str, topic_id: str, partition: int) -> str:
    return f"{consumer_of(GROUP, generation)}#{topic}#{topic_id}#{partition}"


def _now() -> str:
    return format_time(SystemClock().now())
