"""What a store's refusal means: one table for all codes of DynamoDB and S3.

Sources of the codes: DynamoDB's "Error handling" and the reasons of TransactionCanceledException in
its API reference; S3's "Error responses"; botocore's own list of throttles and passing faults
(`botocore.retries.standard`). What is not listed is judged by its HTTP status.
"""

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from shopstream_analytics.sink import FaultKind

#: Kinds by what they outweigh in one transaction: what never passes comes before what does.
_WEIGHTS: Final[tuple[FaultKind, ...]] = ("refused", "credentials", "missing", "throttled")

_THROTTLED: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "ReplicatedWriteConflictException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "ServiceUnavailable",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "ThrottledException",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
_CONFLICT: Final = frozenset(
    {
        "ConditionalCheckFailed",
        "ConditionalCheckFailedException",
        "ConditionalRequestConflict",
        "DuplicateItem",
        "OperationAborted",
        "PreconditionFailed",
        "ResourceInUseException",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_CREDENTIALS: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AccountProblem",
        "AllAccessDisabled",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "InvalidToken",
        "KMSAccessDeniedException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotSignedUp",
        "OptInRequired",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnauthorizedAccess",
        "UnrecognizedClientException",
    }
)
_MISSING: Final = frozenset(
    {
        "NoSuchBucket",
        "NoSuchKey",
        "NotFound",
        "ResourceNotFoundException",
        "TableNotFoundException",
    }
)
#: Our request can never be accepted as it is.
_REFUSED: Final = frozenset(
    {
        "EntityTooLarge",
        "EntityTooSmall",
        "IdempotentParameterMismatchException",
        "InvalidArgument",
        "InvalidBucketName",
        "InvalidObjectState",
        "InvalidPart",
        "InvalidPartOrder",
        "InvalidRequest",
        "ItemCollectionSizeLimitExceeded",
        "ItemCollectionSizeLimitExceededException",
        "KeyTooLongError",
        "MalformedXML",
        "MetadataTooLarge",
        "MethodNotAllowed",
        "NotImplemented",
        "SerializationException",
        "UnknownOperationException",
        "ValidationError",
        "ValidationException",
    }
)
#: 4xx by their number, but faults of the way there.
_UNREACHABLE: Final = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "RequestTimeout",
        "RequestTimeoutException",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
_BY_CODE: Final[Mapping[str, FaultKind]] = {
    **dict.fromkeys(_THROTTLED, "throttled"),
    **dict.fromkeys(_CONFLICT, "conflict"),
    **dict.fromkeys(_CREDENTIALS, "credentials"),
    **dict.fromkeys(_MISSING, "missing"),
    **dict.fromkeys(_REFUSED, "refused"),
    **dict.fromkeys(_UNREACHABLE, "unreachable"),
}
_BY_STATUS: Final[Mapping[int, FaultKind]] = {
    401: "credentials",
    403: "credentials",
    404: "missing",
    408: "unreachable",
    409: "conflict",
    412: "conflict",
    413: "refused",
    429: "throttled",
    502: "unreachable",
    503: "throttled",
    504: "unreachable",
}


def kind_of(error: Exception) -> FaultKind:
    """The meaning of what a call raised."""
    if isinstance(error, ClientError):
        return kind_of_answer(dict(error.response))
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return "credentials"
    if isinstance(error, ParamValidationError):
        return "refused"
    if isinstance(error, BotoCoreError | OSError | aiohttp.ClientError):
        return "unreachable"
    return "unknown"


def kind_of_answer(response: Mapping[str, Any]) -> FaultKind:
    """The meaning of a refusal, as botocore parsed it."""
    code = str(response.get("Error", {}).get("Code", ""))
    if code == "TransactionCanceledException":
        return _kind_of_reasons(response)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return kind_of_code(code, status if isinstance(status, int) else None)


def kind_of_code(code: str, status: int | None) -> FaultKind:
    """By the service's own name for it, else by the HTTP status.

    A HEAD has no body, so botocore gives the status as its code.
    """
    if (kind := _BY_CODE.get(code)) is not None:
        return kind
    if status is None and code.isdigit():
        status = int(code)
    if status is None:
        return "unknown"
    return _BY_STATUS.get(status, "failing" if status >= 500 else "unknown")  # noqa: PLR2004


def _kind_of_reasons(response: Mapping[str, Any]) -> FaultKind:
    """The weightiest of a cancelled transaction's reasons, one an action, ``None`` for no fault."""
    reasons = response.get("CancellationReasons", ())
    kinds = {
        kind_of_code(str(reason.get("Code")), None)
        for reason in reasons
        if reason.get("Code") not in {None, "None"}
    }
    for kind in _WEIGHTS:
        if kind in kinds:
            return kind
    return "conflict" if kinds <= {"conflict"} else "unknown"
