"""The whole system with its defaults: every component and service, nothing in between.

It is chaos's place without what faults need (links, a second API, a standby), so that what loads,
watches and judges a system there does so here.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import psutil

from shopstream_stack.chaos.place import COMPONENTS, STACK_PORTS, Place
from shopstream_stack.chaos.schedule import WORKERS
from shopstream_stack.ports import LOOPBACK, PortReservations
from shopstream_stack.process import ProcessSpec
from shopstream_stack.settings import COMPONENT_VARIABLES, StackSettings
from shopstream_stack.system import System

SERVICES: Final = ("api", "notifications", "analytics")
KIB: Final = 1_024
#: Of the caller's variables these are taken over: with others it would be another system.
_TAKEN: Final = (*COMPONENT_VARIABLES, "SHOPSTREAM_CACHE_DIR")
#: And these where no speed is judged: without them a short run would wait for what it is not about.
_ROTATE: Final = "SHOPSTREAM_ARCHIVE_ROTATE_SECONDS"
_TAKEN_QUICK: Final = ("SHOPSTREAM_POSTGRES_FSYNC", _ROTATE, "SHOPSTREAM_BACKGROUND_NICE")
_ABOUT: Final = b"SELECT current_setting('server_version'), current_setting('fsync')"


def whole_settings(
    command: str,
    settings: StackSettings,
    ports: PortReservations,
    *,
    quick_java: bool,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> StackSettings:
    """Settings of a system beside the one of ``settings``: other ports, a folder below its own.

    ``command``: whom it is for; what a run leaves behind lies beside the system's folder.
    ``quick_java``: of a short run, in which no speed is judged. A new broker compiles its code well
    for a minute, on the cores that are measured; with it, less well but within seconds.
    ``variables``: what this command sets beside.
    """
    taken = (*_TAKEN, *(_TAKEN_QUICK if quick_java else ()))
    return StackSettings.load(
        {
            **{name: settings.environ[name] for name in taken if name in settings.environ},
            **{f"SHOPSTREAM_{name}_PORT": str(ports.take()) for name in STACK_PORTS},
            "SHOPSTREAM_QUICK_JAVA": str(quick_java).lower(),
            # Whoever is connected at the end is ours, and needs no goodbye.
            "SHOPSTREAM_DRAIN_SECONDS": "1",
            "SHOPSTREAM_DATA_DIR": str(settings.data / command / "system"),
            **variables,
        }
    )


@dataclass(slots=True)
class WholePlace(Place):
    """The running system. Methods that start, stop or ask block; call them off the loop."""

    ports: Mapping[str, int] = field(default_factory=dict)
    #: The load generator.
    load: Path = Path()

    def __post_init__(self) -> None:
        self.links = {}

    def url(self, name: str) -> str:
        return self.system.service_urls()[name]

    def spec(self, name: str) -> ProcessSpec:
        return self.system.spec(name)

    @property
    def stream(self) -> str:
        """Host and port of the event stream."""
        return f"{LOOPBACK}:{self.system.settings.notifications_port}"

    @property
    def runs_folder(self) -> Path:
        """Where runs leave what they found: beside the system's folder, which is emptied."""
        return self.system.settings.data.parent

    def about(self) -> Mapping[str, str]:
        """What else must be known of the figures."""
        with self.connect() as connection:
            row = connection.execute(_ABOUT).fetchone()
        version, fsync = ("", "") if row is None else row
        rotates = self.system.settings.environ.get(_ROTATE)
        return {
            "PostgreSQL": str(version),
            "fsync": str(fsync),
            "archive rotation": f"{rotates} s" if rotates else "default",
        }

    def dead(self) -> list[str]:
        """Of what was started, whoever does not run any more."""
        return [name for name in (*COMPONENTS, *SERVICES) if not self.runs(name)]

    def resident_kib(self, names: Sequence[str] = SERVICES) -> Mapping[str, tuple[int, float]]:
        """Pid and resident memory of each process of these, children by what they are called."""
        found: dict[str, tuple[int, float]] = {}
        for name in names:
            record = self.system.runner.living(name)
            if record is None:
                continue
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(record.pid)
                found[name] = process.pid, process.memory_info().rss / KIB
                for number, child in enumerate(process.children(recursive=True)):
                    said = f"{name} {_called(child, number)}"
                    found[said] = child.pid, child.memory_info().rss / KIB
        return found


def files_note(folder: Path) -> str:
    """Where a run's files lie within the data folder, for a page that others read."""
    return f"All files of this run: {folder.parent.name}/{folder.name}, in the data folder"


@contextmanager
def running_whole(system: System, ports: PortReservations) -> Iterator[WholePlace]:
    """Start everything on an empty folder; at the end nothing of it is left."""
    del ports  # all that is needed is in the settings
    _forget(system)  # a run that was killed may have left processes and data
    system.prepare(COMPONENTS)
    place = WholePlace(system, load=system.cache.ensure_load(system.reporter))
    system.settings.data.mkdir(parents=True)
    try:
        system.start(*COMPONENTS)
        system.start(*SERVICES)
        yield place
    finally:
        _forget(system)


def _called(child: psutil.Process, number: int) -> str:
    """A worker of analytics by its sink; helpers of the runtime have no name."""
    words = child.cmdline()
    return next((word for word in WORKERS if word in words), f"child {number}")


def _forget(system: System) -> None:
    system.stop_all()
    system.forget()
    shutil.rmtree(system.settings.data, ignore_errors=True)  # the whole folder is ours
    with contextlib.suppress(OSError):
        system.settings.data.parent.rmdir()  # unless a run has left something in it
