"""Three acts that change the topics for good, each with a load of its own (ADR 0035).

After each, all that was written is published and has reached every client, or is in a gap that the
client was told of; `verify` judges all of it at the end of the run.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console

from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, answer
from shopstream_shared.topics import STREAM_TOPICS
from shopstream_stack import rebuild, sinks
from shopstream_stack.chaos import recovery
from shopstream_stack.chaos.faults.scene import MOST, Scene
from shopstream_stack.chaos.place import SERVICES
from shopstream_stack.chaos.recovery import Recovery
from shopstream_stack.chaos.schedule import WORKERS, Fault
from shopstream_stack.chaos.settled import Ends, Settled
from shopstream_stack.chaos.tail import Tail
from shopstream_stack.demo.target import Target
from shopstream_stack.errors import StackError
from shopstream_stack.process import ProcessSpec
from shopstream_stack.settings import StackSettings
from shopstream_stack.topics import command as topics_command
from shopstream_stack.topics.relay_side import Applied, ask

#: How long a part of an act is loaded.
LOAD_SECONDS: Final = 4.0
#: Until the sinks have stored all: beyond the archive's age for a file.
STORED_SECONDS_MAX: Final = 180.0
STORED_POLL_SECONDS: Final = 0.5
DELETE_SECONDS_MAX: Final = 15.0
#: Of the few events of a run: they take seconds.
REBUILD_SECONDS_MAX: Final = 180.0
#: Whose partitions topics.toml says for many machines: more than the local ones.
_MORE: Final = {"SHOPSTREAM_PROFILE": "production"}
_RECREATED: Final = "topic_recreated"
_GAP: Final = "unknown_epoch"
_BEHIND: Final = "offset_out_of_range"
#: While the aggregates are stopped these go on, started by hand.
BY_HAND: Final[tuple[sinks.SinkName, ...]] = ("archive", "recent")

Load = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Acts:
    """The acts of one run; ``load`` writes for the length of its block."""

    scene: Scene
    tail: Tail
    settled: Settled
    load: Load
    began: float

    async def __call__(self, name: str) -> Recovery:
        """Play one; never raises because of what it did."""
        at = time.monotonic() - self.began
        found = Recovery(Fault(round(at, 3), name, "topics"), "topics", began=at)
        play: dict[str, Callable[[Recovery], Awaitable[None]]] = {
            "expand": self._expand,
            "recreate": self._recreate,
            "retention": self._retention,
        }
        try:
            await play[name](found)
            late = await self.settled.until_all_has_arrived()
            found.wrong += [late] if late else []
        except (StackError, KafkaException, OSError) as error:
            found.wrong.append(str(error))
        found.ended = time.monotonic() - self.began
        return found

    async def _expand(self, found: Recovery) -> None:
        """More partitions under load, by `shopstream topics apply`."""
        # It waits a minute at most for readers that are behind.
        await self._stored("aggregates", *BY_HAND)
        async with self.load():
            begun = time.monotonic()
            await self.scene.probe.publishes(begun, MOST)
            settings = StackSettings.load({**self._settings.environ, **_MORE})
            applied = await asyncio.to_thread(ask, settings, Applied, "apply")
            found.notes += [f"{one.topic}: {one.before} to {one.after}" for one in applied.topics]
            if {one.topic for one in applied.topics} != set(STREAM_TOPICS):
                found.wrong.append("not every topic of the stream has more partitions")
            since = time.monotonic()
            found.notes.append(f"apply took {since - begun:.1f} s")
            await asyncio.to_thread(self.tail.follow_again)
            await self.scene.store(found, since, WORKERS)
            await asyncio.sleep(LOAD_SECONDS)

    async def _recreate(self, found: Recovery) -> None:
        """All topics deleted and made again: everyone says so and stops, until `topics adopt`."""
        await self._stored("aggregates", *BY_HAND)
        # Else what a client never got of the old topics would pass for a part of its gap.
        late = await self.settled.until_all_has_arrived()
        found.wrong += [late] if late else []
        with self.scene.topics_made_again():
            await asyncio.to_thread(self._delete_topics)
            async with self.load():
                # The API makes the topics that are missing, and takes writes on and on.
                since = time.monotonic()
                await self._all_say(found, _RECREATED, since, ("api", "notifications", "analytics"))
            code = await self._adopt()
        if code:
            found.wrong.append(f"topics adopt: exit code {code}")
        since = time.monotonic()
        await asyncio.to_thread(self.tail.follow_again, new_topics=True)
        resumed = await self.scene.streams.resumed(since, MOST)
        self.scene.note(found, "all streams open again", resumed, recovery.RESUMED_SECONDS_MAX)
        ends = await asyncio.to_thread(self.tail.ends)
        late = await self.settled.until_all_is_published()
        found.wrong += [late] if late else []
        await self.settled.until_nothing_comes()
        self._told_of_the_gap(found, ends)
        async with self.load():
            since = time.monotonic()
            await self.scene.store(found, since, WORKERS)
            found.wrong += await self.scene.probe.healthy(SERVICES)
            await asyncio.sleep(LOAD_SECONDS)

    async def _adopt(self) -> int:
        """The exit code of `shopstream topics adopt`."""
        with ExitStack() as busy:
            for name in topics_command.RESTARTED:
                busy.enter_context(self.scene.dead_on_purpose(name))
            system, quiet = self.scene.place.system, Console(quiet=True)
            with _bounded() as limit:
                return await asyncio.to_thread(topics_command.adopt, system, quiet, limit)

    def _told_of_the_gap(self, found: Recovery, ends: Ends) -> None:
        """No client may come back from topics that are gone without a word."""
        told = missed = 0
        for reading in self.settled.crowd.readings:
            if reading.gaps and _GAP in reading.gaps[-1]:
                told += 1
            else:
                found.wrong.append(f"{reading.name} was not told of a gap")
            missed += self.settled.excuse(reading, ends)
        found.notes.append(f"{told} clients told {_GAP}, {missed} deliveries in the gap")

    async def _retention(self, found: Recovery) -> None:
        """The log loses what the aggregates, stopped, have not read; the archive has it."""
        place = self.scene.place
        with self.scene.dead_on_purpose("analytics"):
            await asyncio.to_thread(place.stop, "analytics")
            async with self._working_by_hand():
                async with self.load():
                    await asyncio.sleep(LOAD_SECONDS)
                late = await self.settled.until_all_has_arrived()
                found.wrong += [late] if late else []
                await self._stored(*BY_HAND)
            await asyncio.to_thread(self._delete_records)
            await self._count_lost(found)
            since = time.monotonic()
            await asyncio.to_thread(place.spawn, "analytics")
            await self._all_say(found, _BEHIND, since, ("analytics",))
            with _bounded() as limit:
                swap = await asyncio.to_thread(
                    rebuild.run, self._settings, Console(quiet=True), ["--swap"], None, limit
                )
            if swap:
                found.wrong.append(f"archive rebuild --swap: exit code {swap}")
            await asyncio.to_thread(place.stop, "analytics")
            since = time.monotonic()
            await asyncio.to_thread(place.spawn, "analytics")
        async with self.load():
            await self.scene.store(found, since, WORKERS)
            await asyncio.sleep(LOAD_SECONDS)

    async def _count_lost(self, found: Recovery) -> None:
        """`sinks ls` must count what is gone, and nothing where nothing is."""
        lost = await asyncio.to_thread(sinks.lost, Target.local(self._settings))
        found.notes.append(f"{lost['aggregates']} offsets lost to the aggregates")
        if not lost["aggregates"]:
            found.wrong.append("the log lost nothing that the aggregates need")
        found.wrong += [f"{name} lost {lost[name]} offsets" for name in BY_HAND if lost[name]]

    async def _all_say(
        self, found: Recovery, word: str, since: float, names: tuple[str, ...]
    ) -> None:
        said = await asyncio.gather(
            *(self.scene.probe.says(name, word, since, MOST) for name in names)
        )
        for name, seconds in zip(names, said, strict=True):
            self.scene.note(found, f"{name} says {word}", seconds, recovery.LOUD_SECONDS_MAX)

    async def _stored(self, *names: sinks.SinkName) -> None:
        """Wait until these sinks have stored all that is published. Raises StackError."""
        target = Target.local(self._settings)
        end = time.monotonic() + STORED_SECONDS_MAX
        while True:
            nexts = {name: await asyncio.to_thread(sinks.nexts, target, name) for name in names}
            behind = {
                name: sum(
                    max(0, position - nexts[name].get(place, 0))
                    for place, position in self.tail.positions.items()
                )
                for name in names
            }
            if not any(behind.values()):
                return
            if time.monotonic() > end:
                raise StackError(f"offsets not stored within {STORED_SECONDS_MAX:g} s: {behind}")
            await asyncio.sleep(STORED_POLL_SECONDS)

    @asynccontextmanager
    async def _working_by_hand(self) -> AsyncIterator[None]:
        """Workers without a parent for the length of the block: nobody else would end them."""
        runner = self.scene.place.system.runner
        workers = [self._by_hand(name) for name in BY_HAND]
        try:
            for spec in workers:
                await asyncio.to_thread(runner.spawn, spec)
            yield
        finally:
            for spec in workers:
                await asyncio.to_thread(runner.stop, spec.name)

    def _by_hand(self, worker: str) -> ProcessSpec:
        """A worker as an operator would start it (docs/analytics.md, The workers)."""
        analytics = self.scene.place.spec("analytics")
        return ProcessSpec(
            name=f"{worker}-by-hand",
            kind="service",
            argv=(sys.executable, "-m", "shopstream_analytics.worker", worker),
            environ=analytics.environ,
            ports=(),
            check=lambda: None,
        )

    def _delete_topics(self) -> None:
        admin = self._admin()  # its futures end with it
        for future in admin.delete_topics(list(STREAM_TOPICS)).values():
            future.result(DELETE_SECONDS_MAX)

    def _delete_records(self) -> None:
        """As retention would, up to the last event of each partition."""
        ends = [TopicPartition(*place, at) for place, at in self.tail.positions.items()]
        admin = self._admin()
        for future in admin.delete_records(ends, request_timeout=METADATA_TIMEOUT_SECONDS).values():
            answer(future)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.scene.place.brokers})

    @property
    def _settings(self) -> StackSettings:
        return self.scene.place.system.settings


@contextmanager
def _bounded() -> Iterator[rebuild.Limit]:
    """For a rebuild on a thread: it ends with the block, also when the run is interrupted."""
    limit = rebuild.Limit(REBUILD_SECONDS_MAX)
    try:
        yield limit
    finally:
        limit.stop.set()
