"""How many sockets the process can have: each is a file descriptor."""

import resource
from typing import Final

#: File descriptors that are not streams: Kafka's connections, the listener, logs, operators'
#: requests, and refusals on their way out.
DESCRIPTORS_RESERVED: Final = 256
#: Where the system sets no bound on descriptors: Linux's own ceiling for a process (fs.nr_open).
DESCRIPTORS_MAX: Final = 1_048_576


def sockets_max(asked: int) -> int:
    """How many sockets the process may serve; ``asked`` 0 means: as many as it can.

    Raises ValueError when more are asked for than it has file descriptors for.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else soft
    possible = max(1, descriptors - DESCRIPTORS_RESERVED)
    if asked > possible:
        msg = (
            f"{asked} sockets need {asked + DESCRIPTORS_RESERVED} file descriptors and the process "
            f"may open {descriptors}; raise its limit (ulimit -n) or ask for at most {possible}"
        )
        raise ValueError(msg)
    return asked or possible
