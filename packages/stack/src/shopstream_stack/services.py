"""The services of the system: their commands, ports and health."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from shopstream_stack import health
from shopstream_stack.ports import LOOPBACK
from shopstream_stack.process import PortUse, ProcessSpec
from shopstream_stack.settings import Service, StackSettings

# Ten times what a start takes on an idle machine: tests share theirs.
START_SECONDS_MAX: Final = 150.0


def service(settings: StackSettings, name: Service) -> ProcessSpec:
    """How to start one service; the page is served by a small server of this package."""
    port = settings.port_of(name)
    programs = Path(sys.executable).parent
    command = {"web": ("shopstream", "serve-web")}.get(name, (f"shopstream-{name}",))
    path = "/config.json" if name == "web" else "/health"
    return ProcessSpec(
        name=name,
        kind="service",
        argv=(str(programs / command[0]), *command[1:]),
        environ=settings.service_environ(name),
        ports=(PortUse(port, f"SHOPSTREAM_{name.upper()}_PORT"),),
        check=lambda: health.http_answers(f"http://{LOOPBACK}:{port}{path}"),
        cwd=settings.project,
        start_seconds_max=START_SECONDS_MAX,
        nice=settings.background_nice if name == "analytics" else 0,
    )
