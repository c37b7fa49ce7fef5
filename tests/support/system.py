"""The whole system on free ports: the real components and the real services as processes.

Ask for the fixture `system` (one per run, everything healthy; whatever a test stopped, killed or
restarted with other variables is put back after it), or make a `LocalSystem` of your own when the
test needs an untouched one. Names: kafka, postgres, dynamodb, minio, api, notifications,
analytics, web.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping

import httpx
from tests.support.components import COMPONENTS, LocalComponents

from shopstream_stack import page

SERVICES = ("api", "notifications", "analytics")
WAIT_SECONDS_MAX = 90.0
POLL_SECONDS = 0.05


class LocalSystem(LocalComponents):
    """Components and services of one test's system."""

    def up_all(self, *, web: bool = False) -> None:
        """Start all that is not running: the components, then the services; all healthy."""
        self.up(*COMPONENTS)
        if web:
            page.ensure_built(self.settings, self.system.reporter)
        services = (*SERVICES, "web") if web else SERVICES
        self.system.start(*services)
        self._wanted.update(services)

    @property
    def api_url(self) -> str:
        """Base address of the API, no slash at the end."""
        return self.system.service_urls()["api"]

    @property
    def stream_url(self) -> str:
        """Base address of notifications; the stream is at /events/stream."""
        return self.system.service_urls()["notifications"]

    @property
    def analytics_url(self) -> str:
        """Base address of the analytics read API."""
        return self.system.service_urls()["analytics"]

    @property
    def web_url(self) -> str:
        """Base address of the page."""
        return self.system.service_urls()["web"]

    def start_with(self, name: str, environ: Mapping[str, str], *, healthy: bool = True) -> int:
        """Stop `name` if it runs and start it with these variables on top; returns its pid.

        With `healthy` False it returns as soon as the process is there: for starts that must
        fail, or that cannot be healthy while a component is away. The variables last until
        `restore`, or another `start_with`.
        """
        self.system.stop(name)
        self.system.overrides[name] = dict(environ)
        self._wanted.add(name)
        if healthy:
            self.system.start(name)
            return self.pid(name)
        return self.system.runner.spawn(self.system.spec(name)).pid

    def pid(self, name: str) -> int:
        """The pid of a running process."""
        record = self.system.runner.living(name)
        assert record is not None, f"{name} is not running"
        return record.pid

    def is_running(self, name: str) -> bool:
        """Whether the process of `name` runs."""
        return self.system.runner.living(name) is not None

    def terminate(self, name: str, *, seconds_max: float = 10.0) -> int:
        """SIGTERM, wait, return the exit code; fails the test when it takes longer."""
        pid = self.pid(name)
        self.system.runner.send_signal(name, signal.SIGTERM)
        return self.wait_exit(name, pid, seconds_max=seconds_max)

    def wait_exit(self, name: str, pid: int, *, seconds_max: float = WAIT_SECONDS_MAX) -> int:
        """Wait until the process ends by itself, return its exit code (negative: the signal)."""
        wait_until(lambda: not self.is_running(name), f"{name} to end", seconds_max=seconds_max)
        code = self.system.runner.exit_codes[pid]
        self.system.stop(name)  # its pid file, and whatever it left behind
        return code

    def log(self, name: str) -> str:
        """All that a process has written to standard output and error."""
        return self.system.runner.log_path(name).read_text(errors="replace")

    def health(self, name: str, path: str = "/health") -> httpx.Response:
        """The answer of a service's health page."""
        return httpx.get(f"{self.system.service_urls()[name]}{path}", timeout=10.0)

    def wait_health(self, name: str, status: int = 200, path: str = "/health") -> None:
        """Wait until a service's health page answers with `status`."""

        def as_wanted() -> bool:
            try:
                return self.health(name, path).status_code == status
            except httpx.HTTPError:
                return False

        wait_until(as_wanted, f"{name}{path} to answer {status}")

    def restore(self) -> None:
        """Put back what a test changed: overrides gone, everything it stopped started again."""
        for name in self.system.overrides:
            self.system.stop(name)
        self.system.overrides.clear()
        services = [name for name in self._wanted if name not in COMPONENTS]
        self._wanted.difference_update(services)
        super().restore()  # the components first
        self._wanted.update(services)
        super().restore()


def wait_until(
    holds: Callable[[], object], what: str, *, seconds_max: float = WAIT_SECONDS_MAX
) -> None:
    """Poll until `holds()` is true; AssertionError that names `what` after the deadline."""
    deadline = time.monotonic() + seconds_max
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds_max:.0f} s in vain for {what}")
        time.sleep(POLL_SECONDS)
