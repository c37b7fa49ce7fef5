"""The archive's sink and a topic that was made again."""

import asyncio
from collections.abc import Sequence

import pytest

from shopstream_analytics.archive.chain import Hint, Link
from shopstream_analytics.archive.sink import ArchiveSink, Rotation
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.sink import LogRange, StoreLost, TopicRecreated, TopicState
from shopstream_shared.crash import CrashPoints
from shopstream_shared.generations import TopicEpoch

SOURCE = Source("t", 0)


class Bucket:
    """A ChainStore that holds hints and epochs."""

    def __init__(self) -> None:
        self.hints: dict[int, Hint] = {0: Hint(7, "old", "k")}
        self.epochs: Sequence[TopicEpoch] = ()

    async def create(self, key: str, body: bytes, link: Link) -> Link | None:
        raise NotImplementedError

    async def last(self, source: Source, epoch: int = 0) -> Link | None:
        return None

    async def read_hint(self, source: Source, epoch: int = 0) -> Hint | None:
        return self.hints.get(epoch)

    async def write_hint(self, source: Source, hint: Hint, epoch: int = 0) -> None:
        raise NotImplementedError

    async def read_epochs(self, topic: str) -> Sequence[TopicEpoch]:
        return self.epochs


async def nothing() -> None:
    """The bucket is set up."""


def test_after_adopt_the_same_process_goes_on_in_the_new_epoch_which_has_no_hint_yet() -> None:
    async def test() -> None:
        bucket = Bucket()
        sink = ArchiveSink(bucket, nothing, Rotation(1, 1, 1.0), CrashPoints(), {})
        topics = {"t": TopicState("new", 1)}
        with pytest.raises(TopicRecreated):
            await sink.prepare(topics)
        bucket.epochs = (TopicEpoch(0, "old", 1), TopicEpoch(1, "new", 1))
        await sink.prepare(topics)
        assert (await sink.open(SOURCE, LogRange(0, 3))).durable == 0

    asyncio.run(test())


def test_a_hint_that_was_seen_and_is_gone_still_halts_the_archive() -> None:
    async def test() -> None:
        bucket = Bucket()
        sink = ArchiveSink(bucket, nothing, Rotation(1, 1, 1.0), CrashPoints(), {})
        topics = {"t": TopicState("old", 1)}
        await sink.prepare(topics)
        bucket.hints.clear()
        with pytest.raises(StoreLost):
            await sink.prepare(topics)

    asyncio.run(test())
