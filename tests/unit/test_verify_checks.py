"""Each check on a small history: healthy it is silent, broken in one way it names just that."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.spooled import NOW, Happened, History, healthy, received, recent_item

from shopstream_stack.verify import aggregate_checks, client_checks, log_checks, sink_checks
from shopstream_stack.verify import spool as spool_module
from shopstream_stack.verify.report import Invariant
from shopstream_stack.verify.spool import Spool
from shopstream_stack.verify.tables import in_our_form

PRICED = Happened("shop.products", 3, "p", 2, "product.price_changed")
MADE_UP = Happened("shop.products", 7, "p", 3, "product.updated")
SALES = "sellerProduct#s#0#shop.orders#0|day#2026-11-21T00:00:00Z#p"
HOUR = "hour#2026-11-21T05:00:00Z"


def aggregates(spool: Spool, row: Invariant) -> None:
    """Both halves of invariant 4."""
    sink_checks.sums(spool, row)
    aggregate_checks.aggregates(spool, row)


CHECKS: dict[int, Callable[[Spool, Invariant], None]] = {
    1: log_checks.versions_on_log,
    2: log_checks.no_phantoms,
    4: aggregates,
    5: lambda spool, row: sink_checks.recent_events(spool, row, NOW),
    7: client_checks.received,
}


def judged(history: History, folder: Path, *numbers: int) -> dict[int, Invariant]:
    """The checks that work on the spool; all of them when none is named."""
    rows = {number: Invariant(number) for number in numbers or CHECKS}
    with history.spool(folder / "spool") as spool:
        log_checks.prepare(spool)
        for number, row in rows.items():
            CHECKS[number](spool, row)
    return rows


def test_a_healthy_history_holds_and_says_what_was_looked_at(tmp_path: Path) -> None:
    rows = judged(healthy(), tmp_path)
    assert {row.status for row in rows.values()} == {"holds"}, rows
    assert rows[1].counted == {"versions": 6, "events": 6}
    assert rows[4].counted == {"sums": 4, "items": 16, "counters": 71}
    assert rows[5].counted == {"items": 6}


def test_an_empty_system_holds(tmp_path: Path) -> None:
    assert {row.status for row in judged(History(), tmp_path).values()} == {"holds"}


def lost(history: History) -> None:
    history.log.remove(PRICED)


def doubled(history: History) -> None:
    history.log.append(PRICED.at(7))


def swapped(history: History) -> None:
    history.log = [
        one.at({0: 3, 3: 0}[one.offset]) if one.topic == "shop.products" else one
        for one in history.log
    ]


def interleaved(history: History) -> None:
    """The middle one of three versions in another partition."""
    middle = next(one for one in history.log if one.sequence == 2 and one.topic == "shop.orders")
    history.log.remove(middle)
    history.log.append(middle.at(4, partition=1))


def made_up(history: History) -> None:
    history.log.append(MADE_UP)


def other_bytes(history: History) -> None:
    history.log.remove(PRICED)
    history.log.append(replace(PRICED, bytes="others"))


def unaudited(history: History) -> None:
    history.versions["shop.inventory", "p"] = 2


def still_waiting(history: History) -> None:
    lost(history)
    history.waiting.append(PRICED)


def poisoned(history: History) -> None:
    lost(history)
    history.poison.append(PRICED)


@pytest.mark.parametrize(
    ("break_it", "number", "kind", "place"),
    [
        (lost, 1, "lost", "version 1 is at shop.products/0@0"),
        (doubled, 1, "duplicate", "shop.products/0@3, shop.products/0@7"),
        (swapped, 1, "reordered", "shop.products/0@3"),
        (interleaved, 1, "reordered", "shop.orders/1@4"),
        (made_up, 2, "phantom", "shop.products/0@7"),
        (other_bytes, 2, "altered", "shop.products/0@3"),
        (unaudited, 1, "unaudited", "version 1 is at shop.inventory/0@2"),
        (still_waiting, 1, "unpublished", "version 1 is at shop.products/0@0"),
        (poisoned, 1, "poison", "version 1 is at shop.products/0@0"),
    ],
)
def test_what_is_wrong_on_the_log_is_named_with_its_offsets(
    break_it: Callable[[History], None], number: int, kind: str, place: str, tmp_path: Path
) -> None:
    history = healthy()
    break_it(history)
    row = judged(history, tmp_path, number)[number]
    assert {name: count for name, count in row.kinds.items() if count} == {kind: 1}
    (violation,) = row.violations
    assert (violation.kind, violation.place) == (kind, place)
    assert violation.aggregate.split()[1] in {"p", "o"}


def test_only_what_lies_below_the_cut_is_judged(tmp_path: Path) -> None:
    history = healthy()
    history.log.append(MADE_UP)
    history.e0 = 7  # committed after the snapshot, perhaps
    assert judged(history, tmp_path, 2)[2].status == "holds"
    history.e0 = 8
    assert judged(history, tmp_path / "again", 2)[2].status == "violated"


def test_a_dead_letter_is_no_phantom_and_counts_nowhere(tmp_path: Path) -> None:
    history = healthy()
    history.log.append(MADE_UP)
    history.letters.append(("shop.products", 0, 7))
    rows = judged(history, tmp_path)
    assert {row.status for row in rows.values()} == {"holds"}
    assert rows[2].counted == {"events": 6, "dead letters": 1}


def test_more_than_ten_of_a_kind_are_counted_and_ten_are_spelled_out(tmp_path: Path) -> None:
    history = healthy()
    history.log += [replace(MADE_UP, offset=10 + n, sequence=3 + n) for n in range(25)]
    row = judged(history, tmp_path, 2)[2]
    assert row.kinds["phantom"] == 25
    assert len(row.violations) == 10


def test_of_one_kind_ten_are_spelled_out_whatever_found_them(tmp_path: Path) -> None:
    history = History()
    for number in range(9):
        product, other = f"p{number}", f"q{number}"
        history.log += [
            Happened("shop.products", 4 * number, product, 2, "product.updated"),
            Happened("shop.products", 4 * number + 1, product, 1, "product.created"),
            Happened("shop.products", 4 * number + 2, other, 1, "product.created"),
            Happened("shop.products", number, other, 2, "product.updated", partition=1),
        ]
    history.audit = list(history.log)
    row = judged(history, tmp_path, 1)[1]
    assert row.kinds["reordered"] == 18
    assert len(row.violations) == 10


def one_cent_off(history: History) -> None:
    history.items[f"seller#s#shop.orders#0|{HOUR}"]["revenueMinor#USD"] += 1


def no_item(history: History) -> None:
    del history.items[f"product#p#shop.inventory#0|{HOUR}"]["byType#inventory.reserved"]


def too_short(history: History) -> None:
    """It says that it has not come to the refund, yet the checkpoint is past it."""
    history.items[f"seller#s#shop.orders#0|{HOUR}"]["upto"] = 4


def another_total(history: History) -> None:
    history.sums[3] = ("s", "revenueMinor#USD", 1_501)


@pytest.mark.parametrize(
    ("break_it", "kind", "expected", "seen"),
    [
        (one_cent_off, "differs", "revenueMinor#USD 1500", "1501"),
        (no_item, "differs", "byType#inventory.reserved 1", "0"),
        (too_short, "behind", "all events up to offset 6", "upto 4"),
        (another_total, "unequal sum", "revenueMinor#USD 1501 by PostgreSQL", "1500 by the events"),
    ],
)
def test_an_aggregate_that_is_off_is_named(
    break_it: Callable[[History], None], kind: str, expected: str, seen: str, tmp_path: Path
) -> None:
    history = healthy()
    break_it(history)
    row = judged(history, tmp_path, 4)[4]
    assert {name: count for name, count in row.kinds.items() if count} == {kind: 1}
    assert (row.violations[0].expected, row.violations[0].seen) == (expected, seen)


def test_what_is_judged_slice_by_slice_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = healthy()
    for break_it in (one_cent_off, too_short, made_up, other_bytes):
        break_it(history)
    at_once = judged(history, tmp_path / "at once")
    monkeypatch.setattr(spool_module, "SLICE_ROWS_MAX", 1)
    assert judged(history, tmp_path / "sliced") == at_once
    assert {row.status for row in judged(healthy(), tmp_path / "healthy").values()} == {"holds"}


def test_an_item_is_held_against_the_archive_up_to_its_own_offset(tmp_path: Path) -> None:
    """The worker's checkpoint is at 5; one item has merged what comes after, the others not."""
    history = healthy()
    history.checkpoint = 5
    for key, item in history.items.items():
        if "shop.orders" in key and not key.startswith("seller#"):
            item |= {"upto": 4, "revenueMinor#USD": 2_000}
            if not key.startswith("sellerProduct"):
                item |= {"events": 2, "byType#order.refunded": 0, "refundedMinor#USD": 0}
    assert judged(history, tmp_path, 4)[4].status == "holds"


def came_late(history: History) -> None:
    history.log.remove(PRICED)
    history.log.append(replace(PRICED, tardy=True))


def was_ahead(history: History) -> None:
    history.ahead.append(("shop.products", 0, 3, NOW))


def paid_back(history: History) -> None:
    history.log = [replace(one, refunded=one.type == "order.refunded") for one in history.log]


@pytest.mark.parametrize(
    ("happened", "counter", "topic", "series"),
    [
        (came_late, "lateEvents", "shop.products", ("seller#s", "all#event-types")),
        (was_ahead, "aheadEvents", "shop.products", ("all#event-types",)),
        (paid_back, "refundedInFull", "shop.orders", ("seller#s", "all#event-types")),
    ],
)
def test_what_is_late_ahead_or_paid_back_must_be_counted_by_those_who_keep_it(
    happened: Callable[[History], None],
    counter: str,
    topic: str,
    series: tuple[str, ...],
    tmp_path: Path,
) -> None:
    history = healthy()
    happened(history)
    row = judged(history, tmp_path, 4)[4]
    assert row.kinds["differs"] == 2 * len(series), row.violations
    assert {violation.expected for violation in row.violations} == {f"{counter} 1"}
    for key, item in history.items.items():
        if key.startswith(series) and f"#{topic}#" in key:
            item[counter] = 1
    assert judged(history, tmp_path / "counted", 4)[4].status == "holds"


def test_a_sale_of_a_product_that_is_not_its_seller_s_is_named(tmp_path: Path) -> None:
    history = healthy()
    sales = history.items.pop(SALES)
    history.items[SALES.replace("sellerProduct#s#", "sellerProduct#t#")] = sales
    row = judged(history, tmp_path, 4)[4]
    assert {violation.aggregate.split("|")[0] for violation in row.violations} == {
        "sellerProduct#s#0#shop.orders#0",
        "sellerProduct#t#0#shop.orders#0",
    }


def forgotten(history: History) -> None:
    history.recent.pop(1)


def unknown(history: History) -> None:
    history.recent.append(recent_item(MADE_UP))


def other_type(history: History) -> None:
    history.recent[1] = recent_item(PRICED, type="product.updated")


@pytest.mark.parametrize(
    ("break_it", "kind"), [(forgotten, "missing"), (unknown, "phantom"), (other_type, "altered")]
)
def test_what_is_wrong_in_recent_events_is_named(
    break_it: Callable[[History], None], kind: str, tmp_path: Path
) -> None:
    history = healthy()
    break_it(history)
    row = judged(history, tmp_path, 5)[5]
    assert {name: count for name, count in row.kinds.items() if count} == {kind: 1}


@pytest.mark.parametrize(
    ("timestamp", "time", "read"),
    [
        # Ours, and other forms of RFC 3339 that an event may have; 05:00Z each time.
        ("2026-11-21T05:00:00.000000Z", "2026-11-21T05:00:00.000000Z", "the event's"),
        ("2026-11-21T05:00:00Z", "2026-11-21T05:00:00Z", "the event's"),
        ("2026-11-21T15:00:00+10:00", "2026-11-21T15:00:00+10:00", "the event's"),
        ("2026-11-21T05:00:00.0Z", "2026-11-21T05:00:00.0Z", "the event's"),
        # The same moment, and yet not what the event says.
        ("2026-11-21T05:00:00Z", "2026-11-21T05:00:00.000000Z", "altered"),
        ("2026-11-21T06:00:00.000000Z", "2026-11-21T05:00:00.000000Z", "altered"),
        ("2026-11-21T06:00:00Z", "2026-11-21T06:00:00Z", "altered"),
        ("soon", "soon", "altered"),
        ("soon", "2026-11-21T05:00:00.000000Z", "altered"),
    ],
)
def test_a_timestamp_in_another_form_is_the_event_s_own_and_only_then_not_altered(
    timestamp: str, time: str, read: str, tmp_path: Path
) -> None:
    history = healthy()
    seen = in_our_form(timestamp, json.dumps({"time": time}).encode())
    history.recent[1] = recent_item(PRICED, timestamp=seen)
    row = judged(history, tmp_path, 5)[5]
    found = {name: count for name, count in row.kinds.items() if count}
    assert found == ({} if read == "the event's" else {"altered": 1})


def test_what_is_older_than_29_days_may_have_left_recent_events(tmp_path: Path) -> None:
    history = healthy()
    old = NOW - 29 * 24 * 3_600_000_000 - 1
    history.log = [replace(one, time=old) for one in history.log]
    history.audit, history.recent = list(history.log), []
    assert judged(history, tmp_path, 5)[5].status == "holds"


def heard_twice(history: History) -> None:
    history.received.append(received(PRICED, 50))


def heard_not(history: History) -> None:
    """The order's second version; its first and third came."""
    history.received = [one for one in history.received if one[5:] != ("o", 2)]


def heard_late(history: History) -> None:
    history.received = [
        (*one[:2], 100 - one[2], *one[3:]) if one[5] == "o" else one for one in history.received
    ]


def heard_from_nowhere(history: History) -> None:
    history.received.append(received(MADE_UP, 50))


def heard_unasked(history: History) -> None:
    history.clients = [("c", "product.*,order.*", "", "")]


@pytest.mark.parametrize(
    ("break_it", "kind", "count"),
    [
        (heard_twice, "duplicate", 1),
        (heard_not, "missing", 1),
        (heard_late, "reordered", 2),
        (heard_from_nowhere, "phantom", 1),
        (heard_unasked, "unasked", 1),
    ],
)
def test_what_a_client_should_not_have_seen_is_named(
    break_it: Callable[[History], None], kind: str, count: int, tmp_path: Path
) -> None:
    history = healthy()
    break_it(history)
    row = judged(history, tmp_path, 7)[7]
    assert {name: number for name, number in row.kinds.items() if number} == {kind: count}
    assert "client c" in f"{row.violations[0].expected} {row.violations[0].seen}"


def test_a_client_is_not_blamed_for_the_gap_that_it_was_told_of(tmp_path: Path) -> None:
    history = healthy()
    heard_not(history)
    third = next(n for n, one in enumerate(history.received) if one[5:] == ("o", 3))
    client, _, *rest = history.received[third]
    history.received[third] = (client, 1, *rest)
    assert judged(history, tmp_path, 7)[7].status == "holds"


def test_a_client_with_a_filter_misses_only_what_it_asked_for(tmp_path: Path) -> None:
    history = healthy()
    history.clients = [("c", "order.created,order.refunded", "s", "o")]
    wanted = {("o", 1), ("o", 3)}
    history.received = [one for one in history.received if one[5:] in wanted]
    assert judged(history, tmp_path, 7)[7].status == "holds"
