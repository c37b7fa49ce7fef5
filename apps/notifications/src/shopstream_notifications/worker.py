"""``python -m shopstream_notifications.worker SLOT FOLDER DESCRIPTOR``: started by the parent.

One complete service among several on one port. It tells its parent how it does from the event loop,
so that a loop that hangs is silent; it ends when the parent does, after short goodbyes.
"""

import asyncio
import math
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from shopstream_notifications import shared_metrics
from shopstream_notifications.commit_turn import CommitTurn
from shopstream_notifications.members import REPORT_SECONDS, Picture, Report, encode
from shopstream_notifications.run_dir import RunDir
from shopstream_notifications.service import run_service
from shopstream_notifications.settings import NotificationsSettings
from shopstream_notifications.standing import Standing
from shopstream_notifications.wiring import Resources, Runner
from shopstream_shared import logs
from shopstream_shared.children import follow_parent
from shopstream_shared.web import bind

#: Until it serves, a worker tells more often: a rolling restart waits for that word.
START_REPORT_SECONDS: Final = 0.1
#: The goodbyes of a worker whose parent was killed; below the hard end.
ORPHAN_DRAIN_SECONDS: Final = 2.0


class Worker:
    """One worker's ties to its parent."""

    def __init__(self, slot: int, folder: RunDir, parent: socket.socket) -> None:
        self._folder = folder
        self._parent = parent
        self._picture = Picture()
        self._drain_seconds_max = math.inf
        self._listens = False
        shared_metrics.write_as(slot)

    def run(self, settings: NotificationsSettings) -> None:
        """Serve until SIGTERM or the parent's end."""
        # Of a terminal that closes; the parent's own SIGHUP is a rolling restart.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        follow_parent(self._parent, self._orphaned, self._picture.take)
        standing = Standing(
            CommitTurn(self._folder.commit_lock),
            metrics=shared_metrics.sum_of_all(self._folder.metrics),
            others=self._picture.probe,
            is_relieved=self._picture.is_relieved,
            folder=self._folder.path,
            drain_seconds_max=lambda: self._drain_seconds_max,
        )
        run_service(settings, lambda: self._listen(settings), standing, self._beside)

    def _listen(self, settings: NotificationsSettings) -> socket.socket:
        """From here on the kernel sends connections."""
        listener = bind(settings.host, settings.port, shared=True)
        self._listens = True
        return listener

    def _beside(self, resources: Resources) -> dict[str, Runner]:
        return {"stream-reports": lambda: self._report_on(resources)}

    async def _report_on(self, resources: Resources) -> None:
        pause = START_REPORT_SECONDS
        while True:
            health = await resources.health.report()
            troubles = [
                f"{name}: {check.message}"
                for name, check in health.checks.items()
                if check.status != "healthy"
            ]
            if not self._listens:
                troubles.insert(0, "not listening yet")
            report = Report(streams=resources.streams(), trouble="; ".join(troubles) or None)
            self._tell(encode(report))
            pause = REPORT_SECONDS if not troubles else pause
            await asyncio.sleep(pause)

    def _tell(self, line: bytes) -> None:
        try:
            self._parent.send(line, socket.MSG_DONTWAIT)
        except OSError:
            # A parent that is slow misses a report; the lifeline's thread sees one that is gone.
            return

    def _orphaned(self) -> None:
        """In the lifeline's thread."""
        self._drain_seconds_max = ORPHAN_DRAIN_SECONDS
        os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> None:
    """Entry point; exit 0 when asked to end."""
    settings = NotificationsSettings.read_or_exit()
    slot, folder, descriptor = arguments
    logs.configure(f"notifications-{slot}", settings.log_level)
    parent = socket.socket(fileno=int(descriptor))
    shared = RunDir(Path(folder))
    with shared.used_by_worker():
        Worker(int(slot), shared, parent).run(settings)


if __name__ == "__main__":
    main(sys.argv[1:])
