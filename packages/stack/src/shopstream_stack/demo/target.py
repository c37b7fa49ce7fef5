"""Where the system under judgement is, and the keys to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

from shopstream_stack.errors import StackError
from shopstream_stack.ports import LOOPBACK
from shopstream_stack.settings import SERVICES, StackSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Addresses and credentials, as the variables of the services spell them."""

    api: str
    stream: str
    analytics: str
    web: str
    database_url: SecretStr
    kafka_brokers: str
    dynamo_endpoint: str
    minio_endpoint: str
    aws_region: str
    aws_access_key_id: str
    aws_secret_access_key: SecretStr
    minio_access_key: str
    minio_secret_key: SecretStr
    recent_events_table: str
    aggregates_table: str
    checkpoints_table: str
    archive_bucket: str
    low_stock_threshold: int
    #: The age at which an open archive file is cut: what arrives is in the bucket that much later.
    archive_rotate_seconds: float

    @classmethod
    def local(cls, settings: StackSettings) -> Self:
        """The system that this stack runs. Raises StackError when a credential is missing."""
        services: dict[str, str] = {}
        for name in SERVICES:
            services[name] = f"http://{LOOPBACK}:{settings.port_of(name)}"
        try:
            return cls.of(services, settings.service_environ("analytics"))
        except KeyError as error:
            raise StackError(f"{error.args[0]} is needed to read back what arrived") from None

    @classmethod
    def of(cls, services: Mapping[str, str], variables: Mapping[str, str]) -> Self:
        """From the services' base addresses by name and the variables handed to them.

        Raises KeyError when an address or a credential is missing.
        """
        api, stream, analytics, web = (services[name].rstrip("/") for name in SERVICES)
        return cls(
            api=api,
            stream=stream,
            analytics=analytics,
            web=web,
            database_url=SecretStr(variables["DATABASE_URL"]),
            kafka_brokers=variables["KAFKA_BROKERS"],
            dynamo_endpoint=variables["DYNAMO_ENDPOINT"],
            minio_endpoint=variables["MINIO_ENDPOINT"],
            aws_region=variables.get("AWS_REGION", "us-east-1"),
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=SecretStr(variables["AWS_SECRET_ACCESS_KEY"]),
            minio_access_key=variables["MINIO_ACCESS_KEY"],
            minio_secret_key=SecretStr(variables["MINIO_SECRET_KEY"]),
            recent_events_table=variables.get("RECENT_EVENTS_TABLE_NAME", "RecentEvents"),
            aggregates_table=variables.get("SHOPSTREAM_AGGREGATES_TABLE_NAME", "Aggregates"),
            checkpoints_table=variables.get("SHOPSTREAM_CHECKPOINTS_TABLE_NAME", "Checkpoints"),
            archive_bucket=variables.get("ARCHIVE_BUCKET_NAME", "event-archive"),
            low_stock_threshold=int(variables.get("LOW_STOCK_THRESHOLD", "5")),
            archive_rotate_seconds=float(variables.get("SHOPSTREAM_ARCHIVE_ROTATE_SECONDS", "10")),
        )
