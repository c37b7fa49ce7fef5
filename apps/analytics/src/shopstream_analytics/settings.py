"""The settings of the analytics service and its workers."""

import re
import socket
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from shopstream_analytics.recent_index import SHARDS_MAX
from shopstream_shared.crash import CrashPoint
from shopstream_shared.settings import Brokers, CommaList, ListenerSettings, Port, checked_token


def _http_url(value: str) -> str:
    """Require a plain http(s) address: the libraries' own complaint is a traceback."""
    scheme, separator, rest = value.partition("://")
    if scheme not in {"http", "https"} or not separator or not rest.strip("/"):
        msg = "is not an address such as http://localhost:8000"
        raise ValueError(msg)
    return value.rstrip("/")


def _service(text: str) -> tuple[str, str]:
    """A service's name and its address without a slash at the end."""
    name, separator, address = text.partition("=")
    if not name or not separator:
        msg = "each service is name=address, such as api=http://127.0.0.1:3000"
        raise ValueError(msg)
    return name, _http_url(address)


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Name = Annotated[str, Field(min_length=1)]
#: Kafka's characters for it; up to 249 with what the workers add.
Instance = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]


class AnalyticsSettings(ListenerSettings):
    """Read once, in main. Secrets have no default."""

    kafka_brokers: Brokers = Field("localhost:9092", alias="KAFKA_BROKERS")
    kafka_client_id: Name = Field("analytics-service", alias="KAFKA_CLIENT_ID")
    health_port: Port = Field(8080, alias="HEALTH_PORT")

    dynamo_endpoint: HttpUrl | None = Field(None, alias="DYNAMO_ENDPOINT")
    aws_region: Name = Field("us-east-1", alias="AWS_REGION")
    aws_access_key_id: SecretStr = Field(alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: SecretStr = Field(alias="AWS_SECRET_ACCESS_KEY")
    recent_events_table: Name = Field("RecentEvents", alias="RECENT_EVENTS_TABLE_NAME")
    #: Keys of the index over which a seller's or a type's events are spread.
    recent_shards: int = Field(1, ge=1, le=SHARDS_MAX, alias="SHOPSTREAM_RECENT_SHARDS")
    aggregates_table: Name = Field("Aggregates", alias="SHOPSTREAM_AGGREGATES_TABLE_NAME")
    checkpoints_table: Name = Field("Checkpoints", alias="SHOPSTREAM_CHECKPOINTS_TABLE_NAME")

    minio_endpoint: HttpUrl = Field("http://localhost:9000", alias="MINIO_ENDPOINT")
    minio_access_key: SecretStr = Field(alias="MINIO_ACCESS_KEY")
    minio_secret_key: SecretStr = Field(alias="MINIO_SECRET_KEY")
    archive_bucket: Name = Field("event-archive", alias="ARCHIVE_BUCKET_NAME")
    #: An open file is cut at this age at the latest; production uses 300.
    archive_rotate_seconds: float = Field(
        10.0, gt=0, le=3_600, alias="SHOPSTREAM_ARCHIVE_ROTATE_SECONDS"
    )
    archive_file_bytes: int = Field(
        16_777_216, ge=1, le=268_435_456, alias="SHOPSTREAM_ARCHIVE_FILE_BYTES"
    )
    archive_file_records: int = Field(
        100_000, ge=1, le=1_000_000, alias="SHOPSTREAM_ARCHIVE_FILE_RECORDS"
    )
    #: What the open files of a worker hold together, compressed, before they are cut early.
    archive_held_bytes: int = Field(
        67_108_864, ge=1_048_576, le=1_073_741_824, alias="SHOPSTREAM_ARCHIVE_HELD_BYTES"
    )
    #: How long nobody may delete an archived object; 0: versions are kept, but there is no lock.
    archive_lock_days: int = Field(0, ge=0, le=36_500, alias="SHOPSTREAM_ARCHIVE_LOCK_DAYS")
    #: Where the archive's objects move when they are old enough; unset: they stay where they are.
    archive_storage_class: Name | None = Field(None, alias="SHOPSTREAM_ARCHIVE_STORAGE_CLASS")
    archive_storage_class_days: int = Field(
        30, ge=1, le=36_500, alias="SHOPSTREAM_ARCHIVE_STORAGE_CLASS_DAYS"
    )
    #: How long Kafka waits for a worker that went silent before it gives its partitions away; up to
    #: REQUEST_SECONDS, above which Faust refuses to start.
    session_timeout_seconds: float = Field(
        10.0, ge=1, le=30, alias="SHOPSTREAM_KAFKA_SESSION_TIMEOUT_SECONDS"
    )
    #: Worker processes a sink.
    workers: int = Field(1, ge=1, le=16, alias="SHOPSTREAM_ANALYTICS_WORKERS")
    #: What tells this service's workers from those of others in the same consumer groups.
    instance: Instance | None = Field(None, alias="SHOPSTREAM_ANALYTICS_INSTANCE")
    #: Whose health and metrics the overview shows: name=address.
    overview_services: CommaList = Field(
        ("api=http://127.0.0.1:3000", "notifications=http://127.0.0.1:3001"),
        alias="SHOPSTREAM_OVERVIEW_SERVICES",
    )
    #: Where verify leaves its last report.
    verify_report: Path | None = Field(None, alias="SHOPSTREAM_VERIFY_REPORT")
    #: Without it the operators' routes are open to whoever reaches the port.
    admin_token: SecretStr | None = Field(None, alias="SHOPSTREAM_ADMIN_TOKEN")
    #: The named crash point that ends the process; tests only.
    crash_at: CrashPoint | None = Field(None, alias="SHOPSTREAM_CRASH_AT")

    @property
    def instance_name(self) -> str:
        """Two parents on one machine cannot listen on one port, so their names differ."""
        if self.instance is not None:
            return self.instance
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
        return f"{host[:100]}-{self.health_port}"

    @property
    def services(self) -> dict[str, str]:
        """Base addresses of the other services, by name."""
        return dict(_service(one) for one in self.overview_services)

    @field_validator("overview_services")
    @classmethod
    def _named_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            _service(one)
        return value

    @field_validator("admin_token")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        return checked_token(value)

    @model_validator(mode="after")
    def _tables_differ(self) -> Self:
        names = {self.recent_events_table, self.aggregates_table, self.checkpoints_table}
        if len(names) < 3:  # noqa: PLR2004 - the three lines above
            msg = "the table names must differ from each other"
            raise ValueError(msg)
        return self
