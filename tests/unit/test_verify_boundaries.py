"""The order of a subject's events where a topic was given more partitions (protocol rule 14)."""

from pathlib import Path

from tests.support.spooled import Happened, History

from shopstream_shared.boundaries import Boundary
from shopstream_stack.verify import log_checks
from shopstream_stack.verify.report import Invariant

TOPIC = "shop.products"
#: Partition 0 alone until offset 10; then partition 1 beside it, and from their ends on 2.
GROWN = [Boundary(TOPIC, "id", 2, (10,)), Boundary(TOPIC, "id", 3, (20, 5))]


def history(*where: tuple[int, int]) -> History:
    """One subject's versions 1, 2, …, at these partitions and offsets."""
    log = [
        Happened(TOPIC, offset, "p", version, "product.updated", partition=part)
        for version, (part, offset) in enumerate(where, 1)
    ]
    made = History(log=log, audit=list(log), boundaries=list(GROWN))
    made.versions = {(TOPIC, "p"): len(log)}
    return made


def judged(made: History, folder: Path) -> Invariant:
    row = Invariant(1)
    with made.spool(folder / "spool") as spool:
        log_checks.prepare(spool)
        log_checks.versions_on_log(spool, row)
    return row


def test_versions_may_go_on_in_another_partition_past_each_boundary(tmp_path: Path) -> None:
    # Offsets are lower in a new partition, and a subject may come back to its first one.
    row = judged(history((0, 8), (0, 9), (1, 0), (1, 4), (0, 20), (0, 21)), tmp_path)
    assert row.status == "holds", row.violations


def test_a_later_version_below_a_boundary_is_reordered(tmp_path: Path) -> None:
    row = judged(history((0, 8), (1, 0), (0, 9)), tmp_path)
    assert row.kinds["reordered"] == 1
    (violation,) = row.violations
    assert violation.expected == "version 2 before version 3"
    assert (violation.seen, violation.place) == ("version 3 at shop.products/0@9", f"{TOPIC}/1@0")


def test_what_is_out_of_order_in_the_new_partition_is_named_there(tmp_path: Path) -> None:
    row = judged(history((0, 8), (1, 3), (1, 2)), tmp_path)
    assert row.kinds["reordered"] == 1
    assert row.violations[0].place == f"{TOPIC}/1@3"


def test_two_partitions_between_two_boundaries_have_no_order(tmp_path: Path) -> None:
    row = judged(history((0, 8), (0, 12), (1, 0)), tmp_path)
    assert row.kinds["reordered"] == 1
    (violation,) = row.violations
    assert violation.seen == "shop.products/0@12, shop.products/1@0"


def test_without_a_boundary_a_subject_stays_where_it_is(tmp_path: Path) -> None:
    made = history((0, 8), (1, 0))
    assert judged(made, tmp_path / "with").status == "holds"
    made.boundaries = [Boundary("shop.orders", "id", 2, (10,))]
    row = judged(made, tmp_path / "without")
    assert row.kinds["reordered"] == 1
    assert row.violations[0].place == f"{TOPIC}/1@0"


def test_a_version_doubled_past_a_boundary_is_a_duplicate_and_no_more(tmp_path: Path) -> None:
    made = history((0, 8), (0, 9))
    made.log.append(made.log[0].at(0, partition=1))
    row = judged(made, tmp_path)
    assert {kind: count for kind, count in row.kinds.items() if count} == {"duplicate": 1}
