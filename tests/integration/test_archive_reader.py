"""The walk along a chain, on the port in memory and on MinIO alike (protocol rules 22-24)."""

from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from tests.support.analytics_events import LogRecord, event, inventory_body, record_of
from tests.support.archive import Archived, in_memory, in_minio
from tests.support.components import LocalComponents

from shopstream_shared.archive.end import chain_end
from shopstream_shared.archive.keys import Damaged, Place
from shopstream_shared.archive.lines import event_in, read_line
from shopstream_shared.archive.reader import (
    Broken,
    Fault,
    Hint,
    Walk,
    generations,
    index_of,
    read_hint,
)

PLACE = Place("shop.inventory", 0)
HOUR_MS = 3_600_000
EVENT = event("inventory.updated", inventory_body("p1", "s1", 1), subject="p1", seller="s1")


@pytest.fixture(params=["memory", "minio"])
def archived(request: pytest.FixtureRequest) -> Archived:
    if request.param == "memory":
        return in_memory()
    components: LocalComponents = request.getfixturevalue("components")
    return in_minio(components)


def records(*offsets: int, partition: int = 0, hours: int = 0) -> list[LogRecord]:
    made = [record_of(EVENT, offset, partition) for offset in offsets]
    return [one._replace(timestamp=one.timestamp + hours * HOUR_MS) for one in made]


def walked(archived: Archived, **range_: Any) -> tuple[Walk, list[int], list[Fault]]:
    """The whole chain, and all that is wrong with it."""
    faults: list[Fault] = []
    walk = Walk(archived.bucket, PLACE, fault=faults.append)
    index = index_of(archived.bucket, [PLACE.topic])
    some = list(walk.lines(index.keys(PLACE), **range_))
    return walk, [offset for lines in some for offset in lines.offsets], faults


def test_a_chain_is_walked_from_its_first_object_whatever_hours_its_keys_name(
    archived: Archived,
) -> None:
    # The clock of the second object went back: by name it comes first.
    archived.add(records(3, 4), start=2, following=7)
    archived.add(records(8, 11, hours=-2), start=7, following=12)
    archived.add(records(12, hours=1), following=15)
    archived.add(records(2, partition=1))
    walk, offsets, faults = walked(archived)
    assert offsets == [3, 4, 8, 11, 12]
    assert faults == []
    assert (walk.start, walk.next, walk.objects, walk.records) == (2, 15, 3, 5)
    assert walk.topic_id == "id"


def test_a_range_of_offsets_is_cut_out_of_its_objects(archived: Archived) -> None:
    archived.add(records(0, 1, 2))
    archived.add(records(3, 4, 5))
    archived.add(records(6, 7))
    walk, offsets, faults = walked(archived, begin=2, end=5)
    assert (offsets, faults, walk.next) == ([2, 3, 4], [], 6)


def test_objects_that_end_before_an_offset_are_not_even_named(archived: Archived) -> None:
    keys = [archived.add(records(offset, offset + 1)) for offset in (0, 2, 4)]
    index = index_of(archived.bucket, [PLACE.topic])
    for begin, named in ((0, keys), (1, keys), (2, keys[1:]), (4, keys[2:]), (99, keys[2:])):
        assert list(index.keys(PLACE, begin=begin)) == named


def test_each_generation_of_a_topic_has_a_chain_of_its_own(archived: Archived) -> None:
    archived.add(records(0, 1))
    archived.add(records(0), generation=2, topic_id="later")
    assert generations(archived.bucket) == [0, 2]
    index = index_of(archived.bucket, [PLACE.topic])
    assert index.chains() == [(0, PLACE), (2, PLACE)]
    for generation, end in ((0, 2), (2, 1)):
        walk = Walk(archived.bucket, PLACE)
        assert sum(len(some.lines) for some in walk.lines(index.keys(PLACE, generation))) == end
    assert len(index_of(archived.bucket, [PLACE.topic], generation=0)) == 2 - 1


def test_a_record_larger_than_a_chunk_comes_whole(archived: Archived) -> None:
    noise = b"".join(bytes([byte % 251]) for byte in range(300_000))
    record = records(0)[0]._replace(value=noise, key=None, headers=[("h", b"\xff"), ("n", None)])
    archived.add([record, *records(1)])
    walk = Walk(archived.bucket, PLACE)
    index = index_of(archived.bucket, [PLACE.topic])
    lines = [line for some in walk.lines(index.keys(PLACE)) for line in some.lines]
    seen = read_line(lines[0], PLACE)
    assert (seen.value, seen.key, seen.headers) == (noise, None, [("h", b"\xff"), ("n", None)])
    assert (event_in(lines[0]), event_in(lines[1])) == (None, EVENT.value)


def damaged(archived: Archived, **wrong: Any) -> None:
    archived.add(records(0, 1))
    archived.add(records(2, 3), **wrong)
    archived.add(records(4))


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        pytest.param({"start": 3}, "gap", "start 2", id="starts later"),
        pytest.param({"start": 1}, "gap", "start 2", id="starts earlier"),
        pytest.param({"topic_id": "other"}, "foreign", "topic-id id", id="another topic"),
        pytest.param({"sha256": "0" * 64}, "damaged", "sha256", id="sha256"),
        pytest.param({"count": 3}, "damaged", "first, last, count", id="count"),
        pytest.param({"first": 3}, "damaged", "first, last, count", id="first"),
        pytest.param({"last": 5}, "damaged", "first, last, count", id="last"),
        pytest.param({"following": 3}, "damaged", "within", id="next"),
        pytest.param({"body": b"no zstd"}, "damaged", "can be read", id="no zstd"),
        pytest.param(
            {"body": zstandard.compress(b"")}, "damaged", "first, last, count", id="no lines"
        ),
    ],
)
def test_what_an_object_promises_and_does_not_hold_is_named_and_the_walk_goes_on(
    archived: Archived, wrong: dict[str, Any], kind: str, says: str
) -> None:
    damaged(archived, **wrong)
    _, offsets, faults = walked(archived)
    assert (offsets[:2], offsets[-1]) == ([0, 1], 4)
    if "body" not in wrong:
        assert offsets == [0, 1, 2, 3, 4]
    # A next that is wrong breaks the chain as well.
    assert any(fault.kind == kind and says in fault.expected for fault in faults)
    assert all(fault.key.startswith("events/topic=shop.inventory/") for fault in faults)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: records(3, 2), "offsets that rise"),
        (lambda: [records(2)[0], records(3, partition=1)[0]], "can be read"),
    ],
    ids=["falling offsets", "a line of another partition"],
)
def test_lines_that_do_not_belong_are_named(
    archived: Archived, make: Callable[[], list[LogRecord]], says: str
) -> None:
    archived.add(make(), first=2, last=3, start=2, following=4)
    _, _, faults = walked(archived)
    assert any(says in fault.expected for fault in faults)


def test_a_walk_that_must_not_go_on_ends_at_the_first_fault(archived: Archived) -> None:
    archived.add(records(0))
    archived.add(records(2))
    index = index_of(archived.bucket, [PLACE.topic])
    with pytest.raises(Broken, match="gap"):
        list(Walk(archived.bucket, PLACE).lines(index.keys(PLACE)))


def test_an_object_that_went_away_since_the_listing_is_named(archived: Archived) -> None:
    key = archived.add(records(0))
    faults: list[Fault] = []
    walk = Walk(archived.bucket, PLACE, fault=faults.append)
    missing = key.replace("00.jsonl", "07.jsonl")
    assert sum(len(some.lines) for some in walk.lines([key, missing])) == 1
    assert [(fault.kind, fault.seen, fault.key) for fault in faults] == [
        ("damaged", "nothing", missing)
    ]


def test_what_is_no_object_of_a_chain_is_told_apart(archived: Archived) -> None:
    archived.add(records(0))
    strange = "events/topic=shop.inventory/year=2026/month=13/day=01/hour=00/x"
    archived.into.put(strange, b"x", {})
    index = index_of(archived.bucket, [PLACE.topic])
    assert (len(index), index.strange) == (1, [strange])


def test_a_hint_is_read_as_the_writer_wrote_it_and_a_broken_one_is_said(
    archived: Archived,
) -> None:
    assert read_hint(archived.bucket, PLACE) is None
    archived.hint(PLACE, b'{"next":9,"topicId":"id","key":"events/x"}')
    assert read_hint(archived.bucket, PLACE) == Hint(9, "events/x", "id")
    archived.hint(PLACE, b"{")
    with pytest.raises(Damaged, match="_positions"):
        read_hint(archived.bucket, PLACE)


def test_a_chain_ends_behind_its_last_object_wherever_the_hint_and_the_clock_are(
    archived: Archived,
) -> None:
    assert chain_end(archived.bucket, PLACE) == 0
    key = archived.add(records(0, 1), following=3)
    assert chain_end(archived.bucket, PLACE) == 3
    archived.hint(PLACE, f'{{"next":3,"topicId":"id","key":"{key}"}}'.encode())
    archived.add(records(3, hours=-2), following=6)
    archived.add(records(20, partition=1))
    archived.add(records(30), generation=1)
    assert chain_end(archived.bucket, PLACE) == 6
    assert chain_end(archived.bucket, PLACE, 1) == 31


def test_where_the_hint_reaches_far_enough_nothing_is_listed(archived: Archived) -> None:
    key = archived.add(records(0, 1))
    archived.hint(PLACE, f'{{"next":2,"topicId":"id","key":"{key}"}}'.encode())
    archived.add(records(2, hours=1))
    archived.add(records(3, hours=-1))
    assert [chain_end(archived.bucket, PLACE, enough=at) for at in (2, 3, 4, 5)] == [2, 3, 4, 4]


@pytest.mark.parametrize("hint", [b"no hint", None])
def test_a_damaged_object_at_the_end_does_not_hide_how_far_the_hint_says(
    archived: Archived, hint: bytes | None
) -> None:
    archived.hint(PLACE, hint or b'{"next":7,"topicId":"id","key":""}')
    key = archived.add(records(7))
    assert chain_end(archived.bucket, PLACE) == 8
    archived.into.put(key, b"", {})
    assert chain_end(archived.bucket, PLACE) == (7 if hint is None else 0)
