"""The schedule of faults: which kinds there are, and what the fixed one holds."""

import pytest

from shopstream_shared.topics import STREAM_TOPICS, load_topics
from shopstream_stack.chaos.schedule import FAULTS, QUICK, UnknownFault, acts, schedule


def test_an_unknown_kind_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownFault, match="'thunder' is none of kill, terminate, stop"):
        schedule(1, 10, ["kill", "thunder"])


def test_acts_come_in_one_order_and_an_unknown_one_is_named_with_those_there_are() -> None:
    assert acts(["retention", "expand", "retention"]) == ("expand", "retention")
    assert acts([]) == ()
    with pytest.raises(UnknownFault, match="'shrink' is none of expand, recreate, retention"):
        acts(["shrink"])


def test_no_kinds_are_no_faults() -> None:
    assert schedule(1, 10, []) == ()


def test_another_seed_is_another_schedule() -> None:
    assert schedule(1, 10, FAULTS) != schedule(2, 10, FAULTS)


def test_the_order_in_which_kinds_are_named_does_not_matter() -> None:
    assert schedule(1, 5, ["kill", "stop"]) == schedule(1, 5, ["stop", "kill", "stop"])


def test_ten_minutes_of_seed_1_meet_every_kind_at_least_twice() -> None:
    met = [fault.kind for fault in schedule(1, 10, FAULTS)]
    assert {kind: met.count(kind) >= 2 for kind in FAULTS} == dict.fromkeys(FAULTS, True)


def test_a_run_of_one_kind_takes_its_targets_in_turn() -> None:
    met = [fault.target for fault in schedule(7, 2, ["kill"])]
    assert sorted(met[:4]) == sorted(FAULTS["kill"].targets)
    assert met[4:8] == met[:4]


def test_ten_minutes_of_any_seed_kill_the_leader_at_least_once() -> None:
    """What is promised of the relay after SIGKILL is shown by nothing else."""
    for seed in range(1, 20):
        assert ("kill", "leader") in {(f.kind, f.target) for f in schedule(seed, 10, FAULTS)}


def test_ten_minutes_of_any_seed_hold_room_for_sixty_faults() -> None:
    """Fifty are promised; recoveries take their time, and the last ones may find none."""
    assert min(len(schedule(seed, 10, FAULTS)) for seed in range(1, 20)) >= 60


def test_no_clock_falls_behind_by_a_topic_s_retention() -> None:
    """Kafka would delete what was just written as soon as its segment is closed."""
    kept_ms = min(int(load_topics("local")[t].config["retention.ms"]) for t in STREAM_TOPICS)
    drawn = [
        fault.parameters["jump_seconds"]
        for seed in range(1, 100)
        for fault in schedule(seed, 2, ["clock-jump"])
    ]
    assert -min(drawn) * 1_000 < kept_ms
    # Beyond every lifetime that the API decides: RecentEvents' is the longest.
    assert max(drawn) > 30 * 86_400


def test_the_fixed_schedule_has_a_fault_of_every_part_that_a_client_or_a_reader_sees() -> None:
    met = {(fault.kind, fault.target) for fault in QUICK}
    assert met == {
        ("kill", "api"),
        ("stop", "leader"),
        ("broker-kill", "kafka"),
        ("answer-lost", "leader-kafka"),
        ("answer-lost", "api-postgres"),
        ("stream-kill", "stream-worker"),
        ("store-refuse", "analytics-dynamodb"),
        ("clock-jump", "api"),
        ("worker-terminate", "recent"),
    }
