"""On what figures were measured: the machine, the versions, the commit."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

from shopstream_stack.bench.figures import CHANGED
from shopstream_stack.cache import MINIO_VERSION, POM

ASK_SECONDS_MAX: Final = 30.0
BUSY_SECONDS: Final = 2.0
#: Whose speed is in the figures.
LIBRARIES: Final = (
    "aiobotocore",
    "aiokafka",
    "confluent-kafka",
    "fastapi",
    "faust-streaming",
    "msgspec",
    "psycopg",
    "sse-starlette",
    "uvicorn",
    "uvloop",
)
#: In the pom: artifact → what it is called here.
_ARTIFACTS: Final = {"kafka_2.13": "Kafka", "DynamoDBLocal": "DynamoDB Local"}
_DEPENDENCY: Final = re.compile(
    r"<artifactId>([^<]+)</artifactId>\s*<version>([^<]+)</version>", re.ASCII
)
_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")


def machine() -> dict[str, str]:
    """What it is."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "processors": f"{os.cpu_count()} x {_model()}",
        "memory": f"{memory:.1f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def busy_percent() -> float:
    """How much of all processors is at work, over the next BUSY_SECONDS.

    Not the load average, in which the benchmark before this one would count for minutes.
    """
    return psutil.cpu_percent(BUSY_SECONDS)


def versions() -> dict[str, str]:
    """Of what is measured; what cannot be asked is left out."""
    found = {"Python": platform.python_version(), **_jars(), "MinIO": _date_of(MINIO_VERSION)}
    for name, argv in (("Java", ("java", "-version")), ("Go", ("go", "version"))):
        told = _VERSION.search(_said(argv))
        if told is not None:
            found[name] = told[0]
    return found | {name: version(name) for name in LIBRARIES}


def commit(project: Path) -> str:
    """The commit that is checked out, marked when something beside the documents was changed.

    Empty where there is no git, or no checkout.
    """
    head = _said(("git", "rev-parse", "--short=12", "HEAD"), project).strip()
    if not head:
        return ""
    changes = ("git", "status", "--porcelain", "--", ".", ":(exclude)docs")
    return head + (CHANGED if _said(changes, project).strip() else "")


def _model() -> str:
    """The processor's name, where the system tells it; else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _jars() -> dict[str, str]:
    pairs = _DEPENDENCY.findall(POM.read_text(encoding="utf-8"))
    return {_ARTIFACTS[name]: told for name, told in pairs if name in _ARTIFACTS}


def _date_of(pseudo_version: str) -> str:
    """MinIO's module has no other name for a version than its moment: v0.0.0-20260212201848-…."""
    day = pseudo_version.split("-")[1]
    return f"{day[:4]}-{day[4:6]}-{day[6:8]}"


def _said(argv: Sequence[str], folder: Path | None = None) -> str:
    """What a program says, on either stream; nothing when it is not there or fails."""
    program = shutil.which(argv[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - three programs that are named here
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS_MAX,
            cwd=folder,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""
