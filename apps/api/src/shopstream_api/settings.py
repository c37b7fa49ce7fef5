"""The API's settings: names as the operator writes them, read once."""

from datetime import timedelta
from typing import Final, Literal

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, field_validator

from shopstream_shared.crash import CrashPoint
from shopstream_shared.settings import Brokers, ListenerSettings, Port
from shopstream_shared.topics import Profile

RESERVATION_SECONDS_MAX: Final = 30 * 24 * 3600


class ApiSettings(ListenerSettings):
    """Variables of the service; those of the local stack have its addresses as defaults."""

    database_url: SecretStr = Field(alias="DATABASE_URL")
    brokers: Brokers = Field(default="localhost:9092", alias="KAFKA_BROKERS")
    client_id: str = Field(default="api-service", alias="KAFKA_CLIENT_ID", min_length=1)
    transactional_id: str = Field(
        default="api-service-transaction", alias="KAFKA_TRANSACTIONAL_ID", min_length=1
    )
    low_stock_threshold: int = Field(default=5, alias="LOW_STOCK_THRESHOLD", ge=0, le=10**9)
    port: Port = Field(default=3000, alias="PORT")
    profile: Profile = Field(default="local", alias="SHOPSTREAM_PROFILE")
    migrate: bool = Field(default=True, alias="SHOPSTREAM_MIGRATE")
    relay: Literal["inline", "off"] = Field(default="inline", alias="SHOPSTREAM_RELAY")
    #: Where `shopstream-api relay` answers for its health; 0 = a free port.
    relay_port: Port = Field(default=3002, alias="SHOPSTREAM_RELAY_PORT")
    relay_batch_rows: int = Field(
        default=2_000, alias="SHOPSTREAM_RELAY_BATCH_ROWS", ge=1, le=2_000
    )
    reservation_seconds: int = Field(
        default=900, alias="SHOPSTREAM_RESERVATION_SECONDS", ge=1, le=RESERVATION_SECONDS_MAX
    )
    #: How often overdue holds are looked for; 0 = not by this process.
    expiry_seconds: float = Field(default=1.0, alias="SHOPSTREAM_EXPIRY_SECONDS", ge=0, le=60)
    require_if_match: bool = Field(default=False, alias="SHOPSTREAM_REQUIRE_IF_MATCH")
    pool_size: int = Field(default=8, alias="SHOPSTREAM_POOL_SIZE", ge=1, le=200)
    pool_timeout_seconds: float = Field(
        default=5.0, alias="SHOPSTREAM_POOL_TIMEOUT_SECONDS", gt=0, le=60
    )
    import_bytes_max: int = Field(
        default=2**30, alias="SHOPSTREAM_IMPORT_BYTES_MAX", ge=1, le=2**40
    )
    request_deadline_seconds: float = Field(
        default=10.0, alias="SHOPSTREAM_REQUEST_DEADLINE_SECONDS", gt=0, le=300
    )
    #: For each caller; 0 = none are counted.
    rate_limit_per_minute: int = Field(
        default=0, alias="SHOPSTREAM_RATE_LIMIT_PER_MINUTE", ge=0, le=1_000_000
    )
    crash_at: CrashPoint | None = Field(default=None, alias="SHOPSTREAM_CRASH_AT")

    @field_validator("database_url")
    @classmethod
    def _libpq_form(cls, value: SecretStr) -> SecretStr:
        try:
            known = conninfo_to_dict(value.get_secret_value())
        except ProgrammingError:
            known = {}
        if not known:
            msg = "is not a PostgreSQL address (postgresql://user:password@host:port/name)"
            raise ValueError(msg)
        return value

    @property
    def reservation_hold(self) -> timedelta:
        return timedelta(seconds=self.reservation_seconds)
