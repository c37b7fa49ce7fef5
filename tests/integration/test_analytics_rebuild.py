"""Aggregates made again from the archive on the real components: compared, swapped, killed."""

import asyncio
import contextlib
import json
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from tests.support.analytics import (
    Analytics,
    dynamo_client,
    empty_topics,
    letters_of,
    producer,
    read_log,
    s3_client,
    send,
    wait_until,
)
from tests.support.analytics_events import Counts, LogRecord, Shop, naive_sums
from tests.support.analytics_feed import batches, feed, opened, prepare, prepared, settings_of
from tests.support.components import LocalComponents
from tests.support.warm import forks

from shopstream_analytics.admin.letters import LetterBox
from shopstream_analytics.admin.replay import MadeByRebuild, Replayed, Replays
from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.sink import Letter
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dead_letters import PartitionLetters
from shopstream_analytics.dynamo import open_dynamo
from shopstream_analytics.progress import Progress
from shopstream_analytics.rebuild.errors import RebuildFailed
from shopstream_analytics.rebuild.run import Rebuild, Report, Wanted
from shopstream_analytics.rebuild.tables import Tables
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_analytics.sink import OffsetOutOfRange, SinkMoved
from shopstream_shared.archive.keys import Place
from shopstream_shared.crash import CrashPoints
from shopstream_shared.events.codec import EncodedEvent, EventRejected, decode
from shopstream_shared.kafka import KafkaConnection, topic_ids
from shopstream_shared.topics import ORDERS
from shopstream_stack.verify.tables import Tables as VerifyTables

MODULE = "shopstream_analytics.rebuild.__main__"


class Quiet:
    """Progress that nobody looks at."""

    def begin(self, what: str, total: int) -> None:
        """Nothing."""

    def moved(self, done: int) -> None:
        """Nothing."""


@pytest.fixture
def analytics(components: LocalComponents, tmp_path: Path) -> Analytics:
    return Analytics.fresh(components, tmp_path)


@pytest.fixture
def source(analytics: Analytics) -> Producer:
    return producer(analytics.environ["KAFKA_BROKERS"])


def lives(seed: int) -> Iterator[list[EncodedEvent]]:
    shop = Shop(seed, start=datetime.now(UTC) - timedelta(hours=120))
    while True:
        yield shop.order_life()


def sell(source: Producer, seed: int, count: int = 3) -> None:
    for transaction in islice(lives(seed), count):
        send(source, transaction)


def rebuild(analytics: Analytics, **wanted: Any) -> Report:
    """In this process."""
    with tempfile.TemporaryDirectory() as folder:
        return Rebuild(
            settings_of(analytics),
            Wanted(**{"processes": 1, **wanted}),
            Path(folder),
            Quiet(),
            CrashPoints(),
        ).run()


def program(analytics: Analytics, *words: str, **variables: str) -> tuple[int, list[Any], str]:
    """The program: exit code, its lines of JSON, all else it said."""
    with tempfile.NamedTemporaryFile() as said:
        environ = {**analytics.environ, **variables}
        code = forks(MODULE).start(["rebuild", *words], environ, said.fileno()).wait(120)
        lines = Path(said.name).read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return code, told, "\n".join(line for line in lines if not line.startswith("{"))


def expected(analytics: Analytics) -> Counts:
    partitions: dict[tuple[str, int], list[bytes]] = {}
    for record in read_log(analytics.environ["KAFKA_BROKERS"]):
        with contextlib.suppress(EventRejected):
            value = decode(record.value).value
            partitions.setdefault((record.topic, record.partition), []).append(value)
    return naive_sums(partitions.values())


def caught_up(analytics: Analytics, name: str) -> bool:
    return analytics.lag(f"analytics-{name}") == 0


def by_key(items: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["pk"]["S"], item["sk"]["S"]): item for item in items}


def plant(analytics: Analytics) -> None:
    """Change an item as no worker would."""
    item = next(one for one in analytics.aggregates() if f"#{ORDERS}#" in one["pk"]["S"])
    dynamo_client(analytics.environ).update_item(
        TableName=analytics.environ["SHOPSTREAM_AGGREGATES_TABLE_NAME"],
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="ADD units :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )


def test_a_rebuild_gives_what_the_worker_gave_item_by_item_and_tells_a_planted_fault(
    analytics: Analytics, source: Producer
) -> None:
    sell(source, seed=1, count=5)
    send(source, next(lives(seed=2)), abort=True)
    feed(analytics)
    report = rebuild(analytics, compare=True)
    assert (report.generation, report.differing, report.swapped) == (1, 0, None)
    assert analytics.generation() == 0
    live, made = analytics.aggregates(0), analytics.aggregates(1)
    assert by_key(made) == by_key(live)
    assert report.live_items == report.items == len(live)
    assert analytics.counts() == expected(analytics)

    plant(analytics)
    code, told, _ = program(analytics, "--compare")
    (result,) = [line["result"] for line in told if "result" in line]
    assert (code, result["differing"], result["generation"]) == (1, 1, 2)
    (difference,) = [d for part in result["partitions"] for d in part["differences"]]
    assert difference["kind"] == "differs"
    assert "units" in difference["detail"]
    # The swap puts it right, so it is no failure then.
    code, told, _ = program(analytics, "--compare", "--swap")
    assert (code, told[-1]["result"]["swapped"]) == (0, 0)
    assert analytics.generation() == 3
    assert analytics.counts() == expected(analytics)
    assert program(analytics, "--drop")[1][-1]["result"] == {"dropped": [1, 2]}
    assert Tables.of(settings_of(analytics)).numbers() == [3]


def test_processes_side_by_side_make_the_same_as_one(
    analytics: Analytics, source: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopstream_analytics.rebuild.run.ALONE_BYTES_MAX", 0)
    sell(source, seed=2)
    feed(analytics)
    report = rebuild(analytics, processes=2)
    assert by_key(analytics.aggregates(1)) == by_key(analytics.aggregates(0))
    assert report.events == len(read_log(analytics.environ["KAFKA_BROKERS"]))


def test_workers_move_to_the_rebuilt_aggregates_under_load_without_loss_or_double(
    analytics: Analytics, source: Producer
) -> None:
    stop = threading.Event()

    def load() -> None:
        for transaction in lives(seed=3):
            send(source, transaction)
            if stop.wait(0.1):
                return

    thread = threading.Thread(target=load)
    with analytics.service() as service:
        service.wait_healthy()
        thread.start()
        try:
            wait_until(lambda: len(analytics.aggregates(0)) > 50, "there are items")
            report = rebuild(analytics, compare=True, swap=True)
            assert (report.differing, report.swapped) == (0, 0)
            before = len(analytics.aggregates(1))
            wait_until(lambda: len(analytics.aggregates(1)) > before, "a worker has moved")
        finally:
            stop.set()
            thread.join()
        for name in ("aggregates", "archive"):
            wait_until(partial(caught_up, analytics, name), f"{name} is there")
        counted = expected(analytics)
        wait_until(lambda: analytics.counts() == counted, "all of it is counted, once")
        total = sum(c["events"] for (kind, *_), c in counted.items() if kind == "all") // 2
        shown = "/aggregates/event-types"
        wait_until(
            lambda: service.client.get(shown).json()["totals"]["events"] == total,
            "the read API has moved, too",
        )
        assert rebuild(analytics, compare=True).differing == 0


def test_a_kill_between_any_two_steps_leaves_one_whole_generation_in_use(
    analytics: Analytics, source: Producer
) -> None:
    """One kill after the other; whatever is left by it, the workers go on and nothing is off."""
    points = ("table", "items", "checkpoints", "complete", "swap")
    for number, point in enumerate(points, 1):
        sell(source, seed=40 + number, count=1)
        feed(analytics)
        code, _, _ = program(analytics, "--swap", SHOPSTREAM_CRASH_AT=f"rebuild.after_{point}")
        assert code == -signal.SIGKILL
        assert analytics.generation() == (number if point == "swap" else 0)
        if point in {"table", "items", "checkpoints"}:
            code, _, said = program(analytics, "--use", str(number))
            assert (code, "is not complete" in said) == (1, True)
    sell(source, seed=5, count=1)
    feed(analytics)
    assert analytics.counts() == expected(analytics)
    assert rebuild(analytics, compare=True, swap=True).differing == 0
    assert analytics.counts() == expected(analytics)


def test_a_worker_that_has_not_noticed_the_swap_writes_only_where_nobody_reads(
    analytics: Analytics, source: Producer
) -> None:
    """The zombie writes the same records as its successor, after it; then it is told to go."""
    sell(source, seed=6)
    feed(analytics)

    async def outlive() -> None:
        async with prepared(analytics, "aggregates") as zombie:
            mine = await opened(analytics, zombie)
            sell(source, seed=7)
            feed_later = batches(analytics, mine)
            await asyncio.to_thread(feed, analytics, "archive")
            await asyncio.to_thread(rebuild, analytics, swap=True)
            sell(source, seed=8)
            await asyncio.to_thread(feed, analytics)
            before = by_key(analytics.aggregates(1))
            for source_of, waiting in feed_later.items():
                for batch in waiting:
                    await mine[source_of].write(batch)
            assert by_key(analytics.aggregates(1)) == before
            with pytest.raises(SinkMoved):
                await prepare(analytics, zombie)

    asyncio.run(outlive())
    assert analytics.counts() == expected(analytics)


def test_a_record_beyond_the_live_checkpoint_still_gets_its_one_letter_after_a_swap(
    analytics: Analytics, source: Producer
) -> None:
    """The archive has it, the aggregates' worker has never seen it."""
    brokers = analytics.environ["KAFKA_BROKERS"]
    feed(analytics)
    sell(source, seed=9, count=3)
    before = len(letters_of(brokers))
    source.begin_transaction()
    source.produce(ORDERS, key=b"bad", value=b"no json")
    source.commit_transaction()
    sell(source, seed=10, count=3)
    feed(analytics, "archive")
    report = rebuild(analytics, swap=True)
    (bad,) = [record for record in read_log(brokers) if record.key == b"bad"]
    (part,) = [p for p in report.partitions if p.source == f"{ORDERS}/{bad.partition}"]
    assert part.next == bad.offset
    feed(analytics)
    assert analytics.counts() == expected(analytics)
    assert [letter.key for letter in letters_of(brokers)[before:]] == [b"bad"]
    # Now it is written, and a rebuild goes on behind it.
    again = rebuild(analytics, compare=True)
    assert again.differing == 0
    (part,) = [p for p in again.partitions if p.source == f"{ORDERS}/{bad.partition}"]
    assert part.next > bad.offset


def test_a_dead_letter_that_a_rebuild_has_counted_is_no_dead_letter_to_verify_and_to_a_replay(
    analytics: Analytics, source: Producer
) -> None:
    """It says so beside its checkpoints: else the event would be lost for ever, and wrong."""
    brokers = analytics.environ["KAFKA_BROKERS"]
    sell(source, seed=21)
    *_, later, counted = [one for one in read_log(brokers) if one.topic == ORDERS]
    put_aside(brokers, counted)
    feed(analytics)
    feed(analytics, "recent")
    assert analytics.counts() != expected(analytics)
    report = rebuild(analytics, swap=True)
    assert {p.source: p.letters for p in report.partitions if p.letters} == {
        f"{ORDERS}/{counted.partition}": [counted.offset]
    }
    assert analytics.counts() == expected(analytics)
    target: Any = SimpleNamespace(
        checkpoints_table=analytics.environ["SHOPSTREAM_CHECKPOINTS_TABLE_NAME"]
    )
    ids = topic_ids(AdminClient({"bootstrap.servers": brokers}), (ORDERS,))
    place = Place(ORDERS, counted.partition)
    found = VerifyTables(target, dynamo_client(analytics.environ)).replayed({place: ids[ORDERS]})
    assert found == {(*place, counted.offset)}
    assert asyncio.run(replay(analytics, counted)).items == 0
    put_aside(brokers, later)
    with pytest.raises(MadeByRebuild):
        asyncio.run(replay(analytics, later))
    assert analytics.counts() == expected(analytics)


def put_aside(brokers: str, record: LogRecord) -> None:
    """As a version does that cannot read it."""
    source = Source(record.topic, record.partition)
    letters = PartitionLetters(KafkaConnection(brokers, "tests"), source, Progress())
    asyncio.run(letters.send([Letter(record, "unknown_type", "?")], since=0))


async def replay(analytics: Analytics, record: LogRecord) -> Replayed:
    settings = settings_of(analytics)
    async with open_dynamo(settings) as client:
        replays = Replays(
            LetterBox(KafkaConnection(settings.kafka_brokers, "tests")),
            client,
            Generations(client, settings.aggregates_table, settings.checkpoints_table),
            settings.recent_events_table,
            RecentIndexes(),
        )
        return await replays.replay(Source(record.topic, record.partition), record.offset)


def test_a_rebuild_puts_right_what_the_log_has_lost_and_the_archive_kept(
    analytics: Analytics, source: Producer
) -> None:
    """Rule 19's offset_out_of_range: the worker was away for longer than the log keeps records."""
    sell(source, seed=11)
    feed(analytics)
    sell(source, seed=12)
    feed(analytics, "archive")
    wanted = expected(analytics)
    empty_topics(analytics.environ["KAFKA_BROKERS"])
    with pytest.raises(OffsetOutOfRange):
        feed(analytics, "aggregates")
    rebuild(analytics, swap=True)
    feed(analytics, "aggregates")
    assert analytics.counts() == wanted


def test_a_swap_is_refused_when_the_log_lacks_what_follows_or_somebody_was_faster(
    analytics: Analytics, source: Producer
) -> None:
    sell(source, seed=13)
    feed(analytics)
    early = rebuild(analytics).generation
    tables = Tables.of(settings_of(analytics))
    assert tables.use(early, instead_of=0)
    assert not tables.use(early, instead_of=0)
    assert tables.use(0, instead_of=early)
    sell(source, seed=14)
    feed(analytics)
    empty_topics(analytics.environ["KAFKA_BROKERS"])
    code, _, said = program(analytics, "--use", str(early))
    assert (code, "but the log holds" in said) == (1, True)
    assert analytics.generation() == 0
    assert program(analytics, "--use", "0")[0] == 1
    assert program(analytics, "--use", "9")[0] == 1


def test_an_archive_that_lacks_its_head_is_swapped_in_only_where_the_loss_is_accepted(
    analytics: Analytics, source: Producer
) -> None:
    """The live items are all that is left of what log and archive have lost."""
    sell(source, seed=21, count=3)
    feed(analytics, "aggregates")
    empty_topics(analytics.environ["KAFKA_BROKERS"])
    # No chain at all; then one that begins where the log does now.
    for number, count in ((1, 0), (2, 3)):
        sell(source, seed=22, count=count)
        feed(analytics, *(("aggregates", "archive") if count else ("aggregates",)))
        counted = analytics.counts()
        for words in (["--swap"], ["--use", str(number)]):
            code, _, said = program(analytics, *words)
            assert (code, f"{ORDERS}/" in said, "--accept-loss" in said) == (1, True, True)
        assert (analytics.generation(), analytics.counts()) == (0, counted)
    report = rebuild(analytics, swap=True, accept_loss=True)
    assert ORDERS in {one.source.partition("/")[0] for one in report.left_out}
    assert all(one.begin < one.end for one in report.left_out)
    # The way back leaves nothing out.
    assert program(analytics, "--use", "0")[0] == 0


def test_a_rebuild_until_a_moment_holds_what_was_before_it_and_the_worker_adds_the_rest(
    analytics: Analytics, source: Producer
) -> None:
    sell(source, seed=15)
    feed(analytics)
    log = read_log(analytics.environ["KAFKA_BROKERS"])
    middle = sorted(record.timestamp for record in log)[len(log) // 2]
    until = datetime.fromtimestamp(middle / 1_000, UTC)
    report = rebuild(analytics, until=until, swap=True)
    assert 0 < report.events < len(log)
    feed(analytics, "aggregates")
    assert analytics.counts() == expected(analytics)
    assert program(analytics, "--until", "2026-01-01T00:00:00Z", "--compare")[0] == 2


def test_a_rebuild_refuses_an_archive_that_is_broken(
    analytics: Analytics, source: Producer
) -> None:
    sell(source, seed=16)
    feed(analytics)
    s3, bucket = s3_client(analytics.environ), analytics.environ["ARCHIVE_BUCKET_NAME"]
    found = s3.list_objects_v2(Bucket=bucket, Prefix=f"events/topic={ORDERS}/")["Contents"]
    s3.put_object(Bucket=bucket, Key=found[0]["Key"], Body=b"", Metadata={})
    with pytest.raises(RebuildFailed, match="cannot be folded"):
        rebuild(analytics, swap=True)
    assert analytics.generation() == 0
