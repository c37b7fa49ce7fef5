"""What the stream service reads from the environment, once, at start."""

from ipaddress import ip_network
from typing import Final

from pydantic import Field, SecretStr, field_validator

from shopstream_notifications.descriptors import sockets_max
from shopstream_shared.settings import Brokers, CommaList, ListenerSettings, Port, checked_token

#: More canaries than this would be a load of their own.
CANARY_SECONDS_MIN: Final = 0.1
#: More than the cores of any machine this is meant for; each reads the whole log.
WORKERS_MAX: Final = 64


class NotificationsSettings(ListenerSettings):
    """Durations are seconds, sizes are bytes."""

    port: Port = Field(3001, alias="PORT")
    brokers: Brokers = Field("localhost:9092", alias="KAFKA_BROKERS")
    client_id: str = Field("notifications-service", alias="KAFKA_CLIENT_ID", min_length=1)
    #: How long the goodbyes are spread after SIGTERM; the process ends within 5 s more.
    drain_seconds: float = Field(10.0, alias="SHOPSTREAM_DRAIN_SECONDS", ge=0, le=3_600)
    #: Half of the 30 s in which proxies and clients may call a silent connection dead.
    heartbeat_seconds: float = Field(15.0, alias="SHOPSTREAM_HEARTBEAT_SECONDS", ge=0.1, le=60)
    #: Replays of the last minutes come from memory; older ones are read from the broker again.
    log_bytes_max: int = Field(64 * 1_024 * 1_024, alias="SHOPSTREAM_STREAM_LOG_BYTES", ge=0)
    log_seconds_max: float = Field(600.0, alias="SHOPSTREAM_STREAM_LOG_SECONDS", ge=0)
    #: What may wait for one slow client, before its policy decides.
    client_bytes_max: int = Field(1_024 * 1_024, alias="SHOPSTREAM_STREAM_CLIENT_BYTES", ge=1_024)
    #: A socket that takes nothing, or answers nothing, for this long is dropped by the kernel.
    dead_seconds: float = Field(30.0, alias="SHOPSTREAM_STREAM_DEAD_SECONDS", ge=1, le=3_600)
    #: 0 = what the file descriptors allow.
    clients_max: int = Field(0, alias="SHOPSTREAM_STREAM_CLIENTS_MAX", ge=0)
    #: 0 = no limit. One of fewer than 20,000 an address is the operator's own choice.
    clients_per_address: int = Field(20_000, alias="SHOPSTREAM_STREAM_CLIENTS_PER_ADDRESS", ge=0)
    clients_per_principal: int = Field(
        20_000, alias="SHOPSTREAM_STREAM_CLIENTS_PER_PRINCIPAL", ge=0
    )
    #: How many cold replays may wait for their turn; each holds a few KiB.
    replays_max: int = Field(10_000, alias="SHOPSTREAM_STREAM_REPLAYS_MAX", ge=1)
    #: Without it there are no admin routes.
    admin_token: SecretStr | None = Field(None, alias="SHOPSTREAM_ADMIN_TOKEN")
    #: How often a canary is sent; 0 = never.
    canary_seconds: float = Field(0.0, alias="SHOPSTREAM_STREAM_CANARY_SECONDS", ge=0, le=3_600)
    #: Whose X-Forwarded-For is believed.
    trusted_proxies: CommaList = Field(default=(), alias="SHOPSTREAM_TRUSTED_PROXIES")
    #: Processes behind the one port; each has a log, a reader and bounds of its own.
    workers: int = Field(1, alias="SHOPSTREAM_NOTIFICATIONS_WORKERS", ge=1, le=WORKERS_MAX)

    @field_validator("canary_seconds")
    @classmethod
    def _not_too_often(cls, value: float) -> float:
        if 0 < value < CANARY_SECONDS_MIN:
            msg = f"0 for none, or at least {CANARY_SECONDS_MIN:g} s between two"
            raise ValueError(msg)
        return value

    @field_validator("clients_max")
    @classmethod
    def _within_the_descriptors(cls, value: int) -> int:
        sockets_max(value)
        return value

    @field_validator("admin_token")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        return checked_token(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            if proxy == "*":
                raise ValueError(
                    "* would let every caller write its own address; name the proxies' addresses "
                    "or networks (10.0.0.0/8)"
                )
            ip_network(proxy)
        return value
