"""The recount by SQL against the count that the tests make by hand from the contract's words."""

import json
from collections import Counter
from pathlib import Path

import duckdb
import pytest
import zstandard
from tests.endurance import recount
from tests.endurance.counted import events_of
from tests.support.analytics_events import UNSHOWN, naive_counts

EVENTS = 400
#: Dimension, id, granularity, start; those of a seller's products have one more.
PLAIN_KEY = 4


@pytest.mark.parametrize("seed", [1, 2])
def test_a_recount_over_archived_lines_gives_what_the_contract_says(
    seed: int, tmp_path: Path
) -> None:
    events = [event.value for event, _ in zip(events_of(seed), range(EVENTS), strict=False)]
    lines = b"".join(
        b'{"topic":"t","partition":0,"offset":%d,"event":%s}\n' % (offset, value)
        for offset, value in enumerate(events)
    )
    (tmp_path / "one.jsonl.zst").write_bytes(zstandard.compress(lines))
    with duckdb.connect() as database:
        database.execute(recount.MADE)
        database.execute(recount.LINES)
        for statement in (recount.MADE_FROM_ARCHIVE, recount.LINES_FROM_ARCHIVE):
            database.execute(statement, [str(tmp_path / "*.jsonl.zst")])
        found = recount.counters_of(database.execute(recount.SUMS_DUCKDB).fetchall())
    wanted = {}
    for (*series, step, start), counters in (
        (key, counters) for key, counters in naive_counts(events).items() if len(key) == PLAIN_KEY
    ):
        if step == "hour":
            shown = {n: v for n, v in counters.items() if v and not n.startswith(UNSHOWN)}
            wanted[series[0], series[1], start] = Counter(shown)
    assert recount.differences("recount", found, wanted) == []
    kinds = {json.loads(value)["type"] for value in events}
    assert {"order.created", "order.paid", "order.refunded", "order.cancelled"} <= kinds


def test_both_databases_are_asked_the_same_but_for_the_division_of_whole_numbers() -> None:
    plain = recount.SUMS_POSTGRESQL.replace(" / ", " // ")
    assert plain == recount.SUMS_DUCKDB
