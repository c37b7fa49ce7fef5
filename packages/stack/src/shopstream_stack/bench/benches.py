"""All benchmarks, in the order in which they are run: a new one is an entry here and in NAMES."""

from functools import partial
from typing import Any, Final

from shopstream_stack.bench.analytics.bench import Bench
from shopstream_stack.bench.analytics.place import AnalyticsPlace, running_analytics
from shopstream_stack.bench.analytics.plan import ANALYTICS_FULL, ANALYTICS_QUICK
from shopstream_stack.bench.analytics.rows import measure_analytics
from shopstream_stack.bench.analytics.sizes import distinct_rows, measure_backlogs
from shopstream_stack.bench.api import measure_api
from shopstream_stack.bench.catalog_sizes import measure_table_sizes
from shopstream_stack.bench.command import Benchmark
from shopstream_stack.bench.names import NAMES, Form
from shopstream_stack.bench.place import Place, bench_settings, running
from shopstream_stack.bench.plan import FULL, QUICK, RELAY_FULL, RELAY_QUICK
from shopstream_stack.bench.relay import measure_relay
from shopstream_stack.bench.relay_sizes import measure_relay_sizes
from shopstream_stack.bench.result import Results
from shopstream_stack.bench.stream.place import StreamPlace, running_streams
from shopstream_stack.bench.stream.plan import STREAM_FULL, STREAM_QUICK
from shopstream_stack.bench.stream.rows import StreamBench
from shopstream_stack.bench.stream.sizes import measure_stream_sizes
from shopstream_stack.ports import PortReservations
from shopstream_stack.whole.browser import BROWSER_FULL, BROWSER_QUICK, measure_browser
from shopstream_stack.whole.place import WholePlace, running_whole, whole_settings


def _api(place: Place, ports: PortReservations, results: Results, form: Form) -> None:
    plan = QUICK if form == "quick" else FULL
    if form != "sizes":
        measure_api(place, plan, results)
    measure_table_sizes(place, plan, results)


def _relay(place: Place, ports: PortReservations, results: Results, form: Form) -> None:
    plan = RELAY_QUICK if form == "quick" else RELAY_FULL
    if form != "sizes":
        measure_relay(place, plan, results)
    measure_relay_sizes(place, plan, results)


def _sse(place: StreamPlace, ports: PortReservations, results: Results, form: Form) -> None:
    plan = STREAM_QUICK if form == "quick" else STREAM_FULL
    if form != "sizes":
        StreamBench(place, ports, plan, results).run()
    measure_stream_sizes(place, plan, results)


def _analytics(
    place: AnalyticsPlace, ports: PortReservations, results: Results, form: Form
) -> None:
    bench = Bench(place, ports, ANALYTICS_QUICK if form == "quick" else ANALYTICS_FULL, results)
    if form == "sizes":
        bench.add(distinct_rows(bench))
        bench.end()
    else:
        measure_analytics(bench)
    measure_backlogs(bench)


def _e2e(place: WholePlace, ports: PortReservations, results: Results, form: Form) -> None:
    measure_browser(place, results, BROWSER_QUICK if form == "quick" else BROWSER_FULL)


BENCHES: Final[tuple[Benchmark[Any], ...]] = (
    Benchmark("api", NAMES["api"], _api, running, quick_java=True),
    # The relay's own part, and the stream's, are small beside the broker's: they wait until that
    # is at its best.
    Benchmark("relay", NAMES["relay"], _relay, running),
    Benchmark("sse", NAMES["sse"], _sse, running_streams),
    # Small transactions at a pace are new to the broker: compiling that well took it two fifths of
    # a core for as long as they were measured.
    Benchmark(
        "analytics",
        NAMES["analytics"],
        _analytics,
        running_analytics,
        settings_of=partial(bench_settings, quick_kafka=True),
    ),
    Benchmark(
        "e2e", NAMES["e2e"], _e2e, running_whole, settings_of=partial(whole_settings, "bench-e2e")
    ),
)
