"""`shopstream archive` on a real bucket: what it shows, what it proves, what it adds."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.analytics_events import LogRecord, event, inventory_body, record_of
from tests.support.archive import ArchiveCommand
from tests.support.components import LocalComponents

from shopstream_analytics.archive.line import line_of
from shopstream_shared.archive.keys import Place

TOPIC = "shop.inventory"
PLACE = Place(TOPIC, 0)
HOUR_MS = 3_600_000
DAY = "2026-11-21"
EVENT = event("inventory.updated", inventory_body("p1", "s1", 1), subject="p1", seller="s1")
COMMAND = str(Path(sys.executable).with_name("shopstream"))


@pytest.fixture
def command(components: LocalComponents, tmp_path: Path) -> ArchiveCommand:
    return ArchiveCommand.fresh(components, tmp_path / "data")


def records(*offsets: int, partition: int = 0, hours: int = 0) -> list[LogRecord]:
    made = [record_of(EVENT, offset, partition) for offset in offsets]
    return [one._replace(timestamp=one.timestamp + hours * HOUR_MS) for one in made]


def small_archive(command: ArchiveCommand) -> list[LogRecord]:
    """Two days of a partition, one record that is no event, another partition."""
    junk = records(3, hours=1)[0]._replace(value=b"junk\xff\n", key=b"\xff")
    kept = [*records(0, 2), junk, *records(4, hours=24)]
    command.archived.add(kept[:2], start=0)
    command.archived.add([junk])
    command.archived.add(kept[3:], following=7)
    command.archived.add(records(9, partition=1))
    command.archived.hint(PLACE, b'{"next":7,"topicId":"id"}')
    return kept


def test_ls_shows_a_row_a_day_and_partition_and_a_row_an_object(command: ArchiveCommand) -> None:
    small_archive(command)
    rows = [json.loads(line) for line in command.whole("ls", "--json").splitlines()]
    assert [(r["topic"], r["day"], r["partition"], r["objects"], r["first"]) for r in rows] == [
        (TOPIC, DAY, 0, 2, 0),
        (TOPIC, DAY, 1, 1, 9),
        (TOPIC, "2026-11-22", 0, 1, 4),
    ]
    shown = command.whole("ls", "--objects", "--day", DAY, "--partition", "0", "--json")
    objects = [json.loads(line) for line in shown.splitlines()]
    assert [(one["start"], one["next"], one["count"]) for one in objects] == [(0, 3, 2), (3, 4, 1)]
    assert {one["topic_id"] for one in objects} == {"id"}
    assert DAY in command.whole("ls")
    assert "+00000000000000000003" in command.whole("ls", "--objects")
    assert command.whole("ls", "--topic", "shop.orders", "--json") == ""


def test_cat_gives_the_stored_bytes_of_a_range(command: ArchiveCommand) -> None:
    kept = small_archive(command)
    lines = [line_of(record) for record in kept]
    cat = ("cat", TOPIC, "--partition", "0")
    assert command(*cat).stdout_bytes == b"".join(lines)
    assert command("cat", TOPIC).stdout_bytes == b"".join(lines) + line_of(
        records(9, partition=1)[0]
    )
    assert command(*cat, "--from-offset", "2", "--to-offset", "4").stdout_bytes == b"".join(
        lines[1:3]
    )
    stamp = str(kept[2].timestamp)
    assert command(*cat, "--since", stamp).stdout_bytes == b"".join(lines[2:])
    assert command(*cat, "--until", stamp).stdout_bytes == b"".join(lines[:2])
    day = command(*cat, "--since", f"{DAY}T01:00:00Z", "--until", "2026-11-22T00:00:00Z")
    assert day.stdout_bytes == lines[2]
    events = command(*cat, "--events").stdout_bytes
    assert events == (EVENT.value + b"\n") * 3


def test_cat_reads_a_record_of_an_earlier_hour_where_it_stands(command: ArchiveCommand) -> None:
    late = records(1, hours=-2)[0]
    command.archived.add([records(0)[0], late])
    shown = command("cat", TOPIC, "--until", str(late.timestamp + 1)).stdout_bytes
    assert shown == line_of(late)


def test_a_reader_that_closes_the_pipe_ends_cat_in_silence(command: ArchiveCommand) -> None:
    many = records(*range(3_000))
    command.archived.add(many)
    with subprocess.Popen(
        [COMMAND, "archive", "cat", TOPIC],
        env=dict(command.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == line_of(many[0])
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ls", "--topic", "shop.relay-progress"), "the archive holds"),
        (("ls", "--day", "yesterday"), "write a UTC day"),
        (("ls", "--day", "2026-02-30"), "write a UTC day"),
        (("cat", TOPIC, "--since", "noon"), "write 2026-11-21T05:00:00Z"),
        (("compact", "--day", "x"), "write a UTC day"),
        (("get", "--to", "somewhere"), "no such objects"),
        (("get", "--to", "somewhere", "--parquet"), "`shopstream archive compact` makes it"),
        (("sql", "nothing.sql", "--in", "nowhere"), "cannot be read"),
    ],
    ids=["topic", "day", "no day", "time", "compact", "nothing", "no parquet", "no query"],
)
def test_what_cannot_be_meant_is_one_clear_message(
    command: ArchiveCommand, words: tuple[str, ...], says: str
) -> None:
    result = command(*words)
    assert result.exit_code == 1
    assert says in str(result.exception)


def test_a_bucket_that_is_not_there_is_one_clear_message(command: ArchiveCommand) -> None:
    command.client.delete_bucket(Bucket=command.bucket)
    result = command("ls")
    assert "There is no bucket" in str(result.exception)


def break_nothing(command: ArchiveCommand, keys: list[str]) -> None:
    """A whole archive."""


def lose_an_object(command: ArchiveCommand, keys: list[str]) -> None:
    command.client.delete_object(Bucket=command.bucket, Key=keys[1])


def lose_the_last_object(command: ArchiveCommand, keys: list[str]) -> None:
    command.archived.hint(PLACE, json.dumps({"next": 3, "key": keys[2]}).encode())
    command.client.delete_object(Bucket=command.bucket, Key=keys[2])


def change_a_byte(command: ArchiveCommand, keys: list[str]) -> None:
    answer = command.client.get_object(Bucket=command.bucket, Key=keys[1])
    body = answer["Body"].read()
    command.archived.into.put(keys[1], body[:-1] + bytes([body[-1] ^ 1]), answer["Metadata"])


def add_a_stranger(command: ArchiveCommand, keys: list[str]) -> None:
    command.archived.into.put("events/topic=shop.inventory/notes.txt", b"x", {})


def put_the_hint_ahead(command: ArchiveCommand, keys: list[str]) -> None:
    command.archived.hint(PLACE, b'{"next":9,"topicId":"id"}')


def break_the_hint(command: ArchiveCommand, keys: list[str]) -> None:
    command.archived.hint(PLACE, b"next")


def name_it_wrongly(command: ArchiveCommand, keys: list[str]) -> None:
    answer = command.client.get_object(Bucket=command.bucket, Key=keys[2])
    body = answer["Body"].read()
    command.archived.into.put(keys[2].replace("hour=00", "hour=05"), body, answer["Metadata"])
    command.client.delete_object(Bucket=command.bucket, Key=keys[2])


def put_a_later_generation_s_hint_ahead(command: ArchiveCommand, keys: list[str]) -> None:
    command.archived.add(records(0), generation=2, topic_id="later")
    command.archived.into.put(
        "_positions/epoch=2/shop.inventory/0", b'{"next":3,"topicId":"later"}', {}
    )


def expire_objects(command: ArchiveCommand, keys: list[str]) -> None:
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "events/"}}
    command.client.put_bucket_lifecycle_configuration(
        Bucket=command.bucket,
        LifecycleConfiguration={"Rules": [{**rule, "Expiration": {"Days": 30}}]},
    )


@pytest.mark.parametrize(
    ("breaking", "says"),
    [
        pytest.param(break_nothing, None, id="nothing"),
        pytest.param(lose_an_object, "gap", id="an object less"),
        pytest.param(lose_the_last_object, "which is not there", id="the last object less"),
        pytest.param(change_a_byte, "damaged: ", id="another byte"),
        pytest.param(add_a_stranger, "belongs to none", id="an object too many"),
        pytest.param(put_the_hint_ahead, "its chain ends at 3", id="a hint ahead"),
        pytest.param(break_the_hint, "_positions/shop.inventory/0", id="a broken hint"),
        pytest.param(name_it_wrongly, "the key of its first record", id="another name"),
        pytest.param(
            put_a_later_generation_s_hint_ahead,
            "_positions/epoch=2/shop.inventory/0 says 3, its chain ends at 1",
            id="a later hint ahead",
        ),
        pytest.param(expire_objects, "lifecycle rule tidy", id="a rule that expires"),
    ],
)
def test_verify_ends_with_1_and_names_what_is_broken(
    command: ArchiveCommand,
    breaking: Callable[[ArchiveCommand, list[str]], None],
    says: str | None,
) -> None:
    keys = [command.archived.add(records(offset)) for offset in range(3)]
    command.archived.hint(PLACE, json.dumps({"next": 3, "topicId": "id", "key": keys[2]}).encode())
    breaking(command, keys)
    result = command("verify", "--topic", TOPIC)
    assert result.exit_code == (0 if says is None else 1), result.output
    assert ("The archive is whole: 3 records" if says is None else says) in result.stdout
    told = json.loads(command("verify", "--topic", TOPIC, "--json").stdout)
    assert bool(told["wrong"] or any(chain["faults"] for chain in told["chains"])) == bool(says)


@pytest.mark.parametrize("verb", ["manifest", "compact"])
def test_a_day_of_which_nothing_is_archived_is_an_error_and_leaves_nothing(
    command: ArchiveCommand, verb: str
) -> None:
    small_archive(command)
    assert "holds nothing of 2026-11-20" in str(command(verb, "--day", "2026-11-20").exception)
    assert command.keys("_manifests/") == []


def test_a_manifest_kept_elsewhere_tells_what_went_or_changed(
    command: ArchiveCommand, tmp_path: Path
) -> None:
    keys = [command.archived.add(records(offset)) for offset in range(2)]
    assert "2 objects, 2 records" in command.whole("manifest", "--day", DAY, "--topic", TOPIC)
    (key,) = command.keys("_manifests/")
    body = command.client.get_object(Bucket=command.bucket, Key=key)["Body"].read()
    said: dict[str, Any] = json.loads(body)
    assert [(row["key"], row["start"], row["next"]) for row in said["objects"]] == [
        (keys[0], 0, 1),
        (keys[1], 1, 2),
    ]
    kept = tmp_path / "kept.json"
    kept.write_bytes(body)
    verify = ("verify", "--topic", TOPIC, "--manifest", kept)
    assert command(*verify).exit_code == 0
    # The last object of a chain leaves no gap; only the list knows of it.
    command.client.delete_object(Bucket=command.bucket, Key=keys[1])
    result = command(*verify)
    assert (result.exit_code, f"{keys[1]} is not there any more" in result.stdout) == (1, True)
    kept.write_text("[]")
    assert "no manifest" in str(command(*verify).exception)


def test_get_copies_each_object_whole_and_only_once(
    command: ArchiveCommand, tmp_path: Path
) -> None:
    kept = small_archive(command)
    folder = tmp_path / "copy"
    assert "4 objects copied" in command.whole("get", "--to", folder)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.zst"))
    assert files == command.keys("events/")
    (folder / files[0]).write_bytes(b"cut off")
    assert "1 objects copied" in command.whole("get", "--to", folder, "--day", DAY)
    assert len(kept) == 4
    command.archived.add(records(7), sha256="0")
    assert "not what its sha256 says" in str(command("get", "--to", folder).exception)
    assert [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".zst"] == []


def test_get_refuses_a_folder_that_holds_what_the_archive_does_not(
    command: ArchiveCommand, tmp_path: Path
) -> None:
    """Queries over the folder would count it: after a bucket was lost, everything twice."""
    small_archive(command)
    folder = tmp_path / "copy"
    command.whole("get", "--to", folder)
    (there, *_) = sorted(folder.rglob("*.zst"))
    place = there.name.rpartition("+")[0]
    old = there.with_name(f"{place}+{10**19:020}.jsonl.zst")
    old.write_bytes(there.read_bytes())

    refused = str(command("get", "--to", folder).exception)
    assert "holds 1 files that the archive does not have" in refused
    assert old.name in refused
    # Another day, topic or partition than what is wanted stays out of it.
    assert command("get", "--to", folder, "--partition", "77").exit_code == 1
    old.unlink()
    assert "0 objects copied" in command.whole("get", "--to", folder)
