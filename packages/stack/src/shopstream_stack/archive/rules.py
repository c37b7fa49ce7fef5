"""Lifecycle rules of the bucket that would end objects of a chain (protocol rule 23)."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from shopstream_shared.archive.keys import ending_rule
from shopstream_stack.archive.place import ArchivePlace

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_NONE: Final = "NoSuchLifecycleConfiguration"


def ending_rules(place: ArchivePlace) -> list[str]:
    """What is to be said of each such rule. Raises StackError when the bucket does not tell."""
    client: S3Client = place.client
    try:
        answer = client.get_bucket_lifecycle_configuration(Bucket=place.bucket.name)
    except ClientError as error:
        if error.response["Error"]["Code"] == _NONE:
            return []
        raise place.bucket.away(error) from error
    except BotoCoreError as error:
        raise place.bucket.away(error) from error
    return list(_ending(answer["Rules"]))


def _ending(rules: Any) -> Iterator[str]:
    for rule in rules:
        expiration: Mapping[str, Any] = rule.get("Expiration", {})
        # The end of delete markers ends no object; that of older versions ends what a versioned
        # bucket keeps of a chain object that somebody deleted or overwrote.
        expires = "Days" in expiration or "Date" in expiration
        expires = expires or "NoncurrentVersionExpiration" in rule
        if rule.get("Status") == "Enabled" and expires:
            said = ending_rule(rule.get("ID"), _prefix_of(rule))
            if said is not None:
                yield said


def _prefix_of(rule: Mapping[str, Any]) -> str:
    chosen = rule.get("Filter", {})
    return chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or ""
