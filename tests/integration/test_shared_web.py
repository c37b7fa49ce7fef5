"""A service's process: it answers, ends by signal with exit 0, and says clearly what is wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

START_SECONDS = 20
#: Three times what the contract says.
STOP_SECONDS = 30

#: A whole service in a few lines, as each app's main wires it.
SERVICE = """
import asyncio, sys
from contextlib import asynccontextmanager
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from shopstream_shared.crash import CrashPoints
from shopstream_shared.health import Check, Health, Unhealthy
from shopstream_shared.web import bind, operations_routes, serve

async def well():
    return "answers"

async def ill():
    raise Unhealthy("away")

@asynccontextmanager
async def lifespan(app):
    if "fail" in sys.argv:
        raise RuntimeError("no start")
    yield

registry = CollectorRegistry()
Counter("example_total", "Example.", registry=registry).inc()
health = Health({"database": Check(well), "kafka": Check(ill, for_ready=False)})
async def caller(request):
    return PlainTextResponse(request.client.host)

routes = [*operations_routes(health, registry), Route("/caller", caller)]
app = Starlette(routes=routes, lifespan=lifespan)
listener = bind("127.0.0.1", int(sys.argv[1]), variable="HEALTH_PORT")
CrashPoints("bound" if "crash" in sys.argv else None).reach("bound")
print(listener.getsockname()[1], flush=True)
asyncio.run(serve(app, listener, on_stop=lambda: print("stopping", flush=True)))
print("stopped", flush=True)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the example service; whatever still runs after the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", SERVICE, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def port_of(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def get(port: int, path: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{path}", timeout=START_SECONDS
        ) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read().decode()


def test_health_tells_live_ready_and_the_whole_apart(start: Start) -> None:
    port = port_of(start(0))

    code, _, body = get(port, "/health")
    report: dict[str, Any] = json.loads(body)
    assert code == 503
    assert report["checks"]["kafka"]["message"] == "away"
    assert get(port, "/health/ready")[0] == 200
    assert get(port, "/health/live")[0] == 200
    code, kind, metrics = get(port, "/metrics")
    assert (code, kind.split(";")[0]) == (200, "text/plain")
    assert "example_total 1.0" in metrics


def test_a_caller_does_not_choose_its_address(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server believes loopback, and whom the environment names, unless it is told not to."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    port = port_of(start(0))
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/caller", headers={"X-Forwarded-For": "9.9.9.9"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.read() == b"127.0.0.1"


def test_the_containers_probe_is_content_with_ready_and_says_what_is_wrong_otherwise(
    start: Start,
) -> None:
    port = port_of(start(0))
    probe = [sys.executable, "-m", "shopstream_shared.health_probe", "PORT"]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]

    by_default = subprocess.run([*probe, str(port)], env={}, check=False, timeout=START_SECONDS)
    by_variable = subprocess.run(
        [*probe, str(nobody)], env={"PORT": str(port)}, check=False, timeout=START_SECONDS
    )
    away = subprocess.run(
        [*probe, str(nobody)],
        env={},
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )

    assert (by_default.returncode, by_variable.returncode, away.returncode) == (0, 0, 1)
    assert away.stderr.startswith(f"no answer on port {nobody}: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_exit_0(start: Start, number: signal.Signals) -> None:
    process = start(0)
    assert get(port_of(process), "/health/live")[0] == 200

    process.send_signal(number)
    out, err = process.communicate(timeout=STOP_SECONDS)

    assert (process.returncode, out.splitlines(), err) == (0, ["stopping", "stopped"], "")


def test_an_idle_connection_does_not_hold_up_the_end(start: Start) -> None:
    process = start(0)
    with socket.create_connection(("127.0.0.1", port_of(process))) as idle:
        idle.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        process.terminate()
        process.communicate(timeout=STOP_SECONDS)

    assert process.returncode == 0


def test_a_busy_port_is_one_line_and_exit_2(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        process = start(port)
        out, err = process.communicate(timeout=START_SECONDS)

    assert (process.returncode, out) == (2, "")
    assert err == (
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use;"
        " free it or set HEALTH_PORT\n"
    )


def test_a_start_that_fails_is_no_exit_0(start: Start) -> None:
    process = start(0, "fail")
    _, err = process.communicate(timeout=START_SECONDS)

    assert process.returncode == 3
    assert "no start" in err


def test_a_reached_crash_point_ends_the_process_at_once(start: Start) -> None:
    process = start(0, "crash")
    out, _ = process.communicate(timeout=START_SECONDS)

    assert (process.returncode, out) == (-signal.SIGKILL, "")
    assert os.getpid() != process.pid
