"""What the stream service reads from the environment, once, at start."""

from pydantic import Field, field_validator

from shopstream_shared.settings import Brokers, ListenerSettings, Port


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
    workers: int = Field(1, alias="SHOPSTREAM_NOTIFICATIONS_WORKERS", ge=1)

    @field_validator("workers")
    @classmethod
    def _one_worker(cls, value: int) -> int:
        if value != 1:
            msg = "this version runs one worker a port; start more replicas behind a balancer"
            raise ValueError(msg)
        return value
