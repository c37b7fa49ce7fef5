"""What runs now: a row a process, as `shopstream status` shows it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import psutil
import psycopg
from rich.markup import escape
from rich.table import Table

from shopstream_stack import health
from shopstream_stack.process import NotHealthyError
from shopstream_stack.system import COMPONENTS, System

State = Literal["healthy", "unhealthy", "stopped"]
_COLOURS: Final = {"healthy": "green", "unhealthy": "yellow", "stopped": "red"}
_MIB: Final = 1024 * 1024
REASON_CHARACTERS_MAX: Final = 160


@dataclass(frozen=True, slots=True)
class Row:
    """One process, or one external component (pid None, `where` its address)."""

    name: str
    pid: int | None
    where: str
    state: State
    reason: str
    memory_bytes: int | None


def rows(system: System) -> list[Row]:
    """The state of every part of the system, checked side by side."""
    external = [name for name in COMPONENTS if name not in system.local_components()]
    if not system.settings.dynamodb_is_local:
        external.remove("dynamodb-admin")  # nobody's: it belongs to the local one
    tasks: list[Callable[[], Row]] = [partial(_external, system, name) for name in external]
    tasks += [partial(_local, system, name) for name in system.names()]
    with ThreadPoolExecutor(max_workers=len(tasks)) as pool:
        return list(pool.map(lambda task: task(), tasks))


def table(found: list[Row]) -> Table:
    """The rows for people."""
    shown = Table(title="shopstream", title_justify="left")
    for name in ("name", "pid", "port", "health", "memory", "note"):
        shown.add_column(name, justify="right" if name in {"pid", "memory"} else "left")
    for row in found:
        memory = "" if row.memory_bytes is None else f"{row.memory_bytes / _MIB:,.0f} MiB"
        colour = _COLOURS[row.state]
        pid = "" if row.pid is None else str(row.pid)
        state = f"[{colour}]{row.state}[/]"
        # Reasons are the words of others; a bracket in them is no markup.
        shown.add_row(row.name, pid, escape(row.where), state, memory, escape(row.reason))
    return shown


def _local(system: System, name: str) -> Row:
    record = system.runner.living(name)
    spec = system.spec(name)
    wanted = [port.number for port in spec.ports]
    where = ", ".join(map(str, wanted if record is None else record.ports))
    if record is None:
        return Row(name, None, where, "stopped", "", None)
    processes, memory = family(record.pid)
    if record.ports != wanted:
        reason = f"runs on another port than the one asked for ({wanted[0]})"
        return Row(name, record.pid, where, "unhealthy", reason, memory)
    state, reason = _verdict(spec.check)
    if spec.kind == "service" and processes > 1:
        reason = reason or f"{processes} processes"
    return Row(name, record.pid, where, state, reason, memory)


def _external(system: System, name: str) -> Row:
    addresses = system.settings.addresses
    checks: dict[str, tuple[str, Callable[[], None]]] = {
        "kafka": (
            addresses["KAFKA_BROKERS"],
            lambda: health.kafka_serves(addresses["KAFKA_BROKERS"]),
        ),
        "postgres": (
            _without_credentials(addresses["DATABASE_URL"]),
            lambda: health.postgres_serves(addresses["DATABASE_URL"]),
        ),
        "dynamodb": (
            addresses["DYNAMO_ENDPOINT"],
            lambda: health.http_answers(addresses["DYNAMO_ENDPOINT"], any_status=True),
        ),
        "minio": (
            addresses["MINIO_ENDPOINT"],
            lambda: health.http_answers(addresses["MINIO_ENDPOINT"], any_status=True),
        ),
    }
    where, check = checks[name]
    state, reason = _verdict(check)
    return Row(name, None, where, state, reason or "external", None)


def _without_credentials(url: str) -> str:
    """Host, port and database of a PostgreSQL address, whichever of its forms it has."""
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return "DATABASE_URL"
    return f"{parts.get('host', '')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _verdict(check: Callable[[], None]) -> tuple[State, str]:
    try:
        check()
    except NotHealthyError as error:
        return "unhealthy", str(error)[:REASON_CHARACTERS_MAX]
    return "healthy", ""


def family(pid: int) -> tuple[int, int | None]:
    """A process and all its children: how many, and their memory in bytes.

    What they share is counted once where that is known; None when one of them has just ended.
    """
    try:
        leader = psutil.Process(pid)
        processes = [leader, *leader.children(recursive=True)]
        return len(processes), sum(map(_own_memory, processes))
    except psutil.Error:
        return 1, None


def _own_memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.AccessDenied, AttributeError):
        return int(process.memory_info().rss)
