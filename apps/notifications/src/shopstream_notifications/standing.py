"""What a process of the service is among its likes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from shopstream_notifications.commit_turn import CommitTurn
from shopstream_shared.health import Probe


@dataclass(frozen=True, slots=True)
class Standing:
    """By default a process of its own, without others."""

    commit_turn: CommitTurn = field(default_factory=CommitTurn)
    #: What ``/metrics`` shows instead of this process's own.
    metrics: CollectorRegistry | None = None
    #: How the others do, as a check of ``/health``.
    others: Probe | None = None
    #: Whether others serve, so that this one may drain without the service being away.
    is_relieved: Callable[[], bool] = lambda: False
    #: A bound on the drain beside the setting's; asked when it begins.
    #: Where workers of one port find each other; None: there are no others.
    folder: Path | None = None
    drain_seconds_max: Callable[[], float] = lambda: math.inf
