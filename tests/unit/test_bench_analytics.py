"""What the analytics benchmark concludes from positions, looks and an archive's lines."""

import io
from collections.abc import Mapping
from typing import Any, cast

import pytest
import zstandard

from shopstream_shared.events.codec import decode
from shopstream_stack.bench.analytics import archived
from shopstream_stack.bench.analytics.events import LINES, SELLERS, Shop
from shopstream_stack.bench.analytics.feed import Backlog, Committed
from shopstream_stack.bench.analytics.place import Place, Stores
from shopstream_stack.bench.analytics.timing import delays_of

ONE: Place = ("shop.inventory", 0)
TWO: Place = ("shop.inventory", 1)
BACKLOG = Backlog({ONE: 10, TWO: 5}, {ONE: 13, TWO: 7}, 0.0)


def test_a_backlog_is_done_as_far_as_the_positions_say() -> None:
    assert BACKLOG.events == 5
    assert BACKLOG.done({}) == 0
    assert BACKLOG.done({ONE: 3, TWO: 6}) == 1
    assert BACKLOG.done({ONE: 13, TWO: 6}) == 4


def test_what_comes_after_a_backlog_is_none_of_it() -> None:
    assert BACKLOG.done({ONE: 1_000, TWO: 1_000}) == 5


def test_an_event_is_readable_with_the_first_look_above_its_offset() -> None:
    looks = [(1.0, {ONE: 7}), (2.0, {ONE: 7}), (3.0, {ONE: 9, TWO: 1}), (4.0, {ONE: 10})]
    committed = [Committed(ONE, 8, 2.5), Committed(ONE, 9, 2.6), Committed(TWO, 0, 2.9)]
    assert delays_of(committed, looks) == pytest.approx([500.0, 1_400.0, 100.0])


def test_a_position_at_the_offset_itself_is_not_past_it() -> None:
    looks = [(1.0, {ONE: 8}), (2.0, {ONE: 9})]
    assert delays_of([Committed(ONE, 8, 0.5)], looks) == pytest.approx([1_500.0])


def test_a_shop_makes_events_that_the_codec_reads() -> None:
    shop = Shop(7)
    events = [decode(event.value) for event in (*shop.stock(20), *shop.mixed(20))]
    assert {event.envelope.subject for event in events[:20]} == {
        f"product-{n:06}" for n in range(7)
    }
    assert len({event.envelope.id for event in events}) == 40
    by_subject: dict[tuple[str, str], list[int]] = {}
    for event in events:
        by_subject.setdefault((event.topic, event.envelope.subject), []).append(event.sequence)
    assert all(found == list(range(1, len(found) + 1)) for found in by_subject.values())


def test_a_mixed_shop_has_an_orders_two_events_around_its_lines() -> None:
    kinds = [event.type for event in Shop(7).mixed(LINES + 2)]
    assert kinds == ["order.created", *["inventory.reserved"] * LINES, "order.paid"]
    assert SELLERS > 1


class _Bucket:
    """Objects by key, as boto3 gives them: for the reader of archives alone."""

    def __init__(self, objects: Mapping[str, tuple[bytes, Mapping[str, str]]]) -> None:
        self._objects = objects

    def get_paginator(self, _name: str) -> "_Bucket":
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        return [{"Contents": [{"Key": key} for key in self._objects]}]

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto3's
        return {"Body": io.BytesIO(self._objects[Key][0])}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto3's
        return {"Metadata": self._objects[Key][1]}


def _stores(*files: tuple[Place, list[int], int, int]) -> Stores:
    objects = {}
    for place, offsets, start, following in files:
        topic, partition = place
        lines = "".join(
            f'{{"topic":"{topic}","partition":{partition},"offset":{offset},"event":{{"offset":1}}}}\n'
            for offset in offsets
        )
        key = f"events/topic={topic}/x/{topic}+{partition}+{start:020}.jsonl.zst"
        metadata = {"start": str(start), "next": str(following)}
        objects[key] = (zstandard.compress(lines.encode()), metadata)
    return Stores({}, cast(Any, _Target()), cast(Any, None), cast(Any, _Bucket(objects)))


class _Target:
    archive_bucket = "archive"


def test_an_archive_with_each_offset_once_has_no_faults() -> None:
    stores = _stores((ONE, [10, 11], 10, 12), (ONE, [12], 12, 13), (TWO, [5, 6], 5, 8))
    assert archived.faults_of(stores, BACKLOG) == []
    assert archived.chain_faults(stores) == []


def test_offsets_lost_doubled_and_of_nobody_are_told_apart() -> None:
    stores = _stores((ONE, [10, 11], 10, 12), (ONE, [11, 12], 11, 13), (TWO, [5, 9], 5, 10))
    assert archived.faults_of(stores, BACKLOG) == [
        "1 offsets lost in the archive",
        "1 offsets doubled in the archive",
        "1 offsets of nobody in the archive",
    ]


def test_an_object_that_does_not_begin_where_the_one_before_ends_breaks_the_chain() -> None:
    stores = _stores((ONE, [10], 10, 11), (ONE, [12], 12, 13))
    assert archived.chain_faults(stores) == [
        "shop.inventory/0: an object starts at 12, the one before it ends at 11"
    ]
