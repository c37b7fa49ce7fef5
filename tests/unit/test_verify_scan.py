"""What the archive has wrong is blamed on the archive alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.support.analytics_events import DAY, LogRecord, event, inventory_body

from shopstream_analytics.archive.line import line_of as archived_line
from shopstream_stack.verify.archive import Archive, Chain, Damaged, line_of
from shopstream_stack.verify.log import Log, Place, Record
from shopstream_stack.verify.report import Invariant
from shopstream_stack.verify.scan import Range, Scan
from shopstream_stack.verify.spool import Spool

PLACE = Place("shop.products", 0)


@dataclass
class Sides:
    """A log and an archive of one partition."""

    logged: list[Record]
    archived: list[Record]
    #: Offsets with a letter.
    aside: list[int] = field(default_factory=list)
    #: Where the log begins by the time it is read.
    begins: int = 0

    def read(
        self, _place: Place, start: int, _end: int, removed: Callable[[int], None]
    ) -> Iterator[Record]:
        if self.begins > start:
            removed(self.begins)
        return (one for one in self.logged if one.offset >= self.begins)


def chain(topic: str = PLACE.topic) -> Chain:
    return Chain(cast(Archive, None), Place(topic, PLACE.partition), "id", Invariant(3))


def record(offset: int) -> Record:
    made = event("product.updated", {}, subject=f"p{offset}", seller="s", sequence=1)
    return Record(offset, 0, made.subject.encode(), [], made.value)


def scan_of(spool: Spool, sides: Sides, row: Invariant) -> Scan:
    return Scan(
        spool,
        cast(Log, sides),
        cast(Archive, sides),
        {PLACE: "id"},
        row,
        lambda _: None,
        lambda _: iter(sides.aside),
    )


def scanned(
    folder: Path, sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> tuple[Invariant, int, int]:
    """Invariant 3, how many events were read and how many records are none."""
    monkeypatch.setattr(Chain, "records", lambda *_: iter(sides.archived))
    row = Invariant(3)
    with Spool.open(folder) as spool:
        scan_of(spool, sides, row).run({PLACE: Range(0, len(sides.logged))})
        counts = [spool.number(f"SELECT count(*) FROM {name}") for name in ("log", "unreadable")]
    return row, counts[0], counts[1]


def test_what_has_a_letter_is_never_late_and_makes_nothing_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = (0, 50, 100, 10, 15)
    records = [
        Record(
            2 * n, 0, b"p", [], event("product.updated", {}, subject="p", seller="s", at=at).value
        )
        for n, at in enumerate(DAY + timedelta(minutes=m) for m in minutes)
    ]
    # Letters of offsets that hold no record, too, and of those that retention has taken.
    for number, (aside, tardy) in enumerate(
        (([], [6, 8]), ([3, 4, 5], []), ([1, 6], [8]), ([6, 8, 99], []))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        sides = Sides(records, [], aside=aside)
        monkeypatch.setattr(Chain, "records", lambda *_: iter(()))
        with Spool.open(folder) as spool:
            scan_of(spool, sides, Invariant(3)).run({PLACE: Range(0, 10)})
            found = spool.rows("SELECT off FROM log WHERE tardy ORDER BY off")
        assert [offset for (offset,) in found] == tardy


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda value: b"not an event", id="no event"),
        pytest.param(
            lambda value: value.replace(b'"sequence":"1"', b'"sequence":"x"'), id="no number"
        ),
        pytest.param(lambda value: value.replace(b'"s"', b'"t"'), id="an event of another seller"),
    ],
)
def test_an_archived_line_that_was_changed_takes_nothing_from_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    whole = [record(0), record(1)]
    changed = msgspec.structs.replace(whole[1], value=damage(whole[1].value or b""))
    assert changed != whole[1]
    row, events, unreadable = scanned(tmp_path, Sides(whole, [whole[0], changed]), monkeypatch)
    assert row.kinds == {"altered": 1}
    assert (events, unreadable) == (2, 0)


def test_what_retention_takes_while_the_log_is_read_stands_from_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [record(offset) for offset in range(3)]
    sides = Sides(whole, list(whole), begins=2)
    assert scanned(tmp_path, sides, monkeypatch) == (Invariant(3), 3, 0)


def test_what_neither_side_can_read_is_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Record(0, 0, None, [], b"noise")
    sides = Sides([noise], [msgspec.structs.replace(noise, raw=True)])
    assert scanned(tmp_path, sides, monkeypatch) == (Invariant(3), 0, 1)


def test_the_archive_s_own_line_of_an_event_is_known_without_taking_it_apart() -> None:
    made = event(
        "inventory.updated", inventory_body("p", "s", 1), subject="p", seller="s", sequence=1
    )
    logged = Record(7, 0, b"p", [("ce_id", 'ü "x"\\'.encode())], made.value)
    line = archived_line(LogRecord(*PLACE, 7, 0, logged.key, logged.value, logged.headers))
    walked = chain()
    walked.expect(logged)
    assert walked.record(line.removesuffix(b"\n")) is logged


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"offset": 8}, id="offset"),
        pytest.param({"timestamp": 1}, id="timestamp"),
        pytest.param({"key": None}, id="key"),
        pytest.param({"headers": [("a", b"b")]}, id="headers"),
        pytest.param({"value": b'{"a":1}'}, id="value"),
    ],
)
def test_a_line_that_is_not_the_expected_one_is_read_as_it_stands(other: dict[str, Any]) -> None:
    logged = record(7)
    kept = msgspec.structs.replace(logged, **other)
    line = line_of(PLACE, kept)
    assert line is not None
    walked = chain()
    walked.expect(logged)
    assert walked.record(line) == kept


def test_a_line_of_another_partition_is_damaged_whatever_was_expected() -> None:
    line = line_of(Place("shop.orders", 0), record(7))
    assert line is not None
    walked = chain()
    walked.expect(record(7))
    with pytest.raises(Damaged, match=r"a line of shop\.orders/0"):
        walked.record(line)


@pytest.mark.parametrize(
    "hard",
    [
        pytest.param({"value": b' {"a":1} '}, id="white space around the value"),
        pytest.param({"value": None}, id="no value"),
        pytest.param({"key": b"\xff"}, id="a key that is no text"),
        pytest.param({"headers": [("a", b"\xff")]}, id="a header that is no text"),
        pytest.param({"headers": [("a", None)]}, id="a header without a value"),
    ],
)
def test_nothing_is_expected_of_a_record_whose_line_is_not_simple(hard: dict[str, Any]) -> None:
    assert line_of(PLACE, msgspec.structs.replace(record(7), **hard)) is None
