"""Health: live (restart me?), ready (send me work?) and the whole picture, told apart.

A broker that is away must not restart the API, so a check says itself whether it counts for
readiness. Checks run side by side, each within its own bound.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from shopstream_shared.clock import Clock, SystemClock, format_time

CHECK_TIMEOUT_SECONDS: Final = 3.0

Status = Literal["healthy", "unhealthy"]


class Unhealthy(Exception):
    """What a check raises; the text is shown to operators and says what is wrong."""


#: A check returns a short message, or raises; Unhealthy's text is shown as it is.
Probe = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Check:
    """One dependency. ``for_ready`` False: without it the service still does its work."""

    probe: Probe
    for_ready: bool = True


@dataclass(frozen=True, slots=True)
class CheckResult:
    status: Status
    message: str
    response_time_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of all checks."""

    status: Status
    checks: Mapping[str, CheckResult]
    timestamp: str

    @property
    def code(self) -> int:
        return 200 if self.status == "healthy" else 503

    def as_json(self) -> dict[str, object]:
        """The body of ``/health``, as the contract spells it."""
        return {
            "status": self.status,
            "checks": {
                name: {
                    "status": result.status,
                    "message": result.message,
                    "responseTimeMs": result.response_time_ms,
                }
                for name, result in self.checks.items()
            },
            "timestamp": self.timestamp,
        }


class Health:
    """The checks of one service."""

    def __init__(self, checks: Mapping[str, Check], clock: Clock | None = None) -> None:
        self._checks = checks
        self._clock = clock or SystemClock()

    async def report(self, *, ready_only: bool = False) -> Report:
        """Run the checks at once; never raises."""
        names = [name for name, check in self._checks.items() if check.for_ready or not ready_only]
        results = await asyncio.gather(*(_run(self._checks[name].probe) for name in names))
        healthy = all(result.status == "healthy" for result in results)
        return Report(
            status="healthy" if healthy else "unhealthy",
            checks=dict(zip(names, results, strict=True)),
            timestamp=format_time(self._clock.now()),
        )


async def _run(probe: Probe) -> CheckResult:
    started = time.monotonic()
    status: Status = "unhealthy"
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            message = await probe()
        status = "healthy"
    except TimeoutError:
        message = f"no answer within {CHECK_TIMEOUT_SECONDS:g} s"
    except Unhealthy as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001 - whatever a dependency raises is its ill health
        # The type only: messages of drivers can hold addresses with passwords in them.
        message = type(error).__name__
    elapsed = round((time.monotonic() - started) * 1_000, 3)
    return CheckResult(status, message, elapsed)
