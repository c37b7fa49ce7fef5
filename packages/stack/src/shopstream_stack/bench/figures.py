"""A run of a benchmark as a file: tables, page and picture are made of such files alone."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from shopstream_stack.bench.names import NAMES, Form
from shopstream_stack.bench.result import Row
from shopstream_stack.process import write_atomically

#: Below the data folder; `reset` forgets it.
FOLDER: Final = "bench-figures"
#: Behind a commit, when the working tree was not what was committed.
CHANGED: Final = "-changed"
#: Above that somebody else is at work: one busy process of an eight-fold machine is 12.5 %.
BUSY_PERCENT_MAX: Final = 10.0


class Found(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one run of one benchmark has found, and on what."""

    bench: str
    title: str
    form: Form
    #: Empty where there is no git to ask.
    commit: str
    started_at: str
    seconds: float
    machine: Mapping[str, str]
    #: Of all processors, before anything was started; None in files of an earlier version.
    busy_percent: float | None = None
    versions: Mapping[str, str]
    notes: list[str]
    rows: list[Row]

    @property
    def idle(self) -> bool:
        """Whether nobody else was at work on the machine when it began."""
        return self.busy_percent is not None and self.busy_percent <= BUSY_PERCENT_MAX

    @property
    def judged(self) -> bool:
        """Whether bars count."""
        return self.form == "full"

    @property
    def holds(self) -> bool:
        """Whether something was measured, no row is wrong and no bar that counts is missed."""
        verdicts = {row.verdict(judged=self.judged) for row in self.rows}
        return bool(verdicts) and verdicts <= {"holds", "measured"}


def as_json(found: Found) -> bytes:
    """All of it, and what follows from it: a program need not know how bars are judged."""
    built: dict[str, Any] = msgspec.to_builtins(found)
    for row, one in zip(found.rows, built["rows"], strict=True):
        one["verdict"] = row.verdict(judged=found.judged)
        for bar, told in zip(row.bars, one["bars"], strict=True):
            told["holds"] = bar.holds
    built |= {"judged": found.judged, "holds": found.holds}
    return msgspec.json.format(msgspec.json.encode(built), indent=1) + b"\n"


def read(path: Path) -> Found:
    """Raises OSError, and msgspec.MsgspecError when it is no such file."""
    return msgspec.json.decode(path.read_bytes(), type=Found)


class Kept:
    """The newest file of each benchmark and form, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, found: Found) -> None:
        """Raises OSError."""
        path = self._path(found.bench, found.form)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, as_json(found).decode())

    def get(self, bench: str, form: Form) -> Found | None:
        """None when there is none, or one that this version cannot read."""
        with suppress(OSError, msgspec.MsgspecError):
            return read(self._path(bench, form))
        return None

    def to_reuse(
        self, bench: str, form: Form, commit: str, machine: Mapping[str, str]
    ) -> Found | None:
        """One that need not be measured again: of this commit, with nothing changed.

        And it holds, was measured on this machine, and on an idle one where bars count.
        """
        if not commit or commit.endswith(CHANGED):
            return None
        found = self.get(bench, form)
        if found is None or found.commit != commit or not found.holds:
            return None
        if found.judged and not found.idle:
            return None
        # A run's machine says more, of the system that was measured.
        return found if machine.items() <= found.machine.items() else None

    def all(self, *forms: Form) -> list[Found]:
        """Of these forms all that there are, in the order of NAMES."""
        wanted: Iterable[Found | None] = (self.get(name, form) for name in NAMES for form in forms)
        return [found for found in wanted if found is not None]

    def _path(self, bench: str, form: Form) -> Path:
        return self._folder / f"{bench}-{form}.json"
