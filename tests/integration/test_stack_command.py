"""The `shopstream` command on real components: idempotent, exact about what it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.support.components import free_ports, machine_environ

from shopstream_stack.ports import reserved_ports
from shopstream_stack.process import Record, Runner, started_mark
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System

COMMAND = str(Path(sys.executable).with_name("shopstream"))
COMMAND_SECONDS_MAX = 120
# Two that start within a second: what is shown holds for each.
NAMES = ("postgres", "minio")


class Command:
    """The command line with variables of its own."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self.settings = StackSettings.load(environ)
        self.runner = Runner(self.settings.data)

    def __call__(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        # Through a pipe, which closes only when nobody holds it: the command must not hand it on.
        return subprocess.run(
            [COMMAND, *words],
            env={**self.environ, **more},
            text=True,
            capture_output=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )

    def record(self, name: str) -> Record:
        found = self.runner.living(name)
        assert found is not None, f"{name} is not running"
        return found


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    with reserved_ports() as ports:
        environ = {
            **machine_environ(),
            **free_ports(ports),
            "SHOPSTREAM_DATA_DIR": str(tmp_path / "data"),
            "SHOPSTREAM_POSTGRES_FSYNC": "false",
        }
        made = Command(environ)
        yield made
        system = System(made.settings)
        system.stop_all()
        system.forget()


@pytest.mark.parametrize("words", ["verify", "topics ls", "topics apply", "topics adopt"])
def test_what_asks_the_running_system_says_at_once_that_it_is_not_running(
    command: Command, words: str
) -> None:
    done = command(*words.split())
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("kafka, postgres")
    assert line.endswith("not running: start the system with `make up`")


def test_up_twice_is_once(command: Command) -> None:
    first = command("up", *NAMES)
    assert first.returncode == 0, first.stderr
    pids = [command.record(name).pid for name in NAMES]
    again = command("up", *NAMES)
    assert again.returncode == 0
    assert [command.record(name).pid for name in NAMES] == pids
    assert "ran already" not in first.stdout
    assert "a changed variable takes effect after `make down`" in again.stdout


def test_two_ups_at_once_are_one(command: Command) -> None:
    both = [
        subprocess.Popen([COMMAND, "up", "minio"], env=command.environ, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [one.wait(COMMAND_SECONDS_MAX) for one in both] == [0, 0]
    minio = str(command.settings.data / "minio")
    assert (
        len([p for p in psutil.process_iter(["cmdline"]) if minio in (p.info["cmdline"] or ())])
        == 1
    )


def test_up_restarts_only_what_was_killed(command: Command) -> None:
    command("up", *NAMES)
    before = {name: command.record(name).pid for name in NAMES}
    os.kill(before["minio"], signal.SIGKILL)
    assert command("up", *NAMES).returncode == 0
    after = {name: command.record(name).pid for name in NAMES}
    assert after["postgres"] == before["postgres"]
    assert after["minio"] != before["minio"]


def test_down_leaves_no_process_and_up_finds_the_data_again(command: Command) -> None:
    command("up", *NAMES)
    pids = [command.record(name).pid for name in NAMES]
    groups = {pid: psutil.Process(pid).children(recursive=True) for pid in pids}
    with psycopg.connect(command.settings.postgres_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    done = command("down")
    assert done.returncode == 0
    assert "Stopped postgres, minio." in done.stdout
    assert [started_mark(pid) for pid in pids] == [None, None]
    assert not any(child.is_running() for children in groups.values() for child in children)
    assert "Nothing was running." in command("down").stdout
    command("up", "postgres")
    with psycopg.connect(command.settings.postgres_url) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_reset_forgets_the_data(command: Command) -> None:
    command("up", "postgres")
    with psycopg.connect(command.settings.postgres_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    assert command("reset").returncode == 0
    assert not command.settings.data.exists()
    command("up", "postgres")
    with psycopg.connect(command.settings.postgres_url) as connection:
        found = connection.execute("SELECT to_regclass('kept')").fetchone()
    assert found == (None,)


def test_a_data_folder_deleted_by_hand_does_not_find_its_old_database(command: Command) -> None:
    command("up", "postgres")
    with psycopg.connect(command.settings.postgres_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    command("down")
    (command.settings.data / "postgres-home").unlink()
    command("up", "postgres")
    with psycopg.connect(command.settings.postgres_url) as connection:
        found = connection.execute("SELECT to_regclass('kept')").fetchone()
    assert found == (None,)


def test_a_busy_port_is_told_before_anything_starts(command: Command) -> None:
    port = command.settings.minio_port
    with socket.create_server(("127.0.0.1", port)):
        done = command("up", *NAMES)
    assert done.returncode == 1
    assert f"Port {port}, wanted by minio, is held by process {os.getpid()}" in done.stderr
    assert "set SHOPSTREAM_MINIO_PORT to a free port" in done.stderr
    assert "Traceback" not in done.stderr
    assert command.runner.names() == []


def test_a_program_on_the_ipv6_loopback_is_in_the_way_too(command: Command) -> None:
    port = command.settings.minio_console_port
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        done = command("up", "minio")
    assert done.returncode == 1
    assert "SHOPSTREAM_MINIO_CONSOLE_PORT" in done.stderr


def test_an_external_component_is_not_started_even_by_name(command: Command) -> None:
    done = command("up", "minio", MINIO_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "minio is external: its variable points elsewhere" in done.stderr
    assert "redis is unknown; the parts are kafka," in command("up", "redis").stderr


def test_a_missing_tool_is_told_with_version_and_source(command: Command, tmp_path: Path) -> None:
    done = command("up", PATH="", SHOPSTREAM_CACHE_DIR=str(tmp_path / "empty-cache"))
    assert done.returncode == 1
    assert "java 17 or newer is needed (not found on PATH)" in done.stderr
    for tool in ("mvn", "go", "node", "npm"):
        assert f"\n{tool} " in done.stderr
    assert "Traceback" not in done.stderr
    assert command.runner.names() == []


def test_a_wrong_variable_is_one_line_and_exit_2(command: Command) -> None:
    done = command("up", SHOPSTREAM_MINIO_PORT="none")
    assert done.returncode == 2
    assert done.stderr.startswith("SHOPSTREAM_MINIO_PORT: ")
    assert done.stderr.count("\n") == 1


def test_up_on_another_port_than_the_living_one_says_so(command: Command) -> None:
    command("up", "minio")
    with reserved_ports() as ports:
        done = command("up", "minio", SHOPSTREAM_MINIO_PORT=str(ports.take()))
    assert done.returncode == 1
    assert f"minio already runs on port {command.settings.minio_port}" in done.stderr


def test_status_shows_a_line_a_process_and_fails_unless_all_are_up(command: Command) -> None:
    command("up", "minio")
    done = command("status")
    assert done.returncode == 1
    lines = {line.split("│")[1].strip(): line for line in done.stdout.splitlines() if "│" in line}
    assert "healthy" in lines["minio"]
    assert str(command.record("minio").pid) in lines["minio"]
    assert str(command.settings.minio_port) in lines["minio"]
    assert "MiB" in lines["minio"]
    assert "stopped" in lines["kafka"]


def test_a_recycled_pid_is_not_killed(command: Command) -> None:
    command("up", "minio")
    record = command.record("minio")
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        command("down")
        path = command.runner.run_dir / "minio.json"
        path.write_text(json.dumps({**asdict(record), "pid": bystander.pid}))
        command("down")
        assert bystander.poll() is None
        assert not path.exists()
    finally:
        bystander.kill()
        bystander.wait()


def test_logs_prints_what_a_process_wrote(command: Command) -> None:
    command("up", "postgres")
    done = command("logs", "postgres")
    assert "database system is ready to accept connections" in done.stdout
    assert "there are: postgres" in command("logs", "redis").stderr
