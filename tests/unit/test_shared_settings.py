"""Settings: the operator's names, one line for what is wrong, no secret in it."""

import pytest
from pydantic import Field, SecretStr, ValidationError, model_validator

from shopstream_shared.settings import (
    EXIT_USAGE,
    Brokers,
    ListenerSettings,
    Port,
    Settings,
    dead_variables,
)


class ExampleSettings(Settings):
    host: str = Field(default="127.0.0.1", alias="SHOPSTREAM_HOST")
    port: Port = Field(default=3000, alias="PORT")
    brokers: Brokers = Field(default="localhost:9092", alias="KAFKA_BROKERS")
    key: SecretStr = Field(alias="AWS_SECRET_ACCESS_KEY", min_length=8)

    @model_validator(mode="after")
    def _consistent(self) -> "ExampleSettings":
        if self.host == self.brokers:
            raise ValueError("first line\nsecond line")
        return self


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHOPSTREAM_HOST", "PORT", "KAFKA_BROKERS", "HOST", "KEY", "host"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush-hush")


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        ExampleSettings.read_or_exit()
    assert caught.value.code == EXIT_USAGE == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_what_is_not_set_has_its_default() -> None:
    settings = ExampleSettings.read_or_exit()

    assert (settings.host, settings.port, settings.brokers) == (
        "127.0.0.1",
        3000,
        "localhost:9092",
    )


def test_variables_are_read_by_their_whole_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells export HOST: the field of that name must not take it."""
    for name in ("HOST", "host", "BROKERS", "KEY", "shopstream_host"):
        monkeypatch.setenv(name, "elsewhere")

    settings = ExampleSettings.read()

    assert settings.host == "127.0.0.1"
    assert settings.key.get_secret_value() == "hush-hush-hush"


def test_every_wrong_variable_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "many")
    monkeypatch.setenv("KAFKA_BROKERS", "nowhere")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    line = refusal(capsys)

    assert "PORT: " in line
    assert "KAFKA_BROKERS: each broker must be host:port" in line
    assert "AWS_SECRET_ACCESS_KEY: is required" in line


def test_the_value_of_a_wrong_secret_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")

    line = refusal(capsys)

    assert "AWS_SECRET_ACCESS_KEY" in line
    assert "s3cr3t" not in line


def test_a_fault_between_variables_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOPSTREAM_HOST", "localhost:9092")

    assert refusal(capsys) == "error: first line second line\n"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("broker:9092", "broker:9092"),
        (" a:1 , b:2 ", "a:1,b:2"),
        ("[::1]:9092", "[::1]:9092"),
    ],
)
def test_brokers_are_hosts_with_ports(text: str, read: str) -> None:
    assert (
        ExampleSettings(KAFKA_BROKERS=text, AWS_SECRET_ACCESS_KEY=SecretStr("12345678")).brokers
        == read
    )


@pytest.mark.parametrize(
    "text",
    ["", "broker", ":9092", "broker:", "broker:x", "a:1,,b:2", "a:65536", "a:" + "1" * 9_000],
)
def test_anything_else_is_no_list_of_brokers(text: str) -> None:
    with pytest.raises(ValidationError):
        ExampleSettings(KAFKA_BROKERS=text, AWS_SECRET_ACCESS_KEY=SecretStr("12345678"))


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_is_a_port(port: int) -> None:
    with pytest.raises(ValidationError):
        ExampleSettings(PORT=port, AWS_SECRET_ACCESS_KEY=SecretStr("12345678"))


def test_settings_do_not_change_once_read() -> None:
    settings = ExampleSettings.read()

    with pytest.raises(ValidationError):
        settings.port = 1


def test_the_printed_settings_show_no_secret() -> None:
    assert "hush" not in repr(ExampleSettings.read())


def test_the_dead_variables_of_the_monolith_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENABLE_ANALYTICS", "KAFKA_ANALYSIS_SERVICE_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)
    assert dead_variables() == []

    monkeypatch.setenv("ENABLE_ANALYTICS", "true")

    assert dead_variables() == ["ENABLE_ANALYTICS"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.7", "::1", "localhost"])
def test_open_mode_serves_this_machine(host: str) -> None:
    assert ListenerSettings(SHOPSTREAM_HOST=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_open_mode_serves_no_other_unless_told_to(host: str) -> None:
    """Whoever reaches the port may act for any seller."""
    with pytest.raises(ValidationError):
        ListenerSettings(SHOPSTREAM_HOST=host)


def test_open_mode_serves_any_address_when_told_to() -> None:
    settings = ListenerSettings(SHOPSTREAM_HOST="0.0.0.0", SHOPSTREAM_OPEN_ON_ANY_ADDRESS=True)

    assert settings.host == "0.0.0.0"


def test_a_mode_that_does_not_exist_yet_is_not_taken_for_open() -> None:
    with pytest.raises(ValidationError):
        ListenerSettings(AUTH_MODE="required")  # type: ignore[arg-type] # as an operator writes it
