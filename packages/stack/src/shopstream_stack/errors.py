"""What can go wrong on the local stack, said in words a person can act on."""

from __future__ import annotations

from dataclasses import dataclass


class StackError(Exception):
    """The local stack cannot go on; the message says what to do about it."""


@dataclass(eq=False)
class MissingToolError(StackError):
    """A tool the stack needs is absent or too old."""

    tool: str
    wanted: str
    found: str
    how: str

    def __str__(self) -> str:
        return f"{self.tool} {self.wanted} is needed ({self.found}). {self.how}"


@dataclass(eq=False)
class PortBusyError(StackError):
    """Another program listens where a process of ours should."""

    name: str
    port: int
    variable: str
    holder: str

    def __str__(self) -> str:
        return (
            f"Port {self.port}, wanted by {self.name}, is held by {self.holder}. "
            f"Stop that program, or set {self.variable} to a free port."
        )


@dataclass(eq=False)
class StartFailedError(StackError):
    """A process ended, or did not become healthy in time."""

    name: str
    reason: str
    log: str
    log_tail: str

    def __str__(self) -> str:
        tail = f"\n{self.log_tail}" if self.log_tail else ""
        return f"{self.name} did not start: {self.reason}. Its log is {self.log}{tail}"
