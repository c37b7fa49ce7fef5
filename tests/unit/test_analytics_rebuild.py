"""Rebuild in parts: rows sorted on disk, a partition folded in zones, live items beside it."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.support.analytics_events import (
    DAY,
    LogRecord,
    Shop,
    event,
    inventory_body,
    naive_counts,
    record_of,
)

from shopstream_analytics.aggregates.fold import ItemKey
from shopstream_analytics.aggregates.keys import keys_of
from shopstream_analytics.aggregates.sink import Letter
from shopstream_analytics.archive.line import line_of
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dead_letters import headers_of, offset_sent
from shopstream_analytics.rebuild import source as source_module
from shopstream_analytics.rebuild import spill as spill_module
from shopstream_analytics.rebuild.compare import differences
from shopstream_analytics.rebuild.source import NEVER, Borders, Cell, ItemRows, SourceFold, items_of
from shopstream_analytics.rebuild.spill import Row, Spill
from shopstream_shared.archive.keys import Place
from shopstream_shared.archive.reader import Lines
from shopstream_shared.generations import (
    consumer_of,
    epochs_key,
    hint_key,
    parse_source_name,
    source_name,
    table_of,
)

PLACE = Place("shop.orders", 0)
SOURCE = Source("shop.orders", 0)


def test_first_generations_and_epochs_are_named_as_if_there_were_no_others() -> None:
    assert (table_of("Aggregates", 0), table_of("Aggregates", 2)) == (
        "Aggregates",
        "Aggregates-rebuild-2",
    )
    assert (consumer_of("c", 0), consumer_of("c", 2)) == ("c", "c+2")
    assert (source_name("shop.orders", 0), source_name("shop.orders", 3)) == (
        "shop.orders",
        "shop.orders@3",
    )
    assert [parse_source_name(name) for name in ("shop.orders", "shop.orders@3")] == [
        ("shop.orders", 0),
        ("shop.orders", 3),
    ]
    assert hint_key("shop.orders", 1, 0) == "_positions/shop.orders/1"
    assert hint_key("shop.orders", 1, 3) == "_positions/epoch=3/shop.orders/1"
    assert epochs_key("shop.orders") == "_epochs/shop.orders"


def test_rows_come_back_by_key_and_within_one_in_the_order_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More runs than may be open, more rows than a block, counters beyond 64 bits."""
    monkeypatch.setattr(spill_module, "RUNS_OPEN_MAX", 3)
    random = Random(1)
    rows: list[Row] = [
        (f"k{random.randrange(400)}", f"s{random.randrange(2)}", number, {"n": 10**30 + number})
        for number in range(4_000)
    ]
    spill = Spill(tmp_path)
    for at in range(0, len(rows), 400):
        spill.add_run(rows[at : at + 400])
    for _ in range(2):
        assert list(spill.rows()) == sorted(rows, key=lambda row: row[:2])
    assert list(Spill(tmp_path / "none").rows()) == []


def records(seed: int, lives: int) -> list[LogRecord]:
    """Orders only, at offsets with holes, as markers leave them."""
    shop, random = Shop(seed), Random(seed)
    found, offset = [], 0
    for _ in range(lives):
        for one in shop.order_life():
            if one.topic == PLACE.topic:
                found.append(record_of(one, offset))
                offset += random.randrange(1, 3)
    return found


def fold_all(folder: Path, given: Sequence[LogRecord], borders: Borders) -> SourceFold:
    """Fold in pieces of any size."""
    folder.mkdir(exist_ok=True)
    folded = SourceFold(PLACE, SOURCE, borders, Spill(folder))
    left = list(given)
    random = Random(2)
    while left and folded.wants_more:
        size = random.randrange(1, 8)
        piece, left = left[:size], left[size:]
        folded.take(Lines([r.offset for r in piece], [line_of(r)[:-1] for r in piece]))
    folded.finish()
    return folded


def rebuilt(folded: SourceFold) -> list[ItemRows]:
    return list(items_of(folded.spill.rows()))


def expected(given: Sequence[LogRecord], upto: int) -> dict[str, dict[str, int]]:
    """By item, from the contract's words."""
    counts = naive_counts(r.value or b"" for r in given if r.offset <= upto)
    found = {}
    for key, counters in counts.items():
        dimension, name, step, start, *member = key
        named = ItemKey(dimension, name, step, start, *member)  # type: ignore[arg-type]  # words
        found["|".join(keys_of(named, SOURCE))] = dict(counters)
    return found


@pytest.mark.parametrize("cells_max", [1, 7, 100_000])
@pytest.mark.parametrize(("settled", "furthest"), [(0, -1), (0, 60), (50, 90), (50, 49), (400, 30)])
def test_what_an_item_holds_at_any_upto_it_may_have_is_in_the_rows(
    settled: int,
    furthest: int,
    cells_max: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source_module, "CELLS_MAX", cells_max)
    given = records(seed=1, lives=60)
    folded = fold_all(tmp_path, given, Borders(settled, furthest))
    items = rebuilt(folded)
    assert folded.counted.events == len(given)
    last = given[-1].offset
    for upto in {settled - 1, (settled + furthest) // 2, furthest, last}:
        if upto in range(settled - 1, furthest + 1) or upto == last:
            cells = {f"{item.pk}|{item.sk}": item.up_to(upto) for item in items}
            found = {key: dict(cell.counters) for key, cell in cells.items() if cell is not None}
            assert found == expected(given, upto)
            for key, cell in cells.items():
                assert cell is None or cell.last <= upto, key
    for item in items:
        whole = item.up_to(last)
        assert whole is not None
        assert item.settled < settled
        assert whole.last == max(
            (cell.last for _, cell in item.rows if cell.last <= last), default=-1
        )


def test_a_record_that_nobody_can_read_ends_it_only_where_its_letter_may_be_unwritten(
    tmp_path: Path,
) -> None:
    given = records(seed=2, lives=20)
    early, late = 5, 30
    given[early] = given[early]._replace(value=b"no json")
    given[late] = given[late]._replace(value=None)
    letters = given[early].offset + 1
    folded = fold_all(tmp_path, given, Borders(letters=letters))
    assert folded.cut == given[late].offset
    readable = [r for r in given[:late] if r.value != b"no json"]
    assert folded.counted.unreadable == 2
    items = {f"{i.pk}|{i.sk}": i.up_to(folded.cut - 1) for i in rebuilt(folded)}
    found = {key: dict(cell.counters) for key, cell in items.items() if cell is not None}
    assert found == expected(readable, given[late].offset)


def test_a_comparison_reads_on_beyond_the_end_of_what_is_rebuilt(tmp_path: Path) -> None:
    given = records(seed=3, lives=20)
    settled, bad, furthest = given[10].offset, 20, given[30].offset
    given[bad] = given[bad]._replace(value=b"")
    folded = fold_all(tmp_path, given, Borders(settled, furthest, letters=settled))
    assert folded.cut == given[bad].offset
    readable = [r for r in given if r.value]
    items = rebuilt(folded)
    for upto in (given[bad].offset - 1, furthest):
        cells = {f"{i.pk}|{i.sk}": i.up_to(upto) for i in items}
        found = {key: dict(cell.counters) for key, cell in cells.items() if cell is not None}
        assert found == expected(readable, upto)


@pytest.mark.parametrize("settled", [NEVER, 0], ids=["many at once", "one by one"])
def test_a_record_with_a_letter_is_counted_but_makes_nothing_late(
    settled: int, tmp_path: Path
) -> None:
    """Where it stands it was nobody's event (ADR 39): without this, the last one would be late."""
    given = []
    body = inventory_body("p", "s", 1)
    for offset, minute in enumerate((0, 50, 100, 10)):
        at = DAY + timedelta(minutes=minute)
        made = event("inventory.updated", body, subject="p", seller="s", at=at)
        given.append(record_of(made, offset)._replace(topic=PLACE.topic))
    whole = fold_all(tmp_path / "all", given, Borders(settled, furthest=9))
    found = Borders(settled, furthest=9, standing=frozenset({2, 7}))
    folded = fold_all(tmp_path / "aside", given, found)
    sums = [
        sum((Counter(cell.counters) for i in rebuilt(one) if (cell := i.up_to(9))), Counter())
        for one in (whole, folded)
    ]
    assert sums[0].pop("lateEvents") > 0
    assert sums[0] == sums[1]
    assert folded.letters == [2]
    assert folded.time.at == DAY + timedelta(minutes=50)
    until = fold_all(tmp_path / "cut", given, Borders(until_ms=0, standing=frozenset({2})))
    assert until.letters == []


def test_until_leaves_out_everything_from_the_first_record_of_that_time(tmp_path: Path) -> None:
    given = [r._replace(timestamp=1_000 + number) for number, r in enumerate(records(4, 20))]
    folded = fold_all(tmp_path, given, Borders(until_ms=1_017))
    assert folded.cut == given[17].offset
    assert folded.counted.events >= 17
    last = max(cell.last for item in rebuilt(folded) for _, cell in item.rows)
    assert last == given[16].offset


def item(name: str, *rows: tuple[int, int, int]) -> ItemRows:
    """An item of rows (zone, offset, events)."""
    return ItemRows(name, "s", [(zone, Cell(at, at, {"events": n})) for zone, at, n in rows])


@pytest.mark.parametrize(
    ("live", "kind"),
    [
        (("a", "s", 7, {"events": 5}), None),
        (("a", "s", 7, {"events": 5, "orders": 0}), None),
        (("a", "s", 9, {"events": 12}), None),
        (("a", "s", 9, {"events": 5}), "differs"),
        (("a", "s", 7, {"events": 12}), "differs"),
        (("a", "s", 7, {"events": 5, "orders": 1}), "differs"),
        (("a", "s", 6, {"events": 3}), "behind"),
        (("b", "s", 7, {"events": 5}), "surplus"),
        (None, "missing"),
    ],
)
def test_a_live_item_is_held_against_what_was_folded_up_to_its_own_upto(
    live: Row | None, kind: str | None
) -> None:
    """Settled up to offset 7, one contribution above it."""
    made = item("a", (source_module.SETTLED, 6, 3), (source_module.SETTLED, 7, 2), (1, 9, 7))
    found = list(differences([] if live is None else [live], [made]))
    kinds = Counter(one.kind for one in found)
    if kind == "surplus":
        assert kinds == {"surplus": 1, "missing": 1}
    else:
        assert kinds == ({} if kind is None else {kind: 1})
    assert all(one.detail for one in found)


def test_what_is_only_above_the_checkpoint_may_be_missing_in_the_live_table() -> None:
    assert list(differences([], [item("a", (source_module.OPEN, 9, 1))])) == []


class Sent:
    """A letter as it comes back from the dead-letter topic."""

    def __init__(self, record: LogRecord, epoch: int) -> None:
        self._headers = headers_of(Letter(record, "malformed", "no json"), epoch)

    def headers(self) -> list[tuple[str, bytes | str | None]]:
        return self._headers


def test_a_letter_of_an_earlier_life_of_the_topic_does_not_stand_for_a_record_of_this_one() -> None:
    record = LogRecord(SOURCE.topic, SOURCE.partition, 7, 0, b"k", b"no json", [])
    for epoch, other in ((0, 1), (1, 0), (2, 1)):
        sent: Any = Sent(record, epoch)
        assert offset_sent(sent, SOURCE, epoch) == 7
        assert offset_sent(sent, SOURCE, other) is None
    names = [name for name, _ in Sent(record, 0).headers()]
    assert "dlq_epoch" not in names


class _Foreign:
    """A record of the dead-letter topic by another hand."""

    def __init__(self, headers: list[tuple[str, bytes | str | None]]) -> None:
        self._headers = headers

    def headers(self) -> list[tuple[str, bytes | str | None]]:
        return self._headers


@pytest.mark.parametrize("offset", [None, b"x", b"", "missing"])
def test_a_foreign_record_among_the_letters_is_passed_over(offset: bytes | str | None) -> None:
    record = LogRecord(*SOURCE, 7, 0, b"k", b"no json", [])
    headers = dict(headers_of(Letter(record, "malformed", "no json")))
    headers["dlq_offset"] = offset
    if offset == "missing":
        del headers["dlq_offset"]
    sent: Any = _Foreign(list(headers.items()))
    assert offset_sent(sent, SOURCE) is None


def test_a_record_with_an_epoch_header_of_its_own_is_known_again_by_its_letter() -> None:
    record = LogRecord(*SOURCE, 7, 0, b"k", b"no json", [("dlq_epoch", b"9")])
    sent: Any = _Foreign(headers_of(Letter(record, "malformed", "no json")))
    assert offset_sent(sent, SOURCE) == 7
