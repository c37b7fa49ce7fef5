"""What a connection takes in memory, of a server that nobody was connected to before."""

import time
from typing import Final

from shopstream_stack.bench.stream.feed import Feed
from shopstream_stack.bench.stream.place import StreamPlace
from shopstream_stack.bench.stream.plan import StreamPlan
from shopstream_stack.bench.stream.steps import refuse, step

#: Connections before those that are counted: what the first ones bring into memory stays.
FIRST_CONNECTIONS: Final = 50
#: Memory is looked at until it has stopped growing.
CALM_SECONDS_MAX: Final = 20.0


def connection_kib(place: StreamPlace, plan: StreamPlan, feed: Feed, connections: int) -> float:
    """A connection's memory in the service, which must be fresh. Raises StackError."""
    with place.streams(FIRST_CONNECTIONS) as first:
        # An event, so that all that sends one is there.
        refuse(step(first, feed, plan.paces[0][0], plan.step_seconds).report.faults)
        before = calm_kib(place, plan)
        with place.streams(connections) as streams:
            refuse(streams.opened.faults)
            return (calm_kib(place, plan) - before) / connections


def calm_kib(place: StreamPlace, plan: StreamPlan, server: int = 0) -> float:
    """Memory of the service or another server, once it has not grown for a while."""
    ends = time.monotonic() + CALM_SECONDS_MAX
    last = place.kib(server)
    while time.monotonic() < ends:
        time.sleep(plan.calm_seconds)
        now = place.kib(server)
        if now <= last:
            return now
        last = now
    return last
