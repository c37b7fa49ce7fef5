"""The stores' clients in a simulated process: boto's calls over the model's network.

As botocore with the service's settings: a call has two tries, the second with the same content and
token; what comes to nothing raises a client's error, a refusal the store's own.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Self

from botocore.exceptions import ClientError, ReadTimeoutError
from tests.simulation.consumers.dynamo import SimDynamo, refusal
from tests.simulation.consumers.machine import Machine, Refusal, Unanswered
from tests.simulation.consumers.pieces import Piece
from tests.simulation.consumers.s3 import SimS3

from shopstream_analytics.dynamo import CALL_TRIES_MAX

#: What DynamoDB and S3 say when they do not do it; of each the code and the HTTP status.
_DYNAMO_WORDS: Final = (
    ("ProvisionedThroughputExceededException", 400),
    ("ThrottlingException", 400),
    ("InternalServerError", 500),
    ("TransactionConflictException", 400),
)
_S3_WORDS: Final = (
    ("SlowDown", 503),
    ("InternalError", 500),
    ("ConditionalRequestConflict", 409),
)
_REASONS: Final = ("TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded")


class _Client:
    """Calls by name."""

    def __init__(self, machine: Machine, words: tuple[tuple[str, int], ...]) -> None:
        self._machine = machine
        self._words = words

    async def _ask(self, operation: str, request: Callable[[], Any], **call: Any) -> Any:
        for tried in range(1, CALL_TRIES_MAX + 1):
            try:
                return await self._machine.call(operation, request)
            except Unanswered:
                if tried == CALL_TRIES_MAX:
                    raise ReadTimeoutError(endpoint_url="sim") from None
            except Refusal:
                if tried == CALL_TRIES_MAX:
                    raise self._refused(operation, call) from None
        raise AssertionError

    def _refused(self, operation: str, call: dict[str, Any]) -> ClientError:
        if operation == "transact_write_items":
            # One action is at fault, the others were not looked at.
            reasons = [{"Code": "None"} for _ in call["TransactItems"]]
            rng = self._machine.world.rng
            rng.choice(reasons)["Code"] = rng.choice(_REASONS)
            return refusal(operation, "TransactionCanceledException", CancellationReasons=reasons)
        code, status = self._machine.world.rng.choice(self._words)
        return refusal(operation, code, status=status)


class DynamoClient(_Client):
    """aioboto3's client of DynamoDB, for one process."""

    def __init__(self, machine: Machine, dynamo: SimDynamo) -> None:
        super().__init__(machine, _DYNAMO_WORDS)
        self._dynamo = dynamo

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        done = getattr(self._dynamo, operation)

        async def ask(**call: Any) -> Any:
            return await self._ask(operation, lambda: done(**call), **call)

        return ask

    async def batch_get_item(self, *, RequestItems: dict[str, Any]) -> Any:  # noqa: N803 - DynamoDB's
        """Answers for a part of the keys at times, and hands the rest back."""
        machine = self._machine
        [(table, wanted)] = RequestItems.items()
        keys = wanted["Keys"]
        given = len(keys)
        if not machine.world.calm and machine.world.chance(machine.climate.handed_back):
            given = machine.world.rng.randrange(len(keys))

        def done() -> dict[str, Any]:
            asked = {table: {**wanted, "Keys": keys[:given]}}
            found = self._dynamo.batch_get_item(RequestItems=asked)
            left = {table: {**wanted, "Keys": keys[given:]}} if given < len(keys) else {}
            return {**found, "UnprocessedKeys": left}

        return await self._ask("batch_get_item", done)

    async def batch_write_item(self, *, RequestItems: dict[str, list[Any]]) -> Any:  # noqa: N803 - DynamoDB's
        """Takes a part of the puts at times, and hands the rest back."""
        machine = self._machine
        [(table, puts)] = RequestItems.items()
        taken = len(puts)
        if not machine.world.calm and machine.world.chance(machine.climate.handed_back):
            taken = machine.world.rng.randrange(len(puts))

        def done() -> dict[str, Any]:
            if taken:
                self._dynamo.batch_write_item(RequestItems={table: puts[:taken]})
            return {"UnprocessedItems": {table: puts[taken:]} if taken < len(puts) else {}}

        return await self._ask("batch_write_item", done)


class S3Client(_Client):
    """aioboto3's client of S3, for one process."""

    def __init__(self, machine: Machine, s3: SimS3) -> None:
        super().__init__(machine, _S3_WORDS)
        self._s3 = s3
        #: What this process meant to store.
        self._meant: dict[str, Any] = {}

    async def put_object(self, **call: Any) -> Any:
        self._meant[call["Key"]] = call.get("Metadata")
        return await self._ask("put_object", lambda: self._s3.put_object(**call))

    async def head_object(self, **call: Any) -> Any:
        answer = await self._ask("head_object", lambda: self._s3.head_object(**call))
        if self._s3.without is Piece.CONTINUE_AT_ITS_NEXT and self._meant.get(call["Key"]):
            answer["Metadata"] = self._meant[call["Key"]]
        return answer

    async def get_object(self, **call: Any) -> Any:
        answer = await self._ask("get_object", lambda: self._s3.get_object(**call))
        return {**answer, "Body": _Stream(answer["Body"].read())}

    def get_paginator(self, _operation: str) -> "_Pages":
        return _Pages(self, self._s3)


class _Stream:
    """A body as aiobotocore gives it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def read(self) -> bytes:
        return self._content


class _Pages:
    def __init__(self, client: S3Client, s3: SimS3) -> None:
        self._client = client
        self._s3 = s3

    async def paginate(self, *, Prefix: str, **_: Any) -> AsyncIterator[Any]:  # noqa: N803 - S3's
        def listed() -> Any:
            return self._s3.list_objects_v2(Prefix=Prefix)

        yield await self._client._ask("list_objects_v2", listed)
