"""The whole system at a glance: services, the relay's lag, the groups' lag, and how fresh we are.

Everything is asked at once and each within its own bound; what does not answer is said to be so,
and the answer is still 200: the operator who asks wants to see just that.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from shopstream_analytics.supervisor import Supervisor, WorkerProcess
from shopstream_analytics.worker.report import Lag
from shopstream_analytics.worker.sinks import WORKERS, WorkerName, group_of
from shopstream_shared.clock import Clock, SystemClock, format_time
from shopstream_shared.kafka import KafkaConnection, topic_states
from shopstream_shared.log_range import EARLIEST, log_ends, log_offsets
from shopstream_shared.topics import STREAM_TOPICS

#: A service that takes longer is as good as away for somebody who looks.
ASK_SECONDS_MAX: Final = 4.0
#: Health and metrics of one service; more is cut off and counts as no answer.
ANSWER_BYTES_MAX: Final = 4_194_304
SAMPLE_SECONDS: Final = 1.0
#: The stream's group commits for display only, but a stream that hangs shows here.
STREAM_GROUP: Final = "notifications-service"
_RELAY: Final = {
    "lagRows": "shopstream_relay_lag_rows",
    "lagSeconds": "shopstream_relay_lag_seconds",
    "poisonRows": "shopstream_relay_poison_rows",
}
_LEAST_WELL_FIRST: Final = ("down", "halted", "waiting", "running")
_decoder: Final = msgspec.json.Decoder(dict[str, Any])


@dataclass(slots=True)
class Freshness:
    """When each worker had last taken in all there was, by looking again and again."""

    workers: Sequence[WorkerProcess]
    _caught_up_at: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(SAMPLE_SECONDS)

    def look(self) -> None:
        """Note who is at the end of the log now."""
        for worker in self.workers:
            report = worker.report
            if report is not None and report.state == "running" and _lag(report.lags) == 0:
                self._caught_up_at[worker.name] = time.monotonic()

    def seconds(self, name: str) -> float | None:
        """How old at most what it shows is; None when it has never been at the end."""
        at = self._caught_up_at.get(name)
        return None if at is None else round(time.monotonic() - at, 1)


@dataclass(frozen=True, slots=True)
class Overview:
    """``services``: base addresses of the others, by name."""

    services: Mapping[str, str]
    supervisor: Supervisor
    freshness: Freshness
    kafka: KafkaConnection
    clock: Clock = field(default_factory=SystemClock)

    async def as_json(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """The body; ``own`` is this service's health. Never raises for what is away."""
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS_MAX)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            *services, relay, stream = await asyncio.gather(
                *(_service(session, name, url) for name, url in self.services.items()),
                self._relay(session),
                asyncio.to_thread(self._stream_lag),
            )
        return {
            "at": format_time(self.clock.now()),
            "services": [*services, {"name": "analytics", **_health(own)}],
            "relay": relay,
            "groups": [*map(self._group, WORKERS), stream],
        }

    def _group(self, sink: WorkerName) -> dict[str, Any]:
        """This service's workers of one sink together; the least well of them counts."""
        workers = [one for one in self.supervisor.workers if sink_of(one) == sink]
        reports = [one.report for one in workers if one.report is not None]
        states = {"down"} if len(reports) < len(workers) else {one.state for one in reports}
        # One without partitions, of more workers than those, is behind nothing and knows nothing.
        busy = [one.name for one in workers if one.report is None or one.report.lags]
        fresh = [self.freshness.seconds(name) for name in busy]
        ages = [seconds for seconds in fresh if seconds is not None]
        return {
            "group": group_of(sink),
            "state": next(state for state in _LEAST_WELL_FIRST if state in states),
            "lag": _lag([lag for one in reports for lag in one.lags])
            if states == {"running"}
            else None,
            "freshSeconds": max(ages) if ages and len(ages) == len(busy) else None,
        }

    async def _relay(self, session: aiohttp.ClientSession) -> dict[str, float | None]:
        """From the API's metrics: rows of all shards, the oldest row's age."""
        nothing: dict[str, float | None] = dict.fromkeys(_RELAY)
        url = self.services.get("api")
        text = None if url is None else await _text(session, f"{url}/metrics")
        if text is None:
            return nothing
        found: dict[str, list[float]] = {}
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    found.setdefault(sample.name, []).append(sample.value)
        except ValueError:
            return nothing
        return {
            member: (max if member == "lagSeconds" else sum)(found[name]) if name in found else None
            for member, name in _RELAY.items()
        }

    def _stream_lag(self) -> dict[str, Any]:
        """What the stream's group has committed against the stable ends."""
        lag: int | None
        try:
            lag = _committed_lag(self.kafka, STREAM_GROUP)
        except KafkaException:
            lag = None
        return {"group": STREAM_GROUP, "state": None, "lag": lag, "freshSeconds": None}


def _lag(lags: Sequence[Lag]) -> int | None:
    """Offsets behind; None unless there are partitions and the ends of all are known.

    For a moment after each start and rebalance they are not: that is not to be at the end.
    """
    ends = [lag.end for lag in lags if lag.end is not None]
    if not lags or len(ends) < len(lags):
        return None
    return sum(max(0, end - lag.durable) for end, lag in zip(ends, lags, strict=True))


def sink_of(worker: WorkerProcess) -> str:
    """The first worker of a sink has its name, the others a number behind it."""
    return worker.name.partition("-")[0]


def _committed_lag(kafka: KafkaConnection, group: str) -> int | None:
    admin = AdminClient(kafka.admin())
    states = topic_states(admin, STREAM_TOPICS, timeout_seconds=ASK_SECONDS_MAX)
    parts = [(name, number) for name, one in states.items() for number in range(one.partitions)]
    ends = log_ends(admin, parts, committed=True, timeout_seconds=ASK_SECONDS_MAX)
    starts = log_offsets(admin, parts, EARLIEST, timeout_seconds=ASK_SECONDS_MAX)
    # Not the admin client's own call, which ends the process while a young broker still loads its
    # coordinator (librdkafka 2.16). This consumer never joins the group.
    reader = Consumer(kafka.consumer(group))
    try:
        found = reader.committed([TopicPartition(*part) for part in parts], timeout=ASK_SECONDS_MAX)
    finally:
        reader.close()
    committed = {(one.topic, one.partition): one.offset for one in found if one.offset >= 0}
    if any(end > starts[part] and part not in committed for part, end in ends.items()):
        return None
    return sum(
        max(0, end - max(starts[part], committed.get(part, 0))) for part, end in ends.items()
    )


async def _service(session: aiohttp.ClientSession, name: str, url: str) -> dict[str, Any]:
    text = await _text(session, f"{url}/health")
    try:
        found = _decoder.decode(text or "")
    except msgspec.MsgspecError:
        return {"name": name, "status": "unreachable", "checks": {}}
    return {"name": name, **_health(found)}


def _health(report: Mapping[str, Any]) -> dict[str, Any]:
    checks = report.get("checks")
    return {
        "status": str(report.get("status", "unreachable")),
        "checks": checks if isinstance(checks, dict) else {},
    }


async def _text(session: aiohttp.ClientSession, url: str) -> str | None:
    """The body of any answer; None when there is none in time."""
    try:
        async with session.get(url) as response:
            body = b""
            async for chunk in response.content.iter_chunked(65_536):
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    return None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
    return body.decode(errors="replace")
