"""What can be seen of the system from outside: who serves, who publishes, when it does again."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, cast

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from shopstream_shared.clock import Clock, epoch_ms
from shopstream_shared.topics import STREAM_TOPICS, load_topics
from shopstream_stack import sinks
from shopstream_stack.chaos.place import RELAYS, Place
from shopstream_stack.chaos.schedule import WORKERS
from shopstream_stack.chaos.tail import Tail
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError
from shopstream_stack.process import NotHealthyError, started_mark

#: A look takes 2 ms of a processor, of which the process that is waited for has too little already.
POLL_SECONDS: Final = 0.05
#: One probe of a process; a stopped one does not answer at all.
ANSWER_SECONDS_MAX: Final = 0.5
#: Two looks at the counters so far apart tell who publishes.
LOOK_SECONDS: Final = 0.5
LEADER_SECONDS_MAX: Final = 15.0
#: Reading a sink's checkpoints takes some tens of calls of stores that have work to do.
CHECKPOINTS_POLL_SECONDS: Final = 0.5
HEALTHY_SECONDS_MAX: Final = 60.0
PUBLISHED: Final = "shopstream_relay_events_total"
#: Records that a worker of analytics has taken into its sink.
STORED: Final = "shopstream_analytics_records_total"
#: What a relay logs when its term was ended by somebody else.
TERM_ENDED: Final = "relay begins again"
#: One series a partition that a worker has.
LAG: Final = "shopstream_analytics_lag_offsets"


class Probe:
    """Asks from one event loop. Times are seconds; None means: not in the time given."""

    def __init__(self, place: Place, tail: Tail, client: httpx.AsyncClient, clock: Clock) -> None:
        self._place = place
        self._tail = tail
        self._client = client
        self._clock = clock

    async def leader(self) -> str:
        """Whose relay publishes now. Raises StackError: nobody's does for LEADER_SECONDS_MAX."""
        end = time.monotonic() + LEADER_SECONDS_MAX
        before = await self._counters()
        while time.monotonic() < end:
            await asyncio.sleep(LOOK_SECONDS)
            now = await self._counters()
            for name, count in now.items():
                if count > before.get(name, count):
                    return name
            before = now
        raise StackError(
            f"no relay published for {LEADER_SECONDS_MAX:g} s: nobody to be called leader"
        )

    async def _counters(self) -> Mapping[str, float]:
        found = {name: await self._published_by(name) for name in RELAYS}
        return {name: count for name, count in found.items() if count is not None}

    async def _published_by(self, name: str) -> float | None:
        text = await self._get(f"{self._place.url(name)}/metrics")
        return None if text is None else sum(_samples(text, PUBLISHED))

    async def _get(self, url: str) -> str | None:
        try:
            answer = await self._client.get(url, timeout=ANSWER_SECONDS_MAX)
        except httpx.HTTPError:
            return None
        return answer.text if answer.is_success else None

    async def serves(self, name: str, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` (monotonic) this process answers a list of products."""
        url = f"{self._place.url(name)}/products?limit=1"

        async def answered() -> bool:
            return await self._get(url) is not None

        return await when(answered, since, seconds_max)

    async def publishes(self, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` an event that is younger than ``since`` is on the log."""
        at_ms = epoch_ms(self._clock.now()) - (time.monotonic() - since) * 1_000

        async def seen() -> bool:
            return self._tail.newest_ms > at_ms

        return await when(seen, since, seconds_max)

    async def stores(self, worker: str, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` a worker of analytics has stored what it is there for.

        It takes records in again, and all that is published when that is seen (of every partition)
        is below the checkpoints that its store holds: the counter alone also counts what is only
        held in memory, and one partition's share.
        """
        if await self._takes_in(worker, since, seconds_max) is None:
            return None
        wanted = dict(self._tail.positions)

        async def stored() -> bool:
            try:
                held = await asyncio.to_thread(self._held_by, worker)
            except StackError:
                return False  # its store, or the broker, is away again
            return all(held.get(place, 0) >= position for place, position in wanted.items())

        return await when(stored, since, seconds_max, poll_seconds=CHECKPOINTS_POLL_SECONDS)

    def _held_by(self, worker: str) -> Mapping[tuple[str, int], int]:
        """Past all links, from the store itself."""
        target = Target.local(self._place.system.settings)
        return sinks.nexts(target, cast("sinks.SinkName", worker))

    async def _takes_in(self, worker: str, since: float, seconds_max: float) -> float | None:
        """Seen twice, the later time with more records of it."""
        before: float | None = None

        async def more() -> bool:
            nonlocal before
            text = await self._get(f"{self._place.url('analytics')}/metrics")
            # A worker that has not reported yet has no series.
            now = [] if text is None else _samples(text, STORED, worker=worker)
            grown = before is not None and bool(now) and now[0] > before
            before = now[0] if now else None
            return grown

        return await when(more, since, seconds_max)

    async def gone(self, name: str, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` the process has ended."""

        async def ended() -> bool:
            return not self._place.runs(name)

        return await when(ended, since, seconds_max)

    async def lives(self, name: str, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` the process answers at all."""

        async def answered() -> bool:
            return await self._get(f"{self._place.url(name)}/health/live") is not None

        return await when(answered, since, seconds_max)

    async def pid_gone(self, pid: int, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` a process that is not ours to collect has ended."""

        async def ended() -> bool:
            return started_mark(pid) is None

        return await when(ended, since, seconds_max)

    async def has_partitions(
        self, name: str, worker: str, since: float, seconds_max: float
    ) -> float | None:
        """How long after ``since`` a service's worker has partitions."""

        async def some() -> bool:
            return (await self._partitions(name))[worker] > 0

        return await when(some, since, seconds_max)

    async def has_all_partitions(self, name: str, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` each worker of a service has all partitions."""
        everything = sum(load_topics("local")[topic].partitions for topic in STREAM_TOPICS)

        async def every() -> bool:
            held = await self._partitions(name)
            return all(held[worker] == everything for worker in WORKERS)

        return await when(every, since, seconds_max)

    async def _partitions(self, name: str) -> Counter[str]:
        """By worker; also of one that waits for its store, which /health would not count."""
        text = await self._get(f"{self._place.url(name)}/metrics")
        return Counter(sample.labels["worker"] for sample in _found(text or "", LAG))

    async def says(self, name: str, word: str, since: float, seconds_max: float) -> float | None:
        """How long after ``since`` a service's /health is 503 and holds this word."""

        async def said() -> bool:
            try:
                answer = await self._client.get(
                    f"{self._place.url(name)}/health", timeout=ANSWER_SECONDS_MAX
                )
            except httpx.HTTPError:
                return False
            return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and word in answer.text

        return await when(said, since, seconds_max)

    async def term_ended(self, name: str, log_bytes: int, since: float, seconds_max: float) -> str:
        """Why the relay of ``name`` gave up its term after its log had ``log_bytes``; "" if not."""
        reason = ""

        async def said() -> bool:
            nonlocal reason
            reason = said_after(self._place, name, log_bytes)
            return bool(reason)

        await when(said, since, seconds_max)
        return reason

    async def healthy(self, names: tuple[str, ...]) -> list[str]:
        """Those that do not become healthy in HEALTHY_SECONDS_MAX, each with its reason."""
        sick = dict.fromkeys(names, "not asked")

        async def all_well() -> bool:
            for name in list(sick):
                try:
                    await asyncio.to_thread(self._place.spec(name).check)
                except NotHealthyError as error:
                    sick[name] = str(error)
                    return False
                del sick[name]
            return True

        await when(all_well, time.monotonic(), HEALTHY_SECONDS_MAX)
        return [f"{name}: {reason}" for name, reason in sick.items()]


def _samples(text: str, name: str, **labels: str) -> list[float]:
    """The values of a series in what /metrics answers."""
    return [one.value for one in _found(text, name) if labels.items() <= one.labels.items()]


def _found(text: str, name: str) -> list[Sample]:
    families = text_string_to_metric_families(text)
    return [one for family in families for one in family.samples if one.name == name]


def log_bytes(place: Place, name: str) -> int:
    """How long a process's log is now."""
    path = place.log_path(name)
    return path.stat().st_size if path.exists() else 0


def said_after(place: Place, name: str, start: int) -> str:
    with place.log_path(name).open("rb") as log:
        log.seek(start)
        for line in log:
            if TERM_ENDED.encode() in line:
                said = json.loads(line)
                return f"{said['kind']}: {said['reason']}"
    return ""


async def when(
    holds: Callable[[], Awaitable[bool]],
    since: float,
    seconds_max: float,
    *,
    look_at_once: bool = True,
    poll_seconds: float = POLL_SECONDS,
) -> float | None:
    """How long after ``since`` (monotonic) it holds, looked at every ``poll_seconds``."""
    if not look_at_once:
        await asyncio.sleep(POLL_SECONDS)
    while not await holds():
        if time.monotonic() - since > seconds_max:
            return None
        await asyncio.sleep(poll_seconds)
    return time.monotonic() - since
