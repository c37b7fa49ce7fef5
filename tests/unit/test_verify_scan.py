"""What the archive has wrong is blamed on the archive alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import pytest
from tests.support.analytics_events import event

from shopstream_stack.verify.archive import Archive, Chain
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

    def read(self, _place: Place, _start: int, _end: int) -> Iterator[Record]:
        return iter(self.logged)


def record(offset: int) -> Record:
    made = event("product.updated", {}, subject=f"p{offset}", seller="s", sequence=1)
    return Record(offset, 0, made.subject.encode(), [], made.value)


def scanned(
    folder: Path, sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> tuple[Invariant, int, int]:
    """Invariant 3, how many events were read and how many records are none."""
    monkeypatch.setattr(Chain, "records", lambda *_: iter(sides.archived))
    row = Invariant(3)
    with Spool.open(folder) as spool:
        scan = Scan(
            spool, cast(Log, sides), cast(Archive, sides), {PLACE.topic: "id"}, row, lambda _: None
        )
        scan.run({PLACE: Range(0, len(sides.logged))})
        counts = [spool.number(f"SELECT count(*) FROM {name}") for name in ("log", "unreadable")]
    return row, counts[0], counts[1]


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


def test_what_neither_side_can_read_is_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Record(0, 0, None, [], b"noise")
    sides = Sides([noise], [msgspec.structs.replace(noise, raw=True)])
    assert scanned(tmp_path, sides, monkeypatch) == (Invariant(3), 0, 1)
