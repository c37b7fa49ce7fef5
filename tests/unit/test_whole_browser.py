"""From POST to browser: what voids a row, and what misses a bar."""

from typing import Any

import msgspec
import pytest

from shopstream_stack.kit.generator import Latency, StreamReport
from shopstream_stack.whole.browser import BrowserPlan, quantile, rows

PLAN = BrowserPlan(streams=100, per_second=20.0, warmup_seconds=0.0, seconds=60.0)
NOTHING = Latency(count=0, p50_ms=0, p99_ms=0, p999_ms=0, max_ms=0)


def report(p50: float = 15.0, p99: float = 60.0, **changed: Any) -> StreamReport:
    times = Latency(count=1, p50_ms=p50, p99_ms=p99, p999_ms=p99, max_ms=p99)
    counts = dict.fromkeys(StreamReport.__struct_fields__, 0)
    told: dict[str, Any] = {
        **counts,
        "steady": times,
        "cut": NOTHING,
        "slow": NOTHING,
        "resumed": NOTHING,
        "controls": {},
        "faults": [],
        "deliveries": 120_000,
        **changed,
    }
    return StreamReport(**told)


@pytest.mark.parametrize(
    ("whole", "verdict"),
    [
        (report(), "holds"),
        (report(p50=15.1), "MISSED"),
        (report(p99=60.1), "MISSED"),
        (report(deliveries=119_999), "WRONG"),
        (report(faults=["stream 3: 5 follows 3"]), "WRONG"),
    ],
    ids=["at its bars", "p50", "p99", "one less", "a fault"],
)
def test_the_whole_way_is_held_to_its_bars_and_to_every_delivery(
    whole: StreamReport, verdict: str
) -> None:
    assert rows(PLAN, [5.0], whole, report())[0].verdict() == verdict


def test_a_miss_at_the_stream_beside_them_is_wrong_too() -> None:
    beside = msgspec.structs.replace(report(), faults=["lost"])
    assert rows(PLAN, [5.0], report(), beside)[2].verdict() == "WRONG"


def test_a_quantile_is_the_nearest_rank() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([], 0.5)) == (51.0, 100.0, 0.0)
