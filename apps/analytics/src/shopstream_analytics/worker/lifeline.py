"""A worker ends when its parent ends, however that came about.

The parent holds the other end of a socket: its end is seen as end-of-file even when the parent was
killed. The kernel's parent-death signal says the same a moment earlier on Linux.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

#: Between the signal and the hard end; everything a worker stores is exact at any moment.
ORPHAN_SECONDS_MAX: Final = 6.0
_PR_SET_PDEATHSIG: Final = 1


def follow_parent(parent: socket.socket, on_end: Callable[[], None]) -> None:
    """Call `on_end` when the parent ends, and end hard if that has not helped in time."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    def watch() -> None:
        # The parent never sends anything: whatever ends this read is its end.
        parent.recv(1)
        on_end()
        time.sleep(ORPHAN_SECONDS_MAX)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
