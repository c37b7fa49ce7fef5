"""The state of the stream's source, shared by the reader's thread, the watcher and health."""

from dataclasses import dataclass, field
from enum import StrEnum

from shopstream_notifications.broker import Topology
from shopstream_notifications.records import Offsets, Part, Record


class SourceState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    UNAVAILABLE = "unavailable"
    #: The topics were deleted and made again: offsets mean something else now (rule 13).
    RECREATED = "topic_recreated"


@dataclass(frozen=True, slots=True)
class Started:
    """The reader begins here: everything at or past ``position`` will come."""

    topology: Topology
    position: dict[Part, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one poll brought: events in their order, then where the reader stands.

    ``canaries`` are values of the canary's topic, which has no place in either.
    """

    records: list[Record]
    position: Offsets
    canaries: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Source:
    """Single words and texts, replaced as a whole: safe to read from any thread."""

    state: SourceState = SourceState.STARTING
    reason: str = "the broker has not been asked yet"
    #: Offsets not yet read, by part, as the watcher saw it last.
    lag: dict[Part, int] = field(default_factory=dict)

    def set(self, state: SourceState, reason: str = "") -> None:
        if self.state is not SourceState.RECREATED:  # final: only a restart ends it
            self.state, self.reason = state, reason
