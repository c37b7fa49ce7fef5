"""How every service reads its settings: once, from the environment, with one clear line on error.

A class of settings names each variable as the operator writes it. Secrets are SecretStr and have
no default. Nothing outside a ``settings.py`` reads the environment.
"""

import os
import re
import sys
from ipaddress import ip_address
from typing import Annotated, ClassVar, Final, Literal, NoReturn, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

EXIT_USAGE: Final = 2
#: Variables of the monolith that no longer do anything: named in a warning when set.
DEAD_VARIABLES: Final = ("ENABLE_ANALYTICS", "KAFKA_ANALYSIS_SERVICE_CLIENT_ID")

PORT_MAX: Final = 65_535
Port = Annotated[int, Field(ge=0, le=PORT_MAX)]


def _brokers(value: object) -> object:
    """Check ``host:port,host:port``; IPv6 hosts stand in brackets."""
    if not isinstance(value, str):
        return value
    for broker in value.split(","):
        host, colon, port = broker.strip().rpartition(":")
        # At most five digits, so that a long number is a fault and no exception of int().
        if not (host and colon and port.isascii() and port.isdigit() and len(port) <= len("65535")):
            raise ValueError("each broker must be host:port")
        if int(port) > PORT_MAX:
            msg = f"a port is at most {PORT_MAX}"
            raise ValueError(msg)
    return ",".join(broker.strip() for broker in value.split(","))


Brokers = Annotated[str, BeforeValidator(_brokers)]


class _Environment(EnvSettingsSource):
    """The environment by alias alone: code may name a field, the variable HOST is no `host`."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.config = SettingsConfigDict(**{**self.config, "populate_by_name": False})


class Settings(BaseSettings):
    """The base of each service's settings: frozen; every field's alias is its variable."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        case_sensitive=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What code passes, else the environment; no files."""
        return init_settings, _Environment(settings_cls)

    @classmethod
    def read(cls) -> Self:
        """Read the environment. Raises pydantic.ValidationError."""
        return cls()

    @classmethod
    def read_or_exit(cls) -> Self:
        """Read the environment; a wrong or missing variable is one line on stderr and exit 2."""
        try:
            return cls.read()
        except ValidationError as error:
            problem = describe(error)
        # Not as its context: pydantic's error takes no part in garbage collection, and would keep
        # every frame up to here, and all that they hold, to the end of the process.
        return exit_usage(problem)


def _comma_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_list)]


#: 16 random characters of base64 are 96 bits.
TOKEN_LENGTH_MIN: Final = 16
#: What a header can carry as it is.
TOKEN_TEXT: Final = re.compile(r"[!-~]+")


def checked_token(value: SecretStr | None) -> SecretStr | None:
    """An operator's token that is hard to guess. Raises ValueError, which does not show it."""
    if value is not None:
        text = value.get_secret_value()
        if len(text) < TOKEN_LENGTH_MIN or not TOKEN_TEXT.fullmatch(text):
            msg = f"at least {TOKEN_LENGTH_MIN} printable ASCII characters, no white space"
            raise ValueError(msg)
    return value


class ListenerSettings(Settings):
    """What every service that listens has: where, for which pages, and how loud its log is.

    Open mode, in which a caller may name any seller, stays at home.
    """

    host: str = Field(default="127.0.0.1", alias="SHOPSTREAM_HOST", min_length=1)
    # Identity comes later; until then another mode must not silently mean open.
    auth_mode: Literal["open"] = Field(default="open", alias="AUTH_MODE")
    open_on_any_address: bool = Field(default=False, alias="SHOPSTREAM_OPEN_ON_ANY_ADDRESS")
    cors_origins: CommaList = Field(default=("*",), alias="SHOPSTREAM_CORS_ORIGINS")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", alias="SHOPSTREAM_LOG_LEVEL"
    )

    @model_validator(mode="after")
    def _open_stays_at_home(self) -> Self:
        if not self.open_on_any_address and not _loopback(self.host):
            raise ValueError(
                "SHOPSTREAM_HOST: AUTH_MODE=open serves loopback only; "
                "set SHOPSTREAM_OPEN_ON_ANY_ADDRESS=true if the port is guarded otherwise"
            )
        return self


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def describe(error: ValidationError) -> str:
    """All faults in one line: the variable's name and what is wrong with it, never its value."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in fault["loc"])
        text = "is required" if fault["type"] == "missing" else fault["msg"]
        line = " ".join(text.removeprefix("Value error, ").split())
        # A fault between variables names them itself.
        faults.append(f"{name}: {line}" if name else line)
    return "; ".join(faults)


def exit_usage(message: str) -> NoReturn:
    """End the process as for a wrong command line: one line, exit 2, no traceback."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(EXIT_USAGE)


def child_environ(**more: str) -> dict[str, str]:
    """What a child process gets: our own environment, and more."""
    return {**os.environ, **more}


def dead_variables() -> list[str]:
    """Which variables of the monolith are set although nothing reads them any more."""
    return [name for name in DEAD_VARIABLES if name in os.environ]
