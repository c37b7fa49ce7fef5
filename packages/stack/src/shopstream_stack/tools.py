"""Tools of the machine that the stack needs: found, new enough, or clearly missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import Final

from shopstream_stack.errors import MissingToolError, StackError

ASK_SECONDS_MAX: Final = 30.0


@dataclass(frozen=True, slots=True)
class Tool:
    """A program on PATH, how it tells its version, and how a person gets it."""

    name: str
    ask: tuple[str, ...]
    at_least: tuple[int, ...]
    how: str


JAVA: Final = Tool(
    "java",
    ("-version",),
    (17,),
    "Install a JDK or JRE, for example `apt-get install openjdk-17-jre-headless`.",
)
MAVEN: Final = Tool(
    "mvn", ("--version",), (3, 6), "Install Maven, for example `apt-get install maven`."
)
GO: Final = Tool(
    "go",
    ("version",),
    # What MinIO's go.mod asks for.
    (1, 24),
    "Install Go from your distribution or from go.dev; it builds MinIO once.",
)
# What k6's go.mod asks for.
GO_OF_K6: Final = replace(
    GO, at_least=(1, 25), how="Install Go from go.dev; it builds k6 once, for the load gate."
)
# The first compiler only: what a process that soon ends gains most from.
QUICK_JAVA: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
NODE: Final = Tool(
    "node",
    ("--version",),
    # What Vite 8 asks for.
    (20, 19),
    "Install Node.js from your distribution or from nodejs.org.",
)
NPM: Final = Tool("npm", ("--version",), (10,), "It comes with Node.js; see nodejs.org.")


def find(tool: Tool) -> str:
    """Return the tool's path; raises MissingToolError when it is absent or too old."""
    wanted = ".".join(map(str, tool.at_least)) + " or newer"
    path = shutil.which(tool.name)
    if path is None:
        raise MissingToolError(tool.name, wanted, "not found on PATH", tool.how)
    version = _version(path, tool)
    if version is None or version < tool.at_least:
        found = "its version could not be read" if version is None else _found(version)
        raise MissingToolError(tool.name, wanted, found, tool.how)
    return path


def path_of(tool: Tool) -> str:
    """Where the tool is, unchecked; its bare name when it is not on PATH."""
    return shutil.which(tool.name) or tool.name


def require(tools: list[Tool]) -> None:
    """Check all tools; raises StackError that names every one that is missing."""
    missing: list[str] = []
    for tool in tools:
        try:
            find(tool)
        except MissingToolError as error:
            missing.append(str(error))
    if missing:
        raise StackError("\n".join(missing))


def _found(version: tuple[int, ...]) -> str:
    return f"found {'.'.join(map(str, version))}"


def _version(path: str, tool: Tool) -> tuple[int, ...] | None:
    try:
        answer = subprocess.run(  # noqa: S603 - the argv is ours
            [path, *tool.ask],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS_MAX,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # Maven prints its version in bold, whose escape sequence has digits too; a JVM first repeats
    # the options of JAVA_TOOL_OPTIONS, which may have some as well.
    text = re.sub(r"(?m)\x1b\[[0-9;]*m|^Picked up .*$", "", answer.stdout + answer.stderr)
    number = re.search(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", text)
    return None if number is None else tuple(int(part) for part in number.groups() if part)
