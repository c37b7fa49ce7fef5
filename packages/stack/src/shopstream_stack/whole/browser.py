"""From POST to browser: how long after a POST is sent each of a hundred streams has its event."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException

from shopstream_stack.bench.evidence import new_seller
from shopstream_stack.bench.result import Bar, Results, Row
from shopstream_stack.demo.log_reader import LogUnreadable
from shopstream_stack.demo.report import percentile
from shopstream_stack.errors import StackError
from shopstream_stack.kit.generator import (
    Generator,
    Sequences,
    StreamGroup,
    StreamReport,
    StreamSpec,
    generating,
)
from shopstream_stack.whole.arrivals import drain, on_the_log
from shopstream_stack.whole.place import WholePlace
from shopstream_stack.whole.posts import MOMENT, Posts

P50_MS_MAX: Final = 15.0
P99_MS_MAX: Final = 60.0
SETTLE_SECONDS_MAX: Final = 60.0
PATH: Final = "/events/stream"
ALL: Final = "all"
#: Of the pace: with less it was another load.
PACE_MIN: Final = 0.95


@dataclass(frozen=True, slots=True)
class BrowserPlan:
    """Sizes of a run. ``warmup_seconds``: the broker's code is compiled as it runs."""

    streams: int
    per_second: float
    warmup_seconds: float
    seconds: float


BROWSER_FULL: Final = BrowserPlan(streams=100, per_second=20.0, warmup_seconds=60.0, seconds=120.0)
BROWSER_QUICK: Final = BrowserPlan(streams=5, per_second=10.0, warmup_seconds=0.5, seconds=1.5)


def measure_browser(place: WholePlace, results: Results, plan: BrowserPlan) -> None:
    """Three rows: the whole way, and its two parts. Raises StackError."""
    api = place.url("api").removeprefix("http://")
    seller = new_seller("browser")
    with ExitStack() as stack:
        browsers = stack.enter_context(_streams(place, plan.streams, MOMENT))
        # One stream more, which counts from the event's own time: the API made it in between.
        beside = stack.enter_context(_streams(place, 1, ""))
        warm = Posts(api, seller)
        warm.run(plan.per_second, plan.warmup_seconds)
        _settled(place, browsers, beside)
        for generator in (browsers, beside):
            generator.begin()
        posts = Posts(api, seller)
        posts.run(plan.per_second, plan.seconds)
        whole, part = _settled(place, browsers, beside)
    results.rows += rows(plan, posts, whole, part)


def rows(plan: BrowserPlan, posts: Posts, whole: StreamReport, part: StreamReport) -> list[Row]:
    """The table; a miss of any stream voids it."""
    sent = round(plan.per_second * plan.seconds)
    faults = list(whole.faults)
    if whole.deliveries != sent * plan.streams:
        faults.append(f"{whole.deliveries} deliveries of {sent} POSTs to {plan.streams} streams")
    bars = (
        Bar("p50 ms", whole.steady.p50_ms, "<=", P50_MS_MAX),
        Bar("p99 ms", whole.steady.p99_ms, "<=", P99_MS_MAX),
        Bar("POSTs/s", posts.a_second, ">=", PACE_MIN * plan.per_second),
    )
    figures = {"rate": posts.a_second, **_times(whole)}
    ascending = sorted(posts.answered_ms)
    answers = {"p50Ms": percentile(ascending, 50), "p99Ms": percentile(ascending, 99)}
    name = f"POST to browser, {plan.per_second:g}/s, {plan.streams} streams"
    return [
        Row(name, figures, bars, tuple(faults)),
        Row("Of that until the answer to the POST", answers),
        Row("From the event's own time to a stream beside them", _times(part), (), (*part.faults,)),
    ]


def _times(report: StreamReport) -> dict[str, float]:
    steady = report.steady
    return {"p50Ms": steady.p50_ms, "p99Ms": steady.p99_ms, "maxMs": steady.max_ms}


@contextmanager
def _streams(place: WholePlace, count: int, moment: str) -> Iterator[Generator]:
    spec = StreamSpec(
        address=place.stream,
        connections=count,
        groups=(StreamGroup(name=ALL, path=PATH),),
        profile="shopstream",
        pollers=1,
        moment=moment,
    )
    with generating(place.load, spec) as generator:
        if generator.opened.misses:
            raise StackError("; ".join(generator.opened.faults))
        yield generator


def _settled(place: WholePlace, *generators: Generator) -> list[StreamReport]:
    """Wait until each stream has all that is on the log, each event once. Raises StackError."""
    drain(place)
    try:
        log = on_the_log(place.brokers)
    except (LogUnreadable, KafkaException) as error:
        raise StackError(f"the log cannot be read: {error}") from error
    every: Sequences = {name: span for spans in log.values() for name, span in spans.items()}
    return [one.settle({ALL: every}, SETTLE_SECONDS_MAX) for one in generators]
