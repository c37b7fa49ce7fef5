"""Many thousand connections that come and go: the process may not grow by them."""

import asyncio
import gc
import time
from dataclasses import dataclass, field
from statistics import linear_regression
from typing import Final

import psutil
from tests.support.churning import churn
from tests.support.stream_service import Publisher, StreamService
from tests.support.system import wait_until

#: The slope of memory over connects, after the first fifth: 100,000 connects may cost 3 MiB. One
#: forgotten socket costs some 10 KiB, one forgotten request some 2 KiB.
BYTES_A_CONNECT_MAX: Final = 32.0
SAMPLES: Final = 50
#: Arenas and caches fill meanwhile.
WARM_PART: Final = 0.2
#: Descriptors that may be there for a moment, of questions of ours.
DESCRIPTORS_SPARE: Final = 3


@dataclass(frozen=True, slots=True)
class Churned:
    """``rss_mib``: after each fiftieth of the connects, when their streams were gone."""

    connects: int
    seconds: float
    bytes_a_connect: float
    descriptors_more: int
    rss_mib: list[float] = field(repr=False)

    @property
    def holds(self) -> bool:
        return (
            self.bytes_a_connect <= BYTES_A_CONNECT_MAX
            and self.descriptors_more <= DESCRIPTORS_SPARE
        )


def run(brokers: str, connects: int) -> Churned:
    """Against one process; samples are taken when all streams of a part are gone."""
    Publisher(brokers)
    with StreamService(brokers) as service:
        process = psutil.Process(service.process.pid)
        before = process.num_fds()
        begun = time.monotonic()
        samples: list[tuple[int, int]] = []
        part = connects // SAMPLES
        for number in range(1, SAMPLES + 1):
            asyncio.run(churn(service.port, part))
            gc.collect()
            _wait_until_gone(service)
            samples.append((number * part, process.memory_info().rss))
        warm = samples[int(SAMPLES * WARM_PART) :]
        slope = linear_regression([float(x) for x, _ in warm], [float(y) for _, y in warm]).slope
        return Churned(
            connects=SAMPLES * part,
            seconds=round(time.monotonic() - begun, 1),
            bytes_a_connect=round(slope, 2),
            descriptors_more=process.num_fds() - before,
            rss_mib=[round(rss / 1_048_576, 2) for _, rss in samples],
        )


def _wait_until_gone(service: StreamService) -> None:
    def gone() -> bool:
        return "shopstream_stream_connections 0.0" in service.get("/metrics").text

    wait_until(gone, "all streams to be gone")
