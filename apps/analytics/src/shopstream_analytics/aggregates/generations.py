"""Which table and which checkpoints are the aggregates' at present.

A generation is complete in itself, so moving to another one is one conditional write: whoever has
not noticed yet writes on into a table that nobody reads (docs/adr/0031).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.dynamo import as_unavailable, error_code
from shopstream_shared.generations import POINTER, consumer_of, table_of

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

GROUP: Final = "analytics-aggregates"
#: While the first worker has yet to make it, there is no checkpoints table.
NO_TABLE: Final = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True)
class Generation:
    """One table with its checkpoints."""

    number: int
    table: str
    checkpoints: Checkpoints


@dataclass(frozen=True, slots=True)
class Generations:
    """Finds the generation in use; ``table`` and ``checkpoints_table`` are the configured names."""

    client: "DynamoDBClient"
    table: str
    checkpoints_table: str

    async def current(self) -> Generation:
        """The generation in use. Raises SinkUnavailable."""
        with as_unavailable("dynamodb"):
            try:
                answer = await self.client.get_item(
                    TableName=self.checkpoints_table,
                    Key={"pk": {"S": POINTER}},
                    ConsistentRead=True,
                )
            except ClientError as error:
                if error_code(error) != NO_TABLE:
                    raise
                return self.of(0)
        item = answer.get("Item")
        return self.of(0 if item is None else int(item["generation"]["N"]))

    def of(self, number: int) -> Generation:
        """A generation by its number."""
        consumer = consumer_of(GROUP, number)
        checkpoints = Checkpoints.of(self.client, self.checkpoints_table, consumer)
        return Generation(number, table_of(self.table, number), checkpoints)
