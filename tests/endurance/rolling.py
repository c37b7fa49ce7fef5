"""A rolling restart of several workers with many resuming clients, and events all the while."""

import asyncio
import signal
import time
from dataclasses import dataclass
from typing import Final

from tests.support.fleet import Fleet, Log, Verdict
from tests.support.stream_service import Publisher, StreamService, an_event

#: Pauses between two events: enough of them fall into every moment of the restart.
EVENT_PAUSE_SECONDS: Final = 0.1
ROLL_SECONDS_MAX: Final = 600.0
#: For the last clients to come back and to get what they missed.
COMPLETE_SECONDS_MAX: Final = 180.0


@dataclass(frozen=True, slots=True)
class Rolled:
    """``returns_a_second``: reconnects in each second, from the first to the last."""

    clients: int
    events: int
    rolling_seconds: float
    verdict: Verdict
    returns_a_second: list[int]

    @property
    def holds(self) -> bool:
        """Nothing lost, nothing twice, and everybody had to move."""
        return self.verdict.holds and self.verdict.reconnects >= self.clients


async def run(brokers: str, clients: int, *, workers: int, drain: float) -> Rolled:
    """Start the service, restart it under the clients, compare."""
    publisher = Publisher(brokers)
    variables = {
        "SHOPSTREAM_NOTIFICATIONS_WORKERS": str(workers),
        "SHOPSTREAM_DRAIN_SECONDS": str(drain),
    }
    with StreamService(brokers, healthy=True, **variables) as service:
        log = Log(brokers)
        async with Fleet(f"{service.url}/events/stream", clients) as fleet:
            begun = time.monotonic()
            service.process.send_signal(signal.SIGHUP)
            events = 0
            while "stream.rolling_restart_" not in service.log():
                if time.monotonic() - begun > ROLL_SECONDS_MAX:
                    raise TimeoutError(service.log()[-2_000:])
                await asyncio.to_thread(publisher.publish, an_event())
                events += 1
                await asyncio.sleep(EVENT_PAUSE_SECONDS)
            seconds = time.monotonic() - begun
            await fleet.complete(events, seconds_max=COMPLETE_SECONDS_MAX)
            return Rolled(
                clients,
                events,
                round(seconds, 1),
                fleet.verdict(log.marks()),
                fleet.returns_a_second(),
            )
