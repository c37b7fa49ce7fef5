"""What a store's answer means, and which of them are worth the same call again."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)

from shopstream_analytics.calls import TRY_SECONDS_MAX
from shopstream_analytics.dynamo import CALL_TRIES_MAX, as_unavailable, error_code
from shopstream_analytics.faults import kind_of
from shopstream_analytics.identity import identity_of
from shopstream_analytics.sink import FAULT_KINDS, FaultKind, SinkUnavailable, StoreRefused


def refusal(code: str, status: int = 400, **more: Any) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": "its words"},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return ClientError(answer, "Call")


def cancelled(*codes: str) -> ClientError:
    reasons = [{"Code": code} for code in codes]
    return refusal("TransactionCanceledException", CancellationReasons=reasons)


ANSWERS: Final[tuple[tuple[Exception, FaultKind], ...]] = (
    (refusal("ProvisionedThroughputExceededException"), "throttled"),
    (refusal("ThrottlingException"), "throttled"),
    (refusal("SlowDown", 503), "throttled"),
    (refusal("503", 503), "throttled"),
    (refusal("TooManyRequests", 429), "throttled"),
    (refusal("TransactionConflictException"), "conflict"),
    (refusal("TransactionInProgressException"), "conflict"),
    (refusal("ConditionalRequestConflict", 409), "conflict"),
    (refusal("InternalServerError", 500), "failing"),
    (refusal("InternalError", 500), "failing"),
    (refusal("502", 502), "unreachable"),
    (refusal("RequestTimeout", 400), "unreachable"),
    (refusal("BadDigest", 400), "unreachable"),
    (refusal("ExpiredTokenException"), "credentials"),
    (refusal("ExpiredToken", 400), "credentials"),
    (refusal("UnrecognizedClientException"), "credentials"),
    (refusal("InvalidAccessKeyId", 403), "credentials"),
    (refusal("SignatureDoesNotMatch", 403), "credentials"),
    (refusal("RequestTimeTooSkewed", 403), "credentials"),
    (refusal("403", 403), "credentials"),
    (refusal("ResourceNotFoundException"), "missing"),
    (refusal("NoSuchBucket", 404), "missing"),
    (refusal("404", 404), "missing"),
    (refusal("ValidationException"), "refused"),
    (refusal("EntityTooLarge"), "refused"),
    (refusal("IdempotentParameterMismatchException"), "refused"),
    (refusal("SomethingNew", 418), "unknown"),
    (NoCredentialsError(), "credentials"),
    (ParamValidationError(report="x"), "refused"),
    (EndpointConnectionError(endpoint_url="x"), "unreachable"),
    (ConnectionClosedError(endpoint_url="x"), "unreachable"),
    (ReadTimeoutError(endpoint_url="x"), "unreachable"),
    (ConnectionResetError(), "unreachable"),
    (aiohttp.ClientPayloadError(), "unreachable"),
    (TimeoutError(), "unreachable"),
)


def name_of(error: Exception) -> str:
    """Its code, or its class."""
    return error_code(error) if isinstance(error, ClientError) else type(error).__name__


@pytest.mark.parametrize(("error", "kind"), ANSWERS, ids=[name_of(error) for error, _ in ANSWERS])
def test_each_answer_has_one_meaning(error: Exception, kind: FaultKind) -> None:
    assert kind_of(error) == kind
    with pytest.raises((SinkUnavailable, StoreRefused)) as raised, as_unavailable("dynamodb"):
        raise error
    if kind == "refused":
        assert raised.type is StoreRefused
    else:
        assert isinstance(raised.value, SinkUnavailable)
        assert raised.value.kind == kind
        assert str(raised.value).startswith(f"dynamodb: {kind}: ")


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        (("None", "TransactionConflict"), "conflict"),
        (("ConditionalCheckFailed", "TransactionConflict", "None"), "conflict"),
        (("TransactionConflict", "ThrottlingError"), "throttled"),
        (("ProvisionedThroughputExceeded", "None"), "throttled"),
        (("TransactionConflict", "ValidationError", "ThrottlingError"), "refused"),
        (("AccessDenied", "TransactionConflict"), "credentials"),
        (("TransactionConflict", "SomethingNew"), "unknown"),
        ((), "conflict"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else value,
)
def test_of_a_cancelled_transaction_s_reasons_the_weightiest_decides(
    reasons: tuple[str, ...], kind: FaultKind
) -> None:
    assert kind_of(cancelled(*reasons)) == kind


def test_refused_credentials_name_the_variables_and_never_their_values() -> None:
    for store, variables in (
        ("dynamodb", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("minio", "MINIO_ACCESS_KEY and MINIO_SECRET_KEY"),
    ):
        with pytest.raises(SinkUnavailable, match=variables) as raised, as_unavailable(store):
            raise refusal("InvalidAccessKeyId", 403)
        assert "its words" not in str(raised.value)


def test_a_fault_of_ours_is_told_in_the_store_s_words() -> None:
    with pytest.raises(StoreRefused, match="ValidationException: its words"), as_unavailable("s"):
        raise refusal("ValidationException")


def test_a_cancelled_wait_is_no_fault_of_the_store() -> None:
    with pytest.raises(asyncio.CancelledError), as_unavailable("dynamodb"):
        raise asyncio.CancelledError


def test_two_tries_and_the_pause_between_them_end_before_health_has_to_tell() -> None:
    # botocore's standard mode waits a random part of a second after the first.
    assert CALL_TRIES_MAX * TRY_SECONDS_MAX + 1 < 60


def test_a_table_without_an_id_is_known_by_when_it_was_made_in_any_time_zone() -> None:
    made = datetime(2026, 11, 21, 12, tzinfo=UTC)
    elsewhere = made.astimezone(timezone(timedelta(hours=2)))
    assert identity_of({"CreationDateTime": made}) == identity_of({"CreationDateTime": elsewhere})
    later = {"CreationDateTime": made + timedelta(milliseconds=1)}
    assert identity_of(later) != identity_of({"CreationDateTime": made})
    assert identity_of({"CreationDateTime": made, "TableId": "id"}) == "id"
    assert identity_of(None) is None


def test_every_kind_has_a_place_in_the_metrics() -> None:
    assert len(set(FAULT_KINDS)) == len(FAULT_KINDS) == 8
