"""What the bucket keeps, and what it must never do by itself, on MinIO (protocol rules 22-24)."""

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from tests.support.analytics_events import LogRecord, event, inventory_body, record_of
from tests.support.archive import ArchiveCommand
from tests.support.components import LocalComponents

from shopstream_analytics.archive.chain import Hint, Link
from shopstream_analytics.archive.sink import ArchiveSink, Held, PartitionArchive, Rotation
from shopstream_analytics.archive.store import BucketAtMinio, S3Chain, open_chain
from shopstream_analytics.consumer.batch import Batch, Source
from shopstream_analytics.settings import AnalyticsSettings
from shopstream_analytics.sink import (
    LogRange,
    OffsetOutOfRange,
    SinkUnavailable,
    StoreLost,
    TopicRecreated,
    TopicState,
)
from shopstream_shared.archive.keys import HINTS, Place
from shopstream_shared.crash import CrashPoints
from shopstream_stack.ports import reserved_ports

SOURCE = Source("shop.inventory", 0)
EVENT = event("inventory.updated", inventory_body("p1", "s1", 1), subject="p1", seller="s1")
LINK = Link(0, 1, 0, 0, 1, "0" * 64, "id")


@pytest.fixture
def command(components: LocalComponents, tmp_path: Path) -> ArchiveCommand:
    return ArchiveCommand.fresh(components, tmp_path / "data")


def settings_of(command: ArchiveCommand, **variables: str) -> AnalyticsSettings:
    given: dict[str, Any] = {**command.environ, **variables}
    return AnalyticsSettings(**given)


def set_up(settings: AnalyticsSettings) -> None:
    asyncio.run(BucketAtMinio.of(settings)())


def rules_of(command: ArchiveCommand, bucket: str | None = None) -> list[dict[str, Any]]:
    name = bucket or command.bucket
    rules: list[dict[str, Any]] = command.client.get_bucket_lifecycle_configuration(Bucket=name)[
        "Rules"
    ]
    return rules


def set_rules(command: ArchiveCommand, *rules: dict[str, Any]) -> None:
    command.client.put_bucket_lifecycle_configuration(
        Bucket=command.bucket,
        LifecycleConfiguration={"Rules": [{"Status": "Enabled", **rule} for rule in rules]},
    )


def store_one(settings: AnalyticsSettings, key: str, body: bytes) -> Link | None:
    async def create() -> Link | None:
        async with open_chain(settings) as chain:
            return await chain.create(key, body, LINK)

    return asyncio.run(create())


@pytest.mark.parametrize(
    "rule",
    [
        {"ID": "tidy", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}},
        {"ID": "tidy", "Filter": {"Prefix": "events/topic=shop.x/"}, "Expiration": {"Days": 1}},
        {
            "ID": "tidy",
            "Filter": {"Prefix": "ev"},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        },
        {
            "ID": "tidy",
            "Filter": {"And": {"Prefix": "events/", "Tags": [{"Key": "a", "Value": "b"}]}},
            "Expiration": {"Days": 1},
        },
    ],
    ids=["everything", "a topic", "old versions", "tagged"],
)
def test_a_rule_that_would_end_chain_objects_keeps_the_archive_from_starting(
    command: ArchiveCommand, rule: dict[str, Any]
) -> None:
    set_rules(command, rule)
    settings = settings_of(command)
    with pytest.raises(SinkUnavailable, match="lifecycle rule tidy ends objects below events/"):
        set_up(settings)
    told = command("verify")
    assert (told.exit_code, "lifecycle rule tidy ends" in told.stdout) == (1, True)
    # Once an operator has put it right, it starts.
    set_rules(command, {**rule, "Status": "Disabled"})
    set_up(settings)
    assert command("verify").exit_code == 0


def test_an_operator_s_own_rules_stand_and_ours_are_completed(command: ArchiveCommand) -> None:
    settings = settings_of(command)
    set_up(settings)
    assert {rule["ID"] for rule in rules_of(command)} >= {"end-old-hints"}
    own = {"ID": "own", "Filter": {"Prefix": "parquet/"}, "Expiration": {"Days": 90}}
    set_rules(command, own)
    set_up(settings)
    assert [rule["ID"] for rule in rules_of(command)] == ["own"]
    assert command("verify").exit_code == 0


def test_a_storage_class_that_the_store_does_not_have_is_said_and_nothing_goes_on_without_it(
    command: ArchiveCommand,
) -> None:
    settings = settings_of(command, SHOPSTREAM_ARCHIVE_STORAGE_CLASS="COLD")
    with pytest.raises(Exception, match=r"minio: .*InvalidStorageClass"):
        set_up(settings)


def test_a_store_that_is_away_is_named_with_the_reason_of_the_one_try(
    command: ArchiveCommand,
) -> None:
    with reserved_ports() as ports:
        address = f"http://127.0.0.1:{ports.take()}"
        settings = settings_of(command, MINIO_ENDPOINT=address)
        with pytest.raises(SinkUnavailable, match=r"^minio: unreachable: NewConnectionError$"):
            set_up(settings)


def test_the_minio_library_overwrites_in_silence_so_only_botocore_writes_objects(
    command: ArchiveCommand,
) -> None:
    # Rule 23's other hazard: the library makes metadata of the header that asks for a create.
    settings = settings_of(command)
    set_up(settings)
    assert store_one(settings, "events/k", b"ours") is None
    library = BucketAtMinio.of(settings).client
    header: dict[str, str | list[str] | tuple[str]] = {"If-None-Match": "*"}
    library.put_object(command.bucket, "events/k", io.BytesIO(b"rival"), 5, metadata=header)
    stored = command.client.get_object(Bucket=command.bucket, Key="events/k")["Body"].read()
    assert stored == b"rival"


@pytest.mark.parametrize("code", ["PreconditionFailed", "412", "304"])
def test_whatever_name_a_server_has_for_it_there_already_is_there_already(code: str) -> None:
    class Server:
        """Older MinIO answered 304 to a condition that failed (minio issue 19442)."""

        async def put_object(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": code}}, "PutObject")

        async def head_object(self, **_: Any) -> dict[str, Any]:
            return {"Metadata": LINK.metadata()}

    chain = S3Chain(cast(Any, Server()), "bucket")
    assert asyncio.run(chain.create("events/k", b"", LINK)) == LINK


def test_what_is_overwritten_or_deleted_by_a_foreign_hand_is_kept_as_a_version(
    command: ArchiveCommand,
) -> None:
    settings = settings_of(command)
    set_up(settings)
    assert store_one(settings, "events/k", b"ours") is None
    command.client.delete_object(Bucket=command.bucket, Key="events/k")
    versions = command.client.list_object_versions(Bucket=command.bucket, Prefix="events/k")
    marker = versions["DeleteMarkers"][0]["VersionId"]
    command.client.delete_object(Bucket=command.bucket, Key="events/k", VersionId=marker)
    stored = command.client.get_object(Bucket=command.bucket, Key="events/k")
    assert stored["Body"].read() == b"ours"


def test_behind_a_delete_marker_a_create_is_accepted_so_nothing_of_ours_deletes(
    command: ArchiveCommand,
) -> None:
    # Rule 23's hazard, as the store has it: should this begin to fail, the rule can be relaxed.
    settings = settings_of(command)
    set_up(settings)
    assert store_one(settings, "events/k", b"ours") is None
    assert store_one(settings, "events/k", b"rival") == LINK
    command.client.delete_object(Bucket=command.bucket, Key="events/k")
    assert store_one(settings, "events/k", b"rival") is None


def test_a_locked_object_s_version_cannot_be_deleted_before_its_time(
    command: ArchiveCommand,
) -> None:
    bucket = f"{command.bucket}-locked"
    settings = settings_of(command, ARCHIVE_BUCKET_NAME=bucket, SHOPSTREAM_ARCHIVE_LOCK_DAYS="2")
    set_up(settings)
    set_up(settings)
    assert store_one(settings, "events/k", b"ours") is None
    assert store_one(settings, "events/k", b"rival") == LINK
    kept = command.client.head_object(Bucket=bucket, Key="events/k")
    assert kept["ObjectLockMode"] == "GOVERNANCE"
    until = kept["ObjectLockRetainUntilDate"] - datetime.now(UTC)
    assert timedelta(days=1, hours=23) < until <= timedelta(days=2)
    with pytest.raises(ClientError, match=r"WORM|AccessDenied"):
        command.client.delete_object(Bucket=bucket, Key="events/k", VersionId=kept["VersionId"])

    async def hints() -> None:
        async with open_chain(settings) as chain:
            for end in (1, 2):
                await chain.write_hint(SOURCE, Hint(end, "id", "k"))

    asyncio.run(hints())
    hint = command.client.head_object(Bucket=bucket, Key=f"{HINTS}/{SOURCE.topic}/0")
    # Hints are written all the time: only what they point to is kept.
    assert "ObjectLockMode" not in hint


def test_a_bucket_made_without_lock_is_refused_where_a_lock_is_wanted(
    command: ArchiveCommand,
) -> None:
    with pytest.raises(SinkUnavailable, match="was made without object lock"):
        set_up(settings_of(command, SHOPSTREAM_ARCHIVE_LOCK_DAYS="1"))


def log_of(count: int, random: Random) -> list[LogRecord]:
    """Records with holes between them (markers) and hours that go on, and sometimes back."""
    offset, hour, records = 0, 0, []
    for _ in range(count):
        offset += random.choice([1, 1, 1, 2, 5])
        hour = max(0, hour + random.choice([0] * 20 + [1, -1]))
        record = record_of(EVENT, offset)
        records.append(record._replace(timestamp=record.timestamp + hour * 3_600_000))
    return records


async def write_all(
    chain: S3Chain, log: list[LogRecord], random: Random, held: int, end: int
) -> None:
    """A worker that begins at the hint and ends when it has everything stored."""
    hint = await chain.read_hint(SOURCE)
    position = 0 if hint is None else hint.next
    archive = PartitionArchive(
        SOURCE,
        "id",
        position,
        store=chain,
        rotation=Rotation(bytes=random.choice([2_000, 50_000]), records=random.choice([7, 20, 50]),
                          seconds=3_600),
        held=Held(held),
        crash=CrashPoints(),
    )  # fmt: skip
    while position < end:
        mine = [record for record in log if record.offset >= position][: random.randint(1, 40)]
        last = mine[-1].offset if mine else end - 1
        after = next((record.offset for record in log if record.offset > last), end)
        await archive.write(Batch(SOURCE, position, after, mine))
        position = after
        if random.random() < 0.1:
            await archive.flush()
    await archive.flush()


@pytest.mark.parametrize("held", [10**9, 1], ids=["memory enough", "no memory at all"])
def test_16_racing_writers_with_borders_of_their_own_leave_one_whole_chain(
    command: ArchiveCommand, held: int
) -> None:
    settings = settings_of(command)
    set_up(settings)
    log = log_of(60, Random(5))
    end = log[-1].offset + 3

    async def race() -> None:
        async with open_chain(settings) as chain:
            await asyncio.gather(
                *(write_all(chain, log, Random(seed), held, end) for seed in range(16))
            )

    asyncio.run(race())
    told = json.loads(command.whole("verify", "--json"))
    (one,) = told["chains"]
    assert (one["faults"], told["wrong"]) == (0, [])
    lines = command("cat", SOURCE.topic).stdout_bytes.splitlines()
    assert [json.loads(line)["offset"] for line in lines] == [record.offset for record in log]
    assert one["start"] == 0
    assert log[-1].offset < one["next"] <= end


def opened(command: ArchiveCommand, log: LogRange) -> int:
    """From which position a worker would go on with the source."""

    async def nothing_to_set_up() -> None:
        """The bucket is there."""

    async def opening() -> int:
        async with open_chain(settings_of(command)) as chain:
            sink = ArchiveSink(
                store=chain,
                set_up=nothing_to_set_up,
                rotation=Rotation(bytes=10**9, records=10**6, seconds=3_600),
                crash=CrashPoints(),
                topics={SOURCE.topic: TopicState("id", 1)},
            )
            return (await sink.open(SOURCE, log)).durable

    return asyncio.run(opening())


def stored_after(command: ArchiveCommand, start: int, following: int, *, hours: int = 0) -> str:
    """The next object of the chain, its hint not yet written."""
    record = record_of(EVENT, start)
    moved = record._replace(timestamp=record.timestamp + hours * 3_600_000)
    return command.archived.add([moved], following=following)


@pytest.mark.parametrize("hours", [0, 1, -2], ids=["same hour", "later", "clock went back"])
def test_a_writer_that_died_before_its_hint_lost_nothing_when_the_log_has_gone_on(
    command: ArchiveCommand, hours: int
) -> None:
    key = stored_after(command, 0, 100)
    hint = {"next": 100, "topicId": "id", "key": key}
    command.archived.hint(Place(*SOURCE), json.dumps(hint).encode())
    stored_after(command, 100, 200, hours=hours)
    # The log still has what comes after the chain: no record twice, and nothing to skip.
    assert opened(command, LogRange(150, 300)) == 200
    # While the log has all, the hint is enough: the store says what is there already (rule 23).
    assert opened(command, LogRange(100, 300)) == 100
    with pytest.raises(OffsetOutOfRange, match="checkpoint 200"):
        opened(command, LogRange(250, 300))


def test_a_chain_without_any_hint_is_gone_on_with_where_the_log_begins_later(
    command: ArchiveCommand,
) -> None:
    assert opened(command, LogRange(50, 300)) == 50
    stored_after(command, 0, 100)
    assert opened(command, LogRange(50, 300)) == 100
    with pytest.raises(OffsetOutOfRange, match="checkpoint 100"):
        opened(command, LogRange(101, 300))


def test_a_chain_that_is_not_the_topic_s_or_says_nothing_of_itself_halts(
    command: ArchiveCommand,
) -> None:
    command.archived.add([record_of(EVENT, 0)], topic_id="another")
    with pytest.raises(TopicRecreated, match="another"):
        opened(command, LogRange(50, 300))
    key = stored_after(command, 7, 9)
    command.client.put_object(Bucket=command.bucket, Key=key, Body=b"")
    with pytest.raises(StoreLost, match=r"no object of a chain"):
        opened(command, LogRange(50, 300))
