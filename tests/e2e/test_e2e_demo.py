"""The demo's verification, run whole on a test system: it holds, and it sees planted faults."""

import io
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from tests.support.system import LocalSystem, wait_until

from shopstream_stack.demo.command import run_once
from shopstream_stack.demo.evidence import Readback
from shopstream_stack.demo.rest import SEED_BODY
from shopstream_stack.demo.target import Target

pytestmark = pytest.mark.timeout(300)

#: "Verification Steps" of the migration guide, as printed there.
GUIDE_POST = (
    "curl -X POST http://localhost:3000/products "
    '-H "Content-Type: application/json" '
    f"-d '{SEED_BODY}'"
)
GUIDE_STREAM = 'curl -N -H "Accept: text/event-stream" http://localhost:3001/events/stream'
GUIDE_READS = (
    "curl http://localhost:3000/health",
    "curl http://localhost:3001/health",
    "curl http://localhost:8080/health",
)
GUIDE_METRICS = "curl http://localhost:8080/metrics"


def run_demo(system: LocalSystem, plant: Any = None) -> tuple[int, str]:
    output = io.StringIO()
    console = Console(file=output, width=160)
    code = run_once(Target.local(system.settings), system.settings, console, plant)
    return code, output.getvalue()


def test_the_demo_holds_and_leaves_a_journal_of_all_it_did(system: LocalSystem) -> None:
    code, text = run_demo(system)
    assert code == 0, text
    assert "WRONG" not in text
    assert "From POST to browser" in text
    newest = max((system.settings.data / "journal").glob("demo-*.jsonl"))
    lines = [json.loads(line) for line in newest.read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds.count("client") == 50
    assert [line["resumed"] for line in lines if line["kind"] == "connected"].count(True) >= 1
    written = {line["answer"].get("id") for line in lines if line["kind"] == "write"}
    heard = {line["subject"] for line in lines if line["kind"] == "received"}
    # Others may write at the same time; what this run wrote was heard.
    assert written - {None} <= heard
    assert len({line["eventId"] for line in lines if line["kind"] == "received"}) > 100


def test_the_demo_sees_a_lost_event_a_doubled_one_and_an_aggregate_off_by_one(
    system: LocalSystem,
) -> None:
    def plant(readback: Readback) -> Readback:
        (seller, totals), *others = readback.sellers.items()
        off_by_one: Mapping[str, Any] = {**totals, "units": totals["units"] + 1}
        return replace(
            readback,
            log=readback.log[1:],
            archive=(*readback.archive, readback.archive[-1]),
            sellers={seller: off_by_one, **dict(others)},
        )

    code, text = run_demo(system, plant)
    assert code == 1
    assert "Kafka: events, read committed: lost: " in text
    assert "MinIO: archived events, chain, sha256: doubled: " in text
    assert "units is " in text


def on_ports_of(system: LocalSystem, command: str) -> str:
    """The guide's command with the ports of this test's system."""
    settings = system.settings
    for printed, used in (
        (3000, settings.api_port),
        (3001, settings.notifications_port),
        (8080, settings.analytics_port),
    ):
        command = command.replace(f"localhost:{printed}/", f"localhost:{used}/")
    return command


def shell(command: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


@contextmanager
def streaming(command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    """What curl prints up to the line that holds ``wanted``; the test's timeout bounds it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError(f"the stream ended before {wanted!r}: {lines}")


def test_the_migration_guides_verification_steps_pass_as_printed(system: LocalSystem) -> None:
    for command in GUIDE_READS:
        assert json.loads(shell(on_ports_of(system, command)))["status"] == "healthy"
    assert "# TYPE " in shell(on_ports_of(system, GUIDE_METRICS))
    with streaming(on_ports_of(system, GUIDE_STREAM)) as stream:
        lines_until(stream, "stream.open")
        product = json.loads(shell(on_ports_of(system, GUIDE_POST)))
        assert (product["name"], product["price"], product["stock"]) == ("Test Product", 99.99, 10)
        event = lines_until(stream, product["id"])[-1]
    assert json.loads(event.removeprefix("data:"))["type"] == "product.created"
    processed = on_ports_of(
        system, f"curl -s http://localhost:8080/aggregates/products/{product['id']}"
    )
    wait_until(
        lambda: json.loads(shell(processed))["totals"]["events"] == 1,
        "the product's event to be aggregated",
    )


def test_the_demo_says_in_one_line_that_a_service_is_not_there(system: LocalSystem) -> None:
    nowhere = replace(Target.local(system.settings), analytics="http://127.0.0.1:1")
    output = io.StringIO()
    code = run_once(nowhere, system.settings, Console(file=output, width=200))
    said = output.getvalue().strip().splitlines()
    assert code == 1
    assert said[-1].startswith("The demo could not go on: ConnectError")
    assert "Traceback" not in output.getvalue()
