"""What workers and their parent tell each other, and what a worker knows of the others by it.

Upwards: how this worker does, once a second and when that changes. Downwards: the same of all.
One line of JSON each.
"""

import time
from typing import Final, Literal

import msgspec

from shopstream_shared.health import Unhealthy

REPORT_SECONDS: Final = 1.0
#: A picture older than this says nothing about now: the parent hangs.
FRESH_SECONDS_MAX: Final = 5.0

State = Literal["starting", "serving", "leaving"]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``trouble`` names the worker's checks that fail, None when there are none."""

    streams: int
    trouble: str | None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as the parent sees it; ``leaving``: it drains, its successor serves."""

    slot: int
    pid: int
    state: State
    streams: int = 0
    trouble: str | None = None


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """All workers there are, beside how many there should be."""

    wanted: int
    members: list[Member]


_encoder: Final = msgspec.json.Encoder()
_reports: Final = msgspec.json.Decoder(Report)
_pictures: Final = msgspec.json.Decoder(Members)


def encode(said: Report | Members) -> bytes:
    """One line."""
    return _encoder.encode(said) + b"\n"


def decode_report(line: bytes) -> Report:
    """Raises msgspec.MsgspecError."""
    return _reports.decode(line)


def decode_members(line: bytes) -> Members:
    """Raises msgspec.MsgspecError."""
    return _pictures.decode(line)


class Picture:
    """A worker's side: the last that the parent told of all."""

    def __init__(self) -> None:
        self._told: Members | None = None
        self._told_at = 0.0

    def take(self, line: bytes) -> None:
        """Read what the parent said; half a line, cut when a buffer was full, is left out."""
        try:
            self._told = decode_members(line)
        except msgspec.MsgspecError:
            return
        self._told_at = time.monotonic()

    def is_relieved(self) -> bool:
        """Whether others serve; then a worker that drains is no trouble of the service."""
        return self._told is not None and any(m.state == "serving" for m in self._told.members)

    async def probe(self) -> str:
        """For health. Raises Unhealthy with the trouble of each worker that has some."""
        if self._told is None or time.monotonic() - self._told_at > FRESH_SECONDS_MAX:
            raise Unhealthy("no word from the parent process")
        told = self._told
        serving = [member for member in told.members if member.state == "serving"]
        found = f"{len(serving)} of {told.wanted} serve"
        # One that starts while enough serve is the successor of a rolling restart.
        starting = [m for m in told.members if m.state == "starting" and len(serving) < told.wanted]
        troubles = [
            f"worker {member.slot} (process {member.pid}): {member.trouble or member.state}"
            for member in (*serving, *starting)
            if member.trouble or member in starting
        ]
        if len(serving) < told.wanted or troubles:
            raise Unhealthy("; ".join([found, *troubles]))
        return f"{found}, {sum(member.streams for member in told.members)} streams"
