"""A halted worker: what it waits for; a worker's place in its group."""

import asyncio
from collections.abc import Callable, Iterator
from typing import ClassVar, cast

import pytest

from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import (
    LogRange,
    OffsetOutOfRange,
    PartitionSink,
    SinkMoved,
    SinkUnavailable,
    StoreLost,
    Topics,
    TopicState,
)
from shopstream_analytics.worker import run
from shopstream_analytics.worker.ports import Engine, RealSurroundings
from shopstream_analytics.worker.run import Worker

SETTINGS = AnalyticsSettings.model_validate(
    {
        "AWS_ACCESS_KEY_ID": "fake",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "MINIO_ACCESS_KEY": "minio",
        "MINIO_SECRET_KEY": "minio123",
    }
)
LOST = StoreLost("the table is gone")


class NoTopics(RealSurroundings):
    """A broker without topics."""

    async def topics(self) -> Topics:
        return {}


class Answers:
    """A sink whose store gives these answers in turn; the last one for ever."""

    def __init__(self, answers: list[Exception | None], then: Callable[[], None]) -> None:
        self.asked = 0
        self._answers: Iterator[Exception | None] = iter(answers)
        self._then = then

    async def prepare(self, _topics: Topics) -> None:
        self.asked += 1
        try:
            answer = next(self._answers)
        except StopIteration:
            self._then()
            return
        if answer is not None:
            raise answer

    async def open(self, _source: object, _log: LogRange) -> PartitionSink:
        raise NotImplementedError

    async def ping(self) -> None:
        raise NotImplementedError


def ended(
    monkeypatch: pytest.MonkeyPatch, *answers: Exception | None, consuming: Exception | None = None
) -> tuple[Worker, int]:
    """The worker after its end; how often it looked. It is told to stop after the last answer."""

    async def consume(_worker: Worker, _sink: object) -> None:
        if consuming is not None:
            raise consuming

    monkeypatch.setattr(run, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(Worker, "_consume", consume)
    worker = Worker(NoTopics("aggregates", SETTINGS), None, None)
    sink = Answers(list(answers), worker.stop.set)

    async def live() -> None:
        await asyncio.wait_for(worker._run_with(sink), 10)

    asyncio.run(live())
    return worker, sink.asked


def test_a_halted_worker_ends_when_the_data_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, asked = ended(monkeypatch, LOST, LOST, SinkMoved("elsewhere"))
    assert (worker.stop.is_set(), asked) == (False, 3)
    # Whatever had halted it: this is the way out of a log that has lost records, too.
    out = OffsetOutOfRange("lost")
    worker, asked = ended(monkeypatch, None, None, SinkMoved("elsewhere"), consuming=out)
    assert (worker.stop.is_set(), asked) == (False, 3)


def test_a_halted_worker_ends_when_what_halted_it_is_put_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker, asked = ended(monkeypatch, LOST, LOST, SinkUnavailable("away"), LOST, None)
    assert (worker.stop.is_set(), asked) == (False, 5)


def test_what_halted_a_worker_may_be_put_right_before_it_looks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ending the engine takes seconds, in which an operator may have called `topics adopt`."""
    worker, asked = ended(monkeypatch, LOST, None)
    assert (worker.stop.is_set(), asked) == (False, 2)


def test_a_worker_that_finds_another_life_of_a_topic_ends_whether_or_not_it_was_adopted() -> None:
    """What it has open speaks of the offsets of the life that is over."""

    class Recreated(NoTopics):
        """Made again between two looks."""

        lives: ClassVar = iter(["old", "old", "new"])

        async def topics(self) -> Topics:
            return {"t": TopicState(next(self.lives), 1)}

    sink = Answers([], lambda: None)
    worker = Worker(Recreated("aggregates", SETTINGS), None, None)

    async def live() -> None:
        await worker._prepare(sink)
        await worker._prepare(sink)
        with pytest.raises(SinkMoved, match="t has id new now, and had old"):
            await worker._prepare(sink)

    asyncio.run(live())
    assert sink.asked == 2


def test_a_place_in_the_group_is_kept_for_the_same_topics_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a successor is given, for good, what was shared out of other topics."""
    topics: Topics = {"t": TopicState("one", 3), "u": TopicState("two", 3)}

    def place(instance: str | None, topics: Topics) -> str | None:
        worker = Worker(NoTopics("aggregates", SETTINGS), instance, None)
        worker._topics = topics
        return worker._member

    mine = place("here-1", topics)
    assert mine == place("here-1", dict(reversed(list(topics.items()))))
    others = [
        place("here-2", topics),
        place("here-1", {**topics, "t": TopicState("one", 4)}),
        place("here-1", {**topics, "t": TopicState("again", 3)}),
    ]
    assert mine is not None
    assert mine.startswith("here-1-")
    assert len({mine, *others}) == 4
    assert place(None, topics) is None


def test_a_worker_without_a_share_asks_once_for_a_new_division(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Group:
        """An engine that the group has given nothing."""

        asked = 0

        def assigned(self) -> set[Source]:
            return set()

        async def rejoin(self) -> None:
            self.asked += 1

    class Looked(Answers):
        async def ping(self) -> None:
            """Always there."""

    group = Group()
    monkeypatch.setattr(run, "WATCH_SECONDS", 0.0)
    worker = Worker(NoTopics("aggregates", SETTINGS), None, None)
    worker._state = "running"

    async def live() -> None:
        sink = Looked([None] * 5, worker.stop.set)
        watching = asyncio.create_task(worker._watch(cast(Engine, group), sink))
        await asyncio.wait_for(worker.stop.wait(), 10)
        watching.cancel()

    asyncio.run(live())
    assert group.asked == 1


def test_what_only_opening_finds_keeps_it_halted_until_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = OffsetOutOfRange("lost")
    worker, asked = ended(monkeypatch, None, None, None, consuming=out)
    assert (worker.stop.is_set(), asked) == (True, 4)
    assert worker._report().state == "halted"
