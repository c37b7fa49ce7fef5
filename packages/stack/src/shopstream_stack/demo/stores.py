"""Clients of the stores that the sinks fill: bounded, with the system's own credentials."""

from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

from shopstream_stack.demo.target import Target

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_s3 import S3Client

CONNECT_SECONDS_MAX: Final = 3
READ_SECONDS_MAX: Final = 20
TRIES_MAX: Final = 3


def dynamodb_client(target: Target) -> "DynamoDBClient":
    """A blocking client of the tables."""
    return boto3.client(
        "dynamodb",
        endpoint_url=target.dynamo_endpoint,
        region_name=target.aws_region,
        aws_access_key_id=target.aws_access_key_id,
        aws_secret_access_key=target.aws_secret_access_key.get_secret_value(),
        config=_bounded(),
    )


def s3_client(target: Target) -> "S3Client":
    """A blocking client of the archive's bucket."""
    return boto3.client(
        "s3",
        endpoint_url=target.minio_endpoint,
        region_name=target.aws_region,
        aws_access_key_id=target.minio_access_key,
        aws_secret_access_key=target.minio_secret_key.get_secret_value(),
        config=_bounded(),
    )


def _bounded() -> Config:
    return Config(
        connect_timeout=CONNECT_SECONDS_MAX,
        read_timeout=READ_SECONDS_MAX,
        retries={"max_attempts": TRIES_MAX},
    )
