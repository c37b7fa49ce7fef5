"""Logs that a machine can read and a stranger may."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from shopstream_shared import logs


class Lines:
    """What was logged, a parsed line each."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def __call__(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Logging set up for the service `example`, and undone after."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    access = logging.getLogger("uvicorn.access")
    disabled = access.disabled
    captured = Lines()
    logs.configure("example", stream=captured.stream)
    yield captured
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
    access.disabled = disabled


def test_a_line_is_one_json_object_with_service_level_logger_and_time(lines: Lines) -> None:
    logs.get_logger("shop.orders").info("order_placed", order_id="o1", lines=2)

    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "order_placed",
        "order_id": "o1",
        "lines": 2,
        "level": "info",
        "logger": "shop.orders",
        "service": "example",
    }


def test_the_correlation_id_travels_with_every_line_of_its_context(lines: Lines) -> None:
    with structlog.contextvars.bound_contextvars(correlation_id="c1"):
        logs.get_logger("ours").info("one")
        logging.getLogger("library").warning("two")
    logs.get_logger("ours").info("three")

    assert [line.get("correlation_id") for line in lines()] == ["c1", "c1", None]


def test_secrets_are_masked_wherever_they_stand(lines: Lines) -> None:
    logs.get_logger("ours").info(
        "connecting",
        password="s3cr3t",
        DATABASE_URL="postgresql://postgres:s3cr3t@localhost/app",
        key=SecretStr("s3cr3t"),
        headers={"Authorization": "s3cr3t", "x-api-key": "s3cr3t", "accept": "*/*"},
        nested={"a": {"b": {"c": {"d": {"e": "s3cr3t"}}}}},
        several=[{"token": "s3cr3t"}, ({"token": "s3cr3t"}, "plain")],
    )
    logging.getLogger("library").warning("failed", extra={"secret_key": "s3cr3t"})

    assert "s3cr3t" not in lines.stream.getvalue()
    first, second = lines()
    assert first["password"] == first["key"] == first["headers"]["Authorization"] == "***"
    assert first["headers"]["accept"] == "*/*"
    assert first["several"] == [{"token": "***"}, [{"token": "***"}, "plain"]]
    assert second["secret_key"] == "***"


def test_a_traceback_holds_no_local_variables(lines: Lines) -> None:
    def fail(credential: str) -> None:
        raise RuntimeError("broken")

    try:
        fail("s3cr3t")
    except RuntimeError:
        logs.get_logger("ours").exception("failed")
        logging.getLogger("library").exception("failed too")

    assert "s3cr3t" not in lines.stream.getvalue().replace('fail(\\"s3cr3t\\")', "")
    for line in lines():
        assert line["exception"][0]["exc_type"] == "RuntimeError"
        assert line["exception"][0]["exc_value"] == "broken"


def test_a_line_break_in_a_value_stays_in_its_line(lines: Lines) -> None:
    logs.get_logger("ours").info("named", name='a\nb\r\u2028"}')

    (line,) = lines()
    assert line["name"] == 'a\nb\r\u2028"}'


def test_a_line_of_uvicorn_is_not_said_twice(lines: Lines) -> None:
    logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "Started"})

    (line,) = lines()
    assert line["event"] == "Started"
    assert "color_message" not in line


def test_what_is_below_the_level_is_not_logged(lines: Lines) -> None:
    logs.get_logger("ours").debug("detail")
    logging.getLogger("library").debug("detail")

    assert lines() == []


def test_anything_can_be_logged(lines: Lines) -> None:
    logs.get_logger("ours").info("odd", value=object(), raw=b"\xff", kinds={1, 2})

    assert len(lines()) == 1


def test_dead_variables_are_named_in_one_wording(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_ANALYSIS_SERVICE_CLIENT_ID", raising=False)
    monkeypatch.setenv("ENABLE_ANALYTICS", "true")
    logs.warn_of_dead_variables()
    (line,) = lines()
    assert (line["level"], line["event"]) == ("warning", "variable is no longer used")
    assert line["variable"] == "ENABLE_ANALYTICS"
