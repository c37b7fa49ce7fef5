"""The API's settings: names as the operator writes them, read once."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Final, Literal, Self

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, field_validator, model_validator

from shopstream_shared.settings import Brokers, Port, Settings
from shopstream_shared.topics import Profile

RESERVATION_SECONDS_MAX: Final = 30 * 24 * 3600


class ApiSettings(Settings):
    """Variables of the service; those of the local stack have its addresses as defaults."""

    database_url: SecretStr = Field(alias="DATABASE_URL")
    brokers: Brokers = Field(default="localhost:9092", alias="KAFKA_BROKERS")
    client_id: str = Field(default="api-service", alias="KAFKA_CLIENT_ID", min_length=1)
    transactional_id: str = Field(
        default="api-service-transaction", alias="KAFKA_TRANSACTIONAL_ID", min_length=1
    )
    low_stock_threshold: int = Field(default=5, alias="LOW_STOCK_THRESHOLD", ge=0, le=10**9)
    port: Port = Field(default=3000, alias="PORT")
    host: str = Field(default="127.0.0.1", alias="SHOPSTREAM_HOST")
    # Identity comes later; until then another mode must not silently mean open.
    auth_mode: Literal["open"] = Field(default="open", alias="AUTH_MODE")
    open_on_any_address: bool = Field(default=False, alias="SHOPSTREAM_OPEN_ON_ANY_ADDRESS")
    cors_origins: str = Field(default="*", alias="SHOPSTREAM_CORS_ORIGINS")
    profile: Profile = Field(default="local", alias="SHOPSTREAM_PROFILE")
    migrate: bool = Field(default=True, alias="SHOPSTREAM_MIGRATE")
    relay: Literal["inline", "off"] = Field(default="inline", alias="SHOPSTREAM_RELAY")
    #: Where `shopstream-api relay` answers for its health; 0 = a free port.
    relay_port: Port = Field(default=3002, alias="SHOPSTREAM_RELAY_PORT")
    relay_batch_rows: int = Field(default=500, alias="SHOPSTREAM_RELAY_BATCH_ROWS", ge=1, le=2_000)
    reservation_seconds: int = Field(
        default=900, alias="SHOPSTREAM_RESERVATION_SECONDS", ge=1, le=RESERVATION_SECONDS_MAX
    )
    require_if_match: bool = Field(default=False, alias="SHOPSTREAM_REQUIRE_IF_MATCH")
    pool_size: int = Field(default=8, alias="SHOPSTREAM_POOL_SIZE", ge=1, le=200)
    pool_timeout_seconds: float = Field(
        default=5.0, alias="SHOPSTREAM_POOL_TIMEOUT_SECONDS", gt=0, le=60
    )
    crash_at: str | None = Field(default=None, alias="SHOPSTREAM_CRASH_AT")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", alias="SHOPSTREAM_LOG_LEVEL"
    )

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

    @model_validator(mode="after")
    def _open_stays_at_home(self) -> Self:
        if not self.open_on_any_address and not _loopback(self.host):
            msg = (
                "AUTH_MODE=open serves loopback only; "
                "set SHOPSTREAM_OPEN_ON_ANY_ADDRESS=true if the port is guarded otherwise"
            )
            raise ValueError(msg)
        return self

    @property
    def reservation_hold(self) -> timedelta:
        return timedelta(seconds=self.reservation_seconds)

    @property
    def origins(self) -> list[str]:
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
