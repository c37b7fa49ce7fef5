"""From POST to browser: what voids a row, and what misses a bar."""

from typing import Any

import msgspec
import pytest

from shopstream_stack.kit.generator import Latency, StreamReport
from shopstream_stack.whole.browser import BrowserPlan, rows
from shopstream_stack.whole.posts import Posts

PLAN = BrowserPlan(streams=100, per_second=20.0, warmup_seconds=0.0, seconds=60.0)
NOTHING = Latency(count=0, p50_ms=0, p99_ms=0, p999_ms=0, max_ms=0)


def posted(a_second: float = 20.0, answered_ms: tuple[float, ...] = (5.0,)) -> Posts:
    return Posts("", "s1", list(answered_ms), a_second=a_second)


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
    assert rows(PLAN, posted(), whole, report())[0].verdict() == verdict


def test_a_miss_at_the_stream_beside_them_is_wrong_too() -> None:
    beside = msgspec.structs.replace(report(), faults=["lost"])
    assert rows(PLAN, posted(), report(), beside)[2].verdict() == "WRONG"


def test_the_rate_is_what_was_sent_and_a_slower_pace_misses() -> None:
    slow = rows(PLAN, posted(18.9), report(), report())[0]
    assert (slow.figures["rate"], slow.verdict()) == (18.9, "MISSED")


def test_of_a_hundred_answers_the_fiftieth_and_the_ninety_ninth_are_told() -> None:
    answers = tuple(float(number) for number in range(100, 0, -1))
    told = rows(PLAN, posted(answered_ms=answers), report(), report())[1].figures
    assert told == {"p50Ms": 50.0, "p99Ms": 99.0}
