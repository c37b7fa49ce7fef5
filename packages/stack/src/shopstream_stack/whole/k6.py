"""k6 seen from here: the profile, one run of `users.js`, its summary and what it acknowledged."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from shopstream_stack.demo.oracle import Exchange
from shopstream_stack.errors import StackError
from shopstream_stack.journal import Journal

SCRIPT: Final = Path(__file__).with_name("users.js")
SUMMARY: Final = "k6.json"
ACKNOWLEDGED: Final = "k6.acknowledged.jsonl"
LOG: Final = "k6.log"
#: Of the time and of the users: up to half of them, hold, up to all of them, hold, down.
PROFILE: Final = ((2, 0.5), (5, 0.5), (2, 1.0), (5, 1.0), (2, 0.0))
#: Of all users, how many are at work on average: their number rises and falls evenly.
MEAN_USERS: Final = sum(
    minutes * (before + users) / 2
    for (_, before), (minutes, users) in pairwise([(0, 0.0), *PROFILE])
) / sum(minutes for minutes, _ in PROFILE)
#: What k6 may take beyond its profile: its start, the last iterations.
GRACE_SECONDS: Final = 60.0
#: k6's exit code when a threshold was crossed; the summary then says which.
EXIT_THRESHOLDS: Final = 99
#: Of the log, in the message when k6 fails.
LOG_CHARACTERS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Users:
    """A load: how many, how long, how they pause, and the beginning of their sellers' names."""

    count: int
    seconds: float
    pause_seconds: float
    sellers: str
    #: Whether k6's own thresholds on speed count; that on errors always does.
    judged: bool
    seed: int = 1

    def stages(self) -> list[dict[str, Any]]:
        """The profile in k6's words."""
        whole = sum(share for share, _ in PROFILE)
        return [
            {
                "duration": f"{self.seconds * share / whole:.3f}s",
                "target": round(self.count * users),
            }
            for share, users in PROFILE
        ]

    def sellers_of_all(self) -> list[str]:
        """The seller of each user, as the script names them: users are numbered from 1."""
        return [f"{self.sellers}{number:04}" for number in range(1, self.count + 1)]


@dataclass(frozen=True, slots=True)
class Summary:
    """What k6 found over the whole profile; times in milliseconds."""

    requests: int
    a_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    #: Of the requests, 0 to 1.
    failed: float
    #: Answers that were not what the contract says, and all that were looked at.
    wrong_answers: int
    users_max: int

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> "Summary":
        """From k6's metrics by name. Raises StackError when one is missing."""
        try:
            times = metrics["http_req_duration"]["values"]
            requests = metrics["http_reqs"]["values"]
            return cls(
                requests=int(requests["count"]),
                a_second=float(requests["rate"]),
                p50_ms=float(times["med"]),
                p95_ms=float(times["p(95)"]),
                p99_ms=float(times["p(99)"]),
                max_ms=float(times["max"]),
                failed=float(metrics["http_req_failed"]["values"]["rate"]),
                wrong_answers=int(metrics["checks"]["values"]["fails"]),
                users_max=int(metrics["vus_max"]["values"]["max"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StackError(f"k6's summary has no {error}: it made no requests") from error


async def run_k6(program: Path, api: str, users: Users, folder: Path) -> Summary:
    """Run the profile against ``api``; files of the run go into ``folder``.

    Raises StackError when k6 fails, or does not end in time. A crossed threshold is no failure.
    """
    variables = {
        "API": api,
        "STAGES": json.dumps(users.stages()),
        "PAUSE_SECONDS": str(users.pause_seconds),
        "SELLERS": users.sellers,
        "SEED": str(users.seed),
        "JUDGED": str(users.judged).lower(),
        "SUMMARY": str(folder / SUMMARY),
    }
    # Its own listener would be one more port; what it logs per failed request goes to a file.
    argv = [str(program), "run", "--quiet", "--no-usage-report", "--no-color", "--address", ""]
    argv += ["--log-format", "raw", "--console-output", str(folder / ACKNOWLEDGED)]
    for name, value in variables.items():
        argv += ["-e", f"{name}={value}"]
    with (folder / LOG).open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *argv,
            str(SCRIPT),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            # No other version of itself, fetched from somewhere, for what it thinks it lacks.
            env={"HOME": str(folder), "K6_AUTO_EXTENSION_RESOLUTION": "false"},
        )
        try:
            async with asyncio.timeout(users.seconds + GRACE_SECONDS):
                code = await process.wait()
        except TimeoutError:
            raise StackError(f"k6 did not end {GRACE_SECONDS:g} s after its profile") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if code not in {0, EXIT_THRESHOLDS}:
        said = (folder / LOG).read_text(errors="replace")[-LOG_CHARACTERS_MAX:]
        raise StackError(f"k6 failed (exit {code}): {said}")
    return Summary.of(json.loads((folder / SUMMARY).read_text()))


def acknowledged(folder: Path) -> Iterator[Exchange]:
    """The writes that k6 was answered 2xx. Raises StackError for a line that is none."""
    path = folder / ACKNOWLEDGED
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                said = json.loads(line)
                yield Exchange(
                    method=said["method"],
                    path=said["path"],
                    status=said["status"],
                    answer={name: one for name, one in said["answer"].items() if one is not None},
                )
            except (ValueError, KeyError, TypeError) as error:
                raise StackError(f"{path}:{number} is no acknowledged write: {error}") from error


def into_journal(folder: Path, journal: Journal) -> int:
    """Note them all in the journal; how many there were."""
    count = 0
    for exchange in acknowledged(folder):
        journal.write(exchange)
        count += 1
    return count
