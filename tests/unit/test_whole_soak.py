"""The soak's judgement: what growth is, what an error is, who is behind."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from shopstream_stack.chaos.load import Caller
from shopstream_stack.errors import StackError
from shopstream_stack.whole.growth import SAMPLES_MAX, growth
from shopstream_stack.whole.soak import SHARE, WARMUP_SECONDS, SoakFound, behind, soak_plan
from shopstream_stack.whole.soak_report import GROWTH_MAX, picture, rows

PLAN = soak_plan(30)
LEVEL_KIB = 100 * 1_024.0


def memory(share: float, *, after: float = 0.0) -> list[tuple[float, float]]:
    """A sample each five seconds, rising by ``share`` of the level from ``after`` to the end."""
    span = PLAN.seconds - after
    return [
        (at, LEVEL_KIB * (1 + share * max(0.0, at - after) / span))
        for at in map(float, range(0, round(PLAN.seconds), 5))
    ]


def found(**changed: Any) -> SoakFound:
    made = SoakFound(
        maximum=200.0,
        reached=110.0,
        pace_wanted=SHARE * 250.0,
        pace_reached=149.0,
        lags_seconds=2.0,
        memory={"api": memory(0.0)},
        verify_code=0,
    )
    return replace(made, **changed)


def verdicts(one: SoakFound) -> list[str]:
    return [row.verdict() for row in rows(PLAN, one)]


def test_a_soak_at_its_bars_holds() -> None:
    assert verdicts(found()) == ["measured", "holds", "holds", "holds"]


def test_growth_of_the_stream_counts_only_after_it_has_its_ten_minutes() -> None:
    # All of it happens before: the stream's ten minutes of events in memory, for one.
    early = [(at, min(kib, LEVEL_KIB * 1.2)) for at, kib in memory(0.5)]
    early = [(at, kib if at < PLAN.warmup_seconds else LEVEL_KIB * 1.2) for at, kib in early]
    assert verdicts(found(memory={"notifications child 0": early}))[2] == "holds"
    # Nothing else has such a store: there it is growth.
    assert verdicts(found(memory={"analytics archive": early}))[2] == "MISSED"
    late = memory(0.2, after=PLAN.warmup_seconds)
    assert verdicts(found(memory={"notifications": late}))[2] == "MISSED"


def test_the_first_two_minutes_are_warm_up_of_all_and_the_growth_over_all_stands_beside() -> None:
    samples = [(at, LEVEL_KIB * min(1.2, 1 + 0.2 * at / 120)) for at, _ in memory(0.0)]
    row = rows(PLAN, found(memory={"api": samples}))[2]
    assert row.verdict() == "holds"
    assert row.figures["growth"] == pytest.approx(0.0)
    risen = rows(PLAN, found(memory={"notifications": memory(0.2)}))[2]
    assert risen.figures["growthOverAll"] == pytest.approx(0.2, rel=0.02)
    assert risen.figures["growth"] < 0.12


def test_a_shorter_soak_is_measured_and_not_judged() -> None:
    assert not soak_plan(29.9).judged
    short = replace(PLAN, judged=False)
    verdict = [row.verdict() for row in rows(short, found(memory={"api": memory(0.5)}))]
    assert verdict == ["measured", "measured", "measured", "holds"]


@pytest.mark.parametrize(("share", "verdict"), [(0.049, "holds"), (0.051, "MISSED")])
def test_a_process_may_grow_by_less_than_five_percent(share: float, verdict: str) -> None:
    grows = memory(share, after=WARMUP_SECONDS)
    assert verdicts(found(memory={"api": grows}))[2] == verdict


def test_growth_is_a_slope_that_a_burst_at_the_end_does_not_decide() -> None:
    level = memory(0.0)
    burst = [*level[:-3], *((at, 3 * kib) for at, kib in level[-3:])]
    assert growth(burst).share == pytest.approx(0.0)
    assert growth(memory(0.1)).share == pytest.approx(0.1, rel=0.02)
    assert growth(memory(-0.1)).share < 0
    assert growth(memory(0.0)).mib_at_end == pytest.approx(100.0)


def test_many_samples_are_thinned_out_and_give_the_same_line() -> None:
    many = [(float(at), LEVEL_KIB + at) for at in range(5 * SAMPLES_MAX)]
    assert growth(many).share == pytest.approx((len(many) - 1) / LEVEL_KIB)


def test_two_samples_are_no_line() -> None:
    with pytest.raises(StackError, match="2 samples"):
        growth([(0.0, 1.0), (1.0, 2.0)])


def test_a_process_without_samples_after_the_warm_up_is_wrong() -> None:
    assert verdicts(found(memory={"api": memory(0.0)[:10]}))[2] == "WRONG"


def test_a_process_that_was_started_anew_is_wrong_and_hides_no_growth() -> None:
    one = found(memory={})
    every = memory(0.0)
    for number, (at, kib) in enumerate(every):
        one.sampled("api", 1, at, kib)
        one.sampled("analytics archive", 2 if number < len(every) // 2 else 3, at, kib)
    assert {name: len(seen) for name, seen in one.memory.items()} == {
        "api": len(every),
        "analytics archive": len(every) // 2,
        "analytics archive, successor 3": len(every) - len(every) // 2,
    }
    assert verdicts(one) == ["measured", "holds", "WRONG", "WRONG", "holds", "holds"]


@pytest.mark.parametrize(
    ("changed", "row", "verdict"),
    [
        ({"errors": ["POST /orders: 500 None"]}, 1, "MISSED"),
        ({"pace_reached": 142.0}, 1, "MISSED"),
        ({"reached": 0.6 * 200.0 * 0.79}, 1, "MISSED"),
        ({"reached": 0.0}, 1, "WRONG"),
        ({"wrong": ["orders has 1 of 2 events"]}, 3, "WRONG"),
        ({"verify_code": 1}, 3, "WRONG"),
    ],
    ids=["an error", "too slow", "few writes", "nothing", "a lag", "verify"],
)
def test_what_must_not_be_is_seen(changed: dict[str, Any], row: int, verdict: str) -> None:
    assert verdicts(found(**changed))[row] == verdict


def test_one_error_makes_a_short_run_wrong_though_speed_is_not_judged() -> None:
    short = replace(PLAN, judged=False)
    assert rows(short, found(errors=["503"]))[1].verdict(judged=False) == "WRONG"


@pytest.mark.parametrize(
    ("relay", "lags", "who"),
    [
        (0, [0, 0], []),
        (3, [0, 0], ["relay"]),
        (None, [0, 0], ["relay"]),
        (0, [0, 5], ["g1"]),
        (0, [None, 0], ["g0"]),
        (0, [], ["the overview says nothing"]),
    ],
)
def test_who_is_behind_or_does_not_know_is_named(
    relay: int | None, lags: list[int | None], who: list[str]
) -> None:
    groups = [{"group": f"g{number}", "lag": lag} for number, lag in enumerate(lags)]
    assert behind({"relay": {"lagRows": relay}, "groups": groups}) == who


def test_both_pictures_are_drawn(tmp_path: Path) -> None:
    picture(tmp_path, found(), "soak")
    assert (tmp_path / "memory.png").stat().st_size > 0
    assert GROWTH_MAX == 0.05


def test_an_answer_outside_the_contract_at_the_maximum_is_wrong_one_turned_away_is_not() -> None:
    caller = Caller(MagicMock(), [], MagicMock())
    caller.repeated, caller.given_up, caller.unread = 1, 2, 3
    one = found()
    one.take_maximum(caller)
    assert (one.turned_away, verdicts(one)[3]) == (6, "holds")
    caller.faults.append("GET /orders/o1: 500 internal")
    one.take_maximum(caller)
    assert verdicts(one)[3] == "WRONG"
