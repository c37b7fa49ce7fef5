"""`shopstream up` with everything: what it starts, what it hands over, what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support.components import free_ports, machine_environ

from shopstream_stack.ports import reserved_ports
from shopstream_stack.process import Runner, started_mark
from shopstream_stack.settings import StackSettings
from shopstream_stack.system import System

COMMAND = str(Path(sys.executable).with_name("shopstream"))
COMMAND_SECONDS_MAX = 200

# Several whole starts, on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    with reserved_ports() as ports:
        made = {
            **machine_environ(),
            **free_ports(ports),
            "SHOPSTREAM_DATA_DIR": str(tmp_path / "data"),
            "SHOPSTREAM_POSTGRES_FSYNC": "false",
            "SHOPSTREAM_QUICK_JAVA": "true",
            # Handed to every service; the first two must not be.
            "PORT": "1",
            "KAFKA_CLIENT_ID": "somebody",
            "LOW_STOCK_THRESHOLD": "7",
        }
        yield made
        system = System(StackSettings.load(made))
        system.stop_all()
        system.forget()


def run(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words],
        env=environ,
        text=True,
        capture_output=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


def test_up_brings_everything_and_down_leaves_nothing(environ: dict[str, str]) -> None:
    settings = StackSettings.load(environ)
    runner, names = Runner(settings.data), System(settings).names()

    first = run(environ, "up")
    assert first.returncode == 0, first.stderr
    assert run(environ, "status").returncode == 0
    pids = {name: record.pid for name in names if (record := runner.living(name))}
    assert sorted(pids) == sorted(names)

    # Each port's listener is the process that does the work.
    listeners = {
        (connection.laddr.port, connection.pid)
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    for name in names:
        record = runner.living(name)
        assert record is not None
        assert {(port, record.pid) for port in record.ports} <= listeners, name

    for name, client_id in (("api", "api-service"), ("analytics", "analytics-service")):
        given = psutil.Process(pids[name]).environ()
        assert given["KAFKA_CLIENT_ID"] == client_id
        assert given["LOW_STOCK_THRESHOLD"] == "7"

    os.kill(pids["notifications"], signal.SIGKILL)
    assert run(environ, "status").returncode == 1
    assert run(environ, "up").returncode == 0
    after = {name: record.pid for name in names if (record := runner.living(name))}
    assert {name for name in names if after[name] != pids[name]} == {"notifications"}

    page = httpx.get(f"http://127.0.0.1:{settings.web_port}/")
    assert "text/html" in page.headers["content-type"]

    everyone = [
        process
        for pid in after.values()
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    ]
    assert run(environ, "down").returncode == 0
    assert [process for process in everyone if started_mark(process.pid) is not None] == []
    assert runner.names() == []
