"""The load generator (Go, in `load/`) seen from here: what to send, and what came of it."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from shopstream_stack.errors import StackError

#: What the generator may take beyond its own times: connecting, the last answers, sorting.
GRACE_SECONDS: Final = 90.0
SUCCESS: Final = range(200, 300)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A template: ``{{n}}`` is the request's number, ``{{name}}`` a value of that list."""

    method: str = "GET"
    path: str
    headers: Mapping[str, str] = {}
    body: str = ""


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the generator reads; see `load/spec.go`."""

    address: str
    connections: int
    warmup_seconds: float
    seconds: float
    requests_max: int = 0
    requests: Sequence[Request]
    lists: Mapping[str, Sequence[str]] = {}
    locations_file: str = ""
    expected: Sequence[int]


class LoadReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the generator prints: figures of the measured time, counts named all of warm-up too."""

    seconds: float
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    by_status: dict[int, int]
    all_by_status: dict[int, int]
    transport_errors: int
    samples: list[str]

    def figures(self) -> dict[str, float]:
        """By the names of the table's columns."""
        return {
            "rate": self.requests_per_second,
            "p50Ms": self.p50_ms,
            "p95Ms": self.p95_ms,
            "p99Ms": self.p99_ms,
        }


@dataclass(frozen=True, slots=True)
class LoadResult:
    """A report and the last part of each Location that a success came with: the new thing's id."""

    report: LoadReport
    created: list[str]

    def unexpected(self, expected: Sequence[int]) -> list[str]:
        """What was not as it should be, in words: statuses, requests without an answer."""
        report = self.report
        odd = {
            status: count
            for status, count in report.all_by_status.items()
            if status not in expected
        }
        faults = [f"{count} answers {status}" for status, count in sorted(odd.items())]
        if report.transport_errors:
            faults.append(f"{report.transport_errors} requests without an answer")
        faults += report.samples[:1] if faults else []
        return faults if report.by_status else [*faults, "no answer in the measured time"]


def run_load(program: Path, spec: LoadSpec, locations: Path | None = None) -> LoadResult:
    """Run the generator to its end. Raises StackError when it fails.

    With ``locations``, a file to be written, the created ids are returned too.
    """
    if locations is not None:
        spec = msgspec.structs.replace(spec, locations_file=str(locations))
    seconds_max = spec.warmup_seconds + spec.seconds + GRACE_SECONDS
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [program, "http"],
            input=msgspec.json.encode(spec),
            capture_output=True,
            timeout=seconds_max,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"The load generator did not end within {seconds_max:g} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise StackError(f"The load generator failed: {said}")
    report = msgspec.json.decode(done.stdout, type=LoadReport)
    created = locations.read_text().split() if locations is not None else []
    return LoadResult(report, [location.rpartition("/")[2] for location in created])
