"""Settings of the local stack, read once, and the variables handed to the services.

A component is external when its variable names another address than its own local one; it is
then not started. Local credentials belong to the stack: no service has a default for a secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from shopstream_stack.errors import StackError
from shopstream_stack.ports import LOOPBACK

Service = Literal["api", "notifications", "analytics", "web"]
SERVICES: Final[tuple[Service, ...]] = ("api", "notifications", "analytics", "web")
CLIENT_IDS: Final[Mapping[Service, str]] = {
    "api": "api-service",
    "notifications": "notifications-service",
    "analytics": "analytics-service",
}
# Set per service by the stack, so never taken over from the caller's environment.
PER_SERVICE: Final = frozenset({"PORT", "HEALTH_PORT", "KAFKA_CLIENT_ID"})
# The few variables a component gets: MinIO, for one, reads names that mean something else here.
COMPONENT_VARIABLES: Final = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "JAVA_HOME"),
)
# What an address of PostgreSQL without a port means.
POSTGRES_PORT: Final = 5432
# Their values never stand in a message.
_SECRETS: Final = frozenset({"DATABASE_URL", "MINIO_SECRET_KEY"})
#: In the data folder: what verify found last, also for the operators' routes.
VERIFY_REPORT: Final = "verify/report.json"
_LOCAL_HOSTS: Final = frozenset({"localhost", LOOPBACK, "::1"})
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})


class StackSettings(BaseModel):
    """Ports, folders and addresses of one system; see `load`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    api_port: int = Field(3000, ge=1, le=65_535, alias="SHOPSTREAM_API_PORT")
    notifications_port: int = Field(3001, ge=1, le=65_535, alias="SHOPSTREAM_NOTIFICATIONS_PORT")
    analytics_port: int = Field(8080, ge=1, le=65_535, alias="SHOPSTREAM_ANALYTICS_PORT")
    web_port: int = Field(5173, ge=1, le=65_535, alias="SHOPSTREAM_WEB_PORT")
    kafka_port: int = Field(9092, ge=1, le=65_535, alias="SHOPSTREAM_KAFKA_PORT")
    postgres_port: int = Field(POSTGRES_PORT, ge=1, le=65_535, alias="SHOPSTREAM_POSTGRES_PORT")
    dynamodb_port: int = Field(8000, ge=1, le=65_535, alias="SHOPSTREAM_DYNAMODB_PORT")
    dynamodb_admin_port: int = Field(8001, ge=1, le=65_535, alias="SHOPSTREAM_DYNAMODB_ADMIN_PORT")
    minio_port: int = Field(9000, ge=1, le=65_535, alias="SHOPSTREAM_MINIO_PORT")
    minio_console_port: int = Field(9001, ge=1, le=65_535, alias="SHOPSTREAM_MINIO_CONSOLE_PORT")

    # For the page's own server, which is a service like the others.
    own_port: int | None = Field(None, ge=1, le=65_535, alias="PORT")
    host: str = Field(LOOPBACK, alias="SHOPSTREAM_HOST")

    data_dir: Path = Field(alias="SHOPSTREAM_DATA_DIR")
    cache_dir: Path = Field(alias="SHOPSTREAM_CACHE_DIR")
    # The stream service's own; `down` waits for it.
    drain_seconds: float = Field(10.0, ge=0, le=3_600, alias="SHOPSTREAM_DRAIN_SECONDS")

    # Short-lived Java processes, or the broker alone: half the start, less throughput later; for
    # tests and benchmarks.
    quick_java: Literal["false", "true", "kafka"] = Field("false", alias="SHOPSTREAM_QUICK_JAVA")
    # How far what lies behind the log yields to what somebody waits for: analytics and its stores.
    background_nice: int = Field(10, ge=0, le=19, alias="SHOPSTREAM_BACKGROUND_NICE")
    # Whether PostgreSQL waits for the disk; tests need only survive a killed process.
    postgres_fsync: bool = Field(default=True, alias="SHOPSTREAM_POSTGRES_FSYNC")

    database_url: SecretStr | None = Field(None, alias="DATABASE_URL")
    kafka_brokers: str | None = Field(None, alias="KAFKA_BROKERS")
    dynamo_endpoint: str | None = Field(None, alias="DYNAMO_ENDPOINT")
    minio_endpoint: str | None = Field(None, alias="MINIO_ENDPOINT")
    minio_access_key: str = Field("minio", alias="MINIO_ACCESS_KEY", min_length=3)
    minio_secret_key: SecretStr = Field(
        SecretStr("minio123"), alias="MINIO_SECRET_KEY", min_length=8
    )

    # Holds secrets of the caller: handed on, never shown.
    environ: Mapping[str, str] = Field(repr=False)
    project: Path

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the settings from `environ`, the process's own when None.

        Raises StackError, in one line a variable, when a value does not fit.
        """
        taken = dict(os.environ if environ is None else environ)
        project = project_root()
        # An empty variable is an unset one.
        values: dict[str, object] = {name: value for name, value in taken.items() if value}
        values.setdefault("SHOPSTREAM_DATA_DIR", str(project / ".shopstream"))
        home = taken.get("HOME") or str(Path.home())
        values.setdefault("SHOPSTREAM_CACHE_DIR", str(Path(home) / ".cache" / "shopstream"))
        try:
            return cls.model_validate({**values, "environ": taken, "project": project})
        except ValidationError as error:
            lines = [
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
                + ("" if fault["loc"][0] in _SECRETS else f" (is {fault['input']!r})")
                for fault in error.errors()
            ]
        # Not with pydantic's error as its context, which no garbage collection would ever free.
        raise StackError("\n".join(lines))

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return self.data_dir.expanduser().resolve()

    @property
    def cache(self) -> Path:
        """The cache folder, absolute."""
        return self.cache_dir.expanduser().resolve()

    @property
    def kafka_is_local(self) -> bool:
        """Whether this stack runs the broker."""
        return _is_local(self.kafka_brokers, self.kafka_port)

    @property
    def postgres_is_local(self) -> bool:
        """Whether this stack runs the database server."""
        return _is_local(_open(self.database_url), self.postgres_port, POSTGRES_PORT)

    @property
    def dynamodb_is_local(self) -> bool:
        """Whether this stack runs DynamoDB Local (and its admin page)."""
        return _is_local(self.dynamo_endpoint, self.dynamodb_port)

    @property
    def minio_is_local(self) -> bool:
        """Whether this stack runs MinIO."""
        return _is_local(self.minio_endpoint, self.minio_port)

    @property
    def postgres_url(self) -> str:
        """The database's address as the services get it."""
        local = f"postgresql://postgres:password@{LOOPBACK}:{self.postgres_port}/app"
        return _open(self.database_url) or local

    @property
    def postgres_login(self) -> tuple[str, str, str]:
        """User, password and database name of the local server."""
        parts = urlsplit(self.postgres_url)
        return (
            unquote(parts.username or "postgres"),
            unquote(parts.password or "password"),
            unquote(parts.path.strip("/") or "app"),
        )

    @property
    def addresses(self) -> dict[str, str]:
        """The variables that tell a service where the components are."""
        return {
            "DATABASE_URL": self.postgres_url,
            "KAFKA_BROKERS": self.kafka_brokers or f"{LOOPBACK}:{self.kafka_port}",
            "DYNAMO_ENDPOINT": self.dynamo_endpoint or f"http://{LOOPBACK}:{self.dynamodb_port}",
            "MINIO_ENDPOINT": self.minio_endpoint or f"http://{LOOPBACK}:{self.minio_port}",
        }

    @property
    def credentials(self) -> dict[str, str]:
        """Local credentials, for local components only; an external one brings its own."""
        found: dict[str, str] = {}
        if self.dynamodb_is_local:
            found |= {"AWS_ACCESS_KEY_ID": "fake", "AWS_SECRET_ACCESS_KEY": "fake"}
            found |= {"AWS_REGION": "us-east-1"}
        if self.minio_is_local:
            found["MINIO_ACCESS_KEY"] = self.minio_access_key
            found["MINIO_SECRET_KEY"] = self.minio_secret_key.get_secret_value()
        return found

    def port_of(self, service: Service) -> int:
        """The port a service listens on."""
        return {
            "api": self.api_port,
            "notifications": self.notifications_port,
            "analytics": self.analytics_port,
            "web": self.web_port,
        }[service]

    def service_environ(self, service: Service) -> dict[str, str]:
        """The whole environment of one service: the caller's, with the stack's own in place.

        The caller's value wins wherever it has one, except for PORT, HEALTH_PORT and
        KAFKA_CLIENT_ID, which differ from service to service.
        """
        taken = {name: value for name, value in self.environ.items() if name not in PER_SERVICE}
        filled = {name: value for name, value in taken.items() if value}
        defaults = {**self.addresses, **self.credentials, "PYTHONUNBUFFERED": "1"}
        filled |= _past_proxies(taken)
        port = "HEALTH_PORT" if service == "analytics" else "PORT"
        own = {port: str(self.port_of(service))}
        if service == "analytics":
            defaults |= self._seen_by_analytics()
        if service in CLIENT_IDS:
            own["KAFKA_CLIENT_ID"] = CLIENT_IDS[service]
        return {**taken, **defaults, **filled, **own}

    def _seen_by_analytics(self) -> dict[str, str]:
        """What its operators' routes show of the others."""
        others: tuple[Service, ...] = ("api", "notifications")
        services = (f"{name}=http://{LOOPBACK}:{self.port_of(name)}" for name in others)
        return {
            "SHOPSTREAM_OVERVIEW_SERVICES": ",".join(services),
            "SHOPSTREAM_VERIFY_REPORT": str(self.data / VERIFY_REPORT),
        }

    def component_environ(self, **own: str) -> dict[str, str]:
        """The environment of a component: the bare machine's and its own variables."""
        bare = {name: self.environ[name] for name in COMPONENT_VARIABLES if name in self.environ}
        return {**bare, **own}


def project_root() -> Path:
    """The folder of this checkout, or the working folder when installed without one."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "pyproject.toml").is_file():
            return folder
    return Path.cwd()


def _past_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """A proxy of the caller is not for the loopback address, but boto3 would ask it there."""
    if not any(name.lower() in _PROXIES and value for name, value in environ.items()):
        return {}
    named = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    direct = ",".join([*filter(None, named.split(",")), *sorted(_LOCAL_HOSTS)])
    return {"no_proxy": direct, "NO_PROXY": direct}


def _open(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _is_local(address: str | None, port: int, port_unsaid: int | None = None) -> bool:
    if address is None:
        return True
    if "," in address:
        return False
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        named = parts.hostname, parts.port or port_unsaid
    except ValueError:
        return False
    return named[0] in _LOCAL_HOSTS and named[1] == port
