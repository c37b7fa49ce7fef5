"""Named crash points: places where a test may end the process, as if the power had gone.

The name of at most one point is given by the variable SHOPSTREAM_CRASH_AT. All services read it, so
each takes the names of all. Without it a point costs one comparison. The process ends by SIGKILL:
no handler runs, nothing is flushed.
"""

import os
import signal
from dataclasses import dataclass
from typing import Literal

#: All there are: another name, which would never be reached, is refused.
CrashPoint = Literal[
    "import.before_commit",
    "import.after_commit",
    "relay.init",
    "relay.before_produce",
    "relay.after_produce",
    "relay.before_commit",
    "relay.after_commit",
    "relay.before_delete",
    "relay.after_delete",
    "recent.after_write",
    "recent.before_checkpoint",
    "recent.after_checkpoint",
    "aggregates.after_letters",
    "aggregates.after_write",
    "aggregates.before_checkpoint",
    "aggregates.after_checkpoint",
    "archive.before_put",
    "archive.after_put",
    "archive.after_hint",
    "rebuild.after_table",
    "rebuild.after_items",
    "rebuild.after_checkpoints",
    "rebuild.after_complete",
    "rebuild.after_swap",
]


@dataclass(frozen=True, slots=True)
class CrashPoints:
    """``armed`` is the name of the point that ends the process, or None."""

    armed: CrashPoint | None = None

    def reach(self, name: CrashPoint) -> None:
        """Pass the point ``name``, or end here."""
        if name == self.armed:
            os.kill(os.getpid(), signal.SIGKILL)
