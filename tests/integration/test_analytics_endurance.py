"""Workers under kills and without their stores, in the short form.

The long ones: `python -m tests.endurance analytics --events 1000000 --kills 20 --seed 1` and
`python -m tests.endurance outage --minutes 60 --speed 60`.
"""

from collections import Counter
from pathlib import Path

import pytest
from tests.endurance import counted, outage
from tests.endurance.recount import differences
from tests.support.components import LocalComponents

EVENTS = 800
KILLS = 2


@pytest.mark.timeout(300)
def test_under_kills_aggregates_archive_and_what_was_made_are_the_same_to_the_cent(
    components: LocalComponents, tmp_path: Path
) -> None:
    seen = counted.Scene(components, tmp_path, events=EVENTS, kills=KILLS, seed=1).play()
    assert seen.holds, seen
    assert seen.events >= EVENTS
    assert seen.kills == KILLS
    assert seen.aborted > 0, f"of {counted.ABORTED_EVERY} transactions one is"
    assert seen.items > 0
    assert seen.objects > 0


@pytest.mark.timeout(300)
def test_a_store_that_is_away_stops_its_own_worker_alone_and_the_backlog_is_caught_up(
    components: LocalComponents, tmp_path: Path
) -> None:
    scene = outage.Scene(components, tmp_path, minutes=1.5, speed=30, events_a_second=1)
    seen = scene.play()
    assert seen.events == seen.counted == seen.archived
    assert [one.store for one in seen.away] == ["dynamodb", "minio"]
    assert all(one.lag > one.others_lag for one in seen.away), seen


def test_a_cent_too_many_is_a_difference_and_is_named() -> None:
    key = ("seller", "seller-1", "2026-11-21T05:00:00Z")
    wanted = {key: Counter({"events": 2, "revenueMinor#USD": 1_999})}
    assert differences("here", wanted, wanted) == []
    (said,) = differences("here", {key: Counter({"events": 2, "revenueMinor#USD": 2_000})}, wanted)
    assert said.startswith("here: seller/seller-1/2026-11-21T05:00:00Z")
    assert len(differences("here", {}, wanted)) == 1
