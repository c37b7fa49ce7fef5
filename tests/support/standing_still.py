"""A fault for forks: a process that stands still at a crash point, instead of ending there."""

import os
import signal

from shopstream_shared.crash import CrashPoint, CrashPoints


def at_the_crash_point() -> None:
    """SIGSTOP where SHOPSTREAM_CRASH_AT says, the first time; a zombie goes on from there."""
    stopped = list[bool]()

    def stop(points: CrashPoints, name: CrashPoint) -> None:
        if name == points.armed and not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGSTOP)

    setattr(CrashPoints, "reach", stop)  # noqa: B010 - a patch, in this process alone
