"""Processes that outlive the command that started them.

Guarantees:
- A process is known by its pid and the moment it started, so a recycled pid is never signalled.
- A child inherits neither standard output nor any other descriptor, so a caller's pipe closes
  when the caller ends.
- Stopping is SIGTERM (or what the program calls a quick stop), a bounded wait, then SIGKILL to
  the whole process group: nothing of it is left.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

import psutil

from shopstream_stack.errors import PortBusyError, StackError, StartFailedError
from shopstream_stack.ports import holder_of, is_free

POLL_SECONDS: Final = 0.1
#: A process that was killed is gone in milliseconds, and its successor waits for that.
GONE_POLL_SECONDS: Final = 0.01
KILL_WAIT_SECONDS_MAX: Final = 10.0
AUTOGROUP_TRIES_MAX: Final = 5
AUTOGROUP_SECONDS: Final = 0.15
LOG_BYTES_MAX: Final = 20 * 1024 * 1024
LOG_TAIL_LINES: Final = 15
LOG_TAIL_BYTES_MAX: Final = 16 * 1024
LOG_LINE_CHARACTERS_MAX: Final = 300


class NotHealthyError(Exception):
    """A process does not answer as it should (yet); the message says how."""


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class PortUse:
    """A port and the variable that moves it."""

    number: int
    variable: str


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How to start one process, know that it works, and stop it.

    `prepare` runs before every start (files, formats); `check` raises NotHealthyError until the
    process does its work; `after` runs whenever it was found or became
    healthy, so it must be idempotent.
    """

    name: str
    kind: Literal["component", "service"]
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    ports: tuple[PortUse, ...]
    check: Callable[[], None]
    prepare: Callable[[], None] = _nothing
    after: Callable[[], None] = _nothing
    cwd: Path | None = None
    user: str | None = None
    start_seconds_max: float = 60.0
    # A start that ends early is tried again: a database whose last run was killed may find that
    # run's memory still in use for a moment.
    tries_max: int = 1
    # How far it and what it starts yield to all else where the processor is short: nice(1).
    nice: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """What a pid file holds."""

    pid: int
    started: str
    ports: list[int]
    kind: str


@dataclass(slots=True)
class Runner:
    """Starts, finds and stops processes by name, with their pid files and logs in one folder."""

    root: Path
    # Exit codes of ended processes that this runner itself had started (negative: the signal).
    exit_codes: dict[int, int] = field(default_factory=dict)
    _children: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def run_dir(self) -> Path:
        """Where the pid files are."""
        return self.root / "run"

    def log_path(self, name: str) -> Path:
        """Where the standard output and error of a process go."""
        return self.root / "logs" / f"{name}.log"

    def names(self) -> list[str]:
        """Names that have a pid file, dead ones too."""
        return sorted(path.stem for path in self.run_dir.glob("*.json"))

    def record(self, name: str) -> Record | None:
        """Return what is known of `name`, None when it never ran or was stopped."""
        try:
            return Record(**json.loads(self._pid_file(name).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def living(self, name: str) -> Record | None:
        """Return the record of `name` if its process runs now."""
        record = self.record(name)
        if record is None:
            return None
        return record if self._runs(record) else None

    def start(self, spec: ProcessSpec) -> bool:
        """Start `spec` unless it runs; wait until it is healthy. True when it was started here.

        Raises PortBusyError when another program holds one of its ports, StartFailedError when
        it ends early or is not healthy within `spec.start_seconds_max`.
        """
        record = self.living(spec.name)
        if record is not None:
            self._require_same_ports(spec, record)
            self.wait_healthy(spec, record)
            spec.after()
            return False
        for attempt in range(1, spec.tries_max + 1):
            record = self.spawn(spec)
            try:
                self.wait_healthy(spec, record)
            except StartFailedError:
                if attempt == spec.tries_max or self.living(spec.name) is not None:
                    raise
            else:
                break
        spec.after()
        return True

    def spawn(self, spec: ProcessSpec) -> Record:
        """Start `spec` without waiting until it is healthy; raises PortBusyError."""
        self.clear(spec.name)
        for port in spec.ports:
            if not is_free(port.number):
                raise PortBusyError(spec.name, port.number, port.variable, holder_of(port.number))
        spec.prepare()
        log = self.log_path(spec.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            child = subprocess.Popen(  # noqa: S603 - the argv is ours
                ("nice", "-n", str(spec.nice), *spec.argv) if spec.nice else spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(spec.environ),
                cwd=spec.cwd,
                start_new_session=True,
                user=spec.user,
                group=None if spec.user is None else group_of(spec.user),
                extra_groups=None if spec.user is None else [],
            )
        self._children[child.pid] = child
        if spec.nice:
            _yield_as_session(child.pid, spec.nice)
        record = Record(
            pid=child.pid,
            started=started_mark(child.pid) or "ended",
            ports=[port.number for port in spec.ports],
            kind=spec.kind,
        )
        write_atomically(self._pid_file(spec.name), json.dumps(asdict(record)))
        return record

    def clear(self, name: str) -> None:
        """End what a dead process left in its group: workers of a killed parent hold its port."""
        if self.living(name) is None:
            self._end_group(self.record(name))

    def wait_healthy(self, spec: ProcessSpec, record: Record) -> None:
        """Return when `spec` is healthy; raises StartFailedError."""
        deadline = time.monotonic() + spec.start_seconds_max
        while True:
            try:
                spec.check()
            except NotHealthyError as error:
                reason = str(error)
            else:
                return
            if not self._runs(record):
                raise self._failed(spec.name, "it ended early")
            if time.monotonic() > deadline:
                raise self._failed(
                    spec.name, f"not healthy within {spec.start_seconds_max:.0f} s: {reason}"
                )
            time.sleep(POLL_SECONDS)

    def send_signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its group; raises StackError if dead."""
        record = self.living(name)
        if record is None:
            raise StackError(f"{name} is not running")
        os.kill(record.pid, number)

    def kill(self, name: str) -> None:
        """SIGKILL the process itself, as a crash would, and return when it is gone."""
        record = self.living(name)
        if record is None:
            return
        self.send_signal(name, signal.SIGKILL)
        self._wait_gone(record, KILL_WAIT_SECONDS_MAX)

    def stop(
        self,
        name: str,
        *,
        how: signal.Signals = signal.SIGTERM,
        seconds_max: float = 15.0,
    ) -> bool:
        """Stop `name` and all it started; True when it ran. The pid file goes with it."""
        record = self.record(name)
        if record is None:
            return False
        ran = self.living(name) is not None
        if ran:
            with suppress(ProcessLookupError):
                os.kill(record.pid, how)
            self._wait_gone(record, seconds_max)
        self._end_group(record)
        self._runs(record)  # collects a child that ended between the two looks above
        self._pid_file(name).unlink(missing_ok=True)
        return ran

    def tail(self, name: str) -> str:
        """The last lines of a process's log, bounded in lines and width."""
        try:
            with self.log_path(name).open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - LOG_TAIL_BYTES_MAX))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(line[:LOG_LINE_CHARACTERS_MAX] for line in lines[-LOG_TAIL_LINES:])

    def _pid_file(self, name: str) -> Path:
        return self.run_dir / f"{name}.json"

    def _failed(self, name: str, reason: str) -> StartFailedError:
        return StartFailedError(name, reason, str(self.log_path(name)), self.tail(name))

    def _require_same_ports(self, spec: ProcessSpec, record: Record) -> None:
        wanted = [port.number for port in spec.ports]
        if record.ports != wanted:
            raise StackError(
                f"{spec.name} already runs on port {record.ports[0]}, not on {wanted[0]}: "
                "run `make down` first, or unset the variable"
            )

    def _runs(self, record: Record) -> bool:
        if started_mark(record.pid) == record.started:
            return True
        child = self._children.pop(record.pid, None)
        if child is not None:
            # A zombie by now, so this only collects it.
            self.exit_codes[record.pid] = child.wait(KILL_WAIT_SECONDS_MAX)
        return False

    def _wait_gone(self, record: Record, seconds_max: float) -> None:
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            if not self._runs(record):
                return
            time.sleep(GONE_POLL_SECONDS)

    def _end_group(self, record: Record | None) -> None:
        """SIGKILL what is left of a process's group, the leader included."""
        if record is None:
            return
        mark = started_mark(record.pid)
        if mark is not None and mark != record.started:
            return  # the pid is another program's by now, and so is its group
        if mark is None and not _group_left(record):
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(record.pid, signal.SIGKILL)
        self._wait_gone(record, KILL_WAIT_SECONDS_MAX)
        deadline = time.monotonic() + KILL_WAIT_SECONDS_MAX
        # A process counts as ended while its last threads still hold its listener.
        while time.monotonic() < deadline and (
            _group_left(record) or not all(map(is_free, record.ports))
        ):
            time.sleep(POLL_SECONDS)


def _yield_as_session(pid: int, nice: int) -> None:
    """Let a process's whole session yield, where Linux schedules by sessions.

    There nice(1) only ranks the processes of one session (sched(7), the autogroup feature), and
    every process of ours has one of its own.
    """
    for _ in range(AUTOGROUP_TRIES_MAX):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
        except BlockingIOError:
            # One change in a tenth of a second on the whole machine, unless root asks.
            time.sleep(AUTOGROUP_SECONDS)
        except OSError:
            # Another system, a kernel without it, or the process has ended: nice(1) has to do.
            return
        else:
            return


def started_mark(pid: int) -> str | None:
    """The moment a pid's process started, None when there is none or it is a zombie.

    On Linux the boot's id and the tick count since boot, which no change of the clock moves.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _started_elsewhere(pid)
    # Field 3 is the state, field 22 the start time (proc(5)); the split begins at field 3.
    return None if fields[0] in {"Z", "X"} else f"{boot}:{fields[19]}"


def _started_elsewhere(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def _group_left(record: Record) -> bool:
    boot = record.started.partition(":")[0]
    for process in psutil.process_iter():
        try:
            ours = os.getpgid(process.pid) == record.pid
        except (ProcessLookupError, PermissionError):
            continue
        mark = started_mark(process.pid) if ours else None
        if mark is not None and mark.partition(":")[0] == boot:
            return True
    return False


def group_of(user: str) -> str:
    """The name of a user's own group."""
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new text, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
