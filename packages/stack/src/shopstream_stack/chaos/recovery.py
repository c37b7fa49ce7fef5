"""What became of one fault: how long it took to be over, and whether that was soon enough."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shopstream_stack.chaos.schedule import Fault

#: The bars that are promised: after SIGKILL, and after SIGSTOP of the leader.
SERVES_SECONDS_MAX: Final = 5.0
PUBLISHES_SECONDS_MAX: Final = 10.0
TAKEOVER_SECONDS_MAX: Final = 15.0
FENCED_SECONDS_MAX: Final = 15.0
#: A service promises to end within 10 s of SIGTERM.
ENDS_SECONDS_MAX: Final = 10.0
#: After SIGKILL or SIGTERM in analytics: until its successor, or who is left, takes over.
STORES_SECONDS_MAX: Final = 20.0
#: Resumed streams, from when there is a service again.
RESUMED_SECONDS_MAX: Final = 5.0
#: Until whoever can not go on says so in /health.
LOUD_SECONDS_MAX: Final = 60.0
#: No bar is promised for the other faults; from their end, this is what we call recovered.
OTHERS_SECONDS_MAX: Final = 30.0
#: As long a recovery is waited for, so that the table can tell by how much a bar was missed.
WAIT_SECONDS_MAX: Final = 90.0


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that had to be so again; ``seconds`` None: not within WAIT_SECONDS_MAX."""

    what: str
    seconds: float | None
    bar_seconds: float

    @property
    def holds(self) -> bool:
        return self.seconds is not None and self.seconds <= self.bar_seconds


@dataclass(slots=True)
class Recovery:
    """A fault that was made. ``began`` and ``ended`` in seconds from the beginning of the load."""

    fault: Fault
    #: Whom ``leader`` meant.
    target: str
    began: float
    ended: float = 0.0
    measures: list[Measure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.wrong and all(measure.holds for measure in self.measures)

    def as_json(self) -> Mapping[str, Any]:
        return {
            "planned": self.fault.at,
            "kind": self.fault.kind,
            "target": self.target,
            "planned_target": self.fault.target,
            "parameters": dict(self.fault.parameters),
            "began": round(self.began, 3),
            "ended": round(self.ended, 3),
            "measures": [
                {
                    "what": measure.what,
                    "seconds": None if measure.seconds is None else round(measure.seconds, 3),
                    "bar": measure.bar_seconds,
                    "holds": measure.holds,
                }
                for measure in self.measures
            ],
            "notes": self.notes,
            "wrong": self.wrong,
            "holds": self.holds,
        }
