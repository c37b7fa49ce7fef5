"""What a worker tells its parent, once a second, as one line of JSON on an inherited socket."""

from typing import Final, Literal

import msgspec

REPORT_SECONDS: Final = 1.0

State = Literal["waiting", "running", "halted"]


class Lag(msgspec.Struct, frozen=True):
    """A partition as the worker sees it; ``end`` is the last stable offset, None when unknown."""

    topic: str
    partition: int
    durable: int
    end: int | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``reason`` says why a worker is not running; ``trouble`` what its sink answers."""

    state: State
    reason: str | None
    trouble: str | None
    lags: list[Lag]
    counters: dict[str, int]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Report)


def encode_report(report: Report) -> bytes:
    """One line."""
    return _encoder.encode(report) + b"\n"


def decode_report(line: bytes) -> Report:
    """Raises msgspec.MsgspecError."""
    return _decoder.decode(line)
