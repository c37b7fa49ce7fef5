"""Named crash points: places where a test may end the process, as if the power had gone.

The name of at most one point is given by the variable SHOPSTREAM_CRASH_AT; without it a point
costs one comparison. The process ends by SIGKILL: no handler runs, nothing is flushed.
"""

import os
import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CrashPoints:
    """``armed`` is the name of the point that ends the process, or None."""

    armed: str | None = None

    def reach(self, name: str) -> None:
        """Pass the point ``name``, or end here."""
        if name == self.armed:
            os.kill(os.getpid(), signal.SIGKILL)
