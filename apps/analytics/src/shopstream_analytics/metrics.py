"""The workers' metrics, as the parent heard them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shopstream_analytics.progress import FAULTS, ITEMS_REFUSED, PASSED_OVER
from shopstream_analytics.sink import FAULT_KINDS
from shopstream_analytics.supervisor import Supervisor, WorkerProcess

_COUNTERS: Final = {
    "records": "Records taken into the sink",
    "batches": "Writes of joined batches into the sink",
    "bytes": "Bytes of keys and values taken into the sink",
    "dead_letters": "Records sent to the dead-letter topic",
    PASSED_OVER: "Records not counted because they have a dead letter",
    ITEMS_REFUSED: "Events that the store never takes, left out",
    "sink_calls": "Calls of the sink that succeeded",
    "sink_retries": "Calls of the sink that will be repeated",
    "sink_faults": "Calls of the sink that failed though it is there, and will be repeated",
    "stale_batches": "Batches dropped because a seek came after them",
}


@dataclass(frozen=True, slots=True, eq=False)
class WorkerCollector(Collector):
    """Collects when scraped; a worker that is down has ``up`` 0 and no other series."""

    supervisor: Supervisor

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "shopstream_analytics_worker_up", "1 while it consumes", labels=["worker"]
        )
        starts = CounterMetricFamily(
            "shopstream_analytics_worker_starts", "Starts of the worker", labels=["worker"]
        )
        for worker in self.supervisor.workers:
            running = worker.report is not None and worker.report.state == "running"
            up.add_metric([worker.name], float(running))
            starts.add_metric([worker.name], worker.starts)
        yield up
        yield starts
        yield from self._counters()
        yield self._faults()
        yield self._halted()
        yield from self._lags()

    def _counters(self) -> Iterator[Metric]:
        for name, text in _COUNTERS.items():
            family = CounterMetricFamily(f"shopstream_analytics_{name}", text, labels=["worker"])
            for worker, counters in _heard(self.supervisor.workers):
                family.add_metric([worker], counters.get(name, 0))
            yield family

    def _faults(self) -> Metric:
        family = CounterMetricFamily(
            "shopstream_analytics_store_faults",
            "Tries of calls that the store did not take, by what its answer meant",
            labels=["worker", "kind"],
        )
        for worker, counters in _heard(self.supervisor.workers):
            for kind in FAULT_KINDS:
                family.add_metric([worker, kind], counters.get(FAULTS + kind, 0))
        return family

    def _halted(self) -> Metric:
        family = GaugeMetricFamily(
            "shopstream_analytics_worker_halted",
            "1 while the worker waits for an operator",
            labels=["worker", "reason"],
        )
        for worker in self.supervisor.workers:
            report = worker.report
            if report is not None and report.state == "halted":
                # The reason's own name; what follows says what was found.
                name = (report.reason or "").partition(":")[0]
                family.add_metric([worker.name, name], 1.0)
        return family

    def _lags(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "shopstream_analytics_lag_offsets",
            "Offsets between the sink's checkpoint and the last stable offset",
            labels=["worker", "topic", "partition"],
        )
        for worker in self.supervisor.workers:
            for lag in worker.report.lags if worker.report is not None else ():
                if lag.end is not None:
                    labels = [worker.name, lag.topic, str(lag.partition)]
                    family.add_metric(labels, max(0, lag.end - lag.durable))
        yield family


def _heard(workers: Sequence[WorkerProcess]) -> Iterator[tuple[str, dict[str, int]]]:
    for worker in workers:
        if worker.report is not None:
            yield worker.name, worker.report.counters
