"""What the stack says when something is missing or in the way."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable

import pytest
from rich.console import Console

from shopstream_stack import cli, rebuild
from shopstream_stack.console import Lines, Spinners, reporting
from shopstream_stack.errors import PortBusyError, StackError, StartFailedError
from shopstream_stack.status import Row, table
from shopstream_stack.tools import JAVA, MAVEN, NODE, Tool, require


def test_a_busy_port_is_told_with_its_holder_and_the_variable_that_moves_it() -> None:
    error = PortBusyError("kafka", 9092, "SHOPSTREAM_KAFKA_PORT", "process 12 (other-broker)")
    assert str(error) == (
        "Port 9092, wanted by kafka, is held by process 12 (other-broker). "
        "Stop that program, or set SHOPSTREAM_KAFKA_PORT to a free port."
    )


def test_a_failed_start_is_told_with_the_end_of_the_log() -> None:
    error = StartFailedError("minio", "it ended early", "/data/logs/minio.log", "disk full")
    assert str(error) == (
        "minio did not start: it ended early. Its log is /data/logs/minio.log\ndisk full"
    )


def test_every_missing_tool_is_named_at_once_with_version_and_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StackError) as error:
        require([JAVA, MAVEN, NODE])
    lines = str(error.value).splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "java 17 or newer is needed",
        "mvn 3.6 or newer is needed",
        "node 20.19 or newer is needed",
    ]
    assert all("Install" in line for line in lines)


def test_a_tool_that_is_too_old_is_told_with_the_version_found() -> None:
    old = Tool("sh", ("-c", "echo tool version 1.2.3"), (2,), "Get it anew.")
    with pytest.raises(StackError, match=r"sh 2 or newer is needed \(found 1.2.3\). Get it anew."):
        require([old])


def test_digits_of_colour_codes_are_no_version() -> None:
    require([Tool("sh", ("-c", r"printf '\033[1mTool 3.8.7\033[m'"), (3, 6), "")])


def test_digits_of_a_jvms_extra_options_are_no_version() -> None:
    said = "Picked up JAVA_TOOL_OPTIONS: -Xmx512m"
    new = Tool("sh", ("-c", f"printf '{said}\\nopenjdk version \"17.0.1\"' >&2"), (17,), "")
    require([new])
    old = Tool("sh", ("-c", f"printf '{said}\\nopenjdk version \"11.0.1\"' >&2"), (17,), "")
    with pytest.raises(StackError, match=r"found 11\.0\.1"):
        require([old])


def test_a_reason_with_brackets_is_shown_as_it_is() -> None:
    text = io.StringIO()
    row = Row("api", 7, "3000", "unhealthy", 'answers 503: {"letters": [/none]}', None)
    Console(file=text, width=160).print(table([row]))
    assert 'answers 503: {"letters": [/none]}' in text.getvalue()


def test_a_step_that_fails_into_a_pipe_says_so() -> None:
    text = io.StringIO()
    with (
        reporting(Console(file=text)) as reporter,
        pytest.raises(StackError),
        reporter.step("Building MinIO"),
    ):
        raise StackError("no")
    assert text.getvalue().splitlines()[1].startswith("Building MinIO: failed after ")


def test_progress_into_a_pipe_is_a_line_at_the_start_and_one_at_the_end() -> None:
    text = io.StringIO()
    with reporting(Console(file=text)) as reporter, reporter.step("Building MinIO"):
        assert text.getvalue() == "Building MinIO …\n"
    assert isinstance(reporter, Lines)
    assert text.getvalue().splitlines()[1].startswith("Building MinIO: ")


def test_progress_on_a_terminal_is_a_spinner() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True)
    with reporting(console) as reporter, reporter.step("Building MinIO"):
        assert isinstance(reporter, Spinners)
    assert "Building MinIO" in text.getvalue()


def test_a_full_disk_is_one_line_and_a_fault_of_the_code_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(number: int) -> Callable[[], None]:
        def run() -> None:
            raise OSError(number, os.strerror(number), "/data/kafka")

        return run

    monkeypatch.setattr(cli, "app", fails(errno.ENOSPC))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "No space left on device: '/data/kafka'\n" in capsys.readouterr().err
    monkeypatch.setattr(cli, "app", fails(errno.ECONNREFUSED))
    with pytest.raises(ConnectionRefusedError):
        cli.main()


def test_of_each_kind_of_difference_the_first_few_are_shown_and_the_others_counted() -> None:
    console = Console(record=True, width=120)
    missing = [rebuild.Difference("missing", f"SELLER#{n}", "expected 1") for n in range(40)]
    other = rebuild.Difference("differs", "SELLER#x", "1, expected 2")
    parts = [rebuild.Partition("shop.orders/0", 9, [*missing, other])]
    report = rebuild.Report(
        table="T", compared=True, differing=200, live_items=300, partitions=parts
    )
    rebuild.show(console, report)
    said = console.export_text()
    assert said.count("missing: ") == rebuild.SHOWN_MAX
    assert "differs: SELLER#x" in said
    assert f"and {200 - rebuild.SHOWN_MAX - 1} more" in said
    assert "200 of 300 live items differ." in said
